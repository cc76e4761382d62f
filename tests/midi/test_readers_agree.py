"""Three readers, one answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import MidiError, MissingExtraError, NoNotesError
from notelstm.midi import (
    PrettyMidiReader,
    Reader,
    ReadPolicy,
    SymusicReader,
    TolerantReader,
    read_midi_with_report,
)
from notelstm.notes import Notes
from notelstm.testing.midi_files import midi_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
ALL = ReadPolicy(tracks="all", drums=True)
Event = tuple[int, bytes]


def variable(value: int) -> bytes:
    out = bytes([value & 0x7F])
    while value := value >> 7:
        out = bytes([0x80 | value & 0x7F]) + out
    return out


def track(events: list[Event], *, running: bool) -> bytes:
    """A chunk's events; with running status, a status that repeats is left out."""
    body, status = b"", 0
    for delta, message in events:
        again = running and message[0] == status and message[0] < 0xF0
        body += variable(delta) + (message[1:] if again else message)
        status = message[0] if message[0] < 0xF0 else 0
    return body


# Few pitches, channels and waits, so that notes overlap, have no length, and meet their like.
channels = st.sampled_from([0, 0, 0, 1, 9])
pitches = st.sampled_from([0, 60, 61, 127])
waits = st.sampled_from([0, 0, 1, 5, 5, 96, 200, 20_000])
messages = st.one_of(
    st.builds(lambda c, p, v: bytes([0x90 | c, p, v]), channels, pitches, st.integers(0, 127)),
    st.builds(lambda c, p, v: bytes([0x80 | c, p, v]), channels, pitches, st.just(64)),
    st.builds(lambda c, p: bytes([0x90 | c, p, 0]), channels, pitches),
    st.builds(lambda c, p: bytes([0xC0 | c, p]), channels, st.integers(0, 2)),
    st.builds(lambda c, v: bytes([0xB0 | c, 64, v]), channels, st.sampled_from([0, 63, 64, 127])),
    st.builds(lambda t: b"\xff\x51\x03" + t.to_bytes(3, "big"), st.integers(1, 2**24 - 1)),
    st.builds(
        lambda n, d: bytes([0xFF, 0x58, 4, n, d, 24, 8]), st.integers(1, 9), st.integers(0, 4)
    ),
    st.builds(lambda n: b"\xff\x03" + bytes([len(n)]) + n, st.sampled_from([b"A", b"\xe9", b""])),
    st.sampled_from([b"\xf0\x03\x7e\x09\xf7", b"\xff\x01\x02hi", b"\xe0\x00\x40", b"\xd0\x40"]),
)
events = st.lists(st.tuples(waits, messages), max_size=25)
bodies = st.lists(
    st.builds(lambda e, r: track(e, running=r), events, st.booleans()), min_size=1, max_size=3
)


def read(reader: Reader, data: bytes, policy: ReadPolicy) -> Notes | None:
    """The notes, or None where there are none; other errors go through."""
    try:
        notes = reader.read(data, policy, "")[0]
    except NoNotesError:
        return None
    assert_right(notes)
    return notes


def assert_right(notes: Notes) -> None:
    """Stop unless the columns are as ``Notes`` makes them, which readers are trusted with."""
    columns = {name: getattr(notes, name) for name in Notes.__dataclass_fields__}
    made = Notes(**columns)
    assert made == notes
    for name, column in columns.items():
        if name not in ("tempo_map", "track_names", "length", "truncated", "labels"):
            assert column.dtype == getattr(made, name).dtype, name
            assert column.base is None, name
            assert not column.flags.writeable, name


def assert_same(got: Notes | None, wanted: Notes | None) -> None:
    if got is None or wanted is None:
        assert got is wanted
        return
    assert got.track_names == wanted.track_names
    assert got.end_time == pytest.approx(wanted.end_time, abs=1e-6)
    assert (got.length is None) == (wanted.length is None)
    for name in ("pitch", "velocity", "program", "drum", "track"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
    for name in ("start", "end"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "policy",
    [
        ReadPolicy(),
        ALL,
        ReadPolicy(tracks="first-instrument"),
        ReadPolicy(silence="keep"),
        ReadPolicy(silence="keep", max_seconds=1.5),
    ],
)
@given(tracks=bodies)
def test_the_tolerant_reader_reads_what_pretty_midi_reads(
    smf: Callable[..., bytes], tracks: list[bytes], policy: ReadPolicy
) -> None:
    data = smf(*tracks)
    got = read(TolerantReader(), data, policy)
    try:
        wanted = read(PrettyMidiReader(), data, policy)
    except MidiError:  # it would misread the file
        return
    assert_same(got, wanted)
    assert (got and got.tempo_map) == (wanted and wanted.tempo_map)
    if got is not None:
        assert TolerantReader().read(data, policy, "")[1].healthy


def other_policies() -> st.SearchStrategy[ReadPolicy]:
    return st.builds(
        ReadPolicy,
        tracks=st.sampled_from(["first", "all"]),
        drums=st.booleans(),
        overlaps=st.sampled_from(["close-all", "fifo", "merge"]),
        zero_length=st.sampled_from(["drop", "keep"]),
        hanging=st.sampled_from(["drop", "end"]),
        pedal=st.sampled_from(["ignore", "extend"]),
        tempos=st.sampled_from(["first", "all"]),
        silence=st.sampled_from(["drop", "keep"]),
        on_error=st.sampled_from(["repair", "skip", "raise"]),
    )


@given(tracks=bodies, policy=other_policies())
def test_symusic_reads_what_the_tolerant_reader_reads(
    smf: Callable[..., bytes], tracks: list[bytes], policy: ReadPolicy
) -> None:
    data = smf(*tracks)
    try:
        got = read(SymusicReader(), data, policy)
    except MidiError:
        return
    assert_same(got, read(TolerantReader(), data, policy))


notes_and_pedal = st.one_of(
    st.builds(lambda p: bytes([0x90, p, 64]), pitches),
    st.builds(lambda p: bytes([0x80, p, 64]), pitches),
    st.builds(lambda v: bytes([0xB0, 64, v]), st.sampled_from([0, 63, 64, 127])),
)


@given(st.lists(st.tuples(waits, notes_and_pedal), max_size=25))
def test_all_readers_agree_on_the_pedal(smf: Callable[..., bytes], some: list[Event]) -> None:
    data, policy = smf(b"", track(some, running=True)), ReadPolicy(pedal="extend")
    wanted = read(TolerantReader(), data, policy)
    for reader in (PrettyMidiReader(), SymusicReader()):
        try:
            assert_same(read(reader, data, policy), wanted)
        except MidiError:
            continue


def folder_files(variable: str, pattern: str, what: str) -> list[Path]:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} does not name {what}")
    return sorted(Path(folder).glob(pattern))


@pytest.mark.maestro
def test_readers_agree_on_maestro() -> None:
    files = folder_files("NOTELSTM_MAESTRO", "*/*.mid*", "the MAESTRO v2.0.0 folder")[::28]
    assert len(files) == 40
    for path in files:
        data = path.read_bytes()
        for policy in (ReadPolicy(), ReadPolicy(silence="keep")):
            wanted = read(PrettyMidiReader(), data, policy)
            assert_same(read(SymusicReader(), data, policy), wanted)
            assert_same(read(TolerantReader(), data, policy), wanted)


@pytest.mark.parametrize("policy", [ReadPolicy(), replace(ALL, silence="keep")])
def test_readers_agree_on_odd_files(policy: ReadPolicy) -> None:
    files = folder_files("NOTELSTM_ODD_MIDI", "*.mid", "the folder of odd MIDI files")
    answered = compared = 0
    for path in files:
        data = path.read_bytes()
        readings = []
        for reader in (PrettyMidiReader(), SymusicReader(), TolerantReader()):
            try:
                readings.append(read(reader, data, policy))
            except MidiError:  # refused, which is an answer too
                continue
        answered += bool(readings)
        compared += len(readings) > 1
        for reading in readings:
            assert_same(reading, readings[-1])
    # The pretty-midi reader refuses what it would misread, so some files have one reading only.
    assert answered > 60
    assert compared > 40


def test_auto_uses_the_fast_reader_where_possible() -> None:
    data = (GOLDEN / "study.mid").read_bytes()
    notes, report = read_midi_with_report(data)
    assert report.reader == "symusic"
    assert_same(notes, read(PrettyMidiReader(), data, ReadPolicy()))
    in_file_order, report = read_midi_with_report(data, ReadPolicy(simultaneous_order="file"))
    assert_right(in_file_order)
    assert report.reader == "tolerant"
    assert_same(
        in_file_order, read(PrettyMidiReader(), data, ReadPolicy(simultaneous_order="file"))
    )


def test_file_order_is_by_track() -> None:
    """Three tracks play chords at the same moments; neither pitch nor program orders them."""

    def chunk(program: int, *pitches: int) -> list[tuple[int, bytes]]:
        messages = [(0, bytes([0xC0, program]))]
        for tick in (0, 480):
            messages += [(tick, bytes([0x90, pitch, 64])) for pitch in pitches]
            messages += [(tick + 240, bytes([0x80, pitch, 0])) for pitch in reversed(pitches)]
        return messages

    data = midi_bytes(chunk(40, 72, 65), [], chunk(5, 60, 67), chunk(40, 50, 80))
    # Within a track in the order in which the file ends them.
    wanted = [65, 72, 67, 60, 80, 50] * 2
    policy = ReadPolicy(tracks="all", simultaneous_order="file")
    for reader in (PrettyMidiReader(), TolerantReader()):
        notes = reader.read(data, policy, "")[0]
        assert notes.pitch.tolist() == wanted
        assert notes.track is not None
        assert notes.track.tolist() == [0, 0, 1, 1, 2, 2] * 2
    notes, report = read_midi_with_report(data, policy)
    assert notes.pitch.tolist() == wanted
    # symusic sorts each track by pitch itself, so the file's order is not available.
    assert report.reader == "tolerant"
    with pytest.raises(MidiError, match="simultaneous_order"):
        SymusicReader().read(data, policy, "")


def test_without_symusic_all_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (GOLDEN / "study.mid").read_bytes()
    wanted = read(SymusicReader(), data, ReadPolicy())
    monkeypatch.setitem(sys.modules, "symusic", None)
    with pytest.raises(MissingExtraError, match="pip install symusic"):
        SymusicReader().read(data, ReadPolicy(), "")
    notes, report = read_midi_with_report(data)
    assert report.reader == "tolerant"
    assert_same(notes, wanted)


NOTE = bytes([0, 0x90, 60, 64, 96, 0x80, 60, 0])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00\xc0\x05" + NOTE + b"\x00\xc0\x07" + NOTE, "programs that change"),
        (NOTE + b"\x00\xc0\x05" + NOTE + b"\x00\xc0\x00" + NOTE, "twice after the first note"),
        (NOTE + b"\x00\x90\x40\x40", "never end"),
        (b"\x00\xf0\x01\xf7" + NOTE[1:], "an event without a status"),
        (NOTE + b"\x00\xf7\x01\x05", "system messages among"),
        (NOTE + b"\x00\xff\x03\x01A\x00\xff\x03\x01B", "several names"),
        (NOTE + b"\x00\xff\x51\x03\x00\x00\x00", "unusual meta"),
        (NOTE + b"\x00\xff\x58\x04\x04\x07\x18\x08", "unusual meta"),
        (NOTE + b"\x00\xff\x59\x02\x20\x00", "unusual meta"),
        (NOTE + b"\x00\xff\x2f\x00", "early end"),
        (NOTE + b"\x00\xf8", "system messages among"),
        (NOTE + b"\x81\x80\x80\x00\x90\x3c\x40\x10\x3c\x00", "two million"),
        (NOTE + b"\x00\xff\x01\xff\xff", "without an end|unusual meta|two million"),
        (b"\x00\x90\x3c\xc8" + NOTE, "cannot read"),
        (b"\x00\x90\x3c\x40\x00\x3c\x40\x00\x3c\x00\x60\x3c\x00", "overlapping notes"),
        (
            NOTE[:4] + b"\x00\x91\x3c\x40" + b"\x60\x80\x3c\x00\x00\x81\x3c\x00",
            "first notes end together",
        ),
    ],
)
def test_the_symusic_reader_rejects_files_that_symusic_misreads(
    smf: Callable[..., bytes], body: bytes, reason: str
) -> None:
    data = smf(body)
    with pytest.raises(MidiError, match=reason):
        SymusicReader().read(data, ALL, "a.mid")
    read(TolerantReader(), data, ALL)
