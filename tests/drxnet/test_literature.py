from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.errors import DatasetError, UsageError
from drxnet.literature import (
    GROUPS,
    Coverage,
    LiteratureEvaluation,
    PublishedCapacity,
    coverage,
    evaluate_literature,
    leave_one_study_out,
    of_members,
    plot_literature,
    published_capacities,
    read_published,
    summary,
    table,
)

HEADER = ",".join(PublishedCapacity.__dataclass_fields__)


def row(study: str = "a", capacity: float = 200.0, formula: str = "Li1.2Mn0.4Ti0.4O2", **changes) -> PublishedCapacity:
    plain = PublishedCapacity(
        study, "A", "10.1/a", Composition.parse(formula), capacity, "value", None, None, None, None, None, "active",
        None, "other", "", "", "primary", "",
    )  # fmt: skip
    return replace(plain, **changes)


def evaluated(rows: list[PublishedCapacity], members: list[list[float]]) -> LiteratureEvaluation:
    return LiteratureEvaluation("by hand", tuple(rows), np.array(members))


def test_every_row_of_the_shipped_table_can_be_named_and_read() -> None:
    rows = published_capacities()
    assert len(rows) >= 42
    assert all(r.source_url for r in rows)
    assert all(0 < r.capacity_mah_g < 500 for r in rows)
    assert all(r.capacity_mah_g <= 1.02 * r.composition.theoretical_capacity_mah_g for r in rows)
    studies_of_doi: dict[str, set[str]] = {}
    for r in rows:
        if r.doi and r.quoted == "primary":
            studies_of_doi.setdefault(r.doi, set()).add(r.study)
    assert all(len(studies) == 1 for studies in studies_of_doi.values())  # leaving a study out leaves its DOI out


def test_the_table_holds_a_rate_pair_of_a_high_entropy_phase() -> None:
    pair = [r for r in published_capacities() if r.study == "lun-2021"]
    assert [(r.current_ma_g, r.capacity_mah_g, r.bound) for r in pair] == [
        (20, 307, "value"),
        (2000, 170, "at least"),
    ]


def test_what_a_paper_does_not_state_is_assumed_and_said() -> None:
    bare = row()
    assert str(bare.conditions) == "20 mA/g, 1.5-4.8 V, cycle 1"
    assert bare.assumed == ("current", "v_low", "v_high", "cycle")
    stated = row(current_ma_g=100.0, v_low=2.0, v_high=4.4, cycle=30)
    assert str(stated.conditions) == "100 mA/g, 2-4.4 V, cycle 30"
    assert stated.assumed == ()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("bound", "about", "bound is one of value, derived, at least, at most. Got 'about'"),
        ("capacity_mah_g", "many", "could not convert"),
        ("composition", "NaCl", "a disordered rocksalt holds Li"),
        ("study", "", "study and reference must not be empty"),
    ],
    ids=["bound", "capacity", "composition", "study"],
)
def test_a_row_that_cannot_be_read_names_its_line(tmp_path: Path, column: str, value: str, message: str) -> None:
    good = dict.fromkeys(HEADER.split(","), "") | {
        "study": "a", "reference": "A", "composition": "Li1.2Mn0.4Ti0.4O2", "capacity_mah_g": "200", "bound": "value",
        "mass_basis": "active", "laboratory": "other", "quoted": "primary",
    }  # fmt: skip
    path = tmp_path / "table.csv"
    path.write_text("\n".join([HEADER, ",".join(good.values())]))
    assert read_published(path)[0].capacity_mah_g == 200
    path.write_text("\n".join([HEADER, ",".join({**good, column: value}.values())]))
    with pytest.raises(DatasetError, match=message) as caught:
        read_published(path)
    assert "line 2" in str(caught.value)


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("study,reference\na,A\n")
    with pytest.raises(DatasetError, match="needs the columns composition, doi"):
        read_published(tmp_path / "table.csv")


def test_a_bound_that_is_kept_is_no_error() -> None:
    rows = [row(bound="at least"), row(bound="at least"), row(bound="at most"), row(bound="at most"), row()]
    found = evaluated(rows, [[250, 150, 250, 150, 250]] * 2)
    np.testing.assert_allclose(found.error_mah_g, [0, -50, 50, 0, 50])
    np.testing.assert_array_equal(found.counted, [False, False, False, False, True])
    assert not row(mass_basis="electrode").counted


def test_a_method_never_sees_the_study_it_is_asked_about() -> None:
    rows = [row(s, 100.0 * i) for i, s in enumerate("aabbc", start=1)]
    seen: list[tuple[set[str], set[str]]] = []

    def spy(known, asked, level):
        seen.append(({p.study for p in known.published}, {p.study for p in asked.published}))
        return asked.mean_mah_g - 1, asked.mean_mah_g + level

    found = evaluated(rows, [[10, 20, 30, 40, 50]] * 2)
    lower, upper = leave_one_study_out(found, spy, level=0.5)
    assert seen == [({"b", "c"}, {"a"}), ({"a", "c"}, {"b"}), ({"a", "b"}, {"c"})]
    np.testing.assert_allclose(lower, [9, 19, 29, 39, 49])  # every row got the ends of its own
    np.testing.assert_allclose(upper, [10.5, 20.5, 30.5, 40.5, 50.5])
    with pytest.raises(UsageError, match="at least two studies"):
        leave_one_study_out(found.select(np.array([True, True, False, False, False])), spy)


def test_coverage_counts_only_numbers_per_gram_of_oxide() -> None:
    rows = [row("a", 100.0), row("b", 200.0), row("c", 300.0, bound="at least"), row("d", 400.0)]
    found = evaluated(rows, [[100.0] * 4] * 2)
    lower, upper = np.full(4, 50.0), np.full(4, 250.0)
    result = coverage(found, lower, upper, np.ones(4, bool))
    assert (result.covered, result.count, result.studies) == (2, 3, 3)
    assert Coverage(0, 4, 4).range == (0.0, pytest.approx(1 - 0.025 ** (1 / 4)))
    assert Coverage(4, 4, 4).range == (pytest.approx(0.025 ** (1 / 4)), 1.0)


def test_groups_are_the_training_laboratory_and_others_by_lithium() -> None:
    rows = [row(laboratory="training"), row(), row(formula="LiFeO2")]
    assert tuple(r.group for r in rows) == GROUPS


def test_baselines_are_a_constant_and_a_fraction_of_the_lithium() -> None:
    rows = [row("a", 200.0), row("b", 260.0), row("c", 230.0)]
    found = evaluated(rows, [[200.0, 260.0, 230.0], [202.0, 262.0, 232.0]])
    everything = summary(found, of_members)[-1]
    assert everything["capacity_mae_mah_g"] == pytest.approx(1)
    assert everything["capacity_bias_mah_g"] == pytest.approx(1)
    assert everything["rank_correlation"] == pytest.approx(1)
    assert everything["constant_mae_mah_g"] == pytest.approx(20)
    lithium = rows[0].composition.theoretical_capacity_mah_g
    expected = np.abs(0.65 * lithium - np.array([200, 260, 230])).mean()
    assert everything["lithium_fraction_mae_mah_g"] == pytest.approx(expected)


def test_every_row_is_predicted_under_its_own_conditions(tmp_path: Path) -> None:
    ensemble = FakeEnsemble(3)
    found = evaluate_literature(ensemble)
    rows = published_capacities()
    for i in (1, 3, 20):
        alone = ensemble.capacity([rows[i].composition], [rows[i].conditions])[:, 0, 0]
        np.testing.assert_allclose(found.capacity_mah_g_members[:, i], alone)
    plain = table(found, of_members)
    assert len(plain) == len(rows)
    assert all(r["capacity_mah_g_lower"] < r["capacity_mah_g_mean"] < r["capacity_mah_g_upper"] for r in plain)
    plot_literature(found, tmp_path / "parity.png", of_members)
    assert (tmp_path / "parity.png").stat().st_size > 10_000
