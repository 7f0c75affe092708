"""Engines by name: the ensemble takes every one, and so does the command line, the older --compile too."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from campaigns.cli import main
from campaigns.cli.options import engine_options
from drxnet.checkpoint import ModelCard
from drxnet.engines import ENGINES
from drxnet.ensemble import Ensemble
from drxnet.network import DRXNet, NetworkShape


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_makes_an_ensemble_on_the_same_weights(name: str) -> None:
    ensemble = Ensemble(DRXNet(NetworkShape(members=1)), ModelCard("random", 1))
    twin = ensemble.with_engine(name)
    assert (twin.engine, twin.network) == (name, ensemble.network)


@pytest.mark.parametrize("command", ["propose", "rank"])
def test_commands_that_score_a_space_list_the_engines(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"]).output
    assert "|".join(ENGINES) in shown
    assert "--compile" in shown


@pytest.mark.parametrize(
    ("arguments", "engine"),
    [([], "auto"), (["--engine", "fused"], "fused"), (["--compile"], "compiled"), (["--engine", "warp"], None)],
)
def test_the_older_option_means_the_compiled_engine_and_says_so(arguments: list[str], engine: str | None) -> None:
    @click.command()
    @engine_options
    def show(engine: str) -> None:
        click.echo(engine)

    done = CliRunner().invoke(show, arguments)
    if engine is None:
        assert (done.exit_code, "is not one of" in done.stderr) == (2, True)
        return
    assert done.stdout.strip() == engine
    assert ("--compile is --engine compiled" in done.stderr) == ("--compile" in arguments)
