"""Where the command line's music comes from: a folder, a file, or a named corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from notelstm.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    from notelstm.midi.policy import ReadPolicy
    from notelstm.notes import Notes
    from notelstm.protocols import CorpusSource

__all__ = ["open_source", "read_pieces"]


def open_source(where: str, policy: ReadPolicy) -> CorpusSource:
    """A folder or file if there is one of that name, otherwise the corpus plugin of that name.

    Raises:
        DataError: If there is neither.
    """
    from notelstm.data.folder import Folder
    from notelstm.plugins import find, installed

    if Path(where).exists():
        return Folder(path=where, policy=policy)
    try:
        corpus: CorpusSource = find("corpora", where).load()()
    except (PluginError, TypeError) as error:
        names = ", ".join(p.name for p in installed("corpora") if p.name != "folder")
        raise DataError(
            "music comes from a folder, a MIDI file or a named corpus",
            got=repr(where),
            fix=f"check the path, or use one of: {names}",
        ) from error
    return corpus


def read_pieces(source: CorpusSource, limit: int | None) -> list[tuple[str, Notes]]:
    """All pieces of a source, with a progress bar on a terminal.

    Raises:
        ConfigError: If the limit is below 1.
        DataError: If there is nothing to read.
    """
    if limit is not None and limit < 1:
        raise ConfigError("at least 1 file is read", got=f"{limit}")
    pieces = []
    for piece in tqdm(
        source.pieces(limit),
        desc="reading",
        unit="piece",
        total=limit,
        leave=False,
        disable=not sys.stderr.isatty(),
    ):
        pieces.append(piece)
    return pieces
