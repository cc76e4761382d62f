"""One file holds a model and all that it needs; errors of damaged ones have the reason."""

from __future__ import annotations

import itertools
import json
import resource
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from notelstm import bundle as bundles
from notelstm.bundle import Bundle, DataCard, load
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import (
    BundleError,
    BundleNotFoundError,
    NotelstmError,
    OutputError,
    PluginError,
)
from notelstm.fields import Field, Rows
from notelstm.generation import generate
from notelstm.midi import ReadPolicy
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.notes import Notes
from notelstm.predictions import Categorical
from notelstm.protocols import NoteEncoder, NoteModel, Prediction, Sampler, SamplingContext
from notelstm.sampling import Ancestral, Greedy, MinDuration, RawPitch, Temperature, Weighted
from notelstm.testing.makers import random_rows
from notelstm.training import TrainingConfig

GOLDEN = Path(__file__).parent.parent / "golden"

ENCODERS: list[NoteEncoder] = [
    StepDurationEncoder(),
    LogTimeEncoder(),
    LogTimeEncoder(cell=0.02, linear=0.1, growth=1.5, longest=4.0),
    PerformanceEventEncoder(),
]
SAMPLERS: list[Sampler] = [
    Ancestral(),
    Greedy(processors=(MinDuration(seconds=0.05),)),
    Weighted(processors=(Temperature(temperature=0.8), MinDuration())),
]


def models(encoder: NoteEncoder) -> Iterator[NoteModel]:
    torch.manual_seed(0)
    fields = encoder.fields
    yield NoteLSTM(fields=fields, hidden_size=8, embedding_dim=4, dropout=0.1)
    yield NoteLSTM(
        fields=fields,
        field_order=[f.name for f in fields[::-1]],
        hidden_size=6,
        embedding_dim=3,
        num_layers=2,
    )
    yield NoteLSTM(
        fields=fields,
        hidden_size=6,
        embedding_dim=3,
        head_size=0,
        sounding_features=True,
        time_distribution="mixture",
        num_components=2,
    )
    if isinstance(encoder, StepDurationEncoder):
        yield ThreeHeadLSTM(fields=fields, hidden_size=8)
        yield ThreeHeadLSTM(
            fields=fields, hidden_size=8, num_layers=2, sigmoid=False, point_estimates=False
        )


def tiny(**changes: Any) -> Bundle:
    encoder = StepDurationEncoder()
    torch.manual_seed(0)
    plain = Bundle(
        model=ThreeHeadLSTM(fields=encoder.fields, hidden_size=4),
        encoder=encoder,
        sampler=SAMPLERS[2],
        context_length=5,
        input_transform=RawPitch(),
        sigmas={"step": 0.5, "duration": 0.25},
        data=DataCard(name="few", license="MIT", fingerprint="ab", pieces=3, notes=99),
        settings={"recipe": "reference", "sequence_length": 5},
    )
    return replace(plain, **changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.notelstm"
    tiny().save(path)
    return path


def weights(model: NoteModel) -> dict[str, Tensor]:
    return cast(nn.Module, model).state_dict()


def description(path: Path) -> Any:
    with safe_open(path, framework="pt") as opened:
        return json.loads(opened.metadata()["notelstm"])


def describe(path: Path, about: Any) -> None:
    """Change the description in a file, as a file without a checksum; the tensors stay."""
    if isinstance(about, dict):
        about = {key: value for key, value in about.items() if key != "sha256"}
    save_file(load_file(path), path, metadata={"notelstm": json.dumps(about)})


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    describe(path, change(description(path)))


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_a_loaded_bundle_generates_as_the_saved_one(encoder: NoteEncoder, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    for model in models(encoder):
        for sampler, context in zip(SAMPLERS, (None, 3, 4), strict=True):
            input_transform = RawPitch() if isinstance(model, ThreeHeadLSTM) else None
            before = Bundle(
                model=model,
                encoder=encoder,
                sampler=sampler,
                context_length=context,
                input_transform=input_transform,
            )
            before.save(path)
            after = load(path)
            assert after.encoder == encoder
            assert after.sampler == sampler
            assert after.context_length == context
            assert after.input_transform == input_transform
            assert type(after.model) is type(model)
            assert after.model.field_order == model.field_order
            mine, theirs = weights(model), weights(after.model)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
            assert not cast(nn.Module, after.model).training
            assert generate(after, 12, seed=5) == generate(before, 12, seed=5)


def test_all_other_parts_round_trip(file: Path) -> None:
    policy = ReadPolicy(tracks="all", programs=(0, 4), names=("*piano*",), max_seconds=60.0)
    counts = {"counts": {"pitch": [0, 3]}, "repeats": {"pitch": 1}, "pairs": 2}
    before = tiny(read_policy=policy, unigram=counts)
    before.save(file)
    after = load(file)
    names = ("read_policy", "sigmas", "unigram", "data", "settings", "version", "context_length")
    assert [getattr(after, n) for n in names] == [getattr(before, n) for n in names]
    again = file.with_name("again")
    after.save(again)
    assert again.read_bytes() == file.read_bytes()


def test_half_precision_halves_the_file_and_keeps_predictions_close(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fields = LogTimeEncoder().fields
    model = NoteLSTM(fields=fields, hidden_size=64, embedding_dim=8, sounding_features=True).eval()
    bundle = Bundle(model=model, encoder=LogTimeEncoder(), sampler=Ancestral())
    for half in (False, True):
        bundle.save(tmp_path / str(half), half_precision=half)
    whole, halved = ((tmp_path / str(half)).stat().st_size for half in (False, True))
    assert halved < 0.55 * whole
    loaded = cast(NoteLSTM, load(tmp_path / "True").model)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    rows = torch.from_numpy(random_rows(fields, (2, 30), np.random.default_rng(0)))
    logits = []
    for each in (model, loaded):
        context, _ = each(rows, each.initial_state(2)[1])
        prediction = each.predict(each.field_order[0], context, {})
        assert isinstance(prediction, Categorical)
        logits.append(prediction.logits)
    torch.testing.assert_close(*logits, rtol=0, atol=2e-3)
    assert not torch.equal(*logits)


def test_the_first_format_is_still_read() -> None:
    bundle = load(GOLDEN / "bundle-format-1.notelstm")
    wanted = json.loads((GOLDEN / "bundle-format-1.json").read_text())
    notes = generate(bundle, 40, seed=3)
    assert notes.pitch.tolist() == wanted["pitch"]
    np.testing.assert_allclose(notes.start, wanted["start"], atol=1e-4)
    np.testing.assert_allclose(notes.end, wanted["end"], atol=1e-4)
    assert bundle.sampler == Weighted(processors=(Temperature(temperature=0.5), MinDuration()))
    assert bundle.input_transform == RawPitch()
    policy = ReadPolicy(
        tracks="first-instrument", simultaneous_order="file", programs=(0, 1), tempos="first"
    )
    assert bundle.read_policy == policy
    assert bundle.sigmas == {"step": 0.25, "duration": 0.5}
    assert bundle.data == DataCard(
        name="none", license="MIT", fingerprint="0" * 64, pieces=1, notes=2
    )
    assert bundle.settings["list"] == [1, "a"]
    assert bundle.unigram == {}
    assert bundle.version == "0.1.0"


def test_a_newer_format_is_rejected_with_the_required_version(file: Path) -> None:
    rewrite(file, lambda about: {**about, "format": bundles.FORMAT + 1, "version": "9.0"})
    with pytest.raises(BundleError, match=r"format 3, written by notelstm 9\.0.*upgrade notelstm"):
        load(file)


@pytest.mark.parametrize("keep", [0, 7, 8, 200, 0.5, -1])
def test_truncated_files_are_rejected(file: Path, keep: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(BundleError, match=r"truncated, or not a.*tiny\.notelstm.*Copy it again"):
        load(file)


def test_other_kinds_of_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with pytest.raises(BundleNotFoundError, match=r"no such model file: .*other\. Check the path"):
        load(path)
    for content in (b"MThd\x00\x00\x00\x06", b"\xff" * 100, b"{}", b"PK\x03\x04" + b"\x00" * 60):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="safetensors"):
            load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(BundleError, match="file without notelstm's description"):
        load(path)
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        load("x" * 5000)
    for no_file in (tmp_path, Path("/dev/zero")):
        with pytest.raises(BundleError, match="a folder or a device, not a model file"):
            load(no_file)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "1"}', "{}", '"x"'])
def test_descriptions_that_are_not_json_objects_are_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "garbled"
    save_file({"a": torch.zeros(2)}, path, metadata={"notelstm": text})
    with pytest.raises(BundleError, match="unreadable description"):
        load(path)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a description."""
    keys: Sequence[Any] = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield (*path, key)
        if isinstance(tree[key], dict | list) and len(tree[key]) < 50:
            yield from places(tree[key], (*path, key))


def damaged(whole: Any, place: tuple[Any, ...], value: object) -> Any:
    """A copy with another value at a place; with `...`, without that place."""
    about = json.loads(json.dumps(whole))
    inner = about
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return about


def test_damaged_descriptions_raise_bundle_errors(file: Path) -> None:
    whole = description(file)
    values: Iterator[Any] = itertools.cycle([None, "x", {}, -1, [], ["x"]])
    complaints = []
    for place in places(whole):
        for value in (..., next(values)):
            describe(file, damaged(whole, place, value))
            try:
                loaded = load(file)
            except NotelstmError as error:
                complaints.append(str(error))
            else:
                # What was damaged did not matter, or was as good as what it replaced.
                assert loaded.generation_model.fields == loaded.encoder.fields
    assert len(complaints) > 80
    assert not any("\n" in complaint for complaint in complaints)


@pytest.mark.parametrize("name", ["model", "encoder", "sampler", "input_transform"])
def test_a_part_of_a_missing_package_is_an_error(file: Path, name: str) -> None:
    def foreign(about: Any) -> Any:
        about["parts"][name] |= {"name": "best", "distribution": "bestpack", "version": "3.1"}
        return about

    rewrite(file, foreign)
    with pytest.raises(
        PluginError,
        match=r"unknown [a-z_]+ 'best' \(saved with the package bestpack 3\.1\)\. Install",
    ):
        load(file)
    # The part can be passed instead.
    given: dict[str, Any] = {name: getattr(tiny(), name)}
    assert generate(load(file, **given), 3) == generate(tiny(), 3)


def test_a_processor_of_a_missing_package_is_an_error(file: Path) -> None:
    def foreign(about: Any) -> Any:
        part = about["parts"]["sampler"]["config"]["processors"][0]["$part"]
        part |= {"name": "swing", "distribution": "swingpack"}
        return about

    rewrite(file, foreign)
    with pytest.raises(PluginError, match=r"'swing'.*Install the package swingpack"):
        load(file)


def test_a_part_of_another_kind_is_rejected(file: Path) -> None:
    def swapped(about: Any) -> Any:
        about["parts"]["model"] = about["parts"]["sampler"]
        return about

    rewrite(file, swapped)
    with pytest.raises(BundleError, match="damaged description of a model: model is"):
        load(file)


def test_a_part_that_rejects_its_settings_is_an_error(file: Path) -> None:
    def other(about: Any) -> Any:
        about["parts"]["model"]["config"]["heads"] = 3
        return about

    rewrite(file, other)
    with pytest.raises(NotelstmError, match=r"three-head-lstm.*heads"):
        load(file)


def test_a_different_encoder_is_rejected(file: Path) -> None:
    with pytest.raises(BundleError, match=r"are not the encoder's \(pitch, step.*Pass the encoder"):
        load(file, encoder=LogTimeEncoder())


def test_tensors_of_a_different_model_are_rejected(file: Path) -> None:
    fields = StepDurationEncoder().fields
    for model, said in (
        (
            ThreeHeadLSTM(fields=fields, hidden_size=5),
            r"initial_context is of size \(4,\), not \(5,\)",
        ),
        (NoteLSTM(fields=fields, hidden_size=4), "there is no embed.pitch.weight"),
    ):
        with pytest.raises(BundleError, match=f"tensors do not fit the model: {said}.*Copy"):
            load(file, model=model)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({"lstm.weight_ih_l0": torch.zeros(16, 3)}, file, metadata=metadata)
    with pytest.raises(BundleError, match="tensors do not fit the model"):
        load(file)


@dataclass(frozen=True, kw_only=True)
class OwnEncoder:
    """An encoder that no package declares."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return StepDurationEncoder().fields

    def encode(self, notes: Notes) -> Rows:
        return StepDurationEncoder().encode(notes)

    def decode(self, rows: Rows) -> Notes:
        return StepDurationEncoder().decode(rows)


def own_sampler(
    field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
) -> Tensor:
    return prediction.sample(noise)


def own_processor(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    return prediction


@pytest.mark.parametrize(
    ("name", "part", "culprit"),
    [
        ("encoder", OwnEncoder(), "OwnEncoder"),
        ("sampler", own_sampler, "own_sampler"),
        ("sampler", Ancestral(processors=(own_processor,)), "own_processor"),
    ],
)
def test_parts_without_an_entry_point_are_passed(
    file: Path, name: str, part: object, culprit: str
) -> None:
    before = tiny(**{name: part})
    before.save(file)
    with pytest.raises(BundleError, match=rf"{name}.*{culprit}.*load\(path, {name}=\.\.\.\)"):
        load(file)
    given: dict[str, Any] = {name: part}
    assert generate(load(file, **given), 6) == generate(before, 6)


class OwnModel(nn.Module):
    """A model that no package declares, with two names for one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=4)
        self.tied = self.inner.initial_context

    fields = property(lambda self: self.inner.fields)
    field_order = property(lambda self: self.inner.field_order)

    def initial_state(self, batch_size: int) -> Any:
        return self.inner.initial_state(batch_size)

    def forward(self, rows: Tensor, state: Any) -> Any:
        return self.inner.forward(rows, state)

    def predict(self, field: str, context: Any, known: Any) -> Prediction:
        return self.inner.predict(field, context, known)


def test_a_custom_model_with_tied_weights_round_trips(file: Path) -> None:
    before = tiny(model=OwnModel())
    before.save(file)
    with pytest.raises(BundleError, match=r"OwnModel.*load\(path, model="):
        load(file)
    assert generate(load(file, model=OwnModel()), 6) == generate(before, 6)


@pytest.mark.parametrize("sigma", [float("nan"), float("inf")])
def test_values_that_are_not_json_are_not_saved(tmp_path: Path, sigma: float) -> None:
    path = tmp_path / "model"
    for bundle in (
        tiny(sigmas={"step": sigma}),
        tiny(unigram={"pairs": sigma}),
        tiny(settings={"config": TrainingConfig()}),
    ):
        with pytest.raises(BundleError, match="are not JSON values"):
            bundle.save(path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    for settings in ({"seed": 2**63}, {"name": "caf\udce9"}, {"deep": deep}):
        with pytest.raises(BundleError, match="are not JSON values"):
            tiny(settings=settings).save(tmp_path / "model")
    bundle = tiny()
    with torch.no_grad():
        next(iter(cast(nn.Module, bundle.model).parameters())).fill_(1e5)
    with pytest.raises(BundleError, match=r"numbers that are not finite.*without half_precision"):
        bundle.save(tmp_path / "model", half_precision=True)
    assert not list(tmp_path.iterdir())
    bundle.save(tmp_path / "model")
    load(tmp_path / "model")


@pytest.mark.parametrize("number", [50_000, 200_000])
def test_a_description_of_any_size_is_loaded_or_not_saved(file: Path, number: int) -> None:
    """The quotes of a description take more than one byte each."""
    file.unlink(missing_ok=True)
    bundle = tiny(settings={"many": [""] * number})
    if number == 50_000:
        bundle.save(file)
        assert load(file).settings == bundle.settings
    else:
        with pytest.raises(BundleError, match="more than a model file may hold"):
            bundle.save(file)
        assert not file.exists()


def test_names_that_are_not_text_are_saved(file: Path) -> None:
    tiny(data=DataCard(name="caf\udce9", license="\ud800")).save(file)
    assert (load(file).data.name, load(file).data.license) == ("caf\ufffd", "\ufffd")


def test_a_full_disk_leaves_the_old_file(file: Path) -> None:
    old = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"tiny\.notelstm.*Free some space"):
            tiny().save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == old
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_crash_while_writing_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = file.read_bytes()

    def half(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        tiny().save(file)
    assert file.read_bytes() == old
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_unwritable_paths_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "model"):
        with pytest.raises(OutputError, match="name a folder that you may write to"):
            tiny().save(path)
    made = tmp_path / "new" / "folders" / "model"
    tiny().save(made)
    assert load(made).context_length == 5


def test_bundle_files_follow_the_umask(file: Path) -> None:
    plain = file.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_repr_of_a_bundle_is_one_line() -> None:
    assert repr(load()).startswith(
        "Bundle(model=NoteLSTM, encoder=AnticipatingEncoder, sampler=Ancestral"
    )
    assert len(repr(load())) < 200
