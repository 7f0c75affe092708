from __future__ import annotations

import numpy as np
import pytest

from drxnet.discharge import CyclingConditions, DischargeProfile, average_voltage, specific_energy

LINEAR = DischargeProfile(np.linspace(2.0, 4.0, 41), np.linspace(200.0, 0.0, 41))
"""100 mAh/g/V: Q(V) = 100 (4 - V)."""


def test_linear_discharge_has_the_mean_voltage_as_its_voltage():
    assert LINEAR.average_voltage_v() == pytest.approx(3.0)
    assert LINEAR.specific_energy_wh_kg() == pytest.approx(600.0)


def test_capacity_in_a_window_is_the_difference_at_its_ends():
    assert LINEAR.capacity_in_window(2.5, 3.0) == pytest.approx(50.0)
    assert LINEAR.capacity_in_window(2.513, 3.017) == pytest.approx(50.4)  # between grid points
    assert LINEAR.average_voltage_v(2.5, 3.0) == pytest.approx(2.75)


def test_a_window_wider_than_the_profile_gives_the_whole_profile():
    assert LINEAR.capacity_in_window(1.5, 4.8) == pytest.approx(LINEAR.total_capacity_mah_g)


def test_a_window_beside_the_profile_is_refused():
    with pytest.raises(ValueError, match="lies outside the profile"):
        LINEAR.capacity_in_window(4.2, 4.4)


def test_quadratic_discharge_has_its_closed_form_energy():
    v = np.linspace(2.0, 4.0, 2001)
    q = 50 * (4 - v) ** 2  # dQ/dV = -100 (4 - V); E = integral of 100 V (4 - V) from 2 to 4
    assert specific_energy(v, q) == pytest.approx(100 * (2 * 16 - 64 / 3 - (2 * 4 - 8 / 3)), rel=1e-6)
    assert average_voltage(v, q) == pytest.approx((1600 / 3) / 200, rel=1e-6)


def test_arrays_of_profiles_keep_their_leading_axes():
    q = np.stack([LINEAR.capacity_mah_g, 2 * LINEAR.capacity_mah_g])[None]
    assert average_voltage(LINEAR.voltage_v, q) == pytest.approx(np.array([[3.0, 3.0]]))


def test_nothing_delivered_has_no_average_voltage():
    assert np.isnan(average_voltage(LINEAR.voltage_v, np.zeros(41)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param((20, 4.8, 1.5), "lower cut-off", id="window-reversed"),
        pytest.param((0, 1.5, 4.8), "must be positive", id="no-current"),
        pytest.param((float("nan"), 1.5, 4.8), "must be positive", id="nan-current"),
        pytest.param((20, 1.5, 4.8, 0), "counted from 1", id="cycle-zero"),
    ],
)
def test_impossible_conditions_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        CyclingConditions(*arguments)


@pytest.mark.parametrize(
    ("voltage", "capacity", "says"),
    [
        pytest.param([2, 3], [1], "same length", id="lengths"),
        pytest.param([3, 2], [1, 0], "ascend strictly", id="order"),
        pytest.param([2, 3], [np.nan, 0], "finite", id="nan"),
    ],
)
def test_impossible_profiles_are_refused(voltage, capacity, says):
    with pytest.raises(ValueError, match=says):
        DischargeProfile(np.array(voltage, float), np.array(capacity, float))


def test_the_grid_of_conditions_runs_from_cutoff_to_cutoff():
    grid = CyclingConditions(20, 2.0, 4.4).grid()
    assert (grid[0], grid[-1], len(grid)) == (2.0, 4.4, 100)


def test_a_curve_that_runs_both_ways_has_no_mean_voltage_beyond_its_voltages():
    v = np.array([1.0, 2.0, 5.0])
    assert np.isnan(average_voltage(v, np.array([10.0, 109.0, 9.0])))
    assert average_voltage(v, np.array([[20.0, 15.0, 9.0]])) == pytest.approx((5 * 1.5 + 6 * 3.5) / 11)
