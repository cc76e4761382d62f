"""Dynamic evaluation: a copy of a model that is trained on the music as it passes.

After each segment of rows, one step of gradient descent lowers the loss of these rows, so that the
model adapts to the piece, or to the player. Each row is predicted before the weights adapt to it.

With g the gradient of the mean loss of a segment, and v the mean of the squared gradients so far,
in which older ones count less, each weight w becomes::

    w - learning_rate * g / (sqrt(v) + EPSILON)

This is Adam without momentum. The weight then moves by the share `decay` of the distance back to
the trained weight, and v is that of one piece. Gradients go back to the first
row of the segment. The state of the model is carried from segment to segment: rows that have been
read are not read again with the new weights.

Source:
    Krause, Kahembwe, Murray and Renals: Dynamic evaluation of neural sequence models, ICML 2018.
    Their v is that of the training set.
"""

from __future__ import annotations

import copy
import logging
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.batch import columns
from notelstm.errors import ConfigError
from notelstm.fields import Rows, written_rows
from notelstm.losses import Likelihood
from notelstm.predictions import PointToNormal
from notelstm.protocols import Context, NoteEncoder, NoteModel, State
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.tree import detach, index, join, leaf, map_tree

__all__ = ["EPSILON", "SMOOTHING", "Adaptation", "AdaptedState", "Adapter"]

EPSILON: Final = 1e-5
"""Added to the root mean square of a gradient, so that weights without an influence stay."""
SMOOTHING: Final = 0.99
"""The factor by which a squared gradient counts less after each step."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """The settings of dynamic evaluation.

    Attributes:
        segment: The number of rows after which the weights change, at least 1.
        learning_rate: The size of a change, above 0.
        decay: The share of the distance to the trained weights by which each step moves back,
            at least 0 and below 1.
        own_samples: Whether a session also adapts to the rows that it samples, beside those that
            are fed.

    Raises:
        ConfigError: If a setting is of another kind, or out of range.
    """

    segment: int = 25
    learning_rate: float = 3e-4
    decay: float = 0.0
    own_samples: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        whole = isinstance(self.segment, numbers.Integral) and _is_number(self.segment)
        if not whole or self.segment < 1:
            raise ConfigError(f"segment {self.segment!r} is not a whole number of at least 1")
        object.__setattr__(self, "segment", int(self.segment))  # numpy's numbers are not JSON
        rate = self.learning_rate
        if not (_is_number(rate) and math.isfinite(rate) and rate > 0):
            raise ConfigError(f"learning_rate {rate!r} is not a finite number above 0")
        if not (_is_number(self.decay) and 0 <= self.decay < 1):
            raise ConfigError(f"decay {self.decay!r} is not at least 0 and below 1")
        if not isinstance(self.own_samples, bool):
            raise ConfigError(f"own_samples {self.own_samples!r} is not True or False")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


@final
@dataclass(frozen=True, eq=False)
class AdaptedState:
    """The state of an :class:`Adapter`; its tensors and arrays are not changed in place.

    Attributes:
        squares: The sum of the squared gradients of each weight, in which older ones count less.
        steps: The number of changes of the weights.
        context: The context (1, 1, ...) of the model before the current segment.
        state: The state (1, ...) of the model before the current segment.
        previous: (1, F) the row before the current segment.
        rows: (n, F) the rows of the current segment so far.
        targets: (n,) whether the model adapts to each of them.
    """

    settings: Adaptation
    weights: tuple[Tensor, ...]
    squares: tuple[Tensor, ...]
    steps: int
    context: Context
    state: State
    previous: Rows
    rows: Rows
    targets: NDArray[np.bool_]


@final
class Adapter:
    """Reads one sequence with a copy of a model, and adapts the copy to it.

    Each reading of a segment takes a forward and a backward pass. Beside the copy there are up to
    four tensors for each weight: the trained one, the present one, its square and its gradient.

    Args:
        model: The model, which is not changed. Parameters that do not require a gradient stay.
        encoder: Its encoder.
        settings: The settings.
        sigmas: The standard deviations of point predictions, by field name.

    Attributes:
        model: The copy, with the present weights, in evaluation mode.

    Raises:
        ConfigError: If the model has no parameters to adapt.
        FieldError: If a field is predicted without a likelihood, or as a point without a sigma.
    """

    def __init__(
        self,
        model: NoteModel,
        encoder: NoteEncoder,
        settings: Adaptation,
        *,
        sigmas: Mapping[str, float] | None = None,
    ) -> None:
        self.settings: Final = settings
        self._fields: Final = model.fields
        self._constraints: Final = Constraints(encoder, model.field_order)
        self._to_likelihood: Final = PointToNormal(sigmas=sigmas or {})
        with torch.inference_mode(False), torch.no_grad():
            module = copy.deepcopy(cast(nn.Module, model)).eval()
            self.model: Final = cast(NoteModel, module)
            self._parameters: Final = [p for p in module.parameters() if p.requires_grad]
            if not self._parameters:
                raise ConfigError(
                    "the model has no parameters that require a gradient",
                    hint="call requires_grad_() on the model, or leave out adapt",
                )
            self._trained: Final = tuple(p.detach().clone() for p in self._parameters)
            context, state = self.model.initial_state(1)
            none = np.zeros((1, len(self._fields)), dtype=np.float32)
            self._state = AdaptedState(
                settings=settings,
                weights=self._trained,
                squares=tuple(torch.zeros_like(w) for w in self._trained),
                steps=0,
                context=map_tree(torch.clone, context),
                state=map_tree(torch.clone, state),
                previous=rows_before(torch.from_numpy(none), self._fields).numpy(),
                rows=none[:0],
                targets=np.zeros(0, dtype=np.bool_),
            )
            # A model without a loss is an error now, not after the first segment.
            start = replace(self._state, rows=none, targets=np.ones(1, dtype=np.bool_))
            self._loss(start, torch.from_numpy(none).to(leaf(context).device), start.context)

    @property
    def room(self) -> int:
        """The number of rows until the weights may change."""
        return self.settings.segment - len(self._state.rows)

    @property
    def state(self) -> AdaptedState:
        """The current state, which can be set to an earlier one, or to that of another adapter.

        Raises:
            ConfigError: If the settings of the other adapter differ.
        """
        return self._state

    @state.setter
    def state(self, state: AdaptedState) -> None:
        if state.settings != self.settings:
            raise ConfigError(
                f"the state is one of {state.settings}, not of {self.settings}",
                hint="give both sessions the same adapt",
            )
        if state.weights is not self._state.weights:
            self._load(state.weights)
        self._state = state

    def _load(self, weights: Sequence[Tensor]) -> None:
        # The parameters stay the same tensors, as modules on a GPU expect.
        with torch.inference_mode(False), torch.no_grad():
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.copy_(weight)

    def read(self, rows: Rows, *, targets: bool = True) -> None:
        """Read the next rows; the weights change after the last row of each segment.

        Args:
            rows: (T, F).
            targets: Whether the model adapts to them, except for rows of given notes.
        """
        written = written_rows(rows, self._fields)
        chosen = np.full(len(rows), targets)
        if written is not None:
            chosen &= written
        while len(rows):
            room = self.room
            now, rows = rows[:room], rows[room:]
            adapted, chosen = chosen[:room], chosen[room:]
            self._state = replace(
                self._state,
                rows=np.concatenate([self._state.rows, now]),
                targets=np.append(self._state.targets, adapted),
            )
            if not self.room:
                self._state = self._after_segment(self._state)

    def _after_segment(self, state: AdaptedState) -> AdaptedState:
        """The state after a whole segment."""
        adapts = bool(state.targets.any())
        # On a GPU, cuDNN has no backward pass of an LSTM in evaluation mode.
        cudnn = torch.backends.cudnn.flags(enabled=False)
        with torch.inference_mode(False), torch.set_grad_enabled(adapts), cudnn:
            device = leaf(state.context).device
            rows = torch.from_numpy(state.rows).to(device)  # (n, F)
            contexts, after = self.model.forward(rows[None], state.state)
            if adapts:
                before = index(contexts, (slice(None), slice(None, -1)))
                loss = self._loss(state, rows, join([state.context, before], axis=1))
                state = self._stepped(state, loss)
            # Copies, since a slice would keep the whole.
            context = map_tree(lambda tensor: tensor[:, -1:].clone(), detach(contexts))
        return replace(
            state,
            context=context,
            state=detach(after),
            previous=state.rows[-1:],
            rows=state.rows[:0],
            targets=state.targets[:0],
        )

    def _loss(self, state: AdaptedState, rows: Tensor, contexts: Context) -> Tensor:
        """The loss of the targets among rows (n, F), divided by n, given (1, n, ...) contexts."""
        at = torch.from_numpy(state.targets.nonzero()[0]).to(rows.device)
        before = torch.from_numpy(np.concatenate([state.previous, state.rows[:-1]]))
        previous = before.to(rows.device)[at]
        known = columns(rows[at], self._fields)
        context = index(contexts, (0, at))
        loss, term = rows.new_zeros(()), Likelihood()
        for name in self.model.field_order:
            prediction = self._to_likelihood(name, self.model.predict(name, context, known))
            prediction = self._constraints.apply(name, prediction, known, previous, keep_own=True)
            loss = loss + term(prediction, known[name])
        return loss * (len(at) / len(rows))

    def _stepped(self, state: AdaptedState, loss: Tensor) -> AdaptedState:
        """The state after one step of gradient descent."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        given = [g for g in gradients if g is not None]
        with torch.no_grad():
            if not all(bool(torch.isfinite(g).all()) for g in given):
                _log.warning("not adapted to %d rows: the gradient is not finite", len(state.rows))
                return state
            # The weights of all squares add up to this.
            total = (1 - SMOOTHING ** (state.steps + 1)) / (1 - SMOOTHING)
            weights, squares = [], []
            for gradient, weight, square, trained in zip(
                gradients, state.weights, state.squares, self._trained, strict=True
            ):
                new, new_square = weight, square
                if gradient is not None:
                    new_square = SMOOTHING * square + gradient**2
                    scale = (new_square / total).sqrt_().add_(EPSILON)
                    new = weight - self.settings.learning_rate * (gradient / scale)
                    new.lerp_(trained, self.settings.decay)
                weights.append(new)
                squares.append(new_square)
            self._load(weights)
        return replace(state, weights=tuple(weights), squares=tuple(squares), steps=state.steps + 1)
