"""Where a composition improves on what is known: closed forms over independent normal quantities.

Every score is a logarithm: of the expected improvement, or of what takes its place in other strategies, plus the
logarithm of the probability that all constraints are met. BoTorch has the one of one objective and a model
(``LogExpectedImprovement``); of several it has the hypervolume without the logarithm, which is exactly zero for most
candidates. So the boxes are cut by BoTorch, and its logarithm of an improvement is summed over them here.
"""

from __future__ import annotations

import torch
from botorch.acquisition.analytic import _log_ei_helper
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from botorch.utils.safe_math import log_fatplus
from torch import Tensor

from screening.goals import Goals


class Improvement:
    """Where a candidate would improve on what is known, in units of the objectives' spread.

    The region that nothing known dominates is cut into boxes; with one objective that is everything above the best.
    All objectives are signed so that larger is better and divided by ``unit``.
    """

    def __init__(self, goals: Goals, unit: Tensor, incumbents: Tensor) -> None:
        """Cut the region.

        Args:
            goals: objectives with their reference points.
            unit: size of each objective, ``k``.
            incumbents: signed objectives of what is known and feasible, ``i x k``; may be empty.
        """
        self.goals, self.unit, self.incumbents = goals, unit, incumbents
        self.reference = torch.from_numpy(goals.reference_point) / unit
        self.lower, self.upper = boxes_not_dominated((incumbents / unit)[None], self.reference)  # 1, boxes, k

    def beyond(self, found: Tensor) -> Improvement:
        """Count more as found, ``i x k``, signed."""
        return Improvement(self.goals, self.unit, torch.cat([self.incumbents, found]))

    def log_expected(self, mean: Tensor, std: Tensor) -> Tensor:
        """Log of the expected (hypervolume) improvement of independent normal objectives, ``n x k -> n``."""
        mean, std = (mean / self.unit)[:, None], (std / self.unit)[:, None].clamp_min(1e-9)
        above = _log_partial_expectation(mean, std, self.lower[0])
        beyond = _log_partial_expectation(mean, std, self.upper[0])
        edges = above + torch.log1p(-torch.exp((beyond - above).clamp_max(-1e-15)))
        return edges.sum(-1).logsumexp(-1)

    def log_utility(self, values: Tensor) -> Tensor:
        """Log of the hypervolume between values and the reference point, smoothed below it, ``n x k -> n``."""
        return log_fatplus(values / self.unit - self.reference, tau=0.05).sum(-1)


def _log_partial_expectation(mean: Tensor, std: Tensor, threshold: Tensor) -> Tensor:
    """Log of E[max(f - threshold, 0)] for a normal f, by BoTorch; -inf at an infinite threshold."""
    u = ((mean - threshold) / std).clamp_min(-1e100)
    return torch.where(torch.isinf(threshold), -torch.inf, _log_ei_helper(u) + std.log())


def boxes_not_dominated(known: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Cut what nothing known dominates into boxes, for each of S sets of known points.

    Args:
        known: ``S x i x k``; those below the reference in any objective do not count.
        reference: ``k``.

    Returns:
        Lower and upper corners, ``S x boxes x k``; sets with fewer boxes are filled with empty ones.
    """
    s, i, k = known.shape
    if k == 1:
        best = torch.cat([known, reference.expand(s, 1, 1)], 1).amax(1, keepdim=True)
        return best, torch.full_like(best, torch.inf)
    bounds = [
        FastNondominatedPartitioning(reference, Y=points).get_hypercell_bounds()
        if (points := y[(y > reference).all(-1)]).numel()
        else torch.stack([reference[None], torch.full_like(reference, torch.inf)[None]])
        for y in known
    ]
    boxes = max(b.shape[1] for b in bounds)
    padded = [torch.cat([b, reference.expand(2, boxes - b.shape[1], k)], 1) for b in bounds]
    lower, upper = torch.stack(padded, 1)
    return lower, upper


def log_feasibility(goals: Goals, mean: Tensor, std: Tensor) -> Tensor:
    """Log of the probability that independent normal quantities meet all constraints, ``n x m -> n``."""
    total = torch.zeros(len(mean), dtype=torch.float64)
    for column, constraint in zip(goals.constraint_columns, goals.constraints, strict=True):
        slack = constraint.sign * (mean[:, column] - constraint.threshold)
        total = total + torch.special.log_ndtr(slack / std[:, column].clamp_min(1e-9))
    return total


def objectives_of(goals: Goals, values: Tensor) -> Tensor:
    """Signed objectives of quantities, ``... x m -> ... x k``."""
    signs = torch.tensor([o.sign for o in goals.objectives], dtype=values.dtype)
    return values[..., list(goals.objective_columns)] * signs
