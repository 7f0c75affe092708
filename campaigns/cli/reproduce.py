"""`reproduce`: the figures of the paper, one command each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import emit, format_option, print_table, progress, say
from drxnet.errors import UsageError
from drxnet.files import check_figure_path

if TYPE_CHECKING:
    from campaigns.report.reproduction import Reproduction

FIGURES = ("fig2", "fig3", "fig4", "fig5", "s6", "s8")


@click.command()
@click.argument("figure", type=click.Choice(FIGURES))
@click.option("--model", default="default", show_default=True, help="Ensemble that predicts, or simulates cells.")
@click.option("--data", type=click.Path(path_type=Path), help="DRX-TD folder or file, for fig2, fig3 and s8.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Figure to write: .png, .svg, .pdf  [default: FIGURE.png]."
)
@click.option("--members", type=click.IntRange(2), default=3, show_default=True, help="Of what is trained (fig3, s8).")
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Of every training (fig3, s8).")
@click.option(
    "--compositions",
    type=click.IntRange(20),
    default=240,
    show_default=True,
    help="Of simulated cells, without --data.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of simulation and training.")
@format_option
def reproduce(figure: str, data: Path | None, plot: Path | None, output: str, **how: Any) -> None:
    """Make a figure of the paper again: its table beside the printed numbers, and the drawing.

    fig2 the data set; fig3 errors on families that were not learned; fig4 capacity of Li-Mn-O-F over Li and F; fig5 the
    high-entropy cathodes HE-1 and HE-2; s6 a collection of high-entropy cathodes; s8 the first-cycle term of the loss.
    fig2, fig3 and s8 need DRX-TD (drx-screen data fetch drx-td); without it they take simulated cells, marked so.

    \b
    Example:
      drx-screen reproduce fig5 --model drxnet-2024
      drx-screen reproduce fig3 --data drx-td --members 5 --steps 20000
    """
    if data is not None and figure in ("fig4", "fig5", "s6"):
        raise UsageError(f"{figure} shows predictions of a model and takes no --data.")
    path = plot or Path(f"{figure}.png")
    check_figure_path(path)
    made = _made(figure, data, **how)
    made.draw(path)
    facts = {
        "figure": made.figure,
        "title": made.title,
        "simulated": made.simulated,
        "notes": made.notes,
        "rows": made.rows,
    }

    def show() -> None:
        title = f"{made.title} ({figure})" + (", SIMULATED CELLS" if made.simulated else "")
        print_table([{key: "" if value is None else value for key, value in row.items()} for row in made.rows], title)

    emit(output, made.rows if output == "csv" else facts, show)
    for note in made.notes:
        say(note)
    say(f"Figure: {path}")


def _made(
    figure: str, data: Path | None, model: str, members: int, steps: int, compositions: int, seed: int
) -> Reproduction:
    from dataclasses import replace

    from campaigns.cli.training import read_set
    from campaigns.report import reproduction
    from drxnet.ensemble import Ensemble
    from drxnet.training import load_options

    if figure in ("fig4", "fig5", "s6"):
        ensemble = Ensemble.load(model)
        of_model = {
            "fig4": reproduction.design_map,
            "fig5": reproduction.high_entropy,
            "s6": reproduction.collection,
        }
        return of_model[figure](ensemble)
    if data is None:
        say("Simulating cells; DRX-TD is not given.")
        profiles = reproduction.simulated_cells(Ensemble.load(model), compositions=compositions, seed=seed)
    else:
        profiles = read_set(data)
    simulated = data is None
    if figure == "fig2":
        return reproduction.data_set(profiles, simulated=simulated)
    options = replace(load_options("default"), members=members)
    trained = {"fig3": reproduction.applicability, "s8": reproduction.ablation}[figure]
    with progress("training") as report:
        return trained(profiles, options, simulated=simulated, steps=steps, seed=seed, progress=report)


COMMANDS: list[click.Command] = [reproduce]
