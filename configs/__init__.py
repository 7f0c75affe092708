"""Shipped configuration files, found by name.

drx-screen itself does not import this package: it finds the files by where they lie (:mod:`drxnet.yaml_files`), so
that a folder or package ``configs`` of a user's own, which Python may import in its place, changes nothing.
"""

from pathlib import Path


def shipped(kind: str) -> dict[str, Path]:
    """Shipped YAML files of a kind (``campaigns``, ``spaces`` or ``models``) by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / kind).glob("*.yaml"))}
