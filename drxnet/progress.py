"""How long-running functions report progress without knowing who watches."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``; the command line shows it with an ETA."""


def silent(done: int, total: int) -> None:
    """Report to nobody."""
