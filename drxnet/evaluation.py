"""How good is an ensemble on profiles that it has not seen, and does its spread mean what it says.

The protocol of Zhong et al., Joule 8 (2024), figure 3: families of compositions are split, and what counts is the
capacity delivered, and the average voltage, between 2.0 and 4.4 V within 50 cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from drxnet.dataset import FAMILIES, ProfileSet, family, refuse_overlap
from drxnet.discharge import average_voltage
from drxnet.ensemble import Ensemble
from drxnet.errors import DatasetError, UsageError
from drxnet.files import save_figure
from drxnet.progress import Progress, silent
from drxnet.style import new_figure, styled

WINDOW_V = (2.0, 4.4)
"""Window in which capacity and average voltage are compared (V)."""

LAST_CYCLE = 50
LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverage of the intervals that are checked."""

_POINTS = 49
_LEAST_WINDOW_V = 0.5
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Calibration:
    """Whether the spread of the members tells how wrong their mean is."""

    coverage: Mapping[float, float]
    """Share of the truths inside the interval of each nominal level."""

    factor: float
    """By which the spread must be multiplied for the 80 % interval to cover 80 %."""

    levels: np.ndarray
    """Nominal coverages of the reliability picture."""

    covered: np.ndarray
    """Share of the truths inside each of them."""


def calibrate(members: ArrayLike, truth: ArrayLike) -> Calibration:
    """Compare truths with the members' predictive interval.

    Members are taken as draws of one normal distribution, of which the truth is one more draw: the interval is
    mean +- t s sqrt(1 + 1/n) with s the sample standard deviation (ddof 1) and t Student's quantile with n - 1 degrees
    of freedom.

    Args:
        members: predictions, ``members x ...``.
        truth: ``...``.

    Raises:
        UsageError: fewer than two members have no spread.
    """
    levels = np.linspace(0.05, 0.95, 19)
    score = np.sort(_scores(members, truth).ravel())
    edges = _student(levels, np.shape(members)[0])
    covered = np.searchsorted(score, edges, side="right") / len(score)
    at_80 = float(_student(np.array([0.8]), np.shape(members)[0])[0])
    return Calibration(
        coverage={level: coverage(members, truth, level) for level in LEVELS},
        factor=float(np.quantile(score, 0.8)) / at_80,
        levels=levels,
        covered=covered,
    )


def coverage(members: ArrayLike, truth: ArrayLike, level: float) -> float:
    """Share of truths inside the members' predictive interval of a nominal level, see :func:`calibrate`."""
    return float((_scores(members, truth) <= _student(np.array([level]), np.shape(members)[0])[0]).mean())


def members_interval(members: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the members' predictive interval of a nominal level, see :func:`calibrate`.

    Args:
        members: predictions, ``members x ...``.
        level: nominal coverage.

    Raises:
        UsageError: fewer than two members have no spread.
    """
    values = np.asarray(members, float)
    reach = _student(np.array([level]), len(values))[0] * _spread(values)
    middle = values.mean(0)
    return middle - reach, middle + reach


def _scores(members: ArrayLike, truth: ArrayLike) -> np.ndarray:
    values = np.asarray(members, float)
    return np.abs(np.asarray(truth, float) - values.mean(0)) / _spread(values)


def _spread(values: np.ndarray) -> np.ndarray:
    """Sample standard deviation over members of one more draw."""
    n = len(values)
    if n < 2:
        raise UsageError("Calibration needs the spread of at least two members. Got one.")
    return np.maximum(values.std(0, ddof=1), 1e-9) * np.sqrt(1 + 1 / n)


def _student(levels: np.ndarray, members: int) -> np.ndarray:
    from scipy.stats import t

    return t.ppf((1 + levels) / 2, members - 1)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions beside truths, one row per test profile."""

    family: np.ndarray
    """One of the families of each profile, P."""

    cycle: np.ndarray
    """P."""

    capacity_mah_g: np.ndarray
    """Measured, between 2.0 and 4.4 V, P."""

    capacity_mah_g_members: np.ndarray
    """Predicted, ``M x P``."""

    average_voltage_v: np.ndarray
    """Measured, in the same window, P."""

    average_voltage_v_members: np.ndarray
    """Predicted, ``M x P``."""

    @property
    def error_mah_g(self) -> np.ndarray:
        """Absolute error of the mean over members, P."""
        return np.abs(self.capacity_mah_g_members.mean(0) - self.capacity_mah_g)

    @property
    def spread_mah_g(self) -> np.ndarray:
        """Population standard deviation over members, P."""
        return self.capacity_mah_g_members.std(0)

    def calibration(self) -> Calibration:
        """Calibration of the capacity over all rows."""
        return calibrate(self.capacity_mah_g_members, self.capacity_mah_g)

    def rows(self) -> list[dict[str, Any]]:
        """Errors of each family as plain values, with what predicting the mean would give (MAD)."""
        voltage_error = np.abs(_mean_of_known(self.average_voltage_v_members, 0) - self.average_voltage_v)
        rows = []
        for name in (f for f in FAMILIES if (self.family == f).any()):
            at = self.family == name
            later = at & (self.cycle > 1)
            rows.append(
                {
                    "family": name,
                    "profiles": int(at.sum()),
                    "capacity_mae_mah_g": float(self.error_mah_g[at].mean()),
                    "capacity_mae_after_cycle_1_mah_g": float(self.error_mah_g[later].mean()) if later.any() else None,
                    "capacity_mad_mah_g": _mad(self.capacity_mah_g[at]),
                    "capacity_std_mah_g": float(self.spread_mah_g[at].mean()),
                    "voltage_mae_v": float(_mean_of_known(voltage_error[at], 0)),
                    "voltage_mad_v": _mad(self.average_voltage_v[at]),
                }
            )
        return rows

    def per_cycle(self) -> list[dict[str, Any]]:
        """Errors of each family at each cycle."""
        rows = []
        for name in (f for f in FAMILIES if (self.family == f).any()):
            for cycle in np.unique(self.cycle[self.family == name]):
                at = (self.family == name) & (self.cycle == cycle)
                rows.append(
                    {
                        "family": name,
                        "cycle": int(cycle),
                        "profiles": int(at.sum()),
                        "capacity_mae_mah_g": float(self.error_mah_g[at].mean()),
                        "capacity_std_mah_g": float(self.spread_mah_g[at].mean()),
                    }
                )
        return rows

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        found: dict[str, Any] = {"families": self.rows(), "cycles": self.per_cycle()}
        if len(self.capacity_mah_g_members) > 1:
            calibration = self.calibration()
            found["calibration"] = {
                "coverage": {f"{level:g}": share for level, share in calibration.coverage.items()},
                "factor": calibration.factor,
            }
        return found


def _mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis) / known.sum(axis)


def _mad(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.abs(known - known.mean()).mean()) if len(known) else float("nan")


def evaluate(ensemble: Ensemble, profiles: ProfileSet, *, progress: Progress = silent) -> Evaluation:
    """Predict every whole profile within the first cycles and compare.

    Args:
        ensemble: who predicts.
        profiles: the truth; capacity-only records and cycles after :data:`LAST_CYCLE` are left out.
        progress: told of profiles.

    Raises:
        DatasetError: no profile reaches into the window from 2.0 to 4.4 V.
    """
    top = np.minimum(profiles.voltage_v[:, -1], WINDOW_V[1])
    low = np.maximum(profiles.voltage_v[:, 0], WINDOW_V[0])
    usable = profiles.whole & (profiles.cycle <= LAST_CYCLE) & (top - low >= _LEAST_WINDOW_V)
    if not usable.any():
        raise DatasetError(f"No whole profile within {LAST_CYCLE} cycles reaches into {WINDOW_V[0]}-{WINDOW_V[1]} V.")
    test = profiles.select(usable)
    grids = np.linspace(low[usable], top[usable], _POINTS, axis=1)
    truth = test.capacity_mah_g if test.members is None else test.capacity_mah_g.mean(0)
    measured = np.stack([np.interp(*row) for row in zip(grids, test.voltage_v, truth, strict=True)])
    n, conditions = len(test), test.conditions
    predicted = np.empty((ensemble.members, n, _POINTS))
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        q = ensemble.predict(test.compositions[part], conditions[part], grids[part])
        predicted[:, part] = q.numpy(force=True)
        progress(min(start + _CHUNK, n), n)
    return Evaluation(
        family=np.array([family(c) for c in test.compositions]),
        cycle=test.cycle,
        capacity_mah_g=measured[:, 0] - measured[:, -1],
        capacity_mah_g_members=predicted[..., 0] - predicted[..., -1],
        average_voltage_v=_average_voltages(grids, measured),
        average_voltage_v_members=_average_voltages(grids, predicted),
    )


def _average_voltages(grids: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    rows = [average_voltage(grid, capacity[..., i, :]) for i, grid in enumerate(grids)]
    return np.stack(rows, axis=-1)


def split(
    profiles: ProfileSet, train: Sequence[str], test: Sequence[str], *, with_first_cycle: bool = False
) -> tuple[ProfileSet, ProfileSet]:
    """Split a set by families, as the paper's figure 3 does.

    Args:
        profiles: everything.
        train: families to learn from.
        test: families to predict.
        with_first_cycle: the first cycles of the test families are learned from, and only later ones tested.

    Raises:
        UsageError: a family on both sides, or an unknown one.
        DatasetError: a side is empty.
    """
    for name in (*train, *test):
        if name not in FAMILIES:
            raise UsageError(f"Families are {', '.join(FAMILIES)}. Got {name!r}.")
    if both := sorted(set(train) & set(test)):
        raise UsageError(f"A family may not be trained on and tested. Got {', '.join(both)} on both sides.")
    of = np.array([family(c) for c in profiles.compositions])
    learned, asked = np.isin(of, list(train)), np.isin(of, list(test))
    if with_first_cycle:
        learned |= asked & (profiles.cycle == 1)
        asked &= profiles.cycle > 1
    for side, rows, names in (("train on", learned, train), ("test", asked, test)):
        if not rows.any():
            raise DatasetError(f"No profile to {side} among {', '.join(names)}.")
    sides = profiles.select(learned), profiles.select(asked)
    refuse_overlap(*sides, first_cycle_allowed=with_first_cycle)
    return sides


def of_families(profiles: ProfileSet, test: Sequence[str]) -> ProfileSet:
    """Those profiles of a set that are of some families.

    Raises:
        DatasetError: none is.
    """
    rows = np.isin([family(c) for c in profiles.compositions], list(test))
    if not rows.any():
        raise DatasetError(f"No profile to test among {', '.join(test)}.")
    return profiles.select(rows)


@styled
def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Draw the error against the cycle, coloured by the spread, for each family, and the reliability.

    Args:
        evaluation: of :func:`evaluate`.
        path: ``.png``, ``.svg`` or ``.pdf``.
    """
    rows = evaluation.rows()
    several = len(evaluation.capacity_mah_g_members) > 1
    figure = new_figure(4.2 * (len(rows) + several), 3.6)
    panels = np.atleast_1d(figure.subplots(1, len(rows) + several))
    most = float(np.quantile(evaluation.spread_mah_g, 0.95)) or 1.0
    for axes, row in zip(panels, rows, strict=False):
        at = evaluation.family == row["family"]
        dots = axes.scatter(
            evaluation.cycle[at], evaluation.error_mah_g[at], c=evaluation.spread_mah_g[at], s=8, vmin=0, vmax=most
        )
        axes.set(xlabel="cycle", ylabel="error of Q(2.0-4.4 V) (mAh/g)")
        axes.set_title(f"{row['family']}: MAE {row['capacity_mae_mah_g']:.1f} mAh/g, {row['voltage_mae_v']:.2f} V")
        figure.colorbar(dots, ax=axes, label="σ over members (mAh/g)")
    if several:
        calibration = evaluation.calibration()
        axes = panels[-1]
        axes.plot([0, 1], [0, 1], color="0.7")
        axes.plot(calibration.levels, calibration.covered, marker=".", color="#0072B2")
        axes.set(xlabel="nominal coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1))
        axes.set_title(f"reliability, factor {calibration.factor:.2f}")
    save_figure(figure, path, dpi=150)
