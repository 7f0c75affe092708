"""What makes a long walk short: only where it is long, each way with an exact count, none that is no way."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import SPACE, write_campaign, write_stub_model

from campaigns.loop.shortening import LONG_S, ways_to_shorten
from campaigns.spec import CampaignSpec, read_spec
from screening.lattice import Lattice
from screening.space import CandidateSpace


@pytest.fixture
def spec(tmp_path: Path) -> CampaignSpec:
    return read_spec(write_campaign(tmp_path / "demo.yaml", write_stub_model(tmp_path / "stub")))


def test_a_short_walk_needs_no_word(spec: CampaignSpec):
    count = spec.candidates().count
    assert ways_to_shorten(spec, count, rate=count / LONG_S, cores=1) == []


def test_every_way_says_what_it_leaves(spec: CampaignSpec):
    count = spec.candidates().count
    first, *ways = ways_to_shorten(spec, count, rate=count / 7200, cores=2)
    assert first == "The walk takes about 60 min on 2 cores. Shorter:"
    fewer = Lattice(CandidateSpace.model_validate({**SPACE, "k_elements": [2, 2]})).count
    coarser = Lattice(CandidateSpace.model_validate({**SPACE, "step": "1/10"})).count
    assert f"k_elements: [2, 2]: {fewer:,} candidates" in "\n".join(ways)
    assert f"step: 1/10: {coarser:,} candidates" in "\n".join(ways)
    assert max(fewer, coarser) < count
    assert any(way.startswith("method: best-first") for way in ways)


def test_a_search_is_not_shortened(spec: CampaignSpec):
    search = spec.model_copy(update={"method": "best-first"})
    assert ways_to_shorten(search, 10**9, rate=1000, cores=1) == []


def test_a_step_that_leaves_nothing_is_no_way(tmp_path: Path):
    """Li1.1Mn0.35Ti0.55O2 is neutral; on tenths nothing is."""
    space = {"step": "1/20", "lithium": 1.1, "fluorine": 0, "species": ["Mn2+", "Ti4+"], "k_elements": [1, 2]}
    space |= {"filters": "none"}
    template = write_campaign(tmp_path / "demo.yaml", write_stub_model(tmp_path / "stub"), space=space)
    ways = ways_to_shorten(read_spec(template), 10**9, rate=1000, cores=2)
    assert [way.partition(":")[0] for way in ways if way.startswith(("step", "k_elements"))] == []


@pytest.mark.parametrize(
    ("change", "offered"),
    [
        ({}, ["step: 1/10", "k_elements: [2, 2]"]),
        ({"k_elements": [3, 3]}, ["step: 1/10"]),
        ({"k_elements": [2, None]}, ["step: 1/10"]),
        ({"lithium": 1.15}, ["k_elements: [2, 2]"]),  # which a coarser step does not meet
        ({"step": "1/25"}, ["k_elements: [2, 2]"]),
    ],
)
def test_only_what_narrows_the_space_is_offered(tmp_path: Path, change: dict, offered: list[str]):
    template = write_campaign(tmp_path / "demo.yaml", write_stub_model(tmp_path / "stub"), space={**SPACE, **change})
    ways = ways_to_shorten(read_spec(template), 10**9, rate=1000, cores=2)
    said = [way.rpartition(": ")[0] for way in ways if way.startswith(("step", "k_elements"))]
    assert said == offered


@pytest.mark.parametrize(
    ("cores", "rate", "times"),
    [
        (1, 20.0, ("13.9 h", "2.8 h", "13 min")),
        (2, 20.0, ("6.9 h", "2.8 h", "13 min")),
        (2, 1000.0, ("8 min", "3 min", "16 s")),
        (1, 2_500.0, ("7 min", "80 s", "6 s")),
    ],
)
def test_every_way_says_its_time_in_a_unit_that_one_would_say(
    spec: CampaignSpec, cores: int, rate: float, times: tuple[str, str, str]
):
    first, *ways = ways_to_shorten(spec, 1_000_000, rate=rate, cores=cores)
    searched, *_, cluster = ways
    assert first.split(" on ")[0] == f"The walk takes about {times[0]}"
    assert f"scores 200,000 of 1,000,000 candidates: {times[1]} on one core" in searched
    assert cluster.endswith(f": {times[2]}")
