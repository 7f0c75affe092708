"""Corrected measurements in place of wrong ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from campaigns.intake.addition import Addition
from campaigns.intake.identity import Cells
from campaigns.intake.rows import item_of
from campaigns.intake.settlement import Item, Placed
from campaigns.ledger.records import MeasuredProfile, Measurement, Snapshot
from campaigns.workspace import Workspace
from drxnet.discharge import SAME_CURRENT
from drxnet.errors import MeasurementError, UsageError

_OF_THE_FILE = ("provenance", "charge_mah", "file_cycle", "elapsed_s", "charge_top_v")
"""What no correction changes."""


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
    if not changes and scale == 1.0:
        raise UsageError("Say what is different now: nothing is.")
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"Capacities are scaled by a positive number. Got {scale:g}.")
    names = list(dict.fromkeys(name.upper() for name in measurement_ids))
    with campaign.ledger.write("supersede") as entry:
        state = entry.before
        correctable = {m.measurement_id: m for m in state.measurements if m.status != "superseded"}
        for name in names:
            if name not in correctable:
                entry.withdraw(name, reason)  # says what is wrong with it
        wrong = [correctable[name] for name in names]
        placed = _Correction(campaign, state, changes, scale).of(wrong)
        addition = Addition(campaign, state, placed, gone=names)
        addition.verdicts.doubts.clear()  # what a person corrects is what the person says
        successors = []
        for old, p in zip(wrong, placed, strict=True):
            successors.append(addition.add(entry, p, old.sha256, _doubt_left(old, p.item)))
            entry.withdraw(old.measurement_id, reason, superseded_by=successors[-1])
        addition.judge_again(entry)
        pairs = ", ".join(f"{old} by {new}" for old, new in zip(names, successors, strict=True))
        entry.summary = f"{pairs}: {reason}"
    return tuple(successors)


@dataclass(frozen=True)
class _Correction:
    """What is different now of some measurements."""

    campaign: Workspace
    state: Snapshot
    changes: Mapping[str, Any]
    scale: float

    def of(self, wrong: Sequence[Measurement]) -> list[Placed]:
        """Measurements as they should have been, with the cells that they belong to then.

        Raises:
            MeasurementError: a cell has a discharge under these conditions already, or the new values are wrong.
        """
        names = {m.measurement_id for m in wrong}
        others = replace(
            self.state, measurements=tuple(m for m in self.state.measurements if m.measurement_id not in names)
        )
        cells, placed = Cells(others, self.campaign.ledger.profiles), []
        for stored in self.campaign.ledger.profiles(wrong):
            cell = str(self.changes.get("cell", stored.measurement.cell))
            item = self._item(stored)
            at = item.new.conditions
            for k in cells.of(item.owner, cell):
                if k.counts and k.at.bare == at.bare:
                    raise MeasurementError(
                        f"{item.where}: cell {cell} of {item.owner} has this discharge already ({at}): {k.by}. Retract "
                        "that one first, or give the cell another label."
                    )
            cells.claim(item.owner, cell, item.new, item.where)
            placed.append(Placed(item, cell))
        return placed

    def _item(self, stored: MeasuredProfile) -> Item:
        old = stored.measurement
        item = item_of(self.campaign, self.state, self._row(stored), old.measurement_id)
        new = replace(
            item.new,
            flags=tuple(flag for flag in old.flags if flag != "W8"),
            **{name: getattr(old, name) for name in _OF_THE_FILE},
        )
        return replace(item, new=new)

    def _row(self, stored: MeasuredProfile) -> dict[str, Any]:
        """A measurement as a row, as it should have been; the profile follows the capacity."""
        old, profile = stored.measurement, stored.profile
        capacity = float(self.changes.get("capacity_mah_g", old.capacity_mah_g * self.scale))
        factor = capacity / old.capacity_mah_g if old.capacity_mah_g else 1.0
        row: dict[str, Any] = {
            "proposal_id": old.proposal_id,
            **old.conditions.row(),
            "current_ma_g": self._current_ma_g(old),
            "sigma_mah_g": None if old.sigma_mah_g is None else old.sigma_mah_g * factor,
        }
        if profile is not None:
            row |= {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g * factor}
        if "composition" in self.changes:
            del row["proposal_id"]
        return {**row, **self.changes, "capacity_mah_g": capacity}

    def _current_ma_g(self, old: Measurement) -> float:
        """Current by the true mass (mA/g); the campaign's rate where it stands for that."""
        current = old.conditions.current_ma_g
        if self.scale == 1.0:
            return current
        current *= self.scale
        rates = self.campaign.spec.conditions
        nearest = min((rates.low_current_ma_g, rates.high_current_ma_g), key=lambda rate: abs(current / rate - 1))
        return nearest if abs(current / nearest - 1) <= SAME_CURRENT else current


def _doubt_left(old: Measurement, item: Item) -> tuple[str, str] | None:
    """Doubt that a correction leaves: where it changes nothing that the doubt could rest on."""
    same = (
        old.conditions == item.new.conditions
        and math.isclose(old.capacity_mah_g, item.new.capacity_mah_g)
        and old.proposal_id == item.proposal_id
    )
    return (old.verdict.rule, old.doubt) if same and old.doubt and old.verdict is not None else None
