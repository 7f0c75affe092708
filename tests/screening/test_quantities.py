"""What each quantity is, of members and of cells, by closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts
from drxnet.errors import ConfigurationError
from screening.estimates import Estimate
from screening.goals import Rates
from screening.quantities import (
    QUANTITIES,
    AverageVoltage,
    Capacity,
    CapacityRetention,
    CostPerKwh,
    MeasuredCells,
    MemberProfiles,
    RateRetention,
    SpecificEnergy,
    cost_usd_kg,
    retention,
)

RATES = Rates()
LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")
SHIPPED = [kind for kind in QUANTITIES.values() if kind.__module__ == "screening.quantities"]


@dataclass(frozen=True)
class Discharged:
    """A discharge of the tests."""

    cell: str
    conditions: CyclingConditions
    capacity_mah_g: float
    sigma_mah_g: float | None = None
    average_voltage_v: float | None = None
    specific_energy_wh_kg: float | None = None


def cells(*discharges: Discharged, of: Composition = LMTO, **prices: float) -> MeasuredCells:
    return MeasuredCells(of, discharges, prices)


def test_every_quantity_of_a_yaml_is_known_by_its_name():
    assert all(QUANTITIES[name].name == name for name in QUANTITIES)
    with pytest.raises(ConfigurationError, match="No quantity 'capacty'. Did you mean capacity"):
        QUANTITIES.named("capacty")


@pytest.mark.parametrize("cycle", [1, 5])
def test_a_rate_retention_needs_both_rates_of_its_cycle(cycle: int):
    low, high = (Discharged("a", RATES.at(i, cycle), q) for i, q in ((20.0, 250.0), (1000.0, 150.0)))
    found = RateRetention.of(RATES, cycle=cycle)
    assert found.of_cells(cells(low, high)).mean == pytest.approx(0.6)
    assert found.of_cells(cells(low)) is None
    assert found.of_cells(cells(high)) is None


@pytest.mark.parametrize("cycle", [1, 5])
def test_a_dead_cell_retains_nothing_measured_or_predicted(cycle: int):
    quantity = RateRetention.of(RATES, cycle=cycle)
    pair = cells(*(Discharged("a", c, 40.0) for c in quantity.conditions))
    assert quantity.of_cells(pair).mean == 0.0
    dead = MemberProfiles(FakeEnsemble(2, dead=[0, 1]), Amounts.of(["Li1.2Mn0.4Nb0.4O2"]), [quantity])
    assert quantity.of_members(dead).tolist() == [[0.0], [0.0]]


def test_a_retention_is_at_most_what_two_cells_may_differ_by():
    quantity = RateRetention.of(RATES)
    assert quantity.of_cells(cells(Discharged("a", RATES.low, 100.0), Discharged("b", RATES.high, 180.0))).mean == 1.05


def test_spread_and_error_of_a_retention_follow_from_both_capacities():
    low = [Discharged(str(i), RATES.low, q) for i, q in enumerate((245.0, 255.0))]
    high = [Discharged(str(i), RATES.high, q) for i, q in enumerate((147.0, 153.0), start=2)]
    found = RateRetention.of(RATES).of_cells(cells(*low, *high))
    spreads = np.std([245, 255], ddof=1) / 250, np.std([147, 153], ddof=1) / 150
    assert found.spread == pytest.approx(0.6 * np.hypot(*spreads))
    errors = (Capacity(c).of_cells(cells(*low, *high)).error for c in (RATES.low, RATES.high))
    assert found.error == pytest.approx(0.6 * np.hypot(*(e / q for e, q in zip(errors, (250, 150), strict=True))))
    assert found.count == 2


def test_of_an_exact_capacity_at_the_low_rate_only_the_other_error_is_left():
    found = RateRetention.of(RATES).of_capacities(Estimate(250.0, None), Estimate(150.0, None, error=5.0))
    assert found.error == pytest.approx(5.0 / 250.0)


def test_a_single_cell_has_its_stated_uncertainty():
    found = Capacity(RATES.low).of_cells(cells(Discharged("a", RATES.low, 200.0, sigma_mah_g=8.0)))
    assert (found.spread, found.error) == (8.0, pytest.approx(10.0))
    assert Capacity(RATES.low).of_cells(cells(Discharged("a", RATES.low, 200.0))).spread is None


def test_a_capacity_retention_is_that_of_each_cell():
    quantity = CapacityRetention.of(RATES)
    at = [RATES.low, RATES.at(20.0, 20)]
    discharged = {"a": (200.0, 100.0), "b": (100.0, 90.0)}
    both = [Discharged(name, c, q) for name, qs in discharged.items() for c, q in zip(at, qs, strict=True)]
    late = Discharged("c", at[1], 300.0)
    found = quantity.of_cells(cells(*both, late))
    assert found.mean == pytest.approx((0.5 + 0.9) / 2)
    assert found.count == 2
    assert quantity.of_cells(cells(late)) is None


def test_energy_and_voltage_are_those_of_the_cells_with_a_profile():
    with_profile = Discharged("a", RATES.low, 200.0, average_voltage_v=3.2, specific_energy_wh_kg=640.0)
    without = Discharged("b", RATES.low, 900.0)
    assert SpecificEnergy(RATES.low).of_cells(cells(with_profile, without)).mean == 640.0
    assert AverageVoltage(RATES.low).of_cells(cells(with_profile, without)).mean == 3.2
    assert SpecificEnergy(RATES.low).of_cells(cells(without)) is None


def test_an_energy_is_never_a_price():
    """What is wanted is what is learned from: no quantity falls through to another one."""
    measured = cells(Discharged("a", RATES.low, 150.0, average_voltage_v=2.94, specific_energy_wh_kg=441.0))
    values = {q.name: e.mean for q in (k.of(RATES) for k in QUANTITIES.values()) if (e := q.of_cells(measured))}
    assert values.pop("cost-per-kwh") not in values.values()
    assert values == {"capacity": 150.0, "specific-energy": 441.0, "average-voltage": 2.94}


def test_the_price_of_a_kilogram_is_that_of_its_elements():
    # Li1.2Mn0.8O2: 200 and 2 USD/kg, oxygen free
    mass = {"Li": 1.2 * 6.941, "Mn": 0.8 * 54.938, "O": 2 * 15.999}
    expected = (200 * mass["Li"] + 2 * mass["Mn"]) / sum(mass.values())
    assert cost_usd_kg(["Li", "Mn"], [1.2, 0.8], 0.0) == pytest.approx(expected, rel=1e-4)
    tensors = cost_usd_kg(("Li", "Mn"), torch.tensor([[1.2], [0.8]]).double(), torch.zeros(1).double())
    assert tensors.item() == pytest.approx(expected, rel=1e-4)
    fluorine = (200 * mass["Li"] + 2 * mass["Mn"] + 5 * 0.5 * 18.998) / (mass["Li"] + mass["Mn"] + 1.5 * 15.999 + 9.499)
    assert cost_usd_kg(["Li", "Mn"], [1.2, 0.8], 0.5) == pytest.approx(fluorine, rel=1e-4)


def test_an_element_without_a_price_is_named_with_the_way_to_give_one():
    lanthanum = Composition.parse("Li1.2Mn0.6La0.2O2")
    one = Discharged("a", RATES.low, 200.0, specific_energy_wh_kg=600.0)
    with pytest.raises(ConfigurationError, match=r"No price is known for La\..*`prices: \{La: 12.5\}`"):
        CostPerKwh(RATES.low).of_cells(cells(one, of=lanthanum))
    assert CostPerKwh(RATES.low).of_cells(cells(one, of=lanthanum, La=5.0)).mean > 0
    assert cost_usd_kg(["Li", "La"], [1.2, 0.0], 0.0) > 0, "what is not in it needs no price"


def test_the_key_of_a_row_says_the_unit_and_what_is_unusual():
    assert RateRetention.of(RATES).key(RATES) == "rate_retention"
    assert RateRetention.of(RATES, cycle=3).key(RATES) == "rate_retention_cycle_3"
    assert Capacity(RATES.low).key(RATES) == "capacity_low_mah_g"
    assert Capacity(RATES.high).key(RATES) == "capacity_high_mah_g"
    assert Capacity.of(RATES, 100.0).key(RATES) == "capacity_mah_g_at_100_ma_g"
    assert CapacityRetention.of(RATES).key(RATES) == "capacity_retention"
    assert CapacityRetention.of(RATES, cycle=50).key(RATES) == "capacity_retention_cycle_50"
    assert SpecificEnergy.of(RATES).key(RATES) == "specific_energy_wh_kg"


def test_quantities_are_equal_when_their_conditions_are():
    assert Capacity.of(RATES, 20.0) == Capacity(RATES.low)
    assert Capacity.of(RATES, 20.0) != Capacity.of(RATES, 21.0)
    assert Capacity(RATES.low) != SpecificEnergy(RATES.low)
    other = Rates(v_low=2.0)
    assert Capacity.of(other).identity != Capacity.of(RATES).identity


def test_what_is_asked_for_together_is_predicted_once():
    class Counting(FakeEnsemble):
        calls = 0

        def profiles(self, *arguments):
            Counting.calls += 1
            return super().profiles(*arguments)

    wanted = [SpecificEnergy(RATES.low), AverageVoltage(RATES.low), CostPerKwh(RATES.high)]
    profiles = MemberProfiles(Counting(2), Amounts.of([LMTO]), wanted)
    energy, voltage, _ = (q.of_members(profiles) for q in wanted)
    assert Counting.calls == 1
    assert voltage.tolist()[0][0] == pytest.approx(3.15)
    capacity = profiles.capacity(RATES.low)
    torch.testing.assert_close(energy, 3.15 * capacity)


def test_words_for_tables_and_axes():
    assert str(Capacity.of(RATES, cycle=5)) == "capacity at 20 mA/g, cycle 5"
    assert Capacity(RATES.low).label == "capacity at 20 mA/g (mAh/g)"
    assert RateRetention.of(RATES).label == "rate retention, Q(1000 mA/g) / Q(20 mA/g)"
    assert SpecificEnergy(RATES.low).heading == "specific energy at 20 mA/g (Wh/kg)"
    assert SpecificEnergy(RATES.low).shown(441.2) == "441"
    assert replace(RateRetention.of(RATES)).shown(0.613) == "0.61"


@pytest.mark.parametrize("kind", [k for k in SHIPPED if k is not RateRetention])
def test_the_same_at_other_conditions_has_another_heading(kind: type):
    asked = [(20.0, 2), (1000.0, 2), (20.0, 30), (1000.0, 30)]
    assert len({kind.of(RATES, current, cycle).heading for current, cycle in asked}) == len(asked)


def test_the_cost_of_cells_is_the_price_over_their_energy_with_a_floor_below_it():
    composition, energies = Composition.parse("Li1.2Mn0.8O2"), (640.0, 50.0)
    price = cost_usd_kg(["Li", "Mn"], [1.2, 0.8], 0.0)
    each = [Discharged(name, RATES.low, 200.0, specific_energy_wh_kg=e) for name, e in zip("ab", energies, strict=True)]
    rich, poor = (CostPerKwh(RATES.low).of_cells(cells(one, of=composition)).mean for one in each)
    assert rich == pytest.approx(price / 0.64)
    assert poor == pytest.approx(price / 0.1)


@pytest.mark.parametrize(
    ("first", "later", "kept"),
    [
        (50.0, 30.0, 0.6),
        (49.99, 30.0, 0.0),
        (60.0, 30.0, 0.5),
        (200.0, 220.0, 1.05),
        (200.0, -1.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_a_retention_counts_from_the_floor_on(first: float, later: float, kept: float):
    assert float(retention(np.array(later), np.array(first), RATES.capacity_floor_mah_g)) == pytest.approx(kept)
    for quantity in (RateRetention.of(RATES), CapacityRetention.of(RATES)):
        at, after = quantity.conditions
        found = quantity.of_cells(cells(Discharged("a", at, first), Discharged("a", after, later)))
        assert found.mean == pytest.approx(kept)


@pytest.mark.parametrize("kind", [Capacity, SpecificEnergy, AverageVoltage, CostPerKwh])
def test_nothing_of_one_discharge_is_less_than_none(kind: type):
    assert kind.of(RATES).limits == (0.0, np.inf)
    assert kind.of(RATES, 50.0, 7).at == RATES.at(50.0, 7)
    assert kind.of(RATES).at == RATES.low
