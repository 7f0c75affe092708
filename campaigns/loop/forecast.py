"""What the model of a campaign says of compositions, given everything that was measured.

This is where the ledger's values become the plain values that :mod:`screening` works on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campaigns.ledger.records import Measurement, ModelRecord, PredictedProfile, Proposal, Snapshot
from campaigns.loop.outcomes import MEMBERS, outcomes_of, pending_of, stated
from campaigns.loop.places import SHORTLIST, Means, Place, Sought, labels_of, with_state
from campaigns.loop.spreads import spreads
from campaigns.loop.syntheses import tried_of
from campaigns.spec import LITERATURE, CampaignSpec
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.discharge import GRID_POINTS
from drxnet.ensemble import Amounts
from drxnet.literature import published_capacities
from drxnet.process import NOT_STATED, Process, joined
from screening.batch import Limits
from screening.candidates import Candidates
from screening.elsewhere import Admission, Elsewhere, admitted
from screening.enumerator import Scorer, Shortlist, speed, stream
from screening.estimates import Estimate, same_conditions
from screening.goals import Goals
from screening.lattice import Lattice
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity, MeasuredCells, Quantity
from screening.scoring import StreamScorer
from screening.search import shortlist as find_shortlist

NO_LIMIT_S = 1e9
AUTO_BUDGET_S = 600.0
"""Time that `auto` plans with when none is given: what can be walked in it is walked, the rest is searched."""

SEARCHES = ("best-first", "evolution")
"""Ways to look through a space that score a part of it, in this process."""

IN_PROCESS_S = 20.0
"""A stream expected to take less than this runs in this process; starting workers would take longer (s)."""

HELD_OUT = "held_out_mah_g"
"""Where the record of a model keeps what it said of each discharge while it was held out, by measurement."""


def limits_of(spec: CampaignSpec) -> Limits:
    """What the laboratory can make, as the choice wants it."""
    asked = spec.lab.model_dump(exclude={"control"})
    if spec.lab.control is not None:
        asked["references"] = tuple(dict.fromkeys((spec.lab.control, *asked["references"])))
    return Limits(**asked, prices=spec.prices, batch_mass_g=spec.synthesis.batch_mass_g)


def measured_of(state: Snapshot, goals: Goals) -> tuple[Measured, ...]:
    """What was found for each composition and process, means over its cells."""
    model = state.current_model
    found = [
        _found(cells, goals, said_before(cells, goals, model))
        for o in outcomes_of(state, goals)
        if o.measurements
        for cells in o.groups
    ]
    return tuple(m for m in found if m.estimates)


def _found(cells: MeasuredCells, goals: Goals, learned: Mapping[Quantity, float] | None) -> Measured:
    """What cells that were made and tested alike gave, under the names that the quantities have for the campaign."""
    process = joined([d.conditions.process for d in cells.discharges])
    bare = Measured.of_cells(cells, goals.under(NOT_STATED).quantities)
    names = dict(zip(goals.under(NOT_STATED).quantities, goals.quantities, strict=True))
    before = None if learned is None else {names[q]: value for q, value in learned.items()}
    return Measured(bare.composition, {names[q]: e for q, e in bare.estimates.items()}, process, before)


def said_before(cells: MeasuredCells, goals: Goals, model: ModelRecord) -> dict[Quantity, float] | None:
    """What a model that learned from cells said of each quantity while they were held out; None if it did not learn.

    Only capacities are kept of what was held out; a quantity that needs more is not known.
    """
    held_out: Mapping[str, float] = model.metrics.get(HELD_OUT, {})
    mine = [d for d in cells.discharges if isinstance(d, Measurement) and d.measurement_id in model.measurement_ids]
    if not mine:
        return None
    told = [replace(d, capacity_mah_g=held_out[d.measurement_id]) for d in mine if d.measurement_id in held_out]
    before = MeasuredCells(cells.composition, tuple(told), cells.prices)
    found = {q: None if q.needs_profile else q.of_cells(before) for q in goals.under(NOT_STATED).quantities}
    return {q: e.mean for q, e in found.items() if e is not None}


def admissions_of(campaign: Workspace, state: Snapshot, goals: Goals, *, device: str = "cpu") -> tuple[Admission, ...]:
    """Which of the laboratories that the campaign names it learns from."""
    laboratories = laboratories_of(campaign, goals)
    if not laboratories:
        return ()
    ensemble = campaign.ensemble(state.current_model, device=device)
    return admitted(ensemble, goals, measured_of(state, goals), laboratories)


def laboratories_of(campaign: Workspace, goals: Goals) -> tuple[Elsewhere, ...]:
    """What the laboratories measured that ``learn_from`` names: other campaigns, or ``literature``."""
    found = []
    for name in campaign.spec.learn_from:
        if name == LITERATURE:
            found.append(Elsewhere("the literature", published(goals)))
            continue
        folder = (campaign.folder / name).resolve()
        with Workspace.open(folder, command="learn from elsewhere", read_only=True) as other:
            found.append(Elsewhere(other.name, measured_of(other.state(), goals)))
    return tuple(found)


def published(goals: Goals) -> tuple[Measured, ...]:
    """Published capacities under the conditions of the goals, by composition."""
    wanted = [q for q in goals.quantities if isinstance(q, Capacity)]
    by_composition: dict[Composition, dict[Quantity, list[float]]] = {}
    for row in published_capacities():
        for quantity in wanted if row.counted else ():
            if same_conditions(row.conditions, quantity.at):
                by_composition.setdefault(row.composition, {}).setdefault(quantity, []).append(row.capacity_mah_g)
    return tuple(
        Measured(c, {q: e for q, values in found.items() if (e := Estimate.over(values)) is not None})
        for c, found in by_composition.items()
    )


def outlook_of(
    campaign: Workspace,
    state: Snapshot,
    goals: Goals,
    *,
    device: str = "cpu",
    phases: bool = True,
    admissions: Sequence[Admission] | None = None,
) -> Outlook:
    """What the current model makes of everything that the ledger holds.

    Args:
        campaign: whose.
        state: of its ledger.
        goals: of the time.
        device: of the model.
        phases: whether a synthesis may fail; else every one works.
        admissions: of other laboratories, where it has been decided already.
    """
    admissions = admissions_of(campaign, state, goals, device=device) if admissions is None else admissions
    return Outlook.of(
        campaign.ensemble(state.current_model, device=device),
        goals,
        measured=measured_of(state, goals),
        elsewhere=[m for lab in admissions for m in lab.measured],
        pending=pending_of(state, goals),
        tried=tried_of(state) if phases else (),
        ways=campaign.spec.ways,
    )


class Forecast:
    """What an outlook says of some compositions: the surrogate, with the spreads that are shown."""

    def __init__(
        self, outlook: Outlook, compositions: Sequence[Composition], processes: Sequence[Process] | None = None
    ) -> None:
        self.outlook, self.goals, self.compositions = outlook, outlook.goals, tuple(compositions)
        self.processes = tuple(processes or [self.goals.rates.process] * len(self.compositions))
        """By which each is made and tested."""
        points = outlook.read(self.compositions, self.processes)
        mean, std = outlook.surrogate.marginals(points)
        self.mean, self.std = mean.numpy(), std.numpy()
        self.shown_std = spreads(outlook, self.mean, self.std)
        """Of what this laboratory's cells give on average; :attr:`std` is the surrogate's own, by which is chosen."""
        self.nearest = outlook.domain.nearest(Amounts.of(self.compositions), points.features)
        self.most = self.goals.most(self.compositions)
        members = outlook.ensemble.members
        spread = points.deviations.square().sum(-1).mul((members - 1) / members).sqrt()  # m x n
        self.members_std = spread.mT.numpy()

    @cached_property
    def phase_probability(self) -> np.ndarray:
        """That a synthesis gives the phase, ``n``."""
        return np.asarray(self.outlook.log_phase(Amounts.of(self.compositions)).exp())

    @cached_property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Arrays of length n under their public names, with the members' spread and the label of the domain."""
        members = {
            f"{q.key(self.goals.rates)}_{MEMBERS}": self.members_std[:, i] for i, q in enumerate(self.goals.quantities)
        }
        domain = {"domain": np.array(self.nearest.labels)}
        return {**self.goals.columns(self.mean, self.shown_std, self.most), **members, **domain}

    def row(self, i: int) -> dict[str, Any]:
        """What is said of the composition number i, by public names."""
        return {name: values[i].item() for name, values in self.columns.items()}

    def cautions(self, i: int) -> tuple[str, ...]:
        """Where the mean of the composition number i cannot be: its interval ends at the capacity of all lithium."""
        beyond = np.flatnonzero(self.mean[i] > self.most[i])
        return tuple(
            f"{q.heading} of {q.shown(self.mean[i, j])} expected is more than all lithium gives, "
            f"{q.shown(self.most[i, j])} {q.unit}: the interval ends there"
            for j, q in enumerate(self.goals.quantities)
            if j in beyond and np.isfinite(self.most[i, j]) and isinstance(q, Capacity)
        )

    def place(self, i: int, proposal: Proposal | None, label: str | None) -> Place:
        """Place of the composition number i in a ranking.

        Args:
            i: from 0.
            proposal: of it, if it was ever proposed.
            label: of the domain, as it was then.
        """
        columns = self.row(i)
        near = f"nearest known: {self.nearest.neighbours[i]} ({self.nearest.learned[i]:.2f} in learned features)"
        made = [f"made by {self.processes[i]}"] if self.outlook.ways else []
        return Place(
            proposal.composition if proposal else self.compositions[i].formula,
            proposal,
            "predicted",
            stated(self.goals, columns),
            columns["feasibility"],
            label or columns["domain"],
            with_state(proposal, "; ".join([near, *made, *self.cautions(i)])),
            phase_probability=float(self.phase_probability[i]),
            process=self.processes[i],
        )

    def profiles(self) -> list[tuple[PredictedProfile, PredictedProfile]]:
        """Profiles at the two rates: mean and population spread (ddof 0) over the members, for each composition."""
        c = self.goals.rates
        grid = c.low.grid(GRID_POINTS)
        members = np.empty((self.outlook.ensemble.members, len(self.compositions), 2, GRID_POINTS))
        for process in dict.fromkeys(self.processes):
            rows = [i for i, made in enumerate(self.processes) if made == process]
            at = [replace(conditions, process=process) for conditions in (c.low, c.high)]
            with torch.no_grad():
                found = self.outlook.ensemble.profiles([self.compositions[i] for i in rows], at, grid)
            members[:, rows] = found.double().numpy(force=True)
        mean, std = members.mean(0), members.std(0)  # n x 2 x voltages
        return [
            (PredictedProfile(c.low, grid, m[0], s[0]), PredictedProfile(c.high, grid, m[1], s[1]))
            for m, s in zip(mean, std, strict=True)
        ]


@dataclass(frozen=True)
class Look:
    """How to look through candidates."""

    method: str = "walk"
    """``walk`` through all of them, or a search of :mod:`screening.search`; a list is always walked."""

    evaluations: int = 200_000
    """Of a search."""

    time_limit_s: float | None = None
    """No shard or batch is begun after this many seconds; ``auto`` plans with it."""

    seed: int = 0
    """Of a search."""

    @property
    def searches(self) -> bool:
        """Whether it scores a part of a space, in this process."""
        return self.method in SEARCHES

    def most(self, candidates: Candidates) -> int:
        """Candidates that will be scored, at most."""
        return min(self.evaluations, candidates.count) if self.searches else candidates.count


def run_stream(
    candidates: Candidates, scorer: Scorer, look: Look, means: Means, *, keep: int, folder: Path | None = None
) -> Shortlist:
    """Look through candidates, here when that is quicker than starting workers; the result is the same.

    Args:
        candidates: all of them.
        scorer: says how good they are.
        look: in which way.
        means: to compute with; without a number of workers, the time it would take decides.
        keep: how many to return.
        folder: where finished shards of a walk are kept.
    """
    threads = torch.get_num_threads()
    with one_thread():
        if look.method != "walk" and isinstance(candidates, Lattice):
            return find_shortlist(
                candidates,
                scorer,
                keep=keep,
                time_budget_s=look.time_limit_s or (AUTO_BUDGET_S if look.method == "auto" else NO_LIMIT_S),
                workers=means.workers,
                method=look.method,  # type: ignore[arg-type]  # the specification checked it
                evaluations=None if look.method == "auto" else look.evaluations,
                seed=look.seed,
                folder=folder,
                ray_address=means.ray_address,
                progress=means.progress,
            )
        workers = means.workers
        if workers is None and means.ray_address is None:
            small = candidates.count / speed(candidates, scorer, seconds=0.3) < IN_PROCESS_S
            workers = 0 if small else None
        if workers == 0 and isinstance(scorer, StreamScorer):
            scorer.outlook.ensemble.encoder_threads = threads  # the kernel gives Python's lock back
        return stream(
            candidates,
            scorer,
            keep=keep,
            workers=workers,
            gpus_per_worker=1.0 if means.device.startswith("cuda") and workers != 0 else 0.0,
            folder=folder,
            time_limit_s=look.time_limit_s,
            ray_address=means.ray_address,
            progress=means.progress,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch its threads back after a scorer took all but one away, which is best for many processes."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def predicted_places(campaign: Workspace, state: Snapshot, goals: Goals, sought: Sought, means: Means) -> list[Place]:
    """Places of a ranking for compositions that are not measured.

    Args:
        campaign: of which.
        state: of its ledger.
        goals: of the time, with the quantities ranked by.
        sought: which compositions.
        means: to compute with.
    """
    outlook = outlook_of(campaign, state, goals, device=means.device)
    usual = goals.rates.process
    proposals = {(p.composition, p.process.over(usual) if outlook.ways else usual): p for p in state.proposals}
    best = _best_of_space(campaign.spec, outlook, sought, means) if sought.space else ()
    listed = [m for m in dict.fromkeys([*proposals, *best]) if not sought.is_measured(*m, by_way=bool(outlook.ways))]
    if not listed:
        return []
    compositions, processes = [Composition.parse(c) for c, _ in listed], [process for _, process in listed]
    forecast, labels = Forecast(outlook, compositions, processes), labels_of(state)
    return [forecast.place(i, proposals.get(made), labels.get(made[0])) for i, made in enumerate(listed)]


def _best_of_space(spec: CampaignSpec, outlook: Outlook, sought: Sought, means: Means) -> list[tuple[str, Process]]:
    """Candidates of the space that may come first, each by the best way; for a proof all are walked."""
    candidates = spec.candidates()
    look = Look(spec.method, spec.evaluations, spec.time_limit_s, spec.seed) if sought.proof is None else Look()
    scorer = scorer_of_ranking(spec, candidates, outlook.for_stream(means.engine, look.most(candidates)), sought)
    keep = (SHORTLIST if sought.shortlisted else sought.top) + len(sought.measured)
    best = run_stream(candidates, scorer, look, means.with_usual(spec.workers), keep=keep)
    if sought.proof is not None and best.proof is not None:
        how = {"engine": scorer.outlook.engine, "fitted": scorer.outlook.fitted(), "events": sought.events}
        ranking = {"question": asdict(sought.question), **how}
        replace(best.proof, job={**best.proof.job, "ranking": ranking}).write(sought.proof)
    found = candidates.compositions(best.units)
    ways = outlook.best_ways(found, sought.by[0], partial(spreads, outlook))
    return [(c.formula, way) for c, way in zip(found, ways, strict=True)]


@dataclass(frozen=True)
class ShownScorer(StreamScorer):
    """Ranks by the bound that is shown, with the spread of what this laboratory's cells give on average."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything the scores depend on."""
        return hashlib.sha256(f"shown {super().fingerprint}".encode()).hexdigest()

    def spread(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Standard deviations that a forecast shows, ``n x m``."""
        return spreads(self.outlook, mean, std)


def scorer_of_ranking(spec: CampaignSpec, candidates: Candidates, outlook: Outlook, sought: Sought) -> StreamScorer:
    """What finds those of many candidates that may come first in a ranking."""
    return ShownScorer(
        outlook,
        candidates.columns,
        candidates.denominator,
        limits=limits_of(spec),
        rank_by=sought.by[0] if len(sought.by) == 1 else None,
        least_capacity_mah_g=sought.least_capacity_mah_g,
    )
