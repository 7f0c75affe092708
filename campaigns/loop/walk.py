"""Check the proof of a walk, of a round or a ranking: that every candidate was scored and none better left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.loop.forecast import limits_of, one_thread, outlook_of, scorer_of_ranking
from campaigns.loop.places import Question
from campaigns.loop.propose import proof_path
from campaigns.loop.rank import Asked
from campaigns.workspace import Workspace
from drxnet.errors import DataRefused, UsageError
from drxnet.progress import Progress, silent
from screening.candidates import CandidateList, Candidates
from screening.enumerator import Job
from screening.proof import Verification, WalkProof, verify
from screening.scoring import StreamScorer
from screening.strategies import today

if TYPE_CHECKING:
    from campaigns.ledger.records import Round, Snapshot
    from campaigns.spec import CampaignSpec


@dataclass(frozen=True)
class VerifiedWalk:
    """What checking one round, or the proof of a ranking, found."""

    name: str
    """Label of the round, or name of the file."""

    verification: Verification | None
    """None where the proof could not be read."""

    wrong: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """Return the public form."""
        found = self.verification
        numbers = ("count", "walked", "scored", "shards", "recomputed", "identical")
        return {
            "round": self.name,
            "holds": not self.wrong,
            **{name: getattr(found, name) if found else None for name in numbers},
            "wrong": list(self.wrong),
        }


def verify_walks(
    campaign: Workspace,
    number: int | None = None,
    *,
    sample: float = 0.01,
    seed: int | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Iterator[VerifiedWalk]:
    """Check the proofs of a campaign.

    Args:
        campaign: whose.
        number: of one round; by default of every round whose space was walked.
        sample: share of the shards to score again, above 0 and at most 1.
        seed: of the draw; by default nobody can know it beforehand.
        device: of the model.
        progress: told of shards.

    Raises:
        UsageError: no such round, or it was not chosen by a complete walk.
    """
    state = campaign.state()
    rounds = [r for r in state.rounds if number is None or r.number == number]
    if number is not None and not rounds:
        raise UsageError(f"There is no round R{number:02d} in {campaign.name}.")
    walked = [r for r in rounds if "walk" in r.statistics]
    if not walked:
        which = f"R{number:02d} was not" if number is not None else f"No round of {campaign.name} was"
        raise UsageError(
            f"{which} chosen by a complete walk with a proof; it was searched, cut short, or made by an older version."
        )
    for one in walked:
        yield _verify(campaign, one, sample, seed, device, progress)


def _verify(
    campaign: Workspace, one: Round, sample: float, seed: int | None, device: str, progress: Progress
) -> VerifiedWalk:
    told, path = one.statistics["walk"], proof_path(campaign, one.number)
    name = f"R{one.number:02d}"
    if not path.exists():
        return VerifiedWalk(name, None, (f"{path} is gone; without it no shard can be checked",))
    proof, wrong = WalkProof.read(path)
    job = job_of(campaign, one, int(proof.job["batch"]), device=device)
    with one_thread():
        found = verify(proof, job, wrong=wrong, root=told["root"], sample=sample, seed=seed, progress=progress)
    return VerifiedWalk(name, found, found.wrong)


def job_of(campaign: Workspace, one: Round, batch: int, *, device: str = "cpu") -> Job:
    """What the walk of a round scored, and by what: as it was then.

    Args:
        campaign: whose.
        one: round that was chosen by a complete walk.
        batch: candidates to score at once.
        device: of the model.
    """
    told, current = one.statistics["walk"], campaign.spec
    state = _as_it_was(campaign.state(as_of=one.number), told["known_rounds"])
    spec = type(current).model_validate({**current.model_dump(mode="json"), **one.spec, "folder": current.folder})
    source = _source(one, spec)
    phases = bool(told.get("phases", False))  # 0.1.0 took every synthesis to work
    outlook = outlook_of(campaign, state, spec.goals, device=device, phases=phases)
    outlook = outlook.for_stream(told["engine"], source.count).with_fitted(told["fitted"])
    strategy = today(one.strategy)
    scorer = StreamScorer(outlook, source.columns, source.denominator, strategy, limits_of(spec), one.seed)
    return Job(source, scorer, int(told["keep"]), batch)


def verify_ranking(
    campaign: Workspace,
    path: Path,
    *,
    sample: float = 0.01,
    seed: int | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> VerifiedWalk:
    """Check the proof that a ranking of the whole space wrote (``drx-screen rank --within space --proof FILE``).

    Args:
        campaign: whose space was ranked.
        path: of the proof.
        sample: share of the shards to score again, above 0 and at most 1.
        seed: of the draw; by default nobody can know it beforehand.
        device: of the model.
        progress: told of shards.

    Raises:
        DataRefused: it is no proof.
        UsageError: it is the proof of a round, or the campaign has gone on since.
    """
    proof, wrong = WalkProof.read(path)
    told = proof.job.get("ranking")
    if told is None:
        raise UsageError(f"{path} is the proof of a round; check it by --round. One of a ranking is wanted here.")
    try:
        asked, known = Asked.of(campaign, Question(**told["question"])), int(told["events"])
        engine, fitted = str(told["engine"]), told["fitted"]
    except (TypeError, KeyError, ValueError) as error:
        raise DataRefused(f"{path}: does not say what was ranked ({error!r}). Rank again.") from None
    if (events := len(asked.state.events)) != known:
        raise UsageError(
            f"{path} was written when the ledger of {campaign.name} had {known} events; it has {events} now, "
            "and ranks otherwise. Rank again; with --as-of R03 a proof stays one."
        )
    candidates = campaign.spec.candidates()
    outlook = outlook_of(campaign, asked.state, asked.goals, device=device)
    outlook = outlook.for_stream(engine, candidates.count).with_fitted(fitted)
    scorer = scorer_of_ranking(campaign.spec, candidates, outlook, asked.sought)
    job = Job(candidates, scorer, int(proof.job["keep"]), int(proof.job["batch"]))
    with one_thread():
        found = verify(proof, job, wrong=wrong, sample=sample, seed=seed, progress=progress)
    return VerifiedWalk(path.name, found, found.wrong)


def _as_it_was(state: Snapshot, rounds: int) -> Snapshot:
    """State that a round was chosen on: without the round itself."""
    known = tuple(r for r in state.rounds if r.number <= rounds)
    return replace(
        state,
        rounds=known,
        proposals=tuple(p for p in state.proposals if p.round is None or p.round <= rounds),
    )


def _source(one: Round, spec: CampaignSpec) -> Candidates:
    named = str(one.statistics["candidates"])
    return CandidateList.read(named) if named != spec.space_name and Path(named).is_file() else spec.candidates()
