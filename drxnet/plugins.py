"""What other packages add: conditions, quantities, filters, readers and strategies, found by their entry points.

A package that is installed beside this one names its additions in its ``pyproject.toml``::

    [project.entry-points."drx_screen.quantities"]
    lithium-used = "our_lab.quantities:LithiumUsed"

Nothing of it is imported before something asks for the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from drxnet.errors import ConfigurationError
from drxnet.names import hint

T = TypeVar("T")


@cache
def plugins(group: str) -> Mapping[str, Any]:
    """What the installed packages add to a group, by name.

    Raises:
        ConfigurationError: one of them cannot be imported, or two have the same name.
    """
    found: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        if point.name in found:
            raise ConfigurationError(f"Two installed packages add {point.name!r} to {group}. Uninstall one of them.")
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ConfigurationError(
                f"{point.name!r} of {group} ({point.value}) cannot be imported: {type(error).__name__}: {error}. "
                "Repair or uninstall the package that adds it."
            ) from error
    return found


class Registry(Mapping[str, T], Generic[T]):
    """Everything of one kind by name: what comes with the package, then what others add."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, T], check: Callable[[str, T], None]) -> None:
        """Name a kind.

        Args:
            kind: in words, for messages.
            group: of entry points.
            builtin: what comes with the package.
            check: told of every addition; raises ValueError where it is not of this kind.
        """
        self.kind, self.group, self.builtin, self._check = kind, group, dict(builtin), check

    def __getitem__(self, name: str) -> T:
        if name in self.builtin:
            return self.builtin[name]
        added = self._added()
        if name in added:
            return added[name]
        raise KeyError(f"No {self.kind} {name!r}. {hint(name, self)}There are {', '.join(self)}.")

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._added()

    def __iter__(self) -> Iterator[str]:
        return iter((*self.builtin, *self._added()))

    def __len__(self) -> int:
        return len(self.builtin) + len(self._added())

    def named(self, name: str) -> T:
        """What a name stands for.

        Raises:
            ConfigurationError: nothing, or something that is not of this kind; the message names what there is.
        """
        try:
            return self[name]
        except KeyError as error:
            raise ConfigurationError(error.args[0]) from None

    def _added(self) -> Mapping[str, T]:
        added = plugins(self.group)
        for name, thing in added.items():
            if name in self.builtin:
                raise ConfigurationError(f"An installed package adds {name!r} to {self.group}, which exists already.")
            try:
                self._check(name, thing)
            except ValueError as error:
                raise ConfigurationError(f"{name!r} of {self.group}: {error}") from None
        return added
