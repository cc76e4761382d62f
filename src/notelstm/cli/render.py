"""``notelstm render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import tyro
from tyro.conf import arg

__all__ = ["render"]

_SUFFIXES: Final = (".wav", ".html", ".png", ".svg")


def render(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="IN.mid")],
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT")],
    soundfont: Annotated[Path | None, arg(metavar="FILE.sf2", help_behavior_hint="")] = None,
) -> None:
    """Convert a MIDI file to sound, a web page or a picture.

    Args:
        path: The MIDI file.
        output: The file to write, by its suffix: .wav sound, .html a page that shows and plays the
            music in any browser, .png or .svg a picture (needs the extra `plot`).
        soundfont: For a .wav file, a sound font to use instead of the built-in piano; needs the
            extra `soundfont`.
    """
    from notelstm.errors import ConfigError
    from notelstm.midi import ReadPolicy, read_midi

    suffix = output.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(
            f"{output} is no file that render writes",
            hint=f"name one that ends in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}",
        )
    if soundfont is not None and suffix != ".wav":
        raise ConfigError(
            f"a sound font plays no {suffix} file",
            where=str(output),
            hint="leave out --soundfont, or write a .wav file",
        )
    # With all tracks and the pedal, as it was played; the built-in piano has no percussion.
    policy = ReadPolicy(tracks="all", pedal="extend", drums=soundfont is not None)
    notes = read_midi(path, policy)
    if suffix == ".wav":
        from notelstm.listening import save_audio

        save_audio(notes, output, soundfont=soundfont)
    elif suffix == ".html":
        from notelstm.listening import Sample, save_page

        save_page([Sample(notes=notes, title=path.stem)], output, title=path.stem)
    else:
        from notelstm.listening import save_piano_roll

        save_piano_roll(notes, output, title=path.stem)
    print(f"wrote {output}: {len(notes)} notes, {notes.seconds:.1f} s")
