"""The sample table: what the lab says about each file of a folder, made for people.

A csv or xlsx with the columns ``file``, ``proposal`` or ``composition``, ``cell``, ``active_mass_mg`` (or
``electrode_mass_mg`` and ``active_fraction``), ``current_ma_g``, ``window`` (such as ``1.5-4.8``, or two columns
``v_low`` and ``v_high``), and for a file that is not a whole test ``first_cycle``, ``continues`` and ``formation``.
Every condition of the process (``drxnet/process.py``) is a column too. Cells may be empty. ``propose`` writes one for
each round, to be filled in; its columns and their other spellings are the table
``readers/vocabulary/makers/samples.csv``.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.readers import units
from campaigns.intake.readers.cells import may_be_thousands, same, tidy
from campaigns.intake.readers.headers import conditions_by_spelling, known_stem, spelled
from campaigns.intake.readers.summary import SPREAD, WINDOW, explain_c_rate, parse_c_rate
from campaigns.intake.readers.unpacking import Head
from campaigns.intake.readers.words import maker
from campaigns.intake.rules import BARE_C_RATE
from drxnet.discharge import SAME_CURRENT, VOLTAGE_BOUNDS_V
from drxnet.errors import ConfigurationError, ImpossibleValue, UsageError
from drxnet.files import replace_file
from drxnet.process import FIELDS, NOT_STATED, Process
from drxnet.text import csv_table

COLUMNS = (
    "file",
    "proposal",
    "composition",
    "cell",
    "active_mass_mg",
    "current_ma_g",
    "window",
    "first_cycle",
    "continues",
    "formation",
    "remark",
)
"""The columns of a table that is made to be filled in, in their order."""

OTHER_COLUMNS = ("electrode_mass_mg", "active_fraction", "v_low", "v_high", "1C (mA/g)", "icp")
"""Columns that are understood beside them."""

KNOWN = ", ".join((*COLUMNS, *OTHER_COLUMNS))
MAX_BYTES = 1 << 24
MASS_UNITS: Mapping[str, float] = {"mg": 1.0, "g": 1e3, "ug": 1e-3, "kg": 1e6}
"""Milligrams of one unit."""

LEAST_FRACTION = 0.3
"""Electrodes hold more oxide than that: 7 stands for seven parts of ten, not for 7 %."""

LEFT_OPEN = frozenset({"", "-", "–", "—", "n/a", "na", "nan", "none", "null"})
"""What stands in a cell that says nothing, beside nothing."""

MOST_LINES_ABOVE = 10
"""A header stands below fewer lines than that."""

SAME_MASS = 0.01
"""An active mass and an electrode mass times its fraction agree within this share."""

_PROPOSAL = re.compile(r"(?<![A-Za-z0-9])R(\d{2,})[-_ ]?(\d{2,})(?!\d)", re.IGNORECASE)
_QUANTITY = re.compile(
    rf"([+-]?[\d.,\s]+(?:[eE][+-]?\d+)?){SPREAD}\s*([^\d\s(±].*?)?(?:\s*\(\s*(?:C/\d+|[\d.]+ ?C)\s*\))?"
)


@dataclass(frozen=True)
class Planned:
    """A cell that is to be made and cycled: a row of the table to fill in."""

    proposal: str
    composition: str
    current_ma_g: float
    window: tuple[float, float]
    process: Process = NOT_STATED
    """How the cell is to be made and tested."""

    def row(self) -> dict[str, object]:
        """What is known before anything is weighed; the rest is empty."""
        known: dict[str, object] = {
            "proposal": self.proposal,
            "composition": self.composition,
            "current_ma_g": self.current_ma_g,
            "window": f"{self.window[0]:g}-{self.window[1]:g}",
        }
        return {column: known.get(column, "") for column in COLUMNS} | self.process.row()


class SampleTable(Mapping[Path, SampleInfo]):
    """What the lab says, by file; a path is found as it stands or, failing that, by its name.

    Rows that name a proposal and no file are found by the proposal in the name of a file.
    """

    def __init__(
        self, samples: Mapping[Path, SampleInfo], by_proposal: Mapping[str, Sequence[SampleInfo]] | None = None
    ) -> None:
        self._samples = dict(samples)
        self._by_proposal = {name: tuple(rows) for name, rows in (by_proposal or {}).items()}
        self._by_name: dict[str, list[Path]] = {}
        for path in self._samples:
            self._by_name.setdefault(path.name, []).append(path)

    def __getitem__(self, path: Path) -> SampleInfo:
        """Return what is said about a file."""
        resolved = Path(path).resolve()
        if resolved in self._samples:
            return self._samples[resolved]
        named = self._by_name.get(resolved.name, [])
        if len(named) == 1:
            return self._samples[named[0]]
        rows = self._by_proposal.get(proposal_in_name(resolved) or "", ())
        if named or not rows:
            raise KeyError(path)
        return _common(rows)

    def __iter__(self) -> Iterator[Path]:
        """Iterate over the files, in the order of the table."""
        return iter(self._samples)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._samples)

    def for_file(self, path: Path, otherwise: SampleInfo) -> SampleInfo:
        """What is said about a file; what the table leaves empty is taken from ``otherwise``."""
        said = self.get(path)
        if said is None:
            return otherwise
        gaps = {f.name: getattr(otherwise, f.name) for f in fields(said) if getattr(said, f.name) is None}
        if said.process and otherwise.process:
            gaps["process"] = said.process.over(otherwise.process)
        return replace(said, **gaps)


def _common(rows: Sequence[SampleInfo]) -> SampleInfo:
    """What all rows of a proposal say alike."""
    first = rows[0]
    values = {f.name: getattr(first, f.name) for f in fields(first)}
    return SampleInfo(
        **{name: value for name, value in values.items() if all(getattr(row, name) == value for row in rows)}
    )


def proposal_in_name(path: str | Path) -> str | None:
    """Proposal that the name of a file holds, such as ``R03-05`` of ``2026-05-05_r03_05_cellA.csv``."""
    found = _PROPOSAL.search(Path(path).name)
    return f"R{int(found[1]):02d}-{int(found[2]):02d}" if found else None


def read_samples(path: str | Path) -> SampleTable:
    """Read a sample table.

    Args:
        path: xlsx, or csv separated by commas, semicolons or tabs in UTF-8, UTF-16 or cp1252, with a decimal point or
            comma. File names are relative to it.

    Raises:
        ConfigurationError: no column ``file`` or ``proposal``, a column that is not known, a file named twice, or a
            value that cannot be understood; the message names the row.
    """
    path = Path(path)
    lines = _lines(path)
    top = _header_at(path.name, lines)
    columns = [_column(path.name, cell) for cell in lines[top]]
    samples: dict[Path, SampleInfo] = {}
    by_proposal: dict[str, list[SampleInfo]] = {}
    filled = 0
    for number, cells in enumerate(lines[top + 1 :], start=top + 2):
        if not filled and _are_units(columns, cells):
            columns = [c and (c[0], unit.strip() or c[1]) for c, unit in zip(columns, cells, strict=False)]
            continue
        where = f"{path.name}, row {number}"
        values, units_of = _said(where, lines[top], columns, cells)
        if not values:
            continue
        filled += 1
        sample = _sample(where, values, units_of)
        if "file" in values:
            _add_of_file(where, samples, path.parent, values["file"], sample)
        elif sample.proposal is None:
            raise ConfigurationError(f"{where}: names no file.")
        elif sample.active_mass_mg is not None or sample.cell is not None or ("file", "") not in columns:
            by_proposal.setdefault(proposal_in_name(sample.proposal) or sample.proposal, []).append(sample)
    if not filled:
        raise ConfigurationError(f"{path.name}: no rows below the header.")
    return SampleTable(samples, by_proposal)


def _is_header(cells: Sequence[str]) -> bool:
    return any(_meaning(cell) in ("file", "proposal") for cell in cells)


def _are_units(columns: Sequence[tuple[str, str] | None], cells: Sequence[str]) -> bool:
    """Whether a row below the header holds the units of its columns and nothing else."""
    filled = [cell.strip() for column, cell in zip(columns, cells, strict=False) if column and cell.strip()]
    return bool(filled) and all(units.is_unit(text) or units.normalised(text) in MASS_UNITS for text in filled)


def _said(
    where: str, header: Sequence[str], columns: Sequence[tuple[str, str] | None], cells: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What the cells of a row say, by its meaning, and the units of their columns.

    Raises:
        ConfigurationError: two columns of one meaning say different things, or there are more cells than columns.
    """
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise ConfigurationError(
            f"{where}: more cells than the header names; a decimal comma? Write decimal points, or separate the "
            "columns by semicolons."
        )
    said: dict[str, tuple[str, str, str]] = {}
    filled = [
        (title, *column, cell.strip()) for title, column, cell in zip(header, columns, cells, strict=False) if column
    ]
    for title, meaning, unit, text in filled:
        if text.lower() in LEFT_OPEN:
            continue
        known, its_unit, first = said.setdefault(meaning, (text, unit, title))
        if unit != its_unit or not same(known, text):
            raise ConfigurationError(
                f"{where}: columns {first.strip()!r} and {title.strip()!r} mean the same and differ "
                f"({known!r}, {text!r}). Leave one of them empty."
            )
    return {m: text for m, (text, _, _) in said.items()}, {m: unit for m, (_, unit, _) in said.items()}


def _header_at(name: str, lines: Sequence[Sequence[str]]) -> int:
    """Row of the header, below a title."""
    if not any(map(str.strip, lines[0] if lines else [])):
        raise ConfigurationError(f"{name}: the sample table is empty.")
    top = next((i for i, cells in enumerate(lines[:MOST_LINES_ABOVE]) if _is_header(cells)), None)
    if top is None:
        raise ConfigurationError(
            f"{name}: a sample table needs a column 'file'. Got {', '.join(lines[0])}. Known: {KNOWN}."
        )
    return top


def _add_of_file(where: str, samples: dict[Path, SampleInfo], folder: Path, name: str, sample: SampleInfo) -> None:
    file = (folder / name).resolve()
    if samples.get(file, sample) != sample:
        raise ConfigurationError(f"{where}: {name} stands in the table twice, and the rows differ.")
    samples[file] = sample


def write_samples(folder: Path, planned: Sequence[Planned]) -> tuple[Path, Path]:
    """Write ``samples.csv`` and ``samples.xlsx``, to be filled in by those who make the cells.

    Returns:
        The two paths. A table that is there already is left as it is: it may be filled in.
    """
    rows = [cell.row() for cell in planned]
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    text, book = folder / "samples.csv", folder / "samples.xlsx"
    if not text.exists():
        replace_file(text, csv_table(rows, columns).encode("utf-8-sig"))
    if not book.exists():
        replace_file(book, _workbook(rows, columns))
    return text, book


def _workbook(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> bytes:
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "samples"
    sheet.append(list(columns))
    for row in rows:
        sheet.append([row.get(column, "") for column in columns])
    widths = (32, 10, 34, 10, 15, 13, 10, 11, 10, 10, 24, *(20 for _ in columns[len(COLUMNS) :]))
    for cell, width in zip(sheet[1], widths, strict=True):
        cell.font = Font(bold=True)
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def parse_window(text: str) -> tuple[float, float]:
    """Lower and upper cut-off (V) of a text such as ``1.5-4.8``.

    Raises:
        ImpossibleValue: not two voltages, the lower one first.
    """
    found = WINDOW.match(text)
    if found is None:
        raise ImpossibleValue(f"A window must read like 1.5-4.8. Got {text!r}.")
    low, high = (float(v.replace(",", ".")) for v in found.groups())
    return _possible_window(low, high, text)


def _possible_window(low: float, high: float, text: str) -> tuple[float, float]:
    if not 0 <= low < high:
        raise ImpossibleValue(f"The lower cut-off must lie below the upper one. Got {text!r}.")
    if high > VOLTAGE_BOUNDS_V[1]:
        raise ImpossibleValue(f"Cut-offs lie within 0-{VOLTAGE_BOUNDS_V[1]:g} V, as in 1.5-4.8. Got {text!r}.")
    return low, high


def _sample(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> SampleInfo:
    formation, formation_current = _formation(where, values.get("formation"))
    sample = SampleInfo(
        active_mass_mg=_active_mass(where, values, header_units),
        composition=values.get("composition"),
        current_ma_g=_current(where, values, header_units),
        window=_window(where, values, header_units),
        cell=values.get("cell"),
        proposal=values.get("proposal"),
        first_cycle=_count(where, "first_cycle", values.get("first_cycle")),
        continues=values.get("continues"),
        formation=formation,
        formation_current_ma_g=formation_current,
        icp=values.get("icp"),
        process=_process(where, values),
    )
    try:
        sample.check_conditions()
    except UsageError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return sample


def _process(where: str, values: Mapping[str, str]) -> Process | None:
    said = {
        name: value if FIELDS[name].words else _number(where, name, value)
        for name, value in values.items()
        if name in FIELDS
    }
    try:
        return Process.of(said) if said else None
    except ImpossibleValue as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _window(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> tuple[float, float] | None:
    """Cut-offs (V), of one column or of two, which are not others where both are filled."""
    try:
        stated = parse_window(values["window"]) if "window" in values else None
        found = _cut_offs(where, values, header_units) if {"v_low", "v_high"} & values.keys() else stated
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if stated is not None and found != stated:
        raise ConfigurationError(
            f"{where}: the window {values['window']} is not v_low and v_high beside it. Leave one of them empty."
        )
    return found


def _cut_offs(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> tuple[float, float]:
    low, high = (_number(where, key, values.get(key)) for key in ("v_low", "v_high"))
    if low is None or high is None or low >= high:
        raise ConfigurationError(f"{where}: v_low and v_high must both be given, the lower first.")
    scales = [units.factor("voltage", header_units.get(key) or "V") or 1.0 for key in ("v_low", "v_high")]
    return _possible_window(low * scales[0], high * scales[1], f"{low:g}-{high:g}")


def _active_mass(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> float | None:
    """Mass of the oxide alone (mg): as it is given, or that of the electrode times its fraction."""
    mass = _mass(where, "active_mass", values, header_units)
    electrode = _mass(where, "electrode_mass", values, header_units)
    if electrode is None:
        return mass
    text = values.get("active_fraction", "")
    fraction = _fraction(where, text, header_units.get("active_fraction", ""))
    if fraction is None:
        if mass is not None:
            return mass
        raise ConfigurationError(
            f"{where}: electrode_mass_mg alone says nothing about the oxide. Add active_fraction (such as 0.7), or "
            "give active_mass_mg."
        )
    if not LEAST_FRACTION <= fraction <= 1:
        raise ConfigurationError(
            f"{where}: active_fraction must lie between 0 and 1, or in %, and be {LEAST_FRACTION:g} or more. Got "
            f"{text}. For 70:20:10 write 0.7; give active_mass_mg for an electrode with less oxide."
        )
    if mass is not None and abs(electrode * fraction / mass - 1) > SAME_MASS:
        raise ConfigurationError(
            f"{where}: active_mass_mg {mass:g} is not electrode_mass_mg x active_fraction, {electrode * fraction:.4g}. "
            "Correct one of them."
        )
    return mass if mass is not None else electrode * fraction


def _fraction(where: str, text: str, header_unit: str) -> float | None:
    """Share of the oxide in the electrode, of ``0.7``, ``70 %`` or ``70:20:10``."""
    written = re.sub(r"\s*(?:wt\.?)?\s*%", "", text)
    parts = [_number(where, "active_fraction", part) or 0.0 for part in re.split("[:/]", written) if part]
    if len(parts) > 1:
        return parts[0] / (sum(parts) or 1.0)
    in_percent = bool(parts) and (parts[0] > 1 or "%" in text + header_unit)
    return parts[0] / (100 if in_percent else 1) if parts else None


def _mass(where: str, column: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> float | None:
    text = values.get(column)
    if text is None:
        return None
    found = _QUANTITY.fullmatch(text)
    unit = (found[2] if found and found[2] else header_units.get(column)) or "mg"
    value = _number(where, f"{column}_{unit}", found[1] if found else text)
    scale = MASS_UNITS.get(units.normalised(unit))
    if scale is None:
        raise ConfigurationError(f"{where}: the unit {unit!r} of {column} is not known; give mg or g.")
    return None if value is None else value * scale


def _current(where: str, values: Mapping[str, str], header_units: Mapping[str, str]) -> float | None:
    """Current that was set (mA/g); a C-rate only where 1C is stated, and no other than the current beside it."""
    one_c = _number(where, "1C", values.get("one_c"))
    told = [
        _current_of(where, values[column], header_units.get(column, ""), one_c, values)
        for column in ("current", "c_rate")
        if column in values and (column == "current" or one_c or "current" not in values)
    ]
    if len(told) > 1 and abs(told[1] / told[0] - 1) > SAME_CURRENT:
        raise ConfigurationError(
            f"{where}: the current {told[0]:g} mA/g is not the C-rate beside it, {told[1]:g} mA/g by its 1C. Correct "
            "one of them."
        )
    return told[0] if told else None


def _current_of(where: str, text: str, header_unit: str, one_c: float | None, values: Mapping[str, str]) -> float:
    c_rate, its_one_c = parse_c_rate(text)
    one_c = its_one_c or one_c
    value, unit = (c_rate, "C") if c_rate is not None else _value_and_unit(where, text, header_unit)
    is_c_rate = units.normalised(unit) == "c" or (not unit and 0 < value < BARE_C_RATE)
    if is_c_rate and not one_c:
        raise ConfigurationError(
            f"{where}: the rate {text!r} reads as a C-rate, not as mA/g. {explain_c_rate(value, _theory(values))}"
        )
    factor = one_c if is_c_rate else units.factor("specific current", unit or "mA/g")
    if factor is None:
        raise ConfigurationError(f"{where}: the unit {unit!r} of the current is not known; give mA/g.")
    return value * factor


def _value_and_unit(where: str, text: str, header_unit: str) -> tuple[float, str]:
    if may_be_thousands(text.strip().split(" ")[0]):
        raise ConfigurationError(
            f"{where}: the current {text!r} may be a thousand or a decimal. Write it without a separator, or without "
            "zeros behind."
        )
    found = _QUANTITY.fullmatch(text)
    value = _number(where, "current", found[1] if found else text)
    return value or 0.0, (found[2] if found and found[2] else "") or header_unit


def _theory(values: Mapping[str, str]) -> float | None:
    from drxnet.composition import Composition
    from drxnet.errors import CompositionError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Composition.parse(values.get("composition", "")).theoretical_capacity_mah_g
    except CompositionError:
        return None


def _formation(where: str, text: str | None) -> tuple[int | None, float | None]:
    """Cycles that form the cell, or the current (mA/g) at which it is formed: ``2`` or ``10 mA/g``."""
    if text is None:
        return None, None
    found = _QUANTITY.fullmatch(text)
    if found and found[2] and "cycle" not in found[2].lower():
        factor = units.factor("specific current", found[2])
        if factor is None:
            raise ConfigurationError(f"{where}: formation must read like 2 (cycles) or 10 mA/g. Got {text!r}.")
        value = _number(where, "formation", found[1])
        return None, None if value is None else value * factor
    return _count(where, "formation", found[1] if found else text), None


def _count(where: str, column: str, text: str | None) -> int | None:
    value = _number(where, column, text)
    if value is None:
        return None
    if value != int(value) or not 1 <= value <= 100_000:
        raise ConfigurationError(f"{where}: {column} must be a whole number from 1 on. Got {text!r}.")
    return int(value)


def _number(where: str, column: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(tidy(text.strip(), "," if "," in text and "." not in text else "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{where}: {column} must be a number. Got {text!r}.")
    return value


def _meaning(cell: str) -> str | None:
    known = known_stem(cell, maker("samples"))
    return maker("samples")[known[0]][0] if known else None


def _column(name: str, cell: str) -> tuple[str, str] | None:
    """What a column holds, and its unit; None for a column without a header."""
    if not cell.strip():
        return None
    vocabulary, conditions = maker("samples"), conditions_by_spelling()
    if (condition := conditions.get(spelled(cell))) is not None:
        return condition.name, condition.unit
    known = known_stem(cell, vocabulary)
    if known is None:
        close = difflib.get_close_matches(spelled(cell), [*vocabulary, *conditions], n=1, cutoff=0.85)
        meant = (
            f"; did you mean {conditions[close[0]].name if close[0] in conditions else close[0]!r}?" if close else "."
        )
        raise ConfigurationError(
            f"{name}: column {cell.strip()!r} is not known{meant} Known: {KNOWN}; of the process: {', '.join(FIELDS)}. "
            "Put what is for people alone under 'remark'."
        )
    stem, unit = known
    meaning, default = vocabulary[stem]
    if meaning == "mass":
        raise ConfigurationError(
            f"{name}: column {cell.strip()!r}: of the oxide alone, or of the electrode with carbon and binder? Call it "
            "active_mass_mg, or electrode_mass_mg and add active_fraction."
        )
    return None if meaning == "remark" else (meaning, unit or default)


def _lines(path: Path) -> list[list[str]]:
    if path.stat().st_size > MAX_BYTES:
        raise ConfigurationError(f"{path.name}: larger than {MAX_BYTES >> 20} MiB; that is no sample table.")
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        return _sheet_lines(path, content)
    text = Head(path, content, complete=True).text.removeprefix("\ufeff")
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):
        text = rest
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=None), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise ConfigurationError(f"{path.name}: cannot be read as a table ({error}).") from None


def _sheet_lines(path: Path, content: bytes) -> list[list[str]]:
    """Cells of the first sheet that has a header."""
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > 16 * MAX_BYTES:
                raise ConfigurationError(f"{path.name}: unpacks to too much for a sample table.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        for sheet in book.worksheets:
            rows = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
            rows = [row for row in rows if any(cell.strip() for cell in row)]
            if rows:
                return rows
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        raise ConfigurationError(f"{path.name}: cannot be read as a workbook ({error!s:.80}).") from None
    return []
