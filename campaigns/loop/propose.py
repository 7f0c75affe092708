"""Choose the next batch of compositions, record it, and write what the lab needs to make it.

The choice is made on a snapshot, outside any transaction, because it takes minutes; it is checked again inside the
transaction that records it, and made again when somebody else was faster.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.errors import LedgerLocked
from campaigns.ledger.records import NewProposal, Prediction, Proposal, Snapshot, State
from campaigns.loop.outcomes import pending_of, stated
from campaigns.loop.shortening import ways_to_shorten
from campaigns.workspace import Workspace
from drxnet.errors import ConfigurationError, UsageError
from drxnet.files import RESUMED, resumed_folder, sweep_resumed
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from screening.errors import NothingToPropose

if TYPE_CHECKING:
    from campaigns.loop.forecast import Forecast
    from campaigns.spec import CampaignSpec, Method
    from drxnet.composition import Composition
    from screening.batch import Choice
    from screening.candidates import Candidates
    from screening.enumerator import Shortlist
    from screening.goals import Goals
    from screening.measured import Made
    from screening.prospect import Prospect

_log = logging.getLogger(__name__)

MOST_ATTEMPTS = 5
"""Times that a batch is chosen anew because another process recorded one in the meantime."""

LARGER_CORES = 64
"""Of the larger machine that an estimate tells the time of, too."""

LISTED = 3
"""Candidates kept of the stream for each place of the shortlist, which is then drawn from them to be diverse."""


@dataclass(frozen=True)
class Proposed:
    """One batch."""

    round: int
    model_id: str
    proposals: tuple[Proposal, ...]
    statistics: Mapping[str, Any]
    """Of the stream."""

    notes: tuple[str, ...] = ()
    prospect: Prospect | None = None
    """What the batch is expected to gain; None before anything feasible is known."""


def propose(
    campaign: Workspace,
    *,
    batch_size: int | None = None,
    candidates: Path | None = None,
    strategy: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    device: str = "cpu",
    engine: str = "auto",
    method: Method | None = None,
    evaluations: int | None = None,
    time_limit_s: float | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Proposed:
    """Choose the next batch and record it as a round.

    Args:
        campaign: to propose for.
        batch_size: how many compositions; like the next ones by default as the campaign says.
        candidates: CSV to choose from instead of the space.
        strategy: how to choose.
        seed: with the ledger's state, decides the batch.
        workers: processes that score.
        ray_address: of a Ray cluster.
        device: of the model.
        engine: what encodes compositions: ``auto``, ``eager``, ``compiled`` or ``fused``.
        method: how to look through the space.
        evaluations: of a search.
        time_limit_s: for looking through the space (s).
        dry_run: choose, but record nothing.
        progress: told of candidates.

    Raises:
        NothingToPropose: every candidate is measured, pending or excluded.
        UsageError: workers for a search, which runs in this process.
    """
    from campaigns.loop.forecast import (
        SEARCHES,
        Forecast,
        admissions_of,
        limits_of,
        looked_at,
        measured_of,
        outlook_of,
        run_stream,
    )  # fmt: skip
    from campaigns.loop.syntheses import tried_of
    from screening.batch import choose_batch
    from screening.candidates import CandidateList
    from screening.prospect import prospect_of
    from screening.scoring import StreamScorer
    from screening.strategies import STRATEGIES, today

    spec, state = campaign.spec, campaign.state()
    n = batch_size or spec.batch_size
    strategy = today(strategy) if strategy else None
    how = strategy or strategy_of(spec, state)
    STRATEGIES.named(how)
    model = state.current_model
    source: Candidates = CandidateList.read(candidates) if candidates else spec.candidates()
    look = "walk" if candidates else method or spec.method
    if look in SEARCHES and (workers or ray_address):
        raise _no_workers(look)
    round_seed = seed_of_round(spec.seed if seed is None else seed, state.round + 1)
    others = admissions_of(campaign, state, spec.goals, device=device)
    outlook, limits = outlook_of(campaign, state, spec.goals, device=device, admissions=others), limits_of(spec)
    streamed = outlook.for_stream(engine, looked_at(source, look, evaluations or spec.evaluations))
    scorer = StreamScorer(streamed, source.columns, source.denominator, how, limits, round_seed)
    keep = LISTED * spec.shortlist + len(state.excluded)
    key = f"{scorer.fingerprint[:8]}{source.fingerprint[:8]}-{keep}"
    with resumed_folder(campaign.folder / "rounds" / f"{RESUMED}{key}") as folder:
        shortlist = run_stream(
            source,
            scorer,
            keep=keep,
            workers=spec.workers if workers is None else workers,
            method=look,
            evaluations=evaluations or spec.evaluations,
            seed=round_seed,
            folder=folder,
            time_limit_s=time_limit_s or spec.time_limit_s,
            ray_address=ray_address,
            device=device,
            progress=progress,
        )
    statistics = _statistics(spec, str(candidates or spec.space_name), shortlist)
    if shortlist.proof:
        walk = {"engine": streamed.engine, "known_rounds": state.round, "phases": True, "fitted": streamed.fitted()}
        statistics["walk"] = {**shortlist.proof.summary(), **walk}
    listed = source.compositions(shortlist.units)
    notes = (*_notes(shortlist), *map(str, others), *_why_so(how, strategy or spec.strategy))
    for _ in range(MOST_ATTEMPTS):
        taken = partial(_is_taken, state, spec)
        ways = outlook.ways or (spec.goals.rates.process,)
        open_ones = [c for c in listed if not all(taken(c, way) for way in ways)]
        if not open_ones:
            raise NothingToPropose(_nothing_left(state, shortlist))
        picks = choose_batch(
            open_ones, outlook, n=n, strategy=how, limits=limits, seed=round_seed, shortlist=spec.shortlist, taken=taken
        )
        forecast = Forecast(outlook, [p.composition for p in picks], [p.process for p in picks])
        rows = _proposals(picks, forecast, source, spec)
        prospect = prospect_of(outlook, [(p.composition, p.process) for p in picks], round_seed)
        recipe = {
            "model_id": model.model_id,
            "seed": round_seed,
            "strategy": how,
            "spec": spec.resolved(),
            "spec_hash": spec.hash,
            "statistics": statistics | ({"prospect": prospect.as_dict()} if prospect else {}),
        }
        if len(picks) < n:
            notes = (*notes, f"{len(picks)} of {n} proposed: the limits of the lab leave no other candidate.")
        if dry_run:
            return Proposed(state.round + 1, model.model_id, _preview(rows, state), statistics, notes, prospect)
        new = [(p.composition, p.process) for p in picks if p.kind == "candidate"]
        number = _record(campaign, rows, new, recipe)
        if number is not None:
            if shortlist.proof:
                shortlist.proof.write(proof_path(campaign, number))
            sweep_resumed(campaign.folder / "rounds")  # a stream that was killed would go on from another state now
            return Proposed(number, model.model_id, campaign.state().proposals_of(number), statistics, notes, prospect)
        state = campaign.state()
        outlook = outlook.updated(measured_of(state, spec.goals), pending_of(state, spec.goals), tried_of(state))
        _log.info("another process proposed the same compositions in the meantime; choosing again")
    raise LedgerLocked(
        f"Other processes recorded the same compositions {MOST_ATTEMPTS} times while this one chose. Try again."
    )


def _is_taken(state: Snapshot, spec: CampaignSpec, composition: Composition, process: Process) -> bool:
    """Whether a composition may not be proposed now; where ways can be chosen, made so."""
    if not spec.ways:
        return composition.formula in state.excluded
    return state.takes(composition.formula, process, spec.goals.rates.process)


def _no_workers(look: str) -> UsageError:
    return UsageError(
        f"Ray workers score walks; a {look} search runs in this process. Leave out --workers and --ray-address, or "
        "take --method walk (a time limit may end it early)."
    )


def _statistics(spec: CampaignSpec, candidates: str, shortlist: Shortlist) -> dict[str, Any]:
    """What is recorded of the stream."""
    done = shortlist.statistics
    return {
        "candidates": candidates,
        "count": done.count,
        **({"processes": len(spec.ways)} if spec.ways else {}),
        "walked": done.walked,
        "scored": done.scored,
        "rejected": done.rejected,
        "refused": dict(done.refused),
    }


def _why_so(how: str, usual: str) -> tuple[str, ...]:
    """Say why the first batch is chosen in another way than the next ones."""
    if how == usual:
        return ()
    return (
        f"Nothing is measured yet: this batch is chosen by {how}, to learn where the model is right. "
        f"The next ones go by {usual} (at once: --strategy {usual}).",
    )


def _proposals(
    picks: Sequence[Choice], forecast: Forecast, source: Candidates, spec: CampaignSpec
) -> list[NewProposal]:
    """Picks as they are recorded, with their profiles and what a chemist should mind."""
    from screening.candidates import cautions

    return [
        NewProposal(
            pick.composition.formula,
            prediction(pick, forecast.row(i), spec.goals, (*cautions(source, pick.composition), *forecast.cautions(i))),
            profiles,
            pick.process if spec.ways else NOT_STATED,
        )
        for i, (pick, profiles) in enumerate(zip(picks, forecast.profiles(), strict=True))
    ]


def proof_path(campaign: Workspace, number: int) -> Path:
    """Where the proof of the walk of a round lies."""
    return campaign.folder / "rounds" / f"R{number:02d}.walk.jsonl"


def _record(
    campaign: Workspace,
    rows: Sequence[NewProposal],
    new: Sequence[Made],
    recipe: Mapping[str, Any],
) -> int | None:
    """Record a round; None, and nothing recorded, when one of its compositions has been taken since it was chosen."""
    with campaign.ledger.write("propose") as entry:
        if any(_is_taken(entry.before, campaign.spec, *made) for made in new):
            return None
        number = entry.add_round(rows, **recipe)
        scored = recipe["statistics"]["scored"]
        entry.summary = f"R{number:02d}: {len(rows)} of {scored:,} compositions by {recipe['strategy']}"
    return number


def prediction(pick: Choice, said: Mapping[str, Any], goals: Goals, mind: Sequence[str] = ()) -> Prediction:
    """What is recorded of a pick, with what a chemist should mind beside the reason for it.

    Args:
        pick: of a batch.
        said: of it by a forecast, by public names.
        goals: of the campaign.
        mind: cautions.
    """
    return Prediction(
        values=stated(goals, said),
        low_current_ma_g=goals.rates.low_current_ma_g,
        high_current_ma_g=goals.rates.high_current_ma_g,
        feasibility=float(said["feasibility"]),
        score=pick.score,
        domain=pick.domain,
        why="; ".join([pick.why, *mind]),
        phase_probability=pick.phase_probability,
        cells=pick.cells,
    )


def strategy_of(spec: CampaignSpec, state: Snapshot) -> str:
    """How the next batch is chosen: the first may be chosen in another way than all that follow."""
    nothing_yet = not state.valid and not pending_of(state, spec.goals)
    return (spec.first_strategy or spec.strategy) if nothing_yet else spec.strategy


def seed_of_round(seed: int, number: int) -> int:
    """Seed of one round, different for every round of a campaign."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % 2**31


def _preview(rows: Sequence[NewProposal], state: Snapshot) -> tuple[Proposal, ...]:
    number = state.round + 1
    return tuple(
        Proposal(f"R{number:02d}-{i:02d}", number, formula, "proposed", State.PROPOSED, "", predicted, 0, process)
        for i, (formula, predicted, _, process) in enumerate(rows, start=1)
    )


def _notes(shortlist: Shortlist) -> tuple[str, ...]:
    statistics = shortlist.statistics
    refused = ", ".join(f"{name} {number:,}" for name, number in statistics.refused.items() if number)
    notes = [
        f"{statistics.count:,} candidates, {statistics.scored:,} scored in {statistics.seconds:.0f} s"
        + (f"; refused by {refused}" if refused else "")
        + "."
    ]
    if shortlist.how != "all candidates":
        notes.append(f"How: {shortlist.how}.")
    elif not statistics.complete:
        notes.append(
            f"The time limit ended the stream after {statistics.walked:,} of them: the batch is the best of these. "
            "Allow more time to see the rest."
        )
    return tuple(notes)


def _nothing_left(state: Snapshot, shortlist: Shortlist) -> str:
    statistics = shortlist.statistics
    if not statistics.complete:
        return (
            f"Nothing to propose among the {statistics.scored:,} of {statistics.count:,} candidates that were scored. "
            "Allow more time or evaluations, or look in another way (--method)."
        )
    return (
        f"Nothing left to propose: of {statistics.count:,} candidates {statistics.scored - statistics.rejected:,} pass "
        f"the filters and the limits of the lab, and {len(state.excluded):,} compositions are measured, pending or "
        "abandoned. Widen the space, lift a limit, or enter what is pending."
    )


# -- what can be known before ----------------------------------------------------------------------------


def estimate(campaign: Workspace) -> dict[str, Any]:
    """Check what is cheap to check, and say what a round would take.

    Raises:
        ConfigurationError: the space is empty, or nothing of it passes the filters.
        CheckpointError: the model cannot be read.
    """
    from campaigns.loop.forecast import SEARCHES, limits_of, looked_at, one_thread, outlook_of
    from drxnet.ensemble import FUSED_FROM
    from screening.enumerator import speed
    from screening.scoring import StreamScorer

    spec, state = campaign.spec, campaign.state()
    how = strategy_of(spec, state)
    begun = time.monotonic()
    source = spec.candidates()
    counted_s = time.monotonic() - begun
    sample = source.unrank(source.sample_ranks(min(source.count, 4000), spec.seed))
    refused = source.refused(sample)
    passing = len(sample) - int(np.any([*refused.values(), np.zeros(len(sample), bool)], axis=0).sum())
    if passing == 0:
        worst = max(refused, key=lambda name: int(refused[name].sum()))
        raise ConfigurationError(
            f"{campaign.name}: none of {len(sample):,} candidates drawn from {spec.space_name} passes the filters; "
            f"most are refused by {worst}. Loosen it in the space."
        )
    model = state.current_model
    outlook = outlook_of(campaign, state, spec.goals)
    looked = looked_at(source, spec.method, spec.evaluations)

    def measured_rate(engine: str, compositions: int, strategy: str) -> tuple[str, float]:
        by = outlook.for_stream(engine, compositions)
        scorer = StreamScorer(by, source.columns, source.denominator, strategy, limits_of(spec))
        with one_thread():
            return by.engine, speed(source, scorer, seconds=1.0)

    engine, rate = measured_rate("auto", looked, how)
    rates = dict(measured_rate(name, FUSED_FROM, spec.strategy) for name in ("eager", "auto"))
    cores, fastest = os.cpu_count() or 1, max(rates.values())
    return {
        "campaign": spec.name,
        "folder": str(campaign.folder),
        "space": spec.space_name,
        "candidates": source.count,
        "counted_in_s": round(counted_s, 2),
        "passing_filters": f"about {passing / len(sample):.0%}",
        "candidates_per_s_and_core": round(rate),
        "engine": engine,
        **{f"candidates_per_s_and_core_{name}": round(value) for name, value in rates.items()},
        f"walk_s_on_{cores}_cores": round(source.count / fastest / cores),
        f"walk_s_on_{LARGER_CORES}_cores": round(source.count / fastest / LARGER_CORES),
        "method": spec.method,
        "stream_s_on_one_core": round((spec.evaluations if spec.method in SEARCHES else source.count) / rate),
        "strategy": how,
        "batch_size": spec.batch_size,
        "model": f"{model.name} ({model.model_id})",
        "rounds": state.round,
        "pending": len(state.pending),
        "measured": len(state.valid),
        "shorter": ways_to_shorten(spec, source.count, fastest, cores),
    }
