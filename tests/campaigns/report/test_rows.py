from __future__ import annotations

from ledgers import FIRST, SECOND, record_round

from campaigns.campaign import Campaign
from campaigns.report.rows import Batch, Rows
from campaigns.report.views import proposal_row


def test_rows_are_a_list_and_turn_into_a_table():
    rows = Rows([{"composition": FIRST, "rank": 1}, {"composition": SECOND, "rank": 2}])
    assert rows == [{"composition": FIRST, "rank": 1}, {"composition": SECOND, "rank": 2}]
    assert list(rows.to_frame().columns) == ["composition", "rank"]
    assert Rows().to_frame().empty


def test_a_batch_is_a_tuple_and_turns_into_the_table_of_propose(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    proposals = campaign.state().proposals
    batch = Batch(proposals)
    assert batch == proposals
    frame = batch.to_frame()
    assert list(frame["proposal_id"]) == ["R01-01", "R01-02"]
    assert list(frame.columns) == list(proposal_row(proposals[0]))
