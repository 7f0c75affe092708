"""`models`: list, show, import and fetch ensembles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from campaigns.cli.console import emit, flattened, format_option, print_table, say
from drxnet.errors import CheckpointError, UsageError

_FORCE = click.option("--force", is_flag=True, help="Replace a model of that name; nothing else is ever replaced.")


@click.group()
def models() -> None:
    """List, show, import and fetch ensembles.

    \b
    Example:
      drx-screen models list
    """


@models.command(name="list")
@format_option
def list_models(output: str) -> None:
    """List the ensembles that can be loaded by name.

    \b
    Example:
      drx-screen models list
    """
    from drxnet.checkpoint import available_models, read_card

    rows = []
    for name, folder in available_models().items():
        try:
            card = read_card(folder)
        except CheckpointError as error:
            say(f"Left out {name}: {error}")
            continue
        rows.append({"name": name, "model_id": card.model_id, "members": card.members, "folder": str(folder)})
    emit(output, rows)
    if not rows:
        say("No models yet: `drx-screen models fetch drxnet-2024`, or `drx-screen models import DIR`.")


@models.command()
@click.argument("name")
@format_option
def show(name: str, output: str) -> None:
    """Show the card of an ensemble: data, errors, domain, provenance.

    \b
    Example:
      drx-screen models show default
    """
    from dataclasses import asdict

    from drxnet.checkpoint import find_model, read_card

    folder = find_model(name)
    card = read_card(folder)
    facts: dict[str, Any] = {**asdict(card), "model_id": card.model_id, "folder": str(folder)}

    def table() -> None:
        values = {k: " ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in flattened(facts).items()}
        rows = [{"": key, "value": str(value)} for key, value in values.items() if value not in ("", None)]
        print_table(rows, title=f"{card.name} ({card.model_id})")

    emit(output, facts, table)


@models.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", help="Name to store it under; not needed for the published files.")
@_FORCE
def import_(folder: Path, name: str | None, force: bool) -> None:
    """Import a model's folder (model.json, weights.safetensors), or the published state dicts (model_0 ... model_4).

    \b
    Example:
      drx-screen models import drxnet/pretrained --name my-copy
    """
    from drxnet.checkpoint import import_model

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder.")
    target = import_model(folder, name, replace=force)
    say(f"Imported as {target.name}: {target}")


@models.command()
@click.argument("name", default="drxnet-2024")
@_FORCE
def fetch(name: str, force: bool) -> None:
    """Download the published ensemble and check its SHA-256 sums.

    \b
    Example:
      drx-screen models fetch drxnet-2024
    """
    from drxnet.checkpoint import fetch_published

    say(f"Stored: {fetch_published(name, replace=force)}")


COMMANDS: list[click.Command] = [models]
