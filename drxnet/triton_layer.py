"""A message layer of the network as one Triton kernel, for a GPU; on a CPU it runs in Triton's interpreter, for tests.

One program per composition and member holds everything of it on the chip: the nodes are mapped, pairs are formed,
gated, weighted and summed, and only the new features are written. The algebra is that of :mod:`drxnet.fused`; the eager
network is the oracle. Triton comes with torch for CUDA. No GPU has run this yet: what is tested is tested in the
interpreter, and its speed is not known.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from drxnet.network import DRXNet

MOST_CATIONS = 16
"""Rows of a program, the smallest that a matrix unit takes; absent cations are masked."""


@triton.jit  # type: ignore[untyped-decorator]
def _layer(
    h_of: Any,
    w_of: Any,
    own_of: Any,
    other_of: Any,
    bias_of: Any,
    gate_of: Any,
    out_of: Any,
    out_bias_of: Any,
    new_of: Any,
    compositions: Any,
    n: Any,
    LOW: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
    HEADS: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> None:
    b, m = tl.program_id(0), tl.program_id(1)
    i, d, k = tl.arange(0, N), tl.arange(0, D), tl.arange(0, HIDDEN)
    place = (m * compositions + b) * n * D + i[:, None] * D + d[None, :]
    h = tl.load(h_of + place, mask=i[:, None] < n, other=0.0)
    w = tl.load(w_of + b * n + i, mask=i < n, other=0.0)
    new = tl.zeros((N, D), tl.float32)
    width: tl.constexpr = 2 * HEADS * HIDDEN
    for head in tl.static_range(HEADS):
        for part in tl.static_range(2):  # gate, then value
            column = (part * HEADS + head) * HIDDEN + k
            weight = m * D * width + d[:, None] * width + column[None, :]
            own_w, other_w = tl.load(own_of + weight), tl.load(other_of + weight)
            if LOW:
                half = h.to(tl.float16)
                x = tl.dot(half, own_w.to(tl.float16))
                y = tl.dot(half, other_w.to(tl.float16))
            else:
                x = tl.dot(h, own_w, input_precision="ieee")
                y = tl.dot(h, other_w, input_precision="ieee")
            y += tl.load(bias_of + m * width + column)[None, :]
            ex = tl.exp(-tl.clamp(x, -60.0, 60.0))
            ey = tl.exp(-tl.clamp(y, -60.0, 60.0))
            pair = (x[:, None, :] + y[None, :, :]) / (1.0 + ex[:, None, :] * ey[None, :, :])
            if part == 0:
                v = tl.load(gate_of + (m * HEADS + head) * HIDDEN + k)
                logit = tl.sum(pair * v[None, None, :], 2)  # N, N
                logit = tl.where(i[None, :] < n, logit, -1e30)
                a = w[None, :] * tl.exp(logit - tl.max(logit, 1)[:, None])
                a = a / (HEADS * tl.sum(a, 1)[:, None])
            else:
                pooled = tl.sum(pair * a[:, :, None], 1)  # N, HIDDEN
                at = m * HEADS * HIDDEN * D + (head * HIDDEN + k)[:, None] * D + d[None, :]
                out = tl.load(out_of + at)
                if LOW:
                    new += tl.dot(pooled.to(tl.float16), out.to(tl.float16))
                else:
                    new += tl.dot(pooled, out, input_precision="ieee")
    new += h + tl.load(out_bias_of + m * D + d)[None, :]
    tl.store(new_of + place, new, mask=i[:, None] < n)


class TritonEncoder:
    """Stands for ``DRXNet.encode`` without gradients, for at most 16 cations; message layers are one kernel each."""

    def __init__(self, network: DRXNet, *, low_precision: bool = False) -> None:
        """Copy what the kernel reads.

        Args:
            network: float32, on the device where it will run.
            low_precision: products in float16, for a first look; see :func:`drxnet.prefilter.exact_top`.
        """
        self.network, self.low = network, low_precision
        self._layers = [self._weights(layer) for layer in network.messages]

    @staticmethod
    def _weights(layer: Any) -> tuple[Tensor, ...]:
        parts = (layer.own.weight, layer.other.weight, layer.other.bias, layer.gate, layer.out.weight)
        return (*(part.contiguous() for part in parts), layer.out_bias.mean(1).contiguous())

    def __call__(self, sites: Tensor, w: Tensor, fluorine: Tensor) -> Tensor:
        """Composition vectors, ``M x B x d``; arguments as for the network."""
        network = self.network
        shape, (count, n) = network.shape, w.shape
        table = network.embed(network._each(network.element_vectors.to(w.dtype)))
        shift = network._each(network.fluorine_vector.to(w.dtype)) @ network.embed.weight
        nodes = table[:, sites] + fluorine[:, None, None] * shift.unsqueeze(1)
        h = torch.cat([nodes, network._each(w).unsqueeze(-1)], -1).contiguous()
        for own, other, bias, gate, out, out_bias in self._layers:
            new = torch.empty_like(h)
            _layer[(count, shape.members)](
                h, w.contiguous(), own, other, bias, gate, out, out_bias, new, count, n,
                LOW=self.low, N=MOST_CATIONS, D=shape.features, HEADS=shape.heads, HIDDEN=shape.attention_hidden,
            )  # fmt: skip
            h = new
        with torch.no_grad():
            return network.pool(h, w, None)
