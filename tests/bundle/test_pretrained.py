"""The model that comes with the library: small, licensed, with a card, and it plays."""

from __future__ import annotations

import re
from typing import cast

import numpy as np
import torch
from torch import nn

import notelstm
from notelstm.bundle import PRETRAINED
from notelstm.evaluation import nats_per_note
from notelstm.models import NoteLSTM
from notelstm.testing.makers import long_piece


def test_the_file_is_small_complete_and_has_its_provenance() -> None:
    assert PRETRAINED.stat().st_size <= 8 * 2**20
    bundle = notelstm.load()
    assert "CC BY-NC-SA 4.0" in bundle.data.license
    assert bundle.data.pieces == 1394
    assert bundle.settings["name"] == "expressive"
    assert all(bool(torch.isfinite(p).all()) for p in cast(nn.Module, bundle.model).parameters())
    text = PRETRAINED.with_name("LICENSE").read_text(encoding="utf-8")
    assert "creativecommons.org/licenses/by-nc-sa/4.0" in text


def test_its_card_describes_this_model() -> None:
    card = PRETRAINED.with_name("CARD.md").read_text(encoding="utf-8")
    bundle = notelstm.load()
    assert isinstance(bundle.model, NoteLSTM)
    size = sum(p.numel() for p in bundle.model.parameters())
    assert f"{size:,} parameters" in card
    assert re.search(rf"{bundle.data.notes:,} notes, [0-9.]+ times, transposed by up to six", card)
    figures = re.search(r"\| \*\*this model\*\* \|(.*)\|", card)
    assert figures is not None
    pitch, step, duration, psd, velocity, total = map(float, figures[1].split("|"))
    assert abs(pitch + step + duration - psd) < 0.02
    assert abs(psd + velocity - total) < 0.02
    assert psd <= 8.5
    assert total <= 10.7


def test_it_generates_piano_and_prefers_music_to_noise() -> None:
    bundle = notelstm.load()
    music = notelstm.generate(bundle, 150, seed=2)
    assert len(music) == 150
    assert 21 <= music.pitch.min() <= music.pitch.max() <= 108
    assert len(set(music.pitch.tolist())) > 10
    assert 0.02 < float(np.median(music.duration)) < 2
    noise = long_piece(np.random.default_rng(0), count=150, seconds=30)
    own, other = (
        nats_per_note(bundle.generation_model, bundle.encoder, [piece]).total
        for piece in (music, noise)
    )
    assert own is not None
    assert other is not None
    assert own < 0.75 * other
