from __future__ import annotations

import json

import numpy as np
import pytest

from drxnet.composition import METALS_BY_NUMBER, MODEL_METALS
from drxnet.elements import ATOMIC_MASS, VECTOR_LENGTH, element_vectors


def test_every_cation_and_anion_has_a_vector_of_its_own():
    vectors = element_vectors((*METALS_BY_NUMBER, "O", "F"))
    assert vectors.shape == (len(METALS_BY_NUMBER) + 2, VECTOR_LENGTH)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == len(vectors)


def test_the_vectors_are_those_of_the_published_network(published_folder):
    published = json.loads((published_folder / "matscholar-embedding.json").read_text())
    for symbol, vector in zip((*MODEL_METALS, "F"), element_vectors((*MODEL_METALS, "F")), strict=True):
        assert vector == pytest.approx(np.array(published[symbol]), abs=1e-8)


def test_atomic_masses_are_iupacs():
    assert ATOMIC_MASS["Li"] == pytest.approx(6.94, abs=0.01)
    assert ATOMIC_MASS["O"] == pytest.approx(15.999, abs=0.001)


def test_an_element_without_a_vector_is_a_key_error():
    with pytest.raises(KeyError):
        element_vectors(("Xx",))
