"""Long work in the background: watched, cancelled, one at a time, and never more than the ledger knows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, record_round, write_campaign, write_stub_model
from starlette.testclient import TestClient

from campaigns.campaign import Campaign
from campaigns.server import jobs as module
from campaigns.server.app import create_app
from campaigns.server.jobs import Jobs, Task
from campaigns.server.worker import run
from drxnet.errors import UsageError

BASE = "/api/campaigns/demo"


def test_a_report_is_written_watched_and_shown(client: TestClient):
    started = client.post(f"{BASE}/jobs", json={"verb": "report"}, headers={"X-Who": "Ada"})
    assert started.status_code == 202
    job = started.json()["job_id"]
    busy = client.post(f"{BASE}/jobs", json={"verb": "rank"})
    assert busy.status_code == 400
    assert "report of demo is running" in busy.json()["error"]
    with client.stream("GET", f"/api/jobs/{job}/events") as events:
        told = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]
    assert told[0]["state"] == "running"
    assert told[-1]["state"] == "done", told[-1]
    assert (told[-1]["who"], told[-1]["result"]["page"]) == ("Ada", "report.html")
    assert "<html" in client.get(f"{BASE}/report").text
    assert client.get("/api/jobs?campaign=demo").json()[0]["job_id"] == job


def test_a_job_that_cannot_be_done_ends_in_the_sentence_of_the_command_line(campaign: Campaign):
    told: list[dict] = []
    run({"folder": str(campaign.folder), "verb": "finetune", "options": {}, "who": "Ada"}, told.append)
    (answer,) = told
    assert answer["exit_code"] == 3
    assert "weights.safetensors holds not the weights of this network" in answer["error"]


@pytest.mark.parametrize(
    "options", [{"folder": "/tmp/elsewhere"}, {"ray_address": "ray://x"}, {"candidates": "/etc/passwd"}]
)
def test_options_that_reach_beyond_the_campaign_are_refused(client: TestClient, options: dict[str, str]):
    for verb in ("propose", "report", "finetune", "rank"):
        answer = client.post(f"{BASE}/jobs", json={"verb": verb, "options": options})
        assert answer.status_code == 422
        assert answer.json()["exit_code"] == 2
    assert client.get("/api/jobs").json() == []


PROGRAM = "import sys, time\nsys.stdin.read()\nprint('{\"progress\": [1, 4]}', flush=True)\ntime.sleep(60)"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs whose process tells of a quarter and then takes a minute."""

    def start(_: list[str], **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", PROGRAM], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module, "_start", start)
    return Jobs()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_progress_is_told_and_a_job_can_be_cancelled(slow: Jobs, tmp_path: Path):
    job = slow.start(Task("demo", tmp_path, "report", {}, "Ada")).job_id
    until(lambda: slow.report(job).total == 4)
    assert slow.report(job).remaining_s > 0
    assert slow.cancel(job).state == "cancelled"
    until(lambda: slow._jobs[job].process.poll() is not None)
    assert slow.report(job).state == "cancelled"
    assert slow.cancel(job).state == "cancelled"


def test_other_campaigns_have_jobs_of_their_own(slow: Jobs, tmp_path: Path):
    slow.start(Task("demo", tmp_path, "report", {}, "Ada"))
    with pytest.raises(UsageError, match=r"report of demo is running \(job J0001, started by Ada\)"):
        slow.start(Task("demo", tmp_path, "rank", {}, "Bo"))
    assert slow.start(Task("other", tmp_path, "rank", {}, "Bo")).job_id == "J0002"
    slow.close()
    assert [r.state for r in slow.reports()] == ["cancelled", "cancelled"]


def test_a_process_that_dies_is_a_failed_job(slow: Jobs, tmp_path: Path):
    job = slow.start(Task("demo", tmp_path, "report", {}, "Ada")).job_id
    until(lambda: slow.report(job).total == 4)
    slow._jobs[job].process.kill()
    until(lambda: slow.report(job).state == "failed")
    assert "ended without an answer (code -9)" in slow.report(job).error


# -- over HTTP -------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> TestClient:
    """A client of a server whose jobs tell of a quarter and then take a minute."""
    monkeypatch.setattr(
        module, "_start", lambda _, **options: subprocess.Popen([sys.executable, "-c", PROGRAM], **options)
    )
    return client


def test_a_page_that_is_loaded_again_finds_its_job_with_who_and_how_far(patient: TestClient):
    job = patient.post(f"{BASE}/jobs", json={"verb": "propose"}, headers={"X-Who": "Ada"}).json()["job_id"]
    until(lambda: patient.get(f"/api/jobs/{job}").json()["total"] == 4)
    (found,) = patient.get("/api/jobs?campaign=demo").json()
    assert {k: found[k] for k in ("job_id", "verb", "who", "state", "done", "total")} == {
        "job_id": job,
        "verb": "propose",
        "who": "Ada",
        "state": "running",
        "done": 1,
        "total": 4,
    }
    assert patient.delete(f"/api/jobs/{job}").json()["state"] == "cancelled"
    with patient.stream("GET", f"/api/jobs/{job}/events") as events:  # a watcher that comes late is told the end
        (told,) = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]
    assert told["state"] == "cancelled"
    again = patient.post(f"{BASE}/jobs", json={"verb": "report"})
    assert again.status_code == 202  # what was cancelled is in nobody's way
    patient.delete(f"/api/jobs/{again.json()['job_id']}")


def test_a_request_for_a_job_that_is_sent_again_is_told_of_the_first(patient: TestClient):
    ask = {"json": {"verb": "propose"}, "headers": {"Idempotency-Key": "night-7"}}
    first, second = (patient.post(f"{BASE}/jobs", **ask).json()["job_id"] for _ in range(2))
    assert first == second
    patient.delete(f"/api/jobs/{first}")


def test_a_key_that_proposed_before_the_server_was_started_anew_proposes_nothing_again(campaign: Campaign):
    how = {"folder": str(campaign.folder), "verb": "propose", "options": {}, "who": "Ada", "key": "night-7"}
    campaign.ledger.command = "serve propose key=night-7"
    record_round(campaign, FIRST, SECOND)
    before, told = campaign.ledger.last_event(), list[dict]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("campaigns.loop.propose.propose", _write_at_once)
        run(how, told.append)
    result = told[-1]["result"]
    assert (result["replayed"], result["round"]) == (True, 1)
    assert [p["composition"] for p in result["proposals"]] == [FIRST, SECOND]
    assert campaign.ledger.last_event() == before


def _write_at_once(campaign: Campaign, **_: object) -> None:
    """What `propose` comes to in the end, without a model."""
    record_round(campaign, FIRST)


def test_two_campaigns_have_ledgers_and_jobs_of_their_own(campaign: Campaign, tmp_path: Path):
    template = write_campaign(tmp_path / "other.yaml", write_stub_model(tmp_path / "more" / "stub"))
    with Campaign.start(tmp_path / "cheap", template) as other:
        for one in (campaign, other):
            record_round(one, FIRST)
        with TestClient(create_app([campaign.folder, other.folder]), base_url="http://localhost") as client:
            assert [c["campaign"] for c in client.get("/api/campaigns").json()] == ["demo", "cheap"]
            mark = client.post(
                "/api/campaigns/cheap/proposals/R01-01/mark",
                json={"state": "failed", "reason": "cracked"},
                headers={"X-Who": "Bo"},
            )
            assert mark.status_code == 200
            assert client.get(f"{BASE}/proposals/R01-01").json()["state"] == "proposed"
        assert (other.state().events[-1].who, other.state().events[-1].verb) == ("Bo", "mark")
        assert campaign.state().events[-1].verb == "propose"
