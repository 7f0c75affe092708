"""The verbs as tools for agents: a Model Context Protocol server over campaigns, only looking unless told otherwise.

Each tool is a verb or a view of the HTTP API with typed arguments; an error is the sentence of the command line.
Files come as their content, never as a path: an agent reads nothing of this machine through these tools.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import io
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from campaigns.campaign import Campaign
from campaigns.intake.correction import supersede as superseded
from campaigns.intake.measurement import SampleInfo
from campaigns.ledger.entry import user_and_host
from campaigns.loop.places import Order, Within
from campaigns.report import views
from campaigns.server.api import handed_in, kept_files, measurement_row, page, proposal_page, proposal_view
from campaigns.server.bodies import Discharge, Handling
from campaigns.server.desk import Desk, Write
from campaigns.server.jobs import Jobs, Task, Verb
from campaigns.workspace import Workspace
from drxnet.errors import DRXError, UsageError

Row = dict[str, Any]

Campaigns = Annotated[
    str | None, Field(max_length=200, description="Name of the campaign; may be left out where one is open.")
]
ProposalId = Annotated[str, Field(max_length=80, description="Such as R01-03.")]
MeasurementId = Annotated[
    str, Field(max_length=200, description="Such as M0007; or a proposal or a file, for all of its measurements.")
]
Reason = Annotated[str, Field(max_length=4000)]
Versions = Annotated[
    dict[str, str] | None,
    Field(
        max_length=1000,
        description="The `version` of proposals as they were shown: where one has changed since, nothing is written.",
    ),
]
Key = Annotated[
    str | None,
    Field(
        max_length=80,
        pattern=r"^[A-Za-z0-9_.:-]+$",
        description="A new word for each request: repeated with the same one, it is carried out once.",
    ),
]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=10**9)]
Number = Annotated[float, Field(allow_inf_nan=False)]
POLL_S = 0.2

INSTRUCTIONS = (
    "Campaigns search for disordered-rocksalt cathodes with a laboratory: rounds of proposals are made, measured and "
    "recorded, and a model learns from them. Look at `status` first. Numbers carry their unit in the key; ± of a "
    "prediction is a standard deviation, `_lower` its 10 % bound. What is measured and what is predicted is said in "
    "`source`; do not mix them. Give your reasons where a reason is asked for: people read them in the log."
)


class GivenFile(BaseModel):
    """A file by its content."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=1000)]
    """As the cycler named it; a name that holds R01-03 goes to that proposal."""

    text: Annotated[str, Field(max_length=20_000_000)] | None = None
    base64: Annotated[str, Field(max_length=40_000_000)] | None = None
    """In place of text, for a binary file."""

    def content(self) -> bytes:
        """Bytes of the file.

        Raises:
            UsageError: neither or both are given, or it is no base64.
        """
        if (self.text is None) == (self.base64 is None):
            raise UsageError(f"{self.name}: give the content as text or as base64, one of them.")
        if self.text is not None:
            return self.text.encode(errors="surrogateescape")
        try:
            return base64.b64decode(self.base64 or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise UsageError(f"{self.name}: is no base64 ({error}).") from None


Files = Annotated[list[GivenFile], Field(min_length=1, max_length=50)]


def create_tools(folders: Sequence[str | Path], *, write: bool = False, who: str | None = None) -> MCPServer[Any]:
    """Make the tools for some campaigns.

    Args:
        folders: campaign folders, YAMLs or names.
        write: whether the tools that write are among them.
        who: what the log says who did it.

    Raises:
        DRXError: a campaign cannot be opened.
    """
    desk = Desk(folders, read_only=not write)
    office = _Office(desk, Jobs(), who or f"agent of {user_and_host()}")
    server: MCPServer[Any] = MCPServer(
        "drx-screen",
        instructions=INSTRUCTIONS,
        version=metadata.version("drx-screen"),
        log_level="ERROR",
    )
    looking: Sequence[Callable[..., Any]] = (
        office.status,
        office.proposals,
        office.proposal,
        office.measurements,
        office.log,
        office.check_file,
        office.rank,
    )
    writing: Sequence[Callable[..., Any]] = (
        office.mark,
        office.add_measurements,
        office.record_file,
        office.correct,
        office.retract,
        office.confirm,
        office.propose,
        office.fine_tune,
    )
    for tool in looking:
        server.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=True))
    for tool in writing if write else ():
        server.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False))
    return server


class _Office:
    """The tools, each a method whose name, arguments and docstring an agent sees."""

    def __init__(self, desk: Desk, jobs: Jobs, who: str) -> None:
        self._desk, self._jobs, self._who = desk, jobs, who

    # -- looking -----------------------------------------------------------------------------------------

    def status(self, campaign: Campaigns = None) -> Row:
        """Say where a campaign stands: round, proposals by state, what is half-measured or doubtful, model, best."""
        name = self._named(campaign)
        return {**views.status(self._desk.campaign(name)), "campaigns": list(self._desk.names)}

    def proposals(
        self,
        campaign: Campaigns = None,
        state: Literal["proposed", "accepted", "measured", "failed", "abandoned"] | None = None,
        round: Annotated[int, Field(ge=1)] | None = None,
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Row:
        """List proposals with state, prediction and version, of one state or of one round."""
        seen = self._desk.seen(self._named(campaign))
        return proposal_page(seen, [state] if state else [], round, offset, limit)

    def proposal(self, proposal_id: ProposalId, campaign: Campaigns = None) -> Row:
        """Show one proposal: prediction, profiles predicted and measured, measurements, and what happened to it."""
        return proposal_view(self._desk, self._named(campaign), proposal_id)

    def measurements(
        self,
        campaign: Campaigns = None,
        status: Literal["valid", "doubtful", "retracted", "superseded"] | None = None,
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Row:
        """List measurements, the latest first; doubtful ones wait to be confirmed, corrected or retracted."""
        found = [m for m in reversed(self._state(campaign).measurements) if status in (None, m.status)]
        return page(found, offset, limit, measurement_row)

    def log(self, campaign: Campaigns = None, offset: Offset = 0, limit: Limit = 50) -> Row:
        """List who did what, the latest first."""
        return page(self._state(campaign).events[::-1], offset, limit, views.event_row)

    async def rank(
        self,
        context: Context[Any, Any],
        campaign: Campaigns = None,
        by: Annotated[str, Field(max_length=80)] | None = None,
        within: Within = "measured",
        top: Limit = 20,
        order: Order = "lower",
        min_capacity_mah_g: Number | None = None,
    ) -> Row:
        """Rank what is measured, every proposal or the whole space, by a quantity such as rate-retention or pareto."""
        options: Row = {"within": within, "top": top, "order": order, "min_capacity_mah_g": min_capacity_mah_g}
        if within != "measured":
            return await self._job(context, campaign, "rank", options | {"by": by})
        from campaigns.loop.rank import rank

        opened = self._desk.campaign(self._named(campaign))
        return await anyio.to_thread.run_sync(lambda: views.ranking(rank(opened, by, **options)))

    def check_file(self, files: Files, proposal_id: ProposalId | None = None, campaign: Campaigns = None) -> Row:
        """Check cycler files or tables against the rules and say what would be recorded; nothing is."""
        opened = self._desk.campaign(self._named(campaign))
        return _taken(opened, files, SampleInfo(proposal=proposal_id), dry_run=True)

    # -- writing -----------------------------------------------------------------------------------------

    def mark(
        self,
        proposal_ids: Annotated[list[ProposalId], Field(min_length=1, max_length=100)],
        state: Literal["proposed", "accepted", "failed", "abandoned"] | None = None,
        reason: Reason = "",
        phases: Annotated[str, Field(max_length=4000, description="Such as: rocksalt 80, Li3NbO4 20.")] | None = None,
        campaign: Campaigns = None,
        seen: Versions = None,
        key: Key = None,
    ) -> Row:
        """Say what became of proposals: accepted, failed (may be tried again), abandoned (never), or phases found."""
        with self._writing(campaign, Write("mark", self._who, key, seen)) as opened:
            return {"changed": list(opened.mark(proposal_ids, state, reason, phases=phases))}

    def add_measurements(
        self,
        measurements: Annotated[list[Discharge], Field(min_length=1, max_length=1000)],
        campaign: Campaigns = None,
        key: Key = None,
    ) -> Row:
        """Record measured discharges, all or none: proposal_id or composition, current_ma_g, capacity_mah_g, cell."""
        rows = [m.model_dump(exclude_none=True) for m in measurements]
        with self._writing(campaign, Write("add", self._who, key)) as opened:
            return {"measurements": list(opened.add_measurements(rows, fine_tune=False))}

    def record_file(
        self,
        files: Files,
        proposal_id: ProposalId | None = None,
        active_mass_mg: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        current_ma_g: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        cell: Annotated[str, Field(max_length=80)] | None = None,
        campaign: Campaigns = None,
        key: Key = None,
    ) -> Row:
        """Check cycler files or tables and record the good ones; refused ones say which rule they break."""
        sample = SampleInfo(proposal=proposal_id, active_mass_mg=active_mass_mg, current_ma_g=current_ma_g, cell=cell)
        with self._writing(campaign, Write("ingest", self._who, key)) as opened:
            return _taken(opened, files, sample, dry_run=False)

    def correct(
        self,
        measurement_id: MeasurementId,
        reason: Reason,
        changes: Discharge,
        campaign: Campaigns = None,
        seen: Versions = None,
        key: Key = None,
    ) -> Row:
        """Put a corrected measurement in the place of a wrong one, which stays in the ledger."""
        with self._writing(campaign, Write("supersede", self._who, key, seen)) as opened:
            new = changes.model_dump(exclude_none=True)
            return {"measurements": list(superseded(opened, [measurement_id], reason, new))}

    def retract(
        self,
        measurement_id: MeasurementId,
        reason: Reason,
        campaign: Campaigns = None,
        seen: Versions = None,
        key: Key = None,
    ) -> Row:
        """Stop counting a measurement; it stays in the ledger with the reason."""
        with self._writing(campaign, Write("retract", self._who, key, seen)) as opened:
            return {"measurements": list(opened.retract_measurement(measurement_id, reason))}

    def confirm(
        self,
        measurement_id: MeasurementId,
        reason: Reason = "",
        campaign: Campaigns = None,
        seen: Versions = None,
        key: Key = None,
    ) -> Row:
        """Say that a doubtful measurement is as it should be: it counts from now on."""
        with self._writing(campaign, Write("confirm", self._who, key, seen)) as opened:
            return {"measurements": list(opened.confirm_measurement(measurement_id, reason))}

    async def propose(
        self,
        context: Context[Any, Any],
        batch_size: Annotated[int, Field(ge=1, le=1000)] | None = None,
        seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None,
        campaign: Campaigns = None,
        key: Key = None,
    ) -> Row:
        """Choose and record the next round; takes minutes. What is pending or measured is not proposed again."""
        options: Row = {"batch_size": batch_size, "seed": seed}
        return await self._job(context, campaign, "propose", options, key)

    async def fine_tune(self, context: Context[Any, Any], campaign: Campaigns = None, key: Key = None) -> Row:
        """Let the model learn from every valid measurement; it is kept where that helps on held-out data."""
        return await self._job(context, campaign, "finetune", {}, key)

    # -- how ---------------------------------------------------------------------------------------------

    def _named(self, campaign: str | None) -> str:
        names = self._desk.names
        if campaign is None and len(names) > 1:
            raise UsageError(f"Say which campaign: {', '.join(names)}.")
        return names[0] if campaign is None else campaign

    def _state(self, campaign: str | None) -> Any:
        return self._desk.state(self._named(campaign))

    def _writing(self, campaign: str | None, how: Write) -> AbstractContextManager[Campaign]:
        return self._desk.writing(self._named(campaign), how)

    async def _job(
        self, context: Context[Any, Any], campaign: str | None, verb: Verb, options: Row, key: str | None = None
    ) -> Row:
        """Do long work in a process of its own, and say how far it is; an agent that gives up ends it."""
        name = self._named(campaign)
        given = {k: v for k, v in options.items() if v is not None}
        folder, only = self._desk.campaign(name).folder, self._desk.read_only
        report = self._jobs.start(Task(name, folder, verb, given, self._who, key, read_only=only))
        try:
            while report.state == "running":
                await anyio.sleep(POLL_S)
                if report.total:
                    await context.report_progress(report.done, report.total)
                report = self._jobs.report(report.job_id)
        finally:
            self._jobs.cancel(report.job_id)  # does nothing where it has ended
        if report.state != "done":
            raise ToolError(report.error)
        found = dict(report.result)
        found.pop("records", None)
        return found


def _taken(opened: Workspace, files: Sequence[GivenFile], sample: SampleInfo, *, dry_run: bool) -> Row:
    """Check files by their content and, unless it is a dry run, record the good ones."""
    with kept_files([(file.name, io.BytesIO(file.content())) for file in files]) as paths:
        return views.ingested(handed_in(opened, paths, sample, Handling(all_or_nothing=False, dry_run=dry_run)))


def _told(tool: Callable[..., Any]) -> Callable[..., Awaitable[Row]]:
    """A tool whose errors are sentences; one that does not wait by itself runs beside the event loop."""

    @wraps(tool)
    async def told(*args: Any, **kwargs: Any) -> Row:
        try:
            if inspect.iscoroutinefunction(tool):
                return dict(await tool(*args, **kwargs))
            return dict(await anyio.to_thread.run_sync(lambda: tool(*args, **kwargs)))
        except DRXError as error:
            raise ToolError(str(error)) from None

    return told
