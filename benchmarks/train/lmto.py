"""Real data: fine-tuned on cycles 1-8 of a cell, is the prediction of cycles 9 and 10 better than copying cycle 8?

    python benchmarks/train/lmto.py FOLDER/LMTO_example.csv

The file is the training example of github.com/zhongpc/drxnet: Li1.2Mn0.4Ti0.4O2, 20 mA/g, 1.5-4.8 V, cycles 1-10.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from drxnet.dataset import read_profiles
from drxnet.ensemble import Ensemble
from drxnet.finetuning import fine_tune


def main() -> None:
    """Print mean absolute errors over the profile of each held-out cycle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--last", type=int, default=8, help="last cycle that is learned from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    profiles = read_profiles(arguments.file)
    known, asked = (
        profiles.select(rows) for rows in (profiles.cycle <= arguments.last, profiles.cycle > arguments.last)
    )
    copied = profiles.select(profiles.cycle == arguments.last)
    ensemble = Ensemble.load(arguments.model)

    def errors(predicted: np.ndarray) -> np.ndarray:
        return np.abs(predicted - asked.capacity_mah_g).mean(1)

    def row(name: str, values: np.ndarray, remark: str = "") -> None:
        print(f"{name:22s}" + "".join(f"{value:8.2f}" for value in values) + f"   {remark}", flush=True)

    print("error (mAh/g) of cycle" + "".join(f"{cycle:8.0f}" for cycle in asked.cycle))
    last = copied.voltage_v[0], copied.capacity_mah_g[0]
    row("copying the last", errors(np.stack([np.interp(v, *last) for v in asked.voltage_v])))
    cases = asked.compositions, asked.conditions, asked.voltage_v
    row("not fine-tuned", errors(ensemble.predict(*cases).numpy().mean(0)))
    found = []
    for seed in range(arguments.seeds):
        tuned = fine_tune(ensemble, known, seed=seed)
        found.append(errors(tuned.ensemble.predict(*cases).numpy().mean(0)))
        row(f"fine-tuned, seed {seed}", found[-1], tuned.report["reason"])
    row("mean over seeds", np.mean(found, 0))


if __name__ == "__main__":
    main()
