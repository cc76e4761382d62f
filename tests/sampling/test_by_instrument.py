"""Processors hold for each instrument: random models, every order of prediction, several seeds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder
from notelstm.errors import ConfigError, FieldError
from notelstm.generation import Session
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.predictions import Categorical
from notelstm.protocols import NoteEncoder, NoteModel, Processor, SamplingContext
from notelstm.sampling import (
    Ancestral,
    ForbidValues,
    Instruments,
    MaxChordSize,
    MaxInstruments,
    MaxPolyphony,
    NoRepeatNGram,
    NoteDensity,
    PitchRange,
    RepetitionPenalty,
    Scale,
    TopK,
)
from notelstm.tracker import Tone

BAND = (
    Part(name="Lead", program=73),
    Part(name="Piano"),
    Part(name="Bass", program=33),
    Part(name="Kit", drum=True),
)
LEAD, PIANO, BASS, KIT = range(4)
ENCODER = LogTimeEncoder(exact=True, parts=PartMap(parts=BAND))
EVENTS = PerformanceEventEncoder(parts=PartMap(parts=BAND))
ORDERS = {
    "instrument, pitch": ("step", "instrument", "pitch", "velocity", "duration"),
    "pitch, instrument": ("step", "pitch", "velocity", "duration", "instrument"),
    "pitch first": ("pitch", "instrument", "step", "velocity", "duration"),
    "instrument first": ("instrument", "pitch", "velocity", "duration", "step"),
}
EVERY_ORDER = pytest.mark.parametrize("order", list(ORDERS))
EVERY_ENCODER = pytest.mark.parametrize("order", [*ORDERS, "events"])
SCALE = {0, 2, 4, 5, 7, 9, 11}


def encoder_of(order: str) -> NoteEncoder:
    return EVENTS if order == "events" else ENCODER


def model_of_events() -> NoteModel:
    torch.manual_seed(1)
    made = NoteLSTM(fields=EVENTS.fields, hidden_size=8, embedding_dim=4)
    added = {"note-on": 2.0, "note-off": 0.5, "shift": 0.0, "velocity": -2.0, "instrument": 3.0}
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "linear.weight" in name or "heads" in name:
                parameter.mul_(3)
            if "heads.event" in name and parameter.shape == (EVENTS.fields[0].classes,):
                parameter.add_(torch.tensor([added[kind] for kind, _ in EVENTS.fields[0].events]))
    return made


@functools.cache
def model(order: str) -> NoteModel:
    """A random model that plays all instruments, chords and long notes."""
    if order == "events":
        return model_of_events()
    torch.manual_seed(1)
    made = NoteLSTM(
        fields=ENCODER.fields, hidden_size=8, embedding_dim=4, field_order=ORDERS[order]
    )
    with torch.no_grad():
        for name, parameter in cast(nn.Module, made).named_parameters():
            if "linear.weight" in name or "heads" in name:
                parameter.mul_(3)
            for field in ENCODER.fields:
                if f"heads.{field.name}" in name and parameter.shape == (field.classes,):
                    if field.role in ("step", "duration"):
                        parameter[:30] += 4
                    if field.role == "step":
                        parameter[0] += 4
    return made


def session(order: str, *processors: Processor, seed: int = 3, batch_size: int = 2) -> Session:
    sampler = Ancestral(processors=processors)
    return Session(
        model(order), encoder_of(order), sampler, batch_size=batch_size, seed=seed, max_undo=0
    )


def played(order: str, *processors: Processor, notes: int = 60, seed: int = 3) -> list[Notes]:
    return session(order, *processors, seed=seed).run(num_notes=notes)


def of(music: Sequence[Notes], part: int) -> list[Notes]:
    """The notes of one part."""
    return [notes[np.flatnonzero(np.asarray(notes.track) == part)] for notes in music]


def pitches(music: Sequence[Notes]) -> set[int]:
    return {pitch for notes in music for pitch in notes.pitch.tolist()}


def tracks(music: Sequence[Notes]) -> set[int]:
    return {k for notes in music for k in np.asarray(notes.track).tolist()}


def sounding(notes: Notes) -> int:
    """The largest number of pitches that sound together."""
    inside = (notes.start <= notes.start[:, None] + 1e-6) & (
        notes.end > notes.start[:, None] + 2e-6
    )
    return max((len(set(notes.pitch[here].tolist())) for here in inside), default=0)


def chord(notes: Notes) -> int:
    """The largest number of notes that begin together."""
    return int(np.unique(np.round(notes.start, 6), return_counts=True)[1].max(initial=0))


@EVERY_ENCODER
def test_pitch_limits_are_per_instrument_and_exclude_drums(order: str) -> None:
    free = played(order)
    assert tracks(free) == set(range(4)), "all instruments play"
    for seed in (3, 4):
        music = played(
            order,
            PitchRange(low=36, high=48, instruments=("Bass",)),
            PitchRange(low=60, high=71, instruments=("lead", "PIANO")),
            Scale(name="C major"),
            ForbidValues(values=(36.0, 60.0)),
            seed=seed,
        )
        assert pitches(of(music, BASS)) <= {p for p in range(37, 49) if p % 12 in SCALE}
        for part in (LEAD, PIANO):
            assert pitches(of(music, part)) <= {p for p in range(61, 72) if p % 12 in SCALE}
        assert not pitches(of(music, KIT)) <= {p for p in range(128) if p % 12 in SCALE}
        assert sum(map(len, of(music, KIT))) > 5
    on_drums = played(order, PitchRange(low=36, high=44, drums=True))
    assert pitches(on_drums) <= set(range(36, 45))


@settings(max_examples=12)
@given(st.sampled_from([*ORDERS, "events"]), st.integers(0, 10_000), st.data())
def test_pitch_range_of_each_instrument_for_any_seed(
    order: str, seed: int, data: st.DataObject
) -> None:
    low = [data.draw(st.integers(0, 120)) for _ in BAND]
    high = [data.draw(st.integers(a, min(127, a + 12))) for a in low]
    chain = [
        PitchRange(low=a, high=b, instruments=(part.name,))
        for part, a, b in zip(BAND, low, high, strict=True)
    ]
    music = played(order, *chain, seed=seed, notes=25)
    for part in range(4):
        assert pitches(of(music, part)) <= set(range(low[part], high[part] + 1))


@EVERY_ENCODER
def test_polyphony_is_per_instrument(order: str) -> None:
    free = played(order)
    assert max(sounding(notes) for part in range(4) for notes in of(free, part)) > 2
    music = played(order, MaxPolyphony(notes=2))
    for part in (LEAD, PIANO, BASS):
        assert max(map(sounding, of(music, part))) <= 2
    assert max(map(sounding, music)) > 2, "the limit is not one of all instruments together"
    solo = MaxPolyphony(notes=1, instruments=("Bass", "Kit"))
    music = played(order, solo, Instruments(allowed=("Bass", "Kit")))
    assert max(sounding(notes) for part in (BASS, KIT) for notes in of(music, part)) == 1


@EVERY_ENCODER
def test_chord_size_is_per_instrument(order: str) -> None:
    assert max(chord(notes) for part in range(4) for notes in of(played(order), part)) > 1
    music = played(order, MaxChordSize(notes=1))
    assert max(chord(notes) for part in (LEAD, PIANO, BASS) for notes in of(music, part)) == 1
    assert max(map(chord, music)) > 1


@EVERY_ENCODER
def test_repetition_is_per_instrument(order: str) -> None:
    music = played(order, PitchRange(low=40, high=90), NoRepeatNGram(ngram_size=1, history=20))
    for part in (LEAD, PIANO, BASS):
        for notes in of(music, part):
            for i, pitch in enumerate(notes.pitch.tolist()):
                assert pitch not in notes.pitch[max(0, i - 20) : i]
    shared = set.intersection(*(pitches(of(music, part)) for part in (LEAD, PIANO)))
    assert shared, "another instrument may play the same pitch"


@EVERY_ENCODER
def test_only_the_allowed_instruments_play(order: str) -> None:
    for names, wanted in ((("lead",), {LEAD}), (("Bass", "Kit"), {BASS, KIT})):
        for seed in (3, 4):
            assert tracks(played(order, Instruments(allowed=names), seed=seed)) == wanted


@EVERY_ENCODER
def test_several_limits_together(order: str) -> None:
    """Each limit leaves notes of a chord that another one forbids."""
    chain = (
        Instruments(allowed=("Lead", "Bass")),
        PitchRange(low=60, high=64),
        ForbidValues(values=(64.0,), instruments=("Bass",)),
        Scale(name="C major pentatonic"),
        MaxPolyphony(notes=2),
        MaxChordSize(notes=2),
        TopK(k=50),
    )
    for seed in (3, 4):
        music = played(order, *chain, seed=seed)
        assert tracks(music) == {LEAD, BASS}
        assert pitches(of(music, LEAD)) <= {60, 62, 64}
        assert pitches(of(music, BASS)) <= {60, 62}
        assert max(sounding(notes) for part in (LEAD, BASS) for notes in of(music, part)) <= 2


def playing(notes: Notes, at: float, seconds: float) -> set[int]:
    """The pitched instruments that play just after a time."""
    track = np.asarray(notes.track)
    active = (notes.start <= at + 1e-6) & (
        (notes.end > at + 2e-6) | (notes.start + seconds > at + 2e-6)
    )
    return set(track[active & (track != KIT)].tolist())


@EVERY_ENCODER
@pytest.mark.parametrize("count", [1, 2])
def test_max_instruments(order: str, count: int) -> None:
    music = played(order, MaxInstruments(count=count, seconds=0.5), notes=80)
    for notes in music:
        for at in notes.start.tolist():
            assert len(playing(notes, at, 0.5)) <= count
    assert KIT in tracks(music), "drums are not counted"
    with_drums = played(order, MaxInstruments(count=1, seconds=1000, drums=True))
    assert all(len(set(np.asarray(notes.track).tolist())) == 1 for notes in with_drums)


def test_max_instruments_replaces_a_silent_instrument() -> None:
    music = played("instrument, pitch", MaxInstruments(count=1, seconds=0.0), notes=150)
    assert len(tracks(music) - {KIT}) == 3


def test_max_instruments_after_a_prompt_with_more_keeps_the_latest() -> None:
    prompt = Notes(
        start=[0, 1, 2, 3],
        end=[5, 5, 5, 5],
        pitch=[60, 62, 40, 38],
        program=[73, 0, 33, 0],
        drum=[0, 0, 0, 1],
    )
    started = session("instrument, pitch", MaxInstruments(count=2, seconds=1000), batch_size=2)
    started.feed(ENCODER.encode(prompt))
    music = started.run(num_notes=40)
    assert tracks(music) <= {PIANO, BASS, KIT}


def rate(music: Sequence[Notes], part: int) -> float:
    seconds = sum(float(notes.start[-1]) for notes in music)
    return sum(map(len, of(music, part))) / seconds


@pytest.mark.parametrize("order", ["instrument, pitch", "instrument first"])
def test_density_of_one_instrument(order: str) -> None:
    free = rate(played(order, notes=240), BASS)
    for factor in (0.4, 2.0):
        steered = rate(
            played(
                order,
                NoteDensity(notes_per_second=free * factor, instruments=("Bass",)),
                notes=240,
            ),
            BASS,
        )
        assert abs(np.log(steered / (free * factor))) < 0.5 * abs(np.log(factor)), (free, steered)


def after(*events: tuple[str, float]) -> SamplingContext:
    """The context of a sequence of events."""
    tracker = EVENTS.tracker()
    for kind, value in events:
        tracker.push(np.array([event_id(kind, value)], np.float32))
    return SamplingContext({}, tracker)


def event_id(kind: str, value: float) -> int:
    events = EVENTS.fields[0].events
    return next(i for i, e in enumerate(events) if e.type == kind and np.isclose(e.value, value))


def test_density_of_events_is_of_the_latest_instrument() -> None:
    quick = [("shift", 0.1), ("note-on", 40)], [("shift", 0.1), ("note-on", 41)]
    start = ("shift", 1.0), ("instrument", BASS), ("velocity", 62.0), *quick[0], *quick[1]
    density = NoteDensity(notes_per_second=1.0, history=2, instruments=("Bass",))
    (field,) = EVENTS.fields
    note_on = torch.tensor([event.type == "note-on" for event in field.events])
    for last, acts in ((), True), ((("instrument", KIT),), False), ((("instrument", LEAD),), False):
        context = after(*start, *last)
        given = Categorical(torch.zeros(1, len(field.events)))
        weights = density(field, given, [context]).log_weights()
        assert weights is not None
        changed = weights[0] != 0
        assert (weights[0, note_on] < 0).all() if acts else not changed[note_on].any()
        assert changed.nonzero().flatten().tolist() == [
            *(note_on.nonzero().flatten().tolist() if acts else ()),
            event_id("instrument", BASS),
        ]
    assert density(field, given, [after()]).log_weights()[0, note_on].eq(0).all()  # type: ignore[index]


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_density_steers_the_events_of_one_instrument(factor: float) -> None:
    free = rate(played("events", notes=240), BASS)
    density = NoteDensity(notes_per_second=free * factor, instruments=("Bass",))
    steered = rate(played("events", density, notes=240), BASS)
    assert (steered < 0.75 * free) if factor < 1 else (steered > 1.25 * free), (free, steered)


def test_forbidden_velocities_of_events_are_not_per_instrument() -> None:
    with pytest.raises(FieldError, match=r"velocity event holds .* all instruments"):
        session("events", ForbidValues(role="velocity", values=(62.0,)))
    every = ForbidValues(role="velocity", values=(62.0,), drums=True)
    music = played("events", every, notes=60)
    assert 62 not in {v for notes in music for v in notes.velocity.tolist()}
    assert 62 in {v for notes in played("events", notes=60) for v in notes.velocity.tolist()}


def test_an_instrument_that_cannot_play_is_chosen_to_end_its_notes() -> None:
    (field,) = EVENTS.fields
    context = after(
        ("instrument", LEAD),
        ("velocity", 62.0),
        ("note-on", 60),
        ("shift", 0.1),
        ("instrument", KIT),
    )
    chain = Instruments(allowed=("Kit", "Bass"))
    weights = chain(field, Categorical(torch.zeros(1, len(field.events))), [context]).log_weights()
    assert weights is not None
    left = [k for k in range(4) if weights[0, event_id("instrument", k)] > -torch.inf]
    assert left == [LEAD, BASS, KIT]
    assert (context.tracker.instrument, context.tracker.remaining()) == (
        KIT,
        [(np.inf, Tone(60, LEAD))],
    )
    assert after().tracker.instrument is None


def test_density_of_each_instrument() -> None:
    for target in (1.0, 3.0):
        music = played("instrument, pitch", NoteDensity(notes_per_second=target), notes=150)
        for part in (LEAD, PIANO, BASS):
            assert target / 1.6 < rate(music, part) < target * 1.6


@pytest.mark.parametrize("order", ["instrument, pitch", "events"])
def test_repetition_penalty_is_per_instrument(order: str) -> None:
    def repeats(*processors: Processor) -> int:
        music = played(order, PitchRange(low=60, high=71), *processors, notes=120)
        return sum(
            pitch in notes.pitch[max(0, i - 3) : i].tolist()
            for part in (LEAD, PIANO, BASS)
            for notes in of(music, part)
            for i, pitch in enumerate(notes.pitch.tolist())
        )

    assert repeats(RepetitionPenalty(penalty=1e5, history=3)) < 0.25 * repeats()


UNKNOWN: list[Callable[..., Processor]] = [
    Scale,
    PitchRange,
    ForbidValues,
    MaxPolyphony,
    MaxChordSize,
    NoRepeatNGram,
    RepetitionPenalty,
    NoteDensity,
    MaxInstruments,
]


@pytest.mark.parametrize("make", UNKNOWN)
def test_unknown_part_is_rejected_before_the_first_row(make: Callable[..., Processor]) -> None:
    message = r"no instrument of the model is named 'Bas': did you mean 'Bass'.*Lead, Piano, Bass"
    with pytest.raises(ConfigError, match=message):
        session("instrument, pitch", make(instruments=("Bas",)))
    plain = LogTimeEncoder()
    alone = NoteLSTM(fields=plain.fields, hidden_size=4)
    sampler = Ancestral(processors=(make(instruments=("Bass",)),))
    with pytest.raises(ConfigError, match="has no instruments, so none of them is 'Bass'"):
        Session(alone, plain, sampler)


def test_invalid_instruments_are_rejected() -> None:
    with pytest.raises(ConfigError, match="is named 'Tuba'"):
        session("instrument, pitch", Instruments(allowed=("Tuba",)))
    with pytest.raises(ConfigError, match="no instrument is allowed"):
        Instruments(allowed=())
    with pytest.raises(ConfigError, match="role 'step' are not those of an instrument"):
        ForbidValues(role="step", values=(0.0,), drums=True)
    with pytest.raises(ConfigError, match="max instruments 0"):
        MaxInstruments(count=0)


@pytest.mark.parametrize(
    ("processor", "order"),
    [
        (RepetitionPenalty(), "pitch, instrument"),
        (ForbidValues(role="velocity", values=(2.0,)), "pitch, instrument"),
        (
            ForbidValues(role="duration", values=(0.1,), drums=True, instruments=("Lead",)),
            "pitch, instrument",
        ),
    ],
)
def test_field_order_with_the_instrument_too_late_is_rejected(
    processor: Processor, order: str
) -> None:
    with pytest.raises(FieldError, match=r"before the instrument.*field_order"):
        session(order, processor)
    session("instrument, pitch", processor).run(num_notes=3)


@EVERY_ORDER
def test_fix_an_instrument_by_name(order: str) -> None:
    one, two = session(order), session(order)
    for name, k in (("bass", BASS), ("Lead", LEAD), ("Kit", KIT), ("Piano", PIANO)):
        np.testing.assert_array_equal(one.next(instrument=name), two.next(instrument=k))
        assert one.trackers[0].latest(1)[0][1].instrument == k
    for value, error in (("Tuba", ConfigError), (9, FieldError)):
        with pytest.raises(error):
            one.next(instrument=value)
    with pytest.raises(FieldError, match="pitch 'C4' is not a class id"):
        one.next(pitch="C4")
    assert [t.num_notes for t in one.trackers] == [4, 4]
    np.testing.assert_array_equal(one.next(), two.next())


def test_fixing_an_ambiguous_instrument_name_is_rejected() -> None:
    parts = PartMap(by="track", parts=(Part(name="Violin", program=40),) * 2)
    encoder = LogTimeEncoder(exact=True, parts=parts)
    two = Session(NoteLSTM(fields=encoder.fields, hidden_size=4), encoder, Ancestral())
    with pytest.raises(ConfigError, match=r"2 instruments .* named 'violin'.*class id: 0, 1"):
        two.next(instrument="violin")
    low = PitchRange(low=50, high=55, instruments=("violin",))
    both = Session(
        NoteLSTM(fields=encoder.fields, hidden_size=4), encoder, Ancestral(processors=(low,))
    )
    assert pitches(both.run(num_notes=30)) <= set(range(50, 56))


def test_sequence_is_the_same_alone_and_in_a_batch() -> None:
    chain = (MaxInstruments(count=2, seconds=1.0), NoteDensity(), MaxPolyphony(notes=1))
    alone = session("instrument, pitch", *chain, batch_size=1).run(num_notes=40)[0]
    together = session("instrument, pitch", *chain, batch_size=3).run(num_notes=40)[0]
    assert alone == together


def test_pitch_range_in_sorted_chords_without_instruments() -> None:
    encoder = LogTimeEncoder(exact=True)
    torch.manual_seed(0)
    for order in itertools.permutations(("step", "pitch")):
        made = NoteLSTM(
            fields=encoder.fields, hidden_size=8, field_order=(*order, "velocity", "duration")
        )
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "heads.step" in name and parameter.shape == (encoder.fields[1].classes,):
                    parameter[0] += 6
        chain = (PitchRange(low=60, high=64), Scale(name="C major pentatonic"))
        music = Session(made, encoder, Ancestral(processors=chain), batch_size=2).run(num_notes=60)
        assert pitches(music) == {60, 62, 64}
        assert max(map(chord, music)) > 1


def masks_of_one_instrument(values: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    return {
        "scale": np.isin(values % 12, sorted(SCALE)),
        "range": (values >= 48) & (values <= 72),
        "forbidden": ~np.isin(values, [60, 61]),
    }


def test_without_instruments_limits_are_masks_of_the_pitch() -> None:
    """An encoder without instruments: the same music as with plain masks of the pitch."""
    encoder = LogTimeEncoder()
    torch.manual_seed(0)
    made = NoteLSTM(fields=encoder.fields, hidden_size=8)
    masks = masks_of_one_instrument(np.arange(128.0))

    def plain(name: str) -> Processor:
        def mask(field, prediction, contexts):  # type: ignore[no-untyped-def]
            if field.role != "pitch":
                return prediction
            return prediction.constrained(torch.from_numpy(masks[name]).expand(len(contexts), -1))

        return mask

    for name, processor in (
        ("scale", Scale(name="C major")),
        ("range", PitchRange(low=48, high=72)),
        ("forbidden", ForbidValues(values=(60.0, 61.0))),
    ):
        one, two = (
            Session(made, encoder, Ancestral(processors=(p,)), batch_size=2, seed=5).run(
                num_notes=40
            )
            for p in (processor, plain(name))
        )
        assert one == two
