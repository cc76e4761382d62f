"""``notelstm train`` and ``notelstm demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.notes import Notes
    from notelstm.recipes import Recipe

__all__ = ["demo", "train"]


def train(
    folder: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    recipe: str = "reference",
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = (),  # noqa: A002
    epochs: int | None = None,
    max_files: int | None = None,
    validation: float = 0.0,
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Train a model on MIDI files.

    The run's checkpoints and log are kept beside the model, in OUTPUT.run; Ctrl-C saves one, and
    --resume goes on from it as if it had never stopped.

    Args:
        folder: A folder of MIDI files, or the name of a corpus (`bach`).
        output: The model file to write.
        recipe: A recipe's name (see `notelstm plugins`), or a TOML file.
        set: Settings to change, such as `training.learning_rate=0.01 model.hidden=64`.
        epochs: How often every note is seen, in place of the recipe's.
        max_files: Read at most so many files.
        validation: Share of the pieces to set aside and measure after each epoch; copies and
            transpositions of a piece stay together.
        seed: Of initialisation and order, in place of the recipe's.
        resume: Go on with the run that OUTPUT.run holds.
    """
    from notelstm.cli.sources import open_source, read_pieces
    from notelstm.data.splits import split_by_content

    chosen = _recipe(recipe, set, epochs, seed)
    source = open_source(folder, chosen.policy)
    named = read_pieces(source, max_files)
    pieces, held_out = split_by_content([(notes, notes) for _, notes in named], validation)
    print(f"{source.name}: {len(named)} pieces, {sum(len(n) for _, n in named):,} notes")
    if source.licence:
        print(f"licence of the music: {source.licence}")
    if held_out:
        print(f"{len(held_out)} of the pieces are set aside for validation")
    bundle = _run(chosen, pieces, held_out, output, resume=resume, source=source)
    print(f"wrote {output}: {_size(bundle)}")
    print(f"next: notelstm generate {output} -o out.mid")


def _recipe(name: str, settings: tuple[str, ...], epochs: int | None, seed: int | None) -> Recipe:
    """The recipe of that name or file, with what the command line changes."""
    from notelstm.recipes import from_toml
    from notelstm.recipes.overrides import named, override, parse_settings

    tree = parse_settings(settings)
    recipe = from_toml(name, tree) if name.endswith(".toml") else named(name, tree)
    training: dict[str, Any] = {}
    if epochs is not None:
        training["epochs"] = epochs
    if seed is not None:
        training["seed"] = seed
    return override(recipe, {"training": training})


def _run(
    recipe: Recipe,
    pieces: list[Notes],
    validation: list[Notes],
    output: Path,
    *,
    resume: bool,
    source: Any,
) -> Bundle:
    """Train with bar and log, and save the bundle."""
    from notelstm.bundle import DataCard, save
    from notelstm.training import JsonLog, Progress

    card = DataCard(name=source.name, licence=source.licence)
    bundle = recipe.train(
        pieces,
        validation=validation,
        folder=output.with_name(output.name + ".run"),
        resume=resume,
        callbacks=(Progress(), JsonLog()),
        data=card,
    )
    save(bundle, output)
    return bundle


def _size(bundle: Bundle) -> str:
    from typing import cast

    from torch import nn

    count = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    return f"{count:,} parameters, trained on {bundle.data.notes:,} notes"


def demo(
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo"),
    chorales: int = 200,
    epochs: int = 24,
    seed: int = 0,
) -> None:
    """Train on Bach chorales for about a minute, then write music and a picture of it.

    Needs the extras `bach` and `plot`; nothing is downloaded.

    Args:
        output: The folder to write to.
        chorales: How many chorales to train on.
        epochs: How often each is seen.
        seed: Another seed, other music.
    """
    import shutil

    from notelstm.cli.sources import open_source, read_pieces
    from notelstm.generation import generate
    from notelstm.listening.pianoroll import save_piano_roll
    from notelstm.midi import ReadPolicy, write_midi
    from notelstm.sampling import Ancestral, Temperature

    recipe = _recipe("expressive", (), epochs, seed)
    source = open_source("bach", ReadPolicy())
    print("reading Bach chorales from the music21 package")
    pieces = [notes for _, notes in read_pieces(source, chorales + 1)]
    prompt = pieces.pop()[:48]
    print(f"training on {len(pieces)} chorales, {sum(map(len, pieces)):,} notes")
    model = output / "demo.notelstm"
    shutil.rmtree(model.with_name(model.name + ".run"), ignore_errors=True)
    bundle = _run(recipe, pieces, [], model, resume=False, source=source)
    sampler = Ancestral(processors=(Temperature(temperature=0.9),))
    free = generate(bundle, 200, sampler=sampler, seed=seed)
    write_midi(free, output / "demo.mid", overlaps="trim")
    continued = generate(bundle, 200, prompt=prompt, sampler=sampler, seed=seed)
    whole = type(prompt).merge([prompt, continued.shifted(float(prompt.start[-1]))])
    write_midi(whole, output / "demo-continued.mid", overlaps="trim")
    save_piano_roll(whole, output / "demo.png", prompt_notes=len(prompt))
    print(f"""
listen:   {output / "demo.mid"}  ({len(free)} notes from nothing)
          {output / "demo-continued.mid"}  (an unheard chorale's beginning, gone on with)
look:     {output / "demo.png"}
model:    {model}

next:     notelstm generate {model} -o more.mid --seed 1
          notelstm train YOUR_FOLDER_OF_MIDI_FILES --recipe expressive -o mine.notelstm""")
