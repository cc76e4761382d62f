"""Processors hold over generated notes: every encoder, random models, many sequences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.generation import Session
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.protocols import NoteEncoder, NoteModel, Processor
from notelstm.sampling import (
    Ancestral,
    ForbidValues,
    GridSnap,
    MaxChordSize,
    MaxPolyphony,
    NoRepeatNGram,
    NoteDensity,
    PitchRange,
    RepetitionPenalty,
    Scale,
    Temperature,
    TempoRange,
    TopK,
    TopP,
)

D_DORIAN = {2, 4, 5, 7, 9, 11, 0}


def random_model(encoder: NoteEncoder, kind: Any = NoteLSTM, **settings: Any) -> NoteModel:
    """A random model, whose predictions vary from note to note; chords are common."""
    torch.manual_seed(1)
    model = kind(fields=encoder.fields, hidden_size=8, **settings)
    with torch.no_grad():
        for name, parameter in cast(nn.Module, model).named_parameters():
            if "linear.weight" in name or "heads" in name:
                parameter.mul_(1 if settings.get("time_distribution") == "mixture" else 3)
            for field in encoder.fields:
                if f"heads.{field.name}" in name and parameter.shape == (field.classes,):
                    # Short steps and durations: there are many classes of long ones.
                    if field.role in ("step", "duration"):
                        parameter[:30] += 4
                    if field.role == "step":
                        parameter[0] += 3 if field.unit == "s" else 8
                    if field.role == "time_signature":
                        parameter[2] += 6
    return cast(NoteModel, model)


@functools.cache
def player(name: str) -> tuple[NoteEncoder, NoteModel]:
    encoder: NoteEncoder
    if name == "step first":
        encoder = LogTimeEncoder()
        order = ("step", "duration", "pitch", "velocity")
        return encoder, random_model(encoder, embedding_dim=4, field_order=order)
    if name == "pitch first":
        encoder = LogTimeEncoder()
        return encoder, random_model(encoder, embedding_dim=4)
    if name == "numbers":
        encoder = StepDurationEncoder()
        return encoder, random_model(encoder, embedding_dim=4)
    if name == "mixtures":
        encoder = StepDurationEncoder()
        return encoder, random_model(encoder, embedding_dim=4, time_distribution="mixture")
    if name == "points":
        encoder = StepDurationEncoder()
        return encoder, random_model(encoder, ThreeHeadLSTM)
    encoder = BeatEncoder() if name == "beats" else PerformanceEventEncoder()
    return encoder, random_model(encoder, embedding_dim=4)


FOUR_FOUR = BeatEncoder().time_signatures.index("4/4")
ALL = ("step first", "pitch first", "numbers", "mixtures", "points", "beats", "events")
EVERY_PLAYER = pytest.mark.parametrize("name", ALL)


def played(
    name: str,
    *processors: Processor,
    notes: int = 120,
    batch_size: int = 4,
    prompt: Notes | None = None,
) -> list[Notes]:
    """The music of a random model, from the beginning, with the prompt if there is one."""
    encoder, model = player(name)
    if name == "events":
        # At random it plays some thousand rows for as many notes.
        notes, batch_size = notes // 3, min(batch_size, 2)
    session = Session(
        model, encoder, Ancestral(processors=processors), batch_size=batch_size, seed=3
    )
    if prompt is not None:
        session.feed(encoder.encode(prompt))
    session.run(num_notes=notes, seconds=None)
    return [tracker.notes() for tracker in session.trackers]


def pitches(music: Sequence[Notes]) -> set[int]:
    return {pitch for notes in music for pitch in notes.pitch.tolist()}


def most_voices(notes: Notes) -> int:
    """The number of pitches that sound together for more than a microsecond."""
    return max(
        np.unique(notes.pitch[(notes.start <= at + 1e-6) & (notes.end > at + 2e-6)]).size
        for at in notes.start
    )


def largest_chord(notes: Notes) -> int:
    moments = np.cumsum(np.append(True, np.diff(notes.start) > 1e-6))
    return int(np.bincount(moments).max())


@EVERY_PLAYER
def test_scale(name: str) -> None:
    assert not {p % 12 for p in pitches(played(name, notes=60))} <= D_DORIAN
    music = played(name, Scale(name="D dorian"))
    assert sum(map(len, music)) >= 80
    assert {p % 12 for p in pitches(music)} <= D_DORIAN


@EVERY_PLAYER
def test_pitch_range(name: str) -> None:
    assert not pitches(played(name, notes=60)) <= set(range(48, 73))
    assert pitches(played(name, PitchRange(low="C3", high=72))) <= set(range(48, 73))


@EVERY_PLAYER
@pytest.mark.parametrize("voices", [1, 3])
def test_max_polyphony(name: str, voices: int) -> None:
    assert max(map(most_voices, played(name, notes=60))) > voices
    music = played(name, MaxPolyphony(notes=voices))
    assert max(map(most_voices, music)) == voices


@pytest.mark.parametrize("name", ["step first", "beats", "numbers"])
def test_max_polyphony_after_a_prompt_above_it_and_with_fixed_steps(name: str) -> None:
    start = np.arange(8) * 0.1
    prompt = Notes(start=start, end=start + 2.0, pitch=np.arange(8) + 60, tempo_map=TempoMap())
    encoder, model = player(name)
    cap = MaxPolyphony(notes=2)
    (notes,) = played(name, cap, batch_size=1, prompt=prompt)
    new = notes[8:]
    sounding = [
        np.unique(notes.pitch[(notes.start <= at) & (notes.end > at + 1e-6)]).size
        for at in new.start
    ]
    assert max(sounding) == 2
    session = Session(model, encoder, Ancestral(processors=(cap,)), seed=2)
    session.feed(encoder.encode(prompt))
    step = next(field for field in encoder.fields if field.role == "step")
    if model.field_order.index(step.name) < model.field_order.index("pitch"):
        # No time passes, all voices are taken: only what sounds can be struck again.
        time_signature = {"time_signature": FOUR_FOUR} if name == "beats" else {}  # the prompt's
        rows = np.concatenate([session.next(step=0.0, **time_signature) for _ in range(20)])
        assert set(
            rows[
                :, encoder.fields.index(next(f for f in encoder.fields if f.role == "pitch"))
            ].tolist()
        ) <= set(range(60, 68))


@EVERY_PLAYER
@pytest.mark.parametrize("size", [1, 2])
def test_max_chord_size(name: str, size: int) -> None:
    music = played(name, MaxChordSize(notes=size))
    assert max(map(largest_chord, music)) <= size
    if name != "points":
        assert max(map(largest_chord, played(name, notes=60))) > size


@EVERY_PLAYER
def test_grid_snap(name: str) -> None:
    unit, grid = ("beat", 0.5) if name == "beats" else ("s", 0.2)
    snap = GridSnap(grid=grid, unit=unit)

    def off(notes: Notes) -> NDArray[np.float64]:
        at = notes.start
        if name == "beats":
            assert notes.tempo_map is not None
            line = notes.tempo_map.time_signature_beats[0]
            at = notes.tempo_map.beats_at(at) - line
        return np.asarray(np.abs(at - np.rint(at / grid) * grid))

    processors: tuple[Processor, ...] = (snap,)
    if name == "beats":
        # Bars of whole lines, and one time signature, so that lines stay where they are.
        others = {*range(len(BeatEncoder().time_signatures))} - {FOUR_FOUR}
        processors = (ForbidValues(role="time_signature", values=tuple(others)), snap)
    free = np.concatenate([off(notes) for notes in played(name, *processors[:-1], notes=60)])
    assert free.max() > 0.05
    step = next((f for f in player(name)[0].fields if f.role == "step"), None)
    for notes in played(name, *processors):
        allowed = np.full(len(notes), 0.005 + 1e-4)
        if step is not None and step.edges and step.unit == "s":
            # Half the way to the next class; a chord stays where its first note is.
            steps = np.diff(notes.start, prepend=0.0)
            classes = np.searchsorted(step.edges, steps, side="right") - 1
            first = np.maximum.accumulate(np.where(steps > 1e-6, np.arange(len(notes)), 0))
            gaps = np.diff(step.values)
            gaps = np.maximum(np.append(gaps, 0), np.append(0, gaps))
            allowed = gaps[classes][first] / 2 + 1e-4
        assert np.all(off(notes) <= allowed)


@EVERY_PLAYER
@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_repeat_ngram(name: str, n: int) -> None:
    few = PitchRange(low=60, high=69 if n > 1 else 127)
    history = 50
    for notes in played(name, few, NoRepeatNGram(ngram_size=n, history=history), notes=90):
        pitches = notes.pitch.tolist()
        for i in range(n, len(pitches)):
            before = pitches[max(0, i - history) : i]
            runs = [before[k : k + n] for k in range(len(before) - n + 1)]
            assert pitches[i - n + 1 : i + 1] not in runs


@EVERY_PLAYER
def test_repetition_penalty(name: str) -> None:
    def share(*processors: Processor) -> float:
        back = total = 0
        for notes in played(name, PitchRange(low=60, high=71), *processors):
            pitches = notes.pitch.tolist()
            back += sum(pitches[i] in pitches[max(0, i - 4) : i] for i in range(1, len(pitches)))
            total += len(pitches)
        return back / total

    assert share(RepetitionPenalty(penalty=1e4, history=4)) < 0.25 * share()
    assert share(RepetitionPenalty(penalty=1e-4, history=4)) > share()


def density(music: Sequence[Notes]) -> float:
    return sum(map(len, music)) / sum(float(notes.start[-1]) for notes in music)


@pytest.mark.parametrize("name", [name for name in ALL if name != "points"])
def test_note_density(name: str) -> None:
    free = density(played(name))
    for factor in (0.4, 2.5):
        rate = free * factor
        steered = density(played(name, NoteDensity(notes_per_second=rate)))
        # Distributions of numbers are moved, but their width stays.
        left = 0.9 if name in ("numbers", "mixtures") else 0.5
        assert abs(np.log(steered / rate)) < left * abs(np.log(factor)), (free, rate, steered)


def test_tempo_range() -> None:
    for notes in played("beats", TempoRange(slowest=90, fastest=110)):
        assert notes.tempo_map is not None
        assert np.all((notes.tempo_map.tempos >= 90) & (notes.tempo_map.tempos <= 110))
    for notes in played("beats", TempoRange(slowest=96, fastest=96), notes=20):
        assert notes.tempo_map is not None
        assert np.allclose(notes.tempo_map.tempos, 96, rtol=0.015)


@EVERY_PLAYER
def test_forbid_values(name: str) -> None:
    usual = sorted(pitches(played(name, notes=60)))[::2]
    forbid = ForbidValues(role="pitch", values=tuple(usual))
    music = played(name, forbid, ForbidValues(role="velocity", values=(2, 18, 126)))
    assert not pitches(music) & set(usual)
    velocities = {v // 4 for notes in music for v in notes.velocity.tolist()}
    assert not velocities & {0, 4, 31}


@EVERY_PLAYER
def test_all_processors_together(name: str) -> None:
    chain = (
        Scale(name="F# minor pentatonic"),
        PitchRange(low=40, high=80),
        MaxPolyphony(notes=3),
        MaxChordSize(notes=2),
        *(() if name == "beats" else (GridSnap(grid=0.1),)),
        NoteDensity(notes_per_second=5.0),
        RepetitionPenalty(),
        Temperature(temperature=1.2),
        TopK(k=60),
        TopP(p=0.9),
    )
    for notes in played(name, *chain):
        assert {p % 12 for p in notes.pitch.tolist()} <= {6, 9, 11, 1, 4}
        assert notes.pitch.min() >= 40
        assert notes.pitch.max() <= 80
        assert most_voices(notes) <= 3
        assert largest_chord(notes) <= 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scale(name="C major"),
        lambda: MaxPolyphony(notes=2),
        lambda: NoRepeatNGram(ngram_size=3),
        lambda: NoteDensity(notes_per_second=3.0),
    ],
)
def test_sequence_is_the_same_alone_and_in_a_batch(make: Callable[[], Processor]) -> None:
    for name in ("step first", "events", "beats"):
        alone = played(name, make(), batch_size=1, notes=40)[0]
        in_batch = played(name, make(), batch_size=3, notes=40)[0]
        assert in_batch.pitch.tolist()[: len(alone)] == alone.pitch.tolist()
        assert in_batch.start.tolist()[: len(alone)] == alone.start.tolist()
