"""What a ranking shows after fine-tuning and without: one laboratory of each kind, after 3 rounds of 8.

    python -m benchmarks.trust.finetuned --cache DIR --seeds 0 [--kinds field member]
    python -m benchmarks.trust.finetuned             prints what is kept

*Without*: the parent and the Gaussian model. *0.1.0*: the child where cross-validation against its parent alone accepts
it, and the Gaussian model on the same cells again. *Now*: the child only where it beats its parent with the Gaussian
model on cells that neither has seen, at each rate and by more than a standard error, and no cell twice. Compared on
what is never measured of the pool, noise-free; runs that are done are kept in finetuned.csv beside this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.choose.pool import CONDITIONS, GOALS, PooledEnsemble
from benchmarks.trust.__main__ import QUANTITIES, keep, kept, truth_of
from benchmarks.trust.campaigns import LABORATORIES, TEACHER, Bench
from campaigns.loop.finetune import errors_at_the_rates
from campaigns.loop.spreads import spreads
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet, Record
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.ensemble import Amounts, Ensemble
from drxnet.finetuning import FineTuningOptions, HeldOut, fine_tune
from screening.measured import Measured
from screening.outlook import Outlook

TABLE = Path(__file__).parent / "finetuned.csv"
AFTER = 3
WAYS = ("without", "0.1.0", "now")


@dataclass(frozen=True)
class Cell:
    """One discharge that came back, as a quantity reads it."""

    cell: str
    conditions: CyclingConditions
    capacity_mah_g: float
    sigma_mah_g: float | None = None
    average_voltage_v: float | None = None
    specific_energy_wh_kg: float | None = None


def returned(bench: Bench, kind: str, seed: int, teacher: Ensemble) -> tuple[list[Composition], list[Cell], ProfileSet]:
    """Every discharge of the first rounds: composition, capacity, and a profile of the shape that a teacher says."""
    found = [row for one in bench.campaign(kind, seed)[:AFTER] for row in one]
    made, cells, records = [], [], []
    for row, *capacities in found:
        composition = bench.pool.compositions[row]
        for at, capacity in zip(CONDITIONS, capacities, strict=True):
            if np.isnan(capacity):
                continue
            grid = at.grid()
            shape = teacher.profiles([composition], [at], grid)[:, 0, 0].mean(0).double().numpy(force=True)
            shape = np.maximum.accumulate(np.maximum(shape - shape[-1], 0)[::-1])[::-1]
            curve = shape * capacity / max(float(shape[0]), 1e-6)
            made.append(composition)
            cells.append(Cell(f"{row} at {at.current_ma_g:g}", at, capacity))
            records.append(Record(composition, at, DischargeProfile(grid, curve), capacity))
    return made, cells, ProfileSet.from_discharges(records, cells=[c.cell for c in cells])


@dataclass(frozen=True)
class Child:
    """What came of a fine-tuning; kept, for it takes a minute and the ways of using it do not."""

    accepted: bool
    held_out_mah_g: np.ndarray
    """What it said of each discharge while that was held out."""

    fold: np.ndarray
    """In which each was."""

    seconds: float
    capacity: np.ndarray
    """Of the pool, ``members x n x 2``; empty where it was not accepted."""

    features: np.ndarray

    @classmethod
    def of(cls, bench: Bench, parent: Ensemble, seed: int, profiles: ProfileSet) -> Child:
        """Fine-tune a parent on what came back."""
        begun = time.process_time()
        child = fine_tune(parent, profiles, seed=seed, options=FineTuningOptions())
        seconds = time.process_time() - begun
        assert child.held_out is not None, "three rounds are enough to hold some out"
        empty = np.zeros(0)
        pool = bench.pool.predicted_by(child.ensemble) if child.accepted else None
        capacity, features = (empty, empty) if pool is None else (pool.capacity, pool.features)
        held_out = child.held_out
        return cls(child.accepted, held_out.capacity_mah_g, held_out.fold, seconds, capacity, features)

    @classmethod
    def read(cls, file: Path) -> Child:
        """Read back what was kept."""
        with np.load(file) as stored:
            told = dict(stored)
        accepted, seconds = bool(told["accepted"]), float(told["seconds"])
        return cls(accepted, told["held_out_mah_g"], told["fold"], seconds, told["capacity"], told["features"])

    def keep(self, file: Path) -> Child:
        """Keep it; returns it."""
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        np.savez(file, allow_pickle=False, **arrays)
        return self


def parent_of(kind: str, seed: int, teacher: Ensemble) -> Ensemble:
    """What is fine-tuned: members that know nothing of the laboratory."""
    if LABORATORIES[kind].truth is not None:
        return teacher
    return teacher.subset([m for m in range(teacher.members) if m != seed % teacher.members])


def child_of(bench: Bench, kind: str, seed: int, parent: Ensemble, profiles: ProfileSet) -> Child:
    """Fine-tune on what came back, or read back what came of it."""
    file = bench.cache / f"trust-child-{bench.offset:g}-{kind}-{seed}.npz"
    return Child.read(file) if file.is_file() else Child.of(bench, parent, seed, profiles).keep(file)


def as_learned(
    measured: Sequence[Measured], made: Sequence[Composition], cells: Sequence[Cell], child: Child
) -> list[Measured]:
    """What was measured, with what the child said of it while it was held out."""
    said = {(c, cell.conditions): float(q) for c, cell, q in zip(made, cells, child.held_out_mah_g, strict=True)}
    rates, found = GOALS.rates, []
    for m in measured:
        low, high = (said.get((m.composition, at)) for at in (rates.low, rates.high))
        told = Measured.at_two_rates(m.composition, rates, low, high).estimates
        found.append(replace(m, learned={q: e.mean for q, e in told.items()}))
    return found


def run(bench: Bench, kind: str, seed: int, teacher: Ensemble) -> list[dict[str, Any]]:
    """One row for each way."""
    made, cells, profiles = returned(bench, kind, seed, teacher)
    parent = parent_of(kind, seed, teacher)
    child = child_of(bench, kind, seed, parent, profiles)
    held_out = HeldOut(child.fold, child.held_out_mah_g)
    beside = errors_at_the_rates(parent, GOALS.rates, made, cells, held_out)
    measured = [m for one in bench.campaign(kind, seed)[:AFTER] for m in bench.measured(one)]
    before = bench.predictor(kind, seed)
    after = before
    if child.accepted:
        pool = replace(bench.pool, capacity=child.capacity, features=child.features)
        after = PooledEnsemble(pool, list(range(len(child.capacity))))
    used = child.accepted and all(b.child_is_better for b in beside)
    ways = {
        "without": (before, measured),
        "0.1.0": (after, measured),
        "now": (after, as_learned(measured, made, cells, child)) if used else (before, measured),
    }
    name = {"model": bench.model, "offset": f"{bench.offset:g}", "kind": kind, "seed": seed}
    name |= {"discharges": len(cells), "accepted": child.accepted, "used": used, "cpu_s": f"{child.seconds:.0f}"}
    for who in ("child", "gaussian"):
        name[f"{who}_mah_g"] = ", ".join(f"{getattr(b, f'{who}_mah_g').mean():.1f}" for b in beside)
    return [{**name, "way": way, **_merits(bench, kind, seed, *ways[way], way)} for way in WAYS]


def _merits(
    bench: Bench, kind: str, seed: int, ensemble: PooledEnsemble, measured: Sequence[Measured], way: str
) -> dict[str, str]:
    """Mean absolute error, coverage and error / spread of what is never measured."""
    candidates = bench.pool.compositions[: bench.pool.candidates]
    made = {row for one in bench.campaign(kind, seed) for row, *_ in one}
    never = [i for i in range(len(candidates)) if i not in made]
    outlook = Outlook.of(ensemble, GOALS, measured=measured)  # type: ignore[arg-type]  # the same interface
    points = outlook.read(Amounts.of([candidates[i] for i in never]))
    mean, std = (x.numpy() for x in outlook.surrogate.marginals(points))
    spread = std if way == "0.1.0" else spreads(outlook, mean, std)
    truth, mean = truth_of(bench.truth(kind, seed)[0])[never], GOALS.clipped(mean)
    lower, upper = GOALS.interval(mean, spread)
    inside = ((truth >= lower) & (truth <= upper)).mean(0)
    error, ratio = np.abs(truth - mean).mean(0), np.sqrt((((truth - mean) / spread) ** 2).mean(0))
    found: dict[str, str] = {}
    for i, q in enumerate(QUANTITIES):
        found |= {f"{q}_error": f"{error[i]:.4g}", f"{q}_covered": f"{inside[i]:.3f}", f"{q}_ratio": f"{ratio[i]:.3f}"}
    return found


def print_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Print every run, and the means over them."""
    heads = [f"{q}: {what}" for q in QUANTITIES for what in ("error", "covered", "error / spread")]
    first = (
        "laboratory",
        "discharges",
        "accepted against the parent",
        "used",
        "held out, at each rate: child; parent and Gaussian model",
        "way",
    )
    print("| " + " | ".join((*first, *heads)) + " |\n" + "|---" * (len(first) + len(heads)) + "|")
    for row in rows:
        lead = (
            f"{row['kind']} {row['seed']}", row["discharges"], "yes" if row["accepted"] == "True" else "no",
            "yes" if row["used"] == "True" else "no", f"{row['child_mah_g']}; {row['gaussian_mah_g']}", row["way"],
        )  # fmt: skip
        print("| " + " | ".join((*lead, *_shown([row]))) + " |")
    for way in WAYS:
        mine = [r for r in rows if r["way"] == way]
        print(f"| all | | | | | {way} | " + " | ".join(_shown(mine)) + " |")


def _shown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    found = []
    for q in QUANTITIES:
        error, covered, ratio = (np.mean([float(r[f"{q}_{m}"]) for r in rows]) for m in ("error", "covered", "ratio"))
        found += [f"{error:.3f}" if q == "retention" else f"{error:.1f}", f"{covered:.0%}", f"{ratio:.2f}"]
    return found


def main() -> None:
    """Run what is missing, keep it, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=list(LABORATORIES), choices=LABORATORIES)
    parser.add_argument("--offset", type=float, default=1.0, help="in standard deviations of published laboratories")
    parser.add_argument("--cache", type=Path, help="where pools, campaigns and children are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.seeds and options.cache:
        bench, teacher = Bench.of(TEACHER, options.cache, options.offset), Ensemble.load(TEACHER)
        done = {(r["kind"], r["seed"]) for r in kept(TABLE)}
        for seed in options.seeds:
            for kind in options.kinds:
                if (kind, str(seed)) not in done:
                    keep(TABLE, run(bench, kind, seed, teacher))
    if rows := kept(TABLE):
        print_table(rows)


if __name__ == "__main__":
    main()
