"""Cation species: oxidation states, radii, redox couples, supply. The data are tables in ``screening/data``.

Sources:

* ``species.csv``: ionic radii for six-fold coordination, high spin. R. D. Shannon, Acta Cryst. A32, 751 (1976),
  doi:10.1107/S0567739476001551.
* ``redox_ladder.csv``: one row per couple. ``oxide_v`` is the potential against O2 (1 bar, 298 K) of the reaction
  between the binary oxides, from Gibbs energies of formation; ``aqueous_v`` the standard potential in acid against
  the hydrogen electrode; both from the CRC Handbook of Chemistry and Physics (standard thermodynamic properties;
  electrochemical series). ``place`` is the adopted order, the most reducing couple first: oxides at synthesis
  temperature swap the close pairs W/Fe and Mo/Mn of the 298 K column. Rows marked ``estimated`` have no oxide of
  known Gibbs energy and were placed by hand.
* ``oxides.csv``: Gibbs energy of formation of binary oxides per mole of formula at 298 K (CRC Handbook of Chemistry and
  Physics, standard thermodynamic properties), for :func:`reduction_to_metal`. Reactions between solids alone change
  little in entropy, so that their energies hold roughly at synthesis temperature too; that of FeO with NiO falls to
  about zero at 1000 C towards Fe2O3 and stays downhill towards Fe3O4 or a lithium ferrite. There is no solid CrO; its
  value is placed so that Cr2+ reduces a little more strongly than V2+, as in water.
* ``supply.csv``: Herfindahl-Hirschman indices of production and reserves, M. W. Gaultois et al., Chem. Mater. 25,
  2911 (2013), doi:10.1021/cm400893e; prices per kilogram of contained element in an oxide, carbonate or fluoride,
  rounded orders of magnitude of 2023 markets for ordering only (a space may state its own); hazard notes.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from math import lcm
from typing import Literal, NamedTuple

import numpy as np

from drxnet.composition import HIGHEST_REDOX_STATE
from drxnet.errors import ConfigurationError
from drxnet.names import hint

UNCERTAIN_BAND_V = 0.3
"""Difference of two couples (V) below which the order of a redox ladder is not to be trusted."""

KJ_MOL_PER_EV = 96.485
"""One electronvolt per particle in kJ/mol (CODATA 2018)."""

_EMPTY_D_SHELL = {"Sc": 3, "Y": 3, "Ti": 4, "Zr": 4, "Hf": 4, "V": 5, "Nb": 5, "Ta": 5, "Cr": 6, "Mo": 6, "W": 6}


class Species(NamedTuple):
    """An element in an oxidation state, e.g. ``Mn3+``."""

    element: str
    charge: int

    @classmethod
    def parse(cls, text: str) -> Species:
        """Read ``Mn3+``.

        Raises:
            ConfigurationError: not a species, or one without data.
        """
        match = re.fullmatch(r"([A-Z][a-z]?)([0-9])\+", str(text).strip())
        if match is None:
            raise ConfigurationError(f"A species is an element and its oxidation state, such as Mn3+. Got {text!r}.")
        species = cls(match[1], int(match[2]))
        if species not in radii():
            known = [str(s) for s in radii() if s.element == species.element]
            near = f"Known of {species.element}: {', '.join(known)}." if known else _nearest_element(species.element)
            raise ConfigurationError(f"No data for the species {species}. {near}")
        return species

    @property
    def electrons(self) -> int:
        """Electrons it can give up to the highest state that counts in a cathode."""
        return max(0, HIGHEST_REDOX_STATE.get(self.element, 0) - self.charge)

    @property
    def is_d0(self) -> bool:
        """Whether it is a transition metal with an empty d shell."""
        return _EMPTY_D_SHELL.get(self.element) == self.charge

    @property
    def radius_angstrom(self) -> float:
        """Shannon radius (angstrom), six-fold coordination, high spin."""
        return radii()[self]

    def __str__(self) -> str:
        """Return e.g. ``Mn3+``."""
        return f"{self.element}{self.charge}+"


def _nearest_element(symbol: str) -> str:
    elements = sorted({s.element for s in radii()})
    return hint(symbol, elements, cutoff=0.3) + f"Elements with data: {', '.join(elements)}."


@dataclass(frozen=True)
class Couple:
    """A metal between two of the oxidation states that a chemist lists for it."""

    element: str
    lower: int
    upper: int
    place: float
    """Position on the redox ladder: low is oxidised first. Over two steps, their mean weighted by electrons."""

    oxide_v: float
    """Potential against O2 from binary oxides at 298 K (V)."""

    aqueous_v: float
    """Standard potential in acid against the hydrogen electrode (V)."""

    def __str__(self) -> str:
        """Return e.g. ``Mn2+/Mn3+``."""
        return f"{Species(self.element, self.lower)}/{Species(self.element, self.upper)}"


def shipped_rows(name: str) -> list[dict[str, str]]:
    """Rows of a table in ``screening/data``."""
    text = (files("screening") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def radii() -> Mapping[Species, float]:
    """Ionic radius (angstrom) of every species there are data for."""
    return {
        Species(row["element"], int(row["oxidation_state"])): float(row["radius_angstrom"])
        for row in shipped_rows("species.csv")
    }


@cache
def ladder() -> tuple[Couple, ...]:
    """Every couple of the shipped redox ladder, the most reducing first."""
    rows = [
        Couple(
            row["element"],
            int(row["lower"]),
            int(row["upper"]),
            float(row["place"]),
            float(row["oxide_v"]),
            float(row["aqueous_v"]),
        )
        for row in shipped_rows("redox_ladder.csv")
    ]
    return tuple(sorted(rows, key=lambda couple: couple.place))


@dataclass(frozen=True)
class Supply:
    """Where an element comes from and what it costs."""

    hhi_production: float
    price_usd_kg: float
    hazard: str
    """Empty, or the element or species concerned, a colon, and why."""


@cache
def supply() -> Mapping[str, Supply]:
    """Supply figures by element."""
    return {
        row["element"]: Supply(float(row["hhi_production"]), float(row["price_usd_kg"]), row["hazard"] or "")
        for row in shipped_rows("supply.csv")
    }


@cache
def known_states(element: str) -> tuple[int, ...]:
    """Oxidation states of an element there are data for, ascending."""
    return tuple(sorted(s.charge for s in radii() if s.element == element))


@cache
def couples(element: str, states: tuple[int, ...]) -> tuple[Couple, ...]:
    """Couples between neighbouring states of one element, the lowest first.

    Raises:
        ConfigurationError: the ladder does not reach from one state to the next.
    """
    return tuple(_couple(element, lower, upper) for lower, upper in zip(states, states[1:], strict=False))


def _couple(element: str, lower: int, upper: int) -> Couple:
    steps = [c for c in ladder() if c.element == element and lower <= c.lower and c.upper <= upper]
    if sum(c.upper - c.lower for c in steps) != upper - lower:
        raise ConfigurationError(
            f"The redox ladder has no couple {Species(element, lower)}/{Species(element, upper)}; list only one of the "
            "two states."
        )

    place, oxide_v, aqueous_v = (
        sum((c.upper - c.lower) * getattr(c, scale) for c in steps) / (upper - lower)
        for scale in ("place", "oxide_v", "aqueous_v")
    )
    return Couple(element, lower, upper, place, oxide_v, aqueous_v)


def oxidation_order(states: Mapping[str, tuple[int, ...]]) -> list[Couple]:
    """Couples of several elements in the order in which they are oxidised.

    Args:
        states: allowed oxidation states of each element, ascending.
    """
    every = [couple for element, listed in states.items() for couple in couples(element, listed)]
    return sorted(every, key=lambda couple: (couple.place, couple.element, couple.lower))


def fill_ladder(
    metals: Sequence[str], states: Mapping[str, tuple[int, ...]], amounts: np.ndarray, charge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Charge on each metal when the most reducing couples are oxidised first.

    Every metal starts in its lowest state; couples are then oxidised along the ladder until the metals carry the
    charge. At most one couple of a row ends partly oxidised. In whole units the result is exact.

    Args:
        metals: s symbols.
        states: allowed oxidation states of each, ascending.
        amounts: ``n x s``, whole units or amounts per formula unit.
        charge: total charge on the metals, ``n``, in the same units.

    Returns:
        Charge on each metal, ``n x s``, in the same units; and what could not be placed, ``n`` (0 where the row is
        neutral, negative where even the lowest states are too much).
    """
    amounts = np.asarray(amounts)
    lowest = np.array([states[m][0] for m in metals], dtype=amounts.dtype if amounts.dtype.kind == "f" else np.int64)
    placed = amounts * lowest
    missing = np.asarray(charge) - placed.sum(1)
    column = {metal: i for i, metal in enumerate(metals)}
    for couple in oxidation_order({m: states[m] for m in metals}):
        i = column[couple.element]
        taken = np.clip(missing, 0, amounts[:, i] * (couple.upper - couple.lower))
        placed[:, i] += taken
        missing = missing - taken
    return placed, missing


Compatibility = Literal["compatible", "uncertain", "unlikely", "impossible"]
"""How an oxidised species sits beside a reduced one: no reaction; the two scales disagree; both scales say it reacts;
both say so by more than :data:`UNCERTAIN_BAND_V`."""


@dataclass(frozen=True)
class Oxide:
    """A binary oxide and what its formation gives."""

    formula: str
    metal: int
    """Metal atoms per formula."""

    oxygen: int
    gibbs_kj_mol: float
    """Gibbs energy of formation at 298 K per mole of formula."""

    estimated: bool

    @property
    def per_metal_kj(self) -> float:
        """Gibbs energy of formation per mole of metal atoms."""
        return self.gibbs_kj_mol / self.metal


@cache
def oxides() -> Mapping[Species, Oxide]:
    """Binary oxide of each species there are data for."""
    found = {}
    for row in shipped_rows("oxides.csv"):
        match = re.fullmatch(r"[A-Z][a-z]?(\d*)O(\d*)", row["oxide"])
        assert match is not None, row
        metal, oxygen = (int(n or 1) for n in match.groups())
        species = Species(row["element"], int(row["state"]))
        found[species] = Oxide(row["oxide"], metal, oxygen, float(row["gibbs_kj_mol"]), row["estimated"] == "yes")
    return found


@dataclass(frozen=True)
class Reduction:
    """A metal that one species would take out of the oxide of another."""

    metal: str
    equation: str
    """Balanced, such as ``2 FeO + NiO -> Fe2O3 + Ni``."""

    gibbs_kj_mol: float
    """Gibbs energy of the reaction at 298 K per mole of metal; negative."""

    margin_v: float
    """The same per electron (V); positive."""

    estimated: bool
    """Whether a Gibbs energy is a guess."""

    def __str__(self) -> str:
        """Return the equation with its energy."""
        about = "about " if self.estimated else ""
        return f"{self.equation} ({about}{self.gibbs_kj_mol:.0f} kJ/mol of {self.metal}, 298 K)"


REDUCED_TO_METAL = ("Fe", "Co", "Ni", "Cu", "Mo", "W", "In", "Sn")
"""Elements whose oxides a reduced cation may turn into the metal; the others hold their oxygen more firmly."""


@cache
def reduction_to_metal(oxidant: Species, reductant: Species) -> Reduction | None:
    """Reaction in which a reductant takes the last oxygen from an oxidant, where it is downhill between binary oxides.

    Only the lowest state of an element that is known here is reduced to the metal: Mo6+ becomes Mo4+ first, which
    :func:`compatibility` judges by the ladder. Potentials in water say nothing here, because the ions that form in a
    rocksalt are not those of an acid.

    Args:
        oxidant: such as Ni2+.
        reductant: such as Fe2+, which becomes Fe3+.
    """
    up = _oxidation_of(reductant)
    if up is None or oxidant.element == reductant.element or not _becomes_metal(oxidant):
        return None
    before, after = oxides().get(Species(up.element, up.lower)), oxides().get(Species(up.element, up.upper))
    taken = oxides().get(oxidant)
    if taken is None or before is None or after is None:
        return None
    atoms = Fraction(oxidant.charge, up.upper - up.lower)  # of the reductant for each of the oxidant
    gibbs = float(atoms) * (after.per_metal_kj - before.per_metal_kj) - taken.per_metal_kj
    if gibbs >= 0:
        return None
    moles = [atoms / before.metal, Fraction(1, taken.metal), atoms / after.metal, Fraction(1)]
    names = (before.formula, taken.formula, after.formula, oxidant.element)
    return Reduction(
        oxidant.element,
        _equation(names, moles),
        gibbs,
        -gibbs / (oxidant.charge * KJ_MOL_PER_EV),
        taken.estimated or before.estimated or after.estimated,
    )


def _becomes_metal(oxidant: Species) -> bool:
    """Whether what a species is reduced to is the metal."""
    return oxidant.element in REDUCED_TO_METAL and known_states(oxidant.element)[:1] == (oxidant.charge,)


def _equation(names: Sequence[str], moles: Sequence[Fraction]) -> str:
    """Two formulas that react to two others, in the smallest whole numbers."""
    whole = lcm(*(m.denominator for m in moles))
    numbers = [int(m * whole) for m in moles]
    terms = [f"{n} {name}" if n > 1 else name for n, name in zip(numbers, names, strict=True)]
    return f"{terms[0]} + {terms[1]} -> {terms[2]} + {terms[3]}"


def _oxidation_of(species: Species) -> Couple | None:
    """The couple of which a species is the lower state."""
    return next((c for c in ladder() if c.element == species.element and c.lower == species.charge), None)


def _reduction_of(species: Species) -> Couple | None:
    """The couple of which a species is the upper state."""
    return next((c for c in ladder() if c.element == species.element and c.upper == species.charge), None)


_SEVERITY: tuple[Compatibility, ...] = ("compatible", "uncertain", "unlikely", "impossible")


def severity(compatibility: Compatibility) -> int:
    """Rank of a verdict, 0 for compatible to 3 for impossible."""
    return _SEVERITY.index(compatibility)


@cache
def compatibility(one: Species, other: Species) -> Compatibility:
    """Whether two species of different elements can stand side by side.

    The oxidant is the upper state of its couple, the reductant the lower state of its own. They react where the
    oxidant's couple lies above the reductant's on both scales (oxides at 298 K and aqueous). A reaction to the metal,
    see :func:`reduction_to_metal`, is judged on the scale of the oxides alone. Ions that have no couple on that side,
    and two states of one element, are compatible.
    """
    if one.element == other.element:
        return "compatible"
    verdicts = [_reaction(one, other), _reaction(other, one), _to_metal(one, other), _to_metal(other, one)]
    return max(verdicts, key=severity)


def reactions_to_metal(present: Iterable[Species]) -> list[Reduction]:
    """Every downhill reaction to a metal among species that stand side by side, the strongest first."""
    pairs = itertools.permutations(dict.fromkeys(present), 2)
    found = [r for oxidant, reductant in pairs if (r := reduction_to_metal(oxidant, reductant)) is not None]
    return sorted(found, key=lambda r: r.gibbs_kj_mol)


def _to_metal(oxidant: Species, reductant: Species) -> Compatibility:
    reaction = reduction_to_metal(oxidant, reductant)
    if reaction is None:
        return "compatible"
    return "impossible" if reaction.margin_v >= UNCERTAIN_BAND_V - 1e-9 else "unlikely"


def _reaction(oxidant: Species, reductant: Species) -> Compatibility:
    down, up = _reduction_of(oxidant), _oxidation_of(reductant)
    if down is None or up is None:
        return "compatible"
    margins = (down.oxide_v - up.oxide_v, down.aqueous_v - up.aqueous_v)
    if min(margins) >= UNCERTAIN_BAND_V - 1e-9:
        return "impossible"
    if min(margins) > 0:
        return "unlikely"
    return "uncertain" if max(margins) > 0 else "compatible"
