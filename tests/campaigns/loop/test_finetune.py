"""What becomes of a fine-tuned model: used, refused, forgotten; the learning itself is tested in drxnet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ledgers import FIRST, HIGH, LOW, SECOND, straight_profile, write_campaign
from small_model import write_small_model
from sqlalchemy import text

from campaigns.campaign import Campaign
from campaigns.errors import LedgerLocked
from campaigns.ledger.records import NewMeasurement, NewModel
from campaigns.loop.finetune import (
    REFUSED,
    HeldOutErrors,
    errors_at_the_rates,
    fine_tune_campaign,
    profile_set,
    waiting_to_be_learned,
)
from campaigns.loop.forecast import measured_of, outlook_of
from campaigns.spec import FineTuning
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import CheckpointError, ConfigurationError, UsageError
from drxnet.finetuning import FineTuned, HeldOut
from drxnet.network import DRXNet
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Measured
from screening.quantities import Capacity


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def measured(tmp_path: Path, small_model: Path):
    """Two compositions at both rates."""
    with Campaign.start(tmp_path / "demo", write_campaign(tmp_path / "t.yaml", small_model)) as campaign:
        rows = [
            {"composition": c, "current_ma_g": conditions.current_ma_g, "capacity_mah_g": q}
            | {"voltage_v": straight_profile(q).voltage_v, "profile_mah_g": straight_profile(q).capacity_mah_g}
            for c, q in ((FIRST, 240.0), (SECOND, 220.0))
            for conditions in (LOW, HIGH)
        ]
        campaign.add_measurements(rows, fine_tune=False)
        yield campaign


class Teacher:
    """Stands in for the training: shifts one weight by the mean capacity, and passes or not as told."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts, self.shift = accepts, 1e-3
        self.off: float | None = None
        """Error of each discharge while it is held out (mAh/g); None for a teacher that says nothing of it."""
        self.seen: list[ProfileSet] = []

    def __call__(self, ensemble: Ensemble, profiles: ProfileSet, *, name: str, **_: object) -> FineTuned:
        self.seen.append(profiles)
        report = {"reason": "as told", "error_before_mah_g": 30.0, "error_after_mah_g": 20.0}
        if not self.accepts:
            return FineTuned(ensemble, False, report)
        held_out = None
        if self.off is not None:
            folds = (profiles.unique[1] % 2).astype(int)
            held_out = HeldOut(folds, profiles.capacity_mah_g.reshape(len(profiles), -1)[:, 0] + self.off)
        network = DRXNet(ensemble.network.shape)
        state = {k: v.clone() for k, v in ensemble.network.state_dict().items()}
        state["state_out.bias"] += self.shift * float(profiles.capacity_mah_g.mean())
        network.load_state_dict(state)
        card = replace(ensemble.card, name=name, parent=ensemble.model_id, data_fingerprint=profiles.fingerprint)
        return FineTuned(Ensemble(network, replace(card, weights_sha256="")), True, report, held_out)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Teacher:
    told = Teacher()
    monkeypatch.setattr("drxnet.finetuning.fine_tune", told)
    return told


def test_accepted_child_is_used_with_its_lineage(measured: Campaign, teacher: Teacher):
    learned = fine_tune_campaign(measured)
    assert learned.accepted
    state = measured.state()
    assert state.current_model.parent == state.first_model.model_id
    assert state.current_model.measurement_ids == ("M0001", "M0002", "M0003", "M0004")
    assert state.unlearned == ()
    child = measured.ensemble()
    assert child.model_id == state.current_model.model_id == learned.model.model_id
    assert child.card.data_fingerprint == state.current_model.data_fingerprint
    row = learned.predicted[0]
    assert row["capacity_mah_g"] == 240.0
    assert row["after_mah_g_mean"] > row["before_mah_g_mean"]


def test_a_child_that_the_gaussian_model_beats_is_not_used_and_the_gate_says_so(measured: Campaign, teacher: Teacher):
    teacher.off = 1e4
    learned = fine_tune_campaign(measured)
    assert not learned.accepted
    state = measured.state()
    assert state.current_model == state.first_model
    assert (state.models[-1].model_id, state.models[-1].accepted) == (REFUSED, False)
    for rate in (20, 1000):
        assert f"on 2 held-out first discharges at {rate} mA/g it errs by 10000.0 mAh/g, the parent" in learned.sentence
    assert "learns from the same cells" in learned.sentence
    assert "Farthest off while held out: M0001 (" in learned.sentence
    assert "20 mA/g: 240 measured, 10240 expected mAh/g" in learned.sentence


def test_the_gaussian_model_beside_a_child_has_not_seen_what_it_is_asked_for(
    measured: Campaign, monkeypatch: pytest.MonkeyPatch
):
    """Three compositions; the first is held out at a rate that is not compared."""
    goals = Goals(measured.spec.conditions, (ObjectiveSpec(quantity="capacity"),), ())
    made = [Composition.parse(c) for c in (FIRST, SECOND, FIRST, SECOND, "Li1.2Mn0.8O2")]
    at = (CyclingConditions(77.0), LOW, CyclingConditions(77.0), HIGH, LOW)
    cells = [
        replace(measured.state().valid[0], conditions=c, capacity_mah_g=q, cell=str(number))
        for number, (c, q) in enumerate(zip(at, (200.0, 220.0, 210.0, 150.0, 180.0), strict=True))
    ]
    seen: list[tuple[set[Composition], set[Composition]]] = []

    class Beside:
        def __init__(self, known: list[Measured]) -> None:
            self.known, self.surrogate = {m.composition for m in known}, self

        def read(self, asked: list[Composition]) -> int:
            seen.append((self.known, set(asked)))
            return len(asked)

        def marginals(self, asked: int) -> tuple[torch.Tensor, None]:
            said = {Capacity(LOW): 215.0, Capacity(HIGH): 155.0}
            return torch.tensor([[said.get(q, torch.nan) for q in goals.quantities]] * asked), None

    monkeypatch.setattr("screening.outlook.Outlook.of", lambda *_, measured: Beside(measured))
    held_out = HeldOut(np.array([0, 1, 0, 1, 2]), np.array([0.0, 230.0, 0.0, 149.0, 180.0]))
    low, high = errors_at_the_rates(measured.ensemble(), goals.rates, made, cells, held_out)
    assert [asked for _, asked in seen] == [{made[1]}, {made[4]}]
    assert [known for known, _ in seen] == [{made[4]}, {made[1]}]
    assert (low.child_mah_g.tolist(), low.gaussian_mah_g.tolist()) == ([10.0, 0.0], [5.0, 35.0])
    assert (high.child_mah_g.tolist(), high.gaussian_mah_g.tolist()) == ([1.0], [5.0])


@pytest.mark.parametrize(
    ("child", "gaussian", "better"),
    [
        ([10, 12, 8], [20, 21, 19], True),
        ([10, 12, 8], [9, 13, 9], False),  # a gain of 0.3 +- 0.7 may be chance
        ([20, 21, 19], [10, 12, 8], False),
        ([10], [11], True),
    ],
)
def test_a_child_is_better_at_a_rate_where_it_gains_more_than_chance(
    child: list[float], gaussian: list[float], better: bool
):
    assert HeldOutErrors(20, np.array(child, float), np.array(gaussian, float)).child_is_better is better


def test_a_child_that_gains_at_one_rate_only_is_not_used(
    measured: Campaign, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    teacher.off = 0.0
    slow = HeldOutErrors(20, np.array([2.0, 4.0]), np.array([13.0, 14.0]))
    fast = HeldOutErrors(1000, np.array([9.0, 9.0]), np.array([7.0, 7.0]))
    monkeypatch.setattr("campaigns.loop.finetune.errors_at_the_rates", lambda *_: [slow, fast])
    learned = fine_tune_campaign(measured)
    assert not learned.accepted
    assert "at 20 mA/g it errs by 3.0 mAh/g, the parent with the Gaussian model by 13.5; on 2" in learned.sentence
    assert measured.state().models[-1].metrics["discharges_compared"] == 4


def test_no_datum_counts_twice_once_a_child_is_used(measured: Campaign, teacher: Teacher):
    teacher.off = 0.5
    goals = measured.spec.goals
    assert all(m.learned is None for m in measured_of(measured.state(), goals))
    learned = fine_tune_campaign(measured)
    assert learned.accepted, learned.sentence
    assert "The child is used: on 2 held-out first discharges at 20 mA/g it errs by 0.5 mAh/g" in learned.sentence
    known = measured_of(measured.state(), goals)
    low, high = Capacity(goals.rates.low), Capacity(goals.rates.high)
    for m in known:
        assert m.learned is not None
        assert m.learned[low] == pytest.approx(m.estimates[low].mean + 0.5)
        assert m.learned[high] == pytest.approx(m.estimates[high].mean + 0.5)
    outlook = outlook_of(measured, measured.state(), goals)
    made = [m.composition for m in known]
    own = goals.evaluate(measured.ensemble(), made).mean(0).numpy()
    said = outlook.surrogate.marginals(outlook.read(made))[0].numpy()
    assert np.abs(said - own)[:, 1:].max() < 1, "what the weights know moves no mean"


def test_refused_child_changes_nothing_and_is_on_record(measured: Campaign, teacher: Teacher):
    teacher.accepts = False
    learned = fine_tune_campaign(measured)
    assert not learned.accepted
    state = measured.state()
    assert state.current_model == state.first_model
    assert (state.models[-1].model_id, state.models[-1].accepted, state.models[-1].path) == (REFUSED, False, "")
    assert "as told" in state.events[-1].summary
    assert [f.name for f in (measured.folder / "models").iterdir()] == ["N01"]


def test_same_measurements_are_not_learned_twice(measured: Campaign, teacher: Teacher):
    fine_tune_campaign(measured)
    before = measured.state()
    again = fine_tune_campaign(measured)
    assert "Nothing new to learn from: N02" in again.sentence
    assert len(teacher.seen) == 1
    assert measured.state() == before


def test_every_fine_tuning_starts_from_the_first_model(measured: Campaign, teacher: Teacher):
    fine_tune_campaign(measured)
    measured.add_measurements([{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 250.0}], fine_tune=False)
    fine_tune_campaign(measured)
    state = measured.state()
    assert [m.parent for m in state.models] == [None, state.first_model.model_id, state.first_model.model_id]
    assert [len(p) for p in teacher.seen] == [4, 5]


def test_retracted_measurement_is_forgotten(measured: Campaign, teacher: Teacher):
    fine_tune_campaign(measured)
    measured.retract_measurement("M0001", "wrong mass")
    fine_tune_campaign(measured)
    assert measured.state().current_model.measurement_ids == ("M0002", "M0003", "M0004")


def test_model_that_learned_from_withdrawn_data_is_left_even_without_a_successor(measured: Campaign, teacher: Teacher):
    fine_tune_campaign(measured)
    measured.retract_measurement("M0001", "wrong mass")
    teacher.accepts = False
    learned = fine_tune_campaign(measured)
    assert "back to the starting model" in learned.sentence
    state = measured.state()
    assert state.current_model.model_id == state.first_model.model_id
    assert [m.number for m in state.models] == [1, 2, 3, 4]


def test_starting_model_is_used_again_once_everything_is_withdrawn(measured: Campaign, teacher: Teacher):
    fine_tune_campaign(measured)
    for m in measured.state().valid:
        measured.retract_measurement(m.measurement_id, "wrong powder")
    learned = fine_tune_campaign(measured)
    assert "back to the starting model" in learned.sentence
    state = measured.state()
    assert (learned.accepted, learned.measurements, learned.model) == (False, 0, state.current_model)
    assert state.current_model.model_id == state.first_model.model_id
    assert (state.first_model.number, state.events[-1].verb) == (1, "finetune")
    with pytest.raises(UsageError, match="no first discharge"):
        fine_tune_campaign(measured)
    assert measured.state() == state


def test_withdrawn_data_are_forgotten_although_their_remainder_was_tried_before(measured: Campaign, teacher: Teacher):
    """As a ledger has it whose refused child did not yet lead back to the starting model."""
    fine_tune_campaign(measured)
    measured.retract_measurement("M0001", "wrong mass")
    known = measured.ledger.profiles(measured.state().valid)
    first = measured.state().models[1]
    with measured.ledger.write("finetune") as entry:
        ids = tuple(m.measurement.measurement_id for m in known)
        refused = NewModel(REFUSED, "", first.parent, profile_set(known).fingerprint, ids, False, first.metrics)
        entry.add_model(refused)
    assert measured.state().current_model == first
    teacher.accepts = False
    assert "back to the starting model" in fine_tune_campaign(measured).sentence
    assert measured.state().current_model.model_id == measured.state().first_model.model_id


def lose(campaign: Campaign, model_id: str) -> None:
    """Lose the weights of a model as a ledger from before it kept them could."""
    with campaign.ledger._database.engine.connect() as connection, connection.begin():
        connection.execute(text("DROP TRIGGER model_files_no_delete"))
        connection.execute(text("DELETE FROM model_files WHERE model_id = :id"), {"id": model_id})
    shutil.rmtree(campaign.folder / "models" / model_id)


def test_lost_weights_are_learned_again_by_the_command_that_the_message_names(measured: Campaign, teacher: Teacher):
    learned = fine_tune_campaign(measured)
    before = measured.state()
    lose(measured, learned.model.model_id)
    with pytest.raises(CheckpointError, match=r"weights of model N02 .* `drx-screen finetune --campaign \S*demo`"):
        measured.ensemble()
    again = fine_tune_campaign(measured)
    assert "weights of N02 were gone and are learned again: the same" in again.sentence
    assert (again.accepted, again.model) == (True, learned.model)
    assert measured.ensemble().model_id == learned.model.model_id
    assert measured.state().models == before.models


def test_lost_weights_that_come_out_otherwise_are_another_model(measured: Campaign, teacher: Teacher):
    learned = fine_tune_campaign(measured)
    lose(measured, learned.model.model_id)
    teacher.shift *= 2  # another machine, another torch
    again = fine_tune_campaign(measured)
    assert (again.model.name, again.model.model_id != learned.model.model_id) == ("N03", True)
    assert measured.ensemble().model_id == again.model.model_id


def test_lost_weights_that_the_gate_refuses_now_are_left(measured: Campaign, teacher: Teacher):
    learned = fine_tune_campaign(measured)
    lose(measured, learned.model.model_id)
    teacher.accepts = False
    again = fine_tune_campaign(measured)
    assert "The model in use has lost its weights; back to the starting model." in again.sentence
    assert measured.ensemble().model_id == measured.state().first_model.model_id


class Meanwhile(Teacher):
    """Does something else in the ledger the first few times that it is asked to train."""

    def __init__(self, happens: Callable[[], object], times: int = 1) -> None:
        super().__init__()
        self.happens, self.times = happens, times

    def __call__(self, *arguments: Any, **options: Any) -> FineTuned:
        if len(self.seen) < self.times:
            self.seen.append(arguments[1])
            self.happens()
            self.seen.pop()
        return super().__call__(*arguments, **options)


def test_measurement_withdrawn_while_the_model_learns_is_forgotten(measured: Campaign, monkeypatch: pytest.MonkeyPatch):
    teacher = Meanwhile(lambda: measured.retract_measurement("M0001", "wrong powder"))
    monkeypatch.setattr("drxnet.finetuning.fine_tune", teacher)
    learned = fine_tune_campaign(measured)
    assert [len(p) for p in teacher.seen] == [4, 3]
    state = measured.state()
    assert (learned.accepted, learned.measurements) == (True, 3)
    assert state.current_model.measurement_ids == ("M0002", "M0003", "M0004")
    assert len(state.models) == 2


def test_of_two_fine_tunings_at_once_the_one_with_the_newer_data_stands(
    measured: Campaign, monkeypatch: pytest.MonkeyPatch
):
    def another_process() -> None:
        more = {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 250.0}
        measured.add_measurements([more], fine_tune=False)
        fine_tune_campaign(measured)

    monkeypatch.setattr("drxnet.finetuning.fine_tune", Meanwhile(another_process))
    learned = fine_tune_campaign(measured)
    state = measured.state()
    assert "Nothing new to learn from: N02" in learned.sentence
    assert len(state.models) == 2
    assert len(state.current_model.measurement_ids) == 5


def test_equal_fine_tunings_at_once_are_recorded_once(measured: Campaign, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("drxnet.finetuning.fine_tune", Meanwhile(lambda: fine_tune_campaign(measured)))
    assert "Nothing new to learn from: N02" in fine_tune_campaign(measured).sentence
    assert len(measured.state().models) == 2


def test_fine_tuning_that_is_overtaken_every_time_records_nothing(measured: Campaign, monkeypatch: pytest.MonkeyPatch):
    capacities = iter(range(241, 260))

    def add_another() -> None:
        row = {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": float(next(capacities))}
        measured.add_measurements([row], fine_tune=False)

    teacher = Meanwhile(add_another, times=99)
    monkeypatch.setattr("drxnet.finetuning.fine_tune", teacher)
    with pytest.raises(LedgerLocked, match="each of 3 times .* Nothing was recorded"):
        fine_tune_campaign(measured)
    assert len(measured.state().models) == 1


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"fine_tuning": FineTuning(options={"steps": 5})}], ids=["seed", "options"]
)
def test_other_settings_are_something_new_to_learn_with(measured: Campaign, teacher: Teacher, change: dict[str, Any]):
    fine_tune_campaign(measured)
    measured.spec = measured.spec.model_copy(update=change)
    assert fine_tune_campaign(measured).sentence == "as told"
    assert len(teacher.seen) == 2
    assert "Nothing new" in fine_tune_campaign(measured).sentence


def test_later_cycles_are_left_out_where_the_campaign_says_so(measured: Campaign, teacher: Teacher):
    later = {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 200.0, "cycle": 2}
    measured.add_measurements([later], fine_tune=False)
    fine_tune_campaign(measured)
    assert len(teacher.seen[0]) == 4


def test_elements_that_the_model_never_saw_are_left_out(measured: Campaign, teacher: Teacher):
    foreign = {"composition": "Li1.2Mn0.4Sn0.4O2", "current_ma_g": 20, "capacity_mah_g": 150.0}
    measured.add_measurements([foreign], fine_tune=False)
    assert fine_tune_campaign(measured).measurements == 4


def test_capacity_alone_is_learned_from_too(measured: Campaign):
    bare = {"composition": FIRST, "current_ma_g": 100, "capacity_mah_g": 200.0}
    measured.add_measurements([bare], fine_tune=False)
    known = measured.ledger.profiles(measured.state().valid)
    profiles = profile_set(known)
    assert len(profiles) == 5
    assert profiles.capacity_mah_g[-1, 0] == pytest.approx(200.0)


def test_unknown_option_is_refused(tmp_path: Path, small_model: Path):
    template = write_campaign(tmp_path / "t.yaml", small_model, fine_tuning={"options": {"step": 3}})
    with Campaign.start(tmp_path / "demo", template) as campaign:
        campaign.add_measurements(
            [{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False
        )
        with pytest.raises(ConfigurationError, match="unknown key step"):
            fine_tune_campaign(campaign)


def test_row_of_an_earlier_version_that_is_impossible_is_named_and_left_out(
    measured: Campaign, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("campaigns.ledger.entry.check_physics", lambda measurement: None)  # as it was then
    wild = NewMeasurement(FIRST, CyclingConditions(1e300), 240.0, None, None, "python")
    with measured.ledger.write("ingest") as entry:
        entry.add_measurement("LAB-01", "wild", wild, None)
    assert fine_tune_campaign(measured).measurements == 4
    (model,) = (m for m in measured.state().models if m.parent)
    assert "M0005" not in model.measurement_ids
    event = next(e for e in measured.state().events if e.verb == "finetune")
    assert "Left out, as no finite held-out error can be formed: M0005" in event.summary
    assert "Got 1e+300" in event.summary
    assert measured.summarize()["not_learned_from"] == 0


def test_measurement_that_no_model_can_judge_is_named_and_left_out(
    measured: Campaign, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    predict = Ensemble.predict

    def broken(self: Ensemble, compositions, conditions, voltages):
        found = predict(self, compositions, conditions, voltages)
        if len(conditions) == 4:  # the four measurements
            found[:, 1] = float("nan")
        return found

    monkeypatch.setattr(Ensemble, "predict", broken)
    learned = fine_tune_campaign(measured)
    assert learned.measurements == 3
    assert "M0002 (1000 mA/g, 1.5-4.8 V, cycle 1: 240 mAh/g)" in learned.sentence


def test_what_nobody_proposed_is_set_beside_the_model_before_it_is_learned_from(
    measured: Campaign, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    def say_two_hundred(self: Ensemble, compositions, conditions, voltages):
        return torch.full((self.members, len(compositions), 1), 200.0)

    monkeypatch.setattr(Ensemble, "predict", say_two_hundred)
    tenth = {"composition": "Li1.2Mn0.5Ti0.3O2", "current_ma_g": 20, "capacity_mah_g": 20.0}
    dead = {"composition": "Li1.25Mn0.45Ti0.3O2", "current_ma_g": 20, "capacity_mah_g": 6.0}
    measured.add_measurements([tenth, dead], fine_tune=False)
    assert measured.state().doubtful == ()
    assert fine_tune_campaign(measured).measurements == 5
    (doubted,) = measured.state().doubtful
    assert (doubted.measurement_id, doubted.verdict and doubted.verdict.rule) == ("M0005", "J4")
    measured.confirm_measurement("M0005")
    assert fine_tune_campaign(measured).measurements == 6


def test_only_what_can_be_learned_from_waits_to_be(measured: Campaign):
    rows = [
        {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 230.0, "cycle": 2, "cell": "B"},
        {"composition": "Li1.2Mn0.4Sn0.4O2", "current_ma_g": 20, "capacity_mah_g": 150.0},
    ]
    measured.add_measurements(rows, fine_tune=False)
    assert len(measured.state().unlearned) == 6
    assert measured.summarize()["not_learned_from"] == 4


def test_discharges_of_elements_that_the_model_never_saw_are_left_out_with_a_word(
    measured: Campaign, teacher: Teacher, caplog: pytest.LogCaptureFixture
):
    row = {"composition": "Li1.2Mn0.6La0.2O2", "current_ma_g": 20.0, "capacity_mah_g": 200.0}
    grid = straight_profile(200.0)
    row |= {"voltage_v": grid.voltage_v, "profile_mah_g": grid.capacity_mah_g}
    measured.add_measurements([row], fine_tune=False)
    said = "1 discharges hold elements that the model has never seen; left out."
    assert len(waiting_to_be_learned(measured, measured.state())) == 4
    assert said not in caplog.text, "that is asked too often to say it each time"
    learned = fine_tune_campaign(measured)
    assert learned.measurements == 4
    assert [len(seen) for seen in teacher.seen] == [4]
    assert said in caplog.text
