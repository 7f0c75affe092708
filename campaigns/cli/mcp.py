"""`mcp`: the verbs as tools for agents."""

from __future__ import annotations

from collections.abc import Sequence

import click

from campaigns.cli.console import say
from campaigns.cli.serve import campaigns_here
from drxnet.errors import MissingExtra


@click.command()
@click.option(
    "--campaign",
    "-C",
    "sources",
    multiple=True,
    metavar="DIR|YAML|NAME",
    help="A campaign to open; may be given several times. By default every campaign in this folder.",
)
@click.option("--write", is_flag=True, help="Let the tools write, too; without it they only look.")
@click.option("--who", help="What the log says who did it; by default `agent of` you and this machine.")
def mcp(sources: Sequence[str], write: bool, who: str | None) -> None:
    """Give the verbs to an agent as tools, over stdin and stdout (Model Context Protocol).

    An agent starts this command itself, as its configuration says. Without --write no tool that writes is there at
    all; with it every write is one entry of the log. Files are handed over as their content, so that an agent reads
    nothing of this machine through the tools. Needs the extra `agents`.

    \b
    Example:
      drx-screen mcp -C he-rate
      drx-screen mcp -C he-rate --write --who "robot 2"
    """
    try:
        from campaigns.server.agents import create_tools
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"`drx-screen mcp` needs the extras `server` and `agents` ({error.name} is not installed): "
            "pip install 'drx-screen[server,agents]'"
        ) from None
    only = bool(click.get_current_context().find_root().params.get("read_only"))
    tools = create_tools(sources or campaigns_here(), write=write and not only, who=who)
    say(f"Tools for agents on stdin and stdout, {'writing, too' if write and not only else 'only looking'}.")
    tools.run("stdio")


COMMANDS: list[click.Command] = [mcp]
