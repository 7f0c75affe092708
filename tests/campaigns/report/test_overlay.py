"""Measured compositions on a capacity map of the model: those that lie in its plane, under its conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ledgers import record_round

from campaigns.campaign import Campaign
from campaigns.loop.outcomes import outcomes_of
from campaigns.report.overlay import measured_on
from drxnet.discharge import CyclingConditions
from drxnet.figures import CapacityMap, plot_map

AT = (CyclingConditions(20.0), CyclingConditions(1000.0))
IN_PLANE, WITH_CR, WITH_TI = "Li1.2Mn0.8O1.9F0.1", "Li1.2Cr0.3Mn0.5O2", "Li1.25Ti0.2Mn0.55O1.8F0.2"


@pytest.fixture
def drawn() -> CapacityMap:
    """A map of Li and F, Mn filling the sites."""
    x, y = np.linspace(1.05, 1.35, 7), np.linspace(0, 0.7, 5)
    field = np.stack([200 + 100 * np.add.outer(y, x), 100 + 80 * np.add.outer(y, x)])
    interval = np.stack([field - 80, field + 60])
    return CapacityMap("Li", "F", "Mn", x, y, np.add.outer(0 * y, x) + 2, field, 0.1 * field, AT, interval)


@pytest.fixture
def measured(campaign: Campaign) -> Campaign:
    record_round(campaign, IN_PLANE, WITH_CR, WITH_TI)
    rows = [{"proposal_id": f"R01-0{n}", "current_ma_g": 20, "capacity_mah_g": 220.0 + n} for n in (1, 2, 3)]
    campaign.add_measurements(rows, fine_tune=False)
    return campaign


def test_only_what_lies_in_the_plane_is_marked(measured: Campaign, drawn: CapacityMap):
    outcomes = outcomes_of(measured.state(), measured.spec.goals)
    (point,) = measured_on(drawn, {}, outcomes)
    assert (point.name, point.x, point.y, point.capacity_mah_g) == ("R01-01", 1.2, 0.1, 221.0)
    assert point.conditions == AT[0]
    assert [p.name for p in measured_on(drawn, {"Ti": 0.2}, outcomes)] == ["R01-03"]
    assert measured_on(drawn, {"Ti": 0.3}, outcomes) == []


def test_the_map_shows_them_over_capacity_and_uncertainty(
    measured: Campaign, drawn: CapacityMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = []
    monkeypatch.setattr("drxnet.figures.save_figure", lambda figure, path, **_: kept.append(figure))
    points = measured_on(drawn, {}, outcomes_of(measured.state(), measured.spec.goals))
    plot_map(drawn, tmp_path / "map.png", model="demo", measured=points)
    panels = [axes for axes in kept[0].axes if axes.get_xlabel().startswith("Li")]
    assert len(panels) == 4  # two conditions, each with its uncertainty below
    named = [[text.get_text() for text in axes.texts if text.get_text().startswith("R01")] for axes in panels]
    assert named == [["R01-01, 221"], [], ["R01-01, 221"], []]
    widths = panels[2].collections[0].get_array()
    assert np.allclose(widths, 140.0)
