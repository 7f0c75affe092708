from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import FORMULAS, linear_profiles, untrained_ensemble

from drxnet.dataset import ProfileSet
from drxnet.errors import DatasetError, UsageError
from drxnet.evaluation import calibrate, coverage, evaluate, plot_evaluation, split
from drxnet.simulation import simulate


class Exact:
    """Predicts straight discharges: what :func:`linear_profiles` holds, plus a constant per member."""

    members = 2

    def __init__(self, profiles: ProfileSet, excess: tuple[float, float] = (0.0, 0.0)) -> None:
        keys = zip(profiles.compositions, profiles.conditions, strict=True)
        self.total = {key: q[0] for key, q in zip(keys, profiles.capacity_mah_g, strict=True)}
        self.excess = excess

    def predict(self, compositions, conditions, voltages):
        import torch

        total = np.array([self.total[c, u] for c, u in zip(compositions, conditions, strict=True)])
        q = [(total + e)[:, None] * (4.8 - voltages) / 3.3 for e in self.excess]
        return torch.from_numpy(np.stack(q))


def test_a_perfect_model_has_no_error() -> None:
    profiles = linear_profiles(points=34)
    evaluation = evaluate(Exact(profiles), profiles)
    for row in evaluation.rows():
        assert row["capacity_mae_mah_g"] == pytest.approx(0, abs=1e-9)
        assert row["voltage_mae_v"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(evaluation.average_voltage_v, 3.2)  # the middle of 2.0-4.4 V


def test_the_error_of_a_straight_discharge_is_the_share_of_the_window() -> None:
    profiles = linear_profiles(points=34)
    evaluation = evaluate(Exact(profiles, (33.0, 33.0)), profiles)
    np.testing.assert_allclose(evaluation.error_mah_g, 33 * 2.4 / 3.3)
    evaluation = evaluate(Exact(profiles, (0.0, 33.0)), profiles)
    np.testing.assert_allclose(evaluation.error_mah_g, 12)
    np.testing.assert_allclose(evaluation.spread_mah_g, 12)


def test_rows_count_every_family_and_cycle() -> None:
    profiles = linear_profiles(points=34)
    evaluation = evaluate(Exact(profiles, (0.0, 33.0)), profiles)
    rows = {row["family"]: row for row in evaluation.rows()}
    assert {name: row["profiles"] for name, row in rows.items()} == {"2TM": 6, "3TM": 3, "HE": 3}
    truth = evaluation.capacity_mah_g[evaluation.family == "HE"]
    assert rows["HE"]["capacity_mad_mah_g"] == pytest.approx(np.abs(truth - truth.mean()).mean())
    assert sum(row["profiles"] for row in evaluation.per_cycle()) == 12


def test_late_cycles_and_mere_capacities_are_left_out() -> None:
    profiles = linear_profiles(points=34)
    late = replace(profiles, cycle=np.where(np.arange(12) < 5, 51.0, profiles.cycle))
    assert len(evaluate(Exact(late), late).cycle) == 7
    level = np.tile(profiles.window_v[:, :1], (1, 34))
    with pytest.raises(DatasetError, match="No whole profile"):
        evaluate(Exact(profiles), replace(profiles, voltage_v=level))


def test_a_narrower_window_is_compared_where_it_was_measured() -> None:
    profiles = linear_profiles(points=34)
    narrow = replace(profiles, voltage_v=np.tile(np.linspace(2.5, 4.0, 34), (12, 1)))
    narrow = replace(narrow, capacity_mah_g=narrow.capacity_mah_g[:, :1] * (4.8 - narrow.voltage_v) / 3.3)
    evaluation = evaluate(Exact(profiles), narrow)
    np.testing.assert_allclose(evaluation.capacity_mah_g, profiles.capacity_mah_g[:, 0] * 1.5 / 3.3)
    np.testing.assert_allclose(evaluation.error_mah_g, 0, atol=1e-9)


def test_exchangeable_members_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((6, 20_000)) * rng.uniform(1, 30, 20_000) + 200
    calibration = calibrate(drawn[:5], drawn[5])
    for level, share in calibration.coverage.items():
        assert share == pytest.approx(level, abs=0.015)
    assert calibration.factor == pytest.approx(1, abs=0.04)
    np.testing.assert_allclose(calibration.covered, calibration.levels, atol=0.02)


def test_too_small_a_spread_needs_its_factor() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((6, 20_000))
    members = drawn[:5].mean(0) + (drawn[:5] - drawn[:5].mean(0)) / 3
    assert calibrate(members, drawn[5]).factor == pytest.approx(3, abs=0.12)
    assert coverage(members, drawn[5], 0.8) < 0.5


def test_one_member_cannot_be_calibrated() -> None:
    with pytest.raises(UsageError, match="at least two members"):
        calibrate(np.ones((1, 3)), np.ones(3))


def test_first_cycles_may_be_learned_but_not_tested() -> None:
    profiles = linear_profiles(40, formulas=FORMULAS)
    profiles = replace(profiles, cycle=np.where(np.arange(40) % 5 == 0, 1.0, profiles.cycle + 1))
    train, test = split(profiles, ["2TM"], ["3TM", "HE"])
    assert set(train.compositions).isdisjoint(test.compositions)
    more, later = split(profiles, ["2TM"], ["3TM", "HE"], with_first_cycle=True)
    assert len(more) - len(train) == (test.cycle == 1).sum() > 0
    assert (later.cycle > 1).all()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [(["2TM"], ["2TM"], "trained on and tested"), (["4TM"], ["HE"], "Families are 2TM, 3TM, HE")],
    ids=["both sides", "unknown"],
)
def test_wrong_splits_are_refused(train: list[str], test: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split(linear_profiles(), train, test)


def test_an_empty_side_is_said() -> None:
    with pytest.raises(DatasetError, match="No profile to test among HE"):
        split(linear_profiles(formulas=FORMULAS[:3]), ["2TM"], ["HE"])


def test_a_discharge_that_delivers_nothing_has_no_average_voltage() -> None:
    profiles = linear_profiles(points=34)
    evaluation = evaluate(untrained_ensemble(), replace(profiles, capacity_mah_g=0 * profiles.capacity_mah_g))
    assert np.isnan(evaluation.rows()[0]["voltage_mae_v"])
    assert evaluation.rows()[0]["capacity_mad_mah_g"] == 0


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    ensemble = untrained_ensemble()
    profiles = simulate(ensemble, linear_profiles().compositions, linear_profiles().conditions, seed=0, noise=0.1)
    evaluation = evaluate(ensemble, profiles)
    plot_evaluation(evaluation, tmp_path / "figure.svg")
    assert "reliability" in (tmp_path / "figure.svg").read_text()
    assert set(evaluation.facts()) == {"families", "cycles", "calibration"}
