"""What the PNG figures of a campaign draw: marks, labels with units, and something sensible where there is no data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filled_ledgers import CONDITIONS, GOALS, filled_ledger
from matplotlib.colors import to_hex

from campaigns.ledger.records import ModelRecord
from campaigns.loop.outcomes import compare
from campaigns.report import drawing, figures
from campaigns.report.drawing import CELLS_SPREAD, WAITING
from campaigns.report.write import FIGURES, Content
from screening.quantities import CostPerKwh, SpecificEnergy


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return Content.read(filled_ledger(tmp_path_factory.mktemp("campaign"), rounds=3, batch=5), GOALS)


def labels(axes) -> set[str]:
    return {text.get_text() for text in axes.get_legend().get_texts()}


def test_formulas_have_subscripts():
    assert figures.mathtext("Li1.2Mn0.4Ti0.4O2") == "Li$_{1.2}$Ti$_{0.4}$Mn$_{0.4}$O$_{2}$"


def test_proposals_of_a_round_stand_side_by_side(content: Content):
    places = drawing.places_in_rounds(content.outcomes)
    assert len(set(places)) == len(places)
    for place, outcome in zip(places, content.outcomes, strict=True):
        assert abs(place - (outcome.proposal.round or 0)) < 0.5


def test_marks_shrink_where_there_are_many():
    sizes = [drawing.marker_size(n) for n in (1, 150, 300, 5000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > 2


def test_progress_marks_measured_filled_and_predicted_hollow(content: Content):
    axes = figures.plot_progress(content.outcomes, GOALS).axes[0]
    predicted, measured = axes.containers
    assert to_hex(predicted[0].get_markerfacecolor()) == "#ffffff"
    assert to_hex(measured[0].get_markerfacecolor()) == drawing.MEASURED_COLOUR
    assert len(predicted[0].get_xdata()) == sum(o.proposal.prediction is not None for o in content.outcomes)
    assert len(measured[0].get_xdata()) == sum(o.leading is not None for o in content.outcomes)
    (best,) = [line for line in axes.get_lines() if "best measured" in str(line.get_label())]
    assert (np.diff(best.get_ydata()) >= 0).all()


def test_the_comparison_shows_every_pair_and_counts_those_inside(content: Content):
    figure = figures.plot_comparison(content.outcomes, GOALS)
    assert len(figure.axes) == 4
    pairs = sum(bool(o.leading and o.proposal.prediction) for o in content.outcomes)
    assert figure.axes[0].get_title(loc="left").startswith(f"n = {pairs}, mean error")
    assert figure.axes[3].get_xlabel() == "nominal probability of the predicted interval"


def test_titles_above_the_panels_stay_above_them(content: Content):
    first = compare(content.outcomes, GOALS.first)
    many = [kind(at) for kind in (SpecificEnergy, CostPerKwh) for at in (CONDITIONS.low, CONDITIONS.high)]
    _, axes = figures.figure_with_axes(4, 4)
    figures._draw_calibration(axes, [replace(first, quantity=q) for q in many])
    lines = axes.get_title().splitlines()
    assert "cost per kwh at 1000 mA/g" in " ".join(lines)
    assert max(map(len, lines)) <= figures.TITLE_CHARACTERS


def test_the_trade_off_names_the_points_of_its_front(content: Content):
    axes = figures.plot_pareto(content.outcomes, GOALS).axes[0]
    assert labels(axes) == {WAITING, f"measured, {CELLS_SPREAD}", "front of the measured"}
    named = {text.get_text() for text in axes.texts}
    best = max((o for o in content.outcomes if o.leading), key=lambda o: o.leading.mean)
    assert best.proposal.proposal_id in named


def test_profiles_have_a_band_a_dashed_mean_and_a_line_for_each_cell(content: Content):
    outcome = next(o for o in content.outcomes if o.leading and o.proposal.round)
    name = outcome.proposal.proposal_id
    axes = figures.plot_profiles([outcome], content.predicted, content.measured, CONDITIONS).axes[0]
    styles = [line.get_linestyle() for line in axes.get_lines()]
    assert styles.count("--") == len(axes.collections) == 2
    assert styles.count("-") == len(content.measured[name]) == 4
    assert {to_hex(line.get_color()) for line in axes.get_lines()} == {
        drawing.LOW_COLOUR.lower(), drawing.HIGH_COLOUR.lower()
    }  # fmt: skip
    longest = max(m.profile.total_capacity_mah_g for m in content.measured[name] if m.profile)
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > longest


def test_many_proposals_are_cut_to_a_page(content: Content):
    many = list(content.outcomes) * 3
    figure = figures.plot_profiles(many, content.predicted, content.measured, CONDITIONS)
    assert len(figure.axes) == figures.PANELS_AT_MOST


def test_the_map_shows_every_composition_once(content: Content):
    axes = figures.plot_map(content.outcomes, GOALS).axes[0]
    assert sum(len(c.get_offsets()) for c in axes.collections) == len(content.outcomes)
    assert {"predicted", "measured", "failed or abandoned"} <= labels(axes)
    assert any(text.get_text().startswith("more ") for text in axes.texts)


def model(number: int, accepted: bool, metrics: dict) -> ModelRecord:
    return ModelRecord(number, f"{number:012d}", "", None, None, (), accepted, metrics, number, "2026-01-01T00:00:00")


def test_the_lineage_shows_errors_before_and_after():
    models = [
        model(1, True, {}),
        model(2, True, {"error_before_mah_g": 30.0, "error_after_mah_g": 20.0}),
        model(3, False, {"error_before_mah_g": 20.0, "error_after_mah_g": 25.0}),
    ]
    assert [drawing.held_out_errors(m) for m in models] == [None, (30.0, 20.0), (20.0, 25.0)]
    axes = figures.plot_lineage(models).axes[0]
    assert labels(axes) == {"before learning", "after, taken into use", "after, refused by the gate"}
    drawn = {(float(x), float(y)) for line in axes.get_lines() for x, y in zip(*line.get_data(), strict=True)}
    assert drawn == {(2, 30), (2, 20), (3, 20), (3, 25)}


def test_a_campaign_without_measurements_has_no_empty_figure(tmp_path: Path):
    ledger = filled_ledger(tmp_path, rounds=1, batch=3)
    before = Content.read(ledger, GOALS, as_of=1)
    assert figures.plot_comparison(before.outcomes, GOALS) is None
    assert figures.plot_lineage(before.snapshot.models) is None
    assert figures.plot_fade(drawing.fades(before.outcomes), CONDITIONS) is None
    assert [name for name, _ in before.figures(before.outcomes)] == [
        "progress",
        "pareto",
        "profiles",
        "composition_map",
    ]


def test_error_bars_end_where_the_quantity_does():
    below, above = drawing.bars(GOALS.first, [0.02, 0.7, 1.0], [0.1, 0.1, 0.1])
    assert below == pytest.approx([0.02, 0.1, 0.1])
    assert above == pytest.approx([0.1, 0.1, 0.05])  # a retention ends at 1.05


def test_both_axes_of_a_comparison_are_the_same(content: Content):
    figure = figures.plot_comparison(content.outcomes, GOALS)
    assert figure is not None
    for axes in figure.axes:
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_aspect() == 1.0


def test_points_carry_the_ids_of_their_proposals(content: Content):
    few = [o for o in content.outcomes if o.leading][:5]
    ids = {o.proposal.proposal_id for o in few}
    comparison = figures.plot_comparison(few, GOALS)
    assert comparison is not None
    for axes in (comparison.axes[0], figures.plot_map(few, GOALS).axes[0], figures.plot_progress(few, GOALS).axes[0]):
        assert {t.get_text() for t in axes.texts} >= ids & {
            o.proposal.proposal_id for o in few if o.proposal.prediction
        }


def test_later_cycles_are_shown_by_cell(tmp_path: Path):
    content = Content.read(filled_ledger(tmp_path, rounds=2, batch=3, cells=1, cycles=4), GOALS)
    cells = drawing.fades(content.outcomes)
    assert {c.cycles for c in cells} == {(1, 2, 3, 4)}
    assert len({(c.outcome.proposal.proposal_id, c.cell) for c in cells}) == len(cells)
    figure = figures.plot_fade(cells, CONDITIONS)
    assert figure is not None
    drawn = [line for line in figure.axes[0].get_lines() if len(line.get_xdata())]
    assert [tuple(line.get_ydata()) for line in drawn] == [c.capacities_mah_g for c in cells]
    assert "fade" in [name for name, _ in content.figures(content.outcomes)]


def test_every_figure_of_the_report_is_drawn(content: Content):
    assert [name for name, _ in content.figures(content.outcomes[:2])] == [name for name in FIGURES if name != "fade"]


def test_no_legend_squeezes_what_it_explains(content: Content):
    for name, figure in content.figures(content.outcomes):
        figure.draw_without_rendering()
        drawn = [axes for axes in figure.axes if axes.axison]
        share = sum({round(a.get_position().x0, 2): a.get_position().width for a in drawn}.values())
        assert share > 0.6, f"{name}: axes take {share:.0%} of the width"
