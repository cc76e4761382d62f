"""Where, after a fault, the bytes of a track make sense as events again."""

from __future__ import annotations

from typing import Final, final

__all__ = ["Budget", "Salvage", "data_bytes"]

_EVENTS: Final = 12
"""So many events without a fault make sense; or fewer, up to the end of the track."""

_FEW: Final = 3
_NEAR: Final = 64
_LONG_WAIT: Final = 2**21
_META_SIZES: Final = {0x00: 2, 0x20: 1, 0x21: 1, 0x2F: 0, 0x51: 3, 0x54: 5, 0x58: 4, 0x59: 2}


def data_bytes(status: int) -> int:
    """How many data bytes follow a status byte that is no sysex or meta event."""
    if status < 0xF0:
        return 1 if 0xC0 <= status < 0xE0 else 2
    return {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)


@final
class Salvage:
    """Looks for events in the bytes of one track.

    Args:
        data: The file.
        end: The byte after the track's last.
        cut: Whether the end of the track is missing.
        budget: How much searching this file may still cost.
    """

    def __init__(self, data: bytes, end: int, *, cut: bool, budget: Budget) -> None:
        self.data: bytes = data
        self.end: int = end
        self.cut: bool = cut
        self.budget: Budget = budget

    def resume(self, at: int, status: int) -> int | None:
        """The first byte from which the rest of the track makes sense.

        Args:
            at: The first byte to try.
            status: The running status, or 0 for none.

        Returns:
            The byte, or None if there is none or the budget is spent.
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
        """The first byte before `stop` after which every event gives its status.

        Args:
            at: The first byte to try.
            stop: The byte after the last one to try.
            status: The running status, or 0 for none.
        """
        for begin in range(at, min(stop, self.end)):
            trial = self._try(begin, status)
            if trial is None:
                return None
            if trial.plain:
                return begin
        return None

    def makes_sense(self, at: int, status: int) -> bool:
        """Whether events can be read from a byte on, and are music."""
        trial = self._try(at, status)
        return trial is not None and trial.believed

    def goes_on(self, at: int, status: int) -> bool:
        """Whether events can be read from a byte on, rather than from one a little before it."""
        if at == self.end:
            return True
        trial = self._try(at, status)
        if trial is None or not trial.faultless:
            return False
        return trial.plain or self.plain(at - _FEW, at + _FEW, status) is None

    def _phase(self, begin: int, status: int) -> int:
        """Without status bytes every phase of three can be read: where most notes end is right."""
        best, most = begin, 0
        for phase in range(begin, min(begin + 3, self.end)):
            trial = self._try(phase, status)
            if trial is not None and trial.believed and trial.matched > most:
                best, most = phase, trial.matched
        return best

    def _try(self, at: int, status: int) -> _Trial | None:
        """Read a few events from a byte on, if the budget allows."""
        if self.budget.tries <= 0:
            return None
        self.budget.tries -= 1
        return _Trial(self.data, at, self.end, status, cut=self.cut)


@final
class Budget:
    """How much searching a file may still cost, so that none takes for ever.

    Args:
        tries: How many bytes may be tried as the start of an event.
    """

    def __init__(self, tries: int = 200_000) -> None:
        self.tries = tries


@final
class _Trial:
    """A strict reading of a few events."""

    def __init__(self, data: bytes, at: int, end: int, status: int, *, cut: bool) -> None:
        self.data, self.at, self.end, self.status = data, at, end, status
        self.explicit = False
        self._cut = cut
        self._messages = 0
        self._running = 0
        self.matched = 0
        self._open: set[int] = set()
        self._finished = False
        self.faultless = self._run()

    @property
    def believed(self) -> bool:
        """Whether this is music: it starts with a status, or notes end that have begun."""
        enough = self.matched >= (1 if self._finished else 2)
        return self.faultless and (self.explicit or enough)

    @property
    def plain(self) -> bool:
        """Whether there are channel messages here and each gives its status."""
        return self.faultless and self._messages > 0 and not self._running

    def _run(self) -> bool:
        """Whether the next events, or all up to the end of the track, are without fault."""
        for n in range(_EVENTS):
            if self.at >= self.end:
                self._finished = True
                return n > 0
            try:
                if not self._event(n):
                    return False
            except IndexError:  # the file ends within an event
                return self._cut and n >= _FEW
            if self.at > self.end:
                return self._cut and n >= _FEW
            if self._finished:
                return True
        return True

    def _event(self, n: int) -> bool:
        """Whether the next event is without fault."""
        wait = self._variable()
        if wait is None or wait > _LONG_WAIT:
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
        """A variable-length quantity, or None if it does not end."""
        value = 0
        for at in range(self.at, self.at + 4):
            byte = self.data[at]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                self.at = at + 1
                return value
        return None

    def _channel(self, status: int) -> bool:
        """Whether a channel message has its data bytes; notes are matched with their ends."""
        self._messages += 1
        two = not 0xC0 <= status < 0xE0
        first, second = self.data[self.at], self.data[self.at + two]
        if first > 0x7F or second > 0x7F:
            return False
        self.at += 1 + two
        if status < 0xA0:
            key = (status & 0xF) << 7 | first
            if status >= 0x90 and second:
                self._open.add(key)
            elif key in self._open:
                self._open.discard(key)
                self.matched += 1
        return True
