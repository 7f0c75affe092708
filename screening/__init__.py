"""Enumerate charge-balanced compositions and choose what to make.

The names below are imported when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from screening.space import CandidateSpace
    from screening.surrogate import DRXNetEnsembleModel, DRXNetGaussianModel

__all__ = ["CandidateSpace", "DRXNetEnsembleModel", "DRXNetGaussianModel"]

_HOME = {
    "CandidateSpace": "screening.space",
    "DRXNetEnsembleModel": "screening.surrogate",
    "DRXNetGaussianModel": "screening.surrogate",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
