"""``check_model``: the contract of :class:`notelstm.protocols.NoteModel`, clause by clause."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm import plugins, tree
from notelstm.errors import ShapeError
from notelstm.fields import known_before, predicted
from notelstm.models.inference import HasNumpyStep, ModelState, NumpyStep, join, repeat
from notelstm.protocols import Context, NoteModel, Prediction
from notelstm.testing.clauses import require, run
from notelstm.testing.makers import repeating_rows
from notelstm.testing.prediction_checks import PREDICTION_CLAUSES, ModelCase, as_numbers

__all__ = ["check_model"]

_BATCH_SIZE, _STEPS = 3, 12


def check_model(
    model: NoteModel,
    *,
    rows: Tensor | None = None,
    tolerance: float = 1e-5,
    entry_point: bool = True,
) -> None:
    """Check that a model keeps the contract.

    Args:
        model: The model, which is left unchanged.
        rows: (B, T, F) rows, B and T at least 2; by default random ones that repeat a passage.
        tolerance: The greatest difference between numbers that should be equal.
        entry_point: Whether it has an entry point, and can be rebuilt from its description.

    Raises:
        AssertionError: At the first broken clause, with its name.
        ShapeError: If `rows` have another shape.

    Example:
        >>> from notelstm.encoders import StepDurationEncoder
        >>> from notelstm.models import ThreeHeadLSTM
        >>> check_model(ThreeHeadLSTM(fields=StepDurationEncoder().fields))
    """
    own = copy.deepcopy(model)
    if isinstance(own, nn.Module):
        own.eval()
    case = ModelCase(own, torch.zeros(0) if rows is None else rows, tolerance, entry_point)
    # Without fields, there are no rows for the other clauses.
    run("check_model", MODEL_CLAUSES[:1], case)
    if rows is None:
        table = repeating_rows(model.fields, (_BATCH_SIZE, _STEPS), np.random.default_rng(0))
        case = replace(case, rows=torch.from_numpy(table))
    _check_rows(case)
    # Initialisation and dropout use the global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]):
        numpy_clauses = NUMPY_STEP_CLAUSES if isinstance(own, HasNumpyStep) else ()
        clauses = (*MODEL_CLAUSES[1:], *numpy_clauses, *PREDICTION_CLAUSES, *TRAINING_CLAUSES)
        run("check_model", clauses, case)


def _check_rows(case: ModelCase) -> None:
    """Check that there are several rows of several sequences: others would break no clause."""
    shape, columns = tuple(case.rows.shape), len(case.fields)
    if len(shape) != 3 or min(shape[:2]) < 2 or shape[2] != columns:
        raise ShapeError(
            f"the rows have shape {shape}, not (B, T, {columns}) with B and T of at least 2",
            hint="give rows of several sequences, or none for random ones",
        )


def _fields_and_order_agree(case: ModelCase) -> None:
    """A model is a torch module whose `field_order` names each field that is not given once."""
    require(isinstance(case.model, nn.Module), f"Got {type(case.model).__name__}.")
    order = tuple(case.model.field_order)
    names = sorted(field.name for field in predicted(case.model.fields))
    require(sorted(order) == names, f"Order {order}, predicted fields {names}.")
    require(len(case.fields) == len(case.model.fields), "Two fields have one name.")


def _batch_is_the_first_axis(case: ModelCase) -> None:
    """Context and state are named tuples of tensors, batch on axis 0, the context's time on 1."""
    b, t = case.rows.shape[:2]
    context, state = case.model.initial_state(b)
    contexts, later = case.model.forward(case.rows, state)
    for what, whole, lead in (
        ("The initial context", context, (b, 1)),
        ("The context of forward", contexts, (b, t)),
        ("The initial state", state, (b,)),
        ("The state of forward", later, (b,)),
    ):
        require(isinstance(whole, tuple), f"{what} is a {type(whole).__name__}.")
        try:
            tree.detach(whole)
        except ShapeError as error:
            raise AssertionError(f"{what}: {error}") from error
        for name, tensor in tree.flatten(whole).items():
            shape = tuple(tensor.shape)
            require(shape[: len(lead)] == lead, f"{what}: {name!r} has {shape}, not {lead}...")
    _alike("The states", state, later)
    _alike("The contexts", context, contexts, skip=2)


def _alike(what: str, a: Any, b: Any, skip: int = 1) -> None:
    one, two = tree.flatten(a), tree.flatten(b)
    require(list(one) == list(two), f"{what} of initial_state and forward have different parts.")
    for name, tensor in one.items():
        same = tensor.dtype == two[name].dtype and tensor.shape[skip:] == two[name].shape[skip:]
        require(same, f"{what} of initial_state and forward differ in {name!r}.")


def _predictions_have_any_leading_shape(case: ModelCase) -> None:
    """A prediction has the leading shape of its context and does not depend on that shape."""
    context, _ = case.read(case.rows)
    whole = case.numbers(context, case.rows)
    b, t = case.rows.shape[:2]
    for lead in ((b * t,), (b, t, 1), (1, b * t)):
        shaped = tree.map_tree(lambda x, s=lead: x.reshape(*s, *x.shape[2:]), context)
        rows = case.rows.reshape(*lead, -1)
        for name, numbers in case.numbers(shaped, rows).items():
            got = tuple(numbers.shape[:-1])
            require(got == lead, f"{name!r} has {got} for a context of {lead}.")
            same = {name: numbers.reshape(b, t, -1)}
            case.same(same, {name: whole[name]}, f"Leading shape {lead}")


def _eval_is_deterministic(case: ModelCase) -> None:
    """In eval mode the same rows give the same predictions, and no global randomness is used."""
    before = torch.get_rng_state()
    one = case.numbers(case.read(case.rows)[0], case.rows)
    two = case.numbers(case.read(case.rows)[0], case.rows)
    require(torch.equal(before, torch.get_rng_state()), "torch's global generator was used.")
    for name, numbers in one.items():
        require(torch.equal(numbers, two[name]), f"{name!r} differs the second time.")


def _predictions_are_causal(case: ModelCase) -> None:
    """A change of rows from t on changes no prediction for a row up to t."""
    whole = case.numbers(case.read(case.rows)[0], case.rows)
    for t in range(case.rows.shape[1]):
        changed = case.rows.clone()
        # Rows of other sequences, so that every entry stays in its domain.
        changed[:, t:] = case.rows.roll(1, dims=0)[:, t:].flip(1)
        # The same `known`: only the rows that were read differ.
        got = case.numbers(case.read(changed)[0], case.rows)
        until = {name: numbers[:, : t + 1] for name, numbers in got.items()}
        want = {name: numbers[:, : t + 1] for name, numbers in whole.items()}
        case.same(until, want, f"Rows from {t} on changed, and a prediction up to row {t}")


def _later_fields_are_unused(case: ModelCase) -> None:
    """The prediction of a field uses no later field of its row, even if `known` has it."""
    context, _ = case.read(case.rows)
    known, other = case.known(case.rows), case.known(case.rows.roll(1, dims=0).flip(1))
    before = known_before(case.model.fields, case.model.field_order)
    for name in case.model.field_order:
        earlier = {key: known[key] for key in before[name]}
        later = {key: other[key] for key in known if key not in earlier}
        field = case.fields[name]
        whole = as_numbers(case.model.predict(name, context, known), field)
        for what, given in (("changed", earlier | later), ("left out", earlier)):
            got = as_numbers(case.model.predict(name, context, given), field)
            case.same({name: got}, {name: whole}, f"The same and later fields were {what}")


def _chunks_equal_the_whole(case: ModelCase) -> None:
    """Reading rows in chunks has the same predictions and last state as reading them at once."""
    whole, last = case.read(case.rows)
    want, t = case.numbers(whole, case.rows), case.rows.shape[1]
    for cuts in ([0, 1, t], [0, t // 2, t], list(range(t + 1))):
        context, state = case.model.initial_state(case.rows.shape[0])
        parts = [context]
        for a, b in pairwise(cuts):
            context, state = case.model.forward(case.rows[:, a:b], state)
            parts.append(context)
        joined: Context = tree.index(tree.join(parts, axis=1), (slice(None), slice(0, -1)))
        case.same(case.numbers(joined, case.rows), want, f"Cut at {cuts}")
        for name, tensor in tree.flatten(state).items():
            pair = (x.detach().double().numpy() for x in (tensor, tree.flatten(last)[name]))
            off = _difference(*pair)
            require(off <= case.tolerance, f"Cut at {cuts}: state {name!r} is off by {off:.3g}.")


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """By how much two arrays differ at most; equal entries, NaN among them, do not differ."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    other = (a != b) & ~(np.isnan(a) & np.isnan(b))
    return float(np.abs(a[other] - b[other]).max(initial=0))


def _largest(tensor: Tensor) -> float:
    """The largest size of a number in a tensor; 0 if there are none."""
    return float(tensor.detach().double().abs().max()) if tensor.numel() else 0.0


def _sequences_are_independent(case: ModelCase) -> None:
    """A sequence has the same predictions alone as in a batch."""
    whole = case.numbers(case.read(case.rows)[0], case.rows)
    for sequence in range(case.rows.shape[0]):
        rows = case.rows[sequence : sequence + 1]
        want = {name: numbers[sequence : sequence + 1] for name, numbers in whole.items()}
        case.same(case.numbers(case.read(rows)[0], rows), want, f"Sequence {sequence} alone")


def _parts_of_different_lengths(case: ModelCase) -> Iterator[tuple[list[int], int]]:
    """The number of rows that each sequence has read, and the number of those that follow."""
    batch_size, length = case.rows.shape[:2]
    for most in dict.fromkeys((length - 1, -(-length // 2))):
        yield [i * most // (batch_size - 1) for i in range(batch_size)], length - most


def _sequences_of_different_lengths_are_joined(case: ModelCase) -> None:
    """Sequences that have read different numbers of rows, none among them, are read on together."""
    for lengths, more in _parts_of_different_lengths(case):
        states, contexts, following = [], [], []
        for i, n in enumerate(lengths):
            rows = case.rows[i : i + 1]
            _, state = case.model.initial_state(1)
            if n:
                _, state = case.model.forward(rows[:, :n], state)
            states.append(state)
            following.append(rows[:, n : n + more])
            contexts.append(case.model.forward(following[-1], state)[0])
        rows = torch.cat(following)
        context, _ = case.model.forward(rows, tree.join(states))
        want = case.numbers(tree.join(contexts), rows)
        case.same(case.numbers(context, rows), want, f"After {lengths} rows")


def _clocks_are_integers(case: ModelCase) -> None:
    """A clock in the state is an integer; a float loses milliseconds after an hour."""
    slow = case.rows[:1, :1].clone()
    seconds = 0.0
    for j, field in enumerate(case.model.fields):
        times = [e.value if e.type == "shift" else 0.0 for e in field.events]
        if field.role == "step":
            times = list(field.values)
        if field.is_categorical and times:
            slow[..., j] = float(np.argmax(times))
            seconds = max(times)
        elif field.role == "step":
            seconds = 20.0 if field.high is None else field.high
            slow[..., j] = seconds
    _, state = case.model.initial_state(1)
    _, early = case.model.forward(slow.expand(1, 50, -1), state)
    _, late = case.model.forward(slow.expand(1, 150, -1), early)
    for name, tensor in tree.flatten(late).items():
        before, after = _largest(tree.flatten(early)[name]), _largest(tensor)
        clock = seconds > 0 and after - before > 0.5 * 150 * seconds
        whole = not tensor.is_floating_point()
        require(whole or not clock, f"State {name!r} ({tensor.dtype}) grew with the time.")


def _config_rebuilds_the_model(case: ModelCase) -> None:
    """``Model(**model.config)`` loads its weights and has the same predictions."""
    rebuilt = type(case.model)(**case.model.config)
    rebuilt.load_state_dict(case.model.state_dict())
    rebuilt.eval()
    want = case.numbers(case.read(case.rows)[0], case.rows)
    case.same(case.numbers(case.read(case.rows, rebuilt)[0], case.rows, rebuilt), want, "Rebuilt")
    if case.entry_point:
        saved = plugins.build(plugins.describe(case.model))
        saved.load_state_dict(case.model.state_dict())
        saved.eval()
        case.same(case.numbers(case.read(case.rows, saved)[0], case.rows, saved), want, "Saved")


def _predictions(
    case: ModelCase, step: NumpyStep, context: Any, rows: Tensor
) -> dict[str, Prediction]:
    """The predictions of a numpy step for each field of (B, F) rows."""
    known = case.known(rows)
    return {name: step.predict(name, context, known) for name in case.model.field_order}


def _step_numbers(
    case: ModelCase, step: NumpyStep, context: Any, rows: Tensor
) -> dict[str, Tensor]:
    """The same as numbers, (B, K)."""
    predictions = _predictions(case, step, context, rows).items()
    return {name: as_numbers(one, case.fields[name]) for name, one in predictions}


def _leaves(of: Any) -> Iterator[NDArray[Any]]:
    """The arrays of a context or a state."""
    if isinstance(of, tuple):
        for part in of:
            yield from _leaves(part)
    else:
        yield np.asarray(of)


def _off(one: Any, two: Any) -> float:
    """By how much two trees differ at most."""
    pairs = zip(_leaves(one), _leaves(two), strict=True)
    return max((_difference(*pair) for pair in pairs), default=0.0)


def _start(step: NumpyStep, batch_size: int) -> ModelState:
    return repeat(ModelState(*step.initial_state()), batch_size)


@torch.no_grad()
def _numpy_step_predicts_the_same(case: ModelCase) -> None:
    """The numpy step predicts each row as the module does, alone and in a batch."""
    step: NumpyStep | None = case.model.numpy_step()
    if step is None:
        return
    for batch_size in (1, len(case.rows)):
        rows = case.rows[:batch_size]
        contexts, state = case.model.initial_state(batch_size)
        place = _start(step, batch_size)
        for t in range(rows.shape[1]):
            here: Any = tree.index(contexts, (slice(None), -1))
            got = _step_numbers(case, step, place.context, rows[:, t])
            case.same(got, case.numbers(here, rows[:, t]), f"Batch size {batch_size}, row {t}")
            contexts, state = case.model.forward(rows[:, t : t + 1], state)
            place = ModelState(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _numpy_step_joins_different_lengths(case: ModelCase) -> None:
    """The numpy step reads sequences together that have read different numbers of rows."""
    step: NumpyStep | None = case.model.numpy_step()
    if step is None:
        return
    for lengths, more in _parts_of_different_lengths(case):
        alone, following = [], []
        for i, n in enumerate(lengths):
            place = _start(step, 1)
            for row in case.rows[i : i + 1, :n].unbind(1):
                place = ModelState(*step.step(row.numpy(), place.state))
            alone.append(place)
            following.append(case.rows[i : i + 1, n : n + more])
        together = join(alone)
        for t, rows in enumerate(torch.cat(following).unbind(1)):
            alone = [
                ModelState(*step.step(row[None].numpy(), one.state))
                for row, one in zip(rows, alone, strict=True)
            ]
            together = ModelState(*step.step(rows.numpy(), together.state))
            got, want = (
                _step_numbers(case, step, context, rows)
                for context in (together.context, join(alone).context)
            )
            case.same(got, want, f"After {lengths} rows, row {t} of those that follow")


@torch.no_grad()
def _numpy_predictions_sample_the_same(case: ModelCase) -> None:
    """A numpy prediction samples the same entry as the tensors."""
    step: NumpyStep | None = case.model.numpy_step()
    if step is None:
        return
    rows, place = case.rows[:1], _start(step, 1)
    for t in range(rows.shape[1]):
        known = {name: float(entry) for name, entry in case.known(rows[:, t]).items()}
        for name, prediction in _predictions(case, step, place.context, rows[:, t]).items():
            for noise in ((0.0, 0.9), (0.3, 0.6), (0.7, 0.1)):
                want = float(prediction.sample(torch.tensor([noise], dtype=torch.float64)))
                got = step.predict_numpy(name, place.context, known).sample(noise)
                found = f"{name!r}, row {t}: {got:g} and {want:g}."
                require(abs(got - want) <= case.tolerance * max(1.0, abs(want)), found)
        place = ModelState(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _numpy_step_has_no_side_effects(case: ModelCase) -> None:
    """The numpy step does not change arrays that it returned, and has its own weights."""
    step: NumpyStep | None = case.model.numpy_step()
    if step is None:
        return
    given = [_start(step, len(case.rows))]
    for t in range(case.rows.shape[1]):
        _predictions(case, step, given[-1].context, case.rows[:, t])
        given.append(ModelState(*step.step(case.rows[:, t].numpy(), given[-1].state)))
    copies = [[leaf.copy() for leaf in _leaves(tuple(place))] for place in given]
    kept = {name: parameter.clone() for name, parameter in case.model.named_parameters()}
    try:
        for parameter in case.model.parameters():
            parameter.add_(1)
        for t, place in enumerate(given[:-1]):
            again = ModelState(*step.step(case.rows[:, t].numpy(), place.state))
            off = _off(tuple(again), tuple(given[t + 1]))
            found = f"Trained on, or asked again: row {t} is off by {off:g}."
            require(off <= case.tolerance, found)
    finally:
        for name, parameter in case.model.named_parameters():
            parameter.copy_(kept[name])
    for t, (place, copied) in enumerate(zip(given, copies, strict=True)):
        for leaf, before in zip(_leaves(tuple(place)), copied, strict=True):
            same = np.array_equal(leaf, before, equal_nan=True)
            require(same, f"An array returned after {t} rows was changed.")


def _gradients_are_finite(case: ModelCase) -> None:
    """Every parameter has a finite gradient."""
    case.model.train()
    case.model.zero_grad()
    try:
        torch.autograd.backward(case.loss(case.read(case.rows)[0], case.rows))
        for name, parameter in case.model.named_parameters():
            if parameter.requires_grad:
                require(parameter.grad is not None, f"{name!r} has none.")
                require(torch.isfinite(parameter.grad).all(), f"{name!r} has NaN or infinity.")
    finally:
        case.model.eval()


def _initial_state_is_trained(case: ModelCase) -> None:
    """Parameters that influence the prediction of row 0 have a gradient from it."""
    rows = case.rows[:1, :1]
    case.model.zero_grad()
    context, _ = case.model.initial_state(1)
    loss = case.loss(context, rows)
    require(loss.requires_grad, "No parameter that predicts row 0 can be trained.")
    torch.autograd.backward(loss)
    want = case.numbers(context, rows)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in case.model.named_parameters():
        with torch.no_grad():
            kept = parameter.clone()
            parameter.add_(torch.randn(parameter.shape, generator=generator))
            got = case.numbers(case.model.initial_state(1)[0], rows)
            parameter.copy_(kept)
        used = any(not torch.equal(got[key], want[key]) for key in want)
        trained = parameter.grad is not None and bool(parameter.grad.any())
        require(trained or not used, f"{name!r} influences row 0 and has no gradient from it.")


MODEL_CLAUSES = (
    _fields_and_order_agree,
    _batch_is_the_first_axis,
    _predictions_have_any_leading_shape,
    _eval_is_deterministic,
    _predictions_are_causal,
    _later_fields_are_unused,
    _chunks_equal_the_whole,
    _sequences_are_independent,
    _sequences_of_different_lengths_are_joined,
    _clocks_are_integers,
    _config_rebuilds_the_model,
)

NUMPY_STEP_CLAUSES = (
    _numpy_step_predicts_the_same,
    _numpy_step_joins_different_lengths,
    _numpy_predictions_sample_the_same,
    _numpy_step_has_no_side_effects,
)

TRAINING_CLAUSES = (_gradients_are_finite, _initial_state_is_trained)
