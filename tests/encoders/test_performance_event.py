"""PerformanceEventEncoder: the maximum length of a piece."""

from __future__ import annotations

import numpy as np
import pytest

from notelstm.encoders import PerformanceEventEncoder
from notelstm.errors import EncodingError
from notelstm.notes import Notes

DAY = 86_400.0


@pytest.mark.parametrize(
    ("start", "end", "note"),
    [([0, DAY], [1, DAY + 0.01], 1), ([5, 6], [DAY + 5.5, 7], 0), ([0, 1e300], [1, 1e300], 1)],
)
def test_a_piece_longer_than_a_day_is_refused(
    start: list[float], end: list[float], note: int
) -> None:
    piece = Notes(start=start, end=end, pitch=60)
    with pytest.raises(EncodingError, match=rf"later than a day, 86,400 s.*\(note {note}\)"):
        PerformanceEventEncoder().encode(piece)


def test_a_day_is_counted_from_the_first_onset() -> None:
    piece = Notes(start=[1000, 1000 + DAY - 1], end=[1001, 1000 + DAY], pitch=[60, 61])
    encoder = PerformanceEventEncoder()
    rows = encoder.encode(piece)
    assert len(rows) < 1.01 * DAY
    assert np.allclose(encoder.decode(rows).start, [0, DAY - 1])
