"""The music of the first page: the output of its code, a continuation, and controlled music."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from making.frames import frame
from notelstm import Bundle, Notes, generate
from notelstm.listening import Sample, page_html, save_audio, save_piano_roll
from notelstm.sampling import MaxPolyphony, Scale

__all__ = ["make", "prelude"]

_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTINGS: dict[str, float] = {"temperature": 0.95, "top_p": 0.97}


def make(page: Path, folder: Path) -> None:
    """Write the player, the sound and the picture.

    Args:
        page: The first page; its first Python block writes ``new.mid`` and defines ``bundle`` and
            ``music``.
        folder: The folder to write to.
    """
    code = _CODE.search(page.read_text(encoding="utf-8"))
    assert code is not None, f"{page} has no code"
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(compile(code[1], str(page), "exec"), names)
    bundle: Bundle = names["bundle"]
    prompt = prelude()
    continued = prompt.continued(generate(bundle, seconds=24, prompt=prompt, seed=7, **_SETTINGS))
    processors = (Scale(name="A minor pentatonic"), MaxPolyphony(notes=4))
    pentatonic = generate(bundle, seconds=25, processors=processors, seed=11, **_SETTINGS)
    samples = [
        Sample(notes=names["music"], title="Unconditional: the code below"),
        Sample(notes=continued, title="Continuation of a prelude", prompt_notes=len(prompt)),
        Sample(notes=pentatonic, title="In A minor pentatonic"),
    ]
    page_text = page_html(samples, title="Music by notelstm", layout="compact")
    player = frame(page_text, "Player with three generated pieces")
    (folder / "player.md").write_text(player + "\n", encoding="utf-8")
    (folder / "sound").mkdir()
    save_audio(names["music"], folder / "sound" / "new.wav", rate=22_050)
    save_piano_roll(continued, folder / "continued.svg", prompt_notes=len(prompt))


def prelude() -> Notes:
    """The first four bars of Bach's prelude in C major, BWV 846: a broken chord per half bar."""
    bars = [(60, 64, 67, 72, 76), (60, 62, 69, 74, 77), (59, 62, 67, 74, 77), (60, 64, 67, 72, 76)]
    order, held = (0, 1, 2, 3, 4, 2, 3, 4), (8, 7, 1, 1, 1, 1, 1, 1)
    sixteenth = 0.21
    start = sixteenth * np.arange(8 * 2 * len(bars))
    return Notes(
        start=start,
        end=start + 0.98 * sixteenth * np.tile(held, 2 * len(bars)),
        pitch=[bar[n] for bar in bars for _ in range(2) for n in order],
        velocity=np.tile([62, 52, 54, 58, 62, 52, 56, 58], 2 * len(bars)),
    )
