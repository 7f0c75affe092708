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
from campaigns.loop.places import Means
from campaigns.loop.shortening import ways_to_shorten
from campaigns.workspace import Workspace
from drxnet.errors import ConfigurationError, UsageError
from drxnet.files import RESUMED, resumed_folder, sweep_resumed
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from screening.errors import NothingToPropose

if TYPE_CHECKING:
    from campaigns.loop.forecast import Forecast, Look
    from campaigns.spec import CampaignSpec, Method
    from drxnet.composition import Composition
    from screening.batch import Choice
    from screening.candidates import Candidates
    from screening.enumerator import Shortlist
    from screening.goals import Goals
    from screening.measured import Made
    from screening.outlook import Outlook
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

    The arguments are those of :meth:`campaigns.campaign.Campaign.recommend`.

    Raises:
        NothingToPropose: every candidate is measured, pending or excluded.
        UsageError: workers for a search, which runs in this process.
    """
    from campaigns.loop.forecast import Look
    from screening.candidates import CandidateList
    from screening.strategies import STRATEGIES, today

    spec, state = campaign.spec, campaign.state()
    strategy = today(strategy) if strategy else None
    how = strategy or strategy_of(spec, state)
    STRATEGIES.named(how)
    limits = (evaluations or spec.evaluations, time_limit_s or spec.time_limit_s)
    round_seed = seed_of_round(spec.seed if seed is None else seed, state.round + 1)
    look = Look("walk" if candidates else method or spec.method, *limits, round_seed)
    if look.searches and (workers or ray_address):
        raise _no_workers(look.method)
    source: Candidates = CandidateList.read(candidates) if candidates else spec.candidates()
    means = Means(device, engine, workers, ray_address, progress).with_usual(spec.workers)
    begun = _Round.begun(campaign, state, source, str(candidates or spec.space_name), how, look, means)
    begun.notes += _why_so(how, strategy or spec.strategy)
    for _ in range(MOST_ATTEMPTS):
        if (chosen := begun.choose(batch_size or spec.batch_size, dry_run=dry_run)) is not None:
            return chosen
        begun.follow()
        _log.info("another process proposed the same compositions in the meantime; choosing again")
    raise LedgerLocked(
        f"Other processes recorded the same compositions {MOST_ATTEMPTS} times while this one chose. Try again."
    )


@dataclass
class _Round:
    """A round while it is chosen."""

    campaign: Workspace
    state: Snapshot
    """What it is chosen on."""

    outlook: Outlook
    source: Candidates
    shortlist: Shortlist
    """The best of the candidates, each by itself."""

    how: str
    """Strategy."""

    seed: int
    statistics: dict[str, Any]
    """Of the stream."""

    notes: tuple[str, ...]

    @classmethod
    def begun(
        cls, campaign: Workspace, state: Snapshot, source: Candidates, named: str, how: str, look: Look, means: Means
    ) -> _Round:
        """Look through candidates."""
        from campaigns.loop.forecast import admissions_of, limits_of, outlook_of, run_stream
        from screening.scoring import StreamScorer

        spec = campaign.spec
        others = admissions_of(campaign, state, spec.goals, device=means.device)
        outlook = outlook_of(campaign, state, spec.goals, device=means.device, admissions=others)
        streamed = outlook.for_stream(means.engine, look.most(source))
        scorer = StreamScorer(streamed, source.columns, source.denominator, how, limits_of(spec), look.seed)
        keep = LISTED * spec.shortlist + len(state.excluded)
        key = f"{scorer.fingerprint[:8]}{source.fingerprint[:8]}-{keep}"
        with resumed_folder(campaign.folder / "rounds" / f"{RESUMED}{key}") as folder:
            found = run_stream(source, scorer, look, means, keep=keep, folder=folder)
        statistics = _statistics(spec, named, found)
        if found.proof:
            walk = {"engine": streamed.engine, "known_rounds": state.round, "phases": True, "fitted": streamed.fitted()}
            statistics["walk"] = {**found.proof.summary(), **walk}
        notes = (*_notes(found), *map(str, others))
        return cls(campaign, state, outlook, source, found, how, look.seed, statistics, notes)

    def choose(self, n: int, *, dry_run: bool) -> Proposed | None:
        """Choose n of the best together and record them; None where one of them has been taken meanwhile."""
        from campaigns.loop.forecast import Forecast
        from screening.prospect import prospect_of

        picks = self._picks(n)
        forecast = Forecast(self.outlook, [p.composition for p in picks], [p.process for p in picks])
        rows = _proposals(picks, forecast, self.source, self.campaign.spec)
        prospect = prospect_of(self.outlook, [(p.composition, p.process) for p in picks], self.seed)
        model = self.state.current_model.model_id
        if sum(pick.cells or 1 for pick in picks) < n:
            why = "no other candidate is left, or none within the limits of the lab"
            self.notes += (f"{len(picks)} of {n} proposed: {why}.",)
        if dry_run:
            shown = _preview(rows, self.state)
            return Proposed(self.state.round + 1, model, shown, self.statistics, self.notes, prospect)
        new = [(p.composition, p.process) for p in picks if p.kind == "candidate"]
        number = _record(self.campaign, rows, new, self._recipe(model, prospect))
        if number is None:
            return None
        if self.shortlist.proof:
            self.shortlist.proof.write(proof_path(self.campaign, number))
        sweep_resumed(self.campaign.folder / "rounds")  # a stream that was killed would go on from another state now
        proposals = self.campaign.state().proposals_of(number)
        return Proposed(number, model, proposals, self.statistics, self.notes, prospect)

    def follow(self) -> None:
        """Know what others have recorded."""
        from campaigns.loop.forecast import measured_of
        from campaigns.loop.syntheses import tried_of

        goals, self.state = self.campaign.spec.goals, self.campaign.state()
        known = measured_of(self.state, goals), pending_of(self.state, goals), tried_of(self.state)
        self.outlook = self.outlook.updated(*known)

    def _picks(self, n: int) -> list[Choice]:
        from campaigns.loop.forecast import limits_of
        from screening.batch import choose_batch

        spec = self.campaign.spec
        taken = partial(_is_taken, self.state, spec)
        ways = self.outlook.ways or (spec.goals.rates.process,)
        listed = self.source.compositions(self.shortlist.units)
        open_ones = [c for c in listed if not all(taken(c, way) for way in ways)]
        if not open_ones:
            raise NothingToPropose(_nothing_left(self.state, self.shortlist))
        return choose_batch(
            open_ones,
            self.outlook,
            n=n,
            strategy=self.how,
            limits=limits_of(spec),
            seed=self.seed,
            shortlist=spec.shortlist,
            taken=taken,
        )

    def _recipe(self, model_id: str, prospect: Prospect | None) -> dict[str, Any]:
        """What the round is chosen by."""
        spec = self.campaign.spec
        return {
            "model_id": model_id,
            "seed": self.seed,
            "strategy": self.how,
            "spec": spec.resolved(),
            "spec_hash": spec.hash,
            "statistics": self.statistics | ({"prospect": prospect.as_dict()} if prospect else {}),
        }


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
    from campaigns.loop.forecast import Look, limits_of, one_thread, outlook_of
    from drxnet.ensemble import FUSED_FROM
    from screening.enumerator import speed
    from screening.scoring import StreamScorer

    spec, state = campaign.spec, campaign.state()
    how = strategy_of(spec, state)
    begun = time.monotonic()
    source = spec.candidates()
    counted_s = time.monotonic() - begun
    passing = _share_passing(source, spec)
    model = state.current_model
    outlook, look = outlook_of(campaign, state, spec.goals), Look(spec.method, spec.evaluations)

    def measured_rate(engine: str, compositions: int, strategy: str) -> tuple[str, float]:
        by = outlook.for_stream(engine, compositions)
        scorer = StreamScorer(by, source.columns, source.denominator, strategy, limits_of(spec))
        with one_thread():
            return by.engine, speed(source, scorer, seconds=1.0)

    engine, rate = measured_rate("auto", look.most(source), how)
    rates = dict(measured_rate(name, FUSED_FROM, spec.strategy) for name in ("eager", "auto"))
    cores, fastest = os.cpu_count() or 1, max(rates.values())
    return {
        "campaign": spec.name,
        "folder": str(campaign.folder),
        "space": spec.space_name,
        "candidates": source.count,
        "counted_in_s": round(counted_s, 2),
        "passing_filters": f"about {passing:.0%}",
        "candidates_per_s_and_core": round(rate),
        "engine": engine,
        **{f"candidates_per_s_and_core_{name}": round(value) for name, value in rates.items()},
        f"walk_s_on_{cores}_cores": round(source.count / fastest / cores),
        f"walk_s_on_{LARGER_CORES}_cores": round(source.count / fastest / LARGER_CORES),
        "method": spec.method,
        "stream_s_on_one_core": round((look.evaluations if look.searches else source.count) / rate),
        "strategy": how,
        "batch_size": spec.batch_size,
        "model": f"{model.name} ({model.model_id})",
        "rounds": state.round,
        "pending": len(state.pending),
        "measured": len(state.valid),
        "shorter": ways_to_shorten(spec, source.count, fastest, cores),
    }


def _share_passing(source: Candidates, spec: CampaignSpec) -> float:
    """Share of the candidates that pass the filters, of some that are drawn.

    Raises:
        ConfigurationError: none does.
    """
    sample = source.unrank(source.sample_ranks(min(source.count, 4000), spec.seed))
    refused = source.refused(sample)
    passing = len(sample) - int(np.any([*refused.values(), np.zeros(len(sample), bool)], axis=0).sum())
    if passing == 0:
        worst = max(refused, key=lambda name: int(refused[name].sum()))
        raise ConfigurationError(
            f"{spec.name}: none of {len(sample):,} candidates drawn from {spec.space_name} passes the filters; "
            f"most are refused by {worst}. Loosen it in the space."
        )
    return passing / len(sample)
