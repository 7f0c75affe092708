"""Speed of a training step beside the plain loop, in one run.

Plain loop: members one after another, every point its own graph, dQ/dV and dQ/dc by double backward, as the published
training script does it; once with the network as it is usually written (`benchmarks/predict/plain.py`, needs the
published state dicts to start from) and once with this package's dense layers, which are faster. Ours: all members in
one network, 64 profiles x 16 points. All take the same 1,024 points and hold every term of the loss.

    python -m benchmarks.train.steps --published DIR
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.predict.plain import PlainEnsemble, Rows, State, capacities
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.finetuning import fine_tune
from drxnet.network import DRXNet
from drxnet.simulation import ConditionMix, draw_domain, simulate
from drxnet.training import Batch, TrainingOptions, TrainingTensors, batch_losses, initial_network


def plain_step(network: DRXNet, tensors: TrainingTensors, batch: Batch, options: TrainingOptions) -> None:
    """Gradients of one member, point by point in the graph."""
    points = batch.flattened()
    voltage = points.voltage.clone().requires_grad_()
    u, fractions = tensors.encode_tracked(network, points.compositions)
    first, now = network.condition(u, points.current, points.cycle)
    q = network.state(now, points.window, voltage)
    q_first = network.state(first, points.window, voltage)
    (slope,) = torch.autograd.grad(q.sum(), voltage, create_graph=True)
    smooth = torch.autograd.grad(q.sum(), fractions, create_graph=True)
    norm = torch.cat([g.flatten() for g in smooth]).norm()
    loss = (q - points.capacity).square().mean() + (slope - points.dqdv[0]).square().mean()
    loss = loss + 5 * (q_first - points.first).abs().mean() + options.smoothness_weight * norm
    loss.backward()


def plain_network_step(state: State, rows: Rows, points: Batch, options: TrainingOptions) -> None:
    """The same with the network written plainly: scatter operations, one row per cation of every point."""
    voltage = points.voltage.clone().requires_grad_()
    rows.weights = rows.weights.detach().requires_grad_()
    now = points.current[:, None], points.cycle[:, None].to(voltage.dtype)
    q_first, q = capacities(state, rows, points.window, voltage, *now, training=True)
    (slope,) = torch.autograd.grad(q.sum(), voltage, create_graph=True)
    (smooth,) = torch.autograd.grad(q.sum(), rows.weights, create_graph=True)
    loss = (q - points.capacity[0]).square().mean() + (slope - points.dqdv[0]).square().mean()
    loss = loss + 5 * (q_first - points.first[0]).abs().mean() + options.smoothness_weight * smooth.norm()
    loss.backward()


def seconds(step: Callable[[Batch], None], batches: list[Batch]) -> float:
    """CPU seconds of a step."""
    started = time.process_time()
    for batch in batches:
        step(batch)
    return (time.process_time() - started) / len(batches)


def time_fine_tuning(ensemble: Ensemble) -> None:
    """Print time and memory of fine-tuning on the first cycles of 25 compositions at two rates."""
    made = draw_domain(ensemble, 60, np.random.default_rng(1))[:25]
    rates = [CyclingConditions(20)] * len(made) + [CyclingConditions(1000)] * len(made)
    returned = simulate(ensemble.subset([0]), made * 2, rates, seed=1)
    started, wall = time.process_time(), time.monotonic()
    tuned = fine_tune(ensemble, returned, seed=0)
    used, wall = time.process_time() - started, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # kB on Linux
    print(f"fine-tuning on {len(returned)} profiles: {used:.0f} s CPU, {wall:.0f} s wall, at most {peak:.1f} GiB")
    print(f"  {tuned.report['reason']}", flush=True)


def main() -> None:
    """Print CPU seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="ensemble to simulate the set from")
    parser.add_argument("--published", type=Path, help="folder of the published state dicts, for the plain network")
    parser.add_argument("--compositions", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5, help="of every step; medians are printed")
    parser.add_argument("--fine-tune", action="store_true", help="also time fine-tuning on 50 first cycles")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = Ensemble.load(arguments.model)
    if arguments.fine_tune:  # first, for its peak of memory
        time_fine_tuning(ensemble)
    rng = np.random.default_rng(0)
    compositions = draw_domain(ensemble, arguments.compositions, rng)
    which = rng.integers(len(compositions), size=2000)
    profiles = simulate(ensemble, [compositions[i] for i in which], ConditionMix().draw(2000, rng), seed=0)
    tensors = TrainingTensors(profiles)
    every = TrainingOptions()
    epoch = tensors.epoch(np.random.default_rng(0), 64, 16)
    batches = [next(epoch) for _ in range(arguments.repeats + 1)]

    def ours(options: TrainingOptions) -> Callable[[Batch], None]:
        network = initial_network(options, 0).train()
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        count = iter(range(10**6))

        def step(batch: Batch) -> None:
            smooth = next(count) % options.smoothness_every == 0
            optimizer.zero_grad(set_to_none=True)
            batch_losses(network, tensors, batch, options, smooth=smooth).total(options).backward()
            optimizer.step()

        return step

    alone = replace(every, members=1)
    networks = [initial_network(alone, seed).train() for seed in range(every.members)]
    optimizers = [torch.optim.Adam(network.parameters(), fused=True) for network in networks]

    def plain(batch: Batch) -> None:
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            plain_step(network, tensors, batch, alone)
            optimizer.step()

    def plain_network() -> Callable[[Batch], None]:
        states = PlainEnsemble.load(arguments.published).states
        trained = [[t for t in state.values() if t.requires_grad] for state in states]
        adams = [torch.optim.Adam(parameters, fused=True) for parameters in trained]
        table, fluoride = networks[0].element_vectors.float(), networks[0].fluorine_vector.float()

        def inputs(i: int) -> tuple[torch.Tensor, torch.Tensor]:
            n = int(tensors.sizes[i])
            return tensors.w[i, :n], table[tensors.sites[i, :n]] + tensors.fluorine[i] * fluoride

        def step(batch: Batch) -> None:
            flat = batch.flattened()
            for state, adam in zip(states, adams, strict=True):
                adam.zero_grad(set_to_none=True)
                plain_network_step(state, Rows([inputs(i) for i in flat.compositions.tolist()]), flat, alone)
                adam.step()

        return step

    points = batches[0].voltage.numel()
    cases = {
        "exact ||dQ/dc||, every point": replace(every, smoothness="exact"),
        "dQ/dc at one voltage per profile": replace(every, smoothness_share=1.0),
        "at one voltage of half of them": replace(every, smoothness_share=0.5),
        "at one voltage of a quarter (drxnet.yaml)": every,
        "one voltage per profile, every 16th step": replace(every, smoothness_share=1.0, smoothness_every=16),
        "without dQ/dc": replace(every, smoothness_weight=0.0),
    }
    steps: dict[str, tuple[Callable[[Batch], None], int]] = {}
    if arguments.published:
        steps["plain loop, plain network"] = (plain_network(), 1)
    steps["plain loop, our layers"] = (plain, 1)
    steps |= {name: (ours(options), options.smoothness_every) for name, options in cases.items()}
    for step, period in steps.values():  # warm up, whole periods
        seconds(step, [batches[0]] * period)
    used: dict[str, list[float]] = {name: [] for name in steps}
    for batch in batches[1:]:  # in turn, so that whatever else the machine does meets all of them alike
        for name, (step, period) in steps.items():
            used[name].append(seconds(step, [batch] * period))
    print(f"step of {points} points, all {every.members} members, 1 thread, CPU seconds (ratio to the first row)")
    reference = float(np.median(used[next(iter(used))]))
    for name, values in used.items():
        middle = float(np.median(values))
        print(f"  {name:45s} {middle:6.3f}  ({reference / middle:.1f})   {points / middle:,.0f} points/s", flush=True)


if __name__ == "__main__":
    main()
