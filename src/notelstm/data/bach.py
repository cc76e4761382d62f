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

from notelstm.data.cache import cached_pieces
from notelstm.data.musicxml import notes_of_score, open_score
from notelstm.errors import DataError, MissingExtraError
from notelstm.notes import Notes

__all__ = ["BachChorales"]

READING: Final = 1
"""The version of the notes that are made of the scores; notes of another one are not used."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class BachChorales:
    """Four-part chorales by J. S. Bach, out of the music21 package (extra ``bach``).

    The four voices become one piece. Tied notes are one note, grace notes are left out, repeats
    are played once. The tempo is the score's, or 96 quarter notes a minute; the velocity is 80.
    Where two voices meet on a pitch there is one note; where a voice enters on a pitch that
    another still holds, that note ends and a new one begins, as on a keyboard.

    The scores are read where the package lies, all of them the first time, which takes a few
    seconds; the notes are cached in :func:`~notelstm.data.cache.cache_folder`.

    Attributes:
        name: The name in files and on the command line.
        licence: The terms of use of the music.
        source: Where the music comes from.
        size: The amount of music.

    Example:
        >>> for name, notes in BachChorales().pieces(limit=2):
        ...     print(name, notes)
        bwv2.6 Notes(181 notes, 27.50 s, pitch 43 to 74)
        bwv3.6 Notes(163 notes, 20.00 s, pitch 45 to 74)
    """

    name: ClassVar[str] = "bach"
    license: ClassVar[str] = (
        "music in the public domain; encodings under the terms of music21's corpus/license.txt, "
        "some not for commercial use"
    )
    source: ClassVar[str] = "the installed music21 package"
    size: ClassVar[str] = "about 360 chorales, 3 hours; nothing to download"

    @property
    def edition(self) -> str:
        """The version of music21 and of the way it is read.

        Raises:
            MissingExtraError: If music21 is not installed.
        """
        _folder()
        return f"{READING}-music21-{version('music21')}"

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The chorales in the order of the catalogue (BWV).

        Args:
            limit: The largest number of pieces; None for all, about 360.

        Yields:
            The name, for example ``"bwv269"``, and the notes, sorted by start and pitch,
            with a beat map.

        Raises:
            MissingExtraError: If music21 is not installed.
            DataError: If its scores are missing or damaged.
        """
        folder = _folder()
        yield from islice(cached_pieces(f"bach-{self.edition}", lambda: _chorales(folder)), limit)


def _folder() -> Path:
    """Where music21 has the scores."""
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "music21, which brings the Bach chorales, is not installed",
            hint="run pip install 'notelstm[bach]'",
        )
    return Path(spec.origin).parent / "corpus" / "bach"


def _chorales(folder: Path) -> Iterator[tuple[str, Notes]]:
    """Read all chorales in a folder of scores."""
    found = sorted(folder.glob("bwv*.mxl"), key=_catalogue_number)
    if not found:
        raise DataError(
            "this music21 lacks its corpus of scores",
            where=str(folder),
            hint="run pip install --force-reinstall music21",
        )
    _log.info("reading %d scores, once; their notes are cached", len(found))
    for path in found:
        score = open_score(path)
        # The folder holds arias and whole cantata movements too: chorales are for four voices.
        if len(score.findall("part")) == len("SATB"):
            yield path.stem, notes_of_score(score, path.stem)


def _catalogue_number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.stem
