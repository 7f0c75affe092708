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
from dataclasses import asdict, dataclass, field
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
    state: JobState
    done: int
    total: int
    elapsed_s: float
    remaining_s: float | None
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
    job_id: str
    task: Task
    process: subprocess.Popen[str]
    begun: float = field(default_factory=time.monotonic)
    state: JobState = "running"
    done: int = 0
    total: int = 0
    result: Any = None
    error: str = ""
    exit_code: int | None = None
    kind: str = ""
    ended: float | None = None

    def report(self) -> Report:
        elapsed = (self.ended or time.monotonic()) - self.begun
        known = self.state == "running" and 0 < self.done < self.total
        remaining = elapsed / self.done * (self.total - self.done) if known else None
        return Report(
            job_id=self.job_id,
            campaign=self.task.campaign,
            verb=self.task.verb,
            who=self.task.who,
            state=self.state,
            done=self.done,
            total=self.total,
            elapsed_s=round(elapsed, 1),
            remaining_s=None if remaining is None else round(remaining, 1),
            result=self.result,
            error=self.error,
            exit_code=self.exit_code,
            kind=self.kind,
        )


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
            running = [j for j in mine if j.state == "running"]
            if running:
                raise Busy(
                    f"{running[0].task.verb} of {task.campaign} is running (job {running[0].job_id}, started by "
                    f"{running[0].task.who}). Wait for it, or cancel it."
                )
            number = 1 + max((int(name[1:]) for name in self._jobs), default=0)
            command = [sys.executable, "-m", "campaigns.server.worker"]
            process = _start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            job = _Job(f"J{number:04d}", task, process)
            self._jobs[job.job_id] = job
            ended = [name for name, j in self._jobs.items() if j.state != "running"]
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
            if job.state != "running":
                return job.report()
            job.state, job.ended = "cancelled", time.monotonic()
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
            if job.state != "running":
                return
            job.ended = time.monotonic()
            if "result" in told:
                job.state, job.result = "done", told["result"]
            else:
                job.state = "failed"
                job.error = told.get("error", f"The process ended without an answer (code {job.process.returncode}).")
                job.exit_code, job.kind = told.get("exit_code"), told.get("kind", "")

    def _read(self, job: _Job, lines: IO[str]) -> dict[str, Any]:
        """Follow what a process says; its last word."""
        for line in lines:
            said = json.loads(line)
            if "progress" not in said:
                return dict(said)
            with self._lock:
                job.done, job.total = said["progress"]
        return {}


def as_json(report: Report) -> dict[str, Any]:
    """Plain values of a report."""
    return asdict(report)


def kind_of(error: DRXError) -> str:
    """Name of the nearest class that its sentence alone makes, for whoever raises it again elsewhere."""
    return next(kind.__name__ for kind in type(error).__mro__ if "__init__" not in vars(kind))
