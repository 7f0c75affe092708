"""What every drawing of a campaign has in common, whether matplotlib or a browser draws it.

The same code everywhere: a filled mark is measured, a hollow one predicted; in profiles blue is the low rate and
orange the high one, a dashed line with a band is predicted and a solid line measured. A bar ends where the quantity
does: there is no capacity below zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campaigns.ledger.records import ModelRecord
from campaigns.loop.outcomes import Comparison, Outcome, best_so_far
from drxnet.discharge import CyclingConditions
from screening.goals import Goals, Rates
from screening.quantities import Quantity

LOW_COLOUR, HIGH_COLOUR = "#0072B2", "#D55E00"
MEASURED_COLOUR, PREDICTED_COLOUR, FRONT_COLOUR, FAILED_COLOUR = "#222222", "#0072B2", "#D55E00", "#767676"
"""From Okabe and Ito's palette, which colour-blind readers can tell apart, and greys."""

COLOUR_MAP = "cividis"
LEVELS = np.linspace(0.05, 0.95, 19)
NAMED_AT_MOST = 16
"""Points up to which each carries its proposal's id; beyond that the id shows under the pointer."""

CELLS_AT_MOST = 40
"""Cells whose later cycles are drawn."""

POSTERIOR_SPREAD = "± 1 s.d. of the calibrated posterior"
"""Spread of a predicted quantity, as the ledger keeps it: wider than that of the members, and what an interval is."""

MEMBERS_SPREAD = "± 1 s.d. over members"
"""Spread of a predicted profile: how far the members of the ensemble disagree (ddof 0), before any calibration."""

CELLS_SPREAD = "± 1 s.d. of the mean over cells"
"""Spread of a measured quantity: how uncertain the mean is, as a ranking states it."""

WAITING = f"predicted, not measured yet, {POSTERIOR_SPREAD}"
"""What waits for cells, in a legend."""


def marker_size(count: int) -> float:
    """Diameter of a mark (pixels): small where there are thousands."""
    return 9.0 if count <= 150 else 6.5 if count <= 600 else 4.5


def bars(quantity: Quantity, means: Sequence[float] | np.ndarray, spreads: Sequence[float] | np.ndarray) -> np.ndarray:
    """Lengths of the error bars below and above values, cut where the quantity ends, ``2 x n``.

    Args:
        quantity: says which values it can have.
        means: ``n``.
        spreads: one standard deviation, ``n``; no bar where it is not known.
    """
    at, length = np.asarray(means, float), np.nan_to_num(np.asarray(spreads, float))
    least, most = quantity.limits
    return np.stack([np.minimum(length, np.maximum(at - least, 0)), np.minimum(length, np.maximum(most - at, 0))])


def parity_ends(c: Comparison) -> tuple[float, float]:
    """Ends that both axes of a comparison have, with every bar inside."""
    across, along = bars(c.quantity, c.predicted, c.predicted_std), bars(c.quantity, c.measured, c.measured_std)
    least = float(min((c.predicted - across[0]).min(), (c.measured - along[0]).min()))
    most = float(max((c.predicted + across[1]).max(), (c.measured + along[1]).max()))
    margin = 0.06 * max(most - least, 1e-3 + 0.1 * abs(most))
    return (max(least - margin, 0.0) if least >= 0 else least - margin, most + margin)


def arrows(loadings: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Where the arrows of elements end on a map, as far out as its points, ``elements x 2``; NaN for short ones.

    Args:
        loadings: of the elements on the two components, ``elements x 2``.
        positions: of the points, ``n x 2``.
    """
    lengths = np.linalg.norm(loadings, axis=1)
    longest = float(lengths.max(initial=0.0))
    reach = 0.8 * max(float(np.abs(positions).max(initial=0.0)), 1e-3) / max(longest, 1e-9)
    return np.where((lengths < 0.2 * longest)[:, None], np.nan, loadings * reach)


def places_in_rounds(outcomes: Sequence[Outcome]) -> list[float]:
    """Round numbers, the proposals of one round spread out beside each other."""
    groups: dict[int, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        groups.setdefault(outcome.proposal.round or 0, []).append(i)
    places = [0.0] * len(outcomes)
    for number, members in groups.items():
        for i, shift in zip(members, np.linspace(-0.38, 0.38, len(members) + 2)[1:-1], strict=True):
            places[i] = number + float(shift)
    return places


def best_line(outcomes: Sequence[Outcome], rounds: Sequence[int]) -> tuple[list[float], list[float]]:
    """Corners of the line of the best so far that misses no constraint: rounds, and its first objective's bound."""
    trail = zip(rounds, best_so_far(outcomes, rounds), strict=True)
    best = [(r, b) for r, o in trail if o and (b := o.bound(o.goals.first)) is not None]
    if not best:
        return [], []
    return [*(float(r) for r, _ in best), best[-1][0] + 0.45], [*(b for _, b in best), best[-1][1]]


def best_named(goals: Goals) -> str:
    """What a legend calls that line."""
    meets = " that meets the constraints" if goals.constraints else ""
    return f"best measured so far{meets}, {goals.sides[0]} bound (90 %)"


def held_out_errors(model: ModelRecord) -> tuple[float, float] | None:
    """Errors before and after a fine-tuning (mAh/g); None for a model that did not learn here."""
    before, after = model.metrics.get("error_before_mah_g"), model.metrics.get("error_after_mah_g")
    if before is None or after is None:
        return None
    return float(before), float(after)


def is_low(current_ma_g: float, rates: Rates) -> bool:
    """Whether a current is nearer to the low rate of a campaign, on a logarithmic scale."""
    return current_ma_g < math.sqrt(rates.low_current_ma_g * rates.high_current_ma_g)


def rate_colour(current_ma_g: float, rates: Rates) -> str:
    """Colour of a rate, in every figure."""
    return LOW_COLOUR if is_low(current_ma_g, rates) else HIGH_COLOUR


@dataclass(frozen=True)
class Fade:
    """Capacities of one cell over its cycles at one rate."""

    outcome: Outcome
    cell: str
    conditions: CyclingConditions
    """Of the earliest of its cycles."""

    cycles: tuple[int, ...]
    capacities_mah_g: tuple[float, ...]


def fades(outcomes: Sequence[Outcome]) -> list[Fade]:
    """Every cell that was cycled on, those of the best composition first.

    The first step of a staircase that counts as a first cycle was no such one, and is left out.
    """
    found = []
    for outcome in sorted(outcomes, key=lambda o: o.merit, reverse=True):
        by_cell: dict[tuple[str, float], dict[int, tuple[CyclingConditions, float]]] = {}
        for m in outcome.measurements:
            if "staircase" in m.flags:
                continue
            mine = by_cell.setdefault((m.cell, m.conditions.current_ma_g), {})
            mine[m.conditions.cycle] = (m.conditions, m.capacity_mah_g)
        for (cell, _), values in by_cell.items():
            if len(values) > 1:
                cycles = tuple(sorted(values))
                capacities = tuple(values[c][1] for c in cycles)
                found.append(Fade(outcome, cell, values[cycles[0]][0], cycles, capacities))
    return found


def in_words(goals: Goals) -> list[str]:
    """What the campaign wants, a sentence for each objective and constraint."""
    wishes = [
        f"{goals.quantities[column].label}: as {'large' if objective.sign > 0 else 'small'} as possible"
        f" (not worth making {'below' if objective.sign > 0 else 'above'} {objective.reference_value:g})"
        for objective, column in zip(goals.objectives, goals.objective_columns, strict=True)
    ]
    limits = [
        f"{goals.quantities[column].label}: at {'least' if limit.sign > 0 else 'most'} {limit.threshold:g}"
        for limit, column in zip(goals.constraints, goals.constraint_columns, strict=True)
    ]
    return [*wishes, *limits]
