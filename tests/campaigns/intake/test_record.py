"""Returned files reach the right proposal, once, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_cycler as cycler
from ledgers import FIRST, HIGH, LOW, SECOND, THIRD, record_round, straight_profile, write_discharge

from campaigns.campaign import Campaign
from campaigns.intake.correction import supersede
from campaigns.intake.files import check_files
from campaigns.intake.matching import match_composition
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.record import ingest
from campaigns.ledger.records import State
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.errors import ConfigurationError, MeasurementError, UsageError
from drxnet.process import NOT_STATED

CELL_TABLE = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\n"


def hand_in(campaign: Campaign, *paths: Path, sample: SampleInfo | None = None, **options):
    return ingest(campaign, check_files(campaign, paths, otherwise=sample), **options)


def test_discharge_reaches_the_proposal_of_its_composition(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND)
    done = hand_in(campaign, write_discharge(tmp_path / "a.json", SECOND, 240.0))
    assert [(f.status, f.proposals) for f in done.files] == [("recorded", ("R01-02",))]
    (measured,) = campaign.state().valid
    assert (measured.proposal_id, measured.cell, measured.file) == ("R01-02", "a", "a.json")
    assert measured.capacity_mah_g == pytest.approx(240.0, abs=0.5)
    assert measured.average_voltage_v == pytest.approx(3.15, abs=0.02)
    assert [p.state for p in campaign.state().proposals] == [State.PROPOSED, State.MEASURED]


def test_returned_capacity_stands_beside_what_was_predicted(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    done = hand_in(campaign, write_discharge(tmp_path / "a.json", FIRST, 150.0, HIGH))
    (row,) = done.comparisons
    assert (row.proposal_id, row.current_ma_g, row.predicted_mah_g_std) == ("R01-01", 1000.0, 12.0)
    assert row.predicted_mah_g_mean == pytest.approx(275.0 * 0.7)


def test_composition_that_differs_by_rounding_is_the_same(campaign: Campaign):
    record_round(campaign, "Li1.175Mn0.425Ti0.4O2")
    same = Composition.parse("Li1.17Mn0.43Ti0.40O2")
    other = Composition.parse("Li1.15Mn0.45Ti0.4O2")
    assert match_composition(campaign.state(), same, NOT_STATED, "a.csv")[0] == "R01-01"
    assert match_composition(campaign.state(), other, NOT_STATED, "a.csv") == (None, other.formula)


def test_composition_nobody_proposed_is_attached_and_said_so(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    files = [write_discharge(tmp_path / f"{c.current_ma_g:g}.json", THIRD, 200.0, c) for c in (LOW, HIGH)]
    done = hand_in(campaign, *files)
    assert "never proposed" in done.files[0].notes[-1]
    proposal = campaign.state().proposal("LAB-01")
    assert (proposal.origin, proposal.composition, proposal.state) == ("lab", THIRD, State.MEASURED)
    assert {m.proposal_id for m in campaign.state().valid} == {"LAB-01"}


def test_same_file_twice_changes_nothing(campaign: Campaign, tmp_path: Path):
    path = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    hand_in(campaign, path)
    before = campaign.state()
    renamed = shutil.copy(path, tmp_path / "copy of a.json")
    for again in (path, Path(renamed)):
        done = hand_in(campaign, again)
        assert done.files[0].status == "known"
        assert "nothing changed" in done.files[0].notes[0]
    assert campaign.state() == before


def test_same_file_twice_in_one_go_is_recorded_once(campaign: Campaign, tmp_path: Path):
    path = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    done = hand_in(campaign, path, Path(shutil.copy(path, tmp_path / "b.json")))
    assert [f.status for f in done.files] == ["recorded", "known"]
    assert len(campaign.state().valid) == 1


def test_retracted_file_stays_retracted(campaign: Campaign, tmp_path: Path):
    path = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    hand_in(campaign, path)
    campaign.retract_measurement("M0001", "short circuit")
    done = hand_in(campaign, path)
    (note,) = done.files[0].notes
    assert "1 of its 1 discharges are withdrawn: short circuit" in note
    assert "drx-screen supersede a.json --active-mass RECORDED TRUE" in note
    assert campaign.state().valid == ()


def test_corrected_file_is_known_and_no_longer_withdrawn(campaign: Campaign, tmp_path: Path):
    path = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    hand_in(campaign, path)
    campaign.retract_measurement("M0001", "wrong active mass")
    supersede(campaign, ["M0001"], "re-weighed", scale=0.8)
    before = campaign.state()
    assert hand_in(campaign, path).files[0].notes == ("recorded before, as a.json; nothing changed",)
    assert campaign.state() == before


def test_bad_file_is_refused_and_the_good_one_recorded(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    folder = tmp_path / "in"
    folder.mkdir()
    write_discharge(folder / "good.json", FIRST, 240.0)
    write_discharge(folder / "much.json", FIRST, 900.0)
    done = hand_in(campaign, folder)
    assert [(Path(f.name).name, f.status) for f in done.files] == [("good.json", "recorded"), ("much.json", "refused")]
    assert any(r.id == "E3" for r in done.refused[0].rules)
    state = campaign.state()
    assert len(state.valid) == 1
    assert [(r.name.endswith("much.json"), r.rules[0]["id"]) for r in state.refused] == [(True, "E3")]


def test_all_or_nothing_records_none(campaign: Campaign, tmp_path: Path):
    good, bad = (
        write_discharge(tmp_path / "good.json", FIRST, 240.0),
        write_discharge(tmp_path / "much.json", FIRST, 900.0),
    )
    before = campaign.state().content()
    done = hand_in(campaign, good, bad, all_or_nothing=True)
    assert [f.status for f in done.files] == ["left out", "refused"]
    assert campaign.state().content() == before
    assert [f.status for f in hand_in(campaign, good).files] == ["recorded"]


def test_dry_run_says_the_same_and_records_nothing(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    before = campaign.state()
    paths = [write_discharge(tmp_path / "a.json", FIRST, 240.0), write_discharge(tmp_path / "b.json", FIRST, 900.0)]
    planned = hand_in(campaign, *paths, dry_run=True)
    assert campaign.state() == before
    done = hand_in(campaign, *paths)
    assert [(f.status, f.proposals) for f in planned.files] == [(f.status, f.proposals) for f in done.files]


def test_file_of_another_composition_is_refused_for_a_proposal(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    path = write_discharge(tmp_path / "a.json", SECOND, 240.0)
    done = hand_in(campaign, path, sample=SampleInfo(proposal="R01-01"))
    assert done.files[0].status == "refused"
    assert campaign.state().valid == ()


def test_unknown_proposal_is_refused_before_anything_is_read(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    with pytest.raises(UsageError, match="No proposal 'R07-01' in campaign demo. It has"):
        hand_in(campaign, write_discharge(tmp_path / "a.json", FIRST, 240.0), sample=SampleInfo(proposal="R07-01"))


def test_replicates_are_separate_cells(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    for name, capacity in (("one", 240.0), ("two", 243.0)):
        (tmp_path / name).mkdir()
        hand_in(campaign, write_discharge(tmp_path / name / "export.json", FIRST, capacity))
    assert [c.label for c in campaign.state().cells] == ["export", "export #2"]


def test_replicates_of_one_go_are_separate_cells(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    paths = []
    for name, capacity in (("one", 240.0), ("two", 243.0)):
        (tmp_path / name).mkdir()
        paths.append(write_discharge(tmp_path / name / "export.json", FIRST, capacity))
    hand_in(campaign, *paths)
    assert [c.label for c in campaign.state().cells] == ["export", "export #2"]


def test_named_cell_collects_its_files_and_refuses_the_same_discharge_twice(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    sample = SampleInfo(cell="A", proposal="R01-01")
    hand_in(campaign, write_discharge(tmp_path / "low.json", FIRST, 240.0), sample=sample)
    hand_in(campaign, write_discharge(tmp_path / "high.json", FIRST, 150.0, HIGH), sample=sample)
    assert [c.label for c in campaign.state().cells] == ["A"]
    again = hand_in(campaign, write_discharge(tmp_path / "again.json", FIRST, 241.0), sample=sample)
    assert again.files[0].status == "refused"
    assert "cell A of R01-01 has this discharge already" in again.files[0].rules[-1].message


def test_table_of_capacities_becomes_one_cell_per_rate_and_replicate(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    path = tmp_path / "summary.csv"
    rows = [(20, 1, 240), (20, 2, 238), (1000, 1, 150), (1000, 2, 149), (20, 1, 236)]
    path.write_text(CELL_TABLE + "".join(f"{FIRST},{rate},1.5,4.8,{cycle},{q}\n" for rate, cycle, q in rows))
    done = hand_in(campaign, path)
    assert done.files[0].status == "recorded", done.files[0].rules
    cells: dict[str, list[tuple[float, int]]] = {}
    for m in campaign.state().valid:
        cells.setdefault(m.cell, []).append((m.conditions.current_ma_g, m.conditions.cycle))
        assert m.provenance == "summary"
        assert m.average_voltage_v is None
    assert list(cells.values()) == [[(20.0, 1), (20.0, 2)], [(1000.0, 1), (1000.0, 2)], [(20.0, 1)]]


def test_rate_staircase_stays_one_cell_with_its_true_cycles(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    path = tmp_path / "staircase.csv"
    rows = [(20, 1, 240), (100, 2, 210), (1000, 3, 150)]
    path.write_text(CELL_TABLE + "".join(f"{FIRST},{rate},1.5,4.8,{cycle},{q}\n" for rate, cycle, q in rows))
    hand_in(campaign, path)
    assert len(campaign.state().cells) == 1
    (half,) = campaign.summarize()["half_measured"]
    assert half["missing"] == ["1000 mA/g"]


def test_sample_table_drives_a_folder(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    folder = tmp_path / "in"
    folder.mkdir()
    write_discharge(folder / "x1.json", FIRST, 240.0)
    write_discharge(folder / "x2.json", FIRST, 150.0, HIGH)
    table = folder / "samples.csv"
    table.write_text("file,proposal,cell\nx1.json,R01-01,A\nx2.json,R01-01,B\n")
    ingest(campaign, check_files(campaign, [folder], table=table))
    assert sorted((m.cell, m.conditions.current_ma_g) for m in campaign.state().valid) == [("A", 20.0), ("B", 1000.0)]


def test_sample_table_of_proposals_alone_goes_by_the_names_of_the_files(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    path, table = write_discharge(tmp_path / "R01-01_x.json", FIRST, 240.0), tmp_path / "samples.csv"
    table.write_text("proposal,cell\nR01-01,A\n")
    ((_, sample),) = check_files(campaign, [path], table=table)
    assert (sample.proposal, sample.cell) == ("R01-01", "A")


def test_sample_table_that_is_wrong_is_refused(campaign: Campaign, tmp_path: Path):
    table = tmp_path / "samples.csv"
    table.write_text("cell,active_mass_mg\nx,1\n")
    path = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    with pytest.raises(ConfigurationError, match="column 'file'"):
        check_files(campaign, [path], table=table)


@pytest.mark.parametrize("name", ["missing.csv", "empty"])
def test_path_that_holds_nothing_is_refused(campaign: Campaign, tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=name):
        check_files(campaign, [tmp_path / name])


# -- from Python -----------------------------------------------------------------------------------------


def test_rows_are_recorded_as_cells(campaign: Campaign):
    record_round(campaign, FIRST)
    profile = straight_profile(240.0)
    ids = campaign.add_measurements(
        [
            {"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}
            | {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g},
            {"composition": FIRST, "current_ma_g": 1000, "capacity_mah_g": 150.0, "cell": "B"},
            {"composition": THIRD, "current_ma_g": 20, "capacity_mah_g": 200.0, "sigma_mah_g": 4.0},
        ],
        fine_tune=False,
    )
    assert ids == ("M0001", "M0002", "M0003")
    state = campaign.state()
    assert [(m.proposal_id, m.cell) for m in state.valid] == [("R01-01", "cell"), ("R01-01", "B"), ("LAB-01", "cell")]
    assert state.valid[0].average_voltage_v == pytest.approx(3.15)
    assert state.valid[2].sigma_mah_g == 4.0


def test_data_frame_is_taken_as_rows(campaign: Campaign):
    frame = pd.DataFrame({"composition": [FIRST, SECOND], "current_ma_g": 20.0, "capacity_mah_g": [240.0, 230.0]})
    assert len(campaign.add_measurements(frame, fine_tune=False)) == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"capacity_mah_g": 900.0}, MeasurementError, "between 0 and that of all lithium, 395"),
        ({"capacity_mah_g": float("inf")}, MeasurementError, "between 0 and"),
        ({"capacity_mah_g": -1.0}, MeasurementError, "between 0 and"),
        ({"capacity_mah_g": "many"}, MeasurementError, "many"),
        ({"current_ma_g": 0}, MeasurementError, "current must be positive"),
        ({"cycle": 0}, MeasurementError, "counted from 1"),
        ({"composition": "NaCl"}, MeasurementError, "Measurement 2"),
        ({"composition": None}, UsageError, "give proposal_id or composition"),
        ({"capacity": 3.0}, UsageError, "unknown key capacity"),
        ({"proposal_id": "R09-01"}, UsageError, "No proposal"),
        ({"voltage_v": [1.5, 4.8], "profile_mah_g": [100.0, 0.0]}, MeasurementError, "profile ends at 100.0"),
        ({"voltage_v": [4.8, 1.5], "profile_mah_g": [0.0, 240.0]}, MeasurementError, "ascend"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_row_that_cannot_be_trusted_is_refused_with_all_others(campaign: Campaign, change, error, message):
    good = {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}
    before = campaign.state()
    with pytest.raises(error, match=message):
        campaign.add_measurements([good, {**good, **change}], fine_tune=False)
    assert campaign.state() == before


def test_no_row_is_refused(campaign: Campaign):
    with pytest.raises(UsageError, match="No measurement to add"):
        campaign.add_measurements([], fine_tune=False)


def test_update_supersedes_and_scales_the_profile(campaign: Campaign, tmp_path: Path):
    hand_in(campaign, write_discharge(tmp_path / "a.json", FIRST, 240.0))
    old = campaign.state().valid[0]
    new = campaign.update_measurement("M0001", "re-weighed", capacity_mah_g=old.capacity_mah_g / 2)
    state = campaign.state()
    assert (state.measurements[0].status, state.measurements[0].superseded_by) == ("superseded", new)
    (valid,) = campaign.ledger.profiles(state.valid)
    assert valid.measurement.conditions == old.conditions
    assert valid.profile is not None
    np.testing.assert_allclose(valid.profile.total_capacity_mah_g, old.capacity_mah_g / 2, rtol=1e-6)
    with pytest.raises(UsageError, match="M0001 was superseded before: re-weighed"):
        campaign.update_measurement("M0001", "again", capacity_mah_g=1.0)


def test_retracted_measurement_can_be_corrected_and_keeps_its_first_reason(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    hand_in(campaign, write_discharge(tmp_path / "a.json", FIRST, 240.0))
    campaign.retract_measurement("M0001", "wrong active mass")
    record_round(campaign, SECOND)
    assert supersede(campaign, ["m0001"], "re-weighed", scale=0.98) == ("M0002",)
    old, new = campaign.state().measurements
    assert (old.status, old.superseded_by, old.withdrawn_reason) == ("superseded", "M0002", "wrong active mass")
    assert new.status == "valid"
    assert "re-weighed" in campaign.state().events[-1].summary
    assert campaign.state().proposal("R01-01").state is State.MEASURED
    then = campaign.state(as_of=2).measurements
    assert [(m.status, m.superseded_by) for m in then] == [("retracted", None)]
    with pytest.raises(UsageError, match="M0001 was superseded before: wrong active mass"):
        supersede(campaign, ["M0001"], "again", scale=0.9)


@pytest.mark.parametrize(
    ("recorded", "scale", "current"),
    [(20.0, 0.98, 20.0), (20.0, 0.8, 16.0), (25.0, 0.8, 20.0), (1100.0, 0.9, 1000.0), (100.0, 0.98, 98.0)],
    ids=["still-nominal", "not-any-more", "now-nominal", "high-rate", "neither"],
)
def test_wrong_mass_changes_the_current_too(campaign: Campaign, recorded: float, scale: float, current: float):
    row = {"composition": FIRST, "current_ma_g": recorded, "capacity_mah_g": 200.0}
    campaign.add_measurements([row], fine_tune=False)
    supersede(campaign, ["M0001"], "re-weighed", scale=scale)
    (corrected,) = campaign.state().valid
    assert corrected.conditions.current_ma_g == pytest.approx(current)
    assert corrected.capacity_mah_g == pytest.approx(200.0 * scale)
    supersede(campaign, ["M0002"], "set to 30", {"current_ma_g": 30.0}, scale=0.9)
    assert campaign.state().valid[0].conditions.current_ma_g == 30.0


def test_conditions_that_are_not_the_campaigns_are_no_comparison(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    other = CyclingConditions(20.0, 2.0, 4.4)
    done = hand_in(campaign, write_discharge(tmp_path / "a.json", FIRST, 200.0, other))
    assert done.comparisons == ()
    assert campaign.state().valid[0].conditions.window == (2.0, 4.4)


def test_proposal_in_the_name_of_a_file_is_found_and_said(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND)
    export = cycler.write(tmp_path / "2026-05_r01_02_cellA.csv", cycler.arbin_csv(cycler.cell_test()))
    told = SampleInfo(cycler.MASS_MG, current_ma_g=20.0, window=cycler.WINDOW)
    done = hand_in(campaign, export, sample=told)
    assert (done.files[0].status, done.files[0].proposals) == ("recorded", ("R01-02",))
    assert "proposal R01-02, as the name of the file says" in done.files[0].notes
    other = cycler.write(tmp_path / "R01-02_b.csv", cycler.arbin_csv(cycler.cell_test(capacity_mah=0.43)))
    done = hand_in(campaign, other, sample=SampleInfo(cycler.MASS_MG, None, 20.0, cycler.WINDOW, proposal="R01-01"))
    assert (done.files[0].status, done.files[0].proposals) == ("doubtful", ("R01-01",))
    assert any("the name of the file says R01-02; table says R01-01" in str(rule) for rule in done.files[0].rules)
    third = cycler.write(tmp_path / "R01-02_c.csv", cycler.arbin_csv(cycler.cell_test(capacity_mah=0.41)))
    done = hand_in(campaign, third, sample=SampleInfo(cycler.MASS_MG, FIRST, 20.0, cycler.WINDOW))
    assert (done.files[0].status, done.files[0].rules[0].id) == ("doubtful", "D4")
    fourth = cycler.write(tmp_path / "R01-02_d.csv", cycler.arbin_csv(cycler.cell_test(capacity_mah=0.42)))
    done = hand_in(campaign, fourth, sample=SampleInfo(cycler.MASS_MG, SECOND, 20.0, cycler.WINDOW))
    assert done.files[0].status == "recorded"


def test_table_of_capacities_may_name_proposals(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND)
    table = tmp_path / "capacities.csv"
    table.write_text(
        "Proposal;cell;current (mA/g);window;discharge capacity (mAh/g)\nR01-02;A;20;1,5-4,8;231,5\n"
        "R01-01;B;1000;1,5-4,8;150\n"
    )
    done = hand_in(campaign, table)
    assert (done.files[0].status, done.files[0].proposals) == ("recorded", ("R01-02", "R01-01"))
    assert {(m.proposal_id, m.cell, m.capacity_mah_g) for m in campaign.state().valid} == {
        ("R01-02", "A", 231.5), ("R01-01", "B", 150.0),
    }  # fmt: skip


def test_row_whose_standard_error_is_no_number_is_refused_in_a_sentence(campaign: Campaign):
    row = {"composition": FIRST, "current_ma_g": 20.0, "capacity_mah_g": 240.0, "sigma_mah_g": "three"}
    with pytest.raises(MeasurementError, match=r"Measurement 1 \(Li.*\): could not convert string to float: 'three'"):
        campaign.add_measurements([row], fine_tune=False)


@pytest.mark.parametrize("key", ["current_ma_g", "capacity_mah_g", "sigma_mah_g", "v_high", "cycle"])
@pytest.mark.parametrize("value", [True, np.True_])
def test_truth_value_is_no_number(campaign: Campaign, key: str, value: object):
    row = {"composition": FIRST, "current_ma_g": 20.0, "capacity_mah_g": 240.0, key: value}
    with pytest.raises(MeasurementError, match=r"Measurement 1 \(Li.*\): A number is needed. Got True"):
        campaign.add_measurements([row], fine_tune=False)
    assert not campaign.state().measurements
