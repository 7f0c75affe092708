"""Search finds what walking finds, and the choice between them follows from speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from drxnet.errors import UsageError
from drxnet.progress import silent
from screening.candidates import CandidateList
from screening.enumerator import stream
from screening.lattice import Lattice
from screening.search import START_SHARE, _Memory, _Moves, _start, plan, search, shortlist
from screening.space import load_space, parse_space


@dataclass
class Waves:
    """A rugged closed form, with the number of rows it was asked for."""

    seed: int = 0
    asked: int = 0

    @property
    def fingerprint(self) -> str:
        return f"waves {self.seed}"

    def prepare(self) -> None:
        generator = np.random.default_rng(self.seed)
        self.directions, self.phases = generator.normal(size=(64, 6)) / 8, generator.uniform(0, 6, 6)

    def score(self, units: np.ndarray) -> np.ndarray:
        self.asked += len(units)
        return np.cos(units @ self.directions[: units.shape[1]] + self.phases).sum(1)


@pytest.fixture(scope="module")
def tiny() -> Lattice:
    return Lattice(load_space("tiny"))


def test_best_first_finds_the_best_with_a_tenth_of_the_evaluations(tiny: Lattice) -> None:
    recalls = []
    for objective in range(4):
        truth = stream(tiny, Waves(objective), keep=50)
        found = search(tiny, Waves(objective), evaluations=tiny.count // 10, keep=50, seed=objective)
        assert found.scores[0] >= truth.scores[0] - 0.02 * abs(truth.scores[0])
        recalls.append((found.scores >= truth.scores[-1]).mean())
    assert np.mean(recalls) >= 0.9


def test_evolution_finds_the_best_too(tiny: Lattice) -> None:
    truth = stream(tiny, Waves(), keep=10)
    found = search(tiny, Waves(), evaluations=1500, keep=10, method="evolution", seed=1)
    assert found.scores[0] == truth.scores[0]


@pytest.mark.parametrize("method", ["best-first", "evolution"])
def test_a_search_keeps_to_its_budget_and_its_seed(tiny: Lattice, method: str) -> None:
    scorer = Waves()
    one = search(tiny, scorer, evaluations=700, keep=20, method=method, seed=3)  # type: ignore[arg-type]
    assert scorer.asked == one.statistics.scored == 700
    two = search(tiny, Waves(), evaluations=700, keep=20, method=method, seed=3)  # type: ignore[arg-type]
    assert one.ranks.tolist() == two.ranks.tolist()
    assert len(set(one.ranks.tolist())) == 20
    assert (tiny.unrank(one.ranks) == one.units).all()
    assert tiny.keeps(one.units).all()


def test_a_budget_as_large_as_the_space_is_a_walk(tiny: Lattice) -> None:
    found = search(tiny, Waves(), evaluations=tiny.count, keep=30)
    assert found.ranks.tolist() == stream(tiny, Waves(), keep=30).ranks.tolist()


def test_moves_reach_every_composition_from_one(tiny: Lattice) -> None:
    moves = _Moves(tiny, np.random.default_rng(0))
    everything = {row.tobytes() for _, units in tiny.walk() for row in units.astype(np.int64)}
    front = tiny.unrank([0]).astype(np.int64)
    seen = {front[0].tobytes()}
    while len(front):
        around = {row.tobytes() for row in moves.around(front, 1, sampled=0)} - seen
        seen |= around
        front = np.frombuffer(b"".join(sorted(around)), dtype=np.int64).reshape(len(around), front.shape[1])
    assert seen == everything


def test_moves_stay_in_a_space_with_lower_limits_and_steps() -> None:
    space = parse_space(
        {
            **load_space("paper-he").model_dump(),
            "limits": {"Mn": [0.15, 0.4], "Cr": {"min": 0.1, "max": 0.4, "step": 0.1}},
            "fluorine": {"min": 0, "max": 0.3, "step": 0.1},
        }
    )
    lattice = Lattice(space)
    around = _Moves(lattice, np.random.default_rng(1)).around(lattice.sample(40, seed=1), 2)
    assert len(around) > 100
    assert all(not space.why_not(c) for c in lattice.compositions(around[:200]))
    found = search(lattice, Waves(2), evaluations=1500, keep=5, seed=0)
    assert lattice.contains(found.units).all()


def test_what_filters_refuse_costs_no_evaluation() -> None:
    lattice = Lattice(parse_space({**load_space("tiny").model_dump(), "filters": {"lithium_percolation": 1.25}}))
    found = search(lattice, Waves(), evaluations=500, keep=10)
    assert (found.units[:, 0] == 25).all()
    assert found.statistics.refused["lithium_percolation"] > 0
    assert found.statistics.scored <= 500


def test_a_small_space_is_walked_and_a_large_one_searched(tiny: Lattice) -> None:
    assert plan(tiny, Waves(), time_budget_s=600).method == "walk"
    wide = Lattice(load_space("wide"))
    chosen = plan(wide, Waves(), time_budget_s=1)
    assert chosen.method == "best-first"
    assert 0 < chosen.evaluations < wide.count
    assert f"walking all {wide.count:,} would take" in chosen.reason


def test_a_list_is_always_walked() -> None:
    own = CandidateList(["Li1.2Mn0.4Ti0.4O2", "Li1.3Mn0.4Nb0.3O2"])
    assert plan(own, Waves(), time_budget_s=0, method="best-first", evaluations=1).method == "walk"
    assert len(shortlist(own, Waves(), keep=9).ranks) == 2


def test_a_shortlist_says_how_it_was_found(tiny: Lattice) -> None:
    walked = shortlist(tiny, Waves(), keep=5, time_budget_s=600)
    assert "13,114 candidates" in walked.how
    searched = shortlist(tiny, Waves(), keep=5, method="best-first", evaluations=800, seed=1)
    assert searched.how == "best-first search with 800 evaluations, as asked"
    assert searched.statistics.scored == 800


def test_wrong_settings_are_refused(tiny: Lattice) -> None:
    with pytest.raises(UsageError, match="at least 1 evaluation"):
        search(tiny, Waves(), evaluations=0)
    with pytest.raises(UsageError, match="method is auto or one of"):
        shortlist(tiny, Waves(), method="luck")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="to walk a space use stream"):
        search(tiny, Waves(), evaluations=5, method="walk")


def test_one_evaluation_is_a_search(tiny: Lattice) -> None:
    assert search(tiny, Waves(), evaluations=1, keep=1).statistics.scored == 1


def test_a_limit_of_time_that_is_not_reached_changes_nothing(tiny: Lattice) -> None:
    free, limited = (search(tiny, Waves(), evaluations=400, keep=5, time_limit_s=t) for t in (None, 600.0))
    assert free.ranks.tolist() == limited.ranks.tolist()
    assert limited.statistics.scored == 400


def test_a_search_begins_with_a_part_of_its_budget_on_a_coarser_grid() -> None:
    fine = Lattice(parse_space({**load_space("tiny").model_dump(), "step": "1/80", "k_elements": [2, None]}))
    memory = _Memory(fine, Waves(), 400, None, silent)
    memory._scorer.prepare()
    steps = _start(memory, np.random.default_rng(0))
    assert steps == [2, 1]
    assert 400 * (1 - START_SHARE) <= memory.left < 400


def test_neighbours_exchange_more_than_one_unit_too() -> None:
    lattice = Lattice(load_space("paper-he"))
    parent = lattice.sample(1, seed=3)
    few, many = (
        {row.tobytes() for row in _Moves(lattice, np.random.default_rng(0)).around(parent, 1, n)} for n in (0, 200)
    )
    assert few < many
    changes = _Moves(lattice, np.random.default_rng(0))._exchanges(1, 200)[0]
    assert set(np.abs(changes).sum(1).tolist()) >= {4, 6}
    assert (changes.sum(1) == 0).all()


def test_a_metal_gives_its_place_to_each_that_is_absent(tiny: Lattice) -> None:
    (row,) = tiny.sample(1, seed=2)[:, 2:]
    replaced, parents = _Moves(tiny, np.random.default_rng(0))._replacements(row[None].astype(np.int64))
    present = np.flatnonzero(row)
    assert (parents == 0).all()
    assert len(replaced) == len(present) * (len(row) - len(present)) > 0
    assert all(sorted(new) == sorted(row) and (new != row).sum() == 2 for new in replaced)


def test_a_search_is_complete_where_it_has_scored_all() -> None:
    free = Lattice(parse_space({**load_space("tiny").model_dump(), "filters": "none"}))
    whole, part = (search(free, Waves(), evaluations=n, keep=1).statistics for n in (free.count, 50))
    assert (whole.complete, part.complete) == (True, False)
