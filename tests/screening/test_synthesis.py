from __future__ import annotations

import math

import pytest
import torch

from drxnet.composition import Composition
from drxnet.ensemble import Amounts
from screening.domain import known_compositions
from screening.synthesis import (
    USUAL_LOGIT,
    VARIANCE_LOCAL,
    VARIANCE_SHIFT,
    PhaseClassifier,
    PhaseModel,
    Tried,
    reported,
    size_mismatch,
)

MANGANESE = Composition.parse("Li1.2Mn0.5Ti0.3O2")
VANADIUM = Composition.parse("Li1.2Mn0.1V0.7O2")


def probability(model: PhaseModel, *compositions: Composition) -> list[float]:
    return model.probability(Amounts.of(compositions)).tolist()


def test_equal_radii_have_no_mismatch_and_shares_not_amounts_count() -> None:
    amounts = Amounts(("Li", "Mg"), torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.5, 0.5]]), torch.zeros(3))
    nothing, one, half = size_mismatch(amounts).tolist()
    assert nothing == pytest.approx(0, abs=1e-12)
    assert one == pytest.approx(half)
    assert one == pytest.approx(0.02 / 0.74, rel=1e-6)  # 0.76 and 0.72 angstrom


def test_without_a_synthesis_the_law_of_sizes_is_all_there_is() -> None:
    nothing = torch.zeros(0, dtype=torch.float64)
    classifier = PhaseClassifier(nothing, torch.zeros(0, 2, dtype=torch.float64), nothing)
    at = torch.tensor([-1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    found = classifier.probability(at, torch.zeros(4, 2, dtype=torch.float64)).tolist()
    assert found == sorted(found, reverse=True)
    variance = VARIANCE_SHIFT + VARIANCE_LOCAL
    assert found[1] == pytest.approx(1 / (1 + math.exp(-USUAL_LOGIT / math.sqrt(1 + math.pi / 8 * variance))))


def test_a_failure_counts_most_where_it_happened() -> None:
    before = PhaseModel(reported())
    after = PhaseModel((*reported(), Tried(VANADIUM, 0.0, "V2O5 left")))
    near = Composition.parse("Li1.2Mn0.1V0.65Ti0.05O2")
    change = [a - b for a, b in zip(*(probability(m, VANADIUM, near, MANGANESE) for m in (after, before)), strict=True)]
    assert change[0] < change[1] < change[2]
    assert change[1] < -0.02


def test_a_synthesis_that_worked_raises_it_and_a_share_lies_between() -> None:
    none, some, all_of_it = (
        probability(PhaseModel((*reported(), Tried(VANADIUM, formed))), VANADIUM)[0] for formed in (0.0, 0.5, 1.0)
    )
    assert none < some < all_of_it


def test_probabilities_stay_within_their_limits_however_much_failed() -> None:
    tried = [Tried(VANADIUM, 0.0)] * 40 + [Tried(MANGANESE, 1.0)] * 40
    bad, good = probability(PhaseModel((*reported(), *tried)), VANADIUM, MANGANESE)
    assert 0 < bad < 0.2
    assert 0.8 < good < 1


def test_reported_failures_are_less_probable_than_reported_rocksalts() -> None:
    model = PhaseModel(reported())
    failed = [t.composition for t in reported() if t.formed < 0.5]
    assert len(failed) >= 3
    assert max(probability(model, *failed)) < sum(probability(model, *known_compositions())) / len(known_compositions())


def test_what_separates_failures_is_named() -> None:
    rows = {0.75: 0.0, 0.8: 0.0, 0.85: 0.0, 0.9: 1.0, 0.1: 1.0, 0.2: 1.0, 0.7: 1.0}
    own = [
        Tried(Composition.from_amounts({"Li": 1.05, "V": v, "Mg": 0.95 - v, "O": 2}), formed)
        for v, formed in rows.items()
    ]
    model = PhaseModel((*reported(), *own))
    rich = Composition.from_amounts({"Li": 1.05, "V": 0.87, "Mg": 0.08, "O": 2})
    assert model.against(rich) == "3 of 4 syntheses with V > 0.7 failed"
    assert model.against(MANGANESE) == ""
    assert PhaseModel(reported()).against(rich) == ""
    assert [c.formula for c, _ in model.failed] == [t.composition.formula for t in own[:3]]


def test_no_metal_of_the_model_takes_the_place_of_another_one() -> None:
    """Molybdenum, tungsten and fluorine are the last of the amounts that a synthesis is described by."""
    molybdenum, tungsten = Composition.parse("Li1.2Mn0.5Mo0.3O2"), Composition.parse("Li1.2Mn0.6W0.2O2")
    before = PhaseModel(reported())
    after = PhaseModel((*reported(), *(Tried(molybdenum, 0.0, "Li2MoO4 left") for _ in range(3))))
    first, then = (probability(model, molybdenum, tungsten) for model in (before, after))
    assert first[0] - then[0] > 2 * abs(first[1] - then[1])


def test_the_probability_is_laplaces_approximation_written_out() -> None:
    """Newton's steps end where the slope of the posterior is zero; the variance there is that of the dense formula."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.randn(7, generator=generator, dtype=torch.float64)
    amounts = 0.4 * torch.randn(7, 3, generator=generator, dtype=torch.float64)
    formed = torch.tensor([1.0, 0.0, 1.0, 0.3, 0.0, 1.0, 0.8], dtype=torch.float64)
    weight = torch.tensor([1.0, 1.0, 0.3, 1.0, 2.0, 0.3, 1.0], dtype=torch.float64)
    at_sizes, at_amounts = torch.cat([sizes[:2], sizes[:2] + 0.7]), torch.cat([amounts[:2], amounts[:2] - 0.2])

    def kernel(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 1.0 + s[:, None] * t + 0.25 * a @ b.mT + 0.5 * (-torch.cdist(a, b) / 0.3).exp()

    k, prior = kernel(sizes, amounts, sizes, amounts), 2.2 - 0.27 * sizes
    latent = prior.clone()
    for _ in range(2000):  # damped, since nothing is hurried here
        latent = latent + 0.1 * (prior + k @ (weight * (formed - latent.sigmoid())) - latent)
    p = latent.sigmoid()
    curvature = weight * p * (1 - p)
    shared = kernel(sizes, amounts, at_sizes, at_amounts)
    mean = 2.2 - 0.27 * at_sizes + shared.mT @ (weight * (formed - p))
    inner = torch.linalg.inv(k + torch.diag(1 / curvature))
    variance = kernel(at_sizes, at_amounts, at_sizes, at_amounts).diagonal() - (shared * (inner @ shared)).sum(0)
    expected = (mean / (1 + math.pi / 8 * variance).sqrt()).sigmoid()
    found = PhaseClassifier(sizes, amounts, formed, weight).probability(at_sizes, at_amounts)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    twice = PhaseClassifier(sizes.repeat(2), amounts.repeat(2, 1), formed.repeat(2), weight.repeat(2) / 2)
    torch.testing.assert_close(twice.probability(at_sizes, at_amounts), found, rtol=1e-6, atol=0)


def test_a_typical_pair_of_reported_rocksalts_is_one_apart() -> None:
    sizes, rows = PhaseModel(reported())._describe(Amounts.of(known_compositions()))
    assert (float(sizes.mean()), float(sizes.std())) == pytest.approx((0, 1), abs=1e-9)
    squared = torch.cdist(rows, rows).square()
    n = len(rows)
    assert float(squared.sum() / (n * (n - 1))) == pytest.approx(1)
    assert rows.mean(0).abs().max() < 1e-9


@pytest.mark.parametrize(("failed", "caution"), [(0, 1), (1, 3), (2, 5), (7, 15), (8, 16), (30, 16)])
def test_caution_grows_with_each_own_failure_up_to_a_most(failed: int, caution: float) -> None:
    own = [Tried(VANADIUM, 0.49)] * failed + [Tried(MANGANESE, 0.5)]
    model = PhaseModel((*reported(), *own))
    assert model.caution == caution
    assert len(model.failed) == failed
