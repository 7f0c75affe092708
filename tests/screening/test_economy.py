from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Amounts
from screening.batch import Limits, choose_batch
from screening.economy import REDOX_METALS, Economy, worth_of_second_cell
from screening.errors import NothingToPropose
from screening.goals import ConstraintSpec, Goals
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import cost_usd_kg

GOALS = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=100),))
ENSEMBLE = FakeEnsemble(5)


def draw(count: int, seed: int = 0) -> list[Composition]:
    rng = np.random.default_rng(seed)
    found: dict[Composition, None] = {}
    while len(found) < count:
        v, cr, mn, ti, nb = rng.multinomial(16, rng.dirichlet(np.full(5, 0.7))) / 20
        fluorine = rng.integers(0, 5) / 20
        metals = {"V": v, "Cr": cr, "Mn": mn, "Ti": ti, "Nb": nb}
        found[Composition.from_amounts({"Li": 1.2, **metals, "O": 2 - fluorine, "F": fluorine})] = None
    return list(found)


POOL = draw(150)
FREE = Outlook.of(ENSEMBLE, GOALS)


def choose(limits: Limits, n: int = 6, outlook: Outlook = FREE) -> list[Composition]:
    return [p.composition for p in choose_batch(POOL, outlook, n=n, strategy="greedy", limits=limits)]


def redox(compositions: list[Composition]) -> set[str]:
    return {s for c in compositions for s in c.elements if s in REDOX_METALS}


def test_a_batch_holds_at_most_so_many_amounts_of_fluorine() -> None:
    assert len({c.fluorine for c in choose(Limits())}) > 1
    assert len({c.fluorine for c in choose(Limits(per_batch={"fluorine": 1}))}) == 1


def test_a_batch_holds_at_most_so_many_redox_metals_and_metals() -> None:
    assert len(redox(choose(Limits()))) == 3
    assert len(redox(choose(Limits(per_batch={"redox_metal": 2})))) <= 2
    few = choose(Limits(per_batch={"metal": 3, "fluorine": 2}))
    assert len({s for c in few for s in c.elements if s != "Li"}) <= 3
    assert len({c.fluorine for c in few}) <= 2


def test_a_batch_needs_at_most_so_many_precursors() -> None:
    batch = choose(Limits(max_precursors=4))
    assert len({s for c in batch for s in (*c.elements, *(("F",) if c.fluorine else ()))}) <= 4


def test_a_batch_costs_no_more_than_the_round_may() -> None:
    def cost(c: Composition) -> float:
        amounts = Amounts.of([c])
        return float(cost_usd_kg(amounts.symbols, amounts.cations.T, amounts.fluorine)[0]) * 10 / 1000

    budget = 3 * float(np.median([cost(c) for c in POOL]))
    batch = choose(Limits(budget_usd_per_round=budget, batch_mass_g=10.0), n=8)
    assert 1 <= len(batch) < 8
    assert sum(map(cost, batch)) <= budget
    with pytest.raises(NothingToPropose, match="its budget"):
        choose(Limits(budget_usd_per_round=min(map(cost, POOL)) / 2, batch_mass_g=10.0))


def test_amounts_that_differ_by_rounding_are_one() -> None:
    amounts = Amounts(("Li", "Mn"), torch.ones(3, 2), torch.tensor([0.3, 0.1 + 0.2, 0.35]))
    assert Economy(Limits(per_batch={"fluorine": 1}), amounts).affords([0]).tolist() == [True, True, False]


def test_a_second_cell_is_worth_most_where_two_are_close_and_cells_scatter() -> None:
    close = worth_of_second_cell((0.80, 0.80), (0.01, 0.01), 0.001)
    assert close > worth_of_second_cell((0.80, 0.60), (0.01, 0.01), 0.001) >= 0
    assert close > worth_of_second_cell((0.80, 0.80), (0.01, 0.01), 1e-6)
    assert worth_of_second_cell((0.80, 0.80), (0.0, 0.0), 0.001) == 0
    v, n = 0.01, 0.001
    by_hand = (np.sqrt(v**2 / (v + n / 2) + v**2 / (v + n)) - np.sqrt(2 * v**2 / (v + n))) / np.sqrt(2 * np.pi)
    assert close == pytest.approx(by_hand)


def test_places_go_to_second_cells_where_another_composition_adds_less() -> None:
    known = [Measured.at_two_rates(c, GOALS.rates, 250.0, 150.0 + i) for i, c in enumerate(POOL[:12])]
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=known)
    few = choose_batch(POOL[12:16], outlook, n=8, strategy="logei", limits=Limits(cells="auto", min_distance=0.0))
    assert sum(p.cells or 0 for p in few) <= 8
    twice = [p for p in few if p.cells == 2]
    assert twice
    assert all("2 cells: the spread decides between it and Li" in p.why for p in twice)
    plain = choose_batch(POOL[12:16], outlook, n=4, strategy="logei", limits=Limits(min_distance=0.0))
    assert [p.cells for p in plain] == [None] * 4


def test_a_first_batch_spends_nothing_on_second_cells() -> None:
    batch = choose_batch(POOL, FREE, n=6, strategy="variance-reduction", limits=Limits(cells="auto"))
    assert [p.cells for p in batch] == [1] * 6


@pytest.mark.parametrize(
    ("what", "most", "allowed"),
    [
        ("lithium", 1, [True, True, False, False]),
        ("lithium", 2, [True, True, True, True]),
        ("fluorine", 1, [True, False, True, True]),
        ("redox_metal", 1, [True, True, False, True]),
        ("redox_metal", 2, [True, True, True, True]),
        ("metal", 2, [True, True, False, False]),
        ("metal", 3, [True, True, True, True]),
    ],
)
def test_beside_a_pick_a_batch_may_hold_so_many_distinct_ones(what: str, most: int, allowed: list[bool]) -> None:
    listed = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.5Ti0.3O1.9F0.1", "Li1.25Mn0.4Cr0.35O2", "Li1.25Mn0.4Nb0.35O2"]
    economy = Economy(Limits(per_batch={what: most}), Amounts.of(listed))
    assert economy.affords([0]).tolist() == allowed
    assert economy.affords([0, 0]).tolist() == allowed, "the same one again needs nothing new"


@pytest.mark.parametrize(("most", "allowed"), [(3, [True, False, False, False]), (4, [True, True, True, True])])
def test_fluorine_is_a_precursor_that_metals_are_counted_with(most: int, allowed: list[bool]) -> None:
    listed = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.5Ti0.3O1.9F0.1", "Li1.25Mn0.4Cr0.35O2", "Li1.25Mn0.4Nb0.35O2"]
    assert Economy(Limits(max_precursors=most), Amounts.of(listed)).affords([0]).tolist() == allowed


def test_the_money_of_a_round_is_spent_by_what_is_weighed() -> None:
    amounts = Amounts.of(POOL[:6])
    grams = [float(c) * 20 / 1000 for c in cost_usd_kg(amounts.symbols, amounts.cations.T, amounts.fluorine)]
    for spent in ([], [0], [0, 1, 2]):
        budget = sum(grams[i] for i in spent) + sorted(grams)[3]
        affords = Economy(Limits(budget_usd_per_round=budget, batch_mass_g=20.0), amounts).affords(spent)
        assert affords.tolist() == [g <= sorted(grams)[3] for g in grams]


@pytest.mark.parametrize(("apart", "noise"), [(0.0, 0.001), (0.05, 0.001), (0.05, 0.01), (0.15, 0.01)])
def test_a_second_cell_is_worth_what_choosing_by_more_data_brings(apart: float, noise: float) -> None:
    """Drawn: two truths, what cells say of them, and the better one by what is then expected."""
    means, variances = np.array([0.8, 0.8 - apart]), np.array([0.01, 0.004])
    rng = np.random.default_rng(0)
    truths, scatter = rng.standard_normal((2, 400_000, 2))
    values = []
    for cells in (1, 2):
        cell = noise / np.array([cells, 1])
        truth = means + np.sqrt(variances) * truths
        expected = means + variances / (variances + cell) * (truth + np.sqrt(cell) * scatter - means)
        values.append(truth[np.arange(len(truth)), expected.argmax(1)].mean())
    worth = worth_of_second_cell(tuple(means), tuple(variances), noise)
    assert worth == pytest.approx(values[1] - values[0], rel=0.25, abs=5e-5)
    assert worth == worth_of_second_cell(tuple(-means), tuple(variances), noise), "the sign of the lead is all the same"
