"""``ReadPolicy``: every choice that reading a MIDI file takes, by name.

A **track** is the notes of one program on one channel of one chunk of the file: what pretty_midi
calls an instrument. The defaults are pretty_midi's, except that percussion is left out, that notes
which start together are ordered by pitch, and that tempo changes count in every chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final, get_args

from notelstm.errors import ConfigError

__all__ = [
    "Hanging",
    "OnError",
    "Overlaps",
    "Pedal",
    "ReadPolicy",
    "Tempos",
    "SimultaneousOrder",
    "Tracks",
    "VelocityZero",
    "ZeroLength",
]

Tracks: TypeAlias = Literal["first", "all", "instrument-0"]
"""The first track that has notes; all of them, merged; the file's first instrument, whatever."""

SimultaneousOrder: TypeAlias = Literal["pitch", "file"]
"""Notes that start together go by pitch, or in the order in which the file ends them."""

Overlaps: TypeAlias = Literal["close-all", "fifo", "merge"]
"""A note-off ends every open note of its pitch; the oldest one; or they are one long note."""

ZeroLength: TypeAlias = Literal["drop", "keep"]
"""A note that ends on the tick it starts on is left out, or kept."""

Hanging: TypeAlias = Literal["drop", "end"]
"""A note that never ends is left out, or ends with its chunk."""

VelocityZero: TypeAlias = Literal["note-off", "note"]
"""A note-on of velocity 0 is a note-off, as the standard has it, or a note of velocity 1."""

Pedal: TypeAlias = Literal["ignore", "extend"]
"""The sustain pedal changes nothing, or it holds notes until it is released."""

Tempos: TypeAlias = Literal["all", "first"]
"""Tempo changes count in every chunk, as in players, or in the first chunk only."""

OnError: TypeAlias = Literal["repair", "skip", "raise"]
"""What is broken is mended, its chunk is left out, or it is an error."""

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "tracks": get_args(Tracks),
    "ties": get_args(SimultaneousOrder),
    "overlaps": get_args(Overlaps),
    "zero_length": get_args(ZeroLength),
    "hanging": get_args(Hanging),
    "velocity_zero": get_args(VelocityZero),
    "pedal": get_args(Pedal),
    "tempos": get_args(Tempos),
    "on_error": get_args(OnError),
}


@final
@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """How to turn a MIDI file into notes, where there is more than one way.

    Args:
        tracks: ``"first"`` reads the first track that has notes, ``"all"`` merges all tracks,
            ``"instrument-0"`` takes pretty_midi's ``instruments[0]``, percussion or not.
        programs: Read only tracks of these General MIDI programs, 0 to 127; empty for any.
        names: Read only tracks whose name matches one of these patterns (``"*piano*"``), in
            upper or lower case; empty for any.
        drums: Whether percussion is read: channel 10, and channels that GS, XG or GM2 messages
            make percussion.
        ties: Notes that start together: ``"pitch"`` orders them by pitch, ``"file"`` as the file
            ends them.
        overlaps: Several open notes of one pitch: ``"close-all"``: a note-off ends them all;
            ``"fifo"``: it ends the oldest; ``"merge"``: they are one note, from the first
            note-on to the last note-off.
        zero_length: ``"drop"`` or ``"keep"`` notes that end on the tick they start on.
        hanging: Notes that nothing ends: ``"drop"`` them, or ``"end"`` them where their chunk
            ends. Where a chunk was cut off, they always end at the cut.
        velocity_zero: What a note-on of velocity 0 is: a ``"note-off"``, or a ``"note"`` of
            velocity 1.
        pedal: ``"ignore"`` the sustain pedal, or ``"extend"`` each note that ends while it is
            down to its release, or to the next note of the same pitch.
        tempos: Where tempo and metre changes count: in ``"all"`` chunks, as in players and
            editors, or in the ``"first"`` one only, as in pretty_midi; a file that has them in
            others too then gets a warning.
        max_seconds: Notes that start later are absurd and are left out; later ends are cut here.
        on_error: ``"repair"`` mends what is broken and says so in the report, ``"skip"`` leaves
            out the chunks in which something is broken, ``"raise"`` stops at the first fault.

    Raises:
        ConfigError: If a setting cannot have the value it was given.

    Example:
        >>> ReadPolicy(tracks="all", programs=(0, 1)).programs
        (0, 1)
        >>> ReadPolicy(ties="random")
        Traceback (most recent call last):
        ...
        notelstm.errors.ConfigError: ties cannot be 'random'. Use one of 'pitch', 'file'
    """

    tracks: Tracks = "first"
    programs: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    drums: bool = False
    simultaneous_order: SimultaneousOrder = "pitch"
    overlaps: Overlaps = "close-all"
    zero_length: ZeroLength = "drop"
    hanging: Hanging = "drop"
    velocity_zero: VelocityZero = "note-off"
    pedal: Pedal = "ignore"
    tempos: Tempos = "all"
    max_seconds: float = 86400.0
    on_error: OnError = "repair"

    def __post_init__(self) -> None:
        """Check every value."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                wanted = ", ".join(repr(choice) for choice in choices)
                raise ConfigError(f"{name} cannot be {value!r}", hint=f"use one of {wanted}")
        object.__setattr__(self, "programs", _tuple_of("programs", self.programs, int))
        object.__setattr__(self, "names", _tuple_of("names", self.names, str))
        if any(isinstance(p, bool) or not 0 <= p <= 127 for p in self.programs):
            raise ConfigError(
                f"programs cannot be {self.programs!r}",
                hint="use General MIDI program numbers from 0 to 127",
            )
        if not isinstance(self.drums, bool):
            raise ConfigError(f"drums cannot be {self.drums!r}", hint="use true or false")
        seconds = self.max_seconds
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not (number and math.isfinite(seconds) and seconds > 0):
            raise ConfigError(
                f"max_seconds cannot be {seconds!r}", hint="use a finite number above 0"
            )


def _tuple_of(name: str, values: object, kind: type) -> tuple[object, ...]:
    """A tuple of `kind`, from any list-like of it that a settings file gave."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        items = tuple(values)
        if all(isinstance(item, kind) for item in items):
            return items
    items_are = {int: "whole numbers", str: "texts"}[kind]
    raise ConfigError(f"{name} cannot be {values!r}", hint=f"use a list of {items_are}")
