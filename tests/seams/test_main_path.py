"""The main path, from a MIDI file to a MIDI file, enters few files: it can be read as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from notelstm.midi import write_midi
from notelstm.notes import Notes

MOST_FILES = 45
"""The number of files of the package that the path may enter."""

SCRIPT = """
import json, os, sys, threading
import notelstm

PACKAGE = os.path.dirname(notelstm.__file__)
entered = {}

def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
        name = os.path.relpath(code.co_filename, PACKAGE)
        entered.setdefault(name, set()).add(code.co_qualname)

def main_path():
    pieces = [notelstm.read_midi(sys.argv[1])]
    bundle = notelstm.expressive(hidden_size=16, epochs=1).train(pieces)
    bundle.save(sys.argv[2])
    music = notelstm.generate(notelstm.load(sys.argv[2]), num_notes=32, seed=1)
    notelstm.write_midi(music, sys.argv[3])

main_path()  # imports, and what is done once for a process
threading.setprofile(profile)
sys.setprofile(profile)
main_path()
sys.setprofile(None)
print(json.dumps({name: sorted(functions) for name, functions in entered.items()}))
"""


def test_the_main_path_enters_few_files(tmp_path: Path) -> None:
    notes = Notes(
        start=[0.25 * i for i in range(200)],
        end=[0.25 * i + 0.2 for i in range(200)],
        pitch=[50 + i * 7 % 24 for i in range(200)],
    )
    write_midi(notes, tmp_path / "in.mid")
    names = [str(tmp_path / name) for name in ("in.mid", "model.notelstm", "out.mid")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    entered = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "out.mid").stat().st_size > 100
    # A profile that sees nothing would find few files, too.
    assert {"midi/reading.py", "training/trainer.py", "bundle.py", "midi/writing.py"} <= set(
        entered
    )
    functions = sum(map(len, entered.values()))
    assert len(entered) <= MOST_FILES, "\n".join(
        [f"{len(entered)} files, {functions} functions", *map(str, sorted(entered.items()))]
    )
