"""Whether the probability of the phase orders oxides of many metals that were made, after a few labels.

    python -m benchmarks.phase --data DIR [--labels 24] [--seeds 0 1 2 3 4]

DIR holds purity_al_init.csv and purity_KS.csv of github.com/Xiangyan93/Active-Learning-HESOs at 0aebde9c,
database/raw_data (MIT): equimolar oxides of five to ten metals, single phase or not. The classifier of the package
(:class:`screening.synthesis.PhaseClassifier`) sees the mismatch of the ionic radii and the elements; the others are a
plain Gaussian process classifier and a logistic regression of scikit-learn, on the elements alone and with the mismatch
beside them, and the mismatch by itself. Labels are drawn at random; all others are the test.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pymatgen.core.periodic_table import Element
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from screening.synthesis import PhaseClassifier

FILES = ("purity_al_init.csv", "purity_KS.csv")
SOURCE = "github.com/Xiangyan93/Active-Learning-HESOs at 0aebde9c, database/raw_data"


@dataclass(frozen=True)
class Oxides:
    """Oxides that were made; those with two different labels are left out."""

    shares: np.ndarray
    """Share of each metal, ``n x metals``."""

    mismatch: np.ndarray
    """Standard deviation of the radii over their mean, ``n``."""

    single: np.ndarray
    """1 where one phase was found, ``n``."""

    @classmethod
    def read(cls, folder: Path) -> Oxides:
        """Read the two tables.

        Raises:
            SystemExit: they are not there.
        """
        labels: dict[tuple[int, ...], set[int]] = {}
        for name in FILES:
            if not (folder / name).is_file():
                raise SystemExit(f"{folder} holds no {name}; it is in {SOURCE}. Nothing was run.")
            with (folder / name).open(encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    metals = tuple(sorted(map(int, row["atom_list"].split(","))))
                    labels.setdefault(metals, set()).add(int(row["purity"]))
        known = {metals: found.pop() for metals, found in labels.items() if len(found) == 1}
        elements = sorted({z for metals in known for z in metals})
        present = np.array([[z in metals for z in elements] for metals in known], float)
        shares = present / present.sum(1, keepdims=True)
        radii = np.array([np.mean(list(Element.from_Z(z).ionic_radii.values())) for z in elements])
        mean = shares @ radii
        mismatch = np.sqrt((shares * (radii / mean[:, None] - 1) ** 2).sum(1))
        return cls(shares, mismatch, np.array(list(known.values())))


Rows = np.ndarray
Classify = Callable[[Oxides, Rows, Rows], np.ndarray]
"""Oxides, labelled rows and asked ones to probabilities of one phase."""


def ours(oxides: Oxides, known: Rows, asked: Rows) -> np.ndarray:
    """The classifier of the package; sizes in standard deviations, amounts in typical distances."""
    sizes = torch.from_numpy((oxides.mismatch - oxides.mismatch.mean()) / oxides.mismatch.std())
    amounts = torch.from_numpy((oxides.shares - oxides.shares.mean(0)) / np.sqrt(2 * oxides.shares.var(0).sum()))
    formed = torch.from_numpy(oxides.single[known].astype(float))
    return PhaseClassifier(sizes[known], amounts[known], formed).probability(sizes[asked], amounts[asked]).numpy()


def by_scikit(make: Callable[[], object], *, sizes: bool) -> Classify:
    """One of scikit-learn, on which metals there are and, if asked, the mismatch."""

    def classify(oxides: Oxides, known: Rows, asked: Rows) -> np.ndarray:
        z = (oxides.mismatch - oxides.mismatch.mean()) / oxides.mismatch.std()
        x = np.column_stack([oxides.shares > 0, *([z] if sizes else [])]).astype(float)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bounds that a length scale reaches
            fitted = make().fit(x[known], oxides.single[known])  # type: ignore[attr-defined]
            return np.asarray(fitted.predict_proba(x[asked])[:, 1])

    return classify


def process() -> object:
    """A plain Gaussian process classifier."""
    return GaussianProcessClassifier(ConstantKernel(1.0) * RBF(1.0), random_state=0)


def regression() -> object:
    """A plain logistic regression."""
    return LogisticRegression(max_iter=2000)


CLASSIFIERS: dict[str, Classify] = {
    "drx-screen": ours,
    "mismatch alone": lambda oxides, known, asked: -oxides.mismatch[asked],
    "logistic regression, elements and mismatch": by_scikit(regression, sizes=True),
    "logistic regression, elements": by_scikit(regression, sizes=False),
    "Gaussian process classifier, elements and mismatch": by_scikit(process, sizes=True),
    "Gaussian process classifier, elements": by_scikit(process, sizes=False),
    "constant": lambda oxides, known, asked: np.full(len(asked), oxides.single[known].mean()),
}


def split(oxides: Oxides, labels: int, seed: int) -> tuple[Rows, Rows]:
    """Rows that are labelled, at random, both labels among them, and the others."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(oxides.single))
        if len(set(oxides.single[order[:labels]].tolist())) == 2:
            return order[:labels], order[labels:]


def areas(oxides: Oxides, classify: Classify, labels: int, seeds: Sequence[int]) -> np.ndarray:
    """Area under the receiver operating characteristic, one for each seed."""
    found = []
    for seed in seeds:
        known, asked = split(oxides, labels, seed)
        found.append(roc_auc_score(oxides.single[asked], classify(oxides, known, asked)))
    return np.array(found)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    oxides = Oxides.read(options.data)
    print(
        f"{len(oxides.single)} oxides, {oxides.single.mean():.0%} of them one phase; {options.labels} labels, "
        f"{len(options.seeds)} seeds\n\n| | AUROC | smallest |\n|---|---|---|"
    )
    for name, classify in CLASSIFIERS.items():
        found = areas(oxides, classify, options.labels, options.seeds)
        print(f"| {name} | {found.mean():.3f} | {found.min():.3f} |")


if __name__ == "__main__":
    main()
