"""What a campaign has measured in the plane of a capacity map of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campaigns.loop.outcomes import Outcome
from drxnet.figures import CapacityMap, MeasuredPoint

SAME_AMOUNT = 0.005
"""Amounts per formula unit that differ by less are the same, on a map."""

_USUAL = {"Li": 1.2}
"""What a map holds where it is no axis and not given; of all others none."""


def measured_on(drawn: CapacityMap, fixed: Mapping[str, float], outcomes: Sequence[Outcome]) -> list[MeasuredPoint]:
    """Give the compositions of a campaign that lie in a map, one point for each condition they were measured under.

    Args:
        drawn: the map; its balancing metal may have any amount.
        fixed: amounts of other elements that were held.
        outcomes: of the campaign.
    """
    held = {**_USUAL, **fixed}
    points = []
    for outcome in outcomes:
        amounts = outcome.cells.composition.amounts()
        free = {drawn.x_symbol, drawn.y_symbol, drawn.balance, "O"}
        others = ({*amounts} | {*held}) - free
        if any(abs(amounts.get(s, 0.0) - held.get(s, 0.0)) > SAME_AMOUNT for s in others):
            continue
        x, y = amounts.get(drawn.x_symbol, 0.0), amounts.get(drawn.y_symbol, 0.0)
        points += [
            MeasuredPoint(x, y, found.mean, at, outcome.proposal.proposal_id)
            for at in drawn.conditions
            if (found := outcome.cells.capacity(at)) is not None
        ]
    return points
