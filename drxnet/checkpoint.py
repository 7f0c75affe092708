"""Save, find, load and import ensembles.

A model is a folder with two files: ``weights.safetensors`` and ``model.json`` (its card). Nothing is unpickled
except the published state dicts, and those only through torch's ``weights_only``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from drxnet.composition import MODEL_METALS
from drxnet.errors import CheckpointError, ModelNotFound, UsageError

FORMAT = 1
WEIGHTS, CARD = "weights.safetensors", "model.json"
DEFAULT_MODEL = "default"

PUBLISHED_NAME = "drxnet-2024"
PUBLISHED_SHA256 = {
    "model_0": "9e3950bdb6edadb62b612708b3a85f3a47ad8395db2bba5e519a7619580d44ab",
    "model_1": "7e59759e6e896d4ff314393f2efdc6502c9eae7055dcfba934a178bc40614b06",
    "model_2": "705f16e37f681917986053762c4929cc00535d7e28adb787ee515c4cd9a1ceed",
    "model_3": "bd447f6e15b6ce9ce55e25f2444429cafb739a5fca758a525f08e4cbd9197099",
    "model_4": "47a3612296cb2cdbbe390d17d311eb224049173829ea66685c5e2e99e8d30ea9",
}
"""SHA-256 of the five published state dicts (github.com/zhongpc/drxnet)."""

PUBLISHED_COMMIT = "c5fba7be2c312a32f9b809d4babe9df55bdfc790"
PUBLISHED_URL = f"https://raw.githubusercontent.com/zhongpc/drxnet/{PUBLISHED_COMMIT}/drxnet/pretrained/"
CITATION = "Zhong et al., Joule 8, 1-18 (2024), doi:10.1016/j.joule.2024.03.010"


@dataclass(frozen=True)
class ModelCard:
    """What an ensemble is, where it comes from and what it may be used for."""

    name: str
    members: int
    elements: tuple[str, ...] = MODEL_METALS
    """Cations it was trained on."""

    network: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the network, where they differ from the published ones."""

    parent: str | None = None
    """Model id this one was fine-tuned from."""

    data_fingerprint: str | None = None
    """Hash of the data it learned from."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Free facts: how made, when, by which versions, errors, licence, citation."""

    weights_sha256: str = ""
    format: int = FORMAT

    @property
    def model_id(self) -> str:
        """Twelve hex digits that stand for exactly these weights."""
        return self.weights_sha256[:12]


def models_home() -> Path:
    """Folder of imported and fetched models: ``$DRXNET_HOME/models`` or the user's data directory."""
    if home := os.environ.get("DRXNET_HOME"):
        return Path(home) / "models"
    from platformdirs import user_data_path

    return user_data_path("drx-screen", appauthor=False) / "models"


def shipped_home() -> Path:
    """Folder of the models that are installed with the package."""
    return Path(__file__).parent / "pretrained"


def available_models() -> dict[str, Path]:
    """Folders of all models that can be loaded by name."""
    found: dict[str, Path] = {}
    for home in (shipped_home(), models_home()):
        if home.is_dir():
            found.update({f.parent.name: f.parent for f in sorted(home.glob(f"*/{CARD}"))})
    return found


def find_model(name: str | Path) -> Path:
    """Folder of a model, given its name or the folder itself.

    Raises:
        ModelNotFound: neither exists; the message names the ways to get one.
    """
    if (Path(name) / CARD).is_file():
        return Path(name)
    models = available_models()
    if str(name) in models:
        return models[str(name)]
    have = ", ".join(models) or "none"
    raise ModelNotFound(
        f"No model {str(name)!r}; installed: {have}. Get the published ensemble with "
        f"`drx-screen models fetch {PUBLISHED_NAME}`, or from a local copy of its files with "
        "`drx-screen models import DIR`; or name a folder that holds a model."
    )


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model without its weights.

    Raises:
        CheckpointError: the card is missing, damaged or of a newer format.
    """
    try:
        content = json.loads((folder / CARD).read_text())
        card = ModelCard(**{**content, "elements": tuple(content["elements"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: its {CARD} cannot be read ({error}).") from None
    if card.format > FORMAT:
        raise CheckpointError(
            f"{folder}: format {card.format} is newer than this drx-screen reads ({FORMAT}). Upgrade."
        )
    return card


def read_weights(folder: Path, card: ModelCard) -> dict[str, Any]:
    """Read the weights of a model and check that they are those of its card.

    Raises:
        CheckpointError: missing, damaged, a pickle, or not the weights that the card names.
    """
    from safetensors.torch import load

    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder}: its {WEIGHTS} cannot be read ({error.strerror}).") from None
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise CheckpointError(f"{folder}: {WEIGHTS} is not the file that {CARD} describes; copy the model again.")
    try:
        return load(content)
    except Exception as error:  # noqa: BLE001 - safetensors raises its own type, which is not exported
        raise CheckpointError(f"{folder}: {WEIGHTS} is not a safetensors file ({error}).") from None


def save(folder: Path, weights: Mapping[str, Any], card: ModelCard) -> ModelCard:
    """Write a model: to a temporary folder beside the target, then by one rename.

    Args:
        folder: target; replaced when it exists.
        weights: tensors by name, as ``DRXNet.state_dict()`` gives them.
        card: its description; the hash of the weights is filled in.

    Returns:
        The card as written.
    """
    from safetensors.torch import save as to_bytes

    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    card = ModelCard(**{**_fields(card), "weights_sha256": hashlib.sha256(content).hexdigest()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_durably(partial / WEIGHTS, content)
        write_durably(partial / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())
        if folder.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            folder.rename(replaced / "old")
            partial.rename(folder)
            shutil.rmtree(replaced)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    folder.chmod(0o755)
    return card


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is on disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fields(card: ModelCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}


def import_published(folder: Path, name: str | None = None) -> Path:
    """Read the published state dicts ``model_0`` ... and store them as a model of this package.

    Args:
        folder: holds the files ``model_0``, ``model_1``, ...; their number is the number of members.
        name: name to store under; by default ``drxnet-2024`` when they are the five published files.

    Returns:
        Folder of the new model.

    Raises:
        UsageError: no such files, or no name for files that are not the published ones.
        CheckpointError: a file is not a DRXNet state dict or holds more than tensors.
    """
    paths = sorted(folder.glob("model_[0-9]*"), key=lambda path: int(path.name.split("_")[1].split(".")[0]))
    if not paths:
        raise UsageError(f"{folder}: holds no published state dicts (files named model_0, model_1, ...).")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    published = digests == PUBLISHED_SHA256
    if name is None and not published:
        raise UsageError(f"{folder}: not the five published files, by their SHA-256. Name them with --name.")
    name = name or PUBLISHED_NAME
    card = ModelCard(
        name=name,
        members=len(paths),
        provenance={
            "made": "published state dicts" if published else "imported state dicts",
            "source": PUBLISHED_URL if published else str(folder),
            "sha256": digests,
            "citation": CITATION if published else "",
        },
    )
    target = models_home() / name
    save(target, stack_published([_read_state_dict(path) for path in paths]), card)
    return target


def _read_state_dict(path: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a state dict that can be read without running code ({reason})") from None
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    if not isinstance(content, dict) or "material_nn.embedding.weight" not in content:
        raise CheckpointError(f"{path}: not a DRXNet state dict (no material_nn.embedding.weight).")
    return content


def stack_published(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack published state dicts into the weights of one :class:`~drxnet.network.DRXNet`.

    The first linear layer of each pair network is split into the part of the attending node and that of the
    other node; heads are joined.
    """
    import torch

    from drxnet.network import DRXNet, NetworkShape

    network = DRXNet(NetworkShape(members=len(states)))
    weights = network.state_dict()
    heads = range(network.shape.heads)
    features = network.shape.features

    def put(name: str, pick: Callable[[Mapping[str, Any]], Any]) -> None:
        stacked = torch.stack([pick(state) for state in states])
        weights[name] = stacked.reshape(weights[name].shape).to(weights[name].dtype)

    def linear(name: str, key: str) -> None:
        put(f"{name}.weight", lambda s: s[f"{key}.weight"].T)
        put(f"{name}.bias", lambda s: s[f"{key}.bias"])

    def batch_norm(name: str, *keys: str) -> None:
        def joined(kind: str) -> Callable[[Mapping[str, Any]], Any]:
            return lambda s: torch.cat([s[f"{key}.{kind}"] for key in keys])

        for ours, theirs in (("weight", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
            put(f"{name}.{ours}", joined(theirs))

    def attention(name: str, key: str) -> None:
        def first(s: Mapping[str, Any], kind: str) -> Any:
            return torch.cat([s[f"{key}.{h}.{part}_nn.fcs.0.{kind}"] for part in ("gate", "message") for h in heads])

        if f"{name}.own.weight" in weights:
            put(f"{name}.own.weight", lambda s: first(s, "weight")[:, :features].T)
            put(f"{name}.other.weight", lambda s: first(s, "weight")[:, features:].T)
        else:
            put(f"{name}.other.weight", lambda s: first(s, "weight").T)
        put(f"{name}.other.bias", lambda s: first(s, "bias"))
        put(f"{name}.gate", lambda s: torch.cat([s[f"{key}.{h}.gate_nn.fc_out.weight"] for h in heads]))
        put(f"{name}.out.weight", lambda s: torch.cat([s[f"{key}.{h}.message_nn.fc_out.weight"].T for h in heads]))
        put(f"{name}.out_bias", lambda s: torch.stack([s[f"{key}.{h}.message_nn.fc_out.bias"] for h in heads]))

    linear("embed", "material_nn.embedding")
    for layer in range(network.shape.layers):
        attention(f"messages.{layer}", f"material_nn.graphs.{layer}.pooling")
    attention("pool", "material_nn.cry_pool")

    def gate(name: str, key: str) -> None:
        put(f"{name}.linear.weight", lambda s: torch.cat([s[f"{key}.kernel.weight"], s[f"{key}.attn.weight"]]).T)
        put(f"{name}.linear.bias", lambda s: torch.cat([s[f"{key}.kernel.bias"], s[f"{key}.attn.bias"]]))
        batch_norm(f"{name}.norm", f"{key}.bn", f"{key}.bn_attn")

    for kind in ("rate", "cycle"):
        linear(f"{kind}.hidden", f"{kind}_embedding.hidden")
        batch_norm(f"{kind}.norm", f"{kind}_embedding.bn")
        linear(f"{kind}.out", f"{kind}_embedding.fc")
        gate(f"at_{kind}", f"encode_{kind}")
    put("fade", lambda s: s["delta_N.weight"][:, 0])
    linear("window", "encode_voltage.fc_window")
    linear("voltage", "encode_voltage.fc_Vii")
    linear("voltage_out", "encode_voltage.fc")
    linear("state_in", "add_voltage.hidden")
    linear("state_hidden", "fc.hidden")
    linear("state_out", "fc.fc")
    return weights


def fetch_published(name: str = PUBLISHED_NAME, url: str = PUBLISHED_URL) -> Path:
    """Download the published ensemble, check every file's SHA-256 and import it.

    Raises:
        UsageError: the name is not one that can be fetched, or the server cannot be reached.
        CheckpointError: a file is not the published one.
    """
    if name != PUBLISHED_NAME:
        raise UsageError(f"Only {PUBLISHED_NAME} can be fetched. Got {name!r}.")
    import pooch

    with tempfile.TemporaryDirectory() as folder:
        for file, digest in PUBLISHED_SHA256.items():
            try:
                pooch.retrieve(url + file, known_hash=None, fname=file, path=folder)
            except Exception as error:  # noqa: BLE001 - requests, urllib3 and ftplib raise their own kinds
                raise UsageError(
                    f"{url + file} cannot be downloaded ({error}). With a local copy of the files: "
                    "`drx-screen models import DIR`."
                ) from None
            came = hashlib.sha256((Path(folder) / file).read_bytes()).hexdigest()
            if came != digest:
                raise CheckpointError(f"{url + file}: SHA-256 must be {digest}, came {came}. Nothing was stored.")
        return import_published(Path(folder), name)
