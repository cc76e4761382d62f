"""MIDI files built by hand, byte by byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Smf = Callable[..., bytes]


def build_smf(
    *tracks: bytes, form: int = 1, count: int | None = None, division: int = 96, end: bool = True
) -> bytes:
    """A file of these track bodies; `count` lies about how many there are."""
    ending = b"\x00\xff\x2f\x00" if end else b""
    chunks = [b"MTrk" + len(t + ending).to_bytes(4, "big") + t + ending for t in tracks]
    header = (form, len(chunks) if count is None else count, division)
    return (
        b"MThd\x00\x00\x00\x06" + b"".join(n.to_bytes(2, "big") for n in header) + b"".join(chunks)
    )


@pytest.fixture(scope="session")
def smf() -> Smf:
    """Builds a file from track bodies; 96 ticks to a quarter note, so 0.5 s."""
    return build_smf
