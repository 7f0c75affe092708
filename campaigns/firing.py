"""How a batch may be fired or milled: ranges by route, each with its source, as a starting point."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from drxnet.composition import Composition
from screening.filters import ROUTES

Route = Literal["solid-state", "mechanochemical"]
Gas = Literal["argon", "air"]


@dataclass(frozen=True)
class Firing:
    """What groups do with such a batch; a range to start from, never a recipe that is known to work."""

    route: Route
    fluorine: bool
    """Whether it is meant for oxyfluorides."""

    atmosphere: Gas
    temperature_c: tuple[float, float] | None
    """Lowest and highest temperature (C); None where the powder is milled and not fired."""

    hours: tuple[float, float]
    """Shortest and longest firing, or milling where it is not fired (h)."""

    li_excess: float
    """Fraction of lithium that is usually weighed on top."""

    f_excess: float
    milling: str
    source: str
    read: Literal["yes", "partly", "no"]
    """Whether the numbers were read in the sources named, or are common practice."""

    def __str__(self) -> str:
        """Return a sentence for the recipe sheet."""
        hours = f"{self.hours[0]:g}-{self.hours[1]:g} h"
        how = (
            f"mill for {hours} under {self.atmosphere}"
            if self.temperature_c is None
            else f"fire at {self.temperature_c[0]:g}-{self.temperature_c[1]:g} C for {hours} in {self.atmosphere}"
        )
        return f"A starting point, to be checked by X-ray diffraction: {how}. {self.milling} Source: {self.source}"

    def as_dict(self) -> dict[str, Any]:
        """Values by their public names, for JSON."""
        low, high = self.temperature_c or (None, None)
        return {
            "note": "a starting point, to be checked by X-ray diffraction",
            "atmosphere": self.atmosphere,
            "temperature_c_low": low,
            "temperature_c_high": high,
            "hours_low": self.hours[0],
            "hours_high": self.hours[1],
            "milling": self.milling,
            "source": self.source,
            "source_read": self.read,
        }


@cache
def shipped_firings() -> tuple[Firing, ...]:
    """Every line of ``data/firing.csv``."""
    with (files("campaigns") / "data" / "firing.csv").open(encoding="utf-8") as file:
        return tuple(_read(row) for row in csv.DictReader(file))


def _read(row: dict[str, str]) -> Firing:
    temperature = (float(row["low_c"]), float(row["high_c"])) if row["low_c"] else None
    return Firing(
        row["route"],  # type: ignore[arg-type]  # the shipped table, which a test reads
        row["fluorine"] == "yes",
        row["atmosphere"],  # type: ignore[arg-type]
        temperature,
        (float(row["low_h"]), float(row["high_h"])),
        float(row["li_excess"]),
        float(row["f_excess"]),
        row["milling"],
        row["source"],
        row["read"],  # type: ignore[arg-type]
    )


def usual_route(composition: Composition, *, closed: bool) -> Route:
    """Route that reaches the fluorine of a composition: milling beyond what firing keeps, see :data:`ROUTES`."""
    return "mechanochemical" if closed and composition.fluorine > ROUTES["solid-state"] + 1e-9 else "solid-state"


def suggest(composition: Composition, route: Route, *, closed: bool) -> Firing:
    """Range to start from.

    Args:
        composition: what is made.
        route: how.
        closed: argon (or a closed jar); otherwise air.
    """
    gas: Gas = "argon" if closed or route == "mechanochemical" else "air"
    wanted = (route, composition.fluorine > 0, gas)
    return next(f for f in shipped_firings() if (f.route, f.fluorine, f.atmosphere) == wanted)
