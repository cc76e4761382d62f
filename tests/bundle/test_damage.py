"""Damaged and crafted model files: one clear error each, soon and in little memory."""

from __future__ import annotations

import copy
import json
import random
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import notelstm
from notelstm.bundle import PRETRAINED, Bundle, load
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.errors import BundleError, ConfigError, PluginError
from notelstm.generation import generate
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.sampling import Ancestral, MinDuration, Temperature, Weighted

GOLDEN = Path(__file__).parent.parent / "golden" / "bundle-format-1.notelstm"


def bundle(*, three_heads: bool = False) -> Bundle:
    torch.manual_seed(0)
    if three_heads:
        encoder = StepDurationEncoder()
        return Bundle(
            model=ThreeHeadLSTM(fields=encoder.fields, hidden_size=4),
            encoder=encoder,
            sampler=Weighted(processors=(Temperature(temperature=0.8), MinDuration())),
            sigmas={"step": 0.5},
            context_length=5,
        )
    coarse = LogTimeEncoder(cell=0.05, linear=0.1, growth=2.0, longest=1.0)
    return Bundle(
        model=NoteLSTM(
            fields=coarse.fields, hidden_size=4, embedding_dim=2, sounding_features=True
        ),
        encoder=coarse,
        sampler=Ancestral(),
        unigram={"counts": {"pitch": [1, 2]}, "repeats": {"pitch": 1}, "pairs": 2},
        settings={"name": "mine", "sequence_length": 64},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.notelstm"
    bundle(three_heads=True).save(path)
    return path


def parts_of(path: Path) -> tuple[dict[str, Any], int]:
    """The description in a file, and where its tensors begin."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["notelstm"]), 8 + length


def written(path: Path, about: dict[str, Any] | str, tensors: dict[str, Any] | None = None) -> Path:
    """A file with another description or other tensors, and without a checksum."""
    if not isinstance(about, str):
        about = json.dumps({key: value for key, value in about.items() if key != "sha256"})
    tensors = load_file(path) if tensors is None else tensors
    crafted = path.with_name("crafted.notelstm")
    save_file(tensors, crafted, metadata={"notelstm": about})
    return crafted


def test_every_flipped_bit_of_a_tensor_is_detected(file: Path) -> None:
    data = file.read_bytes()
    _, begin = parts_of(file)
    rng = random.Random(0)
    for _ in range(100):
        at = rng.randrange(begin, len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(BundleError, match=r"checksum|not finite"):
            load(file)
    file.write_bytes(data)
    load(file)


def test_a_changed_description_is_detected(file: Path) -> None:
    for old, new in ((b'\\"context_length\\": 5', b'\\"context_length\\": 6'), (b"0.8", b"0.9")):
        data = file.read_bytes()
        assert data.count(old) == 1
        file.write_bytes(data.replace(old, new))
        with pytest.raises(BundleError, match=r"damaged: .*checksum.*small\.notelstm.*Copy"):
            load(file)
        file.write_bytes(data)


def test_files_without_a_checksum_can_be_read(file: Path) -> None:
    about, _ = parts_of(GOLDEN)
    assert "sha256" not in about
    load(GOLDEN)
    about, _ = parts_of(file)
    assert generate(load(written(file, about)), 5) == generate(load(file), 5)


def test_the_pretrained_model_has_a_checksum() -> None:
    about, _ = parts_of(PRETRAINED)
    assert len(about["sha256"]) == 64
    assert notelstm.load().version == about["version"]


def test_descriptions_too_long_to_be_loaded_are_not_written(tmp_path: Path) -> None:
    whole = bundle()
    path = tmp_path / "long"
    with pytest.raises(BundleError, match=r"description of \d+ bytes, more than.*Shorten"):
        replace(whole, settings={"notes": "x" * 2**20}).save(path)
    assert not path.exists()
    replace(whole, settings={"notes": "x" * 2**19}).save(path)
    assert len(load(path).settings["notes"]) == 2**19


def nested(levels: int) -> str:
    return '{"format": 1, "settings": ' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (nested(200_000), "nested more than 64 levels deep"),
        (nested(500), "nested more than 64 levels deep"),
        (nested(65), "nested more than 64 levels deep"),
        ('{"format": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ('{"format": 9223372036854775808}', "a whole number of 19 digits"),
        ('{"format": 1, "sigmas": NaN}', "NaN, which is not a finite number"),
        ('{"format": 1, "sigmas": -Infinity}', "-Infinity, which is not"),
        ('{"format": 1, "sigmas": 1e999}', "1e999, which is not"),
        ('{"format": 1, "version": "\\ud800"}', "surrogates not allowed"),
        ('{"format": true}', "format True"),
        ('{"format": 1.5}', "format 1.5"),
        ('{"format": 0}', "format 0"),
    ],
    ids=lambda value: value[:30],
)
def test_descriptions_that_are_not_strict_json_are_rejected(
    file: Path, text: str, said: str
) -> None:
    with pytest.raises(BundleError, match=f"(?s)unreadable description of a model: .*{said}"):
        load(written(file, text))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("data.name", 7),
        ("data.license", None),
        ("data.fingerprint", ["x"]),
        ("data.pieces", "many"),
        ("data.pieces", -1),
        ("data.notes", 1.5),
        ("data.notes", True),
        ("data", []),
        ("sigmas.step", "0.5"),
        ("sigmas.step", -1.0),
        ("sigmas.step", None),
        ("sigmas", [0.5]),
        ("context_length", "5"),
        ("context_length", True),
        ("context_length", 0),
        ("version", 1),
        ("settings", [["a", 1]]),
        ("unigram", [["a", 1]]),
        ("read_policy.drums", "yes"),
        ("read_policy.max_seconds", -1),
        ("parts.sampler.config.processors", 5),
        ("parts.model.config.hidden_size", "4"),
        ("parts.model.config.hidden_size", 2**62),
        ("parts.model.config.num_layers", -1),
        ("parts.encoder", "step-duration"),
    ],
)
def test_values_of_a_wrong_type_are_rejected(file: Path, place: str, value: object) -> None:
    about, _ = parts_of(file)
    inner: Any = about
    *way, last = place.split(".")
    for key in way:
        inner = inner[key]
    assert last in inner
    inner[last] = value
    with pytest.raises(BundleError) as caught:
        load(written(file, about))
    assert "\n" not in str(caught.value)
    assert "crafted.notelstm" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.fill_(float("nan")),
        lambda t: t.index_fill_(0, torch.tensor([1]), float("inf")),
        lambda t: t.index_fill_(0, torch.tensor([1]), 1e30),
        lambda t: t.double().index_fill_(0, torch.tensor([1]), 1e300),
        lambda t: t.half().index_fill_(0, torch.tensor([1]), float("-inf")),
    ],
)
def test_infinite_and_absurd_weights_are_rejected(file: Path, change: Callable[[Any], Any]) -> None:
    about, _ = parts_of(file)
    tensors = load_file(file)
    name = "lstm.weight_hh_l0"
    tensors[name] = change(tensors[name])
    with pytest.raises(BundleError, match=f"{name} has numbers that are not finite, or far too"):
        load(written(file, about, tensors))


@pytest.mark.parametrize("kind", [torch.int32, torch.complex64, torch.bool])
def test_weights_of_other_types_are_rejected(file: Path, kind: torch.dtype) -> None:
    about, _ = parts_of(file)
    tensors = load_file(file)
    tensors["initial_context"] = tensors["initial_context"].to(kind)
    with pytest.raises(BundleError, match=r"initial_context is of torch\..*, not torch\.float32"):
        load(written(file, about, tensors))


MEASURED = """
    import json, sys, time
    import notelstm
    from notelstm.bundle import load
    from notelstm.errors import BundleError
    notelstm.load()
    load(sys.argv[1])
    def memory(name):
        lines = dict(line.split(":") for line in open("/proc/self/status"))
        return int(lines[name].split()[0]) / 1024
    for path in sys.argv[2:]:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak
        before, began = memory("VmRSS"), time.process_time()
        try:
            load(path)
        except BundleError as error:
            said = str(error)
        else:
            said = "loaded"
        print(json.dumps([path, said, time.process_time() - began, memory("VmHWM") - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_crafted_files_are_rejected_quickly_and_in_little_memory(file: Path) -> None:
    paths = []

    def craft(name: str, about: Any, tensors: Any = None) -> None:
        paths.append(written(file, about, tensors).rename(file.with_name(name)))

    small, _ = parts_of(file)

    def configured(**config: Any) -> dict[str, Any]:
        about = copy.deepcopy(small)
        about["parts"]["model"]["config"] |= config
        return about

    craft("hidden_size", configured(hidden_size=12_000))
    craft("more hidden", configured(hidden_size=10**6))
    craft("num_layers", configured(num_layers=10**6))
    craft("layers of one", configured(num_layers=10**6, hidden_size=1))
    fields = copy.deepcopy(small["parts"]["model"]["config"]["fields"])
    fields[0]["$field"] |= {"classes": 10**9, "values": [], "edges": []}
    craft("classes", configured(fields=fields))
    notes = file.with_name("note-lstm")
    bundle().save(notes)
    about, _ = parts_of(notes)
    tensors = load_file(notes)
    for name, value in (
        ("embedding_dim", 10**8),
        ("head_size", 10**9),
        ("num_layers", 10**5),
    ):
        changed = copy.deepcopy(about)
        changed["parts"]["model"]["config"] |= {name: value}
        craft(f"note {name}", changed, tensors)
    changed = copy.deepcopy(about)
    fine = {"cell": 1e-6, "linear": 0.9, "growth": 1.0000001, "longest": 1.0}
    changed["parts"]["encoder"]["config"] = fine
    craft("cells", changed, tensors)
    craft("deep", nested(200_000))
    craft("long", '{"format": 1, "settings": [' + "[]," * 320_000 + "[]]}")
    craft("tensors", small, {f"t{i}": torch.zeros(1) for i in range(7_000)})
    header = file.with_name("header")
    header.write_bytes(struct.pack("<Q", 90 * 2**20) + b" " * (90 * 2**20))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(MEASURED),
            str(notes),
            *map(str, paths),
            str(header),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(paths) + 1
    for path, said, seconds, megabytes in lines:
        print(f"{Path(path).name}: {seconds:.2f} s, {megabytes:.0f} MiB: {said[:150]}")
        assert said != "loaded", path
        assert seconds < 1, path  # of the processor, whatever else it does
        assert megabytes < 300, path


AWKWARD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**6, 2**62, -(2**63), 0.0, -0.5, 1e-300, 1e300, "", "x", "\u00e9" * 300,
    [], {}, [[]], {"a": 1}, [None] * 50, {"$part": {}}, {"$field": {}}, {"$part": None},
    {"$part": {"kind": "samplers", "name": "ancestral"}}, "samplers", "ancestral", ["pitch"],
)  # fmt: skip


def some_value(rng: random.Random, depth: int = 0) -> Any:
    if depth < 3 and rng.random() < 0.2:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return copy.deepcopy(rng.choice(AWKWARD))


def mutated_description(rng: random.Random, about: Any) -> str:
    """A description in which a value or a key was changed, or the text."""
    about = copy.deepcopy(about)
    for _ in range(rng.choice((1, 1, 2, 4))):
        inner = about
        while True:
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(inner[key], dict | list) and rng.random() < 0.85:
                inner = inner[key]
                continue
            kind = rng.randrange(4)
            if kind == 0:
                del inner[key]
            elif kind == 1 and isinstance(inner, dict):
                inner[rng.choice(("x", "$part", "$field", "kind", "config", "hidden_size"))] = (
                    inner.pop(key)
                )
            else:
                inner[key] = some_value(rng)
            break
    text = json.dumps(about)
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        put = rng.choice(("", "NaN", "1e999", "[" * 3000, "9" * 5000, '"', "}", "\x00", "\\ud800"))
        text = text[:at] + put + text[at + rng.randrange(3) :]
    return text


def mutated_tensors(rng: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    changed = dict(tensors)
    name = rng.choice(list(tensors))
    kind = rng.randrange(6)
    if kind == 0:
        del changed[name]
    elif kind == 1:
        changed[rng.choice(("x", "", "a.b", "lstm"))] = changed.pop(name)
    elif kind == 2:
        changed[name] = tensors[name][..., : rng.randrange(3)].contiguous()
    elif kind == 3:
        kinds = (
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int8,
            torch.bool,
            torch.complex64,
        )
        changed[name] = tensors[name].to(rng.choice(kinds))
    elif kind == 4:
        changed[name] = tensors[name] * rng.choice((float("nan"), 1e38, 1e20))
    else:
        changed[name] = torch.zeros(rng.choice(((), (0,), (1, 1, 1), (0, 2**40))))
    return changed


def mutated_bytes(rng: random.Random, data: bytes, begin: int) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(begin if rng.random() < 0.7 else len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.choice((1, 8, 300))]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.choice((1, 8, 300)))
        else:
            out[:8] = struct.pack("<Q", rng.choice((0, 1, len(out), 2**20, 2**40, 2**63)))
        if len(out) < 20:
            break
    return bytes(out)


@pytest.mark.parametrize(
    "count", [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_mutated_files_raise_only_library_errors(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    whole = []
    for three_heads in (False, True):
        path = tmp_path / str(three_heads)
        bundle(three_heads=three_heads).save(path)
        about, begin = parts_of(path)
        whole.append((path.read_bytes(), about, begin, load_file(path)))
    path = tmp_path / "mutated"
    refused = loaded = longest = 0
    for number in range(count):
        data, about, begin, tensors = rng.choice(whole)
        kind = rng.randrange(3)
        path.unlink(missing_ok=True)  # file systems write what replaces a file to the disk at once
        if kind == 0:
            path.write_bytes(mutated_bytes(rng, data, begin))
        elif kind == 1:
            save_file(tensors, path, metadata={"notelstm": mutated_description(rng, about)})
        else:
            text = json.dumps({key: value for key, value in about.items() if key != "sha256"})
            save_file(mutated_tensors(rng, tensors), path, metadata={"notelstm": text})
        try:
            found = load(path)
        except (BundleError, PluginError) as error:
            refused += 1
            longest = max(longest, len(str(error).encode()))
        except BaseException as error:
            raise AssertionError(f"mutation {number}: {error!r}") from error
        else:
            loaded += 1
            weights = cast(nn.Module, found.model).parameters()
            assert all(bool(p.isfinite().all()) for p in weights)
    print(f"{count} mutations: {refused} refused, {loaded} loaded, no foreign error")
    assert refused > 0.5 * count
    assert longest < 2000


def test_absurd_encoders_are_rejected() -> None:
    with pytest.raises(ConfigError, match="classes"):
        LogTimeEncoder(cell=1e-6, linear=0.9, growth=1.0000001, longest=1.0)


class Tied(nn.Module):
    """A model whose constructor needs the values of a tensor, which a meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=4)
        self.rates = [float(rate) for rate in torch.linspace(0, 1, 4)]
        self.noise = torch.rand(3, generator=torch.Generator().manual_seed(1))


def test_model_constructors_run_as_usual_while_loading(file: Path) -> None:
    from notelstm.bundle import _Allowance

    with _Allowance(load_file(file)):
        torch.manual_seed(0)
        made = Tied()
    wanted = Tied()
    assert made.rates == wanted.rates
    assert torch.equal(made.noise, wanted.noise)
    for mine, theirs in zip(made.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def wrapped(kind: str) -> tuple[ThreeHeadLSTM, Any]:
    torch.manual_seed(1)
    model = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=4)
    if kind == "compiled":
        return model, torch.compile(model, backend="eager")
    if kind == "compiled part":
        model.lstm = cast(nn.LSTM, torch.compile(model.lstm, backend="eager"))
        return model, model
    parallel = nn.DataParallel(model)
    return model, parallel if kind == "parallel" else torch.compile(parallel, backend="eager")


@pytest.mark.parametrize("kind", ["compiled", "compiled part", "parallel", "compiled parallel"])
def test_a_wrapped_model_is_saved_loadable(tmp_path: Path, kind: str) -> None:
    model, outer = wrapped(kind)
    plain = Bundle(model=model, encoder=StepDurationEncoder(), sampler=Weighted())
    path = tmp_path / "model"
    Bundle(model=outer, encoder=StepDurationEncoder(), sampler=Weighted()).save(path)
    assert set(load_file(path)) == {name.replace("_orig_mod.", "") for name in model.state_dict()}
    found = load(path)
    assert type(found.model) is ThreeHeadLSTM
    if kind != "compiled part":
        assert generate(found, 8) == generate(plain, 8)
    # A wrapped model can be given the tensors, too.
    _, other = wrapped(kind)
    for tensor in other.state_dict().values():
        tensor.zero_()
    load(path, model=outer if kind == "compiled" else model)
