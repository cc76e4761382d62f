"""``ReadPolicy``: the choices of reading a MIDI file.

A **track** is the notes of one program on one channel of one chunk of the file: what pretty_midi
calls an instrument. The defaults are pretty_midi's, except that percussion is left out, notes that
start together are ordered by pitch, and tempo changes count in every chunk.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args, get_origin, get_type_hints

from notelstm.errors import ConfigError

__all__ = [
    "Hanging",
    "OnError",
    "Overlaps",
    "Pedal",
    "ReadPolicy",
    "Silence",
    "SimultaneousOrder",
    "Tempos",
    "Tracks",
    "VelocityZero",
    "ZeroLength",
]

# The settings of :class:`ReadPolicy` that are a choice; it documents them.
Tracks: TypeAlias = Literal["first", "all", "first-instrument"]
"""The first track with notes; all tracks, merged; or the file's first instrument of any kind."""

SimultaneousOrder: TypeAlias = Literal["pitch", "file"]
"""Notes that start together are ordered by pitch, or as the file ends them."""

Overlaps: TypeAlias = Literal["close-all", "fifo", "merge"]
"""A note-off ends every open note of its pitch, or the oldest; or they are one long note."""

ZeroLength: TypeAlias = Literal["drop", "keep"]
"""A note that ends on the tick it starts on is left out, or kept."""

Hanging: TypeAlias = Literal["drop", "end"]
"""A note that never ends is left out, or ends with its chunk."""

VelocityZero: TypeAlias = Literal["note-off", "note"]
"""A note-on of velocity 0 is a note-off, as in the standard, or a note of velocity 1."""

Pedal: TypeAlias = Literal["ignore", "extend"]
"""The sustain pedal is ignored, or holds notes until it is released."""

Tempos: TypeAlias = Literal["all", "first"]
"""Tempo changes count in every chunk, as in players, or only in the first."""

Silence: TypeAlias = Literal["drop", "keep"]
"""A piece ends with its last note, or with its file, if that goes on in silence."""

OnError: TypeAlias = Literal["repair", "skip", "raise"]
"""A fault is repaired, its chunk is left out, or it is an error."""


@final
@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """How a MIDI file is read, where there is more than one way.

    Args:
        tracks: ``"first"`` reads the first track that has notes, ``"all"`` merges all tracks,
            ``"first-instrument"`` takes pretty_midi's ``instruments[0]``, percussion or not.
        programs: Read only tracks of these General MIDI programs, 0 to 127; empty for any.
        names: Read only tracks whose name matches one of these patterns (``"*piano*"``), in
            upper or lower case; empty for any.
        drums: Whether percussion is read: channel 10, and channels that GS, XG or GM2 messages
            make percussion.
        simultaneous_order: The order of notes that start together: ``"pitch"``, or ``"file"`` as
            the file ends them.
        overlaps: Several open notes of one pitch: ``"close-all"``: a note-off ends them all;
            ``"fifo"``: it ends the oldest; ``"merge"``: they are one note, from the first
            note-on to the last note-off.
        zero_length: ``"drop"`` or ``"keep"`` notes that end on the tick they start on.
        hanging: Notes without an end: ``"drop"`` them, or ``"end"`` them where their chunk ends.
            Where a chunk is truncated, they always end there.
        velocity_zero: What a note-on of velocity 0 is: a ``"note-off"``, or a ``"note"`` of
            velocity 1.
        pedal: ``"ignore"`` the sustain pedal, or ``"extend"`` each note that ends while it is
            down to its release, or to the next note of the same pitch.
        tempos: Where tempo and time signature changes count: in ``"all"`` chunks, as in players and
            editors, or in the ``"first"`` one only, as in pretty_midi; a file that has them in
            others too then gets a warning.
        silence: What follows the last note: ``"drop"`` it, or ``"keep"`` it, so that the length of
            the piece is that of the file if its last chunk ends later.
        max_seconds: Notes that start later are left out; the others, and silence that is kept, end
            here at the latest.
        on_error: ``"repair"`` repairs faults and lists them in the report, ``"skip"`` leaves out
            chunks with faults, ``"raise"`` stops at the first fault.

    Raises:
        ConfigError: If a setting cannot have the value it was given.

    Example:
        >>> ReadPolicy(tracks="all", programs=(0, 1)).programs
        (0, 1)
        >>> ReadPolicy(pedal="hold")
        Traceback (most recent call last):
        ...
        notelstm.errors.ConfigError: pedal cannot be 'hold'. Use one of 'ignore', 'extend'
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
    silence: Silence = "drop"
    max_seconds: float = 86400.0
    on_error: OnError = "repair"

    def __post_init__(self) -> None:
        """Check every value."""
        for name, choices in _choices().items():
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


@functools.cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The values of each setting that is a choice."""
    hints = get_type_hints(ReadPolicy)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _tuple_of(name: str, values: object, kind: type) -> tuple[object, ...]:
    """A tuple of `kind`, from any iterable of a settings file."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        items = tuple(values)
        if all(isinstance(item, kind) for item in items):
            return items
    items_are = {int: "whole numbers", str: "texts"}[kind]
    raise ConfigError(f"{name} cannot be {values!r}", hint=f"use a list of {items_are}")
