"""A pool of candidates with everything the members say of it worked out once, and ensembles that read from it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from campaigns.loop.laboratories import KINDS
from campaigns.spec import parse_spec, read_spec
from drxnet.checkpoint import ModelCard
from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Compositions, Encoded, Ensemble
from drxnet.errors import ConfigurationError
from screening.candidates import Candidates
from screening.domain import known_compositions
from screening.goals import Goals

GOALS = Goals()
CONDITIONS = (GOALS.rates.low, GOALS.rates.high)
_BLOCK = 1000
_DRAWS = 40
"""Draws from a space for each candidate wanted, since filters refuse most."""


@dataclass(frozen=True)
class Pool:
    """Candidates, then the known compositions, with capacities and composition vectors of all members."""

    compositions: tuple[Composition, ...]
    candidates: int
    """How many of the compositions are candidates; they come first."""

    capacity: np.ndarray
    """At the low and the high rate (mAh/g), ``members x n x 2``."""

    features: np.ndarray
    """``members x n x 32``."""

    model_id: str
    """Of the ensemble whose members they are."""

    @classmethod
    def of(cls, model: str, space: str, size: int, seed: int, cache: Path) -> Pool:
        """Draw a pool uniformly from what a campaign's filters leave, or read it back from the cache."""
        source = candidates_of(space)
        units = source.unrank(source.sample_ranks(min(source.count, _DRAWS * size), seed))
        candidates = tuple(source.compositions(units[source.keeps(units)][:size]))
        everything = (*candidates, *(c for c in known_compositions() if c not in set(candidates)))
        file, ensemble = cache / f"pool-{model}-{space}-{size}-{seed}.npz", Ensemble.load(model)
        if not file.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            capacity, features = _predict(ensemble, everything)
            np.savez(file, capacity=capacity, features=features)
        stored = np.load(file)
        return cls(everything, len(candidates), stored["capacity"], stored["features"], ensemble.model_id)

    def truth(self, kind: str, source: str, space: str, seed: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """Capacities of the candidates in a laboratory, ``n x 2``, and how probably each synthesis fails, ``n``.

        Args:
            kind: of :data:`campaigns.loop.laboratories.KINDS`.
            source: ensemble that a laboratory is made from.
            space: campaign whose metals a dead pair is drawn from.
            seed: of the laboratory.
            cache: kept there.
        """
        file = cache / f"truth-{kind}-{source}-{space}-{self.candidates}-{seed}.npz"
        if not file.is_file():
            made = KINDS[kind](Ensemble.load(source), seed, candidates_of(space).columns)
            candidates = self.compositions[: self.candidates]
            capacity = made.capacity(candidates, CONDITIONS)[0].numpy()
            np.savez(file, capacity=capacity, failure=made.failure(candidates))
        stored = np.load(file)
        return stored["capacity"], stored["failure"]

    def predicted_by(self, ensemble: Ensemble) -> Pool:
        """Build the same pool as another ensemble sees it."""
        return Pool(self.compositions, self.candidates, *_predict(ensemble, self.compositions), ensemble.model_id)

    @cached_property
    def amounts(self) -> Amounts:
        """Of all compositions."""
        return Amounts.of(self.compositions)

    @cached_property
    def table(self) -> np.ndarray:
        """Amounts of all compositions in thousandths, ``n x metals and F``."""
        return _table(self.amounts)

    @cached_property
    def row(self) -> dict[bytes, int]:
        """Row of each composition, by its amounts."""
        return {key: i for i, key in enumerate(_keys(self.amounts))}


def candidates_of(name: str) -> Candidates:
    """Candidates of a shipped campaign or space."""
    try:
        return read_spec(name).candidates()
    except ConfigurationError:
        return parse_spec({"space": name}, name).candidates()


def pool_asked_for(description: str | None) -> tuple[Pool, argparse.Namespace]:
    """Read the options of a benchmark on one pool, and draw the pool."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drxnet-2024")
    parser.add_argument("--space", default="he-rate", help="campaign whose candidates are drawn")
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    return Pool.of(options.model, options.space, options.pool, options.seed, options.cache), options


def _predict(ensemble: Ensemble, compositions: Sequence[Composition]) -> tuple[np.ndarray, np.ndarray]:
    """Capacities at both rates, ``members x n x 2``, and composition vectors, ``members x n x 32``."""
    capacity, features = [], []
    for start in range(0, len(compositions), _BLOCK):
        encoded = ensemble.encode(compositions[start : start + _BLOCK])
        features.append(encoded.features.numpy())
        capacity.append(ensemble.capacity(encoded, CONDITIONS).numpy())
    return np.concatenate(capacity, 1), np.concatenate(features, 1)


class PooledEnsemble:
    """Some members of a pool, with the interface of an ensemble that answers from the tables."""

    def __init__(self, pool: Pool, members: Sequence[int]) -> None:
        self.pool, self._members = pool, list(members)
        self.capacities = torch.from_numpy(pool.capacity[self._members])
        self.vectors = torch.from_numpy(pool.features[self._members])
        self.card = ModelCard(name="pooled", members=len(self._members))
        self.model_id = pool.model_id
        self.device, self.path = "cpu", None

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self._members)

    def encode(self, compositions: Compositions) -> PooledVectors:
        """Look compositions up."""
        amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)  # type: ignore[arg-type]
        rows = torch.tensor([self.pool.row[key] for key in _keys(amounts)])
        return PooledVectors(self.vectors[:, rows], rows)

    def features(self, compositions: Compositions) -> Tensor:
        """Composition vectors, ``members x n x 32``."""
        return self.encode(compositions).features

    def capacity(self, compositions: Compositions, conditions: Sequence[CyclingConditions]) -> Tensor:
        """Capacities (mAh/g), ``members x n x c``."""
        encoded = compositions if isinstance(compositions, PooledVectors) else self.encode(compositions)
        return self.capacities[:, encoded.rows][..., [CONDITIONS.index(c) for c in conditions]]


@dataclass(frozen=True)
class PooledVectors(Encoded):
    """Remembers the rows."""

    rows: Tensor


def _table(amounts: Amounts) -> np.ndarray:
    table = np.zeros((len(amounts), len(MODEL_METALS) + 1), np.int32)
    for i, symbol in enumerate(amounts.symbols):
        table[:, MODEL_METALS.index(symbol)] = np.rint(amounts.cations[:, i].numpy() * 1e3)
    table[:, 0] = 0  # lithium is what the metals leave
    table[:, -1] = np.rint(amounts.fluorine.numpy() * 1e3)
    return table


def _keys(amounts: Amounts) -> list[bytes]:
    return [row.tobytes() for row in _table(amounts)]
