"""Rows drawn and read by machine code, many lanes on several threads."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.errors import ConfigError
from notelstm.fields import Interval, Rows
from notelstm.generation.parts import Parts
from notelstm.generation.steps import Place, Step, joined_lanes, lanes_of
from notelstm.protocols import CompilableStep, CompiledStep, Precision, Rule, Sampler
from notelstm.sampling import Ancestral, Greedy, ShortestDuration, Weighted

__all__ = ["CompiledDraw"]

_FEWEST: Final = 32
"""Lanes that are worth a thread."""


@final
class CompiledDraw:
    """Draws rows in B lanes and reads them, with nothing forced.

    Args:
        parts: What the session is made of.
        step: What predicts.
        lanes: B.
        precision: Of the products.

    Raises:
        ConfigError: If this session cannot be compiled.
        MissingExtraError: If the compiler is not installed.
    """

    def __init__(self, parts: Parts, step: Step, lanes: int, precision: Precision) -> None:
        if precision not in get_args(Precision):
            raise ConfigError(
                f"compiled is {' or '.join(get_args(Precision))}", got=f"{precision!r}"
            )
        shares = max(1, min(torch.get_num_threads(), lanes // _FEWEST))
        edges = [lanes * i // shares for i in range(shares + 1)]
        self._some: Final = [slice(*pair) for pair in itertools.pairwise(edges)]
        self._steps: Final = [
            _compiled(parts, step, some.stop - some.start, precision) for some in self._some
        ]
        self._pool: Final = _team(shares) if shares > 1 else None

    def __call__(self, place: Place, noise: NDArray[np.float64], rows: Rows) -> Place:
        """Draw T rows and read them.

        Args:
            place: Where the model stands.
            noise: (B, T, F, 2) uniforms.
            rows: (T, B, F), written to.

        Returns:
            Where the model stands after them.
        """
        if self._pool is None:
            return _drawn(self._steps[0], place, noise, rows)
        waiting = [
            self._pool.submit(_drawn, step, lanes_of(place, some), noise[some], rows[:, some])
            for step, some in zip(self._steps, self._some, strict=True)
        ]
        return joined_lanes([share.result() for share in waiting])


def _team(size: int) -> ThreadPoolExecutor:
    """Threads that do their products alone, each on one core."""
    ready = threading.Barrier(size)

    def alone() -> None:
        # Asked once, a thread keeps its own number, whatever is set elsewhere later.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(size, "notelstm", initializer=alone)
    for started in [pool.submit(int) for _ in range(size)]:
        started.result()
    # What a thread sets for itself would hold for every thread to come as well.
    torch.set_num_threads(threads)
    return pool


def _drawn(step: CompiledStep, place: Place, noise: NDArray[np.float64], rows: Rows) -> Place:
    """Draw (T, B, F) rows into memory that is there."""
    context, state = place
    with torch.inference_mode():
        for i in range(len(rows)):
            rows[i], context, state = step(context, state, noise[:, i])
    return Place(context, state)


def _compiled(parts: Parts, step: Step, lanes: int, precision: Precision) -> CompiledStep:
    """The compiled step.

    Raises:
        ConfigError: If there is none.
        MissingExtraError: If the compiler is not installed.
    """
    rule, made = _rule_of(parts.sampler), None
    if rule and not parts.grammar and parts.feedback is None and isinstance(step, CompilableStep):
        made = step.compiled(rule, _ends_of(parts), lanes, precision)
    if made is None:
        raise ConfigError(
            "what can be compiled is a ThreeHeadLSTM of one layer on the CPU, without a context "
            "that it reads again, and a sampler without other processors than ShortestDuration",
            got=f"{type(parts.model).__name__}, {parts.sampler!r}",
            hint="leave out `compiled`",
        )
    return made


def _rule_of(sampler: Sampler) -> Rule | None:
    """The rule of a sampler that looks at nothing but what is predicted."""
    rules: dict[type, Rule] = {Ancestral: "ancestral", Greedy: "greedy", Weighted: "weighted"}
    if isinstance(sampler, Ancestral | Greedy | Weighted) and all(
        isinstance(processor, ShortestDuration) for processor in sampler.processors
    ):
        return rules[type(sampler)]
    return None


def _ends_of(parts: Parts) -> dict[str, Interval]:
    """What each number is confined to, by its field and the sampler's processors."""
    ends = {f.name: f.interval for f in parts.fields.values() if not f.is_categorical}
    for processor in getattr(parts.sampler, "processors", ()):
        for name, (low, high) in ends.items():
            field = parts.fields[name]
            if field.role == "duration" and field.unit == "s":
                ends[name] = Interval(min(max(low, processor.seconds), high), high)
    return ends
