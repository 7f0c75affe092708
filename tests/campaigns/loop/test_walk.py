"""A round proves its walk: what was changed afterwards is found, and what was not holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from ledgers import FIRST, SECOND, record_round, write_campaign
from small_model import write_small_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.loop.propose import proof_path, propose
from campaigns.loop.walk import VerifiedWalk, verify_ranking, verify_walks
from drxnet.checkpoint import save
from drxnet.ensemble import Ensemble
from drxnet.errors import DataRefused, UsageError
from screening.proof import WalkProof


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory):
    """A campaign with a measured first round and a second one that was walked."""
    folder = tmp_path_factory.mktemp("walk")
    model = write_small_model(folder / "small")
    with Campaign.start(folder / "demo", write_campaign(folder / "t.yaml", model)) as campaign:
        record_round(campaign, FIRST, SECOND)
        campaign.add_measurements(
            [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 210.0}], fine_tune=False
        )
        propose(campaign)
        yield campaign


@pytest.fixture
def proof(campaign: Campaign):
    """Path of the proof, put back afterwards."""
    path = proof_path(campaign, 2)
    kept = path.read_bytes()
    yield path
    path.write_bytes(kept)


def check(campaign: Campaign, sample: float = 1.0) -> VerifiedWalk:
    (found,) = verify_walks(campaign, 2, sample=sample)
    return found


def test_a_round_holds_after_the_campaign_went_on(campaign: Campaign) -> None:
    campaign.add_measurements([{"proposal_id": "R02-01", "current_ma_g": 20, "capacity_mah_g": 190.0}], fine_tune=False)
    found = check(campaign)
    assert found.wrong == ()
    assert found.verification is not None
    assert found.verification.identical == found.verification.recomputed > 0
    assert found.as_row()["holds"] is True
    told = campaign.state().rounds[1].statistics["walk"]
    assert set(told) == {
        "root", "shards", "scored", "keep", "scorer", "engines", "engine", "known_rounds", "phases", "fitted",
    }  # fmt: skip
    assert told["scored"] == found.verification.scored == campaign.state().rounds[1].statistics["scored"]


def test_proposals_are_in_the_list_of_the_proof(campaign: Campaign, proof: Path) -> None:
    listed = {rank for rank, _ in WalkProof.read(proof)[0].best}
    source = campaign.spec.candidates()
    for proposal in campaign.state().proposals_of(2):
        if proposal.origin == "proposed":
            assert source.rank(source.row(proposal.composition)) in listed


def edited(path: Path, change) -> None:
    kept, _ = WalkProof.read(path)
    shards = list(kept.shards)
    change(shards)
    replace(kept, shards=tuple(shards)).write(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda shards: shards.__setitem__(0, replace(shards[0], digest="0" * 64)), "another digest than in the proof"),
        (lambda shards: shards.__setitem__(0, replace(shards[0], scored=shards[0].scored + 1)), "scored "),
        (lambda shards: shards.pop(), "are missing"),
    ],
    ids=["digest", "count", "missing-shard"],
)
def test_a_proof_that_was_made_again_is_not_the_one_of_the_round(campaign: Campaign, proof: Path, change, says) -> None:
    edited(proof, change)
    found = check(campaign)
    assert any("it is not the same proof" in text for text in found.wrong)
    assert any(says in text for text in found.wrong)


def test_a_changed_byte_and_a_lost_proof_are_named(campaign: Campaign, proof: Path) -> None:
    proof.write_text(proof.read_text().replace('"rejected":0', '"rejected":1', 1))
    assert any("R02.walk.jsonl, line 2: the shard of ranks 0" in text for text in check(campaign).wrong)
    proof.unlink()
    assert "R02.walk.jsonl is gone" in check(campaign).wrong[0]
    proof.write_text("")


def test_another_model_is_named(campaign: Campaign, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Ensemble.load("default").subset([2, 3])
    save(campaign.folder / "other", shipped.network.state_dict(), shipped.card)
    monkeypatch.setattr(type(campaign), "model_path", lambda self, model: self.folder / "other")
    found = check(campaign)
    assert any("scored by another model" in text for text in found.wrong)
    assert any("another digest" in text for text in found.wrong)


def test_a_fit_that_ends_in_other_digits_elsewhere_is_no_other_model(campaign: Campaign, monkeypatch) -> None:
    from screening.outlook import Outlook

    real = Outlook.of.__func__  # type: ignore[attr-defined]

    def elsewhere(by: float):
        def of(cls, *arguments, **settings):
            found = real(cls, *arguments, **settings)
            digits = tuple((name, tuple(v * by for v in values)) for name, values in found.hyperparameters)
            return replace(found, hyperparameters=digits)._with(found.ensemble, found.surrogate)

        return classmethod(of)

    monkeypatch.setattr(Outlook, "of", elsewhere(1 + 1e-6))
    assert check(campaign, 0.01).wrong == ()
    monkeypatch.setattr(Outlook, "of", elsewhere(1.05))
    assert any("scored by another model, surrogate" in text for text in check(campaign, 0.01).wrong)


def test_rounds_without_a_walk_are_said(campaign: Campaign) -> None:
    with pytest.raises(UsageError, match="R01 was not chosen by a complete walk"):
        next(verify_walks(campaign, 1))
    with pytest.raises(UsageError, match="There is no round R07"):
        next(verify_walks(campaign, 7))


def test_the_command_says_the_sentence_and_exits_with_three_where_it_fails(campaign: Campaign, proof: Path) -> None:
    arguments = ["verify", "--campaign", str(campaign.folder), "--round", "R02", "--sample", "100%", "--format", "json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "nothing outside the list can beat rank K" in done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["round"], row["holds"], row["recomputed"]) == ("R02", True, row["shards"])
    edited(proof, lambda shards: shards.pop())
    failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 3
    assert "are missing" in failed.stderr
    wrong = CliRunner().invoke(main, [*arguments[:5], "--sample", "0"])
    assert (wrong.exit_code, "more than 0% and at most 100%" in wrong.stderr) == (2, True)


# -- a ranking of the space ------------------------------------------------------------------------------


@pytest.fixture
def ranked(campaign: Campaign, tmp_path: Path) -> Path:
    """The proof of a ranking of the whole space."""
    path = tmp_path / "best.walk.jsonl"
    campaign.rank("capacity", within="space", top=3, workers=0, proof=path)
    return path


def test_a_ranking_of_the_space_proves_that_it_left_nothing_better_out(campaign: Campaign, ranked: Path) -> None:
    found = verify_ranking(campaign, ranked, sample=1.0)
    assert found.wrong == ()
    assert found.verification is not None
    assert found.verification.walked == campaign.spec.candidates().count
    assert found.verification.identical == found.verification.recomputed > 0
    assert found.as_row()["round"] == "best.walk.jsonl"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda shards: shards.__setitem__(0, replace(shards[0], digest="0" * 64)), "another digest than in the proof"),
        (lambda shards: shards.__setitem__(0, replace(shards[0], best=shards[0].best[1:])), "the list holds"),
        (lambda shards: shards.pop(), "are missing"),
    ],
    ids=["digest", "list", "missing-shard"],
)
def test_a_ranking_that_was_tampered_with_is_named(campaign: Campaign, ranked: Path, change, says: str) -> None:
    edited(ranked, change)
    assert any(says in text for text in verify_ranking(campaign, ranked, sample=1.0).wrong)


def test_a_ranking_by_something_else_is_another_one(campaign: Campaign, ranked: Path) -> None:
    kept, _ = WalkProof.read(ranked)
    question = kept.job["ranking"]["question"] | {"by": "average-voltage"}
    replace(kept, job={**kept.job, "ranking": {**kept.job["ranking"], "question": question}}).write(ranked)
    assert any("scored by another model" in text for text in verify_ranking(campaign, ranked).wrong)


def test_a_proof_of_what_is_no_longer_so_says_how_to_get_one_that_lasts(campaign: Campaign, ranked: Path, tmp_path):
    lasting = tmp_path / "lasting.jsonl"
    campaign.rank("capacity", within="space", top=3, workers=0, as_of=2, proof=lasting)
    campaign.add_measurements([{"proposal_id": "R02-02", "current_ma_g": 20, "capacity_mah_g": 185.0}], fine_tune=False)
    with pytest.raises(UsageError, match="had .* events; it has .* now.*--as-of R03"):
        verify_ranking(campaign, ranked)
    assert verify_ranking(campaign, lasting, sample=1.0).wrong == ()


def test_what_has_no_proof_is_refused_before_anything_is_scored(campaign: Campaign, ranked: Path, tmp_path, proof):
    with pytest.raises(UsageError, match="--within space. Got --within proposed"):
        campaign.rank("capacity", proof=tmp_path / "a")
    with pytest.raises(UsageError, match="folder of the proof must exist"):
        campaign.rank("capacity", within="space", proof=tmp_path / "none" / "a")
    with pytest.raises(UsageError, match="the proof of a round"):
        verify_ranking(campaign, proof)
    kept, _ = WalkProof.read(ranked)
    replace(kept, job={**kept.job, "ranking": {"question": {"beauty": 1}}}).write(ranked)
    with pytest.raises(DataRefused, match="does not say what was ranked"):
        verify_ranking(campaign, ranked)


def test_the_commands_write_and_check_the_proof_of_a_ranking(campaign: Campaign, tmp_path: Path) -> None:
    path = str(tmp_path / "p.jsonl")
    asked = ["rank", "-C", str(campaign.folder), "--by", "capacity", "--within", "space", "--workers", "0"]
    assert CliRunner().invoke(main, [*asked, "--proof", path]).exit_code == 0
    done = CliRunner().invoke(main, ["verify", "-C", str(campaign.folder), "--proof", path, "--sample", "100%"])
    assert done.exit_code == 0
    assert "nothing outside the list can beat rank K" in done.output
    both = CliRunner().invoke(main, ["verify", "-C", str(campaign.folder), "--proof", path, "--round", "R02"])
    assert both.exit_code == 2
