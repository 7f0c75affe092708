"""What requests hold: the options of every verb, checked before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Depends, Form, Header
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.loop.places import Order as ByOrder
from campaigns.loop.places import Within
from campaigns.spec import Method
from drxnet.errors import UsageError
from drxnet.process import Process

Name = Annotated[str, Field(min_length=1, max_length=200)]
Word = Annotated[str, Field(max_length=80)]


def _no_truth_value(value: Any) -> Any:
    """Refuse what would be counted as 0 or 1.

    Raises:
        ValueError: a truth value.
    """
    if isinstance(value, bool):
        raise ValueError(f"A number is needed. Got {value}.")
    return value


Number = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
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


class Refusal(BaseModel):
    """Why nothing was done."""

    error: str
    """A sentence: what must hold, what came, the way out."""

    exit_code: int
    """That the command line would have ended with."""

    kind: str
    """Name of the error's class in Python."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": words}
    for status, words in (
        (400, "The request cannot be carried out as it stands."),
        (401, "The server asks for its token."),
        (403, "The server only shows, or another site's page asks."),
        (404, "No campaign, job or route of that name."),
        (405, "The route has another method."),
        (408, "The body did not arrive in time."),
        (409, "Nothing is left to propose."),
        (412, "What the caller had seen has changed since; nothing was written."),
        (413, "The body is too large."),
        (421, "The server does not answer to that host."),
        (422, "Something in it is not as it must be, or the data cannot be trusted; nothing was written."),
        (503, "Somebody else is writing and did not finish in time."),
    )
}
REFUSALS[304] = {"description": "Nothing has changed since the answer of that ETag."}
"""What every route may answer beside what it is for."""


def answered_as(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe a route that answers with a file of some media types; what it refuses is JSON all the same."""
    as_json = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Refusal.__name__}"}}}
    refused = {k: {"description": said["description"], "content": as_json} for k, said in REFUSALS.items()}
    return {**refused, 200: {"description": "The file.", "content": {kind: {} for kind in kinds}}}


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


class Marks(Mark):
    """What became of several proposals, of all of them or of none."""

    proposal_ids: Annotated[list[Word], Field(max_length=1000)]


class Reason(_Body):
    """Why."""

    reason: Text = ""
    seen: Versions


class Discharge(_Body):
    """A measured discharge, as :meth:`campaigns.campaign.Campaign.add_measurements` takes it."""

    model_config = ConfigDict(extra="allow")  # the verb itself says which keys there are

    proposal_id: Word | None = None
    composition: Name | None = None
    current_ma_g: Number | None = None
    capacity_mah_g: Number | None = None
    v_low: Number | None = None
    v_high: Number | None = None
    cycle: Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=10**6)] | None = None
    cell: Word | None = None
    sigma_mah_g: Number | None = None
    voltage_v: Numbers | None = None
    profile_mah_g: Numbers | None = None


class Correction(_Body):
    """What is different in the measurement that takes another's place."""

    reason: Text
    changes: Discharge = Discharge()
    scale: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    """Factor on all that is per gram, for an active mass that was wrong: recorded by true mass."""

    seen: Versions


class Rows(_Body):
    """Measured discharges."""

    measurements: Annotated[list[Discharge], Field(max_length=10_000)]
    confirmed: bool = False
    """Whether whoever sends them vouches for them, so that none is doubted."""


Count = Annotated[int, Field(ge=1, le=10**9)]
Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["auto", "eager", "compiled", "fused"]
Workers = Annotated[int, Field(ge=0, le=1024)]


class ProposeOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.recommend`; what is not given is as the campaign's YAML says."""

    batch_size: Count | None = None
    strategy: Word | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    method: Method | None = None
    evaluations: Count | None = None
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    workers: Workers | None = None
    device: Device = "cpu"
    engine: Engine = "auto"
    candidates_csv: Annotated[str, Field(max_length=20_000_000)] | None = None
    """Text of a CSV to choose from instead of the space."""

    dry_run: bool = False


class FineTuneOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.fine_tune`."""

    device: Device = "cpu"


class ReportOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.report`."""

    as_of: Count | None = None
    proposals: Annotated[list[Word], Field(max_length=100)] = []


class RankOptions(_Body):
    """Of :meth:`campaigns.campaign.Campaign.rank`."""

    by: Word | None = None
    within: Within = "proposed"
    top: Annotated[int, Field(ge=1, le=100_000)] | None = 50
    min_capacity_mah_g: Number | None = None
    current_ma_g: Number | None = None
    cycle: Count | None = None
    order: ByOrder = "lower"
    as_of: Count | None = None
    device: Device = "cpu"
    engine: Engine = "auto"
    workers: Workers | None = None


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


# -- forms that come with files --------------------------------------------------------------------------

Positive = Annotated[float | None, Form(gt=0, allow_inf_nan=False)]
Whole = Annotated[int | None, Form(ge=0, le=10**6)]
Short = Annotated[str | None, Form(max_length=80)]
Formula = Annotated[str | None, Form(max_length=200)]


def _sample(
    proposal: Short = None,
    composition: Formula = None,
    active_mass_mg: Positive = None,
    current_ma_g: Positive = None,
    v_low: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    v_high: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    cell: Short = None,
    first_cycle: Whole = None,
    continues: Formula = None,
    formation: Whole = None,
    formation_current_ma_g: Positive = None,
    icp: Formula = None,
    process: Annotated[str | None, Form(max_length=4000)] = None,
) -> SampleInfo:
    if (v_low is None) != (v_high is None):
        raise UsageError("A window has two cut-offs. Give both, v_low and v_high, or neither.")
    return SampleInfo(
        active_mass_mg=active_mass_mg,
        composition=composition,
        current_ma_g=current_ma_g,
        window=None if v_low is None or v_high is None else (v_low, v_high),
        cell=cell,
        proposal=proposal,
        first_cycle=first_cycle,
        continues=continues,
        formation=formation,
        formation_current_ma_g=formation_current_ma_g,
        icp=icp,
        process=None if process is None else Process.read(process),
    )


def _reading(
    decimal: Annotated[str | None, Form(max_length=1)] = None,
    time_unit: Positive = None,
    voltage_unit: Positive = None,
    current_unit: Positive = None,
    capacity_unit: Positive = None,
) -> ReadOptions:
    return ReadOptions(decimal, time_unit, voltage_unit, current_unit, capacity_unit)


@dataclass(frozen=True)
class Handling:
    """What to do with files beside reading them."""

    all_or_nothing: bool
    dry_run: bool


def _handling(all_or_nothing: Annotated[bool, Form()] = False, dry_run: Annotated[bool, Form()] = False) -> Handling:
    return Handling(all_or_nothing, dry_run)


Sample = Annotated[SampleInfo, Depends(_sample)]
Reading = Annotated[ReadOptions, Depends(_reading)]
Handled = Annotated[Handling, Depends(_handling)]
