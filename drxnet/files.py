"""The one way in which files are written: whole, on disk, or not at all.

A file is written beside its target under a name that begins with :data:`NEW`, brought to the disk, and renamed; then
the folder is brought to the disk. Whoever reads sees the old file or the new one. What a killed process leaves behind
is swept when its campaign is opened again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEW = ".new-"
"""How the names of unfinished files and folders begin."""

_STALE_S = 3600.0


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place to write a file to; it takes the place of the target when the body ends, and is removed if it fails.

    Args:
        path: target; its folder is made when it is not there. A device or a pipe is written to as it is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{NEW}{secrets.token_hex(6)}{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    with new_file(path) as partial:
        partial.write_bytes(content)


def save_figure(figure: Figure, path: Path, *, dpi: float = 150) -> Path:
    """Write a matplotlib figure; the form follows the suffix."""
    with new_file(path) as partial:
        figure.savefig(partial, dpi=dpi)
    return path


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, on the file system of the target; the body renames what it keeps, the rest goes."""
    path.mkdir(parents=True, exist_ok=True)
    partial = path / f"{NEW}{secrets.token_hex(6)}"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder, an hour ago or longer."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{NEW}*"):
            if time.time() - path.lstat().st_mtime > _STALE_S:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
