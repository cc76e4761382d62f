"""``PackedRows``: the concatenated rows of many pieces, in memory or in a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.errors import DataError, OutputError
from notelstm.fields import Rows
from notelstm.files import BAD_HEADER

__all__ = ["PackedRows"]


@final
class PackedRows(Sequence[Rows]):
    """The rows of pieces in one long array; a file is mapped into memory at the first use.

    A mapped file takes only the memory of the rows in use, and is pickled as its path.

    Args:
        rows: (N, F) float32, or the ``.npy`` file that holds them.
        begins: (P,) the first row of each piece.
        lengths: (P,) the number of rows of each piece.

    Raises:
        DataError: If a piece lies outside the rows, or there is no such file.

    Example:
        >>> packed = PackedRows(np.arange(6, dtype=np.float32)[:, None], [0, 4], [4, 2])
        >>> [len(piece) for piece in packed], packed[1].ravel().tolist()
        ([4, 2], [4.0, 5.0])
        >>> [len(piece) for piece in packed[1:]]
        [2]
    """

    def __init__(
        self,
        rows: Rows | str | os.PathLike[str],
        begins: Sequence[int] | NDArray[np.int64],
        lengths: Sequence[int] | NDArray[np.int64],
    ) -> None:
        self._path = Path(rows) if isinstance(rows, str | os.PathLike) else None
        self._rows: Rows | None = None if isinstance(rows, str | os.PathLike) else rows
        self.begins: NDArray[np.int64] = np.asarray(begins, dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
        ends = self.begins + self.lengths
        if self.begins.size and not (
            self.begins.min() >= 0 and self.lengths.min() >= 0 and ends.max() <= len(self.rows)
        ):
            raise DataError(f"a piece does not lie within the {len(self.rows)} rows")

    @classmethod
    def join(cls, pieces: Iterable[Rows]) -> PackedRows:
        """Concatenate pieces in memory.

        Raises:
            DataError: If the pieces' columns differ.
        """
        pieces = list(pieces)
        widths = sorted({piece.shape[1:] for piece in pieces})
        if len(widths) > 1:
            shapes = " and ".join(map(str, widths))
            raise DataError(
                f"pieces have different columns: {shapes}", hint="encode them with one encoder"
            )
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        empty = np.zeros((0, 0), dtype=np.float32)
        rows = np.concatenate(pieces, dtype=np.float32) if pieces else empty
        return cls(rows, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def on_disk(
        cls, pieces: Iterable[Rows], folder: str | os.PathLike[str] | None = None
    ) -> PackedRows:
        """Concatenate pieces in an anonymous temporary file that is mapped into memory.

        It is removed when it is no longer used, however the process ends.

        Args:
            pieces: (N, F) each, taken one at a time.
            folder: A folder on the disk to use; None for the system's temporary folder.

        Raises:
            DataError: If there is no piece, or the pieces' columns differ.
            OutputError: If it cannot be written.
        """
        lengths: list[int] = []
        width: int | None = None
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for piece in pieces:
                    if width is not None and piece.shape[1] != width:
                        raise DataError(
                            f"pieces have different columns: {width} and {piece.shape[1]}",
                            hint="encode them with one encoder",
                        )
                    width = piece.shape[1]
                    file.write(np.ascontiguousarray(piece, dtype=np.float32).tobytes())
                    lengths.append(len(piece))
                file.flush()
                if width is None or not sum(lengths):
                    raise DataError("there are no rows")
                # Torch wants writable memory; the copy-on-write mode keeps writes out of the file.
                shape = (sum(lengths), width)
                rows = np.asarray(np.memmap(file, np.float32, mode="c", shape=shape))
        except OSError as error:
            raise OutputError(
                f"cannot write the rows of the corpus: {error.strerror or error}",
                where=str(folder or tempfile.gettempdir()),
                hint="free some space",
            ) from error
        counts = np.array(lengths, dtype=np.int64)
        return cls(rows, np.cumsum(counts) - counts, counts)

    def as_one(self) -> PackedRows:
        """All pieces as a single one, copied only if they are not consecutive."""
        ends = self.begins + self.lengths
        if not np.array_equal(self.begins[1:], ends[:-1]):
            return PackedRows.join(self).as_one()
        return PackedRows(
            self.rows if self._path is None else self._path,
            self.begins[:1],
            [int(self.lengths.sum())] if len(self) else [],
        )

    @property
    def rows(self) -> Rows:
        """(N, F) all rows, including those of pieces that were not selected."""
        if self._rows is None:
            assert self._path is not None
            try:
                # Torch wants writable memory; the copy-on-write mode keeps writes out of the file.
                self._rows = np.asarray(np.load(self._path, mmap_mode="c"))
            except (OSError, EOFError, ValueError, *BAD_HEADER) as error:
                raise DataError(
                    f"cannot map the rows into memory: {error}",
                    where=str(self._path),
                    hint="encode the corpus again",
                ) from error
        return self._rows

    def select(self, pieces: Sequence[int] | NDArray[np.int64]) -> PackedRows:
        """Some of the pieces, by number; their rows are not copied."""
        chosen = np.asarray(pieces, dtype=np.int64)
        rows = self.rows if self._path is None else self._path
        return PackedRows(rows, self.begins[chosen], self.lengths[chosen])

    @override
    def __len__(self) -> int:
        """The number of pieces."""
        return len(self.begins)

    @overload
    def __getitem__(self, index: int) -> Rows: ...
    @overload
    def __getitem__(self, index: slice) -> PackedRows: ...
    @override
    def __getitem__(self, index: int | slice) -> Rows | PackedRows:
        """The rows of a piece, (N, F), or some of the pieces; neither is copied."""
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        low = int(self.begins[index])
        return self.rows[low : low + int(self.lengths[index])]

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a file as its path."""
        rows = self._rows if self._path is None else self._path
        return PackedRows, (rows, self.begins, self.lengths)
