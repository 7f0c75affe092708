from __future__ import annotations

import numpy as np
import pytest

from drxnet.composition import Composition
from screening.estimates import Estimate
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Measured
from screening.quantities import Capacity, SpecificEnergy

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
