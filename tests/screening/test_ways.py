"""A space crossed with processes: every composition is scored by each, and proposals say how to make the powder."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.errors import ConfigurationError
from drxnet.process import Process, crossed
from screening.batch import Limits, choose_batch
from screening.goals import Goals, ObjectiveSpec
from screening.lattice import Lattice
from screening.measured import Measured
from screening.outlook import Outlook
from screening.scoring import StreamScorer
from screening.space import parse_space
from screening.synthesis import Tried

LEVELS = {"route": ["solid state", "flux"], "firing_temperature_c": [800, 1000]}
WAYS = crossed(LEVELS)
GOALS = Goals(objectives=(ObjectiveSpec(quantity="capacity"),), constraints=())
SPACE = {
    "step": "1/20",
    "lithium": [1.15, 1.25],
    "fluorine": [0, 0.1],
    "species": ["Mn2+", "Mn3+", "Cr3+", "Ti4+", "Nb5+"],
    "k_elements": [2, 3],
}


def measured(count: int) -> list[Measured]:
    """Cells of a laboratory where powder from a flux, fired hot, gives much more."""
    rng, ensemble, goals = np.random.default_rng(0), FakeEnsemble(3), GOALS
    lattice = Lattice(parse_space(SPACE))
    compositions = lattice.compositions(lattice.sample(count, 1))
    found = []
    for i, composition in enumerate(compositions):
        way = WAYS[i % len(WAYS)]
        factor = 1.0 + 0.3 * (way.get("route") == "molten salt") + 0.2 * (way.get("firing_temperature_c") == 1000.0)
        q = ensemble.capacity([composition], [goals.rates.low, goals.rates.high]).mean((0, 1)).numpy()
        low, high = (q * factor * (1 + 0.03 * rng.standard_normal(2))).tolist()
        found.append(replace(Measured.at_two_rates(composition, goals.rates, low, high), process=way))
    return found


def test_processes_are_crossed() -> None:
    assert [str(w.row()) for w in WAYS] == [
        str({"route": route, "firing_temperature_c": float(t)})
        for route in ("solid state", "molten salt")
        for t in (800, 1000)
    ]
    assert crossed({}) == ()
    assert parse_space({**SPACE, "process": LEVELS}).ways == WAYS


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ({"route": ["by hand"]}, "route is one of"),
        ({"heat": [1]}, "no condition of a process"),
        ({"firing_temperature_c": list(range(800, 930)), "milled": ["no", "yes"]}, "at most 64 processes"),
    ],
)
def test_what_cannot_be_crossed_is_refused(levels, said) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_space({**SPACE, "process": levels})


def test_the_compositions_of_a_space_are_the_same_however_they_are_made() -> None:
    plain, made = (Lattice(parse_space({**SPACE, **more})) for more in ({}, {"process": LEVELS}))
    assert (plain.count, plain.fingerprint) == (made.count, made.fingerprint)


def test_a_stream_scores_a_composition_by_the_best_of_its_processes() -> None:
    lattice, data = Lattice(parse_space(SPACE)), measured(24)
    crossing = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    units = lattice.sample(30, 7)

    def scores(outlook: Outlook) -> np.ndarray:
        return StreamScorer(outlook, lattice.columns, lattice.denominator, "logei").score(units)

    each = [scores(replace(crossing, ways=(way,))._with(crossing.ensemble, crossing.surrogate)) for way in WAYS]
    np.testing.assert_allclose(scores(crossing), np.max(each, 0))
    assert (np.argmax(each, 0) == 3).mean() > 0.9, "flux and 1000 °C"


def test_the_best_way_goes_by_the_spread_that_it_is_told() -> None:
    lattice, data = Lattice(parse_space(SPACE)), measured(24)
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    found = lattice.compositions(lattice.sample(20, 3))
    assert outlook.best_ways(found, GOALS.first) == [WAYS[3]] * 20
    at_zero = outlook.best_ways(found, GOALS.first, lambda mean, std: mean)  # every bound ends there
    assert at_zero == [WAYS[0]] * 20


def test_a_batch_says_how_to_make_each_and_finds_the_better_way() -> None:
    lattice, data = Lattice(parse_space(SPACE)), measured(24)
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    listed = lattice.compositions(lattice.sample(60, 3))
    picks = choose_batch(listed, outlook, n=4, strategy="logei", limits=Limits(min_distance=0.05))
    assert {pick.process for pick in picks} == {WAYS[3]}
    assert len({pick.composition for pick in picks}) == 4
    assert all(pick.why.endswith("made by synthesis route molten salt, firing temperature 1000 °C") for pick in picks)
    assert picks[0].candidates == 4 * len(listed) - len([m for m in data if m.composition in listed])


def poorly_made() -> tuple[list[Composition], list[Measured]]:
    """Candidates, the best first and measured by the worst way, and cells that tell which way is best."""
    lattice, data = Lattice(parse_space(SPACE)), measured(24)
    listed = lattice.compositions(lattice.sample(60, 3))
    mean = FakeEnsemble(3).capacity(listed, [GOALS.rates.low]).mean((0, 2))
    best, *others = (listed[i] for i in mean.argsort(descending=True).tolist())
    q = FakeEnsemble(3).capacity([best], [GOALS.rates.low, GOALS.rates.high]).mean((0, 1)).tolist()
    poor = replace(Measured.at_two_rates(best, GOALS.rates, *q), process=WAYS[0])
    return [best, *(c for c in others if c not in {m.composition for m in data})], [*data, poor]


def test_the_best_composition_comes_again_by_a_better_way() -> None:
    listed, data = poorly_made()
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    few = [listed[0], *listed[-6:]]
    picks = choose_batch(few, outlook, n=3, strategy="logei", limits=Limits(min_distance=0.05))
    assert (listed[0], WAYS[3]) in [(p.composition, p.process) for p in picks]
    again = next(p for p in picks if p.composition == listed[0])
    assert "(before: synthesis route solid state, firing temperature 800 °C)" in again.why
    alone = Outlook.of(FakeEnsemble(3), GOALS, measured=data)
    assert listed[0] not in [p.composition for p in choose_batch(few, alone, n=3, strategy="logei")]


def test_what_was_measured_is_told_by_the_tolerance_of_a_condition() -> None:
    listed, data = poorly_made()
    near = Process.of({"route": "solid state", "firing_temperature_c": 810})
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=[replace(data[-1], process=near)], ways=WAYS)
    assert [outlook.is_measured(listed[0], way) for way in WAYS] == [True, False, False, False]
    partly = replace(data[-1], process=Process.of({"route": "solid state"}))
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=[partly], ways=WAYS)
    assert not any(outlook.is_measured(listed[0], way) for way in WAYS), "its temperature is not known"


def test_what_is_pending_counts_as_it_is_to_be_made() -> None:
    listed, data = poorly_made()
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    first = choose_batch(listed[:1], outlook, n=4, strategy="logei")
    assert {p.process for p in first} == set(WAYS[1:]), "each way of it once, whatever the distance"
    waiting = outlook.awaiting([(listed[0], WAYS[3])])
    assert waiting.made[-1] == (listed[0], WAYS[3])
    assert outlook.incumbents != waiting.incumbents, "the better way is counted on"
    second = choose_batch(listed[:1], waiting, n=4, strategy="logei")
    assert {p.process for p in second} == {WAYS[1], WAYS[2]}
    assert {p.process for p in choose_batch(listed[:1], waiting, n=4, taken=lambda _, way: way == WAYS[1])} == {WAYS[2]}


def test_distance_is_kept_among_what_is_made_alike() -> None:
    listed, data = poorly_made()
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    picks = choose_batch(listed, outlook, n=12, strategy="variance-reduction", limits=Limits(min_distance=0.3))
    for one, other in combinations(picks, 2):
        if one.process == other.process:
            assert one.composition.distance(other.composition) >= 0.3 - 1e-9
    assert len({p.process for p in picks}) > 1


def test_a_failed_synthesis_keeps_away_what_is_made_alike_alone() -> None:
    listed, data = poorly_made()
    failed = (Tried(listed[0], 0.0, "did not form", process=WAYS[3]), *(Tried(c, 1.0) for c in listed[20:25]))
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS, tried=failed)
    near = Limits(min_distance=0.2)
    picks = choose_batch(listed, outlook, n=len(listed), strategy="logei", limits=near)
    for pick in picks:
        apart = pick.composition.distance(listed[0])
        assert pick.process != WAYS[3] or apart < 1e-9 or apart >= 0.4 - 1e-9
    assert any(p.process != WAYS[3] and p.composition.distance(listed[0]) < 0.4 for p in picks)


def test_before_anything_is_known_of_the_processes_a_batch_spreads_over_them() -> None:
    lattice = Lattice(parse_space(SPACE))
    outlook = Outlook.of(FakeEnsemble(3), GOALS, ways=WAYS)
    listed = lattice.compositions(lattice.sample(40, 3))
    picks = choose_batch(listed, outlook, n=8, strategy="variance-reduction")
    assert len({pick.process for pick in picks}) >= 3


def test_without_processes_to_choose_from_nothing_changes() -> None:
    lattice = Lattice(parse_space(SPACE))
    listed = lattice.compositions(lattice.sample(40, 3))
    picks = choose_batch(listed, Outlook.of(FakeEnsemble(3)), n=3)
    assert {pick.process for pick in picks} == {Process()}
    assert not any("made by" in pick.why for pick in picks)
    assert Composition.parse(picks[0].composition) in listed
