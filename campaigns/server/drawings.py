"""What a browser draws: figures of a campaign, the neighbours of a proposal, the bench sheet, the picture of a file.

All of it only looks; what is drawn is worked out once for each entry of the log.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, UploadFile
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, Response

from campaigns.loop.outcomes import Outcome, axes_of
from campaigns.loop.rank import short_name
from campaigns.report import interactive
from campaigns.report.drawing import POSTERIOR_SPREAD, in_words
from campaigns.server.api import MOST, AtDesk, kept_files
from campaigns.server.bodies import REFUSALS, Name, answered_as
from campaigns.server.desk import Desk
from drxnet.composition import Composition
from screening.goals import Goals
from screening.quantities import QUANTITIES

router = APIRouter(prefix="/api", responses=REFUSALS)

Which = Literal["progress", "trust", "trade-off", "later-cycles", "map", "models"]
NEIGHBOURS = 8


def plotly_script() -> Path:
    """The one library of the page: it draws the figures. Found without importing plotly."""
    found = find_spec("plotly")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


@router.get("/campaigns/{name}/figures/{which}", response_class=Response, responses=answered_as("application/json"))
def figures(
    desk: AtDesk,
    name: Name,
    which: Which,
    elements: Annotated[list[str], Query(max_length=3)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Figures as plotly draws them, each with its ``data`` and ``layout``, and a sentence on how to read them.

    ``elements`` are the two or three that span the map; none for principal components of the amounts.
    """

    def made() -> bytes:
        return json.dumps(_figures(desk, name, which, elements), separators=(",", ":"), allow_nan=False).encode()

    # written out once for each entry of the log; a map of elements is any of many, and made when it is asked for
    content = made() if elements else desk.seen(name).kept(("figures", which), made)
    return Response(content, media_type="application/json")


def _figures(desk: Desk, name: str, which: Which, elements: list[str]) -> dict[str, Any]:
    seen = desk.seen(name)
    state, outcomes, goals = seen.state, seen.outcomes, seen.goals
    held = sorted({s for p in state.proposals for s in Composition.parse(p.composition).amounts()})
    if not outcomes:
        return {"figures": {}, "note": "Nothing was proposed yet.", "elements": held}
    drawn: dict[str, Callable[[], Mapping[str, interactive.Figure | None]]] = {
        "progress": lambda: {"progress": interactive.progress(outcomes, goals)},
        "trust": lambda: interactive.comparisons(outcomes, goals),
        "trade-off": lambda: {"trade-off": interactive.pareto(outcomes, goals)},
        "later-cycles": lambda: {"later-cycles": interactive.fade(outcomes, goals.rates)},
        "map": lambda: interactive.composition_maps(outcomes, goals, elements),
        "models": lambda: {"models": interactive.lineage(state.models)},
    }
    found = drawn[which]()
    shown = {key: figure for key, figure in found.items() if figure is not None}
    return {"figures": shown, "note": _note(which, goals) if shown else _nothing(which), "elements": held}


def _note(which: Which, goals: Goals) -> str:
    """How to read a figure."""
    across = axes_of(goals)[0]
    return {
        "progress": "Each mark is one composition. Hollow: predicted when it was proposed. Filled: measured. Bars: "
        f"{POSTERIOR_SPREAD} for what is predicted, over cells for what is measured.",
        "trust": "Predictions are those made when a composition was proposed; bars as under progress.",
        "trade-off": f"{str(goals.first).capitalize()} against {across}: no measured composition lies beyond the line.",
        "later-cycles": "Measured capacity of each cell over its cycles.",
        "map": "Where compositions lie. Colour: the first objective, and beside it how uncertain it is; filled marks "
        "are measured.",
        "models": "Which model descends from which; above, its error on held-out cells before (hollow) and after it "
        "learned.",
    }[which]


def _nothing(which: Which) -> str:
    """What there is not yet, where a figure would be empty."""
    return {
        "trust": "Nothing is both predicted and measured yet, so there is nothing to compare.",
        "later-cycles": "No cell was cycled on yet.",
        "models": "No model has learned from measurements yet.",
    }.get(which, "Nothing to show yet.")


@router.get("/campaigns/{name}/about")
def about(desk: AtDesk, name: Name) -> dict[str, Any]:
    """What the campaign wants, in sentences, the names that a ranking can go by, and whether there is a report."""
    campaign = desk.campaign(name)
    report = any(campaign.folder.glob("report/report.html")) or any(campaign.folder.glob("rounds/R*/report.html"))
    quantities = [
        {
            "name": name,
            "short": short_name(name),
            "column": kind.column,
            "heading": f"{name.replace('-', ' ')}{f' ({kind.unit})' if kind.unit else ''}",
        }
        for name, kind in QUANTITIES.items()
    ]
    return {
        "goals": in_words(campaign.spec.goals),
        "rank_by": [*QUANTITIES, "pareto"],
        "quantities": quantities,
        "report": report,
    }


@router.get("/campaigns/{name}/proposals/{proposal_id}/neighbours")
def neighbours(
    desk: AtDesk, name: Name, proposal_id: Name, top: Annotated[int, Query(ge=1, le=50)] = NEIGHBOURS
) -> list[dict[str, Any]]:
    """Compositions of the campaign nearest to a proposal, with what is known of their first objective.

    ``exchanged`` is how much per formula unit differs: half the sum of all differences of amounts.
    """
    seen = desk.seen(name)
    mine = seen.state.proposal(proposal_id)
    outcomes = seen.outcomes
    amounts = seen.kept("amounts", lambda: _amounts(outcomes))
    here = next(i for i, o in enumerate(outcomes) if o.proposal == mine)
    exchanged = np.abs(amounts - amounts[here]).sum(1) / 2
    first = seen.goals.first
    rows: list[dict[str, Any]] = []
    for i in np.argsort(exchanged, kind="stable"):
        if i == here or len(rows) == top:
            continue
        outcome = outcomes[i]
        known = outcome.known(first)
        rows.append(
            {
                "proposal_id": outcome.proposal.proposal_id,
                "composition": outcome.proposal.composition,
                "state": str(outcome.proposal.state),
                "exchanged": round(float(exchanged[i]), 4),
                "source": None if known is None else "measured" if outcome.measured(first) else "predicted",
                "quantity": first.heading,
                "mean": None if known is None else known.mean,
                "std": None if known is None else known.error,
            }
        )
    return rows


@router.get("/campaigns/{name}/rounds/{number}/bench", response_class=HTMLResponse, responses=answered_as("text/html"))
def bench(desk: AtDesk, name: Name, number: Annotated[int, PathParameter(ge=1, le=MOST)]) -> str:
    """One page to take to the balance: masses of a round, with room for what was weighed."""
    from campaigns.report.bench import bench_sheet

    return desk.seen(name).kept(("bench", number), lambda: bench_sheet(desk.campaign(name), number))


@router.post("/campaigns/{name}/picture", response_class=Response, responses=answered_as("image/png"))
def picture(desk: AtDesk, name: Name, file: UploadFile) -> Response:
    """Picture of a cycler file as it would be read: rows, the discharge that counts, what is cut. Nothing is kept."""
    from campaigns.intake.inspection import plot_file
    from campaigns.intake.validation import check_file

    desk.campaign(name)
    with (
        kept_files([(file.filename or "", file.file)]) as paths,
        tempfile.TemporaryDirectory(prefix="drx-screen-") as folder,
    ):
        target = Path(folder) / "picture.png"
        plot_file(check_file(paths[0]), target)
        return Response(target.read_bytes(), media_type="image/png", headers={"Cache-Control": "no-store"})


def script() -> FileResponse:
    """The library that draws; browsers keep it for a day."""
    return FileResponse(
        plotly_script(), media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"}
    )


def _amounts(outcomes: tuple[Outcome, ...]) -> np.ndarray:
    """Amounts of every composition per formula unit, ``n x elements``."""
    parsed = [Composition.parse(o.proposal.composition).amounts() for o in outcomes]
    symbols = tuple(dict.fromkeys(s for amounts in parsed for s in amounts))
    return np.array([[amounts.get(s, 0.0) for s in symbols] for amounts in parsed])
