"""The bench sheet of a round: one page to take to the balance, with room for what was really weighed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campaigns.errors import RecipeError
from campaigns.firing import Route
from campaigns.ledger.records import Proposal
from campaigns.recipe import Recipe, make_recipe
from campaigns.report.interactive import subscripts
from campaigns.workspace import Workspace
from drxnet.process import Process
from drxnet.text import visible


def bench_sheet(campaign: Workspace, number: int) -> str:
    """Sheet of a round as an HTML page to print: what to weigh, columns to fill in, and the cells to make.

    Raises:
        UsageError: no such round.
    """
    proposals = campaign.state(number).proposals_of(number)
    blocks = [_block(campaign, proposal) for proposal in proposals]
    name = f"{campaign.name}, round R{number:02d}"
    first = next((r for p in proposals if isinstance(r := recipe_of(campaign, p), Recipe)), None)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>Bench sheet, {html.escape(name)}</title>",
            f"<style>{(Path(__file__).parent / 'bench.css').read_text(encoding='utf-8')}</style>",
            "</head><body><main>",
            f"<h1>Bench sheet: {html.escape(name)}</h1>",
            '<p class="who">weighed by <i></i> on <i></i> balance <i></i></p>',
            *blocks,
            f'<p class="foot">{html.escape(_cells(campaign, proposals))}{_route(first)}</p>',
            "</main></body></html>",
            "",
        ]
    )


ROUTES: Mapping[str, Route] = {"solid state": "solid-state", "mechanochemical": "mechanochemical"}
"""Routes of a process that there are recipes for."""


def made_by(campaign: Workspace, proposal: Proposal) -> Process:
    """How the cells of a proposal are to be made and tested."""
    return proposal.process.over(campaign.spec.conditions.process)


def recipe_of(campaign: Workspace, proposal: Proposal) -> Recipe | str:
    """What to weigh for a proposal, by the route that it was proposed for, or why there is no recipe."""
    try:
        return make_recipe(proposal.composition, **settings_of(campaign, proposal))
    except RecipeError as error:
        return str(error)


def settings_of(campaign: Workspace, proposal: Proposal) -> dict[str, Any]:
    """How a proposal is to be made: as the campaign says, by the route that it was proposed for."""
    route = ROUTES.get(str(made_by(campaign, proposal).get("route")))
    return campaign.spec.synthesis.model_dump() | ({"route": route} if route else {})


def _block(campaign: Workspace, proposal: Proposal) -> str:
    title = f"<h2>{html.escape(proposal.proposal_id)} <span>{subscripts(proposal.composition)}</span></h2>"
    recipe = recipe_of(campaign, proposal)
    if isinstance(recipe, str):
        return f"<section>{title}<p>no recipe: {html.escape(visible(recipe))}</p></section>"
    rows = "".join(
        f"<tr><th scope='row'>{subscripts(w.precursor.formula)}</th><td>{w.mass_g:.4f}</td><td class='blank'></td></tr>"
        for w in recipe.weighings
    )
    return (
        f"<section>{title}<table><thead><tr><th scope='col'>powder</th><th scope='col'>weigh (g)</th>"
        f"<th scope='col'>weighed (g)</th></tr></thead><tbody>{rows}"
        f"<tr class='sum'><th scope='row'>sum</th><td>{recipe.powder_g:.4f}</td><td class='blank'></td></tr>"
        f"</tbody></table><p>{html.escape(_made(made_by(campaign, proposal)) or _firing(recipe))}</p></section>"
    )


def _made(process: Process) -> str:
    return f"as proposed: {process}" if process else ""


def _firing(recipe: Recipe) -> str:
    """How the batch is made, short enough for the bench."""
    firing = recipe.firing
    hours = f"{firing.hours[0]:g}-{firing.hours[1]:g} h"
    heat = firing.temperature_c
    how = f"mill {hours}" if heat is None else f"{heat[0]:g}-{heat[1]:g} °C, {hours}"
    return f"For {recipe.batch_mass_g:g} g: {how}, {firing.atmosphere}. Fired: ____ °C ____ h  XRD: ________"


def _cells(campaign: Workspace, proposals: Sequence[Proposal]) -> str:
    spec = campaign.spec
    asked = {c.current_ma_g: c for c in sorted(spec.goals.conditions, key=lambda c: c.cycle)}
    by_count: dict[int, list[str]] = {}
    for proposal in proposals:
        by_count.setdefault(proposal.cells(spec.cells_per_rate), []).append(proposal.proposal_id)
    most = max(by_count, key=lambda count: len(by_count[count]), default=spec.cells_per_rate)
    others = [f"{count} of {', '.join(names)}" for count, names in by_count.items() if count != most]
    return f"Cells: {'; '.join([f'{most} each', *others])} at {' and '.join(map(str, asked.values()))}. "


def _route(recipe: Recipe | None) -> str:
    """What holds for every batch of the sheet."""
    if recipe is None:
        return ""
    on_top = f"{100 * recipe.li_excess:g} % Li" + (f" and {100 * recipe.f_excess:g} % F" if recipe.f_excess else "")
    lost = f"Weighed on top, to be lost: {on_top}. " if recipe.li_excess or recipe.f_excess else ""
    return html.escape(f"{lost}{recipe.firing.milling} Sources and warnings: recipes.txt of the round.")
