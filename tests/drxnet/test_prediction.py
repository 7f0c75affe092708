from __future__ import annotations

import numpy as np
import pytest
import torch

from drxnet.checkpoint import ModelCard
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import CompositionError, DRXWarning
from drxnet.network import DRXNet, NetworkShape
from drxnet.prediction import Prediction, predict_cases

LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(DRXNet(NetworkShape(members=2)), ModelCard("random", 2))


def test_averages_are_formed_per_member_then_over_members():
    conditions = CyclingConditions(20, 2.0, 4.0)
    grid = conditions.grid(201)
    members = np.stack([100 * (4 - grid), 50 * (4 - grid)])  # both at 3 V on average; 600 and 300 Wh/kg
    row = Prediction(LMTO, conditions, grid, members).row(profile=True)
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
    prediction = Prediction(LMTO, conditions, grid, np.stack([100 * (4 - grid), np.zeros(100)]))
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
    ],
)
def test_rarely_seen_conditions_are_warned_about(ensemble, conditions, says):
    with pytest.warns(DRXWarning, match=says):
        predict_cases(ensemble, [(LMTO, conditions)])
