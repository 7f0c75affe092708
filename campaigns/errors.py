"""Every exception that the three packages raise on purpose: declared by the layer that raises it, shown here together.

::

    DRXError
    ├── UsageError                 exit 2   a command, option or configuration is wrong
    │   ├── ConfigurationError              a YAML or a value in it
    │   │   └── NotBegun                    a campaign is to be read that has not begun
    │   ├── Unknown                         a server has no campaign or job of that name
    │   ├── Stale                           what a page or program had seen has changed; nothing was written
    │   ├── ReadOnly                        a server only shows
    │   ├── Busy                            a campaign's job is running
    │   ├── Unreachable                     no server answers at an address
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

The command line turns each into one line on stderr and the exit code beside it. A message says what must hold, what
came, and the way out. Whatever else is raised is a defect, and the command line says so (exit code 1).
"""

from drxnet.errors import ConfigurationError, DataRefused, DRXError, UsageError


class NotBegun(ConfigurationError):
    """A campaign is to be read that has not begun."""


class Unknown(UsageError):
    """A server has no campaign or job of that name."""


class Stale(UsageError):
    """What a page or a program had seen has changed since; nothing was written."""


class ReadOnly(UsageError):
    """A server only shows."""


class Busy(UsageError):
    """A job of this campaign is running; a server does one at a time."""


class Unreachable(UsageError):
    """No server answers at an address."""


class RecipeError(DataRefused):
    """No set of precursors gives the composition."""


class LedgerError(DRXError):
    """The ledger cannot be used."""

    exit_code = 5


class LedgerLocked(LedgerError):
    """Another process is writing and did not finish in time."""


class LedgerUnreadable(LedgerError):
    """Not a ledger, damaged, or written by a newer version."""
