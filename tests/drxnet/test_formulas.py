"""Many formulas at once are the same compositions as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drxnet.composition import MODEL_METALS, Composition
from drxnet.errors import CompositionError, DRXWarning
from drxnet.formulas import UNITS, CompositionTable, parse_formulas, write_formulas

PLAIN = [
    "Li1.2Mn0.4Ti0.4O2",
    "Li12Mn4Ti4O20",
    "Li1.2 Mn0.4 Ti0.4 O2",
    "LiMnO2",
    "O2Li1.2Mn.4Ti0.4",
    "Li1.2Mn0.2Ti0.4Mn0.2O1.9F0.1",
    "Li1.2Mn0.80O1.F1.",
    "Li1.333Mn0.667O2",
    "Li1.2Mn0.8Ti0O2",
]
ODD = ["(Li3MnTi)0.4O2", "Li1.2Y0.4Ti0.4O2", "Li1.15Mn0.8O2", "Li1.60001Mn0.4O2", "Li1.2Mn0.8O2\n"]


def written(table: CompositionTable) -> list[str]:
    fluorine = np.rint(table.fluorine[:, None] * UNITS).astype(int)
    units = np.concatenate([table.units(), 2 * UNITS - fluorine, fluorine], 1)
    return write_formulas((*table.symbols, "O", "F"), units, UNITS)


@st.composite
def rocksalts(draw: st.DrawFn) -> str:
    metals = draw(st.lists(st.sampled_from(MODEL_METALS[1:]), min_size=1, max_size=7, unique=True))
    parts = draw(st.lists(st.integers(1, 5000), min_size=len(metals), max_size=len(metals)))
    lithium, fluorine = draw(st.integers(9000, 13500)), draw(st.integers(0, 13000))
    scale = draw(st.sampled_from([1, 2, 3, 10]))
    rest = [(20_000 - lithium) * part / sum(parts) for part in parts]
    amounts = zip(["Li", *metals, "O", "F"], [lithium, *rest, 20_000 - fluorine, fluorine], strict=True)
    digits = draw(st.integers(3, 8))
    return "".join(f"{s}{a * scale / 10_000:.{digits}f}" for s, a in draw(st.permutations(list(amounts))))


@given(formulas=st.lists(rocksalts(), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("ignore::drxnet.errors.DRXWarning")
def test_a_table_holds_what_each_formula_alone_gives(formulas: list[str]) -> None:
    table = parse_formulas(formulas)
    expected = [Composition.parse(formula) for formula in formulas]
    assert [table.composition(i) for i in range(len(formulas))] == expected
    assert written(table) == [composition.formula for composition in expected]


@pytest.mark.filterwarnings("ignore::drxnet.errors.DRXWarning")
def test_odd_formulas_stand_beside_plain_ones() -> None:
    table = parse_formulas([*PLAIN, *ODD, *PLAIN])
    assert written(table) == [Composition.parse(formula).formula for formula in [*PLAIN, *ODD, *PLAIN]]


@pytest.mark.parametrize(
    "formula",
    ["nonsense", "", "Li1.2Xx0.8O2", "Na1.2Mn0.8O2", "Li2MnO2", "LiO2", "Li1.2Mn0.8", "Li1.2.3Mn0.8O2", "2LiMnO2",
     "Li1.2Mn0,8O2", "Li1.2Mn0.8O0.5F1.5", "Li.Mn1O2", "ЛиMnO2", "Li1e5Mn0.8O2", "Li-1.2Mn0.8O2"],
)  # fmt: skip
def test_what_is_refused_alone_is_refused_in_a_table_with_its_place(formula: str) -> None:
    with pytest.raises(CompositionError) as alone:
        Composition.parse(formula)
    with pytest.raises(CompositionError) as raised:
        parse_formulas([*PLAIN, formula, "worse"], lambda row: f"line {row + 2}")
    assert str(raised.value) == f"line {len(PLAIN) + 2}: {alone.value}"


def test_a_doubtful_cation_sum_is_warned_of_as_for_one() -> None:
    with pytest.warns(DRXWarning, match="off by more than 2 %"):
        parse_formulas(["Li1.14Mn0.8O2"])


def test_nothing_is_an_empty_table() -> None:
    assert parse_formulas([]).cations.shape == (0, 0)
    assert written(parse_formulas([])) == []


def test_amounts_are_whole_ten_thousandths() -> None:
    table = parse_formulas(PLAIN)
    assert (table.units() / 10_000 == table.cations).all()
    assert table.symbols[0] == "Li"
    assert np.isfinite(table.fluorine).all()
