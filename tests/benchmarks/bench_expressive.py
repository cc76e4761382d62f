"""Time of a training step of the expressive recipe, compared with bare PyTorch and by parts.

Run it as a file, or with pytest's ``-s``. Steps take turns in one process, so that whatever else
the machine does falls on both sides; a figure is the median of the ratios of neighbouring steps.
Models of equal size are compared: with the memory and exact cells, with exact cells alone, and with
neither.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from notelstm.batch import Batch
from notelstm.encoders import LogTimeEncoder
from notelstm.fields import Rows
from notelstm.models.memory import Memory
from notelstm.recipes import Recipe, expressive, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import Callback, JSONLogger, Progress, Trainer
from notelstm.training.step import TrainStep
from notelstm.tree import detach

STEPS: Final = 24
AIM: Final = 1.05
WINDOW: Final = 4096
"""Of the memory, that of the pretrained model."""

BOTH, EXACT, NEITHER = "memory and exact cells", "exact cells", "neither"
SPEED: Final = 0.8
"""The least speed of training with both, relative to training with neither."""


class BareStep:
    """Forward, backward, clip, optimizer on ready tensors, the state carried; nothing else."""

    def __init__(self, recipe: Recipe, batches: list[Batch]) -> None:
        self.model: Any = recipe.build_model().train()  # type: ignore[attr-defined]
        self.names = [f.name for f in recipe.encoder.fields]
        self.clip = recipe.training.max_grad_norm or 0.0
        self.optimizer = recipe.training.build_optimizer(self.model.parameters())
        self.state = self.model.initial_state(recipe.batch_size)[1]
        self.ready = []
        for rows, _, _ in batches:
            targets = rows[:, 1:].flatten(0, 1)
            known = {name: targets[:, i] for i, name in enumerate(self.names)}
            self.ready.append((rows[:, :-1], known))

    def __call__(self, number: int) -> None:
        rows, known = self.ready[number % len(self.ready)]
        context, state = self.model(rows, self.state)
        self.state = detach(state)
        context = type(context)(*(_flat(part) for part in context))
        terms = [self.model.predict(n, context, known).nll(known[n]).mean() for n in self.names]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(terms).sum())
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()


def _flat(part: Any) -> Any:
    """(B, T, ...) to (B T, ...)."""
    if isinstance(part, torch.Tensor):
        return part.flatten(0, 1)
    return type(part)(*(_flat(tensor) for tensor in part))


class TakeTurns(Callback):
    """A callback that stops the clock after each step of the trainer's and lets a bare one run."""

    def __init__(self, bare: BareStep) -> None:
        self.bare = bare
        self.began = 0.0
        self.seconds: list[tuple[float, float]] = []

    def on_step_end(self, trainer: Trainer) -> None:
        ours = time.perf_counter()
        self.bare(trainer.state.steps)
        bare = time.perf_counter()
        self.seconds.append((ours - self.began, bare - ours))
        self.began = time.perf_counter()


def rows_for(recipe: Recipe) -> list[Rows]:
    """Rows for all steps, one piece per sequence, so that every row is scored."""
    generator = np.random.default_rng(0)
    count = recipe.sequence_length * STEPS + 1
    piece = long_piece(generator, count=count, seconds=count / 8)
    return [recipe.encoder.encode(piece)] * recipe.batch_size


def measure(recipe: Recipe) -> list[tuple[float, float]]:
    """Seconds of the trainer's steps and of the bare ones, pair by pair."""
    torch.manual_seed(0)
    batches = recipe.batches(rows_for(recipe))
    bare = BareStep(recipe, list(itertools.islice(batches.epoch(0), 4)))
    turns = TakeTurns(bare)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            recipe.build_model(),
            recipe.build_loss(),
            config=recipe.training,
            callbacks=[turns, JSONLogger(), Progress()],
            folder=folder,
        ).fit(batches)
    # The first steps warm up.
    return turns.seconds[4:]


class WholeStep:
    """A training step as the trainer takes it, with what an encoder allows, on ready batches."""

    def __init__(self, recipe: Recipe) -> None:
        batches = recipe.batches(rows_for(recipe))
        self.batches = list(itertools.islice(batches.epoch(0), 4))
        model = recipe.build_model()
        self.module = TrainStep(model, recipe.build_loss(), recipe.encoder).train()
        self.optimizer = recipe.training.build_optimizer(self.module.parameters())
        self.state: Any = None

    def __call__(self, number: int) -> None:
        losses, state = self.module(self.batches[number % len(self.batches)], self.state)
        self.state = detach(state)
        self.optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()


def compare_parts() -> dict[str, list[float]]:
    """Seconds of the steps with and without the memory and exact cells, and of the alignment."""
    exact = with_settings(recipe(), {"model": {"memory_window": 0}})
    sides = {
        BOTH: WholeStep(with_settings(recipe(), {"model": {"memory_window": WINDOW}})),
        EXACT: WholeStep(exact),
        NEITHER: WholeStep(replace(exact, encoder=LogTimeEncoder())),
    }
    memory = sides[BOTH].module.model.memory
    assert isinstance(memory, Memory)
    seconds: dict[str, list[float]] = {name: [] for name in (*sides, "alignment")}
    began = 0.0

    def start(*_: object) -> None:
        nonlocal began
        began = time.perf_counter()

    def stop(*_: object) -> None:
        seconds["alignment"].append(time.perf_counter() - began)

    memory.register_forward_pre_hook(start)
    memory.register_forward_hook(stop)
    for number in range(STEPS):
        for name, step in sides.items():
            before = time.perf_counter()
            step(number)
            seconds[name].append(time.perf_counter() - before)
    # The first steps warm up.
    return {name: times[4:] for name, times in seconds.items()}


def speeds() -> dict[str, float]:
    """The speed of training with both relative to neither, and the shares of the memory."""
    seconds = {name: np.array(times) for name, times in compare_parts().items()}
    with_both = seconds[BOTH]
    return {
        f"speed with {BOTH}, relative to neither": float(np.median(seconds[NEITHER] / with_both)),
        "share of the memory in a step": float(np.median(1 - seconds[EXACT] / with_both)),
        "of which alignment": float(np.median(seconds["alignment"] / with_both)),
        f"step with {BOTH}, ms": 1e3 * float(np.median(with_both)),
    }


def recipe() -> Recipe:
    """The recipe that is measured."""
    training = {"epochs": 1, "device": "cpu"}
    return with_settings(expressive(), {"batch_size": 64, "training": training})


def figures() -> dict[str, float]:
    """The ratio's median and quartiles, the bare step, and the relative speed."""
    pairs = measure(recipe())
    low, median, high = np.percentile([trainer / bare for trainer, bare in pairs], [25, 50, 75])
    return {
        "trainer / bare step": float(median),
        "its lower quartile": float(low),
        "its upper quartile": float(high),
        "pairs of steps": len(pairs),
        "bare step, ms": 1e3 * float(np.median([bare for _, bare in pairs])),
        **speeds(),
    }


def test_memory_and_exact_cells_slow_training_little() -> None:
    found = speeds()
    print()
    for name, figure in found.items():
        print(f"expressive: {name}: {figure:.3f}")
    assert found[f"speed with {BOTH}, relative to neither"] >= SPEED


def test_the_trainer_costs_little_more_than_the_bare_step() -> None:
    pairs = measure(recipe())
    ratios = np.array([trainer / bare for trainer, bare in pairs])
    low, median, high = np.percentile(ratios, [25, 50, 75])
    step = 1e3 * np.median([bare for _, bare in pairs])
    print(
        f"\nexpressive: trainer / bare step: {median:.3f} (quartiles {low:.3f} to {high:.3f}, "
        f"{len(pairs)} pairs of steps; bare step {step:.0f} ms); aim at most {AIM}"
    )
    assert median <= AIM


if __name__ == "__main__":
    test_memory_and_exact_cells_slow_training_little()
    test_the_trainer_costs_little_more_than_the_bare_step()
