"""Which proposal a composition belongs to, where it was proposed more than once."""

from __future__ import annotations

import pytest
from ledgers import FIRST, record_round

from campaigns.campaign import Campaign
from campaigns.intake.matching import match_composition
from campaigns.ledger.records import State
from drxnet.composition import Composition
from drxnet.process import NOT_STATED


def become(campaign: Campaign, proposal_id: str, state: State) -> None:
    """Bring a proposal there as a laboratory does."""
    if state is State.MEASURED:
        row = {"proposal_id": proposal_id, "current_ma_g": 20, "capacity_mah_g": 240.0}
        campaign.add_measurements([row], fine_tune=False)
    elif state is not State.PROPOSED:
        campaign.mark(proposal_id, str(state), "said by the laboratory")


@pytest.mark.parametrize(
    ("earlier", "later", "owner"),
    [
        (State.PROPOSED, State.MEASURED, "R01-01"),
        (State.PROPOSED, State.FAILED, "R01-01"),
        (State.PROPOSED, State.ABANDONED, "R01-01"),
        (State.ACCEPTED, State.MEASURED, "R01-01"),
        (State.PROPOSED, State.ACCEPTED, "R02-01"),
        (State.ACCEPTED, State.PROPOSED, "R02-01"),
        (State.MEASURED, State.FAILED, "R02-01"),
        (State.FAILED, State.MEASURED, "R02-01"),
        (State.MEASURED, State.ABANDONED, "R01-01"),
        (State.FAILED, State.ABANDONED, "R01-01"),
        (State.ABANDONED, State.FAILED, "R02-01"),
    ],
    ids=lambda value: str(value),
)
def test_of_two_proposals_of_a_composition_the_pending_one_is_made_then_the_latest_not_abandoned(
    campaign: Campaign, earlier: State, later: State, owner: str
):
    for proposal_id, state in (("R01-01", earlier), ("R02-01", later)):
        record_round(campaign, FIRST)
        become(campaign, proposal_id, state)
    assert [p.state for p in campaign.state().proposals] == [earlier, later]
    assert match_composition(campaign.state(), Composition.parse(FIRST), NOT_STATED, "a.csv") == (owner, FIRST)
