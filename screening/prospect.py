"""What another round is expected to bring, and whether that is more than cells of one composition differ by.

The gain of a batch is what the best of its feasible compositions adds to the best of everything that is known or being
made, in joint draws of the posterior, so that neighbours are not counted twice. Myopic: what a round teaches for those
after it is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from drxnet.composition import Composition
from drxnet.uncertainty import CELL_TO_CELL
from screening.measured import Made

if TYPE_CHECKING:
    from screening.outlook import Outlook

WORTHWHILE = 0.03
"""A round is worth its cells where the probability that it gains more than two cells differ by is at least this.

Chosen on laboratories that no published number comes from (`benchmarks/README.md`)."""

_INTERVAL = (0.1, 0.9)


@dataclass(frozen=True)
class Prospect:
    """What one more round is expected to add to the best of the first objective."""

    quantity: str
    unit: str
    decimals: int
    compositions: int
    gain: float
    """Expected, in the unit of the quantity, larger is better whatever its direction."""

    lower: float
    upper: float
    """It lies between these with 80 %."""

    difference: float
    """What the values of two cells of one composition usually differ by."""

    chance: float
    """Probability that the gain is more than that difference."""

    @property
    def stop(self) -> bool:
        """Whether another round is not worth its cells."""
        return self.chance < WORTHWHILE

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are recorded with a round and shown in JSON."""
        return {**asdict(self), "stop": self.stop, "sentence": str(self)}

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`as_dict` gave."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        """Say in a sentence whether to go on."""
        gain, lower, upper, difference = (
            f"{value:.{self.decimals}f}" for value in (self.gain, self.lower, self.upper, self.difference)
        )
        unit = f" {self.unit}" if self.unit else ""
        promise = f"another round of {self.compositions} is expected to better the {self.quantity} by {gain}{unit} "
        promise += f"(80 %: {lower}-{upper})"
        if self.stop:
            return f"Stop: {promise}; that it gains more than two cells differ ({difference}) has {self.chance:.0%}."
        return f"Go on: {promise}; it gains more than two cells differ ({difference}) with {self.chance:.0%}."


def prospect_of(outlook: Outlook, batch: Sequence[Composition | Made], seed: int = 0) -> Prospect | None:
    """What making a batch is expected to add; None while nothing known is probably feasible.

    Args:
        outlook: of the round.
        batch: compositions that would be made, as the goals say where nothing else is said.
        seed: of the draws.
    """
    import torch

    from screening.batch import JointSamples

    if not outlook.incumbents or not batch:
        return None
    asked = list(map(outlook.made_as_chosen, batch))
    rows = [*asked, *(made for made in outlook.made if made not in set(asked))]
    with torch.no_grad():
        beliefs = outlook.surrogate.at(outlook.read([c for c, _ in rows], [process for _, process in rows]))
        samples = JointSamples.of(outlook.surrogate, beliefs, seed)
    first = outlook.goals.objectives[0]
    worst = first.sign * first.reference_value
    good = samples.log_feasible > math.log(0.5)
    values = samples.objectives[..., 0].where(good, samples.objectives.new_tensor(worst)).clamp_min(worst).numpy()
    gains = np.maximum(values[:, : len(batch)].max(1) - values[:, len(batch) :].max(1, initial=worst), 0)
    difference = math.sqrt(2) * CELL_TO_CELL * abs(float(np.mean(values[:, len(batch) :].max(1, initial=worst))))
    lower, upper = np.quantile(gains, _INTERVAL)
    quantity = outlook.goals.first
    return Prospect(
        quantity=str(quantity),
        unit=quantity.unit,
        decimals=quantity.digits + 1,
        compositions=len(batch),
        gain=float(gains.mean()),
        lower=float(lower),
        upper=float(upper),
        difference=difference,
        chance=float((gains > difference).mean()),
    )
