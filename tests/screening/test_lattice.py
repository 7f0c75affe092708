"""Exactness of counting, ranking and walking."""

from __future__ import annotations

import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from drxnet.errors import ConfigurationError
from screening.candidates import Candidates
from screening.lattice import Lattice
from screening.space import CandidateSpace, load_space, parse_space
from screening.species import Species, couples

LISTED = ["Mg2+", "Mn2+", "Mn3+", "Mn4+", "Fe2+", "Fe3+", "Cr3+", "V3+", "V4+", "Ti4+", "Nb5+", "Mo4+", "Mo6+"]


def brute_force(space: CandidateSpace) -> set[tuple[int, ...]]:
    """Every row of a space by trying all amounts: an independent, slow statement of what belongs."""
    d, metals = space.denominator, space.metals
    choices = [[0, *space.metal_units(m)] for m in metals]
    found = set()
    for lithium in space.lithium_units:
        for amounts in itertools.product(*choices):
            if lithium + sum(amounts) != 2 * d:
                continue
            for fluorine in space.fluorine_units:
                charge = 4 * d - lithium - fluorine
                mixture = by_ladder(space, amounts, charge)
                if mixture is not None and next(iter(space.objections(list(mixture))), None) is None:
                    held = [(q, sum(a for s, a in mixture.items() if q.holds(s)) / d) for q in space.quotas]
                    if all(q.amount is None or q.amount.min <= h <= (q.amount.max or 9) for q, h in held):
                        found.add((lithium, fluorine, *amounts))
    return found


def by_ladder(space: CandidateSpace, amounts: tuple[int, ...], charge: int) -> dict[Species, Fraction] | None:
    """Species of a composition, one electron step at a time; None where no assignment is neutral."""
    present = {m: a for m, a in zip(space.metals, amounts, strict=True) if a}
    lowest, highest = (sum(space.states[m][i] * a for m, a in present.items()) for i in (0, -1))
    if not lowest <= charge <= highest:
        return None
    mixture = {Species(m, space.states[m][0]): Fraction(a) for m, a in present.items()}
    for couple in sorted((c for m in present for c in couples(m, space.states[m])), key=lambda c: c.place):
        missing = charge - sum(s.charge * a for s, a in mixture.items())
        raised = min(Fraction(present[couple.element]), missing / Fraction(couple.upper - couple.lower))
        lower, upper = Species(couple.element, couple.lower), Species(couple.element, couple.upper)
        mixture |= {lower: mixture.get(lower, Fraction(0)) - raised, upper: raised}
        mixture = {s: a for s, a in mixture.items() if a > 0}
    return mixture


@st.composite
def spaces(draw: st.DrawFn) -> CandidateSpace:
    """Small spaces that use every kind of constraint."""
    step = draw(st.sampled_from([4, 5, 8, 10]))
    species = draw(st.lists(st.sampled_from(LISTED), min_size=2, max_size=6, unique=True))
    metals = sorted({Species.parse(s).element for s in species})
    assume(len(metals) <= 4)
    low = draw(st.integers(1, 2 * step - 1))
    fluorine = draw(st.integers(0, step))
    values = {
        "step": f"1/{step}",
        "lithium": {"min": low / step, "max": min(2, (low + draw(st.integers(0, step))) / step)},
        "fluorine": {"min": 0, "max": fluorine / step, "step": draw(st.sampled_from([1, 2])) / step},
        "species": species,
        "filters": "none",
        "k_elements": [draw(st.integers(1, 2)), draw(st.sampled_from([None, 3, 4]))],
        "k_species": [draw(st.integers(0, 3)), draw(st.sampled_from([None, 4]))],
    }
    if draw(st.booleans()):
        metal = draw(st.sampled_from(metals))
        values["limits"] = {metal: {"min": draw(st.sampled_from([1, 2])) / step, "max": 1.5, "step": 1 / step}}
    if draw(st.booleans()):
        values["required"] = [draw(st.sampled_from(metals))]
    if draw(st.booleans()):
        values["forbidden_pairs"] = [draw(st.permutations(species))[:2]]
    if draw(st.booleans()):
        group = draw(st.sampled_from(["redox-active", "d0", "+2", "+3"]))
        values["quotas"] = [{"group": group, "count": [0, 2], "amount": [0, draw(st.sampled_from([0.5, 1]))]}]
    return parse_space(values)


def rows_of(candidates: Candidates) -> np.ndarray:
    return np.concatenate([rows for _, rows in candidates.walk(chunk=97)])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(space=spaces())
def test_a_space_is_refused_as_empty_exactly_when_brute_force_finds_nothing(space: CandidateSpace) -> None:
    if brute_force(space):
        assert Lattice(space).count
    else:
        with pytest.raises(ConfigurationError, match="is empty"):
            Lattice(space)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(space=spaces())
def test_the_lattice_holds_exactly_what_brute_force_finds(space: CandidateSpace) -> None:
    expected = brute_force(space)
    assume(expected)
    lattice = Lattice(space)
    rows = rows_of(lattice)
    assert lattice.count == len(rows) == len(expected)
    assert set(map(tuple, rows.tolist())) == expected
    assert (lattice.unrank(np.arange(lattice.count)) == rows).all()
    ranks = range(0, lattice.count, max(1, lattice.count // 20))
    assert [lattice.rank(rows[r]) for r in ranks] == list(ranks)
    near = rows[:: max(1, len(rows) // 50)] + np.random.default_rng(0).integers(-1, 2, (7, 1, rows.shape[1]))
    near = near.reshape(-1, rows.shape[1]).clip(0)
    assert lattice.contains(near).tolist() == [tuple(row) in expected for row in near.tolist()]
    assert lattice.contains(rows).all()
    assert all(not space.why_not(c) for c in lattice.compositions(rows[ranks]))


@pytest.fixture(scope="module")
def paper() -> Lattice:
    return Lattice(load_space("paper-he"))


def test_every_composition_of_the_paper_space_is_neutral_unique_and_in_place(paper: Lattice) -> None:
    d, keys = paper.denominator, []
    base = 2 * d + 1
    for _, units in paper.walk():
        rows = units.astype(np.int64)
        metals = rows[:, 2:]
        charges = paper.charges(rows)
        assert (rows[:, 0] + metals.sum(1) == 2 * d).all()
        assert (rows[:, 0] + charges.sum(1) + rows[:, 1] == 4 * d).all()
        assert ((metals > 0).sum(1) >= 4).all()
        keys.append(rows @ base ** np.arange(rows.shape[1]))
    every = np.concatenate(keys)
    assert len(np.unique(every)) == len(every) == paper.count


def test_shards_walked_apart_are_the_whole(paper: Lattice) -> None:
    start, stop = 123_456, 323_457
    whole = np.concatenate([units for _, units in paper.walk(start, stop)])
    cuts = np.linspace(start, stop, 8, dtype=int)
    parts = [units for a, b in zip(cuts, cuts[1:], strict=False) for _, units in paper.walk(a, b, 1000)]
    assert (np.concatenate(parts) == whole).all()
    assert (paper.unrank(np.arange(start, stop, 50)) == whole[::50]).all()


@pytest.mark.parametrize(("step", "count"), [(10, 774_034), (20, 451_946_687), (40, 715_739_769_873)])
def test_a_space_of_fourteen_species_counts_as_by_inclusion_and_exclusion(step: int, count: int) -> None:
    species = "Mn2+ Mn3+ Mg2+ Ni2+ Cr3+ V3+ Ti4+ Nb5+ Fe2+ Fe3+ Co2+ Al3+ Zr4+ Mo6+".split()
    keys = {"lithium": [1, 1.35], "fluorine": [0, 0.7], "k_elements": [4, None], "filters": "none"}
    space = parse_space({"step": f"1/{step}", "species": species, **keys})
    lattice = Lattice(space)
    assert lattice.count == count
    if step < 40:
        assert inclusion_exclusion(space) == count
    last = lattice.unrank([lattice.count - 1])
    assert lattice.rank(last[0]) == lattice.count - 1


def inclusion_exclusion(space: CandidateSpace) -> int:
    """Count elements' compositions from two generating functions, with no cells: charges too low and too high."""
    d = space.denominator
    sites = 2 * d - space.lithium_units[0]

    def series(which: int) -> np.ndarray:
        top = sites * 6
        counts = np.zeros((len(space.metals) + 1, sites + 1, top + 1), dtype=np.int64)
        counts[0, 0, 0] = 1
        for metal in space.metals:
            z, before = space.states[metal][which], counts.copy()
            for n in space.metal_units(metal):
                if n <= sites:
                    counts[1:, n:, z * n :] += before[:-1, : sites + 1 - n, : top + 1 - z * n]
        return counts[space.k_elements.min :].sum(0)

    lowest, highest = series(0), series(-1)
    total = 0
    for lithium in space.lithium_units:
        metals = 2 * d - lithium
        for fluorine in space.fluorine_units:
            charge = 4 * d - lithium - fluorine
            total += int(lowest[metals, : charge + 1].sum() - highest[metals, :charge].sum())
    return total


def test_a_quota_on_amounts_is_exact_where_two_electrons_part_the_states() -> None:
    space = parse_space(
        {
            "step": "1/8",
            "lithium": [1, 1.5],
            "fluorine": [0, 0.5],
            "species": ["Mo4+", "Mo6+", "Fe2+", "Mg2+"],
            "quotas": [{"group": "d0", "amount": [0.0625, 0.25]}],
            "filters": "none",
        }
    )
    assert set(map(tuple, rows_of(Lattice(space)).tolist())) == brute_force(space)


def test_narrowing_a_space_never_adds_to_it() -> None:
    wide = load_space("tiny")
    narrow = parse_space({**wide.model_dump(), "k_elements": [4, 4], "quotas": [{"group": "+2", "count": [1, 1]}]})
    rows = rows_of(Lattice(narrow))
    assert Lattice(wide).contains(rows).all()
    assert 0 < len(rows) < Lattice(wide).count


def test_a_sample_by_cell_lies_in_the_space_and_visits_every_cell(paper: Lattice) -> None:
    ranks = paper.sample_cells(3 * paper.cells, seed=4)
    units = paper.unrank(ranks)
    charges = paper.charges(units)
    lower = charges // np.maximum(units[:, 2:], 1)
    mixed = charges % np.maximum(units[:, 2:], 1) > 0
    seen = {(tuple(r > 0), tuple(z), tuple(m)) for r, z, m in zip(units[:, 2:], lower, mixed, strict=True)}
    assert len(seen) == paper.cells


def test_a_pickled_lattice_is_the_same_and_small(paper: Lattice) -> None:
    sent = pickle.dumps(paper)
    assert len(sent) < 10_000
    assert (pickle.loads(sent).unrank([5, 99_999]) == paper.unrank([5, 99_999])).all()


def test_ranks_outside_are_refused(paper: Lattice) -> None:
    with pytest.raises(ConfigurationError, match="Ranks run from 0 to 1,974,693"):
        paper.unrank([paper.count])


def test_a_space_beyond_sixty_four_bits_is_refused() -> None:
    species = "Mg2+ Mn2+ Fe2+ Co2+ Ni2+ Cr3+ Al3+ V3+ Ti4+ Zr4+ Nb5+ Mo6+".split()
    values = {"step": "1/500", "lithium": [1, 1.1], "fluorine": [0, 0.2], "species": species, "filters": "none"}
    with pytest.raises(ConfigurationError, match="2\\^62.*coarser step"):
        Lattice(parse_space({**values, "k_elements": 12}))


def test_a_row_of_too_many_metals_is_not_in_the_space() -> None:
    values = {"species": ["Mn3+", "Cr3+", "Ti4+", "Nb5+"], "step": "1/20", "lithium": [1, 1.35], "fluorine": [0, 0.7]}
    wide = Lattice(parse_space({**values, "filters": "none", "k_elements": [1, None]}))
    narrow = Lattice(parse_space({**values, "filters": "none", "k_elements": [1, 2]}))
    rows = wide.unrank(wide.sample_ranks(400, 0))
    few = (rows[:, 2:] > 0).sum(1) <= 2
    assert 0 < few.sum() < len(rows)
    assert np.array_equal(narrow.contains(rows), few)
