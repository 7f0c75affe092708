"""Open what a lab hands in: the beginning of a file, its encoding, and its whole, never more than memory holds.

A compressed file may unpack to anything. What it says about its own size is believed where that is too much; what it
really gives is counted while it is read.
"""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.words import foreign_words

if TYPE_CHECKING:
    from campaigns.intake.readers.headers import Candidate

HEAD_BYTES = 1 << 20
"""The beginning by which a reader is chosen: some exports write a thousand lines of protocol above their table."""

MAX_BYTES = 1 << 30
"""Largest file, after decompression, that is read: 10 to 15 million rows."""

UNSUSPICIOUS_BYTES, MOST_COMPRESSION = 1 << 26, 50
"""What unpacks beyond both is no export of a cycler: those shrink to a fifth or a tenth."""

_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}

WIDE_SHARE = 0.5
"""Share of zeros in every other byte of a text in UTF-16 without a mark; the others are none."""

_LEGACY = tuple("gb18030 big5 cp932 cp949 cp1251 cp1252 euc_jp koi8_r iso8859_5 mac_roman cp850".split())
"""Encodings of text that is not UTF-8; the one in which most known words can be read."""


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
        """Encoding of a text file: by its mark, else by its zeros, else UTF-8 where that decodes, else by its words."""
        if (told := _told_encoding(self.content)) is not None:
            return told
        try:
            self.content[:-4].decode("utf-8") if not self.complete else self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.complete or error.start < len(self.content) - 8:
                return _legacy_encoding(self.content[: 1 << 16])
        return "utf-8"

    @cached_property
    def text(self) -> str:
        """The beginning as text; what does not decode is replaced."""
        return self.content.decode(self.encoding, errors="replace")

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the beginning; the last one may be cut. Quotes around whole lines are taken off."""
        lines = self._lines
        return [unwrapped(line) for line in lines] if self.quoted_lines else lines

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    @cached_property
    def quoted_lines(self) -> bool:
        """Whether quotes stand around each line as a whole, as after a table was saved as one column."""
        filled = [line for line in self._lines[:60] if line.strip()]
        whole = sum(unwrapped(line) != line for line in filled)
        return len(filled) > 2 and whole >= 0.8 * len(filled)

    @cached_property
    def is_text(self) -> bool:
        """Whether it looks like text at all."""
        if not self.content or self.encoding.startswith(("utf-16", "utf-32")):
            return bool(self.content)
        sample = self.content[:4096]
        return sample.count(b"\0") <= len(sample) // 100

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Lines that may be the header of a table, split in every way."""
        from campaigns.intake.readers.headers import candidates

        return candidates(self.lines)


def _told_encoding(content: bytes) -> str | None:
    """Encoding of a text by its byte order mark, or in UTF-16 by the zeros in every other byte; None without any."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    even, odd = (content[first:4096:2].count(0) / (len(content[first:4096:2]) or 1) for first in (0, 1))
    if max(even, odd) > WIDE_SHARE and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return None


def unwrapped(line: str) -> str:
    """A line without the quotes around it as a whole; itself where they are not around the whole."""
    text = line.strip().rstrip(",;")
    inner = text[1:-1]
    if len(text) < 3 or text[0] != '"' or text[-1] != '"' or '"' in inner.replace('""', ""):
        return line
    return inner.replace('""', '"') if any(separator in inner for separator in ",;\t") else line


def _legacy_encoding(sample: bytes) -> str:
    def known(encoding: str) -> int:
        text = sample.decode(encoding, errors="ignore")
        return sum(len(word) for word in foreign_words() if word in text)

    best = max(_LEGACY, key=known)
    return best if known(best) > 1 else "cp1252"


def open_head(path: Path) -> Head:
    """Read the beginning of a file, through gzip where it is compressed.

    Raises:
        RuleBroken: E9 for an empty file, damaged compression, or one that says that it unpacks to too much.
    """
    with path.open("rb") as file:
        content = file.read(HEAD_BYTES)
    if not content:
        raise RuleBroken("E9", f"{path.name}: the file is empty.")
    if path.stat().st_size > MAX_BYTES:
        raise RuleBroken("E9", f"{path.name}: larger than {MAX_BYTES >> 20} MiB. Export one test per file.")
    if content[:2] == b"\x1f\x8b":
        most = unpacked_at_most(path.stat().st_size)
        if _stated_size(path) > most:
            raise _too_large(path.name, most)
        try:
            with open_bytes(path) as file:
                content = file.read(HEAD_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise RuleBroken("E9", f"{path.name}: damaged gzip file ({error}). Copy it again.") from None
    return Head(path, content, complete=len(content) < HEAD_BYTES)


def _stated_size(path: Path) -> int:
    """Bytes that a gzip file says it unpacks to, in its last four; 0 where it is too short to say."""
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) < 18:
            return 0
        file.seek(-4, io.SEEK_END)
        return int(struct.unpack("<I", file.read(4))[0])


def unpacked_at_most(packed: int) -> int:
    """Bytes to which a compressed file of so many may unpack."""
    return min(MAX_BYTES, max(UNSUSPICIOUS_BYTES, MOST_COMPRESSION * packed))


def _too_large(name: str, most: int) -> RuleBroken:
    return RuleBroken(
        "E9",
        f"{name}: unpacks to more than {most >> 20} MiB, which is no export of a cycler. Export one test per file.",
    )


class _Counted(io.RawIOBase):
    """What comes out of a gzip file, refused as soon as it is too much."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._name = path.name
        self.packed = path.open("rb")
        self._plain = gzip.GzipFile(fileobj=self.packed)
        self._most = unpacked_at_most(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._plain.read(len(buffer))
        if self._plain.tell() > self._most:
            raise _too_large(self._name, self._most)
        buffer[: len(content)] = content
        return len(content)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._plain.seek(offset, whence)

    def tell(self) -> int:
        return self._plain.tell()

    def close(self) -> None:
        self._plain.close()
        self.packed.close()
        super().close()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where it is compressed.

    Reading on beyond :data:`MAX_BYTES` raises :class:`RuleBroken`.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], io.BufferedReader(_Counted(path), 1 << 18)) if compressed else path.open("rb")


def position(file: IO[bytes]) -> int:
    """Bytes of the file as it lies on the disk that have been read."""
    raw = getattr(file, "raw", None)
    packed = getattr(raw, "packed", None) or file
    try:
        return int(packed.tell())
    except (OSError, ValueError):
        return 0


def whole_content(head: Head, most: int = MAX_BYTES) -> bytes:
    """All bytes of a file, decompressed.

    Args:
        head: its beginning.
        most: bytes beyond which it is refused.

    Raises:
        RuleBroken: E9 for damaged compression or more than ``most``.
    """
    if head.complete:
        return head.content
    try:
        with open_bytes(head.path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RuleBroken("E9", f"{head.path.name}: damaged gzip file ({error}). Copy it again.") from None
    if len(content) > most:
        raise _too_large(head.path.name, most)
    return content


def whole_text(head: Head, most: int = MAX_BYTES) -> str:
    """All of a text file; quotes around whole lines are taken off."""
    text = whole_content(head, most).decode(head.encoding, errors="replace")
    if not head.quoted_lines:
        return text
    return "\n".join(unwrapped(line) for line in text.splitlines())


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
        RuleBroken: E9 where it would unpack to more than :func:`unpacked_at_most` allows.
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
        raise _too_large(head.path.name, most)
    return tuple(member.filename for member in members)
