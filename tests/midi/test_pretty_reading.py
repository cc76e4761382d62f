"""Reading with pretty_midi: golden notes, policies, sources and errors."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from notelstm.errors import MidiError, NoNotesError
from notelstm.midi import (
    PrettyMidiReader,
    ReadPolicy,
    from_pretty_midi,
    midi_bytes,
    read_midi,
    read_midi_with_report,
    to_pretty_midi,
)
from notelstm.notes import Notes, TempoMap

GOLDEN = Path(__file__).parents[1] / "golden"
# A digest of the notes, (N, 3) float64, since MAESTRO itself is not ours to copy.
ORIGINAL_FILE = "2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1.midi"
ORIGINAL_NOTES = "42be58646129a7ccc8978a5b2d2f0126f82366c7d7cd652c53eef2fcd7b73099"
ORIGINAL = ReadPolicy(tracks="first-instrument", simultaneous_order="file")


def as_original(notes: Notes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.stack([notes.pitch, notes.step, notes.duration], axis=1)


def test_the_study_is_read_as_by_the_original() -> None:
    golden = np.load(GOLDEN / "study.npz")["notes"]
    notes = read_midi(GOLDEN / "study.mid", ORIGINAL, reader="pretty-midi")
    np.testing.assert_array_equal(as_original(notes), golden)


@pytest.mark.maestro
def test_maestro_is_read_as_by_the_original() -> None:
    folder = os.environ.get("NOTELSTM_MAESTRO")
    if not folder:
        pytest.skip("NOTELSTM_MAESTRO does not name the MAESTRO v2.0.0 folder")
    notes = read_midi(Path(folder) / ORIGINAL_FILE, ORIGINAL, reader="pretty-midi")
    assert hashlib.sha256(as_original(notes).tobytes()).hexdigest() == ORIGINAL_NOTES
    by_pitch = read_midi(Path(folder) / ORIGINAL_FILE, reader="pretty-midi")
    assert by_pitch != notes
    assert by_pitch == notes.by_pitch()


@pytest.fixture
def band() -> pretty_midi.PrettyMIDI:
    """Drums, piano and violin, all playing a chord on the same tick."""
    midi = pretty_midi.PrettyMIDI(resolution=480)
    for program, drum, name in [(0, True, "Kit"), (0, False, "Piano left"), (40, False, "Solo")]:
        instrument = pretty_midi.Instrument(program, is_drum=drum, name=name)
        instrument.notes = [
            pretty_midi.Note(80, pitch + program, 0.0, 1.0 + pitch / 128) for pitch in (72, 60)
        ]
        midi.instruments.append(instrument)
    return midi


@pytest.mark.parametrize(
    ("policy", "pitches"),
    [
        (ReadPolicy(), [60, 72]),
        (ReadPolicy(tracks="all"), [60, 72, 100, 112]),
        (ReadPolicy(tracks="all", drums=True), [60, 60, 72, 72, 100, 112]),
        (ReadPolicy(drums=True, names=("kit",)), [60, 72]),
        (ReadPolicy(programs=(40,)), [100, 112]),
        (ReadPolicy(names=("*SOLO*", "nobody")), [100, 112]),
        (ReadPolicy(tracks="first-instrument", simultaneous_order="file"), [72, 60]),
    ],
)
def test_policies_select_tracks(
    band: pretty_midi.PrettyMIDI, policy: ReadPolicy, pitches: list[int]
) -> None:
    assert from_pretty_midi(band, policy).pitch.tolist() == pitches
    if policy.simultaneous_order == "pitch":
        file = io.BytesIO()
        band.write(file)
        assert read_midi(file.getvalue(), policy, reader="pretty-midi").pitch.tolist() == pitches


def test_the_report_lists_every_track(band: pretty_midi.PrettyMIDI) -> None:
    notes, report = read_midi_with_report(band)
    assert notes.track is not None
    assert notes.track.tolist() == [1, 1]
    assert [(t.number, t.name, t.program, t.drum, t.notes) for t in report.tracks] == [
        (0, "Kit", 0, True, 2),
        (1, "Piano left", 0, False, 2),
        (2, "Solo", 40, False, 2),
    ]
    assert report.left_out == {"drums": 2, "tracks": 2}
    assert (report.notes, report.healthy, report.lost) == (2, True, 0)
    assert json.loads(json.dumps(report.to_json()))["tracks"][2]["name"] == "Solo"


@pytest.mark.parametrize(
    ("policy", "fix"),
    [
        (ReadPolicy(names=("Kit",)), r"track 0 \(Kit, drums\): 2 notes.*names=\(\) or drums=True"),
        (ReadPolicy(programs=(3,)), r"track 2 \(Solo, program 40\): 2 notes.*programs=\(\)"),
    ],
)
def test_the_error_without_notes_lists_the_tracks(
    band: pretty_midi.PrettyMIDI, policy: ReadPolicy, fix: str
) -> None:
    with pytest.raises(NoNotesError, match=fix):
        from_pretty_midi(band, policy)


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    data = (GOLDEN / "study.mid").read_bytes()
    path = tmp_path / "Étude №1.mid"
    path.write_bytes(data)
    sources = [str(path), path, data, bytearray(data), io.BytesIO(data)]
    sources.append(pretty_midi.PrettyMIDI(str(path)))
    reader = PrettyMidiReader()
    notes = [read_midi(source, reader=reader) for source in sources]
    assert all(other == notes[0] for other in notes)
    with path.open("rb") as file:
        assert read_midi_with_report(file)[1].source == str(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all.mid", "no such MIDI file"),
        ("a\0b.mid", "null"),
        ("a" * 300, r"File name too long .* Check the path"),
        (f"{__file__}/a.mid", "no such MIDI file"),
        (Path(__file__).parent, "a folder"),
        (io.StringIO("MThd"), "binary mode"),
        (3, "from int"),
    ],
)
def test_sources_that_cannot_be_opened_are_errors(source: object, message: str) -> None:
    with pytest.raises(MidiError, match=message) as caught:
        read_midi(source)
    assert "\n" not in str(caught.value)


def test_a_file_object_may_give_less_than_it_has() -> None:
    data = (GOLDEN / "study.mid").read_bytes()

    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(100)

    assert read_midi(Pipe(data)) == read_midi(data)


@pytest.mark.parametrize("data", [b"", b"not MIDI at all", b"MThd", b"MThd\0\0\0\6\0\1\0\1\0\0"])
def test_any_error_of_pretty_midi_is_a_midi_error(data: bytes) -> None:
    with pytest.raises(MidiError, match="pretty_midi cannot read the file"):
        read_midi(data, reader="pretty-midi")


@pytest.mark.parametrize(
    "policy",
    [
        ReadPolicy(overlaps="fifo"),
        ReadPolicy(overlaps="merge"),
        ReadPolicy(zero_length="keep"),
        ReadPolicy(velocity_zero="note"),
        ReadPolicy(on_error="skip"),
    ],
)
def test_unsupported_policies_are_rejected(policy: ReadPolicy) -> None:
    with pytest.raises(MidiError, match=r"does not support .* \(bytes\)"):
        read_midi((GOLDEN / "study.mid").read_bytes(), policy, reader="pretty-midi")


def test_invalid_notes_of_objects_are_repaired_and_reported() -> None:
    midi = pretty_midi.PrettyMIDI()
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [
        pretty_midi.Note(64, 60, -0.5, 1.0),
        pretty_midi.Note(64, 200, 0.0, 1.0),
        pretty_midi.Note(0, 61, 0.0, 1.0),
        pretty_midi.Note(64, 62, 2.0, 2.0),
        pretty_midi.Note(64, 63, 0.0, float("nan")),
        pretty_midi.Note(64, 64, 1e9, 1e9 + 1),
        pretty_midi.Note(64, 65, 3.0, 3.0),
        pretty_midi.Note(64, 66, 3.0, 1e6),
    ]
    midi.instruments[0].notes[3].end = 1.0
    notes, report = read_midi_with_report(midi)
    assert notes.pitch.tolist() == [60, 66]
    assert notes.start.tolist() == [0.0, 3.0]
    assert notes.end.tolist() == [1.0, 86400.0]
    assert [repair.rule for repair in report.repairs] == [
        "impossible-note",
        "negative-time",
        "absurd-time",
    ]
    assert (report.lost, report.left_out) == (5, {"zero_length": 1})
    assert len(from_pretty_midi(midi, ReadPolicy(zero_length="keep"))) == 3
    with pytest.raises(MidiError, match="impossible-note"):
        from_pretty_midi(midi, ReadPolicy(on_error="raise"))


def test_pedals_and_time_signatures_of_objects_may_be_in_any_order() -> None:
    midi = pretty_midi.PrettyMIDI()
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(64, 60, 0.0, 0.5)]
    change = pretty_midi.ControlChange
    midi.instruments[0].control_changes = [change(64, 0, 2.0), change(64, 127, 0.1)]
    signature = pretty_midi.TimeSignature
    midi.time_signature_changes = [signature(3, 4, 2.0), signature(4, 4, 0.0)]
    notes = from_pretty_midi(midi, ReadPolicy(pedal="extend"))
    assert notes.end.tolist() == [2.0]
    assert notes.tempo_map is not None
    assert notes.tempo_map.numerators.tolist() == [4, 3]


def test_to_pretty_midi_and_back_keeps_everything() -> None:
    notes = Notes(
        start=[0.0, 1 / 3, 7.0],
        end=[0.1, 2 / 3, 9.0],
        pitch=[60, 61, 36],
        velocity=[1, 127, 5],
        program=[0, 0, 0],
        drum=[False, False, True],
        track=[0, 0, 1],
        tempo_map=TempoMap(
            seconds=[0, 1.0],
            tempos=[100, 50],
            time_signature_beats=[0],
            numerators=[3],
            denominators=[8],
        ),
    )
    again = from_pretty_midi(to_pretty_midi(notes), ReadPolicy(tracks="all", drums=True))
    for name in ("start", "end", "pitch", "velocity", "program", "drum", "track"):
        np.testing.assert_array_equal(getattr(again, name), getattr(notes, name))
    assert again.tempo_map is not None
    np.testing.assert_allclose(again.tempo_map.tempos, [100, 50], rtol=1e-5)
    np.testing.assert_allclose(again.tempo_map.seconds, [0, 1], atol=1e-4)
    assert again.tempo_map.numerators.tolist() == [3]
    solo = to_pretty_midi(notes, program="Violin")
    assert [(i.program, i.is_drum, len(i.notes)) for i in solo.instruments] == [
        (40, False, 2),
        (0, True, 1),
    ]


def test_tempos_that_a_file_cannot_hold_are_not_changed() -> None:
    slow = Notes(start=[0.0], end=[1.0], pitch=[60], tempo_map=TempoMap(tempos=[2.0]))
    with pytest.raises(MidiError, match="cannot hold a tempo of 2 quarter notes"):
        to_pretty_midi(slow)


def test_files_written_by_pretty_midi_and_by_us_are_the_same_notes() -> None:
    notes = read_midi(GOLDEN / "study.mid")
    file = io.BytesIO()
    to_pretty_midi(notes).write(file)
    theirs, ours = read_midi(file.getvalue()), read_midi(midi_bytes(notes))
    np.testing.assert_allclose(theirs.start, ours.start, atol=2e-4)
    np.testing.assert_array_equal(theirs.pitch, ours.pitch)


def test_odd_but_valid_files_give_warnings_in_the_report(smf: Callable[..., bytes]) -> None:
    note = bytes([0, 0x90, 60, 64, 96, 0x80, 60, 0])
    data = smf(b"", b"\x00\xff\x51\x03\x07\xa1\x20" + note)
    policy = ReadPolicy(tempos="first")
    _, report = read_midi_with_report(data, policy, reader="pretty-midi")
    assert "non-zero tracks" in report.warnings[0]
    assert report.healthy


def test_notes_that_pretty_midi_leaves_out_are_in_the_report(smf: Callable[..., bytes]) -> None:
    on, off = bytes([0, 0x90, 60, 64]), bytes([96, 0x80, 60, 0])
    without_length = bytes([0, 0x90, 61, 64, 0, 0x80, 61, 0])
    data = smf(on + off + without_length + bytes([0, 0x90, 62, 64]))
    left_out = {"zero_length": 1, "hanging": 1}
    for reader in ("tolerant", "pretty-midi"):
        assert read_midi_with_report(data, reader=reader)[1].left_out == left_out
