"""The exact best of many candidates from scores that are nearly right and cheap, and few that are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ExactTop:
    """The best candidates and what it took."""

    rows: np.ndarray
    """The best first; equal scores by ascending row, ``k``."""

    scores: np.ndarray
    """Exact, ``k``."""

    rescored: int
    bound: float
    """Largest error of a cheap score that the result allows for; every error that was seen is smaller."""

    largest_error: float
    """That was seen."""


def exact_top(
    cheap: np.ndarray, exact: Callable[[np.ndarray], np.ndarray], keep: int, *, sample: int = 2048, safety: float = 3.0
) -> ExactTop:
    """Find the exact best of candidates whose cheap scores are known.

    With no error larger than e, whatever is cheaply below the keep-th best by more than 2 e is not among the best. The
    bound is ``safety`` times the largest error of a random sample, and grows to what the rescored show where that is
    more, until nothing new comes within reach.

    Args:
        cheap: scores of all, ``n``; -inf is taken as exact.
        exact: scores of the given rows.
        keep: how many are wanted.
        sample: rows whose error is measured first.
        safety: factor on it.
    """
    possible = np.flatnonzero(cheap > -np.inf)
    drawn = possible[np.random.default_rng(0).permutation(len(possible))[:sample]]
    known = dict(zip(drawn.tolist(), exact(drawn).tolist(), strict=True))
    largest = _largest_error(cheap, known)
    bound = safety * largest
    while True:
        values = cheap[possible]
        last = np.partition(values, len(values) - keep)[len(values) - keep] if len(values) > keep else -np.inf
        reach = possible[values >= last - 2 * bound]
        new = np.array([row for row in reach.tolist() if row not in known], dtype=np.int64)
        if len(new):
            known.update(zip(new.tolist(), exact(new).tolist(), strict=True))
            largest = max(largest, _largest_error(cheap, {row: known[row] for row in new.tolist()}))
        if largest <= bound:
            break
        bound = safety * largest
    rows = reach
    scores = np.array([known[row] for row in rows.tolist()])
    order = np.lexsort((rows, -scores))[:keep]
    return ExactTop(rows[order], scores[order], len(known), bound, largest)


def _largest_error(cheap: np.ndarray, known: dict[int, float]) -> float:
    return max((abs(cheap[row] - score) for row, score in known.items()), default=0.0)
