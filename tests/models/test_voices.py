"""Voice leading, compared with sums over single notes, and models with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from notelstm import tree
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.errors import FieldError
from notelstm.fields import Field
from notelstm.models import NoteLSTM
from notelstm.models.inference import repeat
from notelstm.models.sounding import AROUND, LONGEST, Sounding
from notelstm.models.voices import (
    PACE,
    RANK,
    NumpyVoices,
    VoiceLayer,
    Voices,
    voices_of,
    voices_of_rows,
)
from notelstm.parts import Part, PartMap
from notelstm.testing import check_model, random_rows

TRIO = PartMap(by="track", parts=tuple(Part(name=name) for name in ("One", "Two", "Three")))
INNER = LogTimeEncoder(exact=True, linear=0.3, growth=1.5, longest=8.0, parts=TRIO)
GIVEN = AnticipatingEncoder(inner=INNER, seconds=2.0)
ORDER = ("step", "instrument", "pitch", "velocity", "duration")
REACH = AROUND // 2
PITCHES = 40


def model_of(fields: tuple[Field, ...], **options: Any) -> NoteLSTM:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "fields": fields,
        "field_order": ORDER,
        "hidden_size": 8,
        "embedding_dim": 4,
        "sounding_features": True,
        "voice_leading": True,
    }
    model = NoteLSTM(**{**settings, **options}).eval()
    if model.voices is not None:
        torch.nn.init.normal_(model.voices.patterns)
        torch.nn.init.normal_(model.voices.parallel)  # 0 at first
    return model


def rows_of(fields: tuple[Field, ...], count: int) -> Tensor:
    """(2, T, F) rows of pitches near each other."""
    rows = torch.from_numpy(random_rows(fields, (2, count), np.random.default_rng(3)))
    rows[..., 0] = 60 + rows[..., 0] % 12
    step = [field.name for field in fields].index("step")
    rows[..., step] %= 20
    return rows


def sounding_of(notes: dict[tuple[int, int], tuple[int, int]]) -> Sounding:
    """The sounding notes of three instruments: the times left and since, by instrument, pitch."""
    left = torch.zeros(3 * PITCHES, dtype=torch.int32)
    since = torch.full_like(left, LONGEST)
    for (instrument, pitch), times in notes.items():
        at = instrument * PITCHES + pitch
        left[at], since[at] = times
    return Sounding(left, since)


def test_the_voices_are_the_latest_notes_of_each_instrument() -> None:
    sounding = sounding_of(
        {
            (0, 20): (500, 0),  # begins now
            (0, 22): (0, 400),
            (0, 24): (0, 900),
            (1, 12): (300, 700),  # sounds on
            (2, 5): (0, 250),  # has ended
        }
    )
    voices = voices_of(sounding, 3)
    assert voices.now.tolist() == [20, 12, -1]
    assert voices.before.tolist() == [22, 12, 5]
    silent = voices_of(sounding_of({}), 3)
    assert silent.now.tolist() == silent.before.tolist() == [-1, -1, -1]
    batch = Sounding(*(torch.stack(pair) for pair in zip(sounding, sounding_of({}), strict=True)))
    alone = voices_of_rows(tree.map_tree(lambda t: t.numpy(), batch), 3)
    np.testing.assert_array_equal(alone.now, [[20, 12, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(alone.before, [[22, 12, 5], [-1, -1, -1]])


def naive(
    layer: VoiceLayer, now: list[int], before: list[int], own: int, gates: Tensor
) -> list[float]:
    """The logits, from their definition."""
    logits = [0.0] * PITCHES
    for p in range(PITCHES):
        for k, q in enumerate([*now, *before]):
            if q < 0 or abs(p - q) > REACH:
                continue
            for r in range(RANK):
                logits[p] += float(gates[k * RANK + r] * layer.patterns[k, r, p - q + REACH])
    for k in range(len(now)):
        moved = k != own and -1 not in (before[own], now[k], before[k]) and now[k] != before[k]
        interval = before[own] - before[k]
        p = now[k] + interval
        if moved and abs(interval) <= REACH and 0 <= p < PITCHES:
            logits[p] += PACE * float(layer.parallel[interval + REACH])
    return logits


notes = st.lists(st.integers(-1, PITCHES - 1), min_size=3, max_size=3)


@given(now=notes, before=notes, own=st.integers(0, 2), seed=st.integers(0, 9))
@torch.no_grad()
def test_the_logits_are_sums_over_notes(
    now: list[int], before: list[int], own: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = VoiceLayer(3, PITCHES)
    torch.nn.init.normal_(layer.parallel)
    gates = torch.randn(2, layer.num_gates)
    # Beside a silent sequence.
    silent = [-1, -1, -1]
    voices = Voices(torch.tensor([now, silent]), torch.tensor([before, silent]))
    logits = layer(voices, torch.tensor([own, 0]), gates)
    want = torch.tensor([naive(layer, now, before, own, gates[0]), [0.0] * PITCHES])
    torch.testing.assert_close(logits, want, atol=1e-5, rtol=0)
    alone = NumpyVoices(layer)(
        tree.map_tree(lambda t: t.numpy(), voices), np.array([own, 0]), gates.numpy()
    )
    np.testing.assert_allclose(alone, want, atol=1e-5)


@torch.no_grad()
def test_a_voice_that_moves_in_parallel_is_told_apart() -> None:
    """The bass moves from 10 to 12; a fifth above it, 17 leads to 19 in parallel."""
    layer = VoiceLayer(2, PITCHES)
    layer.patterns.zero_()
    layer.parallel[7 + REACH] = -3.0
    gates = torch.zeros(layer.num_gates)

    def logits(now: list[int], before: list[int]) -> Tensor:
        found: Tensor = layer(
            Voices(torch.tensor(now), torch.tensor(before)), torch.tensor(0), gates
        )
        return found

    parallel = logits([-1, 12], [17, 10])
    assert parallel.nonzero().flatten().tolist() == [19]
    assert float(parallel[19]) == -3 * PACE
    assert not logits([-1, 12], [16, 10]).any()  # from a tritone
    assert not logits([-1, 10], [17, 10]).any()  # the bass does not move


@pytest.mark.parametrize("fields", [INNER.fields, GIVEN.fields], ids=["plain", "given"])
def test_a_model_keeps_its_contract(fields: tuple[Field, ...]) -> None:
    check_model(model_of(fields))


@pytest.mark.parametrize("memory", [0, 16])
@pytest.mark.parametrize("fields", [INNER.fields, GIVEN.fields], ids=["plain", "given"])
@torch.no_grad()
def test_the_numpy_step_agrees(fields: tuple[Field, ...], memory: int) -> None:
    model = model_of(fields, memory_window=memory)
    rows = rows_of(fields, 40)
    contexts, _ = model(rows, model.initial_state(2)[1])
    step = model.numpy_step()
    assert step is not None
    state = repeat(step.initial_state()[1], 2)
    for i in range(39):
        context, state = step.step(rows[:, i].numpy(), state)
        known = {f.name: rows[:, i + 1, k] for k, f in enumerate(fields)}
        for name in ORDER:
            want = model.predict(name, tree.index(contexts, (slice(None), i)), known)
            got = step.predict(name, context, known)
            torch.testing.assert_close(got.log_weights(), want.log_weights(), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_model_depends_on_which_voice_sang_what() -> None:
    """The notes of two other voices are changed over, which sounding-note features do not show."""
    model = model_of(INNER.fields)
    columns = {field.name: k for k, field in enumerate(INNER.fields)}
    rows = torch.zeros(2, 2, len(INNER.fields))
    rows[..., columns["duration"]] = 20
    rows[..., columns["pitch"]] = torch.tensor([60.0, 64.0])
    rows[..., columns["instrument"]] = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    known = {f.name: torch.full((2, 1), 0.0) for f in INNER.fields}

    def difference(model: NoteLSTM) -> float:
        for name in ("embed.instrument.weight", "heads.pitch.0.weight"):
            model.get_parameter(name).zero_()
        context, _ = model(rows, model.initial_state(2)[1])
        last = tree.index(context, (slice(None), slice(-1, None)))
        logits: Any = model.predict("pitch", last, known).log_weights()
        return float((logits[0] - logits[1]).abs().max())

    assert difference(model) > 0.1
    assert difference(model_of(INNER.fields, voice_leading=False)) < 1e-5


@torch.no_grad()
def test_a_plain_model_grows() -> None:
    small, large = model_of(INNER.fields), model_of(GIVEN.fields)
    large.grow_from(small)
    assert small.voices is not None
    assert large.voices is not None
    assert torch.equal(small.voices.patterns, large.voices.patterns)
    plain = rows_of(INNER.fields, 20)
    wide = torch.cat([plain, torch.zeros(2, 20, len(GIVEN.fields) - plain.shape[-1])], -1)
    contexts = [m(r, m.initial_state(2)[1])[0] for m, r in ((small, plain), (large, wide))]
    known = {f.name: wide[..., k] for k, f in enumerate(GIVEN.fields)}
    one, other = (
        m.predict("pitch", c, known).log_weights()
        for m, c in zip((small, large), contexts, strict=True)
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_model_without_voice_leading_does_not_grow() -> None:
    with pytest.raises(RuntimeError, match="voice_leading False instead of True"):
        model_of(GIVEN.fields).grow_from(model_of(INNER.fields, voice_leading=False))


@pytest.mark.parametrize(
    ("fields", "options", "match"),
    [
        (INNER.fields, {"sounding_features": False}, "sounding_features"),
        (
            INNER.fields,
            {"field_order": ("step", "pitch", "instrument", "velocity", "duration")},
            "before pitch",
        ),
        (LogTimeEncoder().fields, {"field_order": None}, "role instrument"),
    ],
)
def test_fields_without_voices_are_refused(
    fields: tuple[Field, ...], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(FieldError, match=match):
        model_of(fields, **options)
