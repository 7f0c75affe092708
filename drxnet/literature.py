"""Capacities that laboratories have published, and a model beside them.

``data/measured.csv`` holds one published discharge capacity per line: composition, conditions as far as they are
stated, what was done to the powder, and where the number can be read. The numbers are facts of the papers named beside
them; few papers state everything, and what is missing is empty. Letters for shapes: R rows, M members.
"""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from drxnet.composition import Composition
from drxnet.discharge import DEFAULT_WINDOW, CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import DataRefused, DatasetError, DRXWarning, UsageError
from drxnet.evaluation import members_interval
from drxnet.uncertainty import LEVEL, LITHIUM_RICH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
from drxnet.files import save_figure
from drxnet.style import new_figure, styled

Bound = Literal["value", "derived", "at least", "at most"]
"""How a number is meant: as it stands, worked out from two numbers of the same paper, or a bound."""

Route = Literal["", "solid-state", "solid-state, milled", "mechanochemical", "solution"]
"""How the powder was made, as far as the source says; milling with carbon after firing is one of its own."""

Laboratory = Literal["training", "other"]
"""Whether the cell comes from the group whose cells DRXNet was trained on."""

ASSUMED_CURRENT_MA_G = 20.0
"""Current where a paper states none: the low rate of most of them (mA/g)."""

CONSTANT_MAH_G = 230.0
"""Baseline: the same capacity for everything (mAh/g)."""

LITHIUM_FRACTION = 0.65
"""Baseline: the same fraction of the capacity of all lithium."""


@dataclass(frozen=True)
class PublishedCapacity:
    """One discharge capacity as a paper states it."""

    study: str
    """Rows of one study share cells, authors or both; what is left out together."""

    reference: str
    doi: str
    """Of the paper, or of the one that cites it; empty where none could be read."""

    composition: Composition
    capacity_mah_g: float
    bound: Bound
    current_ma_g: float | None
    v_low: float | None
    v_high: float | None
    cycle: int | None
    temperature_c: float | None
    mass_basis: Literal["active", "electrode"]
    """What the capacity is divided by: the oxide, or everything on the foil."""

    specific_energy_wh_kg: float | None
    laboratory: Laboratory
    route: Route
    processing: str
    quoted: Literal["primary", "secondary"]
    """Whether the number was read in the paper itself (or its abstract) or where another one cites it."""

    source_url: str

    @property
    def conditions(self) -> CyclingConditions:
        """How the cell was discharged; what is not stated is taken as 20 mA/g, 1.5-4.8 V and cycle 1."""
        return CyclingConditions(
            ASSUMED_CURRENT_MA_G if self.current_ma_g is None else self.current_ma_g,
            DEFAULT_WINDOW[0] if self.v_low is None else self.v_low,
            DEFAULT_WINDOW[1] if self.v_high is None else self.v_high,
            self.cycle or 1,
        )

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of the conditions that the source does not state."""
        stated = {"current": self.current_ma_g, "v_low": self.v_low, "v_high": self.v_high, "cycle": self.cycle}
        return tuple(name for name, value in stated.items() if value is None)

    @property
    def counted(self) -> bool:
        """Whether an error can be formed: a number, not a bound, per gram of oxide."""
        return self.bound in ("value", "derived") and self.mass_basis == "active"

    @property
    def group(self) -> str:
        """Which of :data:`GROUPS` the row belongs to."""
        if self.laboratory == "training":
            return GROUPS[0]
        return GROUPS[1] if self.composition.lithium >= LITHIUM_RICH - 1e-9 else GROUPS[2]


GROUPS = (
    "the group of the training data",
    f"other laboratories, Li >= {LITHIUM_RICH:g}",
    f"other laboratories, Li < {LITHIUM_RICH:g}",
)


@cache
def published_capacities() -> tuple[PublishedCapacity, ...]:
    """Every row of the shipped table, in its order."""
    return read_published(files("drxnet") / "data" / "measured.csv")  # type: ignore[arg-type]  # a Traversable


def read_published(path: Path) -> tuple[PublishedCapacity, ...]:
    """Read a table with the columns of ``data/measured.csv``.

    Raises:
        DatasetError: a column is missing, or a value is not what the column holds; the message names the line.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    reader = csv.DictReader(lines)
    wanted = ["composition", *(f for f in PublishedCapacity.__dataclass_fields__ if f != "composition")]
    missing = [name for name in wanted if name not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(f"{path}: a table of published capacities needs the columns {', '.join(missing)} too.")
    rows = []
    for row in reader:
        try:
            rows.append(_read_row(row))
        except (ValueError, TypeError, DataRefused) as error:
            raise DatasetError(f"{path}, line {reader.line_num}: {error}") from None
    return tuple(rows)


_WORDS: dict[str, tuple[str, ...]] = {
    "bound": get_args(Bound),
    "route": get_args(Route),
    "laboratory": get_args(Laboratory),
    "mass_basis": ("active", "electrode"),
    "quoted": ("primary", "secondary"),
}
_NUMBERS: dict[str, type] = {
    **dict.fromkeys(("current_ma_g", "v_low", "v_high", "temperature_c", "specific_energy_wh_kg"), float),
    "cycle": int,
}


def _read_row(row: dict[str, str]) -> PublishedCapacity:
    for name, words in _WORDS.items():
        if row[name] not in words:
            raise DatasetError(f"{name} is one of {', '.join(w or 'empty' for w in words)}. Got {row[name]!r}.")
    if not row["study"] or not row["reference"]:
        raise DatasetError("study and reference must not be empty.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRXWarning)  # that the cations are off is said in the row itself
        composition = Composition.parse(row["composition"], nonstoichiometric=True)
    values: dict[str, Any] = {name: row[name] for name in PublishedCapacity.__dataclass_fields__}
    values |= {name: kind(row[name]) if row[name] else None for name, kind in _NUMBERS.items()}
    values["capacity_mah_g"] = float(row["capacity_mah_g"])
    return PublishedCapacity(**{**values, "composition": composition})


# -- a model beside them ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LiteratureEvaluation:
    """What a model says of every published capacity, under the conditions that are stated or assumed."""

    model: str
    published: tuple[PublishedCapacity, ...]
    """R rows."""

    capacity_mah_g_members: np.ndarray
    """Predicted, ``M x R``."""

    def __len__(self) -> int:
        """Return R."""
        return len(self.published)

    @cached_property
    def capacity_mah_g(self) -> np.ndarray:
        """Published, R."""
        return np.array([p.capacity_mah_g for p in self.published])

    @property
    def mean_mah_g(self) -> np.ndarray:
        """Predicted mean over members, R."""
        return np.asarray(self.capacity_mah_g_members.mean(0))

    @property
    def spread_mah_g(self) -> np.ndarray:
        """Population standard deviation over members, R."""
        return np.asarray(self.capacity_mah_g_members.std(0))

    @property
    def error_mah_g(self) -> np.ndarray:
        """Predicted minus published, R; 0 where a bound is kept."""
        error = self.mean_mah_g - self.capacity_mah_g
        bounds = np.array([p.bound for p in self.published])
        error = np.where((bounds == "at least") & (error > 0), 0.0, error)
        return np.where((bounds == "at most") & (error < 0), 0.0, error)

    @property
    def counted(self) -> np.ndarray:
        """Which rows have an error: numbers, not bounds, per gram of oxide, R."""
        return np.array([p.counted for p in self.published])

    @property
    def lithium_capacity_mah_g(self) -> np.ndarray:
        """Capacity of all lithium, R."""
        return np.array([p.composition.theoretical_capacity_mah_g for p in self.published])

    def select(self, rows: np.ndarray) -> LiteratureEvaluation:
        """Keep some rows, given by a mask."""
        kept = tuple(p for p, keep in zip(self.published, rows.tolist(), strict=True) if keep)
        return replace(self, published=kept, capacity_mah_g_members=self.capacity_mah_g_members[:, rows])


class IntervalMethod(Protocol):
    """How an interval is drawn around predictions, having seen other rows."""

    def __call__(
        self, known: LiteratureEvaluation, asked: LiteratureEvaluation, level: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends for the rows asked about (mAh/g).

        Args:
            known: rows whose published capacities may be used.
            asked: rows whose published capacities must not be.
            level: share of the truths that should lie inside.
        """


def of_members(known: LiteratureEvaluation, asked: LiteratureEvaluation, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Interval that the members' spread alone gives; learns nothing from the known rows."""
    return members_interval(asked.capacity_mah_g_members, level)


@dataclass(frozen=True)
class Coverage:
    """How many of the published capacities lie inside intervals that did not see them."""

    covered: int
    count: int
    studies: int

    @property
    def share(self) -> float:
        """Share inside."""
        return self.covered / self.count

    @property
    def range(self) -> tuple[float, float]:
        """95 % interval of the share, were the rows independent (Clopper and Pearson, Biometrika 26, 404 (1934))."""
        from scipy.stats import beta

        k, n = self.covered, self.count
        low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
        return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


def leave_one_study_out(
    evaluation: LiteratureEvaluation, method: IntervalMethod, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends for every row, from a method that has not seen any row of the same study (mAh/g), R each.

    Rows of one DOI are always of one study; a study may have two (a paper and an abstract on the same cells).

    Raises:
        UsageError: all rows are of one study.
    """
    studies = np.array([p.study for p in evaluation.published])
    if len(set(studies.tolist())) < 2:
        raise UsageError("Leaving one study out needs rows of at least two studies.")
    lower, upper = np.empty(len(evaluation)), np.empty(len(evaluation))
    for study in dict.fromkeys(studies.tolist()):
        left_out = studies == study
        ends = method(evaluation.select(~left_out), evaluation.select(left_out), level)
        lower[left_out], upper[left_out] = ends
    return lower, upper


def coverage(evaluation: LiteratureEvaluation, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray) -> Coverage:
    """Count published capacities inside intervals, over those of the given rows that have an error.

    Args:
        evaluation: R rows.
        lower: ends of the intervals (mAh/g), R.
        upper: likewise.
        rows: mask of the rows to look at, R.
    """
    at = rows & evaluation.counted
    truth = evaluation.capacity_mah_g
    studies = {p.study for p, here in zip(evaluation.published, at.tolist(), strict=True) if here}
    return Coverage(int(((lower <= truth) & (truth <= upper))[at].sum()), int(at.sum()), len(studies))


def evaluate_literature(ensemble: Ensemble) -> LiteratureEvaluation:
    """Predict every published capacity of the shipped table."""
    rows = published_capacities()
    members = [
        ensemble.capacity([p.composition], [p.conditions]).cpu().double().numpy()[:, 0, 0] for p in rows
    ]  # one by one: every row has conditions of its own
    return LiteratureEvaluation(ensemble.card.name, rows, np.stack(members, 1))


def summary(evaluation: LiteratureEvaluation, method: IntervalMethod) -> list[dict[str, Any]]:
    """Errors of the model and of two baselines, and coverage, for each of :data:`GROUPS` and for all.

    Args:
        evaluation: of :func:`evaluate_literature`.
        method: of the calibrated interval; each row is left out with its study.
    """
    from scipy.stats import spearmanr

    of_group = np.array([p.group for p in evaluation.published])
    calibrated = leave_one_study_out(evaluation, method)
    members = leave_one_study_out(evaluation, of_members)
    rows = []
    for name in (*GROUPS, "all"):
        where = (of_group == name) | (name == "all")
        at = where & evaluation.counted
        if not at.any():
            continue
        truth, predicted = evaluation.capacity_mah_g[at], evaluation.mean_mah_g[at]
        bounds = where & np.array([p.bound in ("at least", "at most") for p in evaluation.published])
        ranked = len(set(truth.tolist())) > 2
        inside, spread = (coverage(evaluation, *ends, where) for ends in (calibrated, members))
        rows.append(
            {
                "group": name,
                "rows": int(at.sum()),
                "studies": inside.studies,
                "capacity_mae_mah_g": float(np.abs(predicted - truth).mean()),
                "capacity_bias_mah_g": float((predicted - truth).mean()),
                "rank_correlation": float(spearmanr(truth, predicted).statistic) if ranked else None,
                "constant_mae_mah_g": float(np.abs(CONSTANT_MAH_G - truth).mean()),
                "lithium_fraction_mae_mah_g": float(
                    np.abs(LITHIUM_FRACTION * evaluation.lithium_capacity_mah_g[at] - truth).mean()
                ),
                "members_coverage": spread.share,
                "coverage": inside.share,
                "coverage_low": inside.range[0],
                "coverage_high": inside.range[1],
                "bounds": int(bounds.sum()),
                "bounds_broken": int((bounds & (np.abs(evaluation.error_mah_g) > 0)).sum()),
            }
        )
    return rows


def table(evaluation: LiteratureEvaluation, method: IntervalMethod) -> list[dict[str, Any]]:
    """Every row with its prediction and the interval of a method that has not seen its study, as plain values."""
    lower, upper = leave_one_study_out(evaluation, method)
    return [
        {
            "composition": p.composition.formula,
            "reference": p.reference,
            "doi": p.doi,
            "study": p.study,
            "laboratory": p.laboratory,
            "route": p.route,
            "processing": p.processing,
            "quoted": p.quoted,
            "current_ma_g": p.conditions.current_ma_g,
            "v_low": p.conditions.v_low,
            "v_high": p.conditions.v_high,
            "cycle": p.conditions.cycle,
            "assumed": list(p.assumed),
            "mass_basis": p.mass_basis,
            "bound": p.bound,
            "measured_mah_g": p.capacity_mah_g,
            "capacity_mah_g_mean": float(evaluation.mean_mah_g[i]),
            "capacity_mah_g_std": float(evaluation.spread_mah_g[i]),
            "capacity_mah_g_lower": float(lower[i]),
            "capacity_mah_g_upper": float(upper[i]),
            "error_mah_g": float(evaluation.error_mah_g[i]) if p.mass_basis == "active" else None,
        }
        for i, p in enumerate(evaluation.published)
    ]


_MARKERS: dict[str, tuple[str, str]] = {
    "": ("o", "processing not stated"),
    "solid-state": ("s", "solid state"),
    "solid-state, milled": ("D", "solid state, then milled"),
    "mechanochemical": ("^", "mechanochemical"),
    "solution": ("v", "from solution"),
}
_LABORATORIES = {"training": ("#D55E00", "group of the training data"), "other": ("#0072B2", "other laboratories")}


@styled
def plot_literature(evaluation: LiteratureEvaluation, path: Path, method: IntervalMethod) -> None:
    """Draw published and predicted capacities: parity, and one bar per row; laboratory and processing marked.

    Args:
        evaluation: of :func:`evaluate_literature`.
        path: ``.png``, ``.svg`` or ``.pdf``.
        method: of the calibrated interval.
    """
    lower, upper = leave_one_study_out(evaluation, method)
    figure = new_figure(16, 10.5)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    left, right = halves
    parity, said = left.subplots(2, 1, height_ratios=[2.4, 1])
    _draw_parity(parity, evaluation, lower, upper)
    _draw_bars(right.subplots(), evaluation, lower, upper)
    said.axis("off")
    said.legend(handles=_legend(), loc="upper left", frameon=False, fontsize=8.5)
    lines = [
        f"{row['group']}: {row['rows']} rows of {row['studies']} studies,\nMAE {row['capacity_mae_mah_g']:.0f}, bias "
        f"{row['capacity_bias_mah_g']:+.0f}, inside the interval {row['coverage']:.0%}\n"
        f"(constant {row['constant_mae_mah_g']:.0f}, {LITHIUM_FRACTION:g} x Li capacity "
        f"{row['lithium_fraction_mae_mah_g']:.0f})"
        for row in summary(evaluation, method)
    ]
    lines.append("Not stated in a paper: taken as 20 mA/g, 1.5-4.8 V, cycle 1.")
    said.text(0.52, 0.97, "\n\n".join(lines), fontsize=8.5, va="top", color="0.25")
    save_figure(figure, path, dpi=130)


def _style(row: PublishedCapacity) -> tuple[str, str, bool]:
    """Colour by laboratory, marker by processing, and whether the capacity is per gram of oxide."""
    return _LABORATORIES[row.laboratory][0], _MARKERS[row.route][0], row.mass_basis == "active"


def _draw_parity(axes: Axes, evaluation: LiteratureEvaluation, lower: np.ndarray, upper: np.ndarray) -> None:
    top = 40 + max(float(evaluation.capacity_mah_g.max()), float(evaluation.mean_mah_g.max()))
    axes.plot([0, top], [0, top], color="0.75", zorder=0)
    for i, row in enumerate(evaluation.published):
        x, y, spread = row.capacity_mah_g, float(evaluation.mean_mah_g[i]), float(evaluation.spread_mah_g[i])
        colour, marker, whole = _style(row)
        axes.plot([x, x], [lower[i], upper[i]], color=colour, alpha=0.22, linewidth=1, zorder=1)
        axes.plot([x, x], [max(0.0, y - spread), y + spread], color=colour, alpha=0.7, linewidth=3.5, zorder=2)
        axes.plot(x, y, marker, color=colour, markerfacecolor=colour if whole else "white", markersize=6, zorder=3)
        if row.bound in ("at least", "at most"):
            ahead = 16 if row.bound == "at least" else -16
            axes.annotate(
                "", (x + ahead, y), (x, y), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.2}, zorder=4
            )
    axes.axhline(CONSTANT_MAH_G, color="0.6", linestyle=":", linewidth=1)
    axes.annotate(
        f"constant {CONSTANT_MAH_G:g}", (top, CONSTANT_MAH_G), fontsize=7, color="0.4", ha="right", va="bottom"
    )
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel="published discharge capacity (mAh/g)", ylabel="predicted discharge capacity (mAh/g)")
    axes.set_title(f"{evaluation.model} beside published cells", fontsize=11)


def _draw_bars(axes: Axes, evaluation: LiteratureEvaluation, lower: np.ndarray, upper: np.ndarray) -> None:
    """One row per published capacity: the bar is measured, the mark with both spreads predicted."""
    order = sorted(range(len(evaluation)), key=lambda i: (evaluation.published[i].group, -evaluation.capacity_mah_g[i]))
    labels = []
    for place, i in enumerate(order):
        row = evaluation.published[i]
        colour, marker, whole = _style(row)
        axes.barh(
            place,
            row.capacity_mah_g,
            height=0.72,
            color=colour,
            alpha=0.3 if whole else 0.12,
            edgecolor=colour,
            linewidth=0.4,
        )
        sign = {"at least": "≥ ", "at most": "≤ "}.get(row.bound, "")
        mean, spread = float(evaluation.mean_mah_g[i]), float(evaluation.spread_mah_g[i])
        axes.plot([lower[i], upper[i]], [place, place], color="0.25", alpha=0.45, linewidth=1)
        axes.plot([max(0.0, mean - spread), mean + spread], [place, place], color="0.1", linewidth=3, alpha=0.6)
        axes.plot(mean, place, marker, color="0.1", markerfacecolor="0.1" if whole else "white", markersize=5)
        conditions = row.conditions
        labels.append(
            f"{row.composition}, {conditions.current_ma_g:g} mA/g, cycle {conditions.cycle} [{row.study}]: "
            f"{sign}{row.capacity_mah_g:.0f}"
        )
    axes.set_yticks(range(len(order)), labels, fontsize=6.5, parse_math=False)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, None), xlabel="discharge capacity (mAh/g)")
    axes.set_title("bars: published; marks: predicted, with both spreads", fontsize=10)


def _legend() -> list[Line2D]:
    from matplotlib.lines import Line2D

    def entry(**style: Any) -> Line2D:
        return Line2D([], [], **style)

    return [
        *(entry(color=c, linewidth=3.5, label=label) for c, label in _LABORATORIES.values()),
        *(entry(marker=m, color="0.3", linestyle="", label=label) for m, label in _MARKERS.values()),
        entry(marker="o", color="0.3", markerfacecolor="white", linestyle="", label="per gram of electrode"),
        entry(color="0.3", linewidth=3.5, alpha=0.7, label="± 1 s.d. over members (ddof 0)"),
        entry(color="0.3", linewidth=1, alpha=0.4, label=f"{LEVEL:.0%} interval, fitted to the other studies"),
        entry(marker=r"$\rightarrow$", markersize=12, color="0.3", linestyle="", label="published as a bound"),
    ]
