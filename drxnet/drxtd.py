"""DRX-TD files: the raw and processed json and the csv that DRXNet is trained on.

A :class:`CyclingTest` is what one file (or, in a csv, one run of rows) holds: a composition, a current, a
window, and the charges and discharges that were measured under them. Reading keeps the numbers as they are
written, so that what was exported is read back unchanged; :func:`standardize` turns a test into monotone
profiles of equal length.

The formats are those of zhongpc/drxnet (Zhong et al., Joule 8, 2024, doi:10.1016/j.joule.2024.03.010):

* raw json: ``discharge_info`` and ``charge_info``, lists of ``[cycle, {"Voltage(V)", "Capacity(mAh/g)"}]``;
* processed json: ``discharge_list`` of ``{"cycle_num", "V_std", "Q_std", "dQdV_std", "Q0_std"}``;
* csv, one row per point, with one of the three sets of columns in :data:`COLUMN_SETS`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from drxnet.composition import Composition
from drxnet.discharge import GRID_POINTS, MOST_CYCLES, CyclingConditions, DischargeProfile
from drxnet.errors import CompositionError, DataRefused, MeasurementError
from drxnet.files import new_file, replace_file
from drxnet.preprocess import LARGEST, Method, SmoothedDischarge, smooth_discharge
from drxnet.progress import Progress, silent

ColumnSet = Literal["example", "theory", "delta"]
Grid = Literal["window", "measured"]

_CASE_COLUMNS = ("material_id", "composition", "V_low", "V_high", "rate", "cycle")
_NUMBER_COLUMNS = ("V_low", "V_high", "rate", "cycle", "Vii", "Q0ii", "Qii", "DQii", "dQdVii")
COLUMN_SETS: Mapping[ColumnSet, tuple[str, ...]] = {
    "example": (*_CASE_COLUMNS, "Vii", "Q0ii", "Qii", "dQdVii"),
    "theory": (*_CASE_COLUMNS, "theory_Q", "Vii", "Q0ii", "Qii", "dQdVii"),
    "delta": (*_CASE_COLUMNS, "Vii", "Q0ii", "DQii", "dQdVii"),
}
"""Columns of the csv: as in the published example, with the theoretical capacity, with Q as a difference to cycle 1."""

PUBLISHED_DECIMALS = 3
"""Decimals that the published csv keeps of every value."""

_MOST_BYTES = 512 << 20
_METADATA = ("composition", "test_current(mA/g)", "low_voltage(V)", "high_voltage(V)")
_MASSES = ("active_mass(g)", "electrode_mass(g)")
_VOLTAGE, _CAPACITY = "Voltage(V)", "Capacity(mAh/g)"
_PROFILES = "discharge_list"


@dataclass(frozen=True, eq=False)
class Curve:
    """One charge or discharge, as it stands in a file."""

    cycle: int
    """Cycle number, the first is 1."""

    voltage_v: np.ndarray
    """Voltages (V), ``rows``; ascending in processed data, in any order in raw data."""

    capacity_mah_g: np.ndarray
    """Capacity at each of them (mAh/g), ``rows``."""

    dqdv_mah_g_v: np.ndarray | None = None
    """dQ/dV at each of them (mAh/g/V), ``rows``; None in raw data."""

    first_cycle_mah_g: np.ndarray | None = None
    """Capacity of the first cycle at the same voltages (mAh/g), ``rows``; None in raw data."""

    def __post_init__(self) -> None:
        """Check lengths and that every number is finite."""
        for name in ("voltage_v", "capacity_mah_g", "dqdv_mah_g_v", "first_cycle_mah_g"):
            values = getattr(self, name)
            if values is None:
                continue
            try:
                numbers = np.asarray(values, float)
            except (TypeError, ValueError):
                raise MeasurementError(f"cycle {self.cycle}: {name} must be a list of numbers.") from None
            if numbers.ndim != 1 or len(numbers) < 2 or len(numbers) != np.size(self.voltage_v):
                raise MeasurementError(
                    f"cycle {self.cycle}: voltage and {name} must be lists of the same length, at least 2. "
                    f"Got shapes {np.shape(self.voltage_v)} and {numbers.shape}."
                )
            possible = np.abs(numbers) < LARGEST  # false for NaN too
            if not possible.all():
                row = int(np.flatnonzero(~possible)[0])
                raise MeasurementError(
                    f"cycle {self.cycle}, point {row + 1}: {name} must be finite. Got {numbers[row]}."
                )
            object.__setattr__(self, name, numbers)

    def profile(self) -> DischargeProfile:
        """Capacity against voltage: ascending, each voltage once, never rising with voltage.

        Ripples that the published smoothing left are levelled by isotonic regression of Q on V; what is
        monotone already stays as it is.

        Raises:
            MeasurementError: fewer than two different voltages.
        """
        order = np.lexsort((-self.capacity_mah_g, self.voltage_v))
        voltage, block = np.unique(self.voltage_v[order], return_inverse=True)
        if len(voltage) < 2:
            raise MeasurementError(f"cycle {self.cycle}: a discharge needs at least two different voltages.")
        capacity = np.bincount(block, weights=self.capacity_mah_g[order]) / np.bincount(block)
        capacity[0] = self.capacity_mah_g[self.voltage_v == voltage[0]].max()
        falling = isotonic_regression(capacity, increasing=False).x
        return DischargeProfile(voltage, np.clip(falling, 0.0, None))


@dataclass(frozen=True, eq=False)
class CyclingTest:
    """What one cell was made of, how it was cycled, and what came out."""

    composition: Composition
    current_ma_g: float
    """Discharge current per gram of active material (mA/g)."""

    v_low: float
    """Lower cut-off (V)."""

    v_high: float
    """Upper cut-off (V)."""

    discharges: tuple[Curve, ...]
    charges: tuple[Curve, ...] = ()
    processed: bool = False
    """Whether the curves are smoothed profiles or measured rows."""

    material_id: str = "0"
    masses_g: Mapping[str, float] = field(default_factory=dict)
    """``active_mass(g)`` and ``electrode_mass(g)`` where the file states them."""

    def __post_init__(self) -> None:
        """Check current and window through :class:`CyclingConditions`."""
        try:
            self.conditions(1)
        except ValueError as error:
            raise MeasurementError(str(error)) from None

    def conditions(self, cycle: int) -> CyclingConditions:
        """Conditions of one of the cycles."""
        return CyclingConditions(self.current_ma_g, self.v_low, self.v_high, cycle)


def read(path: str | Path) -> tuple[CyclingTest, ...]:
    """Read a DRX-TD file, json or csv (also gzipped).

    Raises:
        MeasurementError: not a DRX-TD file, or one with values that are missing or not finite; the
            message names file and cycle.
        CompositionError: the composition is not a disordered rocksalt.
    """
    path = Path(path)
    text = _text(path)
    return (read_json(path),) if text.lstrip()[:1] == "{" else read_csv(path)


def read_folder(
    folder: str | Path,
    on_refused: Callable[[Path, DataRefused], None] | None = None,
    progress: Progress = silent,
) -> tuple[CyclingTest, ...]:
    """Read every json and csv below a folder, in the order of their names.

    Args:
        folder: where they lie.
        on_refused: called with each file that cannot be used, which is then left out; by default the
            first one ends the reading.
        progress: told the number of files done.

    Raises:
        MeasurementError: no json or csv there, or (without ``on_refused``) a file that cannot be used.
    """
    folder = Path(folder)
    endings = (".json", ".csv", ".json.gz", ".csv.gz")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name.lower().endswith(endings))
    if not paths:
        raise MeasurementError(f"{folder}: no DRX-TD file found; expected *.json or *.csv.")
    tests: list[CyclingTest] = []
    for done, path in enumerate(paths, start=1):
        try:
            tests.extend(read(path))
        except DataRefused as error:
            if on_refused is None:
                raise
            on_refused(path, error)
        progress(done, len(paths))
    return tuple(tests)


def read_json(path: str | Path) -> CyclingTest:
    """Read a raw or processed json.

    Raises:
        MeasurementError: not such a file; the message names file and cycle.
        CompositionError: the composition is not a disordered rocksalt.
    """
    path = Path(path)
    content = _json_object(path)
    if missing := [repr(key) for key in _METADATA if key not in content]:
        raise MeasurementError(f"{path.name}: {', '.join(missing)} missing; expected {', '.join(_METADATA)}.")
    processed = _PROFILES in content
    if not processed and "discharge_info" not in content:
        raise MeasurementError(f"{path.name}: neither 'discharge_info' (raw) nor {_PROFILES!r} (processed) is there.")
    try:
        return CyclingTest(
            composition=_composition(content["composition"]),
            current_ma_g=_number(content, "test_current(mA/g)"),
            v_low=_number(content, "low_voltage(V)"),
            v_high=_number(content, "high_voltage(V)"),
            discharges=_processed_curves(content[_PROFILES]) if processed else _raw_curves(content["discharge_info"]),
            charges=_raw_curves(content.get("charge_info") or []),
            processed=processed,
            material_id=str(content.get("material_id", "0")),
            masses_g={key: _number(content, key) for key in _MASSES if content.get(key) is not None},
        )
    except DataRefused as error:
        raise type(error)(f"{path.name}: {error}") from None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise MeasurementError(f"{path.name}: not a complete json file ({error}).") from None
    if not isinstance(content, dict):
        raise MeasurementError(f"{path.name}: a DRX-TD json holds one object. Got a {type(content).__name__}.")
    return content


def read_csv(path: str | Path) -> tuple[CyclingTest, ...]:
    """Read a csv with any of the three sets of columns.

    ``material_id`` numbers rows in some files and means nothing in others, so tests are told apart by
    composition, window and rate; a cycle number that comes again begins another cell.

    Raises:
        MeasurementError: a column is missing, or a value is missing or not finite; the message names the
            row.
        CompositionError: a composition is not a disordered rocksalt.
    """
    path = Path(path)
    table = _csv_table(path)
    tests: list[CyclingTest] = []
    for case, rows in table.groupby(["composition", "V_low", "V_high", "rate"], sort=False):
        formula, v_low, v_high, rate = cast(tuple[str, float, float, float], case)
        try:
            composition = Composition.parse(formula)
            for discharges in _cells(_cycles(rows)):
                test = CyclingTest(composition, rate, v_low, v_high, discharges, processed=True)
                tests.append(replace(test, material_id=str(rows["material_id"].iloc[0])))
        except DataRefused as error:
            raise type(error)(f"{path.name}: {formula}: {error}") from None
    return tuple(tests)


def standardize(
    test: CyclingTest, grid: Grid = "window", points: int = GRID_POINTS, method: Method = "isotonic"
) -> CyclingTest:
    """Turn every discharge of a test into a monotone profile of equal length.

    Args:
        test: raw or processed.
        grid: ``window`` spans the cut-offs, the same for every cycle; ``measured`` spans what each cycle
            reached, as in the published data.
        points: length of a profile.
        method: how raw rows are smoothed, see :func:`drxnet.preprocess.smooth_discharge`. Processed curves
            were smoothed before and are only interpolated.

    Returns:
        A processed test. The first cycle's capacity on each grid is evaluated without extrapolation, and
        absent where the test has no cycle 1.

    Raises:
        MeasurementError: a discharge with fewer than two different voltages.
    """
    window = (test.v_low, test.v_high) if grid == "window" else None
    how: Method = "isotonic" if test.processed else method
    smoothed = []
    for curve in test.discharges:
        rows: Curve | DischargeProfile = curve.profile() if test.processed else curve
        smoothed.append((curve.cycle, smooth_discharge(rows.voltage_v, rows.capacity_mah_g, window, points, how)))
    first = next((s for cycle, s in smoothed if cycle == 1), None)
    discharges = tuple(
        Curve(
            cycle,
            s.profile.voltage_v,
            s.profile.capacity_mah_g,
            s.dqdv_mah_g_v,
            None if first is None else _first_cycle_on(first, s.profile.voltage_v),
        )
        for cycle, s in smoothed
    )
    return replace(test, discharges=discharges, charges=(), processed=True)


def write_json(path: str | Path, test: CyclingTest) -> None:
    """Write a test as raw or processed json, whichever it is, without losing a digit."""
    content: dict[str, Any] = {
        "composition": test.composition.amounts(),
        "test_current(mA/g)": test.current_ma_g,
        "low_voltage(V)": test.v_low,
        "high_voltage(V)": test.v_high,
        **test.masses_g,
        "material_id": test.material_id,
    }
    if test.processed:
        content[_PROFILES] = [
            {"cycle_num": c.cycle, **{k: v.tolist() for k, v in _processed_columns(c).items() if v is not None}}
            for c in test.discharges
        ]
        if test.charges:
            content["charge_info"] = _raw_lists(test.charges)
    else:
        content["charge_info"] = _raw_lists(test.charges)
        content["discharge_info"] = _raw_lists(test.discharges)
    replace_file(Path(path), json.dumps(content, allow_nan=False).encode())


def write_csv(
    path: str | Path, tests: Iterable[CyclingTest], columns: ColumnSet = "example", decimals: int | None = None
) -> None:
    """Write processed tests as csv.

    Args:
        path: the file.
        tests: processed, each with a first cycle on the grid.
        columns: which of :data:`COLUMN_SETS`.
        decimals: of voltages and capacities; :data:`PUBLISHED_DECIMALS` imitates the published file, None
            keeps every digit.

    Raises:
        MeasurementError: a raw test, or one without the first cycle's capacity.
    """
    frames = [_frame(test, curve, columns) for test in tests for curve in test.discharges]
    table = pd.concat(frames) if frames else pd.DataFrame(columns=list(COLUMN_SETS[columns]))
    if decimals is not None:
        values = [c for c in COLUMN_SETS[columns] if c not in _CASE_COLUMNS]
        table[values] = table[values].map(lambda value: f"{value:.{decimals}f}")
    with new_file(Path(path)) as partial:
        table.to_csv(partial, index=False, columns=list(COLUMN_SETS[columns]), lineterminator="\n")


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as file:
                content = file.read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise MeasurementError(f"{path.name}: damaged gzip file ({error}).") from None
        if len(content) > _MOST_BYTES:
            raise MeasurementError(f"{path.name}: unpacks to more than {_MOST_BYTES >> 20} MiB; split it.")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _composition(amounts: Any) -> Composition:
    if isinstance(amounts, str):
        return Composition.parse(amounts)
    try:
        return Composition.from_amounts({str(k): float(v) for k, v in amounts.items()})
    except (AttributeError, TypeError, ValueError):
        raise CompositionError(f"composition must map elements to amounts. Got {amounts!r:.80}.") from None


def _number(content: Mapping[str, Any], key: str) -> float:
    try:
        value = float(content[key])
    except (TypeError, ValueError):
        raise MeasurementError(f"{key} must be a number. Got {content[key]!r:.60}.") from None
    if not np.isfinite(value):
        raise MeasurementError(f"{key} must be finite. Got {value}.")
    return value


def _raw_curves(entries: Any) -> tuple[Curve, ...]:
    curves = []
    for i, entry in enumerate(_listed(entries)):
        try:
            number, columns = entry
            curves.append(Curve(_cycle(number), columns[_VOLTAGE], columns[_CAPACITY]))
        except (TypeError, ValueError, KeyError, IndexError):
            raise MeasurementError(
                f"entry {i + 1} must be [cycle, {{{_VOLTAGE!r}: [...], {_CAPACITY!r}: [...]}}]."
            ) from None
    return tuple(curves)


def _processed_curves(entries: Any) -> tuple[Curve, ...]:
    curves = []
    for i, entry in enumerate(_listed(entries)):
        try:
            cycle, voltage, first = _cycle(entry["cycle_num"]), entry["V_std"], entry.get("Q0_std")
            if "Q_std" in entry or first is None:
                capacity = entry["Q_std"]
            else:
                capacity = _from_difference(voltage, first, entry["DQ_std"], entry.get("dQdV_std"))
            curves.append(Curve(cycle, voltage, capacity, entry.get("dQdV_std"), first))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise MeasurementError(
                f"entry {i + 1} must hold cycle_num, V_std and Q_std (or Q0_std and DQ_std); {error!r} is wrong."
            ) from None
    return tuple(curves)


def _listed(entries: Any) -> Sequence[Any]:
    if not isinstance(entries, list):
        raise MeasurementError(f"the cycles must be a list. Got a {type(entries).__name__}.")
    return entries


def _cycle(number: Any) -> int:
    if isinstance(number, bool) or not 1 <= float(number) <= MOST_CYCLES or float(number) != int(number):
        raise MeasurementError(f"cycles are counted from 1, to {MOST_CYCLES:,} at most. Got {number!r}.")
    return int(number)


def _from_difference(
    voltage: ArrayLike, first: ArrayLike, difference: ArrayLike, slope: ArrayLike | None
) -> np.ndarray:
    """Q from Q0 and DQ: of Q0 + DQ and Q0 - DQ the one whose slope is the stated dQ/dV (mAh/g)."""
    v, q0, dq = (np.asarray(a, float) for a in (voltage, first, difference))
    candidates = (q0 + dq, q0 - dq)
    if slope is None or len(v) < 2 or (np.diff(v) <= 0).any():
        return candidates[0] if np.mean(dq) <= 0 else candidates[1]  # capacity fades
    misfit = [float(np.abs(np.gradient(q, v) - np.asarray(slope, float)).sum()) for q in candidates]
    return candidates[int(np.argmin(misfit))]


def _csv_table(path: Path) -> pd.DataFrame:
    table = _separated(path)
    needed = [*_CASE_COLUMNS, "Vii", *(("Qii",) if "Qii" in table else ("Q0ii", "DQii"))]
    if missing := [c for c in needed if c not in table]:
        raise MeasurementError(f"{path.name}: not a DRX-TD csv, column {', '.join(missing)} missing.")
    for column in [c for c in _NUMBER_COLUMNS if c in table]:
        table[column] = _finite(table[column], path)
    if table.empty:
        raise MeasurementError(f"{path.name}: no rows below the header.")
    return table


def _separated(path: Path) -> pd.DataFrame:
    """The columns of a csv, whatever separates them."""
    text = _text(path)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)  # a comma as published, another where a spreadsheet saved it again
    decimal = "," if separator != "," and "," in text else "."
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, decimal=decimal, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise MeasurementError(f"{path.name}: not a readable csv ({str(error).strip()}).") from None
    table.columns = table.columns.astype(str).str.strip()
    return table


def _finite(column: pd.Series, path: Path) -> pd.Series:
    """The numbers of a column; one that is none or not finite is refused with its row."""
    values = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(values.to_numpy(float)))
    if len(bad):
        row = int(bad[0])
        raise MeasurementError(
            f"{path.name}, row {row + 2}: {column.name} must be a finite number. Got {str(column.iloc[row])!r}."
        )
    return values.astype(float)


def _cycles(rows: pd.DataFrame) -> list[Curve]:
    """One curve per cycle and cell, in the order of the file."""
    curves = []
    for cycle, points in rows.groupby("cycle", sort=False):
        voltage = points["Vii"].to_numpy(float)
        steps = np.diff(voltage)
        if (steps < 0).sum() > (steps > 0).sum():
            points, steps = points.iloc[::-1], -steps[::-1]
        breaks = np.flatnonzero(steps < 0) + 1
        if len(breaks) > len(points) / 4:  # shuffled rows of one cell
            points, breaks = points.sort_values("Vii", kind="stable"), np.array([], int)
        for part in np.split(np.arange(len(points)), breaks):
            columns = {
                c: points[c].to_numpy(float)[part] for c in ("Vii", "Qii", "Q0ii", "DQii", "dQdVii") if c in points
            }
            first, slope = columns.get("Q0ii"), columns.get("dQdVii")
            if "Qii" in columns:
                capacity = columns["Qii"]
            else:
                capacity = _from_difference(columns["Vii"], columns["Q0ii"], columns["DQii"], slope)
            curves.append(Curve(_cycle(cycle), columns["Vii"], capacity, slope, first))
    return curves


def _cells(curves: Iterable[Curve]) -> list[tuple[Curve, ...]]:
    """Deal curves out to cells: the second curve of the same cycle is the second cell's."""
    cells: dict[int, list[Curve]] = defaultdict(list)
    seen: Counter[int] = Counter()
    for curve in curves:
        cells[seen[curve.cycle]].append(curve)
        seen[curve.cycle] += 1
    return [tuple(cell) for cell in cells.values()]


def _first_cycle_on(first: SmoothedDischarge, voltage: np.ndarray) -> np.ndarray:
    if np.array_equal(first.profile.voltage_v, voltage):
        return first.profile.capacity_mah_g
    return first.curve(voltage)


def _processed_columns(curve: Curve) -> dict[str, np.ndarray | None]:
    return {
        "V_std": curve.voltage_v,
        "Q_std": curve.capacity_mah_g,
        "dQdV_std": curve.dqdv_mah_g_v,
        "Q0_std": curve.first_cycle_mah_g,
    }


def _raw_lists(curves: Iterable[Curve]) -> list[list[Any]]:
    return [[c.cycle, {_VOLTAGE: c.voltage_v.tolist(), _CAPACITY: c.capacity_mah_g.tolist()}] for c in curves]


def _frame(test: CyclingTest, curve: Curve, columns: ColumnSet) -> pd.DataFrame:
    first, slope = curve.first_cycle_mah_g, curve.dqdv_mah_g_v
    if first is None or slope is None:
        raise MeasurementError(
            f"{test.composition} cycle {curve.cycle}: a DRX-TD csv needs dQ/dV and the first cycle's capacity. "
            "Process the test first, and give it with its cycle 1."
        )
    values: dict[str, Any] = {
        "material_id": test.material_id,
        "composition": " ".join(f"{s}{a:g}" for s, a in test.composition.amounts().items()),
        "V_low": f"{test.v_low:.2f}" if round(test.v_low, 2) == test.v_low else test.v_low,
        "V_high": f"{test.v_high:.2f}" if round(test.v_high, 2) == test.v_high else test.v_high,
        "rate": test.current_ma_g,
        "cycle": curve.cycle,
        "theory_Q": test.composition.theoretical_capacity_mah_g,
        "Vii": curve.voltage_v,
        "Q0ii": first,
        "Qii": curve.capacity_mah_g,
        "DQii": curve.capacity_mah_g - first,
        "dQdVii": slope,
    }
    return pd.DataFrame({name: values[name] for name in COLUMN_SETS[columns]})
