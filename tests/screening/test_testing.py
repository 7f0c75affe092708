from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes import FakeEnsemble

from screening.outlook import Outlook
from screening.strategies import Strategy
from screening.strategies.improving import LogEI
from screening.testing import check_strategy
from tests.screening.test_outlook import compositions, measured

if TYPE_CHECKING:
    from torch import Tensor

OUTLOOK = Outlook.of(FakeEnsemble(3), measured=measured())
CANDIDATES = compositions(12, seed=4)


class BestOfItsNeighbours(LogEI):
    """Scores depend on what stands beside: not what a strategy may do."""

    def score(self, outlook, rows) -> Tensor:
        value = super().score(outlook, rows)
        return value - value.mean()


class Remembers(LogEI):
    """Picks by itself."""

    def next(self, batch) -> Tensor:
        batch.picked.append(0)
        return super().next(batch)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [(BestOfItsNeighbours, "does not depend on the rows beside it"), (Remembers, "leaves the batch as it is")],
    ids=["neighbours", "picks"],
)
def test_the_check_finds_a_strategy_that_does_not_conform(strategy: type[Strategy], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_strategy(strategy, OUTLOOK, CANDIDATES)
