"""One broken model for each clause of check_model: the clause catches it, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from notelstm.errors import ShapeError
from notelstm.fields import Field, Rows
from notelstm.predictions import Categorical, Normal, NumpyAdapter, NumpyPrediction
from notelstm.protocols import Allowed, NoteModel, Prediction
from notelstm.testing import check_model
from notelstm.testing.model_checks import MODEL_CLAUSES, NUMPY_STEP_CLAUSES, TRAINING_CLAUSES
from notelstm.testing.prediction_checks import PREDICTION_CLAUSES

FIELDS = (
    Field.categorical("pitch", "pitch", values=range(60, 65)),
    Field.continuous("step", "step", unit="s", low=0.0),
    Field.categorical("duration", "duration", values=(0.1, 1.0), edges=(0, 0.5, 2), unit="s"),
)


class Hidden(NamedTuple):
    hidden: Tensor


class State(NamedTuple):
    h: Tensor
    c: Tensor


class Tiny(nn.Module):
    """A good model, small and chained, to be broken in one place."""

    def __init__(self, *, fields: Sequence[Field] = FIELDS, scale: float = 1.0) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.field_order: tuple[str, ...] = tuple(field.name for field in fields)
        self.config: dict[str, Any] = {"fields": self.fields, "scale": scale}
        self.scale = scale
        self.lstm = nn.LSTM(len(self.fields), 8, batch_first=True)
        self.initial_context = nn.Parameter(torch.zeros(8))
        self.heads = nn.ModuleDict(
            {f.name: nn.Linear(8 + i, f.classes or 2) for i, f in enumerate(self.fields)}
        )

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        zeros = self.initial_context.new_zeros(batch_size, 1, 8)
        return Hidden(self.initial_context.expand(batch_size, 1, 8)), State(zeros, zeros)

    def read(self, rows: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = (part.transpose(0, 1).contiguous() for part in state)
        output, (h, c) = self.lstm(rows * self.scale, (h, c))
        return output, State(h.transpose(0, 1), c.transpose(0, 1))

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self.read(rows, state)
        return Hidden(output), state

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Any:
        i = self.field_order.index(field)
        earlier = [known[name].unsqueeze(-1).float() for name in self.field_order[:i]]
        output = self.heads[field](torch.cat([context.hidden, *earlier], dim=-1))
        return self.prediction(field, output)

    def prediction(self, field: str, output: Tensor) -> Prediction:
        if self.fields[self.field_order.index(field)].is_categorical:
            return Categorical(output)
        mean, spread = output.unbind(-1)
        return Normal(mean, spread.exp(), low=mean.new_tensor(0.0))


class ForgetsAField(Tiny):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.field_order = self.field_order[:2]


class PredictsAGivenField(Tiny):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "fields": (replace(FIELDS[0], given=True), *FIELDS[1:])})


class LayersFirst(Tiny):
    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return context, State(*(part.transpose(0, 1) for part in state))

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, state = super().forward(rows, State(*(part.transpose(0, 1) for part in state)))
        return context, State(*(part.transpose(0, 1) for part in state))


class KeepsADict(Tiny):
    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return context, {"state": state}


class KeepsATuple(Tiny):
    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return context, tuple(state)

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, state = super().forward(rows, State(*state))
        return context, tuple(state)


class SoftmaxOverTime(Tiny):
    def prediction(self, field: str, output: Tensor) -> Prediction:
        prediction = super().prediction(field, output)
        if isinstance(prediction, Categorical):
            return Categorical(prediction.logits.softmax(1))
        return prediction


class Restless(Tiny):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self.read(rows, state)
        return Hidden(output + 0.1 * torch.rand_like(output)), state


class PeeksAtTheStepToCome(Tiny):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self.read(rows, state)
        to_come = torch.cat([rows[:, 1:, 1:2], torch.zeros_like(rows[:, :1, 1:2])], dim=1)
        return Hidden(output + to_come), state


class PeeksAtItsOwnField(Tiny):
    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Any:
        if field == "step" and "step" in known:
            context = Hidden(context.hidden + known["step"].unsqueeze(-1))
        return super().predict(field, context, known)


class NeedsLaterFields(Tiny):
    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Any:
        return super().predict(field, Hidden(context.hidden + 0 * known["step"][..., None]), known)


class ForgetsItsState(Tiny):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        return super().forward(rows, State(*(torch.zeros_like(part) for part in state)))


class MeanOfTheBatch(Tiny):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        return super().forward(rows - rows.mean(0), state)


class Clocked(NamedTuple):
    inner: State
    clock: Tensor


class CountsOneSequence(Tiny):
    """Its inputs alternate with the number of rows of the first sequence."""

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return context, Clocked(state, torch.zeros(batch_size, dtype=torch.long))

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        count = state.clock[0] + torch.arange(rows.shape[1])
        context, inner = super().forward(rows + (count % 2)[:, None], state.inner)
        return context, Clocked(inner, state.clock + rows.shape[1])


class FloatClock(Tiny):
    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return context, Clocked(state, torch.zeros(batch_size))

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, inner = super().forward(rows, state.inner)
        return context, Clocked(inner, state.clock + rows[..., 1].sum(1))


class ConfigLacksItsScale(Tiny):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self.config["scale"]


@dataclass(frozen=True)
class OneTooHigh(Prediction):
    inner: Categorical

    def sample(self, noise: Tensor) -> Tensor:
        return self.inner.sample(noise) + 1

    def mode(self) -> Tensor:
        return self.inner.mode()

    def constrained(self, allowed: Allowed) -> OneTooHigh:
        return OneTooHigh(self.inner.constrained(allowed))

    def with_temperature(self, temperature: float) -> OneTooHigh:
        return OneTooHigh(self.inner.with_temperature(temperature))


@dataclass(frozen=True)
class TooSure(Prediction):
    inner: Categorical

    def sample(self, noise: Tensor) -> Tensor:
        return self.inner.sample(noise)

    def mode(self) -> Tensor:
        return self.inner.mode()

    def constrained(self, allowed: Allowed) -> TooSure:
        return TooSure(self.inner.constrained(allowed))

    def with_temperature(self, temperature: float) -> TooSure:
        return TooSure(self.inner.with_temperature(temperature))

    def nll(self, target: Tensor) -> Tensor:
        return 0.9 * self.inner.nll(target)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        return self.inner.interval_prob(field, low, high)


class LeakyMass(TooSure):
    def nll(self, target: Tensor) -> Tensor:
        return self.inner.nll(target)

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        return 0.99 * self.inner.interval_prob(field, low, high)


class Wraps(Tiny):
    """Wraps the prediction of the duration."""

    kind: Callable[[Categorical], Any]

    def prediction(self, field: str, output: Tensor) -> Prediction:
        prediction = super().prediction(field, output)
        if field == "duration":
            assert isinstance(prediction, Categorical)
            wrapped: Prediction = type(self).kind(prediction)
            return wrapped
        return prediction


class SamplesOneTooHigh(Wraps):
    kind = OneTooHigh


class TooConfident(Wraps):
    kind = TooSure


class LosesMass(Wraps):
    kind = LeakyMass


class HasAnIdleParameter(Tiny):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.idle = nn.Parameter(torch.zeros(3))


class RootOfZero(Tiny):
    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self.read(rows, state)
        # The root of 0 has an infinite slope, and 0 times infinity is NaN.
        return Hidden(output + (0 * self.initial_context).sqrt()), state


class StartIsNotTrained(Tiny):
    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        return Hidden(context.hidden.detach()), state

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self.read(rows, state)
        return Hidden(output + 0 * self.initial_context), state


class Copy:
    """A correct numpy step that calls the model itself, to be broken in one place."""

    def __init__(self, model: Tiny) -> None:
        self.model = copy.deepcopy(model)

    def initial_state(self) -> tuple[Any, Any]:
        context, state = self.model.initial_state(1)
        h, c = (part.detach().numpy().copy() for part in state)
        return Hidden(context.hidden[:, 0].detach().numpy().copy()), State(h, c)

    @torch.no_grad()
    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        tensors = State(*(torch.from_numpy(part) for part in state))
        context, (h, c) = self.model.forward(torch.from_numpy(rows)[:, None], tensors)
        return Hidden(context.hidden[:, 0].numpy()), State(h.numpy(), c.numpy())

    @torch.no_grad()
    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Any:
        return self.model.predict(field, Hidden(torch.from_numpy(context.hidden)), known)

    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        return NumpyAdapter(
            self.predict(field, context, {k: torch.tensor([v]) for k, v in known.items()})
        )


class Quick(Tiny):
    """A correct model with a correct numpy step."""

    copies: type[Copy] = Copy

    def numpy_step(self) -> Copy:
        return self.copies(self)


class HalvesTheContext(Copy):
    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        context, state = super().step(rows, state)
        return Hidden(context.hidden / 2), state


class Counted(NamedTuple):
    inner: State
    read: NDArray[np.int64]


class AlternatesTogether(Copy):
    """It reads rows of other sequences than the first as if they had read as many."""

    def initial_state(self) -> tuple[Any, Any]:
        context, state = super().initial_state()
        return context, Counted(state, np.zeros(1, dtype=np.int64))

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        context, inner = super().step(rows, state.inner)
        differs = (state.read != state.read[0]).astype(np.float32)
        return Hidden(context.hidden + differs[:, None]), Counted(inner, state.read + 1)


class SwapsTheUniforms(Copy):
    def predict_numpy(
        self, field: str, context: Any, known: Mapping[str, float]
    ) -> NumpyPrediction:
        inner = super().predict_numpy(field, context, known)

        class Swapped:
            def sample(self, noise: Sequence[float]) -> float:
                return inner.sample(noise[::-1])

        return Swapped()  # type: ignore[return-value]


class SharesItsWeights(Copy):
    def __init__(self, model: Tiny) -> None:
        self.model = model


class WritesToTheState(Copy):
    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        context, after = super().step(rows, state)
        state.c[:] = after.c
        return context, after


class Half(Quick):
    copies = HalvesTheContext


class Joined(Quick):
    copies = AlternatesTogether


class Failing(Quick):
    def numpy_step(self) -> Copy:
        raise ValueError("there is no step")


class Other(Quick):
    copies = SwapsTheUniforms


class Sharing(Quick):
    copies = SharesItsWeights


class Writing(Quick):
    copies = WritesToTheState


BROKEN: list[tuple[str, type[Tiny], dict[str, Any]]] = [
    ("fields_and_order_agree", ForgetsAField, {}),
    ("fields_and_order_agree", PredictsAGivenField, {}),
    ("batch_is_the_first_axis", LayersFirst, {}),
    ("batch_is_the_first_axis", KeepsADict, {}),
    ("batch_is_the_first_axis", KeepsATuple, {}),
    ("predictions_have_any_leading_shape", SoftmaxOverTime, {}),
    ("eval_is_deterministic", Restless, {}),
    ("predictions_are_causal", PeeksAtTheStepToCome, {}),
    ("later_fields_are_unused", PeeksAtItsOwnField, {}),
    ("later_fields_are_unused", NeedsLaterFields, {}),
    ("chunks_equal_the_whole", ForgetsItsState, {}),
    ("sequences_are_independent", MeanOfTheBatch, {}),
    ("sequences_of_different_lengths_are_joined", CountsOneSequence, {}),
    ("clocks_are_integers", FloatClock, {}),
    ("config_rebuilds_the_model", ConfigLacksItsScale, {"scale": 0.5}),
    ("numpy_step_predicts_the_same", Half, {}),
    ("numpy_step_predicts_the_same", Failing, {}),
    ("numpy_step_joins_different_lengths", Joined, {}),
    ("numpy_predictions_sample_the_same", Other, {}),
    ("numpy_step_has_no_side_effects", Sharing, {}),
    ("numpy_step_has_no_side_effects", Writing, {}),
    ("samples_are_in_the_domain", SamplesOneTooHigh, {}),
    ("probabilities_sum_to_one", TooConfident, {}),
    ("probabilities_sum_to_one", LosesMass, {}),
    ("gradients_are_finite", HasAnIdleParameter, {}),
    ("gradients_are_finite", RootOfZero, {}),
    ("initial_state_is_trained", StartIsNotTrained, {}),
]


@pytest.mark.parametrize(("clause", "broken", "settings"), BROKEN)
def test_the_clause_bites(clause: str, broken: type[Tiny], settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"^check_model, {clause}: "):
        check_model(broken(**settings), entry_point=False)


def test_a_model_without_an_entry_point_is_not_saved() -> None:
    with pytest.raises(AssertionError, match=r"config_rebuilds_the_model: .*PluginError"):
        check_model(Tiny())


def test_the_unbroken_one_passes_and_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = Tiny(scale=0.5)
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    check_model(model, entry_point=False)
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_good_copies_pass() -> None:
    torch.manual_seed(0)
    check_model(Quick(), entry_point=False)


class ComputesItsStep(Quick):
    """Its numpy step is made of computed tensors, which have no numpy arrays with gradients."""

    def numpy_step(self) -> Copy:
        (2 * self.initial_context).numpy()
        return super().numpy_step()


class Marked(NamedTuple):
    inner: State
    begun: Tensor
    lowest: Tensor
    previous: Tensor
    nothing: Tensor


class KeepsAllKinds(Tiny):
    """A correct model whose state has truth values, infinity, NaN, and a tensor of no numbers."""

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        context, state = super().initial_state(batch_size)
        begun, number = torch.zeros(batch_size, dtype=torch.bool), torch.zeros(batch_size, 1)
        return context, Marked(state, begun, number + torch.inf, number * torch.nan, number[:, :0])

    def forward(self, rows: Tensor, state: Any) -> tuple[Any, Any]:
        context, inner = super().forward(rows, state.inner)
        return context, state._replace(inner=inner, begun=torch.ones_like(state.begun))


@pytest.mark.parametrize("model", [ComputesItsStep, KeepsAllKinds])
def test_correct_models_are_not_refused(model: type[Tiny]) -> None:
    torch.manual_seed(0)
    check_model(model(), entry_point=False)


def test_what_is_no_model_breaks_a_clause() -> None:
    with pytest.raises(AssertionError, match=r"fields_and_order_agree: .* Got object\."):
        check_model(cast(NoteModel, object()), entry_point=False)


@pytest.mark.parametrize("shape", [(1, 6, 3), (3, 1, 3), (3, 6, 4), (6, 3)])
def test_rows_that_would_break_no_clause_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="with B and T of at least 2"):
        check_model(MeanOfTheBatch(), rows=torch.zeros(shape), entry_point=False)


def test_every_clause_has_a_broken_model() -> None:
    clauses = (*MODEL_CLAUSES, *NUMPY_STEP_CLAUSES, *PREDICTION_CLAUSES, *TRAINING_CLAUSES)
    names = {clause.__name__.lstrip("_") for clause in clauses}
    assert names == {clause for clause, _, _ in BROKEN}
