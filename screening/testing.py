"""Checks that whatever another package adds must pass; for its own tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from drxnet.composition import MODEL_METALS, Composition
from drxnet.ensemble import Amounts
from screening.batch import Batch, Limits
from screening.outlook import Outlook
from screening.scoring import Rows
from screening.strategies import Strategy


def check_strategy(strategy: type[Strategy], outlook: Outlook, candidates: Sequence[Composition]) -> None:
    """Check that a strategy can score a stream in any order and fill a batch.

    Args:
        strategy: its class.
        outlook: of any ensemble; measurements make the check stricter.
        candidates: at least eight, not among what is measured.
    """
    assert len(candidates) >= 8, "give at least eight candidates"
    table = _units(candidates)

    def score(places: Sequence[int]) -> np.ndarray:
        rows = Rows(outlook, Limits(), Amounts.of([candidates[i] for i in places]), table[list(places)])
        return np.asarray(strategy(3).score(outlook, rows))

    n = len(candidates)
    together = score(range(n))
    assert together.shape == (n,), f"score gives one value per row: expected {(n,)}, got {together.shape}"
    assert np.isfinite(together).all(), "scores are finite"
    np.testing.assert_array_equal(score(range(n)), together, err_msg="the same seed gives the same scores")
    apart = np.concatenate([score([i]) for i in range(n)])
    np.testing.assert_allclose(apart, together, rtol=1e-6, err_msg="a score does not depend on the rows beside it")
    np.testing.assert_allclose(score(range(n - 1, -1, -1)), together[::-1], rtol=1e-6, err_msg="nor on their order")

    batches = [Batch(candidates, outlook, (), Limits(), seed=3) for _ in range(2)]
    for turn in range(3):
        with torch.no_grad():
            values = [strategy(3).next(batch) for batch in batches]
        assert values[0].shape == (len(batches[0]),), "next gives one value per row of the batch"
        assert not values[0].isnan().any(), "a value may be -inf, never NaN"
        assert torch.equal(*values), "the same seed and batch give the same values"
        row = int(batches[0].allowed(strategy(3)).argmax())
        with torch.no_grad():
            picks = [batch.add(row) for batch in batches]
        assert len(batches[0].picked) == turn + 1, "a strategy leaves the batch as it is"
        assert strategy(3).why(picks[0]), "every pick has a reason"


def _units(compositions: Sequence[Composition]) -> np.ndarray:
    """Thousandths of lithium, fluorine and every metal of the model, as a lattice would have them."""
    amounts = Amounts.of(compositions)
    table = np.zeros((len(amounts), 2 + len(MODEL_METALS)), np.int32)
    table[:, 1] = np.rint(amounts.fluorine.numpy() * 1e3)
    for i, symbol in enumerate(amounts.symbols):
        column = 0 if symbol == "Li" else 2 + MODEL_METALS.index(symbol)
        table[:, column] = np.rint(amounts.cations[:, i].numpy() * 1e3)
    return table
