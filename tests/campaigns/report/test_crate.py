from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, record_round, straight_profile

from campaigns.campaign import Campaign
from campaigns.report.crate import BATTINFO, COIN_CELL
from drxnet.errors import MissingExtra

rocrate = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed (pip install '.[exchange]')")


@pytest.fixture
def measured(campaign: Campaign) -> Campaign:
    """A round of two proposals, of which one came back with a profile and one with a capacity alone."""
    record_round(campaign, FIRST, SECOND)
    profile = straight_profile(240.0)
    row = {"proposal_id": "R01-01", "cell": "A", "current_ma_g": 20, "capacity_mah_g": 240.0}
    campaign.add_measurements(
        row | {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g}, fine_tune=False
    )
    other = {"proposal_id": "R01-02", "cell": "B", "current_ma_g": 1000, "capacity_mah_g": 150.0}
    campaign.add_measurements(other, fine_tune=False)
    return campaign


@pytest.fixture
def crate(measured: Campaign, tmp_path: Path):
    assert measured.export(tmp_path / "week3.crate.zip") == 2
    return rocrate.ROCrate(tmp_path / "week3.crate.zip")


def test_a_crate_opens_and_says_what_it_is(crate) -> None:
    assert crate.name == "Campaign demo"
    assert {e.id for e in crate.data_entities} >= {"campaign.json", "measurements.csv"}
    assert crate.root_dataset["citation"].id == "https://doi.org/10.1016/j.joule.2024.03.010"


def test_a_crate_counts_the_discharges_that_it_holds(measured: Campaign, tmp_path: Path) -> None:
    measured.retract_measurement("M0002", "short circuit")
    measured.export(tmp_path / "week3.crate.zip")
    assert "1 rounds, 1 discharges." in rocrate.ROCrate(tmp_path / "week3.crate.zip").description


def test_a_crate_holds_the_round_its_cells_and_their_profiles(crate, tmp_path: Path) -> None:
    crate.write(tmp_path / "unpacked")
    ledger = json.loads((tmp_path / "unpacked" / "campaign.json").read_text())
    assert [p["proposal_id"] for p in ledger["proposals"]] == ["R01-01", "R01-02"]
    proposal = crate.get("#proposal-R01-01")
    assert (proposal["molecularFormula"], proposal.type) == (FIRST, "ChemicalSubstance")
    cells = [e for e in crate.contextual_entities if e.get("additionalType") == COIN_CELL]
    assert sorted(e["name"] for e in cells) == ["Cell A of R01-01", "Cell B of R01-02"]
    (with_file,) = [e for e in cells if e.get("subjectOf")]
    assert with_file["material"].id == proposal.id
    file = with_file["subjectOf"]
    assert (tmp_path / "unpacked" / file.id).read_text().startswith("Test Time / s,Voltage / V,Current / A")
    assert len(file["variableMeasured"]) == 6


def test_numbers_name_their_terms_of_battinfo_and_their_units(crate) -> None:
    found = {
        name: [(e["value"], e["unitText"]) for e in crate.contextual_entities if e.get("propertyID") == address]
        for name, address in BATTINFO.items()
    }
    assert sorted(found["SpecificCapacity"]) == [(150.0, "mAh/g"), (240.0, "mAh/g")]
    assert sorted(found["DischargingCurrent"]) == [(20.0, "mA/g"), (1000.0, "mA/g")]
    assert set(found["LowerVoltageLimit"]) == {(1.5, "V")}
    assert set(found["UpperVoltageLimit"]) == {(4.8, "V")}


def test_software_and_models_are_named_with_their_versions(crate, measured: Campaign) -> None:
    versions = {e["name"]: e["softwareVersion"] for e in crate.get_by_type("SoftwareApplication")}
    assert versions["torch"] == metadata.version("torch")
    assert "Python" in versions
    model = measured.state().first_model.model_id
    assert any(model in entity.id for entity in crate.get_entities())


def test_every_reference_of_a_crate_leads_somewhere(measured: Campaign, tmp_path: Path) -> None:
    measured.export(tmp_path / "a.crate.zip")
    rocrate.ROCrate(tmp_path / "a.crate.zip").write(tmp_path / "out")
    graph = json.loads((tmp_path / "out" / "ro-crate-metadata.json").read_text())["@graph"]
    known = {entity["@id"] for entity in graph}

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            return [value["@id"]] if set(value) == {"@id"} else [r for v in value.values() for r in references(v)]
        return [r for v in value for r in references(v)] if isinstance(value, list) else []

    lost = {r for e in graph for v in e.values() for r in references(v)} - known
    assert {r for r in lost if not r.startswith("https://w3id.org/ro/crate")} == set()


def test_without_the_extra_the_way_out_is_named(measured: Campaign, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(MissingExtra, match=r"pip install 'drx-screen\[exchange\]'"):
        measured.export(tmp_path / "week3.crate.zip")
    assert list(tmp_path.glob("*.zip")) == []
