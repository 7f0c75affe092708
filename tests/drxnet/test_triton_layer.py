"""The Triton kernel against the eager network, in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os

import pytest
import torch

from drxnet.network import DRXNet, NetworkShape

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def inputs(n: int, count: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    sites = torch.stack([torch.randperm(60, generator=generator)[:n] for _ in range(count)])
    w = torch.rand(count, n, generator=generator) + 0.01
    return sites.to(DEVICE), (w / w.sum(1, keepdim=True)).to(DEVICE), torch.tensor([0.0, 0.1, 0.35]).to(DEVICE)


@pytest.fixture(scope="module")
def network() -> DRXNet:
    torch.manual_seed(0)
    return DRXNet(NetworkShape(members=2)).float().eval().requires_grad_(requires_grad=False).to(DEVICE)


@pytest.mark.needs("triton")
def test_the_kernel_is_the_eager_network_and_in_low_precision_near_it(
    network: DRXNet, subtests: pytest.Subtests
) -> None:
    from drxnet import triton_layer as layer

    for n in (1, 2, 5, 8, 16):
        with subtests.test(n=n), torch.no_grad():
            expected = network.encode(*inputs(n))
            assert torch.allclose(layer.TritonEncoder(network)(*inputs(n)), expected, rtol=1e-4, atol=1e-5)
    with subtests.test("low precision"), torch.no_grad():
        expected = network.encode(*inputs(6))
        got = layer.TritonEncoder(network, low_precision=True)(*inputs(6))
        error = (got - expected).abs().max() / expected.abs().max()
        assert 1e-7 < error < 0.05
