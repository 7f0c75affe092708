"""Spreads of means over cells, and what counts as the same conditions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from drxnet.discharge import CyclingConditions
from screening.estimates import Estimate, pessimistic, same_conditions, standard_error
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


@pytest.mark.parametrize(
    ("came", "counts"),
    [
        ({"current_ma_g": 109.9}, True),
        ({"current_ma_g": 90.0}, True),
        ({"current_ma_g": 110.1}, False),
        ({"current_ma_g": 89.8}, False),
        ({"v_low": 1.549}, True),
        ({"v_low": 1.451}, True),
        ({"v_low": 1.551}, False),
        ({"v_high": 4.751}, True),
        ({"v_high": 4.851}, False),
        ({"v_high": 4.749}, False),
    ],
)
def test_conditions_are_the_same_within_a_tenth_of_the_current_and_a_twentieth_of_a_volt(came: dict, counts: bool):
    wanted = CyclingConditions(100.0, 1.5, 4.8)
    assert same_conditions(replace(wanted, **came), wanted) is counts


@pytest.mark.parametrize(
    ("values", "sigma", "least", "expected"),
    [
        ([200.0], None, 0.0, Estimate(200.0, None, 1, 6.0)),  # three per cent, as one cell usually has
        ([200.0], 8.0, 0.0, Estimate(200.0, 8.0, 1, 10.0)),
        ([190.0, 210.0], None, 0.0, Estimate(200.0, math.sqrt(200), 2, math.sqrt((4 * 36 + 200) / 5 / 2))),
        ([190.0, 210.0], 99.0, 0.0, Estimate(200.0, math.sqrt(200), 2, math.sqrt((4 * 36 + 200) / 5 / 2))),
        ([200.0] * 100, None, 0.0, Estimate(200.0, 0.0, 100, 2.0)),  # a third of it, however many agree
        ([-200.0] * 100, None, 0.0, Estimate(-200.0, 0.0, 100, 2.0)),
        ([1.0], None, 50.0, Estimate(1.0, None, 1, 0.5)),  # but not of less than the least
        ([1.0], None, 1.0, Estimate(1.0, None, 1, 0.03)),
    ],
)
def test_a_mean_over_cells_has_their_spread_and_an_error_with_a_floor(values, sigma, least, expected: Estimate):
    found = Estimate.over(values, sigma, least)
    assert found is not None
    assert (found.mean, found.count) == (expected.mean, expected.count)
    assert found.spread == (None if expected.spread is None else pytest.approx(expected.spread))
    assert found.error == pytest.approx(expected.error)


def test_without_a_cell_there_is_no_estimate():
    assert Estimate.over([]) is None


@pytest.mark.parametrize(
    ("mean", "error", "sign", "expected"),
    [
        (200.0, 10.0, 1, 200 - 12.815516),
        (200.0, 10.0, -1, 200 + 12.815516),
        (200.0, 0.0, 1, 200.0),
        (5.0, 10.0, 1, 0.0),  # never outside what can be
        (295.0, 10.0, -1, 300.0),
    ],
)
def test_the_truth_is_better_than_the_pessimistic_bound_with_nine_tenths(mean, error, sign, expected):
    assert float(pessimistic(mean, error, sign, (0.0, 300.0))) == pytest.approx(expected)
    drawn = np.random.default_rng(0).normal(mean, error, 40_000)
    if 0 < expected < 300 and error:
        assert np.mean(sign * drawn > sign * expected) == pytest.approx(0.9, abs=0.01)
