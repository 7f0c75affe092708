"""Figures of predictions: profiles with the ensemble's band, dQ/dV, cycle fade, capacity maps."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drxnet.composition import LEAST_METAL, Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble, mean_and_spread
from drxnet.errors import UsageError
from drxnet.files import WITH_HTML, check_figure_path, replace_file, save_figure
from drxnet.prediction import PredictedDischarge, fade
from drxnet.style import COLOURS, new_figure, styled
from drxnet.uncertainty import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from drxnet.uncertainty import Calibration, Label

_FADE_CYCLES = 20

COMMON_STATES = {
    "Mg": 2, "Al": 3, "Ti": 4, "V": 3, "Cr": 3, "Mn": 3, "Fe": 3, "Co": 2, "Ni": 2, "Zr": 4, "Nb": 5, "Mo": 6, "W": 6,
}  # fmt: skip
"""Oxidation states of metals that are held fixed in a map, as synthesised."""

STATE_RANGES = {"Ti": (3, 4), "V": (3, 5), "Cr": (3, 6), "Mn": (2, 4), "Fe": (2, 3), "Co": (2, 4), "Ni": (2, 4)}
"""Oxidation states between which the balancing metal of a map may lie."""


@styled
def plot_predictions(ensemble: Ensemble, predictions: Sequence[PredictedDischarge], path: Path) -> None:
    """Draw profiles, dQ/dV and cycle fade of each composition, one row of panels per composition.

    Args:
        ensemble: who predicted; asked again for dQ/dV and for later cycles.
        predictions: any number of conditions for each composition.
        path: ``.png``, ``.svg``, ``.pdf``, or ``.html`` for an interactive page without network access.
    """
    check_figure_path(path, WITH_HTML)
    if path.suffix.lower() == ".html":
        replace_file(path, _interactive(predictions, ensemble).encode())
        return
    compositions = list(dict.fromkeys(p.composition for p in predictions))
    figure = new_figure(13.5, 4.2 * len(compositions))
    for axes, composition in zip(figure.subplots(len(compositions), 3, squeeze=False), compositions, strict=True):
        mine = [p for p in predictions if p.composition == composition]
        _draw_profiles(axes[0], mine)
        _draw_dqdv(axes[1], ensemble, mine)
        _draw_fade(axes[2], ensemble, mine)
        axes[0].set_title(_subscripts(composition), fontsize=10, loc="left")
        axes[1].set_title("band: ± 1 s.d. over members (ddof 0)", fontsize=8, loc="left", color="0.35")
        if any(p.interval for p in mine):
            axes[0].annotate(
                f"bar: {WORDS}", (0, -0.2), xycoords="axes fraction", fontsize=8, color="0.35", annotation_clip=False
            )
        axes[2].set_title(f"model {ensemble.card.name}", fontsize=8, loc="right", color="0.35", parse_math=False)
    save_figure(figure, path, dpi=150)


def _subscripts(composition: Composition) -> str:
    return "".join(f"{s}$_{{{a:g}}}$" if a != 1 else s for s, a in composition.amounts().items())


def _label(prediction: PredictedDischarge, all_of_it: Sequence[PredictedDischarge]) -> str:
    c = prediction.conditions
    parts = [f"{c.current_ma_g:g} mA/g"]
    if len({p.conditions.cycle for p in all_of_it}) > 1:
        parts.append(f"cycle {c.cycle}")
    if len({p.conditions.window for p in all_of_it}) > 1:
        parts.append(f"{c.v_low:g}-{c.v_high:g} V")
    return ", ".join(parts)


def _draw_profiles(axes: Axes, predictions: Sequence[PredictedDischarge]) -> None:
    for i, p in enumerate(predictions):
        mean, spread = p.capacity_mah_g_members.mean(0), p.capacity_mah_g_members.std(0)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(mean, p.voltage_v, color=colour, label=_label(p, predictions))
        axes.fill_betweenx(p.voltage_v, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
        if p.interval is not None:  # below the end of the profile, one under the other
            ends, at = (p.interval.lower_mah_g, p.interval.upper_mah_g), p.conditions.v_low - 0.09 * (i + 1)
            axes.plot(ends, (at, at), color=colour, linewidth=2, marker="|", markersize=7)
    axes.set(xlabel="Capacity (mAh/g)", ylabel="Voltage (V vs Li/Li$^+$)", xlim=(0, None))
    axes.legend(frameon=False, fontsize=8)


def _draw_dqdv(axes: Axes, ensemble: Ensemble, predictions: Sequence[PredictedDischarge]) -> None:
    for i, p in enumerate(predictions):
        slope = ensemble.predict_dqdv([p.composition], p.conditions, p.voltage_v)[:, 0]
        mean, spread = mean_and_spread(slope)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(p.voltage_v, -mean, color=colour)
        axes.fill_between(p.voltage_v, -mean - spread, -mean + spread, color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel="Voltage (V vs Li/Li$^+$)", ylabel="-dQ/dV (mAh/g/V)", ylim=(0, None))


def _draw_fade(axes: Axes, ensemble: Ensemble, predictions: Sequence[PredictedDischarge]) -> None:
    from matplotlib.ticker import MaxNLocator

    for colour, cycles, mean, spread in _fades(ensemble, predictions):
        axes.plot(cycles, mean, color=colour, marker=".", markersize=4)
        axes.fill_between(cycles, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel="Cycle number", ylabel="Discharge capacity (mAh/g)", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _fades(
    ensemble: Ensemble, predictions: Sequence[PredictedDischarge]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Colour, cycles, mean and spread of the capacity for each current and window."""
    last = max(_FADE_CYCLES, *(p.conditions.cycle for p in predictions))
    cycles = np.unique(np.linspace(1, last, min(last, 40)).astype(int))
    seen: set[tuple[Composition, float, tuple[float, float]]] = set()
    for i, p in enumerate(predictions):
        key = (p.composition, p.conditions.current_ma_g, p.conditions.window)
        if key in seen:
            continue
        seen.add(key)
        mean, spread = fade(ensemble, p.composition, p.conditions, cycles.tolist())
        yield COLOURS[i % len(COLOURS)], cycles, mean, spread


def _interactive(predictions: Sequence[PredictedDischarge], ensemble: Ensemble) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure: Any = make_subplots(1, 3, horizontal_spacing=0.07)

    def curve(column: int, x: np.ndarray, y: np.ndarray, colour: str, name: str | None = None) -> None:
        line = go.Scatter(x=x, y=y, name=name, showlegend=name is not None, line={"color": colour}, mode="lines")
        figure.add_trace(line, 1, column)

    def band(column: int, x: np.ndarray, y: np.ndarray, colour: str) -> None:
        area = go.Scatter(
            x=x, y=y, fill="toself", fillcolor=colour, opacity=0.18, line={"width": 0}, mode="lines", hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
        figure.add_trace(area, 1, column)

    for i, p in enumerate(predictions):
        colour = COLOURS[i % len(COLOURS)]
        mean, spread = p.capacity_mah_g_members.mean(0), p.capacity_mah_g_members.std(0)
        band(1, _there_and_back(mean - spread, mean + spread), _there_and_back(p.voltage_v, p.voltage_v), colour)
        curve(1, mean, p.voltage_v, colour, f"{p.composition}, {_label(p, predictions)}")
        if p.interval is not None:
            ends = np.array([p.interval.lower_mah_g, p.interval.upper_mah_g])
            curve(1, ends, np.full(2, p.conditions.v_low - 0.09 * (i + 1)), colour)
        slope, deviation = mean_and_spread(ensemble.predict_dqdv([p.composition], p.conditions, p.voltage_v)[:, 0])
        band(
            2, _there_and_back(p.voltage_v, p.voltage_v), -_there_and_back(slope - deviation, slope + deviation), colour
        )
        curve(2, p.voltage_v, -slope, colour)
    for colour, cycles, mean, spread in _fades(ensemble, predictions):
        band(3, _there_and_back(cycles, cycles), _there_and_back(mean - spread, mean + spread), colour)
        curve(3, cycles, mean, colour)
    titles = [
        ("Capacity (mAh/g)", "Voltage (V vs Li/Li+)"),
        ("Voltage (V vs Li/Li+)", "-dQ/dV (mAh/g/V)"),
        ("Cycle number", "Discharge capacity (mAh/g)"),
    ]
    for column, (x, y) in enumerate(titles, start=1):
        figure.update_xaxes(title_text=x, row=1, col=column)
        figure.update_yaxes(title_text=y, row=1, col=column)
    figure.update_layout(
        template="plotly_white",
        title=f"Predicted discharge profiles, model {html.escape(ensemble.card.name)}; "
        "band: ± 1 s.d. over members (ddof 0)"
        + (f"<br>bar below a profile: {WORDS}" if any(p.interval for p in predictions) else ""),
        legend={"orientation": "h", "y": -0.2},
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def _there_and_back(outward: np.ndarray, homeward: np.ndarray) -> np.ndarray:
    """Outline of a band: along one edge and back along the other."""
    return np.concatenate([outward, homeward[::-1]])


@dataclass(frozen=True, eq=False)
class CapacityMap:
    """Capacity over two amounts, a metal balancing sites and its valence balancing charge."""

    x_symbol: str
    y_symbol: str
    balance: str
    x: np.ndarray
    y: np.ndarray
    valence: np.ndarray
    """Oxidation state of the balancing metal, ``y x x``; NaN where there is none of it."""

    capacity_mah_g: np.ndarray
    """Ensemble mean, ``conditions x y x x``; NaN where no neutral composition exists."""

    spread_mah_g: np.ndarray
    """Population standard deviation over members, likewise."""

    conditions: tuple[CyclingConditions, ...]

    interval_mah_g: np.ndarray | None = None
    """Lower and upper ends of the calibrated interval, ``2 x conditions x y x x``; None where it was not asked for."""

    domain: dict[tuple[int, int], Label] | None = None
    """Domain label of each point that has a composition, by its place along y and x."""

    def rows(self) -> list[dict[str, Any]]:
        """List every point with a composition as a row."""
        rows = []
        for c, conditions in enumerate(self.conditions):
            for i, y in enumerate(self.y):
                for j, x in enumerate(self.x):
                    if np.isfinite(self.capacity_mah_g[c, i, j]):
                        rows.append(
                            {
                                self.x_symbol: float(x),
                                self.y_symbol: float(y),
                                f"{self.balance}_valence": float(self.valence[i, j]),
                                "current_ma_g": conditions.current_ma_g,
                                "cycle": conditions.cycle,
                                "capacity_mah_g_mean": float(self.capacity_mah_g[c, i, j]),
                                "capacity_mah_g_std": float(self.spread_mah_g[c, i, j]),
                                **self._calibrated(c, i, j),
                            }
                        )
        return rows

    def _calibrated(self, c: int, i: int, j: int) -> dict[str, Any]:
        if self.interval_mah_g is None or self.domain is None:
            return {}
        lower, upper = self.interval_mah_g[:, c, i, j].tolist()
        return {"capacity_mah_g_lower": lower, "capacity_mah_g_upper": upper, "domain": self.domain[i, j]}


def capacity_map(
    ensemble: Ensemble,
    conditions: Sequence[CyclingConditions],
    *,
    x: str = "Li",
    y: str = "F",
    balance: str = "Mn",
    x_range: tuple[float, float] = (1.05, 1.35),
    y_range: tuple[float, float] = (0.0, 0.7),
    fixed: dict[str, float] | None = None,
    points: int = 41,
    calibration: Calibration | None = None,
) -> CapacityMap:
    """Map capacity over two amounts, as figure 4 of Zhong et al., Joule 8 (2024), does for Li and F in Li-Mn-O-F.

    Args:
        ensemble: who predicts.
        conditions: one map for each.
        x: element along x: Li, F or a metal.
        y: element along y.
        balance: metal that fills the remaining cation sites; its valence follows from the charge.
        x_range: amounts per formula unit.
        y_range: likewise.
        fixed: amounts of other elements; Li 1.2 and F 0 where they are not an axis and not given.
        points: grid points along each axis.
        calibration: of the ensemble, for intervals and domain labels.

    Raises:
        UsageError: an element twice, or one whose oxidation state is not tabulated.
    """
    fixed = fixed or {}
    _check_elements(x, y, balance, fixed)
    xs, ys = np.linspace(*x_range, points), np.linspace(*y_range, points)
    amounts, exists, valence = _balanced(dict(zip((x, y), np.meshgrid(xs, ys), strict=True)), balance, fixed)
    encoded = ensemble.encode(amounts)
    members = ensemble.capacity(encoded, list(conditions))
    mean, spread = mean_and_spread(members)
    maps = np.full((4, len(conditions), *exists.shape), np.nan)
    maps[0][:, exists], maps[1][:, exists] = mean.T, spread.T
    domain: dict[tuple[int, int], Label] | None = None
    if calibration is not None:
        made = amounts.compositions()
        for c, at in enumerate(conditions):
            labels, maps[2, c, exists], maps[3, c, exists] = calibration.intervals(
                encoded.features, members[:, :, c].cpu().double().numpy(), made, [at] * len(made)
            )
        domain = {(int(i), int(j)): label for (i, j), label in zip(np.argwhere(exists), labels, strict=True)}
    interval = None if domain is None else maps[2:]
    return CapacityMap(x, y, balance, xs, ys, valence, maps[0], maps[1], tuple(conditions), interval, domain)


def _check_elements(x: str, y: str, balance: str, fixed: Mapping[str, float]) -> None:
    elements = ("Li", "F", *COMMON_STATES)
    if balance not in STATE_RANGES:
        raise UsageError(f"The balancing metal must be one of {', '.join(STATE_RANGES)}. Got {balance}.")
    if len({x, y, balance}) < 3 or not {x, y} <= set(elements):
        raise UsageError(
            f"--x, --y and --balance must be three different elements of the model. Got {x}, {y}, {balance}."
        )
    if unknown := [s for s in fixed if s not in elements or s in (x, y, balance)]:
        raise UsageError(f"--fix takes elements of the model that are no axis. Got {', '.join(unknown)}.")


def _balanced(
    axes: Mapping[str, np.ndarray], balance: str, fixed: Mapping[str, float]
) -> tuple[Amounts, np.ndarray, np.ndarray]:
    """Fill the remaining cation sites of a grid with the balancing metal.

    Args:
        axes: amounts of the elements of the axes, ``rows x columns`` each.
        balance: metal that fills the sites.
        fixed: amounts of others.

    Returns:
        The neutral compositions, in the order of the grid; where these are, and the valence of the balancing metal
        there, NaN elsewhere, both ``rows x columns``.
    """
    shape = next(iter(axes.values())).shape
    amounts = {s: np.full(shape, a) for s, a in {"Li": 1.2, "F": 0.0, **fixed}.items()} | dict(axes)
    fluorine = amounts.pop("F")
    charge = 4 - fluorine - amounts["Li"] - sum(COMMON_STATES[s] * a for s, a in amounts.items() if s != "Li")
    amounts[balance] = rest = 2 - np.sum(list(amounts.values()), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        valence = np.where(rest > 1e-9, charge / rest, np.nan)
    low, high = STATE_RANGES[balance]
    exists = (valence >= low - 1e-9) & (valence <= high + 1e-9) & (rest > 1e-9)
    for amount in (*amounts.values(), fluorine):
        exists &= amount >= -1e-9
    for amount in (a for s, a in amounts.items() if s != "Li"):  # a trace is nothing that the model knows
        exists &= (amount <= 1e-9) | (amount >= LEAST_METAL - 1e-9)
    if not exists.any():
        raise UsageError(f"No neutral composition in this map: {balance} would need a state outside {low}+ to {high}+.")
    cations = np.stack([amount[exists] for amount in amounts.values()], 1).clip(0)
    there = Amounts(tuple(amounts), torch.from_numpy(cations), torch.from_numpy(fluorine[exists]))
    return there, exists, np.where(exists, valence, np.nan)


def _typical_interval(capacity: CapacityMap) -> str:
    if capacity.interval_mah_g is None:
        return ""
    below, above = (np.nanmedian(np.abs(end - capacity.capacity_mah_g)) for end in capacity.interval_mah_g)
    return f"\n{WORDS}: typically from {below:.0f} below to {above:.0f} mAh/g above the mean"


@dataclass(frozen=True)
class MeasuredPoint:
    """A composition in the plane of a map that was measured under one of its conditions."""

    x: float
    y: float
    capacity_mah_g: float
    conditions: CyclingConditions
    name: str
    """Such as the id of its proposal."""


@styled
def plot_map(
    capacity: CapacityMap,
    path: Path,
    *,
    model: str,
    stars: Sequence[tuple[float, float]] = (),
    measured: Sequence[MeasuredPoint] = (),
) -> None:
    """Draw a capacity map: one panel per condition, contours of the balancing metal's valence.

    Below each panel stands how uncertain it is, where the map has a calibrated interval.

    Args:
        capacity: of :func:`capacity_map`.
        path: ``.png``, ``.svg`` or ``.pdf``.
        model: its name, for the caption.
        stars: points to mark, such as compositions that have been made.
        measured: what cells gave, drawn over the panel of its conditions in the same colours.
    """
    check_figure_path(path)
    rows = [("Discharge capacity, ensemble mean (mAh/g)", "viridis", capacity.capacity_mah_g)]
    if capacity.interval_mah_g is not None:
        lower, upper = capacity.interval_mah_g
        rows.append(("Width of the 80 % interval of one cell (mAh/g)", "magma", upper - lower))
    figure = new_figure(5.2 * len(capacity.conditions) + 1, 4.6 * len(rows))
    grid = figure.subplots(len(rows), len(capacity.conditions), squeeze=False)
    for panels, (label, colours, fields) in zip(grid, rows, strict=True):
        for axes, field, conditions in zip(panels, fields, capacity.conditions, strict=True):
            picture = _draw_field(axes, capacity, field, (np.nanmin(fields), np.nanmax(fields)), colours)
            axes.set_title(f"cycle {conditions.cycle}, {conditions.current_ma_g:g} mA/g")
            _draw_stars(axes, capacity, stars)
            here = [p for p in measured if p.conditions == conditions]
            _draw_measured(axes, here, picture if fields is capacity.capacity_mah_g else None)
        figure.colorbar(picture, ax=list(panels)).set_label(label)
    note = "; dots: measured, by the same colours" if measured else ""
    figure.suptitle(
        f"model {model}; grey: no neutral composition{note}{_typical_interval(capacity)}",
        fontsize=8,
        color="0.35",
        x=0.01,
        ha="left",
        parse_math=False,
    )
    save_figure(figure, path, dpi=150)


def _draw_field(
    axes: Axes, capacity: CapacityMap, field: np.ndarray, ends: tuple[float, float], colours: str
) -> ScalarMappable:
    low, high = ends
    picture = axes.pcolormesh(capacity.x, capacity.y, field, vmin=low, vmax=high, cmap=colours, shading="nearest")
    lines = axes.contour(capacity.x, capacity.y, capacity.valence, colors="white", linewidths=0.8)
    axes.clabel(lines, fmt=f"{capacity.balance} %.3g+", fontsize=7)
    axes.set(xlabel=f"{capacity.x_symbol} per formula unit", ylabel=f"{capacity.y_symbol} per formula unit")
    axes.set_facecolor("0.92")
    return picture


def _draw_stars(axes: Axes, capacity: CapacityMap, stars: Sequence[tuple[float, float]]) -> None:
    if stars:
        style: dict[str, Any] = {"color": "#0072B2", "markeredgecolor": "white", "markersize": 14, "clip_on": False}
        axes.plot(*zip(*stars, strict=True), "*", **style)
        axes.set(xlim=(capacity.x[0], capacity.x[-1]), ylim=(capacity.y[0], capacity.y[-1]))


def _draw_measured(axes: Axes, points: Sequence[MeasuredPoint], colours: ScalarMappable | None) -> None:
    """Draw measured points, filled by their capacity where the panel shows capacities, with their names."""
    for p in points:
        face = "none" if colours is None else colours.to_rgba(np.array([p.capacity_mah_g]))[0]
        axes.plot(p.x, p.y, "o", markerfacecolor=face, markeredgecolor="white", markeredgewidth=1.6, markersize=9)
        axes.annotate(
            f"{p.name}, {p.capacity_mah_g:.0f}", (p.x, p.y), (7, 5), textcoords="offset points", fontsize=7,
            color="white", parse_math=False,
        )  # fmt: skip
