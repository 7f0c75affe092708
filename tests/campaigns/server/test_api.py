"""The API: the same rows and sentences as the command line, and nothing written over what somebody else did."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, write_discharge
from starlette.testclient import TestClient

from campaigns.campaign import Campaign
from campaigns.report import views
from drxnet.errors import UsageError

BASE = "/api/campaigns/demo"


def row(client: TestClient, name: str) -> dict:
    return client.get(f"{BASE}/proposals/{name}").json()


def add(client: TestClient, *capacities: float, proposal: str = "R01-01") -> list[str]:
    rows = [{"proposal_id": proposal, "current_ma_g": 20, "capacity_mah_g": c, "cell": f"c{c}"} for c in capacities]
    answer = client.post(f"{BASE}/measurements", json={"measurements": rows})
    assert answer.status_code == 201, answer.text
    return answer.json()["measurements"]


# -- looking ---------------------------------------------------------------------------------------------


def test_status_is_that_of_the_command_line(client: TestClient, campaign: Campaign):
    said = client.get(BASE).json()
    status = json.loads(json.dumps(views.status(campaign)))
    assert {key: said[key] for key in status} == status
    assert [row["campaign"] for row in client.get("/api/campaigns").json()] == ["demo"]


def test_proposals_are_told_by_state_and_round_and_in_pages(client: TestClient):
    assert client.get(f"{BASE}/proposals").json()["total"] == 2
    assert [r["composition"] for r in client.get(f"{BASE}/proposals?offset=1").json()["rows"]] == [SECOND]
    assert client.get(f"{BASE}/proposals?state=failed").json()["rows"] == []
    assert client.get(f"{BASE}/proposals?state=proposed&round=2").json()["total"] == 0


def test_a_proposal_shows_what_was_predicted_and_measured(client: TestClient, tmp_path: Path):
    file = write_discharge(tmp_path / "cell.json", FIRST, 240.0)
    client.post(f"{BASE}/files", files={"files": ("cell.json", file.read_bytes())})
    shown = row(client, "r01-01")
    assert [p["current_ma_g"] for p in shown["predicted"]] == [20.0, 1000.0]
    assert len(shown["predicted"][0]["voltage_v"]) == len(shown["predicted"][0]["capacity_mah_g_std"]) == 20
    (curve,) = shown["measured"]
    assert max(curve["capacity_mah_g"]) == pytest.approx(240.0, rel=0.01)
    assert [m["status"] for m in shown["measurements"]] == ["valid"]
    assert shown["state"] == "measured"


def test_history_is_of_one_proposal_alone(client: TestClient):
    client.post(f"{BASE}/proposals/R01-01/mark", json={"state": "failed", "reason": "cracked"})
    client.post(f"{BASE}/proposals/R01-02/mark", json={"state": "accepted"})
    assert [e["verb"] for e in row(client, "R01-01")["history"]] == ["propose", "mark"]


def test_history_names_the_round_and_what_was_measured(client: TestClient):
    add(client, 240.0)
    assert [e["verb"] for e in row(client, "R01-01")["history"]] == ["propose", "ingest"]
    assert [e["verb"] for e in row(client, "R01-02")["history"]] == ["propose"]


def test_ranking_models_and_log(client: TestClient):
    add(client, 240.0)
    ranked = client.get(f"{BASE}/rank?by=capacity").json()
    assert [(r["rank"], r["proposal_id"], r["source"]) for r in ranked["rows"]] == [(1, "R01-01", "measured")]
    assert [m["current"] for m in client.get(f"{BASE}/models").json()] == [True]
    assert client.get(f"{BASE}/log").json()["rows"][0]["verb"] == "ingest"


def test_it_shows_what_another_process_writes(client: TestClient, campaign: Campaign):
    before = client.get(BASE).json()["event"]
    campaign.mark("R01-01", "abandoned", "smells")
    assert client.get(BASE).json()["event"] == before + 1
    assert row(client, "R01-01")["reason"] == "smells"


def test_an_edited_yaml_is_read_again(client: TestClient, campaign: Campaign):
    file = campaign.folder / "campaign.yaml"
    file.write_text(file.read_text() + "description: for the bench\n")
    assert client.get(BASE).json()["description"] == "for the bench"


def test_openapi_describes_every_route_without_a_sentence_missing(client: TestClient):
    routes = client.get("/openapi.json").json()["paths"]
    assert len(routes) >= 18
    assert all(method["description"] for route in routes.values() for method in route.values())


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/campaigns/none", 404, "No campaign 'none' here. Served: demo"),
        (f"{BASE}/proposals/R09-01", 400, "No proposal 'R09-01'"),
        (f"{BASE}/rank?by=beauty", 400, "beauty"),
        (f"{BASE}/proposals?limit=0", 422, "limit"),
        (f"{BASE}/rounds/1/sheet", 400, "has no sheet here"),
        (f"{BASE}/report", 400, "no report yet"),
        ("/api/jobs/J9999", 404, "No job 'J9999'"),
    ],
)
def test_errors_are_sentences_with_the_exit_code(client: TestClient, path: str, status: int, words: str):
    answer = client.get(path)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert answer.json()["exit_code"] == 2


def test_refused_data_say_so_as_the_command_line(client: TestClient):
    rows = [{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 900.0}]
    answer = client.post(f"{BASE}/measurements", json={"measurements": rows})
    assert answer.status_code == 422
    assert answer.json()["exit_code"] == 3
    assert "900" in answer.json()["error"]


HOSTILE: list[object] = [None, [], {}, "R01-01", -1, 10**400, "NaN", "\0", "\ud800", ["R01-01"]]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:12])
def test_no_value_is_a_defect(client: TestClient, value: object):
    add(client, 230.0)
    bodies = [
        ("/proposals/R01-01/mark", {"state": value}),
        ("/proposals/R01-01/mark", {"state": "failed", "reason": value}),
        ("/proposals/R01-01/mark", {"phases": value}),
        ("/proposals/R01-01/mark", {"icp": value}),
        ("/proposals/R01-01/mark", {"state": "accepted", "seen": value}),
        ("/proposals/R01-01/mark", {"state": "accepted", "seen": {"R01-01": value}}),
        ("/measurements", {"measurements": [value]}),
        *(
            ("/measurements", {"measurements": [{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240} | c]})
            for c in (
                {key: value}
                for key in (
                    "proposal_id composition current_ma_g capacity_mah_g v_low v_high cycle cell sigma_mah_g".split()
                )
            )
        ),
        ("/measurements/M0001/supersede", {"reason": "weighed again", "changes": {"capacity_mah_g": value}}),
        ("/measurements/M0001/supersede", {"reason": "x", "changes": {"measurement_id": value, "reason": value}}),
        ("/measurements/M0001/retract", {"reason": value}),
        ("/measurements/M0001/confirm", {"reason": value}),
        ("/jobs", {"verb": value}),
        ("/jobs", {"verb": "report", "options": {"folder": value}}),
    ]
    for path, body in bodies:
        text = json.dumps(body)
        answer = client.post(BASE + path, content=text, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, body, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["error"], (path, body)


# -- writing ---------------------------------------------------------------------------------------------


def test_a_mark_is_recorded_with_who_and_why(client: TestClient):
    answer = client.post(
        f"{BASE}/proposals/R01-01/mark",
        json={"state": "failed", "reason": "pellet cracked", "phases": "rocksalt 80, Li3NbO4 20"},
        headers={"X-Who": "Zo%C3%AB%20M%C3%BCller"},
    )
    assert answer.json()["changed"] == ["R01-01"]
    assert row(client, "R01-01") | {"state": "failed", "reason": "pellet cracked"} == row(client, "R01-01")
    assert row(client, "R01-01")["phases"].startswith("rocksalt 80")
    assert client.get(f"{BASE}/log").json()["rows"][0]["who"] == "Zoë Müller"


def test_measurements_are_corrected_retracted_and_kept(client: TestClient):
    first, second = add(client, 240.0, 238.0)
    changes = {"reason": "re-weighed", "changes": {"capacity_mah_g": 230.0}}
    (third,) = client.post(f"{BASE}/measurements/{first}/supersede", json=changes).json()["measurements"]
    client.post(f"{BASE}/measurements/{second}/retract", json={"reason": "short circuit"})
    shown = {m["measurement_id"]: m for m in client.get(f"{BASE}/measurements").json()["rows"]}
    assert {name: m["status"] for name, m in shown.items()} == {
        first: "superseded",
        second: "retracted",
        third: "valid",
    }
    assert shown[second]["withdrawn_reason"] == "short circuit"


@pytest.mark.parametrize("key", ["capacity_mah_g", "current_ma_g", "cycle"])
def test_a_truth_value_is_no_number(client: TestClient, key: str):
    row = {"composition": "Li1.2Mn0.4Ti0.4O2", "current_ma_g": 20, "capacity_mah_g": 240, "cycle": 1, key: True}
    answer = client.post(f"{BASE}/measurements", json={"measurements": [row]})
    assert (answer.status_code, "A number is needed. Got True" in answer.text) == (422, True)
    assert not client.get(f"{BASE}/measurements").json()["rows"]


def test_a_doubtful_measurement_counts_once_confirmed(client: TestClient):
    add(client, 240.0)
    (name,) = add(client, 24.0)
    (doubtful,) = client.get(f"{BASE}/measurements?status=doubtful").json()["rows"]
    assert (doubtful["measurement_id"], bool(doubtful["doubt"])) == (name, True)
    answer = client.post(f"{BASE}/measurements/{name}/confirm", json={"reason": "weighed again"})
    assert answer.json()["measurements"] == [name]
    assert client.get(f"{BASE}/measurements?status=doubtful").json()["rows"] == []


def test_a_stale_page_is_told_and_nothing_is_overwritten(client: TestClient):
    seen = {"R01-01": row(client, "R01-01")["version"]}
    mark = {"state": "failed", "reason": "cracked", "seen": seen}
    assert client.post(f"{BASE}/proposals/R01-01/mark", json=mark).status_code == 200
    late = client.post(f"{BASE}/proposals/R01-01/mark", json={"state": "abandoned", "reason": "late", "seen": seen})
    assert late.status_code == 412
    assert "R01-01 has changed since this page showed it: it is failed now (cracked)" in late.json()["error"]
    assert row(client, "R01-01")["state"] == "failed"


def test_a_measurement_makes_an_older_page_stale(client: TestClient):
    seen = {"R01-01": row(client, "R01-01")["version"]}
    add(client, 240.0)
    late = client.post(f"{BASE}/proposals/R01-01/mark", json={"state": "failed", "reason": "x", "seen": seen})
    assert late.status_code == 412


def test_the_same_key_is_carried_out_once(client: TestClient):
    rows = {"measurements": [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}]}
    headers = {"Idempotency-Key": "robot-7"}
    first = client.post(f"{BASE}/measurements", json=rows, headers=headers).json()
    again = client.post(f"{BASE}/measurements", json=rows, headers=headers)
    assert again.status_code == 200
    assert again.json()["replayed"] is True
    assert again.json()["event"] == first["event"]
    assert client.get(f"{BASE}/measurements").json()["total"] == 1


def test_a_screen_on_the_wall_shows_and_writes_nothing(serve: Callable[..., TestClient], campaign: Campaign):
    wall = serve(read_only=True)
    before = campaign.ledger.last_event()
    refused = [
        wall.post(f"{BASE}/proposals/R01-01/mark", json={"state": "accepted"}),
        wall.post(f"{BASE}/measurements", json={"measurements": [{}]}),
        wall.post(f"{BASE}/measurements/M0001/retract", json={"reason": "x"}),
        wall.post(f"{BASE}/files", files={"files": ("a.csv", b"x")}),
        wall.post(f"{BASE}/jobs", json={"verb": "propose"}),
    ]
    assert [answer.status_code for answer in refused] == [403] * 5
    assert "--read-only" in refused[0].json()["error"]
    assert wall.get(BASE).json()["read_only"] is True
    assert campaign.ledger.last_event() == before


def test_writers_at_the_same_time_lose_nothing(client: TestClient):
    def write(cell: int) -> None:
        for n in range(3):
            body = {"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240 + n, "cell": f"{cell}-{n}"}
            answers.append(client.post(f"{BASE}/measurements", json={"measurements": [body]}).status_code)

    answers: list[int] = []
    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 12
    assert client.get(f"{BASE}/measurements").json()["total"] == 12


# -- files -----------------------------------------------------------------------------------------------


def test_a_file_is_checked_first_and_recorded_then(client: TestClient, campaign: Campaign, tmp_path: Path):
    content = write_discharge(tmp_path / "cell.json", FIRST, 240.0).read_bytes()
    before = campaign.ledger.last_event()
    checked = client.post(f"{BASE}/files", files={"files": ("cell.json", content)}, data={"dry_run": "true"}).json()
    assert [f["status"] for f in checked["files"]] == ["recorded"]
    assert campaign.ledger.last_event() == before
    form = {"proposal": "R01-01", "cell": "A"}
    done = client.post(f"{BASE}/files", files={"files": ("cell.json", content)}, data=form).json()
    assert done["files"][0]["proposals"] == ["R01-01"]
    assert done["files"][0]["measurements"] == ["M0001"]
    assert done["event"] > before
    assert client.get(f"{BASE}/measurements").json()["rows"][0]["cell"] == "A"


def test_a_refused_file_says_which_rule_and_waits_in_the_list(client: TestClient, tmp_path: Path):
    content = write_discharge(tmp_path / "bad.json", FIRST, 900.0).read_bytes()
    answer = client.post(f"{BASE}/files", files={"files": ("bad.json", content)}).json()
    assert answer["files"][0]["status"] == "refused"
    (listed,) = client.get(f"{BASE}/refused").json()
    assert listed["file"] == "bad.json"
    assert listed["rules"][0]["message"]


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.json",
        "/etc/evil.json",
        "..\\..\\evil.json",
        "C:\\evil.json",
        "a\0evil.json",
        "..",
        "",
        "x" * 5000 + ".json",
        "é" * 300,
        "<img src=x onerror=alert(1)>.json",
    ],
)
def test_tricks_in_a_file_name_reach_no_folder(client: TestClient, tmp_path: Path, name: str):
    content = write_discharge(tmp_path / "good.json", FIRST, 240.0).read_bytes()
    before = sorted(p for p in tmp_path.rglob("*") if "ledger" not in p.name)
    answer = client.post(f"{BASE}/files", files={"files": (name, content)})
    assert answer.status_code in (200, 400, 422), answer.text
    assert sorted(p for p in tmp_path.rglob("*") if "ledger" not in p.name) == before
    assert not Path("/etc/evil.json").exists()


# -- what the schema made up -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**31, 10**9, 10**20])
def test_no_round_of_a_number_that_no_database_can_hold(client: TestClient, campaign: Campaign, number: int):
    with pytest.raises(UsageError, match=f"Campaign demo has no round R{number}"):
        campaign.state(number)
    assert client.get(f"{BASE}/rank?as_of={number}").status_code in (400, 422)
    assert client.get(f"{BASE}/rounds/{number}/sheet").status_code in (400, 422)


def test_every_refusal_is_described(client: TestClient):
    schema = client.get("/openapi.json").json()
    for path, route in schema["paths"].items():
        for method in route.values():
            refused = {"400", "401", "403", "404", "408", "412", "413", "421", "422", "503"}
            assert refused <= set(method["responses"]), path
    assert schema["components"]["schemas"]["Refusal"]["required"] == ["error", "exit_code", "kind"]


# -- what has not changed is not sent again --------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/status", "/proposals", "/proposals/R01-01", "/measurements", "/rank", "/log"])
def test_who_has_an_answer_is_told_that_it_stands(client: TestClient, campaign: Campaign, path: str):
    first = client.get(BASE + path)
    kept = {"If-None-Match": first.headers["ETag"]}
    again = client.get(BASE + path, headers=kept)
    assert (again.status_code, again.content) == (304, b"")
    campaign.mark("R01-01", "abandoned", "smells")
    changed = client.get(BASE + path, headers=kept)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


def test_an_edited_yaml_changes_what_is_told(client: TestClient, campaign: Campaign):
    kept = {"If-None-Match": client.get(BASE).headers["ETag"]}
    file = campaign.folder / "campaign.yaml"
    file.write_text(file.read_text() + "description: for the bench\n")
    assert client.get(BASE, headers=kept).status_code == 200
