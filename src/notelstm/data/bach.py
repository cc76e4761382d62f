"""``BachChorales``: real music without a download, from the music21 package."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final, final

from notelstm.data.cache import kept
from notelstm.data.musicxml import notes_of_score, open_score
from notelstm.errors import DataError, MissingExtraError
from notelstm.notes import Notes

__all__ = ["BachChorales"]

READING: Final = 1
"""The version of the notes that are made of the scores: what is kept of another is not used."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class BachChorales:
    """Four-part chorales by J. S. Bach, out of the music21 package (extra ``bach``).

    The four voices become one piece. Tied notes are one note, grace notes are left out, repeats
    are played once. The tempo is the score's, or 96 quarter notes a minute; the velocity is 80.
    Where two voices meet on a pitch it is struck once; where a voice enters on a pitch that
    another still holds, it is let go and struck again, as on a keyboard.

    The scores are read where the package lies, all of them the first time, which takes a few
    seconds; the notes are kept in :func:`~notelstm.data.cache.cache_folder`.

    Attributes:
        name: What files and the command line call the corpus.
        licence: What one may do with the music.
        source: Where the music comes from.
        size: How much music it is.

    Example:
        >>> for name, notes in BachChorales().pieces(limit=2):
        ...     print(name, notes)
        bwv2.6 Notes(181 notes, 27.50 s, pitch 43 to 74)
        bwv3.6 Notes(163 notes, 20.00 s, pitch 45 to 74)
    """

    name: ClassVar[str] = "bach"
    licence: ClassVar[str] = (
        "music in the public domain; encodings under the terms of music21's corpus/license.txt, "
        "some not for commercial use"
    )
    source: ClassVar[str] = "the installed music21 package"
    size: ClassVar[str] = "about 360 chorales, 3 hours; nothing to download"

    @property
    def edition(self) -> str:
        """What tells these notes from those of another music21 or another way of reading it.

        Raises:
            MissingExtraError: If music21 is not installed.
        """
        _folder()
        return f"{READING}-music21-{version('music21')}"

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The chorales in the order of the catalogue (BWV).

        Args:
            limit: How many at most; None for all, about 360.

        Yields:
            The name, ``"bwv269"`` say, and the notes, sorted by start and pitch, with a beat map.

        Raises:
            MissingExtraError: If music21 is not installed.
            DataError: If its scores are missing or damaged.
        """
        folder = _folder()
        yield from islice(kept(f"bach-{self.edition}", lambda: _chorales(folder)), limit)


def _folder() -> Path:
    """Where music21 has the scores."""
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "the Bach chorales come with the music21 package",
            got="no such package",
            hint="run pip install 'notelstm[bach]'",
        )
    return Path(spec.origin).parent / "corpus" / "bach"


def _chorales(folder: Path) -> Iterator[tuple[str, Notes]]:
    """Read all chorales in a folder of scores."""
    found = sorted(folder.glob("bwv*.mxl"), key=_catalogue_number)
    if not found:
        raise DataError(
            "music21 brings its corpus of scores",
            got="a music21 without it",
            where=str(folder),
            hint="run pip install --force-reinstall music21",
        )
    _log.info("reading %d scores once; what they hold is kept", len(found))
    for path in found:
        score = open_score(path)
        # The folder holds arias and whole cantata movements too: chorales are for four voices.
        if len(score.findall("part")) == len("SATB"):
            yield path.stem, notes_of_score(score, path.stem)


def _catalogue_number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.stem
