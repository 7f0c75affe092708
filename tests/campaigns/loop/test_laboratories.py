"""Simulated laboratories: what each kind promises, by closed forms and by counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from campaigns.loop.laboratories import (
    FIELD_MAH_G,
    KINDS,
    FieldTruth,
    Laboratory,
    LaboratoryOptions,
    MemberTruth,
    PenaltyTruth,
    PhysicsTruth,
    Truth,
    _share_above,
    size_mismatch,
)
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts
from drxnet.errors import ConfigurationError
from drxnet.process import NOT_STATED
from drxnet.uncertainty import RATE_CORRELATION, shipped_levels
from screening.domain import known_compositions
from screening.goals import Goals

LOW, HIGH = CyclingConditions(20), CyclingConditions(1000)
METALS = ("Li", "Mn", "Ti", "Cr", "Nb", "F")
SOME = [Composition.parse(f) for f in ("Li1.2Mn0.4Ti0.4O2", "Li1.2Ti0.2Cr0.4Nb0.2O1.9F0.1", "Li1.3Mn0.4Nb0.3O2")]


@pytest.fixture(params=list(KINDS))
def truth(request: pytest.FixtureRequest) -> Truth:
    return KINDS[request.param](FakeEnsemble(3), 0, METALS)  # type: ignore[arg-type]


def test_truth_answers_as_an_ensemble_of_one_member(truth: Truth):
    capacity = truth.capacity(truth.encode(SOME), [LOW, HIGH])
    assert capacity.shape == (1, 3, 2)
    profile = truth.profiles(SOME, [LOW, HIGH], LOW.grid())
    assert profile.shape == (1, 3, 2, len(LOW.grid()))
    np.testing.assert_allclose(profile[..., 0], capacity)
    np.testing.assert_allclose(profile[..., -1], 0, atol=1e-9)
    assert (profile.diff(dim=-1) <= 1e-9).all()
    assert Goals().evaluate(truth, SOME).shape == (1, 3, 3)  # type: ignore[arg-type]


def test_same_seed_is_the_same_laboratory(truth: Truth):
    again = KINDS[truth.kind](FakeEnsemble(3), 0, METALS)  # type: ignore[arg-type]
    assert torch.equal(again.capacity(SOME, [LOW]), truth.capacity(SOME, [LOW]))
    alone = truth.capacity(SOME[1:2], [LOW])
    np.testing.assert_allclose(alone[0, 0], truth.capacity(SOME, [LOW])[0, 1])


def test_member_is_that_member():
    ensemble = FakeEnsemble(3)
    truth = KINDS["member"](ensemble, 4, METALS)  # type: ignore[arg-type]
    np.testing.assert_allclose(truth.capacity(SOME, [LOW])[0], ensemble.subset([1]).capacity(SOME, [LOW])[0])


class Flat(FakeEnsemble):
    """Predicts 300 mAh/g for everything."""

    def capacity(self, compositions, conditions):
        return torch.full((self.members, len(compositions), len(conditions)), 300.0, dtype=torch.float64)

    def profiles(self, compositions, conditions, voltages):
        share = torch.linspace(1, 0, len(voltages), dtype=torch.float64)
        return self.capacity(compositions, conditions)[..., None] * share


def test_fields_have_the_stated_spread_and_correlation():
    amounts = Amounts.of(known_compositions())
    shifts = np.stack(
        [[FieldTruth(Flat(2), seed).shift(amounts, i) for i in (20.0, 1000.0)] for seed in range(200)]  # type: ignore[arg-type]
    )  # seeds x 2 x n
    np.testing.assert_allclose(shifts.std((0, 2)), FIELD_MAH_G, rtol=0.1)
    assert np.corrcoef(shifts[:, 0, 0], shifts[:, 1, 0])[0, 1] == pytest.approx(0.6, abs=0.15)


def test_fields_are_smooth_and_shift_the_capacity():
    truth = FieldTruth(Flat(2), 3)  # type: ignore[arg-type]
    near = [Composition.parse(f) for f in ("Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.41Ti0.39O2", "Li1.2Ni0.4Nb0.4O1.6F0.4")]
    shift = truth.shift(Amounts.of(near), 20.0)
    assert abs(shift[0] - shift[1]) < 2.0 < abs(shift[0] - shift[2])
    np.testing.assert_allclose(truth.capacity(near, [LOW])[0, :, 0], 300 + shift)


def test_dead_pair_loses_the_whole_amount_from_a_lattice_step_on():
    truth = PenaltyTruth(Flat(2), ("Mn", "Ti"))  # type: ignore[arg-type]
    formulas = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.775Ti0.025O2", "Li1.2Mn0.4Cr0.4O2"]
    lost = 300 - truth.capacity(formulas, [LOW, HIGH])[0]
    np.testing.assert_allclose(lost, [[60, 60], [30, 30], [0, 0]], atol=1e-6)


def test_pair_is_drawn_from_the_metals_of_the_space():
    pairs = {KINDS["penalty"](FakeEnsemble(2), s, METALS).pair for s in range(60)}  # type: ignore[arg-type, attr-defined]
    assert len(pairs) == 6
    assert set().union(*pairs) == {"Mn", "Ti", "Cr", "Nb"}


def test_large_mismatches_fail_more_often():
    mixed = [Composition.parse(f) for f in ("Li1.2Mn0.4Mg0.4O2", "Li1.1Zr0.4Al0.5O2")]
    small, large = size_mismatch(mixed)
    assert small < large
    chances = PenaltyTruth(Flat(2)).failure(mixed)  # type: ignore[arg-type]
    assert chances[0] < 0.5 < chances[1]
    assert (MemberTruth(Flat(2)).failure(mixed) == 0).all()  # type: ignore[arg-type]


def test_a_demanding_laboratory_fails_where_others_do_not():
    usual = [Composition.parse("Li1.2Mn0.4Ti0.4O2")]
    truths = [KINDS[kind](Flat(2), 0, ("Mn", "Ti", "Nb")) for kind in ("penalty", "demanding")]  # type: ignore[arg-type]
    lenient, demanding = (float(truth.failure(usual)[0]) for truth in truths)
    assert lenient < demanding
    assert truths[0].pair == truths[1].pair  # type: ignore[attr-defined]


def test_physics_needs_lithium_beyond_the_threshold_and_redox_metals():
    truth = PhysicsTruth()
    rich, poor, inert = truth.capacity(["Li1.3Mn0.4Cr0.3O2", "Li1.0Mn0.6Cr0.4O2", "Li1.3Ti0.3Zr0.4O2"], [LOW])[0, :, 0]
    assert rich > poor > inert
    slow, fast = truth.capacity(["Li1.2Mn0.4Ti0.4O2"], [LOW, HIGH])[0, 0]
    assert slow > fast > 0


class Row:
    """What a laboratory reads of a proposal."""

    def __init__(self, composition: str) -> None:
        self.composition, self.proposal_id, self.round, self.process = composition, "R01-01", 1, NOT_STATED


def test_common_mass_error_is_one_factor_for_all_cells():
    lab = Laboratory(Flat(1), LaboratoryOptions(noise=0, common_mass_error=0.08), seed=5)  # type: ignore[arg-type]
    rows = lab.measure([Row(str(c)) for c in SOME], [LOW, HIGH], 2)  # type: ignore[arg-type]
    capacities = {round(r["capacity_mah_g"], 6) for r in rows}
    assert capacities == {round(300 * lab.mass_factor, 6)}
    factors = [Laboratory(Flat(1), lab.options, seed=s).mass_factor for s in range(300)]  # type: ignore[arg-type]
    assert np.std(factors) == pytest.approx(0.08, rel=0.15)


def test_an_offset_is_one_shift_of_all_cells_at_a_rate_as_large_as_published_ones():
    lab = Laboratory(Flat(1), LaboratoryOptions(noise=0, offset=1.0), seed=3)  # type: ignore[arg-type]
    rows = lab.measure([Row(str(c)) for c in SOME], [LOW, HIGH], 1)  # type: ignore[arg-type]
    found = {r["current_ma_g"]: r["capacity_mah_g"] for r in rows}
    assert len({round(r["capacity_mah_g"], 6) for r in rows}) == 2
    assert found[20] == pytest.approx(300 + lab.shift_mah_g(20))
    assert found[1000] == pytest.approx(300 + lab.shift_mah_g(1000))
    labs = [Laboratory(Flat(1), lab.options, seed=s) for s in range(400)]  # type: ignore[arg-type]
    low, high = (np.array([one.shift_mah_g(current) for one in labs]) for current in (20, 1000))
    size = shipped_levels().laboratory.laboratory_mah_g
    assert [low.std(), high.std()] == pytest.approx([size, size], rel=0.1)
    assert np.corrcoef(low, high)[0, 1] == pytest.approx(RATE_CORRELATION, abs=0.05)
    assert Laboratory(Flat(1), LaboratoryOptions(), seed=3).shift_mah_g(20) == 0  # type: ignore[arg-type]


def test_one_rate_gives_cells_at_the_low_rate_alone():
    lab = Laboratory(Flat(1), LaboratoryOptions(one_rate=True))  # type: ignore[arg-type]
    rows = lab.measure([Row("Li1.2Mn0.4Ti0.4O2")], [LOW, HIGH], 3)  # type: ignore[arg-type]
    assert [r["current_ma_g"] for r in rows] == [20, 20, 20]


def test_syntheses_fail_as_often_as_the_truth_and_chance_say():
    truth = PenaltyTruth(Flat(2))  # type: ignore[arg-type]
    (own,) = truth.failure([Composition.parse("Li1.2Mn0.4Ti0.4O2")])
    labs = [Laboratory(truth, LaboratoryOptions(failures=0.1), seed) for seed in range(2000)]
    share = np.mean([lab.fails(Row("Li1.2Mn0.4Ti0.4O2")) for lab in labs])  # type: ignore[arg-type]
    assert share == pytest.approx(1 - 0.9 * (1 - own), abs=0.03)


@pytest.mark.parametrize("wrong", [{"noise": 1.0}, {"common_mass_error": -0.1}, {"failures": 1.2}, {"delays": -1}])
def test_options_that_are_no_share_are_refused(wrong: dict[str, float]):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is .* from 0 to below 1. Got"):
        LaboratoryOptions(**wrong)


def test_a_negative_offset_is_refused():
    with pytest.raises(ConfigurationError, match="offset is a multiple of a standard deviation, from 0. Got -1"):
        LaboratoryOptions(offset=-1)


def test_a_discharge_of_the_law_gives_its_capacity_around_a_middle_voltage():
    voltages, middle = np.array([1.5, 2.55, 3.0, 3.45, 4.8]), np.array(3.0)
    share = _share_above(voltages, 1.5, 4.8, middle)
    assert (share[0], share[-1]) == (1.0, 0.0)
    within_a_width = np.tanh(0.5) / (1 / (1 + np.exp(-1.5 / 0.45)) - 1 / (1 + np.exp(1.8 / 0.45)))
    assert share[1] - share[3] == pytest.approx(within_a_width)
