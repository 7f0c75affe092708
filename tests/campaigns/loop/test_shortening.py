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
