"""Sessions that adapt: the weights are part of the state, and the model is left alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from notelstm.adaptation import Adaptation, AdaptedState, Adapter
from notelstm.batch import columns
from notelstm.bundle import Bundle
from notelstm.encoders import (
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
    tracker_of,
)
from notelstm.errors import ConfigError
from notelstm.evaluation.nats import contexts
from notelstm.fields import Rows
from notelstm.generation import Session
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.models.inference import in_use
from notelstm.notes import Note
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral, RawPitch, Weighted
from notelstm.testing.makers import long_piece

ADAPT = Adaptation(segment=4, learning_rate=0.02)
OWN = replace(ADAPT, own_samples=True)
SIGMAS = {"step": 0.1, "duration": 0.4}
PIECE = long_piece(np.random.default_rng(0), count=60, seconds=15)


def chained(encoder: NoteEncoder | None = None, **options: Any) -> Bundle:
    encoder = LogTimeEncoder(exact=True) if encoder is None else encoder
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, **options)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def windowed_points() -> Bundle:
    encoder = StepDurationEncoder()
    torch.manual_seed(0)
    model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
    with torch.no_grad():
        for name in ("step", "duration"):
            cast(nn.Linear, model.get_submodule(f"{name}_linear")).bias.fill_(0.1)
    return Bundle(model=model, encoder=encoder, sampler=Weighted(), context_length=7, sigmas=SIGMAS)


def as_module() -> Bundle:
    """A model without a numpy step, since its weights are not float32."""
    bundle = chained()
    return replace(bundle, model=cast(Any, bundle.model).double())


BUNDLES: dict[str, Callable[[], Bundle]] = {
    "chained": lambda: chained(sounding_features=True),
    "memory": lambda: chained(memory_window=16),
    "events": lambda: chained(PerformanceEventEncoder()),
    "windowed points": windowed_points,
    "module": as_module,
}
every_bundle = pytest.mark.parametrize("make", BUNDLES.values(), ids=BUNDLES)


def session_of(bundle: Bundle, adapt: Adaptation | None = ADAPT, **options: Any) -> Session:
    return Session(
        bundle.generation_model,
        bundle.encoder,
        bundle.sampler,
        seed=3,
        adapt=adapt,
        sigmas=bundle.sigmas,
        **options,
    )


def rows_of(bundle: Bundle, count: int = 40) -> Rows:
    return bundle.encoder.encode(PIECE)[:count]


def adapted(session: Session) -> AdaptedState:
    state = session.snapshot().state.adapted
    assert state is not None
    return state


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree.detach() if isinstance(tree, torch.Tensor) else tree]


def assert_same_state(some: Session, others: Session) -> None:
    """The weights, and the states of both the model and its adapter."""
    a, b = adapted(some), adapted(others)
    pairs = [
        *zip(a.weights, b.weights, strict=True),
        *zip(a.squares, b.squares, strict=True),
        *zip(leaves(a.state), leaves(b.state), strict=True),
        *zip(
            leaves(some.snapshot().state.model), leaves(others.snapshot().state.model), strict=True
        ),
        (a.rows, b.rows),
        (a.targets, b.targets),
    ]
    assert a.steps == b.steps
    for mine, theirs in pairs:
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


@every_bundle
def test_adaptation_does_not_change_the_model(make: Callable[[], Bundle]) -> None:
    bundle = make()
    module = cast(nn.Module, bundle.model)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    session = session_of(bundle, OWN)
    session.feed(rows_of(bundle))
    session.run(num_notes=5)
    assert adapted(session).steps > 0
    assert all(torch.equal(weight, before[n]) for n, weight in module.state_dict().items())
    assert module.training


@every_bundle
def test_sessions_and_scores_have_the_same_adapted_predictions(make: Callable[[], Bundle]) -> None:
    """The numpy step with the new weights against the module that is scored."""
    bundle = make()
    rows = rows_of(bundle, 19)
    model, encoder = bundle.generation_model, bundle.encoder
    adapter = Adapter(model, encoder, ADAPT, sigmas=bundle.sigmas)
    first = adapter.model.field_order[0]
    session = session_of(bundle)
    with in_use(adapter.model):
        for here, context in contexts(adapter.model, torch.from_numpy(rows), adapter):
            scored = adapter.model.predict(
                first, context, columns(torch.from_numpy(rows[here]), encoder.fields)
            )
            wanted = scored.log_weights()
            assert wanted is not None
            if bundle.context_length is not None and here.start:
                continue  # runs that have begun keep what they have read
            for i, row in enumerate(rows[here]):
                runner = session._runner
                with runner.running():
                    made = runner.step.predict(first, runner.state.context, {}).log_weights()
                assert made is not None
                torch.testing.assert_close(
                    made[0].log_softmax(-1),
                    wanted[i].log_softmax(-1),
                    atol=1e-4,
                    rtol=1e-4,
                    check_dtype=False,
                )
                session.feed(row[None])
    assert adapter.state.steps == 4


@every_bundle
def test_adaptation_changes_the_samples(make: Callable[[], Bundle]) -> None:
    bundle = make()
    rows = rows_of(bundle)
    fixed, adapting = session_of(bundle, None), session_of(bundle)
    for session in (fixed, adapting):
        session.feed(rows)
    played = [np.concatenate([s.next() for _ in range(30)]) for s in (fixed, adapting)]
    assert not np.array_equal(played[0], played[1])


@pytest.mark.parametrize("make", [m for name, m in BUNDLES.items() if name != "events"])
@settings(max_examples=6, deadline=None)
@given(
    calls=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    share=st.floats(0, 1),
    own=st.booleans(),
)
def test_undo_restores_the_weights_exactly(
    make: Callable[[], Bundle], calls: list[int], share: float, own: bool
) -> None:
    """Undone notes leave no trace; a call of 0 samples a note, other numbers feed so many."""
    bundle = make()
    session, plain = (session_of(bundle, OWN if own else ADAPT) for _ in range(2))
    rows = rows_of(bundle, 60)

    def act(on: Session, counts: list[int]) -> None:
        for count in counts:
            at = on.trackers[0].num_notes
            on.feed(rows[at : at + count]) if count else on.next()

    act(session, calls)
    total = session.trackers[0].num_notes
    left = total - max(1, round(share * total))
    session.undo(total - left)
    kept: list[int] = []
    for count in calls:
        if left <= 0:
            break
        kept.append(min(count, left))
        left -= max(1, count)
    act(plain, kept)
    assert_same_state(session, plain)
    session.feed(rows[:9])
    plain.feed(rows[:9])
    assert_same_state(session, plain)


@pytest.mark.parametrize("undone", [1, 3, 9])
def test_undo_of_events_restores_the_weights_exactly(undone: int) -> None:
    bundle = BUNDLES["events"]()
    rows = rows_of(bundle, 70)
    session, plain = session_of(bundle), session_of(bundle)
    session.feed(rows[:20])
    for row in rows[20:]:
        session.feed(row[None])
    notes = session.trackers[0].num_notes
    session.undo(undone)
    tracker = tracker_of(bundle.encoder)
    for i, row in enumerate(rows):
        tracker.push(row)
        if tracker.num_notes > notes - undone:
            plain.feed(rows[:i])
            break
    assert 0 < adapted(plain).steps < len(rows) // ADAPT.segment
    assert_same_state(session, plain)


@every_bundle
def test_snapshots_have_the_adapted_weights(make: Callable[[], Bundle]) -> None:
    bundle = make()
    rows = rows_of(bundle)
    session = session_of(bundle, OWN)
    session.feed(rows[:13])
    snapshot = session.snapshot()

    def play(on: Session) -> Rows:
        sampled = [on.next() for _ in range(7)]
        if not isinstance(bundle.encoder, PerformanceEventEncoder):
            on.feed(rows[13:20])  # events need not fit the sampled ones
        return np.concatenate([*sampled, *(on.next() for _ in range(10))])

    played = play(session)
    session.restore(snapshot)
    np.testing.assert_array_equal(play(session), played)
    other = session_of(bundle, OWN)
    other.feed(rows[:17])
    other.restore(pickle.loads(pickle.dumps(snapshot)))
    np.testing.assert_array_equal(play(other), played)
    assert_same_state(session, other)


@every_bundle
def test_rows_fed_together_or_one_by_one_adapt_alike(make: Callable[[], Bundle]) -> None:
    bundle = make()
    rows = rows_of(bundle)
    whole, single = session_of(bundle), session_of(bundle)
    whole.feed(rows)
    for row in rows:
        single.feed(row[None])
    assert adapted(whole).steps == 10
    np.testing.assert_array_equal(whole.next(), single.next())


@every_bundle
def test_a_deep_copy_continues_like_the_original(make: Callable[[], Bundle]) -> None:
    bundle = make()
    rows = rows_of(bundle)
    session = session_of(bundle, OWN)
    session.feed(rows[:22])
    copied = copy.deepcopy(session)
    played = [np.concatenate([on.next() for _ in range(20)]) for on in (session, copied)]
    np.testing.assert_array_equal(played[0], played[1])
    assert_same_state(session, copied)


def test_fed_notes_change_the_weights() -> None:
    session = session_of(chained())
    for k in range(9):
        session.feed(Note(k / 4, k / 4 + 0.2, 60 + k, 80))
    assert adapted(session).steps == 2


def test_own_samples_change_the_weights_only_if_asked() -> None:
    bundle = chained()
    quiet, own = session_of(bundle), session_of(bundle, OWN)
    fixed = session_of(bundle, None)
    for session in (quiet, own, fixed):
        session.run(num_notes=30)
    assert adapted(quiet).steps == 0
    assert adapted(own).steps == 30 // ADAPT.segment
    # The others sample the same notes.
    np.testing.assert_array_equal(quiet.next(), fixed.next())


def test_memory_is_constant() -> None:
    """As many sets of weights are kept as segments can be undone, and one unfinished segment."""
    bundle = chained()
    session = session_of(bundle, max_undo=12)
    counts = []
    for _ in range(5):
        for row in rows_of(bundle, 40):
            session.feed(row[None])
        steps = session._history._steps
        kept = {id(point.adapted.weights) for _, point in steps if point.adapted is not None}
        counts.append(len(kept))
        assert len(adapted(session).rows) < ADAPT.segment
    assert adapted(session).steps == 50
    assert max(counts) <= 2 * 12 // ADAPT.segment + 1
    sampled = session_of(bundle, max_undo=12)
    sampled.run(num_notes=100)
    assert len(adapted(sampled).rows) < ADAPT.segment


def test_contradicting_settings_are_rejected() -> None:
    bundle = chained()
    with pytest.raises(ConfigError, match="batch_size of 1, not 2"):
        session_of(bundle, batch_size=2)
    with pytest.raises(ConfigError, match="own_samples and an input_transform"):
        session_of(bundle, OWN, input_transform=RawPitch())
    with pytest.raises(ConfigError, match="adapt True is no Adaptation"):
        session_of(bundle, cast(Any, True))
    fixed, adapting = session_of(bundle, None), session_of(bundle)
    for one, other in ((fixed, adapting), (adapting, fixed)):
        with pytest.raises(ConfigError, match="only one of the snapshot and the session"):
            one.restore(other.snapshot())
    with pytest.raises(ConfigError, match="the state is one of"):
        adapting.restore(session_of(bundle, OWN).snapshot())
