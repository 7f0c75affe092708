from __future__ import annotations

import numpy as np
import pytest

from drxnet.composition import Composition
from screening.estimates import Estimate
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Measured
from screening.quantities import Capacity, MeasuredCells, SpecificEnergy

LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")
GOALS = Goals(objectives=(ObjectiveSpec(quantity="specific-energy"), ObjectiveSpec(quantity="rate-retention")))
ENERGY = SpecificEnergy(GOALS.rates.low)


def test_values_stand_in_the_columns_of_their_quantities():
    found = Measured(LMTO, {ENERGY: Estimate(441.0, None)})
    values = found.values(GOALS)
    assert values[GOALS.column(ENERGY)] == 441.0
    assert np.isnan(np.delete(values, GOALS.column(ENERGY))).all()


def test_a_retention_needs_both_rates():
    low = Measured.at_two_rates(LMTO, GOALS.rates, 250.0)
    both = Measured.at_two_rates(LMTO, GOALS.rates, 250.0, 150.0)
    at = GOALS.objective_columns[1]
    assert np.isnan(low.values(GOALS)[at])
    assert low.values(GOALS)[GOALS.column(Capacity(GOALS.rates.low))] == 250.0
    assert both.values(GOALS)[at] == pytest.approx(0.6)


def test_a_variance_is_given_where_cells_were_compared():
    compared = Measured(LMTO, {ENERGY: Estimate.over([430.0, 450.0])})
    alone = Measured(LMTO, {ENERGY: Estimate.over([440.0])})
    assert compared.variances(GOALS)[0] == pytest.approx(compared.estimates[ENERGY].error ** 2)
    assert np.isnan(alone.variances(GOALS)).all()


ONE = Goals()
TWO = Goals(objectives=(ObjectiveSpec(quantity="rate-retention"), ObjectiveSpec(quantity="specific-energy")))


def test_variances_follow_from_the_errors_of_both_rates() -> None:
    low, high = Estimate(250.0, 7.0, 2, 5.0), Estimate(150.0, 8.0, 2, 6.0)
    variances = Measured.at_two_rates(LMTO, ONE.rates, low, high).variances(ONE)
    rng = np.random.default_rng(0)
    draws = rng.normal(150, 6, 100_000) / rng.normal(250, 5, 100_000)
    assert variances[0] == pytest.approx(draws.var(), rel=0.05)
    np.testing.assert_allclose(variances[1:], [25.0, 36.0])
    assert np.isnan(Measured.at_two_rates(LMTO, ONE.rates, 250.0, 150.0).variances(ONE)).all()
    agreeing = Measured.at_two_rates(LMTO, ONE.rates, Estimate.over([250.0] * 100))
    assert agreeing.variances(ONE)[1] == pytest.approx(2.5**2)  # never 0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (10.0, 5.0), (200.0, 0.0), (49.0, 60.0)], ids=lambda capacity: f"{capacity:g}"
)
def test_a_dead_composition_is_not_known_exactly(low: float, high: float) -> None:
    cells = [Estimate.over([q] * 999, least=50.0) for q in (low, high)]
    dead = Measured.at_two_rates(LMTO, ONE.rates, *cells)
    retention, *capacities = np.sqrt(dead.variances(ONE))
    assert capacities[:2] == pytest.approx([0.01 * max(low, 50.0), 0.01 * max(high, 50.0)])
    assert 0.002 < retention < 0.02


def test_other_quantities_are_matched_to_the_goals() -> None:
    energy = SpecificEnergy(ONE.rates.low)
    found = Measured(LMTO, {energy: Estimate(700.0, None)})
    assert found.values(TWO)[TWO.objective_columns[1]] == 700.0
    assert np.isnan(found.values(ONE)).all()


def test_what_was_said_while_it_was_held_out_stands_in_its_column():
    found = Measured(LMTO, {ENERGY: Estimate(441.0, None)}, learned={ENERGY: 400.0})
    said = found.held_out(GOALS)
    assert said[GOALS.column(ENERGY)] == 400.0
    assert np.isnan(np.delete(said, GOALS.column(ENERGY))).all()
    assert np.isnan(Measured(LMTO, {ENERGY: Estimate(441.0, None)}).held_out(GOALS)).all()


def test_what_is_not_measured_has_no_estimate() -> None:
    found = Measured.of_cells(MeasuredCells(Composition.parse("Li1.2Mn0.8O2"), ()), Goals().quantities)
    assert found.estimates == {}
    assert np.isnan(found.values(Goals())).all()
    assert np.isnan(found.variances(Goals())).all()
