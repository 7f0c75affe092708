"""Check a measurement file against the rules, and hand over what passed.

An error quarantines the file: nothing of it may be recorded. A doubt has it recorded, not learned from until it is
confirmed. A warning is stored with the measurement. Every rule that is broken is named, not only the first. Each rule
is explained in :data:`~campaigns.intake.rules.RULES`, which is what ``drx-screen validate --explain`` prints; what is
checked, by kind of source, is in :mod:`campaigns.intake.checks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from campaigns.intake import readers
from campaigns.intake.checks.curves import check_curves
from campaigns.intake.checks.cycler import check_rows
from campaigns.intake.checks.drxtd import check_tests
from campaigns.intake.checks.summary import check_summary
from campaigns.intake.measurement import CheckedFile, RuleBroken, RuleHit, SampleInfo
from campaigns.intake.readers.recording import CyclerRows, DRXTDTests, ReadOptions, SummaryTable
from campaigns.intake.readers.unpacking import open_head
from campaigns.intake.rules import RULES, Hits
from drxnet.errors import MissingExtra
from drxnet.progress import Progress, silent

__all__ = ["RULES", "check_file", "check_replicates", "numbered_from"]


def check_file(
    path: str | Path,
    sample: SampleInfo | None = None,
    options: ReadOptions | None = None,
    progress: Progress = silent,
) -> CheckedFile:
    """Read a file of any known format, find its discharges and check them.

    Args:
        path: the file.
        sample: what the lab says about the cell.
        options: what the user settles where the file is ambiguous.
        progress: told how much of a large file is read.

    Returns:
        The checked file; a file that cannot be read is refused with E9 (or E8, E10), not raised.

    Raises:
        OSError: the file is not there or cannot be opened.
    """
    path = Path(path)
    sample = sample or SampleInfo()
    digest = _sha256(path)
    name = "unknown"
    hits = Hits()
    span = None
    try:
        head = open_head(path)
        reader = readers.choose_for(head)
        name = reader.name
        recording = reader.read(head, options or ReadOptions(), progress)
        name = recording.format
        if isinstance(recording, CyclerRows):
            discharges, notes, span = check_rows(path.name, recording, sample, hits)
        elif isinstance(recording, DRXTDTests):
            discharges, notes = check_tests(path.name, recording, sample, hits)
        elif isinstance(recording, SummaryTable):
            discharges, notes = check_summary(path.name, recording, sample, hits)
        else:
            discharges, notes = check_curves(path.name, recording, sample, hits)
    except RuleBroken as error:
        message = str(error) if path.name in str(error) else f"{path.name}: {error}"
        hits.error(error.rule, message)
        discharges, notes = (), ()
    except MissingExtra as error:
        hits.error("E9", str(error))
        discharges, notes = (), ()
    return CheckedFile(path, digest, name, hits.listed(), discharges, notes, span)


def numbered_from(checked: CheckedFile, first_cycle: int) -> CheckedFile:
    """The same file with its first discharge as a given cycle, and without E13: where it begins is known."""
    if not checked.discharges:
        return checked
    shift = first_cycle - checked.discharges[0].cycle
    discharges = tuple(
        replace(
            d,
            cycle=d.cycle + shift,
            conditions=d.conditions and replace(d.conditions, cycle=d.conditions.cycle + shift),
        )
        for d in checked.discharges
    )
    return replace(checked, discharges=discharges, rules=tuple(hit for hit in checked.rules if hit.id != "E13"))


def check_replicates(files: Iterable[tuple[CheckedFile, SampleInfo]]) -> tuple[tuple[CheckedFile, SampleInfo], ...]:
    """Add W5 to cells of one composition and condition whose first capacities differ by more than 5 %.

    Args:
        files: checked files with what the lab said about each.
    """
    listed = list(files)
    groups: dict[tuple[object, ...], list[tuple[int, float]]] = {}
    for i, (file, _) in enumerate(listed):
        first = next((d for d in file.discharges if d.conditions and d.composition and d.capacity_mah_g), None)
        if first is None or first.conditions is None or first.capacity_mah_g is None or file.status == "refused":
            continue
        rate = round(np.log(first.conditions.current_ma_g) / 0.05)
        key = (first.composition, rate, first.conditions.v_low, first.conditions.v_high, first.cycle)
        groups.setdefault(key, []).append((i, first.capacity_mah_g))
    for cells in groups.values():
        values = np.array([q for _, q in cells])
        spread = float(np.ptp(values) / values.mean()) if len(cells) > 1 else 0.0
        if spread > 0.05:
            names = ", ".join(listed[i][1].cell or listed[i][0].path.name for i, _ in cells)
            for i, _ in cells:
                file, sample = listed[i]
                hit = RuleHit("W5", f"{file.path.name}: cells {names} differ by {100 * spread:.1f} %.", "warning")
                listed[i] = (replace(file, rules=(*file.rules, hit)), sample)
    return tuple(listed)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
