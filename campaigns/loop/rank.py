"""Measured and predicted compositions in one order, and where a campaign stands.

Conditions are never mixed: a value counts as measured only when current, window and cycle are those asked for. The
default order is by the lower bound, the 10 % quantile, so that what is uncertain does not come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from campaigns.ledger.records import Snapshot
from campaigns.loop.offset import offsets_of
from campaigns.loop.outcomes import Outcome, as_named_by, axes_of, in_words, outcomes_of, stated
from campaigns.loop.places import SHORTLIST, Means, Order, Place, Question, Sought, Within, labels_of, with_state
from campaigns.workspace import Workspace
from drxnet.errors import UsageError
from drxnet.names import hint
from drxnet.process import Process, joined
from drxnet.progress import Progress, silent
from screening.estimates import Estimate
from screening.goals import Goals, ObjectiveSpec, fronts
from screening.quantities import QUANTITIES, Capacity, Quantity
from screening.space import validated

SHORT: Mapping[str, str] = {"energy": "specific-energy", "cost": "cost-per-kwh"}
"""Names on the command line that are shorter than those of a YAML."""

PARETO = "pareto"
_NAMED = 6


def rankings() -> tuple[str, ...]:
    """What one can rank by: quantities, shipped and added, and the Pareto front."""
    return (*map(short_name, QUANTITIES), PARETO)


def short_name(name: str) -> str:
    """Return the name of a quantity on the command line."""
    return {long: short for short, long in SHORT.items()}.get(name, name)


@dataclass(frozen=True)
class Ranking:
    """Compositions in order, and what a reader should know of them."""

    by: str
    goals: Goals
    """With the quantities ranked by among them."""

    asked: tuple[Quantity, ...]
    """What it is ranked by."""

    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()


def rank(
    campaign: Workspace,
    by: str | None = None,
    *,
    within: Within = "proposed",
    top: int | None = 50,
    min_capacity_mah_g: float | None = None,
    current_ma_g: float | None = None,
    cycle: int | None = None,
    order: Order = "lower",
    as_of: int | None = None,
    device: str = "cpu",
    engine: str = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Progress = silent,
    proof: str | Path | None = None,
    state: Snapshot | None = None,
    outcomes: Sequence[Outcome] | None = None,
) -> Ranking:
    """Rank compositions, what is measured marked as such.

    The arguments are those of :meth:`campaigns.campaign.Campaign.rank`, and ``state`` and ``outcomes``: the campaign's
    at the time, by its goals, where they are known already. A Pareto front of a space is that of the best of it by
    the strategy, an order by the mean that of the best by the pessimistic bound. Without ``min_capacity_mah_g``,
    candidates of a space that are predicted to miss the campaign's constraint are left out.

    Raises:
        UsageError: an unknown quantity or one that the campaign's conditions do not give, or a proof of what is not
            walked.
    """
    if min_capacity_mah_g is not None and not math.isfinite(min_capacity_mah_g):
        raise UsageError(f"The least capacity is a number of mAh/g. Got {min_capacity_mah_g}.")
    question = Question(by, within, top, min_capacity_mah_g, current_ma_g, cycle, order, as_of)
    if proof is not None and within != "space":
        raise UsageError(f"Only the ranking of a whole space has a proof: --within space. Got --within {within}.")
    if proof is not None and not Path(proof).parent.is_dir():
        raise UsageError(f"The folder of the proof must exist. Got {proof}.")
    asked = Asked.of(campaign, question, None if proof is None else Path(proof), state, outcomes)
    places = list(asked.measured)
    if within != "measured":
        from campaigns.loop.forecast import predicted_places

        means = Means(device, engine, workers, ray_address, progress)
        places += predicted_places(campaign, asked.state, asked.goals, asked.sought, means)
    by_what = asked.sought.by
    places, left_out = _with_capacity(places, Capacity(asked.goals.rates.low), min_capacity_mah_g)
    ordered = tuple(_ordered(places, by_what, asked.goals, order)[:top])
    notes = (*asked.notes, *left_out, *map(str, offsets_of(campaign, asked.state, asked.wanted)))
    return Ranking(by or short_name(by_what[0].name), asked.goals, by_what, ordered, notes)


@dataclass(frozen=True)
class Asked:
    """What a question means for a campaign."""

    state: Snapshot
    wanted: Goals
    """What the campaign wants."""

    goals: Goals
    """The same, with the quantities ranked by."""

    measured: tuple[Place, ...]
    sought: Sought
    """Of what is not measured."""

    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        campaign: Workspace,
        question: Question,
        proof: Path | None = None,
        state: Snapshot | None = None,
        outcomes: Sequence[Outcome] | None = None,
    ) -> Asked:
        """Look it up, in the campaign's state at the time where that is not given.

        Raises:
            UsageError: an unknown quantity or one that the campaign's conditions do not give.
        """
        state = campaign.state(question.as_of) if state is None else state
        wanted = campaign.goals(state, question.as_of)
        by, goals = _asked(wanted, question.by, question.current_ma_g, question.cycle)
        places, notes = _Known(state, outcomes or outcomes_of(state, wanted), goals, by).measured()
        least = question.min_capacity_mah_g
        if question.within == "space" and least is None and (least := _least_capacity(wanted)) is not None:
            notes = (*notes, f"Candidates of the space with less than {least:g} mAh/g are left out.")
        sought = Sought(by, _made(places, goals.rates.process), question, least, proof, len(state.events))
        return cls(state, wanted, goals, tuple(places), sought, (*notes, *_of_a_part(campaign, sought)))


def _of_a_part(campaign: Workspace, sought: Sought) -> list[str]:
    """Notes of a ranking that looks at a part of the space alone."""
    notes, method = [], campaign.spec.method
    if sought.shortlisted:
        order = "what the strategy makes of them" if len(sought.by) > 1 else "their pessimistic bound"
        notes.append(f"Of the space, the {SHORTLIST:,} best by {order} are looked at.")
    if sought.space and sought.proof is None and method != "walk" and campaign.spec.candidate_space is not None:
        notes.append(f"The space is looked through by {method}, which may miss some; --proof FILE walks it.")
    return notes


def _asked(
    goals: Goals, by: str | None, current_ma_g: float | None, cycle: int | None
) -> tuple[tuple[Quantity, ...], Goals]:
    """Quantities to rank by: one, or those of the campaign for a Pareto front; and goals that evaluate them."""
    if by is None and current_ma_g is None and cycle is None:
        return (goals.first,), goals
    by = by or goals.first.name
    if by == PARETO:
        if (current_ma_g, cycle) != (None, None):
            raise UsageError("A Pareto front is of the campaign's objectives; --current and --cycle do not apply.")
        return _several(goals)
    name = SHORT.get(by, by)
    if name not in QUANTITIES:
        raise UsageError(f"Rank by one of {', '.join(rankings())}. {hint(by, rankings())}Got {by!r}.")
    if name == "rate-retention" and current_ma_g is not None:
        raise UsageError("The rate retention compares the campaign's two rates; --current does not apply to it.")
    spec = validated(ObjectiveSpec, {"quantity": name, "current_ma_g": current_ma_g, "cycle": cycle}, f"rank by {by}")
    quantity = spec.resolved(goals.rates)
    return (quantity,), replace(goals, also=(quantity,))


def _several(goals: Goals) -> tuple[tuple[Quantity, ...], Goals]:
    """The objectives of a campaign; of one alone, with what it is traded for."""
    objectives = goals.objectives
    if len(objectives) == 1:
        objectives = (*objectives, _as_objective(axes_of(goals)[0], goals))
    several = replace(goals, objectives=objectives)
    return tuple(several.quantities[c] for c in several.objective_columns), several


def _as_objective(quantity: Quantity, goals: Goals) -> ObjectiveSpec:
    """A quantity of the goals as an objective, wanted as it is there."""
    at = quantity.conditions[-1]
    wish = "maximize" if goals.signs[goals.column(quantity)] > 0 else "minimize"
    named = {"quantity": quantity.name, "cycle": at.cycle, "direction": wish}
    try:
        return ObjectiveSpec.model_validate({**named, "current_ma_g": at.current_ma_g})
    except ValueError:  # a quantity of both rates
        return ObjectiveSpec.model_validate(named)


def _least_capacity(goals: Goals) -> float | None:
    """Low-rate capacity that the constraints ask for."""
    low = Capacity(goals.rates.low)
    asked = [c.at_least for c in goals.constraints if c.resolved(goals.rates) == low and c.at_least is not None]
    return max(asked, default=None)


def _with_capacity(
    places: Sequence[Place], capacity: Quantity, least_mah_g: float | None
) -> tuple[list[Place], tuple[str, ...]]:
    """Leave out what delivers less; say how many of the measured ones that were."""
    if least_mah_g is None:
        return list(places), ()
    enough = [p for p in places if (v := p.value(capacity)) is not None and v.mean >= least_mah_g]
    short = sum(p.source == "measured" for p in places) - sum(p.source == "measured" for p in enough)
    said = f"{short} measured compositions left out: below {least_mah_g:g} mAh/g, or not measured there."
    return enough, (said,) if short else ()


def _ordered(places: Sequence[Place], asked: Sequence[Quantity], goals: Goals, order: Order) -> list[Place]:
    """The best first; by several quantities, front by front."""

    def merit(place: Place, quantity: Quantity) -> float:
        value = place.value(quantity)
        if value is None:
            return -math.inf
        return float(goals.signs[goals.column(quantity)]) * (value.bound if order == "lower" else value.mean)

    merits = np.array([[merit(p, q) for q in asked] for p in places]).reshape(len(places), len(asked))
    numbers = fronts(merits) if len(asked) > 1 else np.zeros(len(places), int)
    keyed = sorted(
        zip(numbers.tolist(), (-merits).tolist(), places, strict=True), key=lambda k: (k[0], k[1], k[2].composition)
    )
    return [replace(place, front=number or None) for number, _, place in keyed]


# -- what is measured ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """What the ledger holds for a ranking."""

    state: Snapshot
    outcomes: Sequence[Outcome]
    goals: Goals
    """What the campaign wants, with the quantities ranked by."""

    asked: tuple[Quantity, ...]

    def measured(self) -> tuple[list[Place], tuple[str, ...]]:
        """Places of what is measured; notes on what is so in part, or otherwise."""
        labels = labels_of(self.state)
        came: list[Outcome] = []
        others: list[Outcome] = []
        for outcome in self.outcomes:
            if outcome.measurements:
                (came if all(outcome.measured(q) for q in self.asked) else others).append(outcome)
        rows = self._rows(came)
        places = [self._place(o, row, labels.get(o.proposal.composition)) for o, row in zip(came, rows, strict=True)]
        return places, self._aside(others)

    def _aside(self, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
        """Notes on what is doubted, and on outcomes that do not count as measured."""
        needed = dict.fromkeys(c for q in self.asked for c in q.conditions)
        half, otherwise = [], []
        for outcome in outcomes:
            name, lacking = outcome.proposal.proposal_id, [in_words(c) for c in needed if not outcome.cells.under(c)]
            if len(lacking) == len(needed):
                otherwise.append(name)
            else:
                half.append(f"{name} ({_in_part(lacking)})")
        doubted = [m.measurement_id for m in self.state.doubtful]
        aside = (
            ("Doubtful, not counted as measured", doubted, "; `drx-screen status` says why."),
            ("Half-measured, not counted as measured", half, "."),
            ("Measured under other conditions alone, not counted as measured", otherwise, "."),
        )
        return tuple(f"{what}: {_some(names)}{end}" for what, names, end in aside if names)

    def _rows(self, outcomes: Sequence[Outcome]) -> list[dict[str, float]]:
        """What is measured of every quantity, under the public names; NaN where a condition is missing."""
        nothing = Estimate(math.nan, None, 0, math.nan)
        found = [[o.measured(q) or nothing for q in self.goals.quantities] for o in outcomes]
        shape = (len(outcomes), len(self.goals.quantities))
        mean = np.array([[e.mean for e in row] for row in found], float).reshape(shape)
        error = np.array([[e.error for e in row] for row in found], float).reshape(shape)
        columns = self.goals.columns(mean, error)
        return [
            dict(zip(columns, row, strict=True))
            for row in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]

    def _place(self, outcome: Outcome, columns: dict[str, float], label: str | None) -> Place:
        feasibility = columns.pop("feasibility")
        proposal = outcome.proposal
        return Place(
            proposal.composition,
            proposal,
            "measured",
            tuple(v for v in stated(self.goals, columns) if math.isfinite(v.mean)),
            feasibility if math.isfinite(feasibility) else None,
            label,
            with_state(proposal, _cells(outcome)),
            as_named_by(self.goals, proposal.prediction.values) if proposal.prediction else (),
            process=joined([d.conditions.process for d in outcome.cells.discharges]),
        )


def _made(places: Sequence[Place], usual: Process) -> frozenset[tuple[str, Process]]:
    """Compositions of measured places, as they were made and as they were to be made."""
    planned = {(p.composition, p.proposal.process.over(usual)) for p in places if p.proposal is not None}
    return frozenset(planned | {(p.composition, p.process) for p in places})


def _in_part(lacking: Sequence[str]) -> str:
    """Why cells at some of the conditions do not do."""
    return f"no cell at {', '.join(lacking)}" if lacking else "its cells give none, as without a profile"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _cells(outcome: Outcome) -> str:
    """How many cells there are under each condition that the campaign wants."""
    counted = [(len(outcome.cells.under(c)), c) for c in outcome.goals.conditions]
    cells = " + ".join(f"{n} cell{'s' if n > 1 else ''} at {in_words(c)}" for n, c in counted if n)
    told = f"measured: {cells}" if cells else "measured"
    otherwise = sum(len(group.discharges) for group in outcome.groups if group is not outcome.cells)
    return f"{told}; {otherwise} more made or tested otherwise" if otherwise else told
