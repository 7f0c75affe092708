"""The picture of a checked file: raw rows, the discharge that was selected, what was cut, profile and dQ/dV."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campaigns.intake import readers
from campaigns.intake.discharges import Discharge
from campaigns.intake.measurement import CheckedDischarge, CheckedFile, RuleBroken
from campaigns.intake.readers.recording import Curves, CyclerRows, DRXTDTests, ReadOptions
from campaigns.intake.readers.words import CHARGE
from campaigns.intake.segmentation import Segmentation, segment
from drxnet.errors import MeasurementError, MissingExtra
from drxnet.files import check_figure_path, save_figure
from drxnet.preprocess import SmoothedDischarge, smooth_discharge
from drxnet.style import new_figure, styled
from drxnet.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 20_000
MOST_CYCLES = 6
_CHARGE, _SELECTED, _EARLY, _LATER = "#0072B2", "#D55E00", "#CC79A7", "#56B4E9"  # Okabe and Ito's palette
_CUT, _REST = "#B00020", "0.6"
_STATUS_COLOURS = {"accepted": "#009E73", "warned": "#B8860B", "refused": "#B00020"}


@styled
def plot_file(checked: CheckedFile, path: str | Path, options: ReadOptions | None = None) -> None:
    """Draw what was read, what was selected and what was cut.

    Args:
        checked: of :func:`campaigns.intake.validation.check_file`; the rows are read again from its path.
        path: ``.png``, ``.svg`` or ``.pdf``.
        options: the same as for checking.

    Raises:
        UsageError: unknown suffix, or a folder that does not exist.
    """
    path = Path(path)
    check_figure_path(path)
    try:
        _, recording = readers.read(checked.path, options)
        found = segment(recording) if isinstance(recording, CyclerRows) else None
    except (RuleBroken, MissingExtra):
        recording, found = None, None
    heights = [*([1.0] if found is not None else []), 1.25, 0.1 + 0.055 * len(_rule_lines(checked))]
    figure = new_figure(12.0, 4.0 * sum(heights))
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    left, right = figure.add_subplot(grid[-2, 0]), figure.add_subplot(grid[-2, 1])
    if found is not None:
        _draw_rows(figure.add_subplot(grid[0, :]), found)
        _draw_cycler(left, right, found, checked)
    elif recording is not None:
        _draw_curves(left, right, recording, checked)
    else:
        _say(left, "The file could not be read.")
        _say(right, "")
    _draw_rules(figure.add_subplot(grid[-1, :]), checked)
    title = visible(f"{checked.path.name}   [{checked.format}]")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, parse_math=False)
    figure.text(
        0.99, 0.985, checked.status, ha="right", va="top", fontsize=12, weight="bold",
        color=_STATUS_COLOURS[checked.status],
    )  # fmt: skip
    save_figure(figure, path, dpi=150)


def _draw_rows(axes: Axes, found: Segmentation) -> None:
    """Voltage against time, until shortly after the selected discharge."""
    rows = found.rows
    hours = rows.time_s / 3600
    chosen = (found.discharges or found.early or (None,))[0]
    last = len(hours) if chosen is None else min(len(hours), _after(hours, chosen))
    thin = _thinned(last)
    axes.plot(hours[thin], rows.voltage_v[thin], ".", markersize=1.5, color=_REST, label="rows of the file")
    charging = thin[rows.direction[thin] == CHARGE]
    axes.plot(hours[charging], rows.voltage_v[charging], ".", markersize=2.5, color=_CHARGE, label="charge")
    for early in found.early[:3]:
        part = early.rows[_thinned(len(early.rows))]
        label = "discharge before any charge: skipped" if early is found.early[0] and found.discharges else None
        colour = _EARLY if found.discharges else _SELECTED
        axes.plot(hours[part], rows.voltage_v[part], ".", markersize=3, color=colour, label=label)
    if found.discharges:
        first = found.discharges[0]
        _draw_selected(axes, hours, rows.voltage_v, first)
    axes.set(xlabel="Time (h)", ylabel="Voltage (V)", xlim=(hours[0], hours[last - 1] if last else None))
    if last < len(hours):
        axes.set_title(f"the test goes on to {hours[-1]:.3g} h", loc="right", fontsize=8, color="0.35")
    axes.legend(frameon=False, fontsize=8, markerscale=4, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.0))


def _draw_selected(axes: Axes, hours: np.ndarray, voltage: np.ndarray, first: Discharge) -> None:
    part = first.rows[_thinned(len(first.rows))]
    axes.plot(hours[part], voltage[part], ".", markersize=3, color=_SELECTED, label="selected discharge")
    rest = np.setdiff1d(np.arange(first.start, first.stop), first.rows)
    if len(rest):
        axes.plot(hours[rest], voltage[rest], ".", markersize=3, color=_CUT, label="cut")
    axes.axvspan(hours[first.start], hours[first.stop - 1], color=_SELECTED, alpha=0.07, linewidth=0)


def _after(hours: np.ndarray, discharge: Discharge) -> int:
    end = hours[discharge.stop - 1]
    return int(np.searchsorted(hours, end + 0.12 * max(end - hours[0], 1e-9), side="right"))


def _draw_cycler(left: Axes, right: Axes, found: Segmentation, checked: CheckedFile) -> None:
    """Q(V) of the first discharge with its rows, and dQ/dV; later cycles thin behind."""
    discharges = found.discharges or found.early
    if not discharges:
        _say(left, "No discharge was found.")
        _say(right, "")
        return
    first = discharges[0]
    known = next((d for d in checked.discharges if d.capacity_mah_g and d.capacity_mah), None)
    per_gram = known.capacity_mah_g / first.total_mah if known and known.capacity_mah_g else None
    unit = "mAh/g" if per_gram else "mAh"
    scale = per_gram or 1.0
    window = known.conditions.window if known and known.conditions else None
    part = _thinned(len(first.rows))
    delivered = scale * first.capacity_mah[part]
    left.plot(delivered, first.voltage_v[part], ".", markersize=3, color=_SELECTED, label="rows, cycle 1")
    if first.all_steps_mah > 1.002 * first.total_mah:
        left.axvspan(scale * first.total_mah, scale * first.all_steps_mah, color=_CUT, alpha=0.12, linewidth=0)
        left.text(
            scale * first.all_steps_mah, first.voltage_v.max(), f"cut: {'; '.join(first.cut) or 'later steps'} ",
            ha="right", va="top", fontsize=8, color=_CUT,
        )  # fmt: skip
    for number, discharge in enumerate(discharges[:MOST_CYCLES], start=1):
        smooth = _smooth(discharge.voltage_v, scale * discharge.capacity_mah, window)
        if smooth is not None:
            _draw_profile(left, right, smooth, number, number == 1)
    _label(left, right, unit)


def _draw_curves(left: Axes, right: Axes, recording: object, checked: CheckedFile) -> None:
    """The same for what comes without rows of a cycler."""
    curves: list[tuple[int, np.ndarray, np.ndarray]] = []
    if isinstance(recording, DRXTDTests):
        curves = [(c.cycle, c.voltage_v, c.capacity_mah_g) for test in recording.tests for c in test.discharges]
    elif isinstance(recording, Curves):
        curves = [(i, c.voltage_v, c.capacity) for i, c in enumerate(recording.curves, start=1)]
    if not curves:
        _draw_capacities(left, checked.discharges)
        _say(right, "Capacities only: no profile is made up.")
        return
    for number, (cycle, voltage, capacity) in enumerate(curves[:MOST_CYCLES], start=1):
        if number == 1:
            left.plot(capacity, voltage, ".", markersize=4, color=_SELECTED, label=f"points, cycle {cycle}")
        smooth = _smooth(voltage, capacity, None)
        if smooth is not None:
            _draw_profile(left, right, smooth, cycle, number == 1)
    if len(curves) > MOST_CYCLES:
        left.set_title(f"{MOST_CYCLES} of {len(curves)} discharges", loc="right", fontsize=8, color="0.35")
    _label(left, right, "mAh/g")


def _draw_profile(left: Axes, right: Axes, smooth: SmoothedDischarge, cycle: int, first: bool) -> None:
    colour, width = ("black", 1.4) if first else (_LATER, 0.8)
    zorder = 3 if first else 1
    label = f"smoothed, cycle {cycle}" if first else ("later cycles" if cycle == 2 else None)
    v, q = smooth.profile.voltage_v, smooth.profile.capacity_mah_g
    shown = (v >= smooth.curve.v_last - 1e-9) & (v <= smooth.curve.v_first + 0.05)
    left.plot(q[shown], v[shown], color=colour, linewidth=width, label=label, zorder=zorder)
    right.plot(v, -smooth.dqdv_mah_g_v, color=colour, linewidth=width, label=label, zorder=zorder)
    if first:
        left.plot(smooth.capacity_mah_g, smooth.curve.v_last, "o", color="black", markersize=5, zorder=4)
        left.annotate(
            f"{smooth.capacity_mah_g:.4g}", (smooth.capacity_mah_g, smooth.curve.v_last), xytext=(-12, 0),
            textcoords="offset points", ha="right", va="center", fontsize=10, weight="bold", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )  # fmt: skip


def _draw_capacities(axes: Axes, discharges: tuple[CheckedDischarge, ...]) -> None:
    known = [d for d in discharges if d.capacity_mah_g is not None][:12]
    names = [f"{d.composition or '?'}\n{d.conditions or ''}" for d in known]
    axes.barh(names, [d.capacity_mah_g or 0.0 for d in known], color=_SELECTED, height=0.6)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="Capacity (mAh/g)")


def _smooth(voltage: np.ndarray, capacity: np.ndarray, window: tuple[float, float] | None) -> SmoothedDischarge | None:
    try:
        return smooth_discharge(voltage, np.clip(capacity, 0.0, None), window)
    except (MeasurementError, ValueError):
        return None


def _label(left: Axes, right: Axes, unit: str) -> None:
    left.set(xlabel=f"Capacity ({unit})", ylabel="Voltage (V)", xlim=(0, None))
    right.set(xlabel="Voltage (V)", ylabel=f"-dQ/dV ({unit}/V)", ylim=(0, None))
    left.legend(frameon=False, fontsize=8, loc="lower left", markerscale=2)


def _rule_lines(checked: CheckedFile) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for hit in checked.rules:
        colour = _STATUS_COLOURS["refused" if hit.severity == "error" else "warned"]
        lines += [(line, colour) for line in textwrap.wrap(visible(str(hit)), 165, subsequent_indent="      ")]
    for note in checked.notes:
        lines += [(line, "0.35") for line in textwrap.wrap(visible(f"note: {note}"), 165, subsequent_indent="      ")]
    return lines[:18] or [("no rule is broken", _STATUS_COLOURS["accepted"])]


def _draw_rules(axes: Axes, checked: CheckedFile) -> None:
    axes.set_axis_off()
    lines = _rule_lines(checked)
    for i, (line, colour) in enumerate(lines):
        axes.text(0.0, 1.0 - (i + 0.5) / len(lines), line, fontsize=8.5, color=colour, va="center", parse_math=False)


def _say(axes: Axes, sentence: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color="0.35", transform=axes.transAxes, parse_math=False)


def _thinned(count: int) -> np.ndarray:
    return np.arange(0, count, max(1, count // MOST_POINTS))
