"""Physical and chemical filters: what can be said about a composition without a network.

Every filter is a function from :class:`Mixtures` to one number per composition; :data:`FILTERS` names it, with its
unit, the side on which it refuses and its source, and :class:`Filters` holds the thresholds of a space. A threshold of
null reports the number and refuses nothing. Filters of species (which stand side by side, whatever the amounts) act
before enumeration, so counts and ranks stay exact; filters of amounts act on rows.

The defaults let every rocksalt pass that is known to the package: those of ``data/known_drx.csv``, TM2, TM4 and TM6 of
Lun et al., Nat. Mater. 20, 214 (2021), doi:10.1038/s41563-020-00816-0, HE-1 and HE-2 of the DRXNet paper, and what
:mod:`drxnet.literature` lists; the few that a filter refuses all the same stand in ``data/exceptions.csv`` with the
reason, see :func:`exceptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from drxnet.composition import FARADAY_MAH_MOL, Composition
from drxnet.elements import ATOMIC_MASS
from drxnet.plugins import Registry
from screening.quantities import cost_usd_kg
from screening.species import Species, compatibility, severity, shipped_rows, supply

ROUTES: Mapping[str, float] = {"solid-state": 0.3, "mechanochemical": 0.7}
"""Most fluorine (per formula unit) that a synthesis route is known to put into a disordered rocksalt."""

LEAST_AMOUNT = 3e-4
"""Amounts of a species below this are what rounding leaves of a formula such as Li1.3333Mn0.6667O2."""

_ACCESSIBLE_AT = (1.06, 1.10, 1.15, 1.20, 1.25, 1.30, 1.35)
_ACCESSIBLE = (0.0, 0.37, 0.69, 0.85, 0.98, 1.09, 1.19)


@dataclass(frozen=True)
class Mixtures:
    """n compositions as amounts of species."""

    species: tuple[Species, ...]
    """Li+ first."""

    amounts: np.ndarray
    """Per formula unit, ``n x species``."""

    fluorine: np.ndarray
    """Per formula unit, ``n``."""

    prices: Mapping[str, float] = field(default_factory=dict)
    """Of elements, where they differ from the shipped ones (USD per kg of contained element)."""

    @classmethod
    def of(
        cls,
        states: Mapping[str, tuple[int, ...]],
        cations: np.ndarray,
        fluorine: np.ndarray,
        charges: np.ndarray,
    ) -> Mixtures:
        """Split the metals into species: each mixes the two states around its average charge.

        Args:
            states: oxidation states of each of s metals, ascending.
            cations: amounts per formula unit, ``n x (1 + s)``, lithium first.
            fluorine: per formula unit, ``n``.
            charges: charge on each metal per formula unit, ``n x s``.
        """
        species, amounts = [Species("Li", 1)], [cations[:, 0]]
        for i, (metal, listed) in enumerate(states.items()):
            amount = cations[:, i + 1]
            beyond = [amount]  # amount raised to each state or higher
            for lower, upper in zip(listed, listed[1:], strict=False):
                width = upper - lower
                beyond.append(np.clip(charges[:, i] - lower * amount, 0, width * amount) / width)
            for state, here, higher in zip(listed, beyond, [*beyond[1:], np.zeros_like(amount)], strict=True):
                species.append(Species(metal, state))
                held = here - higher
                amounts.append(np.where(held > LEAST_AMOUNT, held, 0.0))
        return cls(tuple(species), np.stack(amounts, 1), fluorine)

    @classmethod
    def standing(cls, sets: Sequence[Sequence[Species]]) -> Mixtures:
        """One unit of each species of n sets, for the filters that look only at which species are present."""
        lithium = Species("Li", 1)
        species = (lithium, *sorted({s for present in sets for s in present} - {lithium}))
        place = {s: i for i, s in enumerate(species)}
        amounts = np.zeros((len(sets), len(species)))
        amounts[:, 0] = 1
        for row, present in enumerate(sets):
            amounts[row, [place[s] for s in present]] = 1
        return cls(species, amounts, np.zeros(len(sets)))

    def __len__(self) -> int:
        """Return n."""
        return len(self.amounts)

    def per_species(self, values: Callable[[Species], float]) -> np.ndarray:
        """Value of each species, ``species``."""
        return np.array([values(s) for s in self.species], dtype=float)

    @cached_property
    def metals(self) -> np.ndarray:
        """Amounts of the species other than Li+, ``n x (species - 1)``."""
        return self.amounts[:, 1:]

    @cached_property
    def elements(self) -> np.ndarray:
        """Amounts of the metals other than lithium, ``n x elements``."""
        symbols = list(dict.fromkeys(s.element for s in self.species[1:]))
        belongs = np.array([[s.element == e for e in symbols] for s in self.species[1:]], dtype=float)
        return self.metals @ belongs.reshape(len(self.species) - 1, len(symbols))

    @cached_property
    def molar_mass(self) -> np.ndarray:
        """Grams per mole of formula units, ``n``."""
        cations = self.amounts @ self.per_species(lambda s: ATOMIC_MASS[s.element])
        return cations + ATOMIC_MASS["O"] * (2 - self.fluorine) + ATOMIC_MASS["F"] * self.fluorine

    @cached_property
    def radii(self) -> np.ndarray:
        """Ionic radius of each species (angstrom), ``species``."""
        return self.per_species(lambda s: s.radius_angstrom)


# -- the filters -----------------------------------------------------------------------------------------


def lithium_percolation(mixtures: Mixtures) -> np.ndarray:
    """Lithium per formula unit.

    Diffusion needs a percolating network of tetrahedra without a transition metal beside them (0-TM). In a random
    rocksalt that happens at 1.09 Li in an infinite crystal: J. Lee et al., Science 343, 519 (2014),
    doi:10.1126/science.1246432; A. Urban, J. Lee, G. Ceder, Adv. Energy Mater. 4, 1400478 (2014),
    doi:10.1002/aenm.201400478. The default of 1.10 leaves a margin of one hundredth.
    """
    return mixtures.amounts[:, 0]


def accessible_lithium(mixtures: Mixtures) -> np.ndarray:
    """Lithium on the percolating 0-TM network per formula unit, for random cations.

    Interpolated in the lithium content between results of a Monte Carlo count of the largest spanning cluster on
    face-centred cubic lattices of 20 x 20 x 20 cells, without short-range order (method of Urban, Lee and Ceder,
    doi:10.1002/aenm.201400478, whose values are slightly higher).
    """
    return np.interp(mixtures.amounts[:, 0], _ACCESSIBLE_AT, _ACCESSIBLE)


def size_mismatch(mixtures: Mixtures) -> np.ndarray:
    """Spread of the radii of all cations, 100 sqrt(sum_i x_i (1 - r_i / r_mean)^2), in percent.

    The measure of Y. Zhang et al., Adv. Eng. Mater. 10, 534 (2008), doi:10.1002/adem.200700240, with Shannon radii.
    Its limit for alloys, 6.6 %, refuses every rocksalt that has been made: most have 8 to 12 %, those rich in Mn4+ up
    to 16 % (disordered Li2MnO3, Kataoka et al. 2019, doi:10.1039/c8ta11807h), which is the default.
    """
    return _spread(mixtures.amounts, mixtures.radii)


def metal_size_mismatch(mixtures: Mixtures) -> np.ndarray:
    """Spread of the radii of the cations other than lithium, as :func:`size_mismatch`, in percent.

    At most 16 % in oxyfluorides of Mn2+ with Ti4+, 18 % in those of Mn2+ with V4+.
    """
    return _spread(mixtures.metals, mixtures.radii[1:])


def _spread(amounts: np.ndarray, radii: np.ndarray) -> np.ndarray:
    fractions = amounts / amounts.sum(1, keepdims=True)
    mean = fractions @ radii
    return 100 * np.sqrt(np.maximum(fractions @ radii**2 / mean**2 - 1, 0))


def radius_range(mixtures: Mixtures) -> np.ndarray:
    """Largest difference of the radii of two cations that are present (angstrom); Shannon, six-fold, high spin.

    The default is what Mn2+ beside V4+ has, in the Li-Mn-V-O-F rocksalts.
    """
    present = mixtures.amounts > 0
    largest = np.where(present, mixtures.radii, -np.inf).max(1)
    return largest - np.where(present, mixtures.radii, np.inf).min(1)


def metal_entropy(mixtures: Mixtures) -> np.ndarray:
    """Configurational entropy of the metals by element, lithium left out, -sum x ln x, in units of R.

    Per metal site. The usual bound for high entropy is 1.5 R (D. B. Miracle and O. N. Senkov, Acta Mater. 122, 448
    (2017), doi:10.1016/j.actamat.2016.08.081); it refuses HE-1, which has 1.49 R.
    """
    return _entropy(mixtures.elements)


def cation_entropy(mixtures: Mixtures) -> np.ndarray:
    """Configurational entropy of all cations by element, lithium included, -sum x ln x, in units of R per site."""
    return _entropy(np.concatenate([mixtures.amounts[:, :1], mixtures.elements], 1))


def _entropy(amounts: np.ndarray) -> np.ndarray:
    fractions = amounts / amounts.sum(1, keepdims=True)
    return np.abs((fractions * np.log(np.where(fractions > 0, fractions, 1))).sum(1))


def lithium_capacity(mixtures: Mixtures) -> np.ndarray:
    """Capacity of all lithium, n_Li F / M (mAh/g)."""
    return FARADAY_MAH_MOL * mixtures.amounts[:, 0] / mixtures.molar_mass


def redox_electrons(mixtures: Mixtures) -> np.ndarray:
    """Electrons the metals can give per formula unit, up to Mn4+ Fe3+ Co4+ Ni4+ Cr6+ V5+ Mo6+ Ti4+ Nb5+ W6+."""
    return mixtures.amounts @ mixtures.per_species(lambda s: s.electrons)


def oxygen_electrons(mixtures: Mixtures) -> np.ndarray:
    """Electrons that oxygen may give per formula unit: two for each lithium in excess of one.

    Oxygen is oxidised where it has lithium on opposite sides (D.-H. Seo et al., Nat. Chem. 8, 692 (2016),
    doi:10.1038/nchem.2524), which lithium in excess brings about. Two for each is a rule of this package that lets the
    rocksalts pass which run on oxygen alone: Li1.3Fe0.4Nb0.3O2 and Li1.2Ti0.4Fe0.4O2 (N. Yabuuchi et al., PNAS 112,
    7650 (2015), Nat. Commun. 7, 13814 (2016)) and disordered Li2MnO3. Such capacity fades; how much of the threshold
    rests on it is what this number is reported for.
    """
    return np.minimum(2 * np.maximum(mixtures.amounts[:, 0] - 1, 0), 2 - mixtures.fluorine)


def redox_electrons_with_oxygen(mixtures: Mixtures) -> np.ndarray:
    """Electrons of the metals and of oxygen per formula unit, at most one for each lithium."""
    return np.minimum(redox_electrons(mixtures) + oxygen_electrons(mixtures), mixtures.amounts[:, 0])


def redox_capacity(mixtures: Mixtures) -> np.ndarray:
    """Capacity of the metal redox alone, min(electrons, n_Li) F / M (mAh/g)."""
    return FARADAY_MAH_MOL * np.minimum(redox_electrons(mixtures), mixtures.amounts[:, 0]) / mixtures.molar_mass


def redox_compatibility(mixtures: Mixtures) -> np.ndarray:
    """How certainly two species present would react with each other; 0 no, 1 uncertain, 2 unlikely, 3 impossible.

    The worst pair counts, see :func:`screening.species.compatibility`. Under ladder filling a pair above 0 remains only
    where the state it would react to is not listed, or where the two scales disagree about the order.
    """
    worst = np.zeros(len(mixtures))
    present = mixtures.amounts > 0
    for i, one in enumerate(mixtures.species):
        for j, other in enumerate(mixtures.species[:i]):
            level = severity(compatibility(one, other))
            if level:
                worst[present[:, i] & present[:, j] & (worst < level)] = level
    return worst


def fluorine_by_route(mixtures: Mixtures) -> np.ndarray:
    """Fluorine per formula unit.

    Solid-state firing loses LiF above 850 C and reaches about 0.3; ball milling reaches about 0.7 (R. J. Clement,
    Z. Lun, G. Ceder, Energy Environ. Sci. 13, 345 (2020), doi:10.1039/C9EE02803J, review).
    """
    return mixtures.fluorine


def precursors(mixtures: Mixtures) -> np.ndarray:
    """Number of precursors: one for lithium, one for each metal, LiF when there is fluorine."""
    return 1.0 + (mixtures.elements > 0).sum(1) + (mixtures.fluorine > 1e-9)


def precursor_cost(mixtures: Mixtures) -> np.ndarray:
    """Cost of the elements in their precursors per kilogram of product (US dollars).

    Prices are those of ``supply.csv`` where the space or its campaign gives no other.
    """
    symbols = [s.element for s in mixtures.species]
    return cost_usd_kg(symbols, mixtures.amounts.T, mixtures.fluorine, mixtures.prices)


def supply_risk(mixtures: Mixtures) -> np.ndarray:
    """Herfindahl-Hirschman index of production, averaged over the elements by mass.

    M. W. Gaultois et al., Chem. Mater. 25, 2911 (2013), doi:10.1021/cm400893e; above 2500 a market is concentrated.
    """
    mass = mixtures.amounts * mixtures.per_species(lambda s: ATOMIC_MASS[s.element])
    index = mass @ mixtures.per_species(lambda s: supply()[s.element].hhi_production)
    for symbol, amount in (("O", 2 - mixtures.fluorine), ("F", mixtures.fluorine)):
        index = index + amount * ATOMIC_MASS[symbol] * supply()[symbol].hhi_production
    return index / mixtures.molar_mass


def hazards(mixtures: Mixtures) -> np.ndarray:
    """Number of species with a hazard note (Co, Ni, Cr, V5+, Sb); :func:`hazard_notes` says what it is about."""
    flagged = mixtures.per_species(lambda s: bool(hazard_notes([s])))
    return (mixtures.amounts > 0) @ flagged


def hazard_notes(present: Sequence[Species]) -> list[str]:
    """Hazard notes that concern the given species."""
    notes = []
    for species in present:
        note = supply()[species.element].hazard if species.element in supply() else ""
        if note and note.partition(":")[0] in (species.element, str(species)):
            notes.append(note)
    return list(dict.fromkeys(notes))


# -- thresholds and verdicts -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A filter by name: the function, and the side on which its threshold refuses."""

    measure: Callable[[Mixtures], np.ndarray]
    at_least: bool
    """Whether the threshold is the least value allowed; otherwise the greatest."""

    unit: str = ""
    of_species: bool = False
    """Whether only which species are present matters, so that it acts before enumeration."""

    @property
    def name(self) -> str:
        """Name of the function, and the key in a space."""
        return self.measure.__name__

    def passes(self, values: np.ndarray, threshold: float) -> np.ndarray:
        """Which values the threshold lets pass; equality to a part in 10^9 passes."""
        slack = 1e-9 * max(1.0, abs(threshold))
        return values >= threshold - slack if self.at_least else values <= threshold + slack


FILTERS: tuple[Filter, ...] = (
    Filter(lithium_percolation, at_least=True, unit="Li"),
    Filter(accessible_lithium, at_least=True, unit="Li"),
    Filter(size_mismatch, at_least=False, unit="%"),
    Filter(metal_size_mismatch, at_least=False, unit="%"),
    Filter(radius_range, at_least=False, unit="angstrom", of_species=True),
    Filter(metal_entropy, at_least=True, unit="R"),
    Filter(cation_entropy, at_least=True, unit="R"),
    Filter(lithium_capacity, at_least=True, unit="mAh/g"),
    Filter(redox_electrons, at_least=True, unit="e"),
    Filter(oxygen_electrons, at_least=False, unit="e"),
    Filter(redox_electrons_with_oxygen, at_least=True, unit="e"),
    Filter(redox_capacity, at_least=True, unit="mAh/g"),
    Filter(redox_compatibility, at_least=False, of_species=True),
    Filter(fluorine_by_route, at_least=False, unit="F"),
    Filter(precursors, at_least=False),
    Filter(precursor_cost, at_least=False, unit="$/kg"),
    Filter(supply_risk, at_least=False),
    Filter(hazards, at_least=False, of_species=True),
)


@dataclass(frozen=True)
class Verdict:
    """What one filter says of one composition."""

    name: str
    value: float
    threshold: float | None
    """None where the filter only reports."""

    unit: str
    passed: bool
    at_least: bool

    @property
    def side(self) -> str:
        """``at least`` or ``at most``: how the value must stand to the threshold."""
        return "at least" if self.at_least else "at most"

    @property
    def excess(self) -> float:
        """By how much the value misses the threshold; 0 where it passes."""
        return 0.0 if self.passed or self.threshold is None else abs(self.value - self.threshold)

    def __str__(self) -> str:
        """Return e.g. ``size_mismatch: 12.1 %, at most 11 % (by 1.1)``."""
        unit = f" {self.unit}" if self.unit else ""
        text = f"{self.name}: {self.value:.4g}{unit}"
        if self.threshold is None:
            return text
        text += f", {self.side} {self.threshold:.4g}{unit}"
        return text if self.passed else f"{text} (by {self.excess:.2g})"


def _check_filter(name: str, thing: object) -> None:
    if not isinstance(thing, Filter):
        raise ValueError(f"a filter is a screening.filters.Filter. Got {thing!r}.")
    if thing.name != name:
        raise ValueError(f"its function is called {thing.name!r}; name the entry point so, too.")


ALL_FILTERS: Registry[Filter] = Registry("filter", "drx_screen.filters", {f.name: f for f in FILTERS}, _check_filter)
"""Every filter by its name, those that other packages add included."""


class Filters(BaseModel):
    """Thresholds by name of the filter; null switches a filter off."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    added: Mapping[str, float] = Field(default_factory=dict)
    """Thresholds of filters that other packages add; in a YAML they stand beside the others."""

    prices: Mapping[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Of elements, where they differ from the shipped ones (USD per kg of contained element); a campaign's own
    ``prices`` come before these."""

    @model_validator(mode="before")
    @classmethod
    def _take_added(cls, values: Any) -> Any:
        """Put the thresholds of added filters where they belong; what nobody knows is left to be refused."""
        if not isinstance(values, Mapping):
            return values
        strange = [key for key in values if key not in cls.model_fields and key in ALL_FILTERS]
        added = {**values.get("added", {}), **{key: values[key] for key in strange if values[key] is not None}}
        return {**{k: v for k, v in values.items() if k not in strange}, "added": added}

    @field_validator("added")
    @classmethod
    def _known(cls, added: Mapping[str, float]) -> Mapping[str, float]:
        for name in added:
            if name not in ALL_FILTERS or name in ALL_FILTERS.builtin:
                raise ValueError(f"no installed package adds a filter {name!r}")
        return added

    @model_serializer(mode="wrap")
    def _plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave ``prices`` out where there are none, so that fingerprints stay what they were before there were any."""
        values: dict[str, Any] = write(self)
        return values if self.prices else {k: v for k, v in values.items() if k != "prices"}

    lithium_percolation: float | None = 1.10
    """Least Li for 0-TM paths through the crystal (Li)."""

    accessible_lithium: float | None = None
    """Least Li that 0-TM paths reach (Li)."""

    size_mismatch: float | None = 16.0
    """Largest spread of the radii of all cations (%)."""

    metal_size_mismatch: float | None = 18.5
    """Largest spread of the radii of the cations other than lithium (%)."""

    radius_range: float | None = 0.25
    """Largest difference of the radii of two cations that are present (angstrom)."""

    metal_entropy: float | None = None
    """Least entropy of mixing of the metals (R)."""

    cation_entropy: float | None = None
    """Least entropy of mixing of all cations, Li too (R)."""

    lithium_capacity: float | None = None
    """Least capacity of all lithium (mAh/g)."""

    redox_electrons: float | None = None
    """Least electrons that the metals can give (e)."""

    oxygen_electrons: float | None = None
    """Most electrons that oxygen may give (e)."""

    redox_electrons_with_oxygen: float | None = 0.4
    """Least electrons of metals and oxygen together (e)."""

    redox_capacity: float | None = None
    """Least capacity by the electrons of the metals (mAh/g)."""

    redox_compatibility: Literal["compatible", "uncertain", "unlikely"] | None = "unlikely"
    """Worst verdict on a pair of species that is let through."""

    fluorine_by_route: Literal["solid-state", "mechanochemical"] | None = "mechanochemical"
    """Route of synthesis, which says how much F a product keeps."""

    precursors: int | None = Field(default=9, ge=1)
    """Most precursors that a synthesis takes."""

    precursor_cost: float | None = None
    """Highest cost of the elements in their precursors (USD per kg of product)."""

    supply_risk: float | None = None
    """Highest Herfindahl-Hirschman index of production, averaged by mass; above 2500 a market is concentrated."""

    hazards: int | None = Field(default=None, ge=0)
    """Most species with a hazard note."""

    @classmethod
    def none(cls) -> Filters:
        """Switch every filter off."""
        return cls.model_validate(dict.fromkeys(f.name for f in FILTERS))

    def threshold(self, name: str) -> float | None:
        """Threshold of a filter as a number; None where it is off."""
        setting: Any = self.added[name] if name in self.added else getattr(self, name)
        if setting is None:
            return None
        if name == "redox_compatibility":
            return float(severity(setting))
        return ROUTES[setting] if name == "fluorine_by_route" else float(setting)

    def active(self, *, of_species: bool) -> list[Filter]:
        """Filters with a threshold, of species or of amounts."""
        return [f for f in self._used if f.of_species == of_species and self.threshold(f.name) is not None]

    @property
    def _used(self) -> tuple[Filter, ...]:
        """What is shipped, and what is added and has a threshold."""
        return (*FILTERS, *(ALL_FILTERS[name] for name in self.added))

    def refused(self, mixtures: Mixtures, *, of_species: bool) -> dict[str, np.ndarray]:
        """Which compositions each active filter refuses, ``n`` each."""
        mixtures, masks = self._priced(mixtures), {}
        for filter_ in self.active(of_species=of_species):
            threshold = self.threshold(filter_.name)
            assert threshold is not None
            masks[filter_.name] = ~filter_.passes(filter_.measure(mixtures), threshold)
        return masks

    def verdicts(self, mixtures: Mixtures, *, of_species: bool | None = None) -> list[Verdict]:
        """What every filter says of the first composition, those that only report included.

        Args:
            mixtures: one composition.
            of_species: only the filters of species, or only those of amounts; by default all.
        """
        mixtures, verdicts = self._priced(mixtures), []
        for filter_ in self._used:
            if of_species not in (None, filter_.of_species):
                continue
            value = filter_.measure(mixtures)[:1]
            threshold = self.threshold(filter_.name)
            passed = threshold is None or bool(filter_.passes(value, threshold)[0])
            verdicts.append(Verdict(filter_.name, float(value[0]), threshold, filter_.unit, passed, filter_.at_least))
        return verdicts

    def at_prices(self, prices: Mapping[str, float]) -> Filters:
        """The same thresholds at other prices (USD per kg of contained element), which come before its own."""
        return self.model_copy(update={"prices": {**self.prices, **prices}}) if prices else self

    def _priced(self, mixtures: Mixtures) -> Mixtures:
        return replace(mixtures, prices=self.prices) if self.prices else mixtures

    def oxygen_note(self, mixtures: Mixtures) -> str:
        """Say of the first composition how many of its electrons are oxygen's, where the threshold needs them."""
        threshold = self.threshold("redox_electrons_with_oxygen")
        metals, together = float(redox_electrons(mixtures)[0]), float(redox_electrons_with_oxygen(mixtures)[0])
        if threshold is None or metals >= threshold - 1e-9 or together < threshold - 1e-9:
            return ""
        return (
            f"The metals give {metals:.2g} e per formula unit; the {threshold:g} e asked for are met by counting "
            f"oxygen, which may give {together - metals:.2g} e and whose capacity fades."
        )


# -- what has been made all the same ---------------------------------------------------------------------------


@cache
def exceptions() -> Mapping[Composition, Mapping[str, str]]:
    """Rocksalts that have been made although a default filter refuses them: the filter's name, and why it is wrong."""
    listed: dict[Composition, dict[str, str]] = {}
    for row in shipped_rows("exceptions.csv"):
        listed.setdefault(Composition.parse(row["formula"]), {})[row["filter"]] = row["reason"]
    return listed
