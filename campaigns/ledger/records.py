"""What a ledger holds, as frozen values; nothing here touches a database, torch or ray.

A :class:`Snapshot` is the whole ledger (profiles aside) at one instant, now or as of a past round.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from drxnet.checkpoint import ModelFiles
from drxnet.discharge import SAME_CURRENT, CyclingConditions, DischargeProfile
from drxnet.errors import UsageError
from drxnet.process import NOT_STATED, Process
from screening.estimates import LOWER_Z, pessimistic


class State(StrEnum):
    """Where a proposal stands. A proposal is created proposed; a person or a returned file moves it on."""

    PROPOSED = "proposed"
    """Chosen, not yet agreed to by the lab."""

    ACCEPTED = "accepted"
    """The lab is making it."""

    MEASURED = "measured"
    """At least one measurement of it stands."""

    FAILED = "failed"
    """Synthesis or cell failed; may be proposed again."""

    ABANDONED = "abandoned"
    """Will not be made; is never proposed again."""


PENDING = (State.PROPOSED, State.ACCEPTED)
NEXT_STATES: Mapping[State, tuple[State, ...]] = {
    State.PROPOSED: (State.ACCEPTED, State.MEASURED, State.FAILED, State.ABANDONED),
    State.ACCEPTED: (State.PROPOSED, State.MEASURED, State.FAILED, State.ABANDONED),
    State.MEASURED: (State.ACCEPTED,),
    State.FAILED: (State.ACCEPTED, State.MEASURED, State.ABANDONED),
    State.ABANDONED: (State.ACCEPTED, State.MEASURED),
}
"""State changes that are allowed; ``measured`` is reached and left by measurements alone."""


@dataclass(frozen=True)
class QuantityValue:
    """What is known of one quantity: predicted, or measured over cells."""

    quantity: str
    """Which, with its conditions: :attr:`screening.quantities.Quantity.identity`."""

    key: str
    """Public name with the unit, before ``_mean``: ``specific_energy_wh_kg``."""

    mean: float
    std: float
    """How uncertain the mean is, as one standard deviation."""

    bound: float
    """The pessimistic 10 % quantile."""

    side: str = "lower"
    """``lower``, or ``upper`` where small is good."""

    far: float | None = None
    """The optimistic 10 % quantile; None where an earlier version did not store it."""

    members_std: float | None = None
    """Population standard deviation (ddof 0) over the members alone, of what is predicted."""

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 80 % interval."""
        sign = 1 if self.side == "lower" else -1
        far = self.mean + sign * LOWER_Z * self.std if self.far is None else self.far
        return (self.bound, far) if sign > 0 else (far, self.bound)

    def row(self) -> dict[str, float]:
        """Return mean, standard deviation and interval under their public names."""
        names = (f"{self.key}_{name}" for name in ("mean", "std", "lower", "upper"))
        return dict(zip(names, (self.mean, self.std, *self.interval), strict=True))


@dataclass(frozen=True)
class Prediction:
    """What the model said of a composition when it was proposed, of every goal of the campaign at the time."""

    values: tuple[QuantityValue, ...]
    """Objectives and constraints, the first objective first, then what every table shows."""

    low_current_ma_g: float
    high_current_ma_g: float
    feasibility: float
    """Probability that every constraint of the campaign holds."""

    score: float
    domain: str
    """``inside``, ``edge`` or ``outside`` of what the model has learned from."""

    why: str
    phase_probability: float | None = None
    """That the synthesis gives the phase; None where nobody asked."""

    cells: int | None = None
    """Cells to make at each rate; None where the campaign says how many."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Prediction:
        """Read what a ledger of this version stores."""
        return cls(**{**stored, "values": tuple(QuantityValue(**v) for v in stored["values"])})

    def value(self, quantity: str) -> QuantityValue | None:
        """What was said of a quantity, by its identity."""
        return next((v for v in self.values if v.quantity == quantity), None)


FIRST_VERSION = ("rate_retention", "capacity_low_mah_g", "capacity_high_mah_g")
"""What the first version predicted of every composition, whatever a campaign wanted."""


def prediction_of_first_version(stored: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a prediction that a ledger of schema 1 holds into what this version stores.

    Args:
        stored: three quantities under their public names.
        spec: of the round, whose window they are for.
    """
    from screening.goals import Rates
    from screening.quantities import Capacity, RateRetention

    currents = {name: stored[name] for name in ("low_current_ma_g", "high_current_ma_g")}
    rates = Rates.model_validate({**spec.get("conditions", {}), **currents})
    values = []
    for key, quantity in zip(
        FIRST_VERSION, (RateRetention.of(rates), Capacity(rates.low), Capacity(rates.high)), strict=True
    ):
        mean, std = stored[f"{key}_mean"], stored[f"{key}_std"]
        bound = stored.get(f"{key}_lower", float(pessimistic(mean, std, quantity.sign, quantity.limits)))
        values.append(asdict(QuantityValue(quantity.identity, key, mean, std, bound)))
    kept = {k: v for k, v in stored.items() if not k.startswith(FIRST_VERSION)}
    return {"values": values, **kept}


@dataclass(frozen=True)
class PredictedProfile:
    """Discharge profile predicted for a proposal under one set of conditions."""

    conditions: CyclingConditions
    voltage_v: np.ndarray
    capacity_mah_g_mean: np.ndarray
    capacity_mah_g_std: np.ndarray


@dataclass(frozen=True)
class Proposal:
    """A composition chosen for the lab, or brought in by it."""

    proposal_id: str
    """``R03-05``: round 3, fifth; ``LAB-02`` when the lab measured it unasked."""

    round: int | None
    composition: str
    """Canonical formula."""

    origin: str
    """``proposed`` or ``lab``."""

    state: State
    reason: str
    """Why it is in this state; empty when nobody said."""

    prediction: Prediction | None
    event: int
    process: Process = NOT_STATED
    """How it is to be made, as far as the round said."""

    def cells(self, usual: int) -> int:
        """Cells to make of it at each rate, where the round said how many; else as many as usual."""
        return (self.prediction.cells if self.prediction else None) or usual


class NewProposal(NamedTuple):
    """A composition that is about to be proposed."""

    composition: str
    prediction: Prediction
    profiles: Sequence[PredictedProfile]
    process: Process = NOT_STATED
    """How it is to be made, where that was chosen."""


@dataclass(frozen=True)
class Round:
    """One batch of proposals and how it was chosen."""

    number: int
    at: str
    """When, in UTC (ISO 8601)."""

    model_id: str
    seed: int
    strategy: str
    spec: Mapping[str, Any]
    """The campaign's specification as it was."""

    spec_hash: str
    statistics: Mapping[str, Any]
    """Of the stream: candidates counted, scored, kept."""

    versions: Mapping[str, str]
    event: int

    @property
    def name(self) -> str:
        """``R03``."""
        return f"R{self.number:02d}"


@dataclass(frozen=True)
class Cell:
    """One coin cell of a proposal; replicates are several cells."""

    cell_id: int
    proposal_id: str
    label: str


DOUBTFUL, CONFIRMED, CLEARED = "doubtful", "confirmed", "cleared"
"""Verdicts: a named mistake would explain it; a person says that it is right; the reason for doubt is gone."""


@dataclass(frozen=True)
class Verdict:
    """What was thought of a measurement beside the others."""

    verdict: str
    """:data:`DOUBTFUL`, :data:`CONFIRMED` or :data:`CLEARED`."""

    rule: str
    """Such as ``D1``; empty where a person spoke."""

    reason: str
    event: int


@dataclass(frozen=True)
class Measurement:
    """One discharge of one cell. Never deleted: withdrawn, with a reason."""

    measurement_id: str
    """``M0001``."""

    proposal_id: str
    cell: str
    """Label of the cell."""

    composition: str
    conditions: CyclingConditions
    capacity_mah_g: float
    """Down to the lower cut-off."""

    average_voltage_v: float | None
    """None without a profile."""

    specific_energy_wh_kg: float | None
    sigma_mah_g: float | None
    """Standard uncertainty of the capacity, where known."""

    provenance: str
    """``cycler``, ``drx-td``, ``digitised``, ``summary`` or ``python``."""

    file: str | None
    sha256: str | None
    flags: tuple[str, ...]
    """Rules of validation it was warned by."""

    event: int
    withdrawn_event: int | None = None
    withdrawn_reason: str = ""
    superseded_by: str | None = None
    charge_mah: float | None = None
    """Charge of the discharge (mAh), whatever the mass; None where the source gives it per gram only."""

    file_cycle: int | None = None
    """Cycle number that the instrument gives it."""

    elapsed_s: float | None = None
    """Elapsed time of the test at which it begins, as its file has it (s)."""

    charge_top_v: float | None = None
    """Highest voltage of the charge before it (V)."""

    verdict: Verdict | None = None
    """What was last thought of it beside the others; None as long as nothing was."""

    @property
    def status(self) -> str:
        """``valid``, ``doubtful``, ``retracted`` or ``superseded``."""
        if self.withdrawn_event is None:
            return "doubtful" if self.doubt else "valid"
        return "superseded" if self.superseded_by else "retracted"

    @property
    def doubt(self) -> str:
        """Mistake that would explain it; empty where there is none, or where a person confirmed it."""
        return self.verdict.reason if self.verdict is not None and self.verdict.verdict == DOUBTFUL else ""

    @property
    def confirmed(self) -> bool:
        """Whether a person said that it is as it should be."""
        return self.verdict is not None and self.verdict.verdict == CONFIRMED

    @property
    def mass_mg(self) -> float | None:
        """Active mass that its capacity was divided by (mg); None where the charge is not known."""
        return None if self.charge_mah is None else self.charge_mah / self.capacity_mah_g * 1e3


@dataclass(frozen=True)
class PhaseOutcome:
    """Phases that were found in what was made of a proposal."""

    proposal_id: str
    phases: Mapping[str, float | None]
    """Share of each (%), None where only its presence is known."""

    single_phase: bool | None
    """None where nobody said."""

    event: int

    def __str__(self) -> str:
        """Return such as ``rocksalt 80, Li3NbO4 20``, or ``single-phase``."""
        listed = ", ".join(name if share is None else f"{name} {share:g}" for name, share in self.phases.items())
        if self.single_phase is None:
            return listed
        word = "single-phase" if self.single_phase else "not single-phase"
        return f"{word} ({listed})" if listed else word


@dataclass(frozen=True)
class Analysis:
    """Composition of what was made of a proposal, as measured (ICP)."""

    proposal_id: str
    composition: str
    """Canonical formula."""

    event: int


@dataclass(frozen=True)
class IngestedFile:
    """A file that was recorded."""

    sha256: str
    name: str
    format: str
    status: str
    """``accepted`` or ``warned``."""

    rules: tuple[Mapping[str, str], ...]
    """``{"id": "W4", "message": ...}``."""

    event: int


@dataclass(frozen=True)
class RefusedFile:
    """A file that was not recorded, and why; kept in the event log alone."""

    name: str
    sha256: str
    rules: tuple[Mapping[str, str], ...]
    at: str


@dataclass(frozen=True)
class ModelRecord:
    """An ensemble that the campaign uses, used, or tried and refused."""

    number: int
    model_id: str
    path: str
    """Name of a model, or folder; relative ones start at the campaign's folder. Empty for one that was refused."""

    parent: str | None
    """Model id it was fine-tuned from; None for the one the campaign started with."""

    data_fingerprint: str | None
    """Hash of the measurements it learned from."""

    measurement_ids: tuple[str, ...]
    accepted: bool
    """Whether the gate let it through."""

    metrics: Mapping[str, Any]
    event: int
    at: str

    @property
    def name(self) -> str:
        """``N02``: the second network of the campaign."""
        return f"N{self.number:02d}"


@dataclass(frozen=True)
class NewModel:
    """An ensemble about to be recorded; the fields are those of :class:`ModelRecord`."""

    model_id: str
    path: str
    parent: str | None = None
    data_fingerprint: str | None = None
    measurement_ids: tuple[str, ...] = ()
    accepted: bool = True
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: ModelFiles | None = None
    """Kept in the ledger; None where they are already, or are not worth keeping."""


@dataclass(frozen=True)
class NewMeasurement:
    """A discharge about to be recorded; its composition is canonical."""

    composition: str
    conditions: CyclingConditions
    capacity_mah_g: float
    profile: DischargeProfile | None
    sigma_mah_g: float | None
    provenance: str
    flags: tuple[str, ...] = ()
    charge_mah: float | None = None
    """Charge of the discharge, whatever the mass; None where the source gives it per gram only."""

    file_cycle: int | None = None
    """Cycle number that the instrument gives it."""

    elapsed_s: float | None = None
    """Elapsed time of the test at which it begins, as its file has it."""

    charge_top_v: float | None = None
    """Highest voltage of the charge before it."""


@dataclass(frozen=True)
class Event:
    """One line of the append-only log."""

    number: int
    at: str
    who: str
    command: str
    verb: str
    summary: str
    details: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Snapshot:
    """Everything a ledger holds at one instant, except profiles."""

    campaign: str
    as_of: int | None
    """Round whose recording this is the state after; None for now."""

    rounds: tuple[Round, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    cells: tuple[Cell, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    """All, withdrawn ones too; see :attr:`valid`."""

    files: tuple[IngestedFile, ...] = ()
    models: tuple[ModelRecord, ...] = ()
    phase_outcomes: tuple[PhaseOutcome, ...] = ()
    """In the order in which they were told; the last one of a proposal counts, see :attr:`phases`."""

    analyses: tuple[Analysis, ...] = ()
    """Likewise; see :attr:`analysed`."""

    events: tuple[Event, ...] = field(default=(), repr=False)
    staircase: bool = False
    """Whether the campaign lets the first discharge at a later rate of a staircase count as a first cycle."""

    as_analysed: bool = False
    """Whether the campaign tells its models the composition as measured, where there is one."""

    @property
    def round(self) -> int:
        """Number of the last round, 0 before the first."""
        return self.rounds[-1].number if self.rounds else 0

    @cached_property
    def by_id(self) -> Mapping[str, Proposal]:
        """Proposals by id."""
        return {p.proposal_id: p for p in self.proposals}

    def proposal(self, proposal_id: str) -> Proposal:
        """Proposal of an id.

        Raises:
            UsageError: there is none.
        """
        found = self.by_id.get(proposal_id.upper())
        if found is None:
            near = [p.proposal_id for p in self.proposals if p.proposal_id.startswith(proposal_id.upper()[:3])]
            known = ", ".join(near[:12]) or f"{len(self.proposals)} others; see `drx-screen status --proposals`"
            raise UsageError(f"No proposal {proposal_id!r} in campaign {self.campaign}. It has {known}.")
        return found

    def measurements_named(self, names: Sequence[str], *, else_retracted: bool = False) -> tuple[str, ...]:
        """Ids of measurements named by their id, by their proposal or by the file they came from.

        Args:
            names: of a proposal or a file, all that counts is meant.
            else_retracted: where nothing of it counts, all that is retracted.

        Raises:
            UsageError: nothing of that name.
        """
        retracted = [m for m in self.measurements if m.status == "retracted"] if else_retracted else []
        ids = [i for name in names for i in _named(name, self.standing) or _named(name, retracted) or self._known(name)]
        return tuple(dict.fromkeys(ids))

    def _known(self, name: str) -> list[str]:
        if not any(m.measurement_id == name.upper() for m in self.measurements):
            raise UsageError(f"No measurement, measured proposal or recorded file {name!r} in this campaign.")
        return [name.upper()]

    @cached_property
    def valid(self) -> tuple[Measurement, ...]:
        """Measurements that stand and are not doubted: what is learned from, ranked and chosen by."""
        return tuple(m for m in self.standing if not m.doubt)

    @cached_property
    def standing(self) -> tuple[Measurement, ...]:
        """Measurements that nobody withdrew, doubtful ones too."""
        return tuple(m for m in self.measurements if m.withdrawn_event is None)

    @cached_property
    def doubtful(self) -> tuple[Measurement, ...]:
        """Measurements that a named mistake would explain, until a person confirms or corrects them."""
        return tuple(m for m in self.standing if m.doubt)

    @cached_property
    def phases(self) -> Mapping[str, PhaseOutcome]:
        """What was last told of the phases of each proposal."""
        return {p.proposal_id: p for p in self.phase_outcomes}

    @cached_property
    def analysed(self) -> Mapping[str, str]:
        """Composition of each proposal as it was last measured."""
        return {a.proposal_id: a.composition for a in self.analyses}

    @property
    def pending(self) -> tuple[Proposal, ...]:
        """Proposals that wait for a measurement."""
        return tuple(p for p in self.proposals if p.state in PENDING)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Compositions that may not be proposed now: pending, measured or abandoned."""
        return frozenset(p.composition for p in self.proposals if p.state is not State.FAILED)

    def takes(self, composition: str, process: Process, usual: Process = NOT_STATED) -> bool:
        """Whether a composition may not be proposed now, made so: it is pending or measured by that, or abandoned.

        Args:
            composition: canonical formula.
            process: by which it would be made.
            usual: what holds of a proposal where its round said nothing else.
        """
        return any(
            p.state is State.ABANDONED or p.process.over(usual).covers(process)
            for p in self._by_composition.get(composition, ())
            if p.state is not State.FAILED
        )

    @cached_property
    def _by_composition(self) -> Mapping[str, Sequence[Proposal]]:
        found: dict[str, list[Proposal]] = {}
        for proposal in self.proposals:
            found.setdefault(proposal.composition, []).append(proposal)
        return found

    @property
    def current_model(self) -> ModelRecord:
        """The model that predictions use: the last one accepted."""
        return next(m for m in reversed(self.models) if m.accepted)

    @property
    def first_model(self) -> ModelRecord:
        """The model the campaign starts from; another may take its place until something rests on it."""
        start = next(m.model_id for m in reversed(self.models) if m.accepted and m.parent is None)
        return next(m for m in self.models if m.model_id == start and m.parent is None)

    @cached_property
    def refused(self) -> tuple[RefusedFile, ...]:
        """Files that were refused, from the event log, and not recorded since under the same name or as they were."""
        told = [(e, f) for e in self.events for f in e.details.get("refused", ())]
        last = {f["name"]: (e, f) for e, f in told}
        folders = Counter(PurePath(name).name for name in last)
        recorded: dict[str, int] = {}
        for file in self.files:
            for key in (file.sha256, file.name):
                recorded[key] = max(file.event, recorded.get(key, 0))

        def since(name: str, sha256: str) -> int:
            base = PurePath(name).name
            return max(recorded.get(sha256, 0), recorded.get(base, 0) if folders[base] == 1 else 0)

        return tuple(
            RefusedFile(name, f["sha256"], tuple(f["rules"]), e.at)
            for name, (e, f) in last.items()
            if since(name, f["sha256"]) < e.number
        )

    @cached_property
    def counted(self) -> tuple[Measurement, ...]:
        """Valid measurements as rankings and choices take them.

        With :attr:`staircase`, the first discharge of a cell at a later rate of a staircase stands as a first cycle at
        that rate, flagged ``staircase``.
        """
        steps = {m.measurement_id for m in self.stairs if m.conditions.cycle > 1} if self.staircase else set()
        return tuple(
            replace(m, conditions=replace(m.conditions, cycle=1), flags=(*m.flags, "staircase"))
            if m.measurement_id in steps
            else m
            for m in self.valid
        )

    @cached_property
    def stairs(self) -> tuple[Measurement, ...]:
        """First valid discharge of each cell at each of its rates, of cells that ran several."""
        cells: dict[tuple[str, str], list[Measurement]] = {}
        for m in sorted(self.valid, key=lambda m: m.conditions.cycle):
            steps = cells.setdefault((m.proposal_id, m.cell), [])
            current = m.conditions.current_ma_g
            if not any(abs(current / step.conditions.current_ma_g - 1) <= SAME_CURRENT for step in steps):
                steps.append(m)
        return tuple(m for steps in cells.values() if len(steps) > 1 for m in steps)

    def made(self, proposal_id: str) -> str:
        """Composition that models are told was made of a proposal."""
        target = self.by_id[proposal_id].composition
        return self.analysed.get(proposal_id, target) if self.as_analysed else target

    @property
    def unlearned(self) -> tuple[Measurement, ...]:
        """Valid measurements that no fine-tuning has tried to learn from."""
        tried = {i for m in self.models for i in m.measurement_ids}
        return tuple(m for m in self.valid if m.measurement_id not in tried)

    def proposals_of(self, round_number: int) -> tuple[Proposal, ...]:
        """Proposals of one round, in order."""
        return tuple(p for p in self.proposals if p.round == round_number)

    def content(self) -> dict[str, Any]:
        """Everything but timestamps, versions and the event log: what two equal campaigns share."""
        volatile = {"at", "event", "withdrawn_event", "versions"}

        def lasting(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: lasting(v) for k, v in value.items() if k not in volatile}
            return value

        def rows(records: Sequence[Any]) -> list[dict[str, Any]]:
            return [lasting(asdict(r)) for r in records]

        kinds = "rounds proposals cells measurements files models phase_outcomes analyses".split()
        return {kind: rows(getattr(self, kind)) for kind in kinds}


@dataclass(frozen=True)
class MeasuredProfile:
    """A measurement with its discharge profile; None where only the capacity is known."""

    measurement: Measurement
    profile: DischargeProfile | None


def _named(name: str, measurements: Iterable[Measurement]) -> list[str]:
    """Ids of those that are named by their id, their proposal or their file."""
    return [
        m.measurement_id for m in measurements if name.upper() in (m.measurement_id, m.proposal_id) or name == m.file
    ]


def fingerprint(content: Any) -> str:
    """Sixteen hex digits that stand for a JSON value."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def round_number(text: str) -> int:
    """Read ``R03``, ``r3`` or ``3`` as 3.

    Raises:
        UsageError: not the name of a round.
    """
    digits = text.upper().removeprefix("R")
    if not digits.isdigit() or int(digits) < 1:
        raise UsageError(f"A round is named like R03. Got {text!r}.")
    return int(digits)
