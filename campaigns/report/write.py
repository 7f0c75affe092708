"""The report of a campaign: one HTML file that needs no network, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import MeasuredProfile, PredictedProfile, Snapshot
from campaigns.loop.outcomes import Outcome, outcomes_of
from campaigns.report import figures, page
from campaigns.report.drawing import fades
from drxnet.files import replace_file
from drxnet.progress import Progress, silent
from screening.goals import Goals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_NAME = "report.html"
FIGURES = ("progress", "predicted_vs_measured", "pareto", "profiles", "fade", "composition_map", "models")
"""Names of the figures; one for which there is nothing to show yet is not written."""


@dataclass(frozen=True)
class Report:
    """Files that were written."""

    page: Path
    figures: tuple[Path, ...]


@dataclass(frozen=True)
class Content:
    """Everything a report shows."""

    snapshot: Snapshot
    goals: Goals
    outcomes: tuple[Outcome, ...]
    predicted: Mapping[str, tuple[PredictedProfile, ...]]
    """By proposal id."""

    measured: Mapping[str, Sequence[MeasuredProfile]]
    """First cycles, by proposal id."""

    @classmethod
    def read(cls, ledger: Ledger, goals: Goals, as_of: int | None = None) -> Content:
        """Read it from a ledger, now or as it was right after a round was recorded.

        Raises:
            UsageError: no such round.
        """
        snapshot = ledger.read(as_of)
        outcomes = outcomes_of(snapshot, goals)
        predicted = ledger.predicted_profiles(o.proposal.proposal_id for o in outcomes)
        measured: dict[str, list[MeasuredProfile]] = {}
        for profile in ledger.profiles(m for m in snapshot.valid if m.conditions.cycle == 1):
            measured.setdefault(profile.measurement.proposal_id, []).append(profile)
        return cls(snapshot, goals, outcomes, predicted, measured)

    def page(self) -> str:
        """One HTML page."""
        made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        foot = (
            f"Made {made} by drx-screen {metadata.version('drx-screen')} from {len(self.snapshot.events)} entries of "
            "the ledger. This file needs no network."
        )
        return page.render(self, foot)

    def figures(self, drawn: Sequence[Outcome]) -> Iterator[tuple[str, Figure]]:
        """Figures by name, one after the other, without those that would be empty.

        Args:
            drawn: the outcomes whose profiles are shown.
        """
        if not self.outcomes:
            return
        goals, outcomes = self.goals, self.outcomes
        drawings: dict[str, Callable[[], Figure | None]] = {
            "progress": lambda: figures.plot_progress(outcomes, goals),
            "predicted_vs_measured": lambda: figures.plot_comparison(outcomes, goals),
            "pareto": lambda: figures.plot_pareto(outcomes, goals),
            "profiles": lambda: figures.plot_profiles(drawn, self.predicted, self.measured, goals.rates),
            "fade": lambda: figures.plot_fade(fades(outcomes), goals.rates),
            "composition_map": lambda: figures.plot_map(outcomes, goals),
            "models": lambda: figures.plot_lineage(self.snapshot.models),
        }
        for name, draw in drawings.items():
            if (figure := draw()) is not None:
                yield name, figure


def write_report(
    ledger: Ledger,
    goals: Goals,
    folder: Path,
    *,
    as_of: int | None = None,
    proposals: Sequence[str] = (),
    progress: Progress = silent,
) -> Report:
    """Write ``report.html`` and the figures of a campaign into a folder.

    Args:
        ledger: read, never written.
        goals: what the campaign wants, and its two rates.
        folder: made when it is not there; files of an earlier report are replaced.
        as_of: report the state right after this round was recorded.
        proposals: ids whose profiles are drawn as PNG; by default those of the last round and, beside them, the best
            measured ones. The page holds all.
        progress: told of figures.

    Raises:
        UsageError: no such round or proposal.
    """
    content = Content.read(ledger, goals, as_of)
    drawn = _drawn(content.snapshot, content.outcomes, proposals)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / PAGE_NAME, content.page().encode())
    written: list[Path] = []
    for name, figure in content.figures(drawn):
        written.append(figures.save(figure, folder / f"{name}.png"))
        progress(len(written), len(FIGURES))
    return Report(folder / PAGE_NAME, tuple(written))


def _drawn(snapshot: Snapshot, outcomes: Sequence[Outcome], proposals: Sequence[str]) -> list[Outcome]:
    by_id = {o.proposal.proposal_id: o for o in outcomes}
    if proposals:
        return [by_id[snapshot.proposal(name).proposal_id] for name in proposals]
    last = [by_id[p.proposal_id] for p in snapshot.proposals_of(snapshot.round)]
    best = sorted((o for o in outcomes if o.leading and o not in last), key=lambda o: -o.merit)
    return [*last[: figures.PANELS_AT_MOST - 4], *best[:4]] if best else last
