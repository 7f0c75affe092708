"""Readers of measurement files; the content decides which one is used.

A text format, a language or a word is a row of ``vocabulary``. For a binary format write a module with a
:class:`~campaigns.intake.readers.recording.Reader` and name it in :func:`all_readers`, or add
it from a package of your own under the entry points ``drx_screen.readers``; :func:`campaigns.testing.check_reader` says
whether it behaves like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import Reader, ReadOptions, Recording
from campaigns.intake.readers.unpacking import Head, open_head, zip_members
from drxnet.plugins import Registry
from drxnet.progress import Progress, silent

ZIP = b"PK\x03\x04"
FOREIGN: Mapping[bytes, str] = {
    ZIP: "a zip archive; unpack it and give the export inside",
    b"7z\xbc\xaf": "a 7z archive; unpack it and give the export inside",
    b"Rar!": "a rar archive; unpack it and give the export inside",
    b"BZh": "compressed with bzip2; unpack it first (gzip is read as it is)",
    b"\xfd7zXZ": "compressed with xz; unpack it first (gzip is read as it is)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind; save it as .xlsx or csv",
    b"PAR1": "a parquet file; save it as csv",
    b"\x89HDF": "an HDF5 file; export the test as csv",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself; fetch it with `git lfs pull`",
}
"""How files begin that are often handed in and cannot be read, and what to do with each."""


def _check(name: str, thing: object) -> None:
    if not isinstance(thing, Reader):
        raise ValueError(f"a reader is a campaigns.intake.readers.recording.Reader. Got {thing!r}.")


ADDED: Registry[Reader] = Registry("reader", "drx_screen.readers", {}, _check)
"""Readers that other packages add; they are asked before the shipped ones."""


def all_readers() -> tuple[Reader, ...]:
    """Every reader, in the order in which they are asked."""
    from campaigns.intake.readers import (
        arbin_res,
        biologic_mpr,
        digitised,
        drxtd,
        formats,
        neware_binary,
        neware_layers,
        sheets,
        spreadsheet,
        summary,
    )

    return (
        *ADDED.values(),
        *biologic_mpr.READERS,
        *arbin_res.READERS,
        *neware_binary.READERS,
        *spreadsheet.READERS,
        *drxtd.READERS,
        *neware_layers.READERS,
        *summary.READERS,
        *formats.readers(),
        *sheets.READERS,
        *digitised.READERS,
    )


def choose(path: Path) -> Reader:
    """The reader for a file.

    Raises:
        RuleBroken: E9 where none recognises it.
    """
    return choose_for(open_head(path))


def choose_for(head: Head) -> Reader:
    """The reader for a file, by its beginning.

    Raises:
        RuleBroken: E9 where none recognises it.
    """
    for reader in all_readers():
        if reader.recognises(head):
            return reader
    raise RuleBroken("E9", f"{head.path.name}: {_why_nobody(head)}")


def _why_nobody(head: Head) -> str:
    """Why no reader recognises a file, and the way out."""
    if head.path.suffix.lower() == ".mps":
        return "EC-Lab settings hold no measurement; give the .mpr or .mpt beside it."
    if head.content.startswith(ZIP) and not zip_members(head):
        return "damaged or cut short (.xlsx, .ndax and .zip begin so). Copy it again."
    for magic, what in FOREIGN.items():
        if head.content.startswith(magic):
            return f"{what}."
    from campaigns.intake.readers.formats import any_table
    from campaigns.intake.readers.headers import named_by_spaces, nearest_header

    lines = head.lines[:60] if head.is_text else []
    near = nearest_header(head.candidates, any_table()) if lines else None
    if near is not None and len(near.missing) == 1:
        return (
            f"the header in line {near.line + 1} names no {near.missing[0]}. Export the test with time, voltage and "
            "current."
        )
    if (line := named_by_spaces(lines)) is not None:
        return (
            f"the columns of {line!r:.60} seem to be separated by single spaces, as words in them are. Save the table "
            "with tabs, semicolons or commas between its columns."
        )
    names = ", ".join(dict.fromkeys(reader.name for reader in all_readers()))
    return (
        f"no reader recognises it. Known: {names}. A text export needs a header line that names time, voltage and "
        "current."
    )


def read(path: str | Path, options: ReadOptions | None = None, progress: Progress = silent) -> tuple[str, Recording]:
    """Read a file.

    Returns:
        The name of its format, and what it holds.

    Raises:
        RuleBroken: E8 or E9, where it cannot be read without guessing.
        MissingExtra: a BioLogic .mpr without the extra that reads it.
    """
    path = Path(path)
    head = open_head(path)
    reader = choose_for(head)
    return reader.name, reader.read(head, options or ReadOptions(), progress)
