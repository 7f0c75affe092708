"""Check a measurement file against the rules, and hand over what passed.

An error quarantines the file: nothing of it may be recorded. A warning is stored with the measurement. Every
rule that is broken is named, not only the first. Each rule is explained in :data:`RULES`, which is what
``drx-screen validate --explain`` prints.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from campaigns.intake import readers
from campaigns.intake.measurement import (
    CheckedDischarge,
    CheckedFile,
    FileSpan,
    RuleBroken,
    RuleHit,
    SampleInfo,
    Severity,
)
from campaigns.intake.readers.recording import (
    REST,
    CyclerRows,
    DigitisedCurve,
    DigitisedCurves,
    DRXTDTests,
    ReadOptions,
    SummaryTable,
)
from campaigns.intake.segmentation import Discharge, Segmentation, segment
from drxnet.composition import FARADAY_MAH_MOL, Composition
from drxnet.discharge import SAME_CURRENT, CyclingConditions
from drxnet.drxtd import Curve, CyclingTest
from drxnet.errors import CompositionError, DRXWarning, MeasurementError, MissingExtra
from drxnet.preprocess import SmoothedDischarge, smooth_discharge
from drxnet.progress import Progress, silent


@dataclass(frozen=True)
class Rule:
    """What a rule asks for, and why."""

    title: str
    why: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "E1": Rule(
            "There is a discharge after a real charge.",
            "What a cell gives before its first charge depends on how it was assembled. A discharge counts once the "
            "charge before it moved at least 30 % of what the discharge gives. A file that only rests or only "
            "charges belongs to a test that is still running, or to another channel.",
        ),
        "E2": Rule(
            "The active mass is given, and is a mass that was weighed.",
            "Capacity per gram is only as good as the mass. It must come from the sample table or --active-mass-mg, "
            "between 0.1 and 100 mg of oxide. What instruments fill in by themselves (0.001 mg, 1 g, 7 g) is refused, "
            "and a mass in a file header only confirms.",
        ),
        "E3": Rule(
            "The first discharge gives no more than all lithium of the composition (warning above 95 %).",
            "n_Li F / M is an upper bound for a rocksalt. Beyond it the mass is wrong, mAh and Ah are confused, or a "
            "capacity that is never reset was taken for one discharge.",
        ),
        "E4": Rule(
            "The discharge runs from near the upper to the lower cut-off.",
            "It must end within 0.02 V of the lower cut-off (0.05 V for processed DRX-TD, whose grid stops short) and "
            "start no more than 0.5 V below the upper one. Otherwise it was interrupted and its capacity cannot be "
            "compared. An interrupted first discharge refuses the file; a later one is left out with a warning.",
        ),
        "E5": Rule(
            "Current and mass agree with the rate that was stated, within 5 % (warning from 2 %).",
            "The median current divided by the mass is the rate the cell has seen. Where it differs from the table, "
            "one of mass and rate is wrong by that ratio. Later discharges of a cell at another rate than the stated "
            "or first one (a rate staircase) are warned of: they are no first cycles at their rate.",
        ),
        "E6": Rule(
            "The current is constant.",
            "Only the first constant-current part of a discharge is used; a constant-voltage tail or further steps "
            "are cut and reported as a warning. It is an error when that part covers less than 80 % of the voltages, "
            "as in pulse tests.",
        ),
        "E7": Rule(
            "Integrated charge and the instrument's own capacity agree within 2 % (error from 10 %).",
            "They differ when the current was exported with too few digits or rows are missing.",
        ),
        "E8": Rule(
            "Every number is physical: 0-6 V, 0.1 mA/g to 50 A/g, over 1 mAh/g, a minute to 90 days, finite.",
            "Numbers outside are usually a unit: mV under V, milliseconds under seconds, a decimal comma lost. "
            "Nothing is guessed; the message names the option that settles it.",
        ),
        "E9": Rule(
            "The file can be read in one way only.",
            "Encoding, decimal sign, separator, header and completeness must be clear. Where they are not, the "
            "message says what to export or which option to pass.",
        ),
        "E10": Rule(
            "The composition is a lithium oxide or oxyfluoride with as many cations as anions (error from 5 %, "
            "warning from 2 %).",
            "The model weighs cations by half their amount on two anions; anything else means nothing to it.",
        ),
        "E11": Rule(
            "The smoothed profile is finite and monotone, from enough points, with one capacity for each voltage.",
            "A digitised curve needs 15 points and must not double back.",
        ),
        "E12": Rule(
            "It is a cathode discharged against lithium.",
            "Half-cells of anodes (window top below 2.5 V, or discharges below 0.5 V), cells whose voltage rises on "
            "what the instrument calls discharge, and windows that do not overlap with what was declared are refused.",
        ),
        "E13": Rule(
            "The file begins at the start of its test, or it is stated where it begins.",
            "An export of cycles 11 to 20, or the second part of a test, holds no first cycle. Cycle, record number "
            "and elapsed time of its first row tell. State the number of its first discharge (--first-cycle, or "
            "first_cycle in the sample table), or the cell whose test it continues.",
        ),
        "W1": Rule(
            "The first discharge follows a first charge of like size.",
            "A cell that is discharged first, or gives over 1.2 times what it took, held lithium sites open before: "
            "its first-cycle number is doubtful.",
        ),
        "W2": Rule(
            "The voltage falls throughout a discharge.",
            "Steps upwards of more than 5 mV, or at more than 5 % of the rows, mean noise or a change of current.",
        ),
        "W3": Rule(
            "A discharge is logged without gaps.",
            "A gap of ten times the usual interval, a clock that jumps back, or rows without numbers: what happened "
            "meanwhile is not known. Where the instrument's capacity, or else the voltage, stood still, it was a pause "
            "and counts no charge.",
        ),
        "W4": Rule("A discharge has at least 50 rows.", "With fewer, dQ/dV is coarse."),
        "W5": Rule(
            "Replicate cells agree within 5 %.",
            "Coin cells of disordered rocksalts scatter; one that differs should be looked at before it teaches.",
        ),
        "W6": Rule(
            "The last cycle is complete.",
            "A test that is still running ends inside a discharge; that cycle is left out.",
        ),
        "W7": Rule(
            "What the file says about the sample agrees with the table.",
            "Headers are often left over from the cell before, so the table counts; but a difference is worth a look.",
        ),
    }
)
"""Every rule, by its id."""

DEFAULT_MASSES_MG = (0.001, 1000.0, 7000.0)
"""Masses that instruments fill in by themselves (Novonix 1 g, EC-Lab 7 g, EC-Lab 0.001 mg)."""

MASS_RANGE_MG = (0.1, 100.0)
MOST_CAPACITY_MAH_G = 600.0
"""More than all lithium of any rocksalt oxide; the bound where no composition is given (mAh/g)."""

VOLTAGE_BOUNDS_V = (0.0, 6.0)
LEAST_CURRENT_MA_G, MOST_CURRENT_MA_G = 0.1, 5e4
LEAST_CAPACITY_MAH_G = 1.0
"""A first discharge below it is a dead cell, or mA and A confused throughout (mAh/g)."""

DURATION_BOUNDS_S = (60.0, 90 * 86400.0)
TABLE_TOLERANCE_V, PROCESSED_TOLERANCE_V, START_TOLERANCE_V = 0.02, 0.05, 0.5
EARLY_SHARE = 0.01
"""A discharge before any charge is told from this share of the first one on."""

ORIGIN_SHARE = 0.2
"""A discharge starts below this share of its capacity; one that starts higher goes on counting from before (the
published smoothing drops three rows, of discharges that may have fewer than twenty)."""

LEAST_ROWS, LEAST_DIGITISED_POINTS = 50, 15
UNIT_FACTORS: Mapping[float, str] = MappingProxyType(
    {3600.0: "3600", 60.0: "60", 1000.0: "1000", 1e6: "10^6", 1 / 3600: "1/3600", 1 / 60: "1/60", 1e-3: "1/1000"}
)
"""Ratios that a wrong unit leaves behind."""

RELATIVE_SIGMA: Mapping[str, float] = MappingProxyType({"cycler": 0.01, "drx-td": 0.01, "summary": 0.01})
"""Standard error of a capacity relative to it: what weighing 2 mg to 0.02 mg leaves."""

DIGITISED_SIGMA = (2.5, 0.010)
"""Standard error of a curve read off a figure: mAh/g along one axis, V along the other."""

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


_GRAVEST: tuple[Severity, ...] = ("error", "doubt", "warning")


class _Hits:
    """Rules broken by one file; the same thing in several cycles is told once, whatever its numbers."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Severity, str], tuple[str, list[int]]] = {}

    def error(self, rule: str, message: str, cycle: int | None = None) -> None:
        self._add(rule, "error", message, cycle)

    def warning(self, rule: str, message: str, cycle: int | None = None) -> None:
        self._add(rule, "warning", message, cycle)

    def doubt(self, rule: str, message: str, cycle: int | None = None) -> None:
        self._add(rule, "doubt", message, cycle)

    def _add(self, rule: str, severity: Severity, message: str, cycle: int | None) -> None:
        kind = re.sub(r"[-+\d.,]+(?:e[-+]?\d+)?", "#", message) if cycle is not None else message
        _, cycles = self._found.setdefault((rule, severity, kind), (message, []))
        if cycle is not None:
            cycles.append(cycle)

    def __contains__(self, rule: str) -> bool:
        return any(known == rule for known, _, _ in self._found)

    def listed(self) -> tuple[RuleHit, ...]:
        """Errors, doubts, warnings, each in the order of the rules; no less of a rule that is an error already."""
        order = list(RULES)
        wrong = {rule for rule, severity, _ in self._found if severity == "error"}
        told = [(key, value) for key, value in self._found.items() if key[1] == "error" or key[0] not in wrong]
        found = sorted(told, key=lambda item: (_GRAVEST.index(item[0][1]), order.index(item[0][0])))
        return tuple(RuleHit(rule, _with_cycles(*said), severity) for (rule, severity, _), said in found)


def _with_cycles(message: str, cycles: Sequence[int]) -> str:
    more = list(dict.fromkeys(cycles))[1:]
    if not more:
        return message
    named = ", ".join(map(str, more[:8])) + (f" and {len(more) - 8} more" if len(more) > 8 else "")
    return f"{message} Also cycle{'s' if len(more) > 1 else ''} {named}."


def check_file(
    path: str | Path,
    sample: SampleInfo | None = None,
    options: ReadOptions | None = None,
    progress: Progress = silent,
) -> CheckedFile:
    """Read a file of any known format, find its discharges and check them.

    Args:
        path: the file.
        sample: what the lab says about the cell.
        options: what the user settles where the file is ambiguous.
        progress: told how much of a large file is read.

    Returns:
        The checked file; a file that cannot be read is refused with E9 (or E8, E10), not raised.

    Raises:
        OSError: the file is not there or cannot be opened.
    """
    path = Path(path)
    sample = sample or SampleInfo()
    digest = _sha256(path)
    name = "unknown"
    hits = _Hits()
    span = None
    try:
        name = readers.choose(path).name
        _, recording = readers.read(path, options, progress)
        if isinstance(recording, CyclerRows):
            found = segment(recording)
            span = found.span
            discharges, notes = _check_rows(path.name, recording, found, sample, hits)
            name = recording.format
        elif isinstance(recording, DRXTDTests):
            discharges, notes = _check_tests(path.name, recording, sample, hits)
        elif isinstance(recording, SummaryTable):
            discharges, notes = _check_summary(path.name, recording, sample, hits)
        else:
            discharges, notes = _check_digitised(path.name, recording, sample, hits)
    except RuleBroken as error:
        message = str(error) if path.name in str(error) else f"{path.name}: {error}"
        hits.error(error.rule, message)
        discharges, notes = (), ()
    except MissingExtra as error:
        hits.error("E9", str(error))
        discharges, notes = (), ()
    return CheckedFile(path, digest, name, hits.listed(), discharges, notes, span)


def numbered_from(checked: CheckedFile, first_cycle: int) -> CheckedFile:
    """The same file with its first discharge as a given cycle, and without E13: where it begins is known."""
    if not checked.discharges:
        return checked
    shift = first_cycle - checked.discharges[0].cycle
    discharges = tuple(
        replace(
            d,
            cycle=d.cycle + shift,
            conditions=d.conditions and replace(d.conditions, cycle=d.conditions.cycle + shift),
        )
        for d in checked.discharges
    )
    return replace(checked, discharges=discharges, rules=tuple(hit for hit in checked.rules if hit.id != "E13"))


def check_replicates(files: Iterable[tuple[CheckedFile, SampleInfo]]) -> tuple[tuple[CheckedFile, SampleInfo], ...]:
    """Add W5 to cells of one composition and condition whose first capacities differ by more than 5 %.

    Args:
        files: checked files with what the lab said about each.
    """
    listed = list(files)
    groups: dict[tuple[object, ...], list[tuple[int, float]]] = {}
    for i, (file, _) in enumerate(listed):
        first = next((d for d in file.discharges if d.conditions and d.composition and d.capacity_mah_g), None)
        if first is None or first.conditions is None or first.capacity_mah_g is None or file.status == "refused":
            continue
        rate = round(np.log(first.conditions.current_ma_g) / 0.05)
        key = (first.composition, rate, first.conditions.v_low, first.conditions.v_high, first.cycle)
        groups.setdefault(key, []).append((i, first.capacity_mah_g))
    for cells in groups.values():
        values = np.array([q for _, q in cells])
        spread = float(np.ptp(values) / values.mean()) if len(cells) > 1 else 0.0
        if spread > 0.05:
            names = ", ".join(listed[i][1].cell or listed[i][0].path.name for i, _ in cells)
            for i, _ in cells:
                file, sample = listed[i]
                hit = RuleHit("W5", f"{file.path.name}: cells {names} differ by {100 * spread:.1f} %.", "warning")
                listed[i] = (replace(file, rules=(*file.rules, hit)), sample)
    return tuple(listed)


# Cycler rows


def _check_rows(
    file: str, recording: CyclerRows, found: Segmentation, sample: SampleInfo, hits: _Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    notes = [*recording.notes]
    if found.rows.out_of_order:
        notes.append(f"{found.rows.out_of_order} rows stood out of order; sorted")
    mass = _checked_mass(file, recording, sample, hits)
    composition, theory = _checked_composition(sample, hits)
    _check_header(file, recording, sample, composition, hits)
    anode = _check_cathode(file, found, sample, hits)
    candidates = (*found.early, *found.discharges) if anode else found.discharges
    if not found.discharges and not (anode and candidates):
        resting = int((found.rows.direction == REST).sum())
        hits.error(
            "E1",
            f"{file}: no discharge after a charge found ({len(found.rows.voltage_v)} rows, {resting} rest). "
            "Is the test still running, or is this the wrong channel?",
        )
    if anode:
        candidates = tuple(replace(d, cycle=i) for i, d in enumerate(candidates, start=1))
    _check_physics(file, recording, found, candidates, mass, hits)
    if not candidates:
        return (), tuple(notes)
    window = sample.window or _observed_window(found, candidates)
    if sample.window is None:
        notes.append(f"window taken from the rows: {window[0]:g}-{window[1]:g} V")
    elif not anode:
        _check_window(file, _observed_window(found, candidates), window, hits)
    early = sum(d.total_mah for d in found.early)
    if not anode and early > EARLY_SHARE * candidates[0].total_mah:
        hits.warning(
            "W1",
            f"{file}: starts with a discharge ({_short(early)} mAh) before any charge; it is skipped, and the "
            "first-cycle number is doubtful.",
        )
    if sample.first_cycle is not None:
        shift = sample.first_cycle - candidates[0].cycle
        candidates = tuple(replace(d, cycle=d.cycle + shift) for d in candidates)
    elif found.span.late and not anode:
        hits.error("E13", f"{file}: {_where_it_begins(found.span, sample)}")
    candidates, formed = _without_formation(candidates, sample, mass)
    notes += formed
    if not candidates:
        hits.error("E1", f"{file}: no discharge after the formation.")
        return (), tuple(notes)
    kept = list(candidates) if anode else _comparable(file, candidates, window, hits)
    checked = []
    for discharge in kept:
        _check_discharge(file, recording, found, discharge, hits)
        checked.append(
            _located(_checked(discharge, sample, mass, composition, window, hits, file), recording, found, discharge)
        )
    if checked and not anode:
        first = kept[0]
        if first.charged_before_mah > 0 and first.total_mah > 1.2 * first.charged_before_mah:
            hits.warning(
                "W1",
                f"{file}: the first discharge gives {_short(first.total_mah)} mAh after a charge of "
                f"{_short(first.charged_before_mah)} mAh: open sites before the charge, first-cycle number doubtful.",
            )
        _check_rate(file, kept, sample, mass, hits)
        _check_capacity(file, checked, theory, sample, mass, hits)
    return tuple(checked), tuple(notes)


def _without_formation(
    discharges: Sequence[Discharge], sample: SampleInfo, mass: float | None
) -> tuple[tuple[Discharge, ...], list[str]]:
    """The discharges after the formation, by their number or by their current, and what was left out in words."""
    formation = sample.formation_current_ma_g
    count = sum(d.cycle <= (sample.formation or 0) for d in discharges)
    while formation and mass and count < len(discharges):
        if abs(discharges[count].current_ma / mass * 1e3 / formation - 1) > SAME_CURRENT:
            break
        count += 1
    said = [
        f"cycle {d.cycle} is formation ({_short(d.current_ma / mass * 1e3)} mA/g, "
        f"{_short(d.total_mah / mass * 1e3)} mAh/g); left out"
        if mass
        else f"cycle {d.cycle} is formation; left out"
        for d in discharges[:count]
    ]
    return tuple(discharges[count:]), said


def _where_it_begins(span: FileSpan, sample: SampleInfo) -> str:
    number = span.first_cycle if span.first_cycle and span.first_cycle > 1 else "N"
    goes_on = f" It continues {sample.continues}." if sample.continues else ""
    return (
        f"begins at {span.late}, not at the start of a test: its first discharge is no first cycle.{goes_on} State its "
        f"number with --first-cycle {number} (or first_cycle in the sample table), or the cell that it continues with "
        "--continues CELL; --first-cycle 1 if it is the first all the same."
    )


def _checked_mass(file: str, recording: CyclerRows, sample: SampleInfo, hits: _Hits) -> float | None:
    """Mass to divide by (mg), or None with E2."""
    mass, stated = sample.active_mass_mg, recording.header_mass_mg
    says = "says nothing" if stated is None else f"says {stated:g} mg"
    if stated is not None and _is_default(stated):
        says += ", an instrument default"
    give = "Give active_mass_mg in the sample table or --active-mass-mg; it is the oxide only, not the electrode."
    if mass is None:
        hits.error("E2", f"{file}: active mass missing (header {says}). {give}")
        return None
    if not np.isfinite(mass) or mass <= 0:
        hits.error("E2", f"{file}: the active mass must be positive. Got {mass:g} mg. {give}")
        return None
    if _is_default(mass):
        hits.error("E2", f"{file}: {mass:g} mg is what instruments fill in by themselves (header {says}). {give}")
        return None
    low, high = MASS_RANGE_MG
    if not low <= mass <= high:
        hits.error("E2", f"{file}: the active mass must lie between {low:g} and {high:g} mg. Got {mass:g} mg. {give}")
        return None
    return mass


def _is_default(mass_mg: float) -> bool:
    return any(abs(mass_mg - default) <= 1e-6 * default for default in DEFAULT_MASSES_MG)


def _checked_composition(sample: SampleInfo, hits: _Hits) -> tuple[Composition | None, float | None]:
    """The composition, and the capacity of all its lithium (mAh/g); for another alkali metal only the latter."""
    if sample.composition is None:
        return None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DRXWarning)
        try:
            composition = Composition.parse(sample.composition)
        except CompositionError as error:
            hits.error("E10", str(error))
            return None, _alkali_capacity(str(sample.composition))
    for warning in caught:
        hits.warning("E10", str(warning.message))
    return composition, composition.theoretical_capacity_mah_g


def _alkali_capacity(formula: str) -> float | None:
    """Capacity of all lithium, sodium and potassium of any formula (mAh/g), or None."""
    from drxnet.elements import ATOMIC_MASS

    terms = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula.replace(" ", ""))
    amounts = [(symbol, float(amount or 1)) for symbol, amount in terms if amount != "."]
    if not amounts or any(symbol not in ATOMIC_MASS for symbol, _ in amounts):
        return None
    alkali = sum(amount for symbol, amount in amounts if symbol in ("Li", "Na", "K"))
    mass = sum(ATOMIC_MASS[symbol] * amount for symbol, amount in amounts)
    return alkali * FARADAY_MAH_MOL / mass if alkali and mass else None


def _check_header(
    file: str, recording: CyclerRows, sample: SampleInfo, composition: Composition | None, hits: _Hits
) -> None:
    mass, stated = sample.active_mass_mg, recording.header_mass_mg
    if mass and stated and not _is_default(stated) and abs(stated - mass) > 0.02 * mass:
        hits.warning("W7", f"{file}: header says {stated:g} mg; table says {mass:g} mg. The table is used.")
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
        hits.warning("W7", f"{file}: header says {material}; table says {composition}. The table is used.")


def _check_cathode(file: str, found: Segmentation, sample: SampleInfo, hits: _Hits) -> bool:
    """Whether it is no cathode against lithium, with E12."""
    everything = (*found.early, *found.discharges)
    if not everything and found.charge_top_v is None:
        return False
    reason = None
    ends = [float(d.voltage_v[-1]) for d in everything]
    if found.rows.contradiction:
        reason = "the voltage rises on what the instrument calls discharge"
    elif found.charge_top_v is not None and found.charge_top_v < 2.5 and everything:
        reason = f"charges end at {found.charge_top_v:.3g} V"
    elif ends and float(np.median(ends)) < 0.5:
        reason = f"discharges end at {float(np.median(ends)):.3g} V"
    elif sample.window is not None and everything:
        low = min(ends)
        high = found.charge_top_v or max(float(d.voltage_v[0]) for d in everything)
        if sample.window[0] >= high or sample.window[1] <= low:
            reason = f"measured {low:.3g}-{high:.3g} V, declared {sample.window[0]:g}-{sample.window[1]:g} V"
    if reason is None:
        return False
    if max(ends, default=0.0) > VOLTAGE_BOUNDS_V[1]:
        return False  # a unit, which E8 is for
    hits.error("E12", f"{file}: this is not a cathode discharge against Li ({reason}).")
    return True


def _check_physics(
    file: str,
    recording: CyclerRows,
    found: Segmentation,
    discharges: Sequence[Discharge],
    mass: float | None,
    hits: _Hits,
) -> None:
    rows = found.rows
    low, high = VOLTAGE_BOUNDS_V
    active = rows.direction != REST
    wild = np.flatnonzero((active & ((rows.voltage_v < low) | (rows.voltage_v > high))) | (rows.voltage_v > high))
    if len(wild):
        v = float(rows.voltage_v[wild[0]])
        typical = float(np.median(np.abs(rows.voltage_v)))
        way = (
            "looks like mV; pass --voltage-unit mV"
            if typical > 500
            else "looks like a lost decimal sign or a wrong unit"
        )
        hits.error(
            "E8",
            f"{file}, row {rows.source[wild[0]] + 1}: voltage {v:g} V lies outside {low:g}-{high:g} V "
            f"({len(wild)} rows), {way}; nothing guessed.",
        )
    for discharge in discharges:
        _check_duration(file, found, discharge, mass, hits)
        rate = discharge.current_ma / mass * 1e3 if mass else None
        if rate is not None and not LEAST_CURRENT_MA_G <= rate <= MOST_CURRENT_MA_G:
            hits.error(
                "E8",
                f"{file} cycle {discharge.cycle}: {rate:.3g} mA/g is no rate a cell is cycled at; check the mass "
                f"({mass:g} mg), or settle the unit with --current-unit.",
                discharge.cycle,
            )
    _check_clock(file, recording, found, hits)


def _check_duration(file: str, found: Segmentation, discharge: Discharge, mass: float | None, hits: _Hits) -> None:
    shortest, longest = DURATION_BOUNDS_S
    if shortest <= discharge.duration_s <= longest:
        return
    days = discharge.duration_s / 86400
    said = f"{_short(days)} days" if days > 1 else f"{_short(discharge.duration_s)} s"
    ways = []
    for factor, label in ((1 / 3600, "1/3600"), (1e-3, "ms"), (1 / 60, "1/60"), (60.0, "min"), (3600.0, "h")):
        duration = discharge.duration_s * factor
        if shortest <= duration <= longest:
            ways.append(
                f"--time-unit {label} ({_short(duration / 3600)} h, {_short(discharge.total_mah * factor)} mAh)"
            )
    way = (
        f"If the unit of the time column is not what its header says, pass {' or '.join(ways)}"
        if ways
        else "Export again"
    )
    hits.error(
        "E8",
        f"{file} cycle {discharge.cycle}: the discharge would last {said} and give {_short(discharge.total_mah)} mAh; "
        f"between a minute and 90 days is possible. {way}; nothing guessed.",
        discharge.cycle,
    )


def _check_clock(file: str, recording: CyclerRows, found: Segmentation, hits: _Hits) -> None:
    """Compare elapsed time with the wall clock of the file, where it has one."""
    elapsed = float(found.rows.time_s[-1])
    span = recording.clock_span_s
    if not span or span <= 0 or elapsed <= 0:
        return
    for factor, label in UNIT_FACTORS.items():
        if abs(elapsed / span / factor - 1) < 0.02:
            hits.error(
                "E8",
                f"{file}: the time column runs {label} times as fast as the dates beside it; its unit is not what the "
                f"header says. Pass --time-unit {_inverse(factor)}.",
            )


def _short(value: float) -> str:
    """Three significant digits, without an exponent for what a person reads as a number."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _inverse(factor: float) -> str:
    return f"1/{factor:g}" if factor > 1 else f"{1 / factor:g}"


def _observed_window(found: Segmentation, discharges: Sequence[Discharge]) -> tuple[float, float]:
    """Cut-offs that the rows show, to 0.01 V."""
    low = round(min(float(d.voltage_v[-1]) for d in discharges), 2)
    tops = [float(d.voltage_v[0]) for d in discharges]
    high = round(max(tops + ([found.charge_top_v] if found.charge_top_v is not None else [])), 2)
    return (low, high) if low < high else (low, low + 0.01)


def _check_window(file: str, seen: tuple[float, float], stated: tuple[float, float], hits: _Hits) -> None:
    """Say when a cell went further than its table says; not reaching the cut-offs is E4."""
    if seen[0] < stated[0] - PROCESSED_TOLERANCE_V or seen[1] > stated[1] + PROCESSED_TOLERANCE_V:
        hits.warning(
            "W7",
            f"{file}: rows run through {seen[0]:g}-{seen[1]:g} V; table says {stated[0]:g}-{stated[1]:g} V. Cut to the "
            "table's window.",
        )


def _comparable(
    file: str, discharges: Sequence[Discharge], window: tuple[float, float], hits: _Hits
) -> list[Discharge]:
    """Discharges that run through the window; the last, partial one and interrupted ones are left out."""
    kept: list[Discharge] = []
    v_low, v_high = window
    for i, discharge in enumerate(discharges):
        start, end = float(discharge.voltage_v[0]), float(discharge.voltage_v[-1])
        lowest = float(discharge.voltage_v.min())
        complete = min(end, lowest) <= v_low + TABLE_TOLERANCE_V
        if complete and start >= v_high - START_TOLERANCE_V:
            kept.append(discharge)
            continue
        cycle = discharge.cycle
        last = i == len(discharges) - 1 and i > 0
        if not complete and last and discharge.total_mah < 0.8 * discharges[i - 1].total_mah:
            hits.warning(
                "W6", f"{file}: cycle {cycle} partial ({discharge.total_mah:.3g} mAh, ends at {end:.3g} V), dropped."
            )
            continue
        if complete:
            what = f"starts at {start:.3g} V, more than {START_TOLERANCE_V:g} V below {v_high:g} V: not fully charged."
        else:
            what = f"ends at {end:.3g} V, not {v_low:g} V: interrupted or safety limit."
        message = f"{file} cycle {cycle}: discharge {what} Capacity not comparable."
        if i == 0:
            hits.error("E4", message, cycle)
            kept.append(discharge)
        else:
            hits.warning("E4", message + " Left out.", cycle)
    return kept


def _check_discharge(file: str, recording: CyclerRows, found: Segmentation, discharge: Discharge, hits: _Hits) -> None:
    cycle, here = discharge.cycle, f"{file} cycle {discharge.cycle}"
    part = discharge.total_mah
    if discharge.later_currents_ma or discharge.current_rms > 0.05:
        steps = ", then ".join(f"{i:.3g}" for i in (discharge.current_ma, *discharge.later_currents_ma)) + " mA"
        lowest = float(found.rows.voltage_v[discharge.start : discharge.stop].min())
        covered = (discharge.voltage_v[0] - discharge.voltage_v[-1]) / max(discharge.voltage_v[0] - lowest, 1e-9)
        message = (
            f"{here}: current is not constant ({steps}); only the first {part:.3g} of "
            f"{discharge.all_steps_mah:.3g} mAh at {discharge.current_ma:.3g} mA used."
        )
        if covered < 0.8:
            hits.error("E6", f"{message} They cover {100 * covered:.0f} % of the voltages.", cycle)
        else:
            hits.warning("E6", message, cycle)
    _check_integral(here, recording, discharge, hits)
    if discharge.upward_mv > 5 or discharge.upward_share > 0.05:
        hits.warning(
            "W2",
            f"{here}: noisy or multi-step: the voltage rises by up to {discharge.upward_mv:.3g} mV, at "
            f"{100 * discharge.upward_share:.2g} % of the rows.",
            cycle,
        )
    if discharge.gap_s or discharge.clock_backwards or discharge.missing_rows:
        gap = "paused" if discharge.paused else "no rows for"
        what = [f"{gap} {discharge.gap_s / 3600:.3g} h in the discharge"] if discharge.gap_s else []
        what += ["the clock jumps back"] if discharge.clock_backwards else []
        what += [f"{discharge.missing_rows} rows without numbers left out"] if discharge.missing_rows else []
        hits.warning("W3", f"{here}: {', '.join(what)}.", cycle)
        if discharge.missing_rows > 0.05 * len(discharge.rows):
            hits.error("E8", f"{here}: {discharge.missing_rows} of its rows hold no numbers. Export again.", cycle)
    if len(discharge.rows) < LEAST_ROWS:
        steps_mv = np.abs(np.diff(np.unique(discharge.voltage_v)))
        resolution = float(steps_mv.min()) * 1e3 if len(steps_mv) else 0.0
        hits.warning("W4", f"{here}: sparse: {len(discharge.rows)} rows, V resolution {resolution:.2g} mV.", cycle)


def _check_integral(here: str, recording: CyclerRows, discharge: Discharge, hits: _Hits) -> None:
    column = discharge.column_mah
    if column is None or column <= 0 or discharge.total_mah <= 0:
        return
    ratio = discharge.total_mah / column
    if abs(ratio - 1) <= 0.02:
        return
    for factor, label in UNIT_FACTORS.items():
        if abs(ratio / factor - 1) < 0.05:
            hits.error(
                "E8",
                f"{here}: current times time gives {label} times the capacity column ({discharge.total_mah:.3g} and "
                f"{column:.3g} mAh): one of the units is not what the header says. Settle it with --time-unit, "
                "--current-unit or --capacity-unit; nothing guessed.",
                discharge.cycle,
            )
            return
    digits = recording.current_digits
    message = (
        f"{here}: integral {discharge.total_mah:.3g} mAh, file says {column:.3g}: current exported with "
        f"{digits if digits else 'few'} digit{'' if digits == 1 else 's'}? Export with more digits."
    )
    if abs(ratio - 1) > 0.10:
        hits.error("E7", message, discharge.cycle)
    else:
        hits.warning("E7", message, discharge.cycle)


def _check_rate(
    file: str, discharges: Sequence[Discharge], sample: SampleInfo, mass: float | None, hits: _Hits
) -> None:
    """Compare the rates with the stated one; without it, with that of the first discharge."""
    if not mass:
        return
    if not sample.current_ma_g:
        _check_staircase(file, discharges, mass, hits)
        return
    for i, discharge in enumerate(discharges):
        rate = discharge.current_ma / mass * 1e3
        ratio = rate / sample.current_ma_g
        if abs(ratio - 1) <= 0.02:
            continue
        message = (
            f"{file} cycle {discharge.cycle}: current is {rate:.4g} mA/g, table says {sample.current_ma_g:g}. "
            f"Mass or rate is wrong by {ratio:.3g}."
        )
        if i == 0 and abs(ratio - 1) > SAME_CURRENT:
            hits.error("E5", message + _as_formation(discharges, sample, mass), discharge.cycle)
        elif i == 0:
            hits.warning("E5", message, discharge.cycle)
        elif abs(ratio - 1) > SAME_CURRENT:
            hits.warning(
                "E5",
                f"{file} cycle {discharge.cycle}: discharged at {rate:.4g}, not {sample.current_ma_g:g} mA/g; recorded "
                "at its own current and cycle number.",
                discharge.cycle,
            )


def _as_formation(discharges: Sequence[Discharge], sample: SampleInfo, mass: float) -> str:
    """The way out where cycles at other rates come before those at the stated one."""
    stated = sample.current_ma_g or 0.0
    first = next((d.cycle for d in discharges if abs(d.current_ma / mass * 1e3 / stated - 1) <= SAME_CURRENT), None)
    if first is None or first <= discharges[0].cycle:
        return ""
    return (
        f" From cycle {first} on it is: if the cycles before formed the cell, say --formation {first - 1} (or "
        "formation in the sample table)."
    )


def _check_staircase(file: str, discharges: Sequence[Discharge], mass: float, hits: _Hits) -> None:
    """Flag discharges at another rate than the first: later cycles of a cell are no first cycles at their rate."""
    first, *later = (discharge.current_ma / mass * 1e3 for discharge in discharges)
    for discharge, rate in zip(discharges[1:], later, strict=True):
        if abs(rate / first - 1) > 0.05:
            hits.warning(
                "E5",
                f"{file} cycle {discharge.cycle}: discharged at {rate:.4g} mA/g, the first at {first:.4g}: a rate "
                "staircase, recorded at its own current and cycle number.",
                discharge.cycle,
            )


def _check_capacity(
    file: str,
    discharges: Sequence[CheckedDischarge],
    theory: float | None,
    sample: SampleInfo,
    mass: float | None,
    hits: _Hits,
) -> None:
    for discharge in discharges:
        q = discharge.capacity_mah_g
        if q is None:
            continue
        check = f"Check mass ({mass:g} mg), mAh/Ah and whether capacity is cumulative." if mass else "Check its unit."
        if theory is None:
            if q > MOST_CAPACITY_MAH_G:
                hits.error("E3", f"{file}: {q:.4g} mAh/g is more than any rocksalt holds. {check}", discharge.cycle)
        elif q > theory:
            named = discharge.composition or sample.composition
            hits.error(
                "E3",
                f"{file}: {q:.4g} mAh/g exceeds the Li capacity of {named} ({theory:.4g} mAh/g). {check}",
                discharge.cycle,
            )
        elif q > 0.95 * theory:
            named = discharge.composition or sample.composition
            hits.warning(
                "E3",
                f"{file}: {q:.4g} mAh/g is over 95 % of the Li capacity of {named} ({theory:.4g} mAh/g). {check}",
                discharge.cycle,
            )
        if q <= 0:
            hits.error(
                "E8",
                f"{file} cycle {discharge.cycle}: the capacity must be positive. Got {q:g} mAh/g.",
                discharge.cycle,
            )
        elif discharge is discharges[0] and q < LEAST_CAPACITY_MAH_G:
            units = "A and mA are confused (--current-unit, --capacity-unit)" if mass else "it is in Ah/g"
            hits.error(
                "E8",
                f"{file}: the first discharge gives {_short(q)} mAh/g; below {LEAST_CAPACITY_MAH_G:g} mAh/g it is a "
                f"dead cell, or {units}.",
            )


def _checked(
    discharge: Discharge,
    sample: SampleInfo,
    mass: float | None,
    composition: Composition | None,
    window: tuple[float, float],
    hits: _Hits,
    file: str,
) -> CheckedDischarge:
    facts = CheckedDischarge(
        cycle=discharge.cycle,
        provenance="cycler",
        composition=composition,
        capacity_mah=discharge.total_mah,
        current_ma=discharge.current_ma,
        v_start=float(discharge.voltage_v[0]),
        v_end=float(discharge.voltage_v[-1]),
        rows=len(discharge.rows),
        all_steps_capacity_mah=discharge.all_steps_mah,
    )
    if not mass:
        return facts
    rate = discharge.current_ma / mass * 1e3
    if sample.current_ma_g and abs(rate / sample.current_ma_g - 1) <= 0.05:
        rate = sample.current_ma_g
    specific = discharge.capacity_mah / mass * 1e3
    smooth = _smoothed(f"{file} cycle {discharge.cycle}", discharge.voltage_v, specific, window, hits, discharge.cycle)
    q = smooth.capacity_mah_g if smooth else float(specific[-1])
    return replace(
        facts,
        conditions=_conditions(rate, window, discharge.cycle),
        capacity_mah_g=q,
        profile=smooth.profile if smooth else None,
        sigma_mah_g=RELATIVE_SIGMA["cycler"] * abs(q),
    )


def _located(
    checked: CheckedDischarge, recording: CyclerRows, found: Segmentation, discharge: Discharge
) -> CheckedDischarge:
    """Add where in its test the file says that a discharge lies."""
    row = int(found.rows.source[discharge.rows[0]])

    def number(column: np.ndarray | None) -> int | None:
        return None if column is None or not np.isfinite(column[row]) else round(float(column[row]))

    return replace(
        checked,
        file_cycle=number(recording.cycle),
        first_record=number(recording.record),
        elapsed_s=None if recording.time_of_step else float(recording.time_s[row]),
        charge_top_v=discharge.charge_top_v,
    )


def _smoothed(
    here: str, voltage: np.ndarray, capacity: np.ndarray, window: tuple[float, float], hits: _Hits, cycle: int
) -> SmoothedDischarge | None:
    try:
        return smooth_discharge(voltage, capacity, window)
    except (MeasurementError, ValueError) as error:
        hits.error("E11", f"{here}: smoothing failed ({error})", cycle)
        return None


def _conditions(rate: float, window: tuple[float, float], cycle: int) -> CyclingConditions | None:
    try:
        return CyclingConditions(rate, window[0], window[1], max(cycle, 1))
    except ValueError:
        return None


# DRX-TD


def _check_tests(
    file: str, recording: DRXTDTests, sample: SampleInfo, hits: _Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    checked: list[CheckedDischarge] = []
    declared, _ = _checked_composition(sample, hits)
    for test in recording.tests:
        _check_declared(file, test, sample, declared, hits)
        if not LEAST_CURRENT_MA_G <= test.current_ma_g <= MOST_CURRENT_MA_G:
            hits.error("E8", f"{file}: {test.current_ma_g:g} mA/g is no rate a cell is cycled at; give it in mA/g.")
        found = [d for curve in test.discharges if (d := _check_curve(file, test, curve, hits)) is not None]
        if not found and "E4" not in hits:
            hits.error("E1", f"{file}: {test.composition}: no discharge in the file.")
        _check_capacity(file, found, test.composition.theoretical_capacity_mah_g, sample, None, hits)
        checked.extend(found)
    return tuple(checked), recording.notes


def _check_declared(
    file: str, test: CyclingTest, sample: SampleInfo, declared: Composition | None, hits: _Hits
) -> None:
    if declared is not None and declared.distance(test.composition) > 0.005:
        hits.warning("W7", f"{file}: file says {test.composition}; table says {declared}. The file is used.")
    if sample.current_ma_g and abs(test.current_ma_g / sample.current_ma_g - 1) > 0.02:
        hits.warning(
            "W7", f"{file}: file says {test.current_ma_g:g} mA/g; table says {sample.current_ma_g:g}. The file is used."
        )
    if (
        sample.window
        and max(abs(test.v_low - sample.window[0]), abs(test.v_high - sample.window[1])) > TABLE_TOLERANCE_V
    ):
        hits.warning(
            "W7",
            f"{file}: file says {test.v_low:g}-{test.v_high:g} V; table says {sample.window[0]:g}-"
            f"{sample.window[1]:g} V. The file is used.",
        )


def _check_curve(file: str, test: CyclingTest, curve: Curve, hits: _Hits) -> CheckedDischarge | None:
    cycle, here = curve.cycle, f"{file} cycle {curve.cycle}"
    low, high = VOLTAGE_BOUNDS_V
    if curve.voltage_v.min() < low or curve.voltage_v.max() > high:
        wild = float(curve.voltage_v[np.argmax(np.abs(curve.voltage_v - 3))])
        hits.error(
            "E8", f"{here}: voltage {wild:g} V lies outside {low:g}-{high:g} V: mV, or a lost decimal sign?", cycle
        )
    if float(curve.capacity_mah_g.min()) < -1.0:
        hits.error("E8", f"{here}: capacities must not be negative. Got {curve.capacity_mah_g.min():g} mAh/g.", cycle)
    start, end = float(curve.capacity_mah_g.min()), float(curve.capacity_mah_g.max())
    if start > ORIGIN_SHARE * end:
        hits.error("E8", f"{here}: {_counted_from_before(start, end)}", cycle)
    ordered = np.argsort(curve.voltage_v, kind="stable")
    rising = (
        np.corrcoef(np.arange(len(ordered)), curve.capacity_mah_g[ordered])[0, 1] if np.ptp(curve.capacity_mah_g) else 0
    )
    if rising > 0:
        hits.error("E1", f"{here}: capacity rises with voltage: a charge, not a discharge.", cycle)
        return None
    v_end, v_start = float(curve.voltage_v.min()), float(curve.voltage_v.max())
    tolerance = PROCESSED_TOLERANCE_V if test.processed else TABLE_TOLERANCE_V
    if v_end > test.v_low + tolerance or v_start < test.v_high - START_TOLERANCE_V:
        if v_end > test.v_low + tolerance:
            what = f"ends at {v_end:.4g} V, not {test.v_low:g} V: interrupted or safety limit."
        else:
            what = f"starts at {v_start:.4g} V, more than {START_TOLERANCE_V:g} V below {test.v_high:g} V."
        message = f"{here}: discharge {what} Capacity not comparable."
        if cycle == test.discharges[0].cycle:
            hits.error("E4", message, cycle)
        else:
            hits.warning("E4", message + " Left out.", cycle)
            return None
    try:
        profile = curve.profile()
        smooth = (
            smooth_discharge(profile.voltage_v, profile.capacity_mah_g, (test.v_low, test.v_high))
            if test.processed
            else (smooth_discharge(curve.voltage_v, curve.capacity_mah_g, (test.v_low, test.v_high)))
        )
    except (MeasurementError, ValueError) as error:
        hits.error("E11", f"{here}: smoothing failed ({error})", cycle)
        return None
    if not test.processed and len(curve.voltage_v) < LEAST_ROWS:
        hits.warning("W4", f"{here}: sparse: {len(curve.voltage_v)} rows.", cycle)
    return CheckedDischarge(
        cycle=cycle,
        provenance="drx-td",
        composition=test.composition,
        conditions=test.conditions(cycle),
        capacity_mah_g=smooth.capacity_mah_g,
        profile=smooth.profile,
        sigma_mah_g=RELATIVE_SIGMA["drx-td"] * smooth.capacity_mah_g,
        v_start=v_start,
        v_end=v_end,
        rows=len(curve.voltage_v),
    )


def _counted_from_before(start: float, end: float) -> str:
    return (
        f"a discharge starts at 0 mAh/g. Got {start:.4g} to {end:.4g} mAh/g: is the capacity cumulative, or the axis "
        "that of the charge? Subtract where it starts."
    )


# Summary tables and digitised curves


def _check_summary(
    file: str, table: SummaryTable, sample: SampleInfo, hits: _Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    checked = []
    lowest, highest = VOLTAGE_BOUNDS_V
    for row in table.rows:
        here = f"{file}, row {row.row}"
        written = row.composition or sample.composition
        if written is None:
            hits.error("E10", f"{here}: the composition is missing.")
        composition, theory = _checked_composition(replace(sample, composition=written), hits)
        rate = row.current_ma_g if row.current_ma_g is not None else sample.current_ma_g
        low, high = sample.window or (None, None)
        v_low, v_high = (row.v_low if row.v_low is not None else low), (row.v_high if row.v_high is not None else high)
        if rate is None or v_low is None or v_high is None:
            hits.error(
                "E5", f"{here}: a capacity means nothing without its current (mA/g) and window (V). Add both columns."
            )
        elif not (LEAST_CURRENT_MA_G <= rate <= MOST_CURRENT_MA_G and lowest <= v_low < v_high <= highest):
            hits.error("E8", f"{here}: {rate:g} mA/g in {v_low:g}-{v_high:g} V is not possible; check the columns.")
        elif v_high < 2.5:
            hits.error("E12", f"{here}: this is not a cathode discharge against Li (window {v_low:g}-{v_high:g} V).")
        conditions = None
        if rate is not None and v_low is not None and v_high is not None:
            conditions = _conditions(rate, (v_low, v_high), row.cycle)
        discharge = CheckedDischarge(
            cycle=row.cycle,
            provenance="summary",
            composition=composition,
            conditions=conditions,
            capacity_mah_g=row.capacity_mah_g,
            sigma_mah_g=RELATIVE_SIGMA["summary"] * abs(row.capacity_mah_g),
            v_end=v_low,
        )
        _check_capacity(here, [discharge], theory, replace(sample, composition=written), None, hits)
        checked.append(discharge)
    return tuple(checked), table.notes


def _check_digitised(
    file: str, recording: DigitisedCurves, sample: SampleInfo, hits: _Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    composition, theory = _checked_composition(sample, hits)
    cycles = [_named_cycle(curve.name) for curve in recording.curves]
    if len(recording.curves) > 1 and (None in cycles or len(set(cycles)) < len(cycles)):
        names = ", ".join(curve.name or "unnamed" for curve in recording.curves)
        hits.error(
            "E9",
            f"{file}: holds {len(recording.curves)} curves ({names}); nothing says which is which. Save one curve per "
            "file, or name them 'cycle 1', 'cycle 2'.",
        )
    checked = [
        _check_digitised_curve(file, curve, cycle or i, sample, composition, hits)
        for i, (curve, cycle) in enumerate(zip(recording.curves, cycles, strict=True), start=1)
    ]
    _check_capacity(file, checked, theory, sample, None, hits)
    return tuple(checked), recording.notes


def _named_cycle(name: str) -> int | None:
    found = re.search(r"(?:cycle|cyc|zyklus)\W*(\d+)|(\d+)\s*(?:st|nd|rd|th)\b", name, re.IGNORECASE)
    return int(found[1] or found[2]) if found and int(found[1] or found[2]) > 0 else None


def _check_digitised_curve(
    file: str,
    curve: DigitisedCurve,
    cycle: int,
    sample: SampleInfo,
    composition: Composition | None,
    hits: _Hits,
) -> CheckedDischarge:
    here = f"{file} cycle {cycle}"
    order = np.argsort(curve.capacity_mah_g, kind="stable")
    q, v = curve.capacity_mah_g[order], curve.voltage_v[order]
    discharge = CheckedDischarge(
        cycle=cycle,
        provenance="digitised",
        composition=composition,
        v_start=float(v[0]),
        v_end=float(v[-1]),
        rows=len(v),
    )
    low, high = VOLTAGE_BOUNDS_V
    sound = True

    def refuse(rule: str, message: str) -> None:
        nonlocal sound
        sound = False
        hits.error(rule, f"{here}: {message}", cycle)

    if v.min() < low or v.max() > high:
        refuse("E8", f"voltages must lie within {low:g}-{high:g} V. Got {v.min():g} to {v.max():g}.")
    if q.max() <= 10:
        refuse(
            "E8",
            f"the other axis runs from {q.min():.3g} to {q.max():.3g}, a lithium content or another unit rather than "
            "mAh/g; nothing guessed. Digitise the capacity axis in mAh/g.",
        )
    elif q.min() < -5:
        refuse("E8", f"capacities must not be negative. Got {q.min():.3g} mAh/g.")
    elif q.min() > ORIGIN_SHARE * q.max():
        refuse("E8", _counted_from_before(float(q.min()), float(q.max())))
    if len(v) < LEAST_DIGITISED_POINTS:
        refuse("E11", f"a digitised curve needs at least {LEAST_DIGITISED_POINTS} points. Got {len(v)}.")
    if v[-1] >= v[0]:
        refuse("E1", "the voltage rises with capacity: a charge, not a discharge.")
    elif float(np.diff(v).max(initial=0.0)) > 0.05:
        refuse(
            "E11",
            f"the curve is multi-valued: the voltage rises by {1e3 * np.diff(v).max():.0f} mV on the way down. "
            "Digitise the discharge branch alone.",
        )
    window = sample.window
    if window is not None and (v.min() > window[0] + PROCESSED_TOLERANCE_V or v.max() < window[1] - START_TOLERANCE_V):
        refuse("E4", f"runs from {v.max():.3g} to {v.min():.3g} V, not through {window[0]:g}-{window[1]:g} V.")
    if not sound:
        return discharge
    window = window or (round(float(v.min()), 2), round(float(v.max()), 2))
    smooth = _smoothed(here, v, np.clip(q, 0.0, None), window, hits, cycle)
    if smooth is None:
        return discharge
    along_q, along_v = DIGITISED_SIGMA
    sigma = float(np.hypot(along_q, along_v * abs(smooth.dqdv_mah_g_v[0])))
    conditions = _conditions(sample.current_ma_g, window, cycle) if sample.current_ma_g and sample.window else None
    return replace(
        discharge,
        conditions=conditions,
        capacity_mah_g=smooth.capacity_mah_g,
        profile=smooth.profile,
        sigma_mah_g=sigma,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
