"""What a lab hands in, matched to cells and proposals, judged, and recorded in one transaction.

A discharge belongs to the proposal it was handed in for, else to the one with the same composition, else it is
attached as a composition that the lab made unasked (``origin=lab``). Of a file, all that is new is recorded or
nothing; what is known already is never counted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from campaigns.intake.addition import Addition
from campaigns.intake.continuation import Continuation, order_of
from campaigns.intake.identity import Cells, Place
from campaigns.intake.ingested import FileOutcome, Ingested, compare_with_proposed, known_before, outcome_of
from campaigns.intake.matching import Matching, parsed, planned_process
from campaigns.intake.measurement import CheckedFile, RuleBroken, RuleHit, SampleInfo
from campaigns.intake.settlement import Item, Placed, settle
from campaigns.ledger.entry import Entry
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import Snapshot
from campaigns.workspace import Workspace
from drxnet.errors import MeasurementError
from drxnet.process import NOT_STATED


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
        plans, _ = _plans(campaign, files, campaign.state(), all_or_nothing, would="would be ")
        return Ingested(tuple(plan.outcome for plan in plans))
    with campaign.ledger.write("ingest") as entry:
        plans, addition = _plans(campaign, files, entry.before, all_or_nothing)
        done = Ingested(tuple(_record(entry, plan, addition) if plan.new else plan.outcome for plan in plans))
        if any(plan.new for plan in plans):
            addition.judge_again(entry)
        entry.note_refused(
            [{"name": o.name, "sha256": o.sha256, "rules": [hit.as_row() for hit in o.rules]} for o in done.refused]
        )
        entry.summary = done.summary
    again = addition.judged_again if done.measurements else ()
    return replace(done, comparisons=compare_with_proposed(campaign, done.measurements), judged_again=again)


def _plans(
    campaign: Workspace,
    files: Sequence[tuple[CheckedFile, SampleInfo]],
    state: Snapshot,
    all_or_nothing: bool,
    would: str = "",
) -> tuple[list[_Plan], Addition]:
    """Say of every file what becomes of it, and what is added with all of them.

    Files that continue another one are taken after those that do not, whatever the order they are handed in.
    """
    together = _HandIn(campaign, state, would)
    found = {i: together.plan(*files[i]) for i in sorted(range(len(files)), key=lambda i: order_of(*files[i]))}
    plans = [found[i] for i in range(len(files))]
    if all_or_nothing and any(plan.outcome.status == "refused" for plan in plans):
        for plan in plans:
            if plan.new:
                plan.outcome = replace(plan.outcome, status="left out")
                plan.new.clear()
    addition = Addition(campaign, state, [placed for plan in plans for placed in plan.new])
    for plan in plans:
        if plan.new:
            plan.outcome = _judged(plan, addition)
    return plans, addition


class _HandIn:
    """Files that are handed in together, each matched beside those before it."""

    def __init__(self, campaign: Workspace, state: Snapshot, would: str) -> None:
        self.state, self.would, self.usual = state, would, campaign.spec.conditions.process
        self.cells = Cells(state, campaign.ledger.profiles)
        self.recorded = {f.sha256: f.name for f in state.files}

    def plan(self, file: CheckedFile, sample: SampleInfo) -> _Plan:
        """Match the discharges of a file, or say why it cannot be recorded."""
        if file.sha256 in self.recorded:
            return _Plan(file, known_before(file, self.recorded[file.sha256], self.state, sample))
        icp, placed = None, list[Placed]()
        try:
            icp = None if sample.icp is None else parsed(sample.icp, "The composition as measured").formula
            test = Continuation(file, sample, self.cells)
            file, target = test.numbered()
            matching = Matching(self.state, self.cells, file.path.name, sample, target)
            if file.status == "refused":
                file = replace(file, notes=(*file.notes, *test.fitting(replace(matching, target=None))))
            else:
                base, one_cell = sample.cell or file.path.stem, _is_one_cell(file)
                placed = settle(self._items(file, matching), self.cells, base, one_cell=one_cell)
        except MeasurementError as error:
            message = str(error) if file.path.name in str(error) else f"{file.path.name}: {error}"
            hit = RuleHit(error.rule if isinstance(error, RuleBroken) else "P1", message, "error")
            file = replace(file, rules=(*file.rules, hit))
        outcome = outcome_of(file, placed, self.cells, self.would)
        new = [p for p in placed if p.known is None]
        for p in new:
            self.cells.claim(p.item.owner, p.cell, p.item.new, file.path.name)
            self.recorded[file.sha256] = file.path.name
        return _Plan(file, outcome, new, icp)

    def _items(self, file: CheckedFile, matching: Matching) -> list[Item]:
        """The discharges of a file with the proposal each was made for.

        What is stated of a cell goes before what its proposal says of the process, and that before what is usual.

        Raises:
            MeasurementError: one lacks its conditions, its composition, or is no discharge that a cell can give; or
                there is none.
        """
        items, flags = [], tuple(hit.id for hit in file.rules)
        sample, target = matching.sample, matching.target
        for discharge in file.discharges:
            where = f"{file.path.name} cycle {discharge.cycle}"
            if not discharge.is_measured:
                raise MeasurementError(f"{where}: no capacity per gram. Give the active mass and the current.")
            proposal_id, composition = matching.of(discharge)
            if target is not None:
                _refuse_another(proposal_id or composition, target)
            made = (sample.process or NOT_STATED).over(planned_process(self.state, proposal_id)).over(self.usual)
            new = discharge.as_measurement(composition, flags, made)
            try:
                check_physics(new)
            except MeasurementError as error:
                raise MeasurementError(f"{where}: {error}") from None
            label = target[1] if target is not None else discharge.cell or sample.cell
            stated = sample.current_ma_g is not None or discharge.provenance != "cycler"
            items.append(Item(proposal_id, label, new, where, stated))
        if not items:
            raise RuleBroken("P2", "holds no discharge to record.")
        return items


def _refuse_another(owner: str, target: Place) -> None:
    """Refuse a discharge that is handed in for another owner than that of the cell whose test it is of."""
    if owner != target[0]:
        raise MeasurementError(
            f"is handed in for {owner}, but cell {target[1]}, whose test it holds, belongs to {target[0]}. Correct one "
            "of them."
        )


def _is_one_cell(file: CheckedFile) -> bool:
    """Whether all discharges of a file are of one cell: those of a cycler or its sheet are; tables hold several."""
    return all(d.provenance in ("cycler", "sheet") for d in file.discharges)


def _judged(plan: _Plan, addition: Addition) -> FileOutcome:
    """Outcome of a plan with what is thought of its discharges among its rules."""
    rules, verdicts = list(plan.outcome.rules), addition.verdicts
    told = {("W8", "")}
    for p in plan.new:
        rule, message = verdicts.doubts.get(id(p), ("W8", verdicts.surprises.get(id(p), "")))
        if (rule, message) not in told:
            told.add((rule, message))
            rules.append(RuleHit(rule, f"{p.item.where}: {message}", "warning" if rule == "W8" else "doubt"))
    doubted = any(hit.severity == "doubt" for hit in rules)
    return replace(plan.outcome, rules=tuple(rules), status="doubtful" if doubted else "recorded")


def _record(entry: Entry, plan: _Plan, addition: Addition) -> FileOutcome:
    """Record a file with what is new of it."""
    file, outcome = plan.file, plan.outcome
    status = "doubtful" if outcome.status == "doubtful" else file.status
    entry.add_file(file.sha256, file.path.name, file.format, status, [hit.as_row() for hit in outcome.rules])
    of_the_file = next(((hit.id, hit.message) for hit in file.rules if hit.severity == "doubt"), None)
    ids = {addition.add(entry, p, file.sha256, of_the_file): p for p in plan.new}
    proposals = tuple(dict.fromkeys(addition.proposal_of(p.item) for p in plan.new))
    if plan.icp is not None:
        for name in proposals:
            entry.add_analysis(name, plan.icp)
    doubtful = tuple(name for name, p in ids.items() if of_the_file or id(p) in addition.verdicts.doubts)
    return replace(outcome, measurements=tuple(ids), proposals=proposals, doubtful=doubtful)
