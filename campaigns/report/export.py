"""Write what a campaign measured to a file that other programs read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from campaigns.backup import everything as rebuildable
from campaigns.ledger.records import MeasuredProfile, Measurement, Snapshot
from campaigns.report.bdf import by_cell, write_bdf
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.errors import UsageError
from drxnet.files import replace_file
from drxnet.process import FIELDS
from drxnet.text import csv_table

_log = logging.getLogger(__name__)

Form = Literal["csv", "json", "drx-td", "bdf", "ro-crate"]
FORMS: tuple[Form, ...] = get_args(Form)


def export_campaign(
    campaign: Workspace,
    target: Path,
    *,
    form: Form | None = None,
    withdrawn: bool = False,
    as_of: int | None = None,
    verbatim: bool = False,
) -> int:
    """Write measurements to a file.

    Args:
        campaign: of which.
        target: file to write.
        form: ``csv``, one row per discharge; ``json``, everything with profiles; ``drx-td``, the csv that DRXNet is
            trained on; ``bdf``, a zip of one Battery Data Format file a cell; ``ro-crate``, a zip that describes
            itself, with all of these. By default from the name of the file.
        withdrawn: with measurements that no longer count (not in ``drx-td``).
        as_of: as right after a round.
        verbatim: in ``csv``, text stays as it is also where a spreadsheet would take it for a formula.

    Returns:
        Discharges written.

    Raises:
        UsageError: the form is neither given nor told by the name, or there is nothing to write.
    """
    form = form_of(target, form)
    state = campaign.state(as_of)
    listed = state.measurements if withdrawn and form != "drx-td" else _counting(state)
    if not listed and form not in ("json", "ro-crate"):
        raise UsageError(f"Campaign {campaign.name} has no measurement to export that counts.")
    if form == "drx-td":
        return _write_drxtd(campaign.ledger.profiles(listed), target)
    if form == "bdf":
        return write_bdf(campaign.ledger.profiles(listed), target)
    if form == "ro-crate":
        from campaigns.report.crate import write_crate

        documents = {"campaign.json": _everything(campaign, state, listed, as_of)}
        if listed:
            documents["measurements.csv"] = _table(listed, verbatim)
        return write_crate(campaign, state, campaign.ledger.profiles(listed), documents, target)
    content = _table(listed, verbatim) if form == "csv" else _everything(campaign, state, listed, as_of)
    replace_file(target, content.encode())
    return len(listed)


def _counting(state: Snapshot) -> Sequence[Measurement]:
    """What counts; says how much is doubted."""
    if doubtful := len(state.doubtful):
        _log.warning("%d doubtful discharges left out; `drx-screen status` says why.", doubtful)
    return state.valid


def _table(listed: Sequence[Measurement], verbatim: bool) -> str:
    rows = [exported_row(m) for m in listed]
    stated = [name for name in FIELDS if any(name in row for row in rows)]
    return csv_table(rows, list(dict.fromkeys([*rows[0], *stated])), verbatim=verbatim)


def _everything(campaign: Workspace, state: Snapshot, listed: Sequence[Measurement], as_of: int | None) -> str:
    everything = {"campaign": campaign.name, **state.content()}
    everything["measurements"] = [_full(m) for m in campaign.ledger.profiles(listed)]
    if as_of is None:
        everything["rebuild"] = rebuildable(campaign)
    return json.dumps(everything, indent=1, ensure_ascii=False, default=str)


def form_of(target: Path, form: Form | None = None) -> Form:
    """The form that is asked for, else the one that the name of a file tells.

    Raises:
        UsageError: neither says.
    """
    by_name: dict[str, Form] = {".csv": "csv", ".json": "json", ".bdf.zip": "bdf", ".crate.zip": "ro-crate"}
    found = form or next((f for suffix, f in by_name.items() if target.name.lower().endswith(suffix)), None)
    if found not in FORMS:
        raise UsageError(f"{target.name}: cannot tell the form from the name. Give --form {', '.join(FORMS)}.")
    return found


def exported_row(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement under the names that exports give it, flags as one text."""
    names = "measurement_id proposal_id cell composition"
    more = (
        "capacity_mah_g average_voltage_v specific_energy_wh_kg sigma_mah_g provenance file status withdrawn_reason "
        "superseded_by"
    )
    return {
        **{name: getattr(measurement, name) for name in names.split()},
        **measurement.conditions.row(),
        **{name: getattr(measurement, name) for name in more.split()},
        "flags": " ".join(measurement.flags),
    }


def _full(measured: MeasuredProfile) -> dict[str, Any]:
    profile = measured.profile
    row = {**exported_row(measured.measurement), "sha256": measured.measurement.sha256, "profile": None}
    if profile is not None:
        row["profile"] = {
            "voltage_v": profile.voltage_v.tolist(),
            "capacity_mah_g": profile.capacity_mah_g.tolist(),
        }
    return row


def _write_drxtd(measured: Sequence[MeasuredProfile], target: Path) -> int:
    """Write cells with a profile of their first cycle, which the format needs, as one csv.

    A test is a cell at one rate; its current and window are those of the first cycle, from which the ones measured
    later differ a little.
    """
    from drxnet.dataset import same_rate
    from drxnet.drxtd import Curve, CyclingTest, standardize, write_csv

    with_profile = [m for m in measured if m.profile is not None]
    whole: list[list[MeasuredProfile]] = []
    for cell in by_cell(with_profile):
        tests: list[list[MeasuredProfile]] = []
        for m in cell:  # in the order of cycles: the first ones open a test each
            at = m.measurement.conditions
            same = next((t for t in tests if same_rate(t[0].measurement.conditions, at)), None)
            if same is not None:
                same.append(m)
            elif at.cycle == 1:
                tests.append([m])
        whole += tests
    if not whole:
        raise UsageError(
            "DRX-TD holds profiles of cells with their first cycle. This campaign has none; use csv or json."
        )
    _say_left_out(len(measured), len(with_profile), sum(map(len, whole)))
    written = []
    for number, group in enumerate(whole):
        first, curves = group[0].measurement, []
        for m in group:
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


def _say_left_out(valid: int, with_profile: int, written: int) -> None:
    reasons = {
        "without a profile": valid - with_profile,
        "without a first cycle of the same cell at their rate": with_profile - written,
    }
    said = [f"{number} {reason}" for reason, number in reasons.items() if number]
    if said:
        _log.warning("%d of %d discharges left out: %s.", valid - written, valid, ", ".join(said))
