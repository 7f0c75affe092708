"""Whether knowing how a powder was made helps to predict published cells, leaving one study out.

    python -m benchmarks.process.literature [--model default --model drxnet-2024]

The error of the model is taken as a common shift, a shift of the study (the laboratory), and with the route also a
shift of the route (solid state, solid state and milled, mechanochemical, from solution; none where it is not stated),
all normal around zero with the standard deviations below: the best linear unbiased prediction of the rows of a study
from all others.
"""

from __future__ import annotations

import argparse

import numpy as np

from drxnet.ensemble import Ensemble
from drxnet.literature import LiteratureEvaluation, evaluate_literature

COMMON, LABORATORY, ROUTE, CELL = 50.0, 35.0, 35.0, 20.0
"""Standard deviations (mAh/g), round numbers taken before anything was fitted."""


def shifted(evaluation: LiteratureEvaluation, by_route: bool) -> np.ndarray:
    """Predictions with what the other studies teach of the error (mAh/g), R."""
    error = evaluation.capacity_mah_g - evaluation.mean_mah_g
    study, route = (np.array([getattr(p, name) for p in evaluation.published]) for name in ("study", "route"))
    covariance = COMMON**2 + LABORATORY**2 * (study[:, None] == study) + CELL**2 * np.eye(len(study))
    if by_route:
        covariance = covariance + ROUTE**2 * ((route[:, None] == route) & (route != ""))
    found = np.empty(len(study))
    for left_out in np.unique(study):
        out, of = study == left_out, (study != left_out) & evaluation.counted
        found[out] = covariance[np.ix_(out, of)] @ np.linalg.solve(covariance[np.ix_(of, of)], error[of])
    return evaluation.mean_mah_g + found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="An installed model; repeat.")
    for name in parser.parse_args().model or ["default"]:
        evaluation = evaluate_literature(Ensemble.load(name))
        at = evaluation.counted
        stated = at & np.array([p.route != "" for p in evaluation.published])
        for rows, what in ((at, "all"), (stated, "route stated")):
            truth = evaluation.capacity_mah_g[rows]
            studies = {p.study for p, here in zip(evaluation.published, rows, strict=True) if here}
            ways = {
                "as predicted": evaluation.mean_mah_g,
                "laboratories": shifted(evaluation, by_route=False),
                "laboratories and routes": shifted(evaluation, by_route=True),
            }
            said = ", ".join(f"{way} {np.abs(q[rows] - truth).mean():.1f}" for way, q in ways.items())
            print(f"{name}, {what}: {rows.sum()} rows of {len(studies)} studies, error (mAh/g): {said}")


if __name__ == "__main__":
    main()
