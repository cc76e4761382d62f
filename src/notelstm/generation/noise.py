"""Random noise: one stream of uniforms for each sequence."""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchNoise", "NoiseStream"]

_BLOCK: Final = 256


@final
class NoiseStream:
    """The uniforms of one sequence: as many for each row, whether its fields are fixed or not.

    Args:
        seed: The seed of the whole batch.
        sequence: Its number in the batch; sequence 0 alone equals sequence 0 of a batch.
        fields: F, fields of a row.
    """

    def __init__(self, seed: int, sequence: int, fields: int) -> None:
        self._seed: Final = np.random.SeedSequence(seed, spawn_key=(sequence,))
        self._fields: Final = fields
        self._rng = np.random.default_rng(self._seed)
        self._next = 0

    def block(self, number: int, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The uniforms of 256 rows, (256, F, 2) in [0, 1).

        Args:
            number: Which 256 rows, from 0.
            out: Where to write them; None for a new array.
        """
        shape = (_BLOCK, self._fields, 2)
        if number != self._next:
            # A uniform takes one step of the generator, so any block can be gone to.
            at = np.random.PCG64(self._seed).advance(number * int(np.prod(shape)))
            self._rng = np.random.Generator(at)
        self._next = number + 1
        return self._rng.random(shape, out=out)


@final
class BatchNoise:
    """The uniforms of B sequences, row by row.

    Args:
        seed: The seed.
        batch_size: B.
        fields: F, fields of a row.

    Attributes:
        seed: The seed.
        at: The row whose uniforms come next; it can be set.
    """

    def __init__(self, seed: int, batch_size: int, fields: int) -> None:
        self.seed: Final = seed
        self.at: int = 0
        self._streams: Final = [NoiseStream(seed, i, fields) for i in range(batch_size)]
        self._number = -1
        self._block: Final[NDArray[np.float64]] = np.empty((batch_size, _BLOCK, fields, 2))
        self._floats: list[list[list[float]]] = []

    def _next(self) -> int:
        """Which row of the block comes next."""
        number, row = divmod(self.at, _BLOCK)
        if number != self._number:
            for stream, block in zip(self._streams, self._block, strict=True):
                stream.block(number, out=block)
            self._number, self._floats = number, self._block[0].tolist()
        self.at += 1
        return row

    def next(self) -> NDArray[np.float64]:
        """(B, F, 2) uniforms of the next row, until the one after them is asked for."""
        row = self._next()  # it may take the next block
        return self._block[:, row]

    def next_floats(self) -> list[list[float]]:
        """(F, 2) uniforms of the next row of the first sequence, as floats."""
        row = self._next()
        return self._floats[row]
