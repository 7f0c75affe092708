"""`import` and `export`: what was begun with another optimiser, and what was measured for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from campaigns.cli.console import EXISTING_FILE, say
from campaigns.cli.options import as_of_option, campaign_option, open_campaign, shown


def _file(help_text: str) -> dict[str, Any]:
    return {"type": click.Path(path_type=Path, dir_okay=False), "metavar": "CSV", "help": help_text}


@click.command("import")
@click.argument("source", metavar="FILE", type=EXISTING_FILE)
@click.option("--candidates", **_file("Write the space as a list of candidates, for `space:` of a campaign."))
@click.option("--results", **_file("Write what was measured, for `ingest`."))
@click.option("--step", type=click.FloatRange(0, min_open=True), help="Between values of continuous parameters.")
@click.option(
    "--current", type=click.FloatRange(0, min_open=True), metavar="MA_G", help="Of the cells measured (mA/g)."
)
@click.option(
    "--window",
    nargs=2,
    type=float,
    default=(1.5, 4.8),
    show_default=True,
    metavar="LO HI",
    help="Cut-offs of the cells measured (V).",
)
@click.option("--metric", metavar="NAME", help="Which result is the capacity in mAh/g [default: capacity_mah_g].")
def import_experiment(
    source: Path,
    candidates: Path | None,
    results: Path | None,
    step: float | None,
    current: float | None,
    window: tuple[float, float],
    metric: str | None,
) -> None:
    """Take over a space, or results, that BayBE or Ax saved as JSON.

    Parameters are elements (Li, Mn, F, ...; lithium that is none fills the cations up to two), or formulas under the
    name composition. Without --candidates and --results, it only says what FILE holds.

    \b
    Example:
      drx-screen import ax.json --candidates mine.csv --results measured.csv --current 20
      drx-screen ingest --campaign mine measured.csv
    """
    from campaigns.intake.optimisers import read_experiment
    from drxnet.files import replace_file
    from drxnet.text import csv_table

    found = read_experiment(source, step)
    space = [{"composition": c.formula} for c in found.candidates()]
    holds = f"{len(space):,} candidates of {', '.join(found.axes)}; {len(found.results)} results"
    say(f"{source.name}: {found.origin}; {holds}.")
    if found.note:
        say(found.note)
    if candidates is not None:
        replace_file(candidates, csv_table(space, ["composition"]).encode())
        say(f"{candidates} written; a campaign looks through it with `space: {candidates.name}`.")
    if results is not None:
        rows = found.rows(current, metric, window)
        columns = list(dict.fromkeys(key for row in rows for key in row)) or ["composition"]
        replace_file(results, csv_table(rows, columns).encode())
        say(f"{results} written, {len(rows)} rows.")


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


COMMANDS: list[click.Command] = [import_experiment, export]
