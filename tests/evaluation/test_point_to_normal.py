"""Points become normals; their sigmas are fitted on residuals."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.evaluation import fit_sigmas
from notelstm.fields import Rows
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.predictions import Categorical, Normal, PointEstimate, PointToNormal
from notelstm.protocols import NoteModel, Prediction
from notelstm.testing.makers import random_rows

FIELDS = StepDurationEncoder().fields


def model() -> ThreeHeadLSTM:
    torch.manual_seed(0)
    return ThreeHeadLSTM(fields=FIELDS, hidden_size=6)


def rows(*lengths: int) -> list[Rows]:
    rng = np.random.default_rng(0)
    return [random_rows(FIELDS, (n,), rng) for n in lengths]


@torch.no_grad()
def residuals(some: NoteModel, piece: Rows) -> Rows:
    """(N, 2) target minus prediction of step and duration, each row from all before it."""
    found = []
    for i in range(len(piece)):
        context, state = some.initial_state(1)
        if i:
            context, _ = some.forward(torch.from_numpy(piece[None, :i]), state)
        last = type(context)(context[0][:, -1])
        points = [some.predict(name, last, {}) for name in ("step", "duration")]
        values = [float(point.value) for point in points if isinstance(point, PointEstimate)]
        found.append(piece[i, 1:] - np.array(values, dtype=np.float32))
    return np.stack(found)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("skip", [0, 1, 25])
def test_sigmas_are_the_root_mean_square_of_the_residuals(window: int | None, skip: int) -> None:
    some = cast(NoteModel, model() if window is None else Windowed(model(), window))
    pieces = rows(60, 10, 26, 33)
    got = fit_sigmas(some, pieces, skip=skip)
    counted = np.concatenate([residuals(some, piece)[skip:] for piece in pieces])
    wanted = np.sqrt((counted.astype(np.float64) ** 2).mean(axis=0))
    assert got == pytest.approx({"step": wanted[0], "duration": wanted[1]}, rel=1e-5)


def test_no_more_rows_are_read_than_the_limit() -> None:
    pieces = rows(60, 60)
    some = model()
    cut = [pieces[0], pieces[1][: 25 + 5]]
    assert fit_sigmas(some, pieces, limit=40) == fit_sigmas(some, cut)
    assert fit_sigmas(some, pieces, limit=35) == fit_sigmas(some, pieces[:1])


def test_long_pieces_are_read_in_chunks() -> None:
    (piece,) = rows(2100)
    got = fit_sigmas(model(), [piece])
    counted = np.zeros(2)
    with torch.no_grad():
        some = model()
        context, _ = some.forward(torch.from_numpy(piece[None, :-1]), some.initial_state(1)[1])
        for i, name in enumerate(("step", "duration")):
            point = some.predict(name, context, {})
            assert isinstance(point, PointEstimate)
            errors = piece[25:, i + 1] - point.value[0, 24:].numpy()
            counted[i] = np.sqrt((errors.astype(np.float64) ** 2).mean())
    assert [got["step"], got["duration"]] == pytest.approx(counted.tolist(), rel=1e-5)


def test_without_point_estimates_there_are_no_sigmas(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = LogTimeEncoder()
    classes = NoteLSTM(fields=encoder.fields, hidden_size=4, embedding_dim=2)
    piece = random_rows(encoder.fields, (40,), np.random.default_rng(0))
    asked, predict = [], classes.predict

    def counted(*arguments: Any) -> Prediction:
        asked.append(arguments)
        return predict(*arguments)

    monkeypatch.setattr(classes, "predict", counted)
    assert fit_sigmas(classes, [piece] * 9) == {}
    assert len(asked) == len(encoder.fields), "the other pieces would say the same"
    assert fit_sigmas(model(), rows(25, 3)) == {}
    assert fit_sigmas(model(), []) == {}


def test_a_perfect_model_has_a_least_sigma() -> None:
    some = model()
    with torch.no_grad():
        for name in ("step", "duration"):
            linear = cast(nn.Linear, some.get_submodule(f"{name}_linear"))
            linear.weight.zero_()
            linear.bias.fill_(0.5)
    piece = rows(40)[0]
    piece[:, 1:] = 0.5
    assert fit_sigmas(some, [piece]) == {"step": 1e-3, "duration": 1e-3}


def test_fitting_leaves_the_model_in_its_mode() -> None:
    inner = model().eval()
    fit_sigmas(cast(NoteModel, Windowed(inner, 3)), rows(30))
    assert not any(part.training for part in inner.modules())


def test_only_point_estimates_become_normals() -> None:
    spread = PointToNormal(sigmas={"step": 0.25})
    normal = spread("step", PointEstimate(torch.tensor([0.5, -1.0])))
    assert isinstance(normal, Normal)
    assert normal.mean.tolist() == [0.5, -1.0]
    assert normal.sigma.tolist() == [0.25, 0.25]
    other = Categorical(torch.zeros(1, 3))
    assert spread("step", other) is other
    assert spread("duration", normal) is normal
