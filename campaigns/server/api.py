"""Every verb and view of a campaign over HTTP: ``/api/...``, described by ``/openapi.json``.

Writes may carry an ``Idempotency-Key`` (the same key is carried out once) and ``seen``: the ``version`` of each
proposal as the caller knew it, so that nothing is written over what somebody else did. Errors are sentences with the
exit code that the command line would have ended with.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Query, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from campaigns.intake.measurement import SampleInfo
from campaigns.ledger.records import Measurement, Snapshot
from campaigns.report import views
from campaigns.report.round import SHEETS_NAME, round_folder
from campaigns.server.desk import Desk, Done, ReadOnly, Stale, Write, version_of
from campaigns.server.jobs import Jobs, Verb, as_json
from drxnet.discharge import CyclingConditions
from drxnet.errors import DRXError, LedgerError, LedgerLocked, NothingToPropose, UsageError

router = APIRouter(prefix="/api")

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=4000)]
Seen = Annotated[dict[str, str], Field(default_factory=dict, max_length=1000)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$")]
Who = Annotated[str, Header(alias="X-Who", max_length=120)]

STATUS: Sequence[tuple[type[DRXError], int]] = (
    (Done, 200),
    (Stale, 412),
    (ReadOnly, 403),
    (LedgerLocked, 503),
    (LedgerError, 500),
    (NothingToPropose, 409),
    (UsageError, 400),
    (DRXError, 422),
)
"""HTTP status of each kind of error; the first that fits."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Mark(_Body):
    """What became of a proposal."""

    state: Annotated[str, Field(max_length=40)] | None = None
    reason: Text = ""
    phases: Text | None = None
    """Such as ``rocksalt 80, Li3NbO4 20``."""

    single_phase: bool | None = None
    icp: Name | None = None
    seen: Seen


class Reason(_Body):
    """Why."""

    reason: Text = ""
    seen: Seen


class Correction(_Body):
    """What is different in the measurement that takes another's place."""

    reason: Text
    changes: Annotated[dict[str, Any], Field(max_length=40)]
    seen: Seen


class Rows(_Body):
    """Measured discharges, with the keys of :meth:`campaigns.campaign.Campaign.add_measurements`."""

    measurements: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10_000)]


class Order(_Body):
    """A job: a verb with its options as the Python method of that name takes them."""

    verb: Verb
    options: Annotated[dict[str, Any], Field(default_factory=dict, max_length=20)]


def error_response(error: DRXError) -> JSONResponse:
    """A sentence, the exit code of the command line and the HTTP status."""
    status = next(number for kind, number in STATUS if isinstance(error, kind))
    content: dict[str, Any] = {"error": str(error), "exit_code": error.exit_code}
    if isinstance(error, Done):
        content = {"replayed": True, "event": error.event.number, "summary": error.event.summary}
    return JSONResponse(content, status)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _told(desk: Desk, name: str, **said: Any) -> dict[str, Any]:
    """Answer of a write: what it says, and the entry of the log up to which it is."""
    return {**said, "event": desk.campaign(name).ledger.last_event()}


# -- looking ---------------------------------------------------------------------------------------------


@router.get("/campaigns")
def campaigns(request: Request) -> list[dict[str, Any]]:
    """Where each served campaign stands."""
    desk = _desk(request)
    return [views.status(desk.campaign(name)) for name in desk.names]


@router.get("/campaigns/{name}")
def status(request: Request, name: Name) -> dict[str, Any]:
    """Where a campaign stands, with the keys of ``drx-screen status --format json``, its goals and its last entry."""
    desk = _desk(request)
    campaign, state = desk.campaign(name), desk.state(name)
    goals = campaign.spec.goals
    return {
        **views.status(campaign),
        "description": campaign.spec.description,
        "objectives": [{"key": o.key(goals.rates), "label": o.label} for o in goals.quantities],
        "event": state.events[-1].number if state.events else 0,
        "read_only": desk.read_only,
    }


@router.get("/campaigns/{name}/proposals")
def proposals(
    request: Request,
    name: Name,
    state: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    round: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Proposals with state, prediction and version, of some states or of one round."""
    snapshot = _desk(request).state(name)
    found = [
        p for p in snapshot.proposals if (not state or str(p.state) in state) and (round is None or p.round == round)
    ]
    rows = [_proposal(snapshot, p.proposal_id) for p in found[offset : offset + limit]]
    return {"total": len(found), "offset": offset, "rows": rows}


def _proposal(state: Snapshot, proposal_id: str) -> dict[str, Any]:
    proposal = state.proposal(proposal_id)
    return {
        **views.proposal_row(proposal),
        "state": str(proposal.state),
        "reason": proposal.reason,
        "round": proposal.round,
        "origin": proposal.origin,
        "phases": str(found) if (found := state.phases.get(proposal.proposal_id)) else None,
        "analysed": state.analysed.get(proposal.proposal_id),
        "version": version_of(state, proposal.proposal_id),
    }


@router.get("/campaigns/{name}/proposals/{proposal_id}")
def proposal(request: Request, name: Name, proposal_id: Name) -> dict[str, Any]:
    """One proposal: prediction, profiles predicted and measured, measurements, and what happened to it."""
    desk = _desk(request)
    state, ledger = desk.state(name), desk.campaign(name).ledger
    row = _proposal(state, proposal_id)
    mine = [m for m in state.measurements if m.proposal_id == row["proposal_id"]]
    predicted = ledger.predicted_profiles([row["proposal_id"]]).get(row["proposal_id"], ())
    measured = ledger.profiles([m for m in mine if m.withdrawn_event is None])
    word = row["proposal_id"]
    return {
        **row,
        "measurements": [measurement_row(m) for m in mine],
        "predicted": [
            {
                **_conditions(p.conditions),
                "voltage_v": p.voltage_v.tolist(),
                "capacity_mah_g_mean": p.capacity_mah_g_mean.tolist(),
                "capacity_mah_g_std": p.capacity_mah_g_std.tolist(),
            }
            for p in predicted
        ],
        "measured": [
            {
                "measurement_id": m.measurement.measurement_id,
                "cell": m.measurement.cell,
                **_conditions(m.measurement.conditions),
                "voltage_v": m.profile.voltage_v.tolist(),
                "capacity_mah_g": m.profile.capacity_mah_g.tolist(),
            }
            for m in measured
            if m.profile is not None
        ],
        "history": [_event(e) for e in state.events if word in e.summary or word in json.dumps(e.details, default=str)],
    }


def measurement_row(m: Measurement) -> dict[str, Any]:
    """One measurement as a page shows it."""
    return {
        "measurement_id": m.measurement_id,
        "proposal_id": m.proposal_id,
        "composition": m.composition,
        "cell": m.cell,
        **_conditions(m.conditions),
        "capacity_mah_g": m.capacity_mah_g,
        "average_voltage_v": m.average_voltage_v,
        "specific_energy_wh_kg": m.specific_energy_wh_kg,
        "sigma_mah_g": m.sigma_mah_g,
        "provenance": m.provenance,
        "file": m.file,
        "status": m.status,
        "doubt": m.doubt,
        "flags": list(m.flags),
        "withdrawn_reason": m.withdrawn_reason,
        "superseded_by": m.superseded_by,
    }


def _conditions(c: CyclingConditions) -> dict[str, Any]:
    return {"current_ma_g": c.current_ma_g, "v_low": c.v_low, "v_high": c.v_high, "cycle": c.cycle}


def _event(event: Any) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.at,
        "who": event.who,
        "verb": event.verb,
        "summary": event.summary,
    }


@router.get("/campaigns/{name}/measurements")
def measurements(
    request: Request,
    name: Name,
    status: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Measurements, the latest first; ``status`` is valid, doubtful, retracted or superseded."""
    state = _desk(request).state(name)
    found = [m for m in reversed(state.measurements) if not status or m.status in status]
    return {
        "total": len(found),
        "offset": offset,
        "rows": [
            {**measurement_row(m), "version": version_of(state, m.proposal_id)} for m in found[offset : offset + limit]
        ],
    }


@router.get("/campaigns/{name}/refused")
def refused(request: Request, name: Name) -> list[dict[str, Any]]:
    """Files that were refused and not corrected since, with the rules that they break."""
    return [
        {"file": f.name, "at": f.at, "rules": [dict(r) for r in f.rules]} for f in _desk(request).state(name).refused
    ]


@router.get("/campaigns/{name}/rank")
def rank(
    request: Request,
    name: Name,
    by: Annotated[str, Query(max_length=60)] = "",
    top: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> dict[str, Any]:
    """What is measured, ranked, as ``drx-screen rank --within measured``; predictions are ranked by a job."""
    from campaigns.loop.rank import rank as ranked

    campaign = _desk(request).campaign(name)
    return views.ranking(ranked(campaign, by or campaign.spec.goals.first.name, within="measured", top=top))


@router.get("/campaigns/{name}/models")
def models(request: Request, name: Name) -> list[dict[str, Any]]:
    """Models that the campaign uses, used, or tried and refused."""
    state = _desk(request).state(name)
    return [
        {
            "name": m.name,
            "model_id": m.model_id,
            "parent": m.parent,
            "accepted": m.accepted,
            "at": m.at,
            "learned_from": len(m.measurement_ids),
            "reason": m.metrics.get("reason", ""),
            "current": m == state.current_model,
        }
        for m in state.models
    ]


@router.get("/campaigns/{name}/log")
def log(
    request: Request,
    name: Name,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Who did what, the latest first."""
    events = _desk(request).state(name).events[::-1]
    return {"total": len(events), "offset": offset, "rows": [_event(e) for e in events[offset : offset + limit]]}


@router.get("/campaigns/{name}/rounds/{number}/sheet", response_class=PlainTextResponse)
def sheet(request: Request, name: Name, number: int) -> str:
    """What to weigh for a round, as text to print."""
    file = round_folder(_desk(request).campaign(name), number) / SHEETS_NAME
    if not file.is_file():
        raise UsageError(
            f"Round R{number:02d} of {name} has no sheet here; `drx-screen report` writes what is missing."
        )
    return file.read_text(encoding="utf-8")


@router.get("/campaigns/{name}/report", response_class=FileResponse)
def report(request: Request, name: Name) -> FileResponse:
    """The last report that was written, one page that needs no network."""
    folder = _desk(request).campaign(name).folder
    files = [*folder.glob("report/report.html"), *folder.glob("rounds/R*/report.html")]
    if not files:
        raise UsageError(f"{name} has no report yet; start the job `report`.")
    return FileResponse(max(files, key=lambda f: f.stat().st_mtime), media_type="text/html")


# -- writing ---------------------------------------------------------------------------------------------


@router.post("/campaigns/{name}/proposals/{proposal_id}/mark")
def mark(
    request: Request, name: Name, proposal_id: Name, body: Mark, who: Who = "somebody", key: Key = None
) -> dict[str, Any]:
    """Say what became of a proposal."""
    desk = _desk(request)
    with desk.writing(name, "mark", Write(who, key, body.seen)) as campaign:
        changed = campaign.mark(
            proposal_id, body.state, body.reason, phases=body.phases, single_phase=body.single_phase, icp=body.icp
        )
    return _told(desk, name, changed=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/retract")
def retract(
    request: Request, name: Name, measurement_id: Name, body: Reason, who: Who = "somebody", key: Key = None
) -> dict[str, Any]:
    """Stop counting a measurement."""
    desk = _desk(request)
    with desk.writing(name, "retract", Write(who, key, body.seen)) as campaign:
        changed = campaign.retract_measurement(measurement_id, body.reason)
    return _told(desk, name, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/confirm")
def confirm(
    request: Request, name: Name, measurement_id: Name, body: Reason, who: Who = "somebody", key: Key = None
) -> dict[str, Any]:
    """Say that a doubtful measurement is as it should be."""
    desk = _desk(request)
    with desk.writing(name, "confirm", Write(who, key, body.seen)) as campaign:
        changed = campaign.confirm_measurement(measurement_id, body.reason)
    return _told(desk, name, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/supersede")
def supersede(
    request: Request, name: Name, measurement_id: Name, body: Correction, who: Who = "somebody", key: Key = None
) -> dict[str, Any]:
    """Correct a measurement; the wrong one stays in the ledger."""
    desk = _desk(request)
    with desk.writing(name, "supersede", Write(who, key, body.seen)) as campaign:
        successor = campaign.update_measurement(measurement_id, body.reason, **body.changes)
    return _told(desk, name, measurements=[successor])


@router.post("/campaigns/{name}/measurements", status_code=201)
def add(request: Request, name: Name, body: Rows, who: Who = "somebody", key: Key = None) -> dict[str, Any]:
    """Record measured discharges; the model learns from them when a fine-tuning is started."""
    desk = _desk(request)
    with desk.writing(name, "add", Write(who, key)) as campaign:
        ids = campaign.add_measurements(body.measurements, fine_tune=False)
    return _told(desk, name, measurements=list(ids))


@router.post("/campaigns/{name}/files")
def files(
    request: Request,
    name: Name,
    files: Annotated[list[UploadFile], File(max_length=50)],
    proposal: Annotated[str | None, Form(max_length=40)] = None,
    composition: Annotated[str | None, Form(max_length=200)] = None,
    active_mass_mg: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    current_ma_g: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    cell: Annotated[str | None, Form(max_length=80)] = None,
    dry_run: Annotated[bool, Form()] = False,
    who: Who = "somebody",
    key: Key = None,
) -> dict[str, Any]:
    """Check cycler files and tables and, unless it is a dry run, record the good ones."""
    desk = _desk(request)
    sample = SampleInfo(
        proposal=proposal, composition=composition, active_mass_mg=active_mass_mg, current_ma_g=current_ma_g, cell=cell
    )
    with _kept(files) as paths, desk.writing(name, "ingest", Write(who, key)) as campaign:
        done = campaign.ingest(paths, sample=sample, dry_run=dry_run, fine_tune=False)
    return _told(desk, name, **views.ingested(done))


@contextmanager
def _kept(files: Sequence[UploadFile]) -> Iterator[list[Path]]:
    """Uploads as files of a folder that goes with them; of a name only its last part counts."""
    with tempfile.TemporaryDirectory(prefix="drx-screen-") as folder:
        paths = []
        for number, file in enumerate(files):
            last = (file.filename or "").replace("\\", "/").rpartition("/")[2].replace("\0", "")
            place = Path(folder) / str(number)
            place.mkdir()
            target = place / (last if last not in ("", ".", "..") else "file")
            with target.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            paths.append(target)
        yield paths


# -- jobs ------------------------------------------------------------------------------------------------


@router.post("/campaigns/{name}/jobs", status_code=202)
def start_job(request: Request, name: Name, body: Order, who: Who = "somebody") -> dict[str, Any]:
    """Start propose, finetune, report or rank in the background; one at a time per campaign."""
    desk = _desk(request)
    if desk.read_only and body.verb != "rank":
        raise ReadOnly("This server only shows (--read-only); nothing was started.")
    return as_json(_jobs(request).start(name, desk.campaign(name).folder, body.verb, body.options, who))


@router.get("/jobs")
def jobs(request: Request, campaign: Annotated[str | None, Query(max_length=200)] = None) -> list[dict[str, Any]]:
    """Jobs that run or ended, the latest first."""
    return [as_json(report) for report in _jobs(request).reports(campaign)]


@router.get("/jobs/{job_id}")
def job(request: Request, job_id: Name) -> dict[str, Any]:
    """Where a job stands."""
    return as_json(_jobs(request).report(job_id))


@router.delete("/jobs/{job_id}")
def cancel(request: Request, job_id: Name) -> dict[str, Any]:
    """End a job; what it had recorded stays."""
    return as_json(_jobs(request).cancel(job_id))


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse)
def job_events(request: Request, job_id: Name) -> StreamingResponse:
    """Where a job stands, as server-sent events until it ends."""
    found = _jobs(request)
    found.report(job_id)

    def lines() -> Iterator[str]:
        for report in found.watch(job_id):
            yield ": waiting\n\n" if report is None else f"data: {json.dumps(as_json(report), default=str)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
