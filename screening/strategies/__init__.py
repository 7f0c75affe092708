"""How a batch may be chosen: one class each, by name. Importing this package does not import torch.

Another package adds its own under the entry points ``drx_screen.strategies``, as a class that passes
:func:`screening.testing.check_strategy`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from drxnet.plugins import Registry
from screening.strategies.base import Strategy
from screening.strategies.improving import Greedy, LogEI, QLogNEI, Thompson, UpperBound
from screening.strategies.informing import PromiseAndVariance, VarianceReduction
from screening.strategies.spreading import Random, SpaceFilling

__all__ = ["RENAMED", "STRATEGIES", "Strategy", "StrategyName", "today"]

_log = logging.getLogger(__name__)


def _check(name: str, thing: object) -> None:
    if not (isinstance(thing, type) and issubclass(thing, Strategy)):
        raise ValueError(f"a strategy is a class derived from screening.strategies.Strategy. Got {thing!r}.")


STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy",
    "drx_screen.strategies",
    {
        "logei": LogEI,
        "qlognei": QLogNEI,
        "ucb": UpperBound,
        "thompson": Thompson,
        "greedy": Greedy,
        "random": Random,
        "space-filling": SpaceFilling,
        "variance-reduction": VarianceReduction,
        "promise-and-variance": PromiseAndVariance,
    },
    _check,
)
"""Every strategy by its name."""

RENAMED: Mapping[str, str] = {"qlognehvi": "qlognei"}
"""Names of earlier versions, and what they are called now."""


def today(name: str) -> str:
    """Today's name of a strategy, which the log tells of where it was another one."""
    if name in RENAMED:
        _log.info("the strategy %s is called %s, whatever the number of objectives", name, RENAMED[name])
    return RENAMED.get(name, name)


def _known(name: str) -> str:
    try:
        STRATEGIES[name]
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    return name


StrategyName = Annotated[str, BeforeValidator(today), AfterValidator(_known)]
"""A name that a specification has checked."""
