"""Search finds what walking finds, and the choice between them follows from speed."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from drxnet.errors import UsageError
from drxnet.progress import silent
from screening import search as search_module
from screening.candidates import CandidateList
from screening.enumerator import stream
from screening.lattice import Lattice
from screening.search import (
    START_SHARE,
    _coarse_grid,
    _corners,
    _Frontier,
    _Memory,
    _Moves,
    _start,
    plan,
    search,
    shortlist,
)
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


@pytest.mark.parametrize("method", ["best-first", "evolution"])
def test_a_fifth_of_the_evaluations_is_spent_on_the_start(tiny: Lattice, method: str) -> None:
    class Counting(Waves):
        def score(self, units: np.ndarray) -> np.ndarray:
            calls.append(len(units))
            return super().score(units)

    calls: list[int] = []
    free = Lattice(parse_space({**tiny.space.model_dump(), "filters": "none", "step": "1/80"}))
    search(free, Counting(), evaluations=1000, keep=5, method=method)  # type: ignore[arg-type]
    assert 150 < calls[0] <= 200
    assert sum(calls) == 1000
    assert max(calls[1:]) <= 250


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"time_budget_s": 132}, ("walk", 13_114)),
        ({"time_budget_s": 131}, ("best-first", 13_100)),
        ({"time_budget_s": 66, "workers": 2}, ("walk", 13_114)),
        ({"time_budget_s": 65, "workers": 2}, ("best-first", 6_500)),
        ({"time_budget_s": 65, "evaluations": 70}, ("best-first", 70)),
        ({"time_budget_s": 0.001}, ("best-first", 1)),
        ({"time_budget_s": 20, "method": "evolution"}, ("evolution", 2_000)),
        ({"time_budget_s": 20, "method": "evolution", "evaluations": 70}, ("evolution", 70)),
        ({"time_budget_s": 0.1, "method": "walk"}, ("walk", 13_114)),
    ],
)
def test_what_the_time_allows_at_a_hundred_a_second(
    tiny: Lattice, monkeypatch: pytest.MonkeyPatch, options: dict, chosen: tuple[str, int]
) -> None:
    monkeypatch.setattr(search_module, "speed", lambda *_: 100.0)
    found = plan(tiny, Waves(), **options)
    assert (found.method, found.evaluations) == chosen
    assert f"{chosen[1]:,}" in found.reason
    if "needed" in found.reason or found.method == "walk" and "method" not in options:
        assert f"about {13_114 / 100 / max(1, options.get('workers', 1)):,.0f} s" in found.reason


@pytest.mark.parametrize(
    ("options", "called", "limit_s"),
    [
        ({"method": "walk"}, "stream", None),
        ({"method": "auto"}, "stream", 1400.0),  # it was planned to end in time
        ({"method": "best-first", "evaluations": 9}, "search", 700.0),
    ],
)
def test_a_shortlist_has_its_limit_of_time(
    tiny: Lattice, monkeypatch: pytest.MonkeyPatch, options: dict, called: str, limit_s: float | None
) -> None:
    done: list[tuple[str, float | None]] = []
    original = {"stream": stream, "search": search}

    def spied(name: str):
        return lambda *a, **b: done.append((name, b["time_limit_s"])) or original[name](*a, **b)

    for name in original:
        monkeypatch.setattr(search_module, name, spied(name))
    shortlist(tiny, Waves(), keep=3, time_budget_s=700.0, **options)
    assert done == [(called, limit_s)]


def test_the_best_is_expanded_first_and_then_sets_in_turn() -> None:
    """Rows of three sets of metals: A has all the best, and is expanded less often the more often it was."""
    sets = {"A": (1, 0, 0), "B": (0, 1, 0), "C": (0, 0, 1)}
    listed = [("A", 10), ("A", 9), ("A", 8), ("A", 7), ("A", 6), ("B", 5), ("B", 4), ("C", 1), ("C", -np.inf)]
    units = np.array([(0, score if score > 0 else 0, *sets[name]) for name, score in listed], dtype=np.int32)
    frontier = _Frontier(units, np.array([float(score) for _, score in listed]))
    assert frontier.take()[:, 1].tolist() == [10, 9, 8, 5, 1, 7]
    assert frontier.take()[:, 1].tolist() == [6, 4]
    assert frontier.take().shape == (0, 5)
    frontier.add(units[:1], np.array([3.0]))
    assert frontier.take()[:, 1].tolist() == [10]


def test_rows_are_looked_at_once_and_no_more_than_the_budget_allows(tiny: Lattice) -> None:
    free = Lattice(parse_space({**tiny.space.model_dump(), "filters": "none"}))
    seen: list[tuple[int, int]] = []
    memory = _Memory(free, Waves(), 25, None, lambda done, total: seen.append((done, total)))
    memory._scorer.prepare()
    rows = free.unrank(np.arange(40))
    first, scores = memory.look(np.concatenate([rows[:10], rows[:10]]))
    assert (len(first), len(scores), memory.left) == (10, 10, 15)
    assert len(memory.look(rows[:10])[0]) == 0
    assert len(memory.look(rows[5:20])[0]) == 10
    assert (memory.left, memory.spent) == (5, False)
    assert len(memory.look(rows[20:])[0]) == 5
    assert (memory.left, memory.spent) == (0, True)
    assert seen == [(10, 25), (20, 25), (25, 25)]
    units, values = memory.rows()
    assert sorted(map(free.rank, units)) == list(range(25))
    assert values.tolist() == memory._scorer.score(units).tolist()
    found = memory.shortlist(4)
    assert found.scores.tolist() == sorted(values.tolist(), reverse=True)[:4]
    assert (found.statistics.scored, found.statistics.walked) == (25, 25)


def test_a_search_ends_with_its_time(tiny: Lattice, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(search_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    memory = _Memory(tiny, Waves(), 25, 5.0, silent)
    for moment, spent in ((104.9, False), (105.0, False), (105.1, True)):
        now[0] = moment
        assert memory.spent is spent


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({}, 10),
        ({"step": "1/40"}, 20),
        ({"step": "1/15"}, 5),  # the smallest multiple
        ({"step": "1/5"}, None),
        ({"lithium": 1.15}, None),  # which no coarser step meets
        ({"lithium": 1.25}, 4),
    ],
)
def test_the_coarse_grid_is_the_finest_multiple_of_the_step_inside(
    tiny: Lattice, change: dict, step: int | None
) -> None:
    values = {**tiny.space.model_dump(), "lithium": [1.0, 1.4], "fluorine": [0, 0.4], "filters": "none", **change}
    coarse = _coarse_grid(Lattice(parse_space(values)))
    assert (None if coarse is None else coarse.denominator) == step


def test_lithium_is_slack_and_fluorine_the_nearest_that_is_neutral(tiny: Lattice) -> None:
    free = Lattice(parse_space({**tiny.space.model_dump(), "filters": "none"}))
    moves, rng = _Moves(free, np.random.default_rng(0)), np.random.default_rng(1)
    rows = free.sample(60, seed=4).astype(np.int64)
    wanted = rng.integers(0, 9, len(rows))
    found = moves._balanced(rows[:, 2:], wanted)
    assert (found[:, 0] + found[:, 2:].sum(1) == 2 * free.denominator).all()
    assert (found[:, 2:] == rows[:, 2:]).all()
    allowed = free.space.fluorine_units
    for row, nearest, want in zip(rows, found, wanted, strict=True):
        every = np.array([(row[0], f, *row[2:]) for f in allowed])
        neutral = every[free.contains(every), 1]
        assert nearest[1] == neutral[np.abs(neutral - want).argmin()]


def test_corners_lie_further_out_than_a_draw(tiny: Lattice) -> None:
    corners = _corners(tiny, 60, np.random.default_rng(0))
    assert 10 < len(corners) == len(set(corners.tolist())) <= 60
    units = tiny.unrank(np.arange(tiny.count)).astype(float)
    away = np.linalg.norm(units - units.mean(0), axis=1)
    assert away[corners].min() > np.median(away)
    assert away[corners].mean() > np.quantile(away, 0.9)


def test_what_a_filter_refused_is_not_looked_at_again(tiny: Lattice) -> None:
    strict = Lattice(parse_space({**tiny.space.model_dump(), "filters": {"lithium_percolation": 1.25}}))
    memory = _Memory(strict, Waves(), 500, None, silent)
    memory._scorer.prepare()
    rows = strict.sample(200, seed=1)
    kept, _ = memory.look(rows)
    assert 0 < len(kept) < 200
    assert memory.refused == {"lithium_percolation": 200 - len(kept)} | {
        name: count for name, count in memory.refused.items() if name != "lithium_percolation"
    }
    assert len(memory.new(rows)) == 0
    assert memory.left == 500 - len(kept)
    assert len(memory.rows()[0]) == len(kept)
