"""What a lab hands in, matched to cells and proposals, judged, and recorded in one transaction.

A discharge belongs to the proposal it was handed in for, else to the one with the same composition, else it is
attached as a composition that the lab made unasked (``origin=lab``). Of a file, all that is new is recorded or
nothing; what is known already is never counted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from campaigns.intake.identity import Cells, Place
from campaigns.intake.judgement import Verdicts
from campaigns.intake.measurement import CheckedFile, RuleHit, SampleInfo
from campaigns.ledger.ledger import Entry
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import (
    Snapshot,
)
from campaigns.workspace import Workspace
from drxnet.errors import MeasurementError
from drxnet.process import NOT_STATED, Process

if TYPE_CHECKING:
    pass

from campaigns.intake.addition import add, judged_again, judged_beside, rejudge
from campaigns.intake.continuation import comes_after, may_continue, numbered
from campaigns.intake.matching import parsed, planned_process, proposal_of
from campaigns.intake.outcome import (
    RECORDED,
    FileOutcome,
    Ingested,
    compare_with_proposed,
    known_before,
    outcome_of,
    summary_of,
)
from campaigns.intake.settlement import Item, Placed, placed_in_cells


@dataclass
class _Plan:
    """What becomes of one file."""

    file: CheckedFile
    outcome: FileOutcome
    new: list[Placed] = field(default_factory=list)
    icp: str | None = None
    """Canonical formula of what was made, as measured."""


def ingest(
    campaign: Workspace,
    files: Sequence[tuple[CheckedFile, SampleInfo]],
    *,
    all_or_nothing: bool = False,
    dry_run: bool = False,
) -> Ingested:
    """Record checked files.

    Args:
        campaign: to record them in.
        files: each with what the lab says about it.
        all_or_nothing: record none when one is refused.
        dry_run: record nothing, only say what would be.

    Returns:
        What became of each file; refused ones are no error here.

    Raises:
        UsageError: a sample names a proposal that does not exist.
    """
    if dry_run:
        plans, verdicts = _plans(campaign, files, campaign.state(), all_or_nothing, dry_run=True)
        return Ingested(tuple(_judged(plan, verdicts).outcome for plan in plans))
    with campaign.ledger.write("ingest") as entry:
        plans, verdicts = _plans(campaign, files, entry.before, all_or_nothing)
        lab: dict[str, str] = {}
        outcomes = [
            _record(entry, _judged(plan, verdicts), verdicts, lab) if plan.outcome.status in RECORDED else plan.outcome
            for plan in plans
        ]
        if any(o.status in RECORDED for o in outcomes):
            rejudge(entry, verdicts)
        entry.note_refused(
            [
                {"name": o.name, "sha256": o.sha256, "rules": [{"id": r.id, "message": r.message} for r in o.rules]}
                for o in outcomes
                if o.status == "refused"
            ]
        )
        entry.summary = summary_of(outcomes)
    recorded = [m for o in outcomes for m in o.measurements]
    again = judged_again(verdicts) if recorded else ()
    return Ingested(tuple(outcomes), compare_with_proposed(campaign, recorded), again)


def _plans(
    campaign: Workspace,
    files: Sequence[tuple[CheckedFile, SampleInfo]],
    state: Snapshot,
    all_or_nothing: bool,
    *,
    dry_run: bool = False,
) -> tuple[list[_Plan], Verdicts]:
    """Say of every file what becomes of it, under what its discharges are recorded, and what is thought of them.

    Files that continue another one are taken after those that do not, whatever the order they are handed in.
    """
    recorded = {f.sha256: f.name for f in state.files}
    cells = Cells(state, lambda listed: [m.profile for m in campaign.ledger.profiles(listed)])
    found: dict[int, _Plan] = {}
    order = sorted(range(len(files)), key=lambda i: comes_after(files[i]))
    for i in order:
        file, sample = files[i]
        if file.sha256 in recorded:
            found[i] = _Plan(file, known_before(file, recorded[file.sha256], state, sample))
            continue
        found[i] = plan = _planned(file, sample, state, cells, campaign.spec.conditions.process, dry_run)
        if plan.new:
            recorded[file.sha256] = file.path.name
    plans = [found[i] for i in range(len(files))]
    if all_or_nothing and any(plan.outcome.status == "refused" for plan in plans):
        for plan in plans:
            if plan.outcome.status == "recorded":
                plan.outcome = replace(plan.outcome, status="left out")
                plan.new.clear()
    fresh = [placed for plan in plans for placed in plan.new]
    return plans, judged_beside(campaign, state, fresh)


def _planned(
    file: CheckedFile, sample: SampleInfo, state: Snapshot, cells: Cells, usual: Process, dry_run: bool
) -> _Plan:
    """Match the discharges of a file, or say why it cannot be recorded."""
    try:
        icp = None if sample.icp is None else parsed(sample.icp, "The composition as measured").formula
        file, target = numbered(file, sample, cells)
        if file.status == "refused":
            file = replace(file, notes=(*file.notes, *may_continue(file, sample, state, cells)))
            return _Plan(file, outcome_of(file, [], file.rules, cells, dry_run))
        items = _items(file, sample, state, cells, target, usual)
        if not items:
            raise MeasurementError("holds no discharge to record.")
        base = sample.cell or file.path.stem
        placed = placed_in_cells(items, cells, base, one_cell=_is_one_cell(file))
    except MeasurementError as error:
        message = str(error) if file.path.name in str(error) else f"{file.path.name}: {error}"
        rule = "P2" if "no discharge to record" in message else "P1"
        rules = (*file.rules, RuleHit(rule, message, "error"))
        return _Plan(file, outcome_of(file, [], rules, cells, dry_run))
    outcome = outcome_of(file, placed, file.rules, cells, dry_run)
    new = [p for p in placed if p.known is None]
    for p in new:
        cells.claim(p.item.owner, p.cell, p.item.new, file.path.name)
    return _Plan(file, outcome, new, icp)


def _is_one_cell(file: CheckedFile) -> bool:
    """Whether all discharges of a file are of one cell: those of a cycler or its sheet are; tables hold several."""
    return all(d.provenance in ("cycler", "sheet") for d in file.discharges)


def _items(
    file: CheckedFile,
    sample: SampleInfo,
    state: Snapshot,
    cells: Cells,
    target: Place | None,
    usual: Process,
) -> list[Item]:
    """The discharges of a file with the proposal each was made for.

    What is stated of a cell goes before what its proposal says of the process, and that before what is usual.

    Raises:
        MeasurementError: one lacks its conditions, its composition, or is no discharge that a cell can give.
    """
    items, flags = [], tuple(hit.id for hit in file.rules)
    for discharge in file.discharges:
        where = f"{file.path.name} cycle {discharge.cycle}"
        if not discharge.is_measured:
            raise MeasurementError(f"{where}: no capacity per gram. Give the active mass and the current.")
        proposal_id, composition = proposal_of(discharge, sample, state, cells, target, file.path.name)
        owner = proposal_id or composition
        label = discharge.cell or sample.cell
        if target is not None:
            if owner != target[0]:
                raise MeasurementError(
                    f"is handed in for {owner}, but cell {target[1]}, whose test it holds, belongs to {target[0]}. "
                    "Correct one of them."
                )
            label = target[1]
        made = (sample.process or NOT_STATED).over(planned_process(state, proposal_id)).over(usual)
        new = discharge.as_measurement(composition, flags, made)
        try:
            check_physics(new)
        except MeasurementError as error:
            raise MeasurementError(f"{where}: {error}") from None
        stated = sample.current_ma_g is not None or discharge.provenance != "cycler"
        items.append(Item(proposal_id, owner, label, new, where, stated))
    return items


def _judged(plan: _Plan, verdicts: Verdicts) -> _Plan:
    """A plan with what is thought of its discharges among its rules."""
    if not plan.new:
        return plan
    told = {(hit.id, hit.message) for hit in plan.outcome.rules}
    hits = []
    for p in plan.new:
        rule, message = verdicts.doubts.get(id(p), ("", ""))
        if not rule and (word := verdicts.surprises.get(id(p))):
            rule, message = "W8", word
        hit = RuleHit(rule, f"{p.item.where}: {message}", "warning" if rule == "W8" else "doubt")
        if rule and (rule, message) not in told:
            told.add((rule, message))
            hits.append(hit)
    outcome = replace(plan.outcome, rules=(*plan.outcome.rules, *hits))
    if outcome.status == "recorded" and any(hit.severity == "doubt" for hit in outcome.rules):
        outcome = replace(outcome, status="doubtful")
    return replace(plan, outcome=outcome)


def _record(entry: Entry, plan: _Plan, verdicts: Verdicts, lab: dict[str, str]) -> FileOutcome:
    file, outcome = plan.file, plan.outcome
    rules = [{"id": hit.id, "message": hit.message} for hit in outcome.rules]
    entry.add_file(
        file.sha256, file.path.name, file.format, "doubtful" if outcome.status == "doubtful" else file.status, rules
    )
    of_the_file = next(((hit.id, hit.message) for hit in file.rules if hit.severity == "doubt"), None)
    ids = [add(entry, p, file.sha256, verdicts, lab, of_the_file) for p in plan.new]
    proposals = [lab.get(p.item.owner, p.item.owner) for p in plan.new]
    doubtful = tuple(i for i, p in zip(ids, plan.new, strict=True) if of_the_file or id(p) in verdicts.doubts)
    if plan.icp is not None:
        for name in dict.fromkeys(proposals):
            entry.add_analysis(name, plan.icp)
    return replace(outcome, measurements=tuple(ids), proposals=tuple(dict.fromkeys(proposals)), doubtful=doubtful)
