"""Train an ensemble from random initialisation: the loss of the paper, the loop, checkpoints.

Zhong et al., Joule 8 (2024), doi:10.1016/j.joule.2024.03.010, "Model training". All members are one network and take
one step together; a batch is a choice of profiles and of voltages on each, so that every composition is encoded once
for all members, conditions and voltages. Every member sees the batches in the same order; what differs is where it
starts from and, if wanted, its targets (``M x P x K``).
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from drxnet.checkpoint import CITATION, ModelCard
from drxnet.composition import LEAST_METAL, METALS_BY_NUMBER, Composition
from drxnet.dataset import ProfileSet
from drxnet.ensemble import Ensemble, resolve_device
from drxnet.errors import CheckpointError, ConfigurationError, DatasetError, DRXWarning, UsageError
from drxnet.files import replace_file, save_figure
from drxnet.names import hint_or_all
from drxnet.network import SITE_INDEX, BatchNorm, DRXNet, NetworkShape
from drxnet.process import encoded_processes
from drxnet.progress import Progress, silent
from drxnet.style import new_figure, styled
from drxnet.text import csv_table

log = logging.getLogger(__name__)

Smoothness = Literal["sampled", "exact"]
InputStatistics = Literal["set", "batch"]

_SMALLEST_BLOCK = 4
"""Cations up to which compositions are encoded together; beyond, two numbers share a block."""

_FEW_ROWS = 256
"""Rows up to which compositions of several numbers of cations are encoded together."""

_AUGMENTATION = ("amount_noise", "fluorine_noise", "trace_share")
_LATER = (*_AUGMENTATION, "robust_mah_g")
"""Options that came after the first runs; what they do without is what those did."""

_MOST_NOISE = 0.2
_TRACE = (1e-4, LEAST_METAL)
_LEAST_SHAKEN = 1e-3
"""Amount of a cation per formula unit that noise leaves of it."""

STATE, LOSSES, LOSS_FIGURE = "state.safetensors", "losses.csv", "losses.png"

_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("members", "epochs", "profiles_per_batch", "points_per_profile", "smoothness_every"),
        lambda v: int(v) == v and v >= 1,
        "be a whole number from 1",
    ),
    (("learning_rate", "decay"), lambda v: v > 0, "be positive"),
    (
        ("capacity_weight", "dqdv_weight", "first_cycle_weight", "l2_weight", "smoothness_weight", "robust_mah_g"),
        lambda v: v >= 0,
        "not be negative",
    ),
    (("amount_noise", "fluorine_noise"), lambda v: 0 <= v <= _MOST_NOISE, f"lie in [0, {_MOST_NOISE:g}]"),
    (("trace_share",), lambda v: 0 <= v <= 1, "lie in [0, 1]"),
    (("smoothness_share",), lambda v: 0 < v <= 1, "lie in (0, 1]"),
    (("smoothness",), get_args(Smoothness).__contains__, f"be {' or '.join(get_args(Smoothness))}"),
    (("input_statistics",), get_args(InputStatistics).__contains__, f"be {' or '.join(get_args(InputStatistics))}"),
)
"""Options, what their value must be, and the same in words."""


@dataclass(frozen=True)
class TrainingOptions:
    """How an ensemble is trained; the defaults are the paper's."""

    members: int = 5
    """Networks of the ensemble."""

    epochs: int = 30
    """Times that every point of every profile is used."""

    profiles_per_batch: int = 64
    """Profiles of a batch."""

    points_per_profile: int = 16
    """Voltages of each of them; 64 x 16 are the paper's 1,024 points."""

    learning_rate: float = 1e-3
    """Of Adam, in the first epoch."""

    decay: float = 0.9
    """Factor on the learning rate after every epoch."""

    capacity_weight: float = 1.0
    """Of the mean squared error of Q at cycle N ((mAh/g)^2)."""

    dqdv_weight: float = 1.0
    """Of the mean squared error of dQ/dV ((mAh/g/V)^2)."""

    first_cycle_weight: float = 5.0
    """Of the mean absolute error of Q at cycle 1 (mAh/g); 0 leaves the term out."""

    robust_mah_g: float = 0.0
    """Error of a capacity from which on it counts in proportion, no longer squared; 0 for none."""

    l2_weight: float = 1e-4
    """Of the weights' squared norm / 2, as Adam's weight decay."""

    smoothness_weight: float = 1e-4
    """Of the norm of dQ/dc, the derivative with respect to the cation fractions; 0 leaves the term out."""

    smoothness: Smoothness = "sampled"
    """``exact``: dQ/dc at every point of a batch. ``sampled``: at one voltage of some of the profiles, scaled to the
    same expected square; much cheaper."""

    smoothness_share: float = 0.25
    """Share of the profiles of a batch at which it is sampled."""

    smoothness_every: int = 1
    """Steps between two that hold the term, whose weight is multiplied by this."""

    input_statistics: InputStatistics = "set"
    """Of batch normalisation of current and cycle. ``batch``: of each batch, as in the paper, whose 1,024 random points
    give steady ones. ``set``: of the whole set, since among 64 profiles a single one at 10 A/g rescales all others."""

    amount_noise: float = 0.0
    """Augmentation: standard deviation of the noise on the amount of every cation per formula unit, drawn anew in every
    step; their sum is kept. The amounts that a synthesis hits scatter by about 0.01."""

    fluorine_noise: float = 0.0
    """Augmentation: the same for F, where there is any."""

    trace_share: float = 0.0
    """Augmentation: share of the compositions that get, in a step, a trace of a metal that they do not hold, from
    0.0001 to 0.02 per formula unit, with unchanged targets."""

    network: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the network where they differ from the published ones."""

    def __post_init__(self) -> None:
        """Check the values."""
        for names, holds, rule in _RULES:
            for name in names:
                if not holds(value := getattr(self, name)):
                    raise ConfigurationError(f"{name} must {rule}. Got {value!r}.")
        known = [f.name for f in fields(NetworkShape) if f.name not in ("members", "process")]
        _refuse_unknown(self.network, known, "the network")

    @property
    def augmented(self) -> bool:
        """Whether compositions are shaken in every step."""
        return any(getattr(self, name) > 0 for name in _AUGMENTATION)

    @property
    def shape(self) -> NetworkShape:
        """Sizes of the network."""
        return NetworkShape.of(self.members, self.network)


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigurationError(f"{key!r} is no option of {what}. {hint_or_all(key, known)}")


def load_options(source: str | Path) -> TrainingOptions:
    """Read training options from a YAML file, or a shipped one by its name.

    Raises:
        ConfigurationError: no such file, not a mapping, an unknown key or a value that cannot be.
    """
    from drxnet.yaml_files import read_yaml, shipped

    path = shipped("models").get(str(source), Path(source))
    try:
        content = read_yaml(path)
    except OSError:
        have = ", ".join(shipped("models"))
        raise ConfigurationError(f"No training options {str(source)!r}. A YAML file, or one of: {have}.") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: must be a mapping of options. Got {type(content).__name__}.")
    try:
        _refuse_unknown(content, [f.name for f in fields(TrainingOptions)], "training")
        return TrainingOptions(**content)
    except (TypeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from None


# -- data as the network takes them ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Batch:
    """Some profiles at some of their voltages."""

    compositions: Tensor
    """Index of the composition of each profile, ``B``."""

    current: Tensor
    """(mA/g), ``B``."""

    cycle: Tensor
    """From 1, ``B``."""

    window: Tensor
    """(V), ``B x 2``."""

    voltage: Tensor
    """(V), ``B x K``."""

    capacity: Tensor
    """(mAh/g), ``M x B x K``, or 1 in place of M when all members learn the same."""

    dqdv: Tensor
    """(mAh/g/V), shaped alike, NaN where unknown."""

    first: Tensor
    """Capacity at cycle 1 (mAh/g), shaped alike, NaN where unknown."""

    weight: Tensor
    """Of each profile in the loss, ``M x B`` or ``1 x B``."""

    process: Mapping[str, Tensor] = field(default_factory=dict)
    """What is stated of the process, ``B x inputs`` each, NaN where it is not."""

    def flattened(self) -> Batch:
        """One row per point, each a profile of one voltage."""
        k = self.voltage.shape[1]

        def rows(x: Tensor) -> Tensor:
            return x.repeat_interleave(k, 0)

        def points(x: Tensor) -> Tensor:
            return x.flatten(1, 2).unsqueeze(-1)

        return Batch(
            rows(self.compositions),
            rows(self.current),
            rows(self.cycle),
            rows(self.window),
            self.voltage.reshape(-1, 1),
            points(self.capacity),
            points(self.dqdv),
            points(self.first),
            self.weight.repeat_interleave(k, 1),
            {name: rows(x) for name, x in self.process.items()},
        )


class TrainingTensors:
    """A :class:`ProfileSet` as tensors, with its compositions listed once."""

    def __init__(
        self,
        profiles: ProfileSet,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        weight: np.ndarray | None = None,
    ) -> None:
        compositions, which = profiles.unique
        sites, amounts = _padded(compositions)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

        def targets(array: np.ndarray) -> Tensor:
            return tensor(array if array.ndim == 3 else array[None])

        self.sites = sites.to(device)
        self.w = (amounts / 2).to(device, dtype)
        self.sizes = torch.tensor([len(c.cations) for c in compositions], device=device)
        self.metals = tuple(s for s in profiles.elements if s != "Li")
        self.fluorine = tensor(np.array([c.fluorine / 2 for c in compositions]))
        self.profiles = len(profiles)
        self.points = profiles.points
        self.whole = Batch(
            torch.from_numpy(which).to(device),
            tensor(profiles.current_ma_g),
            tensor(profiles.cycle),
            tensor(profiles.window_v),
            tensor(profiles.voltage_v),
            targets(profiles.capacity_mah_g),
            targets(profiles.dqdv_mah_g_v),
            targets(profiles.first_capacity_mah_g),
            tensor(np.ones((1, len(profiles))) if weight is None else weight),
            {name: tensor(x) for name, x in encoded_processes(profiles.processes).items()},
        )

    def batch(self, rows: Tensor, columns: Tensor) -> Batch:
        """Take profiles ``B`` and voltages on each, ``B x K``."""
        whole = self.whole

        def pick(x: Tensor) -> Tensor:
            return x[:, rows].gather(2, columns.expand(x.shape[0], -1, -1))

        return Batch(
            whole.compositions[rows],
            whole.current[rows],
            whole.cycle[rows],
            whole.window[rows],
            whole.voltage[rows].gather(1, columns),
            pick(whole.capacity),
            pick(whole.dqdv),
            pick(whole.first),
            whole.weight[:, rows],
            {name: x[rows] for name, x in whole.process.items()},
        )

    def epoch(self, rng: np.random.Generator, profiles_per_batch: int, points_per_profile: int) -> Iterator[Batch]:
        """Use every point once, in batches of nearly equal size; profiles and voltages in random order."""
        device = self.w.device
        rounds, batches = self.rounds(points_per_profile), max(1, self.profiles // profiles_per_batch)
        columns = rng.permuted(np.tile(np.arange(self.points), (self.profiles, 1)), axis=1)
        for chosen in np.array_split(columns, rounds, axis=1):
            for rows in np.array_split(rng.permutation(self.profiles), batches):
                yield self.batch(torch.from_numpy(rows).to(device), torch.from_numpy(chosen[rows]).to(device))

    def shaken(self, rng: np.random.Generator, options: TrainingOptions) -> TrainingTensors:
        """The same set with noise on the compositions, see :class:`TrainingOptions`; what is learned of them stays."""
        twin = copy.copy(self)
        w = self.w.detach().cpu().double().numpy()
        fluorine, sites, sizes = (
            self.fluorine.cpu().double().numpy(),
            self.sites.cpu().numpy(),
            self.sizes.cpu().numpy(),
        )
        total = w.sum(1, keepdims=True)
        if options.amount_noise:
            noisy = np.maximum(w + options.amount_noise / 2 * rng.standard_normal(w.shape), _LEAST_SHAKEN / 2)
            noisy = np.where(w > 0, noisy, 0.0)
            w = noisy * total / noisy.sum(1, keepdims=True)
        if options.fluorine_noise:
            moved = fluorine + options.fluorine_noise / 2 * rng.standard_normal(fluorine.shape)
            fluorine = np.where(fluorine > 0, np.maximum(moved, 0.0), 0.0)
        if options.trace_share:
            w, sites, sizes = w.copy(), sites.copy(), sizes.copy()
            others = np.array([SITE_INDEX[s] for s in self.metals])
            for row in np.flatnonzero(rng.random(len(w)) < options.trace_share):
                absent = np.setdiff1d(others, sites[row, : sizes[row]])
                if len(absent):
                    sites[row, sizes[row]] = rng.choice(absent)
                    w[row, sizes[row]] = np.exp(rng.uniform(*np.log(_TRACE))) / 2
                    sizes[row] += 1
        twin.w, twin.fluorine = (torch.from_numpy(x).to(self.w) for x in (w, fluorine))
        twin.sites, twin.sizes = torch.from_numpy(sites).to(self.sites), torch.from_numpy(sizes).to(self.sizes)
        return twin

    def steps(self, profiles_per_batch: int, points_per_profile: int) -> int:
        """Batches of an epoch."""
        return self.rounds(points_per_profile) * max(1, self.profiles // profiles_per_batch)

    def rounds(self, points_per_profile: int) -> int:
        """Times that an epoch passes over the profiles."""
        return max(1, round(self.points / points_per_profile))

    def encode(self, network: DRXNet, compositions: Tensor) -> Tensor:
        """Composition vectors of some of the compositions, each evaluated once, ``M x B x d``."""
        unique, inverse = compositions.unique(return_inverse=True)
        u, _ = self._encode(network, unique, tracked=False)
        return u[:, inverse]

    def encode_tracked(self, network: DRXNet, compositions: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Composition vectors of every row by itself, and the fractions to differentiate by.

        Returns:
            Vectors, ``M x B x d``, and one leaf ``M x b x n`` for each block of alike numbers of cations; the
            derivative by the fraction of a cation that is not there is zero.
        """
        return self._encode(network, compositions, tracked=True)

    def _encode(self, network: DRXNet, rows: Tensor, *, tracked: bool) -> tuple[Tensor, list[Tensor]]:
        sizes = self.sizes[rows]
        padded = sizes
        if len(rows) <= _FEW_ROWS:  # fewer blocks, each little larger than need be
            padded = (sizes + sizes % 2).clamp(min=_SMALLEST_BLOCK)
        order, parts, leaves = [], [], []
        for size in padded.unique().tolist():
            at = (padded == size).nonzero().squeeze(1)
            of = rows[at]
            n = int(sizes[at].max())
            w = self.w[of, :n]
            present = w > 0
            if tracked:
                leaf = w.expand(network.members, -1, -1).clone().requires_grad_()
                leaves.append(leaf)
                w = leaf * present
            order.append(at)
            parts.append(network.encode(self.sites[of, :n], w, self.fluorine[of], None if present.all() else present))
        back = torch.empty_like(rows)
        back[torch.cat(order)] = torch.arange(len(rows), device=rows.device)
        return torch.cat(parts, 1)[:, back], leaves


def _padded(compositions: Sequence[Composition]) -> tuple[Tensor, Tensor]:
    """Sites and amounts of the cations of n compositions, ``n x longest``, with a place left for a trace."""
    if unknown := sorted({s for c in compositions for s in c.elements if s not in SITE_INDEX}):
        raise DatasetError(f"No element vector for {', '.join(unknown)}; leave these cells out.")
    longest = 1 + max(len(c.cations) for c in compositions)
    sites = torch.zeros(len(compositions), longest, dtype=torch.long)
    amounts = torch.zeros(len(compositions), longest, dtype=torch.float64)
    for row, composition in enumerate(compositions):
        for column, (symbol, amount) in enumerate(composition.cations):
            sites[row, column], amounts[row, column] = SITE_INDEX[symbol], amount
    return sites, amounts


# -- the loss --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Losses:
    """Terms of equation 12, one value per member, ``M``, before their weights; None where left out."""

    capacity: Tensor
    dqdv: Tensor
    first_cycle: Tensor
    smoothness: Tensor | None

    def total(self, options: TrainingOptions) -> Tensor:
        """Weighted sum over terms and members; members share nothing, so each gets the gradient of its own loss."""
        total = options.capacity_weight * self.capacity + options.dqdv_weight * self.dqdv
        total = total + options.first_cycle_weight * self.first_cycle
        if self.smoothness is not None:
            total = total + options.smoothness_weight * options.smoothness_every * self.smoothness
        return total.sum()


def batch_losses(
    network: DRXNet, tensors: TrainingTensors, batch: Batch, options: TrainingOptions, *, smooth: bool = True
) -> Losses:
    """Evaluate the terms of the loss on a batch.

    Args:
        network: in training mode, or in evaluation mode to keep the statistics of batch normalisation.
        tensors: the set that the batch is from.
        batch: profiles and voltages.
        options: which terms, and how ||dQ/dc|| is evaluated.
        smooth: whether this step holds that term at all.
    """
    smooth = smooth and options.smoothness_weight > 0
    if smooth and options.smoothness == "exact":
        batch = batch.flattened()
    rows = len(batch.compositions)
    sampled = rows if options.smoothness == "exact" else max(1, round(rows * options.smoothness_share))
    fractions: list[Tensor] = []
    if smooth:
        u, fractions = tensors.encode_tracked(network, batch.compositions[:sampled])
        if sampled < rows:
            u = torch.cat([u, tensors.encode(network, batch.compositions[sampled:])], 1)
    else:
        u = tensors.encode(network, batch.compositions)
    first, now = network.condition(u, batch.current, batch.cycle, batch.process)
    at_voltage, rise = network.at_voltage_and_slope(batch.window, batch.voltage)
    q, slope = network.capacity_and_slope(now, at_voltage, rise)
    q_first = network.capacity(first, at_voltage) if options.first_cycle_weight > 0 else None

    return Losses(
        capacity=_mean(_squared(q - batch.capacity, options.robust_mah_g), batch.weight),
        dqdv=_mean_of_known(slope, batch.dqdv, batch.weight, squared=True),
        first_cycle=(
            torch.zeros_like(q[:, 0, 0])
            if q_first is None
            else _mean_of_known(q_first, batch.first, batch.weight, squared=False)
        ),
        smoothness=_roughness(network, batch, now[:, :sampled], fractions) if smooth else None,
    )


def _squared(difference: Tensor, robust: float) -> Tensor:
    """Squares, which go on as straight lines beyond `robust` (P. J. Huber, Ann. Math. Stat. 35, 73 (1964))."""
    if not robust:
        return difference.square()
    size = difference.abs()
    return torch.where(size <= robust, size.square(), robust * (2 * size - robust))


def _roughness(network: DRXNet, batch: Batch, now: Tensor, fractions: Sequence[Tensor]) -> Tensor:
    """Norm of dQ/dc over a batch, ``M``: at the first voltage of the first profiles, both of which are random.

    Args:
        network: that is trained.
        batch: whose norm is meant.
        now: vectors of its first profiles, ``M x sampled x d``.
        fractions: what to differentiate by.
    """
    (rows, k), sampled = batch.voltage.shape, now.shape[1]
    at_one = network.state(now, batch.window[:sampled], batch.voltage[:sampled, :1])
    grads = torch.autograd.grad(at_one.sum(), list(fractions), create_graph=True)
    square = torch.stack([g.square().sum((1, 2)) for g in grads]).sum(0)
    return (k * rows / sampled * square).sqrt()


def _mean(errors: Tensor, weight: Tensor) -> Tensor:
    return (errors.mean(2) * weight).mean(1)


def _mean_of_known(predicted: Tensor, target: Tensor, weight: Tensor, *, squared: bool) -> Tensor:
    known = ~target.isnan()
    difference = torch.where(known, predicted - target.nan_to_num(), 0.0)
    return _mean(difference.square() if squared else difference.abs(), weight)


# -- the loop --------------------------------------------------------------------------------------------------


def pretrain(
    profiles: ProfileSet,
    options: TrainingOptions | None = None,
    *,
    seed: int,
    name: str = "trained",
    folder: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Ensemble:
    """Train an ensemble from random initialisation.

    Args:
        profiles: what to learn; with targets per member, member m learns from the m-th.
        options: how; by default as in the paper.
        seed: of initialisation and of the order of the data.
        name: of the model.
        folder: where a checkpoint is kept after every epoch, with ``losses.csv`` and ``losses.png``.
        resume: go on from the checkpoint in the folder; the same weights come out as without interruption.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told of steps.

    Raises:
        DatasetError: fewer than two profiles, or targets of another number of members.
        CheckpointError: `resume`, and the checkpoint was made with other data, options or seed.
        UsageError: a checkpoint lies in the folder, and not `resume`.
    """
    options = options or TrainingOptions()
    _check_profiles(profiles, options)
    run = _Run(folder, _identity(profiles, options, seed))
    if not resume:
        run.refuse_to_overwrite()
    network = initial_network(options, seed).to(resolve_device(device), torch.float32).train()
    still = fix_input_statistics(network, profiles, options)
    tensors = TrainingTensors(profiles, device=resolve_device(device))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=options.learning_rate, weight_decay=options.l2_weight, fused=True)
    history = run.restore(network, optimizer) if resume else []
    steps = tensors.steps(options.profiles_per_batch, options.points_per_profile)
    for epoch in range(len(history), options.epochs):
        rate = options.learning_rate * options.decay**epoch
        for group in optimizer.param_groups:
            group["lr"] = rate
        seen = []
        for losses in _steps_of_epoch(network, optimizer, tensors, options, [seed, epoch]):
            seen.append(losses)
            progress(epoch * steps + len(seen), options.epochs * steps)
        history.append({"epoch": epoch + 1, "learning_rate": rate, **_mean_losses(seen)})
        log.info("epoch %d of %d: %s", epoch + 1, options.epochs, history[-1])
        if not np.isfinite(history[-1]["capacity_mse"]):
            raise DatasetError(
                f"The loss is no longer finite in epoch {epoch + 1}. Lower learning_rate "
                f"({options.learning_rate:g}) or check the targets."
            )
        run.store(network, optimizer, history)
    card = _card(name, profiles, options, {"seed": seed, "final_losses": history[-1], "constant_inputs": still})
    return Ensemble(network, card, device=resolve_device(device))


def _card(name: str, profiles: ProfileSet, options: TrainingOptions, run: Mapping[str, Any]) -> ModelCard:
    """Describe what was trained, with the facts of the run."""
    return ModelCard(
        name=name,
        members=options.members,
        elements=tuple(sorted(profiles.elements, key=METALS_BY_NUMBER.index)),
        network=dict(options.network),
        data_fingerprint=profiles.fingerprint,
        provenance={
            "made": "trained from random initialisation",
            "profiles": len(profiles),
            "compositions": len(profiles.unique[0]),
            "options": asdict(options),
            **run,
            "torch": torch.__version__,
            "method": CITATION,
        },
    )


def _check_profiles(profiles: ProfileSet, options: TrainingOptions) -> None:
    if len(profiles) < 2:
        raise DatasetError(
            f"Training needs at least two profiles. Got {len(profiles)} ({profiles.compositions[0]}); "
            "a single one can only be fine-tuned with."
        )
    if profiles.members not in (None, options.members):
        profiles.for_members(options.members)  # refuses, naming both numbers


def _steps_of_epoch(
    network: DRXNet,
    optimizer: torch.optim.Optimizer,
    tensors: TrainingTensors,
    options: TrainingOptions,
    seed: Sequence[int],
) -> Iterator[Losses]:
    """Use every point once, and yield what was lost in each step after it is made."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([*seed, 1])
    for step, batch in enumerate(tensors.epoch(rng, options.profiles_per_batch, options.points_per_profile)):
        shown = tensors.shaken(noise, options) if options.augmented else tensors
        losses = batch_losses(network, shown, batch, options, smooth=step % options.smoothness_every == 0)
        optimizer.zero_grad(set_to_none=True)
        losses.total(options).backward()
        optimizer.step()
        yield losses


def initial_network(options: TrainingOptions, seed: int) -> DRXNet:
    """Random weights from a seed, whatever torch's own generator was doing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DRXNet(options.shape)


_INPUTS = {
    "rate": ("current_ma_g", "current", (10.0, 20.0, 40.0, 100.0, 200.0, 400.0, 1000.0)),
    "cycle": ("cycle", "cycle number", tuple(float(n) for n in range(1, 31))),
}
"""Branch of the network, its input in a set, its name for people, and values typical of DRX-TD."""


def fix_input_statistics(network: DRXNet, profiles: ProfileSet, options: TrainingOptions) -> list[str]:
    """Give batch normalisation of current and cycle the statistics of a whole set.

    It acts on a linear map of a single number, so all it does is to shift and scale that number, and the map's own
    weights do not matter; they are frozen. Where the set holds a single value there is no scale (with those of a
    batch, the running variance would fall to zero and any other value be magnified beyond measure): then the
    statistics are those of values typical of DRX-TD, whatever the options say.

    Returns:
        Names of the inputs that do not vary, also said in a :class:`DRXWarning`.
    """
    constant = []
    for branch, (column, name, typical) in _INPUTS.items():
        values = getattr(profiles, column)
        if np.ptp(values) == 0:
            constant.append(name)
            warnings.warn(
                f"Every profile has the same {name} ({values[0]:g}): its effect cannot be learned, and batch "
                "normalisation of that branch keeps the statistics of typical values.",
                DRXWarning,
                stacklevel=3,
            )
            values = np.array([*typical, values[0]])
        elif options.input_statistics == "batch":
            continue
        embed = getattr(network, branch)
        embed.hidden.requires_grad_(False)
        with torch.no_grad():
            embed.norm.mean.copy_((embed.hidden.weight * values.mean() + embed.hidden.bias).squeeze(1))
            embed.norm.var.copy_((embed.hidden.weight * values.std()).square().squeeze(1))
        embed.norm.eval()
    return constant


def freeze_statistics(network: DRXNet) -> None:
    """Keep the running statistics of batch normalisation, whatever the mode of the rest."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.eval()


def _mean_losses(seen: Sequence[Losses]) -> dict[str, float]:
    def mean(values: Sequence[Tensor]) -> float:
        return float(torch.stack([v.detach() for v in values]).mean()) if values else float("nan")

    return {
        "capacity_mse": mean([x.capacity for x in seen]),
        "dqdv_mse": mean([x.dqdv for x in seen]),
        "first_cycle_mae": mean([x.first_cycle for x in seen]),
        "smoothness_norm": mean([x.smoothness for x in seen if x.smoothness is not None]),
    }


def _identity(profiles: ProfileSet, options: TrainingOptions, seed: int) -> dict[str, Any]:
    """What must be the same for a run to be resumed; more epochs may be added only where the rate does not decay."""
    chosen = {k: v for k, v in asdict(options).items() if v or k not in _LATER}  # as before there was any
    return {"data": profiles.fingerprint, "options": chosen, "seed": seed}


@dataclass(frozen=True)
class _Run:
    """The checkpoint of a training run: everything needed to go on, in one file that is replaced as a whole."""

    folder: Path | None
    identity: Mapping[str, Any]

    def store(self, network: DRXNet, optimizer: torch.optim.Adam, history: Sequence[Mapping[str, float]]) -> None:
        if self.folder is None:
            return
        from safetensors.torch import save

        tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            state = optimizer.state.get(parameter, {})
            tensors |= {f"adam.{name}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
        facts = {"identity": json.dumps(self.identity), "history": json.dumps(list(history))}
        replace_file(self.folder / STATE, save(tensors, facts))
        replace_file(self.folder / LOSSES, csv_table(history, list(history[0])).encode())
        plot_losses(history, self.folder / LOSS_FIGURE)

    def refuse_to_overwrite(self) -> None:
        if self.folder is not None and (self.folder / STATE).exists():
            raise UsageError(
                f"{self.folder / STATE}: an earlier training would be lost. Go on from it (--resume), train in another "
                "folder, or delete it to start over."
            )

    def restore(self, network: DRXNet, optimizer: torch.optim.Adam) -> list[dict[str, float]]:
        if self.folder is None or not (self.folder / STATE).is_file():
            return []
        path = self.folder / STATE
        tensors, identity, history = _read_state(path)
        wanted = json.loads(json.dumps(self.identity))
        if differs := [key for key in wanted if identity.get(key) != wanted[key]]:
            raise CheckpointError(
                f"{path}: made with other {', '.join(differs)}. Resume with the same, or start in another folder."
            )
        network.load_state_dict(_below("network.", tensors))
        for name, parameter in network.named_parameters():
            if state := _below(f"adam.{name}.", tensors):
                optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in state.items()}
        return history


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[dict[str, float]]]:
    """Tensors of a checkpoint, the identity of its run, and its history."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        return tensors, json.loads(facts["identity"]), json.loads(facts["history"])
    except Exception as error:  # noqa: BLE001 - safetensors raises its own type, which is not exported
        raise CheckpointError(f"{path}: cannot be resumed from ({error}). Delete it to start over.") from None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@styled
def plot_losses(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the terms of the loss against the epoch."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    epochs = [row["epoch"] for row in history]
    labels = {
        "capacity_mse": "Q, mean square ((mAh/g)²)",
        "dqdv_mse": "dQ/dV, mean square ((mAh/g/V)²)",
        "first_cycle_mae": "Q at cycle 1, mean absolute (mAh/g)",
        "smoothness_norm": "norm of dQ/dc (mAh/g)",
    }
    for key, label in labels.items():
        axes.plot(epochs, [row[key] for row in history], marker=".", label=label)
    axes.set(xlabel="epoch", yscale="log")
    axes.legend(fontsize=8)
    save_figure(figure, path, dpi=120)
