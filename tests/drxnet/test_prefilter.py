"""The exact best is found through cheap scores, whatever their errors are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drxnet.prefilter import exact_top


@given(seed=st.integers(0, 2**32 - 1), keep=st.integers(1, 60), error=st.sampled_from([0.0, 1e-3, 0.05, 0.5]))
@settings(max_examples=60, deadline=None)
def test_the_best_are_exactly_the_best(seed: int, keep: int, error: float) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=3000), 2)  # with ties
    cheap = scores + rng.uniform(-error, error, 3000)
    asked: list[int] = []

    def exact(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return scores[rows]

    found = exact_top(cheap, exact, keep, sample=200)
    assert found.rows.tolist() == np.lexsort((np.arange(3000), -scores))[:keep].tolist()
    assert found.scores.tolist() == scores[found.rows].tolist()
    assert found.rescored == len(asked) == len(set(asked))
    assert found.largest_error <= found.bound


def test_an_error_that_the_sample_missed_widens_the_bound() -> None:
    scores = np.linspace(0, 1, 5000)
    errors = 0.02 * np.sin(37 * np.arange(5000)) * scores**8  # small where a sample of one is likely to look
    found = exact_top(scores + errors, lambda rows: scores[rows], 10, sample=1)
    assert found.rows.tolist() == list(range(4999, 4989, -1))
    assert found.bound >= np.abs(errors[4990:]).max()


def test_few_are_scored_again_where_the_cheap_scores_are_good() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200_000)
    found = exact_top(scores + rng.normal(0, 1e-3, 200_000), lambda rows: scores[rows], 1000)
    assert found.rescored < 6000


def test_rejected_candidates_are_never_asked_for() -> None:
    cheap = np.array([-np.inf, 1.0, 2.0, -np.inf])

    def exact(rows: np.ndarray) -> np.ndarray:
        assert set(rows.tolist()) <= {1, 2}
        return cheap[rows]

    assert exact_top(cheap, exact, 5).rows.tolist() == [2, 1]
    assert exact_top(cheap[[0, 3]], exact, 5).rows.tolist() == []


def test_a_single_wrong_score_beyond_every_bound_is_not_proven() -> None:
    """The bound is measured, so the proof holds for errors like those that were seen, and says which."""
    scores = np.linspace(0, 1, 5000)
    cheap = scores.copy()
    cheap[4999] = -5.0
    found = exact_top(cheap, lambda rows: scores[rows], 1, sample=1)
    assert found.bound == pytest.approx(0.0)
    assert found.rows.tolist() == [4998]
