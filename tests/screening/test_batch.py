from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import ConfigurationError, UsageError
from drxnet.process import NOT_STATED
from screening.batch import Batch, Choice, JointSamples, Limits, _factor, choose_batch, diverse
from screening.encoding import Encoding
from screening.errors import NothingToPropose
from screening.estimates import Estimate
from screening.goals import ConstraintSpec, Goals, ObjectiveSpec
from screening.improvement import Improvement
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity, cost_usd_kg
from screening.scoring import Rows
from screening.strategies import STRATEGIES
from screening.strategies.improving import Greedy
from screening.strategies.informing import PromiseAndVariance, VarianceReduction
from screening.surrogate import DRXNetGaussianModel
from screening.synthesis import MOST_CAUTION, Tried

METALS = ("Mg", "Ti", "V", "Cr", "Mn", "Nb")
ENSEMBLE = FakeEnsemble(5)
LABORATORY = FakeEnsemble(9).subset([7])
GOALS = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=240),))


def draw(n: int, seed: int = 0) -> list[Composition]:
    rng = np.random.default_rng(seed)
    found: dict[Composition, None] = {}
    while len(found) < n:
        metals = rng.multinomial(16, rng.dirichlet(np.ones(len(METALS)))) / 20
        fluorine = rng.integers(0, 6) / 20
        found[
            Composition.from_amounts(
                {"Li": 1.2, **dict(zip(METALS, metals, strict=True)), "O": 2 - fluorine, "F": fluorine}
            )
        ] = None
    return list(found)


def measure(compositions: list[Composition]) -> list[Measured]:
    q = LABORATORY.capacity(compositions, [GOALS.rates.low, GOALS.rates.high])[0]
    return [
        Measured.at_two_rates(c, GOALS.rates, float(low), float(high))
        for c, (low, high) in zip(compositions, q, strict=True)
    ]


def choose(candidates, ensemble, goals=None, *, measured=(), pending=(), **options) -> list[Choice]:
    return choose_batch(candidates, Outlook.of(ensemble, goals, measured=measured, pending=pending), **options)


def gaussian(known: list[Measured], compositions: list[Composition]) -> tuple[DRXNetGaussianModel, Encoding, float]:
    """The fitted model on rows that hold these compositions, and how much the objective differs."""
    outlook, encoding = Outlook.of(ENSEMBLE, GOALS, measured=known), Encoding.of(compositions)
    values = (
        torch.from_numpy(np.stack(v)) for v in zip(*((m.values(GOALS), m.variances(GOALS)) for m in known), strict=True)
    )
    x = encoding.encode([m.composition for m in known])
    model = DRXNetGaussianModel(ENSEMBLE, encoding, GOALS, x, *values)
    unit = float(outlook.improvement.unit)
    return model.with_hyperparameters(dict(outlook.hyperparameters)), encoding, unit


POOL = draw(150)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_fills_a_batch_with_distinct_new_compositions(strategy) -> None:
    picks = choose(
        POOL, ENSEMBLE, GOALS, n=8, strategy=strategy, measured=measure(POOL[:6]), pending=POOL[6:10], seed=1
    )
    chosen = [p.composition for p in picks]
    assert len(set(chosen)) == 8
    assert not set(chosen) & set(POOL[:10])
    for i, one in enumerate(chosen):
        assert all(one.distance(other) >= 0.05 - 1e-9 for other in [*chosen[:i], *POOL[6:10]])
    for pick in picks:
        assert np.isfinite([*pick.columns.values(), pick.score]).all()
        assert len(pick.nearest_measured) == 3


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (10.0, 5.0), (200.0, 0.0)], ids=lambda q: f"{q:g}")
def test_the_same_dead_composition_twice_does_not_block_a_batch(low: float, high: float) -> None:
    dead = Measured.at_two_rates(POOL[0], GOALS.rates, *(Estimate.over([q] * 99, least=50) for q in (low, high)))
    picks = choose(POOL, ENSEMBLE, GOALS, n=3, measured=[dead, dead, *measure(POOL[1:4])])
    assert len({p.composition for p in picks} - {POOL[0]}) == 3
    assert np.isfinite([p.score for p in picks]).all()


@pytest.mark.parametrize("strategy", ["logei", "qlognei", "thompson", "random"])
def test_the_seed_decides_the_batch(strategy) -> None:
    def batch(seed: int) -> list[Composition]:
        return [p.composition for p in choose(POOL, ENSEMBLE, GOALS, n=6, strategy=strategy, seed=seed)]

    assert batch(1) == batch(1)
    assert strategy in ("logei", "qlognei") or batch(1) != batch(2)


def test_twenty_four_picks_are_distinct_not_tied_and_all_gain() -> None:
    picks = choose(draw(400), ENSEMBLE, GOALS, n=24, measured=measure(POOL[:4]))
    assert len({p.composition for p in picks}) == 24
    assert len({p.score for p in picks}) == 24
    assert all(p.joint_gain > 0 for p in picks[5:])


def test_the_ensemble_alone_could_not_have_filled_it() -> None:
    from screening.surrogate import DRXNetEnsembleModel

    pool = draw(400)
    encoding = Encoding.of(pool)
    values = DRXNetEnsembleModel(ENSEMBLE, encoding).posterior(encoding.encode(pool)).values[..., 0]  # s x n
    best, gains = torch.full((5,), values.max(1).values.min().item() - 1, dtype=torch.float64), []
    for _ in range(8):
        gain = (values - best[:, None]).clamp_min(0).mean(0)
        gains.append(gain.max().item())
        best = best.maximum(values[:, gain.argmax()])
    assert gains[5:] == [0.0, 0.0, 0.0]


def test_scores_are_botorchs_noisy_expected_improvement() -> None:
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.sampling.normal import SobolQMCNormalSampler

    known, candidates = measure(POOL[:5]), POOL[5:60]
    model, encoding, unit = gaussian(known, POOL)
    acquisition = qLogNoisyExpectedImprovement(
        model,
        X_baseline=encoding.encode(POOL[:5]),
        sampler=SobolQMCNormalSampler(torch.Size([4096]), seed=0),
        objective=GenericMCObjective(lambda samples, X=None: samples[..., 0]),
        constraints=[lambda samples: 240 - samples[..., 1]],
        prune_baseline=False,
        cache_root=False,
    )
    limits = Limits(min_distance=0, domain_weight={})
    picks = choose(candidates, ENSEMBLE, GOALS, n=3, strategy="qlognei", measured=known, limits=limits)
    chosen = encoding.encode([p.composition for p in picks])
    for i in range(3):
        with torch.no_grad():
            theirs = acquisition(chosen[: i + 1].unsqueeze(0)).item() - np.log(unit)
        assert np.log(sum(p.joint_gain for p in picks[: i + 1])) == pytest.approx(theirs, abs=0.1)


def test_logei_counts_picks_as_found_where_they_were_predicted() -> None:
    from botorch.models import ModelListGP

    known, candidates = measure(POOL[:5]), POOL[5:60]
    limits = Limits(min_distance=0, domain_weight={})
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=known)
    picks = choose_batch(candidates, outlook, n=4, strategy="logei", limits=limits)
    fitted, encoding, _ = gaussian(known, POOL)
    model = ModelListGP(*fitted.models)
    for i, pick in enumerate(picks):
        x = encoding.encode([pick.composition])
        found = outlook.awaiting([p.composition for p in picks[:i]])
        with torch.no_grad():
            mean, std = model.posterior(x).mean, model.posterior(x).variance.sqrt()
            expected = found.improvement.log_expected(found.signed(mean), found.spread(std))
            assert pick.score == pytest.approx((expected + found.log_feasible(mean, std)).item(), abs=1e-3)
            model = ModelListGP(*(gp.condition_on_observations(x, mean[:, [j]]) for j, gp in enumerate(model.models)))


@pytest.mark.parametrize("strategy", ["logei", "ucb", "qlognei"])
def test_near_what_is_pending_there_is_less_to_learn(strategy) -> None:
    measured = measure(POOL[:5])
    alone = choose(POOL, ENSEMBLE, GOALS, n=1, strategy=strategy, measured=measured)[0]
    beside = min((c for c in POOL[5:] if c != alone.composition), key=alone.composition.distance)
    limits = Limits(min_distance=0)

    def score(pending: list[Composition]) -> float:
        (pick,) = choose(
            [alone.composition],
            ENSEMBLE,
            GOALS,
            n=1,
            strategy=strategy,
            measured=measured,
            pending=pending,
            limits=limits,
        )
        return pick.score

    assert score([beside]) < score([])


def test_what_is_pending_counts_as_made() -> None:
    first = choose(POOL, ENSEMBLE, GOALS, n=4)
    second = choose(POOL, ENSEMBLE, GOALS, n=4, pending=[p.composition for p in first])
    together = choose(POOL, ENSEMBLE, GOALS, n=8)
    assert not {p.composition for p in first} & {p.composition for p in second}
    assert sum(p.joint_gain for p in second) < sum(p.joint_gain for p in first)
    assert [p.composition for p in together[:4]] == [p.composition for p in first]


def test_several_objectives_are_chosen_by_hypervolume() -> None:
    goals = Goals(
        objectives=(ObjectiveSpec(quantity="rate-retention"), ObjectiveSpec(quantity="capacity", reference=200)),
        constraints=(),
    )
    picks = choose(POOL, ENSEMBLE, goals, n=5, strategy="qlognei", measured=measure(POOL[:6]))
    assert len({p.composition for p in picks}) == 5
    assert all(p.joint_gain > 0 for p in picks)


def test_a_diverse_shortlist_keeps_the_best_and_every_region() -> None:
    crowd = [
        Composition.from_amounts({"Li": 1.2, "Mn": 0.4 + i / 1000, "Ti": 0.4 - i / 1000, "O": 2}) for i in range(40)
    ]
    apart = draw(20, seed=7)
    kept = diverse([*crowd, *apart], 40)
    assert len(set(kept)) == 40
    assert kept[:20] == crowd[:20]
    assert set(apart) <= set(kept)
    assert diverse(apart, 20) == apart


def test_only_so_many_candidates_are_looked_at_as_the_shortlist_holds() -> None:
    picks = choose(POOL, ENSEMBLE, GOALS, n=4, shortlist=10)
    assert {p.composition for p in picks} <= set(diverse(POOL, 10))


# -- the laboratory's limits ------------------------------------------------------------------------------------------


def test_banned_elements_are_not_chosen() -> None:
    picks = choose(POOL, ENSEMBLE, GOALS, n=5, limits=Limits(banned=("V", "F")))
    assert all("V" not in p.composition.elements and p.composition.fluorine == 0 for p in picks)


def test_a_batch_needs_no_more_precursors_than_allowed() -> None:
    pool = draw(300, seed=2)
    free = choose(pool, ENSEMBLE, GOALS, n=6)
    bound = choose(pool, ENSEMBLE, GOALS, n=6, limits=Limits(max_precursors=6))

    def needed(picks: list) -> set[str]:
        return {s for p in picks for s in p.composition.amounts()} - {"O"}

    assert len(needed(free)) > 6
    assert len(needed(bound)) <= 6
    assert len(bound) == 6


def test_distance_between_picks_is_kept_and_too_much_of_it_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        picks = choose(POOL, ENSEMBLE, GOALS, n=60, limits=Limits(min_distance=0.4))
    assert 1 < len(picks) < 60
    assert all(a.composition.distance(b.composition) >= 0.4 - 1e-9 for i, a in enumerate(picks) for b in picks[:i])
    assert "places of the batch empty" in caplog.text


def test_references_and_replicates_take_their_places_first() -> None:
    known = measure(POOL[:20])
    reference = "Li1.2Mn0.4Ti0.4O2"
    picks = choose(POOL, ENSEMBLE, GOALS, n=5, measured=known, limits=Limits(references=(reference,), replicates=1))
    assert [p.kind for p in picks] == ["reference", "replicate", "candidate", "candidate", "candidate"]
    assert picks[0].composition == Composition.parse(reference)
    values = [(m, m.values(GOALS)) for m in known]
    low, high = (GOALS.column(Capacity(c)) for c in (GOALS.rates.low, GOALS.rates.high))
    best, _ = max(((m, v) for m, v in values if v[low] >= 240), key=lambda pair: pair[1][high] / pair[1][low])
    assert picks[1].composition == best.composition
    assert "reference" in picks[0].why


def test_dear_compositions_are_left_out() -> None:
    def price(composition: Composition) -> float:
        return cost_usd_kg(*zip(*composition.cations, strict=True), composition.fluorine)

    limit = float(np.median([price(c) for c in POOL]))
    picks = choose(POOL, ENSEMBLE, GOALS, n=5, limits=Limits(budget_usd_kg=limit))
    assert all(price(p.composition) <= limit for p in picks)


@pytest.mark.parametrize(
    ("candidates", "options", "error", "message"),
    [
        ([], {}, NothingToPropose, "Of 0 candidates none is left"),
        (POOL[:3], {"pending": POOL[:3]}, NothingToPropose, "measured, pending, or against the limits"),
        (POOL, {"limits": Limits(banned=METALS)}, NothingToPropose, "none is left"),
        (POOL, {"limits": Limits(max_precursors=1)}, NothingToPropose, "fits the limits"),
        (POOL, {"strategy": "best"}, ConfigurationError, "No strategy 'best'"),
        (POOL, {"n": 0}, UsageError, "at least one"),
    ],
    ids=["empty", "pending", "banned", "precursors", "strategy", "none"],
)
def test_what_cannot_be_chosen_is_refused(candidates, options, error, message) -> None:
    with pytest.raises(error, match=message):
        choose(candidates, ENSEMBLE, GOALS, **{"n": 3, **options})


def test_why_names_the_numbers_and_the_nearest_measured() -> None:
    pick = choose(POOL, ENSEMBLE, GOALS, n=1, measured=measure(POOL[:5]))[0]
    assert f"retention {pick.columns['rate_retention_mean']:.2f}" in pick.why
    assert str(pick.nearest_measured[0][0]) in pick.why


def test_space_filling_leaves_out_what_cannot_be_feasible() -> None:
    goals = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=240),))
    picks = choose(POOL, ENSEMBLE, goals, n=8, strategy="space-filling")
    anything = choose(POOL, ENSEMBLE, Goals(constraints=()), n=8, strategy="space-filling")
    assert min(p.learned_distance for p in anything[:1]) >= max(p.learned_distance for p in picks[:1])
    capacity = [p.columns["capacity_low_mah_g_mean"] for p in picks]
    assert min(capacity) > min(p.columns["capacity_low_mah_g_mean"] for p in anything)
    assert min(p.columns["feasibility"] for p in picks) >= 0.1


def test_why_says_when_a_pick_is_there_to_learn_from() -> None:
    (pick,) = choose(POOL, ENSEMBLE, GOALS, n=1, strategy="space-filling")
    where = f"{pick.learned_distance:.2f} from the nearest known"
    assert pick.why.startswith(f"to learn, apart from the others ({where}); retention")
    (pick,) = choose(POOL, ENSEMBLE, GOALS, n=1, strategy="random")
    assert pick.why.startswith("drawn at random; retention")


def test_why_places_a_pick_by_mean_and_by_spread() -> None:
    pick = choose(POOL, ENSEMBLE, Goals(constraints=()), n=1, strategy="greedy")[0]
    assert pick.mean_rank == 1
    assert 1 <= pick.spread_rank <= pick.candidates == len(POOL)
    assert f"of {len(POOL)} the 1st by mean" in pick.why


def test_data_that_one_member_explains_exactly_still_give_a_batch() -> None:
    known = POOL[:40]
    q = ENSEMBLE.capacity(known, [GOALS.rates.low, GOALS.rates.high])[0]
    exact = [
        Measured.at_two_rates(c, GOALS.rates, float(low), float(high)) for c, (low, high) in zip(known, q, strict=True)
    ]
    picks = choose(POOL, ENSEMBLE, GOALS, n=6, measured=exact)
    assert len({p.composition for p in picks}) == 6


@pytest.mark.slow
def test_choosing_eight_of_two_thousand_takes_seconds() -> None:
    pool, known = draw(2050, seed=4), measure(draw(24, seed=5))
    start = time.process_time()
    picks = choose(pool, Ensemble.load("default"), Goals(), n=8, measured=known)
    assert len(picks) == 8
    assert time.process_time() - start < 40  # processor seconds: 20 s on two cores


def test_variance_reduction_takes_what_tells_most_of_the_promising_ones() -> None:
    """The first pick agrees with the reduction worked out from the joint covariance by hand."""
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:5]))
    candidates = POOL[5:]
    batch = Batch([(c, NOT_STATED) for c in candidates], outlook, (), Limits(), seed=0)
    value = VarianceReduction(0).next(batch)[: len(candidates)]
    promise = (outlook.improvement.log_utility(batch.signed_mean) + batch.log_feasible).exp()[: len(candidates)]
    weight = (promise - promise.quantile(VarianceReduction.promising)).clamp_min(0)
    expected = torch.zeros(len(candidates), dtype=torch.float64)
    for column in (*GOALS.objective_columns, *GOALS.constraint_columns):
        belief = outlook.surrogate.at(outlook.read(candidates))[column]
        noise = belief.output.likelihood.noise.squeeze()
        unit = outlook.surrogate.reader.unit[column]
        for i in range(len(candidates)):
            shared = belief.covariance[:, i]
            expected[i] += (weight * shared.square()).sum() / (shared[i] + noise) / unit**2
    likely = batch.log_feasible[: len(candidates)] >= math.log(VarianceReduction.least_feasible)
    assert likely.any()
    torch.testing.assert_close(value[likely], expected[likely], rtol=1e-4, atol=1e-10)
    assert (value[~likely] < value[likely].min()).all()


def test_variance_reduction_does_not_pay_twice_for_the_same_knowledge() -> None:
    picks = choose(POOL, ENSEMBLE, Goals(constraints=()), n=4, strategy="variance-reduction")
    assert [p.score for p in picks] == sorted((p.score for p in picks), reverse=True)
    assert len({p.composition for p in picks}) == 4
    assert "tells most of the promising ones" in picks[0].why


def test_what_a_pick_teaches_is_a_share_that_falls_where_much_is_known() -> None:
    goals = Goals(constraints=())
    first, *_, last = choose(POOL, ENSEMBLE, goals, n=8, strategy="variance-reduction")
    assert 0 < last.teaches < first.teaches <= 1
    assert f"tells most of the promising ones ({first.teaches:.0%} of what is uncertain about them)" in first.why
    later = choose(POOL, ENSEMBLE, goals, n=2, measured=measure(POOL[:8]), strategy="logei")
    for pick in later:
        assert 0 <= pick.teaches <= 1
        assert pick.promise in pick.why
        assert f"tells {pick.teaches:.0%} of what is uncertain about the promising" in pick.why


def test_a_first_batch_by_variance_reduction_is_mostly_feasible() -> None:
    goals = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=150),))
    picks = choose(POOL, ENSEMBLE, goals, n=6, strategy="variance-reduction")
    assert min(p.columns["feasibility"] for p in picks) >= VarianceReduction.least_feasible


def test_promise_and_variance_take_turns() -> None:
    goals = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=150),))
    outlook = Outlook.of(ENSEMBLE, goals)
    batch = Batch([(c, NOT_STATED) for c in POOL], outlook, (), Limits(), seed=0)
    how, informs, promises = (kind(0) for kind in (PromiseAndVariance, VarianceReduction, Greedy))
    assert len(set(batch.log_weight.tolist())) > 1, "some lie outside"
    for turn in range(4):
        mine = how.next(batch)
        left = (batch.remaining_std[:, 0] / batch.std[:, 0]).log() * how.novelty
        informed = informs.next(batch)
        weighed = torch.where(informed > 0, informed * batch.log_weight.exp(), informed)
        expected = promises.next(batch) + left if turn % 2 else weighed
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)
        batch.add(int(batch.allowed(how).argmax()))
    picks = choose(POOL, ENSEMBLE, goals, n=4, strategy="promise-and-variance")
    assert [p.composition for p in picks] == [POOL[row] for row in batch.picked]
    assert all("of what is uncertain about the promising" in p.why and "from the nearest known" in p.why for p in picks)


@pytest.mark.parametrize("strategy", ["logei", "promise-and-variance"])
def test_joint_gains_are_those_over_draws_of_all_candidates(strategy: str) -> None:
    """The picks alone are drawn, so that draws differ and expectations do not."""
    known = measure(POOL[:6])
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=known)
    batch = Batch([(c, NOT_STATED) for c in POOL[6:]], outlook, (), Limits(), seed=0)
    expected = []
    for pick in choose(POOL[6:], ENSEMBLE, GOALS, n=4, measured=known, strategy=strategy):
        row = POOL[6:].index(pick.composition)
        expected.append((pick.joint_gain, float(batch.log_gain[row].exp())))
        batch.add(row)
    found, over_all = np.array(expected).T
    assert found.sum() == pytest.approx(over_all.sum(), rel=0.15)


def test_each_failure_makes_the_probability_of_the_phase_count_for_more() -> None:
    good, bad = POOL[:3], POOL[3:6]
    ways = [
        Outlook.of(ENSEMBLE, GOALS, tried=[*(Tried(c, 1.0) for c in good), *(Tried(c, 0.0) for c in bad[:failed])])
        for failed in range(4)
    ]
    assert [outlook.caution for outlook in ways] == [1.0, 3.0, 5.0, 7.0]
    assert Outlook.of(ENSEMBLE, GOALS).caution == 1.0
    assert Outlook.of(ENSEMBLE, GOALS, tried=[Tried(c, 0.0) for c in POOL[:20]]).caution == MOST_CAUTION
    batch = Batch([(c, NOT_STATED) for c in POOL[6:]], ways[3], (), Limits(domain_weight={}), seed=0)
    torch.testing.assert_close(batch.log_weight, 7.0 * batch.log_phase)
    pick = choose_batch(POOL[6:], ways[3], n=1)[0]
    assert pick.phase_probability == pytest.approx(float(ways[3].log_phase(Amounts.of([pick.composition])).exp()))


def test_near_copies_of_a_promising_candidate_do_not_fill_a_first_batch() -> None:
    """Half lattice steps around every candidate: the batch keeps further apart than it has to."""
    near = []
    for candidate in draw(40, seed=3):
        amounts = candidate.amounts()
        most, least = (pick(METALS, key=lambda metal: amounts.get(metal, 0.0)) for pick in (max, min))
        moved = {**amounts, most: amounts[most] - 0.02, least: amounts.get(least, 0.0) + 0.02}
        near += [candidate, Composition.parse("".join(f"{element}{amount:g}" for element, amount in moved.items()))]
    limits = Limits(min_distance=0.02)
    goals = Goals(constraints=())
    picks = choose(near, ENSEMBLE, goals, n=6, strategy="promise-and-variance", limits=limits)
    apart = [a.composition.distance(b.composition) for i, a in enumerate(picks) for b in picks[:i]]
    assert min(apart) > 0.03
    by_mean = choose(near, ENSEMBLE, goals, n=6, strategy="greedy", limits=limits)
    assert min(a.composition.distance(b.composition) for i, a in enumerate(by_mean) for b in by_mean[:i]) < 0.03


FORWARD = ("logei", "qlognei", "ucb", "greedy", "thompson")
"""Strategies whose value is a logarithm of what is promised."""


@cache
def with_syntheses() -> Outlook:
    """Six measured, of which one failed before."""
    return Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:6]), tried=[Tried(POOL[0], 0.0), Tried(POOL[1], 1.0)])


@pytest.mark.parametrize("strategy", FORWARD)
def test_domain_and_phase_weigh_every_candidate_alike_in_the_stream_and_in_the_batch(strategy: str) -> None:
    outlook = with_syntheses()
    candidates, how = [*POOL[6:36], Composition.parse("Li1.05W0.55Co0.4O2")], STRATEGIES.named(strategy)(3)
    amounts, units = Amounts.of(candidates), np.arange(len(candidates))[:, None]
    labels = outlook.domain.labels(outlook.read(candidates).features)
    assert len(labels.unique()) == 3, "inside, at the edge and outside"
    said = []
    for weights in ({"inside": 1.0, "edge": 0.25, "outside": 0.5}, {"inside": 1.0, "edge": 1.0, "outside": 1.0}):
        limits = Limits(domain_weight=weights)
        batch = Batch([(c, NOT_STATED) for c in candidates], outlook, (), limits, seed=0)
        with torch.no_grad():
            batch.add(0)
            streamed = how.score(outlook, Rows(outlook, limits, amounts, units))
            said.append((torch.as_tensor(streamed), how.next(batch)[: len(candidates)]))
    expected = torch.tensor([1.0, 0.25, 0.5]).double().log()[labels]
    for weighed, plain in zip(*said, strict=True):
        torch.testing.assert_close(weighed - plain, expected, rtol=0, atol=1e-9)
    plain = replace(outlook, tried=())._with(outlook.ensemble, outlook.surrogate)
    free = Batch([(c, NOT_STATED) for c in candidates], plain, (), Limits(domain_weight={}), seed=0)
    with torch.no_grad():
        free.add(0)
        phase = outlook.caution * outlook.log_phase(amounts)
        assert (phase < -0.1).any()
        torch.testing.assert_close(said[1][1] - how.next(free)[: len(candidates)], phase, rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", ["at_least", "at_most"])
def test_draws_are_the_less_feasible_the_further_beyond_a_threshold(side: str) -> None:
    rising, found = (0, 150, 250, 400, 1000), []
    for threshold in rising if side == "at_least" else rising[::-1]:
        goals = Goals(constraints=(ConstraintSpec(quantity="capacity", **{side: threshold}),))
        batch = Batch([(c, NOT_STATED) for c in POOL[:10]], Outlook.of(ENSEMBLE, goals), (), Limits(), seed=0)
        found.append(batch.samples.log_feasible)
    means = [float(f.mean()) for f in found]
    assert all(after < before for before, after in zip(means, means[1:], strict=False))
    assert means[0] > math.log(0.999)
    assert means[-1] < math.log(1e-6)
    assert all((f <= 1e-9).all() for f in found)


def test_what_a_pick_was_near_to_and_how_it_ranks_is_counted_by_hand() -> None:
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:5]))
    candidates = POOL[5:45]
    batch = Batch([(c, NOT_STATED) for c in candidates], outlook, (), Limits(), seed=0)
    mean, std = outlook.surrogate.marginals(outlook.read(candidates))
    first = GOALS.objective_columns[0]
    by_mean, by_spread = (sorted(range(40), key=lambda i, v=v: -float(v[i, first])) for v in (mean, std))
    for row in (0, 17, 39):
        with torch.no_grad():
            pick = batch._describe(row)
        assert (by_mean[pick.mean_rank - 1], by_spread[pick.spread_rank - 1]) == (row, row)
        nearest = sorted(POOL[:5], key=candidates[row].distance)[:3]
        assert [c for c, _ in pick.nearest_measured] == nearest
        assert [d for _, d in pick.nearest_measured] == [candidates[row].distance(c) for c in nearest]


@pytest.mark.parametrize(("least", "left"), [(0.0, 3), (0.05, 3), (0.051, 2), (0.1, 2), (0.11, 1), (0.3, 1)])
def test_a_pick_closes_what_is_nearer_than_the_least_distance(least: float, left: int) -> None:
    candidates = [Composition.from_amounts({"Li": 1.2, "Mn": 0.4 + x, "Ti": 0.4 - x, "O": 2}) for x in (0.0, 0.05, 0.1)]
    outlook = Outlook.of(ENSEMBLE, Goals(constraints=()))
    batch = Batch([(c, NOT_STATED) for c in candidates], outlook, (), Limits(min_distance=least), seed=0)
    with torch.no_grad():
        batch.add(0)
        allowed = batch.allowed(Greedy(0))
    assert torch.isfinite(allowed).tolist() == [False, left == 3, left >= 2]


@pytest.mark.parametrize(("apart", "least", "allowed"), [(0.1, 0.05, True), (0.1, 0.051, False), (0.0, 0.3, True)])
def test_failures_keep_twice_the_least_distance_but_may_be_tried_again(
    apart: float, least: float, allowed: bool
) -> None:
    failed = Composition.parse("Li1.2Mn0.4Ti0.4O2")
    near = Composition.from_amounts({"Li": 1.2, "Mn": 0.4 + apart, "Ti": 0.4 - apart, "O": 2})
    outlook = Outlook.of(ENSEMBLE, Goals(constraints=()), tried=[Tried(failed, 0.0)])
    batch = Batch([(near, NOT_STATED)], outlook, (), Limits(min_distance=least), seed=0)
    with torch.no_grad():
        assert torch.isfinite(batch.allowed(Greedy(0))).tolist() == [allowed]


def test_a_gain_is_the_mean_over_draws_of_what_is_added_to_the_best_feasible() -> None:
    goals = Goals(constraints=())
    draws = torch.tensor([[0.5, 0.9, 0.2], [0.7, 0.4, 1.0], [0.1, 0.8, 0.6]], dtype=torch.float64)[..., None]
    improvement = Improvement(goals, torch.tensor([0.1], dtype=torch.float64), torch.zeros(0, 1, dtype=torch.float64))
    good = torch.ones(3, 3, dtype=torch.float64)

    def gains(known: list[int], feasible: torch.Tensor) -> list[float]:
        return (JointSamples(goals, draws, feasible.log()).log_gain(known, improvement).exp() * 0.1).tolist()

    # nothing is known: all that lies above the reference of 0.3
    assert gains([], good) == pytest.approx([0.2, 1.2 / 3, 1.0 / 3], abs=1e-5)
    assert gains([0], good) == pytest.approx([0, 0.9 / 3, 0.6 / 3], abs=1e-5)
    assert gains([0, 1], good) == pytest.approx([0, 0, 0.1], abs=1e-5)
    some = good.clone()
    some[0, 1], some[1, 2], some[1, 0] = 1e-12, 0.25, 0.4
    assert gains([], some) == pytest.approx([(0.2 + 0.4 * 0.4) / 3, 0.6 / 3, (0.25 * 0.7 + 0.3) / 3], abs=1e-5)
    # what is known counts where it is rather feasible than not
    assert gains([0], some) == pytest.approx([0.4 * 0.4 / 3, (0.1 + 0.5) / 3, (0.25 * 0.7 + 0.3) / 3], abs=1e-5)


def test_a_covariance_gets_as_little_on_its_diagonal_as_it_needs() -> None:
    one = torch.ones(1, 3, 3, dtype=torch.float64)
    least = torch.zeros(1, dtype=torch.float64)
    factor = _factor(one, least)
    torch.testing.assert_close(factor @ factor.mT, one, rtol=0, atol=1e-7)
    plain = torch.tensor([[[4.0, 2.0], [2.0, 3.0]]], dtype=torch.float64)
    torch.testing.assert_close(_factor(plain, least), torch.linalg.cholesky(plain), rtol=1e-7, atol=0)
    with pytest.raises(RuntimeError, match="not positive definite"):
        _factor(torch.tensor([[[1.0, 2.0], [2.0, 1.0]]], dtype=torch.float64), least)
    rounding = torch.full((1, 2, 2), -1e-12, dtype=torch.float64)
    assert torch.isfinite(_factor(rounding, torch.tensor([1e-3], dtype=torch.float64))).all()


def test_what_is_promising_lies_above_a_quantile_of_the_candidates() -> None:
    outlook = Outlook.of(ENSEMBLE, GOALS, measured=measure(POOL[:5]))
    batch = Batch([(c, NOT_STATED) for c in POOL[5:25]], outlook, (), Limits(), seed=0)
    promise = batch.promise[:20]
    for quantile in (0.0, 0.7, 1.0):
        above = promise - np.quantile(promise.numpy(), quantile)
        found = batch.promising(quantile)
        assert found[:20].tolist() == pytest.approx(above.clamp_min(0).tolist())
        assert (found[20:] == 0).all(), "what is known is no candidate"
    utility = outlook.improvement.log_utility(batch.signed_mean)
    torch.testing.assert_close(batch.promise, (utility + batch.log_feasible).exp())


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        (Limits(), [True, True, True]),
        (Limits(banned=("Ti",)), [False, True, True]),
        (Limits(banned=("F",)), [True, False, True]),
        (Limits(banned=("Ti", "F", "Zr")), [False, False, True]),
    ],
)
def test_what_holds_a_banned_element_is_not_admitted(limits: Limits, admitted: list[bool]) -> None:
    amounts = Amounts.of(["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.8O1.9F0.1", "Li1.3Mn0.4Nb0.3O2"])
    assert limits.admits(amounts).tolist() == admitted


def test_a_kilogram_costs_at_most_what_is_allowed_at_the_given_prices() -> None:
    formulas = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.8O1.9F0.1", "Li1.3Mn0.4Nb0.3O2"]
    amounts = Amounts.of(formulas)
    for prices in ({}, {"Nb": 0.0, "Li": 1.0}, {"Mn": 900.0}):
        cost = cost_usd_kg(amounts.symbols, amounts.cations.double().T, amounts.fluorine.double(), prices).tolist()
        for limit in cost:
            found = Limits(budget_usd_kg=limit, prices=prices).admits(amounts)
            assert found.tolist() == [c <= limit for c in cost]
