from __future__ import annotations

import pytest
from ledgers import record_round

from campaigns.campaign import Campaign
from campaigns.ledger.records import PhaseOutcome
from campaigns.loop.syntheses import share_formed, speaks_of_synthesis, tried_of
from drxnet.composition import Composition
from screening.synthesis import reported


@pytest.mark.parametrize(
    "reason",
    [
        "Nb2O5 left",
        "Li3NbO4 impurity",
        "not single phase",
        "melted in the crucible",
        "spinel by XRD",
        "simulated synthesis failed",
        "phase separation, then the cell broke",
    ],
)
def test_a_reason_that_names_the_synthesis_counts_whatever_else_it_names(reason: str) -> None:
    assert speaks_of_synthesis(reason, unclear=True)
    assert speaks_of_synthesis(reason, unclear=False)


@pytest.mark.parametrize(
    "reason",
    ["cycler channel 4 died", "power outage", "cell shorted", "coin cell leaked", "out of V2O3", "weighed wrong"],
)
def test_an_accident_does_not_count(reason: str) -> None:
    assert not speaks_of_synthesis(reason, unclear=True)


def test_what_a_vague_reason_means_depends_on_the_state() -> None:
    assert speaks_of_synthesis("did not work", unclear=True)
    assert not speaks_of_synthesis("other things first", unclear=False)


@pytest.mark.parametrize(
    ("phases", "single", "share"),
    [
        ({}, True, 1.0),
        ({}, False, 0.0),
        ({}, None, None),
        ({"rocksalt": 80.0, "Li3NbO4": 20.0}, None, 0.8),
        ({"rocksalt": 80.0, "Li3NbO4": 20.0}, False, 0.8),
        ({"DRX": None}, None, 1.0),
        ({"rock salt": None, "spinel": None}, None, 0.5),
        ({"spinel": 100.0}, None, 0.0),
        ({"Li2TiO3": None}, True, 0.0),
        ({"Fm-3m": None}, True, 1.0),
        ({"rocksalt": 80.0, "Li3NbO4": 20.0}, True, 0.8),
    ],
)
def test_share_of_the_phase_that_was_wanted(
    phases: dict[str, float | None], single: bool | None, share: float | None
) -> None:
    assert share_formed(PhaseOutcome("R01-01", phases, single, 1)) == share


def test_what_became_of_each_proposal_is_told_to_the_probability_of_the_phase(campaign: Campaign) -> None:
    """Measured formed, failed did not unless by accident, abandoned only where the synthesis is blamed."""
    made = [f"Li1.2Mn{0.1 + i / 20:g}Ti{0.7 - i / 20:g}O2" for i in range(9)]
    record_round(campaign, *made)
    campaign.add_measurements(
        [{"proposal_id": f"R01-0{i}", "current_ma_g": 20, "capacity_mah_g": 200.0} for i in (1, 2)], fine_tune=False
    )
    campaign.mark("R01-02", phases="rocksalt 70, spinel 30")
    for name, state, reason in (
        ("R01-03", "failed", "TiO2 left"),
        ("R01-04", "failed", "power outage"),
        ("R01-05", "abandoned", "too dear"),
        ("R01-06", "abandoned", "melted each time"),
        ("R01-07", "accepted", "melted once"),
    ):
        campaign.mark(name, state, reason)
    campaign.mark("R01-08", single_phase=True)
    tried = tried_of(campaign.state())
    assert tried[: len(reported())] == reported()
    own = tried[len(reported()) :]
    assert all(t.own and t.weight == 1.0 for t in own)
    names = {Composition.parse(formula): f"R01-0{i}" for i, formula in enumerate(made, start=1)}
    assert {names[t.composition]: (t.formed, t.reason) for t in own} == {
        "R01-01": (1.0, ""),
        "R01-02": (0.7, "rocksalt 70, spinel 30"),
        "R01-03": (0.0, "TiO2 left"),
        "R01-06": (0.0, "melted each time"),
        "R01-08": (1.0, "single-phase"),
    }
