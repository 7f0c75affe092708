"""What became of files that were handed in, in values and in sentences."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from campaigns.intake.identity import Cells, Known, Place, masses_differ
from campaigns.intake.measurement import CheckedFile, RuleHit, SampleInfo
from campaigns.intake.settlement import Placed
from campaigns.ledger.records import Snapshot
from campaigns.workspace import Workspace
from drxnet.errors import MeasurementError
from screening.estimates import same_conditions
from screening.quantities import Capacity

FileStatus = Literal["recorded", "doubtful", "known", "refused", "left out"]


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

    @property
    def summary(self) -> str:
        """One sentence for the event log."""
        recorded = [f for f in self.files if f.status in ("recorded", "doubtful")]
        counts = [f"{len(self.measurements)} discharges of {len(recorded)} files"]
        if doubtful := sum(len(f.doubtful) for f in recorded):
            counts.append(f"{doubtful} doubtful")
        for status in ("known", "refused", "left out"):
            if number := sum(f.status == status for f in self.files):
                counts.append(f"{number} {status}")
        return ", ".join(counts)

    def all_recorded(self) -> tuple[str, ...]:
        """Ids of what was recorded, where nothing was refused.

        Raises:
            MeasurementError: a file was refused; the message holds the rules it breaks.
        """
        if self.refused:
            reasons = [str(rule) for file in self.refused for rule in file.rules]
            raise MeasurementError(f"{len(self.refused)} of {len(self.files)} files are refused. {' '.join(reasons)}")
        return self.measurements


def compare_with_proposed(campaign: Workspace, measurement_ids: Iterable[str]) -> tuple[Returned, ...]:
    """Set first cycles at the campaign's two rates beside what was predicted when they were proposed."""
    wanted = set(measurement_ids)
    if not wanted:
        return ()
    state, conditions = campaign.state(), campaign.spec.conditions
    rows = []
    for m in state.standing:
        rate = next((r for r in (conditions.low, conditions.high) if same_conditions(m.conditions, r)), None)
        if m.measurement_id not in wanted or rate is None:
            continue
        prediction = state.by_id[m.proposal_id].prediction
        said = prediction.value(Capacity(rate).identity) if prediction is not None else None
        mean, std = (said.mean, said.std) if said is not None else (None, None)
        current = m.conditions.current_ma_g
        row = (m.measurement_id, m.proposal_id, m.composition, current, m.capacity_mah_g, mean, std, bool(m.doubt))
        rows.append(Returned(*row))
    return tuple(rows)


def known_before(file: CheckedFile, name: str, state: Snapshot, sample: SampleInfo) -> FileOutcome:
    """Outcome of a file that the ledger holds already, with what else was said of it this time."""
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


def outcome_of(file: CheckedFile, placed: Sequence[Placed], cells: Cells, would: str) -> FileOutcome:
    """Outcome of a file by where its discharges were placed.

    Args:
        file: as it was checked.
        placed: its discharges; none where it is refused.
        cells: that were spoken for before.
        would: ``would be`` and a space in a dry run, else empty.
    """
    new = [p for p in placed if p.known is None]
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
        status="refused" if not placed else "recorded" if new else "known",
        rules=file.rules,
        notes=tuple(notes),
        proposals=tuple(
            dict.fromkeys(p.item.proposal_id or ("new" if p.known is None else p.item.owner) for p in placed)
        ),
        discharges=len(new),
        known=len(placed) - len(new),
    )


def _extensions(placed: Sequence[Placed], cells: Cells, would: str) -> Iterator[str]:
    """Yield what there is to say of every cell that was known before."""
    by_cell: dict[Place, list[Placed]] = {}
    for p in placed:
        by_cell.setdefault((p.item.owner, p.cell), []).append(p)
    for (owner, cell), mine in by_cell.items():
        where, new = f"cell {cell} of {owner}", [p for p in mine if p.known is None]
        known = [(p, p.known) for p in mine if p.known is not None]
        more = f"{_cycles_of(new)} {would}added" if new else ""
        if known:
            yield from _of_known(where, known, more, would)
        elif before := cells.of(owner, cell):
            yield f"goes on with {where} (known: {_ranges(k.at.cycle for k in before)}): {more}"


def _of_known(where: str, known: Sequence[tuple[Placed, Known]], more: str, would: str) -> Iterator[str]:
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


def _cycles_of(placed: Iterable[Placed]) -> str:
    return _ranges(p.item.new.conditions.cycle for p in placed)


def _ranges(cycles: Iterable[int]) -> str:
    """Such as ``cycle 3`` or ``cycles 1-3, 7``."""
    numbers = sorted(set(cycles))
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    said = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"cycle{'s' if len(numbers) > 1 else ''} {said}"
