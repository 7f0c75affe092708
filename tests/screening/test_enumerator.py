"""Streaming: exact top scores, whatever runs them and however often it is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drxnet.errors import ConfigurationError, UsageError
from screening import enumerator
from screening.candidates import CandidateList
from screening.enumerator import Job, Shortlist, _Part, speed, stream
from screening.filters import Filters
from screening.lattice import Lattice
from screening.space import load_space, parse_space

ray_warnings = pytest.mark.filterwarnings("ignore")  # Ray leaves sockets and files to the interpreter when it ends


@pytest.fixture(scope="module")
def tiny() -> Lattice:
    return Lattice(load_space("tiny"))


def waves(**settings: Any) -> Any:
    """A rugged scorer. Its class is made here, so that it travels to workers by value."""

    class Waves:
        fingerprint = "waves"

        def __init__(self, seed: int = 0, pause_s: float = 0.0, reject: bool = False) -> None:
            self.seed, self.pause_s, self.reject = seed, pause_s, reject
            self.prepared = 0

        def prepare(self) -> None:
            generator = np.random.default_rng(self.seed)
            self.directions = generator.normal(size=(64, 5))
            self.prepared += 1

        def score(self, units: np.ndarray) -> np.ndarray:
            time.sleep(self.pause_s)
            scores = np.round(np.cos(units @ self.directions[: units.shape[1]]).sum(1), 2)  # with many ties
            return np.where(units[:, 1] % 2 == 0, np.nan, scores) if self.reject else scores

    return Waves(**settings)


def same(one: Shortlist, other: Shortlist) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ("ranks", "scores", "units"))


def test_the_shortlist_is_the_top_of_everything_that_passes_the_filters(tiny: Lattice) -> None:
    scorer = waves()
    found = stream(tiny, scorer, keep=50, batch=700)
    units = np.concatenate([rows for _, rows in tiny.walk()])
    kept = np.flatnonzero(tiny.keeps(units))
    scores = scorer.score(units[kept])
    best = np.lexsort((kept, -scores))[:50]
    assert found.ranks.tolist() == kept[best].tolist()
    assert found.scores.tolist() == scores[best].tolist()
    assert (found.units == units[kept[best]]).all()
    statistics = found.statistics
    assert (statistics.walked, statistics.scored, statistics.complete) == (tiny.count, len(kept), True)
    masks = tiny.refused(units)
    assert dict(statistics.refused) == {name: mask.sum() for name, mask in masks.items()}


def test_rejected_and_undefined_scores_are_left_out(tiny: Lattice) -> None:
    found = stream(tiny, waves(reject=True), keep=tiny.count)
    assert (found.units[:, 1] % 2 == 1).all()
    assert found.statistics.rejected == found.statistics.scored - len(found.ranks) > 0


@pytest.mark.parametrize(("batch", "shard"), [(1, None), (700, 700), (4096, 8192), (100_000, None)])
def test_shards_and_batches_do_not_change_the_result(tiny: Lattice, batch: int, shard: int | None) -> None:
    part = parse_space({**tiny.space.model_dump(), "k_elements": 3}) if batch == 1 else tiny.space
    assert same(stream(part, waves(), keep=99, batch=batch, shard=shard), stream(part, waves(), keep=99))


def test_a_list_of_compositions_is_streamed_like_a_space() -> None:
    own = CandidateList(["Li1.2Mn0.4Ti0.4O2", "Li1.3Mn0.4Nb0.3O2", "Li1.05Mn0.9Ti0.05O2"], Filters())
    found = stream(own, waves(), keep=5)
    assert sorted(found.ranks.tolist()) == [0, 1]
    assert found.statistics.refused["lithium_percolation"] == 1


def test_the_scorer_is_prepared_once_and_gets_rows_it_may_change(tiny: Lattice) -> None:
    class Vandal:
        fingerprint = "vandal"
        prepared = 0

        def prepare(self) -> None:
            self.prepared += 1

        def score(self, units: np.ndarray) -> np.ndarray:
            units[:] = 0
            return units.sum(1)

    scorer = Vandal()
    found = stream(tiny, scorer, keep=3, batch=1000, shard=1000)
    assert scorer.prepared == 1
    assert tiny.contains(found.units).all()


def test_a_scorer_with_the_wrong_shape_is_refused(tiny: Lattice) -> None:
    class Flat:
        fingerprint = "flat"

        def prepare(self) -> None: ...

        def score(self, units: np.ndarray) -> np.ndarray:
            return units

    with pytest.raises(UsageError, match="one score per row"):
        stream(tiny, Flat(), keep=3)


@pytest.mark.parametrize("setting", [{"keep": 0}, {"batch": 0}, {"workers": -1}, {"shard": 0}], ids=str)
def test_settings_out_of_range_are_refused(tiny: Lattice, setting: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least"):
        stream(tiny, waves(), **{"keep": 1, **setting})


def test_progress_ends_at_all_candidates(tiny: Lattice) -> None:
    seen: list[tuple[int, int]] = []
    stream(tiny, waves(), keep=1, batch=500, shard=2000, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (tiny.count, tiny.count)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_time_limit_stops_between_shards_and_says_so(tiny: Lattice, tmp_path: Path) -> None:
    scorer = waves(pause_s=0.02)
    cut = stream(tiny, scorer, keep=9, batch=500, shard=500, time_limit_s=0.1, folder=tmp_path)
    assert 0 < cut.statistics.shards_done < cut.statistics.shards
    assert not cut.statistics.complete
    rest = stream(tiny, scorer, keep=9, batch=500, folder=tmp_path)
    assert rest.statistics.shards_resumed == cut.statistics.shards_done
    assert same(rest, stream(tiny, scorer, keep=9))


def test_the_first_shard_is_run_however_short_the_time(tiny: Lattice) -> None:
    cut = stream(tiny, waves(pause_s=0.02), keep=9, batch=500, shard=500, time_limit_s=1e-6)
    assert cut.statistics.shards_done == 1
    assert len(cut.ranks) == 9


def test_finished_shards_keep_no_candidate_that_is_beaten_already(tiny: Lattice, tmp_path: Path) -> None:
    whole = stream(tiny, waves(), keep=9, batch=500, shard=500, folder=tmp_path)
    sizes = [len(json.loads(file.read_text())["ranks"]) for file in sorted(tmp_path.glob("shard-*.json"))]
    assert sizes[0] == 9
    assert sum(sizes) < 9 * len(sizes)
    assert same(whole, stream(tiny, waves(), keep=9, batch=500, folder=tmp_path))


def test_a_folder_of_another_job_is_refused_with_what_differs(tiny: Lattice, tmp_path: Path) -> None:
    stream(tiny, waves(), keep=9, folder=tmp_path)
    with pytest.raises(ConfigurationError, match="keep was 9, is 10"):
        stream(tiny, waves(), keep=10, folder=tmp_path)
    strange = waves()
    strange.fingerprint = "new"
    with pytest.raises(ConfigurationError, match="scorer was waves, is new"):
        stream(tiny, strange, keep=9, folder=tmp_path)


def test_a_damaged_shard_is_run_again(tiny: Lattice, tmp_path: Path) -> None:
    whole = stream(tiny, waves(), keep=9, batch=1000, shard=4000, folder=tmp_path)
    shards = sorted(tmp_path.glob("shard-*.json"))
    shards[1].write_text(shards[1].read_text()[:40])
    shards[2].unlink()
    again = stream(tiny, waves(), keep=9, batch=1000, folder=tmp_path)
    assert again.statistics.shards_resumed == len(shards) - 2
    assert same(again, whole)
    assert json.loads(shards[1].read_text())["start"] == 4000


def test_speed_is_measured_in_candidates_per_second(tiny: Lattice) -> None:
    assert 0 < speed(tiny, waves(pause_s=0.05), batch=500, seconds=0.1) < 500 / 0.05


class Clock:
    """Time that passes only while a scorer of its own scores, so much for each call (s)."""

    fingerprint = "clock"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each_s: float) -> None:
        self.now, self.each_s, self.scored = 100.0, each_s, 0
        read = SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr(enumerator, "time", read)

    def prepare(self) -> None: ...

    def score(self, units: np.ndarray) -> np.ndarray:
        self.now += self.each_s
        self.scored += len(units)
        return units.sum(1).astype(float)


@pytest.mark.parametrize(("seconds", "batches"), [(0.05, 1), (0.35, 4), (0.95, 10)])
def test_a_speed_is_that_of_whole_batches_until_the_time_is_over(
    tiny: Lattice, monkeypatch: pytest.MonkeyPatch, seconds: float, batches: int
) -> None:
    free = Lattice(parse_space({**tiny.space.model_dump(), "filters": Filters.none().model_dump()}))
    clock = Clock(monkeypatch, 0.1)
    assert speed(free, clock, batch=500, seconds=seconds) == pytest.approx(5000)
    assert clock.scored == enumerator.WARM_UP + 500 * batches


@pytest.mark.parametrize(("limit_s", "done"), [(0.5, 1), (1.5, 2), (2.5, 3), (None, 19)])
def test_shards_are_begun_until_the_limit_of_time(
    tiny: Lattice, monkeypatch: pytest.MonkeyPatch, limit_s: float | None, done: int
) -> None:
    found = stream(tiny, Clock(monkeypatch, 1.0), keep=9, batch=700, shard=700, time_limit_s=limit_s)
    assert (found.statistics.shards_done, found.statistics.shards) == (done, 19)
    assert found.statistics.walked == min(700 * done, tiny.count)
    assert found.statistics.seconds == found.statistics.worker_seconds == done
    assert found.statistics.complete == (found.proof is not None) == (limit_s is None)


def job_of(count: int, batch: int = 100) -> Job:
    return Job(SimpleNamespace(count=count), waves(), 10, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "pool", "limit_s", "rates", "length"),
    [
        (100_000_000, 2, None, (1000.0,), 10_000),  # ten seconds
        (100_000_000, 2, 50.0, (1000.0,), 5_000),  # a tenth of the time that there is
        (100_000_000, 2, 500.0, (1000.0,), 10_000),
        (100_000_000, 2, 1.0, (1000.0,), 200),
        (100_000_000, 2, None, (0.01,), 1),
        (100_000_000, 2, None, (1000.0, 1200.0), 11_000),  # the median of two nodes
        (100_000_000, 2, None, (1000.0, 4000.0), 25_000),
        (100_000_000, 3, None, (100.0, 4000.0, 4000.0), 3_000),  # half a minute on the slowest goes first
        (100_000_000, 3, None, (1000.0, 1000.0, 4000.0), 20_000),  # five seconds on the fastest
        (40_000, 2, None, (1000.0,), 5_000),  # four for each of two
        (40_001, 2, None, (1000.0,), 5_001),
        (200, 2, None, (1000.0,), 100),  # one batch for each
        (201, 2, None, (1000.0,), 26),
    ],
)
def test_a_shard_takes_seconds_and_leaves_each_its_share(
    count: int, pool: int, limit_s: float | None, rates: tuple[float, ...], length: int
) -> None:
    nodes = {f"node {i}": {"cpus": 1.0, "candidates_per_s": rate} for i, rate in enumerate(rates)}
    assert enumerator._fitting_shard(job_of(count), pool, limit_s, 0.0, nodes) == length


def test_without_a_number_each_core_of_the_nodes_counts() -> None:
    nodes = {f"node {i}": {"cpus": 4.0, "candidates_per_s": 1e9} for i in range(2)}
    assert enumerator._fitting_shard(job_of(32_000), None, None, 0.0, nodes) == 1_000
    assert enumerator._fitting_shard(job_of(800), None, None, 0.0, nodes) == 100


def test_a_gpu_is_not_measured_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumerator, "_measured", lambda job: pytest.fail("measured"))
    assert enumerator._fitting_shard(job_of(10**9), 2, None, 0.5, {}) == 64 * 100
    assert enumerator._fitting_shard(job_of(4_000), 2, None, 0.5, {}) == 500


@pytest.mark.parametrize(
    ("number", "asked", "gpus", "measured"),
    [(None, None, 0.0, True), (2, None, 0.0, True), (0, None, 0.0, False), (2, 250, 0.0, False), (2, None, 0.5, False)],
)
def test_nodes_are_measured_where_a_shard_is_to_fit_them(
    monkeypatch: pytest.MonkeyPatch, number: int | None, asked: int | None, gpus: float, measured: bool
) -> None:
    nodes = {"node": {"cpus": 1.0, "candidates_per_s": 77.0}}
    monkeypatch.setattr(enumerator, "_nodes", lambda job, address: nodes)
    monkeypatch.setattr(enumerator, "_measured", lambda job: 99.0)
    length, told = enumerator._shard_length(job_of(10**9), asked, number, None, gpus, None)
    assert told == (nodes if measured else {})
    wanted = 770 if measured else asked or (64 * 100 if gpus else 990)
    assert length == -(-wanted // 100) * 100, "whole batches"


class OwnCluster:
    """Stands in for the module that is joined: two nodes alive, one gone, one without a core."""

    util = scheduling_strategies = None

    def __init__(self, *, joined: bool) -> None:
        self.joined, self.asked = joined, list[str]()

    def is_initialized(self) -> bool:
        return self.joined

    def nodes(self) -> list[dict[str, Any]]:
        cores = {"a": (True, {"CPU": 4.0}), "b": (False, {"CPU": 8.0}), "c": (True, {}), "d": (True, {"CPU": 1.0})}
        return [
            {"NodeID": name * 20, "NodeManagerHostname": f"host-{name}", "Alive": alive, "Resources": resources}
            for name, (alive, resources) in cores.items()
        ]

    def remote(self, **_: Any) -> Any:
        def decorate(run: Any) -> Any:
            def options(scheduling_strategy: str) -> Any:
                self.asked.append(scheduling_strategy)
                return SimpleNamespace(remote=run)

            return SimpleNamespace(options=options)

        return decorate

    def put(self, job: Job) -> Job:
        return job

    def get(self, rates: list[float]) -> list[float]:
        return rates


@pytest.mark.parametrize("joined", [True, False])
def test_only_living_nodes_of_a_joined_cluster_are_measured(monkeypatch: pytest.MonkeyPatch, joined: bool) -> None:
    cluster = OwnCluster(joined=joined)
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setitem(sys.modules, "ray.util", SimpleNamespace(scheduling_strategies=strategies))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setattr(enumerator, "_measured", lambda job: 50.0)
    found = enumerator._nodes(job_of(1000), None)
    if not joined:
        assert (found, cluster.asked) == ({}, [])
        return
    assert cluster.asked == ["a" * 20, "d" * 20]
    assert found == {
        "host-a/aaaaaaaa": {"cpus": 4.0, "candidates_per_s": 50.0},
        "host-d/dddddddd": {"cpus": 1.0, "candidates_per_s": 50.0},
    }
    assert enumerator._cpus(found) == 5


def test_nothing_is_joined_where_nobody_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert enumerator._nodes(job_of(1000), None) == {}
    assert "ray" not in sys.modules


def test_a_folder_is_made_with_those_above_it(tiny: Lattice, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "of" / "today"
    found = stream(tiny, waves(), keep=9, folder=folder, batch=4000, shard=4000)
    assert len(list(folder.glob("shard-*.json"))) == found.statistics.shards == 4
    again = stream(tiny, waves(), keep=9, folder=folder, batch=4000)
    assert again.statistics.shards_resumed == 4
    assert same(found, again)


@pytest.mark.parametrize("keep", [1, 5, 40, 300])
def test_a_part_keeps_the_best_and_the_largest_score_of_the_rest(keep: int) -> None:
    rng = np.random.default_rng(keep)
    scores = rng.integers(0, 30, 250).astype(float)  # with ties
    part, ranks = _Part(0, 250), rng.permutation(250)
    for chosen in np.array_split(ranks, 17):
        part.add(chosen, scores[chosen], keep)
    best = np.lexsort((np.arange(250), -scores))
    assert part.ranks.tolist() == best[:keep].tolist()
    assert part.scores.tolist() == scores[best[:keep]].tolist()
    assert part.outside == (scores[best[keep]] if keep < 250 else -np.inf)
    half = float(np.median(part.scores))
    dropped = part.scores[part.scores < half]
    part.drop_below(half)
    assert part.scores.min() == half
    if len(dropped):
        assert part.outside == dropped.max()


class Failed(Exception):
    """An error of a task, with its cause."""

    def __init__(self, cause: object) -> None:
        super().__init__("a task failed")
        self.cause = cause


class Sent:
    """A shard that was sent."""

    def __init__(self, *shard: int) -> None:
        self.shard = shard


class Rooms:
    """Stands in for a cluster: gives shards back in the order they came, one a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **resources: float) -> None:
        self.resources, self.now, self.most, self.sent = resources, 100.0, 0, list[tuple[int, ...]]()
        self.cancelled: list[tuple[tuple[int, ...], bool]] = []
        self.joins_at = self.breaks_at = float("inf")
        self.cause: object = None
        monkeypatch.setattr(enumerator, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(enumerator, "_cluster", lambda address, number: nullcontext())
        monkeypatch.setattr(enumerator, "_submitter", lambda job, pool, gpus: self.submit)
        monkeypatch.setitem(sys.modules, "ray", self)
        monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayTaskError=Failed))

    def submit(self, *shard: int) -> Sent:
        self.sent.append(shard)
        return Sent(*shard)

    def cluster_resources(self) -> dict[str, float]:
        return {**self.resources, **({"CPU": 5.0} if self.now >= self.joins_at else {})}

    def wait(self, pending: list[Sent], num_returns: int) -> tuple[list[Sent], list[Sent]]:
        assert num_returns == 1
        self.most, self.now = max(self.most, len(pending)), self.now + 1
        first, *rest = sorted(pending, key=lambda sent: sent.shard)
        return [first], rest

    def get(self, sent: Sent) -> tuple[int, ...]:
        if self.now >= self.breaks_at:
            raise Failed(self.cause)
        return sent.shard

    def cancel(self, sent: Sent, force: bool) -> None:
        self.cancelled.append((sent.shard, force))


SHARDS = [(i, i + 1) for i in range(12)]


def sent_out(number: int | None = None, gpus: float = 0.0, deadline: float = float("inf"), shards: Any = None) -> Any:
    return enumerator._on_ray(job_of(12), SHARDS if shards is None else shards, deadline, number, gpus, None)


@pytest.mark.parametrize(
    ("number", "gpus", "most"), [(None, 0.0, 6), (2, 0.0, 4), (5, 0.0, 10), (None, 0.5, 4), (None, 1.0, 2), (1, 0.5, 2)]
)
def test_two_shards_for_each_place_are_under_way(
    monkeypatch: pytest.MonkeyPatch, number: int | None, gpus: float, most: int
) -> None:
    rooms = Rooms(monkeypatch, CPU=3.0, GPU=1.0)
    assert list(sent_out(number, gpus)) == SHARDS
    assert (rooms.most, rooms.sent, rooms.cancelled) == (most, SHARDS, [])


@pytest.mark.parametrize(("limit_s", "done"), [(-1.0, 3), (0.0, 6), (0.5, 6), (2.0, 8), (100.0, 12)])
def test_no_shard_is_sent_after_the_limit_but_the_first_of_each_place(
    monkeypatch: pytest.MonkeyPatch, limit_s: float, done: int
) -> None:
    rooms = Rooms(monkeypatch, CPU=3.0)
    assert list(sent_out(deadline=rooms.now + limit_s)) == SHARDS[:done]


@pytest.mark.parametrize(("gpus", "what"), [(0.0, "CPU"), (0.5, "GPU"), (2.0, "GPU")])
def test_a_cluster_without_what_is_needed_is_refused(monkeypatch: pytest.MonkeyPatch, gpus: float, what: str) -> None:
    Rooms(monkeypatch, **({"GPU": 1.0} if gpus != 0.5 else {"CPU": 8.0}))
    with pytest.raises(UsageError, match=f"The Ray cluster has no {what}. Add a node, or run with workers=0"):
        next(sent_out(gpus=gpus))
    assert list(sent_out(gpus=gpus, shards=[])) == [], "nothing is left to do"


@pytest.mark.parametrize(("gpus", "force"), [(0.0, True), (1.0, False)])
def test_what_is_under_way_is_cancelled_where_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, gpus: float, force: bool
) -> None:
    rooms = Rooms(monkeypatch, CPU=2.0, GPU=2.0)
    parts = sent_out(gpus=gpus)
    assert next(parts) == SHARDS[0]
    parts.close()
    assert sorted(rooms.cancelled) == [(shard, force) for shard in SHARDS[1:4]]


@pytest.mark.parametrize(("cause", "raised"), [(ValueError("a wrong score"), ValueError), ("killed", Failed)])
def test_an_error_elsewhere_is_raised_as_what_caused_it(
    monkeypatch: pytest.MonkeyPatch, cause: object, raised: type[Exception]
) -> None:
    rooms = Rooms(monkeypatch, CPU=2.0)
    rooms.breaks_at, rooms.cause = rooms.now + 3, cause
    with pytest.raises(raised):
        list(sent_out())
    assert len(rooms.cancelled) == 3


def test_a_node_that_joins_gets_its_shards_when_it_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = Rooms(monkeypatch, CPU=1.0)
    rooms.joins_at = rooms.now + 1
    shards = [(i, i + 1) for i in range(40)]
    parts = sent_out(shards=shards)
    assert [next(parts) for _ in range(5)] == shards[:5]
    assert rooms.most == 2
    assert list(parts) == shards[5:]
    assert rooms.most == 10


def test_each_holder_of_a_gpu_is_asked_in_turn_and_tasks_share_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    asked: list[tuple[Any, ...]] = []

    class Module:
        def remote(self, **options: Any) -> Any:
            def decorate(thing: Any) -> Any:
                def begin(*arguments: Any) -> Any:
                    made.append(options)
                    if thing is enumerator._run:
                        return asked.append(arguments)
                    place = len(made) - 1
                    return SimpleNamespace(run=SimpleNamespace(remote=lambda *shard: asked.append((place, *shard))))

                return SimpleNamespace(remote=begin)

            return decorate

        def put(self, job: Job) -> str:
            return "sent once"

    monkeypatch.setitem(sys.modules, "ray", Module())
    job = Job(CandidateList(["Li1.2Mn0.4Ti0.4O2"]), waves(), 1, 1)
    submit = enumerator._submitter(job, 3, 0.5)
    assert [options["num_gpus"] for options in made] == [0.5] * 3
    for i in range(5):
        submit(i, i + 1)
    assert asked == [(0, 0, 1), (1, 1, 2), (2, 2, 3), (0, 3, 4), (1, 4, 5)]
    asked.clear()
    enumerator._submitter(job, 3, 0.0)(4, 9)
    assert asked == [(job.key, "sent once", 4, 9)]
    assert made[-1]["num_cpus"] == 1


def test_a_call_that_never_comes_back_is_given_up() -> None:
    done: list[int] = []
    enumerator._within(5.0, lambda number: done.append(number), {"number": 3})
    assert done == [3]
    with pytest.raises(ConnectionError, match="nobody there"):
        enumerator._within(5.0, raises, {"error": ConnectionError("nobody there")})
    with pytest.raises(TimeoutError, match="did not answer as Ray does within 0.01 s"):
        enumerator._within(0.01, lambda seconds: time.sleep(seconds), {"seconds": 0.3})


def raises(error: Exception) -> None:
    raise error


def test_where_nothing_listens_is_said_at_once() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        enumerator._require_answer(f"127.0.0.1:{port}")
    with pytest.raises(UsageError, match=f"No Ray cluster at 127.0.0.1:{port} .*Start one with `ray start --head`"):
        enumerator._require_answer(f"127.0.0.1:{port}")
    for named in ("auto", "ray://127.0.0.1:10001", "local"):
        enumerator._require_answer(named)  # is not looked up


@pytest.mark.parametrize(
    ("imported", "mode", "set_here"), [(False, None, True), (True, None, False), (False, "token", False)]
)
def test_an_own_cluster_is_closed_to_others(
    monkeypatch: pytest.MonkeyPatch, imported: bool, mode: str | None, set_here: bool
) -> None:
    monkeypatch.setattr(enumerator.os, "environ", {} if mode is None else {"RAY_AUTH_MODE": mode})
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    enumerator._own_token()
    told = enumerator.os.environ
    assert ("RAY_AUTH_TOKEN" in told) is set_here
    if set_here:
        assert (told["RAY_AUTH_MODE"], len(told["RAY_AUTH_TOKEN"])) == ("token", 64)


# -- real processes --------------------------------------------------------------------------------------

DRIVER = textwrap.dedent(
    """
    import sys, time
    import numpy as np
    from screening.enumerator import stream
    from screening.space import load_space

    class Slow:
        fingerprint = "slow"
        def prepare(self):
            self.directions = np.random.default_rng(0).normal(size=(64, 5))
        def score(self, units):
            time.sleep(float(sys.argv[2]))
            return np.cos(units @ self.directions[: units.shape[1]]).sum(1)

    found = stream(load_space("tiny"), Slow(), keep=50, batch=500, shard=500, folder=sys.argv[1])
    np.savez(sys.argv[3], ranks=found.ranks, scores=found.scores, units=found.units)
    print(found.statistics.shards_resumed, found.statistics.shards)
    """
)


def test_a_killed_driver_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)

    def start(folder: str, pause_s: float) -> subprocess.Popen[str]:
        arguments = [sys.executable, str(script), str(tmp_path / folder), str(pause_s), str(tmp_path / f"{folder}.npz")]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    killed = start("killed", 0.1)
    deadline = time.monotonic() + 60
    stop_after = int(np.random.default_rng().integers(2, 12))
    while len(list((tmp_path / "killed").glob("shard-*.json"))) < stop_after and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed.npz").exists()
    (tmp_path / "killed" / "shard-0000000000009500.99.tmp").write_bytes(b"half")

    told, _ = start("killed", 0).communicate(timeout=60)
    resumed, shards = map(int, told.split())
    assert stop_after <= resumed < shards
    start("whole", 0).communicate(timeout=60)
    with np.load(tmp_path / "killed.npz") as one, np.load(tmp_path / "whole.npz") as other:
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    yield ray
    ray.shutdown()


@ray_warnings
def test_ray_workers_give_what_this_process_gives_even_when_one_is_killed(
    tiny: Lattice, tmp_path: Path, quiet_ray: Any
) -> None:
    expected = stream(tiny, waves(), keep=50, batch=500)
    victim = tmp_path / "victim"

    class Mortal(type(waves())):  # type: ignore[misc]  # the class is made by a function
        def score(self, units: np.ndarray) -> np.ndarray:
            if not victim.exists():
                victim.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(units)

    found = stream(tiny, Mortal(), keep=50, batch=500, shard=1500, workers=2, folder=tmp_path / "run")
    assert int(victim.read_text()) != os.getpid()
    assert same(found, expected)
    assert found.statistics.complete
    assert not quiet_ray.is_initialized()


@ray_warnings
def test_an_error_of_a_scorer_on_a_worker_is_raised_here(tiny: Lattice, quiet_ray: Any) -> None:
    class Broken(type(waves())):  # type: ignore[misc]  # the class is made by a function
        def score(self, units: np.ndarray) -> np.ndarray:
            raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        stream(tiny, Broken(), keep=5, workers=1)


@pytest.mark.slow
@ray_warnings
def test_actors_that_hold_a_gpu_each_give_the_same(tiny: Lattice, quiet_ray: Any) -> None:
    quiet_ray.init(
        address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False
    )  # in name only
    found = stream(tiny, waves(), keep=50, batch=500, shard=1500, workers=2, gpus_per_worker=1)
    assert same(found, stream(tiny, waves(), keep=50, batch=500))


@pytest.mark.slow
@ray_warnings
def test_two_nodes_of_which_one_is_removed_give_what_this_process_gives(
    tiny: Lattice, tmp_path: Path, quiet_ray: Any
) -> None:
    from ray.cluster_utils import Cluster

    expected = stream(tiny, waves(), keep=50, batch=250)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    quiet_ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert same(stream(tiny, waves(), keep=50, batch=250, shard=1000, workers=None), expected)
        removed: list[int] = []

        def remove(done: int, total: int) -> None:
            if done > total / 4 and not removed:
                removed.append(done)
                cluster.remove_node(second, allow_graceful=False)

        scorer = waves(pause_s=0.05)
        found = stream(
            tiny, scorer, keep=50, batch=250, shard=500, workers=None, folder=tmp_path / "run", progress=remove
        )
        assert removed
        assert same(found, expected)
    finally:
        quiet_ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@ray_warnings
def test_shards_follow_the_speed_of_each_node_and_a_node_that_joins_gets_its_share(
    tiny: Lattice, tmp_path: Path, quiet_ray: Any
) -> None:
    from ray.cluster_utils import Cluster

    class Marking(type(waves())):  # type: ignore[misc]  # the class is made by a function
        def score(self, units: np.ndarray) -> np.ndarray:
            import ray

            (tmp_path / ray.get_runtime_context().get_node_id()).touch()
            return super().score(units)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    quiet_ray.init(address=cluster.address, log_to_driver=False)
    try:
        joined: list[Any] = []

        def join(done: int, total: int) -> None:
            if done > 0 and not joined:
                joined.append(cluster.add_node(num_cpus=2))
                cluster.wait_for_nodes()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(enumerator, "NODES_SECONDS", 0.0)
            patch.setattr(enumerator, "SHARD_SECONDS", 0.4)
            patch.setattr(enumerator, "SHARD_SECONDS_RANGE", (0.2, 0.5))
            found = stream(
                tiny, Marking(pause_s=0.2), keep=50, batch=250, workers=None, folder=tmp_path / "run", progress=join
            )
        assert same(found, stream(tiny, waves(), keep=50, batch=250))
        assert (tmp_path / joined[0].node_id).exists()
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        rates = [node["candidates_per_s"] for node in manifest["nodes"].values()]
        assert len(rates) == 2
        assert manifest["shard"] <= 250 + 0.5 * min(rates)  # whole batches
    finally:
        quiet_ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_the_cluster_script_runs_a_command_over_two_nodes(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "on-cluster"
    walk = tmp_path / "walk.py"
    walk.write_text(
        DRIVER.replace("shard=500, folder=sys.argv[1]", "shard=500, workers=None, folder=sys.argv[1]").replace(
            "time.sleep(float(sys.argv[2]))", "pass"
        )
        + "import ray\nray.init(log_to_driver=False)\nprint(len(ray.nodes()), 'nodes')\n"
    )
    port = next(port for port in np.random.default_rng().integers(20_000, 30_000, 99).tolist() if not taken(port))
    path = os.pathsep.join([str(Path(sys.executable).parent), str(Path(ray_command()).parent), os.environ["PATH"]])
    usual = {**os.environ, "PATH": path, "HEAD_NODE": "127.0.0.1", "RAY_PORT": str(port), "SLURM_NNODES": "2"}
    usual |= {"SLURM_CPUS_PER_TASK": "1", "RAY_PATIENCE_S": "120", "HOME": str(tmp_path)}  # with a token of its own
    command = [str(script), sys.executable, str(walk), str(tmp_path / "run"), "0", str(tmp_path / "found.npz")]
    nodes = [
        subprocess.Popen(command, env={**usual, "SLURM_NODEID": place}, stdout=subprocess.PIPE, text=True)
        for place in ("0", "1")
    ]
    try:
        told, _ = nodes[0].communicate(timeout=240)
        assert nodes[0].returncode == 0
        assert "2 nodes" in told
        assert (tmp_path / "found.npz").exists()
        assert len(json.loads((tmp_path / "run" / "manifest.json").read_text())["candidates"]) == 16
    finally:
        for node in nodes:
            node.terminate()
            node.communicate(timeout=90)


def taken(port: int) -> bool:
    """Whether something listens on a port; those that Ray gives itself lie above 32,768."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ray_command() -> str:
    """Where the command `ray` of this installation lies."""
    import ray

    return str(Path(ray.__file__).parents[4] / "bin" / "ray")


@ray_warnings
def test_an_address_without_a_cluster_is_refused(tiny: Lattice, quiet_ray: Any) -> None:
    with pytest.raises(UsageError, match="No Ray cluster at 127.0.0.1:1"):
        stream(tiny, waves(), keep=5, workers=1, ray_address="127.0.0.1:1")
