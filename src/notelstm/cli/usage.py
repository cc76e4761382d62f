"""Wrong command lines explained on one line, and help texts wrapped at the terminal's width."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn, get_args

from notelstm.errors import did_you_mean

__all__ = ["check_command", "explained", "rewrap", "wrapped_help"]

_NUMBERS: Final = ((int, "a whole number"), (float, "a number"))


def check_command(name: str, commands: Iterable[str]) -> None:
    """Exit with code 2, after one line on standard error, if there is no such command."""
    known = list(commands)
    if name in known:
        return
    if name.startswith("-"):
        _exit(f"unknown option {name!r}{did_you_mean(name, ['--help', '--version'])}", "notelstm")
    closest = did_you_mean(name, known) or f": the commands are {', '.join(known)}"
    _exit(f"unknown command {name!r}{closest}", "notelstm")


@contextlib.contextmanager
def explained(command: Callable[..., object], arguments: Sequence[str]) -> Iterator[None]:
    """Explain a wrong option or value of a command on one line, then exit with code 2."""
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        # Other versions of tyro print their own, longer report.
        yield
        return
    with on_parse_error(functools.partial(_explain, command, arguments)):
        yield


def _explain(command: Callable[..., object], arguments: Sequence[str], event: Any) -> None:
    """Explain a failure and exit; an unknown kind of failure is left to the parser."""
    kind = type(event).__name__
    where = event.prog
    if kind in ("UnrecognizedArgs", "MissingArgs"):
        tokens = event.tokens if kind == "UnrecognizedArgs" else event.unrecognized_tokens
        options = [t.partition("=")[0] for t in tokens if t.startswith("-")]
        if options:
            closest = did_you_mean(options[0], _options(command))
            _exit(f"unknown option {options[0]!r}{closest}", where)
        if kind == "MissingArgs":
            missing = " and ".join(_name(context.arg) for context in event.missing_arguments)
            _exit(f"missing {missing}", where)
        _exit(f"unexpected argument {tokens[0]!r}", where)
    argument = getattr(event, "argument", None)
    if argument is None:
        return
    name = _name(argument)
    if kind == "BadValue":
        _exit(f"missing value for {name}", where)
    value = event.value if kind == "InvalidChoice" else _value(arguments, argument)
    flag = name.partition(" ")[0]
    _exit(f"{value!r} is not {_expected(argument)} ({flag})", where)


def _name(argument: Any) -> str:
    """An argument as the help shows it: ``FOLDER``, ``--output MODEL``."""
    metavar = str(argument.lowered.metavar or "")
    if argument.is_positional():
        return metavar
    return f"{argument.lowered.name_or_flags[-1]} {metavar}".strip()


def _value(arguments: Sequence[str], argument: Any) -> str:
    """The value that was given to an option; "" if it cannot be found."""
    flags = () if argument.is_positional() else argument.lowered.name_or_flags
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") in flags:
            return value if equals else following
    return ""


def _expected(argument: Any) -> str:
    """The values that an argument can have, in words."""
    types = list(_leaves(argument.field.type))
    choices = [kind for kind in types if isinstance(kind, str)]
    if choices:
        return f"one of {', '.join(choices)}"
    numbers = (words for kind, words in _NUMBERS if kind in types)
    return next(numbers, f"a {argument.lowered.metavar}")


def _leaves(hint: Any) -> Iterator[Any]:
    """The types and literal values that an annotation consists of."""
    inner = get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from _leaves(one)


def _options(command: Callable[..., object]) -> list[str]:
    """The options of a command, including those of its groups."""
    found = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        group = parameter.default
        if dataclasses.is_dataclass(group):
            found += [field.name for field in dataclasses.fields(group)]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            given = [getattr(one, "name", None) for one in get_args(parameter.annotation)]
            found.append(next((one for one in given if isinstance(one, str)), name))
    return [f"--{name.replace('_', '-')}" for name in (*found, "help")]


def _exit(problem: str, where: str) -> NoReturn:
    stop = "" if problem.endswith("?") else "."
    print(f"notelstm: error: {problem}{stop} Run {where} --help", file=sys.stderr)
    sys.exit(2)


def rewrap(command: Callable[..., object]) -> None:
    """Join the lines of each option's description in docstrings, for the parser to wrap."""
    groups = [p.default for p in inspect.signature(command).parameters.values()]
    for target in (command, *(type(group) for group in groups if dataclasses.is_dataclass(group))):
        target.__doc__ = re.sub(r"\n {8,}(?=\S)", " ", inspect.getdoc(target) or "")


@contextlib.contextmanager
def wrapped_help() -> Iterator[None]:
    """Wrap a help text at the terminal's width, without colours, and print it after the block."""
    real = sys.stdout
    captured = io.TextIOWrapper(io.BytesIO(), encoding=real.encoding or "utf-8")
    try:
        with contextlib.redirect_stdout(captured):
            yield
    finally:
        captured.seek(0)
        width = shutil.get_terminal_size().columns
        for line in captured.read().splitlines():
            boxed = line.startswith(("│", "╭", "╰", "|", "+"))
            print(line if boxed else "\n".join(textwrap.wrap(line, width)))
