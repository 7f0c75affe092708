"""Profiles in closed form and networks small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drxnet import drxtd
from drxnet.checkpoint import ModelCard
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet
from drxnet.ensemble import Ensemble
from drxnet.training import TrainingOptions, initial_network

FORMULAS = (
    "Li1.2Mn0.4Ti0.4O2",
    "Li1.25Mn0.75O2",
    "Li1.2Mn0.2Cr0.2Ti0.4O1.9F0.1",
    "Li1.15Mg0.1V0.25Mn0.3Nb0.2O1.8F0.2",
    "Li1.1Mn0.5Nb0.2Ti0.2O2",
    "Li1.3Mn0.3V0.4O1.7F0.3",
    "Li1.05Cr0.35Mn0.25Ti0.35O2",
    "Li1.35Mn0.35Mg0.1Nb0.2O1.9F0.1",
)
TINY = {"layers": 1, "heads": 1, "attention_hidden": 8}
SMALL = TrainingOptions(members=2, epochs=2, profiles_per_batch=4, points_per_profile=5, network=TINY)


def linear_profiles(
    count: int = 12, points: int = 10, *, seed: int = 0, formulas: tuple[str, ...] = FORMULAS[:4]
) -> ProfileSet:
    """Profiles that fall linearly with voltage; capacity depends on lithium, current and cycle."""
    rng = np.random.default_rng(seed)
    compositions = tuple(Composition.parse(formulas[i % len(formulas)]) for i in range(count))
    current = rng.choice([20.0, 100.0, 1000.0], count)
    cycle = rng.integers(1, 30, count).astype(float)
    voltage = np.tile(np.linspace(1.5, 4.8, points), (count, 1))
    first = 220 * np.array([c.lithium for c in compositions]) - 30 * np.log10(current)
    total = first - cycle
    share = (4.8 - voltage) / 3.3
    return ProfileSet(
        compositions,
        current,
        cycle,
        np.tile([1.5, 4.8], (count, 1)),
        voltage,
        total[:, None] * share,
        np.repeat(-total[:, None] / 3.3, points, 1),
        first[:, None] * share,
    )


def untrained_ensemble(options: TrainingOptions = SMALL, seed: int = 0) -> Ensemble:
    """Members with random weights."""
    card = ModelCard(name="untrained", members=options.members, network=dict(options.network))
    return Ensemble(initial_network(options, seed), card)


def write_drx_td_example(path: Path) -> Path:
    """Write ten cycles of a cell that loses 2 % in each as the published example is written, in three decimals."""
    share = np.linspace(0, 1, 300)
    voltage = 4.7 - 1.2 * share - 2.0 * share**4
    discharges = tuple(drxtd.Curve(n, voltage, 240 * 0.98 ** (n - 1) * share) for n in range(1, 11))
    test = drxtd.CyclingTest(Composition.parse(FORMULAS[0]), 20.0, 1.5, 4.8, discharges)
    drxtd.write_csv(path, [drxtd.standardize(test)], decimals=drxtd.PUBLISHED_DECIMALS)
    return path
