"""``BachChorales``: real music without a download, from the music21 package."""

from __future__ import annotations

import importlib.util
import logging
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from typing import ClassVar, Final, final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from notelstm.data.cache import cached_pieces
from notelstm.errors import DataError, MissingExtraError
from notelstm.midi.policy import ReadPolicy
from notelstm.notes import Notes, TempoMap

__all__ = ["BachChorales", "notes_of_score", "open_score"]

READING: Final = 1
"""The version of the conversion of scores; cached notes of another version are not used."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class BachChorales:
    """Four-part chorales by J. S. Bach, out of the music21 package (extra ``bach``).

    Tied notes are one note, grace notes are left out, repeats are played once. The tempo is the
    score's, or 96 quarter notes a minute; the velocity is 80.

    The voices are read as four tracks, Soprano, Alto, Tenor and Bass, by a policy that reads all
    tracks, ``BachChorales(policy=ReadPolicy(tracks="all"))``; their program is Choir Aahs.
    Otherwise, they are one track for a keyboard, without instruments: where two voices meet on a
    pitch there is one note; where a voice enters on a pitch that another still holds, that note
    ends and a new one starts.

    All scores are read the first time, which takes a few seconds; the notes are cached in
    :func:`~notelstm.data.cache.cache_folder`.

    Attributes:
        policy: Whether the voices are tracks, by its setting `tracks`; its other settings are of
            MIDI files.

    Example:
        >>> for name, notes in BachChorales().pieces(limit=2):
        ...     print(name, notes)
        bwv2.6 Notes(181 notes, 27.50 s, pitch 43 to 74)
        bwv3.6 Notes(163 notes, 20.00 s, pitch 45 to 74)
        >>> _, notes = next(BachChorales(policy=ReadPolicy(tracks="all")).pieces())
        >>> notes.track_names
        ('Soprano', 'Alto', 'Tenor', 'Bass')
    """

    name: ClassVar[str] = "bach"
    license: ClassVar[str] = (
        "music in the public domain; encodings under the terms of music21's corpus/license.txt, "
        "some not for commercial use"
    )
    source: ClassVar[str] = "the installed music21 package"
    size: ClassVar[str] = "about 360 chorales, 3 hours; nothing to download"

    policy: ReadPolicy = field(default_factory=ReadPolicy)

    @property
    def edition(self) -> str:
        """The versions of music21 and of the conversion."""
        _folder()
        return f"{READING}-music21-{version('music21')}"

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """The chorales in the order of the catalogue (BWV).

        Yields:
            The name, for example ``"bwv269"``, and the notes, sorted by start and pitch,
            with a tempo map; at most `limit` pieces.

        Raises:
            MissingExtraError: If music21 is not installed.
            DataError: If its scores are missing or damaged.
        """
        folder = _folder()
        voices = self.policy.tracks == "all"
        name = f"bach-{'voices-' if voices else ''}{self.edition}"
        yield from islice(cached_pieces(name, lambda: _chorales(folder, voices=voices)), limit)


def _folder() -> Path:
    """music21's folder of scores."""
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "music21, which has the Bach chorales, is not installed",
            hint="run pip install 'notelstm[bach]'",
        )
    return Path(spec.origin).parent / "corpus" / "bach"


def _chorales(folder: Path, *, voices: bool) -> Iterator[tuple[str, Notes]]:
    """Read all chorales in a folder of scores, with their voices as tracks or as one."""
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
        # The folder also has arias and cantata movements; chorales have four voices.
        if len(score.findall("part")) == len(VOICES):
            yield path.stem, notes_of_score(score, path.stem, VOICES if voices else ())


def _catalogue_number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.stem


TEMPO: Final = 96.0
"""Quarter notes per minute of a score without a tempo."""

VOICES: Final = ("Soprano", "Alto", "Tenor", "Bass")
"""The names of the four voices, in the order of the scores."""

CHOIR: Final = 52
"""The General MIDI program of the voices, Choir Aahs."""

VELOCITY: Final = 80
"""The MIDI velocity of every note; the scores have none."""

TICKS: Final = 10080
"""Ticks per quarter note, a multiple of every division in the scores."""

_SEMITONES: Final = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def open_score(path: Path) -> Element:
    """The root of a compressed MusicXML score (``.mxl``).

    Raises:
        DataError: If the file is not one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
            name = next(container.iter("rootfile")).attrib["full-path"]
            return ElementTree.fromstring(archive.read(name))
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, LookupError, StopIteration) as e:
        raise _damaged(path.stem, e) from e


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(
        f"a score inside music21 is damaged: {error or type(error).__name__}",
        where=name,
        hint="run pip install --force-reinstall music21",
    )


@dataclass
class _Voice:
    """One part of a score; times are ticks from its start."""

    divisions: int = 1
    notes: list[tuple[int, int, int]] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    tempos: dict[int, float] = field(default_factory=dict)
    time_signatures: dict[int, tuple[int, int]] = field(default_factory=dict)

    def read(self, measure: Element, start: int) -> int:
        """Read the measure that starts at `start`; its end."""
        now = onset = end = start
        for element in measure:
            length = int(element.findtext("duration") or 0) * TICKS // self.divisions
            if element.tag == "attributes":
                self._read_attributes(element, now)
            elif element.tag == "backup":
                now -= length
            elif element.tag == "forward":
                now += length
            elif element.tag == "note" and element.find("grace") is None:
                if element.find("chord") is None:
                    onset, now = now, now + length
                self._read_note(element, onset, onset + length)
            for sound in element.iter("sound"):
                if "tempo" in sound.attrib:
                    self.tempos[now] = float(sound.attrib["tempo"])
            end = max(end, now)
        return end

    def _read_attributes(self, element: Element, now: int) -> None:
        self.divisions = int(element.findtext("divisions") or self.divisions)
        time = element.find("time")
        if time is not None:
            upper, lower = time.findtext("beats"), time.findtext("beat-type")
            self.time_signatures[now] = int(upper or 4), int(lower or 4)

    def _read_note(self, element: Element, start: int, end: int) -> None:
        written = element.find("pitch")
        if written is None:
            return
        step, octave = written.findtext("step") or "", int(written.findtext("octave") or 0)
        pitch = 12 * (octave + 1) + _SEMITONES[step] + int(written.findtext("alter") or 0)
        ties = {tie.get("type") for tie in element.findall("tie")}
        held = self.held.pop(pitch, None)
        if "stop" in ties and held is not None and self.notes[held][1] == start:
            place = held
            self.notes[held] = (self.notes[held][0], end, pitch)
        else:
            place = len(self.notes)
            self.notes.append((start, end, pitch))
        if "start" in ties:
            self.held[pitch] = place


def notes_of_score(score: Element, name: str, voices: Sequence[str] = ()) -> Notes:
    """The parts of a MusicXML score as one piece, as :class:`BachChorales` describes.

    Args:
        score: The root of the score; times, ties, tempos and time signatures are read,
            transpositions not.
        name: Its name in messages.
        voices: The name of each part, which becomes a track; without names, all parts are one
            track for a keyboard.

    Returns:
        The notes, sorted by start and pitch, with a tempo map whose bars start after an upbeat.

    Raises:
        DataError: If the score cannot be read.
    """
    parts = [_Voice() for _ in score.findall("part")]
    ends = [0]
    try:
        for measures in zip(*(p.findall("measure") for p in score.findall("part")), strict=True):
            read = [v.read(m, ends[-1]) for v, m in zip(parts, measures, strict=True)]
            ends.append(max(read))
    except (ValueError, KeyError) as error:
        raise _damaged(name, error) from error
    tempo_map = _tempo_map(parts[0], ends)
    tracks = [part.notes for part in parts]
    if not voices:
        tracks = [[note for track in tracks for note in track]]
    notes = sorted(
        (start, pitch, track, end)
        for track, found in enumerate(tracks)
        for start, pitch, end in _merged(found)
    )
    start, pitch, track, end = np.array(notes, dtype=np.float64).reshape(-1, 4).T
    return Notes(
        start=tempo_map.seconds_at(start / TICKS),
        end=tempo_map.seconds_at(end / TICKS),
        pitch=pitch,
        velocity=VELOCITY,
        program=CHOIR if voices else None,
        track=track if voices else None,
        track_names=tuple(voices) or None,
        tempo_map=tempo_map,
    )


def _tempo_map(voice: _Voice, ends: list[int]) -> TempoMap:
    """The tempos and time signatures of a score's first voice."""
    time_signatures = dict(voice.time_signatures)
    first = time_signatures.get(0)
    if first is not None and len(ends) > 1 and ends[1] < 4 * TICKS * first[0] // first[1]:
        # Bars are counted from the end of an upbeat.
        time_signatures.setdefault(ends[1], time_signatures.pop(0))
    tempos = {0: TEMPO, **voice.tempos}
    knots = sorted(tempos)
    seconds = [0.0]
    for before, after in pairwise(knots):
        seconds.append(seconds[-1] + (after - before) / TICKS * 60 / tempos[before])
    return TempoMap(
        seconds=seconds,
        tempos=[tempos[knot] for knot in knots],
        time_signature_beats=[tick / TICKS for tick in sorted(time_signatures)],
        numerators=[time_signatures[tick][0] for tick in sorted(time_signatures)],
        denominators=[time_signatures[tick][1] for tick in sorted(time_signatures)],
    )


def _merged(notes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The notes of one track, (start, pitch, end): no pitch overlaps itself."""
    merged: list[tuple[int, int, int]] = []
    for start, end, pitch in sorted(notes, key=lambda note: (note[2], note[0])):
        last = merged[-1] if merged else None
        if last is None or last[1] != pitch or last[2] <= start:
            merged.append((start, pitch, end))
            continue
        merged.pop()
        if last[0] < start:
            merged.append((last[0], pitch, start))
        merged.append((start, pitch, max(last[2], end)))
    return merged
