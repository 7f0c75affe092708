"""Strategies that pay for what a measurement teaches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from screening.strategies.base import Strategy, ordinal
from screening.strategies.improving import Greedy
from screening.strategies.spreading import uniform

if TYPE_CHECKING:
    from torch import Tensor

    from screening.batch import Batch, Choice
    from screening.outlook import Outlook
    from screening.scoring import Rows


class VarianceReduction(Strategy):
    """Integrated variance reduction over the promising candidates: promising and informative at once.

    Each pick is the candidate whose measurement removes most variance from the promising part of the shortlist: of all
    objectives and constraints, in units of how much each differs between known compositions, every candidate weighted
    by how far its promise lies above a quantile (D. Cohn et al., J. Artif. Intell. Res. 4, 129 (1996), the weights as
    in targeted designs, V. Picheny et al., J. Mech. Des. 132, 071008 (2010)). The promise of a candidate is its
    utility at the mean times the probabilities that the constraints hold and that the synthesis gives the phase.
    """

    sharpness: ClassVar[float] = 4.0
    """A stream keeps candidates at random, with a probability that grows with this power of their promise."""

    promising: ClassVar[float] = 0.7
    """Quantile of the promise from which a candidate counts as promising."""

    least_feasible: ClassVar[float] = 0.3
    """Probability that all constraints hold, below which a candidate is only picked when no other is left."""

    def score(self, outlook: Outlook, rows: Rows) -> Tensor:
        """Log of the promise, sharpened, and Gumbel noise: the best of a stream are a weighted draw from it.

        W. Kool et al., Stochastic beams and where to find them, ICML 2019.
        """
        mean, std = rows.moments
        promise = outlook.improvement.log_utility(outlook.signed(mean)) + outlook.log_feasible(mean, std)
        promise = promise + rows.log_phase
        noise = mean.new_tensor(uniform(rows.units, self.seed)).log().neg().log().neg()
        return self.sharpness * promise + noise

    def next(self, batch: Batch) -> Tensor:
        """Variance that measuring each row would remove from the promising ones, ``rows``."""
        outlook = batch.outlook
        weight = batch.promising(self.promising)
        total = weight.new_zeros(len(batch))
        for column in sorted({*outlook.goals.objective_columns, *outlook.goals.constraint_columns}):
            covariance, noise = batch.remaining_covariance(column), batch.noise(column)
            learned = covariance.square() @ weight / (covariance.diagonal() + noise)
            total += learned / outlook.surrogate.reader.unit[column].square()
        unlikely = batch.log_feasible < math.log(self.least_feasible)
        return total.where(~unlikely, total - total.max() - 1)

    def why(self, pick: Choice) -> str:
        """Say what it promises and that it was picked for what it teaches."""
        near = f"{pick.learned_distance:.2f} from the nearest known"
        return (
            f"{pick.promise}; tells most of the promising ones ({pick.teaches:.0%} of what is uncertain about them); "
            f"of {pick.candidates:,} the {ordinal(pick.mean_rank)} by mean, {near}"
        )


class PromiseAndVariance(VarianceReduction):
    """In turn what tells most of the promising candidates, and the most promising one that the batch says least about.

    A batch that only learns leaves the best predictions for later, and one that only follows the predictions is lost
    where these are wrong: half of each is a hedge between the two before anything is measured. The most promising
    candidates of a large space are near copies of each other, so that the promise of each counts by how much of its
    spread is left once the picks before it have come out as predicted. Nothing is learned from a synthesis that fails,
    and a first batch does not go where the model is lost: the probability of the phase and the weight of the domain
    multiply both.
    """

    sharpness: ClassVar[float] = 16.0
    """Sharper, since the most promising candidates of the stream are to be among those that are kept."""

    novelty: ClassVar[float] = 0.5
    """Power of the share of the spread that is left."""

    def next(self, batch: Batch) -> Tensor:
        """Variance removed from the promising ones, and in turn log utility of the mean and log of what is left."""
        if len(batch.picked) % 2 == 0:
            informing = super().next(batch)
            return informing.where(informing <= 0, informing * batch.log_weight.exp())
        first = batch.outlook.goals.objective_columns[0]
        left = batch.remaining_std[:, first] / batch.std[:, first]
        return Greedy(self.seed).next(batch) + self.novelty * left.log()

    def why(self, pick: Choice) -> str:
        """Say what it promises and what it tells."""
        return Strategy.why(self, pick) + f"; {pick.learned_distance:.2f} from the nearest known"
