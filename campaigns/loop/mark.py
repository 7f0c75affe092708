"""What a person says of proposals and measurements: accepted, failed, abandoned, retracted."""

from __future__ import annotations

from collections.abc import Sequence

from campaigns.ledger.records import State
from campaigns.workspace import Workspace
from drxnet.errors import UsageError

BY_HAND = (State.PROPOSED, State.ACCEPTED, State.FAILED, State.ABANDONED)
"""States that a person may give; only measurements make a proposal measured."""

_WHY = {State.FAILED: "it failed", State.ABANDONED: "it is abandoned"}


def state_by_hand(word: str) -> State:
    """State that a person names.

    Raises:
        UsageError: no state, or one that only measurements give.
    """
    if word.lower() not in BY_HAND:
        raise UsageError(f"A proposal is marked {', '.join(BY_HAND[:-1])} or {BY_HAND[-1]}. Got {word!r}.")
    return State(word.lower())


def mark(campaign: Workspace, proposal_ids: Sequence[str], state: State | str, reason: str = "") -> tuple[str, ...]:
    """Say what became of proposals, of all of them or of none.

    Args:
        campaign: that they belong to.
        proposal_ids: such as ``R01-03``.
        state: one of :data:`BY_HAND`.
        reason: why; needed for failed and abandoned.

    Returns:
        Ids of those that changed; a proposal that is in the state already keeps it, and a new reason counts as change.

    Raises:
        UsageError: unknown, no such change is possible, or no reason.
    """
    state = state_by_hand(state)
    if state in _WHY and not reason.strip():
        raise UsageError(f"Say why {_WHY[state]}: give a reason (--reason TEXT).")
    if not proposal_ids:
        raise UsageError("Name at least one proposal, such as R01-03.")
    with campaign.ledger.write("mark") as entry:
        found = [entry.before.proposal(name) for name in proposal_ids]
        changed = tuple(p.proposal_id for p in found if entry.set_state(p.proposal_id, state, reason))
        entry.summary = f"{', '.join(p.proposal_id for p in found)}: {state}" + (f", {reason}" if reason else "")
    return changed


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
        entry.summary = f"{', '.join(ids)}: {reason}"
    return ids
