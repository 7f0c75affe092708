"""What other packages add, found by entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from drxnet import plugins
from drxnet.errors import ConfigurationError
from screening.quantities import QUANTITIES, Capacity


class Doubled(Capacity):
    name = "doubled"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Pretend that packages are installed; given as {name: value} of the group of quantities."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    plugins.plugins.cache_clear()

    def install(*pairs: tuple[str, str]) -> None:
        points.extend(EntryPoint(name, value, QUANTITIES.group) for name, value in pairs)
        plugins.plugins.cache_clear()

    yield install
    plugins.plugins.cache_clear()


def _here(name: str) -> str:
    return f"{__name__}:{name}"


def test_a_plug_in_stands_beside_what_is_shipped(installed, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Doubled=Doubled))
    installed(("doubled", _here("Doubled")))
    assert QUANTITIES.named("doubled") is Doubled
    assert list(QUANTITIES)[-1] == "doubled"
    assert "doubled" in QUANTITIES


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("lost", "no_such_package:Quantity")], "'lost' of drx_screen.quantities .* cannot be imported"),
        ([("capacity", "screening.quantities:Capacity")], "'capacity' .* exists already"),
        ([("a", "math:pi"), ("a", "math:e")], "Two installed packages add 'a'"),
        ([("pi", "math:pi")], "a quantity is a subclass"),
        ([("other", "screening.quantities:Capacity")], "calls itself 'capacity'"),
    ],
    ids=["lost", "shipped", "twice", "kind", "name"],
)
def test_a_plug_in_that_cannot_be_is_named(installed, pairs, message):
    installed(*pairs)
    with pytest.raises(ConfigurationError, match=message):
        QUANTITIES.named("nothing of that name")


def test_what_is_shipped_does_not_ask_for_plug_ins(installed):
    installed(("lost", "no_such_package:Quantity"))
    assert QUANTITIES.named("capacity") is Capacity
