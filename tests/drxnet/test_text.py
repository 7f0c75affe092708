from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drxnet.text import csv_table, storable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Nb₂O₅ left, 3 µm, 5 °C, 锂, 😀 [/red]", "Nb₂O₅ left, 3 µm, 5 °C, 锂, 😀 [/red]"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("a\ud800b", r"a\ud800b"),
        ("\0", r"\x00"),
    ],
)
def test_what_may_be_unseen_is_written_out(text, shown):
    assert visible(text) == shown


def test_lines_stay_where_they_are_meant():
    assert visible("a\n\tb\x1b\r", lines=True) == "a\n\tb\\x1b\\r"


@given(st.text(st.characters()))
def test_whatever_the_text_the_result_can_be_shown_and_stored(text):
    assert all(c.isprintable() for c in visible(text))
    assert all(c.isprintable() or c in "\n\t" for c in visible(text, lines=True))
    assert "\0" not in storable(text)
    assert storable(text).encode().decode() == storable(text)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_text_that_can_be_stored_stays_as_it_is(text):
    assert storable(text) == text


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "＝1+1"])
def test_a_formula_of_a_spreadsheet_is_quoted_unless_it_is_wanted(text):
    rows = [{"note": text, "capacity_mah_g": -1.5}]
    read = list(csv.DictReader(io.StringIO(csv_table(rows, ["note", "capacity_mah_g"]))))
    assert read == [{"note": f"'{text}", "capacity_mah_g": "-1.5"}]
    assert next(csv.DictReader(io.StringIO(csv_table(rows, ["note"], verbatim=True))))["note"] == text


@pytest.mark.parametrize("text", ["-", "Li1.2Mn0.8O2", "-1.5", "+3e-4", "", "a=b"])
def test_what_is_no_formula_is_not_quoted(text):
    assert next(csv.DictReader(io.StringIO(csv_table([{"note": text}], ["note"]))))["note"] == text
