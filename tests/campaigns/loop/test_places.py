from __future__ import annotations

from ledgers import FIRST, record_round

from campaigns.campaign import Campaign
from campaigns.loop.places import Place, labels_of, with_state
from screening.quantities import QUANTITIES


def test_a_place_knows_what_it_has_no_value_of(campaign: Campaign):
    place = Place(FIRST, None, "predicted", (), None, None, "near")
    assert place.value(QUANTITIES["capacity"].of(campaign.spec.goals.rates)) is None


def test_labels_are_those_of_the_last_proposal(campaign: Campaign):
    record_round(campaign, FIRST)
    assert labels_of(campaign.state()) == {FIRST: "inside"}


def test_what_failed_says_so_first(campaign: Campaign):
    record_round(campaign, FIRST)
    (proposal,) = campaign.state().proposals
    assert with_state(proposal, "near") == with_state(None, "near") == "near"
    campaign.mark("R01-01", "failed", "melted")
    (proposal,) = campaign.state().proposals
    said = with_state(proposal, "near")
    assert said.endswith("; near")
    assert "melted" in said
