"""Estimate the levels of the error that the interval of a prediction is made of (docs/uncertainty.md).

    python -m benchmarks.trust.levels [--model default --model drxnet-2024] [--draws 600] [--write]

The model's own error: its members against each other, on the known compositions and on draws from the shipped spaces;
for an ensemble that learned from another one, the members of that one about its mean, for its own members agree on what
they never saw. Laboratory and sample: the published cells. With --write the numbers go to drxnet/data/error_levels.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression

import drxnet.data
from benchmarks.choose.pool import candidates_of
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble
from drxnet.literature import evaluate_literature, leave_one_study_out, summary
from drxnet.uncertainty import LABELS, ErrorLevels, OfLevels, fit_model_level, write_levels
from screening.domain import Domain, known_compositions
from screening.lattice import Lattice
from screening.space import load_space

REFERENCE, REFERENCE_ENDS = "drxnet-2024", (0.3, 0.6)
"""Learned distances up to which the published ensemble is inside and at the edge; others are where they err as much."""

SCREENED = ("he-rate", "he-wide", "lmof")
"""Campaigns whose candidates, as they are filtered, set the labels."""

CURRENTS_MA_G = (5.0, 20.0, 100.0, 400.0, 1000.0, 2000.0, 5000.0)
SPACES = ("paper-he", "wide", "lmof")


def drawn(draws: int, seed: int = 0) -> list[Composition]:
    """Known compositions, and as many draws from each of the shipped spaces."""
    found = list(known_compositions())
    for name in SPACES:
        lattice = Lattice(load_space(name))
        found += lattice.compositions(lattice.unrank(lattice.sample_ranks(min(draws, lattice.count), seed)))
    return list(dict.fromkeys(found))


def deviations(own_mah_g: np.ndarray, teacher_mah_g: np.ndarray | None) -> tuple[np.ndarray, int, np.ndarray]:
    """Deviations of members that the prediction does not hold, ``M x N x currents`` each.

    Args:
        own_mah_g: capacities by the members of the ensemble.
        teacher_mah_g: by those of the one that it learned from, member by member, if any.

    Returns:
        Their mean squares, how many free ones each is of, and the mean absolute error with a member as the truth.
    """
    members = len(own_mah_g)
    truth = own_mah_g if teacher_mah_g is None else teacher_mah_g
    others = (own_mah_g.sum(0) - own_mah_g) / (members - 1)
    error = np.abs(truth - others).mean(0)
    if teacher_mah_g is None:
        return own_mah_g.var(0, ddof=1), members - 1, error
    return ((teacher_mah_g - others) ** 2).mean(0) / (1 + 1 / (members - 1)), members, error


def screened(draws: int, seed: int = 0) -> list[Composition]:
    """Candidates that the filters of the shipped campaigns leave, as many of each."""
    found: list[Composition] = []
    for name in SCREENED:
        source = candidates_of(name)
        units = source.unrank(source.sample_ranks(min(source.count, 40 * draws), seed))
        found += source.compositions(units[source.keeps(units)][:draws])
    return list(dict.fromkeys(found))


def error_by_distance(ensemble: Ensemble, draws: int) -> IsotonicRegression:
    """Mean absolute error of Q(20 mA/g) (mAh/g) over the learned distance, rising, a member being the truth."""
    compositions = screened(draws)
    encoded = ensemble.encode(Amounts.of(compositions))
    condition = [CyclingConditions(20.0)]
    own = ensemble.capacity(encoded, condition).double().numpy()
    teacher = _teacher_of(ensemble)
    _, _, error = deviations(own, None if teacher is None else teacher.capacity(compositions, condition).numpy())
    distance = Domain(ensemble).nearest(Amounts.of(compositions)).learned
    return IsotonicRegression(out_of_bounds="clip").fit(distance, error[:, 0])


def label_ends(ensemble: Ensemble, draws: int) -> tuple[float, float]:
    """Learned distances at which an ensemble errs as much as the published one does at the ends of its labels."""
    if ensemble.card.name == REFERENCE:
        return REFERENCE_ENDS
    errors = error_by_distance(Ensemble.load(REFERENCE), draws).predict(REFERENCE_ENDS)
    mine = error_by_distance(ensemble, draws)
    at = np.linspace(0.0, 2.0, 2001)
    inside, edge = (float(at[mine.predict(at) <= error][-1]) for error in errors)
    print(f"{ensemble.card.name} errs by {errors.round(1)} mAh/g at learned distances of {inside:.2f} and {edge:.2f}")
    return round(inside, 2), round(edge, 2)


def _teacher_of(ensemble: Ensemble) -> Ensemble | None:
    """The ensemble that one learned from."""
    name = ensemble.card.provenance.get("simulated_from", {}).get("name")
    return Ensemble.load(name) if name else None


def levels_of(ensemble: Ensemble, draws: int) -> ErrorLevels:
    """Estimate and print all levels of one ensemble."""
    compositions = drawn(draws)
    domain = Domain(ensemble)
    domain.ends = ends = label_ends(ensemble, draws)
    encoded = ensemble.encode(Amounts.of(compositions))
    labels = domain.locate(encoded.features)
    conditions = [CyclingConditions(i) for i in CURRENTS_MA_G]
    capacity = ensemble.capacity(encoded, conditions).double().numpy()
    learned_from = _teacher_of(ensemble)
    teacher = learned_from.capacity(compositions, conditions).double().numpy() if learned_from else None
    squares, free, error = deviations(capacity, teacher)
    model = fit_model_level(squares, free, labels, CURRENTS_MA_G, ends)
    print(
        f"\n{ensemble.card.name} ({ensemble.model_id}), {len(compositions)} compositions, mAh/g, "
        f"members of {(learned_from or ensemble).card.name} about its mean"
    )
    print("| | compositions | typical s.d. of a member at " + ", ".join(f"{i:g}" for i in CURRENTS_MA_G), end="")
    print(" mA/g | worth members | mean error, one member the truth |\n|---|---|---|---|---|")
    for label in LABELS:
        sizes = " / ".join(f"{size:.0f}" for size in model.typical_mah_g[label])
        off = " / ".join(f"{size:.0f}" for size in error[np.array(labels) == label].mean(0))
        print(f"| {label} | {labels.count(label)} | {sizes} | {model.freedom[label]:.1f} | {off} |")
    evaluation = evaluate_literature(ensemble)
    published = [p.composition for p in evaluation.published]
    where = dict(zip(published, domain.nearest(Amounts.of(published)).labels, strict=True))
    method = OfLevels(model, where)
    levels = method.levels(evaluation)
    lab = levels.laboratory
    print(
        f"bias {lab.bias_mah_g.round(1)} +- {np.sqrt(np.diag(lab.bias_covariance)).round(1)}, between laboratories "
        f"{lab.laboratory_mah_g:.1f}, between samples {lab.sample_mah_g:.1f} mAh/g, "
        f"{lab.freedom:.1f} degrees of freedom; {lab.rows} rows of {lab.studies} studies"
    )
    lower, upper = leave_one_study_out(evaluation, method)
    print(f"median width {np.median(upper - lower):.0f} mAh/g; inside, leaving one study out:")
    for row in summary(evaluation, method):
        said = f"{row['coverage']:.0%} ({row['coverage_low']:.0%}-{row['coverage_high']:.0%})"
        print(f"  {row['group']}: {said} of {row['rows']} rows of {row['studies']} studies")
    return levels


def main() -> None:
    """Print the levels, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", dest="models", help="default and drxnet-2024 unless given")
    parser.add_argument("--draws", type=int, default=600, help="from each space")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ensembles = [Ensemble.load(name) for name in options.models or ("default", "drxnet-2024")]
    found = {e.model_id: levels_of(e, options.draws) for e in ensembles}
    if options.write:
        target = Path(next(iter(drxnet.data.__path__))) / "error_levels.csv"
        target.write_text(write_levels(found, {e.model_id: e.card.name for e in ensembles}), encoding="utf-8")
        print(f"written to {target}")


if __name__ == "__main__":
    main()
