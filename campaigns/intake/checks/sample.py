"""What the lab says about a cell: active mass, composition, and what the header of the file says beside it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.readers.recording import CyclerRows
from campaigns.intake.rules import DEFAULT_MASSES_MG, MASS_RANGE_MG, Hits
from drxnet.composition import FARADAY_MAH_MOL, Composition, parse_anew
from drxnet.errors import CompositionError, DRXWarning

_ELEMENTS_BY_NICKNAME: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "LCO": frozenset({"Co"}),
        "LNO": frozenset({"Ni"}),
        "LMO": frozenset({"Mn"}),
        "LNMO": frozenset({"Ni", "Mn"}),
        "LMNO": frozenset({"Ni", "Mn"}),
        "LTO": frozenset({"Ti"}),
        "LFP": frozenset({"Fe"}),
        "NMC": frozenset({"Ni", "Mn", "Co"}),
        "NCM": frozenset({"Ni", "Mn", "Co"}),
        "NCA": frozenset({"Ni", "Co", "Al"}),
    }
)


ROOM_C, UNLIKE_C = 25.0, 10.0
"""Temperature of a test that states none, and how far from what is stated another one is (°C)."""

GIVE = "Give active_mass_mg in the sample table or --active-mass-mg; it is the oxide only, not the electrode."


def checked_mass(file: str, recording: CyclerRows, sample: SampleInfo, hits: Hits) -> float | None:
    """Mass to divide by (mg), or None with E2."""
    stated = recording.header_mass_mg
    says = "file says nothing" if stated is None else f"file says {stated:g} mg"
    if stated is not None and is_default(stated):
        says += ", an instrument default"
    return stated_mass(file, sample, hits, f" ({says})")


def stated_mass(file: str, sample: SampleInfo, hits: Hits, says: str = "") -> float | None:
    """Mass of the sample (mg), or None with E2.

    Args:
        file: name, for messages.
        sample: what the lab says.
        hits: takes the rules that are broken.
        says: what the file says about the mass, for messages.
    """
    mass = sample.active_mass_mg
    low, high = MASS_RANGE_MG
    if mass is None:
        hits.error("E2", f"{file}: active mass missing{says}. {GIVE}")
    elif not np.isfinite(mass) or mass <= 0:
        hits.error("E2", f"{file}: the active mass must be positive. Got {mass:g} mg. {GIVE}")
    elif is_default(mass):
        hits.error("E2", f"{file}: {mass:g} mg is what instruments fill in by themselves{says}. {GIVE}")
    elif not low <= mass <= high:
        hits.error("E2", f"{file}: the active mass must lie between {low:g} and {high:g} mg. Got {mass:g} mg. {GIVE}")
    else:
        return mass
    return None


def is_default(mass_mg: float) -> bool:
    """Whether a mass is one that instruments fill in by themselves."""
    return any(abs(mass_mg - default) <= 1e-6 * default for default in DEFAULT_MASSES_MG)


def checked_composition(sample: SampleInfo, hits: Hits) -> tuple[Composition | None, float | None]:
    """The composition, and the capacity of all its lithium (mAh/g); for another alkali metal only the latter."""
    if sample.composition is None:
        return None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DRXWarning)
        try:
            composition = parse_anew(sample.composition)
        except CompositionError as error:
            hits.error("E10", str(error))
            return None, _alkali_capacity(str(sample.composition))
    for warning in caught:
        hits.warning("E10", str(warning.message))
    return composition, composition.theoretical_capacity_mah_g


def _alkali_capacity(formula: str) -> float | None:
    """Capacity of all lithium, sodium and potassium of any formula (mAh/g), or None."""
    from drxnet.elements import ATOMIC_MASS

    plain = formula.replace(" ", "")
    if not re.fullmatch(r"(?:[A-Z][a-z]?(?:\d+\.?\d*|\.\d+)?)+", plain):
        return None
    terms = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", plain)
    amounts = [(symbol, float(amount or 1)) for symbol, amount in terms]
    if not {symbol for symbol, _ in amounts} <= ATOMIC_MASS.keys():
        return None
    alkali = sum(amount for symbol, amount in amounts if symbol in ("Li", "Na", "K"))
    mass = sum(ATOMIC_MASS[symbol] * amount for symbol, amount in amounts)
    return alkali * FARADAY_MAH_MOL / mass if alkali and mass else None


def check_header(
    file: str, recording: CyclerRows, sample: SampleInfo, composition: Composition | None, hits: Hits
) -> None:
    """Compare what a file says about its sample with the table."""
    _check_temperature(file, recording.temperature_c, sample, hits)
    mass, stated = sample.active_mass_mg, recording.header_mass_mg
    if mass and stated and not is_default(stated) and abs(stated - mass) > 0.02 * mass:
        hits.warning("W7", f"{file}: it says {stated:g} mg; table says {mass:g} mg. The table is used.")
    material = recording.header_material
    if composition is None or not material:
        return
    expected = _ELEMENTS_BY_NICKNAME.get(material.upper().strip())
    if expected is None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = frozenset(Composition.parse(material).metals)
        except CompositionError:
            return
    if expected != frozenset(composition.metals):
        hits.warning("W7", f"{file}: it says {material}; table says {composition}. The table is used.")


def _check_temperature(file: str, found_c: float | None, sample: SampleInfo, hits: Hits) -> None:
    """Compare the temperature of the rows with the stated one; doubt one far from a room's where none is stated."""
    stated = sample.process.get("temperature_c") if sample.process else None
    if found_c is None or abs(found_c - float(ROOM_C if stated is None else stated)) <= UNLIKE_C:
        return
    if stated is not None:
        hits.warning("W7", f"{file}: the rows say {found_c:.3g} °C; table says {stated:g} °C. The table is used.")
        return
    hits.doubt(
        "D5",
        f"{file}: the rows say {found_c:.3g} °C, and nobody states the temperature of the test. State temperature_c in "
        f"the sample table, or --process temperature_c={found_c:.0f}; if it ran at room temperature, confirm it.",
    )
