"""Measurements judged beside the others of their campaign and beside what was predicted.

What a named mistake explains is doubted: recorded, but neither learned from nor ranked as measured until a person
confirms or corrects it. What is merely surprising, dead cells included, is flagged and learned from. The prediction
that was stored when a composition was proposed serves, so that nothing here needs a network.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.intake.rules import read_rules
from campaigns.ledger.physics import all_lithium_mah_g, faults_of_numbers
from campaigns.ledger.records import Measurement, NewMeasurement, Snapshot
from drxnet.discharge import CyclingConditions
from drxnet.uncertainty import CELL_TO_CELL
from screening.estimates import CELLS_EXPECTED, CURRENT_TOLERANCE, VOLTAGE_TOLERANCE_V, same_conditions
from screening.quantities import Capacity

if TYPE_CHECKING:
    from screening.goals import Rates


JUDGEMENTS = read_rules("judgements.yaml")
"""Every rule, by its id: the table ``judgements.yaml``."""

PAIRED = ("J1", "J3", "J5")
"""Rules that rest on another cell: judged again whenever something about the cells changes."""

MOST_RATIO = 1.05
"""Capacity at a higher rate relative to that at a lower one, up to which cells may differ by chance."""

Z_99 = 2.5758293035489004
"""Standard normal quantile of 0.995."""

MEDIAN_Z = 0.6744897501960817
"""Standard normal quantile of 0.75: the median of absolute standardised errors."""

Z_REPLICATES = 5.0
FACTORS: Mapping[float, str] = MappingProxyType(
    {
        10.0: "the active mass may stand 10 times too large",
        0.1: "the active mass may stand 10 times too small",
        100.0: "the active mass may stand 100 times too large",
        0.01: "the active mass may stand 100 times too small",
        1000.0: "Ah may be taken for mAh, or mg for g (factor 1000)",
        0.001: "mAh may be taken for Ah, or g for mg (factor 1000)",
    }
)
"""What a capacity must be multiplied by, and the mistake that this undoes."""

NEAR_ENOUGH = 0.3
"""Relative distance from what was expected within which a factor explains: powers of ten are far apart."""

FAR = 0.5
"""Relative distance beyond which nothing is explained, however little is known."""

DEAD_MAH_G = 50.0
"""A cell below it is rather dead than a replicate of another composition."""

TOP_TOLERANCE_V = 0.1
UNLIKE_RATES = 1.2
"""Ratio of two currents from which on they are two rates."""

FIRST_CYCLES = 5
"""A cell is set beside the prediction of its first cycle by one of these."""

MODEL_ERROR_MAH_G = 45.0
"""What an ensemble is off by for other laboratories' phases, against 40 published capacities; its own members do not
say so (mAh/g)."""

Key = str | int


@dataclass(frozen=True)
class Expected:
    """A capacity as it was predicted."""

    mean: float
    std: float


@dataclass(frozen=True)
class Weighed:
    """A discharge as far as judging it needs."""

    key: Key
    """Id of a measurement, or a number of what is about to be recorded."""

    owner: str
    """Proposal, or composition that nobody proposed."""

    cell: str
    composition: str
    at: CyclingConditions
    capacity_mah_g: float
    from_cycler: bool
    """Whether mass and current were divided here, not by whoever wrote the file."""

    current_stated: bool = True
    charge_top_v: float | None = None
    round: int | None = None
    fresh: bool = False
    """Whether it is about to be recorded; others were judged by themselves before."""

    confirmed: bool = False
    doubt: str = ""
    """Rule that it is doubted by now."""

    @property
    def run(self) -> tuple[str, str, int]:
        """The cell at this rate: what is wrong with its first discharge is wrong with all."""
        return self.owner, self.cell, round(math.log(self.at.current_ma_g) / CURRENT_TOLERANCE)


@dataclass
class Verdicts:
    """What came of judging."""

    doubts: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """Rule, and mistake that would explain it."""

    surprises: dict[Key, str] = field(default_factory=dict)
    cleared: dict[Key, str] = field(default_factory=dict)
    """Measurements whose reason for doubt is gone."""


def weighed(
    state: Snapshot, key: Key, owner: str, cell: str, made: Measurement | NewMeasurement, **more: Any
) -> Weighed:
    """Take a discharge of a cell for judging, with more fields of :class:`Weighed` by their names."""
    what = (made.composition, made.conditions, made.capacity_mah_g, made.provenance == "cycler")
    number = state.by_id[owner].round if owner in state.by_id else None
    return Weighed(key, owner, cell, *what, charge_top_v=made.charge_top_v, round=number, **more)


def weighed_standing(state: Snapshot, gone: Collection[str] = ()) -> list[Weighed]:
    """Take all measurements that stand and can be judged, but those of some ids."""
    return [
        weighed(
            state,
            m.measurement_id,
            m.proposal_id,
            m.cell,
            m,
            confirmed=m.confirmed,
            doubt=m.verdict.rule if m.doubt and m.verdict is not None else "",
        )
        for m in state.standing
        if m.measurement_id not in gone and not faults_of_numbers(m)
    ]


def expectations(state: Snapshot, rates: Rates) -> dict[str, dict[str, Expected]]:
    """Predicted capacity of each proposal at the two rates (``low``, ``high``), where it was made for them."""
    asked = {"low": Capacity(rates.low).identity, "high": Capacity(rates.high).identity}
    found: dict[str, dict[str, Expected]] = {}
    for proposal in state.proposals:
        if proposal.prediction is None:
            continue
        said = {rate: proposal.prediction.value(quantity) for rate, quantity in asked.items()}
        if None not in said.values():
            found[proposal.proposal_id] = {rate: Expected(v.mean, v.std) for rate, v in said.items() if v is not None}
    return found


def judge(discharges: Sequence[Weighed], conditions: Rates, expected: Mapping[str, Mapping[str, Expected]]) -> Verdicts:
    """Judge what is about to be recorded, and again what is doubted because of other cells.

    Args:
        discharges: all that stand, the doubtful ones too, and what is about to be recorded.
        conditions: the campaign's two rates and window.
        expected: of :func:`expectations`.
    """
    return _Court(discharges, conditions, expected).verdicts()


class _Court:
    def __init__(
        self, discharges: Sequence[Weighed], conditions: Rates, expected: Mapping[str, Mapping[str, Expected]]
    ) -> None:
        self.all, self.conditions, self.expected = tuple(discharges), conditions, expected
        self.found = Verdicts()
        self.rates = (conditions.low_current_ma_g, conditions.high_current_ma_g)
        self.runs: dict[tuple[str, str, int], list[Weighed]] = {}
        self.cells: dict[tuple[str, str], set[float]] = {}
        for d in sorted(self.all, key=lambda d: d.at.cycle):
            self.runs.setdefault(d.run, []).append(d)
            self.cells.setdefault((d.owner, d.cell), set()).add(d.at.current_ma_g)

    def verdicts(self) -> Verdicts:
        trusted = {d.run for d in self.all if d.confirmed}
        heads = [d for d in self.all if d.fresh and d.run not in trusted and self._is_head(d)]
        for d in heads:
            if (doubt := self._alone(d)) is not None:
                self.found.doubts[d.key] = doubt
        self._together(heads)
        self._inherit(trusted)
        for d in heads:
            if d.key not in self.found.doubts and (word := self._surprise(d)):
                self.found.surprises[d.key] = word
        return self.found

    def _is_head(self, d: Weighed) -> bool:
        """Whether it is the first discharge of its cell at its rate."""
        return self.runs[d.run][0] is d

    # -- by itself -------------------------------------------------------------------------------------------

    def _alone(self, d: Weighed) -> tuple[str, str] | None:
        top = d.charge_top_v
        if top is not None and top < d.at.v_high - TOP_TOLERANCE_V:
            return "J6", (
                f"the charge before ended at {top:.3g} V, not at {d.at.v_high:g} V, so that this is no discharge of "
                f"{d.at.v_low:g}-{d.at.v_high:g} V"
            )
        return self._current(d) or self._factor(d)

    def _current(self, d: Weighed) -> tuple[str, str] | None:
        """Doubt a current that is none of the campaign's while nobody stated it, or that a factor brings to one."""
        if any(_near(current, rate) for current in self.cells[d.owner, d.cell] for rate in self.rates):
            return None
        current, capacity = d.at.current_ma_g, d.capacity_mah_g
        rates = f"{self.rates[0]:g} and {self.rates[1]:g}"
        for factor, mistake in FACTORS.items():
            rate = next((r for r in self.rates if _near(current * factor, r)), None)
            if rate is not None and self._explains(d, factor, rate):
                return "J2", (
                    f"{current:.3g} mA/g is none of the campaign's rates ({rates} mA/g); {mistake}: that would be "
                    f"{current * factor:.3g} mA/g and {capacity * factor:.3g} mAh/g (factor {factor:g})"
                )
        if d.current_stated or not d.from_cycler:
            return None
        nearest = min(self.rates, key=lambda rate: abs(math.log(current / rate)))
        factor = nearest / current
        return "J2", (
            f"{current:.3g} mA/g is none of the campaign's rates ({rates} mA/g) and nobody stated it; with an active "
            f"mass {1 / factor:.3g} times as large as it is it would be {nearest:g} mA/g (factor {factor:.3g}). State "
            "the current where it is right"
        )

    def _explains(self, d: Weighed, factor: float, rate: float) -> bool:
        """Whether a factor on mass makes a capacity what it may be at a rate."""
        corrected = d.capacity_mah_g * factor
        if not 1.0 < corrected <= all_lithium_mah_g(d.composition):
            return False
        known = self.expected.get(d.owner, {}).get("low" if rate == self.rates[0] else "high")
        if known is not None and known.mean > 1:
            return abs(math.log(corrected / known.mean)) < abs(math.log(d.capacity_mah_g / known.mean))
        return abs(math.log(corrected / 200.0)) < abs(math.log(d.capacity_mah_g / 200.0))

    def _factor(self, d: Weighed) -> tuple[str, str] | None:
        """Doubt a capacity that a power of ten brings to what was predicted, or to its replicates."""
        known = self._expectation(d)
        beside = "was predicted"
        if known is None or self._inside(d.capacity_mah_g, known):
            others = [o.capacity_mah_g for o in self._evidence(d) if same_conditions(d.at, o.at)]
            if not others or known is not None:
                return None
            known, beside = Expected(float(np.median(others)), 0.0), "its replicate gives"
            if abs(math.log(d.capacity_mah_g / known.mean)) < math.log(2):
                return None
        limit = all_lithium_mah_g(d.composition)
        near = [f for f in FACTORS if d.capacity_mah_g * f <= limit and self._near_enough(d.capacity_mah_g * f, known)]
        if not near:
            return None
        factor = min(near, key=lambda f: abs(math.log(d.capacity_mah_g * f / known.mean)))
        return "J4", (
            f"{d.capacity_mah_g:.3g} mAh/g at {d.at.current_ma_g:g} mA/g, where {known.mean:.0f} {beside}; "
            f"{FACTORS[factor]}: that would be {d.capacity_mah_g * factor:.3g} mAh/g (factor {factor:g})"
        )

    # -- beside what was predicted -----------------------------------------------------------------------------

    def _expectation(self, d: Weighed) -> Expected | None:
        if d.at.cycle > FIRST_CYCLES:
            return None
        for rate, wanted in (("low", self.conditions.low), ("high", self.conditions.high)):
            if same_conditions(CyclingConditions(d.at.current_ma_g, d.at.v_low, d.at.v_high), wanted):
                known = self.expected.get(d.owner, {}).get(rate)
                return known if known is not None and known.mean > 1 else None
        return None

    def _std(self, known: Expected) -> float:
        return self._scale * math.hypot(known.std, CELL_TO_CELL * known.mean)

    @cached_property
    def _scale(self) -> float:
        """How much wider than stated the predictions of this campaign turned out to be, at least as wide as stated.

        By the median of the standardised errors, which a few wrong ones do not move, with the weight of
        :data:`CELLS_EXPECTED` for what is stated.
        """
        errors = [
            abs(d.capacity_mah_g - known.mean) / math.hypot(known.std, CELL_TO_CELL * known.mean)
            for d in self.all
            if not d.fresh and not d.doubt and d.capacity_mah_g >= DEAD_MAH_G and d.at.cycle == 1
            if (known := self._expectation(d)) is not None
        ]
        return max(1.0, float(np.median([*errors, *[MEDIAN_Z] * CELLS_EXPECTED])) / MEDIAN_Z)

    def _inside(self, capacity: float, known: Expected) -> bool:
        return abs(capacity - known.mean) <= Z_99 * self._std(known)

    def _near_enough(self, capacity: float, known: Expected) -> bool:
        wide = max(Z_99 * self._std(known), NEAR_ENOUGH * known.mean)
        return abs(capacity - known.mean) <= min(wide, FAR * known.mean)

    def _surprise(self, d: Weighed) -> str:
        known = self._expectation(d)
        if known is None or self._inside(d.capacity_mah_g, known):
            return ""
        dead = ": a dead cell" if d.capacity_mah_g < DEAD_MAH_G else ""
        return (
            f"{d.capacity_mah_g:.3g} mAh/g at {d.at.current_ma_g:g} mA/g, where {known.mean:.0f} ± "
            f"{self._std(known):.0f} was predicted{dead}; surprising, and learned from"
        )

    # -- beside other cells --------------------------------------------------------------------------------------

    def _evidence(self, d: Weighed) -> list[Weighed]:
        """First discharges of other cells of the same composition that are not doubted by themselves."""
        return [o for o in self.all if self._is_beside(o, d) and self._counts(o)]

    def _is_beside(self, o: Weighed, d: Weighed) -> bool:
        """Whether two are the same discharge of two cells of one composition."""
        same = o.owner == d.owner and o.run != d.run and o.at.cycle == d.at.cycle
        return same and _same_window(o.at, d.at)

    def _counts(self, d: Weighed) -> bool:
        """Whether a discharge may speak for or against others: it is not doubted."""
        return not d.doubt and d.key not in self.found.doubts

    def _together(self, fresh: Sequence[Weighed]) -> None:
        """Judge cells beside one another: what is new, what is beside it, and what is doubted for such a reason."""
        open_again = [d for d in self.all if not d.fresh and d.doubt in PAIRED and self._is_head(d)]
        new = [d for d in fresh if d.key not in self.found.doubts]
        doubts = dict(self._doubted_together(new))
        doubts |= self._exchanged(new)
        self.found.doubts |= doubts
        for d in open_again:
            if self._still_doubted(d) is None:
                self.found.cleared[d.key] = "what it was doubted for is gone"

    def _doubted_together(self, new: Sequence[Weighed]) -> Iterator[tuple[Key, tuple[str, str]]]:
        """Yield what other cells make one doubt, of what is new and of what was not doubted before."""
        for d in new:
            if (doubt := self._paired(d, self._evidence(d))) is not None:
                yield d.key, doubt
        owners = {d.owner for d in new}
        for d in self.all:
            if d.fresh or d.doubt or d.confirmed or d.owner not in owners or not self._is_head(d):
                continue
            others = self._evidence(d)  # only what is new can make one doubt what was not doubted before
            if any(o.fresh and self._paired(d, [o]) for o in others) and (doubt := self._paired(d, others)):
                yield d.key, doubt

    def _still_doubted(self, d: Weighed) -> tuple[str, str] | None:
        """What speaks against a doubted discharge now; what is doubted alike may be the other half of the mistake."""
        others = [o for o in self.all if o.key != d.key and (self._counts(o) or o.doubt in PAIRED)]
        mine = [o for o in others if self._is_beside(o, d)]
        return self._paired(d, mine) or self._exchanged_with(d, others)

    def _paired(self, d: Weighed, others: Sequence[Weighed]) -> tuple[str, str] | None:
        return self._faster(d, others) or self._unlike(d, others)

    def _faster(self, d: Weighed, others: Sequence[Weighed]) -> tuple[str, str] | None:
        """Doubt more capacity at a higher rate than at a lower one, unless a replicate says that the other is wrong."""
        for o in others:
            slow, fast = (d, o) if d.at.current_ma_g < o.at.current_ma_g else (o, d)
            if fast.at.current_ma_g < UNLIKE_RATES * slow.at.current_ma_g or not self._are_compared(slow, fast):
                continue
            if fast.capacity_mah_g <= MOST_RATIO * slow.capacity_mah_g:
                continue
            sides = [self._sided(x) for x in (d, o)]
            if sides[0] and not sides[1]:
                continue
            return "J1", (
                f"{fast.capacity_mah_g:.0f} mAh/g at {fast.at.current_ma_g:g} mA/g (cell {fast.cell}) but "
                f"{slow.capacity_mah_g:.0f} at {slow.at.current_ma_g:g} mA/g (cell {slow.cell}): the two rates, or "
                f"the two cells, may be swapped (factor {fast.capacity_mah_g / slow.capacity_mah_g:.3g})"
            )
        return None

    def _are_compared(self, slow: Weighed, fast: Weighed) -> bool:
        """Whether two rates make a retention, or are the only two; others in between are noise to one another."""
        if _near(slow.at.current_ma_g, self.rates[0]) and _near(fast.at.current_ma_g, self.rates[1]):
            return True
        return len({d.run[2] for d in self.all if d.owner == slow.owner}) <= 2

    def _sided(self, d: Weighed) -> bool:
        """Whether another cell of the same rate agrees."""
        return d.confirmed or any(
            abs(math.log(o.capacity_mah_g / d.capacity_mah_g)) <= self._usual
            for o in self.all
            if o.owner == d.owner and o.run != d.run and self._counts(o)
            if o.at.cycle == d.at.cycle and same_conditions(o.at, d.at)
        )

    def _unlike(self, d: Weighed, others: Sequence[Weighed]) -> tuple[str, str] | None:
        """Doubt a replicate that differs far more than the lab's cells usually do."""
        if d.capacity_mah_g < DEAD_MAH_G:
            return None
        values = [o for o in others if same_conditions(o.at, d.at) and o.capacity_mah_g >= DEAD_MAH_G]
        agreeing = [o for o in values if abs(math.log(d.capacity_mah_g / o.capacity_mah_g)) <= self._usual]
        if 2 * len(agreeing) >= len(values):  # true of none
            return None
        if len(values) == 1 and not d.doubt and not values[0].confirmed and self._is_nearer(d, values[0]):
            return None
        median = float(np.median([o.capacity_mah_g for o in values]))
        who = f"cell {values[0].cell} gives" if len(values) == 1 else "its replicates give"
        return "J3", (
            f"{d.capacity_mah_g:.0f} mAh/g at {d.at.current_ma_g:g} mA/g, where {who} {median:.0f} "
            f"(factor {median / d.capacity_mah_g:.3g}); the lab's cells usually differ by "
            f"{100 * self._between_cells:.1f} %. The mass or the label of one may be wrong"
        )

    def _is_nearer(self, d: Weighed, other: Weighed) -> bool:
        """Whether the prediction clearly sides with one of two cells that differ."""
        known = self._expectation(d)
        if known is None:
            return False
        mine, its = (abs(x.capacity_mah_g - known.mean) for x in (d, other))
        return mine < 0.5 * its

    @cached_property
    def _usual(self) -> float:
        """Difference of two replicates in the logarithm that is still usual."""
        return Z_REPLICATES * math.sqrt(2) * self._between_cells

    @cached_property
    def _between_cells(self) -> float:
        """Relative standard deviation between equal cells: this lab's own, beside what is usual elsewhere."""
        groups: dict[tuple[object, ...], list[float]] = {}
        for d in self.all:
            if not d.fresh and not d.doubt and d.capacity_mah_g >= DEAD_MAH_G and d.at.cycle == 1:
                at = d.at
                key = (d.owner, round(math.log(at.current_ma_g) / CURRENT_TOLERANCE), round(at.v_low, 1), at.v_high)
                groups.setdefault(key, []).append(math.log(d.capacity_mah_g))
        together = [np.array(values) for values in groups.values() if len(values) > 1]
        squares = sum(float(((v - v.mean()) ** 2).sum()) for v in together)
        freedom = sum(len(v) - 1 for v in together)
        return math.sqrt((CELLS_EXPECTED * CELL_TO_CELL**2 + squares) / (CELLS_EXPECTED + freedom))

    def _exchanged(self, new: Sequence[Weighed]) -> dict[Key, tuple[str, str]]:
        """Doubt capacities of two proposals that are each other's."""
        doubts: dict[Key, tuple[str, str]] = {}
        for d in new:
            for o in self.all:
                if o.key != d.key and not o.confirmed and self._counts(o) and (both := self._swapped(d, o)):
                    doubts.setdefault(d.key, both[0])
                    doubts.setdefault(o.key, both[1])
        return doubts

    def _exchanged_with(self, d: Weighed, others: Iterable[Weighed]) -> tuple[str, str] | None:
        return next((both[0] for o in others if (both := self._swapped(d, o))), None)

    def _swapped(self, d: Weighed, o: Weighed) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """Doubts of two cells of one round and rate that fit each other's prediction, and neither its own."""
        if d.owner == o.owner or d.round != o.round or d.at.cycle != o.at.cycle:
            return None
        if not _near(d.at.current_ma_g, o.at.current_ma_g):
            return None
        mine, its = self._expectation(d), self._expectation(o)
        if mine is None or its is None:
            return None
        own = [self._inside(d.capacity_mah_g, mine), self._inside(o.capacity_mah_g, its)]
        others = [self._inside(d.capacity_mah_g, its), self._inside(o.capacity_mah_g, mine)]
        if any(own) or not all(others):
            return None
        return _as_swapped(d, o, mine, its), _as_swapped(o, d, its, mine)

    # -- the rest of a cell --------------------------------------------------------------------------------------

    def _inherit(self, trusted: set[tuple[str, str, int]]) -> None:
        """What is wrong with the first discharge of a cell is wrong with all of it."""
        doubted: dict[tuple[str, str, int], tuple[str, str]] = {}
        for d in self.all:
            if d.key in self.found.doubts:
                doubted.setdefault(d.run, self.found.doubts[d.key])
            elif d.doubt and d.key not in self.found.cleared:
                doubted.setdefault(d.run, (d.doubt, "its cell is doubtful"))
        for d in self.all:
            if d.run in doubted and d.run not in trusted:
                if d.key not in self.found.doubts and (d.fresh or not d.doubt):
                    self.found.doubts[d.key] = doubted[d.run]
            elif d.run not in doubted and d.doubt and not self._is_head(d):
                self.found.cleared.setdefault(d.key, "its cell is doubted no more")


def _as_swapped(d: Weighed, o: Weighed, mine: Expected, its: Expected) -> tuple[str, str]:
    return "J5", (
        f"{d.capacity_mah_g:.0f} mAh/g at {d.at.current_ma_g:g} mA/g, where {mine.mean:.0f} was predicted; "
        f"{o.owner} gives {o.capacity_mah_g:.0f}, where {its.mean:.0f} was: the labels of {d.owner} and {o.owner} "
        f"may be swapped (factor {mine.mean / d.capacity_mah_g:.3g})"
    )


def _near(current: float, rate: float) -> bool:
    return abs(current / rate - 1) <= CURRENT_TOLERANCE


def _same_window(one: CyclingConditions, other: CyclingConditions) -> bool:
    return abs(one.v_low - other.v_low) <= VOLTAGE_TOLERANCE_V and abs(one.v_high - other.v_high) <= VOLTAGE_TOLERANCE_V
