"""A campaign from Python: one folder, one ledger, and the methods a notebook uses."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest
from ledgers import (
    FIRST,
    LOW,
    SECOND,
    record_round,
    write_campaign,
    write_discharge,
)

import campaigns
from campaigns import Campaign
from campaigns.cli import main
from campaigns.intake.measurement import SampleInfo
from campaigns.ledger.records import State
from campaigns.loop.finetune import fine_tune_campaign
from campaigns.loop.mark import mark
from campaigns.loop.places import Order, Within
from campaigns.loop.propose import propose
from campaigns.loop.rank import rank
from campaigns.report.export import export_campaign
from campaigns.report.rows import Batch, Rows
from campaigns.spec import Method
from drxnet.errors import DRXWarning, MeasurementError, UsageError


def test_package_offers_the_class_lazily():
    assert campaigns.Campaign is Campaign
    with pytest.raises(AttributeError, match="no attribute 'Campain'"):
        _ = campaigns.Campain


def test_two_objects_on_one_campaign_see_the_same(campaign: Campaign):
    record_round(campaign, FIRST)
    with Campaign.open(campaign.folder) as other:
        assert other.state() == campaign.state()
        other.add_measurements(
            [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False
        )
    assert campaign.state().valid[0].conditions == LOW


def test_measurements_are_added_corrected_and_retracted(campaign: Campaign):
    rows = [{"composition": c, "current_ma_g": 20, "capacity_mah_g": 240.0} for c in (FIRST, SECOND)]
    first, second = campaign.add_measurements(rows, fine_tune=False)
    third = campaign.update_measurement(first, "re-weighed", capacity_mah_g=230.0)
    campaign.retract_measurement(second, "short circuit")
    assert [m.measurement_id for m in campaign.state().valid] == [third]
    assert campaign.summarize()["withdrawn"] == 2
    assert [r["composition"] for r in campaign.rank("capacity", within="measured")] == [FIRST]


def test_files_are_added_like_rows_all_or_none(campaign: Campaign, tmp_path: Path):
    good = write_discharge(tmp_path / "good.json", FIRST, 240.0)
    bad = write_discharge(tmp_path / "bad.json", FIRST, 900.0)
    with pytest.raises(MeasurementError, match="1 of 2 files are refused. E3"):
        campaign.add_measurements([good, bad], fine_tune=False)
    assert campaign.state().valid == ()
    assert campaign.add_measurements(str(good), fine_tune=False) == ("M0001",)
    assert campaign.add_measurements([good]) == ()


def test_failed_fine_tuning_is_a_warning_and_the_ids_come_back(campaign: Campaign):
    with pytest.warns(DRXWarning, match="Recorded M0001, but not learned from: .*weights.safetensors"):
        ids = campaign.add_measurements({"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0})
    assert ids == ("M0001",)
    assert [m.measurement_id for m in campaign.state().valid] == ["M0001"]


def test_campaign_with_nothing_measured_has_nothing_to_learn_from(tmp_path: Path):
    from small_model import write_small_model

    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"))
    with (
        Campaign.start(tmp_path / "new", template) as campaign,
        pytest.raises(UsageError, match="no first discharge that its model could learn from"),
    ):
        campaign.fine_tune()


def test_a_proposal_whose_measurement_stands_stays_measured(campaign: Campaign):
    record_round(campaign, FIRST)
    (measured,) = campaign.add_measurements(
        [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False
    )
    with pytest.raises(UsageError, match="R01-01 is measured and cannot become failed.*drx-screen retract R01-01"):
        campaign.mark("R01-01", State.FAILED, "two phases")
    assert campaign.state().proposal("R01-01").state is State.MEASURED
    campaign.retract_measurement(measured, "short circuit")
    assert campaign.state().proposal("R01-01").state is State.ACCEPTED
    campaign.mark("R01-01", State.FAILED, "two phases")
    assert campaign.state().proposal("R01-01").state is State.FAILED


# -- places ----------------------------------------------------------------------------------------------


# -- the face --------------------------------------------------------------------------------------------

FACES = {"recommend": propose, "rank": rank, "mark": mark, "fine_tune": fine_tune_campaign, "export": export_campaign}


@pytest.mark.parametrize("name", FACES)
def test_methods_take_what_their_verb_takes(name: str):
    face, verb = (inspect.signature(f).parameters for f in (getattr(Campaign, name), FACES[name]))
    shared = ("Workspace", "Snapshot", "Outcome")  # what a face has, and a reading that verbs share
    asked = {n: p for n, p in verb.items() if not any(kind in str(p.annotation) for kind in shared)}
    assert list(face)[1:] == list(asked)
    assert {n: p.default for n, p in face.items() if n != "self"} == {n: p.default for n, p in asked.items()}


@pytest.mark.parametrize(("option", "values"), [("method", Method), ("within", Within), ("order", Order)])
def test_command_line_offers_what_the_types_say(option: str, values: object):
    command = {"method": "propose"}.get(option, "rank")
    (offered,) = (p.type.choices for p in main.commands[command].params if p.name == option)
    assert set(offered) == set(get_args(values))


def test_what_a_campaign_is_can_be_read(campaign: Campaign):
    assert repr(campaign) == (f"<Campaign demo: round 0, nothing proposed, 0 discharges, model N01; {campaign.folder}>")
    record_round(campaign, FIRST, SECOND)
    campaign.mark("R01-01", "accepted")
    assert "round 1, 2 proposals (1 proposed, 1 accepted), 0 discharges" in repr(campaign)


def test_proposals_are_marked_from_python(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    assert campaign.mark(["R01-01", "R01-02"], "abandoned", "no niobium") == ("R01-01", "R01-02")
    with pytest.raises(UsageError, match="R01-01 is abandoned and cannot become failed"):
        campaign.mark("R01-01", State.FAILED, "late")


def test_files_are_ingested_with_what_the_lab_says(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    good = write_discharge(tmp_path / "good.json", FIRST, 240.0)
    bad = write_discharge(tmp_path / "bad.json", FIRST, 900.0)
    assert campaign.ingest(good, dry_run=True).measurements == ()
    done = campaign.ingest([good, str(bad)], sample=SampleInfo(cell="A"), fine_tune=False)
    assert [f.status for f in done.files] == ["recorded", "refused"]
    assert [(m.proposal_id, m.cell) for m in campaign.state().valid] == [("R01-01", "A")]
    with pytest.warns(DRXWarning, match="Recorded M0002, but not learned from"):
        campaign.ingest(write_discharge(tmp_path / "more.json", SECOND, 230.0))


def test_measurements_are_exported_and_reported(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    campaign.add_measurements([{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240}], fine_tune=False)
    assert campaign.export(tmp_path / "measured.csv") == 1
    written = campaign.report()
    assert written.page == campaign.folder / "report" / "report.html"
    assert FIRST in written.page.read_text()


def test_rows_and_batches_turn_into_data_frames(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    campaign.add_measurements([{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False)
    rows = campaign.rank("capacity", within="measured")
    assert isinstance(rows, list)
    frame = rows.to_frame()
    assert list(frame["composition"]) == [FIRST]
    assert list(frame) == list(rows[0])
    batch = Batch(campaign.state().proposals)
    assert batch == campaign.state().proposals
    assert list(batch.to_frame()["proposal_id"]) == ["R01-01", "R01-02"]
    assert Rows().to_frame().empty
