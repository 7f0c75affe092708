"""Every verb and view of a campaign over HTTP: ``/api/...``, described by ``/openapi.json``.

Writes may carry an ``Idempotency-Key`` (the same key is carried out once) and ``seen``: the ``version`` of each
proposal as the caller knew it, so that nothing is written over what somebody else did. Errors are sentences with the
exit code that the command line would have ended with.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Depends, File, Form, Header, Query, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from campaigns.errors import LedgerError, LedgerLocked
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.record import check_files, ingest
from campaigns.intake.record import supersede as superseded
from campaigns.ledger.records import Measurement
from campaigns.report import views
from campaigns.report.round import SHEETS_NAME, round_folder
from campaigns.server.desk import Desk, Done, ReadOnly, Seen, Stale, Unknown, Write
from campaigns.server.jobs import Jobs, as_json
from drxnet.discharge import CyclingConditions
from drxnet.errors import DRXError, UsageError
from drxnet.files import new_file
from screening.errors import NothingToPropose

router = APIRouter(prefix="/api")

Name = Annotated[str, Field(min_length=1, max_length=200)]
Word = Annotated[str, Field(max_length=80)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Annotated[list[Number], Field(max_length=100_000)]
Text = Annotated[str, Field(max_length=4000)]
Versions = Annotated[dict[str, str], Field(default_factory=dict, max_length=1000)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$")]


def _who(
    said: Annotated[
        str, Header(alias="X-Who", max_length=360, description="Who does it, for the log; percent-encoded.")
    ] = "somebody",
) -> str:
    return unquote(said).strip()[:120] or "somebody"


Who = Annotated[str, Depends(_who)]

STATUS: Sequence[tuple[type[DRXError], int]] = (
    (Done, 200),
    (Unknown, 404),
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
    seen: Versions


class Reason(_Body):
    """Why."""

    reason: Text = ""
    seen: Versions


class Discharge(_Body):
    """A measured discharge, as :meth:`campaigns.campaign.Campaign.add_measurements` takes it."""

    proposal_id: Word | None = None
    composition: Name | None = None
    current_ma_g: Number | None = None
    capacity_mah_g: Number | None = None
    v_low: Number | None = None
    v_high: Number | None = None
    cycle: Annotated[int, Field(ge=1, le=10**6)] | None = None
    cell: Word | None = None
    sigma_mah_g: Number | None = None
    voltage_v: Numbers | None = None
    profile_mah_g: Numbers | None = None


class Correction(_Body):
    """What is different in the measurement that takes another's place."""

    reason: Text
    changes: Discharge
    seen: Versions


class Rows(_Body):
    """Measured discharges."""

    measurements: Annotated[list[Discharge], Field(min_length=1, max_length=10_000)]


Count = Annotated[int, Field(ge=1, le=10**9)]


class ProposeOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.recommend`; what is not given is as the campaign's YAML says."""

    batch_size: Count | None = None
    strategy: Word | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    method: Literal["walk", "best-first", "evolution", "auto"] | None = None
    evaluations: Count | None = None
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    dry_run: bool = False


class FineTuneOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.fine_tune`."""

    device: Literal["auto", "cpu", "cuda"] = "cpu"


class ReportOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.report`."""

    as_of: Count | None = None


class RankOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.rank`."""

    by: Word | None = None
    within: Literal["measured", "proposed", "space"] = "proposed"
    top: Annotated[int, Field(ge=1, le=10_000)] = 50
    min_capacity_mah_g: Number | None = None
    current_ma_g: Number | None = None
    cycle: Count | None = None
    order: Literal["lower", "mean"] = "lower"


class Propose(_Body):
    """Choose and record the next round."""

    verb: Literal["propose"]
    options: ProposeOptions = ProposeOptions()


class FineTune(_Body):
    """Let the model learn from every valid measurement."""

    verb: Literal["finetune"]
    options: FineTuneOptions = FineTuneOptions()


class WriteReport(_Body):
    """Write the report."""

    verb: Literal["report"]
    options: ReportOptions = ReportOptions()


class Rank(_Body):
    """Rank measured and predicted compositions together."""

    verb: Literal["rank"]
    options: RankOptions = RankOptions()


Order = Annotated[Propose | FineTune | WriteReport | Rank, Field(discriminator="verb")]
"""A job: a verb with its options."""


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
    return [_standing(desk, name) for name in desk.names]


def _standing(desk: Desk, name: str) -> dict[str, Any]:
    return desk.seen(name).kept("status", lambda: views.status(desk.campaign(name)))


@router.get("/campaigns/{name}")
def status(request: Request, name: Name) -> dict[str, Any]:
    """Where a campaign stands, with the keys of ``drx-screen status --format json``, its goals and its last entry."""
    desk = _desk(request)
    campaign, state = desk.campaign(name), desk.state(name)
    goals = campaign.spec.goals
    return {
        **_standing(desk, name),
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
    seen = _desk(request).seen(name)
    found = [
        p for p in seen.state.proposals if (not state or str(p.state) in state) and (round is None or p.round == round)
    ]
    rows = [_proposal(seen, p.proposal_id) for p in found[offset : offset + limit]]
    return {"total": len(found), "offset": offset, "rows": rows}


def _proposal(seen: Seen, proposal_id: str) -> dict[str, Any]:
    state, proposal = seen.state, seen.state.proposal(proposal_id)
    return {
        **views.proposal_row(proposal),
        "state": str(proposal.state),
        "reason": proposal.reason,
        "round": proposal.round,
        "origin": proposal.origin,
        "phases": str(found) if (found := state.phases.get(proposal.proposal_id)) else None,
        "analysed": state.analysed.get(proposal.proposal_id),
        "version": seen.version(proposal.proposal_id),
    }


@router.get("/campaigns/{name}/proposals/{proposal_id}")
def proposal(request: Request, name: Name, proposal_id: Name) -> dict[str, Any]:
    """One proposal: prediction, profiles predicted and measured, measurements, and what happened to it."""
    desk = _desk(request)
    seen, ledger = desk.seen(name), desk.campaign(name).ledger
    row = _proposal(seen, proposal_id)
    mine = seen.measured.get(row["proposal_id"], ())
    predicted = ledger.predicted_profiles([row["proposal_id"]]).get(row["proposal_id"], ())
    measured = ledger.profiles([m for m in mine if m.withdrawn_event is None])
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
        "history": [_event(e) for e in seen.history(row["proposal_id"])],
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
    seen = _desk(request).seen(name)
    found = [m for m in reversed(seen.state.measurements) if not status or m.status in status]
    return {
        "total": len(found),
        "offset": offset,
        "rows": [
            {**measurement_row(m), "version": seen.version(m.proposal_id)} for m in found[offset : offset + limit]
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
    by: Annotated[str, Query(max_length=60)] | None = None,
    top: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> dict[str, Any]:
    """What is measured, ranked, as ``drx-screen rank --within measured``; predictions are ranked by a job."""
    from campaigns.loop.rank import rank as ranked

    desk = _desk(request)

    def make() -> dict[str, Any]:
        return views.ranking(ranked(desk.campaign(name), by or None, within="measured", top=top))

    return desk.seen(name).kept(("rank", by, top), make)


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
def mark(request: Request, name: Name, proposal_id: Name, body: Mark, who: Who, key: Key = None) -> dict[str, Any]:
    """Say what became of a proposal."""
    desk = _desk(request)
    with desk.writing(name, "mark", Write(who, key, body.seen)) as campaign:
        changed = campaign.mark(
            proposal_id, body.state, body.reason, phases=body.phases, single_phase=body.single_phase, icp=body.icp
        )
    return _told(desk, name, changed=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/retract")
def retract(
    request: Request, name: Name, measurement_id: Name, body: Reason, who: Who, key: Key = None
) -> dict[str, Any]:
    """Stop counting a measurement."""
    desk = _desk(request)
    with desk.writing(name, "retract", Write(who, key, body.seen)) as campaign:
        changed = campaign.retract_measurement(measurement_id, body.reason)
    return _told(desk, name, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/confirm")
def confirm(
    request: Request, name: Name, measurement_id: Name, body: Reason, who: Who, key: Key = None
) -> dict[str, Any]:
    """Say that a doubtful measurement is as it should be."""
    desk = _desk(request)
    with desk.writing(name, "confirm", Write(who, key, body.seen)) as campaign:
        changed = campaign.confirm_measurement(measurement_id, body.reason)
    return _told(desk, name, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/supersede")
def supersede(
    request: Request, name: Name, measurement_id: Name, body: Correction, who: Who, key: Key = None
) -> dict[str, Any]:
    """Correct a measurement; the wrong one stays in the ledger."""
    desk = _desk(request)
    with desk.writing(name, "supersede", Write(who, key, body.seen)) as campaign:
        successors = superseded(campaign, [measurement_id], body.reason, body.changes.model_dump(exclude_none=True))
    return _told(desk, name, measurements=list(successors))


@router.post("/campaigns/{name}/measurements", status_code=201)
def add(request: Request, name: Name, body: Rows, who: Who, key: Key = None) -> dict[str, Any]:
    """Record measured discharges; the model learns from them when a fine-tuning is started."""
    desk = _desk(request)
    with desk.writing(name, "add", Write(who, key)) as campaign:
        rows = [m.model_dump(exclude_none=True) for m in body.measurements]
        ids = campaign.add_measurements(rows, fine_tune=False)
    return _told(desk, name, measurements=list(ids))


@router.post("/campaigns/{name}/files")
def files(
    request: Request,
    name: Name,
    files: Annotated[list[UploadFile], File(max_length=50)],
    who: Who,
    proposal: Annotated[str | None, Form(max_length=40)] = None,
    composition: Annotated[str | None, Form(max_length=200)] = None,
    active_mass_mg: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    current_ma_g: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None,
    cell: Annotated[str | None, Form(max_length=80)] = None,
    dry_run: Annotated[bool, Form()] = False,
    key: Key = None,
) -> dict[str, Any]:
    """Check cycler files and tables and, unless it is a dry run, record the good ones."""
    desk = _desk(request)
    sample = SampleInfo(
        proposal=proposal, composition=composition, active_mass_mg=active_mass_mg, current_ma_g=current_ma_g, cell=cell
    )
    with _kept(files) as paths, desk.writing(name, "ingest", Write(who, key)) as campaign:
        checked = check_files(campaign, paths, otherwise=sample)
        named = [(replace(file, path=Path(file.path.name)), said) for file, said in checked]
        done = ingest(campaign, named, dry_run=dry_run)
    return _told(desk, name, **views.ingested(done))


@contextmanager
def _kept(files: Sequence[UploadFile]) -> Iterator[list[Path]]:
    """Uploads as files of a folder that goes with them; of a name only its last part counts."""
    with tempfile.TemporaryDirectory(prefix="drx-screen-") as folder:
        paths = []
        for number, file in enumerate(files):
            last = _last_part(file.filename or "")
            place = Path(folder) / str(number)
            place.mkdir()
            target = place / last
            with new_file(target) as partial, partial.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            paths.append(target)
        yield paths


def _last_part(name: str) -> str:
    """Name of a file without any folder, short enough for every file system."""
    last = name.replace("\\", "/").rpartition("/")[2].replace("\0", "")
    short = last.encode(errors="replace")[-200:].decode(errors="ignore")
    return short if short not in ("", ".", "..") else "file"


# -- jobs ------------------------------------------------------------------------------------------------


@router.post("/campaigns/{name}/jobs", status_code=202)
def start_job(request: Request, name: Name, body: Order, who: Who) -> dict[str, Any]:
    """Start propose, finetune, report or rank in the background; one at a time per campaign."""
    desk = _desk(request)
    if desk.read_only and body.verb != "rank":
        raise ReadOnly("This server only shows (--read-only); nothing was started.")
    options = body.options.model_dump(exclude_none=True)
    folder = desk.campaign(name).folder
    return as_json(_jobs(request).start(name, folder, body.verb, options, who, read_only=desk.read_only))


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
    """Where a job stands, as server-sent events each second until it ends."""
    found = _jobs(request)
    found.report(job_id)

    async def lines() -> AsyncIterator[str]:
        while True:
            report = found.report(job_id)
            yield f"data: {json.dumps(as_json(report))}\n\n"
            if report.state != "running":
                return
            await asyncio.sleep(1.0)

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
