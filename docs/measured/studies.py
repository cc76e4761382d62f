"""Measure choices that need another budget, other music or other learning rates than the ablations.

    python docs/measured/studies.py optimizers MAESTRO_FOLDER
    python docs/measured/studies.py sizes MAESTRO_FOLDER
    python docs/measured/studies.py songs SONGS
    python docs/measured/studies.py band SONGS DRUMS

trains each row of one study, scores it in nats per note, and writes the figures to
``studies.json`` beside this script and the table to ``study_NAME.md``. Each row is written as soon
as it is measured, and rows that are already in the file are not measured again, so an interrupted
study can be continued. ``--table`` rewrites the tables without measuring.

- **optimizers**: AdamW alone, and Muon for the hidden matrices with AdamW for the other parameters.
  The learning rate of each is the best of three on training pieces that are set aside, and is then
  measured with a second seed. It needs torch 2.9, which has Muon.
- **sizes**: models of several sizes, trained on more notes than in the ablations. The time of a
  note in generation is another table, ``study_times.md``.
- **songs**: which notes of several instruments are alike for the memory, and which are aligned.
- **band**: the same on songs with drums, which are those of ``instruments.py``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from instruments import ORDER, songs_of
from models import BEGINNING, sample_of, small
from torch import Tensor, nn
from typing_extensions import override

from notelstm.bundle import Bundle
from notelstm.cli.music import open_music
from notelstm.encoders import LogTimeEncoder
from notelstm.evaluation import nats_per_note
from notelstm.fields import Field
from notelstm.generation import stream
from notelstm.midi import ReadPolicy, read_midi
from notelstm.models import NoteLSTM
from notelstm.models.memory import Memory, MemoryContext, MemoryState, Votes
from notelstm.notes import Notes
from notelstm.parts import PartMap
from notelstm.recipes import Recipe, ensemble, expressive, with_settings
from notelstm.training import Callback, Trainer
from notelstm.tree import map_tree

RESULTS = Path(__file__).with_name("studies.json")
FIGURES = {
    "step": "step",
    "instrument": "instrument",
    "pitch": "pitch",
    "velocity": "velocity",
    "duration": "duration",
    "pitch_step_duration": "P+S+D",
    "total": "total",
    "set_aside": "total of training pieces set aside",
}
COUNTS = {"parameters": "parameters", "notes": "notes trained on", "seconds": "CPU seconds"}
TIMES = {"median": "CPU ms of a note, median", "late": "99th percentile"}
SEEDS = (0, 1)
SCORED, SET_ASIDE = 10, 5
"""Validation pieces, and training pieces on which learning rates are chosen."""

Row = dict[str, Any]


def measured(
    recipe: Recipe,
    train: Sequence[Notes],
    valid: Sequence[Notes],
    callbacks: Sequence[Callback] = (),
) -> tuple[Bundle, Row]:
    """Train for one epoch and score: the model, and its row."""
    recipe = with_settings(recipe, {"training": {"epochs": 1}})
    began = time.process_time()
    bundle = recipe.train(train, callbacks=callbacks)
    seconds = time.process_time() - began
    parameters = sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())
    counts = {"parameters": parameters, "notes": sum(map(len, train)), "seconds": seconds}
    return bundle, {**score(bundle, valid), **counts}


def score(bundle: Bundle, valid: Sequence[Notes]) -> Row:
    """The scores of a model."""
    scores = nats_per_note(bundle.generation_model, bundle.encoder, valid, sigmas=bundle.sigmas)
    return scores.to_json()


def milliseconds(bundle: Bundle, prompt: Notes) -> Row:
    """Median and 99th percentile of the CPU time of a generated note."""
    playing = stream(bundle, prompt=prompt, seed=0)
    times = []
    for _ in range(TIMED):
        began = time.process_time()
        next(playing)
        times.append(1e3 * (time.process_time() - began))
    return {"median": float(np.median(times)), "late": float(np.quantile(times, 0.99))}


class Table:
    """The rows of one study; each is stored as soon as it is measured.

    Args:
        study: The name of the study.
        setting: What all rows have in common; with another setting, the study starts anew.
    """

    def __init__(self, study: str, setting: Mapping[str, Any]) -> None:
        self._study = study
        stored = load_results().get(study, {})
        same = {key: value for key, value in stored.items() if key != "rows"} == {**setting}
        self._setting = dict(setting)
        self.rows: dict[str, Row] = stored["rows"] if same else {}

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """The row of a name, measured unless it is stored."""
        if name not in self.rows:
            self.rows[name] = measure()
            print(name, json.dumps(self.rows[name]), flush=True)
            results = load_results() | {self._study: {**self._setting, "rows": self.rows}}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            write_tables()
        return self.rows[name]


def load_results() -> dict[str, Any]:
    """All results so far."""
    if not RESULTS.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def write_tables() -> None:
    """Write the table of each study as Markdown."""
    for study, found in load_results().items():
        rows = found["rows"]
        shown = [
            (key, name, form)
            for names, form in ((FIGURES, "{:.3f}"), (COUNTS, "{:,.0f}"), (TIMES, "{:.2f}"))
            for key, name in names.items()
            if any(row.get(key) is not None for row in rows.values())
        ]
        lines = ["| " + " | ".join(["", *(name for _, name, _ in shown)]) + " |"]
        lines.append("|---" * (len(shown) + 1) + "|")
        for name, row in rows.items():
            cells = [
                "" if row.get(key) is None else form.format(row[key]) for key, _, form in shown
            ]
            lines.append("| " + " | ".join([name, *cells]) + " |")
        text = "\n".join(lines) + "\n"
        RESULTS.with_name(f"study_{study}.md").write_text(text, encoding="utf-8")


# Optimizers.

BUDGET = 300_000
RATES = (0.001, 0.002, 0.004)
"""Learning rates of AdamW."""
MUON_RATES = (0.001, 0.003, 0.01)
"""Learning rates of Muon; those of the other parameters are the best of AdamW alone."""


class UseMuon(Callback):
    """Replaces the optimizer of a run: Muon for hidden matrices, AdamW for the other parameters.

    Hidden matrices are those of the LSTM, of the sounding-note features, and the first layers of
    the heads; not embeddings, biases and the layers that give the logits.

    Args:
        factor: The learning rate of Muon, as a multiple of that of AdamW.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        model = cast(NoteLSTM, trainer.module.model)
        last = {id(list(head.modules())[-1].weight) for head in model.heads.values()}
        embeddings = {id(weight) for weight in model.embed.parameters()}
        hidden, others = [], []
        for weight in trainer.parameters:
            is_hidden = weight.ndim == 2 and id(weight) not in last | embeddings
            (hidden if is_hidden else others).append(weight)
        # The trainer has no setting for two optimizers; a study may replace its own.
        trainer.optimizer = MuonAndAdamW(  # type: ignore[assignment, misc]
            torch.optim.Muon(
                hidden,
                weight_decay=trainer.config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            trainer.config.build_optimizer(others),
            self.factor,
        )


class MuonAndAdamW:
    """Two optimizers as one, whose learning rate is that of the second."""

    def __init__(
        self, muon: torch.optim.Optimizer, adamw: torch.optim.Optimizer, factor: float
    ) -> None:
        self._muon, self._adamw, self._factor = muon, adamw, factor
        self.param_groups = adamw.param_groups

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self._muon.zero_grad()
        self._adamw.zero_grad()

    def step(self) -> None:
        """A step of both."""
        for group in self._muon.param_groups:
            group["lr"] = self._factor * self.param_groups[0]["lr"]
        self._muon.step()
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Nothing, since these runs are not resumed."""
        return {}


def optimizers(maestro: Path) -> None:
    """AdamW, and Muon with AdamW."""
    music = open_music(str(maestro), expressive().read_policy)
    pieces, held_out = music.side("train"), music.side("validation")
    valid = beginnings(held_out, SCORED)
    aside = beginnings(pieces, SET_ASIDE)
    apart = [k * len(pieces) // SET_ASIDE for k in range(SET_ASIDE)]
    train = sample_of([piece for k, piece in enumerate(pieces) if k not in apart], BUDGET)
    table = Table("optimizers", {"training notes": BUDGET, "validation": SCORED})

    def row(rate: float, factor: float | None, seed: int) -> Row:
        training = {"learning_rate": rate, "seed": seed}
        recipe = with_settings(small(memory_window=4096), {"training": training})
        callbacks = [] if factor is None else [UseMuon(factor)]
        bundle, found = measured(recipe, train, valid, callbacks)
        return {**found, "set_aside": score(bundle, aside)["total"]}

    def best(rates: Sequence[float], name: str, measure: Callable[[float, int], Row]) -> float:
        rows = {
            rate: table.row(f"{name} {rate:g}", functools.partial(measure, rate, 0))
            for rate in rates
        }
        rate = min(rates, key=lambda rate: float(rows[rate]["set_aside"]))
        for seed in SEEDS[1:]:
            table.row(f"{name} {rate:g}, another seed", functools.partial(measure, rate, seed))
        return rate

    rate = best(RATES, "AdamW", lambda rate, seed: row(rate, None, seed))
    best(MUON_RATES, "Muon", lambda muon, seed: row(rate, muon / rate, seed))


def beginnings(pieces: Sequence[Notes], count: int) -> list[Notes]:
    """The first notes of some pieces, evenly spaced."""
    return [pieces[k * len(pieces) // count][:BEGINNING] for k in range(count)]


# Sizes.

SIZES = (256, 384, 512, 704)
NOTES = 4_000_000
"""Notes that each size is trained on."""
TIMED = 2000
"""Generated notes that are timed."""


def sizes(maestro: Path) -> None:
    """Models of several sizes, and their times."""
    music = open_music(str(maestro), expressive().read_policy)
    train = sample_of(music.side("train"), NOTES)
    valid = beginnings(music.side("validation"), SCORED)

    def of_size(size: int) -> Recipe:
        return with_settings(
            expressive(hidden_size=size, memory_window=4096),
            {"batch_size": 32, "training": {"precision": "bfloat16"}},
        )

    def row(size: int) -> Row:
        return measured(of_size(size), train, valid)[1]

    def timed(size: int) -> Row:
        # The time of a note does not depend on the weights, so a short training is enough.
        recipe = with_settings(of_size(size), {"min_steps_per_epoch": 1})
        bundle, found = measured(recipe, valid[:1], valid[:1])
        times = milliseconds(bundle, valid[0].first(notes=200))
        return {"parameters": found["parameters"], **times}

    # The times are measured in a row, since they also depend on what else the machine does.
    for study, setting, measure in (
        ("sizes", {"training notes": NOTES, "validation": SCORED}, row),
        ("times", {"notes": TIMED}, timed),
    ):
        table = Table(study, setting)
        for size in SIZES:
            table.row(f"hidden size {size}", functools.partial(measure, size))


# Several instruments.

SONGS, SCORED_SONGS = 24, 6


class PartContext(NamedTuple):
    """The votes of all notes, and those of each of Q groups of instruments: (B, T, Q, ...)."""

    together: MemoryContext
    apart: MemoryContext


class PartState(NamedTuple):
    """The notes of all instruments, and of each group, (B, Q, ...), with its latest votes."""

    together: MemoryState
    apart: MemoryState
    latest: MemoryContext


class PartMemory(nn.Module):
    """Memory with further alignments, each of the notes of a group of instruments.

    Before the instrument is known, all notes vote; then those of passages of its group.

    Args:
        fields: The fields.
        order: The names of the fields in the order of prediction.
        window: W, of each alignment.
        drums_only: Whether the groups are drums and the other instruments; otherwise each
            instrument is a group.
    """

    def __init__(
        self, fields: Sequence[Field], order: Sequence[str], window: int, *, drums_only: bool
    ) -> None:
        super().__init__()
        self.memory = Memory(fields, order, window)
        self.column = next(k for k, field in enumerate(fields) if field.role == "instrument")
        field = fields[self.column]
        self.instrument = field.name
        classes = range(field.classes or 0)
        groups = [int(k in field.drums) if drums_only else k for k in classes]
        self.group = torch.tensor(groups)
        self.parts = max(groups) + 1
        self.has_votes = self.memory.has_votes
        self.num_features = self.memory.num_features

    def initial_state(self, batch_size: int) -> tuple[PartContext, PartState]:
        """The context without votes, and the state without notes."""
        context, state = self.memory.initial_state(batch_size)

        def each(tensor: Tensor) -> Tensor:
            return torch.stack([tensor] * self.parts, dim=1)  # (B, Q, ...)

        latest = map_tree(lambda t: each(t.squeeze(1)), context)
        apart = map_tree(lambda t: t.unsqueeze(1), latest)
        return PartContext(context, apart), PartState(state, map_tree(each, state), latest)

    @override
    @torch.no_grad()
    def forward(self, rows: Tensor, state: PartState) -> tuple[PartContext, PartState]:
        """Read (B, T, F) rows."""
        context, together = self.memory(rows, state.together)
        apart, latest = (map_tree(Tensor.clone, part) for part in state[1:])
        sequence, steps = torch.arange(len(rows)), []
        for t in range(rows.shape[1]):
            at = (sequence, self.group[rows[:, t, self.column].long()])
            own = map_tree(lambda part, at=at: part[at], apart)
            votes, own = self.memory(rows[:, t : t + 1], own)
            for kept, new in (
                *zip(apart, own, strict=True),
                *((k, v.squeeze(1)) for k, v in zip(latest, votes, strict=True)),
            ):
                kept[at] = new
            steps.append(map_tree(Tensor.clone, latest))
        stacked = map_tree(lambda *parts: torch.stack(parts, dim=1), *steps)
        return PartContext(context, stacked), PartState(together, apart, latest)

    def votes(self, field: str, context: PartContext, known: Mapping[str, Tensor]) -> Votes:
        """The votes for one field, given those before it in the order."""
        if field in ORDER[: ORDER.index(self.instrument) + 1]:
            return self.memory.votes(field, context.together, known)
        part = self.group[known[self.instrument].long()]

        def own(tensor: Tensor) -> Tensor:
            at = part.view(*part.shape, *[1] * (tensor.ndim - part.ndim))
            shape = (*part.shape, 1, *tensor.shape[part.ndim + 1 :])
            return tensor.gather(part.ndim, at.expand(shape)).squeeze(part.ndim)

        return self.memory.votes(field, map_tree(own, context.apart), known)


def whole_memory(fields: Sequence[Field], order: Sequence[str], window: int) -> nn.Module:
    """A memory for which notes of one pitch are alike, whatever their instruments."""
    changed = [replace(f, role="other") if f.role == "instrument" else f for f in fields]
    return Memory(changed, order, window)


def across(fields: Sequence[Field], order: Sequence[str], window: int) -> nn.Module:
    """A memory whose alignment ignores instruments, while its votes are of the same instrument."""
    memory = Memory(fields, order, window)
    memory.layout.instrument = None  # type: ignore[misc]  # no setting: it was not kept
    return memory


def longer(fields: Sequence[Field], order: Sequence[str], window: int) -> nn.Module:
    """The memory of the library with four times the window."""
    return Memory(fields, order, 4 * window)


def longer_with_drums(fields: Sequence[Field], order: Sequence[str], window: int) -> nn.Module:
    """Drums apart, with four times the window."""
    return PartMemory(fields, order, 4 * window, drums_only=True)


MEMORIES: dict[str, Callable[..., nn.Module]] = {
    "same pitch and instrument": Memory,
    "same pitch and instrument, four times the window": longer,
    "same pitch, votes of the same instrument": across,
    "same pitch, any instrument": whole_memory,
    "each instrument aligned by itself": functools.partial(PartMemory, drums_only=False),
    "drums aligned by themselves": functools.partial(PartMemory, drums_only=True),
    "drums aligned by themselves, four times the window": longer_with_drums,
}


def band(folder: Path, drums: Path) -> None:
    """Memories of songs with drums."""
    memories("band", songs_of(folder, drums, SONGS + SCORED_SONGS), MEMORIES)


def songs(folder: Path) -> None:
    """Memories of songs."""
    policy = ReadPolicy(tracks="all", drums=True)
    paths = sorted(folder.rglob("*.mid"))[: SONGS + SCORED_SONGS]
    pieces = [replace(read_midi(path, policy=policy), tempo_map=None) for path in paths]
    kinds = {name: make for name, make in MEMORIES.items() if "drums" not in name}
    memories("songs", pieces, kinds)


def memories(
    study: str, pieces: Sequence[Notes], kinds: Mapping[str, Callable[..., nn.Module]]
) -> None:
    """Each kind of memory, and none."""
    train, valid = pieces[:SONGS], pieces[SONGS:]
    found = PartMap.from_pieces(train, by="name")
    table = Table(study, {"songs": SONGS, "scored": SCORED_SONGS})

    def row(make: Callable[..., nn.Module] | None, seed: int) -> Row:
        window = 0 if make is None else 1024

        def build(*, fields: Sequence[Field], **settings: Any) -> NoteLSTM:
            model = NoteLSTM(fields=fields, **settings)
            if make is not None:
                model.memory = cast(Memory, make(fields, model.field_order, window))
            return model

        recipe = with_settings(
            replace(ensemble(), encoder=LogTimeEncoder(exact=True, parts=found), parts=None),
            {
                "model": {
                    "hidden_size": 128,
                    "embedding_dim": 24,
                    "head_size": 96,
                    "dropout": 0.0,
                    "memory_window": window,
                },
                "transforms": "none",
                "sequence_length": 128,
                "batch_size": 8,
                "training": {"warmup_steps": 20, "seed": seed},
            },
        )
        spec = recipe.model
        recipe = replace(recipe, model=replace(spec, factory=build))
        return measured(recipe, train, valid)[1]

    for seed, (name, make) in itertools.product(SEEDS, ({"no memory": None} | dict(kinds)).items()):
        table.row(name + ", another seed" * (seed > 0), functools.partial(row, make, seed))


STUDIES = {"optimizers": optimizers, "sizes": sizes, "songs": songs, "band": band}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("study", nargs="?", choices=STUDIES)
    parser.add_argument("folders", type=Path, nargs="*", help="the folders of the music")
    parser.add_argument("--table", action="store_true", help="rewrite the tables and exit")
    args = parser.parse_args()
    if args.table:
        write_tables()
        return
    if args.study is None:
        parser.error("name a study")
    if len(args.folders) != (2 if args.study == "band" else 1):
        parser.error("band needs two folders, the other studies one")
    torch.set_num_threads(1)
    STUDIES[args.study](*args.folders)


if __name__ == "__main__":
    main()
