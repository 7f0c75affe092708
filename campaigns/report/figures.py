"""Figures of a campaign as PNG, by matplotlib.

The same code everywhere: a filled mark is measured, a hollow one predicted; in profiles blue is the low rate and
orange the high one, a dashed line with a band is predicted and a solid line measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.ledger.records import MeasuredProfile, ModelRecord, PredictedProfile
from campaigns.loop.outcomes import (
    STATE_WORDS,
    Comparison,
    Outcome,
    best_so_far,
    compare,
    composition_map,
    coverage,
    trade_off,
)
from drxnet.composition import Composition
from drxnet.files import save_figure
from screening.goals import Goals, Rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOW_COLOUR, HIGH_COLOUR = "#0072B2", "#D55E00"
MEASURED_COLOUR, PREDICTED_COLOUR, FRONT_COLOUR, FAILED_COLOUR = "#222222", "#0072B2", "#D55E00", "#8C8C8C"
"""From Okabe and Ito's palette, which colour-blind readers can tell apart, and greys."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLOUR_MAP = "cividis"
LEVELS = np.linspace(0.05, 0.95, 19)
PANELS_AT_MOST = 12
BARS_AT_MOST = 60
"""Points up to which each shows its spread."""

_DPI = 130


def mathtext(formula: str) -> str:
    """Formula with subscripts for matplotlib."""
    return re.sub(r"(\d+\.?\d*)", r"$_{\1}$", Composition.parse(formula).formula)


def marker_size(count: int) -> float:
    """Diameter of a mark (pixels): small where there are thousands."""
    return 9.0 if count <= 150 else 6.5 if count <= 600 else 4.5


def plot_progress(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """First objective of every proposal by round, and the best measured so far."""
    figure, axes = figure_with_axes(8, 4.2)
    rounds = sorted({o.proposal.round or 0 for o in outcomes})
    places = places_in_rounds(outcomes)
    predicted = [(x, p) for o, x in zip(outcomes, places, strict=True) if (p := o.predicted(goals.first))]
    measured = [(x, m) for o, x in zip(outcomes, places, strict=True) if (m := o.leading)]
    few = len(outcomes) <= 400
    for found, style in (
        (
            predicted,
            {"mfc": "white", "color": PREDICTED_COLOUR, "lw": 0.8, "alpha": 0.8, "elinewidth": 0.8 if few else 0.3}
            | {"label": "predicted when proposed, ± 1 s.d. over members"},
        ),
        (
            measured,
            {"color": MEASURED_COLOUR, "elinewidth": 1 if few else 0.3, "label": "measured, ± 1 s.d. over cells"},
        ),
    ):
        axes.errorbar(
            [x for x, _ in found],
            [e.mean for _, e in found],
            yerr=[e.spread or 0 for _, e in found],
            fmt="o",
            ms=marker_size(len(outcomes)) * 0.6,
            **style,
        )
    x, y = best_line(outcomes, rounds)
    if x:
        label = f"best measured so far, {goals.sides[0]} bound (90 %)"
        axes.step(x, y, where="post", color=FRONT_COLOUR, lw=1.8, label=label)
    axes.set_xlabel("round" + (" (0: brought by the lab)" if 0 in rounds else ""))
    axes.set_ylabel(goals.first.label)
    if len(rounds) <= 15:
        axes.set_xticks(rounds)
    if goals.signs[0] > 0:
        axes.set_ylim(bottom=0)
    _legend_above(axes, columns=3)
    return figure


def best_line(outcomes: Sequence[Outcome], rounds: Sequence[int]) -> tuple[list[float], list[float]]:
    """Corners of the line of the best measured so far: rounds, and the bound of its first objective."""
    trail = zip(rounds, best_so_far(outcomes, rounds), strict=True)
    best = [(r, b) for r, o in trail if o and (b := o.bound(o.goals.first)) is not None]
    if not best:
        return [], []
    return [*(float(r) for r, _ in best), best[-1][0] + 0.45], [*(b for _, b in best), best[-1][1]]


def plot_comparison(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """Predicted against measured for all that the campaign looks at, and the calibration of the intervals."""
    comparisons = [compare(outcomes, quantity) for quantity in goals.shown]
    rows = -(-(len(comparisons) + 1) // 2)
    figure, grid = figure_with_axes(9.5, 4.25 * rows, rows, 2)
    panels = list(grid.flat)
    for axes, c in zip(panels, comparisons, strict=False):
        _draw_comparison(axes, c)
    for axes in panels[len(comparisons) + 1 :]:
        axes.set_axis_off()
    axes = panels[len(comparisons)]
    covered = coverage(comparisons, LEVELS)
    axes.plot([0, 1], [0, 1], color=FAILED_COLOUR, lw=1)
    if np.isfinite(covered).any():
        axes.plot(LEVELS, covered, "o-", color=HIGH_COLOUR, ms=4)
        axes.text(0.05, 0.9, "too cautious", color=FAILED_COLOUR, fontsize=9)
        axes.text(0.65, 0.07, "too confident", color=FAILED_COLOUR, fontsize=9)
    else:
        _say_nothing(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("nominal probability of the predicted interval", fontsize=9)
    axes.set_ylabel("fraction of measured values inside", fontsize=9)
    axes.set_title(f"calibration, {', '.join(q.heading for q in goals.shown)}", fontsize=9, loc="left")
    return figure


def _draw_comparison(axes: Axes, c: Comparison) -> None:
    axes.set_xlabel(f"predicted {c.quantity.label}, ± 1 s.d.", fontsize=9)
    axes.set_ylabel("measured, ± 1 s.d. over cells", fontsize=9)
    if not len(c.measured):
        _say_nothing(axes)
        return
    bars: dict[str, Any] = {"elinewidth": 0.8 if len(c.measured) <= 400 else 0.3, "alpha": 0.85, "fmt": "none"}
    axes.errorbar(c.predicted, c.measured, xerr=c.predicted_std, ecolor=PREDICTED_COLOUR, **bars)
    axes.errorbar(c.predicted, c.measured, yerr=np.nan_to_num(c.measured_std), ecolor=MEASURED_COLOUR, **bars)
    axes.plot(c.predicted, c.measured, "o", color=MEASURED_COLOUR, ms=0.5 * marker_size(len(c.measured)))
    both = np.concatenate([c.predicted - c.predicted_std, c.predicted + c.predicted_std, c.measured])
    margin = 0.08 * max(float(np.ptp(both)), 1e-3 + 0.1 * abs(float(both.max())))
    ends = [float(both.min()) - margin, float(both.max()) + margin]
    axes.plot(ends, ends, color=FAILED_COLOUR, lw=1, zorder=0)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    unit = f" {c.quantity.unit}" if c.quantity.unit else ""
    digits = c.quantity.digits + (not unit)
    axes.set_title(
        f"n = {len(c.measured)}, mean error {c.mean_absolute_error:.{digits}f}{unit}, "
        f"{c.within(1)} within ± 1 s.d. (68 % expected)",
        fontsize=9,
        loc="left",
    )


def plot_pareto(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """The first objective against what it is traded for; the front of what is measured."""
    figure, axes = figure_with_axes(7, 5)
    known = trade_off(outcomes, goals)
    points, size = known.measured_points, 0.65 * marker_size(len(outcomes))
    for where, spreads, colour, face, label in (
        (known.waiting_points, known.waiting_spreads, PREDICTED_COLOUR, "white", "predicted ± s.d., not measured yet"),
        (points, known.measured_spreads, MEASURED_COLOUR, MEASURED_COLOUR, "measured ± s.d."),
    ):
        if len(where) <= BARS_AT_MOST:
            across, along = np.nan_to_num(spreads).T
            axes.errorbar(*where.T, along, across, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35, zorder=1)
        axes.plot(*where.T, "o", mfc=face, mec=colour, ms=size, label=label, zorder=2)
    if len(points):
        front, corner = known.front, known.corner(bars=len(outcomes) <= BARS_AT_MOST)
        axes.plot(*known.border(corner).T, color=FRONT_COLOUR, lw=1.6, label="front of the measured")
        axes.plot(*points[front].T, "o", mfc="none", mec=FRONT_COLOUR, ms=11, mew=1.6)
        axes.set_xlim(**{"left" if known.signs[0] > 0 else "right": corner[0]})
        axes.set_ylim(**{"bottom" if known.signs[1] > 0 else "top": corner[1]})
        for i in front if len(front) <= 8 else ():
            name = known.measured[i].proposal.proposal_id
            axes.annotate(name, points[i], xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel(known.axes[0].label)
    axes.set_ylabel(known.axes[1].label)
    _legend_above(axes, columns=3)
    return figure


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
            colour = _rate_colour(profile.conditions.current_ma_g, rates)
            mean, std = profile.capacity_mah_g_mean, profile.capacity_mah_g_std
            axes.fill_betweenx(profile.voltage_v, np.maximum(mean - std, 0), mean + std, color=colour, alpha=0.18, lw=0)
            axes.plot(mean, profile.voltage_v, "--", color=colour, lw=1.2)
        for each in measured.get(name, ()):
            if each.profile is None or each.measurement.conditions.cycle != 1:
                continue
            colour = _rate_colour(each.measurement.conditions.current_ma_g, rates)
            axes.plot(each.profile.capacity_mah_g, each.profile.voltage_v, "-", color=colour, lw=1.8)
        axes.set_title(
            f"{name}, {STATE_WORDS[outcome.proposal.state]}\n{mathtext(outcome.proposal.composition)}",
            fontsize=8,
            loc="left",
        )
        axes.tick_params(labelsize=8)
    panels[0].set_xlim(left=0)
    figure.supxlabel("capacity (mAh/g)", fontsize=10)
    figure.supylabel("voltage (V)", fontsize=10)
    _rate_legend(figure, rates)
    return figure


def plot_map(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """What was tried, laid out by composition; colour is the first objective."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, axes = figure_with_axes(7.5, 5.6)
    plane = composition_map([o.proposal.composition for o in outcomes])
    values = np.array([e.mean if (e := o.known(goals.first)) else np.nan for o in outcomes])
    known = np.isfinite(values)
    norm = Normalize(values[known].min(), values[known].max()) if known.any() else Normalize(0, 1)
    failed = np.array([o.dropped for o in outcomes])
    is_measured = np.array([o.leading is not None for o in outcomes])
    x, y = plane.positions.T
    kinds = {
        "predicted": (
            ~is_measured & ~failed & known,
            {"marker": "o", "s": 0.6 * marker_size(len(outcomes)) ** 2, "linewidths": 1.5},
        ),
        "measured": (is_measured, {"marker": "o", "s": 0.7 * marker_size(len(outcomes)) ** 2, "linewidths": 0.7}),
    }
    colours = colormaps[COLOUR_MAP](norm(values))
    for label, (where, style) in kinds.items():
        face = "none" if label == "predicted" else colours[where]
        edge = colours[where] if label == "predicted" else "#222222"
        if where.any():
            axes.scatter(x[where], y[where], facecolors=face, edgecolors=edge, label=label, **style)
    if failed.any():
        axes.scatter(
            x[failed],
            y[failed],
            marker="x",
            color=FAILED_COLOUR,
            s=0.5 * marker_size(len(outcomes)) ** 2,
            label="failed or abandoned",
        )
    _draw_loadings(axes, plane.elements, plane.loadings, plane.positions)
    axes.set_xlabel(f"first principal component of the amounts ({plane.explained[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({plane.explained[1]:.0%})")
    bar = figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=axes, fraction=0.045, pad=0.02)
    bar.set_label(goals.first.label)
    _legend_above(axes, columns=3)
    return figure


def plot_lineage(models: Sequence[ModelRecord]) -> Figure:
    """Error of every model on held-out measurements, before and after it learned."""
    figure, axes = figure_with_axes(7, 3.6)
    for model in models:
        errors = held_out_errors(model)
        if errors is None:
            continue
        before, after = errors
        colour = LOW_COLOUR if model.accepted else FAILED_COLOUR
        axes.annotate(
            "",
            (model.number, after),
            (model.number, before),
            arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2},
        )
        axes.plot(model.number, before, "o", mfc="white", mec=colour)
        axes.plot(model.number, after, "o", color=colour)
    axes.set_xticks([m.number for m in models][:: max(1, len(models) // 15)])
    axes.set_xticklabels([m.name for m in models][:: max(1, len(models) // 15)])
    axes.set_xlabel("model")
    axes.set_ylabel("error on held-out cells (mAh/g)")
    axes.plot([], [], "o", mfc="white", mec=LOW_COLOUR, label="before learning")
    axes.plot([], [], "o", color=LOW_COLOUR, label="after, taken into use")
    axes.plot([], [], "o", color=FAILED_COLOUR, label="after, refused by the gate")
    axes.margins(y=0.2)
    axes.set_ylim(bottom=0)
    if all(held_out_errors(m) is None for m in models):
        _say_nothing(axes, "no model has learned from measurements yet")
    _legend_above(axes, columns=3)
    return figure


def held_out_errors(model: ModelRecord) -> tuple[float, float] | None:
    """Errors before and after a fine-tuning (mAh/g); None for a model that did not learn here."""
    before, after = model.metrics.get("error_before_mah_g"), model.metrics.get("error_after_mah_g")
    if before is None or after is None:
        return None
    return float(before), float(after)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    save_figure(figure, path, dpi=_DPI)
    return path


def _rate_colour(current_ma_g: float, rates: Rates) -> str:
    middle = (rates.low_current_ma_g * rates.high_current_ma_g) ** 0.5
    return LOW_COLOUR if current_ma_g < middle else HIGH_COLOUR


def places_in_rounds(outcomes: Sequence[Outcome]) -> list[float]:
    """Round numbers, the proposals of one round spread out beside each other."""
    groups: dict[int, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        groups.setdefault(outcome.proposal.round or 0, []).append(i)
    places = [0.0] * len(outcomes)
    for number, members in groups.items():
        for i, shift in zip(members, np.linspace(-0.38, 0.38, len(members) + 2)[1:-1], strict=True):
            places[i] = number + float(shift)
    return places


def _draw_loadings(axes: Axes, elements: Sequence[str], loadings: np.ndarray, positions: np.ndarray) -> None:
    lengths = np.linalg.norm(loadings, axis=1)
    reach = 0.8 * max(float(np.abs(positions).max(initial=0.0)), 1e-3) / max(float(lengths.max(initial=0.0)), 1e-9)
    for element, direction, length in zip(elements, loadings, lengths, strict=True):
        if length < 0.2 * lengths.max():
            continue
        axes.annotate("", direction * reach, (0, 0), arrowprops={"arrowstyle": "->", "color": "#999999", "lw": 1})
        tip = direction * reach * 1.08
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
        Patch(color=FAILED_COLOUR, alpha=0.4, label="± 1 s.d. over members"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8, frameon=False)


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, fontsize=8, frameon=False, borderaxespad=0.2)


def _say_nothing(axes: Axes, text: str = "nothing measured yet") -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAILED_COLOUR)


def figure_with_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, *, share: bool = False
) -> tuple[Figure, Any]:
    """Figure without pyplot, so that no state is left behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=rows * columns == 1)
    for axes in np.atleast_1d(grid).flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#EEEEEE", lw=0.7)
        axes.set_axisbelow(True)
    return figure, grid
