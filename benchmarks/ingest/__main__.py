"""Read and segment cycler exports of a million rows: ``python -m benchmarks.ingest``.

Each file is read in a process of its own, with progress reported as on the command line, beside
``pandas.read_csv`` of the same file, which does nothing but parse. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

CYCLES = 500
CURRENT_MA = 0.36
CAPACITY_MAH = 0.36
FORMATS = ("arbin", "neware")


def main() -> None:
    """Write the files, measure, print one line of JSON per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = Path(folder) / f"{name}.csv"
            write_export(path, name, arguments.rows)
            for what in ("drx-screen", "pandas"):
                command = [sys.executable, "-m", "benchmarks.ingest", "--measure", what, str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                print(json.dumps({"format": name, "mb": round(path.stat().st_size / 1e6), **json.loads(done.stdout)}))


def measure(what: str, file: str) -> dict[str, float | int | str]:
    """Read one file; seconds on the clock and of the processor, peak memory, discharges found."""
    wall, processor = time.perf_counter(), time.process_time()
    found, reports = 0, [0]
    if what == "pandas":
        rows = len(pd.read_csv(file))
    else:
        from campaigns.intake.readers import read
        from campaigns.intake.segmentation import segment

        _, recording = read(file, progress=lambda done, total: reports.append(done))
        rows = len(recording.voltage_v)
        found = len(segment(recording).discharges)
    return {
        "what": what,
        "rows": rows,
        "discharges": found,
        "wall_s": round(time.perf_counter() - wall, 2),
        "processor_s": round(time.process_time() - processor, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "progress_reports": len(reports) - 1,
    }


def write_export(path: Path, name: str, rows: int) -> None:
    """Write an export of that many rows: charges and discharges of a cell, 500 cycles."""
    half = rows // (2 * CYCLES)
    share = np.linspace(0, 1, half + 1)[1:]
    charge_v, discharge_v = 3.0 + 1.3 * share**0.3 + 0.5 * share**3, 4.75 - 1.3 * share - 1.95 * share**4
    n = 2 * CYCLES * half
    step = np.repeat(np.arange(1, 2 * CYCLES + 1), half)
    charging = step % 2 == 1
    in_step_s = np.tile(3600 * CAPACITY_MAH / CURRENT_MA * share, 2 * CYCLES)
    moved = np.tile(CAPACITY_MAH * share, 2 * CYCLES)
    table = {
        "record": np.arange(1, n + 1),
        "cycle": (step + 1) // 2,
        "step": step,
        "time": in_step_s + 3600 * (step - 1) * CAPACITY_MAH / CURRENT_MA,
        "voltage": np.tile(np.concatenate([charge_v, discharge_v]), CYCLES),
        "current": np.where(charging, CURRENT_MA, -CURRENT_MA),
        "charge": np.where(charging, moved, 0.0),
        "discharge": np.where(charging, 0.0, moved),
    }
    columns = _arbin(table) if name == "arbin" else _neware(table, charging)
    pd.DataFrame(columns).to_csv(path, index=False, float_format="%.9g")


def _arbin(t: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "Data_Point": t["record"],
        "Test_Time(s)": t["time"],
        "Step_Index": t["step"],
        "Cycle_Index": t["cycle"],
        "Current(A)": t["current"] / 1e3,
        "Voltage(V)": t["voltage"],
        "Charge_Capacity(Ah)": t["charge"] / 1e3,
        "Discharge_Capacity(Ah)": t["discharge"] / 1e3,
    }


def _neware(t: dict[str, np.ndarray], charging: np.ndarray) -> dict[str, np.ndarray]:
    whole = t["time"].astype(np.int64)
    clock = [
        f"{s // 3600:02d}:{s % 3600 // 60:02d}:{s % 60:02d}.{round(f * 1000) % 1000:03d}"
        for s, f in zip(whole.tolist(), (t["time"] % 1).tolist(), strict=True)
    ]
    return {
        "DataPoint": t["record"],
        "Cycle Index": t["cycle"],
        "Step Index": t["step"],
        "Step Type": np.where(charging, "CC Chg", "CC DChg"),
        "Total Time": np.array(clock),
        "Current(mA)": t["current"],
        "Voltage(V)": t["voltage"],
        "Chg. Cap.(mAh)": t["charge"],
        "DChg. Cap.(mAh)": t["discharge"],
    }


if __name__ == "__main__":
    main()
