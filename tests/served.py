"""A live server on loopback, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
