"""Running a model: reading rows, drawing the next one and reading that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, final

import torch

from notelstm.fields import Rows
from notelstm.generation.drawing import PlainDraw, TensorDraw
from notelstm.generation.lanes import Lanes
from notelstm.generation.noise import LaneNoise
from notelstm.generation.parts import Parts
from notelstm.generation.steps import ModuleStep, Place, lanes_of, spread, step_of
from notelstm.models.modes import in_use
from notelstm.protocols import LeanSampler

__all__ = ["Engine"]

_FEW: Final = 16
"""Lanes whose products are too small to be shared out: threads would wait for each other, and where
other work runs beside, for long."""
_READ: Final = 1024
"""Rows of all lanes that are read at once; more would not fit in memory."""


@final
class Engine:
    """Runs a model in B lanes, by its lean copy if it has one.

    Args:
        parts: What the session is made of.
        lanes: The lanes.

    Attributes:
        place: Where the model stands; it can be set to where it stood before.
    """

    def __init__(self, parts: Parts, lanes: Lanes) -> None:
        self._parts: Final = parts
        self._lanes: Final = lanes
        with in_use(parts.model):
            self._step: Final = step_of(parts.model)
            self.place: Place = spread(Place(*self._step.start()), len(lanes))
        self._draw: Final = TensorDraw(parts, lanes, self._step)
        self._quick: Final = self._quick_draw()

    def _quick_draw(self) -> PlainDraw | None:
        """How one lane is drawn where the sampler is content with plain numbers."""
        sampler = self._parts.sampler
        if len(self._lanes) > 1 or isinstance(self._step, ModuleStep):
            return None
        choose = sampler.lean() if isinstance(sampler, LeanSampler) else None
        return None if choose is None else PlainDraw(self._parts, self._lanes, self._step, choose)

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """What rows are read and drawn in: no gradients, and few lanes on one thread."""
        threads = torch.get_num_threads()
        alone = threads > 1 and len(self._lanes) <= _FEW
        if alone:
            torch.set_num_threads(1)
        try:
            if isinstance(self._step, ModuleStep):
                with in_use(self._parts.model):
                    yield
            else:
                with torch.inference_mode():
                    yield
        finally:
            if alone:
                torch.set_num_threads(threads)

    def read(self, rows: Rows) -> None:
        """Read (T, F) rows in every lane."""
        lanes = len(self._lanes)
        if self._lanes.alike:
            place = self._after(rows, lanes_of(self.place, slice(1)), 1)
            self.place = spread(place, lanes)
        else:
            self.place = self._after(rows, self.place, lanes)

    def _after(self, rows: Rows, place: Place, lanes: int) -> Place:
        """Where a model stands after (T, F) rows."""
        step = self._step
        if not isinstance(step, ModuleStep):
            for row in rows:
                place = Place(*step.step(row[None].repeat(lanes, axis=0), place.state))
            return place
        some = max(1, _READ // lanes)
        for first in range(0, len(rows), some):
            batch = torch.from_numpy(rows[first : first + some]).expand(lanes, -1, -1)  # (B, T, F)
            place = Place(*step.read(batch, place.state))
        return place

    def draw(self, noise: LaneNoise, forced: Mapping[str, float]) -> Rows:
        """Draw and read the next row of each lane.

        Args:
            noise: Gives the uniforms of the row.
            forced: Entries by field name, the same in each lane.

        Returns:
            (B, F).
        """
        if self._quick is None or forced:
            rows = self._draw(self.place, noise.next(), forced)
        else:
            rows = self._quick(self.place, noise.plain())
        read = rows
        if self._parts.feedback is not None:
            fields = tuple(self._parts.fields.values())
            read = self._parts.feedback(torch.from_numpy(rows), fields).numpy()
        self.place = Place(*self._step.step(read, self.place.state))
        return rows
