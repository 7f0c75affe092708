"""The worked scheduler of ``examples/orchestrator.py``, against a live server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign
from orchestrator import Made, Scheduler, SimulatedLaboratory
from served import served
from small_model import FINE_TUNING, write_small_model

from campaigns.campaign import Campaign, ServedCampaign

ROOT = Path(__file__).parents[3]
SEED = 11
"""Of the simulated laboratory: R01-01 fails in it."""


@pytest.fixture
def learning(tmp_path: Path) -> Iterator[Campaign]:
    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"), fine_tuning=FINE_TUNING)
    with Campaign.start(tmp_path / "demo", template) as opened:
        yield opened


@pytest.mark.parametrize(("rounds", "batch"), [(1, 2), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_rounds_over_http_as_it_is_typed(learning: Campaign, rounds: int, batch: int):
    with served(learning.folder) as address:
        program = [sys.executable, str(ROOT / "examples" / "orchestrator.py"), f"{address}/demo", "--seed", str(SEED)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        how = ["--rounds", str(rounds), "--batch", str(batch)]
        run = subprocess.run([*program, *how], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    for number in range(1, rounds + 1):
        names = ", ".join(f"R{number:02d}-{i:02d}" for i in range(1, batch + 1))
        assert f"proposed: {names}\n" in run.stdout
    state = learning.state()
    states = {p.proposal_id: (str(p.state), p.reason) for p in state.proposals}
    failed = [name for name, said in states.items() if said == ("failed", "a second phase in XRD")]
    assert "R01-01" in failed
    assert {word for word, _ in states.values()} == {"measured", "failed"}, states
    assert len(state.valid) == 2 * (rounds * batch - len(failed))
    assert len(state.models) == 1 + rounds  # one fine-tuning after each round
    assert {e.who for e in state.events[1:]} == {"orchestrator"}
    assert run.stdout.splitlines()[-1].startswith(tuple("12345"))


class Other:
    """A laboratory in which somebody decides while the furnace runs."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign

    def make(self, proposal: Mapping[str, Any]) -> Made:
        self.campaign.mark(proposal["proposal_id"], "abandoned", "smells")
        return Made(failure="cracked")


def test_what_somebody_decides_meanwhile_stands(campaign: Campaign, capsys: pytest.CaptureFixture[str]):
    record_round(campaign, FIRST)
    with served(campaign.folder) as address, ServedCampaign(f"{address}/demo") as there:
        Scheduler(there, Other(campaign)).finish()
    assert campaign.state().proposal("R01-01").reason == "smells"
    assert "R01-01 has changed since" in capsys.readouterr().out


def test_a_scheduler_that_was_stopped_goes_on_with_what_waits(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND, THIRD)
    campaign.mark("R01-02", "failed", "by hand")
    with served(campaign.folder) as address, ServedCampaign(f"{address}/demo") as there:
        scheduler = Scheduler(there, SimulatedLaboratory(tmp_path, failing=0.0))
        waiting = there.proposals("proposed", "accepted")
        assert [p["proposal_id"] for p in waiting] == ["R01-01", "R01-03"]
        for proposal in waiting:
            assert len(scheduler._make(proposal)) == 2
        assert there.proposals("proposed", "accepted") == []
        assert [p["proposal_id"] for p in there.proposals(round=1)] == ["R01-01", "R01-02", "R01-03"]
    assert {m.conditions.current_ma_g for m in campaign.state().valid} == {20.0, 1000.0}
