from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import FORMULAS, SMALL, linear_profiles

from drxnet.composition import Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError, DatasetError
from drxnet.finetuning import FineTuningOptions, choose_folds, fine_tune, replay_profiles, varied_conditions
from drxnet.process import Process
from drxnet.training import _squared, pretrain

QUICK = FineTuningOptions(
    steps=40,
    evaluate_every=10,
    folds=2,
    learning_rate=5e-3,
    replay_profiles=16,
    replay_per_step=8,
    most_drift_mah_g=1e3,
)


@pytest.fixture(scope="module")
def parent() -> Ensemble:
    options = replace(
        SMALL,
        smoothness_weight=0,
        learning_rate=2e-2,
        decay=0.98,
        epochs=80,
        profiles_per_batch=16,
        points_per_profile=10,
    )
    return pretrain(linear_profiles(32, formulas=FORMULAS), options, seed=0)


def measured(factor: float = 0.7, *, seed: int = 1) -> ProfileSet:
    """First cycles of a laboratory that gets `factor` of what the parent was taught."""
    profiles = linear_profiles(24, formulas=FORMULAS, seed=seed)
    scaled = {n: factor * getattr(profiles, n) for n in ("capacity_mah_g", "dqdv_mah_g_v", "first_capacity_mah_g")}
    return replace(profiles, **scaled)


def shuffled(profiles: ProfileSet) -> ProfileSet:
    """Every profile with the label of another, whatever it was measured under."""
    other = profiles.select(np.random.default_rng(0).permutation(len(profiles)))
    names = ("voltage_v", "capacity_mah_g", "dqdv_mah_g_v", "first_capacity_mah_g")
    return replace(profiles, **{name: getattr(other, name) for name in names})


def test_good_data_are_learned_and_accepted(parent: Ensemble) -> None:
    data = measured()
    before = {k: v.clone() for k, v in parent.network.state_dict().items()}
    tuned = fine_tune(parent, data, seed=0, options=QUICK, name="mine")
    assert tuned.accepted, tuned.report["reason"]
    assert tuned.report["error_after_mah_g"] < 0.7 * tuned.report["error_before_mah_g"]
    errors = [
        np.abs(
            e.predict(data.compositions, data.conditions, data.voltage_v).numpy().mean(0) - data.capacity_mah_g
        ).mean()
        for e in (parent, tuned.ensemble)
    ]
    assert errors[1] < errors[0] / 2
    assert tuned.ensemble.card.parent == parent.model_id
    assert tuned.ensemble.card.data_fingerprint == data.fingerprint
    assert tuned.ensemble.card.name == "mine"
    assert json.loads(json.dumps(tuned.report))["held_out"] == "compositions"
    for name, value in parent.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_running_statistics_stay_the_parents(parent: Ensemble) -> None:
    child = fine_tune(parent, measured(), seed=0, options=QUICK).ensemble
    assert child is not parent
    for name, value in parent.network.state_dict().items():
        if name.endswith((".mean", ".var")):
            assert torch.equal(child.network.state_dict()[name], value), name


def test_shuffled_labels_are_refused_and_the_parent_stays(parent: Ensemble) -> None:
    tuned = fine_tune(parent, shuffled(measured()), seed=0, options=QUICK)
    assert not tuned.accepted
    assert tuned.ensemble is parent
    assert "The parent stays" in tuned.report["reason"]


def test_a_child_that_forgets_is_not_kept(parent: Ensemble) -> None:
    tuned = fine_tune(parent, measured(), seed=0, options=replace(QUICK, most_drift_mah_g=0.0, drift_for_gain=0.0))
    assert not tuned.accepted
    assert tuned.report["steps"] == 0
    assert "drift of at most 0 mAh/g" in tuned.report["reason"]


def test_drift_is_weighed_against_gain(parent: Ensemble) -> None:
    tuned = fine_tune(parent, measured(), seed=0, options=replace(QUICK, most_drift_mah_g=0.0, drift_for_gain=1e3))
    assert tuned.accepted, tuned.report["reason"]
    assert tuned.report["drift_mah_g"] > 0


def test_what_was_said_of_held_out_profiles_comes_back(parent: Ensemble) -> None:
    data = measured()
    tuned = fine_tune(parent, data, seed=0, options=QUICK)
    assert tuned.held_out is not None
    assert set(tuned.held_out.fold.tolist()) == set(range(QUICK.folds))
    said = tuned.ensemble.predict(data.compositions, data.conditions, data.voltage_v).numpy().mean(0)[:, 0]
    truth = data.capacity_mah_g.mean(0)[:, 0] if data.capacity_mah_g.ndim == 3 else data.capacity_mah_g[:, 0]
    seen, unseen = np.abs(said - truth).mean(), np.abs(tuned.held_out.capacity_mah_g - truth).mean()
    assert seen < unseen


def test_what_all_cells_have_in_common_is_told_from_what_compositions_do(parent: Ensemble) -> None:
    data = measured()
    own = parent.predict(data.compositions, data.conditions, data.voltage_v).numpy().mean(0)
    nothing = np.full_like(own, np.nan)
    wrong_mass = replace(data, capacity_mah_g=1.25 * own, dqdv_mah_g_v=nothing, first_capacity_mah_g=nothing)
    tuned = fine_tune(parent, wrong_mass, seed=0, options=QUICK)
    assert tuned.report["common_factor"] == pytest.approx(1.25, rel=1e-3)
    assert tuned.report["error_of_the_scaled_mah_g"] < 0.1
    assert tuned.accepted
    assert "The parent times 1.25 errs by 0.0 mAh/g: most is common to all cells" in tuned.report["reason"]


def test_a_dead_cell_pulls_no_harder_than_in_proportion() -> None:
    errors = torch.tensor([10.0, -10.0, 300.0, -300.0], requires_grad=True)
    _squared(errors, 30.0).sum().backward()
    assert errors.grad is not None
    assert errors.grad.tolist() == [20.0, -20.0, 60.0, -60.0]
    assert torch.equal(_squared(errors, 0.0), errors.square())


def test_the_seed_decides(parent: Ensemble) -> None:
    quick = replace(QUICK, steps=20)
    a, b = (fine_tune(parent, measured(), seed=7, options=quick).ensemble.network.state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_members_stay_apart(parent: Ensemble) -> None:
    child = fine_tune(parent, measured(), seed=0, options=QUICK).ensemble
    totals = child.capacity(FORMULAS, [CyclingConditions(20)]).numpy()[..., 0]
    assert totals.std(0).min() > 0


def test_capacities_alone_teach_the_capacity(parent: Ensemble) -> None:
    data = measured()
    alone = replace(
        data,
        voltage_v=np.full_like(data.voltage_v, 1.5),
        capacity_mah_g=np.repeat(data.capacity_mah_g[:, :1], data.points, 1),
        dqdv_mah_g_v=np.full_like(data.dqdv_mah_g_v, np.nan),
        first_capacity_mah_g=np.full_like(data.first_capacity_mah_g, np.nan),
    )
    tuned = fine_tune(parent, alone, seed=0, options=QUICK)
    assert tuned.accepted, tuned.report["reason"]


def test_a_training_set_can_be_replayed(parent: Ensemble) -> None:
    tuned = fine_tune(parent, measured(), seed=0, options=QUICK, replay=linear_profiles(24, seed=9, formulas=FORMULAS))
    assert tuned.report["drift_mah_g"] > 0


def test_one_profile_cannot_be_judged(parent: Ensemble) -> None:
    tuned = fine_tune(parent, measured().select([0]), seed=0, options=QUICK)
    assert not tuned.accepted
    assert "a single profile cannot be cross-validated" in tuned.report["reason"]


def test_an_unseen_element_is_refused(parent: Ensemble) -> None:
    data = measured()
    odd = Composition.parse("Li1.2Fe0.4Ti0.4O2")
    with pytest.raises(DatasetError, match=r"has never seen Fe.*Leave these cells out"):
        fine_tune(parent, replace(data, compositions=(odd, *data.compositions[1:])), seed=0)


@pytest.mark.parametrize(
    ("cycles", "formulas", "words", "folds"),
    [
        ([1] * 8, FORMULAS, "compositions", {0, 1, 2, 3}),
        ([1] * 8, FORMULAS[:2], "compositions", {0, 1}),
        (range(1, 9), FORMULAS[:1], "the last cycles of the only composition", {-1, 0}),
        ([1] * 8, FORMULAS[:1], "profiles of the only composition", {0, 1, 2, 3}),
    ],
    ids=["many", "two", "one cell", "replicates"],
)
def test_what_is_held_out(cycles, formulas: tuple[str, ...], words: str, folds: set[int]) -> None:
    profiles = replace(linear_profiles(8, formulas=formulas), cycle=np.array(cycles, float))
    chosen, said = choose_folds(profiles, 4, 0)
    assert said == words
    assert set(chosen.tolist()) == folds


def test_the_last_cycles_are_the_ones_held_out() -> None:
    profiles = replace(linear_profiles(8, formulas=FORMULAS[:1]), cycle=np.arange(8.0, 0.0, -1))
    chosen, _ = choose_folds(profiles, 4, 0)
    assert profiles.cycle[chosen == 0].tolist() == [8, 7]


def test_replay_is_the_parents_own_prediction(parent: Ensemble) -> None:
    replay = replay_profiles(parent, 12, seed=3)
    predicted = parent.predict(replay.compositions, replay.conditions, replay.voltage_v).numpy()
    np.testing.assert_allclose(replay.capacity_mah_g, predicted, rtol=1e-5)
    assert {s for c in replay.compositions for s in c.elements} <= set(parent.card.elements)


@pytest.mark.parametrize(("key", "value"), [("steps", 0), ("folds", 1), ("learning_rate", 0.0)])
def test_wrong_options_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=key):
        FineTuningOptions(**{key: value})


# -- conditions of the process -------------------------------------------------------------------------------------

MILLED, PLAIN = Process.of({"milled": "yes"}), Process.of({"milled": "no"})


def processed(factors: dict[Process, float], *, seed: int = 1) -> ProfileSet:
    """First cycles of a laboratory in which the process decides what factor of the teaching a cell gets."""
    profiles = linear_profiles(24, formulas=FORMULAS, seed=seed)
    which = [list(factors)[i % len(factors)] for i in np.random.default_rng(seed).permutation(len(profiles))]
    factor = np.array([factors[p] for p in which])[:, None]
    names = ("capacity_mah_g", "dqdv_mah_g_v", "first_capacity_mah_g")
    scaled = {name: factor * getattr(profiles, name) for name in names}
    return replace(profiles, processes=tuple(which), **scaled)


def test_a_branch_learns_what_the_process_does_and_leaves_the_unstated_alone(parent: Ensemble) -> None:
    tuned = fine_tune(parent, processed({PLAIN: 0.6, MILLED: 1.0}), seed=0, options=QUICK)
    assert tuned.accepted
    assert tuned.report["process"] == ["milled"]
    assert tuned.ensemble.card.process == {"milled": ["no", "yes"]}
    assert [name for name, _ in tuned.ensemble.network.shape.process] == ["milled"]
    at = [CyclingConditions(20.0, process=p) for p in (PLAIN, MILLED)]
    plain, milled = tuned.ensemble.capacity([Composition.parse(f) for f in FORMULAS], at).mean((0, 1)).tolist()
    assert plain < 0.85 * milled

    again = fine_tune(tuned.ensemble, processed({PLAIN: 0.6, MILLED: 1.0}, seed=2), seed=0, options=QUICK)
    assert again.ensemble.network.shape.process == tuned.ensemble.network.shape.process


def test_a_process_that_does_not_vary_gets_no_branch(parent: Ensemble) -> None:
    tuned = fine_tune(parent, processed({MILLED: 0.7}), seed=0, options=QUICK)
    assert tuned.accepted
    assert tuned.ensemble.network.shape.process == ()
    assert tuned.ensemble.card.process == {}


def test_a_condition_varies_where_two_values_are_not_the_same_and_held_by_enough(parent: Ensemble) -> None:
    profiles = linear_profiles(24, formulas=FORMULAS)

    def fired(*temperatures: float) -> ProfileSet:
        every = [Process.of({"firing_temperature_c": t}) for t in temperatures]
        return replace(profiles, processes=tuple(every[i % len(every)] for i in range(len(profiles))))

    assert varied_conditions(fired(900.0, 905.0), 2) == {}
    assert varied_conditions(fired(900.0, 905.0, 1000.0), 2) == {"firing_temperature_c": [900.0, 905.0, 1000.0]}
    assert varied_conditions(fired(900.0, 1000.0), len(FORMULAS) + 1) == {}
    assert varied_conditions(profiles, 1) == {}
