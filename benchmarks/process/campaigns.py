"""Campaigns over compositions and processes, against campaigns that do not note how a powder was made.

    python -m benchmarks.process.campaigns [--runs 25] [--rounds 8] [--out FILE.csv]

The laboratory is that of ``benchmarks.process``: firing at one of four temperatures and milling or not decide what is
left of the capacity. One campaign chooses composition and process (*noted*). Two choose compositions alone, and their
powders are made in whichever way the furnace and the mill are free: one makes every composition once (*not noted*), the
other gives half of its places to making its best ones again (*made again*). All take batches of 8 from the same pool,
the first by variance-reduction, the others by logei, and end when a powder gives 98 % of the best capacity of the pool
and the eight ways. Reported is how many cells that takes; beside them, how many it takes at random.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.process.__main__ import CELL_NOISE, TEMPERATURES_C, law
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.process import NOT_STATED, Process, crossed
from drxnet.simulation import draw_domain
from screening.batch import Limits, choose_batch
from screening.estimates import Estimate
from screening.goals import Goals, ObjectiveSpec
from screening.measured import Made, Measured
from screening.outlook import Outlook

WAYS = crossed({"firing_temperature_c": TEMPERATURES_C, "milled": ["no", "yes"]})
GOALS = Goals(objectives=(ObjectiveSpec(quantity="capacity"),), constraints=())
BATCH, POOL, ENOUGH = 8, 200, 0.98
FIRST_SEED = 2000
"""The seeds from here on took no part in choosing anything."""

RUNS = Path(__file__).with_name("campaigns.csv")
"""Runs that are done; what they printed is printed again without running them."""

HOW = ("noted", "not noted", "made again", "random")


def campaign(
    model: Ensemble, pool: Sequence[Composition], ideal: np.ndarray, goal: float, *, how: str, rounds: int, seed: int
) -> float:
    """Cells until a powder is as good as asked for; infinite where none is in all rounds.

    Args:
        model: what the campaign starts with.
        pool: compositions to choose from.
        ideal: their capacities at both rates in the best process (mAh/g), ``pool x 2``.
        goal: capacity at the low rate that is asked for (mAh/g).
        how: one of :data:`HOW` but the last.
        rounds: of 8 cells, at most.
        seed: of the cells and of the ways of a campaign that does not choose them.
    """
    rng, place = np.random.default_rng(seed), {composition: i for i, composition in enumerate(pool)}
    cells: dict[Made, list[tuple[float, float]]] = {}
    noted, again = how == "noted", Limits(min_distance=0.0, replicates=BATCH // 2 if how == "made again" else 0)
    for number in range(1, rounds + 1):
        outlook = Outlook.of(model, GOALS, measured=_measured(cells), ways=WAYS if noted else ())
        strategy = "logei" if cells else "variance-reduction"
        picks = choose_batch(pool, outlook, n=BATCH, strategy=strategy, limits=again, seed=seed)
        made = []
        for pick in picks:
            process: Process = pick.process if noted else WAYS[rng.integers(len(WAYS))]
            true = ideal[place[pick.composition]] * law(process)
            low, high = true * (1 + CELL_NOISE * rng.standard_normal(2))
            known = (pick.composition, process if noted else NOT_STATED)
            cells.setdefault(known, []).append((float(low), float(high)))
            made.append(float(true[0]))
        if max(made) >= goal:
            return float(BATCH * number)
    return np.inf


def _measured(cells: Mapping[Made, Sequence[tuple[float, float]]]) -> list[Measured]:
    """Means over the cells of each composition that are made alike as far as stated."""
    found = []
    for (composition, process), values in cells.items():
        low, high = map(Estimate.over, zip(*values, strict=True))
        found.append(replace(Measured.at_two_rates(composition, GOALS.rates, low, high), process=process))
    return found


def at_random(ideal: np.ndarray, goal: float, seed: int) -> float:
    """Cells until a powder is as good as asked for, drawn at random from the pool and the ways; whole batches."""
    worth = np.array([float(low) * law(way) for low in ideal[:, 0] for way in WAYS])
    first = np.argmax(np.random.default_rng(seed).permutation(worth) >= goal)
    return float(BATCH * (first // BATCH + 1))


def main() -> None:
    """Run the pairs, and print how many cells each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=25, help="Pairs of campaigns.")
    parser.add_argument("--rounds", type=int, default=8, help="Of 8 cells each.")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="Seed of the first pair.")
    parser.add_argument("--out", type=Path, default=RUNS, help="Finished runs; goes on there.")
    chosen = parser.parse_args()
    truth, model = Ensemble.load("drxnet-2024"), Ensemble.load()
    conditions = [CyclingConditions(c.current_ma_g) for c in (GOALS.rates.low, GOALS.rates.high)]
    if not chosen.out.exists():
        chosen.out.write_text("seed,how,cells\n")
    done = {(int(seed), how): float(cells) for seed, how, cells in list(csv.reader(chosen.out.open()))[1:]}
    seeds = range(chosen.first, chosen.first + chosen.runs)
    for seed, how in product(seeds, HOW):
        if (seed, how) in done:
            continue
        pool = draw_domain(model, POOL, np.random.default_rng(seed))
        ideal = truth.capacity(pool, conditions).mean(0).double().numpy()
        goal = ENOUGH * float(ideal[:, 0].max()) * max(map(law, WAYS))
        if how == "random":
            cells = at_random(ideal, goal, seed)
        else:
            cells = campaign(model, pool, ideal, goal, how=how, rounds=chosen.rounds, seed=seed)
        done[seed, how] = cells
        with chosen.out.open("a") as file:
            file.write(f"{seed},{how},{cells:g}\n")
        print(f"seed {seed}, {how}: {cells:g} cells", flush=True)
    show(np.array([[done[seed, how] for how in HOW] for seed in seeds]), BATCH * chosen.rounds)


def show(table: np.ndarray, most: int) -> None:
    """Print what came of the pairs.

    Args:
        table: cells of each campaign, ``pools x how``.
        most: that a campaign may take; what did not reach the goal counts so many. Chance goes on until it does.
    """
    capped = np.minimum(table, [most] * (len(HOW) - 1) + [np.inf])
    print(f"\n{len(table)} pools, at most {most} cells of a campaign")
    for how, cells, within in zip(HOW, capped.T, (table <= most).sum(0), strict=True):
        print(f"{how:10} {cells.mean():5.1f} cells on average, median {np.median(cells):.0f}; in {most} by {within}")
    draws = capped[np.random.default_rng(0).choice(len(capped), (4000, len(capped)))].sum(1)
    for column in range(1, len(HOW)):
        ratio = capped[:, column].sum() / capped[:, 0].sum()
        low, high = np.percentile(draws[:, column] / draws[:, 0], [2.5, 97.5])
        print(f"{HOW[column]} / {HOW[0]}: ratio of the sums {ratio:.2f} (95 %: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
