"""Smoothing: closed forms, invariants, and the traps of real discharges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drxnet.errors import MeasurementError
from drxnet.preprocess import isotonic_curve, smooth_discharge

WINDOW = (1.5, 4.8)


def sloped(rows: int = 400, total: float = 240.0, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A discharge with two broad plateaus, Q from 0 to the total while V falls from 4.75 to 1.5 V."""
    share = np.linspace(0, 1, rows)
    voltage = 4.75 - 1.3 * share - 1.95 * share**4
    return voltage + np.random.default_rng(seed).normal(0, noise, rows), total * share


def test_a_straight_discharge_stays_straight() -> None:
    voltage = np.linspace(4.8, 1.5, 50)
    capacity = 200 * (4.8 - voltage) / 3.3
    smooth = smooth_discharge(voltage, capacity, WINDOW)
    expected = 200 * (4.8 - smooth.profile.voltage_v) / 3.3
    np.testing.assert_allclose(smooth.profile.capacity_mah_g, expected, atol=1e-3)
    np.testing.assert_allclose(smooth.dqdv_mah_g_v, -200 / 3.3, rtol=1e-4)


def test_the_measured_capacity_is_kept_at_the_cutoff() -> None:
    voltage, capacity = sloped(noise=2e-3)
    smooth = smooth_discharge(voltage, capacity, WINDOW)
    assert smooth.capacity_mah_g == capacity[-1]
    assert smooth.profile.total_capacity_mah_g == capacity[-1]


def test_dqdv_integrates_to_the_capacity() -> None:
    smooth = smooth_discharge(*sloped(noise=1e-3), WINDOW)
    area = np.trapezoid(smooth.dqdv_mah_g_v, smooth.profile.voltage_v)
    assert -area == pytest.approx(smooth.capacity_mah_g, rel=1e-9)


def test_nothing_is_delivered_above_the_first_voltage_nor_added_below_the_last() -> None:
    voltage, capacity = sloped()
    smooth = smooth_discharge(voltage, capacity, (1.0, 5.0))
    grid, q = smooth.profile.voltage_v, smooth.profile.capacity_mah_g
    assert (q[grid > voltage.max()] == 0).all()
    assert (q[grid < voltage.min()] == capacity[-1]).all()


def test_a_discharge_that_goes_deeper_is_cut_at_the_window() -> None:
    voltage, capacity = sloped()
    smooth = smooth_discharge(voltage, capacity, (2.5, 4.8))
    assert smooth.capacity_mah_g == pytest.approx(np.interp(2.5, voltage[::-1], capacity[::-1]), rel=1e-3)


@pytest.mark.parametrize("method", ["isotonic", "drxnet_compat"])
def test_noise_and_repeated_voltages_leave_a_finite_monotone_profile(method: str) -> None:
    voltage, capacity = sloped(rows=3000, noise=2e-3)
    voltage = np.round(voltage, 2)  # hundreds of equal voltages: what drives a plain spline to NaN
    smooth = smooth_discharge(voltage, capacity, WINDOW, method=method)
    assert np.isfinite(smooth.profile.capacity_mah_g).all()
    assert np.isfinite(smooth.dqdv_mah_g_v).all()
    assert (np.diff(smooth.profile.capacity_mah_g) <= 0).all()
    assert (smooth.dqdv_mah_g_v <= 0).all()


def test_both_methods_recover_the_truth_below_a_noise_of_2_mv() -> None:
    truth_v, truth_q = sloped(rows=20_000)
    voltage, capacity = sloped(rows=600, noise=2e-3)
    for method in ("isotonic", "drxnet_compat"):
        profile = smooth_discharge(voltage, capacity, WINDOW, method=method).profile
        inside = (profile.voltage_v > 1.7) & (profile.voltage_v < 4.6)
        truth = np.interp(profile.voltage_v[inside], truth_v[::-1], truth_q[::-1])
        assert np.sqrt(np.mean((profile.capacity_mah_g[inside] - truth) ** 2)) < 1.0


def test_the_order_of_the_rows_does_not_matter() -> None:
    voltage, capacity = sloped(noise=1e-3)
    shuffled = np.random.default_rng(1).permutation(len(voltage))
    one, other = (smooth_discharge(voltage[i], capacity[i], WINDOW) for i in (slice(None), shuffled))
    np.testing.assert_array_equal(one.profile.capacity_mah_g, other.profile.capacity_mah_g)


@given(
    st.lists(st.tuples(st.floats(0.5, 5.5), st.floats(0, 400)), min_size=2, max_size=60),
    st.sampled_from(["isotonic", "drxnet_compat"]),
)
@example([(1.0, 1.0), (2.0, 0.0), (1.5, 5e-324)], "isotonic")  # a difference that has no finite slope
@settings(max_examples=150, deadline=None)
def test_any_finite_rows_give_a_monotone_profile_or_a_sentence(rows: list[tuple[float, float]], method: str) -> None:
    voltage, capacity = np.array(rows).T
    try:
        smooth = smooth_discharge(voltage, capacity, WINDOW, method=method)
    except MeasurementError as error:
        assert str(error)  # noqa: PT017
        return
    q = smooth.profile.capacity_mah_g
    assert np.isfinite(q).all()
    assert (np.diff(q) <= 1e-9).all()
    assert (q <= capacity.max() + 1e-9).all()
    assert (smooth.dqdv_mah_g_v <= 0).all()


@pytest.mark.parametrize(
    ("voltage", "capacity", "message"),
    [
        pytest.param([3.0], [1.0], "at least 2 rows", id="one row"),
        pytest.param([3.0, 3.0, 3.0], [1.0, 2.0, 3.0], "two different voltages", id="constant voltage"),
        pytest.param([3.0, np.nan], [1.0, 2.0], "must be finite", id="nan"),
        pytest.param([3.0, 2.0], [1.0, np.inf], "must be finite", id="infinity"),
        pytest.param([3.0, 2.0], [1.0], "same length", id="ragged"),
    ],
)
def test_what_is_no_discharge_is_refused(voltage: list[float], capacity: list[float], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        smooth_discharge(voltage, capacity, WINDOW)


def test_a_window_upside_down_is_refused() -> None:
    with pytest.raises(MeasurementError, match="must lie below"):
        smooth_discharge(*sloped(), (4.8, 1.5))


def test_the_curve_is_never_extrapolated() -> None:
    curve = isotonic_curve(*sloped())
    np.testing.assert_array_equal(curve([0.0, 6.0]), [curve.total_mah_g, 0.0])
