from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, straight_profile

from campaigns.campaign import Campaign
from campaigns.export import export_campaign
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


def test_withdrawn_measurements_are_left_out_unless_asked_for(measured: Campaign, tmp_path: Path):
    measured.retract_measurement("M0001", "wrong mass")
    assert export_campaign(measured, tmp_path / "out.csv") == 1
    assert export_campaign(measured, tmp_path / "out.csv", withdrawn=True) == 2
    with pytest.raises(UsageError, match="This campaign has none"):
        export_campaign(measured, tmp_path / "td.csv", form="drx-td")


def test_form_that_is_not_told_is_asked_for(measured: Campaign, tmp_path: Path):
    with pytest.raises(UsageError, match="cannot tell the form"):
        export_campaign(measured, tmp_path / "out.txt")
