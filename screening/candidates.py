"""Where candidates come from: what a :class:`screening.lattice.Lattice` and a user's own list have in common.

A candidate is a row of whole numbers, in units of 1/D per formula unit, with one column for Li, one for F and one for
each metal; its rank is its place in a fixed order, from 0 to ``count - 1``.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from drxnet.composition import LEAST_METAL, Composition
from drxnet.errors import CompositionError, ConfigurationError, DRXWarning
from drxnet.formulas import CompositionTable, parse_formulas, write_formulas
from drxnet.names import nearest
from drxnet.text import table_rows, table_text
from screening.filters import LEAST_AMOUNT, Filters, Mixtures, Verdict, exceptions, hazard_notes
from screening.species import Reduction, Species, compatibility, fill_ladder, known_states, reactions_to_metal

WALK_ROWS = 1 << 16
"""Rows of one array that :meth:`Candidates.walk` yields, unless asked otherwise."""

LARGEST_COUNT = 1 << 62
"""Ranks are 64-bit integers."""


@dataclass(frozen=True)
class Acceptance:
    """Share of the candidates that pass the filters of amounts."""

    fraction: float
    error: float
    """Standard error of the fraction; 0 where every candidate was looked at."""

    refused: dict[str, float]
    """Share that each filter refuses, whatever the others do."""


class Candidates(ABC):
    """A finite, ordered set of compositions."""

    columns: tuple[str, ...]
    """What each column of a row holds: ``Li``, ``F``, then metals."""

    denominator: int
    """D: rows are in units of 1/D per formula unit."""

    count: int
    """How many there are, exactly."""

    fingerprint: str
    """Hash of what is in it and in which order."""

    states: Mapping[str, tuple[int, ...]]
    """Oxidation states of each metal of the columns, ascending."""

    filters: Filters
    """Thresholds for :meth:`refused`."""

    @abstractmethod
    def unrank(self, ranks: np.ndarray | Sequence[int]) -> np.ndarray:
        """Rows of the given ranks, ``n x columns``, in units of 1/D."""

    @abstractmethod
    def rank(self, row: np.ndarray | Sequence[int]) -> int:
        """Rank of one row.

        Raises:
            CompositionError: it is not among the candidates; the message says why.
        """

    @abstractmethod
    def between(self, start: int, stop: int) -> np.ndarray:
        """Rows of the ranks from one to before another, ``n x columns`` in units of 1/D; they may be changed."""

    def walk(self, start: int = 0, stop: int | None = None, chunk: int = WALK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the rows of ranks ``start`` to ``stop`` in order, ``chunk`` at a time.

        Yields:
            The rank of the first row, and at most ``chunk`` rows, ``n x columns`` in units of 1/D.
        """
        stop = self.count if stop is None else min(stop, self.count)
        for first in range(start, stop, chunk):
            yield first, self.between(first, min(first + chunk, stop))

    @abstractmethod
    def why_not(self, composition: Composition) -> list[str]:
        """List what keeps a composition out; empty when it is among the candidates."""

    @property
    def metals(self) -> tuple[str, ...]:
        """Metals of the columns after Li and F."""
        return self.columns[2:]

    def __len__(self) -> int:
        """Return the number of candidates."""
        return self.count

    def shards(self, n: int) -> list[tuple[int, int]]:
        """Cut all ranks into n consecutive ranges, as equal as whole numbers allow."""
        return [self.shard(i, n) for i in range(n)]

    def shard(self, i: int, n: int) -> tuple[int, int]:
        """First rank of the i-th of n shards, i from 0, and the rank after its last."""
        return self.count * i // n, self.count * (i + 1) // n

    def sample_ranks(self, n: int, seed: int, *, replace: bool = False) -> np.ndarray:
        """Draw n ranks uniformly; without replacement the first n places of a seeded permutation.

        Args:
            n: how many.
            seed: equal seeds give equal draws, and a longer draw begins with the shorter one.
            replace: whether one may be drawn twice.

        Raises:
            ConfigurationError: more than there are, without replacement.
        """
        if replace:
            return np.random.default_rng(seed).integers(0, self.count, n)
        if n > self.count:
            raise ConfigurationError(f"There are {self.count:,} candidates; {n:,} cannot be drawn without replacement.")
        return Permutation(self.count, seed)(np.arange(n))

    def sample(self, n: int, seed: int, *, replace: bool = False) -> np.ndarray:
        """Draw n candidates uniformly, ``n x columns`` in units of 1/D; arguments as for :meth:`sample_ranks`."""
        return self.unrank(self.sample_ranks(n, seed, replace=replace))

    def amounts(self, units: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Turn rows into amounts per formula unit.

        Returns:
            Symbols of the cations (Li first), their amounts ``n x symbols``, and F, ``n``.
        """
        units = np.asarray(units)
        cations = np.delete(units, 1, axis=1) / self.denominator
        return ("Li", *self.metals), cations, units[:, 1] / self.denominator

    def compositions(self, units: np.ndarray) -> list[Composition]:
        """Turn rows into compositions."""
        symbols, cations, fluorine = self.amounts(units)
        return [
            Composition.from_amounts(
                {**dict(zip(symbols, row, strict=True)), "O": 2 - f, "F": f}, nonstoichiometric=True
            )
            for row, f in zip(cations.tolist(), fluorine.tolist(), strict=True)
        ]

    def formulas(self, units: np.ndarray) -> list[str]:
        """Canonical formulas of rows; faster than :meth:`compositions` for writing many."""
        units, d = np.asarray(units), self.denominator
        symbols = ("Li", *self.metals, "O", "F")
        columns = [units[:, :1], units[:, 2:], 2 * d - units[:, 1:2], units[:, 1:2]]
        return write_formulas(symbols, np.concatenate(columns, 1), d)

    def mixtures(self, units: np.ndarray) -> Mixtures:
        """Turn rows into amounts of species, each metal in the states that filling the redox ladder gives it."""
        _, cations, fluorine = self.amounts(units)
        return Mixtures.of(self.states, cations, fluorine, self.charges(units) / self.denominator)

    def refused(self, units: np.ndarray) -> dict[str, np.ndarray]:
        """Which rows each filter refuses, ``n`` each, by name of the filter."""
        return self.filters.refused(self.mixtures(units), of_species=False)

    def keeps(self, units: np.ndarray) -> np.ndarray:
        """Which rows pass every filter, ``n``."""
        return ~np.any([*self.refused(units).values(), np.zeros(len(units), bool)], axis=0)

    def accepted(self, draws: int = 20_000, seed: int = 0) -> Acceptance:
        """Estimate the share of candidates that pass the filters from uniform draws; exact for a small set."""
        every = self.count <= draws
        units = self.unrank(np.arange(self.count) if every else self.sample_ranks(draws, seed, replace=True))
        masks = self.refused(units)
        kept = ~np.any([*masks.values(), np.zeros(len(units), bool)], axis=0)
        fraction = float(kept.mean())
        error = 0.0 if every else float(np.sqrt(max(fraction * (1 - fraction), 1 / draws) / draws))
        return Acceptance(fraction, error, {name: float(mask.mean()) for name, mask in masks.items()})

    def row(self, composition: Composition | str) -> np.ndarray:
        """Turn a composition into a row of units, ``columns``.

        Raises:
            CompositionError: an amount between two steps, or an element without a column.
        """
        composition = Composition.parse(composition)
        units = composition.units(self.denominator)
        strange = [s for s in composition.elements if s not in self.columns]
        if strange:
            raise CompositionError(f"{composition}: {', '.join(strange)} is not among the elements of the candidates.")
        return np.array([units.get(s, 0) for s in self.columns])

    def charges(self, units: np.ndarray) -> np.ndarray:
        """Charge on each metal in units of 1/D, by filling the redox ladder, ``n x metals``."""
        units = np.asarray(units, dtype=np.int64)
        total = 4 * self.denominator - units[:, 0] - units[:, 1]
        charges, _ = fill_ladder(self.metals, self.states, units[:, 2:], total)
        return charges


class CandidateList(Candidates):
    """A user's own compositions, in the order given, each once. Has every method of a lattice."""

    denominator = 10_000

    def __init__(self, compositions: Sequence[Composition | str], filters: Filters | None = None) -> None:
        """Collect compositions; later duplicates are dropped, and traces of metals left out of each.

        Raises:
            CompositionError: a formula that is not a disordered rocksalt.
            ConfigurationError: none at all.
        """
        checked = all(
            isinstance(c, Composition) for c in compositions
        )  # off by more than 5 % only where it was asked for
        table = parse_formulas([str(c) for c in compositions], nonstoichiometric=checked)
        self._collect(table, filters or Filters.none())

    def _collect(self, table: CompositionTable, filters: Filters) -> None:
        if not len(table):
            raise ConfigurationError("A list of candidates must hold at least one composition. Got none.")
        table = _without_traces(table)
        fluorine = np.rint(table.fluorine[:, None] * self.denominator).astype(np.int32)
        lithium, *metals = np.split(table.units().astype(np.int32), len(table.symbols), axis=1)
        rows = np.concatenate([lithium, fluorine, *metals], 1)
        self.columns = ("Li", "F", *table.symbols[1:])
        places: dict[bytes, int] = {}
        for place, key in enumerate(_keys(rows)):
            places.setdefault(key, place)
        self._rows = rows[list(places.values())]
        self._ranks = {key: rank for rank, key in enumerate(places)}
        self.states = {m: _states(m) for m in self.metals}
        self.count = len(self._rows)
        self.filters = filters
        content = hashlib.sha256(f"{self.columns} {filters.model_dump_json()}".encode())
        content.update(self._rows.astype("<i4").tobytes())
        self.fingerprint = content.hexdigest()[:16]

    def why_not(self, composition: Composition) -> list[str]:
        """Say that a composition is not in the list; empty when it is."""
        known = set(composition.elements) <= set(self.columns)
        listed = known and _keys(self.row(composition)[None])[0] in self._ranks
        return [] if listed else [f"{composition} is not in the list of candidates"]

    def refused(self, units: np.ndarray) -> dict[str, np.ndarray]:
        """Which rows each filter refuses, ``n`` each; in a list, filters of species act on rows too."""
        mixtures = self.mixtures(units)
        return {
            **self.filters.refused(mixtures, of_species=True),
            **self.filters.refused(mixtures, of_species=False),
        }

    @classmethod
    def read(cls, path: str | Path, filters: Filters | None = None) -> CandidateList:
        """Read the column ``composition`` (or ``formula``) of a CSV file.

        Raises:
            ConfigurationError: no such column, or no row.
            CompositionError: a formula that is not a disordered rocksalt; the message names the line.
        """
        lines = _listed_formulas(Path(path))
        table = parse_formulas([formula for _, formula in lines], lambda i: f"{path}, line {lines[i][0]}")
        listed = cls.__new__(cls)
        listed._collect(table, filters or Filters.none())
        return listed

    def unrank(self, ranks: np.ndarray | Sequence[int]) -> np.ndarray:
        """Rows of the given ranks, ``n x columns``, in units of 1/D."""
        return self._rows[np.asarray(ranks, dtype=np.int64)]

    def rank(self, row: np.ndarray | Sequence[int]) -> int:
        """Place of one row in the list.

        Raises:
            CompositionError: it is not in the list.
        """
        rows = np.asarray(row)[None]
        if (rank := self._ranks.get(_keys(rows)[0])) is None:
            raise CompositionError(f"{self.compositions(rows)[0]} is not in the list of candidates.")
        return rank

    def between(self, start: int, stop: int) -> np.ndarray:
        """Rows of the ranks from one to before another, ``n x columns`` in units of 1/D."""
        return self._rows[start:stop].copy()


def _listed_formulas(path: Path) -> list[tuple[int, str]]:
    """Number of the line and formula of every filled row of a list of candidates."""
    table = table_rows(table_text(path))
    header = [name.strip().lower() for name in next(table, (1, []))[1]]
    if not (names := [name for name in ("composition", "formula") if name in header]):
        raise ConfigurationError(
            f"{path}: a list of candidates has a column 'composition'. Got {', '.join(header) or 'no header'}. "
            + (f"Is {near!r} the one?" if (near := nearest("composition", header)) else "Name it so.")
        )
    column = header.index(names[0])
    formulas = [(line, "".join(row[column : column + 1]).strip()) for line, row in table]
    return [(place, formula) for place, formula in formulas if formula]


def _keys(rows: np.ndarray) -> list[bytes]:
    """What tells rows of whole numbers apart, ``n``."""
    packed = np.ascontiguousarray(rows, dtype=np.int32)
    width = packed.itemsize * packed.shape[1]
    whole = packed.tobytes()
    return [whole[place : place + width] for place in range(0, len(whole), width)]


def _without_traces(table: CompositionTable) -> CompositionTable:
    """Leave out traces of metals, with a warning."""
    metals = table.cations[:, 1:]
    traced = np.flatnonzero(((metals > 0) & (metals < LEAST_METAL)).any(1)).tolist()
    if not (first := next((c for c in map(table.composition, traced) if c.traces), None)):
        return table
    warnings.warn(
        f"{first} and {len(traced) - 1} more hold less than {LEAST_METAL:g} of a metal, which is left out.",
        DRXWarning,
        stacklevel=4,
    )
    cations = table.cations.copy()
    for row in traced:
        kept = dict(table.composition(row).without_traces().cations)
        cations[row] = [kept.get(symbol, 0.0) for symbol in table.symbols]
    held = np.flatnonzero(cations.any(0))
    symbols = tuple(table.symbols[i] for i in held)
    return CompositionTable(symbols, np.ascontiguousarray(cations[:, held]), table.fluorine)


def _states(metal: str) -> tuple[int, ...]:
    states = known_states(metal)
    if not states:
        raise ConfigurationError(f"No oxidation states of {metal} are known; it cannot be among the candidates.")
    return states


@dataclass(frozen=True)
class Explanation:
    """What can be said of one composition beside a set of candidates."""

    composition: Composition
    excluded_by: list[str]
    """Constraints that keep it out; empty for a candidate."""

    rank: int | None
    """None where it is not a candidate."""

    oxidation_states: dict[str, float]
    """Average oxidation state of each metal, the redox ladder filled."""

    species: dict[Species, float]
    """Amount of each species per formula unit, Li+ included."""

    surplus_charge: float
    """What is left over per formula unit when every metal is at the end of its states; 0 where it is neutral."""

    reactions: list[tuple[Species, Species, str]]
    """Pairs of species that may not stand side by side, and how surely: uncertain, unlikely, impossible."""

    reductions: list[Reduction]
    """Reactions to a metal that are downhill between the binary oxides of the species present."""

    verdicts: list[Verdict]
    """Every filter's value beside its threshold."""

    hazards: list[str]

    oxygen_redox: str
    """A sentence where a threshold is met only because oxygen gives electrons too; otherwise empty."""

    exceptions: Mapping[str, str]
    """Why the composition has been made although a filter refuses it, by name of the filter."""


def explain(candidates: Candidates, composition: Composition | str) -> Explanation:
    """Say whether a composition is a candidate or why not, with its charges and what every filter sees.

    Metals that the candidates do not hold take any state there are data for.
    """
    composition = Composition.parse(composition)
    reasons = candidates.why_not(composition)
    if not reasons:  # written with fewer decimals than the candidates have
        (composition,) = candidates.compositions(candidates.row(composition)[None])
    mixtures, charges, surplus = _filled(composition, candidates.states)
    present = {s: round(float(a), 6) for s, a in zip(mixtures.species, mixtures.amounts[0], strict=True) if a > 0}
    pairs = [(a, b, compatibility(a, b)) for a, b in itertools.combinations(present, 2)]
    return Explanation(
        composition,
        reasons,
        None if reasons else candidates.rank(candidates.row(composition)),
        {metal: round(charges[metal] / amount, 6) for metal, amount in composition.metals.items()},
        present,
        surplus,
        [pair for pair in pairs if pair[2] != "compatible"],
        reactions_to_metal(present),
        candidates.filters.verdicts(mixtures),
        hazard_notes(list(present)),
        candidates.filters.oxygen_note(mixtures),
        exceptions().get(composition, {}),
    )


def _filled(
    composition: Composition, states: Mapping[str, tuple[int, ...]]
) -> tuple[Mixtures, dict[str, float], float]:
    """Fill the redox ladder of one composition.

    Args:
        composition: whose metals may have any state where ``states`` name none.
        states: of metals, ascending.

    Returns:
        Its species, the charge on each metal, and what is left over with every metal at the end of its states.
    """
    metals = composition.metals
    known = {m: states.get(m) or _states(m) for m in metals}
    amounts = np.array([list(metals.values())])
    total = np.array([4 - composition.lithium - composition.fluorine])
    charges, missing = fill_ladder(list(metals), known, amounts, total)
    cations = np.concatenate([[[composition.lithium]], amounts], 1)
    mixtures = Mixtures.of(known, cations, np.array([composition.fluorine]), charges)
    surplus = 0.0 if abs(missing[0]) < LEAST_AMOUNT else float(-missing[0])
    return mixtures, dict(zip(metals, charges[0].tolist(), strict=True)), surplus


def cautions(candidates: Candidates, composition: Composition | str) -> list[str]:
    """Say what a chemist should know before making a candidate: metals that may form, capacity that rests on oxygen."""
    found = explain(candidates, composition)
    metals = [f"may turn to metal in argon: {reaction}" for reaction in found.reductions]
    return [*metals, *([found.oxygen_redox.rstrip(".")] if found.oxygen_redox else [])]


class Permutation:
    """A seeded shuffle of 0 ... count - 1 that needs no memory: call it with places to get what stands there.

    A balanced Feistel network over the smallest even number of bits that holds the count; images outside are sent
    through again until they fall inside (cycle walking: J. Black and P. Rogaway, CT-RSA 2002,
    doi:10.1007/3-540-45760-7_9). The rounds mix with the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014,
    doi:10.1145/2660193.2660195).
    """

    ROUNDS = 6

    def __init__(self, count: int, seed: int) -> None:
        if not 0 < count <= LARGEST_COUNT:
            raise ConfigurationError(f"A permutation holds from 1 to 2^62 ranks. Got {count:,}.")
        self.count = count
        self.half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
        self.keys = np.random.default_rng(seed).integers(0, 2**64, self.ROUNDS, dtype=np.uint64)

    def __call__(self, places: np.ndarray | Sequence[int]) -> np.ndarray:
        """Return the ranks at the given places, each at most ``count - 1``."""
        asked = np.asarray(places)
        if asked.size and not (0 <= asked.min() and asked.max() < self.count):
            raise ConfigurationError(f"Places run from 0 to {self.count - 1}. Got {asked.min()} to {asked.max()}.")
        ranks = self._encrypt(asked.astype(np.uint64))
        while (outside := ranks >= np.uint64(self.count)).any():
            ranks[outside] = self._encrypt(ranks[outside])
        return ranks.astype(np.int64)

    @cached_property
    def _mask(self) -> np.uint64:
        return (np.uint64(1) << self.half) - np.uint64(1)

    def _encrypt(self, words: np.ndarray) -> np.ndarray:
        left, right = words >> self.half, words & self._mask
        for key in self.keys:
            mixed = right + key
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
            left, right = right, left ^ (mixed & self._mask)
        return (left << self.half) | right
