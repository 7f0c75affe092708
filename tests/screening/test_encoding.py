from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drxnet.composition import Composition
from drxnet.errors import CompositionError, UsageError
from drxnet.process import FIELDS, Process
from screening.encoding import Encoding

METALS = ("Mg", "Ti", "V", "Cr", "Mn", "Nb")
COLUMNS = ("Li", "F", *METALS)


@st.composite
def lattice_rows(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A denominator and whole numbers of Li, F and the metals that fill the cation sites."""
    denominator = draw(st.sampled_from([10, 20, 40]))
    metals = draw(st.lists(st.integers(0, denominator // 4), min_size=len(METALS), max_size=len(METALS)))
    lithium = 2 * denominator - sum(metals)
    fluorine = draw(st.integers(0, denominator // 2))
    return denominator, [lithium, fluorine, *metals]


@given(lattice_rows())
def test_round_trip_is_exact_on_the_lattice(row: tuple[int, list[int]]) -> None:
    denominator, units = row
    encoding = Encoding(METALS)
    amounts = {s: n / denominator for s, n in zip(COLUMNS, units, strict=True)}
    x = encoding.encode([Composition.from_amounts({**amounts, "O": 2 - amounts["F"]})])
    (composition,) = encoding.decode(x)
    back = composition.units(denominator)
    assert [back.get(s, 0) for s in COLUMNS] == units
    assert torch.equal(encoding.encode([composition]), x)


def test_lithium_is_what_the_metals_leave() -> None:
    amounts = Encoding(("Mn", "Ti")).amounts(torch.tensor([[0.4, 0.3, 0.1]]).double())
    assert amounts.symbols == ("Li", "Ti", "Mn")
    assert amounts.cations[0, 0].item() == pytest.approx(1.3)
    assert amounts.fluorine.item() == pytest.approx(0.1)


def test_amounts_flattens_batches_and_keeps_gradients() -> None:
    x = torch.rand(3, 2, 4, dtype=torch.float64, requires_grad=True)
    amounts = Encoding(("Ti", "Mn", "Nb")).amounts(x)
    assert amounts.cations.shape == (6, 4)
    amounts.cations[:, 0].sum().backward()
    assert torch.equal(x.grad[..., :-1], -torch.ones(3, 2, 3, dtype=torch.float64))


def test_columns_follow_the_atomic_number() -> None:
    assert Encoding.of(["Li1.2Nb0.2Mn0.6O2", "Li1.2Mn0.4Ti0.4O1.9F0.1"]).columns == ("Ti", "Mn", "Nb", "F")


def test_a_metal_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(CompositionError, match="Cr has no column"):
        Encoding(("Mn",)).encode(["Li1.2Cr0.4Mn0.4O2"])


@pytest.mark.parametrize("metals", [(), ("Li", "Mn"), ("Mn", "Mn"), ("O",)], ids=["none", "lithium", "twice", "anion"])
def test_encodings_that_cannot_be_are_refused(metals: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="distinct metals other than Li"):
        Encoding(metals)


def _meets(constraints: list, x: torch.Tensor) -> bool:
    return all(float(coefficients @ x[indices]) >= limit - 1e-9 for indices, coefficients, limit in constraints)


@pytest.mark.parametrize(
    ("formula", "neutral"),
    [
        ("Li1.2Mn0.4Ti0.4O2", True),  # Mn3+
        ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", True),
        ("Li1.2Ti0.8O2", False),  # Ti4+: 0.4 charges too many
        ("Li1.6Mn0.4O2", False),  # Mn4+: 0.8 too few
    ],
)
def test_charge_balance_admits_what_some_valences_make_neutral(formula: str, neutral: bool) -> None:
    encoding = Encoding(METALS)
    states = {"Mg": (2, 2), "Ti": (4, 4), "V": (3, 5), "Cr": (3, 3), "Mn": (2, 4), "Nb": (5, 5)}
    x = encoding.encode([Composition.parse(formula)])[0]
    assert _meets(encoding.charge_balance(states), x) is neutral


def test_charge_balance_names_the_metals_it_knows_nothing_of() -> None:
    with pytest.raises(UsageError, match="Missing Nb"):
        Encoding(("Mn", "Nb")).charge_balance({"Mn": (2, 4)})


@pytest.mark.parametrize(
    ("formula", "inside"), [("Li1.2Mn0.8O2", True), ("Li1.05Mn0.95O2", False), ("Li1.5Mn0.5O2", False)]
)
def test_lithium_limits_act_on_the_metals(formula: str, inside: bool) -> None:
    encoding = Encoding(METALS)
    assert _meets(encoding.lithium_limits((1.1, 1.3)), encoding.encode([formula])[0]) is inside


def test_bounds_have_one_column_per_metal_and_fluorine() -> None:
    bounds = Encoding(("Mn", "Ti")).bounds(metal={"Mn": (0.1, 0.5)}, fluorine=(0.0, 0.3))
    assert torch.equal(bounds, torch.tensor([[0.0, 0.1, 0.0], [2.0, 0.5, 0.3]], dtype=torch.float64))


def test_traces_in_rows_are_given_to_the_other_metals():
    encoding = Encoding(("Ti", "Mn", "Zr"))
    x = torch.tensor([[[0.4, 0.39, 0.01, 0.1]], [[0.4, 0.38, 0.02, 0.0]], [[0.01, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    cleaned = encoding.without_traces(x)
    assert cleaned.shape == x.shape
    assert cleaned[0, 0].tolist() == pytest.approx([0.4 * 0.8 / 0.79, 0.39 * 0.8 / 0.79, 0, 0.1])
    assert cleaned[1].equal(x[1])
    assert cleaned[2, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.number])
def test_bounds_of_a_condition_are_those_of_its_values(name: str) -> None:
    encoding, field = Encoding(("Mn", "Ti"), ("milled", name)), FIELDS[name]
    assert field.number is not None
    ends = encoding.encode_processes([Process.of({name: end, "milled": "no"}) for end in field.number])
    bounds = encoding.bounds(metal={"Ti": (0.1, 0.4)}, fluorine=(0.0, 0.3))
    assert bounds.shape == (2, encoding.d)
    assert encoding.columns[:3] == ("Ti", "Mn", "F")
    assert bounds[:, :3].tolist() == [[pytest.approx(0.1), 0.0, 0.0], [pytest.approx(0.4), 2.0, pytest.approx(0.3)]]
    assert bounds[:, 3:6].tolist() == [[0.0] * 3, [1.0] * 3]
    assert bounds[:, 6].tolist() == pytest.approx(ends[:, 3].tolist())
    assert bounds[0, 6] < bounds[1, 6]
    assert bounds[:, 7].tolist() == [0.0, 1.0]


def test_what_is_stated_of_several_conditions_comes_back() -> None:
    encoding = Encoding(("Mn",), ("route", "firing_temperature_c", "firing_time_h"))
    said = [
        Process.of({"route": "sol-gel", "firing_time_h": 12.0}),
        Process.of({"firing_temperature_c": 900.0}),
        Process.of({}),
        Process.of({"route": "solid state", "firing_temperature_c": 1000.0, "firing_time_h": 1.5}),
    ]
    columns = encoding.encode_processes(said)
    assert columns.shape == (4, 8 + 2 + 2)
    for told, back in zip(said, encoding.decode_processes(columns), strict=True):
        assert not told.differs(back)
        assert [back.get(name) is None for name in encoding.process] == [told.get(n) is None for n in encoding.process]
