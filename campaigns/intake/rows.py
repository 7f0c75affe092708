"""Measurements as rows from Python: a mapping for every discharge."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.intake.addition import Addition
from campaigns.intake.identity import Cells
from campaigns.intake.judgement import Verdicts
from campaigns.intake.matching import match_composition, parsed, planned_process
from campaigns.intake.settlement import Item, Placed, settle
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import CONFIRMED, NewMeasurement, Snapshot
from campaigns.workspace import Workspace
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import MeasurementError, UsageError
from drxnet.process import FIELDS, Process

_log = logging.getLogger(__name__)

_NEEDED = ("current_ma_g", "capacity_mah_g", "profile_mah_g")
_OTHERS = ("proposal_id", "composition", "v_low", "v_high", "cycle", "cell", "sigma_mah_g", "voltage_v")
_KEYS = {*_NEEDED, *_OTHERS}


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
        items = [item_of(campaign, state, row, f"Measurement {number}") for number, row in enumerate(rows, start=1)]
        new = _new_ones(items, Cells(state, campaign.ledger.profiles))
        addition = Addition(campaign, state, new)
        doubts = addition.verdicts.doubts
        if confirmed:
            addition.verdicts = Verdicts()
        ids = [addition.add(entry, p) for p in new]
        if ids:
            addition.judge_again(entry)
        for name, p in zip(ids, new, strict=True):
            if confirmed and id(p) in doubts:
                entry.judge(name, CONFIRMED, "", "vouched for by whoever sent it")
        entry.summary = f"{len(ids)} discharges from Python"
    if len(ids) < len(items):
        _log.warning("%d of %d rows are known already; they add nothing.", len(items) - len(ids), len(items))
    return tuple(ids)


def _new_ones(items: Sequence[Item], cells: Cells) -> list[Placed]:
    """Place what neither the ledger nor a row before says already; rows with a label go before those without."""
    first: dict[object, Item] = {}
    for item in items:
        first.setdefault(_said(item), item)
    new: list[Placed] = []
    for with_label in (True, False):
        group = [item for item in first.values() if (item.label is not None) is with_label]
        added = [p for p in settle(group, cells, "cell") if p.known is None]
        for p in added:
            cells.claim(p.item.owner, p.cell, p.item.new, p.item.where)
        new += added
    place = {id(item): number for number, item in enumerate(items)}
    return sorted(new, key=lambda p: place[id(p.item)])


def _said(item: Item) -> object:
    """What two rows must have in common to be one, sent twice."""
    profile, new = item.new.profile, item.new
    curve = None if profile is None else tuple(profile.capacity_mah_g)
    return item.owner, item.label, new.conditions.bare, new.capacity_mah_g, curve


def item_of(campaign: Workspace, state: Snapshot, row: Mapping[str, Any], where: str) -> Item:
    """The discharge that a row says, with the proposal it was made for.

    Args:
        campaign: whose window and process count where the row says none.
        state: of its ledger.
        row: as :meth:`campaigns.Campaign.add_measurements` takes it.
        where: it stands, for errors.

    Raises:
        UsageError: an unknown or a missing key, or no such proposal.
        MeasurementError: it cannot be trusted.
    """
    known = {*_KEYS, *FIELDS}
    if unknown := sorted(set(row) - known):
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    given = {key: value for key, value in row.items() if key in _NEEDED or _is_given(value)}
    try:
        said = Process.of({name: given[name] for name in FIELDS if name in given})
    except ValueError as error:
        raise MeasurementError(f"{where}: {error}") from None
    proposal_id, formula = _made(state, given, said, where)
    window = campaign.spec.conditions
    try:
        conditions = CyclingConditions(
            _number(given["current_ma_g"]),
            _number(given.get("v_low", window.v_low)),
            _number(given.get("v_high", window.v_high)),
            _whole(given.get("cycle", 1)),
            said.over(planned_process(state, proposal_id)).over(window.process),
        )
        capacity = _number(given["capacity_mah_g"])
        profile = DischargeProfile(given["voltage_v"], given["profile_mah_g"]) if "voltage_v" in given else None
        sigma = _number(given["sigma_mah_g"]) if "sigma_mah_g" in given else None
    except KeyError as error:
        raise UsageError(f"{where}: {error} is missing.") from None
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{where} ({formula}): {error}") from None
    new = NewMeasurement(formula, conditions, capacity, profile, sigma, "python")
    _check(new, f"{where} ({formula})")
    return Item(proposal_id, str(given["cell"]) if "cell" in given else None, new, where)


def _check(new: NewMeasurement, where: str) -> None:
    """Refuse what no cell can give, and a profile that is of another capacity."""
    profile, capacity = new.profile, new.capacity_mah_g
    if profile is not None and abs(profile.total_capacity_mah_g - capacity) > max(5.0, 0.05 * capacity):
        raise MeasurementError(
            f"{where}: the profile ends at {profile.total_capacity_mah_g:.1f} mAh/g and the capacity is "
            f"{capacity:.1f}. They must agree."
        )
    try:
        check_physics(new)
    except MeasurementError as error:
        raise MeasurementError(f"{where}: {str(error).removeprefix(f'{new.composition}: ')}") from None


def _made(state: Snapshot, given: Mapping[str, Any], said: Process, where: str) -> tuple[str | None, str]:
    """Proposal (None: nobody proposed it) and composition of a row."""
    if "proposal_id" in given:
        proposal = state.proposal(str(given["proposal_id"]))
        return proposal.proposal_id, proposal.composition
    if "composition" in given:
        return match_composition(state, parsed(given["composition"], where), said, where)
    raise UsageError(f"{where}: give proposal_id or composition.")


def _number(value: Any) -> float:
    """A number.

    Raises:
        ValueError: it is none, or a truth value, which Python would count as 0 or 1.
    """
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"A number is needed. Got {value}.")
    return float(value)


def _whole(value: Any) -> int:
    """A cycle number, which is whole.

    Raises:
        ValueError: it is not.
    """
    number = _number(value)
    if not number.is_integer():
        raise ValueError(f"A cycle is a whole number. Got {value}.")
    return int(number)


def _is_given(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and not (isinstance(value, str) and not value.strip())
