"""Rows and proposals as Python users get them: plain values that turn into a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campaigns.ledger.records import Proposal
from campaigns.report.views import proposal_row

if TYPE_CHECKING:
    import pandas as pd


class Rows(list[dict[str, Any]]):
    """Mappings with the keys of the JSON contract, in order."""

    def to_frame(self) -> pd.DataFrame:
        """One row each, the keys as columns."""
        import pandas as pd

        return pd.DataFrame(list(self))


class Batch(tuple[Proposal, ...]):
    """Proposals that were chosen together, best first."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """One row each, with the keys of ``drx-screen propose --format json``."""
        return Rows(proposal_row(p) for p in self).to_frame()
