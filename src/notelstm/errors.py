"""Every error that notelstm raises on purpose, in one tree.

.. code-block:: text

   NotelstmError
   ├── NotesError        (ValueError)   columns that are not a piece of music
   ├── EncodingError     (ValueError)   notes or rows outside an encoder's domain
   ├── MidiError         (ValueError)   a MIDI file that cannot be read or written as asked
   │   └── NoNotesError                 a MIDI file that holds no notes under the policy
   ├── FieldError        (ValueError)   fields that do not fit the part they are given to
   ├── ShapeError        (ValueError)   tensors whose shapes do not match
   ├── DataError         (ValueError)   pieces from which nothing can be trained or scored
   ├── PluginError       (LookupError)  a part's name that is unknown, claimed twice or broken
   ├── ConfigError       (ValueError)   a setting that does not exist or cannot have that value
   ├── BundleError       (ValueError)   a model file that is truncated, foreign or too new
   ├── TrainingError     (RuntimeError) a run that cannot start, go on or be resumed
   ├── OutputError       (OSError)      a result that could not be written
   └── MissingExtraError (ImportError)  an optional package that is not installed

Each message states the rule, then what was found, where, and what to do about it.
"""

from __future__ import annotations

from typing_extensions import override

__all__ = [
    "BundleError",
    "ConfigError",
    "DataError",
    "EncodingError",
    "FieldError",
    "MidiError",
    "MissingExtraError",
    "NoNotesError",
    "NotelstmError",
    "NotesError",
    "OutputError",
    "PluginError",
    "ShapeError",
    "TrainingError",
]


class NotelstmError(Exception):
    """The root of the tree: catch this to catch everything the library raises on purpose.

    Args:
        rule: What has to hold, as one sentence without a full stop.
        got: What was found instead.
        where: The file, row, column or part in question.
        fix: What the reader of the message can do.

    Example:
        >>> print(NotelstmError("pitch is 0 to 127", got="pitch 130", where="row 4", fix="clip it"))
        pitch is 0 to 127; got pitch 130 (row 4). To fix: clip it
    """

    def __init__(self, rule: str, *, got: str = "", where: str = "", fix: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.got = got
        self.where = where
        self.fix = fix

    @override
    def __str__(self) -> str:
        """The whole message on one line."""
        text = self.rule
        if self.got:
            text += f"; got {self.got}"
        if self.where:
            text += f" ({self.where})"
        if self.fix:
            text += f". To fix: {self.fix}"
        return text

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, so that errors cross process boundaries whole."""
        return _rebuild, (type(self), self.rule, self.got, self.where, self.fix)


def _rebuild(kind: type[NotelstmError], rule: str, got: str, where: str, fix: str) -> NotelstmError:
    return kind(rule, got=got, where=where, fix=fix)


class NotesError(NotelstmError, ValueError):
    """Columns that are not a piece of music."""


class EncodingError(NotelstmError, ValueError):
    """Notes or rows outside an encoder's domain."""


class MidiError(NotelstmError, ValueError):
    """A MIDI file that cannot be read or written as asked."""


class NoNotesError(MidiError):
    """A MIDI file that holds no notes under the policy it was read with."""


class FieldError(NotelstmError, ValueError):
    """Fields that do not fit the part they are given to."""


class ShapeError(NotelstmError, ValueError):
    """Tensors whose shapes do not match; nothing here is broadcast in silence."""


class DataError(NotelstmError, ValueError):
    """Pieces from which nothing can be trained or scored."""


class PluginError(NotelstmError, LookupError):
    """A part's name that is unknown, claimed twice, or whose package is broken."""


class ConfigError(NotelstmError, ValueError):
    """A setting that does not exist or cannot have the value it was given."""


class BundleError(NotelstmError, ValueError):
    """A model file that is truncated, foreign, or newer than this library."""


class TrainingError(NotelstmError, RuntimeError):
    """A training run that cannot start, go on or be resumed."""


class OutputError(NotelstmError, OSError):
    """A result that could not be written: no space, no permission, no such folder."""


class MissingExtraError(NotelstmError, ImportError):
    """An optional package that is needed here and not installed."""
