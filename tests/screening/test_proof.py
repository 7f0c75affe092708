"""The proof of a walk holds for the walk that gave it and for nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from drxnet.errors import DataRefused, UsageError
from screening.enumerator import Job, stream
from screening.lattice import Lattice
from screening.proof import (
    ShardRecord,
    Verification,
    WalkProof,
    choose_shards,
    compare,
    consistent,
    merkle_root,
    verify,
)
from screening.space import load_space

KEEP, BATCH = 40, 500


@dataclass
class Waves:
    """A rugged scorer; ``shift`` makes it that of another platform, ``seed`` another model."""

    seed: int = 0
    shift: float = 0.0
    signature: str = "here"

    @property
    def fingerprint(self) -> str:
        return f"waves {self.seed}"

    def prepare(self) -> None: ...

    def score(self, units: np.ndarray) -> np.ndarray:
        directions = np.random.default_rng(self.seed).normal(size=(units.shape[1], 5))
        scores = np.cos(units @ directions).sum(1) * (1 + self.shift)
        return np.where(units[:, 1] % 5 == 0, -np.inf, scores)


@pytest.fixture(scope="module")
def tiny() -> Lattice:
    return Lattice(load_space("tiny"))


@pytest.fixture(scope="module")
def proof(tiny: Lattice) -> WalkProof:
    found = stream(tiny, Waves(), keep=KEEP, batch=BATCH, shard=1500).proof
    assert found is not None
    return found


def check(tiny: Lattice, proof: WalkProof, scorer: Waves | None = None, **settings: object) -> Verification:
    return verify(proof, Job(tiny, scorer or Waves(), KEEP, BATCH), **{"sample": 1.0, **settings})  # type: ignore[arg-type]


def test_a_proof_holds_and_says_what_was_checked(tiny: Lattice, proof: WalkProof) -> None:
    found = check(tiny, proof, root=proof.root)
    assert found.wrong == ()
    assert found.recomputed == found.identical == found.shards == len(proof.shards) > 5
    assert found.sentence.startswith(f"{tiny.count:,} of {tiny.count:,} walked, {proof.scored:,} passed the filters")
    assert found.sentence.endswith("all equal; nothing outside the list can beat rank K.")


def test_the_list_of_a_proof_is_the_shortlist_and_its_bound_the_best_of_the_rest(tiny: Lattice) -> None:
    found = stream(tiny, Waves(), keep=KEEP, batch=BATCH, shard=1500)
    more = stream(tiny, Waves(), keep=KEEP + 1, batch=BATCH)
    assert found.proof is not None
    assert [rank for rank, _ in found.proof.best] == found.ranks.tolist()
    assert max(shard.outside for shard in found.proof.shards) == more.scores[-1]
    assert found.proof.last == found.scores[-1]


def test_the_same_walk_has_the_same_root_however_it_is_run(tiny: Lattice, proof: WalkProof, tmp_path: Path) -> None:
    stream(tiny, Waves(), keep=KEEP, batch=BATCH, shard=1500, folder=tmp_path)
    for file in sorted(tmp_path.glob("shard-*.json"))[1::2]:
        file.unlink()
    again = stream(tiny, Waves(), keep=KEEP, batch=BATCH, folder=tmp_path)
    assert again.statistics.shards_resumed > 0
    assert again.proof is not None
    assert again.proof.root == proof.root


def test_an_incomplete_walk_proves_nothing(tiny: Lattice) -> None:
    assert stream(tiny, Waves(), keep=KEEP, batch=BATCH, shard=500, time_limit_s=1e-9).proof is None


def test_a_proof_survives_the_disk_to_the_last_bit(proof: WalkProof, tmp_path: Path) -> None:
    proof.write(tmp_path / "walk.jsonl")
    again, wrong = WalkProof.read(tmp_path / "walk.jsonl")
    assert (again, wrong) == (proof, [])
    assert again.root == proof.root


def fake_score(shard: ShardRecord) -> ShardRecord:
    (rank, score), *rest = shard.best
    return replace(shard, best=((rank, score + 1e-9), *rest))


TAMPERED: dict[str, tuple[Callable[[list[ShardRecord], int], None], str]] = {
    "one-score": (lambda shards, i: shards.__setitem__(i, fake_score(shards[i])), "another best scores than"),
    "one-digest": (lambda shards, i: shards.__setitem__(i, replace(shards[i], digest="0" * 64)), "another digest than"),
    "one-count": (lambda shards, i: shards.__setitem__(i, replace(shards[i], scored=shards[i].scored + 1)), "scored "),
    "a-hidden-rival": (
        lambda shards, i: shards.__setitem__(i, replace(shards[i], best=shards[i].best[1:])),
        f"holds {KEEP - 1} candidates, not the best {KEEP}",
    ),
    "a-better-one-outside": (
        lambda shards, i: shards.__setitem__(i, replace(shards[i], outside=5.0)),
        "outside the list has 5, more than rank K",
    ),
    "a-missing-shard": (lambda shards, i: shards.pop(i).__class__, "are missing"),
    "a-shard-twice": (lambda shards, i: shards.insert(i, shards[i]), "are there twice"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_proof_is_found(tiny: Lattice, proof: WalkProof, name: str) -> None:
    tamper, said = TAMPERED[name]
    shards = list(proof.shards)
    place = next(i for i, shard in enumerate(shards) if i > 0 and shard.best)
    start = shards[place].start
    tamper(shards, place)
    changed = replace(proof, shards=tuple(shards))
    assert changed.root != proof.root
    found = check(tiny, changed)
    assert any(said in text for text in found.wrong), found.wrong
    if name not in ("a-hidden-rival",):
        assert any(f"{start:,}" in text for text in found.wrong)  # it is named
    assert "does not hold" in found.sentence
    assert "it is not the same proof" in check(tiny, changed, root=proof.root, sample=0.01).wrong[0]


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_one_changed_byte_of_the_file_is_named_by_its_line(proof: WalkProof, tmp_path: Path, place: float) -> None:
    path = tmp_path / "walk.jsonl"
    proof.write(path)
    lines = path.read_text().splitlines()
    number = int(len(lines) * place)
    at = lines[number].index('"digest":"') + 12
    lines[number] = lines[number][:at] + ("0" if lines[number][at] != "0" else "1") + lines[number][at + 1 :]
    path.write_text("\n".join(lines))
    _, wrong = WalkProof.read(path)
    assert wrong == [
        f"walk.jsonl, line {number + 1}: {proof.shards[number - 1]} was changed; it has not the hash beside it"
    ]


def test_a_rewritten_shard_with_its_own_hash_does_not_give_the_root(proof: WalkProof, tmp_path: Path) -> None:
    path = tmp_path / "walk.jsonl"
    proof.write(path)
    lines = path.read_text().splitlines()
    changed = replace(proof.shards[2], digest="f" * 64)
    lines[3] = f'{{"leaf":"{changed.leaf}","shard":{changed.text()}}}'
    path.write_text("\n".join(lines))
    assert WalkProof.read(path)[1] == ["walk.jsonl: its lines do not hash to the root in its first line"]


def test_a_changed_header_is_found(proof: WalkProof, tmp_path: Path) -> None:
    path = tmp_path / "walk.jsonl"
    proof.write(path)
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(head), "count": 1}), *lines]))
    assert "do not hash to the root" in WalkProof.read(path)[1][0]


def test_another_model_is_named(tiny: Lattice, proof: WalkProof) -> None:
    found = check(tiny, proof, Waves(seed=1), sample=0.1)
    assert found.wrong[0] == "it was scored by another model, surrogate or specification than the one given"
    assert any("another digest" in text for text in found.wrong)


def test_another_space_or_list_is_named(tiny: Lattice, proof: WalkProof) -> None:
    found = verify(proof, Job(tiny, Waves(), KEEP + 1, BATCH), sample=0.1)
    assert "keep was 40 when it was walked, is 41 now" in found.wrong


def test_on_another_platform_scores_agree_within_the_tolerance_or_not(tiny: Lattice, proof: WalkProof) -> None:
    near = check(tiny, proof, Waves(shift=1e-6, signature="elsewhere"))
    assert near.wrong == ()
    assert near.identical == 0
    assert "0 equal to the last bit, the others within the tolerance" in near.sentence
    far = check(tiny, proof, Waves(shift=0.01, signature="elsewhere"))
    assert any(text.split(": ")[1].startswith("rank ") for text in far.wrong)
    assert any("a candidate outside the list scores" in text for text in far.wrong)


def test_a_sample_is_drawn_anew_unless_a_seed_is_given(proof: WalkProof) -> None:
    assert len(choose_shards(proof, 1e-6)) == 1
    assert choose_shards(proof, 1.0) == list(proof.shards)
    assert choose_shards(proof, 0.3, seed=1) == choose_shards(proof, 0.3, seed=1)
    assert len({tuple(s.start for s in choose_shards(proof, 0.5)) for _ in range(20)}) > 1
    with pytest.raises(UsageError, match="more than 0 % and at most 100 %. Got 0 %"):
        choose_shards(proof, 0)


def test_what_is_no_proof_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"rounds": 3}\n')
    with pytest.raises(DataRefused, match="not the proof of a walk"):
        WalkProof.read(tmp_path / "other.jsonl")
    (tmp_path / "new.jsonl").write_text('{"proof": 9}\n')
    with pytest.raises(DataRefused, match="Upgrade drx-screen"):
        WalkProof.read(tmp_path / "new.jsonl")


def test_the_root_tells_leaves_their_order_and_their_number_apart() -> None:
    a, b, c = ("a" * 64, "b" * 64, "c" * 64)
    roots = {merkle_root(leaves) for leaves in ([a], [a, b], [b, a], [a, b, c], [a, b, c, c], [a, a], [])}
    assert len(roots) == 7


TOLD = ShardRecord(0, 10, 9, 1, {"hazards": 1}, ((3, 200.0), (7, 0.01)), 0.005, "d" * 64, "here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"best": ((3, 200.19), (7, 0.01))}, []),  # a thousandth of the score
        ({"best": ((3, 200.21), (7, 0.01))}, ["rank 3 scores 200 in the proof, 200.21 now"]),
        ({"best": ((3, 199.79), (7, 0.01))}, ["rank 3 scores 200 in the proof, 199.79 now"]),
        ({"best": ((3, 200.0), (7, 0.0109))}, []),  # or a thousandth of one
        ({"best": ((3, 200.0), (7, 0.0111))}, ["rank 7 scores 0.01 in the proof, 0.0111 now"]),
        ({"best": ((3, 200.0),)}, ["rank 7 scores 0.01 in the proof, -inf now"]),
        ({"best": ((3, 200.0), (7, float("nan")))}, ["rank 7 scores 0.01 in the proof, nan now"]),
        ({"scored": 8}, ["scored 9 in the proof, 8 now"]),
        ({"refused": {"hazards": 2}}, ["refused {'hazards': 1} in the proof, {'hazards': 2} now"]),
        ({"digest": "e" * 64, "rejected": 0}, []),  # last digits differ
    ],
)
def test_elsewhere_scores_may_differ_by_a_thousandth_of_the_larger_of_one_and_their_size(change, said) -> None:
    found = replace(TOLD, engine="elsewhere", **change)
    assert compare(TOLD, found, last=0.01) == [f"the shard of ranks 0 to 9: {text}" for text in said]


@pytest.mark.parametrize(
    ("last", "outside", "good"),
    [
        *((100.0, 100.09, True), (100.0, 100.11, False), (-100.0, -99.91, True), (-100.0, -99.89, False)),
        *((0.01, 0.0109, True), (0.01, 0.0111, False), (0.01, -np.inf, True), (-np.inf, -np.inf, True)),
    ],
)
def test_elsewhere_nothing_outside_may_beat_the_last_by_more_than_that(last: float, outside: float, good: bool) -> None:
    said = compare(TOLD, replace(TOLD, engine="elsewhere", outside=outside), last)
    assert (
        [text.split(": ")[1].split(" scores ")[0] for text in said] == [] if good else ["a candidate outside the list"]
    )


def test_on_the_same_engine_the_record_is_the_same_to_the_last_bit() -> None:
    told = {
        "digest": {"digest": "e" * 64},
        "best scores": {"best": TOLD.best[:1]},
        "record": {"outside": 0.005 + 1e-15},
    }
    for what, change in told.items():
        (said,) = compare(TOLD, replace(TOLD, **change), 0.01)
        assert said.endswith(f"another {what} than in the proof, on the same engine and platform")


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (((0, 10), (10, 20)), []),
        (((2, 10), (10, 20)), ["ranks 0 to 1 are missing"]),
        (((0, 10), (12, 20)), ["ranks 10 to 11 are missing"]),
        (((0, 10), (7, 20)), ["ranks 7 to 9 are there twice"]),
        (((0, 10), (10, 17)), ["ranks 17 to 19 are missing"]),
    ],
)
def test_ranks_that_no_shard_holds_or_two_are_named(ranges: tuple[tuple[int, int], ...], said: list[str]) -> None:
    shards = tuple(replace(TOLD, start=a, stop=b, best=()) for a, b in ranges)
    wrong = consistent(WalkProof({"keep": 9, "count": 20}, shards))
    assert [text for text in wrong if text.startswith("ranks")] == said


@pytest.mark.parametrize(("sample", "shards"), [(0.01, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.51, 6), (1.0, 10)])
def test_a_share_of_the_shards_is_rounded_up(sample: float, shards: int) -> None:
    of_ten = WalkProof({"keep": 9, "count": 10}, tuple(replace(TOLD, start=i, stop=i + 1) for i in range(10)))
    chosen = choose_shards(of_ten, sample, seed=4)
    assert len({shard.start for shard in chosen}) == len(chosen) == shards
    assert chosen == sorted(chosen, key=lambda shard: shard.start)


@pytest.mark.parametrize("sample", [-0.1, 1.01])
def test_no_share_of_the_shards_is_refused(proof: WalkProof, sample: float) -> None:
    with pytest.raises(UsageError, match="more than 0 % and at most 100 %"):
        choose_shards(proof, sample)


@pytest.mark.parametrize("keep", [0, KEEP - 1, KEEP + 1])
def test_another_length_of_the_list_is_found_without_scoring(proof: WalkProof, keep: int) -> None:
    wrong = consistent(replace(proof, job={**proof.job, "keep": keep}))
    assert wrong[0] == f"the list holds {KEEP} candidates, not the best {keep}"
    nothing = WalkProof({"keep": keep, "count": 0}, ())
    assert nothing.last == -np.inf


def test_equal_scores_of_a_list_stand_by_their_ranks() -> None:
    shards = [
        replace(TOLD, start=i, stop=i + 5, best=best)
        for i, best in ((0, ((4, 1.0), (2, 0.5))), (5, ((5, 1.0), (9, 2.0))))
    ]
    found = WalkProof({"keep": 4, "count": 10}, tuple(shards))
    assert found.best == [(9, 2.0), (4, 1.0), (5, 1.0), (2, 0.5)]
    assert found.last == 0.5
    assert found.scored == 18
    turned = replace(
        found, shards=(replace(shards[0], best=((2, 1.0),)), replace(shards[1], best=((5, 1.0), (6, 1.0))))
    )
    assert [rank for rank, _ in turned.best] == [2, 5, 6]
    backwards = replace(turned, shards=turned.shards[::-1])
    assert [rank for rank, _ in backwards.best] == [2, 5, 6]
