"""What a lab hands in, matched to proposals and recorded in one transaction.

A discharge belongs to the proposal it was handed in for, else to the one with the same composition, else it is
attached as a composition that the lab made unasked (``origin=lab``). A file is recorded whole or not at all.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from campaigns.intake.measurement import CheckedDischarge, CheckedFile, RuleHit, SampleInfo
from campaigns.ledger.ledger import Entry
from campaigns.ledger.records import PENDING, Measurement, NewMeasurement, Snapshot, State
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.discharge import SAME_CURRENT, CyclingConditions, DischargeProfile
from drxnet.errors import CompositionError, MeasurementError, UsageError
from drxnet.progress import Progress, silent
from screening.estimates import same_conditions

if TYPE_CHECKING:
    from campaigns.intake.readers.recording import ReadOptions
    from screening.goals import Rates

SAME_COMPOSITION = 0.011
"""Compositions this close in every element are one: files give amounts to two decimals (per formula unit)."""

FileStatus = Literal["recorded", "known", "refused", "left out"]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file."""

    name: str
    sha256: str
    format: str
    status: FileStatus
    """``known`` files change nothing; ``left out`` ones were good, but another file of the same batch was not."""

    rules: tuple[RuleHit, ...] = ()
    notes: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()
    """Proposals its discharges belong to."""

    measurements: tuple[str, ...] = ()
    """Ids under which they were recorded; empty in a dry run."""

    discharges: int = 0


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


@dataclass(frozen=True)
class Ingested:
    """What became of everything that was handed in together."""

    files: tuple[FileOutcome, ...]
    comparisons: tuple[Returned, ...] = ()
    """First cycles at the campaign's two rates."""

    @property
    def refused(self) -> tuple[FileOutcome, ...]:
        """Files of which nothing was recorded because of what is in them."""
        return tuple(f for f in self.files if f.status == "refused")

    @property
    def measurements(self) -> tuple[str, ...]:
        """Ids of what was recorded."""
        return tuple(m for f in self.files for m in f.measurements)


@dataclass
class _Lane:
    """A cell that is being put together from the discharges of one file."""

    label: str
    current_ma_g: float
    cycles: set[int] = field(default_factory=set)


class _Claims:
    """Cells and discharges that are spoken for, by proposal id or, for what nobody proposed, by composition."""

    def __init__(self, state: Snapshot) -> None:
        self.discharges = {(m.proposal_id, m.cell, m.conditions): m.measurement_id for m in state.valid}
        self._labels: dict[str, set[str]] = {}
        for cell in state.cells:
            self._labels.setdefault(cell.proposal_id, set()).add(cell.label)

    def labels(self, owner: str) -> frozenset[str]:
        """Labels of the cells of a proposal."""
        return frozenset(self._labels.get(owner, ()))

    def add(self, owner: str, cell: str, conditions: CyclingConditions, by: str) -> None:
        """Claim a discharge of a cell."""
        self._labels.setdefault(owner, set()).add(cell)
        self.discharges[owner, cell, conditions] = by

    def refuse_repeat(self, owner: str, cell: str, conditions: CyclingConditions, name: str) -> None:
        """Refuse a discharge that a cell has already."""
        by = self.discharges.get((owner, cell, conditions))
        if by is not None:
            raise MeasurementError(
                f"{name}: cell {cell} of {owner} has this discharge already ({conditions}): {by}. Retract that one "
                "first, or give the cell another label."
            )


@dataclass(frozen=True)
class _Match:
    """A discharge with the proposal and the cell it will be recorded under."""

    proposal_id: str | None
    """None for a composition that nobody proposed."""

    cell: str
    measurement: NewMeasurement


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
        return Ingested(tuple(outcome for outcome, _ in _plans(files, campaign.state(), all_or_nothing)))
    with campaign.ledger.write("ingest") as entry:
        plans = _plans(files, entry.before, all_or_nothing)
        lab: dict[str, str] = {}
        outcomes = [
            _record(entry, file, matches, outcome, lab) if outcome.status == "recorded" else outcome
            for (file, _), (outcome, matches) in zip(files, plans, strict=True)
        ]
        entry.note_refused(
            [
                {"name": o.name, "sha256": o.sha256, "rules": [{"id": r.id, "message": r.message} for r in o.rules]}
                for o in outcomes
                if o.status == "refused"
            ]
        )
        entry.summary = _summary(outcomes)
    return Ingested(tuple(outcomes), compare_with_proposed(campaign, [m for o in outcomes for m in o.measurements]))


def compare_with_proposed(campaign: Workspace, measurement_ids: Iterable[str]) -> tuple[Returned, ...]:
    """Set first cycles at the campaign's two rates beside what was predicted when they were proposed."""
    wanted = set(measurement_ids)
    if not wanted:
        return ()
    state, conditions = campaign.state(), campaign.spec.conditions
    rows = []
    for m in state.valid:
        rate = next((r for r in ("low", "high") if same_conditions(m.conditions, getattr(conditions, r))), None)
        if m.measurement_id not in wanted or rate is None:
            continue
        prediction = state.by_id[m.proposal_id].prediction
        mean, std = (
            (getattr(prediction, f"capacity_{rate}_mah_g_{kind}") for kind in ("mean", "std"))
            if prediction is not None
            else (None, None)
        )
        current = m.conditions.current_ma_g
        rows.append(Returned(m.measurement_id, m.proposal_id, m.composition, current, m.capacity_mah_g, mean, std))
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
    files: Sequence[tuple[CheckedFile, SampleInfo]], state: Snapshot, all_or_nothing: bool
) -> list[tuple[FileOutcome, list[_Match]]]:
    """Say of every file what becomes of it, and under what its discharges will be recorded."""
    known = {f.sha256: f.name for f in state.files}
    claims = _Claims(state)
    plans: list[tuple[FileOutcome, list[_Match]]] = []
    for file, sample in files:
        if file.sha256 in known:
            plans.append((_known(file, known[file.sha256], state), []))
            continue
        matches, rules = _planned(file, sample, state, claims)
        plans.append((_outcome(file, matches, rules), matches))
        if matches:
            known[file.sha256] = file.path.name
    if all_or_nothing and any(outcome.status == "refused" for outcome, _ in plans):
        plans = [(replace(o, status="left out") if o.status == "recorded" else o, m) for o, m in plans]
    return plans


def _known(file: CheckedFile, name: str, state: Snapshot) -> FileOutcome:
    earlier = [m for m in state.measurements if m.sha256 == file.sha256]
    latest = [m for m in earlier if m.status != "superseded"]
    gone = [m for m in latest if m.status == "retracted"]
    note = f"recorded before, as {name}; nothing changed"
    if gone:
        note += f". {len(gone)} of its {len(latest)} discharges are withdrawn: {gone[0].withdrawn_reason}"
    if gone and gone == latest:
        note += (
            f". Where they can be corrected, do so: drx-screen supersede {shlex.quote(name)} --active-mass RECORDED "
            "TRUE --reason TEXT (or --current, --capacity, --proposal)"
        )
    proposals = tuple(dict.fromkeys(m.proposal_id for m in earlier))
    return FileOutcome(str(file.path), file.sha256, file.format, "known", notes=(note,), proposals=proposals)


def _planned(
    file: CheckedFile, sample: SampleInfo, state: Snapshot, claims: _Claims
) -> tuple[list[_Match], tuple[RuleHit, ...]]:
    """Match the discharges of a file, or say why it cannot be recorded."""
    if file.status == "refused":
        return [], file.rules
    lanes: dict[str, list[_Lane]] = {}
    matches: list[_Match] = []
    base, flags = sample.cell or file.path.stem, tuple(hit.id for hit in file.rules)
    try:
        for discharge in file.discharges:
            if discharge.conditions is None or discharge.capacity_mah_g is None:
                raise MeasurementError(
                    f"{file.path.name} cycle {discharge.cycle}: no capacity per gram. Give the active mass and the "
                    "current."
                )
            proposal_id, composition = _proposal(discharge, sample, state, file.path.name)
            owner = proposal_id or composition
            taken = frozenset[str]() if sample.cell else claims.labels(owner)
            lane = _lane(lanes.setdefault(owner, []), discharge.conditions, base, taken)
            claims.refuse_repeat(owner, lane.label, discharge.conditions, file.path.name)
            matches.append(_Match(proposal_id, lane.label, _new(composition, discharge, flags)))
    except MeasurementError as error:
        return [], (*file.rules, RuleHit("P1", str(error), "error"))
    if not matches:
        return [], (*file.rules, RuleHit("P2", f"{file.path.name}: holds no discharge to record.", "error"))
    for match in matches:
        owner = match.proposal_id or match.measurement.composition
        claims.add(owner, match.cell, match.measurement.conditions, file.path.name)
    return matches, file.rules


def _proposal(discharge: CheckedDischarge, sample: SampleInfo, state: Snapshot, name: str) -> tuple[str | None, str]:
    """Proposal (None: nobody proposed it) and composition under which a discharge is recorded."""
    if (named := discharge.proposal or sample.proposal) is not None:
        proposal = state.proposal(named)
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
    return match_composition(state, discharge.composition)


def match_composition(state: Snapshot, composition: Composition) -> tuple[str | None, str]:
    """Find the proposal of a composition: a pending one first, then the latest."""
    same = [p for p in state.proposals if p.composition == composition.formula]
    if not same:
        same = [
            p for p in state.proposals if Composition.parse(p.composition).distance(composition) <= SAME_COMPOSITION
        ]
    if not same:
        return None, composition.formula
    best = max(same, key=lambda p: (p.state in PENDING, p.state is not State.ABANDONED, p.event, p.proposal_id))
    return best.proposal_id, best.composition


def _lane(lanes: list[_Lane], conditions: CyclingConditions, base: str, taken: frozenset[str]) -> _Lane:
    """Cell that a discharge belongs to: one cell runs one rate from its first cycle, or a staircase with rising cycles.

    Files that hold several cells (tables, DRX-TD) do not name them, so a cycle that is there already starts another.
    """
    current, cycle = conditions.current_ma_g, conditions.cycle
    lane = next((n for n in lanes if n.current_ma_g == current and cycle not in n.cycles), None)
    if lane is None:
        lane = next((n for n in lanes if cycle > max(n.cycles)), None)
    if lane is None:
        number = len(lanes) + 1
        label = base if number == 1 else f"{base} #{number}"
        while label in taken or any(n.label == label for n in lanes):
            number += 1
            label = f"{base} #{number}"
        lane = _Lane(label, current)
        lanes.append(lane)
    lane.cycles.add(cycle)
    return lane


def _new(composition: str, discharge: CheckedDischarge, flags: tuple[str, ...]) -> NewMeasurement:
    assert discharge.conditions is not None
    assert discharge.capacity_mah_g is not None
    return NewMeasurement(
        composition=composition,
        conditions=discharge.conditions,
        capacity_mah_g=float(discharge.capacity_mah_g),
        profile=discharge.profile,
        sigma_mah_g=discharge.sigma_mah_g,
        provenance=discharge.provenance,
        flags=flags,
    )


def _outcome(file: CheckedFile, matches: Sequence[_Match], rules: tuple[RuleHit, ...]) -> FileOutcome:
    unasked = dict.fromkeys(m.measurement.composition for m in matches if m.proposal_id is None)
    return FileOutcome(
        name=str(file.path),
        sha256=file.sha256,
        format=file.format,
        status="recorded" if matches else "refused",
        rules=rules,
        notes=(*file.notes, *(f"{c} was never proposed; attached as made by the lab (origin=lab)" for c in unasked)),
        proposals=tuple(dict.fromkeys(m.proposal_id or "new" for m in matches)),
        discharges=len(matches),
    )


def _record(
    entry: Entry, file: CheckedFile, matches: Sequence[_Match], outcome: FileOutcome, lab: dict[str, str]
) -> FileOutcome:
    rules = [{"id": hit.id, "message": hit.message} for hit in file.rules]
    entry.add_file(file.sha256, file.path.name, file.format, file.status, rules)
    ids, proposals = [], []
    for match in matches:
        proposal_id = match.proposal_id
        if proposal_id is None:
            composition = match.measurement.composition
            if composition not in lab:
                lab[composition] = entry.add_lab_composition(composition)
            proposal_id = lab[composition]
        ids.append(entry.add_measurement(proposal_id, match.cell, match.measurement, file.sha256))
        proposals.append(proposal_id)
    return replace(outcome, measurements=tuple(ids), proposals=tuple(dict.fromkeys(proposals)))


def _summary(outcomes: Sequence[FileOutcome]) -> str:
    recorded = [o for o in outcomes if o.status == "recorded"]
    counts = [f"{sum(len(o.measurements) for o in recorded)} discharges of {len(recorded)} files"]
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


def record_paths(campaign: Workspace, paths: Sequence[Path]) -> tuple[str, ...]:
    """Check and record files, all or none; those known already add nothing.

    Raises:
        MeasurementError: a file is refused; the message holds the rules it breaks.
    """
    done = ingest(campaign, check_files(campaign, paths), all_or_nothing=True)
    if done.refused:
        reasons = [str(rule) for file in done.refused for rule in file.rules]
        raise MeasurementError(f"{len(done.refused)} of {len(done.files)} files are refused. {' '.join(reasons)}")
    return done.measurements


def record_rows(campaign: Workspace, measurements: Iterable[Mapping[str, Any]] | Any) -> tuple[str, ...]:
    """Record rows as :meth:`campaigns.Campaign.add_measurements` takes them, all or none.

    Raises:
        MeasurementError: a row cannot be trusted.
        UsageError: an unknown key or proposal.
    """
    rows = measurements.to_dict("records") if hasattr(measurements, "to_dict") else list(measurements)
    if not rows:
        raise UsageError("No measurement to add.")
    with campaign.ledger.write("ingest") as entry:
        ids, lab, lanes = [], dict[str, str](), dict[str, list[_Lane]]()
        before, claims = _Claims(entry.before), _Claims(entry.before)
        for number, row in enumerate(rows, start=1):
            where = f"Measurement {number}"
            proposal_id, new = _row(campaign, entry.before, row, where)
            if proposal_id is None:
                if new.composition not in lab:
                    lab[new.composition] = entry.add_lab_composition(new.composition)
                proposal_id = lab[new.composition]
            if _given(row, "cell"):
                cell = str(row["cell"])
            else:
                taken = before.labels(proposal_id)
                cell = _lane(lanes.setdefault(proposal_id, []), new.conditions, "cell", taken).label
            claims.refuse_repeat(proposal_id, cell, new.conditions, where)
            claims.add(proposal_id, cell, new.conditions, where)
            ids.append(entry.add_measurement(proposal_id, cell, new, None))
        entry.summary = f"{len(ids)} discharges from Python"
    return tuple(ids)


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
    if not changes and scale == 1.0:
        raise UsageError("Say what is different now: nothing is.")
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"Capacities are scaled by a positive number. Got {scale:g}.")
    names = list(dict.fromkeys(name.upper() for name in measurement_ids))
    with campaign.ledger.write("supersede") as entry:
        standing = {m.measurement_id: m for m in entry.before.measurements if m.status != "superseded"}
        for name in names:
            if name not in standing:
                entry.withdraw(name, reason)  # says what is wrong with it
        others = tuple(m for m in entry.before.measurements if m.measurement_id not in names)
        claims = _Claims(replace(entry.before, measurements=others))
        successors = []
        for stored in campaign.ledger.profiles([standing[name] for name in names]):
            old = stored.measurement
            row = _corrected(old, stored.profile, changes, scale)
            if scale != 1.0 and "current_ma_g" not in changes:
                row["current_ma_g"] = _nominal(old.conditions.current_ma_g * scale, campaign.spec.conditions)
            proposal_id, new = _row(campaign, entry.before, row, old.measurement_id)
            proposal_id = proposal_id or entry.add_lab_composition(new.composition)
            cell = str(changes.get("cell", old.cell))
            claims.refuse_repeat(proposal_id, cell, new.conditions, old.measurement_id)
            claims.add(proposal_id, cell, new.conditions, old.measurement_id)
            new = replace(new, provenance=old.provenance, flags=old.flags)
            successor = entry.add_measurement(proposal_id, cell, new, old.sha256)
            entry.withdraw(old.measurement_id, reason, superseded_by=successor)
            successors.append(successor)
        pairs = ", ".join(f"{old} by {new}" for old, new in zip(names, successors, strict=True))
        entry.summary = f"{pairs}: {reason}"
    return tuple(successors)


def _corrected(
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
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(sorted(_KEYS))}.")
    proposal_id: str | None
    if _given(row, "proposal_id"):
        proposal = state.proposal(str(row["proposal_id"]))
        proposal_id, formula = proposal.proposal_id, proposal.composition
    elif _given(row, "composition"):
        proposal_id, formula = match_composition(state, _parsed(row["composition"], where))
    else:
        raise UsageError(f"{where}: give proposal_id or composition.")
    window = campaign.spec.conditions
    try:
        conditions = CyclingConditions(
            float(row["current_ma_g"]),
            float(row["v_low"]) if _given(row, "v_low") else window.v_low,
            float(row["v_high"]) if _given(row, "v_high") else window.v_high,
            int(row["cycle"]) if _given(row, "cycle") else 1,
        )
        capacity = float(row["capacity_mah_g"])
        profile = None
        if _given(row, "voltage_v"):
            profile = DischargeProfile(row["voltage_v"], row["profile_mah_g"])
    except KeyError as error:
        raise UsageError(f"{where}: {error} is missing.") from None
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{where} ({formula}): {error}") from None
    highest = _parsed(formula, where).theoretical_capacity_mah_g
    if not math.isfinite(capacity) or not 0 <= capacity <= highest:
        raise MeasurementError(
            f"{where} ({formula}): a capacity lies between 0 and that of all lithium, {highest:.0f} mAh/g. "
            f"Got {capacity:g}. Check the active mass and the unit."
        )
    if profile is not None and abs(profile.total_capacity_mah_g - capacity) > max(5.0, 0.05 * capacity):
        raise MeasurementError(
            f"{where} ({formula}): the profile ends at {profile.total_capacity_mah_g:.1f} mAh/g and the capacity is "
            f"{capacity:.1f}. They must agree."
        )
    sigma = float(row["sigma_mah_g"]) if _given(row, "sigma_mah_g") else None
    return proposal_id, NewMeasurement(formula, conditions, capacity, profile, sigma, "python")


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
    campaign: Workspace,
    paths: Sequence[Path],
    *,
    table: Path | None = None,
    otherwise: SampleInfo | None = None,
    options: ReadOptions | None = None,
    progress: Progress = silent,
) -> list[tuple[CheckedFile, SampleInfo]]:
    """Read and check files against the validation rules.

    Args:
        campaign: whose proposals the samples may name.
        paths: of files and of folders, whose files are taken in the order of their names.
        table: sample table, what the lab says of single files.
        otherwise: what it says of all that the table leaves open.
        options: what the user settles where files are ambiguous.
        progress: called after each file.

    Raises:
        UsageError: a path does not exist, or a sample names an unknown proposal.
        ConfigurationError: the sample table is wrong.
    """
    from campaigns.intake.samples import read_samples
    from campaigns.intake.validation import check_file, check_replicates

    listed = [path for path in expanded(paths) if table is None or path.resolve() != table.resolve()]
    said = read_samples(table) if table else None
    stated, state = otherwise or SampleInfo(), campaign.state()
    checked = []
    for done, path in enumerate(listed, start=1):
        sample = sample_for(state, said.for_file(path, stated) if said else stated)
        checked.append((check_file(path, sample, options), sample))
        progress(done, len(listed))
    return list(check_replicates(checked))


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
