"""Sample efficiency of the strategies, against random picks and against BayBE's default recommender.

    python -m benchmarks.choose --model drxnet-2024 --cache DIR [--seeds 5] [--strategies ...] [--figure FILE.png]

Each member in turn is the laboratory, with 3 % noise on every cell; the other members are the model. A run is 8 rounds
of 8 compositions out of 20,000 drawn from the paper's high-entropy space; seeds differ in the pool, the noise and the
draws. All runs are kept in the cache, so that a benchmark may be interrupted, extended and printed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.choose.campaigns import (
    NO_DOMAIN,
    Laboratory,
    Recommend,
    at_random,
    baybe_default,
    fine_tuned,
    ours,
    run,
    unlearning,
)
from benchmarks.choose.pool import GOALS, Pool, PooledEnsemble
from drxnet.ensemble import Ensemble
from screening.batch import Limits

ROUNDS, BATCH, TOP = 8, 8, 0.01
RESAMPLES = 10_000
USUAL = Limits()

STRATEGIES: dict[str, str] = {
    "random": "uniform",
    "unlearning": "the lower bounds of the prediction from the top, nothing learned",
    "baybe": "BayBE's default recommender",
    "greedy": "space-filling first, then the best mean, conditioned on the data",
    "default": "space-filling first, then logei, conditioned on the data",
    "default without first batch": "logei from the start",
    "default without joint choice": "the eight best single scores after the first batch",
    "default without domain check": "no factor on what lies outside",
    "qlognei": "space-filling first, then noisy expected improvement of the whole batch",
    "ucb": "space-filling first, then mean plus two standard deviations",
    "thompson": "space-filling first, then draws from the posterior",
    "greedy with fine-tuning": "fine-tuned after rounds 2, 4 and 6",
    "default with fine-tuning": "fine-tuned after rounds 2, 4 and 6",
}


def recommender(name: str, pool: Pool, model: str, laboratory: int, seed: int) -> Recommend:
    """Build a strategy for one run."""
    others = [i for i in range(len(pool.capacity)) if i != laboratory]
    ensemble = PooledEnsemble(pool, others)
    build: dict[str, Callable[[], Recommend]] = {
        "random": lambda: at_random(pool, BATCH, seed),
        "unlearning": lambda: unlearning(pool, ensemble, BATCH),
        "baybe": lambda: baybe_default(pool, BATCH, seed),
        "greedy": lambda: ours(pool, ensemble, "greedy", BATCH, seed, limits=USUAL),
        "default": lambda: ours(pool, ensemble, "logei", BATCH, seed, limits=USUAL),
        "default without first batch": lambda: ours(pool, ensemble, "logei", BATCH, seed, limits=USUAL, first="logei"),
        "default without joint choice": lambda: ours(pool, ensemble, "logei", BATCH, seed, limits=USUAL, joint=False),
        "default without domain check": lambda: ours(pool, ensemble, "logei", BATCH, seed, limits=NO_DOMAIN),
        "qlognei": lambda: ours(pool, ensemble, "qlognei", BATCH, seed, limits=USUAL),
        "ucb": lambda: ours(pool, ensemble, "ucb", BATCH, seed, limits=USUAL),
        "thompson": lambda: ours(pool, ensemble, "thompson", BATCH, seed, limits=USUAL),
        "greedy with fine-tuning": lambda: fine_tuned(
            pool, Ensemble.load(model), others, laboratory, "greedy", BATCH, seed, limits=USUAL
        ),
        "default with fine-tuning": lambda: fine_tuned(
            pool, Ensemble.load(model), others, laboratory, "logei", BATCH, seed, limits=USUAL
        ),
    }
    return build[name]()


def figures_of_merit(pool: Pool, laboratory: int, history: list[list[int]]) -> dict[str, list[float]]:
    """What was found after each round, by the laboratory's own noiseless values."""
    member = PooledEnsemble(pool, [laboratory])
    truth = GOALS.evaluate(member, pool.amounts)[0, : pool.candidates].numpy()  # type: ignore[arg-type]
    retention = np.where(GOALS.feasible(truth), truth[:, 0], 0.0)
    best_of_all = np.argsort(-retention, kind="stable")[: round(TOP * pool.candidates)]
    good = np.zeros(pool.candidates, bool)
    good[best_of_all] = True
    plane = np.c_[retention, np.where(retention > 0, truth[:, 1], 0.0)]
    whole = hypervolume(plane)
    found: dict[str, list[float]] = {"top share": [], "best retention": [], "hypervolume": []}
    for rounds in range(1, len(history) + 1):
        seen = [row for rows in history[:rounds] for row in rows]
        found["top share"].append(float(good[seen].sum() / good.sum()))
        found["best retention"].append(float(retention[seen].max()))
        found["hypervolume"].append(hypervolume(plane[seen]) / whole)
    return found


def hypervolume(points: np.ndarray, reference: tuple[float, float] = (0.3, 220.0)) -> float:
    """Area that points dominate above the reference, ``n x 2``."""
    better = points[(points > reference).all(1)]
    better = better[np.argsort(-better[:, 0], kind="stable")]
    area, height = 0.0, reference[1]
    for x, y in better:
        if y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over runs with a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    return float(values.mean()), *map(float, np.quantile(means, [0.025, 0.975]))


def ratio(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Ratio of two means over the same runs, with a paired 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(one), (RESAMPLES, len(one)))
    ratios = one[rows].mean(1) / np.maximum(other[rows].mean(1), 1e-9)
    return float(one.mean() / max(other.mean(), 1e-9)), *map(float, np.quantile(ratios, [0.025, 0.975]))


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drxnet-2024")
    parser.add_argument("--space", default="paper-he")
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--print-only", action="store_true", help="run nothing; print what is in the cache")
    options = parser.parse_args()
    torch.set_num_threads(1)

    runs: dict[str, dict[tuple[int, int], dict[str, list[float]]]] = {name: {} for name in options.strategies}
    for seed in options.seeds:
        pool = Pool.of(options.model, options.space, options.pool, seed, options.cache)
        for laboratory in range(len(pool.capacity)):
            for name in options.strategies:
                file = options.cache / "runs" / f"{name.replace(' ', '-')}-{options.pool}-{laboratory}-{seed}.json"
                if not file.is_file():
                    if options.print_only:
                        continue
                    begun = time.process_time()
                    truth = pool.capacity[laboratory, : pool.candidates].astype(float)
                    history = run(
                        pool,
                        Laboratory(truth, 1000 * laboratory + seed),
                        recommender(name, pool, options.model, laboratory, 1000 * laboratory + seed),
                        ROUNDS,
                    )
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps({"rows": history, "cpu_s": round(time.process_time() - begun, 1)}))
                stored = json.loads(file.read_text())
                merit = figures_of_merit(pool, laboratory, stored["rows"])
                runs[name][laboratory, seed] = merit | {"cpu_s": [stored["cpu_s"]]}
                if not options.print_only:
                    print(f"{name}, laboratory {laboratory}, seed {seed}: {merit['top share'][-1]:.3f}", flush=True)
    print_table({name: found for name, found in runs.items() if found})
    if options.figure:
        draw({name: found for name, found in runs.items() if found}, options.figure)


Runs = dict[str, dict[tuple[int, int], dict[str, list[float]]]]


def _final(found: dict[tuple[int, int], dict[str, list[float]]], merit: str, keys: list[tuple[int, int]]) -> np.ndarray:
    return np.array([found[key][merit][-1] for key in keys])


def print_table(runs: Runs) -> None:
    """Print figures of merit after the last round, and ratios of top shares to the default's, run by run."""
    print(
        "\n| strategy | runs | top 1 % found | best retention | hypervolume | default finds ... times as many | CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        keys = sorted(found)
        cells = [name, str(len(keys))]
        for merit, digits in (("top share", 3), ("best retention", 3), ("hypervolume", 3)):
            mean, low, high = interval(_final(found, merit, keys))
            cells.append(f"{mean:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})")
        paired = [key for key in keys if key in runs.get("default", {})]
        if paired and name != "default":
            default = _final(runs["default"], "top share", paired)
            value, low, high = ratio(default, _final(found, "top share", paired))
            cells.append(f"{value:.2f} ({low:.2f} - {high:.2f})")
        else:
            cells.append("")
        cells.append(f"{np.median([found[k]['cpu_s'][0] for k in keys]):.0f}")
        print("| " + " | ".join(cells) + " |")


_DASHES: dict[str, Any] = {
    "with fine-tuning": "--",
    "without joint choice": ":",
    "without domain check": "-.",
    "without first batch": (0, (6, 1, 1, 1, 1, 1)),
}


BANDS = ("random", "baybe", "greedy", "default")
"""Strategies whose 95 % intervals are drawn; those of all would hide each other."""


def _colour(base: str) -> str:
    return f"C{[name for name in STRATEGIES if ' ' not in name].index(base)}"


def draw(runs: Runs, path: Path) -> None:
    """Draw the share of the top found, the best retention and the hypervolume after each round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    experiments = BATCH * np.arange(1, ROUNDS + 1)
    for axis, merit in zip(axes, ("top share", "best retention", "hypervolume"), strict=True):
        for name, found in runs.items():
            curves = np.array([found[key][merit] for key in sorted(found)])
            bands = np.array([interval(column) for column in curves.T])
            base, _, variant = name.partition(" ")
            if name in BANDS:
                axis.fill_between(
                    experiments,
                    bands[:, 1],
                    bands[:, 2],
                    color=_colour(base),
                    alpha=0.15,
                    lw=0,
                )
            axis.plot(
                experiments,
                bands[:, 0],
                linestyle=_DASHES.get(variant, "-"),
                color=_colour(base),
                label=f"{name} ({len(curves)})",
                lw=2.5 if name == "default" else 1.2,
            )
        axis.set_xlabel("compositions made")
    axes[0].set_ylabel("share found of the pool's true top 1 %")
    axes[1].set_ylabel("best feasible retention found")
    axes[2].set_ylabel("hypervolume, share of the pool's")
    axes[0].legend(fontsize=7, title="strategy (runs); band: 95 % interval", title_fontsize=7)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
