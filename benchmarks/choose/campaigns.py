"""One simulated campaign: a strategy chooses, the laboratory measures, the strategy learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from benchmarks.choose.pool import GOALS, Pool, PooledEnsemble
from drxnet.ensemble import Amounts
from screening.batch import Limits, choose_batch
from screening.encoding import Encoding
from screening.measured import Measured
from screening.outlook import Outlook
from screening.prospect import Prospect, prospect_of
from screening.scoring import Rows
from screening.strategies import STRATEGIES
from screening.synthesis import Tried, reported

NOISE = 0.03
USUAL = Limits()
BATCH = 8
SHORTLIST, LISTED = 1000, 3000
"""Candidates for the joint choice, and those they are drawn from."""


@dataclass(frozen=True)
class Laboratory:
    """What a pool's compositions give in a laboratory, with the noise of a cell and failed syntheses."""

    truth: np.ndarray
    """Capacities of the candidates at the two rates (mAh/g), ``n x 2``."""

    failure: np.ndarray
    """Probability that a synthesis of each candidate fails, ``n``."""

    seed: int

    def fails(self, row: int) -> bool:
        """Whether this candidate does not form, however often it is tried."""
        if not self.failure[row]:
            return False
        return bool(np.random.default_rng([self.seed, 1, row]).random() < self.failure[row])

    def measure(self, pool: Pool, rows: Sequence[int], round_number: int) -> list[Measured]:
        """Make one cell per rate of each candidate; of what does not form, none."""
        rng = np.random.default_rng([self.seed, round_number])
        noisy = self.truth[list(rows)] * (1 + NOISE * rng.standard_normal((len(rows), 2)))
        return [
            Measured.at_two_rates(pool.compositions[r], GOALS.rates, *map(float, q))
            for r, q in zip(rows, noisy, strict=True)
            if not self.fails(r)
        ]


Recommend = Callable[[list[Measured], list[int], int], list[int]]
"""From what was measured, the rows that were made and the round to the rows of the next batch."""


@dataclass
class Ours:
    """The package as a campaign uses it: a score for every candidate, then the joint choice among the best."""

    pool: Pool
    ensemble: PooledEnsemble
    strategy: str
    batch: int
    seed: int
    first: str = "promise-and-variance"
    """Strategy of the first batch, as in the shipped high-entropy campaigns."""

    limits: Limits = USUAL
    phases: bool = True
    """Whether failed syntheses teach anything."""

    prospects: list[Prospect | None] = field(default_factory=list)
    """What each batch was expected to gain, before it was made."""

    @cached_property
    def amounts(self) -> Amounts:
        """Of the candidates."""
        return Amounts.of(self.pool.compositions[: self.pool.candidates])

    def __call__(self, measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        """Rows of the next batch."""
        pool, limits, seed = self.pool, self.limits, self.seed + round_number
        how = self.strategy if measured else self.first
        tried = self._tried(measured, taken) if self.phases else ()
        outlook = Outlook.of(self.ensemble, GOALS, measured=measured, tried=tried)  # type: ignore[arg-type]  # the same interface
        if how == "space-filling":
            scores = torch.from_numpy(np.random.default_rng([self.seed, round_number]).random(pool.candidates))
        else:
            rows = Rows(outlook, limits, self.amounts, pool.table[: pool.candidates])
            with torch.no_grad():
                scores = STRATEGIES[how](seed).score(outlook, rows)
        scores[taken] = -torch.inf
        best = scores.argsort(descending=True)[:LISTED].tolist()
        listed = [pool.compositions[i] for i in best]
        picks = choose_batch(listed, outlook, n=self.batch, strategy=how, limits=limits, seed=seed, shortlist=SHORTLIST)
        self.prospects.append(prospect_of(outlook, [p.composition for p in picks], seed))
        row = {pool.compositions[i]: i for i in best}
        return [row[p.composition] for p in picks]

    def _tried(self, measured: list[Measured], taken: list[int]) -> tuple[Tried, ...]:
        formed = {m.composition for m in measured}
        made = [self.pool.compositions[i] for i in taken]
        return (*reported(), *(Tried(c, float(c in formed)) for c in made))


def at_random(pool: Pool, batch: int, seed: int) -> Recommend:
    """Uniform, without repetition."""
    order = np.random.default_rng(seed).permutation(pool.candidates)
    return lambda measured, taken, number: order[len(taken) : len(taken) + batch].tolist()


def baybe_default(pool: Pool, batch: int, seed: int) -> Recommend:
    """BayBE with its default recommender on the amounts of the elements.

    BayBE knows no constraint on outcomes, so its target is the retention, scaled down in proportion where the low-rate
    capacity misses the threshold.
    """
    from baybe import Campaign
    from baybe.objectives import SingleTargetObjective
    from baybe.parameters import NumericalDiscreteParameter
    from baybe.searchspace import SearchSpace
    from baybe.settings import Settings
    from baybe.targets import NumericalTarget

    encoding = Encoding.of(pool.compositions[: pool.candidates])
    x = encoding.encode(pool.compositions[: pool.candidates]).numpy().round(4)
    frame = pd.DataFrame(x, columns=list(encoding.columns))
    parameters = [NumericalDiscreteParameter(c, sorted(frame[c].unique()), tolerance=0) for c in frame]
    space = SearchSpace.from_dataframe(frame, parameters)
    campaign = Campaign(space, SingleTargetObjective(NumericalTarget("score")))
    row = {tuple(values): i for i, values in enumerate(x.tolist())}
    told = 0
    Settings(random_seed=seed).activate()

    def recommend(measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        nonlocal told
        if new := measured[told:]:
            place = {c: i for i, c in enumerate(pool.compositions[: pool.candidates])}
            latest = frame.iloc[[place[m.composition] for m in new]].copy()
            latest["score"] = [_scalar(m) for m in new]
            campaign.add_measurements(latest)
            told = len(measured)
        chosen = campaign.recommend(batch)
        return [row[tuple(values)] for values in chosen[list(frame.columns)].to_numpy().round(4).tolist()]

    return recommend


def plain_botorch(pool: Pool, batch: int, seed: int) -> Recommend:
    """BoTorch as its tutorials use it: a SingleTaskGP on the amounts, qLogEI, greedily over the pool."""
    from botorch import fit_gpytorch_mll
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf_discrete
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.mlls import ExactMarginalLogLikelihood

    encoding = Encoding.of(pool.compositions[: pool.candidates])
    x = encoding.encode(pool.compositions[: pool.candidates])
    place = {c: i for i, c in enumerate(pool.compositions[: pool.candidates])}
    start = np.random.default_rng(seed).permutation(pool.candidates)

    def recommend(measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        if not measured:
            return start[len(taken) : len(taken) + batch].tolist()
        y = torch.tensor([[_scalar(m)] for m in measured], dtype=torch.float64)
        model = SingleTaskGP(x[[place[m.composition] for m in measured]], y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        sampler = SobolQMCNormalSampler(torch.Size([64]), seed=seed + round_number)
        gain = qLogExpectedImprovement(model, best_f=y.max(), sampler=sampler)
        left = np.setdiff1d(np.arange(pool.candidates), taken)
        chosen, _ = optimize_acqf_discrete(gain, q=batch, choices=x[left], max_batch_size=512)
        rows = {tuple(values): int(i) for i, values in zip(left, x[left].tolist(), strict=True)}
        return [rows[tuple(values)] for values in chosen.tolist()]

    return recommend


def _scalar(measured: Measured) -> float:
    """One number for optimisers that know no constraint on outcomes: the retention, less where the capacity misses."""
    retention, low = measured.values(GOALS)[:2]
    return float(retention * min(1.0, low / GOALS.constraints[0].threshold))


def run(pool: Pool, laboratory: Laboratory, recommend: Recommend, rounds: int) -> list[list[int]]:
    """Rows chosen in each round."""
    measured: list[Measured] = []
    taken: list[int] = []
    history = []
    for number in range(rounds):
        rows = recommend(measured, taken, number)
        assert len(set(rows) - set(taken)) == len(rows), "a strategy repeated itself"
        measured += laboratory.measure(pool, rows, number)
        taken += rows
        history.append(rows)
    return history
