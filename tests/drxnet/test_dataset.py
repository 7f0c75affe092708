from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import FORMULAS, linear_profiles, write_drx_td_example

from drxnet.composition import Composition
from drxnet.dataset import (
    ProfileSet,
    Record,
    family,
    plot_summary,
    read_profiles,
    refuse_overlap,
    same_rate,
    summarize,
)
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import DataRefused, DatasetError

LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")
VOLTAGE = np.linspace(1.5, 4.8, 31)


def straight(total: float, cycle: int = 1, current: float = 20.0) -> Record:
    profile = DischargeProfile(VOLTAGE, total * (4.8 - VOLTAGE) / 3.3)
    return Record(LMTO, CyclingConditions(current, cycle=cycle), profile)


def test_a_straight_discharge_keeps_its_capacity_and_has_a_constant_slope() -> None:
    profiles = ProfileSet.from_discharges([straight(330.0)], points=12)
    np.testing.assert_allclose(profiles.capacity_mah_g[0], 330 * (4.8 - profiles.voltage_v[0]) / 3.3, atol=1e-9)
    np.testing.assert_allclose(profiles.dqdv_mah_g_v, -100, atol=1e-9)


def test_later_cycles_know_their_first_cycle() -> None:
    profiles = ProfileSet.from_discharges(
        [straight(200, 7), straight(250, 1), straight(100, 1, current=1000)], points=5
    )
    np.testing.assert_allclose(profiles.first_capacity_mah_g[0], 250 * (4.8 - profiles.voltage_v[0]) / 3.3)
    np.testing.assert_allclose(profiles.first_capacity_mah_g[2], profiles.capacity_mah_g[2])


def test_currents_as_measured_differ_a_little_between_the_cycles_of_a_cell() -> None:
    measured = [straight(250, 1, 20.0131), straight(240, 2, 19.9987), straight(230, 3, 20.4), straight(150, 4, 21.2)]
    first = ProfileSet.from_discharges(measured, points=5).first_capacity_mah_g
    expected = 250 * (4.8 - np.linspace(1.5, 4.8, 5)) / 3.3
    np.testing.assert_allclose(first[:3], [expected] * 3)
    assert np.isnan(first[3]).all()  # 6 % more is another rate


@pytest.mark.parametrize(
    ("other", "same"),
    [((20.9, 1.5, 4.8), True), ((21.1, 1.5, 4.8), False), ((20, 1.51, 4.78), True), ((20, 1.5, 4.7), False)],
)
def test_same_rate_allows_for_what_a_cycler_measures(other: tuple[float, float, float], same: bool) -> None:
    assert same_rate(CyclingConditions(20, 1.5, 4.8), CyclingConditions(*other, cycle=9)) is same


def test_the_first_cycle_of_another_cell_is_not_taken() -> None:
    profiles = ProfileSet.from_discharges([straight(200, 7), straight(250, 1)], cells=["A", "B"])
    assert np.isnan(profiles.first_capacity_mah_g[0]).all()


def test_a_capacity_alone_constrains_only_the_lower_cut_off() -> None:
    alone = Record(LMTO, CyclingConditions(20, 2.0, 4.4), capacity_mah_g=180.0)
    profiles = ProfileSet.from_discharges([alone, straight(250)])
    assert profiles.whole.tolist() == [False, True]
    assert (profiles.voltage_v[0] == 2.0).all()
    assert (profiles.capacity_mah_g[0] == 180).all()
    assert np.isnan(profiles.dqdv_mah_g_v[0]).all()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(LMTO, CyclingConditions(20)), "neither a profile nor a capacity"),
        (Record(None, CyclingConditions(20), capacity_mah_g=3.0), "needs the composition"),  # type: ignore[arg-type]
        (Record(LMTO, None, capacity_mah_g=3.0), "needs the cycling conditions"),  # type: ignore[arg-type]
    ],
    ids=["empty", "no composition", "no conditions"],
)
def test_incomplete_discharges_are_refused(record: Record, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        ProfileSet.from_discharges([record])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("capacity_mah_g", np.nan, "Profile 3 .*capacity_mah_g must be finite"),
        ("capacity_mah_g", 5000.0, "must lie within 1000 mAh/g"),
        ("voltage_v", np.inf, "voltage_v must be finite"),
        ("current_ma_g", 0.0, "current must be positive"),
        ("cycle", 0.0, "counted from 1"),
        ("window_v", 5.0, "lower cut-off must lie below"),
    ],
)
def test_bad_values_are_refused_with_their_row(column: str, value: float, message: str) -> None:
    profiles = linear_profiles()
    bad = getattr(profiles, column).copy()
    bad[3] = value
    with pytest.raises(DatasetError, match=message):
        replace(profiles, **{column: bad})


def test_no_profile_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least one profile"):
        ProfileSet.from_discharges([])
    with pytest.raises(DatasetError, match="at least one profile"):
        linear_profiles().select([])


def test_shapes_must_fit() -> None:
    with pytest.raises(DatasetError, match="cycle must have the shape"):
        replace(linear_profiles(), cycle=np.ones(3))


@given(st.integers(2, 40), st.integers(2, 4), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_folds_never_share_a_composition(count: int, folds: int, seed: int) -> None:
    profiles = linear_profiles(max(count, folds), 3, formulas=FORMULAS)
    of = profiles.folds(folds, seed)
    assert set(of.tolist()) == set(range(folds))
    for composition in profiles.unique[0]:
        rows = [i for i, c in enumerate(profiles.compositions) if c == composition]
        assert len(set(of[rows].tolist())) == 1


def test_holding_out_splits_by_composition() -> None:
    train, test = linear_profiles(24, formulas=FORMULAS).hold_out(0.25, seed=3)
    assert len(train) + len(test) == 24
    assert len(test.unique[0]) == 2
    refuse_overlap(train, test)


def test_one_composition_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match="needs as many compositions"):
        linear_profiles(formulas=FORMULAS[:1]).hold_out(0.5, seed=0)


def test_overlap_is_refused_except_for_first_cycles() -> None:
    profiles = ProfileSet.from_discharges([straight(250, 1), straight(240, 2)])
    first, later = profiles.select([0]), profiles.select([1])
    refuse_overlap(first, later, first_cycle_allowed=True)
    with pytest.raises(DatasetError, match=r"Li1.2Ti0.4Mn0.4O2. Split by composition"):
        refuse_overlap(first, later)
    with pytest.raises(DatasetError, match="trained on and tested"):
        refuse_overlap(later, first, first_cycle_allowed=True)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Li1.25Mn0.75O2", "2TM"),
        ("Li1.2Mn0.4Ti0.4O2", "2TM"),
        ("Li1.2Mn0.2Cr0.2Ti0.4O2", "3TM"),
        ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "HE"),
    ],
)
def test_families_go_by_the_number_of_metals(formula: str, expected: str) -> None:
    assert family(Composition.parse(formula)) == expected


def test_a_set_survives_the_disk(tmp_path: Path) -> None:
    for profiles in (linear_profiles(), linear_profiles().for_members(2)):
        profiles.save(tmp_path / "set.npz")
        again = read_profiles(tmp_path / "set.npz")
        assert again.compositions == profiles.compositions
        np.testing.assert_allclose(again.capacity_mah_g, profiles.capacity_mah_g, atol=1e-4)
    assert ProfileSet.load(tmp_path / "set.npz").fingerprint == again.fingerprint


def test_a_damaged_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"PK nothing")
    with pytest.raises(DatasetError, match="not a set of profiles"):
        read_profiles(tmp_path / "set.npz")
    with pytest.raises(DatasetError, match="no such file"):
        read_profiles(tmp_path / "nowhere")


@pytest.mark.parametrize("seed", range(3))
def test_a_set_with_wrong_bytes_is_refused_or_read_never_a_crash(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path, refused = tmp_path / "set.npz", 0
    linear_profiles(4).save(path)
    whole = path.read_bytes()
    for number in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole))] if number % 2 else whole)
        for at in rng.integers(len(damaged), size=4) if damaged else ():
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            ProfileSet.load(path)
        except DataRefused:
            refused += 1
    assert refused >= 30


def test_the_fingerprint_tells_sets_apart() -> None:
    assert linear_profiles().fingerprint == linear_profiles().fingerprint
    assert linear_profiles().fingerprint != linear_profiles(seed=1).fingerprint


def test_a_csv_as_the_published_one_is_a_set_of_profiles(tmp_path: Path) -> None:
    profiles = read_profiles(write_drx_td_example(tmp_path / "example.csv"))
    assert set(profiles.compositions) == {LMTO}
    assert profiles.cycle.tolist() == list(range(1, 11))
    assert profiles.capacity_mah_g[:, 0] == pytest.approx(240 * 0.98 ** np.arange(10), abs=0.1)
    assert np.abs(profiles.first_capacity_mah_g[5, 5:] - profiles.capacity_mah_g[0, 5:]).max() < 8
    assert (profiles.dqdv_mah_g_v <= 0).all()


def test_summary_counts_profiles_and_compositions(tmp_path: Path) -> None:
    summary = summarize(linear_profiles(12))
    assert summary["profiles"] == 12
    assert summary["compositions"] == 4
    assert summary["oxides"] == 6
    assert summary["elements"]["Li"] == {"profiles": 12, "compositions": 4}
    assert summary["elements"]["Nb"] == {"profiles": 3, "compositions": 1}
    assert summary["families"] == {"2TM": 6, "3TM": 3, "HE": 3}
    assert sum(summary["current_ma_g"].values()) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_summary(summary, tmp_path / "set.png")
    assert (tmp_path / "set.png").stat().st_size > 10_000


def test_every_model_metal_has_its_place_in_the_picture() -> None:
    from drxnet.composition import MODEL_METALS
    from drxnet.dataset import _places

    place = _places()
    assert set(MODEL_METALS) | {"O", "F"} <= place.keys()
    assert place["F"] == (16, 1)
    assert place["Mn"] == (6, 3)
    assert place["He"] == (17, 0)
    assert len(place) == len(set(place.values())) == 72
