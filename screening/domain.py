"""How far a composition is from what the model was trained on and from what a campaign has measured.

Two distances to the nearest known composition: between the members' learned composition vectors, and between amounts
(the largest difference of any element per formula unit). The first one makes the label, because it is the one that
tells how wrong the model is. Known are the reported rocksalts of ``data/known_drx.csv`` (DRX-TD itself lists the
families it covers, not every composition) and whatever the campaign has measured.

A label means the same error for every ensemble that has error levels
(:attr:`drxnet.uncertainty.ModelLevel.label_ends`): the learned distances of two ensembles are no measure of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.uncertainty import LABELS, Label, levels_of
from screening.species import shipped_rows


@cache
def known_compositions() -> tuple[Composition, ...]:
    """Reported disordered rocksalts of the families that DRXNet was trained on."""
    return tuple(Composition.parse(row["formula"]) for row in shipped_rows("known_drx.csv"))


class FeatureScale:
    """Puts the members' composition vectors on one scale: a typical pair of known compositions is 1 apart."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.known = u = ensemble.features(known_compositions()).detach().cpu().double()
        """Composition vectors of the known compositions, ``s x known x 32``."""

        spread = 2 * len(u) * u.var(1).sum(-1)  # a typical squared distance, once all members stand side by side
        self._width = spread.clamp_min(1e-12).sqrt()[:, None, None]

    def __call__(self, ensemble: Ensemble, amounts: Amounts) -> Tensor:
        """Scaled features of all members side by side, ``n x (s * 32)``; differentiable."""
        return self.scaled(ensemble.features(amounts))

    def scaled(self, features: Tensor) -> Tensor:
        """Scale composition vectors, ``s x n x 32 -> n x (s * 32)``."""
        return (features.cpu().double() / self._width).movedim(0, 1).flatten(1)


@dataclass(frozen=True)
class Nearest:
    """The nearest known composition of each of n candidates."""

    learned: np.ndarray
    """Distance in learned features, ``n``; 1 is a typical pair of known compositions."""

    amount: np.ndarray
    """Distance in composition, the largest difference of any amount per formula unit, ``n``."""

    neighbours: tuple[Composition, ...]
    """The nearest known composition by learned features, ``n``."""

    ends: tuple[float, float]
    """Largest learned distances of the labels."""

    @property
    def labels(self) -> list[Label]:
        """Where each candidate lies."""
        return [LABELS[i] for i in np.digitize(self.learned, self.ends, right=True)]


class Domain:
    """What a model knows, from reported and measured compositions."""

    def __init__(
        self, ensemble: Ensemble, measured: Sequence[Composition] = (), scale: FeatureScale | None = None
    ) -> None:
        self.ensemble = ensemble
        self.ends = levels_of(ensemble.model_id).model.label_ends
        self.scale = scale or FeatureScale(ensemble)
        self.known = tuple(dict.fromkeys((*known_compositions(), *measured)))
        amounts = Amounts.of(self.known)
        if scale is None and not measured:  # encoded already, by the same ensemble
            self._features = self.scale.scaled(self.scale.known)
        else:
            self._features = self.scale(ensemble, amounts).detach()
        self._amounts = amounts

    def nearest(self, amounts: Amounts, features: Tensor | None = None) -> Nearest:
        """Find the nearest known composition of each candidate.

        Args:
            amounts: n candidates.
            features: their scaled features where already computed, ``n x f``.
        """
        scaled = self.scale(self.ensemble, amounts) if features is None else features
        learned, which = self.distances(scaled).min(1)
        symbols = tuple(dict.fromkeys((*self._amounts.symbols, *amounts.symbols)))
        apart = torch.cdist(amounts.table(symbols), self._amounts.table(symbols), p=torch.inf)
        return Nearest(
            learned.detach().numpy(),
            apart.amin(1).detach().numpy(),
            tuple(self.known[i] for i in which.tolist()),
            self.ends,
        )

    def locate(self, features: Tensor) -> list[Label]:
        """Label of each candidate, from the members' composition vectors, ``s x n x 32``."""
        return [LABELS[i] for i in self.labels(self.scale.scaled(features.detach())).tolist()]

    def labels(self, features: Tensor) -> Tensor:
        """Label of each candidate as its index in :data:`LABELS`, ``n``."""
        nearest = self.distances(features).amin(1)
        return torch.bucketize(nearest, torch.tensor(self.ends, dtype=torch.float64))

    def distances(self, features: Tensor) -> Tensor:
        """Learned distance of every candidate to every known composition, ``n x known``."""
        return torch.cdist(features, self._features)
