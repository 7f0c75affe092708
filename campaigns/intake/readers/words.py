"""The words of headers and state columns, by language and by maker: tables, not code.

``vocabulary/languages/*.csv`` say what a word of a language is in English: of a header (``header``), of a state
column wherever it stands in the text (``state``), or of a state column where it stands alone (``code``).
``vocabulary/makers/*.csv`` say what an English header means in the files of a maker, and in which unit where the file
names none. ``vocabulary/formats.csv`` says how a format is told from the others. A new dialect is a row in them.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType

CHARGE, REST, DISCHARGE, UNKNOWN = 1, 0, -1, 2
"""Codes of the state column."""

Vocabulary = Mapping[str, tuple[str, str]]
"""Header stem (lower case, letters and digits only) -> quantity, default unit."""

IGNORED = "ignored"
"""Quantity of a column that is known and of no use."""

_CODES = {"charge": CHARGE, "rest": REST, "discharge": DISCHARGE}
_PLAIN = re.compile(r"[^a-z0-9]")


def rows(*path: str) -> Iterator[dict[str, str]]:
    """Rows of a table of the vocabulary, by its path below ``vocabulary``."""
    text = resources.files(__package__).joinpath("vocabulary", *path).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


@lru_cache(maxsize=16384)
def stem(text: str) -> str:
    """Letters and digits in lower case, without accents: ``Entladekapazität`` -> ``entladekapazitat``."""
    lower = text.casefold()
    if lower.isascii():
        return _PLAIN.sub("", lower)
    return "".join(letter for letter in unicodedata.normalize("NFKD", lower) if letter.isalnum())


@cache
def maker(*names: str) -> Vocabulary:
    """What the headers of a maker mean; of several makers, the first that knows a header counts."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for row in rows("makers", f"{name}.csv"):
            found.setdefault(row["header"], (row["quantity"], row["unit"]))
    return MappingProxyType(found)


@cache
def every_maker() -> Vocabulary:
    """What the headers of any maker mean."""
    folder = resources.files(__package__).joinpath("vocabulary", "makers")
    names = sorted(entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv"))
    return maker(*names)


@cache
def _languages() -> tuple[Mapping[str, str], Mapping[str, int], Mapping[str, int]]:
    headers: dict[str, str] = {}
    parts: dict[str, int] = {}
    codes: dict[str, int] = {}
    folder = resources.files(__package__).joinpath("vocabulary", "languages")
    for file in sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")):
        for row in rows("languages", file):
            if row["kind"] == "header":
                headers.setdefault(stem(row["word"]), stem(row["meaning"]))
            elif row["kind"] == "state":
                parts[stem(row["word"])] = _CODES[row["meaning"]]
            else:
                codes[row["word"].casefold()] = _CODES[row["meaning"]]
    return headers, parts, codes


def in_english(header_stem: str) -> str:
    """Stem of the English header that a stem of any language stands for; itself where it is not known."""
    return _languages()[0].get(header_stem, header_stem)


@lru_cache(maxsize=4096)
def state_code(word: str) -> int:
    """CHARGE, REST, DISCHARGE or UNKNOWN: by the longest known word in the text, or a rest that it begins with."""
    _, parts, codes = _languages()
    text = word.strip().casefold()
    plain = stem(text)
    if text in codes or plain in codes:
        return codes.get(text, codes.get(plain, UNKNOWN))
    known = [part for part in parts if part in plain]
    if any(parts[part] == REST and plain.startswith(part) for part in known):
        return REST
    return parts[max(known, key=len)] if known else UNKNOWN


@cache
def foreign_words() -> tuple[str, ...]:
    """Words that are not written in ASCII, by which an encoding is told."""
    folder = resources.files(__package__).joinpath("vocabulary", "languages")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".csv"))
    words = {row["word"] for name in names for row in rows("languages", name)}
    return tuple(sorted(word for word in words if not word.isascii() and len(word) > 1))
