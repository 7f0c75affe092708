from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition as AnyComposition

from drxnet.composition import FARADAY_MAH_MOL, MODEL_METALS, Composition
from drxnet.errors import CompositionError, DRXWarning

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


@pytest.mark.parametrize(
    "formula", ["Li1.2Mn0.4Ti0.4O2", "Li12Mn4Ti4O20", "Li2.4Mn0.8Ti0.8O4", "Li1.2 Mn0.4 Ti0.4 O2", "(Li3MnTi)0.4O2"]
)
def test_one_composition_has_one_canonical_formula(formula):
    assert Composition.parse(formula).formula == "Li1.2Ti0.4Mn0.4O2"
    assert Composition.parse(formula) == Composition.parse("Li1.2Mn0.4Ti0.4O2")
    assert len({Composition.parse(formula), Composition.parse("Li6Mn2Ti2O10")}) == 1


@pytest.mark.parametrize("formula", ["Mn23333" * 60 + "]", "Li12Mn4Ti4O202" * 40 + "\n"], ids=["bracket", "line"])
def test_a_long_text_that_is_no_formula_is_refused_at_once(formula):
    begun = time.process_time()
    with pytest.raises(CompositionError):
        Composition.parse(formula)
    assert time.process_time() - begun < 2  # it took seconds, and with every further term several times that


def test_metals_stand_in_the_order_of_their_atomic_number():
    assert Composition.parse(HE1).formula == "Li1.2Mg0.1Ti0.2Cr0.3Mn0.1Nb0.1O1.8F0.2"


@st.composite
def rocksalts(draw):
    """A neutral-on-sites composition in twentieths."""
    metals = draw(st.lists(st.sampled_from(MODEL_METALS[1:]), min_size=1, max_size=6, unique=True))
    lithium = draw(st.integers(20, 28))
    rest = 40 - lithium
    cuts = sorted(draw(st.lists(st.integers(1, rest - 1), min_size=len(metals) - 1, max_size=len(metals) - 1)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, rest], strict=True)]
    amounts = {"Li": lithium} | {s: n for s, n in zip(metals, parts, strict=True) if n}
    fluorine = draw(st.integers(0, 12))
    return amounts | {"O": 40 - fluorine} | ({"F": fluorine} if fluorine else {})


@given(rocksalts())
def test_formula_and_units_round_trip(units):
    composition = Composition.from_amounts(units)
    assert Composition.parse(composition.formula) == composition
    assert composition.units(20) == units
    assert composition.molar_mass == pytest.approx(
        AnyComposition({s: n / 20 for s, n in units.items()}).weight, rel=1e-9
    )


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        pytest.param("nonsense", "not a chemical formula", id="no-formula"),
        pytest.param("", "not a chemical formula", id="empty"),
        pytest.param("Li1.2Xx0.8O2", "Got Xx", id="no-element"),
        pytest.param("Na1.2Mn0.8O2", "no lithium", id="no-lithium"),
        pytest.param("Li1.2P0.8O2", "Got P", id="not-a-metal"),
        pytest.param("Li2MnO2", "cations 3, anions 2", id="too-many-cations"),
        pytest.param("LiO2", "cations 1, anions 2", id="too-few-cations"),
        pytest.param("Li1.2Mn0.8", "no O or F", id="no-anions"),
        pytest.param("Li1.8Mn0.2O0.4F1.6", "at most 1.4", id="too-much-fluorine"),
    ],
)
def test_what_is_no_disordered_rocksalt_is_refused(formula, says):
    with pytest.raises(CompositionError, match=says):
        Composition.parse(formula)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
def test_amounts_must_be_finite_and_not_negative(amount):
    with pytest.raises(CompositionError, match="finite and not negative"):
        Composition.from_amounts({"Li": 1.2, "Mn": amount, "O": 2.0})


def test_a_site_imbalance_above_two_percent_is_warned_about_and_above_five_refused():
    with pytest.warns(DRXWarning, match="off by more than 2 %"):
        Composition.from_amounts({"Li": 1.2, "Mn": 0.86, "O": 2.0})
    with pytest.raises(CompositionError):
        Composition.from_amounts({"Li": 1.2, "Mn": 0.91, "O": 2.0})


def test_lithium_capacity_is_faradays_constant_per_molar_mass():
    composition = Composition.parse("Li1.2Mn0.4Ti0.4O2")
    mass = 1.2 * 6.941 + 0.4 * 54.938 + 0.4 * 47.867 + 2 * 15.9994
    assert composition.theoretical_capacity_mah_g == pytest.approx(1.2 * FARADAY_MAH_MOL / mass, rel=1e-4)
    assert composition.theoretical_capacity_mah_g == pytest.approx(394.9, abs=0.1)


def test_redox_capacity_counts_electrons_and_is_capped_by_lithium():
    lmto = Composition.parse("Li1.2Mn0.4Ti0.4O2")
    per_electron = FARADAY_MAH_MOL / lmto.molar_mass
    assert lmto.redox_capacity_mah_g({"Mn": 3, "Ti": 4}) == pytest.approx(0.4 * per_electron)
    chromium = Composition.parse("LiCrO2")
    assert chromium.redox_capacity_mah_g({"Cr": 3}) == pytest.approx(1.0 * FARADAY_MAH_MOL / chromium.molar_mass)


def test_units_refuse_a_composition_off_the_lattice():
    with pytest.raises(CompositionError, match="not a multiple of 1/20"):
        Composition.parse("Li1.33Mn0.67O1.9F0.1").units(20)


def test_distance_is_the_largest_difference_of_an_amount():
    a, b = Composition.parse("Li1.2Mn0.4Ti0.4O2"), Composition.parse("Li1.2Mn0.5Ti0.3O1.9F0.1")
    assert a.distance(b) == pytest.approx(0.1)
    assert a.distance(a) == 0


def test_cations_off_by_more_than_five_percent_are_read_on_request() -> None:
    with pytest.raises(CompositionError, match="may differ by 5 %.*--nonstoichiometric"):
        Composition.parse("Li1.35Mn0.65Ti0.15O1.85F0.15")
    with pytest.warns(DRXWarning, match="cations 2.15 for 2 anions"):
        read = Composition.parse("Li1.35Mn0.65Ti0.15O1.85F0.15", nonstoichiometric=True)
    assert read.formula == "Li1.35Ti0.15Mn0.65O1.85F0.15"
    with pytest.raises(CompositionError, match="cations 3, anions 2; they may differ by 25 %"):
        Composition.parse("Li2MnO2", nonstoichiometric=True)
