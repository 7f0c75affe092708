"""Whether a synthesis gives the phase: learned from what was tried, on a prior of sizes and known chemistry.

A Gaussian process classifier, by Laplace's approximation (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, algorithms 3.1 and 3.2; the mean of the logistic as D. MacKay, Neural Comput. 4, 720 (1992)). Its mean
falls with the mismatch of the cation radii, which orders single-phase oxides better than any other number that is known
before the synthesis; its covariance lets the data move that law, every element's part in it, and what holds near one
composition alone. BoTorch and GPyTorch classify with variational models that need an optimiser and take no soft labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from drxnet.composition import MODEL_METALS, Composition
from drxnet.ensemble import Amounts
from drxnet.process import NOT_STATED, Process
from screening.domain import known_compositions
from screening.measured import Made
from screening.species import radii, shipped_rows

USUAL_LOGIT = 2.2
"""Log odds of the phase for a composition whose sizes differ as those of reported rocksalts do: nine of ten form."""

SLOPE = -0.27
"""How they change with one standard deviation of the mismatch between reported rocksalts (0.0093): a logistic
regression on 506 oxides of five and more metals gives -29 for a mismatch of 1 (`benchmarks.phase` names the data)."""

VARIANCE_SHIFT, VARIANCE_SLOPE, VARIANCE_ELEMENT, VARIANCE_LOCAL = 1.0, 1.0, 0.25, 0.5
"""How far data may move the law: its level, its slope, the part of every element, one neighbourhood."""

LENGTH = 0.3
"""Reach of a neighbourhood; 1 is the distance of a typical pair of reported rocksalts."""

REPORTED_WEIGHT = 0.3
"""Of a reported rocksalt beside a synthesis of the campaign: what fails is seldom reported."""

CAUTION, MOST_CAUTION = 2.0, 16.0
"""What each failed synthesis of the campaign adds to the power of the probability in a score, and where that ends."""

LEAST_FAILED = 2
"""Failures from which a sentence counts them."""

_STEPS = 50
_SETTLED = 1e-9


@dataclass(frozen=True)
class Tried:
    """A synthesis and what came of it."""

    composition: Composition
    formed: float
    """1 where the phase formed, 0 where not; a share where there was some of it."""

    reason: str = ""
    """What was said of a failure."""

    weight: float = 1.0
    own: bool = True
    """Whether the campaign made it; else it is reported."""

    process: Process = field(default=NOT_STATED, repr=False)
    """How it was made, as far as stated; the probability of the phase does not depend on it."""


@cache
def reported() -> tuple[Tried, ...]:
    """Reported rocksalts, and reported syntheses that did not give one (``data/failed_syntheses.csv``)."""
    formed = [Tried(c, 1.0, weight=REPORTED_WEIGHT, own=False) for c in known_compositions()]
    failed = [
        Tried(Composition.parse(row["formula"]), float(row["formed"]), row["what"], own=False)
        for row in shipped_rows("failed_syntheses.csv")
    ]
    return (*formed, *failed)


def size_mismatch(amounts: Amounts) -> Tensor:
    """Standard deviation of the cation radii over their mean, an element having the mean radius of its states, ``n``.

    The delta of Zhang et al., Adv. Eng. Mater. 10, 534 (2008), doi:10.1002/adem.200700240, on cations.
    """
    sizes = _mean_radii()
    radius = torch.tensor([sizes[s] for s in amounts.symbols], dtype=torch.float64)
    share = amounts.cations.double() / amounts.cations.double().sum(1, keepdim=True)
    mean = share @ radius
    return (share * (radius / mean[:, None] - 1).square()).sum(1).sqrt()


@cache
def _mean_radii() -> dict[str, float]:
    sizes: dict[str, list[float]] = {}
    for species, of_state in radii().items():
        sizes.setdefault(species.element, []).append(of_state)
    return {element: sum(values) / len(values) for element, values in sizes.items()}


class PhaseClassifier:
    """Probability that syntheses give the phase, from labels of some; whatever the elements."""

    def __init__(self, sizes: Tensor, amounts: Tensor, formed: Tensor, weight: Tensor | None = None) -> None:
        """Learn from n syntheses.

        Args:
            sizes: mismatch of each, in standard deviations from what is usual, ``n``.
            amounts: of the elements, scaled so that a typical pair is 1 apart, ``n x elements``.
            formed: 1 where the phase formed, 0 where not, or a share, ``n``.
            weight: how much each counts, ``n``; by default 1.
        """
        self._sizes, self._amounts = sizes, amounts
        weight = torch.ones_like(formed) if weight is None else weight
        covariance, prior = self._covariance(sizes, amounts), self._mean(sizes)
        latent, eye = prior.clone(), torch.eye(len(formed), dtype=formed.dtype)
        for _ in range(_STEPS):
            p = latent.sigmoid()
            root = (weight * p * (1 - p)).clamp_min(1e-12).sqrt()
            factor = torch.linalg.cholesky(eye + root[:, None] * covariance * root)
            pull = root.square() * (latent - prior) + weight * (formed - p)
            step = torch.cholesky_solve((root * (covariance @ pull))[:, None], factor)[:, 0]
            moved = prior + covariance @ (pull - root * step)
            settled = float((moved - latent).abs().amax()) if len(latent) else 0.0
            latent = moved
            if settled < _SETTLED:
                break
        p = latent.sigmoid()
        self._root = (weight * p * (1 - p)).clamp_min(1e-12).sqrt()
        self._factor = torch.linalg.cholesky(eye + self._root[:, None] * covariance * self._root)
        self._pull = weight * (formed - p)

    def probability(self, sizes: Tensor, amounts: Tensor) -> Tensor:
        """Of the phase, ``n``, between 0 and 1.

        Args:
            sizes: mismatch of each, as in learning, ``n``.
            amounts: likewise, ``n x elements``.
        """
        shared = self._covariance(self._sizes, self._amounts, sizes, amounts)
        mean = self._mean(sizes) + self._pull @ shared
        explained = torch.linalg.solve_triangular(self._factor, self._root[:, None] * shared, upper=False)
        own = VARIANCE_SHIFT + VARIANCE_SLOPE * sizes.square() + VARIANCE_LOCAL
        own = own + VARIANCE_ELEMENT * amounts.square().sum(1)
        variance = (own - explained.square().sum(0)).clamp_min(0)
        return (mean / (1 + math.pi / 8 * variance).sqrt()).sigmoid()

    @staticmethod
    def _mean(sizes: Tensor) -> Tensor:
        return USUAL_LOGIT + SLOPE * sizes

    @staticmethod
    def _covariance(sizes: Tensor, amounts: Tensor, others: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        others, at = (sizes if others is None else others), (amounts if at is None else at)
        local = (-torch.cdist(amounts, at) / LENGTH).exp()
        law = VARIANCE_SHIFT + VARIANCE_SLOPE * sizes[:, None] * others
        return law + VARIANCE_ELEMENT * amounts @ at.mT + VARIANCE_LOCAL * local


class PhaseModel:
    """Probability that a synthesis of a rocksalt gives the phase, and what speaks against it."""

    def __init__(self, tried: Sequence[Tried]) -> None:
        """Learn from what was tried, reported or in the campaign."""
        self.tried = tuple(tried)
        known = Amounts.of(known_compositions())
        sizes, rows = size_mismatch(known), known.table(MODEL_METALS)
        self._usual = float(sizes.mean()), float(sizes.std())
        self._center, self._width = rows.mean(0), rows.var(0).sum().mul(2).sqrt()
        self._classifier = PhaseClassifier(
            *self._describe(Amounts.of([t.composition for t in self.tried])),
            torch.tensor([t.formed for t in self.tried], dtype=torch.float64),
            torch.tensor([t.weight for t in self.tried], dtype=torch.float64),
        )

    def probability(self, amounts: Amounts) -> Tensor:
        """Of the phase, ``n``."""
        return self._classifier.probability(*self._describe(amounts))

    @cached_property
    def failed(self) -> tuple[Made, ...]:
        """What the campaign tried in vain, and how it was made."""
        return tuple((t.composition, t.process) for t in self.tried if t.own and t.formed < 0.5)

    @property
    def caution(self) -> float:
        """Power of the probability in a score.

        1, as for any expected gain, until something failed; then more: a failure costs a place and the powders, and
        what its cells would have taught, which an expected improvement does not count.
        """
        return min(1.0 + CAUTION * len(self.failed), MOST_CAUTION)

    def against(self, composition: Composition) -> str:
        """What the campaign's failures say of a composition; empty where they say nothing.

        The rule is the one of an element's amount that separates failures best: `3 of 4 syntheses with V > 0.7 failed`.
        """
        own = [t for t in self.tried if t.own]
        rules = [rule for element, amount in composition.cations for rule in self._rules(own, element, amount)]
        if not rules:
            return ""
        _, failed, total, element, limit = max(rules)
        return f"{failed} of {total} syntheses with {element} > {limit:g} failed"

    def _rules(self, own: Sequence[Tried], element: str, amount: float) -> list[tuple[float, int, int, str, float]]:
        """Rules on one element that a composition with this amount falls under: how sure each is, and its counts."""
        amounts = np.array([t.composition.amounts().get(element, 0.0) for t in own])
        bad = np.array([t.formed < 0.5 for t in own])
        found = []
        for limit in sorted({0.0, *amounts[amounts < amount].tolist()}):
            above = bad[amounts > limit]
            failed, total = int(above.sum()), len(above)
            sure = (failed + 1) / (total + 2)
            if failed >= LEAST_FAILED and sure >= 0.5 and failed > bad.mean() * total:
                found.append((sure, failed, total, element, limit))
        return found

    def _describe(self, amounts: Amounts) -> tuple[Tensor, Tensor]:
        middle, spread = self._usual
        rows = amounts.table(MODEL_METALS)
        return (size_mismatch(amounts) - middle) / spread, (rows - self._center) / self._width
