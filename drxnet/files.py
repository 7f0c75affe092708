"""The one way in which files are written: whole, on disk, or not at all.

A file is written beside its target under a name that begins with :data:`NEW`, brought to the disk, and renamed; then
the folder is brought to the disk. Whoever reads sees the old file or the new one. What a killed process leaves behind
is swept when its campaign is opened again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from drxnet.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEW = ".new-"
"""How the names of unfinished files and folders begin."""

RESUMED = ".scan-"
"""How the names of folders begin in which a stream keeps what it has done, so that a killed one goes on."""

_STALE_S = 3600.0
_FORGOTTEN_S = 7 * 24 * 3600.0
_OLD = "old"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


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


PICTURES = (".png", ".svg", ".pdf")
WITH_HTML = (*PICTURES, ".html")
"""Endings of figures, and of those that may be a page to move in."""


def check_figure_path(path: Path, suffixes: Sequence[str] = PICTURES) -> None:
    """Refuse a figure that could not be written, before anything is read or computed.

    Raises:
        UsageError: unknown suffix, or a folder that does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: a figure ends in {', '.join(suffixes)}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist.")


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


def put_folder(new: Path, folder: Path) -> None:
    """Put a filled folder in the place of another, which is then in the unfinished folder that held the new one.

    Linux exchanges the two in one step. Elsewhere there is an instant with neither of them, and :func:`heal` brings the
    old one back when a process is killed in it.

    Args:
        new: inside of what :func:`new_folder` gave.
        folder: target, which is replaced if it is there.
    """
    if not folder.is_dir():
        new.rename(folder)
    elif not _exchanged(new, folder):
        aside = new.parent / _OLD / folder.name
        aside.parent.mkdir()
        folder.rename(aside)
        new.rename(folder)
    sync_folder(folder.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    return bool(call(_HERE, os.fsencode(one.absolute()), _HERE, os.fsencode(other.absolute()), _EXCHANGE) == 0)


def heal(folder: Path) -> None:
    """Bring back the folders in it that a killed process had put aside and not yet replaced."""
    with contextlib.suppress(OSError):
        for old in folder.glob(f"{NEW}*/{_OLD}/*"):
            if not os.path.lexists(folder / old.name):
                old.rename(folder / old.name)


def sweep(folder: Path) -> None:
    """Bring back what killed processes had put aside in a folder, and remove what they left an hour ago or longer."""
    heal(folder)
    sweep_resumed(folder, older_than_s=_FORGOTTEN_S)
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{NEW}*"):
            if time.time() - path.lstat().st_mtime > _STALE_S:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def resumed_folder(folder: Path) -> Iterator[Path | None]:
    """Give a folder that stays when the body is killed or fails, and goes when it is done.

    None while another process works in it: both would do the same, and neither may clear it away under the other.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock_of(folder).open("w") as lock:
        if not _locked(lock):
            yield None
            return
        yield folder
        _clear(folder)


def sweep_resumed(home: Path, *, older_than_s: float = 0.0) -> None:
    """Remove folders of streams that nobody works in any more.

    Args:
        home: folder that they are in.
        older_than_s: those that nothing was added to for so long (s).
    """
    with contextlib.suppress(OSError):
        for name in {path.stem for path in home.glob(f"{RESUMED}*")}:
            folder = home / name
            newest = max(path.stat().st_mtime for path in (folder, _lock_of(folder)) if path.exists())
            if time.time() - newest < older_than_s:
                continue
            with _lock_of(folder).open("w") as lock:
                if _locked(lock):
                    _clear(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _lock_of(folder).unlink(missing_ok=True)


def _locked(lock: IO[str]) -> bool:
    """Take a lock that ends with the process; False when somebody has it, or where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
