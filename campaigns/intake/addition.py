"""What is about to be recorded: judged beside what stands, and added to the ledger with what is thought of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from campaigns.intake.judgement import Verdicts, Weighed, expectations, judge, weighed
from campaigns.ledger.ledger import Entry
from campaigns.ledger.physics import faults_of_numbers
from campaigns.ledger.records import (
    CLEARED,
    DOUBTFUL,
    Snapshot,
)
from campaigns.workspace import Workspace

if TYPE_CHECKING:
    pass

from campaigns.intake.settlement import Placed


def judged_beside(campaign: Workspace, state: Snapshot, fresh: Sequence[Placed], gone: Iterable[str] = ()) -> Verdicts:
    """Judge what is about to be recorded beside what stands; keys of the new ones are the ids of these objects."""
    left_out = set(gone)
    standing = [
        weighed(state, m) for m in state.standing if m.measurement_id not in left_out and not faults_of_numbers(m)
    ]
    new = [
        Weighed(
            id(p),
            p.item.owner,
            p.cell,
            p.item.new.composition,
            p.item.new.conditions,
            p.item.new.capacity_mah_g,
            p.item.new.provenance == "cycler",
            p.item.current_stated,
            p.item.new.charge_top_v,
            state.by_id[p.item.owner].round if p.item.owner in state.by_id else None,
            fresh=True,
        )
        for p in fresh
    ]
    return judge([*standing, *new], campaign.spec.conditions, expectations(state, campaign.spec.conditions))


def add(
    entry: Entry,
    placed: Placed,
    sha256: str | None,
    verdicts: Verdicts,
    lab: dict[str, str],
    doubt: tuple[str, str] | None = None,
) -> str:
    """Record a discharge with what is thought of it."""
    item, new = placed.item, placed.item.new
    proposal_id = item.proposal_id
    if proposal_id is None:
        if item.owner not in lab:
            lab[item.owner] = entry.add_lab_composition(new.composition)
        proposal_id = lab[item.owner]
    if id(placed) in verdicts.surprises:
        new = replace(new, flags=(*new.flags, "W8"))
    return entry.add_measurement(proposal_id, placed.cell, new, sha256, doubt=doubt or verdicts.doubts.get(id(placed)))


def rejudge(entry: Entry, verdicts: Verdicts) -> None:
    """Record what is thought now of measurements that were there before."""
    for key, (rule, reason) in verdicts.doubts.items():
        if isinstance(key, str):
            entry.judge(key, DOUBTFUL, rule, reason)
    for key, reason in verdicts.cleared.items():
        if isinstance(key, str):
            entry.judge(key, CLEARED, "", reason)


def judged_again(verdicts: Verdicts) -> tuple[str, ...]:
    """One sentence for every measurement, recorded before, that is doubtful now or no longer."""
    doubted = (
        f"{k}, recorded before, is doubtful now ({r}): {why}"
        for k, (r, why) in verdicts.doubts.items()
        if isinstance(k, str)
    )
    cleared = (f"{k}, recorded before, is no longer doubtful: {why}" for k, why in verdicts.cleared.items())
    return (*doubted, *cleared)


def judge_again(campaign: Workspace, entry: Entry, gone: Sequence[str] = ()) -> None:
    """Record what is thought of the measurements that are left once some are gone."""
    rejudge(entry, judged_beside(campaign, entry.before, [], gone=gone))
