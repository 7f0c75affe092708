"""DRXNet, with a leading axis of ensemble members on every layer.

Zhong et al., Joule 8 (2024), doi:10.1016/j.joule.2024.03.010, equations 2-11; the composition part is Roost
(Goodall and Lee, Nat. Commun. 11, 6280 (2020)). Data flow from top to bottom of this file:

    encode     elements, amounts, fluorine      -> u     composition vector
    condition  u, current, cycle                -> c     at cycle 1 and at the given cycle
    state      c, window, voltage               -> Q     capacity

Each is evaluated exactly as often as its inputs change. Letters for shapes: M members, B compositions (or
tests), n cations of a composition, K voltages, d features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from drxnet.composition import METALS_BY_NUMBER
from drxnet.elements import VECTOR_LENGTH, element_vectors

SITES: tuple[str, ...] = tuple(METALS_BY_NUMBER)
"""Symbols of the cations; an element is passed to the network as its index here."""

SITE_INDEX = {symbol: i for i, symbol in enumerate(SITES)}

NOTHING_STATED: Mapping[str, Tensor] = MappingProxyType({})
"""No condition of the process."""

_MAX_EXPONENT = 60.0
"""Exponentials must stay finite in float32; those of this network lie far below."""


class Linear(nn.Module):
    """One linear map per member: ``M x ... x i -> M x ... x o``."""

    def __init__(self, members: int, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's map to its own rows."""
        return _affine(x, self.weight, self.bias)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """One matrix per member on rows: ``M x ... x i`` and ``M x i x o -> M x ... x o``."""
    flat = x.flatten(1, -2)
    y = flat @ weight if bias is None else torch.baddbmm(bias, flat, weight)
    return y.unflatten(1, x.shape[1:-1])


class BatchNorm(nn.Module):
    """Batch normalisation over all axes between members and features.

    In training mode the statistics come from the batch and the running ones follow; in evaluation mode the
    running ones are used, which is one multiply-add.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, members: int, features: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, features))
        self.bias = nn.Parameter(torch.zeros(members, features))
        self.register_buffer("mean", torch.zeros(members, features))
        self.register_buffer("var", torch.ones(members, features))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``M x ... x features``."""
        if self.training:
            flat = x.flatten(1, -2)
            var, mean = torch.var_mean(flat, 1, correction=0)
            rows = flat.shape[1]
            with torch.no_grad():
                self.mean.lerp_(mean.detach(), self.momentum)
                self.var.lerp_(var.detach() * rows / max(rows - 1, 1), self.momentum)
        else:
            mean, var = self.mean, self.var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shape = (x.shape[0],) + (1,) * (x.dim() - 2) + (-1,)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)


class Attention(nn.Module):
    """Weighted soft attention over the cations, heads averaged (equations 3 and 4).

    For every cation (message layers, ``pairwise``) or once for the composition (pooling):
    ``sum_j a_j value_j`` with ``a_j = w_j exp(gate_j) / sum_k w_k exp(gate_k)``. The first linear layer acts on
    the two nodes of a pair separately and the last one on the weighted sum, which is the same function as
    evaluating both on every pair.
    """

    def __init__(self, members: int, features: int, *, hidden: int = 64, heads: int = 3, pairwise: bool = True) -> None:
        super().__init__()
        self.own = Linear(members, features, 2 * heads * hidden, bias=False) if pairwise else None
        self.other = Linear(members, features, 2 * heads * hidden)
        bound = hidden**-0.5
        self.gate = nn.Parameter(torch.empty(members, heads, hidden).uniform_(-bound, bound))
        self.out = Linear(members, heads * hidden, features, bias=False)
        self.out_bias = nn.Parameter(torch.empty(members, heads, features).uniform_(-bound, bound))
        with torch.no_grad():  # start from the spread of separate heads on joined pairs
            self.out.weight.uniform_(-bound, bound)
            if self.own is not None:
                for parameter in (*self.own.parameters(), *self.other.parameters()):
                    parameter.mul_(0.5**0.5)

    def forward(self, h: Tensor, w: Tensor, present: Tensor | None) -> Tensor:
        """Attend.

        Args:
            h: cation features, ``M x B x n x d``.
            w: their weights (amount / 2), ``B x n`` or ``M x B x n``.
            present: which cations exist, ``B x n``; None when all do.

        Returns:
            ``M x B x n x d`` for message layers, ``M x B x d`` for pooling.
        """
        heads, hidden = self.gate.shape[1:]
        gate_other, value_other = self.other(h).unflatten(-1, (2, heads, hidden)).unbind(-3)  # M, B, n, heads, hidden
        if self.own is None:
            gate, value = _silu(gate_other), _silu(value_other)
        else:
            gate_own, value_own = self.own(h).unflatten(-1, (2, heads, hidden)).unbind(-3)
            gate, value = _silu_of_pairs(gate_own, gate_other), _silu_of_pairs(value_own, value_other)
        between = (1,) * (gate.dim() - 3)
        logit = torch.linalg.vecdot(gate, self.gate.view(-1, *between, heads, hidden))  # M, B, [n,] n, heads
        pairs = (1,) * (logit.dim() - 4)
        if present is None:
            shifted = logit - logit.detach().amax(-2, keepdim=True)  # the shift cancels
        else:
            mask = present.view(1, present.shape[0], *pairs, present.shape[1], 1)
            top = logit.detach().masked_fill(~mask, -torch.inf).amax(-2, keepdim=True)
            shifted = (logit - top).clamp(max=_MAX_EXPONENT)
        weight = w.unsqueeze(0) if w.dim() == 2 else w
        weight = weight.view(weight.shape[0], weight.shape[1], *pairs, weight.shape[2], 1)
        a = weight * torch.exp(shifted)
        a = a / (a.sum(-2, keepdim=True) * heads)
        pooled = _times(value, a.unsqueeze(-1)).sum(-3).flatten(-2)
        bias = self.out_bias.mean(1)
        return self.out(pooled) + bias.view(-1, 1, *pairs, bias.shape[-1])


def _silu(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs the argument."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _SiLU.apply(x)  # type: ignore[no-untyped-call]  # of torch
    return F.silu(x, inplace=not torch.is_grad_enabled())


class _SiLU(torch.autograd.Function):
    """SiLU that is cheap to differentiate twice; torch's own then takes a dozen passes over the pairs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _SiLUBackward.apply(grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class _SiLUBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return torch.ops.aten.silu_backward(grad, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        first, x = ctx.saved_tensors
        s = torch.sigmoid(x)
        second = torch.addcmul(x, x, s, value=-2).add_(2).mul_(s)
        second.addcmul_(second, s, value=-1)  # s (1 - s) (2 + x (1 - 2 s))
        return torch.ops.aten.silu_backward(grad, x), second.mul_(first).mul_(grad)


def _silu_of_pairs(own: Tensor, other: Tensor) -> Tensor:
    """SiLU of ``own_i + other_j`` for every pair: ``M x B x n x h x d`` twice ``-> M x B x n x n x h x d``.

    Where the loops are fused, the exponential of a sum is taken as a product: one exponential per cation instead of
    one per pair.
    """
    x = own.unsqueeze(3) + other.unsqueeze(2)
    if torch.compiler.is_compiling():
        half = [torch.exp(-part.clamp(-_MAX_EXPONENT, _MAX_EXPONENT)) for part in (own, other)]
        return x / (1 + half[0].unsqueeze(3) * half[1].unsqueeze(2))
    return _silu(x)


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """Product, in place where no gradient needs the old value."""
    return x * factor if torch.is_grad_enabled() else x.mul_(factor)


class Embed(nn.Module):
    """A number, or a few, to a vector: linear, batch normalisation, SiLU, linear (equation 5)."""

    def __init__(self, members: int, features: int, hidden: int, inputs: int = 1) -> None:
        super().__init__()
        self.hidden = Linear(members, inputs, hidden)
        self.norm = BatchNorm(members, hidden)
        self.out = Linear(members, hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """``M x B x inputs -> M x B x features``."""
        return self.out(F.silu(self.norm(self.hidden(x))))


class Gate(nn.Module):
    """Gated soft attention, ``sigmoid(.) silu(.)`` of two joined vectors (equation 6)."""

    def __init__(self, members: int, features: int, extra: int) -> None:
        super().__init__()
        self.linear = Linear(members, features + extra, features + 1)
        self.norm = BatchNorm(members, features + 1)

    def forward(self, u: Tensor, e: Tensor) -> Tensor:
        """``M x B x d`` and ``M x B x extra -> M x B x d``."""
        y = self.norm(self.linear(torch.cat([u, e], -1)))
        return torch.sigmoid(y[..., -1:]) * F.silu(y[..., :-1])


class ProcessBranch(nn.Module):
    """What one condition of the process does to a composition: embedded and gated as the rate is, times an effect.

    The effect starts at zero, where the branch is the identity, and fine-tuning pulls it back there.
    """

    def __init__(self, members: int, features: int, extra: int, hidden: int, inputs: int) -> None:
        super().__init__()
        self.embed = Embed(members, extra, hidden, inputs)
        self.gate = Gate(members, features, extra)
        self.effect = nn.Parameter(torch.zeros(members, 1, features))

    def forward(self, u: Tensor, x: Tensor) -> Tensor:
        """``M x B x d`` and ``B x inputs -> M x B x d``; rows of NaN, not stated, stay as they are, bit for bit."""
        stated = ~x.isnan().any(-1)
        value = x.nan_to_num().expand(u.shape[0], *x.shape)
        return torch.where(stated.view(1, -1, 1), u + self.effect * self.gate(u, self.embed(value)), u)


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the network; the published ones are the defaults."""

    members: int = 5
    features: int = 32
    layers: int = 3
    heads: int = 3
    attention_hidden: int = 64
    condition_features: int = 16
    condition_hidden: int = 32
    voltage_hidden: int = 64

    process: tuple[tuple[str, int], ...] = ()
    """Conditions of the process that have a branch, with the number of their inputs, in the order they act in."""

    @classmethod
    def of(cls, members: int, sizes: Mapping[str, Any], process: tuple[tuple[str, int], ...] = ()) -> NetworkShape:
        """Build a shape from what differs from the published sizes.

        Raises:
            TypeError: a size that no part of the network has.
        """
        return cls(**{**sizes, "members": members, "process": process})


class DRXNet(nn.Module):
    """The network of the paper for all members of an ensemble at once."""

    element_vectors: Tensor
    fluorine_vector: Tensor

    def __init__(self, shape: NetworkShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or NetworkShape()
        m, d = shape.members, shape.features
        vectors = torch.from_numpy(element_vectors((*SITES, "F")))  # float64 until the network is cast
        self.register_buffer("element_vectors", vectors[:-1], persistent=False)
        self.register_buffer("fluorine_vector", vectors[-1:], persistent=False)

        self.embed = Linear(m, VECTOR_LENGTH, d - 1)
        self.messages = nn.ModuleList(
            Attention(m, d, hidden=shape.attention_hidden, heads=shape.heads) for _ in range(shape.layers)
        )
        self.pool = Attention(m, d, hidden=shape.attention_hidden, heads=shape.heads, pairwise=False)

        self.rate = Embed(m, shape.condition_features, shape.condition_hidden)
        self.cycle = Embed(m, shape.condition_features, shape.condition_hidden)
        self.at_rate = Gate(m, d, shape.condition_features)
        self.at_cycle = Gate(m, d, shape.condition_features)
        self.fade = nn.Parameter(torch.empty(m, 1, d).uniform_(-1, 1))
        self.process = nn.ModuleDict(
            {
                name: ProcessBranch(m, d, shape.condition_features, shape.condition_hidden, inputs)
                for name, inputs in shape.process
            }
        )

        self.window = Linear(m, 2, shape.voltage_hidden)
        self.voltage = Linear(m, 1, shape.voltage_hidden)
        self.voltage_out = Linear(m, shape.voltage_hidden, d)
        self.state_in = Linear(m, d, d)
        self.state_hidden = Linear(m, d, d)
        self.state_out = Linear(m, d, 1)

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return self.shape.members

    def _each(self, x: Tensor) -> Tensor:
        return x.expand(self.members, *x.shape)

    def encode(self, sites: Tensor, w: Tensor, fluorine: Tensor, present: Tensor | None = None) -> Tensor:
        """Encode compositions (equations 3-4).

        Args:
            sites: index of each cation in :data:`SITES`, ``B x n``.
            w: amount / 2 of each cation, ``B x n``, or ``M x B x n`` to differentiate per member.
            fluorine: F / 2, ``B``.
            present: which cations exist, ``B x n``; None when all do. One that does not, of weight 0, changes
                nothing, and the derivative with respect to its weight is right.

        Returns:
            Composition vectors, ``M x B x d``.
        """
        dtype = self.embed.weight.dtype
        table = self.embed(self._each(self.element_vectors.to(dtype)))  # M, elements, d - 1
        shift = self._each(self.fluorine_vector.to(dtype)) @ self.embed.weight  # M, 1, d - 1
        nodes = table[:, sites] + fluorine[:, None, None] * shift.unsqueeze(1)  # M, B, n, d - 1
        share = w if w.dim() == 3 else self._each(w)
        h = torch.cat([nodes, share.unsqueeze(-1)], -1)  # M, B, n, d
        for layer in self.messages:
            h = h + layer(h, w, present)
        return self.pool(h, w, present)

    def condition(
        self, u: Tensor, current: Tensor, cycle: Tensor, process: Mapping[str, Tensor] = NOTHING_STATED
    ) -> tuple[Tensor, Tensor]:
        """Inform composition vectors of how the cell was made and is cycled (equations 5-6).

        Args:
            u: ``M x B x d``.
            current: mA/g, ``B``.
            cycle: cycle number from 1, ``B``.
            process: conditions of the process by name, ``B x inputs`` each, NaN in rows where it is not stated. One
                that is not stated, or has no branch here, changes nothing, bit for bit.

        Returns:
            The vectors at cycle 1 and at ``cycle``, ``M x B x d`` each.
        """
        for name, branch in self.process.items():
            if name in process:
                u = branch(u, process[name])
        first = u + self.at_rate(u, self.rate(self._each(current[:, None])))
        aged = self.at_cycle(first, self.cycle(self._each(cycle[:, None])))
        return first, first + aged * (self.fade * (cycle[:, None] - 1))

    def state(self, c: Tensor, window: Tensor, voltage: Tensor) -> Tensor:
        """Capacity at voltages (equations 7-10, with SiLU in the voltage encoding as the published weights need).

        Args:
            c: ``M x B x d``.
            window: lower and upper cut-off (V), ``B x 2``, or ``1 x 2`` for the same window everywhere.
            voltage: (V), ``B x K``, or ``1 x K`` for the same voltages everywhere; what does not depend on the
                composition is then evaluated once.

        Returns:
            Capacity (mAh/g), ``M x B x K``.
        """
        return self.capacity(c, self.at_voltage(window, voltage))

    def state_and_slope(self, c: Tensor, window: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
        """Capacity (mAh/g) and dQ/dV (mAh/g/V) by forward differentiation (equation 11), ``M x B x K`` each."""
        return self.capacity_and_slope(c, *self.at_voltage_and_slope(window, voltage))

    def at_voltage(self, window: Tensor, voltage: Tensor) -> Tensor:
        """What :meth:`capacity` needs to know of window and voltage, ``M x B x K x d``; arguments as for the state."""
        weight, bias = self._voltage_to_state()
        return _affine(F.silu(self._voltage(window, voltage)), weight, bias)

    def at_voltage_and_slope(self, window: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and its derivative with respect to the voltage."""
        weight, bias = self._voltage_to_state()
        v = self._voltage(window, voltage)
        s = torch.sigmoid(v)
        y = F.silu(v)  # = v s, and s + y (1 - s) is its derivative
        rise = self.voltage.weight.transpose(1, 2) * weight
        return _affine(y, weight, bias), _affine(torch.addcmul(s + y, s, y, value=-1), rise)

    def capacity(self, c: Tensor, at_voltage: Tensor) -> Tensor:
        """Capacity (mAh/g) of ``M x B x d`` at what :meth:`at_voltage` gave, ``M x B x K``."""
        x = F.softplus(at_voltage + (c @ self.state_in.weight).unsqueeze(2))
        x = F.softplus(self.state_hidden(x))
        return F.softplus(self.state_out(x)).squeeze(-1)

    def capacity_and_slope(self, c: Tensor, at_voltage: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and dQ/dV (mAh/g/V): every derivative beside its function, layer by layer."""
        x = at_voltage + (c @ self.state_in.weight).unsqueeze(2)
        x, slope = F.softplus(x), torch.sigmoid(x) * slope
        x, slope = self.state_hidden(x), _affine(slope, self.state_hidden.weight)
        x, slope = F.softplus(x), torch.sigmoid(x) * slope
        x, slope = self.state_out(x), _affine(slope, self.state_out.weight)
        return F.softplus(x).squeeze(-1), (torch.sigmoid(x) * slope).squeeze(-1)

    def _voltage(self, window: Tensor, voltage: Tensor) -> Tensor:
        return self.window(self._each(window)).unsqueeze(2) + self.voltage(self._each(voltage[..., None]))

    def _voltage_to_state(self) -> tuple[Tensor, Tensor]:
        """The two linear maps between the SiLU of the voltage and the first softplus, as one."""
        bias = self.voltage_out.bias
        assert bias is not None  # made with one
        return self.voltage_out.weight @ self.state_in.weight, self.state_in(bias)

    def forward(
        self,
        sites: Tensor,
        w: Tensor,
        fluorine: Tensor,
        current: Tensor,
        cycle: Tensor,
        window: Tensor,
        voltage: Tensor,
        process: Mapping[str, Tensor] = NOTHING_STATED,
    ) -> tuple[Tensor, Tensor]:
        """Capacity at cycle 1 and at ``cycle`` (mAh/g), ``M x B x K`` each; arguments as for the three parts."""
        first, now = self.condition(self.encode(sites, w, fluorine), current, cycle, process)
        return self.state(first, window, voltage), self.state(now, window, voltage)
