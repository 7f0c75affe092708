"""DRXNet written straight from the paper's equations, for comparison: scatter operations, one member after another.

This is how such a network is usually written: every cation of a batch is a row, every ordered pair of cations of a
composition is a row of two index arrays, attention sums over rows of a composition with ``index_add``. Each test row
carries its own composition, whatever it shares with other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drxnet.checkpoint import _read_state_dict
from drxnet.discharge import CyclingConditions
from drxnet.elements import element_vectors
from drxnet.ensemble import Amounts

State = dict[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def batch_norm(state: State, name: str, x: Tensor, training: bool) -> Tensor:
    running = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
    return F.batch_norm(x, *running, state[f"{name}.weight"], state[f"{name}.bias"], training=training)


def attention(state: State, name: str, pairs: Tensor, weights: Tensor, index: Tensor, size: int) -> Tensor:
    """Weighted soft attention over the rows of each group, heads averaged (equations 3 and 4)."""
    heads = []
    for head in range(3):
        gate = linear(
            state, f"{name}.{head}.gate_nn.fc_out", F.silu(linear(state, f"{name}.{head}.gate_nn.fcs.0", pairs))
        )
        top = torch.full((size, 1), -torch.inf, dtype=gate.dtype).scatter_reduce(0, index[:, None], gate, "amax")
        share = weights * torch.exp(gate - top[index])
        share = share / (torch.zeros(size, 1, dtype=gate.dtype).index_add(0, index, share)[index])
        hidden = F.silu(linear(state, f"{name}.{head}.message_nn.fcs.0", pairs))
        message = linear(state, f"{name}.{head}.message_nn.fc_out", hidden)
        heads.append(torch.zeros(size, message.shape[1], dtype=gate.dtype).index_add(0, index, share * message))
    return torch.stack(heads).mean(0)


def capacities(
    state: State,
    rows: Rows,
    window: Tensor,
    voltage: Tensor,
    current: Tensor,
    cycle: Tensor,
    *,
    training: bool = False,
) -> tuple[Tensor, Tensor]:
    """Capacity of each row at cycle 1 and at its cycle (mAh/g), ``rows x 1`` each."""

    def normed(name: str, y: Tensor) -> Tensor:
        return batch_norm(state, name, y, training)

    nodes = linear(state, "material_nn.embedding", rows.vectors)
    h = torch.cat([nodes, rows.weights], 1)
    for layer in range(3):
        pairs = torch.cat([h[rows.own], h[rows.other]], 1)
        name = f"material_nn.graphs.{layer}.pooling"
        h = h + attention(state, name, pairs, rows.weights[rows.other], rows.own, len(h))
    u = attention(state, "material_nn.cry_pool", h, rows.weights, rows.group, len(current))

    def informed(x: Tensor, kind: str, number: Tensor) -> Tensor:
        e = linear(state, f"{kind}_embedding.hidden", number)
        e = linear(state, f"{kind}_embedding.fc", F.silu(normed(f"{kind}_embedding.bn", e)))
        both = torch.cat([x, e], 1)
        gate = normed(f"encode_{kind}.bn_attn", linear(state, f"encode_{kind}.attn", both))
        kernel = normed(f"encode_{kind}.bn", linear(state, f"encode_{kind}.kernel", both))
        return torch.sigmoid(gate) * F.silu(kernel)

    first = u + informed(u, "rate", current)
    c = first + informed(first, "cycle", cycle) * linear(state, "delta_N", cycle - 1)
    x = linear(state, "encode_voltage.fc_window", window) + linear(state, "encode_voltage.fc_Vii", voltage)
    at_voltage = linear(state, "encode_voltage.fc", F.silu(x))

    def capacity(condition: Tensor) -> Tensor:
        y = F.softplus(linear(state, "add_voltage.hidden", at_voltage + condition))
        return F.softplus(linear(state, "fc.fc", F.softplus(linear(state, "fc.hidden", y))))

    return capacity(first), capacity(c)


class Rows:
    """Cations and ordered pairs of many test rows as flat index arrays."""

    def __init__(self, compositions: Sequence[tuple[Tensor, Tensor]]) -> None:
        own, other, group, offset = [], [], [], 0
        for row, (weights, _) in enumerate(compositions):
            n = len(weights)
            own.append(torch.arange(n).repeat_interleave(n) + offset)
            other.append(torch.arange(n).repeat(n) + offset)
            group.append(torch.full((n,), row))
            offset += n
        self.weights = torch.cat([w for w, _ in compositions])[:, None]
        self.vectors = torch.cat([v for _, v in compositions])
        self.own, self.other, self.group = torch.cat(own), torch.cat(other), torch.cat(group)


class PlainEnsemble:
    """State dicts of the members, evaluated one after another."""

    def __init__(self, states: Sequence[State], dtype: torch.dtype = torch.float32) -> None:
        self.states = [{k: v.to(dtype) if v.is_floating_point() else v for k, v in s.items()} for s in states]
        self.dtype = dtype
        for tensor in (t for s in self.states for k, t in s.items() if t.is_floating_point() and "running" not in k):
            tensor.requires_grad_()

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> PlainEnsemble:
        """Read the published state dicts."""
        return cls([_read_state_dict((folder / f"model_{m}").read_bytes()) for m in range(5)], dtype)

    def inputs(self, amounts: Amounts, row: int) -> tuple[Tensor, Tensor]:
        """Weights and fluorinated element vectors of one composition's cations."""
        present = (amounts.cations[row] > 0).nonzero().squeeze(1)
        vectors = element_vectors(tuple(amounts.symbols[i] for i in present.tolist()))
        shifted = vectors + amounts.fluorine[row].item() / 2 * element_vectors(("F",))
        return (amounts.cations[row, present] / 2).to(self.dtype), torch.from_numpy(shifted).to(self.dtype)

    def capacity(self, amounts: Amounts, conditions: Sequence[CyclingConditions], *, batch: int = 64) -> Tensor:
        """Batched, without autograd, at the lower cut-off: ``members x n x c`` (mAh/g)."""
        cases = [(row, c) for row in range(len(amounts)) for c in conditions]
        encoded = [self.inputs(amounts, row) for row in range(len(amounts))]
        parts = []
        with torch.no_grad():
            for start in range(0, len(cases), batch):
                part = cases[start : start + batch]
                rows = Rows([encoded[row] for row, _ in part])
                table = torch.tensor([[c.current_ma_g, c.cycle, c.v_low, c.v_high] for _, c in part], dtype=self.dtype)
                current, cycle, window = table[:, :1], table[:, 1:2], table[:, 2:]
                parts.append(
                    torch.stack([capacities(s, rows, window, window[:, :1], current, cycle)[1] for s in self.states])
                )
        return torch.cat(parts, 1).view(len(self.states), len(amounts), len(conditions))

    def profile_as_published(self, amounts: Amounts, row: int, c: CyclingConditions) -> tuple[np.ndarray, np.ndarray]:
        """Predict one composition under one condition the way the published network is used.

        100 rows are collated one by one, each with its own composition; members follow one another; parameters track
        gradients, and the forward pass always takes dQ/dV and dQ/dc by autograd.
        """
        voltages = c.grid()
        rows = Rows([self.inputs(amounts, row) for _ in voltages])
        window = torch.tensor([[c.v_low, c.v_high] for _ in voltages], dtype=self.dtype)
        current = torch.tensor([[c.current_ma_g] for _ in voltages], dtype=self.dtype)
        cycle = torch.tensor([[c.cycle] for _ in voltages], dtype=self.dtype)
        q, slope = [], []
        for state in self.states:
            voltage = torch.tensor(voltages, dtype=self.dtype)[:, None].requires_grad_()
            rows.weights.requires_grad_()
            _, capacity = capacities(state, rows, window, voltage, current, cycle)
            (gradient,) = torch.autograd.grad(capacity.sum(), voltage, create_graph=True)
            torch.autograd.grad(capacity.sum(), rows.weights, create_graph=True)
            q.append(capacity.detach().numpy()[:, 0])
            slope.append(gradient.detach().numpy()[:, 0])
        return np.stack(q), np.stack(slope)
