"""Hostile strings through every field, table, file, page and log: text stays text."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign, write_discharge, write_stub_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.intake.inspection import plot_file
from campaigns.intake.validation import check_file
from drxnet.text import storable, visible

HOSTILE = [
    "bad [/red]",
    "[see notebook 12]",
    "[link=http://x]click[/link]",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m red",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    '=HYPERLINK("http://x","y")',
    "+cmd|' /C calc'!A0",
    "@SUM(1)",
    "first\nError: forged",
    "$\\frac{1}{0$",
    "\u202egnp.exe",
    "nul\0nul",
    "half \ud800",
    "%s %(x)s {0} {{x}}",
    "x" * 300,
    "'; DROP TABLE events; --",
    "😀 锂 µ",
]
NAMED = [text for text in HOSTILE if not set(text) & set("/\0\ud800") and len(text) < 200]
"""Those that a file can be called."""


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    for text in (result.stdout, result.stderr):
        assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
    assert "defect of drx-screen" not in result.stderr
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign into which every field takes every hostile string."""
    folder = tmp_path_factory.mktemp("hostile")
    with Campaign.start(folder / "demo", write_campaign(folder / "t.yaml", write_stub_model(folder / "stub"))) as demo:
        for text in HOSTILE:
            number = record_round(demo, FIRST, SECOND, THIRD)
            run("mark", "-C", str(demo.folder), f"R{number:02d}-01", "failed", "--reason", text)
            run("mark", "-C", str(demo.folder), f"R{number:02d}-02", "abandoned", "--reason", text)
            rows = [
                {"proposal_id": f"R{number:02d}-03", "current_ma_g": i, "capacity_mah_g": q, "cell": text}
                for i, q in ((20, 240.0), (1000, 170.0))
            ]
            first, _ = demo.add_measurements(rows, fine_tune=False)
            if number % 2:
                run("retract", "-C", str(demo.folder), first, "--reason", text)
            else:
                run("supersede", "-C", str(demo.folder), first, "--capacity", "241", "--reason", text)
        for number, name in enumerate(NAMED):
            good = write_discharge(folder / f"{name}.json", FIRST, 230.0 + number)
            run("ingest", "-C", str(demo.folder), str(good), "--no-finetune")
            bad = write_discharge(folder / f"{name}.bad.json", FIRST, 900.0 + number)
            run("ingest", "-C", str(demo.folder), str(bad), "--no-finetune", code=3)
    return folder


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_reasons_are_shown_as_they_were_given(home: Path) -> None:
    table = run("status", "-C", str(home / "demo"), "--proposals").stdout
    exact = {row["reason"] for row in json.loads(run_json(home, "status", "--proposals"))["rows"]}
    for text in HOSTILE:
        assert visible(storable(text)) in table
        assert storable(text) in exact


def run_json(home: Path, command: str, *more: str) -> str:
    return run(command, "-C", str(home / "demo"), *more, "--format", "json").stdout


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["log"], ["status", "--proposals"], ["rank", "--within", "measured", "--by", "capacity"]],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_every_answer_is_made_of_what_can_be_seen(home: Path, arguments: list[str], form: str) -> None:
    said = run(*arguments, "-C", str(home / "demo"), "--format", form).stdout
    if form == "json":
        json.loads(said)
    elif form == "csv":
        for row in csv.reader(io.StringIO(said)):
            assert not any(len(cell) > 1 and cell[0] in "=+@" for cell in row)


def test_history_is_one_line_an_event_in_a_pipe(home: Path) -> None:
    events = json.loads(run_json(home, "log"))
    lines = run("log", "-C", str(home / "demo")).stdout.splitlines()
    assert len(lines) == len(events) + 1
    assert all(str(event["number"]) == line.split()[0] for event, line in zip(events, lines[1:], strict=True))


def test_every_file_is_validated_and_named_as_it_is_called(home: Path) -> None:
    for name in NAMED:
        said = run("validate", str(home / f"{name}.json"), "--plot", str(home / "one.png")).stdout
        assert squeezed(visible(name).split("\\n")[0]) in squeezed(said)


def test_exported_text_is_no_formula_and_json_is_exact(home: Path) -> None:
    for form, more in (("csv", []), ("csv", ["--verbatim"]), ("json", [])):
        run("export", "-C", str(home / "demo"), str(home / f"out.{form}"), "--withdrawn", *more)
        text = (home / f"out.{form}").read_text()
        if form == "json":
            cells = {m["cell"] for m in json.loads(text)["measurements"]}
            assert {storable(t) for t in HOSTILE} <= cells
            continue
        cells = {row["cell"] for row in csv.DictReader(io.StringIO(text, newline=""))}
        formulas = {t for t in HOSTILE if t[0] in "=+@"}
        assert formulas <= (cells if more else {c.removeprefix("'") for c in cells if c.startswith("'")})


def test_page_and_figures_hold_text_alone(home: Path) -> None:
    run("report", "-C", str(home / "demo"), "-o", str(home / "report"))
    page = (home / "report" / "report.html").read_text()
    own = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)  # plotly itself
    body = own[: own.index('<script id="content"')]
    content = own[own.index('<script id="content"') :].split(">", 1)[1].split("</script>")[0]
    assert "<" not in content
    json.loads(content)
    for text in HOSTILE:
        if "<" in text:
            assert text not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert all(c.isprintable() or c in "\n\t" for c in body)


def test_a_figure_of_a_file_takes_its_name_as_text(home: Path, tmp_path: Path) -> None:
    for text in ("$\\frac{1}{0$", "[see notebook 12]"):
        plot_file(check_file(home / f"{text}.json"), tmp_path / "one.png")


def test_the_log_of_the_program_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import logging\nfrom campaigns.cli import main\nimport click\n"
        "@main.command()\ndef shout():\n"
        "    logging.getLogger('campaigns').warning('%s', 'red \\x1b[31m')\n"
        "    import warnings; from drxnet.errors import DRXWarning\n"
        "    warnings.warn('blue \\x1b[34m', DRXWarning)\n"
        "    from drxnet.errors import UsageError; raise UsageError('bad \\x9b')\n"
        "main(['shout'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines() == [r"red \x1b[31m", r"Warning: blue \x1b[34m", r"Error: bad \x9b"]
    assert done.returncode == 2
    assert logging.getLogger("campaigns").handlers == []


@pytest.mark.parametrize(
    "arguments", [["recipe", FIRST], ["log", "-C", "demo"], ["validate", "absent.csv"]], ids=" ".join
)
def test_a_reader_that_leaves_is_no_error(home: Path, arguments: list[str]) -> None:
    program = f"from campaigns.cli import main; main({arguments!r})"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        said = process.stderr.read() if process.stderr else ""
        code = process.wait()
    if arguments[0] == "validate":
        assert code != 0
    else:
        assert (code, said) == (0, "")
