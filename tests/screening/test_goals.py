from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import average_voltage, specific_energy
from drxnet.ensemble import Amounts
from screening.goals import LOW_RATE_CAPACITY, ConstraintSpec, Goals, ObjectiveSpec, Rates, fronts
from screening.quantities import RETENTION_LIMITS

HE_1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
FORMULAS = ["Li1.2Mn0.8O2", "Li1.2Mn0.4Ti0.4O2", HE_1]


@st.composite
def random_amounts(draw: st.DrawFn) -> Amounts:
    """Any cations in any amounts, sensible or not."""
    rows = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    cations = rng.dirichlet(np.full(len(MODEL_METALS), 0.3), rows) * 2
    cations[:, 0] += 1e-3
    return Amounts(MODEL_METALS, torch.from_numpy(cations), torch.from_numpy(rng.uniform(0, 1.4, rows)))


def _is_sound(values: torch.Tensor, goals: Goals) -> None:
    assert torch.isfinite(values).all()
    for i, quantity in enumerate(goals.quantities):
        if "retention" in quantity.name:
            assert values[..., i].min() >= RETENTION_LIMITS[0]
            assert values[..., i].max() <= RETENTION_LIMITS[1]


EVERYTHING = Goals(
    objectives=(
        ObjectiveSpec(quantity="rate-retention"),
        ObjectiveSpec(quantity="specific-energy"),
        ObjectiveSpec(quantity="average-voltage"),
        ObjectiveSpec(quantity="capacity-retention", cycle=50),
        ObjectiveSpec(quantity="cost-per-kwh"),
    )
)


@settings(max_examples=50, deadline=None)
@given(random_amounts())
def test_no_nan_and_no_impossible_retention_whatever_the_composition(amounts: Amounts) -> None:
    _is_sound(EVERYTHING.evaluate(FakeEnsemble(3, spread=4.0, dead=[0]), amounts), EVERYTHING)


def test_no_nan_and_no_impossible_retention_from_a_trained_ensemble(any_ensemble) -> None:
    rng = np.random.default_rng(0)
    cations = rng.dirichlet(np.full(len(MODEL_METALS), 0.2), 400) * 2 + np.eye(1, len(MODEL_METALS)) * 1e-3
    amounts = Amounts(MODEL_METALS, torch.from_numpy(cations), torch.from_numpy(rng.uniform(0, 1.4, 400)))
    goals = Goals()
    values = goals.evaluate(any_ensemble, amounts)
    assert (values[..., 1] < goals.rates.capacity_floor_mah_g).any(), "the draw should hold dead compositions"
    _is_sound(values, goals)
    columns = goals.columns(values.numpy().mean(0), values.numpy().std(0))
    assert all(np.isfinite(column).all() for column in columns.values())
    assert columns["rate_retention_lower"].max() <= RETENTION_LIMITS[1]


def test_retention_is_the_ratio_of_each_members_own_capacities() -> None:
    ensemble, goals = FakeEnsemble(3), Goals()
    values = goals.evaluate(ensemble, FORMULAS)
    q = ensemble.capacity(FORMULAS, [goals.rates.low, goals.rates.high])
    torch.testing.assert_close(values[..., 0], q[..., 1] / q[..., 0])
    torch.testing.assert_close(values[..., 1:], q)


def test_a_member_without_capacity_retains_nothing() -> None:
    values = Goals().evaluate(FakeEnsemble(2, dead=[1]), [HE_1])
    assert values[1, 0].tolist() == [0.0, 0.0, 0.0]
    assert values[0, 0, 0] > 0.5


def test_energy_and_voltage_are_those_of_the_profile() -> None:
    ensemble = FakeEnsemble(2)
    goals = Goals(objectives=(ObjectiveSpec(quantity="specific-energy"), ObjectiveSpec(quantity="average-voltage")))
    values = goals.evaluate(ensemble, FORMULAS)
    grid = goals.rates.low.grid()
    profiles = ensemble.profiles(FORMULAS, [goals.rates.low], grid)[:, :, 0].numpy()
    energy, voltage = (values[..., c].numpy() for c in goals.objective_columns)
    np.testing.assert_allclose(energy, specific_energy(grid, profiles))
    np.testing.assert_allclose(voltage, average_voltage(grid, profiles))
    np.testing.assert_allclose(voltage, (1.5 + 4.8) / 2)  # a straight line delivers its charge evenly


def test_capacity_retention_follows_the_fade() -> None:
    goals = Goals(objectives=(ObjectiveSpec(quantity="capacity-retention", cycle=21),))
    values = goals.evaluate(FakeEnsemble(2), FORMULAS)
    np.testing.assert_allclose(values[..., goals.objective_columns[0]], 0.8)


def test_cost_counts_the_elements_by_mass() -> None:
    from screening.species import supply

    goals = Goals(objectives=(ObjectiveSpec(quantity="cost-per-kwh"), ObjectiveSpec(quantity="specific-energy")))
    cost, energy = goals.evaluate(FakeEnsemble(2), ["Li1.2Mn0.8O2"])[..., list(goals.objective_columns)].unbind(-1)
    composition = Composition.parse("Li1.2Mn0.8O2")
    per_kg = (
        1.2 * 6.94 * supply()["Li"].price_usd_kg + 0.8 * 54.938 * supply()["Mn"].price_usd_kg
    ) / composition.molar_mass
    np.testing.assert_allclose(cost, per_kg / (energy / 1000), rtol=1e-3)


def test_values_are_differentiable_in_the_amounts() -> None:
    x = torch.tensor([[1.2, 0.4, 0.4]], dtype=torch.float64, requires_grad=True)
    fluorine = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def retention(cations: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return EVERYTHING.evaluate(FakeEnsemble(2), Amounts(("Li", "Ti", "Mn"), cations, f))

    assert torch.autograd.gradcheck(retention, (x, fluorine), eps=1e-6)


def test_what_is_wanted_comes_first_and_nothing_twice() -> None:
    goals = Goals(
        objectives=(ObjectiveSpec(quantity="rate-retention"), ObjectiveSpec(quantity="capacity")),
        constraints=(ConstraintSpec(quantity="capacity", current_ma_g=20, at_least=220),),
    )
    assert [str(q) for q in goals.quantities] == ["rate retention", "capacity at 20 mA/g", "capacity at 1000 mA/g"]
    assert goals.objective_columns == (0, 1)
    assert goals.constraint_columns == (1,)


def test_feasibility_is_a_half_at_the_threshold_and_a_step_without_spread() -> None:
    goals = Goals()
    mean = np.array([[0.6, 220.0, 130.0], [0.6, 240.0, 130.0], [0.6, 200.0, 130.0]])
    spread = np.array([[0.1, 20.0, 9.0], [0.1, 0.0, 9.0], [0.1, 0.0, 9.0]])
    np.testing.assert_allclose(goals.feasibility(mean, spread), [0.5, 1.0, 0.0])
    assert goals.feasible(mean).tolist() == [True, True, False]


def test_without_constraints_everything_is_feasible() -> None:
    goals = Goals(constraints=())
    assert goals.feasibility(np.zeros((2, 3)), np.ones((2, 3))).tolist() == [1.0, 1.0]
    assert goals.feasible(np.zeros((2, 3))).all()


def test_lower_is_the_ten_percent_quantile_and_stays_meaningful() -> None:
    draws = np.random.default_rng(0).normal(0.6, 0.05, 200_000)
    goals = Goals()
    columns = goals.columns(np.array([[0.6, 200.0, 120.0], [0.1, 40.0, 4.0]]), np.array([[0.05, 9, 9], [0.4, 9, 9]]))
    assert columns["rate_retention_lower"][0] == pytest.approx(np.quantile(draws, 0.1), abs=1e-3)
    assert columns["rate_retention_lower"][1] == 0.0


def test_public_columns_are_those_of_a_proposal_row() -> None:
    assert list(Goals().columns(np.ones((1, 3)), np.ones((1, 3)))) == [
        "rate_retention_mean",
        "rate_retention_std",
        "rate_retention_lower",
        "rate_retention_upper",
        "capacity_low_mah_g_mean",
        "capacity_low_mah_g_std",
        "capacity_low_mah_g_lower",
        "capacity_low_mah_g_upper",
        "capacity_high_mah_g_mean",
        "capacity_high_mah_g_std",
        "capacity_high_mah_g_lower",
        "capacity_high_mah_g_upper",
        "feasibility",
    ]


def test_everything_on_the_front_is_beaten_by_nothing() -> None:
    assert fronts(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0]])).tolist() == [1, 1, 2, 1]


def test_fronts_are_peeled_one_by_one() -> None:
    values = np.array([[1.0, 3.0], [3.0, 1.0], [2.0, 2.0], [1.0, 1.0], [0.5, 0.5], [2.0, 2.0]])
    assert fronts(values).tolist() == [1, 1, 1, 2, 3, 1]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_front_is_what_no_row_behind_the_fronts_before_beats(columns: int) -> None:
    rng = np.random.default_rng(columns)
    values = rng.integers(0, 9, (120, columns)).astype(float)  # with ties
    values[rng.integers(0, 120, 9), rng.integers(0, columns, 9)] = -np.inf
    numbers, left = fronts(values), np.arange(120)
    for number in range(1, numbers.max() + 1):
        rows = values[left]
        beaten = [any((other >= row).all() and (other > row).any() for other in rows) for row in rows]
        assert set(left[~np.array(beaten)]) == set(np.flatnonzero(numbers == number))
        left = left[np.array(beaten)]
    assert len(left) == 0
    assert fronts(values, at_most=2).tolist() == [n if n <= 2 else 0 for n in numbers]
    assert fronts(values[:0]).tolist() == []


def test_the_same_quantity_at_two_currents_is_two_objectives() -> None:
    measured = np.array([(200.0, 190.0), (260.0, 60.0), (240.0, 120.0), (230.0, 100.0)])
    at = [ObjectiveSpec(quantity="capacity", current_ma_g=i) for i in (20.0, 500.0)]
    goals = Goals(objectives=tuple(at), constraints=())
    values = np.zeros((4, len(goals.quantities)))
    values[:, [goals.column(o) for o in at]] = measured
    assert fronts(goals.objective_values(values)).tolist() == [1, 1, 1, 2]


def test_the_bound_of_what_is_to_be_small_is_the_upper_one() -> None:
    goals = Goals(objectives=(ObjectiveSpec(quantity="cost-per-kwh"),), constraints=())
    mean, std = np.full((1, 4), 100.0), np.full((1, 4), 10.0)
    assert goals.sides[0] == "upper"
    assert goals.lower(mean, std)[0, 0] == pytest.approx(112.8155, abs=1e-3)
    columns = goals.columns(mean, std)
    assert columns["cost_usd_kwh_upper"][0] == pytest.approx(112.8155, abs=1e-3)
    assert columns["cost_usd_kwh_lower"][0] == pytest.approx(87.1845, abs=1e-3)


def test_an_upper_limit_turns_the_bound_of_its_quantity_around() -> None:
    at_most = ConstraintSpec(quantity="average-voltage", at_most=3.4)
    goals = Goals(constraints=(at_most,))
    assert goals.signs[goals.column(at_most)] == -1
    mean = np.full((1, 4), 3.3)
    assert goals.lower(mean, np.full((1, 4), 0.1))[0, goals.column(at_most)] > 3.3
    both = Goals(constraints=(at_most, ConstraintSpec(quantity="average-voltage", at_least=3.0)))
    assert both.signs[both.column(at_most)] == 1


def test_at_most_is_met_below_the_threshold() -> None:
    goals = Goals(constraints=(ConstraintSpec(quantity="average-voltage", at_most=3.4),))
    low, high = (np.array([0.6, v, 250.0, 150.0]) for v in (3.3, 3.5))
    assert goals.feasible(low)
    assert not goals.feasible(high)
    assert goals.feasibility(low, np.full(4, 0.1)) == pytest.approx(0.8413, abs=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ObjectiveSpec(quantity="rate-retention", current_ma_g=100), "two rates"),
        (lambda: ObjectiveSpec(quantity="capacity-retention", cycle=1), "later cycle"),
        (lambda: ObjectiveSpec(quantity="colour"), "rate-retention"),
        (lambda: ConstraintSpec(quantity="capacity"), "exactly one of at_least and at_most"),
        (lambda: ConstraintSpec(quantity="capacity", at_least=1, at_most=2), "exactly one of at_least and at_most"),
        (lambda: Rates(low_current_ma_g=1000, high_current_ma_g=20), "low rate must be below"),
        (lambda: Rates(low_current_ma_g=20, high_current_ma_g=24), "one cell would count at both"),
        (lambda: Rates(v_low=4.8, v_high=1.5), "lower cut-off"),
        (lambda: Rates(low_current_ma_g=20, high_current_ma_g=20), "low rate must be below"),
        (lambda: Rates(v_low=4.8, v_high=4.8), "lower cut-off"),
        (lambda: Rates(v_low=1500, v_high=4800), "between 0 and 6 V"),
        (lambda: Rates(high_current_ma_g=float("inf")), "finite"),
        (lambda: ConstraintSpec(quantity="capacity", at_least=float("nan")), "finite"),
        (lambda: ConstraintSpec(quantity="rate-retention", at_least=60), "rate retention lies between 0 and 1.05"),
        (lambda: ObjectiveSpec(quantity="capacity-retention", reference=80), "lies between 0 and 1.05"),
        (
            lambda: Goals(constraints=(LOW_RATE_CAPACITY, ConstraintSpec(quantity="capacity", at_most=200))),
            "Nothing meets all of these constraints. Got capacity at least 220, capacity at most 200",
        ),
        (lambda: Goals(objectives=()), "at least one objective"),
        (lambda: Goals(objectives=(ObjectiveSpec(quantity="capacity"),) * 2), "stand once"),
    ],
    ids=[
        "rate",
        "cycle",
        "name",
        "no-limit",
        "two-limits",
        "rates",
        "near-rates",
        "window",
        "same-rates",
        "no-window",
        "millivolts",
        "endless",
        "nan",
        "percent",
        "reference",
        "contradiction",
        "none",
        "twice",
    ],
)
def test_what_makes_no_sense_is_refused(build, message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        build()


def test_reading_objectives_needs_no_torch() -> None:
    code = "import sys, screening.goals; assert not {'torch', 'botorch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interval_ends_at_the_largest_possible_value_and_is_drawn_about_no_more() -> None:
    goals = Goals(objectives=(ObjectiveSpec(quantity="capacity"),), constraints=())
    mean, std = np.full((2, 3), 100.0), np.full((2, 3), 10.0)
    mean[1, 0] = 400.0
    most = goals.most([Composition.parse("Li1.2Mn0.4Ti0.4O2")] * 2)
    assert most[0, 0] == pytest.approx(Composition.parse("Li1.2Mn0.4Ti0.4O2").theoretical_capacity_mah_g)
    lower, upper = goals.interval(mean, std, most)
    assert lower[0, 0] == pytest.approx(100 - 12.8155, abs=1e-3)
    assert upper[0, 0] == pytest.approx(100 + 12.8155, abs=1e-3)
    assert upper[1, 0] == most[1, 0]
    assert lower[1, 0] == pytest.approx(most[1, 0] - 12.8155, abs=1e-3)
    columns = goals.columns(mean, std, most)
    assert columns["capacity_low_mah_g_mean"][1] == 400  # the mean stays that of the model


def test_the_reference_of_an_objective_is_that_of_its_quantity_unless_another_is_given():
    usual = ObjectiveSpec(quantity="rate-retention")
    assert usual.reference_value == usual.kind.reference == 0.3
    assert ObjectiveSpec(quantity="rate-retention", reference=0.45).reference_value == 0.45


def test_an_objective_is_called_by_what_is_unusual_about_it() -> None:
    names = [
        str(ObjectiveSpec(quantity="capacity", current_ma_g=i, cycle=n)) for i, n in ((None, None), (20, 1), (20, 9))
    ]
    assert names == ["capacity", "capacity at 20 mA/g", "capacity at 20 mA/g, cycle 9"]


def test_constraints_say_their_side_and_threshold() -> None:
    said = [
        str(ConstraintSpec(**values))
        for values in (
            {"quantity": "capacity", "at_least": 220},
            {"quantity": "average-voltage", "at_most": 3.4},
            {"quantity": "capacity", "current_ma_g": 500, "cycle": 9, "at_most": 150.5},
        )
    ]
    assert said == [
        "capacity at least 220",
        "average voltage at most 3.4",
        "capacity at 500 mA/g, cycle 9 at most 150.5",
    ]
