"""`init`, `check`, `propose` and `mark`: what is to be made, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import EXISTING_FILE, emit, format_option, naming, print_table, progress, say, tell
from campaigns.cli.options import (
    campaign_option,
    command_line,
    engine_options,
    known_strategy,
    members_option,
    open_campaign,
    shown,
)
from campaigns.errors import NotBegun
from drxnet.errors import UsageError
from drxnet.names import hint
from screening.strategies import STRATEGIES

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from screening.goals import Goals


@click.command()
@click.argument("name")
@click.option(
    "--from",
    "template",
    required=True,
    metavar="CAMPAIGN|FILE.json",
    help="Shipped campaign, YAML or folder to copy; or an export as JSON, which is rebuilt with all its history.",
)
@click.option(
    "--learn-from",
    multiple=True,
    metavar="CAMPAIGN",
    help="Another campaign's folder, or `literature`: what it measured counts where that makes this one's own cells "
    "more probable.",
)
def init(name: str, template: str, learn_from: tuple[str, ...]) -> None:
    """Start a campaign in the new folder NAME, with a YAML to edit.

    \b
    Example:
      drx-screen init mn-rich --from he-rate
      drx-screen init mn-rich-2 --from mn-rich --learn-from mn-rich
    """
    from campaigns.campaign import Campaign
    from campaigns.spec import FILE_NAME

    if Path(template).suffix.lower() == ".json" and Path(template).is_file():
        from campaigns.backup import rebuild

        if learn_from:
            raise UsageError("A rebuilt campaign learns from whom its YAML names (learn_from). Leave --learn-from out.")
        say(f"Rebuilt in {shown(rebuild(Path(template), Path(name)))}/, with every event of {template}.")
        return
    campaign = Campaign.start(name, template, learn_from=learn_from, command=command_line())
    say(f"Started campaign {campaign.name} in {shown(campaign.folder)}/.")
    say(f"Edit {shown(campaign.folder / FILE_NAME)}, then: drx-screen check {naming(name)}")


@click.command()
@campaign_option
@format_option
def check(source: str, output: str) -> None:
    """Check everything that is cheap to check before anything expensive runs.

    Reads the YAML, the space, the ledger and the model, counts the candidates and estimates the time of a round.

    \b
    Example:
      drx-screen check --campaign he-rate
    """
    from campaigns.loop.propose import estimate
    from drxnet.prediction import beyond_data

    with _opened_or_begun_aside(source) as campaign:
        found = estimate(campaign)
        conditions = campaign.spec.conditions
    for text in dict.fromkeys([*beyond_data(conditions.low), *beyond_data(conditions.high)]):
        say(f"Warning: {text}")
    emit(output, found, lambda: _show_check(found))


def _show_check(found: Mapping[str, Any]) -> None:
    told = {k: v for k, v in found.items() if not isinstance(v, list)}
    print_table([{"what": k.replace("_", " "), "found": v} for k, v in told.items()])
    first, *ways = found["shorter"] or [""]
    if ways:
        tell(f"\n{first}")
        for way in ways:
            tell(f"  {way}")


@contextmanager
def _opened_or_begun_aside(source: str) -> Iterator[Campaign]:
    """Open a campaign for reading; one that has not begun is begun in a folder that is removed again."""
    from campaigns.campaign import Campaign
    from campaigns.spec import read_spec

    try:
        opened = open_campaign(source, read_only=True)
    except NotBegun:
        with TemporaryDirectory(prefix="drx-check-") as aside:
            name = read_spec(source).name
            say(f"Campaign {name} has not begun; nothing is written.")
            with Campaign.start(Path(aside) / name, source, command=command_line()) as campaign:
                yield campaign
    else:
        with opened:
            yield opened


@click.command()
@campaign_option
@click.option("-n", "--batch-size", type=click.IntRange(1, 500), help="Compositions; by default as the campaign says.")
@click.option(
    "--candidates", type=EXISTING_FILE, help="Choose from the column `composition` of this CSV instead of the space."
)
@click.option(
    "--strategy",
    metavar="|".join(STRATEGIES.builtin),
    callback=known_strategy,
    help="How to choose, or a strategy of an installed package; by default as the campaign says.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="By default as the campaign says.")
@click.option("--workers", type=click.IntRange(0), help="Processes that score; 0 for none beside this one.")
@click.option("--ray-address", metavar="HOST:PORT", help="Score on this Ray cluster; else $RAY_ADDRESS, else here.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@engine_options
@click.option(
    "--method", type=click.Choice(["walk", "best-first", "evolution", "auto"]), help="How to look through the space."
)
@click.option("--evaluations", type=click.IntRange(1), help="Candidates that a search scores.")
@click.option(
    "--time-limit",
    "time_limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="For looking through the space (s).",
)
@click.option("--dry-run", is_flag=True, help="Choose and show, but record and write nothing.")
@members_option
@format_option
def propose(source: str, dry_run: bool, members: bool, output: str, **how: Any) -> None:
    """Choose the next compositions to make, record them and write their recipes.

    Streams every candidate of the space, keeps the best, and chooses a batch of them together, away from what is
    measured or pending. The same ledger and seed give the same batch.

    \b
    Example:
      drx-screen propose --campaign he-rate
      drx-screen propose --campaign he-rate -n 4 --strategy greedy --dry-run
    """
    from campaigns.loop.propose import propose as choose
    from campaigns.report import views
    from campaigns.report.round import write_round_files

    with open_campaign(source) as campaign:
        with progress("scoring candidates") as bar:
            chosen = choose(campaign, **how, dry_run=dry_run, progress=bar)
        content = views.batch(chosen, members=members)
        for note in (*chosen.notes, *([str(chosen.prospect)] if chosen.prospect else [])):
            say(note)
        emit(output, content, lambda: _show_proposals(content["proposals"], campaign.spec.goals))
        if dry_run:
            say("Dry run: nothing was recorded.")
            return
        with progress("writing the report") as bar:
            files = write_round_files(campaign, chosen.round, progress=bar)
        for name, path in files.items():
            say(f"{name.capitalize():<9} {shown(path)}")


def _show_proposals(rows: Sequence[Mapping[str, Any]], goals: Goals) -> None:
    """Print proposals as two tables that fit a terminal: the numbers, then the reasons."""
    from campaigns.report.views import INTERVAL_WORDS, cells_of, ways_of

    print_table(
        [
            {
                "id": row["proposal_id"],
                "composition": row["composition"],
                **way,
                **cells_of(row, goals.shown, goals),
                "feasible": f"{row['feasibility']:.0%}",
                **({} if row["phase_probability"] is None else {"phase": f"{row['phase_probability']:.0%}"}),
                "domain": row["domain"],
            }
            for row, way in zip(rows, ways_of(rows), strict=True)
        ]
    )
    named = "; ".join(f"{q.heading}: {q.label}" for q in goals.shown if q.heading != q.label)
    tell("\n" + (f"{named}.\n" if named else "") + f"In brackets: {INTERVAL_WORDS}.\n\nWhy")
    for row in rows:
        tell(f"  {row['proposal_id']}  {row['why']}")


@click.command()
@campaign_option
@click.argument("proposals", nargs=-1, metavar="PROPOSAL... STATE")
@click.option("--reason", default="", help="Why; needed for failed and abandoned.")
@click.option("--phases", metavar="TEXT", help='Phases that were found, with their shares: "rocksalt 80, Li3NbO4 20".')
@click.option("--single-phase", type=click.Choice(["yes", "no"]), help="Whether it is one phase.")
@click.option("--icp", metavar="FORMULA", help="Composition as measured, beside the one that was aimed at.")
@click.option(
    "--table",
    type=EXISTING_FILE,
    help="CSV with a row for each proposal: proposal, state, reason, phases, single_phase, icp.",
)
def mark(
    source: str,
    proposals: tuple[str, ...],
    reason: str,
    phases: str | None,
    single_phase: str | None,
    icp: str | None,
    table: Path | None,
) -> None:
    """Say what became of proposals: accepted, failed (may be tried again) or abandoned (never); and what was found.

    \b
    Example:
      drx-screen mark --campaign he-rate R01-03 accepted
      drx-screen mark --campaign he-rate R01-04 R01-05 failed --reason "Nb2O5 left in the XRD"
      drx-screen mark --campaign he-rate R01-04 failed --reason "two phases" --phases "rocksalt 80, Li3NbO4 20"
      drx-screen mark --campaign he-rate R01-03 --single-phase yes --icp Li1.17Mn0.41Ti0.42O2
    """
    from campaigns.loop.mark import mark as say_what_became
    from campaigns.loop.mark import mark_all, state_by_hand
    from campaigns.loop.phases import parse_phases, parse_yes_no, read_findings

    found = any(said is not None for said in (phases, single_phase, icp))
    if table is not None:
        if proposals or found or reason:
            raise UsageError("Give a table, or proposals and options; not both.")
        with open_campaign(source) as campaign:
            changed = mark_all(campaign, read_findings(table))
        say(f"{', '.join(changed)}: recorded." if changed else "Nothing changed.")
        return
    names, word = _names_and_state(proposals, found)
    state = state_by_hand(word) if word else None
    with open_campaign(source) as campaign:
        changed = say_what_became(
            campaign,
            names,
            state,
            reason,
            phases=None if phases is None else parse_phases(phases),
            single_phase=None if single_phase is None else parse_yes_no(single_phase),
            icp=icp,
        )
    listed = ", ".join(n.upper() for n in names)
    say(f"{listed}: {state or 'recorded'}" + ("." if changed else " already; nothing changed."))


def _names_and_state(proposals: Sequence[str], found: bool) -> tuple[Sequence[str], str]:
    """Split what was named: proposals, then their state, which is empty where only something was found."""
    from campaigns.loop.mark import BY_HAND

    has_state = bool(proposals) and proposals[-1].lower() in BY_HAND
    names, word = (proposals, "") if found and not has_state else (proposals[:-1], "".join(proposals[-1:]))
    if not names or not (found or has_state):
        listed = ", ".join(BY_HAND)
        raise UsageError(f"Give proposals and then one of {listed}. {hint(word, BY_HAND)}Got {' '.join(proposals)!r}.")
    return names, word


COMMANDS: list[click.Command] = [init, check, propose, mark]
