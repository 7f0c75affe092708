"""Tables of capacities, without profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from campaigns.intake.checks.capacity import check_capacity, conditions_of, short
from campaigns.intake.checks.sample import checked_composition, stated_mass
from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.intake.readers.recording import SummaryRow, SummaryTable
from campaigns.intake.readers.summary import explain_c_rate
from campaigns.intake.rules import (
    BARE_C_RATE,
    DURATION_BOUNDS_S,
    LEAST_CURRENT_MA_G,
    MOST_CURRENT_MA_G,
    MOST_RETURNED,
    OPEN_SITES,
    PARTIAL_SHARE,
    RELATIVE_SIGMA,
    Hits,
)
from drxnet.discharge import VOLTAGE_BOUNDS_V


def check_summary(
    file: str, table: SummaryTable, sample: SampleInfo, hits: Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    """Check the rows of a table of capacities.

    Args:
        file: name, for messages.
        table: the rows.
        sample: what the lab says of all rows that leave it open.
        hits: takes the rules that are broken.

    Returns:
        One discharge per row, and notes for a person.
    """
    checked = tuple(_checked_row(f"{file}, row {row.row}", row, sample, hits) for row in table.rows)
    _check_charges(file, table.rows, hits)
    _warn_of_partial(file, checked, hits)
    return checked, table.notes


def _check_charges(file: str, rows: Sequence[SummaryRow], hits: Hits) -> None:
    """Refuse a table of which every discharge gives more than its charge took; warn of a first one that does."""
    given = [(row.capacity_mah_g or row.capacity_mah or 0.0) / row.charged for row in rows if row.charged]
    if len(given) > 1 and min(given) > MOST_RETURNED:
        hits.error(
            "E12",
            f"{file}: every discharge gives more than its charge took ({short(100 * min(given))} % and more): are the "
            "two exchanged, or is it an anode? Name the columns the other way round if they are.",
        )
    elif given and given[0] > OPEN_SITES:
        hits.warning(
            "W1",
            f"{file}: the first discharge gives {short(given[0])} times what the charge took: open sites before the "
            "charge, first-cycle number doubtful.",
        )


def _warn_of_partial(file: str, checked: Sequence[CheckedDischarge], hits: Hits) -> None:
    """Warn of a last cycle of one cell that gives far less than the one before, as one that still runs."""
    before, last = checked[-2:] if len(checked) > 1 else (None, None)
    if before is None or last is None or before.conditions is None or last.conditions is None:
        return
    is_next = replace(before.conditions, cycle=last.cycle) == last.conditions and last.cycle == before.cycle + 1
    of_one = (before.composition, before.proposal, before.cell) == (last.composition, last.proposal, last.cell)
    if is_next and of_one and (last.capacity_mah_g or 0.0) < PARTIAL_SHARE * (before.capacity_mah_g or 0.0):
        hits.warning(
            "W6",
            f"{file}: cycle {last.cycle}, the last, gives {short(last.capacity_mah_g or 0.0)} mAh/g after "
            f"{short(before.capacity_mah_g or 0.0)}: is it still running? Then leave its row out.",
        )


def _checked_row(here: str, row: SummaryRow, sample: SampleInfo, hits: Hits) -> CheckedDischarge:
    written = row.composition or (None if row.proposal else sample.composition)
    sample = replace(sample, composition=written)
    if written is None and row.proposal is None and sample.proposal is None:
        hits.error("E10", f"{here}: the composition is missing, and no proposal is named.")
    composition, theory = checked_composition(sample, hits)
    rate = _rate(here, row, sample, theory, hits)
    capacity = _capacity(here, row, sample, hits)
    window = _window(row, sample)
    if window is None or (rate is None and row.c_rate is None):
        hits.error(
            "E5", f"{here}: a capacity means nothing without its current (mA/g) and window (V). Add both columns."
        )
    elif rate is not None:
        _check_conditions(here, rate, *window, capacity, hits)
    discharge = CheckedDischarge(
        cycle=row.cycle,
        provenance="summary",
        composition=composition,
        conditions=None if rate is None or window is None else conditions_of(rate, window, row.cycle),
        capacity_mah_g=capacity,
        capacity_mah=row.capacity_mah,
        sigma_mah_g=None if capacity is None else RELATIVE_SIGMA["summary"] * abs(capacity),
        v_end=row.v_low if row.v_low is not None or sample.window is None else sample.window[0],
        proposal=row.proposal,
        cell=row.cell,
        process=row.process,
    )
    check_capacity(here, [discharge], theory, sample, None, hits)
    return discharge


def _window(row: SummaryRow, sample: SampleInfo) -> tuple[float, float] | None:
    """Cut-offs of a row (V), where it leaves them out those of the sample; None where one is not known."""
    low, high = sample.window or (None, None)
    v_low, v_high = (row.v_low if row.v_low is not None else low), (row.v_high if row.v_high is not None else high)
    return None if v_low is None or v_high is None else (v_low, v_high)


def _rate(here: str, row: SummaryRow, sample: SampleInfo, theory: float | None, hits: Hits) -> float | None:
    """Current of a row (mA/g); E5 where it is a C-rate, with what that would be."""
    c_rate = row.c_rate
    if c_rate is None and row.is_bare_rate and row.current_ma_g is not None and 0 < row.current_ma_g < BARE_C_RATE:
        c_rate = row.current_ma_g
    if c_rate is None:
        return row.current_ma_g if row.current_ma_g is not None else sample.current_ma_g
    hits.error("E5", f"{here}: the rate {c_rate:g} reads as a C-rate, not as mA/g. {explain_c_rate(c_rate, theory)}")
    return None


def _capacity(here: str, row: SummaryRow, sample: SampleInfo, hits: Hits) -> float | None:
    """Capacity of a row (mAh/g): the charge by the mass of the sample, else what the table gives per gram."""
    if row.capacity_mah is None:
        return row.capacity_mah_g
    mass = stated_mass(here, sample, hits) if row.capacity_mah_g is None or sample.active_mass_mg else None
    if mass is None:
        return row.capacity_mah_g
    capacity = row.capacity_mah / mass * 1e3
    told = row.capacity_mah_g
    if told and abs(told / capacity - 1) > 0.02:
        hits.warning(
            "W7",
            f"{here}: {short(row.capacity_mah)} mAh and {short(told)} mAh/g are those of "
            f"{short(row.capacity_mah / told * 1e3)} mg; table says {mass:g} mg. The table is used.",
        )
    return capacity


def _check_conditions(here: str, rate: float, v_low: float, v_high: float, capacity: float | None, hits: Hits) -> None:
    lowest, highest = VOLTAGE_BOUNDS_V
    if not (LEAST_CURRENT_MA_G <= rate <= MOST_CURRENT_MA_G and lowest <= v_low < v_high <= highest):
        hits.error("E8", f"{here}: {rate:g} mA/g in {v_low:g}-{v_high:g} V is not possible; check the columns.")
    elif v_high < 2.5:
        hits.error("E12", f"{here}: this is not a cathode discharge against Li (window {v_low:g}-{v_high:g} V).")
    elif capacity is not None and capacity / rate * 3600 > DURATION_BOUNDS_S[1]:
        days = capacity / rate / 24
        hits.error(
            "E8",
            f"{here}: {short(capacity)} mAh/g at {rate:g} mA/g would last {short(days)} days; at most "
            f"{DURATION_BOUNDS_S[1] / 86400:.0f} are possible. Is the current in another unit, or a C-rate?",
        )
