"""Save, find, load and import ensembles.

A model is a folder with two files: ``weights.safetensors`` and ``model.json`` (its card). Neither is believed before
it is checked: they are regular files of a bounded size, the card's fields are what they must be, the weights have the
SHA-256 of the card, and the sizes in their header fit the file and the card before any memory is taken for them.
Nothing is unpickled except the five published state dicts, known by their SHA-256, and those only through torch's
``weights_only``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drxnet.composition import METALS_BY_NUMBER, MODEL_METALS
from drxnet.errors import CheckpointError, ImpossibleValue, ModelNotFound, UsageError
from drxnet.files import heal, new_folder, put_folder, replace_file, sweep
from drxnet.names import check_name, found, hint
from drxnet.process import FIELDS, ConditionField

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

    process: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    """Conditions of the process that have a branch, in their order, with the values that it learned from."""

    weights_sha256: str = ""
    format: int = FORMAT

    @property
    def model_id(self) -> str:
        """Twelve hex digits that stand for exactly these weights."""
        return self.weights_sha256[:12]


@dataclass(frozen=True)
class ModelFiles:
    """The two files of a model as they are: what a model is where there are no folders."""

    card: bytes = field(repr=False)
    weights: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.weights).hexdigest()


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
    models: dict[str, Path] = {}
    for home in (shipped_home(), models_home()):
        if home.is_dir():
            models.update({f.parent.name: f.parent for f in sorted(home.glob(f"*/{CARD}"))})
    return models


def find_model(name: str | Path) -> Path:
    """Folder of a model, given its name or the folder itself.

    Raises:
        ModelNotFound: neither exists; the message names the ways to get one.
    """
    if found((Path(name) / CARD).is_file):
        return Path(name)
    models = available_models()
    if str(name) not in models:
        heal(models_home())
        models = available_models()
    if str(name) in models:
        return models[str(name)]
    have = ", ".join(models) or "none"
    raise ModelNotFound(
        f"No model {str(name)!r}; installed: {have}. {hint(name, models)}Get the published ensemble with "
        f"`drx-screen models fetch {PUBLISHED_NAME}`, or from a local copy of its files with "
        "`drx-screen models import DIR`; or name a folder that holds a model."
    )


_CARD_BYTES, _WEIGHTS_BYTES, _HEADER_BYTES = 16 << 20, 4 << 30, 16 << 20  # no model comes near these
_MEMBERS, _SIZE, _LAYERS, _TEXT = 1000, 4096, 64, 4096
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SHA256 = re.compile("[0-9a-f]{64}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT and value.isprintable()


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_network(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(n, _LAYERS if k == "layers" else _SIZE) for k, n in value.items())


def _is_process(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in FIELDS and isinstance(learned, list) and len(learned) <= _SIZE and _are_values(FIELDS[name], learned)
        for name, learned in value.items()
    )


def _are_values(condition: ConditionField, values: Sequence[Any]) -> bool:
    try:
        return all(condition.parse(value) == value for value in values)
    except ImpossibleValue:
        return False


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, f"a line of at most {_TEXT} characters"),
    "members": (lambda v: _is_count(v, _MEMBERS), f"a whole number from 1 to {_MEMBERS}"),
    "elements": (
        lambda v: isinstance(v, list) and all(isinstance(s, str) and s in METALS_BY_NUMBER for s in v),
        "a list of symbols of metals",
    ),
    "network": (_is_network, f"sizes by name, whole numbers up to {_SIZE} and {_LAYERS} layers"),
    "parent": (lambda v: v is None or _is_text(v), "null or the id of a model"),
    "data_fingerprint": (lambda v: v is None or _is_text(v), "null or a line of text"),
    "provenance": (lambda v: isinstance(v, dict), "facts by name"),
    "process": (_is_process, "conditions of a process by name, each with the values learned from"),
    "weights_sha256": (lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None, "64 hexadecimal digits"),
    "format": (lambda v: _is_count(v, FORMAT), f"a whole number up to {FORMAT}"),
}
"""What each field of a card must be; those without a default must be there."""

_REQUIRED = ("name", "members", "weights_sha256")


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model without its weights.

    Raises:
        CheckpointError: the card is missing, damaged, of a newer format, or a field of it is not what it must be.
    """
    try:
        content = json.loads(_regular_file(folder / CARD, _CARD_BYTES))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: its {CARD} cannot be read ({error}).") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder}: its {CARD} cannot be read (it holds no fields).")
    newer = content.get("format")
    if type(newer) is int and newer > FORMAT:
        raise CheckpointError(f"{folder}: format {newer} is newer than this drx-screen reads ({FORMAT}). Upgrade.")
    if wrong := list(_wrong_fields(content)):
        raise CheckpointError(f"{folder}: its {CARD} cannot be used: {'; '.join(wrong)}. Copy the model again.")
    return ModelCard(**{**content, "elements": tuple(content.get("elements", MODEL_METALS))})


def _wrong_fields(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the fields of a card."""
    yield from (f"no field {name}" for name in _REQUIRED if name not in content)
    for name, value in content.items():
        if name not in _FIELDS:
            yield f"unknown field {name!r}"
        elif not _FIELDS[name][0](value):
            yield f"{name} must be {_FIELDS[name][1]}, got {repr(value)[:80]}"


def read_weights(folder: Path, card: ModelCard) -> dict[str, Any]:
    """Read the weights of a model and check that they are those of its card.

    Raises:
        CheckpointError: missing, damaged, a pickle, or not the weights that the card names.
    """
    from safetensors.torch import load

    content = _checked_weights(folder, card)
    try:
        return load(content)
    except Exception as error:  # noqa: BLE001 - safetensors raises its own type, which is not exported
        raise CheckpointError(f"{folder}: {WEIGHTS} is not a safetensors file ({error}).") from None


def _regular_file(path: Path, most: int, check: Callable[[Any, int], None] | None = None) -> bytes:
    """Content of a regular file: no link, device or pipe, and no larger than is plausible.

    Args:
        path: what is read.
        most: its size at most (bytes).
        check: looks at the opened file and its size before all of it is read.
    """
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    odd = f"{path.parent}: its {path.name} must be a regular file, not a link, a folder or a device."
    if path.is_symlink():
        raise CheckpointError(odd)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path.parent}: its {path.name} cannot be read ({reason}).") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(odd)
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > most:
            raise CheckpointError(
                f"{path.parent}: its {path.name} has {status.st_size:,} bytes; a model's has at most {most:,}."
            )
        if check is not None:
            check(file, status.st_size)
            file.seek(0)
        return file.read(most)


def _checked_weights(folder: Path, card: ModelCard) -> bytes:
    """Content of the weights, once their header fits the file and the card, and their SHA-256 is the card's."""

    def check(file: Any, size: int) -> None:
        try:
            shapes = _shapes(file, size)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(f"{folder}: {WEIGHTS} is not a safetensors file ({error}).") from None
        other = {name: shape for name, shape in shapes.items() if not shape or shape[0] != card.members}
        if other:
            name, shape = next(iter(other.items()))
            raise CheckpointError(
                f"{folder}: {WEIGHTS} holds not the weights of this network: {CARD} says {card.members} members, and "
                f"{name[:80]!r} has the shape {shape}. Copy the model again."
            )

    content = _regular_file(folder / WEIGHTS, _WEIGHTS_BYTES, check)
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise CheckpointError(f"{folder}: {WEIGHTS} is not the file that {CARD} describes; copy the model again.")
    return content


def _shapes(file: Any, size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file, whose header must account for every byte of it."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _HEADER_BYTES):
        raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    shapes, spans = {}, []
    for name, tensor in header.items():
        shapes[name], span = _shape(name, tensor)
        spans.append(span)
    filled = 0
    for start, end in sorted(spans):
        if start != filled:
            raise ValueError("its tensors do not lie one after another")
        filled = end
    if filled != size - 8 - length:
        raise ValueError(f"its tensors take {filled:,} bytes of {size - 8 - length:,}")
    return shapes


def _shape(name: str, tensor: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Shape of a tensor by its entry in the header, and the bytes that it takes, from one to before another."""
    shape, (start, end) = tuple(tensor["shape"]), tensor["data_offsets"]
    if len(shape) > 8 or not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError(f"the shape of {name[:80]!r}")
    if end - start != math.prod(shape) * _FLOATS[tensor["dtype"]]:
        raise ValueError(f"{name[:80]!r} is said to take {end - start:,} bytes")
    return shape, (start, end)


def save(folder: Path, weights: Mapping[str, Any], card: ModelCard, *, replace: bool = False) -> ModelCard:
    """Write a model: to a temporary folder beside the target, then by one rename.

    Args:
        folder: target, which is not there yet.
        weights: tensors by name, as ``DRXNet.state_dict()`` gives them.
        card: its description; the hash of the weights is filled in.
        replace: the folder may hold a model, which is replaced; never anything else.

    Returns:
        The card as written.

    Raises:
        UsageError: something would be lost.
    """
    content, card = _serialised(weights, card)
    _place(folder, content, card, replace=replace)
    return card


def _serialised(weights: Mapping[str, Any], card: ModelCard) -> tuple[bytes, ModelCard]:
    """Content of a file of weights, and the card that names it."""
    from safetensors.torch import save as to_bytes

    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    return content, replace(card, weights_sha256=hashlib.sha256(content).hexdigest())


def check_model(folder: Path) -> ModelCard:
    """Read the card of a model and check its weights, without torch.

    Raises:
        CheckpointError: the model is damaged, or no model.
    """
    card = read_card(folder)
    _checked_weights(folder, card)
    return card


def copy_model(source: Path, target: Path, *, replace: bool = False) -> ModelCard:
    """Copy the two files of a model, and nothing else, once both are checked.

    Returns:
        The card of the copied model.

    Raises:
        CheckpointError: the model is damaged, or no model.
        UsageError: something would be lost.
    """
    card = read_card(source)
    _place(target, _checked_weights(source, card), card, replace=replace)
    return card


def read_files(folder: Path) -> ModelFiles:
    """Read the two files of a model, once both are checked.

    Raises:
        CheckpointError: the model is damaged, or no model.
    """
    card = read_card(folder)
    return ModelFiles(_as_json(card), _checked_weights(folder, card))


def write_files(folder: Path, files: ModelFiles, *, replace: bool = False) -> ModelCard:
    """Write the two files of a model, once both are checked.

    Returns:
        The card.

    Raises:
        CheckpointError: they are not those of a model.
        UsageError: something would be lost.
    """
    with new_folder(folder.parent) as unpacked:
        (unpacked / CARD).write_bytes(files.card)
        (unpacked / WEIGHTS).write_bytes(files.weights)
        return copy_model(unpacked, folder, replace=replace)


def as_files(weights: Mapping[str, Any], card: ModelCard) -> ModelFiles:
    """Files that :func:`save` would write.

    Args:
        weights: tensors by name, as ``DRXNet.state_dict()`` gives them.
        card: its description; the hash of the weights is filled in.
    """
    content, card = _serialised(weights, card)
    return ModelFiles(_as_json(card), content)


def check_target(folder: Path, *, replace: bool = False) -> None:
    """Refuse to write a model to where something would be lost.

    Args:
        folder: target of :func:`save`.
        replace: a model may be lost; never anything else.

    Raises:
        UsageError: there is a file, a folder of something else, a model with other files beside it, or a model.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"{folder}: is there already and no folder of a model. Choose another name.")
    held = {path.name for path in folder.iterdir()}
    others = sorted(held - {CARD, WEIGHTS})
    if others:
        raise UsageError(f"{folder}: holds {others[0]}, which would be lost. Choose another name, or move it away.")
    if held and not replace:
        raise UsageError(f"{folder}: holds a model already. Choose another name; `models import --force` replaces it.")


def _place(folder: Path, weights: bytes, card: ModelCard, *, replace: bool) -> None:
    """Put the two files of a model in a folder, both at once."""
    heal(folder.parent)
    check_target(folder, replace=replace)
    with new_folder(folder.parent) as partial:
        replace_file(partial / "new" / WEIGHTS, weights)
        replace_file(partial / "new" / CARD, _as_json(card))
        put_folder(partial / "new", folder)


def _as_json(card: ModelCard) -> bytes:
    facts = asdict(card)
    if not facts["process"]:
        del facts["process"]  # so that versions that know of none read the card
    return (json.dumps(facts, indent=2) + "\n").encode()


def import_model(folder: Path, name: str | None = None, *, replace: bool = False) -> Path:
    """Store a model under a name: the published state dicts ``model_0`` ... ``model_4``, or a model of this package.

    Args:
        folder: holds the published files, or a model.
        name: name to store under; by default ``drxnet-2024`` when they are the five published files.
        replace: a model of that name is replaced; one with the same weights is left as it is in any case.

    Returns:
        Folder of the new model.

    Raises:
        UsageError: no such files, no name for files that are not the five published ones, a name that no model may
            have, or something would be lost.
        CheckpointError: a file is not a published state dict, or the model is damaged.
    """
    if (folder / CARD).exists():
        target, card = _target(name, folder), read_card(folder)
        if not _is_stored(target, card):
            _place(target, _checked_weights(folder, card), card, replace=replace)
        return target
    return import_published(folder, name, replace=replace)


def import_published(folder: Path, name: str | None = None, *, replace: bool = False) -> Path:
    """Read the published state dicts ``model_0`` ... and store them as a model of this package.

    Args:
        folder: holds the files ``model_0``, ``model_1``, ...; their number is the number of members.
        name: name to store under; by default ``drxnet-2024`` when they are the five published files.
        replace: a model of that name is replaced.

    Returns:
        Folder of the new model.

    Raises:
        UsageError: no such files, no name for files that are not the five, or something would be lost.
        CheckpointError: a file is not one of the published state dicts; others are not read, since they are pickles.
    """
    contents = _state_dicts(folder)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    published = digests == PUBLISHED_SHA256
    target = _target(name or (PUBLISHED_NAME if published else None), folder)
    unknown = [file for file, digest in digests.items() if digest not in PUBLISHED_SHA256.values()]
    if unknown:
        raise CheckpointError(
            f"{folder / unknown[0]}: not one of the five published files, by its SHA-256. Other state dicts are "
            f"pickles and are not read; train an ensemble here, or give a folder with {WEIGHTS} and {CARD}."
        )
    card = ModelCard(
        name=target.name,
        members=len(contents),
        provenance={
            "made": "published state dicts",
            "source": PUBLISHED_URL,
            "sha256": digests,
            "citation": CITATION,
        },
    )
    weights, card = _serialised(stack_published([_read_state_dict(content) for content in contents.values()]), card)
    if not _is_stored(target, card):
        _place(target, weights, card, replace=replace)
    return target


def _state_dicts(folder: Path) -> dict[str, bytes]:
    """The files ``model_0``, ``model_1``, ... of a folder, in this order."""
    paths = [path for path in folder.glob("model_*") if re.fullmatch(r"model_\d{1,4}(\.\w+)?", path.name)]
    if not paths:
        raise UsageError(f"{folder}: holds no published state dicts (files named model_0, model_1, ...), and no model.")
    paths.sort(key=lambda path: int(path.stem.split("_")[1]))
    return {path.name: _regular_file(path, _CARD_BYTES) for path in paths}


def _is_stored(folder: Path, card: ModelCard) -> bool:
    """Whether a folder holds a model, intact, with the weights of a card."""
    try:
        stored = read_card(folder)
        return stored.weights_sha256 == card.weights_sha256 and bool(_checked_weights(folder, stored))
    except CheckpointError:
        return False


def _target(name: str | None, folder: Path) -> Path:
    """Where a model of a name is stored."""
    if name is None:
        raise UsageError(f"{folder}: not the five published files, by their SHA-256. Name them with --name.")
    check_name(name, "A model", UsageError)
    if (shipped_home() / name).exists():
        raise UsageError(f"{name} is the name of a model that is installed with drx-screen. Choose another name.")
    sweep(models_home())
    return models_home() / name


def _read_state_dict(content: bytes) -> dict[str, Any]:
    """Read a state dict that is known by its SHA-256."""
    import torch

    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def stack_published(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack published state dicts into the weights of one :class:`~drxnet.network.DRXNet`.

    The first linear layer of each pair network is split into the part of the attending node and that of the
    other node; heads are joined.
    """
    from drxnet.network import DRXNet, NetworkShape

    network = DRXNet(NetworkShape(members=len(states)))
    stack = _Stack(states, network.state_dict(), range(network.shape.heads), network.shape.features)
    stack.linear("embed", "material_nn.embedding")
    for layer in range(network.shape.layers):
        stack.attention(f"messages.{layer}", f"material_nn.graphs.{layer}.pooling")
    stack.attention("pool", "material_nn.cry_pool")
    for kind in ("rate", "cycle"):
        stack.linear(f"{kind}.hidden", f"{kind}_embedding.hidden")
        stack.batch_norm(f"{kind}.norm", f"{kind}_embedding.bn")
        stack.linear(f"{kind}.out", f"{kind}_embedding.fc")
        stack.gate(f"at_{kind}", f"encode_{kind}")
    stack.put("fade", lambda s: s["delta_N.weight"][:, 0])
    for name, key in (
        ("window", "encode_voltage.fc_window"),
        ("voltage", "encode_voltage.fc_Vii"),
        ("voltage_out", "encode_voltage.fc"),
        ("state_in", "add_voltage.hidden"),
        ("state_hidden", "fc.hidden"),
        ("state_out", "fc.fc"),
    ):
        stack.linear(name, key)
    return stack.weights


@dataclass(frozen=True)
class _Stack:
    """Puts parts of published state dicts, one for each member, in the places of a network's weights."""

    states: Sequence[Mapping[str, Any]]
    weights: dict[str, Any]
    heads: range
    features: int

    def put(self, name: str, pick: Callable[[Mapping[str, Any]], Any]) -> None:
        import torch

        stacked = torch.stack([pick(state) for state in self.states])
        self.weights[name] = stacked.reshape(self.weights[name].shape).to(self.weights[name].dtype)

    def linear(self, name: str, key: str) -> None:
        self.put(f"{name}.weight", lambda s: s[f"{key}.weight"].T)
        self.put(f"{name}.bias", lambda s: s[f"{key}.bias"])

    def batch_norm(self, name: str, *keys: str) -> None:
        for ours, theirs in (("weight", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
            self.put(f"{name}.{ours}", _joined(f"{key}.{theirs}" for key in keys))

    def gate(self, name: str, key: str) -> None:
        weight = _joined((f"{key}.kernel.weight", f"{key}.attn.weight"))
        self.put(f"{name}.linear.weight", lambda s: weight(s).T)
        self.put(f"{name}.linear.bias", _joined((f"{key}.kernel.bias", f"{key}.attn.bias")))
        self.batch_norm(f"{name}.norm", f"{key}.bn", f"{key}.bn_attn")

    def attention(self, name: str, key: str) -> None:
        of_heads = [f"{key}.{h}.{part}_nn.fcs.0" for part in ("gate", "message") for h in self.heads]
        first = _joined(f"{part}.weight" for part in of_heads)
        other = slice(None)
        if f"{name}.own.weight" in self.weights:
            other = slice(self.features, None)
            self.put(f"{name}.own.weight", lambda s: first(s)[:, : self.features].T)
        self.put(f"{name}.other.weight", lambda s: first(s)[:, other].T)
        self.put(f"{name}.other.bias", _joined(f"{part}.bias" for part in of_heads))
        self.put(f"{name}.gate", _joined(f"{key}.{h}.gate_nn.fc_out.weight" for h in self.heads))
        out = [f"{key}.{h}.message_nn.fc_out" for h in self.heads]
        self.put(f"{name}.out.weight", _joined((f"{head}.weight" for head in out), transposed=True))
        self.put(f"{name}.out_bias", _joined(f"{head}.bias" for head in out))


def _joined(keys: Iterable[str], *, transposed: bool = False) -> Callable[[Mapping[str, Any]], Any]:
    """What picks tensors of a state dict, one below another."""
    listed = tuple(keys)

    def pick(state: Mapping[str, Any]) -> Any:
        import torch

        return torch.cat([state[key].T if transposed else state[key] for key in listed])

    return pick


def fetch_published(name: str = PUBLISHED_NAME, url: str = PUBLISHED_URL, *, replace: bool = False) -> Path:
    """Download the published ensemble, check every file's SHA-256 and import it.

    Raises:
        UsageError: the name is not one that can be fetched, or the server cannot be reached.
        CheckpointError: a file is not the published one.
    """
    if name != PUBLISHED_NAME:
        raise UsageError(f"Only {PUBLISHED_NAME} can be fetched. Got {name!r}.")
    check_target(models_home() / name, replace=True)
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
        return import_published(Path(folder), name, replace=replace)
