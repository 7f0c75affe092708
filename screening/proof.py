"""The proof of a walk: what anybody needs to check that every candidate was scored and none better was left out.

A walk is cut into shards. Of each, the proof holds its range of ranks, how many candidates passed the filters, which of
them are among the best K of all, the largest score of those that are not, and a digest of all its scores. The shards
are the leaves of a Merkle tree (domains of leaves and nodes apart as in RFC 6962) whose root is kept where the choice
is recorded. On the engine and platform of the walk a shard that is scored again has the same digest; elsewhere its
scores agree within a tolerance, and nothing outside the best K may beat the last of them by more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from drxnet.errors import DataRefused, UsageError
from drxnet.files import replace_file
from drxnet.progress import Progress, silent

TOLERANCE = 1e-3
"""Scores of another engine or platform differ by less, relative to the larger of 1 and their size."""

VERSION = 1


@dataclass(frozen=True)
class ShardRecord:
    """What a proof says of one shard."""

    start: int
    stop: int
    """Ranks ``start`` to ``stop - 1``."""

    scored: int
    """Passed the filters."""

    rejected: int
    """Of these, given no score."""

    refused: Mapping[str, int]
    """Refused by each filter."""

    best: tuple[tuple[int, float], ...]
    """Rank and score of those among the best K of the walk, the best first."""

    outside: float
    """Largest score of the others; -inf where there are none."""

    digest: str
    """SHA-256 of all scores (little-endian float64 in the order of the ranks, NaN where a filter refuses)."""

    engine: str
    """What computed them: engine, versions, instructions of the processor."""

    def text(self) -> str:
        """One line of JSON; floats as hexadecimal, so that no digit is lost."""
        values = {
            **self.__dict__,
            "refused": dict(sorted(self.refused.items())),
            "best": [[rank, score.hex()] for rank, score in self.best],
            "outside": self.outside.hex(),
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`text` wrote."""
        best = tuple((int(rank), float.fromhex(score)) for rank, score in values["best"])
        return cls(**{**values, "best": best, "outside": float.fromhex(values["outside"])})

    @property
    def leaf(self) -> str:
        """Hash of the record."""
        return hashlib.sha256(b"\0" + self.text().encode()).hexdigest()

    def __str__(self) -> str:
        return f"the shard of ranks {self.start:,} to {self.stop - 1:,}"


def merkle_root(leaves: Sequence[str]) -> str:
    """Root of the tree over hexadecimal hashes; an odd one is carried up."""
    level = [bytes.fromhex(leaf) for leaf in leaves] or [hashlib.sha256(b"").digest()]
    while len(level) > 1:
        pairs = [
            hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() if i + 1 < len(level) else level[i]
            for i in range(0, len(level), 2)
        ]
        level = pairs
    return level[0].hex()


@dataclass(frozen=True)
class WalkProof:
    """A header and the records of all shards, in the order of their ranks."""

    job: Mapping[str, Any]
    """What was walked and by what it was scored: the identity of the job."""

    shards: tuple[ShardRecord, ...]

    @property
    def root(self) -> str:
        """Hash of everything in it."""
        header = hashlib.sha256(b"\0" + json.dumps(self.job, sort_keys=True).encode()).hexdigest()
        return merkle_root([header, *(shard.leaf for shard in self.shards)])

    @property
    def best(self) -> list[tuple[int, float]]:
        """Rank and score of the best K, the best first."""
        return sorted((pair for shard in self.shards for pair in shard.best), key=lambda pair: (-pair[1], pair[0]))

    @property
    def last(self) -> float:
        """Score of rank K, which nothing outside may beat; -inf where everything is in the list."""
        best = self.best
        return best[-1][1] if best and len(best) >= int(self.job["keep"]) else -np.inf

    @property
    def scored(self) -> int:
        """Candidates that passed the filters."""
        return sum(shard.scored for shard in self.shards)

    def summary(self) -> dict[str, Any]:
        """What is kept with the choice."""
        return {
            "root": self.root,
            "shards": len(self.shards),
            "scored": self.scored,
            "keep": self.job["keep"],
            "scorer": self.job["scorer"],
            "engines": sorted({shard.engine for shard in self.shards}),
        }

    def write(self, path: Path) -> None:
        """Write the header and one line for each shard, with its hash."""
        lines = [json.dumps({"proof": VERSION, "root": self.root, **self.job}, sort_keys=True)]
        lines += [f'{{"leaf":"{shard.leaf}","shard":{shard.text()}}}' for shard in self.shards]
        replace_file(path, ("\n".join(lines) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> tuple[Self, list[str]]:
        """Read a proof, and say which lines do not hash to what stands beside them.

        Raises:
            DataRefused: it is no proof at all.
        """
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            job = json.loads(head)
            if job.pop("proof") != VERSION:
                raise DataRefused(f"{path}: a proof of version {VERSION} is read here. Upgrade drx-screen.")
            root, shards, wrong = job.pop("root"), [], []
            for number, line in enumerate(lines, start=2):
                entry = json.loads(line)
                shard = ShardRecord.of(entry["shard"])
                if shard.leaf != entry["leaf"]:
                    wrong.append(f"{path.name}, line {number}: {shard} was changed; it has not the hash beside it")
                shards.append(shard)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataRefused(f"{path}: not the proof of a walk ({error!r}).") from None
        proof = cls(job, tuple(sorted(shards, key=lambda shard: shard.start)))
        if not wrong and proof.root != root:
            wrong.append(f"{path.name}: its lines do not hash to the root in its first line")
        return proof, wrong


@dataclass(frozen=True)
class Verification:
    """What a check of a proof found."""

    count: int
    walked: int
    scored: int
    shards: int
    recomputed: int
    """Shards whose candidates were scored again."""

    identical: int
    """Of these, on the engine and platform of the walk, with the same digest."""

    wrong: tuple[str, ...]
    """What is not as the proof says; empty when it holds."""

    @property
    def sentence(self) -> str:
        """Say it to a person."""
        text = (
            f"{self.walked:,} of {self.count:,} walked, {self.scored:,} passed the filters and were scored; "
            f"{self.recomputed:,} shards of {self.shards:,} recomputed"
        )
        if self.wrong:
            return f"{text}. The proof does not hold: {len(self.wrong)} things are wrong."
        if self.identical == self.recomputed:
            text += ", all equal"
        else:
            text += f", {self.identical:,} equal to the last bit, the others within the tolerance"
        return f"{text}; nothing outside the list can beat rank K."


def consistent(proof: WalkProof, *, root: str | None = None) -> list[str]:
    """Say what is wrong with a proof by itself, without scoring anything.

    Args:
        proof: to check.
        root: that was recorded.
    """
    wrong = []
    if root is not None and proof.root != root:
        wrong.append(f"the proof hashes to {proof.root[:12]}, the round recorded {root[:12]}: it is not the same proof")
    wrong += _gaps(proof)
    keep, last = int(proof.job["keep"]), proof.last
    if len(proof.best) != min(keep, sum(shard.scored - shard.rejected for shard in proof.shards)):
        wrong.append(f"the list holds {len(proof.best):,} candidates, not the best {keep:,}")
    wrong += [
        f"{shard}: a candidate outside the list has {shard.outside:.6g}, more than rank K with {last:.6g}"
        for shard in proof.shards
        if shard.outside > last
    ]
    return wrong


def _gaps(proof: WalkProof) -> Iterator[str]:
    """Yield the ranks that no shard holds, or two of them."""
    reached = 0
    for shard in proof.shards:
        if shard.start != reached:
            word = "are missing" if shard.start > reached else "are there twice"
            yield f"ranks {min(reached, shard.start):,} to {max(reached, shard.start) - 1:,} {word}"
        reached = shard.stop
    if reached != proof.job["count"]:
        yield f"ranks {reached:,} to {proof.job['count'] - 1:,} are missing"


def compare(told: ShardRecord, found: ShardRecord, last: float, tolerance: float = TOLERANCE) -> list[str]:
    """Say how a shard that was scored again differs from what a proof says of it.

    Args:
        told: by the proof.
        found: now, with everything in ``best`` that the proof lists there.
        last: score of rank K.
        tolerance: of scores, where engine or platform differ.
    """
    wrong = []
    for name in ("scored", "refused"):
        if getattr(told, name) != getattr(found, name):
            wrong.append(f"{told}: {name} {getattr(told, name)} in the proof, {getattr(found, name)} now")
    if told.engine == found.engine:
        if replace(told, engine="") != replace(found, engine=""):
            what = "digest" if told.digest != found.digest else "best scores" if told.best != found.best else "record"
            wrong.append(f"{told}: another {what} than in the proof, on the same engine and platform")
        return wrong
    scores = dict(found.best)
    for rank, score in told.best:
        now = scores.get(rank, -np.inf)
        if not abs(now - score) <= tolerance * max(1.0, abs(score)):
            wrong.append(f"{told}: rank {rank:,} scores {score:.6g} in the proof, {now:.6g} now")
    if found.outside > last + tolerance * max(1.0, abs(last)):
        wrong.append(f"{told}: a candidate outside the list scores {found.outside:.6g}, rank K {last:.6g}")
    return wrong


def choose_shards(proof: WalkProof, sample: float, seed: int | None = None) -> list[ShardRecord]:
    """Draw the shards to score again.

    Args:
        proof: of a walk.
        sample: share of them, above 0 and at most 1; rounded up.
        seed: of the draw; by default nobody can know it beforehand.

    Raises:
        UsageError: no share of anything.
    """
    if not 0 < sample <= 1:
        raise UsageError(f"A sample is more than 0 % and at most 100 %. Got {100 * sample:g} %.")
    chosen = int(np.ceil(sample * len(proof.shards) - 1e-9))
    places = np.random.default_rng(seed).choice(len(proof.shards), chosen, replace=False)
    return [proof.shards[i] for i in sorted(places.tolist())]


def verify(
    proof: WalkProof,
    job: Any,
    *,
    wrong: Sequence[str] = (),
    root: str | None = None,
    sample: float = 0.01,
    seed: int | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> Verification:
    """Check a proof, and score some of its shards again.

    Args:
        proof: to check.
        job: a :class:`screening.enumerator.Job` that should have given it.
        wrong: found while it was read.
        root: that was recorded.
        sample: share of shards to score again.
        seed: of the draw.
        tolerance: of scores, where engine or platform differ.
        progress: told of shards.
    """
    found = [*wrong, *consistent(proof, root=root)]
    for name, value in job.identity().items():
        if name == "scorer" and proof.job.get(name) != value:
            found.append("it was scored by another model, surrogate or specification than the one given")
        elif proof.job.get(name) != value:
            found.append(f"{name} was {proof.job.get(name)} when it was walked, is {value} now")
    chosen = choose_shards(proof, sample, seed)
    job.scorer.prepare()
    last, identical = proof.last, 0
    for done, shard in enumerate(chosen):
        progress(done, len(chosen))
        again = job.record(shard)
        differences = compare(shard, again, last, tolerance)
        identical += not differences and shard.engine == again.engine
        found += differences
    progress(len(chosen), len(chosen))
    return Verification(
        count=int(proof.job["count"]),
        walked=sum(shard.stop - shard.start for shard in proof.shards),
        scored=proof.scored,
        shards=len(proof.shards),
        recomputed=len(chosen),
        identical=identical,
        wrong=tuple(found),
    )
