"""What readers return, and the options they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from campaigns.intake.readers.unpacking import Head
from drxnet.errors import ImpossibleValue
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress

if TYPE_CHECKING:
    from drxnet.drxtd import CyclingTest

CELL_JUMP_V, SAME_START_V = 0.5, 0.3
"""A voltage that jumps up by the first and comes within the second of that of the first row is another cell's (V)."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user settles where a file is ambiguous or wrong about itself."""

    decimal: str | None = None
    """Decimal sign of a text file, ``.`` or ``,``."""

    time_unit: float | None = None
    """Seconds that one unit of the time column stands for, whatever its header says."""

    voltage_unit: float | None = None
    """Volts that one unit of the voltage column stands for."""

    current_unit: float | None = None
    """Milliamperes that one unit of the current column stands for."""

    capacity_unit: float | None = None
    """Milliampere-hours that one unit of the capacity columns stands for."""

    def __post_init__(self) -> None:
        """Refuse what is no decimal sign or no unit."""
        if self.decimal not in (None, ".", ","):
            raise ImpossibleValue(f"The decimal sign is '.' or ','. Got {self.decimal!r}.")
        for name in ("time_unit", "voltage_unit", "current_unit", "capacity_unit"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ImpossibleValue(f"{name} must be positive. Got {value}.")


@dataclass(frozen=True, eq=False)
class CyclerRows:
    """Rows of a cycler, in the order of the file, in seconds, volts, mA and mAh."""

    format: str
    voltage_v: np.ndarray
    """Cell voltage (V), ``rows``."""

    time_s: np.ndarray
    """Elapsed time of the test (s), ``rows``; of the step where ``time_of_step``."""

    current_ma: np.ndarray | None = None
    """Current as the file has it (mA), ``rows``: the sign may mean anything, or nothing."""

    moved_mah: np.ndarray | None = None
    """Net charge since the start (mAh), ``rows``: rises on charge, falls on discharge."""

    charge_mah: np.ndarray | None = None
    """The instrument's charge capacity (mAh), ``rows``; it may be reset at any time."""

    discharge_mah: np.ndarray | None = None
    """The instrument's discharge capacity (mAh), ``rows``."""

    capacity_mah: np.ndarray | None = None
    """A capacity without direction (mAh), ``rows``."""

    per_gram: bool = False
    """Whether currents and charges are per gram (mA/g, mAh/g), by the mass that the instrument was told."""

    state: np.ndarray | None = None
    """What the instrument was doing, ``rows`` of CHARGE, REST, DISCHARGE or UNKNOWN."""

    step: np.ndarray | None = None
    """Number of the programme step, ``rows``."""

    record: np.ndarray | None = None
    """Number of the row in the instrument's order, ``rows``."""

    cycle: np.ndarray | None = None
    """Cycle number of the instrument, ``rows``: tells where in its test a file lies, not which discharge is which."""

    step_time_s: np.ndarray | None = None
    """Time since the step began (s), ``rows``, where the file gives it beside the elapsed time."""

    clock_span_s: float | None = None
    """Wall clock of the last row less that of the first (s)."""

    time_of_step: bool = False
    header_mass_mg: float | None = None
    header_material: str | None = None
    temperature_c: float | None = None
    """Usual temperature that the rows give (°C)."""

    current_digits: int | None = None
    """Significant digits that the largest current is written with."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Curve:
    """Voltage against capacity of one half-cycle, without time and current."""

    name: str
    voltage_v: np.ndarray
    capacity: np.ndarray
    """Capacity (mAh/g, or mAh where the sheet gives it so)."""

    cycle: int | None = None
    """Cycle number, where the sheet gives one."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves without time and current: read off a printed figure, or a capacity-voltage sheet of a cycler."""

    format: str
    curves: tuple[Curve, ...]
    notes: tuple[str, ...] = ()
    digitised: bool = True
    """Whether they were read off a figure."""

    in_mah: bool = False
    """Whether capacities are in mAh, to be divided by the active mass."""

    charge_tops_v: tuple[float | None, ...] = ()
    """Highest voltage of the charge before each curve (V), where the sheet holds it."""


@dataclass(frozen=True)
class SummaryRow:
    """A capacity from a table, without a profile."""

    row: int
    """Line of the file."""

    composition: str | None
    current_ma_g: float | None
    v_low: float | None
    v_high: float | None
    cycle: int
    capacity_mah_g: float | None
    """None where the table gives :attr:`capacity_mah`."""

    proposal: str | None = None
    """Proposal that the row names, such as ``R03-05``."""

    cell: str | None = None
    capacity_mah: float | None = None
    charged: float | None = None
    """What the cell took before, in the unit of the capacity."""

    c_rate: float | None = None
    """Rate as a multiple of C, which is no current density before 1C is stated in mA/g."""

    is_bare_rate: bool = False
    """Whether the current stands under a header that may mean a C-rate."""

    process: Process = NOT_STATED
    """How the cell was made and tested, as far as the row says so."""


@dataclass(frozen=True)
class SummaryTable:
    """A table of capacities."""

    format: str
    rows: tuple[SummaryRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DRXTDTests:
    """The tests of a DRX-TD file."""

    format: str
    tests: tuple[CyclingTest, ...]
    notes: tuple[str, ...] = ()


Recording = CyclerRows | Curves | SummaryTable | DRXTDTests


@dataclass(frozen=True)
class Reader:
    """One file format."""

    name: str
    recognises: Callable[[Head], bool]
    read: Callable[[Head, ReadOptions, Progress], Recording]
    suffixes: tuple[str, ...] = ()
    """Usual endings, for messages; the content decides."""


def is_another_cell(first_v: float, last_v: float, next_v: float) -> bool:
    """Whether the voltage jumps, where rows begin anew, from the end of a discharge to that of the first row.

    Args:
        first_v: of the first row of all (V).
        last_v: of the row before (V).
        next_v: of the row that begins anew (V).
    """
    return bool(next_v - last_v > CELL_JUMP_V and abs(next_v - first_v) < SAME_START_V)
