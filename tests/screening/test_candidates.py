"""What lattices and lists have in common, and lists of a user's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drxnet.composition import Composition
from drxnet.errors import CompositionError, ConfigurationError, DRXWarning
from screening.candidates import CandidateList, Candidates, Permutation, explain
from screening.filters import Filters
from screening.lattice import Lattice, open_candidates
from screening.space import load_space, parse_space

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
OWN = [HE1, "Li1.2Mn0.4Ti0.4O2", "Li12Mn4Ti4O20", "Li1.3333Mn0.6667O1.3333F0.6667"]


@pytest.fixture(params=["lattice", "list"])
def candidates(request: pytest.FixtureRequest) -> Candidates:
    return Lattice(load_space("tiny")) if request.param == "lattice" else CandidateList(OWN)


def test_walking_unranking_and_ranking_agree(candidates: Candidates) -> None:
    stop = min(candidates.count, 500)
    walked = np.concatenate([units for _, units in candidates.walk(0, stop, 7)])
    assert (candidates.unrank(np.arange(stop)) == walked).all()
    assert [candidates.rank(row) for row in walked[:20]] == list(range(min(stop, 20)))


def test_rows_compositions_and_formulas_say_the_same(candidates: Candidates) -> None:
    units = candidates.sample(3, seed=1)
    compositions = candidates.compositions(units)
    assert candidates.formulas(units) == [c.formula for c in compositions]
    assert [candidates.row(c).tolist() for c in compositions] == units.tolist()
    symbols, cations, fluorine = candidates.amounts(units)
    assert symbols[0] == "Li"
    assert [dict(zip(symbols, row, strict=True)).get("Li") for row in cations] == [c.lithium for c in compositions]
    assert fluorine.tolist() == [c.fluorine for c in compositions]


def test_shards_tile_the_ranks_and_are_equal(candidates: Candidates) -> None:
    for n in (1, 2, 7):
        shards = candidates.shards(n)
        assert [a for a, _ in shards] + [candidates.count] == [0] + [b for _, b in shards]
        assert max(b - a for a, b in shards) - min(b - a for a, b in shards) <= 1


def test_a_sample_without_replacement_has_no_duplicates_and_grows(candidates: Candidates) -> None:
    ranks = candidates.sample_ranks(candidates.count, seed=5)
    assert sorted(ranks.tolist()) == list(range(candidates.count))
    assert candidates.sample_ranks(2, seed=5).tolist() == ranks[:2].tolist()
    with pytest.raises(ConfigurationError, match="cannot be drawn without replacement"):
        candidates.sample_ranks(candidates.count + 1, seed=5)


def test_a_sample_with_replacement_may_be_longer_than_the_space(candidates: Candidates) -> None:
    assert len(candidates.sample(candidates.count + 5, seed=2, replace=True)) == candidates.count + 5


def test_a_list_keeps_the_order_and_drops_what_is_written_twice() -> None:
    assert [c.formula for c in map(Composition.parse, OWN[:2])] == CandidateList(OWN).formulas(
        CandidateList(OWN).unrank([0, 1])
    )
    assert CandidateList(OWN).count == 3


def test_a_list_applies_filters_of_species_and_of_amounts() -> None:
    candidates = CandidateList(OWN, Filters(radius_range=0.2, lithium_percolation=1.3))
    assert candidates.keeps(candidates.unrank([0, 1, 2])).tolist() == [False, False, True]
    assert candidates.accepted().fraction == pytest.approx(1 / 3)


def test_a_csv_is_read_wherever_a_space_is(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"note,Formula\nx,{HE1}\ny,\nz,Li1.2Mn0.4Ti0.4O2\n")
    assert open_candidates(path).count == 2
    assert isinstance(open_candidates("tiny"), Lattice)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a,b\n1,2\n", ConfigurationError, "has a column 'composition'. Got a, b"),
        ("composition\n", ConfigurationError, "at least one"),
        ("composition\nLi1.2Mn0.4Ti0.4O2\nNaCl\n", CompositionError, "line 3"),
    ],
    ids=["no-column", "empty", "bad-formula"],
)
def test_a_wrong_csv_is_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        CandidateList.read(path)


def test_what_is_not_a_candidate_has_no_rank() -> None:
    with pytest.raises(CompositionError, match="not in the list"):
        CandidateList(OWN).rank([12000, 0, *[0] * (len(CandidateList(OWN).metals) - 1), 8000])
    lattice = Lattice(load_space("paper-he"))
    with pytest.raises(CompositionError, match="k_elements: 2 metals, 4 or more allowed"):
        lattice.rank(lattice.row("Li1.2Mn0.4Ti0.4O2"))
    with pytest.raises(CompositionError, match="Zr is not among the elements"):
        lattice.row("Li1.2Mn0.4Zr0.4O2")


def test_an_explanation_holds_rank_charges_reactions_and_filters() -> None:
    lattice = Lattice(load_space("paper-he"))
    inside = explain(lattice, HE1)
    assert inside.excluded_by == []
    assert lattice.formulas(lattice.unrank([inside.rank or 0])) == [inside.composition.formula]
    assert inside.oxidation_states == {"Mg": 2, "Ti": 4, "Cr": 3, "Mn": 2, "Nb": 5}
    assert sum(s.charge * a for s, a in inside.species.items()) == pytest.approx(4 - 0.2)
    assert inside.hazards[0].startswith("Cr")
    outside = explain(lattice, "Li1.2Mn0.2V0.2Al0.2Ti0.2O2")
    assert outside.rank is None
    assert outside.excluded_by == ["species: Al is not allowed"]
    assert [(str(a), str(b), how) for a, b, how in outside.reactions] == [("V3+", "Mn3+", "unlikely")]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(1, 3000), seed=st.integers(0, 2**32))
def test_a_permutation_is_a_bijection(count: int, seed: int) -> None:
    assert sorted(Permutation(count, seed)(np.arange(count)).tolist()) == list(range(count))


def test_a_permutation_reaches_far_and_refuses_places_outside() -> None:
    huge = Permutation(716_000_000_000, 1)
    drawn = huge(np.arange(4000))
    assert len(set(drawn.tolist())) == 4000
    quarters = Counter((drawn * 4 // huge.count).tolist())
    assert all(850 < n < 1150 for n in quarters.values())
    for place in (-1, huge.count):
        with pytest.raises(ConfigurationError, match="Places run from 0"):
            huge([place])


@pytest.mark.parametrize("replace", [True, False])
def test_samples_are_uniform_by_chi_square(replace: bool) -> None:
    lattice = Lattice(load_space("tiny"))
    bins, draws = 100, 5000
    counts = np.zeros(bins)
    for seed in range(10):
        ranks = lattice.sample_ranks(draws, seed, replace=replace)
        counts += np.bincount(ranks * bins // lattice.count, minlength=bins)
    sizes = np.bincount(np.arange(lattice.count) * bins // lattice.count, minlength=bins)
    expected = 10 * draws * sizes / lattice.count
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 40 < chi_square < 150  # 99 degrees of freedom; without replacement the spread shrinks by 38 %


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_list_is_read_as_a_spreadsheet_saves_it(tmp_path: Path, encoding: str, between: str) -> None:
    path = tmp_path / "own.csv"
    rows = [("name", "Composition"), ("Müller", "Li1.2Mn0.4Ti0.4O2"), ("", ""), ("b", "Li1.2Mn0.6Nb0.2O2")]
    path.write_text("\r\n".join(map(between.join, rows)), encoding=encoding)
    assert CandidateList.read(path).count == 2


def test_a_wrong_line_of_a_list_is_named_below_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("composition\n\n\nLi1.2Mn0.4Ti0.4O2\nXx2O3\n")
    with pytest.raises(CompositionError, match="line 5: Xx2O3"):
        CandidateList.read(path)
    path.write_bytes("composition,note\nLi1.2Mn0.4Ti0.4O2,Müller\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="Save it again as `CSV UTF-8`"):
        CandidateList.read(path)


def test_a_list_leaves_traces_out_and_says_so() -> None:
    with pytest.warns(DRXWarning, match=r"hold less than 0.02 of a metal, which is left out"):
        candidates = CandidateList(["Li1.25Mn0.7499Zr0.0001O2", "Li1.25Mn0.75O2", "Li1.2Mn0.4Ti0.4O2"])
    assert candidates.formulas(candidates.unrank(range(candidates.count))) == ["Li1.25Mn0.75O2", "Li1.2Ti0.4Mn0.4O2"]


@pytest.mark.parametrize(
    ("formula", "surplus"), [("Li1.2Mn0.8O2", -0.4), ("Li1.2Nb0.8O2", 1.2), ("Li1.2Mn0.4Ti0.4O2", 0)]
)
def test_charge_that_no_state_takes_is_left_over_with_its_sign(formula: str, surplus: float) -> None:
    candidates = Lattice(
        parse_space({"step": "1/20", "lithium": 1.2, "fluorine": 0, "species": ["Mn3+", "Ti4+", "Nb5+"]})
    )
    assert explain(candidates, Composition.parse(formula)).surplus_charge == pytest.approx(surplus)


def test_a_sample_holds_each_candidate_once_unless_told_otherwise(candidates: Candidates) -> None:
    whole = candidates.sample(candidates.count, seed=1)
    assert len(np.unique(whole, axis=0)) == candidates.count


@pytest.mark.parametrize("threshold", [1.2, 1.3, 9.0])
def test_the_error_of_an_accepted_share_is_that_of_a_draw(threshold: float) -> None:
    filters = {**Filters.none().model_dump(), "lithium_percolation": threshold}
    lattice = Lattice(parse_space({**load_space("tiny").model_dump(), "filters": filters}))
    every, few, more = (lattice.accepted(draws, seed=2) for draws in (lattice.count, 400, 1600))
    assert every.error == 0.0
    for found, draws in ((few, 400), (more, 1600)):
        variance = max(found.fraction * (1 - found.fraction), 1 / draws)  # of none among n the error is one in n
        assert found.error == pytest.approx((variance / draws) ** 0.5)
        assert abs(found.fraction - every.fraction) <= 4 * found.error
        assert 0.0 < found.error < 0.03
        assert sum(found.refused.values()) == pytest.approx(1 - found.fraction)


def test_an_explanation_gives_average_states_of_thirds_to_the_sixth_decimal() -> None:
    found = explain(CandidateList([OWN[0]]), "Li1.2Mn0.6Ti0.1Nb0.1O2")
    assert found.oxidation_states["Mn"] == round((2.8 - 0.9) / 0.6, 6)
    assert sum(found.species.values()) == pytest.approx(2)


@pytest.mark.parametrize("places", [[-1], [0, 5], [7, -2]])
def test_places_outside_are_told_with_the_last_one(places: list[int]) -> None:
    said = f"Places run from 0 to 4. Got {min(places)} to {max(places)}."
    with pytest.raises(ConfigurationError, match=said):
        Permutation(5, 1)(places)
    assert sorted(Permutation(5, 1)([0, 1, 2, 3, 4]).tolist()) == [0, 1, 2, 3, 4]
    assert Permutation(5, 1)([]).tolist() == []


def test_a_rocksalt_that_was_made_although_a_filter_refuses_it_is_told_with_the_reason():
    found = explain(CandidateList([OWN[0]]), "LiFeO2").exceptions
    assert set(found) == {"lithium_percolation", "redox_electrons_with_oxygen"}
    assert "nanometre-sized particles" in found["lithium_percolation"]
    assert not explain(CandidateList([OWN[0]]), OWN[0]).exceptions
