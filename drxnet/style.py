"""The one look of every figure that matplotlib draws: palette, fonts, axes; no pyplot, so that no state is left."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Asked = ParamSpec("Asked")
Drawn = TypeVar("Drawn")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EEEEEE",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
}
"""Parameters of matplotlib, as a style sheet holds them."""


def styled(draw: Callable[Asked, Drawn]) -> Callable[Asked, Drawn]:
    """Let a function that draws do so in the one look; figures that it does not draw are left as they are."""

    @functools.wraps(draw)
    def in_style(*args: Asked.args, **options: Asked.kwargs) -> Drawn:
        from cycler import cycler
        from matplotlib import rc_context

        parameters: dict[Any, Any] = {**STYLE, "axes.prop_cycle": cycler(color=COLOURS)}
        with rc_context(parameters):
            return draw(*args, **options)

    return in_style


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of a size (inches) that can be saved without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
