"""``notelstm demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from tyro.conf import arg

from notelstm.cli.outputs import Overwrite, check_folder, remove_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notelstm.bundle import Bundle
    from notelstm.data.corpus import Corpus
    from notelstm.listening import Sample
    from notelstm.notes import Notes

__all__ = ["demo"]

_SMALL: Final = ("options.hidden=256", "window=64", "batch=32")
"""What makes the expressive recipe learn a handful of chorales in a minute."""

_PROMPT: Final = 48
_NOTES: Final = 200


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("demo"),
    chorales: Annotated[int, arg(metavar="N")] = 200,
    epochs: Annotated[int, arg(metavar="N")] = 24,
    minutes: Annotated[float, arg(metavar="N")] = 1.0,
    seed: Annotated[int, arg(metavar="N")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train on Bach chorales for a minute, then play: MIDI files, a picture, a page to listen to.

    The model that comes along plays too. Nothing is downloaded. Without the extra `bach` there is
    nothing to train on, and only the model that comes along plays; without `plot` there is no
    picture.

    Args:
        output: The folder to write to.
        chorales: How many chorales to train on; there are about 360.
        epochs: How often each is seen, if the time suffices.
        minutes: How long to train at most.
        seed: Another seed, other music.
        overwrite: Replace the files in the folder if it is not empty.
    """
    from notelstm.bundle import load
    from notelstm.cli.cards import card_of
    from notelstm.errors import ConfigError
    from notelstm.listening import save_page

    if chorales < 1:
        raise ConfigError("a demo trains on at least 1 chorale", got=f"{chorales}")
    check_folder(output, overwrite=overwrite)
    bach = _bach(chorales)
    made: list[_Made] = []
    models: dict[str, Mapping[str, object]] = {}
    if bach is not None:
        trained = _train(bach, output, epochs=epochs, minutes=minutes, seed=seed)
        made += _play(trained, bach.prompt, "Bach", 0.9, seed)
        models["Bach: the model of a moment ago"] = card_of(trained)["Model"]
    own = load()
    made += _play(own, None if bach is None else bach.prompt, "Piano", 1.0, seed)
    models["Piano: the model that comes along"] = card_of(own)["Model"]
    for piece in made:
        piece.write(output)
    page = output / "demo.html"
    lead = "Press Play, or the space bar. Brown is what was given, all else is new."
    save_page([piece.sample for piece in made], page, title="Demo", lead=lead, details=models)
    drawn = _draw(made[0 if bach is None else 1].sample, output / "demo.png")
    _say(page, made, drawn, trained=bach is not None)


class _Bach(NamedTuple):
    """What is trained on, and the beginning of a chorale that is not."""

    corpus: Corpus
    pieces: list[Notes]
    prompt: Notes


class _Made(NamedTuple):
    """A new piece and the name of its MIDI file."""

    name: str
    sample: Sample

    def write(self, folder: Path) -> None:
        from notelstm.midi import write_midi

        # What a model draws need not be what MIDI can hold.
        write_midi(self.sample.notes, folder / self.name, short="lengthen")


def _bach(chorales: int) -> _Bach | None:
    """The chorales, if the package is installed that brings them."""
    from notelstm.cli.sources import open_corpus
    from notelstm.errors import MissingExtraError
    from notelstm.midi import ReadPolicy

    print("reading Bach chorales from the music21 package", flush=True)
    try:
        corpus = open_corpus("bach", ReadPolicy())
    except MissingExtraError as error:
        print(f"nothing is trained: no music21 here: {error.hint}")
        return None
    pieces = corpus[: chorales + 1]
    return _Bach(corpus, pieces, pieces.pop()[:_PROMPT])


def _train(bach: _Bach, output: Path, *, epochs: int, minutes: float, seed: int) -> Bundle:
    """Train a small model for a short time, and report on it."""
    from notelstm.cli.callbacks import chosen_callbacks
    from notelstm.cli.runs import chosen_recipe, run_folder, run_recipe

    recipe = chosen_recipe("expressive", _SMALL, epochs, seed)
    print(f"training on {len(bach.pieces)} chorales, {sum(map(len, bach.pieces)):,} notes")
    model, page = output / "demo.notelstm", output / "training.html"
    remove_run(run_folder(model))
    callbacks = chosen_callbacks(
        ["samples:every=4"], minutes=minutes, report=page, title="How the demo learnt"
    )
    return run_recipe(recipe, bach.pieces, model, source=bach.corpus, callbacks=callbacks)


def _play(
    bundle: Bundle, prompt: Notes | None, who: str, temperature: float, seed: int
) -> list[_Made]:
    """Music from nothing, and what comes after a prompt, or without one, more from nothing."""
    from notelstm.generation import generate
    from notelstm.listening import Sample
    from notelstm.sampling import Ancestral, Temperature

    sampler = Ancestral(processors=(Temperature(temperature=temperature),))
    free = generate(bundle, _NOTES, sampler=sampler, seed=seed)
    made = [_Made(f"{who.lower()}.mid", Sample(notes=free, title=f"{who}, from nothing"))]
    if prompt is None:
        more = generate(bundle, _NOTES, sampler=sampler, seed=seed + 1)
        sample = Sample(notes=more, title=f"{who}, from nothing again")
        made.append(_Made(f"{who.lower()}-again.mid", sample))
    else:
        new = generate(bundle, _NOTES, prompt=prompt, sampler=sampler, seed=seed)
        whole = type(prompt).merge([prompt, new.shifted(float(prompt.start[-1]))])
        sample = Sample(
            notes=whole, title=f"{who}, going on with a chorale", prompt_notes=len(prompt)
        )
        made.append(_Made(f"{who.lower()}-continued.mid", sample))
    return made


def _draw(sample: Sample, path: Path) -> bool:
    """Draw a piece, if there is something to draw with."""
    from notelstm.errors import MissingExtraError
    from notelstm.listening import save_piano_roll

    try:
        save_piano_roll(sample.notes, path, prompt_notes=sample.prompt_notes, title=sample.title)
    except MissingExtraError as error:
        print(f"nothing is drawn: no matplotlib here: {error.hint}")
        return False
    return True


def _say(page: Path, made: list[_Made], drawn: bool, trained: bool) -> None:
    """Say where things are, and what to try next."""
    folder = page.parent
    first = folder / made[0].name
    model = f"{folder / 'demo.notelstm'} " if trained else ""
    print(f"""
listen:   {page.resolve().as_uri()}
          {len(made)} pieces side by side, in any browser""")
    for piece in made:
        print(f"          {folder / piece.name}  ({piece.sample.title})")
    if drawn:
        print(f"look:     {folder / 'demo.png'}")
    if trained:
        print(f"learnt:   {(folder / 'training.html').resolve().as_uri()}")
        print(f"model:    {folder / 'demo.notelstm'}")
    print(f"""
next:     notelstm render {first} -o {first.with_suffix(".wav")}
          notelstm generate {model}-o more.mid --html more.html --seed 1
          notelstm train YOUR_FOLDER_OF_MIDI_FILES --recipe expressive -o mine.notelstm""")
