from __future__ import annotations

import numpy as np
import pytest

from drxnet.composition import METALS_BY_NUMBER
from drxnet.elements import ATOMIC_MASS, VECTOR_LENGTH, element_vectors


def test_every_cation_and_anion_has_a_vector_of_its_own():
    vectors = element_vectors((*METALS_BY_NUMBER, "O", "F"))
    assert vectors.shape == (len(METALS_BY_NUMBER) + 2, VECTOR_LENGTH)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == len(vectors)


def test_atomic_masses_are_iupacs():
    assert ATOMIC_MASS["Li"] == pytest.approx(6.94, abs=0.01)
    assert ATOMIC_MASS["O"] == pytest.approx(15.999, abs=0.001)


def test_an_element_without_a_vector_is_a_key_error():
    with pytest.raises(KeyError):
        element_vectors(("Xx",))
