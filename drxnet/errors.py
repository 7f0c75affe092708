"""Every exception that this package raises on purpose; :mod:`campaigns.errors` shows the whole tree.

::

    DRXError
    ├── UsageError                 exit 2   a command, option or configuration is wrong
    │   ├── ConfigurationError              a YAML or a value in it
    │   ├── ModelNotFound                   no ensemble of that name or folder
    │   ├── MissingExtra                    an optional dependency is not installed
    │   └── ImpossibleValue                 a value that nothing can have; a ValueError, too
    └── DataRefused                exit 3   what was handed in cannot be trusted; nothing was changed
        ├── CompositionError                not a disordered-rocksalt composition
        ├── CheckpointError                 a model file is damaged, of a wrong kind or not what it claims
        ├── DatasetError                    a training set that cannot be learned from
        └── MeasurementError                a discharge that cannot be one, a file that breaks a validation rule

A message says what must hold, what came, and the way out.
"""

from typing import TYPE_CHECKING, Any


class DRXError(Exception):
    """Base of every error that is meant for the user."""

    exit_code = 2


class UsageError(DRXError):
    """A command, option or configuration is wrong."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A configuration file, or a value in it, cannot be used."""


class ModelNotFound(UsageError):
    """No ensemble of that name or folder exists."""


class MissingExtra(UsageError):
    """An optional dependency is needed and not installed."""


class ImpossibleValue(UsageError, ValueError):
    """A value that no cell, window or option can have. What else is a ValueError is a defect."""


class DataRefused(DRXError):
    """What was handed in cannot be trusted; nothing was changed."""

    exit_code = 3


class CompositionError(DataRefused):
    """Not a disordered-rocksalt composition."""


class CheckpointError(DataRefused):
    """A model file is damaged, of a wrong kind or not what it claims."""


class DatasetError(DataRefused):
    """A training set that cannot be learned from."""


class MeasurementError(DataRefused):
    """A cycler file or table that breaks a validation rule."""


class DRXWarning(UserWarning):
    """Something a chemist should know, and that stops nothing."""


if not TYPE_CHECKING:
    _MOVED = dict.fromkeys(
        ("LedgerError", "LedgerLocked", "LedgerUnreadable", "NotBegun", "RecipeError"), "campaigns.errors"
    )
    _MOVED |= {"NothingToPropose": "screening.errors"}

    def __getattr__(name: str) -> Any:
        """Find what version 0.1.0 declared here, for programs that import it from here."""
        if name not in _MOVED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_MOVED[name]), name)
