"""The command line, `drx-screen`: parse, call one function, print.

Every module here imports only click and :mod:`campaigns.cli.console` at the top; what a command needs is imported
when it runs, so that `--help` and the commands that need no network start at once.
"""

from __future__ import annotations

import click

from campaigns.cli.console import ErrorHandlingGroup


@click.group(cls=ErrorHandlingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="drx-screen")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--read-only", is_flag=True, help="Open campaigns for reading; a command that must write says so.")
def main(debug: bool, read_only: bool) -> None:
    """Find better disordered-rocksalt cathodes: predict, enumerate, choose, learn.

    Start with `drx-screen propose --campaign he-rate`.
    """


def _register() -> None:
    from campaigns.cli import (
        example,
        exchange,
        files,
        insight,
        keep,
        loop,
        mcp,
        models,
        predict,
        reproduce,
        serve,
        spaces,
        training,
        verification,
    )

    for module in (
        loop,
        files,
        predict,
        spaces,
        insight,
        models,
        training,
        reproduce,
        verification,
        keep,
        serve,
        mcp,
        example,
        exchange,
    ):
        for command in module.COMMANDS:
            main.add_command(command)


_register()
