"""The pattern of the paper's figure 3 on simulated data.

Trained on 2TM alone; on 2TM and the first cycles of the others; on 2TM and 3TM. What counts is the error of the
capacity between 2.0 and 4.4 V within 50 cycles, here of the cycles after the first, which all three must predict. The
set consists of cells, as a real one does: one current and one window each, the first cycle and some later ones.

    python benchmarks/train/figure3.py --model drxnet-2024
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from drxnet.dataset import ProfileSet
from drxnet.ensemble import Ensemble
from drxnet.evaluation import evaluate, split
from drxnet.simulation import ConditionMix, draw_domain, simulate
from drxnet.training import TrainingTensors, load_options, pretrain

CASES = {
    "2TM": (("2TM",), ("3TM", "HE"), False),
    "2TM + first cycles": (("2TM",), ("3TM", "HE"), True),
    "2TM + 3TM": (("2TM", "3TM"), ("HE",), False),
    "2TM + 3TM + first cycles": (("2TM", "3TM"), ("HE",), True),
}
"""Families learned from, families asked about, whether their first cycles are learned too."""


def make_profiles(arguments: argparse.Namespace) -> ProfileSet:
    """Simulate the cells of all families."""
    ensemble = Ensemble.load(arguments.model)
    rng = np.random.default_rng(arguments.seed)
    compositions = draw_domain(ensemble, arguments.compositions, rng)
    mix = ConditionMix(last_cycle=50)
    cells = mix.draw_cells(arguments.cells * len(compositions), rng, discharges=arguments.discharges)
    of = np.repeat(np.arange(len(cells)), arguments.discharges)
    return simulate(
        ensemble,
        [compositions[cell % len(compositions)] for cell in of],
        [conditions for cell in cells for conditions in cell],
        cells=of.tolist(),
        seed=arguments.seed,
    )


def run(name: str, profiles: ProfileSet, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train on one of the sets and ask about the later cycles of the other families."""
    torch.set_num_threads(1)
    train, test, first = CASES[name]
    known, asked = split(profiles, train, test, with_first_cycle=first)
    options = replace(load_options(arguments.options), members=arguments.members)
    # the same number of steps, and the same fall of the learning rate over them, whatever the size of the set
    steps = TrainingTensors(known).steps(options.profiles_per_batch, options.points_per_profile)
    epochs = max(1, round(arguments.steps / steps))
    options = replace(options, epochs=epochs, decay=arguments.fall ** (1 / epochs))
    if arguments.learning_rate is not None:
        options = replace(options, learning_rate=arguments.learning_rate)
    started = time.process_time()
    model = pretrain(known, options, seed=arguments.seed)
    used = time.process_time() - started
    rows = evaluate(model, asked.select(asked.cycle > 1)).rows()
    return [{**row, "profiles": len(known), "steps": epochs * steps, "cpu_s": used} for row in rows]


def main() -> None:
    """Print the error of each family for each training set, and by how much it is below that of 2TM alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="ensemble that stands for the laboratory")
    parser.add_argument("--compositions", type=int, default=400)
    parser.add_argument("--cells", type=int, default=2, help="of each composition")
    parser.add_argument("--discharges", type=int, default=6, help="kept of each cell, the first among them")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000, help="of training, the same for each training set")
    parser.add_argument("--options", default="default", help="training options, a name or a YAML file")
    parser.add_argument("--learning-rate", type=float, help="instead of that of the options")
    parser.add_argument("--fall", type=float, default=0.02, help="last learning rate relative to the first")
    parser.add_argument("--processes", type=int, default=1, help="training sets that are learned at the same time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    profiles = make_profiles(arguments)
    print("trained on | profiles | steps | family | MAE after cycle 1 (mAh/g) | cut | MAD | CPU s", flush=True)
    alone: dict[str, float] = {}
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        for name, future in {name: pool.submit(run, name, profiles, arguments) for name in CASES}.items():
            for row in future.result():
                error = row["capacity_mae_mah_g"]
                cut = 1 - error / alone.setdefault(row["family"], error)
                print(
                    f"{name} | {row['profiles']} | {row['steps']} | {row['family']} | {error:.1f} | {cut:.0%} | "
                    f"{row['capacity_mad_mah_g']:.1f} | {row['cpu_s']:.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
