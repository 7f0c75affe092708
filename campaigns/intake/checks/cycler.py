"""Rows of a cycler: which discharges count, and whether current, time, charge and voltage are to be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from campaigns.intake.checks.capacity import check_capacity, conditions_of, short, smoothed
from campaigns.intake.checks.sample import check_header, checked_composition, checked_mass
from campaigns.intake.clock import number_at, with_times_of_steps
from campaigns.intake.direction import SPIKE_V
from campaigns.intake.discharges import RISING_V, Discharge
from campaigns.intake.measurement import CheckedDischarge, FileSpan, SampleInfo
from campaigns.intake.readers.recording import CyclerRows
from campaigns.intake.readers.summary import explain_c_rate
from campaigns.intake.readers.words import REST
from campaigns.intake.rules import (
    BARE_C_RATE,
    CHARGE_TOP_TOLERANCE_V,
    CHARGE_TOP_WARNING_V,
    COARSE_SHARE,
    DURATION_BOUNDS_S,
    EARLY_SHARE,
    HIGHEST_CUT_OFF_V,
    LEAST_CAPACITY_MAH_G,
    LEAST_CURRENT_MA_G,
    LEAST_ROWS,
    MOST_CURRENT_MA_G,
    OPEN_SITES,
    PARTIAL_SHARE,
    PROCESSED_TOLERANCE_V,
    RELATIVE_SIGMA,
    SMALL_CAPACITY_MAH_G,
    START_TOLERANCE_V,
    TABLE_TOLERANCE_V,
    UNIT_FACTORS,
    Hits,
)
from campaigns.intake.segmentation import Segmentation, segment
from campaigns.ledger.physics import MOST_CAPACITY_MAH_G
from drxnet.composition import Composition
from drxnet.discharge import SAME_CURRENT, VOLTAGE_BOUNDS_V

RISING_SHARE = 5e-3
"""Share of a charge during which the voltage may rise without being that of another step."""

ZIGZAG_MV, ZIGZAG_SHARE = 20.0, 0.3
"""A voltage that is usually so far from the middle of those beside it (mV), and rises at this share of its rows."""

ENOUGH_DIGITS = 3
"""A current of so many digits is none that makes the charge wrong by percents."""

GAP_OF_UNITS = 0.05
"""Current times time and the capacity column tell a wrong unit where their ratio comes this close to one."""


def check_rows(
    file: str, recording: CyclerRows, sample: SampleInfo, hits: Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...], FileSpan]:
    """Find the discharges of a cycler's rows and check them.

    Args:
        file: name, for messages.
        recording: the rows.
        sample: what the lab says about the cell.
        hits: takes the rules that are broken.

    Returns:
        The discharges that may be recorded, notes for a person, and which part of its test the file holds.

    Raises:
        RuleBroken: the rows cannot be put in order, or have no current.
    """
    mass = checked_mass(file, recording, sample, hits)
    composition, theory = checked_composition(sample, hits)
    recording = with_times_of_steps(_of_the_cell(recording, mass))
    goes_on = sample.continues is not None or (sample.first_cycle or 1) > 1
    found = segment(recording, goes_on=goes_on)
    notes = [*recording.notes, *found.notes]
    check_header(file, recording, sample, composition, hits)
    anode = _check_cathode(file, found, sample, hits)
    candidates = _candidates(file, found, anode, hits)
    _check_voltages(file, found, hits)
    _check_clock(file, recording, found, hits)
    if not candidates:
        return (), tuple(notes), found.span
    candidates = _numbered(file, candidates, found.span, sample, anode, hits)
    candidates, formed = _without_formation(candidates, sample, mass)
    notes += formed
    if not candidates:
        hits.error("E1", f"{file}: no discharge after the formation.")
        return (), tuple(notes), found.span
    seen = _observed_window(found, candidates)
    window = sample.window or seen
    if sample.window is None:
        notes.append(f"window taken from the rows: {window[0]:g}-{window[1]:g} V")
    kept = list(candidates)
    if not anode:
        _check_window(file, seen, window, hits)
        _warn_of_early(file, found, candidates[0], hits)
        if sample.window is None:
            _doubt_end(file, found, candidates, hits)
        kept = _comparable(file, candidates, window, hits, sample.window is not None, goes_on)
    checked = []
    for discharge in kept:
        _check_discharge(file, recording, found, discharge, mass, hits)
        its = _checked(discharge, sample, mass, composition, window, hits, file)
        checked.append(_located(its, recording, found, discharge))
    if checked and not anode:
        _warn_of_open_sites(file, kept[0], hits)
        _check_rate(file, kept, sample, mass, theory, hits)
        check_capacity(file, checked, theory, sample, mass, hits)
        if _shortfall(kept[0], window, sample.window is not None) is None:
            _doubt_time(file, kept[0], checked[0], hits)
    return tuple(checked), tuple(notes), found.span


def _candidates(file: str, found: Segmentation, anode: bool, hits: Hits) -> Sequence[Discharge]:
    """The discharges that may count; E1 where there is none. Those of an anode are counted from its first one."""
    if not anode and not found.discharges or anode and not (found.early or found.discharges):
        resting = int((found.rows.direction == REST).sum())
        hits.error(
            "E1",
            f"{file}: no discharge after a charge found ({len(found.rows.voltage_v)} rows, {resting} rest). "
            "Is the test still running, or is this the wrong channel?",
        )
    if not anode:
        return found.discharges
    return tuple(replace(d, cycle=i) for i, d in enumerate((*found.early, *found.discharges), start=1))


def _warn_of_early(file: str, found: Segmentation, first: Discharge, hits: Hits) -> None:
    early = sum(d.total_mah for d in found.early)
    if early > EARLY_SHARE * first.total_mah:
        hits.warning(
            "W1",
            f"{file}: starts with a discharge ({short(early)} mAh) before any charge; it is skipped, and the "
            "first-cycle number is doubtful.",
        )


def _warn_of_open_sites(file: str, first: Discharge, hits: Hits) -> None:
    if first.charged_before_mah > 0 and first.total_mah > OPEN_SITES * first.charged_before_mah:
        hits.warning(
            "W1",
            f"{file}: the first discharge gives {short(first.total_mah)} mAh after a charge of "
            f"{short(first.charged_before_mah)} mAh: open sites before the charge, first-cycle number doubtful.",
        )


def _of_the_cell(recording: CyclerRows, mass: float | None) -> CyclerRows:
    """Rows whose currents are those of the cell (mA), where the instrument gives them per gram."""
    if not recording.per_gram:
        return recording
    grams = (mass or 1.0) / 1e3

    def scaled(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values * grams

    return replace(recording, current_ma=scaled(recording.current_ma), capacity_mah=scaled(recording.capacity_mah))


def _numbered(
    file: str,
    discharges: Sequence[Discharge],
    span: FileSpan,
    sample: SampleInfo,
    anode: bool,
    hits: Hits,
) -> tuple[Discharge, ...]:
    """Discharges with the cycle numbers that are stated, or E13 where none is and the file begins later."""
    if sample.first_cycle is not None:
        shift = sample.first_cycle - discharges[0].cycle
        return tuple(replace(d, cycle=d.cycle + shift) for d in discharges)
    if not anode and (span.late or sample.continues):
        hits.error("E13", f"{file}: {_where_it_begins(span, sample)}")
    return tuple(discharges)


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
        f"cycle {d.cycle} is formation ({short(d.current_ma / mass * 1e3)} mA/g, "
        f"{short(d.total_mah / mass * 1e3)} mAh/g); left out"
        if mass
        else f"cycle {d.cycle} is formation; left out"
        for d in discharges[:count]
    ]
    return tuple(discharges[count:]), said


def _where_it_begins(span: FileSpan, sample: SampleInfo) -> str:
    number = span.first_cycle if span.first_cycle and span.first_cycle > 1 else "N"
    begins = f"begins at {span.late}" if span.late else f"continues {sample.continues}"
    return (
        f"{begins}, not at the start of a test: its first discharge is no first cycle. State its "
        f"number with --first-cycle {number} (or first_cycle in the sample table), or the cell that it continues with "
        "--continues CELL; --first-cycle 1 if it is the first all the same."
    )


def _check_cathode(file: str, found: Segmentation, sample: SampleInfo, hits: Hits) -> bool:
    """Whether it is no cathode against lithium, with E12."""
    everything = (*found.early, *found.discharges)
    if not everything and found.charge_top_v is None:
        return False
    ends = [float(d.voltage_v[-1]) for d in everything]
    reason = _no_cathode(found, everything, ends, sample.window)
    if reason is None or max(ends, default=0.0) > VOLTAGE_BOUNDS_V[1]:  # the latter is a unit, which E8 is for
        return False
    hits.error("E12", f"{file}: this is not a cathode discharge against Li ({reason}).")
    return True


def _no_cathode(
    found: Segmentation, everything: Sequence[Discharge], ends: Sequence[float], window: tuple[float, float] | None
) -> str | None:
    """What tells that a cell is no cathode against lithium; None where nothing does."""
    if found.rows.contradiction:
        return "the voltage rises on what the instrument calls discharge"
    if not everything:
        return None
    if found.charge_top_v is not None and found.charge_top_v < 2.5:
        return f"charges end at {found.charge_top_v:.3g} V"
    if float(np.median(ends)) < 0.5:
        return f"discharges end at {float(np.median(ends)):.3g} V"
    low, high = min(ends), found.charge_top_v or max(float(d.voltage_v[0]) for d in everything)
    if window is not None and (window[0] >= high or window[1] <= low):
        return f"measured {low:.3g}-{high:.3g} V, declared {window[0]:g}-{window[1]:g} V"
    return None


def _check_voltages(file: str, found: Segmentation, hits: Hits) -> None:
    rows = found.rows
    low, high = VOLTAGE_BOUNDS_V
    active = rows.direction != REST
    wild = np.flatnonzero((active & ((rows.voltage_v < low) | (rows.voltage_v > high))) | (rows.voltage_v > high))
    if not len(wild):
        return
    v = float(rows.voltage_v[wild[0]])
    typical = float(np.median(np.abs(rows.voltage_v)))
    way = "looks like mV; pass --voltage-unit mV" if typical > 500 else "looks like a lost decimal sign or a wrong unit"
    hits.error(
        "E8",
        f"{file}, row {rows.source[wild[0]] + 1}: voltage {v:g} V lies outside {low:g}-{high:g} V ({len(wild)} rows), "
        f"{way}; nothing guessed.",
    )


def _check_current(file: str, discharge: Discharge, mass: float | None, hits: Hits) -> None:
    rate = discharge.current_ma / mass * 1e3 if mass else None
    if rate is not None and not LEAST_CURRENT_MA_G <= rate <= MOST_CURRENT_MA_G:
        hits.error(
            "E8",
            f"{file} cycle {discharge.cycle}: {rate:.3g} mA/g is no rate a cell is cycled at; check the mass "
            f"({mass:g} mg), or settle the unit with --current-unit.",
            discharge.cycle,
        )


def _check_duration(file: str, discharge: Discharge, mass: float | None, hits: Hits) -> None:
    """Refuse a discharge of months, or of seconds in which a cell gives less than a wrong unit of time explains."""
    shortest, longest = DURATION_BOUNDS_S
    if mass and discharge.total_mah / mass * 1e3 >= SMALL_CAPACITY_MAH_G:
        shortest = 1.0  # minutes or more instead would make it more than all lithium
    if shortest <= discharge.duration_s <= longest:
        return
    days = discharge.duration_s / 86400
    said = f"{short(days)} days" if days > 1 else f"{short(discharge.duration_s)} s"
    ways = []
    for factor, label in ((1 / 3600, "1/3600"), (1e-3, "ms"), (1 / 60, "1/60"), (60.0, "min"), (3600.0, "h")):
        duration = discharge.duration_s * factor
        if shortest <= duration <= longest:
            ways.append(f"--time-unit {label} ({short(duration / 3600)} h, {short(discharge.total_mah * factor)} mAh)")
    way = (
        f"If the unit of the time column is not what its header says, pass {' or '.join(ways)}"
        if ways
        else "Export again"
    )
    hits.error(
        "E8",
        f"{file} cycle {discharge.cycle}: the discharge would last {said} and give {short(discharge.total_mah)} mAh; "
        f"between a minute and 90 days is possible. {way}; nothing guessed.",
        discharge.cycle,
    )


def _doubt_time(file: str, discharge: Discharge, checked: CheckedDischarge, hits: Hits) -> None:
    """Doubt a small capacity that a wrong unit of time explains, where no capacity column confirms it."""
    q, column = checked.capacity_mah_g, discharge.column_mah
    if q is None or not LEAST_CAPACITY_MAH_G <= q < SMALL_CAPACITY_MAH_G:
        return
    if column and abs(discharge.total_mah / column - 1) <= GAP_OF_UNITS:
        return
    ways = [
        f"--time-unit {label} gives {short(q * factor)} mAh/g"
        for factor, label in ((60.0, "min"), (3600.0, "h"))
        if q * factor <= MOST_CAPACITY_MAH_G
    ]
    if ways:
        hits.doubt(
            "D1",
            f"{file} cycle {discharge.cycle}: {short(q)} mAh/g is little. If the time column is not in the unit that "
            f"its header says, {' and '.join(ways)}; if the cell is dead, confirm it.",
            discharge.cycle,
        )


def _doubt_end(file: str, found: Segmentation, discharges: Sequence[Discharge], hits: Hits) -> None:
    """Doubt an only discharge with which the file ends where no cut-off usually lies, and none is stated."""
    discharge = discharges[0]
    if len(discharges) > 1:
        return
    end = float(discharge.voltage_v[-1])
    is_usual = end <= HIGHEST_CUT_OFF_V and abs(end - round(end, 1)) <= TABLE_TOLERANCE_V
    if discharge.stop == len(found.rows.time_s) and not is_usual:
        hits.doubt(
            "D2",
            f"{file} cycle {discharge.cycle}: the file ends within its first discharge, at {short(end)} V, and no "
            "window is stated: the cell may run still. State --window, or hand the file in again when it is done; if "
            "that is the cut-off, confirm it.",
            discharge.cycle,
        )


def _check_clock(file: str, recording: CyclerRows, found: Segmentation, hits: Hits) -> None:
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


def _inverse(factor: float) -> str:
    return f"1/{factor:g}" if factor > 1 else f"{1 / factor:g}"


def _observed_window(found: Segmentation, discharges: Sequence[Discharge]) -> tuple[float, float]:
    """Cut-offs that the rows show, to 0.01 V."""
    low = round(min(float(d.voltage_v[-1]) for d in discharges), 2)
    tops = [float(d.voltage_v[0]) for d in discharges]
    high = round(max(tops + ([found.charge_top_v] if found.charge_top_v is not None else [])), 2)
    return (low, high) if low < high else (low, low + 0.01)


def _check_window(file: str, seen: tuple[float, float], stated: tuple[float, float], hits: Hits) -> None:
    """Say when a cell went further than its table says; not reaching the cut-offs is E4."""
    if seen[0] < stated[0] - PROCESSED_TOLERANCE_V or seen[1] > stated[1] + PROCESSED_TOLERANCE_V:
        hits.warning(
            "W7",
            f"{file}: rows run through {seen[0]:g}-{seen[1]:g} V; table says {stated[0]:g}-{stated[1]:g} V. Cut to the "
            "table's window.",
        )


def _comparable(
    file: str,
    discharges: Sequence[Discharge],
    window: tuple[float, float],
    hits: Hits,
    window_is_stated: bool,
    goes_on: bool = False,
) -> list[Discharge]:
    """Discharges that run through the window; the last, partial one and interrupted ones are left out.

    The first one is an error unless the file goes on with a test, and may begin with the rest of a discharge.
    """
    kept: list[Discharge] = []
    for i, discharge in enumerate(discharges):
        here, before = f"{file} cycle {discharge.cycle}", discharges[i - 1] if i else None
        what = _shortfall(discharge, window, window_is_stated)
        if what is None:
            kept.append(discharge)
            _warn_of_charge(here, discharge, window, window_is_stated, hits)
        elif i == len(discharges) - 1 and _is_partial(discharge, before, window[0]):
            hits.warning(
                "W6",
                f"{file}: cycle {discharge.cycle} partial ({discharge.total_mah:.3g} mAh, ends at "
                f"{float(discharge.voltage_v[-1]):.3g} V), dropped.",
            )
        elif before is None and not goes_on:
            whole = (d.cycle for d in discharges[1:] if _shortfall(d, window, window_is_stated) is None)
            way = _formation_before(next(whole, None), "they run through the window")
            hits.error("E4", f"{here}: discharge {what} Capacity not comparable.{way}", discharge.cycle)
            kept.append(discharge)
        else:
            hits.warning("E4", f"{here}: discharge {what} Capacity not comparable. Left out.", discharge.cycle)
    return kept


def _is_complete(discharge: Discharge, v_low: float) -> bool:
    return float(discharge.voltage_v.min()) <= v_low + TABLE_TOLERANCE_V


def _is_partial(discharge: Discharge, before: Discharge | None, v_low: float) -> bool:
    """Whether a discharge was stopped on its way, well short of the one before it."""
    return (
        before is not None
        and not _is_complete(discharge, v_low)
        and discharge.total_mah < PARTIAL_SHARE * before.total_mah
    )


def _charged_to(discharge: Discharge, v_high: float, window_is_stated: bool) -> float:
    known = window_is_stated and discharge.charge_top_v is not None
    return float(discharge.charge_top_v or 0.0) if known else v_high


def _shortfall(discharge: Discharge, window: tuple[float, float], window_is_stated: bool) -> str | None:
    """How a discharge fails to run through the window; None where it does."""
    v_low, v_high = window
    start, end = float(discharge.voltage_v[0]), float(discharge.voltage_v[-1])
    charged_to = _charged_to(discharge, v_high, window_is_stated)
    if not _is_complete(discharge, v_low):
        return f"ends at {end:.3g} V, not {v_low:g} V: interrupted or safety limit."
    if start < v_high - START_TOLERANCE_V:
        return f"starts at {start:.3g} V, more than {START_TOLERANCE_V:g} V below {v_high:g} V: not fully charged."
    if charged_to < v_high - CHARGE_TOP_TOLERANCE_V:
        return f"follows a charge to {charged_to:.4g} V, not {v_high:g} V: stopped by its time or its capacity."
    if charged_to > v_high + CHARGE_TOP_TOLERANCE_V:
        return f"follows a charge to {charged_to:.4g} V, beyond {v_high:g} V: the window may be stated wrong."
    return None


def _warn_of_charge(
    here: str, discharge: Discharge, window: tuple[float, float], window_is_stated: bool, hits: Hits
) -> None:
    charged_to = _charged_to(discharge, window[1], window_is_stated)
    if charged_to < window[1] - CHARGE_TOP_WARNING_V:
        hits.warning(
            "E4", f"{here}: the charge before ended at {charged_to:.4g} V, not {window[1]:g} V.", discharge.cycle
        )


def _check_discharge(
    file: str, recording: CyclerRows, found: Segmentation, discharge: Discharge, mass: float | None, hits: Hits
) -> None:
    cycle, here = discharge.cycle, f"{file} cycle {discharge.cycle}"
    _check_duration(file, discharge, mass, hits)
    _check_current(file, discharge, mass, hits)
    _check_constant(here, found, discharge, hits)
    _check_integral(here, recording, discharge, hits)
    _check_course(here, discharge, found.rows.by_turns, hits)
    if discharge.upward_mv > 5 or discharge.upward_share > 0.05:
        hits.warning(
            "W2",
            f"{here}: noisy or multi-step: the voltage rises by up to {discharge.upward_mv:.3g} mV, at "
            f"{100 * discharge.upward_share:.2g} % of the rows.",
            cycle,
        )
    _check_gaps(here, discharge, hits)
    if len(discharge.rows) < LEAST_ROWS:
        steps_mv = np.abs(np.diff(np.unique(discharge.voltage_v)))
        resolution = float(steps_mv.min()) * 1e3 if len(steps_mv) else 0.0
        hits.warning("W4", f"{here}: sparse: {len(discharge.rows)} rows, V resolution {resolution:.2g} mV.", cycle)


def _check_course(here: str, discharge: Discharge, by_turns: bool, hits: Hits) -> None:
    """Refuse a voltage that rises or jumps as that of no discharge does; doubt one that falls to its end at once."""
    if by_turns and discharge.rising_share > RISING_SHARE:
        hits.error(
            "E9",
            f"{here}: the voltage rises row after row for {100 * discharge.rising_share:.2g} % of the charge, and the "
            "current has no sign: a charge within the discharge? Export the current with its sign, or the state.",
            discharge.cycle,
        )
    if discharge.zigzag_mv > ZIGZAG_MV and discharge.upward_share > ZIGZAG_SHARE:
        hits.error(
            "E9",
            f"{here}: the voltage jumps up and down from row to row by {discharge.zigzag_mv:.3g} mV, as where rows of "
            "two cells take turns. Export one cell per file; if it is one, its contact is loose.",
            discharge.cycle,
        )
    if discharge.fall_v > SPIKE_V:
        end = float(discharge.voltage_v[-1])
        hits.doubt(
            "D3",
            f"{here}: the voltage falls from {short(end + discharge.fall_v)} to {short(end)} V at once, as where a "
            "contact was lost: there was more to come. If the cell does so, confirm it.",
            discharge.cycle,
        )


def _check_constant(here: str, found: Segmentation, discharge: Discharge, hits: Hits) -> None:
    """Tell of steps of other currents behind the first, of which nothing is used."""
    if not discharge.later_currents_ma and discharge.current_rms <= 0.05:
        return
    steps = ", then ".join(f"{i:.3g}" for i in (discharge.current_ma, *discharge.later_currents_ma)) + " mA"
    lowest = float(found.rows.voltage_v[discharge.start : discharge.stop].min())
    covered = (discharge.voltage_v[0] - discharge.voltage_v[-1]) / max(discharge.voltage_v[0] - lowest, 1e-9)
    message = (
        f"{here}: current is not constant ({steps}); only the first {discharge.total_mah:.3g} of "
        f"{discharge.all_steps_mah:.3g} mAh at {discharge.current_ma:.3g} mA used."
    )
    if covered < 0.8:
        hits.error("E6", f"{message} They cover {100 * covered:.0f} % of the voltages.", discharge.cycle)
    else:
        hits.warning("E6", message, discharge.cycle)


def _check_gaps(here: str, discharge: Discharge, hits: Hits) -> None:
    """Tell of pauses, of a clock that jumps back and of rows without numbers; refuse a pause in which it went on."""
    if discharge.sinks_v > RISING_V:
        hits.error(
            "E7",
            f"{here}: the current reads 0 in rows in which the voltage falls by {discharge.sinks_v:.2g} V: it went on. "
            "Export these rows with their current, or the file without them.",
            discharge.cycle,
        )
    gap_s = max(discharge.gap_s, discharge.pause_s)
    gap = "paused" if discharge.paused else "no rows for"
    what = [f"{gap} {gap_s / 3600:.3g} h in the discharge"] if gap_s else []
    what += ["the clock jumps back"] if discharge.clock_backwards else []
    what += [f"{discharge.missing_rows} rows without numbers left out"] if discharge.missing_rows else []
    if what:
        hits.warning("W3", f"{here}: {', '.join(what)}.", discharge.cycle)
    if discharge.missing_rows > 0.05 * len(discharge.rows):
        message = f"{here}: {discharge.missing_rows} of its rows hold no numbers. Export again."
        hits.error("E8", message, discharge.cycle)


def _check_integral(here: str, recording: CyclerRows, discharge: Discharge, hits: Hits) -> None:
    column, digits = discharge.column_mah, recording.current_digits
    if column is None or column <= 0 or discharge.total_mah <= 0:
        _check_digits(here, recording, discharge, hits)
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
    message = f"{here}: integral {discharge.total_mah:.3g} mAh, file says {column:.3g}: {_why_unlike(digits)}"
    if abs(ratio - 1) > 0.10:
        hits.error("E7", message, discharge.cycle)
    else:
        hits.warning("E7", message, discharge.cycle)


def _why_unlike(digits: int | None) -> str:
    """Why integral and capacity column may differ, and the way out, by the digits of the current."""
    if digits is not None and digits >= ENOUGH_DIGITS:
        return (
            "rows are missing, or the capacity column counts something else. Export every row, or without that column."
        )
    said = f"{digits} digit{'' if digits == 1 else 's'}" if digits else "few digits"
    return f"current exported with {said}? Export with more digits."


def _check_digits(here: str, recording: CyclerRows, discharge: Discharge, hits: Hits) -> None:
    """Tell of currents and times with too few digits, where no capacity column confirms the charge."""
    known_to = discharge.clock_s / max(discharge.duration_s, discharge.clock_s, 1.0)
    if known_to > 0.02:
        tell = hits.error if known_to > COARSE_SHARE else hits.warning
        tell(
            "E7",
            f"{here}: the time goes in steps of {short(discharge.clock_s)} s, each for several rows: the charge of a "
            f"discharge of {short(discharge.duration_s)} s is known to {100 * known_to:.0f} % at best. Export the time "
            "with its seconds, which spreadsheets leave out of dates, or the capacity.",
            discharge.cycle,
        )
    digits = recording.current_digits
    if digits is not None and digits <= 1:
        hits.warning(
            "E7",
            f"{here}: the current is exported with {digits} digit ({discharge.current_ma:.3g} mA): the charge is known "
            f"to {100 * COARSE_SHARE:.0f} % at best. Export with more digits.",
            discharge.cycle,
        )


def _check_rate(
    file: str,
    discharges: Sequence[Discharge],
    sample: SampleInfo,
    mass: float | None,
    theory: float | None,
    hits: Hits,
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
            ways = _as_formation(discharges, sample, mass) + _as_c_rate(sample.current_ma_g, rate, theory)
            hits.error("E5", message + ways, discharge.cycle)
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
    return "" if first == discharges[0].cycle else _formation_before(first, "it is")


def _formation_before(first: int | None, what: str) -> str:
    """The way out where the cycles before one are others than it."""
    if first is None:
        return ""
    return (
        f" From cycle {first} on {what}: if the cycles before formed the cell, say --formation {first - 1} (or "
        "formation in the sample table)."
    )


def _as_c_rate(stated: float, rate: float, theory: float | None) -> str:
    """The way out where the stated rate is a multiple of C."""
    if stated < BARE_C_RATE and 80 <= rate / stated <= 600:
        return f" If it is a C-rate: {explain_c_rate(stated, theory)}"
    return ""


def _check_staircase(file: str, discharges: Sequence[Discharge], mass: float, hits: Hits) -> None:
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


def _checked(
    discharge: Discharge,
    sample: SampleInfo,
    mass: float | None,
    composition: Composition | None,
    window: tuple[float, float],
    hits: Hits,
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
    smooth = smoothed(f"{file} cycle {discharge.cycle}", discharge.voltage_v, specific, window, hits, discharge.cycle)
    q = smooth.capacity_mah_g if smooth else float(specific[-1])
    return replace(
        facts,
        conditions=conditions_of(rate, window, discharge.cycle),
        capacity_mah_g=q,
        profile=smooth.profile if smooth else None,
        sigma_mah_g=(COARSE_SHARE if "E7" in hits else RELATIVE_SIGMA["cycler"]) * abs(q),
    )


def _located(
    checked: CheckedDischarge, recording: CyclerRows, found: Segmentation, discharge: Discharge
) -> CheckedDischarge:
    """Add where in its test the file says that a discharge lies."""
    row = int(found.rows.source[discharge.rows[0]])
    return replace(
        checked,
        file_cycle=number_at(recording.cycle, row),
        elapsed_s=None if recording.time_of_step else float(recording.time_s[row]),
        charge_top_v=discharge.charge_top_v,
    )
