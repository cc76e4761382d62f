"""The output files of commands that write music."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from notelstm._version import __version__
from notelstm.errors import ConfigError
from notelstm.files import checked_suffix
from notelstm.listening.page import check_page_path
from notelstm.listening.pianoroll import check_picture_path
from notelstm.midi import write_midi
from notelstm.notes import Notes

__all__ = ["SEEDS", "check_music", "numbered", "write_music"]

SEEDS: Final = 10**9
"""Random seeds that are not given are below this number."""


def check_music(
    output: Path, picture: Path | None, html: Path | None, source: Path | None, name: str
) -> None:
    """Refuse unsuitable names of outputs, before any work is done.

    Args:
        output: The MIDI file.
        picture: The picture, or None.
        html: The page, or None.
        source: The file that is read, or None.
        name: Its name in messages, such as "the prompt".

    Raises:
        ConfigError: If a suffix is wrong, or the output is the file that is read.
    """
    hint = "write a .mid file, then convert it with notelstm render"
    checked_suffix(output, (".mid", ".midi", ".kar"), "MIDI", hint=hint)
    if source is not None and output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"the output is {name}, {source}", hint="name another output file")
    if html is not None:
        check_page_path(html)
    if picture is not None:
        check_picture_path(picture)


def numbered(path: Path, number: int, of: int) -> Path:
    """The path of one of several pieces."""
    return path if of == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def write_music(
    notes: Notes, path: Path, origin: Mapping[str, object], counts: str, ending: str = ""
) -> None:
    """Write a piece with its origin as a text event, and print its size.

    It is printed after the counts of notes, and before a text on the ending.
    """
    settings = ", ".join(f"{name} {value}" for name, value in origin.items())
    # A model may generate notes that MIDI cannot hold: they are changed and counted, not refused.
    write_midi(notes, path, short="lengthen", text=f"notelstm {__version__}: {settings}")
    print(f"wrote {path}: {counts}, {notes.end_time:.1f} s{ending}")
