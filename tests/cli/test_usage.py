"""Wrong command lines, and the help."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from notelstm.cli import main
from notelstm.cli.listing import plain
from notelstm.errors import counted
from notelstm.plugins import KINDS, installed

WRONG = {
    "trian a -o x": "unknown command 'trian': did you mean 'train'? Run notelstm --help",
    "--versoin": "unknown option '--versoin': did you mean '--version'? Run notelstm --help",
    "zzz": "unknown command 'zzz': the commands are demo, inspect",
    "train a -o x --epoch 3": (
        "unknown option '--epoch': did you mean '--epochs'? Run notelstm train --help"
    ),
    "train a -o x --epoch=3": "unknown option '--epoch': did you mean '--epochs'?",
    "train a --ouput x": "unknown option '--ouput': did you mean '--output'?",
    "train a -o x --form m": "unknown option '--form': did you mean '--from'?",
    "train a -o x --track all": "unknown option '--track': did you mean '--tracks'?",
    "generate -o x.mid --temprature 2": (
        "unknown option '--temprature': did you mean '--temperature'?"
    ),
    "train a -o x --epochs abc": (
        "'abc' is not a whole number (--epochs). Run notelstm train --help"
    ),
    "train a -o x --epochs=abc": "'abc' is not a whole number (--epochs)",
    "train a -o x --minutes x": "'x' is not a number (--minutes)",
    "train a -o x --precision float": (
        "'float' is not one of float32, bfloat16, auto (--precision)"
    ),
    "inspect a --tracks most": "'most' is not one of first, all, ",
    "inspect a --programs piano": "'piano' is not a whole number (--programs)",
    "train": "missing FOLDER and --output MODEL. Run notelstm train --help",
    "train a": "missing --output MODEL",
    "train a b -o x": "unexpected argument 'b'. Run notelstm train --help",
    "generate m -o x.mid --notes": "missing value for --notes N",
}


@pytest.mark.parametrize("command", WRONG)
def test_usage_errors_are_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith(f"notelstm: error: {WRONG[command]}")


COMMANDS = (
    *("demo", "inspect", "train", "report", "generate", "play", "render", "evaluate"),
    *("corpora", "plugins"),
)


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_fits_80_columns_and_is_wrapped(
    argv: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(list(argv)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # A description goes on to the end of the line: the first word of the next line had no room.
    for line, after in itertools.pairwise(lines):
        text, following = line.strip("│ "), after.strip("│ ")
        indented = after[:3] == "│  " and line[:3] == "│  "
        if indented and text and following and not text.startswith("-"):
            # Words that are not broken, at most.
            assert len(line.rstrip("│ ")) + 1 + len(following.split()[0]) > 78, (line, after)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are POSIX")
@pytest.mark.parametrize("argv", [["train", "--help"], ["train", "a", "--epochs", "x"]])
def test_no_color_is_honoured(argv: Sequence[str]) -> None:
    import pty

    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "notelstm", *argv],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert running.wait(timeout=300) in (0, 2)
    assert b"train" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize("command", ["plugins", "corpora"])
def test_no_markup_is_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    said = capsys.readouterr().out
    assert "`" not in said
    assert ":class:" not in said
    if command == "plugins":
        summaries = [plugin.summary for kind in KINDS for plugin in installed(kind)]
        assert any("`" in summary for summary in summaries), "there is markup to leave out"
        assert sum(len(installed(kind)) for kind in KINDS) == len(said.splitlines())


def test_docstrings_as_plain_text() -> None:
    told = plain("Like :class:`~notelstm.notes.Notes` and :func:`sorted`, ``p`` or `q`.")
    assert told == "Like Notes and sorted, p or q."


def test_counts_have_their_number() -> None:
    assert [counted(n, "note") for n in (0, 1, 2, 1234)] == [
        "0 notes",
        "1 note",
        "2 notes",
        "1,234 notes",
    ]
