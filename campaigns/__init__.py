"""Run the screening loop with a laboratory: ledger, files and the command line.

The class below is imported when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

__all__ = ["Campaign"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("campaigns.campaign"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
