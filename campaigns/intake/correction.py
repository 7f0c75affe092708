"""Corrected measurements in place of wrong ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from campaigns.intake.identity import Cells
from campaigns.ledger.records import (
    MeasuredProfile,
    Measurement,
    Snapshot,
)
from campaigns.workspace import Workspace
from drxnet.discharge import SAME_CURRENT, DischargeProfile
from drxnet.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from screening.goals import Rates

from campaigns.intake.addition import add, judged_beside, rejudge
from campaigns.intake.rows import row_of
from campaigns.intake.settlement import Item, Placed


def supersede(
    campaign: Workspace,
    measurement_ids: Sequence[str],
    reason: str,
    changes: Mapping[str, Any] | None = None,
    *,
    scale: float = 1.0,
) -> tuple[str, ...]:
    """Record corrected measurements in place of others, all or none, and give back their ids.

    Args:
        campaign: that they belong to.
        measurement_ids: of measurements that are valid or retracted.
        reason: why.
        changes: keys of :meth:`~campaigns.campaign.Campaign.add_measurements` that are different now.
        scale: factor on all that is per gram, for an active mass that was wrong: recorded by true mass. The current
            becomes the campaign's low or high rate where it comes within 5 % of it, as for cycler files.

    Raises:
        UsageError: unknown or superseded already, an unknown key, nothing to change, or no reason.
        MeasurementError: the new values cannot be trusted.
    """
    changes = dict(changes or {})
    _check_change(changes, scale)
    names = list(dict.fromkeys(name.upper() for name in measurement_ids))
    with campaign.ledger.write("supersede") as entry:
        state = entry.before
        correctable = {m.measurement_id: m for m in state.measurements if m.status != "superseded"}
        for name in names:
            if name not in correctable:
                entry.withdraw(name, reason)  # says what is wrong with it
        others = replace(state, measurements=tuple(m for m in state.measurements if m.measurement_id not in names))
        cells = Cells(others, lambda listed: [m.profile for m in campaign.ledger.profiles(listed)])
        placed = []
        for stored in campaign.ledger.profiles([correctable[name] for name in names]):
            p = _corrected(campaign, state, stored, changes, scale)
            if (conflict := _repeat(p.item, p.cell, cells)) is not None:
                raise MeasurementError(conflict)
            cells.claim(p.item.owner, p.cell, p.item.new, p.item.where)
            placed.append(p)
        verdicts = judged_beside(campaign, state, placed, gone=names)
        verdicts.doubts.clear()  # what a person corrects is what the person says
        successors, lab = [], dict[str, str]()
        for name, p in zip(names, placed, strict=True):
            old = correctable[name]
            successor = add(entry, p, old.sha256, verdicts, lab, _as_doubtful_as(old, p.item))
            entry.withdraw(name, reason, superseded_by=successor)
            successors.append(successor)
        rejudge(entry, verdicts)
        pairs = ", ".join(f"{old} by {new}" for old, new in zip(names, successors, strict=True))
        entry.summary = f"{pairs}: {reason}"
    return tuple(successors)


def _check_change(changes: Mapping[str, Any], scale: float) -> None:
    if not changes and scale == 1.0:
        raise UsageError("Say what is different now: nothing is.")
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"Capacities are scaled by a positive number. Got {scale:g}.")


def _corrected(
    campaign: Workspace, state: Snapshot, stored: MeasuredProfile, changes: Mapping[str, Any], scale: float
) -> Placed:
    """A measurement as it should have been, with the cell that it belongs to then."""
    old = stored.measurement
    row = _corrected_row(old, stored.profile, changes, scale)
    if scale != 1.0 and "current_ma_g" not in changes:
        row["current_ma_g"] = _nominal(old.conditions.current_ma_g * scale, campaign.spec.conditions)
    proposal_id, new = row_of(campaign, state, row, old.measurement_id)
    new = replace(
        new,
        provenance=old.provenance,
        flags=tuple(flag for flag in old.flags if flag != "W8"),
        charge_mah=old.charge_mah,
        file_cycle=old.file_cycle,
        elapsed_s=old.elapsed_s,
        charge_top_v=old.charge_top_v,
    )
    cell = str(changes.get("cell", old.cell))
    return Placed(Item(proposal_id, proposal_id or new.composition, cell, new, old.measurement_id), cell)


def _as_doubtful_as(old: Measurement, item: Item) -> tuple[str, str] | None:
    """Doubt that a correction leaves: where it changes nothing that the doubt could rest on."""
    same = (
        old.conditions == item.new.conditions
        and math.isclose(old.capacity_mah_g, item.new.capacity_mah_g)
        and old.proposal_id == item.proposal_id
    )
    return (old.verdict.rule, old.doubt) if same and old.doubt and old.verdict is not None else None


def _repeat(item: Item, cell: str, cells: Cells) -> str | None:
    """What speaks against a correction: the cell has a discharge under these conditions already."""
    at = item.new.conditions
    for k in cells.of(item.owner, cell):
        if k.counts and k.at.bare == at.bare:
            return (
                f"{item.where}: cell {cell} of {item.owner} has this discharge already ({at}): {k.by}. Retract that "
                "one first, or give the cell another label."
            )
    return None


def _corrected_row(
    old: Measurement, profile: DischargeProfile | None, changes: Mapping[str, Any], scale: float
) -> dict[str, Any]:
    """Row of a measurement as it should have been; the profile follows the capacity."""
    capacity = float(changes.get("capacity_mah_g", old.capacity_mah_g * scale))
    factor = capacity / old.capacity_mah_g if old.capacity_mah_g else 1.0
    row: dict[str, Any] = {
        "proposal_id": old.proposal_id,
        "current_ma_g": old.conditions.current_ma_g,
        "v_low": old.conditions.v_low,
        "v_high": old.conditions.v_high,
        "cycle": old.conditions.cycle,
        **old.conditions.process.row(),
        "sigma_mah_g": None if old.sigma_mah_g is None else old.sigma_mah_g * factor,
    }
    if profile is not None:
        row |= {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g * factor}
    if "composition" in changes:
        del row["proposal_id"]
    return {**row, **changes, "capacity_mah_g": capacity}


def _nominal(current_ma_g: float, conditions: Rates) -> float:
    """The campaign's rate that a measured current stands for (mA/g), or the current itself where it is neither."""
    rates = (conditions.low_current_ma_g, conditions.high_current_ma_g)
    nearest = min(rates, key=lambda rate: abs(current_ma_g / rate - 1))
    return nearest if abs(current_ma_g / nearest - 1) <= SAME_CURRENT else current_ma_g
