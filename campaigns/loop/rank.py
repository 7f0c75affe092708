"""Measured and predicted compositions in one order, and where a campaign stands.

Conditions are never mixed: a value counts as measured only when current, window and cycle are those asked for. The
default order is by the lower bound, the 10 % quantile, so that what is uncertain does not come first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from campaigns.ledger.records import Measurement, Snapshot, State
from campaigns.loop.finetune import waiting_to_be_learned
from campaigns.loop.outcomes import Outcome, outcomes_of
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.errors import UsageError
from drxnet.progress import Progress, silent
from screening.estimates import Estimate, pessimistic, same_conditions, standard_error
from screening.goals import Goals, ObjectiveSpec, fronts
from screening.quantities import RETENTION_LIMITS, Capacity, MeasuredCells, Quantity, RateRetention

QUANTITIES: Mapping[str, str] = {
    "rate-retention": "rate-retention",
    "capacity": "capacity",
    "energy": "specific-energy",
    "average-voltage": "average-voltage",
    "capacity-retention": "capacity-retention",
    "cost": "cost-per-kwh",
}
"""Name on the command line, and name of the quantity."""

BY = (*QUANTITIES, "pareto")
Within = Literal["measured", "proposed", "space"]
Order = Literal["lower", "mean"]


@dataclass(frozen=True)
class Ranking:
    """Rows in order, and what a reader should know of them."""

    by: str
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


def rank(
    campaign: Workspace,
    by: str = "rate-retention",
    *,
    within: Within = "proposed",
    top: int | None = 50,
    min_capacity_mah_g: float | None = None,
    current_ma_g: float | None = None,
    cycle: int | None = None,
    order: Order = "lower",
    as_of: int | None = None,
    device: str = "cpu",
    engine: str = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Progress = silent,
) -> Ranking:
    """Rank compositions, what is measured marked as such.

    Args:
        campaign: of which.
        by: one of :data:`BY`.
        within: ``measured``: only what is measured under the conditions asked for; ``proposed``: every proposal of
            the campaign too; ``space``: every candidate of the space, streamed.
        top: rows to give back; all when null (of a space, 50).
        min_capacity_mah_g: leave out what delivers less at the low rate, measured or predicted; by default only
            candidates of a space that are predicted to miss the campaign's constraint.
        current_ma_g: for quantities at one rate; by default the campaign's low one (mA/g).
        cycle: cycle of the quantity; by default 1, of a capacity retention 20.
        order: by the lower bound or by the mean (of a space: among the best by the lower bound).
        as_of: rank as of a past round.
        device: of the model.
        engine: what encodes compositions: ``auto``, ``eager``, ``compiled`` or ``fused``.
        workers: for the space; by default as the campaign says.
        ray_address: of a Ray cluster.
        progress: of the stream.

    Raises:
        UsageError: an unknown quantity or one that the campaign's conditions do not give.
    """
    if by not in BY:
        raise UsageError(f"Rank by one of {', '.join(BY)}. Got {by!r}.")
    state = campaign.state(as_of)
    goals, asked = campaign.goals(state, as_of), min_capacity_mah_g
    quantities = _quantities(goals, by, current_ma_g, cycle)
    measured, notes = _measured_rows(state, goals, quantities)
    rows = measured
    if within != "measured":
        from campaigns.loop.forecast import predicted_rows

        if within == "space" and min_capacity_mah_g is None:
            min_capacity_mah_g = _least_capacity(goals)
            if min_capacity_mah_g is not None:
                notes = (*notes, f"Candidates of the space with less than {min_capacity_mah_g:g} mAh/g are left out.")

        rows = measured + predicted_rows(
            campaign,
            state,
            goals,
            quantities,
            leave_out={row["composition"] for row in measured},
            space=within == "space",
            top=top or 50,
            order=order,
            min_capacity_mah_g=min_capacity_mah_g,
            device=device,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            progress=progress,
        )
    if asked is not None:
        enough = [row for row in rows if (row["capacity_low_mah_g_mean"] or 0.0) >= asked]
        if short := sum(row["source"] == "measured" for row in rows) - sum(r["source"] == "measured" for r in enough):
            notes = (*notes, f"{short} measured compositions left out: below {asked:g} mAh/g, or not measured there.")
        rows = enough
    ordered = _ordered(rows, quantities, goals, order)[:top]
    return Ranking(by, [{"rank": i, **row} for i, row in enumerate(ordered, start=1)], notes)


def value_names(quantity: Quantity, goals: Goals) -> tuple[str, str, str]:
    """Keys of mean, spread and lower bound of a quantity in a row."""
    in_row = quantity.key(goals.rates)
    name = in_row if in_row in ("capacity_low_mah_g", "capacity_high_mah_g") else quantity.column
    return f"{name}_mean", f"{name}_std", f"{name}_lower"


def _quantities(goals: Goals, by: str, current_ma_g: float | None, cycle: int | None) -> list[ObjectiveSpec]:
    """Objectives to rank by: one, or those of the campaign for a Pareto front."""
    if by == "pareto":
        if len(goals.objectives) > 1:
            return list(goals.objectives)
        second = ObjectiveSpec(quantity="capacity", current_ma_g=goals.rates.low_current_ma_g)
        return [goals.objectives[0], second]
    if by == "rate-retention" and current_ma_g is not None:
        raise UsageError("The rate retention compares the campaign's two rates; --current does not apply to it.")
    try:
        asked = ObjectiveSpec.model_validate({"quantity": QUANTITIES[by], "current_ma_g": current_ma_g, "cycle": cycle})
    except ValueError as error:
        raise UsageError(str(error)) from None
    return [asked]


def _least_capacity(goals: Goals) -> float | None:
    """Low-rate capacity that the constraints ask for."""
    low = Capacity(goals.rates.low)
    asked = [c.at_least for c in goals.constraints if c.resolved(goals.rates) == low and c.at_least is not None]
    return max(asked, default=None)


def _ordered(
    rows: Sequence[dict[str, Any]], quantities: Sequence[ObjectiveSpec], goals: Goals, order: Order
) -> list[dict[str, Any]]:
    def value(row: Mapping[str, Any], quantity: ObjectiveSpec) -> float:
        number = row[f"_{quantity.resolved(goals.rates).identity}"][1 if order == "lower" else 0]
        return -math.inf if number is None else quantity.sign * number

    keyed = [(tuple(value(row, q) for q in quantities), row) for row in rows]
    if len(quantities) > 1:
        numbers = fronts(np.array([values for values, _ in keyed]).reshape(len(keyed), len(quantities))).tolist()
        keyed = [
            ((-front, *values), {**row, "front": front}) for (values, row), front in zip(keyed, numbers, strict=True)
        ]
    keyed.sort(key=lambda pair: (*(-v for v in pair[0]), pair[1]["composition"]))
    return [{k: v for k, v in row.items() if not k.startswith("_")} for _, row in keyed]


# -- what is measured ------------------------------------------------------------------------------------


def _measured_rows(
    state: Snapshot, goals: Goals, quantities: Sequence[ObjectiveSpec]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    by_proposal: dict[str, list[Measurement]] = {}
    for measurement in state.counted:
        by_proposal.setdefault(measurement.proposal_id, []).append(measurement)
    rows, half = [], []
    for outcome in outcomes_of(state, goals.rates):
        mine = by_proposal.get(outcome.proposal.proposal_id, [])
        if not mine:
            continue
        values = {q: measured_value(outcome, mine, q.resolved(goals.rates), goals) for q in quantities}
        if any(value is None for value in values.values()):
            if outcome.half_measured:
                half.append(f"{outcome.proposal.proposal_id} (no cell at {outcome.missing[0]})")
            continue
        rows.append(_measured_row(outcome, values, goals))
    notes: tuple[str, ...] = ()
    if state.doubtful:
        named = ", ".join(m.measurement_id for m in state.doubtful[:6])
        more = f" and {len(state.doubtful) - 6} more" if len(state.doubtful) > 6 else ""
        notes = (f"Doubtful, not counted as measured: {named}{more}; `drx-screen status` says why.",)
    if not half:
        return rows, notes
    more = f" and {len(half) - 6} more" if len(half) > 6 else ""
    return rows, (
        *notes,
        f"Half-measured, not counted as measured: {', '.join(half[:6])}{more}.",
    )


def _measured_row(outcome: Outcome, values: Mapping[ObjectiveSpec, Any], goals: Goals) -> dict[str, Any]:
    proposal, conditions = outcome.proposal, goals.rates
    low, high = _with_spread(outcome.capacity_low_mah_g), _with_spread(outcome.capacity_high_mah_g)
    retention = _retention(outcome, conditions.capacity_floor_mah_g)
    cells = " + ".join(
        f"{e.count} cell{'s' if e.count > 1 else ''} at {c.current_ma_g:g} mA/g"
        for e, c in ((outcome.capacity_low_mah_g, conditions.low), (outcome.capacity_high_mah_g, conditions.high))
        if e is not None
    )
    row: dict[str, Any] = {
        "proposal_id": proposal.proposal_id,
        "composition": proposal.composition,
        "source": "measured",
        "rate_retention_mean": retention[0],
        "rate_retention_std": retention[1],
        "rate_retention_lower": _lower(*retention, limits=RETENTION_LIMITS),
        "low_current_ma_g": conditions.low_current_ma_g,
        "high_current_ma_g": conditions.high_current_ma_g,
        "capacity_low_mah_g_mean": low[0],
        "capacity_low_mah_g_std": low[1],
        "capacity_high_mah_g_mean": high[0],
        "capacity_high_mah_g_std": high[1],
        "feasibility": _feasibility(low, high, goals),
        "score": None,
        "domain": proposal.prediction.domain if proposal.prediction else None,
        "why": f"measured: {cells}" if cells else "measured",
    }
    for quantity, estimate in values.items():
        asked = quantity.resolved(conditions)
        mean, std = retention if asked == RateRetention.of(conditions) else _with_spread(estimate)
        bound = _lower(mean, std, sign=quantity.sign, limits=asked.limits)
        row |= dict(zip(value_names(asked, goals), (mean, std, bound), strict=True))
        row[f"_{asked.identity}"] = (mean, bound)
    return row


def _retention(outcome: Outcome, floor_mah_g: float) -> tuple[float | None, float | None]:
    """Retention and its standard error, from those of the two capacities; 0 below the floor."""
    low, high, ratio = outcome.capacity_low_mah_g, outcome.capacity_high_mah_g, outcome.rate_retention
    if low is None or high is None:
        return None, None
    if ratio is None or low.mean < floor_mah_g or high.mean <= 0:
        return 0.0, 0.0
    return ratio.mean, ratio.mean * math.hypot(standard_error(low) / low.mean, standard_error(high) / high.mean)


def measured_value(outcome: Outcome, mine: Sequence[Measurement], quantity: Quantity, goals: Goals) -> Estimate | None:
    """Measured value of a quantity over the cells of a proposal; None where a condition is missing."""
    return quantity.of_cells(MeasuredCells(Composition.parse(outcome.proposal.composition), tuple(mine), goals.prices))


def _with_spread(estimate: Estimate | None) -> tuple[float | None, float | None]:
    """Mean over cells and the standard error of that mean."""
    return (None, None) if estimate is None else (estimate.mean, standard_error(estimate))


def _lower(
    mean: float | None, std: float | None, *, sign: int = 1, limits: tuple[float, float] = (0.0, math.inf)
) -> float | None:
    if mean is None or std is None:
        return None
    return float(pessimistic(mean, std, sign, limits))


def _feasibility(
    low: tuple[float | None, float | None], high: tuple[float | None, float | None], goals: Goals
) -> float | None:
    """Probability that the constraints hold, as far as the measured capacities decide them."""
    c = goals.rates
    probability = 1.0
    for constraint in goals.constraints:
        q = constraint.resolved(c)
        mean, std = {Capacity(c.low): low, Capacity(c.high): high}.get(q, (None, None))
        if mean is None or std is None:
            return None
        z = constraint.sign * (mean - constraint.threshold) / max(std, 1e-9)
        probability *= 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return probability


# -- where a campaign stands -----------------------------------------------------------------------------


def _staircases(campaign: Workspace, state: Snapshot) -> list[dict[str, Any]]:
    """Later rates of cells that are one of the campaign's, with the cycles that are no first ones."""
    rates = (campaign.spec.conditions.low, campaign.spec.conditions.high)
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


def summarize(campaign: Workspace, as_of: int | None = None) -> dict[str, Any]:
    """Say where a campaign stands, with the keys of ``drx-screen status --format json``."""
    state = campaign.state(as_of)
    outcomes = outcomes_of(state, campaign.goals(state, as_of).rates)
    states = Counter(str(p.state) for p in state.proposals)
    measured = [o for o in outcomes if o.rate_retention is not None]
    best = max(measured, key=lambda o: o.rate_retention_lower, default=None)
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
        "cells": len(state.cells),
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
        "staircases": _staircases(campaign, state),
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
        "best": None
        if best is None or best.rate_retention is None
        else {
            "proposal_id": best.proposal.proposal_id,
            "composition": best.proposal.composition,
            "rate_retention": best.rate_retention.mean,
        },
    }
