"""How far the numbers that are shown can be trusted."""
