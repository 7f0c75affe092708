"""The application: the API, the page that calls it, and the guard in front of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from campaigns.server import drawings
from campaigns.server.api import Unchanged, error_response, router
from campaigns.server.desk import Desk
from campaigns.server.guard import LOOPBACK, Guard
from campaigns.server.jobs import Jobs
from drxnet.errors import DRXError, ImpossibleValue, UsageError

ASSETS = Path(__file__).parent / "assets"


def create_app(
    folders: Sequence[str | Path],
    *,
    read_only: bool = False,
    hosts: frozenset[str] = LOOPBACK,
    token: str | None = None,
) -> Guard:
    """Build the application for some campaigns.

    Args:
        folders: campaign folders, YAMLs or names.
        read_only: refuse every write, for a screen on the wall.
        hosts: names that a request may ask for.
        token: that every request has to carry.

    Raises:
        DRXError: a campaign cannot be opened.
    """
    desk, jobs = Desk(folders, read_only=read_only), Jobs()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()
        desk.close()

    app = FastAPI(
        title="drx-screen",
        version=metadata.version("drx-screen"),
        description="Propose, ingest and rank disordered-rocksalt cathodes with a laboratory.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk, app.state.jobs = desk, jobs
    app.include_router(router)
    app.include_router(drawings.router)
    app.add_exception_handler(DRXError, lambda _, error: error_response(error))
    app.add_exception_handler(Unchanged, _not_modified)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _not_understood)  # type: ignore[arg-type]
    app.add_exception_handler(ImpossibleValue, lambda _, error: error_response(error))
    app.add_exception_handler(HTTPException, _no_such_route)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _defect)
    app.add_api_route("/assets/plotly.js", drawings.script, include_in_schema=False)
    app.mount("/assets", StaticFiles(directory=ASSETS), name="assets")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(ASSETS / "index.html", headers={"Cache-Control": "no-cache"})

    return Guard(app, hosts=hosts, token=token)


def _not_modified(_: Request, unchanged: Unchanged) -> Response:
    return Response(status_code=304, headers={"ETag": unchanged.tag})


def _no_such_route(request: Request, error: HTTPException) -> JSONResponse:
    """Say what was asked for and is not here."""
    sentence = f"{request.method} {request.url.path}: {error.detail}. What there is: /openapi.json."
    content = {"error": sentence, "exit_code": 2, "kind": UsageError.__name__}
    return JSONResponse(content, error.status_code, headers=error.headers)


def _defect(_: Request, error: Exception) -> JSONResponse:
    """Say that this is no fault of the request; the server's own output has the traceback."""
    sentence = f"{type(error).__name__}: {error}. This is a defect of drx-screen; the server's terminal says more."
    return JSONResponse({"error": sentence, "exit_code": 1, "kind": type(error).__name__}, 500)


def _not_understood(_: Request, error: RequestValidationError) -> JSONResponse:
    """Say in a sentence what a request must hold."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    sentence = f"{where or 'The request'}: {first['msg']}."
    return JSONResponse({"error": sentence, "exit_code": 2, "kind": UsageError.__name__}, 422)
