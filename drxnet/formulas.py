"""Many formulas at once: text to arrays of amounts and back, a microsecond or two each.

The same compositions as :meth:`drxnet.composition.Composition.parse` gives one by one; whatever is not a plain formula
of a disordered rocksalt (brackets, a rare element, too many cations, a mistake) is left to it, with its messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from drxnet.composition import CATION_WARNING, MAX_FLUORINE, METALS_BY_NUMBER, Composition
from drxnet.errors import CompositionError

UNITS = 10_000
"""Amounts are whole numbers of 1/10,000 per formula unit."""

_COLUMNS = (*METALS_BY_NUMBER, "O", "F")
_LOWER, _DIGIT, _DOT, _UPPER, _END = range(1, 6)
_LONGEST_NUMBER = 14
_BLOCK = 1 << 15
"""Formulas whose letters are looked at together; their arrays stay in cache."""

_CLOSE = 1e-6
"""What lies so near to a bound, or to the middle between two rounded amounts, is left to the exact way."""


@dataclass(frozen=True, eq=False)
class CompositionTable:
    """Compositions as arrays, on the two-anion basis."""

    symbols: tuple[str, ...]
    """Cation of each column, lithium first and the others by atomic number."""

    cations: np.ndarray
    """Amounts per formula unit, ``n x symbols``; 0 where an element is absent."""

    fluorine: np.ndarray
    """F per formula unit, ``n``."""

    def __len__(self) -> int:
        """Return the number of compositions."""
        return len(self.cations)

    def composition(self, row: int) -> Composition:
        """Return one of them."""
        amounts = zip(self.symbols, self.cations[row].tolist(), strict=True)
        return Composition(tuple((s, a) for s, a in amounts if a > 0), float(self.fluorine[row]))

    def units(self) -> np.ndarray:
        """Amounts of the cations in 1/10,000 per formula unit, ``n x symbols``."""
        return np.rint(self.cations * UNITS).astype(np.int64)


def write_formulas(symbols: Sequence[str], units: np.ndarray, denominator: int) -> list[str]:
    """Write formulas, an element at a time.

    Args:
        symbols: of the columns, in the order in which they are written.
        units: amounts in units of 1/denominator per formula unit, ``n x symbols``; what is 0 is not written.
        denominator: of the units.
    """
    text = np.full(len(units), "", dtype=object)
    for symbol, amounts in zip(symbols, units.T, strict=True):
        held, place = np.unique(amounts, return_inverse=True)
        terms = [f"{symbol}{n / denominator:.4f}".rstrip("0").rstrip(".") if n else "" for n in held.tolist()]
        text = text + np.array(terms, dtype=object)[place]
    return text.tolist()


def parse_formulas(
    formulas: Sequence[str], where: Callable[[int], str] | None = None, *, nonstoichiometric: bool = False
) -> CompositionTable:
    """Read formulas.

    Args:
        formulas: ``n``.
        where: says in a message where the i-th stands.
        nonstoichiometric: as for one formula.

    Raises:
        CompositionError: one of them is not a disordered rocksalt; the first is named.
    """
    tables = [
        _parse_block(formulas[first : first + _BLOCK], first, where, nonstoichiometric)
        for first in range(0, len(formulas), _BLOCK)
    ]
    present = {symbol for table in tables for symbol in table.symbols}
    symbols = tuple(symbol for symbol in METALS_BY_NUMBER if symbol in present)
    cations, fluorine = np.zeros((len(formulas), len(symbols))), np.zeros(len(formulas))
    for first, table in zip(range(0, len(formulas), _BLOCK), tables, strict=True):
        columns = [symbols.index(symbol) for symbol in table.symbols]
        cations[first : first + _BLOCK, columns] = table.cations
        fluorine[first : first + _BLOCK] = table.fluorine
    return CompositionTable(symbols, cations, fluorine)


def _parse_block(
    formulas: Sequence[str], first: int, where: Callable[[int], str] | None, nonstoichiometric: bool
) -> CompositionTable:
    columns, dense, plain = _read(formulas)
    metals = [i for i, symbol in enumerate(columns) if symbol not in ("O", "F")]
    written, oxygen, fluorine = dense[:, metals], _column(dense, columns, "O"), _column(dense, columns, "F")
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 2 / (oxygen + fluorine)
        units, fluorine = written * (scale * UNITS)[:, None], fluorine * scale * UNITS
        cations, rounded = np.rint(units), np.rint(fluorine)
        doubt = np.maximum(np.abs(units - cations).max(1, initial=0), np.abs(fluorine - rounded))
        plain &= (_column(dense, columns, "Li") > 0) & (fluorine < (MAX_FLUORINE - _CLOSE) * UNITS)
        plain &= np.abs(units.sum(1) / UNITS - 2) < 2 * CATION_WARNING - _CLOSE
        plain &= doubt < 0.5 - _CLOSE
    cations, fluorine = cations / UNITS, rounded / UNITS
    symbols = [columns[i] for i in metals]
    doubted = np.flatnonzero(~plain).tolist()
    rest = {row: _parse_one(formulas[row], first + row, where, nonstoichiometric) for row in doubted}
    return _joined(CompositionTable(tuple(symbols), cations, fluorine), plain, rest)


def _joined(table: CompositionTable, plain: np.ndarray, rest: Mapping[int, Composition]) -> CompositionTable:
    """A table with other compositions in the rows that are not plain, and the metals in their order."""
    present = {symbol for composition in rest.values() for symbol in composition.elements}
    present |= set(np.array(table.symbols, dtype=object)[table.cations[plain].any(0)])
    held = tuple(symbol for symbol in METALS_BY_NUMBER if symbol in present)
    cations, fluorine = np.zeros((len(plain), len(held))), table.fluorine
    for i, symbol in enumerate(held):
        cations[:, i] = _column(table.cations, table.symbols, symbol)
    for row, composition in rest.items():
        cations[row] = [dict(composition.cations).get(symbol, 0) for symbol in held]
        fluorine[row] = composition.fluorine
    return CompositionTable(held, cations, fluorine)


def _parse_one(formula: str, place: int, where: Callable[[int], str] | None, nonstoichiometric: bool) -> Composition:
    try:
        return Composition.parse(formula, nonstoichiometric=nonstoichiometric)
    except CompositionError as error:
        raise CompositionError(f"{where(place)}: {error}" if where else str(error)) from None


def _column(dense: np.ndarray, columns: Sequence[str], symbol: str) -> np.ndarray:
    return dense[:, columns.index(symbol)] if symbol in columns else np.zeros(len(dense))


def _read(formulas: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Symbols that occur, amounts as written (``n x symbols``), and which formulas are plain enough to trust them."""
    count = len(formulas)
    joined = "\n".join(formulas).replace(" ", "") + "\n"
    if not count or joined.count("\n") != count:
        return [], np.zeros((count, 0)), np.zeros(count, bool)
    text = np.frombuffer(joined.encode("ascii", "replace"), np.uint8)
    kinds, elements = _alphabet()
    kind = kinds[text]
    bounds = np.flatnonzero(kind >= _UPPER)  # where a term or a line ends and the next begins
    opens = kind[bounds] == _UPPER
    start, stop = bounds[opens], bounds[1:][opens[:-1]]
    row = np.cumsum(~opens)[opens]
    symbol_length = 1 + (kind[start + 1] == _LOWER)
    second = np.where(symbol_length == 2, text[start + 1], 0).astype(np.intp)
    element = elements[text[start].astype(np.intp) * 256 + second]
    length = (stop - start - symbol_length).astype(np.int32)
    mantissa, scale = np.zeros(len(start)), np.ones(len(start))
    seen, points = np.zeros(len(start), np.int32), np.zeros(len(start), np.int32)
    here = start + symbol_length
    for k in range(min(int(length.max(initial=0)), _LONGEST_NUMBER)):
        letter = text[np.minimum(here + k, len(text) - 1)]
        inside = k < length
        digit = inside & (kinds[letter] == _DIGIT)
        mantissa = np.where(digit, mantissa * 10 + (letter - float(ord("0"))), mantissa)
        scale = np.where(digit & (points > 0), scale * 10, scale)
        seen += digit
        points += inside & (letter == ord("."))
    good = (element >= 0) & (length <= _LONGEST_NUMBER) & (seen + points == length) & (points <= 1)
    good &= (seen > 0) | (length == 0)
    amount = np.where(length == 0, 1.0, mantissa / scale)
    plain = kind[np.concatenate([[0], np.flatnonzero(kind == _END)[:-1] + 1])] == _UPPER
    plain[row[~good]] = False
    held = np.flatnonzero(np.bincount(element[good], minlength=len(_COLUMNS)))
    column = np.zeros(len(_COLUMNS), np.intp)
    column[held] = np.arange(len(held))
    place = row[good] * len(held) + column[element[good]]
    dense = np.bincount(place, amount[good], count * len(held)).reshape(count, len(held))
    return [_COLUMNS[i] for i in held], dense, plain


@cache
def _alphabet() -> tuple[np.ndarray, np.ndarray]:
    """Kind of each byte, and place of each symbol by its two bytes; -1 where there is none."""
    kinds = np.zeros(256, np.uint8)
    for kind, letters in (
        (_UPPER, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (_LOWER, "abcdefghijklmnopqrstuvwxyz"),
        (_DIGIT, "0123456789"),
        (_DOT, "."),
        (_END, "\n"),
    ):
        kinds[[ord(letter) for letter in letters]] = kind
    elements = np.full(256 * 256, -1, np.int64)
    for i, symbol in enumerate(_COLUMNS):
        elements[ord(symbol[0]) * 256 + (ord(symbol[1]) if len(symbol) > 1 else 0)] = i
    return kinds, elements
