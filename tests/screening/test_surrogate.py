from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from contracts import check_botorch_model
from fakes import FakeEnsemble

from drxnet.ensemble import Ensemble
from drxnet.errors import UsageError
from screening import surrogate
from screening.encoding import Encoding
from screening.goals import ConstraintSpec, Goals, ObjectiveSpec
from screening.surrogate import PRIORS, DRXNetEnsembleModel, DRXNetGaussianModel, MemberPosterior

METALS = ("Mg", "Ti", "Cr", "Mn", "Nb")
STATES = {"Mg": (2, 2), "Ti": (4, 4), "Cr": (3, 3), "Mn": (2, 4), "Nb": (5, 5)}
ENCODING = Encoding(METALS)
BOUNDS = ENCODING.bounds(fluorine=(0.0, 0.3))
CONSTRAINTS = [*ENCODING.lithium_limits((1.1, 1.3)), *ENCODING.charge_balance(STATES)]


def draw(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    metals = rng.dirichlet(np.ones(len(METALS)), n) * rng.uniform(0.7, 0.9, (n, 1))
    return torch.from_numpy(np.c_[metals, rng.uniform(0, 0.3, n)])


def truth(x: torch.Tensor, seed: int = 5) -> torch.Tensor:
    """What a laboratory finds: another member of the family."""
    return Goals().evaluate(FakeEnsemble(7).subset([seed]), ENCODING.amounts(x))[0]


def moments(model: DRXNetGaussianModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean ``m x n`` and covariance ``m x n x n``."""
    with torch.no_grad():
        beliefs = model.at(model.reader.read_rows(x))
        return torch.stack([b.mean for b in beliefs]), torch.stack([b.covariance for b in beliefs])


def noise_std(model: DRXNetGaussianModel, output: int) -> torch.Tensor:
    """What every observation carries, ``n``."""
    gp = model.models[output]
    return gp.likelihood.noise_covar(shape=gp.train_targets.shape).diagonal().sqrt().detach()


def log_likelihood(model: DRXNetGaussianModel) -> float:
    """Log probability of the data, over all outputs."""
    return sum(gp.likelihood(gp.forward(gp.train_inputs[0])).log_prob(gp.train_targets).item() for gp in model.models)


@pytest.mark.parametrize("kind", [DRXNetEnsembleModel, DRXNetGaussianModel], ids=["members", "gaussian"])
def test_conforms_to_what_botorch_expects(kind) -> None:
    check_botorch_model(kind(FakeEnsemble(3), ENCODING), draw(10), BOUNDS, CONSTRAINTS)


def test_conditioned_gaussian_model_conforms_too() -> None:
    x = draw(6, seed=1)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=truth(x))
    check_botorch_model(model, draw(10), BOUNDS, CONSTRAINTS)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(DRXNetEnsembleModel, marks=pytest.mark.slow), DRXNetGaussianModel],
    ids=["members", "gaussian"],
)
def test_conforms_with_the_ensemble_that_ships(kind) -> None:
    check_botorch_model(kind(Ensemble.load(dtype=torch.float64), ENCODING), draw(5), BOUNDS, CONSTRAINTS)


def test_single_precision_gives_batches_what_it_gives_single_points() -> None:
    for kind in (DRXNetEnsembleModel, DRXNetGaussianModel):
        model, x = kind(Ensemble.load(), ENCODING), draw(4)
        posterior = model.posterior(x.unsqueeze(1))
        torch.testing.assert_close(posterior.mean.squeeze(1), model.posterior(x).mean, rtol=1e-4, atol=1e-3)
        tracked = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.posterior(tracked).mean[:, 1].sum(), tracked)
        assert gradient.abs().max() > 1


# -- the members ------------------------------------------------------------------------------------------------------


def test_a_draw_is_one_member_in_every_batch() -> None:
    model = DRXNetEnsembleModel(FakeEnsemble(5), ENCODING)
    x = draw(1).expand(40, 1, -1)
    samples = model.posterior(x).rsample(torch.Size([6]))
    torch.testing.assert_close(samples, samples[:, :1].expand_as(samples))


def test_variance_over_members_is_the_sample_variance() -> None:
    posterior = DRXNetEnsembleModel(FakeEnsemble(5), ENCODING).posterior(draw(3))
    assert isinstance(posterior, MemberPosterior)
    torch.testing.assert_close(posterior.variance, posterior.values.var(0, correction=1))


# -- the Gaussian process ---------------------------------------------------------------------------------------------


def test_without_data_it_is_the_ensemble_with_one_more_member() -> None:
    ensemble, x = FakeEnsemble(4), draw(5)
    posterior = DRXNetGaussianModel(ensemble, ENCODING).posterior(x)
    values = Goals().evaluate(ensemble, ENCODING.amounts(x))
    torch.testing.assert_close(posterior.mean, values.mean(0))
    model = DRXNetGaussianModel(ensemble, ENCODING)
    v = {name: torch.tensor(value).double() for name, value in model.hyperparameters().items()}
    tilt = (values.mean(0) - model.reader.center) / model.reader.unit
    trend = 2 * v["trend"] ** 2 * model.reader.read_rows(x).amounts.square().sum(1, keepdim=True)
    residual = v["shift"] ** 2 + (v["slope"] * tilt) ** 2 + trend + v["weight"] ** 2 + v["amount_weight"] ** 2
    expected = (1 + 1 / 4) * values.var(0, correction=1) + residual
    torch.testing.assert_close(posterior.variance, expected, rtol=1e-4, atol=1e-6)


def test_sample_paths_have_the_posteriors_moments() -> None:
    x, at = draw(6, seed=1), draw(3, seed=2)
    for model in (
        DRXNetGaussianModel(FakeEnsemble(3), ENCODING),
        DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=truth(x)),
    ):
        points = model.reader.read_rows(at)
        # a draw of frequencies is shared by the paths of one call, so many calls are averaged
        paths = torch.cat([model.sample_paths(40, seed)(points) for seed in range(60)])
        mean, std = model.marginals(points)
        torch.testing.assert_close(paths.std(0), std, rtol=0.12, atol=1e-6)
        assert ((paths.mean(0) - mean).abs() < 0.15 * std).all()


def test_posterior_equals_the_textbook_formula() -> None:
    x, at = draw(7, seed=1), draw(3, seed=2)
    y = truth(x)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    prior = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    mean, k = moments(prior, torch.cat([x, at]))
    noise = torch.tensor(model.hyperparameters()["noise"]).double() ** 2
    posterior = model.posterior(at)
    for j in range(3):
        a = k[j, :7, :7] + noise[j] * torch.eye(7)
        b = k[j, :7, 7:]
        expected = mean[j, 7:] + b.T @ torch.linalg.solve(a, y[:, j] - mean[j, :7])
        torch.testing.assert_close(posterior.mean[:, j], expected)
        variance = (k[j, 7:, 7:] - b.T @ torch.linalg.solve(a, b)).diagonal()
        torch.testing.assert_close(posterior.variance[:, j], variance, rtol=1e-4, atol=1e-7)


def test_a_precise_measurement_is_reproduced() -> None:
    x = draw(5, seed=1)
    y = truth(x)
    y[:, 0], y[:, 1] = y[:, 0].clamp_min(0.8), y[:, 1].clamp_min(220)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y, train_Yvar=1e-10 * torch.ones_like(y))
    posterior = model.posterior(x)
    torch.testing.assert_close(posterior.mean, y, rtol=1e-3, atol=1e-3)
    assert (posterior.variance.sqrt() < 0.01 * y.abs()).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_of_what_is_far_from_wanted_only_that_is_believed(sign) -> None:
    """A dead cell must not bend the model as a good one may: that it is bad is all that it tells."""
    direction = "maximize" if sign > 0 else "minimize"
    goals = Goals(
        objectives=(ObjectiveSpec(quantity="capacity", current_ma_g=1000, direction=direction, reference=150),),
        constraints=(),
    )
    x = draw(6, seed=1)
    y = torch.full((6, 3), torch.nan, dtype=torch.float64)
    at = goals.objective_columns[0]
    y[:, at] = 150 + sign * torch.tensor([50.0, 40, 20, 0, -40, -140])
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, goals, x, y, torch.full_like(y, 1e-4))
    noise = noise_std(model, at)
    level = 150 + sign * 25  # halfway between the reference and the best
    assert noise[:2].tolist() == pytest.approx([0.01, 0.01])
    assert noise[2:].tolist() == pytest.approx((sign * (level - y[2:, at])).tolist(), rel=1e-3)
    one = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, goals, x[5:], y[5:], torch.full_like(y[5:], 1e-4))
    predicted = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, goals).posterior(x[5:]).mean[0, at]
    learned = one.posterior(x[5:]).mean[0, at]
    assert (learned - predicted) * (y[5, at] - predicted) > 0  # towards what was measured,
    assert (y[5, at] - learned).abs() > 1  # but not all the way


def test_a_constraint_counts_one_unit_beyond_its_threshold() -> None:
    goals = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=240),))
    x = draw(2, seed=1)
    y = torch.tensor([[torch.nan, 230.0, torch.nan], [torch.nan, 20.0, torch.nan]], dtype=torch.float64)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, goals, x, y, torch.full_like(y, 1e-4))
    unit = float(model.reader.unit[1])
    noise = noise_std(model, 1).tolist()
    assert noise == pytest.approx([max(0.01, 240 - unit - 230), 240 - unit - 20], rel=1e-3)


def test_conditioning_later_equals_conditioning_at_once() -> None:
    x, at = draw(8, seed=1), draw(4, seed=2)
    y = truth(x)
    once = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    later = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x[:3], train_Y=y[:3])
    later = later.condition_on_observations(x[3:], y[3:])
    torch.testing.assert_close(later.posterior(at).mean, once.posterior(at).mean)
    torch.testing.assert_close(later.posterior(at).variance, once.posterior(at).variance)


def test_conditioning_works_from_no_data_at_all() -> None:
    x = draw(3, seed=1)
    fresh = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    seen = fresh.condition_on_observations(x, truth(x))
    assert (seen.posterior(x).variance < fresh.posterior(x).variance).all()


def test_a_missing_value_teaches_only_the_other_outputs() -> None:
    x = draw(4, seed=1)
    y = truth(x)
    y[:, 0] = torch.nan
    fresh = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    half = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    before, after = fresh.posterior(x), half.posterior(x)
    torch.testing.assert_close(after.mean[:, 0], before.mean[:, 0])
    torch.testing.assert_close(after.variance[:, 0], before.variance[:, 0], rtol=1e-4, atol=1e-9)
    assert (after.variance[:, 1] < 0.9 * before.variance[:, 1]).all()


def test_fantasies_condition_every_draw_on_its_own_values() -> None:
    from botorch.sampling.normal import SobolQMCNormalSampler

    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    pending, at = draw(2, seed=1), draw(4, seed=2)
    fantasy = model.fantasize(pending, sampler=SobolQMCNormalSampler(torch.Size([16]), seed=0))
    posterior = fantasy.posterior(at)
    assert posterior.mean.shape == (16, 4, 3)
    assert posterior.mean.std(0).min() > 0
    assert (posterior.variance <= model.posterior(at).variance + 1e-9).all()


def test_posterior_has_more_rank_than_the_ensemble() -> None:
    x = draw(24)
    few = DRXNetEnsembleModel(FakeEnsemble(5), ENCODING).posterior(x).values[..., 0]
    assert torch.linalg.matrix_rank(few - few.mean(0)) <= 4
    _, covariance = moments(DRXNetGaussianModel(FakeEnsemble(5), ENCODING), x)
    assert torch.linalg.matrix_rank(covariance[0], rtol=1e-9) == 24


def test_fitting_raises_likelihood_and_learns_the_noise() -> None:
    x = draw(60, seed=1)
    y = truth(x)
    y = y * (1 + 0.15 * torch.from_numpy(np.random.default_rng(0).standard_normal(y.shape)))
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    before, noise = log_likelihood(model), model.hyperparameters()["noise"][1]
    model.fit()
    assert log_likelihood(model) > before
    assert model.hyperparameters()["noise"][1] > 2 * noise  # 15 % instead of the 3 % taken for granted


def test_the_fit_stays_near_its_priors_where_data_agree_exactly() -> None:
    x = draw(8, seed=1).repeat(3, 1)  # nothing but the prior keeps the noise above 0
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=truth(x))
    defaults = model.hyperparameters()
    fitted = model.fit().hyperparameters()
    for name in fitted:
        factor, width = PRIORS[name]
        away = np.log(fitted[name]) - np.log(defaults[name]) - math.log(factor)
        assert (np.abs(away) <= 4 * width + 1e-6).all(), name
    assert (np.array(fitted["noise"]) < defaults["noise"]).all()


def test_fitting_without_data_keeps_the_defaults() -> None:
    model = DRXNetGaussianModel(FakeEnsemble(4), ENCODING).fit()
    assert model.hyperparameters()["scale"] == pytest.approx([math.sqrt(1.25)] * 3)


def test_likelihood_is_that_of_the_joint_normal() -> None:
    x = draw(5, seed=1)
    y = truth(x)
    y[2, 1] = torch.nan
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    mean, k = moments(DRXNetGaussianModel(FakeEnsemble(3), ENCODING), x)
    noise = torch.tensor(model.hyperparameters()["noise"]).double() ** 2
    expected = 0.0
    for j in range(3):
        known = torch.isfinite(y[:, j])
        covariance = (k[j] + noise[j] * torch.eye(5))[known][:, known]
        joint = torch.distributions.MultivariateNormal(mean[j, known], covariance)
        expected += joint.log_prob(y[known, j]).item()
    assert log_likelihood(model) == pytest.approx(expected)


def test_data_of_the_wrong_width_are_refused() -> None:
    with pytest.raises(UsageError, match="n x m = 4 x 3"):
        DRXNetGaussianModel(FakeEnsemble(2), ENCODING, train_X=draw(4), train_Y=torch.zeros(4, 2))


def test_the_fit_widens_by_what_leave_one_out_errors_exceed_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the compositions are dead, which the fit is told not to mind: the spread must not claim to know them."""
    x = draw(16, seed=1)
    y = truth(x)
    y[::2] = 0.0
    fitted = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y).fit()
    with monkeypatch.context() as patch:
        patch.setattr(surrogate, "_PSEUDO", 1e15)  # nothing is ever widened
        plain = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y).fit()
    before, after = plain.hyperparameters(), fitted.hyperparameters()
    for j, output in enumerate(plain.models):
        noise, carried = before["noise"][j] ** 2, output.likelihood.noise_covar.carried
        ratios = []
        for i in range(16):
            others = torch.arange(16) != i
            held_out = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x[others], train_Y=y[others])
            gp = held_out.with_hyperparameters(before).models[j]
            gp.likelihood.noise_covar.carried.copy_(carried[others])  # levels are those of all data
            gp._clear_cache()
            at = gp.at(held_out.reader.read_rows(x[i : i + 1]).columns(j))
            ratios.append(((y[i, j] - at.mean) ** 2 / (at.std**2 + noise)).item())
        wider = max(1.0, (sum(ratios) + 4) / 20)
        for name in before:
            expected = 1.0 if "length" in name else math.sqrt(wider)
            assert after[name][j] / before[name][j] == pytest.approx(expected, rel=1e-4), name
    assert after["weight"][1] > 1.2 * before["weight"][1]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.1] * 5], "X has 6 columns: Mg, Ti, Cr, Mn, Nb, F. Got 5."),
        ([[0.1] * 6, [0.1, math.nan, 0.1, 0.1, 0.1, 0.0]], "Row 1 has .* = 0.1, nan, 0.1"),
        ([[0.5, 0.5, 0.5, 0.5, 0.5, 0.0]], "add up to at most 2 .lithium is what they leave"),
        ([[-0.1, 0.3, 0.3, 0.2, 0.1, 0.0]], "none below 0"),
        ([[0.1, 0.3, 0.2, 0.1, 0.1, 2.5]], "at most 2 F"),
    ],
    ids=["width", "nan", "metals", "negative", "fluorine"],
)
@pytest.mark.parametrize("kind", [DRXNetEnsembleModel, DRXNetGaussianModel], ids=["members", "gaussian"])
def test_rows_that_are_no_compositions_are_refused(kind, x: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(FakeEnsemble(2), ENCODING).posterior(torch.tensor(x, dtype=torch.float64))


def test_it_behaves_as_botorch_documents() -> None:
    from botorch.sampling.normal import SobolQMCNormalSampler

    x, at = draw(6, seed=1), draw(3, seed=2)
    y = truth(x)
    y[2, 0] = torch.nan
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=y)
    assert model.num_outputs == 3
    assert model.batch_shape == torch.Size()
    assert [len(targets) for targets in model.train_targets] == [5, 6, 6]
    both = model.subset_output([0, 2])
    assert both.num_outputs == 2
    torch.testing.assert_close(both.posterior(at).mean, model.posterior(at).mean[:, [0, 2]])
    assert model.subset_output([1]).num_outputs == 1
    noisy, plain = model.posterior(at, observation_noise=True), model.posterior(at)
    cell = torch.tensor(model.hyperparameters()["noise"]).double() ** 2
    torch.testing.assert_close(noisy.variance - plain.variance, cell.expand(3, 3), rtol=1e-4, atol=1e-8)
    stated = torch.full((3, 3), 2.0, dtype=torch.float64)
    torch.testing.assert_close(
        model.posterior(at, observation_noise=stated).variance - plain.variance, stated, rtol=1e-4, atol=1e-6
    )
    later = model.condition_on_observations(at, truth(at), noise=torch.full((3, 3), 1e-6, dtype=torch.float64))
    assert (later.posterior(at).variance < 0.5 * plain.variance).all()
    fantasy = model.fantasize(draw(2, seed=3), SobolQMCNormalSampler(torch.Size([4]), seed=0))
    assert fantasy.batch_shape == torch.Size([4])
    assert fantasy.num_outputs == 3


def test_the_members_behave_as_botorch_documents() -> None:
    model, at = DRXNetEnsembleModel(FakeEnsemble(3), ENCODING), draw(4)
    assert model.batch_shape == torch.Size()
    both = model.subset_output([2, 0])
    assert both.num_outputs == 2
    torch.testing.assert_close(both.posterior(at).mean, model.posterior(at).mean[:, [2, 0]])


def test_copies_of_a_model_share_the_ensemble() -> None:
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    assert deepcopy(model).reader is model.reader


def test_the_ensemble_is_asked_once_for_all_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    model, at = DRXNetGaussianModel(FakeEnsemble(3), ENCODING), draw(4)
    encode = FakeEnsemble.encode
    monkeypatch.setattr(FakeEnsemble, "encode", lambda self, c: asked.append(len(c)) or encode(self, c))
    model.posterior(at)
    tracked = at.clone().requires_grad_()
    for _ in range(2):  # and a second look at the same rows has a graph of its own
        model.posterior(tracked).mean.sum().backward()
    assert asked == [4, 4, 4]


def test_an_optimiser_may_step_outside_the_site_balance_but_not_to_no_number() -> None:
    model, x = DRXNetGaussianModel(FakeEnsemble(2), ENCODING), draw(1)
    outside = x.clone()
    outside[0, 0] = 2.5
    with pytest.raises(UsageError, match="none below 0"):
        model.posterior(outside)
    assert torch.isfinite(model.posterior(outside.clone().requires_grad_()).mean).all()
    outside[0, 0] = torch.nan
    with pytest.raises(UsageError, match="none below 0"):
        model.posterior(outside.requires_grad_())


@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 1), (2, 2, 2)], ids=str)
def test_the_noise_of_a_cell_is_added_at_every_point_of_every_batch(shape: tuple[int, ...]) -> None:
    x = draw(5, seed=1)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, train_X=x, train_Y=truth(x))
    at = draw(math.prod(shape), seed=2).reshape(*shape, -1)
    noisy, plain = model.posterior(at, observation_noise=True), model.posterior(at)
    cell = torch.tensor(model.hyperparameters()["noise"]).double() ** 2
    torch.testing.assert_close(noisy.variance - plain.variance, cell.expand(*shape, 3), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(noisy.mean, plain.mean)


def test_believing_in_a_good_or_a_bad_candidate_is_conditioning_on_its_mean() -> None:
    """Of a bad one only that is believed, so that it teaches less than a good one of the same variance would."""
    goals = Goals(constraints=(ConstraintSpec(quantity="capacity", at_least=360),))
    x, at = draw(6, seed=1), draw(12, seed=2)
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING, goals, x, truth(x))
    points, carried = model.reader.read_rows(at), []
    for output, gp in enumerate(model.models):
        with torch.no_grad():
            belief = gp.at(points.columns(output))
            for row in range(len(at)):
                told = gp.condition_on_observations(at[[row]], belief.mean[[row], None])
                expected = told.posterior(at).variance[:, 0]
                believed, rounding = belief.believe(row), 1e-6 * float(belief.prior.max())
                torch.testing.assert_close(believed.std.square(), expected, rtol=1e-3, atol=rounding)
                assert torch.equal(believed.mean, belief.mean)
                missed = float(surrogate.indifference(gp.levels, belief.mean[row])) ** 0.5
                carried.append(missed / float(belief.std[row]))
    assert min(carried) == 0
    assert max(carried) > 1, "some are bad beyond doubt"


@pytest.mark.parametrize("members", [1, 4])
def test_without_data_hyperparameters_are_those_of_how_members_or_compositions_differ(members: int) -> None:
    model = DRXNetGaussianModel(FakeEnsemble(members), ENCODING)
    known = model.reader.known.numpy()  # members x compositions x m
    spread = np.sqrt((known.var(0, ddof=1) if members > 1 else known.var(1)).mean(0))
    typical = np.abs(known.mean(0)).mean(0)
    expected = {
        "scale": np.full(3, math.sqrt(1 + 1 / members)),
        **dict.fromkeys(("shift", "trend", "weight", "amount_weight"), 0.5 * spread),
        "slope": 0.45 * known.mean(0).std(0, ddof=1),
        **dict.fromkeys(("length", "amount_length"), np.full(3, 0.5)),
        "noise": 0.03 * typical,
    }
    assert model.hyperparameters() == {name: pytest.approx(values, rel=1e-6) for name, values in expected.items()}


def test_the_fit_starts_where_the_priors_are_highest() -> None:
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    defaults = model.hyperparameters()
    for output in model.models:
        for hyperparameter in output.of.values():
            hyperparameter.to_mode()
            prior = getattr(hyperparameter.module, f"{hyperparameter.name}_prior")
            held = getattr(hyperparameter.module, hyperparameter.name)

            def density(log: torch.Tensor, prior=prior) -> torch.Tensor:
                return prior.log_prob(log.exp())

            here = held.detach().log()
            assert float(density(here)) > float(torch.maximum(density(here - 0.05), density(here + 0.05)))
    for name, values in model.hyperparameters().items():
        assert values == pytest.approx([PRIORS[name][0] * default for default in defaults[name]]), name


@pytest.mark.parametrize(
    ("levels", "observed", "carried"),
    [
        ((), [1.0, 100.0], [0.0, 0.0]),
        (((1, 200.0),), [250.0, 200.0, 190.0, 0.0], [0.0, 0.0, 100.0, 40_000.0]),
        (((-1, 3.4),), [3.3, 3.4, 3.9], [0.0, 0.0, 0.25]),
        (((1, 200.0), (1, 150.0)), [210.0, 160.0, 140.0], [0.0, 0.0, 100.0]),  # the less strict one
        (((1, 200.0), (-1, 300.0)), [100.0, 250.0, 400.0], [0.0, 0.0, 0.0]),
    ],
)
def test_a_value_carries_the_square_of_what_it_misses_each_level_by(levels, observed, carried) -> None:
    assert surrogate.indifference(levels, torch.tensor(observed).double()).tolist() == pytest.approx(carried)
