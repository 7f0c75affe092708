"""The report of a campaign: one HTML file that needs no network, and its figures as PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from campaigns import figures, page
from campaigns.ledger import Ledger
from campaigns.outcomes import Outcome, outcomes_of
from campaigns.records import MeasuredProfile, Snapshot
from drxnet.progress import Progress, silent
from screening.objectives import Conditions

PAGE_NAME = "report.html"


@dataclass(frozen=True)
class Report:
    """Files that were written."""

    page: Path
    figures: tuple[Path, ...]


def write_report(
    ledger: Ledger,
    conditions: Conditions,
    folder: Path,
    *,
    as_of: int | None = None,
    proposals: Sequence[str] = (),
    progress: Progress = silent,
) -> Report:
    """Write ``report.html`` and the figures of a campaign into a folder.

    Args:
        ledger: read, never written.
        conditions: the two rates and the window of the campaign.
        folder: made when it is not there; files of an earlier report are replaced.
        as_of: report the state right after this round was recorded.
        proposals: ids whose profiles are drawn as PNG; by default those of the last round and, beside them, the best
            measured ones. The page holds all.
        progress: told of files.

    Raises:
        UsageError: no such round or proposal.
    """
    snapshot = ledger.read(as_of)
    outcomes = outcomes_of(snapshot, conditions)
    drawn = _drawn(snapshot, outcomes, proposals)
    predicted = ledger.predicted_profiles(o.proposal.proposal_id for o in outcomes)
    measured: dict[str, list[MeasuredProfile]] = {}
    for profile in ledger.profiles(m for m in snapshot.valid if m.conditions.cycle == 1):
        measured.setdefault(profile.measurement.proposal_id, []).append(profile)
    folder.mkdir(parents=True, exist_ok=True)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = page.render(
        snapshot,
        outcomes,
        conditions,
        predicted,
        measured,
        made=f"Made {made} by drx-screen {metadata.version('drx-screen')} from {len(snapshot.events)} entries of the "
        "ledger. This file needs no network.",
    )
    _replace(folder / PAGE_NAME, text.encode())
    drawings = {
        "progress": lambda: figures.plot_progress(outcomes, conditions),
        "predicted_vs_measured": lambda: figures.plot_comparison(outcomes, conditions),
        "pareto": lambda: figures.plot_pareto(outcomes, conditions),
        "profiles": lambda: figures.plot_profiles(drawn, predicted, measured, conditions),
        "composition_map": lambda: figures.plot_map(outcomes, conditions),
        "models": lambda: figures.plot_lineage(snapshot.models),
    }
    written = []
    for done, (name, draw) in enumerate(drawings.items() if outcomes else (), start=1):
        written.append(figures.save(draw(), folder / f"{name}.png"))
        progress(done, len(drawings))
    return Report(folder / PAGE_NAME, tuple(written))


def _drawn(snapshot: Snapshot, outcomes: Sequence[Outcome], proposals: Sequence[str]) -> list[Outcome]:
    by_id = {o.proposal.proposal_id: o for o in outcomes}
    if proposals:
        return [by_id[snapshot.proposal(name).proposal_id] for name in proposals]
    last = [by_id[p.proposal_id] for p in snapshot.proposals_of(snapshot.round)]
    best = sorted((o for o in outcomes if o.rate_retention and o not in last), key=lambda o: -o.ranking)
    return [*last[: figures.PANELS_AT_MOST - 4], *best[:4]] if best else last


def _replace(path: Path, content: bytes) -> None:
    """Write a file at once, so that nobody opens half a page."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
