"""What a person may say of proposals and measurements, whichever door it comes through."""

from __future__ import annotations

import pytest
from ledgers import FIRST, SECOND, record_round

from campaigns.campaign import Campaign
from campaigns.ledger.records import State
from campaigns.loop.mark import confirm, mark, retract
from drxnet.errors import UsageError


def row(proposal_id: str = "R01-01", current: float = 20.0) -> dict[str, object]:
    return {"proposal_id": proposal_id, "current_ma_g": current, "capacity_mah_g": 240.0}


def test_proposals_are_marked_together_with_the_reason(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    assert mark(campaign, ["r01-01", "R01-02"], "failed", "Nb2O5 left") == ("R01-01", "R01-02")
    state = campaign.state()
    assert [(p.state, p.reason) for p in state.proposals] == [(State.FAILED, "Nb2O5 left")] * 2
    assert (state.events[-1].verb, state.events[-1].summary) == ("mark", "R01-01, R01-02: failed, Nb2O5 left")


def test_only_what_changes_is_given_back(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    mark(campaign, ["R01-01"], State.ACCEPTED)
    assert mark(campaign, ["R01-01", "R01-02"], State.ACCEPTED) == ("R01-02",)
    before = campaign.state()
    assert mark(campaign, ["R01-01", "R01-02"], State.ACCEPTED) == ()
    assert campaign.state() == before


@pytest.mark.parametrize(
    ("names", "state", "reason", "message"),
    [
        (["R01-01"], "measured", "", "marked proposed, accepted, failed or abandoned. Got 'measured'"),
        (["R01-01"], "broken", "", "Got 'broken'"),
        (["R01-01"], "failed", " ", "Say why it failed: give a reason"),
        (["R01-01"], "abandoned", "", "Say why it is abandoned"),
        ([], "accepted", "", "Name at least one proposal"),
        (["R09-01"], "accepted", "", "No proposal 'R09-01'"),
        (["R01-02"], "accepted", "", "R01-02 is measured and cannot become accepted"),
        (["R01-02"], "failed", "cell broke", "R01-02 is measured and cannot become failed"),
    ],
    ids=[
        "measured",
        "no-state",
        "blank-reason",
        "no-reason",
        "nothing",
        "unknown",
        "measured-already",
        "measured-fails",
    ],
)
def test_what_cannot_be_said_changes_nothing(
    campaign: Campaign, names: list[str], state: str, reason: str, message: str
):
    record_round(campaign, FIRST, SECOND)
    campaign.add_measurements([row("R01-02")], fine_tune=False)
    before = campaign.state()
    with pytest.raises(UsageError, match=message):
        mark(campaign, [*names, *(["R01-01"] if names else [])], state, reason)
    assert campaign.state() == before


def test_measurements_are_retracted_by_their_proposal_all_or_none(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    campaign.add_measurements([row(), row(current=1000.0), row("R01-02")], fine_tune=False)
    before = campaign.state()
    with pytest.raises(UsageError, match="No measurement, measured proposal or recorded file 'R09-01'"):
        retract(campaign, ["R01-01", "R09-01"], "leaked")
    assert campaign.state() == before
    assert retract(campaign, ["r01-01"], "leaked") == ("M0001", "M0002")
    state = campaign.state()
    assert [m.measurement_id for m in state.valid] == ["M0003"]
    assert state.events[-1].summary == "M0001, M0002: leaked"
    assert state.proposal("R01-01").state is State.ACCEPTED
    with pytest.raises(UsageError, match="M0001 was retracted before: leaked"):
        retract(campaign, ["M0001"], "again")


def test_what_is_confirmed_is_vouched_for(campaign: Campaign):
    record_round(campaign, FIRST)
    (name,) = campaign.add_measurements([row()], fine_tune=False)
    assert confirm(campaign, [name], "weighed again") == (name,)
    (measurement,) = campaign.state().measurements
    assert (measurement.status, measurement.confirmed) == ("valid", True)
    assert campaign.state().events[-1].summary == f"{name}: weighed again"
