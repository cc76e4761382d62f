"""``Shuffle``: a random order of any number of items that takes no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shuffle"]

_ROUNDS: Final = 8
_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)


@final
class Shuffle:
    """A random order of the numbers below `n`, any part of which can be computed directly.

    A list of the order would take 8 bytes a number. This computes it: a cipher on numbers of just
    enough bits is a permutation of them, and a result that is not below `n` is ciphered again until
    it is.

    Args:
        n: The number of numbers; at least 0.
        seed: The random seed, whole numbers of at least 0.

    Source:
        J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (a Feistel
        network with cycle walking); the mixing function is the first step of SplitMix64's.

    Example:
        >>> order = Shuffle(10, [0])
        >>> sorted(order(0, 10).tolist()) == list(range(10))
        True
        >>> order(3, 5).tolist() == order(0, 10)[3:5].tolist()
        True
    """

    def __init__(self, n: int, seed: Sequence[int]) -> None:
        self.n: Final = n
        self._half: Final = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
        self._mask: Final = (np.uint64(1) << self._half) - np.uint64(1)
        rng = np.random.default_rng(list(seed))
        self._keys: Final = rng.integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def __call__(self, low: int, high: int) -> NDArray[np.int64]:
        """The numbers at the places from `low` to before `high` in the order."""
        values = np.arange(low, min(high, self.n), dtype=np.uint64)
        outside = np.arange(len(values))
        while outside.size:
            values[outside] = self._ciphered(values[outside])
            outside = outside[values[outside] >= self.n]
        return values.astype(np.int64)

    def _ciphered(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            mixed = (right + key) * _MIX
            mixed ^= mixed >> np.uint64(31)
            left, right = right, left ^ (mixed * _MIX >> np.uint64(17) & self._mask)
        return left << self._half | right
