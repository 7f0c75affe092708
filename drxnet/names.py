"""The one rule for names that become part of a path, and what was probably meant by a name that nothing has."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable

from drxnet.errors import ConfigurationError, DRXError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def check_name(name: str, whose: str, error: type[DRXError] = ConfigurationError) -> str:
    """Refuse a name that could lead out of the folder it is put into, or that a shell or a database would misread.

    Args:
        name: the name; absolute paths, separators, ``.`` and ``..`` are none.
        whose: whose name it is, for the message, e.g. ``A model``.
        error: what is raised.

    Returns:
        The name.

    Raises:
        ConfigurationError: it holds other characters than a name may, unless another ``error`` is asked for.
    """
    if not _NAME.fullmatch(name):
        raise error(
            f"{whose}'s name holds letters, digits, dots, dashes and underscores, starts with a letter or a digit, and "
            f"has at most 63 characters. Got {name!r}."
        )
    return name


def found(look: Callable[[], bool]) -> bool:
    """What ``path.is_file`` or ``path.is_dir`` says; a name that is too long for a path is none of either.

    Raises:
        OSError: it cannot be told, for want of a permission for instance.
    """
    try:
        return look()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Name of those known that was probably meant; None where none is like it.

    Args:
        name: what was given; capitals, spaces, dashes and underscores make no difference.
        known: what there is.
        cutoff: least likeness, from 0 to 1 (:func:`difflib.get_close_matches`).
    """
    by_plain = {_plain(k): k for k in known}
    near = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=cutoff)
    return by_plain[near[0]] if near else None


def hint(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``Did you mean X? ``, to stand before what there is; empty where nothing is like the name."""
    near = nearest(name, known, cutoff)
    return f"Did you mean {near}? " if near else ""


def hint_or_all(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``Did you mean X?``, or where nothing is like the name ``Known: X, Y.``."""
    listed = list(known)
    return hint(name, listed, cutoff).strip() or f"Known: {', '.join(listed)}."


def _plain(name: object) -> str:
    return re.sub(r"[\s_-]+", "_", str(name).strip()).casefold()
