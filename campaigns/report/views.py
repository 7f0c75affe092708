"""Every row that a campaign shows, in one place: what the command line, Python, the report and a server all give.

The keys are public. What is there keeps its meaning; new keys are added. A number carries its unit in the key; of every
objective and constraint there are ``<key>_mean``, ``_std`` and the 80 % interval, ``_lower`` and ``_upper``
(:meth:`screening.quantities.Quantity.key`); ``_std_members``, the members' own spread, where it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from campaigns.ledger.records import Event, Prediction, Proposal, QuantityValue, Snapshot, State
from campaigns.loop.finetune import waiting_to_be_learned
from campaigns.loop.offset import offsets_of
from campaigns.loop.outcomes import MEMBERS, Outcome, as_named_by, best_of, outcomes_of
from campaigns.workspace import Workspace
from drxnet.process import FIELDS
from screening.estimates import same_conditions
from screening.goals import Goals
from screening.quantities import Quantity

if TYPE_CHECKING:
    from campaigns.intake.ingested import FileOutcome, Ingested
    from campaigns.loop.places import Place
    from campaigns.loop.propose import Proposed
    from campaigns.loop.rank import Ranking

Row = dict[str, Any]

LEADING = ("rate_retention", "capacity_low_mah_g", "capacity_high_mah_g")
"""What rows of every campaign begin with, the two rates after the first."""


# -- proposals -------------------------------------------------------------------------------------------


INTERVAL_WORDS = "80 % interval of what cells of this laboratory give on average"
"""What tables call the numbers in brackets."""


def proposal_row(proposal: Proposal, *, goals: Goals | None = None, members: bool = False) -> Row:
    """What was said of a proposal when it was made, with the members' own spread where asked for.

    Args:
        proposal: of any round.
        goals: by whose names; those of its round when not given.
        members: with their spread.
    """
    row: Row = {"proposal_id": proposal.proposal_id, "composition": proposal.composition, **proposal.process.row()}
    said = proposal.prediction
    if said is None:
        return row
    said = said if goals is None else replace(said, values=as_named_by(goals, said.values))
    return row | _prediction(said) | (_members(said.values) if members else {})


def _members(values: Sequence[QuantityValue]) -> Row:
    """Population standard deviation (ddof 0) over the members, of quantities that are predicted."""
    return {f"{v.key}_{MEMBERS}": v.members_std for v in values}


def _prediction(said: Prediction) -> Row:
    rates = {"low_current_ma_g": said.low_current_ma_g, "high_current_ma_g": said.high_current_ma_g}
    rest = {
        "feasibility": said.feasibility,
        "phase_probability": said.phase_probability,
        "score": said.score,
        "domain": said.domain,
        "why": said.why,
    }
    return _numbers({v.key: v for v in said.values}, rates) | rest


def _numbers(values: Mapping[str, QuantityValue | None], rates: Mapping[str, float]) -> Row:
    """Numbers of quantities by their keys, those of every campaign first; null where one is not known."""
    row: Row = {}
    for key in (*(k for k in LEADING if k in values), *(k for k in values if k not in LEADING)):
        value = values[key]
        row |= value.row() if value else dict.fromkeys(f"{key}_{name}" for name in ("mean", "std", "lower", "upper"))
        row |= rates if key == LEADING[0] else {}
    return row


def batch(chosen: Proposed, *, members: bool = False) -> Row:
    """A batch, with the keys of ``drx-screen propose --format json``, and the members' own spread where asked for."""
    return {
        "round": chosen.round,
        "model": chosen.model_id,
        "proposals": [proposal_row(p, members=members) for p in chosen.proposals],
        "prospect": None if chosen.prospect is None else chosen.prospect.as_dict(),
    }


def proposal_states(state: Snapshot) -> list[Row]:
    """Every proposal with its state, as ``drx-screen status --proposals`` lists them."""
    return [
        {
            "proposal_id": p.proposal_id,
            "composition": p.composition,
            "state": str(p.state),
            "origin": p.origin,
            "reason": p.reason or "-",
            "phases": str(state.phases[p.proposal_id]) if p.proposal_id in state.phases else "-",
            "measured_composition": state.analysed.get(p.proposal_id, "-"),
        }
        for p in state.proposals
    ]


# -- a ranking -------------------------------------------------------------------------------------------


def ranking(found: Ranking, *, members: bool = False) -> Row:
    """A ranking, with the keys of ``drx-screen rank --format json``, and the members' own spread where asked for.

    ``asked`` is what it goes by, ``notes`` what a reader should know of it.
    """
    asked = [{"key": q.key(found.goals.rates), "label": q.label} for q in found.asked]
    rows = [_place(found, number, p) for number, p in enumerate(found.places, start=1)]
    if members:
        rows = [row | _members(p.values) for row, p in zip(rows, found.places, strict=True)]
    return {"by": found.by, "asked": asked, "notes": list(found.notes), "rows": rows}


def _place(found: Ranking, number: int, place: Place) -> Row:
    goals = found.goals
    rates = {"low_current_ma_g": goals.rates.low_current_ma_g, "high_current_ma_g": goals.rates.high_current_ma_g}
    row: Row = {
        "rank": number,
        "proposal_id": place.proposal.proposal_id if place.proposal else None,
        "composition": place.composition,
        "source": place.source,
        "state": str(place.proposal.state) if place.proposal else None,
        **place.process.row(),
        **_numbers({q.key(goals.rates): place.value(q) for q in goals.quantities}, rates),
        "feasibility": place.feasibility,
        "phase_probability": place.phase_probability,
        "score": None,
        "domain": place.domain,
        "why": place.why,
    }
    row |= {f"predicted_{v.key}_{name}": getattr(v, name) for v in place.beside for name in ("mean", "std")}
    if place.front is not None:
        row |= {"front": place.front, "pareto_front": place.front}
    else:
        row |= _names_of_first_version(place, found.asked[0], goals)
    return row


def _names_of_first_version(place: Place, quantity: Quantity, goals: Goals) -> Row:
    """The quantity ranked by, as the first version named it: without its conditions.

    Nothing where the row has a quantity of that name: its numbers are that one's.
    """
    name = quantity.column
    if quantity.key(goals.rates) in LEADING or name in {q.key(goals.rates) for q in goals.quantities}:
        return {}
    value = place.value(quantity)
    numbers = (value.mean, value.std, value.interval[0]) if value else (None, None, None)
    return dict(zip((f"{name}_mean", f"{name}_std", f"{name}_lower"), numbers, strict=True))


# -- where a campaign stands -----------------------------------------------------------------------------


def status(
    campaign: Workspace,
    as_of: int | None = None,
    *,
    state: Snapshot | None = None,
    outcomes: Sequence[Outcome] | None = None,
) -> Row:
    """Say where a campaign stands, with the keys of ``drx-screen status --format json``.

    Args:
        campaign: of which.
        as_of: right after a round was recorded.
        state: the campaign's then, where it is known; it is read when not given.
        outcomes: of the proposals then, by the campaign's goals, where they are known.
    """
    state = campaign.state(as_of) if state is None else state
    goals = campaign.goals(state, as_of)
    outcomes = outcomes_of(state, goals) if outcomes is None else outcomes
    states = Counter(str(p.state) for p in state.proposals)
    model = state.current_model
    return {
        "campaign": state.campaign,
        "as_of": f"R{as_of:02d}" if as_of else None,
        "folder": str(campaign.folder),
        "space": campaign.spec.space_name,
        "round": state.round,
        "proposals": {str(s): states.get(str(s), 0) for s in State},
        "half_measured": [
            {"proposal_id": o.proposal.proposal_id, "missing": list(o.missing)} for o in outcomes if o.half_measured
        ],
        "from_the_lab": sum(p.origin == "lab" for p in state.proposals),
        "cells": len({(m.proposal_id, m.cell) for m in state.valid}),
        "measurements": len(state.valid),
        "profiles": sum(m.average_voltage_v is not None for m in state.valid),
        "doubtful": len(state.doubtful),
        "doubts": [
            {
                "measurement_id": m.measurement_id,
                "proposal_id": m.proposal_id,
                "rule": m.verdict.rule if m.verdict else "",
                "reason": m.doubt,
            }
            for m in state.doubtful
        ],
        "staircases": _staircases(goals, state),
        "withdrawn": len(state.measurements) - len(state.standing),
        "files": len(state.files),
        "refused_files": len(state.refused),
        "not_learned_from": len(waiting_to_be_learned(campaign, state)),
        "model": {
            "name": model.name,
            "model_id": model.model_id,
            "parent": model.parent,
            "learned_from": len(model.measurement_ids),
            "tried": len(state.models) - 1,
        },
        "best": _best(outcomes, goals),
        "prospect": prospect_of_last(state),
        "offsets": [offset.row() for offset in offsets_of(campaign, state, goals)],
    }


def prospect_of_last(state: Snapshot) -> Row | None:
    """What the last round was expected to gain when it was proposed, and whether it was worth its cells."""
    if not state.rounds or not state.rounds[-1].statistics.get("prospect"):
        return None
    return {"round": state.rounds[-1].name, **state.rounds[-1].statistics["prospect"]}


def _staircases(goals: Goals, state: Snapshot) -> list[Row]:
    """Later rates of cells that are one of the campaign's, with the cycles that are no first ones."""
    rates = (goals.rates.low, goals.rates.high)
    found = []
    for step in state.stairs:
        at = next((r for r in rates if same_conditions(replace(step.conditions, cycle=1), r)), None)
        if step.conditions.cycle == 1 or at is None:
            continue
        cycles = [
            m.conditions.cycle
            for m in state.valid
            if (m.proposal_id, m.cell) == (step.proposal_id, step.cell)
            and same_conditions(replace(m.conditions, cycle=1), at)
        ]
        found.append(
            {
                "proposal_id": step.proposal_id,
                "cell": step.cell,
                "file": step.file,
                "current_ma_g": at.current_ma_g,
                "cycles": sorted(cycles),
                "counts": state.staircase,
            }
        )
    return found


def _best(outcomes: Sequence[Outcome], goals: Goals) -> Row | None:
    """What is measured best by the first objective, and by how much: its bound decides, its mean is shown.

    What misses a constraint stands behind all that misses none.
    """
    best = best_of(outcomes)
    if best is None or best.leading is None:
        return None
    proposal, value = best.proposal, best.leading.mean
    return {
        "proposal_id": proposal.proposal_id,
        "composition": proposal.composition,
        goals.first.key(goals.rates): value,
        "quantity": str(goals.first),
        "value": value,
        "shown": goals.first.shown(value),
        "unit": goals.first.unit,
        "misses": list(best.missed),
    }


def event_row(event: Event) -> Row:
    """Return one entry of the log as it is listed."""
    return {name: getattr(event, name) for name in ("number", "at", "who", "verb", "summary")}


# -- what came back --------------------------------------------------------------------------------------


def file_row(outcome: FileOutcome) -> Row:
    """What became of a file, as ``drx-screen ingest --format json`` says it."""
    return {
        "file": outcome.name,
        "status": outcome.status,
        "format": outcome.format,
        "discharges": outcome.discharges,
        "known_discharges": outcome.known,
        "proposals": list(outcome.proposals),
        "measurements": list(outcome.measurements),
        "doubtful": list(outcome.doubtful),
        "rules": [hit.as_row() for hit in outcome.rules],
        "notes": list(outcome.notes),
    }


def ingested(done: Ingested) -> Row:
    """What became of files, with the keys of ``drx-screen ingest --format json``."""
    return {
        "files": [file_row(f) for f in done.files],
        "comparisons": [vars(c) for c in done.comparisons],
        "fine_tuning": None,
    }


# -- for people ------------------------------------------------------------------------------------------


def cells_of(row: Mapping[str, Any], quantities: Sequence[Quantity], goals: Goals) -> Row:
    """Columns of a table for people: every quantity with its 80 % interval, and the members' spread where it is there.

    Args:
        row: of a proposal or of a ranking.
        quantities: the leading one first; what a row does not hold is a dash.
        goals: of the campaign.
    """
    shown: Row = {}
    for quantity in quantities:
        key = quantity.key(goals.rates)
        mean = row.get(f"{key}_mean")
        ends = [end for name in ("lower", "upper") if (end := row.get(f"{key}_{name}")) is not None]
        shown[quantity.heading] = "-" if mean is None else quantity.shown(mean)
        if mean is not None and ends:
            shown[quantity.heading] += f" ({'-'.join(map(quantity.shown, ends))})"
        if f"{key}_{MEMBERS}" in row:
            alone = row[f"{key}_{MEMBERS}"]
            shown[f"± members {quantity.heading}"] = "-" if alone is None else quantity.shown(alone)
    return shown


def ways_of(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A column for people that says how each row is made; none where all rows are made alike."""
    made = [", ".join(f.text(row[name]) for name, f in FIELDS.items() if row.get(name) is not None) for row in rows]
    return [{"made by": way or "-"} if len(set(made)) > 1 else {} for way in made]


def plus_minus(quantity: Quantity, mean: float | None, std: float | None) -> str:
    """A value and its spread with the decimals that are worth showing."""
    if mean is None:
        return "-"
    return quantity.shown(mean) if std is None else f"{quantity.shown(mean)} ± {quantity.shown(std)}"
