"""A sampler and a processor of one's own, used without registering anything.

A processor changes the prediction of a field; a sampler chooses an entry. Plain functions are
enough. A frozen dataclass can have settings, and with an entry point in its package's
``pyproject.toml`` it is found by name: see ``plugin_package``. Needs the extra ``testing``.
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
    """A processor: fields are known by their role, not by their name."""
    if field.role != "pitch":
        return prediction
    return allow_only(
        prediction, torch.tensor([p % 12 in {0, 2, 4, 5, 7, 9, 11} for p in range(128)])
    )


@dataclass(frozen=True, kw_only=True)
class Loyal:
    """A sampler: the likeliest, but now and then a draw. All chance comes from the noise."""

    share: float = 0.5

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        # What is below the share, stretched, is uniform again.
        again = torch.stack([noise[:, 0] / self.share % 1, noise[:, 1]], dim=1)
        drawn = prediction.sample(again)
        return torch.where(noise[:, 0] < self.share, drawn, prediction.mode())


# One line each says whether a part keeps its contract.
check_processor(white_keys, roles={"pitch"})
check_sampler(Loyal())

bundle = load()
print("as it is:  ", *generate(bundle, 24, seed=7).pitch)
print("white keys:", *generate(bundle, 24, seed=7, processors=[white_keys]).pitch)
print("loyal:     ", *generate(bundle, 24, seed=7, sampler=Loyal()).pitch)
