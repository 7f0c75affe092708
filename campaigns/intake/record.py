"""What a lab hands in, matched to cells and proposals, judged, and recorded in one transaction.

A discharge belongs to the proposal it was handed in for, else to the one with the same composition, else it is
attached as a composition that the lab made unasked (``origin=lab``). Of a file, all that is new is recorded or
nothing; what is known already is never counted again.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from campaigns.intake.identity import Cells, Known, Lane, Place, lane_of, masses_differ
from campaigns.intake.judgement import Verdicts, Weighed, expectations, judge, weighed
from campaigns.intake.measurement import CheckedDischarge, CheckedFile, RuleHit, SampleInfo
from campaigns.ledger.ledger import Entry
from campaigns.ledger.physics import check_physics, faults_of_numbers
from campaigns.ledger.records import (
    CLEARED,
    CONFIRMED,
    DOUBTFUL,
    PENDING,
    MeasuredProfile,
    Measurement,
    NewMeasurement,
    Snapshot,
    State,
)
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.discharge import SAME_CURRENT, CyclingConditions, DischargeProfile
from drxnet.errors import CompositionError, MeasurementError, UsageError
from drxnet.process import FIELDS, NOT_STATED, Process, alike
from drxnet.progress import Progress, silent
from screening.estimates import same_conditions
from screening.quantities import Capacity

if TYPE_CHECKING:
    from campaigns.intake.readers.recording import ReadOptions
    from screening.goals import Rates

_log = logging.getLogger(__name__)

SAME_COMPOSITION = 0.011
"""Compositions this close in every element are one: files give amounts to two decimals (per formula unit)."""

FileStatus = Literal["recorded", "doubtful", "known", "refused", "left out"]
RECORDED: tuple[FileStatus, ...] = ("recorded", "doubtful")


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file."""

    name: str
    sha256: str
    format: str
    status: FileStatus
    """``doubtful`` files are recorded, but a named mistake would explain something in them; ``known`` ones change
    nothing; ``left out`` ones were good, but another file of the same batch was not."""

    rules: tuple[RuleHit, ...] = ()
    notes: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()
    """Proposals its discharges belong to."""

    measurements: tuple[str, ...] = ()
    """Ids under which they were recorded; empty in a dry run."""

    discharges: int = 0
    """New ones."""

    known: int = 0
    """Discharges that the ledger held before."""

    doubtful: tuple[str, ...] = ()
    """Measurements that wait to be confirmed or corrected, those recorded before too."""


@dataclass(frozen=True)
class Returned:
    """A returned capacity beside what was predicted when it was proposed."""

    measurement_id: str
    proposal_id: str
    composition: str
    current_ma_g: float
    capacity_mah_g: float
    predicted_mah_g_mean: float | None
    predicted_mah_g_std: float | None
    doubtful: bool = False


@dataclass(frozen=True)
class Ingested:
    """What became of everything that was handed in together."""

    files: tuple[FileOutcome, ...]
    comparisons: tuple[Returned, ...] = ()
    """First cycles at the campaign's two rates."""

    judged_again: tuple[str, ...] = ()
    """Sentences on measurements that were recorded before and are doubtful now, or no longer."""

    @property
    def refused(self) -> tuple[FileOutcome, ...]:
        """Files of which nothing was recorded because of what is in them."""
        return tuple(f for f in self.files if f.status == "refused")

    @property
    def measurements(self) -> tuple[str, ...]:
        """Ids of what was recorded."""
        return tuple(m for f in self.files for m in f.measurements)


@dataclass(frozen=True)
class _Item:
    """A discharge that is handed in, with the proposal it was made for."""

    proposal_id: str | None
    """None for a composition that nobody proposed."""

    owner: str
    """The proposal, else the composition."""

    label: str | None
    """Of its cell, where it was said."""

    new: NewMeasurement
    where: str
    current_stated: bool = True


@dataclass(frozen=True)
class _Placed:
    """A discharge with the cell it belongs to."""

    item: _Item
    cell: str
    known: Known | None = None
    """The same discharge, where the ledger holds it already."""


@dataclass
class _Plan:
    """What becomes of one file."""

    file: CheckedFile
    outcome: FileOutcome
    new: list[_Placed] = field(default_factory=list)
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
            _rejudge(entry, verdicts)
        entry.note_refused(
            [
                {"name": o.name, "sha256": o.sha256, "rules": [{"id": r.id, "message": r.message} for r in o.rules]}
                for o in outcomes
                if o.status == "refused"
            ]
        )
        entry.summary = _summary(outcomes)
    recorded = [m for o in outcomes for m in o.measurements]
    again = _judged_again(verdicts) if recorded else ()
    return Ingested(tuple(outcomes), compare_with_proposed(campaign, recorded), again)


def compare_with_proposed(campaign: Workspace, measurement_ids: Iterable[str]) -> tuple[Returned, ...]:
    """Set first cycles at the campaign's two rates beside what was predicted when they were proposed."""
    wanted = set(measurement_ids)
    if not wanted:
        return ()
    state, conditions = campaign.state(), campaign.spec.conditions
    rows = []
    for m in state.standing:
        rate = next((r for r in ("low", "high") if same_conditions(m.conditions, getattr(conditions, r))), None)
        if m.measurement_id not in wanted or rate is None:
            continue
        prediction = state.by_id[m.proposal_id].prediction
        said = prediction.value(Capacity(getattr(conditions, rate)).identity) if prediction is not None else None
        mean, std = (said.mean, said.std) if said is not None else (None, None)
        current = m.conditions.current_ma_g
        row = (m.measurement_id, m.proposal_id, m.composition, current, m.capacity_mah_g, mean, std, bool(m.doubt))
        rows.append(Returned(*row))
    return tuple(rows)


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
    order = sorted(range(len(files)), key=lambda i: _comes_after(files[i]))
    for i in order:
        file, sample = files[i]
        if file.sha256 in recorded:
            found[i] = _Plan(file, _known(file, recorded[file.sha256], state, sample))
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
    return plans, _judge(campaign, state, fresh)


def _comes_after(handed_in: tuple[CheckedFile, SampleInfo]) -> int:
    file, sample = handed_in
    if sample.continues is None:
        return 1 if any(hit.id == "E13" for hit in file.rules) else 0
    start = file.span.first_cycle if file.span is not None else None
    return 2 + (start or 0)


def _known(file: CheckedFile, name: str, state: Snapshot, sample: SampleInfo) -> FileOutcome:
    latest = [m for m in state.measurements if m.sha256 == file.sha256 and m.status != "superseded"]
    gone = [m for m in latest if m.status == "retracted"]
    note = f"recorded before, as {name}; nothing changed"
    if gone:
        note += f". {len(gone)} of its {len(latest)} discharges are withdrawn: {gone[0].withdrawn_reason}"
    if gone and gone == latest:
        note += (
            f". Where they can be corrected, do so: drx-screen supersede {shlex.quote(name)} --active-mass RECORDED "
            "TRUE --reason TEXT (or --current, --capacity, --proposal)"
        )
    proposals = tuple(dict.fromkeys(m.proposal_id for m in latest))
    if sample.proposal is not None and proposals and sample.proposal not in proposals:
        note += (
            f". It is recorded for {', '.join(proposals)}, not for {sample.proposal}; if that is wrong: drx-screen "
            f"supersede {shlex.quote(name)} --proposal {sample.proposal} --reason TEXT"
        )
    return FileOutcome(str(file.path), file.sha256, file.format, "known", notes=(note,), proposals=proposals)


def _planned(
    file: CheckedFile, sample: SampleInfo, state: Snapshot, cells: Cells, usual: Process, dry_run: bool
) -> _Plan:
    """Match the discharges of a file, or say why it cannot be recorded."""
    try:
        icp = None if sample.icp is None else _parsed(sample.icp, "The composition as measured").formula
        file, target = _numbered(file, sample, cells)
        if file.status == "refused":
            file = replace(file, notes=(*file.notes, *_may_continue(file, sample, state, cells)))
            return _Plan(file, _outcome(file, [], file.rules, cells, dry_run))
        items = _items(file, sample, state, cells, target, usual)
        if not items:
            raise MeasurementError("holds no discharge to record.")
        base = sample.cell or file.path.stem
        placed = _placed(items, cells, base, one_cell=_is_one_cell(file))
    except MeasurementError as error:
        message = str(error) if file.path.name in str(error) else f"{file.path.name}: {error}"
        rule = "P2" if "no discharge to record" in message else "P1"
        rules = (*file.rules, RuleHit(rule, message, "error"))
        return _Plan(file, _outcome(file, [], rules, cells, dry_run))
    outcome = _outcome(file, placed, file.rules, cells, dry_run)
    new = [p for p in placed if p.known is None]
    for p in new:
        cells.claim(p.item.owner, p.cell, p.item.new, file.path.name)
    return _Plan(file, outcome, new, icp)


def _may_continue(file: CheckedFile, sample: SampleInfo, state: Snapshot, cells: Cells) -> list[str]:
    """The cells whose next cycle a file begins with, where it is refused for beginning late."""
    errors = {hit.id for hit in file.rules if hit.severity == "error"}
    if errors != {"E13"} or not file.discharges or (first := file.discharges[0].file_cycle) is None:
        return []
    try:
        proposal_id, composition = _proposal(file.discharges[0], sample, state, cells, None, file.path.name)
    except MeasurementError:
        return []
    owner = proposal_id or composition
    fitting = [
        label
        for label in cells.labels(owner)
        if max((k.at.cycle for k in cells.of(owner, label) if k.counts), default=None) == first - 1
    ]
    return [
        f"it begins with cycle {first}, which comes next in cell {label} of {owner}: --continues {shlex.quote(label)}"
        for label in fitting
    ]


def _is_one_cell(file: CheckedFile) -> bool:
    """Whether all discharges of a file are of one cell: those of a cycler or its sheet are; tables hold several."""
    return all(d.provenance in ("cycler", "sheet") for d in file.discharges)


def _numbered(file: CheckedFile, sample: SampleInfo, cells: Cells) -> tuple[CheckedFile, Place | None]:
    """Number the discharges of a file that begins later in its test, where the cell tells; and name that cell.

    Raises:
        MeasurementError: it continues a cell that does not tell.
    """
    from campaigns.intake.validation import numbered_from

    target = _continued(sample, cells) if sample.continues is not None else None
    errors = {hit.id for hit in file.rules if hit.severity == "error"}
    if not file.discharges or errors - {"E13"}:
        return file, target
    if target is None and errors:
        target = _recognised(file, sample, cells)
    number = None if target is None else _first_number_in(target, file, sample, cells)
    return (file if number is None else numbered_from(file, number)), target


def _continued(sample: SampleInfo, cells: Cells) -> Place:
    """Owner and label of the cell that a file is said to continue.

    Raises:
        MeasurementError: there is no such cell or file, or it is not clear which one is meant.
    """
    named = str(sample.continues)
    found = [(owner, named) for owner in cells.owners_of(named)]
    found = found or list(dict.fromkeys((k.owner, k.cell) for k in cells.of_file(Path(named).name)))
    if sample.proposal is not None:
        found = [pair for pair in found if pair[0] == sample.proposal] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise MeasurementError(
            f"{named!r} may be {' or '.join(f'cell {cell} of {owner}' for owner, cell in found)}. Say --proposal, or "
            "the name of the file that this one continues."
        )
    raise MeasurementError(
        f"continues {named!r}, but no cell of this label and no recorded file of this name is known. Hand in the "
        "beginning of the test first, or state --first-cycle N."
    )


def _recognised(file: CheckedFile, sample: SampleInfo, cells: Cells) -> Place | None:
    """The cell of a file that begins late: by its label, else by discharges that are known already."""
    labelled = [o for o in cells.owners_of(sample.cell or "") if sample.proposal in (None, o)]
    if sample.cell and len(labelled) == 1:
        return labelled[0], sample.cell
    return _most_known(file, sample.cell, cells)


def _most_known(file: CheckedFile, label: str | None, cells: Cells) -> Place | None:
    """The cell of which most discharges of a file are known; None where none is, or as many of another."""
    found: Counter[Place] = Counter()
    for _, new in _measured(file):
        same = cells.equals(new, any_cycle=True)
        found.update({(k.owner, k.cell) for k in same if k.charge_mah is not None and _tells(k, label)})
    pairs = [pair for pair, count in found.items() if count == max(found.values())]
    return pairs[0] if len(pairs) == 1 else None


def _first_number_in(target: Place, file: CheckedFile, sample: SampleInfo, cells: Cells) -> int | None:
    """Cycle number of the first discharge of a file that goes on with a known cell; None where nothing tells.

    A withdrawn discharge may be one that the cell gave, or one that it never gave: both must tell the same.

    Raises:
        MeasurementError: nothing tells, and it is no cycler's file, which E13 refuses.
    """
    if sample.first_cycle is not None:  # what cyclers measured is counted from there already
        return file.discharges[0].cycle if _is_of_cycler(file) else sample.first_cycle
    given = [k for k in cells.of(*target) if not k.corrected]
    standing = [k for k in given if k.counts]
    stated = sample.continues is not None
    number = _first_number(file, given, cells, stated=stated)
    if number is not None and number == _first_number(file, standing, cells, stated=stated):
        return number
    if not _is_of_cycler(file):
        raise MeasurementError(
            f"continues {sample.continues}, and nothing tells the number of its first discharge. State --first-cycle N."
        )
    return None


def _is_of_cycler(file: CheckedFile) -> bool:
    return file.discharges[0].provenance == "cycler"


def _first_number(file: CheckedFile, known: Sequence[Known], cells: Cells, *, stated: bool) -> int | None:
    """Cycle number of the first discharge of a file that goes on with certain others; None where nothing tells.

    Tables and sheets name it, the instrument's own numbers tell, else discharges that are known already, else, where it
    was stated that the file continues the cell, the last number that is known.
    """
    first = file.discharges[0].cycle
    if first > 1 and not _is_of_cycler(file):
        return first
    if (own := _own_number(file, known)) > 1:
        return own
    last = max([0, *(k.at.cycle for k in known)])
    overlapping = [n for n in range(1, last + 1) if _fits(n, file, known, cells)]
    if len(overlapping) == 1:
        return overlapping[0]
    return last + first if stated and known else None


def _own_number(file: CheckedFile, known: Sequence[Known]) -> int:
    """The instrument's own number of the first discharge, as it counts in a cell; 0 where it has none."""
    number = file.discharges[0].file_cycle
    offsets = {k.at.cycle - k.file_cycle for k in known if k.file_cycle is not None}
    return 0 if number is None else number + (offsets.pop() if len(offsets) == 1 else 0)


def _measured(file: CheckedFile) -> list[tuple[int, NewMeasurement]]:
    """Discharges of a file that can be compared with others, with their numbers in it."""
    return [
        (d.cycle, _new("", d, ())) for d in file.discharges if d.conditions is not None and d.capacity_mah_g is not None
    ]


def _fits(number: int, file: CheckedFile, known: Sequence[Known], cells: Cells) -> bool:
    """Whether, counted from a number, discharges of a file are those that are known, and none is another one."""
    shift = number - file.discharges[0].cycle
    at = {k.at.cycle: k for k in known}
    both = [cells.same(at[n + shift], new) for n, new in _measured(file) if n + shift in at]
    return bool(both) and all(both)


def _items(
    file: CheckedFile,
    sample: SampleInfo,
    state: Snapshot,
    cells: Cells,
    target: Place | None,
    usual: Process,
) -> list[_Item]:
    """The discharges of a file with the proposal each was made for.

    What is stated of a cell goes before what its proposal says of the process, and that before what is usual.

    Raises:
        MeasurementError: one lacks its conditions, its composition, or is no discharge that a cell can give.
    """
    items, flags = [], tuple(hit.id for hit in file.rules)
    for discharge in file.discharges:
        where = f"{file.path.name} cycle {discharge.cycle}"
        if discharge.conditions is None or discharge.capacity_mah_g is None:
            raise MeasurementError(f"{where}: no capacity per gram. Give the active mass and the current.")
        proposal_id, composition = _proposal(discharge, sample, state, cells, target, file.path.name)
        owner = proposal_id or composition
        label = discharge.cell or sample.cell
        if target is not None:
            if owner != target[0]:
                raise MeasurementError(
                    f"is handed in for {owner}, but cell {target[1]}, whose test it holds, belongs to {target[0]}. "
                    "Correct one of them."
                )
            label = target[1]
        made = (sample.process or NOT_STATED).over(_planned_process(state, proposal_id)).over(usual)
        new = _new(composition, discharge, flags, made)
        try:
            check_physics(new)
        except MeasurementError as error:
            raise MeasurementError(f"{where}: {error}") from None
        stated = sample.current_ma_g is not None or discharge.provenance != "cycler"
        items.append(_Item(proposal_id, owner, label, new, where, stated))
    return items


def _placed(items: Sequence[_Item], cells: Cells, base: str, *, one_cell: bool = False) -> list[_Placed]:
    """Find the cell of every discharge, and those that are known already.

    Args:
        items: what is handed in together.
        cells: that are spoken for.
        base: label of a cell that has none yet.
        one_cell: whether all of an owner are of one cell.

    Raises:
        MeasurementError: a cell has another discharge under the same conditions, or they belong to another proposal.
    """
    groups: dict[tuple[str, object], list[int]] = {}
    lanes: dict[str, list[Lane]] = {}
    for i, item in enumerate(items):
        if item.label is not None:
            groups.setdefault((item.owner, item.label), []).append(i)
        elif one_cell:
            groups.setdefault((item.owner, None), []).append(i)
        else:
            mine = lanes.setdefault(item.owner, [])
            lane = lane_of(mine, item.new.conditions, lambda mine=mine: str(len(mine)))  # type: ignore[misc]
            groups.setdefault((item.owner, (lane.label,)), []).append(i)
    placed: dict[int, _Placed] = {}
    taken: dict[str, list[str]] = {}
    for (owner, key), numbers in groups.items():
        label = key if isinstance(key, str) else None
        here = [items[i] for i in numbers]
        settled = _settled(here, label, base, cells, taken.setdefault(owner, []), part=one_cell and key is None)
        placed |= dict(zip(numbers, settled, strict=True))
        taken[owner] += [p.cell for p in settled]
    return [placed[i] for i in range(len(items))]


def _settled(
    items: Sequence[_Item],
    label: str | None,
    base: str,
    cells: Cells,
    taken: Sequence[str],
    *,
    part: bool = False,
) -> list[_Placed]:
    """Find the cell of discharges that belong to one, and say which of them are known.

    With `part` they are all that a cycler's file without a label holds, which may be a part of a longer test.
    """
    owner = items[0].owner
    same = [_equals(item, label, cells) for item in items]
    found = _cell_of_known(items, owner, label, chain.from_iterable(same), cells)
    cell = found or label or _free_label(base, {*cells.labels(owner), *taken})
    settled = [_settled_one(item, cell, known) for item, known in zip(items, same, strict=True)]
    _refuse_of_another([p.item for p in settled if p.known is None], owner, cells)
    if part and found is None:
        _refuse_uncertain(items, owner, cells)
    if (conflict := _conflict(items, owner, cell, cells)) is not None:
        raise MeasurementError(conflict)
    _refuse_repeats(settled)
    _refuse_two_cells(settled, cell, cells)
    _refuse_other_mass(settled)
    return settled


def _equals(item: _Item, label: str | None, cells: Cells) -> list[Known]:
    """Known discharges of its owner that are this one: capacities alone are another cell's where the labels differ."""
    return [k for k in cells.equals(item.new, item.owner) if label in (None, k.cell) or _has_curves(k, item)]


def _settled_one(item: _Item, cell: str, same: Sequence[Known]) -> _Placed:
    """A discharge of a cell: known where an equal one is of that cell or, by its curve, of any other."""
    equal = [k for k in same if k.cell == cell or _has_curves(k, item)]
    if not equal:
        return _Placed(item, cell)
    known = min(equal, key=lambda k: (not k.counts, k.cell != cell))
    return _Placed(item, known.cell, known)


def _cell_of_known(
    items: Sequence[_Item], owner: str, label: str | None, same: Iterable[Known], cells: Cells
) -> str | None:
    """The cell of which some discharges are known, so that all may be of it; None where there is none.

    Those that stand tell first, by their curves before their capacities.

    Raises:
        MeasurementError: they are, by their curves or their label, of a cell that has others.
    """
    telling = [k for k in same if _tells(k, label)]
    telling.sort(key=lambda k: (k.counts, k.profile() is not None), reverse=True)
    best: dict[str, Known] = {}
    for k in telling:
        best.setdefault(k.cell, k)
    for candidate, k in best.items():
        conflict = _conflict(items, owner, candidate, cells)
        if conflict is None:
            return candidate
        if candidate == label or k.profile() is not None:
            raise MeasurementError(conflict)
    return None


def _tells(known: Known, label: str | None) -> bool:
    """Whether a known discharge tells a cell beside a label: a withdrawn one may be so as it was of another cell."""
    return known.counts or label in (None, known.cell)


def _free_label(base: str, taken: Collection[str]) -> str:
    number, label = 1, base
    while label in taken:
        number += 1
        label = f"{base} #{number}"
    return label


def _has_curves(known: Known, item: _Item) -> bool:
    """Whether two discharges are compared by their curves, and not by a capacity alone."""
    return known.profile() is not None and item.new.profile is not None


def _conflict(items: Sequence[_Item], owner: str, cell: str, cells: Cells) -> str | None:
    """What speaks against discharges being of a cell: another one that it gave under the same conditions."""
    known = [k for k in cells.of(owner, cell) if k.counts]
    for item in items:
        at = item.new.conditions
        for k in known:
            if k.at.cycle == at.cycle and same_conditions(k.at, at) and not cells.same(k, item.new):
                return (
                    f"{item.where}: cell {cell} of {owner} has this discharge already ({k.at}): {k.by} gives "
                    f"{k.capacity_mah_g:.4g} mAh/g, this one {item.new.capacity_mah_g:.4g}. Give another cell another "
                    "label; correct a wrong mass or current with drx-screen supersede; retract what should not count."
                )
    return None


def _refuse_uncertain(items: Sequence[_Item], owner: str, cells: Cells) -> None:
    """Refuse later cycles without a label where an earlier part of the same test may be recorded already.

    Raises:
        MeasurementError: naming the cells that they may go on with.
    """
    first = min(item.new.conditions.cycle for item in items)
    wanted = replace(items[0].new.conditions, cycle=1)

    def is_earlier(known: Known) -> bool:
        return known.counts and known.at.cycle < first and same_conditions(replace(known.at, cycle=1), wanted)

    earlier = [
        cell
        for cell in cells.labels(owner)
        if any(map(is_earlier, cells.of(owner, cell))) and _conflict(items, owner, cell, cells) is None
    ]
    if earlier:
        raise MeasurementError(
            f"holds cycles from {first} on, and cell {' or '.join(earlier)} of {owner} has earlier ones at this rate. "
            f"Say which it is: --continues {shlex.quote(earlier[0])} where it goes on with that cell, --cell NAME (a "
            "new label) where it is another one."
        )


def _refuse_repeats(settled: Sequence[_Placed]) -> None:
    """Refuse two different discharges of one cell under the same conditions in one hand-in."""
    seen: dict[CyclingConditions, _Placed] = {}
    for p in settled:
        other = seen.setdefault(p.item.new.conditions, p)
        if other is not p:
            raise MeasurementError(
                f"{p.item.where}: cell {p.cell} of {p.item.owner} has this discharge already "
                f"({p.item.new.conditions}): {other.item.where}. Give the cell another label."
            )


def _refuse_two_cells(settled: Sequence[_Placed], cell: str, cells: Cells) -> None:
    """Refuse more cycles of a test that is recorded under two labels, or may be.

    Raises:
        MeasurementError: naming what to say or to put together first.
    """
    elsewhere = [k for k in (p.known for p in settled) if k is not None and k.cell != cell]
    new = next((p.item for p in settled if p.known is None), None)
    if elsewhere and new is not None:
        _refuse_beside_standing(elsewhere, new, cell)
        _refuse_beside_withdrawn(elsewhere, new, [p.item for p in settled], cell, cells)


def _refuse_beside_standing(elsewhere: Sequence[Known], new: _Item, cell: str) -> None:
    """Refuse a discharge beside some that stand in another cell."""
    apart = {k.by: k.cell for k in elsewhere if k.counts}
    if apart:
        others = " and of cell ".join(dict.fromkeys(apart.values()))
        raise MeasurementError(
            f"{new.where}: is beside discharges of cell {cell} and of cell {others} of {new.owner}, so that nobody can "
            f"say whose it is. Where they are one cell: drx-screen supersede {' '.join(apart)} --cell "
            f"{shlex.quote(cell)} --reason TEXT; where they are two, hand in the new cycles of each apart, with "
            "--continues CELL."
        )


def _refuse_beside_withdrawn(
    gone: Sequence[Known], new: _Item, items: Sequence[_Item], cell: str, cells: Cells
) -> None:
    """Refuse a discharge beside withdrawn ones of another cell that has others that stand, where it may be of that."""
    for other, k in {k.cell: k for k in gone}.items():
        stands = any(o.counts for o in cells.of(new.owner, other))
        if stands and _conflict(items, new.owner, other, cells) is None:
            raise MeasurementError(
                f"{new.where}: is beside {k.by}, {k.says}, of cell {other} of {new.owner}, and may be of that cell as "
                f"well. Where it is: --cell {shlex.quote(other)}. Where it is not: drx-screen supersede {k.by} --cell "
                f"{shlex.quote(cell)} --reason TEXT, and retract that again if it should not count."
            )


def _refuse_other_mass(settled: Sequence[_Placed]) -> None:
    """Refuse more cycles of a cell by another mass than those it has."""
    differing = next((p for p in settled if p.known is not None and masses_differ(p.known, p.item.new)), None)
    if differing is None or all(p.known is not None for p in settled):
        return
    known, new = differing.known, differing.item.new
    assert known is not None
    assert new.charge_mah is not None
    assert known.mass_mg is not None
    mass = new.charge_mah / new.capacity_mah_g * 1e3
    raise MeasurementError(
        f"{differing.item.where}: is {known.by}, which counts by {known.mass_mg:.4g} mg of active mass; {mass:.4g} mg "
        f"is given now. Hand in with {known.mass_mg:.4g} mg, or correct what is recorded first: drx-screen supersede "
        f"{known.by} --active-mass {known.mass_mg:.4g} {mass:.4g} --reason TEXT"
    )


def _refuse_of_another(items: Sequence[_Item], owner: str, cells: Cells) -> None:
    """Refuse discharges that another proposal has, withdrawn ones too: one discharge belongs to one."""
    by_charge = [item for item in items if item.new.charge_mah is not None]
    found = [(k, item) for item in by_charge for k in cells.equals(item.new) if _is_of_another(k, owner)]
    if found:
        k, item = max(found, key=lambda pair: pair[0].counts)
        gone, again = ("", "") if k.counts else (f", {k.says},", ", and retract that again if it should not count")
        raise MeasurementError(
            f"{item.where}: is the discharge {k.by}{gone} of {k.owner} (cell {k.cell}), to rounding; one discharge "
            f"belongs to one proposal. If it is {owner} after all: drx-screen supersede {k.by} --proposal {owner} "
            f"--reason TEXT{again}"
        )


def _is_of_another(known: Known, owner: str) -> bool:
    return known.owner != owner and not known.corrected and known.charge_mah is not None


def _proposal(
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
    return _matched(state, discharge.composition, sample.process or NOT_STATED, name)


def _owner_by_cell(discharge: CheckedDischarge, sample: SampleInfo, cells: Cells, target: Place | None) -> str | None:
    """Owner of the cell that a discharge is known to belong to, where nobody says what was made."""
    if target is not None:
        return target[0]
    if sample.cell is not None and len(owners := cells.owners_of(sample.cell)) == 1:
        return owners[0]
    if discharge.conditions is None or discharge.capacity_mah_g is None:
        return None
    owners = tuple({k.owner for k in cells.equals(_new("", discharge, ()))})
    return owners[0] if len(owners) == 1 else None


def _matched(state: Snapshot, composition: Composition, process: Process, where: str) -> tuple[str | None, str]:
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


def _planned_process(state: Snapshot, proposal_id: str | None) -> Process:
    """How the cells of a proposal are to be made."""
    return NOT_STATED if proposal_id is None else state.proposal(proposal_id).process


def _new(
    composition: str, discharge: CheckedDischarge, flags: tuple[str, ...], process: Process = NOT_STATED
) -> NewMeasurement:
    assert discharge.conditions is not None
    assert discharge.capacity_mah_g is not None
    return NewMeasurement(
        composition=composition,
        conditions=replace(discharge.conditions, process=process),
        capacity_mah_g=float(discharge.capacity_mah_g),
        profile=discharge.profile,
        sigma_mah_g=discharge.sigma_mah_g,
        provenance=discharge.provenance,
        flags=flags,
        charge_mah=discharge.capacity_mah,
        file_cycle=discharge.file_cycle,
        elapsed_s=discharge.elapsed_s,
        charge_top_v=discharge.charge_top_v,
    )


def _outcome(
    file: CheckedFile, placed: Sequence[_Placed], rules: tuple[RuleHit, ...], cells: Cells, dry_run: bool
) -> FileOutcome:
    new = [p for p in placed if p.known is None]
    status: FileStatus = "refused" if not placed else "recorded" if new else "known"
    would = "would be " if dry_run else ""
    unasked = dict.fromkeys(p.item.new.composition for p in new if p.item.proposal_id is None)
    notes = [
        *file.notes,
        *_extensions(placed, cells, would),
        *(f"{c} was never proposed; {would}attached as made by the lab (origin=lab)" for c in unasked),
    ]
    return FileOutcome(
        name=str(file.path),
        sha256=file.sha256,
        format=file.format,
        status=status,
        rules=rules,
        notes=tuple(notes),
        proposals=tuple(
            dict.fromkeys(p.item.proposal_id or ("new" if p.known is None else p.item.owner) for p in placed)
        ),
        discharges=len(new),
        known=len(placed) - len(new),
    )


def _extensions(placed: Sequence[_Placed], cells: Cells, would: str) -> list[str]:
    """One sentence for every cell that was known before."""
    by_cell: dict[Place, list[_Placed]] = {}
    for p in placed:
        by_cell.setdefault((p.item.owner, p.cell), []).append(p)
    said: list[str] = []
    for (owner, cell), mine in by_cell.items():
        where, new = f"cell {cell} of {owner}", [p for p in mine if p.known is None]
        known = [(p, p.known) for p in mine if p.known is not None]
        more = f"{_cycles_of(new)} {would}added" if new else ""
        if known:
            said += _of_known(where, known, more, would)
        elif new and cell in cells.labels(owner) and (before := cells.of(owner, cell)):
            said.append(f"goes on with {where} (known: {_ranges(k.at.cycle for k in before)}): {more}")
    return said


def _of_known(where: str, known: Sequence[tuple[_Placed, Known]], more: str, would: str) -> Iterator[str]:
    """Yield what there is to say of a cell some of whose discharges are known."""
    cycles = _cycles_of([p for p, _ in known])
    if more:
        yield f"extends {where}: {cycles} known already, {more}"
    else:
        ids = ", ".join(dict.fromkeys(k.by for _, k in known))
        yield f"known: {cycles} of {where} ({ids}); nothing {'would change' if would else 'changed'}"
    yield from (f"{k.by} of it is {k.says}" for _, k in known if k.says and not k.corrected)
    other = next((k for p, k in known if masses_differ(k, p.item.new)), None)
    if other is not None and other.mass_mg is not None:
        yield (
            f"it counts by {other.mass_mg:.4g} mg of active mass; if another one is right: drx-screen supersede "
            f"{other.by} --active-mass {other.mass_mg:.4g} TRUE --reason TEXT"
        )


def _cycles_of(placed: Iterable[_Placed]) -> str:
    return _ranges(p.item.new.conditions.cycle for p in placed)


def _ranges(cycles: Iterable[int]) -> str:
    """Such as ``cycle 3`` or ``cycles 1-3, 7``."""
    numbers = sorted(set(cycles))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"cycle{'s' if len(numbers) > 1 else ''} {said}"


# -- judging ---------------------------------------------------------------------------------------------


def _judge(campaign: Workspace, state: Snapshot, fresh: Sequence[_Placed], gone: Iterable[str] = ()) -> Verdicts:
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
    ids = [_add(entry, p, file.sha256, verdicts, lab, of_the_file) for p in plan.new]
    proposals = [lab.get(p.item.owner, p.item.owner) for p in plan.new]
    doubtful = tuple(i for i, p in zip(ids, plan.new, strict=True) if of_the_file or id(p) in verdicts.doubts)
    if plan.icp is not None:
        for name in dict.fromkeys(proposals):
            entry.add_analysis(name, plan.icp)
    return replace(outcome, measurements=tuple(ids), proposals=tuple(dict.fromkeys(proposals)), doubtful=doubtful)


def _add(
    entry: Entry,
    placed: _Placed,
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


def _rejudge(entry: Entry, verdicts: Verdicts) -> None:
    """Record what is thought now of measurements that were there before."""
    for key, (rule, reason) in verdicts.doubts.items():
        if isinstance(key, str):
            entry.judge(key, DOUBTFUL, rule, reason)
    for key, reason in verdicts.cleared.items():
        if isinstance(key, str):
            entry.judge(key, CLEARED, "", reason)


def _judged_again(verdicts: Verdicts) -> tuple[str, ...]:
    doubted = (
        f"{k}, recorded before, is doubtful now ({r}): {why}"
        for k, (r, why) in verdicts.doubts.items()
        if isinstance(k, str)
    )
    cleared = (f"{k}, recorded before, is no longer doubtful: {why}" for k, why in verdicts.cleared.items())
    return (*doubted, *cleared)


def judge_again(campaign: Workspace, entry: Entry, gone: Sequence[str] = ()) -> None:
    """Record what is thought of the measurements that are left once some are gone."""
    _rejudge(entry, _judge(campaign, entry.before, [], gone=gone))


def _summary(outcomes: Sequence[FileOutcome]) -> str:
    recorded = [o for o in outcomes if o.status in RECORDED]
    counts = [f"{sum(len(o.measurements) for o in recorded)} discharges of {len(recorded)} files"]
    if doubtful := sum(len(o.doubtful) for o in recorded):
        counts.append(f"{doubtful} doubtful")
    for status in ("known", "refused", "left out"):
        if number := sum(o.status == status for o in outcomes):
            counts.append(f"{number} {status}")
    return ", ".join(counts)


# -- from Python -----------------------------------------------------------------------------------------

_KEYS = {
    "proposal_id",
    "composition",
    "current_ma_g",
    "capacity_mah_g",
    "v_low",
    "v_high",
    "cycle",
    "cell",
    "sigma_mah_g",
    "voltage_v",
    "profile_mah_g",
}


def rows_or_files(measurements: Any) -> tuple[list[Any], bool]:
    """Measurements as :meth:`campaigns.Campaign.add_measurements` takes them, as a list, and whether they are files."""
    if isinstance(measurements, Mapping | str | Path):
        measurements = [measurements]
    listed = measurements.to_dict("records") if hasattr(measurements, "to_dict") else list(measurements)
    return listed, bool(listed) and all(isinstance(m, str | Path) for m in listed)


def all_recorded(done: Ingested) -> tuple[str, ...]:
    """Ids of what was recorded, where nothing was refused.

    Raises:
        MeasurementError: a file was refused; the message holds the rules it breaks.
    """
    if done.refused:
        reasons = [str(rule) for file in done.refused for rule in file.rules]
        raise MeasurementError(f"{len(done.refused)} of {len(done.files)} files are refused. {' '.join(reasons)}")
    return done.measurements


def record_rows(campaign: Workspace, rows: Sequence[Mapping[str, Any]], *, confirmed: bool = False) -> tuple[str, ...]:
    """Record rows as :meth:`campaigns.Campaign.add_measurements` takes them, all or none.

    Args:
        campaign: to record them in.
        rows: of a discharge each.
        confirmed: whether whoever sends them vouches for them, so that none is doubted.

    Returns:
        Ids of what is new; what is known already adds nothing.

    Raises:
        MeasurementError: a row cannot be trusted.
        UsageError: an unknown key or proposal.
    """
    if not rows:
        raise UsageError("No measurement to add.")
    with campaign.ledger.write("ingest") as entry:
        state = entry.before
        items = [_item(campaign, state, row, f"Measurement {number}") for number, row in enumerate(rows, start=1)]
        cells = Cells(state, lambda listed: [m.profile for m in campaign.ledger.profiles(listed)])
        new_ones = [p for p in _placed_one_by_one(items, cells) if p.known is None]
        verdicts = _judge(campaign, state, new_ones)
        ids = (_add_confirmed if confirmed else _add_judged)(entry, new_ones, verdicts)
        entry.summary = f"{len(ids)} discharges from Python"
    if len(ids) < len(items):
        _log.warning("%d of %d rows are known already; they add nothing.", len(items) - len(ids), len(items))
    return tuple(ids)


def _item(campaign: Workspace, state: Snapshot, row: Mapping[str, Any], where: str) -> _Item:
    proposal_id, new = _row(campaign, state, row, where)
    label = str(row["cell"]) if _given(row, "cell") else None
    return _Item(proposal_id, proposal_id or new.composition, label, new, where)


def _add_judged(entry: Entry, placed: Sequence[_Placed], verdicts: Verdicts) -> list[str]:
    """Record discharges with what is thought of them, and of others beside them."""
    lab: dict[str, str] = {}
    ids = [_add(entry, p, None, verdicts, lab) for p in placed]
    if ids:
        _rejudge(entry, verdicts)
    return ids


def _add_confirmed(entry: Entry, placed: Sequence[_Placed], verdicts: Verdicts) -> list[str]:
    """Record discharges that somebody vouches for, whatever is thought of them."""
    lab: dict[str, str] = {}
    ids = [_add(entry, p, None, Verdicts(), lab) for p in placed]
    for name, p in zip(ids, placed, strict=True):
        if id(p) in verdicts.doubts:
            entry.judge(name, CONFIRMED, "", "vouched for by whoever sent it")
    return ids


def _placed_one_by_one(items: Sequence[_Item], cells: Cells) -> list[_Placed]:
    """Place rows; a row that says the same as one before it, or as the ledger does, is known."""
    first: dict[int, int] = {}
    """Row -> the first one that says the same."""
    for i, item in enumerate(items):
        first[i] = next((j for j in range(i) if first[j] == j and _says_the_same(items[j], item)), i)
    placed: dict[int, _Placed] = {}
    for with_label in (True, False):
        group = [i for i, item in enumerate(items) if first[i] == i and (item.label is not None) is with_label]
        found = _placed([items[i] for i in group], cells, "cell")
        for p in found:
            if p.known is None:
                cells.claim(p.item.owner, p.cell, p.item.new, p.item.where)
        placed |= dict(zip(group, found, strict=True))
    for i, j in first.items():
        if i != j:
            known = placed[j].known or next(k for k in cells.equals(items[i].new, items[i].owner))
            placed[i] = _Placed(items[i], placed[j].cell, known)
    return [placed[i] for i in range(len(items))]


def _says_the_same(one: _Item, other: _Item) -> bool:
    """Whether two rows are one, sent twice."""
    a, b = one.new, other.new
    if (one.owner, one.label) != (other.owner, other.label):
        return False
    if (a.conditions.bare, a.capacity_mah_g) != (b.conditions.bare, b.capacity_mah_g):
        return False
    if a.profile is None or b.profile is None:
        return a.profile is b.profile
    return np.array_equal(a.profile.capacity_mah_g, b.profile.capacity_mah_g)


def supersede(
    campaign: Workspace,
    measurement_ids: Sequence[str],
    reason: str,
    changes: Mapping[str, Any] | None = None,
    *,
    scale: float = 1.0,
) -> tuple[str, ...]:
    """Record corrected measurements in place of others, all or none, and give back their ids.

    Args:
        campaign: that they belong to.
        measurement_ids: of measurements that are valid or retracted.
        reason: why.
        changes: keys of :meth:`~campaigns.campaign.Campaign.add_measurements` that are different now.
        scale: factor on all that is per gram, for an active mass that was wrong: recorded by true mass. The current
            becomes the campaign's low or high rate where it comes within 5 % of it, as for cycler files.

    Raises:
        UsageError: unknown or superseded already, an unknown key, nothing to change, or no reason.
        MeasurementError: the new values cannot be trusted.
    """
    changes = dict(changes or {})
    _check_change(changes, scale)
    names = list(dict.fromkeys(name.upper() for name in measurement_ids))
    with campaign.ledger.write("supersede") as entry:
        state = entry.before
        correctable = {m.measurement_id: m for m in state.measurements if m.status != "superseded"}
        for name in names:
            if name not in correctable:
                entry.withdraw(name, reason)  # says what is wrong with it
        others = replace(state, measurements=tuple(m for m in state.measurements if m.measurement_id not in names))
        cells = Cells(others, lambda listed: [m.profile for m in campaign.ledger.profiles(listed)])
        placed = []
        for stored in campaign.ledger.profiles([correctable[name] for name in names]):
            p = _corrected(campaign, state, stored, changes, scale)
            if (conflict := _repeat(p.item, p.cell, cells)) is not None:
                raise MeasurementError(conflict)
            cells.claim(p.item.owner, p.cell, p.item.new, p.item.where)
            placed.append(p)
        verdicts = _judge(campaign, state, placed, gone=names)
        verdicts.doubts.clear()  # what a person corrects is what the person says
        successors, lab = [], dict[str, str]()
        for name, p in zip(names, placed, strict=True):
            old = correctable[name]
            successor = _add(entry, p, old.sha256, verdicts, lab, _as_doubtful_as(old, p.item))
            entry.withdraw(name, reason, superseded_by=successor)
            successors.append(successor)
        _rejudge(entry, verdicts)
        pairs = ", ".join(f"{old} by {new}" for old, new in zip(names, successors, strict=True))
        entry.summary = f"{pairs}: {reason}"
    return tuple(successors)


def _check_change(changes: Mapping[str, Any], scale: float) -> None:
    if not changes and scale == 1.0:
        raise UsageError("Say what is different now: nothing is.")
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"Capacities are scaled by a positive number. Got {scale:g}.")


def _corrected(
    campaign: Workspace, state: Snapshot, stored: MeasuredProfile, changes: Mapping[str, Any], scale: float
) -> _Placed:
    """A measurement as it should have been, with the cell that it belongs to then."""
    old = stored.measurement
    row = _corrected_row(old, stored.profile, changes, scale)
    if scale != 1.0 and "current_ma_g" not in changes:
        row["current_ma_g"] = _nominal(old.conditions.current_ma_g * scale, campaign.spec.conditions)
    proposal_id, new = _row(campaign, state, row, old.measurement_id)
    new = replace(
        new,
        provenance=old.provenance,
        flags=tuple(flag for flag in old.flags if flag != "W8"),
        charge_mah=old.charge_mah,
        file_cycle=old.file_cycle,
        elapsed_s=old.elapsed_s,
        charge_top_v=old.charge_top_v,
    )
    cell = str(changes.get("cell", old.cell))
    return _Placed(_Item(proposal_id, proposal_id or new.composition, cell, new, old.measurement_id), cell)


def _as_doubtful_as(old: Measurement, item: _Item) -> tuple[str, str] | None:
    """Doubt that a correction leaves: where it changes nothing that the doubt could rest on."""
    same = (
        old.conditions == item.new.conditions
        and math.isclose(old.capacity_mah_g, item.new.capacity_mah_g)
        and old.proposal_id == item.proposal_id
    )
    return (old.verdict.rule, old.doubt) if same and old.doubt and old.verdict is not None else None


def _repeat(item: _Item, cell: str, cells: Cells) -> str | None:
    """What speaks against a correction: the cell has a discharge under these conditions already."""
    at = item.new.conditions
    for k in cells.of(item.owner, cell):
        if k.counts and k.at.bare == at.bare:
            return (
                f"{item.where}: cell {cell} of {item.owner} has this discharge already ({at}): {k.by}. Retract that "
                "one first, or give the cell another label."
            )
    return None


def _corrected_row(
    old: Measurement, profile: DischargeProfile | None, changes: Mapping[str, Any], scale: float
) -> dict[str, Any]:
    """Row of a measurement as it should have been; the profile follows the capacity."""
    capacity = float(changes.get("capacity_mah_g", old.capacity_mah_g * scale))
    factor = capacity / old.capacity_mah_g if old.capacity_mah_g else 1.0
    row: dict[str, Any] = {
        "proposal_id": old.proposal_id,
        "current_ma_g": old.conditions.current_ma_g,
        "v_low": old.conditions.v_low,
        "v_high": old.conditions.v_high,
        "cycle": old.conditions.cycle,
        **old.conditions.process.row(),
        "sigma_mah_g": None if old.sigma_mah_g is None else old.sigma_mah_g * factor,
    }
    if profile is not None:
        row |= {"voltage_v": profile.voltage_v, "profile_mah_g": profile.capacity_mah_g * factor}
    if "composition" in changes:
        del row["proposal_id"]
    return {**row, **changes, "capacity_mah_g": capacity}


def _nominal(current_ma_g: float, conditions: Rates) -> float:
    """The campaign's rate that a measured current stands for (mA/g), or the current itself where it is neither."""
    rates = (conditions.low_current_ma_g, conditions.high_current_ma_g)
    nearest = min(rates, key=lambda rate: abs(current_ma_g / rate - 1))
    return nearest if abs(current_ma_g / nearest - 1) <= SAME_CURRENT else current_ma_g


def _row(campaign: Workspace, state: Snapshot, row: Mapping[str, Any], where: str) -> tuple[str | None, NewMeasurement]:
    known = {*_KEYS, *FIELDS}
    unknown = sorted(set(row) - known)
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    try:
        said = Process.of({name: row[name] for name in FIELDS if _given(row, name)})
    except ValueError as error:
        raise MeasurementError(f"{where}: {error}") from None
    proposal_id, formula = _made(state, row, said, where)
    window = campaign.spec.conditions
    try:
        conditions = CyclingConditions(
            float(row["current_ma_g"]),
            float(row["v_low"]) if _given(row, "v_low") else window.v_low,
            float(row["v_high"]) if _given(row, "v_high") else window.v_high,
            _whole(row["cycle"]) if _given(row, "cycle") else 1,
            said.over(_planned_process(state, proposal_id)).over(window.process),
        )
        capacity = float(row["capacity_mah_g"])
        profile = None
        if _given(row, "voltage_v"):
            profile = DischargeProfile(row["voltage_v"], row["profile_mah_g"])
    except KeyError as error:
        raise UsageError(f"{where}: {error} is missing.") from None
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{where} ({formula}): {error}") from None
    if profile is not None and abs(profile.total_capacity_mah_g - capacity) > max(5.0, 0.05 * capacity):
        raise MeasurementError(
            f"{where} ({formula}): the profile ends at {profile.total_capacity_mah_g:.1f} mAh/g and the capacity is "
            f"{capacity:.1f}. They must agree."
        )
    sigma = float(row["sigma_mah_g"]) if _given(row, "sigma_mah_g") else None
    new = NewMeasurement(formula, conditions, capacity, profile, sigma, "python")
    try:
        check_physics(new)
    except MeasurementError as error:
        raise MeasurementError(f"{where} ({formula}): {str(error).removeprefix(f'{formula}: ')}") from None
    return proposal_id, new


def _made(state: Snapshot, row: Mapping[str, Any], said: Process, where: str) -> tuple[str | None, str]:
    """Proposal (None: nobody proposed it) and composition of a row."""
    if _given(row, "proposal_id"):
        proposal = state.proposal(str(row["proposal_id"]))
        return proposal.proposal_id, proposal.composition
    if _given(row, "composition"):
        return _matched(state, _parsed(row["composition"], where), said, where)
    raise UsageError(f"{where}: give proposal_id or composition.")


def _whole(value: Any) -> int:
    """A cycle number, which is whole.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not number.is_integer():
        raise ValueError(f"A cycle is a whole number. Got {value}.")
    return int(number)


def _given(row: Mapping[str, Any], key: str) -> bool:
    value = row.get(key)
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and not (isinstance(value, str) and not value.strip())


def _parsed(formula: Any, where: str) -> Composition:
    try:
        return Composition.parse(str(formula))
    except CompositionError as error:
        raise MeasurementError(f"{where}: {error}") from None


def check_files(
    campaign: Workspace | None,
    paths: Sequence[Path],
    *,
    table: Path | None = None,
    otherwise: SampleInfo | None = None,
    options: ReadOptions | None = None,
    progress: Progress = silent,
) -> list[tuple[CheckedFile, SampleInfo]]:
    """Read and check files against the validation rules.

    Args:
        campaign: whose proposals samples and names of files may name; None to know of none.
        paths: of files and of folders, whose files are taken in the order of their names.
        table: sample table, what the lab says of single files.
        otherwise: what it says of all that the table leaves open.
        options: what the user settles where files are ambiguous.
        progress: told of files, or of how much of a single one is read.

    Raises:
        UsageError: a path does not exist, or a sample names an unknown proposal.
        ConfigurationError: the sample table is wrong.
    """
    from campaigns.intake.samples import read_samples
    from campaigns.intake.validation import check_file, check_replicates

    listed = listed_files(paths, table)
    said = read_samples(table) if table else None
    stated, state = otherwise or SampleInfo(), None if campaign is None else campaign.state()
    checked = []
    for done, path in enumerate(listed, start=1):
        sample, hit = stated if said is None else said.for_file(path, stated), None
        if state is not None:
            sample, hit = _named(path, sample, state)
            sample = sample_for(state, sample)
        file = check_file(path, sample, options, progress if len(listed) == 1 else silent)
        checked.append((_with_hit(file, hit), sample))
        progress(done, len(listed))
    return list(check_replicates(checked))


def _named(path: Path, sample: SampleInfo, state: Snapshot) -> tuple[SampleInfo, RuleHit | str | None]:
    """The sample with the proposal that the name of its file holds, and what is to be said about it."""
    from campaigns.intake.samples import proposal_in_name

    name = proposal_in_name(path)
    if name is None or name not in state.by_id:
        return sample, None
    if sample.proposal is None and sample.composition is None:
        return replace(sample, proposal=name), f"proposal {name}, as the name of the file says"
    if sample.proposal is not None and sample.proposal.upper() != name:
        message = f"{path.name}: the name of the file says {name}; table says {sample.proposal}. The table is used."
        return sample, RuleHit("W7", message, "warning")
    return sample, None


def _with_hit(file: CheckedFile, hit: RuleHit | str | None) -> CheckedFile:
    if isinstance(hit, RuleHit):
        return replace(file, rules=(*file.rules, hit))
    return replace(file, notes=(*file.notes, hit)) if hit else file


def listed_files(paths: Sequence[Path], table: Path | None = None) -> list[Path]:
    """Files that are handed in, folders by what is in them, without the sample table.

    Raises:
        UsageError: nothing there.
    """
    return [path for path in expanded(paths) if table is None or path.resolve() != table.resolve()]


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the files in them; hidden ones are left out.

    Raises:
        UsageError: nothing there.
    """
    listed: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            if not inside:
                raise UsageError(f"{path}: the folder holds no file.")
            listed += inside
        elif path.is_file():
            listed.append(path)
        else:
            raise UsageError(f"{path}: no such file.")
    return list(dict.fromkeys(listed))
