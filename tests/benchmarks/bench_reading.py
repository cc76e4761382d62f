"""Reading MAESTRO: symusic compared with pretty_midi, in one run, on one core.

A block of files is read by one reader and then by the other, `ROUNDS` times, as a folder is read.
The best time of each reader counts, so that other load affects neither. The fast one reads a block
`REPEATS` times in a row, and the average counts, because a single time would be too short to
measure. ``make bench`` runs it if NOTELSTM_MAESTRO names the MAESTRO v2.0.0 folder; for another
number of files, run ``NOTELSTM_MAESTRO=... python tests/benchmarks/bench_reading.py [files]``.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pretty_midi import PrettyMIDI

from notelstm.midi import ReadPolicy, ReadReport, SymusicReader
from notelstm.midi.pretty_midi_reader import from_pretty_midi_with_report
from notelstm.midi.reading import Reader
from notelstm.notes import Notes

ROUNDS = 3
BLOCK = 10
REPEATS = 10
AIM = 150
OVER_ALL = "ratio, over all"
POLICY = ReadPolicy()


class PlainPrettyMidi:
    """pretty_midi alone, without the checks of ``PrettyMidiReader``, which would slow it down."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read."""
        return from_pretty_midi_with_report(PrettyMIDI(io.BytesIO(data)), policy)


def timed(reader: Reader, paths: Sequence[Path], repeats: int = 1) -> tuple[float, list[Notes]]:
    """Seconds from the paths to the notes, and the notes."""
    gc.collect()  # neither reader pays for what the other left behind
    begin = time.perf_counter()
    for _ in range(repeats):
        pieces = [reader.read(path.read_bytes(), POLICY, str(path))[0] for path in paths]
    return (time.perf_counter() - begin) / repeats, pieces


def check_same(fast: Notes, slow: Notes, path: Path) -> None:
    """Stop if the two readers do not give the same notes."""
    for name in ("pitch", "velocity", "program", "drum", "track"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=str(path))
    for name in ("start", "end"):
        np.testing.assert_allclose(
            getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-6, err_msg=str(path)
        )


def figures(count: int = 100) -> dict[str, float]:
    """Notes a second and ratios, over `count` files from all over MAESTRO."""
    folder = os.environ.get("NOTELSTM_MAESTRO")
    if not folder:
        sys.exit("set NOTELSTM_MAESTRO to the MAESTRO v2.0.0 folder")
    files = sorted(Path(folder).glob("*/*.mid*"))
    files = files[:: max(len(files) // count, 1)][:count]
    fast, slow = SymusicReader(), PlainPrettyMidi()
    timed(fast, files[:1])  # both packages are imported before the clock counts
    timed(slow, files[:1])
    times, notes = [], 0
    for at in range(0, len(files), BLOCK):
        block, rounds = files[at : at + BLOCK], []
        for _ in range(ROUNDS):
            quick, some = timed(fast, block, REPEATS)
            long, same = timed(slow, block)
            rounds.append((quick, long))
        for pair in zip(some, same, block, strict=True):
            check_same(*pair)
        times.append(np.min(rounds, axis=0))
        notes += sum(map(len, some))
    quick, long = np.sum(times, axis=0)
    ratios = [long / quick for quick, long in times]
    return {
        "files": len(files),
        "notes, the same through both readers": notes,
        "symusic, notes/s": notes / quick,
        "pretty-midi, notes/s": notes / long,
        OVER_ALL: long / quick,
        f"ratio, median of blocks of {BLOCK} files": float(np.median(ratios)),
        "ratio, least of the blocks": min(ratios),
        "ratio, most of the blocks": max(ratios),
    }


def check(count: int = 100) -> None:
    """Print the times and ratios, and compare with the aim."""
    found = figures(count)
    for name, value in found.items():
        print(f"{name}: {value:,.0f}")
    print(f"aim: {OVER_ALL} at least {AIM}")
    assert found[OVER_ALL] >= AIM


@pytest.mark.skipif("NOTELSTM_MAESTRO" not in os.environ, reason="NOTELSTM_MAESTRO is not set")
def test_reading_is_many_times_as_fast_as_pretty_midi() -> None:
    check()


if __name__ == "__main__":
    check(*map(int, sys.argv[1:2]))
