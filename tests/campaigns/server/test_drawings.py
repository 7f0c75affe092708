"""What a browser draws: figures, neighbours, the bench sheet and the picture of a file, over the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filled_ledgers import fill
from ledgers import SECOND, THIRD
from starlette.testclient import TestClient
from synthetic_cycler import cell_test, neware_csv, write

from campaigns.campaign import Campaign
from campaigns.server.app import create_app
from campaigns.server.desk import Desk, Seen
from drxnet.composition import Composition

BASE = "/api/campaigns/demo"


@pytest.fixture
def filled(campaign: Campaign) -> Iterator[TestClient]:
    """A served campaign of three rounds with cells cycled on."""
    fill(campaign.ledger, rounds=3, batch=4, cells=1, cycles=3)
    with TestClient(create_app([campaign.folder]), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("which", "drawn"),
    [
        ("progress", {"progress"}),
        (
            "trust",
            {"compare-rate_retention", "calibration", "compare-capacity_low_mah_g", "compare-capacity_high_mah_g"},
        ),
        ("trade-off", {"trade-off"}),
        ("later-cycles", {"later-cycles"}),
        ("map", {"map", "map-spread"}),
        ("map?elements=Li&elements=Cr", {"map", "map-spread"}),
        ("map?elements=Mn&elements=Cr&elements=Ti", {"map", "map-spread"}),
        ("models", {"models"}),
    ],
)
def test_every_figure_has_its_traces_and_a_sentence(filled: TestClient, which: str, drawn: set[str]):
    said = filled.get(f"{BASE}/figures/{which}").json()
    assert set(said["figures"]) == drawn
    assert all(figure["data"] and figure["layout"] for figure in said["figures"].values())
    assert said["note"].endswith(".")


@pytest.mark.parametrize("which", ["trust", "later-cycles", "models"])
def test_what_there_is_not_yet_is_a_sentence(client: TestClient, which: str):
    said = client.get(f"{BASE}/figures/{which}").json()
    assert said["figures"] == {}
    assert said["note"].startswith(("Nothing", "No "))


def test_a_map_of_unknown_elements_says_which_there_are(filled: TestClient):
    answer = filled.get(f"{BASE}/figures/map?elements=Li&elements=Xx")
    assert answer.status_code == 400
    assert "two or three different elements of Li, Mg" in answer.json()["error"]
    assert filled.get(f"{BASE}/figures/beauty").status_code == 422


def test_a_figure_shows_what_another_process_measured(client: TestClient, campaign: Campaign):
    assert client.get(f"{BASE}/figures/trust").json()["figures"] == {}
    rows = [{"proposal_id": "R01-01", "current_ma_g": i, "capacity_mah_g": q} for i, q in ((20, 240.0), (1000, 160.0))]
    campaign.add_measurements(rows, fine_tune=False)
    assert "calibration" in client.get(f"{BASE}/figures/trust").json()["figures"]


def test_neighbours_are_those_with_the_least_to_exchange(filled: TestClient, campaign: Campaign):
    rows = filled.get(f"{BASE}/proposals/R02-01/neighbours?top=50").json()
    assert len(rows) == len(campaign.state().proposals) - 1
    assert [r["exchanged"] for r in rows] == sorted(r["exchanged"] for r in rows)
    mine = Composition.parse(campaign.state().proposal("R02-01").composition).amounts()
    nearest = Composition.parse(rows[0]["composition"]).amounts()
    apart = sum(abs(mine.get(s, 0) - nearest.get(s, 0)) for s in {*mine, *nearest}) / 2
    assert rows[0]["exchanged"] == pytest.approx(apart, abs=1e-4)
    assert {r["source"] for r in rows} <= {"measured", "predicted", None}
    ranked = {r["proposal_id"]: r["rate_retention_std"] for r in campaign.rank(within="measured")}
    assert {r["proposal_id"]: r["std"] for r in rows if r["source"] == "measured"} == pytest.approx(
        {name: std for name, std in ranked.items() if name != "R02-01"}
    )


def test_what_two_neighbours_exchange_is_known_by_hand(serve: Callable[..., TestClient], campaign: Campaign):
    client = serve()
    with campaign.ledger.write("ingest") as entry:
        entry.add_lab_composition(THIRD)
    rows = client.get(f"{BASE}/proposals/R01-01/neighbours").json()
    assert {r["composition"]: r["exchanged"] for r in rows} == {
        SECOND: 0.4,  # 0.4 Ti for 0.2 Mn and 0.2 Nb
        THIRD: 0.4,  # 0.15 Ti for 0.05 Li and 0.1 Mn, 0.25 O for 0.25 F
    }


def test_what_the_campaign_wants_and_can_be_ranked_by(client: TestClient):
    said = client.get(f"{BASE}/about").json()
    assert said["goals"][0].startswith("rate retention")
    assert {"rate-retention", "specific-energy", "pareto"} <= set(said["rank_by"])
    assert said["report"] is False


def test_a_bench_sheet_is_one_page_of_the_round(client: TestClient):
    answer = client.get(f"{BASE}/rounds/1/bench")
    assert answer.headers["content-type"].startswith("text/html")
    assert "R01-02" in answer.text
    assert client.get(f"{BASE}/rounds/7/bench").status_code == 400


def test_the_picture_of_a_file_is_drawn_and_nothing_kept(client: TestClient, campaign: Campaign, tmp_path: Path):
    content = write(tmp_path / "cell.csv", neware_csv(cell_test(cycles=1))).read_bytes()
    before = campaign.ledger.last_event()
    answer = client.post(f"{BASE}/picture", files={"file": ("cell.csv", content)})
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert campaign.ledger.last_event() == before
    assert client.post(f"{BASE}/picture", files={"file": ("x.csv", b"nothing")}).status_code in (200, 422)


def test_a_wrong_mass_is_corrected_by_a_factor(client: TestClient):
    rows = {"measurements": [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 200.0}]}
    (name,) = client.post(f"{BASE}/measurements", json=rows).json()["measurements"]
    body = {"reason": "re-weighed", "scale": 1.2, "changes": {"current_ma_g": 20}}
    assert client.post(f"{BASE}/measurements/{name}/supersede", json=body).status_code == 200
    shown = client.get(f"{BASE}/measurements?status=valid").json()["rows"]
    assert [m["capacity_mah_g"] for m in shown] == [pytest.approx(240.0)]
    assert client.post(f"{BASE}/measurements/{name}/supersede", json={**body, "scale": 0}).status_code == 422


def test_the_report_may_run_its_own_script_and_reach_nothing(client: TestClient, campaign: Campaign):
    folder = campaign.folder / "report"
    folder.mkdir()
    (folder / "report.html").write_text("<script>1</script>")
    for path in ("report", "report/report.html"):
        policies = client.get(f"{BASE}/{path}").headers.get_list("content-security-policy")
        assert len(policies) == 1
        assert policies[0].startswith("sandbox allow-scripts")
        assert "default-src 'none'" in policies[0]
        assert "same-origin" not in policies[0]
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def test_the_library_that_draws_comes_from_here(client: TestClient):
    answer = client.get("/assets/plotly.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert b"plotly.js" in answer.content[:200]


def test_neighbours_are_of_one_entry_of_the_log_whoever_writes_meanwhile(
    client: TestClient, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
):
    read = Desk.seen

    def overtaken(desk: Desk, name: str) -> Seen:
        found = read(desk, name)
        campaign.mark("R01-01", "failed", f"cracked {campaign.ledger.last_event()}")
        return found

    monkeypatch.setattr(Desk, "seen", overtaken)
    answer = client.get("/api/campaigns/demo/proposals/R01-01/neighbours")
    assert answer.status_code == 200
    assert [row["proposal_id"] for row in answer.json()] == ["R01-02"]
