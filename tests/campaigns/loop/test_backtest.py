"""The simulated laboratory, and whole campaigns run against it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeEnsemble
from synthetic import SMALL, untrained_ensemble

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.ledger.records import Proposal, State
from campaigns.loop.backtest import _LISTED as LISTED
from campaigns.loop.backtest import (
    Backtest,
    Pool,
    RoundRow,
    backtest,
    draw_candidates,
)
from campaigns.loop.backtest import _related as related
from campaigns.loop.laboratories import Laboratory, LaboratoryOptions
from campaigns.report.backtest import plot_backtest, table_of, write_backtest
from campaigns.spec import CampaignSpec, parse_spec, read_spec
from drxnet import checkpoint
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError
from drxnet.process import Process, crossed
from drxnet.simulation import ProcessLaw

MODEL = checkpoint.DEFAULT_MODEL

LOW, HIGH = CyclingConditions(20), CyclingConditions(1000)
PERFECT = LaboratoryOptions(noise=0, failures=0, delays=0)


def proposal(formula: str = "Li1.2Mn0.4Ti0.4O2", round_number: int = 1) -> Proposal:
    name = Composition.parse(formula).formula
    return Proposal(f"R{round_number:02d}-01", round_number, name, "proposed", State.PROPOSED, "", None, 1)


@pytest.fixture
def tiny() -> CampaignSpec:
    return read_spec("tiny")


def test_a_perfect_laboratory_returns_the_truth():
    truth = FakeEnsemble(3)
    rows = Laboratory(truth, PERFECT).measure([proposal()], [LOW, HIGH], 1)
    assert [r["current_ma_g"] for r in rows] == [20, 1000]
    wanted = truth.capacity(["Li1.2Mn0.4Ti0.4O2"], [LOW, HIGH]).numpy().mean(0)[0]
    assert [r["capacity_mah_g"] for r in rows] == pytest.approx(wanted)
    for row in rows:
        assert row["profile_mah_g"][0] == row["capacity_mah_g"]
        assert (np.diff(row["profile_mah_g"]) <= 0).all()


def test_cells_scatter_as_much_as_they_are_told_to():
    lab = Laboratory(FakeEnsemble(1), replace(PERFECT, noise=0.05))
    rows = lab.measure([proposal()], [LOW], 2000)
    capacity = np.array([r["capacity_mah_g"] for r in rows])
    assert capacity.std() / capacity.mean() == pytest.approx(0.05, rel=0.1)
    assert len({r["cell"] for r in rows}) == 2000


def test_failures_and_delays_come_as_often_as_they_are_told_to():
    lab = Laboratory(FakeEnsemble(1), LaboratoryOptions(failures=0.3, delays=0.1))
    some = [proposal(round_number=i) for i in range(1, 2001)]
    assert np.mean([lab.fails(p) for p in some]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([lab.is_late(p) for p in some]) == pytest.approx(0.1, abs=0.03)


def test_what_befalls_a_composition_depends_on_the_seed_alone():
    one, same, other = (Laboratory(FakeEnsemble(1), seed=s) for s in (1, 1, 2))

    def capacities(lab: Laboratory, before: list[Proposal]) -> list[float]:
        rows = lab.measure([*before, proposal()], [LOW, HIGH], 2)[-4:]
        return [r["capacity_mah_g"] for r in rows]

    assert capacities(one, []) == capacities(same, [proposal("Li1.1Mn0.9O2")])
    assert capacities(one, []) != capacities(other, [])


def test_no_cell_holds_more_than_all_its_lithium():
    class Boastful(FakeEnsemble):
        def profiles(self, *arguments):
            return 10 * super().profiles(*arguments)

    rows = Laboratory(Boastful(1), LaboratoryOptions(noise=0.3)).measure([proposal()], [LOW], 20)
    most = Composition.parse("Li1.2Mn0.4Ti0.4O2").theoretical_capacity_mah_g
    assert max(r["capacity_mah_g"] for r in rows) == pytest.approx(most)


@pytest.mark.parametrize("wrong", [{"noise": -0.1}, {"failures": 1.0}, {"delays": 2.0}])
def test_a_laboratory_of_impossible_habits_is_refused(wrong: dict[str, float]):
    with pytest.raises(ConfigurationError, match="from 0 to below 1"):
        LaboratoryOptions(**wrong)


def test_candidates_pass_the_filters_and_know_their_truth(tiny: CampaignSpec):
    truth = FakeEnsemble(3)
    pool = draw_candidates(tiny, truth, 60, seed=1)  # type: ignore[arg-type]
    assert len(pool.compositions) == len(set(pool.compositions)) == 60
    source = tiny.candidates()
    assert source.keeps(np.array([source.row(c) for c in pool.compositions])).all()
    low, high = truth.capacity(pool.compositions, [LOW, HIGH]).numpy().transpose(2, 0, 1)
    retention = np.clip(np.where(low < 50, 0, high / np.maximum(low, 50)), 0, 1.05).mean(0)
    assert pool.objective == pytest.approx(retention)
    assert (pool.feasible == (low.mean(0) >= 180)).all()
    assert pool.best == pytest.approx(retention[pool.feasible].max())


LEVELS = {"firing_temperature_c": [800.0, 900.0, 1000.0], "milled": ["no", "yes"]}
WAYS = crossed(LEVELS)


def crossed_with_ways(spec: CampaignSpec, **changes: object) -> CampaignSpec:
    return parse_spec(
        {**spec.model_dump(exclude={"folder"}), "space": {**spec.resolved()["space"], "process": LEVELS}, **changes},
        "test",
        spec.folder,
    )


def test_a_laboratory_makes_cells_by_the_proposed_way():
    law = ProcessLaw.drawn(WAYS, 2)
    ways = [replace(proposal(), process=way) for way in WAYS]
    cells = Laboratory(FakeEnsemble(3), PERFECT, law=law).measure(ways, [LOW, HIGH], 1)
    plain = Laboratory(FakeEnsemble(3), PERFECT).measure([proposal()], [LOW, HIGH], 1)
    for i, cell in enumerate(cells):
        share = law.share(WAYS[i // 2], cell["current_ma_g"])
        assert cell["capacity_mah_g"] == pytest.approx(share * plain[i % 2]["capacity_mah_g"])
    scattered = Laboratory(FakeEnsemble(3), replace(PERFECT, noise=0.1)).measure(ways, [LOW], 1)
    assert len({c["capacity_mah_g"] for c in scattered}) == len(WAYS), "each powder has its own scatter"


def test_a_pool_with_ways_knows_the_truth_of_each(tiny: CampaignSpec):
    spec, law, truth = crossed_with_ways(tiny), ProcessLaw.drawn(WAYS, 5), FakeEnsemble(3)
    pool = draw_candidates(spec, truth, 20, seed=1, law=law)  # type: ignore[arg-type]
    alone = draw_candidates(tiny, truth, 20, seed=1)  # type: ignore[arg-type]
    assert len(pool.made) == len(set(pool.made)) == 20 * len(WAYS)
    assert tuple(dict.fromkeys(pool.compositions)) == alone.compositions
    best = max(WAYS, key=law.share)
    kept = [i for i, (_, way) in enumerate(pool.made) if way == best]
    assert pool.objective[kept] == pytest.approx(alone.objective)
    assert pool.best == pytest.approx(alone.best)


def test_a_rehearsal_with_ways_makes_what_is_proposed(tmp_path: Path):
    """The folder of a run holds a campaign over the same ways, whose cells were made by them."""
    spec = crossed_with_ways(read_spec("tiny"), model=MODEL, batch_size=4, shortlist=60)
    options = LaboratoryOptions(failures=0, delays=0)
    found = backtest(
        spec, tmp_path / "b", rounds=2, repeats=1, candidates=20, strategies=["logei"], options=options, fine_tune=False
    )
    with Campaign.open(tmp_path / "b" / "runs" / "logei-0") as campaign:
        state = campaign.state()
        assert campaign.spec.ways == WAYS
    made = [(p.composition, p.process) for p in state.proposals]
    assert len(set(made)) == len(made) == 8
    assert len({process for _, process in made}) > 1
    assert {m.conditions.process for m in state.valid} == {process for _, process in made}
    last = found.rows[-1]
    assert last.measured == 8
    assert last.best is None or last.best <= found.best_possible[0] + 1e-12


def test_hits_are_the_best_hundredth_and_feasible():
    names = tuple(f"c{i}" for i in range(300))
    pool = Pool(names, np.arange(300.0), np.arange(300) != 299)
    assert pool.hits() == {(f"c{i}", Process()) for i in (298, 297, 296)}
    assert pool.best == 298


def test_a_rehearsal_that_nobody_can_win_is_refused():
    with pytest.raises(ConfigurationError, match="None of 2 candidates meets the constraints"):
        Pool(("a", "b"), np.zeros(2), np.zeros(2, bool))


def rows_of(strategy: str, best: list[float | None], repeat: int = 0) -> list[RoundRow]:
    return [
        RoundRow(strategy, repeat, i, 4 * i, 3 * i, i, value, i, "m") for i, value in enumerate(best, start=1)
    ]  # fmt: skip


def test_the_summary_and_the_figure_of_a_rehearsal(tmp_path: Path):
    rows = [*rows_of("ours", [0.5, 0.7]), *rows_of("ours", [None, 0.6], 1), *rows_of("random", [None, None])]
    rows += rows_of("random", [None, 0.4], 1)
    found = Backtest("c", "rate retention", "", 1, 100, 10, (0.8, 0.9), (1, 1), tuple(rows), ())
    ours, random = found.summary()
    assert ours["best_mean"] == pytest.approx(0.65)
    assert ours["best_std"] == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert ours["regret_mean"] == pytest.approx((0.1 + 0.3) / 2)
    assert random["runs_without_feasible"] == 1
    assert found.best_by_round("ours")[1].tolist()[1] == 0.6
    assert [r["strategy"] for r in table_of(found.summary())] == ["ours", "random"]
    figure = plot_backtest(found)
    assert figure.axes[0].get_ylabel() == "best rate retention found, true value"
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"ours", "random", "best there is"}


def test_stopping_saves_what_comes_after_the_first_stop_and_costs_what_it_would_have_found():
    rows = [replace(r, stop=r.round in (3, 4)) for r in rows_of("logei", [0.5, 0.6, 0.61, 0.7])]
    rows += rows_of("logei", [None, 0.5, 0.6, 0.8], repeat=1)
    found = Backtest("x", "retention", "", 1, 100, 50, (0.9, 0.9), (1, 1), tuple(rows), ())
    saved, lost = found.stopping("logei")
    assert saved == pytest.approx((0.5 + 0.0) / 2)
    assert lost == pytest.approx((0.1 + 0.0) / 2)
    (row,) = found.summary()
    assert (row["saved_by_stopping"], row["lost_by_stopping"]) == (saved, lost)
    assert table_of([row])[0]["stopping saves"] == "25%, costs 0.05"
    small = replace(found, sign=-1, rows=tuple(rows_of("logei", [0.5, 0.4])), best_possible=(0.1,), hits_possible=(1,))
    assert small.stopping("logei") == (0.0, 0.0)


def test_runs_that_found_nothing_feasible_are_told_beside_the_mean_of_the_others():
    rows = rows_of("ours", [0.5, 0.6]) + [replace(r, repeat=1, best=None) for r in rows_of("ours", [0.5, 0.6])]
    found = Backtest("c", "rate retention", "", 1, 100, 10, (0.8, 0.9), (1, 1), tuple(rows), ())
    (row,) = table_of(found.summary())
    assert row["best found (truth)"] == "0.6; none in 1 of 2 runs"


def test_a_control_is_no_candidate_and_a_small_space_counts_as_what_it_holds(tmp_path: Path):
    space = {"step": "1/20", "lithium": [1.2, 1.2], "fluorine": [0, 0], "species": ["Mn3+", "Ti4+", "Cr3+"],
             "k_elements": [2, 3]}  # fmt: skip
    lab = {"control": "Li1.2Mn0.6Nb0.2O2", "replicates": 1}
    spec = parse_spec({"space": space, "batch_size": 3, "workers": 0, "shortlist": 20, "lab": lab, "model": "default"})
    options = LaboratoryOptions(failures=0, delays=0)
    found = backtest(
        spec, tmp_path / "b", rounds=2, repeats=1, candidates=500, strategies=["greedy"], laboratory="physics",
        options=options, fine_tune=False,
    )  # fmt: skip
    listed = (tmp_path / "b" / "runs" / "greedy-0" / LISTED).read_text().split()[1:]
    assert found.candidates == len(listed) < 500
    with Campaign.open(tmp_path / "b" / "runs" / "greedy-0") as run:
        made = {p.composition for p in run.state().proposals}
    assert Composition.parse(lab["control"]).formula in made
    assert found.rows[-1].measured == len(made)


def test_what_is_to_be_small_counts_down():
    found = Backtest("c", "cost", "USD/kWh", -1, 9, 9, (50.0,), (1,), tuple(rows_of("ours", [80.0, 60.0])), ())
    assert found.summary()[0]["regret_mean"] == pytest.approx(10)
    assert plot_backtest(found).axes[0].get_ylabel().endswith("(USD/kWh)")


# -- whole campaigns -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backtest, Path]:
    spec = read_spec("tiny").model_copy(update={"model": MODEL, "batch_size": 3})
    folder = tmp_path_factory.mktemp("backtest") / "results"
    options = LaboratoryOptions(failures=0.2, delays=0.3)
    seen: list[tuple[int, int]] = []
    found = backtest(
        spec, folder, rounds=2, repeats=1, candidates=80, strategies=["greedy", "random"], options=options,
        fine_tune=False, seed=3, progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    write_backtest(found, folder)
    return found, folder


def test_every_strategy_runs_as_many_rounds(rehearsal: tuple[Backtest, Path]):
    found, _ = rehearsal
    assert [(r.strategy, r.round) for r in found.rows] == [("greedy", 1), ("greedy", 2), ("random", 1), ("random", 2)]
    for row in found.rows:
        assert row.proposed == 3 * row.round
        assert row.measured + row.failed <= row.proposed
        assert row.best is None or row.best <= found.best_possible[0] + 1e-12
        assert row.hits <= found.hits_possible[0]


def test_every_run_is_a_campaign_that_can_be_opened(rehearsal: tuple[Backtest, Path]):
    found, folder = rehearsal
    last = {r.strategy: r for r in found.rows}
    for strategy, row in last.items():
        with Campaign.open(folder / "runs" / f"{strategy}-0") as campaign:
            state = campaign.state()
        assert state.round == 2
        assert sum(p.state is State.MEASURED for p in state.proposals) == row.measured
        assert sum(p.state is State.FAILED for p in state.proposals) == row.failed
        measured = [p for p in state.proposals if p.state is State.MEASURED]
        assert {m.conditions.current_ma_g for m in state.valid} == ({20, 1000} if measured else set())
        assert len(state.valid) == len(measured) * 2 * campaign.spec.cells_per_rate


def test_the_results_are_written(rehearsal: tuple[Backtest, Path]):
    found, folder = rehearsal
    assert (folder / "backtest.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((folder / "backtest.json").read_text())
    assert stored["summary"] == found.summary()
    with (folder / "backtest.csv").open() as file:
        assert [r["strategy"] for r in csv.DictReader(file)] == [r.strategy for r in found.rows]
    assert not list((folder / "runs").glob("model-*"))


def test_the_laboratory_is_left_out_of_the_model(rehearsal: tuple[Backtest, Path]):
    _, folder = rehearsal
    with Campaign.open(folder / "runs" / "greedy-0") as campaign:
        first = campaign.ensemble(campaign.state().first_model)
    assert first.members == checkpoint.read_card(checkpoint.find_model(MODEL)).members - 1
    assert first.card.name.endswith("without member 0")


def test_a_folder_with_files_is_not_written_to(tiny: CampaignSpec, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match="holds files already"):
        backtest(tiny, tmp_path)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"repeats": 0}, {"candidates": 1}])
def test_too_little_to_rehearse_is_refused(tiny: CampaignSpec, tmp_path: Path, wrong: dict[str, int]):
    with pytest.raises(ConfigurationError, match="at least one round, one repeat"):
        backtest(tiny, tmp_path / "new", **wrong)


def test_a_laboratory_that_the_model_knows_is_refused(tiny: CampaignSpec, tmp_path: Path):
    spec = tiny.model_copy(update={"model": MODEL})
    with pytest.raises(ConfigurationError, match="must know nothing that the model .* is the same model"):
        backtest(spec, tmp_path / "new", laboratory=MODEL)
    assert not (tmp_path / "new").exists()


def test_the_model_that_made_the_training_set_is_no_laboratory(tiny: CampaignSpec, tmp_path: Path):
    source, other, pupil = (untrained_ensemble(replace(SMALL, members=3), seed) for seed in range(3))
    for name, ensemble in (("source", source), ("other", other)):
        checkpoint.save(tmp_path / name, ensemble.network.state_dict(), replace(ensemble.card, name=name))
    card = checkpoint.read_card(tmp_path / "source")
    provenance = {"simulated_from": {"name": card.name, "weights_sha256": card.weights_sha256}}
    taught = replace(pupil.card, name="taught", provenance=provenance)
    checkpoint.save(tmp_path / "taught", pupil.network.state_dict(), taught)
    spec = tiny.model_copy(update={"model": str(tmp_path / "taught")})
    with pytest.raises(ConfigurationError, match="source made its training set"):
        backtest(spec, tmp_path / "new", laboratory=tmp_path / "source")
    assert related(Ensemble.load(tmp_path / "taught"), tmp_path / "other") == []
    (note,) = related(Ensemble.load(tmp_path / "taught"), "member")
    assert note.startswith("Each member learned from targets of its own")
    (warning,) = related(Ensemble.load(tmp_path / "other"), "member")
    assert "may have learned from the same data" in warning


def test_backtest_from_the_command_line(tmp_path: Path):
    yaml = tmp_path / "small.yaml"
    yaml.write_text(
        f"space: tiny\nmodel: {MODEL}\nbatch_size: 2\nshortlist: 20\nworkers: 0\nstrategy: random\ncells_per_rate: 1\n"
    )
    result = CliRunner().invoke(
        main,
        ["backtest", "--campaign", str(yaml), "--rounds", "1", "--repeats", "1", "--candidates", "30", "--strategy",
         "random", "--no-finetune", "--output", str(tmp_path / "out"), "--format", "json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert [r["strategy"] for r in json.loads(result.stdout)["rows"]] == ["random"]
    assert "backtest.png" in result.stderr


@pytest.mark.parametrize("count", [3, 60, 200])
def test_candidates_are_the_first_of_a_draw_that_pass(tiny: CampaignSpec, count: int):
    space = {**tiny.resolved()["space"], "filters": {"lithium_percolation": 1.25}}
    strict = parse_spec({**tiny.model_dump(exclude={"folder"}), "space": space}, "test", tiny.folder)
    source = strict.candidates()
    drawn = source.unrank(source.sample_ranks(source.count, seed=5))
    passing = source.keeps(drawn)
    assert 0.05 < passing.mean() < 0.45, "several draws are needed"
    pool = draw_candidates(strict, FakeEnsemble(3), count, seed=5)  # type: ignore[arg-type]
    assert list(pool.compositions) == source.formulas(drawn[passing])[:count]


def test_cells_of_a_rehearsal_count_however_odd_they_look(tiny: CampaignSpec, tmp_path: Path):
    spec = tiny.model_copy(update={"model": MODEL, "batch_size": 3, "cells_per_rate": 3})
    options = LaboratoryOptions(noise=0.6, failures=0, delays=0)
    backtest(
        spec, tmp_path / "odd", rounds=1, repeats=1, candidates=30, strategies=["random"], options=options,
        fine_tune=False, seed=1,
    )  # fmt: skip
    (folder,) = (path.parent for path in (tmp_path / "odd").rglob("campaign.yaml"))
    with Campaign.open(folder) as campaign:
        state = campaign.state()
        assert len(state.valid) == len(state.counted) == 18
        assert state.doubtful == ()


@pytest.mark.parametrize(
    ("of_the_model", "of_the_laboratory", "why"),
    [
        ({"parent": "laboratory"}, {}, "is its parent or child"),
        ({}, {"parent": "model"}, "is its parent or child"),
        ({"data_fingerprint": "d1"}, {"data_fingerprint": "d1"}, "learned from the same targets"),
        ({"data_fingerprint": "d1"}, {"data_fingerprint": "d2"}, None),
        ({"parent": "another"}, {"parent": "another"}, None),
        ({}, {}, None),
    ],
    ids=["child", "parent", "same-data", "other-data", "siblings", "strangers"],
)
def test_kin_of_the_model_is_no_laboratory(
    tmp_path: Path, of_the_model: dict, of_the_laboratory: dict, why: str | None
):
    ensembles = {name: untrained_ensemble(SMALL, seed) for seed, name in enumerate(("model", "laboratory"))}
    for name, ensemble in ensembles.items():
        checkpoint.save(tmp_path / "plain" / name, ensemble.network.state_dict(), replace(ensemble.card, name=name))
    cards = {name: checkpoint.read_card(tmp_path / "plain" / name) for name in ensembles}
    for name, said in (("model", of_the_model), ("laboratory", of_the_laboratory)):
        facts = {key: cards[value].model_id if value in cards else value for key, value in said.items()}
        checkpoint.save(tmp_path / name, ensembles[name].network.state_dict(), replace(cards[name], **facts))
    own = Ensemble.load(tmp_path / "model")
    if why is None:
        assert related(own, tmp_path / "laboratory") == []
    else:
        with pytest.raises(ConfigurationError, match=f"laboratory {why}"):
            related(own, tmp_path / "laboratory")
