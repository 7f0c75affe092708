"""What is usual where such powders are made; the recipe that shows it is tested beside it."""

from __future__ import annotations

import pytest

from campaigns.firing import shipped_firings, suggest, usual_route
from drxnet.composition import Composition

OXIDE, OXYFLUORIDE = map(Composition.parse, ("Li1.2Mn0.4Ti0.4O2", "Li1.3Mn0.4Ti0.3O1.4F0.6"))


def test_what_firing_cannot_keep_is_milled_but_only_in_a_closed_jar():
    assert usual_route(OXIDE, closed=True) == "solid-state"
    assert usual_route(OXYFLUORIDE, closed=True) == "mechanochemical"
    assert usual_route(OXYFLUORIDE, closed=False) == "solid-state"


@pytest.mark.parametrize("composition", [OXIDE, OXYFLUORIDE], ids=["oxide", "oxyfluoride"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_every_composition_has_a_range_of_its_kind(composition: Composition, closed: bool):
    for route in ("solid-state", "mechanochemical"):
        found = suggest(composition, route, closed=closed)
        assert (found.route, found.fluorine) == (route, composition.fluorine > 0)
        assert found.atmosphere == ("argon" if closed or route == "mechanochemical" else "air")
        assert (found.temperature_c is None) == (route == "mechanochemical")


def test_a_sentence_and_a_row_say_the_same():
    for firing in shipped_firings():
        row, said = firing.as_dict(), str(firing)
        assert f"{row['hours_low']:g}-{row['hours_high']:g} h" in said
        assert firing.source in said
        if firing.temperature_c is not None:
            assert f"{row['temperature_c_low']:g}-{row['temperature_c_high']:g} C" in said
