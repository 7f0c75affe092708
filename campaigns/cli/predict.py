"""`predict` and `map`: ask the ensemble about compositions."""

from __future__ import annotations

import click

COMMANDS: list[click.Command] = []
