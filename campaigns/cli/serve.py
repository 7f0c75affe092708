"""`serve`: a page and an HTTP API for those who weigh powders, mount cells and decide, and for scripts."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import click

from campaigns.cli.console import say
from drxnet.errors import MissingExtra, UsageError


@click.command()
@click.option(
    "--campaign",
    "-C",
    "sources",
    multiple=True,
    metavar="DIR|YAML|NAME",
    help="A campaign to serve; may be given several times. By default every campaign in this folder.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --token.")
@click.option("--read-only", is_flag=True, help="Only show, for a screen on the wall; every write is refused.")
@click.option(
    "--token",
    envvar="DRX_SCREEN_TOKEN",
    help="What every request has to carry, as `Authorization: Bearer` or once as `?token=`; or $DRX_SCREEN_TOKEN.",
)
def serve(sources: Sequence[str], port: int, host: str, read_only: bool, token: str | None) -> None:
    """Open a page for the group, and an API for scripts and robots, until Ctrl-C.

    Marks, files, measurements, proposing, learning and ranking go through the page as through the command line; the
    ledger stays the only state. The API is described at /openapi.json. Needs the extra `server`.

    \b
    Example:
      drx-screen serve -C he-rate
      drx-screen serve -C he-rate -C cheap --port 9000 --read-only
    """
    _check_token(host, token)
    try:
        import uvicorn

        from campaigns.server.app import create_app
        from campaigns.server.guard import LOOPBACK
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"`drx-screen serve` needs the extra `server` ({error.name} is not installed): "
            "pip install 'drx-screen[server]'"
        ) from None
    only = bool(click.get_current_context().find_root().params.get("read_only"))
    hosts = LOOPBACK if host in LOOPBACK else frozenset[str]()
    # what was read stays, by the hundred thousand; to look through it for cycles would take half the time of a write
    gc.set_threshold(50_000, 20, 100)
    app = create_app(sources or campaigns_here(), read_only=read_only or only, hosts=hosts, token=token)
    settings = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    with settings.bind_socket() as listening:
        listening.listen()  # who reads the address may come at once
        number = listening.getsockname()[1]
        place = f"[{host}]" if ":" in host else host
        say(f"http://{place}:{number}/{'?token=' + token if token else ''}  (Ctrl-C ends it)")
        uvicorn.Server(settings).run([listening])


def _check_token(host: str, token: str | None) -> None:
    """Nobody but this machine may reach a server without a token."""
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isalnum()):
        raise UsageError(
            "A token is at least 8 letters and digits. Make one: python -c 'import secrets; "
            "print(secrets.token_hex(16))'"
        )
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            f"On {host} other machines reach this server, so that it asks for a token: give --token or set "
            "DRX_SCREEN_TOKEN. Without one it answers on 127.0.0.1 alone."
        )


def campaigns_here() -> list[str]:
    """Folders of the campaigns in the working directory."""
    from campaigns.spec import FILE_NAME

    found = [str(path.parent) for path in (Path(FILE_NAME), *sorted(Path().glob(f"*/{FILE_NAME}"))) if path.is_file()]
    if not found:
        raise UsageError("No campaign in this folder. Name one with -C: a folder, a YAML or a shipped campaign.")
    return found


COMMANDS: list[click.Command] = [serve]
