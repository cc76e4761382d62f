"""A row of many lanes in machine code: drawn from what the heads say, and read by the LSTM.

This file is imported only where a compiled step is asked for: it needs numba. Loops are written
out so that the compiler can work on many numbers at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numba import njit

__all__ = ["GREEDY", "NORMAL", "SIGMOID", "WEIGHTED", "turn"]

_F = TypeVar("_F", bound=Callable[..., Any])

WEIGHTED: Final = 1
"""Classes are drawn in proportion to the weights of a sigmoid."""
GREEDY: Final = 2
"""The likeliest entry is taken."""
SIGMOID: Final = 4
"""Logits are confined to (0, 1)."""
NORMAL: Final = 8
"""Numbers are normally distributed; otherwise they are single values."""
ROUNDED: Final = 16
"""Outputs are sent on as whole numbers, `MOST` for 1."""
MOST: Final = 127
"""The greatest number in a byte with a sign."""

_ONE, _HALF = np.float32(1), np.float32(0.5)
_MOST: Final = np.float32(MOST)
_FLAT: Final = np.float32(7.9)
"""From here on a tanh is 1 to 3e-7; a little further the polynomials would pass 1."""
_LEAST: Final = np.float32(-80)
_LOG2_E: Final = np.float32(math.log2(math.e))
_LN2_HIGH: Final = np.float32(0.693359375)
"""So short that its product with a whole number is exact."""
_LN2_LOW: Final = np.float32(math.log(2) - 0.693359375)
_FLOOR: Final = np.float32(1e-3)
_SOME: Final = 16
"""Weights that are passed over at once."""
_SOFT: Final = 20.0
"""From here on torch takes a number for its own softplus."""


def _compiled(*allowed: str) -> Callable[[_F], _F]:
    """Compile a function when it is first called; what may be rounded otherwise is `allowed`."""

    def compile_it(function: _F) -> _F:
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",  # loops whose divisions could raise go number by number
            "fastmath": {"contract", "nsz", *allowed},
        }
        try:
            made = njit(cache=True, **options)(function)
        except RuntimeError:  # no folder that machine code could be kept in
            made = njit(**options)(function)
        return cast(_F, made)

    return compile_it


@_compiled("arcp")
def _tanh(x: Any) -> Any:
    """The tanh of a float32, within 3e-7: a quotient of polynomials.

    The odd rational approximation of degree 13 over 6 that Eigen uses as well.
    """
    x = min(max(x, -_FLAT), _FLAT)
    y = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * y + np.float32(2.00018790482477e-13)
    p = p * y + np.float32(-8.60467152213735e-11)
    p = p * y + np.float32(5.12229709037114e-08)
    p = p * y + np.float32(1.48572235717979e-05)
    p = p * y + np.float32(6.37261928875436e-04)
    p = p * y + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * y + np.float32(1.18534705686654e-04)
    q = q * y + np.float32(2.26843463243900e-03)
    q = q * y + np.float32(4.89352518554385e-03)
    return x * p / q


@_compiled()
def _exp(x: Any) -> Any:
    """The exponential of a float32 of at most 0, within 2e-7 of its size; that of -80 is the least.

    As in Cephes: a power of 2, put together from its bits, times a polynomial.
    """
    x = max(x, _LEAST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return (p * r * r + r + _ONE) * power.view(np.float32)


@_compiled("reassoc")
def _chosen(weights: Any, sums: Any, noise: Any) -> Any:
    """The first class at which the sums of the weights exceed a share `noise` of them all.

    -1 if there is no weight at all. `sums`, to work in, has room for the sum of each `_SOME`.
    """
    total = 0.0
    for k in range(len(sums)):
        more = 0.0
        for j in range(_SOME):
            more += weights[k * _SOME + j]
        sums[k] = more
        total += more
    whole = len(sums) * _SOME
    for j in range(whole, len(weights)):
        total += weights[j]
    if not total > 0:
        return -1
    at = noise * total
    before, k = 0.0, 0
    while k < len(sums) and before + sums[k] <= at:
        before += sums[k]
        k += 1
    for j in range(k * _SOME, len(weights)):
        before += weights[j]
        if before > at and weights[j] > 0:
            return j
    # Rounding must not carry a draw past the last class that has any weight.
    last = 0
    for j in range(len(weights)):
        if weights[j] > 0:
            last = j
    return last


@_compiled("nnan")
def _class(
    said: Any, scale: Any, added: Any, noise: Any, kind: Any, weights: Any, sums: Any
) -> Any:
    """A class id from (C,) outputs, which are finite."""
    if kind & SIGMOID:
        for j in range(len(weights)):
            weights[j] = _tanh(np.float32(said[j]) * scale[j] + added[j]) * _HALF + _HALF
    else:
        for j in range(len(weights)):
            weights[j] = np.float32(said[j]) * scale[j] + added[j]
    if kind & WEIGHTED and kind & SIGMOID:
        drawn = _chosen(weights, sums, noise)
        if drawn >= 0:
            return drawn
    top = weights[0]
    for j in range(len(weights)):
        top = max(top, weights[j])
    if kind & GREEDY:
        for j in range(len(weights)):
            if weights[j] == top:
                return j
    for j in range(len(weights)):
        weights[j] = _exp(weights[j] - top)
    return _chosen(weights, sums, noise)


@_compiled()
def _number(value: Any, spread: Any, noise: Any, kind: Any, low: Any, high: Any) -> Any:
    """A value from the outputs of a head, with a standard normal number; confined to what is legal.

    The spread counts where numbers are normal.
    """
    if kind & NORMAL and not kind & GREEDY:
        wide = np.float64(spread)
        soft = wide if wide > _SOFT else math.log1p(math.exp(wide))
        sigma = np.float32(soft) + _FLOOR
        value = np.float32(np.float64(value) + noise * np.float64(sigma))
    return min(max(value, low), high)


@_compiled()
def turn(
    said: Any,
    scales: Any,
    places: Any,
    kind: Any,
    ends: Any,
    inputs: Any,
    cells: Any,
    noise: Any,
    rows: Any,
    hidden: Any,
    after: Any,
    sent: Any,
) -> None:
    """Draw a row of three fields in each of B lanes, and let one LSTM layer of H units read it.

    Args:
        said: (B, P) the products of the outputs before: first for the gates in, kept, out (halved,
            so that their tanh gives a sigmoid) and new, 4 H; then for what the heads say.
        scales: (2, P) what they are multiplied by, and what is added to that.
        places: (3, 3) of the field of classes and the two of numbers: the column of a row, where in
            `said` its outputs begin, and how many they are.
        kind: What is drawn and how: the sum of `WEIGHTED`, `GREEDY`, `SIGMOID`,
            `NORMAL` and `ROUNDED`.
        ends: (2, 2) the least and the greatest value of the numbers.
        inputs: (3, 4 H) what the LSTM multiplies the entries of a row by.
        cells: (B, H) the LSTM's cells.
        noise: (B, 3) uniforms of the row's columns; for normal numbers, standard normal ones.
        rows: (B, 3) the rows, written to.
        hidden: (B, H) the LSTM's outputs, written to.
        after: (B, H) its cells after the row, written to.
        sent: (B, H) the outputs once more, as the next product takes them, written to.
    """
    size = cells.shape[1]
    gates = np.empty(4 * size, dtype=np.float32)
    opened, kept, out, new = (
        gates[:size],
        gates[size : 2 * size],
        gates[2 * size : 3 * size],
        gates[3 * size :],
    )
    weights = np.empty(places[0, 2], dtype=np.float32)
    sums = np.empty(len(weights) // _SOME, dtype=np.float64)
    first, second, third = inputs[0], inputs[1], inputs[2]
    class_column, class_at = places[0, 0], places[0, 1]
    class_end = class_at + places[0, 2]
    columns, ats, low, high = places[1:, 0], places[1:, 1], ends[:, 0], ends[:, 1]
    scale, added = scales[0], scales[1]
    gate_scale, gate_added = scale[: 4 * size], added[: 4 * size]
    class_scale, class_added = scale[class_at:class_end], added[class_at:class_end]
    for b in range(len(said)):
        told, row = said[b], rows[b]
        row[class_column] = _class(
            told[class_at:class_end],
            class_scale,
            class_added,
            noise[b, class_column],
            kind,
            weights,
            sums,
        )
        for i in range(2):
            at, end = ats[i], ats[i] + places[1 + i, 2] - 1
            row[columns[i]] = _number(
                np.float32(told[at]) * scale[at] + added[at],
                np.float32(told[end]) * scale[end] + added[end],
                noise[b, columns[i]],
                kind,
                low[i],
                high[i],
            )
        x, y, z = row[0], row[1], row[2]
        for j in range(len(gates)):
            before = np.float32(told[j]) * gate_scale[j] + gate_added[j]
            gates[j] = _tanh(before + x * first[j] + y * second[j] + z * third[j])
        held, cell, output, sending = cells[b], after[b], hidden[b], sent[b]
        for j in range(size):
            cell[j] = (kept[j] * _HALF + _HALF) * held[j] + (opened[j] * _HALF + _HALF) * new[j]
        if kind & ROUNDED:
            for j in range(size):
                put_out = (out[j] * _HALF + _HALF) * _tanh(cell[j])
                output[j] = put_out
                sending[j] = np.rint(put_out * _MOST)
        else:
            for j in range(size):
                put_out = (out[j] * _HALF + _HALF) * _tanh(cell[j])
                output[j] = put_out
                sending[j] = put_out
