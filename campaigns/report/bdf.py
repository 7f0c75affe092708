"""Cells as Battery Data Format (Battery Data Alliance): what other programs read without knowing this one.

A file holds one cell: its discharges one after another, at the constant current of their test, as rows of time, voltage
and current. The ledger keeps capacity against voltage, so that time is what the charge takes at that current; charges
and rests are in the cycler's own files. Labels and units: github.com/battery-data-alliance/battery-data-format.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.ledger.records import MeasuredProfile, Measurement
from drxnet.errors import UsageError
from drxnet.files import new_file
from drxnet.text import csv_table

TERMS = {
    "Test Time / s": "test_time_second",
    "Voltage / V": "voltage_volt",
    "Current / A": "current_ampere",
    "Cycle Count / 1": "cycle_count",
    "Step Count / 1": "step_count",
    "Discharging Capacity / Ah": "discharging_capacity_ah",
}
"""Preferred label of each column, which carries its unit -> name of the term in the format's ontology."""

ONTOLOGY = "https://w3id.org/battery-data-alliance/ontology/battery-data-format#"
SUFFIX = ".bdf.csv"
ONE_GRAM_MG = 1000.0
"""Active mass that currents are given for where the cell's own is not known: they are per gram then (mg)."""


def by_cell(measured: Iterable[MeasuredProfile]) -> list[list[MeasuredProfile]]:
    """Discharges of each cell, in the order of its cycles."""
    cells: dict[tuple[str, str], list[MeasuredProfile]] = {}
    for m in measured:
        cells.setdefault((m.measurement.proposal_id, m.measurement.cell), []).append(m)
    return [sorted(cell, key=lambda m: m.measurement.conditions.cycle) for cell in cells.values()]


def cells_of(measured: Iterable[MeasuredProfile]) -> list[list[MeasuredProfile]]:
    """Discharges with a profile of each cell, in the order of its cycles."""
    return by_cell(m for m in measured if m.profile is not None)


def file_name(cell: Sequence[MeasuredProfile]) -> str:
    """Name of a cell's file, as the format recommends: what it is, its name, its number."""
    first = cell[0].measurement
    plain = [re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in (first.proposal_id, first.cell)]
    return "__".join(plain) + f"__{first.measurement_id}{SUFFIX}"


def table(cell: Sequence[MeasuredProfile]) -> str:
    """One cell as csv: the header of preferred labels, then a row a point; currents of discharges are negative."""
    rows: list[dict[str, float | int]] = []
    time_s, delivered_ah = 0.0, 0.0
    for step, m in enumerate(cell, start=1):
        assert m.profile is not None
        current_a = m.measurement.conditions.current_ma_g * mass_mg(m.measurement) * 1e-6
        charge_ah = m.profile.capacity_mah_g[::-1] * mass_mg(m.measurement) * 1e-6
        charge_ah = charge_ah - charge_ah[0]
        times = time_s + charge_ah / current_a * 3600
        for t, v, q in zip(times, m.profile.voltage_v[::-1], charge_ah, strict=True):
            cycle = m.measurement.conditions.cycle
            values = (t, v, -current_a, cycle, step, delivered_ah + q)
            rows.append({name: _number(x) for name, x in zip(TERMS, values, strict=True)})
        time_s, delivered_ah = float(times[-1]) + 1.0, delivered_ah + float(charge_ah[-1])
    return csv_table(rows, list(TERMS))


def _number(value: float | int) -> float | int:
    return value if isinstance(value, int) else float(np.format_float_positional(value, 9, fractional=False))


def mass_mg(measurement: Measurement) -> float:
    """Active mass that the currents of a cell's file are for (mg)."""
    return measurement.mass_mg or ONE_GRAM_MG


def described(cell: Sequence[MeasuredProfile]) -> Mapping[str, Any]:
    """What the format keeps beside the table: which cell it is, of what, and from which files."""
    first = cell[0].measurement
    return {
        "proposal_id": first.proposal_id,
        "cell": first.cell,
        "composition": first.composition,
        "active_mass_mg": first.mass_mg,
        "current_is_for": "the cell" if first.mass_mg else "1 g of active material",
        "measurement_ids": [m.measurement.measurement_id for m in cell],
        "conditions": [m.measurement.conditions.row() for m in cell],
        "files": sorted({m.measurement.file for m in cell if m.measurement.file}),
        "columns": {label: ONTOLOGY + term for label, term in TERMS.items()},
        "time": "of the discharges alone, at the constant current of each",
    }


def write_bdf(measured: Sequence[MeasuredProfile], target: Path) -> int:
    """Write the cells with profiles as a zip of one csv each, with ``cells.json`` beside them.

    Returns:
        Discharges written.

    Raises:
        UsageError: no measurement has a profile.
    """
    cells = cells_of(measured)
    if not cells:
        raise UsageError("Battery Data Format holds profiles. This campaign has none; use csv or json.")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for cell in cells:
            archive.writestr(file_name(cell), table(cell))
        about = {file_name(cell): described(cell) for cell in cells}
        archive.writestr("cells.json", json.dumps(about, indent=1, ensure_ascii=False))
    with new_file(target) as partial:
        partial.write_bytes(content.getvalue())
    return sum(map(len, cells))
