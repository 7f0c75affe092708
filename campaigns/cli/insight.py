"""`recipe`, `report` and `backtest`: what to weigh, where the campaign stands, what it could bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import EXISTING_FILE, emit, format_option, numbers, print_table, progress, say, tell
from campaigns.cli.options import round_named

if TYPE_CHECKING:
    from campaigns.recipe import Recipe


@click.command()
@click.argument("formulas", nargs=-1, metavar="[FORMULA]...")
@click.option("--campaign", "-C", help="Campaign whose proposals to make; its synthesis settings are the defaults.")
@click.option("--proposal", "proposals", multiple=True, metavar="ID", help="Such as R01-03.")
@click.option("--mass-g", "batch_mass_g", type=float, help="Mass of product (g).  [default: 5]")
@click.option("--prefer", multiple=True, metavar="PRECURSOR", help="Use as much as possible of it, e.g. Li2O or MnF2.")
@click.option("--avoid", multiple=True, metavar="PRECURSOR", help="Do not use it.")
@click.option(
    "--atmosphere",
    type=click.Choice(["closed", "open"]),
    help="closed (the default): argon, every metal arrives in its final oxidation state. open: O2 may come and go.",
)
@click.option(
    "--route",
    type=click.Choice(["solid-state", "mechanochemical"]),
    help="How it is made; by default by milling where firing would not keep the fluorine.",
)
@click.option(
    "--li-excess", type=float, help="Fraction of lithium on top, lost on firing [default: the route's, 0.1 when fired]."
)
@click.option("--f-excess", type=float, help="Fraction of fluorine on top, lost as LiF [default: the route's].")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="Mn=3",
    callback=numbers,
    help="Average oxidation state; else the redox ladder.",
)
@click.option(
    "--purity",
    multiple=True,
    metavar="Li2CO3=0.99",
    callback=numbers,
    help="Mass fraction of the compound in the powder.",
)
@click.option("--typical-purity", is_flag=True, help="Take the typical purity of the table for every powder.")
@click.option("--balance-g", default=1e-4, show_default=True, help="Masses are rounded to multiples of this (g).")
@click.option("--cheapest", is_flag=True, help="The cheapest precursors rather than the fewest.")
@click.option("--nonstoichiometric", is_flag=True, help="Take a formula whose cations are off by more than 5 %.")
@click.option(
    "--precursors",
    type=EXISTING_FILE,
    help="Your own stock and prices: csv with the columns formula, states, usd_per_kg, ...",
)
@format_option
def recipe(
    formulas: tuple[str, ...],
    campaign: str | None,
    proposals: tuple[str, ...],
    states: dict[str, float],
    purity: dict[str, float],
    typical_purity: bool,
    nonstoichiometric: bool,
    precursors: Path | None,
    output: str,
    **asked: Any,
) -> None:
    """Say what to weigh for a batch of each composition, and how such batches are fired.

    Precursors are chosen so that every metal arrives with the oxidation state it has in the product; masses are
    rounded to the balance and the charge is checked again. Lithium is weighed in excess as the route usually asks for.
    Precursors that would turn into the metal in argon are refused or warned about.

    \b
    Example:
      drx-screen recipe Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2 --mass-g 5
      drx-screen recipe Li1.2Mn0.4Ti0.4O2 --prefer Li2O --li-excess 0.1
      drx-screen recipe --campaign he-rate --proposal R01-03
    """
    from campaigns.recipe import make_recipe, merged, read_precursors, shipped_precursors
    from drxnet.composition import Composition

    wanted = _wanted(campaign, proposals, formulas)
    given = {key: value for key, value in asked.items() if value not in (None, ())}
    stock = merged(read_precursors(precursors)) if precursors else shipped_precursors()
    assays = {p.formula: p.assay for p in stock} if typical_purity else {}
    recipes = [
        make_recipe(
            Composition.parse(formula, nonstoichiometric=nonstoichiometric),
            **settings | given,
            oxidation_states=states or None,
            precursors=stock,
            assays=assays | purity,
        )
        for formula, settings in wanted
    ]
    rows = [{"composition": r.composition.formula, **w.row()} for r in recipes for w in r.weighings]
    emit(output, [r.as_dict() for r in recipes] if output == "json" else rows, lambda: _show_recipes(recipes))


def _wanted(
    campaign: str | None, proposals: tuple[str, ...], formulas: tuple[str, ...]
) -> list[tuple[str, dict[str, Any]]]:
    """Formulas and those of proposals, each with how it is to be made."""
    from campaigns.spec import Synthesis, read_spec

    if campaign is None and proposals:
        raise click.UsageError("--proposal needs --campaign.")
    if not formulas and not proposals:
        raise click.UsageError("Give a formula, or --campaign with --proposal.")
    usual = (Synthesis() if campaign is None else read_spec(campaign).synthesis).model_dump()
    wanted = [(formula, usual) for formula in formulas]
    if not proposals:
        return wanted
    from campaigns.campaign import Campaign
    from campaigns.report.bench import settings_of

    with Campaign.open(str(campaign), command="recipe", read_only=True) as opened:
        state = opened.state()
        named = [state.proposal(name) for name in proposals]
        return [*wanted, *((p.composition, settings_of(opened, p)) for p in named)]


def _show_recipes(recipes: Sequence[Recipe]) -> None:
    for each in recipes:
        title = f"{each.composition}, {each.batch_mass_g:g} g of product ({each.atmosphere} furnace)"
        print_table([_weighing(w.row()) for w in each.weighings], title=title)
        tell(each.summary() + "\n")


def _weighing(row: dict[str, Any]) -> dict[str, str]:
    purity = f" / {row['assay']:g}" if row["assay"] < 1 else ""
    return {
        "weigh": f"{row['mass_g']:.4f} g",
        "precursor": f"{row['precursor']}{purity}",
        "mol per f.u.": f"{row['moles_per_formula_unit']:.4f}",
        "name": str(row["name"]),
        "mind": str(row["note"]),
    }


@click.command()
@click.option("--campaign", "-C", required=True, help="Folder, YAML or shipped name.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder to write to [default: report/ there].")
@click.option(
    "--as-of", metavar="ROUND", callback=round_named, help="State right after a round was recorded, e.g. R03."
)
@click.option("--proposal", "proposals", multiple=True, metavar="ID", help="Draw the profiles of these as PNG.")
def report(campaign: str, output: Path | None, as_of: int | None, proposals: tuple[str, ...]) -> None:
    """Write the campaign's report: one HTML page that needs no network, and figures as PNG.

    \b
    Example:
      drx-screen report --campaign he-rate
      drx-screen report --campaign he-rate --as-of R03 --output as-of-R03
    """
    from campaigns.campaign import Campaign

    opened = Campaign.open(campaign, command="report", read_only=True)
    with progress("figures") as watch:
        written = opened.report(output, as_of=as_of, proposals=proposals, progress=watch)
    tell(str(written.page))
    say(f"and {len(written.figures)} figures beside it.")


@click.command()
@click.option("--campaign", "-C", required=True, help="Folder, YAML or shipped name; it is read, never changed.")
@click.option(
    "--output",
    "-o",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("backtest"),
    show_default=True,
    help="New folder for the results.",
)
@click.option("--rounds", default=6, show_default=True, help="Rounds of every run.")
@click.option("--repeats", default=3, show_default=True, help="Runs per strategy, each with another laboratory.")
@click.option(
    "--candidates", default=3000, show_default=True, help="Drawn from the space, the same for all strategies."
)
@click.option("--strategy", "strategies", multiple=True, help="[default: the campaign's own, greedy and random]")
@click.option(
    "--laboratory",
    metavar="KIND|MODEL",
    default="member",
    show_default=True,
    help="Laboratory: member (one of the model's, kept from it), field, penalty, demanding, physics, or a model.",
)
@click.option("--noise", default=0.03, show_default=True, help="Relative standard deviation of a cell.")
@click.option("--failures", default=0.1, show_default=True, help="Probability that a synthesis fails.")
@click.option("--delays", default=0.2, show_default=True, help="Probability that cells come back a round late.")
@click.option(
    "--mass-error", "common_mass_error", default=0.0, show_default=True, help="Relative deviation that all cells share."
)
@click.option("--one-rate", is_flag=True, help="Only cells at the low rate come back.")
@click.option(
    "--no-finetune", is_flag=True, help="The model stays as it is; what was measured still guides the choice."
)
@click.option("--fast", is_flag=True, help="Two rounds, one repeat, 300 candidates, no fine-tuning: a first look.")
@click.option("--seed", default=0, show_default=True, help="Of the laboratory's noise and of the choices.")
@format_option
def backtest(
    campaign: str,
    folder: Path,
    rounds: int,
    repeats: int,
    candidates: int,
    strategies: tuple[str, ...],
    laboratory: str,
    no_finetune: bool,
    fast: bool,
    seed: int,
    output: str,
    **befalls: Any,
) -> None:
    """Rehearse a campaign against a simulated laboratory, beside random and greedy choice.

    A truth that the model never learned from plays the laboratory, with scatter, failed syntheses and late results.
    Writes backtest.png, backtest.csv and backtest.json, and every run as a campaign of its own.

    \b
    Example:
      drx-screen backtest --campaign tiny --fast
      drx-screen backtest --campaign he-rate --rounds 6 --repeats 3 --output rehearsal
    """
    from campaigns.loop.backtest import backtest as run
    from campaigns.loop.laboratories import LaboratoryOptions
    from campaigns.report.backtest import table_of, write_backtest
    from campaigns.spec import read_spec

    if fast:
        rounds, repeats, candidates, no_finetune = min(rounds, 2), 1, min(candidates, 300), True
    with progress("rounds") as watch:
        found = run(
            read_spec(campaign),
            folder,
            rounds=rounds,
            repeats=repeats,
            candidates=candidates,
            strategies=strategies or None,
            laboratory=laboratory,
            options=LaboratoryOptions(**befalls),
            fine_tune=not no_finetune,
            seed=seed,
            progress=watch,
        )
    write_backtest(found, folder)
    emit(
        output, found.as_dict() if output == "json" else found.summary(), lambda: print_table(table_of(found.summary()))
    )
    for note in found.notes:
        say(note)
    say(f"Figure: {folder / 'backtest.png'}; rounds: {folder / 'backtest.csv'}; campaigns: {folder / 'runs'}")


COMMANDS: list[click.Command] = [recipe, report, backtest]
