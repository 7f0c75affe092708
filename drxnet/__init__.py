"""Predict discharge voltage profiles of disordered-rocksalt cathodes.

The names below are imported when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drxnet.composition import Composition
    from drxnet.discharge import CyclingConditions, DischargeProfile
    from drxnet.ensemble import Ensemble

__all__ = ["Composition", "CyclingConditions", "DischargeProfile", "Ensemble"]

_HOME = {
    "Composition": "drxnet.composition",
    "CyclingConditions": "drxnet.discharge",
    "DischargeProfile": "drxnet.discharge",
    "Ensemble": "drxnet.ensemble",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
