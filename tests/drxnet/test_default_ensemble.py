"""What the ensemble that ships must do, as its users count on it."""

from __future__ import annotations

import numpy as np
import pytest

from drxnet.composition import MODEL_METALS
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.simulation import DRX_FAMILIES

RATES = (CyclingConditions(20), CyclingConditions(1000))


@pytest.fixture(scope="module")
def default() -> Ensemble:
    return Ensemble.load("default")


def test_its_card_says_where_it_comes_from(default: Ensemble) -> None:
    card = default.card
    assert card.members == 5
    assert card.elements == MODEL_METALS
    assert "random initialisation" in card.provenance["made"]
    assert {"errors_against_published", "domain", "licence", "citation", "options"} <= set(card.provenance)


@pytest.mark.parametrize(
    ("formula", "printed", "within"),
    [
        ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", (276, 196), (10, 10)),
        ("Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2", (266, 171), (10, 20)),
    ],
    ids=["HE-1", "HE-2"],
)
def test_the_papers_high_entropy_cathodes(default: Ensemble, formula: str, printed, within) -> None:
    """Capacities at 20 and 1000 mA/g as Zhong et al., Joule 8 (2024), print them; neither was trained on."""
    mean = default.capacity([formula], RATES).numpy().mean(0)[0]
    assert (np.abs(mean - printed) <= within).all(), mean


def test_fluorine_lowers_the_first_cycle_and_raises_the_thirtieth(default: Ensemble) -> None:
    """Zhong et al., Joule 8 (2024), figure 4."""
    cycles = [CyclingConditions(20), CyclingConditions(20, cycle=30)]
    for oxide, fluoride in (
        ("Li1.2Mn0.8O2", "Li1.2Mn0.8O1.7F0.3"),
        ("Li1.333Mn0.667O2", "Li1.333Mn0.667O1.7F0.3"),
    ):
        first, thirtieth = default.capacity([oxide, fluoride], cycles).numpy().mean(0).T
        assert first[1] < first[0] - 20
        assert thirtieth[1] > thirtieth[0] + 20


def test_its_members_differ_more_where_the_data_are_sparse(default: Ensemble) -> None:
    rng = np.random.default_rng(5)
    common = [c for name in ("Li-Mn-O-F", "Mn-Ti", "Mn-Nb") for c in DRX_FAMILIES[name][1].draw(50, rng)]
    anything = DRX_FAMILIES["HE of all"][1].draw(200, rng)
    known, unknown = (np.median(default.capacity(c, RATES[:1]).numpy().std(0)) for c in (common, anything))
    assert unknown > 2 * known
