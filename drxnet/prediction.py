"""Predictions as rows: what an ensemble says about a composition under one set of conditions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from drxnet.composition import LEAST_METAL, Composition
from drxnet.discharge import GRID_POINTS, CyclingConditions, average_voltage, specific_energy
from drxnet.ensemble import Amounts, Compositions, Encoded, Ensemble, mean_and_spread
from drxnet.errors import CompositionError, DRXWarning
from drxnet.progress import Progress, silent

if TYPE_CHECKING:
    from drxnet.checkpoint import ModelCard
    from drxnet.process import Process
    from drxnet.uncertainty import Calibration, Label

TRAINED_CURRENT = (5.0, 20000.0)
"""Current densities in DRX-TD (mA/g)."""

TRAINED_LOWER_CUTOFF = (1.0, 2.5)
"""Lower cut-offs in DRX-TD (V)."""

TRAINED_UPPER_CUTOFF = (4.0, 5.0)
"""Upper cut-offs in DRX-TD (V); below, the published model gives unphysical offsets (Zhong et al., 2024, figure 5D)."""

TRAINED_CYCLES = 100
"""Cycle up to which most cells of DRX-TD were run (Zhong et al., 2024, figure 2B); few went on to some hundreds."""

OFFSET_TOLD_MAH_G = 3.0
"""Capacity at the upper cut-off, where a discharge begins and it should be zero, from which on it is told."""

_BATCH = 1024
_MOST_TOLD = 4


@dataclass(frozen=True)
class CapacityInterval:
    """Where the capacity of one cell of a laboratory that has measured nothing yet lies (drxnet/uncertainty.py)."""

    lower_mah_g: float
    upper_mah_g: float
    domain: Label


@dataclass(frozen=True, eq=False)
class PredictedDischarge:
    """A predicted discharge, every member kept."""

    composition: Composition
    conditions: CyclingConditions
    voltage_v: np.ndarray
    """Ascending from the lower to the upper cut-off (V), ``voltages``."""

    capacity_mah_g_members: np.ndarray
    """``members x voltages`` (mAh/g)."""

    asked: Composition | None = None
    """What was asked about, where traces of metals were left out of it."""

    interval: CapacityInterval | None = None
    """Calibrated, of the capacity at the lower cut-off; None where it was not asked for."""

    @property
    def offset_mah_g(self) -> float:
        """Capacity that the mean profile has at the upper cut-off already, where a cell has none (mAh/g).

        The network is not made to start at zero; capacities are its own and hold this offset.
        """
        return float(self.capacity_mah_g_members[:, -1].mean())

    @property
    def total_members(self) -> np.ndarray:
        """Capacity at the lower cut-off (mAh/g), ``members``."""
        return self.capacity_mah_g_members[:, 0]

    @property
    def average_voltage_v_members(self) -> np.ndarray:
        """Capacity-weighted mean voltage (V), ``members``."""
        return average_voltage(self.voltage_v, self.capacity_mah_g_members)

    @property
    def specific_energy_wh_kg_members(self) -> np.ndarray:
        """Energy of the discharge per mass of active material (Wh/kg), ``members``."""
        return specific_energy(self.voltage_v, self.capacity_mah_g_members)

    def row(self, *, profile: bool = False) -> dict[str, Any]:
        """Return the public form; means and population standard deviations (ddof 0) over members."""
        row: dict[str, Any] = {
            "composition": self.composition.formula,
            **self.conditions.row(),
            "capacity_mah_g_mean": float(self.total_members.mean()),
            "capacity_mah_g_std": float(self.total_members.std()),
            "capacity_mah_g_members": self.total_members.tolist(),
            **self._calibrated(),
            "average_voltage_v_mean": float(_mean_of_defined(self.average_voltage_v_members)),
            "specific_energy_wh_kg_mean": float(self.specific_energy_wh_kg_members.mean()),
            "offset_mah_g_mean": self.offset_mah_g,
        }
        if self.asked is not None:
            row["composition_asked"] = self.asked.formula
        if profile:
            row["profile"] = {
                "voltage_v": self.voltage_v.tolist(),
                "capacity_mah_g_mean": self.capacity_mah_g_members.mean(0).tolist(),
                "capacity_mah_g_std": self.capacity_mah_g_members.std(0).tolist(),
            }
        return row

    def _calibrated(self) -> dict[str, Any]:
        if (found := self.interval) is None:
            return {}
        return {
            "capacity_mah_g_lower": found.lower_mah_g,
            "capacity_mah_g_upper": found.upper_mah_g,
            "domain": found.domain,
        }


def _mean_of_defined(values: np.ndarray) -> float:
    """Mean over the members that deliver any capacity; NaN when none does."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def check_domain(
    ensemble: Ensemble, cases: Sequence[tuple[Composition, CyclingConditions]], *, allow_unseen: bool = False
) -> None:
    """Refuse elements the model has never seen; warn about conditions it has rarely seen.

    Raises:
        CompositionError: an element is outside the model's, and `allow_unseen` is not set.
    """
    for composition in dict.fromkeys(c for c, _ in cases):
        if unseen := ", ".join(s for s in composition.elements if s not in ensemble.card.elements):
            if not allow_unseen:
                raise CompositionError(
                    f"{composition}: the model {ensemble.card.name} has never seen {unseen}; it knows "
                    f"{' '.join(ensemble.card.elements)}. To extrapolate all the same: --allow-unseen."
                )
            said = f"{composition}: {unseen} unseen in training; the spread does not cover this."
            warnings.warn(said, DRXWarning, stacklevel=2)
    for conditions in dict.fromkeys(c for _, c in cases):
        for text in (*beyond_data(conditions), *beyond_processes(ensemble.card, conditions.process)):
            warnings.warn(text, DRXWarning, stacklevel=2)


def beyond_data(conditions: CyclingConditions) -> list[str]:
    """Say which of the conditions lie outside the ranges of the data that DRXNet was trained on."""
    said = []
    low, high = TRAINED_CURRENT
    if not low <= conditions.current_ma_g <= high:
        said.append(f"{conditions.current_ma_g:g} mA/g lies outside the {low:g}-{high:g} mA/g of the training data.")
    low, high = TRAINED_UPPER_CUTOFF
    if conditions.v_high < low:
        said.append(
            f"Upper cut-off {conditions.v_high:g} V: below {low:g} V the model has hardly any data and its profiles "
            "need not start at zero."
        )
    if conditions.v_high > high:
        said.append(f"Upper cut-off {conditions.v_high:g} V: the training data end at {high:g} V.")
    low, high = TRAINED_LOWER_CUTOFF
    if not low <= conditions.v_low <= high:
        said.append(f"Lower cut-off {conditions.v_low:g} V lies outside the {low:g}-{high:g} V of the training data.")
    if conditions.cycle > TRAINED_CYCLES:
        said.append(f"Cycle {conditions.cycle}: few cells of the training data ran beyond {TRAINED_CYCLES} cycles.")
    return said


def beyond_processes(card: ModelCard, process: Process) -> list[str]:
    """Say which of the stated conditions of the process a model has not learned, and which lie outside what it has."""
    unknown = [field.label for field, _ in process if field.name not in card.process]
    said = []
    if unknown:
        said.append(
            f"The model {card.name} has learned nothing of {', '.join(unknown)}: what is stated does not change its "
            "numbers. Fine-tuning on cells that vary in it teaches it."
        )
    for field, value in process:
        learned = card.process.get(field.name)
        if learned is None or any(field.same(value, other) for other in learned):
            continue
        if field.words:
            known = ", ".join(map(str, learned))
            said.append(f"{field.label}: {field.text(value)} is none of what the model learned ({known}).")
            continue
        least, most = min(map(float, learned)), max(map(float, learned))
        if not least <= float(value) <= most:
            ends = f"{field.text(least)} to {field.text(most)}"
            said.append(f"{field.label}: {field.text(value)} lies outside the {ends} that the model learned.")
    return said


def predict_cases(
    ensemble: Ensemble,
    cases: Sequence[tuple[Composition, CyclingConditions]],
    *,
    points: int = GRID_POINTS,
    allow_unseen: bool = False,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> list[PredictedDischarge]:
    """Predict one discharge per case, in the order given; traces of metals are left out, with a warning.

    Args:
        ensemble: who predicts.
        cases: composition and conditions of each.
        points: voltages of a profile, evenly spaced over its window.
        allow_unseen: predict for elements outside the model's too, with a warning.
        calibration: of this ensemble, for the interval of each capacity and its domain label.
        progress: called with the number of cases done.

    Raises:
        CompositionError: an element is outside the model's.
    """
    asked = [composition for composition, _ in cases]
    cases = [(composition.without_traces(), conditions) for composition, conditions in cases]
    traced = {a: target for a, (target, _) in zip(asked, cases, strict=True) if target is not a}
    _warn([_trace_note(composition, target) for composition, target in traced.items()])
    check_domain(ensemble, cases, allow_unseen=allow_unseen)
    predictions: list[PredictedDischarge] = []
    for start in range(0, len(cases), _BATCH):
        part = slice(start, start + _BATCH)
        predictions += _predict_batch(ensemble, cases[part], asked[part], points, calibration)
        progress(len(predictions), len(cases))
    _warn([text for prediction in predictions for text in beyond_physics(prediction)])
    return predictions


def _predict_batch(
    ensemble: Ensemble,
    cases: Sequence[tuple[Composition, CyclingConditions]],
    asked: Sequence[Composition],
    points: int,
    calibration: Calibration | None,
) -> list[PredictedDischarge]:
    """Predict some cases at once; ``asked`` are their compositions with traces."""
    conditions = [under for _, under in cases]
    grids = np.stack([under.grid(points) for under in conditions])
    amounts: Compositions = Amounts.of([composition for composition, _ in cases])
    if calibration is not None:
        amounts = ensemble.encode(amounts)  # once, for the profile and for the domain
    profiles = ensemble.predict(amounts, conditions, grids).cpu().double().numpy()
    intervals = _intervals(calibration, amounts, profiles[:, :, 0], cases)
    return [
        PredictedDischarge(composition, under, grid, members, None if before is composition else before, interval)
        for (composition, under), before, grid, members, interval in zip(
            cases, asked, grids, profiles.swapaxes(0, 1), intervals, strict=True
        )
    ]


def _intervals(
    calibration: Calibration | None,
    encoded: Compositions,
    total_members: np.ndarray,
    cases: Sequence[tuple[Composition, CyclingConditions]],
) -> Sequence[CapacityInterval | None]:
    if calibration is None or not isinstance(encoded, Encoded):
        return [None] * len(cases)
    compositions, conditions = zip(*cases, strict=True)
    labels, lower, upper = calibration.intervals(encoded.features, total_members, compositions, conditions)
    return [CapacityInterval(*found) for found in zip(lower.tolist(), upper.tolist(), labels, strict=True)]


def _trace_note(composition: Composition, target: Composition) -> str:
    traces = ", ".join(f"{a:g} {s}" for s, a in composition.traces.items())
    return (
        f"{composition}: {traces} is a trace (less than {LEAST_METAL:g} per formula unit), of which the model knows "
        f"nothing; predicted as {target}."
    )


def _warn(texts: Sequence[str]) -> None:
    """Warn with the first few, and say how many more there are."""
    for text in texts[:_MOST_TOLD]:
        warnings.warn(text, DRXWarning, stacklevel=3)
    if len(texts) > _MOST_TOLD:
        warnings.warn(f"{len(texts) - _MOST_TOLD} more predictions like these.", DRXWarning, stacklevel=3)


def beyond_physics(prediction: PredictedDischarge) -> list[str]:
    """Say what no cell does: a discharge that starts with capacity, or delivers more than all lithium holds."""
    said = []
    where = f"{prediction.composition} at {prediction.conditions}"
    if prediction.offset_mah_g > OFFSET_TOLD_MAH_G:
        said.append(
            f"{where}: the profile starts at {prediction.offset_mah_g:.0f} mAh/g instead of 0 at "
            f"{prediction.conditions.v_high:g} V; the capacity holds this offset, what is delivered between the "
            "cut-offs is so much less."
        )
    mean, most = float(prediction.total_members.mean()), prediction.composition.theoretical_capacity_mah_g
    if mean > most:
        said.append(
            f"{where}: the mean of {mean:.0f} mAh/g exceeds the {most:.0f} mAh/g of all lithium, where the "
            "interval ends."
        )
    return said


def fade(ensemble: Ensemble, composition: Composition, conditions: CyclingConditions, cycles: Sequence[int]) -> Any:
    """Capacity at the lower cut-off against cycle number: mean and standard deviation (mAh/g), ``cycles`` each."""
    at = [replace(conditions.bare, cycle=cycle) for cycle in cycles]
    mean, spread = mean_and_spread(ensemble.capacity([composition], at))
    return mean[0], spread[0]
