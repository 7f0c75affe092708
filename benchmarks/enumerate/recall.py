"""Recall of search: what share of the true best hundred it finds with a thousandth of the evaluations.

The space is scored exhaustively once with one member of the published ensemble (resumable, see ``--truth``); candidates
whose score equals that of the hundredth count as found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.enumerate.scorers import Retention
from screening.enumerator import Scorer, Shortlist, Statistics, stream
from screening.lattice import Lattice
from screening.search import search
from screening.space import CandidateSpace, parse_space

SEARCHED: CandidateSpace = parse_space(
    {
        "name": "ten-species",
        "step": "1/20",
        "lithium": [1.0, 1.35],
        "fluorine": [0, 0.7],
        "species": ["Mn2+", "Mn3+", "Mg2+", "Ni2+", "Cr3+", "V3+", "Ti4+", "Nb5+", "Fe2+", "Fe3+"],
        "k_elements": [4, 6],
        "filters": "none",
    }
)
"""7,906,663 compositions."""


TOP = 100
TIE = 2e-5
"""Scores of the compiled network, and of other batch sizes, differ in the sixth digit."""


def truth(folder: Path, *, workers: int = 0, keep: int = 5000) -> Shortlist:
    """Score the whole space, or go on with it."""
    lattice = Lattice(SEARCHED)
    scorer = Retention(lattice.columns, lattice.denominator)
    return stream(lattice, scorer, keep=keep, workers=workers, shard=1 << 17, folder=folder)


def recall(found: Shortlist, known: Shortlist) -> float:
    """Share of the true best hundred that was found, candidates as good as the hundredth counting."""
    good = found.scores >= known.scores[TOP - 1] - TIE
    return min(TOP, int(good.sum())) / TOP


def report(folder: Path, workers: int, heading: Callable[..., None], row: Callable[..., None]) -> None:
    """Print recall and best score of each method over five seeds."""
    known = truth(folder, workers=workers)
    lattice = Lattice(SEARCHED)
    budget = lattice.count // 1000
    scorer = _Prepared(Retention(lattice.columns, lattice.denominator, compiled=False))
    ties = int((known.scores >= known.scores[TOP - 1] - TIE).sum())
    print(
        f"\n{lattice.count:,} compositions, best {known.scores[0]:.5f} ({lattice.formulas(known.units[:1])[0]}), "
        f"hundredth {known.scores[TOP - 1]:.5f}, {ties} at or above it; {budget:,} evaluations, five seeds"
    )
    heading("Search", "method", "mean recall of the top 100", "each seed", "rank of the best found", "CPU s per run")
    methods: dict[str, Callable[[int], Shortlist]] = {
        "best-first": lambda seed: search(lattice, scorer, evaluations=budget, keep=TOP, seed=seed),
        "evolution": lambda seed: search(lattice, scorer, evaluations=budget, keep=TOP, seed=seed, method="evolution"),
        "uniform sample": lambda seed: _uniform(lattice, scorer, budget, seed),
        "BoTorch discrete local search": lambda seed: _by_botorch(lattice, scorer, budget, seed),
    }
    for name, method in methods.items():
        begun = time.process_time()
        runs = [method(seed) for seed in range(5)]
        seconds = (time.process_time() - begun) / len(runs)
        each = [recall(run, known) for run in runs]
        ranks = [int((known.scores > run.scores[0] + TIE).sum()) + 1 for run in runs]
        shown = ", ".join(f"{r:,}" if r <= len(known.scores) else f"> {len(known.scores):,}" for r in ranks)
        row(name, f"{np.mean(each):.3f}", ", ".join(f"{r:.2f}" for r in each), shown, f"{seconds:.1f}")


class _Prepared:
    """A scorer that is loaded and compiled once for all runs."""

    def __init__(self, scorer: Scorer) -> None:
        self.fingerprint, self.score = scorer.fingerprint, scorer.score
        scorer.prepare()

    def prepare(self) -> None:
        """Do nothing; it is prepared."""


def _uniform(lattice: Lattice, scorer: Scorer, budget: int, seed: int) -> Shortlist:
    ranks = lattice.sample_ranks(budget, seed)
    return _best(lattice, ranks, scorer.score(lattice.unrank(ranks)))


def _best(lattice: Lattice, ranks: np.ndarray, scores: np.ndarray) -> Shortlist:
    order = np.lexsort((ranks, -scores))[:TOP]
    statistics = Statistics(lattice.count, len(ranks), len(ranks), 0, {}, 1, 0, 0, 0.0, 0.0)
    return Shortlist(ranks[order], scores[order], lattice.unrank(ranks[order]), statistics)


class _Spent(Exception):
    """The evaluations are used up."""


def _by_botorch(lattice: Lattice, scorer: Scorer, budget: int, seed: int) -> Shortlist:
    """``optimize_acqf_discrete_local_search`` from uniform starts, again and again until the evaluations are spent.

    X holds the units of F and the metals, lithium being slack; what is outside the space has a low value and costs
    nothing.
    """
    import torch
    from botorch.acquisition import AcquisitionFunction
    from botorch.optim import optimize_acqf_discrete_local_search

    seen: dict[bytes, float] = {}

    class Scores(AcquisitionFunction):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            slack = X.reshape(-1, X.shape[-1]).round().long().numpy()  # q is 1
            lithium = 2 * lattice.denominator - slack[:, 1:].sum(1)
            units = np.ascontiguousarray(np.concatenate([lithium[:, None], slack], 1))
            values = np.full(len(units), -10.0)
            inside = np.flatnonzero(lattice.contains(units))
            new = {units[i].tobytes(): i for i in inside if units[i].tobytes() not in seen}
            rows = units[list(new.values())][: budget - len(seen)]
            if len(rows):
                seen.update(zip((r.tobytes() for r in rows), scorer.score(rows).tolist(), strict=True))
            if len(seen) >= budget:
                raise _Spent
            for i in inside:
                values[i] = max(-10.0, seen[units[i].tobytes()])
            return torch.from_numpy(values)

    choices = [torch.tensor(list(lattice.space.fluorine_units), dtype=torch.double)]
    choices += [torch.tensor([0, *lattice.space.metal_units(m)], dtype=torch.double) for m in lattice.metals]
    starts = 20
    try:
        for again in range(1000):
            units = lattice.sample(starts, seed * 1000 + again)[:, 1:]
            optimize_acqf_discrete_local_search(
                Scores(),
                discrete_choices=choices,
                q=1,
                num_restarts=starts,
                batch_initial_conditions=torch.from_numpy(units.astype(float))[:, None],
            )
    except _Spent:
        pass
    rows = np.stack([np.frombuffer(key, dtype=np.int64) for key in seen])
    scores = np.array(list(seen.values()))
    best = np.argsort(-scores)[: 2 * TOP]
    return _best(lattice, np.array([lattice.rank(r) for r in rows[best]]), scores[best])
