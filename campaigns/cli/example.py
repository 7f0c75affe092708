"""`example`: a folder to learn with."""

from __future__ import annotations

from pathlib import Path

import click

from campaigns.cli.console import say, tell
from drxnet.text import typed


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def example(folder: Path) -> None:
    """Write a small campaign, cycler files of simulated cells and the tutorials as notebooks to the new folder DIR.

    Needs no network. The notebooks open in Jupyter (`pip install jupyterlab`).

    \b
    Example:
      drx-screen example demo
      drx-screen ingest --campaign demo demo/week1 --samples demo/week1/samples.csv
    """
    from campaigns.example import write_example

    for path in write_example(folder):
        tell(str(path))
    week = folder / "week1"
    say(f"Next: drx-screen ingest --campaign {typed(folder)} {typed(week)} --samples {typed(week / 'samples.csv')}")


COMMANDS = (example,)
