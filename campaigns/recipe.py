"""What to weigh for a batch: precursor masses by oxidation state, gases, excess and cost.

The unknowns are moles of each precursor per formula unit. Cations and fluorine must add up to the composition, and in a
closed furnace (argon) every metal must arrive with the average oxidation state that it has in the product; then the
oxygen adds up by itself, because both sides are neutral. In an open furnace a metal may arrive too reduced or too
oxidised, as little as possible, and the O2 taken up or given off is reported.

Lithium is weighed in excess as groups do for the route (:mod:`campaigns.firing`), unless told otherwise. A reduced
cation beside an oxide that it would turn into the metal is refused or warned about, see
:func:`screening.species.reduction_to_metal`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from campaigns.errors import RecipeError
from campaigns.firing import Firing, Route, suggest, usual_route
from drxnet.composition import Composition
from drxnet.elements import ATOMIC_MASS
from drxnet.errors import UsageError

Atmosphere = Literal["closed", "open"]

_MASSES = {**ATOMIC_MASS, "C": 12.011, "H": 1.008}
"""Atomic masses (g/mol), of what leaves with the gas too (IUPAC 2021, abridged)."""

_TERM = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?")
_COUNTED = re.compile(r"\s*(\d*\.?\d*)\s*([A-Z].*?)\s*")
_SIGNIFICANT_MOLES = 1e-7
_ROUNDING = 1e-3
"""Electrons per formula unit that four decimals of a formula may hide."""

_CHARGE_TOLERANCE = 0.01
"""Electrons per formula unit by which rounded masses may miss neutrality."""


def _count_atoms(formula: str) -> dict[str, float]:
    """Count the atoms of a formula such as ``FeC2O4*2H2O``."""
    atoms: dict[str, float] = {}
    for part in formula.split("*"):
        match = _COUNTED.fullmatch(part)
        if match is None or "".join("".join(term) for term in _TERM.findall(match[2])) != match[2]:
            raise UsageError(f"{formula!r} is not the formula of a precursor. Write it like Li2CO3 or FeC2O4*2H2O.")
        for symbol, amount in _TERM.findall(match[2]):
            atoms[symbol] = atoms.get(symbol, 0.0) + float(match[1] or 1) * float(amount or 1)
    return atoms


def _molar_mass(formula: str) -> float:
    try:
        return sum(_MASSES[s] * n for s, n in _count_atoms(formula).items())
    except KeyError as error:
        raise UsageError(f"{formula}: no atomic mass for {error}.") from None


@dataclass(frozen=True)
class Precursor:
    """A powder that can be bought, and what it leaves behind in the furnace."""

    formula: str
    name: str
    states: Mapping[str, float]
    """Average oxidation state of each cation it brings."""

    leaves: Mapping[str, float] = field(default_factory=dict)
    """Gases given off on firing, moles per formula."""

    usual: bool = True
    """Whether it is weighed without being asked for."""

    usd_per_kg: float = 0.0
    price_basis: str = ""
    assay: float = 1.0
    """Typical mass fraction of the compound in what is sold."""

    note: str = ""

    @cached_property
    def atoms(self) -> dict[str, float]:
        """Atoms per formula."""
        return _count_atoms(self.formula)

    @cached_property
    def residue(self) -> dict[str, float]:
        """Atoms per formula that stay in the solid once the gases have left."""
        left = dict(self.atoms)
        for gas, moles in self.leaves.items():
            for symbol, amount in _count_atoms(gas).items():
                left[symbol] = left.get(symbol, 0.0) - moles * amount
        return {symbol: amount for symbol, amount in left.items() if abs(amount) > 1e-9}

    @property
    def charge(self) -> float:
        """Charge of the residue per formula; 0 when the stated oxidation states are right."""
        positive = sum(state * self.residue[symbol] for symbol, state in self.states.items())
        return positive - 2 * self.residue.get("O", 0.0) - self.residue.get("F", 0.0)

    @cached_property
    def molar_mass(self) -> float:
        """Grams per mole."""
        return _molar_mass(self.formula)

    @property
    def usd_per_mol(self) -> float:
        """Price of one mole."""
        return self.usd_per_kg * self.molar_mass / 1000


@dataclass(frozen=True)
class Weighing:
    """One line of a recipe."""

    precursor: Precursor
    moles_per_formula_unit: float
    mass_g: float
    """What the balance should show: the assay is in it, rounded to the balance."""

    assay: float
    """Mass fraction of the compound in the powder that was assumed."""

    @property
    def cost_usd(self) -> float:
        """Price of this much powder."""
        return self.mass_g / 1000 * self.precursor.usd_per_kg

    def row(self) -> dict[str, Any]:
        """Values by their public names."""
        return {
            "precursor": self.precursor.formula,
            "mass_g": self.mass_g,
            "moles_per_formula_unit": round(self.moles_per_formula_unit, 6),
            "assay": self.assay,
            "cost_usd": round(self.cost_usd, 4),
            "name": self.precursor.name,
            "note": self.precursor.note,
        }


@dataclass(frozen=True)
class Recipe:
    """What to weigh for one batch of one composition."""

    composition: Composition
    batch_mass_g: float
    """Mass of product."""

    oxidation_states: Mapping[str, float]
    """Average oxidation state of each metal in the product."""

    atmosphere: Atmosphere
    weighings: tuple[Weighing, ...]
    gases_g: Mapping[str, float]
    """Gases that the precursors give off (g)."""

    oxygen_uptake_mol: float
    """O2 taken from the furnace, per formula unit; negative where O2 must leave."""

    route: Route
    firing: Firing
    """Range to start from."""

    li_excess: float
    f_excess: float
    warnings: tuple[str, ...]
    """What may go wrong on firing, a sentence each."""

    achieved: Mapping[str, float]
    """Cations and fluorine per formula unit that the rounded masses give, planned losses taken off."""

    charge_imbalance: float
    """Electrons per formula unit by which the rounded masses miss neutrality at two anions."""

    @property
    def powder_g(self) -> float:
        """Sum of the weighed masses."""
        return sum(w.mass_g for w in self.weighings)

    @property
    def cost_usd(self) -> float:
        """Price of the powders of this batch."""
        return sum(w.cost_usd for w in self.weighings)

    @property
    def cost_usd_per_kg(self) -> float:
        """Price of the powders per kilogram of product."""
        return self.cost_usd / self.batch_mass_g * 1000

    def summary(self) -> str:
        """Sentences for a person: what leaves, what comes in, what it costs."""
        states = ", ".join(f"{symbol} {state:.3g}+" for symbol, state in self.oxidation_states.items())
        excess = f"{100 * self.li_excess:g} % Li" + (f" and {100 * self.f_excess:g} % F" if self.f_excess else "")
        gases = ", ".join(f"{mass:.3f} g {gas}" for gas, mass in self.gases_g.items())
        oxygen = abs(self.oxygen_uptake_mol)
        still = "No O2 in or out: argon." if self.atmosphere == "closed" else "No O2 in or out."
        exchange = "takes up" if self.oxygen_uptake_mol > 0 else "gives off"
        return " ".join(
            [
                f"Oxidation states: {states}.",
                f"{self.powder_g:.4f} g of powder" + (f" minus {gases}." if gases else "."),
                f"The batch {exchange} {oxygen:.3g} mol O2 per formula unit." if oxygen else still,
                f"Rounding leaves {self.charge_imbalance:+.1e} e per formula unit.",
                f"Weighed on top, to be lost: {excess}." if self.li_excess or self.f_excess else "No Li or F on top.",
                f"About {self.cost_usd:.2f} USD, {self.cost_usd_per_kg:.0f} USD/kg (planning prices).",
                *self.warnings,
                str(self.firing),
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Values by their public names, for JSON."""
        return {
            "composition": self.composition.formula,
            "batch_mass_g": self.batch_mass_g,
            "molar_mass_g_mol": round(self.composition.molar_mass, 4),
            "atmosphere": self.atmosphere,
            "oxidation_states": dict(self.oxidation_states),
            "precursors": [w.row() for w in self.weighings],
            "powder_g": round(self.powder_g, 6),
            "gases_g": {gas: round(mass, 4) for gas, mass in self.gases_g.items()},
            "oxygen_uptake_mol": round(self.oxygen_uptake_mol, 6),
            "li_excess": self.li_excess,
            "f_excess": self.f_excess,
            "route": self.route,
            "firing": self.firing.as_dict(),
            "warnings": list(self.warnings),
            "achieved": {symbol: round(amount, 5) for symbol, amount in self.achieved.items()},
            "charge_imbalance": round(self.charge_imbalance, 6),
            "cost_usd": round(self.cost_usd, 4),
            "cost_usd_per_kg": round(self.cost_usd_per_kg, 2),
        }


@cache
def shipped_precursors() -> tuple[Precursor, ...]:
    """Precursors that come with the package; prices are planning estimates with their basis beside them."""
    return read_precursors(Path(__file__).parent / "data" / "precursors.csv")


def read_precursors(path: Path) -> tuple[Precursor, ...]:
    """Read a table of precursors, such as a group's own stock and prices.

    The columns are those of the shipped ``campaigns/data/precursors.csv``; only ``formula`` and ``states``
    (``Li:1;Co:3``) are needed.

    Raises:
        UsageError: a column is missing, a value cannot be read, or a precursor is not neutral.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"formula", "states"} - set(reader.fieldnames or ())
        if missing:
            raise UsageError(f"{path}: a table of precursors needs the columns formula and states. Missing: {missing}.")
        return tuple(_read_precursor(path, line, row) for line, row in enumerate(reader, start=2))


def _read_precursor(path: Path, line: int, row: Mapping[str, str | None]) -> Precursor:
    text = {key: (value or "").strip() for key, value in row.items() if key}
    try:
        precursor = _precursor(text)
        charge = precursor.charge
    except (ValueError, KeyError) as error:
        raise UsageError(f"{path}, line {line}: not a precursor ({error}).") from None
    if abs(charge) > 1e-6:
        raise UsageError(f"{path}, line {line}: {precursor.formula} with {text['states']} has a charge of {charge:+g}.")
    if not 0 < precursor.assay <= 1:
        raise UsageError(f"{path}, line {line}: the assay must lie in (0, 1]. Got {precursor.assay:g}.")
    return precursor


def _precursor(text: Mapping[str, str]) -> Precursor:
    """A row of a table; only the formula and the states must stand in it."""
    leaves = (_COUNTED.fullmatch(gas) for gas in text.get("leaves", "").split("+"))
    return Precursor(
        formula=text["formula"],
        name=text.get("name", ""),
        states={s.strip(): float(z) for s, z in (pair.split(":") for pair in text["states"].split(";"))},
        leaves={m[2]: float(m[1] or 1) for m in leaves if m},
        usual=text.get("usual", "").lower() not in ("no", "false", "0"),
        usd_per_kg=float(text.get("usd_per_kg") or 0),
        price_basis=text.get("price_basis", ""),
        assay=float(text.get("assay") or 1),
        note=text.get("note", ""),
    )


def merged(mine: Sequence[Precursor]) -> tuple[Precursor, ...]:
    """Shipped precursors with a group's own in their place (same formula) or beside them."""
    return tuple({p.formula: p for p in (*shipped_precursors(), *mine)}.values())


def make_recipe(
    composition: Composition | str,
    *,
    batch_mass_g: float = 5.0,
    oxidation_states: Mapping[str, float] | None = None,
    precursors: Sequence[Precursor] | None = None,
    prefer: Collection[str] = (),
    avoid: Collection[str] = (),
    atmosphere: Atmosphere = "closed",
    route: Route | None = None,
    li_excess: float | None = None,
    f_excess: float | None = None,
    assays: Mapping[str, float] | None = None,
    balance_g: float = 1e-4,
    cheapest: bool = False,
) -> Recipe:
    """Masses of precursors for a batch.

    The fewest precursors that give the composition are weighed; among equals those nearest in oxidation state, then
    the cheapest.

    Args:
        composition: what to make.
        batch_mass_g: mass of product (g).
        oxidation_states: average state of each metal; by default from the redox ladder of :mod:`screening.species`.
        precursors: what may be weighed; by default the shipped table.
        prefer: formulas to use as much of as possible, even where they are not usual.
        avoid: formulas not to use.
        atmosphere: ``closed`` (argon: no O2 in or out) or ``open``.
        route: solid-state, or mechanochemical (a closed jar: no precursor that gives off gas); by default
            mechanochemical where firing would not keep the fluorine.
        li_excess: fraction of the lithium weighed on top, lost as Li2O on firing; by default that of the route.
        f_excess: fraction of the fluorine weighed on top, lost as LiF; likewise.
        assays: mass fraction of the compound in the powder, by formula; 1 where not given.
        balance_g: masses are rounded to multiples of this (g).
        cheapest: take the cheapest set of precursors rather than the smallest.

    Raises:
        RecipeError: no set of precursors gives the cations, the fluorine and the oxidation states, the batch is too
            small for the balance, or in a closed furnace a precursor would surely turn another into the metal.
        UsageError: a formula in ``prefer`` or ``avoid`` is not in the table, or a number is out of range.
    """
    composition = Composition.parse(composition)
    assays = assays or {}
    batch = _Batch.planned(composition, batch_mass_g, atmosphere, route, li_excess, f_excess, balance_g)
    batch.check(assays)
    states = dict(oxidation_states) if oxidation_states is not None else default_oxidation_states(composition)
    _check_states(composition, states)
    stock = shipped_precursors() if precursors is None else precursors
    _check_known(stock, {*prefer, *avoid, *assays})
    target, lost = _with_excess(composition, batch.li_excess, batch.f_excess)
    usable = _usable(stock, prefer, avoid, batch.route, target)
    states = _on_offered(states, composition, usable)
    moles = _solve(composition, target, states, usable, prefer, atmosphere, cheapest)
    return batch.weighed(states, lost, batch.weighings(usable, moles, assays))


@dataclass(frozen=True)
class _Batch:
    """What is to be made, how and how much of it."""

    composition: Composition
    mass_g: float
    atmosphere: Atmosphere
    route: Route
    firing: Firing
    li_excess: float
    f_excess: float
    balance_g: float

    @classmethod
    def planned(
        cls,
        composition: Composition,
        mass_g: float,
        atmosphere: Atmosphere,
        route: Route | None,
        li_excess: float | None,
        f_excess: float | None,
        balance_g: float,
    ) -> _Batch:
        """Take what is usual for what is not said."""
        closed = atmosphere == "closed"
        route = route or usual_route(composition, closed=closed)
        firing = suggest(composition, route, closed=closed)
        li_excess = firing.li_excess if li_excess is None else li_excess
        f_excess = firing.f_excess if f_excess is None else f_excess
        return cls(composition, mass_g, atmosphere, route, firing, li_excess, f_excess, balance_g)

    def check(self, assays: Mapping[str, float]) -> None:
        """Refuse numbers out of their range.

        Raises:
            UsageError: one is.
        """
        mass, balance = self.mass_g, self.balance_g
        if not (np.isfinite(mass) and mass > 0):
            raise UsageError(f"The mass of a batch must be positive. Got {mass} g.")
        if not (np.isfinite(balance) and 0 < balance <= mass):
            raise UsageError(f"The balance must resolve part of the batch. Got {balance} g for {mass} g.")
        for name, excess in (("Li", self.li_excess), ("F", self.f_excess)):
            if not 0 <= excess <= 1:
                raise UsageError(f"{name} excess is a fraction from 0 to 1 (0.1 for 10 %). Got {excess}.")
        for formula, assay in assays.items():
            if not 0 < assay <= 1:
                raise UsageError(f"The assay of {formula} is a mass fraction in (0, 1]. Got {assay}.")

    @property
    def mol(self) -> float:
        """Formula units of product (mol)."""
        return self.mass_g / self.composition.molar_mass

    def weighings(self, usable: Sequence[Precursor], moles: np.ndarray, assays: Mapping[str, float]) -> list[Weighing]:
        """What is weighed of each precursor, given its moles per formula unit."""
        return [
            _weigh(p, x, self.mol, assays.get(p.formula, 1.0), self.balance_g)
            for p, x in zip(usable, moles.tolist(), strict=True)
            if x > _SIGNIFICANT_MOLES
        ]

    def weighed(self, states: Mapping[str, float], lost: Mapping[str, float], weighings: Sequence[Weighing]) -> Recipe:
        """The recipe, what it really gives checked.

        Raises:
            RecipeError: rounded to the balance it is not neutral, or a precursor would turn another into the metal.
        """
        achieved = _achieved(weighings, self.composition, lost, self.mol)
        imbalance = _charge(achieved, states) - 4
        _check_neutral(self.composition, imbalance, self.mass_g, self.balance_g)
        return Recipe(
            composition=self.composition,
            batch_mass_g=self.mass_g,
            oxidation_states=states,
            atmosphere=self.atmosphere,
            weighings=tuple(sorted(weighings, key=lambda w: _order(w, self.composition))),
            gases_g=_gases(weighings, self.mol),
            oxygen_uptake_mol=_oxygen_uptake(weighings, self.composition, self.li_excess),
            route=self.route,
            firing=self.firing,
            li_excess=self.li_excess,
            f_excess=self.f_excess,
            warnings=_reductions(self.composition, weighings) if self.atmosphere == "closed" else (),
            achieved=achieved,
            charge_imbalance=_clean(imbalance),
        )


def _check_known(stock: Sequence[Precursor], named: Collection[str]) -> None:
    known = {p.formula for p in stock}
    if unknown := sorted(set(named) - known):
        raise UsageError(
            f"Not in the table of precursors: {', '.join(unknown)}. It holds {', '.join(sorted(known))}; "
            "add your own with a csv file (--precursors)."
        )


def _check_neutral(composition: Composition, imbalance: float, batch_mass_g: float, balance_g: float) -> None:
    if not abs(imbalance) <= _CHARGE_TOLERANCE:
        raise RecipeError(
            f"{composition}: rounded to {balance_g:g} g, {batch_mass_g:g} g of product would miss neutrality by "
            f"{imbalance:+.3f} e per formula unit; {_CHARGE_TOLERANCE} is allowed. Make a larger batch or use a "
            "finer balance."
        )


def _usable(
    stock: Sequence[Precursor],
    prefer: Collection[str],
    avoid: Collection[str],
    route: Route,
    target: Mapping[str, float],
) -> list[Precursor]:
    """Precursors that may be weighed and bring nothing but what is wanted."""
    offered = [p for p in stock if _offered(p, prefer, route) and p.formula not in avoid]
    return [p for p in offered if p.residue.keys() <= target.keys() | {"O"}]


def _gases(weighings: Sequence[Weighing], batch_mol: float) -> dict[str, float]:
    """Mass of each gas that the precursors give off (g)."""
    gases: dict[str, float] = {}
    for w in weighings:
        for gas, per_formula in w.precursor.leaves.items():
            gases[gas] = gases.get(gas, 0.0) + w.moles_per_formula_unit * per_formula * batch_mol * _molar_mass(gas)
    return gases


def _oxygen_uptake(weighings: Sequence[Weighing], composition: Composition, li_excess: float) -> float:
    """O2 from the furnace per formula unit (mol); negative where it is given off."""
    brought = sum(w.moles_per_formula_unit * w.precursor.residue.get("O", 0.0) for w in weighings)
    needed = composition.oxygen + composition.lithium * li_excess / 2  # the excess leaves as Li2O
    return _clean((needed - brought) / 2)


def default_oxidation_states(composition: Composition) -> dict[str, float]:
    """Average oxidation state of each metal as synthesised, from the redox ladder.

    Raises:
        RecipeError: no filling of the ladder balances the charge.
    """
    from screening.species import fill_ladder, known_states

    metals = list(composition.metals)
    states = {symbol: known_states(symbol) for symbol in metals}
    without = [symbol for symbol, listed in states.items() if not listed]
    if without:
        raise RecipeError(f"{composition}: no oxidation states are known for {', '.join(without)}; give them.")
    amounts = np.array([list(composition.metals.values())])
    wanted = 4.0 - composition.fluorine - composition.lithium
    placed, missing = fill_ladder(metals, states, amounts, np.array([wanted]))
    if abs(missing[0]) > _CHARGE_TOLERANCE / 2:
        bound = "in their highest" if missing[0] > 0 else "in their lowest"
        raise RecipeError(
            f"{composition}: the metals must carry {wanted:.3g}+ per formula unit; {bound} states they carry "
            f"{wanted - missing[0]:.3g}+. Change Li or F."
        )
    return dict(zip(metals, (placed / amounts)[0].tolist(), strict=True))


_GAS_FREE_LITHIUM = "Li2O"


def _offered(precursor: Precursor, prefer: Collection[str], route: Route) -> bool:
    """Whether a precursor is weighed without being avoided: usual or asked for, and without gas in a closed jar."""
    if precursor.formula in prefer:
        return True
    if route == "mechanochemical":
        return (precursor.usual or precursor.formula == _GAS_FREE_LITHIUM) and not precursor.leaves
    return precursor.usual


def _reductions(composition: Composition, weighings: Sequence[Weighing]) -> tuple[str, ...]:
    """Warn where a precursor may turn another into the metal, with the reaction and its energy.

    Raises:
        RecipeError: it surely would.
    """
    from screening.species import UNCERTAIN_BAND_V, Species, reactions_to_metal

    present = [
        Species(symbol, charge)
        for w in weighings
        for symbol, state in w.precursor.states.items()
        for charge in {math.floor(state + 1e-9), math.ceil(state - 1e-9)}
    ]
    reactions = reactions_to_metal(present)
    if reactions and reactions[0].margin_v >= UNCERTAIN_BAND_V:
        raise RecipeError(
            f"{composition}: without oxygen a precursor would be reduced to the metal: {reactions[0]}. Change Li or F "
            "so that the valences fit, or give the average oxidation states that you expect (--state)."
        )
    return tuple(f"May turn to metal in argon: {reaction}." for reaction in reactions)


def _check_states(composition: Composition, states: Mapping[str, float]) -> None:
    missing = [s for s in composition.metals if s not in states]
    if missing:
        raise RecipeError(f"{composition}: no oxidation state was given for {', '.join(missing)}.")
    wanted = 4 - composition.fluorine
    charge = _charge(dict(composition.cations), states)
    if abs(charge - wanted) > _CHARGE_TOLERANCE / 2:
        listed = ", ".join(f"{s}{states[s]:+g}" for s in composition.metals)
        raise RecipeError(
            f"{composition}: with {listed} the cations carry {charge:.3f}+, the anions {wanted:.3f}-; they "
            "must balance."
        )


def _solve(
    composition: Composition,
    target: Mapping[str, float],
    states: Mapping[str, float],
    usable: Sequence[Precursor],
    prefer: Collection[str],
    atmosphere: Atmosphere,
    cheapest: bool,
) -> np.ndarray:
    """Moles of each usable precursor per formula unit.

    Variables: moles x (p), used or not y (p, whole numbers), and per metal the charge that it is short of and has too
    much (open furnace only). Objectives are met one after the other, each held while the next is improved.
    """
    from scipy.optimize import linprog

    for symbol in target:
        if not any(symbol in p.residue for p in usable):
            raise RecipeError(
                f"{composition}: no precursor of {symbol} may be used. Take one into the table "
                "(--precursors), or allow one that is avoided or not usual (--prefer)."
            )
    p, m = len(usable), len(composition.metals)
    bound = sum(target.values())
    equal, right = _balances(composition, target, states, usable)
    below = [np.concatenate([row, -bound * row, np.zeros(2 * m)]) for row in np.eye(p)]  # x <= bound y
    limits = [0.0] * p
    slack = 4 * bound if atmosphere == "open" else 0.0
    bounds = [(0.0, bound)] * p + [(0.0, 1.0)] * p + [(0.0, slack)] * (2 * m)
    integrality = np.array([0] * p + [1] * p + [0] * (2 * m))
    moles = np.zeros(p)
    for objective in _objectives(composition, states, usable, prefer, atmosphere, cheapest):
        solution = linprog(
            objective, np.array(below), limits, equal, right, bounds, integrality=integrality, method="highs"
        )
        if solution.status != 0:
            raise RecipeError(_why_not(composition, target, states, usable, atmosphere))
        below.append(objective)
        limits.append(solution.fun + 1e-7)
        moles = solution.x[:p]
    return np.asarray(moles)


def _balances(
    composition: Composition, target: Mapping[str, float], states: Mapping[str, float], usable: Sequence[Precursor]
) -> tuple[np.ndarray, np.ndarray]:
    """Amounts of every element and charge of every metal as equations in the variables of :func:`_solve`."""
    metals, p = composition.metals, len(usable)
    m = len(metals)
    elements = np.array([[q.residue.get(s, 0.0) for q in usable] for s in target])
    charges = np.array([[q.states.get(s, 0.0) * q.residue.get(s, 0.0) for q in usable] for s in metals])
    rows = [[elements, np.zeros((len(target), p + 2 * m))], [charges, np.zeros((m, p)), np.eye(m), -np.eye(m)]]
    return np.block(rows), np.array([*target.values(), *(states[s] * amount for s, amount in metals.items())])


def _objectives(
    composition: Composition,
    states: Mapping[str, float],
    usable: Sequence[Precursor],
    prefer: Collection[str],
    atmosphere: Atmosphere,
    cheapest: bool,
) -> list[np.ndarray]:
    """What is to be small, the most important first, as rows over the variables of :func:`_solve`."""
    p, m = len(usable), len(composition.metals)

    def row(moles: Sequence[float], used: float = 0.0, charge: float = 0.0) -> np.ndarray:
        return np.concatenate([moles, np.full(p, used), np.full(2 * m, charge)])

    nothing = [0.0] * p
    steps = [_distance(q, composition.metals, states) for q in usable]
    objectives = [row(nothing, charge=1.0)] if atmosphere == "open" else []
    objectives += [row([-float(q.formula in prefer) for q in usable])] if prefer else []
    objectives += [] if cheapest else [row(nothing, used=1.0), row(steps)]
    return [*objectives, row([q.usd_per_mol for q in usable])]


def _distance(precursor: Precursor, metals: Collection[str], states: Mapping[str, float]) -> float:
    """How far the states of a precursor are from those that are wanted, over its atoms."""
    return sum(abs(precursor.states[s] - states[s]) * precursor.residue[s] for s in metals if s in precursor.states)


def _why_not(
    composition: Composition,
    target: Mapping[str, float],
    states: Mapping[str, float],
    usable: Sequence[Precursor],
    atmosphere: Atmosphere,
) -> str:
    if atmosphere == "closed":
        for symbol in composition.metals:
            offered = {q.formula: q.states[symbol] for q in usable if symbol in q.states}
            if not min(offered.values()) - 1e-6 <= states[symbol] <= max(offered.values()) + 1e-6:
                return _out_of_reach(composition, symbol, states[symbol], offered)
    if "F" in target and target["F"] > target["Li"]:
        return (
            f"{composition}: {target['F']:.3g} F cannot come from LiF with {target['Li']:.3g} Li. Allow the fluoride "
            "of a metal (--prefer MnF2)."
        )
    listed = ", ".join(q.formula for q in usable)
    return (
        f"{composition}: no amounts of {listed} give its cations, fluorine and oxidation states at once. Allow another "
        "precursor (--prefer) or let the furnace exchange O2 (--atmosphere open)."
    )


def _out_of_reach(composition: Composition, symbol: str, state: float, offered: Mapping[str, float]) -> str:
    """Say that the precursors of a metal, with their states, do not reach the one that it must have."""
    listed = ", ".join(f"{f} ({z:.3g}+)" for f, z in offered.items())
    verb = "take up" if state > max(offered.values()) else "lose"
    return (
        f"{composition}: {symbol} must arrive as {state:.3g}+ in a closed furnace; the precursors at hand are "
        f"{listed}. Let the furnace {verb} O2 (--atmosphere open), or allow another precursor (--prefer)."
    )


def _on_offered(states: Mapping[str, float], composition: Composition, usable: Sequence[Precursor]) -> dict[str, float]:
    """Move a state that misses that of a precursor by rounding of the formula alone onto it."""
    moved = {}
    for symbol, amount in composition.metals.items():
        offered = [p.states[symbol] for p in usable if symbol in p.states]
        near = min(offered, key=lambda state: abs(state - states[symbol]), default=states[symbol])
        moved[symbol] = near if abs(near - states[symbol]) * amount < _ROUNDING else states[symbol]
    return moved


def _with_excess(
    composition: Composition, li_excess: float, f_excess: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Cations and fluorine to weigh per formula unit, and what of them is lost: Li2O and LiF."""
    fluorine = composition.fluorine * f_excess
    lost = {"Li": composition.lithium * li_excess + fluorine, "F": fluorine}
    product = {symbol: amount for symbol, amount in composition.amounts().items() if symbol != "O"}
    return {symbol: amount + lost.get(symbol, 0.0) for symbol, amount in product.items()}, lost


def _weigh(precursor: Precursor, moles: float, batch_mol: float, assay: float, balance_g: float) -> Weighing:
    mass_g = moles * precursor.molar_mass * batch_mol / assay
    return Weighing(precursor, moles, round(round(mass_g / balance_g) * balance_g, 9), assay)


def _achieved(
    weighings: Sequence[Weighing], composition: Composition, lost: Mapping[str, float], batch_mol: float
) -> dict[str, float]:
    """Cations and fluorine that rounded masses give, on the number of cations of the composition."""
    atoms = {symbol: -lost.get(symbol, 0.0) for symbol in (*composition.elements, "F")}
    for w in weighings:
        moles = w.mass_g * w.assay / w.precursor.molar_mass / batch_mol
        for symbol, amount in w.precursor.residue.items():
            if symbol != "O":
                atoms[symbol] += moles * amount
    cations = sum(atoms[s] for s in composition.elements)
    scale = sum(dict(composition.cations).values()) / cations if cations > 0 else float("nan")
    return {symbol: amount * scale for symbol, amount in atoms.items() if symbol != "F" or composition.fluorine}


def _charge(amounts: Mapping[str, float], states: Mapping[str, float]) -> float:
    """Charge of the cations plus fluorine; 4 where O + F = 2 balances it."""
    return sum(a * (1.0 if symbol in ("Li", "F") else states[symbol]) for symbol, a in amounts.items())


def _clean(value: float) -> float:
    return 0.0 if abs(value) < 1e-6 else float(value)


def _order(weighing: Weighing, composition: Composition) -> tuple[int, int, str]:
    symbols = [s for s in composition.elements if s in weighing.precursor.states]
    return (composition.elements.index(symbols[-1]), int("F" in weighing.precursor.atoms), weighing.precursor.formula)
