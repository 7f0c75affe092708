"""Compositions of disordered rocksalts, on a two-anion basis.

A :class:`Composition` is what passes between the layers: a frozen, hashable value whose formula is
canonical (lithium, then the metals by atomic number, then O and F, with O + F = 2).
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

from drxnet.errors import CompositionError, DRXWarning

FARADAY_MAH_MOL = 26801.48
"""Faraday constant in mAh/mol: 96485.33 C/mol / 3.6 C/mAh (CODATA 2018)."""

MODEL_METALS = ("Li", "Mg", "Al", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Zr", "Nb", "Mo", "W")
"""The 14 metals that DRXNet was trained on (Zhong et al., Joule 8, 2024, doi:10.1016/j.joule.2024.03.010)."""

METALS_BY_NUMBER = (
    "Li Be Na Mg Al K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb "
    "Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
).split()
"""Elements that may stand on the cation site, in the order of their atomic number."""

HIGHEST_REDOX_STATE: Mapping[str, int] = MappingProxyType(
    {"Ti": 4, "V": 5, "Cr": 6, "Mn": 4, "Fe": 3, "Co": 4, "Ni": 4, "Mo": 6, "Nb": 5, "W": 6}
)
"""Oxidation state up to which an element is counted as a source of electrons in a cathode."""

CATION_TOLERANCE = 0.05
"""Relative difference between cations and anions up to which a formula is a rocksalt with full sites."""

NONSTOICHIOMETRIC_TOLERANCE = 0.25
"""The same for those who ask for it: Li1.6Mn0.8O2 (Li4Mn2O5), off by 20 %, has been made and measured."""

CATION_WARNING = 0.02

LEAST_METAL = 0.02
"""Amount of a metal per formula unit below which it is a trace.

DRXNet weighs elements by gates without bounds, so that a trace may move a prediction by a hundred mAh/g; no cell was
made on purpose with so little.
"""

MAX_FLUORINE = 1.4
_DECIMALS = 4
_THREE_DECIMALS = 5.1e-4
_COARSE = 600
_ORDER = {symbol: i for i, symbol in enumerate(METALS_BY_NUMBER)}
_SIMPLE_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:\d+(?:\.\d*)?|\.\d+)?)+")
_TERM = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?")


@dataclass(frozen=True)
class Composition:
    """A cathode composition with O + F = 2, cations in canonical order.

    Two compositions are equal when their amounts agree to 1e-4 per formula unit, however they were
    written: ``Li12Mn4Ti4O20`` is ``Li1.2Mn0.4Ti0.4O2``.
    """

    cations: tuple[tuple[str, float], ...]
    """Symbol and amount per formula unit: lithium first, then by atomic number."""

    fluorine: float
    """F per formula unit; oxygen is ``2 - fluorine``."""

    @classmethod
    def parse(cls, formula: str | Composition, *, nonstoichiometric: bool = False) -> Composition:
        """Read a formula in any form pymatgen understands and put it on the two-anion basis.

        Args:
            formula: such as ``Li1.2Mn0.4Ti0.4O2``.
            nonstoichiometric: accept cations and anions that differ by up to 25 % instead of 5 %.

        Raises:
            CompositionError: not a formula, or not a disordered rocksalt (no lithium, an element that
                is neither a metal nor O or F, cations and anions that differ by more than 5 %, more
                than 1.4 F).
        """
        if isinstance(formula, Composition):
            return formula
        return _parse(formula, nonstoichiometric)

    @classmethod
    def from_amounts(cls, amounts: Mapping[str, float], *, nonstoichiometric: bool = False) -> Composition:
        """Build a composition from amounts by element symbol, on any basis.

        Args:
            amounts: of every element, anions included.
            nonstoichiometric: as for :meth:`parse`.

        Raises:
            CompositionError: as for :meth:`parse`.
        """
        written = "".join(f"{symbol}{amount:g}" for symbol, amount in amounts.items())
        cations, fluorine = _cations(written, amounts), amounts.get("F", 0.0)
        anions = amounts.get("O", 0.0) + fluorine
        if anions <= 0:
            raise CompositionError(f"{written}: no O or F. DRXNet needs Li...O(2-x)F(x).")
        scale = 2.0 / anions
        ratio = sum(cations.values()) * scale
        _check_ratio(written, ratio, nonstoichiometric)
        if cations.get("Li", 0.0) <= 0:
            raise CompositionError(f"{written}: no lithium. DRXNet needs Li...O(2-x)F(x).")
        if fluorine * scale > MAX_FLUORINE + 1e-9:
            raise CompositionError(
                f"{written}: {fluorine * scale:.3g} F per formula unit; at most {MAX_FLUORINE} is a rocksalt "
                "that has been made."
            )
        if abs(ratio - 2) > CATION_WARNING * 2 + 1e-9:
            warnings.warn(
                f"{written}: cations {ratio:.4g} for 2 anions, off by more than 2 %; used as written.",
                DRXWarning,
                stacklevel=3,
            )
        ordered = sorted(cations.items(), key=lambda item: _ORDER[item[0]])
        rounded = tuple((s, round(a * scale, _DECIMALS)) for s, a in ordered)
        return cls(tuple((s, a) for s, a in rounded if a > 0), round(fluorine * scale, _DECIMALS))

    @cached_property
    def formula(self) -> str:
        """Canonical formula, e.g. ``Li1.2Mn0.4Ti0.4O2``."""
        terms = [*self.cations, ("O", self.oxygen), ("F", self.fluorine)]
        return "".join(f"{s}{_amount(a)}" for s, a in terms if a > 0)

    def __str__(self) -> str:
        """Return the canonical formula."""
        return self.formula

    @property
    def oxygen(self) -> float:
        """O per formula unit."""
        return round(2.0 - self.fluorine, _DECIMALS)

    @property
    def lithium(self) -> float:
        """Li per formula unit."""
        return dict(self.cations).get("Li", 0.0)

    @property
    def metals(self) -> dict[str, float]:
        """Amounts of the cations other than lithium."""
        return {s: a for s, a in self.cations if s != "Li"}

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the cations, lithium first."""
        return tuple(s for s, _ in self.cations)

    @property
    def traces(self) -> dict[str, float]:
        """Metals besides lithium of which there is less than :data:`LEAST_METAL`."""
        return {s: a for s, a in self.metals.items() if a < LEAST_METAL - 1e-9}

    def without_traces(self) -> Composition:
        """Leave out traces of metals; the composition itself where it has none, or nothing but traces.

        A trace that was added on top is dropped. One that stands in the place of other metals, as in what an elemental
        analysis gives, is made up for by those, in proportion: whatever brings the cations closer to two.
        """
        traces = self.traces
        kept = {s: a for s, a in self.metals.items() if s not in traces}
        if not traces or not kept:
            return self
        dropped, rest = sum(traces.values()), sum(kept.values())
        total = self.lithium + dropped + rest
        share = (dropped + rest) / rest if abs(total - 2) < abs(total - dropped - 2) else 1.0
        cations = (("Li", self.lithium), *((s, round(a * share, _DECIMALS)) for s, a in kept.items()))
        return Composition(cations, self.fluorine)

    def amounts(self) -> dict[str, float]:
        """Amounts of every element, anions included."""
        everything = {**dict(self.cations), "O": self.oxygen, "F": self.fluorine}
        return {s: a for s, a in everything.items() if a > 0}

    def units(self, denominator: int) -> dict[str, int]:
        """Amounts as whole numbers of ``1 / denominator``; the key of a composition on a lattice.

        Thirds may be written with three decimals (Li1.333Mn0.667O2), as long as the step is coarser than that.

        Raises:
            CompositionError: an amount is not a multiple of ``1 / denominator``.
        """
        units = {}
        tolerance = _THREE_DECIMALS if denominator <= _COARSE else 1.01 * 10**-_DECIMALS
        for symbol, amount in self.amounts().items():
            units[symbol] = round(amount * denominator)
            if abs(units[symbol] / denominator - amount) > tolerance:
                raise CompositionError(f"{self}: {symbol} {amount:g} is not a multiple of 1/{denominator}.")
        return units

    @property
    def molar_mass(self) -> float:
        """Grams per mole of formula units."""
        from drxnet.elements import ATOMIC_MASS

        return sum(ATOMIC_MASS[s] * a for s, a in self.amounts().items())

    @property
    def theoretical_capacity_mah_g(self) -> float:
        """Capacity of all lithium, n_Li F / M (mAh/g)."""
        return self.lithium * FARADAY_MAH_MOL / self.molar_mass

    def redox_capacity_mah_g(self, oxidation_states: Mapping[str, float]) -> float:
        """Capacity of the metal redox alone (mAh/g).

        Args:
            oxidation_states: average oxidation state of each metal as synthesised.

        Returns:
            min(sum_e (z_max - z_e) n_e, n_Li) F / M, with z_max from :data:`HIGHEST_REDOX_STATE`.
        """
        electrons = sum(
            max(0.0, HIGHEST_REDOX_STATE[s] - oxidation_states[s]) * a
            for s, a in self.metals.items()
            if s in HIGHEST_REDOX_STATE
        )
        return min(electrons, self.lithium) * FARADAY_MAH_MOL / self.molar_mass

    def distance(self, other: Composition) -> float:
        """Largest difference of any amount per formula unit."""
        mine, theirs = self.amounts(), other.amounts()
        return max(abs(mine.get(s, 0.0) - theirs.get(s, 0.0)) for s in mine.keys() | theirs.keys())


def _cations(written: str, amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts of the cations that are there, all of them metals."""
    if bad := {s: a for s, a in amounts.items() if not math.isfinite(a) or a < 0}:
        raise CompositionError(f"{written}: amounts must be finite and not negative. Got {bad}.")
    cations = {s: a for s, a in amounts.items() if s not in ("O", "F") and a > 0}
    if unknown := sorted(cations.keys() - _ORDER.keys()):
        raise CompositionError(f"{written}: a disordered rocksalt holds Li, metals, O and F. Got {', '.join(unknown)}.")
    return cations


def _check_ratio(written: str, ratio: float, nonstoichiometric: bool) -> None:
    """Refuse cations per two anions that are too far from two."""
    tolerance = NONSTOICHIOMETRIC_TOLERANCE if nonstoichiometric else CATION_TOLERANCE
    if abs(ratio - 2) <= tolerance * 2 + 1e-9:
        return
    way_out = "" if nonstoichiometric else f" Up to {NONSTOICHIOMETRIC_TOLERANCE:.0%} is read with --nonstoichiometric."
    raise CompositionError(
        f"{written}: cations {ratio:.4g}, anions 2; they may differ by {100 * tolerance:.0f} %. DRXNet needs "
        f"Li...O(2-x)F(x).{way_out}"
    )


def _amount(amount: float) -> str:
    return f"{amount:.{_DECIMALS}f}".rstrip("0").rstrip(".")


@lru_cache(maxsize=65536)
def _parse(formula: str, nonstoichiometric: bool) -> Composition:
    plain = formula if formula.isascii() else unicodedata.normalize("NFKC", formula)  # subscripts of a text
    plain = re.sub(r"[$_{}]", "", plain)  # and of LaTeX
    compact = plain.replace(" ", "")
    if _SIMPLE_FORMULA.fullmatch(compact):  # the common case, without the cost of pymatgen
        amounts: dict[str, float] = {}
        for symbol, amount in _TERM.findall(compact):
            amounts[symbol] = amounts.get(symbol, 0.0) + (float(amount) if amount else 1.0)
        if amounts.keys() <= _ORDER.keys() | {"O", "F"}:
            return Composition.from_amounts(amounts, nonstoichiometric=nonstoichiometric)
    from pymatgen.core.composition import Composition as AnyComposition

    try:
        parsed = AnyComposition(plain).get_el_amt_dict()
    except Exception as error:  # noqa: BLE001 - pymatgen raises several kinds, all of which mean the same here
        raise CompositionError(f"{formula!r} is not a chemical formula ({error}).") from None
    if not parsed:
        raise CompositionError("An empty text is not a chemical formula.")
    return Composition.from_amounts(parsed, nonstoichiometric=nonstoichiometric)


def parse_anew(formula: str | Composition) -> Composition:
    """As :meth:`Composition.parse`, with its warnings each time and not the first time alone.

    Raises:
        CompositionError: as there.
    """
    return formula if isinstance(formula, Composition) else _parse.__wrapped__(formula, False)
