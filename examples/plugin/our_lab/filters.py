"""A filter: what the furnace of this laboratory asks for."""

from __future__ import annotations

import numpy as np

from screening.filters import Filter, Mixtures


def manganese_share(mixtures: Mixtures) -> np.ndarray:
    """Manganese among the metals other than lithium; below a third our batches do not become single-phase."""
    manganese = mixtures.per_species(lambda s: float(s.element == "Mn"))[1:]
    return mixtures.metals @ manganese / mixtures.metals.sum(1)


MANGANESE_SHARE = Filter(manganese_share, at_least=True)
