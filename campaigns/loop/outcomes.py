"""What came back for each proposal, beside what was predicted: the numbers behind the report.

Whatever a campaign wants is read off the cells of a proposal by the quantity itself; conditions are never mixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest

import numpy as np

from campaigns.ledger.records import PENDING, Measurement, Proposal, QuantityValue, Snapshot, State
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.process import alike
from screening.estimates import Estimate, pessimistic
from screening.goals import ConstraintSpec, Goals, fronts
from screening.measured import Made
from screening.quantities import Capacity, MeasuredCells, Quantity

MEMBERS = "std_members"
"""Ends the name of a column that holds the spread of the members alone."""


@dataclass(frozen=True)
class Outcome:
    """One proposal, what was predicted for it and what its cells gave."""

    proposal: Proposal
    goals: Goals
    measurements: tuple[Measurement, ...] = ()
    """Those of it that count."""

    made: str | None = None
    """What was made by an analysis, where that differs from what was proposed."""

    _read: dict[Quantity, Estimate | None] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def groups(self) -> tuple[MeasuredCells, ...]:
        """What its cells gave, those apart that were made or tested differently; most discharges first."""
        made = Composition.parse(self.made or self.proposal.composition)
        together = alike([m.conditions.process for m in self.measurements])
        each = [tuple(self.measurements[i] for i in group) for group in together] or [()]
        return tuple(MeasuredCells(made, discharges, self.goals.prices) for discharges in each)

    @cached_property
    def cells(self) -> MeasuredCells:
        """What counts, as a quantity reads it: what was made as the campaign has it, else most discharges alike."""
        wanted = self.proposal.process.over(self.goals.rates.process)
        as_wanted = (g for g in self.groups if not any(wanted.differs(d.conditions.process) for d in g.discharges))
        return next(as_wanted, self.groups[0])

    def measured(self, quantity: Quantity) -> Estimate | None:
        """Measured value of a quantity; None where a condition is missing."""
        if not self.measurements:
            return None
        if quantity not in self._read:
            self._read[quantity] = quantity.of_cells(self.cells)
        return self._read[quantity]

    def predicted(self, quantity: Quantity) -> Estimate | None:
        """Value predicted when it was proposed, before any cell existed; None when that was for other conditions."""
        said = self.proposal.prediction.value(quantity.identity) if self.proposal.prediction else None
        return None if said is None else Estimate(said.mean, said.std, 0, said.std)

    def known(self, quantity: Quantity) -> Estimate | None:
        """Measured value, or else the predicted one."""
        return self.measured(quantity) or self.predicted(quantity)

    def bound(self, quantity: Quantity) -> float | None:
        """Bound that a quantity is better than with 90 %: the pessimistic end of its interval."""
        ends = self.interval(quantity)
        return None if ends is None else ends[0 if self.sign(quantity) > 0 else 1]

    def interval(self, quantity: Quantity) -> tuple[float, float] | None:
        """Ends of the 80 % interval; None where nothing is known.

        Of what is measured, from the error of the mean over cells; else as it was predicted.
        """
        found = self.measured(quantity)
        if found is not None:
            ends = (float(pessimistic(found.mean, found.error or 0.0, sign, quantity.limits)) for sign in (1, -1))
            return next(ends), next(ends)
        said = self.proposal.prediction.value(quantity.identity) if self.proposal.prediction else None
        return None if said is None else said.interval

    def sign(self, quantity: Quantity) -> int:
        """1 where the campaign wants it large, -1 where small."""
        return (
            int(self.goals.signs[self.goals.column(quantity)]) if quantity in self.goals.quantities else quantity.sign
        )

    @property
    def merit(self) -> float:
        """Bound of the first objective, larger is better: the order of every table. Minus infinity where unknown."""
        bound = self.bound(self.goals.first)
        return -math.inf if bound is None else self.sign(self.goals.first) * bound

    @cached_property
    def leading(self) -> Estimate | None:
        """Measured value of the first objective."""
        return self.measured(self.goals.first)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What no cell was measured under or with, in words; empty once all that the campaign wants is measured."""
        lacking = [c for c in self.goals.conditions if not self._has(c)]
        without = [
            f"{q} (its cells give none)"
            for q in self.goals.wanted
            if not set(q.conditions) & set(lacking) and self.measured(q) is None
        ]
        return (*map(in_words, lacking), *without)

    @cached_property
    def missed(self) -> tuple[str, ...]:
        """Constraints that the measured means miss, in words."""
        limits = [(c, found) for c in self.goals.constraints if (found := self.measured(c.resolved(self.goals.rates)))]
        return tuple(limit_in_words(c, self.goals) for c, e in limits if c.sign * (e.mean - c.threshold) < 0)

    @property
    def half_measured(self) -> bool:
        """Whether a part of what the campaign wants is in and another is not."""
        return bool(self.missing) and any(map(self._has, self.goals.conditions))

    @property
    def dropped(self) -> bool:
        """Whether it failed or was abandoned before the first objective was measured."""
        return self.leading is None and self.proposal.state in (State.FAILED, State.ABANDONED)

    def _has(self, conditions: CyclingConditions) -> bool:
        return bool(self.measurements) and bool(self.cells.under(conditions))


def pending_of(state: Snapshot, goals: Goals) -> list[Made]:
    """What waits for cells, and how it is to be made: proposed or accepted, or measured in part."""
    half = {(o.proposal.composition, o.proposal.process) for o in outcomes_of(state, goals) if o.half_measured}
    made = [(p.composition, p.process) for p in state.proposals]
    waiting = [m for m, p in zip(made, state.proposals, strict=True) if p.state in PENDING or m in half]
    return [(Composition.parse(c), process) for c, process in dict.fromkeys(waiting)]


def limit_in_words(limit: ConstraintSpec, goals: Goals) -> str:
    """``capacity at 20 mA/g at least 220 mAh/g``."""
    quantity = limit.resolved(goals.rates)
    side = "at least" if limit.sign > 0 else "at most"
    return f"{quantity} {side} {limit.threshold:g} {quantity.unit}".rstrip()


def in_words(conditions: CyclingConditions) -> str:
    """Current, and the cycle where it is not the first."""
    return f"{conditions.current_ma_g:g} mA/g" + ("" if conditions.cycle == 1 else f", cycle {conditions.cycle}")


def outcomes_of(snapshot: Snapshot, goals: Goals, known: Sequence[Outcome] = ()) -> tuple[Outcome, ...]:
    """Outcome of every proposal, in the order in which they were made.

    Args:
        snapshot: of the campaign.
        goals: by which its cells are read.
        known: outcomes at an earlier entry of the log; what is equal is taken from them as it is.
    """
    cells: dict[str, list[Measurement]] = {}
    for measurement in snapshot.counted:
        cells.setdefault(measurement.proposal_id, []).append(measurement)
    found = [
        Outcome(p, goals, tuple(cells.get(p.proposal_id, ())), snapshot.made(p.proposal_id)) for p in snapshot.proposals
    ]
    return tuple(old if old == new else new for old, new in zip_longest(known[: len(found)], found))


def stated(goals: Goals, columns: Mapping[str, float]) -> tuple[QuantityValue, ...]:
    """What is known of every quantity of the goals, out of a row with their public names."""
    found = []
    for (identity, key), side in zip(goals.names, goals.sides, strict=True):
        far = "upper" if side == "lower" else "lower"
        mean, std, bound, other = (float(columns[f"{key}_{name}"]) for name in ("mean", "std", side, far))
        members = columns.get(f"{key}_{MEMBERS}")
        found.append(QuantityValue(identity, key, mean, std, bound, side, other, members))
    return tuple(found)


def as_named_by(goals: Goals, values: Sequence[QuantityValue]) -> tuple[QuantityValue, ...]:
    """What was said under the goals of its time, by the names of these: none says a number for other conditions."""
    names = dict(goals.names)
    taken = set(names.values())
    mine = (v for v in values if v.quantity in names or v.key not in taken)
    return tuple(replace(v, key=names.get(v.quantity, v.key)) for v in mine)


@dataclass(frozen=True)
class Comparison:
    """Predicted against measured, one entry per proposal that has both."""

    quantity: Quantity
    outcomes: tuple[Outcome, ...]
    predicted: np.ndarray
    predicted_std: np.ndarray
    measured: np.ndarray
    measured_std: np.ndarray
    """NaN where it is not known."""

    @property
    def mean_absolute_error(self) -> float:
        """Mean of ``|predicted - measured|``."""
        return float(np.abs(self.predicted - self.measured).mean())

    def within(self, spreads: float) -> int:
        """How many measured values lie within so many predicted standard deviations."""
        return int((np.abs(self.measured - self.predicted) <= spreads * self.predicted_std).sum())


def compare(outcomes: Sequence[Outcome], quantity: Quantity) -> Comparison:
    """Set what was predicted at the time of proposing against what the cells gave."""
    both = [
        (o, p, m)
        for o in outcomes
        for p, m in [(o.predicted(quantity), o.measured(quantity))]
        if p is not None and m is not None
    ]
    return Comparison(
        quantity,
        tuple(o for o, _, _ in both),
        np.array([p.mean for _, p, _ in both]),
        np.array([p.error or 0.0 for _, p, _ in both]),
        np.array([m.mean for _, _, m in both]),
        np.array([np.nan if m.error is None else m.error for _, _, m in both]),
    )


def coverage(comparisons: Sequence[Comparison], levels: np.ndarray) -> np.ndarray:
    """Fraction of measured values inside the central predicted interval of each nominal level.

    The intervals are those of a normal distribution; quantities are pooled. NaN where nothing was measured.

    Args:
        comparisons: of one or more quantities.
        levels: nominal probabilities in (0, 1), ``levels``.
    """
    from scipy.stats import norm

    deviations = [
        np.abs(c.measured - c.predicted) / np.maximum(c.predicted_std, 1e-12) for c in comparisons if len(c.measured)
    ]
    if not deviations:
        return np.full(len(levels), np.nan)
    half_widths = norm.ppf(0.5 + np.asarray(levels) / 2)
    return (np.concatenate(deviations)[None, :] <= half_widths[:, None]).mean(1)


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """What is measured best by the first objective, and misses no constraint where there is such a one."""
    return max((o for o in outcomes if o.leading), key=lambda o: (not o.missed, o.merit), default=None)


def best_so_far(outcomes: Sequence[Outcome], rounds: Sequence[int]) -> list[Outcome | None]:
    """Best that misses no constraint of the rounds up to each; what the lab brought is there from the start."""
    by_round: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        if not outcome.missed:
            by_round.setdefault(outcome.proposal.round or 0, []).append(outcome)
    trail: list[Outcome | None] = []
    last = -1
    for number in rounds:
        new = [o for earlier in range(last + 1, number + 1) for o in by_round.get(earlier, ())]
        trail.append(best_of([*(o for o in trail[-1:] if o), *new]))
        last = number
    return trail


@dataclass(frozen=True)
class Points:
    """Outcomes, and what is known of two quantities of each."""

    outcomes: tuple[Outcome, ...]
    at: np.ndarray
    """Means, ``n x 2``."""

    spreads: np.ndarray
    """Standard deviations, ``n x 2``; NaN where one is not known."""

    @classmethod
    def of(cls, known: Sequence[tuple[Outcome, Sequence[Estimate]]]) -> Points:
        """Take outcomes with two estimates each."""
        table = np.array([[(e.mean, e.error) for e in both] for _, both in known], float).reshape(-1, 2, 2)
        return cls(tuple(outcome for outcome, _ in known), table[..., 0], table[..., 1])


@dataclass(frozen=True)
class TradeOff:
    """The two things that one wants at once."""

    axes: tuple[Quantity, Quantity]
    signs: np.ndarray
    """1 where an axis is to be large, -1 where small."""

    measured: Points
    waiting: Points
    """Predicted, for what may still be measured."""

    @cached_property
    def front(self) -> np.ndarray:
        """Indices of the measured points that no other one equals or beats in both, by rising first coordinate."""
        return pareto_front(self.measured.at * self.signs)[:: int(self.signs[0])]

    def border(self, corner: np.ndarray) -> np.ndarray:
        """Border of what the front dominates, seen from the corner of the worst values, ``2 n + 1 x 2``."""
        signed = self.measured.at * self.signs
        return staircase(signed[pareto_front(signed)], tuple(corner * self.signs)) * self.signs

    def corner(self, bars: bool) -> np.ndarray:
        """Where the worst values meet, a little beyond all points, and their bars where these are drawn, ``2``."""
        every = np.concatenate(
            [p.at * self.signs - bars * np.nan_to_num(p.spreads) for p in (self.measured, self.waiting)]
        )
        return (every.min(0) - 0.06 * (np.ptp(every, 0) + 1e-3)) * self.signs


def axes_of(goals: Goals) -> tuple[Quantity, Quantity]:
    """The two things that a campaign trades against each other: across what the first objective (along) costs.

    The second objective, else what a constraint limits, else the capacity at the low or the high rate.
    """
    objectives = [goals.quantities[c] for c in goals.objective_columns]
    others = (*objectives[1:], *goals.wanted, Capacity(goals.rates.low), Capacity(goals.rates.high))
    return next(q for q in others if q != goals.first), goals.first


def trade_off(outcomes: Sequence[Outcome], goals: Goals) -> TradeOff:
    """Points of the two things one wants at once, measured and predicted apart."""
    axes = axes_of(goals)
    measured, waiting = [], []
    for outcome in outcomes:
        found = [e for q in axes if (e := outcome.measured(q)) is not None]
        thought = [e for q in axes if (e := outcome.predicted(q)) is not None]
        if len(found) == 2:
            measured.append((outcome, found))
        elif len(thought) == 2 and not outcome.dropped:
            waiting.append((outcome, thought))
    signs = np.array([goals.signs[goals.column(q)] for q in axes])
    return TradeOff(axes, signs, Points.of(measured), Points.of(waiting))


def staircase(front: np.ndarray, corner: tuple[float, ...]) -> np.ndarray:
    """Border of what a front dominates, from the left edge to the bottom edge, ``2 n + 1 x 2``.

    Args:
        front: points by rising first coordinate, ``n x 2``.
        corner: left and bottom edge.
    """
    steps = [(corner[0], front[0, 1])]
    for point, after in zip(front, [*front[1:, 1], corner[1]], strict=True):
        steps += [(point[0], point[1]), (point[0], after)]
    return np.array(steps)


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Indices of the first front (:func:`~screening.goals.fronts`), one of equal points, by rising first coordinate.

    Args:
        points: ``n x 2``, more is better in both.
    """
    first = np.flatnonzero(fronts(points, at_most=1) == 1)
    _, distinct = np.unique(points[first], axis=0, return_index=True)
    return first[distinct]


@dataclass(frozen=True)
class CompositionMap:
    """Compositions in the plane of their two largest principal components."""

    positions: np.ndarray
    """``n x 2``."""

    elements: tuple[str, ...]
    loadings: np.ndarray
    """Direction of each element in the plane, ``elements x 2``."""

    explained: tuple[float, float]
    """Share of the variance along each axis."""


def composition_map(compositions: Sequence[str]) -> CompositionMap:
    """Lay compositions out so that what was made alike lies together.

    Principal components of the amounts per formula unit, oxygen left out; signs are fixed so that the largest loading
    of each axis is positive.
    """
    parsed = [Composition.parse(c) for c in compositions]
    elements = tuple(dict.fromkeys(s for c in parsed for s in c.amounts() if s != "O"))
    amounts = np.array([[c.amounts().get(s, 0.0) for s in elements] for c in parsed])
    centred = amounts - amounts.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.vstack([axes, np.zeros((max(0, 2 - len(axes)), len(elements)))])[:2]
    sizes = np.append(sizes, [0.0, 0.0])
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])
    axes = axes * np.where(signs == 0, 1, signs)[:, None]
    total = max(float((sizes**2).sum()), 1e-30)
    return CompositionMap(
        centred @ axes.T, elements, axes.T, (float(sizes[0] ** 2 / total), float(sizes[1] ** 2 / total))
    )


STATE_WORDS = {
    State.PROPOSED: "proposed",
    State.ACCEPTED: "being made",
    State.MEASURED: "measured",
    State.FAILED: "failed",
    State.ABANDONED: "abandoned",
}


def headline(snapshot: Snapshot, outcomes: Sequence[Outcome], goals: Goals) -> str:
    """One sentence that says where the campaign stands."""
    if not outcomes:
        return f"Campaign {snapshot.campaign} has not proposed anything yet."
    waiting = len(snapshot.pending)
    wait = f"{_counted(waiting, 'composition')} {'waits' if waiting == 1 else 'wait'} for cells" if waiting else ""
    measured = [o for o in outcomes if o.leading]
    text = _best_in_words(snapshot, outcomes, measured, goals) if measured else _nothing_yet(snapshot, outcomes, goals)
    return f"{text}; {wait}." if wait else f"{text}."


def _nothing_yet(snapshot: Snapshot, outcomes: Sequence[Outcome], goals: Goals) -> str:
    half = sum(o.half_measured for o in outcomes)
    text = f"No {goals.first} is measured yet after {_counted(snapshot.round, 'round')}"
    text += f" ({half} half-measured)" if half else ""
    best = max(outcomes, key=lambda o: o.merit)
    said = best.predicted(goals.first)
    if said is None:
        return text
    return (
        f"{text}; for the best proposal, {best.proposal.composition} ({best.proposal.proposal_id}), "
        f"{_value(goals.first, said)} is predicted"
    )


def _best_in_words(snapshot: Snapshot, outcomes: Sequence[Outcome], measured: Sequence[Outcome], goals: Goals) -> str:
    best = best_of(measured)
    assert best is not None
    found = [_value(q, e) for q in goals.wanted if (e := best.measured(q))]
    among = "the best is" if not best.missed else "none of which meets every constraint, the best is"
    compositions = len({o.proposal.composition for o in measured})
    text = (
        f"After {_counted(snapshot.round, 'round')} and {_counted(compositions, 'measured composition')}, {among} "
        f"{best.proposal.composition} ({best.proposal.proposal_id}), with {' and '.join(found)}"
    )
    (start,) = best_so_far(outcomes, [1])
    return text + (_gained(best, start) if start is not None and snapshot.round > 1 and not best.missed else "")


def _gained(best: Outcome, start: Outcome) -> str:
    """By how much the best is better than that of the first round; nothing where it is not."""
    first = best.goals.first
    gain = best.sign(first) * (best.leading.mean - start.leading.mean) if best.leading and start.leading else 0.0
    unit = f" {first.unit}" if first.unit else ""
    return f", {first.shown(gain)}{unit} better than the best of round 1" if float(first.shown(gain)) > 0 else ""


def _value(quantity: Quantity, estimate: Estimate) -> str:
    spread = f" ± {quantity.shown(estimate.spread)}" if estimate.count == 0 and estimate.spread is not None else ""
    article = "an" if str(quantity)[0] in "aeiou" else "a"
    return (
        f"{article} {quantity} of {quantity.shown(estimate.mean)}{spread}{f' {quantity.unit}' if quantity.unit else ''}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
