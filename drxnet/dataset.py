"""Discharge profiles as arrays: what a model is trained on, tested on and fine-tuned with.

One row per profile. Letters for shapes: P profiles, K voltages of a profile, M members when every member has targets
of its own. NaN stands for what is not known: the dQ/dV of a cell of which only the capacity was reported, the first
cycle of a cell of which only later ones were kept.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile

import numpy as np

from drxnet.composition import Composition
from drxnet.discharge import GRID_POINTS, SAME_CURRENT, CyclingConditions, DischargeProfile
from drxnet.errors import DataRefused, DatasetError
from drxnet.files import new_file, save_figure
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from drxnet.style import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from drxnet.drxtd import CyclingTest

FAMILIES = ("2TM", "3TM", "HE")
"""Compositions by their number of metals besides lithium: at most two, three, more (Zhong et al., Joule 8, 2024)."""

MAX_CAPACITY_MAH_G = 1000.0
"""No lithium cathode delivers more; such a number is a wrong unit or mass."""

SAME_CUTOFF_V = 0.02
"""Difference of cut-offs up to which two discharges ran through the same window (V)."""


class MeasuredDischarge(Protocol):
    """What a training set needs to know of one discharge; a checked measurement is one."""

    @property
    def composition(self) -> Composition | None:
        """Composition of the cathode."""

    @property
    def conditions(self) -> CyclingConditions | None:
        """How the cell was discharged."""

    @property
    def profile(self) -> DischargeProfile | None:
        """The whole discharge, or None when only its capacity is known."""

    @property
    def capacity_mah_g(self) -> float | None:
        """Capacity at the lower cut-off (mAh/g)."""


@dataclass(frozen=True)
class Record:
    """One discharge, the plainest form of :class:`Discharge`."""

    composition: Composition
    conditions: CyclingConditions
    profile: DischargeProfile | None = None
    capacity_mah_g: float | None = None


@dataclass(frozen=True, eq=False)
class ProfileSet:
    """Discharge profiles of many cells, one row each."""

    compositions: tuple[Composition, ...]
    """Composition of each profile, P."""

    current_ma_g: np.ndarray
    """Discharge current (mA/g), P."""

    cycle: np.ndarray
    """Cycle number from 1, P."""

    window_v: np.ndarray
    """Lower and upper cut-off (V), P x 2."""

    voltage_v: np.ndarray
    """Voltages, ascending (V), P x K. All at the lower cut-off where only the capacity is known."""

    capacity_mah_g: np.ndarray
    """Capacity at each voltage (mAh/g), P x K, or M x P x K when each member has its own."""

    dqdv_mah_g_v: np.ndarray
    """Its derivative, never positive (mAh/g/V), shaped alike; NaN where not known."""

    first_capacity_mah_g: np.ndarray
    """Capacity of the same cell's first cycle at the same voltages (mAh/g), shaped alike; NaN where not known."""

    processes: tuple[Process, ...] = ()
    """How each cell was made and tested as far as stated, P; empty when nothing is stated of any."""

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            DatasetError: no profile, shapes that do not fit, or values that no cell has.
        """
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        object.__setattr__(self, "compositions", tuple(self.compositions))
        object.__setattr__(self, "processes", tuple(self.processes) if any(self.processes) else ())
        p = len(self.compositions)
        if p == 0:
            raise DatasetError("A training set needs at least one profile. Got none.")
        k = self.voltage_v.shape[-1]
        targets = (p, k) if self.capacity_mah_g.ndim == 2 else (len(self.capacity_mah_g), p, k)
        expected = {
            "current_ma_g": (p,),
            "cycle": (p,),
            "window_v": (p, 2),
            "voltage_v": (p, k),
            "capacity_mah_g": targets,
            "dqdv_mah_g_v": targets,
            "first_capacity_mah_g": targets,
        }
        if self.processes and len(self.processes) != p:
            raise DatasetError(f"processes must be one for each of {p} profiles. Got {len(self.processes)}.")
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise DatasetError(f"{name} must have the shape {shape}. Got {getattr(self, name).shape}.")
        for name in ("current_ma_g", "cycle", "window_v", "voltage_v", "capacity_mah_g"):
            self._refuse_rows(~np.isfinite(getattr(self, name)), f"{name} must be finite")
        self._refuse_rows(self.current_ma_g <= 0, "the current must be positive")
        self._refuse_rows(self.cycle < 1, "cycles are counted from 1")
        self._refuse_rows(self.window_v[:, 0] >= self.window_v[:, 1], "the lower cut-off must lie below the upper one")
        too_much = np.abs(self.capacity_mah_g) > MAX_CAPACITY_MAH_G
        self._refuse_rows(too_much, f"a capacity must lie within {MAX_CAPACITY_MAH_G:g} mAh/g")

    def _refuse_rows(self, bad: np.ndarray, rule: str) -> None:
        axes = {1: (), 2: (1,), 3: (0, 2)}[bad.ndim]
        rows = np.flatnonzero(bad.any(axes) if axes else bad)
        if len(rows):
            first = int(rows[0])
            raise DatasetError(
                f"Profile {first} ({self.compositions[first]}, {self.current_ma_g[first]:g} mA/g, "
                f"cycle {self.cycle[first]:g}): {rule}. It and {len(rows) - 1} more break this; leave them out or "
                "repair them."
            )

    # -- how it is made -----------------------------------------------------------------------------------

    @classmethod
    def from_discharges(
        cls, discharges: Iterable[MeasuredDischarge], *, cells: Sequence[str] | None = None, points: int = GRID_POINTS
    ) -> ProfileSet:
        """Collect measured discharges, each resampled on its own even voltage grid.

        Capacity between the measured points and dQ/dV follow from monotone cubic interpolation (Fritsch and
        Carlson, SIAM J. Numer. Anal. 17, 238 (1980)).

        Args:
            discharges: whole profiles and mere capacities, in any order.
            cells: which cell each belongs to, to know whose first cycle is whose; by default all of the same
                composition are taken as one cell (first cycles at :func:`same_rate` averaged).
            points: K.

        Raises:
            DatasetError: a discharge lacks its composition, its conditions, or both profile and capacity.
        """
        listed = list(discharges)
        names = [""] * len(listed) if cells is None else list(cells)
        if len(names) != len(listed):
            raise DatasetError(f"One cell name per discharge. Got {len(names)} for {len(listed)}.")
        rows = [_Row.of(number, discharge, points) for number, discharge in enumerate(listed)]
        first: dict[tuple[Composition, str], list[_Row]] = defaultdict(list)
        keys = [(row.composition, name) for row, name in zip(rows, names, strict=True)]
        for key, row in zip(keys, rows, strict=True):
            if row.conditions.cycle == 1:
                first[key].append(row)
        return cls._stack(rows, [row.first_cycle(first[key]) for key, row in zip(keys, rows, strict=True)])

    @classmethod
    def from_tests(cls, tests: Iterable[CyclingTest]) -> ProfileSet:
        """Collect DRX-TD cycling tests, every discharge on an even grid over the voltages that it reached.

        Args:
            tests: as :mod:`drxnet.drxtd` reads them.

        Raises:
            DatasetError: no discharge among them.
            MeasurementError: a discharge with fewer than two different voltages.
        """
        from drxnet.drxtd import standardize

        rows: list[_Row] = []
        first: list[np.ndarray] = []
        for test in tests:
            for curve in standardize(test, grid="measured").discharges:
                assert curve.dqdv_mah_g_v is not None  # standardized
                values = (curve.voltage_v, curve.capacity_mah_g, curve.dqdv_mah_g_v)
                rows.append(_Row(test.composition, test.conditions(curve.cycle), *values, None))
                known = curve.first_cycle_mah_g
                first.append(np.full(GRID_POINTS, np.nan) if known is None else known)
        return cls._stack(rows, first)

    @classmethod
    def _stack(cls, rows: Sequence[_Row], first: Sequence[np.ndarray]) -> ProfileSet:
        if not rows:
            raise DatasetError("A training set needs at least one profile. Got none.")
        return cls(
            compositions=tuple(row.composition for row in rows),
            current_ma_g=np.array([row.conditions.current_ma_g for row in rows]),
            cycle=np.array([row.conditions.cycle for row in rows]),
            window_v=np.array([row.conditions.window for row in rows]),
            voltage_v=np.stack([row.voltage for row in rows]),
            capacity_mah_g=np.stack([row.capacity for row in rows]),
            dqdv_mah_g_v=np.stack([row.dqdv for row in rows]),
            first_capacity_mah_g=np.stack(first),
            processes=tuple(row.conditions.process for row in rows),
        )

    # -- what it holds ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of profiles."""
        return len(self.compositions)

    @property
    def points(self) -> int:
        """Voltages of a profile, K."""
        return self.voltage_v.shape[1]

    @property
    def members(self) -> int | None:
        """Number of members with targets of their own; None when all learn the same."""
        return len(self.capacity_mah_g) if self.capacity_mah_g.ndim == 3 else None

    @property
    def each_process(self) -> tuple[Process, ...]:
        """How each cell was made and tested, P, those of which nothing is stated too."""
        return self.processes or (NOT_STATED,) * len(self)

    @property
    def conditions(self) -> list[CyclingConditions]:
        """How each profile was discharged."""
        return [
            CyclingConditions(float(i), float(low), float(high), int(n), process)
            for i, (low, high), n, process in zip(
                self.current_ma_g, self.window_v, self.cycle, self.each_process, strict=True
            )
        ]

    @property
    def whole(self) -> np.ndarray:
        """Which rows are whole profiles, not mere capacities, P."""
        return self.voltage_v[:, 0] < self.voltage_v[:, -1]

    @cached_property
    def unique(self) -> tuple[tuple[Composition, ...], np.ndarray]:
        """The different compositions, in order of appearance, and the index of each profile's among them."""
        index: dict[Composition, int] = {}
        which = np.array([index.setdefault(c, len(index)) for c in self.compositions])
        return tuple(index), which

    @property
    def elements(self) -> tuple[str, ...]:
        """Every cation that occurs, lithium first, then by how often."""
        count = Counter(s for c in self.unique[0] for s in c.elements if s != "Li")
        return ("Li", *(s for s, _ in count.most_common()))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything in the set (SHA-256)."""
        digest = hashlib.sha256("\n".join(c.formula for c in self.compositions).encode())
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        if self.processes:
            digest.update("\n".join(_written(p) for p in self.processes).encode())
        return digest.hexdigest()

    # -- parts of it --------------------------------------------------------------------------------------

    def select(self, rows: np.ndarray | Sequence[int]) -> ProfileSet:
        """Keep some of the profiles, given by their indices or by a mask."""
        at = np.asarray(rows)
        at = np.flatnonzero(at) if at.dtype == bool else at.astype(int)
        parts: dict[str, Any] = {
            "compositions": tuple(self.compositions[i] for i in at),
            "processes": tuple(self.each_process[i] for i in at),
        }
        for name in _ARRAYS:
            array = getattr(self, name)
            parts[name] = array[:, at] if array.ndim == 3 else array[at]
        return ProfileSet(**parts)

    def for_members(self, members: int) -> ProfileSet:
        """Give every member its targets; the same ones unless they have their own already.

        Raises:
            DatasetError: targets of another number of members.
        """
        if self.members is None:
            names = ("capacity_mah_g", "dqdv_mah_g_v", "first_capacity_mah_g")
            repeated: dict[str, Any] = {n: np.repeat(getattr(self, n)[None], members, 0) for n in names}
            return replace(self, **repeated)
        if self.members != members:
            raise DatasetError(f"The set has targets for {self.members} members. Got a network of {members}.")
        return self

    def families(self) -> dict[str, np.ndarray]:
        """Rows of each of :data:`FAMILIES`."""
        of = np.array([family(c) for c in self.compositions])
        return {name: np.flatnonzero(of == name) for name in FAMILIES}

    def hold_out(self, fraction: float, seed: int) -> tuple[ProfileSet, ProfileSet]:
        """Split by composition, none on both sides.

        Args:
            fraction: of the compositions that go to the second set; at least one goes to each.
            seed: of the choice.

        Raises:
            DatasetError: fewer than two compositions.
        """
        folds = self.folds(2, seed, first_share=1 - fraction)
        return self.select(folds == 0), self.select(folds == 1)

    def folds(self, count: int, seed: int, *, first_share: float | None = None) -> np.ndarray:
        """Number of a fold for every profile, P, the same for all of a composition.

        Args:
            count: of folds.
            seed: of the choice.
            first_share: share of the compositions in fold 0; by default all folds are equal.

        Raises:
            DatasetError: fewer compositions than folds.
        """
        compositions, which = self.unique
        n = len(compositions)
        if n < count:
            raise DatasetError(
                f"Splitting by composition into {count} needs as many compositions. Got {n}: add cells of others."
            )
        order = np.random.default_rng(seed).permutation(n)
        of = np.empty(n, int)
        if first_share is None:
            of[order] = np.arange(n) % count
        else:
            first = min(max(round(first_share * n), 1), n - 1)
            of[order[:first]] = 0
            of[order[first:]] = 1 + np.arange(n - first) % (count - 1)
        return of[which]

    # -- on disk ------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write everything to one ``.npz`` file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        # dQ/dV and capacities to 32 bits: 1e-5 mAh/g
        arrays = {n: a.astype(np.float32) if a.ndim == 3 else a for n, a in arrays.items()}
        texts: dict[str, Any] = {"compositions": np.array([c.formula for c in self.compositions])}
        if self.processes:
            texts["processes"] = np.array([_written(p) for p in self.processes])
        with new_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **texts, **arrays)

    @classmethod
    def load(cls, path: Path) -> ProfileSet:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: not such a file.
        """
        damaged = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile, zlib.error)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
                formulas = [str(c) for c in stored["compositions"]]
                processes = tuple(Process.of(json.loads(str(p))) for p in stored.get("processes", ()))
        except damaged as error:
            raise DatasetError(
                f"{path}: not a set of profiles written by this package, or damaged ({error}). Write it again."
            ) from None
        parsed = {f: Composition.parse(f) for f in set(formulas)}
        return cls(compositions=tuple(parsed[f] for f in formulas), processes=processes, **arrays)


_ARRAYS = tuple(f.name for f in fields(ProfileSet) if f.name not in ("compositions", "processes"))
"""What a set holds as arrays."""


def _written(process: Process) -> str:
    return json.dumps(process.row(), sort_keys=True)


@dataclass(frozen=True, eq=False)
class _Row:
    composition: Composition
    conditions: CyclingConditions
    voltage: np.ndarray
    capacity: np.ndarray
    dqdv: np.ndarray
    profile: DischargeProfile | None

    @classmethod
    def of(cls, number: int, discharge: MeasuredDischarge, points: int) -> _Row:
        composition, conditions, profile = discharge.composition, discharge.conditions, discharge.profile
        if composition is None or conditions is None:
            missing = "composition" if composition is None else "cycling conditions"
            raise DatasetError(f"Discharge {number}: a training set needs the {missing} of every discharge.")
        if profile is None:
            if discharge.capacity_mah_g is None:
                raise DatasetError(f"Discharge {number} ({composition}): neither a profile nor a capacity.")
            level = np.full(points, conditions.v_low), np.full(points, discharge.capacity_mah_g)
            return cls(composition, conditions, *level, np.full(points, np.nan), None)
        from scipy.interpolate import PchipInterpolator

        curve = PchipInterpolator(profile.voltage_v, profile.capacity_mah_g)
        voltage = np.linspace(profile.voltage_v[0], profile.voltage_v[-1], points)
        slope = np.minimum(curve(voltage, 1), 0.0)
        return cls(composition, conditions, voltage, np.maximum(curve(voltage), 0.0), slope, profile)

    def first_cycle(self, candidates: Sequence[_Row]) -> np.ndarray:
        """Capacity of the first cycle at this row's voltages and rate (mAh/g); NaN when there is none."""
        if self.conditions.cycle == 1:
            return self.capacity
        known = []
        for row in candidates:
            if not same_rate(row.conditions, self.conditions):
                continue
            if self.profile is not None and row.profile is not None:
                known.append(np.interp(self.voltage, row.profile.voltage_v, row.profile.capacity_mah_g))
            elif self.profile is None:
                at_cutoff = row.capacity[0] if row.profile is None else row.profile.total_capacity_mah_g
                known.append(np.full_like(self.capacity, at_cutoff))
        return np.mean(known, axis=0) if known else np.full_like(self.capacity, np.nan)


def same_rate(one: CyclingConditions, other: CyclingConditions) -> bool:
    """Whether two discharges ran at the same current and window, as closely as a cycler measures them."""
    return abs(other.current_ma_g - one.current_ma_g) <= SAME_CURRENT * one.current_ma_g and all(
        abs(a - b) <= SAME_CUTOFF_V + 1e-9 for a, b in zip(one.window, other.window, strict=True)
    )


def read_profiles(
    path: Path,
    *,
    on_refused: Callable[[Path, DataRefused], None] | None = None,
    progress: Progress = silent,
) -> ProfileSet:
    """Read a set of profiles: a ``.npz`` of this package, a DRX-TD json or csv, or a folder of those.

    Args:
        path: file or folder.
        on_refused: called with each file of a folder that cannot be used; by default the first one raises.
        progress: told of files.

    Raises:
        DatasetError: nothing there, or nothing that can be used.
        MeasurementError: a file that is damaged.
    """
    from drxnet import drxtd

    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder.")
    if path.is_dir():
        return ProfileSet.from_tests(drxtd.read_folder(path, on_refused, progress))
    return ProfileSet.load(path) if path.suffix == ".npz" else ProfileSet.from_tests(drxtd.read(path))


def family(composition: Composition) -> str:
    """Family of a composition, one of :data:`FAMILIES`."""
    metals = len(composition.metals)
    return FAMILIES[0] if metals <= 2 else FAMILIES[1] if metals == 3 else FAMILIES[2]


def refuse_overlap(train: ProfileSet, test: ProfileSet, *, first_cycle_allowed: bool = False) -> None:
    """Make sure that a test is one.

    Args:
        train: what was learned from.
        test: what is predicted.
        first_cycle_allowed: first cycles of the test compositions may be in the training set.

    Raises:
        DatasetError: a composition is on both sides.
    """
    learned = {c for c, n in zip(train.compositions, train.cycle, strict=True) if n > 1 or not first_cycle_allowed}
    both = sorted({c.formula for c in test.compositions if c in learned})
    if both:
        raise DatasetError(
            f"A composition may not be trained on and tested: {', '.join(both[:3])}"
            f"{f' and {len(both) - 3} more' if len(both) > 3 else ''}. Split by composition."
        )


def summarize(profiles: ProfileSet) -> dict[str, Any]:
    """Count what a set holds: profiles and compositions per element, per family, per rate, per cycle."""
    compositions, which = profiles.unique
    per_composition = np.bincount(which, minlength=len(compositions))
    elements: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for composition, count in zip(compositions, per_composition, strict=True):
        for symbol in (*composition.elements, "O", *(["F"] if composition.fluorine else [])):
            elements[symbol] += int(count)
            made[symbol] += 1
    return {
        "profiles": len(profiles),
        "capacity_only": int((~profiles.whole).sum()),
        "compositions": len(compositions),
        "oxides": int(sum(c.fluorine == 0 for c in profiles.compositions)),
        "oxyfluorides": int(sum(c.fluorine > 0 for c in profiles.compositions)),
        "families": {name: len(rows) for name, rows in profiles.families().items()},
        "elements": {s: {"profiles": n, "compositions": made[s]} for s, n in elements.most_common()},
        "current_ma_g": _histogram(profiles.current_ma_g),
        "windows_v": _histogram(f"{low:g}-{high:g}" for low, high in profiles.window_v),
        "cycles": _histogram(profiles.cycle),
    }


def _histogram(values: Iterable[Any]) -> dict[Any, int]:
    plain = (int(v) if isinstance(v, float) and v == int(v) else v for v in values)
    return dict(sorted(Counter(plain).items()))


def _places() -> dict[str, tuple[int, int]]:
    """Column and row of each element up to Rn in the periodic table, without those from Ce to Lu."""
    from pymatgen.core.periodic_table import Element

    elements = [Element.from_Z(number) for number in (*range(1, 58), *range(72, 87))]
    return {e.symbol: (e.group - 1, e.row - 1) for e in elements}


@styled
def plot_summary(summary: Mapping[str, Any], path: Path, *, note: str = "") -> None:
    """Draw what a set holds, as figure 2A and B of Zhong et al. do: elements, cycles, currents.

    Args:
        summary: of :func:`summarize`.
        path: ``.png``, ``.svg`` or ``.pdf``.
        note: written above, such as that the cells are simulated.
    """
    figure = new_figure(11, 7)
    table, cycles, currents = figure.subplot_mosaic(
        [["table", "table"], ["cycles", "currents"]], height_ratios=[3, 2]
    ).values()
    _draw_elements(table, summary["elements"])
    table.set_title(
        f"{summary['profiles']} profiles of {summary['compositions']} compositions: "
        "compositions (number) and profiles (colour) per element",
        fontsize=10,
    )
    for axes, key, label in ((cycles, "cycles", "cycle"), (currents, "current_ma_g", "current (mA/g)")):
        values = np.array([float(v) for v in summary[key]])
        edges = np.geomspace(max(values.min(), 0.5) * 0.9, values.max() * 1.1, 25)
        axes.hist(values, bins=edges.tolist(), weights=list(summary[key].values()), color="#0072B2")
        axes.set(xscale="log", xlabel=label, ylabel="profiles")
    if note:
        figure.suptitle(note, fontsize=9, color="#B00000", x=0.01, ha="left")
    save_figure(figure, path, dpi=150)


def _draw_elements(axes: Axes, elements: Mapping[str, Mapping[str, int]]) -> None:
    """Draw a periodic table with the number of compositions, and in colour of profiles, of each element."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, to_hex
    from matplotlib.patches import Rectangle

    counts = [e["profiles"] for e in elements.values()]
    norm, colours = LogNorm(max(1, min(counts) / 2), max(counts)), colormaps["YlGnBu"]
    for symbol, (column, row) in _places().items():
        colour, ink = "#f0f0f0", "#b0b0b0"
        if held := elements.get(symbol):
            share = float(norm(held["profiles"]))
            colour, ink = to_hex(colours(share)), "white" if share > 0.6 else "black"
            made = str(held["compositions"])
            axes.text(column + 0.47, -row + 0.25, made, ha="center", va="center", fontsize=7, color=ink)
        axes.add_patch(Rectangle((column, -row), 0.94, 0.94, color=colour))
        axes.text(column + 0.47, -row + 0.62, symbol, ha="center", va="center", fontsize=9, color=ink)
    axes.set(xlim=(-0.1, 18.1), ylim=(-5.2, 1.1), aspect="equal")
    axes.axis("off")
