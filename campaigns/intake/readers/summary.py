"""A table of capacities without profiles: of several cells with their conditions, or of the cycles of one cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.cells import HUGE, may_be_thousands, same, tidy
from campaigns.intake.readers.grids import HEADER_LINES, Grid, beginning, whole_grid
from campaigns.intake.readers.headers import (
    check_one_of_each,
    conditions_by_spelling,
    known_stem,
    name_columns,
    spelled,
    split_header,
)
from campaigns.intake.readers.recording import Reader, ReadOptions, SummaryRow, SummaryTable
from campaigns.intake.readers.unpacking import Head
from campaigns.intake.readers.words import Vocabulary, maker, stem
from drxnet.discharge import MOST_CYCLES, SAME_CURRENT
from drxnet.errors import ImpossibleValue
from drxnet.process import Process
from drxnet.progress import Progress

NAME = "summary table"

DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "current": "specific current",
        "rate": "specific current",
        "one_c": "specific current",
        "capacity": "specific",
        "charge": "specific",
        "v_low": "voltage",
        "v_high": "voltage",
    }
)
OURS: Mapping[str, str] = MappingProxyType({"specific current": "mA/g", "specific": "mAh/g", "voltage": "V"})
"""What a number means without a unit."""

SPREAD = r"\s*(?:(?:±|\+/-)\s*[\d.,]+|\(\d+\))?"
"""How a standard deviation stands behind a number."""

_QUANTITY = re.compile(
    rf"(?P<value>[+-]?(?:[\d.,]+(?:e[+-]?\d+)?|inf(?:inity)?|nan)){SPREAD}\s*(?P<unit>[^\d\s.,±(].*)?", re.IGNORECASE
)
WINDOW = re.compile(
    r"^\s*[\[(]?\s*(\d+(?:[.,]\d+)?)\s*V?\s*(?:[-–—−‑;/…~:,]|\.{2,3}|to|bis|à|and|\s)\s*(\d+(?:[.,]\d+)?)\s*V?\s*[\])]?"
    r"\s*(?:vs?\.?s?\.?\s*Li\b.*)?$",
    re.IGNORECASE,
)
"""Two cut-offs as a window is written."""

SUMS = frozenset(
    "mean average avg std stdev sd sem median min max minimum maximum total sum mittelwert moyenne".split()
)
"""First words of rows that sum up those above."""

_ONE_C = re.compile(
    r"\(?\s*,?\s*1\s*C\s*(?:=|:|is|≙)\s*([\d.,]+)\s*(m?A(?:h)?\s*/?\s*k?g(?:-1|\^-1|⁻¹)?)?\s*\)?", re.IGNORECASE
)
_C_RATE = re.compile(r"(?:([\d.,]+)\s*C|C\s*/\s*([\d.,]+)|([\d.,]+)\s*/\s*([\d.,]+)\s*C)", re.IGNORECASE)

_COUNTS = re.compile(r"^\s*[\d.,+-]|Li.*O")
"""A number or a formula."""

ALONE = ("composition", "current", "rate", "v_low", "v_high", "window", "cycle")
"""What a row says once."""

Layout = Mapping[str, tuple[int, str]]
"""Position and unit of the column of each meaning."""


def layout_of(cells: tuple[str, ...]) -> Layout | None:
    """The columns of a header row; None where it is none of a table of capacities."""
    vocabulary = maker("summary")
    order = {name: i for i, name in enumerate(vocabulary)}
    found: dict[str, tuple[int, tuple[int, str]]] = {}
    for i, cell in enumerate(cells):
        if (known := _meaning(cell, vocabulary)) is not None:
            stem, meaning, unit = known
            if meaning not in found or order[stem] < found[meaning][0]:
                found[meaning] = (order[stem], (i, unit))
    layout = {meaning: place for meaning, (_, place) in found.items()}
    if not {"capacity", "capacity_mah"} & layout.keys() or not {"composition", "proposal", "cycle"} & layout.keys():
        return None
    return None if _has_voltages(cells) else layout


def _meaning(cell: str, vocabulary: Vocabulary) -> tuple[str, str, str] | None:
    """Stem, meaning and unit of a header; None where it says nothing of a capacity."""
    known = known_stem(_ONE_C.sub("", cell), vocabulary)
    if known is None:
        return None
    stem, unit = known
    if stem.endswith("mahg"):
        unit = "mAh/g"
    elif stem.endswith("mag"):
        unit = "mA/g"
    meaning, unit = vocabulary[stem][0], unit or vocabulary[stem][1]
    if meaning in ("capacity", "charge") and units.factor("charge", unit) is not None:
        meaning += "_mah"
    of_another_kind = DIMENSIONS.get(meaning) == "specific" and units.is_of_another_kind("charge", unit)
    return None if of_another_kind else (stem, meaning, unit)  # a share in %, an energy


def _has_voltages(cells: tuple[str, ...]) -> bool:
    """Whether a header is that of a curve or of a cycler."""
    from campaigns.intake.readers.formats import any_table

    return any(column.quantity == "voltage" for column in name_columns(cells, any_table()))


def find(grid: Grid) -> int | None:
    """Row of the header in the first lines of a table of capacities; None where there is none."""
    return next((i for i, cells in enumerate(grid.rows[:HEADER_LINES]) if layout_of(cells) is not None), None)


def is_summary(grid: Grid) -> bool:
    """Whether it is a table of capacities."""
    return find(grid) is not None


def _recognises(head: Head) -> bool:
    return beginning(head, is_summary) is not None


def _read(head: Head, options: ReadOptions, progress: Progress) -> SummaryTable:
    begun = beginning(head, is_summary)
    assert begun is not None
    return read_grid(head.path.name, whole_grid(head, begun))


def read_grid(name: str, grid: Grid) -> SummaryTable:
    """Read a table of capacities.

    Raises:
        RuleBroken: E8 or E9 for a cell that is no number, or of an unknown unit.
    """
    top = find(grid)
    assert top is not None
    header = grid.rows[top]
    layout = layout_of(header)
    assert layout is not None
    capacities = [layout[meaning][0] for meaning in ("capacity", "capacity_mah") if meaning in layout]
    check_one_of_each(name, header, capacities, grid.rows[top + 1 :])
    _check_cycle(name, header, layout)
    _check_one_meaning(name, grid, top, layout)
    _check_thousands(name, grid, top, layout)
    rows, notes = _rows(name, grid, top, layout)
    if not rows:
        raise RuleBroken("E9", f"{name}: no rows below the header.")
    return SummaryTable(NAME, _without_repeats(name, rows), tuple(notes))


def _rows(name: str, grid: Grid, top: int, layout: Layout) -> tuple[list[SummaryRow], list[str]]:
    """The rows below a header, and what was taken for granted or left out, in words."""
    header = grid.rows[top]
    _, one_c = parse_c_rate(" ".join(header))
    header_units: Mapping[str, str] = {meaning: unit for meaning, (_, unit) in layout.items()}
    rows: list[SummaryRow] = []
    conditions = _conditions(name, header)
    begin, header_units = _units_below(grid, top, layout, header_units)
    notes = [f"{said} taken as {unit}" for said, unit in _assumed(header_units).items()]
    for i in range(begin, len(grid.rows)):
        cells, line = grid.rows[i], grid.line(i)
        values = {meaning: cells[at].strip() for meaning, (at, _) in layout.items() if at < len(cells)}
        if _is_remark(cells, values):
            continue
        if rows and (why := _no_cell(values, cells, grid.rows[i + 1 :])):
            notes.append(f"row {line} {why}; left out")
            continue
        if any(map(str.strip, cells[len(header) :])):
            raise RuleBroken("E9", f"{name}, row {line}: more cells than the header names; a decimal comma?")
        where = f"{name}, row {line}"
        row = _row(where, line, values, header_units, one_c)
        rows.append(replace(row, process=_process(where, cells, conditions)))
    return rows, notes


def _check_one_meaning(name: str, grid: Grid, top: int, layout: Layout) -> None:
    """Refuse a table of which two columns say the composition, the current or a cut-off, and differ.

    Raises:
        RuleBroken: E9, naming the columns.
    """
    header, vocabulary = grid.rows[top], maker("summary")
    meanings = [known and known[1] for known in (_meaning(cell, vocabulary) for cell in header)]
    pairs = [(layout[m][0], i) for i, m in enumerate(meanings) if m in ALONE and m in layout]
    for place, other in pairs:
        both = ((row[place], row[other]) for row in grid.rows[top + 1 :] if len(row) > max(place, other))
        unlike = next(filter(_differ, both), None)
        if unlike is not None:
            raise RuleBroken(
                "E9",
                f"{name}: columns {header[place]!r} and {header[other]!r} mean the same and differ "
                f"({unlike[0].strip()!r}, {unlike[1].strip()!r}). Leave one out.",
            )


def _differ(pair: tuple[str, str]) -> bool:
    """Whether two cells are different numbers or formulas; the name of a material is neither."""
    return all(map(_COUNTS.search, pair)) and not same(*pair)


def _check_cycle(name: str, header: Sequence[str], layout: Layout) -> None:
    """Refuse a column ``n`` that may be the cycle or a number of cells."""
    cycle = header[layout["cycle"][0]] if "cycle" in layout else ""
    if stem(cycle) == "n" and {"composition", "proposal"} & layout.keys():
        raise RuleBroken(
            "E9", f"{name}: column {cycle!r} may be the cycle or a number of cells. Call it cycle, or cells."
        )


def _check_thousands(name: str, grid: Grid, top: int, layout: Layout) -> None:
    """Refuse ``1,000``, or ``1.000`` beside decimal commas: nothing tells whether that is one or a thousand.

    Raises:
        RuleBroken: E9, naming the row.
    """
    places = [at for meaning, (at, _) in layout.items() if meaning in DIMENSIONS or meaning.endswith("_mah")]
    written = [
        (i, row[at].strip()) for i, row in enumerate(grid.rows[top + 1 :], top + 1) for at in places if at < len(row)
    ]
    has_decimal_comma = any("," in text and not may_be_thousands(text) and "." not in text for _, text in written)
    doubtful = "." if has_decimal_comma else ","
    unclear = next(((i, text) for i, text in written if may_be_thousands(text, doubtful)), None)
    if unclear is not None:
        raise RuleBroken(
            "E9",
            f"{name}, row {grid.line(unclear[0])}: {unclear[1]!r} may be a thousand or a decimal; nothing guessed. "
            "Write it without a separator, or without zeros behind.",
        )


def _no_cell(values: Mapping[str, str], cells: Sequence[str], below: Sequence[Sequence[str]]) -> str:
    """Why a row is none of a discharge: it sums up others, or its cycle, the last, has not been discharged; or ""."""
    first = next(filter(None, map(str.strip, cells)), "")
    if any(stem(text) in SUMS for text in (first, *(values.get(m, "") for m in ("cell", "proposal", "composition")))):
        return "sums up those above"
    runs = values.get("cycle") and not values.get("capacity") and not values.get("capacity_mah")
    return "holds no discharge yet" if runs and not any(any(map(str.strip, row)) for row in below) else ""


def _without_repeats(name: str, rows: Sequence[SummaryRow]) -> tuple[SummaryRow, ...]:
    """Rows with each cycle of a cell once.

    Raises:
        RuleBroken: E9 where a cycle has two capacities.
    """
    several = any(row.composition or row.proposal or row.cell for row in rows)
    first: dict[tuple[object, ...], SummaryRow] = {}
    for row in rows:
        if several and not row.cell:
            first[(row.row,)] = row  # a cell of its own
            continue
        which = (row.composition, row.proposal, row.cell)
        known = first.setdefault((*which, row.cycle, row.current_ma_g, row.c_rate, row.v_low, row.v_high), row)
        if replace(known, row=row.row) != row:
            of = f" of cell {row.cell}" if row.cell else ""
            raise RuleBroken(
                "E9",
                f"{name}, rows {known.row} and {row.row}: two capacities of cycle {row.cycle}{of}. Save one cell per "
                "file, or tell cells apart in a column 'cell'.",
            )
    return tuple(first.values())


def _assumed(header_units: Mapping[str, str]) -> Mapping[str, str]:
    """What was taken for the units that the header does not name."""
    return {
        said: OURS[DIMENSIONS[m]]
        for m, said in (("current", "current"), ("rate", "current"), ("capacity", "capacity"))
        if m in header_units and not header_units[m]
    }


def _units_below(
    grid: Grid, top: int, layout: Layout, header_units: Mapping[str, str]
) -> tuple[int, Mapping[str, str]]:
    """Where the rows begin, and the units of the columns with those of a row below the header that holds no others."""
    below = grid.rows[top + 1] if top + 1 < len(grid.rows) else ()
    found = {meaning: below[at].strip() for meaning, (at, _) in layout.items() if at < len(below) and below[at].strip()}
    if not found or not all(map(units.is_unit, found.values())):
        return top + 1, header_units
    return top + 2, {meaning: unit or found.get(meaning, "") for meaning, unit in header_units.items()}


def _conditions(name: str, header: Sequence[str]) -> Mapping[int, str]:
    """Which columns hold a condition of the process.

    Raises:
        RuleBroken: E8 for a temperature in another unit than °C.
    """
    known = conditions_by_spelling()
    found = {i: known[spelled(cell)].name for i, cell in enumerate(header) if spelled(cell) in known}
    for i, cell in enumerate(header):
        what, unit = split_header(cell)
        if what == "temperature" and i not in found:
            if unit and units.normalised(unit) not in ("°c", "c", "degc"):
                raise RuleBroken("E8", f"{name}: give the temperature of the test in °C. Got column {cell!r}.")
            found[i] = "temperature_c"
    return found


def _process(where: str, cells: Sequence[str], conditions: Mapping[int, str]) -> Process:
    try:
        return Process.of(
            {c: tidy(cells[i], "," if "," in cells[i] else ".") for i, c in conditions.items() if i < len(cells)}
        )
    except ImpossibleValue as error:
        raise RuleBroken("E9", f"{where}: {error}") from None


def _is_remark(cells: tuple[str, ...], values: Mapping[str, str]) -> bool:
    """Whether a row is blank, a comment or a footer: a mark in front, or one cell alone that is no number."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return not filled or filled[0][0] in "#%!" or (len(filled) == 1 and len(values) > 1 and not filled[0][0].isdigit())


def _row(
    where: str, line: int, values: Mapping[str, str], header_units: Mapping[str, str], one_c: float | None
) -> SummaryRow:
    def number(meaning: str) -> float | None:
        return _number(where, meaning, values.get(meaning, ""), header_units.get(meaning, ""))

    if not values.get("capacity") and not values.get("capacity_mah"):
        raise RuleBroken("E9", f"{where}: the capacity is missing.")
    v_low, v_high = _window(where, values, header_units)
    stated = number("cycle")
    cycle = 1.0 if stated is None else stated
    if not 1 <= cycle <= MOST_CYCLES or cycle != int(cycle):
        raise RuleBroken("E9", f"{where}: cycles are counted from 1, to {MOST_CYCLES:,} at most. Got {cycle:g}.")
    one_c = number("one_c") if values.get("one_c") else one_c
    current, c_rate, is_bare = _stated_rate(where, values, header_units, one_c)
    return SummaryRow(
        row=line,
        composition=values.get("composition") or None,
        current_ma_g=current,
        v_low=v_low,
        v_high=v_high,
        cycle=int(cycle),
        capacity_mah_g=number("capacity"),
        proposal=values.get("proposal") or None,
        cell=values.get("cell") or None,
        capacity_mah=number("capacity_mah"),
        charged=_charged(where, values, header_units),
        c_rate=c_rate,
        is_bare_rate=is_bare,
    )


def _charged(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> float | None:
    """What the cell took, where the table says so in numbers; nothing is recorded of it."""
    meaning = "charge" if values.get("capacity") else "charge_mah"
    try:
        return _number(where, meaning, values.get(meaning, ""), header_units.get(meaning, ""))
    except RuleBroken:
        return None


def _window(
    where: str, values: Mapping[str, str], header_units: Mapping[str, str]
) -> tuple[float | None, float | None]:
    """Cut-offs (V), from the column of the window where that is filled."""
    texts = {meaning: values.get(meaning, "") for meaning in ("v_low", "v_high")}
    if values.get("window"):
        found = WINDOW.match(values["window"])
        if found is None:
            raise RuleBroken("E9", f"{where}: the window must read like 1.5-4.8. Got {values['window']!r}.")
        if any(text and not same(text, found[i]) for i, text in enumerate(texts.values(), start=1)):
            raise RuleBroken("E9", f"{where}: the window {values['window']} is not v_low and v_high beside it.")
        texts = {"v_low": found[1], "v_high": found[2]}
    low, high = (_number(where, meaning, text, header_units.get(meaning, "")) for meaning, text in texts.items())
    return low, high


def _stated_rate(
    where: str, values: Mapping[str, str], header_units: Mapping[str, str], one_c: float | None
) -> tuple[float | None, float | None, bool]:
    """Current (mA/g), or multiple of C where 1C is not known; and whether the current is a number without a unit.

    Raises:
        RuleBroken: E9 where a current and a rate beside it are not the same.
    """
    told = [_rate_of(where, m, values[m], header_units.get(m, ""), one_c) for m in ("current", "rate") if values.get(m)]
    currents = [current for current, _, _ in told if current is not None]
    if len(currents) > 1 and abs(currents[1] / currents[0] - 1) > SAME_CURRENT:
        raise RuleBroken(
            "E9",
            f"{where}: the current {currents[0]:g} mA/g is not the rate beside it, {currents[1]:g} mA/g. Correct one "
            "of them, or call the column C-rate.",
        )
    return told[0] if told else (None, None, False)


def _rate_of(
    where: str, meaning: str, text: str, unit: str, one_c: float | None
) -> tuple[float | None, float | None, bool]:
    """As :func:`_stated_rate`, of one column."""
    c_rate, its_one_c = parse_c_rate(text)
    one_c = its_one_c or one_c
    if c_rate is None and meaning == "rate" and units.normalised(unit) == "c" and not _has_unit(text):
        c_rate = _number(where, "rate", text, "")
    if c_rate is None:
        return _plain_rate(where, meaning, text, unit, one_c)
    return (c_rate * one_c, None, False) if one_c else (None, c_rate, False)


def _plain_rate(
    where: str, meaning: str, text: str, unit: str, one_c: float | None
) -> tuple[float | None, float | None, bool]:
    """As :func:`_stated_rate` of a number that is not said to be a multiple of C."""
    current = _number(where, meaning, text, unit)
    is_bare = not unit and not _has_unit(text)
    if is_bare and meaning == "rate" and one_c and current is not None:
        current *= one_c
    return current, None, is_bare


def parse_c_rate(text: str) -> tuple[float | None, float | None]:
    """Rate as a multiple of C of a text such as ``0.1C``, ``C/10`` or ``C/10 (1C = 200 mA/g)``, and 1C (mA/g).

    Returns:
        None for what the text does not give.
    """
    stated = _ONE_C.search(text)
    one_c = _value(stated[1]) if stated else None
    found = _C_RATE.fullmatch((_ONE_C.sub("", text) if stated else text).strip())
    if found is None:
        return None, one_c
    times, parts, over, under = (_value(part) if part else None for part in found.groups())
    if times is not None:
        return times, one_c
    if parts:
        return 1 / parts, one_c
    return (over / under if over is not None and under else None), one_c


def explain_c_rate(c_rate: float, theory_mah_g: float | None) -> str:
    """What a rate as a multiple of C would be in mA/g, and how to state it."""
    whole = (
        f"{c_rate:g}C is {c_rate * theory_mah_g:.4g} mA/g if 1C takes out all lithium ({theory_mah_g:.4g} mAh/g), and "
        if theory_mah_g
        else f"{c_rate:g}C is "
    )
    return (
        f"{whole}{c_rate * 200:.4g} mA/g if 1C = 200 mA/g. Give the current in mA/g, or state 1C: "
        f"'{c_rate:g}C (1C = 200 mA/g)' or a column '1C (mA/g)'."
    )


def _value(text: str) -> float | None:
    try:
        return float(tidy(text, "," if "," in text and "." not in text else "."))
    except ValueError:
        return None


def _has_unit(text: str) -> bool:
    found = _QUANTITY.fullmatch(text)
    return bool(found and found["unit"])


def _number(where: str, column: str, text: str, header_unit: str) -> float | None:
    """The number of a cell in our unit: by the unit beside it, else by that of the header."""
    if not text:
        return None
    value, unit = _quantity(where, column, text)
    unit = unit or header_unit
    dimension = "charge" if column.endswith("_mah") else DIMENSIONS.get(column)
    if dimension is None or not unit:
        return value
    factor = units.factor(dimension, unit)
    if factor is None:
        raise RuleBroken(
            "E8", f"{where}: the unit {unit!r} of {column} is not known; give {OURS.get(dimension, 'mAh')}."
        )
    return value * factor


def _quantity(where: str, column: str, text: str) -> tuple[float, str]:
    """A finite number and the unit beside it."""
    found = _QUANTITY.fullmatch(text.replace("−", "-"))
    value = _value(found["value"]) if found else None
    if found is None or value is None:
        raise RuleBroken("E9", f"{where}: {column} must be a number. Got {text!r:.40}.")
    if not abs(value) < HUGE:  # true for NaN too
        raise RuleBroken("E8", f"{where}: {column} must be finite. Got {text!r:.40}.")
    return value, found["unit"] or ""


READERS = (Reader(NAME, _recognises, _read, (".csv",)),)
