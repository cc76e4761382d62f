"""Voice leading: logits of a pitch from the latest notes of each instrument.

The features of sounding notes are those of all other instruments together, and of the own one. In a
chorale it matters which voice sings what: the bass moves differently from the alto,
and two voices do not move in fifths or octaves.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from notelstm.models.inference import Array
from notelstm.models.sounding import AROUND, LONGEST, Anticipated, Sounding

__all__ = ["PACE", "RANK", "NumpyVoices", "VoiceLayer", "Voices", "voices_of", "voices_of_rows"]

RANK: Final = 16
"""R, the number of patterns of intervals of each note that a :class:`VoiceLayer` combines."""

PACE: Final = 4.0
"""The factor of the weights of parallel motion. An optimizer of Adam's kind moves all weights at
about the same pace, which is too slow for these: they are large, and seldom have a part."""

_REACH: Final = AROUND // 2


class Voices(NamedTuple):
    """Class ids of the latest pitch of each instrument at the onset of a note; -1 for none.

    Attributes:
        now: (..., I) its latest note, if that sounds.
        before: (..., I) the latest one that began before this onset. If the same pitch begins again
            at it, the one before that.
    """

    now: Tensor
    before: Tensor


def voices_of(sounding: Sounding | Anticipated, instruments: int) -> Voices:
    """The voices of the sounding notes (..., I P) at the onset of a note."""
    shape = *sounding.left.shape[:-1], instruments, sounding.left.shape[-1] // instruments
    left, since = sounding.left.view(shape), sounding.since.view(shape)
    latest, now = since.min(-1)
    sounds = (latest < LONGEST) & (left.gather(-1, now.unsqueeze(-1)).squeeze(-1) > 0)
    earlier, before = since.masked_fill(since == 0, LONGEST).min(-1)
    return Voices(now.masked_fill(~sounds, -1), before.masked_fill(earlier >= LONGEST, -1))


def voices_of_rows(sounding: Any, instruments: int) -> Any:
    """The same in numpy, of (B, I P) sounding notes."""
    shape = len(sounding[0]), instruments, sounding[0].shape[1] // instruments
    left, since = (times.reshape(shape) for times in sounding[:2])
    now, earlier = since.argmin(axis=2), np.where(since == 0, LONGEST, since)
    before = earlier.argmin(axis=2)
    at = *np.ogrid[: len(now), : now.shape[1]], now
    sounds = (since[at] < LONGEST) & (left[at] > 0)
    there = earlier.min(axis=2) < LONGEST
    return Voices(np.where(sounds, now, -1), np.where(there, before, -1))  # type: ignore[arg-type]


@final
class VoiceLayer(nn.Module):
    """Logits of a pitch from its intervals to the latest notes of each instrument.

    With the 2 I notes q of :class:`Voices`, the logit of pitch p is the sum of ``g[q, r] w[q, r,
    p - q]`` over the notes within two octaves of it, and the patterns r. The patterns w depend on
    the instrument and on the interval alone, so that they are learnt from few pieces; the gates g
    are outputs of the head of the pitch, so that what precedes decides which of them hold.

    Further, for each other instrument that moves from b to q, the pitch that lies as far from q as
    the own last one from b moves in parallel to it. To its logit, the weight of that interval is
    added: no sum of terms of single notes could express that fifths in parallel are avoided.

    Args:
        instruments: I.
        pitches: P.
    """

    def __init__(self, instruments: int, pitches: int) -> None:
        super().__init__()
        self.instruments: Final = instruments
        self.pitches: Final = pitches
        self.num_gates: Final = 2 * instruments * RANK
        self.patterns: nn.Parameter = nn.Parameter(torch.empty(2 * instruments, RANK, AROUND))
        nn.init.normal_(self.patterns, std=0.02)
        self.parallel: nn.Parameter = nn.Parameter(torch.zeros(AROUND))

    @override
    def forward(self, voices: Voices, instrument: Tensor, gates: Tensor) -> Tensor:
        """(..., P) logits.

        Args:
            voices: (..., I) each.
            instrument: (...) the class of the note.
            gates: (..., 2 I R).
        """
        notes = torch.cat(voices, dim=-1)  # (..., 2 I)
        gates = gates.reshape(*gates.shape[:-1], 2 * self.instruments, RANK)
        weights = torch.einsum("...nr,nri->...ni", gates, self.patterns.to(gates))
        weights = weights * (notes >= 0).unsqueeze(-1)
        # Pitches are shifted by the reach, so that no interval leads outside.
        at = notes.clamp_min(0).unsqueeze(-1) + torch.arange(AROUND, device=notes.device)
        logits = weights.new_zeros(*notes.shape[:-1], self.pitches + 2 * _REACH)
        logits = logits.scatter_add(-1, at.flatten(-2), weights.flatten(-2))
        now, before = voices
        own = before.gather(-1, instrument.long().unsqueeze(-1))  # (..., 1)
        interval, at = own - before, own - before + now + _REACH
        others = torch.arange(self.instruments, device=now.device) != instrument.unsqueeze(-1)
        moves = others & (own >= 0) & (before >= 0) & (now >= 0) & (now != before)
        moves &= (interval.abs() <= _REACH) & (at >= 0) & (at < logits.shape[-1])
        weights = PACE * self.parallel[(interval + _REACH).clamp(0, AROUND - 1)].to(logits) * moves
        logits = logits.scatter_add(-1, at.clamp(0, logits.shape[-1] - 1), weights)
        return logits[..., _REACH : _REACH + self.pitches]


@final
class NumpyVoices:
    """A :class:`VoiceLayer` in numpy.

    Args:
        layer: The layer; its weights are copied.
    """

    def __init__(self, layer: VoiceLayer) -> None:
        self.instruments: Final = layer.instruments
        self.num_gates: Final = layer.num_gates
        self._pitches: Final = layer.pitches
        self._patterns: Final[Array] = layer.patterns.detach().numpy().copy()
        self._parallel: Final[Array] = (PACE * layer.parallel).detach().numpy()

    def __call__(self, voices: Any, instrument: NDArray[Any], gates: Array) -> Array:
        """(B, P) logits from (B, I) voices, (B,) classes, and (B, 2 I R) gates."""
        now, before = voices
        logits = np.zeros((len(now), self._pitches + 2 * _REACH), dtype=np.float32)
        sequence = np.arange(len(now))
        notes = np.concatenate([now, before], axis=1)
        by_note = gates.reshape(len(now), 2 * self.instruments, RANK)
        for k, patterns in enumerate(self._patterns):
            at = np.maximum(notes[:, k], 0)[:, None] + np.arange(AROUND)
            logits[sequence[:, None], at] += (by_note[:, k] @ patterns) * (notes[:, k, None] >= 0)
        own = before[sequence, instrument.astype(np.intp)]
        for k in range(self.instruments):
            interval, at = own - before[:, k], own - before[:, k] + now[:, k] + _REACH
            moves = (instrument != k) & (own >= 0) & (before[:, k] >= 0) & (now[:, k] >= 0)
            moves &= (now[:, k] != before[:, k]) & (np.abs(interval) <= _REACH)
            moves &= (at >= 0) & (at < logits.shape[1])
            logits[sequence[moves], at[moves]] += self._parallel[interval[moves] + _REACH]
        return logits[:, _REACH : _REACH + self._pitches]
