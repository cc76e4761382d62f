"""``PartMap``: the instruments of a corpus as classes, for encoders with a field ``instrument``."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, EncodingError, did_you_mean
from notelstm.fields import Field
from notelstm.notes import Notes
from notelstm.programs import FAMILIES, PROGRAMS, family_of

__all__ = ["ONE_PART", "By", "Part", "PartMap", "PartsBy", "Unknown", "classes_named"]

By: TypeAlias = Literal["program", "family", "name", "track"]
"""The property of a note by which its part is found."""

PartsBy: TypeAlias = Literal["auto", "program", "family", "name", "track"]
"""The property by which the parts of a corpus are found; ``"auto"`` chooses one."""

Unknown: TypeAlias = Literal["nearest", "other", "refuse"]
"""The class of a note of no part: that of the nearest part, "other", or an error."""

_DRUMS: Final = "Drums"
_OTHER: Final = "other"
_NAMED: Final = 0.9
"""The share of notes in tracks with common names from which parts are found by name."""
_MAX_PARTS: Final = 1024
"""Limits the size of a model of a damaged corpus."""

_Key: TypeAlias = tuple[bool, int | str]
"""Whether a note is percussion, and its program, family, name or track."""


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """One class of instruments.

    Attributes:
        name: The name, which becomes the track's name in a MIDI file.
        program: General MIDI program, 0 to 127, with which its notes are decoded.
        drum: Whether it is percussion.

    Raises:
        ConfigError: If a setting cannot have that value.
    """

    name: str
    program: int = 0
    drum: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        whole = isinstance(self.program, int) and not isinstance(self.program, bool)
        if not (whole and 0 <= self.program <= 127):
            raise ConfigError(
                f"the part {self.name!r} has the program {self.program!r}",
                hint="use a General MIDI program from 0 to 127",
            )
        if not isinstance(self.name, str) or not isinstance(self.drum, bool):
            raise ConfigError(
                f"a part has the name {self.name!r} and drum={self.drum!r}",
                hint="give a text, and true or false",
            )


ONE_PART: Final = (Part(name="all"),)
"""The parts of an encoder without instruments: all notes are class 0."""


def classes_named(parts: Sequence[Part], name: str) -> tuple[int, ...]:
    """The classes of the parts of a name, in upper or lower case.

    Args:
        parts: The part of each class.
        name: The name; several tracks can share one.

    Returns:
        At least one.

    Raises:
        ConfigError: If there is no such part.

    Example:
        >>> classes_named((Part(name="Piano"), Part(name="Bass", program=33)), "bass")
        (1,)
    """
    wanted = name.strip().casefold()
    found = tuple(k for k, part in enumerate(parts) if part.name.strip().casefold() == wanted)
    if found and tuple(parts) != ONE_PART:
        return found
    if tuple(parts) == ONE_PART:
        raise ConfigError(
            f"the model has no instruments, so none of them is {name!r}",
            hint="leave the instrument out",
        )
    known = [part.name for part in parts]
    raise ConfigError(
        f"no instrument of the model is named {name!r}{did_you_mean(name, known)}",
        hint=f"use one of: {', '.join(known)}",
    )


@final
@dataclass(frozen=True, kw_only=True)
class PartMap:
    """The parts of a corpus: which class each note belongs to.

    Attributes:
        by: The property that tells parts apart. ``"program"``: the General MIDI program.
            ``"family"``: the General MIDI family of eight programs. ``"name"``: the name of the
            track, in upper or lower case; a track without one is named after its program.
            ``"track"``: the number of the track, which is the class, for pieces with the same
            parts in the same order, such as chorales. Percussion is one part of its own by
            program and by family; otherwise percussion and other notes never share a part.
        parts: The parts, one for each class.
        unknown: The class of a note of no part. ``"nearest"``: of the parts that are percussion
            if the note is, or that are not, the one with the same program, or else of the same
            family, or else with the nearest program. ``"other"``: an additional last class.
            ``"refuse"``: an :class:`~notelstm.errors.EncodingError`.

    Raises:
        ConfigError: If there are no parts or too many, two of them cannot be told apart, or a
            setting cannot have that value.

    Example:
        >>> band = PartMap(by="family", parts=(Part(name="Piano"), Part(name="Bass", program=33)))
        >>> notes = Notes(start=[0, 0, 1], end=2, pitch=[60, 36, 62], program=[1, 32, 38])
        >>> band.classes_of(notes).tolist(), band.count_unknown(notes)
        ([0, 1, 1], 0)
    """

    by: By = "program"
    parts: tuple[Part, ...] = ()
    unknown: Unknown = "nearest"

    def __post_init__(self) -> None:
        """Check the settings; parts may be given as mappings, as settings files have them."""
        for name, value, choices in (
            ("by", self.by, get_args(By)),
            ("unknown", self.unknown, get_args(Unknown)),
        ):
            if value not in choices:
                wanted = ", ".join(repr(choice) for choice in choices)
                raise ConfigError(
                    f"{name} of a part map cannot be {value!r}{did_you_mean(str(value), choices)}",
                    hint=f"use one of {wanted}",
                )
        object.__setattr__(self, "parts", tuple(map(_as_part, self.parts)))
        if not 1 <= len(self.parts) <= _MAX_PARTS:
            raise ConfigError(
                f"a part map of {len(self.parts)} parts", hint=f"give 1 to {_MAX_PARTS} parts"
            )
        if len(self._class_of) < len(self.parts):
            same = Counter(map(self._key_of_part, range(len(self.parts)), self.parts))
            twice = same.most_common(1)[0][0]
            both = [p.name for k, p in enumerate(self.parts) if self._key_of_part(k, p) == twice]
            raise ConfigError(
                f"the parts {both[0]!r} and {both[1]!r} are the same by {self.by}",
                hint="leave one of them out, or tell parts apart by name or track",
            )

    @classmethod
    def from_pieces(
        cls, pieces: Iterable[Notes], *, by: PartsBy = "program", unknown: Unknown = "nearest"
    ) -> PartMap:
        """The parts of a corpus.

        Args:
            pieces: The pieces, at least one note in all; the order does not matter.
            by: The property that tells parts apart. ``"auto"`` is by name if the pieces name their
                tracks alike: at least nine in ten notes are in tracks whose names occur in at least
                half of the pieces; otherwise by family.
            unknown: The rule for notes of no part, which other pieces may have.

        Returns:
            A part for each program, family, name or track that occurs: by number or name, then
            percussion; tracks by number alone. The program of a part is the one that most of its
            notes have, and so are the name and the kind (percussion or not) of a track.

        Raises:
            ConfigError: If there are no notes, or more than 1,024 parts.
        """
        instruments = [
            [(instrument, len(members)) for instrument, members in _members(piece)]
            for piece in pieces
        ]
        if by == "auto":
            by = "name" if _are_named_alike(instruments) else "family"
        counts: dict[_Key, Counter[tuple[int, str]]] = {}
        for piece in instruments:
            for (drum, program, name, track), count in piece:
                found = counts.setdefault(_key(by, drum, program, name, track), Counter())
                found[program, name] += count
        if by == "track":
            counts = _by_track(counts)
        parts = []
        for drum, key in sorted(counts, key=lambda key: key if by != "track" else (False, key[1])):
            # The smallest of equally frequent ones, so that the order of pieces does not matter.
            seen = counts[drum, key]
            program, name = min(seen, key=lambda entry: (-seen[entry], entry))
            parts.append(
                Part(name=_title(by, drum, key, program, name), program=program, drum=drum)
            )
        return cls(by=by, parts=tuple(parts), unknown=unknown)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PartMap:
        """The part map of :meth:`to_json`.

        Raises:
            ConfigError: If a setting is missing or cannot have that value.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(
                f"these are not the settings of a part map: {dict(values)}",
                hint="give by, parts and unknown",
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {**asdict(self), "parts": [asdict(part) for part in self.parts]}

    @functools.cached_property
    def classes(self) -> tuple[Part, ...]:
        """The part of each class: the parts, and "other" under that rule."""
        if self.unknown != "other":
            return self.parts
        # A program of no part, so that decoded notes are encoded as the same class again.
        keys = {k for drum, k in self._class_of if not drum}
        free = [
            p for p in range(128) if self.by in ("name", "track") or _group(self.by, p) not in keys
        ]
        return (*self.parts, Part(name=_OTHER, program=free[0] if free else 0))

    @functools.cached_property
    def drums(self) -> NDArray[np.bool_]:
        """(C,) which classes are percussion."""
        drums = np.array([part.drum for part in self.classes])
        drums.setflags(write=False)
        return drums

    def field(self) -> Field:
        """The field ``instrument``, whose values are the class ids."""
        return Field.categorical("instrument", "instrument", values=range(len(self.classes)))

    def classes_of(self, notes: Notes) -> NDArray[np.int64]:
        """(N,) the class of each note.

        Raises:
            EncodingError: If a note is of no part and this is refused, or is percussion and no
                part is.
        """
        return self._assign(notes)[0]

    def count_unknown(self, notes: Notes) -> int:
        """The number of notes of no part, which are assigned by the rule `unknown`."""
        return int(self._assign(notes, count=True)[1].sum())

    def columns_of(self, classes: NDArray[np.integer]) -> dict[str, Any]:
        """Columns of :class:`~notelstm.notes.Notes` for the (N,) class of each note.

        Program and percussion are those of :attr:`classes`; the class is the track.
        """
        track = classes.astype(np.int64)
        programs = np.array([part.program for part in self.classes], dtype=np.int64)
        names = tuple(part.name for part in self.classes)
        columns = {"program": programs[track], "drum": self.drums[track], "track": track}
        return {**columns, "track_names": names}

    @functools.cached_property
    def _class_of(self) -> dict[_Key, int]:
        """The class of each key."""
        return {self._key_of_part(k, part): k for k, part in enumerate(self.parts)}

    def _key_of_part(self, number: int, part: Part) -> _Key:
        return _key(self.by, part.drum, part.program, part.name, number)

    def _assign(
        self, notes: Notes, *, count: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(N,) the class of each note, and whether it is of no part; `count` never raises."""
        classes = np.zeros(len(notes), dtype=np.int64)
        unknown = np.zeros(len(notes), dtype=np.bool_)
        for (drum, program, name, track), members in _members(notes):
            key = _key(self.by, drum, program, name, track)
            k = self._class_of.get(key)
            if k is None:
                unknown[members] = True
                if not count:
                    i = int(members[0])
                    k = self._class_of_unknown(drum, program, _words(self.by, key, name), i)
            classes[members] = k or 0
        return classes, unknown

    def _class_of_unknown(self, drum: bool, program: int, what: str, note: int) -> int:
        if self.unknown == "other":
            return len(self.parts)
        alike = [k for k, part in enumerate(self.parts) if part.drum == drum]
        if self.unknown == "refuse" or not alike:
            missing = (
                ""
                if self.unknown == "refuse"
                else (" and no part is percussion" if drum else " and every part is percussion")
            )
            raise EncodingError(
                f"{what} is not one of the parts {', '.join(p.name for p in self.parts)}{missing}",
                where=f"note {note}",
                hint=f"leave {'percussion' if drum else 'the track'} out, or create the part map "
                'with unknown="other"',
            )

        def distance(k: int) -> tuple[bool, int]:
            other = self.parts[k].program
            return family_of(other) != family_of(program), abs(other - program)

        return min(alike, key=distance)


def _as_part(part: object) -> Part:
    if isinstance(part, Part):
        return part
    try:
        return Part(**part)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(
            f"{part!r} is not a part", hint='give Part(name="Bass", program=33)'
        ) from error


def _group(by: By, program: int) -> int:
    """The number that tells a program from others: its own, or that of its family."""
    return program // 8 if by == "family" else program


def _key(by: By, drum: bool, program: int, name: str, track: int) -> _Key:
    """The key of a note's part."""
    if by == "track":
        return drum, track
    if by == "name":
        return drum, (name.strip() or _default_name(drum, program)).casefold()
    return drum, 0 if drum else _group(by, program)


def _default_name(drum: bool, program: int) -> str:
    return _DRUMS if drum else PROGRAMS[program]


def _title(by: By, drum: bool, key: int | str, program: int, name: str) -> str:
    """The name of a part."""
    if by == "name":
        return name.strip() or _default_name(drum, program)
    if by == "track":
        return name.strip() or f"Track {key}"
    return _DRUMS if drum else PROGRAMS[program] if by == "program" else family_of(program)


def _words(by: By, key: _Key, name: str) -> str:
    """A note's instrument in words."""
    drum, at = key
    if by == "track":
        return f"track {at}" + (" of percussion" if drum else "")
    if by == "name":
        return f"the track {name.strip() or at!r}" + (" of percussion" if drum else "")
    if drum:
        return "percussion"
    return f"program {at} ({PROGRAMS[int(at)]})" if by == "program" else FAMILIES[int(at)]


def _by_track(
    counts: Mapping[_Key, Counter[tuple[int, str]]],
) -> dict[_Key, Counter[tuple[int, str]]]:
    """One key for each track up to the last: percussion if most of its notes are."""
    last = max((int(track) for _, track in counts), default=-1)
    found: dict[_Key, Counter[tuple[int, str]]] = {}
    for track in range(min(last, _MAX_PARTS) + 1):
        pitched, drums = (counts.get((drum, track), Counter()) for drum in (False, True))
        drum = drums.total() > pitched.total()
        found[drum, track] = (drums if drum else pitched) or Counter({(0, ""): 0})
    return found


_Instrument: TypeAlias = tuple[bool, int, str, int]
"""Whether it is percussion, the program, the name of the track and its number."""


def _members(notes: Notes) -> list[tuple[_Instrument, NDArray[np.intp]]]:
    """Each instrument of a piece, and the numbers of its notes, ascending."""
    zeros = np.zeros(len(notes), dtype=np.int64)
    track, program, drum = (
        zeros if c is None else c.astype(np.int64) for c in (notes.track, notes.program, notes.drum)
    )
    groups, which = np.unique(track << 8 | program << 1 | drum, return_inverse=True)
    names: Sequence[str] = notes.track_names or ()
    found = []
    for number, group in enumerate(groups.tolist()):
        at = group >> 8
        name = names[at] if 0 <= at < len(names) else ""
        instrument = bool(group & 1), group >> 1 & 127, name, at
        found.append((instrument, np.flatnonzero(which == number)))
    return found


def _are_named_alike(pieces: Sequence[Sequence[tuple[_Instrument, int]]]) -> bool:
    """Whether nearly all notes are in tracks with names that most pieces share."""
    named = [[(key[2].strip().casefold(), count) for key, count in piece] for piece in pieces]
    shared = Counter(name for piece in named for name in {name for name, _ in piece} if name)
    least = sum(map(bool, named)) / 2
    common = {name for name, count in shared.items() if count >= least}
    every = [entry for piece in named for entry in piece]
    covered = sum(count for name, count in every if name in common)
    return bool(common) and covered >= _NAMED * sum(count for _, count in every)
