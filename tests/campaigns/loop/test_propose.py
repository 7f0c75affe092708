"""Batches: chosen away from what is known, the same for the same state and seed, checked again when recorded."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from ledgers import FIRST, SECOND, record_round, write_campaign
from small_model import write_small_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.ledger.records import State
from campaigns.loop.forecast import laboratories_of, limits_of
from campaigns.loop.propose import _notes, _nothing_left, _share_passing, propose, seed_of_round
from campaigns.report import views
from campaigns.report.bench import bench_sheet
from campaigns.report.round import incomplete_rounds, write_round_files
from campaigns.spec import read_spec
from drxnet.composition import Composition
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError, UsageError
from screening.batch import Choice, choose_batch
from screening.candidates import CandidateList
from screening.economy import REDOX_METALS
from screening.enumerator import Shortlist, Statistics
from screening.errors import NothingToPropose
from screening.filters import Filters
from screening.surrogate import DRXNetGaussianModel


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def live(tmp_path: Path, small_model: Path):
    with Campaign.start(tmp_path / "demo", write_campaign(tmp_path / "t.yaml", small_model)) as campaign:
        yield campaign


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A list of five candidates."""
    formulas = [f"Li1.2Mn{0.2 + i / 10:.1f}Ti{0.6 - i / 10:.1f}O2" for i in range(5)]
    path = tmp_path / "few.csv"
    path.write_text("composition\n" + "\n".join(formulas) + "\n")
    return path


def test_batch_is_recorded_with_everything_that_led_to_it(live: Campaign):
    done = propose(live)
    state = live.state()
    assert done.proposals == state.proposals
    (round_,) = state.rounds
    assert (round_.model_id, round_.spec_hash) == (state.first_model.model_id, live.spec.hash)
    assert round_.seed == seed_of_round(live.spec.seed, 1)
    assert round_.statistics["count"] == live.spec.candidates().count
    assert round_.spec["space"]["step"] == "1/20"
    space = live.spec.candidate_space
    assert space is not None
    for proposal in state.proposals:
        assert space.why_not(Composition.parse(proposal.composition)) == []
        assert proposal.prediction is not None
        first = proposal.prediction.values[0]
        assert first.key == "rate_retention"
        assert 0 <= first.bound <= first.mean <= 1.05
    pairs = live.ledger.predicted_profiles([p.proposal_id for p in state.proposals])
    assert [[q.conditions for q in pair] for pair in pairs.values()] == [
        [live.spec.conditions.low, live.spec.conditions.high]
    ] * 3


def test_a_batch_says_why_it_is_short_and_that_second_cells_are_part_of_it(
    live: Campaign, few: Path, monkeypatch: pytest.MonkeyPatch
):
    (note,) = [n for n in propose(live, candidates=few, batch_size=9, dry_run=True).notes if "of 9 proposed" in n]
    assert note == "5 of 9 proposed: no other candidate is left, or none within the limits of the lab."

    def with_second_cells(*arguments: object, **options: object) -> list[Choice]:
        return [replace(pick, cells=2) for pick in choose_batch(*arguments, **options | {"n": 2})]  # type: ignore[arg-type]

    monkeypatch.setattr("screening.batch.choose_batch", with_second_cells)
    done = propose(live, candidates=few, batch_size=4, dry_run=True)
    assert [p.cells(1) for p in done.proposals] == [2, 2]
    assert not [n for n in done.notes if "proposed:" in n]


def test_second_round_stays_away_from_the_pending_first(live: Campaign, few: Path):
    first = {p.composition for p in propose(live, candidates=few, batch_size=3).proposals}
    second = {p.composition for p in propose(live, candidates=few, batch_size=2).proposals}
    assert len(first | second) == 5
    with pytest.raises(NothingToPropose, match="of 5 candidates 5 pass"):
        propose(live, candidates=few)


def test_what_is_taken_takes_no_place_of_the_list_that_is_chosen_from(live: Campaign, few: Path):
    """A list of one: the taken ones come on top of what a stream keeps, or they would crowd out all that is left."""
    live.spec = live.spec.model_copy(update={"shortlist": 1})
    taken = [propose(live, candidates=few, batch_size=1, strategy="greedy").proposals[0].composition for _ in range(5)]
    assert len(set(taken)) == 5


def test_a_place_that_others_took_twice_goes_to_the_next_of_what_was_kept(
    live: Campaign, few: Path, monkeypatch: pytest.MonkeyPatch
):
    """The stream keeps more than the shortlist holds, so that a batch can be chosen again without another stream."""
    live.spec = live.spec.model_copy(update={"shortlist": 1})
    from campaigns.loop import propose as module

    original, taken = module._record, []

    def slow(campaign, rows, *arguments):
        if len(taken) < 2:  # another process is faster
            taken.append(rows[0].composition)
            record_round(live, rows[0].composition)
        return original(campaign, rows, *arguments)

    monkeypatch.setattr(module, "_record", slow)
    (mine,) = propose(live, candidates=few, batch_size=1, strategy="greedy").proposals
    assert len({mine.composition, *taken}) == 3
    assert live.state().round == 3


def test_failed_may_come_back_and_abandoned_not(live: Campaign, few: Path):
    propose(live, candidates=few, batch_size=5)
    with live.ledger.write("mark") as entry:
        entry.set_state("R01-01", State.FAILED, "melted")
        entry.set_state("R01-02", State.ABANDONED, "too dear")
    (again,) = propose(live, candidates=few, batch_size=1).proposals
    assert again.composition == live.state().proposal("R01-01").composition


def test_a_failed_synthesis_keeps_its_neighbours_away_and_lowers_their_chance(live: Campaign, tmp_path: Path):
    listed = [f"Li1.2Mn{0.3 + i / 40:.3f}Ti{0.5 - i / 40:.3f}O2" for i in range(9)]
    near = tmp_path / "near.csv"
    near.write_text("composition\n" + "\n".join(listed) + "\n")
    before = {p.composition: p.prediction for p in propose(live, candidates=near, batch_size=9, dry_run=True).proposals}
    (first,) = propose(live, candidates=near, batch_size=1).proposals
    live.mark([first.proposal_id], "failed", "TiO2 left")
    after = propose(live, candidates=near, batch_size=9, dry_run=True).proposals
    assert after
    failed = Composition.parse(first.composition)
    for proposal in after:
        assert proposal.prediction is not None
        earlier = before.get(proposal.composition)
        if earlier is not None:
            assert proposal.prediction.phase_probability < earlier.phase_probability
        assert failed.distance(Composition.parse(proposal.composition)) >= 0.1 - 1e-9 or proposal.composition == (
            first.composition
        )
    live.mark([first.proposal_id], "failed", "cycler channel 4 died")  # says nothing of the composition
    accident = propose(live, candidates=near, batch_size=9, dry_run=True).proposals
    assert {p.composition: p.prediction.phase_probability for p in accident} == {
        p.composition: before[p.composition].phase_probability for p in accident
    }


def test_what_a_round_is_expected_to_gain_is_recorded_and_shown(live: Campaign, few: Path):
    assert propose(live, candidates=few, batch_size=2).prospect is None  # nothing is measured
    rows = [
        {"proposal_id": name, "current_ma_g": current, "capacity_mah_g": capacity}
        for name, capacities in (("R01-01", (260.0, 170.0)), ("R01-02", (250.0, 140.0)))
        for current, capacity in zip((20.0, 1000.0), capacities, strict=True)
    ]
    live.add_measurements(rows)
    done = propose(live, candidates=few, batch_size=2)
    assert done.prospect is not None
    assert live.state().rounds[-1].statistics["prospect"] == done.prospect.as_dict()
    assert views.batch(done)["prospect"]["sentence"] == str(done.prospect)
    assert live.summarize()["prospect"] == {"round": "R02", **done.prospect.as_dict()}
    assert live.summarize(1)["prospect"] is None


def test_dry_run_shows_what_would_be_recorded(live: Campaign, few: Path):
    before = live.state()
    shown = propose(live, candidates=few, dry_run=True)
    assert live.state() == before
    done = propose(live, candidates=few)
    assert [p.prediction for p in done.proposals] == [p.prediction for p in shown.proposals]


def test_batch_that_somebody_else_took_is_chosen_again(live: Campaign, few: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = [p.composition for p in propose(live, candidates=few, batch_size=2, dry_run=True).proposals]
    from campaigns.loop import propose as module

    original = module._record

    def slow(*arguments):
        if live.state().round == 0:  # another process is faster, once
            record_round(live, *wanted)
        return original(*arguments)

    monkeypatch.setattr(module, "_record", slow)
    done = propose(live, candidates=few, batch_size=2)
    assert done.round == 2
    assert not {p.composition for p in done.proposals} & set(wanted)


def test_first_batch_may_be_chosen_in_another_way(tmp_path: Path, small_model: Path, few: Path):
    path = write_campaign(tmp_path / "t.yaml", small_model)
    path.write_text(path.read_text() + "first_strategy: space-filling\n")
    with Campaign.start(tmp_path / "demo", path) as campaign:
        at_once = propose(campaign, candidates=few, batch_size=2, strategy="logei", dry_run=True)
        assert not any("Nothing is measured yet" in note for note in at_once.notes)
        first = propose(campaign, candidates=few, batch_size=2)
        assert any("chosen by space-filling" in note and "go by logei" in note for note in first.notes)
        second = propose(campaign, candidates=few, batch_size=2)
        assert not any("Nothing is measured yet" in note for note in second.notes)
        assert [r.strategy for r in campaign.state().rounds] == ["space-filling", "logei"]


def test_workers_are_refused_for_a_search(live: Campaign):
    with pytest.raises(UsageError, match="runs in this process"):
        propose(live, method="best-first", evaluations=60, workers=2, dry_run=True)


def test_search_gives_the_same_batch_twice_and_says_how(live: Campaign):
    first, second = (propose(live, method="best-first", evaluations=60, dry_run=True) for _ in range(2))
    assert [p.composition for p in first.proposals] == [p.composition for p in second.proposals]
    assert first.statistics["scored"] == 60
    assert "best-first search with 60 evaluations" in first.notes[-1]


def test_lab_limits_are_kept(tmp_path: Path, small_model: Path):
    template = write_campaign(tmp_path / "t.yaml", small_model, lab={"banned": ["Nb", "F"], "references": [FIRST]})
    with Campaign.start(tmp_path / "demo", template) as campaign:
        for _ in range(2):
            propose(campaign, strategy="greedy")
        state = campaign.state()
    assert not any("Nb" in p.composition or "F" in p.composition for p in state.proposals)
    assert [p.composition for p in state.proposals if p.proposal_id.endswith("-01")] == [FIRST, FIRST]


def test_keys_of_the_laboratory_reach_the_batch(tmp_path: Path, small_model: Path):
    lab = {
        "per_batch": {"fluorine": 1, "redox_metal": 2},
        "max_precursors": 7,
        "budget_usd_per_round": 40.0,
        "cells": "auto",
        "control": FIRST,
    }
    template = write_campaign(tmp_path / "t.yaml", small_model, lab=lab)
    with Campaign.start(tmp_path / "demo", template) as campaign:
        limits = limits_of(campaign.spec)
        assert (limits.per_batch, limits.max_precursors, limits.cells) == (lab["per_batch"], 7, "auto")
        assert (limits.budget_usd_per_round, limits.batch_mass_g) == (40.0, campaign.spec.synthesis.batch_mass_g)
        first, second = propose(campaign, strategy="greedy"), propose(campaign, strategy="greedy")
        assert [r.proposals[0].composition for r in (first, second)] == [FIRST, FIRST]
        assert "made again in every round" in second.proposals[0].prediction.why
        assert [p.prediction.cells for p in first.proposals] == [1] * len(first.proposals)
        write_round_files(campaign, 1)
        sheet = (campaign.folder / "rounds" / "R01" / "recipes.txt").read_text()
        bench = bench_sheet(campaign, 1)
    assert "cells: 1 cell each at" in sheet
    assert "Cells: 1 each at" in bench
    for round_ in (first, second):
        chosen = [Composition.parse(p.composition) for p in round_.proposals]
        assert len({c.fluorine for c in chosen}) == 1
        assert len({s for c in chosen for s in c.elements if s in REDOX_METALS}) <= 2


@pytest.mark.parametrize(
    ("lab", "message"),
    [
        ({"per_batch": {"fluor": 1}}, "per_batch knows fluorine, lithium, redox_metal, metal, got fluor"),
        ({"per_batch": {"metal": 0}}, "per_batch allows at least 1 of each, got metal: 0"),
        ({"cells": 2}, "cells"),
        ({"budget_usd_per_round": 0}, "budget_usd_per_round"),
        ({"control": "LiXx"}, "control"),
    ],
)
def test_wrong_keys_of_the_laboratory_are_named(tmp_path: Path, small_model: Path, lab: dict, message: str):
    with pytest.raises(ConfigurationError, match=message):
        read_spec(write_campaign(tmp_path / "t.yaml", small_model, lab=lab))


def test_rounds_without_files_get_them_with_the_next(live: Campaign, few: Path):
    propose(live, candidates=few, batch_size=1)
    propose(live, candidates=few, batch_size=1)
    assert incomplete_rounds(live) == [1, 2]
    files = write_round_files(live, 2)
    assert incomplete_rounds(live) == []
    assert {name: path.name for name, path in files.items()} == {
        "table": "proposals.csv",
        "recipes": "recipes.txt",
        "bench": "bench.html",
        "report": "report.html",
        "samples": "samples.csv",
    }
    folder = live.folder / "rounds" / "R02"
    lines = list(csv.DictReader((folder / "samples.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert {line["proposal"] for line in lines} == {"R02-01"}
    assert [float(line["current_ma_g"]) for line in lines] == sorted(
        [live.spec.conditions.low.current_ma_g, live.spec.conditions.high.current_ma_g] * live.spec.cells_per_rate
    )
    assert (folder / "samples.xlsx").is_file()
    weighed = list(csv.DictReader(io.StringIO((live.folder / "rounds" / "R01" / "recipes.csv").read_text())))
    assert {row["proposal_id"] for row in weighed} == {"R01-01"}
    assert sum(float(row["mass_g"]) for row in weighed) > 5.0


def test_measured_compositions_change_the_next_choice(live: Campaign, few: Path):
    blind = propose(live, candidates=few, batch_size=1, strategy="greedy", dry_run=True).proposals[0]
    rows = [
        {"composition": blind.composition, "current_ma_g": 20, "capacity_mah_g": 250.0},
        {"composition": SECOND, "current_ma_g": 20, "capacity_mah_g": 200.0},
    ]
    live.add_measurements(rows, fine_tune=False)
    informed = propose(live, candidates=few, batch_size=1, strategy="greedy", dry_run=True).proposals[0]
    assert informed.composition != blind.composition


def test_seeds_of_rounds_differ():
    assert len({seed_of_round(seed, number) for seed in range(3) for number in range(1, 20)}) == 57


def test_a_proposal_says_that_a_metal_may_form(live: Campaign, tmp_path: Path):
    path = tmp_path / "iron.csv"
    path.write_text("composition\nLi1.2Fe0.2Ni0.2Ti0.2Nb0.2O1.8F0.2\nLi1.2Mn0.4Ti0.4O2\nLi1.3Fe0.4Nb0.3O2\n")
    said = {
        p.composition: p.prediction.why for p in propose(live, batch_size=3, candidates=path).proposals if p.prediction
    }
    metal = "may turn to metal in argon: 2 FeO + NiO -> Fe2O3 + Ni (-28 kJ/mol of Ni, 298 K)"
    assert said["Li1.2Ti0.2Fe0.2Ni0.2Nb0.2O1.8F0.2"].endswith(metal)
    assert "metal in argon" not in said["Li1.2Ti0.4Mn0.4O2"]


def test_one_round_loads_its_ensemble_once_and_fits_once(live: Campaign, monkeypatch: pytest.MonkeyPatch):
    record_round(live, FIRST, SECOND)
    rows = [(FIRST, 20, 240.0), (FIRST, 1000, 150.0), (SECOND, 20, 200.0)]
    live.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": q} for c, i, q in rows], fine_tune=False
    )
    done = []
    load, fit = Ensemble.load.__func__, DRXNetGaussianModel.fit
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda *a, **b: done.append("load") or load(*a, **b)))
    monkeypatch.setattr(DRXNetGaussianModel, "fit", lambda self: done.append("fit") or fit(self))
    assert live.recommend(workers=0)
    assert done == ["load", "fit"]


def test_an_unknown_strategy_is_refused_before_anything_is_loaded(live: Campaign, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda *a, **b: pytest.fail("loaded")))
    with pytest.raises(ConfigurationError, match="No strategy 'loge'. Did you mean logei"):
        live.recommend(strategy="loge")


def test_other_laboratories_are_named_and_wait_for_own_cells(tmp_path: Path, small_model: Path, few: Path):
    with Campaign.start(tmp_path / "theirs", write_campaign(tmp_path / "t.yaml", small_model)) as theirs:
        propose(theirs, candidates=few, batch_size=2)
        rows = [
            {"proposal_id": name, "current_ma_g": current, "capacity_mah_g": capacity}
            for name, capacities in (("R01-01", (260.0, 170.0)), ("R01-02", (250.0, 140.0)))
            for current, capacity in zip((20.0, 1000.0), capacities, strict=True)
        ]
        theirs.add_measurements(rows)
    template = write_campaign(tmp_path / "u.yaml", small_model, learn_from=["literature", "../theirs"])
    with Campaign.start(tmp_path / "ours", template) as ours:
        literature, other = laboratories_of(ours, ours.spec.goals)
        assert other.name == "theirs"
        assert len(other.measured) == 2
        assert literature.name == "the literature"
        assert all(e.mean > 0 for m in literature.measured for e in m.estimates.values())
        assert all(m.estimates for m in literature.measured)
        notes = propose(ours, candidates=few, batch_size=1).notes
    assert "2 compositions of theirs wait until 4 own ones tell whether they help." in notes


def test_a_new_campaign_is_told_whom_to_learn_from(
    tmp_path: Path, small_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    template = write_campaign(tmp_path / "u.yaml", small_model, learn_from=["literature"])
    (tmp_path / "group").mkdir()
    with Campaign.start(tmp_path / "group" / "theirs", write_campaign(tmp_path / "t.yaml", small_model)) as theirs:
        propose(theirs, candidates=few, batch_size=1)
        theirs.add_measurements(
            [
                {"proposal_id": "R01-01", "current_ma_g": i, "capacity_mah_g": q}
                for i, q in ((20, 260.0), (1000, 170.0))
            ],
            fine_tune=False,
        )
    asked = ["init", "ours", "--from", str(template), "--learn-from", "group/theirs", "--learn-from", "literature"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    with Campaign.open("ours") as ours:
        assert ours.spec.learn_from == ("literature", "../group/theirs")
        assert [lab.name for lab in laboratories_of(ours, ours.spec.goals)] == ["the literature", "theirs"]
        notes = propose(ours, candidates=few, batch_size=1).notes
    assert "1 compositions of theirs wait until 4 own ones tell whether they help." in notes
    done = CliRunner().invoke(main, ["init", "third", "--from", str(template), "--learn-from", "nobody"])
    assert done.exit_code == 2
    assert "nobody: a campaign learns from literature or from a campaign's folder" in " ".join(done.output.split())
    assert not (tmp_path / "third").exists()


def test_a_laboratory_that_is_not_there_is_named(tmp_path: Path, small_model: Path, few: Path):
    template = write_campaign(tmp_path / "u.yaml", small_model, learn_from=["../nobody"])
    with Campaign.start(tmp_path / "ours", template) as ours, pytest.raises(ConfigurationError, match="nobody"):
        propose(ours, candidates=few, batch_size=1)


def test_the_share_that_passes_is_counted_and_none_is_refused(tmp_path: Path, small_model: Path):
    """Of five one has too little lithium, and one too much fluorine for any route."""
    formulas = [
        "Li1.2Mn0.4Ti0.4O2",
        "Li1.2Mn0.5Ti0.3O2",
        "Li1.2Mn0.6Ti0.2O2",
        "Li1.05Mn0.9Ti0.05O2",
        "Li1.2Mn0.8O1.2F0.8",
    ]
    spec = read_spec(write_campaign(tmp_path / "t.yaml", small_model))
    assert _share_passing(CandidateList(formulas, Filters()), spec) == pytest.approx(3 / 5)
    with pytest.raises(ConfigurationError, match="none of 2 candidates .* passes .* refused by lithium_percolation"):
        _share_passing(CandidateList(formulas[:2], Filters(lithium_percolation=1.3)), spec)


def looked_at(how: str = "all candidates", **changes: object) -> Shortlist:
    """A stream of 1,000 candidates of which 900 pass."""
    usual = {"count": 1000, "walked": 1000, "scored": 900, "rejected": 40, "refused": {"hazards": 100, "precursors": 0}}
    usual |= {"shards": 2, "shards_done": 2, "shards_resumed": 0, "seconds": 12.4, "worker_seconds": 12.0}
    return Shortlist(np.zeros(0), np.zeros(0), np.zeros((0, 3)), Statistics(**{**usual, **changes}), how)


@pytest.mark.parametrize(
    ("shortlist", "notes"),
    [
        (looked_at(), ["1,000 candidates, 900 scored in 12 s; refused by hazards 100."]),
        (looked_at(refused={}), ["1,000 candidates, 900 scored in 12 s."]),
        (
            looked_at(shards_done=1, walked=500),
            [
                "1,000 candidates, 900 scored in 12 s; refused by hazards 100.",
                "The time limit ended the stream after 500 of them: the batch is the best of these. "
                "Allow more time to see the rest.",
            ],
        ),
        (
            looked_at("best-first search", shards_done=1),
            ["1,000 candidates, 900 scored in 12 s; refused by hazards 100.", "How: best-first search."],
        ),
    ],
    ids=["all", "none-refused", "cut-short", "searched"],
)
def test_notes_say_what_was_looked_at(shortlist: Shortlist, notes: list[str]):
    assert list(_notes(shortlist)) == notes


def test_where_nothing_is_left_it_is_said_why(live: Campaign):
    record_round(live, FIRST, SECOND)
    whole, part = (_nothing_left(live.state(), looked_at(shards_done=done)) for done in (2, 1))
    assert whole.startswith(
        "Nothing left to propose: of 1,000 candidates 860 pass the filters and the limits of the lab"
    )
    assert "and 2 compositions are measured, pending or abandoned" in whole
    assert part.startswith("Nothing to propose among the 900 of 1,000 candidates that were scored. Allow more time")


def test_a_seed_of_a_round_is_a_whole_number_that_any_generator_takes():
    seeds = [seed_of_round(seed, number) for seed in (0, 7, 2**40) for number in range(1, 40)]
    assert len(set(seeds)) == len(seeds)
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)
    assert max(seeds) > 2**30
