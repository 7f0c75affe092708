"""Tables of a cycler, whether they come from text or from a sheet, as rows in our units.

Which column means what is told in :mod:`campaigns.intake.readers.headers`, how a cell is written in
:mod:`campaigns.intake.readers.cells`. This module reads the columns that mean something and turns them into
:class:`~campaigns.intake.readers.recording.CyclerRows`.
"""

from __future__ import annotations

import csv
import io
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import cells, units
from campaigns.intake.readers.headers import (
    DIMENSIONS,
    Header,
    NamedColumn,
    check_one_of_each,
    check_reference,
    places_of_one_cell,
    split_line,
    with_units,
)
from campaigns.intake.readers.recording import CyclerRows, ReadOptions
from campaigns.intake.readers.unpacking import Head, open_bytes, position, whole_text
from drxnet.progress import Progress, silent

OPTION_NAMES = {"time": "time-unit", "voltage": "voltage-unit", "current": "current-unit", "charge": "capacity-unit"}
CHUNK_ROWS = 200_000
HEAD_ROWS = 400
"""Rows by which the decimal sign, the width of the table and the digits of the current are told."""

MOSTLY_NUMBERS = 0.8
"""Share of the cells of a column that must be numbers."""

MOST_DAYS = 1000.0
"""Times of a column of durations that are numbers with fractions below it are days, as a spreadsheet keeps them."""

MOST_VOLTS = 6.0
SENSED_C = (-40.0, 100.0)
"""Temperatures beyond are those of a sensor that is not connected (°C)."""

LEAST_ROWS_OF_MASS, MASS_AGREES = 5, 0.01
"""A charge and the same per gram tell a mass where so many rows tell the same one within this share."""

MOST_CHANNELS = 64
MOST_FOOTER_ROWS = 12


@dataclass(frozen=True, eq=False)
class Table:
    """The named columns of a table, and how its numbers are written."""

    columns: Mapping[str, pd.Series]
    """One series per quantity, as text or numbers."""

    named: Sequence[NamedColumn]
    decimal: str = "."
    current_step: float | None = None
    """Smallest difference of currents that the text can show, in the unit of its column; None for sheets."""

    notes: tuple[str, ...] = ()


def read_text_columns(head: Head, header: Header, options: ReadOptions, progress: Progress = silent) -> Table:
    """Read the named columns of a text table.

    Raises:
        RuleBroken: E9 where separator, decimal sign or rows cannot be made sense of.
    """
    name = head.path.name
    rows = [split_line(line, header.separator) for line in _body(head, header)]
    named, unit_rows = _with_unit_rows(rows, header)
    rows = rows[unit_rows:]
    if not rows:
        raise RuleBroken("E9", f"{name}: no rows below the header in line {header.line + 1}.")
    _check_row_names(name, rows, header)
    check_one_of_each(name, header.cells, places_of_one_cell(named), rows)
    decimal = _decimal_sign(name, rows, header, options)
    width = max(len(header.cells), *(len(row) for row in rows))
    below = head.lines[header.line + 1 : header.line + 1 + unit_rows]
    skip = header.line + 1 + unit_rows + sum(not line.strip() for line in below)
    table = _read_columns(head, header, skip, width, decimal, progress)
    written = _written_currents(rows, named)
    return Table(
        {column.quantity: table[column.position] for column in named},
        named,
        decimal,
        cells.written_step(written, decimal) if written else None,
        (f"decimal comma, columns separated by {header.separator!r}",) if decimal == "," else (),
    )


def _check_row_names(name: str, rows: Sequence[Sequence[str]], header: Header) -> None:
    """Refuse rows that begin with a number of their own which the header does not name, as R writes them."""
    ahead = rows[: len(rows) - 1] or rows  # the last may be cut
    first = [cells.tidy(row[0]) for row in ahead]
    longer = all(len(row) == len(header.cells) + 1 and row[-1].strip() for row in ahead)
    if not longer or not all(map(str.isdigit, first)):
        return
    counts = all(int(text) == int(first[0]) + i for i, text in enumerate(first))
    voltage = next(column.position for column in header.columns if column.quantity == "voltage")
    if counts and any(_is_beyond_volts(row[voltage]) for row in ahead):
        raise RuleBroken(
            "E9",
            f"{name}: each row holds one cell more than the header in line {header.line + 1} names, and begins with a "
            "number of its own. Give that column a name, too (in R: write.csv, or col.names = NA).",
        )


def _is_beyond_volts(cell: str) -> bool:
    try:
        return not 0 <= float(cells.tidy(cell)) <= MOST_VOLTS
    except ValueError:
        return True


def _with_unit_rows(rows: Sequence[Sequence[str]], header: Header) -> tuple[tuple[NamedColumn, ...], int]:
    """The columns with the units that up to three rows below the header give, and the number of these rows."""
    named, count = header.columns, 0
    for row in rows[:3]:
        if _has_number(row, header):
            break
        named, count = with_units(named, row), count + 1
    return named, count


def _written_currents(rows: Sequence[Sequence[str]], named: Sequence[NamedColumn]) -> list[str]:
    places = [column.position for column in named if column.quantity == "current"]
    return [row[places[0]] for row in rows if places and places[0] < len(row)]


def _body(head: Head, header: Header) -> list[str]:
    """The first lines below a header that hold something, each as a whole."""
    body = [line for line in head.lines[header.line + 1 : header.line + HEAD_ROWS] if line.strip()]
    cut_off = not head.complete and header.line + HEAD_ROWS > len(head.lines)
    return body[:-1] if body and cut_off else body


def _read_columns(head: Head, header: Header, skip: int, width: int, decimal: str, progress: Progress) -> pd.DataFrame:
    name = head.path.name
    positions = [column.position for column in header.columns]
    chunks = []
    try:
        with _stream(head) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            total = max(head.path.stat().st_size, 1)
            reader = pd.read_csv(
                file,
                sep=header.separator,
                header=None,
                names=list(range(width)),
                index_col=False,
                skiprows=skip,
                decimal=decimal,
                encoding=head.encoding,
                encoding_errors="replace",
                engine="c" if len(header.separator) == 1 else "python",
                chunksize=CHUNK_ROWS,
                skipinitialspace=True,
                quoting=csv.QUOTE_MINIMAL,
            )
            for chunk in reader:
                chunks.append(chunk[positions])
                progress(min(position(file), total), total)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise RuleBroken(
            "E9", f"{name}: rows do not match the header in line {header.line + 1} ({reason}). Export the file again."
        ) from None
    except (OSError, EOFError, zlib.error, UnicodeError, OverflowError) as error:
        raise RuleBroken("E9", f"{name}: cannot be decoded ({error}). Save it as UTF-8.") from None
    table = pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame()
    if table.empty:
        raise RuleBroken("E9", f"{name}: no rows below the header in line {header.line + 1}.")
    return table


def _stream(head: Head) -> AbstractContextManager[Any]:
    if head.quoted_lines:
        return io.StringIO(whole_text(head))
    return open_bytes(head.path)


def rows_from_columns(
    format_name: str,
    file_name: str,
    table: Table,
    options: ReadOptions,
    notes: Sequence[str] = (),
    header_mass_mg: float | None = None,
    header_material: str | None = None,
) -> CyclerRows:
    """Turn columns of text or numbers into rows in our units.

    Raises:
        RuleBroken: E8 for a unit that is not known, E9 for a column that does not hold numbers or for rows of several
            channels.
    """
    said = [*table.notes, *notes]
    columns = table.columns
    check_reference(file_name, (column.header for column in table.named if column.quantity == "voltage"))
    by_quantity = {column.quantity: column for column in table.named}
    values = _values(file_name, table, options, said)
    keep = _with_numbers(values, len(columns["voltage"]), said)
    keep[_footer(table, values, keep, said)] = False
    if "channel" in columns:
        _check_one_channel(file_name, columns["channel"][keep], by_quantity["channel"].header)
    timing = _timing(table, values, keep, said)
    if timing is None:
        raise RuleBroken("E9", f"{file_name}: no time column that can be read; export the elapsed time.")
    time = timing.time_s
    if "time" in by_quantity and options.time_unit is None:
        time = time * _told_time_unit(time, by_quantity["time"], values, timing.clock_span_s, said)
    per_gram = "current" in by_quantity and by_quantity["current"].per_mass
    if per_gram:
        said.append(f"{by_quantity['current'].header}: current per gram, by the mass that the instrument was told")

    def kept(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None or np.isnan(array[keep]).all() else array[keep]

    return CyclerRows(
        format=format_name,
        voltage_v=values["voltage"][keep],
        time_s=time[keep],
        step_time_s=None if timing.of_step else kept(values.get("step_time")),
        current_ma=kept(values.get("current")),
        moved_mah=None if per_gram else kept(values.get("moved")),
        charge_mah=None if per_gram else kept(values.get("charge")),
        discharge_mah=None if per_gram else kept(values.get("discharge")),
        capacity_mah=kept(values.get("specific" if per_gram else "capacity")),
        per_gram=per_gram,
        state=cells.state_codes(columns["state"])[keep] if "state" in columns else None,
        step=kept(values.get("step")),
        record=kept(values.get("record")),
        cycle=kept(values.get("cycle")),
        clock_span_s=timing.clock_span_s,
        time_of_step=timing.of_step,
        header_mass_mg=header_mass_mg or _mass_told(values, keep),
        header_material=header_material,
        temperature_c=_temperature_c(table, by_quantity.get("temperature")),
        current_digits=_current_digits(table),
        notes=tuple(said),
    )


def _values(file_name: str, table: Table, options: ReadOptions, said: list[str]) -> dict[str, np.ndarray]:
    """Every column of numbers, in our unit where it has one."""
    columns = table.columns
    by_quantity = {column.quantity: column for column in table.named}
    values = {
        quantity: _in_our_unit(file_name, table, by_quantity[quantity], options, said)
        for quantity in DIMENSIONS
        if quantity in columns
    }
    counts = [quantity for quantity in ("record", "step", "cycle") if quantity in columns]
    return values | {quantity: cells.numbers(columns[quantity], table.decimal) for quantity in counts}


def _mass_told(values: Mapping[str, np.ndarray], keep: np.ndarray) -> float | None:
    """Mass that the instrument divided by (mg): that of a charge and the same per gram; None where neither tells."""
    charges = [values[quantity] for quantity in ("discharge", "capacity", "charge") if quantity in values]
    for charge in charges if "specific" in values else ():
        per_gram = values["specific"]
        rows = keep & (charge > 0) & (per_gram > 0)
        mass = charge[rows] / per_gram[rows] * 1e3
        mass = mass[per_gram[rows] > 0.5 * per_gram[rows].max(initial=0)]  # smaller ones have few digits
        if len(mass) >= LEAST_ROWS_OF_MASS and np.ptp(mass) < MASS_AGREES * np.median(mass):
            return float(f"{np.median(mass):.3g}")
    return None


def _with_numbers(values: Mapping[str, np.ndarray], rows: int, said: list[str]) -> np.ndarray:
    """Which rows hold a number that counts, ``rows``."""
    keep = np.zeros(rows, bool)
    for quantity in {"voltage", "current", "moved"} & values.keys():
        keep |= ~np.isnan(values[quantity])
    if not keep.all():
        said.append(f"{int((~keep).sum())} lines without numbers left out")
    return keep


def _footer(table: Table, values: Mapping[str, np.ndarray], keep: np.ndarray, said: list[str]) -> np.ndarray:
    """Which of the last rows name a total, a mean or a maximum where the rows above count, ``k``."""
    named = np.zeros(len(keep), bool)
    for quantity in {"record", "step", "cycle", "time", "step_time"} & values.keys():
        no_number = np.flatnonzero(np.isnan(values[quantity]) & keep)[-10 * MOST_FOOTER_ROWS :]
        text = table.columns[quantity].iloc[no_number].astype(str).str.strip()
        words = no_number[text.str.contains(r"[^\W\d_]{2}").to_numpy(bool) & (text != "nan").to_numpy()]
        if len(words) <= MOST_FOOTER_ROWS:
            named[words] = True
    kept = np.flatnonzero(keep)
    footer = kept[np.flip(np.logical_and.accumulate(np.flip(named[kept])))]
    if len(footer):
        said.append(f"{len(footer)} lines at the end that name a sum left out")
    return footer


@dataclass(frozen=True)
class _Timing:
    """When the rows of a table were written."""

    time_s: np.ndarray
    of_step: bool
    """Whether it begins anew with every step."""

    clock_span_s: float | None
    """Between the dates of the first row and the last, where the time is not taken from these."""


def _timing(table: Table, values: Mapping[str, np.ndarray], keep: np.ndarray, said: list[str]) -> _Timing | None:
    """Elapsed time, else time in the step, else dates; None where no column tells."""
    time, of_step = _since_beginning(values.get("time")), False
    if time is None and "step_time" in values:
        time, of_step = values["step_time"], True
    dates = table.columns.get("clock")
    if dates is None:
        return None if time is None else _Timing(time, of_step, None)
    if time is None or np.isnan(time[keep]).all():
        said.append("elapsed time taken from the date column")
        found = cells.clock(dates[keep].reset_index(drop=True))
        return None if found is None else _Timing(_spread(found, keep), False, None)
    ends = cells.clock(dates.iloc[[0, -1]])
    return _Timing(time, of_step, None if ends is None else float(ends[1] - ends[0]))


def _since_beginning(time: np.ndarray | None) -> np.ndarray | None:
    """Elapsed time (s), of a column that counts the seconds since 1970 as well."""
    known = np.empty(0) if time is None else time[np.isfinite(time)]
    since_1970 = len(known) and cells.SINCE_1970_S[0] < known.min() and known.max() < cells.SINCE_1970_S[1]
    return time - known[0] if time is not None and since_1970 else time


def _told_time_unit(
    time: np.ndarray,
    column: NamedColumn,
    values: Mapping[str, np.ndarray],
    clock_span_s: float | None,
    said: list[str],
) -> float:
    """Factor to seconds of a time column whose unit the table does not name: by its dates, else by its charge.

    1 where it is named, or nothing beside it tells another unit.
    """
    assumed = units.factor("time", column.unit)
    if column.unit_is_stated or assumed is None:
        return 1.0
    witness = _duration_beside(time, values, clock_span_s)
    if witness is None:
        return 1.0
    ratio, told_by, tolerance = witness
    raw = ratio * assumed
    for factor, name in ((1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"), (86400.0, "days"), (1e-3, "ms")):
        if abs(raw / factor - 1) < tolerance and abs(ratio - 1) > tolerance:
            said.append(f"{column.header} taken as {name}, as {told_by} beside it would have it")
            return factor / assumed
    return 1.0


def _duration_beside(
    time: np.ndarray, values: Mapping[str, np.ndarray], clock_span_s: float | None
) -> tuple[float, str, float] | None:
    """How much longer than its time column a table lasted, what tells it, and how exactly; None where nothing does."""
    finite = time[np.isfinite(time)]
    span = float(finite[-1] - finite[0]) if len(finite) > 1 else 0.0
    if span <= 0:
        return None
    if clock_span_s and clock_span_s > 0:
        return clock_span_s / span, "the dates", 0.02
    moved = _charge_of_columns(values)
    if not moved or "current" not in values:
        return None
    whole = np.isfinite(time) & np.isfinite(values["current"])
    since = np.maximum(np.diff(time[whole], prepend=finite[0]), 0.0)
    total = float((np.abs(values["current"][whole]) * since).sum() / 3600.0)
    return (moved / total if total > 0 else 1.0), "the capacity", 0.2


def _charge_of_columns(values: Mapping[str, np.ndarray]) -> float:
    """Charge that the instrument's capacities say was moved in both directions (mAh); 0 where they do not tell."""
    both = [values[q] for q in ("charge", "discharge") if q in values]
    chosen = both if len(both) == 2 else [values["capacity"]] if "capacity" in values else []
    total = 0.0
    for column in chosen:
        known = np.abs(column[np.isfinite(column)])
        step = np.diff(known, prepend=0.0)
        total += float(np.where(step < 0, known, step).sum())
    return total


def _spread(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    spread = np.full(len(keep), np.nan)
    spread[keep] = values
    return spread


def _temperature_c(table: Table, column: NamedColumn | None) -> float | None:
    """Usual temperature of the rows (°C); None where no sensor tells."""
    if column is None:
        return None
    found = cells.numbers(table.columns["temperature"], table.decimal)
    found = found[np.isfinite(found) & (found != 0)]
    typical = float(np.median(found)) if len(found) else np.nan
    unit = units.normalised(column.unit)
    typical = (typical - 32) / 1.8 if unit == "°f" else typical - 273.15 if unit.startswith("k") else typical
    return typical if SENSED_C[0] < typical < SENSED_C[1] else None


def _current_digits(table: Table) -> int | None:
    if "current" not in table.columns:
        return None
    return cells.written_digits(table.columns["current"], table.current_step)


def _check_one_channel(file_name: str, series: pd.Series, header: str) -> None:
    names = series.dropna().astype(str).str.strip()
    names = names[names != ""]
    distinct = list(dict.fromkeys(names))
    if 1 < len(distinct) <= MOST_CHANNELS and len(distinct) <= len(names) / 4:
        raise RuleBroken(
            "E9",
            f"{file_name}: holds the rows of {len(distinct)} channels or cells ({header}: {', '.join(distinct[:4])}"
            f"{', ...' if len(distinct) > 4 else ''}). Export one per file.",
        )


def _has_number(row: Sequence[str], header: Header) -> bool:
    column = next(c for c in header.columns if c.quantity == "voltage")
    if column.position >= len(row):
        return False
    text = cells.tidy(row[column.position])
    return text[:1] in "+-.," and any(c.isdigit() for c in text) or text[:1].isdigit()


def _decimal_sign(name: str, rows: Sequence[Sequence[str]], header: Header, options: ReadOptions) -> str:
    ambiguous = RuleBroken(
        "E9", f"{name}: cannot tell decimal comma from separator; save as UTF-8 with dots or pass --decimal ','."
    )
    voltage = next(column.position for column in header.columns if column.quantity == "voltage")
    filled = [row for row in rows if _begins_a_number(row, voltage)] or rows
    if header.separator == "," and max(map(_filled_cells, filled)) > len(header.cells) + 1:
        raise ambiguous
    written = _written_numbers(filled, header)
    sign = cells.decimal_sign(written)
    chosen = options.decimal or sign
    if chosen is None:
        raise ambiguous
    if sign not in (None, chosen) and any(str(sign) in cell for cell in written):
        raise RuleBroken("E9", f"{name}: the numbers are written with {sign!r}, not with {options.decimal!r}.")
    return chosen


def _filled_cells(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def _written_numbers(rows: Sequence[Sequence[str]], header: Header) -> list[str]:
    positions = [column.position for column in header.columns if column.quantity in DIMENSIONS]
    return [row[i].strip() for row in rows for i in positions if i < len(row)]


def _begins_a_number(row: Sequence[str], position: int) -> bool:
    return position < len(row) and row[position].strip()[:1].strip("+-.,−").isdigit()


def _in_our_unit(
    file_name: str, table: Table, column: NamedColumn, options: ReadOptions, said: list[str]
) -> np.ndarray:
    series, dimension, unit = table.columns[column.quantity], column.dimension, column.unit
    assert dimension is not None
    stated = {
        "time": options.time_unit,
        "voltage": options.voltage_unit,
        "current": options.current_unit,
        "charge": options.capacity_unit,
    }.get(dimension)
    if dimension == "time" and not pd.api.types.is_numeric_dtype(series):
        if (dates := cells.clock(series)) is not None:
            return dates - dates[np.isfinite(dates)][0]
        if units.is_duration(unit) or cells.looks_like_durations(series):
            return _durations(file_name, table, column, stated, said)
    found = cells.numbers(series, table.decimal)
    cells.refuse_words(file_name, series, found, column.header, MOSTLY_NUMBERS)
    found, codes = cells.without_codes(found, signed=dimension not in ("time", "voltage"))
    said += [f"{codes} cells of {column.header} hold a number that stands for no value; left out"] if codes else []
    factor = _factor(column, found, said) if stated is None else stated
    if factor is None:
        option = OPTION_NAMES.get(dimension)
        way = f"pass --{option}" if option else "export it in mAh/g"
        raise RuleBroken("E8", f"{file_name}: the unit {unit!r} of column {column.header!r} is not known; {way}.")
    return found * factor


def _factor(column: NamedColumn, found: np.ndarray, said: list[str]) -> float | None:
    """Factor from the unit of a column to ours; None where it is not known."""
    dimension, unit = column.dimension, column.unit
    assert dimension is not None
    if dimension == "time" and (units.is_duration(unit) or units.is_hours_and_minutes(unit)):
        return _numeric_duration(found, column, said)
    factor = units.factor(dimension, unit)
    if factor is None and column.per_mass:
        return units.factor(units.PER_MASS[dimension], unit)
    return factor


def _durations(file_name: str, table: Table, column: NamedColumn, stated: float | None, said: list[str]) -> np.ndarray:
    """Seconds of text such as ``12:30:01`` or ``12:30``; of two parts the unit, the user or a capacity tells which."""
    series = table.columns[column.quantity]
    hours_first = units.is_hours_and_minutes(column.unit)
    if cells.two_part_durations(series) and not hours_first and stated is None:
        written_out = units.is_duration(column.unit) and column.unit_is_stated
        if not written_out and not {"charge", "discharge", "capacity", "moved"} & table.columns.keys():
            raise RuleBroken(
                "E8",
                f"{file_name}: times such as {series.dropna().iloc[0]!r:.20} may be h:mm or m:ss; nothing guessed. "
                "Pass --time-unit min for h:mm, --time-unit s for m:ss, or name the unit in the header.",
            )
        hours_first = True
        said.append(f"{column.header} taken as h:mm")
    seconds = cells.durations(series, hours_first)
    cells.refuse_words(file_name, series, seconds, column.header, MOSTLY_NUMBERS)
    return seconds * (stated or 1.0)


def _numeric_duration(found: np.ndarray, column: NamedColumn, said: list[str]) -> float:
    """Seconds of one unit where a spreadsheet has turned durations into numbers: days with fractions, or seconds."""
    finite = found[np.isfinite(found)]
    if len(finite) and np.abs(finite).max() < MOST_DAYS and (finite != np.round(finite)).mean() > 0.5:
        said.append(f"{column.header} taken as days, as a spreadsheet keeps durations")
        return 86400.0
    return 1.0


def text_stream(head: Head) -> IO[str]:
    """The whole file as text."""
    if head.quoted_lines:
        return io.StringIO(whole_text(head))
    return io.TextIOWrapper(open_bytes(head.path), encoding=head.encoding, errors="replace", newline="")
