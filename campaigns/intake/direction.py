"""Which rows of a recording charge a cell, and which discharge it: by current, state, or voltage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from campaigns.intake.readers.sheets import monotone_parts
from campaigns.intake.readers.words import CHARGE, DISCHARGE, REST, UNKNOWN
from drxnet.discharge import VOLTAGE_BOUNDS_V

RELAXATION_ROWS, RELAXATION_V = 3, 5e-3
"""Rows after the lowest voltage are relaxation when they end a discharge, are so few and rise by more than this (V)."""

COUNTING_STEPS = 0.5
"""A step number that changes at more than this share of the rows counts points."""

SPIKE_V = 0.5
"""A single voltage that far (V) from both beside it is misread, and tells nothing of a direction."""


def counts_points(step: np.ndarray) -> bool:
    """Whether a step number changes with most rows."""
    return len(step) > 3 and bool((np.diff(step) != 0).mean() > COUNTING_STEPS)


@dataclass(frozen=True, eq=False)
class Signals:
    """What tells which rows charge and which discharge, ``rows`` each."""

    current: np.ndarray
    """As the file has it (mA): the sign may mean anything, or nothing."""

    voltage: np.ndarray
    interval: np.ndarray
    """Since the row before (s)."""

    state: np.ndarray | None
    step: np.ndarray | None

    @cached_property
    def active(self) -> np.ndarray:
        """Whether a current flows."""
        return np.abs(self.current) > 1e-4 * float(np.abs(self.current).max())

    def directions(
        self, growth_of_columns: Callable[[], tuple[np.ndarray, np.ndarray] | None]
    ) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Sign that makes the current positive on charge, and direction of each row.

        And whether the voltage denies it, and whether nothing but the voltage tells it.
        """
        flowing = self.current[self.active]
        if not len(flowing):
            return np.array(1.0), np.zeros(len(self.current), int), False, False
        signed = bool((flowing > 0).any() and (flowing < 0).any())
        if self.state is not None and np.isin(self.state, (CHARGE, DISCHARGE)).any():
            sign, direction = self._by_state(self.state, signed)
            return sign, direction, self._rises(direction), False
        if signed:
            sign = self._sign_by_voltage()
            direction = np.where(self.active, np.where(self.current * sign > 0, CHARGE, DISCHARGE), REST)
            return sign, direction, False, False
        growth = growth_of_columns()
        direction = self._by_turns() if growth is None else self._by_columns(*growth)
        by_turns = growth is None
        return self._sign_by_direction(direction), direction, not by_turns and self._rises(direction), by_turns

    def _by_state(self, state: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
        """Sign and directions where the instrument tells what it does, at some rows at least."""
        coded, unknown = np.isin(state, (CHARGE, DISCHARGE)) & self.active, self.active & (state == UNKNOWN)
        if signed:
            moved = self.current * self.interval * state
            sign = np.array(1.0 if float(moved[coded].sum()) >= 0 else -1.0)
            by_current = np.where(self.current * sign > 0, CHARGE, DISCHARGE)
            return sign, np.where(coded, state, np.where(unknown, by_current, REST))
        direction = np.where(coded, state, REST)
        if unknown.any():
            direction = np.where(unknown, self._by_turns(), direction)
        return self._sign_by_direction(direction), direction

    def _sign_by_direction(self, direction: np.ndarray) -> np.ndarray:
        """Sign of each row, for a current that has the same on charge and on discharge."""
        return np.where(direction == DISCHARGE, -1.0, 1.0) * np.sign(self.current[self.active].mean())

    def _sign_by_voltage(self) -> np.ndarray:
        """+1 where positive currents raise the voltage, -1 where they lower it; weighed by charge."""
        codes = np.where(self.active, np.sign(self.current), 0).astype(int)
        return np.array(-1.0 if self._raised(codes) < 0 else 1.0)

    def _rises(self, direction: np.ndarray) -> bool:
        """Whether the voltage rises on most of what is called discharge."""
        return self._raised(np.where(direction == DISCHARGE, DISCHARGE, 0)) < 0

    def _raised(self, codes: np.ndarray) -> float:
        """Charge of the stretches with a code by which the voltage moved the way of the code, less that of others."""
        return float(
            sum(
                code
                * np.sign(self.voltage[stop - 1] - self.voltage[start])
                * np.abs(self.current[start:stop] * self.interval[start:stop]).sum()
                for code, start, stop in runs_of(codes)
                if stop - start > 2
            )
        )

    @property
    def _blocks(self) -> list[tuple[int, int]]:
        """Start and stop of each stretch between rests and steps."""
        numbers = np.cumsum(np.diff(self.active.astype(int), prepend=int(self.active[0])) != 0)
        if self.step is not None and np.isfinite(self.step).all() and not counts_points(self.step):
            numbers = numbers + np.cumsum(np.diff(self.step, prepend=self.step[0]) != 0)
        return [(start, stop) for _, start, stop in runs_of(numbers + 1)]

    def _by_columns(self, charged: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Directions of a current without sign or state: a row charges where the instrument's charge capacity grows."""
        direction = np.where(charged > given, CHARGE, np.where(given > charged, DISCHARGE, REST))
        for start, stop in self._blocks:  # rows at which neither grows go with those around
            undecided = start + np.flatnonzero(direction[start:stop] == REST)
            decided = start + np.flatnonzero(direction[start:stop] != REST)
            if len(undecided) and len(decided):
                nearest = np.clip(np.searchsorted(decided, undecided), 0, len(decided) - 1)
                direction[undecided] = direction[decided[nearest]]
        return np.where(self.active, direction, REST)

    def _by_turns(self) -> np.ndarray:
        """Directions of a current without sign or state: each run between rests and steps rises or falls.

        Within a run the voltage may turn; a turn is a reversal by a fifth of the whole range. A stretch that falls and
        stays in the upper half of the range is no discharge: on charge a smaller current lets the voltage fall, too.
        """
        voltage, direction = without_spikes(self.voltage), np.zeros(len(self.current), int)
        low, high = float(voltage[self.active].min()), float(voltage[self.active].max())
        threshold, middle = 0.2 * (high - low), 0.5 * (low + high)
        for start, stop in self._blocks:
            if not self.active[start]:
                continue
            for first, last in monotone_parts(voltage[start:stop], threshold):
                begin, end = start + first, start + last
                change = float(voltage[end - 1] - voltage[begin])
                before = int(direction[begin - 1]) if begin else REST
                if abs(change) < threshold and begin:
                    change = float(voltage[end - 1] - voltage[begin - 1])
                    if before != REST and abs(change) < threshold:
                        direction[begin:end] = before
                        continue
                falls = change < 0 and voltage[begin:end].min() < middle
                direction[begin:end] = DISCHARGE if falls else CHARGE
        return direction


def without_spikes(voltage: np.ndarray, direction: np.ndarray | None = None) -> np.ndarray:
    """Voltages with that of the row before, or after, in the place of single ones far from both (V).

    Where the direction of each row is known, only of possible ones with rows of one direction on both sides.
    """
    last = len(voltage) - 1
    far = np.flatnonzero(np.abs(np.diff(voltage)) > SPIKE_V)
    rows = np.union1d(far, far + 1)
    before, after = np.where(rows > 0, rows - 1, 1), np.where(rows < last, rows + 1, last - 1)
    up, down = voltage[rows] - voltage[before], voltage[rows] - voltage[after]
    alone = (np.minimum(np.abs(up), np.abs(down)) > SPIKE_V) & (np.sign(up) == np.sign(down))
    if direction is not None:
        low, high = VOLTAGE_BOUNDS_V
        here = direction[rows]
        alone &= (here != REST) & (here == direction[before]) & (here == direction[after])
        alone &= (rows > 0) & (rows < last) & (voltage[rows] >= low) & (voltage[rows] <= high)
    if not alone.any():
        return voltage
    plain = voltage.copy()
    plain[rows[alone]] = voltage[before[alone]]
    return plain


def relaxes_within(voltage: np.ndarray, rows: int) -> bool:
    """Whether the voltage recovers in so many rows at the end of a discharge, which are few."""
    lowest = len(voltage) - 1 - rows
    return bool(rows <= RELAXATION_ROWS and voltage[lowest:].max(initial=0.0) > voltage[lowest] + RELAXATION_V)


def runs_of(codes: np.ndarray) -> list[tuple[int, int, int]]:
    """Code, start and stop of each stretch of equal codes that is not zero."""
    if not len(codes):
        return []
    edges = np.flatnonzero(np.diff(codes)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(codes)]])
    return [(int(codes[a]), int(a), int(b)) for a, b in zip(starts, stops, strict=True) if codes[a] != 0]
