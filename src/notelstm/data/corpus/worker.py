"""A worker: a process that reads files into shards, and ends when its owner does.

It is a plain child process that is told what to do through its standard input, a line of JSON for
each shard, and answers each with a line. It does not start from a copy of its owner, so it needs no
``if __name__ == "__main__"`` there, holds none of its locks, and when the owner is killed its input
ends, and so does it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from notelstm.data.corpus.shards import FileToRead, Job, read_shard, write_shard
from notelstm.errors import OutputError

__all__ = ["COMMAND", "serve"]

COMMAND: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from notelstm.data.corpus.worker import serve; serve()"
)
"""What the interpreter runs: the owner's module path comes first, on a line of its own."""


def serve() -> None:
    """Read shards until the input ends."""
    # Ctrl-C reaches every process of a terminal; it is the owner's to say what then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a reader prints must not be taken for an answer
    job = Job.from_json(json.loads(sys.stdin.readline()))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        entries = read_shard([FileToRead(*file) for file in asked["files"]], job)
        try:
            write_shard(Path(asked["shard"]), entries)
            answer = ""
        except OutputError as error:
            answer = error.got
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
