from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.uncertainty import CELL_TO_CELL
from screening.goals import ConstraintSpec, Goals, ObjectiveSpec
from screening.measured import Measured
from screening.outlook import Outlook
from screening.prospect import WORTHWHILE, Prospect, prospect_of
from screening.quantities import Capacity

GOALS = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=240),))
ENSEMBLE, LABORATORY = FakeEnsemble(5), FakeEnsemble(9).subset([7])


def draw(count: int) -> list[Composition]:
    rng = np.random.default_rng(3)
    shares = rng.multinomial(16, rng.dirichlet(np.ones(4), size=4 * count)) / 20
    found = [Composition.from_amounts({"Li": 1.2, "Mg": a, "V": b, "Mn": c, "Nb": d, "O": 2}) for a, b, c, d in shares]
    return list(dict.fromkeys(found))[:count]


def measure(compositions: list[Composition]) -> list[Measured]:
    q = LABORATORY.capacity(compositions, [GOALS.rates.low, GOALS.rates.high])[0].tolist()
    return [Measured.at_two_rates(c, GOALS.rates, low, high) for c, (low, high) in zip(compositions, q, strict=True)]


POOL = draw(60)
KNOWN = measure(POOL[:10])
OUTLOOK = Outlook.of(ENSEMBLE, GOALS, measured=KNOWN)


def test_nothing_is_said_before_anything_feasible_is_known() -> None:
    assert prospect_of(Outlook.of(ENSEMBLE, GOALS), POOL[:4]) is None
    assert prospect_of(OUTLOOK, []) is None


def test_a_larger_batch_is_expected_to_gain_at_least_as_much() -> None:
    few, many = (prospect_of(OUTLOOK, POOL[10 : 10 + n], seed=1) for n in (2, 40))
    assert few is not None
    assert many is not None
    assert 0 <= few.gain <= many.gain
    assert 0 <= few.lower <= few.upper
    assert many.compositions == 40
    assert many.chance >= few.chance


def test_what_is_made_again_gains_nothing() -> None:
    best = max(KNOWN, key=lambda m: float(m.values(GOALS)[0])).composition
    again = prospect_of(OUTLOOK, [best], seed=0)
    fresh = prospect_of(OUTLOOK, POOL[10:50], seed=0)
    assert again is not None
    assert fresh is not None
    assert again.gain < fresh.gain


def test_a_pending_composition_is_counted_on() -> None:
    batch = POOL[10:20]
    alone = prospect_of(OUTLOOK, batch, seed=2)
    beside = prospect_of(OUTLOOK.awaiting(POOL[20:60]), batch, seed=2)
    assert alone is not None
    assert beside is not None
    assert beside.gain <= alone.gain


def test_it_says_stop_where_too_little_is_to_be_gained() -> None:
    little = Prospect("rate retention", "", 3, 8, 0.004, 0.0, 0.01, 0.034, WORTHWHILE / 2)
    assert little.stop
    assert str(little) == (
        "Stop: another round of 8 is expected to better the rate retention by 0.004 (80 %: 0.000-0.010); "
        f"that it gains more than two cells differ (0.034) has {WORTHWHILE / 2:.0%}."
    )
    much = replace(little, gain=0.05, upper=0.1, chance=0.6)
    assert not much.stop
    assert str(much).startswith("Go on: ")
    assert "with 60%" in str(much)


def test_it_is_recorded_as_plain_values() -> None:
    found = prospect_of(OUTLOOK, POOL[10:18])
    assert found is not None
    stored = json.loads(json.dumps(found.as_dict()))
    assert Prospect.recorded(stored) == found
    assert stored["sentence"] == str(found)
    assert stored["stop"] is found.stop


def test_of_two_compositions_the_gain_is_the_expected_positive_part_of_a_normal_difference() -> None:
    goals = Goals(constraints=(), objectives=(ObjectiveSpec(quantity="capacity"),))
    q = LABORATORY.capacity(POOL[:1], [goals.rates.low, goals.rates.high])[0].tolist()
    known = [Measured.at_two_rates(POOL[0], goals.rates, *q[0])]
    outlook = Outlook.of(ENSEMBLE, goals, measured=known)
    column = goals.objective_columns[0]
    for other in POOL[1:6]:
        belief = outlook.surrogate.at(outlook.read([other, POOL[0]]))[column]
        mean, covariance = belief.mean.numpy(), belief.covariance.numpy()
        spread = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        difference = NormalDist(mean[0] - mean[1], spread)
        u = difference.mean / spread
        found = prospect_of(outlook, [other])
        assert found is not None
        gain = spread * NormalDist().pdf(u) + difference.mean * NormalDist().cdf(u)
        assert found.gain == pytest.approx(gain, rel=0.1, abs=0.02 * spread)
        ends = [max(0.0, difference.inv_cdf(share)) for share in (0.1, 0.9)]
        assert [found.lower, found.upper] == pytest.approx(ends, abs=0.15 * spread)
        assert found.difference == pytest.approx(math.sqrt(2) * CELL_TO_CELL * mean[1], rel=0.02)
        assert found.chance == pytest.approx(1 - difference.cdf(found.difference), abs=0.06)
        assert (found.unit, found.decimals) == ("mAh/g", Capacity(goals.rates.low).digits + 1)


@pytest.mark.parametrize(("chance", "stop"), [(0.0, True), (0.0299, True), (0.03, False), (0.9, False)])
def test_a_round_is_worth_its_cells_from_a_chance_of_three_per_cent(chance: float, stop: bool) -> None:
    found = Prospect("capacity at 20 mA/g", "mAh/g", 1, 8, 4.0, 0.0, 12.0, 8.0, chance)
    assert found.stop is stop
    assert str(found).startswith("Stop: " if stop else "Go on: ")
    assert "better the capacity at 20 mA/g by 4.0 mAh/g (80 %: 0.0-12.0)" in str(found)
    assert found.as_dict()["stop"] is stop
