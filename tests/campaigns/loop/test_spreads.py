"""The spreads that campaigns show, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEnsemble
from ledgers import FIRST, SECOND, THIRD

from campaigns.loop.forecast import Forecast
from campaigns.loop.spreads import BEFORE, DOUBT, ELSEWHERE, RATES_ALIKE, WEIGHT, offsets_left, scales, spreads
from drxnet.composition import Composition
from drxnet.uncertainty import RATE_CORRELATION, shipped_levels
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity, SpecificEnergy

GOALS, MADE = Goals(), [Composition.parse(c) for c in (FIRST, SECOND, THIRD)]
LAB = shipped_levels().laboratory
RETENTION, LOW, HIGH = 0, GOALS.column(Capacity(GOALS.rates.low)), GOALS.column(Capacity(GOALS.rates.high))


def outlook(*measured: Measured, goals: Goals = GOALS) -> Outlook:
    return Outlook.of(FakeEnsemble(3), goals, measured=measured)  # type: ignore[arg-type]  # the same interface


def both(*off: float) -> list[Measured]:
    """Cells at both rates of the first compositions, so far from what is expected."""
    said = GOALS.evaluate(FakeEnsemble(3), MADE).mean(0)
    rows = zip(MADE, said.tolist(), off, strict=False)
    return [Measured.at_two_rates(c, GOALS.rates, q[LOW] + x, q[HIGH] + x) for c, q, x in rows]


def test_a_laboratory_that_has_measured_nothing_is_a_new_one():
    left = offsets_left(outlook())
    assert [left[20, 20], left[1000, 1000]] == pytest.approx([LAB.laboratory_mah_g**2] * 2)
    assert left[20, 1000] == pytest.approx(RATE_CORRELATION * LAB.laboratory_mah_g**2)


def test_cells_tell_of_the_offset_at_their_rate_and_some_of_that_at_the_other():
    one_rate = [Measured.at_two_rates(c, GOALS.rates, 240.0) for c in MADE[:2]]
    left = offsets_left(outlook(*one_rate))
    at_low = 1 / (1 / LAB.laboratory_mah_g**2 + 2 / LAB.sample_mah_g**2)
    assert left[20, 20] == pytest.approx(at_low)
    known = 1 - at_low / LAB.laboratory_mah_g**2
    assert left[1000, 1000] == pytest.approx(LAB.laboratory_mah_g**2 * (1 - RATE_CORRELATION**2 * known))
    two_rates = offsets_left(outlook(*both(0.0, 0.0)))
    assert two_rates[1000, 1000] == pytest.approx(at_low), "a sample differs at both rates alike"


def test_before_the_first_cell_the_models_error_is_half_the_spread_of_the_surrogate():
    forecast = Forecast(outlook(), MADE)
    expected = np.sqrt(BEFORE * forecast.std[:, LOW] ** 2 + LAB.laboratory_mah_g**2)
    np.testing.assert_allclose(forecast.shown_std[:, LOW], expected)
    row = forecast.row(0)
    assert row["capacity_low_mah_g_std"] == pytest.approx(expected[0])
    assert row["rate_retention_std"] == pytest.approx(forecast.shown_std[0, RETENTION])


def test_cells_that_come_as_left_out_draw_the_spread_in_and_others_widen_it():
    near, far = outlook(*both(1.0, -1.0, 1.0)), outlook(*both(150.0, -150.0, 150.0))
    for found in (near, far):
        sums = np.array([e.sum() for e in found.left_out])
        np.testing.assert_allclose(scales(found), (WEIGHT * BEFORE + ELSEWHERE * sums) / (WEIGHT + 3))
    assert (scales(near)[1:] < scales(far)[1:]).all()
    assert (Forecast(near, MADE).shown_std < Forecast(outlook(), MADE).shown_std).all()


def test_a_retention_is_never_more_certain_than_its_capacities_allow():
    known = outlook(*both(5.0, -5.0))
    forecast = Forecast(known, MADE)
    own, left = forecast.std**2 * scales(known), offsets_left(known)
    draw, n = np.random.default_rng(0), 200_000
    for i in range(len(MADE)):
        low, high = forecast.mean[i, [LOW, HIGH]]
        shared = RATES_ALIKE * np.sqrt(own[i, LOW] * own[i, HIGH]) + left[20, 1000]
        joint = np.array([[own[i, LOW] + left[20, 20], shared], [shared, own[i, HIGH] + left[1000, 1000]]])
        drawn = draw.multivariate_normal([low, high], joint * 1e-4, n)  # small, where a ratio is linear
        by_capacities = 100 * (drawn[:, 1] / drawn[:, 0]).std()
        apart = np.clip(forecast.mean[i, RETENTION], *GOALS.limits[:, RETENTION]) - high / low
        assert forecast.shown_std[i, RETENTION] == pytest.approx(np.hypot(by_capacities, DOUBT**0.5 * apart), rel=0.02)


def test_what_a_child_has_learned_is_no_proof_that_it_is_right():
    plain = both(40.0, -40.0, 40.0)
    learned = [
        Measured(m.composition, m.estimates, m.process, {q: e.mean + 40 for q, e in m.estimates.items()}) for m in plain
    ]
    found = outlook(*learned)
    values = [e for e in found.left_out if len(e)]
    assert all(e.sum() > 0.1 for e in values), "what it said before its cells were known counts"


def test_energy_goes_with_the_offset_of_its_capacity():
    goals = Goals(objectives=(ObjectiveSpec(quantity="specific-energy"),))
    known = outlook(goals=goals)
    forecast = Forecast(known, MADE)
    energy, low = goals.column(SpecificEnergy(goals.rates.low)), goals.column(Capacity(goals.rates.low))
    voltage = forecast.mean[:, energy] / forecast.mean[:, low]
    expected = np.hypot(BEFORE**0.5 * forecast.std[:, energy], voltage * LAB.laboratory_mah_g)
    np.testing.assert_allclose(spreads(known, forecast.mean, forecast.std)[:, energy], expected)


def test_one_cell_alone_is_left_out_of_itself():
    (errors, *_) = outlook(*both(30.0)).left_out
    assert errors.shape == (1,)
    assert np.isfinite(errors).all()
