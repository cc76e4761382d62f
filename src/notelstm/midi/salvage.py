"""The search, after a fault, for the byte from which a track can be parsed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

__all__ = ["Budget", "Salvage"]

_EVENTS: Final = 12
"""The events that are parsed in a trial, or fewer up to the end of the track."""

_FEW: Final = 3
_NEAR: Final = 64
_WINDOW: Final = 24
"""The events that are parsed to compare two ways of parsing the same bytes."""
_CLEARLY: Final = 8
"""The difference of the scores of two trials from which one replaces the other."""
_META_SIZES: Final = {0x00: 2, 0x20: 1, 0x21: 1, 0x2F: 0, 0x51: 3, 0x54: 5, 0x58: 4, 0x59: 2}


@final
@dataclass
class Budget:
    """The limit of the search in a file.

    Attributes:
        longest_wait: The longest plausible wait between two events, ticks.
        tries: The number of bytes that may be tried as the start of an event.
    """

    longest_wait: float = 2.0**21
    tries: int = 200_000


@final
@dataclass
class Salvage:
    """Searches the bytes of one track for events.

    Attributes:
        data: The file.
        end: The byte after the track's last.
        cut: Whether the end of the track is missing.
        budget: The limit of the search.
    """

    data: bytes
    end: int
    cut: bool
    budget: Budget

    def resume(self, at: int, status: int) -> int | None:
        """The first byte from `at` on from which the bytes are music.

        None if there is none or the budget is spent. `status` is the running status, or 0.
        """
        near = self.plain(at, at + _NEAR, status)
        if near is not None:
            return near
        for begin in range(at, self.end):
            trial = self._try(begin, status)
            if trial is None:
                return None
            if trial.explicit and trial.believed:
                return begin
            if trial.believed:
                return self._phase(begin, status)
        return None

    def plain(self, at: int, stop: int, status: int) -> int | None:
        """The first byte from `at` to before `stop` from which every event has its own status."""
        for begin in range(at, min(stop, self.end)):
            trial = self._try(begin, status)
            if trial is None:
                return None
            if trial.plain:
                return begin
        return None

    def makes_sense(self, at: int, status: int) -> bool:
        """Whether the bytes from `at` on are events, and music."""
        trial = self._try(at, status)
        return trial is not None and trial.believed

    def parses_from(self, at: int, status: int) -> bool:
        """Whether the bytes from `at` on, rather than from a little before, are events.

        Values over 127 are allowed, since there is seldom one alone.
        """
        if at == self.end:
            return True
        trial = self._try(at, status, lenient=True)
        if trial is None or not trial.faultless:
            return False
        if trial.plain:
            return True
        return (
            trial.bad <= 1 + 2 * trial.matched and self.plain(at - _FEW, at + _FEW, status) is None
        )

    def better_without(self, begin: int, at: int, status: int) -> bool:
        """Whether the bytes from `begin` on are music only without the two bytes at `at`."""
        stop = min(at + 2 + 16 * _WINDOW, self.end)
        shorter = self.data[begin:at] + self.data[at + 2 : stop]
        cut = self.cut or stop < self.end
        there = self._try(begin, status, events=_WINDOW)
        gone = Salvage(shorter, len(shorter), cut, self.budget)._try(0, status, events=_WINDOW)
        return there is not None and gone is not None and gone.replaces(there, _CLEARLY)

    def other_reading(self, begin: int, status: int) -> int | None:
        """The byte after `begin` from which the bytes are clearly more like music, or None."""
        now = self._try(begin, status, events=_WINDOW + _CLEARLY)
        best, place = now, None
        for at in range(begin + 1, min(begin + 2 * _CLEARLY, self.end)):
            trial = self._try(at, status, events=_WINDOW)
            if now is None or best is None or trial is None:
                return None
            if trial.replaces(now, _CLEARLY + _FEW) and trial.score > best.score:
                best, place = trial, at
        return place

    def _phase(self, begin: int, status: int) -> int:
        """The offset at which most notes end: without status bytes, any of three can be parsed."""
        best, most = begin, 0
        for phase in range(begin, min(begin + 3, self.end)):
            trial = self._try(phase, status)
            if trial is not None and trial.believed and trial.matched > most:
                best, most = phase, trial.matched
        return best

    def _try(
        self, at: int, status: int, *, events: int = _EVENTS, lenient: bool = False
    ) -> _Trial | None:
        """Parse a few events from byte `at` on; None if the budget is spent."""
        if self.budget.tries <= 0:
            return None
        self.budget.tries -= 1
        return _Trial(self, at, status, events=events, lenient=lenient)


@final
class _Trial:
    """A few events, parsed up to the first fault.

    Attributes:
        faultless: Whether there was none.
        explicit: Whether the first event has its own status.
        matched: Note-offs of notes that started in the trial.
        bad: Messages with values over 127, which a lenient trial allows.
    """

    def __init__(self, track: Salvage, at: int, status: int, *, events: int, lenient: bool) -> None:
        self.data, self.at, self.end, self.status = track.data, at, track.end, status
        self.explicit = False
        self.matched = self.bad = 0
        self._longest_wait = track.budget.longest_wait
        self._lenient = lenient
        self._messages = self._running = self._strays = 0
        self._open: set[int] = set()
        self._finished = False
        self.faultless = self._run(events, track.cut)

    @property
    def score(self) -> int:
        """The likeness to music: note-offs with their notes, and events with their own status."""
        return self.matched - self._strays + self._messages - self._running

    def replaces(self, other: _Trial, margin: int) -> bool:
        """Whether this is clearly better than another trial of about the same bytes."""
        least = margin if other.faultless else 1
        return self.faultless and self.score >= other.score + least

    @property
    def believed(self) -> bool:
        """Whether this is music: it starts with a status, or note-offs have their notes."""
        enough = self.matched >= (1 if self._finished else 2)
        return self.faultless and (self.explicit or enough)

    @property
    def plain(self) -> bool:
        """Whether there are channel messages, each with its own status."""
        return self.faultless and self._messages > 0 and not self._running

    def _run(self, events: int, cut: bool) -> bool:
        """Whether the next events, or all up to the end of the track, have no fault."""
        for n in range(events):
            if self.at >= self.end:
                self._finished = True
                return n > 0
            try:
                if not self._event(n):
                    return False
            except IndexError:  # the file ends within an event
                return cut and n >= _FEW
            if self.at > self.end:
                return cut and n >= _FEW
            if self._finished:
                return True
        return True

    def _event(self, n: int) -> bool:
        """Whether the next event has no fault."""
        wait = self._variable()
        if wait is None or wait > self._longest_wait:
            return False
        status = self.data[self.at]
        if status >= 0x80:
            self.at += 1
            self.explicit |= n == 0
        else:
            status = self.status
            self._running += 1
        if 0x80 <= status < 0xF0:
            self.status = status
            return self._channel(status)
        if status == 0xFF:
            kind = self.data[self.at]
            self.at += 1
            size = self._variable()
            if kind > 0x7F or size is None or _META_SIZES.get(kind, size) != size:
                return False
            self._finished = kind == 0x2F
        elif status in {0xF0, 0xF7}:
            size = self._variable()
        else:
            return False
        if size is None or self.at + size > self.end:
            return False
        self.at += size
        return True

    def _variable(self) -> int | None:
        """A variable-length quantity, or None if it has no end."""
        value = 0
        for at in range(self.at, self.at + 4):
            byte = self.data[at]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                self.at = at + 1
                return value
        return None

    def _channel(self, status: int) -> bool:
        """Whether a channel message has its data bytes; note-offs are matched with notes."""
        self._messages += 1
        two = not 0xC0 <= status < 0xE0
        first, second = self.data[self.at], self.data[self.at + two]
        if first > 0x7F or second > 0x7F:
            if not self._lenient:
                return False
            self.bad += 1
        self.at += 1 + two
        if status < 0xA0:
            key = (status & 0xF) << 7 | first
            if status >= 0x90 and second:
                self._open.add(key)
            elif key in self._open:
                self._open.discard(key)
                self.matched += 1
            else:
                self._strays += 1
        return True
