"""Live servers on loopback, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import uvicorn

from campaigns.server.app import create_app


@contextmanager
def served(*folders: str | Path, **options: object) -> Iterator[str]:
    """Address of a server of some campaigns; options as of `create_app`."""
    app = create_app(folders, **options)  # type: ignore[arg-type]
    settings = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1)
    with settings.bind_socket() as listening:
        listening.listen()
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def folder_over_http(folder: Path) -> Iterator[str]:
    """Address of the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/"
        finally:
            httpd.shutdown()
            thread.join()
