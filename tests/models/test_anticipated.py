"""Sounding notes with given ones to come, compared with a list of notes, and a model with them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from notelstm import tree
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.fields import Field, Rows, no_row
from notelstm.models import NoteLSTM, anticipated
from notelstm.models.anticipated import (
    CHANNELS,
    DUE,
    KEPT,
    SLOTS,
    AnticipatingClock,
    Begun,
    Due,
    IntervalLayer,
)
from notelstm.models.inference import repeat
from notelstm.models.memory import Memory
from notelstm.models.sounding import (
    AROUND,
    LONGEST,
    Anticipated,
    Sounding,
    SoundingClock,
    nearness,
)
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.recipes import chorales
from notelstm.testing import check_model, random_rows

INNER = LogTimeEncoder(exact=True, linear=0.3, growth=1.5, longest=8.0)
ENCODER = AnticipatingEncoder(inner=INNER, seconds=2.0)
DUO = PartMap(by="track", parts=(Part(name="One"), Part(name="Two")))
PARTS = AnticipatingEncoder(
    inner=LogTimeEncoder(exact=True, linear=0.3, growth=1.5, longest=8.0, parts=DUO), seconds=2.0
)
ORDERS = {
    "step first": ("step", "pitch", "velocity", "duration"),
    "pitch first": ("pitch", "step", "velocity", "duration"),
}


def rows_of(encoder: AnticipatingEncoder, count: int, seed: int, batch_size: int = 2) -> Tensor:
    """(B, T, F) rows of three pitches, with short offsets, notes that repeat, and rests."""
    rng = np.random.default_rng(seed)
    rows = random_rows(encoder.fields, (batch_size, count), rng)
    rest = encoder.fields[1].rest
    rows[..., 0] = 60 + rows[..., 0] % 3
    rows[..., 1] = rng.choice([0, 0, 3, 20, 32, float(rest or 0)], (batch_size, count))
    rows[..., -1] = np.round(rng.choice([0, 0.01, 0.2, 0.5, 2.0], (batch_size, count)), 2)
    written = rows[..., -2] == 0
    rows[..., -1][written] = 0
    rows[..., 1][~written] = 0
    return torch.from_numpy(rows)


def clock_of(encoder: AnticipatingEncoder) -> AnticipatingClock:
    clock = AnticipatingClock.of(encoder.fields)
    assert clock is not None
    return clock


def naive(encoder: AnticipatingEncoder, rows: Rows, kept: int = KEPT) -> list[list[list[int]]]:
    """By row: left, since, coming and length of each tone, from a list of notes."""
    fields = encoder.fields
    tones = 128 * (1 if encoder.parts is None else 2)
    now, found = 0, []
    begun: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, int, int]] = []
    for row in rows:
        entries = [round(1000 * f.value_of(float(x))) for f, x in zip(fields, row, strict=True)]
        tone = int(row[0]) + (0 if encoder.parts is None else 128 * int(row[4]))
        if row[-2] == 1:
            waiting = [*waiting, (now + entries[-1], tone, entries[2])][-kept:]
        else:
            now += entries[1]
            if row[1] != fields[1].rest:
                begun.append((now, tone, entries[2]))
        # Notes that have begun keep their place among the latest.
        begun += [note for note in waiting if note[0] <= now and note not in begun]
        times = [[0] * tones, [LONGEST] * tones, [LONGEST] * tones, [0] * tones]
        for onset, k, length in begun:
            times[0][k] = max(times[0][k], onset + length - now)
            times[1][k] = min(times[1][k], now - onset)
        for onset, k, length in reversed(waiting):
            if onset > now:
                times[2][k], times[3][k] = onset - now, length
        found.append(times)
    return found


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_clock_equals_a_list_of_notes(seed: int, parts: bool) -> None:
    encoder = PARTS if parts else ENCODER
    clock, rows = clock_of(encoder), rows_of(encoder, 14, seed)
    sounding, state = clock.read(rows, clock.initial_state(2))
    for sequence in range(2):
        wanted = naive(encoder, rows[sequence].numpy())
        for i, times in enumerate(wanted):
            assert [part[sequence, i].tolist() for part in sounding] == times
    assert all(part.dtype == torch.int32 for part in (*sounding, *state.now, state.wait))


@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 13), max_size=4))
@settings(deadline=None, max_examples=40)
def test_rows_cut_anywhere_and_one_by_one_in_numpy_are_the_same(seed: int, cuts: set[int]) -> None:
    clock, rows = clock_of(PARTS), rows_of(PARTS, 14, seed)
    whole, last = clock.read(rows, clock.initial_state(2))
    state, parts = clock.initial_state(2), []
    for a, b in pairwise([0, *sorted(cuts), 14]):
        part, state = clock.read(rows[:, a:b], state)
        parts.append(part)
    for got, want in zip(tree.join(parts, axis=1), whole, strict=True):
        assert torch.equal(got, want)
    for name, got in tree.flatten(state).items():
        assert torch.equal(got, tree.flatten(last)[name]), name
    at: Any = tree.map_tree(lambda t: t.numpy(), clock.initial_state(2))
    for i in range(14):
        now, at = clock.after(rows[:, i].numpy(), at)
        for got, want in zip(now, whole, strict=True):
            assert got.tolist() == want[:, i].tolist()
            assert got.dtype == np.int32


@pytest.mark.parametrize("seed", range(3))
def test_the_first_of_too_many_given_notes_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(anticipated, "KEPT", 2)
    clock, rows = clock_of(ENCODER), rows_of(ENCODER, 30, seed)
    rows[:, 10:16, -2] = 1
    rows[:, 10:16, 1] = 0
    rows[:, 10:16, -1] = torch.linspace(0.5, 1.0, 6)
    whole, _ = clock.read(rows, clock.initial_state(2))
    state, at = clock.initial_state(2), clock.initial_state(2)
    at = tree.map_tree(lambda t: t.numpy(), at)
    for i in range(30):
        part, state = clock.read(rows[:, i : i + 1], state)
        now, at = clock.after(rows[:, i].numpy(), at)
        for got, alone, want in zip(part, now, whole, strict=True):
            assert torch.equal(got[:, 0], want[:, i])
            assert alone.tolist() == want[:, i].tolist()
    for sequence in range(2):
        for i, times in enumerate(naive(ENCODER, rows[sequence].numpy(), kept=2)):
            assert [part[sequence, i].tolist() for part in whole] == times


def test_given_notes_begin_while_time_passes() -> None:
    # A pitch that sounds, one that begins in 300, and one that does both.
    now = Anticipated(
        *(
            torch.tensor(times, dtype=torch.int32)
            for times in (
                [500, 0, 100, 0],
                [10, LONGEST, 200, 5],
                [LONGEST, 300, 300, LONGEST],
                [0, 200, 400, 0],
            )
        )
    )
    for wait, wanted in (
        (0, [list(map(int, part)) for part in now]),
        (
            299,
            [[201, 0, 0, 0], [309, LONGEST, 499, 304], [LONGEST, 1, 1, LONGEST], [0, 200, 400, 0]],
        ),
        (350, [[150, 150, 350, 0], [360, 50, 50, 355], [LONGEST] * 4, [0] * 4]),
        (
            LONGEST,
            [[0] * 4, [LONGEST, LONGEST - 300, LONGEST - 300, LONGEST], [LONGEST] * 4, [0] * 4],
        ),
    ):
        assert [part.tolist() for part in now.later(torch.tensor(wait))] == wanted
    near = now.around(torch.tensor(1))
    middle = AROUND // 2
    assert near.coming[middle : middle + 2].tolist() == [300, 300]
    assert near.length[middle : middle + 2].tolist() == [200, 400]
    assert near.coming[0] == LONGEST
    assert near.length[0] == near.left[0] == 0
    soon = nearness(now.coming, 500.0)
    assert soon[[0, 3]].tolist() == [0, 0]
    assert soon[1] == soon[2] == pytest.approx(np.exp(-0.6))
    assert float(nearness(now.later(torch.tensor(299)).coming, 500.0)[1]) > float(soon[1])


def model_of(encoder: AnticipatingEncoder, **options: Any) -> NoteLSTM:
    torch.manual_seed(0)
    model = NoteLSTM(
        fields=encoder.fields,
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
        **options,
    ).eval()
    assert model.intervals is not None
    nn.init.normal_(model.intervals.weight)  # 0 at first
    return model


@pytest.mark.parametrize("order", list(ORDERS))
def test_a_model_keeps_its_contract(order: str) -> None:
    check_model(model_of(ENCODER, field_order=ORDERS[order]))


@pytest.mark.parametrize("memory", [0, 16])
@torch.no_grad()
def test_the_numpy_step_agrees(memory: int) -> None:
    order = ("step", "instrument", "pitch", "velocity", "duration")
    model = model_of(PARTS, field_order=order, memory_window=memory)
    rows = rows_of(PARTS, 40, 1)
    contexts, _ = model(rows, model.initial_state(2)[1])
    step = model.numpy_step()
    assert step is not None
    state = repeat(step.initial_state()[1], 2)
    for i in range(rows.shape[1]):
        context, state = step.step(rows[:, i].numpy(), state)
        following = rows[:, (i + 1) % 40]
        known = {f.name: following[:, k] for k, f in enumerate(PARTS.fields)}
        for name in order:
            want = model.predict(name, tree.index(contexts, (slice(None), i)), known)
            got = step.predict(name, context, known)
            torch.testing.assert_close(
                got.log_weights(), want.log_weights(), atol=2e-6, rtol=0, msg=f"{name}, {i}"
            )


@torch.no_grad()
def test_the_numpy_step_agrees_where_some_sequences_have_no_given_notes() -> None:
    """With gates that are not 0, as they are at first; the first sequence has no given notes."""
    order = ("step", "instrument", "pitch", "velocity", "duration")
    model = model_of(PARTS, field_order=order)
    for head in model.heads.values():
        nn.init.normal_(cast(nn.Linear, cast(nn.Sequential, head)[-1]).weight)
    rows = rows_of(PARTS, 40, 2)
    names = [field.name for field in PARTS.fields]
    rows[0, :, names.index("origin")] = rows[0, :, names.index("offset")] = 0
    contexts, _ = model(rows, model.initial_state(2)[1])
    step = model.numpy_step()
    assert step is not None
    both, alone = repeat(step.initial_state()[1], 2), step.initial_state()[1]
    for i in range(39):
        context, both = step.step(rows[:, i].numpy(), both)
        single, alone = step.step(rows[:1, i].numpy(), alone)
        known = {f.name: rows[:, i + 1, k] for k, f in enumerate(PARTS.fields)}
        of_first = {name: entry[:1] for name, entry in known.items()}
        for name in order:
            want: Any = model.predict(name, tree.index(contexts, (slice(None), i)), known)
            logits = want.log_weights()
            got: Any = step.predict(name, context, known)
            torch.testing.assert_close(got.log_weights(), logits, atol=2e-5, rtol=0)
            first: Any = step.predict(name, single, of_first)
            torch.testing.assert_close(first.log_weights(), logits[:1], atol=2e-5, rtol=0)


def test_what_was_read_does_not_keep_the_graph_alive() -> None:
    model = model_of(ENCODER, field_order=ORDERS["step first"]).train()
    rows = rows_of(ENCODER, 40, 3)
    known = {f.name: rows[..., k] for k, f in enumerate(ENCODER.fields)}
    for step in (0.0, 32.0):  # before the given notes, and after some
        context = model(rows, model.initial_state(2)[1])[0]
        kept = weakref.ref(context.hidden)
        model.predict("pitch", context, {**known, "step": torch.full_like(known["step"], step)})
        del context
        gc.collect()
        assert kept() is None


@torch.no_grad()
def test_a_memory_is_added_to_a_model_of_given_notes() -> None:
    """Gates of given notes stand behind that of the votes, and keep their meaning."""
    order = ("step", "instrument", "pitch", "velocity", "duration")
    small, large = (model_of(PARTS, field_order=order, memory_window=m) for m in (0, 16))
    for head in small.heads.values():
        nn.init.normal_(cast(nn.Linear, cast(nn.Sequential, head)[-1]).weight)
    large.grow_from(small)
    for name in order:
        one, other = (cast(nn.Linear, cast(Any, m.heads[name])[-1]) for m in (small, large))
        gates, votes = small._num_gates(name), len(other.bias) - len(one.bias)
        assert votes == 1
        ends = len(one.bias) - gates
        kept = [*range(ends), *range(ends + votes, len(other.bias))]
        assert torch.equal(other.weight[kept], one.weight)
        assert float(other.bias[ends]) == pytest.approx(0.1)


@torch.no_grad()
def test_given_notes_to_come_change_the_step_and_the_pitch() -> None:
    model = model_of(ENCODER, field_order=ORDERS["step first"])
    cast(nn.Linear, cast(nn.Sequential, model.heads["step"])[-1]).bias[-4:] = 1.0
    row = no_row(ENCODER.fields)
    row[:] = [60, 0, 10, 10, 1, 1.0]
    outputs = []
    for offset in (1.0, 1.5):
        row[-1] = offset
        # The offset itself is not read by the LSTM here, only the features that follow from it.
        model.embed["offset"].weight.zero_()  # type: ignore[operator]
        context, _ = model(torch.from_numpy(row)[None, None], model.initial_state(1)[1])
        known = {f.name: torch.zeros(1, 1) for f in ENCODER.fields}
        outputs.append([model.predict(n, context, known).log_weights() for n in ("step", "pitch")])
    for one, other in zip(*outputs, strict=True):
        assert not torch.equal(one, other)


def test_a_model_without_an_origin_keeps_its_layers() -> None:
    torch.manual_seed(0)
    model = NoteLSTM(fields=INNER.fields, sounding_features=True, field_order=ORDERS["step first"])
    assert isinstance(model.clock, SoundingClock)
    sizes = {name: layer.in_features for name, layer in model.sounding_layers.items()}
    assert sizes == {"before": 512, "there": 512, "around": 4 * AROUND}
    assert isinstance(model.initial_state(1)[1].sounding, Sounding)
    fields = tuple(f for f in ENCODER.fields if f.name != "offset")
    assert AnticipatingClock.of(fields) is None


@pytest.mark.parametrize(("head_size", "memory"), [(0, 0), (6, 0), (6, 16)])
@torch.no_grad()
def test_a_model_of_plain_rows_grows(head_size: int, memory: int) -> None:
    """The predictions of plain rows stay, and given notes have no influence at first."""
    torch.manual_seed(1)
    options: dict[str, Any] = {"hidden_size": 8, "embedding_dim": 4, "head_size": head_size}
    small = NoteLSTM(
        fields=INNER.fields,
        field_order=ORDERS["step first"],
        sounding_features=True,
        memory_window=memory,
        **options,
    ).eval()
    more = Field.categorical("more", "other", values=range(3))
    fields = (*INNER.fields, more, *ENCODER.fields[4:])
    large = NoteLSTM(
        fields=fields,
        field_order=(*ORDERS["step first"], "more"),
        sounding_features=True,
        memory_window=memory,
        **options,
    ).eval()
    before = {name: weights.clone() for name, weights in large.state_dict().items()}
    large.grow_from(small)
    for name in ("embed.more.weight", "embed.origin.weight", "heads.more.0.weight"):
        if head_size:
            assert torch.equal(large.state_dict()[name], before[name])
    rows = random_rows(INNER.fields, (2, 20), np.random.default_rng(0))
    plain = torch.from_numpy(rows)
    none = torch.zeros(2, 20, 1)
    wide = torch.cat([plain, none + 1, none, none], -1)
    contexts = [m(r, m.initial_state(2)[1])[0] for m, r in ((small, plain), (large, wide))]
    known = {f.name: wide[..., k] for k, f in enumerate(fields)}
    for name in small.field_order:
        one, other = (
            m.predict(name, c, known).log_weights()
            for m, c in zip((small, large), contexts, strict=True)
        )
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    with pytest.raises(RuntimeError, match="the field order"):
        NoteLSTM(
            fields=fields,
            field_order=(*ORDERS["pitch first"], "more"),
            sounding_features=True,
            memory_window=memory,
            **options,
        ).grow_from(small)
    with pytest.raises(RuntimeError, match="the field more"):
        small.grow_from(large)


def merged_by_hand(encoder: AnticipatingEncoder, rows: Rows) -> tuple[list[Rows], list[int]]:
    """The rows in the order in which they begin, and the number of them after each row."""
    rest, now, last = encoder.fields[1].rest, 0, 0
    values = [round(1000 * value) for value in encoder.fields[1].values]
    classes = np.array(encoder.fields[1].edges[1:-2]) * 1000
    waiting: list[tuple[int, Rows]] = []
    found: list[Rows] = []
    counts = []

    def read(onset: int, row: Rows) -> None:
        nonlocal last
        given, row = row[-2] == 1, row.copy()
        row[-2:] = 0
        changed = given or (row[1] != rest and onset - last != values[int(row[1])])
        if changed:
            row[1] = int(np.searchsorted(classes, onset - last, side="right"))
        found.append(row)
        last = onset

    for row in rows:
        if row[-2] == 1:
            if row[-1] == 0:
                read(now, row)
            else:
                waiting.append((now + round(1000 * float(row[-1])), row))
        else:
            now += values[int(row[1])]
            for onset, note in [note for note in waiting if note[0] <= now]:
                read(onset, note)
            waiting = [note for note in waiting if note[0] > now]
            read(now, row)
        counts.append(len(found))
    return found, counts


def in_order(rows: Tensor) -> Tensor:
    """The same with onsets in order, as those of an encoder: 2 s ahead, or 0 at the start."""
    rows = rows.clone()
    given = rows[..., -2] == 1
    at_start = (~given).cumsum(1) == 0
    rows[..., -1] = torch.where(at_start, 0.0, 2.0) * given
    return rows


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_given_notes_are_read_when_they_begin(seed: int) -> None:
    clock, rows = clock_of(PARTS), rows_of(PARTS, 30, seed)
    rows[0, :3, -2] = 1  # a sequence that begins with given notes
    rows[0, :3, 1] = 0
    rows = in_order(rows)
    merged = clock.merge(rows, clock.initial_state(2))
    assert merged is not None
    state: Any = tree.map_tree(lambda t: t.numpy(), clock.initial_state(2))
    alone: list[list[Rows]] = [[], []]
    for i in range(30):
        row = rows[:, i].numpy()
        for begun in clock.begun(row, state) or [Begun(row, row, np.ones(2, np.bool_), None)]:
            for sequence in np.flatnonzero(begun.there).tolist():
                alone[sequence].append(begun.rows[sequence])
        _, state = clock.after(rows[:, i].numpy(), state)
    for k in range(2):
        wanted, counts = merged_by_hand(PARTS, rows[k].numpy())
        assert merged.latest[k].tolist() == counts
        assert int(merged.counts[k]) == len(wanted)
        assert merged.rows[k, : len(wanted)].tolist() == [row.tolist() for row in wanted]
        assert [row.tolist() for row in alone[k]] == [row.tolist() for row in wanted]


@given(st.lists(st.integers(1, 8), min_size=2, max_size=30), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_given_notes_begin_with_written_ones_of_their_onset(steps: list[int], each: int) -> None:
    """Even where the grid is no whole number of thousandths: chords stay together."""
    encoder: Any = chorales().encoder
    start = np.cumsum(steps) * encoder.cell
    lower = Notes(pitch=np.full(len(start), 48), start=start, end=start + encoder.cell)
    upper = Notes(
        pitch=np.full(len(start[::each]), 72),
        start=start[::each],
        end=start[::each] + encoder.cell,
    )
    notes = Notes.merge([replace(upper, **tracked(upper, 0)), replace(lower, **tracked(lower, 3))])
    rows = torch.from_numpy(encoder.encode_given(notes, notes.pitch == 72))[None]
    clock = clock_of(encoder)
    merged = clock.merge(rows, clock.initial_state(1))
    assert merged is not None
    pitches = merged.rows[0, : int(merged.counts[0]), 0].tolist()
    wanted = [p for i in range(len(start)) for p in ((72, 48) if i % each == 0 else (48,))]
    assert pitches == wanted


def tracked(notes: Notes, track: int) -> Any:
    """The columns of notes of one voice."""
    names = ("Soprano", "Alto", "Tenor", "Bass")
    return {"track": np.full(len(notes), track), "track_names": names}


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_lstm_reads_given_notes_when_they_begin(layers: int) -> None:
    """Its outputs are those of the rows in the order of their onsets."""
    model = model_of(ENCODER, field_order=ORDERS["step first"], num_layers=layers)
    for layer in model.sounding_layers.values():
        layer.weight.zero_()  # type: ignore[operator]
    rows = in_order(rows_of(ENCODER, 20, 3))
    contexts, state = model(rows, model.initial_state(2)[1])
    bias = cast(nn.Linear, model.sounding_layers["before"]).bias
    for k in range(2):
        merged, counts = merged_by_hand(ENCODER, rows[k].numpy())
        plain = torch.from_numpy(np.array(merged))[None]
        features = bias.expand(1, len(merged), -1)
        outputs = model.lstm(model._inputs(plain, features))[0][0]
        outputs = torch.cat([model.initial_state(1)[0].hidden[0], outputs])
        torch.testing.assert_close(contexts.hidden[k], outputs[counts], atol=1e-6, rtol=0)
        torch.testing.assert_close(state.hidden[k], outputs[-1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_heads_after_the_step_know_the_given_notes_that_begin_before_their_note(
    layers: int,
) -> None:
    """They predict what they would if those notes had been written."""
    model = model_of(ENCODER, field_order=ORDERS["step first"], num_layers=layers)
    for layer in model.sounding_layers.values():
        layer.weight.zero_()  # type: ignore[operator]
    assert model.intervals is not None
    model.intervals.weight.zero_()
    for name, sizes in model._input_blocks().items():
        for ahead in {"ahead", "coming"} & sizes.keys():
            at = sum(sizes[block] for block in list(sizes)[: list(sizes).index(ahead)])
            model.get_parameter(name)[:, at : at + sizes[ahead]] = 0
    rows, rest = rows_of(ENCODER, 40, 3), ENCODER.fields[1].rest
    assert rest is not None
    # Notes instead of rests.
    rows[..., 1].masked_fill_(rows[..., 1] == rest, 32.0)
    rows = in_order(rows)
    contexts, _ = model(rows, model.initial_state(2)[1])
    numpy_step = model.numpy_step()
    assert numpy_step is not None
    compared = 0
    for k in range(2):
        _, one = numpy_step.initial_state()
        for i in range(39):
            alone, one = numpy_step.step(rows[k, i : i + 1].numpy(), one)
            row = rows[k, i + 1]
            merged, _ = merged_by_hand(ENCODER, rows[k, : i + 2].numpy())
            read, _ = merged_by_hand(ENCODER, rows[k, : i + 1].numpy())
            if row[-2] == 1 or len(merged) == len(read) + 1:
                continue
            plain = torch.from_numpy(np.array(merged[:-1]))[None]
            written, _ = model(plain, model.initial_state(1)[1])
            last = tree.index(written, (slice(None), slice(-1, None)))
            here = tree.index(contexts, (slice(k, k + 1), slice(i, i + 1)))
            as_given = {f.name: row[c].view(1, 1) for c, f in enumerate(ENCODER.fields)}
            as_written = {**as_given, "step": torch.tensor([[merged[-1][1]]])}
            for field in ("pitch", "velocity"):
                want: Any = model.predict(field, last, as_written)
                got: Any = model.predict(field, here, as_given)
                entries = {name: entry[0] for name, entry in as_given.items()}
                of_one: Any = numpy_step.predict(field, alone, entries)
                logits = want.log_weights()
                torch.testing.assert_close(got.log_weights(), logits, atol=1e-5, rtol=0)
                torch.testing.assert_close(of_one.log_weights(), logits[0], atol=1e-5, rtol=0)
            compared += 1
    assert compared > 5


@torch.no_grad()
def test_rows_with_given_notes_cut_anywhere_are_the_same() -> None:
    model = model_of(PARTS, memory_window=16)
    rows = rows_of(PARTS, 40, 7)
    rows[1, 10:30, -2] = 1
    rows[1, 10:30, 1] = 0
    rows = in_order(rows)
    whole, last = model(rows, model.initial_state(2)[1])
    state, parts = model.initial_state(2)[1], []
    for a, b in pairwise([0, 2, 11, 25, 26, 40]):
        part, state = model(rows[:, a:b], state)
        parts.append(part)
    cut = tree.join(parts, axis=1)
    torch.testing.assert_close(cut.model, whole.model, atol=1e-6, rtol=0)
    torch.testing.assert_close(cut.memory.features, whole.memory.features)
    for name, got in tree.flatten(state).items():
        torch.testing.assert_close(got, tree.flatten(last)[name], atol=1e-6, rtol=0, msg=name)


@torch.no_grad()
def test_the_memory_reads_given_notes_when_they_begin() -> None:
    """Passages are compared in the order of onsets, and written notes vote with their own steps."""
    memory, clock = Memory(ENCODER.fields, ORDERS["step first"], 16), clock_of(ENCODER)
    rows = in_order(rows_of(ENCODER, 40, 5))
    merged = clock.merge(rows, clock.initial_state(2))
    assert merged is not None
    contexts, state = memory.read_merged(merged, memory.initial_state(2)[1])
    for k in range(2):
        by_hand, counts = merged_by_hand(ENCODER, rows[k].numpy())
        plain, last = memory(torch.from_numpy(np.array(by_hand))[None], memory.initial_state(1)[1])
        begun = torch.tensor(counts) > 0
        at = torch.tensor(counts)[begun] - 1
        torch.testing.assert_close(contexts.features[k][begun], plain.features[0, at])
        found, wanted = contexts.weights[k][begun], plain.weights[0, at]
        torch.testing.assert_close(found.sort(-1).values, wanted.sort(-1).values)
        assert not contexts.features[k][~begun].any()
        assert torch.equal(state.scores[k], last.scores[0])
        assert torch.equal(state.codes[k], last.codes[0])
        origin, step = memory.layout.columns.index(4), memory.layout.columns.index(1)
        written = rows[k][rows[k, :, -2] == 0, 1]
        kept = state.entries[k][state.entries[k, :, origin] == 0, step]
        assert kept.tolist() == written[-len(kept) :].tolist()


@torch.no_grad()
def test_votes_of_given_notes_are_passed_over() -> None:
    """After a repeated passage, the first written note among the next ones votes."""
    memory = Memory(ENCODER.fields, ORDERS["step first"], 16)
    # Two notes, a given one, and a written one; then the two notes again.
    notes = [[60, 0, 10, 10, 0, 0], [62, 20, 10, 10, 0, 0], [65, 20, 10, 10, 1, 0]]
    notes += [[67, 3, 10, 10, 0, 0], *notes[:2]]
    context, _ = memory(torch.tensor([notes], dtype=torch.float32), memory.initial_state(1)[1])
    here = tree.index(context, (slice(None), slice(-1, None)))
    written = {"origin": torch.zeros(1, 1), "offset": torch.zeros(1, 1)}
    step = memory.votes("step", here, written).log_shares
    assert int(step.argmax()) == 3
    known = {**written, "step": torch.full((1, 1), 3.0)}
    pitch = memory.votes("pitch", here, known).log_shares
    assert int(pitch.argmax()) == 67


def test_heads_know_which_parts_have_notes_ahead() -> None:
    clock = clock_of(PARTS)
    coming = torch.full((1, 256), LONGEST, dtype=torch.int32)
    coming[0, 128 + 60], coming[0, 128 + 72] = 1000, 500
    nothing = torch.zeros_like(coming)
    sounding = Anticipated(nothing, coming, coming, nothing)
    found = clock.ahead(sounding)[0]
    assert found[:3].tolist() == [0, 1, 0]
    assert 0 < float(found[3]) < 1
    sooner = clock.ahead(sounding._replace(coming=coming.clamp_max(100)))[0]
    assert float(sooner[3]) > float(found[3])
    alone = clock.ahead_rows(tree.map_tree(lambda t: t.numpy(), sounding))
    np.testing.assert_allclose(alone[0], found, atol=1e-6)


@given(
    waits=st.lists(st.integers(1, 900), max_size=2 * DUE),
    passed=st.integers(0, 1000),
    parts=st.booleans(),
    slots=st.sampled_from([SLOTS, 4]),
)
def test_notes_to_come_stand_in_the_order_of_their_instrument(
    waits: list[int], passed: int, parts: bool, slots: int
) -> None:
    """Those that begin until then are left out, and steps lead from one to the next."""
    encoder = PARTS if parts else ENCODER
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anticipated, "SLOTS", slots)
        clock, waits = clock_of(encoder), sorted(waits)[:DUE]
    rng = np.random.default_rng(len(waits))
    rows = random_rows(encoder.fields, (1, DUE), rng).astype(np.float32)
    wait = np.zeros((1, DUE), dtype=np.int32)
    wait[0, : len(waits)] = waits
    names = [field.name for field in encoder.fields]
    each = min(DUE, max(2, slots // (2 if parts else 1)))
    assert clock.num_slots == each * (2 if parts else 1)
    want, last, numbers = [], {0: passed, 1: passed}, {0: 0, 1: 0}
    for i, onset in enumerate(waits):
        if onset <= passed:
            continue
        k = int(rows[0, i, names.index("instrument")]) if parts else 0
        if numbers[k] < each:
            entries = [float(rows[0, i, names.index(n)]) for n in clock.coming_fields]
            entries[0] = float(clock.step_classes(torch.tensor([onset - last[k]])))
            want.append((k * each + numbers[k], entries))
        last[k], numbers[k] = onset, numbers[k] + 1
    due = Due(torch.from_numpy(wait), torch.from_numpy(rows))
    tensors = clock.coming(due, torch.tensor([passed]))
    alone = clock.coming_rows(Due(wait, rows), np.array([passed], dtype=np.int32))  # type: ignore[arg-type]
    found: Any
    for found in (tensors, alone):
        slot, columns = (of[0][found[0][0] >= 0].tolist() for of in found)
        assert list(zip(slot, columns, strict=True)) == want


@torch.no_grad()
def test_heads_know_the_order_of_the_notes_to_come() -> None:
    """Two melodies of the same first note, and the same pitches after it, in another order."""
    model = model_of(ENCODER, field_order=ORDERS["step first"])
    nn.init.normal_(cast(nn.Linear, model.coming).weight)
    rows = torch.from_numpy(np.array([no_row(ENCODER.fields)] * 6)).reshape(2, 3, -1)
    rows[..., 0] = torch.tensor([[60.0, 62.0, 64.0], [60.0, 64.0, 62.0]])
    rows[..., 1] = 0
    rows[..., 2:4] = 10
    rows[..., -2] = 1
    rows[..., -1] = torch.tensor([0.5, 1.0, 1.5])
    contexts, _ = model(rows, model.initial_state(2)[1])
    known = {f.name: torch.zeros(2, 1) for f in ENCODER.fields}
    last = tree.index(contexts, (slice(None), slice(-1, None)))
    changed = {}
    for silent in (False, True):
        if silent:
            cast(nn.Linear, model.coming).weight.zero_()
        for name in ("step", "pitch"):
            logits: Any = model.predict(name, last, known).log_weights()
            changed[name, silent] = float((logits[0] - logits[1]).abs().max())
    assert changed["step", False] > 10 * changed["step", True]
    assert changed["pitch", False] > 0


def test_onsets_to_come_are_found_among_the_classes_of_a_time() -> None:
    clock = clock_of(ENCODER)
    coming = torch.full((2, 128), LONGEST, dtype=torch.int32)
    coming[0, 60], coming[0, 64], coming[0, 67] = 100, 250, 250
    left = torch.zeros_like(coming)
    left[:, 70] = 200
    sounding = Anticipated(left, coming, coming, coming)
    alone = tree.map_tree(lambda t: t.numpy(), sounding)
    for field in (ENCODER.fields[1], ENCODER.fields[2]):
        first, other, beyond, ends = clock.aligned(field.name, sounding)[0]
        at = [int(part.argmax()) for part in (first, other)]
        for k, seconds in zip(at, (0.1, 0.25), strict=True):
            assert field.edges[k] <= seconds < field.edges[k + 1]
        assert first.sum() == other.sum() == ends.sum() == 1
        assert field.edges[int(ends.argmax())] <= 0.2 < field.edges[int(ends.argmax()) + 1]
        assert beyond.nonzero().flatten().tolist() == list(range(at[0] + 1, field.classes or 0))
        assert not clock.aligned(field.name, sounding)[1, :3].any()
        rows = clock.aligned_rows(field.name, alone)
        assert rows.tolist() == clock.aligned(field.name, sounding).tolist()


def test_features_of_instruments_are_of_their_own_notes() -> None:
    """The first has a note that begins, the second one that sounds, and a given one to come."""
    clock = clock_of(PARTS)
    now = clock.now(clock.initial_state(1))
    now.left[0, 60], now.since[0, 60] = 500, 0
    now.left[0, 128 + 60], now.since[0, 128 + 60], now.coming[0, 128 + 62] = 500, 100, 250
    sounds, begins, known, near = clock.aligned("instrument", now)[0].tolist()
    assert sounds == [1, 1]
    assert begins == [1, 0]
    assert known == [0, 1]
    assert near[0] == 0 < near[1] < 1
    rows = clock.aligned_rows("instrument", tree.map_tree(lambda t: t.numpy(), now))
    assert rows.tolist() == clock.aligned("instrument", now).tolist()
    later = now.later(torch.tensor([250]))
    assert clock.aligned("instrument", later)[0, 1].tolist() == [0, 1]


@torch.no_grad()
def test_gates_raise_the_classes_that_end_with_a_given_note() -> None:
    model = model_of(ENCODER, field_order=ORDERS["step first"])
    row = torch.tensor([[[60, 0, 10, 10, 1, 0.2]]])
    context, _ = model(row, model.initial_state(1)[1])
    known = {f.name: torch.zeros(1, 1) for f in ENCODER.fields}
    before = {n: model.predict(n, context, known).log_weights() for n in ("step", "duration")}
    for name in before:
        cast(nn.Linear, cast(nn.Sequential, model.heads[name])[-1]).bias[-4] = 5.0
    for name, weights in before.items():
        after = model.predict(name, context, known).log_weights()
        assert after is not None
        assert weights is not None
        raised = int((after - weights).argmax())
        field = next(f for f in ENCODER.fields if f.name == name)
        assert field.edges[raised] <= 0.2 < field.edges[raised + 1]


@torch.no_grad()
def test_intervals_raise_the_pitches_near_a_note_to_come() -> None:
    """The weights depend on the interval alone, and octaves beyond two are not reached."""
    layer = IntervalLayer(2, 128)
    assert not layer.weight.any()
    times = torch.full((128,), LONGEST, dtype=torch.int32)
    silence, coming = torch.zeros_like(times), times.clone()
    coming[[60, 72]] = torch.tensor([500, 1000], dtype=torch.int32)
    others = Anticipated(silence, times, times, silence)
    own = Anticipated(silence, times, coming, silence)
    gates = torch.ones(2 * CHANNELS)
    layer.weight[CHANNELS + 4, AROUND // 2 + 2] = (
        1.0  # of the first note to come, two semitones above
    )
    logits = layer([others, own], gates)
    assert logits.nonzero().flatten().tolist() == [58]
    assert float(logits[58]) == pytest.approx(np.exp(-1))
    assert not layer([own, others], gates).any()
    gates[CHANNELS + 4] = 0
    assert not layer([others, own], gates).any()
    layer.weight.fill_(1.0)
    reached = layer([others, own._replace(coming=times)], torch.ones(2 * CHANNELS))
    assert not reached.any()
    reached = layer([others, own], torch.ones(2 * CHANNELS)).nonzero().flatten()
    assert reached.tolist() == list(range(60 - AROUND // 2, 72 + AROUND // 2 + 1))
