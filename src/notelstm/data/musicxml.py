"""MusicXML scores as ``Notes``: the part of the format that the scores inside music21 use."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from notelstm.errors import DataError
from notelstm.notes import TempoMap, Notes

__all__ = ["notes_of_score", "open_score"]

TEMPO: Final = 96.0
"""Quarter notes per minute of a score that gives no tempo."""

VELOCITY: Final = 80
"""The MIDI velocity of every note: the scores give none."""

TICKS: Final = 10080
"""Ticks in a quarter note; every division that the scores use is a part of it."""

_SEMITONES: Final = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def open_score(path: Path) -> Element:
    """Open a compressed MusicXML score (``.mxl``).

    Args:
        path: The file.

    Returns:
        The root of the score.

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
    """One part of a score while it is read; times are ticks from its start."""

    divisions: int = 1
    notes: list[tuple[int, int, int]] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    tempi: dict[int, float] = field(default_factory=dict)
    meters: dict[int, tuple[int, int]] = field(default_factory=dict)

    def read(self, measure: Element, start: int) -> int:
        """Take in the measure that begins at `start`; its end."""
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
                    self.tempi[now] = float(sound.attrib["tempo"])
            end = max(end, now)
        return end

    def _read_attributes(self, element: Element, now: int) -> None:
        self.divisions = int(element.findtext("divisions") or self.divisions)
        time = element.find("time")
        if time is not None:
            upper, lower = time.findtext("beats"), time.findtext("beat-type")
            self.meters[now] = int(upper or 4), int(lower or 4)

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


def notes_of_score(score: Element, name: str) -> Notes:
    """All voices of a score as one piece.

    Tied notes are one note, grace notes are left out, repeats are played once. Where two voices
    meet on a pitch there is one note; where a voice enters on a pitch that another still holds,
    that note ends and a new one begins.

    Args:
        score: The root of the score; times, ties, tempi and metres are read, transpositions not.
        name: Its name in messages.

    Returns:
        The notes, sorted by start and pitch, with a beat map that counts bars from the end of an
        upbeat.

    Raises:
        DataError: If the score cannot be read.
    """
    voices = [_Voice() for _ in score.findall("part")]
    ends = [0]
    try:
        for measures in zip(*(p.findall("measure") for p in score.findall("part")), strict=True):
            read = [v.read(m, ends[-1]) for v, m in zip(voices, measures, strict=True)]
            ends.append(max(read))
    except (ValueError, KeyError) as error:
        raise _damaged(name, error) from error
    beats = _beat_map(voices[0], ends)
    merged = _merged([note for voice in voices for note in voice.notes])
    columns = np.array(sorted(merged), dtype=np.float64).reshape(-1, 3)
    start, pitch, end = columns.T
    start, end = beats.seconds_at(start / TICKS), beats.seconds_at(end / TICKS)
    return Notes(start=start, end=end, pitch=pitch, velocity=VELOCITY, beats=beats)


def _beat_map(voice: _Voice, ends: list[int]) -> TempoMap:
    """The tempi and metres that a score's first voice gives."""
    meters = dict(voice.meters)
    first = meters.get(0)
    if first is not None and len(ends) > 1 and ends[1] < 4 * TICKS * first[0] // first[1]:
        # An upbeat: bars are counted from the end of it.
        meters.setdefault(ends[1], meters.pop(0))
    tempi = {0: TEMPO, **voice.tempi}
    knots = sorted(tempi)
    seconds = [0.0]
    for before, after in pairwise(knots):
        seconds.append(seconds[-1] + (after - before) / TICKS * 60 / tempi[before])
    return TempoMap(
        seconds=seconds,
        tempi=[tempi[knot] for knot in knots],
        meter_beats=[tick / TICKS for tick in sorted(meters)],
        numerators=[meters[tick][0] for tick in sorted(meters)],
        denominators=[meters[tick][1] for tick in sorted(meters)],
    )


def _merged(notes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The voices' notes on one keyboard, (start, pitch, end): no pitch overlaps itself."""
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
