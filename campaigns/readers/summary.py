"""A table of capacities without profiles: composition, current, window, cycle, capacity."""

from __future__ import annotations

import csv
import io
import re

from campaigns.measurement import RuleBroken
from campaigns.readers.recording import Head, Reader, ReadOptions, SummaryRow, SummaryTable, whole_content
from campaigns.readers.table import HUGE, split_header, split_line
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

_WINDOW = re.compile(r"^\s*([\d.,]+)\s*V?\s*(?:-|–|to|;|/)\s*([\d.,]+)\s*V?\s*$", re.IGNORECASE)


def _columns(head: Head, line: str) -> tuple[str, dict[str, int]] | None:
    for separator in ("\t", ";", ","):
        found: dict[str, int] = {}
        for i, cell in enumerate(split_line(line, separator)):
            plain = re.sub(r"[^a-z0-9]", "", cell.lower())
            meaning = COLUMNS.get(plain) or COLUMNS.get(split_header(cell)[0])
            if meaning and meaning not in found:
                found[meaning] = i
        if {"composition", "capacity"} <= found.keys():
            return separator, found
    return None


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
        values = {meaning: cells[at].strip() for meaning, at in columns.items() if at < len(cells)}
        v_low, v_high = (_number(name, line, key, values.get(key, "")) for key in ("v_low", "v_high"))
        if values.get("window"):
            found = _WINDOW.match(values["window"])
            if found is None:
                raise RuleBroken(
                    "E9", f"{name}, row {line}: the window must read like 1.5-4.8. Got {values['window']!r}."
                )
            v_low, v_high = (_number(name, line, "window", text) for text in found.groups())
        capacity = _number(name, line, "capacity", values.get("capacity", ""))
        stated = _number(name, line, "cycle", values.get("cycle", ""))
        cycle = 1.0 if stated is None else stated
        if capacity is None:
            raise RuleBroken("E9", f"{name}, row {line}: the capacity is missing.")
        if cycle != int(cycle) or cycle < 1:
            raise RuleBroken("E9", f"{name}, row {line}: cycles are counted from 1. Got {cycle:g}.")
        current = _number(name, line, "current", values.get("current", ""))
        rows.append(SummaryRow(line, values.get("composition") or None, current, v_low, v_high, int(cycle), capacity))
    if not rows:
        raise RuleBroken("E9", f"{name}: no rows below the header.")
    return SummaryTable(NAME, tuple(rows))


def _number(name: str, line: int, column: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(re.sub(r"\s*(?:m?a?h?/g|mah g-1|v)$", "", text.strip(), flags=re.IGNORECASE).replace(",", "."))
    except ValueError:
        raise RuleBroken("E9", f"{name}, row {line}: {column} must be a number. Got {text!r:.40}.") from None
    if not abs(value) < HUGE:  # true for NaN too
        raise RuleBroken("E8", f"{name}, row {line}: {column} must be finite. Got {text!r:.40}.")
    return value


READERS = (Reader(NAME, _is_summary, _read, (".csv",)),)
