"""``notelstm render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_outputs
from notelstm.cli.reading_options import Reading, left_out_of_file
from notelstm.errors import ConfigError, counted
from notelstm.files import checked_suffix
from notelstm.listening import Sample, save_audio, save_page, save_piano_roll
from notelstm.midi import ReadPolicy, read_midi_with_report

__all__ = ["render"]


def render(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="IN.mid")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT")],
    soundfont: Annotated[Path | None, shown("FILE.sf2")] = None,
    overwrite: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Render a MIDI file as sound, as a page, or as a picture.

    By default all tracks are read, drums too, and the pedal extends notes.

    Args:
        path: The MIDI file.
        output: The file to write; its suffix selects the format: .wav sound, .html a page that
            shows and plays the music in any browser, .png or .svg a picture (needs the extra
            `plot`).
        soundfont: For a .wav: play this sound font instead of the built-in sounds; needs the extra
            `soundfont`.
        overwrite: Replace the output if it exists.
        reading: How the file is read.
    """
    suffix = checked_suffix(output, (".wav", ".html", ".png", ".svg"), "output")
    if soundfont is not None and suffix != ".wav":
        raise ConfigError(
            f"--soundfont does nothing for a {suffix} file",
            where=str(output),
            hint="leave it out, or write a .wav file",
        )
    check_outputs([output], overwrite=overwrite)
    base = ReadPolicy(tracks="all", pedal="extend", drums=True)
    notes, report = read_midi_with_report(path, reading.policy(base))
    if suffix == ".wav":
        save_audio(notes, output, soundfont=soundfont)
    elif suffix == ".html":
        save_page([Sample(notes=notes, title=path.stem)], output, title=path.stem)
    else:
        save_piano_roll(notes, output, title=path.stem)
    print(f"wrote {output}: {counted(len(notes), 'note')}, {notes.end_time:.1f} s")
    left_out = left_out_of_file(notes, report)
    if left_out:
        print(left_out)
