"""How far what this laboratory will find may lie from what is expected of a composition: the spreads that are shown.

Two levels (docs/uncertainty.md). The model in this laboratory: the surrogate's spread, drawn in or widened by how far
its leave-one-out predictions of the laboratory's own cells were off. The laboratory's own offset, as far as its cells
have not told of it. A ratio or an energy has the spread of the capacities that it is made of. The choice goes by the
surrogate's own spread, which is wider before there are data, so that it explores.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from drxnet.uncertainty import levels_of
from screening.goals import Goals
from screening.outlook import Outlook
from screening.quantities import Capacity, RateRetention, SpecificEnergy, retention

BEFORE = 0.25
"""Variance of the model's error before any cell, relative to that of the surrogate."""

WEIGHT = 1.0
"""Observations that this weighs as much as: so few that eight cells are believed."""

ELSEWHERE = 1.35
"""Squared errors where nothing is measured over those of measured compositions left out: a campaign measures where the
model does well."""

RATES_ALIKE = 0.75
"""Correlation of the model's errors at the two rates."""

DOUBT = 0.5
"""What is added to the variance of a retention: this share of the squared difference between what is expected of it
directly and by its two capacities.

These five were chosen on simulated laboratories of seeds that no published number comes from (`benchmarks/README.md`).
"""


Covariances = Mapping[tuple[float, float], float]
"""Of what is left of a laboratory's offsets at two currents (mAh/g squared)."""


def spreads(outlook: Outlook, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Standard deviation of what this laboratory's cells give on average, of every quantity, ``n x m``.

    Args:
        outlook: what is known.
        mean: of the surrogate, ``n x m``.
        std: likewise.
    """
    goals, left = outlook.goals, offsets_left(outlook)
    own = std**2 * scales(outlook)
    variance = own.copy()
    for column, quantity in enumerate(goals.quantities):
        if isinstance(quantity, Capacity):
            variance[:, column] += left[(quantity.at.current_ma_g,) * 2]
        elif isinstance(quantity, RateRetention):
            variance[:, column] = _of_retention(goals, quantity, mean, own, left)
        elif isinstance(quantity, SpecificEnergy) and (held := Capacity(quantity.at)) in goals.quantities:
            voltage = mean[:, column] / np.maximum(mean[:, goals.column(held)], 1.0)
            variance[:, column] += voltage**2 * left[(quantity.at.current_ma_g,) * 2]
    return np.asarray(np.sqrt(variance))


def scales(outlook: Outlook) -> np.ndarray:
    """Variance of the model's error in this laboratory over that of the surrogate, of every quantity, ``m``."""
    errors = outlook.left_out
    counts, sums = (np.array([f(e) for e in errors], float) for f in (len, np.sum))
    return np.asarray((WEIGHT * BEFORE + ELSEWHERE * sums) / (WEIGHT + counts))


def offsets_left(outlook: Outlook) -> Covariances:
    """What is left of this laboratory's own offset at each current of a capacity, once its cells have told of it.

    One that has measured nothing is a new laboratory, as in a prediction.
    """
    capacities = [q for q in outlook.goals.quantities if isinstance(q, Capacity)]
    currents = list(dict.fromkeys(q.at.current_ma_g for q in capacities))
    measured = [{q.at.current_ma_g for q in capacities if q in m.estimates} for m in outlook.measured]
    table = np.array([np.isin(currents, list(mine)) for mine in measured], bool).reshape(-1, len(currents))
    left = levels_of(outlook.model_id).laboratory.left(np.array(currents), table)
    return dict(zip(product(currents, currents), left.ravel().tolist(), strict=True))


def _of_retention(
    goals: Goals, quantity: RateRetention, mean: np.ndarray, own: np.ndarray, left: Covariances
) -> np.ndarray:
    """Variance of a retention, never less than its numerator and denominator allow, ``n``.

    Args:
        goals: of the campaign.
        quantity: the retention.
        mean: of every quantity, ``n x m``.
        own: variance of the model's error, likewise.
        left: of the laboratory's offsets.
    """
    low, high = (goals.column(Capacity(at)) for at in quantity.conditions)
    slow, fast = (at.current_ma_g for at in quantity.conditions)
    before, after = np.maximum(mean[:, low], quantity.floor_mah_g), mean[:, high]
    ratio = np.clip(after / before, *quantity.limits)
    shared = RATES_ALIKE * np.sqrt(own[:, low] * own[:, high]) + left[slow, fast]
    spread = own[:, high] + left[fast, fast] + ratio**2 * (own[:, low] + left[slow, slow]) - 2 * ratio * shared
    both_ways = np.clip(mean[:, goals.column(quantity)], *quantity.limits) - retention(
        after, mean[:, low], quantity.floor_mah_g
    )
    return np.asarray(np.maximum(spread, 0.0) / before**2 + DOUBT * both_ways**2)
