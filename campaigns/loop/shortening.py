"""What would make a long walk through a space short: each way with the count or the time that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from campaigns.spec import CampaignSpec
from drxnet.errors import ConfigurationError
from screening.lattice import Lattice
from screening.space import CandidateSpace, exact

LONG_S = 300.0
"""A walk that takes longer is worth a word (s)."""

SEARCHED = 200_000
"""Candidates that the suggested search scores."""


def ways_to_shorten(spec: CampaignSpec, count: int, rate: float, cores: int) -> list[str]:
    """Sentences, each with what it leaves; none where looking through the space is short as it is.

    Args:
        spec: of the campaign.
        count: candidates of its space.
        rate: candidates that one core scores in a second.
        cores: that would score.
    """
    if spec.method != "walk" or count / rate / cores <= LONG_S or spec.candidate_space is None:
        return []
    ways = [f"The walk takes about {_time(count / rate / cores)} on {cores} cores. Shorter:"]
    scored = min(SEARCHED, count)
    ways.append(
        f"method: best-first (--method best-first) scores {scored:,} of {count:,} candidates: {_time(scored / rate)} "
        "on one core, without the proof that none is better"
    )
    for change, left in _narrower(spec.candidate_space):
        if left < 0.7 * count:
            ways.append(f"{change}: {left:,} candidates, {_time(left / rate / cores)}")
    if find_spec("numba") is None:
        ways.append("pip install 'drx-screen[fast]': four to five times as many candidates a second")
    ways.append(f"64 cores (scripts/on-cluster, --ray-address): {_time(count / rate / 64)}")
    return ways


def _narrower(space: CandidateSpace) -> Iterator[tuple[str, int]]:
    """Candidates of spaces with one thing less, each with the words for it in the YAML."""
    changes: list[tuple[str, dict[str, object]]] = []
    step = exact(space.step)
    if step.denominator % 2 == 0:
        coarse = f"1/{step.denominator // 2}"
        changes.append((f"step: {coarse}", {"step": coarse}))
    largest = space.k_elements.max
    if largest is not None and largest - 1 >= space.k_elements.min:
        fewer = [space.k_elements.min, largest - 1]
        changes.append((f"k_elements: {fewer}", {"k_elements": fewer}))
    for words, change in changes:
        try:
            left = Lattice(CandidateSpace.model_validate({**space.model_dump(), **change})).count
        except (ValueError, ConfigurationError):
            continue  # a range that the coarser step does not meet, or nothing neutral on it
        yield words, left


def _time(seconds: float) -> str:
    """A duration in the unit that one would say it in."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
