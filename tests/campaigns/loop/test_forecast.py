from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEnsemble
from ledgers import FIRST, SECOND, THIRD, record_round

from campaigns.campaign import Campaign
from campaigns.loop.forecast import Forecast, limits_of, measured_of
from drxnet.composition import Composition
from screening.estimates import Estimate, standard_error


def test_measured_values_are_means_over_cells(campaign: Campaign):
    record_round(campaign, FIRST, SECOND, THIRD)
    rows = [(FIRST, 20, 240.0), (FIRST, 20, 250.0), (FIRST, 1000, 150.0), (SECOND, 20, 200.0)]
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": q} for c, i, q in rows], fine_tune=False
    )
    first, second = measured_of(campaign.state(), campaign.spec.goals)
    assert (first.capacity_low_mah_g, first.capacity_high_mah_g) == (245.0, 150.0)
    assert first.low_error_mah_g == pytest.approx(standard_error(Estimate(245.0, float(np.std([240, 250], ddof=1)), 2)))
    assert (second.capacity_low_mah_g, second.capacity_high_mah_g, second.low_error_mah_g) == (200.0, None, None)


def test_limits_of_the_lab_reach_the_choice(campaign: Campaign):
    limits = limits_of(campaign.spec)
    assert limits.min_distance == campaign.spec.lab.min_distance
    assert limits.banned == campaign.spec.lab.banned


def test_forecast_without_data_is_the_mean_of_the_members(campaign: Campaign):
    ensemble, goals = FakeEnsemble(3), campaign.spec.goals
    compositions = [Composition.parse(c) for c in (FIRST, SECOND)]
    forecast = Forecast(ensemble, goals, (), compositions)
    expected = goals.evaluate(ensemble, compositions).mean(0).numpy()
    np.testing.assert_allclose(forecast.mean, expected, rtol=1e-6)
    assert set(forecast.columns["domain"]) <= {"inside", "edge", "outside"}
    for (low, high), row in zip(forecast.profiles(), expected, strict=True):
        assert low.capacity_mah_g_mean[0] == pytest.approx(row[1])
        assert high.capacity_mah_g_mean[0] == pytest.approx(row[2])
