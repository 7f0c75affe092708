"""`train`, `evaluate`, `simulate` and `data`: make models and know how good they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import emit, format_option, print_table, progress, say
from drxnet.errors import CompositionError, DataRefused, UsageError
from drxnet.files import check_figure_path
from drxnet.text import typed

if TYPE_CHECKING:
    from drxnet.composition import Composition
    from drxnet.process import Process
    from drxnet.training import TrainingOptions

_FAMILIES = click.Choice(("2TM", "3TM", "HE"), case_sensitive=False)
_FILE = click.Path(path_type=Path)


def read_set(path: Path) -> Any:
    """Read a set of profiles with a bar, and say which files of a folder were left out."""
    from drxnet.dataset import read_profiles

    def refused(file: Path, reason: Exception) -> None:
        say(f"Left out {file.name}: {reason}")

    with progress("reading") as report:
        return read_profiles(path, on_refused=refused, progress=report)


@click.command()
@click.option("--data", type=_FILE, required=True, help="DRX-TD folder or file, or a set from `simulate`.")
@click.option("--out", type=_FILE, required=True, help="Folder of the model; checkpoints and losses lie in it too.")
@click.option("--options", "source", default="drxnet", show_default=True, help="Training options: a name or a YAML.")
@click.option("--epochs", type=int, help="Instead of the number in the options.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the initial weights and the order of batches.")
@click.option("--resume", is_flag=True, help="Go on from the last finished epoch in the folder.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@format_option
def train(
    data: Path, out: Path, source: str, epochs: int | None, seed: int, resume: bool, device: str, output: str
) -> None:
    """Train an ensemble from random initialisation.

    A killed run loses at most one epoch: `--resume` goes on and ends with the weights of an uninterrupted run.

    \b
    Example:
      drx-screen train --data drx-td --out models/mine --resume
    """
    from drxnet import checkpoint
    from drxnet.training import LOSSES, STATE, pretrain

    options = _options(source, epochs)
    checkpoint.check_target(out / "model", replace=resume or (out / STATE).exists())
    profiles = read_set(data)
    with progress("training") as report:
        model = pretrain(
            profiles, options, seed=seed, name=out.name, folder=out, resume=resume, device=device, progress=report
        )
    card = checkpoint.save(out / "model", model.network.state_dict(), model.card, replace=resume)
    say(f"Trained {out / 'model'} ({card.model_id}); losses in {out / LOSSES}. Use it with --model {out / 'model'}.")
    emit(output, {"model": str(out / "model"), "model_id": card.model_id, **card.provenance["final_losses"]})


def _options(source: str, epochs: int | None) -> TrainingOptions:
    from drxnet.training import load_options

    options = load_options(source)
    return options if epochs is None else replace(options, epochs=epochs)


class _SeveralValues(click.Command):
    """A command whose repeatable options also take several values at once: ``--test 3TM HE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option again before every further value, which is what click understands."""
        repeatable = {name for p in self.params if isinstance(p, click.Option) and p.multiple for name in p.opts}
        written: list[str] = []
        option, values = "", 0
        for argument in args:
            if argument.startswith("-"):
                option, equals, _ = argument.partition("=")
                values = len(equals)
            else:
                values += 1
                if option in repeatable and values > 1:
                    written.append(option)
            written.append(argument)
        return super().parse_args(ctx, written)


@click.command(cls=_SeveralValues)
@click.option("--data", type=_FILE, help="DRX-TD folder or file, or a set from `simulate`.")
@click.option("--on", type=click.Choice(["literature"]), help="Instead of --data: capacities that papers report.")
@click.option("--model", help="Ensemble to evaluate as it is; without it one is trained, on --train.")
@click.option(
    "--train",
    "learned",
    type=_FAMILIES,
    multiple=True,
    default=("2TM",),
    show_default=True,
    help="Families to learn from.",
)
@click.option("--with-first-cycle", is_flag=True, help="Learn also the first cycles of what is tested.")
@click.option(
    "--test",
    "tested",
    type=_FAMILIES,
    multiple=True,
    default=("3TM", "HE"),
    show_default=True,
    help="Families to test on.",
)
@click.option("--options", "source", default="drxnet", show_default=True, help="Training options: a name or a YAML.")
@click.option("--epochs", type=int, help="Instead of the number in the options.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the initial weights and the order of batches.")
@click.option("--figure", type=_FILE, help="Draw errors per cycle and reliability (.png, .svg, .pdf).")
@format_option
def evaluate(
    data: Path | None,
    on: str | None,
    model: str | None,
    learned: tuple[str, ...],
    with_first_cycle: bool,
    tested: tuple[str, ...],
    source: str,
    epochs: int | None,
    seed: int,
    figure: Path | None,
    output: str,
) -> None:
    """Errors of capacity and average voltage in 2.0-4.4 V within 50 cycles, and calibration (figure 3 of the paper).

    Families go by the number of metals besides lithium: 2TM (up to two), 3TM, HE (more). --train and --test take
    several.

    With --on literature: a model (by default the shipped one) beside the capacities that papers report, with two
    baselines, and how many lie inside an interval drawn from the other studies.

    \b
    Example:
      drx-screen evaluate --data drx-td --train 2TM --with-first-cycle --test 3TM HE --figure figure3.png
      drx-screen evaluate --on literature --figure parity.png
    """
    from drxnet.checkpoint import DEFAULT_MODEL
    from drxnet.ensemble import Ensemble
    from drxnet.evaluation import evaluate as evaluated
    from drxnet.evaluation import of_families, plot_evaluation, split
    from drxnet.training import pretrain

    if figure is not None:
        check_figure_path(figure)
    if (data is None) == (on is None):
        raise UsageError("Give --data DIR or --on literature, one of the two.")
    if data is None:
        _beside_literature(model or DEFAULT_MODEL, figure, output)
        return
    options = _options(source, epochs)
    profiles = read_set(data)
    if model is None:
        known, test = split(profiles, learned, tested, with_first_cycle=with_first_cycle)
        with progress("training") as report:
            ensemble = pretrain(known, options, seed=seed, progress=report)
    else:
        test = of_families(profiles, tested)
        ensemble = Ensemble.load(model)
    with progress("evaluating") as report:
        evaluation = evaluated(ensemble, test, progress=report)
    facts = evaluation.facts()
    if figure is not None:
        plot_evaluation(evaluation, figure)
    emit(output, facts["families"] if output == "csv" else facts, lambda: _show_evaluation(facts))


def _show_evaluation(facts: dict[str, Any]) -> None:
    print_table(facts["families"])
    if "calibration" in facts:
        covered = ", ".join(f"{float(k):.0%}: {v:.0%}" for k, v in facts["calibration"]["coverage"].items())
        say(f"Intervals cover {covered}; the spread must be multiplied by {facts['calibration']['factor']:.2f}.")


def _beside_literature(model: str, figure: Path | None, output: str) -> None:
    from drxnet.ensemble import Amounts, Ensemble
    from drxnet.literature import evaluate_literature, plot_literature, summary, table
    from drxnet.uncertainty import WORDS, Calibration, OfLevels
    from screening.domain import Domain

    ensemble = Ensemble.load(model)
    evaluation = evaluate_literature(ensemble)
    compositions = [p.composition for p in evaluation.published]
    domain = Domain(ensemble)
    labels = domain.nearest(Amounts.of(compositions)).labels
    calibration = Calibration.of(ensemble, domain.locate)
    method = OfLevels(calibration.levels.model, dict(zip(compositions, labels, strict=True)))
    rows = [{**row, "domain": label} for row, label in zip(table(evaluation, method), labels, strict=True)]
    groups = summary(evaluation, method)
    if figure is not None:
        plot_literature(evaluation, figure, method)

    def show() -> None:
        print_table([_published(row) for row in rows], title=f"{evaluation.model} beside published capacities (mAh/g)")
        print_table([_published_group(row) for row in groups])
        say(
            "Measured in [] is per gram of electrode and not counted, nor are bounds (>=, <=). Predicted: mean ± "
            f"population standard deviation over members. {WORDS}: fitted to the other studies. "
            "In brackets behind what lies inside: 95 % binomial interval of that share. "
            "Where a paper states no current, window or cycle, 20 mA/g, 1.5-4.8 V and cycle 1 are taken (*)."
        )

    emit(output, rows if output == "csv" else {"model": evaluation.model, "rows": rows, "groups": groups}, show)


def _published(row: dict[str, Any]) -> dict[str, str]:
    sign = {"at least": ">= ", "at most": "<= "}.get(row["bound"], "")
    measured = f"{sign}{row['measured_mah_g']:.0f}"
    return {
        "composition": row["composition"],
        "study": row["study"],
        "mA/g, cycle": f"{row['current_ma_g']:g}, {row['cycle']}" + ("*" if row["assumed"] else ""),
        "made": row["route"],
        "measured": measured if row["mass_basis"] == "active" else f"[{measured}]",
        "predicted": f"{row['capacity_mah_g_mean']:.0f} ± {row['capacity_mah_g_std']:.0f}",
        "interval": f"{row['capacity_mah_g_lower']:.0f} to {row['capacity_mah_g_upper']:.0f}",
        "domain": row["domain"],
    }


def _published_group(row: dict[str, Any]) -> dict[str, Any]:
    ranked = row["rank_correlation"]
    return {
        "group": row["group"],
        "rows (studies)": f"{row['rows']} ({row['studies']})",
        "MAE": f"{row['capacity_mae_mah_g']:.0f}",
        "bias": f"{row['capacity_bias_mah_g']:+.0f}",
        "rank corr.": "" if ranked is None else f"{ranked:.2f}",
        "constant 230": f"{row['constant_mae_mah_g']:.0f}",
        "0.65 Li": f"{row['lithium_fraction_mae_mah_g']:.0f}",
        "inside members'": f"{row['members_coverage']:.0%}",
        "inside 80 %": f"{row['coverage']:.0%} ({row['coverage_low']:.0%}-{row['coverage_high']:.0%})",
        "bounds broken": f"{row['bounds_broken']} of {row['bounds']}",
    }


@click.command()
@click.option("--model", default="default", show_default=True, help="The truth: an ensemble's name or folder.")
@click.option("--out", type=_FILE, required=True, help="File to write (.npz).")
@click.option("--compositions", type=int, default=300, show_default=True, help="Number drawn from the known families.")
@click.option("--formulas", type=_FILE, help="A text file, one formula a line, # for comments, instead of drawing.")
@click.option("--profiles", type=int, default=3000, show_default=True, help="Number of profiles in all.")
@click.option(
    "--per-cell",
    type=int,
    default=1,
    show_default=True,
    help="Discharges of each cell, cycle 1 among them; with 1 every profile is of its own cell, at any cycle.",
)
@click.option("--noise", type=float, default=0.01, show_default=True, help="Relative deviation of a cell.")
@click.option("--per-member", is_flag=True, help="Every member's own profiles, to train members apart.")
@click.option(
    "--vary",
    multiple=True,
    metavar="NAME=VALUE,VALUE",
    help="A condition of the process and its levels: each cell is made by one, and a law drawn by the seed says what "
    "it leaves of the capacity. Several are crossed.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of compositions, conditions and noise.")
def simulate(
    model: str,
    out: Path,
    compositions: int,
    formulas: Path | None,
    profiles: int,
    per_cell: int,
    noise: float,
    per_member: bool,
    vary: tuple[str, ...],
    seed: int,
) -> None:
    """Draw a data set from a model: profiles as a laboratory would measure them if the model were true.

    \b
    Example:
      drx-screen simulate --model default --profiles 3000 --per-cell 6 --out simulated.npz
      drx-screen simulate --profiles 300 --vary milled=no,yes --vary firing_temperature_c=850,950 --out mixed.npz
    """
    import numpy as np

    from drxnet.ensemble import Ensemble
    from drxnet.simulation import ConditionMix, ProcessLaw, draw_domain
    from drxnet.simulation import simulate as simulated

    if out.suffix != ".npz":
        raise UsageError(f"{out}: a simulated set ends in .npz.")
    ensemble = Ensemble.load(model)
    rng = np.random.default_rng(seed)
    if formulas is None:
        drawn = draw_domain(ensemble, compositions, rng)
    else:
        drawn = _formulas(formulas)
    if per_cell == 1:
        conditions = ConditionMix().draw(profiles, rng)
    else:
        cycled = ConditionMix().draw_cells(-(-profiles // max(1, per_cell)), rng, discharges=per_cell)
        conditions = [discharge for cell in cycled for discharge in cell][:profiles]
    cells = np.arange(profiles) // per_cell
    ways = _varied(vary)
    if ways:
        made = [ways[i] for i in rng.integers(len(ways), size=int(cells.max(initial=0)) + 1)]
        conditions = [replace(c, process=made[cell]) for c, cell in zip(conditions, cells, strict=True)]
    which = cells % max(1, len(drawn))
    with progress("simulating") as report:
        found = simulated(
            ensemble,
            [drawn[i] for i in which] if drawn else [],
            conditions,
            seed=seed,
            noise=noise,
            cells=cells.tolist(),
            per_member=per_member,
            law=ProcessLaw.drawn(ways, seed) if ways else None,
            progress=report,
        )
    found.save(out)
    say(f"Wrote {len(found)} profiles of {len(found.unique[0])} compositions to {out}.")


def _varied(said: tuple[str, ...]) -> tuple[Process, ...]:
    """Every combination of the levels of some conditions.

    Raises:
        UsageError: not of the form NAME=VALUE,VALUE.
        ImpossibleValue: no such condition or value.
    """
    from drxnet.process import crossed

    levels: dict[str, list[str]] = {}
    for text in said:
        name, equals, values = text.partition("=")
        levels[name.strip()] = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or len(levels[name.strip()]) < 2:
            raise UsageError(f"--vary takes a condition and two or more levels, e.g. milled=no,yes. Got {text!r}.")
    return crossed(levels)


def _formulas(path: Path) -> list[Composition]:
    """Read one composition per line; what follows a # and empty lines do not count.

    Raises:
        DataRefused: a line is no composition, or none is there; the message names the line.
    """
    from drxnet.composition import Composition

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataRefused(f"{path}: not a text file. Give one formula a line, in UTF-8.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        formula = line.partition("#")[0].strip()
        if formula:
            try:
                found.append(Composition.parse(formula))
            except CompositionError as error:
                raise DataRefused(f"{path}, line {number}: {error}") from None
    if not found:
        raise DataRefused(f"{path}: holds no formula. Give one a line, such as Li1.2Mn0.4Ti0.4O2.")
    return found


@click.group()
def data() -> None:
    """Look at training data, or fetch the published ones.

    \b
    Example:
      drx-screen data summary drx-td --figure drx-td.png
    """


@data.command()
@click.argument("path", type=_FILE)
@click.option("--figure", type=_FILE, help="Draw elements, cycles and currents (.png, .svg, .pdf).")
@format_option
def summary(path: Path, figure: Path | None, output: str) -> None:
    """Count profiles per element, family, current and cycle (figure 2 of the paper).

    \b
    Example:
      drx-screen data summary drx-td --figure drx-td.png
    """
    from drxnet.dataset import plot_summary, summarize

    if figure is not None:
        check_figure_path(figure)
    facts = summarize(read_set(path))
    if figure is not None:
        plot_summary(facts, figure)
    elements = [{"element": symbol, **counts} for symbol, counts in facts["elements"].items()]

    def table() -> None:
        plain = {key: value for key, value in facts.items() if not isinstance(value, dict)}
        print_table([{**plain, **facts["families"]}])
        print_table(elements)

    emit(output, elements if output == "csv" else facts, table)


@data.command()
@click.argument("name", type=click.Choice(["drx-td"]))
@click.option("--out", type=_FILE, default=Path("drx-td"), show_default=True, help="Folder to write to.")
@click.option("--api", hidden=True, help="Another figshare server.")
def fetch(name: str, out: Path, api: str | None) -> None:
    """Download the open DRX-TD data set from figshare and check its MD5 sums.

    \b
    Example:
      drx-screen data fetch drx-td --out drx-td
    """
    from drxnet.fetching import DRXTD_DOI, FIGSHARE, fetch_article

    with progress(name) as report:
        files = fetch_article(out, api=api or FIGSHARE, progress=report)
    say(f"{len(files)} files of doi:{DRXTD_DOI} lie in {out}; see `drx-screen data summary {typed(out)}`.")


COMMANDS: list[click.Command] = [train, evaluate, simulate, data]
