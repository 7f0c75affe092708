"""Whether the spread of a campaign is right: laboratories of seven kinds, after 0, 1, 3 and 8 rounds of 8.

    python -m benchmarks.trust --cache DIR [--seeds 0 1 2] [--offset 0] [--model drxnet-2024]
    python -m benchmarks.trust                       prints what is kept

Every laboratory is a campaign on a small pool (:mod:`benchmarks.trust.campaigns`). What is not measured of the pool is
compared with what the laboratory would find without scatter: *covered* is the share inside the 80 % interval, *error /
spread* the root mean square of one over the other, 1 where the spread is right. Every laboratory is shifted as far as
published ones lie apart, unless ``--offset 0`` makes them all right on average. *0.1.0* is how that version formed
its intervals: from the Gaussian model alone, as it is fitted, with no laboratory. Runs that are done are kept in
runs.csv and points.csv beside this file.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.choose.pool import GOALS
from benchmarks.trust.campaigns import LABORATORIES, ROUNDS, Bench
from campaigns.loop.spreads import spreads
from drxnet.ensemble import Amounts
from drxnet.uncertainty import LABELS
from screening.outlook import Outlook
from screening.quantities import retention

HERE = Path(__file__).parent
RUNS, POINTS = HERE / "runs.csv", HERE / "points.csv"
QUANTITIES = ("retention", "q20", "q1000")
"""Columns of the goals, in their order."""

WORDS = {"retention": "retention", "q20": "Q(20 mA/g)", "q1000": "Q(1000 mA/g)"}

MERITS = ("covered", "z2", "error2", "spread2")
"""Means over the compositions of a row: share inside, (error / spread) squared, error squared, spread squared."""

POINTS_KEPT = 8
"""Compositions of each campaign and number of rounds whose error and spread are kept, to rank them."""

ASKED: Mapping[str, tuple[float, float]] = MappingProxyType({"covered": (0.75, 0.85), "z2": (0.85**2, 1.2**2)})
"""Where the merits of a right spread lie."""

RESAMPLES = 4000

RUN = ("model", "offset", "kind", "seed")

WAYS: Mapping[str, Callable[[Outlook, np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {"now": spreads, "0.1.0": lambda outlook, mean, std: std}
)
"""How the spread that is shown is formed, from the moments of the Gaussian model."""


def truth_of(capacity: np.ndarray) -> np.ndarray:
    """Quantities of capacities at the low and the high rate, ``n x 2 -> n x 3``."""
    kept = retention(capacity[:, 1], capacity[:, 0], GOALS.rates.capacity_floor_mah_g)
    return np.column_stack([kept, capacity])


@dataclass(frozen=True)
class Look:
    """What is said of all that is never measured, after some rounds."""

    rounds: int
    labels: np.ndarray
    truth: np.ndarray
    mean: np.ndarray
    spread: Mapping[str, np.ndarray]
    """By the name of the way."""


def looks(bench: Bench, kind: str, seed: int) -> Iterator[Look]:
    """What is said of it after each number of rounds."""
    history = bench.campaign(kind, seed)
    candidates = bench.pool.compositions[: bench.pool.candidates]
    never = np.ones(len(candidates), bool)
    never[[row for one in history for row, *_ in one]] = False
    truth = truth_of(bench.truth(kind, seed)[0])[never]
    for rounds in ROUNDS:
        measured = [m for one in history[:rounds] for m in bench.measured(one)]
        outlook = Outlook.of(bench.predictor(kind, seed), GOALS, measured=measured)  # type: ignore[arg-type]  # the same interface
        points = outlook.read(Amounts.of([c for c, kept in zip(candidates, never, strict=True) if kept]))
        mean, std = (x.numpy() for x in outlook.surrogate.marginals(points))
        spread = {name: way(outlook, mean, std) for name, way in WAYS.items()}
        yield Look(rounds, outlook.domain.labels(points.features).numpy(), truth, GOALS.clipped(mean), spread)


def run(bench: Bench, kind: str, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of both tables for one laboratory."""
    name = {"model": bench.model, "offset": f"{bench.offset:g}", "kind": kind, "seed": seed}
    rng = np.random.default_rng([seed, 8, zlib.crc32(kind.encode())])
    rows, points = [], []
    for look in looks(bench, kind, seed):
        chosen = rng.choice(len(look.truth), POINTS_KEPT, replace=False)
        for way, spread in look.spread.items():
            named = {**name, "way": way, "rounds": look.rounds}
            rows += [{**named, **found} for found in _by_label(look, spread)]
            error = np.abs(look.truth - look.mean)
            points += [{**named, **_point(error[at], spread[at])} for at in chosen]
    return rows, points


def _by_label(look: Look, spread: np.ndarray) -> Iterator[dict[str, Any]]:
    """Merits of every quantity, for each label that there is."""
    lower, upper = GOALS.interval(look.mean, spread)
    inside, error = (look.truth >= lower) & (look.truth <= upper), look.truth - look.mean
    for number, label in enumerate(LABELS):
        here = look.labels == number
        if not here.any():
            continue
        means = (inside[here], (error / spread)[here] ** 2, error[here] ** 2, spread[here] ** 2)
        found = {
            f"{q}_{merit}": f"{values.mean(0)[i]:.4g}"
            for i, q in enumerate(QUANTITIES)
            for merit, values in zip(MERITS, means, strict=True)
        }
        yield {"label": label, "compositions": int(here.sum()), **found}


def _point(error: np.ndarray, spread: np.ndarray) -> dict[str, str]:
    """Error and spread of every quantity of one composition."""
    return {
        f"{q}_{what}": f"{values[i]:.3g}"
        for i, q in enumerate(QUANTITIES)
        for what, values in (("error", error), ("spread", spread))
    }


def kept(path: Path) -> list[dict[str, str]]:
    """What a table holds; nothing where there is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table."""
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def pooled(rows: Sequence[Mapping[str, str]], quantity: str) -> dict[str, float]:
    """Merits of rows, each run counting alike."""
    weight = {key: 1 / sum(int(r["compositions"]) for r in same) for key, same in _by_run(rows).items()}
    weights = np.array([int(r["compositions"]) * weight[_run(r)] for r in rows])
    values = {m: np.average([float(r[f"{quantity}_{m}"]) for r in rows], weights=weights) for m in MERITS}
    return {
        "covered": values["covered"],
        "ratio": float(np.sqrt(values["z2"])),
        "error": float(np.sqrt(values["error2"])),
        "spread": float(np.sqrt(values["spread2"])),
    }


def _run(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[k] for k in RUN)


def _by_run(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(_run(row), []).append(row)
    return found


def print_tables(rows: Sequence[Mapping[str, str]], points: Sequence[Mapping[str, str]]) -> None:
    """Print what is pooled over seeds and kinds by label, then by kind, and the rank correlations."""
    for title, groups in (("label", LABELS), ("kind", tuple(LABORATORIES))):
        for quantity in QUANTITIES:
            _print_table(rows, title, groups, quantity)
    print("\n| rounds | " + " | ".join(f"{way}, {WORDS[q]}" for way in WAYS for q in QUANTITIES) + " |")
    print("|---" * (1 + len(WAYS) * len(QUANTITIES)) + "|")
    for after in (*map(str, ROUNDS), "all"):
        mine = [p for p in points if after in (p["rounds"], "all")]
        print(
            f"| {after} | " + " | ".join(f"{_ranks_alike(mine, way, q):.2f}" for way in WAYS for q in QUANTITIES) + " |"
        )


def print_outside(rows: Sequence[Mapping[str, str]], way: str = "now") -> None:
    """Print which means by label lie outside of what was asked, and those between which laboratories let them lie.

    Args:
        rows: of all runs.
        way: how the spread is formed.
    """
    rng, told, looked_at = np.random.default_rng(0), [], 0
    for rounds, label, quantity in product(map(str, ROUNDS), LABELS, QUANTITIES):
        mine = [r for r in rows if (r["way"], r["rounds"], r["label"]) == (way, rounds, label)]
        for merit, (least, most) in ASKED.items():
            values = np.array([float(r[f"{quantity}_{merit}"]) for r in mine])
            drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            looked_at += 1
            if not least <= values.mean() <= most:
                found = (values.mean(), low, high)
                mean, *between = (f"{x:.1%}" if merit == "covered" else f"{np.sqrt(x):.2f}" for x in found)
                chance = "" if low > most or high < least else ", which may be chance"
                what = f"after round {rounds}, {label}, {WORDS[quantity]}"
                told.append(f"{what}: {mean} ({'-'.join(between)}){chance}")
    print(f"\nOutside of what was asked lie {len(told)} of {looked_at} (95 % intervals, laboratories drawn anew):")
    print(*(f"* {one}" for one in told), sep="\n")


def _print_table(rows: Sequence[Mapping[str, str]], title: str, groups: Sequence[str], quantity: str) -> None:
    heads = [f"{way}: {what}" for way in WAYS for what in ("covered", "error / spread", "spread")]
    print(f"\n{WORDS[quantity]}:\n\n| rounds | {title} | laboratories | error | {' | '.join(heads)} |")
    print("|---" * (4 + len(heads)) + "|")
    for rounds, group in product(map(str, ROUNDS), groups):
        if mine := [r for r in rows if (r["rounds"], r[title]) == (rounds, group)]:
            print(f"| {rounds} | {group} | {len(_by_run(mine))} | {' | '.join(_cells(mine, quantity))} |")


def _ranks_alike(points: Sequence[Mapping[str, str]], way: str, quantity: str) -> float:
    """Rank correlation of error and spread."""
    mine = [p for p in points if p["way"] == way]
    error, spread = ([float(p[f"{quantity}_{what}"]) for p in mine] for what in ("error", "spread"))
    return float(spearmanr(error, spread)[0])


def _cells(rows: Sequence[Mapping[str, str]], quantity: str) -> list[str]:
    digits = 2 if quantity == "retention" else 0
    merits = {way: pooled([r for r in rows if r["way"] == way], quantity) for way in WAYS}
    found = [f"{merits['now']['error']:.{digits}f}"]
    for told in merits.values():
        found += [f"{told['covered']:.0%}", f"{told['ratio']:.2f}", f"{told['spread']:.{digits}f}"]
    return found


def main() -> None:
    """Run what is missing, keep it, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drxnet-2024")
    parser.add_argument("--offset", type=float, default=1.0, help="in standard deviations of published laboratories")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=list(LABORATORIES), choices=LABORATORIES)
    parser.add_argument("--cache", type=Path, help="where pools and campaigns are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.seeds and options.cache:
        run_missing(Bench.of(options.model, options.cache, options.offset), options.seeds, options.kinds)
    asked = (options.model, f"{options.offset:g}")
    rows, points = ([r for r in kept(path) if (r["model"], r["offset"]) == asked] for path in (RUNS, POINTS))
    if rows:
        print_tables(rows, points)
        print_outside(rows)


def run_missing(bench: Bench, seeds: Sequence[int], kinds: Sequence[str]) -> None:
    """Run what is not kept yet, and keep it."""
    done = set(_by_run(kept(RUNS)))
    for seed, kind in product(seeds, kinds):
        if (bench.model, f"{bench.offset:g}", kind, str(seed)) not in done:
            rows, points = run(bench, kind, seed)
            keep(POINTS, points)
            keep(RUNS, rows)


if __name__ == "__main__":
    main()
