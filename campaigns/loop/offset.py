"""What a laboratory finds more or less than the model on average: its own offset, from what its cells gave so far.

Measured is set against what the members said when each composition was proposed, so that no cell has told the model
anything yet. The offset is a normal random effect with the standard deviation between published laboratories, of which
every composition is one observation (docs/uncertainty.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from campaigns.ledger.records import PredictedProfile, Snapshot
from campaigns.loop.outcomes import Outcome, outcomes_of
from campaigns.workspace import Workspace
from drxnet.uncertainty import LABELS, LEVEL, ErrorLevels, levels_of
from screening.estimates import same_conditions
from screening.goals import Goals
from screening.quantities import Capacity

LATEST = 64
"""Compositions that are looked at, the latest ones: more would not make it more certain than samples differ."""


@dataclass(frozen=True)
class Offset:
    """By how much a laboratory finds more than the model at one current."""

    current_ma_g: float
    mean_mah_g: float
    std_mah_g: float
    compositions: int
    """How many tell of it."""

    @property
    def interval_mah_g(self) -> tuple[float, float]:
        """Ends of the 80 % interval."""
        reach = NormalDist().inv_cdf(0.5 + LEVEL / 2) * self.std_mah_g
        return self.mean_mah_g - reach, self.mean_mah_g + reach

    def __str__(self) -> str:
        """Say it in a sentence."""
        lower, upper = self.interval_mah_g
        cells = "1 composition" if self.compositions == 1 else f"{self.compositions} compositions"
        return (
            f"This laboratory finds {_more(self.mean_mah_g)} at {self.current_ma_g:g} mA/g than the model expected "
            f"({LEVEL:.0%}: {_between(lower, upper)}; {cells})."
        )

    def row(self) -> dict[str, Any]:
        """Public names and values."""
        lower, upper = self.interval_mah_g
        return {
            "current_ma_g": self.current_ma_g,
            "offset_mah_g_mean": self.mean_mah_g,
            "offset_mah_g_std": self.std_mah_g,
            "offset_mah_g_lower": lower,
            "offset_mah_g_upper": upper,
            "compositions": self.compositions,
            "sentence": str(self),
        }


def offsets_of(campaign: Workspace, state: Snapshot, goals: Goals) -> tuple[Offset, ...]:
    """Offset of a campaign's laboratory, from its ledger, by the goals of the time."""
    outcomes = _telling(outcomes_of(state, goals))
    if not outcomes:
        return ()
    told = campaign.ledger.predicted_profiles(o.proposal.proposal_id for o in outcomes)
    return offsets(outcomes, told, goals, state.models[0].model_id)


def offsets(
    outcomes: Sequence[Outcome], told: Mapping[str, Sequence[PredictedProfile]], goals: Goals, model_id: str
) -> tuple[Offset, ...]:
    """Offset at each rate at which something is measured that was predicted before.

    Args:
        outcomes: of proposals, in order; the latest that are predicted and measured count.
        told: profiles predicted when they were made, by proposal id.
        goals: of the campaign.
        model_id: whose levels the error of the model has.
    """
    levels, found, telling = levels_of(model_id), [], _telling(outcomes)
    for quantity in (Capacity(goals.rates.low), Capacity(goals.rates.high)):
        pairs = [
            (o, said, value.mean)
            for o in telling
            if (said := _said(told.get(o.proposal.proposal_id, ()), quantity)) is not None
            and (value := o.measured(quantity)) is not None
        ]
        if pairs:
            found.append(_offset(levels, quantity.at.current_ma_g, pairs))
    return tuple(found)


def _telling(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The latest that are both predicted and measured."""
    return [o for o in outcomes if o.measurements and o.proposal.prediction][-LATEST:]


def _said(profiles: Sequence[PredictedProfile], quantity: Capacity) -> tuple[float, float] | None:
    """What members said of a capacity on average, and how far they differ (mAh/g); None where they were not asked."""
    for profile in profiles:
        if same_conditions(profile.conditions, quantity.at):
            at = int(np.argmin(profile.voltage_v))
            return float(profile.capacity_mah_g_mean[at]), float(profile.capacity_mah_g_std[at])
    return None


def _offset(
    levels: ErrorLevels, current_ma_g: float, pairs: Sequence[tuple[Outcome, tuple[float, float], float]]
) -> Offset:
    """Random effect of one laboratory; the model's error and the sample's are what observations scatter by."""
    lab = levels.laboratory
    labels = [p.domain if (p := o.proposal.prediction) and p.domain in LABELS else "outside" for o, _, _ in pairs]
    typical = levels.model.typical(labels, np.full(len(pairs), current_ma_g))
    spread = np.array([std for _, (_, std), _ in pairs])
    scatter = np.maximum(typical, spread) ** 2 + lab.sample_mah_g**2
    missed = np.array([value - mean for _, (mean, _), value in pairs])
    precision = 1 / lab.laboratory_mah_g**2 + (1 / scatter).sum()
    mean = float((missed / scatter).sum() / precision)
    return Offset(current_ma_g, mean, math.sqrt(1 / precision), len(pairs))


def _more(mah_g: float) -> str:
    return f"{abs(mah_g):.0f} mAh/g {'more' if mah_g >= 0 else 'less'}"


def _between(lower: float, upper: float) -> str:
    if lower * upper > 0:
        near, far = sorted((abs(lower), abs(upper)))
        return f"{near:.0f} to {far:.0f} {'more' if lower > 0 else 'less'}"
    return f"from {-lower:.0f} less to {upper:.0f} more"
