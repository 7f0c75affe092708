"""Counting, listing, streaming and searching, beside what else a chemist would use; all ratios from one run.

    python -m benchmarks.enumerate [generate] [scaling] [memory] [ray] [oracle] [recall] [nodes] [--seconds 10]

Needs ``pip install smact ortools python-constraint2 pyarrow`` for the rivals; what is missing is skipped and said.
Rates and times of one process are in CPU seconds, so that other work on the machine does not change them; those with
Ray are by the clock. Run with ``OMP_NUM_THREADS=1``.

``--truth DIR`` keeps the exhaustive scores of the recall benchmark, which take about half an hour on one core; a run
that is interrupted goes on there.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from screening.candidates import Candidates
from screening.enumerator import BATCH, Job, Shortlist, stream
from screening.lattice import Lattice
from screening.space import CandidateSpace, load_space, parse_space

EIGHT = ["Mn2+", "Mn3+", "Mg2+", "Ni2+", "Cr3+", "V3+", "Ti4+", "Nb5+"]
TEN = [*EIGHT, "Fe2+", "Fe3+"]
FOURTEEN = [*TEN, "Co2+", "Al3+", "Zr4+", "Mo6+"]
TWENTY = [*FOURTEEN, "Mn4+", "V4+", "V5+", "Ti3+", "Nb4+", "W6+"]


def space_of(species: list[str], step: int, **keys: Any) -> CandidateSpace:
    """Build a high-entropy space: Li 1.0-1.35, F 0-0.7, at least four metals, no filters."""
    usual = {"lithium": [1.0, 1.35], "fluorine": [0, 0.7], "k_elements": [4, None], "filters": "none"}
    return parse_space({"name": f"{len(species)} species", "step": f"1/{step}", "species": species, **usual, **keys})


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[Any, float]:
    """Return what a call returns, and its seconds, of CPU unless another clock is given."""
    begun = clock()
    answer = call()
    return answer, clock() - begun


def row(*cells: object) -> None:
    """Print a line of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def heading(title: str, *columns: str) -> None:
    """Print a heading and the head of a table."""
    print(f"\n### {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


# -- generate --------------------------------------------------------------------------------------------


def walk_rate(lattice: Lattice, repeats: int = 5) -> float:
    """Compositions per second of a walk over everything as dense rows; the best of some repeats."""

    def walk() -> int:
        return sum(len(units) for _, units in lattice.walk())

    return max(lattice.count / timed(walk)[1] for _ in range(repeats))


def rate_within(found: Iterator[int], seconds: float) -> tuple[float, bool]:
    """Compositions per second of a rival in the time given, and whether it finished."""
    begun = time.process_time()
    number = 0
    for number in found:
        if time.process_time() - begun > seconds:
            return number / (time.process_time() - begun), False
    return number / (time.process_time() - begun), True


def generate(seconds: float) -> None:
    """Rates of listing compositions."""
    from benchmarks.enumerate import rivals

    heading("Listing compositions", "space", "method", "compositions/s", "ours is faster by", "finished")
    for species, step in ((EIGHT, 10), (EIGHT, 20), (TEN, 20)):
        space = space_of(species, step)
        lattice = Lattice(space)
        name = f"{space.name}, D = {step}, {lattice.count:,}"
        ours = walk_rate(lattice)
        row(name, "ours, dense rows", f"{ours:,.0f}", 1, "yes")
        ranks = lattice.sample_ranks(100_000, seed=0, replace=True)
        single = len(ranks) / min(timed(lambda held=lattice, r=ranks: held.unrank(r))[1] for _ in range(3))
        row(name, "ours, unranking at random", f"{single:,.0f}", f"{ours / single:,.0f}", "yes")
        for method in (rivals.by_numpy, rivals.by_python_constraint, rivals.by_itertools):
            try:
                rate, finished = rate_within(method(space), seconds)
            except ImportError as error:
                row(name, method.__name__, "-", "-", f"not installed: {error.name}")
                continue
            ratio = f"{ours / rate:,.0f}" if rate else "nothing found"
            row(name, method.__name__, f"{rate:,.0f}", ratio, "yes" if finished else f"stopped at {seconds:g} s")
        try:
            (found, complete), spent = timed(lambda s=space: rivals.by_cp_sat(s, seconds))
        except ImportError as error:
            row(name, "by_cp_sat", "-", "-", f"not installed: {error.name}")
        else:
            finished = "yes" if complete else f"stopped at {seconds:g} s"
            row(name, "by_cp_sat", f"{found / spent:,.0f}", f"{ours * spent / max(found, 1):,.0f}", finished)
    _one_system()


def _one_system() -> None:
    from benchmarks.enumerate import rivals

    space = space_of(["Mn2+", "Mn3+", "Cr3+", "Ti4+", "Nb5+"], 10, k_elements=4, fluorine=[0.1, 0.7])
    lattice = Lattice(space)
    name = f"Li-Cr-Mn-Nb-Ti-O-F, D = 10, {lattice.count}"
    ours = walk_rate(lattice, 50)
    row(name, "ours, dense rows", f"{ours:,.0f}", 1, "yes")
    try:
        found, spent = timed(lambda: rivals.by_smact(space))
    except ImportError as error:
        row(name, "by_smact", "-", "-", f"not installed: {error.name}")
        return
    rate = found / spent
    row(name, f"by_smact (finds {found})", f"{rate:,.0f}", f"{ours / rate:,.0f}" if found else "-", "yes")


def oracle() -> None:
    """Whether pymatgen's guesses agree with the lattice on whole formulas, inside and outside the space."""
    from benchmarks.enumerate import rivals

    space = space_of(TEN, 10, k_elements=[4, 5])
    lattice = Lattice(space)
    inside = lattice.sample(60, seed=1)
    outside = inside.copy()
    outside[:, 1] = np.random.default_rng(0).integers(0, 15, len(outside))  # another amount of fluorine
    verdicts, spent = timed(lambda: rivals.agrees_with_pymatgen(space, np.concatenate([inside, outside])))
    title = "pymatgen's oxi_state_guesses as an oracle"
    heading(title, "formulas", "neutral by both", "by neither", "disagree", "guesses/s")
    both, neither = sum(a and b for a, b in verdicts), sum(not a and not b for a, b in verdicts)
    row(len(verdicts), both, neither, len(verdicts) - both - neither, f"{len(verdicts) / spent:.0f}")


# -- scaling and memory ----------------------------------------------------------------------------------


def scaling() -> None:
    """Count and shard spaces of growing size."""
    heading("Counting", "space", "D", "compositions", "cells", "count (s)", "1,000 shards (s)", "their first rows (s)")
    for species in (EIGHT, TEN, FOURTEEN, TWENTY):
        for step in (10, 20, 40):
            lattice, counted = timed(lambda s=species, d=step: Lattice(space_of(s, d)))
            shards, cut = timed(lambda held=lattice: held.shards(1000))
            _, first = timed(lambda held=lattice, parts=shards: held.unrank([a for a, _ in parts]))
            cells = f"{lattice.cells:,}"
            name = f"{len(species)} species"
            row(name, step, f"{lattice.count:,}", cells, f"{counted:.2f}", f"{cut:.3f}", f"{first:.2f}")


MEMORY_SPACE = {"species": TWENTY, "step": 20}


def memory(seconds: float) -> None:
    """Walk a space of 1.6 x 10^9 in a process of its own and report its largest memory."""
    heading("Memory while walking", "compositions", "seconds", "walked", "peak RSS (MB)", "of which before the walk")
    called = [sys.executable, "-m", "benchmarks.enumerate", "walk-for", "--seconds", str(seconds)]
    print(subprocess.run(called, check=True, capture_output=True, text=True).stdout, end="")


def walk_for(seconds: float) -> None:
    """Walk until the time is up; run by :func:`memory`."""
    lattice = Lattice(space_of(**MEMORY_SPACE))  # type: ignore[arg-type]  # keys of different types
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun, walked = time.perf_counter(), 0
    for _, units in lattice.walk():
        walked += len(units)
        if time.perf_counter() - begun > seconds:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row(f"{lattice.count:,}", f"{time.perf_counter() - begun:.0f}", f"{walked:,}", f"{peak:.0f}", f"{before:.0f}")


# -- Ray -------------------------------------------------------------------------------------------------


def with_ray() -> None:
    """One job (enumerate, score with a closed form, best 1000) in process, as tasks, as actors, and in Ray Data."""
    os.environ["RAY_worker_niceness"] = "0"  # as urgent as the one process they are compared with
    import ray

    from benchmarks.enumerate.scorers import Ripples
    from screening import enumerator

    lattice = Lattice(parse_space({**load_space("paper-he").model_dump(), "filters": "none"}))
    scorer = Ripples(len(lattice.columns))
    expected, alone = timed(lambda: stream(lattice, scorer, keep=1000), time.perf_counter)
    heading("Streaming with Ray, two workers", "shard", "how", "candidates/s", "against one process", "same top 1000")
    row("-", "in process", f"{lattice.count / alone:,.0f}", "1.00", "-")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    job = enumerator.Job(lattice, scorer, 1000, BATCH)
    stream(lattice, scorer, keep=10, workers=2, shard=lattice.count // 4)  # the first tasks start the workers
    for shard in (64 * BATCH, 16 * BATCH):
        ways: dict[str, Callable[[int], Shortlist]] = {
            "tasks": lambda n: stream(lattice, scorer, keep=1000, workers=2, shard=n),
            "actors": lambda n: _by_actors(job, n),
            "Ray Data": lambda n: _by_ray_data(job, n),
        }
        for name, way in ways.items():
            try:
                found, spent = timed(lambda w=way, n=shard: w(n), time.perf_counter)
            except ImportError as error:
                row(f"{shard:,}", name, "-", "-", f"not installed: {error.name}")
                continue
            rates = f"{lattice.count / spent:,.0f}", f"{alone / spent:.2f}"
            row(f"{shard:,}", name, *rates, _same(found, expected))
    ray.shutdown()
    _two_nodes(lattice, scorer, expected, alone)


def _same(one: Shortlist, other: Shortlist) -> str:
    equal = all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ("ranks", "scores"))
    return "yes" if equal else "NO"


def _parts(job: Any, n: int) -> list[tuple[int, int]]:
    return [(a, min(a + n, job.candidates.count)) for a in range(0, job.candidates.count, n)]


def _collected(job: Any, parts: list[Any], shards: list[tuple[int, int]]) -> Shortlist:
    from screening import enumerator

    walk = enumerator.Walk(job)
    for part in parts:
        walk.add(part)
    return walk.shortlist(len(shards), 0.0)


def _by_actors(job: Any, n: int) -> Shortlist:
    import ray

    from screening import enumerator

    actor: Any = ray.remote(num_cpus=1)(enumerator._Runner)
    pool = ray.util.ActorPool([actor.remote(job) for _ in range(2)])
    shards = _parts(job, n)
    return _collected(job, list(pool.map_unordered(lambda a, s: a.run.remote(*s), shards)), shards)


def _by_ray_data(job: Any, n: int) -> Shortlist:
    import ray
    import ray.data

    from screening.enumerator import _Part

    ray.data.DataContext.get_current().enable_progress_bars = False

    class Score:
        def __init__(self) -> None:
            job.scorer.prepare()

        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            part = job.run(int(batch["start"][0]), int(batch["stop"][0]))
            whole = np.full(len(part.ranks), part.start), np.full(len(part.ranks), part.stop)
            return {"start": whole[0], "stop": whole[1], "rank": part.ranks, "score": part.scores}

    shards = _parts(job, n)
    dataset = ray.data.from_items([{"start": a, "stop": b} for a, b in shards], override_num_blocks=len(shards))
    rows = dataset.map_batches(Score, batch_size=1, concurrency=2).to_pandas()
    parts = [
        _Part(int(start), int(some["stop"].iloc[0]), some["rank"].to_numpy(), some["score"].to_numpy())
        for start, some in rows.groupby("start")
    ]
    return _collected(job, parts, shards)


def _two_nodes(lattice: Candidates, scorer: Any, expected: Shortlist, alone: float) -> None:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    shard = 16 * BATCH
    stream(lattice, scorer, keep=10, workers=2, shard=lattice.count // 4)
    found, spent = timed(lambda: stream(lattice, scorer, keep=1000, workers=2, shard=shard), time.perf_counter)
    rates = f"{lattice.count / spent:,.0f}", f"{alone / spent:.2f}"
    row(f"{shard:,}", "tasks on two nodes", *rates, _same(found, expected))
    ray.shutdown()
    cluster.shutdown()


def nodes(seconds: float) -> None:
    """The walk that `propose` does, on two nodes of this machine, against the sum of the nodes' own speeds."""
    import ray
    from ray.cluster_utils import Cluster

    from drxnet.ensemble import Ensemble
    from screening import enumerator
    from screening.goals import Goals
    from screening.outlook import Outlook
    from screening.scoring import StreamScorer

    lattice = Lattice(load_space("paper-he"))
    outlook = Outlook.of(Ensemble.load("default"), Goals()).for_stream("auto", lattice.count)
    scorer = StreamScorer(outlook, lattice.columns, lattice.denominator)
    heading("The real scorer on two nodes", "engine", "nodes' own (cand/s)", "together", "of the sum", "workers busy")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        stream(lattice, scorer, keep=10, workers=2, shard=BATCH, time_limit_s=1e-3)  # loads and compiles on both
        own = [node["candidates_per_s"] for node in enumerator._node_speeds(Job(lattice, scorer, 1, BATCH)).values()]
        done = stream(lattice, scorer, keep=1000, workers=None, shard=2 * BATCH, time_limit_s=seconds).statistics
        own += [node["candidates_per_s"] for node in enumerator._node_speeds(Job(lattice, scorer, 1, BATCH)).values()]
    finally:
        ray.shutdown()
        cluster.shutdown()
    rate, alone = done.walked / done.seconds, sum(own) / 2
    busy = f"{done.worker_seconds / done.seconds / 2:.0%}"
    row(outlook.engine, " + ".join(f"{r:,.0f}" for r in own[:2]), f"{rate:,.0f}", f"{rate / alone:.0%}", busy)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    sections = ["generate", "oracle", "scaling", "memory", "ray", "recall"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*sections, "nodes", "walk-for"], default=sections)
    parser.add_argument("--seconds", type=float, default=10, help="for each rival, and for the walk of `memory`")
    parser.add_argument("--truth", type=Path, default=Path("truth"), help="folder of the exhaustive scores of `recall`")
    parser.add_argument("--workers", type=int, default=2, help="of the exhaustive scores")
    options = parser.parse_args()
    for section in options.sections:
        if section == "generate":
            generate(options.seconds)
        elif section == "oracle":
            oracle()
        elif section == "scaling":
            scaling()
        elif section == "memory":
            memory(options.seconds)
        elif section == "walk-for":
            walk_for(options.seconds)
        elif section == "nodes":
            nodes(options.seconds)
        elif section == "ray":
            with_ray()
        else:
            from benchmarks.enumerate.recall import report

            report(options.truth, options.workers, heading, row)


if __name__ == "__main__":
    main()
