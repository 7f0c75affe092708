"""Cells of other laboratories beside one's own: each with its own offset, and only where they help.

What another laboratory measured differs from what one would measure by an offset of its balance, its carbon and its
electrodes, and by what its samples differ besides. The offset of each quantity is estimated from how its cells lie
about the model of one's own, shrunk towards none as a random effect is (R. Littell et al., SAS for Mixed Models, 2006);
what is left of its uncertainty goes into the noise of its cells. Whether a laboratory is used is decided on one's own
cells, each left out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from drxnet.ensemble import Amounts, Ensemble
from screening.estimates import Estimate
from screening.goals import Goals
from screening.measured import Measured
from screening.outlook import Outlook

LEAST_OWN = 4
"""Own compositions from which it can be told whether others help."""

OFFSET = 0.15
"""Standard deviation of an offset between laboratories, relative to a value, as published capacities of one phase."""

SAMPLE = 0.08
"""Between samples of one laboratory beyond what cells differ by, relative to a value."""


@dataclass(frozen=True)
class Elsewhere:
    """What another laboratory measured."""

    name: str
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class Admission:
    """Whether another laboratory is learned from."""

    name: str
    cells: int
    """Compositions of it."""

    gain: float | None
    """By how much the log density of one's own values, each left out, rises; None where there are too few of them."""

    measured: tuple[Measured, ...] = ()
    """Its values less their offset, where it helps."""

    def __str__(self) -> str:
        """Say in a sentence whether it is used."""
        what = f"{self.cells} compositions of {self.name}"
        if self.gain is None:
            return f"{what} wait until {LEAST_OWN} own ones tell whether they help."
        more = "more" if self.gain > 0 else "less"
        held = f"own values that are left out become {more} probable ({self.gain:+.2f} each)"
        return f"{what} are {'learned from' if self.measured else 'not used'}: {held}."


def admitted(
    ensemble: Ensemble, goals: Goals, own: Sequence[Measured], laboratories: Sequence[Elsewhere]
) -> tuple[Admission, ...]:
    """Decide of each laboratory in turn, those before it being used where they helped.

    Args:
        ensemble: the current model.
        goals: of the campaign.
        own: what it measured itself.
        laboratories: others.
    """
    found: list[Admission] = []
    if len(own) < LEAST_OWN:
        return tuple(Admission(lab.name, len(lab.measured), None) for lab in laboratories)
    mine = Outlook.of(ensemble, goals, measured=own)
    best, joined = held_out(mine, len(own)), list(own)
    for lab in laboratories:
        corrected = without_offset(mine, lab)
        if not corrected:
            continue
        score = held_out(Outlook.of(ensemble, goals, measured=[*joined, *corrected]), len(own))
        helps = score > best
        found.append(Admission(lab.name, len(lab.measured), score - best, corrected if helps else ()))
        if helps:
            best, joined = score, [*joined, *corrected]
    return tuple(found)


def without_offset(outlook: Outlook, lab: Elsewhere) -> tuple[Measured, ...]:
    """Values of a laboratory less their estimated offset, with what is uncertain about it in their errors.

    Args:
        outlook: of one's own cells.
        lab: the other laboratory; what it has in common with the goals counts.
    """
    goals = outlook.goals
    values = np.array([m.values(goals) for m in lab.measured]).reshape(len(lab.measured), len(goals.quantities))
    if not np.isfinite(values).any():
        return ()
    points = outlook.read(Amounts.of([m.composition for m in lab.measured]))
    mean, std = (moment.numpy() for moment in outlook.surrogate.marginals(points))
    kept: list[dict[int, Estimate]] = [{} for _ in lab.measured]
    for j in range(len(goals.quantities)):
        rows = np.flatnonzero(np.isfinite(values[:, j]))
        if not len(rows):
            continue
        size = np.abs(values[rows, j])
        sample = (SAMPLE * size) ** 2
        offset, doubt = _offset(
            values[rows, j] - mean[rows, j], std[rows, j] ** 2 + sample, (OFFSET * size.mean()) ** 2
        )
        for i, row in enumerate(rows.tolist()):
            error = math.sqrt(sample[i] + doubt)
            kept[row][j] = Estimate(float(values[row, j] - offset), error, 1, error)
    return tuple(
        replace(m, estimates={goals.quantities[j]: e for j, e in row.items()})
        for m, row in zip(lab.measured, kept, strict=True)
        if row
    )


def _offset(residuals: np.ndarray, variances: np.ndarray, prior: float) -> tuple[float, float]:
    """Mean and variance of an offset, from residuals of known variance and the variance of offsets."""
    precision = 1 / prior + (1 / variances).sum()
    return float((residuals / variances).sum() / precision), float(1 / precision)


def held_out(outlook: Outlook, own: int) -> float:
    """Mean log density of the values of the first compositions, each left out in turn, over the wanted quantities."""
    goals, total, count = outlook.goals, 0.0, 0
    wanted = sorted({*goals.objective_columns, *goals.constraint_columns})
    values = np.array([m.values(goals) for m in outlook.measured[:own]])
    for j in wanted:
        rows = int(np.isfinite(values[:, j]).sum())
        if rows < 2:
            continue
        errors, variances = (part[:rows] for part in outlook.surrogate.outputs[j].left_out())
        total += float((-errors.square() / variances / 2 - (2 * math.pi * variances).log() / 2).sum())
        count += rows
    return total / max(count, 1)
