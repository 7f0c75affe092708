"""What every command shares: output formats, progress, and errors as one line and an exit code.

Data go to stdout, messages and progress to stderr.
"""

from __future__ import annotations

import csv
import functools
import json
import logging
import math
import os
import re
import shlex
import sys
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drxnet.errors import DataRefused, DRXError, DRXWarning, UsageError
from drxnet.progress import Progress
from drxnet.text import csv_table, visible

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("table", "json", "csv")
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
INTERRUPTED = 130
DEFECT = 1
_NEVER_WRAPPED = 1_000_000
_LONG_HEADING = 20
"""Characters of a heading from which on it may take several lines."""

_SENTENCE = 24
"""Characters from which a cell with spaces is a sentence, and the least that one gets."""

_NUMBER = re.compile(r"[-\d.]+( ± [-\d.]+)?$")


class ErrorHandlingGroup(click.Group):
    """A group whose commands end in a sentence, never in a traceback (except with --debug)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what goes wrong into a message on stderr and an exit code."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        debug = bool(ctx.params.get("debug"))
        _log_to_stderr(logging.DEBUG if debug else logging.WARNING)
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", DRXWarning)
                warnings.showwarning = _show_warning
            try:
                found = super().invoke(ctx)
                _print("", False)  # a pipe that was closed is noticed here, not after the last line of Python
                return found
            except click.ClickException as error:
                error.message = visible(error.message, lines=True)  # type: ignore[misc]  # final for those who use it
                raise
            except (click.exceptions.Exit, click.Abort):
                raise
            except (KeyboardInterrupt, Exception) as error:
                if debug and isinstance(error, Exception):
                    raise
                message, exit_code = _told(error)
                say(message)
                ctx.exit(exit_code)


def _told(error: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code; what nobody foresaw is a defect."""
    match error:
        case KeyboardInterrupt():
            return "Interrupted; what was reported as done is kept.", INTERRUPTED
        case DRXError():
            return f"Error: {error}", error.exit_code
        case csv.Error():
            return f"Error: a table cannot be read: {error}.", DataRefused.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"Error: {where}{error.strerror or error}", UsageError.exit_code
    return (
        f"Error: {type(error).__name__}: {error}. This is a defect of drx-screen; run again with "
        "`drx-screen --debug ...` and report what it prints."
    ), DEFECT


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for package in ("drxnet", "screening", "campaigns"):
        logging.getLogger(package).setLevel(level)


class _VisibleFormatter(logging.Formatter):
    """Messages of the log, safe to show."""

    def format(self, record: logging.LogRecord) -> str:
        """Write control codes as escapes."""
        return visible(super().format(record), lines=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"Warning: {message}")


format_option = click.option(
    "--format", "output", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
"""``--format table|json|csv``, as the argument ``output``."""


def gathered(
    name: str, make: Callable[..., Any], *options: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with options that it takes together.

    Args:
        name: of the argument.
        make: forms it of the values of the options.
        *options: of click.
    """

    def bare() -> None:
        """Has the options, and nothing else."""

    for option in options:
        option(bare)
    mine = [parameter.name for parameter in vars(bare)["__click_params__"]]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_one(*args: Any, **given: Any) -> Any:
            own = {key: given.pop(key) for key in mine}
            return command(*args, **given, **{name: make(**own)})

        for option in reversed(options):
            with_one = option(with_one)
        return with_one

    return add


def numbers(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, float]:
    """Callback of options that are repeated as NAME=NUMBER."""
    try:
        return {name: float(value) for name, value in (pair.split("=") for pair in pairs)}
    except ValueError:
        raise UsageError(
            f"{option.opts[0]} is written NAME=NUMBER, such as {option.metavar}. Got {' '.join(pairs)}."
        ) from None


def naming(source: str) -> str:
    """``--campaign SOURCE`` as one types it, whatever its folder is called."""
    return f"--campaign {shlex.quote(source)}"


def say(message: str) -> None:
    """Print a message for a person, to stderr."""
    _print(visible(message, lines=True) + "\n", True)


def tell(text: str = "") -> None:
    """Print what was asked for, as text, to stdout."""
    _print(visible(text, lines=True) + "\n", False)


def _print(text: str, err: bool) -> None:
    """Print; where nobody listens any more (`| head`), the command goes on in silence."""
    try:
        click.echo(text, nl=False, err=err)
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), (sys.stderr if err else sys.stdout).fileno())


def emit(output: str, rows: Any, table: Callable[[], None] | None = None) -> None:
    """Print data to stdout.

    Args:
        output: ``json``, ``csv`` or ``table``.
        rows: what the JSON contract says. As csv, a list of mappings (there or under ``rows`` or ``proposals``) is
            a table without what is nested, and nothing when it is empty; any other mapping is a single row. Text that
            a spreadsheet would take for a formula gets an apostrophe in front; json is exact.
        table: prints the table; by default the rows as :func:`print_table` shows them.
    """
    if output == "json":
        _print(_escaped(json.dumps(_plain(rows), indent=1, ensure_ascii=False)) + "\n", False)
    elif output == "csv":
        _print(visible(_as_csv(_plain(rows)), lines=True), False)
    elif table is not None:
        table()
    else:
        print_table(rows if isinstance(rows, list) else [rows])


def _escaped(content: str) -> str:
    """JSON with what may be unseen written as ``\\u...``, which is the same value."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in content)


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print mappings as a table that fits the terminal, or one line a row in a pipe; keys become the header.

    Where the terminal is too narrow, sentences and long headings wrap, and then the last columns are left out, which is
    said; a formula, a name or a number never breaks, and none is cut.
    """
    from rich.console import Console

    if not rows:
        return
    if title:
        tell(title)
    columns = {key: [visible(_cell(row.get(key))) for row in rows] for key in rows[0]}
    width = Console().width if sys.stdout.isatty() else _NEVER_WRAPPED
    kept = fitting(columns, width)
    console = Console(width=max(width, _least_widths(columns, kept)))
    is_narrow = _together(max(map(len, (str(key), *cells))) for key, cells in columns.items()) > width
    right = {key for key in kept if _is_numeric(rows[0][key])}
    with console.capture() as capture:
        console.print(_drawn({key: columns[key] for key in kept}, right, folded=is_narrow))
    _print(capture.get(), False)
    _say_left_out([str(key) for key in columns if key not in kept])


def _drawn(columns: Mapping[Any, Sequence[str]], right: Collection[Any], *, folded: bool) -> Table:
    """Columns by heading as a table; some stand to the right, and long headings may be folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="" if os.environ.get("NO_COLOR") else "bold", box=None, pad_edge=False)
    for key, cells in columns.items():
        table.add_column(
            Text(_folded(key, cells) if folded else visible(str(key))),
            justify="right" if key in right else "left",
            overflow="fold",
            no_wrap=not _wraps(cells),
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _say_left_out(headings: Sequence[str]) -> None:
    if headings:
        say(f"Left out for lack of room: {', '.join(headings)}. A wider terminal or --format csv shows them.")


def fitting(columns: Mapping[Any, Sequence[str]], width: int) -> list[Any]:
    """Columns that a width has room for: the last ones go first, the first two stay.

    Args:
        columns: cells by heading.
        width: characters.
    """
    kept = list(columns)
    while len(kept) > 2 and _least_widths(columns, kept) > width:
        kept.pop()
    return kept


def _wraps(cells: Sequence[str]) -> bool:
    """Whether a column holds sentences, which may take several lines; a value with its spread is none."""
    return any(len(cell) > _SENTENCE and cell.count(" ") > 3 for cell in cells)


def _folded(heading: Any, cells: Sequence[str]) -> str:
    """A heading, over several lines where it is long and its cells are not."""
    text = visible(str(heading))
    if len(text) <= _LONG_HEADING:
        return text
    return "\n".join(textwrap.wrap(text, max(map(len, (*text.split(), *cells))), break_long_words=False))


def _together(widths: Iterable[int]) -> int:
    """Width of columns side by side."""
    return sum(width + 2 for width in widths) - 2


def _least_widths(columns: Mapping[Any, Sequence[str]], kept: Iterable[Any]) -> int:
    return _together(_least_width(key, columns[key]) for key in kept)


def _least_width(heading: Any, cells: Sequence[str]) -> int:
    if _wraps(cells):
        return max(_SENTENCE, *(len(word) for cell in cells for word in cell.split()))
    return max(map(len, (*_folded(heading, cells).splitlines(), *cells)))


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
    match value:
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple() | set() | frozenset():
            return [_plain(v) for v in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _as_csv(content: Any) -> str:
    """Rows of a list, or of what the JSON contract puts under ``rows`` or ``proposals``; else one row of numbers."""
    rows = content if isinstance(content, list) else _listed(content)
    nested = {key for row in rows for key, value in row.items() if isinstance(value, list | dict)}
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in nested]
    return csv_table(rows, columns) if columns else ""


def _listed(content: Mapping[str, Any]) -> list[Any]:
    for key in ("rows", "proposals"):
        if isinstance(content.get(key), list):
            return list(content[key])
    return [flattened(content)]


def flattened(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Facts within facts under names such as ``proposals.measured``."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def local_time(at: str) -> str:
    """Write a moment of the ledger, which is in UTC, as the clock on this wall shows it, with its distance to UTC."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show a bar with an ETA on stderr while the body runs; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
