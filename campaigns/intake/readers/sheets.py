"""Capacity-voltage sheets, as cyclers and Origin export them: curves with named columns, without time and current.

Two columns, charge and discharge side by side, a pair of columns for each cycle, cycles below each other, or a loop of
which charge and discharge share the columns: each column pair is cut where the capacity or the voltage turns, and what
the cell gave is told from what it took by whether the voltage falls.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.cells import decimal_sign, tidy
from campaigns.intake.readers.grids import HEADER_LINES, Grid, beginnings, whole_grid
from campaigns.intake.readers.headers import known_stem, name_columns
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
    vocabulary = maker("sheet")
    capacities: list[tuple[int, str]] = []
    voltages: list[int] = []
    cycle = None
    for i, cell in enumerate(cells):
        known = known_stem(re.sub(r"\.\d+$", "", cell), vocabulary) or known_stem(_CYCLE.sub("", cell), vocabulary)
        if known is None:
            continue
        stem, unit = known
        quantity = vocabulary[stem][0]
        is_charge = units.factor("charge", unit) is not None or units.factor("specific", unit) is not None
        if quantity == "q" and (is_charge or (not unit and stem not in ("charge", "discharge"))):
            capacities.append((i, unit))
        elif quantity == "v" and (not unit or units.factor("voltage", unit) is not None):
            voltages.append(i)
        elif quantity == "cycle":
            cycle = i
    if not capacities or not voltages or _is_cycler(cells):
        return None
    if len(voltages) == 1:
        matched = [(q, unit, voltages[0]) for q, unit in capacities]
    elif len(capacities) == 1:
        matched = [(*capacities[0], v) for v in voltages]
    elif len(capacities) == len(voltages):
        matched = [(q, unit, v) for (q, unit), v in zip(capacities, voltages, strict=True)]
    else:
        return None
    above = grid.rows[row - 1] if row else ()
    pairs = tuple(_Pair(_label(cells, above, q, v), q, v, unit) for q, unit, v in matched)
    return _Layout(row, pairs, cycle)


def _is_cycler(cells: Sequence[str]) -> bool:
    from campaigns.intake.readers.formats import any_table

    quantities = {column.quantity for column in name_columns(cells, any_table())}
    return bool({"time", "step_time", "clock"} & quantities)


def _label(cells: Sequence[str], above: Sequence[str], capacity: int, voltage: int) -> str:
    """What the headers call a pair, with the cell above it or to the left of that, as of joined cells."""
    first = min(capacity, voltage)
    title = next((above[i].strip() for i in range(min(first, len(above) - 1), -1, -1) if above[i].strip()), "")
    return " ".join(filter(None, (title, cells[capacity].strip(), cells[voltage].strip())))


def _beginning(head: Head) -> Grid | None:
    if not head.is_text:
        return None
    try:
        return next((grid for grid in beginnings(head) if _layout(grid) is not None), None)
    except csv.Error:
        return None


def _is_sheet(head: Head) -> bool:
    return _beginning(head) is not None


def is_sheet(grid: Grid) -> bool:
    """Whether rows of a workbook are such a sheet."""
    return _layout(grid) is not None


def _read(head: Head, options: ReadOptions, progress: Progress) -> Curves:
    beginning = _beginning(head)
    assert beginning is not None
    return read_grid(head.path.name, whole_grid(head, beginning), options)


def read_grid(name: str, grid: Grid, options: ReadOptions) -> Curves:
    """Read the discharges of a sheet.

    Raises:
        RuleBroken: E8 for a unit that is not known, E9 for cells that are no numbers, E1 where nothing falls.
    """
    layout = _layout(grid)
    assert layout is not None
    body = grid.rows[layout.row + 1 :]
    body = body[1:] if body and not any(map(_is_number, body[0])) else body  # a row of units, or of comments
    in_mah = {units.factor("charge", pair.unit) is not None for pair in layout.pairs if pair.unit}
    if len(in_mah) > 1:
        raise RuleBroken("E8", f"{name}: some capacities are in mAh, others in mAh/g. Export all in one unit.")
    written = [row[i] for row in body for pair in layout.pairs for i in (pair.capacity, pair.voltage) if i < len(row)]
    decimal = options.decimal or grid.decimal or decimal_sign([cell for cell in written if cell.strip()])
    if decimal is None:
        raise RuleBroken("E9", f"{name}: cannot tell decimal comma from thousands; pass --decimal ','.")
    curves: list[Curve] = []
    tops: list[float | None] = []
    top: float | None = None
    charges = 0
    for pair in layout.pairs:
        for cycle, points in _stretches(name, body, pair, layout.cycle, decimal, grid.line(layout.row + 1)):
            for capacity, voltage, is_discharge in _half_cycles(points):
                if is_discharge:
                    curves.append(Curve(pair.label, voltage, capacity, cycle or named_cycle(pair.label)))
                    tops.append(top)
                    top = None
                else:
                    charges += 1
                    top = max(top or 0.0, float(voltage.max()))
    if not curves:
        what = f"{charges} charges" if charges else "no curve of five points or more"
        raise RuleBroken("E1", f"{name}: no discharge found, {what}: the voltage must fall as the capacity grows.")
    notes = (f"{charges} charges beside the discharges",) if charges else ()
    return Curves(NAME, tuple(curves), notes, digitised=False, in_mah=in_mah == {True}, charge_tops_v=tuple(tops))


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
    scale = 1.0
    if pair.unit:
        scale = units.factor("charge", pair.unit) or units.factor("specific", pair.unit) or 1.0
    found: list[tuple[int | None, list[tuple[float, float]]]] = []
    for i, row in enumerate(body):
        q, v = (row[at].strip() if at < len(row) else "" for at in (pair.capacity, pair.voltage))
        if not q or not v or (not _is_number(q) and not _is_number(v)):
            continue
        try:
            point = (float(tidy(q, decimal)) * scale, float(tidy(v, decimal)))
        except ValueError:
            raise RuleBroken(
                "E9", f"{name}, row {first_line + i}: two numbers expected. Got {q!r:.20}, {v!r:.20}."
            ) from None
        if not (np.abs(point) < _LARGEST).all():  # neither is NaN
            raise RuleBroken("E8", f"{name}, row {first_line + i}: no such capacity or voltage: {q!r:.20}, {v!r:.20}.")
        text = row[cycle_at].strip() if cycle_at is not None and cycle_at < len(row) else ""
        number = float(tidy(text, decimal)) if text and _is_number(text) else np.nan
        cycle = int(number) if abs(number) < _LARGEST else None
        if not found or (cycle is not None and cycle != found[-1][0]):
            found.append((cycle, []))
        found[-1][1].append(point)
    return [(cycle, np.array(points)) for cycle, points in found]


def _half_cycles(points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Capacity from zero, voltage and whether it is a discharge, of each stretch between turns, ``points`` each."""
    found: list[tuple[np.ndarray, np.ndarray, bool]] = []
    last_q: float | None = None
    for first, last in _parts(points):
        q, v = points[first:last, 0], points[first:last, 1]
        rises = float(np.polyfit(q - q.mean(), v, 1)[0]) > 0 if np.ptp(q) > 0 else v[-1] > v[0]
        follows = last_q is not None and abs(q[0] - last_q) < TURN_SHARE * max(np.ptp(points[:, 0]), 1e-12)
        if not rises:
            goes_on = follows and last_q is not None and q[0] > TURN_SHARE * q.max() and q[-1] > q[0]
            found.append((q - last_q if goes_on and last_q is not None else q, v, True))
        elif q[-1] < q[0] and v[-1] < v[0] and follows and last_q is not None:
            found.append((last_q - q, v, True))  # the axis runs back: charge moved so far
        else:
            found.append((q, v, False))
        last_q = float(q[-1])
    return found


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
        turned = None
        if low > high and value > values[low] + threshold:
            turned = low
        elif high > low and value < values[high] - threshold:
            turned = high
        if turned is not None and turned > begin:
            parts.append((begin, turned + 1))
            begin = turned + 1
            low = high = i
        elif value < values[low]:
            low = i
        elif value > values[high]:
            high = i
    parts.append((begin, len(values)))
    return [(a, b) for a, b in parts if b > a]


READERS = (Reader(NAME, _is_sheet, _read, (".csv", ".txt")),)
