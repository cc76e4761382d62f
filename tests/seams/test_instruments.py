"""An instrument is as much a part of a note as its pitch: nothing drops it in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.bundle import Bundle, load
from notelstm.data import Corpus, Folder, encode_corpus, find_duplicates
from notelstm.data.splits import content_key
from notelstm.encoders import BeatEncoder, LogTimeEncoder, PerformanceEventEncoder
from notelstm.encoders.rows import rows_after, watch_changes
from notelstm.errors import EncodingError
from notelstm.evaluation.grid import quantize
from notelstm.fields import Field, Rows
from notelstm.generation import Session, generate, stream
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Note, Notes, TempoMap
from notelstm.parts import By, Part, PartMap, Unknown
from notelstm.protocols import NoteEncoder
from notelstm.recipes import expressive
from notelstm.recipes.recipe import ModelSpec
from notelstm.sampling import Ancestral
from notelstm.testing import strategies
from notelstm.tracker import Tone

NAMES = ("program", "drum", "track")
FIELDS = tuple(
    Field.categorical(name, "other", values=range(size))
    for name, size in zip(NAMES, (128, 2, 16), strict=True)
)


class Orchestral:
    """The fields of ``LogTimeEncoder``, and one each for program, percussion and track."""

    fields = (*LogTimeEncoder().fields, *FIELDS)

    def encode(self, notes: Notes) -> Rows:
        zeros = np.zeros(len(notes))
        columns = [getattr(notes, name) for name in NAMES]
        rows = [LogTimeEncoder().encode(notes), *(zeros if c is None else c for c in columns)]
        return np.column_stack(rows).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        program, drum, track = rows[:, 4:].astype(np.int64).T
        notes = LogTimeEncoder().decode(rows[:, :4])
        return replace(notes, program=program, drum=drum > 0, track=track)


def orchestra(n: int = 40, seed: int = 0) -> Notes:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(1, 5, n) / 10)
    return Notes(
        start=start,
        end=start + 0.3,
        pitch=rng.integers(40, 90, n),
        program=rng.integers(0, 128, n),
        drum=rng.random(n) < 0.3,
        track=rng.integers(0, 16, n),
    )


def same_instruments(a: Notes, b: Notes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


def bundle(encoder: LogTimeEncoder | Orchestral) -> Bundle:
    model = NoteLSTM(fields=encoder.fields, hidden_size=4).eval()
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def test_fed_notes_keep_their_instruments(caplog: pytest.LogCaptureFixture) -> None:
    made, piece = bundle(Orchestral()), orchestra()
    session = Session(made.generation_model, made.encoder, made.sampler, batch_size=2)
    for part in (piece[:10], piece[10:], piece[:0]):
        session.feed(part)
    for tracker in session.trackers:
        assert same_instruments(tracker.notes(), piece)
    new = generate(made, 20, prompt=piece, seed=1)
    assert same_instruments(piece.continued(new)[: len(piece)], piece)
    assert same_instruments(piece.continued(new)[len(piece) :], new)
    assert new.program is not None
    assert len(set(new.program.tolist())) > 3, "the model drew programs of its own"
    assert caplog.text == ""


@given(strategies.notes(instruments=True))
def test_the_grid_of_the_evaluation_keeps_instruments(piece: Notes) -> None:
    marked = replace(piece, track=np.arange(len(piece)))
    snapped = quantize(marked)
    assert snapped.track is not None
    for name in ("pitch", "velocity", "program", "drum"):
        column = getattr(piece, name)
        if column is not None:
            np.testing.assert_array_equal(getattr(snapped, name), column[snapped.track])


@pytest.mark.parametrize("name", NAMES)
def test_a_fingerprint_tells_instruments(name: str) -> None:
    recipe, piece = expressive(hidden_size=4), orchestra(100)
    recipe = replace(recipe, training=replace(recipe.training, epochs=0))
    recipe = replace(recipe, transforms=(), batch_size=4)
    plain = replace(piece, program=None, drum=None, track=None)
    zeros = np.zeros(100, np.int64)
    silent = replace(plain, program=zeros, drum=zeros > 0, track=zeros)
    prints = [
        recipe.train([p]).data.fingerprint
        for p in (plain, silent, replace(plain, **{name: getattr(piece, name)}))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_one_warning_for_each_run_of_an_encoder_without_instruments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    piano = orchestra(60)
    piano = replace(piano, program=np.full(60, 7), drum=np.zeros(60, np.bool_))
    message = "LogTimeEncoder does not encode instruments: in {} of {} pieces"
    generate(bundle(LogTimeEncoder()), 3, prompt=piano)
    recipe = replace(expressive(hidden_size=4), transforms=())
    recipe.encode([piano, piano])
    assert caplog.text == ""
    generate(bundle(LogTimeEncoder()), 3, prompt=orchestra())
    assert caplog.messages == [
        f"{message.format(1, 1)}, notes of several programs or percussion are "
        "encoded as notes of one instrument"
    ]
    caplog.clear()
    drums = replace(piano, drum=np.arange(60) == 3)
    recipe.encode([piano, drums, orchestra(60), piano])
    assert len(caplog.messages) == 1
    assert message.format(2, 4) in caplog.text


@given(st.lists(strategies.notes(max_notes=5, instruments=True), max_size=4))
def test_watched_pieces_pass_unchanged(pieces: Sequence[Notes]) -> None:
    for encoder in (PerformanceEventEncoder(), Orchestral()):
        passed: Iterator[Notes] = watch_changes(pieces, encoder)
        assert all(a is b for a, b in zip(passed, pieces, strict=True))


def with_parts(name: str, parts: PartMap) -> NoteEncoder:
    """The encoder of a name, with parts."""
    if name == "log-time":
        return LogTimeEncoder(exact=True, parts=parts)
    return BeatEncoder(parts=parts) if name == "beat" else PerformanceEventEncoder(parts=parts)


@pytest.mark.parametrize("name", ["log-time", "beat", "performance-event"])
def test_notes_of_no_part_are_counted(name: str, caplog: pytest.LogCaptureFixture) -> None:
    band = (Part(name="Piano"), Part(name="Kit", drum=True))
    piece = Notes(start=range(4), end=5, pitch=60, program=[0, 9, 40, 0], drum=[0, 0, 0, 1])
    rules: tuple[tuple[Unknown, str], ...] = (
        ("nearest", "encoded as notes of the nearest part"),
        ("other", "encoded as the class 'other'"),
        ("refuse", "refused with their pieces"),
    )
    for unknown, rule in rules:
        caplog.clear()
        encoder = with_parts(name, PartMap(parts=band, unknown=unknown))
        assert len(list(watch_changes([piece, piece[:1], piece[3:]], encoder))) == 3
        assert caplog.messages == [
            "2 of 6 notes are of instruments that are no part of the model (Piano, Kit); "
            f"such notes are {rule}"
        ]
        caplog.clear()
        list(watch_changes([piece[:1], piece[3:]], encoder))
        assert caplog.text == "", "no warning without unknown notes"


def test_percussion_without_a_part_is_refused_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = with_parts("log-time", PartMap(parts=(Part(name="Piano"),)))
    drums = Notes(start=[0], end=[1], pitch=[36], drum=[True])
    assert len(list(watch_changes([drums], encoder))) == 1
    assert caplog.messages[0].endswith("nearest part, percussion is refused with its pieces")
    caplog.clear()
    assert (
        len(list(watch_changes([Notes(start=[0], end=[1], pitch=[36], program=[9])], encoder))) == 1
    )
    assert caplog.messages[0].endswith("nearest part")
    with pytest.raises(EncodingError, match=r"no part is percussion .*Leave percussion out"):
        encoder.encode(drums)


def band_piece(seed: int, *, n: int = 200) -> Notes:
    """A melody over a bass, in another range each, and a drum on every beat."""
    rng = np.random.default_rng(seed)
    beat = np.arange(n) * 0.25
    parts = [
        Notes(start=beat, end=beat + 0.2, pitch=rng.integers(72, 84, n), program=40, track=0),
        Notes(start=beat, end=beat + 0.25, pitch=rng.integers(36, 43, n), program=33, track=1),
        Notes(start=beat, end=beat + 0.1, pitch=np.resize([36, 38], n), drum=True, track=2),
    ]
    whole = Notes.merge([replace(part, drum=part.drum) for part in parts])
    names = ("Lead", "Bass", "Kit")
    return replace(whole, track_names=names, tempo_map=TempoMap(tempos=[120]))


ROWS_IN_SECONDS: list[tuple[str, By]] = [
    ("log-time", "name"),
    ("log-time", "track"),
    ("log-time", "program"),
]
BANDS: list[tuple[str, By]] = [*ROWS_IN_SECONDS, ("beat", "track"), ("performance-event", "name")]
NOTE_ORDER = ("step", "instrument", "pitch", "velocity", "duration")
ORDERS = {
    "log-time": NOTE_ORDER,
    "beat": ("time_signature", "step", "position", "tempo", *NOTE_ORDER[1:]),
    "performance-event": ("event",),
}


@pytest.fixture(scope="module", params=BANDS, ids="-".join)
def band_bundle(request: pytest.FixtureRequest) -> Bundle:
    """A tiny model of three parts, trained for seconds."""
    pieces = [band_piece(seed) for seed in range(6)]
    # A memory is of rows of notes, and these are also of events.
    recipe = expressive(hidden_size=24, memory_window=0)
    name, by = request.param
    encoder = with_parts(name, PartMap.from_pieces(pieces, by=by))
    spec = recipe.model
    assert isinstance(spec, ModelSpec)
    order = ORDERS[name]
    recipe = replace(
        recipe,
        encoder=encoder,
        transforms=recipe.transforms if name == "log-time" else (),
        model=replace(spec, settings={**spec.settings, "field_order": order}),
        batch_size=4,
        min_steps_per_epoch=0,
        training=replace(recipe.training, epochs=12, learning_rate=0.02, warmup_steps=5),
    )
    return recipe.train(pieces)


# One process trains the bands.
BANDS_ARE_TRAINED = pytest.mark.xdist_group("bands")


def ranges(notes: Notes) -> dict[str, set[int]]:
    """The pitches of each track, by its name."""
    assert notes.track is not None
    assert notes.track_names is not None
    return {
        name: set(notes.pitch[notes.track == k].tolist())
        for k, name in enumerate(notes.track_names)
    }


@BANDS_ARE_TRAINED
def test_a_trained_band_plays_and_is_written(band_bundle: Bundle, tmp_path: Path) -> None:
    music = generate(band_bundle, 300, seed=1, temperature=0.7)
    assert music.drum is not None
    assert music.program is not None
    played = ranges(music)
    part_map = band_bundle.encoder.parts  # type: ignore[attr-defined]
    lead, bass = (
        next(p.name for p in part_map.classes if (p.drum, p.program) == which)
        for which in ((False, 40), (False, 33))
    )
    assert all(played.values()), "every part plays"
    assert np.median([*played[bass]]) < 60 < np.median([*played[lead]])
    share = np.isin(music.pitch[music.drum], [36, 38]).mean()
    assert share > 0.8, "drum keys are those of the corpus"
    # Written and read back: the same notes with their instruments and names.
    write_midi(music, tmp_path / "a.mid", short="lengthen")
    again = read_midi(tmp_path / "a.mid", ReadPolicy(tracks="all", drums=True))
    assert again.track_names == (music.track_names or ())
    assert ranges(again) == played
    assert again.program is not None
    assert again.drum is not None
    assert again.track is not None
    for number, part in enumerate(part_map.classes):
        mine = again.track == number
        assert set(again.program[mine].tolist()) == {part.program}
        assert set(again.drum[mine].tolist()) == {part.drum}


def played(notes: Notes) -> list[tuple[float, ...]]:
    """Onset, pitch and instrument of each note, sorted."""
    columns = [getattr(notes, name) for name in ("pitch", *NAMES)]
    return sorted(zip(notes.start.round(6).tolist(), *(c.tolist() for c in columns), strict=True))


@BANDS_ARE_TRAINED
def test_a_band_is_saved_streamed_and_continued(band_bundle: Bundle, tmp_path: Path) -> None:
    band_bundle.save(tmp_path / "band.notelstm")
    loaded = load(tmp_path / "band.notelstm")
    assert loaded.encoder == band_bundle.encoder
    music = generate(loaded, 40, seed=3)
    assert music == generate(band_bundle, 40, seed=3)
    streamed = Notes.of(stream(loaded, num_notes=40, seed=3), track_names=music.track_names)
    # Events are streamed in the order of their ends.
    assert played(streamed) == played(music)
    prompt = band_piece(9)[:60]
    new = generate(loaded, 40, prompt=prompt, seed=1)
    whole = prompt.continued(new)
    assert whole.track_names == prompt.track_names, "the parts go on in their tracks"
    assert same_instruments(whole[: len(prompt)], prompt)


@BANDS_ARE_TRAINED
@pytest.mark.parametrize(
    "band_bundle", [("log-time", "track"), ("beat", "track")], indirect=True, ids="-".join
)
def test_a_forced_instrument_plays_after_a_prompt(band_bundle: Bundle) -> None:
    prompt = band_piece(9)[:30]
    session = Session(
        band_bundle.generation_model, band_bundle.encoder, band_bundle.sampler, batch_size=1
    )
    session.feed(band_bundle.encoder.encode(prompt))
    (tracker,) = session.trackers
    assert same_instruments(tracker.notes(), prompt)
    wanted = [2, 1, 0, 0, 1, 2] * 5
    for instrument in wanted:
        session.next(instrument=instrument)
    (tracker,) = session.trackers
    assert [tone.instrument for _, tone in tracker.latest(30)] == wanted
    # A part that is not above the last one can only play later.
    latest = [(onset, tone.instrument, tone.pitch) for onset, tone in tracker.latest(30)]
    assert latest == sorted(set(latest))


# Single notes have no tempo map, and no one event is a note.
@BANDS_ARE_TRAINED
@pytest.mark.parametrize("band_bundle", ROWS_IN_SECONDS, indirect=True, ids="-".join)
def test_a_fed_note_is_of_its_part(band_bundle: Bundle) -> None:
    session = Session(
        band_bundle.generation_model, band_bundle.encoder, band_bundle.sampler, batch_size=1
    )
    parts = session.trackers[0].parts
    fed = [
        Note(0.25 * i, 0.25 * i + 2, 60, 90, part.program, part.drum, i)
        for i, part in enumerate(parts)
    ]
    for note in fed:
        session.feed(note)
    tracker = session.trackers[0]
    assert tracker.sounding(0.6) == {Tone(60, k) for k in range(3)}
    assert [tone for _, tone in tracker.latest(9)] == [Tone(60, k) for k in range(3)]
    session.undo(1)
    assert session.trackers[0].sounding(0.6) == {Tone(60, 0), Tone(60, 1)}
    session.restore(session.snapshot())
    session.next(instrument=2)
    assert session.trackers[0].latest(1)[0][1].instrument == 2
    popped = [note for _, note in session.pop_finished()[0]]
    assert [(n.program, n.drum, n.track) for n in popped] == [
        (parts[k].program, parts[k].drum, k) for k in range(3)
    ]


@given(
    strategies.notes(min_notes=2, longest_rest=1.0, durations=(0.1, 3.0), instruments=True),
    st.integers(1, 10),
)
def test_notes_fed_in_pieces_keep_their_instruments(piece: Notes, cut: int) -> None:
    parts = PartMap.from_pieces([piece], by="program")
    encoder = LogTimeEncoder(exact=True, parts=parts)
    rows = [rows_after(0.0, piece[:cut], encoder), rows_after(0.0, piece, encoder)]
    for got, notes in zip(rows, (piece[:cut], piece), strict=True):
        back, wanted = encoder.decode(got), encoder.snapped(notes)
        assert wanted is not None
        classes = parts.classes_of(wanted)
        assert back.track is not None
        assert sorted(zip(back.track, back.pitch, strict=True)) == sorted(
            zip(classes, wanted.pitch, strict=True)
        )


def test_percussion_is_not_transposed_where_rows_have_another_order() -> None:
    piece = band_piece(0, n=40)
    encoder = LogTimeEncoder(exact=True, parts=PartMap.from_pieces([piece], by="track"))
    recipe = replace(expressive(hidden_size=4), encoder=encoder, shuffle=False, batch_size=1)
    # Here drums come last in a chord, but first in the rows.
    assert piece.track is not None
    turned = replace(piece, track=2 - piece.track)
    encoder = LogTimeEncoder(exact=True, parts=PartMap.from_pieces([turned], by="track"))
    recipe = replace(recipe, encoder=encoder)
    rows = encoder.encode(turned)
    drum = rows[:, 4] == 0
    moved = set()
    for number in range(12):
        batches = recipe.batches([rows], pieces=[turned])
        got = np.concatenate(
            [b.rows[0].numpy()[k > 0 :] for k, b in enumerate(batches.epoch(number))]
        )[: len(rows)]
        np.testing.assert_array_equal(got[drum], rows[drum])
        moved |= set((got - rows)[~drum, 0].tolist())
    assert len(moved) > 3


def test_a_corpus_keeps_instruments_and_warns_when_encoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_midi(orchestra(), tmp_path / "music" / "a.mid")
    policy = ReadPolicy(tracks="all", drums=True)
    corpus = Corpus.open(
        Folder(path=tmp_path / "music"), policy=policy, cache=tmp_path / "cache", progress=False
    )
    found, piece = corpus[0], orchestra()
    assert found.program is not None
    assert piece.program is not None
    np.testing.assert_array_equal(found.by_pitch().program, piece.by_pitch().program)
    np.testing.assert_array_equal(found.by_pitch().drum, piece.by_pitch().drum)
    encode_corpus(corpus, LogTimeEncoder(), cache=tmp_path / "cache", progress=False)
    assert "in 1 of 1 pieces" in caplog.text


def test_a_key_of_the_content_keeps_percussion() -> None:
    piece = orchestra(80)
    assert piece.drum is not None
    higher = replace(piece, pitch=piece.pitch + np.where(piece.drum, 0, 5))
    all_higher = replace(piece, pitch=piece.pitch + 5)
    assert content_key(piece) == content_key(higher)
    assert content_key(piece) != content_key(all_higher)
    plain = replace(piece, drum=None)
    assert content_key(plain) == content_key(replace(piece, drum=np.zeros(80, np.bool_)))
    assert content_key(plain) != content_key(piece)
    (leak,) = find_duplicates([("a", piece), ("b", higher), ("c", orchestra(80, seed=5))])
    assert (leak.kind, leak.semitones) == ("transposition", 5)


def test_a_recipe_transposes_all_but_percussion() -> None:
    recipe = expressive(hidden_size=4)
    recipe = replace(recipe, encoder=LogTimeEncoder(), stateful=True, shuffle=False, batch_size=1)
    piece = orchestra(100)
    rows = [recipe.encoder.encode(piece)]
    assert piece.drum is not None
    moved = set()
    for number in range(12):
        batches = recipe.batches(rows, pieces=[piece])
        got = np.concatenate(
            [b.rows[0].numpy()[k > 0 :] for k, b in enumerate(batches.epoch(number))]
        )
        pitch = got[:100, 0].astype(np.int64)
        np.testing.assert_array_equal(pitch[piece.drum], piece.pitch[piece.drum])
        moved |= set((pitch - piece.pitch)[~piece.drum].tolist())
    assert len(moved) > 3
