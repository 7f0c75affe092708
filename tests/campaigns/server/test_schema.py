"""Schemathesis over the OpenAPI of a live server: no 5xx, and no answer that is not described.

``DRX_SCHEMATHESIS_S`` says for how many seconds (60 by default).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import httpx2
import pytest
from absent import schemathesis
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign, write_stub_model
from served import served

from campaigns.campaign import Campaign

SECONDS = float(os.environ.get("DRX_SCHEMATHESIS_S", "60"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method"
)
KNOWN = {"name": "demo"}
THERE = KNOWN | {"proposal_id": "R01-02", "measurement_id": "M0001", "job_id": "J0001", "number": 1}


@pytest.mark.slow
@pytest.mark.needs("schemathesis")
def test_no_request_ends_in_a_defect_or_in_an_answer_that_is_not_described(tmp_path: Path, subtests: pytest.Subtests):
    model = write_stub_model(tmp_path / "stub")
    template = write_campaign(tmp_path / "template.yaml", model)
    for said, parameters in {"any name": KNOWN, "names that are there": THERE}.items():
        folder = tmp_path / said.replace(" ", "-")
        with subtests.test(said), Campaign.start(folder / "demo", template) as campaign:
            ask(campaign, folder, parameters)


def ask(campaign: Campaign, folder: Path, parameters: dict[str, object]) -> None:
    """Send a campaign's server all that Schemathesis thinks of."""
    record_round(campaign, FIRST, SECOND, THIRD)
    campaign.add_measurements([{"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 230.0}], fine_tune=False)
    settings = folder / "schemathesis.toml"
    settings.write_text("[parameters]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in parameters.items()))
    with served(campaign.folder) as address:
        schema = folder / "openapi.json"
        schema.write_bytes(httpx2.get(f"{address}/openapi.json", timeout=60).content)
        command = [
            schemathesis() or "",
            "--no-color",
            "--config-file",
            str(settings),
            "run",
            str(schema),
            "--url",
            address,
        ]
        how = [
            "--request-timeout",
            "60",
            "--checks",
            CHECKS,
            "--max-time",
            str(round(SECONDS / 2)),
            "--seed",
            "1",
            "--no-shrink",
            "--continue-on-failure",
        ]
        run = subprocess.run(
            [*command, *how, "--generation-database", "none"],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=SECONDS + 300,
            check=False,
        )
        if output := os.environ.get("DRX_SCHEMATHESIS_OUTPUT"):
            with Path(output).open("a", encoding="utf-8") as file:
                file.write(run.stdout)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert all(finding.sound for finding in campaign.ledger.findings())  # whatever was written, the ledger is sound
