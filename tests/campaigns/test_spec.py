"""Campaign YAMLs: what is written is what is meant, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.spec import find_spec, parse_spec, read_spec
from configs import shipped
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.errors import ConfigurationError

HE = ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2")
"""HE-1 and HE-2 of the DRXNet paper."""

SHIPPED = sorted(shipped("campaigns"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_campaign_is_valid_and_has_candidates(name: str):
    spec = read_spec(name)
    assert spec.name == name
    assert spec.description
    assert spec.candidates().count > 1000


def test_shipped_campaigns_are_those_of_the_documentation():
    assert {"he-rate", "he-wide", "lmof", "tiny"} <= set(SHIPPED)


def test_he_rate_is_the_papers_space_with_a_useful_capacity():
    spec = read_spec("he-rate")
    assert 1.5e6 < spec.candidates().count < 2.5e6
    (objective,), (constraint,) = spec.objectives, spec.constraints
    assert objective.quantity == "rate-retention"
    assert (constraint.quantity, constraint.current_ma_g, constraint.at_least) == ("capacity", 20, 220)
    assert spec.conditions.low == CyclingConditions(20.0, 1.5, 4.8)
    assert spec.candidate_space is not None
    lattice = spec.candidates()
    for formula in HE:
        assert spec.candidate_space.why_not(Composition.parse(formula)) == []
        assert not any(mask.any() for mask in lattice.refused(lattice.row(formula)[None]).values())


def test_he_wide_is_too_large_to_walk_in_passing():
    assert read_spec("he-wide").candidates().count > 10**8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "space: this key is required"),
        ({"space": "tiny", "batchsize": 3}, "unknown key 'batchsize'; did you mean 'batch_size'"),
        ({"space": "tiny", "lab": {"min_distnace": 1}}, "did you mean 'min_distance'"),
        (
            {"space": "tiny", "lab": {"stock": []}},
            "unknown key 'lab.stock'; known here: banned, max_precursors,",
        ),
        ({"space": "tiny", "objectives": [{"quantty": "capacity"}]}, "'objectives.0.quantty'; did you mean 'quantity'"),
        ({"space": "tiny", "zzz": "."}, "unknown key 'zzz'; known here: name, description, space"),
        ({"space": "paper-hee"}, "Did you mean paper-he"),
        ({"space": {"step": "1/20"}}, "lithium"),
        ({"space": "nowhere.csv"}, "no list of candidates"),
        ({"space": "tiny", "objectives": []}, "at least one objective"),
        ({"space": "tiny", "objectives": [{"quantity": "beauty"}]}, "objectives.0.quantity"),
        ({"space": "tiny", "constraints": [{"quantity": "capacity"}]}, "exactly one of at_least and at_most"),
        ({"space": "tiny", "conditions": {"low_current_ma_g": 2000}}, "low rate must be below the high one"),
        ({"space": "tiny", "strategy": "magic"}, "strategy"),
        ({"space": "tiny", "batch_size": 0}, "batch_size"),
        ({"space": "tiny", "lab": {"banned": ["Xx"]}}, "only metals and F can be banned"),
        ({"space": "tiny", "prices": {"nb": 60}}, "by symbols such as Nb. Got nb.$"),
        ({"space": "tiny", "lab": {"references": ["Li1.2Mnx"]}}, "lab.references: .*Li1.2Mnx"),
        ({"space": "tiny", "seed": -1}, "seed"),
        ({"space": "tiny", "folder": "/"}, "unknown key 'folder'"),
    ],
    ids=lambda v: None if isinstance(v, dict) else v.replace(" ", "-")[:24],
)
def test_wrong_campaign_is_refused_by_name(values: dict, message: str):
    with pytest.raises(ConfigurationError, match=message):
        parse_spec(values)


def test_unknown_campaign_names_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean he-rate"):
        find_spec("he-rat")


def test_folder_without_a_campaign_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="holds a campaign.yaml"):
        find_spec(tmp_path)


def test_yaml_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "broken.yaml"
    path.write_text("space: [")
    with pytest.raises(ConfigurationError, match=r"broken.yaml: not a YAML file"):
        read_spec(path)


def test_name_is_that_of_the_file_unless_given(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("space: tiny\n")
    (tmp_path / "other.yaml").write_text("name: given\nspace: tiny\n")
    assert [read_spec(tmp_path / f).name for f in ("mine.yaml", "other.yaml")] == ["mine", "given"]


def test_space_may_stand_in_a_file_beside_the_campaign(tmp_path: Path):
    (tmp_path / "narrow.yaml").write_text(
        "step: 1/10\nlithium: [1.2, 1.3]\nfluorine: [0, 0.2]\nspecies: [Mn2+, Mn3+, Ti4+]\n"
    )
    (tmp_path / "c.yaml").write_text("space: narrow.yaml\n")
    spec = read_spec(tmp_path / "c.yaml")
    assert spec.candidate_space is not None
    assert spec.candidate_space.metals == ("Ti", "Mn")


def test_prices_of_the_campaign_reach_the_filter_of_the_precursor_cost():
    filtered = {"step": "1/10", "lithium": 1.2, "fluorine": 0, "species": ["Mn3+", "Ti4+", "Mn2+"]}

    def kept(own: dict[str, float], **campaign: object) -> list[str]:
        filters = {"precursor_cost": 100.0, "prices": own}
        candidates = parse_spec({"space": {**filtered, "filters": filters}, **campaign}).candidates()
        rows = candidates.unrank(range(candidates.count))
        return sorted(candidates.formulas(rows[candidates.keeps(rows)]))

    every = ["Li1.2Ti0.4Mn0.4O2", "Li1.2Ti0.5Mn0.3O2", "Li1.2Ti0.6Mn0.2O2"]
    assert kept({}) == every
    assert kept({"Mn": 500.0}) == every[2:]
    assert kept({"Mn": 500.0}, prices={"Mn": 1.0}) == every
    assert kept({}, prices={"Ti": 280.0}) == every[:1]


def test_prices_change_the_fingerprint_of_a_space_only_where_there_are_some():
    plain, priced = (parse_spec({"space": "tiny", "prices": prices}) for prices in ({}, {"Mn": 9.0}))
    assert plain.candidate_space is not None
    assert priced.candidate_space is not None
    assert "prices" not in plain.candidate_space.model_dump(mode="json")["filters"]
    assert plain.candidate_space.fingerprint != priced.candidate_space.fingerprint
    assert priced.candidate_space.filters.prices == {"Mn": 9.0}


def test_candidates_may_be_a_list(tmp_path: Path):
    (tmp_path / "mine.csv").write_text("composition\nLi1.2Mn0.4Ti0.4O2\nLi1.2Mn0.6Nb0.2O2\n")
    (tmp_path / "c.yaml").write_text("space: mine.csv\n")
    spec = read_spec(tmp_path / "c.yaml")
    assert spec.candidate_space is None
    assert spec.candidates().count == 2


def test_hash_changes_with_what_decides_a_batch_and_with_nothing_else():
    base = parse_spec({"space": "tiny"})
    assert parse_spec({"space": "tiny", "workers": 2, "ledger": "sqlite:///other.sqlite"}).hash == base.hash
    assert parse_spec({"space": "tiny", "seed": 1}).hash != base.hash
    assert parse_spec({"space": "lmof"}).hash != base.hash


def test_password_of_the_ledger_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEDGER_PASSWORD", "s3cret")
    spec = parse_spec({"space": "tiny", "ledger": "postgresql://lab:$LEDGER_PASSWORD@db/screening"})
    assert spec.ledger_url(tmp_path) == "postgresql://lab:s3cret@db/screening"
    assert "s3cret" not in str(spec.resolved())


def test_ledger_lies_in_the_folder_unless_said_otherwise(tmp_path: Path):
    assert parse_spec({"space": "tiny"}).ledger_url(tmp_path) == f"sqlite:///{tmp_path}/ledger.sqlite"
    relative = parse_spec({"space": "tiny", "ledger": "sqlite:///shared/l.sqlite"})
    assert relative.ledger_url(tmp_path) == f"sqlite:///{tmp_path}/shared/l.sqlite"


@pytest.mark.parametrize("ending", ["", ".yaml", ".csv", "/"])
def test_a_name_that_is_too_long_for_a_path_is_a_sentence(ending: str):
    name = "x" * 300 + ending
    with pytest.raises(ConfigurationError, match="No space|no list of candidates"):
        parse_spec({"space": name})
    with pytest.raises(ConfigurationError, match="No campaign"):
        find_spec(name)
