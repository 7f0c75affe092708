"""The whole loop with a simulated laboratory: reproducible, whatever interrupts it, whoever else is working on it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from ledgers import HIGH, LOW, write_campaign, write_discharge
from small_model import FINE_TUNING, write_small_model

from campaigns.campaign import Campaign
from campaigns.intake.files import check_files
from campaigns.intake.record import ingest
from campaigns.ledger.records import Snapshot
from campaigns.loop.propose import propose
from campaigns.report.round import incomplete_rounds, write_round_files
from campaigns.report.views import proposal_row
from drxnet.composition import Composition

ROUNDS = 2


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def fork() -> ForkServerContext:
    """Starts processes that have the heavy imports behind them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["campaigns.loop.forecast", "campaigns.loop.propose", "campaigns.intake.record", "campaigns.loop.finetune"]
    )
    return context


def begin(folder: Path, model: Path) -> Path:
    """Start a campaign in a folder, always under the same name."""
    folder.mkdir()
    Campaign.start(folder / "loop", write_campaign(folder / "t.yaml", model, fine_tuning=FINE_TUNING)).close()
    return folder / "loop"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_model: Path, fork: ForkServerContext) -> Path:
    """A campaign that ran to its end undisturbed."""
    folder = begin(tmp_path_factory.mktemp("whole") / "campaign", small_model)
    finish(folder, fork)
    return folder


def laboratory(formula: str, rate: str) -> float:
    """Capacity (mAh/g) that a cell would show: a closed form in the composition."""
    c = Composition.parse(formula)
    low = 170 + 150 * c.metals.get("Mn", 0.0) + 120 * c.metals.get("Cr", 0.0) - 100 * c.fluorine
    return low if rate == "low" else low * (0.3 + 0.6 * c.metals.get("Cr", 0.0) + 0.3 * c.metals.get("Ti", 0.0))


def run_lab(folder: Path) -> list[Path]:
    """Cycle every pending composition at both rates; a file that is there is left as it is."""
    exports = folder / "exports"
    exports.mkdir(exist_ok=True)
    with Campaign.open(folder) as campaign:
        pending = campaign.state().pending
    for proposal in pending:
        for rate, conditions in (("low", LOW), ("high", HIGH)):
            path = exports / f"{proposal.proposal_id}-{rate}.json"
            if not path.exists():
                partial = path.with_suffix(".part")
                write_discharge(partial, proposal.composition, laboratory(proposal.composition, rate), conditions)
                partial.replace(path)
    return sorted(exports.glob("*.json"))


def next_step(folder: Path) -> str | None:
    """What a person would do next, from what the ledger says; None when the campaign is over."""
    with Campaign.open(folder) as campaign:
        state = campaign.state()
    if state.unlearned:
        return "finetune"
    if state.pending:
        return "ingest"
    return "propose" if state.round <= ROUNDS else None


def take_step(folder: Path, step: str) -> None:
    """Do one step as the command line does it."""
    with Campaign.open(folder, command=step) as campaign:
        if step == "propose":
            if campaign.state().round == ROUNDS:
                chosen = propose(campaign, dry_run=True)
                (folder / "last.json").write_text(json.dumps([proposal_row(p) for p in chosen.proposals]))
                return
            write_round_files(campaign, propose(campaign).round)
        elif step == "ingest":
            ingest(campaign, check_files(campaign, run_lab(folder)))
        else:
            campaign.fine_tune()


def finish(folder: Path, fork: ForkServerContext, deaths: random.Random | None = None, kills: int = 0) -> int:
    """Run the loop to its end in processes of their own; kill the first ones at random instants."""
    killed = 0
    typical = {"propose": 4.0, "ingest": 1.0, "finetune": 3.0}
    give_up = time.monotonic() + 600
    while (step := next_step(folder)) is not None:
        assert time.monotonic() < give_up, f"the loop hangs at {step}"
        worker = fork.Process(target=take_step, args=(folder, step))
        begun = time.monotonic()
        worker.start()
        if deaths is not None and killed < kills:
            worker.join(deaths.uniform(0, 1.2 * typical[step]))
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)
                killed += 1
            worker.join()
        else:
            worker.join()
            assert worker.exitcode == 0, step
            typical[step] = time.monotonic() - begun
        if step == "propose" and (folder / "last.json").exists():
            break
    return killed


def state_of(folder: Path) -> Snapshot:
    with Campaign.open(folder) as campaign:
        return campaign.state()


def test_loop_learns_proposes_ranks_and_reports(whole: Path):
    state = state_of(whole)
    assert state.round == ROUNDS
    assert len({p.composition for p in state.proposals}) == 3 * ROUNDS
    assert all(p.state == "measured" for p in state.proposals)
    assert len(state.valid) == 6 * ROUNDS
    assert len(state.models) == 1 + ROUNDS
    for name in ("R01", "R02"):
        for file in ("proposals.csv", "recipes.csv", "recipes.txt", "report.html"):
            assert (whole / "rounds" / name / file).stat().st_size > 0
    assert not list((whole / "rounds").glob(".scan*"))
    with Campaign.open(whole) as campaign:
        measured = campaign.rank(within="measured")
        space = campaign.rank(within="space", top=5, min_capacity_mah_g=0.0)
    best = max(state.proposals, key=lambda p: laboratory(p.composition, "high") / laboratory(p.composition, "low"))
    assert measured[0]["composition"] == best.composition
    assert len(space) == 5
    assert {r["source"] for r in space} <= {"measured", "predicted"}
    next_batch = {row["composition"] for row in json.loads((whole / "last.json").read_text())}
    assert len(next_batch) == 3
    assert not next_batch & {p.composition for p in state.proposals}


def _killed_loop(whole: Path, broken: Path, fork: ForkServerContext, kills: int, seed: int) -> None:
    assert finish(broken, fork, random.Random(seed), kills) > 0
    assert state_of(broken).content() == state_of(whole).content()
    assert (broken / "last.json").read_text() == (whole / "last.json").read_text()
    with Campaign.open(broken) as campaign:
        for missing in incomplete_rounds(campaign):
            write_round_files(campaign, missing)
    for number in range(1, ROUNDS + 1):
        table = Path("rounds") / f"R{number:02d}" / "proposals.csv"
        assert (broken / table).read_text() == (whole / table).read_text()


def test_killed_loop_carries_on_to_the_same_end(whole: Path, tmp_path: Path, small_model: Path, fork):
    _killed_loop(whole, begin(tmp_path / "broken", small_model), fork, kills=4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_loop_killed_at_twenty_instants_carries_on_to_the_same_end(whole, tmp_path, small_model, fork, seed):
    _killed_loop(whole, begin(tmp_path / "broken", small_model), fork, kills=20, seed=seed)


def _keep_proposing(folder: Path, most: int, until: float) -> None:
    with Campaign.open(folder) as campaign:
        for _ in range(most):
            propose(campaign, batch_size=2, strategy="random")
            if time.time() > until:
                break


def _keep_ingesting(folder: Path, name: str, most: int, until: float) -> None:
    exports = folder / f"from-{name}"
    exports.mkdir()
    with Campaign.open(folder) as campaign:
        for number in range(1, most + 1):
            waiting = campaign.state().pending
            share = number % 40 / 100
            unasked = f"Li1.2Mn{0.3 + share:.2f}Ti{0.5 - share:.2f}O2"
            formula = waiting[0].composition if waiting and number % 2 else unasked
            path = write_discharge(exports / f"{name}-{number}.json", formula, 180.0 + number * 0.01 + ord(name) * 0.1)
            assert [f.status for f in ingest(campaign, check_files(campaign, [path])).files] == ["recorded"]
            if time.time() > until:
                break


def _work_at_once(folder: Path, fork: ForkServerContext, most: int, seconds: float) -> None:
    until = time.time() + seconds
    workers = [
        *(fork.Process(target=_keep_proposing, args=(folder, most // 2, until)) for _ in range(2)),
        *(fork.Process(target=_keep_ingesting, args=(folder, name, 3 * most, until)) for name in ("a", "b")),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 120)
    assert [w.exitcode for w in workers] == [0] * len(workers)
    state = state_of(folder)
    handed_in = len(list(folder.glob("from-*/*.json")))
    assert len(state.valid) == len(state.files) == handed_in > 0
    assert state.round >= 2
    proposed = [p.composition for p in state.proposals if p.origin == "proposed"]
    assert len(set(proposed)) == len(proposed)
    assert [e.number for e in state.events] == list(range(1, len(state.events) + 1))
    assert [r.number for r in state.rounds] == list(range(1, state.round + 1))


def test_processes_proposing_and_ingesting_at_once_lose_nothing(tmp_path, small_model, fork):
    _work_at_once(begin(tmp_path / "busy", small_model), fork, most=4, seconds=120)


@pytest.mark.slow
def test_processes_work_at_once_for_a_minute(tmp_path, small_model, fork):
    _work_at_once(begin(tmp_path / "busy", small_model), fork, most=1000, seconds=60)
