"""`drx-screen validate`: contract, exit codes, options, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_cycler as cycler
from click.testing import CliRunner, Result

from campaigns.cli import main
from campaigns.intake.judgement import JUDGEMENTS
from campaigns.intake.validation import RULES

TEST = cycler.cell_test()
STATED = ["--active-mass-mg", "1.8", "--composition", cycler.COMPOSITION, "--current", "20", "--window", "1.5", "4.8"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, arguments)])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return cycler.write(tmp_path / "good.csv", cycler.arbin_csv(TEST))


def test_json_holds_exactly_the_keys_of_the_contract(good: Path) -> None:
    done = run(good, *STATED, "--format", "json")
    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)
    assert list(row) == ["file", "format", "status", "rules", "discharges"]
    assert (row["file"], row["format"], row["status"], row["rules"]) == (str(good), "arbin csv", "accepted", [])
    first = row["discharges"][0]
    assert list(first) == [
        "cycle", "capacity_mah", "capacity_mah_g", "current_ma", "v_start", "v_end", "rows", "all_steps_capacity_mah",
    ]  # fmt: skip
    assert first["capacity_mah_g"] == pytest.approx(240, rel=1e-3)
    assert first["cycle"] == 1


def test_without_a_mass_the_file_is_refused_with_e2_and_still_measured(good: Path) -> None:
    done = run(good, "--format", "json")
    assert done.exit_code == 3
    (row,) = json.loads(done.stdout)
    assert [rule["id"] for rule in row["rules"]] == ["E2"]
    assert row["discharges"][0]["capacity_mah"] == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)
    assert row["discharges"][0]["capacity_mah_g"] is None


def test_a_table_says_status_rules_and_numbers(good: Path) -> None:
    done = run(good, "--active-mass-mg", "1.8", "--window", "1.0", "4.8")
    assert done.exit_code == 3
    assert "good.csv: refused (arbin csv)" in done.stdout
    assert "error   E4: good.csv cycle 1: discharge ends at 1.5 V, not 1 V" in done.stdout


def test_csv_has_a_line_per_discharge(good: Path) -> None:
    done = run(good, *STATED, "--format", "csv")
    header, *lines = done.stdout.strip().split("\n")
    assert header.startswith("file,format,status,broken,cycle,capacity_mah")
    assert len(lines) == 2


def test_a_folder_with_a_sample_table(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    cycler.write(folder / "a.csv", cycler.arbin_csv(TEST))
    cycler.write(folder / "b.mpt", cycler.biologic_mpt(cycler.cell_test(1, 0.4)))
    cycler.write(folder / "c.txt", "a letter\n")
    samples = tmp_path / "samples.csv"
    samples.write_text(
        "file,composition,active_mass_mg,current,window,cell\n"
        f"exports/a.csv,{cycler.COMPOSITION},1.8,20,1.5-4.8,A\n"
        f"exports/b.mpt,{cycler.COMPOSITION},1.8,20,1.5-4.8,B\n"
    )
    done = run(folder, "--samples", samples, "--format", "json")
    assert done.exit_code == 3
    rows = {Path(row["file"]).name: row for row in json.loads(done.stdout)}
    assert [rows[name]["status"] for name in ("a.csv", "b.mpt", "c.txt")] == ["warned", "warned", "refused"]
    assert [rule["id"] for rule in rows["a.csv"]["rules"]] == ["W5"]
    alone = run("--samples", samples, "--format", "json")
    assert alone.exit_code == 0
    assert len(json.loads(alone.stdout)) == 2


def test_a_sample_table_among_the_files_is_not_one_of_them(good: Path) -> None:
    samples = good.with_name("samples.csv")
    samples.write_text(f"file,composition,active_mass_mg\ngood.csv,{cycler.COMPOSITION},1.8\n")
    assert run(good.parent, "--samples", samples).exit_code == 0
    samples.write_text("file,active_mass_mg\nlost.csv,1.8\n")
    lost = run("--samples", samples)
    assert (lost.exit_code, "lost.csv: no such file." in lost.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decimal", "."], "the numbers are written with ','"),
        ([], None),
        (["--decimal", ","], None),
    ],
)
def test_the_decimal_sign_can_be_settled(tmp_path: Path, options: list[str], message: str | None) -> None:
    path = cycler.write(tmp_path / "cell.txt", cycler.maccor_mims(TEST, comma=True))
    done = run(path, *STATED, *options)
    assert done.exit_code == (3 if message else 0)
    assert message is None or message in done.stdout


@pytest.mark.parametrize(
    ("column", "factor", "option"),
    [
        ("time_s", 3600.0, ["--time-unit", "1/3600"]),
        ("time_s", 1e3, ["--time-unit", "ms"]),
        ("voltage_v", 1e3, ["--voltage-unit", "mV"]),
        ("current_ma", 1e3, ["--current-unit", "mA"]),
    ],
)
def test_a_wrong_unit_is_refused_until_it_is_settled(
    tmp_path: Path, column: str, factor: float, option: list[str]
) -> None:
    t = TEST.copy()
    t[column] *= factor
    path = cycler.write(tmp_path / "cell.csv", cycler.arbin_csv(t))
    refused = run(path, *STATED)
    assert refused.exit_code == 3
    assert "E8" in refused.stdout
    assert option[0] in refused.stdout
    settled = run(path, *STATED, *option, "--format", "json")
    assert settled.exit_code == 0
    assert json.loads(settled.stdout)[0]["discharges"][0]["capacity_mah_g"] == pytest.approx(240, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give at least one FILE"),
        (["FILE", "--window", "4.8", "1.5"], "The lower cut-off must lie below the upper one"),
        (["FILE", "--current", "-20"], "The current must be positive"),
        (["missing.csv"], "missing.csv: no such file"),
        (["--explain", "E99"], "No rule 'E99'"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_wrong_unit_name_exits_2(good: Path) -> None:
    done = run(good, "--time-unit", "fortnight")
    assert done.exit_code == 2
    assert "'fortnight' is no unit of time" in done.stderr


def test_rules_explain_themselves() -> None:
    one = run("--explain", "e4")
    assert one.exit_code == 0
    assert one.stdout.startswith("E4: The discharge runs from near the upper to the lower cut-off.")
    every = json.loads(run("--explain", "all", "--format", "json").stdout)
    assert [row["id"] for row in every] == [*RULES, *JUDGEMENTS]
    assert list(every[0]) == ["id", "rule", "why"]


def sources(tmp_path: Path) -> dict[str, Path]:
    """One file of each kind that a picture is drawn of."""
    tail = cycler.step("D", 1.0, -0.01, lambda x: 1.5 + 0 * x, 40)
    cut = cycler.assemble(cycler.discharge_step(0.1), cycler.charge_step(0.5), cycler.discharge_step(), tail)
    summary = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\nLi1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,250\n"
    pairs = "\n".join(f"{240 * x / 40}, {float(cycler.discharge_voltage(x / 40)):.4f}" for x in range(41))
    return {
        "cycler": cycler.write(tmp_path / "cell.csv", cycler.arbin_csv(cut)),
        "digitised": cycler.write(tmp_path / "curve.csv", pairs),
        "summary": cycler.write(tmp_path / "table.csv", summary),
        "unreadable": cycler.write(tmp_path / "letter.txt", "Dear all\n"),
        "resting": cycler.write(tmp_path / "rest.csv", cycler.arbin_csv(cycler.assemble(cycler.rest_step(rows=50)))),
    }


@pytest.mark.parametrize("kind", ["cycler", "digitised", "summary", "unreadable", "resting"])
def test_a_picture_is_drawn_of_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "picture.png"
    done = run(sources(tmp_path)[kind], *STATED, "--plot", target)
    assert done.exit_code in (0, 3)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size > 10_000
    assert f"{target} written" in done.stderr


def test_a_picture_names_what_was_cut_and_the_broken_rule(tmp_path: Path) -> None:
    target = tmp_path / "picture.svg"
    run(sources(tmp_path)["cycler"], *STATED, "--plot", target)
    # text is drawn as outlines with the words kept in comments
    words = target.read_text()
    for word in ("cut: constant-voltage tail of 40 rows", "selected discharge", "skipped", "E6: cell.csv cycle 1"):
        assert word in words


def test_several_files_get_a_picture_each(tmp_path: Path, good: Path) -> None:
    other = cycler.write(tmp_path / "other.csv", cycler.bdf_csv(TEST))
    run(good, other, *STATED, "--plot", tmp_path / "p.png")
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["p-good.csv.png", "p-other.csv.png"]


def test_a_picture_in_an_unknown_format_is_refused_before_reading(good: Path, tmp_path: Path) -> None:
    done = run(good, *STATED, "--plot", tmp_path / "picture.bmp")
    assert done.exit_code == 2
    assert "a figure ends in .png, .svg, .pdf" in done.stderr


def test_validate_imports_no_torch(good: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from campaigns.cli import main\n"
        f"try: main(['validate', {str(good)!r}, '--active-mass-mg', '1.8', '--plot', {str(tmp_path / 'p.png')!r}])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'botorch', 'ray', 'pymatgen') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")
