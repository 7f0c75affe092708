"""Predictions as rows: what an ensemble says about a composition under one set of conditions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drxnet.composition import Composition
from drxnet.discharge import GRID_POINTS, CyclingConditions, average_voltage, specific_energy
from drxnet.ensemble import Amounts, Ensemble, mean_and_spread
from drxnet.errors import CompositionError, DRXWarning
from drxnet.progress import Progress, silent

TRAINED_CURRENT = (5.0, 20000.0)
"""Current densities in DRX-TD (mA/g)."""

TRAINED_UPPER_CUTOFF = 4.0
"""Upper cut-off (V) below which the published model gives unphysical offsets (Zhong et al., 2024, figure 5D)."""

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted discharge, every member kept."""

    composition: Composition
    conditions: CyclingConditions
    voltage_v: np.ndarray
    """Ascending from the lower to the upper cut-off (V), ``voltages``."""

    capacity_mah_g_members: np.ndarray
    """``members x voltages`` (mAh/g)."""

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
            "current_ma_g": self.conditions.current_ma_g,
            "cycle": self.conditions.cycle,
            "v_low": self.conditions.v_low,
            "v_high": self.conditions.v_high,
            "capacity_mah_g_mean": float(self.total_members.mean()),
            "capacity_mah_g_std": float(self.total_members.std()),
            "capacity_mah_g_members": self.total_members.tolist(),
            "average_voltage_v_mean": float(_mean_of_defined(self.average_voltage_v_members)),
            "specific_energy_wh_kg_mean": float(self.specific_energy_wh_kg_members.mean()),
        }
        if profile:
            row["profile"] = {
                "voltage_v": self.voltage_v.tolist(),
                "capacity_mah_g_mean": self.capacity_mah_g_members.mean(0).tolist(),
                "capacity_mah_g_std": self.capacity_mah_g_members.std(0).tolist(),
            }
        return row


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
    known = set(ensemble.card.elements)
    for composition in dict.fromkeys(c for c, _ in cases):
        unseen = [s for s in composition.elements if s not in known]
        if unseen and not allow_unseen:
            raise CompositionError(
                f"{composition}: the model {ensemble.card.name} has never seen {', '.join(unseen)}; it knows "
                f"{' '.join(ensemble.card.elements)}. To extrapolate all the same: --allow-unseen."
            )
        if unseen:
            warnings.warn(
                f"{composition}: {', '.join(unseen)} unseen in training; the spread does not cover this.",
                DRXWarning,
                stacklevel=2,
            )
    low, high = TRAINED_CURRENT
    for conditions in dict.fromkeys(c for _, c in cases):
        if conditions.v_high < TRAINED_UPPER_CUTOFF:
            warnings.warn(
                f"Upper cut-off {conditions.v_high:g} V: below {TRAINED_UPPER_CUTOFF:g} V the model has hardly any "
                "data and its profiles need not start at zero.",
                DRXWarning,
                stacklevel=2,
            )
        if not low <= conditions.current_ma_g <= high:
            warnings.warn(
                f"{conditions.current_ma_g:g} mA/g lies outside the {low:g}-{high:g} mA/g of the training data.",
                DRXWarning,
                stacklevel=2,
            )


def predict_cases(
    ensemble: Ensemble,
    cases: Sequence[tuple[Composition, CyclingConditions]],
    *,
    points: int = GRID_POINTS,
    allow_unseen: bool = False,
    progress: Progress = silent,
) -> list[Prediction]:
    """Predict one discharge per case, in the order given.

    Args:
        ensemble: who predicts.
        cases: composition and conditions of each.
        points: voltages of a profile, evenly spaced over its window.
        allow_unseen: predict for elements outside the model's too, with a warning.
        progress: called with the number of cases done.

    Raises:
        CompositionError: an element is outside the model's.
    """
    check_domain(ensemble, cases, allow_unseen=allow_unseen)
    predictions: list[Prediction] = []
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        grids = np.stack([conditions.grid(points) for _, conditions in batch])
        amounts = Amounts.of([composition for composition, _ in batch])
        profiles = ensemble.predict(amounts, [conditions for _, conditions in batch], grids).cpu().double().numpy()
        predictions += [
            Prediction(composition, conditions, grids[i], profiles[:, i])
            for i, (composition, conditions) in enumerate(batch)
        ]
        progress(len(predictions), len(cases))
    return predictions


def fade(ensemble: Ensemble, composition: Composition, conditions: CyclingConditions, cycles: Sequence[int]) -> Any:
    """Capacity at the lower cut-off against cycle number: mean and standard deviation (mAh/g), ``cycles`` each."""
    low, high = conditions.window
    at = [CyclingConditions(conditions.current_ma_g, low, high, cycle) for cycle in cycles]
    mean, spread = mean_and_spread(ensemble.capacity([composition], at))
    return mean[0], spread[0]
