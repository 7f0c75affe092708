"""Long work in a process of its own: propose, fine-tune, report. The ledger stays the only state.

A job may be watched by any number of pages, is cancelled by ending its process (which loses nothing, as a killed
command does not), and is forgotten with the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from campaigns.errors import Busy, Unknown
from drxnet.errors import DRXError, UsageError

Verb = Literal["propose", "finetune", "report", "rank"]
VERBS: tuple[Verb, ...] = ("propose", "finetune", "report", "rank")
JobState = Literal["running", "done", "failed", "cancelled"]

KEPT = 50
"""Ended jobs that are remembered."""

_GRACE_S = 5.0
_start = subprocess.Popen


@dataclass(frozen=True)
class Report:
    """Where a job stands, as a page shows it."""

    job_id: str
    campaign: str
    verb: Verb
    who: str
    state: JobState = "running"
    done: int = 0
    total: int = 0
    elapsed_s: float = 0.0
    remaining_s: float | None = None
    """Estimate from the pace so far; None before there is one."""

    result: Any = None
    error: str = ""
    exit_code: int | None = None
    kind: str = ""
    """Name of the error's class."""


@dataclass(frozen=True)
class Task:
    """What a job is to do."""

    campaign: str
    folder: Path
    verb: Verb
    options: Mapping[str, Any]
    """Of the verb."""

    who: str
    key: str | None = None
    """Of idempotency: a second request under it is told of the first one's job."""

    read_only: bool = False


@dataclass
class _Job:
    task: Task
    process: subprocess.Popen[str]
    known: Report
    """All but its times, which are those of the moment when somebody asks."""

    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def running(self) -> bool:
        return self.known.state == "running"

    def report(self) -> Report:
        elapsed, done, total = (self.ended or time.monotonic()) - self.begun, self.known.done, self.known.total
        remaining = round(elapsed / done * (total - done), 1) if self.running and 0 < done < total else None
        return replace(self.known, elapsed_s=round(elapsed, 1), remaining_s=remaining)

    def end(self, state: JobState, **known: Any) -> None:
        self.known, self.ended = replace(self.known, state=state, **known), time.monotonic()


class Jobs:
    """All jobs of a server; one at a time per campaign."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def start(self, task: Task) -> Report:
        """Start a job.

        Raises:
            UsageError: unknown verb.
            Busy: another job of this campaign runs.
        """
        if task.verb not in VERBS:
            raise UsageError(f"A job is one of {', '.join(VERBS)}. Got {task.verb!r}.")
        with self._lock:
            mine = [j for j in self._jobs.values() if j.task.campaign == task.campaign]
            for job in mine:
                if task.key is not None and job.task.key == task.key:
                    return job.report()
            if (busy := next((j.known for j in mine if j.running), None)) is not None:
                raise Busy(
                    f"{busy.verb} of {task.campaign} is running (job {busy.job_id}, started by {busy.who}). Wait for "
                    "it, or cancel it."
                )
            number = 1 + max((int(name[1:]) for name in self._jobs), default=0)
            command = [sys.executable, "-m", "campaigns.server.worker"]
            process = _start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            job = _Job(task, process, Report(f"J{number:04d}", task.campaign, task.verb, task.who))
            self._jobs[job.known.job_id] = job
            ended = [name for name, j in self._jobs.items() if not j.running]
            for name in ended[:-KEPT]:
                del self._jobs[name]
        threading.Thread(target=self._follow, args=(job,), daemon=True).start()
        return job.report()

    def reports(self, campaign: str | None = None) -> list[Report]:
        """All jobs, the latest first."""
        with self._lock:
            found = [j.report() for j in self._jobs.values() if campaign in (None, j.task.campaign)]
        return found[::-1]

    def report(self, job_id: str) -> Report:
        """One job.

        Raises:
            Unknown: there is none.
        """
        return self._job(job_id).report()

    def cancel(self, job_id: str) -> Report:
        """End a job; what it had recorded stays.

        Raises:
            Unknown: there is none.
        """
        job = self._job(job_id)
        with self._lock:
            if not job.running:
                return job.report()
            job.end("cancelled")
        job.process.terminate()
        late = threading.Timer(_GRACE_S, job.process.kill)
        late.daemon = True
        late.start()
        return job.report()

    def close(self) -> None:
        """End what runs."""
        for report in self.reports():
            if report.state == "running":
                self.cancel(report.job_id)
        for job in list(self._jobs.values()):
            job.process.wait()

    def _job(self, job_id: str) -> _Job:
        with self._lock:
            if job_id not in self._jobs:
                raise Unknown(f"No job {job_id!r}; jobs end with the server that started them.")
            return self._jobs[job_id]

    def _follow(self, job: _Job) -> None:
        assert job.process.stdin is not None
        assert job.process.stdout is not None
        try:
            job.process.stdin.write(json.dumps(asdict(job.task), default=str))
            job.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it read; that is told below
        told = self._read(job, job.process.stdout)
        job.process.stdout.close()
        job.process.wait()
        with self._lock:
            if not job.running:
                return
            if "result" in told:
                job.end("done", result=told["result"])
            else:
                unsaid = f"The process ended without an answer (code {job.process.returncode})."
                job.end("failed", **{"error": unsaid, **told})

    def _read(self, job: _Job, lines: IO[str]) -> dict[str, Any]:
        """Follow what a process says; its last word."""
        for line in lines:
            said = json.loads(line)
            if "progress" not in said:
                return dict(said)
            with self._lock:
                job.known = replace(job.known, done=said["progress"][0], total=said["progress"][1])
        return {}


def kind_of(error: DRXError) -> str:
    """Name of the nearest class that its sentence alone makes, for whoever raises it again elsewhere."""
    return next(kind.__name__ for kind in type(error).__mro__ if "__init__" not in vars(kind))
