from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from drxnet.checkpoint import ModelCard
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble, mean_and_spread, resolve_device
from drxnet.errors import CompositionError, DRXWarning, UsageError
from drxnet.network import DRXNet, NetworkShape

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
HE2 = "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2"
MIXED = [HE1, "Li1.2Mn0.4Ti0.4O2", HE2, "Li1.25Mn0.75O1.5F0.5", "Li1.3Nb0.3Mn0.4O2"]
AT_20, AT_1000 = CyclingConditions(20), CyclingConditions(1000)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    torch.manual_seed(1)
    return Ensemble(DRXNet(NetworkShape(members=3)), ModelCard("random", 3), dtype=torch.float64)


def test_capacity_is_the_profile_at_the_lower_cutoff(ensemble):
    grid = AT_20.grid(5)
    capacity = ensemble.capacity(MIXED, [AT_20, AT_1000])
    assert capacity.shape == (3, 5, 2)
    assert torch.allclose(capacity[..., 0], ensemble.predict(MIXED, AT_20, grid)[..., 0])
    crossed = ensemble.profiles(MIXED, [AT_20, AT_1000], grid)
    assert crossed.shape == (3, 5, 2, 5)
    assert torch.allclose(crossed[:, :, 1], ensemble.predict(MIXED, AT_1000, grid))


def test_one_composition_or_condition_counts_as_a_list_of_one(ensemble):
    listed = ensemble.capacity([HE1], [AT_20])
    assert listed.shape == (3, 1, 1)
    for composition in (HE1, Composition.parse(HE1), (HE1,)):
        assert torch.equal(ensemble.capacity(composition, AT_20), listed)
    grid = AT_20.grid(5)
    assert torch.equal(ensemble.profiles(HE1, AT_20, grid), ensemble.profiles([HE1], [AT_20], grid))
    assert torch.equal(ensemble.predict_dqdv(HE1, AT_20, grid), ensemble.predict_dqdv([HE1], [AT_20], grid))
    assert torch.equal(ensemble.features(HE1), ensemble.features([HE1]))


def test_a_data_frame_is_taken_by_its_column_of_compositions(ensemble):
    table = pd.DataFrame({"note": ["a", "b"], "composition": MIXED[:2]})
    expected = ensemble.capacity(MIXED[:2], [AT_20])
    assert torch.equal(ensemble.capacity(table, AT_20), expected)
    assert torch.equal(ensemble.capacity(table["composition"], AT_20), expected)
    assert torch.equal(ensemble.capacity(table.rename(columns={"composition": "formula"}), AT_20), expected)
    with pytest.raises(UsageError, match="has a column 'composition'. Got note"):
        ensemble.capacity(table[["note"]], AT_20)


def test_a_batch_gives_what_single_predictions_give(ensemble):
    together = ensemble.predict(MIXED, AT_20, AT_20.grid(7))
    for i, composition in enumerate(MIXED):
        assert torch.allclose(together[:, i], ensemble.predict([composition], AT_20, AT_20.grid(7))[:, 0], atol=1e-9)


def test_each_row_may_have_its_own_conditions_and_voltages(ensemble):
    conditions = [AT_20, CyclingConditions(1000, 2.0, 4.4, 30)]
    grids = np.stack([c.grid(4) for c in conditions])
    rows = ensemble.predict([HE1, HE1], conditions, grids)
    assert torch.allclose(rows[:, 1], ensemble.predict([HE1], conditions[1], grids[1])[:, 0])


def test_chunks_do_not_change_results(ensemble, monkeypatch):
    expected = ensemble.profiles(MIXED * 4, [AT_20, AT_1000], AT_20.grid(6))
    monkeypatch.setattr("drxnet.ensemble._PAIR_FLOATS", 1)
    monkeypatch.setattr("drxnet.ensemble._STATE_FLOATS", 1)
    assert torch.allclose(ensemble.profiles(MIXED * 4, [AT_20, AT_1000], AT_20.grid(6)), expected, atol=1e-9)


@pytest.mark.slow
def test_a_compiled_ensemble_gives_the_same_numbers(ensemble):
    expected = ensemble.capacity(MIXED * 3, [AT_20, AT_1000])
    assert torch.allclose(ensemble.compiled().capacity(MIXED * 3, [AT_20, AT_1000]), expected, atol=1e-6)


def test_without_a_compiler_an_ensemble_goes_on_uncompiled(ensemble, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    with pytest.warns(DRXWarning, match="going on without it: no C"):
        capacity = ensemble.compiled().capacity(MIXED, [AT_20])
    assert torch.equal(capacity, ensemble.capacity(MIXED, [AT_20]))


def test_equal_members_give_their_own_value_and_no_spread(ensemble):
    twins = ensemble.subset([1, 1, 1])
    mean, spread = mean_and_spread(twins.capacity(MIXED, [AT_20]))
    assert mean == pytest.approx(ensemble.capacity(MIXED, [AT_20])[1].numpy())
    assert spread.max() < 1e-9


def test_a_subset_holds_its_members_in_order(ensemble):
    expected = ensemble.capacity(MIXED, [AT_20])[[2, 0]]
    assert torch.allclose(ensemble.subset([2, 0]).capacity(MIXED, [AT_20]), expected, atol=1e-9)


def test_the_spread_is_the_population_standard_deviation():
    mean, spread = mean_and_spread(torch.tensor([[1.0], [3.0]]))
    assert (mean.item(), spread.item()) == (2.0, 1.0)


def test_gradients_with_respect_to_amounts_are_right_even_for_absent_elements(ensemble):
    amounts = Amounts.of(MIXED[:2])
    cations = amounts.cations.clone().requires_grad_()
    fluorine = amounts.fluorine.clone().requires_grad_()

    def total(c: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return ensemble.capacity(Amounts(amounts.symbols, c, f), [AT_20, AT_1000]).sum()

    tracked = total(cations, fluorine)
    assert tracked.item() == pytest.approx(ensemble.capacity(amounts, [AT_20, AT_1000]).sum().item())
    by_cation, by_fluorine = torch.autograd.grad(tracked, (cations, fluorine))
    for row in range(2):
        for column in range(len(amounts.symbols)):
            step = torch.zeros_like(cations)
            step[row, column] = 1e-6
            rise = total(amounts.cations + step, amounts.fluorine) - total(amounts.cations, amounts.fluorine)
            assert by_cation[row, column].item() == pytest.approx(rise.item() / 1e-6, rel=1e-3, abs=1e-4)
    rise = total(amounts.cations, amounts.fluorine + 1e-6) - total(amounts.cations, amounts.fluorine)
    assert by_fluorine.sum().item() == pytest.approx(rise.item() / 1e-6, rel=1e-3, abs=1e-4)


def test_predictions_change_no_input(ensemble):
    amounts = Amounts.of(MIXED)
    before = amounts.cations.clone(), amounts.fluorine.clone()
    ensemble.capacity(amounts, [AT_20])
    assert torch.equal(amounts.cations, before[0])
    assert torch.equal(amounts.fluorine, before[1])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        pytest.param(lambda e: e.capacity([], [AT_20]), UsageError, "No composition", id="nothing"),
        pytest.param(lambda e: e.capacity([HE1], []), UsageError, "No cycling conditions", id="no-conditions"),
        pytest.param(
            lambda e: e.predict([HE1] * 3, [AT_20, AT_20], [1.5]), UsageError, "as many as compositions", id="lengths"
        ),
        pytest.param(
            lambda e: e.capacity(Amounts(("Li", "Xx"), torch.ones(1, 2), torch.zeros(1)), [AT_20]),
            CompositionError,
            "No element vector for Xx",
            id="element",
        ),
    ],
)
def test_impossible_requests_say_why(ensemble, call, error, says):
    with pytest.raises(error, match=says):
        call(ensemble)


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="No CUDA device here"):
        resolve_device("cuda")
    with pytest.raises(UsageError, match="not a device"):
        resolve_device("abacus")
    assert resolve_device("auto") == torch.device("cpu")


# -- the published ensemble ----------------------------------------------------------------------------------


def test_what_was_encoded_once_answers_as_before(any_ensemble) -> None:
    compositions = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"]
    rates = [CyclingConditions(20), CyclingConditions(1000)]
    encoded = any_ensemble.encode(compositions)
    torch.testing.assert_close(any_ensemble.capacity(encoded, rates), any_ensemble.capacity(compositions, rates))
    torch.testing.assert_close(encoded.features, any_ensemble.features(compositions))


def test_a_table_of_amounts_has_a_column_for_every_element_asked_for_and_f_last():
    table = Amounts.of(["Li1.2Mn0.8O2", "Li1.1Ti0.9O1.8F0.2"]).table(("Li", "Ti", "V", "Mn"))
    assert table.tolist() == [[1.2, 0, 0, 0.8, 0], [1.1, 0.9, 0, 0, 0.2]]
