"""An objective: how much of its lithium a cathode takes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drxnet.composition import FARADAY_MAH_MOL
from drxnet.elements import ATOMIC_MASS
from screening.estimates import Estimate
from screening.quantities import MeasuredCells, MemberProfiles, OneDischarge

if TYPE_CHECKING:
    from torch import Tensor


class LithiumUsed(OneDischarge):
    """Capacity over the capacity of all lithium in the composition."""

    name, column = "lithium-used", "lithium_used"
    reference, digits = 0.5, 2

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Part of the lithium that each member predicts to move, ``members x n``."""
        amounts = profiles.amounts
        cations = amounts.cations.double()
        mass = sum(cations[:, i] * ATOMIC_MASS[s] for i, s in enumerate(amounts.symbols))
        fluorine = amounts.fluorine.double()
        mass = mass + fluorine * ATOMIC_MASS["F"] + (2 - fluorine) * ATOMIC_MASS["O"]
        return profiles.capacity(self.at) * mass / (FARADAY_MAH_MOL * cations[:, amounts.symbols.index("Li")])

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over the cells."""
        most = cells.composition.theoretical_capacity_mah_g
        return Estimate.over([d.capacity_mah_g / most for d in cells.under(self.at)])
