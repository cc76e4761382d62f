"""``Limits``: what one server and one connection may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from notelstm.sampling.masking import check_number, check_whole

__all__ = ["Limits"]


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server, of each session, and of each connection.

    Attributes:
        sessions: The most sessions at a time, 1 to 10,000. A session is counted from its first
            message until it has ended or its connection has been lost for `resume_seconds`.
        resume_seconds: Seconds for which a session waits for its client to connect again.
        message_bytes: The longest message, UTF-8 bytes.
        messages_per_second: Messages of a connection beyond this rate, in bursts of twice as many,
            are refused.
        file_bytes: The largest MIDI file.
        requests: The most files of a session that are read or rendered at a time.
        takes: The most takes of a session; the oldest one that is not kept makes room.
        notes: The most notes of a piece or a take; the oldest ones make room.
        fill_seconds: The longest span that is filled.
        sound_seconds: The longest take, with its prompt, of which there is a sound file. Each
            second takes a megabyte of memory while it is rendered.
        send_seconds: Seconds after which a client that does not read is disconnected.

    Raises:
        ConfigError: If a limit is out of range.
    """

    sessions: int = 32
    resume_seconds: float = 60.0
    message_bytes: int = 65_536
    messages_per_second: float = 200.0
    file_bytes: int = 2**21
    requests: int = 4
    takes: int = 24
    notes: int = 4096
    fill_seconds: float = 60.0
    sound_seconds: float = 900.0
    send_seconds: float = 20.0

    def __post_init__(self) -> None:
        """Check the limits."""
        check_whole("sessions", self.sessions, 1, 10_000)
        check_number("resume_seconds", self.resume_seconds, 0, 86_400)
        check_whole("message_bytes", self.message_bytes, 1024, 2**24)
        check_number("messages_per_second", self.messages_per_second, 1, 1e6)
        check_whole("file_bytes", self.file_bytes, 0, 2**25)
        check_whole("requests", self.requests, 1, 1000)
        check_whole("takes", self.takes, 1, 1000)
        check_whole("notes", self.notes, 256, 2**20)
        check_number("fill_seconds", self.fill_seconds, 0.1, 3600)
        check_number("sound_seconds", self.sound_seconds, 1, 14_400)
        check_number("send_seconds", self.send_seconds, 0.1, 3600)
