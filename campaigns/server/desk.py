"""The campaigns that a server has before it: read from a cache that the ledger renews, written by the usual verbs."""

from __future__ import annotations

import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from campaigns.campaign import Campaign
from campaigns.errors import ReadOnly, Stale, Unknown
from campaigns.ledger.records import Event, Measurement, Snapshot, fingerprint
from campaigns.loop.outcomes import Outcome, outcomes_of
from campaigns.spec import FILE_NAME
from campaigns.workspace import Workspace
from drxnet.errors import DRXError, UsageError
from screening.goals import Goals

T = TypeVar("T")


class Done(DRXError):
    """A request with this key was carried out before; nothing was written again."""

    exit_code = 0

    def __init__(self, event: Event) -> None:
        super().__init__(f"Done before, as entry {event.number} of the log: {event.summary}")
        self.event = event
        self.answer: Mapping[str, Any] = {}
        """What was answered then, where it is known."""


@dataclass(frozen=True)
class Seen:
    """A campaign at one entry of its log, with what was worked out from it since."""

    state: Snapshot
    last_event: int
    goals: Goals
    earlier: Sequence[Outcome] = ()
    """Outcomes at an earlier entry."""

    _kept: dict[Any, Any] = field(default_factory=dict)
    _locks: dict[Any, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @cached_property
    def measured(self) -> Mapping[str, Sequence[Measurement]]:
        """Measurements of each proposal."""
        found: dict[str, list[Measurement]] = defaultdict(list)
        for m in self.state.measurements:
            found[m.proposal_id].append(m)
        return found

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What came back for each proposal, worked out again where something was said of it since."""
        return outcomes_of(self.state, self.goals, self.earlier)

    def version(self, proposal_id: str) -> str:
        """Version of a proposal, see :func:`version_of`."""
        return version_of(self.state, proposal_id, self.measured.get(proposal_id, ()))

    def history(self, proposal_id: str) -> list[Event]:
        """Entries of the log that made, measured or speak of a proposal or of a measurement of it."""
        mine, round_of = self.measured.get(proposal_id, ()), self.state.proposal(proposal_id).round
        numbers = {n for m in mine for n in (m.event, m.withdrawn_event)}
        numbers |= {r.event for r in self.state.rounds if r.number == round_of}
        names = [proposal_id, *(m.measurement_id for m in mine)]
        word = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")
        told = zip(self.state.events, self._texts, strict=True)
        return [e for e, text in told if e.number in numbers or word.search(text)]

    @cached_property
    def _texts(self) -> Sequence[str]:
        return [f"{e.summary} {e.details}" for e in self.state.events]

    def kept(self, key: Any, make: Callable[[], T]) -> T:
        """What was made before for this key, or made now; who asks meanwhile waits for it."""
        with self._locks[key]:
            if key not in self._kept:
                self._kept[key] = make()
        found: T = self._kept[key]
        return found


def version_of(state: Snapshot, proposal_id: str, measurements: Sequence[Measurement] | None = None) -> str:
    """Sixteen digits that change with everything that a page shows of a proposal.

    Args:
        state: of the campaign.
        proposal_id: of the proposal.
        measurements: those of the proposal; looked for when not given.
    """
    proposal = state.proposal(proposal_id)
    name = proposal.proposal_id
    mine = [m for m in state.measurements if m.proposal_id == name] if measurements is None else measurements
    measured = [(m.measurement_id, m.status, m.verdict.event if m.verdict else None) for m in mine]
    phases, analysed = state.phases.get(name), state.analysed.get(name)
    return fingerprint([proposal.state, proposal.reason, measured, phases.event if phases else None, analysed])


KEPT = 1000
"""Answers that are remembered for requests that are sent again under their key."""


@dataclass(frozen=True)
class Write:
    """How a request wants to write."""

    verb: str
    who: str
    key: str | None = None
    """Of idempotency: the same key is carried out once."""

    seen: Mapping[str, str] | None = None
    """Versions of the proposals that the page showed, by id."""

    @property
    def command(self) -> str:
        """What the log says was run."""
        return f"serve {self.verb}" + (f" key={self.key}" if self.key else "")

    def check(self, before: Snapshot) -> None:
        """Refuse what was carried out before or rests on something that has changed.

        Raises:
            Done: this key was carried out before.
            UsageError: this key stands for another verb.
            Stale: a proposal changed since.
        """
        if self.key is not None:
            self._check_key(before)
        for proposal_id, version in (self.seen or {}).items():
            if version_of(before, proposal_id) != version:
                now = before.proposal(proposal_id)
                raise Stale(
                    f"{proposal_id} has changed since this page showed it: it is {now.state} now"
                    f"{f' ({now.reason})' if now.reason else ''}. Nothing was written; look again, then repeat."
                )

    def _check_key(self, before: Snapshot) -> None:
        for event in reversed(before.events):
            if not event.command.endswith(f" key={self.key}"):
                continue
            if event.command != self.command:
                raise UsageError(
                    f"The key {self.key!r} stands for entry {event.number} of the log already ({event.verb}). A key is "
                    "for one request and its repetitions; take a new one."
                )
            done = Done(event)
            ids = [m.measurement_id for m in before.measurements if m.event == event.number]
            done.answer = {"measurements": ids} if ids else {}
            raise done


class Desk:
    """Opened campaigns by name."""

    def __init__(self, folders: Sequence[str | Path], *, read_only: bool = False) -> None:
        """Open campaigns for reading.

        Args:
            folders: campaign folders, YAMLs or names; one that has not begun is begun, unless `read_only`.
            read_only: whether every write is refused.

        Raises:
            DRXError: one of them cannot be opened, or two have the same name.
        """
        self.read_only = read_only
        self._born = uuid.uuid4().hex[:8]
        self._open: dict[str, Workspace] = {}
        self._seen: dict[str, Seen] = {}
        self._stamps: dict[str, int] = {}
        self._answers: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._lock = threading.RLock()
        self._reading: dict[str, threading.Lock] = defaultdict(threading.Lock)
        for source in folders:
            if not read_only:
                Campaign(source, command="serve").close()
            opened = Workspace(source, command="serve", read_only=True)
            if opened.name in self._open:
                opened.close()
                self.close()
                raise UsageError(f"Two campaigns are named {opened.name}. Serve them by two servers, on two ports.")
            self._open[opened.name] = opened
            self._stamps[opened.name] = _stamp(opened.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(self._open)

    def campaign(self, name: str) -> Workspace:
        """A campaign for reading; its YAML is read again when it was edited.

        Raises:
            UsageError: none of that name is served.
        """
        with self._lock:
            if name not in self._open:
                raise Unknown(f"No campaign {name!r} here. Served: {', '.join(self._open)}.")
            here = self._open[name]
            if (stamp := _stamp(here.folder)) != self._stamps[name]:
                self._open[name] = Workspace(here.folder, command="serve", read_only=True)
                self._stamps[name] = stamp
                self._seen.pop(name, None)
                here.close()
            return self._open[name]

    def tag(self, name: str) -> str:
        """Words that change with everything that is shown of a campaign: its ledger, its YAML, this server."""
        campaign = self.campaign(name)
        return f'W/"{self._born}-{self._stamps[name]}-{campaign.ledger.last_event()}"'

    def seen(self, name: str) -> Seen:
        """Everything that a campaign knows; read from the ledger only when it has grown."""
        campaign = self.campaign(name)
        last = campaign.ledger.last_event()
        with self._reading[name]:  # who asks meanwhile waits for the one reading
            known = self._seen.get(name)
            if known is None or known.last_event != last:
                state, earlier = campaign.state(), known.outcomes if known is not None else ()
                known = Seen(state, state.events[-1].number, campaign.spec.goals, earlier)
                self._seen[name] = known
        return known

    def state(self, name: str) -> Snapshot:
        """Everything that a campaign knows."""
        return self.seen(name).state

    @contextmanager
    def writing(self, name: str, how: Write) -> Iterator[Campaign]:
        """A campaign to call one verb on; who asks, the key and what the page had seen go with it into the ledger.

        Raises:
            ReadOnly: this server only shows.
            Stale: a page showed something else.
            Done: the key was carried out before.
        """
        if self.read_only:
            raise ReadOnly("This server only shows (--read-only); nothing was written.")
        served = self.campaign(name)
        with Campaign(served.folder, command=how.command) as campaign:
            campaign.ledger.known = served.ledger.known
            campaign.ledger.who = how.who
            campaign.ledger.expects = how.check
            try:
                yield campaign
            except Done as done:
                done.answer = self._answers.get((name, how.key or ""), done.answer)
                raise

    def keep(self, name: str, how: Write, answer: Mapping[str, Any]) -> None:
        """Remember what was answered, for a request that is sent again because its answer was lost."""
        if how.key is None:
            return
        with self._lock:
            self._answers[name, how.key] = answer
            if len(self._answers) > KEPT:
                del self._answers[next(iter(self._answers))]

    def close(self) -> None:
        """Give back the connections."""
        for campaign in self._open.values():
            campaign.close()


def _stamp(folder: Path) -> int:
    return (folder / FILE_NAME).stat().st_mtime_ns
