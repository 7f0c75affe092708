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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, File, Query, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from campaigns.errors import LedgerError, LedgerLocked, ReadOnly, Stale, Unknown
from campaigns.ledger.records import Measurement
from campaigns.loop.places import Order as ByOrder
from campaigns.loop.places import Question
from campaigns.report import views
from campaigns.report.export import Form, export_campaign, exported_row
from campaigns.server.bodies import (
    REFUSALS,
    Correction,
    Handled,
    Handling,
    Key,
    Mark,
    Marks,
    Name,
    Order,
    Reading,
    Reason,
    Rows,
    Sample,
    Who,
    answered_as,
)
from campaigns.server.desk import Desk, Done, Seen, Write
from campaigns.server.guard import ALONE
from campaigns.server.jobs import Jobs, Task, kind_of
from drxnet.errors import DRXError, UsageError
from drxnet.files import new_file
from screening.errors import NothingToPropose

if TYPE_CHECKING:
    from campaigns.intake.ingested import Ingested
    from campaigns.intake.measurement import SampleInfo
    from campaigns.intake.readers.recording import ReadOptions
    from campaigns.workspace import Workspace

T = TypeVar("T")


class Unchanged(Exception):
    """What the caller has is what there is."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def _unchanged(request: Request, response: Response) -> None:
    """Name the state that an answer is of, and send none to who has it already (``If-None-Match``)."""
    name = request.path_params.get("name")
    last = request.url.path.rpartition("/")[2]
    if request.method != "GET" or name is None or "/report/" in request.url.path or last in FROM_FILES:
        return
    tag = request.app.state.desk.tag(name)
    if request.headers.get("if-none-match") == tag:
        raise Unchanged(tag)
    response.headers["ETag"], response.headers["Cache-Control"] = tag, "private, no-cache"


FROM_FILES = ("report", "sheet")
"""Last words of the addresses of what may change without an entry in the log."""

router = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(_unchanged)])
MOST = 10**9
"""Highest number of a round or of a row."""

ZIP = "application/zip"

REPEATED: dict[int | str, dict[str, Any]] = {200: {"description": "Carried out before under this key."}}

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


def error_response(error: DRXError) -> JSONResponse:
    """A sentence, the exit code of the command line and the HTTP status."""
    status = next(number for kind, number in STATUS if isinstance(error, kind))
    content: dict[str, Any] = {"error": str(error), "exit_code": error.exit_code, "kind": kind_of(error)}
    if isinstance(error, Done):
        done = {"replayed": True, "event": error.event.number, "summary": error.event.summary}
        content = {**error.answer, **done}
    return JSONResponse(content, status)


async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


AtDesk = Annotated[Desk, Depends(_desk)]
AllJobs = Annotated[Jobs, Depends(_jobs)]


def _told(desk: Desk, name: str, how: Write, **said: Any) -> dict[str, Any]:
    """Answer of a write: what it says, and the entry of the log up to which it is."""
    answer = {**said, "event": desk.campaign(name).ledger.last_event()}
    desk.keep(name, how, answer)
    return answer


# -- looking ---------------------------------------------------------------------------------------------


@router.get("/campaigns")
def campaigns(desk: AtDesk) -> list[dict[str, Any]]:
    """Where each served campaign stands."""
    return [_standing(desk, name) for name in desk.names]


def _standing(desk: Desk, name: str) -> dict[str, Any]:
    seen = desk.seen(name)
    return seen.kept("status", lambda: views.status(desk.campaign(name), state=seen.state, outcomes=seen.outcomes))


@router.get("/campaigns/{name}")
def status(desk: AtDesk, name: Name) -> dict[str, Any]:
    """Where a campaign stands, with the keys of ``drx-screen status --format json``, its goals and its last entry."""
    campaign, state = desk.campaign(name), desk.state(name)
    goals = campaign.spec.goals
    return {
        **_standing(desk, name),
        "description": campaign.spec.description,
        "objectives": [{"key": o.key(goals.rates), "label": o.label} for o in goals.quantities],
        "event": state.events[-1].number if state.events else 0,
        "read_only": desk.read_only,
    }


@router.get("/campaigns/{name}/status")
def summary(desk: AtDesk, name: Name, as_of: Annotated[int | None, Query(ge=1, le=MOST)] = None) -> dict[str, Any]:
    """Where a campaign stands or stood, exactly as ``drx-screen status --format json`` says it."""
    if as_of is None:
        return _standing(desk, name)
    return desk.seen(name).kept(("status", as_of), lambda: views.status(desk.campaign(name), as_of))


@router.get("/campaigns/{name}/proposals")
def proposals(
    desk: AtDesk,
    name: Name,
    state: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    round: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    offset: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Proposals with state, prediction and version, of some states or of one round."""
    return proposal_page(desk.seen(name), state, round, offset, limit)


def proposal_page(seen: Seen, states: Sequence[str], number: int | None, offset: int, limit: int) -> dict[str, Any]:
    """Some proposals of those of some states or of one round."""
    found = [
        p
        for p in seen.state.proposals
        if (not states or str(p.state) in states) and (number is None or p.round == number)
    ]
    return page(found, offset, limit, lambda p: _proposal(seen, p.proposal_id))


def page(found: Sequence[T], offset: int, limit: int, row: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Rows of a part of what was found, and how much there is."""
    return {"total": len(found), "offset": offset, "rows": [row(each) for each in found[offset : offset + limit]]}


def _proposal(seen: Seen, proposal_id: str) -> dict[str, Any]:
    state, proposal = seen.state, seen.state.proposal(proposal_id)
    return {
        **views.proposal_row(proposal, goals=seen.goals),
        "state": str(proposal.state),
        "reason": proposal.reason,
        "round": proposal.round,
        "origin": proposal.origin,
        "phases": str(found) if (found := state.phases.get(proposal.proposal_id)) else None,
        "analysed": state.analysed.get(proposal.proposal_id),
        "version": seen.version(proposal.proposal_id),
    }


@router.get("/campaigns/{name}/proposals/{proposal_id}")
def proposal(desk: AtDesk, name: Name, proposal_id: Name) -> dict[str, Any]:
    """One proposal: prediction, profiles predicted and measured, measurements, and what happened to it."""
    return proposal_view(desk, name, proposal_id)


def proposal_view(desk: Desk, name: str, proposal_id: str) -> dict[str, Any]:
    """All that is known of a proposal."""
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
                **p.conditions.row(),
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
                **m.measurement.conditions.row(),
                "voltage_v": m.profile.voltage_v.tolist(),
                "capacity_mah_g": m.profile.capacity_mah_g.tolist(),
            }
            for m in measured
            if m.profile is not None
        ],
        "history": [views.event_row(e) for e in seen.history(row["proposal_id"])],
    }


def measurement_row(m: Measurement) -> dict[str, Any]:
    """One measurement as a page shows it."""
    return {**exported_row(m), "doubt": m.doubt, "flags": list(m.flags)}


@router.get("/campaigns/{name}/measurements")
def measurements(
    desk: AtDesk,
    name: Name,
    status: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    offset: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Measurements, the latest first; ``status`` is valid, doubtful, retracted or superseded."""
    seen = desk.seen(name)
    found = [m for m in reversed(seen.state.measurements) if not status or m.status in status]
    return page(found, offset, limit, lambda m: {**measurement_row(m), "version": seen.version(m.proposal_id)})


@router.get("/campaigns/{name}/refused")
def refused(desk: AtDesk, name: Name) -> list[dict[str, Any]]:
    """Files that were refused and not corrected since, with the rules that they break."""
    return [{"file": f.name, "at": f.at, "rules": [dict(r) for r in f.rules]} for f in desk.state(name).refused]


@router.get("/campaigns/{name}/rank")
def rank(
    desk: AtDesk,
    name: Name,
    by: Annotated[str | None, Query(max_length=60)] = None,
    top: Annotated[int, Query(ge=1, le=100_000)] = 50,
    min_capacity_mah_g: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    current_ma_g: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    cycle: Annotated[int | None, Query(ge=1, le=10**6)] = None,
    order: ByOrder = "lower",
    as_of: Annotated[int | None, Query(ge=1, le=MOST)] = None,
) -> dict[str, Any]:
    """What is measured, ranked, as ``drx-screen rank --within measured``; predictions are ranked by a job."""
    from campaigns.loop.rank import rank as ranked

    seen = desk.seen(name)
    question = Question(by or None, "measured", top, min_capacity_mah_g, current_ma_g, cycle, order, as_of)

    def make() -> dict[str, Any]:
        now: dict[str, Any] = {} if as_of else {"state": seen.state, "outcomes": seen.outcomes}
        return views.ranking(ranked(desk.campaign(name), **vars(question), **now))

    return seen.kept(question, make)


@router.get("/campaigns/{name}/models")
def models(desk: AtDesk, name: Name) -> list[dict[str, Any]]:
    """Models that the campaign uses, used, or tried and refused."""
    state = desk.state(name)
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
    desk: AtDesk,
    name: Name,
    offset: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Who did what, the latest first."""
    return page(desk.state(name).events[::-1], offset, limit, views.event_row)


@router.get(
    "/campaigns/{name}/rounds/{number}/sheet", response_class=PlainTextResponse, responses=answered_as("text/plain")
)
def sheet(desk: AtDesk, name: Name, number: Annotated[int, PathParameter(ge=1, le=MOST)]) -> str:
    """What to weigh for a round, as text to print."""
    from campaigns.report.round import SHEETS_NAME, round_folder

    file = round_folder(desk.campaign(name), number) / SHEETS_NAME
    if not file.is_file():
        raise UsageError(
            f"Round R{number:02d} of {name} has no sheet here; `drx-screen report` writes what is missing."
        )
    return file.read_text(encoding="utf-8")


@router.get("/campaigns/{name}/report", response_class=FileResponse, responses=answered_as("text/html"))
def report(desk: AtDesk, name: Name) -> FileResponse:
    """The last report that was written, one page that needs no network."""
    folder = desk.campaign(name).folder
    files = [*folder.glob("report/report.html"), *folder.glob("rounds/R*/report.html")]
    if not files:
        raise UsageError(f"{name} has no report yet; start the job `report`.")
    latest = max(files, key=lambda f: f.stat().st_mtime)
    return FileResponse(latest, media_type="text/html", headers={"Content-Security-Policy": ALONE})


@router.get(
    "/campaigns/{name}/report/{file}", response_class=FileResponse, responses=answered_as("text/html", "image/png")
)
def report_file(desk: AtDesk, name: Name, file: Name) -> FileResponse:
    """A file of the last report that the job `report` wrote: the page, or a figure."""
    found = {path.name: path for path in desk.campaign(name).folder.glob("report/*") if path.is_file()}
    if file not in found:
        raise UsageError(f"{name} has no report file {file!r}; the job `report` says which it wrote.")
    alone = {"Content-Security-Policy": ALONE} if file.endswith(".html") else None
    return FileResponse(found[file], headers=alone)


@router.get(
    "/campaigns/{name}/export", response_class=Response, responses=answered_as("text/csv", "application/json", ZIP)
)
def export(
    desk: AtDesk,
    name: Name,
    form: Form = "csv",
    withdrawn: bool = False,
    as_of: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    verbatim: bool = False,
) -> Response:
    """What was measured, as ``drx-screen export`` writes it; ``X-Discharges`` says how many discharges it holds."""
    campaign = desk.campaign(name)
    with tempfile.TemporaryDirectory(prefix="drx-screen-") as folder:
        target = Path(folder) / "export"
        count = export_campaign(campaign, target, form=form, withdrawn=withdrawn, as_of=as_of, verbatim=verbatim)
        content = target.read_bytes()
    kind = {"json": "application/json", "bdf": ZIP, "ro-crate": ZIP}.get(form, "text/csv; charset=utf-8")
    return Response(content, media_type=kind, headers={"X-Discharges": str(count)})


# -- writing ---------------------------------------------------------------------------------------------


@router.post("/campaigns/{name}/proposals/{proposal_id}/mark")
def mark(desk: AtDesk, name: Name, proposal_id: Name, body: Mark, who: Who, key: Key = None) -> dict[str, Any]:
    """Say what became of a proposal."""
    return _mark(desk, name, [proposal_id], body, Write("mark", who, key, body.seen))


@router.post("/campaigns/{name}/mark")
def mark_several(desk: AtDesk, name: Name, body: Marks, who: Who, key: Key = None) -> dict[str, Any]:
    """Say what became of several proposals, of all of them or of none."""
    return _mark(desk, name, body.proposal_ids, body, Write("mark", who, key, body.seen))


def _mark(desk: Desk, name: str, proposal_ids: Sequence[str], body: Mark, how: Write) -> dict[str, Any]:
    with desk.writing(name, how) as campaign:
        changed = campaign.mark(
            proposal_ids, body.state, body.reason, phases=body.phases, single_phase=body.single_phase, icp=body.icp
        )
    return _told(desk, name, how, changed=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/retract")
def retract(desk: AtDesk, name: Name, measurement_id: Name, body: Reason, who: Who, key: Key = None) -> dict[str, Any]:
    """Stop counting a measurement, or all of a proposal or a file."""
    how = Write("retract", who, key, body.seen)
    with desk.writing(name, how) as campaign:
        changed = campaign.retract_measurement(measurement_id, body.reason)
    return _told(desk, name, how, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/confirm")
def confirm(desk: AtDesk, name: Name, measurement_id: Name, body: Reason, who: Who, key: Key = None) -> dict[str, Any]:
    """Say that a doubtful measurement is as it should be, or all of a proposal or a file."""
    how = Write("confirm", who, key, body.seen)
    with desk.writing(name, how) as campaign:
        changed = campaign.confirm_measurement(measurement_id, body.reason)
    return _told(desk, name, how, measurements=list(changed))


@router.post("/campaigns/{name}/measurements/{measurement_id}/supersede")
def supersede(
    desk: AtDesk, name: Name, measurement_id: Name, body: Correction, who: Who, key: Key = None
) -> dict[str, Any]:
    """Correct a measurement; the wrong one stays in the ledger."""
    from campaigns.intake.correction import supersede as superseded

    how = Write("supersede", who, key, body.seen)
    with desk.writing(name, how) as campaign:
        successors = superseded(
            campaign, [measurement_id], body.reason, body.changes.model_dump(exclude_none=True), scale=body.scale
        )
    return _told(desk, name, how, measurements=list(successors))


@router.post("/campaigns/{name}/measurements", status_code=201, responses=REPEATED)
def add(desk: AtDesk, name: Name, body: Rows, who: Who, key: Key = None) -> dict[str, Any]:
    """Record measured discharges; the model learns from them when a fine-tuning is started."""
    how = Write("add", who, key)
    with desk.writing(name, how) as campaign:
        rows = [m.model_dump(exclude_none=True) for m in body.measurements]
        ids = campaign.add_measurements(rows, fine_tune=False, confirmed=body.confirmed)
    return _told(desk, name, how, measurements=list(ids))


@router.post("/campaigns/{name}/files")
def files(
    desk: AtDesk,
    name: Name,
    files: Annotated[list[UploadFile], File(max_length=500)],
    who: Who,
    sample: Sample,
    reading: Reading,
    handled: Handled,
    samples: Annotated[UploadFile | None, File(description="Table of what the lab says of single files.")] = None,
    key: Key = None,
) -> dict[str, Any]:
    """Check cycler files and tables and, unless it is a dry run, record the good ones."""
    how = Write("ingest", who, key)
    tables = [] if samples is None else [samples]
    uploads = [(file.filename or "", file.file) for file in (*tables, *files)]
    with kept_files(uploads) as paths, desk.writing(name, how) as campaign:
        table = paths.pop(0) if tables else None
        done = handed_in(campaign, paths, sample, handled, table=table, reading=reading)
    said = {**views.ingested(done), "judged_again": list(done.judged_again), "record": asdict(done)}
    return _told(desk, name, how, **said)


def handed_in(
    campaign: Workspace,
    paths: Sequence[Path],
    sample: SampleInfo,
    handled: Handling,
    *,
    table: Path | None = None,
    reading: ReadOptions | None = None,
) -> Ingested:
    """Check files that were sent, under their bare names, and record the good ones."""
    from campaigns.intake.files import check_files
    from campaigns.intake.record import ingest

    checked = check_files(campaign, paths, table=table, otherwise=sample, options=reading)
    named = [(replace(file, path=Path(file.path.name)), said) for file, said in checked]
    return ingest(campaign, named, all_or_nothing=handled.all_or_nothing, dry_run=handled.dry_run)


@contextmanager
def kept_files(files: Sequence[tuple[str, IO[bytes]]]) -> Iterator[list[Path]]:
    """What was sent as files of a folder that goes with them; of a name only its last part counts."""
    with tempfile.TemporaryDirectory(prefix="drx-screen-") as folder:
        paths = []
        for number, (name, content) in enumerate(files):
            target = Path(folder) / str(number) / _last_part(name)
            target.parent.mkdir()
            with new_file(target) as partial, partial.open("wb") as out:
                shutil.copyfileobj(content, out)
            paths.append(target)
        yield paths


def _last_part(name: str) -> str:
    """Name of a file without any folder, short enough for every file system."""
    last = name.replace("\\", "/").rpartition("/")[2].replace("\0", "")
    short = last.encode(errors="replace")[-200:].decode(errors="ignore")
    return short if short not in ("", ".", "..") else "file"


# -- jobs ------------------------------------------------------------------------------------------------


@router.post("/campaigns/{name}/jobs", status_code=202)
def start_job(desk: AtDesk, jobs: AllJobs, name: Name, body: Order, who: Who, key: Key = None) -> dict[str, Any]:
    """Start propose, finetune, report or rank in the background; one at a time per campaign."""
    if desk.read_only and body.verb != "rank":
        raise ReadOnly("This server only shows (--read-only); nothing was started.")
    task = Task(
        campaign=name,
        folder=desk.campaign(name).folder,
        verb=body.verb,
        options=body.options.model_dump(exclude_unset=True),
        who=who,
        key=key,
        read_only=desk.read_only,
    )
    return asdict(jobs.start(task))


@router.get("/jobs")
def jobs(kept: AllJobs, campaign: Annotated[str | None, Query(max_length=200)] = None) -> list[dict[str, Any]]:
    """Jobs that run or ended, the latest first."""
    return [asdict(report) for report in kept.reports(campaign)]


@router.get("/jobs/{job_id}")
def job(kept: AllJobs, job_id: Name) -> dict[str, Any]:
    """Where a job stands."""
    return asdict(kept.report(job_id))


@router.delete("/jobs/{job_id}")
def cancel(kept: AllJobs, job_id: Name) -> dict[str, Any]:
    """End a job; what it had recorded stays."""
    return asdict(kept.cancel(job_id))


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=answered_as("text/event-stream"))
def job_events(kept: AllJobs, job_id: Name) -> StreamingResponse:
    """Where a job stands, as server-sent events each second until it ends."""
    kept.report(job_id)

    async def lines() -> AsyncIterator[str]:
        while True:
            report = kept.report(job_id)
            yield f"data: {json.dumps(asdict(report))}\n\n"
            if report.state != "running":
                return
            await asyncio.sleep(1.0)

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
