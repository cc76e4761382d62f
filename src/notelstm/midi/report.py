"""``ReadReport``: what reading a MIDI file found, mended and left out."""

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
"""How many repairs a report lists one by one; all of them are counted."""


@final
@dataclass(frozen=True, kw_only=True)
class Repair:
    """One thing that was broken.

    Attributes:
        rule: The kind of fault, ``"truncated-track"`` say.
        message: What was found and what was made of it.
        byte: Where in the file, from 0, or None where that is not known.
        chunk: In which track chunk of the file, from 0, or None where it is in none.
    """

    rule: str
    message: str
    byte: int | None = None
    chunk: int | None = None

    @property
    def place(self) -> str:
        """Where it was, in words; "" where that is not known."""
        chunk = [] if self.chunk is None else [f"track chunk {self.chunk}"]
        byte = [] if self.byte is None else [f"byte {self.byte}"]
        return ", ".join(chunk + byte)


@final
@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """One track of a file, read or not.

    Attributes:
        number: Its place among the file's tracks, from 0: what ``Notes.track`` refers to.
        name: Its name, or "".
        program: Its General MIDI program, 0 to 127.
        drum: Whether it is percussion.
        notes: How many notes it has.
        chunk: The track chunk that it is in, from 0, or None where the reader does not know.
        channel: Its MIDI channel, 0 to 15, or None where the reader does not know.
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
    """What reading one file found, mended and left out.

    Attributes:
        source: The file's path, or what else was read.
        reader: The reader that gave the notes.
        tracks: All tracks that have notes, read or not.
        notes: How many notes were given back.
        seconds: The last release, seconds from the start of the piece.
        left_out: Notes that the policy left out, by the setting that did it.
        repairs: What was broken, the first :data:`MAX_REPAIRS` of it.
        repairs_total: How much was broken.
        saved: Notes given back from damaged chunks, or all where the damage is outside of them.
        lost: Notes known to be lost to damage.
        warnings: What is odd but not broken.
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
    """Collects repairs while a file is read; under ``on_error="raise"`` the first one is an error.

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
        """Note what is odd but not broken.

        Args:
            message: What was found; only the first :data:`MAX_REPAIRS` are kept.
            logged: Whether to log it as well, since the notes would surprise without it.
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
        """Note a fault and what was made of it.

        Args:
            rule: The kind of fault.
            message: What was found and what was made of it.
            byte: Where in the file.
            chunk: In which track chunk; under ``on_error="skip"`` it is left out.
            lost: How many notes could not be saved.

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
                hint='read it with on_error="repair", which mends this and reports it',
            )
        self.total += 1
        self.lost += lost
        self.chunks.add(chunk)
        if len(self.repairs) < MAX_REPAIRS:
            self.repairs.append(Repair(rule=rule, message=message, byte=byte, chunk=chunk))
