"""Fine-tuning when the truth is known: each member of an ensemble in turn is the laboratory, the others are the model.

The laboratory returns the first cycles of high-entropy compositions at two rates, with 1 % cell noise; the model is
fine-tuned on them and asked about compositions that it has not seen.

    python benchmarks/train/laboratory.py --model drxnet-2024
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from drxnet.composition import MODEL_METALS
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.evaluation import coverage
from drxnet.finetuning import FineTuningOptions, fine_tune, replay_profiles
from drxnet.simulation import ChemicalFamily, simulate

RATES = (CyclingConditions(20), CyclingConditions(1000))
SPACES = {
    "six": ChemicalFamily(("Mg", "Ti", "V", "Cr", "Mn", "Nb"), (4, 6), lithium=(1.1, 1.3), fluorine=(0, 0.4)),
    "all": ChemicalFamily(
        tuple(m for m in MODEL_METALS if m not in ("Li", "Mo", "W")), (4, 7), lithium=(1.1, 1.3), fluorine=(0, 0.4)
    ),
}
"""Spaces that the laboratory works in: the metals of the paper's high-entropy cathodes, and nearly all metals."""


def shuffled(profiles: ProfileSet, seed: int) -> ProfileSet:
    """The same compositions and conditions with labels of others at the same rate."""
    order = np.arange(len(profiles))
    rng = np.random.default_rng(seed)
    for current in np.unique(profiles.current_ma_g):
        rows = np.flatnonzero(profiles.current_ma_g == current)
        order[rows] = rng.permutation(rows)
    other = profiles.select(order)
    return ProfileSet(
        profiles.compositions,
        profiles.current_ma_g,
        profiles.cycle,
        profiles.window_v,
        other.voltage_v,
        other.capacity_mah_g,
        other.dqdv_mah_g_v,
        other.first_capacity_mah_g,
    )


def main() -> None:
    """Print one row per laboratory and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drxnet-2024")
    parser.add_argument("--space", choices=SPACES, default="six")
    parser.add_argument("--cells", type=int, default=48, help="compositions that come back")
    parser.add_argument("--unseen", type=int, default=1000)
    parser.add_argument("--laboratories", type=int, nargs="+", help="members that are the laboratory; by default all")
    parser.add_argument("--shuffle", action="store_true", help="also return the same data with shuffled labels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = Ensemble.load(arguments.model)
    rng = np.random.default_rng(arguments.seed)
    compositions = SPACES[arguments.space].draw(arguments.cells + arguments.unseen, rng)
    made, unseen = compositions[: arguments.cells], compositions[arguments.cells :]
    print("lab | error before 20/1000 | after | gain | drift on known | 80 % covers before -> after | accepted | s")
    rows = []
    for member in arguments.laboratories or range(ensemble.members):
        lab = ensemble.subset([member])
        model = ensemble.subset([m for m in range(ensemble.members) if m != member])
        data = simulate(lab, made * 2, [c for c in RATES for _ in made], seed=arguments.seed + member)
        started = time.process_time()
        tuned = fine_tune(model, data, seed=arguments.seed + member, options=FineTuningOptions())
        seconds = time.process_time() - started
        truth = lab.capacity(unseen, RATES).numpy()[0]
        before, after = (e.capacity(unseen, RATES).numpy() for e in (model, tuned.ensemble))
        known = replay_profiles(model, 300, seed=1000 + member, away_from=made, by=FineTuningOptions().replay_distance)
        q = [
            e.predict(known.compositions, known.conditions, known.voltage_v).numpy().mean(0)
            for e in (model, tuned.ensemble)
        ]
        errors = [np.abs(x.mean(0) - truth).mean(0) for x in (before, after)]
        rows.append(
            [
                *errors[0],
                *errors[1],
                np.abs(q[1] - q[0]).mean(),
                coverage(before, truth, 0.8),
                coverage(after, truth, 0.8),
            ]
        )
        r = rows[-1]
        gain = 1 - np.mean([r[2] / r[0], r[3] / r[1]])
        print(
            f"{member} | {r[0]:.1f} / {r[1]:.1f} | {r[2]:.1f} / {r[3]:.1f} | {gain:.0%} | {r[4]:.2f} | "
            f"{r[5]:.0%} -> {r[6]:.0%} | {tuned.accepted} ({tuned.report['reason']}) | {seconds:.0f}",
            flush=True,
        )
        if arguments.shuffle:
            wrong = fine_tune(model, shuffled(data, arguments.seed), seed=arguments.seed + member)
            print(f"  shuffled labels: accepted {wrong.accepted}: {wrong.report['reason']}", flush=True)
    mean = np.mean(rows, 0)
    gain = 1 - np.mean([[r[2] / r[0], r[3] / r[1]] for r in rows])
    print(
        f"mean | {mean[0]:.1f} / {mean[1]:.1f} | {mean[2]:.1f} / {mean[3]:.1f} | {gain:.0%} | {mean[4]:.2f} | "
        f"{mean[5]:.0%} -> {mean[6]:.0%}"
    )


if __name__ == "__main__":
    main()
