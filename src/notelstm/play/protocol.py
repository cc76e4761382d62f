"""The messages between a client and the server: JSON objects with a ``type``, version 1.

Conventions: times are seconds of the client's clock, which never runs backwards; pitches,
velocities and programs are those of MIDI. ``docs/play.md`` describes each message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, final

from notelstm.errors import ConfigError, NotelstmError, did_you_mean
from notelstm.play.controls import Controls

__all__ = ["MAX_NOTES", "VERSION", "Message", "RefusedError", "Reply", "error_of", "parse"]

VERSION: Final = 1
"""The version of the protocol; a client names it in its first message."""

MAX_NOTES: Final = 512
"""The most notes of one message."""

_LATEST: Final = 1e7
"""The latest time of a client's clock, seconds, about four months."""
_LONGEST_NAME: Final = 200

Reply: TypeAlias = dict[str, Any]
"""A message to the client."""


@final
class RefusedError(Exception):
    """A message that is refused; the session is as it was before.

    Args:
        code: The code of the error message.
        problem: What is wrong.
        about: The type of the message, None if it is not known.
    """

    def __init__(self, code: str, problem: str, about: str | None = None) -> None:
        super().__init__(problem)
        self.code: Final = code
        self.about: Final = about


class Message(NamedTuple):
    """A message from the client.

    Attributes:
        type: Its type.
        values: Its checked values by name, complete.
    """

    type: str
    values: dict[str, Any]


def error_of(refusal: RefusedError | NotelstmError, about: str | None = None) -> Reply:
    """The error message for a refusal, about a message of the type `about`."""
    code = "impossible"
    if isinstance(refusal, RefusedError):
        code, about = refusal.code, refusal.about or about
    return {"type": "error", "code": code, "message": str(refusal), "about": about}


def parse(text: str) -> Message:
    """Read a message.

    Raises:
        RefusedError: If it is not JSON, not a message, or a value is missing or out of range.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError("malformed", f"the message is not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise RefusedError("malformed", "the message is not a JSON object with a type")
    kind = found.pop("type")
    if kind not in _MESSAGES:
        raise RefusedError(
            "malformed", f"unknown message {_short(kind)}{did_you_mean(kind, _MESSAGES)}"
        )
    try:
        return Message(kind, _values(found, _MESSAGES[kind], kind))
    except RefusedError as refusal:
        raise RefusedError(refusal.code, str(refusal), kind) from None


class _Value(NamedTuple):
    """How a value of a message is checked.

    Attributes:
        check: Gives the checked value, or raises ValueError with what it should be.
        default: The value if it is missing.
    """

    check: Callable[[Any], Any]
    default: Any = ...


def _values(found: Mapping[str, Any], shape: Mapping[str, _Value], where: str) -> dict[str, Any]:
    """The checked values of an object."""
    for name in found:
        if name not in shape:
            raise RefusedError(
                "malformed", f"{where} has no {_short(name)}{did_you_mean(name, shape)}"
            )
    values = {}
    for name, value in shape.items():
        if name not in found:
            if value.default is ...:
                raise RefusedError("malformed", f"{where} lacks {name}")
            values[name] = value.default
            continue
        try:
            values[name] = value.check(found[name])
        except ValueError as error:
            problem = f"{name} of {where} is {_short(found[name])}, not {error}"
            raise RefusedError("malformed", problem) from None
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        # An int may be too large for a float.
        valid = isinstance(value, int | float) and not isinstance(value, bool)
        if not valid or not low <= value <= high or math.isnan(value):
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise ValueError(f"a text of at most {_LONGEST_NAME} characters")
    return value


def _optional(check: Callable[[Any], Any]) -> _Value:
    return _Value(lambda value: None if value is None else check(value), None)


_time: Final = _number(0, _LATEST)
# A piece that was played before the clock began has times below 0.
_time_in_piece: Final = _number(-_LATEST, _LATEST)
_INSTRUMENT: Final = {
    "program": _Value(_whole(0, 127), 0),
    "drum": _Value(_flag, False),
    "part": _Value(_name, ""),
}
_PITCH: Final = {"pitch": _Value(_whole(0, 127)), **_INSTRUMENT}
_NOTE: Final = {
    "start": _Value(_time),
    "end": _Value(_time),
    "velocity": _Value(_whole(1, 127)),
    **_PITCH,
}


def _notes(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_NOTES:
        raise ValueError(f"a list of 1 to {MAX_NOTES} notes")
    notes = []
    for number, note in enumerate(value):
        if not isinstance(note, dict):
            raise ValueError(f"a list of notes: number {number} is not an object")
        values = _values(note, _NOTE, f"note {number}")
        if values["end"] < values["start"]:
            raise ValueError(f"a list of notes: number {number} ends before it starts")
        notes.append(values)
    return notes


def _controls(value: Any) -> Controls:
    if not isinstance(value, dict):
        raise ValueError("an object of controls")
    try:
        return Controls.from_json(value)
    except ConfigError as error:
        raise ValueError(f"valid: {error}") from None


_AT: Final = {"at": _Value(_time)}
_TAKE: Final = {"take": _Value(_whole(1, 10**9))}
_LENGTH: Final = {
    "seconds": _optional(_number(0.1, 3600)),
    "seed": _optional(_whole(0, 2**31 - 1)),
}

_MESSAGES: Final[Mapping[str, Mapping[str, _Value]]] = {
    "hello": {
        "version": _Value(_whole(0, 10**6)),
        "clock": _Value(_name),
        "session": _optional(_name),
        "token": _optional(_name),
        **_AT,
    },
    "note-on": {"velocity": _Value(_whole(1, 127)), **_PITCH, **_AT},
    "note-off": {**_PITCH, **_AT},
    "notes": {"notes": _Value(_notes)},
    "continue": {**_LENGTH, **_AT},
    "again": {**_LENGTH, **_AT},
    "head": _AT,
    "steer": {"controls": _Value(_controls), **_AT},
    "stop": _AT,
    "undo": _AT,
    "clear": _AT,
    "model": {"name": _Value(_name), **_AT},
    "piece": _AT,
    "fill": {
        "start": _Value(_time_in_piece),
        "end": _Value(_time_in_piece),
        "seed": _LENGTH["seed"],
        **_AT,
    },
    "prompt": {"until": _optional(_number(0, _LATEST)), **_AT},
    "keep": _TAKE,
    "delete": _TAKE,
    "take": _TAKE,
}
"""The values of each message from the client."""
