"""Conditions of a process: declared once, exact when unknown."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import untrained_ensemble

from drxnet.checkpoint import ModelCard, save
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet, Record
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import CheckpointError, ImpossibleValue
from drxnet.network import DRXNet, NetworkShape
from drxnet.process import (
    FIELDS,
    NOT_STATED,
    PROCESS_SHARE,
    ConditionField,
    Process,
    encoded_processes,
    unlearned_share,
)
from drxnet.training import TrainingOptions, TrainingTensors, batch_losses
from drxnet.uncertainty import Calibration

COMPOSITIONS = [Composition.parse(f) for f in ("Li1.2Mn0.4Ti0.4O2", "Li1.3Mn0.4Nb0.3O2", "Li1.2Mn0.6Nb0.2O1.8F0.2")]
FIRED = Process.of({"route": "sol gel", "firing_temperature_c": 950})
BRANCHES = tuple((name, FIELDS[name].width) for name in ("route", "firing_temperature_c"))


def pair(dtype: torch.dtype) -> tuple[DRXNet, DRXNet]:
    """A network without branches, and the same with two that are far from the identity."""
    torch.manual_seed(3)
    plain = DRXNet(NetworkShape(members=2)).to(dtype).eval()
    branched = DRXNet(replace(plain.shape, process=BRANCHES)).to(dtype).eval()
    missing, unexpected = branched.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("process.") for name in missing)
    with torch.no_grad():
        for branch in branched.process.values():
            branch.effect.uniform_(-1, 1)
    return plain, branched


# -- the table ---------------------------------------------------------------------------------------------------


def test_a_process_keeps_what_was_said_in_the_order_of_the_table() -> None:
    process = Process.of(
        {"firing_temperature_c": "900", "milled": True, "route": "Solid-State", "particle_size_um": ""}
    )
    assert process.row() == {"route": "solid state", "firing_temperature_c": 900.0, "milled": "yes"}
    assert list(process.row()) == ["route", "firing_temperature_c", "milled"]
    assert str(process) == "synthesis route solid state, firing temperature 900 °C, milled after firing yes"
    assert Process.read("milled=yes, route=ssr, firing_temperature_c=900") == process
    assert not NOT_STATED
    assert str(NOT_STATED) == ""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"firing_temperature": 900}, "Did you mean firing_temperature_c"),
        ({"colour": "red"}, "Known: temperature_c, route"),
        ({"firing_temperature_c": 9000}, "from 50 to 1600 °C. Got 9000"),
        ({"firing_temperature_c": "nan"}, "from 50 to 1600"),
        ({"route": "sol-gle"}, "Did you mean 'sol-gel'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(said: dict[str, object], expected: str) -> None:
    with pytest.raises(ImpossibleValue, match=expected.replace("(", r"\(")):
        Process.of(said)


def test_a_pair_without_an_equals_sign_is_refused() -> None:
    with pytest.raises(ImpossibleValue, match="name=value"):
        Process.read("route")


def test_processes_differ_only_in_what_both_state_and_beyond_the_tolerance() -> None:
    one = Process.of({"route": "sol-gel", "firing_temperature_c": 900, "firing_time_h": 10})
    assert one.differs(Process.of({"firing_temperature_c": 910, "firing_time_h": 12, "milled": "yes"})) == ()
    assert one.differs(Process.of({"firing_temperature_c": 950, "firing_time_h": 20})) == (
        "firing_temperature_c",
        "firing_time_h",
    )
    assert one.differs(NOT_STATED) == ()
    assert NOT_STATED.differs(one) == ()
    assert Process.of({"milled": "no"}).over(Process.of({"milled": "yes", "route": "flux"})).row() == {
        "route": "molten salt",
        "milled": "no",
    }


def test_conditions_with_another_process_are_others_and_say_so() -> None:
    plain = CyclingConditions(20.0)
    fired = CyclingConditions(20.0, process=FIRED)
    assert plain != fired
    assert len({plain, fired, CyclingConditions(20.0, process=FIRED)}) == 2
    assert str(fired).endswith("cycle 1, synthesis route sol-gel, firing temperature 950 °C")
    assert fired.row() == {**plain.row(), "route": "sol-gel", "firing_temperature_c": 950.0}


def test_a_new_field_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    field = ConditionField("pressing_mpa", "pressure of the pellet", "MPa", number=(1.0, 2000.0), typical=(200, 100))
    monkeypatch.setitem(FIELDS.builtin, "pressing_mpa", field)
    process = Process.read("pressing_mpa=300")
    assert process.row() == {"pressing_mpa": 300.0}
    assert encoded_processes([NOT_STATED, process])["pressing_mpa"][1] == 1.0
    ensemble = Ensemble(
        DRXNet(NetworkShape(members=2, process=(("pressing_mpa", 1),))),
        ModelCard("pressed", 2, process={"pressing_mpa": [100.0, 300.0]}),
    )
    with torch.no_grad():
        ensemble.network.process["pressing_mpa"].effect.fill_(1.0)
    at = [CyclingConditions(20.0), CyclingConditions(20.0, process=process)]
    q = ensemble.capacity(COMPOSITIONS, at)
    assert (q[..., 0] != q[..., 1]).all()


# -- exact when unknown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_nothing_stated_predictions_gradients_and_losses_are_the_same_bits(dtype: torch.dtype) -> None:
    plain, branched = pair(dtype)
    records = [
        Record(c, CyclingConditions(i, cycle=n), capacity_mah_g=150.0 + n)
        for c in COMPOSITIONS
        for i, n in ((20.0, 1), (1000.0, 1), (20.0, 5))
    ]
    profiles = ProfileSet.from_discharges(records, points=8)
    options = TrainingOptions(members=2)
    results = []
    for network in (plain, branched):
        tensors = TrainingTensors(profiles, dtype=dtype)
        batch = tensors.batch(torch.arange(len(records)), torch.arange(8).expand(len(records), 8))
        losses = batch_losses(network, tensors, batch, options)
        losses.total(options).backward()
        results.append((losses, {n: p.grad for n, p in network.named_parameters() if not n.startswith("process.")}))
    (one, grads), (other, same) = results
    for name in ("capacity", "dqdv", "first_cycle", "smoothness"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name, grad in grads.items():
        assert (grad is None) == (same[name] is None)
        assert grad is None or torch.equal(grad, same[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_which_nothing_is_stated_keep_their_bits_among_others(dtype: torch.dtype) -> None:
    plain, branched = pair(dtype)
    u = torch.randn(2, 4, 32, dtype=dtype)
    current, cycle = torch.full((4,), 20.0, dtype=dtype), torch.ones(4, dtype=dtype)
    table = encoded_processes([NOT_STATED, FIRED, NOT_STATED, Process.of({"firing_temperature_c": 800})])
    process = {name: torch.from_numpy(x).to(dtype) for name, x in table.items()}
    first, _ = plain.condition(u, current, cycle)
    made, _ = branched.condition(u, current, cycle, process)
    assert torch.equal(first[:, [0, 2]], made[:, [0, 2]])
    assert (first[:, [1, 3]] != made[:, [1, 3]]).any(-1).all()


def test_shipped_weights_know_no_process_and_give_what_they_gave() -> None:
    ensemble = Ensemble.load()
    assert ensemble.network.shape.process == ()
    at = [CyclingConditions(20.0), CyclingConditions(20.0, process=FIRED)]
    q = ensemble.capacity(COMPOSITIONS, at)
    assert torch.equal(q[..., 0], q[..., 1])


def test_a_fresh_branch_is_the_identity_in_value_too() -> None:
    ensemble = Ensemble(DRXNet(NetworkShape(members=2, process=BRANCHES)), ModelCard("fresh", 2))
    at = [CyclingConditions(20.0), CyclingConditions(20.0, process=FIRED)]
    q = ensemble.capacity(COMPOSITIONS, at)
    assert torch.equal(q[..., 0], q[..., 1])


# -- kept with data and models -----------------------------------------------------------------------------------


def records() -> list[Record]:
    at = [CyclingConditions(20.0), CyclingConditions(20.0, process=FIRED), CyclingConditions(1000.0, process=FIRED)]
    return [Record(c, x, capacity_mah_g=150.0 + i) for c in COMPOSITIONS for i, x in enumerate(at)]


def test_a_set_of_profiles_keeps_the_processes(tmp_path) -> None:
    profiles = ProfileSet.from_discharges(records(), points=8)
    assert [c.process for c in profiles.conditions] == [NOT_STATED, FIRED, FIRED] * 3
    profiles.save(tmp_path / "set.npz")
    again = ProfileSet.load(tmp_path / "set.npz")
    assert again.processes == profiles.processes
    assert again.fingerprint == profiles.fingerprint
    assert again.select([0, 3]).processes == ()
    assert again.select([1, 3]).processes == (FIRED, NOT_STATED)
    plain = replace(profiles, processes=())
    assert plain.fingerprint != profiles.fingerprint


def test_a_set_without_any_has_the_fingerprint_that_it_had(tmp_path) -> None:
    said = [
        Record(r.composition, CyclingConditions(r.conditions.current_ma_g), None, r.capacity_mah_g) for r in records()
    ]
    profiles = ProfileSet.from_discharges(said, points=8)
    profiles.save(tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as stored:
        assert "processes" not in stored
    assert ProfileSet.load(tmp_path / "set.npz").fingerprint == profiles.fingerprint


def test_a_model_with_branches_is_stored_and_found_again(tmp_path) -> None:
    _, branched = pair(torch.float32)
    learned = {"route": ["sol-gel", "solid state"], "firing_temperature_c": [800.0, 950.0]}
    save(tmp_path / "fired", branched.state_dict(), ModelCard("fired", 2, process=learned))
    ensemble = Ensemble.load(tmp_path / "fired")
    assert ensemble.network.shape.process == BRANCHES
    assert ensemble.card.process == learned
    at = [CyclingConditions(20.0, process=FIRED)]
    expected = Ensemble(branched, ModelCard("memory", 2)).capacity(COMPOSITIONS, at)
    assert torch.equal(ensemble.capacity(COMPOSITIONS, at), expected)
    assert "process" not in (save_plain(tmp_path) / "model.json").read_text()


def save_plain(folder):
    save(folder / "plain", DRXNet(NetworkShape(members=2)).state_dict(), ModelCard("plain", 2))
    return folder / "plain"


def test_a_card_with_an_impossible_process_is_refused(tmp_path) -> None:
    _, branched = pair(torch.float32)
    save(tmp_path / "odd", branched.state_dict(), ModelCard("odd", 2, process={"route": ["by hand"]}))
    with pytest.raises(CheckpointError, match="process must be conditions of a process by name"):
        Ensemble.load(tmp_path / "odd")


def test_what_was_not_learned_may_do_what_processes_do() -> None:
    learned = {"firing_temperature_c": (800.0, 900.0), "route": ("solid state", "sol-gel")}

    def share(**said: object) -> float:
        return unlearned_share(learned, Process.of(said))

    assert share() == share(firing_temperature_c=850) == share(firing_temperature_c=900, route="sol-gel") == 0
    assert share(milled="yes") == 0, "nothing of it was learned, and the interval is of any"
    near, far, farthest = (share(firing_temperature_c=t) for t in (920, 1000, 1600))
    assert 0 < near < far < farthest <= PROCESS_SHARE
    assert farthest == pytest.approx(PROCESS_SHARE, rel=0.01)
    assert 0 < share(route="combustion") < PROCESS_SHARE
    both = share(route="combustion", firing_temperature_c=1000)
    assert both == pytest.approx(math.hypot(far, share(route="combustion")))


def test_the_interval_grows_where_a_process_lies_outside_what_was_learned() -> None:
    ensemble = untrained_ensemble()
    card = replace(ensemble.card, process={"firing_temperature_c": (800.0, 900.0)})
    calibration = replace(
        Calibration.of(ensemble, lambda features: ["inside"] * features.shape[1]), learned=card.process
    )
    composition = Composition.parse("Li1.2Mn0.4Ti0.4O2")
    members = np.full((5, 1), 200.0) + np.arange(5)[:, None]
    widths = []
    for temperature in (None, 850, 1000, 1300):
        process = Process.of({"firing_temperature_c": temperature})
        features = torch.zeros(5, 1, 32)
        _, lower, upper = calibration.intervals(
            features, members, [composition], [CyclingConditions(20, process=process)]
        )
        widths.append(float(upper[0] - lower[0]))
    assert widths[0] == widths[1] < widths[2] < widths[3]
