"""A sampler and two processors of one's own, used without registering anything.

A processor changes what the model predicts of a field before the draw; a sampler draws. Plain
functions will do. A frozen dataclass can have settings, and with an entry point in its package's
``pyproject.toml`` it is saved with the model and found by name: see ``plugin_package``.
Needs the extra ``testing`` for the contract checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from notelstm import Notes, Processor, generate
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, View
from notelstm.recipes import expressive, override
from notelstm.sampling.processors import allow_only
from notelstm.testing import check_processor, check_sampler


def white_keys(field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
    """A processor: pitches of C major only. Fields are known by their role, not by their name."""
    if field.role != "pitch" or not isinstance(prediction, Categorical):
        return prediction
    white = [int(pitch) % 12 in {0, 2, 4, 5, 7, 9, 11} for pitch in field.values]
    return allow_only(prediction, torch.tensor(white))


@dataclass(frozen=True, kw_only=True)
class NotAgain:
    """A processor that listens: no pitch that still sounds is struck again.

    Attributes:
        step: The encoder's field of steps; the model draws it before the pitch.
    """

    step: Field

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        if field.role != "pitch" or not isinstance(prediction, Categorical):
            return prediction
        silent = torch.ones(len(views), len(field.values), dtype=torch.bool)  # (B, C)
        for lane, view in enumerate(views):
            step = self.step.value_of(view.known[self.step.name])
            sounding = view.tracker.sounding(view.tracker.clock + step)
            silent[lane] = torch.tensor([pitch not in sounding for pitch in field.values])
        return allow_only(prediction, silent)


@dataclass(frozen=True, kw_only=True)
class TopK:
    """A sampler: draws among the `k` likeliest classes; numbers as they are predicted."""

    k: int = 5
    processors: tuple[Processor, ...] = ()

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        for processor in self.processors:
            prediction = processor(field, prediction, views)
        if isinstance(prediction, Categorical):
            least = prediction.logits.topk(min(self.k, prediction.logits.shape[-1])).values[:, -1:]
            prediction = allow_only(prediction, prediction.logits >= least)
        # All chance comes from the noise: the same seed gives the same music.
        return prediction.draw(noise)


# One line each says whether a part keeps its contract.
check_sampler(TopK())
check_processor(white_keys, roles={"pitch"})

# A chromatic scale, up and down, in held eighth notes.
degree = np.abs(np.arange(400) % 48 - 24)
start = 0.25 * np.arange(400)
scale = Notes(start=start, end=start + 0.6, pitch=48 + degree)
recipe = override(
    expressive(hidden=48),
    {"window": 16, "batch": 4, "training": {"epochs": 20, "learning_rate": 0.01}},
)
bundle = recipe.train([scale])

not_again = NotAgain(step=recipe.encoder.fields[1])
white = TopK(k=3, processors=(white_keys, not_again))
plain = generate(bundle, 48, prompt=scale[:32], seed=1)
chosen = generate(bundle, 48, prompt=scale[:32], sampler=white, seed=1)
print("as the model is:", *plain.pitch)
print("white keys only:", *chosen.pitch)
