"""How likely a model finds what is drawn, to keep the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from notelstm.fields import Field
from notelstm.protocols import Density, Prediction, Sampler, View

__all__ = ["Weighed"]


@final
class Weighed:
    """A sampler that also adds up how unlikely the model finds what is chosen.

    What the model says counts, before any processor of the sampler bends it. Fields without a
    likelihood, single values, do not count.

    Args:
        sampler: What chooses.
        lanes: B.

    Attributes:
        nats: (B,) so far.
    """

    def __init__(self, sampler: Sampler, lanes: int) -> None:
        self._sampler = sampler
        self.nats: NDArray[np.float64] = np.zeros(lanes)

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """What the sampler chooses."""
        chosen = self._sampler(field, prediction, noise, views)
        if isinstance(prediction, Density):
            self.nats += prediction.nll(chosen).double().cpu().numpy()
        return chosen
