"""What a chemist writes, and how it is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs import shipped
from drxnet.composition import Composition
from drxnet.errors import ConfigurationError
from screening.lattice import Lattice
from screening.space import CandidateSpace, Quota, load_space, parse_space
from screening.species import Species

MNTI: dict[str, Any] = {
    "step": "1/20",
    "lithium": [1.1, 1.3],
    "fluorine": [0, 0.2],
    "species": ["Mn2+", "Mn3+", "Ti4+", "Nb5+"],
    "k_elements": [2, 3],
}


def changed(**keys: Any) -> dict[str, Any]:
    return {**MNTI, **keys}


@pytest.mark.parametrize("name", list(shipped("spaces")))
def test_every_shipped_space_holds_compositions_and_says_what_it_is(name: str) -> None:
    space = load_space(name)
    assert space.description
    assert Lattice(space).count > 1000


@pytest.mark.parametrize(
    "formula",
    ["Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2"],
    ids=["HE-1", "HE-2"],
)
def test_the_cases_of_the_paper_are_in_its_space(formula: str) -> None:
    lattice = Lattice(load_space("paper-he"))
    assert lattice.why_not(Composition.parse(formula)) == []
    row = lattice.row(formula)
    assert lattice.unrank([lattice.rank(row)]).tolist() == [row.tolist()]
    assert lattice.keeps(row[None]).all()


def test_the_wide_space_is_too_large_to_write_down() -> None:
    assert Lattice(load_space("wide")).count > 10**8


@pytest.mark.parametrize("step", ["1/20", 0.05, " 1/20 "])
def test_the_step_may_be_a_fraction_or_a_decimal(step: Any) -> None:
    assert parse_space(changed(step=step)).denominator == 20


def test_ranges_are_rounded_inwards_to_the_step() -> None:
    space = parse_space(changed(step="1/30", lithium=[1.11, 1.29], fluorine="1/30"))
    assert (space.lithium_units, space.fluorine_units) == (range(34, 39), range(1, 2))


def test_one_number_is_a_range_of_one() -> None:
    assert parse_space(changed(lithium=1.2)).lithium_units == range(24, 25)


def test_a_coarser_step_keeps_its_multiples() -> None:
    space = parse_space(changed(fluorine={"min": 0.05, "max": 0.2, "step": 0.1}))
    assert list(space.fluorine_units) == [2, 4]


def test_excluding_an_element_is_leaving_out_its_species() -> None:
    without = parse_space(changed(excluded=["Nb"]))
    never = parse_space(changed(species=MNTI["species"][:3]))
    assert Lattice(without).count == Lattice(never).count
    assert without.metals == ("Ti", "Mn")


def test_the_fingerprint_ignores_the_name_and_nothing_else() -> None:
    space = parse_space(MNTI)
    assert parse_space(changed(name="other", description="x")).fingerprint == space.fingerprint
    assert parse_space(changed(k_elements=2)).fingerprint != space.fingerprint
    assert parse_space(changed(filters={"size_mismatch": 10})).fingerprint != space.fingerprint


def test_a_dumped_space_reads_back_as_itself() -> None:
    space = load_space("paper-he")
    assert parse_space(space.model_dump()) == space
    assert parse_space(space.model_dump(mode="json")) == space


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lithum": [1, 1.2]}, "unknown key 'lithum'; did you mean 'lithium'"),
        ({"filters": {"size_missmatch": 9}}, "did you mean 'size_mismatch'"),
        ({"step": "0.3"}, "step must be 1/D"),
        ({"step": "fine"}, "must be a number such as 0.05 or 1/20"),
        ({"lithium": [1.3, 1.1]}, r"min must not exceed max, got \[1.3, 1.1\]"),
        ({"lithium": [1.21, 1.24]}, "lithium must hold a multiple of 1/20"),
        ({"fluorine": [0.01, 0.04]}, "fluorine must hold a multiple of 1/20"),
        ({"fluorine": [0, 0.1, 0.2]}, r"one number or \[min, max\]"),
        ({"species": ["Mn2+", "Sn4+"]}, "knows nothing of Sn"),
        ({"species": ["Li1+"]}, r"Li\+ is always present"),
        ({"species": ["Mn2+", "Mn2+"]}, "listed once"),
        ({"species": ["Mn3+", "Mn\u0663+"]}, "its oxidation state, such as Mn3"),  # the Arabic digit three
        ({"species": ["Mn3+", " Mn3+"]}, "listed once"),
        ({"species": ["Mn9+"]}, "No data for the species Mn9"),
        ({"species": []}, "species"),
        ({"limits": {"V": [0, 0.2]}}, "limits names V, of which no species is listed"),
        ({"limits": {"Mn": [0.01, 0.04]}}, "limits of Mn hold no multiple"),
        ({"required": ["Mm"]}, "'Mm' is not a metal"),
        ({"required": ["Mn"], "excluded": ["Mn"]}, "both required and excluded"),
        ({"forbidden_pairs": [["Mn3+", "Fe9+"]]}, "Fe9"),
        ({"quotas": [{"group": "d0"}]}, "give count, amount or both"),
        ({"quotas": [{"count": 2}]}, "give either group"),
        ({"filters": {"fluorine_by_route": "magic"}}, "fluorine_by_route"),
    ],
)
def test_a_wrong_space_is_refused_with_what_is_wrong(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_space(changed(**keys))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="lithium: this key is required"):
        parse_space({k: v for k, v in MNTI.items() if k != "lithium"})


@pytest.mark.parametrize(
    ("keys", "constraint"),
    [
        ({"species": ["Mg2+", "Mn2+"], "fluorine": 0, "lithium": 1.2}, "lithium|fluorine"),
        ({"k_elements": 4}, "k_elements"),
        ({"limits": {"Mn": [1.5, 1.8]}}, "limits"),
        ({"k_species": [5, 6]}, "k_species"),
        ({"k_elements": 1, "required": ["Mn", "Nb"]}, "required"),
        ({"forbidden_pairs": [["Mn", "Ti"], ["Mn", "Nb"], ["Nb", "Ti"]]}, "forbidden_pairs"),
        ({"quotas": [{"group": "d0", "count": [3, 4]}]}, "quotas"),
        ({"quotas": [{"members": ["Mn"], "amount": [1.5, 2]}]}, "quotas"),
        ({"filters": {"radius_range": 0.001}}, "filters"),
    ],
)
def test_an_empty_space_is_refused_with_the_constraint_that_emptied_it(keys: dict[str, Any], constraint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"is empty: ({constraint})"):
        Lattice(parse_space(changed(**keys)))


def test_elements_outside_the_model_are_allowed_when_asked_for() -> None:
    space = parse_space(changed(species=["Mn3+", "Sn4+"], k_elements=2, allow_elements_outside_model=True))
    assert "Sn" in Lattice(space).columns


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("Li1.22Mn0.39Ti0.39O2", "not a multiple of 1/20"),
        ("Li1.2V0.4Ti0.4O2", "species: V is not allowed"),
        ("Li1.35Mn0.35Nb0.3O1.95F0.05", "lithium: Li 1.35, allowed 1.1 to 1.3"),
        ("Li1.2Mn0.4Ti0.4O1.7F0.3", "fluorine: F 0.3, allowed 0 to 0.2"),
        ("Li1.2Mn0.8O2", r"charge: -0.4 per formula unit with every metal in the highest"),
        ("Li1.2Mn0.1Ti0.1Nb0.6O2", r"charge: \+0.8 per formula unit with every metal in the lowest"),
        ("Li1.15Ti0.85O1.85F0.15", "charge|k_elements"),
    ],
)
def test_a_composition_outside_is_told_why(formula: str, reason: str) -> None:
    reasons = parse_space(changed(filters="none")).why_not(Composition.parse(formula))
    assert any(re.search(reason, r) for r in reasons), reasons


def test_steps_of_one_element_are_told_in_its_amounts() -> None:
    space = parse_space(changed(filters="none", limits={"Nb": {"min": 0, "max": 0.3, "step": 0.1}}))
    reasons = space.why_not(Composition.parse("Li1.2Mn0.5Ti0.15Nb0.15O2"))
    assert "limits: Nb 0.15, allowed 0.1 to 0.3 in steps of 0.1" in reasons


def test_filters_of_species_keep_a_composition_out_with_value_and_threshold() -> None:
    space = parse_space(changed(filters={"radius_range": 0.1}))
    (reason,) = space.why_not(Composition.parse("Li1.2Mn0.4Ti0.4O2"))
    assert reason.startswith("filters: radius_range: 0.155 angstrom, at most 0.1 angstrom (by 0.055)")


def test_a_file_is_named_after_itself_and_a_wrong_name_gets_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("step: 1/10\nlithium: 1.2\nfluorine: 0\nspecies: [Mn3+, Ti4+]\n")
    assert isinstance(space := load_space(path), CandidateSpace)
    assert space.name == "mine"
    with pytest.raises(ConfigurationError, match="Did you mean paper-he"):
        load_space("paper-hee")
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match="not a YAML file"):
        load_space(path)


@pytest.mark.parametrize(
    ("group", "held"),
    [
        ("redox-active", {"Mn2+", "Mn3+", "Fe2+", "Cr3+"}),
        ("d0", {"Ti4+", "Nb5+"}),
        ("+2", {"Mn2+", "Fe2+", "Mg2+"}),
        ("+5", {"Nb5+"}),
    ],
)
def test_a_group_of_a_quota_holds_the_species_that_it_names(group: str, held: set[str]) -> None:
    listed = ["Mn2+", "Mn3+", "Fe2+", "Mg2+", "Cr3+", "Ti4+", "Nb5+"]
    quota = Quota.model_validate({"group": group, "count": 1})
    assert {name for name in listed if quota.holds(Species.parse(name))} == held


@pytest.mark.parametrize(("named", "says"), [("paper-he", "Give paper-he"), ("{step: 1/20}", "under its `space:`")])
def test_a_campaign_in_the_place_of_a_space_names_its_space(tmp_path: Path, named: str, says: str) -> None:
    (tmp_path / "campaign.yaml").write_text(f"name: demo\nmodel: default\nspace: {named}\n")
    with pytest.raises(ConfigurationError, match=says) as told:
        load_space(tmp_path / "campaign.yaml")
    assert len(str(told.value)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("key", ["step", "lithium", "filters", "name"])
def test_a_space_cannot_be_changed_under_whoever_holds_it(key: str) -> None:
    space = load_space("tiny")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(space, key, getattr(space, key))
