"""What commands of a campaign share: their options, and how they open it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from campaigns.cli.console import gathered, say
from drxnet.engines import ENGINES
from screening.strategies import STRATEGIES, today

if TYPE_CHECKING:
    from campaigns.campaign import Campaign


campaign_option = click.option(
    "--campaign",
    "-C",
    "source",
    required=True,
    metavar="DIR|YAML|NAME",
    help="A campaign's folder, a YAML, or a shipped campaign; the last two start ./NAME on first use.",
)


def round_named(context: click.Context, option: click.Parameter, name: str | None) -> int | None:
    """Callback of options that name a round, such as R03."""
    from campaigns.ledger.records import round_number

    return None if name is None else round_number(name)


as_of_option = click.option(
    "--as-of", metavar="R03", callback=round_named, help="Answer as right after this round was recorded."
)
"""``--as-of``, as the number of a round."""


def _engine(engine: str, compiled: bool) -> str:
    if compiled:
        say("--compile is --engine compiled; --engine auto, the default, is faster where the extra `fast` is there.")
    return "compiled" if compiled else engine


engine_options = gathered(
    "engine",
    _engine,
    click.option(
        "--engine",
        type=click.Choice(tuple(ENGINES)),
        default="auto",
        show_default=True,
        help="What evaluates the network: fused is fastest and needs the extra `fast`, compiled a C++ compiler.",
    ),
    click.option("--compile", "compiled", is_flag=True, help="The same as --engine compiled."),
)
"""``--engine`` and the older ``--compile``, as the argument ``engine``."""


def known_strategy(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuse a strategy that there is not; give back today's name of one that there is."""
    if name is not None:
        STRATEGIES.named(today(name))
    return name and today(name)


def open_campaign(source: str, *, read_only: bool = False) -> Campaign:
    """Open a campaign for a command; say so when this starts it."""
    from campaigns.campaign import Campaign
    from campaigns.spec import FILE_NAME, find_spec, read_spec

    if read_only or click.get_current_context().find_root().params.get("read_only"):
        return Campaign.open(source, command=command_line(), read_only=True)
    path = find_spec(source)
    begins = path.name != FILE_NAME and not (Path.cwd() / read_spec(path).name / FILE_NAME).is_file()
    campaign = Campaign.open(source, command=command_line())
    if begins:
        say(f"Started campaign {campaign.name} in {shown(campaign.folder)}/ from {source}.")
    return campaign


def command_line() -> str:
    """What was typed, for the event log."""
    return " ".join(["drx-screen", *sys.argv[1:]])


def shown(path: Path) -> str:
    """Path as short as it can be written from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


members_option = click.option(
    "--members", is_flag=True, help="Show the spread of the ensemble's members (ddof 0) too, which is no interval."
)
