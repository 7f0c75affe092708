"""What noise on the compositions does to a small training: errors on hidden compositions, and stability under traces.

A small ensemble learns from profiles simulated with another one, with each kind of noise; then it is asked about
compositions that it has not seen, about the same ones with half a hundredth more or less of two cations, and about
known rocksalts with a trace of every metal.

    python -m benchmarks.train.augmentation --model drxnet-2024
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.simulation import ConditionMix, draw_domain, simulate
from drxnet.training import load_options, pretrain
from screening.domain import known_compositions

RATES = (CyclingConditions(20), CyclingConditions(1000))
KINDS = {
    "none": {},
    "amounts 0.01, F 0.01": {"amount_noise": 0.01, "fluorine_noise": 0.01},
    "traces 0.3": {"trace_share": 0.3},
    "all three": {"amount_noise": 0.01, "fluorine_noise": 0.01, "trace_share": 0.3},
}


def moved(model: Ensemble, compositions: list[Composition], changed: list[Composition]) -> np.ndarray:
    """Change of the mean capacity at 20 mA/g (mAh/g)."""
    before, after = (model.capacity(c, RATES[:1]).numpy()[..., 0].mean(0) for c in (compositions, changed))
    return np.abs(after - before)


def with_trace(composition: Composition, metal: str, amount: float = 0.001) -> Composition:
    """The composition with a trace on top."""
    amounts = composition.amounts()
    return Composition.from_amounts({**amounts, metal: amounts.get(metal, 0.0) + amount})


def exchanged(composition: Composition, amount: float = 0.005) -> Composition:
    """The composition with a little of its first metal in the place of its last."""
    amounts = composition.amounts()
    first, last = list(composition.metals)[0], list(composition.metals)[-1]
    return Composition.from_amounts({**amounts, first: amounts[first] + amount, last: amounts[last] - amount})


def main() -> None:
    """Print one row per kind of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drxnet-2024", help="the truth")
    parser.add_argument("--compositions", type=int, default=700)
    parser.add_argument("--profiles", type=int, default=2800)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = Ensemble.load(arguments.model)
    rng = np.random.default_rng(arguments.seed)
    drawn = draw_domain(source, arguments.compositions + arguments.hidden, rng)
    learned, hidden = drawn[: arguments.compositions], drawn[arguments.compositions :]
    which = rng.integers(len(learned), size=arguments.profiles)
    conditions = ConditionMix().draw(arguments.profiles, rng)
    profiles = simulate(source, [learned[i] for i in which], conditions, seed=arguments.seed)
    truth = source.capacity(hidden, RATES).numpy().mean(0)
    several = [c for c in hidden if len(c.metals) > 1]
    known = list(known_compositions())
    traced = [(c, with_trace(c, m)) for c in known for m in MODEL_METALS[1:] if m not in c.metals]
    options = replace(load_options("default"), members=arguments.members, epochs=arguments.epochs)
    print("noise | MAE at 20 / 1000 mA/g on hidden compositions | 0.005 exchanged moves | 0.001 of a metal moves | s")
    for name in arguments.kinds:
        begun = time.process_time()
        model = pretrain(profiles, replace(options, **KINDS[name]), seed=arguments.seed)
        seconds = time.process_time() - begun
        wrong = np.abs(model.capacity(hidden, RATES).numpy().mean(0) - truth).mean(0)
        swapped = moved(model, several, [exchanged(c) for c in several])
        by_trace = moved(model, [c for c, _ in traced], [t for _, t in traced])
        print(
            f"{name} | {wrong[0]:.1f} / {wrong[1]:.1f} | mean {swapped.mean():.1f}, "
            f"90 % {np.quantile(swapped, 0.9):.1f} | mean {by_trace.mean():.1f}, "
            f"90 % {np.quantile(by_trace, 0.9):.1f}, most {by_trace.max():.0f} | "
            f"{seconds:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
