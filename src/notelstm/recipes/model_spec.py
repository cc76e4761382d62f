"""``ModelSpec``: a model that is not built yet, as a value that can be compared and saved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from typing_extensions import override

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.plugins import settings_of
from notelstm.protocols import NoteModel

__all__ = ["ModelSpec"]


@final
@dataclass(frozen=True)
class ModelSpec:
    """A model's class, or a function that makes one, and the settings to build it with.

    ``Recipe(model=NoteLSTM)`` and ``Recipe(model=functools.partial(NoteLSTM, hidden=64))`` are
    turned into one.

    Attributes:
        factory: Called with ``fields=`` and the settings.
        settings: Keyword arguments; sequences are stored as tuples.

    Example:
        >>> from notelstm.models import NoteLSTM
        >>> ModelSpec.of(functools.partial(NoteLSTM, hidden=64))
        ModelSpec(NoteLSTM, hidden=64)
    """

    factory: Callable[..., NoteModel]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Store the settings in the form in which a record gives them back."""
        if not callable(self.factory):
            raise ConfigError(
                f"{self.factory!r} does not build a model",
                hint="give a model's class, or functools.partial(<class>, <settings>)",
            )
        settings = {key: _as_tuples(value) for key, value in self.settings.items()}
        object.__setattr__(self, "settings", settings)

    @classmethod
    def of(cls, model: Callable[..., NoteModel]) -> ModelSpec:
        """A specification from a class, a function, a ``functools.partial`` or a specification.

        Raises:
            ConfigError: If it cannot be called.
            PluginError: If a partial has settings without names.
        """
        if isinstance(model, ModelSpec):
            return model
        if isinstance(model, functools.partial):
            return cls(model.func, settings_of(model))
        return cls(model)

    @property
    def partial(self) -> functools.partial[NoteModel]:
        """The same as a ``functools.partial``, the form in which parts are described."""
        return functools.partial(self.factory, **self.settings)

    def __call__(self, *, fields: tuple[Field, ...]) -> NoteModel:
        """Build the model for these fields."""
        return self.factory(fields=fields, **self.settings)

    @override
    def __repr__(self) -> str:
        """The factory's name and the settings."""
        name = getattr(self.factory, "__qualname__", repr(self.factory))
        return f"ModelSpec({', '.join([name, *(f'{k}={v!r}' for k, v in self.settings.items())])})"


def _as_tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _as_tuples(item) for key, item in value.items()}
    return value
