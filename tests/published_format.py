"""State dicts with random weights in the form of the published ones: what is read of them is tested without them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

HEADS, LAYERS, FEATURES, HIDDEN, CONDITION = 3, 3, 32, 64, 16


def random_state(seed: int) -> dict[str, torch.Tensor]:
    """One member: every tensor that the published file holds, in its shape."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def linear(name: str, wide: int, into: int, *, bias: bool = True) -> None:
        state[f"{name}.weight"] = draw(into, wide, scale=wide**-0.5)
        if bias:
            state[f"{name}.bias"] = draw(into, scale=0.1)

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(size, scale=0.2), draw(size, scale=0.2)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = draw(size), 1 + draw(size).abs()
        state[f"{name}.num_batches_tracked"] = torch.tensor(57150)

    def attention(name: str, wide: int) -> None:
        for head in range(HEADS):
            for part, into in (("gate_nn", 1), ("message_nn", FEATURES)):
                linear(f"{name}.{head}.{part}.fcs.0", wide, HIDDEN)
                linear(f"{name}.{head}.{part}.fc_out", HIDDEN, into)

    linear("material_nn.embedding", 200, FEATURES - 1)
    for layer in range(LAYERS):
        attention(f"material_nn.graphs.{layer}.pooling", 2 * FEATURES)
    attention("material_nn.cry_pool", FEATURES)
    for kind in ("rate", "cycle"):
        linear(f"{kind}_embedding.hidden", 1, FEATURES)
        linear(f"{kind}_embedding.fc", FEATURES, CONDITION)
        norm(f"{kind}_embedding.bn", FEATURES)
        linear(f"encode_{kind}.kernel", FEATURES + CONDITION, FEATURES)
        linear(f"encode_{kind}.attn", FEATURES + CONDITION, 1)
        norm(f"encode_{kind}.bn", FEATURES)
        norm(f"encode_{kind}.bn_attn", 1)
    for kind in ("rate", "cycle"):  # currents and cycles are large numbers, which the norms bring to size
        state[f"{kind}_embedding.hidden.weight"] *= 0.01
    linear("delta_N", 1, FEATURES, bias=False)
    state["delta_N.weight"] *= 0.1
    for name, wide, into in (
        ("encode_voltage.fc_window", 2, HIDDEN),
        ("encode_voltage.fc_Vii", 1, HIDDEN),
        ("encode_voltage.fc", HIDDEN, FEATURES),
        ("add_voltage.hidden", FEATURES, FEATURES),
        ("fc.hidden", FEATURES, FEATURES),
        ("fc.fc", FEATURES, 1),
    ):
        linear(name, wide, into)
    state["fc.fc.weight"] *= 100  # capacities are hundreds of mAh/g
    state["fc.fc.bias"] += 200
    return state


def write_published_format(folder: Path, members: int = 5) -> dict[str, str]:
    """Write the files ``model_0`` ... of random members; gives back their SHA-256 by name."""
    folder.mkdir()
    for member in range(members):
        torch.save(random_state(member), folder / f"model_{member}")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
