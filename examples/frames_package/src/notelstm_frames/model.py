"""``FrameLSTM``: a model of frames whose heads share their weights over the pitches of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, by_name
from notelstm.models.lstm import LSTMState, initial_lstm_state, run_lstm
from notelstm.predictions import Categorical

__all__ = ["FrameContext", "FrameLSTM"]

_SOURCES: Final = 4
"""The pitches from which intervals are counted: those of the frame before, of this one so far, of
the same voice in the frame before, and of the copied frame."""


class FrameContext(NamedTuple):
    """The context that predicts a frame.

    Attributes:
        inner: (..., I) the part of the hidden layer of the head that is the same for all pitches.
        frame: (..., P) 1 for each pitch of the frame before, otherwise 0.
    """

    inner: Tensor
    frame: Tensor


@final
class FrameLSTM(nn.Module):
    """An LSTM over frames, and one head for all pitches of a frame in the order of their classes.

    What is said here of ascending pitches is true of descending ones, whose classes ascend as well.

    The head reads the output of the LSTM, the frame before, the pitches of the frame so far and, if
    there are such fields, the copied frame and other given classes. From these it computes a logit
    for each pitch, and weights of intervals: for each of the three frames, the weight of every
    interval up to `reach` semitones. A candidate pitch gets the sum of the weights of its intervals
    to the pitches of the three frames, so that what is learnt of an interval holds in all keys. The
    k-th pitch of the frame before has weights of its own for the k-th pitch of this one. The
    next pitch of the frame before, above the latest pitch of this one, gets the weight of a gate,
    and so does that of the copied frame: to continue as they do is learnt once for all pitches.

    The rows in which a frame has ended already are not computed: the encoder allows ``none`` alone.

    Args:
        fields: Pitches with the same values and a class ``none``, of which those that are given are
            the copied frame; and other given fields of classes.
        hidden_size: H, the number of LSTM units.
        num_layers: Number of LSTM layers.
        head_size: Size of the hidden layer of the head.
        reach: The greatest interval, semitones; 0 for no weights of intervals.
        dropout: The dropout probability of the output of the LSTM and of the hidden layer.
        input_dropout: The probability with which a pitch is left out of what the LSTM reads, in all
            frames of a sequence.
        weight_dropout: The dropout probability of the weights of the LSTM between its outputs
            before and its gates, the same for all frames of a batch. Little data is overfitted
            less.

    Raises:
        FieldError: If the fields are others.
        ConfigError: If a setting is out of range.

    Source:
        `weight_dropout`: Merity, Keskar and Socher: Regularizing and optimizing LSTM language
        models, ICLR 2018.
    """

    def __init__(
        self,
        *,
        fields: Sequence[Field],
        hidden_size: int = 256,
        num_layers: int = 1,
        head_size: int = 192,
        reach: int = 24,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(hidden_size, num_layers, head_size) < 1 or reach < 0:
            raise ConfigError("a size of the model is less than 1, or its reach below 0")
        if not all(0 <= share < 1 for share in (dropout, input_dropout, weight_dropout)):
            raise ConfigError("a dropout is not at least 0 and less than 1")
        by_name(fields)
        self.fields: Final = tuple(fields)
        self.config: Final[Mapping[str, Any]] = {
            "fields": self.fields,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "head_size": head_size,
            "reach": reach,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "weight_dropout": weight_dropout,
        }
        pitches = [field for field in fields if field.role == "pitch"]
        self.field_order: Final = tuple(f.name for f in pitches if not f.given)
        self._copied: Final = tuple(f.name for f in pitches if f.given)
        others = [field for field in fields if field.role != "pitch"]
        alike = {(f.values, f.none) for f in pitches}
        last = [f for f in pitches if f.none == (f.classes or 0) - 1]
        given = all(f.given and f.is_categorical for f in others)
        if not self.field_order or len(alike) != 1 or len(last) != len(pitches) or not given:
            raise FieldError(
                "a FrameLSTM has pitches of the same values with `none` as the last class, and "
                "given fields of classes",
                hint="encode with FrameEncoder",
            )
        self._columns: Final = [i for i, f in enumerate(fields) if f.name in self.field_order]
        self._reach: Final = reach
        self._weight_dropout: Final = weight_dropout
        self._keys: Final = len(pitches[0].values) - 1  # P
        keys = self._keys
        self._input_dropout: Final = input_dropout
        self.lstm: nn.LSTM = nn.LSTM(
            keys,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.drop: nn.Dropout = nn.Dropout(dropout)
        sources = _SOURCES if self._copied else _SOURCES - 1
        self._sources: Final = sources
        self.hidden: nn.Linear = nn.Linear(hidden_size, head_size)
        self.before: nn.Linear = nn.Linear(keys, head_size, bias=False)
        whole = 2 if self._copied else 1  # the frame before, and the copied one
        self.frames: nn.Linear = nn.Linear(keys * whole, head_size, bias=False)
        self.following: nn.Linear = nn.Linear(whole * (keys + 1), head_size, bias=False)
        self.agreed: nn.Linear = nn.Linear(whole, head_size, bias=False)
        self.gates: nn.Linear = nn.Linear(head_size, whole)
        self.last: nn.Embedding = nn.Embedding(keys + 1, head_size)  # the last class: no pitch yet
        self.given: nn.ModuleDict = nn.ModuleDict(
            {field.name: nn.Embedding(field.classes or 0, head_size) for field in others}
        )
        self.logits: nn.Linear = nn.Linear(head_size, keys + 1)
        self.intervals: nn.Linear | None = None
        if reach:
            self.intervals = nn.Linear(head_size, sources * (2 * reach + 1))
        self.initial_context: nn.Parameter = nn.Parameter(torch.zeros(hidden_size))
        with torch.no_grad():
            for embedding in (self.last, *self.given.values()):
                cast(nn.Embedding, embedding).weight.mul_(0.1)

    def initial_state(self, batch_size: int) -> tuple[FrameContext, LSTMState]:
        """The trained initial context with a silent frame, and a state of zeros."""
        context, state = initial_lstm_state(self.initial_context, self.lstm.num_layers, batch_size)
        silent = self.initial_context.new_zeros(batch_size, 1, self._keys)
        return self._context(context.hidden, silent), state

    def _context(self, hidden: Tensor, frame: Tensor) -> FrameContext:
        """The context from the (..., H) output of the LSTM after the frame (..., P)."""
        inner: Tensor = self.hidden(self.drop(hidden)) + self.before(frame)
        return FrameContext(inner, frame)

    def _roll(self, entries: Tensor) -> Tensor:
        """(..., P) 1 for each of the pitches among (..., K) class ids."""
        roll = self.initial_context.new_zeros(*entries.shape[:-1], self._keys + 1)
        return roll.scatter(-1, entries.long(), 1.0)[..., :-1]

    @override
    def forward(self, rows: Tensor, state: LSTMState) -> tuple[FrameContext, LSTMState]:
        """Read (B, T, F) rows."""
        frame = self._roll(rows[..., self._columns])  # (B, T, P)
        every = torch.ones_like(frame[:, :1])  # (B, 1, P): one mask for all frames
        read = nn.functional.dropout(every, self._input_dropout, self.training)
        hidden, state = self._run(frame * read, state)
        return self._context(hidden, frame), state

    def _run(self, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """The output (B, T, H) of the LSTM; in training, some of its weights are dropped."""
        if not (self.training and self._weight_dropout):
            context, state = run_lstm(self.lstm, inputs, state)
            return context.hidden, state
        weights = [
            nn.functional.dropout(weight, self._weight_dropout) if "weight_hh" in name else weight
            for name, weight in self.lstm.named_parameters()
        ]
        h, c = (part.transpose(0, 1).contiguous() for part in state)
        layers, between = self.lstm.num_layers, self.lstm.dropout
        # Biases, the layers, dropout between them, in training, one direction, the batch first.
        options = (True, layers, between, True, False, True)
        output, *last = torch.lstm(inputs, (h, c), weights, *options)
        return output, LSTMState(*(part.transpose(0, 1).to(state.h) for part in last))

    def predict(
        self, field: str, context: FrameContext, known: Mapping[str, Tensor]
    ) -> Categorical:
        """Predict one pitch of a frame, given those below it."""
        earlier = self.field_order[: self.field_order.index(field)]
        lead = context.frame.shape[:-1]
        if not earlier:
            return Categorical(self._logits(context, known, ()).reshape(*lead, -1))
        going = (known[earlier[-1]] < self._keys).reshape(-1)
        at = going.nonzero().squeeze(1)
        here = FrameContext(*(part.reshape(-1, part.shape[-1])[at] for part in context))
        entries = {name: known[name].reshape(-1)[at] for name in (*self._given_names, *earlier)}
        whole = here.frame.new_zeros(len(going), self._keys + 1)
        if len(at):
            whole = whole.index_copy(0, at, self._logits(here, entries, earlier))
        return Categorical(whole.reshape(*lead, -1))

    @property
    def _given_names(self) -> tuple[str, ...]:
        return (*self._copied, *self.given)

    def _logits(
        self, context: FrameContext, known: Mapping[str, Tensor], earlier: Sequence[str]
    ) -> Tensor:
        """(S, P + 1) the logits of the next pitch above those of the `earlier` fields."""
        inner, before = (part.reshape(-1, part.shape[-1]) for part in context)
        now = torch.zeros_like(before)
        last = before.new_full((len(before),), self._keys, dtype=torch.long)
        if earlier:
            columns = [known[name].reshape(-1) for name in earlier]
            now, last = self._roll(torch.stack(columns, dim=-1)), columns[-1].long()
        voice = before * (before.cumsum(-1) == len(earlier) + 1)
        whole = [before]
        if self._copied:
            copied = torch.stack([known[name].reshape(-1) for name in self._copied], dim=-1)
            whole.append(self._roll(copied))
        inner = inner + self.frames(torch.cat([now, *whole[1:]], dim=-1)) + self.last(last)
        following, agreed = _following(torch.stack(whole, dim=-2), now, last)
        inner = inner + self.following(following.flatten(-2)) + self.agreed(agreed)
        for name, embedding in self.given.items():
            inner = inner + embedding(known[name].reshape(-1).long())
        inner = self.drop(nn.functional.gelu(inner))
        logits: Tensor = self.logits(inner)
        logits = logits + (self.gates(inner).unsqueeze(-1) * following).sum(-2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.intervals is None:
            return logits
        weights = self.intervals(inner).unflatten(-1, (self._sources, -1)).to(logits.dtype)
        sources = torch.stack([before, now, voice, *whole[1:]], dim=-2).to(logits.dtype)
        relative = _convolved(sources, weights, self._reach)
        return logits + nn.functional.pad(relative, (0, 1))


def _following(frames: Tensor, now: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """The next pitch of whole frames above those of the present one so far.

    Args:
        frames: (S, M, P) whole frames.
        now: (S, P) the present frame so far.
        last: (S,) its latest pitch, P for none yet.

    Returns:
        (S, M, P + 1) 1 for the lowest pitch above the latest one, or for none; and (S, M) 1 where
        all pitches up to the latest one are the same, otherwise 0.
    """
    pitches = frames.shape[-1]
    low = torch.where(last == pitches, -1, last)
    above = torch.arange(pitches, device=last.device) > low[:, None]  # (S, P)
    higher = frames * above.unsqueeze(-2)
    candidates = nn.functional.pad(higher, (0, 1), value=0.5)  # none, if there is no pitch
    first = candidates.argmax(-1)  # the first of equal values
    following = nn.functional.one_hot(first, pitches + 1).to(frames.dtype)
    lower = frames - higher
    return following, (lower == now.unsqueeze(-2)).all(-1).to(frames.dtype)


def _convolved(frames: Tensor, weights: Tensor, reach: int) -> Tensor:
    """The sum over the frames of the weights of the intervals from their pitches.

    Weight k is that of the interval k - reach. The convolution of each pair is a product of Fourier
    transforms, which are added up before the inverse one.

    Args:
        frames: (S, M, P).
        weights: (S, M, 2 reach + 1).
        reach: The greatest interval.

    Returns:
        (S, P).
    """
    size = frames.shape[-1] + 2 * reach
    size += -size % 16  # a length that is fast
    product = torch.fft.rfft(frames, n=size) * torch.fft.rfft(weights, n=size)
    whole: Tensor = torch.fft.irfft(product.sum(-2), n=size)
    return whole[..., reach : reach + frames.shape[-1]]
