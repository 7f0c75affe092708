"""Cost of the two stages, in processor seconds of one thread: scoring a stream, and choosing a batch jointly.

python -m benchmarks.choose.speed [--model default] [--space paper-he] [--engine auto]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from drxnet.ensemble import Amounts, Ensemble
from screening.batch import choose_batch
from screening.goals import Goals
from screening.lattice import Lattice
from screening.measured import Measured
from screening.outlook import Outlook
from screening.scoring import StreamScorer
from screening.space import load_space
from screening.surrogate import RELATIVE_NOISE

SCORED, SHORTLISTED, MEASURED = 8192, 2000, 64

OBSERVATIONS = (0, 64, 250, 1000)
"""Measured compositions with which a stream is scored."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _stream(
    options: argparse.Namespace, goals: Goals, lattice: Lattice, units: np.ndarray, measured: list[Measured]
) -> None:
    """Print what features, surrogate and score add to the network, with ever more measured."""
    ensemble = Ensemble.load(options.model, engine=options.engine)
    symbols, cations, fluorine = lattice.amounts(units)
    amounts = Amounts(symbols, torch.from_numpy(cations), torch.from_numpy(fluorine))
    usual = Outlook.of(Ensemble.load(options.model), goals, measured=measured[:MEASURED])
    for count in OBSERVATIONS:
        outlook = replace(usual, measured=tuple(measured[:count]), engine=options.engine)  # hyperparameters of one fit
        scorer = StreamScorer(outlook, lattice.columns, lattice.denominator)
        scorer.prepare()
        scorer.score(units[:64])
        network, scored = np.inf, np.inf
        for _ in range(3):
            network = min(network, cpu_seconds(lambda: ensemble.capacity(amounts, [goals.rates.low, goals.rates.high])))
            scored = min(scored, cpu_seconds(lambda s=scorer: s.score(units)))
        print(
            f"{count:5d} measured: network alone {len(units) / network:,.0f} candidates/s, scored "
            f"{len(units) / scored:,.0f}: {100 * (scored / network - 1):.0f} % more"
        )


def main() -> None:
    """Print both costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--space", default="paper-he")
    parser.add_argument("--engine", default="fused", help="of the stream")
    options = parser.parse_args()
    torch.set_num_threads(1)
    goals, lattice = Goals(), Lattice(load_space(options.space))
    ensemble = Ensemble.load(options.model)
    units = lattice.unrank(lattice.sample_ranks(max(SCORED, SHORTLISTED + MEASURED), 0))
    compositions = lattice.compositions(units)
    q = ensemble.capacity(compositions[: max(OBSERVATIONS)], [goals.rates.low, goals.rates.high])[0]
    noisy = q * (1 + RELATIVE_NOISE * torch.randn(q.shape, generator=torch.Generator().manual_seed(0)))
    measured = [
        Measured.at_two_rates(c, goals.rates, *map(float, row)) for c, row in zip(compositions, noisy, strict=False)
    ]

    _stream(options, goals, lattice, units[:SCORED], measured)
    measured = measured[:MEASURED]
    shortlist = compositions[MEASURED : MEASURED + SHORTLISTED]
    model = ensemble.subset(range(1, ensemble.members))  # the first member is the laboratory
    fitted = []
    spent = cpu_seconds(lambda: fitted.append(Outlook.of(model, goals, measured=measured)))
    print(f"fitted to {MEASURED} measured: {spent:.1f} s")
    chosen = cpu_seconds(lambda: choose_batch(shortlist, fitted[0], n=8))
    print(f"8 of {SHORTLISTED:,} with {MEASURED} measured: {chosen:.1f} s", flush=True)

    picks = choose_batch(shortlist, fitted[0], n=24)
    gains, scores = [pick.joint_gain for pick in picks], {pick.score for pick in picks}
    print(f"24 of {SHORTLISTED:,}: {len({p.composition for p in picks})} distinct, {len(scores)} different scores")
    print(f"joint gain of the first pick {gains[0]:.2g}, smallest of picks 6-24 {min(gains[5:]):.2g}")


if __name__ == "__main__":
    main()
