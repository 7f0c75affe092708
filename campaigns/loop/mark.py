"""What a person says of proposals and measurements: accepted, failed, abandoned, retracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campaigns.intake.addition import Addition
from campaigns.ledger.records import CONFIRMED, State
from campaigns.loop.phases import Found, parse_icp, said
from campaigns.workspace import Workspace
from drxnet.errors import UsageError
from drxnet.names import hint

BY_HAND = (State.PROPOSED, State.ACCEPTED, State.FAILED, State.ABANDONED)
"""States that a person may give; only measurements make a proposal measured."""

_WHY = {State.FAILED: "it failed", State.ABANDONED: "it is abandoned"}


def state_by_hand(word: str) -> State:
    """State that a person names.

    Raises:
        UsageError: no state, or one that only measurements give.
    """
    if word.lower() not in BY_HAND:
        listed = f"{', '.join(BY_HAND[:-1])} or {BY_HAND[-1]}"
        raise UsageError(f"A proposal is marked {listed}. {hint(word, BY_HAND)}Got {word!r}.")
    return State(word.lower())


def mark(
    campaign: Workspace,
    proposal_ids: Sequence[str],
    state: State | str | None = None,
    reason: str = "",
    *,
    phases: Mapping[str, float | None] | None = None,
    single_phase: bool | None = None,
    icp: str | None = None,
) -> tuple[str, ...]:
    """Say what became of proposals, of all of them or of none.

    Args:
        campaign: that they belong to.
        proposal_ids: such as ``R01-03``.
        state: one of :data:`BY_HAND`; None leaves it as it is, where something was found.
        reason: why; needed for failed and abandoned.
        phases: that were found, with their shares (%) where known.
        single_phase: whether it is one phase.
        icp: composition as measured.

    Returns:
        Ids of those that changed; a proposal that is in the state already keeps it, and a new reason counts as change.

    Raises:
        UsageError: unknown, no such change is possible, or no reason.
    """
    if not proposal_ids:
        raise UsageError("Name at least one proposal, such as R01-03.")
    word = None if state is None else str(state_by_hand(state))
    measured = None if icp is None else parse_icp(icp)
    return mark_all(campaign, [Found(name, word, reason, phases, single_phase, measured) for name in proposal_ids])


def mark_all(campaign: Workspace, found: Sequence[Found]) -> tuple[str, ...]:
    """Record what was found in what was made of several proposals, all or none, and give back the ids that changed.

    Raises:
        UsageError: unknown, no such change is possible, or no reason.
    """
    changed = []
    for f in found:
        state = None if f.state is None else state_by_hand(f.state)
        if state in _WHY and not f.reason.strip():
            raise UsageError(f"Say why {_WHY[state]}: give a reason (--reason TEXT).")
        if state is None and f.phases is None and f.single_phase is None and f.icp is None:
            raise UsageError(
                f"Say what became of {f.proposal}: {', '.join(BY_HAND)}, or the phases that were found (--phases)."
            )
    with campaign.ledger.write("mark") as entry:
        for f in found:
            proposal = entry.before.proposal(f.proposal)
            name = proposal.proposal_id
            moved = f.state is not None and entry.set_state(name, state_by_hand(f.state), f.reason)
            if f.phases is not None or f.single_phase is not None:
                entry.add_phases(name, f.phases or {}, f.single_phase)
                moved = True
            if f.icp is not None:
                entry.add_analysis(name, f.icp)
                moved = True
            if moved:
                changed.append(name)
        entry.summary = said(found)
    return tuple(dict.fromkeys(changed))


def retract(campaign: Workspace, names: Sequence[str], reason: str) -> tuple[str, ...]:
    """Stop counting measurements, all of them or none; they stay in the ledger with the reason.

    Args:
        campaign: that they belong to.
        names: measurements (``M0007``), proposals or files; of the last two, every measurement that counts.
        reason: why.

    Returns:
        Ids of the measurements.

    Raises:
        UsageError: unknown, withdrawn already, or no reason.
    """
    with campaign.ledger.write("retract") as entry:
        ids = entry.before.measurements_named(names)
        for measurement_id in ids:
            entry.withdraw(measurement_id, reason)
        Addition(campaign, entry.before, gone=ids).judge_again(entry)
        entry.summary = f"{', '.join(ids)}: {reason}"
    return ids


def confirm(campaign: Workspace, names: Sequence[str], reason: str = "") -> tuple[str, ...]:
    """Say that doubtful measurements are as they should be: they count from now on and are not doubted again.

    Args:
        campaign: that they belong to.
        names: measurements (``M0007``), proposals or files; of the last two, every measurement that is doubted. The
            rest of a cell is confirmed with any of its discharges.
        reason: why, if there is something to say.

    Returns:
        Ids of the measurements.

    Raises:
        UsageError: unknown or withdrawn.
    """
    with campaign.ledger.write("confirm") as entry:
        state = entry.before
        by_id = {m.measurement_id: m for m in state.measurements}
        named = state.measurements_named(names)
        by_name = {name.upper() for name in names}
        ids = [name for name in named if name in by_name or by_id[name].doubt]
        if not ids:
            raise UsageError(f"Nothing of {', '.join(names)} is doubted. `drx-screen status` lists what is.")
        cells = {(m.proposal_id, m.cell) for name in ids if (m := by_id[name]).doubt}
        ids += [m.measurement_id for m in state.doubtful if (m.proposal_id, m.cell) in cells]
        ids = list(dict.fromkeys(ids))
        for name in ids:
            if not by_id[name].confirmed or by_id[name].withdrawn_event is not None:
                entry.judge(name, CONFIRMED, "", reason)
        entry.summary = f"{', '.join(ids)}: {reason}" if reason else ", ".join(ids)
    return tuple(ids)
