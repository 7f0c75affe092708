"""What came back for each proposal, beside what was predicted: the numbers behind the report.

Conditions are never mixed: a capacity counts for the low or the high rate only when cycle and window agree and the
current lies within 10 % of the campaign's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from campaigns.ledger.records import PENDING, Measurement, Proposal, Snapshot, State
from drxnet.composition import Composition
from screening.estimates import LOWER_Z, Estimate, same_conditions, standard_error
from screening.goals import Rates
from screening.quantities import CAPACITY_FLOOR_MAH_G, RETENTION_LIMITS

QuantityOfOutcome = Literal["rate_retention", "capacity_low_mah_g", "capacity_high_mah_g"]
QUANTITIES: tuple[QuantityOfOutcome, ...] = ("rate_retention", "capacity_low_mah_g", "capacity_high_mah_g")


@dataclass(frozen=True)
class Outcome:
    """One proposal, what was predicted for it and what its cells gave."""

    proposal: Proposal
    capacity_low_mah_g: Estimate | None
    capacity_high_mah_g: Estimate | None
    missing: tuple[str, ...]
    """Conditions that no cell was measured under, in words; empty once the retention is measured."""

    capacity_floor_mah_g: float = CAPACITY_FLOOR_MAH_G
    """Low-rate capacity below which nothing is retained."""

    predicted_here: bool = True
    """Whether the prediction was made for the two rates that the campaign has now."""

    @property
    def rate_retention(self) -> Estimate | None:
        """Measured retention: ratio of the means over cells; None until both rates are in."""
        low, high = self.capacity_low_mah_g, self.capacity_high_mah_g
        if low is None or high is None:
            return None
        if low.mean < self.capacity_floor_mah_g:
            return Estimate(0.0, 0.0, min(low.count, high.count))
        ratio = high.mean / low.mean
        spread = None
        if low.spread is not None and high.spread is not None and high.mean > 0:
            spread = ratio * math.hypot(low.spread / low.mean, high.spread / high.mean)
        return Estimate(float(np.clip(ratio, *RETENTION_LIMITS)), spread, min(low.count, high.count))

    @property
    def half_measured(self) -> bool:
        """Whether one of the two rates is in and the other is not."""
        return len(self.missing) == 1

    @property
    def dropped(self) -> bool:
        """Whether it failed or was abandoned without a measured retention."""
        return self.rate_retention is None and self.proposal.state in (State.FAILED, State.ABANDONED)

    def measured(self, quantity: QuantityOfOutcome) -> Estimate | None:
        """Measured value of a quantity."""
        estimate: Estimate | None = getattr(self, quantity)
        return estimate

    def predicted(self, quantity: QuantityOfOutcome) -> Estimate | None:
        """Value predicted when it was proposed, before any cell of it existed; None when that was for other rates."""
        prediction = self.proposal.prediction
        if prediction is None or not self.predicted_here:
            return None
        return Estimate(getattr(prediction, f"{quantity}_mean"), getattr(prediction, f"{quantity}_std"), 0)

    @property
    def rate_retention_lower(self) -> float:
        """Bound above which the retention lies with 90 %, measured or else predicted; the order of every table.

        Of a measured one, from the standard errors of the two means over cells. Minus infinity where nothing is known.
        """
        low, high, ratio = self.capacity_low_mah_g, self.capacity_high_mah_g, self.rate_retention
        if ratio is None or low is None or high is None:
            prediction = self.proposal.prediction if self.predicted_here else None
            return prediction.rate_retention_lower if prediction else -math.inf
        if ratio.mean == 0:
            return 0.0
        error = ratio.mean * math.hypot(standard_error(low) / low.mean, standard_error(high) / high.mean)
        return float(np.clip(ratio.mean - LOWER_Z * error, *RETENTION_LIMITS))


def pending_of(state: Snapshot, rates: Rates) -> list[Composition]:
    """Compositions that wait for cells: proposed or accepted, or measured at one rate only."""
    half = {o.proposal.composition for o in outcomes_of(state, rates) if o.half_measured}
    waiting = [p.composition for p in state.proposals if p.state in PENDING or p.composition in half]
    return [Composition.parse(c) for c in dict.fromkeys(waiting)]


def outcomes_of(snapshot: Snapshot, conditions: Rates) -> tuple[Outcome, ...]:
    """Outcome of every proposal, in the order in which they were made."""
    cells: dict[str, list[Measurement]] = {}
    for measurement in snapshot.counted:
        cells.setdefault(measurement.proposal_id, []).append(measurement)
    wanted = {"low": conditions.low, "high": conditions.high}
    outcomes = []
    for proposal in snapshot.proposals:
        mine = cells.get(proposal.proposal_id, [])
        at = {
            rate: _over_cells([m for m in mine if same_conditions(m.conditions, asked)])
            for rate, asked in wanted.items()
        }
        missing = tuple(f"{wanted[rate].current_ma_g:g} mA/g" for rate, estimate in at.items() if estimate is None)
        floor = conditions.capacity_floor_mah_g
        here = _predicted_for(proposal, conditions)
        outcomes.append(Outcome(proposal, at["low"], at["high"], missing, floor, here))
    return tuple(outcomes)


def _predicted_for(proposal: Proposal, conditions: Rates) -> bool:
    prediction = proposal.prediction
    return prediction is None or (
        math.isclose(prediction.low_current_ma_g, conditions.low_current_ma_g)
        and math.isclose(prediction.high_current_ma_g, conditions.high_current_ma_g)
    )


def _over_cells(measurements: Sequence[Measurement]) -> Estimate | None:
    """Mean over cells and their sample standard deviation; of one cell, its stated uncertainty."""
    if not measurements:
        return None
    values = [m.capacity_mah_g for m in measurements]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else measurements[0].sigma_mah_g
    return Estimate(float(np.mean(values)), spread, len(values))


@dataclass(frozen=True)
class Comparison:
    """Predicted against measured, one entry per proposal that has both."""

    quantity: QuantityOfOutcome
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


def compare(outcomes: Sequence[Outcome], quantity: QuantityOfOutcome) -> Comparison:
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
        np.array([p.spread or 0.0 for _, p, _ in both]),
        np.array([m.mean for _, _, m in both]),
        np.array([np.nan if m.spread is None else m.spread for _, _, m in both]),
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


def best_so_far(outcomes: Sequence[Outcome], rounds: Sequence[int]) -> list[Outcome | None]:
    """Measured composition with the highest lower bound up to each round; the lab's own count from the start."""
    best: Outcome | None = None
    by_round: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        by_round.setdefault(outcome.proposal.round or 0, []).append(outcome)
    trail: list[Outcome | None] = []
    last = -1
    for number in rounds:
        for earlier in range(last + 1, number + 1):
            for outcome in by_round.get(earlier, []):
                if outcome.rate_retention and (
                    best is None or outcome.rate_retention_lower > best.rate_retention_lower
                ):
                    best = outcome
        last = number
        trail.append(best)
    return trail


@dataclass(frozen=True)
class TradeOff:
    """Capacity at the low rate against retention, ``n x 2``, with the outcomes the rows stand for."""

    measured: tuple[Outcome, ...]
    measured_points: np.ndarray
    measured_spreads: np.ndarray
    """Standard deviation of each coordinate; NaN where it is not known."""

    waiting: tuple[Outcome, ...]
    waiting_points: np.ndarray
    """Predicted, for what may still be measured at both rates."""

    waiting_spreads: np.ndarray


def trade_off(outcomes: Sequence[Outcome]) -> TradeOff:
    """Points of the two things one wants at once, measured and predicted apart."""
    measured, came, waiting, expected = [], [], [], []
    for outcome in outcomes:
        found = (outcome.capacity_low_mah_g, outcome.rate_retention)
        thought = (outcome.predicted("capacity_low_mah_g"), outcome.predicted("rate_retention"))
        if None not in found:
            measured.append(outcome)
            came.append(found)
        elif None not in thought and not outcome.dropped:
            waiting.append(outcome)
            expected.append(thought)

    def table(rows: Sequence[tuple[Estimate | None, ...]], name: str) -> np.ndarray:
        return np.array([[getattr(e, name) for e in row] for row in rows], float).reshape(-1, 2)

    return TradeOff(
        tuple(measured),
        table(came, "mean"),
        table(came, "spread"),
        tuple(waiting),
        table(expected, "mean"),
        table(expected, "spread"),
    )


def staircase(front: np.ndarray, corner: tuple[float, float]) -> np.ndarray:
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
    """Indices of the points that no other point equals or beats in both coordinates, by rising first coordinate.

    Args:
        points: ``n x 2``, more is better in both.
    """
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    front, top = [], -math.inf
    for i in order:
        if points[i, 1] > top:
            front.append(i)
            top = points[i, 1]
    return np.array(front[::-1], dtype=int)


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


def headline(snapshot: Snapshot, outcomes: Sequence[Outcome], conditions: Rates) -> str:
    """One sentence that says where the campaign stands."""
    rates = f"at {conditions.high_current_ma_g:g} instead of {conditions.low_current_ma_g:g} mA/g"
    waiting = len(snapshot.pending)
    measured = [o for o in outcomes if o.rate_retention]
    half = sum(o.half_measured for o in outcomes)
    rounds = _counted(snapshot.round, "round")
    wait = f"{_counted(waiting, 'composition')} {'waits' if waiting == 1 else 'wait'} for cells" if waiting else ""
    if not outcomes:
        return f"Campaign {snapshot.campaign} has not proposed anything yet."
    if not measured:
        best = max(outcomes, key=lambda o: o.rate_retention_lower)
        text = f"No retention is measured yet after {rounds}"
        text += f" ({half} half-measured)" if half else ""
        if best.proposal.prediction:
            p = best.proposal.prediction
            text += (
                f"; the best proposal, {best.proposal.composition} ({best.proposal.proposal_id}), is predicted to keep "
                f"{p.rate_retention_mean:.0%} ± {p.rate_retention_std:.0%} of its capacity {rates}"
            )
        return f"{text}; {wait}." if wait else f"{text}."
    best = max(measured, key=lambda o: o.rate_retention_lower)
    assert best.rate_retention is not None
    low = best.capacity_low_mah_g
    text = (
        f"After {rounds} and {_counted(len(measured), 'measured composition')}, the best is "
        f"{best.proposal.composition} ({best.proposal.proposal_id}), which keeps {best.rate_retention.mean:.0%} of its "
        f"{low.mean if low else float('nan'):.0f} mAh/g {rates}"
    )
    (first,) = best_so_far(outcomes, [1])
    if first is not None and first.rate_retention is not None and snapshot.round > 1:
        gain = 100 * (best.rate_retention.mean - first.rate_retention.mean)
        text += f", {gain:.0f} points more than the best of round 1" if gain >= 1 else ""
    return f"{text}; {wait}." if wait else f"{text}."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
