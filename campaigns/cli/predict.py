"""`predict` and `map`: ask the ensemble about compositions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import emit, format_option, numbers, print_table, progress, say
from campaigns.cli.files import process_option
from drxnet.errors import UsageError
from drxnet.files import WITH_HTML, check_figure_path

if TYPE_CHECKING:
    from campaigns.cli.bulk import Cases
    from drxnet.ensemble import Ensemble
    from drxnet.figures import CapacityMap, MeasuredPoint
    from drxnet.prediction import PredictedDischarge
    from drxnet.process import Process
    from drxnet.uncertainty import Calibration

model_option = click.option(
    "--model", default="default", show_default=True, help="Name of an installed model, or its folder."
)
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")


@click.command()
@click.argument("formulas", nargs=-1, metavar="FORMULA...")
@click.option(
    "--current", "currents", type=float, multiple=True, default=(20.0,), help="Current density (mA/g); repeat."
)
@click.option(
    "--window", type=float, nargs=2, default=(1.5, 4.8), show_default=True, help="Lower and upper cut-off (V)."
)
@click.option("--cycle", "cycles", type=int, multiple=True, default=(1,), help="Cycle number from 1; repeat.")
@process_option
@click.option(
    "--input",
    "table",
    type=click.Path(path_type=Path),
    help="CSV with the columns composition,current_ma_g,v_low,v_high,cycle, and any condition of the process.",
)
@click.option(
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rows to this .csv, .jsonl or .parquet, however many, instead of showing them.",
)
@click.option("--profile", is_flag=True, help="Add the whole profile to JSON output.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw profiles, dQ/dV and fade: .png, .svg, .pdf or .html."
)
@click.option("--allow-unseen", is_flag=True, help="Extrapolate to elements the model has never seen.")
@click.option("--nonstoichiometric", is_flag=True, help="Take formulas whose cations are off by more than 5 %.")
@model_option
@device_option
@format_option
def predict(
    formulas: tuple[str, ...],
    currents: tuple[float, ...],
    window: tuple[float, float],
    cycles: tuple[int, ...],
    process: Process,
    table: Path | None,
    target: Path | None,
    profile: bool,
    plot: Path | None,
    allow_unseen: bool,
    nonstoichiometric: bool,
    model: str,
    device: str,
    output: str,
) -> None:
    """Predict discharge profiles of compositions: mean, 80 % interval of a new laboratory's cell, members' spread.

    Several --current and --cycle are crossed with every formula. Less than 0.02 of a metal per formula unit is a trace
    and left out, so that a formula from an elemental analysis is predicted as what it stands for.

    \b
    Example:
      drx-screen predict Li1.2Mn0.4Ti0.4O2 --current 20 --current 1000 --plot lmto.png
      drx-screen predict --input million.csv --output predicted.parquet
    """
    from campaigns.cli.bulk import CaseFile, CaseList, predict_to_file
    from drxnet.discharge import CyclingConditions

    if bool(formulas) == bool(table):
        raise UsageError("Give formulas or --input CASES.csv, one of the two.")
    _check_targets(plot, target)
    if table is not None:
        cases: Cases = CaseFile(table, nonstoichiometric=nonstoichiometric)
    else:
        crossed = [CyclingConditions(i, *window, n, process) for i in currents for n in cycles]
        cases = CaseList(formulas, crossed, nonstoichiometric=nonstoichiometric)

    from drxnet.ensemble import Ensemble
    from drxnet.prediction import predict_cases

    ensemble = Ensemble.load(model, device=device)
    calibration = _calibration(ensemble)
    with progress("predicting") as report:
        how: Any = {"allow_unseen": allow_unseen, "calibration": calibration, "progress": report}
        if target is not None:
            predict_to_file(ensemble, cases, target, profile=profile, **how)
        else:
            predictions = predict_cases(ensemble, [case for block in cases for case in block], **how)
    if target is not None:
        say(f"{cases.count:,} predictions written to {target}. {calibration.sentence}")
        return
    rows = [p.row(profile=profile) for p in predictions]
    emit(output, rows, lambda: _show(predictions, ensemble.card.name, calibration))
    if plot is not None:
        from drxnet.figures import plot_predictions

        plot_predictions(ensemble, predictions, plot)
        say(f"Figure: {plot}")


def _check_targets(plot: Path | None, target: Path | None) -> None:
    """Refuse files that cannot be written before anything is predicted."""
    from campaigns.cli.bulk import check_target

    if plot is not None:
        check_figure_path(plot, WITH_HTML)
    if target is not None:
        check_target(target)
        if plot is not None:
            raise UsageError("A figure is of a few predictions. Leave out --plot or --output.")


def _calibration(ensemble: Ensemble) -> Calibration:
    from drxnet.uncertainty import Calibration
    from screening.domain import Domain

    return Calibration.of(ensemble, Domain(ensemble).locate)


def _show(predictions: list[PredictedDischarge], model: str, calibration: Calibration) -> None:
    rows, stated = [], any(p.conditions.process for p in predictions)
    for p in predictions:
        row = p.row()
        rows.append(
            {
                "composition": row["composition"],
                "mA/g": row["current_ma_g"],
                "window (V)": f"{row['v_low']:g}-{row['v_high']:g}",
                "cycle": row["cycle"],
                **({"process": str(p.conditions.process)} if stated else {}),
                "Q (mAh/g)": f"{row['capacity_mah_g_mean']:.1f}",
                "80 % interval": f"{row['capacity_mah_g_lower']:.0f}-{row['capacity_mah_g_upper']:.0f}",
                "± members": f"{row['capacity_mah_g_std']:.1f}",
                "domain": row["domain"],
                "mean V (V)": f"{row['average_voltage_v_mean']:.2f}",
                "energy (Wh/kg)": f"{row['specific_energy_wh_kg_mean']:.0f}",
            }
        )
    print_table(rows)
    say(
        f"Model {model}. {calibration.sentence} ± is the population standard deviation over the members (ddof 0), "
        "not a measured error."
    )


def _measured_on(drawn: CapacityMap, held: Mapping[str, float], source: str | None) -> list[MeasuredPoint]:
    """What a campaign measured in the plane of a map; nothing without a campaign."""
    if source is None:
        return []
    from campaigns.cli.options import open_campaign
    from campaigns.loop.outcomes import outcomes_of
    from campaigns.report.overlay import measured_on

    with open_campaign(source, read_only=True) as campaign:
        return measured_on(drawn, held, outcomes_of(campaign.state(), campaign.spec.goals))


@click.command(name="map")
@click.option("--x", default="Li", show_default=True, help="Element along x: Li, F or a metal.")
@click.option("--y", default="F", show_default=True, help="Element along y.")
@click.option("--balance", default="Mn", show_default=True, help="Metal that fills the sites; its valence follows.")
@click.option("--x-range", type=float, nargs=2, default=(1.05, 1.35), show_default=True, help="Amounts along x.")
@click.option("--y-range", type=float, nargs=2, default=(0.0, 0.7), show_default=True, help="Amounts along y.")
@click.option(
    "--fix", "held", multiple=True, metavar="Ti=0.2", callback=numbers, help="Amount of another element; repeat."
)
@click.option("--points", type=click.IntRange(2, 400), default=41, show_default=True, help="Grid points along an axis.")
@click.option(
    "--current", "currents", type=float, multiple=True, default=(20.0,), help="Current density (mA/g); repeat."
)
@click.option(
    "--window", type=float, nargs=2, default=(1.5, 4.8), show_default=True, help="Lower and upper cut-off (V)."
)
@click.option("--cycle", "cycles", type=int, multiple=True, default=(1, 30), show_default=True, help="Cycle; repeat.")
@click.option(
    "--plot", type=click.Path(path_type=Path), default=Path("map.png"), show_default=True, help="Figure to write."
)
@click.option("--campaign", "-C", "source", metavar="DIR", help="Mark what this campaign measured in the plane.")
@model_option
@device_option
@format_option
def capacity_map(
    held: dict[str, float],
    currents: tuple[float, ...],
    window: tuple[float, float],
    cycles: tuple[int, ...],
    plot: Path,
    source: str | None,
    model: str,
    device: str,
    output: str,
    **plane: Any,
) -> None:
    """Map capacity over two amounts, such as Li and F in Li-Mn-O-F at cycles 1 and 30.

    Cation sites are filled by the --balance metal, and its valence follows from the charge.

    \b
    Example:
      drx-screen map --x Li --y F --cycle 1 --cycle 30 --plot lmof.png
      drx-screen map --x Li --y F --campaign lmof
    """
    from drxnet.discharge import CyclingConditions
    from drxnet.figures import capacity_map as compute
    from drxnet.figures import plot_map

    check_figure_path(plot)
    from drxnet.ensemble import Ensemble

    ensemble = Ensemble.load(model, device=device)
    conditions = [CyclingConditions(i, *window, n) for i in currents for n in cycles]
    calibration = _calibration(ensemble)
    result = compute(ensemble, conditions, **plane, fixed=held, calibration=calibration)
    measured = _measured_on(result, held, source)
    plot_map(result, plot, model=ensemble.card.name, measured=measured)
    if source is not None:
        say(f"Measured in this plane by {source}: {', '.join(dict.fromkeys(p.name for p in measured)) or 'nothing'}.")
    rows = result.rows()

    def show() -> None:
        panels = [[r for r in rows if (r["current_ma_g"], r["cycle"]) == (c.current_ma_g, c.cycle)] for c in conditions]
        ends = [end(panel, key=lambda r: r["capacity_mah_g_mean"]) for panel in panels for end in (max, min)]
        print_table(ends, title="Highest and lowest capacity of each panel")
        say(f"{calibration.sentence} capacity_mah_g_std is the members' spread (ddof 0).")

    emit(output, rows, show)
    say(f"Figure: {plot}")


COMMANDS: list[click.Command] = [predict, capacity_map]
