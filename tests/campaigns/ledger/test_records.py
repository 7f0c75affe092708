from __future__ import annotations

import pytest
from ledgers import FIRST, LOW, SECOND, prediction

from campaigns.ledger.records import NEXT_STATES, Measurement, ModelRecord, Proposal, Snapshot, State, fingerprint
from drxnet.errors import UsageError


def proposal(name: str, formula: str, state: State) -> Proposal:
    return Proposal(name, 1, formula, "proposed", state, "", prediction(), 1)


def measurement(name: str, **changes) -> Measurement:
    values = ("R01-01", "A", FIRST, LOW, 240.0, 3.1, 740.0, None, "cycler", None, None, (), 2)
    return Measurement(name, *values, **changes)


def test_every_state_can_be_left():
    assert set(NEXT_STATES) == set(State)
    assert all(following for following in NEXT_STATES.values())


def test_failed_is_neither_pending_nor_excluded():
    states = Snapshot(
        "demo", None, proposals=(proposal("R01-01", FIRST, State.FAILED), proposal("R01-02", SECOND, State.ACCEPTED))
    )
    assert [p.proposal_id for p in states.pending] == ["R01-02"]
    assert states.excluded == {SECOND}


def test_unknown_proposal_names_those_of_its_round():
    with pytest.raises(UsageError, match="No proposal 'R01-09' in campaign demo. It has R01-01"):
        Snapshot("demo", None, proposals=(proposal("R01-01", FIRST, State.PROPOSED),)).proposal("R01-09")


def test_status_of_a_measurement_follows_from_its_withdrawal():
    assert measurement("M0001").status == "valid"
    assert measurement("M0001", withdrawn_event=3).status == "retracted"
    assert measurement("M0001", withdrawn_event=3, superseded_by="M0002").status == "superseded"


def model(number: int, parent: str | None = None, *, accepted: bool = True, model_id: str = "") -> ModelRecord:
    return ModelRecord(number, model_id or f"m{number}", "", parent, None, (), accepted, {}, number, "")


def test_current_model_is_the_last_accepted():
    state = Snapshot("demo", None, models=(model(1), model(2, "m1"), model(3, "m1", accepted=False)))
    assert (state.current_model.name, state.first_model.name) == ("N02", "N01")


def test_first_model_is_the_last_that_was_started_from():
    again = model(4, model_id="m2")
    state = Snapshot("demo", None, models=(model(1), model(2), model(3, "m2"), again))
    assert (state.current_model.name, state.first_model.name) == ("N04", "N02")


def test_content_leaves_out_when_and_by_which_event():
    one, other = (Snapshot("demo", None, measurements=(measurement("M0001", withdrawn_event=e),)) for e in (3, 4))
    assert one.content() == other.content()


def test_fingerprint_ignores_the_order_of_keys_only():
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint({"a": 1, "b": [2, 3]}) != fingerprint({"a": 1, "b": [3, 2]})
