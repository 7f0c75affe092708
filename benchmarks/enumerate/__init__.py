"""Benchmarks of counting, walking, streaming and searching spaces of compositions."""
