"""``notelstm render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import tyro
from tyro.conf import arg

from notelstm.cli.outputs import Overwrite, check_outputs
from notelstm.cli.reading_options import Reading, left_out_of_file

__all__ = ["render"]

_SUFFIXES: Final = (".wav", ".html", ".png", ".svg")


def render(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="IN.mid")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT")],
    soundfont: Annotated[Path | None, arg(metavar="FILE.sf2", help_behavior_hint="")] = None,
    overwrite: Overwrite = False,
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
    from notelstm.errors import ConfigError, counted
    from notelstm.midi import ReadPolicy, read_midi_with_report

    suffix = output.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(
            f"nothing can be rendered as {suffix!r}" if suffix else "the output has no suffix",
            where=str(output),
            hint=f"end its name in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}",
        )
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
        from notelstm.listening import save_audio

        save_audio(notes, output, soundfont=soundfont)
    elif suffix == ".html":
        from notelstm.listening import Sample, save_page

        save_page([Sample(notes=notes, title=path.stem)], output, title=path.stem)
    else:
        from notelstm.listening import save_piano_roll

        save_piano_roll(notes, output, title=path.stem)
    print(f"wrote {output}: {counted(len(notes), 'note')}, {notes.end_time:.1f} s")
    left_out = left_out_of_file(notes, report)
    if left_out:
        print(left_out)
