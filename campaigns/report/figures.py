"""Figures of a campaign as PNG, by matplotlib; :mod:`campaigns.report.drawing` says what the marks mean."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.ledger.records import MeasuredProfile, ModelRecord, PredictedProfile
from campaigns.loop.outcomes import STATE_WORDS, Comparison, Outcome, compare, composition_map, coverage, trade_off
from campaigns.report.drawing import (
    CELLS_AT_MOST,
    CELLS_SPREAD,
    COLOUR_MAP,
    FAILED_COLOUR,
    FRONT_COLOUR,
    HIGH_COLOUR,
    LEVELS,
    LOW_COLOUR,
    MEASURED_COLOUR,
    MEMBERS_SPREAD,
    NAMED_AT_MOST,
    POSTERIOR_SPREAD,
    PREDICTED_COLOUR,
    WAITING,
    Fade,
    arrows,
    bars,
    best_line,
    best_named,
    held_out_errors,
    marker_size,
    parity_ends,
    places_in_rounds,
    rate_colour,
)
from drxnet.composition import Composition
from drxnet.files import save_figure
from drxnet.style import new_figure, styled
from screening.estimates import Estimate
from screening.goals import Goals, Rates
from screening.quantities import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_AT_MOST = 12
BARS_AT_MOST = 60
"""Points up to which each shows its spread."""

TITLE_CHARACTERS = 60
"""Of a line above a panel of two."""

_DPI = 130


def mathtext(formula: str) -> str:
    """Formula with subscripts for matplotlib."""
    return re.sub(r"(\d+\.?\d*)", r"$_{\1}$", Composition.parse(formula).formula)


@styled
def plot_progress(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """First objective of every proposal by round, and the best measured so far."""
    figure, axes = figure_with_axes(8, 4.2)
    rounds = sorted({o.proposal.round or 0 for o in outcomes})
    places = places_in_rounds(outcomes)
    predicted = [(x, o, p) for o, x in zip(outcomes, places, strict=True) if (p := o.predicted(goals.first))]
    measured = [(x, o, m) for o, x in zip(outcomes, places, strict=True) if (m := o.leading)]
    size = marker_size(len(outcomes)) * 0.6
    hollow = {"mfc": "white", "alpha": 0.8, "label": f"predicted when proposed, {POSTERIOR_SPREAD}"}
    _draw_first(axes, predicted, goals.first, fmt="o", lw=0.8, ms=size, color=PREDICTED_COLOUR, **hollow)
    filled = {"color": MEASURED_COLOUR, "label": f"measured, {CELLS_SPREAD}"}
    _draw_first(axes, measured, goals.first, fmt="o", ms=size, **filled)
    known = [*measured, *((x, o, e) for x, o, e in predicted if o.leading is None)]
    _name_points(axes, [(x, e.mean) for x, _, e in known], [o for _, o, _ in known])
    _draw_best(axes, outcomes, goals, rounds)
    axes.set_xlabel("round" + (" (0: brought by the lab)" if 0 in rounds else ""))
    axes.set_ylabel(goals.first.label)
    if len(rounds) <= 15:
        axes.set_xticks(rounds)
    if goals.signs[0] > 0:
        axes.set_ylim(bottom=0)
    _legend_above(axes, columns=2)
    return figure


def _draw_first(axes: Axes, found: Sequence[tuple[float, Outcome, Estimate]], quantity: Quantity, **style: Any) -> None:
    """Draw values of the first objective with their bars, thin ones where there are many."""
    means = [e.mean for _, _, e in found]
    lengths = bars(quantity, means, [e.error or 0 for _, _, e in found])
    axes.errorbar([x for x, _, _ in found], means, yerr=lengths, elinewidth=0.9 if len(found) <= 400 else 0.3, **style)


def _draw_best(axes: Axes, outcomes: Sequence[Outcome], goals: Goals, rounds: Sequence[int]) -> None:
    x, y = best_line(outcomes, rounds)
    if x:
        label = best_named(goals)
        axes.step(x, y, where="post", color=FRONT_COLOUR, lw=1.8, label=label)


@styled
def plot_comparison(outcomes: Sequence[Outcome], goals: Goals) -> Figure | None:
    """Predicted against measured for all that the campaign looks at, and the calibration of the intervals.

    Returns:
        None before anything is both predicted and measured.
    """
    comparisons = [c for q in goals.shown if len((c := compare(outcomes, q)).measured)]
    if not comparisons:
        return None
    rows = -(-(len(comparisons) + 1) // 2)
    figure, grid = figure_with_axes(9.5, 4.4 * rows, rows, 2)
    panels = list(grid.flat)
    for axes, c in zip(panels, comparisons, strict=False):
        _draw_comparison(axes, c)
    for axes in panels[len(comparisons) + 1 :]:
        axes.set_axis_off()
    _draw_calibration(panels[len(comparisons)], comparisons)
    return figure


def _draw_calibration(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    axes.plot([0, 1], [0, 1], color=FAILED_COLOUR, lw=1)
    axes.plot(LEVELS, coverage(comparisons, LEVELS), "o-", color=HIGH_COLOUR, ms=4)
    axes.text(0.05, 0.9, "too cautious", color=FAILED_COLOUR)
    axes.text(0.65, 0.07, "too confident", color=FAILED_COLOUR)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("nominal probability of the predicted interval")
    axes.set_ylabel("fraction of measured values inside")
    title = f"calibration, {', '.join(c.quantity.heading for c in comparisons)}"
    axes.set_title(textwrap.fill(title, TITLE_CHARACTERS), fontsize=8.5)


def _draw_comparison(axes: Axes, c: Comparison) -> None:
    axes.set_xlabel(f"predicted {c.quantity.label},\n{POSTERIOR_SPREAD}")
    axes.set_ylabel(f"measured, {CELLS_SPREAD}")
    across, along = bars(c.quantity, c.predicted, c.predicted_std), bars(c.quantity, c.measured, c.measured_std)
    style: dict[str, Any] = {"elinewidth": 0.8 if len(c.measured) <= 400 else 0.3, "alpha": 0.85, "fmt": "none"}
    axes.errorbar(c.predicted, c.measured, xerr=across, ecolor=PREDICTED_COLOUR, **style)
    axes.errorbar(c.predicted, c.measured, yerr=along, ecolor=MEASURED_COLOUR, **style)
    axes.plot(c.predicted, c.measured, "o", color=MEASURED_COLOUR, ms=0.5 * marker_size(len(c.measured)))
    ends = parity_ends(c)
    axes.plot(ends, ends, color=FAILED_COLOUR, lw=1, zorder=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    _name_points(axes, list(zip(c.predicted, c.measured, strict=True)), c.outcomes)
    unit = f" {c.quantity.unit}" if c.quantity.unit else ""
    digits = c.quantity.digits + (not unit)
    axes.set_title(
        f"n = {len(c.measured)}, mean error {c.mean_absolute_error:.{digits}f}{unit},\n"
        f"{c.within(1)} within ± 1 s.d. (68 % expected)",
        fontsize=8.5,
    )


def _name_points(axes: Axes, points: Sequence[tuple[float, float]], outcomes: Sequence[Outcome]) -> None:
    """Write the id of its proposal beside each point, where there is room for all."""
    if len(outcomes) > NAMED_AT_MOST:
        return
    for at, outcome in zip(points, outcomes, strict=True):
        axes.annotate(
            outcome.proposal.proposal_id, at, (4, 3), textcoords="offset points", fontsize=6.5, color="#444444"
        )


@styled
def plot_pareto(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """The first objective against what it is traded for; the front of what is measured."""
    figure, axes = figure_with_axes(7, 5)
    known = trade_off(outcomes, goals)
    points, size = known.measured.at, 0.65 * marker_size(len(outcomes))
    for some, colour, face, label in (
        (known.waiting, PREDICTED_COLOUR, "white", WAITING),
        (known.measured, MEASURED_COLOUR, MEASURED_COLOUR, f"measured, {CELLS_SPREAD}"),
    ):
        if len(some.at) <= BARS_AT_MOST:
            across, along = map(bars, known.axes, some.at.T, some.spreads.T)
            axes.errorbar(*some.at.T, along, across, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35, zorder=1)
        axes.plot(*some.at.T, "o", mfc=face, mec=colour, ms=size, label=label, zorder=2)
    if len(points):
        front, corner = known.front, known.corner(bars=len(outcomes) <= BARS_AT_MOST)
        axes.plot(*known.border(corner).T, color=FRONT_COLOUR, lw=1.6, label="front of the measured")
        axes.plot(*points[front].T, "o", mfc="none", mec=FRONT_COLOUR, ms=11, mew=1.6)
        axes.set_xlim(**{"left" if known.signs[0] > 0 else "right": corner[0]})
        axes.set_ylim(**{"bottom" if known.signs[1] > 0 else "top": corner[1]})
    named = (*known.measured.outcomes, *known.waiting.outcomes)
    _name_points(axes, [*map(tuple, points), *map(tuple, known.waiting.at)], named)
    if len(named) > NAMED_AT_MOST and len(points):
        _name_points(axes, [*map(tuple, points[known.front])], [known.measured.outcomes[i] for i in known.front])
    axes.set_xlabel(known.axes[0].label)
    axes.set_ylabel(known.axes[1].label)
    _legend_above(axes, columns=1)
    return figure


@styled
def plot_profiles(
    outcomes: Sequence[Outcome],
    predicted: Mapping[str, Sequence[PredictedProfile]],
    measured: Mapping[str, Sequence[MeasuredProfile]],
    rates: Rates,
) -> Figure:
    """Predicted profiles at both rates with their bands, and the measured first discharges over them.

    Args:
        outcomes: at most :data:`PANELS_AT_MOST` are drawn.
        predicted: profiles by proposal id.
        measured: measurements by proposal id.
        rates: the two of the campaign.
    """
    shown = list(outcomes[:PANELS_AT_MOST])
    columns = min(4, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    figure, grid = figure_with_axes(3.4 * columns, 3.0 * rows + 0.5, rows, columns, share=True)
    panels = list(np.atleast_1d(grid).flat)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes, outcome in zip(panels, shown, strict=False):
        name = outcome.proposal.proposal_id
        for profile in predicted.get(name, ()):
            colour = rate_colour(profile.conditions.current_ma_g, rates)
            mean, std = profile.capacity_mah_g_mean, profile.capacity_mah_g_std
            axes.fill_betweenx(profile.voltage_v, np.maximum(mean - std, 0), mean + std, color=colour, alpha=0.18, lw=0)
            axes.plot(mean, profile.voltage_v, "--", color=colour, lw=1.2)
        for each in measured.get(name, ()):
            if each.profile is None or each.measurement.conditions.cycle != 1:
                continue
            colour = rate_colour(each.measurement.conditions.current_ma_g, rates)
            axes.plot(each.profile.capacity_mah_g, each.profile.voltage_v, "-", color=colour, lw=1.8)
        axes.set_title(
            f"{name}, {STATE_WORDS[outcome.proposal.state]}\n{mathtext(outcome.proposal.composition)}", fontsize=8
        )
    panels[0].set_xlim(left=0)
    figure.supxlabel("capacity (mAh/g)", fontsize=10)
    figure.supylabel("voltage (V)", fontsize=10)
    _rate_legend(figure, rates)
    return figure


@styled
def plot_fade(cells: Sequence[Fade], rates: Rates) -> Figure | None:
    """Capacity of every cell over its measured cycles.

    Args:
        cells: the best first; at most :data:`CELLS_AT_MOST` are drawn.
        rates: the two of the campaign.

    Returns:
        None where no cell was cycled on.
    """
    if not cells:
        return None
    figure, axes = figure_with_axes(8, 4.2)
    for cell in cells[:CELLS_AT_MOST]:
        colour = rate_colour(cell.conditions.current_ma_g, rates)
        axes.plot(cell.cycles, cell.capacities_mah_g, ".-", color=colour, lw=1, ms=4)
        name = cell.outcome.proposal.proposal_id
        at = (cell.cycles[-1], cell.capacities_mah_g[-1])
        axes.annotate(name, at, (5, -2), textcoords="offset points", fontsize=6.5, color="#444444")
    for colour, current in ((LOW_COLOUR, rates.low_current_ma_g), (HIGH_COLOUR, rates.high_current_ma_g)):
        axes.plot([], [], ".-", color=colour, label=f"{current:g} mA/g, one line a cell")
    axes.set(xlabel="cycle", ylabel="measured capacity (mAh/g)")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend_above(axes, columns=2)
    return figure


@styled
def plot_map(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """What was tried, laid out by composition: the first objective, and how uncertain it is."""
    figure, grid = figure_with_axes(12.5, 5.4, 1, 2)
    plane = composition_map([o.proposal.composition for o in outcomes])
    known = [o.known(goals.first) for o in outcomes]
    unit = f" ({goals.first.unit})" if goals.first.unit else ""
    for axes, values, label in (
        (grid.flat[0], [np.nan if e is None else e.mean for e in known], goals.first.label),
        (grid.flat[1], [np.nan if e is None or e.error is None else e.error for e in known], f"its 1 s.d.{unit}"),
    ):
        _draw_places(axes, outcomes, plane.positions, np.array(values), label)
        _draw_loadings(axes, plane.elements, plane.loadings, plane.positions)
        axes.set_xlabel(f"first principal component of the amounts ({plane.explained[0]:.0%} of the variance)")
        axes.set_ylabel(f"second ({plane.explained[1]:.0%})")
    _legend_above(grid.flat[0], columns=3)
    return figure


def _draw_places(
    axes: Axes, outcomes: Sequence[Outcome], positions: np.ndarray, values: np.ndarray, label: str
) -> None:
    """Draw every composition where it lies, filled where it is measured; grey where the value is not known."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = np.isfinite(values)
    norm = Normalize(values[known].min(), values[known].max()) if known.any() else Normalize(0, 1)
    colours = np.where(known[:, None], colormaps[COLOUR_MAP](norm(values)), (0.6, 0.6, 0.6, 1.0))
    failed = np.array([o.dropped for o in outcomes])
    is_measured = np.array([o.leading is not None for o in outcomes])
    size = marker_size(len(outcomes)) ** 2
    x, y = positions.T
    some = ~is_measured & ~failed
    if some.any():
        style: dict[str, Any] = {"s": 0.6 * size, "linewidths": 1.5, "label": "predicted"}
        axes.scatter(x[some], y[some], facecolors="none", edgecolors=colours[some], **style)
    if is_measured.any():
        style = {"s": 0.7 * size, "linewidths": 0.7, "label": "measured"}
        axes.scatter(x[is_measured], y[is_measured], facecolors=colours[is_measured], edgecolors="#222222", **style)
    if failed.any():
        style = {"s": 0.5 * size, "color": FAILED_COLOUR, "label": "failed or abandoned"}
        axes.scatter(x[failed], y[failed], marker="x", **style)
    _name_points(axes, [*map(tuple, positions)], outcomes)
    bar = axes.figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=axes, fraction=0.045, pad=0.02)
    bar.set_label(label)


@styled
def plot_lineage(models: Sequence[ModelRecord]) -> Figure | None:
    """Error of every model on held-out measurements, before and after it learned.

    Returns:
        None where no model has learned from measurements.
    """
    if all(held_out_errors(m) is None for m in models):
        return None
    figure, axes = figure_with_axes(7, 3.6)
    for model in models:
        errors = held_out_errors(model)
        if errors is None:
            continue
        before, after = errors
        colour = LOW_COLOUR if model.accepted else FAILED_COLOUR
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2}
        axes.annotate("", (model.number, after), (model.number, before), arrowprops=arrow)
        axes.plot(model.number, before, "o", mfc="white", mec=colour)
        axes.plot(model.number, after, "o", color=colour)
    every = max(1, len(models) // 15)
    axes.set_xticks([m.number for m in models][::every], [m.name for m in models][::every])
    axes.set_xlabel("model")
    axes.set_ylabel("error on held-out cells (mAh/g)")
    axes.plot([], [], "o", mfc="white", mec=LOW_COLOUR, label="before learning")
    axes.plot([], [], "o", color=LOW_COLOUR, label="after, taken into use")
    axes.plot([], [], "o", color=FAILED_COLOUR, label="after, refused by the gate")
    axes.margins(y=0.2)
    axes.set_ylim(bottom=0)
    _legend_above(axes, columns=3)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    save_figure(figure, path, dpi=_DPI)
    return path


def figure_with_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, *, share: bool = False
) -> tuple[Figure, Any]:
    """Figure with its axes, one or a grid of them."""
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=rows * columns == 1)


def _draw_loadings(axes: Axes, elements: Sequence[str], loadings: np.ndarray, positions: np.ndarray) -> None:
    for element, end in zip(elements, arrows(loadings, positions), strict=True):
        if np.isnan(end).any():
            continue
        axes.annotate("", end, (0, 0), arrowprops={"arrowstyle": "->", "color": "#999999", "lw": 1})
        tip = 1.08 * end
        axes.annotate(f"more {element}", tip, fontsize=8, color="#555555", ha="center", va="center")
        axes.update_datalim([tip * 1.05])
    axes.autoscale_view()


def _rate_legend(figure: Figure, rates: Rates) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    low, high = f"{rates.low_current_ma_g:g} mA/g", f"{rates.high_current_ma_g:g} mA/g"
    handles = [
        Line2D([], [], color=LOW_COLOUR, ls="--", label=f"predicted at {low}"),
        Line2D([], [], color=HIGH_COLOUR, ls="--", label=f"predicted at {high}"),
        Line2D([], [], color="black", lw=1.8, label="measured (solid, same colours)"),
        Patch(color=FAILED_COLOUR, alpha=0.4, label=MEMBERS_SPREAD),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2)
