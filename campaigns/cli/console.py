"""What every command shares: output formats, progress, and errors as one line and an exit code.

Data go to stdout, messages and progress to stderr.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from drxnet.errors import DRXError, DRXWarning
from drxnet.progress import Progress

FORMATS = ("table", "json", "csv")
INTERRUPTED = 130
_NUMBER = re.compile(r"[-\d.]+( ± [-\d.]+)?$")


class ErrorHandlingGroup(click.Group):
    """A group whose commands end in a sentence, never in a traceback (except with --debug)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what goes wrong into a message on stderr and an exit code."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        debug = bool(ctx.params.get("debug"))
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
        for package in ("drxnet", "screening", "campaigns"):
            logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.WARNING)
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", DRXWarning)
                warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                click.echo("Interrupted; what was reported as done is kept.", err=True)
                ctx.exit(INTERRUPTED)
            except DRXError as error:
                if debug:
                    raise
                click.echo(f"Error: {error}", err=True)
                ctx.exit(error.exit_code)
            except ValueError as error:
                if debug:
                    raise
                click.echo(f"Error: {error}", err=True)
                ctx.exit(2)
            except OSError as error:
                if debug:
                    raise
                where = f"{error.filename}: " if error.filename else ""
                click.echo(f"Error: {where}{error.strerror or error}", err=True)
                ctx.exit(2)
            except Exception as error:
                if debug:
                    raise
                click.echo(
                    f"Error: {type(error).__name__}: {error}. This is a defect of drx-screen; run again with "
                    "`drx-screen --debug ...` and report what it prints.",
                    err=True,
                )
                ctx.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format table|json|csv`` to a command, as the argument ``output``."""
    return click.option(
        "--format", "output", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
    )(command)


def say(message: str) -> None:
    """Print a message for a person, to stderr."""
    click.echo(message, err=True)


def emit(output: str, rows: Any, table: Callable[[], None] | None = None) -> None:
    """Print data to stdout.

    Args:
        output: ``json``, ``csv`` or ``table``.
        rows: what the JSON contract says. As csv, a list of mappings (there or under ``rows`` or ``proposals``) is
            a table without what is nested, and nothing when it is empty; any other mapping is a single row.
        table: prints the table; by default the rows as :func:`print_table` shows them.
    """
    if output == "json":
        click.echo(json.dumps(_plain(rows), indent=1, ensure_ascii=False))
    elif output == "csv":
        click.echo(_as_csv(_plain(rows)), nl=False)
    elif table is not None:
        table()
    else:
        print_table(rows if isinstance(rows, list) else [rows])


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print mappings as a table that fits the terminal; keys become the header."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(title=title, header_style="bold", box=None, pad_edge=False, title_justify="left")
    for key, value in rows[0].items():
        table.add_column(str(key), justify="right" if _is_numeric(value) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in rows[0]))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _is_numeric(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and bool(_NUMBER.match(value)))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays, tuples and paths into what JSON holds; NaN into null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return str(value)


def _as_csv(content: Any) -> str:
    """Rows of a list, or of what the JSON contract puts under ``rows`` or ``proposals``; else one row of numbers."""
    if isinstance(content, list):
        rows = content
    else:
        listed = [content[key] for key in ("rows", "proposals") if isinstance(content.get(key), list)]
        rows = listed[0] if listed else [_flattened(content)]
    columns = dict.fromkeys(key for row in rows for key in row)
    for row in rows:
        for key, value in row.items():
            if isinstance(value, list | dict):
                columns.pop(key, None)
    text = io.StringIO()
    if columns:
        writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _flattened(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Facts within facts under names such as ``proposals.measured``."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show a bar with an ETA on stderr while the body runs; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
