"""What a round leaves in its folder: its table, what to weigh, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from campaigns.intake.samples import Planned, write_samples
from campaigns.ledger.records import Proposal
from campaigns.report.bench import bench_sheet, made_by, recipe_of
from campaigns.report.views import proposal_row
from campaigns.report.write import write_report
from campaigns.workspace import Workspace
from drxnet.files import replace_file
from drxnet.progress import Progress, silent
from drxnet.text import csv_table

PROPOSALS_NAME, RECIPES_NAME, SHEETS_NAME, BENCH_NAME = "proposals.csv", "recipes.csv", "recipes.txt", "bench.html"


def round_folder(campaign: Workspace, number: int) -> Path:
    """Folder of a round."""
    return campaign.folder / "rounds" / f"R{number:02d}"


def incomplete_rounds(campaign: Workspace) -> list[int]:
    """Rounds whose files were not all written, because the process ended in between."""
    return [
        r.number for r in campaign.state().rounds if not (round_folder(campaign, r.number) / PROPOSALS_NAME).is_file()
    ]


def write_round_files(campaign: Workspace, number: int, *, progress: Progress = silent) -> dict[str, Path]:
    """Write the table, the recipe sheets and the report of a round, and of any earlier one that lacks them.

    Returns:
        Paths by what they are: ``table``, ``recipes``, ``bench`` (one page to take to the balance), ``report``, and
        ``samples``, the table to fill in (an xlsx lies beside it).
    """
    for earlier in incomplete_rounds(campaign):
        if earlier != number:
            _write_round(campaign, earlier, silent)
    return _write_round(campaign, number, progress)


def _write_round(campaign: Workspace, number: int, progress: Progress) -> dict[str, Path]:
    folder = round_folder(campaign, number)
    proposals = campaign.state().proposals_of(number)
    sheets = _write_recipes(campaign, proposals, folder)
    bench = folder / BENCH_NAME
    replace_file(bench, bench_sheet(campaign, number).encode())
    goals = campaign.goals(campaign.state(number), number)
    report = write_report(campaign.ledger, goals, folder, as_of=number, progress=progress)
    samples, _ = write_samples(folder, _cells_to_make(campaign, proposals))
    rows = [proposal_row(p) for p in proposals]
    table = folder / PROPOSALS_NAME  # last: where it is, the others are
    columns = list(dict.fromkeys(name for row in rows for name in row))
    replace_file(table, csv_table(rows, columns).encode())
    return {"table": table, "recipes": sheets, "bench": bench, "report": report.page, "samples": samples}


def _cells_to_make(campaign: Workspace, proposals: Sequence[Proposal]) -> list[Planned]:
    """Rows of the sample table of a round: the cells of each proposal at every rate that the campaign wants."""
    spec = campaign.spec
    rates = {c.current_ma_g: c for c in spec.goals.conditions}.values()
    return [
        Planned(p.proposal_id, p.composition, rate.current_ma_g, (rate.v_low, rate.v_high), made_by(campaign, p))
        for p in proposals
        for rate in rates
        for _ in range(p.cells(spec.cells_per_rate))
    ]


def _write_recipes(campaign: Workspace, proposals: Sequence[Proposal], folder: Path) -> Path:
    """Write what to weigh, as a sheet to print and as a table."""
    asked = campaign.spec.goals.conditions
    last = {c.current_ma_g: c for c in sorted(asked, key=lambda c: c.cycle)}
    rates = " and ".join(map(str, last.values()))
    sheets, rows = [], []
    for proposal in proposals:
        cells = proposal.cells(campaign.spec.cells_per_rate)
        many = f"{cells} cell{'s' if cells > 1 else ''} each at {rates}"
        lines = [f"{proposal.proposal_id}  {proposal.composition}", f"cells: {many}"]
        if process := made_by(campaign, proposal):
            lines.append(f"made and tested by: {process}")
        recipe = recipe_of(campaign, proposal)
        if isinstance(recipe, str):
            sheets.append("\n".join([*lines, f"no recipe: {recipe}", ""]))
            continue
        for weighing in recipe.weighings:
            row = weighing.row()
            rows.append({"proposal_id": proposal.proposal_id, "composition": proposal.composition, **row})
            lines.append(f"  {row['precursor']:<10} {row['mass_g']:>9.4f} g  {row['name']}")
        sheets.append("\n".join([*lines, recipe.summary(), ""]))
    replace_file(folder / SHEETS_NAME, "\n".join(sheets).encode())
    replace_file(folder / RECIPES_NAME, csv_table(rows, list(rows[0])).encode() if rows else b"")
    return folder / SHEETS_NAME
