"""Read every file of a folder of odd MIDI files with every reader.

    python docs/measured/odd_midi.py FOLDER

replaces the table of ``midi.md``, between its two marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from notelstm.errors import MidiError, NoNotesError
from notelstm.midi import PrettyMidiReader, ReadPolicy, SymusicReader, TolerantReader
from notelstm.midi.reading import Reader

PAGE = Path(__file__).parents[1] / "midi.md"
START, STOP = "<!-- odd files: start -->\n", "<!-- odd files: stop -->\n"
POLICY = ReadPolicy(tracks="all", drums=True)


def answer(reader: Reader, data: bytes) -> str:
    """The number of notes that a reader finds, ``no notes`` or ``refused``."""
    try:
        return str(len(reader.read(data, POLICY, "")[0]))
    except NoNotesError:
        return "no notes"
    except MidiError:
        return "refused"


def remark(data: bytes) -> str:
    """The repairs, or the reason why the file cannot be read."""
    try:
        _, report = TolerantReader().read(data, POLICY, "")
    except NoNotesError:
        return "the file has no notes"
    except MidiError as error:
        return error.problem.replace("|", "\\|")
    rules: dict[str, list[str]] = {}
    for repair in report.repairs:
        rules.setdefault(repair.rule, []).append(str(repair.byte))
    repairs = [f"{rule} at byte {', '.join(bytes_)}" for rule, bytes_ in rules.items()]
    return "; ".join([*repairs, *report.warnings])


def main() -> None:
    """Write the table."""
    lines = [
        "| file | pretty-midi | symusic | tolerant | repairs and remarks |\n|---|---|---|---|---|\n"
    ]
    for path in sorted(Path(sys.argv[1]).iterdir()):
        if path.suffix in {".mid", ".syx"}:
            data = path.read_bytes()
            readers = (PrettyMidiReader(), SymusicReader(), TolerantReader())
            answers = " | ".join(answer(reader, data) for reader in readers)
            lines.append(f"| {path.stem} | {answers} | {remark(data)} |\n")
    page = PAGE.read_text()
    before, rest = page.split(START)
    PAGE.write_text(before + START + "".join(lines) + STOP + rest.split(STOP)[1])


if __name__ == "__main__":
    main()
