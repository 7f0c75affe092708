"""What the strategies find in laboratories of several kinds, beside random picks, BayBE and plain BoTorch.

    python -m benchmarks.choose --cache DIR [--kinds field penalty ...] [--strategies ...] [--seeds 0 1 ...]
    python -m benchmarks.choose --table benchmarks/choose/runs.csv          prints what was run before

A run is 8 rounds of 8 compositions out of 10,000 that pass the filters of `he-rate`; two runs are paired when pool and
laboratory are the same. The model is the shipped ensemble; laboratories are made from the published one
(:mod:`campaigns.loop.laboratories`), with 3 % noise on every cell, and what does not form gives none. What is chosen by
looking at results is chosen on the seeds CHOOSING, and reported on REPORTING. Finished runs are kept in the cache and,
with `--table`, in one table; a benchmark may be interrupted, extended and printed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.choose.campaigns import BATCH, Laboratory, Ours, Recommend, at_random, baybe_default, plain_botorch, run
from benchmarks.choose.pool import GOALS, Pool, PooledEnsemble
from screening.prospect import WORTHWHILE

ROUNDS, TOP = 8, 0.01
AFTER = (8, 16, 32, 64)
"""Cells after which is looked at."""

CHOOSING, REPORTING = range(100, 130), range(200, 225)
"""Seeds that settings were chosen on, and seeds that are reported; no setting was chosen by looking at these."""

KINDS = ("field", "penalty", "physics", "member", "demanding")
DEAD_MAH_G = 100.0
RESAMPLES = 10_000

STRATEGIES: dict[str, str] = {
    "default": "promise and variance in turn first, then expected improvement (logei); failures teach",
    "without phases": "the same, and nothing is known of syntheses",
    "variance reduction": "variance reduction alone first: the default of 0.2.0",
    "0.1.0": "space-filling first, then logei: the default of the version before",
    "logei": "logei from the start",
    "greedy": "the best mean from the start",
    "random": "uniform",
    "baybe": "BayBE's default recommender",
    "botorch": "SingleTaskGP on the amounts and qLogEI",
}


def recommender(name: str, pool: Pool, kind: str, seed: int) -> Recommend:
    """Build a strategy for one run; a member that plays the laboratory is left out of the model."""
    members = [i for i in range(len(pool.capacity)) if kind != "member" or i != seed % len(pool.capacity)]
    ensemble = PooledEnsemble(pool, members)
    build: dict[str, Callable[[], Recommend]] = {
        "default": lambda: Ours(pool, ensemble, "logei", BATCH, seed),
        "without phases": lambda: Ours(pool, ensemble, "logei", BATCH, seed, phases=False),
        "variance reduction": lambda: Ours(pool, ensemble, "logei", BATCH, seed, first="variance-reduction"),
        "0.1.0": lambda: Ours(pool, ensemble, "logei", BATCH, seed, first="space-filling", phases=False),
        "logei": lambda: Ours(pool, ensemble, "logei", BATCH, seed, first="logei", phases=False),
        "greedy": lambda: Ours(pool, ensemble, "greedy", BATCH, seed, first="greedy", phases=False),
        "random": lambda: at_random(pool, BATCH, seed),
        "baybe": lambda: baybe_default(pool, BATCH, seed),
        "botorch": lambda: plain_botorch(pool, BATCH, seed),
    }
    return build[name]()


def worth_of(lab: Laboratory) -> np.ndarray:
    """Noiseless retention of every candidate, 0 where it misses the constraint or does not form, ``n``."""
    low, high = lab.truth.T
    floor = GOALS.rates.capacity_floor_mah_g
    retention = np.where(low >= floor, np.clip(high / np.maximum(low, floor), 0, 1.05), 0.0)
    forms = np.array([not lab.fails(row) for row in range(len(low))])
    return np.where((low >= GOALS.constraints[0].threshold) & forms, retention, 0.0)


def merits(lab: Laboratory, history: Sequence[Sequence[int]]) -> dict[str, float]:
    """What was found after so many cells, by the laboratory's own noiseless values."""
    low, worth = lab.truth[:, 0], worth_of(lab)
    top = set(np.argsort(-worth, kind="stable")[: round(TOP * len(worth))].tolist())
    found: dict[str, float] = {}
    for cells in AFTER:
        if cells > BATCH * len(history):
            continue
        seen = [row for rows in history[: cells // BATCH] for row in rows]
        found[f"regret_{cells}"] = float(worth.max() - worth[seen].max())
        found[f"top_{cells}"] = len(top & set(seen)) / len(top)
    first, later = list(history[0]), [row for rows in history[2:] for row in rows]
    found["feasible_8"] = float((low[first] >= GOALS.constraints[0].threshold).sum())
    found["dead_8"] = float((low[first] < DEAD_MAH_G).sum())
    if later:
        found["failed_later"] = float(np.mean([lab.fails(row) for row in later]))
    return found


def regrets(lab: Laboratory, history: Sequence[Sequence[int]]) -> list[float]:
    """Regret after every round."""
    worth = worth_of(lab)
    found = np.maximum.accumulate([worth[list(rows)].max() for rows in history])
    return [round(float(worth.max() - best), 4) for best in found]


ASKED = ("model", "source", "space", "pool")
"""What two runs of a table must have in common beside their kind and seed to be held beside each other."""

FIELDS = ("kind", "strategy", "seed", *ASKED)
MERITS = (
    *(f"{merit}_{cells}" for cells in AFTER for merit in ("regret", "top")),
    "feasible_8",
    "dead_8",
    "failed_later",
)
COLUMNS = (*FIELDS, *MERITS, "cpu_s", "rows", "prospects", "regrets")


def rounds_of(run: Mapping[str, str]) -> int:
    """Rounds that a kept run has."""
    return len(json.loads(run["rows"]))


def missing_runs(options: argparse.Namespace, runs: Sequence[Mapping[str, str]]) -> Iterator[dict[str, object]]:
    """Run what is not known yet for as many rounds, seed by seed, and give back a row each."""
    known = {tuple(run[name] for name in FIELDS) for run in runs if rounds_of(run) >= options.rounds}
    for seed in options.seeds:
        todo = [(k, s) for k in options.kinds for s in options.strategies]
        asked = {name: str(getattr(options, name)) for name in ASKED}
        todo = [(k, s) for k, s in todo if (k, s, str(seed), *asked.values()) not in known]
        if not todo:
            continue
        pool = Pool.of(options.model, options.space, options.pool, seed, options.cache)
        for kind, name in todo:
            source = options.model if kind == "member" else options.source
            truth, failure = pool.truth(kind, source, options.space, seed, options.cache)
            lab = Laboratory(truth, failure, seed)
            begun = time.process_time()
            chosen_by = recommender(name, pool, kind, seed)
            history = run(pool, lab, chosen_by, options.rounds)
            row: dict[str, object] = {"kind": kind, "strategy": name, "seed": seed, **asked}
            found = merits(lab, history)
            row |= {name: round(found[name], 4) if name in found else "" for name in MERITS}
            row |= {"cpu_s": round(time.process_time() - begun, 1), "rows": json.dumps(history)}
            yield row | {"prospects": prospects_of(chosen_by), "regrets": json.dumps(regrets(lab, history))}


def prospects_of(chosen_by: Recommend) -> str:
    """What each batch was expected to gain before it was made: gain, 90 % quantile, two cells' difference, chance."""
    if not isinstance(chosen_by, Ours):
        return ""
    told = [p and [round(v, 4) for v in (p.gain, p.upper, p.difference, p.chance)] for p in chosen_by.prospects]
    return json.dumps(told)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of runs that were kept; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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


def print_table(
    runs: Sequence[dict[str, str]], kinds: Sequence[str], strategies: Sequence[str], base: str = "default"
) -> None:
    """Print a table for each kind of laboratory: means, and the ratios of one strategy to each other, run by run."""
    runs = sorted(runs, key=rounds_of)  # of two runs with one seed, the longer one counts
    for kind in kinds:
        table = {
            name: {r["seed"]: r for r in runs if r["kind"] == kind and r["strategy"] == name} for name in strategies
        }
        if not any(table.values()):
            continue
        heads = ["strategy", "runs", *(f"regret {c}" for c in AFTER), *(f"top 1 % {c}" for c in AFTER[1:])]
        heads += ["feasible", "dead", "failed", f"regret 8, 16: {base} / this", f"top 16, 64: {base} / this"]
        print(f"\n### {kind}\n\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for name, found in table.items():
            if not found:
                continue

            cells = [name, _counted(found.values()), *(_mean(found.values(), f"regret_{c}", ".3f") for c in AFTER)]
            cells += [_mean(found.values(), f"top_{c}", ".3f") for c in AFTER[1:]]
            cells += [_mean(found.values(), m, f) for m, f in zip(MERITS[-3:], (".1f", ".1f", ".0%"), strict=True)]
            for group in (("regret_8", "regret_16"), ("top_16", "top_64")):
                cells.append("" if name == base else ", ".join(_paired(table.get(base, {}), found, m) for m in group))
            print("| " + " | ".join(cells) + " |")


def _counted(runs: Collection[Mapping[str, str]]) -> str:
    """How many runs there are, and how many of them are whole where not all are."""
    whole = sum(rounds_of(run) == ROUNDS for run in runs)
    return str(len(runs)) if whole == len(runs) else f"{len(runs)} ({whole} whole)"


def _mean(runs: Iterable[Mapping[str, str]], merit: str, form: str) -> str:
    """Mean of a merit over the runs that are long enough for it."""
    values = [float(run[merit]) for run in runs if run[merit]]
    return format(float(np.mean(values)), form) if values else ""


def _paired(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]], merit: str) -> str:
    """Ratio of one strategy's merit to the other's over the seeds that both have it for, with its interval."""
    seeds = [seed for seed in sorted(set(one) & set(other)) if one[seed][merit] and other[seed][merit]]
    if not seeds:
        return "-"
    values = (np.array([float(runs[seed][merit]) for seed in seeds]) for runs in (one, other))
    return "{} ({}-{})".format(*map(_times, ratio(*values)))


def print_stopping(
    runs: Sequence[dict[str, str]], kinds: Sequence[str], base: str = "default", most_lost: float = 0.02
) -> None:
    """Print what stopping at the first round that is not worth its cells saves, and what it costs."""
    heads = ("kind", "runs", "cells saved", f"best within {most_lost:g}", "retention lost")
    print("\n### stopping\n\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    told: list[tuple[float, float]] = []
    for kind in (*kinds, "all"):
        long = [r for r in runs if r["kind"] == kind and r["strategy"] == base and len(json.loads(r["regrets"])) > 2]
        mine = [stopped(r) for r in long if r.get("prospects")]
        mine = told if kind == "all" else mine
        told = [*told, *mine] if kind != "all" else told
        if mine:
            saved, lost = np.array(mine).T
            print(
                f"| {kind} | {len(mine)} | {saved.mean():.0%} | {(lost <= most_lost).mean():.0%} | {lost.mean():.4f} |"
            )


def stopped(run: dict[str, str]) -> tuple[float, float]:
    """Share of the cells that heeding the first "Stop" saves, and by how much the best is worse for it."""
    short, prospects = json.loads(run["regrets"]), json.loads(run["prospects"])
    chances = [1.0 if told is None else told[3] for told in prospects]
    made = next((i for i, chance in enumerate(chances) if chance < WORTHWHILE), len(chances))
    return 1 - made / len(chances), short[made - 1] - short[-1]


def _times(factor: float) -> str:
    """A ratio as a person reads it; what has next to nothing below the line has no number."""
    return f"{factor:.2f}" if factor < 100 else ">100"


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="ensemble that chooses")
    parser.add_argument("--source", default="drxnet-2024", help="ensemble that laboratories are made from")
    parser.add_argument("--space", default="he-rate", help="campaign whose candidates are drawn")
    parser.add_argument("--pool", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of a run; shorter ones tell of fewer cells")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(REPORTING))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--base", default="default", choices=STRATEGIES, help="strategy that the ratios are of")
    parser.add_argument("--cache", type=Path, help="run what is missing, and keep pools and runs here")
    parser.add_argument("--table", type=Path, help="table of runs to read and to add to [default: in the cache]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = options.table or (options.cache / "runs.csv" if options.cache else Path(__file__).with_name("runs.csv"))
    runs = read_table(table)
    if options.cache:
        for row in missing_runs(options, runs):
            text = {name: str(value) for name, value in row.items()}
            with table.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(text)
            runs.append(text)
            print(*(text[name] for name in (*FIELDS, "regret_8", "regret_16", "top_16", "cpu_s")), flush=True)
    alike = [r for r in runs if all(r[name] == str(getattr(options, name)) for name in ASKED)]
    wanted = [r for r in alike if int(r["seed"]) in options.seeds]
    print_table(wanted, options.kinds, options.strategies, options.base)
    print_stopping(wanted, options.kinds, options.base)


if __name__ == "__main__":
    main()
