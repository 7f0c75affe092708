"""The pattern of the paper's figure 3 on simulated data.

Trained on 2TM alone; on 2TM and the first cycles of the others; on 2TM and 3TM. What counts is the error of the
capacity between 2.0 and 4.4 V within 50 cycles, here of the cycles after the first, which all three must predict.

    python benchmarks/train/figure3.py --model drxnet-2024
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from drxnet.ensemble import Ensemble
from drxnet.evaluation import evaluate, split
from drxnet.simulation import ConditionMix, draw_domain, simulate
from drxnet.training import load_options, pretrain

CASES = {
    "2TM": (("2TM",), ("3TM", "HE"), False),
    "2TM + first cycles": (("2TM",), ("3TM", "HE"), True),
    "2TM + 3TM": (("2TM", "3TM"), ("HE",), False),
}
"""Families learned from, families asked about, whether their first cycles are learned too."""


def main() -> None:
    """Print the error of each family for each training set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="ensemble that stands for the laboratory")
    parser.add_argument("--profiles", type=int, default=6000)
    parser.add_argument("--compositions", type=int, default=500)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1500, help="of training, the same for each of the three")
    parser.add_argument("--only", choices=CASES, help="one of the training sets, to run them side by side")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = Ensemble.load(arguments.model)
    rng = np.random.default_rng(arguments.seed)
    compositions = draw_domain(ensemble, arguments.compositions, rng)
    which = np.arange(arguments.profiles) % len(compositions)
    mix = ConditionMix(last_cycle=50, first_cycle_share=0.25)
    conditions = mix.draw(arguments.profiles, rng)
    profiles = simulate(ensemble, [compositions[i] for i in which], conditions, seed=arguments.seed)
    options = replace(load_options("default"), members=arguments.members, smoothness_every=16, epochs=8, decay=0.6)
    print("trained on | profiles | family | MAE after cycle 1 (mAh/g) | MAD | spread | CPU s")
    for name, (train, test, first) in CASES.items():
        if arguments.only not in (None, name):
            continue
        known, asked = split(profiles, train, test, with_first_cycle=first)
        # the same number of steps whatever the size of the set: points per profile are spread over the epochs
        rounds = arguments.steps / options.epochs / max(1, len(known) // options.profiles_per_batch)
        points = max(1, round(known.points / max(1.0, rounds)))
        started = time.process_time()
        model = pretrain(known, replace(options, points_per_profile=points), seed=arguments.seed)
        used = time.process_time() - started
        for row in evaluate(model, asked.select(asked.cycle > 1)).rows():
            print(
                f"{name} | {len(known)} | {row['family']} | {row['capacity_mae_mah_g']:.1f} | "
                f"{row['capacity_mad_mah_g']:.1f} | {row['capacity_std_mah_g']:.1f} | {used:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
