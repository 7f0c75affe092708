"""Score every candidate and keep the best: ranks go to the workers, top scores come back, rows never travel.

Candidates are scored in batches of fixed rank boundaries and collected in shards, which are whole batches; what a shard
gives is a function of its ranks alone. So a result does not depend on the number of workers, on their order, on how
often one died, or on the length of the shards. Equal scores are ordered by rank.

A run with a folder writes ``manifest.json`` and one file for each finished shard (temporary file, fsync, rename); the
same call on the folder does the shards that are missing.

Workers are processes of Ray core: tasks, or actors that hold a GPU each. ``workers=0`` runs the same code here. A local
cluster is started for the call unless an address is given or set in ``RAY_ADDRESS``. Each node of a cluster is measured
first, and a shard is as long as takes 5-30 s on each; the shards of a node that is lost are run by others, and one that
joins gets its share. Over the nodes of a SLURM allocation, in one line::

    srun --nodes=4 --ntasks-per-node=1 --cpus-per-task=32 scripts/on-cluster drx-screen propose --campaign he-wide

and on machines without SLURM::

    ray start --head --port=6379                    # on the first
    ray start --address=FIRST:6379                  # on the others
    RAY_ADDRESS=FIRST:6379 drx-screen propose ...   # on the first

Every node needs the same installation, and the folder, if any, is written by the driver alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from drxnet.errors import ConfigurationError, UsageError
from drxnet.files import replace_file
from drxnet.progress import Progress, silent
from screening.candidates import Candidates
from screening.lattice import Lattice
from screening.orphans import no_orphans
from screening.proof import ShardRecord, WalkProof
from screening.space import CandidateSpace

log = logging.getLogger(__name__)

BATCH = 8192
"""Candidates scored in one call. Part of what a result depends on, in the last digits."""

WARM_UP = 512
"""Candidates scored before a speed is measured: enough to meet every number of cations, each compiled on its own."""

SHARD_SECONDS = 10.0
"""Time one shard should take; a run loses at most the shards in flight when it is killed."""

SHARD_SECONDS_RANGE = (5.0, 30.0)
"""Time that a shard takes at least on the fastest node and at most on the slowest, as far as both can be had."""

NODES_SECONDS = 5.0
"""How often to look whether nodes have joined or left."""

ANSWER_SECONDS = 10.0
"""How long to wait for the head of a Ray cluster to take a connection."""

JOIN_SECONDS = 20.0
"""How long joining a Ray cluster may take in all."""

SMALLEST_SHARDS = 4
"""Shards per worker, at least, so that all workers end together."""


class Scorer(Protocol):
    """What says how good candidates are. It is sent to the workers, so it must be picklable."""

    @property
    def fingerprint(self) -> str:
        """Changes with everything the scores depend on."""

    def prepare(self) -> None:
        """Load what is heavy. Called once in each process before the first :meth:`score`."""

    def score(self, units: np.ndarray) -> np.ndarray:
        """Scores of rows in units of 1/D, ``n``; higher is better, -inf rejects."""


def engine_of(scorer: Scorer) -> str:
    """What the last bits of the scores depend on beside the scorer itself."""
    return str(getattr(scorer, "signature", "")) or f"numpy {np.__version__}, {platform.machine()}"


@dataclass(frozen=True)
class Statistics:
    """What a run did."""

    count: int
    """Candidates there are."""

    walked: int
    """Candidates looked at."""

    scored: int
    """Of these, passed the filters and were scored."""

    rejected: int
    """Of these, given -inf (or no number) by the scorer."""

    refused: Mapping[str, int]
    """Refused by each filter, whatever the others do."""

    shards: int
    shards_done: int
    shards_resumed: int
    """Found finished in the folder."""

    seconds: float
    """Wall time of this call."""

    worker_seconds: float
    """Time spent in shards, over all workers and calls."""

    @property
    def complete(self) -> bool:
        """Whether every candidate was looked at."""
        return self.shards_done == self.shards


@dataclass(frozen=True)
class Shortlist:
    """The best candidates of a run, the best first."""

    ranks: np.ndarray
    """``k``"""

    scores: np.ndarray
    """``k``, descending; equal scores by ascending rank."""

    units: np.ndarray
    """Rows in units of 1/D, ``k x columns``."""

    statistics: Statistics
    how: str = "all candidates"
    """How they were found, in words."""

    proof: WalkProof | None = None
    """Of a complete walk: that every candidate was scored and nothing better was left out."""


@dataclass
class _Part:
    """What a range of ranks gave."""

    start: int
    stop: int
    ranks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scored: int = 0
    rejected: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    outside: float = -np.inf
    """Largest score of those that are not kept."""

    digest: str = ""
    engine: str = ""

    def add(self, ranks: np.ndarray, scores: np.ndarray, keep: int) -> None:
        """Merge scored candidates, keeping the best."""
        self.ranks, self.scores = np.concatenate([self.ranks, ranks]), np.concatenate([self.scores, scores])
        if len(self.scores) > 4 * keep:  # cheaper than sorting everything
            self.drop_below(np.partition(self.scores, len(self.scores) - keep)[len(self.scores) - keep])
        order = np.lexsort((self.ranks, -self.scores))
        if len(order) > keep:
            self.outside = max(self.outside, float(self.scores[order[keep]]))
        self.ranks, self.scores = self.ranks[order[:keep]], self.scores[order[:keep]]

    def drop_below(self, score: float) -> None:
        """Forget candidates that others have beaten already."""
        self.keep_where(self.scores >= score)

    def keep_where(self, good: np.ndarray) -> None:
        """Forget the others, but for the largest of their scores."""
        self.outside = max(self.outside, float(self.scores[~good].max(initial=-np.inf)))
        self.ranks, self.scores = self.ranks[good], self.scores[good]

    def record(self, listed: np.ndarray) -> ShardRecord:
        """Say what a proof needs of this shard, whose listed ranks are among the best of the whole walk."""
        self.keep_where(np.isin(self.ranks, listed))
        best = tuple(zip(self.ranks.tolist(), self.scores.tolist(), strict=True))
        return ShardRecord(
            self.start,
            self.stop,
            self.scored,
            self.rejected,
            {name: number for name, number in self.refused.items() if number},
            best,
            self.outside,
            self.digest,
            self.engine,
        )


@dataclass(frozen=True)
class Job:
    """Everything a worker needs beside a range of ranks."""

    candidates: Candidates
    scorer: Scorer
    keep: int
    batch: int

    @property
    def key(self) -> str:
        """Hash by which a worker process knows the job again."""
        text = f"{self.candidates.fingerprint} {self.scorer.fingerprint} {self.keep} {self.batch}"
        return hashlib.sha256(text.encode()).hexdigest()

    def shards(self, length: int) -> list[tuple[int, int]]:
        """First rank of every shard of a length, and the rank after its last."""
        count = self.candidates.count
        return [(start, min(start + length, count)) for start in range(0, count, length)]

    def run(self, start: int, stop: int, watch: Callable[[int], None] = lambda done: None) -> _Part:
        """Score one shard."""
        begun = time.perf_counter()
        part = _Part(start, stop)
        digest = hashlib.sha256()
        for first, units in self.candidates.walk(start, stop, self.batch):
            masks = self.candidates.refused(units)
            kept = np.flatnonzero(~np.any([*masks.values(), np.zeros(len(units), bool)], axis=0))
            for name, mask in masks.items():
                part.refused[name] = part.refused.get(name, 0) + int(mask.sum())
            every = np.full(len(units), np.nan)
            if len(kept):
                scores = self._score(np.ascontiguousarray(units[kept]))
                every[kept] = scores
                good = scores > -np.inf
                part.scored += len(kept)
                part.rejected += int((~good).sum())
                part.add(first + kept[good], scores[good], self.keep)
            digest.update(every.astype("<f8").tobytes())
            watch(first + len(units) - start)
        part.seconds = time.perf_counter() - begun
        part.digest, part.engine = digest.hexdigest(), engine_of(self.scorer)
        return part

    def identity(self) -> dict[str, Any]:
        """What tells this job from others: a folder of shards and a proof belong to one."""
        return {
            "version": 2,
            "candidates": self.candidates.fingerprint,
            "filters": json.loads(self.candidates.filters.model_dump_json()),
            "columns": list(self.candidates.columns),
            "denominator": self.candidates.denominator,
            "count": self.candidates.count,
            "scorer": self.scorer.fingerprint,
            "keep": self.keep,
            "batch": self.batch,
        }

    def record(self, told: ShardRecord) -> ShardRecord:
        """Score the candidates of a shard again and say what a proof with the same list would say of it."""
        part = replace(self, keep=max(1, told.scored)).run(told.start, told.stop)
        return part.record(np.array([rank for rank, _ in told.best], np.int64))

    def _score(self, units: np.ndarray) -> np.ndarray:
        scores = np.asarray(self.scorer.score(units), dtype=float)
        if scores.shape != (len(units),):
            raise UsageError(f"A scorer returns one score per row. Got shape {scores.shape} for {len(units)} rows.")
        return np.where(np.isnan(scores), -np.inf, scores)


def stream(
    space: CandidateSpace | Candidates,
    scorer: Scorer,
    *,
    keep: int = 1000,
    workers: int | None = 0,
    gpus_per_worker: float = 0.0,
    batch: int = BATCH,
    shard: int | None = None,
    folder: str | Path | None = None,
    time_limit_s: float | None = None,
    ray_address: str | None = None,
    progress: Progress = silent,
) -> Shortlist:
    """Score every candidate that passes the filters and return the best.

    Args:
        space: a space, or candidates of any kind.
        scorer: says how good they are.
        keep: how many to return.
        workers: processes; 0 for this one alone, null for one per CPU (or GPU share) of the cluster.
        gpus_per_worker: share of a GPU that each worker holds; above 0, workers are actors.
        batch: candidates per call of the scorer.
        shard: candidates per shard, rounded up to whole batches; by default what takes about
            :data:`SHARD_SECONDS`, from a measurement.
        folder: where finished shards are kept, so that a killed run can go on; it belongs to one job.
        time_limit_s: no shard is begun after this many seconds, but for the first of each worker.
        ray_address: of a running Ray cluster; by default ``RAY_ADDRESS``, else a local one for this call.
        progress: called with candidates done and in all.

    Raises:
        ConfigurationError: the folder belongs to another job (the message says what differs).
        UsageError: a setting out of range, or Ray cannot be reached.
    """
    begun = time.monotonic()
    _check_settings(keep, batch, shard, workers)
    job = Job(Lattice(space) if isinstance(space, CandidateSpace) else space, scorer, keep, batch)
    store = _Store(Path(folder), job) if folder is not None else None
    asked = store.shard if store and store.shard else shard
    length, nodes = _shard_length(job, asked, workers, time_limit_s, gpus_per_worker, ray_address)
    shards = job.shards(length)
    walk = Walk(job, progress)
    if store:
        walk.resume(store, store.open(length, shards, nodes))
    walk.watch(0)
    missing = walk.missing(shards)
    deadline = begun + (math.inf if time_limit_s is None else time_limit_s)
    if workers == 0:
        parts = _here(job, missing, deadline, walk.watch)
    else:
        parts = _on_ray(job, missing, deadline, workers, gpus_per_worker, ray_address)
    for part in parts:
        walk.add(part)
    return walk.shortlist(len(shards), time.monotonic() - begun)


def _check_settings(keep: int, batch: int, shard: int | None, workers: int | None) -> None:
    if min(keep, batch, 1 if shard is None else shard) < 1 or (workers or 0) < 0:
        raise UsageError(
            "keep, batch and shard are at least 1, workers at least 0. "
            f"Got keep {keep}, batch {batch}, shard {shard}, workers {workers}."
        )


class Walk:
    """What the shards of a job have given so far."""

    def __init__(self, job: Job, progress: Progress = silent) -> None:
        """Begin with nothing.

        Args:
            job: of the shards.
            progress: called with candidates done and in all.
        """
        self.job, self.done, self._progress = job, dict[int, _Part](), progress
        self._store: _Store | None = None
        self._resumed = self._finished = 0
        self._best = _Part(0, job.candidates.count)

    def resume(self, store: _Store, done: Mapping[int, _Part]) -> None:
        """Go on with what is done already, by first ranks, and keep what comes in the same folder."""
        for part in done.values():
            self.add(part)
        self._store, self._resumed = store, len(done)

    def missing(self, shards: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Which shards are not done."""
        return [shard for shard in shards if shard[0] not in self.done]

    def watch(self, here: int) -> None:
        """Tell of candidates of a shard that is being scored."""
        self._progress(self._finished + here, self.job.candidates.count)

    def add(self, part: _Part) -> None:
        """Take a finished shard; it forgets what others have beaten."""
        self._best.add(part.ranks, part.scores, self.job.keep)
        if len(self._best.scores) == self.job.keep:
            part.drop_below(self._best.scores[-1])
        if self._store:
            self._store.save(part)
        self.done[part.start] = part
        self._finished += part.stop - part.start
        self.watch(0)

    def shortlist(self, shards: int, seconds: float) -> Shortlist:
        """The best of all of them; with a proof where none of so many shards is missing."""
        candidates, best, parts = self.job.candidates, self._best, [part for _, part in sorted(self.done.items())]
        refused: Counter[str] = Counter()
        for part in parts:
            refused.update(part.refused)
        statistics = Statistics(
            count=candidates.count,
            walked=self._finished,
            scored=sum(part.scored for part in parts),
            rejected=sum(part.rejected for part in parts),
            refused=dict(sorted(refused.items())),
            shards=shards,
            shards_done=len(parts),
            shards_resumed=self._resumed,
            seconds=seconds,
            worker_seconds=sum(part.seconds for part in parts),
        )
        proof = None
        if statistics.complete:
            proof = WalkProof(self.job.identity(), tuple(part.record(best.ranks) for part in parts))
        return Shortlist(best.ranks, best.scores, candidates.unrank(best.ranks), statistics, proof=proof)


def speed(candidates: Candidates, scorer: Scorer, *, batch: int = BATCH, seconds: float = 1.0) -> float:
    """Measure how many candidates per second one process walks, filters and scores.

    Args:
        candidates: of the run.
        scorer: of the run.
        batch: candidates per call.
        seconds: how long to measure, at least one batch; what is compiled first is not counted.
    """
    job = Job(candidates, scorer, 1, min(batch, candidates.count))
    scorer.prepare()
    scorer.score(candidates.unrank(candidates.sample_ranks(min(WARM_UP, candidates.count), 0)))
    starts = np.random.default_rng(0).integers(0, max(1, candidates.count // job.batch), 1000) * job.batch
    walked, begun = 0, time.perf_counter()
    for start in starts.tolist():
        stop = min(start + job.batch, candidates.count)
        job.run(start, stop)
        walked += stop - start
        if time.perf_counter() - begun > seconds:
            break
    return walked / (time.perf_counter() - begun)


def _shard_length(
    job: Job,
    asked: int | None,
    workers: int | None,
    time_limit_s: float | None,
    gpus_per_worker: float,
    address: str | None,
) -> tuple[int, dict[str, dict[str, float]]]:
    """Candidates per shard, whole batches, and the speed of each node where that was measured."""
    nodes = _nodes(job, address) if workers != 0 and asked is None and gpus_per_worker == 0 else {}
    length = asked or _fitting_shard(job, workers, time_limit_s, gpus_per_worker, nodes)
    return -(-length // job.batch) * job.batch, nodes


def _fitting_shard(
    job: Job,
    workers: int | None,
    time_limit_s: float | None,
    gpus_per_worker: float,
    nodes: Mapping[str, Mapping[str, float]],
) -> int:
    """Candidates of a shard that takes about :data:`SHARD_SECONDS`, and leaves every worker several."""
    pool = max(1, _cpus(nodes) if workers is None else workers)
    if job.candidates.count <= job.batch * pool:
        return job.batch
    fair = -(-job.candidates.count // (pool * SMALLEST_SHARDS))
    if gpus_per_worker > 0:  # the driver may have no GPU to measure with
        return min(fair, 64 * job.batch)
    rates = [node["candidates_per_s"] for node in nodes.values()] or [_measured(job)]
    log.info("measured %.3g to %.3g candidates/s in one process", min(rates), max(rates))
    target = SHARD_SECONDS if time_limit_s is None else min(SHARD_SECONDS, max(0.2, time_limit_s / 10))
    length = float(np.median(rates)) * target
    if len(rates) > 1:
        least, most = SHARD_SECONDS_RANGE
        length = min(max(length, least * max(rates)), most * min(rates))
    return min(fair, max(1, int(length)))


def _cpus(nodes: Mapping[str, Mapping[str, float]]) -> int:
    return int(sum(node["cpus"] for node in nodes.values())) or os.cpu_count() or 1


def _nodes(job: Job, address: str | None) -> dict[str, dict[str, float]]:
    """Measure one process on every node of a running cluster; nothing where there is none yet."""
    joined = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    if not (joined or address or os.environ.get("RAY_ADDRESS")):
        return {}
    with _cluster(address, None):
        return _node_speeds(job)


def _node_speeds(job: Job) -> dict[str, dict[str, float]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    task, sent = ray.remote(num_cpus=1, max_retries=2)(_measured), ray.put(job)
    rates = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(sent)
        for node in nodes
    ]
    return {
        f"{node['NodeManagerHostname']}/{node['NodeID'][:8]}": {
            "cpus": node["Resources"]["CPU"],
            "candidates_per_s": rate,
        }
        for node, rate in zip(nodes, ray.get(rates), strict=True)
    }


def _measured(job: Job) -> float:
    """Candidates per second of one process where this runs."""
    return speed(job.candidates, job.scorer, batch=job.batch, seconds=0.5)


# -- where shards run ------------------------------------------------------------------------------------


def _here(job: Job, shards: list[tuple[int, int]], deadline: float, watch: Callable[[int], None]) -> Iterator[_Part]:
    job.scorer.prepare()
    for i, (start, stop) in enumerate(shards):
        if i > 0 and time.monotonic() > deadline:
            return
        yield job.run(start, stop, watch)


class _Runner:
    """A worker process: prepares the scorer once, then runs shards."""

    def __init__(self, job: Job) -> None:
        self.job = job
        job.scorer.prepare()

    def run(self, start: int, stop: int) -> _Part:
        return self.job.run(start, stop)


_runners: dict[str, _Runner] = {}
"""The runner of this worker process, by job; a task finds here what an earlier one prepared."""


def _run(key: str, job: Job, start: int, stop: int) -> _Part:
    if key not in _runners:
        _runners.clear()
        _runners[key] = _Runner(job)
    return _runners[key].run(start, stop)


def _on_ray(
    job: Job,
    shards: list[tuple[int, int]],
    deadline: float,
    workers: int | None,
    gpus_per_worker: float,
    address: str | None,
) -> Iterator[_Part]:
    """Yield finished shards, two per worker in flight; what a dead worker or node held is run again."""
    import ray
    from ray.exceptions import RayTaskError

    if not shards:
        return
    with _cluster(address, workers):
        resource, share = ("GPU", gpus_per_worker) if gpus_per_worker > 0 else ("CPU", 1.0)

        def room() -> int:
            available = int(ray.cluster_resources().get(resource, 0) / share)
            return min(available if workers is None else workers, len(shards))

        if int(ray.cluster_resources().get(resource, 0) / share) == 0:
            raise UsageError(f"The Ray cluster has no {resource}. Add a node, or run with workers=0.")
        pool, looked = room(), time.monotonic()
        submit = _submitter(job, pool, gpus_per_worker)
        queue = deque(shards)
        pending: set[Any] = set()

        def fill() -> None:
            nonlocal pool, looked
            if gpus_per_worker == 0 and time.monotonic() - looked > NODES_SECONDS:  # nodes come and go
                pool, looked = max(1, room()), time.monotonic()
            while queue and len(pending) < 2 * pool:
                first = len(shards) - len(queue) < pool
                if not first and time.monotonic() > deadline:
                    return
                pending.add(submit(*queue.popleft()))

        try:
            fill()
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1)
                for reference in ready:
                    pending.discard(reference)
                    yield ray.get(reference)
                fill()
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None
        finally:
            for reference in pending:
                ray.cancel(reference, force=gpus_per_worker == 0)


def _submitter(job: Job, pool: int, gpus_per_worker: float) -> Callable[[int, int], Any]:
    """Return what sends one shard to a worker and returns the reference to its part."""
    import ray

    if gpus_per_worker > 0:
        actor: Any = ray.remote(num_gpus=gpus_per_worker, max_restarts=-1, max_task_retries=-1)(_Runner)
        actors = [actor.remote(job) for _ in range(pool)]
        turn = iter(range(1 << 62))
        return lambda start, stop: actors[next(turn) % pool].run.remote(start, stop)
    task = ray.remote(num_cpus=1, max_retries=-1)(_run)
    sent = ray.put(job)
    return lambda start, stop: task.remote(job.key, sent, start, stop)


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[None]:
    """Join the Ray cluster at an address, or the one already joined; else start a local one for as long as it is used.

    Raises:
        UsageError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        _own_token()
    import ray

    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        _require_answer(address)
        settings["address"] = address
    else:
        settings |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
    where = f"at {address}" if address else "on this machine"
    try:
        if address:
            _within(JOIN_SECONDS - ANSWER_SECONDS, ray.init, settings)
        else:
            ray.init(**settings)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UsageError(f"No Ray cluster {where} ({error}). Give another address, or run with workers=0.") from None
    try:
        with nullcontext() if address else no_orphans():
            yield
    finally:
        ray.shutdown()


def _own_token() -> None:
    """Let only this process use the cluster that it starts, since Ray listens on every interface of the machine.

    Ray reads its mode when it is imported; where it is already, or a mode is set, that is left as it is.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _within(seconds: float, call: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Call something that may never come back.

    Raises:
        TimeoutError: it did not within the time; it goes on in a thread that ends with the process.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call(**settings)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"something listens there, and did not answer as Ray does within {seconds:g} s")
    if raised:
        raise raised[0]


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens at once; Ray would go on asking for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "//" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            raise UsageError(
                f"No Ray cluster at {address} ({error}). Start one with `ray start --head`, give another address, or "
                "run with workers=0."
            ) from None


# -- what is kept on disk --------------------------------------------------------------------------------


class _Store:
    """Folder of one job: a manifest, and a file for each finished shard."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder
        self.job = job
        self.manifest = folder / "manifest.json"
        self.shard: int | None = None
        if self.manifest.exists():
            found = json.loads(self.manifest.read_text(encoding="utf-8"))
            told = "; ".join(f"{k} was {found.get(k)}, is {v}" for k, v in job.identity().items() if found.get(k) != v)
            if told:
                raise ConfigurationError(f"{folder} holds another job: {told}. Take a new folder, or delete this one.")
            self.shard = int(found["shard"])

    def open(
        self, shard: int, shards: list[tuple[int, int]], nodes: Mapping[str, Mapping[str, float]]
    ) -> dict[int, _Part]:
        """Write the manifest, or read the shards that are finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.shard is None:
            text = json.dumps({**self.job.identity(), "shard": shard, "nodes": nodes}, indent=1)
            replace_file(self.manifest, text.encode())
            return {}
        return {start: part for start, stop in shards if (part := self._load(start, stop)) is not None}

    def _path(self, start: int) -> Path:
        return self.folder / f"shard-{start:016d}.json"

    def save(self, part: _Part) -> None:
        """Keep a finished shard."""
        values = {
            **asdict(part),
            "ranks": part.ranks.tolist(),
            "scores": [score.hex() for score in part.scores.tolist()],
            "outside": part.outside.hex(),
        }
        replace_file(self._path(part.start), json.dumps(values).encode())

    def _load(self, start: int, stop: int) -> _Part | None:
        path = self._path(start)
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            ranks = np.array(values.pop("ranks"), dtype=np.int64)
            scores = np.array([float.fromhex(s) for s in values.pop("scores")])
            outside = float.fromhex(values.pop("outside"))
            part = _Part(**values, ranks=ranks, scores=scores, outside=outside)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s); its shard is run again", path, error)
            return None
        return part if part.stop == stop else None
