"""Files that unpack to more than they should, and numbers beyond any cell: a sentence, at once."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from ledgers import FIRST, write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.intake.readers.unpacking import MAX_BYTES, unpacked_at_most
from campaigns.intake.validation import check_file
from drxnet.errors import MeasurementError
from screening.space import exact


def write_bomb(path: Path, unpacked: int) -> Path:
    block = b"1.0,3.5,0.001\n" * 100_000
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"Test_Time(s),Voltage(V),Current(A)\n")
        for _ in range(unpacked // len(block) + 1):
            file.write(block)
    return path


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    bomb = write_bomb(tmp_path / "bomb.csv.gz", 500 << 20)
    program = (
        "import resource, sys, time\nfrom campaigns.intake.validation import check_file\n"
        "from campaigns.intake import readers\n"
        "before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()\n"
        "checked = check_file(sys.argv[1])\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(checked.status, time.process_time() - begun, grown // 1024)\n"
        "print(*checked.rules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(bomb)], capture_output=True, text=True, check=True)
    (status, seconds, megabytes), said = done.stdout.splitlines()[0].split(), done.stdout.splitlines()[1]
    assert status == "refused"
    assert "bomb.csv.gz: unpacks to more than 64 MiB, which is no export of a cycler" in said
    assert float(seconds) < 2
    assert int(megabytes) < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_gzip_file_that_hides_its_size_is_refused_while_it_is_read(tmp_path: Path) -> None:
    bomb = write_bomb(tmp_path / "bomb.csv.gz", 200 << 20)
    bomb.write_bytes(bomb.read_bytes() + gzip.compress(b"1.0,3.5,0.001\n"))
    begun = time.process_time()
    checked = check_file(bomb)
    assert time.process_time() - begun < 10
    assert [(hit.id, hit.message) for hit in checked.rules] == [
        ("E9", "bomb.csv.gz: unpacks to more than 64 MiB, which is no export of a cycler. Export one test per file.")
    ]


def test_a_spreadsheet_that_says_it_is_larger_than_it_should_be_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (100 << 20))
    begun = time.monotonic()
    result = CliRunner().invoke(main, ["validate", str(tmp_path / "bomb.xlsx")])
    assert result.exit_code == 3
    assert "bomb.xlsx: unpacks to more than 64 MiB" in result.output
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("packed", "most"), [(0, 64 << 20), (1 << 20, 64 << 20), (10 << 20, 500 << 20), (1 << 40, MAX_BYTES)]
)
def test_what_a_file_may_unpack_to_grows_with_it_up_to_an_end(packed: int, most: int) -> None:
    assert unpacked_at_most(packed) == most


@pytest.mark.parametrize("cycle", ["100000000000000000000", "1e300", "0", "-1", "1.5", "nan"])
def test_a_cycle_beyond_any_cell_is_refused_in_a_table(tmp_path: Path, cycle: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "composition,current_ma_g,v_low,v_high,capacity_mah_g,cycle\n" + f"{FIRST},20,1.5,4.8,240,{cycle}\n"
    )
    with Campaign.start(tmp_path / "demo", write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))):
        pass
    result = CliRunner().invoke(main, ["ingest", "-C", str(tmp_path / "demo"), str(table), "--no-finetune"])
    assert result.exit_code == 3, result.output
    assert "defect" not in result.output


def test_a_cycle_beyond_any_cell_is_refused_from_python_and_in_json(tmp_path: Path) -> None:
    with Campaign.start(
        tmp_path / "demo", write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))
    ) as campaign:
        row = {"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0, "cycle": 10**20}
        with pytest.raises(MeasurementError, match="Cycles are counted from 1, to 1,000,000"):
            campaign.add_measurements([row], fine_tune=False)
        curve = {"Voltage(V)": [1.5, 4.8], "Capacity(mAh/g)": [240.0, 0.0]}
        content = {
            "composition": {"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2.0}, "test_current(mA/g)": 20.0,
            "low_voltage(V)": 1.5, "high_voltage(V)": 4.8, "charge_info": [], "discharge_info": [[10**20, curve]],
        }  # fmt: skip
        (tmp_path / "one.json").write_text(json.dumps(content))
        result = CliRunner().invoke(
            main, ["ingest", "-C", str(campaign.folder), str(tmp_path / "one.json"), "--no-finetune"]
        )
        assert result.exit_code == 3, result.output
        assert "defect" not in result.output
        assert campaign.state().measurements == ()


@pytest.mark.parametrize(
    "step", ["1e-99999999", "1e999999999", "1/" + "9" * 100, "nan", "inf", "", "0x1", "1e-", "1__"]
)
def test_a_step_that_is_no_plain_number_is_refused_at_once(step: str) -> None:
    with pytest.raises(ValueError, match="must be a number such as 0.05 or 1/20"):
        exact(step)


@pytest.mark.parametrize(("step", "value"), [("1/20", 0.05), (0.05, 0.05), (1, 1.0), ("5e-2", 0.05), (1e-05, 1e-5)])
def test_a_plain_number_is_read_exactly(step: object, value: float) -> None:
    assert float(exact(step)) == value


def test_a_table_with_a_field_without_end_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("composition\n" + "x" * 200_000 + "\n")
    result = CliRunner().invoke(main, ["predict", "--input", str(tmp_path / "long.csv")])
    assert result.exit_code in (2, 3)
    assert "defect" not in result.output
