from __future__ import annotations

import pytest

from drxnet.engines import ENGINES
from drxnet.ensemble import Ensemble
from drxnet.errors import UsageError


def test_every_engine_is_said_and_others_are_refused_by_naming_them():
    assert list(ENGINES) == ["auto", "eager", "compiled", "fused"]
    assert all(ENGINES.values())
    with pytest.raises(UsageError, match="An engine is one of auto, eager, compiled, fused. Got 'steam'"):
        Ensemble.load("default").with_engine("steam")


def test_an_ensemble_keeps_the_engine_that_it_is_given():
    assert Ensemble.load("default").with_engine("eager").engine_for(10**9) == "eager"
