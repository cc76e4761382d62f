"""Every part that comes with the library keeps its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm import plugins
from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.encoders.rows import TrackingEncoder
from notelstm.fields import Field, Role
from notelstm.losses import AllPairs, Likelihood, PositivePressure
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.notes import Notes, TempoMap
from notelstm.parts import By, Part, PartMap, Unknown
from notelstm.predictions import Normal, PointEstimate
from notelstm.protocols import Processor, Sampler, SamplingContext
from notelstm.sampling import (
    Ancestral,
    EndAt,
    ForbidValues,
    Greedy,
    GridSnap,
    MaxChordSize,
    MaxInstruments,
    MaxPolyphony,
    MinDuration,
    MinP,
    NoRepeatNGram,
    NoteDensity,
    PitchRange,
    Recall,
    RepetitionPenalty,
    Scale,
    Temperature,
    TempoRange,
    TopK,
    TopP,
    Weighted,
)
from notelstm.testing import (
    check_encoder,
    check_loss_term,
    check_model,
    check_processor,
    check_reader,
    check_sampler,
    long_piece,
    strategies,
)
from notelstm.testing.makers import without_overlaps

GOLDEN = Path(__file__).parents[1] / "golden"


def float32_steps(piece: Notes) -> NDArray[np.float64]:
    """What StepDurationEncoder states: 6e-8 of the time passed."""
    return 6e-8 * (piece.start - piece.start[:1])


def half_the_widest_step(piece: Notes) -> NDArray[np.float64]:
    """What LogTimeEncoder states: half of the widest step class passed, about 6 % of the step."""
    return np.maximum.accumulate(np.where(piece.step <= 0.4, 0.005, 0.005 + 0.03 * piece.step))


def half_the_class(piece: Notes) -> NDArray[np.float64]:
    """The same for durations; what is shorter than half a cell of 10 ms becomes one."""
    half = np.where(piece.duration <= 0.4, 0.005, 0.005 + 0.03 * piece.duration)
    return np.maximum(half, 0.01 - piece.duration)


def test_step_duration_encoder() -> None:
    check_encoder(
        StepDurationEncoder(),
        onset_tolerance=float32_steps,
        duration_tolerance=lambda piece: 6e-8 * piece.duration,
    )


def test_log_time_encoder() -> None:
    check_encoder(
        LogTimeEncoder(),
        onset_tolerance=half_the_widest_step,
        duration_tolerance=half_the_class,
        velocity_tolerance=2,
        pieces=strategies.notes(longest_rest=29.0, durations=(0.005, 30.0)),
    )


EXACT = LogTimeEncoder(exact=True)
CELLS = np.diff(EXACT.fields[1].edges) / EXACT.cell
"""(C,) the number of cells in each class of a step."""


def half_of_every_wide_step(piece: Notes) -> NDArray[np.float64]:
    """The errors of snapped onsets add up: half of the width of each step class passed."""
    step = np.diff(piece.start, prepend=piece.start[:1])
    k = np.searchsorted(EXACT.fields[1].edges[1:-1], step, side="right")
    errors: NDArray[np.float64] = np.cumsum(np.rint(CELLS[k]) // 2) * EXACT.cell
    return errors


def half_the_whole_class(piece: Notes) -> NDArray[np.float64]:
    k = np.searchsorted(EXACT.fields[1].edges[1:-1], piece.duration, side="right")
    errors: NDArray[np.float64] = (np.rint(CELLS[k]) // 2) * EXACT.cell
    return errors


def test_log_time_encoder_of_exact_cells() -> None:
    check_encoder(
        EXACT,
        onset_tolerance=half_of_every_wide_step,
        duration_tolerance=half_the_whole_class,
        velocity_tolerance=2,
        pieces=strategies.notes(longest_rest=29.0, durations=(0.005, 30.0)),
    )


BAND = (
    *(Part(name="Melody", program=40), Part(name="Bass", program=33)),
    *(Part(name="Größe", program=73), Part(name="Kit", drum=True)),
)


def with_a_band(piece: Notes) -> Notes:
    """The same notes, played by every part in turn."""
    part = np.arange(len(piece)) * 7 % len(BAND)
    return replace(
        piece,
        program=np.array([p.program for p in BAND])[part],
        drum=np.array([p.drum for p in BAND])[part],
        track=part,
        track_names=tuple(p.name for p in BAND),
    )


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("unknown", ["nearest", "other"])
def test_log_time_encoder_with_parts(by: By, unknown: Unknown) -> None:
    check_encoder(
        LogTimeEncoder(
            exact=True, parts=PartMap(by=by, parts=BAND, unknown=unknown), ends=by == "track"
        ),
        onset_tolerance=half_of_every_wide_step,
        duration_tolerance=half_the_whole_class,
        velocity_tolerance=2,
        pieces=strategies.notes(longest_rest=29.0, durations=(0.005, 30.0), instruments=True),
        hour=with_a_band(long_piece(np.random.default_rng(0), count=4000, seconds=700)),
        examples=30,
    )


def test_log_time_encoder_refuses_other_parts() -> None:
    piano = Notes(start=[0, 1], end=2, pitch=60, program=[40, 0])
    check_encoder(
        LogTimeEncoder(exact=True, parts=PartMap(by="program", parts=BAND, unknown="refuse")),
        onset_tolerance=half_of_every_wide_step,
        duration_tolerance=half_the_whole_class,
        velocity_tolerance=2,
        pieces=strategies.notes(longest_rest=29.0, durations=(0.005, 30.0)).map(with_a_band),
        hour=with_a_band(long_piece(np.random.default_rng(0), count=400, seconds=70)),
        refuses=[piano, piano[1:]],
        examples=10,
    )


def written(piece: Notes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Onsets and ends of what BeatEncoder states it keeps, but for the classes of tempos.

    Times are in twelfths of a beat, and each tempo holds from an onset to the next.
    """
    assert piece.tempo_map is not None
    at = np.rint(piece.tempo_map.beats_at(piece.start) * 12) / 12
    length = (
        np.rint(np.diff(piece.tempo_map.beats_at([piece.start, piece.end]), axis=0)[0] * 12) / 12
    )
    knots = np.unique(at)
    ahead = piece.tempo_map.beats_at(piece.tempo_map.seconds_at(knots) + 1e-7) - knots
    tempos = ahead * 60 / 1e-7
    seconds = np.append(0.0, np.cumsum(np.diff(knots) * 60 / tempos[:-1]))
    tempo_map = TempoMap(seconds=seconds, tempos=tempos)
    begin = at - knots[0]
    return tempo_map.seconds_at(begin), tempo_map.seconds_at(begin + np.maximum(length, 1 / 12))


def beaten_onsets(piece: Notes) -> NDArray[np.float64]:
    """What BeatEncoder states: as it is written, and 1.5 % of the time passed."""
    if not len(piece):
        return np.zeros(0)
    onset, _ = written(piece)
    return np.asarray(np.abs(onset - (piece.start - piece.start[0])) + 0.015 * onset + 1e-5)


def beaten_durations(piece: Notes) -> NDArray[np.float64]:
    """The same for durations."""
    if not len(piece):
        return np.zeros(0)
    onset, end = written(piece)
    return np.asarray(np.abs(end - onset - piece.duration) + 0.015 * (end - onset) + 1e-5)


SIGNATURES = st.one_of(
    st.sampled_from([(4, 4), (3, 4), (6, 8)]),
    st.tuples(st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 1024])),
)


BEAT_MAPS = st.lists(SIGNATURES, min_size=1, max_size=4).flatmap(
    lambda pairs: strategies.beat_maps(tempos=(20, 240), time_signatures=pairs)
)
SLOW = TempoMap(seconds=[0, 1000], tempos=[48.5, 44])


def test_beat_encoder() -> None:
    check_encoder(
        BeatEncoder(),
        onset_tolerance=beaten_onsets,
        duration_tolerance=beaten_durations,
        velocity_tolerance=2,
        pieces=strategies.notes(longest_rest=3.9, durations=(0.005, 3.9), beats=BEAT_MAPS),
        hour=replace(long_piece(np.random.default_rng(0)), tempo_map=SLOW),
        refuses=[Notes(start=[0], end=[1], pitch=[60])],
    )


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_beat_encoder_with_parts(by: By, unknown: Unknown) -> None:
    pieces = strategies.notes(
        longest_rest=3.9, durations=(0.005, 3.9), beats=BEAT_MAPS, instruments=True
    )
    refused = Notes(start=[0, 1], end=2, pitch=60, program=[40, 0], track=[0, 4], tempo_map=SLOW)
    long = long_piece(np.random.default_rng(0), count=4000, seconds=700)
    check_encoder(
        BeatEncoder(parts=PartMap(by=by, parts=BAND, unknown=unknown), ends=by == "track"),
        onset_tolerance=beaten_onsets,
        duration_tolerance=beaten_durations,
        velocity_tolerance=2,
        pieces=pieces.map(with_a_band) if unknown == "refuse" else pieces,
        hour=replace(with_a_band(long), tempo_map=SLOW),
        refuses=[Notes(start=[0], end=[1], pitch=[60]), *[refused] * (unknown == "refuse")],
        examples=20,
    )


def test_performance_event_encoder() -> None:
    check_encoder(
        PerformanceEventEncoder(),
        onset_tolerance=0.005,
        duration_tolerance=0.01,
        velocity_tolerance=2,
        keeps_order=False,
        pieces=strategies.notes(overlaps=False, durations=(0.02, 30.0)),
        refuses=[Notes(start=[0], end=[86_401], pitch=[60])],
    )


def with_overlaps_of_parts_alone(piece: Notes, parts: PartMap) -> Notes:
    """The piece without notes of one pitch that sound together in one part."""
    part = parts.classes_of(piece)
    return Notes.merge([without_overlaps(piece[part == k], 0.02) for k in set(part.tolist())])


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_performance_event_encoder_with_parts(by: By, unknown: Unknown) -> None:
    parts = PartMap(by=by, parts=BAND, unknown=unknown)
    pieces = strategies.notes(durations=(0.02, 30.0), instruments=True)
    if unknown == "refuse":
        pieces = pieces.map(with_a_band)
    refused = Notes(start=[0, 1], end=2, pitch=60, program=[40, 0], track=[0, 4])
    long = long_piece(np.random.default_rng(0), count=4000, seconds=700)
    check_encoder(
        PerformanceEventEncoder(parts=parts),
        onset_tolerance=0.005,
        duration_tolerance=0.01,
        velocity_tolerance=2,
        keeps_order=False,
        pieces=pieces.map(lambda piece: with_overlaps_of_parts_alone(piece, parts)),
        hour=with_overlaps_of_parts_alone(with_a_band(long), parts),
        refuses=[Notes(start=[0], end=[86_401], pitch=[60]), *[refused] * (unknown == "refuse")],
        examples=20,
    )


STEP_DURATION = StepDurationEncoder().fields
LOG_TIME = LogTimeEncoder().fields
EVENTS = PerformanceEventEncoder().fields
BEATS = BeatEncoder().fields
ORDER = ("step", "pitch", "velocity", "duration")


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("faults", [True, False])
def test_three_head_lstm(layers: int, faults: bool) -> None:
    torch.manual_seed(0)
    check_model(
        ThreeHeadLSTM(
            fields=STEP_DURATION,
            hidden_size=16,
            num_layers=layers,
            sigmoid=faults,
            point_estimates=faults,
        )
    )


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        (STEP_DURATION, {}),
        (LOG_TIME, {"field_order": ORDER, "dropout": 0.5}),
        (EVENTS, {"num_layers": 2}),
        (BEATS, {}),
        (
            STEP_DURATION,
            {"sounding_features": True, "head_size": 0, "dropout": 0.5, "num_layers": 2},
        ),
        (STEP_DURATION, {"time_distribution": "mixture", "num_components": 3}),
        (LOG_TIME, {"sounding_features": True, "head_size": 5, "field_order": ORDER}),
        (LOG_TIME, {"sounding_features": True}),
        (EVENTS, {"sounding_features": True, "head_size": 0}),
    ],
    ids=[
        "step-duration",
        "log-time",
        "events",
        "beats",
        "step-duration-sounding",
        "step-duration-mixtures",
        "log-time-sounding",
        "log-time-sounding-pitch-first",
        "events-sounding",
    ],
)
def test_note_lstm(fields: tuple[Field, ...], settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check_model(NoteLSTM(fields=fields, hidden_size=16, embedding_dim=4, **settings))


@pytest.mark.parametrize("window", [1, 5, 25])
def test_windowed(window: int) -> None:
    torch.manual_seed(0)
    model = Windowed(ThreeHeadLSTM(fields=STEP_DURATION, hidden_size=16), window)
    # It is saved as its inner model, so it has no entry point.
    check_model(model, entry_point=False)


def test_losses() -> None:
    step = STEP_DURATION[1]
    for field in (*LOG_TIME, *EVENTS, STEP_DURATION[0]):
        check_loss_term(Likelihood(), field)
    check_loss_term(Likelihood(), step, make=lambda x: Normal(x, torch.ones_like(x)))
    low = torch.tensor(0.0)
    check_loss_term(Likelihood(), step, make=lambda x: Normal(x, torch.ones_like(x), low))
    for pressure in (0.0, 10.0):
        check_loss_term(PositivePressure(pressure=pressure), step, make=PointEstimate)
        check_loss_term(AllPairs(pressure=pressure), step, make=PointEstimate)


@pytest.mark.parametrize("sampler", [Ancestral, Greedy, Weighted])
@pytest.mark.parametrize(
    "processors",
    [(), (Temperature(temperature=0.001),), (MinDuration(), Temperature(temperature=2.0))],
    ids=["plain", "cold", "chain"],
)
def test_samplers(sampler: Any, processors: tuple[Processor, ...]) -> None:
    chosen: Sampler = sampler(processors=processors)
    check_sampler(chosen)


@pytest.mark.parametrize("temperature", [0.001, 0.5, 1.0, 3.0])
def test_temperature(temperature: float) -> None:
    check_processor(Temperature(temperature=temperature))


def test_processors_are_saved_and_rebuilt() -> None:
    for processor, _ in PROCESSORS:
        assert plugins.build(plugins.describe(processor)) == processor


@pytest.mark.parametrize("seconds", [0.0, 0.01, 5.0])
def test_shortest_duration(seconds: float) -> None:
    check_processor(MinDuration(seconds=seconds), roles={"duration"})


def contexts_along(
    encoder: TrackingEncoder, piece: Notes, known: Mapping[str, float] = MappingProxyType({})
) -> list[SamplingContext]:
    """Six sequences at different rows of a piece, with known entries of the next row."""
    rows, contexts = encoder.encode(piece), []
    for k in range(6):
        tracker = encoder.tracker()
        for row in rows[: len(rows) * k // 6]:
            tracker.push(row)
        contexts.append(SamplingContext(known, tracker))
    return contexts


IN_BARS = Notes(
    start=[0, 0, 0.5, 0.5, 1, 1.25, 1.25, 2],
    end=[1, 1, 1, 2, 3, 3, 3, 3],
    pitch=[60, 64, 60, 67, 62, 64, 72, 60],
    tempo_map=TempoMap(tempos=[100], time_signature_beats=[1], numerators=[3], denominators=[4]),
)
PROCESSORS: list[tuple[Processor, set[Role]]] = [
    (TopK(k=1), set()),
    (TopK(k=5), set()),
    (TopP(p=1e-9), set()),
    (TopP(p=0.5), set()),
    (MinP(ratio=0.2), set()),
    (MinP(ratio=1), set()),
    (PitchRange(low=60, high=60), {"pitch"}),
    (Scale(name="F# dorian"), {"pitch"}),
    (TempoRange(slowest=100, fastest=101), {"tempo"}),
    (ForbidValues(role="pitch", values=tuple(range(1, 128))), {"pitch"}),
    (ForbidValues(role="duration", values=(0.001,)), {"duration"}),
    (NoRepeatNGram(ngram_size=1), {"pitch"}),
    (NoRepeatNGram(ngram_size=2), {"pitch"}),
    (RepetitionPenalty(penalty=5), {"pitch"}),
    (Recall(notes=1, apart=2), {"step", "instrument", "pitch"}),
    (MaxPolyphony(notes=1), {"pitch", "step"}),
    (MaxPolyphony(notes=3), {"pitch", "step"}),
    (MaxChordSize(notes=1), {"step"}),
    (MaxChordSize(notes=3), {"step"}),
    (GridSnap(), {"step"}),
    (GridSnap(unit="beat", grid=0.5), {"step", "position"}),
    (NoteDensity(notes_per_second=100.0), {"step"}),
    (NoteDensity(notes_per_second=0.01), {"step"}),
    (MaxInstruments(count=1), {"step"}),
    (EndAt(seconds=1.0, within=0.0), {"end"}),
    (EndAt(seconds=0.25, within=1.0), {"end"}),
    (EndAt(seconds=0.0, within=0.0), {"end"}),
]
"""Each processor, and the roles that it changes; none for all. `Instruments` needs a model with the
instruments that it names: see ``tests/sampling/test_by_instrument.py``."""


@pytest.mark.parametrize(
    ("processor", "roles"), PROCESSORS, ids=[str(processor) for processor, _ in PROCESSORS]
)
def test_processors(processor: Processor, roles: set[Role]) -> None:
    check_processor(processor, roles=roles or None)
    piece, event = contexts_along(BeatEncoder(), IN_BARS), PerformanceEventEncoder()
    check_processor(processor, roles=roles or None, fields=BEATS, contexts=piece)
    # Of events they change the note-ons, and so the one field there is.
    check_processor(processor, roles=None, fields=EVENTS, contexts=contexts_along(event, IN_BARS))
    parts = PartMap(by="track", parts=BAND)
    band, beat_band = with_a_band(IN_BARS), BeatEncoder(parts=parts)
    # The instrument of the next note is known, as limits of its values need it.
    contexts = contexts_along(beat_band, band, {"instrument": 0.0})
    fields = [field for field in beat_band.fields if field.role != "instrument"]
    # Notes of a cell ascend, so that a limit of pitches also limits the step.
    above: set[Role] = {"step"} if "pitch" in roles else set()
    of_band = roles | above
    check_processor(processor, roles=of_band or None, fields=fields, contexts=contexts)
    event_band = PerformanceEventEncoder(parts=parts)
    contexts = contexts_along(event_band, band)
    check_processor(processor, roles=None, fields=event_band.fields, contexts=contexts)


def own(kind: str) -> list[plugins.Plugin]:
    """The library's own parts; what else is installed is not for this test to judge."""
    return [plugin for plugin in plugins.installed(kind) if plugin.distribution == "notelstm"]


@pytest.mark.parametrize("plugin", own("readers"), ids=lambda plugin: plugin.name)
def test_readers(plugin: plugins.Plugin) -> None:
    check_reader(plugin.load()(), files={"study": (GOLDEN / "study.mid").read_bytes()})


def test_no_built_in_is_left_out() -> None:
    """A part that joins the library joins this file, or this test says so."""
    checked = {
        "encoders": {"anticipating", "beat", "step-duration", "log-time", "performance-event"},
        "models": {"three-head-lstm", "note-lstm"},
        "losses": {"likelihood", "positive-pressure", "all-pairs"},
        "samplers": {"ancestral", "greedy", "weighted"},
        "processors": {
            *("temperature", "min-duration", "top-k", "top-p", "min-p", "pitch-range"),
            *("scale", "tempo-range", "forbid-values", "no-repeat-ngram", "repetition-penalty"),
            *("max-polyphony", "max-chord-size", "grid-snap", "note-density"),
            "end-at",
            *("instruments", "max-instruments", "recall"),
        },
    }
    # A mapping of terms is not a term; tests/encoders checks tokens with each tokenizer.
    beside = {"losses": {"composite"}, "encoders": {"miditok"}}
    for kind, names in checked.items():
        found = {plugin.name for plugin in own(kind)}
        assert found - beside.get(kind, set()) == names, kind
