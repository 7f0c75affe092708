"""Do batches of 64 profiles x 16 points converge as well as the paper's 1,024 random points?

The same simulated set, the same number of points seen, nearly the same number of steps; one member per run. What is
compared is the error on compositions that were held out.

    python benchmarks/train/batches.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from drxnet.ensemble import Ensemble
from drxnet.simulation import ConditionMix, draw_domain, simulate
from drxnet.training import TrainingOptions, TrainingTensors, pretrain


def main() -> None:
    """Print one row per kind of batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="ensemble to simulate the set from")
    parser.add_argument("--profiles", type=int, default=3600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = Ensemble.load(arguments.model)
    rng = np.random.default_rng(0)
    compositions = draw_domain(ensemble, arguments.profiles // 6, rng)
    which = np.arange(arguments.profiles) % len(compositions)
    conditions = ConditionMix().draw(arguments.profiles, rng)
    profiles = simulate(ensemble, [compositions[i] for i in which], conditions, seed=0)
    train, test = profiles.hold_out(0.15, seed=0)
    common = TrainingOptions(
        members=1, epochs=arguments.epochs, learning_rate=4e-3, decay=0.1, smoothness_weight=0.0, dqdv_weight=0.3
    )
    print("batch | input statistics | steps | held-out error, whole profile / lower cut-off (mAh/g) | CPU s")
    for profiles_per_batch, points in ((1024, 1), (256, 4), (64, 16)):
        for statistics in ("batch", "set"):
            options = replace(
                common, profiles_per_batch=profiles_per_batch, points_per_profile=points, input_statistics=statistics
            )
            errors, started = [], time.process_time()
            for seed in range(arguments.seeds):
                model = pretrain(train, options, seed=seed)
                q = model.predict(test.compositions, test.conditions, test.voltage_v).numpy()[0]
                wrong = np.abs(q - test.capacity_mah_g)
                errors.append((wrong.mean(), wrong[:, 0].mean()))
            whole, cutoff = np.mean(errors, 0)
            steps = TrainingTensors(train).steps(profiles_per_batch, points) * options.epochs
            used = (time.process_time() - started) / arguments.seeds
            print(
                f"{profiles_per_batch} x {points} | {statistics} | {steps} | {whole:.1f} / {cutoff:.1f} | {used:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
