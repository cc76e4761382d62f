"""Damage MIDI files at random and read them: no error but ours, never slow, readers agree.

A tenth of the inputs is noise, the others are real files after some changes; half of these get
right chunk lengths again, so that the strict readers look at what is inside. Run it as
``python tests/benchmarks/fuzz_reading.py [inputs] [seed]``. The files are the study of the tests
and, where NOTELSTM_ODD_MIDI names that folder, its files.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np

from notelstm.errors import MidiError, NoNotesError
from notelstm.midi import (
    PrettyMidiReader,
    ReadPolicy,
    SymusicReader,
    TolerantReader,
    midi_bytes,
    read_midi,
)
from notelstm.notes import Notes

GOLDEN = Path(__file__).parents[1] / "golden"
POLICIES = (
    ReadPolicy(tracks="all", drums=True),
    ReadPolicy(tracks="all", drums=True, pedal="extend"),
    ReadPolicy(tracks="all", drums=True, tempos="first", overlaps="fifo", hanging="end"),
)
TELLING = [0x00, 0x01, 0x7F, 0x80, 0x90, 0x91, 0xB0, 0xC0, 0xE0, 0xF0, 0xF1, 0xF7, 0xFF]


def seeds() -> list[bytes]:
    """Files to be damaged, the study's first notes among them."""
    files = [midi_bytes(read_midi(GOLDEN / "study.mid")[:40])]
    folder = os.environ.get("NOTELSTM_ODD_MIDI")
    if folder:
        files += [p.read_bytes() for p in sorted(Path(folder).glob("*.mid"))]
    return [data for data in files if 14 < len(data) < 3000]


def damaged(data: bytes, rng: np.random.Generator, others: list[bytes], changes: int) -> bytes:
    """The file after so many changes."""
    out = bytearray(data)
    for _ in range(changes):
        at = int(rng.integers(0, len(out) + 1))
        size = int(rng.integers(1, 9))
        kind = rng.integers(0, 8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and at < len(out):
            out[at] = TELLING[int(rng.integers(0, len(TELLING)))]
        elif kind == 2:
            out[at:at] = rng.bytes(size)
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at : at + size] = rng.bytes(size)
        elif kind == 5 and rng.random() < 0.3:
            del out[at:]
        elif kind == 6:
            other = others[int(rng.integers(0, len(others)))]
            start = int(rng.integers(0, len(other)))
            out[at:at] = other[start : start + 8 * size]
        elif kind == 7:
            out[at : at + 4] = int(rng.integers(0, 2**32)).to_bytes(4, "big")
    return bytes(out) or b"\0"


def with_right_lengths(data: bytes) -> bytes:
    """A sound file around what comes after the last chunk's head."""
    body = data[data.rfind(b"MTrk") + 8 :]
    body = body.removesuffix(b"\x00\xff\x2f\x00") + b"\x00\xff\x2f\x00"
    return b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + len(body).to_bytes(4, "big") + body


def agree(one: Notes, two: Notes) -> bool:
    """Whether two readings are the same notes."""
    names = ("start", "end", "pitch", "velocity", "program", "drum", "track")
    return len(one) == len(two) and all(
        np.allclose(getattr(one, n), getattr(two, n), rtol=0, atol=1e-6) for n in names
    )


def make_input(number: int, rng: np.random.Generator, files: list[bytes]) -> bytes:
    """Noise, noise with a header, a damaged file, or a damaged file with right lengths."""
    if number % 10 == 0:
        noise = rng.bytes(int(rng.integers(1, 500)))
        return b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk" + noise if number % 20 else noise
    data = files[int(rng.integers(0, len(files)))]
    if number % 2:
        return with_right_lengths(damaged(data, rng, files, 1))
    return damaged(data, rng, files, int(rng.integers(1, 9)))


class Figures:
    """What happened so far."""

    def __init__(self) -> None:
        self.outcome: Counter[str] = Counter()
        self.slowest = 0.0
        self.peak = self.notes = self.lost = self.repairs = 0

    def read(self, data: bytes, policy: ReadPolicy) -> tuple[Notes | None, bool]:
        """The tolerant reader's notes, and whether it found no fault."""
        tracemalloc.reset_peak()
        notes, healthy, begin = None, False, time.perf_counter()
        try:
            notes, report = TolerantReader().read(data, policy, "input")
        except NoNotesError:
            self.outcome["no notes"] += 1
        except MidiError:
            self.outcome["refused"] += 1
        else:
            healthy = report.healthy
            self.outcome["read" if healthy else "repaired"] += 1
            self.notes, self.lost = self.notes + len(notes), self.lost + report.lost
            self.repairs += report.repairs_total
        self.slowest = max(self.slowest, time.perf_counter() - begin)
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1])
        return notes, healthy

    def compare(
        self, data: bytes, policy: ReadPolicy, notes: Notes | None, *, healthy: bool
    ) -> None:
        """Hold the strict readers, where they read at all, against the tolerant one."""
        for reader in (SymusicReader(), PrettyMidiReader()):
            other = None
            try:
                other, _ = reader.read(data, policy, "input")
            except NoNotesError:
                pass
            except MidiError:
                continue
            self.outcome[f"also through {type(reader).__name__}"] += 1
            same = other is notes if other is None or notes is None else agree(other, notes)
            if healthy and not same:
                raise AssertionError(f"{reader} disagrees")
            if not healthy and not same:
                self.outcome[f"damage that {type(reader).__name__} passed over"] += 1


def main() -> None:
    """Print what happened; stop at the first input that is not read as it should be."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rng, files, figures = np.random.default_rng(seed), seeds(), Figures()
    begin = time.perf_counter()
    tracemalloc.start(1)
    for number in range(count):
        data = make_input(number, rng, files)
        try:
            policy = POLICIES[number % len(POLICIES)]
            notes, healthy = figures.read(data, policy)
            if healthy or number % 2:
                figures.compare(data, policy, notes, healthy=healthy)
        except Exception as error:
            sys.exit(f"input {number}, seed {seed}: {error!r}\n{data.hex()}")
    print(f"{count} inputs, seed {seed}, {time.perf_counter() - begin:.0f} s")
    print(dict(figures.outcome))
    print(f"{figures.notes} notes given back, {figures.lost} known to be lost, ", end="")
    print(f"{figures.repairs} repairs")
    print(f"slowest {figures.slowest * 1000:.1f} ms, peak {figures.peak / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
