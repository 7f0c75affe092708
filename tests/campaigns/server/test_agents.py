"""Tools for agents: the same verbs, nothing written without an entry of the log, and nothing at all without --write."""

from __future__ import annotations

import base64
import logging
import os
import random
import sqlite3
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from ledgers import FIRST, SECOND, THIRD, record_round, write_discharge
from mcp import Client, StdioServerParameters, stdio_client

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.server.agents import create_tools

LOOKING = {"status", "proposals", "proposal", "measurements", "log", "check_file", "rank"}
WRITING = {"mark", "add_measurements", "record_file", "correct", "retract", "confirm", "propose", "fine_tune"}
SEED = 20261126
CALLS = 1000


def talk(server: Any, conversation: Callable[[Client], Any]) -> Any:
    """What comes of a conversation with a server."""

    async def run() -> Any:
        async with Client(server) as client:
            return await conversation(client)

    return anyio.run(run)


def call(server: Any, name: str, **arguments: Any) -> tuple[bool, Any]:
    """Whether a tool worked, and what it said."""

    async def one(client: Client) -> tuple[bool, Any]:
        answer = await client.call_tool(name, arguments)
        return not answer.is_error, answer.content[0].text if answer.is_error else answer.structured_content

    return talk(server, one)


@pytest.fixture
def folder(campaign: Campaign) -> Path:
    record_round(campaign, FIRST, SECOND, THIRD)
    campaign.add_measurements([{"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 230.0}], fine_tune=False)
    return campaign.folder


def names(server: Any) -> set[str]:
    async def listed(client: Client) -> set[str]:
        found = (await client.list_tools()).tools
        assert all(tool.description for tool in found)
        assert all(tool.annotations.read_only_hint == (tool.name in LOOKING) for tool in found)
        return {tool.name for tool in found}

    return talk(server, listed)


def test_without_write_the_tools_that_write_are_not_there(folder: Path):
    assert names(create_tools([folder])) == LOOKING
    assert names(create_tools([folder], write=True)) == LOOKING | WRITING


def test_looking_gives_the_rows_of_the_api(folder: Path, campaign: Campaign):
    server = create_tools([folder])
    worked, status = call(server, "status")
    assert (worked, status["campaign"], status["round"]) == (True, "demo", 1)
    assert call(server, "proposals", state="measured")[1]["rows"][0]["proposal_id"] == "R01-02"
    shown = call(server, "proposal", proposal_id="r01-02")[1]
    assert len(shown["predicted"]) == 2
    assert call(server, "measurements")[1]["rows"][0]["capacity_mah_g"] == 230.0
    assert call(server, "rank", by="capacity")[1]["rows"][0]["source"] == "measured"
    assert [e["verb"] for e in call(server, "log")[1]["rows"]][0] == "ingest"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("proposal", {"proposal_id": "R09-01"}, "No proposal 'R09-01' in campaign demo"),
        ("status", {"campaign": "other"}, "No campaign 'other' here. Served: demo"),
        ("rank", {"by": "beauty"}, "beauty"),
        ("mark", {"proposal_ids": ["R01-01"], "state": "failed"}, "Say why it failed"),
        ("retract", {"measurement_id": "M0999", "reason": "x"}, "No measurement"),
        ("correct", {"measurement_id": "M0001", "reason": "x", "changes": {}}, "Say what is different now"),
        (
            "add_measurements",
            {"measurements": [{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 900}]},
            "900",
        ),
        ("add_measurements", {"measurements": [{"weight": 1}]}, "unknown key weight"),
        ("record_file", {"files": [{"name": "a.csv"}]}, "give the content as text or as base64"),
        ("record_file", {"files": [{"name": "a.csv", "base64": "%"}]}, "is no base64"),
        ("fine_tune", {}, "weights.safetensors holds not the weights of this network"),
    ],
)
def test_errors_are_the_sentences_of_the_command_line(folder: Path, name: str, arguments: dict[str, Any], words: str):
    worked, said = call(create_tools([folder], write=True), name, **arguments)
    assert not worked
    assert words in said


def test_a_week_of_an_agent(folder: Path, campaign: Campaign, tmp_path: Path):
    server = create_tools([folder], write=True, who="robot 2")
    assert call(server, "mark", proposal_ids=["R01-01"], state="failed", reason="two phases")[1] == {
        "changed": ["R01-01"]
    }
    file = write_discharge(tmp_path / "cell.json", THIRD, 225.0)
    given = [{"name": "R01-03_A.json", "base64": base64.b64encode(file.read_bytes()).decode()}]
    assert call(server, "check_file", files=given)[1]["files"][0]["status"] == "recorded"
    assert len(campaign.state().measurements) == 1
    assert call(server, "record_file", files=given, key="w1")[1]["files"][0]["measurements"] == ["M0002"]
    assert "Done before, as entry" in call(server, "record_file", files=given, key="w1")[1]
    (third,) = call(server, "correct", measurement_id="M0002", reason="re-weighed", changes={"capacity_mah_g": 221.0})[
        1
    ]["measurements"]
    call(server, "retract", measurement_id=third, reason="short circuit")
    row = {"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 23.0, "cell": "B"}
    (doubtful,) = call(server, "add_measurements", measurements=[row])[1]["measurements"]
    assert call(server, "confirm", measurement_id=doubtful, reason="dead")[1] == {"measurements": [doubtful]}
    verbs = [(e.verb, e.who) for e in campaign.state().events[-6:]]
    assert [v for v, _ in verbs] == ["mark", "ingest", "supersede", "retract", "ingest", "confirm"]
    assert {w for _, w in verbs} == {"robot 2"}


def test_what_an_agent_had_seen_and_changed_since_is_told(folder: Path, campaign: Campaign):
    server = create_tools([folder], write=True)
    seen = {"R01-01": call(server, "proposal", proposal_id="R01-01")[1]["version"]}
    campaign.mark("R01-01", "abandoned", "smells")
    worked, said = call(server, "mark", proposal_ids=["R01-01"], state="accepted", seen=seen)
    assert (worked, "R01-01 has changed since" in said) == (False, True)


def test_it_is_started_by_the_command_line_and_spoken_to_on_its_pipes(folder: Path):
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "campaigns.cli", "mcp", "-C", str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )

    async def conversation(client: Client) -> Any:
        assert {t.name for t in (await client.list_tools()).tools} == LOOKING
        return (await client.call_tool("status", {})).structured_content["campaign"]

    assert talk(stdio_client(program), conversation) == "demo"


def test_without_the_extra_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    monkeypatch.delitem(sys.modules, "campaigns.server.agents", raising=False)
    result = CliRunner().invoke(main, ["mcp", "-C", str(folder)])
    assert result.exit_code == 2
    assert "pip install 'drx-screen[server,agents]'" in result.output


# -- hostile calls ---------------------------------------------------------------------------------------

WORDS = [
    *("R01-01", "r01-02", "R99-99", "M0001", "M0002", "demo", "../demo", "failed", "accepted", "measured", "", " "),
    *(
        "\0",
        "'; DROP TABLE events; --",
        "/etc/passwd",
        "../../etc/passwd",
        "<img src=x>",
        "=1+1",
        "é" * 300,
        "x" * 5000,
    ),
    *(FIRST, "Li1.2", "rocksalt 80, Li3NbO4 20", "rocksalt -5", "capacity", "pareto", "\U0001f600", "\u202e"),
]
NUMBERS: list[Any] = [0, -1, 1, 20, 240.0, 1e308, -1e308, 10**30, 0.0001, 1000, 1.5, 4.8, True, None]


def anything(draw: random.Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    kind = draw.randrange(7 if depth < 2 else 4)
    if kind < 2:
        return draw.choice(WORDS)
    if kind == 2:
        return draw.choice(NUMBERS)
    if kind == 3:
        return "".join(draw.choices(string.printable, k=draw.randrange(12)))
    if kind == 4:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(WORDS): anything(draw, depth + 1) for _ in range(draw.randrange(4))}


def fitting(draw: random.Random, schema: dict[str, Any], roots: dict[str, Any]) -> Any:
    """A value that a schema nearly allows."""
    if draw.random() < 0.07:
        return anything(draw)
    if "$ref" in schema:
        return fitting(draw, roots[schema["$ref"].rpartition("/")[2]], roots)
    if "anyOf" in schema:
        return fitting(draw, draw.choice(schema["anyOf"]), roots)
    if "enum" in schema:
        return draw.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            chosen = [k for k in known if k in schema.get("required", ()) or draw.random() < 0.4]
            return {
                k: draw.choice(LIKELY[k]) if k in LIKELY and draw.random() < 0.9 else fitting(draw, known[k], roots)
                for k in chosen
            }
        case "array":
            return [fitting(draw, schema.get("items", {}), roots) for _ in range(draw.randrange(1, 3))]
        case "number" | "integer":
            return draw.choice(NUMBERS)
        case "boolean":
            return draw.random() < 0.5
        case "null":
            return None
        case _:
            return draw.choice(WORDS)


LIKELY: dict[str, list[Any]] = {
    "campaign": ["demo", None],
    "proposal_id": ["R01-01", "r01-02", "R01-03", "LAB-01"],
    "proposal_ids": [["R01-01"], ["R01-02", "R01-03"], ["R01-03"]],
    "measurement_id": ["M0001", "M0002", "M0003", "M0005", "R01-02"],
    "current_ma_g": [20, 1000],
    "capacity_mah_g": [240.0, 231.5, 22.0, 180.0, 205.0],
    "cell": ["A", "B", "C", "=1+1"],
    "composition": [FIRST, SECOND, "Li1.15Ti0.3Mn0.55O2"],
    "by": ["capacity", "pareto", "rate-retention"],
    "within": ["measured"],
    "seen": [None, {}],
    "text": ["cycle,discharge capacity (mAh/g)\n1,231\n", "Time,V\n"],
    "base64": [None],
    "reason": ["two phases in XRD", "re-weighed", ""],
    "phases": [None, "rocksalt 80, Li3NbO4 20"],
    "key": [None, "k1", "k2", "k3"],
    "cycle": [1, 2, None],
    "v_low": [None],
    "v_high": [None],
    "sigma_mah_g": [None, 3.0],
    "voltage_v": [None],
    "profile_mah_g": [None],
}
"""What an agent would say under a name."""


def content(folder: Path) -> tuple[int, int]:
    """Number of the last entry of the log, and a hash of all else that the ledger holds."""
    with sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
        tables = [t for (t,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [(t, ledger.execute(f'SELECT * FROM "{t}"').fetchall()) for t in tables if t not in ("events", "meta")]
        (last,) = ledger.execute("SELECT max(number) FROM events").fetchone()
    ledger.close()
    return last, hash(repr(rows))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that SQLite keeps for readers."""
    found = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-shm", "-wal"))]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


async def attack(client: Client, folder: Path, seed: int, calls: int, tools: set[str]) -> dict[str, int]:
    """Call tools in hostile ways; what came of it by kind."""
    draw, counts = random.Random(seed), {"worked": 0, "refused": 0, "written": 0}
    schemas = {t.name: t.input_schema for t in (await client.list_tools()).tools}
    before = content(folder)
    for number in range(calls):
        name = draw.choice(sorted(tools))
        schema = schemas.get(name, {"type": "object"})
        arguments = fitting(draw, schema, schema.get("$defs", {}))
        arguments = arguments if isinstance(arguments, dict) else {}
        answer = await client.call_tool(name, arguments)
        if answer.is_error:
            counts["refused"] += 1
            text = answer.content[0].text
            assert text, (number, name, arguments)
            assert text != f"Error executing tool {name}", arguments  # what a defect is answered with
            assert "defect" not in text, (text, name, arguments)
        else:
            counts["worked"] += 1
        after = content(folder)
        assert after[0] - before[0] in (0, 1), (number, name, arguments)
        if after[0] == before[0]:
            assert after == before, (number, name, arguments)
        else:
            counts["written"] += 1
            assert name in WRITING
        before = after
    return counts


QUICK = WRITING - {"propose", "fine_tune"}


@pytest.mark.parametrize("calls", [100, pytest.param(CALLS, marks=pytest.mark.slow)])
def test_hostile_calls_write_nothing_without_an_entry_of_the_log(folder: Path, calls: int):
    server = create_tools([folder], write=True)
    tools = LOOKING | QUICK | {"unheard_of"}
    counts = talk(server, lambda client: attack(client, folder, SEED, calls, tools))
    logging.getLogger(__name__).info("%s", counts)
    assert counts["worked"] + counts["refused"] == calls
    assert counts["written"] > calls / 50, counts  # some of them are what an agent may do
    assert counts["refused"] > calls / 4, counts


@pytest.mark.parametrize("calls", [100, pytest.param(CALLS, marks=pytest.mark.slow)])
def test_hostile_calls_write_nothing_at_all_without_write(folder: Path, calls: int):
    before = files_of(folder)
    tools = LOOKING | WRITING | {"unheard_of"}
    counts = talk(create_tools([folder]), lambda client: attack(client, folder, SEED, calls, tools))
    logging.getLogger(__name__).info("%s", counts)
    assert counts["written"] == 0
    assert counts["worked"] > calls / 10, counts
    assert files_of(folder) == before
