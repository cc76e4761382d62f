"""One forward pass for training: what DDP, autocast and compilation wrap."""

from __future__ import annotations

from typing import Final, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.batch import Batch, columns, send
from notelstm.errors import FieldError
from notelstm.fields import by_name
from notelstm.losses import CompositeLoss, Losses
from notelstm.models.inference import in_use
from notelstm.protocols import Batches, Context, NoteModel, State
from notelstm.tree import choose, index, join, leaf, map_tree

__all__ = ["TrainStep", "measure_terms"]


@final
class TrainStep(nn.Module):
    """A model and its loss as one module.

    Heads run on scored positions only.

    Args:
        model: The model.
        loss: Its loss.

    Raises:
        FieldError: If the loss has a term of a field that the model has not.
    """

    def __init__(self, model: NoteModel, loss: CompositeLoss) -> None:
        super().__init__()
        self.model: nn.Module = cast(nn.Module, model)
        self.loss: Final = loss
        self._fields: Final = model.fields
        names = by_name(model.fields)
        strange = [name for name in loss.terms if name not in names]
        if strange:
            raise FieldError(
                f"the loss has terms of fields that the model lacks: {', '.join(strange)}",
                hint=f"use {', '.join(names)}",
            )

    @override
    def forward(self, batch: Batch, state: State | None) -> tuple[Losses, State]:
        """The loss of a batch.

        Args:
            batch: B lanes of T + 1 rows.
            state: What the batch before left, or None if every lane starts afresh.

        Returns:
            The total and the terms, scalars; and the state after the batch.
        """
        model = cast(NoteModel, self.model)
        begin, anew = model.initial_state(batch.rows.shape[0])
        if state is None:
            state = anew
        elif bool(batch.reset_state.any()):
            state = choose(send(batch.reset_state, batch.rows.device), anew, state)
        after, state = model.forward(batch.rows[:, :-1], state)
        if _last_only(batch.target_mask):
            context = index(after, (slice(None), -1))
            targets = batch.rows[:, -1]  # (S, F)
        else:
            context = _scored_contexts(begin, after, batch.target_mask)
            targets = batch.rows.flatten(0, 1)[_places(batch.target_mask, batch.rows.device)]
        known = columns(targets, self._fields)
        predictions = {name: model.predict(name, context, known) for name in self.loss.terms}
        return self.loss(predictions, known), state


def _last_only(scored: Tensor) -> bool:
    """Whether just the last row of each lane is scored: a slice then does for an index."""
    flags = scored.numpy()
    return bool(flags[:, -1].all()) and int(np.count_nonzero(flags)) == len(flags)


def _scored_contexts(begin: Context, after: Context, scored: Tensor) -> Context:
    """The contexts (S, ...) that predict the scored rows, from (B, 1, ...) and (B, T, ...)."""
    if not bool(scored[:, 0].any()):
        contexts, scored = after, scored[:, 1:]
    else:
        contexts = join([begin, after], axis=1)  # (B, T + 1, ...)
    return map_tree(lambda t: t.flatten(0, 1)[_places(scored, t.device)], contexts)


def _places(scored: Tensor, device: torch.device) -> Tensor:
    """(S,) where the scored rows are, found on the CPU, so that the device is never waited for."""
    return send(scored.flatten().nonzero().squeeze(1), device)


def measure_terms(model: NoteModel, loss: CompositeLoss, batches: Batches) -> dict[str, float]:
    """Each term of an untrained model's loss on the first batch, to be balanced.

    Args:
        model: The model.
        loss: A loss whose weights are to be chosen.
        batches: The training set.

    Returns:
        By field name; give it to :meth:`notelstm.losses.CompositeLoss.balanced`.
    """
    step = TrainStep(model, loss)
    with in_use(model):
        device = leaf(model.initial_state(1)[0]).device
        losses, _ = step(next(iter(batches.epoch(0))).move(device), None)
    return {name: float(value) for name, value in losses.terms.items()}
