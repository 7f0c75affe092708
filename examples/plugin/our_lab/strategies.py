"""A strategy: believe in luck."""

from __future__ import annotations

from screening.strategies.improving import UpperBound


class Bold(UpperBound):
    """Mean plus four standard deviations instead of two."""

    width = 4.0
