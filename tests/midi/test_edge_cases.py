"""Where readers disagreed, or took too long: each was found by trying, and is refused or mended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from notelstm.errors import MidiError
from notelstm.midi import (
    PrettyMidiReader,
    ReadPolicy,
    SymusicReader,
    TolerantReader,
    read_midi,
    read_midi_with_report,
)
from notelstm.midi.pretty_midi_reader import to_pretty_midi
from notelstm.notes import Notes

ON, OFF = b"\x90\x3c\x40", b"\x80\x3c\x00"
Smf = Callable[..., bytes]


def body(*events: tuple[int, bytes]) -> bytes:
    """Events with waits of up to 16,383 ticks."""
    return b"".join(bytes([0x80 | wait >> 7, wait & 0x7F]) + message for wait, message in events)


def test_a_note_that_begins_as_overlapping_ones_end(smf: Smf) -> None:
    for events in (
        [(0, ON), (0, ON), (480, OFF), (0, ON), (0, OFF), (0, ON), (480, OFF), (0, OFF)],
        [(0, ON), (0, ON), (480, ON), (0, OFF), (0, OFF), (480, OFF)],
    ):
        data = smf(b"", body(*events))
        with pytest.raises(MidiError, match="one begins as another ends"):
            SymusicReader().read(data, ReadPolicy(), "")
        assert read_midi(data) == PrettyMidiReader().read(data, ReadPolicy(), "")[0]


def test_repeated_notes_beside_overlapping_ones_of_another_pitch_are_read_fast(smf: Smf) -> None:
    other_on, other_off = b"\x90\x40\x40", b"\x80\x40\x00"
    events = [(0, ON), (0, other_on), (10, other_on), (10, other_off), (0, other_off)]
    data = smf(b"", body(*events, (20, OFF), (0, ON), (20, OFF)))
    notes = SymusicReader().read(data, ReadPolicy(), "")[0]
    assert notes == PrettyMidiReader().read(data, ReadPolicy(), "")[0]


@pytest.mark.parametrize("what", ["tempo", "time_signature"])
def test_many_tempos_or_time_signatures_on_one_tick(smf: Smf, what: str) -> None:
    if what == "tempo":
        marks = [b"\xff\x51\x03" + (100_000 * k).to_bytes(3, "big") for k in range(1, 31)]
    else:
        marks = [bytes([0xFF, 0x58, 4, k, 2, 24, 8]) for k in range(1, 31)]
    data = smf(body(*[(0, mark) for mark in marks], (0, ON), (480, OFF)))
    with pytest.raises(MidiError, match="several tempos or time signatures on one tick"):
        SymusicReader().read(data, ReadPolicy(), "")
    notes, wanted = read_midi(data), PrettyMidiReader().read(data, ReadPolicy(), "")[0]
    np.testing.assert_allclose(notes.end, wanted.end, rtol=0, atol=1e-6)


def test_an_exclusive_message_longer_than_its_chunk(smf: Smf) -> None:
    """Of some lengths the reader's own coda was taken for its end, and the notes were lost."""
    notes = [(0, ON), (96, OFF)] * 4
    for length in range(60, 128):
        broken = body((0, bytes([0xF0, length, 0x7E, 0x7F, 9, 1, 0xF7])), *notes)
        data = smf(broken, body((0, b"\x90\x40\x40"), (96, b"\x80\x40\x00")))
        with pytest.raises(MidiError, match="longer than its chunk"):
            SymusicReader().read(data, ReadPolicy(tracks="all"), "")
        read, report = read_midi_with_report(data, ReadPolicy(tracks="all"))
        assert not report.healthy
        assert len(read) == 5


@pytest.mark.timeout(60)
def test_many_headers_with_large_lengths_are_searched_once() -> None:
    """Each looked through all that followed: two gigabytes of it, ten minutes and more."""
    head = b"MThd\0\0\0\6\0\1\0\1\1\xe0" + b"MTrk\x7f\xff\xff\xff" * 60_000
    data = head + body((0, ON), (96, OFF), (0, b"\xff\x2f\x00")) + b"\xff\x2f\x00M" * 1_000_000
    with contextlib.suppress(MidiError):
        TolerantReader().read(data, ReadPolicy(), "")


def test_programs_of_a_prettymidi_are_checked() -> None:
    midi = to_pretty_midi(Notes(start=[0.0], end=[1.0], pitch=[60]))
    for program in (300, -1, None, "x", 1.5):
        midi.instruments[0].program = program
        with pytest.raises(MidiError, match="program from 0 to 127"):
            read_midi(midi)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_without_a_writer_is_rejected(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mid"
    os.mkfifo(pipe)
    with pytest.raises(MidiError, match="named pipe"):
        read_midi(pipe)
