"""The proposal, or the composition that nobody proposed, that a discharge was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from campaigns.intake.identity import Cells, Place
from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.ledger.records import PENDING, Snapshot, State
from drxnet.composition import Composition
from drxnet.errors import CompositionError, MeasurementError, UsageError
from drxnet.process import NOT_STATED, Process, alike

SAME_COMPOSITION = 0.011
"""Compositions this close in every element are one: files give amounts to two decimals (per formula unit)."""


@dataclass(frozen=True)
class Matching:
    """What the discharges of a file are matched by."""

    state: Snapshot
    cells: Cells
    file: str
    """Its name."""

    sample: SampleInfo
    target: Place | None = None
    """Cell whose test the file goes on with."""

    def of(self, discharge: CheckedDischarge) -> tuple[str | None, str]:
        """Proposal (None: nobody proposed it) and composition under which a discharge is recorded.

        Raises:
            MeasurementError: nobody says which, or what is said does not agree.
        """
        named, made = discharge.proposal or self.sample.proposal, discharge.composition
        if named is None and made is None:
            named = self._owner_by_cell(discharge)
        if named is not None:
            return self._named(named, made)
        if made is None:
            raise MeasurementError(
                f"{self.file}: does not say what was made. Give --proposal, or a composition with --composition or in "
                "the sample table."
            )
        return match_composition(self.state, made, self.sample.process or NOT_STATED, self.file)

    def _named(self, named: str, made: Composition | None) -> tuple[str | None, str]:
        try:
            proposal = self.state.proposal(named)
        except UsageError as error:
            if named not in self.cells.owners_of(self.target[1] if self.target else self.sample.cell or ""):
                raise MeasurementError(f"{self.file}: {error}") from None
            return None, named
        wanted = Composition.parse(proposal.composition)
        if made is not None and made.distance(wanted) > SAME_COMPOSITION:
            raise MeasurementError(
                f"{self.file}: holds {made}, but {proposal.proposal_id} is {wanted}. Leave the proposal out, or "
                "correct the composition."
            )
        return proposal.proposal_id, proposal.composition

    def _owner_by_cell(self, discharge: CheckedDischarge) -> str | None:
        """Owner of the cell that a discharge is known to belong to, where nobody says what was made."""
        if self.target is not None:
            return self.target[0]
        cell = self.sample.cell
        if cell is not None and len(labelled := self.cells.owners_of(cell)) == 1:
            return labelled[0]
        if not discharge.is_measured:
            return None
        owners = {k.owner for k in self.cells.equals(discharge.as_measurement())}
        return owners.pop() if len(owners) == 1 else None


def match_composition(
    state: Snapshot, composition: Composition, process: Process, where: str
) -> tuple[str | None, str]:
    """Find the proposal of a composition: one that is to be made alike, a pending one first, then the latest.

    Args:
        state: of the ledger.
        composition: what was made.
        process: how, as far as stated.
        where: it is said, for the error.

    Returns:
        Id of the proposal, None where nobody proposed it, and the composition that it is recorded as.

    Raises:
        MeasurementError: several are pending, each to be made in another way, and nobody says which this is.
    """
    same = [p for p in state.proposals if p.composition == composition.formula] or [
        p for p in state.proposals if Composition.parse(p.composition).distance(composition) <= SAME_COMPOSITION
    ]
    if not same:
        return None, composition.formula
    same = [p for p in same if not process.differs(p.process)] or same
    waiting = [p for p in same if p.state in PENDING]
    if len(alike([p.process for p in waiting])) > 1:
        told = "; ".join(f"{p.proposal_id} by {p.process}" for p in waiting)
        raise MeasurementError(
            f"{where}: {composition} is out by several ways ({told}). Name the proposal, or state the process."
        )
    best = max(same, key=lambda p: (p.state in PENDING, p.state is not State.ABANDONED, p.event, p.proposal_id))
    return best.proposal_id, best.composition


def planned_process(state: Snapshot, proposal_id: str | None) -> Process:
    """How the cells of a proposal are to be made."""
    return NOT_STATED if proposal_id is None else state.proposal(proposal_id).process


def parsed(formula: Any, where: str) -> Composition:
    """Composition that a formula says.

    Raises:
        MeasurementError: it says none; the message begins with where.
    """
    try:
        return Composition.parse(str(formula))
    except CompositionError as error:
        raise MeasurementError(f"{where}: {error}") from None
