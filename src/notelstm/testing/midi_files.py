"""Small MIDI files and their notes under different reading policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, final

from notelstm.notes import Notes, TempoMap

__all__ = ["FILES", "KnownFile", "Messages", "midi_bytes"]

Messages: TypeAlias = Sequence[tuple[int, bytes]]
"""A track chunk: (tick, message), ticks ascending."""

Columns: TypeAlias = tuple[tuple[float, float, int, int], ...]
"""Notes as (start s, end s, pitch, velocity)."""


def midi_bytes(*chunks: Messages, division: int = 480) -> bytes:
    """A standard MIDI file of type 1, with `division` ticks a quarter note.

    Source:
        The MIDI Manufacturers Association, "Standard MIDI Files 1.0".
    """
    header = b"MThd" + (6).to_bytes(4) + b"\0\1" + len(chunks).to_bytes(2) + division.to_bytes(2)
    return header + b"".join(_chunk(messages) for messages in chunks)


def _chunk(messages: Messages) -> bytes:
    body, now = b"", 0
    for tick, message in messages:
        body += _variable_length(tick - now) + message
        now = tick
    body += b"\0\xff\x2f\0"
    return b"MTrk" + len(body).to_bytes(4) + body


def _variable_length(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def _on(pitch: int, velocity: int, channel: int = 0) -> bytes:
    return bytes((0x90 | channel, pitch, velocity))


def _off(pitch: int, channel: int = 0) -> bytes:
    return bytes((0x80 | channel, pitch, 0))


def _tempo(microseconds: int) -> bytes:
    return b"\xff\x51\x03" + microseconds.to_bytes(3)


def _name(text: str) -> bytes:
    return b"\xff\x03" + bytes([len(text)]) + text.encode("ascii")


@final
@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file, settings of a :class:`~notelstm.midi.ReadPolicy`, and the notes that it reads.

    Attributes:
        name: Its name.
        data: The file.
        policy: The settings.
        columns: The notes.
        length: Seconds to the end of the piece, if it ends with silence.
        played: By pitch, the program, whether it is percussion, and the name of the track; of other
            pitches, program 0 of a track without a name.
        tempos: The second at which each tempo begins, and its quarter notes a minute.
    """

    name: str
    data: bytes
    policy: dict[str, Any] = field(default_factory=dict)
    columns: Columns
    length: float | None = None
    played: dict[int, tuple[int, bool, str]] = field(default_factory=dict)
    tempos: tuple[tuple[float, float], ...] = ((0.0, 120.0),)

    @property
    def notes(self) -> Notes:
        """The notes."""
        start, end, pitch, velocity = zip(*self.columns, strict=True)
        played = [self.played.get(one, (0, False, "")) for one in pitch]
        program, drum, names = zip(*played, strict=True)
        seconds, tempos = zip(*self.tempos, strict=True)
        tracks = sorted(set(names))
        return Notes(
            start=start,
            end=end,
            pitch=pitch,
            velocity=velocity,
            program=program,
            drum=drum,
            track=[tracks.index(name) for name in names],
            track_names=tracks,
            length=self.length,
            tempo_map=TempoMap(seconds=seconds, tempos=tempos),
        )


_BAND: Final = midi_bytes(
    [(0, _tempo(500_000)), (960, _tempo(250_000))],
    [
        (0, _name("Piano")),
        (0, b"\xc0\5"),
        (0, _on(64, 90)),
        (0, _on(60, 80)),
        (480, _off(64)),
        (480, _off(60)),
        (480, _on(60, 70)),
        (960, _off(60)),
        (960, _on(67, 1)),
        (1440, _off(67)),
    ],
    [(0, _name("Kit")), (0, _on(36, 100, 9)), (480, _off(36, 9))],
    [(0, _name("Violin")), (0, b"\xc1\x28"), (240, _on(72, 127, 1)), (480, _off(72, 1))],
)
_TWICE: Final = midi_bytes([(0, _on(60, 80)), (240, _on(60, 70)), (480, _off(60)), (960, _off(60))])
_EMPTY_NOTE: Final = midi_bytes(
    [(0, _on(60, 80)), (480, _off(60)), (480, _on(62, 70)), (480, _off(62))]
)
_SILENT: Final = midi_bytes([(0, _on(60, 80)), (480, _on(60, 0)), (960, _off(60))])
_PEDAL: Final = midi_bytes(
    [(0, _on(60, 80)), (240, b"\xb0\x40\x7f"), (480, _off(60)), (960, b"\xb0\x40\0")]
)
_PEDAL_ELSEWHERE: Final = midi_bytes(
    [(0, b"\xb0\x40\x7f"), (960, b"\xb0\x40\0")], [(0, _on(60, 80)), (480, _off(60))]
)
_PEDAL_AFTER: Final = midi_bytes(
    [(0, _on(60, 80)), (480, _off(60)), (480, b"\xb0\x40\x7f"), (960, b"\xb0\x40\0")]
)
_NOTES_OFF: Final = midi_bytes([(0, _on(60, 80)), (480, b"\xb0\x7b\0"), (960, _off(60))])
_DRUM_PART: Final = midi_bytes(
    [
        (0, b"\xf0\x0a\x41\x10\x42\x12\x40\x1a\x15\x01\x10\xf7"),
        (0, _on(36, 100, 10)),
        (480, _off(36, 10)),
        (480, _on(60, 80)),
        (960, _off(60)),
    ]
)
_SILENCE: Final = midi_bytes(
    [(0, _tempo(250_000)), (960, b"\xff\x01\0")],
    [(0, _on(60, 80)), (480, _off(60)), (1200, b"\xb0\x07\x40")],
)
_LATE_TEMPO: Final = midi_bytes([(0, _on(60, 80)), (960, _off(60))], [(480, _tempo(250_000))])

_PIANO: Final = ((0.0, 0.5, 60, 80), (0.0, 0.5, 64, 90), (0.5, 1.0, 60, 70), (1.0, 1.25, 67, 1))
_VIOLIN: Final = (0.25, 0.5, 72, 127)
_KIT: Final = (0.0, 0.5, 36, 100)


_PLAYED: Final = {
    **dict.fromkeys((60, 64, 67), (5, False, "Piano")),
    36: (0, True, "Kit"),
    72: (40, False, "Violin"),
}


def _band(*columns: tuple[float, float, int, int], **policy: Any) -> KnownFile:
    return replace(
        _known("band", _BAND, *columns, **policy),
        played=_PLAYED,
        tempos=((0.0, 120.0), (1.0, 240.0)),
    )


def _known(
    name: str, data: bytes, *columns: tuple[float, float, int, int], **policy: Any
) -> KnownFile:
    return KnownFile(name=name, data=data, policy=policy, columns=columns)


FILES: Final[tuple[KnownFile, ...]] = (
    _band(*_PIANO),
    _band(_PIANO[1], _PIANO[0], *_PIANO[2:], simultaneous_order="file"),
    _band(*_PIANO[:2], _VIOLIN, *_PIANO[2:], tracks="all"),
    _band(_KIT, *_PIANO[:2], _VIOLIN, *_PIANO[2:], tracks="all", drums=True),
    _band(_VIOLIN, programs=(40,)),
    _band(_VIOLIN, names=("vio*",)),
    _band(*_PIANO[:2], (0.5, 0.75, 60, 70), max_seconds=0.75),
    _band(*_PIANO, on_error="raise"),
    _band(*_PIANO, on_error="skip"),
    _known("pitch twice", _TWICE, (0.0, 0.5, 60, 80), (0.25, 0.5, 60, 70)),
    _known("pitch twice", _TWICE, (0.0, 0.5, 60, 80), (0.25, 1.0, 60, 70), overlaps="fifo"),
    _known("pitch twice", _TWICE, (0.0, 1.0, 60, 80), overlaps="merge"),
    _known("empty note", _EMPTY_NOTE, (0.0, 0.5, 60, 80)),
    _known("empty note", _EMPTY_NOTE, (0.0, 0.5, 60, 80), (0.5, 0.5, 62, 70), zero_length="keep"),
    _known("velocity 0", _SILENT, (0.0, 0.5, 60, 80)),
    _known("velocity 0", _SILENT, (0.0, 1.0, 60, 80), (0.5, 1.0, 60, 1), velocity_zero="note"),
    _known("pedal", _PEDAL, (0.0, 0.5, 60, 80)),
    _known("pedal", _PEDAL, (0.0, 1.0, 60, 80), pedal="extend"),
    replace(
        _known("late tempo", _LATE_TEMPO, (0.0, 0.75, 60, 80), tempos="all"),
        tempos=((0.0, 120.0), (0.5, 240.0)),
    ),
    _known("late tempo", _LATE_TEMPO, (0.0, 1.0, 60, 80), tempos="first"),
    _known("pedal elsewhere", _PEDAL_ELSEWHERE, (0.0, 1.0, 60, 80), pedal="extend"),
    _known("pedal after", _PEDAL_AFTER, (0.0, 0.5, 60, 80), pedal="extend"),
    _known("all notes off", _NOTES_OFF, (0.0, 0.5, 60, 80), tracks="all"),
    replace(_known("silence", _SILENCE, (0.0, 0.25, 60, 80)), tempos=((0.0, 240.0),)),
    KnownFile(
        name="silence",
        data=_SILENCE,
        policy={"silence": "keep"},
        columns=((0.0, 0.25, 60, 80),),
        length=0.625,
        tempos=((0.0, 240.0),),
    ),
    _known("drum part", _DRUM_PART, (0.5, 1.0, 60, 80), drums=False),
)
"""One file for each choice of the policy; where several share a file, the default comes first."""
