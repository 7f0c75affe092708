"""Write what a campaign measured to a file that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, replace_file
from campaigns.records import MeasuredProfile, Measurement
from drxnet.composition import Composition
from drxnet.errors import UsageError

FORMS = ("csv", "json", "drx-td")


def export_campaign(
    campaign: Campaign, target: Path, *, form: str | None = None, withdrawn: bool = False, as_of: int | None = None
) -> int:
    """Write measurements to a file.

    Args:
        campaign: of which.
        target: file to write.
        form: ``csv``, one row per discharge; ``json``, everything with profiles; ``drx-td``, the csv that DRXNet is
            trained on. By default from the name of the file.
        withdrawn: with measurements that no longer count (not in ``drx-td``).
        as_of: as right after a round.

    Returns:
        Discharges written.

    Raises:
        UsageError: the form is neither given nor told by the name, or there is nothing to write.
    """
    form = form or {".csv": "csv", ".json": "json"}.get(target.suffix.lower())
    if form not in FORMS:
        raise UsageError(f"{target.name}: cannot tell the form from the name. Give --form {', '.join(FORMS)}.")
    state = campaign.state(as_of)
    listed = state.measurements if withdrawn and form != "drx-td" else state.valid
    if not listed:
        raise UsageError(f"Campaign {campaign.name} has no measurement to export.")
    if form == "csv":
        content = _table([_row(m) for m in listed])
    elif form == "json":
        everything = {"campaign": campaign.name, **state.content()}
        everything["measurements"] = [_full(m) for m in campaign.ledger.profiles(listed)]
        content = json.dumps(everything, indent=1, ensure_ascii=False, default=str)
    else:
        return _write_drxtd(campaign.ledger.profiles(listed), target)
    replace_file(target, content.encode())
    return len(listed)


def _row(measurement: Measurement) -> dict[str, Any]:
    names = "measurement_id proposal_id cell composition"
    more = (
        "capacity_mah_g average_voltage_v specific_energy_wh_kg sigma_mah_g provenance file status withdrawn_reason "
        "superseded_by"
    )
    return {
        **{name: getattr(measurement, name) for name in names.split()},
        **asdict(measurement.conditions),
        **{name: getattr(measurement, name) for name in more.split()},
        "flags": " ".join(measurement.flags),
    }


def _full(measured: MeasuredProfile) -> dict[str, Any]:
    profile = measured.profile
    row = {**_row(measured.measurement), "sha256": measured.measurement.sha256, "profile": None}
    if profile is not None:
        row["profile"] = {
            "voltage_v": profile.voltage_v.tolist(),
            "capacity_mah_g": profile.capacity_mah_g.tolist(),
        }
    return row


def _table(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_drxtd(measured: Iterable[MeasuredProfile], target: Path) -> int:
    """Write cells with a profile of their first cycle, which the format needs, as one csv."""
    from drxnet.drxtd import Curve, CyclingTest, standardize, write_csv

    tests: dict[tuple[Any, ...], list[MeasuredProfile]] = {}
    for m in measured:
        c = m.measurement.conditions
        if m.profile is not None:
            key = (m.measurement.proposal_id, m.measurement.cell, c.current_ma_g, c.v_low, c.v_high)
            tests.setdefault(key, []).append(m)
    whole = [group for group in tests.values() if any(m.measurement.conditions.cycle == 1 for m in group)]
    if not whole:
        raise UsageError(
            "DRX-TD holds profiles of cells with their first cycle. This campaign has none; use csv or json."
        )
    written = []
    for number, group in enumerate(whole):
        first, curves = group[0].measurement, []
        for m in sorted(group, key=lambda m: m.measurement.conditions.cycle):
            assert m.profile is not None
            curves.append(Curve(m.measurement.conditions.cycle, m.profile.voltage_v, m.profile.capacity_mah_g))
        c = first.conditions
        composition = Composition.parse(first.composition)
        test = CyclingTest(
            composition, c.current_ma_g, c.v_low, c.v_high, tuple(curves), processed=True, material_id=str(number)
        )
        written.append(standardize(test))
    write_csv(target, written)
    return sum(len(test.discharges) for test in written)
