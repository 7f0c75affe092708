"""Spreads of means over cells, and what counts as the same conditions."""

from __future__ import annotations

import numpy as np
import pytest

from drxnet.discharge import CyclingConditions
from screening.estimates import Estimate, same_conditions, standard_error
from screening.goals import Rates

CONDITIONS = Rates()


@pytest.mark.parametrize(
    ("came", "counts"),
    [
        (CyclingConditions(20, 1.5, 4.8), True),
        (CyclingConditions(21.9, 1.52, 4.78), True),
        (CyclingConditions(23, 1.5, 4.8), False),
        (CyclingConditions(20, 2.0, 4.8), False),
        (CyclingConditions(20, 1.5, 4.6), False),
        (CyclingConditions(20, 1.5, 4.8, 2), False),
    ],
)
def test_conditions_are_never_mixed(came: CyclingConditions, counts: bool):
    assert same_conditions(came, CONDITIONS.low) is counts


def test_a_single_cell_is_as_uncertain_as_cells_usually_are():
    assert standard_error(Estimate(200.0, None)) == pytest.approx(6.0)
    assert standard_error(Estimate(200.0, 8.0)) == pytest.approx(10.0)


def test_a_few_cells_that_agree_by_chance_are_not_exact():
    single, two = standard_error(Estimate(200.0, 2.0)), standard_error(Estimate(200.0, 0.0, 2))
    assert 0 < two < single
    assert two == pytest.approx(np.sqrt(4 * 6.0**2 / 5 / 2))
    assert standard_error(Estimate(200.0, 8.0, 200)) == pytest.approx(8.0 / np.sqrt(200), rel=0.01)
