"""A campaign by its address: every public method gives what it gives on a folder, errors included."""

from __future__ import annotations

import inspect
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign, write_discharge
from served import served
from small_model import FINE_TUNING, write_small_model

from campaigns import Campaign
from campaigns.client import connection as wire
from campaigns.client.client import Client
from campaigns.client.connection import error_of
from campaigns.errors import Busy, Stale, Unknown, Unreachable
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from drxnet.composition import Composition
from drxnet.errors import DataRefused, DRXError, DRXWarning, MeasurementError, UsageError
from drxnet.process import Process
from screening.errors import NothingToPropose


def plain(value: Any) -> Any:
    """A value as JSON, without times, folders and numbers of log entries."""
    if isinstance(value, tuple) and value and all(is_dataclass(v) for v in value):
        return [plain(v) for v in value]
    content = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.loads(json.dumps(content, default=str), object_hook=_lasting)


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items() if k not in ("event", "at", "folder")}


Call = Callable[[Campaign, Path], Any]


def report(campaign: Campaign, folder: Path) -> list[str]:
    written = campaign.report(folder / campaign.__class__.__name__)
    assert "<html" in written.page.read_text(encoding="utf-8")
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in written.figures)
    return [path.name for path in (written.page, *written.figures)]


def export(name: str, **options: Any) -> Call:
    def call(campaign: Campaign, folder: Path) -> tuple[int, str]:
        target = folder / campaign.__class__.__name__ / name
        target.parent.mkdir(exist_ok=True)
        count = campaign.export(target, **options)
        text = target.read_text(encoding="utf-8")
        if options.get("form") == "json":
            content = json.loads(text)
            content.pop("rebuild")
            return count, plain(content)
        return count, text

    return call


def rows(*capacities: float, proposal: str = "R01-01") -> list[dict[str, Any]]:
    return [{"proposal_id": proposal, "current_ma_g": 20, "capacity_mah_g": c, "cell": f"c{c}"} for c in capacities]


QUICK: list[tuple[str, Call]] = [
    ("summarize", lambda c, f: c.summarize()),
    ("mark", lambda c, f: c.mark("r01-01", "accepted")),
    ("mark several", lambda c, f: c.mark(["R01-02", "R01-03"], "failed", "two phases", phases={"rocksalt": 80.0})),
    ("mark phases", lambda c, f: c.mark("R01-01", phases="rocksalt 80, Li3NbO4 20", single_phase=False, icp=FIRST)),
    ("mark without a reason", lambda c, f: c.mark("R01-01", "failed")),
    ("mark nothing", lambda c, f: c.mark([])),
    ("mark unknown", lambda c, f: c.mark(["R01-01", "R09-01"], "abandoned", "x")),
    ("mark as measured", lambda c, f: c.mark("R01-01", "measured")),
    ("add", lambda c, f: c.add_measurements(rows(240.0, 238.0), fine_tune=False)),
    ("add known", lambda c, f: c.add_measurements(rows(240.0), fine_tune=False)),
    ("add none", lambda c, f: c.add_measurements([], fine_tune=False)),
    ("add an unknown key", lambda c, f: c.add_measurements([{"propsal_id": "R01-01"}], fine_tune=False)),
    ("add without a capacity", lambda c, f: c.add_measurements([{"composition": FIRST}], fine_tune=False)),
    ("add what is refused", lambda c, f: c.add_measurements(rows(900.0), fine_tune=False)),
    (
        "add a frame",
        lambda c, f: c.add_measurements(
            pd.DataFrame(
                [{"composition": THIRD, "current_ma_g": 20, "capacity_mah_g": 222.0, "cycle": 1, "cell": None}]
            ),
            fine_tune=False,
        ),
    ),
    (
        "add a profile",
        lambda c, f: c.add_measurements(
            [rows(231.0)[0] | {"voltage_v": (4.8, 3.0, 1.5), "profile_mah_g": (0.0, 120.0, 231.0)}], fine_tune=False
        ),
    ),
    ("add a doubtful one", lambda c, f: c.add_measurements(rows(24.0), fine_tune=False)),
    ("add a confirmed one", lambda c, f: c.add_measurements(rows(23.0), fine_tune=False, confirmed=True)),
    ("confirm", lambda c, f: c.confirm_measurement("M0005", "weighed again")),
    ("confirm what nobody doubts", lambda c, f: c.confirm_measurement("R01-03")),
    ("update", lambda c, f: c.update_measurement("M0001", "re-weighed", capacity_mah_g=230.0)),
    ("update nothing", lambda c, f: c.update_measurement("M0002", "re-weighed")),
    ("update by a wrong key", lambda c, f: c.update_measurement("M0002", "re-weighed", mass=1.0)),
    ("retract", lambda c, f: c.retract_measurement("M0002", "short circuit")),
    ("retract unknown", lambda c, f: c.retract_measurement("M0999", "short circuit")),
    ("retract without a reason", lambda c, f: c.retract_measurement("M0003", "")),
    ("ingest", lambda c, f: c.ingest([f / "R01-02_A.json", f / "bad.json"], fine_tune=False)),
    ("ingest again", lambda c, f: c.ingest(str(f / "R01-02_A.json"))),
    (
        "ingest all or nothing",
        lambda c, f: c.ingest([f / "new.json", f / "bad.json"], all_or_nothing=True, fine_tune=False),
    ),
    ("ingest dry", lambda c, f: c.ingest(f / "new.json", dry_run=True, sample=SampleInfo(cell="Z"))),
    ("ingest a folder", lambda c, f: c.ingest(f / "more", fine_tune=False)),
    ("ingest with samples", lambda c, f: c.ingest(f / "late.json", samples=f / "samples.csv", fine_tune=False)),
    (
        "ingest with options",
        lambda c, f: c.ingest(
            f / "new.json",
            sample=SampleInfo(
                composition=Composition.parse(SECOND),
                window=(1.5, 4.8),
                current_ma_g=20.0,
                process=Process.read("route=sol-gel, firing_temperature_c=950"),
            ),
            options=ReadOptions(decimal="."),
            fine_tune=False,
        ),
    ),
    ("ingest nowhere", lambda c, f: c.ingest(f / "none.json")),
    ("ingest for an unknown", lambda c, f: c.ingest(f / "new.json", sample=SampleInfo(proposal="R77-01"))),
    ("add files", lambda c, f: c.add_measurements([f / "R01-03_B.json"], fine_tune=False)),
    ("add refused files", lambda c, f: c.add_measurements([f / "bad.json"], fine_tune=False)),
    ("rank measured", lambda c, f: c.rank("capacity", within="measured")),
    ("rank by the mean", lambda c, f: c.rank("capacity", within="measured", top=2, order="mean", current_ma_g=20.0)),
    ("rank by beauty", lambda c, f: c.rank("beauty", within="measured")),
    ("summarize as of", lambda c, f: c.summarize(as_of=1)),
    ("summarize as of never", lambda c, f: c.summarize(as_of=7)),
    ("export csv", export("a.csv")),
    ("export everything", export("a.txt", form="json", withdrawn=True)),
    ("export without a form", export("a.txt")),
    ("export drx-td", export("a.dat", form="drx-td", as_of=1)),
    ("fine-tune a stub", lambda c, f: c.fine_tune()),
]
SLOWER: list[tuple[str, Call]] = [
    ("recommend dry", lambda c, f: c.recommend(2, seed=5, dry_run=True)),
    ("recommend", lambda c, f: c.recommend(2, seed=5)),
    ("recommend from a list", lambda c, f: c.recommend(1, candidates=f / "list.csv")),
    ("recommend from nothing", lambda c, f: c.recommend(1, candidates=f / "list.csv")),
    ("recommend strangely", lambda c, f: c.recommend(1, strategy="guess")),
    ("add", lambda c, f: c.add_measurements(rows(240.0) + rows(231.0, proposal="R01-02"), fine_tune=False)),
    ("fine-tune", lambda c, f: c.fine_tune()),
    ("rank", lambda c, f: c.rank()),
    ("rank the space", lambda c, f: c.rank("pareto", within="space", top=3, workers=0)),
    ("report", report),
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "more").mkdir(parents=True)
    write_discharge(folder / "R01-02_A.json", SECOND, 228.0, cycles=2)
    write_discharge(folder / "bad.json", FIRST, 900.0)
    write_discharge(folder / "new.json", FIRST, 233.0)
    write_discharge(folder / "late.json", SECOND, 225.0)
    write_discharge(folder / "R01-03_B.json", THIRD, 219.0)
    write_discharge(folder / "more" / "one.json", FIRST, 236.0)
    write_discharge(folder / "more" / "two.json", FIRST, 237.0)
    (folder / "samples.csv").write_text("file,proposal,cell\nlate.json,R01-02,C7\n")
    (folder / "list.csv").write_text("composition\nLi1.2Ti0.4Mn0.4O2\n")
    return folder


def _outcome(call: Call, campaign: Campaign, folder: Path) -> Any:
    try:
        return plain(call(campaign, folder))
    except DRXError as error:
        return type(error), str(error).replace(f"{folder.parent / 'twin'}", f"{folder.parent}")


def _compare(calls: list[tuple[str, Call]], here: Campaign, there: Campaign, folder: Path) -> None:
    for name, call in calls:
        local, remote = _outcome(call, here, folder), _outcome(call, there, folder)
        assert remote == local, name


def test_every_quick_method_gives_what_it_gives_on_the_folder(campaign: Campaign, files: Path, tmp_path: Path):
    record_round(campaign, FIRST, SECOND, THIRD)
    twin = tmp_path / "twin" / "demo"
    shutil.copytree(campaign.folder, twin)
    with served(twin) as address, Campaign(f"{address}/demo", who="Zoë") as there:
        assert isinstance(there, Campaign)
        _compare(QUICK, campaign, there, files)
        assert repr(there).split(";")[0] == repr(campaign).split(";")[0]
        with Campaign(twin) as opened:
            mine = opened.state().events[-len(campaign.state().events) :]
            assert [e.verb for e in mine] == [e.verb for e in campaign.state().events]
            assert {e.who for e in mine[2:]} == {"Zoë"}


@pytest.mark.slow
def test_every_longer_method_gives_what_it_gives_on_the_folder(files: Path, tmp_path: Path):
    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"), fine_tuning=FINE_TUNING)
    with Campaign.start(tmp_path / "demo", template) as here:
        twin = tmp_path / "twin" / "demo"
        shutil.copytree(here.folder, twin)
        with served(twin) as address, Campaign(f"{address}/demo") as there:
            _compare(SLOWER, here, there, files)


def test_the_two_lists_above_call_every_public_method():
    text = inspect.getsource(inspect.getmodule(plain))  # type: ignore[arg-type]
    own = {name for name in vars(Campaign) if not name.startswith("_")}
    assert own == {name for name in own if f"c.{name}(" in text or f"campaign.{name}(" in text}
    assert {name for name in own if getattr(Client, name, None) is None} == set()


@pytest.mark.parametrize("name", sorted(n for n in vars(Campaign) if not n.startswith("_")))
def test_signatures_are_the_same(name: str):
    here, there = (inspect.signature(getattr(kind, name)) for kind in (Campaign, Client))
    assert here == there


@pytest.fixture
def there(campaign: Campaign) -> Iterator[Campaign]:
    record_round(campaign, FIRST, SECOND)
    with served(campaign.folder) as address, Campaign(f"{address}/demo") as opened:
        yield opened


@pytest.mark.parametrize(
    "look",
    [
        lambda c: c.state(),
        lambda c: c.ledger,
        lambda c: c.folder,
        lambda c: c.spec,
        lambda c: c.ensemble(),
        lambda c: c.model_path(None),
        lambda c: c.goals(None),
    ],
)
def test_what_lies_on_the_server_says_so(there: Campaign, look: Callable[[Campaign], Any]):
    with pytest.raises(UsageError, match=r"lies on the machine of the server at http://127.0.0.1:\d+\. From here"):
        look(there)


def test_what_was_shown_and_changed_since_is_told(there: Campaign, campaign: Campaign):
    shown = there.show("r01-01")  # type: ignore[attr-defined]
    assert (shown["state"], shown["composition"]) == ("proposed", FIRST)
    campaign.mark("R01-01", "abandoned", "smells")
    with pytest.raises(Stale, match=r"R01-01 has changed since .*abandoned now \(smells\)"):
        there.mark("R01-01", "accepted")
    there.show("R01-01")  # type: ignore[attr-defined]
    assert there.mark("R01-01", "accepted") == ("R01-01",)
    assert there.mark("R01-01", "failed", "cracked") == ("R01-01",)  # its own writing makes nothing stale


def test_an_address_without_a_campaign_names_those_that_are_there(there: Campaign):
    server = there._connection.server  # type: ignore[attr-defined]
    for path in ("", "/", "/other"):
        with pytest.raises(Unknown, match=f"Give one that it serves: {server}/demo"):
            Campaign(f"{server}{path}")


def test_a_server_that_does_not_answer_is_named_with_the_way_to_start_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "WAITS_S", (0.01,))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(
        Unreachable, match=f"No server answers at http://127.0.0.1:{port} .*drx-screen serve -C he-rate"
    ):
        Campaign(f"http://127.0.0.1:{port}/he-rate")


def test_something_else_that_answers_is_no_server_of_campaigns(tmp_path: Path):
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        with pytest.raises(UsageError, match="answered 404, and not as `drx-screen serve` does"):
            Campaign(f"http://127.0.0.1:{other.server_port}/demo")
        other.shutdown()
        thread.join()


def test_a_token_comes_from_the_address_an_option_or_the_environment(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(wire.TOKEN_VARIABLE, raising=False)
    with served(campaign.folder, token="0123456789abcdef") as address:
        with pytest.raises(UsageError, match="asks for its token"):
            Campaign(f"{address}/demo")
        Campaign(f"{address}/demo?token=0123456789abcdef").close()
        Campaign(f"{address}/demo", token="0123456789abcdef").close()
        monkeypatch.setenv(wire.TOKEN_VARIABLE, "0123456789abcdef")
        Campaign(f"{address}/demo").close()


def test_a_screen_on_the_wall_is_not_written_to(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    before = campaign.ledger.last_event()
    file = write_discharge(tmp_path / "a.json", FIRST, 240.0)
    with served(campaign.folder, read_only=True) as address, Campaign(f"{address}/demo") as wall:
        for write in (
            lambda: wall.mark("R01-01", "accepted"),
            lambda: wall.add_measurements(rows(240.0)),
            lambda: wall.ingest(file),
            lambda: wall.fine_tune(),
        ):
            with pytest.raises(UsageError, match="only shows"):
                write()
    assert campaign.ledger.last_event() == before


def test_a_lost_answer_is_asked_for_again_and_nothing_is_written_twice(
    there: Campaign, campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import httpx2

    monkeypatch.setattr(wire, "WAITS_S", (0.0, 0.0, 0.0))
    http = there._connection._http  # type: ignore[attr-defined]
    request = http.request

    def lossy(method: str, path: str, **more: Any) -> httpx2.Response:
        answer = request(method, path, **more)
        if method == "POST" and len(lost) % 2 == 0:
            lost.append(path)
            raise httpx2.ReadError("the cable was pulled")
        lost.append("")
        return answer

    lost: list[str] = []
    monkeypatch.setattr(http, "request", lossy)
    assert there.add_measurements(rows(240.0, 239.0), fine_tune=False) == ("M0001", "M0002")
    assert there.mark("R01-02", "accepted") == ("R01-02",)
    done = there.ingest(write_discharge(tmp_path / "a.json", FIRST, 236.0), fine_tune=False)
    assert done.measurements == ("M0003",)
    assert [path.rpartition("/")[2] for path in lost if path] == ["measurements", "mark", "files"]
    assert len(campaign.state().measurements) == 3
    assert [e.verb for e in campaign.state().events[-3:]] == ["ingest", "mark", "ingest"]


def test_measurements_that_cannot_be_learned_from_are_kept_and_told(there: Campaign):
    with pytest.warns(DRXWarning, match="Recorded M0001, but not learned from: .*weights.safetensors"):
        assert there.add_measurements(rows(240.0)) == ("M0001",)


def test_errors_come_back_as_their_class():
    for kind in (Stale, Busy, MeasurementError, NothingToPropose, DataRefused):
        error = error_of({"error": "a sentence", "kind": kind.__name__, "exit_code": kind.exit_code})
        assert (type(error), str(error)) == (kind, "a sentence")
    newer = error_of({"error": "of a newer server", "kind": "Novelty", "exit_code": 3})
    assert type(newer) is DataRefused
    assert type(error_of({"error": "a defect", "exit_code": 1})) is RuntimeError


def test_work_is_awaited_with_progress_and_behind_what_runs(there: Campaign, tmp_path: Path):
    told: list[tuple[int, int]] = []
    first = threading.Thread(target=lambda: there.report(tmp_path / "one"))
    first.start()
    there.report(tmp_path / "two", progress=lambda done, total: told.append((done, total)))
    first.join()
    assert 0 < told[-1][0] <= told[-1][1]
    assert (tmp_path / "one" / "report.html").is_file()
