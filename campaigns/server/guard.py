"""What reaches the server at all: known hosts, the token, no other site's requests, no oversized or slow bodies.

Plain ASGI, in front of everything else, so that nothing behind it has to think of it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN_COOKIE = "drx_screen_token"
MOST_BODY_BYTES = 64 * 2**20
"""Of an upload; a cycler export of a year has about as much."""

BODY_S = 60.0
"""Longest time that a body may take to arrive."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
)

ALONE = (
    "sandbox allow-scripts allow-popups allow-modals; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Policy of a page that holds all it needs, scripts included, such as the report: it may draw, and reach nothing."""


class Refusal(Exception):
    """A request that goes no further: status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Guard:
    """Lets a request through to an application, or answers it with a refusal."""

    def __init__(self, app: App, *, hosts: frozenset[str] = LOOPBACK, token: str | None = None) -> None:
        """Guard an application.

        Args:
            app: that is guarded.
            hosts: names that a request may ask for; any other is refused, so that no foreign name that resolves to
                this machine reaches it. The empty set allows every name, where a token is asked for.
            token: that a request has to carry, as ``Authorization: Bearer``, cookie or, once, ``?token=``.
        """
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            fresh = self._check(scope, headers)
            bounded = _Bounded(receive, _stated_length(headers))
        except Refusal as refusal:
            await _answer(send, refusal)
            return
        started = False

        async def secured(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if bounded.refused is not None and not started:
                raise bounded.refused  # whatever the application makes of a body that did not come
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", []))
                stated = {name.lower() for name, _ in own}  # a page that stands alone has a policy of its own
                message["headers"] = [*own, *(header for header in HEADERS if header[0] not in stated)]
                if fresh:
                    cookie = f"{TOKEN_COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        try:
            await self.app(scope, bounded, secured)
        except Refusal as refusal:
            if started:
                raise
            await _answer(send, refusal)

    def _check(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Refuse what may not pass; whether the token came in the address and is to be kept as a cookie."""
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if _is_host(host) else ""
        if self.hosts and name not in self.hosts:
            raise Refusal(421, f"This server answers to {', '.join(sorted(self.hosts))}. Got the host {host!r}.")
        if scope["method"] not in SAFE_METHODS:
            _refuse_other_sites(headers, host)
        if self.token is None:
            return False
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not any(_same(candidate, self.token) for candidate in (given, asked, _cookie(headers))):
            raise Refusal(401, "This server asks for its token: open the address that `drx-screen serve` printed.")
        return _same(asked, self.token)


class _Bounded:
    """Receives a body that must end in time and below a size."""

    def __init__(self, receive: Receive, stated: int) -> None:
        if stated > MOST_BODY_BYTES:
            raise Refusal(413, _too_large(stated))
        self._receive, self._got, self._until = receive, 0, time.monotonic() + BODY_S
        self._whole = False
        self.refused: Refusal | None = None
        """Why it will not end well; the application may take it for something else."""

    async def __call__(self) -> MutableMapping[str, Any]:
        """Receive the next part."""
        try:
            return await self._next()
        except Refusal as refusal:
            self.refused = refusal
            raise

    async def _next(self) -> MutableMapping[str, Any]:
        if self._whole:  # what follows the body is the end of the connection, which may take as long as it likes
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._until - time.monotonic())
        except TimeoutError:
            raise Refusal(408, f"The request did not arrive within {BODY_S:g} s. Send it again.") from None
        self._got += len(message.get("body", b""))
        if self._got > MOST_BODY_BYTES:
            raise Refusal(413, _too_large(self._got))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _refuse_other_sites(headers: dict[str, str], host: str) -> None:
    """Refuse a write that another site's page sends with the reader's browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "Only this server's own page may write from a browser. The request came from another site.")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Refusal(403, f"Only this server's own page may write from a browser. The request came from {origin}.")


def _is_host(text: str) -> bool:
    return bool(text) and not any(c in text for c in "/@\\ ?#")


def _stated_length(headers: dict[str, str]) -> int:
    stated = headers.get("content-length", "0")
    if not stated.isdigit() or len(stated) > 18:
        raise Refusal(400, f"Content-Length must be a whole number of bytes. Got {stated!r}.")
    return int(stated)


def _too_large(size: int) -> str:
    return f"A request may hold {MOST_BODY_BYTES / 2**20:.0f} MiB. Got {size / 2**20:.0f} MiB or more."


def _cookie(headers: dict[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(TOKEN_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"error": refusal.sentence, "exit_code": 2, "kind": "UsageError"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send(
        {"type": "http.response.start", "status": refusal.status, "headers": [*headers, (b"connection", b"close")]}
    )
    await send({"type": "http.response.body", "body": body})
