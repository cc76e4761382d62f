"""Draw the picture of the README: the piano roll of its example, in a light and a dark theme.

    python docs/measured/picture.py

writes ``docs/_static/music.svg``, which is committed because the README needs it without a build.
"""

from __future__ import annotations

from pathlib import Path

from notelstm import Notes, generate, load

PICTURE = Path(__file__).parents[1] / "_static" / "music.svg"
WIDTH, HEIGHT, EDGE = 960, 200, 8
STYLE = """
.soft { fill: #35b779 } .mid { fill: #21918c } .loud { fill: #443983 }
@media (prefers-color-scheme: dark) {
  .soft { fill: #3f7ba8 } .mid { fill: #47c781 } .loud { fill: #fde725 }
}
"""


def drawing(notes: Notes, title: str) -> str:
    """An SVG piano roll: one bar per note, time to the right, pitch upwards."""
    low, high = int(notes.pitch.min()), int(notes.pitch.max())
    row = (HEIGHT - 2 * EDGE) / (high - low + 1)
    second = (WIDTH - 2 * EDGE) / notes.end_time
    bars = []
    for start, length, pitch, velocity in zip(
        notes.start, notes.duration, notes.pitch, notes.velocity, strict=True
    ):
        shade = "soft" if velocity < 48 else "mid" if velocity < 72 else "loud"
        x, y = EDGE + start * second, EDGE + (high - pitch) * row
        later = notes.start[(notes.pitch == pitch) & (notes.start > start)]
        space = float(later.min() - start) * second if later.size else float("inf")
        # Repeated notes stay apart.
        width = min(max(2.0, length * second - 1), max(space - 1, space / 2))
        bars.append(
            f'<rect class="{shade}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{row - 0.8:.1f}" rx="1"/>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *bars,
            "</svg>\n",
        ]
    )


def main() -> None:
    music = generate(load(), num_notes=256, seed=4)
    title = f"Piano roll of {len(music)} generated notes"
    PICTURE.write_text(drawing(music, title), encoding="utf-8")


if __name__ == "__main__":
    main()
