"""Scorers for the benchmarks: one of a few multiplications, and one of the real network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOW_FLOOR_MAH_G = 50.0
"""Capacity at the low current below which a retention counts as 0."""


@dataclass
class Ripples:
    """A rugged closed form; costs next to nothing."""

    columns: int
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """Name and seed."""
        return f"ripples {self.columns} {self.seed}"

    def prepare(self) -> None:
        """Draw directions and phases."""
        generator = np.random.default_rng(self.seed)
        self._directions = generator.normal(size=(self.columns, 6)) / 8
        self._phases = generator.uniform(0, 6, 6)

    def score(self, units: np.ndarray) -> np.ndarray:
        """Sum of six waves."""
        return np.cos(units @ self._directions + self._phases).sum(1)


@dataclass
class Retention:
    """Rate retention Q(1000 mA/g) / Q(20 mA/g) of one member at cycle 1 in 1.5-4.8 V, clipped to [0, 1.05].

    0 where Q(20 mA/g) is below the floor; rejected where a capacity exceeds that of all lithium. With one member the
    lower bound over members is the value itself.
    """

    columns: tuple[str, ...]
    denominator: int
    model: str = "drxnet-2024"
    member: int = 0
    compiled: bool = True
    """Three times as fast after a minute of compiling."""

    @property
    def fingerprint(self) -> str:
        """Model and member."""
        return f"retention {self.model} {self.member}"

    def prepare(self) -> None:
        """Load the member."""
        import torch

        from drxnet.discharge import CyclingConditions
        from drxnet.ensemble import Ensemble

        torch.set_num_threads(1)
        member = Ensemble.load(self.model).subset([self.member])
        self._member = member.compiled() if self.compiled else member
        self._conditions = [CyclingConditions(20, 1.5, 4.8), CyclingConditions(1000, 1.5, 4.8)]

    def score(self, units: np.ndarray) -> np.ndarray:
        """Retention of each row, ``n``."""
        import torch

        from drxnet.composition import FARADAY_MAH_MOL
        from drxnet.elements import ATOMIC_MASS
        from drxnet.ensemble import Amounts

        units = np.asarray(units, dtype=float) / self.denominator
        cations, fluorine = np.delete(units, 1, axis=1), units[:, 1]
        symbols = ("Li", *self.columns[2:])
        amounts = Amounts(symbols, torch.from_numpy(cations), torch.from_numpy(fluorine))
        capacity = self._member.capacity(amounts, self._conditions)[0].double().numpy()
        low, high = capacity.T
        mass = cations @ np.array([ATOMIC_MASS[s] for s in symbols])
        mass += ATOMIC_MASS["O"] * (2 - fluorine) + ATOMIC_MASS["F"] * fluorine
        retention = np.clip(high / np.maximum(low, 1e-9), 0, 1.05)
        retention[low < LOW_FLOOR_MAH_G] = 0
        retention[(capacity > (FARADAY_MAH_MOL * cations[:, 0] / mass)[:, None]).any(1)] = -np.inf
        return retention
