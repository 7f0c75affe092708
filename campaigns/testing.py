"""Checks that whatever another package adds to campaigns must pass; for its own tests."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np

from campaigns.intake import readers
from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.unpacking import open_head
from drxnet.progress import silent


def check_reader(reader: Reader, path: Path, others: Sequence[Path] = ()) -> None:
    """Check that a reader keeps the promises that all readers make, on one file of its format.

    Args:
        reader: a :class:`campaigns.intake.readers.recording.Reader`.
        path: a file that it must recognise.
        others: files of other formats, which must not be taken for its own by the choice of reader.
    """
    _check_choice(reader, path, others)
    _check_repeated(reader, path)
    with tempfile.TemporaryDirectory() as folder:
        _check_packed(path, Path(folder))
        _check_cut(path, Path(folder))


def _check_choice(reader: Reader, path: Path, others: Sequence[Path]) -> None:
    """The content decides: this reader is chosen, under any name, and not for files of other formats."""
    assert reader.recognises(open_head(path))
    assert readers.choose(path).name == reader.name
    for other in others:
        assert readers.choose(other).name != reader.name


def _check_repeated(reader: Reader, path: Path) -> None:
    """The same comes every time, and the file is left as it was."""
    before = path.read_bytes()
    first, second = (reader.read(open_head(path), ReadOptions(), silent) for _ in range(2))
    assert path.read_bytes() == before
    assert first.format
    assert all(isinstance(note, str) for note in first.notes)
    if isinstance(first, CyclerRows):
        assert isinstance(second, CyclerRows)
        _check_rows(first, second)


def _check_rows(first: CyclerRows, second: CyclerRows) -> None:
    """Rows are of one length and in our units."""
    rows = len(first.voltage_v)
    assert rows > 1
    assert first.current_ma is not None or first.moved_mah is not None
    for name in (f.name for f in fields(CyclerRows)):
        value = getattr(first, name)
        if isinstance(value, np.ndarray):
            assert value.shape == (rows,), name
            np.testing.assert_array_equal(value, getattr(second, name))
    assert np.isfinite(first.voltage_v).any()
    assert 0 <= np.nanmedian(first.voltage_v) < 6


def _check_packed(path: Path, folder: Path) -> None:
    """Compressed, it is the same."""
    before, first = path.read_bytes(), readers.read(path)[1]
    packed = folder / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(before) if before[:2] != b"\x1f\x8b" else before)
    again = readers.read(packed)[1]
    if isinstance(first, CyclerRows):
        assert isinstance(again, CyclerRows)
        np.testing.assert_array_equal(again.voltage_v, first.voltage_v)


def _check_cut(path: Path, folder: Path) -> None:
    """Cut anywhere, it is read or refused by a rule, and nothing else happens."""
    before, cut = path.read_bytes(), folder / path.name
    for share in (0.0, 0.02, 0.3, 0.5, 0.9, 0.999):
        cut.write_bytes(before[: int(len(before) * share)])
        with suppress(RuleBroken):
            readers.read(cut)
