from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from drxnet.checkpoint import ModelCard
from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import CompositionError, DRXWarning
from drxnet.literature import published_capacities
from drxnet.network import DRXNet, NetworkShape
from drxnet.prediction import PredictedDischarge, beyond_physics, predict_cases

LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(DRXNet(NetworkShape(members=2)), ModelCard("random", 2))


def test_averages_are_formed_per_member_then_over_members():
    conditions = CyclingConditions(20, 2.0, 4.0)
    grid = conditions.grid(201)
    members = np.stack([100 * (4 - grid), 50 * (4 - grid)])  # both at 3 V on average; 600 and 300 Wh/kg
    row = PredictedDischarge(LMTO, conditions, grid, members).row(profile=True)
    assert row["capacity_mah_g_mean"] == pytest.approx(150)
    assert row["capacity_mah_g_std"] == pytest.approx(50)
    assert row["capacity_mah_g_members"] == pytest.approx([200, 100])
    assert row["average_voltage_v_mean"] == pytest.approx(3.0)
    assert row["specific_energy_wh_kg_mean"] == pytest.approx(450)
    assert row["profile"]["voltage_v"][0] == 2.0
    assert row["profile"]["capacity_mah_g_std"][0] == pytest.approx(50)


def test_a_member_that_delivers_nothing_does_not_spoil_the_average_voltage():
    conditions = CyclingConditions(20, 2.0, 4.0)
    grid = conditions.grid()
    prediction = PredictedDischarge(LMTO, conditions, grid, np.stack([100 * (4 - grid), np.zeros(100)]))
    assert prediction.row()["average_voltage_v_mean"] == pytest.approx(3.0)


def test_cases_come_back_in_order(ensemble):
    cases = [(Composition.parse(f), CyclingConditions(i)) for i in (20, 1000) for f in (LMTO, "Li1.3Nb0.3Mn0.4O2")]
    predictions = predict_cases(ensemble, cases)
    assert [(p.composition, p.conditions) for p in predictions] == cases


def test_progress_reaches_the_number_of_cases(ensemble):
    seen = []
    predict_cases(
        ensemble, [(LMTO, CyclingConditions(20))] * 3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (3, 3)


def test_unseen_elements_are_refused_unless_asked_for(ensemble):
    cases = [(Composition.parse("Li1.2Sn0.4Mn0.4O2"), CyclingConditions(20))]
    with pytest.raises(CompositionError, match="has never seen Sn.*--allow-unseen"):
        predict_cases(ensemble, cases)
    with pytest.warns(DRXWarning, match="Sn unseen in training"):
        predict_cases(ensemble, cases, allow_unseen=True)


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        pytest.param(CyclingConditions(20, 2.0, 3.9), "hardly any data", id="low-cutoff"),
        pytest.param(CyclingConditions(1), "outside the 5-20000", id="slow"),
        pytest.param(CyclingConditions(20, 1.5, 5.2), "the training data end at 5 V", id="high-cutoff"),
        pytest.param(CyclingConditions(20, 3.0, 4.8), "Lower cut-off 3 V lies outside the 1-2.5 V", id="low-window"),
        pytest.param(CyclingConditions(20, 1.5, 4.8, 500), "Cycle 500: few cells", id="late-cycle"),
    ],
)
def test_rarely_seen_conditions_are_warned_about(ensemble, conditions, says):
    with pytest.warns(DRXWarning, match=says):
        predict_cases(ensemble, [(LMTO, conditions)])


@pytest.mark.parametrize(
    ("formula", "target"),
    [
        ("Li1.25Mn0.75Zr0.0001O2", "Li1.25Mn0.75O2"),
        ("Li1.25Mn0.7499Zr0.0001O2", "Li1.25Mn0.75O2"),
        ("Li1.187Mn0.404Ti0.403Zr0.006O2", "Li1.187Ti0.406Mn0.407O2"),
        ("Li1.2Mn0.4Ti0.38Mg0.02O2", "Li1.2Mg0.02Ti0.38Mn0.4O2"),
        ("Li1.98Mn0.01Ti0.01O2", "Li1.98Ti0.01Mn0.01O2"),
    ],
    ids=["on top", "in place", "elemental analysis", "not a trace", "nothing else"],
)
def test_traces_are_left_out_and_made_up_for(formula, target):
    assert Composition.parse(formula, nonstoichiometric=True).without_traces().formula == target


def test_a_trace_is_told_and_the_row_keeps_what_was_asked(ensemble):
    with pytest.warns(DRXWarning, match=r"0.0001 Zr is a trace .* predicted as Li1.25Mn0.75O2"):
        (traced,) = predict_cases(ensemble, [(Composition.parse("Li1.25Mn0.75Zr0.0001O2"), CyclingConditions(20))])
    (plain,) = predict_cases(ensemble, [(Composition.parse("Li1.25Mn0.75O2"), CyclingConditions(20))])
    np.testing.assert_array_equal(traced.capacity_mah_g_members, plain.capacity_mah_g_members)
    assert traced.row()["composition"] == "Li1.25Mn0.75O2"
    assert traced.row()["composition_asked"] == "Li1.25Mn0.75Zr0.0001O2"
    assert "composition_asked" not in plain.row()


def test_no_trace_of_any_metal_moves_what_is_said_of_a_known_rocksalt_by_two_mah_g():
    known = list(dict.fromkeys(p.composition for p in published_capacities()))
    known += [c for c in known_rocksalts() if c not in known]
    assert len(known) >= 50
    shipped = Ensemble.load("default")
    conditions = [CyclingConditions(20), CyclingConditions(1000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRXWarning)
        plain = {
            (p.composition, p.conditions): p.total_members.mean()
            for p in predict_cases(shipped, [(c, k) for c in known for k in conditions], points=2)
        }
        for amount in (0.0001, 0.0005, 0.002):
            cases = [(c, with_trace(c, metal, amount), k) for c in known for metal in MODEL_METALS for k in conditions]
            said = predict_cases(shipped, [(traced, k) for _, traced, k in cases], points=2)
            moved = [abs(p.total_members.mean() - plain[c, k]) for (c, _, k), p in zip(cases, said, strict=True)]
            assert max(moved) < 2, cases[int(np.argmax(moved))]


def known_rocksalts() -> list[Composition]:
    import csv
    from importlib.resources import files

    with (files("screening") / "data" / "known_drx.csv").open(encoding="utf-8") as file:
        return [Composition.parse(row["formula"]) for row in csv.DictReader(file)]


def with_trace(composition: Composition, metal: str, amount: float) -> Composition:
    amounts = composition.amounts()
    return Composition.from_amounts({**amounts, metal: amounts.get(metal, 0.0) + amount}, nonstoichiometric=True)


def test_a_profile_that_does_not_start_at_zero_is_told():
    conditions = CyclingConditions(20, 2.0, 4.4)
    grid = conditions.grid(25)
    started = PredictedDischarge(LMTO, conditions, grid, np.stack([50 * (4.4 - grid) + 7, 50 * (4.4 - grid) + 9]))
    assert started.row()["offset_mah_g_mean"] == pytest.approx(8)
    assert started.row()["capacity_mah_g_mean"] == pytest.approx(128)  # the network's own
    (text,) = beyond_physics(started)
    assert "starts at 8 mAh/g instead of 0 at 4.4 V" in text
    assert beyond_physics(PredictedDischarge(LMTO, conditions, grid, np.stack([50 * (4.4 - grid) + 2] * 2))) == []


def test_more_than_all_lithium_is_told():
    conditions = CyclingConditions(20)
    grid = conditions.grid(25)
    much = PredictedDischarge(LMTO, conditions, grid, np.stack([130 * (4.8 - grid)] * 2))
    (text,) = beyond_physics(much)
    assert "the mean of 429 mAh/g exceeds the 395 mAh/g of all lithium" in text
    assert much.row()["capacity_mah_g_mean"] == pytest.approx(429)


def test_many_warnings_are_counted_rather_than_listed(ensemble):
    cases = [(Composition.parse(f"Li1.2Mn0.{40 - i}Ti0.{39 + i}Zr0.01O2"), CyclingConditions(20)) for i in range(10)]
    with pytest.warns(DRXWarning) as caught:
        predict_cases(ensemble, cases)
    traces = [str(w.message) for w in caught if "trace" in str(w.message)]
    assert len(traces) == 4
    assert any(str(w.message) == "6 more predictions like these." for w in caught)
