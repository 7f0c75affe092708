"""Measurements as rows from Python: a mapping for every discharge."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.intake.identity import Cells
from campaigns.intake.judgement import Verdicts
from campaigns.ledger.ledger import Entry
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import (
    CONFIRMED,
    NewMeasurement,
    Snapshot,
)
from campaigns.workspace import Workspace
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import MeasurementError, UsageError
from drxnet.process import FIELDS, Process

if TYPE_CHECKING:
    pass

from campaigns.intake.addition import add, judged_beside, rejudge
from campaigns.intake.matching import matched, parsed, planned_process
from campaigns.intake.settlement import Item, Placed, placed_in_cells

_log = logging.getLogger(__name__)

_KEYS = {
    "proposal_id",
    "composition",
    "current_ma_g",
    "capacity_mah_g",
    "v_low",
    "v_high",
    "cycle",
    "cell",
    "sigma_mah_g",
    "voltage_v",
    "profile_mah_g",
}


def rows_or_files(measurements: Any) -> tuple[list[Any], bool]:
    """Measurements as :meth:`campaigns.Campaign.add_measurements` takes them, as a list, and whether they are files."""
    if isinstance(measurements, Mapping | str | Path):
        measurements = [measurements]
    listed = measurements.to_dict("records") if hasattr(measurements, "to_dict") else list(measurements)
    return listed, bool(listed) and all(isinstance(m, str | Path) for m in listed)


def record_rows(campaign: Workspace, rows: Sequence[Mapping[str, Any]], *, confirmed: bool = False) -> tuple[str, ...]:
    """Record rows as :meth:`campaigns.Campaign.add_measurements` takes them, all or none.

    Args:
        campaign: to record them in.
        rows: of a discharge each.
        confirmed: whether whoever sends them vouches for them, so that none is doubted.

    Returns:
        Ids of what is new; what is known already adds nothing.

    Raises:
        MeasurementError: a row cannot be trusted.
        UsageError: an unknown key or proposal.
    """
    if not rows:
        raise UsageError("No measurement to add.")
    with campaign.ledger.write("ingest") as entry:
        state = entry.before
        items = [_item(campaign, state, row, f"Measurement {number}") for number, row in enumerate(rows, start=1)]
        cells = Cells(state, lambda listed: [m.profile for m in campaign.ledger.profiles(listed)])
        new_ones = [p for p in _placed_one_by_one(items, cells) if p.known is None]
        verdicts = judged_beside(campaign, state, new_ones)
        ids = (_add_confirmed if confirmed else _add_judged)(entry, new_ones, verdicts)
        entry.summary = f"{len(ids)} discharges from Python"
    if len(ids) < len(items):
        _log.warning("%d of %d rows are known already; they add nothing.", len(items) - len(ids), len(items))
    return tuple(ids)


def _item(campaign: Workspace, state: Snapshot, row: Mapping[str, Any], where: str) -> Item:
    proposal_id, new = row_of(campaign, state, row, where)
    label = str(row["cell"]) if _given(row, "cell") else None
    return Item(proposal_id, proposal_id or new.composition, label, new, where)


def _add_judged(entry: Entry, placed: Sequence[Placed], verdicts: Verdicts) -> list[str]:
    """Record discharges with what is thought of them, and of others beside them."""
    lab: dict[str, str] = {}
    ids = [add(entry, p, None, verdicts, lab) for p in placed]
    if ids:
        rejudge(entry, verdicts)
    return ids


def _add_confirmed(entry: Entry, placed: Sequence[Placed], verdicts: Verdicts) -> list[str]:
    """Record discharges that somebody vouches for, whatever is thought of them."""
    lab: dict[str, str] = {}
    ids = [add(entry, p, None, Verdicts(), lab) for p in placed]
    for name, p in zip(ids, placed, strict=True):
        if id(p) in verdicts.doubts:
            entry.judge(name, CONFIRMED, "", "vouched for by whoever sent it")
    return ids


def _placed_one_by_one(items: Sequence[Item], cells: Cells) -> list[Placed]:
    """Place rows; a row that says the same as one before it, or as the ledger does, is known."""
    first: dict[int, int] = {}
    """Row -> the first one that says the same."""
    for i, item in enumerate(items):
        first[i] = next((j for j in range(i) if first[j] == j and _says_the_same(items[j], item)), i)
    placed: dict[int, Placed] = {}
    for with_label in (True, False):
        group = [i for i, item in enumerate(items) if first[i] == i and (item.label is not None) is with_label]
        found = placed_in_cells([items[i] for i in group], cells, "cell")
        for p in found:
            if p.known is None:
                cells.claim(p.item.owner, p.cell, p.item.new, p.item.where)
        placed |= dict(zip(group, found, strict=True))
    for i, j in first.items():
        if i != j:
            known = placed[j].known or next(k for k in cells.equals(items[i].new, items[i].owner))
            placed[i] = Placed(items[i], placed[j].cell, known)
    return [placed[i] for i in range(len(items))]


def _says_the_same(one: Item, other: Item) -> bool:
    """Whether two rows are one, sent twice."""
    a, b = one.new, other.new
    if (one.owner, one.label) != (other.owner, other.label):
        return False
    if (a.conditions.bare, a.capacity_mah_g) != (b.conditions.bare, b.capacity_mah_g):
        return False
    if a.profile is None or b.profile is None:
        return a.profile is b.profile
    return np.array_equal(a.profile.capacity_mah_g, b.profile.capacity_mah_g)


def row_of(
    campaign: Workspace, state: Snapshot, row: Mapping[str, Any], where: str
) -> tuple[str | None, NewMeasurement]:
    """Proposal (None: nobody proposed it) and discharge of a row.

    Raises:
        UsageError: an unknown or missing key, or no such proposal.
        MeasurementError: it cannot be trusted.
    """
    known = {*_KEYS, *FIELDS}
    unknown = sorted(set(row) - known)
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    try:
        said = Process.of({name: row[name] for name in FIELDS if _given(row, name)})
    except ValueError as error:
        raise MeasurementError(f"{where}: {error}") from None
    proposal_id, formula = _made(state, row, said, where)
    window = campaign.spec.conditions
    try:
        conditions = CyclingConditions(
            float(row["current_ma_g"]),
            float(row["v_low"]) if _given(row, "v_low") else window.v_low,
            float(row["v_high"]) if _given(row, "v_high") else window.v_high,
            _whole(row["cycle"]) if _given(row, "cycle") else 1,
            said.over(planned_process(state, proposal_id)).over(window.process),
        )
        capacity = float(row["capacity_mah_g"])
        profile = None
        if _given(row, "voltage_v"):
            profile = DischargeProfile(row["voltage_v"], row["profile_mah_g"])
    except KeyError as error:
        raise UsageError(f"{where}: {error} is missing.") from None
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{where} ({formula}): {error}") from None
    if profile is not None and abs(profile.total_capacity_mah_g - capacity) > max(5.0, 0.05 * capacity):
        raise MeasurementError(
            f"{where} ({formula}): the profile ends at {profile.total_capacity_mah_g:.1f} mAh/g and the capacity is "
            f"{capacity:.1f}. They must agree."
        )
    sigma = float(row["sigma_mah_g"]) if _given(row, "sigma_mah_g") else None
    new = NewMeasurement(formula, conditions, capacity, profile, sigma, "python")
    try:
        check_physics(new)
    except MeasurementError as error:
        raise MeasurementError(f"{where} ({formula}): {str(error).removeprefix(f'{formula}: ')}") from None
    return proposal_id, new


def _made(state: Snapshot, row: Mapping[str, Any], said: Process, where: str) -> tuple[str | None, str]:
    """Proposal (None: nobody proposed it) and composition of a row."""
    if _given(row, "proposal_id"):
        proposal = state.proposal(str(row["proposal_id"]))
        return proposal.proposal_id, proposal.composition
    if _given(row, "composition"):
        return matched(state, parsed(row["composition"], where), said, where)
    raise UsageError(f"{where}: give proposal_id or composition.")


def _whole(value: Any) -> int:
    """A cycle number, which is whole.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not number.is_integer():
        raise ValueError(f"A cycle is a whole number. Got {value}.")
    return int(number)


def _given(row: Mapping[str, Any], key: str) -> bool:
    value = row.get(key)
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and not (isinstance(value, str) and not value.strip())
