"""Capacity-voltage sheets, as cyclers and Origin export them: curves with named columns, without time and current.

Two columns, charge and discharge side by side, a pair of columns for each cycle, cycles below each other, or a loop of
which charge and discharge share the columns: each column pair is cut where the capacity or the voltage turns, and what
the cell gave is told from what it took by whether the voltage falls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.cells import decimal_sign, tidy
from campaigns.intake.readers.grids import HEADER_LINES, Grid, beginning, whole_grid
from campaigns.intake.readers.headers import check_reference, known_stem, name_columns
from campaigns.intake.readers.recording import Curve, Curves, Reader, ReadOptions
from campaigns.intake.readers.unpacking import Head
from campaigns.intake.readers.words import maker
from drxnet.progress import Progress

NAME = "capacity-voltage sheet"
LEAST_POINTS = 5
"""A stretch of fewer points is no half-cycle."""

_LARGEST = 1e9
"""No capacity (mAh or mAh/g), voltage or cycle is as large."""

TURN_SHARE = 0.15
"""A capacity or a voltage turns where it comes back by this share of its range."""

_CYCLE = re.compile(
    r"(?:cycle|cyc|zyklus|ciclo|循环|圈|サイクル)\W*(\d+)|第\s*(\d+)\s*[圈次个]"
    r"|(\d+)\s*(?:st|nd|rd|th)\b|(\d+)\s*(?:圈|サイクル|\. Zyklus)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Pair:
    """Columns of capacity and voltage that belong together."""

    label: str
    capacity: int
    voltage: int
    unit: str
    volts: float = 1.0
    """Volts of one unit of its voltage."""


@dataclass(frozen=True)
class _Layout:
    row: int
    pairs: tuple[_Pair, ...]
    cycle: int | None


def named_cycle(name: str) -> int | None:
    """Cycle number in the name of a curve: ``cycle 2``, ``1st discharge``, ``第3圈``."""
    found = _CYCLE.search(name)
    number = int(next(group for group in found.groups() if group)) if found else 0
    return number or None


def _layout(grid: Grid) -> _Layout | None:
    """Where the header is and which columns belong together; None where no row names capacities and voltages."""
    for row, cells in enumerate(grid.rows[:HEADER_LINES]):
        found = _pairs(grid, row, cells)
        if found is not None:
            return found
    return None


def _pairs(grid: Grid, row: int, cells: Sequence[str]) -> _Layout | None:
    columns = _curve_columns(cells)
    capacities, voltages = columns["q"], [place for place, _ in columns["v"]]
    if not capacities or not voltages or _is_cycler(cells):
        return None
    matched = _matched(capacities, voltages)
    if matched is None:
        return None
    above = grid.rows[row - 1] if row else ()
    volts = {place: units.factor("voltage", unit or "V") or 1.0 for place, unit in columns["v"]}
    pairs = tuple(_Pair(_label(cells, above, q, v), q, v, unit, volts[v]) for q, unit, v in matched)
    return _Layout(row, pairs, columns["cycle"][-1][0] if columns["cycle"] else None)


def _matched(capacities: Sequence[tuple[int, str]], voltages: Sequence[int]) -> list[tuple[int, str, int]] | None:
    """Place and unit of a capacity with the place of its voltage, where it is clear which belong together."""
    if len(voltages) == 1:
        return [(q, unit, voltages[0]) for q, unit in capacities]
    if len(capacities) == 1:
        return [(*capacities[0], v) for v in voltages]
    if len(capacities) == len(voltages):
        return [(q, unit, v) for (q, unit), v in zip(capacities, voltages, strict=True)]
    return None


def _curve_columns(cells: Sequence[str]) -> Mapping[str, list[tuple[int, str]]]:
    """Places and units of the columns of capacities (``q``), voltages (``v``) and cycle numbers."""
    vocabulary = maker("sheet")
    found: dict[str, list[tuple[int, str]]] = {"q": [], "v": [], "cycle": []}
    for i, cell in enumerate(cells):
        known = known_stem(re.sub(r"\.\d+$", "", cell), vocabulary) or known_stem(_CYCLE.sub("", cell), vocabulary)
        if known is None:
            continue
        stem, unit = known
        quantity = vocabulary[stem][0]
        if quantity in found and _is_in(quantity, unit, bare=stem not in ("charge", "discharge")):
            found[quantity].append((i, unit))
    return found


def _is_in(quantity: str, unit: str, *, bare: bool) -> bool:
    """Whether a unit is one of the quantity; none is, where the name is enough (``bare``)."""
    if quantity == "q":
        is_charge = units.factor("charge", unit) is not None or units.factor("specific", unit) is not None
        return is_charge or (not unit and bare)
    return quantity != "v" or not unit or units.factor("voltage", unit) is not None


def _is_cycler(cells: Sequence[str]) -> bool:
    from campaigns.intake.readers.formats import any_table

    quantities = {column.quantity for column in name_columns(cells, any_table())}
    return bool({"time", "step_time", "clock"} & quantities)


def _label(cells: Sequence[str], above: Sequence[str], capacity: int, voltage: int) -> str:
    """What the headers call a pair, with the cell above it or to the left of that, as of joined cells."""
    first = min(capacity, voltage)
    title = next((above[i].strip() for i in range(min(first, len(above) - 1), -1, -1) if above[i].strip()), "")
    return " ".join(filter(None, (title, cells[capacity].strip(), cells[voltage].strip())))


def is_sheet(grid: Grid) -> bool:
    """Whether it is such a sheet."""
    return _layout(grid) is not None


def _recognises(head: Head) -> bool:
    return beginning(head, is_sheet) is not None


def _read(head: Head, options: ReadOptions, progress: Progress) -> Curves:
    begun = beginning(head, is_sheet)
    assert begun is not None
    return read_grid(head.path.name, whole_grid(head, begun), options)


def read_grid(name: str, grid: Grid, options: ReadOptions) -> Curves:
    """Read the discharges of a sheet.

    Raises:
        RuleBroken: E8 for a unit that is not known, E9 for cells that are no numbers, E1 where nothing falls.
    """
    layout = _layout(grid)
    assert layout is not None
    check_reference(name, (grid.rows[layout.row][pair.voltage] for pair in layout.pairs))
    body = _body(grid, layout)
    in_mah = {units.factor("charge", pair.unit) is not None for pair in layout.pairs if pair.unit}
    if len(in_mah) > 1:
        raise RuleBroken("E8", f"{name}: some capacities are in mAh, others in mAh/g. Export all in one unit.")
    decimal = options.decimal or grid.decimal or _decimal_of(body, layout.pairs)
    if decimal is None:
        raise RuleBroken("E9", f"{name}: cannot tell decimal comma from thousands; pass --decimal ','.")
    curves: list[Curve] = []
    tops: list[float | None] = []
    top: float | None = None
    charges = 0
    for pair, cycle, points in _points(name, grid, layout, body, decimal):
        for capacity, voltage, is_discharge in _half_cycles(points):
            if is_discharge:
                curves.append(Curve(pair.label, voltage, capacity, cycle or named_cycle(pair.label)))
                tops.append(top)
                top = None
            else:
                charges += 1
                top = max(top or 0.0, float(voltage.max()))
    return _as_curves(name, curves, tops, charges, in_mah=in_mah == {True})


def _as_curves(
    name: str, curves: Sequence[Curve], tops: Sequence[float | None], charges: int, *, in_mah: bool
) -> Curves:
    """The discharges of a sheet, with how high the charge before each of them went."""
    if not curves:
        what = f"{charges} charges" if charges else "no curve of five points or more"
        raise RuleBroken("E1", f"{name}: no discharge found, {what}: the voltage must fall as the capacity grows.")
    notes = (f"{charges} charges beside the discharges",) if charges else ()
    return Curves(NAME, tuple(curves), notes, digitised=False, in_mah=in_mah, charge_tops_v=tuple(tops))


def _body(grid: Grid, layout: _Layout) -> Sequence[Sequence[str]]:
    """Rows of points, below the header and a row of units or of comments."""
    body = grid.rows[layout.row + 1 :]
    return body[1:] if body and not any(map(_is_number, body[0])) else body


def _decimal_of(body: Sequence[Sequence[str]], pairs: Sequence[_Pair]) -> str | None:
    written = [row[i] for row in body for pair in pairs for i in (pair.capacity, pair.voltage) if i < len(row)]
    return decimal_sign([cell for cell in written if cell.strip()])


def _points(
    name: str, grid: Grid, layout: _Layout, body: Sequence[Sequence[str]], decimal: str
) -> Iterator[tuple[_Pair, int | None, np.ndarray]]:
    """Yield every pair of columns with the points of each cycle."""
    for pair in layout.pairs:
        for cycle, points in _stretches(name, body, pair, layout.cycle, decimal, grid.line(layout.row + 1)):
            yield pair, cycle, points


def _is_number(cell: str) -> bool:
    try:
        float(tidy(cell, "," if "," in cell else "."))
    except ValueError:
        return False
    return True


def _stretches(
    name: str, body: Sequence[Sequence[str]], pair: _Pair, cycle_at: int | None, decimal: str, first_line: int
) -> list[tuple[int | None, np.ndarray]]:
    """Points of a column pair, ``points x 2``, by the cycle that the sheet names beside them."""
    factors = (units.factor(kind, pair.unit) for kind in ("charge", "specific")) if pair.unit else ()
    scale = next(filter(None, factors), 1.0)
    found: list[tuple[int | None, list[tuple[float, float]]]] = []
    for i, row in enumerate(body):
        q, v = _text(row, pair.capacity), _text(row, pair.voltage)
        if not q or not v or (not _is_number(q) and not _is_number(v)):
            continue
        capacity, voltage = _point(f"{name}, row {first_line + i}", q, v, decimal)
        cycle = _cycle_number(_text(row, cycle_at), decimal)
        if not found or (cycle is not None and cycle != found[-1][0]):
            found.append((cycle, []))
        found[-1][1].append((capacity * scale, voltage * pair.volts))
    return [(cycle, np.array(points)) for cycle, points in found]


def _cycle_number(text: str, decimal: str) -> int | None:
    number = float(tidy(text, decimal)) if text and _is_number(text) else np.nan
    return int(number) if abs(number) < _LARGEST else None


def _text(row: Sequence[str], at: int | None) -> str:
    return row[at].strip() if at is not None and at < len(row) else ""


def _point(where: str, q: str, v: str, decimal: str) -> tuple[float, float]:
    """Capacity and voltage of a row."""
    try:
        point = float(tidy(q, decimal)), float(tidy(v, decimal))
    except ValueError:
        raise RuleBroken("E9", f"{where}: two numbers expected. Got {q!r:.20}, {v!r:.20}.") from None
    if not (np.abs(point) < _LARGEST).all():  # neither is NaN
        raise RuleBroken("E8", f"{where}: no such capacity or voltage: {q!r:.20}, {v!r:.20}.")
    return point


def _half_cycles(points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Capacity from zero, voltage and whether it is a discharge, of each stretch between turns, ``points`` each."""
    found: list[tuple[np.ndarray, np.ndarray, bool]] = []
    near = TURN_SHARE * max(float(np.ptp(points[:, 0])), 1e-12)
    last_q = np.nan
    for first, last in _parts(points):
        q, v = points[first:last, 0], points[first:last, 1]
        follows = abs(q[0] - last_q) < near
        if not _rises(q, v):
            goes_on = follows and q[0] > TURN_SHARE * q.max() and q[-1] > q[0]
            found.append((q - last_q if goes_on else q, v, True))
        elif follows and q[-1] < q[0] and v[-1] < v[0]:
            found.append((last_q - q, v, True))  # the axis runs back: charge moved so far
        else:
            found.append((q, v, False))
        last_q = float(q[-1])
    return found


def _rises(q: np.ndarray, v: np.ndarray) -> bool:
    """Whether the voltage rises with the capacity, as on charge."""
    return bool(float(np.polyfit(q - q.mean(), v, 1)[0]) > 0 if np.ptp(q) > 0 else v[-1] > v[0])


def _parts(points: np.ndarray) -> list[tuple[int, int]]:
    """Stretches in which neither the capacity nor the voltage turns."""
    parts: list[tuple[int, int]] = []
    for first, last in monotone_parts(points[:, 0], TURN_SHARE * float(np.ptp(points[:, 0]))):
        inside = points[first:last, 1]
        for a, b in monotone_parts(inside, 2 * TURN_SHARE * float(np.ptp(points[:, 1]))):
            parts.append((first + a, first + b))
    return [(a, b) for a, b in parts if b - a >= LEAST_POINTS]


def monotone_parts(values: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Split at turning points from which the values come back by more than the threshold."""
    parts, begin, low, high = [], 0, 0, 0
    for i, value in enumerate(values.tolist()):
        rose = low > high and value > values[low] + threshold
        fell = high > low and value < values[high] - threshold
        turned = low if rose else high
        if (rose or fell) and turned > begin:
            parts.append((begin, turned + 1))
            begin = turned + 1
            low = high = i
        elif value < values[low]:
            low = i
        elif value > values[high]:
            high = i
    return parts if begin == len(values) else [*parts, (begin, len(values))]


READERS = (Reader(NAME, _recognises, _read, (".csv", ".txt")),)
