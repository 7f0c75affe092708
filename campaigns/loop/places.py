"""Places of a ranking: a composition with what is measured or predicted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from campaigns.ledger.records import Proposal, QuantityValue, Snapshot, State
from campaigns.loop.outcomes import STATE_WORDS
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from screening.quantities import Quantity

SHORTLIST = 2000
"""Candidates of a space among which a Pareto front, or the best means, are looked for."""

Within = Literal["measured", "proposed", "space"]
Order = Literal["lower", "mean"]


@dataclass(frozen=True)
class Place:
    """One composition of a ranking."""

    composition: str
    proposal: Proposal | None
    """None for a candidate of the space that was never proposed."""

    source: Literal["measured", "predicted"]
    values: tuple[QuantityValue, ...]
    feasibility: float | None
    domain: str | None
    """The label it had when it was last proposed; that of now for what never was."""

    why: str
    beside: tuple[QuantityValue, ...] = ()
    """What was predicted of a measured one when it was proposed."""

    phase_probability: float | None = None
    """That a synthesis gives the phase; None of what is measured."""

    process: Process = NOT_STATED
    """How it is made and tested, where that is stated."""

    front: int | None = None
    """Pareto front, from 1; None when ranked by one quantity."""

    def value(self, quantity: Quantity) -> QuantityValue | None:
        """What is known of a quantity."""
        return next((v for v in self.values if v.quantity == quantity.identity), None)


@dataclass(frozen=True)
class Question:
    """What a ranking is asked; see :meth:`campaigns.campaign.Campaign.rank`."""

    by: str | None = None
    within: Within = "proposed"
    top: int | None = 50
    min_capacity_mah_g: float | None = None
    current_ma_g: float | None = None
    cycle: int | None = None
    order: Order = "lower"
    as_of: int | None = None


@dataclass(frozen=True)
class Sought:
    """What a ranking asks of compositions that are not measured."""

    by: tuple[Quantity, ...]
    measured: frozenset[tuple[str, Process]]
    """Compositions to leave out, and how they were made."""

    question: Question

    least_capacity_mah_g: float | None
    """Of candidates of the space."""

    proof: Path | None = None
    """Where the proof goes that nothing better was left out of the space."""

    events: int = 0
    """Of the ledger when it was asked, for whoever checks the proof."""

    @property
    def space(self) -> bool:
        """Whether every candidate of the space is meant, not only proposals."""
        return self.question.within == "space"

    @property
    def shortlisted(self) -> bool:
        """Whether only the best candidates of the space by another order are looked at."""
        return self.space and (len(self.by) > 1 or self.question.order == "mean")

    @property
    def top(self) -> int:
        """Candidates of the space to give back."""
        return self.question.top or 50

    def is_measured(self, composition: str, process: Process, *, by_way: bool) -> bool:
        """Whether a composition is left out: where ways can be chosen, as it would be made; else however it was."""
        return any(not by_way or made.covers(process) for made in self._processes.get(composition, ()))

    @cached_property
    def _processes(self) -> Mapping[str, Sequence[Process]]:
        found: dict[str, list[Process]] = {}
        for composition, process in self.measured:
            found.setdefault(composition, []).append(process)
        return found


@dataclass(frozen=True)
class Means:
    """What a verb computes with, and who is told how far it is."""

    device: str = "cpu"
    """Of the model."""

    engine: str = "auto"
    """What encodes compositions."""

    workers: int | None = None
    """Processes that score."""

    ray_address: str | None = None
    progress: Progress = silent

    def with_usual(self, workers: int | None) -> Means:
        """The same, with the usual number of workers where none was said."""
        return replace(self, workers=workers) if self.workers is None else self


def labels_of(state: Snapshot) -> dict[str, str]:
    """Domain label of every composition that was proposed, as of the last time."""
    return {p.composition: p.prediction.domain for p in state.proposals if p.prediction is not None}


def with_state(proposal: Proposal | None, why: str) -> str:
    """Say first what became of a proposal that failed or was abandoned."""
    if proposal is None or proposal.state not in (State.FAILED, State.ABANDONED):
        return why
    became = STATE_WORDS[proposal.state] + (f" ({proposal.reason})" if proposal.reason else "")
    return f"{became}; {why}"
