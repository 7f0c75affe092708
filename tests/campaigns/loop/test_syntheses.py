from __future__ import annotations

import pytest

from campaigns.ledger.records import PhaseOutcome
from campaigns.loop.syntheses import share_formed, speaks_of_synthesis


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
