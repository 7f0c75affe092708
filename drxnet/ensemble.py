"""An ensemble of DRXNets: compositions and conditions in, capacities of every member out.

Shapes: ``members x n x voltages`` for profiles, ``members x n x c`` for capacities under c conditions. Members are
never averaged here; the population spread over them (ddof 0) is the published uncertainty.
"""

from __future__ import annotations

import ctypes
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from drxnet import checkpoint
from drxnet.checkpoint import ModelCard
from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.engines import ENGINES
from drxnet.errors import CheckpointError, CompositionError, DRXWarning, UsageError
from drxnet.network import SITE_INDEX, DRXNet, NetworkShape
from drxnet.process import FIELDS, encoded_processes

if TYPE_CHECKING:
    from drxnet.fused import FusedEncoder

FUSED_FROM = 20_000
"""Compositions from which ``auto`` takes the fused kernel: compiling it takes as long as the network for so many."""

_PAIR_FLOATS = 750_000
"""Floats of a pair tensor per chunk on a CPU: 3 MB, of which two are alive, stay in cache."""

_STATE_FLOATS = 750_000
"""Floats of a hidden layer of the state network per chunk on a CPU."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc

_ENCODED_ROWS = 2048
"""Compositions that are encoded, in blocks, before their conditions and states are evaluated together."""

_FUSED_ROWS = 8192
"""Compositions that the fused kernel encodes in one call."""

_PAIR_FLOATS_GPU = _STATE_FLOATS_GPU = 100_000_000
"""The same on a GPU: 400 MB, enough to fill it."""


@dataclass(frozen=True)
class Amounts:
    """Many compositions as arrays, the form in which a screening hands them over."""

    symbols: tuple[str, ...]
    """Cation of each column, lithium among them."""

    cations: Tensor
    """Amounts per formula unit, ``n x len(symbols)``; 0 where an element is absent."""

    fluorine: Tensor
    """F per formula unit, ``n``."""

    @classmethod
    def of(cls, compositions: Composition | str | Iterable[Composition | str]) -> Amounts:
        """Collect one or several compositions; the columns are the elements that occur.

        A data frame is taken by its column ``composition`` (or ``formula``).

        Raises:
            UsageError: a data frame without such a column.
        """
        parsed = [Composition.parse(c) for c in _listed(compositions)]
        symbols = tuple(sorted({s for c in parsed for s in c.elements}, key=SITE_INDEX.__getitem__))
        column = {s: i for i, s in enumerate(symbols)}
        cations = np.zeros((len(parsed), len(symbols)))
        for row, composition in enumerate(parsed):
            for symbol, amount in composition.cations:
                cations[row, column[symbol]] = amount
        fluorine = np.array([c.fluorine for c in parsed])
        return cls(symbols, torch.from_numpy(cations), torch.from_numpy(fluorine))

    def __len__(self) -> int:
        """Return the number of compositions."""
        return len(self.cations)

    def compositions(self) -> list[Composition]:
        """What :meth:`of` was given, on the two-anion basis."""
        return [
            Composition.from_amounts({**dict(zip(self.symbols, row, strict=True)), "O": 2 - f, "F": f})
            for row, f in zip(self.cations.tolist(), self.fluorine.tolist(), strict=True)
        ]

    def table(self, symbols: Sequence[str]) -> Tensor:
        """Amounts of the given cations, all of these compositions' among them, then of F, ``n x (symbols + 1)``.

        On a CPU, in float64; differentiable.
        """
        where = torch.tensor([*map(symbols.index, self.symbols), len(symbols)])
        held = torch.cat([self.cations, self.fluorine[:, None]], 1).cpu().double()
        return held.new_zeros(len(self), len(symbols) + 1).index_copy(1, where, held)


@dataclass(frozen=True)
class Encoded:
    """Compositions as the members see them; saves encoding again what is asked about more than once."""

    features: Tensor
    """Learned composition vectors, ``members x n x 32``."""

    def __len__(self) -> int:
        """Return the number of compositions."""
        return self.features.shape[1]


Compositions = Amounts | Encoded | Composition | str | Iterable[Composition | str]
"""One or several; a data frame is taken by its column ``composition``."""

Conditions = CyclingConditions | Iterable[CyclingConditions]
"""One or several."""


def _listed(compositions: Composition | str | Iterable[Composition | str]) -> Iterable[Composition | str]:
    if isinstance(compositions, Composition | str):
        return [compositions]
    if getattr(compositions, "ndim", 1) != 2:
        return compositions
    columns = [str(name) for name in getattr(compositions, "columns", ())]
    named = next((name for name in ("composition", "formula") if name in columns), None)
    if named is None:
        raise UsageError(f"A table of compositions has a column 'composition'. Got {', '.join(columns) or 'no names'}.")
    column: Iterable[str] = compositions[named]  # type: ignore[index]  # a data frame
    return column


def _keep_freed_memory() -> None:
    """Let glibc reuse the blocks of a prediction instead of unmapping and faulting them in again on every call.

    Worth a factor of 2 to 3 in a fresh process; elsewhere than on glibc nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def resolve_device(device: str) -> torch.device:
    """Turn ``auto`` into CUDA when there is one, else the CPU.

    Raises:
        UsageError: the device does not exist here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"No CUDA device here. Got --device {device}; use cpu or auto.")
    try:
        return torch.device(device)
    except RuntimeError:
        raise UsageError(f"{device!r} is not a device. Use auto, cpu or cuda.") from None


class Ensemble:
    """Members side by side, ready to predict. The weights are frozen; training works on a copy."""

    def __init__(
        self,
        network: DRXNet,
        card: ModelCard,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        path: Path | None = None,
        engine: str = "auto",
    ) -> None:
        if engine not in ENGINES:
            raise UsageError(f"An engine is one of {', '.join(ENGINES)}. Got {engine!r}.")
        self.network = network.to(device=device, dtype=dtype).eval().requires_grad_(requires_grad=False)
        self.card = card
        self.device = torch.device(device)
        self.dtype = dtype
        self.path = path
        self.engine = engine
        self._encode: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor] = self.network.encode
        if engine == "compiled":
            self._encode = _CompiledEncoder(self.network.encode, self._block_rows)
        self.encoder_threads: int | None = None
        """Threads of the fused kernel; by default as many as torch has."""

        self._fused: FusedEncoder | None = None
        self._told: set[str] = set()

    @classmethod
    def load(
        cls,
        model: str | Path = checkpoint.DEFAULT_MODEL,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        engine: str = "auto",
    ) -> Ensemble:
        """Load an ensemble by name or folder.

        Args:
            model: ``default``, ``drxnet-2024``, the name of an imported model, or a folder.
            device: ``auto``, ``cpu`` or ``cuda``.
            dtype: of weights and results.
            engine: what encodes compositions, one of :data:`drxnet.engines.ENGINES`.

        Raises:
            ModelNotFound: nothing of that name.
            CheckpointError: the files are damaged.
        """
        _keep_freed_memory()
        folder = checkpoint.find_model(model)
        card = checkpoint.read_card(folder)
        weights = checkpoint.read_weights(folder, card)
        try:
            branches = tuple((name, FIELDS[name].width) for name in card.process)
            shape = NetworkShape.of(card.members, card.network, branches)
            with torch.device("meta"):  # sizes alone; memory is taken once the weights have them
                DRXNet(shape).load_state_dict({name: tensor.to("meta") for name, tensor in weights.items()})
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{folder}: {checkpoint.WEIGHTS} holds not the weights of this network ({error})"
            ) from None
        network = DRXNet(shape)
        network.load_state_dict(weights)
        return cls(network, card, device=resolve_device(device), dtype=dtype, path=folder, engine=engine)

    @property
    def members(self) -> int:
        """Number of members."""
        return self.network.members

    @property
    def model_id(self) -> str:
        """Twelve hex digits that stand for exactly these weights."""
        return self.card.model_id

    def subset(self, members: Sequence[int]) -> Ensemble:
        """Build an ensemble of some of the members (copies of their weights)."""
        network = DRXNet(replace(self.network.shape, members=len(members)))
        network.load_state_dict({k: v[list(members)] for k, v in self.network.state_dict().items()})
        card = replace(self.card, members=len(members), name=f"{self.card.name}[{','.join(map(str, members))}]")
        return Ensemble(network, card, device=self.device, dtype=self.dtype, engine=self.engine)

    def with_engine(self, engine: str) -> Ensemble:
        """Build an ensemble on the same weights that encodes by another of the :data:`drxnet.engines.ENGINES`.

        ``fused`` needs the extra ``fast`` and compiles for some seconds once per machine; ``compiled`` needs a C++
        compiler, and seconds for each number of cations. Both agree with ``eager`` to 0.02 mAh/g per member. What they
        cannot do (gradients, float64, a GPU for ``fused``), the eager network does, with a warning.
        """
        return Ensemble(self.network, self.card, device=self.device, dtype=self.dtype, path=self.path, engine=engine)

    def compiled(self) -> Ensemble:
        """Build an ensemble on the same weights whose encoder runs through ``torch.compile``."""
        return self.with_engine("compiled")

    def engine_for(self, compositions: int) -> str:
        """Name the engine that encodes so many compositions without gradients: ``eager``, ``compiled`` or ``fused``."""
        if self.engine in ("eager", "compiled") or (self.engine == "auto" and compositions < FUSED_FROM):
            return "eager" if self.engine == "auto" else self.engine
        if reason := self._why_not_fused():
            if self.engine == "fused" or self.device.type == "cpu":
                self._tell(reason)
            return "eager"
        return "fused"

    def signature(self, compositions: int) -> str:
        """Say what the last digits for so many compositions depend on beside the weights: engine, versions, machine."""
        engine = self.engine_for(compositions)
        parts = [engine, f"torch {torch.__version__}"]
        if engine == "fused":
            from drxnet.fused import versions

            parts.append(versions())
        if self.device.type == "cuda":
            return ", ".join([*parts, torch.cuda.get_device_name(self.device)])
        return ", ".join([*parts, platform.machine(), torch.backends.cpu.get_cpu_capability(), _processor()])

    # -- what is asked for -------------------------------------------------------------------------------

    def capacity(self, compositions: Compositions, conditions: Conditions) -> Tensor:
        """Capacity at the lower cut-off under each of c conditions (mAh/g), ``members x n x c``.

        One composition or condition counts as a list of one, so that n or c is 1. Only that
        one voltage is evaluated, and each composition is encoded once for all conditions.
        Differentiable with respect to :class:`Amounts` that require a gradient.
        """
        each = _each(conditions)
        return self._crossed(compositions, each, torch.tensor([[c.v_low] for c in each])).squeeze(-1)

    def profiles(self, compositions: Compositions, conditions: Conditions, voltages: ArrayLike | Tensor) -> Tensor:
        """Capacity at voltages under each of c conditions (mAh/g), ``members x n x c x voltages``.

        Args:
            compositions: n compositions, or one.
            conditions: c conditions, each applied to every composition, or one.
            voltages: (V), ``voltages`` for all conditions or ``c x voltages``.
        """
        each, grid = _each(conditions), torch.as_tensor(np.asarray(voltages, float))
        return self._crossed(compositions, each, grid.expand(len(each), grid.shape[-1]))

    def predict(
        self,
        compositions: Compositions,
        conditions: Conditions,
        voltages: ArrayLike | Tensor,
    ) -> Tensor:
        """Capacity at voltages, one row per composition (mAh/g), ``members x n x voltages``.

        Args:
            compositions: n compositions.
            conditions: one for all, or n.
            voltages: (V), ``voltages`` for all rows or ``n x voltages``.
        """
        return self._rows(compositions, conditions, voltages, self.network.state)

    def predict_dqdv(
        self,
        compositions: Compositions,
        conditions: Conditions,
        voltages: ArrayLike | Tensor,
    ) -> Tensor:
        """DQ/dV at voltages, by forward differentiation (mAh/g/V), ``members x n x voltages``."""
        return self._rows(compositions, conditions, voltages, lambda c, w, v: self.network.state_and_slope(c, w, v)[1])

    def features(self, compositions: Compositions) -> Tensor:
        """Learned composition vectors, ``members x n x 32``."""
        amounts = self._checked(compositions)
        out = self._empty(len(amounts), self.network.shape.features)
        for rows, u in self._encoded(amounts):
            out = _put(out, (slice(None), rows), u)
        return out

    def encode(self, compositions: Compositions) -> Encoded:
        """Encode compositions once, for several questions about them."""
        return Encoded(self.features(compositions))

    # -- how it is computed ------------------------------------------------------------------------------

    def _checked(self, compositions: Compositions) -> Amounts | Encoded:
        if isinstance(compositions, Encoded):
            return compositions
        amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)
        unknown = [s for s in amounts.symbols if s not in SITE_INDEX]
        if unknown:
            raise CompositionError(f"No element vector for {', '.join(unknown)}.")
        if len(amounts) == 0:
            raise UsageError("No composition to predict.")
        return amounts

    def _crossed(self, compositions: Compositions, conditions: Sequence[CyclingConditions], voltages: Tensor) -> Tensor:
        if not conditions:
            raise UsageError("No cycling conditions to predict under.")
        amounts = self._checked(compositions)
        current, cycle, window, process = self._conditions(conditions)
        voltages = voltages.to(self.device, self.dtype)
        k = voltages.shape[-1]
        out = self._empty(len(amounts), len(conditions), k)
        for rows, u in self._encoded(amounts):
            for part in _pieces(len(rows), self._state_rows(k)):
                at = rows[part]
                for c in range(len(conditions)):
                    made = {name: x[c].expand(len(at), -1) for name, x in process.items()}
                    _, now = self.network.condition(
                        u[:, part], current[c].expand(len(at)), cycle[c].expand(len(at)), made
                    )
                    out = _put(out, (slice(None), at, c), self.network.state(now, window[c, None], voltages[c, None]))
        return out

    def _rows(
        self,
        compositions: Compositions,
        conditions: Conditions,
        voltages: ArrayLike | Tensor,
        state: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        amounts = self._checked(compositions)
        n = len(amounts)
        each = _each(conditions)
        grid = torch.as_tensor(np.asarray(voltages, float)).to(self.device, self.dtype)
        grid = grid[None] if grid.dim() == 1 else grid
        if len(each) not in (1, n) or len(grid) not in (1, n):
            raise UsageError(
                "One set of conditions and one row of voltages, or as many as compositions. "
                f"Got {len(each)} and {len(grid)} for {n}."
            )
        current, cycle, window, process = self._conditions(each)
        out = self._empty(n, grid.shape[-1])
        for rows, u in self._encoded(amounts):
            for part in _pieces(len(rows), self._state_rows(grid.shape[-1])):
                at = rows[part]
                own = [x if len(x) == 1 else x[at] for x in (current, cycle, window, grid)]
                made = {name: (x if len(x) == 1 else x[at]).expand(len(at), -1) for name, x in process.items()}
                _, now = self.network.condition(u[:, part], own[0].expand(len(at)), own[1].expand(len(at)), made)
                out = _put(out, (slice(None), at), state(now, own[2], own[3]))
        return out

    def _block_rows(self, n: int) -> int:
        """Compositions of n cations that are encoded at once."""
        pair = self.members * n * n * self.network.shape.heads * self.network.shape.attention_hidden
        return max(1, (_PAIR_FLOATS if self.device.type == "cpu" else _PAIR_FLOATS_GPU) // pair)

    def _state_rows(self, voltages: int) -> int:
        """Compositions whose profiles are evaluated at once."""
        floats = self.members * voltages * self.network.shape.features
        return max(1, (_STATE_FLOATS if self.device.type == "cpu" else _STATE_FLOATS_GPU) // floats)

    def _encoded(self, amounts: Amounts | Encoded) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and their composition vectors, in blocks of one number of cations.

        With gradients, absent elements are kept as cations of weight zero, so that the derivative with respect
        to their amount is right too.
        """
        if isinstance(amounts, Encoded):
            yield torch.arange(len(amounts), device=self.device), amounts.features
            return
        cations = amounts.cations.to(self.device, self.dtype)
        fluorine = amounts.fluorine.to(self.device, self.dtype)
        sites = torch.tensor([SITE_INDEX[s] for s in amounts.symbols], device=self.device)
        tracked = torch.is_grad_enabled() and (cations.requires_grad or fluorine.requires_grad)
        present = torch.ones_like(cations, dtype=torch.bool) if tracked else cations > 0
        if (fused := self._fused_encoder(present, tracked)) is None:
            yield from self._encoded_blocks(cations, fluorine, sites, present, tracked)
            return
        for part in _pieces(len(cations), _FUSED_ROWS):
            rows = torch.arange(part.start, part.stop)
            for at, u in self._fused_piece(fused, cations[part], fluorine[part], sites, present[part]):
                yield rows[at], u

    def _fused_piece(
        self, fused: FusedEncoder, cations: Tensor, fluorine: Tensor, sites: Tensor, present: Tensor
    ) -> Iterator[tuple[Tensor | slice, Tensor]]:
        """Encode by the fused kernel, and by the network itself where the kernel does not trust its result."""
        threads = self.encoder_threads or torch.get_num_threads()
        u, trusted = fused(cations.detach().numpy(), fluorine.detach().numpy(), sites.numpy(), threads)
        if trusted:
            yield slice(None), u
            return
        self._tell("some exponents of the network are too large for it")
        yield from self._encoded_blocks(cations, fluorine, sites, present, tracked=False)

    def _encoded_blocks(
        self, cations: Tensor, fluorine: Tensor, sites: Tensor, present: Tensor, tracked: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        counts = present.sum(1)
        for n in sorted(set(counts.tolist())):
            block = (counts == n).nonzero().squeeze(1)
            size = self._block_rows(n)
            for part in _pieces(len(block), size * max(1, _ENCODED_ROWS // size)):
                rows = block[part]
                columns = present[rows].nonzero()[:, 1].view(len(rows), n)
                w = cations[rows].gather(1, columns) / 2
                at, f = sites[columns], fluorine[rows] / 2
                with torch.set_grad_enabled(tracked):
                    u = [
                        self._encode(at[i], w[i], f[i], w[i] > 0 if tracked else None) for i in _pieces(len(rows), size)
                    ]
                yield rows, torch.cat(u, 1)

    def _fused_encoder(self, present: Tensor, tracked: bool) -> FusedEncoder | None:
        """Return the fused kernel, or None where the eager (or compiled) network has to do."""
        if self.engine_for(len(present)) != "fused":
            return None
        from drxnet.fused import MOST_CATIONS, FusedEncoder

        most = int(present.sum(1).max())
        if tracked or most > MOST_CATIONS:
            too_many = f"it takes at most {MOST_CATIONS} cations, one composition has {most}"
            self._tell("gradients are asked for" if tracked else too_many)
            return None
        self._fused = self._fused or FusedEncoder(self.network)
        return self._fused

    def _why_not_fused(self) -> str | None:
        """Say what keeps the fused kernel from serving this ensemble at all."""
        if self.device.type != "cpu" or self.dtype != torch.float32:
            return f"it works on a CPU in float32, this ensemble on {self.device.type} in {str(self.dtype)[6:]}"
        try:
            from drxnet.fused import fits
        except ImportError:
            return "it needs the extra `fast` (pip install 'drx-screen[fast]')"
        return None if fits(self.network.shape) else "it knows the published shape of the network alone"

    def _tell(self, reason: str) -> None:
        """Warn once that the eager network stands in for the fused kernel."""
        if reason not in self._told:
            self._told.add(reason)
            warnings.warn(f"The eager network stands in for the fused one: {reason}.", DRXWarning, stacklevel=3)

    def _conditions(
        self, conditions: Sequence[CyclingConditions]
    ) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]:
        """Current, cycle, window and what is stated of the process where the network has a branch for it."""
        table = torch.tensor([[c.current_ma_g, c.cycle, c.v_low, c.v_high] for c in conditions], dtype=torch.float64)
        table = table.to(self.device, self.dtype)
        stated = encoded_processes([c.process for c in conditions]) if self.network.shape.process else {}
        process = {name: torch.from_numpy(x).to(self.device, self.dtype) for name, x in stated.items()}
        return table[:, 0], table[:, 1], table[:, 2:], process

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty((self.members, *shape), device=self.device, dtype=self.dtype)


@cache
def _processor() -> str:
    """Model of the processor, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _put(out: Tensor, where: tuple[slice | Tensor | int, ...], values: Tensor) -> Tensor:
    """Fill part of a tensor: in place, or as a new tensor where a gradient must flow through."""
    if values.requires_grad:
        out = out.clone()
    out[where] = values
    return out


def _pieces(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


class _CompiledEncoder:
    """The encoder through ``torch.compile``; one block size per number of cations, so that each compiles once."""

    def __init__(self, encode: Callable[..., Tensor], block_rows: Callable[[int], int]) -> None:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * len(MODEL_METALS))
        self.eager, self.block_rows = encode, block_rows
        self.fused: Callable[..., Tensor] | None = torch.compile(encode, dynamic=False)

    def __call__(self, sites: Tensor, w: Tensor, fluorine: Tensor, present: Tensor | None) -> Tensor:
        if self.fused is None or present is not None:
            return self.eager(sites, w, fluorine, present)
        rows = len(w)
        fill = torch.arange(self.block_rows(w.shape[1]), device=w.device).clamp(max=rows - 1)
        try:
            return self.fused(sites[fill], w[fill], fluorine[fill])[:, :rows]
        except Exception as error:  # noqa: BLE001 - whatever the compiler raises, the eager network gives the answer
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"torch.compile failed, going on without it: {reason}", DRXWarning, stacklevel=2)
            self.fused = None
            return self.eager(sites, w, fluorine, None)


def _each(conditions: Conditions) -> list[CyclingConditions]:
    return [conditions] if isinstance(conditions, CyclingConditions) else list(conditions)


def mean_and_spread(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation (ddof 0) over the members axis, which is the first."""
    array = values.detach().cpu().double().numpy()
    return array.mean(0), array.std(0)
