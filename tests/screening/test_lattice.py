"""Exactness of counting, ranking and walking."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drxnet.errors import ConfigurationError
from screening.candidates import Candidates
from screening.lattice import Lattice
from screening.space import CandidateSpace, parse_space
from screening.species import Species, couples

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
HE2 = "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2"
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


@settings(max_examples=60, deadline=None, derandomize=True)
@given(space=spaces())
def test_the_lattice_holds_exactly_what_brute_force_finds(space: CandidateSpace) -> None:
    expected = brute_force(space)
    if not expected:
        with pytest.raises(ConfigurationError, match="empty"):
            Lattice(space)
        return
    lattice = Lattice(space)
    rows = rows_of(lattice)
    assert lattice.count == len(rows) == len(expected)
    assert set(map(tuple, rows.tolist())) == expected
    assert (lattice.unrank(np.arange(lattice.count)) == rows).all()
    ranks = range(0, lattice.count, max(1, lattice.count // 20))
    assert [lattice.rank(rows[r]) for r in ranks] == list(ranks)
