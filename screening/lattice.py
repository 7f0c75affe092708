"""A space as whole numbers: exact counting, ranking, unranking and walking, nothing generated and rejected.

In units of 1/D a composition has l lithium, f fluorine and n_e of each metal e in the average state z_e. With
M = sum n_e and W = sum (z_e - 1) n_e, site and charge balance read

    l = 2D - M,    f = 2D - W,

so lithium and fluorine are slack: a composition is its metals, and balance asks that M and W fall into two intervals.

A *cell* is a set of metals with one oxidation state each, except that at most one metal is a mixture of two
neighbouring states. Filling the redox ladder assigns each composition to exactly one cell, so the cells are disjoint
and each composition of elements is counted once however many assignments of species would be neutral. What is asked
of species (forbidden pairs, quotas, ...) keeps or drops whole cells. Cells whose metals have the same options (states,
amounts) share one *block*, a decision diagram over the amounts of its metals; the rank of a composition is the
position of its block, its cell and its path through the diagram, in this order.

The number of ways to complete a partial sum (M, W, quotas) with the remaining metals is tabulated by dynamic
programming; blocks with the same remaining metals share the table.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drxnet.composition import Composition
from drxnet.errors import CompositionError, ConfigurationError
from screening.candidates import LARGEST_COUNT, WALK_ROWS, CandidateList, Candidates
from screening.filters import Mixtures
from screening.space import CandidateSpace, load_space, parse_space
from screening.species import Species, fill_ladder


class Option(NamedTuple):
    """What one metal of a cell may do. Metals with equal options are interchangeable in counting."""

    mixed: bool
    """Whether it is strictly between two oxidation states; such an option comes first in a block."""

    lower: int
    upper: int
    """Oxidation states; equal unless mixed."""

    amounts: range
    """Allowed amounts in units of 1/D."""

    shares: tuple[tuple[bool, bool], ...]
    """For each quota on amounts, whether the lower and the upper state count."""


Block = tuple[Option, ...]
"""Options of the metals of a cell, sorted."""


class LatticeCell(NamedTuple):
    """Metals with one state each, but for at most one mixture."""

    columns: tuple[int, ...]
    """Metals as columns among the metals, in the order of the options of the block."""

    block: Block


class Lattice(Candidates):
    """Every composition of a space, counted, ordered and reachable by rank."""

    def __init__(self, space: CandidateSpace) -> None:
        """Count a space.

        Raises:
            ConfigurationError: the space is empty (the message names the constraint that emptied it) or holds more
                than 2^62 compositions.
        """
        self.space = space
        self.columns = ("Li", "F", *space.metals)
        self.denominator = space.denominator
        self.states = space.states
        self.fingerprint = space.fingerprint
        self.filters = space.filters
        self._tables = _Tables(space)
        members: dict[Block, list[tuple[int, ...]]] = {}
        for cell in _cells(space):
            members.setdefault(cell.block, []).append(cell.columns)
        counts = {block: self._tables.count(block) for block in sorted(members, key=_order)}
        self._blocks = [block for block, count in counts.items() if count]
        self._cells = [np.array(sorted(members[block])) for block in self._blocks]
        self._counts = [counts[block] for block in self._blocks]
        sizes = [count * len(cells) for count, cells in zip(self._counts, self._cells, strict=True)]
        self._base = list(itertools.accumulate(sizes, initial=0))
        self.count = self._base[-1]
        if self.count == 0:
            raise ConfigurationError(f"The space {space.name} is empty: {_what_empties(space)}.")
        if self.count > LARGEST_COUNT:
            raise ConfigurationError(
                f"The space {space.name} holds {self.count:,} compositions; ranks reach 2^62. Take a coarser step."
            )
        self._diagrams: dict[int, _Diagram] = {}
        self._kept: tuple[int, tuple[list[np.ndarray], np.ndarray]] | None = None
        self._dtype = np.int16 if 2 * self.denominator < 2**15 else np.int32

    def __reduce__(self) -> tuple[type[Lattice], tuple[CandidateSpace]]:
        """Travel as the space alone; counting it again is faster than sending the tables."""
        return Lattice, (self.space,)

    @property
    def cells(self) -> int:
        """Number of cells that hold a composition."""
        return sum(len(cells) for cells in self._cells)

    def unrank(self, ranks: np.ndarray | Sequence[int]) -> np.ndarray:
        """Rows of the given ranks, ``n x columns``, in units of 1/D.

        Raises:
            ConfigurationError: a rank below 0 or from ``count`` on.
        """
        ranks = np.asarray(ranks, dtype=np.int64)
        if ranks.size and not (0 <= ranks.min() and ranks.max() < self.count):
            raise ConfigurationError(f"Ranks run from 0 to {self.count - 1:,}. Got {ranks.min():,} to {ranks.max():,}.")
        rows = np.zeros((len(ranks), len(self.columns)), self._dtype)
        blocks = np.searchsorted(np.array(self._base), ranks, side="right") - 1
        order = np.argsort(blocks, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1) if len(order) else []:
            i = int(blocks[part[0]])
            cell, path = np.divmod(ranks[part] - self._base[i], self._counts[i])
            amounts, slack = self._diagram(i).unrank(path)
            rows[part[:, None], self._cells[i][cell] + 2] = amounts
            rows[part, :2] = slack
        return rows

    def rank(self, row: np.ndarray | Sequence[int]) -> int:
        """Rank of one row.

        Raises:
            CompositionError: it is not in the space; the message names the constraints.
        """
        units = np.asarray(row, dtype=np.int64)
        found = self._rank(units)
        if found is None:
            composition = self.compositions(units[None])[0]
            raise CompositionError(
                f"{composition} is not in the space {self.space.name}: {'; '.join(self.space.why_not(composition))}."
            )
        return found

    def _rank(self, units: np.ndarray) -> int | None:
        metals = units[2:]
        charge = np.array([4 * self.denominator - units[0] - units[1]])
        charges, missing = fill_ladder(self.metals, self.states, metals[None], charge)
        if missing[0] != 0 or units[0] + metals.sum() != 2 * self.denominator:
            return None
        cell = _cell(self.space, metals, charges[0])
        block = bisect.bisect_left(self._blocks, _order(cell.block), key=_order)
        if block == len(self._blocks) or self._blocks[block] != cell.block:
            return None
        place = np.flatnonzero((self._cells[block] == cell.columns).all(1))
        at = list(cell.columns)
        path = self._diagram(block).rank(np.stack([metals[at], charges[0][at] - metals[at]], 1))
        if path is None or not len(place):
            return None
        return self._base[block] + int(place[0]) * self._counts[block] + path

    def contains(self, units: np.ndarray) -> np.ndarray:
        """Which rows are in the space, ``n``; filters of species included."""
        units = np.asarray(units, dtype=np.int64)
        metals = units[:, 2:]
        inside = (units[:, 0] + metals.sum(1) == 2 * self.denominator) & (metals.sum(1) > 0)
        inside &= np.isin(units[:, 0], self.space.lithium_units) & np.isin(units[:, 1], self.space.fluorine_units)
        for column, metal in enumerate(self.metals):
            inside &= np.isin(metals[:, column], [0, *self.space.metal_units(metal)])
        elements = (metals > 0).sum(1)
        most = self.space.k_elements.max
        inside &= (elements >= self.space.k_elements.min) & (elements <= (len(self.metals) if most is None else most))
        places = np.flatnonzero(inside)
        total = 4 * self.denominator - units[places, 0] - units[places, 1]
        charges, missing = fill_ladder(self.metals, self.states, metals[places], total)
        places, charges = places[missing == 0], charges[missing == 0]
        inside[:] = False
        inside[places] = True
        if len(places) and self._asks_for_species:
            _, cations, fluorine = self.amounts(units[places])
            mixtures = Mixtures.of(self.states, cations, fluorine, charges / self.denominator)
            inside[places] = self._species_agree(mixtures)
        return inside

    @cached_property
    def _asks_for_species(self) -> bool:
        return bool(self.space.asks_for_species or self.space.amount_quotas or self.filters.active(of_species=True))

    def _species_agree(self, mixtures: Mixtures) -> np.ndarray:
        """Whether the species of each row satisfy the space, quotas on amounts and filters of species, ``n``."""
        present, member = np.unique(mixtures.metals > 0, axis=0, return_inverse=True)
        sets = [[s for s, there in zip(mixtures.species[1:], row, strict=True) if there] for row in present]
        agreed = np.array([not any(self.space.objections(held)) for held in sets])
        for mask in self.filters.refused(Mixtures.standing(sets), of_species=True).values():
            agreed &= ~mask
        inside = agreed[member.ravel()]
        for quota, amount in self.space.amount_quotas:
            held = mixtures.amounts @ mixtures.per_species(quota.holds)
            inside &= held >= amount.min - 1e-9
            inside &= held <= (2.0 if amount.max is None else amount.max) + 1e-9
        return inside

    def sample_cells(self, n: int, seed: int) -> np.ndarray:
        """Draw n ranks, the cells in turn and in random order, uniformly inside each; some may come twice.

        A cell is a set of metals in given states, so small chemistries are seen as often as large ones.
        """
        generator = np.random.default_rng(seed)
        cells = np.array([(b, c) for b, held in enumerate(self._cells) for c in range(len(held))])
        rounds = [generator.permutation(len(cells)) for _ in range(-(-n // len(cells)))]
        block, cell = cells[np.concatenate(rounds)[:n]].T
        counts = np.array(self._counts)[block]
        return np.array(self._base)[block] + cell * counts + generator.integers(0, counts)

    def why_not(self, composition: Composition) -> list[str]:
        """List the constraints that keep a composition out; empty when it belongs."""
        return self.space.why_not(composition)

    def between(self, start: int, stop: int) -> np.ndarray:
        """Rows of the ranks from one to before another, ``n x columns`` in units of 1/D, column-major."""
        rows = np.zeros((stop - start, len(self.columns)), self._dtype, order="F")
        done = 0
        i = bisect.bisect_right(self._base, start) - 1
        while done < len(rows):
            cell, path = divmod(start + done - self._base[i], self._counts[i])
            whole = min(len(rows) - done, self._counts[i] - path)
            piece = rows[done : done + whole]
            amounts, slack = self._expanded(i, path, path + whole)
            piece[:, :2] = slack
            for column, values in zip(self._cells[i][cell], amounts, strict=True):
                piece[:, column + 2] = values
            done += whole
            if start + done == self._base[i + 1]:
                i += 1
        return rows

    def _expanded(self, i: int, start: int, stop: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Amounts of part of a block; a small block is kept while its cells go by."""
        if self._counts[i] > WALK_ROWS:
            return self._diagram(i).expand(start, stop)
        if self._kept is None or self._kept[0] != i:
            self._kept = i, self._diagram(i).expand(0, self._counts[i])
        amounts, slack = self._kept[1]
        return [values[start:stop] for values in amounts], slack[start:stop]

    def _diagram(self, i: int) -> _Diagram:
        if i not in self._diagrams:
            self._diagrams[i] = _Diagram(self._tables, self._blocks[i])
        return self._diagrams[i]


# -- cells -----------------------------------------------------------------------------------------------


def _order(block: Block) -> tuple[tuple[int, ...], ...]:
    """Sort key of a block; ranges and booleans as numbers."""
    return tuple(
        (not o.mixed, o.lower, o.upper, o.amounts.start, o.amounts.stop, o.amounts.step, *itertools.chain(*o.shares))
        for o in block
    )


def _cells(space: CandidateSpace) -> Iterator[LatticeCell]:
    """Yield the cells of a space that satisfy what it and its filters ask of species."""
    options = _Options(space)
    column = {metal: i for i, metal in enumerate(space.metals)}
    for filling in _admitted(space):
        yield options.cell([column[m] for m in filling], list(filling.values()))


Filling = Mapping[str, tuple[int, int]]
"""Metals with their lower and upper state, equal unless mixed."""


def _admitted(space: CandidateSpace) -> list[Filling]:
    """Fillings whose species the space and its filters let stand side by side."""
    fillings = [f for f in _fillings(space) if not (space.asks_for_species and any(space.objections(_present(f))))]
    if not fillings or not space.filters.active(of_species=True):
        return fillings
    masks = space.filters.refused(Mixtures.standing([_present(f) for f in fillings]), of_species=True)
    refused = np.any(list(masks.values()), axis=0)
    return [f for f, no in zip(fillings, refused, strict=True) if not no]


def _fillings(space: CandidateSpace) -> Iterator[Filling]:
    """Yield every set of metals at every place of the redox ladder."""
    metals = space.metals
    highest = len(metals) if space.k_elements.max is None else min(space.k_elements.max, len(metals))
    for k in range(max(1, space.k_elements.min), highest + 1):
        for chosen in itertools.combinations(metals, k):
            filling = {m: (space.states[m][0],) * 2 for m in chosen}
            yield filling
            for couple in space.ladder:
                if couple.element in filling:
                    yield {**filling, couple.element: (couple.lower, couple.upper)}
                    filling = {**filling, couple.element: (couple.upper, couple.upper)}
                    yield filling


def _present(filling: Filling) -> list[Species]:
    return [Species(metal, z) for metal, states in filling.items() for z in sorted(set(states))]


def _cell(space: CandidateSpace, metals: np.ndarray, charges: np.ndarray) -> LatticeCell:
    """Cell of a composition with whole charges on its metals."""
    columns, states = tuple(np.flatnonzero(metals).tolist()), []
    for column in columns:
        listed, amount, charge = space.states[space.metals[column]], metals[column], charges[column]
        lower = max(z for z in listed if z * amount <= charge)
        states.append((lower, lower if lower * amount == charge else min(z for z in listed if z > lower)))
    return _Options(space).cell(columns, states)


class _Options:
    """Options of the metals of a space, built once each."""

    def __init__(self, space: CandidateSpace) -> None:
        self._space = space
        self._known: dict[tuple[int, tuple[int, int]], tuple[tuple[tuple[int, ...], ...], Option]] = {}

    def cell(self, columns: Sequence[int], states: Sequence[tuple[int, int]]) -> LatticeCell:
        """Sort metals by their options."""
        found = sorted((*self._option(c, s), c) for c, s in zip(columns, states, strict=True))
        return LatticeCell(tuple(c for *_, c in found), tuple(option for _, option, _ in found))

    def _option(self, column: int, states: tuple[int, int]) -> tuple[tuple[tuple[int, ...], ...], Option]:
        if (column, states) not in self._known:
            metal, (lower, upper) = self._space.metals[column], states
            low, high = Species(metal, lower), Species(metal, upper)
            shares = tuple((quota.holds(low), quota.holds(high)) for quota, _ in self._space.amount_quotas)
            option = Option(lower != upper, lower, upper, self._space.metal_units(metal), shares)
            self._known[column, states] = _order((option,)), option
        return self._known[column, states]


# -- counting --------------------------------------------------------------------------------------------


class _Tables:
    """Numbers of completions, shared by the blocks of a space."""

    def __init__(self, space: CandidateSpace) -> None:
        self.denominator = d = space.denominator
        widest = max((c.upper - c.lower for c in space.ladder), default=1)
        self._scale = 2 if space.amount_quotas and widest == 2 else 1
        """Quotas count in units of 1/(D scale), so that the upper state of a two-electron couple is whole."""
        lithium, fluorine = space.lithium_units, space.fluorine_units
        ends = [{2 * d - n for n in lithium}, {2 * d - n for n in fluorine}]
        ends += [set(amount.units(d * self._scale, 2 * d * self._scale)) for _, amount in space.amount_quotas]
        self.shape = tuple(max(end, default=0) + 1 for end in ends)
        allowed_ends = np.zeros(self.shape, np.int64)
        allowed_ends[np.ix_(*(sorted(end) for end in ends))] = 1
        self._completions: dict[Block, np.ndarray] = {(): allowed_ends}
        self._steps: dict[Option, np.ndarray] = {}

    def steps(self, option: Option) -> np.ndarray:
        """What each choice of a metal adds to M, W and the quotas, ``choices x (2 + quotas)``, by amount."""
        if option not in self._steps:
            amounts = np.array(option.amounts, dtype=np.int64)
            amounts = amounts[amounts < self.shape[0]]
            if option.mixed:
                width = option.upper - option.lower
                extra = [np.arange(1, width * a) for a in amounts]
                amounts = np.repeat(amounts, [len(e) for e in extra])
                raised = np.concatenate([*extra, np.zeros(0, np.int64)])
            else:
                width, raised = 1, np.zeros_like(amounts)
            columns = [amounts, (option.lower - 1) * amounts + raised]
            for low, high in option.shares:
                upper = raised * self._scale // width
                columns.append(low * (amounts * self._scale - upper) + high * upper)
            steps = np.stack(columns, 1).astype(np.int64)
            self._steps[option] = steps[(steps < self.shape).all(1)]
        return self._steps[option]

    def completions(self, block: Block) -> np.ndarray:
        """Ways to reach an allowed end from each partial sum with the metals of a block, of :attr:`shape`."""
        if block not in self._completions:
            after, steps = self._behind(block)
            table = np.zeros_like(after)
            for step in steps:
                here = tuple(slice(0, size - s) for size, s in zip(self.shape, step, strict=True))
                there = tuple(slice(s, None) for s in step)
                table[here] += after[there]
            self._completions[block] = table
        return self._completions[block]

    def count(self, block: Block) -> int:
        """Number of compositions of one cell of a block."""
        after, steps = self._behind(block)
        return int(after[tuple(steps.T)].sum())

    def _behind(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Completions behind the first metal of a block, and its choices, once their number can be counted."""
        after, steps = self.completions(block[1:]), self.steps(block[0])
        if float(after.max()) * len(steps) > LARGEST_COUNT:
            raise ConfigurationError("One set of metals may hold more than 2^62 compositions. Take a coarser step.")
        return after, steps


@dataclass(frozen=True)
class _Level:
    """The choices for one metal: edges from the partial sums before it to those after it, sorted by origin."""

    first: np.ndarray
    """Index of the first edge of each node, ``nodes + 1``."""

    steps: np.ndarray
    """What an edge adds to M and W, ``edges x 2``."""

    amounts: np.ndarray
    """Amount of the metal, ``edges``."""

    target: np.ndarray
    """Node of the next level, ``edges``."""

    paths: np.ndarray
    """Compositions through each edge from one node on, ``edges``."""

    before: np.ndarray
    """Paths of all edges before this one, ``edges + 1``."""

    def leaving(self, nodes: np.ndarray) -> np.ndarray:
        """Edges that leave the nodes, one node after the other."""
        first = self.first[nodes]
        fan = self.first[nodes + 1] - first
        ends = np.cumsum(fan, dtype=np.int32)
        edges = np.repeat(first - (ends - fan), fan)
        edges += np.arange(len(edges), dtype=np.int32)
        return edges


class _Diagram:
    """The amounts of one block as a layered graph: one path for each composition, in lexicographic order."""

    def __init__(self, tables: _Tables, block: Block) -> None:
        self.levels: list[_Level] = []
        sums = np.zeros((1, len(tables.shape)), np.int64)
        for i, option in enumerate(block):
            after = tables.completions(block[i + 1 :])
            steps = tables.steps(option)
            reached = sums[:, None] + steps[None]
            inside = (reached < tables.shape).all(-1)
            paths = np.where(inside, after[tuple(np.moveaxis(np.where(inside[..., None], reached, 0), -1, 0))], 0)
            origin, choice = np.nonzero(paths)
            keys = np.ravel_multi_index(tuple(reached[origin, choice].T), tables.shape)
            nodes, target = np.unique(keys, return_inverse=True)
            through = paths[origin, choice]
            self.levels.append(
                _Level(
                    np.searchsorted(origin, np.arange(len(sums) + 1)).astype(np.int32),
                    steps[choice, :2],
                    steps[choice, 0].astype(np.int16),
                    target.astype(np.int32),
                    through,
                    np.concatenate([[0], np.cumsum(through)]),
                )
            )
            sums = np.stack(np.unravel_index(nodes, tables.shape), 1)
        self._slack = (2 * tables.denominator - sums[:, :2]).astype(np.int16)

    def unrank(self, paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Amounts along the given paths, ``n x metals``, with lithium and fluorine, ``n x 2``."""
        left = paths.astype(np.int64)
        node = np.zeros(len(left), np.int64)
        amounts = np.empty((len(left), len(self.levels)), np.int16)
        for i, level in enumerate(self.levels):
            base = level.before[level.first[node]]
            edge = np.searchsorted(level.before, base + left, side="right") - 1
            left -= level.before[edge] - base
            amounts[:, i] = level.amounts[edge]
            node = level.target[edge]
        return amounts, self._slack[node]

    def rank(self, steps: np.ndarray) -> int | None:
        """Place of the path with the given steps, ``metals x 2``; None where there is none."""
        path, node = 0, 0
        for level, step in zip(self.levels, steps, strict=True):
            first, last = level.first[node], level.first[node + 1]
            same = np.flatnonzero((level.steps[first:last] == step).all(1))
            if not len(same):
                return None
            edge = first + same[0]
            path += int(level.before[edge] - level.before[first])
            node = level.target[edge]
        return path

    def expand(self, start: int, stop: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Amounts along all paths from ``start`` to ``stop``: one array per metal, and lithium and fluorine, ``n x 2``.

        Each level is written once: the amount of a prefix, repeated as often as there are ways to go on.
        """
        node = np.zeros(1, np.int32)
        offset = 0
        columns = []
        for level in self.levels[:-1]:
            edges = level.leaving(node)
            paths = level.paths[edges]
            ends = offset + np.cumsum(paths)
            low, high = np.searchsorted(ends, start, side="right"), np.searchsorted(ends - paths, stop, side="left")
            edges, paths, ends = edges[low:high], paths[low:high], ends[low:high]
            offset = int(ends[0] - paths[0])
            shown = np.minimum(ends, stop) - np.maximum(ends - paths, start)
            columns.append(np.repeat(level.amounts[edges], shown))
            node = level.target[edges]
        level = self.levels[-1]  # where every edge is one composition
        edges = level.leaving(node)[start - offset : stop - offset]
        columns.append(level.amounts[edges])
        return columns, self._slack[level.target[edges]]


# -- empty spaces ----------------------------------------------------------------------------------------


def _what_empties(space: CandidateSpace) -> str:
    """Name the constraint that leaves nothing: all are lifted, then put back one by one until none is left."""
    stated: dict[str, Any] = space.model_dump()
    lifted: dict[str, Any] = {
        "lithium": [space.step, 2],
        "fluorine": [0, 2],
        "k_elements": [1, None],
        "limits": {},
        "k_species": [0, None],
        "required": (),
        "excluded": (),
        "forbidden_pairs": (),
        "quotas": (),
        "filters": "none",
    }
    if _is_empty(parse_space({**stated, **lifted})):
        return f"no mixture of the listed species is neutral at step {space.step}, whatever the other constraints"
    put_back = ["species", "step"]
    for field in list(lifted):
        del lifted[field]
        if _is_empty(parse_space({**stated, **lifted})):
            others = f"{', '.join(put_back[:-1])} and {put_back[-1]}"
            return f"{field} leaves nothing of what {others} allow; widen {field} or one of those"
        if stated[field] not in ({}, (), None):
            put_back.append(field)
    return "its constraints exclude one another"


def _is_empty(space: CandidateSpace) -> bool:
    tables = _Tables(space)
    return not any(tables.count(cell.block) for cell in _cells(space))


def open_candidates(source: str | Path) -> Candidates:
    """Open a shipped space by name, a space YAML, or a CSV with a column of compositions."""
    if Path(source).suffix.lower() == ".csv":
        return CandidateList.read(source)
    return Lattice(load_space(source))
