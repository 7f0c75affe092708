from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drxnet.dataset import read_profiles
from drxnet.errors import DatasetError, UsageError
from drxnet.fetching import DRXTD_DOI, fetch_article, list_article


@pytest.fixture
def figshare(tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes], list[dict[str, object]]]]:
    """A local server that lists and serves an article; the listing may be changed by the test."""
    rows = range(101)
    curve = {"Voltage(V)": [1.5 + 0.033 * i for i in rows], "Capacity(mAh/g)": [250 - 2.5 * i for i in rows]}
    example = json.dumps(
        {
            "composition": {"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2.0},
            "test_current(mA/g)": 20.0,
            "low_voltage(V)": 1.5,
            "high_voltage(V)": 4.8,
            "charge_info": [],
            "discharge_info": [[1, curve]],
        }
    ).encode()
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("cell.json", example)
    files = {"/files/1": (tmp_path / "archive.zip").read_bytes()}
    listing: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps({"files": listing}).encode() if "/articles/" in self.path else files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        md5 = hashlib.md5(files["/files/1"]).hexdigest()
        listing.append({"name": "drx-td.zip", "download_url": f"{url}/files/1", "size": 1, "computed_md5": md5})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url, files, listing
        server.shutdown()
        thread.join()


def test_the_listing_is_of_the_published_version(figshare) -> None:
    url, _, _ = figshare
    (file,) = list_article(api=url)
    assert file.name == "drx-td.zip"
    assert DRXTD_DOI.endswith("25328578.v1")


def test_fetch_checks_and_unpacks(tmp_path: Path, figshare) -> None:
    url, _, _ = figshare
    told: list[tuple[int, int]] = []
    files = fetch_article(tmp_path / "drx-td", api=url, progress=lambda done, total: told.append((done, total)))
    assert [file.name for file in files] == ["drx-td.zip"]
    assert told == [(1, 1)]
    assert len(read_profiles(tmp_path / "drx-td")) == 1


def test_an_intact_file_is_not_downloaded_again(tmp_path: Path, figshare) -> None:
    url, files, _ = figshare
    fetch_article(tmp_path, api=url)
    files["/files/1"] = b"something else"
    assert fetch_article(tmp_path, api=url)[0].is_file()


def test_fetch_refuses_a_damaged_file(tmp_path: Path, figshare) -> None:
    url, files, _ = figshare
    files["/files/1"] = b"something else"
    with pytest.raises(DatasetError, match="has not the MD5"):
        fetch_article(tmp_path / "td", api=url)
    assert not (tmp_path / "td" / "drx-td.zip").exists()


def test_a_missing_server_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="by hand into a folder"):
        fetch_article(tmp_path, api="http://127.0.0.1:9")


def test_an_article_without_checksums_is_refused(figshare) -> None:
    url, _, listing = figshare
    del listing[0]["computed_md5"]
    with pytest.raises(DatasetError, match="with checksums"):
        list_article(api=url)


def test_an_empty_article_is_refused(figshare) -> None:
    url, _, listing = figshare
    listing.clear()
    with pytest.raises(DatasetError, match="holds no files"):
        list_article(api=url)


def test_another_doi_is_refused() -> None:
    with pytest.raises(UsageError, match="A figshare DOI reads"):
        list_article("10.1016/j.joule.2024.03.010")
