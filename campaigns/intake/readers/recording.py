"""What readers return, and the options they take."""

from __future__ import annotations

import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, cast

import numpy as np

from campaigns.intake.measurement import RuleBroken
from drxnet.drxtd import CyclingTest
from drxnet.progress import Progress

HEAD_BYTES = 1 << 16
MAX_BYTES = 1 << 31
"""Largest file, after decompression, that is read."""

_EXPANSION_OF_GZIP = 1032
_TOO_LARGE = "unpacks to more than {} MiB, which is no export of a cycler. Export one test per file."

CHARGE, REST, DISCHARGE, UNKNOWN = 1, 0, -1, 2
"""Codes of the state column."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user settles where a file is ambiguous or wrong about itself."""

    decimal: str | None = None
    """Decimal sign of a text file, ``.`` or ``,``."""

    time_unit: float | None = None
    """Seconds that one unit of the time column stands for, whatever its header says."""

    voltage_unit: float | None = None
    """Volts that one unit of the voltage column stands for."""

    current_unit: float | None = None
    """Milliamperes that one unit of the current column stands for."""

    capacity_unit: float | None = None
    """Milliampere-hours that one unit of the capacity columns stands for."""

    def __post_init__(self) -> None:
        """Refuse what is no decimal sign or no unit."""
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"The decimal sign is '.' or ','. Got {self.decimal!r}.")
        for name in ("time_unit", "voltage_unit", "current_unit", "capacity_unit"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive. Got {value}.")


@dataclass(frozen=True, eq=False)
class CyclerRows:
    """Rows of a cycler, in the order of the file, in seconds, volts, mA and mAh."""

    format: str
    voltage_v: np.ndarray
    """Cell voltage (V), ``rows``."""

    time_s: np.ndarray
    """Elapsed time of the test (s), ``rows``; of the step where ``time_of_step``."""

    current_ma: np.ndarray | None = None
    """Current as the file has it (mA), ``rows``: the sign may mean anything, or nothing."""

    moved_mah: np.ndarray | None = None
    """Net charge since the start (mAh), ``rows``: rises on charge, falls on discharge."""

    charge_mah: np.ndarray | None = None
    """The instrument's charge capacity (mAh), ``rows``; it may be reset at any time."""

    discharge_mah: np.ndarray | None = None
    """The instrument's discharge capacity (mAh), ``rows``."""

    capacity_mah: np.ndarray | None = None
    """A capacity without direction (mAh), ``rows``."""

    specific_mah_g: np.ndarray | None = None
    """The instrument's discharge capacity by the mass it was told (mAh/g), ``rows``."""

    state: np.ndarray | None = None
    """What the instrument was doing, ``rows`` of CHARGE, REST, DISCHARGE or UNKNOWN."""

    step: np.ndarray | None = None
    """Number of the programme step, ``rows``."""

    record: np.ndarray | None = None
    """Number of the row in the instrument's order, ``rows``."""

    cycle: np.ndarray | None = None
    """Cycle number of the instrument, ``rows``: tells where in its test a file lies, not which discharge is which."""

    step_time_s: np.ndarray | None = None
    """Time since the step began (s), ``rows``, where the file gives it beside the elapsed time."""

    clock_span_s: float | None = None
    """Wall clock of the last row less that of the first (s)."""

    time_of_step: bool = False
    header_mass_mg: float | None = None
    header_material: str | None = None
    current_digits: int | None = None
    """Significant digits that the largest current is written with."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DigitisedCurve:
    """A discharge read off a printed figure."""

    name: str
    voltage_v: np.ndarray
    capacity_mah_g: np.ndarray


@dataclass(frozen=True, eq=False)
class DigitisedCurves:
    """The curves of one digitised figure."""

    format: str
    curves: tuple[DigitisedCurve, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SummaryRow:
    """A capacity from a table, without a profile."""

    row: int
    """Line of the file."""

    composition: str | None
    current_ma_g: float | None
    v_low: float | None
    v_high: float | None
    cycle: int
    capacity_mah_g: float


@dataclass(frozen=True)
class SummaryTable:
    """A table of capacities."""

    format: str
    rows: tuple[SummaryRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DRXTDTests:
    """The tests of a DRX-TD file."""

    format: str
    tests: tuple[CyclingTest, ...]
    notes: tuple[str, ...] = ()


Recording = CyclerRows | DigitisedCurves | SummaryTable | DRXTDTests


@dataclass(frozen=True)
class Head:
    """The beginning of a file, by which its reader is chosen."""

    path: Path
    content: bytes
    """The first bytes, decompressed."""

    complete: bool
    """Whether that is the whole file."""

    @property
    def suffix(self) -> str:
        """Ending of the name in lower case, without ``.gz``."""
        name = self.path.name.lower().removesuffix(".gz")
        return Path(name).suffix

    @cached_property
    def encoding(self) -> str:
        """Encoding of a text file: by its byte order mark, else UTF-8 where that decodes, else cp1252."""
        if self.content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        if self.content[:3] == b"\xef\xbb\xbf":
            return "utf-8-sig"
        if self.content[1:2] == b"\0" and self.content[3:4] == b"\0":
            return "utf-16-le"
        try:
            self.content[:-4].decode("utf-8") if not self.complete else self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.complete or error.start < len(self.content) - 8:
                return "cp1252"
        return "utf-8"

    @cached_property
    def text(self) -> str:
        """The beginning as text; what does not decode is replaced."""
        return self.content.decode(self.encoding, errors="replace")

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the beginning; the last one may be cut."""
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    @cached_property
    def is_text(self) -> bool:
        """Whether it looks like text at all."""
        if not self.content or self.encoding.startswith("utf-16"):
            return bool(self.content)
        sample = self.content[:4096]
        return sample.count(b"\0") <= len(sample) // 100


@dataclass(frozen=True)
class Reader:
    """One file format."""

    name: str
    recognises: Callable[[Head], bool]
    read: Callable[[Head, ReadOptions, Progress], Recording]
    suffixes: tuple[str, ...] = ()
    """Usual endings, for messages; the content decides."""


def open_head(path: Path) -> Head:
    """Read the beginning of a file, through gzip where it is compressed.

    Raises:
        RuleBroken: E9 for an empty file or damaged compression.
    """
    with path.open("rb") as file:
        content = file.read(HEAD_BYTES)
    if not content:
        raise RuleBroken("E9", f"{path.name}: the file is empty.")
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as file:
                content = file.read(HEAD_BYTES)
            _refuse_bomb(path)
        except (OSError, EOFError, zlib.error) as error:
            raise RuleBroken("E9", f"{path.name}: damaged gzip file ({error}). Copy it again.") from None
    return Head(path, content, complete=len(content) < HEAD_BYTES)


def _refuse_bomb(path: Path) -> None:
    """Refuse a gzip file that unpacks to more than a test can be, before anything is read into memory.

    Raises:
        RuleBroken: E9.
    """
    most = unpacked_at_most(path.stat().st_size)
    if most >= _EXPANSION_OF_GZIP * path.stat().st_size:
        return
    seen = 0
    with gzip.open(path) as file:
        while part := file.read(1 << 20):
            seen += len(part)
            if seen > most:
                raise RuleBroken("E9", f"{path.name}: {_TOO_LARGE.format(most >> 20)}")


def unpacked_at_most(packed: int) -> int:
    """Bytes to which a compressed file of so many may unpack; tables of cyclers shrink to a fifth or a tenth."""
    return min(MAX_BYTES, max(64 << 20, 50 * packed))


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where it is compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if compressed else path.open("rb")


def whole_content(head: Head) -> bytes:
    """All bytes of a file, decompressed.

    Raises:
        RuleBroken: E9 for damaged compression or more than :data:`MAX_BYTES`.
    """
    if head.complete:
        return head.content
    try:
        with open_bytes(head.path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RuleBroken("E9", f"{head.path.name}: damaged gzip file ({error}). Copy it again.") from None
    if len(content) > MAX_BYTES:
        raise RuleBroken("E9", f"{head.path.name}: larger than {MAX_BYTES >> 30} GiB; export one test per file.")
    return content


@contextmanager
def plain_file(head: Head, suffix: str) -> Iterator[Path]:
    """Path of the file, uncompressed and with a given ending, for parsers that go by the name."""
    with head.path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if head.path.suffix == suffix and not compressed:
        yield head.path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"file{suffix}"
        copy.write_bytes(whole_content(head))
        yield copy


def zip_members(head: Head) -> tuple[str, ...]:
    """Names inside a zip file; empty where it is none, or damaged.

    Raises:
        RuleBroken: E9 where it would unpack to more than :data:`MAX_BYTES`.
    """
    if head.content[:4] != b"PK\x03\x04":
        return ()
    try:
        with open_bytes(head.path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError):
        return ()
    most = unpacked_at_most(head.path.stat().st_size)
    if sum(member.file_size for member in members) > most:
        raise RuleBroken("E9", f"{head.path.name}: {_TOO_LARGE.format(most >> 20)}")
    return tuple(member.filename for member in members)
