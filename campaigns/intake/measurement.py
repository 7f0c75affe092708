"""What a lab hands in about a cell, and what comes out once it is checked.

Every value here is frozen. A file is *accepted*, *warned* (accepted, with flags that are stored beside it),
*doubtful* (a named mistake explains its numbers: recorded, not learned from until confirmed) or *refused* (nothing of
it may be recorded); the rules that decide are in :mod:`campaigns.intake.validation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from campaigns.ledger.records import NewMeasurement
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import MeasurementError, UsageError
from drxnet.process import NOT_STATED, Process

Provenance = Literal["cycler", "drx-td", "digitised", "summary", "sheet"]
Severity = Literal["error", "doubt", "warning"]
Status = Literal["accepted", "warned", "doubtful", "refused"]


@dataclass(frozen=True)
class SampleInfo:
    """What the lab says about a cell. Nothing here has a default value that could stand for a measurement."""

    active_mass_mg: float | None = None
    """Mass of the oxide alone, without carbon, binder and foil (mg)."""

    composition: Composition | str | None = None
    """What was made; a text that is no composition is refused by rule E10."""

    current_ma_g: float | None = None
    """Discharge current that was set, per gram of active material (mA/g)."""

    window: tuple[float, float] | None = None
    """Lower and upper cut-off that were set (V)."""

    cell: str | None = None
    """Label that tells replicates apart."""

    proposal: str | None = None
    """Proposal that the cell was made for, such as ``R03-05``."""

    first_cycle: int | None = None
    """Cycle number of the first discharge of the file, for one that does not begin at the start of its test."""

    continues: str | None = None
    """Label of the cell, or name of the file, whose test goes on in this file."""

    formation: int | None = None
    """Cycles at the start of the test that form the cell and are no first cycles of their rate."""

    formation_current_ma_g: float | None = None
    """Discharges at this current, before any other, are formation (mA/g)."""

    icp: str | None = None
    """Composition of what was made as measured, beside the one that was aimed at."""

    process: Process | None = None
    """How the cell was made and tested, as far as stated."""

    def check_conditions(self) -> None:
        """Refuse a current or a window that no cell can be cycled with; a mass is a matter of the rules.

        Raises:
            UsageError: the current is not positive, or the window upside down.
        """
        low, high = self.window or (0.0, 5.0)
        try:
            CyclingConditions(1.0 if self.current_ma_g is None else self.current_ma_g, low, high)
        except ValueError as error:
            raise UsageError(str(error)) from None


class RuleBroken(MeasurementError):
    """A file breaks a rule in a way that ends its reading.

    Attributes:
        rule: which one, such as ``E9``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class RuleHit:
    """A rule that a file breaks."""

    id: str
    """Such as ``E4``; ``drx-screen validate --explain E4`` says what it is for."""

    message: str
    """Which file, row and cycle; what must hold, what came, what to do."""

    severity: Severity

    def as_row(self) -> dict[str, str]:
        """Return what is kept and shown of it: ``id`` and ``message``."""
        return {"id": self.id, "message": self.message}

    def __str__(self) -> str:
        """Return the line that a person reads."""
        return f"{self.id}: {self.message}"


@dataclass(frozen=True)
class FileSpan:
    """Which part of a test a file holds, by what its rows say of themselves; None where they say nothing."""

    first_cycle: int | None = None
    """Cycle number of the first row, as the instrument counts (some from 0)."""

    late: str | None = None
    """What says that the file does not begin at the start of its test, in words; None where nothing does."""


@dataclass(frozen=True, eq=False)
class CheckedDischarge:
    """One discharge after a real charge, its constant-current part."""

    cycle: int
    """Cycle number, the first is 1."""

    provenance: Provenance
    composition: Composition | None = None
    conditions: CyclingConditions | None = None
    """None as long as the mass (and with it the current per gram) is unknown."""

    capacity_mah_g: float | None = None
    """Capacity at the lower cut-off, as measured (mAh/g)."""

    profile: DischargeProfile | None = None
    """Smoothed, on the grid of the window; None where only the capacity is known."""

    sigma_mah_g: float | None = None
    """Standard error to give the capacity when it is learned from (mAh/g)."""

    capacity_mah: float | None = None
    """Charge of the constant-current part (mAh); None where the source gives it per gram only."""

    current_ma: float | None = None
    """Median current of that part (mA), positive."""

    v_start: float | None = None
    """Voltage of its first row (V)."""

    v_end: float | None = None
    """Voltage of its last row (V)."""

    rows: int = 0
    """Rows of that part; 0 where only the capacity is known."""

    all_steps_capacity_mah: float | None = None
    """Charge of the whole discharge, with what was cut: constant-voltage tail, second steps (mAh)."""

    file_cycle: int | None = None
    """Cycle number that the instrument gives it; :attr:`cycle` is the one that counts."""

    elapsed_s: float | None = None
    """Elapsed time of the test at its first row, as the file has it (s)."""

    charge_top_v: float | None = None
    """Highest voltage of the charge before it (V)."""

    proposal: str | None = None
    """Proposal that the source names for this discharge, in a table of several cells."""

    cell: str | None = None
    """Label of the cell that the source names for this discharge."""

    process: Process = NOT_STATED
    """How the cell was made and tested, as far as the source says so of this discharge."""

    @property
    def is_measured(self) -> bool:
        """Whether current and capacity per gram are known, so that it can be recorded."""
        return self.conditions is not None and self.capacity_mah_g is not None

    def as_measurement(
        self, composition: str = "", flags: tuple[str, ...] = (), process: Process = NOT_STATED
    ) -> NewMeasurement:
        """The discharge as the ledger takes it, where :attr:`is_measured`.

        Args:
            composition: canonical formula.
            flags: rules that are stored beside it.
            process: how the cell was made and tested.
        """
        assert self.conditions is not None
        assert self.capacity_mah_g is not None
        as_here = ("profile", "sigma_mah_g", "provenance", "file_cycle", "elapsed_s", "charge_top_v")
        return NewMeasurement(
            composition=composition,
            conditions=replace(self.conditions, process=self.process.over(process)),
            capacity_mah_g=float(self.capacity_mah_g),
            flags=flags,
            charge_mah=self.capacity_mah,
            **{name: getattr(self, name) for name in as_here},
        )

    def as_row(self) -> dict[str, Any]:
        """Return the keys that ``drx-screen validate --format json`` promises."""
        names = "cycle capacity_mah capacity_mah_g current_ma v_start v_end rows all_steps_capacity_mah"
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True, eq=False)
class CheckedFile:
    """A file after reading and checking; the first discharge is the first one after a real charge."""

    path: Path
    sha256: str
    """Of the bytes of the file."""

    format: str
    """Name of the reader, or ``unknown``."""

    rules: tuple[RuleHit, ...] = ()
    """Every rule that is broken, errors first."""

    discharges: tuple[CheckedDischarge, ...] = ()
    notes: tuple[str, ...] = ()
    """What was assumed or put in order on the way, for a person to read."""

    span: FileSpan | None = None
    """Which part of its test the file holds; None for what comes without rows of a cycler."""

    @property
    def status(self) -> Status:
        """Refused with any error, else doubtful with any doubt, warned with any warning, accepted otherwise."""
        severities = {hit.severity for hit in self.rules}
        if "error" in severities:
            return "refused"
        if "doubt" in severities:
            return "doubtful"
        return "warned" if self.rules else "accepted"

    def as_row(self) -> dict[str, Any]:
        """Return the keys that ``drx-screen validate --format json`` promises."""
        return {
            "file": str(self.path),
            "format": self.format,
            "status": self.status,
            "rules": [hit.as_row() for hit in self.rules],
            "discharges": [discharge.as_row() for discharge in self.discharges],
        }
