"""Element vectors and atomic masses, by symbol.

`data/elements.csv` is written by `scripts/make_element_table.py`. Vectors: mat2vec, Tshitoyan et al.,
Nature 571, 95 (2019), doi:10.1038/s41586-019-1335-8, as tabulated in ElementEmbeddings (Onwuli et al.,
Digital Discovery 2, 1558 (2023), MIT licence). Masses: IUPAC, through pymatgen.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

import numpy as np

VECTOR_LENGTH = 200


@cache
def _table() -> dict[str, np.ndarray]:
    with (files("drxnet") / "data" / "elements.csv").open() as file:
        rows = csv.reader(file)
        next(rows)
        return {row[0]: np.array(row[1:], dtype=np.float64) for row in rows}


def element_vectors(symbols: tuple[str, ...]) -> np.ndarray:
    """Mat2vec vectors of the elements, ``len(symbols) x 200``.

    Raises:
        KeyError: an element has no vector in the table.
    """
    return np.stack([_table()[symbol][1:] for symbol in symbols])


class _Masses(Mapping[str, float]):
    def __getitem__(self, symbol: str) -> float:
        return float(_table()[symbol][0])

    def __iter__(self) -> Iterator[str]:
        return iter(_table())

    def __len__(self) -> int:
        return len(_table())


ATOMIC_MASS: Mapping[str, float] = _Masses()
"""Atomic mass (g/mol) by symbol."""
