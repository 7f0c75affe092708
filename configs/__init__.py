"""Shipped configuration files, found by name."""

from importlib.resources import as_file, files
from pathlib import Path


def shipped(kind: str) -> dict[str, Path]:
    """Shipped YAML files of a kind (``campaigns``, ``spaces`` or ``models``) by name."""
    with as_file(files("configs") / kind) as folder:
        return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
