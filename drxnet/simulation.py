"""Data sets drawn from a model: profiles as a laboratory would measure them if the model were the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from types import MappingProxyType

import numpy as np

from drxnet.composition import MODEL_METALS, Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import GRID_POINTS, CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import UsageError
from drxnet.process import FIELDS, Process, Value
from drxnet.progress import Progress, silent

CELL_NOISE = 0.01
"""Relative deviation of a cell's capacity, mostly from the weighing of its active mass."""

CELL_DISCHARGES = 6
"""Discharges kept of a simulated cell."""

_CHUNK = 512

PAPER_CURRENTS: Mapping[float, float] = MappingProxyType(
    {10: 3, 20: 50, 40: 4, 50: 4, 100: 8, 200: 8, 400: 5, 500: 4, 1000: 11, 2000: 2, 10000: 1}
)
PAPER_WINDOWS: Mapping[tuple[float, float], float] = MappingProxyType(
    {
        (1.5, 4.8): 70, (1.5, 4.6): 6, (1.5, 4.7): 3, (1.5, 4.5): 3, (1.5, 5.0): 4,
        (2.0, 4.8): 5, (2.0, 4.6): 3, (2.0, 4.4): 3, (1.7, 4.8): 1, (1.0, 4.8): 2,
    }
)  # fmt: skip


@dataclass(frozen=True)
class ConditionMix:
    """Which conditions a laboratory uses how often.

    The defaults follow what Zhong et al. (Joule 8, 2024) say of DRX-TD: most tests at 20 mA/g in 1.5-4.8 V for
    10 to 100 cycles, the others up to 10 A/g.
    """

    currents_ma_g: Mapping[float, float] = field(default_factory=lambda: PAPER_CURRENTS)
    """Weight of each current."""

    windows_v: Mapping[tuple[float, float], float] = field(default_factory=lambda: PAPER_WINDOWS)
    """Weight of each pair of cut-offs."""

    first_cycle_share: float = 0.3
    """Share of profiles that are first cycles; the others are spread evenly in the logarithm of the cycle."""

    last_cycle: int = 100

    def draw(self, count: int, rng: np.random.Generator) -> list[CyclingConditions]:
        """Draw conditions, each by itself."""
        currents, windows = list(self.currents_ma_g), list(self.windows_v)
        i = rng.choice(len(currents), count, p=_shares(self.currents_ma_g.values()))
        j = rng.choice(len(windows), count, p=_shares(self.windows_v.values()))
        later = np.exp(rng.uniform(np.log(2), np.log(self.last_cycle + 1), count)).astype(int)
        cycle = np.where(rng.random(count) < self.first_cycle_share, 1, np.maximum(later, 2))
        return [
            CyclingConditions(float(currents[a]), float(windows[b][0]), float(windows[b][1]), int(n))
            for a, b, n in zip(i, j, cycle, strict=True)
        ]

    def draw_cells(
        self, count: int, rng: np.random.Generator, *, discharges: int = CELL_DISCHARGES
    ) -> list[list[CyclingConditions]]:
        """Draw cells as laboratories cycle them: one current and one window, the first cycle and some later ones.

        Args:
            count: of cells.
            rng: of the draw.
            discharges: kept of each cell: cycle 1, the others spread evenly in the logarithm of the cycle.

        Returns:
            Conditions of each cell's discharges, in the order of their cycles.

        Raises:
            UsageError: more discharges than cycles, or none.
        """
        if not 1 <= discharges <= self.last_cycle:
            raise UsageError(
                f"Of {self.last_cycle} cycles of a cell 1 to {self.last_cycle} can be kept. Got {discharges}."
            )
        later = np.arange(2, self.last_cycle + 1)
        cells = []
        for cell in self.draw(count, rng):
            kept = rng.choice(later, discharges - 1, replace=False, p=_shares(np.log1p(1 / later)))
            cells.append([replace(cell, cycle=int(n)) for n in (1, *sorted(kept))])
        return cells


def _shares(weights: Iterable[float]) -> np.ndarray:
    w = np.array([float(x) for x in weights])
    return w / w.sum()


FARTHEST_LEAVES, WORST_WORD_LEAVES = 0.7, 0.75
"""What the value of a condition that lies farthest from the best one leaves of a capacity at 20 mA/g, and the worst
word."""

MORE_AT_HIGH_RATE = 0.5
"""How much more, as a power, a condition takes of a capacity at 1000 mA/g than at 20."""


@dataclass(frozen=True)
class ProcessLaw:
    """What a process leaves of a capacity in a simulated laboratory: a share for each condition, one times another.

    Of a number, the share falls with the square of the distance from the best of some levels, on the condition's own
    scale, to :data:`FARTHEST_LEAVES` at the farthest level. Of words, the best leaves everything, the worst
    :data:`WORST_WORD_LEAVES`, the others lie evenly between. What is not stated, or no level, leaves what is usual: the
    mean of the levels.
    """

    levels: Mapping[str, tuple[Value, ...]]
    """Of each condition, the best first."""

    @classmethod
    def drawn(cls, ways: Sequence[Process], seed: int) -> ProcessLaw:
        """Draw which level of each condition that the ways differ in is best, and the order of words."""
        rng, levels = np.random.default_rng([seed, 11]), {}
        for name in FIELDS:
            found = list(dict.fromkeys(v for way in ways if (v := way.get(name)) is not None))
            if len(found) > 1:
                levels[name] = tuple(found[i] for i in rng.permutation(len(found)))
        return cls(levels)

    def share(self, process: Process, current_ma_g: float = 20.0) -> float:
        """What is left of the capacity at a current, from 0 to 1."""
        left = math.prod(self._share(name, process.get(name)) for name in self.levels)
        more = MORE_AT_HIGH_RATE * math.log(max(current_ma_g, 1e-9) / 20.0) / math.log(50.0)
        return float(left ** (1 + min(max(more, 0.0), MORE_AT_HIGH_RATE)))

    def _share(self, name: str, value: Value | None) -> float:
        levels = self.levels[name]
        if value is None or (isinstance(value, str) and value not in levels):
            return sum(self._share(name, level) for level in levels) / len(levels)
        if isinstance(value, str):
            return 1 - (1 - WORST_WORD_LEAVES) * levels.index(value) / (len(levels) - 1)
        best, *others = (FIELDS[name].encoded(level)[0] for level in levels)
        apart = abs(FIELDS[name].encoded(value)[0] - best) / max(abs(other - best) for other in others)
        return max(1 - (1 - FARTHEST_LEAVES) * apart**2, 0.05)


OXIDATION_STATES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Mg": (2, 2), "Al": (3, 3), "Ti": (4, 4), "V": (3, 5), "Cr": (3, 3), "Mn": (2, 4), "Fe": (3, 3), "Co": (2, 3),
        "Ni": (2, 3), "Zr": (4, 4), "Nb": (5, 5), "Mo": (3, 6), "W": (6, 6),
    }
)  # fmt: skip
"""Lowest and highest oxidation state of each metal in a disordered rocksalt as synthesised."""


@dataclass(frozen=True)
class ChemicalFamily:
    """Charge-balanced compositions Li-M-O-F of some metals."""

    metals: tuple[str, ...]
    """Metals to choose from."""

    count: tuple[int, int]
    """Fewest and most different metals."""

    always: tuple[str, ...] = ()
    """Metals that every composition holds."""

    lithium: tuple[float, float] = (1.0, 1.35)
    """Range of Li per formula unit."""

    fluorine: tuple[float, float] = (0.0, 0.0)
    """Range of F per formula unit; half of the compositions of a range from 0 are oxides."""

    least: float = 0.03
    """Smallest amount of a metal per formula unit."""

    evenness: float = 1.5
    """Of the Dirichlet distribution of the metals' shares; larger is more even."""

    def draw(self, count: int, rng: np.random.Generator) -> list[Composition]:
        """Draw different compositions whose charges can be balanced with :data:`OXIDATION_STATES`.

        Raises:
            UsageError: the family is so narrow that they cannot be found.
        """
        found: dict[Composition, None] = {}
        for _ in range(_MOST_TRIES * count):
            if (composition := self._try(rng)) is not None:
                found[composition] = None
            if len(found) == count:
                return list(found)
        raise UsageError(
            f"Only {len(found)} of {count} charge-balanced compositions of {'-'.join(self.metals)} found; "
            "widen the ranges or ask for fewer."
        )

    @property
    def most(self) -> int:
        """Compositions that can surely be drawn at once; one metal leaves few."""
        return 100 if len(self.metals) == 1 else 10_000

    def of(self, known: Container[str]) -> ChemicalFamily | None:
        """Keep the known metals; None when too few are left."""
        metals = tuple(m for m in self.metals if m in known)
        if len(metals) < self.count[0] or any(m not in known for m in self.always):
            return None
        return replace(self, metals=metals)

    def _try(self, rng: np.random.Generator) -> Composition | None:
        metals = self._choose_metals(rng)
        lithium = _hundredths(rng.uniform(*self.lithium))
        oxide = self.fluorine[0] == 0 and rng.random() < 0.5
        fluorine = 0.0 if oxide else _hundredths(rng.uniform(*self.fluorine))
        amounts = rng.dirichlet(np.full(len(metals), self.evenness)) * (2 - lithium)
        amounts = np.round(amounts / _STEP) * _STEP
        amounts[0] += 2 - lithium - amounts.sum()
        low, high = (sum(OXIDATION_STATES[m][end] * a for m, a in zip(metals, amounts, strict=True)) for end in (0, 1))
        needed = 4 - fluorine - lithium
        balanced = low - _CHARGE_TOLERANCE <= needed <= high + _CHARGE_TOLERANCE
        if amounts.min() < self.least or not balanced:
            return None
        written = {"Li": lithium, **dict(zip(metals, amounts.tolist(), strict=True))}
        return Composition.from_amounts({**written, "O": 2 - fluorine, "F": fluorine})

    def _choose_metals(self, rng: np.random.Generator) -> list[str]:
        others = [m for m in self.metals if m not in self.always]
        wanted = min(int(rng.integers(self.count[0], self.count[1] + 1)) - len(self.always), len(others))
        return [*self.always, *(rng.choice(others, wanted, replace=False).tolist() if wanted > 0 else ())]


_MOST_TRIES = 2000
_MOST_DRAWN = 40
_FAMILY_CHUNK = 400
_STEP = 0.01
_CHARGE_TOLERANCE = 0.02


def _hundredths(amount: float) -> float:
    return round(amount / _STEP) * _STEP


OXYFLUORIDE = (0.0, 0.6)
DRX_FAMILIES: Mapping[str, tuple[float, ChemicalFamily]] = MappingProxyType(
    {
        "Li-Mn-O-F": (6, ChemicalFamily(("Mn",), (1, 1), lithium=(1.0, 1.4), fluorine=(0, 0.75))),
        "Mn-Ti": (7, ChemicalFamily(("Mn", "Ti"), (2, 2), ("Mn", "Ti"), fluorine=OXYFLUORIDE)),
        "Mn-Nb": (7, ChemicalFamily(("Mn", "Nb"), (2, 2), ("Mn", "Nb"), fluorine=OXYFLUORIDE)),
        "Mn-V": (5, ChemicalFamily(("Mn", "V"), (2, 2), ("Mn", "V"), fluorine=OXYFLUORIDE)),
        "Cr-Mn-Ti": (10, ChemicalFamily(("Cr", "Mn", "Ti"), (2, 3), ("Cr",), fluorine=OXYFLUORIDE)),
        "Ni": (
            7,
            ChemicalFamily(("Ni", "Ti", "Mo", "Nb", "Mn", "Co", "W", "Zr"), (2, 3), ("Ni",), fluorine=OXYFLUORIDE),
        ),
        "Fe": (6, ChemicalFamily(("Fe", "Ti", "Nb", "Mn", "W", "Mo", "Al"), (2, 3), ("Fe",), fluorine=OXYFLUORIDE)),
        "Mg-substituted": (
            8,
            ChemicalFamily(("Mg", "Mn", "Ti", "Nb", "Cr", "V", "Al"), (2, 4), ("Mg", "Mn"), fluorine=OXYFLUORIDE),
        ),
        "d0 mixtures": (
            6,
            ChemicalFamily(("Mn", "V", "Cr", "Ti", "Nb", "Zr", "Mo", "W", "Al"), (2, 3), ("Mn",), fluorine=OXYFLUORIDE),
        ),
        "HE of Mn, Cr, V, Ti, Nb, Mg": (
            20,
            ChemicalFamily(("Mg", "Ti", "V", "Cr", "Mn", "Nb"), (4, 6), ("Ti",), fluorine=OXYFLUORIDE, evenness=3),
        ),
        "HE of all": (20, ChemicalFamily(MODEL_METALS[1:], (3, 7), fluorine=OXYFLUORIDE, evenness=3)),
    }
)
"""Weight and definition of the families of DRX-TD, the high-entropy ones more often than there."""

MOST_SPREAD_MAH_G = 25.0
"""Compositions on which members differ by more at 20 mA/g (population standard deviation) lie outside their domain."""


def draw_domain(
    ensemble: Ensemble,
    count: int,
    rng: np.random.Generator,
    *,
    forbidden: Callable[[Composition], bool] = lambda _: False,
    most_spread_mah_g: float = MOST_SPREAD_MAH_G,
) -> list[Composition]:
    """Draw different compositions on which the members agree, from :data:`DRX_FAMILIES` by their weights.

    Args:
        ensemble: whose domain is meant.
        count: how many, nearly; a family of which too few are found gives fewer.
        rng: of the draw.
        forbidden: compositions that must not be among them.
        most_spread_mah_g: of the members at 20 mA/g.

    Raises:
        UsageError: the ensemble knows the metals of none of the families, or agrees on none.
    """
    narrowed = [(weight, family.of(ensemble.card.elements)) for weight, family in DRX_FAMILIES.values()]
    families = [(weight, family) for weight, family in narrowed if family is not None]
    total = sum(weight for weight, _ in families)
    chosen: dict[Composition, None] = {}
    for weight, family in families:
        wanted = max(1, round(count * weight / total))
        drawn = _drawn(family, rng, chunk=min(_FAMILY_CHUNK, 2 * wanted + 20, family.most), most=_MOST_DRAWN * count)
        agreed = chain.from_iterable(_agreed(ensemble, some, most_spread_mah_g) for some in drawn)
        for composition in islice((c for c in agreed if c not in chosen and not forbidden(c)), wanted):
            chosen[composition] = None
    if not chosen:
        raise UsageError(f"{ensemble.card.name} agrees on no composition of the known families.")
    return [list(chosen)[i] for i in rng.permutation(len(chosen))]


def _drawn(family: ChemicalFamily, rng: np.random.Generator, *, chunk: int, most: int) -> Iterator[list[Composition]]:
    """Draw from a family, a chunk at a time, as long as there is call for it and no more than ``most`` are drawn."""
    drawn = 0
    while drawn < most:
        some = family.draw(chunk, rng)
        drawn += len(some)
        yield some


def _agreed(ensemble: Ensemble, compositions: Sequence[Composition], most_spread_mah_g: float) -> list[Composition]:
    """Compositions on which the members agree at 20 mA/g."""
    spread = ensemble.capacity(compositions, [CyclingConditions(20)]).numpy(force=True).std(0)[:, 0]
    return [c for c, sigma in zip(compositions, spread, strict=True) if sigma < most_spread_mah_g]


def simulate(
    ensemble: Ensemble,
    compositions: Sequence[Composition | str],
    conditions: Sequence[CyclingConditions],
    *,
    seed: int,
    noise: float = CELL_NOISE,
    cells: Sequence[int] | None = None,
    per_member: bool = False,
    law: ProcessLaw | None = None,
    points: int = GRID_POINTS,
    progress: Progress = silent,
) -> ProfileSet:
    """Draw one profile for each pair of a composition and conditions.

    Args:
        ensemble: the truth.
        compositions: one per profile.
        conditions: one per profile.
        seed: of the noise.
        noise: relative standard deviation of a cell; one factor for all that it delivers, as a wrong mass gives.
        cells: number of the cell that each profile is of; by default each is of a cell of its own.
        per_member: each member's own profiles (``M x P x K``) instead of their mean.
        law: what the processes of the conditions leave of the capacities; by default everything.
        points: voltages of a profile, both cut-offs among them.
        progress: told of profiles.

    Raises:
        UsageError: not one set of conditions, or not one cell, per composition.
    """
    n = len(compositions)
    cells = range(n) if cells is None else cells
    for what, given in (("set of conditions", conditions), ("cell", cells)):
        if len(given) != n or n == 0:
            raise UsageError(f"One {what} per composition. Got {len(given)} for {n}.")
    parsed = [Composition.parse(composition) for composition in compositions]
    voltage = np.stack([c.grid(points) for c in conditions])
    targets = _true_profiles(ensemble, parsed, conditions, voltage, progress)
    if not per_member:
        targets = targets.mean(1, keepdims=True)
    cell = np.unique(cells, return_inverse=True)[1]
    deviations = np.random.default_rng(seed).standard_normal((targets.shape[1], cell.max() + 1, 1))
    targets = (1 + noise * deviations[:, cell]) * targets
    if law is not None:
        targets = targets * np.array([law.share(c.process, c.current_ma_g) for c in conditions])[:, None]
    targets = targets if per_member else targets[:, 0]
    current, cycle, window = zip(*((c.current_ma_g, c.cycle, c.window) for c in conditions), strict=True)
    return ProfileSet(
        compositions=tuple(parsed),
        current_ma_g=np.array(current),
        cycle=np.array(cycle),
        window_v=np.array(window),
        voltage_v=voltage,
        capacity_mah_g=targets[0],
        dqdv_mah_g_v=targets[1],
        first_capacity_mah_g=targets[2],
        processes=tuple(c.process for c in conditions),
    )


def _true_profiles(
    ensemble: Ensemble,
    compositions: Sequence[Composition],
    conditions: Sequence[CyclingConditions],
    voltage: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    """Q, dQ/dV and Q at cycle 1 of every member, ``3 x M x P x K``."""
    n = len(compositions)
    truth = np.empty((3, ensemble.members, *voltage.shape))
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        some, under = compositions[part], conditions[part]
        at_first = [replace(c, cycle=1) for c in under]
        truth[0, :, part] = ensemble.predict(some, under, voltage[part]).numpy(force=True)
        truth[1, :, part] = ensemble.predict_dqdv(some, under, voltage[part]).numpy(force=True)
        truth[2, :, part] = ensemble.predict(some, at_first, voltage[part]).numpy(force=True)
        progress(min(start + _CHUNK, n), n)
    return truth
