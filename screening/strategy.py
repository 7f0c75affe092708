"""How a batch may be chosen, by name. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Strategy = Literal["logei", "qlognei", "qlognehvi", "ucb", "thompson", "greedy", "random", "space-filling"]

STRATEGIES: Mapping[Strategy, str] = {
    "logei": "expected improvement, each pick as if those before it had come out as predicted; of the hypervolume with "
    "several objectives",
    "qlognei": "noisy expected improvement of the batch as a whole; of its hypervolume with several objectives",
    "qlognehvi": "the same, under its name for several objectives",
    "ucb": "mean plus two standard deviations, each pick as if those before it had come out as predicted",
    "thompson": "each pick is the best candidate of one draw from the posterior",
    "greedy": "best predicted mean",
    "random": "uniform",
    "space-filling": "farthest in learned features from all that was measured, is pending or picked; some chance that "
    "the constraints hold",
}
"""What each strategy does."""
