"""Reading MAESTRO: the fast reader against pretty_midi, file by file in one run, on one core.

Each file is read by both in turn, `ROUNDS` times; each reader's best time counts, so that what
else the machine does weighs on neither. Run it as
``NOTELSTM_MAESTRO=... python tests/benchmarks/bench_reading.py [files]``.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

import numpy as np

from notelstm.midi import PrettyMidiReader, ReadPolicy, SymusicReader
from notelstm.midi.reading import Reader
from notelstm.notes import Notes

ROUNDS = 3


def timed(reader: Reader, path: Path) -> tuple[float, Notes]:
    """Seconds from the path to the notes, and the notes."""
    gc.collect()  # neither reader pays for what the other left behind
    begin = time.perf_counter()
    notes, _ = reader.read(path.read_bytes(), ReadPolicy(), str(path))
    return time.perf_counter() - begin, notes


def check_same(fast: Notes, slow: Notes, path: Path) -> None:
    """Stop if the two readers do not give the same notes."""
    for name in ("pitch", "velocity", "program", "drum", "track"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=str(path))
    for name in ("start", "end"):
        np.testing.assert_allclose(
            getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-6, err_msg=str(path)
        )


def main() -> None:
    """Print the times and ratios."""
    folder = os.environ.get("NOTELSTM_MAESTRO")
    if not folder:
        sys.exit("set NOTELSTM_MAESTRO to the MAESTRO v2.0.0 folder")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    files = sorted(Path(folder).glob("*/*.mid*"))
    files = files[:: max(len(files) // count, 1)][:count]
    fast, slow = SymusicReader(), PrettyMidiReader()
    timed(fast, files[0])  # both packages are imported before the clock counts
    timed(slow, files[0])
    times, notes = np.zeros((len(files), 2)), 0
    for i, path in enumerate(files):
        rounds = []
        for _ in range(ROUNDS):
            quick, some = timed(fast, path)
            long, same = timed(slow, path)
            rounds.append((quick, long))
        check_same(some, same, path)
        times[i] = np.min(rounds, axis=0)
        notes += len(some)
    quick, long = times.sum(axis=0)
    ratios = times[:, 1] / times[:, 0]
    print(f"{len(files)} files, {notes} notes, all the same through both readers")
    print(f"symusic     {quick:8.3f} s  {notes / quick:12,.0f} notes/s")
    print(f"pretty-midi {long:8.3f} s  {notes / long:12,.0f} notes/s")
    print(
        f"ratio {long / quick:.0f} over all; a file: "
        f"median {np.median(ratios):.0f}, {ratios.min():.0f} to {ratios.max():.0f}"
    )


if __name__ == "__main__":
    main()
