"""`drx-screen serve`, as it is typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from ledgers import write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.cli import main

HEAVY = ("torch", "botorch", "ray", "pymatgen", "matplotlib", "plotly", "pandas", "scipy.optimize")


def test_it_answers_names_its_address_and_ends_on_ctrl_c(campaign: Campaign):
    with subprocess.Popen(
        [sys.executable, "-m", "campaigns.cli", "serve", "--port", "0"],
        cwd=campaign.folder.parent,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.match(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            with urllib.request.urlopen(f"{found[0]}api/campaigns", timeout=60) as answer:
                assert [c["campaign"] for c in json.load(answer)] == ["demo"]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) in (0, 130, -signal.SIGINT)
        finally:
            process.kill()


def test_another_host_needs_a_token(campaign: Campaign):
    result = CliRunner().invoke(main, ["serve", "-C", str(campaign.folder), "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "On 0.0.0.0 other machines reach this server, so that it asks for a token" in result.output


@pytest.mark.parametrize("token", ["short", "with space 1234", "ümlaut123456"])
def test_a_token_is_letters_and_digits(campaign: Campaign, token: str):
    result = CliRunner().invoke(main, ["serve", "-C", str(campaign.folder), "--token", token])
    assert result.exit_code == 2
    assert "at least 8 letters and digits" in result.output


def test_a_folder_without_campaigns_has_nothing_to_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 2
    assert "No campaign in this folder" in result.output


def test_without_the_extra_it_says_what_to_install(campaign: Campaign, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["serve", "-C", str(campaign.folder)])
    assert result.exit_code == 2
    assert "pip install 'drx-screen[server]'" in result.output


def test_two_campaigns_of_a_name_are_refused(campaign: Campaign, tmp_path: Path):
    template = write_campaign(tmp_path / "other.yaml", write_stub_model(tmp_path / "more" / "stub"))
    with Campaign.start(tmp_path / "elsewhere" / "demo", template) as other:
        folder = str(other.folder)
    result = CliRunner().invoke(main, ["serve", "-C", str(campaign.folder), "-C", folder])
    assert result.exit_code == 2
    assert "Two campaigns are named demo" in result.output


def test_opening_the_first_page_loads_nothing_heavy(campaign: Campaign):
    program = (
        "import sys\nfrom starlette.testclient import TestClient\nfrom campaigns.server.app import create_app\n"
        f"app = create_app([{str(campaign.folder)!r}])\n"
        "with TestClient(app, base_url='http://localhost') as client:\n"
        "    assert client.get('/').status_code == client.get('/api/campaigns/demo').status_code == 200\n"
        "    assert client.get('/api/campaigns/demo/rank').status_code == 200\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
