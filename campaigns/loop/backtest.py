"""Rehearse a campaign against a simulated laboratory before anyone spends a month on it.

The laboratory is a network that the campaign's model never learned from. It makes what it is given, with the scatter
of cells, failed syntheses and late results; the campaign proposes, ingests and fine-tunes exactly as in earnest, each
strategy in a folder and a ledger of its own. Where the space is crossed with processes, a law that the campaign does
not know says what each leaves of a capacity. What was found is judged by the laboratory's truth, without noise.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from campaigns.intake.rows import record_rows
from campaigns.ledger.records import Proposal, State
from campaigns.loop.finetune import fine_tune_campaign
from campaigns.loop.laboratories import KINDS, Laboratory, LaboratoryOptions, MadeBy, MemberTruth, Truth
from campaigns.loop.propose import propose
from campaigns.spec import CampaignSpec, parse_spec
from campaigns.workspace import Workspace
from drxnet import checkpoint
from drxnet.composition import Composition
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError, ModelNotFound
from drxnet.files import replace_file
from drxnet.names import hint
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from drxnet.simulation import ProcessLaw
from screening.errors import NothingToPropose
from screening.strategies import STRATEGIES, today

if TYPE_CHECKING:
    from screening.goals import Goals

_log = logging.getLogger(__name__)

BASELINES = ("greedy", "random")
TOP_SHARE = 0.01
"""Part of the candidates, best first by the truth, that counts as a hit."""

_DRAWS_AT_MOST = 200
_LISTED = "candidates.csv"
_UNLEARNING = ("random",)
"""Strategies whose choice does not depend on the model: it is not fine-tuned for them."""


@dataclass(frozen=True)
class Pool:
    """What every strategy may choose from, with the laboratory's truth."""

    compositions: tuple[str, ...]
    """One for each row; where ways can be chosen, once for each of them."""

    objective: np.ndarray
    """First objective of the campaign, signed so that larger is better, ``n``."""

    feasible: np.ndarray
    """Whether all constraints hold in truth, ``n``."""

    processes: tuple[Process, ...] = ()
    """How each is made, ``n``; empty where there is nothing to choose."""

    def __post_init__(self) -> None:
        """Refuse a rehearsal that nobody can win."""
        if not self.feasible.any():
            raise ConfigurationError(
                f"None of {len(self.compositions)} candidates meets the constraints in this laboratory; there would be "
                "nothing to find. Take more candidates, or loosen the constraints."
            )

    @property
    def best(self) -> float:
        """Largest objective among the feasible."""
        return float(self.objective[self.feasible].max())

    @property
    def made(self) -> list[tuple[str, Process]]:
        """Composition and process of each, ``n``."""
        return list(zip(self.compositions, self.processes or (NOT_STATED,) * len(self.compositions), strict=True))

    def hits(self) -> frozenset[tuple[str, Process]]:
        """The best hundredth of the candidates among the feasible ones (at least one), as they are made."""
        count = max(1, round(TOP_SHARE * len(self.compositions)))
        order = np.argsort(-np.where(self.feasible, self.objective, -np.inf), kind="stable")[:count]
        made = self.made
        return frozenset(made[i] for i in order if self.feasible[i])


@dataclass(frozen=True)
class RoundRow:
    """Where one strategy stood after one round."""

    strategy: str
    repeat: int
    round: int
    proposed: int
    measured: int
    """Compositions measured at both rates so far."""

    failed: int
    best: float | None
    """True objective of the best feasible composition measured so far, in its unit; None while there is none."""

    hits: int
    """Compositions of the best hundredth measured so far."""

    model: str
    """Model in use after the round."""

    stop: bool = False
    """Whether the round's own prospect said, before it was made, that it is not worth its cells."""


@dataclass(frozen=True)
class Backtest:
    """What came of a rehearsal."""

    campaign: str
    objective: str
    unit: str
    sign: int
    """1 when the objective is to be large, -1 when small."""

    candidates: int
    feasible: int
    best_possible: tuple[float, ...]
    """Of each repeat, for its own laboratory."""

    hits_possible: tuple[int, ...]
    rows: tuple[RoundRow, ...]
    notes: tuple[str, ...]

    @property
    def strategies(self) -> tuple[str, ...]:
        """In the order they were run."""
        return tuple(dict.fromkeys(r.strategy for r in self.rows))

    @property
    def rounds(self) -> int:
        """Most rounds of any run."""
        return max(r.round for r in self.rows)

    def best_by_round(self, strategy: str) -> np.ndarray:
        """Best true objective so far, ``repeats x rounds``; NaN before anything feasible was measured."""
        table = np.full((len(self.best_possible), self.rounds), np.nan)
        for row in self.rows:
            if row.strategy == strategy and row.best is not None:
                table[row.repeat, row.round - 1 :] = row.best
        return table

    def stopping(self, strategy: str) -> tuple[float, float | None]:
        """What heeding the first "Stop" would have saved and cost.

        Returns:
            Share of the compositions that would not have been made, and by how much the best would have been worse, in
            its unit; means over the repeats, None where nothing feasible was found.
        """
        saved, lost = [], []
        for repeat, best in enumerate(self.best_by_round(strategy)):
            mine = [r for r in self.rows if (r.strategy, r.repeat) == (strategy, repeat)]
            made = {r.round: r.proposed for r in mine}
            stopped = next((r.round - 1 for r in mine if r.stop), max(made))
            saved.append(1 - made.get(stopped, 0) / made[max(made)])
            at = best[stopped - 1] if stopped else np.nan
            lost.append(self.sign * (best[-1] - at))
        known = [value for value in lost if np.isfinite(value)]
        return float(np.mean(saved)), float(np.mean(known)) if known else None

    def summary(self) -> list[dict[str, Any]]:
        """One row per strategy: what it had found after the last round, means over the repeats."""
        table = []
        for strategy in self.strategies:
            best = self.best_by_round(strategy)[:, -1]
            last = [max((r for r in self.rows if (r.strategy, r.repeat) == (strategy, i)), key=lambda r: r.round)
                    for i in range(len(self.best_possible))]  # fmt: skip
            found = best[np.isfinite(best)]
            saved, lost = self.stopping(strategy)
            regret = self.sign * (np.array(self.best_possible) - best)[np.isfinite(best)]
            table.append(
                {
                    "strategy": strategy,
                    "best_mean": float(found.mean()) if len(found) else None,
                    "best_std": float(found.std(ddof=1)) if len(found) > 1 else None,
                    "regret_mean": float(regret.mean()) if len(regret) else None,
                    "hits_mean": float(np.mean([r.hits for r in last])),
                    "measured_mean": float(np.mean([r.measured for r in last])),
                    "failed_mean": float(np.mean([r.failed for r in last])),
                    "runs_without_feasible": int(np.isnan(best).sum()),
                    "saved_by_stopping": saved,
                    "lost_by_stopping": lost,
                    "repeats": len(best),
                }
            )
        return table

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "summary": self.summary()}


def backtest(
    spec: CampaignSpec,
    folder: Path,
    *,
    rounds: int = 6,
    repeats: int = 3,
    candidates: int = 3000,
    strategies: Sequence[str] | None = None,
    laboratory: str | Path = "member",
    options: LaboratoryOptions | None = None,
    fine_tune: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Backtest:
    """Run a campaign against a simulated laboratory, once per strategy and repeat.

    Args:
        spec: the campaign; its space is sampled, the rest is used as it is.
        folder: written to: one campaign per run under ``runs``, and the results; must not exist or be empty.
        rounds: of each run.
        repeats: each with another laboratory (or another seed of it) and other candidates.
        candidates: compositions drawn uniformly from the space, filters kept; the same for every strategy.
        strategies: by default the campaign's own, then :data:`BASELINES`.
        laboratory: one of :data:`~campaigns.loop.laboratories.KINDS`, drawn anew in every repeat, or a model that
            plays the laboratory. A *member* of the campaign's model is left out of it.
        options: noise, failures, delays and the rest of what befalls cells.
        fine_tune: whether the model learns between rounds, as in a real campaign.
        seed: decides everything.
        progress: told of rounds.

    Raises:
        ConfigurationError: the laboratory is the model itself or related to it, nothing is feasible, ...
    """
    _check_extent(spec, folder, rounds, repeats, candidates)
    names = tuple(dict.fromkeys(map(today, strategies or (spec.strategy, *BASELINES))))
    for name in names:
        STRATEGIES.named(name)
    own = Ensemble.load(spec.model_source)
    notes = tuple(_related(own, laboratory))
    course = _Course(
        spec,
        folder / "runs",
        own,
        laboratory,
        options or LaboratoryOptions(),
        strategies=names,
        repeats=repeats,
        rounds=rounds,
        candidates=candidates,
        fine_tune=fine_tune,
        seed=seed,
        progress=progress,
    )
    return course.result(notes)


@dataclass(frozen=True)
class _Course:
    """What all runs of a backtest share."""

    spec: CampaignSpec
    home: Path
    """Folder of the campaigns."""

    own: Ensemble
    """Model of the campaign."""

    laboratory: str | Path
    options: LaboratoryOptions
    strategies: tuple[str, ...]
    repeats: int
    rounds: int
    candidates: int
    fine_tune: bool
    seed: int
    progress: Progress

    def result(self, notes: tuple[str, ...]) -> Backtest:
        """Run all repeats, and sum them up."""
        pools, runs = zip(*map(self.repeat, range(self.repeats)), strict=True)
        first = self.spec.goals.objectives[0]
        return Backtest(
            campaign=self.spec.name,
            objective=str(first),
            unit=self.spec.goals.first.unit,
            sign=first.sign,
            candidates=int(np.mean([len(p.compositions) for p in pools])),
            feasible=int(np.mean([p.feasible.sum() for p in pools])),
            best_possible=tuple(first.sign * p.best for p in pools),
            hits_possible=tuple(len(p.hits()) for p in pools),
            rows=tuple(row for rows in runs for row in rows),
            notes=notes,
        )

    def repeat(self, number: int) -> tuple[Pool, list[RoundRow]]:
        """Run every strategy against one laboratory, on one pool of candidates."""
        spec, seed = self.spec, self.seed + number
        truth, model = _roles(self.own, self.laboratory, number, self.seed, spec.candidates().columns)
        law = ProcessLaw.drawn(spec.ways, seed) if spec.ways else None
        lab = Laboratory(truth, self.options, seed, law)
        pool = draw_candidates(spec, truth, self.candidates, seed, law)
        self.home.mkdir(parents=True, exist_ok=True)
        shared = self.home / f"model-{number}"
        checkpoint.save(shared, model.network.state_dict(), model.card)
        runs: list[RoundRow] = []
        for place, strategy in enumerate(self.strategies):
            before = (number * len(self.strategies) + place) * self.rounds
            with _start(spec, self.home / f"{strategy}-{number}", shared, pool, strategy, seed) as campaign:
                learns = self.fine_tune and strategy not in _UNLEARNING
                watch = partial(self._count, before)
                runs += _rehearse(campaign, lab, pool, self.rounds, number, fine_tune=learns, watch=watch)
        shutil.rmtree(shared)
        return pool, runs

    def _count(self, before: int, done: int) -> None:
        self.progress(before + done, self.repeats * len(self.strategies) * self.rounds)


def _check_extent(spec: CampaignSpec, folder: Path, rounds: int, repeats: int, candidates: int) -> None:
    if rounds < 1 or repeats < 1 or candidates < spec.batch_size:
        raise ConfigurationError(
            "A backtest needs at least one round, one repeat and as many candidates as a batch. "
            f"Got {rounds}, {repeats} and {candidates} for batches of {spec.batch_size}."
        )
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder}: holds files already. Give a new folder (--output), or empty this one.")


def draw_candidates(
    spec: CampaignSpec, truth: Truth | Ensemble, count: int, seed: int, law: ProcessLaw | None = None
) -> Pool:
    """Draw candidates that pass the filters of a campaign's space, and ask the laboratory's network for their truth.

    Args:
        spec: the campaign.
        truth: the mean over its members counts.
        count: how many; all there are, when the space holds fewer.
        seed: of the draw.
        law: what each of the processes that the space is crossed with leaves of the capacities.

    Raises:
        ConfigurationError: none passes the filters, or none meets the constraints.
    """
    source, goals = spec.candidates(), spec.goals
    ranks = source.sample_ranks(min(source.count, count * _DRAWS_AT_MOST), seed)
    kept: list[str] = []
    for start in range(0, len(ranks), 2 * count):
        units = source.unrank(ranks[start : start + 2 * count])
        kept += source.formulas(units[source.keeps(units)])
        if len(kept) >= count:
            break
    if not kept:
        raise ConfigurationError(f"Nothing of the space {spec.space_name} passes its filters; loosen one.")
    names = tuple(kept[:count])
    if law is None:
        values = _true_values(goals, truth, names)
        return Pool(names, goals.objective_values(values)[:, 0], goals.feasible(values))
    ways = [way.over(goals.rates.process) for way in spec.ways]
    values = np.concatenate([_true_values(goals, MadeBy(truth, law, way), names) for way in ways])
    processes = tuple(way for way in ways for _ in names)
    return Pool(names * len(ways), goals.objective_values(values)[:, 0], goals.feasible(values), processes)


def _true_values(goals: Goals, truth: Truth | Ensemble, formulas: Sequence[str]) -> np.ndarray:
    """Quantities of the mean profile's members, averaged, ``n x m``."""
    compositions = [Composition.parse(f) for f in formulas]
    told = goals.evaluate(truth, compositions)  # type: ignore[arg-type]  # a truth answers as an ensemble does
    return told.numpy(force=True).mean(0)


def _roles(
    own: Ensemble, laboratory: str | Path, repeat: int, seed: int, metals: Sequence[str]
) -> tuple[Truth | Ensemble, Ensemble]:
    """Who plays the laboratory and who the model."""
    if laboratory not in KINDS:
        return Ensemble.load(laboratory), own
    if laboratory != MemberTruth.kind:
        return KINDS[str(laboratory)](own, seed + repeat, metals), own
    left_out = repeat % own.members
    model = own.subset([m for m in range(own.members) if m != left_out])
    card = replace(model.card, name=f"{own.card.name} without member {left_out}")
    return MemberTruth(own.subset([left_out])), Ensemble(model.network, card, device=model.device, dtype=model.dtype)


def _model_playing(laboratory: str | Path) -> Path:
    try:
        return checkpoint.find_model(laboratory)
    except ModelNotFound as error:
        raise ModelNotFound(f"{error} {hint(laboratory, KINDS)}Kinds of laboratories: {', '.join(KINDS)}.") from None


def _related(own: Ensemble, laboratory: str | Path) -> list[str]:
    """Refuse a laboratory that the model has learned from; say where they may have learned from the same data."""
    if laboratory == MemberTruth.kind:
        if own.members < 3:
            raise ConfigurationError(
                f"The model {own.card.name} has {own.members} members; with one of them as the laboratory fewer than "
                "two would be left. Name another model or kind to play the laboratory (--laboratory)."
            )
        if "simulated_from" in own.card.provenance:
            return ["Each member learned from targets of its own, so the laboratory shares none with the model."]
        return [
            f"The members of {own.card.name} may have learned from the same data: the laboratory then resembles the "
            "model more than a real one would, and strategies that use the model look better than they are."
        ]
    if laboratory in KINDS:
        return []
    lab = checkpoint.read_card(_model_playing(laboratory))
    mine = own.card
    kinships = {
        "is the same model": lab.model_id == mine.model_id,
        "is its parent or child": lab.parent == mine.model_id or mine.parent == lab.model_id,
        "made its training set": mine.provenance.get("simulated_from", {}).get("weights_sha256") == lab.weights_sha256,
        "learned from the same targets": lab.data_fingerprint is not None
        and lab.data_fingerprint == mine.data_fingerprint,
    }
    why = next((kinship for kinship, holds in kinships.items() if holds), None)
    if why is not None:
        raise ConfigurationError(
            f"The laboratory must know nothing that the model {mine.name} was taught. {laboratory} {why}. Name another "
            "model, or leave --laboratory out: one member of the model is then kept from it."
        )
    return []


def _start(spec: CampaignSpec, folder: Path, model: Path, pool: Pool, strategy: str, seed: int) -> Workspace:
    """Start a campaign like the given one on a list of candidates, which lies beside the space where it has ways."""
    values = spec.model_dump(mode="json", exclude={"folder", "ledger", "space", "model"})
    values |= {
        "name": folder.name,
        "space": spec.resolved()["space"] if spec.ways else _LISTED,
        "model": str(model.resolve()),
        "strategy": strategy,
        "first_strategy": None if strategy in _UNLEARNING else spec.first_strategy,
        "seed": seed,
        "workers": 0,
    }
    folder.mkdir(parents=True)
    text = "composition\n" + "\n".join(dict.fromkeys(pool.compositions)) + "\n"
    replace_file(folder / _LISTED, text.encode())
    parse_spec(values, str(folder), folder)
    replace_file(folder / "campaign.yaml", yaml.safe_dump(values, sort_keys=False).encode())
    return Workspace.open(folder, command="backtest")


def _rehearse(
    campaign: Workspace,
    lab: Laboratory,
    pool: Pool,
    rounds: int,
    repeat: int,
    *,
    fine_tune: bool,
    watch: Callable[[int], None],
) -> list[RoundRow]:
    """Propose, make, measure and learn, round after round."""
    conditions = campaign.spec.goals.conditions
    truth = dict(zip(pool.made, np.where(pool.feasible, pool.objective, np.nan).tolist(), strict=True))
    listed = campaign.folder / _LISTED if campaign.spec.ways else None
    hits, sign = pool.hits(), campaign.spec.goals.objectives[0].sign
    on_the_way: dict[int, list[Proposal]] = {}
    rows = []
    for number in range(1, rounds + 1):
        try:
            proposed = propose(campaign, candidates=listed)
            proposals, stop = proposed.proposals, proposed.prospect is not None and proposed.prospect.stop
        except NothingToPropose:
            _log.info("%s: nothing left to propose after %d rounds", campaign.name, number - 1)
            proposals, stop = (), True
        failed = [p for p in proposals if lab.fails(p)]
        for proposal in proposals:
            if proposal not in failed:
                on_the_way.setdefault(number + lab.is_late(proposal), []).append(proposal)
        _mark_failed(campaign, failed)
        returned = on_the_way.pop(number, [])
        if returned:
            usual = campaign.spec.cells_per_rate
            cells = [row for p in returned for row in lab.measure([p], conditions, p.cells(usual))]
            record_rows(campaign, cells, confirmed=True)
            if fine_tune:
                fine_tune_campaign(campaign)
        state = campaign.state()
        made = {(p.composition, p.process) for p in state.proposals if p.state is State.MEASURED}
        worth = [value for m in made if not np.isnan(value := truth.get(m, np.nan))]  # a control is no candidate
        rows.append(
            RoundRow(
                strategy=campaign.spec.strategy,
                repeat=repeat,
                round=number,
                proposed=len(state.proposals),
                measured=len(made),
                failed=sum(p.state is State.FAILED for p in state.proposals),
                best=sign * max(worth) if worth else None,
                hits=len(hits & made),
                model=state.current_model.model_id,
                stop=stop,
            )
        )
        watch(number)
    return rows


def _mark_failed(campaign: Workspace, failed: Sequence[Proposal]) -> None:
    if failed:
        with campaign.ledger.write("mark") as entry:
            for proposal in failed:
                entry.set_state(proposal.proposal_id, State.FAILED, "simulated synthesis failed")
