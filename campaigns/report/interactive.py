"""Figures of a campaign for a browser, by plotly: the same in the report and in the window that a server opens.

Every point carries the id of its proposal: under the pointer always, beside it where there is room.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from campaigns.ledger.records import MeasuredProfile, ModelRecord, PredictedProfile
from campaigns.loop.outcomes import STATE_WORDS, Outcome, compare, composition_map, coverage, trade_off
from campaigns.report.drawing import (
    CELLS_AT_MOST,
    CELLS_SPREAD,
    COLOUR_MAP,
    FAILED_COLOUR,
    FRONT_COLOUR,
    LEVELS,
    LOW_COLOUR,
    MEASURED_COLOUR,
    NAMED_AT_MOST,
    PREDICTED_COLOUR,
    WAITING,
    arrows,
    bars,
    best_line,
    best_named,
    fades,
    held_out_errors,
    marker_size,
    parity_ends,
    places_in_rounds,
    rate_colour,
)
from drxnet.composition import Composition
from drxnet.errors import UsageError
from drxnet.text import visible
from screening.estimates import Estimate
from screening.goals import Goals, Rates
from screening.quantities import Quantity

POINTS_WITH_BARS = 400
POINTS_PER_CURVE = 50

Figure = dict[str, Any]
"""A plotly figure: its traces under ``data`` and its ``layout``."""

_SOFT = {"color": FAILED_COLOUR, "size": 12}


def progress(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """First objective of every proposal by round, and the best measured so far."""
    begun = any(o.leading for o in outcomes)
    few = len(outcomes) <= NAMED_AT_MOST
    predicted = _first_objective(
        "predicted when proposed ± s.d.", outcomes, goals, lambda o: o.predicted(goals.first), few and not begun
    )
    measured = _first_objective(f"measured, {CELLS_SPREAD}", outcomes, goals, lambda o: o.leading, few)
    rounds = sorted({o.proposal.round or 0 for o in outcomes})
    traces = [*predicted, *measured, *_best_line(outcomes, goals, rounds)]
    ticks = {"tickvals": rounds} if len(rounds) <= 15 else {}
    label = "round" + (" (0: brought by the lab)" if 0 in rounds else "")
    scale = {"rangemode": "tozero"} if goals.signs[0] > 0 else {}
    return {"data": traces, "layout": _layout(label, goals.first.label, xaxis=ticks, yaxis=scale)}


def _first_objective(
    name: str,
    outcomes: Sequence[Outcome],
    goals: Goals,
    pick: Callable[[Outcome], Estimate | None],
    named: bool,
) -> list[dict[str, Any]]:
    """Marks of what is known of the first objective, hollow where it is predicted; none where nothing is."""
    places = places_in_rounds(outcomes)
    some = [(x, o, e) for x, o in zip(places, outcomes, strict=True) if (e := pick(o)) is not None]
    if not some:
        return []
    hollow = name.startswith("predicted")
    x, those, found = zip(*some, strict=True)
    means = [e.mean for e in found]
    marks = _marks(name, x, means, those, hollow=hollow, named=named)
    colour = PREDICTED_COLOUR if hollow else MEASURED_COLOUR
    marks["error_y"] = _bars(goals.first, means, [e.error or 0.0 for e in found], colour)
    marks["hovertemplate"] = f"%{{hovertext}}<br>{html.escape(goals.first.heading)} %{{y:.4g}}<extra></extra>"
    return [marks]


def _best_line(outcomes: Sequence[Outcome], goals: Goals, rounds: Sequence[int]) -> list[dict[str, Any]]:
    """The line of the best measured so far; none before anything is."""
    x, y = best_line(outcomes, rounds)
    if not x:
        return []
    name = best_named(goals)
    style = {"color": FRONT_COLOUR, "width": 2.5, "shape": "hv"}
    return [_line(x, y, FRONT_COLOUR) | {"name": name, "showlegend": True, "line": style}]


def comparisons(outcomes: Sequence[Outcome], goals: Goals) -> dict[str, Figure]:
    """Predicted against measured, ``compare-...`` for each quantity, and ``calibration`` after the first.

    Empty before anything is both predicted and measured.
    """
    found = [c for q in goals.shown if len((c := compare(outcomes, q)).measured)]
    figures: dict[str, Figure] = {}
    for c in found:
        ends = parity_ends(c)
        marks = _marks("", c.predicted, c.measured, c.outcomes, hollow=False, showlegend=False)
        marks["error_x"] = _bars(c.quantity, c.predicted, c.predicted_std, PREDICTED_COLOUR)
        marks["error_y"] = _bars(c.quantity, c.measured, c.measured_std, MEASURED_COLOUR)
        axis = {"range": _rounded(ends), "constrain": "domain"}
        figures[f"compare-{c.quantity.key(goals.rates)}"] = {
            "data": [_line(ends, ends, FAILED_COLOUR), marks],
            "layout": _layout(
                "predicted",
                "measured",
                400,
                title={"text": html.escape(c.quantity.heading), "x": 0.02, "font": {"size": 13}},
                xaxis=axis,
                yaxis={**axis, "scaleanchor": "x"},
            ),
        }
        if c is found[0]:
            figures["calibration"] = _calibration(coverage(found, LEVELS))
    return figures


def _calibration(covered: np.ndarray) -> Figure:
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": _rounded(LEVELS),
        "y": _rounded(covered),
        "line": {"color": FRONT_COLOUR},
        "showlegend": False,
        "hovertemplate": "%{x:.0%} interval holds %{y:.0%}<extra></extra>",
    }
    words = [
        {"x": 0.03, "y": 0.95, "text": "too cautious", "xanchor": "left", "showarrow": False, "font": _SOFT},
        {"x": 0.97, "y": 0.05, "text": "too confident", "xanchor": "right", "showarrow": False, "font": _SOFT},
    ]
    axis = {"range": [0, 1], "constrain": "domain"}
    layout = _layout(
        "probability of the interval",
        "measured values inside",
        400,
        title={"text": "calibration", "x": 0.02, "font": {"size": 13}},
        xaxis=axis,
        yaxis={**axis, "scaleanchor": "x"},
        annotations=words,
    )
    return {"data": [_line([0, 1], [0, 1], FAILED_COLOUR), curve], "layout": layout}


def pareto(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    """The first objective against what it is traded for; the front of what is measured."""
    known = trade_off(outcomes, goals)
    named = len(known.waiting.outcomes) + len(known.measured.outcomes) <= NAMED_AT_MOST
    traces = []
    for name, some, hollow in ((WAITING, known.waiting, True), (f"measured, {CELLS_SPREAD}", known.measured, False)):
        if not some.outcomes:
            continue
        colour = PREDICTED_COLOUR if hollow else MEASURED_COLOUR
        x, y = some.at.T
        marks = _marks(name, x, y, some.outcomes, hollow=hollow, named=named)
        for key, quantity, means, spreads in zip("xy", known.axes, some.at.T, some.spreads.T, strict=True):
            marks[f"error_{key}"] = _bars(quantity, means, spreads, colour)
        traces.append(marks)
    if known.measured.outcomes:
        if not named:  # those on the front carry their ids at any number
            traces[-1]["mode"] = "markers+text"
            front = set(known.front.tolist())
            traces[-1]["text"] = [name if i in front else "" for i, name in enumerate(traces[-1]["text"])]
        x, y = known.border(known.corner(bars=False)).T
        traces.append({**_line(x, y, FRONT_COLOUR), "name": "front of the measured", "showlegend": True})
    return {"data": traces, "layout": _layout(known.axes[0].label, known.axes[1].label, height=460)}


def fade(outcomes: Sequence[Outcome], rates: Rates) -> Figure | None:
    """Capacity of the best cells over their measured cycles; None where no cell was cycled on."""
    found = fades(outcomes)
    if not found:
        return None
    traces: list[dict[str, Any]] = []
    for cell in found[:CELLS_AT_MOST]:
        name, current = cell.outcome.proposal.proposal_id, f"{cell.conditions.current_ma_g:g} mA/g"
        told = f"{_hover(cell.outcome)}<br>cell {html.escape(visible(cell.cell))}, {current}"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": current,
                "legendgroup": current,
                "showlegend": all(t["legendgroup"] != current for t in traces),
                "x": list(cell.cycles),
                "y": _rounded(cell.capacities_mah_g),
                "line": {"color": rate_colour(cell.conditions.current_ma_g, rates), "width": 1.2},
                "marker": {"size": 4},
                "customdata": [name] * len(cell.cycles),
                "hovertemplate": f"{told}<br>cycle %{{x}}: %{{y:.4g}} mAh/g<extra></extra>",
            }
        )
    few = {"dtick": 1} if max(cell.cycles[-1] for cell in found) <= 12 else {}
    layout = _layout("cycle", "measured capacity (mAh/g)", xaxis=few, yaxis={"rangemode": "tozero"})
    return {"data": traces, "layout": layout}


def composition_maps(outcomes: Sequence[Outcome], goals: Goals, elements: Sequence[str] = ()) -> dict[str, Figure]:
    """Where compositions lie: ``map``, coloured by the first objective, and ``map-spread``, by how uncertain it is.

    Args:
        outcomes: at least one.
        goals: of the campaign.
        elements: two or three that span the map; none for the principal components of all amounts.

    Raises:
        UsageError: another number of elements, or one that no composition holds.
    """
    known = [o.known(goals.first) for o in outcomes]
    place = _plane(outcomes, elements)
    unit = f" ({goals.first.unit})" if goals.first.unit else ""
    return {
        name: _map_of(outcomes, values, label, place)
        for name, values, label in (
            ("map", [None if e is None else e.mean for e in known], goals.first.heading),
            ("map-spread", [None if e is None else e.error for e in known], f"1 s.d. of it{unit}"),
        )
    }


class _Plane:
    """Where the points of a map lie, in words of plotly."""

    def __init__(self, points: np.ndarray, layout: dict[str, Any], ternary: bool = False) -> None:
        self.points, self.layout, self.ternary = points, layout, ternary

    def trace(self, some: Sequence[int]) -> dict[str, Any]:
        """The coordinates of some points."""
        names = ("a", "b", "c") if self.ternary else ("x", "y")
        columns = {n: _rounded(v) for n, v in zip(names, self.points[list(some)].T, strict=True)}
        return {"type": "scatterternary" if self.ternary else "scatter", **columns}


def _plane(outcomes: Sequence[Outcome], elements: Sequence[str]) -> _Plane:
    compositions = [o.proposal.composition for o in outcomes]
    if not elements:
        return _principal(compositions)
    parsed = [Composition.parse(c).amounts() for c in compositions]
    held = dict.fromkeys(s for amounts in parsed for s in amounts)
    if len(elements) not in (2, 3) or len(set(elements)) < len(elements) or not set(elements) <= set(held):
        raise UsageError(
            f"A map is spanned by two or three different elements of {', '.join(held)}. Got {', '.join(elements)}."
        )
    points = np.array([[amounts.get(s, 0.0) for s in elements] for amounts in parsed])
    if len(elements) == 3:
        return _triangle(points, elements)
    names = [f"{s} per formula unit" for s in elements]
    return _Plane(points, _layout(names[0], names[1], 480))


def _principal(compositions: Sequence[str]) -> _Plane:
    """The plane of the two largest principal components of all amounts."""
    plane = composition_map(compositions)
    x, y = plane.explained
    arrows = _arrows(plane.elements, plane.loadings, plane.positions)
    layout = _layout(f"first principal component ({x:.0%})", f"second ({y:.0%})", 480, annotations=arrows)
    return _Plane(plane.positions, layout)


def _triangle(points: np.ndarray, elements: Sequence[str]) -> _Plane:
    """The triangle of the shares of three elements."""
    axes = {f"{n}axis": {"title": {"text": s}, "gridcolor": "#e4e4e4"} for n, s in zip("abc", elements, strict=True)}
    layout = _layout("", "", 520, ternary={"sum": 1, "bgcolor": "#ffffff", **axes})
    layout["margin"] = {"l": 56, "r": 20, "t": 96, "b": 56}
    layout["legend"] = {**layout["legend"], "y": 1.16}
    return _Plane(points, {k: v for k, v in layout.items() if k not in ("xaxis", "yaxis")}, ternary=True)


MAP_GROUPS: Sequence[tuple[str, str, Callable[[Outcome], bool]]] = (
    ("predicted", "circle-open", lambda o: o.leading is None and not o.dropped),
    ("measured", "circle", lambda o: o.leading is not None),
    ("failed or abandoned", "x-thin-open", lambda o: o.dropped),
)
"""What a map tells apart: its name, its mark, and what belongs to it."""


def _map_of(outcomes: Sequence[Outcome], values: Sequence[float | None], label: str, place: _Plane) -> Figure:
    known = [v for v in values if v is not None] or [0.0, 1.0]
    scale = {
        "colorscale": COLOUR_MAP.capitalize(),
        "cmin": round(min(known), 4),
        "cmax": round(max(known), 4),
        "colorbar": {"title": {"text": html.escape(label), "side": "right"}, "thickness": 12},
    }
    traces: list[dict[str, Any]] = []
    for name, symbol, belongs in MAP_GROUPS:
        some = [i for i, o in enumerate(outcomes) if belongs(o)]
        if not some:
            continue
        marks = _marks(name, [], [], [outcomes[i] for i in some], hollow=True, named=len(outcomes) <= NAMED_AT_MOST)
        del marks["x"], marks["y"]
        mine = [values[i] for i in some]
        marker: dict[str, Any] = {"symbol": symbol, "size": 1.2 * marker_size(len(outcomes)), "line": {"width": 1.6}}
        if name == "failed or abandoned":
            marker["color"] = FAILED_COLOUR
        else:
            marker |= {**scale, "color": [v if v is None else _rounded(v) for v in mine]}
            marker["showscale"] = not any("showscale" in t["marker"] for t in traces)
        told = zip(marks["hovertext"], mine, strict=True)
        marks["hovertext"] = [f"{t}<br>{html.escape(label)} {'–' if v is None else f'{v:.4g}'}" for t, v in told]
        traces.append({**marks, **place.trace(some), "marker": marker, "hovertemplate": "%{hovertext}<extra></extra>"})
    return {"data": traces, "layout": place.layout}


def _arrows(elements: Sequence[str], loadings: np.ndarray, positions: np.ndarray) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for element, (x, y) in zip(elements, arrows(loadings, positions).tolist(), strict=True):
        if math.isnan(x):
            continue
        arrow = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y", "arrowhead": 2, "arrowcolor": "#aaaaaa"}
        found.append({**arrow, "x": round(x, 5), "y": round(y, 5), "ax": 0, "ay": 0, "arrowwidth": 1.2, "text": ""})
        words = {"text": f"more {element}", "showarrow": False, "font": {"size": 12, "color": "#666666"}}
        found.append({"x": round(x * 1.08, 5), "y": round(y * 1.08, 5), **words})
    return found


def lineage(models: Sequence[ModelRecord]) -> Figure | None:
    """Which model descends from which, and its error before and after it learned; None before one has learned."""
    if all(held_out_errors(m) is None for m in models):
        return None
    traces = _descent(models)
    for accepted, name, colour in ((True, "taken into use", LOW_COLOUR), (False, "refused by the gate", FAILED_COLOUR)):
        some = [m for m in models if m.accepted == accepted]
        if some:
            traces += _generation(some, name, colour, 0 if accepted else -1)
    layout = _layout(
        "",
        "error on held-out cells (mAh/g)",
        400,
        xaxis={"tickvals": [m.number for m in models], "ticktext": [m.name for m in models], "anchor": "y2"},
        yaxis={"domain": [0.34, 1], "rangemode": "tozero"},
    )
    quiet = {"showgrid": False, "zeroline": False, "showticklabels": False, "range": [-1.6, 0.8], "domain": [0, 0.22]}
    layout["yaxis2"] = {**quiet, "title": {"text": "descent", "font": {"size": 12}}}
    return {"data": traces, "layout": layout}


def _descent(models: Sequence[ModelRecord]) -> list[dict[str, Any]]:
    """Lines from each model to the one it descends from; refused ones lie below the others."""
    by_id: dict[str, ModelRecord] = {}
    lines = []
    for model in models:  # a parent stands before its children
        parent = by_id.get(model.parent or "")
        if parent is not None:
            heights = [0 if m.accepted else -1 for m in (parent, model)]
            lines.append(_line([parent.number, model.number], heights, FAILED_COLOUR) | {"yaxis": "y2"})
        if model.accepted or model.model_id not in by_id:
            by_id[model.model_id] = model
    return lines


def _generation(models: Sequence[ModelRecord], name: str, colour: str, height: int) -> list[dict[str, Any]]:
    """Nodes of some models, and arrows from their error before to that after learning."""
    learned = [(m, e) for m in models if (e := held_out_errors(m)) is not None]
    told = [f"<b>{m.name}</b> {html.escape(m.model_id)}<br>learned from {len(m.measurement_ids)}" for m in models]
    nodes = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [m.number for m in models],
        "y": [height] * len(models),
        "yaxis": "y2",
        "hovertext": told,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 12, "color": colour},
    }
    arrows = []
    for model, (before, after) in learned:
        told_error = f"<b>{model.name}</b> {before:.1f} → {after:.1f} mAh/g"
        arrows.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [model.number] * 2,
                "y": _rounded([before, after]),
                "line": {"color": colour, "width": 2},
                "marker": {"size": [8, 10], "symbol": ["circle-open", "circle"], "color": colour, "line": {"width": 2}},
                "hovertext": [told_error] * 2,
                "hovertemplate": "%{hovertext}<extra></extra>",
                "showlegend": False,
            }
        )
    return [nodes, *arrows]


def viewer(
    outcomes: Sequence[Outcome],
    goals: Goals,
    predicted: Mapping[str, Sequence[PredictedProfile]],
    measured: Mapping[str, Sequence[MeasuredProfile]],
) -> dict[str, Any]:
    """Profiles of every proposal, one to be shown at a time."""
    entries = []
    for outcome in outcomes:
        name, formula = outcome.proposal.proposal_id, outcome.proposal.composition
        entries.append(
            {
                "id": name,
                "round": outcome.proposal.round or 0,
                "label": f"{name}  {formula}  ({status_of(outcome)})",
                "title": f"{html.escape(name)} {subscripts(formula)}, {status_of(outcome)}",
                "predicted": [
                    {
                        **curve(p.voltage_v, p.capacity_mah_g_mean, p.capacity_mah_g_std),
                        "colour": rate_colour(p.conditions.current_ma_g, goals.rates),
                        "label": f"{p.conditions.current_ma_g:g} mA/g",
                    }
                    for p in predicted.get(name, ())
                ],
                "measured": [
                    {
                        **curve(each.profile.voltage_v, each.profile.capacity_mah_g),
                        "colour": rate_colour(each.measurement.conditions.current_ma_g, goals.rates),
                        "label": f"{each.measurement.conditions.current_ma_g:g} mA/g, "
                        f"{html.escape(visible(each.measurement.cell))}",
                    }
                    for each in measured.get(name, ())
                    if each.profile is not None and each.measurement.conditions.cycle == 1
                ],
            }
        )
    order = [(bool(o.leading), not o.missed, o.merit) for o in outcomes]
    best = max(range(len(order)), key=order.__getitem__, default=0)
    layout = _layout("capacity (mAh/g)", "voltage (V)", 520, xaxis={"rangemode": "tozero"})
    return {"entries": entries, "first": best, "layout": layout}


def curve(voltage: np.ndarray, capacity: np.ndarray, spread: np.ndarray | None = None) -> dict[str, Any]:
    """Capacity on an even grid between the ends of a profile, rounded: that is what makes 10,000 of them fit."""
    grid = np.linspace(voltage[0], voltage[-1], POINTS_PER_CURVE)
    found: dict[str, Any] = {"v": [round(float(voltage[0]), 4), round(float(voltage[-1]), 4)]}
    found["q"] = np.interp(grid, voltage, capacity).round(1).tolist()
    if spread is not None:
        found["s"] = np.interp(grid, voltage, spread).round(1).tolist()
    return found


# -- words -----------------------------------------------------------------------------------------------


def status_of(outcome: Outcome) -> str:
    """Where a proposal stands, as HTML."""
    if outcome.leading and not outcome.missing:
        count = outcome.leading.count
        told = "measured" if count == 1 else f"measured, {count} cells"
        return f"{told}, misses a constraint" if outcome.missed else told
    if outcome.half_measured:
        return f"{html.escape(', '.join(outcome.missing))} missing"
    return STATE_WORDS[outcome.proposal.state]


def subscripts(formula: str) -> str:
    """Formula as HTML."""
    return re.sub(r"(\d+\.?\d*)", r"<sub>\1</sub>", html.escape(formula))


def _hover(outcome: Outcome) -> str:
    name, composition = html.escape(outcome.proposal.proposal_id), html.escape(outcome.proposal.composition)
    return f"<b>{name}</b> {composition}, {status_of(outcome)}"


# -- plotly ----------------------------------------------------------------------------------------------


def _layout(x: str, y: str, height: int = 420, **more: Any) -> dict[str, Any]:
    axis = {"gridcolor": "#eeeeee", "zerolinecolor": "#dddddd", "ticks": "outside", "tickcolor": "#bbbbbb"}
    return {
        "height": height,
        "margin": {"l": 64, "r": 20, "t": 44, "b": 56},
        "font": {"family": "system-ui, Segoe UI, Roboto, Liberation Sans, sans-serif", "size": 13, "color": "#1c1c1c"},
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {**axis, "automargin": True, "title": {"text": x}, **more.pop("xaxis", {})},
        "yaxis": {**axis, "automargin": True, "title": {"text": y}, **more.pop("yaxis", {})},
        **more,
    }


def _marks(
    name: str,
    x: Any,
    y: Any,
    outcomes: Sequence[Outcome],
    *,
    hollow: bool,
    named: bool | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Marks of outcomes; with their ids beside them where there are few or it is asked for."""
    colour = PREDICTED_COLOUR if hollow else MEASURED_COLOUR
    named = len(outcomes) <= NAMED_AT_MOST if named is None else named
    ids = [o.proposal.proposal_id for o in outcomes]
    return {
        "type": "scatter",
        "mode": "markers+text" if named else "markers",
        "name": name,
        "x": _rounded(x),
        "y": _rounded(y),
        "text": ids,
        "textposition": "top right",
        "textfont": {"size": 10, "color": "#555555"},
        "cliponaxis": not named,
        "customdata": ids,
        "hovertext": [_hover(o) for o in outcomes],
        "hovertemplate": "%{hovertext}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        "marker": {
            "symbol": "circle-open" if hollow else "circle",
            "size": marker_size(len(outcomes)),
            "color": colour,
            "line": {"width": 1.8 if len(outcomes) <= POINTS_WITH_BARS else 1},
        },
        **more,
    }


def _bars(quantity: Quantity, means: Any, spreads: Any, colour: str) -> dict[str, Any]:
    """Error bars, cut where the quantity ends; none where there would be too many to see anything."""
    if len(means) > POINTS_WITH_BARS:
        return {"visible": False}
    below, above = bars(quantity, means, spreads)
    lengths = {"symmetric": False, "array": _rounded(above), "arrayminus": _rounded(below)}
    return {"type": "data", **lengths, "color": colour, "thickness": 1}


def _line(x: Any, y: Any, colour: str) -> dict[str, Any]:
    style = {"mode": "lines", "line": {"color": colour, "width": 1.6}, "hoverinfo": "skip", "showlegend": False}
    return {"type": "scatter", "x": _rounded(x), "y": _rounded(y), **style}


def _rounded(values: Any) -> Any:
    """Five significant digits: a page of thousands of points stays small."""
    if isinstance(values, float | int):
        return float(f"{values:.5g}")
    return [float(f"{value:.5g}") for value in values]
