"""A table of capacities without profiles: composition, current, window, cycle, capacity."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.recording import Head, Reader, ReadOptions, SummaryRow, SummaryTable, whole_content
from campaigns.intake.readers.table import HUGE, split_header, split_line
from drxnet.discharge import MOST_CYCLES
from drxnet.progress import Progress

NAME = "summary table"
COLUMNS = {
    "composition": "composition",
    "formula": "composition",
    "compound": "composition",
    "currentmag": "current",
    "current": "current",
    "currentdensity": "current",
    "ratemag": "current",
    "rate": "current",
    "vlow": "v_low",
    "vmin": "v_low",
    "lowvoltage": "v_low",
    "lowercutoff": "v_low",
    "vhigh": "v_high",
    "vmax": "v_high",
    "highvoltage": "v_high",
    "uppercutoff": "v_high",
    "window": "window",
    "voltagewindow": "window",
    "cycle": "cycle",
    "cyclenumber": "cycle",
    "capacitymahg": "capacity",
    "dischargecapacitymahg": "capacity",
    "specificcapacity": "capacity",
    "dischargecapacity": "capacity",
    "capacity": "capacity",
    "q": "capacity",
    "q1": "capacity",
}
"""Header stem -> what the column holds."""

UNITS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "current": ("mA/g", {"ma/g": 1.0, "mag1": 1.0, "mag": 1.0, "a/kg": 1.0, "a/g": 1e3, "ag1": 1e3}),
    "capacity": ("mAh/g", units.UNITS["specific"]),
    "v_low": ("V", units.UNITS["voltage"]),
    "v_high": ("V", units.UNITS["voltage"]),
}
"""What a number means without a unit, and what one of each unit is in it."""

_QUANTITY = re.compile(
    r"(?P<value>[+-]?(?:[\d.,]+(?:e[+-]?\d+)?|inf(?:inity)?|nan))\s*(?P<unit>[^\d\s.,].*)?", re.IGNORECASE
)
_WINDOW = re.compile(r"^\s*([\d.,]+)\s*V?\s*(?:-|–|to|;|/)\s*([\d.,]+)\s*V?\s*$", re.IGNORECASE)


def _columns(head: Head, line: str) -> tuple[str, dict[str, tuple[int, str]]] | None:
    """Separator, and for each meaning the position and the unit of its column."""
    for separator in ("\t", ";", ","):
        found: dict[str, tuple[int, str]] = {}
        for i, cell in enumerate(split_line(line, separator)):
            stem, unit = split_header(cell)
            plain = _plain(cell)
            if plain in COLUMNS:
                stem, unit = plain, next((u for u in ("mAh/g", "mA/g") if plain.endswith(_plain(u))), "")
            meaning = COLUMNS.get(stem)
            if meaning and meaning not in found:
                found[meaning] = (i, unit)
        if {"composition", "capacity"} <= found.keys():
            return separator, found
    return None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _is_summary(head: Head) -> bool:
    return head.is_text and bool(_columns(head, head.lines[0].lstrip("\ufeff")))


def _read(head: Head, options: ReadOptions, progress: Progress) -> SummaryTable:
    layout = _columns(head, head.lines[0].lstrip("\ufeff"))
    assert layout is not None
    separator, columns = layout
    name = head.path.name
    text = whole_content(head).decode(head.encoding, errors="replace")
    try:
        header, *body = csv.reader(io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True)
    except csv.Error as error:
        raise RuleBroken("E9", f"{name}: rows do not match the header ({error}).") from None
    rows = []
    for line, cells in enumerate(body, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise RuleBroken("E9", f"{name}, row {line}: more cells than the header names; a decimal comma?")
        values = {meaning: cells[at].strip() for meaning, (at, _) in columns.items() if at < len(cells)}
        rows.append(_row(f"{name}, row {line}", line, values, {m: unit for m, (_, unit) in columns.items()}))
    if not rows:
        raise RuleBroken("E9", f"{name}: no rows below the header.")
    assumed = [f"{m} taken as {UNITS[m][0]}" for m in ("current", "capacity") if m in columns and not columns[m][1]]
    return SummaryTable(NAME, tuple(rows), tuple(assumed))


def _row(where: str, line: int, values: Mapping[str, str], header_units: Mapping[str, str]) -> SummaryRow:
    def number(meaning: str, text: str) -> float | None:
        return _number(where, meaning, text, header_units.get(meaning, ""))

    v_low, v_high, capacity, stated, current = (
        number(meaning, values.get(meaning, "")) for meaning in ("v_low", "v_high", "capacity", "cycle", "current")
    )
    if values.get("window"):
        found = _WINDOW.match(values["window"])
        if found is None:
            raise RuleBroken("E9", f"{where}: the window must read like 1.5-4.8. Got {values['window']!r}.")
        v_low, v_high = number("v_low", found[1]), number("v_high", found[2])
    if capacity is None:
        raise RuleBroken("E9", f"{where}: the capacity is missing.")
    cycle = 1.0 if stated is None else stated
    if not 1 <= cycle <= MOST_CYCLES or cycle != int(cycle):
        raise RuleBroken("E9", f"{where}: cycles are counted from 1, to {MOST_CYCLES:,} at most. Got {cycle:g}.")
    return SummaryRow(line, values.get("composition") or None, current, v_low, v_high, int(cycle), capacity)


def _number(where: str, column: str, text: str, header_unit: str) -> float | None:
    """The number of a cell in our unit: by the unit beside it, else by that of the header."""
    if not text:
        return None
    found = _QUANTITY.fullmatch(text)
    try:
        value = float(found["value"].replace(",", ".")) if found else None
    except ValueError:
        value = None
    if found is None or value is None:
        raise RuleBroken("E9", f"{where}: {column} must be a number. Got {text!r:.40}.")
    if not abs(value) < HUGE:  # true for NaN too
        raise RuleBroken("E8", f"{where}: {column} must be finite. Got {text!r:.40}.")
    unit = found["unit"] or header_unit
    if column not in UNITS or not unit:
        return value
    ours, known = UNITS[column]
    factor = known.get(units.normalised(unit, keep_slash=True))
    if factor is None:
        raise RuleBroken("E8", f"{where}: the unit {unit!r} of {column} is not known; give {ours}.")
    return value * factor


READERS = (Reader(NAME, _is_summary, _read, (".csv",)),)
