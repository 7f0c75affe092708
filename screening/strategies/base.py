"""What every strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from screening.batch import Batch, Choice
    from screening.outlook import Outlook
    from screening.scoring import Rows


class Strategy(ABC):
    """A way to choose: it scores candidates one at a time in a stream, and then the best of them as a batch grows.

    Two strategies with the same seed say the same. Nothing is kept between calls.
    """

    blind: ClassVar[bool] = False
    """Whether :meth:`score` never looks at what the network says, so that workers need not load it."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """Score candidates of a stream, ``n``, finite; each by itself, whatever stands beside it."""

    @abstractmethod
    def next(self, batch: Batch) -> Tensor:
        """Value of every row of the batch as its next pick, ``rows``; the batch leaves out what is not allowed."""

    def why(self, pick: Choice) -> str:
        """Say in a sentence why a candidate was picked."""
        near = f"; nearest measured {pick.nearest_measured[0][0]}" if pick.nearest_measured else ""
        return (
            f"{pick.promise}; tells {pick.teaches:.0%} of what is uncertain about the promising; "
            f"of {pick.candidates:,} the {ordinal(pick.mean_rank)} by mean, "
            f"the {ordinal(pick.spread_rank)} by spread{near}"
        )


def ordinal(number: int) -> str:
    """Write 1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
