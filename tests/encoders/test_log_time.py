"""LogTimeEncoder: the error bound of onsets, also near the longest step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from numpy.typing import ArrayLike, NDArray

from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.testing import strategies

ALMOST_LONGEST: NDArray[np.float64] = np.cumsum([0.0] + [21.37, 29.3] * 10)


def at(start: ArrayLike) -> Notes:
    start = np.asarray(start, dtype=np.float64)
    return Notes(start=start, end=start + 1, pitch=np.full(len(start), 60))


@given(strategies.notes(min_notes=1, longest_rest=60.0))
@example(at(ALMOST_LONGEST))
@example(at(np.arange(20) * 30.0))
@example(at(np.arange(20) * 31.0))
def test_onset_error_is_at_most_half_of_the_widest_step_class_so_far(piece: Notes) -> None:
    encoder = LogTimeEncoder()
    rows = encoder.encode(piece)
    counted = np.cumsum(np.minimum(piece.step, encoder.longest))
    widths = np.diff(encoder.fields[1].edges)[rows[:, 1].astype(int)]
    off = np.abs(encoder.decode(rows).start - counted)
    assert np.all(off <= np.maximum.accumulate(widths) / 2 + 1e-9)


def test_longest_limits_step_and_duration() -> None:
    encoder = LogTimeEncoder(cell=0.02, longest=10.0)
    far = Notes(start=[0, 1000], end=[500, 1001], pitch=[60, 61])
    back = encoder.decode(encoder.encode(far))
    assert back.start.tolist() == pytest.approx([0, 10])
    assert back.duration[0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("cell", "linear", "longest"), [(0.01, 0.4, 30), (0.01, 29.999, 30), (1, 1, 1.4), (1, 1, 2)]
)
def test_classes_cover_every_cell_once(cell: float, linear: float, longest: float) -> None:
    encoder = LogTimeEncoder(cell=cell, linear=linear, longest=longest)
    edges = np.array(encoder.fields[1].edges) / cell
    assert edges[0] == -0.5
    assert edges[-1] == round(longest / cell) + 0.5
    assert np.all(np.diff(edges) > 0.999)


@pytest.mark.parametrize(
    "settings",
    [{"growth": math.inf}, {"longest": math.inf}, {"cell": math.nan}, {"cell": 1e-9}],
    ids=str,
)
def test_settings_without_classes_are_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no time classes"):
        LogTimeEncoder(**settings)


PARTS = PartMap(
    by="program", parts=(Part(name="Piano"), Part(name="Violin", program=40)), unknown="other"
)


@given(strategies.notes(longest_rest=1.0, instruments=True))
def test_rows_of_one_onset_ascend_by_instrument_and_pitch(piece: Notes) -> None:
    encoder = LogTimeEncoder(exact=True, parts=PARTS)
    rows = encoder.encode(piece)
    again = rows[1:, 1] == 0
    key = rows[:, 4] * 128 + rows[:, 0]
    assert np.all(np.diff(key)[again] > 0)
    notes = encoder.snapped(piece)
    assert notes is not None
    np.testing.assert_array_equal(rows[:, 0], notes.pitch)
    np.testing.assert_array_equal(rows[:, 4], PARTS.classes_of(notes))


@given(strategies.notes(longest_rest=1.0, instruments=True))
def test_same_pitch_of_two_parts_in_one_cell_stays_two_notes(piece: Notes) -> None:
    kept = {
        (round(start / 0.01), part, pitch)
        for start, part, pitch in zip(
            piece.start, PARTS.classes_of(piece).tolist(), piece.pitch.tolist(), strict=True
        )
    }
    notes = LogTimeEncoder(exact=True, parts=PARTS).snapped(piece)
    assert notes is not None
    assert len(notes) == len(kept)


def test_parts_require_exact() -> None:
    with pytest.raises(ConfigError, match="parts without exact cells"):
        LogTimeEncoder(parts=PARTS)


@given(strategies.notes(longest_rest=1.0, instruments=True))
def test_without_parts_instruments_do_not_change_rows(piece: Notes) -> None:
    plain = replace(piece, program=None, drum=None, track=None, track_names=None)
    rows = LogTimeEncoder().encode(piece)
    assert rows.tobytes() == LogTimeEncoder().encode(plain).tobytes()
    back = LogTimeEncoder().decode(rows)
    assert (back.program, back.drum, back.track, back.track_names) == (None,) * 4
    # One instrument alone: the same classes.
    with_parts = LogTimeEncoder(exact=True, parts=PARTS).encode(plain)
    np.testing.assert_array_equal(with_parts[:, :4], LogTimeEncoder(exact=True).encode(plain))
