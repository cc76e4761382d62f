"""Training on every device there is here, and never waiting for one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from notelstm import Bundle, Notes, generate
from notelstm.errors import ConfigError
from notelstm.evaluation import nats_per_note
from notelstm.losses import CompositeLoss
from notelstm.models import inference, sounding
from notelstm.protocols import Batches
from notelstm.recipes import Recipe, expressive, reference, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import Callback, Samples, Trainer, TrainingConfig, writers
from notelstm.tree import leaf

Make = Callable[[], Any]
DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_training_is_the_same_on_every_device(make: Make, device: str, precision: str) -> None:
    study, plain = make(), make()
    options = {"epochs": 6, "optimizer": "adamw", "learning_rate": 0.02, "max_grad_norm": 1.0}
    trainer = study.trainer(**options, device=device, precision=precision)
    history = trainer.fit(study.batches, study.validation)
    assert {parameter.device.type for parameter in trainer.module.parameters()} == {device}
    wanted = plain.trainer(**options).fit(plain.batches, plain.validation)
    # Each device drops other units.
    ends = [h.epochs[-1]["validation"] for h in (history, wanted)]
    assert ends[0] == pytest.approx(ends[1], abs=0.1)
    assert ends[0] < history.epochs[0]["validation"]


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_resumes_on_every_device(make: Make, device: str, tmp_path: Path) -> None:
    whole, cut, again = make(), make(), make()
    wanted = whole.trainer(epochs=2, device=device).fit(whole.batches)
    cut.trainer(folder=tmp_path, epochs=1, device=device).fit(cut.batches)
    trainer = again.trainer(folder=tmp_path, epochs=2, device=device)
    rest = trainer.fit(again.batches, resume=True)
    assert rest.epochs[0]["loss"] == pytest.approx(wanted.epochs[1]["loss"], rel=1e-4)


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is copied from the CPU to another device, other than by :func:`send`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [a for a in args if isinstance(a, Tensor)]
        if isinstance(result, Tensor) and result.device.type == "meta":
            copies = "copy" in func.name()
            if copies and any(a.device.type == "cpu" for a in given):
                self.seen.append(func.name())
        return result


def sent(tensor: Tensor, device: Any) -> Tensor:
    """What :func:`send` does, for a device that holds nothing."""
    return torch.empty_like(tensor, device=device)


def pieces() -> list[Any]:
    generator = np.random.default_rng(0)
    return [long_piece(generator, count=n, seconds=n / 8) for n in (60, 40, 50)]


@functools.cache
def recipes() -> tuple[Recipe, ...]:
    small = with_settings(
        expressive(hidden_size=8),
        {"sequence_length": 9, "batch_size": 3, "training": {"warmup_steps": 2}},
    )
    every = reference(last_only=False, point_estimates=False)
    return (*(with_settings(recipe, {"batch_size": 2}) for recipe in (reference(), every)), small)


class EnoughError(Exception):
    """Ends a run in the middle of an epoch, without reading its losses."""


class StopsAfter(Callback):
    """Raises after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps == self.steps:
            raise EnoughError


def steps_on_meta(
    recipe: Recipe, loss: CompositeLoss, monkeypatch: pytest.MonkeyPatch
) -> tuple[Trainer, list[str]]:
    """Two steps on a device without memory: whatever reads a number from it is an error."""
    monkeypatch.setattr("notelstm.batch.send", sent)
    monkeypatch.setattr("notelstm.training.step.send", sent)
    monkeypatch.setattr("notelstm.training.trainer.pick_device", lambda _: torch.device("meta"))
    config = replace(recipe.training, accumulate_grad_batches=2)
    batches: Batches = recipe.batches(recipe.encode(pieces()))
    trainer = Trainer(
        recipe.build_model(),
        loss,
        config=config,
        callbacks=[StopsAfter(2)],
        encoder=recipe.encoder,
    )
    with Copies() as copies, pytest.raises(EnoughError):
        trainer.fit(batches)
    return trainer, copies.seen


@pytest.mark.parametrize("number", range(3))
def test_steps_never_wait_for_the_device(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes()[number]
    trainer, copies = steps_on_meta(recipe, recipe.build_loss(), monkeypatch)
    assert copies == []
    assert trainer.state.sums is not None
    assert trainer.state.sums.device.type == "meta"
    assert not recipe.stateful or leaf(trainer.state.carried).device.type == "meta"


def reads(prediction: Any, target: Tensor) -> Tensor:
    """A broken term: it looks at what was computed."""
    value: Tensor = prediction.nll(target).mean()
    return value if math.isfinite(float(value.detach())) else value * 0


def branches(prediction: Any, target: Tensor) -> Tensor:
    """Another: it asks whether a target is there."""
    value: Tensor = prediction.nll(target)
    return value[target > 0].mean()


def fetches(prediction: Any, target: Tensor) -> Tensor:
    """And one that sends a constant each time."""
    value: Tensor = prediction.nll(target).mean()
    return value * torch.ones(1).to(value.device)[0]


@pytest.mark.parametrize("term", [reads, branches])
def test_a_synchronizing_part_is_detected(term: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes()[2]
    loss = CompositeLoss(terms={"pitch": (term, 1.0)})
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps_on_meta(recipe, loss, monkeypatch)


def test_a_blocking_copy_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = CompositeLoss(terms={"pitch": (fetches, 1.0)})
    assert steps_on_meta(recipes()[2], loss, monkeypatch)[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("number", range(3))
def test_cuda_reports_synchronization(number: int) -> None:
    recipe = recipes()[number]
    batches = recipe.batches(recipe.encode(pieces()))

    class Watches(Callback):
        def on_train_start(self, trainer: Trainer) -> None:
            torch.cuda.set_sync_debug_mode("error")

        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.state.steps == trainer.steps_per_epoch:
                torch.cuda.set_sync_debug_mode("default")

    config = replace(recipe.training, epochs=1, device="cuda")
    try:
        Trainer(
            recipe.build_model(), recipe.build_loss(), config=config, callbacks=[Watches()]
        ).fit(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_device_auto_is_found(make: Make) -> None:
    study = make()
    config = TrainingConfig(device="auto", epochs=1)
    trainer = Trainer(study.model, study.loss, config=config)
    trainer.fit(study.batches)
    assert trainer.device.type == DEVICES[1 if len(DEVICES) > 1 else 0]


def tiny() -> Recipe:
    settings = {"training": {"epochs": 1, "device": "cpu"}, "sequence_length": 8, "batch_size": 2}
    return with_settings(expressive(hidden_size=8), settings)


def test_devices_without_float64_are_refused_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Apple's devices; here, that of tensors without data stands for them."""
    piece = long_piece(np.random.default_rng(0), count=40, seconds=10)
    bundle = tiny().train([piece])
    monkeypatch.setattr(inference, "has_float64", lambda device: device.type == "cpu")
    assert len(generate(bundle, 4, seed=1)) == 4
    cast(torch.nn.Module, bundle.model).to("meta")
    message = r"need float64, which meta devices do not have.*bundle\.model\.to\("
    with pytest.raises(ConfigError, match=message):
        inference.ModuleStep(bundle.model)
    with pytest.raises(ConfigError, match=message):
        nats_per_note(bundle.model, bundle.encoder, [piece])


@pytest.mark.parametrize("device", DEVICES)
def test_samples_are_generated_on_the_cpu(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_settings(tiny(), {"training": {"device": device}})
    piece = long_piece(np.random.default_rng(0), count=40, seconds=10)
    models: list[torch.nn.Module] = []

    class Look(Callback):
        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            models.append(trainer.module.model)
            assert {parameter.device.type for parameter in trainer.parameters} == {device}

    def noted(bundle: Bundle, num_notes: int, *, seed: int) -> Notes:
        models.append(cast(torch.nn.Module, bundle.model))
        return generate(bundle, num_notes, seed=seed)

    monkeypatch.setattr(writers, "generate", noted)
    recipe.train([piece], folder=tmp_path, callbacks=[Samples(), Look()])
    sampled, trained = models
    assert sampled is not trained
    assert {parameter.device.type for parameter in sampled.parameters()} == {"cpu"}
    assert (tmp_path / "samples" / "epoch-0001.mid").stat().st_size > 50


@pytest.mark.parametrize("exists", [True, False])
def test_offsets_are_as_exact_without_float64(
    exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounding, "has_float64", lambda device: exists)
    seconds = torch.linspace(0, 60, 4001)
    wanted = sounding.times_of_rows(np.zeros(0, np.int32), seconds.numpy(), 1000.0)
    found = sounding.times_of(torch.zeros(0, dtype=torch.long), seconds, 1000.0)
    assert found.tolist() == wanted.tolist()
