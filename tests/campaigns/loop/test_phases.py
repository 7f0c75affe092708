"""Phases and measured compositions are recorded with the proposal, and told to models only where a campaign says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, record_round, write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.ledger.records import State
from campaigns.loop.finetune import profile_set
from campaigns.loop.mark import mark_all
from campaigns.loop.phases import Found, parse_icp, parse_phases, parse_yes_no, read_findings, said
from drxnet.errors import ConfigurationError, UsageError

ICP = "Li1.15Mn0.42Ti0.43O2"


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("rocksalt 80, Li3NbO4 20", {"rocksalt": 80.0, "Li3NbO4": 20.0}),
        ("rocksalt", {"rocksalt": None}),
        ("rocksalt: 92.5 %; spinel=7.5", {"rocksalt": 92.5, "spinel": 7.5}),
        ("disordered rocksalt 95, Li3NbO4", {"disordered rocksalt": 95.0, "Li3NbO4": None}),
        ("Li2TiO3 100", {"Li2TiO3": 100.0}),
        ("Li3NbO4", {"Li3NbO4": None}),
    ],
)
def test_phases_are_read_as_people_write_them(text: str, phases: dict[str, float | None]):
    assert parse_phases(text) == phases


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "at least one phase"),
        ("80", "reads like"),
        ("rocksalt 80, rocksalt 20", "named twice"),
        ("rocksalt 80, spinel 40", "at most 100 %. Got 120"),
        ("rocksalt 0", "between 0 and 100"),
        ("rocksalt 180", "between 0 and 100"),
    ],
)
def test_phases_that_cannot_be_are_refused(text: str, complaint: str):
    with pytest.raises(UsageError, match=complaint):
        parse_phases(text)


def test_yes_and_no_and_compositions_are_read():
    assert (parse_yes_no("Yes"), parse_yes_no("no")) == (True, False)
    assert parse_icp("Li1.15 Mn0.42 Ti0.43 O2") == parse_icp(ICP)
    with pytest.raises(UsageError, match="yes or no"):
        parse_yes_no("perhaps")
    with pytest.raises(UsageError, match="composition as measured"):
        parse_icp("NaCl")


def test_what_was_found_is_recorded_with_the_proposal(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    assert campaign.mark("R01-01", "failed", "two phases", phases="rocksalt 80, Li3NbO4 20") == ("R01-01",)
    assert campaign.mark("R01-02", single_phase=True, icp=ICP) == ("R01-02",)
    state = campaign.state()
    assert [p.state for p in state.proposals] == [State.FAILED, State.PROPOSED]
    assert state.phases["R01-01"].phases == {"rocksalt": 80.0, "Li3NbO4": 20.0}
    assert state.phases["R01-02"].single_phase is True
    assert state.analysed == {"R01-02": parse_icp(ICP)}
    assert "rocksalt 80, Li3NbO4 20" in state.events[-2].summary
    with pytest.raises(UsageError, match="Say what became of"):
        campaign.mark("R01-01")
    with pytest.raises(UsageError, match="give a reason"):
        campaign.mark("R01-02", "failed", phases="spinel")


def test_table_records_all_or_none(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND)
    table = tmp_path / "xrd.csv"
    table.write_text(
        "proposal;state;reason;phases;single phase;ICP\n"
        "R01-01;failed;two phases;rocksalt 80, Li3NbO4 20;no;\n\n"
        f"R01-02;;;;yes;{ICP}\n"
    )
    assert mark_all(campaign, read_findings(table)) == ("R01-01", "R01-02")
    before = campaign.state()
    table.write_text("proposal,phases\nR01-01,spinel 10\nR09-09,spinel\n")
    with pytest.raises(UsageError, match="R09-09"):
        mark_all(campaign, read_findings(table))
    assert campaign.state() == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("phases\nrocksalt\n", "no column 'proposal'"),
        ("proposal,colour\nR01-01,red\n", "unknown column colour"),
        ("proposal,phases\nR01-01,rocksalt 200\n", "row 2: The share"),
        ("proposal,phases\n,rocksalt\n", "row 2: names no proposal"),
        ("proposal,phases\n", "no rows"),
    ],
)
def test_table_that_cannot_be_read_is_refused(tmp_path: Path, text: str, complaint: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        read_findings(tmp_path / "t.csv")


@pytest.mark.parametrize("told", ["target", "measured"])
def test_models_are_told_the_measured_composition_only_where_the_campaign_says_so(tmp_path: Path, told: str):
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"), composition=told)
    with Campaign.start(tmp_path / "demo", template) as campaign:
        record_round(campaign, FIRST)
        row = {"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}
        campaign.add_measurements([row], fine_tune=False)
        campaign.mark("R01-01", icp=ICP)
        state = campaign.state()
        wanted = parse_icp(ICP) if told == "measured" else FIRST
        assert state.made("R01-01") == wanted
        (composition,) = profile_set(campaign.ledger.profiles(state.valid), state).unique[0]
        assert composition.formula == wanted
        assert state.valid[0].composition == FIRST


@pytest.mark.parametrize(
    ("words", "means"), [(("yes", "y", "true", "1", " YES "), True), (("no", "n", "false", "0", "False"), False)]
)
def test_every_word_for_yes_and_no_is_read(words: tuple[str, ...], means: bool):
    assert [parse_yes_no(word) for word in words] == [means] * len(words)


@pytest.mark.parametrize(("text", "fits"), [("a 50.3, b 50.2", True), ("a 50.3, b 50.3", False), ("a 100.5", True)])
def test_shares_may_add_up_to_what_rounding_makes_of_a_hundred(text: str, fits: bool):
    if fits:
        assert sum(share or 0 for share in parse_phases(text).values()) == pytest.approx(100.5)
    else:
        with pytest.raises(UsageError, match="add up to at most 100 %. Got 100.6"):
            parse_phases(text)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([Found("r01-01", "failed", "melted")], "R01-01: failed, melted"),
        ([Found("R01-01", phases={"rocksalt": 80.0, "spinel": None})], "R01-01: rocksalt 80, spinel"),
        ([Found("R01-01", single_phase=False)], "R01-01: not single-phase"),
        ([Found("R01-01", single_phase=True, phases={"rocksalt": 99.5})], "R01-01: single-phase (rocksalt 99.5)"),
        ([Found("R01-01", "accepted", icp=ICP)], f"R01-01: accepted, measured {ICP}"),
        (
            [Found("R01-01", "failed"), Found("R01-02", single_phase=True), Found("R01-03", "failed")],
            "R01-01, R01-03: failed; R01-02: single-phase",
        ),
    ],
)
def test_what_was_found_is_one_sentence_for_the_log(found: list[Found], words: str):
    assert said(found) == words
