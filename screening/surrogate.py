"""The ensemble as two BoTorch models over rows of X (see :mod:`screening.encoding`).

:class:`DRXNetEnsembleModel` is the members themselves, a finite set of functions. :class:`DRXNetGaussianModel` is a
Gaussian process around them, with enough rank to fill a batch and the campaign's own data conditioned on. The m outputs
of both are the quantities of :class:`~screening.goals.Goals`, in their units. Letters: ``b`` batch axes, ``q`` or
``n`` points, ``s`` members, ``m`` outputs, ``d`` columns of X.

Both are put together from parts of BoTorch and GPyTorch. Their own are: the sampler of members, because BoTorch's draws
other members for every t-batch; the marginal of many points (:class:`Belief`), because GPyTorch works out
their joint covariance, which a stream of millions of candidates need not; the noise of bad values
(:func:`indifference`), which no likelihood there has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Self, cast

import numpy as np
import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.cross_validation import efficient_loo_cv
from botorch.fit import fit_gpytorch_mll
from botorch.models.ensemble import EnsembleModel
from botorch.models.gp_regression import SingleTaskGP
from botorch.models.model import Model
from botorch.models.model_list_gp_regression import ModelListGP
from botorch.models.transforms.input import InputTransform
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.posteriors.posterior import Posterior
from botorch.sampling.base import MCSampler
from botorch.sampling.get_sampler import GetSampler
from botorch.sampling.pathwise import draw_kernel_feature_paths, draw_matheron_paths
from botorch.sampling.pathwise.features.generators import GenKernelFeatures, gen_kernel_features
from botorch.sampling.pathwise.features.maps import FeatureMap, KernelFeatureMap
from botorch.sampling.pathwise.utils import FeatureSelector
from botorch.utils.constraints import LogTransformedInterval
from botorch.utils.context_managers import delattr_ctx
from botorch.utils.sampling import manual_seed
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import AdditiveKernel, ConstantKernel, LinearKernel, MaternKernel, ProductKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.likelihoods.noise_models import HomoskedasticNoise
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.module import Module
from gpytorch.priors import LogNormalPrior
from linear_operator.operators import DiagLinearOperator
from linear_operator.utils.cholesky import psd_safe_cholesky
from torch import Tensor, nn

from drxnet.ensemble import Amounts, Encoded, Ensemble
from drxnet.errors import UsageError
from drxnet.network import SITE_INDEX, SITES
from drxnet.process import PROCESS_REACH, PROCESS_SHARE
from screening.domain import FeatureScale, known_compositions
from screening.encoding import CATION_SITES, Encoding
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
        "process_weight": (1.0, 1.0),
        "process_length": (1.0, 0.5),
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

_FOURIER = 512
"""Random Fourier features of each kernel in a sample path."""

_ELEMENTS = len(SITES) + 1

_NUGGET = 1e-6
"""Relative to the mean variance of a joint posterior, so that its Cholesky factor exists."""

_ROUNDING = 1e-9
"""Relative to the prior variance: what data explain down to less than this is rounding."""

_SLACK = 1e-6
"""Amount by which an optimiser may overstep the site balance."""


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


def check_rows(X: Tensor, encoding: Encoding) -> None:
    """Refuse rows that are no compositions.

    Rows with a gradient are an optimiser's steps, which may leave the site balance for a moment (SLSQP, which BoTorch
    uses with linear constraints, does); of these only numbers that are none are refused.

    Raises:
        UsageError: too few columns, a number that is none, or amounts outside the site balance.
    """
    names = ", ".join(encoding.columns)
    if X.shape[-1] != encoding.d:
        raise UsageError(f"X has {encoding.d} columns: {names}. Got {X.shape[-1]}.")
    rows = X.detach().reshape(-1, X.shape[-1])
    width = len(encoding.metals) + 1
    amounts, behind = rows[:, :width], rows[:, width:]
    metals, fluorine = amounts[:, :-1].sum(-1), amounts[:, -1]
    inside = (
        (amounts > -_SLACK).all(-1)
        & behind.isfinite().all(-1)
        & (metals < CATION_SITES + _SLACK)
        & (fluorine < 2 + _SLACK)
    )
    if X.requires_grad:
        inside = rows.isfinite().all(-1)
    if not inside.all():  # NaN is not inside
        row = int(inside.logical_not().nonzero()[0, 0])
        values = ", ".join(f"{v:.4g}" for v in rows[row].tolist())
        raise UsageError(
            "A row of X holds amounts per formula unit: none below 0, metals that add up to at most 2 (lithium is "
            f"what they leave) and at most 2 F. Row {row} has {names} = {values}."
        )


class DRXNetEnsembleModel(EnsembleModel):
    """The members' own quantities, each member one function."""

    def __init__(self, ensemble: Ensemble, encoding: Encoding, goals: Goals | None = None) -> None:
        super().__init__()
        self.ensemble, self.encoding, self.goals = ensemble, encoding, goals or Goals()
        self._outputs = list(range(len(self.goals.quantities)))
        self._num_outputs = len(self._outputs)

    @property
    def batch_shape(self) -> torch.Size:
        """Empty: there is one ensemble."""
        return torch.Size()

    def subset_output(self, idcs: list[int]) -> DRXNetEnsembleModel:
        """Build the model of some of the outputs, in the given order."""
        twin = DRXNetEnsembleModel(self.ensemble, self.encoding, self.goals)
        twin._outputs = [self._outputs[i] for i in idcs]
        twin._num_outputs = len(idcs)
        return twin

    def forward(self, X: Tensor) -> Tensor:
        """Quantities of every member, ``b x n x d -> b x s x n x m``; float64, differentiable."""
        check_rows(X, self.encoding)
        amounts, process = self.encoding.amounts(X), self.encoding.process_columns(X)
        values = _evaluated(self.ensemble, self.encoding, self.goals, amounts, process)  # s, b * n, m
        return values[..., self._outputs].unflatten(1, X.shape[:-1]).movedim(0, -3)

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


class EnsembleReader:
    """Asks an ensemble about compositions, once for all outputs; what the Gaussian model knows comes from here."""

    def __init__(self, ensemble: Ensemble, encoding: Encoding, goals: Goals, scale: FeatureScale | None = None) -> None:
        self.ensemble, self.encoding, self.goals = ensemble, encoding, goals
        self.scale = scale or FeatureScale(ensemble)
        known = Amounts.of(known_compositions())
        self.known = goals.evaluate(ensemble, known)  # s, known, m
        self.center, self.unit = self.known.mean((0, 1)), self.known.mean(0).std(0).clamp_min(1e-6)
        rows = _by_element(known)
        self._amount_center, self._amount_width = rows.mean(0), rows.var(0).sum().mul(2).sqrt()
        self._last: tuple[Tensor, int, Points] | None = None
        self._once = False

    def __deepcopy__(self, memo: object) -> Self:
        """Copies of a model share what never changes."""
        return self

    @contextmanager
    def once(self) -> Iterator[None]:
        """Within this, the same rows are read once, with their gradients."""
        self._once = True
        try:
            yield
        finally:
            self._once, self._last = False, None

    def read_rows(self, X: Tensor) -> Points:
        """Ask about ``b x n x d``.

        Raises:
            UsageError: rows that are no compositions.
        """
        if self._last is not None and self._last[0] is X and self._last[1] == X._version:
            return self._last[2]
        check_rows(X, self.encoding)
        points = self.read(self.encoding.amounts(X), X.shape[:-1], self.encoding.process_columns(X))
        if self._once or not (X.requires_grad and torch.is_grad_enabled()):
            self._last = X, X._version, points
        return points

    def read(self, amounts: Amounts, shape: torch.Size | None = None, process: Tensor | None = None) -> Points:
        """Ask about amounts, folded to ``shape`` (``b x n``).

        Args:
            amounts: ``b * n`` of them.
            shape: by default all in a row.
            process: columns of the encoding for what is stated of the process; by default what the goals state.
        """
        shape = torch.Size([len(amounts)]) if shape is None else shape
        if process is None:
            process = self.encoding.encode_processes([self.goals.rates.process]).expand(len(amounts), -1)
        if not shape.numel():
            s, m, f = *self.known.shape[::2], self.ensemble.members * 32
            empty = ((m, 0), (m, 0), (m, 0, s), (0, f), (0, _ELEMENTS), (0, process.shape[-1]))
            return Points(*(torch.zeros((*shape[:-1], *part), dtype=torch.float64) for part in empty))
        encoded = self.ensemble.encode(amounts)
        values = _evaluated(self.ensemble, self.encoding, self.goals, amounts, process, encoded)
        values = values.unflatten(1, shape).cpu()  # s, b, n, m
        mean = values.mean(0)
        deviations = (values - mean).movedim(0, -1).movedim(-2, -3) / math.sqrt(max(len(values) - 1, 1))
        return Points(
            mean.mT,
            ((mean - self.center) / self.unit).mT,
            deviations,
            self.scale.scaled(encoded.features).unflatten(0, shape),
            ((_by_element(amounts) - self._amount_center) / self._amount_width).unflatten(0, shape),
            process.cpu().double().unflatten(0, shape),
        )


def _evaluated(
    ensemble: Ensemble,
    encoding: Encoding,
    goals: Goals,
    amounts: Amounts,
    process: Tensor,
    encoded: Encoded | None = None,
) -> Tensor:
    """Quantities of every member, each row under its own process where members know what that does, ``s x n x m``."""
    if not encoding.process or not ensemble.card.process:
        return goals.evaluate(ensemble, amounts, encoded)
    kinds, which = process.detach().unique(dim=0, return_inverse=True)
    values: Tensor | None = None
    for number, stated in enumerate(encoding.decode_processes(kinds)):
        found = goals.under(stated.over(goals.rates.process)).evaluate(ensemble, amounts, encoded)
        values = found if values is None else torch.where((which == number).to(found.device)[:, None], found, values)
    assert values is not None  # there is a row
    return values


@dataclass(frozen=True)
class Points:
    """What the ensemble says of points: all that the Gaussian model needs to know about them."""

    mean: Tensor
    """Ensemble mean, ``b x m x n``."""

    tilt: Tensor
    """The ensemble mean, centred and in units of how much it differs between known compositions, ``b x m x n``."""

    deviations: Tensor
    """Members minus mean over sqrt(s - 1), so that their Gram matrix is the covariance; ``b x m x n x s``."""

    features: Tensor
    """Learned composition features of all members, scaled to a typical distance of 1; ``b x n x f``."""

    amounts: Tensor
    """Amounts of the metals and F, centred and scaled to a typical distance of 1; ``b x n x elements``."""

    process: Tensor
    """Columns of what is stated of the process, ``b x n x p``; of no width where nobody states any."""

    def columns(self, output: int) -> Tensor:
        """What one output's kernels see, side by side, ``b x n x (2 + s + elements + f + p)``."""
        own = [self.mean[..., output, :, None], self.tilt[..., output, :, None], self.deviations[..., output, :, :]]
        return torch.cat([*own, self.amounts, self.features, self.process], -1)


class EnsembleColumns(InputTransform):
    """Rows of X to what the ensemble says of them about one output."""

    is_one_to_many = False

    def __init__(self, reader: EnsembleReader, output: int) -> None:
        super().__init__()
        self.transform_on_train = self.transform_on_eval = self.transform_on_fantasize = True
        self.reader, self.output = reader, output

    def transform(self, X: Tensor) -> Tensor:
        """``b x n x d -> b x n x columns``."""
        return self.reader.read_rows(X).columns(self.output)


class EnsembleMean(Mean):
    """The first of the columns."""

    def forward(self, x: Tensor) -> Tensor:
        """``b x n x columns -> b x n``."""
        return x[..., 0]


class CellNoise(HomoskedasticNoise):
    """Variance of every observation: that of one cell, which is learned, or its own; and what it carries on top."""

    def __init__(self, own: Tensor, carried: Tensor) -> None:
        """Take variances of ``n`` observations.

        Args:
            own: NaN for that of one cell.
            carried: on top.
        """
        super().__init__(noise_constraint=LogTransformedInterval(1e-12, 1e12))
        self.register_buffer("own", own)
        self.register_buffer("carried", carried)

    def forward(self, *params: Any, shape: torch.Size | None = None, **kwargs: Any) -> DiagLinearOperator:
        """Of the observations where there are as many points (predictions bring theirs), else of one cell."""
        if shape is None or shape[-1] != self.own.shape[-1] or kwargs.get("noise") is not None:
            return super().forward(*params, shape=shape, **kwargs)
        return DiagLinearOperator(self.known + self.carried)

    @property
    def known(self) -> Tensor:
        """Variance of the observations without what they carry, ``n``."""
        return torch.where(torch.isfinite(self.own), self.own, self.noise)


class CellLikelihood(GaussianLikelihood):
    """A Gaussian likelihood whose noise grows with what is conditioned on later."""

    def __init__(self, own: Tensor, carried: Tensor) -> None:
        super().__init__()
        self.noise_covar = CellNoise(own, carried)

    def get_fantasy_likelihood(self, *, noise: Tensor, **kwargs: Any) -> CellLikelihood:
        """Build the one that has observations of the given variance behind its own."""
        twin, old = copy(self), self.noise_covar
        twin._modules = dict(self._modules)
        own, carried = (t.expand(*noise.shape[:-1], t.shape[-1]) for t in (old.own, old.carried))
        grown = CellNoise(torch.cat([own, noise], -1), torch.cat([carried, torch.zeros_like(noise)], -1))
        grown.raw_noise = old.raw_noise
        twin.noise_covar = grown
        return twin


@dataclass(frozen=True)
class Hyperparameter:
    """One number that the fit moves, where it lives in a module of GPyTorch."""

    module: Module
    name: str
    power: int = 1
    factor: float = 1.0
    """The module holds ``factor * value ** power``, as its logarithm."""

    def set_prior(self, default: float, most_probable: float, width: float) -> None:
        """Start from the default, and let the fit look around a multiple of it."""
        mode, width = self._log(most_probable * default), self.power * width
        farthest = _FARTHEST * width
        bounds = LogTransformedInterval(math.exp(mode - farthest), math.exp(mode + farthest))
        self.module.register_constraint(f"raw_{self.name}", bounds)
        # most probable at its mode as a density of the logarithm, which the fit moves
        self.module.register_prior(f"{self.name}_prior", LogNormalPrior(mode + width**2, width), self.name)
        self.set(default)

    def to_mode(self) -> None:
        """Go to where the prior finds it most probable; the fit starts there."""
        self.raw.data.copy_(getattr(self.module, f"{self.name}_prior").mode.log())

    @property
    def raw(self) -> Tensor:
        """The logarithm that the module holds."""
        return getattr(self.module, f"raw_{self.name}")

    @property
    def value(self) -> float:
        """In units of the output (lengths in typical distances)."""
        return math.exp((self.raw.item() - math.log(self.factor)) / self.power)

    def set(self, value: float) -> None:
        """Set it, within its bounds or not."""
        self.raw.data.fill_(self._log(value))

    def _log(self, value: float) -> float:
        return math.log(self.factor) + self.power * math.log(value)


class QuantityGP(SingleTaskGP):
    """One output: a Gaussian process on the columns of its quantity, trained where the quantity was measured."""

    def __init__(self, reader: EnsembleReader, output: int, X: Tensor, y: Tensor, own: Tensor, levels: Levels) -> None:
        """Condition on ``n`` observations.

        Args:
            reader: of the ensemble.
            output: which quantity.
            X: compositions, ``n x d``.
            y: their values, ``n``.
            own: their variances, ``n``; NaN for that of one cell.
            levels: beyond which it matters little how bad a value is.
        """
        behind = reader.encoding.encode_processes([]).shape[1]
        widths = (1, 1, reader.ensemble.members, _ELEMENTS, reader.ensemble.members * 32, behind)
        ends = np.cumsum(widths).tolist()
        columns = (tuple(range(end - width, end)) for width, end in zip(widths, ends, strict=True))
        _, tilt, members, amounts, features, process = columns
        scale, slope, trend = (LinearKernel(active_dims=part) for part in (members, tilt, amounts))
        shift = ConstantKernel()
        learned = ScaleKernel(MaternKernel(nu=0.5, active_dims=features))
        smooth = ScaleKernel(MaternKernel(nu=2.5, active_dims=amounts))
        share, stated = LinearKernel(active_dims=(0,)), MaternKernel(nu=2.5, active_dims=process)
        made = [ProductKernel(share, stated)] if process else []
        super().__init__(
            X,
            y[:, None],
            likelihood=CellLikelihood(own, indifference(levels, y)),
            covar_module=AdditiveKernel(scale, shift, slope, trend, learned, smooth, *made),
            mean_module=EnsembleMean(),
            input_transform=EnsembleColumns(reader, output),
            outcome_transform=None,
        )
        self.of: dict[str, Hyperparameter] = {
            "scale": Hyperparameter(scale, "variance", 2),
            "shift": Hyperparameter(shift, "constant", 2),
            "slope": Hyperparameter(slope, "variance", 2),
            "trend": Hyperparameter(trend, "variance", 2, factor=2.0),
            "weight": Hyperparameter(learned, "outputscale", 2),
            "length": Hyperparameter(learned.base_kernel, "lengthscale"),
            "amount_weight": Hyperparameter(smooth, "outputscale", 2),
            "amount_length": Hyperparameter(smooth.base_kernel, "lengthscale"),
            "noise": Hyperparameter(self.likelihood.noise_covar, "noise", 2),
        }
        if made:
            self.of["process_weight"] = Hyperparameter(share, "variance", 2)
            self.of["process_length"] = Hyperparameter(stated, "lengthscale")
        self.levels, self.widths = levels, widths
        self._factor: tuple[Tensor, Tensor] | None = None
        self.eval()

    def posterior(  # type: ignore[override]  # BoTorch's base classes disagree with each other
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        """As BoTorch documents; ``True`` adds the noise of one cell, however many points there are."""
        if observation_noise is True:
            observation_noise = self.likelihood.noise.expand(*X.shape[:-1], 1)
        return super().posterior(X, output_indices, observation_noise, posterior_transform)

    def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None, **kwargs: Any) -> QuantityGP:
        """Build the model that has seen more, hyperparameters unchanged.

        Args:
            X: ``b x n x d``.
            Y: ``(fantasies x) b x n x 1``.
            noise: variances like Y; by default that of one cell.
            kwargs: of BoTorch.
        """
        if self.prediction_strategy is None:
            self.posterior(X)  # GPyTorch adds to what a prediction has left behind
        variance = self.likelihood.noise.expand(Y.shape) if noise is None else noise.expand(Y.shape)
        every_draw = X.expand(*Y.shape[:-1], X.shape[-1])  # each fantasy has a noise of its own
        variance = variance + indifference(self.levels, Y)
        return cast("QuantityGP", super().condition_on_observations(every_draw, Y, noise=variance, **kwargs))

    def __call__(self, *inputs: Tensor, **kwargs: Any) -> MultivariateNormal:
        """Add as little to the diagonal of a posterior as its Cholesky factor needs, whatever the unit."""
        normal = super().__call__(*inputs, **kwargs)
        if self.training:
            return normal
        prior = self.covar_module(*inputs, diag=True).mean(-1)
        covariance = normal.covariance_matrix
        nugget = (_NUGGET * covariance.diagonal(dim1=-1, dim2=-2).mean(-1)).maximum(_ROUNDING * prior)
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
        return MultivariateNormal(normal.mean, covariance + nugget[..., None, None] * eye)

    def at(self, columns: Tensor) -> Belief:
        """What the data say of many points, ``q x columns``."""
        (train,) = self.train_inputs
        factor, white = self.whitened(train)
        explained = torch.linalg.solve_triangular(factor, self.covar_module(train, columns).to_dense(), upper=False)
        mean = self.mean_module(columns) + (explained * white).sum(0)
        return Belief(self, columns, mean, self.covar_module(columns, diag=True), explained)

    def whitened(self, train: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the covariance of the observations, ``n x n``, and its inverse times their residuals."""
        if self._factor is None:
            factor = psd_safe_cholesky(self.likelihood(self.forward(train)).covariance_matrix)
            residual = (self.train_targets - self.mean_module(train))[:, None]
            self._factor = factor, torch.linalg.solve_triangular(factor, residual, upper=False)
        return self._factor

    def fit(self) -> None:
        """Move the hyperparameters to the most probable ones, then widen them where that claims too much.

        All amplitudes are widened together, by the root of the mean ratio of squared leave-one-out errors to the
        variance, :data:`_PSEUDO` observations saying 1. What is indifferent to the fit is an error here: the spread
        must hold for bad compositions too.
        """
        n = len(self.train_targets)
        if n == 0:
            return
        for h in self.of.values():
            h.to_mode()
        with manual_seed(0):  # of further attempts, where the first one fails
            fit_gpytorch_mll(ExactMarginalLogLikelihood(self.likelihood, self))
        errors, variances = self.left_out()
        wider = max(1.0, (float((errors.square() / variances).sum()) + _PSEUDO) / (n + _PSEUDO))
        self.set({name: h.value * (1.0 if "length" in name else math.sqrt(wider)) for name, h in self.of.items()})

    def left_out(self) -> tuple[Tensor, Tensor]:
        """Errors of the predictions of each observation by all others, and their variances, ``n`` each.

        What observations carry for being indifferent is no part of the variances.
        """
        noise = self.likelihood.noise_covar
        with torch.no_grad():
            left_out = efficient_loo_cv(self)
            predicted = cast("GPyTorchPosterior", left_out.posterior)
            errors = (left_out.observed_Y - predicted.mean).flatten()
            return errors, (predicted.variance.flatten() - noise.carried).maximum(noise.known)

    def set(self, values: Mapping[str, float]) -> None:
        """Set hyperparameters by name."""
        for name, value in values.items():
            self.of[name].set(value)
        self._clear_cache()

    def paths(self, count: int) -> Callable[[Tensor], Tensor]:
        """Draw functions from the posterior, by BoTorch: of columns, ``n x columns -> count x n``."""
        prior = partial(
            draw_kernel_feature_paths,
            num_features=_FOURIER,
            weight_generator=partial(torch.randn, dtype=torch.float64),  # Sobol' points in so many dimensions are slow
        )
        with delattr_ctx(self, "input_transform"):
            return draw_matheron_paths(self, torch.Size([count]), prior_sampler=prior)

    def _clear_cache(self) -> None:
        super()._clear_cache()
        self._factor = None


@dataclass(frozen=True)
class Belief:
    """One output at many points; the joint covariance of the points is only worked out when it is asked for."""

    output: QuantityGP
    columns: Tensor
    """``q x columns``"""

    mean: Tensor
    """Posterior mean, ``q``."""

    prior: Tensor
    """Prior variance, ``q``."""

    explained: Tensor
    """The posterior covariance is the prior one less the Gram matrix of these columns, ``n x q``."""

    @property
    def std(self) -> Tensor:
        """Standard deviation of the quantity itself, ``q``."""
        return (self.prior - self.explained.square().sum(0)).clamp_min(1e-12).sqrt()

    @property
    def covariance(self) -> Tensor:
        """``q x q``."""
        return self.output.covar_module(self.columns).to_dense() - self.explained.mT @ self.explained

    def of(self, rows: Sequence[int]) -> Belief:
        """Of some of the points alone."""
        kept = torch.tensor(rows, dtype=torch.long)
        columns, mean, prior = self.columns[kept], self.mean[kept], self.prior[kept]
        return replace(self, columns=columns, mean=mean, prior=prior, explained=self.explained[:, kept])

    def believe(self, row: int) -> Belief:
        """What is left to learn when a point comes out as predicted, which moves no mean.

        D. Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010: the "Kriging believer".
        """
        prior = self.output.covar_module(self.columns[[row]], self.columns).to_dense()[0]
        shared = prior - self.explained[:, row] @ self.explained
        noise = self.output.likelihood.noise.squeeze() + indifference(self.output.levels, self.mean[row])
        learned = shared / (shared[row] + noise).sqrt()
        return replace(self, explained=torch.cat([self.explained, learned[None]]))


class DRXNetGaussianModel(ModelListGP):
    """A Gaussian process whose mean is the ensemble's, output by output.

    The covariance of output j between compositions a and b is::

        scale_j^2 C_j(a, b) + shift_j^2 + slope_j^2 h_j(a) h_j(b)
            + trend_j^2 2 (a - o)(b - o) + weight_j^2 k(a, b; length_j) + amount_weight_j^2 l(a, b; amount_length_j)
            + process_weight_j^2 e_j(a) e_j(b) l(p, q; process_length_j)

    with C the sample covariance (ddof 1) over the members, h the ensemble mean, centred and in units of how much it
    differs between known compositions, a - o the amounts less their mean over known compositions, k an exponential
    kernel (Matern-1/2) on the learned features and l a Matern-5/2 kernel on the amounts; the last term is there where
    something is stated of the processes p and q that a and b were made by, each leaving a share of the ensemble mean e.
    Shift, slope and trend let the
    data correct the ensemble as a whole, element by element, so that the kernels need not bend it far from the data.
    Observations carry the noise ``noise_j^2``, or their own. Missing observations are NaN and leave the other outputs
    of the point alone.

    An observation that is much worse than wanted carries, on top, the square of the distance to the level below which
    it matters little how bad it is (:func:`levels`). The model learns from a dead cell that it is bad, but is not bent
    through it, where the quantities fall off steeply, at the expense of what it says of the good ones.

    Without data, the scale is sqrt(1 + 1/s): the reality is taken for one more member. The other defaults are
    :data:`DEFAULT_WEIGHT`, :data:`DEFAULT_SLOPE`, :data:`DEFAULT_LENGTH` and :data:`RELATIVE_NOISE`. With each member
    in turn as the truth they give spreads that are right or a little wide. :meth:`fit` moves all of them to the data,
    by the marginal likelihood times log-normal priors around the multiples of the defaults in :data:`PRIORS`.

    Of BoTorch 0.18, ``qLowerBoundMaxValueEntropy`` does not work with input transforms that widen X, this one among
    them: it joins raw candidates to transformed training rows.
    """

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
        goals = goals or Goals()
        reader = EnsembleReader(ensemble, encoding, goals)
        m = len(goals.quantities)
        x = torch.zeros(0, encoding.d, dtype=torch.float64) if train_X is None else train_X.double()
        y = torch.zeros(len(x), m, dtype=torch.float64) if train_Y is None else train_Y.double()
        own = torch.full_like(y, torch.nan) if train_Yvar is None else train_Yvar.double()
        for name, values in (("train_Y", y), ("train_Yvar", own)):
            if values.shape != (len(x), m):
                raise UsageError(f"{name} must be n x m = {len(x)} x {m}. Got {' x '.join(map(str, values.shape))}.")
        outputs = []
        for j, bad in enumerate(levels(goals, reader.unit, y.numpy())):
            seen = torch.isfinite(y[:, j])
            outputs.append(QuantityGP(reader, j, x[seen], y[seen, j], own[seen, j], bad))
        super().__init__(*outputs)
        self.reader, self.goals = reader, goals
        for name, values in _defaults(reader).items():
            for output, default in zip(outputs, values.tolist(), strict=True):
                output.of[name].set_prior(default, *PRIORS[name])

    @property
    def outputs(self) -> list[QuantityGP]:
        """One model for each quantity, ``m``."""
        return [cast("QuantityGP", output) for output in self.models]

    def posterior(  # type: ignore[override]  # BoTorch's base classes disagree with each other
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
        **kwargs: Any,
    ) -> Posterior:
        """As BoTorch documents, outputs independent of each other; the ensemble is asked once for all of them."""
        with self.reader.once():
            return super().posterior(X, output_indices, observation_noise, posterior_transform)

    def condition_on_observations(
        self, X: Tensor | list[Tensor], Y: Tensor, noise: Tensor | None = None, **kwargs: Any
    ) -> ModelListGP:
        """Build the model that has seen more, hyperparameters unchanged.

        BoTorch 0.18 wants one X per output here, and forgets the input transforms; so every output is asked itself.

        Args:
            X: ``b x n x d``, or one such for each output.
            Y: ``(fantasies x) b x n x m``.
            noise: variances like Y; by default the model's own noise.
            kwargs: of BoTorch.
        """
        each = X if isinstance(X, list) else [X] * self.num_outputs
        variances = [None if noise is None else noise[..., [j]] for j in range(self.num_outputs)]
        return ModelListGP(
            *(
                output.condition_on_observations(x, Y[..., [j]], variance, **kwargs)
                for j, (output, x, variance) in enumerate(zip(self.outputs, each, variances, strict=True))
            )
        )

    def subset_output(self, idcs: list[int]) -> Model:
        """As BoTorch documents; what comes back is a plain list of outputs."""
        return ModelListGP(*self.outputs).subset_output(idcs)

    def fantasize(  # type: ignore[override]  # BoTorch's base classes disagree with each other
        self, X: Tensor, sampler: MCSampler, **kwargs: Any
    ) -> Model:
        """As BoTorch documents; what comes back is a plain list of outputs."""
        return ModelListGP(*self.outputs).fantasize(X, sampler, **kwargs)

    def fit(self) -> Self:
        """Move the hyperparameters to the data; returns this model."""
        self.requires_grad_(requires_grad=True)
        for output in self.outputs:
            output.fit()
        return self.requires_grad_(requires_grad=False)

    def hyperparameters(self) -> dict[str, list[float]]:
        """Every hyperparameter of every output, in the units of the outputs."""
        return {name: [output.of[name].value for output in self.outputs] for name in self.outputs[0].of}

    def with_hyperparameters(self, values: Mapping[str, Sequence[float]]) -> Self:
        """Set what :meth:`hyperparameters` of a fitted model gave; returns this model."""
        for j, output in enumerate(self.outputs):
            output.set({name: value[j] for name, value in values.items()})
        return self.requires_grad_(requires_grad=False)

    def marginals(self, points: Points) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of every quantity, ``n x m`` each."""
        with torch.no_grad():
            beliefs = self.at(points)
            return torch.stack([b.mean for b in beliefs], -1), torch.stack([b.std for b in beliefs], -1)

    def at(self, points: Points) -> list[Belief]:
        """What the data say of every quantity, ``m``."""
        return [output.at(points.columns(j)) for j, output in enumerate(self.outputs)]

    def sample_paths(self, count: int, seed: int) -> Callable[[Points], Tensor]:
        """Draw functions from the posterior; ``count x n x m`` of points, always the same at the same point.

        J. Wilson et al., Efficiently sampling functions from Gaussian process posteriors, ICML 2020.
        """
        with torch.no_grad(), manual_seed(seed):
            drawn = [output.paths(count) for output in self.outputs]

        def paths(points: Points) -> Tensor:
            with torch.no_grad():
                return torch.stack([path(points.columns(j)) for j, path in enumerate(drawn)], -1)

        return paths


def _defaults(reader: EnsembleReader) -> dict[str, Tensor]:
    """Hyperparameters without data, ``m`` each; lengths of processes in spreads of what is typical of a condition."""
    known, s = reader.known, reader.ensemble.members
    spread = known.var(1 if s == 1 else 0, correction=1 if s > 1 else 0).mean(0).sqrt()
    typical = known.mean(0).abs().mean(0)
    tiny = 1e-3 * typical + 1e-6
    amplitude, one = DEFAULT_WEIGHT * spread.maximum(tiny), torch.ones_like(spread)
    defaults = {
        "scale": math.sqrt(1 + 1 / s) * one,
        "shift": amplitude,
        "slope": DEFAULT_SLOPE * reader.unit.maximum(tiny),
        "trend": amplitude,
        "weight": amplitude,
        "length": DEFAULT_LENGTH * one,
        "amount_weight": amplitude,
        "amount_length": DEFAULT_LENGTH * one,
        "noise": RELATIVE_NOISE * typical.maximum(tiny),
    }
    if reader.encoding.process:
        defaults |= {"process_weight": one * PROCESS_SHARE, "process_length": one * PROCESS_REACH}
    return defaults


Levels = tuple[tuple[int, float], ...]
"""Of one quantity: 1 or -1 where it is to be large or small, and the value beyond which it matters little how bad."""


def levels(goals: Goals, unit: Tensor, measured: np.ndarray) -> list[Levels]:
    """Values below which (above, for sign -1) it matters little how bad each quantity is, ``m``.

    For an objective, halfway between its reference and the best measured that meets the constraints; for a constraint,
    one ``unit`` (``m``) beyond the threshold. ``measured`` is ``n x m``, NaN where not measured.
    """
    met = ~(goals.slack(measured) < 0).any(-1)  # what is not known is not held against it
    found: list[Levels] = [()] * len(goals.quantities)
    for column, objective in zip(goals.objective_columns, goals.objectives, strict=True):
        values = objective.sign * measured[:, column][met & np.isfinite(measured[:, column])]
        reference = objective.sign * objective.reference_value
        best = max(values.max(initial=reference), reference)
        found[column] += ((objective.sign, objective.sign * (reference + best) / 2),)
    for column, constraint in zip(goals.constraint_columns, goals.constraints, strict=True):
        found[column] += ((constraint.sign, constraint.threshold - constraint.sign * float(unit[column])),)
    return found


def indifference(levels: Levels, observed: Tensor) -> Tensor:
    """Variance that every observation of one quantity carries for how much worse than wanted it is."""
    if not levels:
        return torch.zeros_like(observed)
    missed = [(sign * (level - observed)).clamp_min(0) for sign, level in levels]
    return torch.stack(missed).amin(0).square()


class _SumOfFeatures(FeatureMap):
    """Features of every part of a sum of kernels, side by side."""

    def __init__(self, maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)
        self.input_transform = self.output_transform = None
        self.batch_shape = torch.Size()
        self.num_outputs = sum(part.num_outputs for part in maps)

    def forward(self, x: Tensor) -> Tensor:
        """``b x n x columns -> b x n x features``."""
        return torch.cat([part(x).expand(*x.shape[:-1], -1) for part in self.maps], -1)


@GenKernelFeatures.register(AdditiveKernel)  # BoTorch 0.18 has none for sums, lines and constants
def _features_of_sum(kernel: AdditiveKernel, **sizes: int) -> FeatureMap:
    return _SumOfFeatures([gen_kernel_features(part, **sizes) for part in kernel.kernels])


@GenKernelFeatures.register(LinearKernel)
def _features_of_line(kernel: LinearKernel, **sizes: int) -> FeatureMap:
    weight = kernel.variance.sqrt().flatten() * torch.eye(len(kernel.active_dims), dtype=kernel.dtype)
    return KernelFeatureMap(kernel, weight, input_transform=FeatureSelector(indices=kernel.active_dims))


@GenKernelFeatures.register(ConstantKernel)
def _features_of_constant(kernel: ConstantKernel, **sizes: int) -> FeatureMap:
    weight, bias = torch.zeros(1, 1, dtype=kernel.dtype), kernel.constant.sqrt().flatten()
    return KernelFeatureMap(kernel, weight, bias, input_transform=FeatureSelector(indices=(0,)))


class _Shared(FeatureMap):
    """Features of a kernel, times a column and a factor."""

    def __init__(self, share: LinearKernel, features: FeatureMap) -> None:
        super().__init__()
        self.features, self.column, self.factor = features, share.active_dims, share.variance.sqrt().flatten()
        self.input_transform = self.output_transform = None
        self.batch_shape, self.num_outputs = torch.Size(), features.num_outputs

    def forward(self, x: Tensor) -> Tensor:
        """``b x n x columns -> b x n x features``."""
        return x[..., self.column] * self.factor * self.features(x)


@GenKernelFeatures.register(ProductKernel)  # of a line of one column and another kernel
def _features_of_product(kernel: ProductKernel, **sizes: int) -> FeatureMap:
    share, other = kernel.kernels
    return _Shared(share, gen_kernel_features(other, **sizes))


def _by_element(amounts: Amounts) -> Tensor:
    """Amounts of every metal there is and of F, whatever the columns; differentiable, ``n x elements``."""
    table = amounts.table(SITES)
    table[:, SITE_INDEX["Li"]] = 0  # it is what the metals leave
    return table
