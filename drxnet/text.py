"""Text that others wrote, made safe to show: on a terminal, in a table, in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drxnet.errors import ConfigurationError

_UNSEEN = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u024f]")
"""Characters that may be unseen: all but the printable ones of ASCII and Latin."""

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula."""


def visible(text: str, *, lines: bool = False) -> str:
    r"""Write control codes, marks of direction and broken characters as escapes such as ``\x1b``.

    Args:
        text: from a file, a name or a person.
        lines: line ends and tabs stay; else the result is one line.
    """
    return _UNSEEN.sub(lambda found: _seen(found[0], lines), text)


def _seen(character: str, lines: bool) -> str:
    if character.isprintable() or (lines and character in "\n\t"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def typed(path: str | Path) -> str:
    """A path as one types it in a shell here: from the working directory where it lies in it, and as one word."""
    whole = Path(path).resolve()
    here = Path.cwd()
    return shlex.quote(str(whole.relative_to(here) if whole.is_relative_to(here) else whole))


def storable(text: str) -> str:
    r"""Write as escapes what a database or a file in UTF-8 cannot hold: NUL and halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


def table_text(path: Path) -> str:
    """Text of a table that a spreadsheet saved: in UTF-8, or in UTF-16 with its mark.

    Raises:
        ConfigurationError: neither.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: a table is text in UTF-8. Save it again as `CSV UTF-8`.") from None


def delimiter_of(first_line: str) -> str:
    """What parts the cells of a table: commas, semicolons or tabs, whichever its first line has most of."""
    return max(",;\t", key=first_line.count)


def table_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table that are not empty, each with the number of the line that it ends in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.split("\n", 1)[0]))
    return ((reader.line_num, row) for row in reader if row)


def csv_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, verbatim: bool = False) -> str:
    """Rows as CSV with a header; keys that are no columns are left out.

    Args:
        rows: by column.
        columns: in order.
        verbatim: text stays as it is; else what a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row if verbatim else {key: _no_formula(value) for key, value in row.items()})
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str) or len(value) < 2 or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
