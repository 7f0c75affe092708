from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from drxnet.network import SITE_INDEX, DRXNet, NetworkShape, _silu


@pytest.fixture
def network() -> DRXNet:
    torch.manual_seed(0)
    return DRXNet(NetworkShape(members=2)).double().eval()


SITES = torch.tensor([[SITE_INDEX[s] for s in ("Li", "Mn", "Ti", "Nb")]])
WEIGHTS = torch.tensor([[0.6, 0.2, 0.15, 0.05]], dtype=torch.float64)
FLUORINE = torch.tensor([0.1], dtype=torch.float64)


def one(x: float) -> torch.Tensor:
    return torch.tensor([x], dtype=torch.float64)


def test_a_forward_pass_gives_members_by_tests_by_voltages(network):
    first, now = network(
        SITES.repeat(3, 1), WEIGHTS.repeat(3, 1), FLUORINE.repeat(3), one(20).repeat(3), one(10).repeat(3),
        torch.tensor([[1.5, 4.8]], dtype=torch.float64).repeat(3, 1), torch.linspace(1.5, 4.8, 7).double().expand(3, 7),
    )  # fmt: skip
    assert first.shape == now.shape == (2, 3, 7)
    assert (first > 0).all()


def test_cycle_one_is_the_first_cycle(network):
    u = network.encode(SITES, WEIGHTS, FLUORINE)
    first, now = network.condition(u, one(20), one(1))
    assert torch.equal(first, now)


def test_the_order_of_cations_does_not_matter(network):
    order = torch.tensor([2, 0, 3, 1])
    expected = network.encode(SITES, WEIGHTS, FLUORINE)
    assert torch.allclose(network.encode(SITES[:, order], WEIGHTS[:, order], FLUORINE), expected, atol=1e-12)


@pytest.mark.parametrize("symbol", ["Ni", "W", "Li"])
def test_a_cation_of_weight_zero_changes_nothing(network, symbol):
    sites = torch.cat([SITES, torch.tensor([[SITE_INDEX[symbol]]])], 1)
    weights = torch.cat([WEIGHTS, torch.zeros(1, 1, dtype=torch.float64)], 1)
    expected = network.encode(SITES, WEIGHTS, FLUORINE)
    assert torch.allclose(network.encode(sites, weights, FLUORINE, weights > 0), expected, atol=1e-12)


def test_the_derivative_with_respect_to_an_absent_cation_is_that_of_adding_a_little_of_it(network):
    sites = torch.cat([SITES, torch.tensor([[SITE_INDEX["Ni"]]])], 1)
    weights = torch.cat([WEIGHTS, torch.zeros(1, 1, dtype=torch.float64)], 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network.encode(sites, weights, FLUORINE, weights > 0).sum(), weights)
    step = torch.zeros_like(weights)
    step[0, -1] = 1e-6
    with torch.no_grad():
        more = network.encode(sites, weights + step, FLUORINE)
        rise = more.sum() - network.encode(sites, weights, FLUORINE, weights > 0).sum()
    assert gradient[0, -1].item() == pytest.approx(rise.item() / 1e-6, rel=1e-4)


def test_the_slope_is_the_derivative_of_the_capacity(network):
    u = network.encode(SITES, WEIGHTS, FLUORINE)
    window = torch.tensor([[1.5, 4.8]], dtype=torch.float64)
    v = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64)
    q, slope = network.state_and_slope(u, window, v)
    assert torch.equal(q, network.state(u, window, v))
    numeric = (network.state(u, window, v + 1e-6) - network.state(u, window, v - 1e-6)) / 2e-6
    assert torch.allclose(slope, numeric, atol=1e-6)


def test_the_slope_needs_no_autograd(network):
    with torch.no_grad():
        u = network.encode(SITES, WEIGHTS, FLUORINE)
        _, slope = network.state_and_slope(
            u, torch.tensor([[1.5, 4.8]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
        )
    assert not slope.requires_grad
    assert slope.abs().max() > 0


def test_members_do_not_influence_each_other(network):
    alone = DRXNet(NetworkShape(members=1)).double().eval()
    alone.load_state_dict({k: v[1:] for k, v in network.state_dict().items()})
    together = network.encode(SITES, WEIGHTS, FLUORINE)[1]
    assert torch.allclose(alone.encode(SITES, WEIGHTS, FLUORINE)[0], together, atol=1e-12)


def test_batch_statistics_are_used_and_followed_in_training_only(network):
    u = network.encode(SITES, WEIGHTS, FLUORINE).expand(-1, 4, -1)
    before = network.rate.norm.mean.clone()
    network.condition(u, torch.tensor([20.0, 100, 400, 1000]).double(), torch.ones(4).double())
    assert torch.equal(network.rate.norm.mean, before)
    network.train()
    network.condition(u, torch.tensor([20.0, 100, 400, 1000]).double(), torch.ones(4).double())
    assert not torch.equal(network.rate.norm.mean, before)


def test_an_untrained_member_has_the_published_number_of_parameters():
    shared = sum(p.numel() for p in DRXNet(NetworkShape(members=1)).parameters())
    # the published 128,778 count a bias of every attention's gate, which cancels in the softmax
    assert shared == 128_778 - 3 * 4


def test_silu_is_differentiated_twice() -> None:
    x = torch.linspace(-8, 8, 41, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(_silu(x), torch.nn.functional.silu(x))
    assert gradcheck(_silu, x)
    assert gradgradcheck(_silu, x)
