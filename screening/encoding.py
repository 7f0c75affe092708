"""The only border between compositions and rows of X.

A row holds the amounts per formula unit of the metals and of F, and what is stated of the process where that has
columns. Lithium and oxygen are what is left:
Li = 2 - sum of metals (every cation site is filled) and O = 2 - F. Charge balance is therefore an interval on the
metal amounts, not an equality to hit (see :meth:`Encoding.charge_balance`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drxnet.composition import LEAST_METAL, METALS_BY_NUMBER, Composition
from drxnet.ensemble import Amounts
from drxnet.errors import CompositionError, UsageError
from drxnet.process import FIELDS, NOT_STATED, ConditionField, Process, Value, encoded_processes

CATION_SITES = 2.0
"""Cations per formula unit, of which lithium takes what the metals leave."""

_ORDER = {symbol: i for i, symbol in enumerate(METALS_BY_NUMBER)}


def _names(field: ConditionField) -> tuple[str, ...]:
    values = tuple(f"{field.name}={word}" for word in field.words) or (field.name,)
    return (*values, f"{field.name} stated")


def _limits(field: ConditionField) -> list[tuple[float, float]]:
    if field.words:
        return [(0.0, 1.0)] * (field.width + 1)
    assert field.number is not None
    low, high = (field.encoded(max(end, 1e-9) if field.logarithmic else end)[0] for end in field.number)
    return [(low, high), (0.0, 1.0)]


LinearConstraint = tuple[Tensor, Tensor, float]
"""``(indices, coefficients, rhs)`` with ``sum(coefficients * x[indices]) >= rhs``, as BoTorch's optimisers take it."""


@dataclass(frozen=True)
class Encoding:
    """Columns of X: metals in the order of their atomic number, then F, then conditions of the process."""

    metals: tuple[str, ...]
    process: tuple[str, ...] = ()
    """Conditions of the process that have columns: what a model sees of the value, then 1 where it is stated. All are 0
    where it is not."""

    def __post_init__(self) -> None:
        """Put the metals into canonical order."""
        unknown = [s for s in self.metals if s == "Li" or s not in _ORDER]
        if unknown or len(set(self.metals)) != len(self.metals) or not self.metals:
            raise UsageError(
                "An encoding needs distinct metals other than Li, which is what they leave. "
                f"Got {', '.join(self.metals) or 'none'}."
            )
        object.__setattr__(self, "metals", tuple(sorted(self.metals, key=_ORDER.__getitem__)))

    @classmethod
    def of(cls, compositions: Sequence[Composition | str]) -> Encoding:
        """Build the narrowest encoding that holds all these compositions."""
        return cls(tuple({s for c in compositions for s in Composition.parse(c).metals}))

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each column of X: a symbol, or a condition of the process."""
        return (*self.metals, "F", *(name for field in self._fields for name in _names(field)))

    @property
    def d(self) -> int:
        """Width of X."""
        return len(self.metals) + 1 + sum(field.width + 1 for field in self._fields)

    @property
    def _fields(self) -> tuple[ConditionField, ...]:
        return tuple(FIELDS[name] for name in self.process)

    def encode(self, compositions: Sequence[Composition | str], processes: Sequence[Process] | None = None) -> Tensor:
        """Turn compositions into rows (float64, ``n x d``).

        Exact for compositions whose cations add up to 2; where a lab reports up to 5 % more or less, lithium takes
        the difference.

        Args:
            compositions: n compositions.
            processes: what is stated of each; by default nothing of any.

        Raises:
            CompositionError: a metal that has no column.
        """
        parsed = [Composition.parse(composition) for composition in compositions]
        for composition in parsed:
            if strange := next((symbol for symbol in composition.metals if symbol not in self.metals), None):
                raise CompositionError(
                    f"{composition}: {strange} has no column in this encoding ({', '.join(self.metals)}); "
                    "build it with Encoding.of from all compositions that it must hold."
                )
        amounts = Amounts.of(parsed).table(("Li", *self.metals))[:, 1:]
        stated = [NOT_STATED] * len(parsed) if processes is None else processes
        return torch.cat([amounts, self.encode_processes(stated)], 1)

    def encode_processes(self, processes: Sequence[Process]) -> Tensor:
        """Columns of what is stated of processes (float64), ``n x`` the columns behind F."""
        table, columns = encoded_processes(processes), []
        for field in self._fields:
            values = table.get(field.name, np.full((len(processes), field.width), np.nan))
            columns += [np.nan_to_num(values), np.isfinite(values[:, :1]).astype(float)]
        return torch.from_numpy(np.concatenate([np.zeros((len(processes), 0)), *columns], 1))

    def decode_processes(self, columns: Tensor) -> list[Process]:
        """Turn the columns behind F, ``n x``, back into what they state."""
        found: list[dict[str, Value]] = [{} for _ in range(len(columns))]
        start = 0
        for field in self._fields:
            part = columns[:, start : start + field.width + 1].detach().cpu().double()
            for row in (part[:, -1] > 0.5).nonzero().flatten().tolist():
                found[row][field.name] = field.decoded(part[row, :-1].tolist())
            start += field.width + 1
        return [Process.of(said) for said in found]

    def decode(self, x: Tensor) -> list[Composition]:
        """Turn rows (``n x d``) back into compositions."""
        return self.amounts(x.double()).compositions()

    def without_traces(self, x: Tensor) -> Tensor:
        """Leave out metals below :data:`drxnet.composition.LEAST_METAL`; the others make up for them in proportion.

        For the ``post_processing_func`` of BoTorch's optimisers: the network may be moved by a hundred mAh/g by a
        trace, and an optimiser of continuous amounts finds that.

        Args:
            x: ``... x d``.
        """
        metals, others = x[..., : len(self.metals)], x[..., len(self.metals) :]
        kept = torch.where(metals < LEAST_METAL, torch.zeros_like(metals), metals)
        rest = kept.sum(-1, keepdim=True)
        share = torch.where(rest > 0, metals.clamp_min(0).sum(-1, keepdim=True) / rest.clamp_min(1e-12), rest)
        return torch.cat([kept * share, others], -1)

    def amounts(self, x: Tensor) -> Amounts:
        """Amounts for the network, with lithium from the site balance; differentiable.

        Args:
            x: ``... x d``; leading axes are flattened.
        """
        flat = x.reshape(-1, self.d)
        metals = flat[:, : len(self.metals)]
        lithium = CATION_SITES - metals.sum(-1, keepdim=True)
        return Amounts(("Li", *self.metals), torch.cat([lithium, metals], -1), flat[:, len(self.metals)])

    def process_columns(self, x: Tensor) -> Tensor:
        """The columns behind F, ``... x d`` flattened to ``n x``."""
        return x.reshape(-1, self.d)[:, len(self.metals) + 1 :]

    def bounds(
        self,
        *,
        metal: Mapping[str, tuple[float, float]] | None = None,
        fluorine: tuple[float, float] = (0.0, 0.7),
    ) -> Tensor:
        """Lower and upper bounds of each column (``2 x d``), as BoTorch's optimisers take them.

        Args:
            metal: limits of single metals; others are limited by the cation sites alone.
            fluorine: limits of F.
        """
        limits = [(metal or {}).get(s, (0.0, CATION_SITES)) for s in self.metals]
        process = [limit for field in self._fields for limit in _limits(field)]
        return torch.tensor([*limits, fluorine, *process], dtype=torch.float64).T.contiguous()

    def lithium_limits(self, lithium: tuple[float, float]) -> list[LinearConstraint]:
        """Constraints on the metals that keep lithium within limits."""
        every = torch.arange(len(self.metals))
        ones = torch.ones(len(self.metals), dtype=torch.float64)
        return [(every, -ones, lithium[0] - CATION_SITES), (every, ones, CATION_SITES - lithium[1])]

    def charge_balance(self, oxidation_states: Mapping[str, tuple[float, float]]) -> list[LinearConstraint]:
        """Constraints under which some oxidation states within the given limits make the composition neutral.

        Li + sum z n = 4 - F with Li = 2 - sum n gives sum (z_min - 1) n + F <= 2 <= sum (z_max - 1) n + F.

        Args:
            oxidation_states: lowest and highest state of each metal.

        Raises:
            UsageError: a metal without limits.
        """
        missing = [s for s in self.metals if s not in oxidation_states]
        if missing:
            raise UsageError(f"Charge balance needs the oxidation states of every metal. Missing {', '.join(missing)}.")
        every = torch.arange(len(self.metals) + 1)
        lowest = torch.tensor([*(oxidation_states[s][0] - 1 for s in self.metals), 1.0], dtype=torch.float64)
        highest = torch.tensor([*(oxidation_states[s][1] - 1 for s in self.metals), 1.0], dtype=torch.float64)
        return [(every, -lowest, -2.0), (every, highest, 2.0)]
