"""The error tree: whole in its docstring, whole after a pickle."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re

import pytest

from notelstm import errors

KINDS = [kind for name in errors.__all__ if inspect.isclass(kind := getattr(errors, name))]


def test_the_tree_in_the_docstring_is_complete() -> None:
    text = inspect.getdoc(errors) or ""
    drawn: dict[str, tuple[int, str | None]] = {}
    pattern = r"^(?P<indent>[ │├└─]*)(?P<name>\w+)(?: +\((?P<builtin>\w+)\))?"
    for line in text.splitlines():
        match = re.match(pattern, line.removeprefix("   "))
        if match and hasattr(errors, match["name"]) and match["name"].endswith("Error"):
            drawn[match["name"]] = (len(match["indent"]), match["builtin"])
    assert set(drawn) == {kind.__name__ for kind in KINDS}
    for kind in KINDS:
        indent, builtin = drawn[kind.__name__]
        assert indent == 4 * (len(depth(kind)) - 1), kind
        if builtin:
            assert issubclass(kind, getattr(builtins, builtin)), kind


def depth(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if issubclass(base, errors.NotelstmError)]


def test_dunder_all_names_every_error() -> None:
    own = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert own == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_builtin_errors_and_can_be_pickled(
    kind: type[errors.NotelstmError],
) -> None:
    error = kind("a problem", where="there", hint="that")
    builtin = [b for b in kind.__mro__ if b.__module__ == "builtins"]
    assert builtin[0] is not Exception or kind is errors.NotelstmError
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.problem, back.where, back.hint) == ("a problem", "there", "that")
    assert str(back) == str(error) == "a problem (there). That"


def test_messages_omit_missing_parts() -> None:
    assert str(errors.DataError("a rule")) == "a rule"
    assert str(errors.DataError("a rule", where="there")) == "a rule (there)"
    assert str(errors.OutputError("a rule", hint="that")) == "a rule. That"
