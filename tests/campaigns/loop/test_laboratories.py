"""Simulated laboratories: what each kind promises, by closed forms and by counting."""

from __future__ import annotations

import math

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
    by_element,
    size_mismatch,
)
from drxnet.composition import FARADAY_MAH_MOL, Composition
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


@pytest.mark.parametrize(
    ("formula", "middle"),
    [
        ("Li1.2Mn0.8O2", 2.9),
        ("Li1.2Ni0.4Nb0.4O2", 3.1),
        ("Li1.2Mn0.4Ti0.4O2", 2.75),
        ("Li1.2Ni0.2Co0.2Ti0.2V0.2O2", 2.95),
        ("Li1.3Co0.6Mn0.1O1.5F0.5", 2.9 + 0.4 * 6 / 7),
    ],
)
def test_the_middle_of_a_physics_discharge_goes_by_the_shares_of_its_metals(formula: str, middle: float):
    profile = PhysicsTruth(3).profiles([formula], [LOW], LOW.grid())[0, 0, 0].numpy()
    np.testing.assert_allclose(profile / profile[0], _share_above(LOW.grid(), 1.5, 4.8, np.array(middle)), atol=1e-9)


def paths_beyond(excess: float, strength: float) -> float:
    return 1 - math.exp(-excess / (0.12 * strength))


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(
    ("formula", "moved", "slowness"),
    [
        # no lithium percolates: a third of it moves, and slowly
        ("Li1.0Mn1.0O2", lambda s: 0.35, lambda s: 0.15 + 1.6 * s[4] * 0.4),
        # no electrons but those of oxygen
        ("Li1.3Zr0.7O2", lambda s: 0.35 * s[3] * 0.3, None),
        ("Li1.3Zr0.7O1.6F0.4", lambda s: 0.35 * s[3] * 0.3 * 0.6, None),
        # iron gives one each, and oxygen its part
        ("Li1.3Fe0.35Mg0.35O2", lambda s: 0.35 + 0.35 * s[3] * 0.3, None),
        # lithium beyond 1.03 percolates where nothing orders and one metal is alone
        (
            "Li1.3Mn0.7O2",
            lambda s: 1.3 * (0.35 + 0.6 * paths_beyond(0.27, s[2])),
            lambda s: 0.15 + 1.6 * s[4] * (1 - paths_beyond(0.27, s[2])) * 0.4,
        ),
        # order raises the threshold, many metals and fluorine lower it
        (
            "Li1.2Mn0.6V0.2O1.8F0.2",
            lambda s: 1.2 * (0.35 + 0.6 * paths_beyond(0.19 - 0.055 * s[0] + 0.06 * s[1] * 0.562335, s[2])),
            lambda s: (
                0.15
                + 1.6
                * s[4]
                * (1 - paths_beyond(0.19 - 0.055 * s[0] + 0.06 * s[1] * 0.562335, s[2]))
                * (0.4 + 0.25 * s[0])
            ),
        ),
    ],
    ids=["poor", "oxygen", "fluorine", "iron", "one-metal", "ordered"],
)
def test_a_physics_laboratory_follows_its_laws(formula: str, moved, slowness, seed: int):
    """A capacity at current I is F moved / M, over 1 + slowness (I / 1000)^0.7, and falls by 0.4 % per cycle."""
    strength = 1 + 0.15 * np.random.default_rng([seed, 4]).uniform(-1, 1, 5)
    full = FARADAY_MAH_MOL * moved(strength) / Composition.parse(formula).molar_mass
    at = [CyclingConditions(current, cycle=cycle) for current in (1e-6, 200.0, 1000.0) for cycle in (1, 11)]
    found = PhysicsTruth(seed).capacity([formula], at)[0, 0].numpy().reshape(3, 2)
    assert found[0, 0] == pytest.approx(full, rel=1e-5)
    np.testing.assert_allclose(found[:, 1] / found[:, 0], math.exp(-0.04))
    if slowness is not None:
        lost = full / found[1:, 0] - 1
        assert lost == pytest.approx(slowness(strength) * np.array([0.2**0.7, 1.0]), rel=1e-4)


def test_fields_are_alike_over_their_length_and_no_further():
    """A field with a normal kernel: the correlation over a distance d is exp(-d^2 / 2), in lengths of half a pair."""
    known = by_element(Amounts.of(known_compositions()))
    typical = math.sqrt(2 * known.var(0, ddof=1).sum())
    apart = (0.1, 0.25, 0.45)
    formulas = ["Li1.2Mn0.6Ti0.2O2", *(f"Li1.2Mn{0.6 - x:g}Ti{0.2 + x:g}O2" for x in apart)]
    amounts = Amounts.of(formulas)
    shifts = np.stack([FieldTruth(Flat(1), seed).shift(amounts, 20.0) for seed in range(800)])  # type: ignore[arg-type]
    found = np.corrcoef(shifts.T)[0, 1:]
    lengths = math.sqrt(2) * np.array(apart) / (0.5 * typical)
    assert found == pytest.approx(np.exp(-(lengths**2) / 2), abs=0.08)
    assert found[0] > 0.8 > found[1] > 0.3 > found[2]


def test_the_waves_of_a_field_begin_anywhere_within_a_turn():
    nothing = Amounts(("Li",), torch.full((1, 1), 2.0), torch.zeros(1))
    begins = np.sort(FieldTruth(Flat(1), 2)._angles(nothing)[0])  # type: ignore[arg-type]
    assert begins == pytest.approx(np.linspace(0, 2 * np.pi, len(begins)), abs=0.4)


@pytest.mark.parametrize(
    ("current", "share"), [(5.0, 0.0), (20.0, 0.0), (math.sqrt(20_000), 0.5), (1000.0, 1.0), (4000.0, 1.0)]
)
def test_between_the_rates_what_is_given_there_mixes_with_the_logarithm_of_the_current(current: float, share: float):
    amounts = Amounts.of(SOME)
    truth = FieldTruth(Flat(1), 3)  # type: ignore[arg-type]
    low, high = (truth.shift(amounts, c) for c in (20.0, 1000.0))
    np.testing.assert_allclose(truth.shift(amounts, current), (1 - share) * low + share * high)
    lab = Laboratory(Flat(1), LaboratoryOptions(offset=1.0), seed=3)  # type: ignore[arg-type]
    mixed = (1 - share) * lab.shift_mah_g(20) + share * lab.shift_mah_g(1000)
    assert lab.shift_mah_g(current) == pytest.approx(mixed)


def test_a_capacity_is_never_shifted_below_a_fiftieth():
    class Sunk(FieldTruth):
        def shift(self, amounts, current_ma_g):
            return np.array([-280.0, -299.0, 50.0])

    capacity = Sunk(Flat(1), 0).capacity(SOME, [LOW])[0, :, 0]  # type: ignore[arg-type]
    np.testing.assert_allclose(capacity, [20.0, 6.0, 350.0])
    lab = Laboratory(Flat(1), LaboratoryOptions(offset=50.0), seed=3)  # type: ignore[arg-type]
    for current in (20.0, 1000.0):
        shift = lab.shift_mah_g(current)
        assert lab.shifted(np.array([10.0, 300.0]), current).tolist() == pytest.approx(
            [max(10 + shift, 0.2), max(300 + shift, 6.0)]
        )
