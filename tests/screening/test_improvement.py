from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from screening.goals import ConstraintSpec, Goals, ObjectiveSpec
from screening.improvement import Improvement, boxes_not_dominated, log_feasibility

TWO = Goals(objectives=(ObjectiveSpec(quantity="rate-retention"), ObjectiveSpec(quantity="specific-energy")))
UNIT = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize("gap", [3.0, 0.5, 0.0, -0.5, -1.0, -3.0, -6.0])
def test_expected_improvement_is_the_integral(gap: float) -> None:
    improvement = Improvement(Goals(constraints=()), UNIT, torch.tensor([[0.5]], dtype=torch.float64))
    std = 0.1
    value = improvement.log_expected(torch.tensor([[0.5 + gap * std]]).double(), torch.tensor([[std]]).double())
    x = np.linspace(-12, 12, 400_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    expected = np.trapezoid(np.maximum(std * (x + gap), 0) * density, x)
    assert value.exp().item() == pytest.approx(expected, rel=1e-4)


def test_expected_improvement_falls_steadily_where_it_underflows() -> None:
    improvement = Improvement(Goals(constraints=()), UNIT, torch.tensor([[0.5]], dtype=torch.float64))
    gaps = torch.logspace(-1, 4, 400, dtype=torch.float64)
    values = improvement.log_expected((0.5 - gaps)[:, None], torch.full((400, 1), 0.01, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert (values.diff() < 0).all()


def test_expected_hypervolume_improvement_is_the_mean_over_draws() -> None:
    unit = torch.tensor([0.1, 50.0], dtype=torch.float64)
    front = torch.tensor([[0.7, 500.0], [0.5, 700.0]], dtype=torch.float64)
    improvement = Improvement(TWO, unit, front)
    mean, std = torch.tensor([[0.62, 640.0]]).double(), torch.tensor([[0.08, 60.0]]).double()
    draws = mean + std * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lower, upper = improvement.lower[0], improvement.upper[0]
    parts = (torch.minimum((draws / unit)[:, None], upper) - lower).clamp_min(0)
    assert improvement.log_expected(mean, std).exp().item() == pytest.approx(
        parts.prod(-1).sum(-1).mean().item(), rel=0.02
    )


def test_expected_hypervolume_improvement_is_finite_however_hopeless_a_candidate_is() -> None:
    unit = torch.tensor([0.1, 50.0], dtype=torch.float64)
    improvement = Improvement(TWO, unit, torch.tensor([[0.7, 500.0], [0.5, 700.0]], dtype=torch.float64))
    short = torch.logspace(-1, 6, 300, dtype=torch.float64)[:, None]
    values = improvement.log_expected(torch.tensor([0.5, 500.0]) - short * unit, torch.full((300, 2), 1e-3).double())
    assert torch.isfinite(values).all()
    assert (values.diff() < 0).all()


def test_boxes_are_what_the_front_leaves() -> None:
    front = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], dtype=torch.float64)
    lower, upper = boxes_not_dominated(front[None], torch.zeros(2, dtype=torch.float64))
    rng = np.random.default_rng(0)
    for point in torch.from_numpy(rng.uniform(0, 4, (200, 2))):
        dominated = (front >= point).all(-1).any()
        inside = ((point > lower[0]) & (point <= upper[0])).all(-1).sum()
        assert inside == (0 if dominated else 1)


def test_what_is_worse_than_the_reference_bounds_nothing() -> None:
    reference = torch.tensor([0.3, 400.0], dtype=torch.float64)
    lower, upper = boxes_not_dominated(torch.tensor([[[0.2, 900.0]]]).double(), reference)
    assert torch.equal(lower[0], reference[None])
    assert torch.isinf(upper).all()


def test_feasibility_agrees_with_the_goals() -> None:
    goals = Goals(
        constraints=(
            ConstraintSpec(quantity="capacity", at_least=220),
            ConstraintSpec(quantity="capacity", at_most=300),
        )
    )
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(100, 400, (50, 3)), rng.uniform(5, 60, (50, 3))
    log = log_feasibility(goals, torch.from_numpy(mean), torch.from_numpy(std))
    np.testing.assert_allclose(log.exp(), goals.feasibility(mean, std), atol=1e-12)
    assert torch.isfinite(log_feasibility(goals, torch.zeros(1, 3).double(), torch.full((1, 3), 1e-3).double())).all()


def test_one_objective_gives_botorchs_log_expected_improvement() -> None:
    from botorch.acquisition.analytic import LogExpectedImprovement
    from botorch.models import SingleTaskGP

    x = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = SingleTaskGP(x[:5], x[:5].sum(1, keepdim=True))
    with torch.no_grad():
        posterior = model.posterior(x[5:, None])
        mean, std = posterior.mean[:, 0], posterior.variance[:, 0].sqrt()
        theirs = LogExpectedImprovement(model, best_f=1.1)(x[5:, None])
    improvement = Improvement(Goals(constraints=()), UNIT, torch.tensor([[1.1]], dtype=torch.float64))
    torch.testing.assert_close(improvement.log_expected(mean, std), theirs)


def test_several_objectives_give_botorchs_expected_hypervolume_improvement() -> None:
    from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning

    x = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = ModelListGP(*(SingleTaskGP(x[:5], y[:, None]) for y in (x[:5].sum(1), 1 + x[:5].diff().squeeze())))
    front = torch.tensor([[1.2, 1.1], [0.9, 1.4]], dtype=torch.float64)
    reference = torch.tensor([0.3, 0.5], dtype=torch.float64)
    goals = Goals(
        objectives=(
            ObjectiveSpec(quantity="rate-retention", reference=0.3),
            ObjectiveSpec(quantity="specific-energy", reference=0.5),
        )
    )
    theirs = ExpectedHypervolumeImprovement(model, reference.tolist(), FastNondominatedPartitioning(reference, front))
    with torch.no_grad():
        posterior = model.posterior(x[5:, None])
        mean, std = posterior.mean[:, 0], posterior.variance[:, 0].sqrt()
        ours = Improvement(goals, torch.ones(2, dtype=torch.float64), front).log_expected(mean, std).exp()
        torch.testing.assert_close(ours, theirs(x[5:, None]))


def test_the_utility_of_two_objectives_is_the_area_that_they_span_beyond_the_reference() -> None:
    unit = torch.tensor([0.1, 50.0], dtype=torch.float64)
    improvement = Improvement(TWO, unit, torch.zeros(0, 2, dtype=torch.float64))
    beyond = torch.tensor([[3.0, 5.0], [20.0, 2.0], [4.0, 4.0]], dtype=torch.float64)
    values = torch.from_numpy(TWO.reference_point) + beyond * unit
    assert improvement.log_utility(values).exp().tolist() == pytest.approx([15.0, 40.0, 16.0], rel=0.01)


@pytest.mark.parametrize("n", [1, 3])
def test_boxes_of_several_sets_are_those_of_each_alone(n: int) -> None:
    """Sets with fewer boxes are filled with empty ones."""
    reference = torch.tensor([0.0, 0.0], dtype=torch.float64)
    sets = torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[-1.0, 9.0], [1.0, 1.0]], [[-1.0, -1.0], [-2.0, 5.0]]]).double()[:n]
    lower, upper = boxes_not_dominated(sets, reference)
    assert lower.shape == upper.shape == (n, lower.shape[1], 2)
    for low, high, known in zip(lower, upper, sets, strict=True):
        alone = boxes_not_dominated(known[None], reference)
        count = alone[0].shape[1]
        assert torch.equal(low[:count], alone[0][0])
        assert torch.equal(high[:count], alone[1][0])
        assert (high[count:] <= low[count:]).any(-1).all()
    only = boxes_not_dominated(torch.tensor([[[0.2], [0.7]], [[-3.0], [-2.0]]]).double(), reference[:1])
    assert only[0].flatten().tolist() == pytest.approx([0.7, 0.0])
    assert torch.isinf(only[1]).all()


def test_what_is_found_raises_the_bar() -> None:
    improvement = Improvement(Goals(constraints=()), 2 * UNIT, torch.tensor([[0.5]], dtype=torch.float64))
    mean, std = torch.tensor([[0.6]]).double(), torch.tensor([[0.1]]).double()
    beyond = improvement.beyond(torch.tensor([[0.4], [0.7]], dtype=torch.float64))
    assert beyond.lower.flatten().tolist() == [0.35]
    assert improvement.beyond(torch.zeros(0, 1, dtype=torch.float64)).lower.flatten().tolist() == [0.25]
    expected = [0.05 * (normal.pdf(u) + u * normal.cdf(u)) for u, normal in ((1.0, NormalDist()), (-1.0, NormalDist()))]
    found = [float(which.log_expected(mean, std).exp()) for which in (improvement, beyond)]
    assert found == pytest.approx(expected, rel=1e-6)
