"""What a backtest leaves: its picture, its rounds and its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.loop.backtest import TOP_SHARE, Backtest
from campaigns.report.figures import figure_with_axes, save
from drxnet.files import replace_file
from drxnet.style import COLOURS, styled
from drxnet.text import csv_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def plot_backtest(found: Backtest) -> Figure:
    """Best true objective and hits by round, one colour per strategy; thin lines are single repeats."""
    figure, grid = figure_with_axes(10, 4.2, 1, 2)
    left, right = np.ravel(grid)
    x = np.arange(1, found.rounds + 1)
    for colour, mark, strategy in zip(COLOURS, "os^DvPX", found.strategies, strict=False):
        best = found.best_by_round(strategy)
        hits = np.full(best.shape, np.nan)
        for row in found.rows:
            if row.strategy == strategy:
                hits[row.repeat, row.round - 1] = row.hits
        for axes, table in ((left, best), (right, hits)):
            axes.plot(x, table.T, "-", color=colour, lw=0.8, alpha=0.4)
            known = np.isfinite(table).all(0)
            mean = table[:, known].mean(0)
            axes.plot(x[known], mean, f"{mark}-", color=colour, lw=2, ms=7, mfc="none", mew=1.8, label=strategy)
    ceiling = float(np.mean(found.best_possible))
    left.axhline(ceiling, color="#8C8C8C", ls=":", lw=1.5, label="best there is")
    left.set_ylabel(f"best {found.objective} found, true value" + (f" ({found.unit})" if found.unit else ""))
    right.set_ylabel(f"compositions found of the best {TOP_SHARE:.0%} (there are {np.mean(found.hits_possible):.0f})")
    for axes in (left, right):
        axes.set_xlabel("round")
        axes.set_xticks(x[:: max(1, len(x) // 12)])
    right.set_ylim(bottom=0)
    right.yaxis.get_major_locator().set_params(integer=True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=8, fontsize=9, frameon=False)
    repeats = len(found.best_possible)
    left.set_title(
        f"{found.candidates} candidates, {found.feasible} feasible; thick: mean of {repeats} laboratories"
        if repeats > 1
        else f"{found.candidates} candidates, {found.feasible} feasible; one laboratory",
        fontsize=9,
        loc="left",
    )
    return figure


def write_backtest(found: Backtest, folder: Path) -> None:
    """Write ``backtest.csv``, ``backtest.json`` and ``backtest.png``."""
    table = csv_table(map(asdict, found.rows), list(asdict(found.rows[0])))
    replace_file(folder / "backtest.csv", table.encode())
    replace_file(folder / "backtest.json", (json.dumps(found.as_dict(), indent=1) + "\n").encode())
    save(plot_backtest(found), folder / "backtest.png")


def table_of(summary: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summary as a person reads it."""

    def spread(row: Mapping[str, Any]) -> str:
        if row["best_mean"] is None:
            return "none feasible"
        std, without = row["best_std"], row["runs_without_feasible"]
        told = f"{row['best_mean']:.4g}" + (f" ± {std:.2g}" if std is not None else "")
        return f"{told}; none in {without} of {row['repeats']} runs" if without else told

    return [
        {
            "strategy": row["strategy"],
            "best found (truth)": spread(row),
            "short of the best": "-" if row["regret_mean"] is None else f"{row['regret_mean']:.3g}",
            "top 1 % found": f"{row['hits_mean']:.1f}",
            "measured": f"{row['measured_mean']:.1f}",
            "failed": f"{row['failed_mean']:.1f}",
            "stopping saves": f"{row['saved_by_stopping']:.0%}"
            + ("" if row["lost_by_stopping"] is None else f", costs {row['lost_by_stopping']:.2g}"),
        }
        for row in summary
    ]
