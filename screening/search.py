"""Find the best of a space that nobody can walk, and decide whether it can be walked.

Best-first search with memory: a few neutral neighbours of the best candidates are scored in one batch, and so on until
the evaluations are spent; a candidate stays in the queue until none of its neighbours is new. Neighbours of the same
metals come first: they are few, and pay more often than those that change the set. Some of what is expanded is the best
of all, the rest the best of sets of metals whose turn it is, so that one chemistry does not take everything. The start
is a coarse grid inside the space, whole if it is small, otherwise a sample of it, half by cell and half at the corners;
the step of the moves begins at the coarse grid and is halved down to the step of the space. A few candidates of every
batch are drawn from the whole space, so nothing is out of reach.

Moves act on the metals; lithium is slack, and fluorine keeps its value where the metals can change their oxidation
state to allow it, else takes the nearest value that is neutral. They are: one unit more or less of a metal; one unit of
one metal for another; one unit of fluorine; two or three units for as many of others, sampled (among them the charge
neutral exchanges of a Graver basis such as 2 M3+ for M2+ and M4+, or 3 M4+ for M2+ and 2 M5+); a whole metal replaced
by one that is absent.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np

from drxnet.errors import ConfigurationError, UsageError
from drxnet.progress import Progress, silent
from screening.candidates import Candidates
from screening.enumerator import BATCH, Scorer, Shortlist, Statistics, speed, stream
from screening.lattice import Lattice
from screening.space import CandidateSpace

log = logging.getLogger(__name__)

Method = Literal["walk", "best-first", "evolution"]
METHODS: tuple[Method, ...] = ("walk", "best-first", "evolution")

START_SHARE = 0.2
"""Share of the evaluations spent on the start."""

COARSE_SHARE = 0.25
"""Share of what is left at each coarse step before it is halved."""

CORNER_POOL = 20_000
"""Candidates among which extreme ones are looked for."""

TELEPORT_SHARE = 0.02
"""Share of each batch drawn from the whole space."""

WIDTH = 8
"""Candidates expanded at a time."""

GREEDY = 3
"""How many of these are the best of all; the others are the best of the sets of metals whose turn it is."""

AT_ONCE = 12
"""New neighbours scored of a candidate before others have their turn."""

SAMPLED_MOVES = 10
"""Exchanges of two or three units tried from each candidate."""


@dataclass(frozen=True)
class Plan:
    """How a space will be looked through, and why."""

    method: Method
    evaluations: int
    """Candidates that will be scored, at most."""

    reason: str


def plan(
    candidates: Candidates,
    scorer: Scorer,
    *,
    time_budget_s: float,
    workers: int | None = 0,
    method: Method | Literal["auto"] = "auto",
    evaluations: int | None = None,
) -> Plan:
    """Decide between walking all candidates and searching among them, from their count and the measured speed.

    Args:
        candidates: of the run; a list is always walked.
        scorer: of the run; it is measured for about a second unless evaluations are given.
        time_budget_s: time the whole run may take.
        workers: processes a walk would have; 0 for this one.
        method: ``auto``, or what to do whatever the speed.
        evaluations: of a search; by default what fits into the time.
    """
    if method not in ("auto", *METHODS):
        raise UsageError(f"method is auto or one of {', '.join(METHODS)}. Got {method!r}.")
    if method == "walk" or not isinstance(candidates, Lattice):
        return Plan("walk", candidates.count, f"all {candidates.count:,} candidates, as asked")
    if method != "auto" and evaluations is not None:
        return Plan(method, evaluations, f"{method} search with {evaluations:,} evaluations, as asked")
    rate = speed(candidates, scorer)
    measured = f"{rate:,.0f} candidates/s per process"
    affordable = evaluations or max(1, int(rate * time_budget_s))
    if method != "auto":
        return Plan(method, affordable, f"{method} search with {affordable:,} evaluations at {measured}")
    processes = max(1, (os.cpu_count() or 1) if workers is None else workers)
    needed = candidates.count / (rate * processes)
    if needed <= time_budget_s:
        reason = f"all {candidates.count:,} candidates: about {needed:,.0f} s at {measured}"
        return Plan("walk", candidates.count, reason)
    return Plan(
        "best-first",
        affordable,
        f"best-first search with {affordable:,} evaluations at {measured}; walking all {candidates.count:,} would take "
        f"{needed:,.0f} s of {time_budget_s:,.0f} s",
    )


def shortlist(
    space: CandidateSpace | Candidates,
    scorer: Scorer,
    *,
    keep: int = 1000,
    time_budget_s: float = 600.0,
    workers: int | None = 0,
    method: Method | Literal["auto"] = "auto",
    evaluations: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    ray_address: str | None = None,
    progress: Progress = silent,
) -> Shortlist:
    """Find the best candidates: all are scored where the time allows, else they are searched.

    Args:
        space: a space, or candidates of any kind.
        scorer: says how good candidates are.
        keep: how many to return.
        time_budget_s: time the run may take, about.
        workers: processes of a walk; 0 for this one. A search runs in this one.
        method: ``auto``, ``walk``, ``best-first`` or ``evolution``.
        evaluations: of a search; by default what fits into the time.
        seed: of a search.
        folder: of a walk that can be resumed, see :func:`screening.enumerator.stream`.
        ray_address: of a walk, see :func:`screening.enumerator.stream`.
        progress: called with what is done and in all.

    Returns:
        The best; :attr:`Shortlist.how` says how they were found.
    """
    candidates = Lattice(space) if isinstance(space, CandidateSpace) else space
    chosen = plan(
        candidates, scorer, time_budget_s=time_budget_s, workers=workers, method=method, evaluations=evaluations
    )
    log.info("%s", chosen.reason)
    if chosen.method == "walk" or not isinstance(candidates, Lattice):
        found = stream(
            candidates,
            scorer,
            keep=keep,
            workers=workers,
            folder=folder,
            time_limit_s=None if method == "walk" else 2 * time_budget_s,
            ray_address=ray_address,
            progress=progress,
        )
    else:
        found = search(
            candidates,
            scorer,
            evaluations=chosen.evaluations,
            keep=keep,
            method=chosen.method,
            seed=seed,
            time_limit_s=time_budget_s,
            progress=progress,
        )
    return replace(found, how=chosen.reason)


def search(
    space: CandidateSpace | Lattice,
    scorer: Scorer,
    *,
    evaluations: int,
    keep: int = 1000,
    method: Method = "best-first",
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Progress = silent,
) -> Shortlist:
    """Look for the best candidates with a limited number of evaluations.

    Args:
        space: of any size.
        scorer: says how good candidates are; it is given batches of hundreds.
        evaluations: candidates to score; those that the filters refuse cost nothing.
        keep: how many to return.
        method: ``best-first``, or ``evolution`` as a second opinion.
        seed: of every random choice.
        time_limit_s: no batch is begun after this many seconds.
        progress: called with evaluations done and allowed.

    Raises:
        UsageError: fewer than one evaluation or result.
    """
    if method == "walk":
        raise UsageError("A search is best-first or evolution; to walk a space use stream or shortlist.")
    if evaluations < 1 or keep < 1:
        raise UsageError(f"A search needs at least 1 evaluation and 1 result. Got {evaluations} and {keep}.")
    lattice = Lattice(space) if isinstance(space, CandidateSpace) else space
    scorer.prepare()
    memory = _Memory(lattice, scorer, evaluations, time_limit_s, progress)
    generator = np.random.default_rng(seed)
    if evaluations >= lattice.count:
        for _, units in lattice.walk(chunk=BATCH):
            memory.look(units)
    elif method == "best-first":
        _best_first(memory, generator)
    else:
        _evolve(memory, generator)
    return memory.shortlist(keep)


class _Memory:
    """Everything that was scored, by row, and what is left of the budget."""

    def __init__(
        self, lattice: Lattice, scorer: Scorer, evaluations: int, time_limit_s: float | None, progress: Progress
    ) -> None:
        self.lattice = lattice
        self.scores: dict[bytes, float] = {}
        """Score by row; -inf where a filter refused it."""
        self.left = evaluations
        self.refused: dict[str, int] = {}
        self.rejected = 0
        self._scorer = scorer
        self._allowed = evaluations
        self._begun = time.monotonic()
        self._limit = time_limit_s
        self._progress = progress

    @property
    def spent(self) -> bool:
        """Whether the evaluations or the time are used up."""
        late = self._limit is not None and time.monotonic() - self._begun > self._limit
        return self.left <= 0 or late

    def new(self, units: np.ndarray) -> np.ndarray:
        """Rows that were not looked at before, each once."""
        units = np.ascontiguousarray(units, dtype=np.int32)
        fresh = {key: i for i, row in enumerate(units) if (key := row.tobytes()) not in self.scores}
        return units[list(fresh.values())]

    def look(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filter and score rows of the space that are new, as far as the budget goes; return them and their scores."""
        units = self.new(units)
        if not len(units):
            return units, np.zeros(0)
        masks = self.lattice.refused(units)
        kept = ~np.any([*masks.values(), np.zeros(len(units), bool)], axis=0)
        for name, mask in masks.items():
            self.refused[name] = self.refused.get(name, 0) + int(mask.sum())
        for row in units[~kept]:
            self.scores[row.tobytes()] = -np.inf
        units = units[kept][: self.left]
        scores = np.asarray(self._scorer.score(units), dtype=float) if len(units) else np.zeros(0)
        scores = np.where(np.isnan(scores), -np.inf, scores)
        self.rejected += int(np.isneginf(scores).sum())
        self.left -= len(units)
        for row, score in zip(units, scores.tolist(), strict=True):
            self.scores[row.tobytes()] = score
        self._progress(self._allowed - self.left, self._allowed)
        return units, scores

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows with a finite score, and the scores."""
        found = [(key, score) for key, score in self.scores.items() if score > -np.inf]
        width = len(self.lattice.columns)
        units = np.frombuffer(b"".join(key for key, _ in found), dtype=np.int32).reshape(len(found), width)
        return units, np.array([score for _, score in found])

    def shortlist(self, keep: int) -> Shortlist:
        """Return the best of what was scored."""
        units, scores = self.rows()
        best = np.argsort(-scores, kind="stable")[: 2 * keep]
        ranks = np.array([self.lattice.rank(row) for row in units[best]], dtype=np.int64)
        order = np.lexsort((ranks, -scores[best]))[:keep]
        ranks, best = ranks[order], best[order]
        evaluated = self._allowed - self.left
        seconds = time.monotonic() - self._begun
        statistics = Statistics(
            count=self.lattice.count,
            walked=len(self.scores),
            scored=evaluated,
            rejected=self.rejected,
            refused=self.refused,
            shards=1,
            shards_done=0 if evaluated < self.lattice.count else 1,
            shards_resumed=0,
            seconds=seconds,
            worker_seconds=seconds,
        )
        return Shortlist(ranks, scores[best], units[best], statistics)


# -- best-first ------------------------------------------------------------------------------------------


def _best_first(memory: _Memory, generator: np.random.Generator) -> None:
    steps = _start(memory, generator)
    moves = _Moves(memory.lattice, generator)
    for step in steps:
        reserve = 0 if step == 1 else int(memory.left * (1 - COARSE_SHARE))
        frontier = _Frontier(*memory.rows())
        while not memory.spent and memory.left > reserve:
            parents = frontier.take()
            around = []
            for parent in parents:
                fresh = memory.new(moves.around(parent[None], step))
                changed = ((fresh[:, 2:] > 0) != (parent[2:] > 0)).any(1)
                around.append(fresh[np.argsort(changed, kind="stable")][:AT_ONCE])
                if len(fresh) > AT_ONCE:
                    frontier.add(parent[None], np.array([memory.scores[parent.tobytes()]]))
            wanted = max(1, int(len(parents) * AT_ONCE * TELEPORT_SHARE)) if len(parents) else BATCH
            drawn = memory.lattice.sample(wanted, int(generator.integers(2**31)), replace=True)
            frontier.add(*memory.look(np.concatenate([*around, drawn])))


class _Frontier:
    """Scored candidates that may have new neighbours, by set of metals."""

    def __init__(self, units: np.ndarray, scores: np.ndarray) -> None:
        self._waiting: dict[bytes, list[tuple[float, bytes]]] = {}
        self._expanded: dict[bytes, int] = {}
        self._width = units.shape[1]
        self.add(units, scores)

    def add(self, units: np.ndarray, scores: np.ndarray) -> None:
        """Take in rows with a finite score."""
        for row, metals, score in zip(units, units[:, 2:] > 0, scores.tolist(), strict=True):
            if score > -np.inf:
                heapq.heappush(self._waiting.setdefault(metals.tobytes(), []), (-score, row.tobytes()))

    def take(self) -> np.ndarray:
        """Rows to expand: some the best of all, the rest the best of sets that were expanded little for their rank."""
        chosen = [row for _ in range(GREEDY) if (row := self._pop(min(self._open(), default=None))) is not None]
        in_turn = sorted(self._open())
        turns = [(place + self._expanded.get(metals, 0), place) for place, (_, _, metals) in enumerate(in_turn)]
        chosen += [row for _, place in heapq.nsmallest(WIDTH - GREEDY, turns) if (row := self._pop(in_turn[place]))]
        return np.frombuffer(b"".join(chosen), dtype=np.int32).reshape(len(chosen), self._width)

    def _open(self) -> list[tuple[float, bytes, bytes]]:
        """The best waiting row of each set of metals: negative score, row, metals."""
        return [(*waiting[0], metals) for metals, waiting in self._waiting.items() if waiting]

    def _pop(self, best: tuple[float, bytes, bytes] | None) -> bytes | None:
        if best is None:
            return None
        metals = best[2]
        self._expanded[metals] = self._expanded.get(metals, 0) + 1
        return heapq.heappop(self._waiting[metals])[1]


def _start(memory: _Memory, generator: np.random.Generator) -> list[int]:
    """Score the start; return the steps of the moves, coarse to fine, in units of the space."""
    lattice, budget = memory.lattice, max(1, int(memory.left * START_SHARE))
    coarse = _coarse_grid(lattice) or lattice
    factor = lattice.denominator // coarse.denominator
    if coarse.count <= budget:
        ranks = np.arange(coarse.count)
    else:
        by_cell = coarse.sample_cells(budget - budget // 2, int(generator.integers(2**31)))
        ranks = np.concatenate([by_cell, _corners(coarse, budget // 2, generator)])
    memory.look(coarse.unrank(ranks).astype(np.int64) * factor)
    return [factor, 1] if factor > 1 else [1]  # the smallest factor that there is, so a prime one


def _corners(lattice: Lattice, n: int, generator: np.random.Generator) -> np.ndarray:
    """Ranks of candidates that are extreme in random directions of composition, at most n; a uniform draw has few."""
    if lattice.count <= CORNER_POOL:
        pool = np.arange(lattice.count)
    else:
        pool = lattice.sample_ranks(CORNER_POOL, int(generator.integers(2**31)))
    units = lattice.unrank(pool).astype(np.float32)
    extreme: list[np.ndarray] = []
    for _ in range(0, n, 256):
        directions = generator.normal(size=(units.shape[1], min(256, n))).astype(np.float32)
        extreme.append((units @ directions).argmax(0))
    return pool[np.unique(np.concatenate([np.zeros(0, np.int64), *extreme]))][:n]


def _coarse_grid(lattice: Lattice) -> Lattice | None:
    """The grid of twice the step, or of its smallest multiple, that lies inside the space; None where there is none."""
    d = lattice.denominator
    for factor in (f for f in range(2, d) if d % f == 0):
        try:
            return Lattice(lattice.space.with_step(f"1/{d // factor}"))
        except ConfigurationError:  # a range or limit that holds no multiple of the coarser step
            continue
    return None


class _Moves:
    """Neutral neighbours of compositions of a space."""

    def __init__(self, lattice: Lattice, generator: np.random.Generator) -> None:
        self.lattice = lattice
        self.generator = generator

    @cached_property
    def _fixed(self) -> np.ndarray:
        """Moves tried from every candidate, ``moves x metals``.

        One unit more or less of a metal; one unit of one metal for another; and for two metals of different charge the
        smallest exchange that leaves fluorine as it is, lithium taking up the sites: 4 Mg2+ for Nb5+, 3 Cr3+ for 2
        Ti4+.
        """
        unit = np.eye(len(self.lattice.metals), dtype=np.int64)
        swaps = (unit[:, None] - unit[None]).reshape(-1, len(unit))
        listed = [(i, z - 1) for i, m in enumerate(self.lattice.metals) for z in self.lattice.states[m]]
        exchanges = [
            (b * unit[i] - a * unit[j]) // gcd(a, b)
            for (i, a), (j, b) in itertools.permutations(listed, 2)
            if i != j and a != b and a and b
        ]
        moves = np.concatenate([unit, -unit, swaps, np.array(exchanges, dtype=np.int64).reshape(-1, len(unit))])
        return np.unique(moves[(moves != 0).any(1)], axis=0)

    def around(self, parents: np.ndarray, step: int, sampled: int = SAMPLED_MOVES) -> np.ndarray:
        """Neighbours of p parents in the space, in random order, some twice, ``n x columns``."""
        parents = np.asarray(parents, dtype=np.int64)
        metals, fluorine = parents[:, 2:], parents[:, 1]
        exchanges = [self._exchanges(len(parents), sampled)] if len(self.lattice.metals) > 1 else []
        fixed = np.broadcast_to(self._fixed, (len(parents), *self._fixed.shape))
        change = step * np.concatenate([fixed, *exchanges], 1)
        moved = (metals[:, None] + change).reshape(-1, metals.shape[1])
        origin = np.repeat(fluorine, change.shape[1])
        replaced, from_parent = self._replacements(metals)
        unmoved = np.concatenate([metals, metals])
        up_and_down = np.concatenate([fluorine + step, fluorine - step])
        everything = np.concatenate([moved, replaced, unmoved])
        wanted = np.concatenate([origin, fluorine[from_parent], up_and_down])
        rows = self._balanced(everything, wanted)
        rows = rows[self.lattice.contains(rows)]
        return rows[self.generator.permutation(len(rows))]

    def _exchanges(self, parents: int, n: int) -> np.ndarray:
        """Two or three units for as many of other metals, ``parents x n x metals``."""
        metals = len(self.lattice.metals)
        change = np.zeros((parents * n, metals), dtype=np.int64)
        size = self.generator.integers(2, 4, len(change))
        every = np.arange(len(change))
        for turn in range(3):
            active = size > turn
            for sign in (1, -1):
                change[every, self.generator.integers(0, metals, len(change))] += sign * active
        return change.reshape(parents, n, metals)

    def _replacements(self, metals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every metal of every parent replaced by every absent one, and the parent of each, ``n``."""
        parent, gone, come = np.nonzero((metals[:, :, None] > 0) & (metals[:, None, :] == 0))
        rows = metals[parent]
        every = np.arange(len(rows))
        rows[every, come] = rows[every, gone]
        rows[every, gone] = 0
        return rows, parent

    def _balanced(self, metals: np.ndarray, fluorine: np.ndarray) -> np.ndarray:
        """Rows with lithium as slack and fluorine as near as can be to what is wanted, ``n x columns``."""
        d = self.lattice.denominator
        lithium = 2 * d - metals.sum(1)
        bounds = self.lattice.space.fluorine_units
        lowest, highest = (metals @ np.array([self.lattice.states[m][i] for m in self.lattice.metals]) for i in (0, -1))
        low = np.maximum(4 * d - lithium - highest, bounds[0])
        high = np.minimum(4 * d - lithium - lowest, bounds[-1])
        return np.concatenate([lithium[:, None], np.clip(fluorine, low, np.maximum(low, high))[:, None], metals], 1)


# -- evolution -------------------------------------------------------------------------------------------


POPULATION = 200


def _evolve(memory: _Memory, generator: np.random.Generator) -> None:
    """Keep the best; each generation recombines pairs of them and moves the children one to three times."""
    start = max(1, int(memory.left * START_SHARE))
    memory.look(memory.lattice.unrank(memory.lattice.sample_cells(start, int(generator.integers(2**31)))))
    moves = _Moves(memory.lattice, generator)
    while not memory.spent:
        units, scores = memory.rows()
        drawn = memory.lattice.sample(
            max(1, int(POPULATION * TELEPORT_SHARE)), int(generator.integers(2**31)), replace=True
        )
        if len(units) < 2:
            memory.look(memory.lattice.sample(POPULATION, int(generator.integers(2**31)), replace=True))
            continue
        elite = units[np.argsort(-scores, kind="stable")[:POPULATION]].astype(np.int64)
        mother, father = (elite[generator.integers(0, len(elite), POPULATION)] for _ in range(2))
        chosen = generator.random(mother.shape) < 0.5
        alone = generator.random(len(mother)) < 0.5
        children = np.where(chosen | alone[:, None], mother, father)
        for _ in range(int(generator.integers(1, 4))):
            unit = moves._fixed[generator.integers(0, len(moves._fixed), len(children))]
            exchange = moves._exchanges(len(children), 1)[:, 0]
            change = np.where(generator.random(len(children))[:, None] < 0.7, unit, exchange)
            fluorine = children[:, 1] + generator.integers(-1, 2, len(children))
            children = moves._balanced(np.maximum(children[:, 2:] + change, 0), fluorine)
        memory.look(np.concatenate([children[memory.lattice.contains(children)], drawn]))
