"""Tables of a cycler, whether they come from text or from a sheet: which column means what, in which unit.

A format describes its columns as a :class:`Vocabulary`: header stem -> quantity and default unit. This
module finds the header line, the separator and the decimal sign, reads the columns that mean something and
turns them into :class:`~campaigns.intake.readers.recording.CyclerRows`.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.recording import (
    CHARGE,
    DISCHARGE,
    REST,
    UNKNOWN,
    CyclerRows,
    Head,
    ReadOptions,
    open_bytes,
)
from drxnet.progress import Progress, silent

Vocabulary = Mapping[str, tuple[str, str]]
"""Header stem (lower case, letters and digits only) -> quantity, default unit."""

DIMENSIONS: Mapping[str, str] = {
    "time": "time",
    "step_time": "time",
    "voltage": "voltage",
    "current": "current",
    "moved": "charge",
    "charge": "charge",
    "discharge": "charge",
    "capacity": "charge",
    "specific": "specific",
}
"""Quantities that have a unit, and its dimension."""

OPTION_NAMES = {"time": "time-unit", "voltage": "voltage-unit", "current": "current-unit", "charge": "capacity-unit"}
MAX_HEADER_LINES = 400
HUGE = 1e30
"""No column of any unit holds numbers beyond."""

MOST_DIGITS = 0.25
"""Share of digits above which a line is no header."""

CHUNK_ROWS = 200_000
MOSTLY_NUMBERS = 0.8
"""Share of the cells of a column that must be numbers."""

_SEPARATORS = ("\t", ";", ",", "|", r"\s{2,}")
_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+(?:[eE][+-]?\d+)?$")
_DECIMAL_POINT = re.compile(r"^[+-]?\d*\.\d+(?:[eE][+-]?\d+)?$")
_REFERENCE = re.compile(r"\s+vs\b\.?\s*[^)\]]*", re.IGNORECASE)
"""What a potential is measured against, as in ``Ewe/V vs. Li/Li+``."""

_DURATION = re.compile(r"(?:(\d+)\s*[dD][a-z]*[\s,.:-]*)?(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?(?:[eE]-\d+)?)")
_CLOCK_TEXT = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


@dataclass(frozen=True)
class NamedColumn:
    """A column that means something."""

    position: int
    header: str
    quantity: str
    unit: str
    unit_is_stated: bool = True
    """Whether the table itself names the unit; otherwise it is what the vocabulary gives."""


@dataclass(frozen=True)
class Header:
    """Where the table begins, and what its columns are."""

    line: int
    """Number of lines above the header."""

    separator: str
    cells: tuple[str, ...]
    columns: tuple[NamedColumn, ...]

    @property
    def quantities(self) -> frozenset[str]:
        """What the columns hold."""
        return frozenset(column.quantity for column in self.columns)

    @property
    def missing(self) -> tuple[str, ...]:
        """What a discharge needs and no column holds: of voltage, time, and current."""
        needed = {"voltage": {"voltage"}, "time": {"time", "step_time", "clock"}, "current": {"current", "moved"}}
        return tuple(name for name, any_of in needed.items() if not self.quantities & any_of)

    @property
    def complete(self) -> bool:
        """Whether the columns are enough for a discharge: voltage, a time, and a current or charge."""
        return not self.missing

    @property
    def stems(self) -> frozenset[str]:
        """Stems of all cells, known or not."""
        return frozenset(split_header(cell)[0] for cell in self.cells)


@lru_cache(maxsize=8192)
def split_header(cell: str) -> tuple[str, str]:
    """Split a header into its stem and its unit.

    ``Voltage(V)``, ``I/mA``, ``Current [A]``, ``Test Time / s``, ``Voltage#V`` and ``current_ampere`` are all
    understood.
    """
    text = _REFERENCE.sub("", cell.strip().strip("\ufeff\"'~").strip())
    if text.startswith("|"):
        return f"magnitude of {text}", ""  # |I| and |Ewe| of impedance are not the current and the voltage
    for pattern in (
        r"^(.*?)\s*[(\[{]([^()\[\]{}]*)[)\]}]?\s*$",
        r"^(.+?)\s*[/#]\s*([^/#]+(?:/k?g)?)$",
        r"^(.+?)\s*,\s*(\S+)$",
    ):
        found = re.match(pattern, text)
        if found and _stem(found[1]):
            return _stem(found[1]), found[2].strip()
    words = text.replace(" ", "_").split("_")
    for tail in (2, 1):
        if len(words) > tail:
            unit = "".join(words[-tail:])
            if any(units.factor(dimension, unit) for dimension in units.UNITS) and not (
                tail == 1 and len(unit) == 1 and unit in "dc"
            ):
                return _stem("".join(words[:-tail])), unit
    return _stem(text), ""


def _stem(text: str) -> str:
    return re.sub(r"[^a-z0-9\u4e00-\u9fff]", "", text.lower())


def find_header(lines: Sequence[str], vocabulary: Vocabulary) -> Header | None:
    """The line that names the most known quantities, enough for a discharge; None where no line does."""
    return _richest(header for header in _headers(lines, vocabulary) if header.complete)


def nearest_header(lines: Sequence[str], vocabulary: Vocabulary) -> Header | None:
    """The line that names the most known quantities, whether they are enough or not; None where no line names any."""
    return _richest(header for header in _headers(lines, vocabulary) if header.columns)


def _richest(headers: Iterable[Header]) -> Header | None:
    return max(headers, key=lambda header: len(header.columns), default=None)  # the first of equal ones


def _headers(lines: Sequence[str], vocabulary: Vocabulary) -> Iterator[Header]:
    """Every line that may be a header, split in every way."""
    for number, line in enumerate(lines[:MAX_HEADER_LINES]):
        if not 5 <= len(line) <= 20_000 or sum(map(line.count, "0123456789")) > MOST_DIGITS * len(line):
            continue
        for separator in _SEPARATORS:
            if separator != r"\s{2,}" and separator not in line:
                continue
            cells = split_line(line, separator)
            yield Header(number, separator, tuple(cells), name_columns(cells, vocabulary))


def split_line(line: str, separator: str) -> list[str]:
    """Cells of a line."""
    if len(separator) > 1:
        return re.split(separator, line.strip())
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def name_columns(cells: Sequence[Any], vocabulary: Vocabulary) -> tuple[NamedColumn, ...]:
    """The columns whose header is known; of several with the same quantity the first in the vocabulary.

    A charge per gram, by whatever mass the instrument was told, is not taken for a charge, nor a current per gram
    where there is a current.
    """
    order = {stem: i for i, stem in enumerate(vocabulary)}
    found: dict[str, tuple[tuple[bool, int], NamedColumn]] = {}
    for position, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            continue
        stem, unit = split_header(cell)
        if stem not in vocabulary:
            stem, unit = _stem(cell), ""
        if stem not in vocabulary:
            continue
        quantity, default = vocabulary[stem]
        column = NamedColumn(position, cell.strip(), quantity, unit or default, bool(unit) or not default)
        per_gram = units.is_per_mass(column.unit)
        if per_gram and DIMENSIONS.get(quantity) == "charge":
            continue
        rank = (per_gram, order[stem])
        if quantity not in found or rank < found[quantity][0]:
            found[quantity] = (rank, column)
    return tuple(column for _, column in sorted(found.values(), key=lambda item: item[1].position))


def with_units(columns: Sequence[NamedColumn], below: Sequence[Any]) -> tuple[NamedColumn, ...]:
    """The columns with the units of a row below the header, where the header itself names none."""
    found = []
    for column in columns:
        cell = below[column.position] if column.position < len(below) else None
        unit = cell.strip(" ()[]") if isinstance(cell, str) and not column.unit_is_stated else ""
        dimension = DIMENSIONS.get(column.quantity)
        if dimension == "charge" and units.is_per_mass(unit):
            continue
        known = dimension is not None and units.factor(dimension, unit) is not None
        found.append(replace(column, unit=unit, unit_is_stated=True) if known else column)
    return tuple(found)


def assumed_units(columns: Sequence[NamedColumn]) -> list[str]:
    """What was taken for the units of time, voltage and current that a table does not name, for a person to read."""
    assumed = (c for c in columns if c.quantity in ("time", "voltage", "current") and not c.unit_is_stated)
    return [f"{column.header} taken as {column.unit}: the table names no unit" for column in assumed]


def read_text_columns(
    head: Head, header: Header, options: ReadOptions, progress: Progress = silent
) -> tuple[dict[str, pd.Series], tuple[NamedColumn, ...], list[str]]:
    """Read the named columns of a text table.

    Returns:
        One series per quantity, as text or numbers, the columns with their units, and notes.

    Raises:
        RuleBroken: E9 where separator, decimal sign or rows cannot be made sense of.
    """
    name = head.path.name
    body = [line for line in head.lines[header.line + 1 : header.line + 400] if line.strip()]
    if not head.complete and body:
        body = body[:-1]
    rows = [split_line(line, header.separator) for line in body]
    unit_rows, named = 0, header.columns
    while unit_rows < len(rows) and unit_rows < 3 and not _has_number(rows[unit_rows], header):
        named = with_units(named, rows[unit_rows])
        unit_rows += 1
    rows = rows[unit_rows:]
    if not rows:
        raise RuleBroken("E9", f"{name}: no rows below the header in line {header.line + 1}.")
    decimal = _decimal_sign(name, rows, header, options)
    width = max(len(header.cells), *(len(row) for row in rows))
    skip = (
        header.line
        + 1
        + unit_rows
        + sum(not line.strip() for line in head.lines[header.line + 1 : header.line + 1 + unit_rows])
    )
    positions = [column.position for column in named]
    chunks = []
    try:
        with open_bytes(head.path) as file, warnings.catch_warnings():
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
                progress(min(_position(file), total), total)
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
    notes = [f"decimal comma, columns separated by {header.separator!r}"] if decimal == "," else []
    return {column.quantity: table[column.position] for column in named}, named, notes


def rows_from_columns(
    format_name: str,
    file_name: str,
    columns: Mapping[str, pd.Series],
    named: Sequence[NamedColumn],
    options: ReadOptions,
    notes: Sequence[str] = (),
    header_mass_mg: float | None = None,
    header_material: str | None = None,
) -> CyclerRows:
    """Turn columns of text or numbers into rows in our units.

    Raises:
        RuleBroken: E8 for a unit that is not known, E9 for a column that does not hold numbers.
    """
    said = list(notes)
    by_quantity = {column.quantity: column for column in named}
    values: dict[str, np.ndarray] = {}
    for quantity, dimension in DIMENSIONS.items():
        if quantity in columns:
            values[quantity] = _in_our_unit(file_name, columns[quantity], by_quantity[quantity], dimension, options)
    for quantity in ("record", "step", "cycle"):
        if quantity in columns:
            values[quantity] = numbers(columns[quantity])
    keep = np.zeros(len(columns["voltage"]), bool)
    for quantity in ("voltage", "current", "moved"):
        if quantity in values:
            keep |= ~np.isnan(values[quantity])
    if not keep.all():
        said.append(f"{int((~keep).sum())} lines without numbers left out")
    time, of_step = values.get("time"), False
    if time is None and "step_time" in values:
        time, of_step = values["step_time"], True
    clock_span = None
    if "clock" in columns:
        if time is None or np.isnan(time[keep]).all():
            time, of_step = _clock(columns["clock"]), False
            said.append("elapsed time taken from the date column")
        else:
            ends = _clock(columns["clock"].iloc[[0, -1]])
            clock_span = None if ends is None else float(ends[1] - ends[0])
    if time is None:
        raise RuleBroken("E9", f"{file_name}: no time column that can be read; export the elapsed time.")
    state = state_codes(columns["state"]) if "state" in columns else None
    current = values.get("current")

    def kept(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None or np.isnan(array[keep]).all() else array[keep]

    return CyclerRows(
        format=format_name,
        voltage_v=values["voltage"][keep],
        time_s=time[keep],
        step_time_s=None if of_step else kept(values.get("step_time")),
        current_ma=kept(current),
        moved_mah=kept(values.get("moved")),
        charge_mah=kept(values.get("charge")),
        discharge_mah=kept(values.get("discharge")),
        capacity_mah=kept(values.get("capacity")),
        specific_mah_g=kept(values.get("specific")),
        state=None if state is None else state[keep],
        step=kept(values.get("step")),
        record=kept(values.get("record")),
        cycle=kept(values.get("cycle")),
        clock_span_s=clock_span,
        time_of_step=of_step,
        header_mass_mg=header_mass_mg,
        header_material=header_material,
        current_digits=_digits(columns["current"]) if "current" in columns else None,
        notes=tuple(said),
    )


def numbers(series: pd.Series) -> np.ndarray:
    """Numbers of a column; NaN for what is none, infinite beyond :data:`HUGE`."""
    if pd.api.types.is_bool_dtype(series):
        return np.full(len(series), np.nan)
    found = pd.to_numeric(series, errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.abs(found) > HUGE, np.copysign(np.inf, found), found)


def durations(series: pd.Series) -> np.ndarray:
    """Seconds of a column such as ``0d 06:00:00.04``, ``12:30:01`` or ``36:00:00``; NaN for what is none."""
    text = series.astype(str).to_numpy(dtype=np.str_)
    seconds = np.full(len(text), np.nan)
    lengths = np.char.str_len(text)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        seconds[rows] = _clock_digits(text[rows].astype(f"U{max(int(length), 1)}"))
    odd = np.flatnonzero(np.isnan(seconds))
    seconds[odd] = [_duration(word) for word in text[odd]]
    return seconds


def _clock_digits(text: np.ndarray) -> np.ndarray:
    """Seconds of texts of one length and one form ``[h..]h:mm:ss[.f..]``; NaN where they have another form."""
    form = re.fullmatch(r"(\d+):(\d\d):(\d\d)([.,]\d+)?", str(text[0]))
    if form is None:
        return np.full(len(text), np.nan)
    letters = text.view(np.uint32).reshape(len(text), -1).astype(np.int64)
    digits = letters - ord("0")
    numeric = [i for i, letter in enumerate(str(text[0])) if letter.isdigit()]
    others = [i for i in range(letters.shape[1]) if i not in numeric]
    alike = ((digits[:, numeric] >= 0) & (digits[:, numeric] <= 9)).all(1) & (
        letters[:, others] == letters[0, others]
    ).all(1)
    seconds = np.zeros(len(text))
    for group, scale in ((1, 3600.0), (2, 60.0), (3, 1.0)):
        for place, i in enumerate(reversed(range(*form.span(group)))):
            seconds += digits[:, i] * scale * 10.0**place
    for place, i in enumerate(range(form.end(3) + 1, letters.shape[1]), start=1):
        seconds += digits[:, i] * 10.0**-place
    return np.where(alike, seconds, np.nan)


def _duration(word: str) -> float:
    found = _DURATION.fullmatch(word.strip())
    if found is None:
        return float("nan")
    days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in found.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def state_codes(series: pd.Series) -> np.ndarray:
    """CHARGE, REST, DISCHARGE or UNKNOWN for each cell of a state column."""
    codes, words = pd.factorize(series.astype(str))
    return np.array([_state_code(word) for word in words] or [UNKNOWN], np.int8)[codes]


def _state_code(word: str) -> int:
    text = word.strip().lower().replace("_", " ")
    if text in ("d", "-1", "dis") or re.search(r"dchg|disch|d_chg|dis chg|放电|delith", text):
        return DISCHARGE
    if text in ("c", "chg", "chrg") or re.search(r"chg|charge|充电", text):
        return CHARGE
    if text in ("r", "p", "o", "rest", "pause", "ocv", "ocp", "stop", "standby") or re.search(
        r"rest|pause|ocv|静置|搁置|idle|open circuit", text
    ):
        return REST
    return UNKNOWN


def _has_number(row: Sequence[str], header: Header) -> bool:
    column = next(c for c in header.columns if c.quantity == "voltage")
    return column.position < len(row) and bool(re.match(r"^\s*[+-]?[\d.,]+", row[column.position]))


def _decimal_sign(name: str, rows: Sequence[Sequence[str]], header: Header, options: ReadOptions) -> str:
    ambiguous = RuleBroken(
        "E9", f"{name}: cannot tell decimal comma from separator; save as UTF-8 with dots or pass --decimal ','."
    )
    if header.separator == ",":
        longest = max(len([cell for cell in row if cell.strip()]) for row in rows)
        if longest > len(header.cells) + 1:
            raise ambiguous
    positions = [column.position for column in header.columns if column.quantity in DIMENSIONS]
    cells = [row[i].strip() for row in rows for i in positions if i < len(row)]
    commas = sum(bool(_DECIMAL_COMMA.match(cell)) for cell in cells)
    points = sum(bool(_DECIMAL_POINT.match(cell)) for cell in cells)
    if options.decimal is not None:
        if (commas if options.decimal == "." else points) and not (points if options.decimal == "." else commas):
            raise RuleBroken(
                "E9", f"{name}: the numbers are written with {',' if commas else '.'!r}, not with {options.decimal!r}."
            )
        return options.decimal
    if commas and points:
        raise ambiguous
    return "," if commas else "."


def _position(file: Any) -> int:
    raw = getattr(file, "fileobj", None) or file
    try:
        return int(raw.tell())
    except (OSError, ValueError, AttributeError):
        return 0


def _in_our_unit(
    file_name: str, series: pd.Series, column: NamedColumn, dimension: str, options: ReadOptions
) -> np.ndarray:
    stated = {
        "time": options.time_unit,
        "voltage": options.voltage_unit,
        "current": options.current_unit,
        "charge": options.capacity_unit,
    }.get(dimension)
    unit = column.unit
    is_text = not pd.api.types.is_numeric_dtype(series)
    if dimension == "time" and is_text and (dates := _clock(series)) is not None:
        return dates - dates[np.isfinite(dates)][0]
    if (
        dimension == "time"
        and is_text
        and (units.is_duration(unit) or series.astype(str).head(50).str.contains(":").any())
    ):
        seconds = durations(series)
        _refuse_words(file_name, series, seconds, column)
        return seconds * (stated or 1.0)
    found = numbers(series)
    _refuse_words(file_name, series, found, column)
    factor = stated
    if factor is None:
        factor = 1.0 if dimension == "time" and units.is_duration(unit) else units.factor(dimension, unit)
    if factor is None:
        option = OPTION_NAMES.get(dimension)
        way = f"pass --{option}" if option else "export it in mAh/g"
        raise RuleBroken("E8", f"{file_name}: the unit {unit!r} of column {column.header!r} is not known; {way}.")
    return found * factor


def _refuse_words(file_name: str, series: pd.Series, found: np.ndarray, column: NamedColumn) -> None:
    if pd.api.types.is_numeric_dtype(series):
        return
    text = series.astype(str).str.strip()
    empty = series.isna() | text.str.lower().isin(("", "nan", "none", "n/a", "na", "-", "<na>"))
    words = np.isnan(found) & ~empty.to_numpy(bool)
    filled = int((~empty).sum())
    if filled and words.sum() > (1 - MOSTLY_NUMBERS) * filled:
        first = int(np.flatnonzero(words)[0])
        raise RuleBroken(
            "E9",
            f"{file_name}: column {column.header!r} should hold numbers; row {first + 1} below the header says "
            f"{text.iloc[first]!r:.40}.",
        )


def _clock(series: pd.Series) -> np.ndarray | None:
    """Wall clock in seconds, or None where it does not read as dates."""
    if pd.api.types.is_datetime64_any_dtype(series):
        stamps = series
    elif pd.api.types.is_numeric_dtype(series):
        return _numeric_clock(numbers(series))
    else:
        sample = series.dropna().astype(str).head(5)
        if sample.empty or not sample.str.strip().str.match(_CLOCK_TEXT).all():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stamps = pd.to_datetime(series.astype(str).str.strip(), errors="coerce", format="mixed")
    if not stamps.notna().any():
        return None
    if getattr(stamps.dt, "tz", None) is not None:
        stamps = stamps.dt.tz_localize(None)
    seconds = (stamps - stamps.dropna().iloc[0]).dt.total_seconds()
    return seconds.to_numpy(float, na_value=np.nan)


def _numeric_clock(stamps: np.ndarray) -> np.ndarray | None:
    """Seconds of dates that are numbers: days since 1900, seconds or milliseconds since 1970; None for others."""
    typical = float(np.median(stamps[np.isfinite(stamps)])) if np.isfinite(stamps).any() else 0.0
    for low, high, seconds in ((2e4, 8e4, 86400.0), (3e8, 5e9, 1.0), (3e11, 5e12, 1e-3)):
        if low < typical < high:
            return stamps * seconds
    return None


def _digits(series: pd.Series) -> int | None:
    """Significant digits of the largest current among the first rows that carry one."""
    values = np.abs(numbers(series.iloc[:20_000]))
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return None
    typical = float(np.median(values))
    steps = np.unique(values)
    if len(steps) > 1:
        step = float(np.min(np.diff(steps)))
        if step > 1e-9 * typical:
            return max(1, int(np.floor(np.log10(typical / step))) + 1)
    mantissa = f"{typical:.11e}".split("e")[0].replace(".", "")
    return max(1, len(mantissa.rstrip("0")))


def text_stream(head: Head) -> io.TextIOBase:
    """The whole file as text."""
    return io.TextIOWrapper(open_bytes(head.path), encoding=head.encoding, errors="replace", newline="")
