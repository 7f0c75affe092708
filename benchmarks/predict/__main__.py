"""Speed of the ensemble against a plain implementation of the same network, in one run and as ratios.

    python -m benchmarks.predict --published DIR [--compile] [--start-up] [--processes] [--cold-start]
    python -m benchmarks.predict --device cuda

DIR holds the published state dicts (models/drxnet-2024 of the authors' repository). Times are CPU seconds of one
thread; the ways are measured in turn, several rounds, and the best of each counts, so that another job on the machine
disturbs the ratios little. Start-up and two processes are wall time and want an idle machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.predict.plain import PlainEnsemble
from drxnet.checkpoint import ModelCard, stack_published
from drxnet.composition import MODEL_METALS
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble
from drxnet.network import DRXNet, NetworkShape

CONDITIONS = [CyclingConditions(20), CyclingConditions(1000)]
HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


def high_entropy(count: int, seed: int = 0) -> Amounts:
    """Random compositions of 5 to 8 cations, as many of each."""
    rng = np.random.default_rng(seed)
    cations = np.zeros((count, len(MODEL_METALS)))
    for row, metals in zip(cations, np.resize([4, 5, 6, 7], count), strict=True):
        chosen = rng.choice(np.arange(1, len(MODEL_METALS)), metals, replace=False)
        row[0] = 1.2
        row[chosen] = rng.dirichlet(np.full(metals, 3.0)) * 0.8
    return Amounts(MODEL_METALS, torch.from_numpy(cations), torch.from_numpy(rng.uniform(0, 0.3, count)))


def part(amounts: Amounts, count: int) -> Amounts:
    return Amounts(amounts.symbols, amounts.cations[:count], amounts.fluorine[:count])


def seconds_each(ways: Mapping[str, tuple[int, Callable[[], object]]], rounds: int) -> dict[str, float]:
    """Best CPU seconds per candidate of each way, measured in turn."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, (count, run) in ways.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - start) / count)
    return best


def matmul_gflops() -> float:
    """Multiply large float32 matrices on this thread: the machine's own peak through torch (GFLOP/s)."""
    a = torch.randn(1024, 1024)
    best = min(seconds_each({"mm": (1, lambda: a @ a)}, 12).values())
    return 2 * 1024**3 / best / 1e9


def encoder_mflop(amounts: Amounts, layers_with_product: int = 3) -> float:
    """Multiply-adds of the five encoders per candidate, as this package evaluates them (MFLOP)."""
    n = (amounts.cations > 0).sum(1).double()
    nodes = n * 32 * 384 * 2
    layer = n**2 * (192 + 192) + n * 192 * 32
    pool = n * 32 * 384 + n * (192 + 192) + 192 * 32
    return float((5 * 2 * (layers_with_product * nodes + 3 * layer + pool)).mean()) / 1e6


WORKER = """
import sys, time, torch
from benchmarks.predict.__main__ import CONDITIONS, high_entropy
from drxnet.ensemble import Ensemble
engine, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
amounts = high_entropy(count)
ensemble = Ensemble.load(engine=engine)
begun = time.perf_counter()
ensemble.capacity(amounts, CONDITIONS)
print(time.perf_counter() - begun, flush=True)
if seconds:
    sys.stdin.readline()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        ensemble.capacity(amounts, CONDITIONS)
        done += count
    print(done / (time.perf_counter() - begun))
"""
"""A process of its own: prints the seconds of its first call and, told to go on, its candidates per second."""


def worker(engine: str, count: int, seconds: float = 0, **environment: str) -> subprocess.Popen[str]:
    """Start a process that measures by itself."""
    command = [sys.executable, "-c", WORKER, engine, str(count), str(seconds)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def start_up_seconds(engine: str, folder: str) -> float:
    """First call of 64 candidates in a fresh process (s), with a folder for what is compiled."""
    with worker(engine, 64, NUMBA_CACHE_DIR=folder) as process:
        return float(process.communicate()[0])


def together(engine: str, processes: int, seconds: float = 6.0) -> float:
    """Candidates per second of processes that run side by side, wall time."""
    started = [worker(engine, 1024, seconds) for _ in range(processes)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()  # compiled and warm
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="folder of the published state dicts")
    parser.add_argument("--device", default="cpu", help="cuda: on a GPU, in minutes (benchmarks/predict/gpu.py)")
    parser.add_argument("--compile", action="store_true", help="also through torch.compile (a minute to compile)")
    parser.add_argument("--start-up", action="store_true", help="also the first call of each engine")
    parser.add_argument("--processes", action="store_true", help="also one and two processes side by side")
    parser.add_argument("--cold-start", action="store_true", help="also the command line, from a cold start")
    parser.add_argument("--count", type=int, default=1024, help="candidates per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device.startswith("cuda"):
        from benchmarks.predict.gpu import measure

        measure(options.device)
        return
    if options.published is None:
        parser.error("--published DIR is needed on a CPU")
    torch.set_num_threads(1)

    plain = PlainEnsemble.load(options.published)
    network = DRXNet(NetworkShape(members=5))
    network.load_state_dict(stack_published(plain.states))
    ensemble = Ensemble(network, ModelCard("published", 5), engine="eager")
    fused = ensemble.with_engine("fused")
    amounts = high_entropy(options.count)
    few, some = part(amounts, 2), part(amounts, 64)
    error = (ensemble.capacity(some, CONDITIONS) - plain.capacity(some, CONDITIONS)).abs().max()
    between = (fused.capacity(amounts, CONDITIONS) - ensemble.capacity(amounts, CONDITIONS)).abs().max()
    grid = CONDITIONS[0].grid()

    def as_published() -> None:
        for row in range(len(few)):
            for c in CONDITIONS:
                plain.profile_as_published(few, row, c)

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "published way of use": (len(few), as_published),
        "plain, batched, no autograd": (len(some), lambda: plain.capacity(some, CONDITIONS)),
        "ensemble, eager": (len(amounts), lambda: ensemble.capacity(amounts, CONDITIONS)),
        "ensemble, eager, 100-point profiles": (len(amounts), lambda: ensemble.profiles(amounts, CONDITIONS, grid)),
        "ensemble, fused": (len(amounts), lambda: fused.capacity(amounts, CONDITIONS)),
        "ensemble, fused, 100-point profiles": (len(amounts), lambda: fused.profiles(amounts, CONDITIONS, grid)),
        "ensemble, fused, encoder alone": (len(amounts), lambda: fused.features(amounts)),
    }
    if options.compile:
        compiled = ensemble.compiled()
        compiled.capacity(amounts, CONDITIONS)
        ways["ensemble, compiled"] = (len(amounts), lambda: compiled.capacity(amounts, CONDITIONS))
        ways["ensemble, compiled, 100-point profiles"] = (
            len(amounts),
            lambda: compiled.profiles(amounts, CONDITIONS, grid),
        )
    seconds = seconds_each(ways, options.rounds)

    machine = platform.processor() or platform.machine()
    print(f"{machine}, torch {torch.__version__}, one thread, {time.strftime('%Y-%m-%d')}")
    print(f"{options.count} compositions of 5-8 cations, 5 members, 20 and 1000 mA/g, 1.5-4.8 V, cycle 1")
    print(f"largest difference from the plain implementation, float32: {error:.1e} mAh/g")
    print(f"largest difference between fused and eager, any member: {between:.1e} mAh/g\n")
    print(f"{'way':42s} {'cand/s':>9s} {'profiles/s':>11s} {'x published':>12s} {'x plain':>8s} {'x eager':>8s}")
    for name, each in seconds.items():
        profiles = f"{2 / each:11.0f}" if "profiles" in name or "published" in name else f"{'':11s}"
        bases = ("published way of use", "plain, batched, no autograd", "ensemble, eager")
        ratios = [seconds[base] / each for base in bases]
        print(f"{name:42s} {1 / each:9.1f} {profiles} {ratios[0]:12.1f} {ratios[1]:8.2f} {ratios[2]:8.2f}")
    peak = matmul_gflops()
    print()
    for name in ("ensemble, eager", "ensemble, compiled", "ensemble, fused", "ensemble, fused, encoder alone"):
        if name in seconds:
            work = encoder_mflop(amounts, 2 if "fused" in name else 3)
            rate = work / seconds[name] / 1e3
            print(f"{name}: {work:.1f} MFLOP per candidate, {rate:.1f} GFLOP/s; torch matmul here {peak:.0f} GFLOP/s")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ensemble.capacity(high_entropy(200_000), CONDITIONS[:1])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory: {after / 1024:.0f} MiB after 200,000 candidates ({before / 1024:.0f} MiB before)")
    if options.start_up:
        with tempfile.TemporaryDirectory() as folder:
            for engine, state in (("eager", ""), ("fused", ", cold"), ("fused", ", cached")):
                print(f"first call, {engine}{state}: {start_up_seconds(engine, folder):.2f} s")
    if options.processes:
        for engine in ("eager", "fused"):
            one, two = together(engine, 1), together(engine, 2)
            print(f"{engine}: one process {one:.0f}/s, two {two:.0f}/s, x {two / one:.2f}")
    if options.cold_start:
        for arguments in (["--help"], ["predict", HE1]):
            runs = []
            for _ in range(5):
                start = time.perf_counter()
                command = [sys.executable, "-m", "campaigns.cli", *arguments]
                subprocess.run(command, check=False, capture_output=True)
                runs.append(time.perf_counter() - start)
            print(f"drx-screen {arguments[0]}: {statistics.median(runs):.2f} s from a cold start (median of 5)")


if __name__ == "__main__":
    main()
