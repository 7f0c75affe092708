"""Whether the surrogate's spread is right: with no data, and with what a campaign chose and measured.

    python -m benchmarks.choose.calibration --cache DIR [--model drxnet-2024] [--seed 0]

Each member in turn is the laboratory and the others are the model. The root mean square of (truth - mean) / spread over
the pool is 1 where the spread is right, larger where it is too narrow. The data are what the default strategy chooses.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from benchmarks.choose.campaigns import BATCH, Laboratory, Ours, run
from benchmarks.choose.pool import GOALS, Pool, PooledEnsemble, pool_asked_for
from drxnet.ensemble import Amounts
from screening.domain import LABELS
from screening.outlook import Outlook

FIRST = 100
"""Candidates at the top of the ranking by the lower bound that are looked at by themselves."""

ROUNDS = (0, 1, 3, 8)
TOP = 200


def main() -> None:
    """Print one table for each number of rounds."""
    pool, options = pool_asked_for(__doc__)
    candidates = pool.compositions[: pool.candidates]
    amounts = Amounts.of(candidates)
    columns = ("measured", "where", "share", "retention", "Q(low)", "Q(high)", "error of retention", "its spread")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for rounds in ROUNDS:
        tables, count = [], 0
        for laboratory in range(len(pool.capacity)):
            seed = 1000 * laboratory + options.seed
            cells = Laboratory(
                pool.capacity[laboratory, : pool.candidates].astype(float), np.zeros(pool.candidates), seed
            )
            members = [i for i in range(len(pool.capacity)) if i != laboratory]
            chosen_by = Ours(pool, PooledEnsemble(pool, members), "logei", BATCH, seed)
            history = run(pool, cells, chosen_by, rounds)
            measured = [m for number, rows in enumerate(history) for m in cells.measure(pool, rows, number)]
            count = len(measured)
            tables.append(_calibration(pool, laboratory, amounts, measured))
        for name, row in zip((*LABELS, f"first {FIRST}"), np.mean(tables, 0), strict=True):
            print(f"| {count} | {name} | {row[0]:.0%} | " + " | ".join(f"{x:.2f}" for x in row[1:]) + " |")

    print("\nwithout data, rank correlation of the mean retention with the laboratory's, and how many of its best 64")
    print(f"feasible ones are among the laboratory's best {TOP}:")
    for laboratory in range(len(pool.capacity)):
        print(f"  laboratory {laboratory}: {{0:.2f}}, {{1}}".format(*_agreement(pool, laboratory, amounts)))


def _agreement(pool: Pool, laboratory: int, amounts: Amounts) -> tuple[float, int]:
    """Rank correlation of the retention, and hits among the first."""
    values = [
        GOALS.evaluate(PooledEnsemble(pool, [i]), amounts)[0].numpy()  # type: ignore[arg-type]
        for i in range(len(pool.capacity))
    ]
    mean, truth = np.mean(np.delete(values, laboratory, 0), 0), values[laboratory]
    best = [np.argsort(-np.where(GOALS.feasible(v), v[:, 0], 0.0), kind="stable") for v in (mean, truth)]
    return spearmanr(mean[:, 0], truth[:, 0])[0], len(set(best[0][:64]) & set(best[1][:TOP]))


def _calibration(pool: Pool, laboratory: int, amounts: Amounts, measured: list) -> np.ndarray:  # type: ignore[type-arg]
    """Share, root mean squares, error and mean spread of the retention by label and for the first; ``4 x 6``."""
    ensemble = PooledEnsemble(pool, [i for i in range(len(pool.capacity)) if i != laboratory])
    truth = GOALS.evaluate(PooledEnsemble(pool, [laboratory]), amounts)[0].numpy()  # type: ignore[arg-type]
    outlook = Outlook.of(ensemble, GOALS, measured=measured)  # type: ignore[arg-type]
    points = outlook.read(amounts)
    mean, spread = (x.numpy() for x in outlook.surrogate.marginals(points))
    labels = outlook.domain.labels(points.features).numpy()
    first = np.argsort(-GOALS.columns(mean, spread)["rate_retention_lower"], kind="stable")[:FIRST]
    groups = [*(labels == i for i in range(len(LABELS))), np.isin(np.arange(len(labels)), first)]
    rows = []
    for group in groups:
        error, width = (truth - mean)[group], spread[group]
        rms = np.sqrt(((error / width) ** 2).mean(0))
        rows.append([group.mean(), *rms, np.sqrt((error[:, 0] ** 2).mean()), width[:, 0].mean()])
    return np.array(rows)


if __name__ == "__main__":
    main()
