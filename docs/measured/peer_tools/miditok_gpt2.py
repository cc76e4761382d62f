"""MidiTok with a small GPT-2 of ``transformers``: MIDI-like tokens on the grid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.evaluation.grid import CELL, FIRST
from notelstm.files import atomic_write
from notelstm.notes import Notes
from peer_tools.common import TRANSPOSED, Budget, Nats, Tool, count_parameters, fit, nats_of

WINDOW = 512
"""Tokens that the model looks back on."""
PITCHES = (21, 108)


class Tokens:
    """The tokens of a MIDI-like tokenizer whose ticks are the cells of the grid.

    A quarter note is a second and has 100 ticks, and each class of velocities has a value of its
    own.
    """

    def __init__(self) -> None:
        from miditok import MIDILike, TokenizerConfig

        self.tokenizer: Any = MIDILike(
            TokenizerConfig(
                # The vocabulary ends below the upper bound.
                pitch_range=(PITCHES[0], PITCHES[1] + 1),
                beat_res={(0, 1): 100},
                num_velocities=32,
                use_pitchdrum_tokens=False,
                special_tokens=["PAD"],
            )
        )
        by_id = {number: token for token, number in self.tokenizer.vocab.items()}
        self.size = len(by_id)
        kinds = [by_id[number].partition("_")[0] for number in range(self.size)]
        self.kind = np.array(kinds)
        self.pitch = np.array(
            [
                int(by_id[number].partition("_")[2]) if kind in ("NoteOn", "NoteOff") else -1
                for number, kind in enumerate(kinds)
            ]
        )
        graph = self.tokenizer.tokens_types_graph
        self.follows = np.array(
            [[kind in graph.get(before, ()) for kind in kinds] for before in kinds]
        )
        """(V, V) whether the second token can follow the first by type, as MidiTok has it."""
        # Special tokens and meters are no part of the music after its first notes.
        self.follows[:, np.isin(self.kind, ("PAD", "TimeSig"))] = False

    def score_of(self, notes: Notes) -> Any:
        """A prepared piece, in ticks."""
        import symusic

        score: Any = symusic.Score(100)
        track: Any = symusic.Track(program=0)
        onset, end = (np.rint(t / CELL).astype(np.int64) for t in (notes.start, notes.end))
        # The values of velocity are 3, 7 ... 127.
        columns = [onset, end - onset, notes.pitch, notes.velocity // 4 * 4 + 3]
        for note in np.stack(columns, axis=1).tolist():
            track.notes.append(symusic.Note(*note))
        score.tracks.append(track)
        score.tempos.append(symusic.Tempo(0, 60))
        score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
        return score

    def encode(self, notes: Notes) -> NDArray[np.int64]:
        """(M,) the token ids of a prepared piece."""
        tokens = self.tokenizer.encode(self.score_of(notes))
        sequence = tokens[0] if isinstance(tokens, list) else tokens
        return np.array(sequence.ids, np.int64)

    def is_exact(self, notes: Notes) -> bool:
        """Whether a piece comes back from its tokens with all its cells."""
        from miditok import TokSequence

        ids = self.encode(notes).tolist()
        decoded = self.tokenizer.decode([TokSequence(ids=ids)], programs=[(0, False)])
        scale = decoded.ticks_per_quarter // 100
        found = sorted(
            (n.time // scale, n.pitch, n.duration // scale, n.velocity)
            for track in decoded.tracks
            for n in track.notes
        )
        wanted = sorted(
            (n.time, n.pitch, n.duration, n.velocity) for n in self.score_of(notes).tracks[0].notes
        )
        return found == wanted

    def transposed(self, ids: NDArray[np.int64], semitones: int) -> NDArray[np.int64]:
        """The tokens of a transposed piece, as far as its pitches allow."""
        pitch = self.pitch[ids]
        has = pitch >= 0
        low, high = pitch[has].min(initial=127), pitch[has].max(initial=0)
        semitones = int(np.clip(semitones, PITCHES[0] - low, PITCHES[1] - high))
        return np.where(has, ids + semitones, ids)

    def possible(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(M, V) the tokens that are possible at each place, given those before.

        The type of a token is one that MidiTok lets follow, only a pitch that sounds ends, and only
        one that is silent begins.
        """
        before = np.concatenate([ids[:1], ids[:-1]])
        change = np.zeros((len(ids) + 1, 128), np.int8)
        for kind, step in (("NoteOn", 1), ("NoteOff", -1)):
            at = np.flatnonzero(self.kind[ids] == kind)
            change[at + 1, self.pitch[ids[at]]] = step
        sounding = change.cumsum(axis=0, dtype=np.int8)[:-1] > 0
        mask = self.follows[before].copy()
        for kind, wanted in (("NoteOn", False), ("NoteOff", True)):
            of_kind = self.kind == kind
            mask[:, of_kind] &= sounding[:, self.pitch[of_kind]] == wanted
        return mask

    def counted(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(M,) the tokens that are scored: those after the first notes, but not their ends."""
        begun = np.cumsum(self.kind[ids] == "NoteOn")
        counted = begun > FIRST
        number = dict[int, int]()
        for place, (kind, pitch) in enumerate(zip(self.kind[ids], self.pitch[ids], strict=True)):
            if kind == "NoteOn":
                number[int(pitch)] = int(begun[place])
            elif kind == "NoteOff":
                counted[place] = number[int(pitch)] > FIRST
            elif kind == "TimeShift":
                counted[place] = begun[place] >= FIRST
        return counted


def piece_nats(
    log_probs: Callable[[NDArray[np.int64]], Tensor], tokens: Tokens, ids: NDArray[np.int64]
) -> Nats:
    """The nats of a piece with all tokens, and with the possible ones only.

    Args:
        log_probs: A function from (M,) ids to (M - 1, V) logits of all but the first.
        tokens: The tokens.
        ids: (M,) those of the piece.
    """
    log_p = log_probs(ids).double().log_softmax(-1).numpy()  # (M - 1, V)
    own = np.take_along_axis(log_p, ids[1:, None], axis=1)[:, 0]
    possible = np.where(tokens.possible(ids)[1:], log_p, -np.inf)
    counted = tokens.counted(ids)[1:]
    legal = own - np.logaddexp.reduce(possible, axis=1)
    return {
        "event": float(nats_of(np.exp(own), tokens.size)[counted].sum()),
        "legal": float(nats_of(np.exp(legal), tokens.size)[counted].sum()),
    }


class MidiTokGpt2(Tool):
    """MidiTok's tokens with a GPT-2 of four layers."""

    name = "MidiTok + GPT-2"
    imports = "import miditok; from transformers import GPT2Config, GPT2LMHeadModel"
    distributions = ("miditok", "transformers", "torch")
    program = "miditok_gpt2.py"
    rates = (0.003, 0.001, 0.01)
    batches = (4, 1)

    def __init__(self, cache: Path) -> None:
        super().__init__(cache)
        self.tokens = Tokens()

    def _encoded(self, pieces: Sequence[Notes]) -> list[NDArray[np.int64]]:
        """The tokens of the training pieces, which are kept for the next run."""
        digest = hashlib.blake2b(digest_size=8)
        for piece in pieces:
            for column in (piece.start, piece.end, piece.pitch, piece.velocity):
                digest.update(column.tobytes())
        path = self.cache / f"tokens-{digest.hexdigest()}.npz"
        if not path.exists():
            with atomic_write(path) as beside, beside.open("wb") as file:
                np.savez(file, *map(self.tokens.encode, pieces))
        with np.load(path) as file:
            return [file[name] for name in file.files]

    @override
    def train(
        self, pieces: Sequence[Notes], *, rate: float, batch: int, seed: int, budget: Budget
    ) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=self.tokens.size,
            n_positions=WINDOW,
            n_embd=192,
            n_layer=4,
            n_head=4,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.model: Any = GPT2LMHeadModel(config)
        encoded = [ids for ids in self._encoded(pieces) if len(ids) > WINDOW]
        places = np.array([len(ids) - WINDOW for ids in encoded], float)
        rng = np.random.default_rng(seed)

        def loss() -> Tensor:
            chosen = rng.choice(len(encoded), size=batch, p=places / places.sum())
            windows = []
            for number in chosen:
                first = rng.integers(len(encoded[number]) - WINDOW + 1)
                window = encoded[number][first : first + WINDOW]
                shift = int(rng.integers(-TRANSPOSED, TRANSPOSED + 1))
                windows.append(self.tokens.transposed(window, shift))
            ids = np.stack(windows)
            self.seen += int((self.tokens.kind[ids] == "NoteOn").sum())
            table = torch.from_numpy(ids)
            found: Tensor = self.model(input_ids=table, labels=table).loss
            return found

        fit(self.model, loss, rate=rate, seed=seed, budget=budget)

    @torch.inference_mode()
    def logits(self, ids: NDArray[np.int64]) -> Tensor:
        """(M - 1, V) logits of all tokens but the first; each after half a window at least."""
        self.model.eval()
        table, found = torch.from_numpy(ids), []
        starts = list(range(0, max(1, len(ids) - WINDOW // 2), WINDOW // 2))
        for group in (starts[k : k + 16] for k in range(0, len(starts), 16)):
            windows = [table[first : first + WINDOW] for first in group]
            padded = torch.nn.utils.rnn.pad_sequence(windows, batch_first=True)
            logits = self.model(input_ids=padded).logits
            for first, window, of_window in zip(group, windows, logits, strict=True):
                new = 0 if first == 0 else WINDOW // 2 - 1
                found.append(of_window[new : len(window) - 1])
        return torch.cat(found)

    @override
    def score(self, pieces: Sequence[Notes]) -> list[Nats]:
        return [piece_nats(self.logits, self.tokens, self.tokens.encode(piece)) for piece in pieces]

    @torch.inference_mode()
    @override
    def generate(self, prompt: Notes, count: int) -> int:
        ids = self.tokens.encode(prompt)[-WINDOW // 2 :].tolist()
        generated: list[int] = []
        begun = 0
        torch.manual_seed(0)
        while begun < count:
            known = torch.tensor([(ids + generated)[-WINDOW // 2 :]])
            made = self.model.generate(
                known,
                attention_mask=torch.ones_like(known),
                do_sample=True,
                top_k=0,
                max_new_tokens=WINDOW - known.shape[1],
                pad_token_id=0,
                eos_token_id=None,
            )
            generated += made[0, known.shape[1] :].tolist()
            begun = int((self.tokens.kind[generated] == "NoteOn").sum())
        return begun

    @property
    @override
    def parameters(self) -> int:
        return count_parameters(self.model)
