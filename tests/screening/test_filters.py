"""Filters on compositions whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymatgen.analysis.hhi import HHIModel
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from screening import filters
from screening.candidates import CandidateList
from screening.filters import ALL_FILTERS, FILTERS, Filters, Mixtures, Verdict, hazard_notes
from screening.species import Species

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
HE2 = "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2"
TM2 = "Li1.3Mn0.4Ti0.3O1.7F0.3"
TM4 = "Li1.3Mn0.4Ti0.1Nb0.2O1.7F0.3"
TM6 = "Li1.3Mn0.2Co0.1Cr0.1Ti0.1Nb0.2O1.7F0.3"
LMTO = "Li1.2Mn0.4Ti0.4O2"
MADE = [HE1, HE2, TM2, TM4, TM6, LMTO, "Li1.2Mn0.2Cr0.2Ti0.4O2", "Li1.3Mn0.4Nb0.3O2", "Li1.25Mn0.5Ti0.25O1.75F0.25"]


CHARGES = np.array([[2.4, 0.0], [1.2, 1.6]])


def mixtures(*formulas: str) -> Mixtures:
    candidates = CandidateList(formulas)
    return candidates.mixtures(candidates.unrank(range(candidates.count)))


def value(name: str, formula: str) -> float:
    return float(getattr(filters, name)(mixtures(formula))[0])


@pytest.mark.parametrize("formula", MADE)
def test_what_has_been_made_passes_the_defaults(formula: str) -> None:
    failed = [str(v) for v in Filters().verdicts(mixtures(formula)) if not v.passed]
    assert failed == []


def test_the_rule_for_alloys_would_refuse_all_of_it() -> None:
    assert (filters.size_mismatch(mixtures(*MADE)) > 6.6).all()


@pytest.mark.parametrize(
    ("name", "formula", "expected"),
    [
        ("lithium_percolation", HE1, 1.2),
        ("accessible_lithium", HE1, 0.85),
        ("size_mismatch", HE1, 9.7),
        ("size_mismatch", HE2, 9.3),
        ("size_mismatch", TM6, 8.3),
        ("radius_range", HE1, 0.83 - 0.605),
        ("metal_entropy", HE1, 1.49),
        ("metal_entropy", HE2, 1.75),
        ("metal_entropy", TM6, 1.55),
        ("metal_entropy", TM4, 0.96),
        ("lithium_capacity", HE1, 386.0),
        ("redox_capacity", HE1, 354.0),
        ("lithium_capacity", TM6, 399.0),
        ("redox_capacity", TM6, 245.0),
        ("redox_electrons", LMTO, 0.4),
        ("precursors", HE1, 7),
        ("precursors", LMTO, 3),
        ("fluorine_by_route", HE1, 0.2),
        ("hazards", TM6, 2),
    ],
)
def test_values_of_known_compositions(name: str, formula: str, expected: float) -> None:
    assert value(name, formula) == pytest.approx(expected, rel=6e-3)


def test_equal_parts_have_the_entropy_of_their_number() -> None:
    assert value("metal_entropy", "Li1.2Mn0.2Fe0.2Cr0.2Ti0.2O2") == pytest.approx(math.log(4))
    assert value("cation_entropy", "Li1Mn1O2") == pytest.approx(math.log(2))


def test_one_kind_of_cation_has_no_size_mismatch() -> None:
    assert value("metal_size_mismatch", "Li1.3333Fe0.6667O1.3333F0.6667") < 0.1


@pytest.mark.parametrize("formula", [HE1, LMTO])
def test_supply_risk_is_the_index_of_pymatgen(formula: str) -> None:
    assert value("supply_risk", formula) == pytest.approx(HHIModel().get_hhi_production(formula), rel=1e-4)


def test_the_cost_of_two_lithium_for_two_oxygen_is_that_of_the_lithium() -> None:
    mixture = Mixtures((Species("Li", 1),), np.array([[2.0]]), np.array([0.0]))
    assert filters.precursor_cost(mixture)[0] == pytest.approx(200 * 2 * 6.94 / (2 * 6.94 + 2 * 15.999), rel=1e-3)


def test_what_oxygen_must_give_is_told_only_where_the_threshold_needs_it() -> None:
    asked = Filters(redox_electrons_with_oxygen=0.4)
    assert asked.oxygen_note(mixtures("Li1.2Mn0.4Ti0.4O2")) == ""  # the metals give it all
    assert "0.6 e" in asked.oxygen_note(mixtures("Li1.3Fe0.4Nb0.3O2"))
    assert Filters(redox_electrons_with_oxygen=0.7).oxygen_note(mixtures("Li1.3Fe0.4Nb0.3O2")) == ""  # not even so
    assert Filters(redox_electrons_with_oxygen=None).oxygen_note(mixtures("Li1.3Fe0.4Nb0.3O2")) == ""


def test_the_worst_pair_decides_compatibility() -> None:
    species = tuple(map(Species.parse, ["Mn3+", "Fe2+", "V3+", "Ti4+"]))
    sets = [species[3:], species[2:], (species[0], species[2]), species[:2], species]
    assert filters.redox_compatibility(Mixtures.standing(sets)).tolist() == [0, 0, 2, 3, 3]


def test_hazards_are_of_species_where_the_note_is() -> None:
    assert hazard_notes([Species("V", 3), Species("Ti", 4)]) == []
    (note,) = hazard_notes([Species("V", 5)])
    assert note.startswith("V5+")


def test_a_filter_passes_at_its_threshold_and_refuses_beyond_it() -> None:
    found = mixtures(HE1)
    at = Filters(lithium_percolation=1.2, fluorine_by_route="solid-state").refused(found, of_species=False)
    assert not at["lithium_percolation"].any()
    beyond = Filters(lithium_percolation=1.21).refused(found, of_species=False)
    assert beyond["lithium_percolation"].all()


def test_a_verdict_says_by_how_much() -> None:
    (verdict,) = (v for v in Filters(size_mismatch=9.0).verdicts(mixtures(HE1)) if v.name == "size_mismatch")
    assert not verdict.passed
    assert verdict.excess == pytest.approx(verdict.value - 9)
    assert str(verdict) == "size_mismatch: 9.704 %, at most 9 % (by 0.7)"
    assert str(Verdict("hazards", 1.0, None, "", True, False)) == "hazards: 1"


def test_every_filter_has_a_threshold_of_its_name_and_a_docstring() -> None:
    assert {f.name for f in FILTERS} == set(Filters.model_fields) - {"added", "prices"}
    assert all(f.measure.__doc__ for f in FILTERS)


def test_no_filter_refuses_anything_when_all_are_off() -> None:
    assert all(Filters.none().threshold(f.name) is None for f in FILTERS)
    assert Filters.none().refused(mixtures(HE1), of_species=False) == {}


def test_filters_of_species_do_not_depend_on_amounts() -> None:
    formulas = ["Li1.2Mn0.2Cr0.2Ti0.4O2", "Li1.2Mn0.1Cr0.3Ti0.4O2"]
    for filter_ in (f for f in FILTERS if f.of_species):
        values = filter_.measure(mixtures(*formulas))
        assert values[0] == values[1]


def test_species_amounts_add_up_to_the_metals_and_their_charge() -> None:
    found = mixtures(*MADE)
    charge = found.amounts @ found.per_species(lambda s: s.charge)
    assert found.amounts.sum(1) == pytest.approx(2, abs=1e-3)
    assert charge == pytest.approx(4 - found.fluorine, abs=1e-3)


def percolating_lithium(lithium: float, cells: int, seed: int) -> float:
    """Li per formula unit on the largest cluster joined by tetrahedra of four Li, cations being random."""
    edge = 2 * cells
    grid = np.indices((edge, edge, edge)).reshape(3, -1).T
    sites = grid[grid.sum(1) % 2 == 0]  # face-centred cubic
    place = np.zeros((edge, edge, edge), int)
    place[tuple(sites.T)] = np.arange(len(sites))
    corners = grid[:, None] + np.indices((2, 2, 2)).reshape(3, -1).T
    even = corners.sum(2) % 2 == 0  # every unit cube of the grid holds one tetrahedron
    tetrahedra = place[tuple(np.moveaxis(corners % edge, -1, 0))][even].reshape(-1, 4)
    is_lithium = np.zeros(len(sites), bool)
    is_lithium[np.random.default_rng(seed).permutation(len(sites))[: round(lithium / 2 * len(sites))]] = True
    free = tetrahedra[is_lithium[tetrahedra].all(1)]
    joints = np.repeat(np.arange(len(free)), 4) + len(sites)
    size = len(sites) + len(free)
    bonds = coo_matrix((np.ones(len(joints)), (free.ravel(), joints)), shape=(size, size))
    _, cluster = connected_components(bonds, directed=False)
    return float(2 * np.bincount(cluster[: len(sites)][is_lithium]).max() / len(sites))


@pytest.mark.parametrize("lithium", [1.2, 1.3])
def test_accessible_lithium_is_what_a_random_rocksalt_has(lithium: float) -> None:
    mixture = Mixtures((Species("Li", 1),), np.array([[lithium]]), np.zeros(1))
    counted = percolating_lithium(lithium, cells=16, seed=1)
    assert filters.accessible_lithium(mixture)[0] == pytest.approx(counted, abs=0.04)


@pytest.mark.parametrize(
    "name", [f.name for f in FILTERS if f.name not in ("redox_compatibility", "fluorine_by_route")]
)
def test_a_threshold_is_on_the_side_that_its_description_says(name: str) -> None:
    says = str(Filters.model_fields[name].description).partition(" ")[0]
    assert ALL_FILTERS[name].at_least == (says == "Least")
    assert says in ("Least", "Most", "Largest", "Highest")


def test_a_metal_that_only_others_hold_takes_no_precursor() -> None:
    together = Mixtures.of({"Mn": (3,), "Ti": (4,)}, np.array([[1.2, 0.8, 0.0], [1.2, 0.4, 0.4]]), np.zeros(2), CHARGES)
    assert filters.precursors(together).tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("lithium", "accessible"),
    [
        *((1.0, 0.0), (1.06, 0.0), (1.10, 0.37), (1.15, 0.69), (1.20, 0.85), (1.25, 0.98), (1.30, 1.09), (1.35, 1.19)),
        *((1.08, 0.185), (1.125, 0.53), (1.175, 0.77), (1.225, 0.915), (1.275, 1.035), (1.325, 1.14), (1.5, 1.19)),
    ],
)
def test_accessible_lithium_goes_straight_from_one_counted_content_to_the_next(
    lithium: float, accessible: float
) -> None:
    mixture = Mixtures((Species("Li", 1),), np.array([[lithium]]), np.zeros(1))
    assert filters.accessible_lithium(mixture)[0] == pytest.approx(accessible)


SIDES = {
    "at least": "lithium_percolation accessible_lithium metal_entropy cation_entropy lithium_capacity redox_electrons "
    "redox_electrons_with_oxygen redox_capacity",
    "at most": "size_mismatch metal_size_mismatch radius_range oxygen_electrons precursors precursor_cost supply_risk "
    "hazards",
}


@pytest.mark.parametrize(("name", "side"), [(name, side) for side, names in SIDES.items() for name in names.split()])
def test_a_threshold_beyond_the_value_refuses_on_one_side_alone(name: str, side: str) -> None:
    """HE-1 has each value; a whole step above it and below it, where only whole numbers are allowed."""
    found, at = mixtures(HE1), value(name, HE1)
    of_species = ALL_FILTERS[name].of_species
    step = 1.0 if name in ("precursors", "hazards") else 0.01 * at
    for threshold in (at - step, at, at + step):
        filters_ = Filters.none().model_copy(update={name: threshold})
        refused = bool(filters_.refused(found, of_species=of_species)[name][0])
        assert refused == (threshold > at if side == "at least" else threshold < at)
        (verdict,) = (v for v in filters_.verdicts(found) if v.name == name)
        assert (verdict.passed, verdict.side) == (not refused, side)
        assert verdict.excess == pytest.approx(step if refused else 0.0)


@pytest.mark.parametrize(
    ("name", "setting", "formula", "refused"),
    [
        ("fluorine_by_route", "solid-state", "Li1.2Mn0.5Ti0.3O1.7F0.3", False),
        ("fluorine_by_route", "solid-state", "Li1.2Mn0.5Ti0.3O1.65F0.35", True),
        ("fluorine_by_route", "mechanochemical", "Li1.2Mn0.8O1.3F0.7", False),
        ("fluorine_by_route", "mechanochemical", "Li1.2Mn0.8O1.25F0.75", True),
    ],
)
def test_a_route_lets_as_much_fluorine_pass_as_it_is_known_to_keep(
    name: str, setting: str, formula: str, refused: bool
) -> None:
    asked = Filters.none().model_copy(update={name: setting})
    assert asked.refused(mixtures(formula), of_species=False)[name].tolist() == [refused]


@pytest.mark.parametrize(("allowed", "worst"), [("compatible", 0), ("uncertain", 1), ("unlikely", 2), (None, 3)])
def test_pairs_that_surely_react_are_refused_where_those_that_may_are_let_through(
    allowed: str | None, worst: int
) -> None:
    species = tuple(map(Species.parse, ["Mn3+", "Fe2+", "V3+", "Ti4+"]))
    sets = Mixtures.standing([species[3:], (species[0], species[2]), species[:2]])
    asked = Filters.none().model_copy(update={"redox_compatibility": allowed})
    masks = asked.refused(sets, of_species=True)
    assert [not bool(m) for m in masks.get("redox_compatibility", np.zeros(3, bool))] == [
        level <= worst for level in (0, 2, 3)
    ]


@pytest.mark.parametrize(
    ("charge", "expected"), [(0.8, (0.4, 0, 0)), (1.0, (0.2, 0.2, 0)), (1.3, (0, 0.3, 0.1)), (1.6, (0, 0, 0.4))]
)
def test_a_metal_mixes_the_two_states_around_its_average_charge(charge: float, expected: tuple[float, ...]) -> None:
    found = Mixtures.of({"Mn": (2, 3, 4)}, np.array([[1.2, 0.4]]), np.zeros(1), np.array([[charge]]))
    assert found.species == (Species("Li", 1), Species("Mn", 2), Species("Mn", 3), Species("Mn", 4))
    assert found.metals[0] == pytest.approx(expected, abs=1e-12)


def test_numbers_of_one_composition_are_those_of_its_formula_by_hand() -> None:
    """Li1.2Mn0.4Ti0.4O2 is Mn3+ and Ti4+: radii 0.76, 0.645 and 0.605, masses and electrons by hand."""
    shares, radii = np.array([0.6, 0.2, 0.2]), np.array([0.76, 0.645, 0.605])
    mass = 1.2 * 6.94 + 0.4 * 54.938 + 0.4 * 47.867 + 2 * 15.999
    spread = [100 * math.sqrt(s @ (r / (s @ r) - 1) ** 2) for s, r in ((shares, radii), (np.full(2, 0.5), radii[1:]))]
    expected = {
        "size_mismatch": spread[0],
        "metal_size_mismatch": spread[1],
        "radius_range": 0.155,
        "metal_entropy": math.log(2),
        "cation_entropy": -(0.6 * math.log(0.6) + 0.4 * math.log(0.2)),
        "lithium_capacity": 26801.48 * 1.2 / mass,
        "redox_electrons": 0.4,
        "oxygen_electrons": 0.4,
        "redox_electrons_with_oxygen": 0.8,
        "redox_capacity": 26801.48 * 0.4 / mass,
        "precursors": 3,
        "hazards": 0,
    }
    assert {name: value(name, LMTO) for name in expected} == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize(
    ("lithium", "fluorine", "electrons"), [(0.9, 0.0, 0.0), (1.25, 0.0, 0.5), (1.25, 0.7, 0.5), (1.9, 0.7, 1.3)]
)
def test_oxygen_gives_two_electrons_for_each_excess_lithium_and_one_for_each_oxygen(
    lithium: float, fluorine: float, electrons: float
) -> None:
    mixture = Mixtures((Species("Li", 1),), np.array([[lithium]]), np.array([fluorine]))
    assert filters.oxygen_electrons(mixture)[0] == pytest.approx(electrons)


def test_prices_are_written_down_where_there_are_some_alone() -> None:
    """So that what holds none keeps the fingerprint that it had before there were any."""
    assert "prices" not in Filters().model_dump()
    assert Filters(prices={"Mn": 3.0}).model_dump()["prices"] == {"Mn": 3.0}
    dearer = Filters(prices={"Mn": 3.0, "Ti": 1.0}).at_prices({"Mn": 4.0})
    assert dearer.prices == {"Mn": 4.0, "Ti": 1.0}
    assert Filters().at_prices({}) == Filters()


def test_prices_of_a_space_reach_what_asks_for_them() -> None:
    asked = Filters.none().model_copy(update={"precursor_cost": 60.0})
    cheap = asked.at_prices({"Li": 1.0, "Mn": 1.0, "Ti": 1.0})
    mass = 1.2 * 6.94 + 0.4 * 54.938 + 0.4 * 47.867
    (verdict,) = (v for v in cheap.verdicts(mixtures(LMTO)) if v.name == "precursor_cost")
    assert verdict.value == pytest.approx(mass / (mass + 2 * 15.999), rel=1e-3)
    assert [f.refused(mixtures(LMTO), of_species=False)["precursor_cost"][0] for f in (asked, cheap)] == [
        value("precursor_cost", LMTO) > 60,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "thing", "says"),
    [
        ("ours", print, "a filter is a screening.filters.Filter"),
        ("ours", FILTERS[0], "its function is called 'lithium_percolation'; name the entry point so"),
        ("lithium_percolation", FILTERS[0], None),
    ],
)
def test_what_another_package_adds_is_a_filter_under_its_own_name(name: str, thing: object, says: str | None) -> None:
    if says is None:
        filters._check_filter(name, thing)
    else:
        with pytest.raises(ValueError, match=says):
            filters._check_filter(name, thing)


def test_thresholds_are_those_that_the_guide_to_spaces_gives() -> None:
    usual = {f.name: threshold for f in FILTERS if (threshold := Filters().threshold(f.name)) is not None}
    assert usual == {
        "lithium_percolation": 1.10,
        "size_mismatch": 16.0,
        "metal_size_mismatch": 18.5,
        "radius_range": 0.25,
        "redox_electrons_with_oxygen": 0.4,
        "redox_compatibility": 2.0,
        "fluorine_by_route": 0.7,
        "precursors": 9.0,
    }
