"""Simulated laboratories: what a campaign is rehearsed against, and what its spreads are tested on.

A :class:`Truth` says what a composition would give without scatter, as an ensemble of one member does, and how likely
its synthesis is to fail; :class:`Laboratory` adds what befalls powders and cells. Real laboratories are neither a
network nor independent of one: published DRX capacities lie 15-45 mAh/g from the published ensemble, which orders them
well all the same. The kinds (:data:`KINDS`) are *member* (one network of an ensemble), *field* (the mean of the
ensemble plus a smooth random field), *penalty* (the mean, where one pair of metals loses capacity and large mismatches
of size fail to form), *demanding* (the same, where half of what is usual fails) and *physics* (percolation, redox and
short-range order, no network at all).
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from drxnet.composition import FARADAY_MAH_MOL, MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.elements import ATOMIC_MASS
from drxnet.ensemble import Amounts, Encoded, Ensemble
from drxnet.errors import ConfigurationError
from drxnet.process import Process
from drxnet.simulation import ProcessLaw
from drxnet.uncertainty import rate_correlation, shipped_levels
from screening import synthesis
from screening.domain import FeatureScale, known_compositions

if TYPE_CHECKING:
    from campaigns.ledger.records import Proposal

FIELD_MAH_G = (25.0, 30.0)
"""Standard deviation of the random field at low and at high rate (mAh/g): about what separates published capacities of
other laboratories from the published ensemble."""

FIELD_CORRELATION = 0.6
"""Between the fields at the two rates."""

LOW_CURRENT_MA_G, HIGH_CURRENT_MA_G = 20.0, 1000.0
"""Currents at which the two fields are given; between them they mix with the logarithm of the current."""

FIELD_LENGTH = 0.5
"""Length scale of the field; 1 is the distance of a typical pair of known compositions."""

PENALTY_MAH_G = 60.0
"""What a composition with both metals of the dead pair loses (mAh/g), at every rate."""

PENALTY_FULL_AT = 0.05
"""Smaller amount of the two metals, per formula unit, from which the loss is whole."""

_FOURIER = 512
_LEAST_SHARE = 0.02
"""A field takes no more than all but this share of a capacity."""

_RELATIVE_NOISE = 0.03


class Truth(ABC):
    """What compositions give without scatter; answers as an :class:`~drxnet.ensemble.Ensemble` of one member."""

    kind: ClassVar[str]
    members: ClassVar[int] = 1

    def encode(self, compositions: Sequence[Composition | str] | Amounts) -> Known:
        """Remember compositions, for several questions about them."""
        amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)
        return Known(torch.zeros(1, len(amounts), 1, dtype=torch.float64), amounts)

    def capacity(self, compositions: Asked, conditions: Sequence[CyclingConditions]) -> Tensor:
        """Capacity at the lower cut-off under each of c conditions (mAh/g), ``1 x n x c``."""
        columns = [self.profiles(compositions, [c], [c.v_low])[..., 0, 0] for c in conditions]
        return torch.stack(columns, -1)

    @abstractmethod
    def profiles(self, compositions: Asked, conditions: Sequence[CyclingConditions], voltages: ArrayLike) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``1 x n x c x voltages``."""

    def failure(self, compositions: Sequence[Composition]) -> np.ndarray:
        """Probability that a synthesis of each composition does not give the phase, ``n``."""
        return np.zeros(len(compositions))


@dataclass(frozen=True)
class Known(Encoded):
    """Compositions that a truth was asked for."""

    amounts: Amounts


Asked = Sequence[Composition | str] | Amounts | Encoded


def _amounts_of(compositions: Asked) -> Amounts:
    if isinstance(compositions, Known):
        return compositions.amounts
    if isinstance(compositions, Amounts):
        return compositions
    assert not isinstance(compositions, Encoded), "encoded by something else than this truth"
    return Amounts.of(compositions)


@dataclass(frozen=True)
class MemberTruth(Truth):
    """The mean of an ensemble; with one member, that network."""

    kind: ClassVar[str] = "member"
    ensemble: Ensemble

    def profiles(self, compositions: Asked, conditions: Sequence[CyclingConditions], voltages: ArrayLike) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``1 x n x c x voltages``."""
        with torch.no_grad():
            told = self.ensemble.profiles(_amounts_of(compositions), list(conditions), voltages)
        return told.cpu().double().mean(0, keepdim=True)


@dataclass(frozen=True)
class ShiftedTruth(MemberTruth):
    """The mean of an ensemble whose capacities are shifted; the profile keeps its shape."""

    @abstractmethod
    def shift(self, amounts: Amounts, current_ma_g: float) -> np.ndarray:
        """What is added to the capacity of each composition at a current (mAh/g), ``n``."""

    def profiles(self, compositions: Asked, conditions: Sequence[CyclingConditions], voltages: ArrayLike) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``1 x n x c x voltages``."""
        amounts = _amounts_of(compositions)
        plain = super().profiles(amounts, conditions, voltages)
        with torch.no_grad():
            whole = self.ensemble.capacity(amounts, list(conditions)).cpu().double().mean(0)  # n x c
        shifts = np.stack([self.shift(amounts, c.current_ma_g) for c in conditions], -1)
        factor = ((whole + torch.from_numpy(shifts)) / whole.clamp_min(1.0)).clamp_min(_LEAST_SHARE)
        return plain * factor[None, :, :, None]


@dataclass(frozen=True)
class FieldTruth(ShiftedTruth):
    """The mean of an ensemble plus a smooth random field at each rate (random Fourier features of a normal kernel).

    Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NIPS 2007.
    """

    kind: ClassVar[str] = "field"
    seed: int = 0
    on: Literal["amounts", "features"] = "amounts"
    """What the field is smooth in: amounts of the elements, or the composition vectors that the members learned."""

    scale_mah_g: tuple[float, float] = FIELD_MAH_G
    correlation: float = FIELD_CORRELATION
    length: float = FIELD_LENGTH

    def shift(self, amounts: Amounts, current_ma_g: float) -> np.ndarray:
        """What is added to the capacity of each composition at a current (mAh/g), ``n``."""
        low, high = (self._waves @ (math.sqrt(2 / _FOURIER) * np.cos(self._angles(amounts)).T)) * self._scales
        at = _between_rates(current_ma_g)
        return np.asarray((1 - at) * low + at * high)

    @property
    def _scales(self) -> np.ndarray:
        return np.array(self.scale_mah_g)[:, None]

    def _angles(self, amounts: Amounts) -> np.ndarray:
        rows = self._rows(amounts) / (self.length * self._unit)
        rng = np.random.default_rng([self.seed, 1])
        frequency = rng.standard_normal((rows.shape[1], _FOURIER))
        return np.asarray(rows @ frequency + 2 * np.pi * rng.random(_FOURIER))

    def _rows(self, amounts: Amounts) -> np.ndarray:
        if self.on == "features":
            with torch.no_grad():
                return self._feature_scale(self.ensemble, amounts).numpy()
        return by_element(amounts)

    @cached_property
    def _waves(self) -> np.ndarray:
        """Weights of the waves for the low and the high rate, ``2 x waves``, correlated as stated."""
        first, second = np.random.default_rng([self.seed, 2]).standard_normal((2, _FOURIER))
        return np.stack([first, self.correlation * first + math.sqrt(1 - self.correlation**2) * second])

    @cached_property
    def _unit(self) -> float:
        if self.on == "features":
            return 1.0
        return float(np.sqrt(2 * by_element(Amounts.of(known_compositions())).var(0, ddof=1).sum()))

    @cached_property
    def _feature_scale(self) -> FeatureScale:
        return FeatureScale(self.ensemble)


@dataclass(frozen=True)
class PenaltyTruth(ShiftedTruth):
    """The mean of an ensemble, where one pair of metals is dead weight and large mismatches of size do not form."""

    kind: ClassVar[str] = "penalty"
    pair: tuple[str, str] = ("Ti", "Cr")
    loss_mah_g: float = PENALTY_MAH_G
    half_fail_at: float = 0.9
    """Quantile of the mismatch among known rocksalts at which half of the syntheses fail."""

    @classmethod
    def drawn(cls, ensemble: Ensemble, seed: int, metals: Sequence[str], half_fail_at: float = 0.9) -> PenaltyTruth:
        """Draw the pair, from all pairs of the metals that a space offers (at least two)."""
        pairs = list(combinations([m for m in metals if m not in ("Li", "F")], 2))
        pair = pairs[int(np.random.default_rng([seed, 3]).integers(len(pairs)))]
        return cls(ensemble, pair, half_fail_at=half_fail_at)

    def shift(self, amounts: Amounts, current_ma_g: float) -> np.ndarray:
        """What is added to the capacity of each composition (mAh/g), ``n``; the same at every current."""
        both = np.minimum(*(_amount(amounts, metal) for metal in self.pair))
        return np.asarray(-self.loss_mah_g * np.clip(both / PENALTY_FULL_AT, 0.0, 1.0))

    def failure(self, compositions: Sequence[Composition]) -> np.ndarray:
        """Probability that a synthesis fails, logistic in the mismatch of cation radii, ``n``.

        By default half fail where the mismatch is as large as that of the widest tenth of the known rocksalts.
        """
        half, width = _usual_mismatch(self.half_fail_at)
        return np.asarray(1 / (1 + np.exp(-(size_mismatch(compositions) - half) / width)))


@dataclass(frozen=True)
class MadeBy(Truth):
    """Another truth, for powders that are all made by one process."""

    kind: ClassVar[str] = "made by"
    truth: Truth | Ensemble
    law: ProcessLaw
    process: Process

    def profiles(self, compositions: Asked, conditions: Sequence[CyclingConditions], voltages: ArrayLike) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``members x n x c x voltages``."""
        with torch.no_grad():
            told = self.truth.profiles(_amounts_of(compositions), list(conditions), voltages)
        shares = [self.law.share(self.process, c.current_ma_g) for c in conditions]
        return told.cpu().double() * torch.tensor(shares, dtype=torch.float64)[:, None]


_ELECTRONS: Mapping[str, float] = MappingProxyType(
    {"Mn": 2.0, "Ni": 2.0, "V": 2.0, "Cr": 2.0, "Mo": 2.0, "Fe": 1.0, "Co": 1.0, "Ti": 0.0}
)
"""Electrons that a metal gives between 1.5 and 4.8 V, rounded from its common couples (Clement et al., Energy Environ.
Sci. 13, 345 (2020), doi:10.1039/c9ee02803j); d0 metals and those with closed shells give none."""

_ORDERING = ("Ti", "Zr", "Nb", "Mo", "W", "V", "Al")
"""Metals whose high charge gathers lithium-poor surroundings and so cuts paths of lithium (short-range order)."""


@dataclass(frozen=True)
class PhysicsTruth(Truth):
    """A capacity of percolating lithium, metal and some oxygen redox, and a rate that order slows; no network.

    Lithium beyond a threshold near 1.09 per formula unit percolates (Lee et al., Science 343, 519 (2014),
    doi:10.1126/science.1246432); short-range order raises the threshold and many metals lower it (Lun et al., Nat.
    Mater. 20, 214 (2021), doi:10.1038/s41563-020-00816-0); fluorine lowers the mean charge. The numbers are invented.
    """

    kind: ClassVar[str] = "physics"
    seed: int = 0
    """Draws how strong each effect is, within 15 %."""

    def profiles(self, compositions: Asked, conditions: Sequence[CyclingConditions], voltages: ArrayLike) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``1 x n x c x voltages``."""
        amounts = _amounts_of(compositions)
        full, slowness, middle = self._laws(amounts)
        grid = np.asarray(voltages, float)
        curves = []
        for c in conditions:
            at_rate = full / (1 + slowness * (c.current_ma_g / HIGH_CURRENT_MA_G) ** 0.7)
            faded = at_rate * np.exp(-0.004 * (c.cycle - 1))
            curves.append(faded[:, None] * _share_above(grid, c.v_low, c.v_high, middle[:, None]))
        return torch.from_numpy(np.stack(curves, 1))[None]

    def _laws(self, amounts: Amounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Capacity at vanishing rate (mAh/g), slowness at 1000 mA/g and middle of the profile (V), ``n`` each."""
        strength = 1 + 0.15 * np.random.default_rng([self.seed, 4]).uniform(-1, 1, 5)
        lithium, fluorine = _amount(amounts, "Li"), amounts.fluorine.double().numpy(force=True)
        metals = {m: _amount(amounts, m) for m in MODEL_METALS if m != "Li"}
        total = np.maximum(sum(metals.values(), np.zeros_like(lithium)), 1e-6)
        shares = np.stack([a / total for a in metals.values()])
        entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(0)
        order = strength[0] * sum((metals[m] for m in _ORDERING), np.zeros_like(lithium)) / total
        threshold = 1.03 + 0.22 * order - 0.06 * strength[1] * entropy - 0.10 * fluorine
        paths = 1 - np.exp(-np.maximum(lithium - threshold, 0.0) / (0.12 * strength[2]))
        electrons = sum((_ELECTRONS.get(m, 0.0) * a for m, a in metals.items()), np.zeros_like(lithium))
        oxygen = 0.35 * strength[3] * np.maximum(lithium - 1.0, 0.0) * (1 - fluorine)
        mass = sum((ATOMIC_MASS[m] * a for m, a in metals.items()), ATOMIC_MASS["Li"] * lithium)
        mass = mass + ATOMIC_MASS["F"] * fluorine + ATOMIC_MASS["O"] * (2 - fluorine)
        moved = np.minimum(lithium * (0.35 + 0.60 * paths), electrons + oxygen)
        slowness = 0.15 + 1.6 * strength[4] * (1 - paths) * (0.4 + order)
        middle = 2.9 + 0.4 * (metals["Ni"] + metals["Co"]) / total - 0.3 * (metals["Ti"] + metals["V"]) / total
        return FARADAY_MAH_MOL * moved / mass, slowness, middle


KINDS: Mapping[str, Callable[[Ensemble, int, Sequence[str]], Truth]] = MappingProxyType(
    {
        "member": lambda ensemble, seed, metals: MemberTruth(ensemble.subset([seed % ensemble.members])),
        "field": lambda ensemble, seed, metals: FieldTruth(ensemble, seed),
        "penalty": PenaltyTruth.drawn,
        "demanding": partial(PenaltyTruth.drawn, half_fail_at=0.5),
        "physics": lambda ensemble, seed, metals: PhysicsTruth(seed),
    }
)
"""Kinds of laboratories by name: from an ensemble, a seed and the metals of the space to a truth. A member plays alone:
leave it out of the model that it is to judge."""


# -- what befalls powders and cells ----------------------------------------------------------------------


@dataclass(frozen=True)
class LaboratoryOptions:
    """How a simulated laboratory differs from a perfect one."""

    noise: float = _RELATIVE_NOISE
    """Relative standard deviation of a cell's capacity: one factor for the whole profile, as a wrong mass gives."""

    failures: float = 0.1
    """Probability that a synthesis fails for no reason of its composition; it may be proposed again."""

    delays: float = 0.2
    """Probability that the cells of a composition come back one round late."""

    common_mass_error: float = 0.0
    """Relative standard deviation of one factor that all cells of the laboratory share, as a wrong balance gives."""

    one_rate: bool = False
    """Whether only cells at the low rate come back."""

    offset: float = 0.0
    """By how many times the published laboratories' standard deviation (:mod:`drxnet.uncertainty`) all capacities of
    this laboratory are shifted, one draw for each rate, correlated as there; 0 for one that is right on average."""

    def __post_init__(self) -> None:
        """Refuse values that are no probabilities."""
        for name in ("noise", "common_mass_error"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is relative, from 0 to below 1. Got {getattr(self, name)}.")
        if not self.offset >= 0:
            raise ConfigurationError(f"offset is a multiple of a standard deviation, from 0. Got {self.offset}.")
        for name in ("failures", "delays"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is a probability from 0 to below 1. Got {getattr(self, name)}.")


@dataclass(frozen=True)
class Laboratory:
    """A truth with hands. What befalls a composition in a round depends on the seed alone."""

    truth: Truth | Ensemble
    """What would be measured without scatter; of an ensemble, the mean over its members."""

    options: LaboratoryOptions = field(default_factory=LaboratoryOptions)
    seed: int = 0
    law: ProcessLaw | None = None
    """What the process of a proposal leaves of its capacities; without, everything."""

    def fails(self, proposal: Proposal) -> bool:
        """Whether this synthesis comes to nothing."""
        chance = self.options.failures
        if isinstance(self.truth, Truth):
            (own,) = self.truth.failure([Composition.parse(proposal.composition)])
            chance = 1 - (1 - chance) * (1 - own)
        return bool(self._chance(proposal, "synthesis").random() < chance)

    def is_late(self, proposal: Proposal) -> bool:
        """Whether its cells come back one round late."""
        return bool(self._chance(proposal, "cycler").random() < self.options.delays)

    @cached_property
    def mass_factor(self) -> float:
        """What all capacities of this laboratory are multiplied by."""
        drawn = 1 + self.options.common_mass_error * np.random.default_rng([self.seed, 5]).standard_normal()
        return float(max(drawn, 0.1))

    def shift_mah_g(self, current_ma_g: float) -> float:
        """What all capacities of this laboratory at a current are shifted by; between the rates as a field is."""
        if not self.options.offset:
            return 0.0
        together = np.linalg.cholesky(rate_correlation(np.array([LOW_CURRENT_MA_G, HIGH_CURRENT_MA_G])))
        drawn = together @ np.random.default_rng([self.seed, 7]).standard_normal(2)
        low, high = self.options.offset * shipped_levels().laboratory.laboratory_mah_g * drawn
        at = _between_rates(current_ma_g)
        return float((1 - at) * low + at * high)

    def shifted(self, capacity_mah_g: np.ndarray, current_ma_g: float) -> np.ndarray:
        """Capacities of equal shape as this laboratory finds them without scatter; some of each always stays."""
        return np.maximum(capacity_mah_g + self.shift_mah_g(current_ma_g), _LEAST_SHARE * capacity_mah_g)

    def scatter(self, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Factors by which measured capacities of single cells differ from the truth, ``shape``."""
        return np.asarray(self.mass_factor * np.maximum(1 + self.options.noise * rng.standard_normal(shape), 0.1))

    def measure(
        self, proposals: Sequence[Proposal], conditions: Sequence[CyclingConditions], cells: int
    ) -> list[dict[str, Any]]:
        """Make cells of each composition at each rate; the cycles of one rate come from the same cells.

        Returns:
            Rows for :meth:`campaigns.campaign.Campaign.add_measurements`.
        """
        if not proposals:
            return []
        currents = tuple(dict.fromkeys(c.current_ma_g for c in conditions))[: 1 if self.options.one_rate else None]
        made = [c for c in conditions if c.current_ma_g in currents]
        voltage = made[0].grid()
        compositions = [Composition.parse(p.composition) for p in proposals]
        truth = self.truth.profiles(compositions, made, voltage).double().numpy(force=True).mean(0)
        rows = []
        for proposal, composition, profiles in zip(proposals, compositions, truth, strict=True):
            rng = self._chance(proposal, "cells")
            most = composition.theoretical_capacity_mah_g
            for cell in range(cells * len(currents)):
                scatter, current = float(self.scatter(rng)), currents[cell // cells]
                for at, profile in zip(made, profiles, strict=True):
                    if at.current_ma_g != current:
                        continue
                    fallen = np.maximum(profile - profile[-1], 0)
                    whole = max(float(fallen[0]), 1e-9)
                    share = float(self.shifted(np.array(whole), current)) / whole
                    share *= 1.0 if self.law is None else self.law.share(proposal.process, current)
                    curve = np.minimum(fallen * share * scatter, most)
                    rows.append(
                        {
                            "proposal_id": proposal.proposal_id,
                            "cell": f"cell {cell + 1}",
                            "current_ma_g": current,
                            "cycle": at.cycle,
                            "capacity_mah_g": float(curve[0]),
                            "voltage_v": voltage,
                            "profile_mah_g": curve,
                        }
                    )
        return rows

    def _chance(self, proposal: Proposal, what: str) -> np.random.Generator:
        name = f"{proposal.composition} {proposal.round} {what}" + (f" {proposal.process}" if proposal.process else "")
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


# -- compositions as numbers -----------------------------------------------------------------------------


def by_element(amounts: Amounts) -> np.ndarray:
    """Amounts of the metals of the model other than lithium, and of F, ``n x (metals + 1)``."""
    columns = [_amount(amounts, metal) for metal in MODEL_METALS if metal != "Li"]
    return np.stack([*columns, amounts.fluorine.double().numpy(force=True)], 1)


def size_mismatch(compositions: Sequence[Composition]) -> np.ndarray:
    """Standard deviation of the cation radii over their mean, ``n`` (:func:`screening.synthesis.size_mismatch`)."""
    return synthesis.size_mismatch(Amounts.of(compositions)).numpy()


def _usual_mismatch(quantile: float) -> tuple[float, float]:
    known = size_mismatch(known_compositions())
    return float(np.quantile(known, quantile)), float(known.std() / 2)


def _between_rates(current_ma_g: float) -> float:
    """Share of what is given at the high rate in what holds at a current."""
    at = math.log(current_ma_g / LOW_CURRENT_MA_G) / math.log(HIGH_CURRENT_MA_G / LOW_CURRENT_MA_G)
    return min(max(at, 0.0), 1.0)


def _amount(amounts: Amounts, symbol: str) -> np.ndarray:
    if symbol not in amounts.symbols:
        return np.zeros(len(amounts))
    return amounts.cations[:, amounts.symbols.index(symbol)].double().numpy(force=True)


def _share_above(voltages: np.ndarray, v_low: float, v_high: float, middle: np.ndarray) -> np.ndarray:
    """Share of the capacity that is out when the voltage has fallen this far: 1 at V_low, 0 at V_high."""

    def sigmoid(v: np.ndarray | float) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp((np.asarray(v) - middle) / 0.45)))

    return np.clip((sigmoid(voltages) - sigmoid(v_high)) / (sigmoid(v_low) - sigmoid(v_high)), 0.0, 1.0)
