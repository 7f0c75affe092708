"""The command line, `drx-screen`: parse, call one function, print.

Every module here imports only click and :mod:`campaigns.cli.console` at the top; what a command needs is imported
when it runs, so that `--help` and the commands that need no network start at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

import click

from campaigns.cli.console import ErrorHandlingGroup

_MODULES = (
    "example exchange files insight keep mcp models predict reproduce returns rounds serve spaces standing training "
    "verification"
)
"""Modules here that hold commands."""

GROUPS: Mapping[str, Sequence[str]] = {
    "Ask the model": ("predict", "map", "recipe"),
    "Look at a space": ("enumerate", "explain"),
    "Run a campaign": ("init", "check", "propose", "mark", "rank", "status", "report", "serve"),
    "Hand in what was measured": ("validate", "ingest", "confirm", "supersede", "retract", "finetune"),
    "Keep, prove and share it": ("log", "verify", "export", "import", "backup", "restore", "mcp"),
    "Rehearse and learn the program": ("example", "backtest", "simulate"),
    "Models and their data": ("models", "train", "evaluate", "data", "reproduce"),
}
"""Commands by what one wants to do, in the order in which one wants it."""


class GroupedCommands(ErrorHandlingGroup):
    """Lists its commands under what one wants to do."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, group by group; one that stands in none comes last."""
        listed = [name for names in GROUPS.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in listed]
        column = max(map(len, listed)) + 2
        for title, names in (*GROUPS.items(), ("Others", others)):
            known = [(name, command) for name in names if (command := self.get_command(ctx, name))]
            rows = [(name, command.get_short_help_str(formatter.width - column - 4)) for name, command in known]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=column)


@click.group(cls=GroupedCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="drx-screen")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--read-only", is_flag=True, help="Open campaigns for reading; a command that must write says so.")
def main(debug: bool, read_only: bool) -> None:
    """Find better disordered-rocksalt cathodes: predict, enumerate, choose, learn.

    Start with `drx-screen propose --campaign he-rate`.
    """


def _register() -> None:
    for name in _MODULES.split():
        for command in import_module(f"{__name__}.{name}").COMMANDS:
            main.add_command(command)


_register()
