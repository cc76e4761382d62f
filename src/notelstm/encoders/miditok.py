"""``MidiTokEncoder``: the tokens of a MidiTok tokenizer as one field of events."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import as_rows
from notelstm.errors import ConfigError, EncodingError, MissingExtraError
from notelstm.fields import Event, EventType, Field, Row, Rows
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes, TempoMap
from notelstm.tracker import Tone, Tracker

if TYPE_CHECKING:
    from miditok import MusicTokenizer

_Score: TypeAlias = Any
"""A piece in ticks, of symusic."""

__all__ = ["MidiTokEncoder"]

_ONSETS: Final = ("Pitch", "PitchDrum", "NoteOn", "DrumOn")
"""The types of token that begin a note."""
_ENDS: Final = ("NoteOff", "DrumOff")
_ATTRIBUTES: Final = ("Velocity", "Duration")
"""The types of token that follow it, in this order."""
_EVENTS: Final[Mapping[str, EventType]] = {
    "Pitch": "note-on",
    "NoteOn": "note-on",
    "NoteOff": "note-off",
    "Velocity": "velocity",
}
"""The events of the types of token, as processors read them; the others are ``"other"``."""
_WORKING: Final = "choose REMI, TSD, MIDILike, Structured or MMM"
"""The hint of errors on tokenizers that are refused."""


@final
@dataclass(frozen=True, kw_only=True)
class MidiTokEncoder:
    """Several rows per note: the token ids of a MidiTok tokenizer.

    REMI, TSD, MIDILike, Structured and MMM work, also with a trained vocabulary (BPE, Unigram,
    WordPiece). CPWord, Octuple and MuMIDI have several ids per row, MidiTok does not state which
    tokens of PerTok and BEAT can follow one another, and pitch intervals are no pitches; these are
    refused.

    Without program tokens, all notes become one piano part, and drums are refused. The time
    resolution, the longest duration and the velocities are those of the tokenizer: the notes come
    back as MidiTok itself encodes and decodes them. Its tracker keeps the tokens of the piece, so
    that its memory grows, unlike that of the other encoders. MMM writes one track after another:
    time goes back at the start of each, so that such a model cannot be streamed.

    Attributes:
        tokenizer: The name of a tokenizer class of MidiTok.
        saved: The JSON text that ``MusicTokenizer.save`` writes; None for the default settings.
        tempo: Quarter notes per minute, by which seconds become beats, whatever the tempo of the
            piece; None for the tempo map of the piece, which comes back only with tempo tokens
            (otherwise, pieces come back at 120).

    Raises:
        ConfigError: If there is no such tokenizer, it is refused, or its settings are invalid.
        MissingExtraError: If MidiTok is not installed.

    Source:
        Fradet, Briot, Chhel, El Fallah Seghrouchni and Gutowski, "MidiTok: a Python package for
        MIDI file tokenization", ISMIR late-breaking demo, 2021.
    """

    tokenizer: str = "REMI"
    saved: str | None = None
    tempo: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.tempo is not None and not 0 < self.tempo < np.inf:
            raise ConfigError(f"the tempo {self.tempo} is not a finite number above 0")
        _ = self._vocabulary

    @classmethod
    def of(cls, tokenizer: MusicTokenizer, *, tempo: float | None = None) -> Self:
        """The encoder of a tokenizer, also a trained one.

        Args:
            tokenizer: Any tokenizer of MidiTok; later changes to it have no effect.
            tempo: As the attribute.
        """
        saved = json.dumps(tokenizer.to_dict())
        return cls(tokenizer=type(tokenizer).__name__, saved=saved, tempo=tempo)

    @property
    def _vocabulary(self) -> _Vocabulary:
        return _vocabulary_of(self.tokenizer, self.saved)

    @property
    def fields(self) -> tuple[Field, ...]:
        """One field, with an event for each token."""
        return (self._vocabulary.field,)

    def encode(self, notes: Notes) -> Rows:
        """(M, 1) float32 token ids.

        Raises:
            EncodingError: If a note has a pitch or a program that the tokenizer lacks, or is a drum
                and the tokenizer has no programs.
        """
        if not len(notes):
            return np.zeros((0, 1), dtype=np.float32)
        ids = self._vocabulary.encode(self._score_of(notes))
        return np.array(ids, dtype=np.float32)[:, None]

    def decode(self, rows: Rows) -> Notes:
        """Notes from (M, 1) token ids, in the order of their tokens.

        Raises:
            EncodingError: If an id is none of the tokenizer, or is a special token.
        """
        tracker = self.tracker()
        tracker.extend(as_rows(rows, self.fields))
        return tracker.notes()

    def tracker(self) -> Tracker:
        """A tracker at the start of a piece."""
        return _TokenTracker(self._vocabulary, self.tempo)

    def _score_of(self, notes: Notes) -> _Score:
        """The notes in ticks of the tokenizer."""
        import symusic

        vocabulary, tempo_map = self._vocabulary, notes.tempo_map or TempoMap()
        if self.tempo is not None:
            tempo_map = TempoMap(tempos=[self.tempo])
        vocabulary.check(notes)
        score: _Score = symusic.Score(vocabulary.tokenizer.time_division)
        per_beat = score.ticks_per_quarter
        start = np.rint(tempo_map.beats_at(notes.start) * per_beat).astype(np.int64)
        end = np.rint(tempo_map.beats_at(notes.end) * per_beat).astype(np.int64)
        length = np.maximum(end - start, 1)
        program = vocabulary.programs_of(notes)
        columns = np.stack([start, length, notes.pitch, notes.velocity], axis=1)
        for number in np.unique(program).tolist():
            track: Any = symusic.Track(program=max(0, number), is_drum=number < 0)
            for note in columns[program == number].tolist():
                track.notes.append(symusic.Note(*note))
            track.notes.sort(key=lambda note: (note.time, note.pitch, note.end))
            score.tracks.append(track)
        ticks = np.rint(tempo_map.beats_at(tempo_map.seconds) * per_beat).astype(np.int64)
        for tick, tempo in zip(ticks.tolist(), tempo_map.tempos.tolist(), strict=True):
            score.tempos.append(symusic.Tempo(tick, tempo))
        ticks = np.rint(tempo_map.time_signature_beats * per_beat).astype(np.int64)
        meters = (ticks, tempo_map.numerators, tempo_map.denominators)
        for change in zip(*(column.tolist() for column in meters), strict=True):
            score.time_signatures.append(symusic.TimeSignature(*change))
        return score


class _Grammar(NamedTuple):
    """What the tokens so far allow the next one to be.

    Attributes:
        type: The type of the latest token, empty at the start.
        missing: The types of the attributes that the latest note still lacks.
        position: The latest position in the bar, -1 at its start, None if it is not known.
        program: The latest program, -1 for drums.
        track: The number of the track, of a tokenizer that writes them one after another.
    """

    type: str = ""
    missing: tuple[str, ...] = ()
    position: int | None = -1
    program: int = 0
    track: int = 0


@final
class _Vocabulary:
    """A tokenizer, with the basic tokens of each id.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: MusicTokenizer) -> None:
        from miditok import TokSequence

        self.tokenizer: Final = tokenizer
        self._sequence: Final = TokSequence
        config = tokenizer.config
        self.one_stream: Final = bool(config.one_token_stream_for_programs)
        self.has_programs: Final = bool(config.use_programs)
        basic = {index: token for token, index in tokenizer.vocab.items()}
        self.tokens: Final[list[list[str]]] = []
        for number in range(tokenizer.vocab_size):
            if number in basic and not tokenizer.is_trained:
                self.tokens.append([basic[number]])
                continue
            sequence = TokSequence(ids=[number], are_ids_encoded=tokenizer.is_trained)
            tokenizer.decode_token_ids(sequence)
            self.tokens.append([basic[i] for i in sequence.ids])
        special = {*tokenizer.special_tokens} - {"Track_Start", "Track_End"}
        # A trained vocabulary has ids of no tokens.
        self.usable: Final = np.array([bool(t) and not special & {*t} for t in self.tokens])
        self.field: Final = Field.of_events("token", [_event(some) for some in self.tokens])
        # Special tokens are no part of music.
        self._graph: Final[dict[str, set[str]]] = {
            kind: following
            for kind, following in tokenizer.tokens_types_graph.items()
            if f"{kind}_None" not in special
        }
        self._by_type: Final[dict[str, str]] = {}
        for token in basic.values():
            self._by_type.setdefault(token.partition("_")[0], token)
        velocities = [t for t in basic.values() if t.startswith("Velocity_")]
        if velocities:
            self._by_type["Velocity"] = min(
                velocities, key=lambda token: abs(int(token.partition("_")[2]) - DEFAULT_VELOCITY)
            )
        self._masks: Final[dict[_Grammar, NDArray[np.bool_]]] = {}

    def programs_of(self, notes: Notes) -> NDArray[np.int64]:
        """(N,) the program of each note, -1 for drums; 0 without programs."""
        if not self.has_programs:
            return np.zeros(len(notes), np.int64)
        program = np.zeros(len(notes), np.int64) if notes.program is None else notes.program
        drum = np.zeros(len(notes), bool) if notes.drum is None else notes.drum
        return np.where(drum, -1, program).astype(np.int64)

    def check(self, notes: Notes) -> None:
        """Raise an error for a note that the tokenizer would leave out."""
        config, program = self.tokenizer.config, self.programs_of(notes)
        if not self.has_programs and notes.drum is not None and notes.drum.any():
            raise EncodingError(
                "the note is a drum, and the tokenizer has no programs",
                where=f"note {np.argmax(notes.drum)}",
                hint="set use_programs of the tokenizer, or read the file without drums",
            )
        low = np.full(len(notes), config.pitch_range[0])
        high = np.full(len(notes), config.pitch_range[1])
        if config.use_pitchdrum_tokens:
            low[program < 0], high[program < 0] = config.drums_pitch_range
        # MidiTok deletes lower and higher notes; its vocabulary ends below the upper bound.
        outside = np.flatnonzero((notes.pitch < low) | (notes.pitch > np.minimum(high, 127)))
        if outside.size:
            i = outside[0]
            raise EncodingError(
                f"pitch {notes.pitch[i]} is outside the tokenizer's pitch range, {low[i]} to "
                f"{high[i]}",
                where=f"note {i}",
                hint="set pitch_range of the tokenizer",
            )
        unknown = np.flatnonzero(~np.isin(program, [*config.programs]))
        if self.has_programs and unknown.size:
            i = unknown[0]
            raise EncodingError(
                f"program {program[i]} is none of the tokenizer's programs",
                where=f"note {i}",
                hint="set programs of the tokenizer",
            )

    def encode(self, score: _Score) -> list[int]:
        """The token ids of a piece."""
        tokens = self.tokenizer.encode(score)
        sequence = tokens[0] if isinstance(tokens, list) else tokens
        return [int(i) for i in sequence.ids]

    def decode(self, ids: Sequence[int]) -> _Score:
        """The piece of some ids, in ticks."""
        sequence = self._sequence(ids=[*ids], are_ids_encoded=self.tokenizer.is_trained)
        with _no_collection():
            if self.tokenizer.one_token_stream:
                return self.tokenizer.decode(sequence)
            return self.tokenizer.decode([sequence], programs=[(0, False)])

    def ids_of(self, tokens: Iterable[str]) -> list[int]:
        """The ids of basic tokens."""
        ids = [self.tokenizer.vocab[token] for token in tokens]
        if ids and self.tokenizer.is_trained:
            sequence = self._sequence(ids=ids)
            self.tokenizer.encode_token_ids(sequence)
            ids = [int(i) for i in sequence.ids]
        return ids

    def first_of(self, kind: str) -> str:
        """The first token of a type; of velocities, the nearest to the default."""
        return self._by_type[kind]

    def onsets(self) -> list[str]:
        """The tokens that begin a note of a pitch, whatever the program."""
        kinds = [kind for kind in _ONSETS if kind in self._by_type and "Drum" not in kind]
        return [token for token in self.tokenizer.vocab if token.partition("_")[0] in kinds]

    def attributes_of(self, program: int) -> tuple[str, ...]:
        """The types of the tokens that complete a note."""
        config, kinds = self.tokenizer.config, []
        if config.use_velocities and "Velocity" in self._by_type:
            kinds.append("Velocity")
        if "Duration" in self._by_type and self.has_durations(program):
            kinds.append("Duration")
        return tuple(kinds)

    def has_durations(self, program: int) -> bool:
        """Whether tokens end the notes of a program, or state their durations."""
        return program in self.tokenizer.config.use_note_duration_programs

    def after(self, grammar: _Grammar, token: str) -> _Grammar:
        """The grammar after a basic token."""
        kind, _, value = token.partition("_")
        program, position, track = grammar.program, grammar.position, grammar.track
        missing: tuple[str, ...] = ()
        if kind in _ONSETS:
            missing = self.attributes_of(program)
        elif kind in grammar.missing:
            missing = grammar.missing[grammar.missing.index(kind) + 1 :]
        elif kind == "Program":
            program = int(value)
        elif kind == "Bar":
            position = -1
        elif kind == "Position":
            position = int(value)
        elif kind == "Rest" and "Position" in self._by_type:
            position = None
        elif kind == "Track":
            program, position, track = 0, -1, track + (value == "Start")
        return _Grammar(kind, missing, position, program, track)

    def _follows(self, grammar: _Grammar, token: str) -> bool:
        """Whether a basic token can be the next."""
        kind, _, value = token.partition("_")
        if grammar.missing:
            return kind == grammar.missing[0]
        if kind in _ATTRIBUTES:
            return False
        if kind in _ONSETS or kind in _ENDS:
            drums = grammar.program < 0 and self.tokenizer.config.use_pitchdrum_tokens
            if ("Drum" in kind) != drums:
                return False
        if kind == "Position" and grammar.position is not None and int(value) <= grammar.position:
            return False
        following = self._graph.get(grammar.type)
        if following is not None:
            return kind in following
        return grammar.type != "" or kind not in _ENDS

    def mask(self, grammar: _Grammar) -> NDArray[np.bool_]:
        """(C,) bool, the ids whose basic tokens can follow one another."""
        if grammar not in self._masks:
            mask = self.usable.copy()
            for number in np.flatnonzero(mask):
                state = grammar
                for token in self.tokens[number]:
                    if not self._follows(state, token):
                        mask[number] = False
                        break
                    state = self.after(state, token)
            self._masks[grammar] = mask
        return self._masks[grammar]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector, if it runs.

    MIDILike makes a list for each pitch of each program, 16,512 in all, for each piece that it
    decodes. They free themselves, but that many new objects would start collections, which look at
    all objects of the process and take 25 times as long as the decoding.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _event(tokens: Sequence[str]) -> Event:
    """The event of an id of these basic tokens."""
    kind, _, value = tokens[0].partition("_") if len(tokens) == 1 else ("", "", "")
    if kind in _EVENTS:
        return Event(_EVENTS[kind], float(value))
    return Event("other", 0.0)


@functools.lru_cache(maxsize=16)
def _vocabulary_of(name: str, saved: str | None) -> _Vocabulary:
    """The vocabulary of a tokenizer, which is built once."""
    try:
        import miditok
    except ImportError as error:
        raise MissingExtraError(
            "MidiTok is not installed", hint="run pip install 'notelstm[miditok]'"
        ) from error
    known = [
        kind for kind in miditok.tokenizations.__all__ if isinstance(getattr(miditok, kind), type)
    ]
    if name not in known:
        raise ConfigError(
            f"MidiTok has no tokenizer {name!r}", hint=f"choose among {', '.join(known)}"
        )
    tokenizer = _tokenizer(getattr(miditok, name), saved)
    if tokenizer.is_multi_voc:
        raise ConfigError(
            f"the tokenizer {name} has several ids per row",
            hint=_WORKING,
        )
    if not any(kind in tokenizer.tokens_types_graph for kind in _ONSETS):
        raise ConfigError(
            f"MidiTok does not state which tokens of {name} can follow one another", hint=_WORKING
        )
    if tokenizer.config.use_pitch_intervals:
        raise ConfigError(
            "pitch intervals cannot be decoded token by token",
            hint="set use_pitch_intervals=False of the tokenizer",
        )
    return _Vocabulary(tokenizer)


def _tokenizer(kind: Any, saved: str | None) -> MusicTokenizer:
    """A tokenizer with the settings of its file."""
    try:
        if saved is None:
            return kind()
        # MidiTok reads settings from files only.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            path.write_text(saved, encoding="utf-8")
            return kind(params=path)
    except Exception as error:
        raise ConfigError(
            f"MidiTok rejects these settings of {kind.__name__}: {error}",
            hint="give the text of a file of MusicTokenizer.save()",
        ) from error


class _Begun(NamedTuple):
    """A note, by the tokens that begin it."""

    track: int
    program: int
    pitch: int


@final
class _TokenTracker(Tracker):
    """Decodes tokens with the tokenizer, and limits them to those that it can decode.

    It decodes the piece again when notes or times are asked for after new tokens.

    Args:
        vocabulary: The vocabulary of the encoder.
        tempo: Quarter notes per minute; None for the tempos of the tokens.
    """

    def __init__(self, vocabulary: _Vocabulary, tempo: float | None) -> None:
        super().__init__((vocabulary.field,))
        self._vocabulary: Final = vocabulary
        self._tempo: Final = tempo
        self._ids: list[int] = []
        self._grammar = _Grammar()
        self._begun: list[_Begun] = []
        # The numbers of the notes that have no end yet, by what begins them.
        self._open: dict[tuple[int, int], list[int]] = {}
        self._popped: set[int] = set()
        self._decoded: tuple[int, list[Note], TempoMap] | None = None
        self._clock = (0, 0.0)  # the number of tokens, and the time after them

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return len(self._begun)

    @property
    def time(self) -> float:
        """Seconds from the start of the piece to a note that would begin now."""
        if self._clock[0] != len(self._ids):
            self._clock = (len(self._ids), self._seconds(self._tick_after([])))
        return self._clock[1]

    def push(self, row: Row) -> None:
        """Add the next token, (1,).

        Raises:
            EncodingError: If the id is none of the tokenizer, or is a special token.
        """
        number = int(row[0])
        if not self._vocabulary.usable[number]:
            raise EncodingError(
                f"{', '.join(self._vocabulary.tokens[number]) or number} is a special token",
                where=f"row {len(self._ids)}",
                hint="leave it out",
            )
        self._ids.append(number)
        for token in self._vocabulary.tokens[number]:
            kind, _, value = token.partition("_")
            program = self._grammar.program
            if kind in _ONSETS:
                if "On" in kind and self._vocabulary.has_durations(program):
                    self._open.setdefault((program, int(value)), []).append(len(self._begun))
                self._begun.append(_Begun(self._grammar.track, program, int(value)))
            elif kind in _ENDS and self._open.get((program, int(value))):
                # As MidiTok ends them, the first that began.
                self._open[program, int(value)].pop(0)
            self._grammar = self._vocabulary.after(self._grammar, token)

    def sounding(self, at: float) -> Set[Tone]:
        """The pitch of each note that sounds `at` seconds after the start."""
        unknown = self._unfinished()
        return {
            Tone(note.pitch)
            for number, note in enumerate(self._played()[0])
            if number in unknown or note.end > at
        }

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and pitch of the latest `count` notes, in the order of their tokens."""
        return [(note.start, Tone(note.pitch)) for note in self._played()[0][-count:]]

    def allowed(self, field: Field, known: Mapping[str, float]) -> NDArray[np.bool_]:
        """(C,) bool, the tokens that can be decoded."""
        grammar, vocabulary = self._grammar, self._vocabulary
        if grammar.position is None and not grammar.missing:
            grammar = grammar._replace(position=self._earliest_position() - 1)
        mask = vocabulary.mask(grammar).copy()
        for number in np.flatnonzero(mask):
            kind, _, value = vocabulary.tokens[number][0].partition("_")
            if kind in _ENDS and not self._open.get((grammar.program, int(value))):
                mask[number] = False
        return mask

    def closing_rows(self) -> Rows:
        """The tokens (M, 1) that complete the latest note and end those that sound."""
        vocabulary, tokens = self._vocabulary, self._missing_tokens()
        program = self._grammar.program
        ends = sorted(
            (key for key, numbers in self._open.items() for _ in numbers),
            key=lambda key: (key[0] != program, key),
        )
        if ends and self._grammar.type not in _ENDS:
            tokens.append(vocabulary.first_of("TimeShift"))
        for number, pitch in ends:
            if number != program or (vocabulary.has_programs and vocabulary.one_stream):
                tokens.append(f"Program_{number}")
                program = number
            kind = "DrumOff" if f"DrumOff_{pitch}" in vocabulary.tokenizer.vocab else "NoteOff"
            tokens.append(f"{kind if number < 0 else 'NoteOff'}_{pitch}")
        return np.array(vocabulary.ids_of(tokens), dtype=np.float32).reshape(-1, 1)

    def notes(self) -> Notes:
        """The notes that have not been returned; those without an end end now."""
        played, tempo_map = self._played()
        kept = [note for number, note in enumerate(played) if number not in self._popped]
        notes = Notes.of(kept)
        return Notes(
            start=notes.start,
            end=notes.end,
            pitch=notes.pitch,
            velocity=notes.velocity,
            program=notes.program if self._vocabulary.has_programs else None,
            drum=notes.drum if self._vocabulary.has_programs else None,
            tempo_map=tempo_map,
        )

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes that have ended, or all of them, and drop them."""
        unknown = set() if include_sounding else self._unfinished()
        numbers = [k for k in range(self.num_notes) if k not in self._popped and k not in unknown]
        played = self._played()[0] if numbers else []
        self._popped.update(numbers)
        return [(number, played[number]) for number in numbers]

    def copy(self) -> _TokenTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        other._ids, other._begun = [*self._ids], [*self._begun]
        other._open = {key: [*numbers] for key, numbers in self._open.items()}
        other._popped = {*self._popped}
        return other

    def _unfinished(self) -> set[int]:
        """The numbers of the notes without an end."""
        latest = {len(self._begun) - 1} if self._grammar.missing else set()
        return latest.union(*self._open.values())

    def _missing_tokens(self) -> list[str]:
        return [self._vocabulary.first_of(kind) for kind in self._grammar.missing]

    def _tick_after(self, tokens: Sequence[str]) -> int:
        """The tick of a note that follows some more tokens."""
        vocabulary, program = self._vocabulary, self._grammar.program
        # Of a pitch that sounds, MidiTok would end an earlier note instead.
        onset = next(
            token
            for token in vocabulary.onsets()
            if not self._open.get((program, int(token.partition("_")[2])))
        )
        pitch = int(onset.partition("_")[2])
        probe = [*self._missing_tokens(), *tokens, onset]
        probe += [vocabulary.first_of(name) for name in vocabulary.attributes_of(program)]
        if "On" in onset:
            probe += [vocabulary.first_of("TimeShift"), f"NoteOff_{pitch}"]
        score = vocabulary.decode([*self._ids, *vocabulary.ids_of(probe)])
        return max(
            int(note.time) for track in score.tracks for note in track.notes if note.pitch == pitch
        )

    def _earliest_position(self) -> int:
        """The first position of the bar that is not in the past, after a rest."""
        now = self._tick_after([])
        first, second = (self._tick_after([f"Position_{k}"]) for k in (0, 1))
        return max(0, -(-(now - first) // (second - first)))

    def _seconds(self, tick: int) -> float:
        beat: float = tick / self._vocabulary.tokenizer.time_division
        if self._tempo is not None:
            return beat * 60 / self._tempo
        return float(self._played()[1].seconds_at([beat])[0])

    def _played(self) -> tuple[list[Note], TempoMap]:
        """All notes in the order of their tokens, and the tempo map."""
        if self._decoded is None or self._decoded[0] != len(self._ids):
            self._decoded = (len(self._ids), *self._decode())
        return self._decoded[1], self._decoded[2]

    def _decode(self) -> tuple[list[Note], TempoMap]:
        closing = [int(row[0]) for row in self.closing_rows()]
        score = self._vocabulary.decode([*self._ids, *closing])
        tempo_map = _tempo_map_of(score, self._tempo)
        per_beat = score.ticks_per_quarter
        found: dict[_Begun, list[Any]] = defaultdict(list)
        for number, track in enumerate(score.tracks, 1):
            program = -1 if track.is_drum else int(track.program)
            for note in track.notes:
                of = number if self._grammar.track else 0
                found[_Begun(of, program if not of else 0, int(note.pitch))].append(note)
        for notes in found.values():
            notes.sort(key=lambda note: note.time)
        played, taken = [], Counter[_Begun]()
        for begun in self._begun:
            key = _Begun(begun.track, begun.program if not begun.track else 0, begun.pitch)
            note = found[key][taken[key]]
            taken[key] += 1
            start, end = tempo_map.seconds_at([note.time / per_beat, note.end / per_beat]).tolist()
            program = max(0, begun.program)
            played.append(
                Note(start, end, begun.pitch, int(note.velocity), program, begun.program < 0, 0)
            )
        return played, tempo_map


def _tempo_map_of(score: _Score, tempo: float | None) -> TempoMap:
    """The tempo map of a decoded piece, with a fixed tempo if there is one."""
    per_beat = score.ticks_per_quarter
    signatures = {int(s.time): s for s in score.time_signatures}
    meter: dict[str, Any] = {
        "time_signature_beats": [tick / per_beat for tick in signatures],
        "numerators": [s.numerator for s in signatures.values()],
        "denominators": [s.denominator for s in signatures.values()],
    }
    if tempo is not None:
        return TempoMap(tempos=[tempo], **meter)
    changes = {int(change.time): float(change.qpm) for change in score.tempos}
    ticks, tempos = np.array([*changes], np.float64), np.array([*changes.values()])
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(ticks) / per_beat * 60 / tempos[:-1])])
    return TempoMap(seconds=seconds, tempos=tempos, **meter)
