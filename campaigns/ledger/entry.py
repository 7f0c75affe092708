"""A transaction that is being written: what may be recorded, and what may become of what was."""

from __future__ import annotations

import getpass
import math
import platform
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata as installed
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from campaigns.ledger import chain, tables
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import (
    DOUBTFUL,
    NEXT_STATES,
    NewMeasurement,
    NewModel,
    NewProposal,
    PredictedProfile,
    Prediction,
    Snapshot,
    State,
)
from drxnet.checkpoint import ModelFiles
from drxnet.errors import ConfigurationError, UsageError
from drxnet.process import Process
from drxnet.text import storable

_CONDITIONS = ("current_ma_g", "v_low", "v_high", "cycle")
_TOLD = ("composition", "capacity_mah_g", "sigma_mah_g", "provenance", "flags")
_FROM_ITS_FILE = ("charge_mah", "file_cycle", "elapsed_s", "charge_top_v")
_MODEL = ("model_id", "path", "parent", "data_fingerprint", "measurement_ids", "accepted", "metrics")
MEASURED = ("voltage_v", "capacity_mah_g")
PREDICTED = ("voltage_v", "capacity_mah_g_mean", "capacity_mah_g_std")
"""Arrays of a profile that was measured, or predicted."""

_PACKAGES = ("drx-screen", "torch", "botorch", "ray", "numpy", "SQLAlchemy")


class Entry:
    """A transaction that is being written; see :meth:`campaigns.ledger.ledger.Ledger.write`."""

    def __init__(self, connection: Connection, before: Snapshot) -> None:
        self.before = before
        """The ledger as it was when the transaction began; no other process can change it until it ends."""

        self.number = before.events[-1].number + 1 if before.events else 1
        self.changed = False
        self.summary = ""
        """One sentence for the event log."""

        self.details: dict[str, Any] = {}
        self._connection = connection
        self._states = {p.proposal_id: (p.state, p.reason) for p in before.proposals}
        self._cells = {(c.proposal_id, c.label): c.cell_id for c in before.cells}
        self._owner = {m.measurement_id: m.proposal_id for m in before.standing}
        self._doubted = {m.measurement_id for m in before.doubtful}
        self._rows: dict[str, int] = {}
        self._retracted = {m.measurement_id for m in before.measurements if m.status == "retracted"}
        self._lab = sum(p.origin == "lab" for p in before.proposals)

    def add_round(
        self,
        proposals: Sequence[NewProposal | tuple[str, Prediction, Sequence[PredictedProfile]]],
        *,
        model_id: str,
        seed: int,
        strategy: str,
        spec: Mapping[str, Any],
        spec_hash: str,
        statistics: Mapping[str, Any],
    ) -> int:
        """Record a batch of compositions as the next round, and give back its number.

        Each has its prediction, its predicted profiles, and, where that was chosen, how it is to be made.
        """
        number = self.before.round + 1
        self._insert(
            tables.rounds,
            number=number,
            at=_now(),
            model_id=model_id,
            seed=seed,
            strategy=strategy,
            spec=spec,
            spec_hash=spec_hash,
            statistics=statistics,
            versions=_versions(),
        )
        for position, proposal in enumerate(proposals, start=1):
            composition, prediction, profiles, process = NewProposal(*proposal)
            name = f"R{number:02d}-{position:02d}"
            row = {"position": position, "composition": composition, "prediction": asdict(prediction)}
            self._insert(tables.proposals, proposal_id=name, round=number, origin="proposed", **row)
            self.set_state(name, State.PROPOSED, "")
            self._state_process(process, proposal_id=name)
            for place, profile in enumerate(profiles):
                self._connection.execute(
                    insert(tables.predicted_profiles).values(
                        proposal_id=name,
                        position=place,
                        **_columns(profile.conditions, _CONDITIONS),
                        **_blobs(profile, PREDICTED),
                    )
                )
        return number

    def add_lab_composition(self, composition: str) -> str:
        """Record a composition that the lab measured without being asked, and give back its id."""
        self._lab += 1
        name = f"LAB-{self._lab:02d}"
        row = {"position": self._lab, "composition": composition, "prediction": None}
        self._insert(tables.proposals, proposal_id=name, round=None, origin="lab", **row)
        self.set_state(name, State.ACCEPTED, "made by the lab unasked")
        return name

    def set_state(self, proposal_id: str, state: State, reason: str) -> bool:
        """Move a proposal to another state; where it is there already, only another reason is recorded.

        Returns:
            Whether anything changed.

        Raises:
            UsageError: no such change is possible.
        """
        now, known = self._states.get(proposal_id, (None, ""))
        if now is state and reason in ("", known):
            return False
        if now is State.MEASURED and state is not now and self._counts(proposal_id):
            raise UsageError(
                f"{proposal_id} is measured and cannot become {state}. Where its measurements must not count, retract "
                f"them first: drx-screen retract {proposal_id} --reason TEXT."
            )
        if now is not None and now is not state and state not in NEXT_STATES[now]:
            possible = ", ".join(NEXT_STATES[now]) or "nothing"
            raise UsageError(f"{proposal_id} is {now} and cannot become {state}; it can become {possible}.")
        self._states[proposal_id] = state, reason
        self._add(tables.proposal_states, proposal_id=proposal_id, state=str(state), reason=reason)
        return True

    def add_file(self, sha256: str, name: str, form: str, status: str, rules: Sequence[Mapping[str, str]]) -> None:
        """Record a file that measurements come from."""
        self._insert(tables.files, sha256=sha256, name=name, format=form, status=status, rules=list(rules))

    def add_measurement(
        self,
        proposal_id: str,
        cell: str,
        measurement: NewMeasurement,
        sha256: str | None,
        *,
        doubt: tuple[str, str] | None = None,
    ) -> str:
        """Record a discharge of a cell, move its proposal to measured, and give back the measurement's id.

        Args:
            proposal_id: that the cell was made for.
            cell: its label.
            measurement: what was measured.
            sha256: of the file that it comes from.
            doubt: rule and mistake that would explain it; the proposal then goes on waiting.

        Raises:
            MeasurementError: no cell can give such a discharge.
        """
        check_physics(measurement)
        key = (proposal_id, storable(cell))
        if key not in self._cells:
            self._cells[key] = len(self._cells) + 1
            self._insert(tables.cells, cell_id=self._cells[key], proposal_id=proposal_id, label=key[1])
        profile = measurement.profile
        number = self._add(
            tables.measurements,
            cell_id=self._cells[key],
            sha256=sha256,
            **_columns(measurement.conditions, _CONDITIONS),
            average_voltage_v=profile.average_voltage_v() if profile else None,
            specific_energy_wh_kg=profile.specific_energy_wh_kg() if profile else None,
            withdrawn_reason="",
            **_columns(measurement, (*_TOLD, *_FROM_ITS_FILE)),
        )
        self._state_process(measurement.conditions.process, measurement=number)
        if profile is not None:
            blobs = _blobs(profile, MEASURED)
            self._connection.execute(insert(tables.profiles).values(number=number, **blobs))
        name = f"M{number:04d}"
        self._owner[name] = proposal_id
        if doubt is None:
            self.set_state(proposal_id, State.MEASURED, "")
        else:
            self.judge(name, DOUBTFUL, *doubt)
        return name

    def _state_process(self, process: Process, **owner: int | str) -> None:
        if process:
            self._add(tables.processes, stated=process.row(), **owner)

    def judge(self, measurement_id: str, verdict: str, rule: str, reason: str) -> None:
        """Record what is thought of a standing measurement, and let its proposal wait or be measured accordingly.

        Args:
            measurement_id: such as ``M0007``.
            verdict: ``doubtful``, ``confirmed`` or ``cleared``.
            rule: that it broke; empty where a person spoke.
            reason: mistake that would explain it, or why it is right.

        Raises:
            UsageError: unknown or withdrawn.
        """
        name = measurement_id.upper()
        if name not in self._owner:
            self._refuse_unknown(measurement_id)
        self._add(tables.verdicts, measurement=measurement_number(name), verdict=verdict, rule=rule, reason=reason)
        if verdict == DOUBTFUL:
            self._doubted.add(name)
            self._wait(self._owner[name], f"{name} is doubtful: {reason}")
        else:
            self._doubted.discard(name)
            self.set_state(self._owner[name], State.MEASURED, "")

    def withdraw(self, measurement_id: str, reason: str, *, superseded_by: str | None = None) -> None:
        """Stop counting a measurement; it stays in the ledger with the reason.

        A retracted one can still get a successor; the reason of its retraction stays.

        Raises:
            UsageError: unknown, withdrawn already, or no reason given.
        """
        name = measurement_id.upper()
        if not reason.strip():
            raise UsageError(f"A withdrawal needs a reason. Got none for {name}.")
        if superseded_by and name in self._retracted:
            self._retracted.remove(name)
            self._fill(name, superseded_by=measurement_number(superseded_by))
            return
        if name not in self._owner:
            self._refuse_unknown(measurement_id)
        proposal_id = self._owner.pop(name)
        self._doubted.discard(name)
        self._fill(
            name,
            withdrawn_event=self.number,
            withdrawn_reason=reason,
            superseded_by=measurement_number(superseded_by) if superseded_by else None,
        )
        self._wait(proposal_id, f"its last measurement was withdrawn: {reason}")

    def _wait(self, proposal_id: str, reason: str) -> None:
        """Let a proposal wait for its cells where no measurement of it counts."""
        state, _ = self._states[proposal_id]
        if not self._counts(proposal_id) and state in (State.PROPOSED, State.ACCEPTED, State.MEASURED):
            self.set_state(proposal_id, State.ACCEPTED, reason)

    def _counts(self, proposal_id: str) -> bool:
        """Whether a measurement of a proposal counts."""
        return any(owner == proposal_id for name, owner in self._owner.items() if name not in self._doubted)

    def _refuse_unknown(self, measurement_id: str) -> NoReturn:
        name = measurement_id.upper()
        earlier = next((m for m in self.before.measurements if m.measurement_id == name), None)
        if earlier is None:
            raise UsageError(f"No measurement {measurement_id!r} in campaign {self.before.campaign}.")
        raise UsageError(f"{name} was {earlier.status} before: {earlier.withdrawn_reason}.")

    def add_phases(self, proposal_id: str, phases: Mapping[str, float | None], single_phase: bool | None) -> None:
        """Record the phases that were found in what was made of a proposal: share of each (%), where known."""
        self._add(tables.phase_outcomes, proposal_id=proposal_id, phases=dict(phases), single_phase=single_phase)

    def add_analysis(self, proposal_id: str, composition: str) -> None:
        """Record the composition of what was made of a proposal, as measured (canonical formula)."""
        self._add(tables.analyses, proposal_id=proposal_id, composition=composition)

    def add_model(self, model: NewModel) -> int:
        """Record an ensemble that was tried, and give back its number."""
        number = self._add(tables.models, at=_now(), **_columns(model, _MODEL))
        if model.files is not None:
            self.keep_files(model.files)
        return number

    def keep_files(self, files: ModelFiles) -> str:
        """Keep the files of a model, once, and give back its id.

        Raises:
            ConfigurationError: they are too large for a ledger.
        """
        size = max(len(files.weights), len(files.card))
        if size > tables.MODEL_BYTES:
            raise ConfigurationError(
                f"A model of a campaign takes at most {tables.MODEL_BYTES:,} bytes, since it is kept in the ledger. "
                f"Got {size:,}; start with a smaller one."
            )
        table, sha256 = tables.model_files, files.sha256
        model_id = sha256[:12]
        if self._connection.execute(select(table.c.model_id).where(table.c.model_id == model_id)).first() is None:
            self._insert(table, model_id=model_id, weights_sha256=sha256, card=files.card, weights=files.weights)
        return model_id

    def note_refused(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Write refused files (``name``, ``sha256``, ``rules``) to the event log; nothing else is recorded of them."""
        if files:
            self.details["refused"] = list(files)
            self.changed = True

    def _fill(self, measurement_id: str, **columns: Any) -> None:
        """Fill the columns of a measurement that say what became of it."""
        self.changed = True
        number = tables.measurements.c.number
        self._connection.execute(
            update(tables.measurements).where(number == measurement_number(measurement_id)).values(**_storable(columns))
        )

    def _add(self, table: Any, **row: Any) -> int:
        """Add the next row of a table whose rows are numbered from 1, and give back its number."""
        if table.name not in self._rows:
            self._rows[table.name] = self._connection.execute(select(func.max(table.c.number))).scalar() or 0
        self._rows[table.name] += 1
        self._insert(table, number=self._rows[table.name], **row)
        return self._rows[table.name]

    def _insert(self, table: Any, **row: Any) -> None:
        self.changed = True
        self._connection.execute(insert(table).values(event=self.number, **{k: _storable(v) for k, v in row.items()}))

    def finish(self, verb: str, who: str, command: str) -> None:
        """Write the line of the event log, and the link that vouches for what was recorded."""
        row = {"number": self.number, "at": _now(), "who": who, "command": command, "verb": verb}
        row |= {"summary": self.summary, "details": self.details, "versions": _versions()}
        self._connection.execute(insert(tables.events).values(**_storable(row)))
        chain.add_link(self._connection, self.number)


def _columns(value: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def measurement_number(name: str) -> int:
    """Number of a measurement, such as 7 of M0007.

    Raises:
        UsageError: it is not named so.
    """
    digits = name.upper().removeprefix("M")
    if not digits.isdigit():
        raise UsageError(f"A measurement is named like M0007. Got {name!r}.")
    return int(digits)


def _blobs(profile: object, names: Iterable[str]) -> dict[str, bytes]:
    return {name: np.asarray(getattr(profile, name), "<f8").tobytes() for name in names}


def _storable(value: Any) -> Any:
    """Turn what JSON or the database has no word for (NaN, numpy scalars, tuples, NUL, ...) into what it has."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(k)): _storable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def user_and_host() -> str:
    """Who runs this, for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(installed.PackageNotFoundError):
            found[package] = installed.version(package)
    return found
