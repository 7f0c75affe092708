"""Files that go on with the test of a cell: which cell that is, and the number of their first discharge."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from campaigns.intake.identity import Cells, Known, Place
from campaigns.intake.matching import Matching
from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.settlement import tells
from drxnet.errors import MeasurementError


def order_of(file: CheckedFile, sample: SampleInfo) -> int:
    """Key by which files are taken: those that continue another one after those that do not."""
    if sample.continues is None:
        return 1 if any(hit.id == "E13" for hit in file.rules) else 0
    start = file.span.first_cycle if file.span is not None else None
    return 2 + (start or 0)


class Continuation:
    """A file that may go on with the test of a cell."""

    def __init__(self, file: CheckedFile, sample: SampleInfo, cells: Cells) -> None:
        self.file, self.sample, self.cells = file, sample, cells
        self.errors = {hit.id for hit in file.rules if hit.severity == "error"}
        self.measured = [(d.cycle, d.as_measurement()) for d in file.discharges if d.is_measured]
        """Discharges that can be compared with others, with their numbers in the file."""

    def numbered(self) -> tuple[CheckedFile, Place | None]:
        """Number the discharges of a file that begins later in its test, where the cell tells; and name that cell.

        Raises:
            MeasurementError: it continues a cell that does not tell.
        """
        from campaigns.intake.validation import numbered_from

        target = self._continued() if self.sample.continues is not None else None
        if not self.file.discharges or self.errors - {"E13"}:
            return self.file, target
        if target is None and self.errors:
            target = self._recognised()
        number = None if target is None else self._first_number_in(target)
        return (self.file if number is None else numbered_from(self.file, number)), target

    def fitting(self, matching: Matching) -> list[str]:
        """One sentence for every cell whose next cycle the file begins with, where it is refused for beginning late."""
        if self.errors != {"E13"} or not self.file.discharges or (first := self.file.discharges[0].file_cycle) is None:
            return []
        try:
            proposal_id, composition = matching.of(self.file.discharges[0])
        except MeasurementError:
            return []
        owner = proposal_id or composition
        return [
            f"it begins with cycle {first}, which comes next in cell {cell} of {owner}: --continues {shlex.quote(cell)}"
            for cell in self.cells.labels(owner)
            if max((k.at.cycle for k in self.cells.of(owner, cell) if k.counts), default=None) == first - 1
        ]

    def _continued(self) -> Place:
        """Owner and label of the cell that the file is said to continue.

        Raises:
            MeasurementError: there is no such cell or file, or it is not clear which one is meant.
        """
        named = str(self.sample.continues)
        found = [(owner, named) for owner in self.cells.owners_of(named)]
        found = found or list(dict.fromkeys((k.owner, k.cell) for k in self.cells.of_file(Path(named).name)))
        if self.sample.proposal is not None:
            found = [pair for pair in found if pair[0] == self.sample.proposal] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise MeasurementError(
                f"{named!r} may be {' or '.join(f'cell {cell} of {owner}' for owner, cell in found)}. Say --proposal, "
                "or the name of the file that this one continues."
            )
        raise MeasurementError(
            f"continues {named!r}, but no cell of this label and no recorded file of this name is known. Hand in the "
            "beginning of the test first, or state --first-cycle N."
        )

    def _recognised(self) -> Place | None:
        """The cell of a file that begins late: by its label, else by discharges that are known already."""
        label, proposal = self.sample.cell, self.sample.proposal
        labelled = [o for o in self.cells.owners_of(label or "") if proposal in (None, o)]
        return (labelled[0], label) if label and len(labelled) == 1 else self._most_known()

    def _most_known(self) -> Place | None:
        """The cell of which most discharges are known; None where none is, or as many of another."""
        found: Counter[Place] = Counter()
        for _, new in self.measured:
            same = [k for k in self.cells.equals(new, any_cycle=True) if k.measured.charge_mah is not None]
            found.update({(k.owner, k.cell) for k in same if tells(k, self.sample.cell)})
        most = [place for place, number in found.items() if number == max(found.values())]
        return most[0] if len(most) == 1 else None

    def _first_number_in(self, target: Place) -> int | None:
        """Cycle number of the first discharge in a known cell; None where nothing tells.

        A withdrawn discharge may be one that the cell gave, or one that it never gave: both must tell the same.

        Raises:
            MeasurementError: nothing tells, and it is no cycler's file, which E13 refuses.
        """
        if self.sample.first_cycle is not None:  # what cyclers measured is counted from there already
            return self.file.discharges[0].cycle if self._is_of_cycler else self.sample.first_cycle
        given = [k for k in self.cells.of(*target) if not k.corrected]
        number = self._first_number(given)
        if number is not None and number == self._first_number([k for k in given if k.counts]):
            return number
        if not self._is_of_cycler:
            raise MeasurementError(
                f"continues {self.sample.continues}, and nothing tells the number of its first discharge. State "
                "--first-cycle N."
            )
        return None

    @property
    def _is_of_cycler(self) -> bool:
        return self.file.discharges[0].provenance == "cycler"

    def _first_number(self, known: Sequence[Known]) -> int | None:
        """Cycle number of the first discharge where the file goes on with certain others; None where nothing tells.

        Tables and sheets name it, the instrument's own numbers tell, else discharges that are known already, else,
        where it was stated that the file continues the cell, the last number that is known.
        """
        first = self.file.discharges[0].cycle
        if first > 1 and not self._is_of_cycler:
            return first
        if (own := self._own_number(known)) > 1:
            return own
        last = max([0, *(k.at.cycle for k in known)])
        overlapping = [n for n in range(1, last + 1) if self._fits(n, known)]
        if len(overlapping) == 1:
            return overlapping[0]
        return last + first if self.sample.continues is not None and known else None

    def _own_number(self, known: Sequence[Known]) -> int:
        """The instrument's own number of the first discharge, as it counts in a cell; 0 where it has none."""
        number = self.file.discharges[0].file_cycle
        offsets = {k.at.cycle - n for k in known if (n := k.measured.file_cycle) is not None}
        return 0 if number is None else number + (offsets.pop() if len(offsets) == 1 else 0)

    def _fits(self, number: int, known: Sequence[Known]) -> bool:
        """Whether, counted from a number, discharges of the file are those that are known, and none is another one."""
        shift = number - self.file.discharges[0].cycle
        at = {k.at.cycle: k for k in known}
        both = [self.cells.same(at[n + shift], new) for n, new in self.measured if n + shift in at]
        return bool(both) and all(both)
