"""Schemathesis over the OpenAPI of a live server: no 5xx, and no answer that is not described.

``DRX_SCHEMATHESIS_S`` says for how many seconds (60 by default).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from ledgers import FIRST, SECOND, THIRD, record_round
from served import served

from campaigns.campaign import Campaign

FOUND = shutil.which("st", path=str(Path(sys.executable).parent)) or shutil.which("st")
SECONDS = float(os.environ.get("DRX_SCHEMATHESIS_S", "60"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method"
)
KNOWN = {"name": "demo"}
THERE = KNOWN | {"proposal_id": "R01-02", "measurement_id": "M0001", "job_id": "J0001", "number": 1}


@pytest.mark.slow
@pytest.mark.skipif(FOUND is None, reason="Schemathesis is not installed (extra `attack`)")
@pytest.mark.parametrize("parameters", [KNOWN, THERE], ids=["any name", "names that are there"])
def test_no_request_ends_in_a_defect_or_in_an_answer_that_is_not_described(
    campaign: Campaign, tmp_path: Path, parameters: dict[str, object]
):
    record_round(campaign, FIRST, SECOND, THIRD)
    campaign.add_measurements([{"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 230.0}], fine_tune=False)
    settings = tmp_path / "schemathesis.toml"
    settings.write_text("[parameters]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in parameters.items()))
    with served(campaign.folder) as address:
        schema = tmp_path / "openapi.json"
        schema.write_bytes(httpx2.get(f"{address}/openapi.json", timeout=60).content)
        command = [FOUND or "", "--no-color", "--config-file", str(settings), "run", str(schema), "--url", address]
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
            cwd=tmp_path,
            timeout=SECONDS + 300,
            check=False,
        )
        if output := os.environ.get("DRX_SCHEMATHESIS_OUTPUT"):
            with Path(output).open("a", encoding="utf-8") as file:
                file.write(run.stdout)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert all(finding.sound for finding in campaign.ledger.findings())  # whatever was written, the ledger is sound
