from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ledgers import FIRST, SECOND, straight_profile

from campaigns.campaign import Campaign
from campaigns.intake import readers
from campaigns.report import bdf
from drxnet.errors import UsageError


def add(campaign: Campaign, composition: str, cell: str, cycle: int, current: float, capacity: float) -> None:
    profile = straight_profile(capacity)
    row = {
        "composition": composition,
        "cell": cell,
        "cycle": cycle,
        "current_ma_g": current,
        "capacity_mah_g": capacity,
    }
    campaign.add_measurements(
        row | {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g}, fine_tune=False, confirmed=True
    )


@pytest.fixture
def archive(campaign: Campaign, tmp_path: Path) -> zipfile.ZipFile:
    """Two cells, one of two cycles, and a discharge without a profile."""
    add(campaign, FIRST, "A", 1, 20.0, 240.0)
    add(campaign, FIRST, "A", 2, 20.0, 230.0)
    add(campaign, SECOND, "B/1", 1, 1000.0, 150.0)
    campaign.add_measurements({"composition": SECOND, "current_ma_g": 20, "capacity_mah_g": 200.0}, fine_tune=False)
    assert campaign.export(tmp_path / "out.bdf.zip") == 3
    return zipfile.ZipFile(tmp_path / "out.bdf.zip")


def rows(archive: zipfile.ZipFile, name: str) -> list[dict[str, float]]:
    return [
        {k: float(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(archive.read(name).decode("utf-8")))
    ]


def test_a_file_holds_one_cell_under_the_preferred_labels(archive: zipfile.ZipFile) -> None:
    names = sorted(archive.namelist())
    assert names == ["LAB-01__A__M0001.bdf.csv", "LAB-02__B-1__M0003.bdf.csv", "cells.json"]
    header = archive.read(names[0]).decode().split("\n")[0].strip()
    assert header.split(",")[:3] == ["Test Time / s", "Voltage / V", "Current / A"]
    assert set(header.split(",")) == set(bdf.TERMS)


def test_current_over_time_is_the_capacity(archive: zipfile.ZipFile) -> None:
    """Per gram where the mass is not known: 240 mAh/g at 20 mA/g take 12 h, 43,200 s."""
    found = rows(archive, "LAB-01__A__M0001.bdf.csv")
    time, current = (np.array([row[k] for row in found]) for k in ("Test Time / s", "Current / A"))
    assert (np.diff(time) >= 0).all()
    first = [row for row in found if row["Cycle Count / 1"] == 1]
    assert first[-1]["Test Time / s"] == pytest.approx(43_200)
    assert set(current) == {-0.020}
    assert found[-1]["Discharging Capacity / Ah"] == pytest.approx(0.240 + 0.230)
    assert [first[0]["Voltage / V"], first[-1]["Voltage / V"]] == [4.8, 1.5]


def test_what_is_written_is_read_back(archive: zipfile.ZipFile, tmp_path: Path) -> None:
    path = tmp_path / "LAB-02__B-1__M0003.bdf.csv"
    path.write_bytes(archive.read(path.name))
    reader, recording = readers.read(path)
    assert reader == "battery data format csv"
    hours = np.diff(recording.time_s, prepend=0) / 3600
    assert abs((recording.current_ma * hours).sum()) == pytest.approx(150.0, rel=1e-6)


def test_the_companion_says_which_cell_it_is_and_whose_current(archive: zipfile.ZipFile) -> None:
    about = json.loads(archive.read("cells.json"))["LAB-01__A__M0001.bdf.csv"]
    assert (about["composition"], about["cell"], about["measurement_ids"]) == (FIRST, "A", ["M0001", "M0002"])
    assert (about["active_mass_mg"], about["current_is_for"]) == (None, "1 g of active material")
    assert about["columns"]["Voltage / V"].endswith("battery-data-format#voltage_volt")


def test_a_campaign_without_profiles_has_none_to_write(campaign: Campaign, tmp_path: Path) -> None:
    campaign.add_measurements({"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}, fine_tune=False)
    with pytest.raises(UsageError, match="holds profiles. This campaign has none"):
        campaign.export(tmp_path / "out.bdf.zip")
    assert list(tmp_path.glob("*.zip")) == []
