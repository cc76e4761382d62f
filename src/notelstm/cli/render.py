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
    """Make a MIDI file heard or seen.

    Args:
        path: The MIDI file.
        output: What to write; its end says what it is: .wav sound, .html a page that shows and
            plays it in any browser, .png or .svg a picture (needs the extra `plot`).
        soundfont: Of a .wav: play with this sound font instead of the built-in piano; needs the
            extra `soundfont`.
    """
    from notelstm.errors import ConfigError
    from notelstm.midi import ReadPolicy, read_midi

    suffix = output.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(
            f"what is rendered ends in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}",
            got=repr(suffix),
            where=str(output),
        )
    if soundfont is not None and suffix != ".wav":
        raise ConfigError("a sound font is for a .wav", got=repr(suffix), where=str(output))
    # What is heard is wanted as it was played; the built-in piano has no percussion.
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
