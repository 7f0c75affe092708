"""What becomes of a fine-tuned model: used, refused, forgotten; the learning itself is tested in drxnet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import FIRST, HIGH, LOW, SECOND, straight_profile, write_campaign
from small_model import write_small_model

from campaigns.campaign import Campaign
from campaigns.finetune import REFUSED, fine_tune_campaign, profile_set
from drxnet.dataset import ProfileSet
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError
from drxnet.finetuning import FineTuned
from drxnet.network import DRXNet


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
        self.accepts = accepts
        self.seen: list[ProfileSet] = []

    def __call__(self, ensemble: Ensemble, profiles: ProfileSet, *, name: str, **_: object) -> FineTuned:
        self.seen.append(profiles)
        report = {"reason": "as told", "error_before_mah_g": 30.0, "error_after_mah_g": 20.0}
        if not self.accepts:
            return FineTuned(ensemble, False, report)
        network = DRXNet(ensemble.network.shape)
        state = {k: v.clone() for k, v in ensemble.network.state_dict().items()}
        state["state_out.bias"] += 1e-3 * float(profiles.capacity_mah_g.mean())
        network.load_state_dict(state)
        card = replace(ensemble.card, name=name, parent=ensemble.model_id, data_fingerprint=profiles.fingerprint)
        return FineTuned(Ensemble(network, replace(card, weights_sha256="")), True, report)


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
