from __future__ import annotations

import numpy as np
import pytest
from synthetic import FORMULAS, untrained_ensemble

from drxnet.composition import MODEL_METALS
from drxnet.discharge import CyclingConditions
from drxnet.errors import UsageError
from drxnet.process import NOT_STATED, Process, crossed
from drxnet.simulation import (
    DRX_FAMILIES,
    FARTHEST_LEAVES,
    OXIDATION_STATES,
    WORST_WORD_LEAVES,
    ChemicalFamily,
    ConditionMix,
    ProcessLaw,
    draw_domain,
    simulate,
)

UNDER = [CyclingConditions(20), CyclingConditions(1000, 2.0, 4.4, cycle=5)]


@pytest.mark.parametrize("name", DRX_FAMILIES)
def test_drawn_compositions_are_charge_balanced_and_of_their_family(name: str) -> None:
    _, family = DRX_FAMILIES[name]
    drawn = family.draw(20, np.random.default_rng(0))
    assert len(set(drawn)) == 20
    for composition in drawn:
        low, high = (sum(OXIDATION_STATES[m][end] * a for m, a in composition.metals.items()) for end in (0, 1))
        needed = 4 - composition.fluorine - composition.lithium
        assert low - 0.03 <= needed <= high + 0.03
        assert sum(a for _, a in composition.cations) == pytest.approx(2)
        assert set(composition.metals) <= set(family.metals)
        assert set(family.always) <= set(composition.metals)
        assert family.count[0] <= len(composition.metals) <= family.count[1]


def test_an_impossible_family_is_said() -> None:
    with pytest.raises(UsageError, match="0 of 5 charge-balanced"):
        ChemicalFamily(("W",), (1, 1)).draw(5, np.random.default_rng(0))


def test_oxidation_states_are_known_for_every_metal_of_the_model() -> None:
    assert set(OXIDATION_STATES) == set(MODEL_METALS) - {"Li"}


def test_conditions_follow_their_weights() -> None:
    mix = ConditionMix(currents_ma_g={20: 3, 1000: 1}, first_cycle_share=0.5, last_cycle=9)
    drawn = mix.draw(4000, np.random.default_rng(0))
    assert np.mean([c.current_ma_g == 20 for c in drawn]) == pytest.approx(0.75, abs=0.03)
    assert np.mean([c.cycle == 1 for c in drawn]) == pytest.approx(0.5, abs=0.03)
    assert {c.cycle for c in drawn} == set(range(1, 10))


def test_a_cell_keeps_its_current_and_window_and_starts_at_cycle_1() -> None:
    cells = ConditionMix(last_cycle=50).draw_cells(200, np.random.default_rng(0), discharges=6)
    for cell in cells:
        cycles = [c.cycle for c in cell]
        assert cycles[0] == 1
        assert cycles == sorted(set(cycles))
        assert len(cycles) == 6
        assert len({(c.current_ma_g, c.window) for c in cell}) == 1
    later = np.array([c.cycle for cell in cells for c in cell[1:]])
    assert later.min() == 2
    assert later.max() == 50
    assert np.mean(later <= 10) == pytest.approx(0.5, abs=0.05)  # evenly in the logarithm, none twice
    assert len({cell[0].current_ma_g for cell in cells}) > 5
    assert ConditionMix(last_cycle=3).draw_cells(1, np.random.default_rng(0), discharges=3)[0][-1].cycle == 3


def test_more_discharges_than_cycles_are_refused() -> None:
    with pytest.raises(UsageError, match="1 to 3 can be kept. Got 4"):
        ConditionMix(last_cycle=3).draw_cells(1, np.random.default_rng(0), discharges=4)


def test_discharges_of_a_cell_share_its_noise() -> None:
    under = [*UNDER, CyclingConditions(20, cycle=9)]
    formulas = [FORMULAS[0], FORMULAS[1], FORMULAS[0]]
    clean, noisy = (
        simulate(untrained_ensemble(), formulas, under, seed=3, noise=x, cells=[7, 2, 7]) for x in (0.0, 0.05)
    )
    factor = (noisy.capacity_mah_g / clean.capacity_mah_g)[:, 0]
    assert factor[0] == pytest.approx(factor[2], rel=1e-9)
    assert abs(factor[0] - factor[1]) > 1e-3
    with pytest.raises(UsageError, match="One cell per composition. Got 1 for 3"):
        simulate(untrained_ensemble(), formulas, under, seed=3, cells=[0])


def test_without_noise_the_model_is_the_truth() -> None:
    ensemble = untrained_ensemble()
    profiles = simulate(ensemble, FORMULAS[:2], UNDER, seed=0, noise=0.0, points=20)
    for row, (formula, conditions) in enumerate(zip(FORMULAS[:2], UNDER, strict=True)):
        expected = ensemble.predict([formula], conditions, conditions.grid(20)).numpy().mean(0)[0]
        np.testing.assert_allclose(profiles.capacity_mah_g[row], expected, rtol=1e-5)
    rising = np.gradient(profiles.capacity_mah_g[0], profiles.voltage_v[0])
    np.testing.assert_allclose(profiles.dqdv_mah_g_v[0][1:-1], rising[1:-1], rtol=0.05, atol=1e-4)


def test_noise_is_one_factor_per_cell() -> None:
    ensemble = untrained_ensemble()
    clean, noisy = (simulate(ensemble, FORMULAS[:2], UNDER, seed=3, noise=x, per_member=True) for x in (0.0, 0.05))
    ratio = noisy.capacity_mah_g / clean.capacity_mah_g
    assert ratio.shape == (2, 2, 100)
    assert np.ptp(ratio, axis=2).max() < 1e-9
    assert len(np.unique(ratio[..., 0].round(9))) == 4
    np.testing.assert_allclose(noisy.first_capacity_mah_g / clean.first_capacity_mah_g, ratio)


def test_the_seed_decides_the_noise() -> None:
    a, b, c = (simulate(untrained_ensemble(), FORMULAS[:2], UNDER, seed=s).fingerprint for s in (1, 1, 2))
    assert a == b != c


def test_conditions_must_match_compositions() -> None:
    with pytest.raises(UsageError, match="Got 2 for 1"):
        simulate(untrained_ensemble(), FORMULAS[:1], UNDER, seed=0)


def test_the_domain_is_where_members_agree() -> None:
    ensemble = untrained_ensemble()  # untrained members predict next to nothing, and agree on it
    drawn = draw_domain(ensemble, 40, np.random.default_rng(0), forbidden=lambda c: "Nb" in c.elements)
    assert len(drawn) == len(set(drawn)) >= 30
    assert not any("Nb" in c.elements for c in drawn)
    with pytest.raises(UsageError, match="agrees on no composition"):
        draw_domain(ensemble, 2, np.random.default_rng(0), most_spread_mah_g=0.0)


WAYS = crossed({"route": ["solid state"], "firing_temperature_c": [750, 850, 950], "milled": ["no", "yes"]})


def test_a_law_has_one_best_way_and_takes_a_share_for_each_condition() -> None:
    law = ProcessLaw.drawn(WAYS, seed=4)
    assert set(law.levels) == {"firing_temperature_c", "milled"}, "what all ways share decides nothing"
    best = Process.of({name: levels[0] for name, levels in law.levels.items()})
    shares = {way: law.share(way) for way in WAYS}
    assert law.share(best) == 1.0
    assert [way for way, share in shares.items() if share == 1.0] == [Process.of({"route": "solid state"}).over(best)]
    worst = {name: max(levels, key=lambda v, n=name: -law.share(Process.of({n: v}).over(best)))
             for name, levels in law.levels.items()}  # fmt: skip
    assert law.share(Process.of(worst)) == pytest.approx(FARTHEST_LEAVES * WORST_WORD_LEAVES)
    assert law.share(Process.of(worst), 1000) == pytest.approx((FARTHEST_LEAVES * WORST_WORD_LEAVES) ** 1.5)
    assert min(shares.values()) < law.share(NOT_STATED) < 1, "what nobody states is as usual"
    assert len({str(ProcessLaw.drawn(WAYS, seed).levels) for seed in range(12)}) > 3


def test_a_law_leaves_its_share_of_every_profile() -> None:
    ensemble, law = untrained_ensemble(), ProcessLaw.drawn(WAYS, seed=1)
    plain = [CyclingConditions(20), CyclingConditions(1000, cycle=3)]
    made = [CyclingConditions(c.current_ma_g, cycle=c.cycle, process=WAYS[0]) for c in plain]
    without = simulate(ensemble, FORMULAS[:2], plain, seed=3)
    under = simulate(ensemble, FORMULAS[:2], made, seed=3, law=law)
    assert under.processes == (WAYS[0], WAYS[0])
    assert without.processes == ()
    for row, c in enumerate(made):
        share = law.share(WAYS[0], c.current_ma_g)
        np.testing.assert_allclose(under.capacity_mah_g[row], share * without.capacity_mah_g[row], rtol=1e-12)
        np.testing.assert_allclose(under.dqdv_mah_g_v[row], share * without.dqdv_mah_g_v[row], rtol=1e-12)
