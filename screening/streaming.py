"""The marginals of the Gaussian model over millions of points, in closed form.

:class:`screening.surrogate.QuantityGP` says what the model is and stays the oracle of the tests; a stream needs nothing
but the mean and the standard deviation at each point. So what depends on the data alone is worked out once, distances
are taken once for all outputs, the diagonal of the prior is a sum of squares, and rows are taken in blocks whose arrays
stay in cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from screening.surrogate import DRXNetGaussianModel, Points, QuantityGP

_BLOCK = 1 << 18
"""Points times observations that are worked on together."""

_LEAST_ROWS = 128


@dataclass(frozen=True)
class _Output:
    """One output: its hyperparameters, and what its observations say."""

    scale: float
    shift: float
    slope: float
    trend: float
    weight: float
    length: float
    amount_weight: float
    amount_length: float
    process_weight: float
    """0 where nothing is stated of any process."""

    process_length: float
    said: Tensor
    """Ensemble mean of the observations, ``n``."""

    tilt: Tensor
    """Likewise, ``n``."""

    deviations: Tensor
    """``n x s``"""

    amounts: Tensor
    """``n x elements``"""

    features: Tensor
    """``n x f``"""

    process: Tensor
    """``n x p``"""

    alpha: Tensor
    """Inverse covariance of the observations times what the ensemble misses of them, ``n``."""

    whitening: Tensor
    """Inverse of the Cholesky factor, transposed, ``n x n``."""

    @classmethod
    def of(cls, gp: QuantityGP) -> _Output:
        """Take apart what GPyTorch put together."""
        kernels: Any = gp.covar_module.kernels
        scale, shift, slope, trend, learned, smooth, *made = kernels
        (train,) = gp.train_inputs
        factor, white = gp.whitened(train)
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(train), dtype=train.dtype), upper=False)
        said, tilt, deviations, amounts, features, process = train.split(gp.widths, 1)
        return cls(
            float(scale.variance),
            float(shift.constant),
            float(slope.variance),
            float(trend.variance),
            float(learned.outputscale),
            float(learned.base_kernel.lengthscale),
            float(smooth.outputscale),
            float(smooth.base_kernel.lengthscale),
            float(made[0].kernels[0].variance) if made else 0.0,
            float(made[0].kernels[1].lengthscale) if made else 1.0,
            said[:, 0],
            tilt[:, 0],
            deviations,
            amounts,
            features,
            process,
            (inverse.mT @ white)[:, 0],
            inverse.mT.contiguous(),
        )

    def same_observations(self, other: _Output) -> bool:
        """Whether distances to its observations are those to another's."""
        return torch.equal(self.features, other.features) and torch.equal(self.amounts, other.amounts)


class StreamMarginals:
    """Posterior mean and standard deviation of every output of a model at many points."""

    def __init__(self, model: DRXNetGaussianModel) -> None:
        """Work out what does not depend on the points, for a model that is conditioned on its data."""
        with torch.no_grad():
            self._outputs = [_Output.of(gp) for gp in model.outputs]

    def __call__(self, points: Points) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, ``n x m`` each."""
        n = points.features.shape[0]
        mean, std = (torch.empty(n, len(self._outputs), dtype=torch.float64) for _ in range(2))
        observed = max(len(output.tilt) for output in self._outputs)
        rows = max(_LEAST_ROWS, _BLOCK // max(1, observed))
        with torch.no_grad():
            for start in range(0, n, rows):
                part = slice(start, min(start + rows, n))
                self._block(points, part, mean, std)
        return mean, std

    def _block(self, points: Points, part: slice, mean: Tensor, std: Tensor) -> None:
        features, amounts = points.features[part], points.amounts[part]
        squared = amounts.square().sum(1)
        near: tuple[_Output, Tensor, Tensor] | None = None
        for j, o in enumerate(self._outputs):
            tilt, deviations = points.tilt[j, part], points.deviations[j, part]
            prior = o.scale * deviations.square().sum(1) + o.slope * tilt.square() + o.trend * squared
            said = points.mean[j, part]
            prior += o.shift + o.weight + o.amount_weight + o.process_weight * said.square()
            mean[part, j] = said
            if len(o.tilt):
                if near is None or not near[0].same_observations(o):
                    near = o, torch.cdist(features, o.features), torch.cdist(amounts, o.amounts)
                k = torch.exp(near[1] * (-1 / o.length)).mul_(o.weight)
                _add_matern(k, near[2], o.amount_weight, o.amount_length)
                if o.process_weight:
                    made = torch.zeros_like(k)
                    _add_matern(made, torch.cdist(points.process[part], o.process), o.process_weight, o.process_length)
                    k.addcmul_(made, said[:, None] * o.said)
                one = torch.cat([deviations * o.scale, amounts * o.trend, (tilt * o.slope)[:, None]], 1)
                other = torch.cat([o.deviations, o.amounts, o.tilt[:, None]], 1)
                k.add_(torch.addmm(torch.full((1, 1), o.shift, dtype=k.dtype), one, other.mT))
                mean[part, j] += k @ o.alpha
                prior -= (k @ o.whitening).square_().sum(1)
            std[part, j] = prior.clamp_min_(1e-12).sqrt_()


def _add_matern(k: Tensor, distance: Tensor, weight: float, length: float) -> None:
    """Add a Matern-5/2 kernel of distances to what is there."""
    apart = distance * (math.sqrt(5) / length)
    k.addcmul_(torch.exp(-apart).mul_(weight), (apart / 3).add_(1).mul_(apart).add_(1))
