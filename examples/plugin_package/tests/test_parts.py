"""Each part keeps its contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from notelstm_intervals import BestOfTwo, CategoricalMixture, IntervalEncoder, SmallLeaps
from torch import Tensor

from notelstm import plugins
from notelstm.errors import ConfigError, EncodingError
from notelstm.models import NoteLSTM
from notelstm.predictions import Categorical
from notelstm.testing import check_encoder, check_model, check_processor, check_sampler

FIELDS = IntervalEncoder().fields


@pytest.mark.parametrize("anchor", [0, 60, 127])
def test_the_encoder_keeps_its_contract(anchor: int) -> None:
    check_encoder(IntervalEncoder(anchor=anchor), examples=20)


def test_the_sampler_keeps_its_contract() -> None:
    check_sampler(BestOfTwo())
    check_sampler(BestOfTwo(), fields=FIELDS)


def test_the_processor_keeps_its_contract() -> None:
    check_processor(SmallLeaps(), fields=FIELDS, roles={"other"})


def test_contracts_hold_for_mixtures() -> None:
    def mixture(logits: Tensor) -> CategoricalMixture:
        log_probs = torch.stack([logits, logits.flip(-1)], dim=-2).log_softmax(-1)
        return CategoricalMixture(torch.tensor([0.3, 0.7]).log().expand(len(logits), 2), log_probs)

    check_sampler(BestOfTwo(), make=mixture)
    check_processor(SmallLeaps(), fields=FIELDS, roles={"other"}, make=mixture)


def test_a_model_of_these_fields_keeps_its_contract() -> None:
    torch.manual_seed(0)
    check_model(NoteLSTM(fields=FIELDS, hidden_size=16, embedding_dim=4))


def test_intervals_out_of_range_are_refused() -> None:
    up = np.array([[127 + 40, 0, 1, 0.5], [127 + 40, 0, 1, 0.5]], dtype=np.float32)
    with pytest.raises(EncodingError, match=r"pitch 140, .*\(row 1\)"):
        IntervalEncoder().decode(up)


def test_the_sampler_prefers_what_is_likely() -> None:
    coin = Categorical(torch.tensor([0.0, np.log(3.0)]).expand(4000, 2))
    noise = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    sampled = BestOfTwo()(FIELDS[0], coin, noise, [])
    # Class 0, a quarter, is kept only if both samples are 0.
    assert float((sampled == 0).float().mean()) == pytest.approx(1 / 16, abs=0.015)


def test_the_processor_rules_out_wide_leaps() -> None:
    kept = SmallLeaps(semitones=2)(FIELDS[0], Categorical(torch.zeros(1, 255)), [])
    assert isinstance(kept, Categorical)
    assert (kept.logits[0] > -torch.inf).nonzero().squeeze(1).tolist() == [125, 126, 127, 128, 129]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="anchor 128"):
        IntervalEncoder(anchor=128)
    with pytest.raises(ConfigError, match="semitones -1"):
        SmallLeaps(semitones=-1)


def test_every_part_has_an_entry_point() -> None:
    found = {
        (kind, plugin.name): plugin.load().__name__
        for kind in plugins.KINDS
        for plugin in plugins.installed(kind)
        # The parts of other packages do not matter here.
        if plugin.distribution == "notelstm-intervals"
    }
    assert found == {
        ("encoders", "interval"): "IntervalEncoder",
        ("samplers", "best-of-two"): "BestOfTwo",
        ("processors", "small-leaps"): "SmallLeaps",
        ("recipes", "intervals"): "intervals",
    }
