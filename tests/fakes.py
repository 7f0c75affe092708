"""Stand-ins with closed forms, where a test needs to know the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drxnet.checkpoint import ModelCard
from drxnet.composition import MODEL_METALS
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Compositions, Encoded
from drxnet.errors import CompositionError

# What a mole of each of the 14 metals adds to the capacity (mAh/g) and to the loss at high rates; invented, fixed.
_CAPACITY = (90.0, -120.0, -150.0, 20.0, 150.0, 180.0, 170.0, 90.0, 110.0, 60.0, -60.0, -40.0, 70.0, -80.0)
_SLOWNESS = (0.0, 0.2, 0.4, 0.5, 0.2, -0.3, 0.3, 0.4, 0.3, 0.3, 0.1, 0.0, 0.2, 0.4)
_REFERENCE_CURRENT = 20.0
_FADE_PER_CYCLE = 0.01


@dataclass(frozen=True)
class FakeEncoded(Encoded):
    """Remembers what was encoded."""

    amounts: Amounts


class FakeEnsemble:
    """An ensemble whose profiles are straight lines, with the interface of :class:`drxnet.ensemble.Ensemble`.

    Member i predicts ``Q(V) = Q0 (1 + spread_i n) (I / 20)^-k (1 - 0.01 (cycle - 1)) (V_high - V) / (V_high - V_low)``
    with ``Q0 = max(0, 100 + sum of c_e n_e - 60 F)`` mAh/g, ``k = softplus(sum of k_e n_e + drift_i n) / 8`` and n the
    amount of all metals but Mn. Members agree on Li-Mn-O-F and disagree elsewhere.
    """

    def __init__(
        self,
        members: int = 2,
        *,
        spread: float = 0.4,
        dtype: torch.dtype = torch.float64,
        dead: Sequence[int] = (),
    ) -> None:
        """Build members.

        Args:
            members: how many.
            spread: relative difference between the first and the last member per mole of metals but Mn.
            dtype: of results.
            dead: members that predict no capacity at all for whatever holds Nb.
        """
        steps = np.linspace(-0.5, 0.5, members) if members > 1 else np.zeros(1)
        self.spread, self.dead = spread, tuple(dead)
        self._steps = steps
        self.dtype, self.device = dtype, torch.device("cpu")
        self.path: Path | None = None
        self.card = ModelCard(name="fake", members=members, weights_sha256=f"fa4e{members:08d}{spread:g}")

    @property
    def members(self) -> int:
        return len(self._steps)

    @property
    def model_id(self) -> str:
        return self.card.model_id

    def subset(self, members: Sequence[int]) -> FakeEnsemble:
        twin = FakeEnsemble(len(members), spread=self.spread, dtype=self.dtype)
        twin._steps = self._steps[list(members)]
        twin.dead = tuple(new for new, old in enumerate(members) if old in self.dead)
        twin.card = replace(self.card, members=len(members), name=f"fake[{','.join(map(str, members))}]")
        return twin

    def capacity(self, compositions: Compositions, conditions: Sequence[CyclingConditions]) -> Tensor:
        full = self._full(_amounts(compositions))
        return torch.stack([self._at(full, c) for c in conditions], -1)

    def profiles(
        self, compositions: Compositions, conditions: Sequence[CyclingConditions], voltages: np.ndarray | Tensor
    ) -> Tensor:
        full = self._full(_amounts(compositions))
        grid = torch.as_tensor(np.asarray(voltages, float)).to(self.dtype)
        grid = grid.expand(len(conditions), grid.shape[-1])
        curves = [self._at(full, c).unsqueeze(-1) * _share(c, v) for c, v in zip(conditions, grid, strict=True)]
        return torch.stack(curves, 2)

    def predict(
        self,
        compositions: Compositions,
        conditions: CyclingConditions | Sequence[CyclingConditions],
        voltages: np.ndarray | Tensor,
    ) -> Tensor:
        amounts = _amounts(compositions)
        n = len(amounts)
        each = [conditions] * n if isinstance(conditions, CyclingConditions) else list(conditions)
        grid = torch.as_tensor(np.asarray(voltages, float)).to(self.dtype)
        grid = grid.expand(n, grid.shape[-1])
        full = self._full(amounts)
        rows = [
            self._at(tuple(part[:, i : i + 1] for part in full), c).unsqueeze(-1) * _share(c, grid[i])
            for i, c in enumerate(each)
        ]
        return torch.cat(rows, 1)

    def features(self, compositions: Compositions) -> Tensor:
        """Amounts of the 14 metals and F, turned a little further for each member; ``members x n x 32``."""
        amounts = _amounts(compositions)
        row = _by_metal(amounts).to(self.dtype)
        wide = torch.cat([row, amounts.fluorine.to(self.dtype).unsqueeze(-1)], -1)  # n x 15
        padded = torch.nn.functional.pad(wide, (0, 32 - wide.shape[-1]))
        return torch.stack(
            [torch.cos(0.2 * step) * padded + 0.2 * step * padded.roll(1, -1) for step in self._tensor()]
        )

    def encode(self, compositions: Compositions) -> FakeEncoded:
        amounts = _amounts(compositions)
        return FakeEncoded(self.features(amounts), amounts)

    def _tensor(self) -> Tensor:
        return torch.tensor(self._steps, dtype=self.dtype)

    def _full(self, amounts: Amounts) -> tuple[Tensor, Tensor]:
        """Capacity at 20 mA/g of cycle 1 and the exponent of the rate, ``members x n`` each."""
        metals = _by_metal(amounts).to(self.dtype)
        q0 = 100 + metals @ torch.tensor(_CAPACITY, dtype=self.dtype)
        q0 = torch.relu(q0 - 60 * amounts.fluorine.to(self.dtype))
        unfamiliar = metals[:, 1:].sum(-1) - metals[:, MODEL_METALS.index("Mn")]
        slow = metals @ torch.tensor(_SLOWNESS, dtype=self.dtype)
        step = self._tensor().unsqueeze(-1)
        q = q0 * torch.relu(1 + self.spread * step * unfamiliar)
        if self.dead:
            alive = torch.ones_like(q)
            alive[list(self.dead)] = (metals[:, MODEL_METALS.index("Nb")] == 0).to(self.dtype)
            q = q * alive
        return q, torch.nn.functional.softplus(slow + step * unfamiliar) / 8

    def _at(self, full: tuple[Tensor, ...], conditions: CyclingConditions) -> Tensor:
        q, exponent = full
        fade = max(0.0, 1 - _FADE_PER_CYCLE * (conditions.cycle - 1))
        return q * (conditions.current_ma_g / _REFERENCE_CURRENT) ** -exponent * fade


def _share(conditions: CyclingConditions, voltages: Tensor) -> Tensor:
    return ((conditions.v_high - voltages) / (conditions.v_high - conditions.v_low)).clamp(0, 1)


def _amounts(compositions: Compositions) -> Amounts:
    if isinstance(compositions, FakeEncoded):
        return compositions.amounts
    assert not isinstance(compositions, Encoded)
    return compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)


def _by_metal(amounts: Amounts) -> Tensor:
    unknown = [s for s in amounts.symbols if s not in MODEL_METALS]
    if unknown:
        raise CompositionError(f"No element vector for {', '.join(unknown)}.")
    zero = torch.zeros(len(amounts), dtype=amounts.cations.dtype)
    columns = {s: amounts.cations[:, i] for i, s in enumerate(amounts.symbols)}
    return torch.stack([columns.get(s, zero) for s in MODEL_METALS], -1)
