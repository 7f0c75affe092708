"""Parity and speed of the encoders on one GPU: eager, compiled, Triton kernel, CUDA graph, prefiltered.

Nothing in here has run on a GPU yet. It builds, checks parity against the CPU, and measures, in minutes.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.predict.__main__ import CONDITIONS, high_entropy
from drxnet.ensemble import Amounts, Ensemble
from drxnet.network import SITE_INDEX
from drxnet.prefilter import exact_top
from drxnet.triton_layer import TritonEncoder

COUNT, KEEP, SECONDS = 1 << 18, 1000, 10.0


def by_size(amounts: Amounts, device: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Arguments of the network's ``encode``, one block for each number of cations."""
    sites = torch.tensor([SITE_INDEX[s] for s in amounts.symbols])
    counts = (amounts.cations > 0).sum(1)
    blocks = []
    for n in counts.unique().tolist():
        cations = amounts.cations[counts == n]
        columns = (cations > 0).nonzero()[:, 1].view(len(cations), n)
        w = cations.gather(1, columns).float() / 2
        blocks.append(tuple(t.to(device) for t in (sites[columns], w, amounts.fluorine[counts == n].float() / 2)))
    return blocks


def rate(run: Callable[[], object], count: int) -> float:
    """Candidates per second, by the clock, after a first call that compiles."""
    run()
    torch.cuda.synchronize()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        run()
        torch.cuda.synchronize()
        done += count
    return done / (time.perf_counter() - begun)


def graphed(encode: Callable[..., Tensor], block: tuple[Tensor, ...]) -> Callable[[], None]:
    """The same call on the same block as a CUDA graph: one launch in place of some dozens."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            encode(*block)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        encode(*block)
    return graph.replay


def watts() -> float:
    """What the GPU draws now (W)."""
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


@torch.no_grad()
def measure(device: str) -> None:
    """Print parity, then one row for each way."""
    torch.backends.cuda.matmul.allow_tf32 = False
    ensemble = Ensemble.load("default", device=device)
    network, amounts = ensemble.network, high_entropy(COUNT)
    small = Amounts(amounts.symbols, amounts.cations[:512], amounts.fluorine[:512])
    expected = Ensemble.load("default", dtype=torch.float64).capacity(small, CONDITIONS)
    blocks, few = by_size(amounts, device), by_size(small, device)
    exact, low = TritonEncoder(network), TritonEncoder(network, low_precision=True)
    eager = [network.encode(*block) for block in few]
    for name, encoder in (("Triton, float32", exact), ("Triton, float16 products", low)):
        error = max(float((encoder(*b) - e).abs().max() / e.abs().max()) for b, e in zip(few, eager, strict=True))
        print(f"{name}: largest difference of composition vectors from eager {error:.1e} (relative)")
    print(
        f"eager on the GPU against float64: {(ensemble.capacity(small, CONDITIONS).cpu() - expected).abs().max():.1e}"
    )

    def capacity(encode: Callable[..., Tensor]) -> Tensor:
        return torch.cat([_capacity(ensemble, encode(*block)) for block in blocks])

    compiled = torch.compile(network.encode, dynamic=False)
    ways = {"eager": network.encode, "compiled": compiled, "Triton": exact, "Triton, float16 products": low}
    print(f"\n{torch.cuda.get_device_name()}, {COUNT:,} candidates of 5-8 cations\n")
    print("| way | candidates/s | W | J per 10^9 candidates |\n| --- | --- | --- | --- |")
    for name, encode in ways.items():
        chunked = _chunks(encode, 16_384 if name in ("eager", "compiled") else COUNT)
        speed, power = rate(lambda c=chunked: capacity(c), COUNT), watts()
        print(f"| {name} | {speed:,.0f} | {power:.0f} | {power / speed * 1e9:,.0f} |")
    tiny = few[0]
    for name, run in (("Triton, one small block", lambda: exact(*tiny)), ("the same as a graph", graphed(exact, tiny))):
        print(f"| {name} | {rate(run, len(tiny[1])):,.0f} | | |")

    cheap = capacity(low)[:, 0].cpu().numpy().astype(float)
    rows = torch.cat([torch.arange(len(block[1])) for block in blocks])
    starts = np.cumsum([0, *(len(block[1]) for block in blocks)])

    def rescored(wanted: np.ndarray) -> np.ndarray:
        values = np.empty(len(wanted))
        for block, start, stop in zip(blocks, starts[:-1], starts[1:], strict=True):
            here = np.flatnonzero((wanted >= start) & (wanted < stop))
            at = rows[wanted[here]].to(device)
            if len(here):
                values[here] = _capacity(ensemble, exact(*(part[at] for part in block)))[:, 0].cpu().numpy()
        return values

    begun = time.perf_counter()
    found = exact_top(cheap, rescored, KEEP)
    spent = time.perf_counter() - begun
    same = np.lexsort((np.arange(COUNT), -rescored(np.arange(COUNT))))[:KEEP]
    print(
        f"\nprefiltered: {found.rescored:,} of {COUNT:,} scored again in {spent:.2f} s, bound {found.bound:.2g} mAh/g, "
        f"largest error seen {found.largest_error:.2g}; top {KEEP} exact: {found.rows.tolist() == same.tolist()}"
    )


def _capacity(ensemble: Ensemble, u: Tensor) -> Tensor:
    """Mean capacity over the members at the two rates, ``n x 2``."""
    from drxnet.ensemble import Encoded

    return ensemble.capacity(Encoded(u), CONDITIONS).mean(0)


def _chunks(encode: Callable[..., Tensor], size: int) -> Callable[..., Tensor]:
    def run(*block: Tensor) -> Tensor:
        parts = range(0, len(block[1]), size)
        return torch.cat([encode(*(part[start : start + size] for part in block)) for start in parts], 1)

    return run
