"""How a program talks with `drx-screen serve`: requests that are repeated safely, errors raised again, jobs awaited."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import campaigns.errors as _campaigns
import screening.errors as _screening
from drxnet.errors import DataRefused, DRXError, MissingExtra, UsageError
from drxnet.progress import Progress

if TYPE_CHECKING:
    import httpx2

TOKEN_VARIABLE = "DRX_SCREEN_TOKEN"
WAITS_S = (0.2, 1.0, 3.0)
"""Before a request is sent again whose answer did not come."""

ANSWER_S = 600.0
"""Longest wait for an answer: a year of a cycler is read and judged meanwhile."""

POLL_S = (0.05, 1.0)
"""First and longest wait between two looks at a job."""


def is_address(source: object) -> bool:
    """Whether a campaign is named by the address of a server."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


class Connection:
    """Requests to one campaign of one server."""

    def __init__(self, address: str, *, who: str, token: str | None = None) -> None:
        """Find the campaign at an address.

        Args:
            address: such as ``http://host:8000/he-rate``; ``?token=`` as `drx-screen serve` prints it is understood.
            who: what the log says who did it.
            token: that the server asks for; by default the address's, else ``$DRX_SCREEN_TOKEN``.

        Raises:
            UsageError: the address names no campaign of the server, or no server answers.
        """
        httpx = _httpx()
        parts = urlsplit(address)
        self.server = f"{parts.scheme}://{parts.netloc}"
        self.name = unquote(parts.path.strip("/"))
        token = token or parse_qs(parts.query).get("token", [""])[0] or os.environ.get(TOKEN_VARIABLE)
        headers = {"X-Who": quote(who)} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(base_url=self.server, headers=headers, timeout=httpx.Timeout(10.0, read=ANSWER_S))
        try:
            self._check_name()
        except BaseException:
            self.close()
            raise

    def _check_name(self) -> None:
        served = [c["campaign"] for c in self.ask("/api/campaigns")]
        if self.name not in served:
            missing = f"No campaign {self.name!r} at {self.server}" if self.name else "The address names no campaign"
            raise _campaigns.Unknown(f"{missing}. Give one that it serves: {self.server}/{served[0]}, of {served}.")

    @property
    def address(self) -> str:
        """Of the campaign."""
        return f"{self.server}/{quote(self.name)}"

    # -- asking ------------------------------------------------------------------------------------------

    def get(self, path: str = "", **parameters: Any) -> Any:
        """What the campaign says at a path below its own; parameters that are None are left out."""
        return self.ask(f"{self._base}{path}", parameters)

    def ask(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """What the server says at a path."""
        return self._answer("GET", path, params=_given(parameters or {})).json()

    def fetch(self, path: str, **parameters: Any) -> tuple[bytes, Mapping[str, str]]:
        """Content and headers of a file of the campaign."""
        answer = self._answer("GET", f"{self._base}{path}", params=_given(parameters))
        return answer.content, answer.headers

    def send(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write; sent again under the same key where no answer comes, so that it is carried out once."""
        return dict(self._answer("POST", f"{self._base}{path}", json=content, headers=_key()).json())

    def upload(self, path: str, files: Sequence[tuple[str, Path]], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Hand in files, each under the name of its field, like :meth:`send`."""
        form = {k: str(v) for k, v in _given(fields).items()}
        return dict(self._answer("POST", f"{self._base}{path}", files=files, data=form, headers=_key()).json())

    @property
    def _base(self) -> str:
        return f"/api/campaigns/{quote(self.name, safe='')}"

    def _answer(
        self, method: str, path: str, *, files: Sequence[tuple[str, Path]] = (), **more: Any
    ) -> httpx2.Response:
        for wait in (*WAITS_S, None):
            try:
                with _opened(files) as parts:
                    answer = self._http.request(method, path, **more, **({"files": parts} if parts else {}))
            except _httpx().TransportError as error:
                if wait is None:
                    raise _campaigns.Unreachable(
                        f"No server answers at {self.server} ({type(error).__name__}: {error}). Start one there: "
                        f"drx-screen serve -C {self.name or 'NAME'}"
                    ) from None
                time.sleep(wait)
                continue
            _raise_error(answer)
            return answer
        raise AssertionError("the last attempt answers or raises")

    # -- jobs --------------------------------------------------------------------------------------------

    def job(self, verb: str, options: Mapping[str, Any], progress: Progress) -> Any:
        """Have long work done, after what runs there already, and give back its result.

        An interruption here (Ctrl-C) ends the work there.

        Raises:
            DRXError: the work ended in that error.
        """
        order = {"verb": verb, "options": _given(options)}
        report = self._begun(order)
        job_id = report["job_id"]
        try:
            report = self._awaited(job_id, progress)
        except KeyboardInterrupt:
            self._answer("DELETE", f"/api/jobs/{job_id}")
            raise
        if report["state"] == "cancelled":
            raise UsageError(f"{verb} of {self.name} was cancelled at the server (job {job_id}). Start it again.")
        if report["state"] == "failed":
            raise error_of(report)
        return report["result"]

    def _begun(self, order: Mapping[str, Any]) -> dict[str, Any]:
        while True:
            try:
                return self.send("/jobs", order)
            except _campaigns.Busy:
                for running in self.ask("/api/jobs", {"campaign": self.name}):
                    if running["state"] == "running":
                        self._awaited(running["job_id"], lambda done, total: None)

    def _awaited(self, job_id: str, progress: Progress) -> dict[str, Any]:
        wait, longest = POLL_S
        told = (0, 0)
        while True:
            report: dict[str, Any] = self.ask(f"/api/jobs/{job_id}")
            now = report["done"], report["total"]
            if now != told and now[1]:
                progress(*now)
                told = now
            if report["state"] != "running":
                return report
            time.sleep(wait)
            wait = min(2 * wait, longest)

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()


def error_of(said: Mapping[str, Any]) -> Exception:
    """The exception that a server's answer stands for: the same class with the same sentence.

    Args:
        said: ``error``, ``kind`` and ``exit_code``.
    """
    sentence, code = said.get("error", ""), int(said.get("exit_code") or UsageError.exit_code)
    if code == 1:
        return RuntimeError(sentence)
    by_code = {3: DataRefused, 4: _screening.NothingToPropose, 5: _campaigns.LedgerError}
    return _kinds(DRXError).get(said.get("kind", ""), by_code.get(code, UsageError))(sentence)


def _kinds(base: type[DRXError]) -> dict[str, type[DRXError]]:
    """Every class of error that a sentence alone makes, by name."""
    found = {base.__name__: base} if "__init__" not in vars(base) else {}
    for kind in base.__subclasses__():
        found |= _kinds(kind)
    return found


def _raise_error(answer: httpx2.Response) -> None:
    if answer.status_code < 400:
        return
    try:
        said = answer.json()
    except ValueError:
        said = {}
    if not isinstance(said, dict) or "error" not in said:
        raise UsageError(f"{answer.url} answered {answer.status_code}, and not as `drx-screen serve` does.")
    raise error_of(said)


def _httpx() -> Any:
    try:
        import httpx2
    except ModuleNotFoundError:
        raise MissingExtra(
            "A campaign at an address needs the extra `client` (httpx2 is not installed): "
            "pip install 'drx-screen[client]'"
        ) from None
    return httpx2


def _key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


@contextmanager
def _opened(files: Sequence[tuple[str, Path]]) -> Iterator[list[tuple[str, tuple[str, Any]]]]:
    """Files to send, from their beginning."""
    with ExitStack() as stack:
        yield [(field, (path.name, stack.enter_context(path.open("rb")))) for field, path in files]
