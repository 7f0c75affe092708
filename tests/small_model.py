"""A real ensemble small enough for tests of the whole loop: two members of the shipped one."""

from __future__ import annotations

from pathlib import Path


def write_small_model(folder: Path) -> Path:
    """Write it to a folder."""
    from drxnet.checkpoint import save
    from drxnet.ensemble import Ensemble

    small = Ensemble.load("default").subset([0, 1])
    save(folder, small.network.state_dict(), small.card)
    return folder


FINE_TUNING = {
    "options": {
        "steps": 10,
        "evaluate_every": 5,
        "patience": 1,
        "folds": 2,
        "replay_profiles": 8,
        "replay_per_step": 4,
        "points_per_profile": 4,
    }
}
"""Enough to change the weights, in about a second."""
