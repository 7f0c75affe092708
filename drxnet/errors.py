"""Every exception that the three packages raise on purpose.

::

    DRXError
    ├── UsageError                 exit 2   a command, option or configuration is wrong
    │   ├── ConfigurationError              a YAML or a value in it
    │   │   └── NotBegun                    a campaign is to be read that has not begun
    │   ├── ModelNotFound                   no ensemble of that name or folder
    │   ├── MissingExtra                    an optional dependency is not installed
    │   └── ImpossibleValue                 a value that nothing can have; a ValueError, too
    ├── DataRefused                exit 3   what was handed in cannot be trusted; nothing was changed
    │   ├── CompositionError                not a disordered-rocksalt composition
    │   ├── CheckpointError                 a model file is damaged, of a wrong kind or not what it claims
    │   ├── DatasetError                    a training set that cannot be learned from
    │   ├── MeasurementError                a cycler file or table that breaks a validation rule
    │   └── RecipeError                     no set of precursors gives the composition
    ├── NothingToPropose           exit 4   every candidate is measured, pending or excluded
    └── LedgerError                exit 5
        ├── LedgerLocked                    another process is writing and did not finish in time
        └── LedgerUnreadable                not a ledger, damaged, or of a newer schema

The command line turns each into one line on stderr and the exit code beside it. A message says what
must hold, what came, and the way out.
"""


class DRXError(Exception):
    """Base of every error that is meant for the user."""

    exit_code = 2


class UsageError(DRXError):
    """A command, option or configuration is wrong."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A configuration file, or a value in it, cannot be used."""


class NotBegun(ConfigurationError):
    """A campaign is to be read that has not begun."""


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


class RecipeError(DataRefused):
    """No set of precursors gives the composition."""


class NothingToPropose(DRXError):
    """Every candidate is measured, pending or excluded."""

    exit_code = 4


class LedgerError(DRXError):
    """The ledger cannot be used."""

    exit_code = 5


class LedgerLocked(LedgerError):
    """Another process is writing and did not finish in time."""


class LedgerUnreadable(LedgerError):
    """Not a ledger, damaged, or written by a newer version."""


class DRXWarning(UserWarning):
    """Something a chemist should know, and that stops nothing."""
