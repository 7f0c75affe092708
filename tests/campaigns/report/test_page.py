"""Pieces of the page: rows, numbers with their spread, what a script element may hold, curves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from filled_ledgers import GOALS, filled_ledger

from campaigns.ledger.records import NewModel, State
from campaigns.report import page
from campaigns.report.write import Content
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
        (Estimate(231.4, 12.3, 2), CAPACITY, "231 ± 12"),
        (Estimate(231.4, 0.2, 2), CAPACITY, "231 ± &lt;1"),
        (Estimate(0.7349, 0.021, 0), GOALS.first, "0.73 ± 0.02"),
        (Estimate(0.7349, 0.001, 2), GOALS.first, "0.73 ± &lt;0.01"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_are_shown_with_their_spread(estimate: Estimate | None, quantity: Quantity, shown: str):
    assert page._number(estimate, quantity) == shown


def test_the_first_table_is_in_the_order_of_the_lower_bound(content: Content, text: str):
    first = text[: text.index("What is being made")]
    bounds = [float(b) for b in re.findall(r"<td class='number'>(0\.\d\d)</td>", first)]
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
    curve = page._curve(voltage, capacity, 0.1 * capacity)
    assert curve["v"] == [1.5, 4.8]
    assert len(curve["q"]) == len(curve["s"]) == page.POINTS_PER_CURVE
    assert curve["q"] == pytest.approx(np.linspace(250, 0, page.POINTS_PER_CURVE), abs=0.05)
    assert curve["s"] == pytest.approx(np.linspace(25, 0, page.POINTS_PER_CURVE), abs=0.05)


def test_error_bars_are_left_out_where_there_are_too_many():
    assert page._bars(np.ones(page.POINTS_WITH_BARS), "#000000")["array"] == [1.0] * page.POINTS_WITH_BARS
    assert page._bars(np.ones(page.POINTS_WITH_BARS + 1), "#000000") == {"visible": False}


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
    assert page._formula("Li1.2Mn0.4Ti0.4O2").replace("<sub>", "").replace("</sub>", "") == "Li1.2Mn0.4Ti0.4O2"
    assert page._with_subscripts("keeps 85% of Li1.2Mn0.8O2 (R02-07) at 20") == (
        "keeps 85% of Li<sub>1.2</sub>Mn<sub>0.8</sub>O<sub>2</sub> (R02-07) at 20"
    )
