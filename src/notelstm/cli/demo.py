"""``notelstm demo``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import numpy as np
from tyro.conf import arg

from notelstm.cli.music import open_corpus
from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_folder, remove_run
from notelstm.data.corpus import Corpus
from notelstm.errors import ConfigError, MissingExtraError
from notelstm.listening import Sample, save_page, save_piano_roll, trim_opening
from notelstm.midi import ReadPolicy, write_midi
from notelstm.notes import Notes

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.recipes import Recipe

__all__ = ["demo"]

_SMALL: Final = (
    *("given.nothing=0.45", "given.spans=0.1", "given.variants=2"),
    *("sequence_length=64", "batch_size=32"),
)
"""Settings of the recipe of chorales for a minute of training.

In a minute, a model of the recipe's mixture does not learn to be silent only where spans are given,
and its music is silent half of the time. The demo harmonises and continues, and fills no gap.
"""

_PROMPT: Final = 48
_NOTES: Final = 200
_PER_NOTE: Final = 8
"""The most notes that are written for each note of a soprano; usually there are three."""
_SEEDS: Final = 1_000_000
"""Small, so that a seed is easy to type."""


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("demo"),
    chorales: Annotated[int, arg(metavar="N")] = 200,
    epochs: Annotated[int, arg(metavar="N")] = 24,
    minutes: Annotated[float, arg(metavar="N")] = 1.0,
    seed: Annotated[int | None, shown("N", "another one each time")] = None,
    overwrite: Flag = False,
) -> None:
    """Train on Bach chorales for a minute, then generate music: MIDI files, a picture, a page.

    The model has the four voices as instruments. It generates all of them, and the alto, tenor and
    bass of a soprano. The page plays the music in any browser. The pretrained piano model generates
    as well. Nothing is downloaded. Without the extra `bach` nothing is trained; without `plot`
    there is no picture.

    Args:
        output: The folder to write to.
        chorales: The number of chorales to train on; there are about 360.
        epochs: The number of epochs, if the time allows.
        minutes: The time limit of the training.
        seed: The random seed. The same seed gives the same music, unless the time limit stops
            training, possibly at another step.
        overwrite: Replace the files in the folder if it is not empty.
    """
    from notelstm.bundle import load
    from notelstm.cli.runs import chosen_recipe
    from notelstm.listening.card import card_of

    if chorales < 1:
        raise ConfigError(f"cannot train on {chorales} chorales", hint="give at least 1")
    if seed is None:
        seed = secrets.randbelow(_SEEDS)
    print(f"random seed {seed}: repeat with --seed {seed}")
    check_folder(output, overwrite=overwrite)
    recipe = chosen_recipe("chorales", _SMALL, epochs, seed)
    bach = _bach(recipe, chorales)
    made: dict[str, Sample] = {}
    models: dict[str, Mapping[str, object]] = {}
    if bach is not None:
        trained = _train(bach, recipe, output, minutes=minutes)
        made |= _play(trained, bach.voices[:_PROMPT], "Bach", "a chorale", 0.9, seed)
        made["bach-harmonised.mid"] = _harmonise(trained, bach.voices, 0.9, seed)
        models["Bach: trained in this demo"] = card_of(trained)["Model"]
    pretrained = load()
    prompt, name = (_prelude(), "a prelude") if bach is None else (bach.keyboard, "a chorale")
    made |= _play(pretrained, prompt, "Piano", name, 1.0, seed)
    models["Piano: the pretrained model"] = card_of(pretrained)["Model"]
    # Continuations first: they keep the key, tempo and style of a prompt.
    made = dict(sorted(made.items(), key=lambda item: item[1].prompt_notes == 0))
    for file, sample in made.items():
        # A model may generate notes that are shorter than a tick.
        text = f"notelstm demo, random seed {seed}"
        write_midi(sample.notes, output / file, short="lengthen", text=text)
    page = output / "demo.html"
    lead = (
        f"Press Play, or the space bar. The prompt is marked, all else is new. Random seed {seed}."
    )
    details = {"This music": {"random seed": seed}, **models}
    save_page(list(made.values()), page, title="Demo", lead=lead, details=details)
    drawn = _draw(next(iter(made.values())), output / "demo.png")
    _print_next(page, made, drawn, trained=bach is not None)


class _Bach(NamedTuple):
    """The training pieces, and a held-out chorale: its voices, and its beginning for a piano."""

    corpus: Corpus
    pieces: list[Notes]
    voices: Notes
    keyboard: Notes


def _bach(recipe: Recipe, chorales: int) -> _Bach | None:
    """The chorales, if the package that contains them is installed."""
    print("reading Bach chorales from the music21 package", flush=True)
    try:
        corpus = open_corpus("bach", recipe.read_policy)
    except MissingExtraError as error:
        print(f"nothing is trained, since music21 is not installed: {error.hint}")
        return None
    pieces = corpus[: chorales + 1]
    voices, keyboard = pieces.pop(), open_corpus("bach", ReadPolicy())[len(pieces)]
    return _Bach(corpus, pieces, voices, keyboard[:_PROMPT])


def _train(bach: _Bach, recipe: Recipe, output: Path, *, minutes: float) -> Bundle:
    """Train a small model for a short time, with a report."""
    from notelstm.cli.runs import chosen_callbacks, run_folder, run_recipe

    print(f"training on {len(bach.pieces)} chorales, {sum(map(len, bach.pieces)):,} notes")
    model, page = output / "demo.notelstm", output / "training.html"
    remove_run(run_folder(model))
    callbacks = chosen_callbacks(
        ["samples:every=4"], minutes=minutes, report=page, title="Training of the demo"
    )
    return run_recipe(recipe, bach.pieces, model, source=bach.corpus, callbacks=callbacks)


def _prelude() -> Notes:
    """A prompt that needs no package: four bars of Bach's prelude in C major, BWV 846."""
    bars = ((60, 64, 67, 72, 76), (60, 62, 69, 74, 77), (59, 62, 67, 74, 77), (60, 64, 67, 72, 76))
    sixteenth, half = 0.22, 8  # seconds; sixteenths in half a bar
    pattern = np.tile([0, 1, 2, 3, 4, 2, 3, 4], 2 * len(bars))
    bar = np.repeat(np.arange(len(bars)), 2 * half)
    at = np.arange(len(pattern))
    # The two lowest voices are held to the end of the half bar.
    end = np.where(pattern < 2, (at // half + 1) * half, at + 1)
    return Notes(
        start=at * sixteenth,
        end=end * sixteenth,
        pitch=np.asarray(bars)[bar, pattern],
        velocity=np.where(pattern == 0, 64, 54),
    )


def _play(
    bundle: Bundle, prompt: Notes, who: str, prompted: str, temperature: float, seed: int
) -> dict[str, Sample]:
    """The continuation of a prompt and an unconditional piece, by file name."""
    from notelstm.generation import generate

    free = trim_opening(generate(bundle, _NOTES, temperature=temperature, seed=seed))
    new = generate(bundle, _NOTES, prompt=prompt, temperature=temperature, seed=seed)
    continued = Sample(
        notes=prompt.continued(new),
        title=f"{who}: continuation of {prompted}",
        prompt_notes=len(prompt),
    )
    return {
        f"{who.lower()}-continued.mid": continued,
        f"{who.lower()}.mid": Sample(notes=free, title=f"{who}: unconditional"),
    }


def _harmonise(bundle: Bundle, voices: Notes, temperature: float, seed: int) -> Sample:
    """The soprano of a chorale with other voices written under it."""
    from notelstm.encoders.rows import part_map_of
    from notelstm.generation import accompany

    part_map = part_map_of(bundle.encoder)
    others = () if part_map is None else part_map.parts[1:]
    soprano = voices if voices.track is None else voices[voices.track == 0]
    notes = accompany(
        bundle,
        soprano,
        parts=[part.name for part in others],
        temperature=temperature,
        seed=seed,
        num_notes=_PER_NOTE * len(soprano),
    )
    return Sample(notes=notes, title="Bach: a soprano, with a new alto, tenor and bass")


def _draw(sample: Sample, path: Path) -> bool:
    """Draw a piece, if matplotlib is installed."""
    try:
        save_piano_roll(sample.notes, path, prompt_notes=sample.prompt_notes, title=sample.title)
    except MissingExtraError as error:
        print(f"no picture is drawn, since matplotlib is not installed: {error.hint}")
        return False
    return True


def _print_next(page: Path, made: dict[str, Sample], drawn: bool, trained: bool) -> None:
    """Print the files, and commands to try next."""
    folder = page.parent
    first = folder / next(iter(made))
    model = f"{folder / 'demo.notelstm'} " if trained else ""
    print(f"""
listen:   {page.resolve().as_uri()}
          {len(made)} pieces side by side, in any browser""")
    for name, sample in made.items():
        print(f"          {folder / name}  ({sample.title})")
    if drawn:
        print(f"look:     {folder / 'demo.png'}")
    if trained:
        print(f"training: {(folder / 'training.html').resolve().as_uri()}")
        print(f"model:    {folder / 'demo.notelstm'}")
    print(f"""
next:     notelstm render {first} -o {first.with_suffix(".wav")}
          notelstm generate {model}-o more.mid --html more.html
          notelstm train YOUR_FOLDER_OF_MIDI_FILES -o mine.notelstm""")
