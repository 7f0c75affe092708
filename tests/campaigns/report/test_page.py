"""Pieces of the page: rows, numbers with their spread, what a script element may hold, curves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from filled_ledgers import GOALS, filled_ledger

from campaigns.ledger.records import NewModel, State
from campaigns.report import interactive, page
from campaigns.report.write import Content
from drxnet.errors import UsageError
from screening.estimates import Estimate
from screening.quantities import Capacity, Quantity

CAPACITY = Capacity(GOALS.rates.low)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return Content.read(filled_ledger(tmp_path_factory.mktemp("campaign"), rounds=3, batch=5), GOALS)


@pytest.fixture(scope="module")
def text(content: Content) -> str:
    return content.page()


@pytest.mark.parametrize(
    ("estimate", "quantity", "shown"),
    [
        (None, CAPACITY, "–"),
        (Estimate(231.4, None), CAPACITY, "231"),
        (Estimate(231.4, 9.0, 2, 12.3), CAPACITY, "231 ± 12"),
        (Estimate(231.4, 9.0, 2, 0.2), CAPACITY, "231 ± &lt;1"),
        (Estimate(0.7349, 9.0, 0, 0.021), GOALS.first, "0.73 ± 0.02"),
        (Estimate(0.7349, 9.0, 2, 0.001), GOALS.first, "0.73 ± &lt;0.01"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_are_shown_with_their_spread(estimate: Estimate | None, quantity: Quantity, shown: str):
    assert page._number(estimate, quantity) == shown


def test_the_first_table_is_in_the_order_of_the_lower_bound(content: Content, text: str):
    first = text[: text.index("What is being made")]
    bounds = [float(b) for b in re.findall(r"<td class='number'>(0\.\d\d) to \d\.\d\d</td>", first)]
    assert len(bounds) == page.ROWS_IN_TABLE
    assert bounds == sorted(bounds, reverse=True)
    best = max(content.outcomes, key=lambda o: o.merit)
    assert f"<td>{best.proposal.proposal_id}</td>" in first


def test_failed_compositions_are_not_in_the_first_table(content: Content, text: str):
    first = text[: text.index("What is being made")]
    failed = [o.proposal.proposal_id for o in content.outcomes if o.proposal.state is State.FAILED]
    assert failed
    assert not any(f"<td>{name}</td>" in first for name in failed)


def test_what_is_being_made_says_why(content: Content, text: str):
    section = text[text.index("What is being made") : text.index("Are we getting better?")]
    for proposal in content.snapshot.pending:
        assert f"<td>{proposal.proposal_id}</td>" in section
    assert section.count("high retention, unlike the rest of the batch") == section.count("class='why'")
    assert "1000 mA/g missing" in section


def test_rows_of_the_full_list_can_be_searched(content: Content, text: str):
    section = text[text.index('<details id="everything">') :]
    for outcome in content.outcomes:
        assert f'data-text="{outcome.proposal.composition} {outcome.proposal.proposal_id}'.lower() in section


def test_json_inside_a_script_cannot_end_it():
    dangerous = {"name": "</script><script>alert(1)</script>"}
    written = page._json(dangerous)
    assert "</" not in written
    assert json.loads(written) == dangerous


def test_json_holds_no_not_a_number():
    with pytest.raises(ValueError, match="Out of range float"):
        page._json({"q": float("nan")})


def test_a_curve_is_resampled_between_its_ends():
    voltage, capacity = np.linspace(1.5, 4.8, 301), np.linspace(250, 0, 301)
    curve = interactive.curve(voltage, capacity, 0.1 * capacity)
    assert curve["v"] == [1.5, 4.8]
    assert len(curve["q"]) == len(curve["s"]) == interactive.POINTS_PER_CURVE
    assert curve["q"] == pytest.approx(np.linspace(250, 0, interactive.POINTS_PER_CURVE), abs=0.05)
    assert curve["s"] == pytest.approx(np.linspace(25, 0, interactive.POINTS_PER_CURVE), abs=0.05)


def test_error_bars_are_left_out_where_there_are_too_many():
    ones = np.ones(interactive.POINTS_WITH_BARS)
    drawn = interactive._bars(CAPACITY, 10 * ones, ones, "#000000")
    assert drawn["array"] == drawn["arrayminus"] == ones.tolist()
    many = np.ones(interactive.POINTS_WITH_BARS + 1)
    assert interactive._bars(CAPACITY, 10 * many, many, "#000000") == {"visible": False}


def test_error_bars_do_not_reach_below_zero():
    assert interactive._bars(CAPACITY, [5.0], [8.0], "#000000")["arrayminus"] == [5.0]


def test_parity_plots_have_equal_axes(content: Content):
    found = interactive.comparisons(content.outcomes, GOALS)
    assert len(found) == 4
    for figure in found.values():
        x, y = figure["layout"]["xaxis"], figure["layout"]["yaxis"]
        assert x["range"] == y["range"]
        assert y["scaleanchor"] == "x"


def test_every_point_knows_its_proposal(content: Content):
    ids = {o.proposal.proposal_id for o in content.outcomes}
    figures = {
        "progress": interactive.progress(content.outcomes, GOALS),
        "pareto": interactive.pareto(content.outcomes, GOALS),
        **interactive.composition_maps(content.outcomes, GOALS),
        **interactive.composition_maps(content.outcomes, GOALS, ["Li", "Cr"]),
        **interactive.composition_maps(content.outcomes, GOALS, ["Mn", "Cr", "Ti"]),
    }
    for figure in figures.values():
        for trace in (t for t in figure["data"] if t["mode"].startswith("markers")):
            assert set(trace["customdata"]) <= ids
            for name, told in zip(trace["customdata"], trace["hovertext"], strict=True):
                assert name in told


def test_a_map_has_two_or_three_elements_that_there_are(content: Content):
    ternary = interactive.composition_maps(content.outcomes, GOALS, ["Mn", "Cr", "Ti"])["map"]["data"][0]
    assert ternary["type"] == "scatterternary"
    assert len(ternary["a"]) == len(ternary["b"]) == len(ternary["c"])
    for elements in (["Li"], ["Li", "Li"], ["Li", "Xx"], ["Li", "Mn", "Cr", "Ti"]):
        with pytest.raises(UsageError, match="two or three different elements of Li, Mg"):
            interactive.composition_maps(content.outcomes, GOALS, elements)


def test_the_map_says_how_uncertain_a_composition_is(content: Content):
    found = interactive.composition_maps(content.outcomes, GOALS)
    assert found.keys() == {"map", "map-spread"}
    outcome = next(o for o in content.outcomes if o.leading is None and not o.dropped)
    said = outcome.predicted(GOALS.first)
    assert said is not None
    waiting = next(t for t in found["map-spread"]["data"] if t["name"] == "predicted")
    shown = waiting["marker"]["color"][waiting["customdata"].index(outcome.proposal.proposal_id)]
    assert shown == pytest.approx(said.spread, rel=1e-4)


def test_the_lineage_links_each_model_with_the_one_it_descends_from(content: Content):
    models = content.snapshot.models
    figure = interactive.lineage(models)
    assert figure is not None
    links = [t for t in figure["data"] if t.get("yaxis") == "y2" and t["mode"] == "lines"]
    assert len(links) == sum(m.parent is not None for m in models)
    assert interactive.lineage(models[:1]) is None


def test_a_page_before_data_says_so_instead_of_empty_panels(tmp_path: Path):
    text = Content.read(filled_ledger(tmp_path, rounds=1, batch=3), GOALS, as_of=1).page()
    assert "there is nothing to compare" in text
    assert "No cell was cycled on yet" in text
    assert not re.search(r'id="(compare-|calibration|fade|lineage)', text)


def test_the_page_says_what_the_campaign_wants_and_no_calibrated_spread_is_of_the_members(text: str):
    assert "as large as possible (not worth making below 0.3)" in text
    assert "at least 220" in text
    for sentence in re.findall(r"[^.>]*over (?:the ensemble's )?members[^.<]*", text.split("<script")[2]):
        assert "band" in sentence or "Dashed" in sentence, sentence
    assert "s.d. of the calibrated posterior" in text


def test_many_models_are_folded_away(tmp_path: Path):
    ledger = filled_ledger(tmp_path, rounds=page.MODELS_IN_TABLE + 4, batch=1, cells=1)
    text = Content.read(ledger, GOALS).page()
    assert "4 older models" in text
    assert "in use" in text


def test_a_refused_model_says_why(tmp_path: Path):
    ledger = filled_ledger(tmp_path, rounds=1, batch=1)
    with ledger.write("finetune") as entry:
        metrics = {"error_before_mah_g": 11.5, "error_after_mah_g": 8.6, "reason": "It forgot <too> much."}
        entry.add_model(NewModel("refused", "", "a1b2c3d4e5f6", None, (), accepted=False, metrics=metrics))
    text = Content.read(ledger, GOALS).page()
    assert "refused by the gate" in text
    assert "It forgot &lt;too&gt; much." in text
    assert "<td>refused</td>" not in text


def test_formulas_have_subscripts_and_nothing_else():
    assert page._formula("Li1.2Mn0.4O2") == "Li<sub>1.2</sub><wbr>Mn<sub>0.4</sub><wbr>O<sub>2</sub>"
    assert page._with_subscripts("keeps 85% of Li1.2Mn0.8O2 (R02-07) at 20") == (
        "keeps 85% of Li<sub>1.2</sub><wbr>Mn<sub>0.8</sub><wbr>O<sub>2</sub> (R02-07) at 20"
    )
