"""`rank`, `status` and `log`: where a campaign stands, and how it came there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import emit, format_option, local_time, naming, print_table, progress, say, tell
from campaigns.cli.options import as_of_option, campaign_option, engine_options, members_option, open_campaign

if TYPE_CHECKING:
    from campaigns.loop.rank import Ranking


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


COMMANDS: list[click.Command] = [rank, status, log]
