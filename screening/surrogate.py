"""The ensemble as two BoTorch models over rows of X (see :mod:`screening.encoding`).

:class:`DRXNetEnsembleModel` is the members themselves, a finite set of functions. :class:`DRXNetGaussianModel` is a
Gaussian process around them, with enough rank to fill a batch and the campaign's own data conditioned on. The m outputs
of both are the quantities of :class:`~screening.goals.Goals`, in their units. Letters: ``b`` batch axes, ``q`` or
``n`` points, ``s`` members, ``m`` outputs, ``d`` columns of X.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.ensemble import EnsembleModel
from botorch.models.model import FantasizeMixin, Model
from botorch.posteriors import GPyTorchPosterior, Posterior
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.sampling.base import MCSampler
from botorch.sampling.get_sampler import GetSampler
from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import UsageError
from drxnet.network import SITE_INDEX
from screening.domain import FeatureScale, known_compositions
from screening.encoding import Encoding
from screening.goals import Goals

RELATIVE_NOISE = 0.03
"""Default standard deviation of one cell, relative to its capacity (about what replicate coin cells show)."""

DEFAULT_WEIGHT = 0.5
"""Default amplitude of each residual, in typical member spreads: shift, trend, learned features, amounts."""

DEFAULT_SLOPE = 0.45
"""Default standard deviation of the factor by which the ensemble may have over- or understated differences."""

DEFAULT_LENGTH = 0.5
"""Default length scale of the residual kernels, in typical distances between known compositions."""

PRIORS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "scale": (0.3, 1.0),
        "shift": (2.0, 1.0),
        "slope": (2.0, 1.0),
        "trend": (2.0, 1.0),
        "weight": (2.0, 1.0),
        "length": (1.0, 0.5),
        "amount_weight": (2.0, 1.0),
        "amount_length": (1.0, 0.5),
        "noise": (2.5, 0.7),
    }
)
"""Where the fit looks for each hyperparameter: most probable value in units of its default, and the standard deviation
of its logarithm.

A campaign measures where it hopes, so its data understate how wrong the model is elsewhere: the residuals are wider
than without data. Where there are data, members that disagree tell little of where the truth is, so their covariance
is narrower. Chosen on pools that no published number comes from (`benchmarks/README.md`).
"""

_FARTHEST = 4.0
"""Standard deviations from its prior's centre that a hyperparameter may go: a long step of the fit must not leave a
covariance without a Cholesky factor."""

_PSEUDO = 4.0
"""Observations that the fitted spread is trusted with before leave-one-out errors widen it."""

_FOURIER = 256
"""Random Fourier features of sample paths."""

_ELEMENTS = len(SITE_INDEX) + 1

_NUGGET = 1e-6
"""Relative to the mean variance of a joint posterior, so that its Cholesky factor exists."""

_ROUNDING = 1e-9
"""Relative to the prior variance: what data explain down to less than this is rounding."""


class MemberPosterior(EnsemblePosterior):
    """Joint posterior over a finite set of functions; a draw is one member, the same in every t-batch.

    :attr:`variance` is the sample variance over members (ddof 1), as in BoTorch; the published spread of DRXNet is
    the population one (ddof 0).
    """

    def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
        """Draw members at random, ``sample_shape x b x q x m``."""
        shape = torch.Size([1]) if not sample_shape else sample_shape
        return self.of_members(torch.randint(self.ensemble_size, shape, device=self.device))

    def of_members(self, members: Tensor) -> Tensor:
        """Values of the given members, ``members.shape x b x q x m``."""
        in_front = self.values.movedim(-3, 0)
        return in_front[members]


class MemberSampler(MCSampler):
    """Every member exactly once, in order: the moments over the samples are those of the ensemble.

    BoTorch's own ``IndexSampler`` draws other members for every t-batch, so that the same candidate gets different
    values depending on its neighbours in the list.
    """

    def forward(self, posterior: Posterior) -> Tensor:
        """Values of all members, ``s x b x q x m``."""
        assert isinstance(posterior, MemberPosterior)
        return posterior.of_members(torch.arange(posterior.ensemble_size, device=posterior.device))

    def _update_base_samples(self, posterior: Posterior, base_sampler: MCSampler) -> None:
        """There are no base samples to carry over."""


@GetSampler.register(MemberPosterior)
def _enumerate_members(posterior: MemberPosterior, sample_shape: torch.Size, *, seed: int | None = None) -> MCSampler:
    return MemberSampler(torch.Size([posterior.ensemble_size]), seed=seed)


class DRXNetEnsembleModel(EnsembleModel):
    """The members' own quantities, each member one function."""

    def __init__(self, ensemble: Ensemble, encoding: Encoding, goals: Goals | None = None) -> None:
        super().__init__()
        self.ensemble, self.encoding, self.goals = ensemble, encoding, goals or Goals()
        self._num_outputs = len(self.goals.quantities)

    def forward(self, X: Tensor) -> Tensor:
        """Quantities of every member, ``b x n x d -> b x s x n x m``; float64, differentiable."""
        values = self.goals.evaluate(self.ensemble, self.encoding.amounts(X))  # s, b * n, m
        return values.unflatten(1, X.shape[:-1]).movedim(0, -3)

    def posterior(  # type: ignore[override]  # a transformed posterior need not be an ensemble's
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        posterior_transform: PosteriorTransform | None = None,
        **kwargs: Any,
    ) -> Posterior:
        """Joint posterior of the members at ``b x q x d``."""
        plain = super().posterior(X, output_indices=output_indices, **kwargs)
        posterior = MemberPosterior(plain.values)
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)


@dataclass(frozen=True)
class Points:
    """What the ensemble says of points: all that the Gaussian model needs to know about them."""

    mean: Tensor
    """Ensemble mean, ``b x m x n``."""

    deviations: Tensor
    """Members minus mean over sqrt(s - 1), so that their Gram matrix is the covariance; ``b x m x n x s``."""

    features: Tensor
    """Learned composition features of all members, scaled to a typical distance of 1; ``b x n x f``."""

    amounts: Tensor
    """Amounts of the metals and F, centred and scaled to a typical distance of 1; ``b x n x elements``."""

    def expand(self, batch: torch.Size) -> Points:
        """Repeat along new leading axes."""
        return Points(*(t.expand(batch + t.shape[-k:]) for t, k in self._parts()))

    def join(self, other: Points) -> Points:
        """Put other points behind these, along n."""
        batch = torch.broadcast_shapes(self.features.shape[:-2], other.features.shape[:-2])
        one, two = self.expand(batch), other.expand(batch)
        return Points(
            torch.cat([one.mean, two.mean], -1),
            torch.cat([one.deviations, two.deviations], -2),
            torch.cat([one.features, two.features], -2),
            torch.cat([one.amounts, two.amounts], -2),
        )

    def _parts(self) -> tuple[tuple[Tensor, int], ...]:
        return ((self.mean, 2), (self.deviations, 3), (self.features, 2), (self.amounts, 2))


class DRXNetGaussianModel(Model, FantasizeMixin):
    """A Gaussian process whose mean is the ensemble's, output by output.

    The covariance of output j between compositions a and b is::

        scale_j^2 C_j(a, b) + shift_j^2 + slope_j^2 h_j(a) h_j(b)
            + trend_j^2 2 (a - o)(b - o) + weight_j^2 k(a, b; length_j) + amount_weight_j^2 l(a, b; amount_length_j)

    with C the sample covariance (ddof 1) over the members, h the ensemble mean, centred and in units of how much it
    differs between known compositions, a - o the amounts less their mean over known compositions, k an exponential
    kernel (Matern-1/2) on the learned features and l a Matern-5/2 kernel on the amounts, shared by the outputs up to
    amplitude and length. Shift, slope and trend let the data correct the ensemble as a whole, element by element, so
    that the kernels need not bend it far from the data. Observations carry the noise ``noise_j^2``, or their own.
    Missing observations are NaN and leave the other outputs of the point alone.

    An observation that is much worse than wanted carries, on top, the square of the distance to the level below which
    it matters little how bad it is: halfway between the reference of an objective and the best measured, or one typical
    spread beyond the threshold of a constraint. The model learns from a dead cell that it is bad, but is not bent
    through it, where the quantities fall off steeply, at the expense of what it says of the good ones.

    Without data, the scale is sqrt(1 + 1/s): the reality is taken for one more member. The other defaults are
    :data:`DEFAULT_WEIGHT`, :data:`DEFAULT_SLOPE`, :data:`DEFAULT_LENGTH` and :data:`RELATIVE_NOISE`. With each member
    in turn as the truth they give spreads that are right or a little wide. :meth:`fit` moves all of them to the data,
    by the marginal likelihood times log-normal priors around the multiples of the defaults in :data:`PRIORS`, and then
    widens all amplitudes together where leave-one-out errors are larger than the spread says.
    """

    train_targets: Tensor

    def __init__(
        self,
        ensemble: Ensemble,
        encoding: Encoding,
        goals: Goals | None = None,
        train_X: Tensor | None = None,
        train_Y: Tensor | None = None,
        train_Yvar: Tensor | None = None,
    ) -> None:
        """Condition on data, with the default hyperparameters.

        Args:
            ensemble: the members.
            encoding: of the rows of X.
            goals: which quantities the outputs are.
            train_X: measured compositions, ``n x d``.
            train_Y: their measured quantities, ``n x m``; NaN where not measured.
            train_Yvar: variance of each, ``n x m``; NaN for the model's own noise.
        """
        super().__init__()
        self.ensemble, self.encoding, self.goals = ensemble, encoding, goals or Goals()
        m = self.num_outputs
        self._scale_features = FeatureScale(ensemble)
        known = self.goals.evaluate(ensemble, known_compositions())  # s, known, m
        spread = known.var(1 if len(known) == 1 else 0, correction=1 if len(known) > 1 else 0).mean(0).sqrt()
        typical = known.mean(0).abs().mean(0)
        self.center, self.unit = known.mean((0, 1)), known.mean(0).std(0).clamp_min(1e-6)
        rows = _by_element(Amounts.of(known_compositions()))
        self._amount_width = rows.var(0).sum().mul(2).sqrt()
        self._amount_center = rows.mean(0)
        tiny = 1e-3 * typical + 1e-6
        amplitude = DEFAULT_WEIGHT * spread.maximum(tiny)
        one = torch.ones(m, dtype=torch.float64)
        defaults = {
            "scale": math.sqrt(1 + 1 / ensemble.members) * one,
            "shift": amplitude,
            "slope": DEFAULT_SLOPE * self.unit.maximum(tiny),
            "trend": amplitude,
            "weight": amplitude,
            "length": DEFAULT_LENGTH * one,
            "amount_weight": amplitude,
            "amount_length": DEFAULT_LENGTH * one,
            "noise": RELATIVE_NOISE * typical.maximum(tiny),
        }
        self.log = nn.ParameterDict({k: nn.Parameter(v.log()) for k, v in defaults.items()})
        self._prior = {k: (v * PRIORS[k][0]).log() for k, v in defaults.items()}
        nothing = torch.zeros(0, encoding.d, dtype=torch.float64)
        x = nothing if train_X is None else train_X
        y = torch.zeros(len(x), m, dtype=torch.float64) if train_Y is None else train_Y
        if y.shape != (*x.shape[:-1], m):
            raise UsageError(f"train_Y must be n x m = {x.shape[-2]} x {m}. Got {' x '.join(map(str, y.shape))}.")
        variance = torch.full_like(y, torch.nan) if train_Yvar is None else train_Yvar
        with torch.no_grad():
            self._train = self.points(x)
        self._x = x
        self._y, self._own_noise = y.mT.double(), variance.mT.double()  # m, n
        self._levels = _levels(self.goals, self.unit, y.double().numpy())
        self._indifference = _indifference(self._levels, self._y)
        self._factor: tuple[Tensor, Tensor] | None = None

    # -- what BoTorch asks for ---------------------------------------------------------------------------

    @property
    def num_outputs(self) -> int:
        """Number of quantities, m."""
        return len(self.goals.quantities)

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes of the data conditioned on; empty unless fantasised."""
        return self._y.shape[:-2]

    @property
    def train_inputs(self) -> tuple[Tensor]:
        """Rows conditioned on, ``b x n x d``."""
        return (self._x,)

    def posterior(  # type: ignore[override]  # BoTorch's two base classes disagree with each other
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
        **kwargs: Any,
    ) -> Posterior:
        """Joint posterior at ``b x q x d``, outputs independent of each other.

        Args:
            X: points.
            output_indices: outputs wanted; all by default.
            observation_noise: add the noise of a measurement, or variances ``b x q x m``.
            posterior_transform: applied last.
            kwargs: what other models take; not used.
        """
        at = self.points(X)
        mean, covariance = self.moments(at, output_indices=output_indices)
        if isinstance(observation_noise, Tensor):
            covariance = covariance + torch.diag_embed(observation_noise.mT.expand(mean.shape))
        elif observation_noise:
            noise = self._value("noise", output_indices).square()
            covariance = covariance + noise[:, None, None] * torch.eye(X.shape[-2], dtype=torch.float64)
        prior = self._variance(at, output_indices).mean(-1)
        nugget = (_NUGGET * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)).maximum(_ROUNDING * prior)
        covariance = covariance + nugget[..., None, None] * torch.eye(X.shape[-2], dtype=torch.float64)
        if mean.shape[-2] == 1:
            distribution = MultivariateNormal(mean.squeeze(-2), covariance.squeeze(-3))
        else:
            distribution = MultitaskMultivariateNormal.from_batch_mvn(MultivariateNormal(mean, covariance), task_dim=-1)
        posterior = GPyTorchPosterior(distribution)
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)

    def condition_on_observations(
        self,
        X: Tensor,
        Y: Tensor,
        noise: Tensor | None = None,
        **kwargs: Any,
    ) -> DRXNetGaussianModel:
        """Build the model that has seen more, hyperparameters unchanged.

        Args:
            X: ``b x n x d``.
            Y: ``(fantasies x) b x n x m``.
            noise: variances like Y; by default the model's own noise.
            kwargs: what other models take; not used.
        """
        twin = object.__new__(DRXNetGaussianModel)
        nn.Module.__init__(twin)
        twin.ensemble, twin.encoding, twin.goals = self.ensemble, self.encoding, self.goals
        twin._scale_features, twin.log, twin._prior = self._scale_features, self.log, self._prior
        twin.center, twin.unit = self.center, self.unit
        twin._amount_center, twin._amount_width = self._amount_center, self._amount_width
        twin._levels = self._levels
        variance = torch.full_like(Y, torch.nan) if noise is None else noise.expand(Y.shape)
        batch = torch.broadcast_shapes(Y.shape[:-2], self.batch_shape)
        n, m = self._y.shape[-1], self.num_outputs
        twin._train = self._train.join(self.points(X)).expand(batch)
        old_x = self._x.expand(batch + self._x.shape[-2:])
        twin._x = torch.cat([old_x, X.double().expand(batch + X.shape[-2:])], -2)
        twin._y = torch.cat([self._y.expand(*batch, m, n), Y.double().mT.expand(*batch, m, -1)], -1)
        twin._own_noise = torch.cat(
            [self._own_noise.expand(*batch, m, n), variance.double().mT.expand(*batch, m, -1)], -1
        )
        twin._indifference = _indifference(self._levels, twin._y)
        twin._factor = None
        return twin

    def transform_inputs(self, X: Tensor, input_transform: nn.Module | None = None) -> Tensor:
        """Rows as they are: scaling lives in the ensemble."""
        return X

    @property
    def likelihood(self) -> None:
        """Noise is a parameter of this model, not a module (BoTorch looks for one when it fantasises)."""
        return None

    # -- how it is computed ------------------------------------------------------------------------------

    def points(self, X: Tensor) -> Points:
        """Ask the ensemble about ``b x n x d``."""
        s, f = self.ensemble.members, self._feature_count
        if X.shape[-2] == 0:
            b, m = X.shape[:-2], self.num_outputs
            zeros = [
                X.new_zeros((*b, *tail), dtype=torch.float64) for tail in ((m, 0), (m, 0, s), (0, f), (0, _ELEMENTS))
            ]
            return Points(*zeros)
        amounts = self.encoding.amounts(X)
        return self.read(amounts, X.shape[:-1])

    def read(self, amounts: Amounts, shape: torch.Size) -> Points:
        """Ask the ensemble about amounts, folded to ``shape`` (``b x n``)."""
        encoded = self.ensemble.encode(amounts)
        values = self.goals.evaluate(self.ensemble, amounts, encoded).unflatten(1, shape).cpu()  # s, b, n, m
        mean = values.mean(0)
        deviations = (values - mean).movedim(0, -1).movedim(-2, -3) / math.sqrt(max(len(values) - 1, 1))
        features = self._scale_features.scaled(encoded.features).unflatten(0, shape)
        rows = ((_by_element(amounts) - self._amount_center) / self._amount_width).unflatten(0, shape)
        return Points(mean.mT, deviations, features, rows)

    def moments(
        self, at: Points, output_indices: list[int] | None = None, *, marginal: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Posterior mean ``b x m x q`` and covariance ``b x m x q x q``, or variance ``b x m x q`` if marginal."""
        outputs = slice(None) if output_indices is None else output_indices
        mean = at.mean[..., outputs, :]
        prior = self._variance(at, output_indices) if marginal else self._covariance(at, at, output_indices)
        if self._y.shape[-1] == 0:
            return mean, prior
        factor, alpha = self._solved()
        known = self._known()[..., outputs, :]
        cross = self._covariance(self._train, at, output_indices) * known.unsqueeze(-1)  # b, m, n, q
        mean = mean + (cross * alpha[..., outputs, :].unsqueeze(-1)).sum(-2)
        explained = torch.linalg.solve_triangular(factor[..., outputs, :, :], cross, upper=False)
        if marginal:
            return mean, (prior - explained.square().sum(-2)).clamp_min(1e-12)
        return mean, prior - explained.mT @ explained

    def fit(self, steps: int = 50) -> DRXNetGaussianModel:
        """Move the hyperparameters to the maximum of marginal likelihood times priors; returns this model."""
        if self._known().sum() == 0:
            return self.requires_grad_(requires_grad=False)
        parameters = list(self.log.parameters())

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            with torch.no_grad():
                vector_to_parameters(torch.from_numpy(values), parameters)
            self._factor = None
            with torch.enable_grad():
                value = -self.log_marginal_likelihood() - self._log_prior()
            gradients = torch.autograd.grad(value, parameters)
            return value.item(), parameters_to_vector(gradients).numpy()

        start = parameters_to_vector([self._prior[name] for name in self.log]).numpy()
        width = np.concatenate([np.full(self.num_outputs, _FARTHEST * PRIORS[name][1]) for name in self.log])
        limits = np.stack([start - width, start + width], 1)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": steps})
        with torch.no_grad():
            vector_to_parameters(torch.from_numpy(found.x), parameters)
            wider = 0.5 * self._understated().log()
            for name, value in self.log.items():
                if not name.endswith("length"):
                    value += wider
        self._factor = None
        return self.requires_grad_(requires_grad=False)

    def _understated(self) -> Tensor:
        """Factor by which the variance falls short of the errors of leave-one-out predictions, at least 1, ``m``.

        Rasmussen and Williams, Gaussian Processes, MIT Press 2006, equations 5.11 and 5.12. What is indifferent to the
        fit is an error here: the spread must hold for bad compositions too. :data:`_PSEUDO` observations say 1.
        """
        factor, alpha = self._cholesky()
        known = self._known()
        precision = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1)
        error = (alpha / precision).square()
        variance = (1 / precision - self._indifference).clamp_min(self._noise())
        ratio = (error / variance * known).sum(-1)
        return ((ratio + _PSEUDO) / (known.sum(-1) + _PSEUDO)).clamp_min(1.0)

    def with_hyperparameters(self, values: Mapping[str, Sequence[float]]) -> DRXNetGaussianModel:
        """Set what :meth:`hyperparameters` of a fitted model gave; returns this model."""
        with torch.no_grad():
            for name, parameter in self.log.items():
                parameter.copy_(torch.tensor(values[name], dtype=torch.float64).log())
        self._factor = None
        return self.requires_grad_(requires_grad=False)

    def sample_paths(self, count: int, seed: int) -> Callable[[Points], Tensor]:
        """Draw functions from the posterior; ``b x count x m x n`` of points, always the same at the same point.

        Prior functions (random weights of the members' deviations, and :data:`_FOURIER` random Fourier features for
        the kernel) corrected by the data: J. Wilson et al., Efficiently sampling functions from Gaussian process
        posteriors, ICML 2020.
        """
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        m = self.num_outputs
        v = {name: value.detach().exp()[:, None] for name, value in self.log.items()}
        along, shift, slope = normal(count, m, self.ensemble.members), normal(count, m, 1), normal(count, m, 1)
        waves = self._waves(self._feature_count, v["length"], 1, count, generator)
        amount_waves = self._waves(_ELEMENTS, v["amount_length"], 5, count, generator)
        trends = normal(count, m, _ELEMENTS)

        def prior(at: Points) -> Tensor:
            return (
                at.mean.unsqueeze(-3)
                + v["scale"] * torch.einsum("...mns,cms->...cmn", at.deviations, along)
                + v["shift"] * shift
                + v["slope"] * slope * self._tilt(at, None).unsqueeze(-3)
                + v["trend"] * math.sqrt(2) * torch.einsum("...ne,cme->...cmn", at.amounts, trends)
                + v["weight"] * waves(at.features)
                + v["amount_weight"] * amount_waves(at.amounts)
            )

        if self._y.shape[-1] == 0:
            return prior
        with torch.no_grad():
            factor, _ = self._cholesky()
            known = self._known()
            error = (self._noise() + self._indifference).sqrt() * normal(count, *self._y.shape)
            seen = self._y.nan_to_num() - prior(self._train) - error
            correction = torch.cholesky_solve((seen * known).unsqueeze(-1), factor).squeeze(-1)

        def posterior(at: Points) -> Tensor:
            cross = self._covariance(self._train, at) * known.unsqueeze(-1)
            return prior(at) + torch.einsum("...mtn,...cmt->...cmn", cross, correction)

        return posterior

    def _waves(
        self, columns: int, length: Tensor, freedom: int, count: int, generator: torch.Generator
    ) -> Callable[[Tensor], Tensor]:
        """Draw functions of rows ``b x n x columns`` with a Matern kernel of variance 1, ``b x count x m x n``.

        The spectrum of a Matern kernel of smoothness p/2 is a t distribution with p degrees of freedom, ``freedom``.
        """

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        heavy = normal(freedom, _FOURIER).square().mean(0).rsqrt()
        frequency = normal(columns, _FOURIER) * heavy
        phase = 2 * math.pi * torch.rand(_FOURIER, generator=generator, dtype=torch.float64)
        amplitude = normal(count, self.num_outputs, _FOURIER) * math.sqrt(2 / _FOURIER)

        def function(rows: Tensor) -> Tensor:
            angles = (rows @ frequency).unsqueeze(-3) / length.unsqueeze(-1) + phase
            return torch.einsum("...mnw,cmw->...cmn", torch.cos(angles), amplitude)

        return function

    def log_marginal_likelihood(self) -> Tensor:
        """Log probability of the data conditioned on, summed over the outputs."""
        factor, _ = self._cholesky()
        known = self._known()
        residual = self._residual()
        white = torch.linalg.solve_triangular(factor, residual.unsqueeze(-1), upper=False).squeeze(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().mul(known).sum()
        return -0.5 * white.square().sum() - log_det - 0.5 * known.sum() * math.log(2 * math.pi)

    def hyperparameters(self) -> dict[str, list[float]]:
        """Scale, weight, length and noise of each output, in the units of the outputs."""
        return {name: value.detach().exp().tolist() for name, value in self.log.items()}

    @property
    def _feature_count(self) -> int:
        return self.ensemble.members * 32

    def _value(self, name: str, output_indices: list[int] | None) -> Tensor:
        value = self.log[name].exp()
        return value if output_indices is None else value[output_indices]

    def _covariance(self, a: Points, b: Points, output_indices: list[int] | None = None) -> Tensor:
        """Prior covariance of the latent functions, ``b x m x n x n'``."""
        outputs = slice(None) if output_indices is None else output_indices
        v = {name: self._value(name, output_indices)[:, None, None] for name in self.log}
        members = a.deviations[..., outputs, :, :] @ b.deviations[..., outputs, :, :].mT
        tilts = self._tilt(a, output_indices).unsqueeze(-1) * self._tilt(b, output_indices).unsqueeze(-2)
        trends = 2 * (a.amounts @ b.amounts.mT).unsqueeze(-3)
        features = torch.exp(-_distance(a.features, b.features).unsqueeze(-3) / v["length"])
        amounts = _matern(_distance(a.amounts, b.amounts).unsqueeze(-3) / v["amount_length"])
        return (
            v["scale"].square() * members
            + v["shift"].square()
            + v["slope"].square() * tilts
            + v["trend"].square() * trends
            + v["weight"].square() * features
            + v["amount_weight"].square() * amounts
        )

    def _variance(self, a: Points, output_indices: list[int] | None) -> Tensor:
        outputs = slice(None) if output_indices is None else output_indices
        v = {name: self._value(name, output_indices)[:, None] for name in self.log}
        return (
            v["scale"].square() * a.deviations[..., outputs, :, :].square().sum(-1)
            + v["shift"].square()
            + v["slope"].square() * self._tilt(a, output_indices).square()
            + v["trend"].square() * 2 * a.amounts.square().sum(-1).unsqueeze(-2)
            + v["weight"].square()
            + v["amount_weight"].square()
        )

    def _tilt(self, a: Points, output_indices: list[int] | None) -> Tensor:
        """The ensemble mean, centred and in units, ``b x m x n``."""
        outputs = slice(None) if output_indices is None else output_indices
        return (a.mean[..., outputs, :] - self.center[outputs, None]) / self.unit[outputs, None]

    def _known(self) -> Tensor:
        return torch.isfinite(self._y).double()

    def _residual(self) -> Tensor:
        return torch.where(torch.isfinite(self._y), self._y - self._train.mean, torch.zeros_like(self._y))

    def _noise(self) -> Tensor:
        """Variance of every measurement, ``b x m x n``."""
        own = self._value("noise", None).square()[:, None]
        return torch.where(torch.isfinite(self._own_noise), self._own_noise, own)

    def _cholesky(self) -> tuple[Tensor, Tensor]:
        known, noise = self._known(), self._noise() + self._indifference
        prior = self._covariance(self._train, self._train) * known.unsqueeze(-1) * known.unsqueeze(-2)
        diagonal = torch.where(known > 0, noise, torch.ones_like(noise))
        factor = torch.linalg.cholesky(prior + torch.diag_embed(diagonal))
        alpha = torch.cholesky_solve(self._residual().unsqueeze(-1), factor).squeeze(-1)
        return factor, alpha

    def _solved(self) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.log.parameters()):
            return self._cholesky()
        if self._factor is None:
            self._factor = self._cholesky()
        return self._factor

    def _log_prior(self) -> Tensor:
        return sum(
            (
                -0.5 * ((self.log[name] - self._prior[name]) / width).square().sum()
                for name, (_, width) in PRIORS.items()
            ),
            start=torch.zeros((), dtype=torch.float64),
        )


def _levels(goals: Goals, unit: Tensor, measured: np.ndarray) -> tuple[tuple[int, int, float], ...]:
    """Values below which (above, for sign -1) it matters little how bad a quantity is: column, sign, level.

    For an objective, halfway between its reference and the best measured that meets the constraints; for a constraint,
    one ``unit`` (``m``) beyond the threshold. ``measured`` is ``n x m``, NaN where not measured.
    """
    met = ~(goals.slack(measured) < 0).any(-1)  # what is not known is not held against it
    levels = []
    for column, objective in zip(goals.objective_columns, goals.objectives, strict=True):
        values = objective.sign * measured[:, column][met & np.isfinite(measured[:, column])]
        reference = objective.sign * objective.reference_value
        best = max(values.max(initial=reference), reference)
        levels.append((column, objective.sign, objective.sign * (reference + best) / 2))
    for column, constraint in zip(goals.constraint_columns, goals.constraints, strict=True):
        levels.append((column, constraint.sign, constraint.threshold - constraint.sign * float(unit[column])))
    return tuple(levels)


def _indifference(levels: tuple[tuple[int, int, float], ...], observed: Tensor) -> Tensor:
    """Variance that every observation carries for how much worse than wanted it is, ``b x m x n``."""
    missed = torch.full_like(observed, torch.inf)
    for column, sign, level in levels:
        short = (sign * (level - observed[..., column, :])).clamp_min(0).nan_to_num()
        missed[..., column, :] = missed[..., column, :].minimum(short)
    return torch.where(torch.isfinite(missed), missed, torch.zeros_like(missed)).square()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances, ``... x n x n'``, with a finite derivative where two points coincide."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1, keepdim=True).mT - 2 * a @ b.mT
    return squares.clamp_min(1e-12).sqrt()


def _matern(distance: Tensor) -> Tensor:
    """Matern kernel of smoothness 5/2 (Rasmussen and Williams, Gaussian Processes, MIT Press 2006, eq. 4.17)."""
    r = math.sqrt(5) * distance
    return (1 + r + r.square() / 3) * torch.exp(-r)


def _by_element(amounts: Amounts) -> Tensor:
    """Amounts of every metal there is and of F, whatever the columns; differentiable, ``n x elements``."""
    where = torch.tensor([SITE_INDEX[s] for s in amounts.symbols if s != "Li"])
    mine = [i for i, s in enumerate(amounts.symbols) if s != "Li"]
    table = torch.zeros(len(amounts), _ELEMENTS, dtype=torch.float64)
    table = table.index_copy(1, where, amounts.cations[:, mine].cpu().double())
    last = torch.tensor([_ELEMENTS - 1])
    return table.index_copy(1, last, amounts.fluorine[:, None].cpu().double())
