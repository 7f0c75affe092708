"""The report as one HTML file: plotly is inside, nothing is fetched, it opens from a memory stick."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.ledger.records import PENDING, Snapshot, State
from campaigns.loop.offset import offsets
from campaigns.loop.outcomes import STATE_WORDS, Outcome, axes_of, compare, headline
from campaigns.report import interactive
from campaigns.report.drawing import CELLS_AT_MOST, MEMBERS_SPREAD, POSTERIOR_SPREAD, fades, held_out_errors, in_words
from campaigns.report.interactive import Figure, status_of, subscripts
from campaigns.report.views import prospect_of_last
from drxnet.text import visible
from screening.estimates import Estimate
from screening.goals import Goals
from screening.quantities import Quantity

if TYPE_CHECKING:
    from campaigns.report.write import Content

ROWS_IN_TABLE = 10
ROWS_WAITING = 16
MODELS_IN_TABLE = 12


def render(content: Content, made: str) -> str:
    """Page of a campaign.

    Args:
        content: everything that it shows.
        made: when and by what, for the foot of the page.
    """
    from plotly.offline import get_plotlyjs

    figures = _figures(content)
    viewer = interactive.viewer(content.outcomes, content.goals, content.predicted, content.measured)
    title = f"{content.snapshot.campaign}, {_round_name(content.snapshot)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_asset('report.css')}</style>",
            f"<script>{get_plotlyjs()}</script>",
            "</head><body><main>",
            *_body(content, figures),
            "</main>",
            f"<footer>{html.escape(made)}</footer>",
            f'<script id="content" type="application/json">{_json({"figures": figures, "viewer": viewer})}</script>',
            f"<script>{_asset('report.js')}</script>",
            "</body></html>",
            "",
        ]
    )


def _figures(content: Content) -> dict[str, Figure]:
    """What there is to draw, by the id of its place on the page."""
    outcomes, goals = content.outcomes, content.goals
    if not outcomes:
        return {}
    figures = {
        "progress": interactive.progress(outcomes, goals),
        **interactive.comparisons(outcomes, goals),
        "pareto": interactive.pareto(outcomes, goals),
        "fade": interactive.fade(outcomes, goals.rates),
        **interactive.composition_maps(outcomes, goals),
        "lineage": interactive.lineage(content.snapshot.models),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


# -- text and tables -------------------------------------------------------------------------------------

SECTIONS = {
    "waiting": "being made",
    "progress": "progress",
    "comparison": "predicted and measured",
    "pareto": "trade-off",
    "profiles": "profiles",
    "fade": "later cycles",
    "map": "what was tried",
    "models": "models",
    "files": "refused files",
    "all": "all proposals",
}
"""Sections of the page, by anchor, and what leads to them."""


def _body(content: Content, figures: Mapping[str, Figure]) -> list[str]:
    snapshot, outcomes, goals = content.snapshot, content.outcomes, content.goals
    ranked = sorted(outcomes, key=lambda o: (o.merit, o.proposal.proposal_id), reverse=True)
    top = [o for o in ranked if o.proposal.state not in (State.FAILED, State.ABANDONED)][:ROWS_IN_TABLE]
    lines = _lead(snapshot, outcomes, goals)
    if not outcomes:
        return [*lines, *_refused(snapshot), *_lineage(snapshot, figures)]
    own = offsets(outcomes, content.predicted, goals, snapshot.models[0].model_id)
    links = "".join(f'<a href="#s-{anchor}">{text}</a>' for anchor, text in SECTIONS.items())
    return [
        *lines,
        _table(top, goals),
        f'<p class="note">{_how_to_read(snapshot, goals)}</p>',
        *(f'<p class="note">{html.escape(str(offset))}</p>' for offset in own),
        f'<nav aria-label="Sections">{links}</nav>',
        *_waiting(ranked, goals),
        *_section(
            "progress",
            "Are we getting better?",
            "Each mark is one composition. Hollow: predicted when it was proposed. Filled: measured. Bars: "
            f"{POSTERIOR_SPREAD} for what is predicted, over cells for what is measured.",
            figures,
            ["progress"],
        ),
        *_section(
            "comparison", "Can the predictions be trusted?", _trust(outcomes, goals), figures, _comparison_ids(goals)
        ),
        *_section(
            "pareto",
            html.escape(_first_upper(f"{goals.first} against {axes_of(goals)[0]}")),
            "No measured composition lies beyond the line; those on its corners are beaten by no other in both."
            if any(o.leading for o in outcomes)
            else "Nothing is measured yet; the marks are what was predicted.",
            figures,
            ["pareto"],
        ),
        *_profiles(),
        *_section("fade", "What do later cycles keep?", _later_cycles(outcomes), figures, ["fade"]),
        *_section(
            "map",
            "What was tried",
            "Compositions that are made alike lie together (principal components of the amounts). Arrows say what "
            "there is more of in their direction. Left the value, right how uncertain it is; filled marks are "
            "measured.",
            figures,
            ["map", "map-spread"],
        ),
        *_lineage(snapshot, figures),
        *_doubtful(snapshot),
        *_refused(snapshot),
        *_everything(ranked, goals),
    ]


def _lead(snapshot: Snapshot, outcomes: Sequence[Outcome], goals: Goals) -> list[str]:
    """What the campaign is, found and wants."""
    lines = [
        f"<h1>Campaign {html.escape(snapshot.campaign)}, {_round_name(snapshot)}</h1>",
        f'<p class="lead">{_with_subscripts(html.escape(headline(snapshot, outcomes, goals)))}</p>',
        '<ul class="goals">' + "".join(f"<li>{html.escape(_first_upper(g))}</li>" for g in in_words(goals)) + "</ul>",
    ]
    if prospect := prospect_of_last(snapshot):
        lines.append(f'<p class="note">Before {prospect["round"]}: {html.escape(prospect["sentence"])}</p>')
    return lines


def _section(anchor: str, title: str, note: str, figures: Mapping[str, Figure], wanted: Sequence[str]) -> list[str]:
    """A section with those of its figures that there are; the note says what is missing where there is none."""
    there = [name for name in wanted if name in figures]
    places = "".join(f'<div id="{name}" class="plot"></div>' for name in there)
    frame = f'<div class="pair">{places}</div>' if len(there) > 1 else places
    return [f'<section><h2 id="s-{anchor}">{title}</h2>', f'<p class="note">{note}</p>', frame, "</section>"]


def _profiles() -> list[str]:
    return [
        '<section><h2 id="s-profiles">Discharge profiles</h2>',
        '<p class="note">First discharge at both rates. Dashed with a band: predicted when proposed, '
        f"{MEMBERS_SPREAD} (how far they disagree, not an interval). Solid: measured, one line per cell.</p>",
        '<p class="chooser"><button id="earlier" type="button" aria-label="earlier proposal">&larr;</button> '
        '<select id="chooser" aria-label="proposal"></select> '
        '<button id="later" type="button" aria-label="later proposal">&rarr;</button></p>',
        '<p id="shown-profile"></p>',
        '<div id="profiles" class="plot"></div>',
        '<div id="small-profiles" aria-hidden="true"></div></section>',
    ]


def _later_cycles(outcomes: Sequence[Outcome]) -> str:
    found = fades(outcomes)
    if not found:
        return "No cell was cycled on yet: every measured discharge is the only one of its cell at its rate."
    shown = f" The {CELLS_AT_MOST} of the best compositions are shown." if len(found) > CELLS_AT_MOST else ""
    return f"Measured capacity of {len(found)} cells over their cycles, one line a cell.{shown}"


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
    return (
        f"{labels}; {rates.v_low:g}-{rates.v_high:g} V, first cycle unless another is named. "
        '<span class="tag measured">measured</span> rows: mean over cells ± how uncertain that mean is (1 s.d., as a '
        "ranking states it). Predicted rows: mean ± standard deviation of the calibrated posterior, "
        "as of the round they were proposed in: wider than the members of the ensemble disagree. "
        "80 % interval: what cells of this laboratory give on average lies below it with 10 % and above it with 10 %; "
        f"its {goals.sides[0]} end makes the order of the table."
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
    numbers = [first, "80 % interval", *others]
    heads = [("rank", "number"), ("composition", ""), ("proposal", ""), *((n, "number") for n in numbers)]
    heads += [("state", ""), ("domain", "")]
    head = "".join(f'<th class="{kind}">{text}</th>' for text, kind in heads)
    rows = [_row(number, outcome, goals, reasons) for number, outcome in enumerate(outcomes, start=1)]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(number: int, outcome: Outcome, goals: Goals, reasons: bool) -> str:
    proposal, prediction = outcome.proposal, outcome.proposal.prediction
    tag = f'<span class="tag{" measured" if outcome.leading else ""}">{status_of(outcome)}</span>'
    text = f"{proposal.composition} {proposal.proposal_id} {status_of(outcome)}".lower()
    mark = f' data-text="{html.escape(text)}"' if reasons else ""
    why = html.escape(visible(prediction.why if prediction else proposal.reason or "brought by the lab"))
    ends = outcome.interval(goals.first)
    cells = [
        f"<td class='number{' measured' if outcome.measured(q) else ''}'>{_number(outcome.known(q), q)}</td>"
        for q in goals.shown
    ]
    cells.insert(1, f"<td class='number'>{'–' if ends is None else ' to '.join(map(goals.first.shown, ends))}</td>")
    return (
        f"<tr{mark}{' class=explained' if reasons else ''}><td class='number'>{number}</td>"
        f"<td class='formula'>{_formula(proposal.composition)}</td>"
        f"<td>{html.escape(proposal.proposal_id)}</td>"
        + "".join(cells)
        + f"<td>{tag}</td><td>{html.escape(prediction.domain if prediction else 'lab')}</td>"
        + (f"</tr><tr{mark}><td></td><td class='why' colspan='{4 + len(cells)}'>{why}</td>" if reasons else "")
        + "</tr>"
    )


def _number(estimate: Estimate | None, quantity: Quantity) -> str:
    if estimate is None:
        return "–"
    if estimate.error is None:
        return quantity.shown(estimate.mean)
    smallest = 10.0**-quantity.digits
    spread = quantity.shown(estimate.error) if estimate.error >= smallest / 2 else f"&lt;{smallest:g}"
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
        '<p><input id="search" type="search" aria-label="search" placeholder="formula, id or state"></p>',
        _table(ranked, goals, reasons=True),
        "</details>",
        *(
            [
                f"<details><summary>{len(failed)} failed or abandoned, with reasons</summary><table><thead><tr>"
                f"<th>proposal</th><th>composition</th><th>state</th><th>reason</th></tr></thead><tbody>{reasons}</tbody>"
                "</table></details>"
            ]
            if failed
            else []
        ),
    ]


def _lineage(snapshot: Snapshot, figures: Mapping[str, Figure]) -> list[str]:
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
        "<th class='number'>measurements</th><th class='number'>error, mAh/g</th><th>verdict</th>"
        "<th>proposed rounds</th><th>date</th></tr></thead><tbody>"
    )
    older = rows[MODELS_IN_TABLE:]
    return [
        '<h2 id="s-models">Models</h2>',
        '<p class="note">Each model is the one it descends from after learning from the measurements. Error: on '
        "held-out compositions, before and after (mAh/g); the gate refuses a model that did not get better or forgot "
        "what it knew. Newest first.</p>",
        *(['<div id="lineage" class="plot"></div>'] if "lineage" in figures else []),
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
    """Formula that breaks between elements, and nowhere else."""
    parts = re.findall(r"[A-Z][a-z]?[\d.]*", formula)
    return "<wbr>".join(map(subscripts, parts)) if "".join(parts) == formula else subscripts(formula)


def _with_subscripts(text: str) -> str:
    return re.sub(r"\bLi\d[\w.]*\w", lambda match: _formula(match[0]), text)


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
