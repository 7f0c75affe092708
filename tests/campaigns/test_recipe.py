"""Recipes: masses, oxidation states, gases, excess, rounding, cost and refusals."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.errors import RecipeError
from campaigns.firing import shipped_firings
from campaigns.recipe import make_recipe, merged, read_precursors, shipped_precursors
from drxnet.composition import MODEL_METALS, Composition
from drxnet.elements import ATOMIC_MASS
from drxnet.errors import UsageError

weigh = partial(make_recipe, li_excess=0.0, route="solid-state")
"""What the powders come to by hand: nothing on top, whatever the fluorine."""

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
HE1_STATES = {"Mn": 2, "Mg": 2, "Cr": 3, "Ti": 4, "Nb": 5}


def cost_usd_per_kg(formula: str, **options) -> float:
    """Price of the cheapest powders of a kilogram, whatever their valences (USD/kg)."""
    free = {"atmosphere": "open", "li_excess": 0.0, "f_excess": 0.0, "cheapest": True}
    return make_recipe(formula, batch_mass_g=1000.0, **free, **options).cost_usd_per_kg


def masses(recipe) -> dict[str, float]:
    return {w.precursor.formula: w.mass_g for w in recipe.weighings}


def solid_mass(recipe) -> float:
    """What is left in the crucible: powders, minus gases and planned losses, plus oxygen from the furnace."""
    mol = recipe.batch_mass_g / recipe.composition.molar_mass
    lithia = recipe.composition.lithium * recipe.li_excess / 2 * (2 * ATOMIC_MASS["Li"] + ATOMIC_MASS["O"])
    fluoride = recipe.composition.fluorine * recipe.f_excess * (ATOMIC_MASS["Li"] + ATOMIC_MASS["F"])
    oxygen = recipe.oxygen_uptake_mol * 2 * ATOMIC_MASS["O"]
    return recipe.powder_g - sum(recipe.gases_g.values()) + (oxygen - lithia - fluoride) * mol


def test_five_grams_of_he1_by_hand():
    recipe = weigh(HE1, oxidation_states=HE1_STATES)
    expected = {
        "Li2CO3": 2.2172, "LiF": 0.3113, "MnO": 0.4257, "MgO": 0.2419, "Cr2O3": 1.3682, "TiO2": 0.9586, "Nb2O5": 0.7976
    }  # fmt: skip
    assert masses(recipe) == pytest.approx(expected, abs=1.01e-4)
    assert recipe.powder_g == pytest.approx(6.3206, abs=3e-4)
    assert recipe.gases_g == {"CO2": pytest.approx(1.3208, abs=3e-4)}
    assert recipe.oxygen_uptake_mol == 0
    assert recipe.composition.molar_mass == pytest.approx(83.31, abs=0.01)


def test_the_oxide_replaces_the_carbonate_when_preferred():
    recipe = weigh(HE1, oxidation_states=HE1_STATES, prefer=["Li2O"])
    assert masses(recipe)["Li2O"] == pytest.approx(0.8966, abs=1e-4)
    assert recipe.gases_g == {}


def test_a_preferred_fluoride_takes_the_place_of_lithium_fluoride():
    made = masses(weigh(HE1, oxidation_states=HE1_STATES, prefer=["MnF2"]))
    assert made["MnF2"] == pytest.approx(0.5577, abs=1e-4)
    assert made["Li2CO3"] == pytest.approx(2.6606, abs=2e-4)
    assert "LiF" not in made


def test_an_open_furnace_lets_oxygen_leave():
    recipe = weigh(HE1, oxidation_states=HE1_STATES, avoid=["MnO"], atmosphere="open")
    assert "Mn2O3" in masses(recipe)
    assert recipe.oxygen_uptake_mol == pytest.approx(-0.025)
    assert solid_mass(recipe) == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize(
    ("formula", "states", "expected"),
    [
        pytest.param("Li1.2Mn0.4Ti0.4O2", {"Mn": 3, "Ti": 4}, {"Li2CO3", "Mn2O3", "TiO2"}, id="one solid per state"),
        pytest.param("Li1.3333Mn0.6667O2", {"Mn": 4}, {"Li2CO3", "MnO2"}, id="highest state"),
        pytest.param("LiCoO2", {"Co": 3}, {"LiCoO2"}, id="cobalt with its lithium"),
        pytest.param("Li1.2V0.4Ti0.2Nb0.1Mg0.1O1.9F0.1", {"V": 3, "Ti": 4, "Nb": 5, "Mg": 2},
                     {"Li2CO3", "LiF", "V2O3", "TiO2", "Nb2O5", "MgO"}, id="reduced vanadium"),
        pytest.param(HE1, HE1_STATES, {"Li2CO3", "LiF", "MnO", "MgO", "Cr2O3", "TiO2", "Nb2O5"}, id="HE-1"),
    ],
)  # fmt: skip
def test_precursors_follow_the_oxidation_states(formula, states, expected):
    assert set(masses(weigh(formula, oxidation_states=states))) == expected
    assert set(masses(weigh(formula))) == expected, "the ladder assigns the same states"


def test_a_mixed_valence_is_split_between_two_oxides():
    recipe = weigh("Li1.2Mn0.5Ti0.3O1.9F0.1", oxidation_states={"Mn": 3.0, "Ti": 4})
    assert set(masses(recipe)) == {"Li2CO3", "LiF", "Mn2O3", "TiO2"}
    mixed = weigh("Li1.2Mn0.5Ti0.3O1.8F0.2", oxidation_states={"Mn": 2.8, "Ti": 4})
    made = {w.precursor.formula: w.moles_per_formula_unit for w in mixed.weighings}
    assert made["MnO"] == pytest.approx(0.1)
    assert made["Mn2O3"] == pytest.approx(0.2)


def test_excess_lithium_and_fluorine_are_weighed_on_top_and_lost():
    plain = weigh(HE1, oxidation_states=HE1_STATES)
    rich = weigh(HE1, oxidation_states=HE1_STATES, li_excess=0.1, f_excess=0.05)
    moles = {w.precursor.formula: w.moles_per_formula_unit for w in rich.weighings}
    assert moles["LiF"] == pytest.approx(0.21)
    assert 2 * moles["Li2CO3"] + moles["LiF"] == pytest.approx(1.2 * 1.1 + 0.2 * 0.05)
    assert rich.oxygen_uptake_mol == 0
    assert rich.achieved == pytest.approx(plain.achieved, abs=1e-3)
    assert solid_mass(rich) == pytest.approx(5.0, abs=1e-3)


def test_an_assay_below_one_takes_more_powder():
    plain = masses(weigh(HE1, oxidation_states=HE1_STATES))
    impure = masses(weigh(HE1, oxidation_states=HE1_STATES, assays={"Li2CO3": 0.98}))
    assert impure["Li2CO3"] == pytest.approx(plain["Li2CO3"] / 0.98, abs=1e-4)
    assert impure["TiO2"] == plain["TiO2"]


def test_masses_are_multiples_of_the_balance():
    recipe = weigh(HE1, oxidation_states=HE1_STATES, balance_g=0.005, batch_mass_g=20)
    for mass in masses(recipe).values():
        assert round(mass / 0.005, 6) == round(mass / 0.005)
    assert abs(recipe.charge_imbalance) < 0.01


def test_a_coarse_balance_is_refused_for_a_tiny_batch():
    with pytest.raises(RecipeError, match="would miss neutrality by .* Make a larger batch or use a finer balance"):
        weigh(HE1, oxidation_states=HE1_STATES, batch_mass_g=0.05, balance_g=0.01)


def test_cost_is_the_sum_over_powders():
    recipe = weigh(HE1, oxidation_states=HE1_STATES)
    by_hand = sum(w.mass_g * w.precursor.usd_per_kg / 1000 for w in recipe.weighings)
    assert recipe.cost_usd == pytest.approx(by_hand)
    assert recipe.cost_usd_per_kg == pytest.approx(by_hand / 5 * 1000)


def test_cost_per_kilogram_does_not_depend_on_the_batch_and_is_never_above_the_recipe():
    cheapest = cost_usd_per_kg(HE1, oxidation_states=HE1_STATES)
    assert cheapest <= weigh(HE1, oxidation_states=HE1_STATES).cost_usd_per_kg + 0.01
    assert cheapest > 0


def test_cobalt_costs_more_than_manganese():
    manganese = cost_usd_per_kg("Li1.2Mn0.4Ti0.4O2", oxidation_states={"Mn": 3, "Ti": 4})
    cobalt = cost_usd_per_kg("Li1.2Co0.4Ti0.4O2", oxidation_states={"Co": 3, "Ti": 4})
    assert cobalt > manganese


def test_the_json_form_holds_plain_numbers():
    row = weigh(HE1, oxidation_states=HE1_STATES).as_dict()
    assert json.loads(json.dumps(row)) == row
    assert {"composition", "batch_mass_g", "precursors", "gases_g", "cost_usd", "charge_imbalance"} <= row.keys()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        pytest.param({"avoid": ["MnO"]}, RecipeError, r"Mn must arrive as 2\+ in a closed furnace.*Mn2O3", id="closed"),
        pytest.param({"avoid": ["TiO2", "Ti2O3"]}, RecipeError, "no precursor of Ti may be used", id="no titanium"),
        pytest.param({"oxidation_states": {"Mn": 2}}, RecipeError, "no oxidation state was given for Mg", id="states"),
        pytest.param(
            {"oxidation_states": {**HE1_STATES, "Mn": 4}}, RecipeError, "carry .* must balance", id="not neutral"
        ),
        pytest.param({"prefer": ["Unobtainium"]}, UsageError, "Not in the table of precursors", id="unknown"),
        pytest.param({"batch_mass_g": 0.0}, UsageError, "must be positive", id="no batch"),
        pytest.param({"balance_g": 9.0}, UsageError, "must resolve part of the batch", id="balance"),
        pytest.param({"li_excess": 10.0}, UsageError, "fraction from 0 to 1", id="excess in percent"),
        pytest.param({"assays": {"MnO": 99.0}}, UsageError, "The assay of MnO", id="assay in percent"),
    ],
)
def test_what_cannot_be_weighed_is_refused(change, error, text):
    with pytest.raises(error, match=text):
        weigh(HE1, **{"oxidation_states": HE1_STATES, **change})


def test_a_charge_that_the_metals_cannot_carry_is_refused():
    with pytest.raises(RecipeError, match=r"the metals must carry 2\.8\+ .* in their highest states they carry 1\.6\+"):
        weigh("Li1.2Mg0.8O2")


def test_nickel_three_plus_has_no_solid_in_a_closed_furnace():
    with pytest.raises(RecipeError, match=r"Ni must arrive as 3\+ .* NiO \(2\+\)"):
        weigh("LiNiO2", oxidation_states={"Ni": 3})
    recipe = weigh("LiNiO2", oxidation_states={"Ni": 3}, atmosphere="open")
    assert recipe.oxygen_uptake_mol == pytest.approx(0.25)


def test_more_fluorine_than_lithium_needs_a_metal_fluoride():
    rich = "Li1.2Mn0.8O0.6F1.4"
    states = {"Mn": (4 - 1.4 - 1.2) / 0.8}
    with pytest.raises(RecipeError, match="Allow the fluoride of a metal"):
        weigh(rich, oxidation_states=states, atmosphere="open")
    assert "MnF2" in masses(weigh(rich, oxidation_states=states, atmosphere="open", prefer=["MnF2"]))


def test_every_shipped_precursor_is_neutral_priced_and_says_where_the_price_comes_from():
    for precursor in shipped_precursors():
        assert precursor.charge == pytest.approx(0, abs=1e-6), precursor.formula
        assert precursor.usd_per_kg > 0
        assert precursor.price_basis
        assert precursor.name


def test_every_metal_of_the_model_has_a_usual_precursor():
    offered = {s for p in shipped_precursors() if p.usual for s in p.states}
    assert offered >= set(MODEL_METALS)


@settings(max_examples=40, deadline=None)
@given(
    lithium=st.integers(10, 13),
    parts=st.lists(st.sampled_from([("Mn", 2), ("Mg", 2), ("Cr", 3), ("V", 3), ("Fe", 3), ("Ti", 4), ("Nb", 5)]),
                   min_size=2, max_size=5, unique=True),
    weights=st.lists(st.integers(1, 5), min_size=5, max_size=5),
    excess=st.sampled_from([0.0, 0.05, 0.1]),
)  # fmt: skip
def test_mass_is_conserved(lithium, parts, weights, excess):
    """Whatever is weighed minus what leaves is the batch, for any neutral mix."""
    share = (20 - lithium) / 10 / sum(weights[: len(parts)])
    amounts = {symbol: weight * share for (symbol, _), weight in zip(parts, weights, strict=False)}
    fluorine = 4 - lithium / 10 - sum(z * amounts[s] for s, z in parts)
    if not 0 <= fluorine <= 0.9:
        return
    composition = Composition.from_amounts({"Li": lithium / 10, **amounts, "O": 2 - fluorine, "F": fluorine})
    recipe = weigh(composition, oxidation_states=dict(parts), li_excess=excess, batch_mass_g=10)
    assert solid_mass(recipe) == pytest.approx(10, abs=2e-3)
    assert abs(recipe.charge_imbalance) < 2e-3


def test_a_groups_own_stock_replaces_the_shipped_price(tmp_path: Path):
    table = tmp_path / "stock.csv"
    table.write_text("formula,states,usd_per_kg\nMnO,Mn:2,500\nLi2MnO3,Li:1;Mn:4,30\n")
    stock = merged(read_precursors(table))
    assert {p.formula: p.usd_per_kg for p in stock}["MnO"] == 500
    assert len(stock) == len(shipped_precursors()) + 1
    assert cost_usd_per_kg(HE1, oxidation_states=HE1_STATES, precursors=stock) > cost_usd_per_kg(
        HE1, oxidation_states=HE1_STATES
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,price\nx,1\n", "needs the columns formula and states"),
        ("formula,states\nMnO,Mn:3\n", "line 2: MnO with Mn:3 has a charge of"),
        ("formula,states\nMn O!,Mn:2\n", "is not the formula of a precursor"),
        ("formula,states\nMnO,Mn\n", "line 2: not a precursor"),
        ("formula,states,assay\nMnO,Mn:2,98\n", "assay must lie in"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str):
    table = tmp_path / "stock.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_precursors(table)


def test_an_oxalate_leaves_the_oxide():
    oxalate = next(p for p in shipped_precursors() if p.formula.startswith("FeC2O4"))
    assert oxalate.residue == pytest.approx({"Fe": 1, "O": 1})
    assert oxalate.molar_mass == pytest.approx(179.89, abs=0.02)


def test_lithium_is_weighed_in_excess_as_the_route_asks_for_and_it_is_said():
    fired = make_recipe(HE1)
    assert (fired.route, fired.li_excess, fired.f_excess) == ("solid-state", 0.1, 0.0)
    assert "Weighed on top, to be lost: 10 % Li." in fired.summary()
    assert masses(fired)["Li2CO3"] == pytest.approx(2.2172 * (1.2 * 1.1 - 0.2) / (1.2 - 0.2), abs=2e-4)
    assert solid_mass(fired) == pytest.approx(5.0, abs=1e-3)
    assert "No Li or F on top." in weigh(HE1).summary()


def test_much_fluorine_is_milled_without_a_carbonate():
    recipe = make_recipe("Li1.3333Mn0.4444Nb0.2222O1.3333F0.6667")
    assert (recipe.route, recipe.li_excess, recipe.gases_g) == ("mechanochemical", 0.0, {})
    assert set(masses(recipe)) == {"Li2O", "LiF", "MnO", "Nb2O5"}
    assert recipe.firing.temperature_c is None
    assert "mill for 20-60 h under argon" in recipe.summary()
    assert "Li2CO3" in masses(make_recipe("Li1.3333Mn0.4444Nb0.2222O1.3333F0.6667", route="solid-state"))


@pytest.mark.parametrize(
    ("formula", "atmosphere", "text"),
    [
        ("Li1.2Mn0.4Ti0.4O2", "closed", "fire at 900-1100 C for 2-12 h in argon"),
        ("Li1.2Fe0.4Ti0.4O2", "open", "fire at 850-1000 C for 2-24 h in air"),
        (HE1, "closed", "fire at 800-1000 C for 0.5-6 h in argon"),
    ],
    ids=["oxide", "oxide in air", "oxyfluoride"],
)
def test_firing_is_a_range_with_a_source_and_only_a_start(formula, atmosphere, text):
    recipe = make_recipe(formula, atmosphere=atmosphere)
    said = recipe.summary()
    assert text in said
    assert "A starting point, to be checked by X-ray diffraction" in said
    assert "Source: " in said
    low, high = recipe.firing.temperature_c
    assert low < high
    assert recipe.as_dict()["firing"]["temperature_c_low"] == low


def test_every_route_gas_and_kind_of_anion_has_a_firing_with_its_source():
    kinds = {(f.route, f.fluorine, f.atmosphere) for f in shipped_firings()}
    gases = {"solid-state": ("argon", "air"), "mechanochemical": ("argon",)}
    assert kinds == {(r, f, g) for r, listed in gases.items() for f in (True, False) for g in listed}
    assert all(f.source and f.hours[0] < f.hours[1] and f.read in ("yes", "partly", "no") for f in shipped_firings())


def test_iron_two_plus_with_nickel_oxide_is_warned_about_in_argon_only():
    formula = "Li1.2Fe0.2Ni0.2Ti0.2Nb0.2O1.8F0.2"
    (warning,) = make_recipe(formula).warnings
    assert warning == "May turn to metal in argon: 2 FeO + NiO -> Fe2O3 + Ni (-28 kJ/mol of Ni, 298 K)."
    assert warning in make_recipe(formula).summary()
    assert make_recipe(formula).as_dict()["warnings"] == [warning]
    assert make_recipe(formula, atmosphere="open").warnings == ()
    assert make_recipe(HE1).warnings == ()


def test_a_precursor_that_surely_turns_another_into_metal_is_refused():
    states = {"Ti": 3, "Ni": 2, "Nb": 5}
    formula = "Li1.2Ti0.2Ni0.3Nb0.3O1.9F0.1"
    with pytest.raises(RecipeError, match=r"Ti2O3 \+ NiO -> 2 TiO2 \+ Ni \(-132 kJ/mol of Ni, 298 K\)"):
        make_recipe(formula, oxidation_states={**states, "Nb": (3.9 - 1.2 - 0.6 - 0.6) / 0.3})
