"""How many of the best oxides each optimiser finds on four plates that were measured in full.

    pip install 'drx-screen[benchmarks]'
    python -m benchmarks.oer --data DIR [--methods drx-screen botorch baybe random] [--seeds 0 1 ...]
    python -m benchmarks.oer              prints what was run before

DIR holds plate_3496.csv, 3851, 3860 and 4098: some 2,120 oxides of up to six metals each on a 1/10 lattice, and the
overpotential of oxygen evolution (Rohr et al., Chem. Sci. 11, 2696 (2020), doi:10.1039/c9sc05999g; the data sets of
github.com/aspuru-guzik-group/olympus at 440b6b58, src/olympus/datasets, MIT). A run is 8 rounds of 8, the first drawn
at random, the same for all; it counts which share of the best 1 % (21) was made. `drx-screen` is the package's strategy
`ucb` and its believing batch with the overpotential as a quantity (:mod:`benchmarks.oer.quantity`) and a Gaussian
process with the exponential kernel that the package has on learned features, here on the square roots of the shares.
Its settings were chosen on seeds 100-107 (benchmarks/README.md) and are reported on others.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from botorch import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from linear_operator.utils.cholesky import psd_safe_cholesky
from torch import Tensor

from benchmarks.oer.quantity import GOALS
from screening.improvement import Improvement, log_feasibility, objectives_of
from screening.strategies import STRATEGIES

PLATES = {
    "3496": ("Ni", "Fe", "Co", "Mn", "Ce", "La"),
    "3851": ("Ni", "Fe", "Co", "Ta", "Mn", "Cu"),
    "3860": ("Sn", "Fe", "Co", "Ta", "Mn", "Cu"),
    "4098": ("Sn", "Sb", "Co", "Ca", "Ni", "Mn"),
}
SOURCE = "github.com/aspuru-guzik-group/olympus at 440b6b58, src/olympus/datasets/dataset_oer_plate_*/data.csv"
ROUNDS, BATCH, TOP = 8, 8, 21
SEEDS, FEWER = range(20), range(8)
"""Of every method; and of BayBE, which takes longer."""

FIELDS = ("method", "plate", "seed", "share", "cpu_s")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Plate:
    """Oxides that were measured."""

    shares: Tensor
    """Share of each metal, ``n x 6``."""

    overpotential_v: Tensor
    """``n``"""

    @classmethod
    def read(cls, folder: Path, name: str) -> Plate:
        """Read a plate.

        Raises:
            SystemExit: it is not there.
        """
        path = folder / f"plate_{name}.csv"
        if not path.is_file():
            raise SystemExit(f"{folder} holds no plate_{name}.csv; it is in {SOURCE}. Nothing was run.")
        table = np.loadtxt(path, delimiter=",")
        return cls(torch.from_numpy(table[:, :6] / table[:, :6].sum(1, keepdims=True)), torch.from_numpy(table[:, 6]))

    def __len__(self) -> int:
        """Return the number of oxides."""
        return len(self.shares)

    @cached_property
    def best(self) -> set[int]:
        """Rows with the lowest overpotential."""
        return set(self.overpotential_v.argsort()[:TOP].tolist())


Recommend = Callable[[list[int]], list[int]]
"""From the rows that were measured, in order, to those of the next batch."""


@dataclass(frozen=True)
class PlateOutlook:
    """What the package's strategies ask an outlook for."""

    improvement: Improvement

    def signed(self, values: Tensor) -> Tensor:
        """Objectives of quantities, larger is better, ``n x 1``."""
        return objectives_of(GOALS, values)

    def spread(self, std: Tensor) -> Tensor:
        """Of the objectives, ``n x 1``."""
        return std

    def log_feasible(self, mean: Tensor, std: Tensor) -> Tensor:
        """There is no constraint, ``n``."""
        return log_feasibility(GOALS, mean, std)


@dataclass
class PlateBatch:
    """What the package's strategies ask a batch for."""

    outlook: PlateOutlook
    kernel: Callable[[Tensor, Tensor], Tensor]
    """Prior covariance of the overpotential (V²)."""

    points: Tensor
    """What the kernel sees, ``n x 6``."""

    mean: Tensor
    """Posterior mean of the overpotential (V), ``n x 1``."""

    prior: Tensor
    """Prior variance, ``n``."""

    explained: Tensor
    """The posterior covariance is the prior one less the Gram matrix of these columns, ``observations x n``."""

    noise: Tensor
    """Variance of a measurement (V²)."""

    picked: list[int] = field(default_factory=list)

    log_weight = 0.0

    @property
    def remaining_std(self) -> Tensor:
        """Spread that is left, ``n x 1``."""
        return (self.prior - self.explained.square().sum(0)).clamp_min(1e-12).sqrt()[:, None]

    @property
    def signed_mean(self) -> Tensor:
        """Of the objective, larger is better, ``n x 1``."""
        return self.outlook.signed(self.mean)

    @property
    def log_feasible(self) -> Tensor:
        """There is no constraint, ``n``."""
        return torch.zeros(len(self.mean))

    def add(self, row: int) -> None:
        """Count on a row to come out as predicted."""
        shared = self.kernel(self.points[[row]], self.points)[0] - self.explained[:, row] @ self.explained
        learned = shared / (shared[row] + self.noise).sqrt()
        self.explained = torch.cat([self.explained, learned[None]])
        self.picked.append(row)


def ours(plate: Plate, seed: int) -> Recommend:
    """The package's strategy and batch."""
    x, strategy = plate.shares.sqrt(), STRATEGIES["ucb"](seed)

    def recommend(taken: list[int]) -> list[int]:
        y = plate.overpotential_v[taken, None]
        kernel = ScaleKernel(MaternKernel(nu=0.5, lengthscale_prior=LogNormalPrior(0.0, 0.7)))
        model = fitted(SingleTaskGP(x[taken], y, covar_module=kernel, outcome_transform=Standardize(1)), seed)
        with torch.no_grad():
            batch = conditioned(model, x, taken, y)
            for _ in range(BATCH):
                value = strategy.next(batch)  # type: ignore[arg-type]  # it answers as a batch does
                value[taken + batch.picked] = -torch.inf
                batch.add(int(value.argmax()))
        return batch.picked

    return recommend


def conditioned(model: SingleTaskGP, x: Tensor, taken: list[int], y: Tensor) -> PlateBatch:
    """What a fitted model says of all points, in volts."""
    center, scale = y.mean(), y.std()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = model.covar_module(a, b).to_dense() * scale**2
        return found

    noise, level = model.likelihood.noise[0] * scale**2, center + model.mean_module.constant * scale
    factor = psd_safe_cholesky(kernel(x[taken], x[taken]) + noise * torch.eye(len(taken)))
    explained = torch.linalg.solve_triangular(factor, kernel(x[taken], x), upper=False)
    white = torch.linalg.solve_triangular(factor, y - level, upper=False)
    prior = model.covar_module(x, diag=True) * scale**2
    outlook = PlateOutlook(Improvement(GOALS, scale[None], -y.min()[None, None]))
    return PlateBatch(outlook, kernel, x, level + explained.mT @ white, prior, explained, noise)


def fitted(model: SingleTaskGP, seed: int) -> SingleTaskGP:
    """Fit a model by BoTorch."""
    from botorch.utils.sampling import manual_seed

    with manual_seed(seed):
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model.eval()


def plain_botorch(plate: Plate, seed: int) -> Recommend:
    """BoTorch as its tutorials use it: a SingleTaskGP on the shares and qLogEI."""
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.optim.optimize import optimize_acqf_discrete
    from botorch.sampling.normal import SobolQMCNormalSampler

    def recommend(taken: list[int]) -> list[int]:
        y = -plate.overpotential_v[taken, None]
        model = fitted(SingleTaskGP(plate.shares[taken], y), seed)
        sampler = SobolQMCNormalSampler(torch.Size([64]), seed=seed + len(taken))
        gain = qLogExpectedImprovement(model, best_f=y.max(), sampler=sampler)
        left = np.setdiff1d(np.arange(len(plate)), taken)
        chosen, _ = optimize_acqf_discrete(gain, q=BATCH, choices=plate.shares[left], max_batch_size=512)
        rows = {tuple(values): int(i) for i, values in zip(left, plate.shares[left].tolist(), strict=True)}
        return [rows[tuple(values)] for values in chosen.tolist()]

    return recommend


def baybe_default(plate: Plate, seed: int) -> Recommend:
    """BayBE with its default recommender on the shares."""
    import pandas as pd
    from baybe import Campaign
    from baybe.objectives import SingleTargetObjective
    from baybe.parameters import NumericalDiscreteParameter
    from baybe.searchspace import SearchSpace
    from baybe.settings import Settings
    from baybe.targets import NumericalTarget

    frame = pd.DataFrame(plate.shares.numpy().round(4), columns=list("abcdef"))
    parameters = [NumericalDiscreteParameter(c, sorted(frame[c].unique()), tolerance=0) for c in frame]
    space = SearchSpace.from_dataframe(frame, parameters)
    objective = SingleTargetObjective(NumericalTarget("v", minimize=True))
    campaign = Campaign(space, objective, allow_recommending_already_measured=False)
    row = {tuple(values): i for i, values in enumerate(frame.to_numpy().tolist())}
    told: list[int] = []
    Settings(random_seed=seed).activate()

    def recommend(taken: list[int]) -> list[int]:
        new = taken[len(told) :]
        campaign.add_measurements(frame.iloc[new].assign(v=plate.overpotential_v[new].numpy()))
        told.extend(new)
        return [row[tuple(values)] for values in campaign.recommend(BATCH)[list(frame)].to_numpy().round(4).tolist()]

    return recommend


def at_random(plate: Plate, seed: int) -> Recommend:
    """Uniform, without repetition."""
    order = np.random.default_rng([seed, 1]).permutation(len(plate)).tolist()
    return lambda taken: [row for row in order if row not in set(taken)][:BATCH]


METHODS: dict[str, Callable[[Plate, int], Recommend]] = {
    "drx-screen": ours,
    "botorch": plain_botorch,
    "baybe": baybe_default,
    "random": at_random,
}


def run(plate: Plate, recommend: Recommend, seed: int) -> float:
    """Share of the best that was made."""
    taken: list[int] = np.random.default_rng(seed).choice(len(plate), BATCH, replace=False).tolist()
    for _ in range(ROUNDS - 1):
        new = recommend(taken)
        assert len(set(new) - set(taken)) == BATCH, "a method repeated itself"
        taken += new
    return len(plate.best & set(taken)) / TOP


def missing_runs(options: argparse.Namespace, known: set[tuple[str, str, str]]) -> Iterator[dict[str, str]]:
    """Run what is not known yet."""
    for seed in options.seeds:
        for name in PLATES:
            plate = Plate.read(options.data, name)
            for method in options.methods:
                if (method, name, str(seed)) in known or (method == "baybe" and seed not in FEWER):
                    continue
                begun = time.process_time()
                share = run(plate, METHODS[method](plate, seed), seed)
                row = (method, name, seed, f"{share:.4f}", f"{time.process_time() - begun:.1f}")
                yield dict(zip(FIELDS, map(str, row), strict=True))


def interval(rows: list[dict[str, str]]) -> str:
    """Mean share over plates and seeds with a 95 % bootstrap interval over seeds."""
    by_seed: dict[str, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(float(row["share"]))
    means = np.array([np.mean(shares) for shares in by_seed.values()])
    rng = np.random.default_rng(0)
    low, high = np.quantile(means[rng.integers(0, len(means), (RESAMPLES, len(means)))].mean(1), [0.025, 0.975])
    return f"{means.mean():.3f} ({low:.3f}-{high:.3f})"


def print_table(runs: list[dict[str, str]]) -> None:
    """Print mean shares by method and plate, and what drx-screen finds more on the seeds of each method."""
    print("| method | seeds | " + " | ".join(PLATES) + " | mean | drx-screen on the same seeds |\n|" + "---|" * 8)
    for method in METHODS:
        mine = [r for r in runs if r["method"] == method]
        if not mine:
            continue
        seeds = {r["seed"] for r in mine}
        own = [r for r in runs if r["method"] == "drx-screen" and r["seed"] in seeds]
        cells = [interval([r for r in mine if r["plate"] == plate]) for plate in PLATES]
        print(f"| {method} | {len(seeds)} | " + " | ".join([*cells, interval(mine), interval(own)]) + " |")


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="run what is missing")
    parser.add_argument(
        "--runs", type=Path, default=Path(__file__).with_name("runs.csv"), help="table to read and extend"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    runs: list[dict[str, str]] = []
    if options.runs.is_file():
        with options.runs.open(encoding="utf-8", newline="") as file:
            runs = list(csv.DictReader(file))
    if options.data:
        for row in missing_runs(options, {(r["method"], r["plate"], r["seed"]) for r in runs}):
            with options.runs.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            runs.append(row)
            print(*row.values(), flush=True)
    print_table([r for r in runs if int(r["seed"]) in options.seeds])


if __name__ == "__main__":
    main()
