"""Which cell every discharge of a hand-in belongs to, and what is refused because nobody could say."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

from campaigns.intake.identity import Cells, Known, Lane, by_curves, lane_of, mass_mg, masses_differ
from campaigns.ledger.records import NewMeasurement
from drxnet.discharge import CyclingConditions
from drxnet.errors import MeasurementError
from screening.estimates import same_conditions


@dataclass(frozen=True)
class Item:
    """A discharge that is handed in, with the proposal it was made for."""

    proposal_id: str | None
    """None for a composition that nobody proposed."""

    label: str | None
    """Of its cell, where it was said."""

    new: NewMeasurement
    where: str
    current_stated: bool = True

    @property
    def owner(self) -> str:
        """The proposal, else the composition."""
        return self.proposal_id or self.new.composition


@dataclass(frozen=True)
class Placed:
    """A discharge with the cell it belongs to."""

    item: Item
    cell: str
    known: Known | None = None
    """The same discharge, where the ledger holds it already."""


def settle(items: Sequence[Item], cells: Cells, base: str, *, one_cell: bool = False) -> list[Placed]:
    """Find the cell of every discharge, and those that are known already.

    Args:
        items: what is handed in together.
        cells: that are spoken for.
        base: label of a cell that has none yet.
        one_cell: whether all of an owner are of one cell.

    Raises:
        MeasurementError: a cell has another discharge under the same conditions, or they belong to another proposal.
    """
    groups: dict[tuple[str, str | Lane | None], list[int]] = {}
    lanes: dict[str, list[Lane]] = {}
    for i, item in enumerate(items):
        key: str | Lane | None = item.label
        if key is None and not one_cell:
            key = lane_of(lanes.setdefault(item.owner, []), item.new.conditions)
        groups.setdefault((item.owner, key), []).append(i)
    placed: dict[int, Placed] = {}
    taken: dict[str, list[str]] = {}
    for (owner, key), numbers in groups.items():
        group = _OneCell([items[i] for i in numbers], key if isinstance(key, str) else None, cells)
        labels = taken.setdefault(owner, [])
        settled = group.settled(base, labels, part=one_cell and key is None)
        placed |= dict(zip(numbers, settled, strict=True))
        labels += [p.cell for p in settled]
    return [placed[i] for i in range(len(items))]


def tells(known: Known, label: str | None) -> bool:
    """Whether a known discharge tells a cell beside a label: a withdrawn one may be so as it was of another cell."""
    return known.counts or label in (None, known.cell)


class _OneCell:
    """Discharges of one hand-in that belong to one cell, with what is known of the cells of their owner."""

    def __init__(self, items: Sequence[Item], label: str | None, cells: Cells) -> None:
        self.items, self.label, self.cells, self.owner = items, label, cells, items[0].owner

    def settled(self, base: str, taken: Collection[str], *, part: bool) -> list[Placed]:
        """Find the cell, and say which of the discharges are known.

        Args:
            base: label of the cell, where it is a new one without a label.
            taken: labels that others of the same hand-in have.
            part: whether they are all that a cycler's file without a label holds, which may be a part of a longer test.

        Raises:
            MeasurementError: nobody can say, or they cannot be of that cell.
        """
        same = [self._equals(item) for item in self.items]
        found = self._cell_of_known([k for equal in same for k in equal])
        cell = found or self.label or _free_label(base, {*self.cells.labels(self.owner), *taken})
        placed = [_placed(item, cell, equal) for item, equal in zip(self.items, same, strict=True)]
        objection = next(self._objections(placed, cell, uncertain=part and found is None), None)
        if objection is not None:
            raise MeasurementError(objection)
        return placed

    def _equals(self, item: Item) -> list[Known]:
        """Known discharges of the owner that are this one: capacities alone are another cell's if the labels differ."""
        same = self.cells.equals(item.new, self.owner)
        return [k for k in same if self.label in (None, k.cell) or by_curves(k, item.new)]

    def _cell_of_known(self, same: Sequence[Known]) -> str | None:
        """The cell of which some discharges are known, so that all may be of it; None where there is none.

        Those that stand tell first, by their curves before their capacities.

        Raises:
            MeasurementError: they are, by their curves or their label, of a cell that has others.
        """
        telling = [k for k in same if tells(k, self.label)]
        telling.sort(key=lambda k: (k.counts, k.profile() is not None), reverse=True)
        best: dict[str, Known] = {}
        for k in telling:
            best.setdefault(k.cell, k)
        for candidate, k in best.items():
            conflict = next(self._conflicts(candidate), None)
            if conflict is None:
                return candidate
            if candidate == self.label or k.profile() is not None:
                raise MeasurementError(conflict)
        return None

    def _objections(self, placed: Sequence[Placed], cell: str, *, uncertain: bool) -> Iterator[str]:
        """Yield what speaks against recording discharges as those of a cell."""
        new = [p.item for p in placed if p.known is None]
        known = [(p.item, p.known) for p in placed if p.known is not None]
        yield from self._of_another(new)
        if uncertain:
            yield from self._of_an_earlier_part()
        yield from self._conflicts(cell)
        yield from _repeats(placed)
        if new:
            elsewhere = [k for _, k in known if k.cell != cell]
            yield from self._beside_standing(elsewhere, new[0], cell)
            yield from self._beside_withdrawn(elsewhere, new[0], cell)
            yield from _of_another_mass(known)

    def _of_another(self, new: Sequence[Item]) -> Iterator[str]:
        """Discharges that another proposal has, withdrawn ones too: one discharge belongs to one."""
        by_charge = [item for item in new if item.new.charge_mah is not None]
        found = [
            (k, item)
            for item in by_charge
            for k in self.cells.equals(item.new)
            if k.owner != self.owner and not k.corrected and k.measured.charge_mah is not None
        ]
        if found:
            k, item = max(found, key=lambda pair: pair[0].counts)
            gone, again = ("", "") if k.counts else (f", {k.says},", ", and retract that again if it should not count")
            yield (
                f"{item.where}: is the discharge {k.by}{gone} of {k.owner} (cell {k.cell}), to rounding; one discharge "
                f"belongs to one proposal. If it is {self.owner} after all: drx-screen supersede {k.by} --proposal "
                f"{self.owner} --reason TEXT{again}"
            )

    def _of_an_earlier_part(self) -> Iterator[str]:
        """Later cycles without a label, where an earlier part of the same test may be recorded already."""
        first = min(item.new.conditions.cycle for item in self.items)
        wanted = replace(self.items[0].new.conditions, cycle=1)
        earlier = [
            cell
            for cell in self.cells.labels(self.owner)
            if any(
                k.counts and k.at.cycle < first and same_conditions(replace(k.at, cycle=1), wanted)
                for k in self.cells.of(self.owner, cell)
            )
            and not any(self._conflicts(cell))
        ]
        if earlier:
            yield (
                f"holds cycles from {first} on, and cell {' or '.join(earlier)} of {self.owner} has earlier ones at "
                f"this rate. Say which it is: --continues {shlex.quote(earlier[0])} where it goes on with that cell, "
                "--cell NAME (a new label) where it is another one."
            )

    def _conflicts(self, cell: str) -> Iterator[str]:
        """Other discharges that a cell gave under the same conditions."""
        known = [k for k in self.cells.of(self.owner, cell) if k.counts]
        for item in self.items:
            at = item.new.conditions
            for k in known:
                if k.at.cycle == at.cycle and same_conditions(k.at, at) and not self.cells.same(k, item.new):
                    yield (
                        f"{item.where}: cell {cell} of {self.owner} has this discharge already ({k.at}): {k.by} gives "
                        f"{k.measured.capacity_mah_g:.4g} mAh/g, this one {item.new.capacity_mah_g:.4g}. Give another "
                        "cell another label; correct a wrong mass or current with drx-screen supersede; retract what "
                        "should not count."
                    )

    def _beside_standing(self, elsewhere: Sequence[Known], new: Item, cell: str) -> Iterator[str]:
        """A new discharge beside some that stand in another cell."""
        apart = {k.by: k.cell for k in elsewhere if k.counts}
        if apart:
            others = " and of cell ".join(dict.fromkeys(apart.values()))
            yield (
                f"{new.where}: is beside discharges of cell {cell} and of cell {others} of {self.owner}, so that "
                f"nobody can say whose it is. Where they are one cell: drx-screen supersede {' '.join(apart)} --cell "
                f"{shlex.quote(cell)} --reason TEXT; where they are two, hand in the new cycles of each apart, with "
                "--continues CELL."
            )

    def _beside_withdrawn(self, gone: Sequence[Known], new: Item, cell: str) -> Iterator[str]:
        """A new discharge beside withdrawn ones of another cell that has others that stand, and that it may be of."""
        for other, k in {k.cell: k for k in gone}.items():
            stands = any(o.counts for o in self.cells.of(self.owner, other))
            if stands and not any(self._conflicts(other)):
                yield (
                    f"{new.where}: is beside {k.by}, {k.says}, of cell {other} of {self.owner}, and may be of that "
                    f"cell as well. Where it is: --cell {shlex.quote(other)}. Where it is not: drx-screen supersede "
                    f"{k.by} --cell {shlex.quote(cell)} --reason TEXT, and retract that again if it should not count."
                )


def _placed(item: Item, cell: str, same: Sequence[Known]) -> Placed:
    """A discharge of a cell: known where an equal one is of that cell or, by its curve, of any other."""
    equal = [k for k in same if k.cell == cell or by_curves(k, item.new)]
    known = min(equal, key=lambda k: (not k.counts, k.cell != cell), default=None)
    return Placed(item, known.cell if known else cell, known)


def _free_label(base: str, taken: Collection[str]) -> str:
    return next(label for label in chain([base], (f"{base} #{n}" for n in count(2))) if label not in taken)


def _repeats(placed: Sequence[Placed]) -> Iterator[str]:
    """Two different discharges of one cell under the same conditions in one hand-in."""
    seen: dict[CyclingConditions, Placed] = {}
    for p in placed:
        other = seen.setdefault(p.item.new.conditions, p)
        if other is not p:
            yield (
                f"{p.item.where}: cell {p.cell} of {p.item.owner} has this discharge already "
                f"({p.item.new.conditions}): {other.item.where}. Give the cell another label."
            )


def _of_another_mass(known: Sequence[tuple[Item, Known]]) -> Iterator[str]:
    """Known discharges of a cell by another mass than it has."""
    for item, k in known:
        if masses_differ(k, item.new):
            has, given = f"{k.mass_mg:.4g}", f"{mass_mg(item.new):.4g}"
            yield (
                f"{item.where}: is {k.by}, which counts by {has} mg of active mass; {given} mg is given now. Hand in "
                f"with {has} mg, or correct what is recorded first: drx-screen supersede {k.by} --active-mass {has} "
                f"{given} --reason TEXT"
            )
