"""MidiTokEncoder: the contract, and the same notes as MidiTok itself gives back."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm import plugins
from notelstm.bundle import load
from notelstm.encoders import MidiTokEncoder
from notelstm.encoders.miditok import _vocabulary_of
from notelstm.errors import ConfigError, EncodingError
from notelstm.evaluation import nats_per_note
from notelstm.generation import generate
from notelstm.midi import write_midi
from notelstm.notes import Notes, TempoMap
from notelstm.recipes import expressive, with_settings
from notelstm.sampling import PitchRange
from notelstm.testing import check_encoder, long_piece, strategies
from notelstm.testing.makers import without_overlaps

if TYPE_CHECKING:
    from miditok import MusicTokenizer

miditok = pytest.importorskip("miditok")

RESOLUTION = {(0, 12): 8}
"""Ticks per beat of a duration up to 12 beats."""
TICK = 60 / 120 / 8
"""Seconds, at 120 quarter notes per minute."""
LONGEST = 12 * 8 * TICK
NAMES = ("REMI", "TSD", "MIDILike", "Structured")
OPTIONS: dict[str, dict[str, Any]] = {
    "piano": {},
    "rests": {"use_rests": True, "beat_res_rest": {(0, 2): 4, (2, 12): 2}},
    "all": {
        "use_programs": True,
        "use_rests": True,
        "use_tempos": True,
        "use_time_signatures": True,
    },
}
PIANO = ("piano", "rests")
"""Those without programs."""


BASE: dict[str, dict[str, Any]] = {name: {} for name in NAMES} | {"MMM": {"base_tokenizer": "TSD"}}
SMALL = {"head_size": 8, "embedding_dim": 8, "sounding_features": False, "memory_window": 0} | {
    "field_order": None
}


def tokenizer_of(encoder: MidiTokEncoder) -> MusicTokenizer:
    return _vocabulary_of(encoder.tokenizer, encoder.saved).tokenizer


def encoder_of(name: str, **settings: Any) -> MidiTokEncoder:
    config = miditok.TokenizerConfig(pitch_range=(0, 127), beat_res=RESOLUTION, **settings)
    return MidiTokEncoder.of(getattr(miditok, name)(config), tempo=120.0)


def duration_error(piece: Notes) -> NDArray[np.float64]:
    """Half a tick at each end, the shortest duration, and what is beyond the longest."""
    return np.maximum(1.01 * TICK, piece.duration - LONGEST + TICK)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, "piano") for name in NAMES),
        *((name, "all") for name in NAMES if name != "Structured"),
        ("REMI", "rests"),
    ],
)
def test_contract(name: str, options: str) -> None:
    pieces = strategies.notes(
        max_notes=6, longest_rest=3.0, overlaps=False, durations=(2.1 * TICK, 5.5)
    )
    piece = long_piece(np.random.default_rng(0), count=20, seconds=4)
    drum = Notes(start=[0], end=[1], pitch=[60], drum=[True])
    check_encoder(
        encoder_of(name, **OPTIONS[options]),
        onset_tolerance=1.01 * TICK,
        duration_tolerance=duration_error,
        velocity_tolerance=127,
        keeps_order=False,
        pieces=pieces,
        hour=without_overlaps(piece, TICK),
        refuses=[drum] * (options in PIANO),
        examples=3,
    )


BAND = st.lists(
    st.tuples(
        st.integers(0, 80), st.integers(1, 40), st.integers(36, 80), st.sampled_from([0, 32, -1])
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda note: (note[2], note[3]),
)


def band_of(notes: list[tuple[int, int, int, int]]) -> Notes:
    start, ticks, pitch, program = map(np.array, zip(*sorted(notes), strict=True))
    return Notes(
        start=start * TICK,
        end=(start + ticks) * TICK,
        pitch=pitch,
        velocity=100,
        program=np.maximum(program, 0),
        drum=program < 0,
    )


def columns_of(notes: Notes) -> list[tuple[float, float, int, int, int, bool]]:
    program, drum = notes.program, notes.drum
    assert program is not None
    assert drum is not None
    columns = (notes.start, notes.end, notes.pitch, notes.velocity, program, drum)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("name", [*NAMES, "MMM"])
@settings(max_examples=15, deadline=None)
@given(BAND)
def test_notes_come_back_as_miditok_decodes_them(
    name: str, notes: list[tuple[int, int, int, int]]
) -> None:
    """Programs and drums too, and tracks one after another."""
    encoder = encoder_of(name, use_programs=True, **BASE[name])
    tokenizer, piece = tokenizer_of(encoder), band_of(notes)
    score: Any = symusic.Score(tokenizer.time_division)
    tick = 60 / 120 / score.ticks_per_quarter
    for program in (0, 32, -1):
        track: Any = symusic.Track(program=max(0, program), is_drum=program < 0)
        for start, end, pitch, velocity, *of in columns_of(piece):
            if of == [max(0, program), program < 0]:
                ticks = round(start / tick), round((end - start) / tick)
                track.notes.append(symusic.Note(*ticks, pitch, velocity))
        if track.notes:
            score.tracks.append(track)
    theirs = tokenizer.decode(tokenizer.encode(score))
    expected = sorted(
        (n.time * tick, n.end * tick, n.pitch, n.velocity, t.program, t.is_drum)
        for t in theirs.tracks
        for n in t.notes
    )
    assert columns_of(encoder.decode(encoder.encode(piece))) == expected


def test_notes_on_the_grid_are_exact() -> None:
    """As the peers are compared: 10 ms, MIDI-like tokens, a token for each velocity."""
    config = miditok.TokenizerConfig(
        pitch_range=(0, 127), beat_res={(0, 100): 100}, num_velocities=127
    )
    encoder = MidiTokEncoder.of(miditok.MIDILike(config), tempo=60.0)
    cells = np.random.default_rng(0).integers(0, 400, 30)
    start = np.sort(cells) * 0.01
    piece = without_overlaps(
        Notes(start=start, end=start + 0.37, pitch=np.arange(40, 70), velocity=np.arange(40, 70))
    )
    back = encoder.decode(encoder.encode(piece))
    order = np.lexsort((back.pitch, back.start)), np.lexsort((piece.pitch, piece.start))
    for name in ("start", "end", "pitch", "velocity"):
        ours, theirs = (getattr(n, name)[o] for n, o in zip((back, piece), order, strict=True))
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MidiTokEncoder:
    """An encoder with a vocabulary of byte pairs."""
    files = []
    for seed in range(3):
        path = tmp_path_factory.mktemp("pieces") / f"{seed}.mid"
        write_midi(long_piece(np.random.default_rng(seed), count=80, seconds=20), path)
        files.append(path)
    tokenizer = miditok.REMI(miditok.TokenizerConfig(pitch_range=(0, 127), beat_res=RESOLUTION))
    tokenizer.train(vocab_size=len(tokenizer) + 60, files_paths=files)
    return MidiTokEncoder.of(tokenizer, tempo=120.0)


def test_trained_vocabulary(trained: MidiTokEncoder) -> None:
    """Fewer rows, the same notes, and sampled ids that can be decoded."""
    piece = long_piece(np.random.default_rng(0), count=80, seconds=20)
    plain, rows = encoder_of("REMI"), trained.encode(piece)
    assert len(rows) < 0.95 * len(plain.encode(piece))
    assert trained.decode(rows) == plain.decode(plain.encode(piece))
    assert plugins.build(plugins.describe(trained)) == trained
    rng, tracker = np.random.default_rng(1), trained.tracker()
    for _ in range(80):
        allowed = np.asarray(tracker.allowed(trained.fields[0], {}))
        tracker.push(np.array([rng.choice(np.flatnonzero(allowed))], np.float32))
    assert len(tracker.notes()) == tracker.num_notes


def test_train_generate_score(tmp_path: Path) -> None:
    """A model of tokens, saved and loaded, steered by the pitches of its tokens, and scored."""
    encoder = encoder_of("TSD")
    pieces = [long_piece(np.random.default_rng(k), count=60, seconds=15) for k in range(3)]
    recipe = with_settings(
        replace(expressive(hidden_size=16, epochs=1), encoder=encoder),
        {"batch_size": 2, "sequence_length": 16, "model": SMALL, "transforms": "none"},
    )
    recipe.train(pieces).save(tmp_path / "tokens.notelstm")
    bundle = load(tmp_path / "tokens.notelstm")
    assert bundle.encoder == encoder
    made = generate(bundle, 12, seed=1, processors=[PitchRange(low=60, high=72)])
    assert len(made) == 12
    assert ((made.pitch >= 60) & (made.pitch <= 72)).all()
    assert made.drum is None
    assert (np.diff(made.start) >= 0).all()
    scores = nats_per_note(bundle.generation_model, encoder, pieces)
    assert scores.notes == 3 * 35
    assert scores.total is not None
    assert scores.of("pitch") is None


def test_pieces_keep_their_tempos_with_tempo_tokens() -> None:
    tempo_map = TempoMap(seconds=[0, 2], tempos=[120, 60])
    config = miditok.TokenizerConfig(use_tempos=True, tempo_range=(60, 120), num_tempos=2)
    encoder = MidiTokEncoder.of(miditok.TSD(config))
    piece = Notes(start=[0, 3, 4], end=[1, 4, 5], pitch=60, tempo_map=tempo_map)
    back = encoder.decode(encoder.encode(piece))
    np.testing.assert_allclose(back.start, piece.start)
    np.testing.assert_allclose(back.end, piece.end)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tokenizer": "Remy"}, "no tokenizer 'Remy'.*REMI"),
        ({"tokenizer": "Octuple"}, "several ids per row"),
        ({"tokenizer": "PerTok"}, "MidiTok (rejects|does not state)"),
        ({"saved": "{}}"}, "MidiTok rejects these settings of REMI"),
        ({"tempo": 0.0}, "tempo 0.0 is not"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MidiTokEncoder(**changes)


def test_pitch_intervals_are_refused() -> None:
    config = miditok.TokenizerConfig(use_pitch_intervals=True)
    with pytest.raises(ConfigError, match="pitch intervals"):
        MidiTokEncoder.of(miditok.REMI(config))


@pytest.mark.parametrize(
    ("note", "problem"),
    [
        ({"pitch": [60, 20]}, r"pitch 20 is outside .* 21 to 109.*note 1"),
        ({"pitch": 60, "program": [0, 5]}, r"program 5 is none of.*note 1"),
        ({"pitch": 120, "drum": [True, True]}, r"pitch 120 is outside.*27 to 88.*note 0"),
    ],
)
def test_notes_that_miditok_would_leave_out_are_refused(note: dict[str, Any], problem: str) -> None:
    config = miditok.TokenizerConfig(use_programs=True, programs=[-1, 0])
    encoder = MidiTokEncoder.of(miditok.TSD(config))
    with pytest.raises(EncodingError, match=problem):
        encoder.encode(Notes(start=[0, 1], end=2, **note))


def test_special_tokens_are_refused() -> None:
    encoder = encoder_of("REMI")
    ids = tokenizer_of(encoder).special_tokens_ids
    with pytest.raises(EncodingError, match=r"PAD_None is a special token \(row 0\)"):
        encoder.decode(np.array([[ids[0]]], np.float32))
    allowed = np.asarray(encoder.tracker().allowed(encoder.fields[0], {}))
    assert not allowed[ids].any()


@pytest.mark.parametrize("enabled", [True, False])
def test_no_collection_runs_while_miditok_decodes(enabled: bool) -> None:
    """The collector is then as it was, also after an error."""
    encoder = encoder_of("MIDILike", use_programs=True)
    rows = encoder.encode(long_piece(np.random.default_rng(0), count=20, seconds=4))
    vocabulary = _vocabulary_of(encoder.tokenizer, encoder.saved)
    (gc.enable if enabled else gc.disable)()
    try:
        before = [generation["collections"] for generation in gc.get_stats()]
        for _ in range(3):
            vocabulary.decode(rows[:, 0].astype(int).tolist())
        during = [generation["collections"] for generation in gc.get_stats()]
        assert during[0] - before[0] <= 3, "16,512 lists are 23 collections"
        assert gc.isenabled() == enabled
        with pytest.raises(KeyError):
            vocabulary.decode([10**6])
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
