"""Measurements of speed and sample efficiency, beside what a user would use instead."""
