"""A laboratory whose capacities depend on firing and milling, learned from with what is stated of them and without.

    python -m benchmarks.process [--laboratories 25] [--cells 48]

The truth is the published ensemble's mean times a law of the process, with 3 % from cell to cell; the model is the
shipped ensemble. Half of the cells are measured at 20 mA/g, the same powders again at 1000 mA/g. Reported is what a
ranking shows: the Gaussian model on the shipped ensemble, for compositions that were not measured, at a stated process.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble
from drxnet.process import NOT_STATED, Process
from drxnet.simulation import draw_domain
from screening.goals import Goals
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity

TEMPERATURES_C = (750, 850, 950, 1050)
CELL_NOISE = 0.03
TESTED = 60
WITHIN_80 = 1.2816
FIRST_SEED = 1000
"""The seeds from here on took no part in choosing anything."""


def law(process: Process) -> float:
    """What a process leaves of the capacity: milled powder gives more, 950 °C is best."""
    fired, milled = process.row()["firing_temperature_c"], process.row()["milled"] == "yes"
    return (0.72 + 0.2 * milled) * (1 - 0.12 * ((float(fired) - 950) / 150) ** 2)


def cells(truth: Ensemble, known: Ensemble, count: int, rng: np.random.Generator) -> list[Measured]:
    """Powders of different compositions and processes, each measured at both rates."""
    goals = Goals()
    compositions = draw_domain(known, count, rng)
    at = [CyclingConditions(c.current_ma_g) for c in (goals.rates.low, goals.rates.high)]
    q = truth.capacity(compositions, at).mean(0).double().numpy()
    found = []
    for composition, ideal in zip(compositions, q, strict=True):
        process = Process.of({"firing_temperature_c": rng.choice(TEMPERATURES_C), "milled": rng.choice(["no", "yes"])})
        low, high = ideal * law(process) * (1 + CELL_NOISE * rng.standard_normal(2))
        found.append(replace(Measured.at_two_rates(composition, goals.rates, low, high), process=process))
    return found


def errors(ensemble: Ensemble, learned: list[Measured], asked: list[Measured]) -> tuple[float, float]:
    """Mean absolute error of both capacities (mAh/g), and the share of cells inside their 80 % interval."""
    goals = Goals()
    outlook = Outlook.of(ensemble, goals, measured=learned)
    compositions: list[Composition] = [m.composition for m in asked]
    stated = outlook.surrogate.reader.encoding.encode_processes([m.process for m in asked])
    with torch.no_grad():
        points = outlook.surrogate.reader.read(Amounts.of(compositions), None, stated)
    mean, std = (v.numpy() for v in outlook.surrogate.marginals(points))
    wrong, inside = [], []
    for quantity in (Capacity(goals.rates.low), Capacity(goals.rates.high)):
        measured = np.array([m.estimates[quantity].mean for m in asked])
        column = goals.column(quantity)
        deviation = np.abs(mean[:, column] - measured)
        wrong.append(deviation.mean())
        inside.append((deviation <= WITHIN_80 * np.hypot(std[:, column], CELL_NOISE * measured)).mean())
    return float(np.mean(wrong)), float(np.mean(inside))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laboratories", type=int, default=25, help="How many, each with cells of its own.")
    parser.add_argument("--cells", type=int, default=48, help="Measured cells, half of them at either rate.")
    parser.add_argument("--truth", default="drxnet-2024", help="Model that the truth is made of.")
    chosen = parser.parse_args()
    truth, shipped = Ensemble.load(chosen.truth), Ensemble.load()
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + chosen.laboratories):
        rng = np.random.default_rng(seed)
        learned, asked = (cells(truth, shipped, n, rng) for n in (chosen.cells // 2, TESTED))
        unsaid = [replace(m, process=NOT_STATED) for m in learned]
        rows.append((*errors(shipped, [], asked), *errors(shipped, unsaid, asked), *errors(shipped, learned, asked)))
        print(f"laboratory {seed}: {rows[-1][0]:.1f} -> {rows[-1][2]:.1f} or {rows[-1][4]:.1f} mAh/g", flush=True)
    table = np.array(rows)
    falls = 1 - table[:, 4] / table[:, 2]
    print(f"\n{len(table)} laboratories, {chosen.cells} cells, {TESTED} unseen compositions at a stated process")
    for name, column in (("nothing learned", 0), ("compositions alone", 2), ("with the process", 4)):
        print(f"{name:20} error {table[:, column].mean():5.1f} mAh/g   in 80 %: {table[:, column + 1].mean():.0%}")
    low, high = np.percentile(falls, [10, 90])
    print(f"the error falls by {falls.mean():.0%} ({low:.0%} to {high:.0%} in 80 % of the laboratories)")


if __name__ == "__main__":
    main()
