"""Files and folders that are handed in, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.intake.matching import SAME_COMPOSITION, planned_process
from campaigns.intake.measurement import CheckedFile, RuleHit, SampleInfo
from campaigns.ledger.records import Proposal, Snapshot
from campaigns.workspace import Workspace
from drxnet.composition import Composition
from drxnet.errors import CompositionError, UsageError
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent

if TYPE_CHECKING:
    from campaigns.intake.readers.recording import ReadOptions


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
            sample = _with_composition(state, sample)
        told = sample if campaign is None else _as_usual(sample, state, campaign.spec.conditions.process)
        file = check_file(path, told, options, progress if len(listed) == 1 else silent)
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
    stated = sample.proposal.upper() if sample.proposal is not None else _another(sample, state.by_id[name])
    if stated not in (None, name):
        message = (
            f"{path.name}: the name of the file says {name}; table says {stated}. The table is used. If that is right, "
            "confirm it; else correct the one that is wrong."
        )
        return sample, RuleHit("D4", message, "doubt")
    return sample, None


def _another(sample: SampleInfo, proposal: Proposal) -> str | None:
    """The composition of a sample where it is another than that of a proposal."""
    try:
        found = Composition.parse(str(sample.composition))
    except CompositionError:
        return None  # rule E10 says so
    return str(found) if found.distance(Composition.parse(proposal.composition)) > SAME_COMPOSITION else None


def _as_usual(sample: SampleInfo, state: Snapshot | None, usual: Process) -> SampleInfo:
    """A sample that says of the process what its proposal says, and what is usual, where it is silent."""
    planned = planned_process(state, sample.proposal) if state is not None else NOT_STATED
    return replace(sample, process=(sample.process or NOT_STATED).over(planned).over(usual))


def _with_composition(state: Snapshot, sample: SampleInfo) -> SampleInfo:
    """Fill in the composition of the proposal that a sample was made for."""
    if sample.proposal is None:
        return sample
    proposal = state.proposal(sample.proposal)
    known = sample.composition if sample.composition is not None else proposal.composition
    return replace(sample, proposal=proposal.proposal_id, composition=known)


def _with_hit(file: CheckedFile, hit: RuleHit | str | None) -> CheckedFile:
    if isinstance(hit, RuleHit):
        return replace(file, rules=(*file.rules, hit))
    return replace(file, notes=(*file.notes, hit)) if hit else file


def listed_files(paths: Sequence[Path], table: Path | None = None) -> list[Path]:
    """Files that are handed in, without the sample table; of folders, what is in them and not hidden.

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
    return [path for path in dict.fromkeys(listed) if table is None or path.resolve() != table.resolve()]
