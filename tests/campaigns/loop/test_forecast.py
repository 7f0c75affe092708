from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEnsemble
from ledgers import FIRST, SECOND, THIRD, record_round

from campaigns.campaign import Campaign
from campaigns.loop.forecast import Forecast, limits_of, measured_of
from drxnet.composition import Composition
from screening.estimates import Estimate, standard_error
from screening.outlook import Outlook
from screening.quantities import Capacity, RateRetention


def test_measured_values_are_means_over_cells(campaign: Campaign):
    record_round(campaign, FIRST, SECOND, THIRD)
    rows = [(FIRST, 20, 240.0), (FIRST, 20, 250.0), (FIRST, 1000, 150.0), (SECOND, 20, 200.0)]
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": q} for c, i, q in rows], fine_tune=False
    )
    first, second = measured_of(campaign.state(), campaign.spec.goals)
    goals = campaign.spec.goals
    low, high, retention = Capacity(goals.rates.low), Capacity(goals.rates.high), RateRetention.of(goals.rates)
    assert (first.estimates[low].mean, first.estimates[high].mean) == (245.0, 150.0)
    assert first.estimates[retention].mean == pytest.approx(150 / 245)
    wanted = standard_error(Estimate(245.0, float(np.std([240, 250], ddof=1)), 2))
    assert first.estimates[low].error == pytest.approx(wanted)
    assert second.estimates[low].mean == 200.0
    assert set(second.estimates) == {low}
    assert np.isnan(second.variances(goals)).all(), "one cell without an uncertainty: the model's own noise"


def test_limits_of_the_lab_reach_the_choice(campaign: Campaign):
    limits = limits_of(campaign.spec)
    assert limits.min_distance == campaign.spec.lab.min_distance
    assert limits.banned == campaign.spec.lab.banned


def test_forecast_without_data_is_the_mean_of_the_members(campaign: Campaign):
    ensemble, goals = FakeEnsemble(3), campaign.spec.goals
    compositions = [Composition.parse(c) for c in (FIRST, SECOND)]
    forecast = Forecast(Outlook.of(ensemble, goals), compositions)
    expected = goals.evaluate(ensemble, compositions).mean(0).numpy()
    np.testing.assert_allclose(forecast.mean, expected, rtol=1e-6)
    assert set(forecast.columns["domain"]) <= {"inside", "edge", "outside"}
    for (low, high), row in zip(forecast.profiles(), expected, strict=True):
        assert low.capacity_mah_g_mean[0] == pytest.approx(row[1])
        assert high.capacity_mah_g_mean[0] == pytest.approx(row[2])


def test_a_mean_beyond_all_lithium_keeps_its_value_and_the_interval_ends_there(campaign: Campaign):
    goals = campaign.spec.goals
    (most,) = {c.theoretical_capacity_mah_g for c in [Composition.parse(FIRST)]}
    forecast = Forecast(Outlook.of(FakeEnsemble(3), goals), [Composition.parse(FIRST)])
    assert forecast.cautions(0) == ()
    column = goals.column(Capacity(goals.rates.low))
    forecast.mean[0, column] = most + 40
    row = forecast.row(0)
    assert row["capacity_low_mah_g_mean"] == pytest.approx(most + 40)
    assert row["capacity_low_mah_g_lower"] < row["capacity_low_mah_g_upper"] == pytest.approx(most)
    (said,) = forecast.cautions(0)
    assert "is more than all lithium gives" in said
    assert f"{most:.0f} mAh/g" in said


def test_the_members_own_spread_stands_beside_the_calibrated_one(campaign: Campaign):
    ensemble, goals = FakeEnsemble(3), campaign.spec.goals
    compositions = [Composition.parse(c) for c in (FIRST, SECOND)]
    forecast = Forecast(Outlook.of(ensemble, goals), compositions)
    alone = goals.evaluate(ensemble, compositions).std(0, correction=0).numpy()
    np.testing.assert_allclose(forecast.members_std, alone, rtol=1e-6)
    assert forecast.row(1)["capacity_low_mah_g_std_members"] == pytest.approx(alone[1, 1])
    assert (forecast.std > forecast.members_std).all()
