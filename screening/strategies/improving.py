"""Strategies that follow what the surrogate promises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from screening.strategies.base import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from screening.batch import Batch
    from screening.outlook import Outlook
    from screening.scoring import Rows

PATHS = 8
"""Draws of the posterior that a stream keeps the best candidates of, for `thompson`."""

_INFEASIBLE = 50.0
"""Taken off the log utility of a draw that breaks a constraint; still ordered, below all that keep them."""


class LogEI(Strategy):
    """Expected improvement (of the hypervolume with several objectives), each pick as if those before it were found.

    What is picked or pending is taken to come out as predicted: D. Ginsbourger et al., Kriging is well-suited to
    parallelize optimization, 2010, the "Kriging believer".
    """

    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """Log of the expected improvement, times feasibility and domain weight."""
        mean, std = rows.moments
        improvement = outlook.improvement.log_expected(outlook.signed(mean), outlook.spread(std))
        return improvement + outlook.log_feasible(mean, std) + rows.log_weight

    def next(self, batch: Batch) -> Tensor:
        """The same with the variance left after the picks, their means counted as found where probably feasible."""
        outlook, std = batch.outlook, batch.remaining_std
        found = [row for row in batch.picked if batch.log_feasible[row] >= math.log(0.5)]
        improvement = outlook.improvement.beyond(batch.signed_mean[found])
        value = improvement.log_expected(batch.signed_mean, outlook.spread(std))
        return value + outlook.log_feasible(batch.mean, std) + batch.log_weight


class QLogNEI(LogEI):
    """Noisy expected improvement of the batch as a whole; of its hypervolume with several objectives."""

    def next(self, batch: Batch) -> Tensor:
        """Log of what a row adds to the joint improvement of the batch, over joint samples."""
        return batch.log_gain + batch.log_weight


class UpperBound(Strategy):
    """Mean plus two standard deviations, each pick as if those before it had come out as predicted.

    T. Desautels et al., JMLR 15, 4053 (2014).
    """

    width: ClassVar[float] = 2.0
    """Standard deviations added."""

    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """Log utility of the optimistic objectives, times feasibility and domain weight."""
        mean, std = rows.moments
        optimistic = outlook.signed(mean) + self.width * outlook.spread(std)
        return outlook.improvement.log_utility(optimistic) + outlook.log_feasible(mean, std) + rows.log_weight

    def next(self, batch: Batch) -> Tensor:
        """The same with the variance that is left after the picks."""
        outlook, std = batch.outlook, batch.remaining_std
        optimistic = batch.signed_mean + self.width * outlook.spread(std)
        return outlook.improvement.log_utility(optimistic) + outlook.log_feasible(batch.mean, std) + batch.log_weight


class Greedy(UpperBound):
    """Best predicted mean."""

    width: ClassVar[float] = 0.0

    def next(self, batch: Batch) -> Tensor:
        """Log utility of the mean, times feasibility as it is before the batch."""
        return batch.outlook.improvement.log_utility(batch.signed_mean) + batch.log_feasible + batch.log_weight


class Thompson(Strategy):
    """Each pick is the best candidate of one draw from the posterior."""

    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """The best log utility over a few draws, which every process makes alike."""
        paths = outlook.surrogate.sample_paths(PATHS, self.seed)(rows.points)  # paths, n, m
        utility = outlook.improvement.log_utility(outlook.signed(paths).flatten(0, 1)).unflatten(0, paths.shape[:2])
        broken = utility.new_tensor(~outlook.goals.feasible(paths.numpy()))
        return (utility - _INFEASIBLE * broken).amax(0) + rows.log_weight

    def next(self, batch: Batch) -> Tensor:
        """Log utility in one joint sample, another for every pick."""
        samples = batch.samples
        draw = len(batch.picked) % len(samples.objectives)
        utility = batch.outlook.improvement.log_utility(samples.objectives[draw])
        return utility + samples.log_feasible[draw] + batch.log_weight
