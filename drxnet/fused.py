"""The encoder of the network as one fused kernel (Numba), for screening millions of compositions on a CPU.

Same function as :meth:`drxnet.network.DRXNet.encode`, without gradients, in float32; the eager network stays the
definition, and the oracle of the tests. Needs the extra ``fast``, and no compiler on the user's machine.

The algebra, for one member and cations i, j of a composition with weights w (amount / 2) and F_fraction f:

    nodes      h_i = [table[element_i] + f shift, w_i]                          the element table is mapped once
    layer      x_i = h_i W_own,  y_j = h_j W_other + b                          once per cation, not per pair
    pair       silu(x_i + y_j) = (x_i + y_j) / (1 + exp(-x_i) exp(-y_j))        exponentials per cation, not per pair
    gate       g_ij = sum_d v_d silu(x_i + y_j)_d                               v goes into x and y beforehand
    weights    a_ij = w_j exp(g_ij) / (heads sum_k w_k exp(g_ik))
    update     h_i += (sum_j a_ij silu(x_i + y_j)) W_out + mean of b_out        the last map acts on the sum
    pooling    the same with y alone, once for the composition

Layer 1 needs no product: its nodes are a row of a table plus multiples of two vectors.

Compositions follow each other as a ragged list of cations and are taken in blocks of about :data:`BLOCK` cations, whose
arrays stay in the second-level cache. The arithmetic is written in vectors of 16 floats, so that it does not depend on
what a compiler recognises, and every sum runs in an order that the composition alone decides: a composition gives the
same bits wherever it stands in a list, however the list is cut, and on how many threads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
from torch import Tensor

from drxnet.network import DRXNet, NetworkShape

FEATURES, LAYERS, HEADS, HIDDEN = 32, 3, 3, 64
"""The published shape, the only one that the kernel knows."""

MOST_CATIONS = 16
"""Cations of a composition."""

BLOCK = 48
"""Cations that are worked on together: 48 x 768 floats twice, 300 KB."""

MOST_EXPONENT = 86.0
"""A node up to which its exponential and that of its negative are finite in float32; in trained networks they lie below
64. Where a composition goes beyond, the eager network has to be asked."""

F = np.float32
_LANES = 16
_GATES = HEADS * HIDDEN
_HALF = 2 * _GATES
_FULL = 2 * _HALF
"""Of a node: gates and values (192 each) of what it is to itself, then of what it is to others."""

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "boundscheck": False}


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and for later processes too where there is a folder to keep it in."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba finds no folder that it may write to
        return njit(**_OPTIONS)(function)


# -- vectors of 16 floats ------------------------------------------------------------------------------------

Vector = Any
"""16 floats in a compiled function: a register of AVX-512, two of AVX2, four of NEON."""


_instructions: Any = intrinsic  # numba's annotations count the context among the arguments of a call


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector16")


_vector = _Vector()
_float, _int = ir.FloatType(), ir.IntType(32)
_sixteen, _sixteen_whole = ir.VectorType(_float, _LANES), ir.VectorType(_int, _LANES)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _sixteen)  # type: ignore[no-untyped-call]  # of numba


def _operation(build: Callable[..., Any], inputs: int = 2, returned: Any = _vector) -> Any:
    """Make a function of vectors out of what emits its instructions."""

    def typed(context: Any, *vectors: Any) -> Any:
        return returned(*vectors), lambda context, builder, signature, arguments: build(builder, *arguments)

    fixed: dict[int, Any] = {
        1: lambda context, a: typed(context, a),
        2: lambda context, a, b: typed(context, a, b),
        3: lambda context, a, b, c: typed(context, a, b, c),
    }
    return _instructions(fixed[inputs])


def _operator(symbol: Callable[..., Any], build: Callable[..., Any]) -> None:
    @type_callable(symbol)
    def typed(context: Any) -> Any:
        return lambda a, b: _vector if isinstance(a, _Vector) and isinstance(b, _Vector) else None

    lower_builtin(symbol, _Vector, _Vector)(lambda context, builder, signature, arguments: build(builder, *arguments))


def _same(value: float) -> ir.Constant:
    return ir.Constant(_sixteen, [float(F(value))] * _LANES)


def _call(builder: Any, name: str, *arguments: Any, returned: Any = _sixteen) -> Any:
    kind = ir.FunctionType(returned, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{_LANES}f32"), arguments)


def _build_each(builder: Any, number: Any) -> Any:
    empty = ir.Constant(_sixteen, ir.Undefined)
    first = builder.insert_element(empty, number, ir.Constant(_int, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(_sixteen_whole, [0] * _LANES))


def _build_over(builder: Any, a: Any, b: Any) -> Any:
    return builder.fmul(a, builder.fdiv(_same(1), b, flags=("arcp", "nnan", "ninf")))


def _build_sum(builder: Any, a: Any) -> Any:
    width = _LANES
    while width > 1:
        width //= 2
        kind = ir.VectorType(_int, width)
        low, high = (ir.Constant(kind, list(range(start, start + width))) for start in (0, width))
        a = builder.fadd(builder.shuffle_vector(a, a, low), builder.shuffle_vector(a, a, high))
    return builder.extract_element(a, ir.Constant(_int, 0))


def _build_exp(builder: Any, a: Any) -> Any:
    """2^k times a polynomial of the remainder, ``|r| <= 1/2``."""
    z = builder.fmul(a, _same(1.4426950408889634))
    k = _call(builder, "rint", z)
    r = builder.fsub(z, k)
    p = _same(0.001326697039)
    for c in (0.009675459745, 0.05550742616, 0.2402212175, 0.6931469492, 1.000000071):
        p = _call(builder, "fma", p, r, _same(c))
    bias, place = (ir.Constant(_sixteen_whole, [v] * _LANES) for v in (127, 23))
    power = builder.shl(builder.add(builder.fptosi(k, _sixteen_whole), bias), place)
    return builder.fmul(p, builder.bitcast(power, _sixteen))


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_each = _operation(_build_each, 1)  # a number in every lane
_fma = _operation(lambda builder, a, b, c: _call(builder, "fma", a, b, c), 3)  # a b + c, rounded once
_over = _operation(_build_over)  # a / b, from an estimate of 1 / b and a Newton step where the processor has them
_exp = _operation(_build_exp, 1)  # to 1e-7 for |a| <= 87
_least = _operation(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
_most = _operation(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
_sum = _operation(_build_sum, 1, types.float32)  # of the lanes, halves on halves
_largest = _operation(lambda builder, a: _call(builder, "vector.reduce.fmax", a, returned=_float), 1, types.float32)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """To 16 floats of a C-contiguous array; a place may run over the end of a row into the next."""
    view = context.make_array(kind)(context, builder, value=array)
    shape, flat = cgutils.unpack_tuple(builder, view.shape, kind.ndim), None
    for size, index in zip(shape, cgutils.unpack_tuple(builder, place, kind.ndim), strict=True):
        flat = index if flat is None else builder.add(builder.mul(flat, size), index)
    return builder.bitcast(builder.gep(view.data, [flat]), _sixteen.as_pointer())


@_instructions
def _load(context: Any, array: Any, place: Any) -> Any:
    """16 floats of an array from a place on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, array, *arguments), align=4)

    return _vector(array, types.UniTuple(types.intp, array.ndim)), build


@_instructions
def _store(context: Any, array: Any, place: Any, vector: Any) -> Any:
    """Put 16 floats into an array from a place on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, array, *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.UniTuple(types.intp, array.ndim), _vector), build


# -- the kernel ----------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def _product(x: np.ndarray, weight: np.ndarray, y: np.ndarray, rows: int) -> None:
    """``y = x weight``, four rows and two vectors at a time; rows up to the next four are written too."""
    inputs, outputs = weight.shape
    for c in range(0, outputs, 2 * _LANES):
        d = c + _LANES
        for r in range(0, rows, 4):
            y0c = y0d = y1c = y1d = y2c = y2d = y3c = y3d = _each(F(0))
            for k in range(inputs):
                wc, wd = _load(weight, (k, c)), _load(weight, (k, d))
                x0, x1, x2, x3 = _each(x[r, k]), _each(x[r + 1, k]), _each(x[r + 2, k]), _each(x[r + 3, k])
                y0c, y0d = _fma(x0, wc, y0c), _fma(x0, wd, y0d)
                y1c, y1d = _fma(x1, wc, y1c), _fma(x1, wd, y1d)
                y2c, y2d = _fma(x2, wc, y2c), _fma(x2, wd, y2d)
                y3c, y3d = _fma(x3, wc, y3c), _fma(x3, wd, y3d)
            _store(y, (r, c), y0c)
            _store(y, (r, d), y0d)
            _store(y, (r + 1, c), y1c)
            _store(y, (r + 1, d), y1d)
            _store(y, (r + 2, c), y2c)
            _store(y, (r + 2, d), y2d)
            _store(y, (r + 3, c), y3c)
            _store(y, (r + 3, d), y3d)


@njit(inline="always", **_OPTIONS)
def _decay(x: Vector) -> Vector:
    """exp(-x), finite for every x."""
    bound = _each(F(MOST_EXPONENT))
    zero = _each(F(0))
    return _exp(_most(_least(zero - x, bound), zero - bound))


@njit(inline="always", **_OPTIONS)
def _wider(widest: Vector, x: Vector) -> Vector:
    return _most(widest, _most(x, _each(F(0)) - x))


@njit(**_OPTIONS)
def _activate(
    node: np.ndarray, decay: np.ndarray, rows: int, bias: np.ndarray, gate: np.ndarray, widest: Vector
) -> Vector:
    """Add the bias; decay = exp(-node); then fold the last layer of the gate into the half that is only summed."""
    for d in range(0, _FULL, _LANES):
        b, v = _load(bias, (d,)), _load(gate, (d,))
        for r in range(rows):
            x = _load(node, (r, d)) + b
            widest = _wider(widest, x)
            _store(decay, (r, d), _decay(x))
            _store(node, (r, d), x * v)
    return widest


@njit(**_OPTIONS)
def _activate_first(
    node: np.ndarray,
    decay: np.ndarray,
    rows: int,
    cations: tuple[np.ndarray, np.ndarray, np.ndarray],
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    gate: np.ndarray,
    widest: Vector,
) -> Vector:
    """The same for layer 1, whose nodes are table + fluorine x shift + w x slope."""
    site, w, fluorine = cations
    table, shift, slope = first
    for d in range(0, _FULL, _LANES):
        s, q, v = _load(shift, (d,)), _load(slope, (d,)), _load(gate, (d,))
        for r in range(rows):
            x = _fma(_each(w[r]), q, _fma(_each(fluorine[r]), s, _load(table, (site[r], d))))
            widest = _wider(widest, x)
            _store(decay, (r, d), _decay(x))
            _store(node, (r, d), x * v)
    return widest


@njit(inline="always", **_OPTIONS)
def _silu(x: Vector, y: Vector, ex: Vector, ey: Vector) -> Vector:
    """Silu of ``x + y`` from the exponentials of both; the bound keeps the reciprocal finite."""
    return _over(x + y, _least(_fma(ex, ey, _each(F(1))), _each(F(1e30))))


@njit(**_OPTIONS)
def _softmax(logit: np.ndarray, w: np.ndarray, a: np.ndarray, n: int, columns: int) -> None:
    """Turn columns of n logits into ``w exp(logit) / (heads sum)``, 16 columns at a time."""
    floor = _each(F(-MOST_EXPONENT))
    for t in range(0, columns, _LANES):
        top = _load(logit, (0, t))
        for j in range(1, n):
            top = _most(top, _load(logit, (j, t)))
        total = _each(F(0))
        for j in range(n):
            weight = _each(w[j]) * _exp(_most(_load(logit, (j, t)) - top, floor))
            total = total + weight
            _store(a, (j, t), weight)
        scale = _over(_each(F(1)), total * _each(F(HEADS)))
        for j in range(n):
            _store(a, (j, t), _load(a, (j, t)) * scale)


@njit(**_OPTIONS)
def _attend(
    node: np.ndarray, decay: np.ndarray, w: np.ndarray, n: int, logit: np.ndarray, a: np.ndarray, pooled: np.ndarray
) -> None:
    """Attention among n cations, the first rows of the arrays."""
    for i in range(n):
        for head in range(HEADS):
            c = HIDDEN * head
            x0, x1, x2, x3 = (
                _load(node, (i, c)),
                _load(node, (i, c + 16)),
                _load(node, (i, c + 32)),
                _load(node, (i, c + 48)),
            )
            e0, e1, e2, e3 = (
                _load(decay, (i, c)),
                _load(decay, (i, c + 16)),
                _load(decay, (i, c + 32)),
                _load(decay, (i, c + 48)),
            )
            c += _HALF
            for j in range(n):
                s = _silu(x0, _load(node, (j, c)), e0, _load(decay, (j, c)))
                s = s + _silu(x1, _load(node, (j, c + 16)), e1, _load(decay, (j, c + 16)))
                s = s + _silu(x2, _load(node, (j, c + 32)), e2, _load(decay, (j, c + 32)))
                s = s + _silu(x3, _load(node, (j, c + 48)), e3, _load(decay, (j, c + 48)))
                logit[j, HEADS * i + head] = _sum(s)
    _softmax(logit, w, a, n, HEADS * n)
    for i in range(n):
        for head in range(HEADS):
            for c in range(_GATES + HIDDEN * head, _GATES + HIDDEN * (head + 1), _LANES):
                x, e = _load(node, (i, c)), _load(decay, (i, c))
                s = _each(F(0))
                for j in range(n):
                    silu = _silu(x, _load(node, (j, _HALF + c)), e, _load(decay, (j, _HALF + c)))
                    s = _fma(_each(a[j, HEADS * i + head]), silu, s)
                _store(pooled, (i, c - _GATES), s)


@njit(**_OPTIONS)
def _pool(
    seen: np.ndarray, w: np.ndarray, n: int, gate: np.ndarray, logit: np.ndarray, a: np.ndarray, pooled: np.ndarray
) -> None:
    """Attention of the composition over its n cations; ``seen`` is silu already, ``pooled`` one row."""
    for head in range(HEADS):
        for j in range(n):
            s = _each(F(0))
            for c in range(HIDDEN * head, HIDDEN * (head + 1), _LANES):
                s = _fma(_load(gate, (c,)), _load(seen, (j, c)), s)
            logit[j, head] = _sum(s)
    _softmax(logit, w, a, n, HEADS)
    for head in range(HEADS):
        for c in range(HIDDEN * head, HIDDEN * (head + 1), _LANES):
            s = _each(F(0))
            for j in range(n):
                s = _fma(_each(a[j, head]), _load(seen, (j, _GATES + c)), s)
            _store(pooled, (c,), s)


@_compile  # one loop nest, since numba keeps the buffers of a block in registers and cache only inside a function
def _encode(
    begin: int,
    end: int,
    start: np.ndarray,
    cations: tuple[np.ndarray, np.ndarray, np.ndarray],
    nodes: tuple[np.ndarray, np.ndarray],
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    layers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    pool: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    u: np.ndarray,
) -> float:
    """Fill the vectors ``u`` (``M x B x d``) of compositions ``begin`` to ``end``; return the largest exponent."""
    site, w, fluorine = cations
    table, shift = nodes
    weight, bias, gate, out, out_bias = layers
    pool_weight, pool_bias, pool_gate, pool_out, pool_out_bias = pool
    rows_most = BLOCK + MOST_CATIONS
    h = np.zeros((rows_most, FEATURES), F)
    change = np.zeros((rows_most, FEATURES), F)
    node = np.zeros((rows_most, _FULL), F)
    decay = np.zeros((rows_most, _FULL), F)
    seen = np.zeros((rows_most, _HALF), F)
    pooled = np.zeros((rows_most, _GATES), F)
    logit = np.zeros((MOST_CATIONS, HEADS * MOST_CATIONS), F)
    a = np.zeros((MOST_CATIONS, HEADS * MOST_CATIONS), F)
    widest = _each(F(0))
    for m in range(len(table)):
        block = begin
        while block < end:
            stop = block + 1
            o = start[block]
            while stop < end and start[stop + 1] - o <= BLOCK:
                stop += 1
            rows = start[stop] - o
            here = (site[o:], w[o:], fluorine[o:])
            for r in range(rows):
                for d in range(FEATURES - 1):
                    h[r, d] = table[m, site[o + r], d] + fluorine[o + r] * shift[m, d]
                h[r, FEATURES - 1] = w[o + r]
            for layer in range(LAYERS):
                if layer == 0:
                    own = (first[0][m], first[1][m], first[2][m])
                    widest = _activate_first(node, decay, rows, here, own, gate[m, 0], widest)
                else:
                    _product(h, weight[m, layer], node, rows)
                    widest = _activate(node, decay, rows, bias[m, layer], gate[m, layer], widest)
                for b in range(block, stop):
                    r, n = start[b] - o, start[b + 1] - start[b]
                    _attend(node[r:], decay[r:], w[start[b] :], n, logit, a, pooled[r:])
                _product(pooled, out[m, layer], change, rows)
                for r in range(rows):
                    for d in range(0, FEATURES, _LANES):
                        more = _load(change, (r, d)) + _load(out_bias[m, layer], (d,))
                        _store(h, (r, d), _load(h, (r, d)) + more)
            _product(h, pool_weight[m], seen, rows)
            for r in range(rows):
                for d in range(0, _HALF, _LANES):
                    x = _load(seen, (r, d)) + _load(pool_bias[m], (d,))
                    _store(seen, (r, d), _over(x, _each(F(1)) + _decay(x)))
            for b in range(block, stop):
                r, n = start[b] - o, start[b + 1] - start[b]
                _pool(seen[r:], w[start[b] :], n, pool_gate[m], logit, a, pooled[b - block])
            _product(pooled, pool_out[m], change, stop - block)
            for b in range(block, stop):
                for d in range(FEATURES):
                    u[m, b, d] = change[b - block, d] + pool_out_bias[m, d]
            block = stop
    return _largest(widest)


@_compile
def _pack(
    amounts: np.ndarray, fluorine: np.ndarray, sites: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Turn rows of amounts (``B x columns``, 0 where absent) into a ragged list of cations."""
    count, columns = amounts.shape
    start = np.zeros(count + 1, np.int64)
    for b in range(count):
        n = 0
        for c in range(columns):
            n += amounts[b, c] > 0
        start[b + 1] = start[b] + n
    site = np.empty(start[count], np.int64)
    w = np.empty(start[count], F)
    f = np.empty(start[count], F)
    for b in range(count):
        r = start[b]
        for c in range(columns):
            if amounts[b, c] > 0:
                site[r] = sites[c]
                w[r] = F(amounts[b, c]) / F(2)
                f[r] = F(fluorine[b]) / F(2)
                r += 1
    return start, (site, w, f)


# -- for the ensemble ----------------------------------------------------------------------------------------


class FusedEncoder:
    """Encodes rows of amounts; the weights are copied once, 4 MB for five members."""

    def __init__(self, network: DRXNet) -> None:
        messages: list[Any] = list(network.messages)
        pool: Any = network.pool
        embed = network.embed.weight
        table = network.embed(network._each(network.element_vectors.to(embed.dtype)))  # M, elements, d - 1
        shift = (network._each(network.fluorine_vector.to(embed.dtype)) @ embed)[:, 0]  # M, d - 1
        weight = torch.stack([torch.cat([layer.own.weight, layer.other.weight], -1) for layer in messages], 1)
        bias = torch.stack([torch.cat([0 * layer.other.bias, layer.other.bias], -1)[:, 0] for layer in messages], 1)
        gate = torch.stack([layer.gate.flatten(1) for layer in messages], 1)
        out = torch.stack([layer.out.weight for layer in messages], 1)
        out_bias = torch.stack([layer.out_bias.mean(1) for layer in messages], 1)
        mapped, slope = weight[:, 0, :-1], weight[:, 0, -1]
        parts = (
            (table, shift),
            (table @ mapped + bias[:, :1], (shift[:, None] @ mapped)[:, 0], slope),
            (weight, bias, torch.cat([gate, torch.ones_like(gate)] * 2, -1), out, out_bias),
            (
                pool.other.weight,
                pool.other.bias[:, 0],
                pool.gate.flatten(1),
                pool.out.weight,
                pool.out_bias.mean(1),
            ),
        )
        self._weights = tuple(tuple(np.ascontiguousarray(x.detach().numpy(), dtype=F) for x in part) for part in parts)
        self._members = len(table)

    def __call__(
        self, cations: np.ndarray, fluorine: np.ndarray, sites: np.ndarray, threads: int = 1
    ) -> tuple[Tensor, bool]:
        """Encode compositions.

        Args:
            cations: amounts per formula unit, ``B x columns``; 0 where an element is absent, at most
                :data:`MOST_CATIONS` present in a row.
            fluorine: F per formula unit, ``B``.
            sites: index of each column in :data:`drxnet.network.SITES`.
            threads: among which the compositions are divided.

        Returns:
            Composition vectors, ``M x B x d``, and whether all exponents were small enough to trust them.
        """
        start, packed = _pack(cations, fluorine, sites)
        count = len(cations)
        u = np.empty((self._members, count, FEATURES), F)

        def run(begin: int, end: int) -> float:
            return float(_encode(begin, end, start, packed, *self._weights, u))

        cuts = [count * i // threads for i in range(threads + 1)]
        if threads == 1:
            widest = run(0, count)
        else:
            with ThreadPoolExecutor(threads) as pool:
                widest = max(pool.map(run, cuts[:-1], cuts[1:]))
        return torch.from_numpy(u), widest <= MOST_EXPONENT


def versions() -> str:
    """What the last digits depend on beside the processor."""
    return f"numba {numba.__version__}, llvm {'.'.join(map(str, llvmlite.binding.llvm_version_info))}"


def fits(shape: NetworkShape) -> bool:
    """Whether the kernel knows this shape; the number of members is free."""
    return (shape.features, shape.layers, shape.heads, shape.attention_hidden) == (FEATURES, LAYERS, HEADS, HIDDEN)
