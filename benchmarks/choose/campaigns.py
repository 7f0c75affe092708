"""One simulated campaign: a strategy chooses, the laboratory measures, the strategy learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from benchmarks.choose.pool import CONDITIONS, GOALS, Pool, PooledEnsemble
from drxnet.ensemble import Amounts, Ensemble
from drxnet.finetuning import fine_tune
from drxnet.simulation import simulate
from screening.batch import Limits, choose_batch
from screening.encoding import Encoding
from screening.measured import Measured
from screening.outlook import Outlook
from screening.scoring import Rows
from screening.strategies import STRATEGIES

NOISE = 0.03
SHORTLIST, LISTED = 1000, 3000
"""Candidates for the joint choice, and those they are drawn from."""

NO_DOMAIN = Limits(domain_weight={})
TUNED_BEFORE = (2, 4, 6)
"""Rounds, from 0, before which the fine-tuned strategies fine-tune."""


@dataclass(frozen=True)
class Laboratory:
    """One member of the published ensemble, with the noise of a cell."""

    truth: np.ndarray
    """Capacities of the candidates at the two rates (mAh/g), ``n x 2``."""

    seed: int

    def measure(self, pool: Pool, rows: Sequence[int], round_number: int) -> list[Measured]:
        """Make one cell per rate of each candidate."""
        rng = np.random.default_rng([self.seed, round_number])
        noisy = self.truth[list(rows)] * (1 + NOISE * rng.standard_normal((len(rows), 2)))
        return [
            Measured.at_two_rates(pool.compositions[r], GOALS.rates, *map(float, q))
            for r, q in zip(rows, noisy, strict=True)
        ]


Recommend = Callable[[list[Measured], list[int], int], list[int]]
"""From what was measured, its rows and the round to the rows of the next batch."""


def ours(
    pool: Pool,
    ensemble: PooledEnsemble,
    strategy: str,
    batch: int,
    seed: int,
    *,
    first: str = "space-filling",
    joint: bool = True,
    limits: Limits,
) -> Recommend:
    """The package as a campaign uses it: a score for every candidate, then the joint choice among the best.

    ``first`` chooses the first batch, as in the shipped high-entropy campaigns.
    """
    amounts = Amounts.of(pool.compositions[: pool.candidates])
    rows = pool.table[: pool.candidates]

    def recommend(measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        how = strategy if measured else first
        outlook = Outlook.of(ensemble, GOALS, measured=measured)  # type: ignore[arg-type]  # the same interface
        if how == "space-filling":
            scores = torch.from_numpy(np.random.default_rng([seed, round_number]).random(len(amounts)))
        else:
            chosen_by = STRATEGIES[how](seed + round_number)
            with torch.no_grad():
                scores = chosen_by.score(outlook, Rows(outlook, limits, amounts, rows))
        scores[taken] = -torch.inf
        order = scores.argsort(descending=True)
        if not joint and measured:
            return order[:batch].tolist()
        best = order[:LISTED].tolist()
        picks = choose_batch(
            [pool.compositions[i] for i in best],
            outlook,
            n=batch,
            strategy=how,
            limits=limits,
            seed=seed + round_number,
            shortlist=SHORTLIST,
        )
        row = {pool.compositions[i]: i for i in best}
        return [row[p.composition] for p in picks]

    return recommend


def fine_tuned(
    pool: Pool,
    published: Ensemble,
    members: Sequence[int],
    laboratory: int,
    strategy: str,
    batch: int,
    seed: int,
    *,
    limits: Limits,
) -> Recommend:
    """The package as a campaign uses it, fine-tuning after every second round; predictions renewed each time."""
    truth = published.subset([laboratory])
    current, table = published.subset(members), pool
    position = list(range(len(members)))
    chooser = ours(pool, PooledEnsemble(pool, members), strategy, batch, seed, limits=limits)

    def recommend(measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        nonlocal current, table, chooser
        if round_number in TUNED_BEFORE:
            compositions = [c for m in measured for c in (m.composition, m.composition)]
            profiles = simulate(truth, compositions, list(CONDITIONS) * len(measured), seed=seed, noise=NOISE)
            tuned = fine_tune(current, profiles, seed=seed)
            if tuned.accepted:
                current, table = tuned.ensemble, pool.predicted_by(tuned.ensemble)
                chooser = ours(table, PooledEnsemble(table, position), strategy, batch, seed, limits=limits)
        return chooser(measured, taken, round_number)

    return recommend


def at_random(pool: Pool, batch: int, seed: int) -> Recommend:
    """Uniform, without repetition."""
    order = np.random.default_rng(seed).permutation(pool.candidates)
    return lambda measured, taken, number: order[len(taken) : len(taken) + batch].tolist()


def unlearning(pool: Pool, ensemble: PooledEnsemble, batch: int) -> Recommend:
    """The prediction's own order, never corrected: the best lower bounds from the top."""
    values = GOALS.evaluate(ensemble, pool.compositions[: pool.candidates]).numpy()  # type: ignore[arg-type]
    mean, std = values.mean(0), values.std(0)
    score = GOALS.lower(mean, std)[:, 0] * (GOALS.feasibility(mean, std) >= 0.5)
    order = np.argsort(-score, kind="stable")
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
    threshold = GOALS.constraints[0].threshold
    Settings(random_seed=seed).activate()

    def recommend(measured: list[Measured], taken: list[int], round_number: int) -> list[int]:
        if measured:
            latest = frame.iloc[taken[-batch:]].copy()
            values = [m.values(GOALS) for m in measured[-batch:]]
            latest["score"] = [float(v[0] * min(1.0, v[1] / threshold)) for v in values]
            campaign.add_measurements(latest)
        chosen = campaign.recommend(batch)
        return [row[tuple(values)] for values in chosen[list(frame.columns)].to_numpy().round(4).tolist()]

    return recommend


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
