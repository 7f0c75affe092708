"""A user's own list of compositions, however long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drxnet.errors import CompositionError, ConfigurationError
from screening.candidates import CandidateList
from screening.lattice import Lattice
from screening.space import load_space


@pytest.fixture(scope="module")
def formulas() -> list[str]:
    lattice = Lattice(load_space("paper-he"))
    return lattice.formulas(lattice.sample(40_000, 0))


def test_a_long_csv_is_the_list_of_its_formulas(formulas: list[str], tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("name,composition\n" + "".join(f"c{i},{f}\n" for i, f in enumerate(formulas)) + ",\n\n")
    listed = CandidateList.read(path)
    assert listed.count == len(formulas)
    places = np.array([0, 1, 20_000, 39_999])
    assert listed.formulas(listed.unrank(places)) == [formulas[i] for i in places]
    assert [listed.rank(row) for row in listed.unrank(places)] == places.tolist()
    assert listed.fingerprint == CandidateList(formulas).fingerprint != CandidateList(formulas[::-1]).fingerprint


def test_each_composition_stands_once_where_it_came_first(formulas: list[str]) -> None:
    listed = CandidateList([*formulas[:50], "Li12Mn4Ti4O20", *formulas[:70], "Li1.2Mn0.4Ti0.4O2"])
    expected = [*formulas[:50], "Li1.2Ti0.4Mn0.4O2", *formulas[50:70]]
    assert listed.formulas(listed.unrank(np.arange(listed.count))) == expected


def test_a_bad_formula_is_named_by_its_line_however_late(formulas: list[str], tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["composition", *formulas, "Li1.2Mn0.8", "worse"]))
    with pytest.raises(CompositionError, match=f"own.csv, line {len(formulas) + 2}: .*no O or F"):
        CandidateList.read(path)


@pytest.mark.parametrize(
    ("header", "way"), [("compositon,batch", "Is 'compositon' the one\\?"), ("batch,mass", "Name it so\\.")]
)
def test_a_list_without_the_column_is_told_which_one_may_be_meant(tmp_path: Path, header: str, way: str) -> None:
    (tmp_path / "mine.csv").write_text(f"{header}\nLi1.2Mn0.4Ti0.4O2,1\n")
    with pytest.raises(ConfigurationError, match=f"has a column 'composition'. Got {header.replace(',', ', ')}. {way}"):
        CandidateList.read(tmp_path / "mine.csv")
