"""Notochord's own model and loss, scored on the grid by the mass of its densities in a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.evaluation.grid import CELL, FIRST, GRIDS
from notelstm.notes import Notes
from peer_tools.common import (
    TRANSPOSED,
    Budget,
    Events,
    Nats,
    Tool,
    count_parameters,
    fit,
    nats_of,
)

START, PIANO = 128, 1
"""The pitch of the start token, and the instrument."""
LAST_CELL = 1000
"""The longest time that the model represents, in cells; it has all of the longer ones."""


class Sequences(NamedTuple):
    """The events of a piece after the start token, (M + 1,) each."""

    pitch: NDArray[np.int64]
    time: NDArray[np.float32]
    velocity: NDArray[np.float32]

    @classmethod
    def of(cls, events: Events) -> Sequences:
        """The sequences of some events."""
        return cls(
            np.concatenate([[START], events.pitch]),
            np.concatenate([[0], events.step * CELL]).astype(np.float32),
            np.concatenate([[0], events.velocity]).astype(np.float32),
        )


def mass(distribution: Any, params: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(M,) the mass of (M, P) densities between two bounds, which have the same shape."""
    double = params.double()
    return (distribution.cdf(double, high) - distribution.cdf(double, low)).clamp(0, 1)


def cell_mass(distribution: Any, params: Tensor, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M,) the mass of the time of each event in its cell.

    The cells at the ends have the tails. The model has one cell for all times from 10 s on; its
    mass is shared evenly among those cells of the grid.
    """
    shown = torch.from_numpy(cells.clip(0, LAST_CELL)).double()
    low, high = (shown - 0.5) * CELL, (shown + 0.5) * CELL
    low = torch.where(shown == 0, -torch.inf, low)
    high = torch.where(shown == LAST_CELL, torch.inf, high)
    shares = np.where(cells >= LAST_CELL, GRIDS["step"].last - LAST_CELL + 1, 1)
    return mass(distribution, params, low, high).numpy() / shares


def velocity_mass(
    distribution: Any, params: Tensor, velocity: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) the mass of the class of each velocity, or of 0, and that of 0."""
    value = torch.from_numpy(velocity).double()
    low, high = value // 4 * 4 - 0.5, value // 4 * 4 + 3.5
    low = torch.where(value < 4, 0.5, low)
    high = torch.where(value >= 124, torch.inf, high)
    off = torch.full_like(value, 0.5), torch.full_like(value, -torch.inf)
    ends = mass(distribution, params, off[1], off[0]).numpy()
    return np.where(velocity > 0, mass(distribution, params, low, high).numpy(), ends), ends


class EventNats(NamedTuple):
    """(M,) the nats of each part of each event; of two also without impossible events."""

    time: NDArray[np.float64]
    velocity: NDArray[np.float64]
    pitch: NDArray[np.float64]
    legal_velocity: NDArray[np.float64]
    legal_pitch: NDArray[np.float64]


def event_nats(model: Any, events: Events) -> EventNats:
    """The nats of the events of a piece.

    The parts of an event are predicted in the order of the model's own sampler: velocity, time,
    pitch. The instrument is given. An end is possible only while a note sounds, of the pitches that
    do; an onset of the others.
    """
    pitch, time, velocity = (torch.from_numpy(c)[None] for c in Sequences.of(events))
    columns = (torch.where(pitch == START, 0, PIANO), pitch, time, velocity)
    embedded = [emb(column) for emb, column in zip(model.embeddings, columns, strict=True)]
    state = tuple(s.expand(-1, 1, -1).contiguous() for s in model.initial_state)
    hidden, _ = model.rnn(sum(embedded), state)
    instrument, _, of_time, of_velocity = (e[:, 1:] for e in embedded)
    context = model.h_proj(hidden[:, :-1]) + instrument
    _, pitch_head, time_head, velocity_head = model.projections
    velocity_params = velocity_head(context.tanh())[0]
    time_params = time_head((context + of_velocity).tanh())[0]
    pitch_params = pitch_head((context + of_velocity + of_time).tanh())[0]

    is_onset, sounding = events.velocity > 0, events.sounding
    p_velocity, p_end = velocity_mass(model.vel_dist, velocity_params, events.velocity)
    p_time = cell_mass(model.time_dist, time_params, events.step)
    p_pitch = pitch_params.double().softmax(-1).numpy()
    own = p_pitch[np.arange(len(p_time)), events.pitch]
    possible = np.where(is_onset[:, None], ~sounding, sounding)
    return EventNats(
        time=nats_of(p_time, GRIDS["step"].size),
        velocity=nats_of(p_velocity, 33),
        pitch=nats_of(own, 128),
        legal_velocity=nats_of(
            np.where(sounding.any(axis=1), p_velocity, p_velocity / (1 - p_end)), 33
        ),
        legal_pitch=nats_of(own / (p_pitch[:, :128] * possible).sum(axis=1), 128),
    )


def piece_nats(model: Any, notes: Notes) -> Nats:
    """The nats of a piece with all events, and with the possible ones only."""
    events = Events.of(notes)
    nats = event_nats(model, events)
    counted = events.note >= FIRST
    every = nats.time + nats.velocity + nats.pitch
    legal = nats.time + nats.legal_velocity + nats.legal_pitch
    return {"event": float(every[counted].sum()), "legal": float(legal[counted].sum())}


class NotochordGru(Tool):
    """Notochord with a GRU smaller than its default of 2,048 units.

    Attributes:
        embedding: Units of the embeddings.
        units: Units of the GRU.
        layers: Hidden layers of the heads. With none, the default, the GRU must have as many
            units as the embeddings.
        length: Events of a training sequence.
    """

    name = "notochord, 640 units"
    imports = "from notochord import Notochord"
    distributions = ("notochord",)
    program = "notochord_gru.py"
    rates = (0.0003, 0.0001, 0.001)
    batches = (1, 4)
    # In a quarter, it learns nothing that tells rates apart.
    trial = 1 / 2
    # With one sequence in a batch, two threads are slower: see the speeds in ``peers.md``.
    threads = 1
    embedding, units, layers, length = 256, 640, 1, 128

    @override
    def train(
        self, pieces: Sequence[Notes], *, rate: float, batch: int, seed: int, budget: Budget
    ) -> None:
        from notochord import Notochord

        torch.manual_seed(seed)
        self.model: Any = Notochord(
            emb_size=self.embedding, rnn_hidden=self.units, mlp_layers=self.layers
        )
        found = [Sequences.of(Events.of(piece)) for piece in pieces]
        found = [piece for piece in found if len(piece.pitch) > self.length]
        places = np.array([len(piece.pitch) - self.length for piece in found], float)
        rng = np.random.default_rng(seed)

        def loss() -> Tensor:
            columns: list[list[NDArray[Any]]] = [[], [], []]
            for number in rng.choice(len(found), size=batch, p=places / places.sum()):
                piece = found[number]
                first = rng.integers(len(piece.pitch) - self.length + 1)
                pitch, time, velocity = (column[first : first + self.length] for column in piece)
                shift = int(rng.integers(-TRANSPOSED, TRANSPOSED + 1))
                pitch = np.where(pitch < START, (pitch + shift).clip(0, 127), pitch)
                for column, values in zip(columns, (pitch, time, velocity), strict=True):
                    column.append(values)
            pitch, time, velocity = (torch.from_numpy(np.stack(column)) for column in columns)
            self.seen += int((velocity > 0).sum())
            instrument = torch.where(pitch == START, 0, PIANO)
            result = self.model(instrument, pitch, time, velocity, torch.zeros_like(pitch))
            # Its own training loop adds up the means of these parts.
            parts = ("instrument", "pitch", "time", "velocity", "end")
            return -sum(result[f"{part}_log_probs"].mean() for part in parts)

        fit(self.model, loss, rate=rate, seed=seed, budget=budget)

    @torch.inference_mode()
    @override
    def score(self, pieces: Sequence[Notes]) -> list[Nats]:
        self.model.eval()
        return [piece_nats(self.model, piece) for piece in pieces]

    @override
    def generate(self, prompt: Notes, count: int) -> int:
        torch.manual_seed(0)
        self.model.eval()
        self.model.reset()
        events = Events.of(prompt)
        columns = (events.pitch.tolist(), (events.step * CELL).tolist(), events.velocity.tolist())
        for pitch, time, velocity in zip(*columns, strict=True):
            self.model.feed(PIANO, pitch, time, velocity)
        begun = 0
        while begun < count:
            event = self.model.query_vtip(note_on_map={PIANO: range(21, 109)})
            self.model.feed(**event)
            begun += event["vel"] > 0
        return begun

    @property
    @override
    def parameters(self) -> int:
        return count_parameters(self.model)


class SmallNotochord(NotochordGru):
    """The same with fewer units, and with the heads and the sequences of its defaults."""

    name = "notochord, 256 units"
    batches = (4, 16)
    embedding, units, layers, length = 256, 256, 0, 64
