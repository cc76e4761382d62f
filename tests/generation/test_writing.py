"""Tasks that write between given notes: ``infill``, ``accompany`` and ``vary``."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from notelstm.bundle import Bundle
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.errors import ConfigError, DataError
from notelstm.generation import Session
from notelstm.generation.rows import RowSampler
from notelstm.generation.writing import (
    WritingTask,
    accompany,
    can_write,
    infill,
    read_first,
    vary,
    write_batch,
)
from notelstm.labels import Label, LabelMap
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.sampling import Ancestral, Greedy, Scale
from notelstm.testing.makers import long_piece

ALL = ReadPolicy(tracks="all", drums=True)
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
BAND = PartMap(
    by="name",
    parts=(*(Part(name=name, program=52) for name in VOICES), Part(name="Drums", drum=True)),
)
COLUMNS = ("start", "end", "pitch", "velocity", "program", "drum", "track")


def bundle(
    parts: PartMap | None = None,
    *,
    busy: float = 0.0,
    seconds: float = 2.0,
    cell: float = 0.01,
    conditions: LabelMap | None = None,
) -> Bundle:
    """A tiny untrained model; the more `busy`, the shorter are its steps."""
    inner = LogTimeEncoder(
        exact=True, cell=cell, linear=seconds, parts=parts, conditions=conditions
    )
    encoder = AnticipatingEncoder(inner=inner, seconds=seconds)
    torch.manual_seed(0)
    order = ("step", "instrument", "pitch", "duration", "velocity")
    model = NoteLSTM(
        fields=encoder.fields,
        field_order=[name for name in order if name != "instrument" or parts is not None],
        hidden_size=8,
        embedding_dim=4,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        bias = cast(nn.Linear, model.heads["step"].get_submodule("2")).bias
        bias.copy_(bias - torch.arange(len(bias)) * busy / 10)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral(), read_policy=ALL)


PIANO, SONGS = bundle(busy=0.6), bundle(BAND, busy=0.6)


def chorale(seed: int = 0, beats: int = 16) -> Notes:
    """Four voices in quarter notes at 120 per minute, and a drum."""
    rng = np.random.default_rng(seed)
    start = np.repeat(0.5 * np.arange(beats), 5)
    low = np.tile([67, 60, 52, 43, 36], beats)
    return Notes(
        start=start,
        end=start + 0.5,
        pitch=low + rng.integers(0, 5, len(start)),
        velocity=rng.integers(40, 120, len(start)),
        program=np.tile([52, 52, 52, 52, 0], beats),
        drum=np.tile([False] * 4 + [True], beats),
        track=np.tile(range(5), beats),
        track_names=[*VOICES, "Drums"],
        tempo_map=TempoMap(
            seconds=[0, 3], tempos=[120, 90], time_signature_beats=[0], numerators=[3],
            denominators=[4],
        ),
    )  # fmt: skip


CHORALE = chorale()
TRACK = np.tile(range(5), 16)
PLAYED = replace(long_piece(np.random.default_rng(0), count=60, seconds=16), track_names=None)


def listed(notes: Notes, columns: tuple[str, ...] = COLUMNS) -> Counter[Any]:
    """The notes with exact values, as a multiset."""
    found = [getattr(notes, name) for name in columns]
    return Counter(zip(*(c.tolist() for c in found if c is not None), strict=True))


def assert_given(whole: Notes, kept: Notes) -> None:
    assert not listed(kept) - listed(whole)
    assert whole.tempo_map == kept.tempo_map
    assert (whole.track_names or ())[: len(kept.track_names or ())] == (kept.track_names or ())


def assert_fits(whole: Notes, kept: Notes, start: float, end: float) -> Notes:
    """The new notes, which begin in the span and do not overlap another note of their tone."""
    left = listed(whole) - listed(kept)
    new = whole[np.array([left[row] > 0 for row in _rows(whole)], np.bool_)]
    assert ((new.start >= start) & (new.start < end)).all()
    assert (new.duration > 1e-3).all()
    for k in range(len(new)):
        same = whole.pitch == new.pitch[k]
        if whole.track is not None:
            assert new.track is not None
            same &= whole.track == new.track[k]
        others = whole[same]
        overlaps = (others.start < new.end[k] - 1e-9) & (others.end > new.start[k] + 1e-9)
        assert overlaps.sum() == 1, "the note itself"
    return new


def _rows(notes: Notes) -> list[Any]:
    found = [getattr(notes, name) for name in COLUMNS]
    return list(zip(*(c.tolist() for c in found if c is not None), strict=True))


def test_a_gap_is_filled() -> None:
    before = PLAYED[PLAYED.start < 6]
    after = PLAYED[PLAYED.start >= 10]
    known = PLAYED[(PLAYED.start < 6) | (PLAYED.start >= 10)]
    whole = infill(PIANO, known, 6, 10, seed=1)
    assert_given(whole, known)
    new = assert_fits(whole, known, 6, 10)
    assert len(new) > 5
    assert len(whole) == len(before) + len(after) + len(new)
    assert infill(PIANO, known, 6, 10, seed=1) == whole
    assert infill(PIANO, known, 6, 10, seed=2) != whole


def test_notes_in_the_gap_stay_and_vary_leaves_them_out() -> None:
    whole = infill(PIANO, PLAYED, 6, 10, seed=1)
    assert_given(whole, PLAYED)
    assert len(assert_fits(whole, PLAYED, 6, 10)) > 5
    known = PLAYED[(PLAYED.start < 6) | (PLAYED.start >= 10)]
    assert vary(PIANO, PLAYED, 6, 10, seed=1) == infill(PIANO, known, 6, 10, seed=1)


def test_what_follows_the_gap_changes_the_notes_in_it() -> None:
    known = PLAYED[(PLAYED.start < 6) | (PLAYED.start >= 10)]
    other = replace(known, pitch=np.where(known.start >= 10, (known.pitch + 30) % 128, known.pitch))
    assert listed(infill(PIANO, known, 6, 10, seed=1)) - listed(known) != (
        listed(infill(PIANO, other, 6, 10, seed=1)) - listed(other)
    )


def rows_read(monkeypatch: pytest.MonkeyPatch, model: Bundle, task: WritingTask) -> Any:
    """The rows of one sequence, and what is written."""
    read: list[Any] = []
    feed, advance = Session.feed, Session.advance

    def watched_feed(session: Session, rows: Any) -> None:
        read.append(rows)
        feed(session, rows)

    def watched_advance(session: Session, forced: Any) -> Any:
        rows = advance(session, forced)
        read.append(rows)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(Session, "feed", watched_feed)
        patch.setattr(Session, "advance", watched_advance)
        (written,) = write_batch(model, [task], seed=3)
    return np.concatenate(read), written


@pytest.mark.parametrize("parts", [None, ("Alto", "Bass")])
def test_the_rows_that_are_read_are_those_of_the_result(
    parts: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model reads what follows, and then the same in generation as in training."""
    model, piece = (PIANO, PLAYED) if parts is None else (SONGS, CHORALE)
    task = WritingTask(notes=piece, start=3.0, end=6.0, parts=parts, replace=True)
    rows, written = rows_read(monkeypatch, model, task)
    encoder: Any = model.encoder
    mine = np.ones(len(written.notes), np.bool_)
    if parts is not None:
        mine = np.isin(BAND.classes_of(written.notes), (1, 3))
    is_given = ~mine | ((written.notes.start >= 6.0) & ~written.new)
    front, moved = read_first(piece[piece.start >= 6.0], encoder.cell)
    assert 0 < len(front) < len(piece)
    piece = written.notes.shifted(moved - float(written.notes.start[0]))
    whole = encoder.encode_given(
        replace(Notes.merge([front, piece]), truncated=True),
        np.concatenate([np.zeros(len(front), np.bool_), is_given]),
    )
    # The last row is a note beyond the span, or a rest, which is not in the result. Durations may
    # have been cut at the next note.
    count = len(rows) - 1
    assert count > 20
    duration = [field.name for field in encoder.fields].index("duration")
    same = [k for k in range(rows.shape[1]) if k != duration]
    np.testing.assert_allclose(whole[:count, same], rows[:count, same], atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 1024, 1500])
def test_what_is_read_in_front_ends_before_the_piece(count: int) -> None:
    start = 7.3 + 0.37 * np.arange(count)
    following = Notes(pitch=np.full(count, 60), start=start, end=start + 3.0)
    front, moved = read_first(following, 0.25)
    assert len(front) == min(count, 1024)
    if not count:
        assert moved == 0.0
        return
    np.testing.assert_allclose(front.start, start[:1024] - 7.3)
    assert front.end_time + 2.0 <= moved < front.end_time + 2.25
    assert moved % 0.25 == 0


def test_parts_are_written_in_their_tracks() -> None:
    soprano = CHORALE[np.isin(TRACK, (0,))]
    whole = accompany(SONGS, soprano, parts=["alto", "Bass"], seed=1)
    assert_given(whole, soprano)
    new = assert_fits(whole, soprano, 0, 8)
    assert new.track is not None
    assert set(new.track.tolist()) == {1, 3}
    assert new.program is not None
    assert set(new.program.tolist()) == {52}
    # All parts that are missing.
    missing = CHORALE[np.isin(TRACK, (0, 4))]
    new = assert_fits(accompany(SONGS, missing, seed=1), missing, 0, 8)
    assert new.track is not None
    assert set(new.track.tolist()) == {1, 2, 3}
    # Parts of the piece are replaced.
    whole = accompany(SONGS, CHORALE, parts=["Tenor"], seed=2)
    kept = CHORALE[~np.isin(TRACK, (2,))]
    assert_given(whole, kept)
    assert len(assert_fits(whole, kept, 0, 8)) == len(whole) - len(kept)


def test_only_named_parts_are_filled() -> None:
    whole = vary(SONGS, CHORALE, 2.0, 4.0, parts=["Drums"], seed=3)
    kept = CHORALE[~((TRACK == 4) & (CHORALE.start >= 2) & (CHORALE.start < 4))]
    assert_given(whole, kept)
    new = assert_fits(whole, kept, 2, 4)
    assert new.drum is not None
    assert new.drum.all()


def test_notes_on_a_grid_are_written_on_it() -> None:
    """Also where the span begins between its lines, and before the first note."""
    coarse = bundle(BAND, busy=3.0, cell=0.25)
    for piece, start in ((CHORALE[10:], 0.6), (CHORALE[10:], 2.3), (CHORALE, 0.1)):
        moved = piece.shifted(0.013)
        whole = vary(coarse, moved, start, start + 3, parts=["Alto", "Tenor"], seed=2)
        new = whole[np.array([row not in listed(moved) for row in _rows(whole)], np.bool_)]
        assert len(new) > 3
        lines = (new.start - 0.013) / 0.25
        np.testing.assert_allclose(lines, np.rint(lines), atol=1e-6)


def test_labels_are_those_of_the_piece_or_given() -> None:
    styles = LabelMap(labels=(Label(name="style", values=("jazz", "rock")),))
    model = bundle(busy=0.6, conditions=styles)
    jazz, rock = (replace(PLAYED, labels={"style": style}) for style in ("jazz", "rock"))
    made = [
        vary(model, jazz, 6, 10, seed=1),
        vary(model, PLAYED, 6, 10, seed=1, given={"style": "jazz"}),
        vary(model, rock, 6, 10, seed=1),
        vary(model, PLAYED, 6, 10, seed=1),
    ]
    assert made[0] == made[1]
    assert made[0].labels == {"style": "jazz"}
    assert len({piece.pitch.tobytes() for piece in made}) == 3
    tasks = [WritingTask(notes=n, start=6, end=10, replace=True) for n in (jazz, PLAYED)]
    batch = write_batch(model, tasks, seed=[1, 1], given=[None, {"style": "rock"}])
    assert [written.notes for written in batch] == [made[0], made[2]]


def test_processors_and_samplers_apply() -> None:
    known = PLAYED[(PLAYED.start < 6) | (PLAYED.start >= 10)]
    scale = Scale(name="D dorian")
    each: list[Any] = [{"processors": [scale]}, {"sampler": Ancestral(processors=(scale,))}]
    for settings_ in each:
        new = assert_fits(infill(PIANO, known, 6, 10, **settings_), known, 6, 10)
        assert len(new) > 3
        assert set(new.pitch % 12) <= {2, 4, 5, 7, 9, 11, 0}
    greedy = infill(PIANO, known, 6, 10, sampler=Greedy(), seed=1)
    assert greedy == infill(PIANO, known, 6, 10, sampler=Greedy(), seed=2)
    with pytest.raises(ConfigError, match="has no setting `processors`"):
        infill(PIANO, known, 6, 10, sampler=lambda f, p, noise, c: p.sample(noise))


def test_a_batch_of_tasks_is_each_task_alone() -> None:
    tasks = [
        WritingTask(notes=CHORALE, start=2.0, end=4.0, replace=True),
        WritingTask(notes=CHORALE, start=0.0, end=1.0, parts=("Alto",)),
        WritingTask(notes=chorale(1)[40:], start=7.0, end=12.0, parts=("Drums", "Bass")),
        WritingTask(notes=Notes.empty(), start=1.0, end=3.0),
    ]
    lists: Any = {"seed": [1, 2, 3, 4], "temperature": [None, 0.8, 1.2, None], "num_notes": [9] * 4}
    for best_of in (1, 2):
        made = write_batch(SONGS, tasks, best_of=best_of, **lists)
        for i, task in enumerate(tasks):
            own = {name: values[i] for name, values in lists.items()}
            (alone,) = write_batch(SONGS, [task], best_of=best_of, **own)
            assert alone.notes == made[i].notes
            assert (alone.new == made[i].new).all()
            assert made[i].new.sum() <= 9


def test_a_repeated_task_is_read_and_sampled_as_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    call = RowSampler.__call__

    def counted_call(sample: RowSampler, *arguments: Any) -> Any:
        sizes.append(len(sample.sequences))
        return call(sample, *arguments)

    monkeypatch.setattr(RowSampler, "__call__", counted_call)
    task = WritingTask(notes=PLAYED, start=6, end=8, replace=True)
    made = write_batch(PIANO, [task] * 3, seed=[1, 2, 3])
    assert set(sizes) == {3}
    assert [w.notes for w in made] == [vary(PIANO, PLAYED, 6, 8, seed=seed) for seed in (1, 2, 3)]
    sizes.clear()
    write_batch(PIANO, [task] * 3, temperature=[None, 1.2, None])
    assert set(sizes) == {1, 2}


def test_best_of_compares_the_new_notes_alone() -> None:
    """The nats of given notes, and of the prompt, are not among those that are compared."""
    known = PLAYED[(PLAYED.start < 6) | (PLAYED.start >= 10)]
    task = WritingTask(notes=known, start=6, end=10)
    several = write_batch(PIANO, [task] * 4, seed=3, num_notes=10)
    nats = [_nats(w.notes, w.new) for w in several]
    (best,) = write_batch(PIANO, [task], seed=3, best_of=4, num_notes=10)
    assert best.notes == several[int(np.argmin(nats))].notes


@torch.no_grad()
def _nats(notes: Notes, new: Any) -> float:
    """The nats of new notes, in one pass over the whole piece."""
    encoder: Any = PIANO.encoder
    is_given = (notes.start >= 10) & (notes.start < 14)
    kept = notes.start < 14
    rows = encoder.encode_given(notes[kept], is_given[kept])
    fields = [field.name for field in encoder.fields]
    table = torch.from_numpy(rows)[None]
    start, state = PIANO.model.initial_state(1)
    contexts, _ = PIANO.model.forward(table, state)
    context: Any = type(start)(
        *(torch.cat([a, b[:, :-1]], 1) for a, b in zip(start, contexts, strict=True))
    )
    known = {name: table[..., fields.index(name)] for name in ("origin", "offset")}
    known["origin"] = known["origin"].long()
    total = torch.zeros(len(rows))
    step = rows[:, fields.index("step")]
    for name in PIANO.model.field_order:
        entries = table[..., fields.index(name)].long()
        prediction: Any = PIANO.model.predict(name, context, known)
        mask = torch.ones(1, len(rows), prediction.logits.shape[-1], dtype=torch.bool)
        total += prediction.constrained(mask).nll(entries)[0]
        known[name] = entries
    written = rows[:, fields.index("origin")] == 0
    clock = np.cumsum(
        np.where(
            written, np.array(encoder.fields[fields.index("step")].values)[step.astype(int)], 0
        )
    )
    mine = written & (clock + notes.start[0] >= 6) & (clock + notes.start[0] < 10)
    return float(total[torch.from_numpy(mine)].sum()) / int(new.sum())


def test_a_model_that_fills_a_gap_without_end_is_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chords = bundle(busy=50.0)
    with caplog.at_level(logging.WARNING):
        whole = infill(chords, PLAYED, 6, 8, seed=1)
    assert len(whole) - len(PLAYED) <= 200
    assert "stops short of 8 s" in caplog.text
    caplog.clear()
    assert len(infill(chords, PLAYED, 6, 8, seed=1, num_notes=7)) <= len(PLAYED) + 7
    assert infill(chords, PLAYED, 6, 8, num_notes=0) == PLAYED
    assert not caplog.text


def test_errors_say_what_is_wrong() -> None:
    plain = LogTimeEncoder(exact=True)
    cannot = replace(PIANO, model=NoteLSTM(fields=plain.fields), encoder=plain)
    assert can_write(PIANO)
    assert not can_write(cannot)
    empty = Notes.empty()
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: infill(cannot, PLAYED, 1, 2), ConfigError, r"\(LogTimeEncoder\). Use a"),
        (lambda: accompany(cannot, PLAYED), ConfigError, "cannot be given notes"),
        (lambda: infill(PIANO, PLAYED, 2, 2), ConfigError, "there is no span from 2 s to 2 s"),
        (lambda: infill(PIANO, PLAYED, -1, 2), ConfigError, "there is no span from -1 s"),
        (lambda: infill(PIANO, PLAYED, 0, np.inf), ConfigError, "there is no span"),
        (lambda: infill(PIANO, "a.mid", 0, 1), ConfigError, r"Call read_midi\(path\)"),  # type: ignore[arg-type]
        (lambda: infill(PIANO, PLAYED, 0, 1, parts=["Alto"]), ConfigError, "has no instruments"),
        (lambda: infill(SONGS, CHORALE, 0, 1, parts=["Altoo"]), ConfigError, "did you mean 'Alto'"),
        (lambda: infill(SONGS, CHORALE, 0, 1, parts=[]), ConfigError, "not names of parts"),
        (lambda: accompany(SONGS, CHORALE), ConfigError, "has all parts of the model. Name"),
        (lambda: accompany(PIANO, PLAYED), ConfigError, "has no parts. Use vary or infill"),
        (lambda: accompany(SONGS, empty, parts=["Bass"]), DataError, "no notes of other parts"),
        (lambda: infill(PIANO, PLAYED, 0, 1, num_notes=-1), ConfigError, "num_notes -1"),
        (lambda: infill(PIANO, PLAYED, 0, 1, best_of=0), ConfigError, "best_of 0"),
    ]  # fmt: skip
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()
    with pytest.raises(ConfigError, match=r"named 'Oboe'.*\(sequence 1\)"):
        write_batch(
            SONGS,
            [
                WritingTask(notes=CHORALE, start=0, end=1),
                WritingTask(notes=CHORALE, start=0, end=1, parts=("Oboe",)),
            ],
        )
    assert write_batch(PIANO, []) == []


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_task_gives_valid_midi_with_the_given_notes_untouched(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any subset of parts, any gap, empty results, gaps at the borders and beyond."""
    draw = data.draw
    with_parts = draw(st.booleans())
    piece = chorale(draw(st.integers(0, 3))) if with_parts else PLAYED
    if draw(st.booleans()):
        pattern = draw(st.lists(st.booleans(), min_size=8, max_size=8))
        piece = piece[np.resize(pattern, len(piece)).astype(np.bool_)]
    where = draw(st.sampled_from(["start", "end", "inside", "beyond", "whole"]))
    at = {"start": 0.0, "end": max(piece.end_time - 1.0, 0.0), "beyond": piece.end_time + 3.0}
    begin = at.get(where, 0.0 if where == "whole" else draw(st.floats(0, 8)))
    seconds = piece.end_time + 2.0 if where == "whole" else draw(st.floats(0.005, 4.0))
    names = [*VOICES, "Drums"]
    parts = draw(st.none() | st.lists(st.sampled_from(names), min_size=1)) if with_parts else None
    task = WritingTask(
        notes=piece,
        start=begin,
        end=begin + seconds,
        parts=None if parts is None else tuple(parts),
        replace=draw(st.booleans()),
    )
    made = write_batch(
        SONGS if with_parts else PIANO,
        [task],
        seed=draw(st.integers(0, 9)),
        num_notes=draw(st.sampled_from([0, 1, 25])),
        temperature=draw(st.sampled_from([None, 0.6, 2.0])),
    )[0]
    new, kept = made.notes[made.new], made.notes[~made.new]
    out = np.zeros(len(piece), np.bool_)
    if task.replace:
        mine = (
            np.ones(len(piece), np.bool_)
            if parts is None
            else np.isin(BAND.classes_of(piece), [names.index(name) for name in parts])
        )
        out = mine & (piece.start >= task.start) & (piece.start < task.end)
    assert listed(kept) == listed(piece[~out])
    assert_given(made.notes, piece[~out])
    assert listed(assert_fits(made.notes, kept, task.start, task.end)) == listed(new)
    if parts is not None and len(new):
        assert set(BAND.classes_of(new).tolist()) <= {names.index(name) for name in parts}
    if not len(made.notes):
        return
    path = Path(tmp_path_factory.getbasetemp()) / "any.mid"
    report = write_midi(made.notes, path)
    assert not report.changed
    again = read_midi(path, ALL)
    assert len(again) == len(made.notes)
    columns = ("pitch", "velocity") if not with_parts else ("pitch", "velocity", "program", "drum")
    assert listed(again, columns) == listed(made.notes, columns)
