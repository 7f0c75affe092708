"""Every exception that this package raises on purpose beside those of drxnet; see :mod:`campaigns.errors`."""

from drxnet.errors import DRXError


class NothingToPropose(DRXError):
    """Every candidate is measured, pending or excluded."""

    exit_code = 4
