"""What reaches a server at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from campaigns.server import guard

BASE = "/api/campaigns/demo"
MARK = f"{BASE}/proposals/R01-01/mark"
ACCEPT = {"state": "accepted"}


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "", "[::2]:80"])
def test_a_foreign_name_is_refused(client: TestClient, host: str):
    answer = client.get(BASE, headers={"host": host})
    assert answer.status_code == 421
    assert "answers to 127.0.0.1, ::1, localhost" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:9", "[::1]:8000"])
def test_this_machine_is_answered(client: TestClient, host: str):
    assert client.get(BASE, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_cannot_write(client: TestClient, headers: dict[str, str]):
    answer = client.post(MARK, json=ACCEPT, headers=headers)
    assert answer.status_code == 403
    assert "own page" in answer.json()["error"]
    assert client.get(f"{BASE}/proposals/R01-01").json()["state"] == "proposed"


def test_its_own_page_and_scripts_can_write(client: TestClient):
    own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert client.post(MARK, json=ACCEPT, headers=own).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_form_of_another_site_is_no_write(client: TestClient, kind: str):
    answer = client.post(MARK, content='{"state": "accepted"}', headers={"content-type": kind})
    assert answer.status_code == 422


def test_a_token_is_asked_for_and_kept_in_a_cookie(serve: Callable[..., TestClient]):
    client = serve(hosts=frozenset(), token="0123456789abcdef")
    assert client.get(BASE).status_code == 401
    assert client.get("/").status_code == 401
    assert client.get("/openapi.json").status_code == 401
    assert client.get(BASE, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(BASE, headers={"Authorization": "Bearer 0123456789abcdef"}).status_code == 200
    opened = client.get("/?token=0123456789abcdef")
    assert "HttpOnly; SameSite=Strict" in opened.headers["set-cookie"]
    assert client.get(BASE).status_code == 200  # by the cookie


def test_an_oversized_body_is_refused_stated_or_not(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "MOST_BODY_BYTES", 1000)
    assert client.post(MARK, content=b"x" * 1001).status_code == 413

    def chunks():
        yield from [b"x" * 400] * 3

    assert client.post(MARK, content=chunks()).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 30, "x"])
def test_a_length_that_is_no_number_is_refused(client: TestClient, length: str):
    assert client.get(BASE, headers={"content-length": length}).status_code == 400


def test_a_slow_body_is_given_up(serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_S", 0.05)
    app, sent = serve().app, []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": MARK,
        "raw_path": MARK.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }

    async def never() -> dict:
        await asyncio.sleep(30)
        raise AssertionError

    async def keep(message) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, never, keep), 10))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(
    "path", ["/assets/../api.py", "/assets/%2e%2e/api.py", "/assets/..%2fapi.py", "/assets//etc/passwd"]
)
def test_assets_are_all_that_is_served_as_files(client: TestClient, path: str):
    assert client.get(path).status_code == 404


def test_every_answer_says_what_a_browser_may_do(client: TestClient):
    for path in ("/", BASE, "/api/campaigns/none"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"


def test_a_body_that_trickles_is_given_up(serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_S", 0.2)
    client = serve()

    def trickle():
        for _ in range(40):
            time.sleep(0.02)
            yield b" "

    began = time.monotonic()
    answer = client.post(MARK, content=trickle(), headers={"content-type": "application/json"})
    assert answer.status_code in (408, 422)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "path",
    [
        f"{BASE}/report/..%2fcampaign.yaml",
        f"{BASE}/report/%2fetc%2fpasswd",
        f"{BASE}/rounds/..%2f..%2fcampaign.yaml/sheet",
        "/api/campaigns/..%2fdemo",
        "/api/campaigns/demo%00",
    ],
)
def test_no_name_leads_out_of_a_campaign(client: TestClient, path: str):
    answer = client.get(path)
    assert answer.status_code in (400, 404, 422)
    assert "space:" not in answer.text
