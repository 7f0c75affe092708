"""`validate`: check measurement files without a campaign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import EXISTING_FILE, emit, format_option, gathered, print_table, progress, say, tell
from drxnet.errors import DataRefused, UsageError
from drxnet.files import check_figure_path
from drxnet.names import hint

if TYPE_CHECKING:
    from campaigns.intake.measurement import CheckedFile, SampleInfo
    from campaigns.intake.readers.recording import ReadOptions
    from drxnet.process import Process


def _read_process(context: click.Context, parameter: click.Parameter, said: tuple[str, ...]) -> Process:
    from drxnet.process import Process

    return Process.read(",".join(said))


process_option = click.option(
    "--process",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_read_process,
    help="How the cell was made and tested, e.g. route=sol-gel or firing_temperature_c=900; repeat.",
)


def _sample(current: float | None = None, process: Process | None = None, **said: Any) -> SampleInfo:
    from campaigns.intake.measurement import SampleInfo

    return SampleInfo(current_ma_g=current, process=process or None, **said)


_SAMPLE = (
    click.option("--composition", metavar="FORMULA", help="What was made, e.g. Li1.2Mn0.4Ti0.4O2."),
    click.option("--active-mass-mg", type=float, help="Mass of the oxide alone (mg)."),
    click.option("--current", type=float, metavar="MA_G", help="Discharge current that was set (mA/g)."),
    click.option("--window", nargs=2, type=float, metavar="LOW HIGH", help="Cut-offs that were set (V)."),
    click.option("--cell", metavar="LABEL", help="Label that tells replicates apart."),
    click.option(
        "--first-cycle",
        type=click.IntRange(1, 100_000),
        help="Cycle number of the first discharge of a file that begins later in its test.",
    ),
    click.option("--continues", metavar="CELL", help="Cell, or file, whose test goes on in this file."),
    click.option(
        "--formation",
        type=click.IntRange(1, 1000),
        help="Cycles at the start that form the cell; left out, as they are no first cycles of their rate.",
    ),
)


def sample_options(*more: Callable[..., Any]) -> Callable[..., Any]:
    """Add what the lab says about a cell, and where in its test a file lies, as the argument ``stated``."""
    return gathered("stated", _sample, *more, *_SAMPLE)


def _read_options(
    decimal: str | None,
    time_unit: str | None,
    voltage_unit: str | None,
    current_unit: str | None,
    capacity_unit: str | None,
) -> ReadOptions:
    from campaigns.intake.readers.recording import ReadOptions
    from campaigns.intake.readers.units import parse_unit

    return ReadOptions(
        decimal,
        parse_unit("time", time_unit),
        parse_unit("voltage", voltage_unit),
        parse_unit("current", current_unit),
        parse_unit("charge", capacity_unit),
    )


reading_options = gathered(
    "options",
    _read_options,
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign of a text file."),
    click.option(
        "--time-unit", metavar="UNIT", help="Unit of the time column: s, ms, min, h, or seconds such as 1/3600."
    ),
    click.option("--voltage-unit", metavar="UNIT", help="Unit of the voltage column: V, mV."),
    click.option("--current-unit", metavar="UNIT", help="Unit of the current column: A, mA, uA."),
    click.option("--capacity-unit", metavar="UNIT", help="Unit of the capacity columns: Ah, mAh, uAh, mAs."),
)
"""What settles an ambiguous file, as the argument ``options``."""


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
@sample_options()
@click.option(
    "--samples",
    type=EXISTING_FILE,
    help="Table (csv, xlsx) that says for each file: file, composition, active_mass_mg, current_ma_g, window, cell.",
)
@reading_options
@click.option("--plot", type=click.Path(path_type=Path), help="Draw rows, selection, profile, dQ/dV: .png, .svg, .pdf.")
@click.option("--explain", metavar="RULE", help="Say what a rule is for, such as E4; 'all' for every rule.")
@format_option
def validate(
    files: tuple[Path, ...],
    stated: SampleInfo,
    samples: Path | None,
    options: ReadOptions,
    plot: Path | None,
    explain: str | None,
    output: str,
) -> None:
    """Check measurement files: cycler exports, DRX-TD, digitised curves, tables of capacities.

    Says which discharge was found and which rules are broken; nothing is recorded. Exit code 3 when a file is refused.
    Folders are taken file by file; with --samples and no FILE, the files that the table names.

    \b
    Example:
      drx-screen validate cellA.mpt --active-mass-mg 1.82 --composition Li1.2Mn0.4Ti0.4O2 --window 1.5 4.8
      drx-screen validate exports/ --samples samples.csv --format json
      drx-screen validate cellA.mpt --plot cellA.png
      drx-screen validate --explain E4
    """
    if explain is not None:
        _explain(explain, output)
        return
    if not files and samples is None:
        raise UsageError("Give at least one FILE, or --samples.")
    if plot is not None:
        check_figure_path(plot)
    stated.check_conditions()
    from campaigns.intake.files import check_files
    from campaigns.intake.samples import read_samples

    named = files or tuple(read_samples(samples) if samples else ())
    with progress("reading files") as bar:
        checked = check_files(None, named, table=samples, otherwise=stated, options=options, progress=bar)
    if plot is not None:
        _plot(plot, [file for file, _ in checked], options)
    rows = [file.as_row() for file, _ in checked]
    emit(output, _flat(rows) if output == "csv" else rows, lambda: _show([file for file, _ in checked]))
    if any(file.status == "refused" for file, _ in checked):
        raise click.exceptions.Exit(DataRefused.exit_code)


def _plot(plot: Path, checked: list[CheckedFile], options: ReadOptions) -> None:
    from campaigns.intake.inspection import plot_file

    for file in checked:
        target = plot if len(checked) == 1 else plot.with_stem(f"{plot.stem}-{file.path.name}")
        plot_file(file, target, options)
        say(f"{target} written")


def _explain(name: str, output: str) -> None:
    from campaigns.intake.judgement import JUDGEMENTS
    from campaigns.intake.validation import RULES

    known: dict[str, Any] = {**RULES, **JUDGEMENTS}
    wanted = list(known) if name.lower() == "all" else [name.upper()]
    if any(rule not in known for rule in wanted):
        raise UsageError(f"No rule {name!r}. {hint(name, known)}There are {', '.join(known)}.")
    rows = [{"id": rule, "rule": known[rule].title, "why": known[rule].why} for rule in wanted]

    def table() -> None:
        for row in rows:
            tell(f"{row['id']}: {row['rule']}\n  {row['why']}")

    emit(output, rows, table)


def _flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per discharge, or per file without any."""
    flat = []
    for row in rows:
        head = {"file": row["file"], "format": row["format"], "status": row["status"]}
        head["broken"] = " ".join(rule["id"] for rule in row["rules"])
        empty = dict.fromkeys(
            "cycle capacity_mah capacity_mah_g current_ma v_start v_end rows all_steps_capacity_mah".split()
        )
        flat += [{**head, **discharge} for discharge in row["discharges"]] or [{**head, **empty}]
    return flat


def _show(checked: list[CheckedFile]) -> None:
    for file in checked:
        tell(f"{file.path.name}: {file.status} ({file.format})")
        for rule in file.rules:
            tell(f"  {rule.severity:7} {rule}")
        for note in file.notes:
            tell(f"  note    {note}")
        shown = [discharge.as_row() for discharge in file.discharges]
        print_table(shown[:20])
        if len(shown) > 20:
            tell(f"  and {len(shown) - 20} more discharges; --format json lists them all")


COMMANDS: list[click.Command] = [validate]
