"""Read a YAML file that somebody else may have written: of a bounded size and depth, and without references.

Shipped files lie in the folder ``configs`` beside this package, and are found by where they lie: a package or a folder
of that name is common in other people's projects, and whichever Python would import is none of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from drxnet.errors import ConfigurationError

_BYTES = 1 << 20
_DEPTH = 30


def shipped_folder(kind: str) -> Path:
    """Folder of shipped files of a kind, such as ``campaigns``, ``spaces`` or ``models``."""
    return Path(__file__).resolve().parents[1] / "configs" / kind


def shipped(kind: str) -> dict[str, Path]:
    """Shipped YAML files of a kind, by name."""
    return {path.stem: path for path in sorted(shipped_folder(kind).glob("*.yaml"))}


def read_yaml(path: Path) -> Any:
    """Read the one document of a file.

    Raises:
        ConfigurationError: it is no YAML, larger or deeper than a configuration is, or holds references (``&``, ``*``),
            by which a few lines can stand for more than any memory holds.
        OSError: there is no such file.
    """
    with path.open("rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise ConfigurationError(f"{path}: larger than {_BYTES >> 20} MiB; that is no configuration.")
    try:
        text = content.decode("utf-8")
        _check(path, text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, a date or a number that is none
        raise ConfigurationError(f"{path}: not a YAML file ({error}).") from None


def _check(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            mark = event.start_mark
            where = f"{path}, line {mark.line + 1}" if mark else str(path)
            raise ConfigurationError(f"{where}: holds a reference (& or *). Write out what it stands for.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise ConfigurationError(f"{path}: nested deeper than {_DEPTH} levels; that is no configuration.")
