"""Which cell a discharge belongs to, and whether it is known already.

A cell is known by its label, else by its discharges: the same charge and the same curve, to rounding, are the same
discharge, whatever file, format or mass they come with. Discharges of capacities alone are told apart by their labels,
else by their capacity to the digits that were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from campaigns.ledger.records import MeasuredProfile, Measurement, NewMeasurement, Snapshot
from drxnet.discharge import CyclingConditions, DischargeProfile

SAME_CHARGE = 5e-4
"""Relative difference up to which two charges are one, exported twice with other digits."""

SAME_CURVE = 1.5e-3
"""Largest difference between two curves of one charge inside the window, as a share of the capacity."""

SAME_BY_GRAM = 2e-5
"""Both of them where nothing but capacities per gram is known: rounding to 0.001 mAh/g."""

EDGE_SHARE = 0.05
"""Share of the window at either end at which curves are not compared."""

Place = tuple[str, str]
"""Owner and label of a cell."""

SAME_RATE, SAME_CUTOFF_V = 0.02, 0.05
SAME_MASS = 5e-3
"""Relative difference of two active masses that are one, rounded."""


@dataclass(frozen=True, eq=False)
class Known:
    """A discharge that is in the ledger, or was handed in a moment ago."""

    owner: str
    """Proposal that it belongs to now, or the composition that nobody proposed."""

    cell: str
    """Label of the cell that it belongs to now."""

    measured: Measurement | NewMeasurement
    counts: bool
    """Whether it stands; a withdrawn one is known, and in nobody's way."""

    by: str
    """Id of the measurement, or name of the file."""

    says: str = ""
    """What became of it, where it was withdrawn."""

    corrected: bool = False
    """Whether another one took its place, which is known as well."""

    profile: Callable[[], DischargeProfile | None] = field(default=lambda: None, repr=False)
    """Its curve, fetched when it is needed."""

    file: str | None = None
    mass_mg: float | None = None
    """Active mass that it is counted by now; None where it is not counted."""

    @property
    def at(self) -> CyclingConditions:
        """How it was discharged."""
        return self.measured.conditions


@dataclass(eq=False)
class Lane:
    """A cell that is being put together from the discharges of one hand-in."""

    current_ma_g: float
    cycles: set[int] = field(default_factory=set)


class Cells:
    """Every cell and discharge that is spoken for."""

    def __init__(self, state: Snapshot, fetch: Callable[[Sequence[Measurement]], Sequence[MeasuredProfile]]) -> None:
        """Take what a ledger holds.

        Args:
            state: of the ledger.
            fetch: some of its measurements with their profiles.
        """
        self._state, self._fetch = state, fetch
        self._curves: dict[str, DischargeProfile | None] = {}
        self._by_owner: dict[str, list[Known]] = {}
        self._labels: dict[str, dict[str, None]] = {}
        for cell in state.cells:
            self._labels.setdefault(cell.proposal_id, {})[cell.label] = None
        by_id = {m.measurement_id: m for m in state.measurements}
        now = [(m, _now(m, by_id)) for m in state.measurements]
        homes = _homes(now)
        for m, latest in now:
            self._add(self._known(m, latest, homes))

    def labels(self, owner: str) -> tuple[str, ...]:
        """Labels of the cells of an owner, the oldest first."""
        return tuple(self._labels.get(owner, ()))

    def owners_of(self, label: str) -> tuple[str, ...]:
        """Owners that have a cell of this label."""
        return tuple(owner for owner, labels in self._labels.items() if label in labels)

    def of(self, owner: str, cell: str) -> list[Known]:
        """Discharges of a cell, those that were withdrawn too."""
        return [k for k in self._by_owner.get(owner, ()) if k.cell == cell]

    def of_file(self, name: str) -> list[Known]:
        """Discharges that came in a file."""
        return [k for k in self._all() if k.file == name]

    def claim(self, owner: str, cell: str, new: NewMeasurement, name: str) -> None:
        """Note a discharge that is about to be recorded."""
        mine = Known(owner, cell, new, True, name, profile=lambda: new.profile, file=name, mass_mg=mass_mg(new))
        self._add(mine)

    def equals(self, new: NewMeasurement, owner: str | None = None, *, any_cycle: bool = False) -> list[Known]:
        """Known discharges that are this one, those that stand first.

        Args:
            new: the discharge.
            owner: to look at; by default all, where a discharge of capacity alone is nobody's.
            any_cycle: whether its number may be another one.
        """
        among: Iterable[Known] = self._by_owner.get(owner, ()) if owner is not None else self._all()
        found = [k for k in among if (any_cycle or k.at.cycle == new.conditions.cycle) and self.same(k, new)]
        if owner is None:
            found = [k for k in found if by_curves(k, new)]
        return sorted(found, key=lambda k: not k.counts)

    def same(self, known: Known, new: NewMeasurement) -> bool:
        """Whether two discharges are one, to rounding; their cycle numbers are not looked at."""
        old = known.measured
        if old.charge_mah is not None and new.charge_mah is not None:
            if not math.isclose(old.charge_mah, new.charge_mah, rel_tol=SAME_CHARGE):
                return False
            factor = (new.charge_mah / new.capacity_mah_g) / (old.charge_mah / old.capacity_mah_g)
            return _same_curve(known.profile(), new.profile, factor, SAME_CURVE)
        if not _alike(known.at, new.conditions):
            return False
        a, b = old.capacity_mah_g, new.capacity_mah_g
        curve = known.profile()
        if (curve is None) == (new.profile is None):
            return math.isclose(a, b, rel_tol=SAME_BY_GRAM) and _same_curve(curve, new.profile, 1.0, SAME_BY_GRAM)
        typed, source = (b, new.provenance) if new.profile is None else (a, old.provenance)
        return abs(a - b) <= max(_half_a_unit(typed, whole=source == "summary"), SAME_BY_GRAM * b)

    def _all(self) -> Iterable[Known]:
        return (k for known in self._by_owner.values() for k in known)

    def _add(self, known: Known) -> None:
        self._by_owner.setdefault(known.owner, []).append(known)
        self._labels.setdefault(known.owner, {})[known.cell] = None

    def _known(self, m: Measurement, now: Measurement, homes: dict[Place, set[Place]]) -> Known:
        """A measurement, with what it was corrected to and where that belongs."""
        home = (now.proposal_id, now.cell)
        if now.status == "retracted" and len(homes.get(home, ())) == 1:
            (home,) = homes[home]
        says = ""
        if now is not m:
            says = f"corrected to {now.measurement_id}: {m.withdrawn_reason}"
        elif m.withdrawn_event is not None:
            says = f"withdrawn: {m.withdrawn_reason}"
        return Known(
            *home,
            m,
            counts=m.withdrawn_event is None,
            by=m.measurement_id,
            says=says,
            corrected=now is not m,
            profile=lambda: self._curve(m),
            file=m.file,
            mass_mg=now.mass_mg if now.withdrawn_event is None else None,
        )

    def _curve(self, m: Measurement) -> DischargeProfile | None:
        """Curve of a measurement; those of its proposal are fetched with it."""
        if m.average_voltage_v is None:
            return None
        if m.measurement_id not in self._curves:
            together = [
                o
                for o in self._state.measurements
                if o.proposal_id == m.proposal_id and o.average_voltage_v is not None
            ]
            self._curves |= {f.measurement.measurement_id: f.profile for f in self._fetch(together)}
        return self._curves[m.measurement_id]


def _now(m: Measurement, by_id: dict[str, Measurement]) -> Measurement:
    """What a measurement was corrected to, at last; itself where it was not."""
    while m.superseded_by is not None and m.superseded_by in by_id:
        m = by_id[m.superseded_by]
    return m


def _homes(now: Iterable[tuple[Measurement, Measurement]]) -> dict[Place, set[Place]]:
    """Where the discharges of every cell are now, those apart that were retracted: these go with their cell.

    Args:
        now: every measurement, and what it was corrected to.
    """
    homes: dict[Place, set[Place]] = {}
    for m, latest in now:
        if m.status != "retracted":
            homes.setdefault((m.proposal_id, m.cell), set()).add((latest.proposal_id, latest.cell))
    return homes


def mass_mg(new: NewMeasurement) -> float | None:
    """Active mass that a capacity was divided by (mg); None where the charge is not known."""
    return None if new.charge_mah is None else new.charge_mah / new.capacity_mah_g * 1e3


def masses_differ(known: Known, new: NewMeasurement) -> bool:
    """Whether a discharge is counted by another active mass now than it is known by."""
    mine = mass_mg(new)
    return known.mass_mg is not None and mine is not None and abs(mine / known.mass_mg - 1) > SAME_MASS


def by_curves(known: Known, new: NewMeasurement) -> bool:
    """Whether two discharges are compared by their curves, and not by a capacity alone."""
    return known.profile() is not None and new.profile is not None


def _alike(one: CyclingConditions, other: CyclingConditions) -> bool:
    return (
        abs(one.current_ma_g / other.current_ma_g - 1) <= SAME_RATE
        and abs(one.v_low - other.v_low) <= SAME_CUTOFF_V
        and abs(one.v_high - other.v_high) <= SAME_CUTOFF_V
    )


def _same_curve(known: DischargeProfile | None, new: DischargeProfile | None, factor: float, allowed: float) -> bool:
    """Whether two curves are one, where both are known; the new one is multiplied by a factor first."""
    if known is None or new is None:
        return True
    low, high = max(known.voltage_v[0], new.voltage_v[0]), min(known.voltage_v[-1], new.voltage_v[-1])
    edge = EDGE_SHARE * (high - low)
    if edge <= 0:
        return False
    grid = np.linspace(low + edge, high - edge, 60)
    a = np.interp(grid, known.voltage_v, known.capacity_mah_g)
    b = np.interp(grid, new.voltage_v, new.capacity_mah_g) * factor
    return float(np.abs(a - b).max()) <= allowed * float(known.capacity_mah_g[0])


def _half_a_unit(value: float, *, whole: bool) -> float:
    """Half a unit of the last digit that a number was typed with; whether 240.0 may have been typed as 240."""
    digits = repr(float(value)).partition(".")[2]
    if "e" in digits or len(digits) > 6:
        return 0.0
    decimals = 0 if digits == "0" and whole else len(digits)
    return 0.5000001 * 10.0**-decimals


def lane_of(lanes: list[Lane], conditions: CyclingConditions) -> Lane:
    """Cell that a discharge belongs to: one cell runs one rate from its first cycle, or a staircase with rising cycles.

    Tables and DRX-TD hold several cells and do not name them, so a cycle that is there already starts another.
    """
    current, cycle = conditions.current_ma_g, conditions.cycle
    lane = next((n for n in lanes if n.current_ma_g == current and cycle not in n.cycles), None)
    if lane is None:
        lane = next((n for n in lanes if cycle > max(n.cycles)), None)
    if lane is None:
        lane = Lane(current)
        lanes.append(lane)
    lane.cycles.add(cycle)
    return lane
