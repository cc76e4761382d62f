"""``LabelMap``: labels of pieces, such as composer and style, as classes of given fields.

A model that is trained with labels predicts notes given those of their piece. Class 0 of a label
stands for none, and for values that the training pieces do not have.
"""

from __future__ import annotations

import functools
import logging
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias, final

import numpy as np

from notelstm.errors import ConfigError, did_you_mean
from notelstm.fields import Field
from notelstm.notes import Notes

__all__ = ["Given", "Label", "LabelMap"]

Given: TypeAlias = Mapping[str, float | str]
"""Entries of given fields by name, those of labels as class ids or as texts."""

_MAX_CLASSES: Final = 1024
"""Limits the size of a model of a damaged table."""
_BINS: Final = 8
"""The classes of a label of many numbers."""
_FEW_NUMBERS: Final = 12
"""Different numbers up to which each is a class."""
_SHOWN: Final = 8
"""Values in a message."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class Label:
    """The classes of one label; class 0 stands for none of them.

    Attributes:
        name: The name of the label, and of its field.
        values: The text of each class from 1 on; of a label of many numbers, a typical number.
        edges: The ascending borders between the classes of numbers; empty for texts.

    Raises:
        ConfigError: If there are no values or too many, two of them are the same, or the edges are
            not the borders between them.
    """

    name: str
    values: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "edges", tuple(map(float, self.edges)))
        if not 1 <= len(self.values) < _MAX_CLASSES:
            raise ConfigError(
                f"the label {self.name!r} has {len(self.values)} values",
                hint=f"give 1 to {_MAX_CLASSES - 1}",
            )
        if len(self._classes) < len(self.values):
            raise ConfigError(f"two values of the label {self.name!r} are the same")
        ascending = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if self.edges and not (ascending and len(self.edges) == len(self.values) - 1):
            raise ConfigError(
                f"the label {self.name!r} has the edges {self.edges} for {len(self.values)} values",
                hint="give ascending borders between the values",
            )

    @functools.cached_property
    def _classes(self) -> dict[str, int]:
        """The class of each value."""
        return {_plain(value): k for k, value in enumerate(self.values, start=1)}

    def field(self) -> Field:
        """The given field, whose values are the class ids."""
        classes = range(len(self.values) + 1)
        return Field.categorical(self.name, "label", values=classes, given=True)

    def class_of(self, value: str | None) -> int:
        """The class of the value of a piece; 0 for None and for one that is not known."""
        if value is None:
            return 0
        if self.edges:
            number = _number(value)
            return (
                0 if math.isnan(number) else 1 + int(np.searchsorted(self.edges, number, "right"))
            )
        return self._classes.get(_plain(value), 0)

    def find(self, value: str) -> int:
        """The class of a value that a user names, by some of its words if they are enough.

        Returns:
            0 for a value that is not known, which is logged as a warning.

        Raises:
            ConfigError: If several values have these words.

        Example:
            >>> label = Label(name="composer", values=("Frédéric Chopin", "Franz Liszt"))
            >>> label.find("chopin"), label.find("Frederic Chopin"), label.class_of("chopin")
            (1, 1, 0)
        """
        found = self.class_of(value)
        if found or self.edges:
            if not found:
                _log.warning("the %s %r is not a number, and counts as none", self.name, value)
            return found
        words = set(_plain(value).split())
        fitting = [text for text in self.values if words and words <= set(_plain(text).split())]
        # An arranger's name is beside that of the composer.
        fitting = [text for text in fitting if "/" not in text] or fitting
        if len(fitting) > 1:
            raise ConfigError(
                f"{len(fitting)} values of the label {self.name!r} match {value!r}",
                hint=f"give one of {', '.join(map(repr, fitting[:_SHOWN]))}",
            )
        if fitting:
            return self.class_of(fitting[0])
        more = f" and {len(self.values) - _SHOWN} more" if len(self.values) > _SHOWN else ""
        _log.warning(
            "the model was not trained with the %s %r, which counts as none; it has %s%s",
            self.name,
            value,
            ", ".join(self.values[:_SHOWN]),
            more,
        )
        return 0


@final
@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """The labels of a corpus as classes, for encoders with a setting `conditions`.

    Attributes:
        labels: The labels, each with a name of its own.

    Raises:
        ConfigError: If there are none, or two have the same name.

    Example:
        >>> pieces = [Notes(start=[0], end=1, pitch=60, labels={"style": s}) for s in "aabbc"]
        >>> styles = LabelMap.from_pieces(pieces, ["style"])
        >>> [styles.classes_of(piece) for piece in pieces]  # a single piece is no class
        [(1,), (1,), (2,), (2,), (0,)]
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Check the settings; labels may be given as mappings, as settings files have them."""
        object.__setattr__(self, "labels", tuple(map(_as_label, self.labels)))
        names = [label.name for label in self.labels]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"a label map of the labels {', '.join(names) or 'none'}",
                hint="give at least one label, each with a name of its own",
            )

    @classmethod
    def from_pieces(
        cls, pieces: Iterable[Notes], names: Sequence[str], *, least: int = 2
    ) -> LabelMap:
        """The values of some labels in a corpus.

        Numbers are classes if at most 12 different ones occur; more are divided into eight classes
        of equally many pieces. Texts are compared without upper and lower case and accents.

        Args:
            pieces: The pieces; the order does not matter.
            names: The names of the labels.
            least: The number of pieces from which on a text is a class.

        Raises:
            ConfigError: If no piece has a label, or no text occurs in enough pieces.
        """
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        known: dict[str, None] = {}
        for piece in pieces:
            known.update(dict.fromkeys(piece.labels))
            for name, counter in counts.items():
                if name in piece.labels:
                    counter[piece.labels[name]] += 1
        labels = []
        for name, counter in counts.items():
            if not counter:
                raise ConfigError(
                    f"no training piece has the label {name!r}{did_you_mean(name, known)}",
                    hint=f"use one of {', '.join(known)}"
                    if known
                    else "put a table with a column of file names into the folder, or folders",
                )
            labels.append(_label(name, counter, least))
        return cls(labels=tuple(labels))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LabelMap:
        """The label map of :meth:`to_json`.

        Raises:
            ConfigError: If a setting is missing or cannot have that value.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(
                f"these are not the settings of a label map: {dict(values)}", hint="give labels"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {"labels": [asdict(label) for label in self.labels]}

    def fields(self) -> tuple[Field, ...]:
        """The given field of each label."""
        return tuple(label.field() for label in self.labels)

    def classes_of(self, piece: Notes) -> tuple[int, ...]:
        """The class of each label of a piece."""
        return tuple(label.class_of(piece.labels.get(label.name)) for label in self.labels)

    def texts_of(self, classes: Iterable[float]) -> dict[str, str]:
        """The labels of a piece with these classes, without those of class 0."""
        pairs = zip(self.labels, map(int, classes), strict=True)
        return {label.name: label.values[k - 1] for label, k in pairs if k}

    def entries(self, given: Given) -> dict[str, float]:
        """The given entries by field name: texts of labels as classes, others as they are.

        Raises:
            ConfigError: If several values of a label match a text.
        """
        named = {label.name: label for label in self.labels}
        return {
            name: float(named[name].find(value))
            if name in named and isinstance(value, str)
            else value  # type: ignore[misc]  # texts of other fields are refused as entries
            for name, value in given.items()
        }


def _as_label(label: object) -> Label:
    if isinstance(label, Label):
        return label
    try:
        return Label(**label)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(
            f"{label!r} is not a label", hint='give Label(name="style", values=("jazz", "rock"))'
        ) from error


def _label(name: str, counts: Counter[str], least: int) -> Label:
    """The label of some values and the number of pieces with each."""
    numbers = {text: _number(text) for text in counts}
    if len(set(numbers.values())) > _FEW_NUMBERS and not any(map(math.isnan, numbers.values())):
        each = np.sort([numbers[text] for text in counts.elements()])
        edges = np.unique(np.quantile(each, np.arange(1, _BINS) / _BINS))
        groups = np.split(each, np.searchsorted(each, edges))
        # Several equal quantiles are one border, and nothing lies below the least number.
        kept = [k for k, group in enumerate(groups) if len(group)]
        # Dates and other numbers of many digits must not become the same text.
        typical = tuple(f"{np.median(groups[k]):.15g}" for k in kept)
        return Label(name=name, values=typical, edges=tuple(edges[[k - 1 for k in kept[1:]]]))
    spellings: dict[str, Counter[str]] = {}
    for text, count in counts.items():
        spellings.setdefault(_plain(text), Counter())[text] += count
    # The smallest of equally frequent ones, so that the order of pieces does not matter.
    frequent = sorted(
        (-seen.total(), min(seen, key=lambda text: (-seen[text], text)))
        for seen in spellings.values()
        if seen.total() >= least
    )
    if not frequent:
        raise ConfigError(
            f"no value of the label {name!r} occurs in {least} training pieces",
            hint="choose a label that pieces share",
        )
    return Label(name=name, values=tuple(sorted(text for _, text in frequent[: _MAX_CLASSES - 1])))


def _plain(text: str) -> str:
    """A text in lower case, without accents and repeated spaces."""
    apart = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in apart if not unicodedata.combining(c)).casefold().split())


def _number(text: str) -> float:
    """The number that a text states, NaN if it states none that is finite."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
