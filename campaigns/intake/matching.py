"""The proposal, or the composition that nobody proposed, that a discharge was made for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from campaigns.intake.identity import Cells, Place
from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.ledger.records import (
    PENDING,
    Snapshot,
    State,
)
from drxnet.composition import Composition
from drxnet.errors import CompositionError, MeasurementError, UsageError
from drxnet.process import NOT_STATED, Process, alike

if TYPE_CHECKING:
    pass


SAME_COMPOSITION = 0.011
"""Compositions this close in every element are one: files give amounts to two decimals (per formula unit)."""


def sample_for(state: Snapshot, sample: SampleInfo) -> SampleInfo:
    """Fill in the composition of the proposal that a sample was made for.

    Raises:
        UsageError: there is no such proposal.
    """
    if sample.proposal is None:
        return sample
    proposal = state.proposal(sample.proposal)
    known = sample.composition if sample.composition is not None else proposal.composition
    return replace(sample, proposal=proposal.proposal_id, composition=known)


def proposal_of(
    discharge: CheckedDischarge,
    sample: SampleInfo,
    state: Snapshot,
    cells: Cells,
    target: Place | None,
    name: str,
) -> tuple[str | None, str]:
    """Proposal (None: nobody proposed it) and composition under which a discharge is recorded."""
    named = discharge.proposal or sample.proposal
    if named is None and discharge.composition is None:
        named = _owner_by_cell(discharge, sample, cells, target)
    if named is not None:
        try:
            proposal = state.proposal(named)
        except UsageError as error:
            if named not in cells.owners_of(target[1] if target else sample.cell or ""):
                raise MeasurementError(f"{name}: {error}") from None
            return None, named
        wanted = Composition.parse(proposal.composition)
        if discharge.composition is not None and discharge.composition.distance(wanted) > SAME_COMPOSITION:
            raise MeasurementError(
                f"{name}: holds {discharge.composition}, but {proposal.proposal_id} is {wanted}. Leave the proposal "
                "out, or correct the composition."
            )
        return proposal.proposal_id, proposal.composition
    if discharge.composition is None:
        raise MeasurementError(
            f"{name}: does not say what was made. Give --proposal, or a composition with --composition or in the "
            "sample table."
        )
    return matched(state, discharge.composition, sample.process or NOT_STATED, name)


def _owner_by_cell(discharge: CheckedDischarge, sample: SampleInfo, cells: Cells, target: Place | None) -> str | None:
    """Owner of the cell that a discharge is known to belong to, where nobody says what was made."""
    if target is not None:
        return target[0]
    if sample.cell is not None and len(owners := cells.owners_of(sample.cell)) == 1:
        return owners[0]
    if not discharge.is_measured:
        return None
    owners = tuple({k.owner for k in cells.equals(discharge.as_measurement())})
    return owners[0] if len(owners) == 1 else None


def matched(state: Snapshot, composition: Composition, process: Process, where: str) -> tuple[str | None, str]:
    """Find the proposal of a composition, as :func:`match_composition` does, for a place that errors name.

    Raises:
        MeasurementError: several are pending, each to be made in another way.
    """
    try:
        return match_composition(state, composition, process)
    except UsageError as error:
        raise MeasurementError(f"{where}: {error}") from None


def match_composition(
    state: Snapshot, composition: Composition, process: Process = NOT_STATED
) -> tuple[str | None, str]:
    """Find the proposal of a composition: one that is to be made alike, a pending one first, then the latest.

    Raises:
        UsageError: several are pending, each to be made in another way, and nobody says which this is.
    """
    same = [p for p in state.proposals if p.composition == composition.formula]
    if not same:
        same = [
            p for p in state.proposals if Composition.parse(p.composition).distance(composition) <= SAME_COMPOSITION
        ]
    if not same:
        return None, composition.formula
    same = [p for p in same if not process.differs(p.process)] or same
    waiting = [p for p in same if p.state in PENDING]
    if len(alike([p.process for p in waiting])) > 1:
        told = "; ".join(f"{p.proposal_id} by {p.process}" for p in waiting)
        raise UsageError(f"{composition} is out by several ways ({told}). Name the proposal, or state the process.")
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
