"""``Controls``: how the music is steered while it plays, and the values of a model alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, did_you_mean
from notelstm.evaluation.baselines import Unigram
from notelstm.evaluation.grid import GRIDS
from notelstm.fields import Role
from notelstm.parts import PartMap
from notelstm.protocols import Processor, Sampler
from notelstm.sampling import ForbidValues, MaxPolyphony, NoteDensity, PitchRange, Scale
from notelstm.sampling.masking import check_number, check_whole
from notelstm.sampling.pitches import MODES
from notelstm.sampling.samplers import with_processors

__all__ = ["Controls", "controls_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Controls:
    """Controls of the model's music; those that are None leave it to the model.

    Attributes:
        temperature: From 0.1, predictable, to 3, random.
        top_p: Samples from the most likely values with this total probability, 0.05 to 1.
        density: Approximate number of notes per second, 0.25 to 40.
        low: The lowest pitch, a MIDI note number.
        high: The highest pitch, at least `low`.
        scale: The name of a scale, such as ``"D dorian"``.
        polyphony: The most pitches that sound at one time, 1 to 16.
        instruments: The names of the model's parts that may play.

    Raises:
        ConfigError: If a value is out of range, or there is no such scale.
    """

    temperature: float | None = None
    top_p: float | None = None
    density: float | None = None
    low: int | None = None
    high: int | None = None
    scale: str | None = None
    polyphony: int | None = None
    instruments: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name, (low, high, step) in _RANGES.items():
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, low, high)
                if isinstance(step, int):
                    check_whole(name, value)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(f"the register from {self.low} to {self.high} is empty")
        if self.scale is not None:
            Scale(name=self.scale)
        if self.instruments is not None:
            if isinstance(self.instruments, str) or not isinstance(self.instruments, Sequence):
                raise ConfigError(f"instruments {self.instruments!r} are not a list of names")
            object.__setattr__(self, "instruments", tuple(self.instruments))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Controls from JSON values by name.

        Raises:
            ConfigError: If a control does not exist, or a value is not valid.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name, value in found.items():
            if name not in known:
                raise ConfigError(f"unknown control {name!r}{did_you_mean(name, known)}")
            if isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}")
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """The controls that are set, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def sampler_for(self, bundle: Bundle) -> Sampler:
        """The bundle's sampler with the processors of the controls.

        Raises:
            ConfigError: If the sampler has no processors, and a control is set, or none of the
                model's parts may play.
        """
        more: list[Processor] = []
        if self.instruments is not None:
            names = _parts_of(bundle)
            silent = tuple(k for k, name in enumerate(names) if name not in self.instruments)
            if len(silent) == len(names):
                raise ConfigError(
                    f"none of the instruments {', '.join(map(str, self.instruments))} is a part "
                    f"of the model: {', '.join(names) or 'it has none'}"
                )
            more.append(ForbidValues(role="instrument", values=silent))
        if self.low is not None or self.high is not None:
            low, high = self.low, self.high
            more.append(
                PitchRange(low=0 if low is None else low, high=127 if high is None else high)
            )
        if self.scale is not None:
            more.append(Scale(name=self.scale))
        if self.polyphony is not None:
            more.append(MaxPolyphony(notes=self.polyphony))
        if self.density is not None:
            more.append(NoteDensity(notes_per_second=self.density))
        return with_processors(bundle.sampler, more, temperature=self.temperature, top_p=self.top_p)


_RANGES: Final[Mapping[str, tuple[float, float, float]]] = {
    "temperature": (0.1, 3.0, 0.05),
    "top_p": (0.05, 1.0, 0.01),
    "density": (0.25, 40.0, 0.25),
    "low": (0, 127, 1),
    "high": (0, 127, 1),
    "polyphony": (1, 16, 1),
}
"""The lowest and highest value and the step of each control that is a number."""

_NEEDS: Final[Mapping[str, Role]] = {
    "density": "step",
    "low": "pitch",
    "high": "pitch",
    "scale": "pitch",
    "polyphony": "step",
}
"""The role of the field that a control needs; events serve as well."""

_TAIL: Final = 0.01
"""The share of the training notes below the usual register, and above it."""


def controls_of(bundle: Bundle) -> list[dict[str, Any]]:
    """The controls that a model has, as JSON values.

    Returns:
        Of each control its name; its lowest and highest value and its step, the modes of a scale,
        or the names of the parts; and ``own``, the value of the model alone: for density, register
        and polyphony that of its training data, None if the bundle does not have it.
    """
    roles = {field.role for field in bundle.encoder.fields}
    own = _own_values(bundle)
    found: list[dict[str, Any]] = []
    for field in dataclasses.fields(Controls):
        role = _NEEDS.get(field.name)
        if role is not None and not roles & {role, "event"}:
            continue
        control: dict[str, Any] = {"name": field.name, "own": own.get(field.name)}
        if field.name == "instruments":
            control["choices"] = control["own"] = _parts_of(bundle)
            if not control["choices"]:
                continue
        elif field.name == "scale":
            control["modes"] = list(MODES)
        else:
            control["min"], control["max"], control["step"] = _RANGES[field.name]
        found.append(control)
    return found


def _parts_of(bundle: Bundle) -> list[str]:
    """The names of the model's parts, in the order of their classes."""
    parts = getattr(bundle.encoder, "parts", None)
    return [part.name for part in parts.classes] if isinstance(parts, PartMap) else []


def _own_values(bundle: Bundle) -> dict[str, float]:
    """The values of the model alone, by control."""
    own: dict[str, float] = {"temperature": 1.0, "top_p": 1.0}
    if not bundle.unigram:
        return own
    counts = Unigram.from_json(bundle.unigram).counts
    mean = {
        role: float((GRIDS[role].first + np.arange(len(counts[role]))) @ counts[role])
        * GRIDS[role].width
        / max(1, counts[role].sum())
        for role in ("step", "duration")
    }
    if mean["step"] > 0:
        own["density"] = round(1 / mean["step"], 1)
        # Little's law: the mean number of sounding notes is their rate times their length.
        own["polyphony"] = max(1, round(mean["duration"] / mean["step"]))
    below = np.cumsum(counts["pitch"]) / max(1, counts["pitch"].sum())
    own["low"] = int(np.searchsorted(below, _TAIL))
    own["high"] = int(np.searchsorted(below, 1 - _TAIL))
    return own
