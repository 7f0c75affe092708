"""`init`, `check`, `propose`, `ingest`, `rank`, `status` and the rest of the loop with the laboratory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import (
    EXISTING_FILE,
    emit,
    format_option,
    gathered,
    local_time,
    naming,
    print_table,
    progress,
    say,
    tell,
)
from campaigns.cli.files import process_option, reading_options, sample_options
from campaigns.errors import NotBegun
from drxnet.engines import ENGINES
from drxnet.errors import DataRefused, UsageError
from drxnet.names import hint
from screening.strategies import STRATEGIES, today

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.intake.measurement import SampleInfo
    from campaigns.intake.outcome import Ingested
    from campaigns.intake.readers.recording import ReadOptions
    from campaigns.ledger.records import Snapshot
    from campaigns.loop.rank import Ranking
    from drxnet.process import Process
    from screening.goals import Goals

_log = logging.getLogger(__name__)


def campaign_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--campaign`` to a command."""
    return click.option(
        "--campaign",
        "-C",
        "source",
        required=True,
        metavar="DIR|YAML|NAME",
        help="A campaign's folder, a YAML, or a shipped campaign; the last two start ./NAME on first use.",
    )(command)


def as_of_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--as-of`` to a command, as the number of a round."""
    return click.option(
        "--as-of", metavar="R03", callback=round_named, help="Answer as right after this round was recorded."
    )(command)


def _engine(engine: str, compiled: bool) -> str:
    if compiled:
        say("--compile is --engine compiled; --engine auto, the default, is faster where the extra `fast` is there.")
    return "compiled" if compiled else engine


engine_options = gathered(
    "engine",
    _engine,
    click.option(
        "--engine",
        type=click.Choice(tuple(ENGINES)),
        default="auto",
        show_default=True,
        help="What evaluates the network: fused is fastest and needs the extra `fast`, compiled a C++ compiler.",
    ),
    click.option("--compile", "compiled", is_flag=True, help="The same as --engine compiled."),
)
"""``--engine`` and the older ``--compile``, as the argument ``engine``."""


def round_named(context: click.Context, option: click.Parameter, name: str | None) -> int | None:
    """Callback of options that name a round, such as R03."""
    from campaigns.ledger.records import round_number

    return None if name is None else round_number(name)


def known_strategy(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuse a strategy that there is not; give back today's name of one that there is."""
    if name is not None:
        STRATEGIES.named(today(name))
    return name and today(name)


def open_campaign(source: str, *, read_only: bool = False) -> Campaign:
    """Open a campaign for a command; say so when this starts it."""
    from campaigns.campaign import Campaign
    from campaigns.spec import FILE_NAME, find_spec, read_spec

    if read_only or click.get_current_context().find_root().params.get("read_only"):
        return Campaign.open(source, command=command_line(), read_only=True)
    path = find_spec(source)
    begins = path.name != FILE_NAME and not (Path.cwd() / read_spec(path).name / FILE_NAME).is_file()
    campaign = Campaign.open(source, command=command_line())
    if begins:
        say(f"Started campaign {campaign.name} in {shown(campaign.folder)}/ from {source}.")
    return campaign


def command_line() -> str:
    """What was typed, for the event log."""
    return " ".join(["drx-screen", *sys.argv[1:]])


def shown(path: Path) -> str:
    """Path as short as it can be written from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# -- starting --------------------------------------------------------------------------------------------


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


# -- proposing -------------------------------------------------------------------------------------------


members_option = click.option(
    "--members", is_flag=True, help="Show the spread of the ensemble's members (ddof 0) too, which is no interval."
)


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


# -- what comes back -------------------------------------------------------------------------------------


@click.command()
@campaign_option
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@sample_options(
    click.option("--proposal", metavar="R01-03", help="Proposal that the files belong to."),
    click.option("--icp", metavar="FORMULA", help="Composition as measured, beside the one that was aimed at."),
    process_option,
)
@click.option(
    "--samples",
    type=EXISTING_FILE,
    help="Table (csv, xlsx) of what is known of each file, such as rounds/R01/samples.xlsx, filled in.",
)
@reading_options
@click.option("--all-or-nothing", is_flag=True, help="Record none when one is refused.")
@click.option("--dry-run", is_flag=True, help="Say what would be recorded.")
@click.option("--no-finetune", is_flag=True, help="Only record; the model does not learn from it yet.")
@format_option
def ingest(
    source: str,
    files: tuple[Path, ...],
    stated: SampleInfo,
    samples: Path | None,
    options: ReadOptions,
    all_or_nothing: bool,
    dry_run: bool,
    no_finetune: bool,
    output: str,
) -> None:
    """Check returned files, record them, and let the model learn from them.

    Takes cycler exports, DRX-TD files, tables of capacities and digitised curves, or folders of them. Files that are
    known already change nothing; bad ones are refused with the reason (exit code 3).

    \b
    Example:
      drx-screen ingest --campaign he-rate R01-03_cellA.csv --proposal R01-03 --active-mass-mg 1.82
      drx-screen ingest --campaign he-rate exports/ --samples samples.csv
    """
    from campaigns.intake.files import check_files
    from campaigns.intake.record import ingest as record
    from campaigns.loop.finetune import waiting_to_be_learned
    from campaigns.report import views

    stated.check_conditions()
    with open_campaign(source) as campaign:
        with progress("reading files") as bar:
            checked = check_files(campaign, files, table=samples, otherwise=stated, options=options, progress=bar)
        done = record(campaign, checked, all_or_nothing=all_or_nothing, dry_run=dry_run)
        content = views.ingested(done)
        _say_outcome(done, dry_run)
        if done.measurements and not no_finetune:
            content["fine_tuning"] = _fine_tune(campaign, source)
        elif not dry_run and (waiting := len(waiting_to_be_learned(campaign, campaign.state()))):
            say(f"{waiting} discharges are not learned from yet: drx-screen finetune {naming(source)}")
        emit(output, content if output == "json" else content["files"], lambda: _show_ingested(content))
    if done.refused:
        raise click.exceptions.Exit(DataRefused.exit_code)


_OUTCOMES = {"doubtful": "recorded as doubtful"}


def _say_outcome(done: Ingested, dry_run: bool) -> None:
    for outcome in done.files:
        word = _OUTCOMES.get(outcome.status, outcome.status)
        word = f"would be {word}" if dry_run and outcome.status != "known" else word
        say(f"{outcome.name}: {word}")
        for line in (*(str(rule) for rule in outcome.rules), *outcome.notes):
            say(f"  {line}")
    for sentence in done.judged_again:
        say(sentence)


def _show_ingested(content: Mapping[str, Any]) -> None:
    print_table(
        [
            {
                "file": Path(row["file"]).name,
                "status": row["status"],
                "format": row["format"],
                "discharges": row["discharges"],
                "proposals": ", ".join(row["proposals"]) or "-",
            }
            for row in content["files"]
        ]
    )
    if content["comparisons"]:
        tell()
        print_table([_comparison(row) for row in content["comparisons"]], title="Predicted when proposed, and measured")


def _comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    mean, std, measured = row["predicted_mah_g_mean"], row["predicted_mah_g_std"], row["capacity_mah_g"]
    return {
        "id": row["measurement_id"],
        "proposal": row["proposal_id"],
        "composition": row["composition"],
        "mA/g": row["current_ma_g"],
        "predicted mAh/g": "never proposed" if mean is None else f"{mean:.0f} ± {std:.0f}",
        "measured": f"{measured:.1f}",
        "difference": "-" if mean is None else f"{measured - mean:+.1f}",
    }


def _fine_tune(campaign: Campaign, source: str) -> dict[str, Any] | None:
    """Learn from what was just recorded; a failure is said, but the measurements stand."""
    try:
        from campaigns.loop.finetune import fine_tune_campaign

        with progress("learning") as bar:
            learned = fine_tune_campaign(campaign, progress=bar)
    except Exception as error:  # noqa: BLE001 - whatever it is, what is recorded is recorded
        _log.debug("fine-tuning failed", exc_info=True)
        say(f"Recorded, but not learned from: {error} Later: drx-screen finetune {naming(source)}")
        return None
    say(learned.sentence)
    return learned.as_dict()


@click.command()
@campaign_option
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@format_option
def finetune(source: str, device: str, output: str) -> None:
    """Let the model learn from every valid measurement, if that makes it better.

    The starting model is trained again on all of them; a gate compares the two on held-out compositions and keeps the
    old one when the new one is not better.

    \b
    Example:
      drx-screen finetune --campaign he-rate
    """
    from campaigns.loop.finetune import fine_tune_campaign

    with open_campaign(source) as campaign, progress("learning") as bar:
        learned = fine_tune_campaign(campaign, device=device, progress=bar)
    say(learned.sentence)
    row = learned.as_dict()
    emit(output, row, lambda: print_table([{k: v for k, v in row.items() if not isinstance(v, dict | list)}]))


# -- looking ---------------------------------------------------------------------------------------------


@click.command()
@campaign_option
@click.option(
    "--by",
    metavar="QUANTITY|pareto",
    help="rate-retention, capacity, energy, average-voltage, capacity-retention, cost, pareto, or a quantity that a "
    "plug-in adds [default: the campaign's first objective].",
)
@click.option(
    "--within",
    type=click.Choice(["measured", "proposed", "space"]),
    default="proposed",
    show_default=True,
    help="measured: what came back; proposed: every proposal too; space: every candidate, streamed.",
)
@click.option("--top", type=click.IntRange(1), default=50, show_default=True, help="Rows to show.")
@click.option(
    "--min-capacity",
    "min_capacity_mah_g",
    type=float,
    metavar="MAH_G",
    help="Leave out what delivers less at the low rate.",
)
@click.option(
    "--current", "current_ma_g", type=float, metavar="MA_G", help="Current of the quantity; by default the low one."
)
@click.option("--cycle", type=click.IntRange(1), help="Cycle of the quantity; by default 1 (capacity retention: 20).")
@click.option(
    "--order",
    type=click.Choice(["lower", "mean"]),
    default="lower",
    show_default=True,
    help="By the lower bound (10 % quantile) or by the mean.",
)
@click.option("--workers", type=click.IntRange(0), help="Processes that score the space.")
@click.option("--ray-address", metavar="HOST:PORT", help="Score on this Ray cluster.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@engine_options
@click.option(
    "--proof",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --within space: walk all of it, and write here what `verify --proof` checks.",
)
@as_of_option
@members_option
@format_option
def rank(source: str, members: bool, output: str, **asked: Any) -> None:
    """Rank measured and predicted compositions together.

    Measured ones are marked; conditions are never mixed. The default order is by the lower bound, so that what is
    merely uncertain does not come first.

    \b
    Example:
      drx-screen rank --campaign he-rate --by rate-retention
      drx-screen rank --campaign he-rate --by rate-retention --within space --min-capacity 220 --top 20
    """
    from campaigns.loop.rank import rank as order_by
    from campaigns.report import views

    with open_campaign(source, read_only=True) as campaign, progress("scoring candidates") as bar:
        ranking = order_by(campaign, **asked, progress=bar)
    for note in ranking.notes:
        say(note)
    emit(output, views.ranking(ranking, members=members), lambda: _show_ranking(ranking, members))
    if not ranking.places:
        say("Nothing to rank yet.")


def _show_ranking(ranking: Ranking, members: bool) -> None:
    from campaigns.report.views import INTERVAL_WORDS, cells_of, ways_of
    from campaigns.report.views import ranking as view

    quantities = tuple(dict.fromkeys((*ranking.asked, *ranking.goals.shown)))
    shown_rows, rows = [], view(ranking, members=members)["rows"]
    for row, way in zip(rows, ways_of(rows), strict=True):
        line: dict[str, Any] = {"": row["rank"]}
        line |= {"front": row["pareto_front"]} if "pareto_front" in row else {}
        line |= {"id": row["proposal_id"] or "-", "composition": row["composition"], "source": _source(row)}
        line |= way
        line |= cells_of(row, quantities, ranking.goals)
        line["feasible"] = "-" if row["feasibility"] is None else f"{row['feasibility']:.0%}"
        line["domain"] = row["domain"] or "-"
        line |= {"predicted": _beside(ranking, row)} if any(p.beside for p in ranking.places) else {}
        shown_rows.append(line)
    print_table(shown_rows)
    if shown_rows:
        tell(f"\nIn brackets: {INTERVAL_WORDS}.")


def _source(row: Mapping[str, Any]) -> str:
    """Measured or predicted; what failed or was abandoned says so."""
    return f"{row['source']}, {row['state']}" if row["state"] in ("failed", "abandoned") else row["source"]


def _beside(ranking: Ranking, row: Mapping[str, Any]) -> str:
    """What was predicted of a measured composition, of the first quantity it is ranked by."""
    from campaigns.report.views import plus_minus

    first = ranking.asked[0]
    key = f"predicted_{first.key(ranking.goals.rates)}"
    return plus_minus(first, row.get(f"{key}_mean"), row.get(f"{key}_std"))


@click.command()
@campaign_option
@click.option("--proposals", is_flag=True, help="List every proposal with its state.")
@as_of_option
@format_option
def status(source: str, proposals: bool, as_of: int | None, output: str) -> None:
    """Say where a campaign stands: rounds, proposals, measurements, model.

    \b
    Example:
      drx-screen status --campaign he-rate
      drx-screen status --campaign he-rate --as-of R03 --format json
    """
    from campaigns.report import views

    with open_campaign(source, read_only=True) as campaign:
        found, state = campaign.summarize(as_of), campaign.state(as_of)
    rows = views.proposal_states(state) if proposals else []
    if proposals:
        emit(output, {**found, "rows": rows} if output == "json" else rows)
    else:
        emit(output, found, lambda: _show_status(found, source))


def _show_status(found: Mapping[str, Any], source: str) -> None:
    states = ", ".join(f"{n} {state}" for state, n in found["proposals"].items() if n) or "none yet"
    model, best = found["model"], found["best"]
    lines = {
        "campaign": f"{found['campaign']} ({found['folder']})",
        "rounds": f"{found['round']}" + (f", as of {found['as_of']}" if found["as_of"] else ""),
        "proposals": states + (f"; {found['from_the_lab']} from the lab" if found["from_the_lab"] else ""),
        "measured": f"{found['measurements']} discharges of {found['cells']} cells in {found['files']} files, "
        f"{found['profiles']} with profiles" + (f"; {found['doubtful']} doubtful" if found["doubtful"] else ""),
        "withdrawn": f"{found['withdrawn']} discharges; {found['refused_files']} files refused",
        "model": f"{model['name']} ({model['model_id']}), learned from {model['learned_from']} discharges",
        "best": "nothing that it is judged by is measured yet" if best is None else _best(best),
    }
    if found["prospect"]:
        lines[f"before {found['prospect']['round']}"] = found["prospect"]["sentence"]
    lines |= {f"at {o['current_ma_g']:g} mA/g": o["sentence"] for o in found["offsets"]}
    half = [f"{h['proposal_id']} (no cell at {', '.join(h['missing'])})" for h in found["half_measured"]]
    if half:
        lines["half-measured"] = ", ".join(half[:6]) + (f" and {len(half) - 6} more" if len(half) > 6 else "")
    for name, text in lines.items():
        tell(f"{name + ':':<15}{text}")
    for stairs in found["staircases"]:
        tell(_staircase(stairs))
    for doubt in found["doubts"]:
        tell(f"doubtful:      {doubt['measurement_id']} of {doubt['proposal_id']} ({doubt['rule']}): {doubt['reason']}")
    if found["doubts"]:
        first = found["doubts"][0]["measurement_id"]
        say(
            f"Doubtful discharges are neither learned from nor ranked. If they are right: drx-screen confirm "
            f"{naming(source)} {first}; if not: drx-screen supersede or retract."
        )
    if found["not_learned_from"]:
        say(f"{found['not_learned_from']} discharges are not learned from: drx-screen finetune {naming(source)}")


def _best(best: Mapping[str, Any]) -> str:
    """What is measured best, with the constraints that it misses."""
    value = f"{best['quantity']} {best['shown']} {best['unit']}".rstrip()
    misses = f"; misses {', '.join(best['misses'])}" if best["misses"] else ""
    return f"{best['composition']} ({best['proposal_id']}): {value}{misses}"


def _staircase(stairs: Mapping[str, Any]) -> str:
    """Say which cycles a staircase has at one of the campaign's rates, and whether they count."""
    numbers = stairs["cycles"]
    cycles = f"cycles {numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"cycle {numbers[0]}"
    where = f"{stairs['proposal_id']}, cell {stairs['cell']}" + (f" ({stairs['file']})" if stairs["file"] else "")
    counts = (
        "count as first cycles at that rate, flagged (first_cycle: staircase)"
        if stairs["counts"]
        else "do not count as first cycles: the cell was cycled before (first_cycle: staircase in the campaign's YAML "
        "lets them, flagged)"
    )
    return f"staircase:     {where} holds {cycles} at {stairs['current_ma_g']:g} mA/g, which {counts}"


@click.command()
@campaign_option
@click.option("--last", type=click.IntRange(1), help="Only so many of the latest.")
@as_of_option
@format_option
def log(source: str, last: int | None, as_of: int | None, output: str) -> None:
    """Show the history: who did what, when, with which command and versions.

    \b
    Example:
      drx-screen log --campaign he-rate --last 20
    """
    from campaigns.report.views import event_row

    with open_campaign(source, read_only=True) as campaign:
        events = campaign.state(as_of).events
    events = events[-last:] if last else events
    short = [event_row(e) for e in events]
    local = [{**r, "at": local_time(r["at"])} for r in short]
    emit(output, [vars(e) for e in events] if output == "json" else short, lambda: print_table(local))


# -- deciding --------------------------------------------------------------------------------------------


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
    from campaigns.loop.mark import BY_HAND, mark_all, state_by_hand
    from campaigns.loop.mark import mark as say_what_became
    from campaigns.loop.phases import parse_phases, parse_yes_no, read_findings

    found = phases is not None or single_phase is not None or icp is not None
    if table is not None:
        if proposals or found or reason:
            raise UsageError("Give a table, or proposals and options; not both.")
        with open_campaign(source) as campaign:
            changed = mark_all(campaign, read_findings(table))
        say(f"{', '.join(changed)}: recorded." if changed else "Nothing changed.")
        return
    *names, word = proposals or ("",)
    if found and word.lower() not in BY_HAND:
        names, word = list(proposals), ""
    if (not word and not found) or (word and word.lower() not in BY_HAND) or not names:
        listed = ", ".join(BY_HAND)
        raise UsageError(f"Give proposals and then one of {listed}. {hint(word, BY_HAND)}Got {' '.join(proposals)!r}.")
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


@click.command()
@campaign_option
@click.argument("measurements", nargs=-1, required=True, metavar="MEASUREMENT|PROPOSAL|FILE...")
@click.option("--reason", required=True, help="Why they must not count.")
def retract(source: str, measurements: tuple[str, ...], reason: str) -> None:
    """Stop counting measurements; they stay in the ledger with the reason.

    Names a measurement (M0007), all of a proposal (R01-03), or all of a file (its name). What can be corrected, such
    as a wrong active mass or a swapped label, is for `drx-screen supersede` instead.

    \b
    Example:
      drx-screen retract --campaign he-rate M0007 --reason "cell was short-circuited"
      drx-screen retract --campaign he-rate R01-03_cellA.csv --reason "electrolyte leaked"
    """
    from campaigns.loop.mark import retract as stop_counting

    with open_campaign(source) as campaign:
        ids = stop_counting(campaign, measurements, reason)
        state = campaign.state()
    say(f"Retracted {', '.join(ids)}.")
    _say_what_was_learned(state, ids, source)


def _say_what_was_learned(state: Snapshot, withdrawn: Sequence[str], source: str) -> None:
    """Say when the current model has learned from what does not count any more."""
    learned = set(state.current_model.measurement_ids) & set(withdrawn)
    if learned:
        say(f"The current model learned from {len(learned)} of them: drx-screen finetune {naming(source)}")


@click.command()
@campaign_option
@click.argument("measurements", nargs=-1, required=True, metavar="MEASUREMENT|PROPOSAL|FILE...")
@click.option("--reason", default="", help="Why they are right, if there is something to say.")
def confirm(source: str, measurements: tuple[str, ...], reason: str) -> None:
    """Say that doubtful measurements are as they should be: they count, and are not doubted again.

    Names a measurement (M0007), all that is doubted of a proposal (R01-03), or of a file (its name); with a discharge,
    the rest of its cell is confirmed too. What is wrong is for `drx-screen supersede` or `retract`.

    \b
    Example:
      drx-screen confirm --campaign he-rate M0007
      drx-screen confirm --campaign he-rate R01-03 --reason "weighed again: 5.02 mg"
    """
    from campaigns.loop.finetune import waiting_to_be_learned
    from campaigns.loop.mark import confirm as vouch

    with open_campaign(source) as campaign:
        ids = vouch(campaign, measurements, reason)
        waiting = waiting_to_be_learned(campaign, campaign.state())
    say(f"Confirmed {', '.join(ids)}." + (f" Learn from them: drx-screen finetune {naming(source)}" if waiting else ""))


@click.command()
@campaign_option
@click.argument("measurements", nargs=-1, required=True, metavar="MEASUREMENT|PROPOSAL|FILE...")
@click.option("--reason", required=True, help="Why they were wrong.")
@click.option(
    "--active-mass",
    nargs=2,
    type=click.FloatRange(min=0, min_open=True),
    metavar="RECORDED TRUE",
    help="The active mass was wrong: two masses in the same unit; capacity and current change by their ratio.",
)
@click.option(
    "--capacity",
    "capacity_mah_g",
    type=float,
    metavar="MAH_G",
    help="Capacity at the lower cut-off of the one measurement.",
)
@click.option("--current", "current_ma_g", type=float, metavar="MA_G", help="Current that they were measured at.")
@click.option("--proposal", "proposal_id", metavar="ID", help="Proposal that the cells belong to.")
@click.option("--cell", help="Label of the cell.")
@process_option
def supersede(
    source: str,
    measurements: tuple[str, ...],
    reason: str,
    active_mass: tuple[float, float] | None,
    process: Process,
    **given: Any,
) -> None:
    """Correct measurements, retracted ones too; the wrong ones stay in the ledger with the reason.

    Names a measurement (M0007), all of a proposal (R01-03), or all of a file (its name). With another active mass the
    current per gram is another one, too; within 5 % of one of the campaign's rates it is taken to be that.

    \b
    Example:
      drx-screen supersede --campaign he-rate R01-03_cellA.csv --active-mass 5.20 4.81 --reason "re-weighed"
      drx-screen supersede --campaign he-rate M0007 M0008 --proposal R01-04 --reason "labels were swapped"
    """
    from campaigns.intake.correction import supersede as correct

    changes = {key: value for key, value in given.items() if value is not None} | process.row()
    if "capacity_mah_g" in changes and active_mass:
        raise UsageError("Give the capacity or the active mass, not both.")
    with open_campaign(source) as campaign:
        ids = campaign.state().measurements_named(measurements, else_retracted=True)
        if "capacity_mah_g" in changes and len(ids) > 1:
            raise UsageError(f"--capacity is that of one measurement. Got {len(ids)}: {', '.join(ids)}.")
        scale = active_mass[0] / active_mass[1] if active_mass else 1.0
        successors = correct(campaign, ids, reason, changes, scale=scale)
        state = campaign.state()
    by_id = {m.measurement_id: m for m in state.measurements}
    for old, new in zip(ids, successors, strict=True):
        corrected, was = by_id[new], by_id[old].conditions.current_ma_g
        now = corrected.conditions.current_ma_g
        rate = f"{now:.4g} mA/g" + ("" if now == was else f" (before: {was:.4g})")
        say(f"{old} is superseded by {new}: {corrected.capacity_mah_g:.1f} mAh/g at {rate} of {corrected.proposal_id}.")
    _say_what_was_learned(state, ids, source)


@click.command()
@campaign_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option(
    "--form",
    type=click.Choice(["csv", "json", "drx-td", "bdf", "ro-crate"]),
    help="csv: one row per discharge; json: everything; drx-td: profiles for training; bdf: a zip of Battery Data "
    "Format, one file a cell; ro-crate: a zip that describes itself. By default from FILE's name.",
)
@click.option("--withdrawn", is_flag=True, help="With the measurements that no longer count (csv, json).")
@click.option(
    "--verbatim",
    is_flag=True,
    help="Leave text as it is; else csv gets an apostrophe before what a spreadsheet would take for a formula.",
)
@as_of_option
def export(source: str, target: Path, **how: Any) -> None:
    """Write what was measured to a file: a table, everything as JSON, DRX-TD for training, or for other programs.

    \b
    Example:
      drx-screen export --campaign he-rate measured.csv
      drx-screen export --campaign he-rate measured.drxtd.csv --form drx-td
      drx-screen export --campaign he-rate week3.crate.zip --form ro-crate
    """
    from campaigns.report.export import export_campaign

    with open_campaign(source, read_only=True) as campaign:
        number = export_campaign(campaign, target, **how)
    say(f"{number} discharges written to {shown(target)}.")


COMMANDS: list[click.Command] = [
    init,
    check,
    propose,
    ingest,
    rank,
    status,
    mark,
    retract,
    confirm,
    supersede,
    finetune,
    export,
    log,
]
