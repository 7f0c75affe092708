from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import FORMULAS, SMALL, linear_profiles

from drxnet.composition import Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.errors import CheckpointError, ConfigurationError, DatasetError, DRXWarning
from drxnet.training import (
    LOSS_FIGURE,
    LOSSES,
    STATE,
    TrainingOptions,
    TrainingTensors,
    _identity,
    batch_losses,
    fix_input_statistics,
    initial_network,
    load_options,
    pretrain,
)

SLOWLY = replace(
    SMALL, smoothness_weight=0, learning_rate=2e-2, decay=0.98, epochs=100, profiles_per_batch=12, points_per_profile=10
)


def plain_gradients(network, profiles: ProfileSet, member: int, options: TrainingOptions):
    """One member's loss as the published code evaluates it: every point its own graph, double backward."""
    p, k = profiles.voltage_v.shape
    tensors = TrainingTensors(profiles, dtype=torch.float64)
    fractions = []
    u = []
    for row in range(p):
        for _ in range(k):
            which = int(tensors.whole.compositions[row])
            n = int(tensors.sizes[which])
            w = tensors.w[which : which + 1, :n].clone().requires_grad_()
            fractions.append(w)
            u.append(network.encode(tensors.sites[which : which + 1, :n], w, tensors.fluorine[which : which + 1]))
    voltage = tensors.whole.voltage.reshape(-1, 1).clone().requires_grad_()
    expand = lambda x: x.repeat_interleave(k, 0)  # noqa: E731
    first, now = network.condition(torch.cat(u, 1), expand(tensors.whole.current), expand(tensors.whole.cycle))
    q1 = network.state(first, expand(tensors.whole.window), voltage)[member, :, 0]
    q = network.state(now, expand(tensors.whole.window), voltage)[member, :, 0]
    (dq,) = torch.autograd.grad(q.sum(), voltage, create_graph=True)
    norms = torch.autograd.grad(q.sum(), fractions, create_graph=True)
    target = lambda x: x.reshape(-1)  # noqa: E731
    loss = (
        (q - target(tensors.whole.capacity)).square().mean()
        + (dq[:, 0] - target(tensors.whole.dqdv)).square().mean()
        + 5 * (q1 - target(tensors.whole.first)).abs().mean()
        + options.smoothness_weight * torch.cat([g.flatten() for g in norms]).norm()
    )
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)


def test_exact_step_has_the_gradients_of_the_plain_loop() -> None:
    options = replace(SMALL, smoothness="exact", smoothness_weight=0.1)
    profiles = linear_profiles(6, 3)
    tensors = TrainingTensors(profiles, dtype=torch.float64)
    network = initial_network(options, 3).double().train()
    batch_losses(network, tensors, tensors.whole, options).total(options).backward()
    for member in range(2):
        plain = plain_gradients(network, profiles, member, options)
        for (name, parameter), expected in zip(network.named_parameters(), plain, strict=True):
            scale = expected[member].abs().max().clamp(min=1e-3)
            assert (parameter.grad[member] - expected[member]).abs().max() < 1e-7 * scale, name


def test_sampled_smoothness_has_the_mean_square_of_the_exact_one() -> None:
    profiles = linear_profiles(8, 40)
    tensors = TrainingTensors(profiles, dtype=torch.float64)
    network = initial_network(SMALL, 1).double().eval()
    exact = batch_losses(network, tensors, tensors.whole, replace(SMALL, smoothness="exact")).smoothness
    half = replace(SMALL, smoothness_share=0.5)
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(30):
        for batch in tensors.epoch(rng, 8, 4):
            squares.append(batch_losses(network, tensors, batch, half).smoothness.square() * 40 / 4)
    sampled = torch.stack(squares).mean(0).sqrt()
    torch.testing.assert_close(sampled, exact, rtol=0.05, atol=0)


def test_an_epoch_uses_every_point_once() -> None:
    profiles = linear_profiles(9, 10)
    unique = replace(profiles, capacity_mah_g=np.arange(90.0).reshape(9, 10))
    tensors = TrainingTensors(unique, dtype=torch.float64)
    batches = list(tensors.epoch(np.random.default_rng(0), 4, 5))
    assert len(batches) == tensors.steps(4, 5) == 4
    seen = torch.cat([b.capacity.flatten() for b in batches]).sort().values
    assert seen.tolist() == list(range(90))


def test_training_lowers_the_error() -> None:
    profiles = linear_profiles(24)
    model = pretrain(profiles, SLOWLY, seed=0)
    predicted = model.predict(profiles.compositions, profiles.conditions, profiles.voltage_v).numpy().mean(0)
    spread = np.abs(profiles.capacity_mah_g - profiles.capacity_mah_g.mean()).mean()
    assert np.abs(predicted - profiles.capacity_mah_g).mean() < spread / 3


def test_members_learn_their_own_targets() -> None:
    same = linear_profiles(24).for_members(2)
    scale = np.array([1.0, 0.5])[:, None, None]
    own = replace(
        same,
        capacity_mah_g=same.capacity_mah_g * scale,
        dqdv_mah_g_v=same.dqdv_mah_g_v * scale,
        first_capacity_mah_g=same.first_capacity_mah_g * scale,
    )
    model = pretrain(own, SLOWLY, seed=0)
    totals = model.capacity(FORMULAS[:2], [CyclingConditions(20)]).numpy()[..., 0].mean(1)
    assert totals[1] / totals[0] == pytest.approx(0.5, abs=0.12)


def test_one_member_trains_alone_as_it_does_beside_others() -> None:
    profiles = linear_profiles()
    options = replace(SMALL, smoothness_weight=1e-2)
    network = initial_network(options, 0).double().train()
    alone = initial_network(replace(options, members=1), 0).double().train()
    alone.load_state_dict({k: v[1:2] for k, v in network.state_dict().items()})
    tensors = TrainingTensors(profiles, dtype=torch.float64)
    for net in (network, alone):
        batch_losses(net, tensors, tensors.whole, options).total(options).backward()
    for together, single in zip(network.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(together.grad[1:2], single.grad, rtol=1e-9, atol=1e-12)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    profiles, options = linear_profiles(), replace(SMALL, epochs=3)
    whole = pretrain(profiles, options, seed=5, folder=tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 2 * total // 3 + 1:  # in the third epoch
            raise Killed

    with pytest.raises(Killed):
        pretrain(profiles, options, seed=5, folder=tmp_path / "killed", progress=kill)
    resumed = pretrain(profiles, options, seed=5, folder=tmp_path / "killed", resume=True)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    rows = list(csv.DictReader((tmp_path / "killed" / LOSSES).read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert (tmp_path / "killed" / LOSS_FIGURE).stat().st_size > 0


def test_a_run_is_not_resumed_with_other_data(tmp_path: Path) -> None:
    pretrain(linear_profiles(), SMALL, seed=5, folder=tmp_path)
    with pytest.raises(CheckpointError, match="made with other data"):
        pretrain(linear_profiles(seed=1), SMALL, seed=5, folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="other options, seed"):
        pretrain(linear_profiles(), replace(SMALL, epochs=9), seed=6, folder=tmp_path, resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        pretrain(linear_profiles(), SMALL, seed=5, folder=tmp_path, resume=True)


def test_unknown_first_cycles_and_slopes_leave_the_other_terms() -> None:
    profiles = linear_profiles()
    blank = np.full_like(profiles.capacity_mah_g, np.nan)
    tensors = TrainingTensors(replace(profiles, dqdv_mah_g_v=blank, first_capacity_mah_g=blank))
    network = initial_network(SMALL, 0).train()
    losses = batch_losses(network, tensors, tensors.whole, SMALL)
    losses.total(SMALL).backward()
    assert losses.dqdv.tolist() == losses.first_cycle.tolist() == [0, 0]
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_one_profile_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least two profiles"):
        pretrain(linear_profiles(1), SMALL, seed=0)


def test_targets_of_another_number_of_members_are_refused() -> None:
    with pytest.raises(DatasetError, match="3 members"):
        pretrain(linear_profiles().for_members(3), SMALL, seed=0)


def test_an_element_without_a_vector_is_refused() -> None:
    profiles = linear_profiles()
    odd = Composition((("Li", 1.2), ("Po", 0.8)), 0.0)
    with pytest.raises(DatasetError, match="No element vector for Po"):
        pretrain(replace(profiles, compositions=(odd, *profiles.compositions[1:])), SMALL, seed=0)


def test_a_single_current_is_said_and_does_not_magnify_others() -> None:
    profiles = replace(linear_profiles(), current_ma_g=np.full(12, 20.0))
    with pytest.warns(DRXWarning, match="same current"):
        model = pretrain(profiles, replace(SMALL, epochs=5), seed=0)
    at_20, at_100 = model.capacity(FORMULAS[:1], [CyclingConditions(20), CyclingConditions(100)]).numpy().mean(0)[0]
    assert model.card.provenance["constant_inputs"] == ["current"]
    assert abs(at_100 - at_20) < at_20


def test_inputs_are_scaled_by_the_whole_set() -> None:
    profiles = replace(linear_profiles(), current_ma_g=np.array([20.0] * 11 + [10_000.0]))
    network = initial_network(SMALL, 0).train()
    assert fix_input_statistics(network, profiles, SMALL) == []
    current = torch.tensor(profiles.current_ma_g, dtype=torch.float32)[None, :, None].expand(2, -1, -1)
    scaled = network.rate.norm(network.rate.hidden(current))
    assert scaled.mean(1).abs().max() < 1e-4
    torch.testing.assert_close(scaled.square().mean(1), torch.ones_like(scaled[:, 0]), rtol=1e-3, atol=0)
    alone = network.rate.norm(network.rate.hidden(current[:, :3]))
    torch.testing.assert_close(alone, scaled[:, :3])  # whatever else is in the batch


def test_the_statistics_of_batches_are_one_key_away() -> None:
    network = initial_network(SMALL, 0).train()
    fix_input_statistics(network, linear_profiles(), replace(SMALL, input_statistics="batch"))
    assert network.rate.norm.training
    assert all(p.requires_grad for p in network.parameters())


def test_exploding_loss_is_said() -> None:
    with pytest.raises(DatasetError, match="Lower learning_rate"):
        pretrain(linear_profiles(), replace(SMALL, learning_rate=1e12), seed=0)


def test_the_shipped_options_are_the_paper() -> None:
    assert load_options("drxnet") == TrainingOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "Did you mean epochs"),
        ("epochs: 0", "whole number from 1"),
        ("smoothness: often", "sampled or exact"),
        ("learning_rate: -1", "must be positive"),
        ("dqdv_weight: -1", "must not be negative"),
        ("smoothness_share: 0", "must lie in"),
        ("network: {feature: 3}", "Did you mean features"),
        ("- 3", "must be a mapping"),
        ("{", "not a YAML file"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_options(path)


def test_the_card_tells_how_it_was_made() -> None:
    profiles = linear_profiles()
    card = pretrain(profiles, SMALL, seed=4, name="mine").card
    assert card.name == "mine"
    assert card.members == 2
    assert card.elements == ("Li", "Mg", "Ti", "V", "Cr", "Mn", "Nb")
    assert card.data_fingerprint == profiles.fingerprint
    assert json.loads(json.dumps(card.provenance))["options"]["epochs"] == 2


def test_noise_keeps_the_sites_and_what_is_learned() -> None:
    profiles = linear_profiles(points=6)
    tensors = TrainingTensors(profiles, dtype=torch.float64)
    options = TrainingOptions(amount_noise=0.02, fluorine_noise=0.02, trace_share=0.5)
    assert options.augmented
    shaken = tensors.shaken(np.random.default_rng(0), options)
    assert shaken.whole is tensors.whole
    added = shaken.sizes - tensors.sizes
    assert set(added.tolist()) == {0, 1}
    for row in range(len(tensors.w)):
        n = int(tensors.sizes[row])
        trace = shaken.w[row, n].item() * 2
        assert shaken.sites[row, :n].equal(tensors.sites[row, :n])
        assert shaken.w[row, :n].sum().item() == pytest.approx(tensors.w[row].sum().item())
        assert not shaken.w[row, :n].equal(tensors.w[row, :n])
        if added[row]:
            assert 1e-4 <= trace <= 0.02
            assert shaken.sites[row, n] not in tensors.sites[row, :n]
        else:
            assert trace == 0
    assert ((shaken.fluorine > 0) <= (tensors.fluorine > 0)).all()
    again = tensors.shaken(np.random.default_rng(0), options)
    assert again.w.equal(shaken.w)


def test_noise_is_off_by_default_and_changes_the_weights_when_on() -> None:
    assert not TrainingOptions().augmented
    profiles = linear_profiles(points=10)
    options = replace(SMALL, epochs=1)
    plain, same = (pretrain(profiles, options, seed=0) for _ in range(2))
    noisy = pretrain(profiles, replace(options, amount_noise=0.01, trace_share=0.5), seed=0)
    weights = [model.network.state_dict() for model in (plain, same, noisy)]
    assert all(weights[0][k].equal(weights[1][k]) for k in weights[0])
    assert any(not weights[0][k].equal(weights[2][k]) for k in weights[0])
    assert noisy.card.provenance["options"]["amount_noise"] == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount_noise": 0.5}, r"amount_noise must lie in \[0, 0.2\]. Got 0.5"),
        ({"trace_share": 2}, r"trace_share must lie in \[0, 1\]. Got 2"),
    ],
    ids=["noise", "share"],
)
def test_noise_beyond_reason_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingOptions(**change)


def test_a_training_from_before_there_was_noise_can_be_resumed() -> None:
    profiles = linear_profiles(points=10)
    plain = _identity(profiles, TrainingOptions(), 0)["options"]
    assert not {"amount_noise", "fluorine_noise", "trace_share"} & plain.keys()
    noisy = TrainingOptions(amount_noise=0.01)
    assert _identity(profiles, noisy, 0)["options"]["amount_noise"] == 0.01
