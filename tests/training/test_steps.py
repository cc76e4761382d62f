"""What a step computes: terms, means, gradients, states carried from batch to batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm.batch import Batch
from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, TrainingError
from notelstm.losses import CompositeLoss, Likelihood, PositivePressure
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.testing.makers import random_rows
from notelstm.training import Callback, Trainer, TrainingConfig, TrainStep, measure_terms

Make = Callable[[], Any]
FIELDS = LogTimeEncoder().fields
LOSS = CompositeLoss.for_fields(FIELDS)


def chained() -> NoteLSTM:
    torch.manual_seed(0)
    return NoteLSTM(fields=FIELDS, hidden_size=8, embedding_dim=4).double()


def pieces(*lengths: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [random_rows(FIELDS, (n,), rng) for n in lengths]


def whole_loss(model: NoteLSTM, rows: Any) -> Tensor:
    """The sum over a whole piece, one row after the other, written out plainly."""
    total = torch.zeros((), dtype=torch.float64)
    context, state = model.initial_state(1)
    for row in torch.from_numpy(rows).double():
        known = {field.name: row[i : i + 1] for i, field in enumerate(FIELDS)}
        for field in FIELDS:
            logits = model.predict(field.name, _at(context), known)
            total = total + logits.nll(known[field.name]).sum()  # type: ignore[attr-defined]
        context, state = model(row[None, None], state)
    return total


def _at(context: Any) -> Any:
    return type(context)(*(tensor[:, -1] for tensor in context))


def sequence_losses(
    model: NoteLSTM, data: list[Any], window: int, batch_size: int
) -> Iterator[Tensor]:
    """The sum over each batch."""
    step = TrainStep(model, LOSS)
    dataset = SequenceDataset(data, sequence_length=window, targets="every")
    state = None
    for batch in StatefulBatches(dataset=dataset, batch_size=batch_size).epoch(0):
        losses, state = step(batch._replace(rows=batch.rows.double()), state)
        yield losses.total * int(batch.target_mask.sum())
        state = type(state)(*(tensor.detach() for tensor in state))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    grads = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grads[name] = parameter.grad.clone()
        parameter.grad = None
    return grads


def test_long_sequences_give_the_gradients_of_whole_pieces() -> None:
    model, data = chained(), pieces(13, 7, 12, 2)
    total = sum(whole_loss(model, rows) for rows in data)
    assert isinstance(total, Tensor)
    torch.autograd.backward(total)
    wanted = gradients(model)
    for batch_size in (1, 3, 4):
        # With one sequence, pieces follow each other and each begins afresh.
        torch.autograd.backward(torch.stack([*sequence_losses(model, data, 12, batch_size)]).sum())
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(
                gradient, wanted[name], msg=f"{batch_size} sequences, {name}"
            )


def test_cut_sequences_carry_the_state_and_cut_the_gradient() -> None:
    model, data = chained(), pieces(23, 9)
    total = sum(whole_loss(model, rows) for rows in data)
    assert isinstance(total, Tensor)
    torch.autograd.backward(total)
    wanted = gradients(model)
    # One sequence: no piece is begun in its middle, so all that is lost is the way back in time.
    losses = list(sequence_losses(model, data, 4, 1))
    torch.autograd.backward(torch.stack(losses).sum())
    cut = gradients(model)
    torch.testing.assert_close(torch.stack(losses).sum(), total)
    for name, gradient in cut.items():
        if name.startswith("heads"):
            torch.testing.assert_close(gradient, wanted[name], msg=name)
    assert not torch.allclose(cut["lstm.weight_hh_l0"], wanted["lstm.weight_hh_l0"], rtol=1e-3)


def test_the_terms_that_are_reported_are_the_means_of_hand_computed_ones(make: Make) -> None:
    study = make()
    trainer = study.trainer(epochs=1, learning_rate=1e-12)
    trainer.module.model.eval()
    values = trainer.fit(study.batches).epochs[0]
    # What the trainer saw had dropout; a learning rate of almost 0 leaves the rest as it was.
    torch.manual_seed(0)
    trainer.module.train()
    state, reported, counts = None, [], []
    for batch in study.batches.epoch(0):
        with torch.no_grad():
            losses, after = trainer.module(batch, state)
        state = after if study.batches.stateful else None
        weighted = {n: study.loss.weights[n] * float(v) for n, v in losses.terms.items()}
        assert float(losses.total) == pytest.approx(sum(weighted.values()))
        reported.append([float(losses.total), *(float(v) for v in losses.terms.values())])
        counts.append(int(batch.target_mask.sum()))
    names = ["loss", *(f"loss/{name}" for name in study.loss.terms)]
    means = dict(zip(names, np.average(reported, axis=0, weights=counts), strict=True))
    assert {name: values[name] for name in names} == pytest.approx(means)
    scored = sum(int(batch.target_mask.sum()) for batch in study.batches.epoch(0))
    assert values["targets_per_second"] * values["seconds"] == pytest.approx(scored)


def test_a_term_of_the_reference_by_hand() -> None:
    fields = StepDurationEncoder().fields
    torch.manual_seed(0)
    model = ThreeHeadLSTM(fields=fields, hidden_size=4)
    rows = random_rows(fields, (12,), np.random.default_rng(0))
    batches = WindowBatches(
        dataset=SequenceDataset([rows], sequence_length=5), batch_size=3, shuffle=False
    )
    loss = CompositeLoss(
        terms={
            "pitch": (Likelihood(), 0.5),
            "step": (PositivePressure(), 2.0),
            "duration": (PositivePressure(pressure=0.0), 0.0),
        }
    )
    with torch.no_grad():
        losses, _ = TrainStep(model, loss)(next(batches.epoch(0)), None)
    terms = np.zeros(3)
    for i in range(3):
        window = torch.from_numpy(rows[i : i + 5]) * torch.tensor([1 / 128, 1, 1])
        output = model.lstm(window[None])[0][0, -1]
        confined = model.get_submodule("pitch_linear")(output).sigmoid().detach().double().numpy()
        step, duration = (
            float(model.get_submodule(f"{name}_linear")(output).detach())
            for name in ("step", "duration")
        )
        pitch, s, d = (float(x) for x in rows[i + 5])
        terms[0] += np.log(np.exp(confined).sum()) - confined[int(pitch)]
        terms[1] += (s - step) ** 2 + 10 * max(-step, 0)
        terms[2] += (d - duration) ** 2
    terms /= 3
    got = [float(losses.terms[name]) for name in ("pitch", "step", "duration")]
    assert got == pytest.approx(terms.tolist(), rel=1e-5)
    assert float(losses.total) == pytest.approx(0.5 * terms[0] + 2 * terms[1], rel=1e-5)
    measured = measure_terms(model, loss, batches)
    assert measured == pytest.approx(dict(zip(("pitch", "step", "duration"), terms, strict=True)))


def test_losses_depend_on_target_rows_only() -> None:
    """Rows that are not scored, padding above all, have no part in any term."""
    model = chained()
    step = TrainStep(model, LOSS)
    (batch,) = StatefulBatches(
        dataset=SequenceDataset(pieces(3, 6), sequence_length=5, targets="every"), batch_size=2
    ).epoch(0)
    assert not bool(batch.target_mask.all())
    plain, _ = step(batch._replace(rows=batch.rows.double()), None)
    other = torch.where(batch.target_mask.unsqueeze(-1), batch.rows, torch.tensor(1.0))
    changed, _ = step(batch._replace(rows=other.double()), None)
    assert torch.equal(plain.total, changed.total)


def test_reset_state_resets_single_sequences() -> None:
    model = chained()
    step = TrainStep(model, LOSS)
    rows = torch.from_numpy(np.stack(pieces(6, 6, 6))).double()
    scored = torch.zeros(3, 6, dtype=torch.bool)
    scored[:, 1:] = True
    _, state = step(Batch(rows, scored, torch.ones(3, dtype=torch.bool)), None)
    fresh = torch.tensor([True, False, True])
    _, mixed = step(Batch(rows, scored, fresh), state)
    _, anew = step(Batch(rows, scored, torch.ones(3, dtype=torch.bool)), state)
    _, on = step(Batch(rows, scored, torch.zeros(3, dtype=torch.bool)), state)
    for a, b, c in zip(mixed, anew, on, strict=True):
        torch.testing.assert_close(a[fresh], b[fresh])
        torch.testing.assert_close(a[~fresh], c[~fresh])
        assert not torch.allclose(b[1], c[1])


def test_validation_runs_in_evaluation_mode_and_changes_nothing(make: Make) -> None:
    def run(validation: bool) -> tuple[Any, list[dict[str, float]]]:
        study = make()
        trainer = study.trainer(epochs=3)
        history = trainer.fit(study.batches, study.validation if validation else None)
        return trainer.module.model.state_dict(), history.epochs

    with_it, epochs = run(True)
    without, plain = run(False)
    assert all(torch.equal(with_it[name], without[name]) for name in with_it)
    assert [e["loss"] for e in epochs] == [e["loss"] for e in plain]
    assert not any("validation" in values for values in plain)
    study = make()
    study.model.load_state_dict(with_it)
    step = TrainStep(study.model, study.loss).eval()
    state, totals, counts = None, [], []
    for batch in study.validation.epoch(0):
        with torch.no_grad():
            losses, after = step(batch, state)
        state = after if study.validation.stateful else None
        totals.append(float(losses.total))
        counts.append(int(batch.target_mask.sum()))
    # A batch with few targets counts for as much less.
    assert epochs[-1]["validation"] == pytest.approx(np.average(totals, weights=counts))
    assert {f"validation/{name}" for name in study.loss.terms} < set(epochs[-1])


def test_training_lowers_the_loss(make: Make) -> None:
    study = make()
    history = study.trainer(epochs=8, optimizer="adamw", learning_rate=0.02).fit(study.batches)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] - 0.3


def test_zero_epochs_change_nothing(make: Make) -> None:
    study = make()
    before = {k: v.clone() for k, v in study.model.state_dict().items()}
    history = study.trainer(epochs=0).fit(study.batches)
    assert history == ([], "")
    assert all(torch.equal(v, before[k]) for k, v in study.model.state_dict().items())


def test_clipping_bounds_the_gradient(make: Make) -> None:
    norms: list[float] = []

    class Look(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            grads = [p.grad for p in trainer.parameters if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in grads]).norm()))

    for clip in (None, 1e-3):
        study = make()
        study.trainer([Look()], epochs=1, max_grad_norm=clip).fit(study.batches)
    half = len(norms) // 2
    assert min(norms[:half]) > 1e-2
    assert max(norms[half:]) < 1.001e-3


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_loss_that_is_not_finite_ends_the_run(make: Make, where: str) -> None:
    study = make()
    name, (term, weight) = next(iter(study.loss.terms.items()))
    broken = False

    def breaks(prediction: Any, target: Tensor) -> Tensor:
        value: Tensor = term(prediction, target)
        return value * math.inf if broken else value

    class Breaks(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            nonlocal broken
            last = study.batches.num_batches
            broken |= trainer.state.steps == (last if where == "validation" else last + 1)

    loss = CompositeLoss(terms={**study.loss.terms, name: (breaks, weight)})
    trainer = study._replace(loss=loss).trainer([Breaks()])
    what = "loss" if where == "training" else "validation"
    with pytest.raises(
        TrainingError, match=rf"the run diverged: {what} is (inf|nan).*learning_rate"
    ):
        trainer.fit(study.batches, study.validation)


class Listens(Callback):
    """Notes each hook that is called, with epoch and step."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def _note(self, name: str, trainer: Trainer) -> None:
        self.calls.append((name, trainer.state.epoch, trainer.state.steps))

    def on_train_start(self, trainer: Trainer) -> None:
        self._note("start", trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        self._note("step", trainer)

    def on_validation_step_end(self, trainer: Trainer) -> None:
        self._note("validation", trainer)

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        assert set(trainer.metric_names) < set(metrics)
        self._note("epoch", trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self._note("end", trainer)


@pytest.mark.parametrize("at", ["start", "step", "epoch"])
def test_errors_of_callbacks_are_raised_and_on_train_end_is_called(make: Make, at: str) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("mine")

    broken = type("Breaks", (Callback,), {f"on_{_HOOKS[at]}": breaks})()
    study, listens = make(), Listens()
    with pytest.raises(ZeroDivisionError, match="mine"):
        study.trainer([listens, broken]).fit(study.batches)
    names = [name for name, _, _ in listens.calls]
    assert (names[0], names[-1]) == ("start", "end")
    assert names.count(at) == 1


_HOOKS = {"start": "train_start", "step": "step_end", "epoch": "epoch_end"}


def test_hooks_are_called_in_order(make: Make) -> None:
    study, listens = make(), Listens()
    trainer = study.trainer([listens], epochs=2)
    trainer.fit(study.batches, study.validation)
    assert trainer.steps_per_epoch == study.batches.num_batches
    n, m = study.batches.num_batches, study.validation.num_batches
    assert [name for name, _, _ in listens.calls] == [
        "start",
        *[*["step"] * n, *["validation"] * m, "epoch"] * 2,
        "end",
    ]
    assert [s for name, _, s in listens.calls if name == "step"] == list(range(1, 2 * n + 1))
    assert [epoch for name, epoch, _ in listens.calls if name == "epoch"] == [1, 2]


def test_a_hook_that_is_not_overridden_does_nothing(make: Make) -> None:
    class Nothing(Callback):
        pass

    study = make()
    assert len(study.trainer([Nothing()], epochs=1).fit(study.batches).epochs) == 1


def test_other_objects_are_rejected_as_callbacks(make: Make) -> None:
    for other in ("progress", Callback, print, None):
        with pytest.raises(ConfigError, match="is not a callback"):
            make().trainer([other])


def test_the_loop_is_in_one_function_of_one_screen() -> None:
    source = inspect.getsource(Trainer.fit)
    body = source[source.index('"""', source.index('"""') + 3) :]
    order = ("_fetch(", "_forward(", ".backward(", "clip_grad_norm_(", "optimizer.step(")
    places = [body.index(part) for part in order]
    assert places == sorted(places)
    assert len(body.splitlines()) <= 45


def test_devices() -> None:
    fields = StepDurationEncoder().fields

    def trainer(device: str) -> Trainer:
        loss = CompositeLoss.for_fields(fields, continuous=PositivePressure())
        config = TrainingConfig(device=device)
        return Trainer(ThreeHeadLSTM(fields=fields, hidden_size=2), loss, config=config)

    assert trainer("cpu").device.type == "cpu"
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert trainer("auto").device.type == "cpu"
        with pytest.raises(ConfigError, match=r"'cuda'.*Use device='auto'"):
            trainer("cuda")
    for name in ("gpu", "", "cpu:x"):
        with pytest.raises(ConfigError, match="there is no device"):
            trainer(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": -1}, "epochs is -1, below 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0, below 1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, not a number of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, not a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
        ({"optimizer": "adam"}, "optimizer is 'adam', not 'sgd' or 'adamw'"),
        ({"seed": -1}, "seed is -1, below 0"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainingConfig(**options)
