"""A space crossed with processes: every composition is scored by each, and proposals say how to make the powder."""

from __future__ import annotations

from dataclasses import replace

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


def test_a_batch_says_how_to_make_each_and_finds_the_better_way() -> None:
    lattice, data = Lattice(parse_space(SPACE)), measured(24)
    outlook = Outlook.of(FakeEnsemble(3), GOALS, measured=data, ways=WAYS)
    listed = lattice.compositions(lattice.sample(60, 3))
    picks = choose_batch(listed, outlook, n=4, strategy="logei", limits=Limits(min_distance=0.05))
    assert {pick.process for pick in picks} == {WAYS[3]}
    assert len({pick.composition for pick in picks}) == 4
    assert all(pick.why.endswith("made by synthesis route molten salt, firing temperature 1000 °C") for pick in picks)
    assert picks[0].candidates == 4 * len([c for c in listed if c not in outlook.known])


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
