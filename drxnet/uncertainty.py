"""How far a predicted capacity lies from what a laboratory that has measured nothing yet will find.

The error has levels, each estimated from data (docs/uncertainty.md): what the members' spread and the distance from
known compositions say of the model; laboratory and sample, from published cells; cell to cell.
``data/error_levels.csv`` holds the numbers of each ensemble; ``python -m benchmarks.trust.levels`` writes it. Letters
for shapes: M members, n predictions, R published rows.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from drxnet.process import Value, unlearned_share

if TYPE_CHECKING:
    from torch import Tensor

    from drxnet.composition import Composition
    from drxnet.discharge import CyclingConditions
    from drxnet.ensemble import Ensemble
    from drxnet.literature import LiteratureEvaluation

Label = Literal["inside", "edge", "outside"]
"""How far a composition lies from what the model has learned from."""

LABELS: tuple[Label, ...] = ("inside", "edge", "outside")

LEVEL = 0.8
"""Share of new laboratories' cells that the interval is meant to hold: from the 10 to the 90 % quantile."""

CELL_TO_CELL = 0.03
"""Relative standard deviation between equal cells, expected before any are compared."""

WORDS = "80 % interval of one cell of a laboratory that has measured nothing yet"
"""What tables and figures call it."""

LITHIUM_RICH = 1.1
"""Lithium per formula unit from which a composition is counted as Li-rich."""

_STOICHIOMETRIC = 1.0

RATE_CORRELATION = 0.8
"""Between a laboratory's offsets at two currents a factor :data:`RATE_STEP` apart. An assumption: no published study
compares laboratories at two rates (docs/uncertainty.md)."""

RATE_STEP = 50.0
"""From 20 to 1000 mA/g."""


def rate_correlation(current_ma_g: np.ndarray) -> np.ndarray:
    """Correlation between the offsets of one laboratory at n currents, falling with their ratio, ``n x n``."""
    steps = np.log(current_ma_g) / math.log(RATE_STEP)
    return np.asarray(RATE_CORRELATION ** np.abs(steps[:, None] - steps))


@dataclass(frozen=True)
class ModelLevel:
    """The model's own error: a typical size by domain label and current, corrected by the members' spread at hand.

    The variance between members at one composition has a scaled inverse chi-squared prior (G. K. Smyth, Stat. Appl.
    Genet. Mol. Biol. 3, 3 (2004), doi:10.2202/1544-6115.1027), so that members that agree by chance do not promise
    certainty.
    """

    currents_ma_g: tuple[float, ...]
    """Ascending; between them the logarithm of the size is linear in that of the current."""

    typical_mah_g: Mapping[Label, tuple[float, ...]]
    """Standard deviation of one member about what the others predict, for each current."""

    freedom: Mapping[Label, float]
    """How many further members the typical size weighs as much as."""

    label_ends: tuple[float, float] = (0.3, 0.6)
    """Largest learned distances from known compositions of what lies inside and at the edge (:mod:`screening.domain`);
    they are set so that the model errs there as much as every other one with a level."""

    def typical(self, labels: Sequence[Label], current_ma_g: np.ndarray) -> np.ndarray:
        """Typical standard deviation of a member (mAh/g), n."""
        x, known = np.log(current_ma_g), np.log(self.currents_ma_g)
        each = {label: np.exp(np.interp(x, known, np.log(sizes))) for label, sizes in self.typical_mah_g.items()}
        return np.array([each[label][i] for i, label in enumerate(labels)])

    def variance(
        self, members_mah_g: np.ndarray, labels: Sequence[Label], current_ma_g: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the truth about the members' mean, as far as the model is at fault, and its degrees of freedom.

        Args:
            members_mah_g: ``M x n``.
            labels: n.
            current_ma_g: n.

        Returns:
            Squared scale (mAh/g squared) and degrees of freedom, n each.
        """
        members = len(members_mah_g)
        prior = np.array([self.freedom[label] for label in labels])
        apart = ((members_mah_g - members_mah_g.mean(0)) ** 2).sum(0)
        freedom = prior + members - 1
        scale = (prior * self.typical(labels, current_ma_g) ** 2 + apart) / freedom
        return scale * (1 + 1 / members), freedom


def fit_model_level(
    squares: np.ndarray,
    members: int,
    labels: Sequence[Label],
    currents_ma_g: Sequence[float],
    label_ends: tuple[float, float],
    most_freedom: float = 30.0,
) -> ModelLevel:
    """Estimate the model's error from independent members about a prediction, by the moments of the logarithm.

    Args:
        squares: their mean square deviation from it (mAh/g squared) at N compositions, ``N x currents``.
        members: how many free deviations each mean is of.
        labels: N.
        currents_ma_g: ascending.
        label_ends: learned distances by which the labels were given.
        most_freedom: no more, however alike the deviations are.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    half = members / 2
    typical: dict[Label, tuple[float, ...]] = {}
    freedom: dict[Label, float] = {}
    for label in LABELS:
        mine = np.array([other == label for other in labels])
        logs = np.log(np.maximum(squares[mine], 1e-6))
        beyond = float(logs.var(0, ddof=1).mean()) - float(polygamma(1, half))
        least, most = 1.0, most_freedom / 2
        if beyond <= polygamma(1, most):
            part = most
        elif beyond >= polygamma(1, least):
            part = least
        else:
            part = float(brentq(lambda x, b=beyond: polygamma(1, x) - b, least, most))
        # E log s2 = log tau2 + psi(half) - log(half) - psi(part) + log(part)
        shift = digamma(half) - np.log(half) - digamma(part) + np.log(part)
        typical[label] = tuple(float(np.exp((mean - shift) / 2)) for mean in logs.mean(0))
        freedom[label] = 2 * part
    return ModelLevel(tuple(currents_ma_g), typical, freedom, label_ends)


@dataclass(frozen=True, eq=False)
class LaboratoryLevel:
    """What published cells say beyond the model's own error: bias, laboratory, sample."""

    bias_mah_g: np.ndarray
    """Measured minus predicted of Li-rich and of stoichiometric compositions, drawn towards 0 where unsure, 2."""

    bias_covariance: np.ndarray
    """``2 x 2`` (mAh/g squared)."""

    laboratory_mah_g: float
    """Standard deviation between laboratories, in mAh/g the same at every current."""

    sample_mah_g: float
    """Standard deviation between samples, processing and cycles of one laboratory, likewise."""

    freedom: float
    """Degrees of freedom of the sum of both variances."""

    rows: int
    studies: int

    def left(self, current_ma_g: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Covariance (mAh/g squared) of a laboratory's own offsets at c currents, once it has measured, ``c x c``.

        Offsets are normal, of one size in mAh/g at every current, and correlated (:func:`rate_correlation`). Each
        composition is an observation of those at the currents that it was measured at, with the scatter between
        samples, which is correlated alike.

        Args:
            current_ma_g: c.
            measured: whether a composition has a cell at each current, ``compositions x c``.
        """
        alike = rate_correlation(current_ma_g)
        precision = np.linalg.inv(alike * self.laboratory_mah_g**2)
        for pattern, count in zip(*np.unique(measured, axis=0, return_counts=True), strict=True):
            seen = np.flatnonzero(pattern)
            if seen.size:
                each = alike[np.ix_(seen, seen)] * self.sample_mah_g**2
                precision[np.ix_(seen, seen)] += count * np.linalg.inv(each)
        return np.asarray(np.linalg.inv(precision))


def _excess(lithium: np.ndarray) -> np.ndarray:
    """Share of Li-rich and of stoichiometric, ``n x 2``; between 1.0 and 1.1 Li one goes over into the other."""
    rich = np.clip((lithium - _STOICHIOMETRIC) / (LITHIUM_RICH - _STOICHIOMETRIC), 0.0, 1.0)
    return np.stack([rich, 1 - rich], 1)


def fit_laboratory_level(
    residual_mah_g: np.ndarray,
    known_variance: np.ndarray,
    lithium: np.ndarray,
    studies: Sequence[str],
) -> LaboratoryLevel:
    """Estimate bias and variances by restricted maximum likelihood, a random effect for each study.

    D. A. Harville, J. Am. Stat. Assoc. 72, 320 (1977), doi:10.1080/01621459.1977.10480998. A bias is multiplied by
    max(0, 1 - variance / bias squared), as W. James and C. Stein (1961) do.

    Args:
        residual_mah_g: published minus predicted, R.
        known_variance: of the model's error and between cells (mAh/g squared), R.
        lithium: per formula unit, R.
        studies: name for each row, R.
    """
    from scipy.optimize import minimize

    names = np.array(studies)
    design = _excess(lithium)
    used = design.any(0)
    x = design[:, used]
    parts = [(names[:, None] == names).astype(float), np.eye(len(names))]

    def projection(variances: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        total = np.diag(known_variance) + variances[0] * parts[0] + variances[1] * parts[1]
        inverse = np.linalg.inv(total)
        information = x.T @ inverse @ x
        projected = inverse - inverse @ x @ np.linalg.solve(information, x.T @ inverse)
        size = float(np.linalg.slogdet(total)[1] + np.linalg.slogdet(information)[1])
        return projected, np.linalg.solve(information, x.T @ inverse), size

    def loss(logs: np.ndarray) -> float:
        projected, _, size = projection(np.exp(logs))
        return 0.5 * (size + float(residual_mah_g @ projected @ residual_mah_g))

    start = np.log(max(float(np.var(residual_mah_g)) / 2, 1.0))
    best = minimize(loss, np.full(2, start), method="L-BFGS-B", bounds=[(0.0, 12.0)] * 2)
    variances = np.exp(best.x)
    projected, solve, _ = projection(variances)
    bias = np.zeros(2)
    covariance = np.zeros((2, 2))
    bias[used] = solve @ residual_mah_g
    total = np.diag(known_variance) + variances[0] * parts[0] + variances[1] * parts[1]
    covariance[np.ix_(used, used)] = solve @ total @ solve.T
    sure = np.diag(covariance)
    kept = np.where(bias != 0, np.maximum(0.0, 1 - sure / np.maximum(bias**2, 1e-12)), 0.0)
    fisher = 0.5 * np.array([[np.trace(projected @ a @ projected @ b) for b in parts] for a in parts])
    doubt = float(np.linalg.pinv(fisher).sum())  # variance of the sum of both
    freedom = float(np.clip(2 * variances.sum() ** 2 / max(doubt, 1e-9), 2.0, max(2.0, len(set(studies)) - used.sum())))
    laboratory, sample = np.sqrt(variances).tolist()
    return LaboratoryLevel(bias * kept, covariance, laboratory, sample, freedom, len(names), len(set(studies)))


@dataclass(frozen=True)
class ErrorLevels:
    """All levels for one ensemble."""

    model: ModelLevel
    laboratory: LaboratoryLevel

    def interval(
        self,
        members_mah_g: np.ndarray,
        labels: Sequence[Label],
        lithium: np.ndarray,
        lithium_capacity_mah_g: np.ndarray,
        current_ma_g: np.ndarray,
        level: float = LEVEL,
        unlearned: np.ndarray | float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interval of what one cell of a new laboratory delivers, between 0 and the capacity of all lithium.

        A mean beyond the capacity of all lithium is taken as that capacity before the interval is drawn about it.

        Args:
            members_mah_g: predicted capacities, ``M x n``.
            labels: where each lies, n.
            lithium: per formula unit, n.
            lithium_capacity_mah_g: of all lithium, n.
            current_ma_g: n.
            level: share of the cells that should lie inside.
            unlearned: standard deviation of what processes may do that lie outside what was learned, as a share, n.

        Returns:
            Lower and upper ends (mAh/g), n each.
        """
        lab, share = self.laboratory, _excess(lithium)
        middle = np.clip(members_mah_g.mean(0) + share @ lab.bias_mah_g, 0.0, lithium_capacity_mah_g)
        model, model_freedom = self.model.variance(members_mah_g, labels, current_ma_g)
        others = lab.laboratory_mah_g**2 + lab.sample_mah_g**2
        others = others + np.einsum("ni,ij,nj->n", share, lab.bias_covariance, share)
        cells = (np.hypot(CELL_TO_CELL, unlearned) * middle) ** 2
        total = model + others + cells
        freedom = total**2 / (model**2 / model_freedom + others**2 / lab.freedom)  # Satterthwaite (1946)
        reach = student_quantile(0.5 + level / 2, freedom) * np.sqrt(total)
        most = lithium_capacity_mah_g
        return np.clip(middle - reach, 0.0, most), np.clip(middle + reach, 0.0, most)


def student_quantile(share: float, freedom: np.ndarray) -> np.ndarray:
    """Quantile of Student's t by its expansion in 1 / freedom, for importing scipy takes a tenth of a second.

    M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions (1964), 26.7.5; at 90 % right to 0.2 % from 2
    degrees of freedom on.
    """
    z, v = NormalDist().inv_cdf(share), np.asarray(freedom, float)
    return np.asarray(
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


class OfLevels:
    """The interval as a method for published rows: laboratory and sample are fitted anew to the rows that are known."""

    def __init__(self, model: ModelLevel, labels: Mapping[Composition, Label]) -> None:
        """Take the model's own error as given.

        Args:
            model: its level.
            labels: where each composition of the rows lies.
        """
        self.model, self._labels = model, labels

    def labels(self, evaluation: LiteratureEvaluation) -> list[Label]:
        """Where each row lies, R."""
        return [self._labels[p.composition] for p in evaluation.published]

    def levels(self, known: LiteratureEvaluation) -> ErrorLevels:
        """Fit to the rows of other laboratories than that of the training data that state a number."""
        elsewhere = np.array([p.laboratory == "other" for p in known.published])
        rows = known.select(known.counted & elsewhere)
        current = np.array([p.conditions.current_ma_g for p in rows.published])
        variance, _ = self.model.variance(rows.capacity_mah_g_members, self.labels(rows), current)
        return ErrorLevels(
            self.model,
            fit_laboratory_level(
                rows.capacity_mah_g - rows.mean_mah_g,
                variance + (CELL_TO_CELL * rows.capacity_mah_g) ** 2,
                np.array([p.composition.lithium for p in rows.published]),
                [p.study for p in rows.published],
            ),
        )

    def __call__(
        self, known: LiteratureEvaluation, asked: LiteratureEvaluation, level: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends for the rows asked about (mAh/g)."""
        return self.levels(known).interval(
            asked.capacity_mah_g_members,
            self.labels(asked),
            np.array([p.composition.lithium for p in asked.published]),
            asked.lithium_capacity_mah_g,
            np.array([p.conditions.current_ma_g for p in asked.published]),
            level,
        )


# -- the numbers that ship --------------------------------------------------------------------------------------


def write_levels(found: Mapping[str, ErrorLevels], names: Mapping[str, str]) -> str:
    """Put levels into the form of ``data/error_levels.csv``: one number per line.

    Args:
        found: by model id.
        names: of the models, by model id.
    """
    lines = ["model_id,model,level,domain,current_ma_g,value"]
    for model_id, levels in found.items():
        rows: list[tuple[str, str, Any, float]] = []
        model, lab = levels.model, levels.laboratory
        for label in LABELS:
            sizes = zip(model.currents_ma_g, model.typical_mah_g[label], strict=True)
            rows += [("typical_mah_g", label, f"{current:g}", size) for current, size in sizes]
            rows.append(("freedom", label, "", model.freedom[label]))
        rows += [("label_end", label, "", end) for label, end in zip(LABELS, model.label_ends, strict=False)]
        rows += [
            ("bias_lithium_rich_mah_g", "", "", lab.bias_mah_g[0]),
            ("bias_stoichiometric_mah_g", "", "", lab.bias_mah_g[1]),
            ("bias_variance_lithium_rich", "", "", lab.bias_covariance[0, 0]),
            ("bias_variance_stoichiometric", "", "", lab.bias_covariance[1, 1]),
            ("bias_covariance", "", "", lab.bias_covariance[0, 1]),
            ("laboratory_mah_g", "", "", lab.laboratory_mah_g),
            ("sample_mah_g", "", "", lab.sample_mah_g),
            ("laboratory_freedom", "", "", lab.freedom),
            ("rows", "", "", lab.rows),
            ("studies", "", "", lab.studies),
        ]
        lines += [f"{model_id},{names[model_id]},{a},{b},{c},{value:.6g}" for a, b, c, value in rows]
    return "\n".join(lines) + "\n"


@cache
def _stored() -> dict[str, tuple[str, ErrorLevels]]:
    """Name and levels of each model of the shipped table, by model id."""
    rows = list(csv.DictReader((files("drxnet") / "data" / "error_levels.csv").read_text("utf-8").splitlines()))
    return {
        model_id: _read_levels([row for row in rows if row["model_id"] == model_id])
        for model_id in dict.fromkeys(row["model_id"] for row in rows)
    }


def _read_levels(rows: Sequence[Mapping[str, str]]) -> tuple[str, ErrorLevels]:
    """Name and levels of one model by its rows of the table."""
    value = {(row["level"], row["domain"], row["current_ma_g"]): float(row["value"]) for row in rows}
    one = {level: found for (level, domain, _), found in value.items() if not domain}
    currents = sorted({row["current_ma_g"] for row in rows if row["current_ma_g"]}, key=float)
    shared = one["bias_covariance"]
    model = ModelLevel(
        tuple(map(float, currents)),
        {label: tuple(value["typical_mah_g", label, current] for current in currents) for label in LABELS},
        {label: value["freedom", label, ""] for label in LABELS},
        (value["label_end", "inside", ""], value["label_end", "edge", ""]),
    )
    laboratory = LaboratoryLevel(
        np.array([one["bias_lithium_rich_mah_g"], one["bias_stoichiometric_mah_g"]]),
        np.array([[one["bias_variance_lithium_rich"], shared], [shared, one["bias_variance_stoichiometric"]]]),
        one["laboratory_mah_g"],
        one["sample_mah_g"],
        one["laboratory_freedom"],
        int(one["rows"]),
        int(one["studies"]),
    )
    return rows[0]["model"], ErrorLevels(model, laboratory)


def shipped_levels() -> ErrorLevels:
    """Levels of the ensemble that ships."""
    return next(iter(_stored().values()))[1]


def levels_of(model_id: str) -> ErrorLevels:
    """Levels of an ensemble; one that has none takes those of the ensemble that ships."""
    return _stored()[model_id][1] if model_id in _stored() else shipped_levels()


class Locate(Protocol):
    """Where compositions lie, from their learned vectors."""

    def __call__(self, features: Tensor, /) -> list[Label]:
        """Label of each of n compositions, from ``members x n x features``."""


@dataclass(frozen=True)
class Calibration:
    """What turns the members' capacities of one ensemble into an interval and a domain label."""

    levels: ErrorLevels
    locate: Locate
    borrowed_from: str | None = None
    """The model whose levels these are, where this one has none of its own."""

    learned: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Values of each condition of the process that the ensemble learned from."""

    @classmethod
    def of(cls, ensemble: Ensemble, locate: Locate) -> Calibration:
        """Find the levels of an ensemble; one that has none takes those of the ensemble that ships.

        Args:
            ensemble: who predicts.
            locate: of the domain of that ensemble.
        """
        lender = None if ensemble.model_id in _stored() else next(iter(_stored().values()))[0]
        return cls(levels_of(ensemble.model_id), locate, lender, ensemble.card.process)

    @property
    def sentence(self) -> str:
        """What is said below a table."""
        lab = self.levels.laboratory
        said = f"{WORDS}: from {lab.rows} published cells of {lab.studies} studies (docs/uncertainty.md)"
        if self.borrowed_from is None:
            return said + "."
        return f"{said}; its levels were estimated for the model {self.borrowed_from}, not for this one."

    def intervals(
        self,
        features: Tensor,
        members_mah_g: np.ndarray,
        compositions: Sequence[Composition],
        conditions: Sequence[CyclingConditions],
    ) -> tuple[list[Label], np.ndarray, np.ndarray]:
        """Label, lower and upper end (mAh/g) of n predictions.

        Args:
            features: learned vectors, ``M x n x features``.
            members_mah_g: ``M x n``.
            compositions: n.
            conditions: n.
        """
        labels = self.locate(features)
        lower, upper = self.levels.interval(
            members_mah_g,
            labels,
            np.array([c.lithium for c in compositions]),
            np.array([c.theoretical_capacity_mah_g for c in compositions]),
            np.array([c.current_ma_g for c in conditions]),
            unlearned=np.array([unlearned_share(self.learned, c.process) for c in conditions]),
        )
        return labels, lower, upper
