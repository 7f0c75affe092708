"""The one rule for names that become part of a path: models, campaigns, whatever is kept in a folder of its name."""

from __future__ import annotations

import re

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
