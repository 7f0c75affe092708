"""The fused kernel against the eager network, which is its definition."""

from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drxnet.checkpoint import ModelCard
from drxnet.composition import MODEL_METALS
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import FUSED_FROM, Amounts, Ensemble
from drxnet.errors import DRXWarning, UsageError
from drxnet.network import SITE_INDEX, SITES, DRXNet, NetworkShape

fused = pytest.importorskip("drxnet.fused", reason="numba is not installed (pip install '.[fast]')")

CONDITIONS = [CyclingConditions(20), CyclingConditions(1000, v_low=2.0, cycle=7)]


def ensemble_of(seed: int, scale: float = 1.0, **shape: int) -> Ensemble:
    torch.manual_seed(seed)
    network = DRXNet(NetworkShape(**{"members": 2, **shape}))
    with torch.no_grad():
        for layer in network.messages:
            for parameter in layer.parameters():
                parameter.mul_(scale)
    return Ensemble(network, ModelCard("random", 2), engine="fused")


ENSEMBLES = [ensemble_of(0), ensemble_of(1, scale=3.0)]


def random_amounts(seed: int, count: int, most: int = 13, symbols: tuple[str, ...] = MODEL_METALS) -> Amounts:
    """Compositions of 1 to ``most`` cations, in any order of counts."""
    rng = np.random.default_rng(seed)
    cations = np.zeros((count, len(symbols)))
    for row in cations:
        n = rng.integers(1, most + 1)
        row[rng.choice(len(symbols), n, replace=False)] = rng.dirichlet(np.full(n, 0.5)) * 2 + 1e-4
    return Amounts(symbols, torch.from_numpy(cations), torch.from_numpy(rng.choice([0, 0.1, 0.7], count)))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 90), which=st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_the_kernel_is_the_eager_network(seed, count, which):
    ensemble, amounts = ENSEMBLES[which], random_amounts(seed, count)
    expected = ensemble.with_engine("eager").features(amounts)
    assert torch.allclose(ensemble.features(amounts), expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 69), threads=st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_a_composition_has_the_same_bits_wherever_it_stands(seed, cut, threads):
    encoder = fused.FusedEncoder(ENSEMBLES[0].network)
    amounts = random_amounts(seed, 70)
    cations, fluorine = amounts.cations.numpy(), amounts.fluorine.numpy()
    sites = np.array([SITE_INDEX[s] for s in amounts.symbols])
    whole, _ = encoder(cations, fluorine, sites)
    order = np.random.default_rng(seed).permutation(70)
    shuffled, _ = encoder(cations[order], fluorine[order], sites, threads)
    assert torch.equal(shuffled, whole[:, order])
    assert torch.equal(encoder(cations[cut:], fluorine[cut:], sites)[0], whole[:, cut:])


def test_elements_beyond_the_models_own_are_encoded_too():
    amounts = random_amounts(3, 40, most=16, symbols=SITES)
    expected = ENSEMBLES[0].with_engine("eager").features(amounts)
    assert torch.allclose(ENSEMBLES[0].features(amounts), expected, atol=1e-4)


def test_auto_takes_the_kernel_where_there_is_enough_to_encode():
    ensemble = ENSEMBLES[0].with_engine("auto")
    assert ensemble.engine_for(FUSED_FROM) == "fused"
    assert ensemble.engine_for(FUSED_FROM - 1) == "eager"
    few = random_amounts(1, 30)
    assert torch.equal(ensemble.features(few), ensemble.with_engine("eager").features(few))
    many = Amounts(few.symbols, few.cations.repeat(FUSED_FROM // 30 + 1, 1), few.fluorine.repeat(FUSED_FROM // 30 + 1))
    assert torch.equal(ensemble.features(many)[:, :30], ensemble.with_engine("fused").features(few))


def test_gradients_come_from_the_eager_network():
    amounts = random_amounts(2, 3)
    amounts.cations.requires_grad_()
    ensemble = ENSEMBLES[0].with_engine("fused")
    with pytest.warns(DRXWarning, match="eager network stands in for the fused one: gradients are asked for"):
        (slope,) = torch.autograd.grad(ensemble.capacity(amounts, CONDITIONS).sum(), amounts.cations)
    (expected,) = torch.autograd.grad(
        ensemble.with_engine("eager").capacity(amounts, CONDITIONS).sum(), amounts.cations
    )
    assert torch.equal(slope, expected)


@pytest.mark.parametrize(
    ("ensemble", "reason"),
    [
        (Ensemble(DRXNet(NetworkShape(members=1)), ModelCard("f64", 1), dtype=torch.float64), "float32"),
        (ensemble_of(0, members=1, layers=2), "published shape"),
        (ensemble_of(0, members=1, features=16), "published shape"),
    ],
    ids=["float64", "two-layers", "sixteen-features"],
)
def test_what_the_kernel_cannot_do_the_eager_network_does_and_says_so_once(ensemble, reason):
    amounts = random_amounts(4, 5)
    twin = ensemble.with_engine("fused")
    with pytest.warns(DRXWarning, match=reason):
        features = twin.features(amounts)
    assert torch.equal(features, ensemble.with_engine("eager").features(amounts))
    assert torch.equal(twin.features(amounts), features)  # a second warning would be an error
    assert twin.engine_for(10**6) == "eager"


def test_more_than_sixteen_cations_go_to_the_eager_network():
    amounts = random_amounts(6, 4, most=2, symbols=SITES)
    amounts.cations[2] = 2 / len(SITES)
    with pytest.warns(DRXWarning, match=f"at most 16 cations, one composition has {len(SITES)}"):
        features = ENSEMBLES[0].with_engine("fused").features(amounts)
    assert torch.equal(features, ENSEMBLES[0].with_engine("eager").features(amounts))


def test_exponents_that_float32_cannot_hold_go_to_the_eager_network():
    ensemble, amounts = ensemble_of(2, scale=400.0), random_amounts(7, 20)
    with pytest.warns(DRXWarning, match="exponents of the network are too large"):
        features = ensemble.features(amounts)
    assert torch.equal(features, ensemble.with_engine("eager").features(amounts))


def test_without_numba_the_eager_network_goes_on_and_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_numba(name, *arguments, **more):
        if name == "drxnet.fused":
            raise ImportError("No module named 'numba'")
        return real(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, "drxnet.fused")
    monkeypatch.setattr(builtins, "__import__", without_numba)
    ensemble, amounts = ENSEMBLES[0].with_engine("fused"), random_amounts(8, 4)
    with pytest.warns(DRXWarning, match=r"extra `fast` \(pip install 'drx-screen\[fast\]'\)"):
        features = ensemble.features(amounts)
    assert torch.equal(features, ensemble.with_engine("eager").features(amounts))


def test_an_engine_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="auto, eager, compiled, fused. Got 'warp'"):
        ENSEMBLES[0].with_engine("warp")


def test_the_ensemble_loads_without_numba():
    """Importing it takes half a second, which a prediction of one composition must not pay."""
    script = "import sys; from drxnet import Ensemble; Ensemble.load(); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
