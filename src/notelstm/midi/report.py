"""``ReadReport``: the tracks, repairs, losses and warnings of a MIDI file that was read."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from notelstm.errors import MidiError
from notelstm.midi.policy import OnError

__all__ = ["MAX_REPAIRS", "ReadReport", "Repair", "RepairLog", "TrackInfo"]

_LOG: Final = logging.getLogger(__name__)

MAX_REPAIRS: Final = 1000
"""The repairs that a report lists; all are counted."""


@final
@dataclass(frozen=True, kw_only=True)
class Repair:
    """One repaired fault.

    Attributes:
        rule: The kind of fault, for example ``"truncated-track"``.
        message: The fault and its repair.
        byte: The position in the file, from 0, or None where it is not known.
        chunk: The track chunk of the file, from 0, or None outside of them.
    """

    rule: str
    message: str
    byte: int | None = None
    chunk: int | None = None

    @property
    def place(self) -> str:
        """The position in words, "" where it is not known."""
        chunk = [] if self.chunk is None else [f"track chunk {self.chunk}"]
        byte = [] if self.byte is None else [f"byte {self.byte}"]
        return ", ".join(chunk + byte)


@final
@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """One track of a file, read or not.

    Attributes:
        number: Its number among the file's tracks, from 0, as in ``Notes.track``.
        name: Its name, or "".
        program: Its General MIDI program, 0 to 127.
        drum: Whether it is percussion.
        notes: Its number of notes.
        chunk: Its track chunk, from 0, or None if the reader does not give it.
        channel: Its MIDI channel, 0 to 15, or None if the reader does not give it.
    """

    number: int
    name: str = ""
    program: int = 0
    drum: bool = False
    notes: int = 0
    chunk: int | None = None
    channel: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """The outcome of reading one file.

    Attributes:
        source: The file's path, or another description of the source.
        reader: The name of the reader.
        tracks: All tracks that have notes, read or not.
        notes: The number of notes that were read.
        seconds: The last release, seconds from the start of the piece.
        left_out: The number of notes that the policy left out, by setting.
        repairs: The first :data:`MAX_REPAIRS` repairs.
        repairs_total: The number of repairs.
        saved: Notes read from damaged chunks, or all where the damage is outside of them.
        lost: Notes known to be lost to damage.
        warnings: Oddities that are no damage.
    """

    source: str
    reader: str
    tracks: tuple[TrackInfo, ...] = ()
    notes: int = 0
    seconds: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    repairs: tuple[Repair, ...] = ()
    repairs_total: int = 0
    saved: int = 0
    lost: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing had to be repaired."""
        return self.repairs_total == 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)


@final
class RepairLog:
    """Collects the repairs of a file; under ``on_error="raise"`` the first one is an error.

    Args:
        on_error: The policy's setting.
        where: The file, for messages.
    """

    def __init__(self, on_error: OnError, where: str) -> None:
        self.on_error = on_error
        self.where = where
        self.total: int = 0
        self.lost: int = 0
        self.repairs: list[Repair] = []
        self.chunks: set[int | None] = set()
        self.warnings: list[str] = []

    def warn(self, message: str, *, logged: bool = False) -> None:
        """Add a warning; only the first :data:`MAX_REPAIRS` are kept.

        Args:
            message: The oddity.
            logged: Whether to log it as well.
        """
        if len(self.warnings) < MAX_REPAIRS:
            self.warnings.append(message)
        if logged:
            _LOG.warning("%s: %s", self.where, message)

    def add(
        self,
        rule: str,
        message: str,
        *,
        byte: int | None = None,
        chunk: int | None = None,
        lost: int = 0,
    ) -> None:
        """Add a repair.

        Args:
            rule: The kind of fault.
            message: The fault and its repair.
            byte: The position in the file.
            chunk: The track chunk, which ``on_error="skip"`` leaves out.
            lost: The number of lost notes.

        Raises:
            MidiError: Under ``on_error="raise"``.
        """
        if self.on_error == "raise":
            place = [self.where]
            place += [] if chunk is None else [f"chunk {chunk}"]
            place += [] if byte is None else [f"byte {byte}"]
            raise MidiError(
                f"{rule}: {message}",
                where=", ".join(place),
                hint='read it with on_error="repair", which repairs and reports it',
            )
        self.total += 1
        self.lost += lost
        self.chunks.add(chunk)
        if len(self.repairs) < MAX_REPAIRS:
            self.repairs.append(Repair(rule=rule, message=message, byte=byte, chunk=chunk))
