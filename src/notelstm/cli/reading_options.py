"""The options for reading MIDI files, and the line on the notes that they leave out."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, final, get_args

import numpy as np

from notelstm.cli.options import Flag, shown
from notelstm.data.corpus import CorpusReport
from notelstm.errors import ConfigError, counted
from notelstm.midi import ReadPolicy, ReadReport
from notelstm.midi.policy import (
    Hanging,
    OnError,
    Overlaps,
    Pedal,
    Silence,
    SimultaneousOrder,
    Tempos,
    Tracks,
    VelocityZero,
    ZeroLength,
)
from notelstm.midi.report import TrackInfo
from notelstm.notes import Notes

__all__ = ["Reading", "for_command_line", "left_out_of_corpus", "left_out_of_file"]


def _choice(kind: Any) -> Any:
    """The option of a literal type, with its values in the help."""
    return shown("|".join(get_args(kind)))


_READ_BY: Final[Mapping[str, tuple[str, str]]] = {
    "tracks": ("of other tracks", "--tracks all"),
    "drums": ("of drums", "--drums"),
    "programs": ("of other programs", "an empty --programs"),
    "names": ("of tracks with other names", "an empty --names"),
    "zero_length": ("without length", "--zero-length keep"),
    "hanging": ("that never end", "--hanging end"),
    "on_error": ("in damaged chunks", "--on-error repair"),
}
"""By setting of the policy, the notes that it leaves out, and the option that reads them."""

_SHOWN: Final = 8
"""The number of tracks that the line names."""


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How MIDI files are read: each option that is given replaces a setting of the policy.

    Attributes:
        tracks: Which tracks are read: the first one with notes, all of them merged, or the first
            instrument of the file, drums or not.
        programs: Read only tracks of these General MIDI programs, 0 to 127; any if none is given.
        names: Read only tracks whose names match one of these patterns, such as "*piano*"; any if
            none is given.
        drums: Read drums.
        no_drums: Leave drums out.
        pedal: Ignore the sustain pedal, or extend the notes that it holds.
        tempos: Read tempo changes and time signatures in every chunk of the file, or only in the
            first.
        simultaneous_order: The order of notes that start together: by pitch, or by their ends in
            the file.
        overlaps: Several open notes of one pitch: a note-off ends all of them or the oldest
            (fifo), or they are merged into one.
        zero_length: Drop or keep notes that end when they start.
        hanging: Drop notes that never end, or end them with their chunk.
        velocity_zero: A note-on of velocity 0 is a note-off, or a note.
        silence: Drop the silence after the last note, or keep it until the file ends.
        max_seconds: Leave out notes that start later than this.
        on_error: Repair damaged files, skip damaged chunks, or refuse damaged files (raise).
    """

    tracks: Annotated[Tracks | None, _choice(Tracks)] = None
    programs: Annotated[tuple[int, ...] | None, shown("[N ...]")] = None
    names: Annotated[tuple[str, ...] | None, shown("[PATTERN ...]")] = None
    drums: Flag = False
    no_drums: Flag = False
    pedal: Annotated[Pedal | None, _choice(Pedal)] = None
    tempos: Annotated[Tempos | None, _choice(Tempos)] = None
    simultaneous_order: Annotated[SimultaneousOrder | None, _choice(SimultaneousOrder)] = None
    overlaps: Annotated[Overlaps | None, _choice(Overlaps)] = None
    zero_length: Annotated[ZeroLength | None, _choice(ZeroLength)] = None
    hanging: Annotated[Hanging | None, _choice(Hanging)] = None
    velocity_zero: Annotated[VelocityZero | None, _choice(VelocityZero)] = None
    silence: Annotated[Silence | None, _choice(Silence)] = None
    max_seconds: Annotated[float | None, shown("S")] = None
    on_error: Annotated[OnError | None, _choice(OnError)] = None

    def policy(self, base: ReadPolicy) -> ReadPolicy:
        """The policy of the command or bundle, with the given options in place of its settings.

        Raises:
            ConfigError: If options contradict each other, or a value is out of range.
        """
        if self.drums and self.no_drums:
            raise ConfigError("--drums and --no-drums contradict each other", hint="give one")
        given: dict[str, Any] = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value is not None and name not in ("drums", "no_drums")
        }
        if self.drums or self.no_drums:
            given["drums"] = self.drums
        return dataclasses.replace(base, **given)


_PYTHON: Final[Mapping[str, str]] = {
    ", or pass the part itself when you load": "",
    "add the callback TimeBudget(minutes=...)": "give --minutes",
    "or add DivergenceGuard()": "or give --callback divergence-guard",
    "Give a validation set": "Give --validation",
    "Use the recipe of bundle.recipe()": "Leave out the settings of the model and the encoder",
    "num_notes ": "--notes ",
    "device='auto' or 'cpu'": "training.device=auto or training.device=cpu",
    "Use vary or infill": "Give --gap START END or --vary START END",
    "Name the parts to write anew": "Give --parts, the names of those to write anew",
    "Write the parts with generate()": "Write them with notelstm generate",
    "Give its entry to the session's next()": "Leave it out",
    "infill, accompany and vary are given notes": "the notes of the MIDI file are given",
    "build a NoteLSTM, which takes any fields": "train with --recipe expressive",
}
"""Words of messages that only Python users can follow, and what the command line offers."""


def for_command_line(message: str) -> str:
    """A message of the library with options of the command line in place of settings.

    Example:
        >>> for_command_line('Read it with zero_length="keep" or drums=True')
        'Read it with --zero-length keep or --drums'
    """
    for python, option in _PYTHON.items():
        message = message.replace(python, option)
    message = re.sub(
        r"(?i)pass the \w+: load\(path, \w+=\.\.\.\)", "Install the package that has it", message
    )
    message = re.sub(r"\bdrums=True\b", "--drums", message)
    message = re.sub(r"\bdrums=False\b", "--no-drums", message)
    message = re.sub(r"\b(programs|names)=\(\)", r"an empty --\1", message)
    settings = "|".join(field.name for field in dataclasses.fields(Reading))
    return re.sub(
        rf"\b({settings})=[\"']([\w-]+)[\"']",
        lambda match: f"--{match[1].replace('_', '-')} {match[2]}",
        message,
    )


def left_out_of_file(notes: Notes, report: ReadReport) -> str:
    """A line on the tracks and notes of a file that the policy left out; "" if there are none."""
    read = set() if notes.track is None else set(np.unique(notes.track).tolist())
    unread = [track for track in report.tracks if track.number not in read]
    parts = []
    for setting, count in report.left_out.items():
        drums = [t for t in unread if t.drum] if "drums" in report.left_out else []
        tracks = drums if setting == "drums" else [t for t in unread if t not in drums]
        # If several settings leave out tracks, the report does not tell them apart.
        known = sum(track.notes for track in tracks) == count
        parts.append(_part(setting, count, _named(tracks) if known else ""))
    return _line(sum(report.left_out.values()), parts)


def left_out_of_corpus(report: CorpusReport) -> str:
    """A line on the notes of a corpus that the policy left out; "" if there are none."""
    notes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for file in report:
        notes.update(file.left_out)
        files.update(file.left_out.keys())
    parts = [
        _part(setting, count, f"in {counted(files[setting], 'file')}")
        for setting, count in notes.items()
    ]
    return _line(sum(notes.values()), parts)


def _named(tracks: Sequence[TrackInfo]) -> str:
    """Tracks by number and name, with their notes."""
    named = [
        f"track {t.number}{f' {t.name!r}' if t.name else ''}: {counted(t.notes, 'note')}"
        for t in tracks[:_SHOWN]
    ]
    more = len(tracks) - _SHOWN
    return ", ".join([*named, f"{more} more"] if more > 0 else named)


def _part(setting: str, count: int, where: str = "") -> str:
    what, option = _READ_BY.get(setting, (f"by {setting}", f"--{setting.replace('_', '-')}"))
    place = f" ({where})" if where else ""
    return f"{count:,} {what}{place}, read with {option}"


def _line(total: int, parts: Sequence[str]) -> str:
    return f"left out: {counted(total, 'note')}: {'; '.join(parts)}" if parts else ""
