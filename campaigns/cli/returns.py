"""`ingest`, `finetune`, `confirm`, `supersede` and `retract`: what the laboratory sends back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import EXISTING_FILE, emit, format_option, naming, print_table, progress, say, tell
from campaigns.cli.files import process_option, reading_options, sample_options
from campaigns.cli.options import campaign_option, open_campaign
from drxnet.errors import DataRefused, UsageError

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.intake.ingested import Ingested
    from campaigns.intake.measurement import SampleInfo
    from campaigns.intake.readers.recording import ReadOptions
    from campaigns.ledger.records import Snapshot
    from drxnet.process import Process


_log = logging.getLogger(__name__)


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
        "predicted mAh/g": "not predicted" if mean is None else f"{mean:.0f} ± {std:.0f}",
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


COMMANDS: list[click.Command] = [ingest, confirm, supersede, retract, finetune]
