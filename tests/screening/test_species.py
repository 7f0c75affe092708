"""The tables of species, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Species as PymatgenSpecies

from drxnet.composition import MODEL_METALS, Composition
from drxnet.errors import ConfigurationError
from screening.filters import Mixtures
from screening.species import (
    Species,
    compatibility,
    couples,
    fill_ladder,
    known_states,
    ladder,
    oxidation_order,
    oxides,
    radii,
    reactions_to_metal,
    reduction_to_metal,
    supply,
)


@pytest.mark.filterwarnings("ignore")  # pymatgen warns where a radius is listed without a spin
@pytest.mark.parametrize("species", list(radii()), ids=str)
def test_radii_are_those_of_shannon(species: Species) -> None:
    known = PymatgenSpecies(species.element, species.charge).get_shannon_radius("VI", "High Spin")
    assert species.radius_angstrom == known


def test_every_metal_of_the_model_has_states_and_supply_figures() -> None:
    assert all(known_states(metal) for metal in MODEL_METALS)
    assert {species.element for species in radii()} <= set(supply())


def test_oxide_potentials_follow_from_gibbs_energies_of_formation() -> None:
    # CRC Handbook, kJ/mol of oxide at 298 K; each pair holds one metal atom less and more oxidised.
    formation = {
        "Ti": (-1434.2 / 2, -888.8, 1),
        "Nb": (-740.5, -1766.0 / 2, 1),
        "W": (-533.9, -764.0, 2),
        "Fe": (-251.4, -742.2 / 2, 1),
        "Mo": (-533.0, -668.0, 2),
    }
    listed = {c.element: c.oxide_v for c in ladder()}
    for metal, (lower, upper, electrons) in formation.items():
        assert listed[metal] == pytest.approx((upper - lower) / (electrons * 96.485), abs=0.02)


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ("Mn3+/Fe2+ Co3+/Fe2+ Mn4+/V3+ Mn4+/Mo4+", "impossible"),
        ("Mn3+/V3+ Co3+/V3+ Co3+/Mn2+ Mn4+/Fe2+ V5+/Fe2+ Mo6+/V3+", "unlikely"),
        ("Fe3+/V3+ V4+/Fe2+ V5+/Mn2+ Mn3+/V4+ Mo6+/Mn2+ Mo6+/Fe2+", "uncertain"),
        ("Mn2+/Ti4+ Mg2+/Cr3+ Mn2+/Nb5+ Mn2+/Mn4+ Mn2+/Cr3+", "compatible"),
    ],
    ids=["impossible", "unlikely", "uncertain", "compatible"],
)
def test_pairs_are_judged_on_both_scales(pairs: str, verdict: str) -> None:
    for pair in pairs.split():
        one, other = map(Species.parse, pair.split("/"))
        assert compatibility(one, other) == compatibility(other, one) == verdict


@pytest.mark.parametrize(
    ("oxidant", "reductant", "equation", "energy", "verdict"),
    [
        ("Ni2+", "Fe2+", "2 FeO + NiO -> Fe2O3 + Ni", -742.2 + 2 * 251.4 + 211.7, "unlikely"),
        ("Co2+", "Fe2+", "2 FeO + CoO -> Fe2O3 + Co", -742.2 + 2 * 251.4 + 214.2, "unlikely"),
        ("Ni2+", "Ti3+", "Ti2O3 + NiO -> 2 TiO2 + Ni", 2 * -888.8 + 1434.2 + 211.7, "impossible"),
        ("Mo4+", "Ti3+", "2 Ti2O3 + MoO2 -> 4 TiO2 + Mo", 4 * -888.8 + 2 * 1434.2 + 533.0, "impossible"),
        ("W4+", "V2+", "4 VO + WO2 -> 2 V2O3 + W", 2 * -1139.3 + 4 * 404.2 + 533.9, "impossible"),
        ("Fe2+", "Nb4+", "2 NbO2 + FeO -> Nb2O5 + Fe", -1766.0 + 2 * 740.5 + 251.4, "unlikely"),
    ],
    ids=["Ni-Fe", "Co-Fe", "Ni-Ti", "Mo-Ti", "W-V", "Fe-Nb"],
)
def test_a_reduced_cation_takes_the_metal_out_of_an_oxide(
    oxidant: str, reductant: str, equation: str, energy: float, verdict: str
) -> None:
    one, other = Species.parse(oxidant), Species.parse(reductant)
    reaction = reduction_to_metal(one, other)
    assert reaction is not None
    assert reaction.equation == equation
    assert reaction.gibbs_kj_mol == pytest.approx(energy)  # CRC Handbook, kJ/mol at 298 K
    assert reaction.margin_v == pytest.approx(-energy / (one.charge * 96.485))
    assert compatibility(one, other) == compatibility(other, one) == verdict
    before, after = (oxides()[Species(other.element, z)].gibbs_kj_mol for z in (other.charge, other.charge + 1))
    assert before < 0
    assert after < 0


@pytest.mark.parametrize(
    "pair", ["Ni2+ Mn2+", "Ni2+ V3+", "Ni2+ Cr3+", "Mo6+ Fe2+", "Mn2+ Ti3+", "Ti4+ V2+", "Ni3+ Fe2+"]
)
def test_what_is_uphill_or_not_the_last_step_gives_no_metal(pair: str) -> None:
    oxidant, reductant = map(Species.parse, pair.split())
    assert reduction_to_metal(oxidant, reductant) is None


def test_every_couple_between_known_oxides_has_the_potential_of_their_energies() -> None:
    checked = 0
    for couple in ladder():
        lower, upper = (oxides().get(Species(couple.element, z)) for z in (couple.lower, couple.upper))
        if lower is not None and upper is not None:
            volts = (upper.per_metal_kj - lower.per_metal_kj) / ((couple.upper - couple.lower) * 96.485)
            assert couple.oxide_v == pytest.approx(volts, abs=0.02), str(couple)
            checked += 1
    assert checked >= 10


def test_reactions_are_listed_the_strongest_first() -> None:
    found = reactions_to_metal([Species.parse(s) for s in ("Li1+", "Fe2+", "Ni2+", "Ti3+", "Mn2+")])
    assert [r.metal for r in found] == ["Ni", "Fe", "Ni"]
    assert [str(r) for r in found][-1] == "2 FeO + NiO -> Fe2O3 + Ni (-28 kJ/mol of Ni, 298 K)"


def test_a_couple_over_two_steps_is_the_mean_by_electrons() -> None:
    (whole,) = couples("Mn", (2, 4))
    lower, upper = couples("Mn", (2, 3, 4))
    assert whole.oxide_v == pytest.approx((lower.oxide_v + upper.oxide_v) / 2)
    assert str(whole) == "Mn2+/Mn4+"


@pytest.mark.parametrize(
    ("formula", "published"),
    [
        ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", {"Mn2+": 0.1, "Mg2+": 0.1, "Cr3+": 0.3, "Ti4+": 0.2, "Nb5+": 0.1}),
        (
            "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2",
            {"Mn2+": 0.1, "Mg2+": 0.1, "Cr3+": 0.15, "V3+": 0.15, "Ti4+": 0.2, "Nb5+": 0.1},
        ),
        ("Li1.3Mn0.4Ti0.3O1.7F0.3", {"Mn3+": 0.4, "Ti4+": 0.3}),
        ("Li1.3Mn0.4Ti0.1Nb0.2O1.7F0.3", {"Mn2+": 0.2, "Mn3+": 0.2, "Ti4+": 0.1, "Nb5+": 0.2}),
        (
            "Li1.3Mn0.2Co0.1Cr0.1Ti0.1Nb0.2O1.7F0.3",
            {"Mn2+": 0.1, "Mn3+": 0.1, "Co2+": 0.1, "Cr3+": 0.1, "Ti4+": 0.1, "Nb5+": 0.2},
        ),
        ("Li1.2Mn0.4Ti0.4O2", {"Mn3+": 0.4, "Ti4+": 0.4}),
    ],
    ids=["HE-1", "HE-2", "TM2", "TM4", "TM6", "LMTO"],
)
def test_the_ladder_gives_the_published_valences(formula: str, published: dict[str, float]) -> None:
    composition = Composition.parse(formula)
    metals = list(composition.metals)
    states = {m: known_states(m) for m in metals}
    amounts = np.array([list(composition.metals.values())])
    charge = np.array([4 - composition.lithium - composition.fluorine])
    charges, missing = fill_ladder(metals, states, amounts, charge)
    assert missing[0] == pytest.approx(0)
    cations = np.concatenate([[[composition.lithium]], amounts], 1)
    found = Mixtures.of(states, cations, np.array([composition.fluorine]), charges)
    held = zip(found.species[1:], found.metals[0], strict=True)
    assert {str(s): a for s, a in held if a > 0} == pytest.approx(published)


def test_filling_leaves_what_cannot_be_placed() -> None:
    _, missing = fill_ladder(["Mn"], {"Mn": (2, 3)}, np.array([[4], [4], [4]]), np.array([7, 10, 13]))
    assert missing.tolist() == [-1, 0, 1]


def test_no_oxidant_stands_beside_a_stronger_reductant_after_filling() -> None:
    generator = np.random.default_rng(3)
    states = {m: known_states(m) for m in ("Ti", "V", "Mn", "Fe", "Co", "Cr")}
    metals = list(states)
    amounts = generator.integers(0, 9, (300, len(metals)))
    low, high = (amounts @ np.array([states[m][i] for m in metals]) for i in (0, -1))
    charges, missing = fill_ladder(metals, states, amounts, generator.integers(low, high + 1))
    assert not missing.any()
    order = oxidation_order(states)
    place = {m: i for i, m in enumerate(metals)}
    for row, charge in zip(amounts, charges, strict=True):
        filled = [
            (charge[i] - c.lower * row[i]) / ((c.upper - c.lower) * row[i]) for c in order if row[i := place[c.element]]
        ]
        done = np.clip(filled, 0, 1)
        assert (np.diff(done) <= 0).all()
        assert ((done > 0) & (done < 1)).sum() <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mn", "an element and its oxidation state"),
        ("Mn7+", r"Known of Mn: Mn2\+, Mn3\+, Mn4\+"),
        ("Xx2+", "Elements with data"),
        ("Mn\u0663+", "an element and its oxidation state"),
    ],
    ids=["no-state", "unknown-state", "unknown-element", "foreign-digit"],
)
def test_a_species_without_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Species.parse(text)


def test_states_that_the_ladder_does_not_join_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no couple Cr3\+/Cr6\+"):
        couples("Cr", (3, 6))
