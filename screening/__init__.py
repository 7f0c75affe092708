"""Enumerate charge-balanced compositions and choose what to make."""
