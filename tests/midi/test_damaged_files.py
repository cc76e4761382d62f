"""Every way in which files of the world are broken, built byte by byte: the notes are saved, the
fault is reported with its byte and chunk, and the other two settings of on_error are obeyed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import MidiError, NoNotesError
from notelstm.midi import ReadPolicy, ReadReport, read_midi_with_report
from notelstm.notes import Notes

Smf = Callable[..., bytes]
END = b"\x00\xff\x2f\x00"
C4 = bytes([0, 0x90, 60, 64, 96, 0x80, 60, 0])
D4 = bytes([0, 0x90, 62, 64, 96, 0x80, 62, 0])
E4 = bytes([0, 0x90, 64, 64, 96, 0x80, 64, 0])
SCALE = C4 + D4 + E4
ALL = ReadPolicy(tracks="all", drums=True)


def read(data: bytes, policy: ReadPolicy = ALL) -> tuple[Notes, ReadReport]:
    return read_midi_with_report(data, policy)


def chunk(body: bytes, length: int | None = None, name: bytes = b"MTrk") -> bytes:
    return name + (len(body) if length is None else length).to_bytes(4, "big") + body


def header(form: int = 1, count: int = 1, division: int = 96) -> bytes:
    return b"MThd\0\0\0\6" + b"".join(n.to_bytes(2, "big") for n in (form, count, division))


def places(report: ReadReport) -> list[tuple[str, int | None, int | None]]:
    return [(repair.rule, repair.byte, repair.chunk) for repair in report.repairs]


FAULTS: dict[str, tuple[bytes, list[int], list[tuple[str, int | None, int | None]]]] = {
    "a track cut between events": (
        header() + chunk(SCALE + END, 50)[: 8 + len(C4 + D4)],
        [60, 62],
        [("truncated-track", 38, 0)],
    ),
    "a track cut within an event": (
        header() + chunk(SCALE + END)[: 8 + len(C4 + D4) + 2],
        [60, 62],
        [("truncated-track", 40, 0), ("cut-event", 40, 0)],
    ),
    "a track cut while a note sounds": (
        header() + chunk(SCALE + END)[: 8 + len(C4 + D4) + 4],
        [60, 62],
        [("truncated-track", 42, 0)],
    ),
    "a chunk with too large a length": (
        header() + chunk(SCALE + END, 1000),
        [60, 62, 64],
        [("track-length", 18, 0)],
    ),
    "a chunk with a length of 4 GiB, and another after it": (
        header(count=2) + chunk(C4 + END, 0xFFFFFFFF) + chunk(D4 + END),
        [60, 62],
        [("track-length", 18, 0)],
    ),
    "a chunk with too small a length": (
        header(count=2) + chunk(C4 + D4 + END, 7) + chunk(E4 + END),
        [60, 62, 64],
        [("track-length", 18, 0)],
    ),
    "a chunk with a length of 0": (
        header() + chunk(SCALE + END, 0),
        [60, 62, 64],
        [("track-length", 18, 0)],
    ),
    "a chunk whose length reaches to the end of the file, over another": (
        header(count=2) + chunk(C4 + END, 32) + chunk(D4 + END),
        [60, 62],
        [("track-length", 18, 0)],
    ),
    "more tracks than the header tells of": (
        header(count=1) + chunk(C4 + END) + chunk(D4 + END),
        [60, 62],
        [("track-count", 10, None)],
    ),
    "fewer tracks than the header tells of": (
        header(count=9) + chunk(C4 + END),
        [60],
        [("track-count", 10, None)],
    ),
    "two tracks in a format 0 file": (
        header(0, 2) + chunk(C4 + END) + chunk(D4 + END),
        [60, 62],
        [("format-0", 8, None)],
    ),
    "an unknown format": (header(7) + chunk(C4 + END), [60], [("format", 8, None)]),
    "junk between the chunks": (
        header(count=2) + chunk(C4 + END) + b"\x01\x02\x03" + chunk(D4 + END),
        [60, 62],
        [("junk", 34, None)],
    ),
    "junk after the last chunk": (
        header() + chunk(C4 + END) + b"\0" * 100,
        [60],
        [("junk", 34, None)],
    ),
    "junk in front of the header": (
        b"HTTP/1.1 200 OK\r\n\r\n" + header() + chunk(C4 + END),
        [60],
        [("junk-in-front", 0, None)],
    ),
    "no header": (chunk(C4 + END), [60], [("no-header", 0, None)]),
    "a header with too small a length": (
        b"MThd\0\0\0\2" + header()[8:] + chunk(C4 + END),
        [60],
        [("header-length", 4, None)],
    ),
    "0 ticks to a beat": (header(division=0) + chunk(C4 + END), [60], [("division", 12, None)]),
    "a time code that does not exist": (
        header(division=0xF305) + chunk(C4 + END),
        [60],
        [("division", 12, None)],
    ),
    "a velocity over 127": (
        header() + chunk(C4 + bytes([0, 0x90, 62, 200, 96, 0x80, 62, 0]) + E4 + END),
        [60, 62, 64],
        [("data-byte", 33, 0)],
    ),
    "a pitch over 127": (
        header() + chunk(C4 + bytes([0, 0x90, 190, 100, 96, 0x80, 62, 0]) + E4 + END),
        [60, 64],
        [("data-byte", 32, 0)],
    ),
    "a byte lost in an event": (
        header() + chunk(C4 + D4[:2] + D4[3:] + E4 + END),
        [60, 64],
        [("cut-event", 48, 0)],
    ),
    "a byte too many": (
        header() + chunk(C4 + b"\x55" + D4 + E4 + END),
        [60, 62, 64],
        [("data-byte", 31, 0)],
    ),
    "a track without its first status": (
        header() + chunk(bytes([0, 60, 64, 96, 60, 0, 0, 62, 64, 96, 62, 0]) + END),
        [60, 62],
        [("lost-status", 22, 0)],
    ),
    "a status that outlasts a system exclusive message": (
        header()
        + chunk(
            bytes([0, 0x90, 60, 64, 96, 60, 0])
            + b"\x00\xf0\x02\x7e\xf7"
            + bytes([0, 62, 64, 96, 62, 0])
            + END
        ),
        [60, 62],
        [("kept-status", 34, 0)],
    ),
    "noise in a track": (
        header() + chunk(C4 + b"\xf4\xfd\xf5\xff\xff\xff\xff\xff\xff" + D4 + E4 + END),
        [60, 62, 64],
        [("bad-length", 30, 0)],
    ),
    "a message that no file may hold": (
        header() + chunk(b"\x00\xf2\x01\x02" + C4 + b"\x00\xf8" + D4 + END),
        [60, 62],
        [("illegal-message", 22, 0), ("illegal-message", 34, 0)],
    ),
    "a key signature of 32 sharps": (
        header() + chunk(b"\x00\xff\x59\x02\x20\x00" + C4 + END),
        [60],
        [("key-signature", 22, 0)],
    ),
    "a key signature without a key": (
        header() + chunk(b"\x00\xff\x59\x00" + C4 + END),
        [60],
        [("key-signature", 22, 0)],
    ),
    "a time signature of 0 beats": (
        header() + chunk(b"\x00\xff\x58\x04\x00\x02\x18\x08" + C4 + END),
        [60],
        [("time-signature", 22, 0)],
    ),
    "a time signature over two to the power of 80": (
        header() + chunk(b"\x00\xff\x58\x04\x04\x50\x18\x08" + C4 + END),
        [60],
        [("time-signature", 22, 0)],
    ),
    "tempo 0": (
        header() + chunk(b"\x00\xff\x51\x03\x00\x00\x00" + C4 + END),
        [60],
        [("tempo", 22, 0)],
    ),
    "a tempo of one byte": (
        header() + chunk(b"\x00\xff\x51\x01\x07" + C4 + END),
        [60],
        [("tempo", 22, 0)],
    ),
    "a text longer than the track": (
        header() + chunk(C4 + b"\x00\xff\x01\xff\x7f" + D4 + E4 + END),
        [60, 62, 64],
        [("overlong-event", 30, 0)],
    ),
    "a wait of a quarter of a billion ticks": (
        header() + chunk(C4 + b"\xff\xff\xff\x7f" + D4[1:] + E4 + END),
        [60, 62, 64],
        [("absurd-delta", 30, 0)],
    ),
    "a wait that does not end within four bytes": (
        header() + chunk(C4 + b"\xff\xff\xff\xff" + D4 + E4 + END),
        [60, 62, 64],
        [("bad-length", 30, 0)],
    ),
    "no end of track": (header() + chunk(C4), [60], [("no-end-of-track", 30, 0)]),
    "events after the end of track": (
        header() + chunk(C4 + END + D4 + E4 + END),
        [60, 62, 64],
        [("events-after-end", 34, 0)],
    ),
    "bytes after the end of track": (
        header() + chunk(C4 + END + b"\0\0\0\0\0"),
        [60],
        [("bytes-after-end", 34, 0)],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_notes_are_saved_and_faults_are_reported(fault: str) -> None:
    data, pitches, wanted = FAULTS[fault]
    notes, report = read(data)
    assert sorted(notes.pitch.tolist()) == pitches
    assert places(report) == wanted
    assert report.repairs_total == len(wanted)
    assert not report.healthy
    everywhere = any(place is None for _, _, place in wanted) or data.count(b"MTrk") == 1
    assert report.saved == len(notes) if everywhere else 0 < report.saved < len(notes)
    assert np.all(notes.duration > 0)
    assert all(repair.message for repair in report.repairs)


@pytest.mark.parametrize("fault", FAULTS)
def test_raise_stops_at_the_first_fault(fault: str) -> None:
    data, _, wanted = FAULTS[fault]
    with pytest.raises(MidiError, match=wanted[0][0]) as caught:
        read(data, ReadPolicy(on_error="raise"))
    assert f"byte {wanted[0][1]}" in caught.value.where
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_skip_leaves_out_the_chunks_that_are_damaged(fault: str) -> None:
    data, pitches, wanted = FAULTS[fault]
    policy = ReadPolicy(tracks="all", drums=True, on_error="skip")
    damaged = {place for _, _, place in wanted} - {None}
    if not damaged:
        assert sorted(read(data, policy)[0].pitch.tolist()) == pitches
    elif data.count(b"MTrk") > 1:
        notes, report = read(data, policy)
        assert 0 < len(notes) < len(pitches)
        assert report.left_out["on_error"] == len(pitches) - len(notes)
    else:
        with pytest.raises(NoNotesError, match='on_error="repair"'):
            read(data, policy)


def test_a_note_that_sounds_where_the_track_is_cut_ends_there() -> None:
    data = header() + chunk(C4 + D4[:4] + b"\x60\xff\x01\x01A" + END)[:-4]
    notes, report = read(data)
    assert notes.pitch.tolist() == [60, 62]
    assert notes.end.tolist() == [0.5, 1.0]
    assert report.saved == 2


def test_lost_notes_are_counted() -> None:
    data, *_ = FAULTS["a pitch over 127"]
    assert read(data)[1].lost == 1
    notes, report = read(header() + chunk(C4 + b"\xff\xff\xff\xff\xff\x90\x40\x40\xff\xff\xff"))
    assert len(notes) == 1
    assert report.lost == 1


def test_unusual_but_valid_files_have_no_faults() -> None:
    """What the standard allows is read without a repair, if with a warning."""
    body = chunk(C4 + END)
    riff = b"data" + (14 + len(body)).to_bytes(4, "little") + header() + body
    wrapped = b"RIFF" + (4 + len(riff)).to_bytes(4, "little") + b"RMID" + riff
    cases = {
        "an alien chunk": (header() + chunk(b"\1\2\3", name=b"XFIH") + body, "XFIH"),
        "an alien chunk at the end": (header() + body + chunk(b"\1", name=b"Junk"), "Junk"),
        "RMID": (wrapped, "RIFF"),
        "RMID with a list after": (wrapped + b"LIST\4\0\0\0INFO", "RIFF"),
        "a long header": (b"MThd\0\0\0\x08" + header()[8:] + b"\0\0" + body, ""),
        "format 2": (header(2, 2) + body + chunk(D4 + END), "format 2"),
        "running status after a meta event": (
            header() + chunk(C4[:4] + b"\0\xff\x01\x01A\x60\x3c\x00" + END),
            "",
        ),
        "time code": (header(division=0xE728) + body, ""),
    }
    for name, (data, warning) in cases.items():
        notes, report = read(data, ReadPolicy(on_error="raise"))
        assert notes.pitch.tolist() == [60], name
        assert report.healthy, name
        assert warning in " ".join(report.warnings), name
        assert bool(report.warnings) == bool(warning), name


def test_a_riff_wrapper_with_wrong_sizes_is_read() -> None:
    data = b"RIFF\0\0\0\0RMIDdata\xff\xff\xff\x7f" + header() + chunk(C4 + END)
    notes, report = read(data)
    assert len(notes) == 1
    assert places(report) == [("riff", 4, None)]


@pytest.mark.parametrize(
    ("division", "seconds"),
    [(0xE728, 96 / 1000), (0xE801, 4.0), (0xE250, 96 / 2400), (0xE364, 96 * 1001 / 3_000_000)],
)
def test_time_code_gives_seconds_at_any_tempo(division: int, seconds: float) -> None:
    tempo = b"\x00\xff\x51\x03\x00\x10\x00"
    notes, _ = read(header(division=division) + chunk(tempo + C4 + END))
    assert notes.end[0] == pytest.approx(seconds, rel=1e-12)


def test_tempo_0_is_ignored() -> None:
    fast, none = b"\x00\xff\x51\x03\x03\xd0\x90", b"\x00\xff\x51\x03\x00\x00\x00"
    notes, _ = read(header() + chunk(fast + none + C4 + END))
    assert notes.end[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"MThd",
        header(),
        header() + b"MTrk",
        header() + chunk(END),
        header() + chunk(C4[:4]),
        b"MTrk" * 1000,
        b"MThd" * 1000,
        b"RIFF\0\0\0\0RMID",
        b"%PDF-1.4 not music",
    ],
)
def test_files_without_notes_are_a_clear_error(data: bytes) -> None:
    with pytest.raises(MidiError) as caught:
        read(data)
    assert caught.value.where == "bytes"
    assert "\n" not in str(caught.value)


def test_names_in_any_encoding() -> None:
    for name, text in [("Flöte".encode(), "Flöte"), ("Flöte".encode("latin-1"), "Flöte")]:
        data = header() + chunk(b"\0\xff\x03" + bytes([len(name)]) + name + C4 + END)
        for reader in ("pretty-midi", "symusic", "tolerant"):
            assert read_midi_with_report(data, reader=reader)[1].tracks[0].name == text


def timed(data: bytes) -> float:
    begin = time.process_time()
    with contextlib.suppress(MidiError):
        read(data)
    return time.process_time() - begin


BAD: dict[str, Callable[[int], bytes]] = {
    "a junk track": lambda n: header() + chunk(np.random.default_rng(0).bytes(n)),
    "only statuses": lambda n: header() + chunk(b"\x90" * n),
    "only waits": lambda n: header() + chunk(b"\xff" * n),
    "chunks without end": lambda n: header() + b"MTrk\xff\xff\xff\xff" * (n // 8),
    "empty chunks": lambda n: header() + b"MTrk\0\0\0\0" * (n // 8),
    "headers": lambda n: b"MThd" * (n // 4),
    "bad data bytes": lambda n: header() + chunk(b"\x00\x90\x3c\xff" * (n // 4)),
    "trials that fail late": lambda n: header() + chunk((C4 * 5 + b"\x00\x90\xff") * (n // 43)),
    "one pitch on and on": lambda n: header() + chunk(b"\x00\x90" + b"\x3c\x40\x00" * (n // 3)),
    "one pitch on, then off": lambda n: (
        header() + chunk(b"\x00\x90" + b"\x3c\x40\x01" * (n // 6) + b"\x3c\x00\x01" * (n // 6))
    ),
    "tempos": lambda n: header() + chunk(b"\x01\xff\x51\x03\x01\x00\x00" * (n // 7)),
    "absurd waits": lambda n: header() + chunk((b"\xff\xff\xff\x7f" + C4[1:]) * (n // 11)),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("overlaps", ["close-all", "fifo", "merge"])
def test_no_damage_takes_long(kind: str, overlaps: str) -> None:
    small, large = BAD[kind](25_000), BAD[kind](100_000)
    timed(small)
    # Four times the bytes; more than linear would be sixteen times the time.
    assert timed(large) < max(12 * timed(small), 2.5)


damage = st.lists(
    st.tuples(
        st.sampled_from(["flip", "put", "insert", "delete", "cut"]),
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    out = bytearray(data)
    for kind, where, what in changes:
        at = where % (len(out) + 1)
        if kind == "flip" and at < len(out):
            out[at] ^= 1 << (what[0] % 8)
        elif kind == "put":
            out[at : at + len(what)] = what
        elif kind == "insert":
            out[at:at] = what
        elif kind == "delete":
            del out[at : at + len(what)]
        elif kind == "cut":
            del out[at:]
    return bytes(out)


@given(damage, st.booleans())
def test_any_damage_gives_notes_or_our_error(
    smf: Smf, changes: list[tuple[str, int, bytes]], running: bool
) -> None:
    notes_in_running_status = b"\x00\x90\x3c\x40" + b"\x30\x3c\x00\x00\x40\x40\x30\x40\x00" * 5
    data = damaged(smf(SCALE, notes_in_running_status if running else SCALE * 3), changes)
    for policy in (ALL, ReadPolicy(tracks="all", on_error="skip", overlaps="fifo")):
        with contextlib.suppress(MidiError):
            notes, report = read(data, policy)
            assert report.notes == len(notes) > 0
            assert report.repairs_total >= len(report.repairs)


@given(st.binary(max_size=300))
def test_any_bytes_give_notes_or_our_error(body: bytes) -> None:
    for data in (body, header() + body, header() + chunk(body), header() + chunk(body, 2**31)):
        with contextlib.suppress(MidiError):
            assert len(read(data)[0]) > 0


def test_a_note_lasts_to_the_event_that_cannot_be_read() -> None:
    """The wait before an event is known even where the event is not."""
    notes, _ = read(header() + chunk(C4[:4] + b"\x60\xff\x01\x50short", 1000))
    assert notes.end.tolist() == [0.5]


def test_a_velocity_over_127_is_the_loudest() -> None:
    data, *_ = FAULTS["a velocity over 127"]
    assert read(data)[0].velocity.tolist() == [64, 127, 64]


def test_reading_resumes_at_events_with_their_own_status() -> None:
    """Text reads like running status; the next event with a status of its own comes first."""
    text = bytes([10, 60, 64, 10, 60, 0]) * 2
    notes, report = read(header() + chunk(C4 + b"\x00\xf4\x80\xf4" + text + D4 + E4 + END))
    assert notes.pitch.tolist() == [60, 62, 64]
    assert len(report.repairs) == 1
