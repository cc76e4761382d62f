"""A processor and a sampler of your own, used without registration.

A processor changes the predicted distribution of a field before a value is sampled from it; a
sampler chooses the value. Plain functions suffice. A frozen dataclass can have settings, and with
an entry point in the ``pyproject.toml`` of its package it is found by name: see ``plugin_package``.
Needs the extra ``testing``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from notelstm import generate, load
from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling import allow_only
from notelstm.testing import check_processor, check_sampler


def white_keys(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    """A processor that allows the white keys only; it finds the field by its role."""
    if field.role != "pitch":
        return prediction
    return allow_only(
        prediction, torch.tensor([p % 12 in {0, 2, 4, 5, 7, 9, 11} for p in range(128)])
    )


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy:
    """A sampler that returns the most likely value, or samples with probability `epsilon`."""

    epsilon: float = 0.5

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        # All randomness comes from the noise. Values below epsilon, rescaled, are uniform again.
        rescaled = torch.stack([noise[:, 0] / self.epsilon % 1, noise[:, 1]], dim=1)
        sampled = prediction.sample(rescaled)
        return torch.where(noise[:, 0] < self.epsilon, sampled, prediction.mode())


# Check that the parts satisfy their protocols.
check_processor(white_keys, roles={"pitch"})
check_sampler(EpsilonGreedy())

bundle = load()
print("unchanged:     ", *generate(bundle, num_notes=24, seed=7).pitch)
print("white keys:    ", *generate(bundle, num_notes=24, seed=7, processors=[white_keys]).pitch)
print("epsilon-greedy:", *generate(bundle, num_notes=24, seed=7, sampler=EpsilonGreedy()).pitch)
