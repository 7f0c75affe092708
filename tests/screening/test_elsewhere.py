from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from screening.elsewhere import LEAST_OWN, OFFSET, SAMPLE, Elsewhere, _offset, admitted, held_out, without_offset
from screening.goals import ConstraintSpec, Goals
from screening.measured import Measured
from screening.outlook import Outlook

GOALS = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=100),))
ENSEMBLE, TRUTH = FakeEnsemble(5), FakeEnsemble(9).subset([7])


def draw(count: int) -> list[Composition]:
    rng = np.random.default_rng(4)
    shares = rng.multinomial(16, rng.dirichlet(np.ones(4), size=4 * count)) / 20
    found = [Composition.from_amounts({"Li": 1.2, "Mg": a, "V": b, "Mn": c, "Nb": d, "O": 2}) for a, b, c, d in shares]
    return list(dict.fromkeys(found))[:count]


POOL = draw(40)


def measure(compositions: list[Composition], factor: float = 1.0, scatter: float = 0.01) -> tuple[Measured, ...]:
    rng = np.random.default_rng(len(compositions))
    q = TRUTH.capacity(compositions, [GOALS.rates.low, GOALS.rates.high])[0].numpy()
    q = factor * q * (1 + scatter * rng.standard_normal(q.shape))
    return tuple(
        Measured.at_two_rates(c, GOALS.rates, *map(float, row)) for c, row in zip(compositions, q, strict=True)
    )


def test_an_offset_is_shrunk_towards_none_by_how_little_is_known() -> None:
    few, doubt = _offset(np.array([10.0]), np.array([100.0]), 100.0)
    many, less = _offset(np.full(100, 10.0), np.full(100, 100.0), 100.0)
    assert (few, doubt) == pytest.approx((5.0, 50.0))
    assert many == pytest.approx(10.0, rel=0.02)
    assert less < doubt


def test_a_laboratory_that_is_off_by_a_tenth_is_brought_back() -> None:
    mine = Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:10]))
    low = GOALS.column(GOALS.constraints[0])
    right, off = (
        np.array([m.values(GOALS)[low] for m in lab])
        for lab in (measure(POOL[10:30]), without_offset(mine, Elsewhere("theirs", measure(POOL[10:30], 0.9))))
    )
    assert abs((off - right).mean()) < 0.5 * abs((0.9 * right - right).mean())


# values that contradict each other leave the marginal likelihood flat, and BoTorch tells where its optimiser gives up
@pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.OptimizationWarning")
def test_cells_of_the_same_truth_help_and_nonsense_does_not() -> None:
    own = measure(POOL[:6])
    shuffled = measure(POOL[6:30])[::-1]
    nonsense = tuple(Measured(c, m.estimates) for c, m in zip(POOL[6:30], shuffled, strict=True))
    good, bad = admitted(
        ENSEMBLE, GOALS, own, [Elsewhere("the same", measure(POOL[6:30])), Elsewhere("nonsense", nonsense)]
    )
    assert good.gain is not None
    assert good.gain > 0
    assert good.measured
    assert "are learned from" in str(good)
    assert bad.gain is not None
    assert bad.gain < 0
    assert not bad.measured
    assert "are not used" in str(bad)


def test_too_few_own_cells_tell_nothing() -> None:
    (lab,) = admitted(ENSEMBLE, GOALS, measure(POOL[: LEAST_OWN - 1]), [Elsewhere("theirs", measure(POOL[6:10]))])
    assert (lab.gain, lab.measured) == (None, ())
    assert f"until {LEAST_OWN} own ones" in str(lab)


def test_what_has_no_quantity_in_common_is_passed_over() -> None:
    nothing = Elsewhere("theirs", (Measured(POOL[7], {}),))
    assert admitted(ENSEMBLE, GOALS, measure(POOL[:5]), [nothing]) == ()


def test_held_out_values_are_more_probable_under_the_truth() -> None:
    own = measure(POOL[:8])
    assert held_out(Outlook.of(TRUTH, GOALS, measured=own), 8) > held_out(Outlook.of(ENSEMBLE, GOALS, measured=own), 8)


def test_what_is_held_out_counts_by_its_normal_density() -> None:
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:6]))
    columns = sorted({*GOALS.objective_columns, *GOALS.constraint_columns})
    left_out = [outlook.surrogate.outputs[j].left_out() for j in columns]
    densities = [torch.distributions.Normal(0.0, v.sqrt()).log_prob(e) for e, v in left_out]
    assert held_out(outlook, 6) == pytest.approx(float(torch.cat(densities).mean()))


@cache
def of_eight() -> Outlook:
    return Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:8]))


def test_what_is_left_of_a_laboratory_has_the_errors_of_its_samples_and_of_its_offset() -> None:
    theirs = measure(POOL[10:13], 0.9)
    mine = of_eight()
    mean, std = (m.numpy() for m in mine.surrogate.marginals(mine.read([m.composition for m in theirs])))
    found = without_offset(mine, Elsewhere("theirs", theirs))
    assert [m.composition for m in found] == POOL[10:13]
    for j, quantity in enumerate(GOALS.quantities):
        values = np.array([m.values(GOALS)[j] for m in theirs])
        sample = (SAMPLE * values) ** 2
        weights = 1 / (std[:, j] ** 2 + sample)
        doubt = 1 / (1 / (OFFSET * values.mean()) ** 2 + weights.sum())
        offset = (weights * (values - mean[:, j])).sum() * doubt
        left = [m.estimates[quantity] for m in found]
        assert [e.mean for e in left] == pytest.approx(values - offset)
        assert [e.error for e in left] == pytest.approx(np.sqrt(sample + doubt))
        assert [e.spread for e in left] == [e.error for e in left], "so that it counts as the variance of a datum"
        assert {e.count for e in left} == {1}, "not a prediction"


def test_a_quantity_that_one_composition_of_a_laboratory_lacks_is_left_out_of_it_alone() -> None:
    whole, half = measure(POOL[10:12])
    one = GOALS.quantities[0]
    mine = of_eight()
    lab = Elsewhere("theirs", (whole, Measured(half.composition, {one: half.estimates[one]})))
    first, second = without_offset(mine, lab)
    assert set(first.estimates) == set(GOALS.quantities)
    assert set(second.estimates) == {one}
