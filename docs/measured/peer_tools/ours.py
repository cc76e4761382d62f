"""The recipes of this library, and the design of TensorFlow's tutorial made of its parts."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.evaluation import fit_sigmas, nats_per_note
from notelstm.fields import Rows
from notelstm.generation import generate
from notelstm.losses import CompositeLoss, Likelihood, PositivePressure
from notelstm.notes import Notes
from notelstm.recipes import Recipe, expressive, reference
from notelstm.training import Callback, Trainer
from peer_tools.common import Budget, Nats, Tool, count_parameters


class _Clock(Callback):
    """Ends a run when its budget is used."""

    def __init__(self, tool: RecipeTool, budget: Budget) -> None:
        self._tool, self._budget = tool, budget

    @override
    def check(self, trainer: Trainer) -> None:
        trainer.time_fraction = 0.0

    @override
    def on_bundle_ready(self, bundle: Bundle) -> None:
        self._tool.bundle = bundle

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        self._budget.start()

    @override
    def on_step_end(self, trainer: Trainer) -> None:
        trainer.time_fraction = self._budget.stepped()
        if trainer.time_fraction >= 1:
            trainer.stop("the budget is used", now=True)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self._tool.seen += round(metrics["targets_per_second"] * metrics["seconds"])


class _LowestLoss(Callback):
    """Keeps the weights after the epoch with the lowest training loss."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self._loss = math.inf

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if metrics["loss"] < self._loss:
            self._loss = metrics["loss"]
            model = cast(nn.Module, trainer.module.model)
            self.weights = copy.deepcopy(model.state_dict())


class RecipeTool(Tool):
    """A recipe of this library."""

    imports = "from notelstm import generate, write_midi; from notelstm.recipes import expressive"
    distributions = ("notelstm",)
    callbacks: Sequence[Callback] = ()
    bundle: Bundle
    _fitted: list[Rows]  # of the residuals of point predictions

    def recipe(self) -> Recipe:
        """The recipe, with its own rate and batch."""
        raise NotImplementedError

    @override
    def train(
        self, pieces: Sequence[Notes], *, rate: float, batch: int, seed: int, budget: Budget
    ) -> None:
        recipe = self.recipe()
        training = replace(
            recipe.training, epochs=None, learning_rate=rate, seed=seed, device="cpu"
        )
        recipe = replace(recipe, batch_size=batch, training=training)
        self._fitted = recipe.encode(pieces[:10])
        recipe.train(pieces, callbacks=[*self.callbacks, _Clock(self, budget)])

    @override
    def score(self, pieces: Sequence[Notes]) -> list[Nats]:
        model, encoder = self.bundle.generation_model, self.bundle.encoder
        sigmas = fit_sigmas(model, self._fitted)
        scores = nats_per_note(model, encoder, pieces, sigmas=sigmas)
        return [dict(piece.nats) for piece in scores.pieces]

    @override
    def generate(self, prompt: Notes, count: int) -> int:
        return len(generate(self.bundle, count, prompt=prompt, seed=0))

    @property
    @override
    def parameters(self) -> int:
        return count_parameters(cast(nn.Module, self.bundle.model))


class Expressive(RecipeTool):
    """The recipe ``expressive``."""

    name = "notelstm, `expressive`"
    program = "notelstm_expressive.py"
    rates = (0.002, 0.0007, 0.006)
    batches = (16, 4)

    @override
    def recipe(self) -> Recipe:
        return expressive()


class Reference(RecipeTool):
    """The recipe ``reference``."""

    name = "notelstm, `reference`"
    program = "notelstm_reference.py"
    rates = (0.005, 0.0017, 0.015)
    batches = (64, 16)

    @override
    def recipe(self) -> Recipe:
        return reference()


class Tutorial(RecipeTool):
    """The design of TensorFlow's tutorial "Generate music with an RNN".

    An LSTM of 128 units reads 25 notes and predicts the logits of the pitch and two points; Adam.
    The tutorial restores the weights of the epoch with the lowest training loss: these are scored.
    """

    name = "TensorFlow's tutorial, its design"
    imports, distributions = "", ()  # those of TensorFlow are not measured
    rates = (0.005, 0.0017, 0.015)
    batches = (64, 16)

    def __init__(self, cache: Path) -> None:
        super().__init__(cache)
        self._lowest = _LowestLoss()
        self.callbacks = (self._lowest,)

    @override
    def score(self, pieces: Sequence[Notes]) -> list[Nats]:
        model = cast(nn.Module, self.bundle.model)
        current = copy.deepcopy(model.state_dict())
        model.load_state_dict(self._lowest.weights or current)
        try:
            return super().score(pieces)
        finally:
            model.load_state_dict(current)

    @override
    def recipe(self) -> Recipe:
        recipe = reference(sigmoid=False, in_order=False)
        points = PositivePressure()
        loss = CompositeLoss(
            terms={"pitch": (Likelihood(), 0.05), "step": (points, 1.0), "duration": (points, 1.0)}
        )
        # AdamW without decay is Adam.
        training = replace(recipe.training, optimizer="adamw", weight_decay=0.0)
        return replace(recipe, name="tutorial", loss=loss, training=training)
