"""A cell stays one cell, however often and in whatever form its test comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, record_round
from running_cells import MASS_MG, hand_in, held, running_test, write_cycles
from synthetic_cycler import WINDOW

from campaigns.campaign import Campaign
from campaigns.intake.correction import supersede
from campaigns.intake.files import check_files
from campaigns.intake.identity import Lane, lane_of
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.record import ingest
from drxnet.discharge import CyclingConditions

TEST = running_test([240.0, 237.0, 235.0, 232.0, 230.0])


@pytest.fixture
def proposed(campaign: Campaign) -> Campaign:
    record_round(campaign, FIRST, SECOND)
    return campaign


@pytest.mark.parametrize("labels", [(None, None, None), ("A", "A", "A"), (None, "A", None)], ids=str)
def test_growing_exports_stay_one_cell(proposed: Campaign, tmp_path: Path, labels):
    for week, (last, label) in enumerate(zip((1, 3, 5), labels, strict=True), start=1):
        done = hand_in(
            proposed, write_cycles(tmp_path / f"week{week}.csv", TEST, last=last), composition=FIRST, cell=label
        )
        assert done.status == "recorded", done.rules
    cell = labels[0] or "week1"
    assert held(proposed) == [("R01-01", cell, n, q) for n, q in enumerate((240.0, 237.0, 235.0, 232.0, 230.0), 1)]
    assert [c.label for c in proposed.state().cells] == [cell]
    assert f"extends cell {cell} of R01-01: cycles 1-3 known already, cycles 4-5 added" in done.notes
    assert (done.known, done.discharges) == (3, 2)


def test_dry_run_speaks_in_the_conditional(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=1), composition=FIRST)
    path, sample = write_cycles(tmp_path / "b.csv", TEST, last=2), SampleInfo(MASS_MG, FIRST, 20.0, WINDOW)
    checked = check_files(proposed, [path], otherwise=sample)
    (said,) = ingest(proposed, checked, dry_run=True).files
    assert "extends cell a of R01-01: cycle 1 known already, cycle 2 would be added" in said.notes
    assert len(proposed.state().standing) == 1


@pytest.mark.parametrize("change", ["crlf", "fewer digits", "another name"])
def test_the_same_discharge_in_other_bytes_changes_nothing(proposed: Campaign, tmp_path: Path, change: str):
    path = write_cycles(tmp_path / "a.csv", TEST, last=2)
    hand_in(proposed, path, composition=FIRST)
    before = proposed.state()
    again = write_cycles(tmp_path / "b.csv", TEST, last=2, crlf=change == "crlf")
    if change == "fewer digits":
        header, *rows = path.read_text().strip().split("\n")
        cells = [[f"{float(c):.5g}" for c in row.split(",")] for row in rows]
        again.write_text("\n".join([header, *(",".join(row) for row in cells)]) + "\n")
    if change == "another name":
        again.write_bytes(path.read_bytes() + b"\n")
    done = hand_in(proposed, again, composition=FIRST)
    assert (done.status, done.discharges, done.known) == ("known", 0, 2), done
    assert proposed.state() == before


def test_what_was_exported_is_known_when_it_comes_back(proposed: Campaign, tmp_path: Path):
    from campaigns.report.export import export_campaign

    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=3), composition=FIRST)
    before = proposed.state()
    for form, name in (("drx-td", "all.drxtd.csv"), ("csv", "all.csv")):
        export_campaign(proposed, tmp_path / name, form=form)
        (done,) = ingest(proposed, check_files(proposed, [tmp_path / name])).files
        assert (done.status, done.known) == ("known", 3), done
    assert proposed.state() == before


def test_rows_sent_twice_from_python_count_once(proposed: Campaign):
    rows = [{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": q} for q in (240.0, 236.0)]
    assert len(proposed.add_measurements([*rows, rows[0]], fine_tune=False)) == 2
    assert proposed.add_measurements(rows, fine_tune=False) == ()
    labelled = [{**rows[0], "cell": "B"}]
    assert len(proposed.add_measurements(labelled, fine_tune=False)) == 1
    assert proposed.add_measurements(labelled, fine_tune=False) == ()
    assert [m.capacity_mah_g for m in proposed.state().standing] == [240.0, 236.0, 240.0]


def test_replicates_that_differ_a_little_are_two_cells(proposed: Campaign, tmp_path: Path):
    for name, q in (("a", 240.0), ("b", 239.4)):
        hand_in(proposed, write_cycles(tmp_path / f"{name}.csv", running_test([q])), composition=FIRST)
    assert held(proposed) == [("R01-01", "a", 1, 240.0), ("R01-01", "b", 1, 239.4)]


def test_label_that_has_another_discharge_is_refused_with_the_ways_out(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=1), composition=FIRST, cell="A")
    done = hand_in(
        proposed, write_cycles(tmp_path / "b.csv", running_test([225.0, 224.0])), composition=FIRST, cell="A"
    )
    assert done.status == "refused"
    message = done.rules[-1].message
    assert "cell A of R01-01 has this discharge already" in message
    assert "M0001 gives 240 mAh/g, this one 225" in message
    assert "another label" in message
    assert len(proposed.state().standing) == 1


def test_part_of_a_test_is_no_first_cycle_until_it_is_stated(proposed: Campaign, tmp_path: Path):
    part = write_cycles(tmp_path / "part2.csv", TEST, first=3)
    done = hand_in(proposed, part, composition=FIRST)
    assert done.status == "refused"
    assert any("--first-cycle 3" in r.message and "--continues CELL" in r.message for r in done.rules)
    assert held(proposed) == []
    hand_in(proposed, write_cycles(tmp_path / "part 1.csv", TEST, last=2), composition=FIRST)
    done = hand_in(proposed, part, composition=FIRST)
    assert "it begins with cycle 3, which comes next in cell part 1 of R01-01: --continues 'part 1'" in done.notes
    proposed.retract_measurement("part 1.csv", "another cell after all")
    assert hand_in(proposed, part, composition=FIRST, first_cycle=3).status == "recorded"
    assert [n for _, _, n, _ in held(proposed)] == [3, 4, 5]


def test_number_alone_does_not_make_another_cell_of_a_test_that_is_known(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "part 1.csv", TEST, last=2), composition=FIRST)
    part = write_cycles(tmp_path / "part2.csv", TEST, first=3)
    done = hand_in(proposed, part, composition=FIRST, first_cycle=3)
    assert done.status == "refused"
    assert "holds cycles from 3 on, and cell part 1 of R01-01 has earlier ones at this rate" in done.rules[-1].message
    assert "--continues 'part 1'" in done.rules[-1].message
    assert "--cell NAME" in done.rules[-1].message
    assert hand_in(proposed, part, composition=FIRST, continues="part 1").status == "recorded"
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("part 1", n) for n in range(1, 6)]


def test_number_with_a_new_label_is_another_cell(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "part 1.csv", TEST, last=2), composition=FIRST)
    part = write_cycles(tmp_path / "part2.csv", TEST, first=3)
    assert hand_in(proposed, part, composition=FIRST, first_cycle=3, cell="B").status == "recorded"
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("part 1", 1), ("part 1", 2), ("B", 3), ("B", 4), ("B", 5)]


def test_number_alone_is_enough_beside_a_cell_at_another_rate(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "part 1.csv", TEST, last=2), composition=FIRST)
    fast = running_test((180.0, 178.0, 176.0), current_ma_g=1000.0)
    part = write_cycles(tmp_path / "fast.csv", fast, first=3)
    done = hand_in(proposed, part, composition=FIRST, first_cycle=3, current_ma_g=1000.0)
    assert done.status in ("recorded", "doubtful"), done.rules
    assert held(proposed)[-1][1:3] == ("fast", 3)


@pytest.mark.parametrize("named", ["A", "part1.csv", "part1"])
def test_part_that_continues_a_cell_joins_it(proposed: Campaign, tmp_path: Path, named: str):
    label = None if named.startswith("part1") else "A"
    hand_in(proposed, write_cycles(tmp_path / "part1.csv", TEST, last=2), composition=FIRST, cell=label)
    done = hand_in(proposed, write_cycles(tmp_path / "part2.csv", TEST, first=3), continues=named)
    assert done.status == "recorded", done.rules
    assert [(c, n) for _, c, n, _ in held(proposed)] == [(label or "part1", n) for n in range(1, 6)]
    assert any("goes on with cell" in note for note in done.notes)


def test_parts_come_in_any_order_in_one_go(proposed: Campaign, tmp_path: Path):
    samples = {
        write_cycles(tmp_path / "a3.csv", TEST, first=5): SampleInfo(MASS_MG, None, 20.0, WINDOW, continues="a1.csv"),
        write_cycles(tmp_path / "a2.csv", TEST, 3, 4): SampleInfo(MASS_MG, None, 20.0, WINDOW, continues="a1.csv"),
        write_cycles(tmp_path / "a1.csv", TEST, last=2): SampleInfo(MASS_MG, FIRST, 20.0, WINDOW),
    }
    checked = [pair for path, s in samples.items() for pair in check_files(proposed, [path], otherwise=s)]
    assert [f.status for f in ingest(proposed, checked).files] == ["recorded"] * 3
    assert sorted((c, n) for _, c, n, _ in held(proposed)) == [("a1", n) for n in range(1, 6)]


def test_charge_in_one_file_and_discharge_in_the_next_are_joined(proposed: Campaign, tmp_path: Path):
    from synthetic_cycler import arbin_csv

    cut = int(TEST[(TEST.cycle == 2) & (TEST.state == "C")].index.max()) + 1
    (tmp_path / "one.csv").write_text(arbin_csv(TEST.iloc[:cut]))
    (tmp_path / "two.csv").write_text(arbin_csv(TEST.iloc[cut:]))
    assert hand_in(proposed, tmp_path / "one.csv", composition=FIRST).status == "recorded"
    done = hand_in(proposed, tmp_path / "two.csv", continues="one")
    assert done.status == "recorded", done.rules
    assert held(proposed) == [("R01-01", "one", n, q) for n, q in enumerate((240.0, 237.0, 235.0, 232.0, 230.0), 1)]


def test_discharge_that_two_files_share_is_left_out_and_the_rest_keeps_its_numbers(proposed: Campaign, tmp_path: Path):
    from synthetic_cycler import arbin_csv

    middle = TEST[(TEST.cycle == 2) & (TEST.state == "D")].index
    cut = int(middle[len(middle) // 2])
    (tmp_path / "one.csv").write_text(arbin_csv(TEST.iloc[:cut]))
    (tmp_path / "two.csv").write_text(arbin_csv(TEST.iloc[cut:]))
    assert hand_in(proposed, tmp_path / "one.csv", composition=FIRST).status == "recorded"
    done = hand_in(proposed, tmp_path / "two.csv", continues="one")
    assert done.status == "recorded", done.rules
    assert [(n, q) for _, _, n, q in held(proposed)] == [(1, 240.0), (3, 235.0), (4, 232.0), (5, 230.0)]


def test_part_whose_own_numbers_begin_again_goes_on_after_the_last(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "one.csv", running_test([240.0, 238.0])), composition=FIRST)
    done = hand_in(proposed, write_cycles(tmp_path / "two.csv", running_test([236.0, 234.0])), continues="one")
    assert done.status == "recorded", done.rules
    assert [(n, q) for _, _, n, q in held(proposed)] == [(1, 240.0), (2, 238.0), (3, 236.0), (4, 234.0)]


def test_late_part_of_a_labelled_or_overlapping_test_finds_its_place(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "one.csv", TEST, last=3), composition=FIRST, cell="A")
    overlapping = hand_in(proposed, write_cycles(tmp_path / "two.csv", TEST, 3, 4), composition=FIRST)
    assert (overlapping.status, overlapping.known, overlapping.discharges) == ("recorded", 1, 1), overlapping.rules
    labelled = hand_in(proposed, write_cycles(tmp_path / "three.csv", TEST, 5, 5), composition=FIRST, cell="A")
    assert labelled.status == "recorded", labelled.rules
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("A", n) for n in range(1, 6)]


def test_part_that_continues_nothing_known_is_refused(proposed: Campaign, tmp_path: Path):
    done = hand_in(proposed, write_cycles(tmp_path / "p.csv", TEST, first=3), composition=FIRST, continues="nobody")
    assert done.status == "refused"
    assert "no cell of this label and no recorded file of this name" in done.rules[-1].message


def test_growing_export_of_a_retracted_and_a_corrected_discharge(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), composition=FIRST)
    proposed.retract_measurement("M0002", "temperature fell")
    done = hand_in(proposed, write_cycles(tmp_path / "b.csv", TEST, last=3), composition=FIRST)
    assert any("M0002 of it is withdrawn: temperature fell" in note for note in done.notes)
    assert [n for _, _, n, _ in held(proposed)] == [1, 3]
    supersede(proposed, ["M0001", "M0003"], "re-weighed", scale=MASS_MG / 1.7)
    old_mass = hand_in(proposed, write_cycles(tmp_path / "c.csv", TEST, last=4), composition=FIRST)
    assert old_mass.status == "refused"
    assert "counts by 1.7 mg of active mass; 1.8 mg is given now" in old_mass.rules[-1].message
    new_mass = hand_in(
        proposed,
        write_cycles(tmp_path / "c.csv", TEST, last=4),
        composition=FIRST,
        active_mass_mg=1.7,
        current_ma_g=None,
    )
    assert (new_mass.status, new_mass.discharges) == ("recorded", 1), new_mass.rules
    assert [n for _, _, n, _ in held(proposed)] == [1, 3, 4]


def test_cell_whose_only_discharge_is_retracted_stays_one_cell(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "export 1.csv", TEST, last=1), proposal="R01-01")
    proposed.retract_measurement("M0001", "short circuit")
    part = write_cycles(tmp_path / "export 2.csv", TEST, 2, 2)
    assert hand_in(proposed, part, proposal="R01-01", first_cycle=2).status == "recorded"
    whole = hand_in(proposed, write_cycles(tmp_path / "export 3.csv", TEST, last=2), proposal="R01-01")
    assert (whole.status, whole.known) == ("known", 2), whole
    assert "M0001 of it is withdrawn: short circuit" in whole.notes
    grown = hand_in(proposed, write_cycles(tmp_path / "export 4.csv", TEST, last=3), proposal="R01-01")
    assert (grown.status, grown.known, grown.discharges) == ("recorded", 2, 1), grown.rules
    assert held(proposed) == [("R01-01", "export 2", 2, 237.0), ("R01-01", "export 2", 3, 235.0)]


def test_discharge_counts_once_where_its_test_was_said_to_be_two_cells(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), proposal="R01-01")
    part = write_cycles(tmp_path / "part.csv", TEST, 3, 3)
    hand_in(proposed, part, proposal="R01-01", first_cycle=3, cell="B")
    before = proposed.state()
    whole = hand_in(proposed, write_cycles(tmp_path / "whole.csv", TEST, last=3), proposal="R01-01")
    assert (whole.status, whole.known) == ("known", 3), whole
    assert proposed.state() == before
    grown = write_cycles(tmp_path / "grown.csv", TEST, last=4)
    done = hand_in(proposed, grown, proposal="R01-01")
    assert done.status == "refused"
    assert "cycle 4: is beside discharges of cell a and of cell B of R01-01" in done.rules[-1].message
    assert "drx-screen supersede M0003 --cell a --reason TEXT" in done.rules[-1].message
    supersede(proposed, ["M0003"], "one cell", {"cell": "a"})
    assert hand_in(proposed, grown, proposal="R01-01").status == "recorded"
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("a", n) for n in (1, 2, 3, 4)]


def test_two_cells_in_a_table_that_names_none_are_known_when_they_come_back(proposed: Campaign, tmp_path: Path):
    from campaigns.report.export import export_campaign

    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), composition=FIRST)
    longer = running_test([220.0, 219.0, 218.0, 217.0])
    hand_in(proposed, write_cycles(tmp_path / "b.csv", longer), composition=FIRST)
    before = proposed.state()
    export_campaign(proposed, tmp_path / "all.drxtd.csv", form="drx-td")
    (done,) = ingest(proposed, check_files(proposed, [tmp_path / "all.drxtd.csv"])).files
    assert (done.status, done.known) == ("known", 6), done
    assert proposed.state() == before


def test_discharge_retracted_as_another_cells_does_not_draw_that_cell_in(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "wrong.csv", TEST, last=1), proposal="R01-01", cell="A")
    proposed.retract_measurement("M0001", "it was cell B")
    for last in (3, 4):
        done = hand_in(proposed, write_cycles(tmp_path / f"b{last}.csv", TEST, last=last), proposal="R01-01", cell="B")
        assert done.status == "recorded", done.rules
    true_a = write_cycles(tmp_path / "a.csv", running_test([220.0]))
    assert hand_in(proposed, true_a, proposal="R01-01", cell="A").status == "recorded"
    unlabelled = hand_in(proposed, write_cycles(tmp_path / "b5.csv", TEST), proposal="R01-01")
    assert unlabelled.status == "recorded", unlabelled.rules
    assert sorted(held(proposed)) == [
        ("R01-01", "A", 1, 220.0),
        *(("R01-01", "B", n, q) for n, q in ((2, 237.0), (3, 235.0), (4, 232.0), (5, 230.0))),
    ]


@pytest.mark.parametrize("way", ["the old label", "a move", "late"])
def test_label_beside_a_retracted_discharge_of_a_cell_that_stands_is_asked_about(
    proposed: Campaign, tmp_path: Path, way: str
):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), proposal="R01-01")
    proposed.retract_measurement("M0002", "short circuit")
    part, said = write_cycles(tmp_path / "part.csv", TEST, 2, 3), {"proposal": "R01-01", "first_cycle": 2}
    if way == "late":
        assert any("E13" in str(rule) for rule in hand_in(proposed, part, proposal="R01-01", cell="B").rules)
    done = hand_in(proposed, part, cell="B", **said)
    assert done.status == "refused"
    assert "is beside M0002, withdrawn: short circuit, of cell a of R01-01" in done.rules[-1].message
    if way == "a move":
        assert "drx-screen supersede M0002 --cell B --reason TEXT" in done.rules[-1].message
        supersede(proposed, ["M0002"], "another cell", {"cell": "B"})
        proposed.retract_measurement("M0003", "short circuit")
        assert hand_in(proposed, part, cell="B", **said).status == "recorded"
        assert [(c, n) for _, c, n, _ in held(proposed)] == [("a", 1), ("B", 3)]
    else:
        assert "Where it is: --cell a." in done.rules[-1].message
        assert hand_in(proposed, part, cell="a", **said).status == "recorded"
        assert [(c, n) for _, c, n, _ in held(proposed)] == [("a", 1), ("a", 3)]


def test_retracted_discharge_goes_with_its_cell_to_another_proposal(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), proposal="R01-01")
    proposed.retract_measurement("M0001", "short circuit")
    supersede(proposed, ["M0002"], "swapped", {"proposal_id": "R01-02"})
    old = hand_in(proposed, write_cycles(tmp_path / "b.csv", TEST, last=2, crlf=True), proposal="R01-01")
    assert old.status == "refused"
    assert "drx-screen supersede M0003 --proposal R01-01" in old.rules[-1].message
    new = hand_in(proposed, write_cycles(tmp_path / "c.csv", TEST, last=3), proposal="R01-02")
    assert (new.status, new.known, new.discharges) == ("recorded", 2, 1), new.rules
    assert "M0001 of it is withdrawn: short circuit" in new.notes
    assert held(proposed) == [("R01-02", "a", 2, 237.0), ("R01-02", "a", 3, 235.0)]


def test_discharge_retracted_for_one_proposal_does_not_count_for_another_unasked(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=1), proposal="R01-01")
    proposed.retract_measurement("M0001", "short circuit")
    whole = write_cycles(tmp_path / "b.csv", TEST, last=2)
    done = hand_in(proposed, whole, proposal="R01-02")
    assert done.status == "refused"
    assert "is the discharge M0001, withdrawn: short circuit, of R01-01 (cell a)" in done.rules[-1].message
    assert "drx-screen supersede M0001 --proposal R01-02 --reason TEXT, and retract" in done.rules[-1].message
    supersede(proposed, ["M0001"], "it was R01-02", {"proposal_id": "R01-02"})
    proposed.retract_measurement("M0002", "short circuit")
    assert hand_in(proposed, whole, proposal="R01-02").status == "recorded"
    assert held(proposed) == [("R01-02", "a", 2, 237.0)]


@pytest.mark.parametrize("retracted", [["M0002"], ["M0001", "M0002"]], ids=["last", "all"])
def test_part_that_begins_again_after_a_retracted_discharge_is_asked_for_its_number(
    proposed: Campaign, tmp_path: Path, retracted: list[str]
):
    hand_in(proposed, write_cycles(tmp_path / "one.csv", running_test([240.0, 238.0])), composition=FIRST)
    for name in retracted:
        proposed.retract_measurement(name, "short circuit")
    before = held(proposed)
    part = write_cycles(tmp_path / "two.csv", running_test([236.0, 234.0]))
    done = hand_in(proposed, part, continues="one")
    assert done.status == "refused"
    assert "--first-cycle N" in done.rules[-1].message
    assert hand_in(proposed, part, continues="one", first_cycle=3).status == "recorded"
    assert held(proposed) == [*before, ("R01-01", "one", 3, 236.0), ("R01-01", "one", 4, 234.0)]


def _table(path: Path, first: int) -> Path:
    """A table of the third and fourth capacity of TEST, numbered from `first`."""
    rows = [f"{FIRST},20,1.5,4.8,{first + n},{q}" for n, q in enumerate((235.0, 232.0))]
    path.write_text("\n".join(["composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g", *rows]) + "\n")
    return path


@pytest.mark.parametrize(("first", "said"), [(1, {}), (3, {}), (1, {"first_cycle": 3})], ids=["1", "3", "stated"])
def test_table_that_continues_a_cell_goes_on_after_it_or_keeps_its_numbers(
    proposed: Campaign, tmp_path: Path, first: int, said: dict[str, int]
):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), composition=FIRST)
    done = hand_in(proposed, _table(tmp_path / "table.csv", first), continues="a", **said)
    assert done.status == "recorded", done.rules
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("a", n) for n in (1, 2, 3, 4)]


def test_table_that_continues_a_retracted_cell_is_asked_for_its_number(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=2), composition=FIRST)
    proposed.retract_measurement("a.csv", "short circuit")
    table = _table(tmp_path / "table.csv", 1)
    done = hand_in(proposed, table, continues="a")
    assert done.status == "refused"
    assert "nothing tells the number of its first discharge. State --first-cycle N" in done.rules[-1].message
    assert hand_in(proposed, table, continues="a", first_cycle=3).status == "recorded"
    assert [(c, n) for _, c, n, _ in held(proposed)] == [("a", 3), ("a", 4)]


def test_discharge_of_another_proposal_is_refused_with_the_way_to_move_it(proposed: Campaign, tmp_path: Path):
    hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=1), proposal="R01-01")
    done = hand_in(proposed, write_cycles(tmp_path / "b.csv", TEST, last=2), proposal="R01-02")
    assert done.status == "refused"
    assert "drx-screen supersede M0001 --proposal R01-02" in done.rules[-1].message
    supersede(proposed, ["M0001"], "labels swapped", {"proposal_id": "R01-02"})
    done = hand_in(proposed, write_cycles(tmp_path / "b.csv", TEST, last=2), proposal="R01-02")
    assert done.status == "recorded", done.rules
    assert [(p, n) for p, _, n, _ in held(proposed)] == [("R01-02", 1), ("R01-02", 2)]


def test_same_file_for_another_proposal_says_where_it_is_recorded(proposed: Campaign, tmp_path: Path):
    path = write_cycles(tmp_path / "a.csv", TEST, last=1)
    hand_in(proposed, path, proposal="R01-01")
    done = hand_in(proposed, path, proposal="R01-02")
    assert done.status == "known"
    assert (
        "recorded for R01-01, not for R01-02; if that is wrong: drx-screen supersede a.csv --proposal R01-02"
        in (done.notes[0])
    )


def test_lane_takes_one_rate_or_a_staircase():
    lanes: list[Lane] = []
    for current, cycle in ((20, 1), (20, 2), (1000, 1), (20, 1), (100, 3)):
        lane_of(lanes, CyclingConditions(float(current), cycle=cycle))
    assert [sorted(lane.cycles) for lane in lanes] == [[1, 2, 3], [1], [1]]


@pytest.mark.parametrize("way", ["sample", "table"])
def test_composition_as_measured_is_recorded_beside_the_target(proposed: Campaign, tmp_path: Path, way: str):
    path, measured = write_cycles(tmp_path / "a.csv", TEST, last=1), "Li1.15Mn0.42Ti0.43O2"
    if way == "sample":
        assert hand_in(proposed, path, proposal="R01-01", icp=measured).status == "recorded"
    else:
        table = tmp_path / "samples.csv"
        table.write_text(
            f"file,proposal,active_mass_mg,current_ma_g,window,icp\na.csv,R01-01,1.8,20,1.5-4.8,{measured}\n"
        )
        ingest(proposed, check_files(proposed, [path], table=table))
    state = proposed.state()
    assert list(state.analysed) == ["R01-01"]
    assert state.made("R01-01") == FIRST
    assert state.valid[0].composition == FIRST


def test_composition_as_measured_that_is_none_is_refused(proposed: Campaign, tmp_path: Path):
    done = hand_in(proposed, write_cycles(tmp_path / "a.csv", TEST, last=1), proposal="R01-01", icp="NaCl")
    assert done.status == "refused"
    assert "The composition as measured" in done.rules[-1].message
