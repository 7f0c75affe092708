from __future__ import annotations

import pytest
from ledgers import FIRST, SECOND, THIRD, record_round

from campaigns.campaign import Campaign
from campaigns.loop.places import Means, Place, Question, Sought, labels_of, with_state
from drxnet.process import Process
from screening.quantities import QUANTITIES, Capacity


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


MILLED, PLAIN = Process.of({"milled": "yes"}), Process.of({"milled": "no"})


@pytest.mark.parametrize(
    ("composition", "process", "by_way", "left_out"),
    [
        (FIRST, MILLED, True, True),
        (FIRST, PLAIN, True, False),  # it may be made the other way
        (FIRST, PLAIN, False, True),  # where there is nothing to choose it is measured however it was made
        (SECOND, MILLED, True, True),
        (SECOND, PLAIN, True, True),
        (THIRD, MILLED, True, False),
        (THIRD, MILLED, False, False),
    ],
)
def test_what_is_measured_is_left_out_as_it_was_made(composition: str, process: Process, by_way: bool, left_out: bool):
    measured = frozenset({(FIRST, MILLED), (SECOND, MILLED), (SECOND, PLAIN)})
    sought = Sought((), measured, Question(), None)
    assert sought.is_measured(composition, process, by_way=by_way) is left_out


@pytest.mark.parametrize(
    ("question", "several", "space", "shortlisted", "top"),
    [
        (Question(), False, False, False, 50),
        (Question(within="space", top=7), False, True, False, 7),
        (Question(within="space", order="mean", top=None), False, True, True, 50),
        (Question(within="space"), True, True, True, 50),
        (Question(within="proposed", order="mean"), True, False, False, 50),
        (Question(within="measured"), False, False, False, 50),
    ],
)
def test_a_question_says_what_is_looked_at(
    campaign: Campaign, question: Question, several: bool, space: bool, shortlisted: bool, top: int
):
    quantities = tuple(QUANTITIES[name].of(campaign.spec.goals.rates) for name in ("capacity", "specific-energy"))
    sought = Sought(quantities[: 2 if several else 1], frozenset(), question, None)
    assert (sought.space, sought.shortlisted, sought.top) == (space, shortlisted, top)


def test_the_usual_number_counts_where_none_was_said():
    assert [Means(workers=said).with_usual(3).workers for said in (None, 0, 2)] == [3, 0, 2]
    assert Means().with_usual(None).workers is None


def test_a_value_is_that_of_the_quantity_asked_for(campaign: Campaign):
    rates = campaign.spec.goals.rates
    low, high = Capacity(rates.low), Capacity(rates.high)
    record_round(campaign, FIRST)
    (proposal,) = campaign.state().proposals
    assert proposal.prediction is not None
    place = Place(FIRST, proposal, "predicted", proposal.prediction.values, None, None, "near")
    assert [place.value(q).mean for q in (low, high)] == [275.0, 275.0 * 0.7]


@pytest.mark.parametrize(
    ("state", "word"),
    [("failed", "failed (melted); near"), ("abandoned", "abandoned (melted); near"), ("accepted", "near")],
)
def test_what_became_of_a_proposal_is_said_where_it_will_not_be_made(campaign: Campaign, state: str, word: str):
    record_round(campaign, FIRST)
    campaign.mark("R01-01", state, "melted")
    assert with_state(campaign.state().proposals[0], "near") == word
