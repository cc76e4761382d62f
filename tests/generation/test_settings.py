"""``generate`` with a temperature, top-p and processors, without building a sampler."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import notelstm
from notelstm import Bundle, Notes
from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.generation import generate, generate_batch, stream
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling import Ancestral, Greedy, Scale, Temperature, TopP, Weighted, allow_only
from notelstm.sampling.samplers import with_processors


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return notelstm.load()


def one_of_a_batch(bundle: Bundle, num_notes: int, **settings: Any) -> Notes:
    return generate_batch(bundle, num_notes, batch_size=2, **settings)[0]


def streamed(bundle: Bundle, num_notes: int, **settings: Any) -> Notes:
    notes = stream(bundle, num_notes=num_notes, **settings)
    start, end, pitch, velocity, *_ = zip(*notes, strict=True)
    return Notes(start=start, end=end, pitch=pitch, velocity=velocity)


EVERY_WAY = pytest.mark.parametrize("make", [generate, one_of_a_batch, streamed])


@EVERY_WAY
def test_keywords_equal_a_sampler_with_processors(
    make: Callable[..., Notes], bundle: Bundle
) -> None:
    scale = Scale(name="D dorian")
    processors = (Temperature(temperature=1.1), scale, TopP(p=0.9))
    got = make(bundle, 20, temperature=1.1, top_p=0.9, processors=[scale], seed=3)
    want = make(bundle, 20, sampler=Ancestral(processors=processors), seed=3)
    np.testing.assert_array_equal(got.pitch, want.pitch)
    np.testing.assert_allclose(got.start, want.start, atol=1e-6)
    assert set(got.pitch % 12) <= {2, 4, 5, 7, 9, 11, 0}


@EVERY_WAY
def test_a_sampler_and_keywords_contradict_each_other(
    make: Callable[..., Notes], bundle: Bundle
) -> None:
    for more in ({"temperature": 1.0}, {"top_p": 0.9}, {"processors": (Scale(),)}):
        with pytest.raises(ConfigError, match="sampler is given together with temperature"):
            make(bundle, 3, sampler=Greedy(), **more)


def test_custom_processors_can_read_the_latest_notes(bundle: Bundle) -> None:
    def no_repeat(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        if field.role != "pitch":
            return prediction
        allowed = torch.ones(len(contexts), field.classes or 0, dtype=torch.bool)
        for row, context in zip(allowed, contexts, strict=True):
            for _, tone in context.tracker.latest(1):
                row[tone.pitch] = False
        return allow_only(prediction, allowed)

    assert np.any(np.diff(generate(bundle, 150, seed=1).pitch) == 0)
    for music in generate_batch(bundle, 150, batch_size=2, processors=[no_repeat], seed=1):
        assert not np.any(np.diff(music.pitch) == 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 is not a number"),
        ({"top_p": 0.0}, "top-p 0.0 is not above 0"),
        ({"processors": (5,)}, "(5,) is not a sequence of processors"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str, bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        generate(bundle, 3, **settings)


def test_processors_of_the_bundle_run_between_temperature_and_top_p() -> None:
    own, more = Scale(name="A blues"), Scale(name="C major")
    made = with_processors(Weighted(processors=(own,)), (more,), temperature=2.0, top_p=0.5)
    assert made == Weighted(processors=(Temperature(temperature=2.0), own, more, TopP(p=0.5)))
    plain = Weighted()
    assert with_processors(plain, temperature=1.0) is plain
    for temperature, top_p in ((2.0, None), (None, 0.9)):
        with pytest.raises(ConfigError, match="do nothing with a greedy sampler"):
            with_processors(Greedy(), temperature=temperature, top_p=top_p)
    assert with_processors(Greedy(), temperature=1.0) == Greedy()


def test_processors_need_a_sampler_that_takes_them() -> None:
    def function(field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
        raise AssertionError

    assert with_processors(function) is function
    with pytest.raises(ConfigError, match="function has no setting `processors`"):
        with_processors(function, (Scale(),))
