"""Files that go on with the test of a cell: which cell that is, and the number of their first discharge."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.intake.identity import Cells, Known, Place
from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.ledger.records import (
    NewMeasurement,
    Snapshot,
)
from drxnet.errors import MeasurementError

if TYPE_CHECKING:
    pass

from campaigns.intake.matching import proposal_of
from campaigns.intake.settlement import tells


def comes_after(handed_in: tuple[CheckedFile, SampleInfo]) -> int:
    """Key by which files are taken: those that continue another one after those that do not."""
    file, sample = handed_in
    if sample.continues is None:
        return 1 if any(hit.id == "E13" for hit in file.rules) else 0
    start = file.span.first_cycle if file.span is not None else None
    return 2 + (start or 0)


def may_continue(file: CheckedFile, sample: SampleInfo, state: Snapshot, cells: Cells) -> list[str]:
    """The cells whose next cycle a file begins with, where it is refused for beginning late."""
    errors = {hit.id for hit in file.rules if hit.severity == "error"}
    if errors != {"E13"} or not file.discharges or (first := file.discharges[0].file_cycle) is None:
        return []
    try:
        proposal_id, composition = proposal_of(file.discharges[0], sample, state, cells, None, file.path.name)
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


def numbered(file: CheckedFile, sample: SampleInfo, cells: Cells) -> tuple[CheckedFile, Place | None]:
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
        found.update({(k.owner, k.cell) for k in same if k.charge_mah is not None and tells(k, label)})
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
    return [(d.cycle, d.as_measurement()) for d in file.discharges if d.is_measured]


def _fits(number: int, file: CheckedFile, known: Sequence[Known], cells: Cells) -> bool:
    """Whether, counted from a number, discharges of a file are those that are known, and none is another one."""
    shift = number - file.discharges[0].cycle
    at = {k.at.cycle: k for k in known}
    both = [cells.same(at[n + shift], new) for n, new in _measured(file) if n + shift in at]
    return bool(both) and all(both)
