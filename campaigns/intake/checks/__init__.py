"""Checks of what was read, one module per kind of source."""
