"""What the domain labels mean, and whether a ranking by the lower bound is sane.

    python -m benchmarks.choose.domain --cache DIR [--model drxnet-2024]

Each member in turn is the truth and the mean of the others the prediction; errors by label and by decile of the learned
distance. Then the first 20 of the pool by the lower bound of the retention, with the spread of their low-rate capacity.
"""

from __future__ import annotations

import numpy as np

from benchmarks.choose.pool import GOALS, PooledEnsemble, pool_asked_for
from drxnet.ensemble import Amounts
from drxnet.uncertainty import LABELS
from screening.domain import Domain
from screening.outlook import Outlook


def main() -> None:
    """Print both tables."""
    pool, _ = pool_asked_for(__doc__)
    candidates = pool.compositions[: pool.candidates]
    amounts = Amounts.of(candidates)
    everyone = list(range(len(pool.capacity)))
    ensemble = PooledEnsemble(pool, everyone)
    values = GOALS.evaluate(ensemble, amounts).numpy()  # type: ignore[arg-type]  # the same interface, from tables
    errors = np.mean([np.abs(values[i] - np.delete(values, i, 0).mean(0)) for i in everyone], 0)
    nearest = Domain(ensemble).nearest(amounts)  # type: ignore[arg-type]
    labels = np.array(nearest.labels)

    print("| label | share | error of retention | of Q(low) (mAh/g) | of Q(high) (mAh/g) |\n|---|---|---|---|---|")
    for label in LABELS:
        mine = labels == label
        row = errors[mine].mean(0)
        print(f"| {label} | {mine.mean():.0%} | {row[0]:.3f} | {row[1]:.1f} | {row[2]:.1f} |")
    order = np.argsort(nearest.learned)
    print("\nlearned distance and error of Q(low) by decile of the distance:")
    for part in np.array_split(order, 10):
        print(f"  {nearest.learned[part].max():.2f}  {errors[part, 1].mean():.1f}")
    for name, distance in (("learned", nearest.learned), ("amounts", nearest.amount)):
        ranks = [np.argsort(np.argsort(x)) for x in (distance, errors[:, 1])]
        print(f"rank correlation of the error of Q(low) with the distance in {name}: {np.corrcoef(*ranks)[0, 1]:.2f}")

    outlook = Outlook.of(ensemble, GOALS)  # type: ignore[arg-type]
    mean, std = outlook.surrogate.marginals(outlook.read(amounts))
    columns = GOALS.columns(mean.numpy(), std.numpy())
    first = np.argsort(-columns["rate_retention_lower"], kind="stable")[:20]
    member_spread = values[:, first, 1].std(0)
    print("\n| rank | composition | retention, lower | Q(low) | members' spread | feasibility | label |")
    print("|---|---|---|---|---|---|---|")
    for rank, (i, spread) in enumerate(zip(first, member_spread, strict=True), start=1):
        print(
            f"| {rank} | {candidates[i]} | {columns['rate_retention_lower'][i]:.2f} | "
            f"{columns['capacity_low_mah_g_mean'][i]:.0f} | {spread:.0f} | {columns['feasibility'][i]:.2f} | "
            f"{labels[i]} |"
        )
    share = member_spread / values[:, first, 1].mean(0)
    print(f"\nlargest spread of Q(low) among them: {share.max():.0%} of Q(low); allowed 50 %")


if __name__ == "__main__":
    main()
