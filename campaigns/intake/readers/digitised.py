"""Curves read off a figure, as WebPlotDigitizer writes them.

One data set or many, capacity and voltage in either order.
"""

from __future__ import annotations

import re

import numpy as np

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.formats import any_table
from campaigns.intake.readers.headers import name_columns, split_header
from campaigns.intake.readers.recording import Curve, Curves, Reader, ReadOptions
from campaigns.intake.readers.unpacking import Head, whole_text
from drxnet.progress import Progress

NAME = "digitised curve"
MAX_POINTS, MAX_BYTES = 100_000, 1 << 24
VOLTAGE_RANGE = (0.5, 5.5)
"""Voltages (V) of a cathode against lithium; how the voltage axis is told from the other."""

_NUMBER = r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"^\s*({_NUMBER})\s*(;\s*|\t|,\s+|,|\s+)({_NUMBER})\s*;?\s*$")


_OF_ELECTRODE = re.compile(r"ele[ck]trod|coating|composite", re.IGNORECASE)


def _is_pairs(line: str) -> bool:
    return bool(_PAIR.match(line)) and _pair(line) is not None


def _pair(line: str) -> tuple[float, float] | None:
    """The two numbers of a line, or None where decimal comma and separator cannot be told apart."""
    text = line.strip().rstrip(";").strip()
    for separator in (";", "\t", ", ", " "):
        if separator in text:
            cells = [c.strip().rstrip(",") for c in text.split(separator) if c.strip()]
            break
    else:
        cells = text.split(",")
    if len(cells) != 2:
        return None
    try:
        x, y = (float(c.replace(",", ".")) for c in cells)
    except ValueError:
        return None
    return x, y


def _is_digitised(head: Head) -> bool:
    if not head.is_text:
        return False
    lines = [line for line in head.lines[:12] if line.strip()]
    return _is_many(lines) or _is_single(lines)


def _is_single(lines: list[str]) -> bool:
    if len(lines) > 1 and not _PAIR.match(lines[0]):
        if _names_time_or_current(lines[0]):
            return False
        lines = lines[1:]  # a header such as "x, y"
    return len(lines) > 1 and all(_PAIR.match(line) for line in lines[:-1])


def _names_time_or_current(header: str) -> bool:
    """Whether a header is that of a cycler, or of a table of cycles, which lacks a column, rather than of a curve."""
    cells = re.split(r"[,;\t]", header)
    known = name_columns(cells, any_table())
    return any(column.quantity in ("time", "step_time", "clock", "current", "cycle") for column in known)


def _is_many(lines: list[str]) -> bool:
    return len(lines) > 2 and bool(re.match(r"^\W*X\W+Y(\W+X\W+Y)*\W*$", lines[1]))


def _read(head: Head, options: ReadOptions, progress: Progress) -> Curves:
    name = head.path.name
    text = whole_text(head, MAX_BYTES)
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    if len(lines) > MAX_POINTS:
        raise RuleBroken(
            "E9", f"{name}: {len(lines)} pairs of numbers are no digitised curve, and no header names them."
        )
    sets = _many(name, lines) if _is_many(lines) else [("", _single(name, lines))]
    curves, notes = [], []
    for label, points in sets:
        curve, note = _with_axes(name, label, np.array(points, float).reshape(-1, 2))
        curves.append(curve)
        notes.append(note)
    return Curves(NAME, tuple(curves), tuple(dict.fromkeys(notes)))


def _check_named(name: str, header: str) -> None:
    """Refuse a curve whose header names another capacity than one per gram of the oxide.

    Raises:
        RuleBroken: E8, naming the column.
    """
    for cell in filter(None, map(str.strip, re.split(r"[,;\t]", header))):
        unit = split_header(cell)[1]
        is_known = not unit or any(units.factor(kind, unit) is not None for kind in ("specific", "voltage"))
        if not is_known or (_OF_ELECTRODE.search(cell) and units.is_per_mass(unit)):
            raise RuleBroken(
                "E8",
                f"{name}: a curve is a voltage (V) against a capacity per gram of the oxide (mAh/g). Got a column "
                f"{cell!r:.40}; nothing guessed.",
            )


def _single(name: str, lines: list[str]) -> list[tuple[float, float]]:
    first = 0 if _is_pairs(lines[0]) else 1
    if first:
        _check_named(name, lines[0])
    points = []
    for i, line in enumerate(lines[first:], start=first + 1):
        pair = _pair(line)
        if pair is None:
            if _PAIR.match(line):
                raise RuleBroken(
                    "E9",
                    f"{name}: cannot tell decimal comma from separator in row {i}; save as UTF-8 with dots or "
                    "separate with '; '.",
                )
            raise RuleBroken("E9", f"{name}: row {i} must hold two numbers. Got {line.strip()!r:.40}.")
        points.append(pair)
    return points


def _many(name: str, lines: list[str]) -> list[tuple[str, list[tuple[float, float]]]]:
    separator = max(",;\t", key=lines[1].count)  # a comma as written, another where a spreadsheet saved it again
    labels = [cell.strip() for cell in lines[0].lstrip("\ufeff").split(separator)]
    pairs = (len(lines[1].rstrip(separator).split(separator)) + 1) // 2
    sets: list[tuple[str, list[tuple[float, float]]]] = []
    for k in range(pairs):
        points = []
        for i, line in enumerate(lines[2:], start=3):
            cells = (line.split(separator) + [""] * (2 * pairs))[2 * k : 2 * k + 2]
            if not any(c.strip() for c in cells):
                continue
            try:
                points.append((float(cells[0].replace(",", ".")), float(cells[1].replace(",", "."))))
            except ValueError:
                raise RuleBroken(
                    "E9", f"{name}: row {i} of set {k + 1} must hold two numbers. Got {','.join(cells)!r:.40}."
                ) from None
        if points:
            sets.append((labels[2 * k] if 2 * k < len(labels) else "", points))
    if not sets:
        raise RuleBroken("E9", f"{name}: no points below the header.")
    return sets


def _with_axes(name: str, label: str, points: np.ndarray) -> tuple[Curve, str]:
    """Decide which axis is the voltage: the one that stays in its range, the second where both do."""
    if len(points) < 2:
        raise RuleBroken("E8", f"{name}: a digitised curve needs at least two points. Got {len(points)}.")
    wild = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(wild):
        raise RuleBroken("E8", f"{name}: point {wild[0] + 1} must be finite. Got {points[wild[0]].tolist()}.")
    inside = [bool(((axis >= VOLTAGE_RANGE[0]) & (axis <= VOLTAGE_RANGE[1])).all()) for axis in points.T]
    if not any(inside):
        raise RuleBroken(
            "E8",
            f"{name}: neither axis looks like a voltage ({points[:, 0].min():g} to {points[:, 0].max():g}, "
            f"{points[:, 1].min():g} to {points[:, 1].max():g}); nothing guessed. Give V between "
            f"{VOLTAGE_RANGE[0]} and {VOLTAGE_RANGE[1]} V and Q in mAh/g.",
        )
    voltage_axis = 1 if inside[1] else 0
    voltage, other = points[:, voltage_axis], points[:, 1 - voltage_axis]
    order = "capacity, voltage" if voltage_axis else "voltage, capacity"
    return Curve(label, voltage, other), f"columns taken as {order}"


READERS = (Reader(NAME, _is_digitised, _read, (".csv", ".txt")),)
