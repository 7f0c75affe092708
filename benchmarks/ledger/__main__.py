"""Time of commands on a campaign of 200 rounds and 10,000 profiles, each in a process of its own.

    python -m benchmarks.ledger [--rounds 200] [--profiles 10000] [--repeats 3] [--url postgresql://...]

Reported are wall and CPU seconds, start of Python included, the median over the repeats. The values in the ledger are
random; what is measured does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from campaigns.campaign import Campaign
from campaigns.ledger.entry import Entry
from campaigns.ledger.records import NewMeasurement, PredictedProfile, Prediction
from campaigns.loop.outcomes import stated
from drxnet.discharge import CyclingConditions, DischargeProfile
from screening.goals import Goals

BATCH = 8
LOW, HIGH = CyclingConditions(20.0), CyclingConditions(1000.0)
LIMITS_S = {"status": 2.0, "rank --within measured": 2.0, "report": 30.0}
"""What the project promises (wall time of an idle machine)."""


def fill(campaign: Campaign, rounds: int, profiles: int, seed: int = 0) -> None:
    """Record rounds of proposals with cells at both rates, cycles enough to make so many profiles."""
    rng = np.random.default_rng(seed)
    grid = LOW.grid()
    shape = (LOW.v_high - grid) / (LOW.v_high - LOW.v_low)
    cycles = max(1, round(profiles / (rounds * BATCH * 2)))
    surplus = profiles - rounds * BATCH * 2 * cycles
    for number in range(rounds):
        formulas = [_formula(number * BATCH + i) for i in range(BATCH)]
        low, kept = rng.uniform(150, 300, BATCH), rng.uniform(0.3, 0.8, BATCH)
        with campaign.ledger.write("propose") as entry:
            entry.add_round(
                [
                    (f, _prediction(q, r), [_predicted(LOW, grid, shape * q), _predicted(HIGH, grid, shape * q * r)])
                    for f, q, r in zip(formulas, low, kept, strict=True)
                ],
                model_id="0" * 12,
                seed=0,
                strategy="qlognei",
                spec={},
                spec_hash="0" * 16,
                statistics={},
            )
        with campaign.ledger.write("ingest") as entry:
            for i, formula in enumerate(formulas):
                name = f"R{number + 1:02d}-{i + 1:02d}"
                entry.add_file(f"{number:032d}{i:032d}", f"{name}.json", "drx-td json", "accepted", [])
                extra = cycles + (1 if (number * BATCH + i) * 2 < surplus else 0)
                for conditions, capacity in ((LOW, low[i]), (HIGH, low[i] * kept[i])):
                    _record(entry, name, formula, conditions, capacity, shape, extra, f"{number:032d}{i:032d}")


def _record(
    entry: Entry,
    name: str,
    formula: str,
    conditions: CyclingConditions,
    capacity: float,
    shape: np.ndarray,
    cycles: int,
    sha256: str,
) -> None:
    for cycle in range(1, cycles + 1):
        at = CyclingConditions(conditions.current_ma_g, conditions.v_low, conditions.v_high, cycle)
        profile = DischargeProfile(at.grid(), shape * capacity * (1 - 0.01 * (cycle - 1)))
        new = NewMeasurement(formula, at, profile.total_capacity_mah_g, profile, None, "drx-td")
        entry.add_measurement(name, f"{at.current_ma_g:g} mA/g", new, sha256)


def _formula(number: int) -> str:
    """The number-th of many compositions, no two alike."""
    titanium, niobium = divmod(number, 100)
    amounts = {"Ti": titanium * 0.004 + 0.01, "Nb": niobium * 0.001 + 0.001}
    manganese = 0.8 - sum(amounts.values())
    return f"Li1.2Ti{amounts['Ti']:.3f}Mn{manganese:.3f}Nb{amounts['Nb']:.3f}O2"


def _prediction(capacity: float, retention: float) -> Prediction:
    goals = Goals()
    means, spreads = np.array([[retention, capacity, capacity * retention]]), np.array([[0.05, 9.0, 9.0]])
    columns = {k: float(v[0]) for k, v in goals.columns(means, spreads).items()}
    return Prediction(stated(goals, columns), 20, 1000, 0.9, 1, "inside", "for the benchmark")


def _predicted(conditions: CyclingConditions, grid: np.ndarray, capacity: np.ndarray) -> PredictedProfile:
    return PredictedProfile(conditions, grid, capacity, 0.03 * capacity)


def timed(arguments: Sequence[str], repeats: int) -> tuple[float, float]:
    """Median wall and CPU seconds of a command."""
    walls, cpus = [], []
    for _ in range(repeats):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        program = [sys.executable, "-m", "campaigns.cli", *arguments]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        walls.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def main() -> None:
    """Fill a ledger and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--profiles", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--url", help="a PostgreSQL database; by default a SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        template = Path("template.yaml")
        template.write_text("space: tiny\n" + (f"ledger: {options.url}\n" if options.url else ""))
        begun = time.perf_counter()
        with Campaign.start("ledger-benchmark", template) as campaign:
            fill(campaign, options.rounds, options.profiles)
            state = campaign.state()
        seconds = time.perf_counter() - begun
        print(f"{state.round} rounds, {len(state.proposals):,} proposals, {len(state.valid):,} profiles, ", end="")
        print(f"{len(state.cells):,} cells; written in {seconds:.0f} s, {2 * options.rounds} transactions\n")
        print(f"{'command':<28}{'wall s':>8}{'CPU s':>8}{'promised':>10}")
        commands = {
            "status": ["status"],
            "rank --within measured": ["rank", "--by", "rate-retention", "--within", "measured"],
            "log --last 20": ["log", "--last", "20"],
            "status --as-of R100": ["status", "--as-of", f"R{max(1, options.rounds // 2)}"],
            "report": ["report"],
        }
        for name, arguments in commands.items():
            wall, cpu = timed([*arguments, "--campaign", "ledger-benchmark"], options.repeats)
            promised = f"{LIMITS_S[name]:.0f} s" if name in LIMITS_S else ""
            print(f"{name:<28}{wall:>8.2f}{cpu:>8.2f}{promised:>10}")


if __name__ == "__main__":
    main()
