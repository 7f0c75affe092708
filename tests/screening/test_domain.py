from __future__ import annotations

import numpy as np
import pytest
import torch
from ensemble_checks import error_by_label
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.uncertainty import shipped_levels
from screening.domain import LABELS, Domain, FeatureScale, known_compositions

FAR = "Li1.2Zr0.4W0.2Al0.2O1.8F0.2"


def test_known_compositions_are_distinct_and_lie_inside() -> None:
    known = known_compositions()
    assert len(set(known)) == len(known) > 25
    nearest = Domain(FakeEnsemble(2)).nearest(Amounts.of(known))
    np.testing.assert_allclose(nearest.learned, 0, atol=1e-6)
    np.testing.assert_allclose(nearest.amount, 0, atol=1e-12)
    assert set(nearest.labels) == {"inside"}
    assert nearest.neighbours == known


def test_a_typical_pair_of_known_compositions_is_one_apart() -> None:
    ensemble = FakeEnsemble(3)
    features = FeatureScale(ensemble)(ensemble, Amounts.of(known_compositions()))
    squares = torch.cdist(features, features).square()
    pairs = len(squares) * (len(squares) - 1)
    assert (squares.sum() / pairs).item() == pytest.approx(1.0)


def test_what_was_measured_belongs_to_the_domain() -> None:
    composition = Composition.parse(FAR)
    before = Domain(FakeEnsemble(2)).nearest(Amounts.of([composition]))
    after = Domain(FakeEnsemble(2), [composition]).nearest(Amounts.of([composition]))
    assert before.labels != ["inside"]
    assert after.labels == ["inside"]
    assert after.neighbours == (composition,)


def test_distance_in_amounts_is_the_compositions_own() -> None:
    candidates = [Composition.parse(f) for f in (FAR, "Li1.2Mn0.4Ti0.4O2", "Li1.25Mn0.4Ti0.35O1.9F0.1")]
    nearest = Domain(FakeEnsemble(2)).nearest(Amounts.of(candidates))
    expected = [min(c.distance(k) for k in known_compositions()) for c in candidates]
    # Composition.distance counts oxygen too, which is 2 - F and never differs by more than F does
    np.testing.assert_allclose(nearest.amount, expected)


def test_labels_follow_the_two_thresholds() -> None:
    domain = Domain(FakeEnsemble(2))
    candidates = Amounts.of(["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.5Cr0.15Ti0.15O2", FAR])
    nearest = domain.nearest(candidates)
    features = domain.scale(domain.ensemble, candidates)
    assert [LABELS[i] for i in domain.labels(features)] == nearest.labels
    inside, edge = shipped_levels().model.label_ends
    by_hand = ["inside" if d <= inside else "edge" if d <= edge else "outside" for d in nearest.learned]
    assert nearest.labels == by_hand


def test_error_of_the_shipped_ensemble_grows_with_the_label() -> None:
    errors = error_by_label(Ensemble.load("default"))
    assert list(errors) == list(LABELS)
    assert errors["inside"] + 4 < errors["edge"] < errors["outside"] - 4
