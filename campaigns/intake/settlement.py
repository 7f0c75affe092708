"""Which cell every discharge of a hand-in belongs to, and what is refused because nobody could say."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from campaigns.intake.identity import Cells, Known, Lane, lane_of, masses_differ
from campaigns.ledger.records import (
    NewMeasurement,
)
from drxnet.discharge import CyclingConditions
from drxnet.errors import MeasurementError
from screening.estimates import same_conditions

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Item:
    """A discharge that is handed in, with the proposal it was made for."""

    proposal_id: str | None
    """None for a composition that nobody proposed."""

    owner: str
    """The proposal, else the composition."""

    label: str | None
    """Of its cell, where it was said."""

    new: NewMeasurement
    where: str
    current_stated: bool = True


@dataclass(frozen=True)
class Placed:
    """A discharge with the cell it belongs to."""

    item: Item
    cell: str
    known: Known | None = None
    """The same discharge, where the ledger holds it already."""


def placed_in_cells(items: Sequence[Item], cells: Cells, base: str, *, one_cell: bool = False) -> list[Placed]:
    """Find the cell of every discharge, and those that are known already.

    Args:
        items: what is handed in together.
        cells: that are spoken for.
        base: label of a cell that has none yet.
        one_cell: whether all of an owner are of one cell.

    Raises:
        MeasurementError: a cell has another discharge under the same conditions, or they belong to another proposal.
    """
    groups: dict[tuple[str, object], list[int]] = {}
    lanes: dict[str, list[Lane]] = {}
    for i, item in enumerate(items):
        if item.label is not None:
            groups.setdefault((item.owner, item.label), []).append(i)
        elif one_cell:
            groups.setdefault((item.owner, None), []).append(i)
        else:
            mine = lanes.setdefault(item.owner, [])
            lane = lane_of(mine, item.new.conditions, lambda mine=mine: str(len(mine)))  # type: ignore[misc]
            groups.setdefault((item.owner, (lane.label,)), []).append(i)
    placed: dict[int, Placed] = {}
    taken: dict[str, list[str]] = {}
    for (owner, key), numbers in groups.items():
        label = key if isinstance(key, str) else None
        here = [items[i] for i in numbers]
        settled = _settled(here, label, base, cells, taken.setdefault(owner, []), part=one_cell and key is None)
        placed |= dict(zip(numbers, settled, strict=True))
        taken[owner] += [p.cell for p in settled]
    return [placed[i] for i in range(len(items))]


def _settled(
    items: Sequence[Item],
    label: str | None,
    base: str,
    cells: Cells,
    taken: Sequence[str],
    *,
    part: bool = False,
) -> list[Placed]:
    """Find the cell of discharges that belong to one, and say which of them are known.

    With `part` they are all that a cycler's file without a label holds, which may be a part of a longer test.
    """
    owner = items[0].owner
    same = [_equals(item, label, cells) for item in items]
    found = _cell_of_known(items, owner, label, chain.from_iterable(same), cells)
    cell = found or label or _free_label(base, {*cells.labels(owner), *taken})
    settled = [_settled_one(item, cell, known) for item, known in zip(items, same, strict=True)]
    _refuse_of_another([p.item for p in settled if p.known is None], owner, cells)
    if part and found is None:
        _refuse_uncertain(items, owner, cells)
    if (conflict := _conflict(items, owner, cell, cells)) is not None:
        raise MeasurementError(conflict)
    _refuse_repeats(settled)
    _refuse_two_cells(settled, cell, cells)
    _refuse_other_mass(settled)
    return settled


def _equals(item: Item, label: str | None, cells: Cells) -> list[Known]:
    """Known discharges of its owner that are this one: capacities alone are another cell's where the labels differ."""
    return [k for k in cells.equals(item.new, item.owner) if label in (None, k.cell) or _has_curves(k, item)]


def _settled_one(item: Item, cell: str, same: Sequence[Known]) -> Placed:
    """A discharge of a cell: known where an equal one is of that cell or, by its curve, of any other."""
    equal = [k for k in same if k.cell == cell or _has_curves(k, item)]
    if not equal:
        return Placed(item, cell)
    known = min(equal, key=lambda k: (not k.counts, k.cell != cell))
    return Placed(item, known.cell, known)


def _cell_of_known(
    items: Sequence[Item], owner: str, label: str | None, same: Iterable[Known], cells: Cells
) -> str | None:
    """The cell of which some discharges are known, so that all may be of it; None where there is none.

    Those that stand tell first, by their curves before their capacities.

    Raises:
        MeasurementError: they are, by their curves or their label, of a cell that has others.
    """
    telling = [k for k in same if tells(k, label)]
    telling.sort(key=lambda k: (k.counts, k.profile() is not None), reverse=True)
    best: dict[str, Known] = {}
    for k in telling:
        best.setdefault(k.cell, k)
    for candidate, k in best.items():
        conflict = _conflict(items, owner, candidate, cells)
        if conflict is None:
            return candidate
        if candidate == label or k.profile() is not None:
            raise MeasurementError(conflict)
    return None


def tells(known: Known, label: str | None) -> bool:
    """Whether a known discharge tells a cell beside a label: a withdrawn one may be so as it was of another cell."""
    return known.counts or label in (None, known.cell)


def _free_label(base: str, taken: Collection[str]) -> str:
    number, label = 1, base
    while label in taken:
        number += 1
        label = f"{base} #{number}"
    return label


def _has_curves(known: Known, item: Item) -> bool:
    """Whether two discharges are compared by their curves, and not by a capacity alone."""
    return known.profile() is not None and item.new.profile is not None


def _conflict(items: Sequence[Item], owner: str, cell: str, cells: Cells) -> str | None:
    """What speaks against discharges being of a cell: another one that it gave under the same conditions."""
    known = [k for k in cells.of(owner, cell) if k.counts]
    for item in items:
        at = item.new.conditions
        for k in known:
            if k.at.cycle == at.cycle and same_conditions(k.at, at) and not cells.same(k, item.new):
                return (
                    f"{item.where}: cell {cell} of {owner} has this discharge already ({k.at}): {k.by} gives "
                    f"{k.capacity_mah_g:.4g} mAh/g, this one {item.new.capacity_mah_g:.4g}. Give another cell another "
                    "label; correct a wrong mass or current with drx-screen supersede; retract what should not count."
                )
    return None


def _refuse_uncertain(items: Sequence[Item], owner: str, cells: Cells) -> None:
    """Refuse later cycles without a label where an earlier part of the same test may be recorded already.

    Raises:
        MeasurementError: naming the cells that they may go on with.
    """
    first = min(item.new.conditions.cycle for item in items)
    wanted = replace(items[0].new.conditions, cycle=1)

    def is_earlier(known: Known) -> bool:
        return known.counts and known.at.cycle < first and same_conditions(replace(known.at, cycle=1), wanted)

    earlier = [
        cell
        for cell in cells.labels(owner)
        if any(map(is_earlier, cells.of(owner, cell))) and _conflict(items, owner, cell, cells) is None
    ]
    if earlier:
        raise MeasurementError(
            f"holds cycles from {first} on, and cell {' or '.join(earlier)} of {owner} has earlier ones at this rate. "
            f"Say which it is: --continues {shlex.quote(earlier[0])} where it goes on with that cell, --cell NAME (a "
            "new label) where it is another one."
        )


def _refuse_repeats(settled: Sequence[Placed]) -> None:
    """Refuse two different discharges of one cell under the same conditions in one hand-in."""
    seen: dict[CyclingConditions, Placed] = {}
    for p in settled:
        other = seen.setdefault(p.item.new.conditions, p)
        if other is not p:
            raise MeasurementError(
                f"{p.item.where}: cell {p.cell} of {p.item.owner} has this discharge already "
                f"({p.item.new.conditions}): {other.item.where}. Give the cell another label."
            )


def _refuse_two_cells(settled: Sequence[Placed], cell: str, cells: Cells) -> None:
    """Refuse more cycles of a test that is recorded under two labels, or may be.

    Raises:
        MeasurementError: naming what to say or to put together first.
    """
    elsewhere = [k for k in (p.known for p in settled) if k is not None and k.cell != cell]
    new = next((p.item for p in settled if p.known is None), None)
    if elsewhere and new is not None:
        _refuse_beside_standing(elsewhere, new, cell)
        _refuse_beside_withdrawn(elsewhere, new, [p.item for p in settled], cell, cells)


def _refuse_beside_standing(elsewhere: Sequence[Known], new: Item, cell: str) -> None:
    """Refuse a discharge beside some that stand in another cell."""
    apart = {k.by: k.cell for k in elsewhere if k.counts}
    if apart:
        others = " and of cell ".join(dict.fromkeys(apart.values()))
        raise MeasurementError(
            f"{new.where}: is beside discharges of cell {cell} and of cell {others} of {new.owner}, so that nobody can "
            f"say whose it is. Where they are one cell: drx-screen supersede {' '.join(apart)} --cell "
            f"{shlex.quote(cell)} --reason TEXT; where they are two, hand in the new cycles of each apart, with "
            "--continues CELL."
        )


def _refuse_beside_withdrawn(gone: Sequence[Known], new: Item, items: Sequence[Item], cell: str, cells: Cells) -> None:
    """Refuse a discharge beside withdrawn ones of another cell that has others that stand, where it may be of that."""
    for other, k in {k.cell: k for k in gone}.items():
        stands = any(o.counts for o in cells.of(new.owner, other))
        if stands and _conflict(items, new.owner, other, cells) is None:
            raise MeasurementError(
                f"{new.where}: is beside {k.by}, {k.says}, of cell {other} of {new.owner}, and may be of that cell as "
                f"well. Where it is: --cell {shlex.quote(other)}. Where it is not: drx-screen supersede {k.by} --cell "
                f"{shlex.quote(cell)} --reason TEXT, and retract that again if it should not count."
            )


def _refuse_other_mass(settled: Sequence[Placed]) -> None:
    """Refuse more cycles of a cell by another mass than those it has."""
    differing = next((p for p in settled if p.known is not None and masses_differ(p.known, p.item.new)), None)
    if differing is None or all(p.known is not None for p in settled):
        return
    known, new = differing.known, differing.item.new
    assert known is not None
    assert new.charge_mah is not None
    assert known.mass_mg is not None
    mass = new.charge_mah / new.capacity_mah_g * 1e3
    raise MeasurementError(
        f"{differing.item.where}: is {known.by}, which counts by {known.mass_mg:.4g} mg of active mass; {mass:.4g} mg "
        f"is given now. Hand in with {known.mass_mg:.4g} mg, or correct what is recorded first: drx-screen supersede "
        f"{known.by} --active-mass {known.mass_mg:.4g} {mass:.4g} --reason TEXT"
    )


def _refuse_of_another(items: Sequence[Item], owner: str, cells: Cells) -> None:
    """Refuse discharges that another proposal has, withdrawn ones too: one discharge belongs to one."""
    by_charge = [item for item in items if item.new.charge_mah is not None]
    found = [(k, item) for item in by_charge for k in cells.equals(item.new) if _is_of_another(k, owner)]
    if found:
        k, item = max(found, key=lambda pair: pair[0].counts)
        gone, again = ("", "") if k.counts else (f", {k.says},", ", and retract that again if it should not count")
        raise MeasurementError(
            f"{item.where}: is the discharge {k.by}{gone} of {k.owner} (cell {k.cell}), to rounding; one discharge "
            f"belongs to one proposal. If it is {owner} after all: drx-screen supersede {k.by} --proposal {owner} "
            f"--reason TEXT{again}"
        )


def _is_of_another(known: Known, owner: str) -> bool:
    return known.owner != owner and not known.corrected and known.charge_mah is not None
