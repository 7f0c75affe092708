"""Finding the discharge: each trap of real files, made on cells with known answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import synthetic_cycler as cycler

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import CyclerRows
from campaigns.intake.readers.words import CHARGE, DISCHARGE, REST
from campaigns.intake.segmentation import Segmentation, segment


def rows_of(t: pd.DataFrame, **changes: object) -> CyclerRows:
    """Rows as a reader returns them, with the current in the usual sign."""
    columns: dict[str, object] = {
        "format": "made up",
        "voltage_v": t.voltage_v.to_numpy(),
        "time_s": t.time_s.to_numpy(),
        "current_ma": t.current_ma.to_numpy(),
    }
    return CyclerRows(**{**columns, **changes})  # type: ignore[arg-type] # built by name


def only(found: Segmentation, count: int = 2) -> None:
    """Check the known answer."""
    assert [d.cycle for d in found.discharges] == list(range(1, count + 1))
    first = found.discharges[0]
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-3)
    assert first.current_ma == pytest.approx(cycler.CURRENT_MA, rel=1e-3)
    assert first.voltage_v[-1] == pytest.approx(1.5, abs=5e-3)


def test_a_plain_test_has_its_two_discharges() -> None:
    found = segment(rows_of(cycler.cell_test()))
    only(found)
    assert not found.early
    assert found.charge_top_v == pytest.approx(4.8)
    assert [len(d.rows) for d in found.discharges] == [180, 180]
    assert all(not d.cut for d in found.discharges)


@pytest.mark.parametrize("by_record", [True, False], ids=["record numbers", "time alone"])
def test_rows_out_of_order_are_sorted_and_counted(by_record: bool) -> None:
    t = cycler.cell_test()
    shuffled = t.sample(frac=1, random_state=3)
    recording = rows_of(shuffled, record=shuffled.record.to_numpy(float) if by_record else None)
    found = segment(recording)
    only(found)
    assert found.rows.out_of_order > 100


def test_record_numbers_that_begin_again_are_not_sorted_by() -> None:
    t = cycler.cell_test()
    record = np.concatenate([np.arange(1, 301), np.arange(1, len(t) - 299)]).astype(float)
    only(segment(rows_of(t, record=record)))


def test_a_discharge_before_the_first_charge_is_not_the_first() -> None:
    t = cycler.assemble(
        cycler.rest_step(),
        cycler.discharge_step(0.37 * cycler.CAPACITY_MAH),
        cycler.charge_step(cycler.CAPACITY_MAH),
        cycler.discharge_step(),
    )
    found = segment(rows_of(t))
    only(found, 1)
    assert [d.total_mah for d in found.early] == [pytest.approx(0.37 * cycler.CAPACITY_MAH, rel=1e-3)]


def test_a_charge_of_a_few_percent_does_not_count_as_one() -> None:
    t = cycler.assemble(
        cycler.charge_step(0.05 * cycler.CAPACITY_MAH, rows=20),
        cycler.discharge_step(0.6 * cycler.CAPACITY_MAH),
        cycler.charge_step(cycler.CAPACITY_MAH),
        cycler.discharge_step(),
    )
    found = segment(rows_of(t))
    only(found, 1)
    assert len(found.early) == 1


def test_later_steps_of_a_discharge_are_cut_and_reported() -> None:
    t = cycler.assemble(
        cycler.charge_step(0.5),
        cycler.discharge_step(),
        cycler.rest_step(0.2, 1.63, 4),
        cycler.discharge_step(0.02, 0.0144, 30, low=1.5).assign(voltage_v=np.linspace(1.63, 1.5, 30)),
    )
    found = segment(rows_of(t))
    only(found, 1)
    first = found.discharges[0]
    assert first.all_steps_mah == pytest.approx(cycler.CAPACITY_MAH + 0.02, rel=1e-3)
    assert first.later_currents_ma == (pytest.approx(0.0144),)
    assert "0.0144 mA" in first.cut[0]


@pytest.mark.parametrize("rest", [0, 4], ids=["no rest between", "rest between"])
def test_a_fast_first_step_is_the_one_that_counts(rest: int) -> None:
    steps = [cycler.charge_step(0.5), cycler.discharge_step(0.3, 1.8, 60)]
    steps += [cycler.rest_step(0.1, 2.1, rest)] if rest else []
    found = segment(rows_of(cycler.assemble(*steps, cycler.discharge_step(0.13, 0.036, 120))))
    (first,) = found.discharges
    assert (first.current_ma, first.total_mah) == (pytest.approx(1.8), pytest.approx(0.3, rel=2e-2))
    assert first.all_steps_mah == pytest.approx(0.43, rel=1e-2)


def test_a_constant_voltage_tail_is_cut_at_95_percent_of_the_current() -> None:
    tail = cycler.step("D", 2.0, -cycler.CURRENT_MA, lambda x: 1.5 + 0 * x, 80)
    tail["current_ma"] = -cycler.CURRENT_MA * np.exp(-np.linspace(0, 3, 81)[1:])
    found = segment(rows_of(cycler.assemble(cycler.charge_step(0.5), cycler.discharge_step(), tail)))
    (first,) = found.discharges
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=5e-3)
    assert first.all_steps_mah > 1.03 * first.total_mah
    assert 180 <= len(first.rows) <= 182


RESETS: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "every step": lambda t: t.discharge_mah.to_numpy(),
    "every cycle": lambda t: t.groupby("cycle").moved_mah.transform(lambda q: (-q).clip(lower=0).cumsum()).to_numpy(),
    "never": lambda t: (-t.moved_mah).clip(lower=0).cumsum().to_numpy(),
    "zero at rest": lambda t: np.where(
        t.state == "R", 0.0, t.groupby("cycle").moved_mah.transform(lambda q: (-q).clip(lower=0).cumsum())
    ),
}


@pytest.mark.parametrize("reset", list(RESETS))
def test_the_capacity_column_may_be_reset_whenever_it_likes(reset: str) -> None:
    t = cycler.cell_test()
    found = segment(rows_of(t, discharge_mah=RESETS[reset](t)))
    only(found)
    for discharge in found.discharges:
        assert discharge.column_mah == pytest.approx(discharge.total_mah, rel=1e-6)


def test_the_interval_before_the_first_row_counts() -> None:
    t = cycler.assemble(cycler.charge_step(0.5), cycler.discharge_step(rows=12))
    assert segment(rows_of(t)).discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-9)


def test_the_time_of_the_step_tells_how_much_of_the_interval_before_the_first_row_was_rest() -> None:
    t = cycler.assemble(cycler.charge_step(0.45), cycler.rest_step(1.0, 4.7, 20), cycler.discharge_step(rows=60))
    t = t.drop(index=t.index[t.state == "R"][1:])  # 57 of its 60 minutes leave no row
    steps = t.step_time_s.to_numpy()
    for step_time, factor in ((steps, 1.0), (steps / 3600, 1 + 57 / 720), (None, 1 + 57 / 720)):
        first = segment(rows_of(t, step_time_s=step_time)).discharges[0]
        assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH * factor, rel=1e-6)


def test_a_current_is_found_from_the_charge_counter() -> None:
    t = cycler.cell_test()
    only(segment(rows_of(t, current_ma=None, moved_mah=t.net_mah.to_numpy())))


def test_a_charge_counter_of_the_other_sign_is_understood() -> None:
    t = cycler.cell_test()
    only(segment(rows_of(t, current_ma=None, moved_mah=-t.net_mah.to_numpy())))


def test_relaxation_rows_at_the_end_are_cut() -> None:
    t = cycler.cell_test(cycles=1)
    end = int(np.flatnonzero(t.state == "D")[-1])
    t.loc[end - 1 : end, "voltage_v"] = [1.65, 1.68]
    found = segment(rows_of(t))
    first = found.discharges[0]
    assert len(first.rows) == 178
    assert first.voltage_v[-1] == first.voltage_v.min()
    assert first.cut == ("2 relaxation rows at the end",)


def states(t: pd.DataFrame) -> np.ndarray:
    return t.state.map({"C": CHARGE, "R": REST, "D": DISCHARGE}).to_numpy()


SIGNS: dict[str, Callable[[pd.DataFrame], dict[str, object]]] = {
    "discharge is positive": lambda t: {"current_ma": -t.current_ma.to_numpy()},
    "unsigned with a state": lambda t: {"current_ma": t.current_ma.abs().to_numpy(), "state": states(t)},
    "all negative with a state": lambda t: {"current_ma": -t.current_ma.abs().to_numpy(), "state": states(t)},
    "unsigned with steps": lambda t: {"current_ma": t.current_ma.abs().to_numpy(), "step": t.step.to_numpy(float)},
    "unsigned with nothing": lambda t: {"current_ma": t.current_ma.abs().to_numpy()},
    "discharge is positive with a state": lambda t: {"current_ma": -t.current_ma.to_numpy(), "state": states(t)},
}


@pytest.mark.parametrize("sign", list(SIGNS))
def test_the_sign_of_the_current_may_mean_anything(sign: str) -> None:
    t = cycler.cell_test()
    only(segment(rows_of(t, **SIGNS[sign](t))))


def test_unsigned_current_without_rests_is_split_where_the_voltage_turns() -> None:
    t = cycler.assemble(
        cycler.charge_step(0.45), cycler.discharge_step(), cycler.charge_step(0.44), cycler.discharge_step(0.42)
    )
    only(segment(rows_of(t, current_ma=t.current_ma.abs().to_numpy())))


def test_unsigned_current_is_split_where_the_voltage_jumps_past_where_it_came_from() -> None:
    early = cycler.step("D", 2.0, -cycler.CURRENT_MA, lambda x: 3.2 - 0.7 * x, 60)
    t = cycler.assemble(early, cycler.charge_step(0.45), cycler.discharge_step())
    found = segment(rows_of(t, current_ma=t.current_ma.abs().to_numpy()))
    only(found, 1)
    assert [len(d.rows) for d in found.early] == [60]


def test_opposite_currents_inside_a_step_do_not_split_it() -> None:
    t = cycler.cell_test()
    middle = int(np.flatnonzero(t.state == "D")[90])
    t.loc[middle, "current_ma"] *= -0.1
    found = segment(rows_of(t))
    assert [d.cycle for d in found.discharges] == [1, 2]
    assert found.discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=0.01)


def test_a_cell_whose_voltage_rises_on_discharge_is_a_contradiction() -> None:
    t = cycler.cell_test()
    swapped = -states(t)
    assert segment(rows_of(t, state=swapped)).rows.contradiction
    assert not segment(rows_of(t, state=states(t))).rows.contradiction


def test_noise_and_repeated_voltages_are_measured() -> None:
    t = cycler.cell_test(cycles=1)
    t["voltage_v"] = (t.voltage_v + np.random.default_rng(0).normal(0, 0.008, len(t))).round(3)
    first = segment(rows_of(t)).discharges[0]
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=0.02)
    assert first.upward_mv > 1
    assert first.upward_share > 0.05


@pytest.mark.parametrize("column", [True, False], ids=["with a capacity", "by the voltage"])
def test_a_pause_within_a_discharge_is_seen_and_counts_no_charge(column: bool) -> None:
    t = cycler.cell_test(cycles=1)
    middle = int(np.flatnonzero(t.state == "D")[90])
    t.loc[t.index > middle, "time_s"] += 4 * 3600
    moved = (-t.moved_mah).clip(lower=0).cumsum().to_numpy()
    first = segment(rows_of(t, discharge_mah=moved if column else None)).discharges[0]
    assert (first.gap_s, first.paused) == (pytest.approx(4 * 3600, rel=0.1), True)
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-3)


@pytest.mark.parametrize("column", [True, False], ids=["with a capacity", "by the voltage"])
def test_charge_goes_on_where_rows_are_missing(column: bool) -> None:
    t = cycler.cell_test(cycles=1)
    lost = np.flatnonzero(t.state == "D")[90:130]
    moved = (-t.moved_mah).clip(lower=0).cumsum()
    t = t.assign(dis=moved).drop(index=lost)
    first = segment(rows_of(t, discharge_mah=t.dis.to_numpy() if column else None)).discharges[0]
    assert (first.gap_s > 0, first.paused) == (True, False)
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-3)


def test_long_intervals_of_a_plateau_logged_by_voltage_are_no_pauses() -> None:
    voltage = np.arange(4.75, 1.5, -0.01)
    rate = 1 + 200 * np.exp(-(((voltage - 3.5) / 0.05) ** 2))
    seconds = 12 * 3600 * np.cumsum(rate) / rate.sum()
    discharge = cycler.step("D", 12.0, -cycler.CURRENT_MA, voltage, len(voltage)).assign(step_time_s=seconds)
    first = segment(rows_of(cycler.assemble(cycler.charge_step(0.45), discharge))).discharges[0]
    assert (first.paused, first.total_mah) == (False, pytest.approx(cycler.CAPACITY_MAH, rel=1e-3))


def test_a_short_rest_with_the_same_current_on_both_sides_is_a_pause() -> None:
    half = cycler.discharge_step()
    one, two = half.iloc[:90].copy(), half.iloc[90:].copy()
    two["step_time_s"] -= one["step_time_s"].iloc[-1]
    t = cycler.assemble(cycler.charge_step(0.5), one, cycler.rest_step(1.0, 3.2, 2), two)
    found = segment(rows_of(t))
    only(found, 1)
    assert (found.discharges[0].gap_s, found.discharges[0].paused) == (pytest.approx(3600, rel=0.1), True)


def test_many_short_rests_are_no_pauses_but_pulses() -> None:
    whole = cycler.discharge_step()
    steps = [cycler.charge_step(0.45)]
    for k in range(20):
        pulse = whole.iloc[9 * k : 9 * (k + 1)].copy()
        pulse["step_time_s"] -= whole["step_time_s"].iloc[9 * k - 1] if k else 0.0
        steps += [pulse, cycler.rest_step(0.5, 3.5, 5)]
    first = segment(rows_of(cycler.assemble(*steps))).discharges[0]
    assert first.total_mah < 0.3 * cycler.CAPACITY_MAH
    assert first.all_steps_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-6)


def test_a_clock_that_jumps_back_is_noticed() -> None:
    t = cycler.cell_test(cycles=1)
    middle = int(np.flatnonzero(t.state == "D")[90])
    t.loc[t.index > middle, "time_s"] -= 3600
    found = segment(rows_of(t))
    assert found.discharges[0].clock_backwards
    assert found.discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=0.01)


def test_times_of_steps_are_joined() -> None:
    t = cycler.cell_test()
    only(segment(rows_of(t, time_s=t.step_time_s.to_numpy(), time_of_step=True)))


def test_a_total_time_that_begins_again_with_every_step_is_joined_too() -> None:
    t = cycler.cell_test()
    found = segment(rows_of(t, time_s=t.step_time_s.to_numpy()))
    only(found)
    assert found.rows.out_of_order == 0
    assert not any(d.clock_backwards for d in found.discharges)


def test_rows_without_numbers_are_left_out_and_counted() -> None:
    t = cycler.cell_test(cycles=1)
    inside = np.flatnonzero(t.state == "D")[50:53]
    t.loc[inside, "voltage_v"] = np.nan
    first = segment(rows_of(t)).discharges[0]
    assert first.missing_rows == 3
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-6)


@pytest.mark.parametrize("column", ["voltage_v", "current_ma", "time_s"])
def test_infinite_values_are_refused_by_their_row(column: str) -> None:
    t = cycler.cell_test(cycles=1)
    t.loc[100, column] = np.inf
    with pytest.raises(RuleBroken, match="row 101: the .* is infinite"):
        segment(rows_of(t))


def test_a_test_that_only_rests_has_no_discharge() -> None:
    found = segment(rows_of(cycler.assemble(cycler.rest_step(10, 0.14, 200))))
    assert (found.discharges, found.early, found.charge_top_v) == ((), (), None)


def test_offset_currents_at_rest_are_not_half_cycles() -> None:
    t = cycler.cell_test()
    t.loc[t.state == "R", "current_ma"] = 2e-5
    only(segment(rows_of(t)))
