"""The report as one HTML file: plotly is inside, nothing is fetched, it opens from a memory stick."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.ledger.records import PENDING, MeasuredProfile, PredictedProfile, Snapshot, State
from campaigns.loop.outcomes import (
    STATE_WORDS,
    Outcome,
    axes_of,
    compare,
    composition_map,
    coverage,
    headline,
    trade_off,
)
from campaigns.report.figures import (
    COLOUR_MAP,
    FAILED_COLOUR,
    FRONT_COLOUR,
    HIGH_COLOUR,
    LEVELS,
    LOW_COLOUR,
    MEASURED_COLOUR,
    PREDICTED_COLOUR,
    best_line,
    held_out_errors,
    marker_size,
    places_in_rounds,
)
from campaigns.report.views import prospect_of_last
from drxnet.text import visible
from screening.estimates import Estimate
from screening.goals import Goals
from screening.quantities import Quantity

ROWS_IN_TABLE = 10
ROWS_WAITING = 16
MODELS_IN_TABLE = 12
POINTS_WITH_BARS = 400
POINTS_PER_CURVE = 50

Figure = dict[str, Any]
"""A plotly figure: its traces under ``data`` and its ``layout``."""


def render(
    snapshot: Snapshot,
    outcomes: Sequence[Outcome],
    goals: Goals,
    predicted: Mapping[str, Sequence[PredictedProfile]],
    measured: Mapping[str, Sequence[MeasuredProfile]],
    *,
    made: str,
) -> str:
    """Page of a campaign.

    Args:
        snapshot: the ledger.
        outcomes: of its proposals, in order.
        goals: what the campaign wants, and its two rates.
        predicted: profiles by proposal id.
        measured: measurements with profiles by proposal id.
        made: when and by what, for the foot of the page.
    """
    from plotly.offline import get_plotlyjs

    figures = (
        {
            "progress": _progress(outcomes, goals),
            **_comparisons(outcomes, goals),
            "pareto": _pareto(outcomes, goals),
            "map": _map(outcomes, goals),
        }
        if outcomes
        else {}
    )
    content = {"figures": figures, "viewer": _viewer(outcomes, goals, predicted, measured)}
    title = f"{snapshot.campaign}, {_round_name(snapshot)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_asset('report.css')}</style>",
            f"<script>{get_plotlyjs()}</script>",
            "</head><body>",
            *_body(snapshot, outcomes, goals),
            f"<footer>{html.escape(made)}</footer>",
            f'<script id="content" type="application/json">{_json(content)}</script>',
            f"<script>{_asset('report.js')}</script>",
            "</body></html>",
            "",
        ]
    )


# -- text and tables -------------------------------------------------------------------------------------


def _body(snapshot: Snapshot, outcomes: Sequence[Outcome], goals: Goals) -> list[str]:
    ranked = sorted(outcomes, key=lambda o: (o.merit, o.proposal.proposal_id), reverse=True)
    top = [o for o in ranked if o.proposal.state not in (State.FAILED, State.ABANDONED)][:ROWS_IN_TABLE]
    lines = [
        f"<h1>Campaign {html.escape(snapshot.campaign)}, {_round_name(snapshot)}</h1>",
        f'<p class="lead">{_with_subscripts(html.escape(headline(snapshot, outcomes, goals)))}</p>',
    ]
    if prospect := prospect_of_last(snapshot):
        lines.append(f'<p class="note">Before {prospect["round"]}: {html.escape(prospect["sentence"])}</p>')
    if not outcomes:
        return [*lines, *_refused(snapshot), *_lineage(snapshot)]
    lines += [
        _table(top, goals),
        f'<p class="note">{_how_to_read(snapshot, goals)}</p>',
        "<nav>"
        + "".join(
            f'<a href="#{anchor}">{text}</a>'
            for anchor, text in [
                ("s-waiting", "being made"),
                ("s-progress", "progress"),
                ("s-comparison", "predicted and measured"),
                ("s-pareto", "trade-off"),
                ("s-profiles", "profiles"),
                ("s-map", "what was tried"),
                ("s-models", "models"),
                ("s-files", "refused files"),
                ("s-all", "all proposals"),
            ]
        )
        + "</nav>",
        *_waiting(ranked, goals),
        '<h2 id="s-progress">Are we getting better?</h2>',
        '<p class="note">Each mark is one composition. Hollow: predicted when it was proposed. Filled: measured.</p>',
        '<div id="progress" class="plot"></div>',
        '<h2 id="s-comparison">Can the predictions be trusted?</h2>',
        f'<p class="note">{_trust(outcomes, goals)}</p>',
        '<div class="pair">',
        *(f'<div id="{name}" class="plot"></div>' for name in _comparison_ids(goals)),
        "</div>",
        f'<h2 id="s-pareto">{html.escape(_first_upper(f"{goals.first} against {axes_of(goals)[0]}"))}</h2>',
        '<p class="note">No measured composition lies beyond the line; those on its corners are beaten by no other in '
        "both.</p>",
        '<div id="pareto" class="plot"></div>',
        '<h2 id="s-profiles">Discharge profiles</h2>',
        '<p class="note">First discharge at both rates. Dashed with a band: predicted when proposed, ± 1 s.d. over the '
        "ensemble's members. Solid: measured, one line per cell.</p>",
        '<p><button id="earlier" type="button">&larr;</button> <select id="chooser" aria-label="proposal"></select> '
        '<button id="later" type="button">&rarr;</button></p>',
        '<div id="profiles" class="plot"></div>',
        '<h2 id="s-map">What was tried</h2>',
        '<p class="note">Compositions that are made alike lie together (principal components of the amounts). Arrows '
        "say what there is more of in their direction.</p>",
        '<div id="map" class="plot"></div>',
        *_lineage(snapshot),
        *_doubtful(snapshot),
        *_refused(snapshot),
        *_everything(ranked, goals),
    ]
    return lines


def _waiting(ranked: Sequence[Outcome], goals: Goals) -> list[str]:
    waiting = [o for o in ranked if o.proposal.state in PENDING or o.half_measured and not o.dropped]
    lines = ['<h2 id="s-waiting">What is being made</h2>']
    if not waiting:
        return [*lines, '<p class="note">Nothing waits for cells.</p>']
    latest = sorted(waiting, key=lambda o: -(o.proposal.round or 0))[:ROWS_WAITING]
    older = len(waiting) - len(latest)
    note = f'<p class="note">And {older} older ones; see all proposals.</p>' if older else ""
    return [*lines, _table(latest, goals, reasons=True), note]


def _comparison_ids(goals: Goals) -> list[str]:
    """Ids of the panels of predicted against measured, the calibration after the first."""
    first, *others = (f"compare-{q.key(goals.rates)}" for q in goals.shown)
    return [first, "calibration", *others]


def _first_upper(name: str) -> str:
    return name[0].upper() + name[1:]


def _how_to_read(snapshot: Snapshot, goals: Goals) -> str:
    rates = goals.rates
    labels = html.escape("; ".join(q.label for q in goals.shown))
    side = "above" if goals.sides[0] == "lower" else "below"
    return (
        f"{labels}; {rates.v_low:g}-{rates.v_high:g} V, first cycle unless another is named. "
        '<span class="tag measured">measured</span> rows: mean over cells ± sample standard deviation (ddof 1), or the '
        "stated uncertainty of a single cell. Predicted rows: mean ± standard deviation over the ensemble's members "
        "after calibration, as of the round they were proposed in. "
        f"{_first_upper(goals.sides[0])} bound, the order of the table: the {html.escape(goals.first.heading)} lies "
        f"{side} it with 90 % (measured: by the standard error of the mean over cells)."
        + (f" State of the ledger after round R{snapshot.as_of:02d}." if snapshot.as_of is not None else "")
    )


def _trust(outcomes: Sequence[Outcome], goals: Goals) -> str:
    quantity = goals.first
    comparison = compare(outcomes, quantity)
    n = len(comparison.measured)
    if not n:
        return f"No {html.escape(str(quantity))} is both predicted and measured yet, so there is nothing to compare."
    bias = float((comparison.measured - comparison.predicted).mean())
    direction = "higher" if bias > 0 else "lower"
    digits, unit = quantity.digits + (not quantity.unit), f" {quantity.unit}" if quantity.unit else ""
    return (
        f"Predictions are those made when the composition was proposed. Over {n} measured compositions the "
        f"{html.escape(str(quantity))} is off by {comparison.mean_absolute_error:.{digits}f}{unit} on average and "
        f"measured {abs(bias):.{digits}f}{unit} {direction} than predicted; {comparison.within(1)} of {n} lie within "
        f"± 1 s.d. (68 % expected), {comparison.within(2)} within ± 2 s.d. (95 %)."
    )


def _table(outcomes: Sequence[Outcome], goals: Goals, *, reasons: bool = False) -> str:
    """Table of proposals; with reasons, each row says why it was proposed and holds the text it is searched by."""
    first, *others = (html.escape(q.heading) for q in goals.shown)
    numbers = [first, f"{goals.sides[0]} bound", *others]
    heads = [("", "number"), ("composition", ""), ("proposal", ""), *((n, "number") for n in numbers)]
    heads += [("", ""), ("domain", "")]
    head = "".join(f'<th class="{kind}">{text}</th>' for text, kind in heads)
    rows = [_row(number, outcome, goals, reasons) for number, outcome in enumerate(outcomes, start=1)]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(number: int, outcome: Outcome, goals: Goals, reasons: bool) -> str:
    proposal, prediction = outcome.proposal, outcome.proposal.prediction
    tag = f'<span class="tag{" measured" if outcome.leading else ""}">{_status(outcome)}</span>'
    text = f"{proposal.composition} {proposal.proposal_id} {_status(outcome)}".lower()
    mark = f' data-text="{html.escape(text)}"' if reasons else ""
    why = html.escape(visible(prediction.why if prediction else proposal.reason or "brought by the lab"))
    bound = outcome.bound(goals.first)
    cells = [
        f"<td class='number{' measured' if outcome.measured(q) else ''}'>{_number(outcome.known(q), q)}</td>"
        for q in goals.shown
    ]
    cells.insert(1, f"<td class='number'>{'–' if bound is None else goals.first.shown(bound)}</td>")
    return (
        f"<tr{mark}{' class=explained' if reasons else ''}><td class='number'>{number}</td>"
        f"<td class='formula'>{_formula(proposal.composition)}</td>"
        f"<td>{html.escape(proposal.proposal_id)}</td>"
        + "".join(cells)
        + f"<td>{tag}</td><td>{html.escape(prediction.domain if prediction else 'lab')}</td>"
        + (f"</tr><tr{mark}><td></td><td class='why' colspan='{4 + len(cells)}'>{why}</td>" if reasons else "")
        + "</tr>"
    )


def _status(outcome: Outcome) -> str:
    if outcome.leading and not outcome.missing:
        count = outcome.leading.count
        return "measured" if count == 1 else f"measured, {count} cells"
    if outcome.half_measured:
        return f"{html.escape(', '.join(outcome.missing))} missing"
    return STATE_WORDS[outcome.proposal.state]


def _number(estimate: Estimate | None, quantity: Quantity) -> str:
    if estimate is None:
        return "–"
    if estimate.spread is None:
        return quantity.shown(estimate.mean)
    smallest = 10.0**-quantity.digits
    spread = quantity.shown(estimate.spread) if estimate.spread >= smallest / 2 else f"&lt;{smallest:g}"
    return f"{quantity.shown(estimate.mean)} ± {spread}"


def _everything(ranked: Sequence[Outcome], goals: Goals) -> list[str]:
    failed = [o for o in ranked if o.proposal.reason and o.proposal.state in (State.FAILED, State.ABANDONED)]
    reasons = "".join(
        f"<tr><td>{html.escape(o.proposal.proposal_id)}</td><td class='formula'>{_formula(o.proposal.composition)}</td>"
        f"<td>{STATE_WORDS[o.proposal.state]}</td><td>{html.escape(visible(o.proposal.reason))}</td></tr>"
        for o in failed
    )
    return [
        '<h2 id="s-all">All proposals</h2>',
        f'<details id="everything"><summary>{len(ranked)} proposals, best first</summary>'
        '<p><input id="search" type="search" placeholder="formula, id or state"></p>',
        _table(ranked, goals, reasons=True),
        "</details>",
        *(
            [
                f"<details><summary>{len(failed)} failed or abandoned, with reasons</summary><table><thead><tr>"
                f"<th>proposal</th><th>composition</th><th></th><th>reason</th></tr></thead><tbody>{reasons}</tbody>"
                "</table></details>"
            ]
            if failed
            else []
        ),
    ]


def _lineage(snapshot: Snapshot) -> list[str]:
    names = {m.model_id: m.name for m in snapshot.models}
    rounds: dict[str, list[str]] = {}
    for r in snapshot.rounds:
        rounds.setdefault(r.model_id, []).append(r.name)
    current = snapshot.current_model.number if snapshot.models else None
    rows = []
    for model in snapshot.models:
        errors = held_out_errors(model)
        verdict = "in use" if model.number == current else "accepted" if model.accepted else "refused by the gate"
        if model.parent is None:
            verdict = "start" if model.number == 1 else "back to the start"
            verdict += ", in use" if model.number == current else ""
        kind = "tag measured" if model.number == current else "tag" if model.accepted else "tag refused"
        used = rounds.get(model.model_id, [])
        said = "" if model.accepted else html.escape(str(model.metrics.get("reason", "")))
        reason = f'<div class="why">{said}</div>' if said else ""
        rows.append(
            f"<tr><td>{model.name}</td><td>{html.escape(model.model_id) if model.path else '–'}</td>"
            f"<td>{html.escape(names.get(model.parent or '', model.parent or '–'))}</td>"
            f"<td class='number'>{len(model.measurement_ids) or '–'}</td>"
            f"<td class='number'>{f'{errors[0]:.1f} → {errors[1]:.1f}' if errors else '–'}</td>"
            f'<td><span class="{kind}">{verdict}</span>{reason}</td><td>{_range(used)}</td>'
            f"<td>{html.escape(model.at[:10])}</td></tr>"
        )
    rows.reverse()
    head = (
        "<div class='wide'><table><thead><tr><th>model</th><th>weights</th><th>descends from</th>"
        "<th class='number'>measurements</th><th class='number'>error, mAh/g</th><th></th><th>proposed rounds</th>"
        "<th>date</th></tr></thead><tbody>"
    )
    older = rows[MODELS_IN_TABLE:]
    return [
        '<h2 id="s-models">Models</h2>',
        '<p class="note">Each model is the one it descends from after learning from the measurements. Error: on '
        "held-out compositions, before and after (mAh/g); the gate refuses a model that did not get better or forgot "
        "what it knew. Newest first.</p>",
        f"{head}{''.join(rows[:MODELS_IN_TABLE])}</tbody></table></div>",
        f"<details><summary>{len(older)} older models</summary>{head}{''.join(older)}</tbody></table></div></details>"
        if older
        else "",
    ]


def _doubtful(snapshot: Snapshot) -> list[str]:
    """What waits for a person to confirm or correct it; nothing where nothing does."""
    if not snapshot.doubtful:
        return []
    rows = "".join(
        f"<tr><td>{m.measurement_id}</td><td>{html.escape(m.proposal_id)}</td><td>{html.escape(visible(m.cell))}</td>"
        f"<td>{m.conditions.current_ma_g:g}</td><td>{m.capacity_mah_g:.1f}</td><td>"
        f"<b>{html.escape(m.verdict.rule if m.verdict else '')}</b> {html.escape(visible(m.doubt))}</td></tr>"
        for m in snapshot.doubtful
    )
    return [
        '<h2 id="s-doubtful">Doubtful measurements</h2>',
        '<p class="note">A named mistake would explain them: they are neither learned from nor ranked. If they are '
        "right: <code>drx-screen confirm</code>; if not: <code>drx-screen supersede</code> or "
        "<code>retract</code>.</p>",
        "<table><thead><tr><th>id</th><th>proposal</th><th>cell</th><th>mA/g</th><th>mAh/g</th><th>why</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>",
    ]


def _refused(snapshot: Snapshot) -> list[str]:
    lines = ['<h2 id="s-files">Refused files</h2>']
    if not snapshot.refused:
        return [*lines, '<p class="note">None. A file that breaks a validation rule would be listed here.</p>']
    rows = "".join(
        f"<tr><td>{html.escape(f.at[:16].replace('T', ' '))}</td><td>{html.escape(visible(f.name))}</td><td>"
        + "<br>".join(f"<b>{html.escape(r['id'])}</b> {html.escape(visible(r['message']))}" for r in f.rules)
        + "</td></tr>"
        for f in snapshot.refused[-100:]
    )
    return [
        *lines,
        '<p class="note">Nothing of them was recorded. Correct them and ingest them again.</p>',
        f"<table><thead><tr><th>when (UTC)</th><th>file</th><th>why</th></tr></thead><tbody>{rows}</tbody></table>",
    ]


def _range(names: Sequence[str]) -> str:
    if len(names) <= 2:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]}"


def _round_name(snapshot: Snapshot) -> str:
    return f"after round R{snapshot.round:02d}" if snapshot.round else "before the first round"


def _formula(formula: str) -> str:
    return re.sub(r"(\d+\.?\d*)", r"<sub>\1</sub>", html.escape(formula))


def _with_subscripts(text: str) -> str:
    return re.sub(r"\bLi\d[\w.]*\w", lambda match: _formula(match[0]), text)


# -- plotly ----------------------------------------------------------------------------------------------


def _layout(x: str, y: str, height: int = 420, **more: Any) -> dict[str, Any]:
    axis = {"gridcolor": "#eeeeee", "zerolinecolor": "#dddddd", "ticks": "outside", "tickcolor": "#bbbbbb"}
    return {
        "height": height,
        "margin": {"l": 64, "r": 20, "t": 40, "b": 56},
        "font": {"family": "system-ui, Segoe UI, Roboto, Liberation Sans, sans-serif", "size": 13, "color": "#1c1c1c"},
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {**axis, "title": {"text": x}, **more.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **more.pop("yaxis", {})},
        **more,
    }


def _hover(outcome: Outcome) -> str:
    name, composition = html.escape(outcome.proposal.proposal_id), html.escape(outcome.proposal.composition)
    return f"<b>{name}</b> {composition}, {_status(outcome)}"


def _marks(name: str, x: Any, y: Any, outcomes: Sequence[Outcome], *, hollow: bool, **more: Any) -> dict[str, Any]:
    colour = PREDICTED_COLOUR if hollow else MEASURED_COLOUR
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": _rounded(x),
        "y": _rounded(y),
        "text": [_hover(o) for o in outcomes],
        "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        "marker": {
            "symbol": "circle-open" if hollow else "circle",
            "size": marker_size(len(outcomes)),
            "color": colour,
            "line": {"width": 1.8 if len(outcomes) <= POINTS_WITH_BARS else 1},
        },
        **more,
    }


def _bars(values: Any, colour: str) -> dict[str, Any]:
    """Error bars; none where there would be too many to see anything."""
    if len(values) > POINTS_WITH_BARS:
        return {"visible": False}
    return {
        "type": "data",
        "array": _rounded(np.nan_to_num(np.asarray(values, float))),
        "color": colour,
        "thickness": 1,
    }


def _progress(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    places = np.array(places_in_rounds(outcomes))
    traces = []
    picks: tuple[tuple[str, Callable[[Outcome], Estimate | None], bool], ...] = (
        ("predicted when proposed (± 1 s.d. over members)", lambda o: o.predicted(goals.first), True),
        ("measured (± 1 s.d. over cells)", lambda o: o.leading, False),
    )
    for name, pick, hollow in picks:
        some = [(x, o, e) for x, o in zip(places, outcomes, strict=True) if (e := pick(o)) is not None]
        colour = PREDICTED_COLOUR if hollow else MEASURED_COLOUR
        traces.append(
            _marks(
                name,
                [x for x, _, _ in some],
                [e.mean for _, _, e in some],
                [o for _, o, _ in some],
                hollow=hollow,
                error_y=_bars([e.spread or 0.0 for _, _, e in some], colour),
                hovertemplate=f"%{{text}}<br>{html.escape(goals.first.heading)} %{{y:.4g}}<extra></extra>",
            )
        )
    rounds = sorted({o.proposal.round or 0 for o in outcomes})
    x, y = best_line(outcomes, rounds)
    if x:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"best measured so far, {goals.sides[0]} bound (90 %)",
                "x": x,
                "y": _rounded(y),
                "line": {"color": FRONT_COLOUR, "width": 2.5, "shape": "hv"},
                "hoverinfo": "skip",
            }
        )
    ticks = {"tickvals": rounds} if len(rounds) <= 15 else {}
    label = "round" + (" (0: brought by the lab)" if 0 in rounds else "")
    scale = {"rangemode": "tozero"} if goals.signs[0] > 0 else {}
    layout = _layout(label, goals.first.label, xaxis=ticks, yaxis=scale)
    return {"data": traces, "layout": layout}


def _comparisons(outcomes: Sequence[Outcome], goals: Goals) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    comparisons = [compare(outcomes, quantity) for quantity in goals.shown]
    for c in comparisons:
        ends = [float(v) for v in _ends(c.predicted, c.measured)]
        marks = _marks("", c.predicted, c.measured, c.outcomes, hollow=False, showlegend=False)
        marks["error_x"] = _bars(c.predicted_std, PREDICTED_COLOUR)
        marks["error_y"] = _bars(c.measured_std, MEASURED_COLOUR)
        line = _line(ends, ends, FAILED_COLOUR)
        figures[f"compare-{c.quantity.key(goals.rates)}"] = {
            "data": [line, marks],
            "layout": _layout(f"predicted {c.quantity.label}", "measured", 400, annotations=_empty(c.measured)),
        }
    covered = coverage(comparisons, LEVELS)
    known = np.isfinite(covered)
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": _rounded(LEVELS[known]),
        "y": _rounded(covered[known]),
        "line": {"color": FRONT_COLOUR},
        "showlegend": False,
        "hovertemplate": "%{x:.0%} interval holds %{y:.0%}<extra></extra>",
    }
    words = [
        {"x": 0.03, "y": 0.95, "text": "too cautious", "xanchor": "left"},
        {"x": 0.97, "y": 0.05, "text": "too confident", "xanchor": "right"},
    ]
    notes = [{**w, "showarrow": False, "font": {"color": FAILED_COLOUR}} for w in words] if known.any() else []
    figures["calibration"] = {
        "data": [_line([0, 1], [0, 1], FAILED_COLOUR), curve],
        "layout": _layout(
            "nominal probability of the predicted interval",
            "fraction of measured values inside",
            400,
            xaxis={"range": [0, 1]},
            yaxis={"range": [0, 1]},
            annotations=notes or _empty(covered[known]),
        ),
    }
    return figures


def _pareto(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    known = trade_off(outcomes, goals)
    x, y = known.waiting_points.T
    marks = _marks("predicted ± s.d., not measured yet", x, y, known.waiting, hollow=True)
    traces = [_with_bars(marks, known.waiting_spreads, PREDICTED_COLOUR)]
    if known.measured:
        x, y = known.measured_points.T
        marks = _marks("measured ± s.d.", x, y, known.measured, hollow=False)
        traces.append(_with_bars(marks, known.measured_spreads, MEASURED_COLOUR))
        x, y = known.border(known.corner(bars=False)).T
        traces.append({**_line(x, y, FRONT_COLOUR), "name": "front of the measured", "showlegend": True})
    return {"data": traces, "layout": _layout(known.axes[0].label, known.axes[1].label, height=460)}


def _with_bars(marks: dict[str, Any], spreads: np.ndarray, colour: str) -> dict[str, Any]:
    """Add the spread of both coordinates, ``n x 2``."""
    across, along = spreads.T
    return {**marks, "error_x": _bars(across, colour), "error_y": _bars(along, colour)}


def _map(outcomes: Sequence[Outcome], goals: Goals) -> Figure:
    plane = composition_map([o.proposal.composition for o in outcomes])
    groups: list[tuple[str, str, Callable[[Outcome], bool]]] = [
        ("predicted", "circle-open", lambda o: o.leading is None and not o.dropped),
        ("measured", "circle", lambda o: o.leading is not None),
        ("failed or abandoned", "x-thin-open", lambda o: o.dropped),
    ]
    values = [v.mean if (v := o.known(goals.first)) else None for o in outcomes]
    known = [v for v in values if v is not None] or [0.0, 1.0]
    traces: list[dict[str, Any]] = []
    for name, symbol, belongs in groups:
        some = [i for i, o in enumerate(outcomes) if belongs(o)]
        if not some:
            continue
        marker: dict[str, Any] = {"symbol": symbol, "size": 1.2 * marker_size(len(outcomes)), "line": {"width": 1.5}}
        if name == "failed or abandoned":
            marker["color"] = FAILED_COLOUR
        else:
            marker |= {
                "color": [values[i] for i in some],
                "colorscale": COLOUR_MAP.capitalize(),
                "cmin": round(min(known), 4),
                "cmax": round(max(known), 4),
                "showscale": name == "predicted" or not any(t["name"] == "predicted" for t in traces),
                "colorbar": {"title": {"text": goals.first.heading, "side": "right"}, "thickness": 14},
            }
        x, y = plane.positions[some].T
        marks = _marks(name, x, y, [outcomes[i] for i in some], hollow=True)
        marks |= {"marker": marker, "customdata": [_rounded(values[i] or 0.0) for i in some]}
        marks["hovertemplate"] = f"%{{text}}<br>{html.escape(goals.first.heading)} %{{customdata:.4g}}<extra></extra>"
        traces.append(marks)
    layout = _layout(
        f"first principal component of the amounts ({plane.explained[0]:.0%} of the variance)",
        f"second ({plane.explained[1]:.0%})",
        520,
        annotations=_arrows(plane.elements, plane.loadings, plane.positions),
    )
    return {"data": traces, "layout": layout}


def _arrows(elements: Sequence[str], loadings: np.ndarray, positions: np.ndarray) -> list[dict[str, Any]]:
    lengths = np.linalg.norm(loadings, axis=1)
    reach = 0.8 * max(float(np.abs(positions).max(initial=0.0)), 1e-3) / max(float(lengths.max(initial=0.0)), 1e-9)
    return [
        {
            "x": round(float(direction[0] * reach), 5),
            "y": round(float(direction[1] * reach), 5),
            "ax": 0,
            "ay": 0,
            "xref": "x",
            "yref": "y",
            "axref": "x",
            "ayref": "y",
            "arrowhead": 2,
            "arrowcolor": "#aaaaaa",
            "arrowwidth": 1.2,
            "text": "",
        }
        for direction, length in zip(loadings, lengths, strict=True)
        if length >= 0.2 * lengths.max()
    ] + [
        {
            "x": round(float(direction[0] * reach * 1.08), 5),
            "y": round(float(direction[1] * reach * 1.08), 5),
            "text": f"more {element}",
            "showarrow": False,
            "font": {"size": 12, "color": "#666666"},
        }
        for element, direction, length in zip(elements, loadings, lengths, strict=True)
        if length >= 0.2 * lengths.max()
    ]


def _viewer(
    outcomes: Sequence[Outcome],
    goals: Goals,
    predicted: Mapping[str, Sequence[PredictedProfile]],
    measured: Mapping[str, Sequence[MeasuredProfile]],
) -> dict[str, Any]:
    middle = (goals.rates.low_current_ma_g * goals.rates.high_current_ma_g) ** 0.5
    entries = []
    for outcome in outcomes:
        name = outcome.proposal.proposal_id
        curves = []
        for each in measured.get(name, ()):
            m = each.measurement
            if each.profile is not None and m.conditions.cycle == 1:
                curves.append(
                    {
                        **_curve(each.profile.voltage_v, each.profile.capacity_mah_g),
                        "colour": LOW_COLOUR if m.conditions.current_ma_g < middle else HIGH_COLOUR,
                        "label": f"{m.conditions.current_ma_g:g} mA/g, {html.escape(visible(m.cell))}",
                    }
                )
        entries.append(
            {
                "id": name,
                "label": f"{name}  {outcome.proposal.composition}  ({_status(outcome)})",
                "title": f"{html.escape(name)}  {_formula(outcome.proposal.composition)}, {_status(outcome)}",
                "predicted": [
                    {
                        **_curve(p.voltage_v, p.capacity_mah_g_mean, p.capacity_mah_g_std),
                        "colour": LOW_COLOUR if p.conditions.current_ma_g < middle else HIGH_COLOUR,
                        "label": f"{p.conditions.current_ma_g:g} mA/g",
                    }
                    for p in predicted.get(name, ())
                ],
                "measured": curves,
            }
        )
    best = max(
        range(len(outcomes)),
        key=lambda i: (bool(outcomes[i].leading), outcomes[i].merit),
        default=0,
    )
    layout = _layout(
        "capacity (mAh/g)",
        "voltage (V)",
        520,
        xaxis={"rangemode": "tozero"},
        legend={"x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "bgcolor": "rgba(255,255,255,0.7)"},
    )
    return {"entries": entries, "first": best, "layout": layout}


def _curve(voltage: np.ndarray, capacity: np.ndarray, spread: np.ndarray | None = None) -> dict[str, Any]:
    """Capacity on an even grid between the ends of a profile, rounded: that is what makes 10,000 of them fit."""
    grid = np.linspace(voltage[0], voltage[-1], POINTS_PER_CURVE)
    curve = {"v": [round(float(voltage[0]), 4), round(float(voltage[-1]), 4)]}
    curve["q"] = np.interp(grid, voltage, capacity).round(1).tolist()
    if spread is not None:
        curve["s"] = np.interp(grid, voltage, spread).round(1).tolist()
    return curve


def _line(x: Any, y: Any, colour: str) -> dict[str, Any]:
    style = {"mode": "lines", "line": {"color": colour, "width": 1.6}, "hoverinfo": "skip", "showlegend": False}
    return {"type": "scatter", "x": _rounded(x), "y": _rounded(y), **style}


def _ends(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    both = np.concatenate([predicted, measured])
    if not len(both):
        return (0.0, 1.0)
    margin = 0.05 * max(float(np.ptp(both)), 1e-3)
    return (float(both.min()) - margin, float(both.max()) + margin)


def _empty(values: Any) -> list[dict[str, Any]]:
    if len(values):
        return []
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    return [{**place, "text": "nothing measured yet", "font": {"color": FAILED_COLOUR}}]


def _rounded(values: Any) -> Any:
    """Five significant digits: a page of thousands of points stays small."""
    if isinstance(values, float | int):
        return float(f"{values:.5g}")
    return [float(f"{value:.5g}") for value in values]


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
