"""Campaigns in simulated laboratories of seven kinds, on a small pool with everything the members say worked out once.

What was measured is kept, so that one campaign serves every way of forming an interval that is compared on it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from benchmarks.choose.pool import CONDITIONS, GOALS, Pool, PooledEnsemble, candidates_of
from campaigns.loop.laboratories import FieldTruth, Laboratory, LaboratoryOptions, PenaltyTruth, Truth
from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from screening.batch import Limits, choose_batch
from screening.domain import known_compositions
from screening.measured import Measured
from screening.outlook import Outlook
from screening.scoring import Rows
from screening.strategies import STRATEGIES

SPACES: Mapping[str, int] = MappingProxyType({"he-rate": 1200, "lmof": 300})
"""Candidates drawn from each; those of lmof lie where the models learned, those of he-rate mostly beyond."""

TEACHER = "drxnet-2024"
"""What laboratories are made from."""

_SHORTLIST = 600
BATCH, ROUNDS = 8, (0, 1, 3, 8)
"""Compositions of a round, and the numbers of rounds after which spreads are looked at."""


@dataclass(frozen=True)
class Kind:
    """A kind of laboratory."""

    truth: Callable[[Ensemble, int, Sequence[str]], Truth] | None
    """From the published ensemble, a seed and the metals of the space; None for one member alone."""

    options: LaboratoryOptions
    words: str


def _field(ensemble: Ensemble, seed: int, metals: Sequence[str]) -> Truth:
    return FieldTruth(ensemble, seed)


_USUAL = LaboratoryOptions(failures=0.0, delays=0.0)

LABORATORIES: Mapping[str, Kind] = MappingProxyType(
    {
        "member": Kind(None, _USUAL, "one published member, the model being the others"),
        "field": Kind(_field, _USUAL, "published mean and a smooth field of 25 and 30 mAh/g"),
        "mass": Kind(
            _field,
            LaboratoryOptions(failures=0.0, delays=0.0, common_mass_error=0.08),
            "the same, all capacities off by a common factor (s.d. 8 %)",
        ),
        "pair": Kind(PenaltyTruth.drawn, _USUAL, "published mean less 60 mAh/g where two metals meet"),
        "one-rate": Kind(
            _field, LaboratoryOptions(failures=0.0, delays=0.0, one_rate=True), "as field, cells at the low rate only"
        ),
        "noisy": Kind(_field, LaboratoryOptions(noise=0.1, failures=0.0, delays=0.0), "as field, cells differ by 10 %"),
        "failures": Kind(
            PenaltyTruth.drawn,
            LaboratoryOptions(failures=0.3, delays=0.2),
            "as pair, where mismatched sizes and three in ten others do not form",
        ),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """One model and its pool."""

    model: str
    pool: Pool
    cache: Path
    offset: float = 0.0
    """Of every laboratory, in standard deviations of the published ones."""

    @classmethod
    def of(cls, model: str, cache: Path, offset: float = 0.0) -> Bench:
        """Draw the pool, or read it back."""
        drawn = [Pool.of(model, space, size, 0, cache) for space, size in SPACES.items()]
        compositions: list[Composition] = []
        rows: list[tuple[int, int]] = []
        for which, part in enumerate(drawn):
            for row, composition in enumerate(part.compositions[: part.candidates]):
                if composition not in set(compositions):
                    compositions.append(composition)
                    rows.append((which, row))
        candidates = len(compositions)
        first = {c: i for i, c in enumerate(drawn[0].compositions)}
        later = [c for c in known_compositions() if c not in set(compositions)]
        rows += [_found(drawn, first, c) for c in later]
        capacity, features = (
            np.stack([getattr(drawn[which], name)[:, row] for which, row in rows], 1)
            for name in ("capacity", "features")
        )
        pool = Pool((*compositions, *later), candidates, capacity, features, drawn[0].model_id)
        return cls(model, pool, cache, offset)

    def truth(self, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Capacities that cells give on average, ``n x 2``; chance of each to fail, ``n``; and the common factor."""
        own = self.laboratory(kind, seed)
        file = self.cache / f"trust-{self._truth(kind)}-{seed}.npz"
        if not file.is_file():
            capacity, failure = self._made(kind, seed)
            np.savez(file, capacity=capacity, failure=failure)
        stored = np.load(file)
        found = [own.shifted(q, c.current_ma_g) for q, c in zip(stored["capacity"].T, CONDITIONS, strict=True)]
        return np.column_stack(found) * own.mass_factor, stored["failure"], own.mass_factor

    def laboratory(self, kind: str, seed: int) -> Laboratory:
        """What befalls all cells of a laboratory; it is as far off as the bench says."""
        own = seed + zlib.crc32(kind.encode())  # laboratories of two kinds are not off alike
        return Laboratory(_NOTHING, replace(LABORATORIES[kind].options, offset=self.offset), own)

    def _truth(self, kind: str) -> str:
        made = LABORATORIES[kind].truth
        return "member" if made is None else "field" if made is _field else "pair"

    def _made(self, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        candidates = self.pool.compositions[: self.pool.candidates]
        made = LABORATORIES[kind].truth
        if made is None:
            alone = _teacher().subset([seed % _teacher().members])
            return alone.capacity(candidates, CONDITIONS)[0].double().numpy(), np.zeros(len(candidates))
        truth = made(_teacher(), seed, candidates_of("he-rate").columns)
        return truth.capacity(candidates, CONDITIONS)[0].numpy(), truth.failure(candidates)

    def predictor(self, kind: str, seed: int) -> PooledEnsemble:
        """Members that know nothing of the laboratory."""
        members = range(len(self.pool.capacity))
        if LABORATORIES[kind].truth is None and self.model == TEACHER:
            return PooledEnsemble(self.pool, [m for m in members if m != seed % len(members)])
        return PooledEnsemble(self.pool, list(members))

    def campaign(self, kind: str, seed: int) -> list[list[tuple[int, float, float]]]:
        """Rows and capacities (mAh/g, NaN where no cell was made) of each round; read back where it was run before.

        What is made is what a campaign chooses in the same laboratory without its offset, so that one serves all.
        """
        right = replace(self, offset=0.0)
        file = self.cache / f"trust-campaign-{self.model}-0-{kind}-{seed}.npz"
        if not file.is_file():
            rounds = right._run(kind, seed)
            flat = [(number, *found) for number, one in enumerate(rounds) for found in one]
            np.savez(file, found=np.array(flat, float).reshape(-1, 4), rounds=len(rounds))
        stored = np.load(file)
        found, rows = stored["found"], stored["found"][:, 1].astype(int)
        plain, shifted = right.truth(kind, seed)[0], self.truth(kind, seed)[0]
        found[:, 2:] *= shifted[rows] / np.maximum(plain[rows], 1e-9)
        return [[(int(r), a, b) for number, r, a, b in found if number == n] for n in range(int(stored["rounds"]))]

    def measured(self, found: Sequence[tuple[int, float, float]]) -> list[Measured]:
        """What a campaign knows of them."""
        rates, compositions = GOALS.rates, self.pool.compositions
        return [
            Measured.at_two_rates(compositions[row], rates, *(None if np.isnan(q) else q for q in (low, high)))
            for row, low, high in found
        ]

    def _run(self, kind: str, seed: int) -> list[list[tuple[int, float, float]]]:
        truth, failure, factor = self.truth(kind, seed)
        options = LABORATORIES[kind].options
        lab = self.laboratory(kind, seed)
        ensemble = self.predictor(kind, seed)
        taken: list[int] = []
        late: list[int] = []
        history: list[list[tuple[int, float, float]]] = []
        for number in range(max(ROUNDS)):
            known = [m for one in history for m in self.measured(one)]
            batch = self._next(ensemble, known, taken, seed + number)
            taken += batch
            rng = np.random.default_rng([seed, 6, number, zlib.crc32(kind.encode())])
            forms = rng.random(len(batch)) >= 1 - (1 - options.failures) * (1 - self._fails(kind, failure)[batch])
            waits = rng.random(len(batch)) < options.delays
            made = [row for row, good in zip(batch, forms, strict=True) if good]
            now = [row for row, good, slow in zip(batch, forms, waits, strict=True) if good and not slow] + late
            late = [row for row in made if row not in now]
            cells = truth[now] / factor * lab.scatter(rng, (len(now), 2))
            if options.one_rate:
                cells[:, 1] = np.nan
            history.append([(row, float(low), float(high)) for row, (low, high) in zip(now, cells, strict=True)])
        return history

    def _next(self, ensemble: PooledEnsemble, known: list[Measured], taken: list[int], seed: int) -> list[int]:
        """Rows that the package would make next, as the shipped campaigns choose them."""
        how = "logei" if known else "variance-reduction"
        outlook = Outlook.of(ensemble, GOALS, measured=known)  # type: ignore[arg-type]  # the same interface
        candidates = self.pool.compositions[: self.pool.candidates]
        rows = Rows(outlook, Limits(), Amounts.of(candidates), self.pool.table[: len(candidates)])
        with torch.no_grad():
            scores = STRATEGIES[how](seed).score(outlook, rows)
        scores[taken] = -torch.inf
        listed = scores.argsort(descending=True)[: len(candidates) - len(taken)].tolist()
        row = {candidates[i]: i for i in listed}
        picks = choose_batch(list(row), outlook, n=BATCH, strategy=how, seed=seed, shortlist=_SHORTLIST)
        return [row[p.composition] for p in picks]

    @staticmethod
    def _fails(kind: str, failure: np.ndarray) -> np.ndarray:
        """Only where failures are what the kind is about."""
        return failure if LABORATORIES[kind].options.failures else np.zeros_like(failure)


class _Nothing(Truth):
    """Stands where only scatter is asked for."""

    kind = "nothing"

    def profiles(self, *_: object) -> None:  # type: ignore[override]  # never asked
        raise NotImplementedError


_NOTHING = _Nothing()


@cache
def _teacher() -> Ensemble:
    return Ensemble.load(TEACHER)


def _found(drawn: Sequence[Pool], first: Mapping[Composition, int], composition: Composition) -> tuple[int, int]:
    if composition in first:
        return 0, first[composition]
    return 1, drawn[1].compositions.index(composition)
