"""Campaigns over compositions and processes, against campaigns that do not note how a powder was made.

    python -m benchmarks.process.campaigns [--runs 25] [--rounds 8] [--out FILE.csv]

The laboratory is that of ``benchmarks.process``: firing at one of four temperatures and milling or not decide what is
left of the capacity. One campaign chooses composition and process; the other chooses compositions alone, and its
powders are made in whichever way the furnace and the mill are free. Both take batches of 8 from the same pool, the
first by variance-reduction, the others by logei. Reported is how many cells it takes until a powder gives 98 % of the
best capacity of the pool and the eight ways.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.process.__main__ import CELL_NOISE, TEMPERATURES_C, law
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.process import NOT_STATED, Process, crossed
from drxnet.simulation import draw_domain
from screening.batch import Limits, choose_batch
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Measured
from screening.outlook import Outlook

WAYS = crossed({"firing_temperature_c": TEMPERATURES_C, "milled": ["no", "yes"]})
GOALS = Goals(objectives=(ObjectiveSpec(quantity="capacity"),), constraints=())
BATCH, POOL, ENOUGH = 8, 200, 0.98
FIRST_SEED = 2000
"""The seeds from here on took no part in choosing anything."""


def campaign(
    model: Ensemble, pool: Sequence[Composition], ideal: np.ndarray, *, noted: bool, rounds: int, seed: int
) -> list[float]:
    """Best true capacity at the low rate that was made after each round (mAh/g), ``rounds``.

    Args:
        model: what the campaign starts with.
        pool: compositions to choose from.
        ideal: their capacities at both rates in the best process (mAh/g), ``pool x 2``.
        noted: whether the process is chosen and noted.
        rounds: of 8 cells.
        seed: of the cells and of the ways of a campaign that does not choose them.
    """
    rng, place = np.random.default_rng(seed), {composition: i for i, composition in enumerate(pool)}
    measured: list[Measured] = []
    best: list[float] = []
    for _ in range(rounds):
        outlook = Outlook.of(model, GOALS, measured=measured, ways=WAYS if noted else ())
        how = "logei" if measured else "variance-reduction"
        picks = choose_batch(pool, outlook, n=BATCH, strategy=how, limits=Limits(min_distance=0.0), seed=seed)
        made = best[-1:] or [0.0]
        for pick in picks:
            process: Process = pick.process if noted else WAYS[rng.integers(len(WAYS))]
            true = ideal[place[pick.composition]] * law(process)
            low, high = true * (1 + CELL_NOISE * rng.standard_normal(2))
            cells = Measured.at_two_rates(pick.composition, GOALS.rates, low, high)
            measured.append(replace(cells, process=process if noted else NOT_STATED))
            made.append(float(true[0]))
        best.append(max(made))
    return best


def main() -> None:
    """Run the pairs, and print how many cells each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=25, help="Pairs of campaigns.")
    parser.add_argument("--rounds", type=int, default=8, help="Of 8 cells each.")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="Seed of the first pair.")
    parser.add_argument("--out", type=Path, default=Path("process-campaigns.csv"), help="Finished runs; goes on there.")
    chosen = parser.parse_args()
    done: dict[int, tuple[float, float]] = {}
    if chosen.out.exists():
        done = {int(seed): (float(a), float(b)) for seed, a, b in list(csv.reader(chosen.out.open()))[1:]}
    else:
        chosen.out.write_text("seed,cells_noted,cells_not_noted\n")
    truth, model = Ensemble.load("drxnet-2024"), Ensemble.load()
    conditions = [CyclingConditions(c.current_ma_g) for c in (GOALS.rates.low, GOALS.rates.high)]
    for seed in range(chosen.first, chosen.first + chosen.runs):
        if seed in done:
            continue
        pool = draw_domain(model, POOL, np.random.default_rng(seed))
        ideal = truth.capacity(pool, conditions).mean(0).double().numpy()
        goal = ENOUGH * max(float(ideal[:, 0].max()) * law(way) for way in WAYS)
        pair = []
        for noted in (True, False):
            best = np.array(campaign(model, pool, ideal, noted=noted, rounds=chosen.rounds, seed=seed))
            reached = np.flatnonzero(best >= goal)
            pair.append(BATCH * (reached[0] + 1.0) if len(reached) else np.inf)
        done[seed] = (pair[0], pair[1])
        with chosen.out.open("a") as file:
            file.write(f"{seed},{pair[0]:g},{pair[1]:g}\n")
        print(f"seed {seed}: {pair[0]:g} cells noted, {pair[1]:g} not", flush=True)
    table = np.array([done[s] for s in sorted(done)])
    most = BATCH * chosen.rounds
    capped = np.minimum(table, most)
    print(f"\n{len(table)} pairs, at most {most} cells; reached by {np.isfinite(table).sum(0).tolist()} of them")
    print(f"cells on average {capped.mean(0).round(1).tolist()} (those that did not reach it count {most})")
    ratios = capped[:, 1] / capped[:, 0]
    draws = np.random.default_rng(0).choice(len(capped), (2000, len(capped)))
    sums = capped[draws].sum(1)
    low, high = np.percentile(sums[:, 1] / sums[:, 0], [10, 90])
    print(
        f"ratio of the sums {capped[:, 1].sum() / capped[:, 0].sum():.2f} ({low:.2f} to {high:.2f}), median of the "
        f"pairs {np.median(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
