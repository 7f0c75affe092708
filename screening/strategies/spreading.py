"""Strategies that follow no promise: a yardstick, and a first batch to learn from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from screening.strategies.base import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from screening.batch import Batch, Choice
    from screening.outlook import Outlook
    from screening.scoring import Rows

SOME_CHANCE = 0.1
"""Probability that all constraints hold, below which `space-filling` takes a candidate only when no other is left."""


class Random(Strategy):
    """Uniform."""

    blind: ClassVar[bool] = True

    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """Numbers in (0, 1) that depend on the row and the seed alone."""
        import torch

        return torch.from_numpy(uniform(rows.units, self.seed))

    def next(self, batch: Batch) -> Tensor:
        """The same numbers for every pick."""
        import torch

        return torch.rand(len(batch), generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)

    def why(self, pick: Choice) -> str:
        """Promise nothing more than the prediction."""
        return f"drawn at random; {pick.promise}"


class SpaceFilling(Random):
    """Farthest in learned features from all that was measured, is pending or picked; some chance of feasibility."""

    def next(self, batch: Batch) -> Tensor:
        """Distance to the nearest of them; without any, to what has been reported."""
        return batch.apart.where(batch.log_feasible >= math.log(SOME_CHANCE), batch.apart.new_tensor(-1.0))

    def why(self, pick: Choice) -> str:
        """Say that it is there to learn from."""
        return f"to learn, apart from the others ({pick.learned_distance:.2f} from the nearest known); {pick.promise}"


def uniform(units: np.ndarray, seed: int) -> np.ndarray:
    """Numbers in (0, 1) that depend on the row and the seed alone (SplitMix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = np.full(len(units), seed, np.uint64)
        for column in units.T:
            state = (state ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(float) / 2**53 + 2.0**-54
