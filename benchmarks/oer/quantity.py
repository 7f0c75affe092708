"""The overpotential as a quantity, added as another package would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from drxnet.discharge import CyclingConditions
from drxnet.plugins import plugins
from screening.estimates import Estimate
from screening.goals import Goals, ObjectiveSpec
from screening.quantities import QUANTITIES, MeasuredCells, MemberProfiles, Quantity

if TYPE_CHECKING:
    from torch import Tensor

    from screening.goals import Rates


@dataclass(frozen=True)
class Overpotential(Quantity):
    """Overpotential of oxygen evolution: measured, and predicted by no ensemble."""

    name, column, unit = "overpotential", "overpotential_v", "V"
    direction, reference, digits = "minimize", 1.0, 3

    @classmethod
    def of(cls, rates: Rates, current_ma_g: float | None = None, cycle: int | None = None) -> Self:
        """The same for every campaign."""
        return cls()

    @property
    def conditions(self) -> tuple[CyclingConditions, ...]:
        """No cell is cycled."""
        return ()

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Nothing that profiles could say."""
        raise NotImplementedError("No discharge profile tells an overpotential.")

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Nothing that cells could say."""
        return None


ADDED: dict[str, Any] = plugins(QUANTITIES.group)  # type: ignore[assignment]  # what entry points would fill
ADDED.setdefault(Overpotential.name, Overpotential)

GOALS = Goals(objectives=(ObjectiveSpec(quantity=Overpotential.name),), constraints=())
