from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, straight_profile

from campaigns.campaign import Campaign
from campaigns.ledger.records import DOUBTFUL
from campaigns.report.export import export_campaign, form_of
from drxnet.drxtd import read
from drxnet.errors import UsageError


@pytest.fixture
def measured(campaign: Campaign) -> Campaign:
    """One discharge with a profile, one without."""
    profile = straight_profile(240.0)
    with_profile = {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g}
    rows = [{"composition": c, "current_ma_g": 20, "capacity_mah_g": 240.0} for c in (FIRST, SECOND)]
    campaign.add_measurements([rows[0] | with_profile, rows[1]], fine_tune=False)
    return campaign


def test_csv_holds_one_row_per_discharge_with_units(measured: Campaign, tmp_path: Path):
    assert export_campaign(measured, tmp_path / "out.csv") == 2
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["composition"] for row in rows] == [FIRST, SECOND]
    assert {"capacity_mah_g", "current_ma_g", "average_voltage_v"} <= set(rows[0])


def test_what_is_doubtful_is_left_out_and_told(measured: Campaign, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with measured.ledger.write("judge") as entry:
        entry.judge("M0001", DOUBTFUL, "D1", "ten times too light")
    assert export_campaign(measured, tmp_path / "out.csv") == 1
    assert caplog.messages == ["1 doubtful discharges left out; `drx-screen status` says why."]
    caplog.clear()
    assert export_campaign(measured, tmp_path / "all.csv", withdrawn=True) == 2
    assert caplog.messages == []


def test_json_holds_profiles_to_the_last_digit(measured: Campaign, tmp_path: Path):
    export_campaign(measured, tmp_path / "out.json")
    first, second = json.loads((tmp_path / "out.json").read_text())["measurements"]
    assert first["profile"]["capacity_mah_g"] == straight_profile(240.0).capacity_mah_g.tolist()
    assert second["profile"] is None


def test_drxtd_holds_what_has_a_profile(measured: Campaign, tmp_path: Path):
    assert export_campaign(measured, tmp_path / "td.csv", form="drx-td") == 1
    (test,) = read(tmp_path / "td.csv")
    assert test.composition.formula == FIRST
    assert test.discharges[0].capacity_mah_g.max() == pytest.approx(240.0, abs=0.5)


def test_drxtd_keeps_the_cycles_of_a_cell_together_and_says_what_it_leaves_out(
    campaign: Campaign, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def row(cycle: int, current: float, capacity: float, cell: str = "A") -> dict[str, object]:
        profile = straight_profile(capacity)
        values = {"capacity_mah_g": capacity, "voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g}
        return {"composition": FIRST, "cell": cell, "cycle": cycle, "current_ma_g": current, **values}

    bare = {k: v for k, v in row(5, 20.0, 225.0).items() if k not in ("voltage_v", "profile_mah_g")}
    measured = [row(2, 19.9987, 235.0), row(1, 20.0131, 240.0), row(3, 20.02, 230.0), row(4, 1000.3, 150.0)]
    measured += [row(2, 20.0, 220.0, "B"), bare]
    campaign.add_measurements(measured, fine_tune=False)
    assert export_campaign(campaign, tmp_path / "td.csv", form="drx-td") == 3
    (test,) = read(tmp_path / "td.csv")
    assert [curve.cycle for curve in test.discharges] == [1, 2, 3]
    assert test.current_ma_g == pytest.approx(20.0131)
    assert [curve.capacity_mah_g.max() for curve in test.discharges] == pytest.approx([240, 235, 230], abs=0.5)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "campaigns.report.export"]
    assert said == (
        "3 of 6 discharges left out: 1 without a profile, 2 without a first cycle of the same cell at their rate."
    )


def test_withdrawn_measurements_are_left_out_unless_asked_for(measured: Campaign, tmp_path: Path):
    measured.retract_measurement("M0001", "wrong mass")
    assert export_campaign(measured, tmp_path / "out.csv") == 1
    assert export_campaign(measured, tmp_path / "out.csv", withdrawn=True) == 2
    with pytest.raises(UsageError, match="This campaign has none"):
        export_campaign(measured, tmp_path / "td.csv", form="drx-td")


def test_form_that_is_not_told_is_asked_for(measured: Campaign, tmp_path: Path):
    with pytest.raises(UsageError, match="cannot tell the form"):
        export_campaign(measured, tmp_path / "out.txt")


def test_the_suffix_tells_the_form(tmp_path: Path) -> None:
    told = {"a.csv": "csv", "a.json": "json", "cells.bdf.zip": "bdf", "week3.crate.zip": "ro-crate"}
    assert {name: form_of(tmp_path / name) for name in told} == told
    with pytest.raises(UsageError, match="cannot tell the form from the name"):
        form_of(tmp_path / "a.zip")
