"""Made ``bundle-format-1.notelstm`` and ``bundle-format-1.json``: kept to show how, not to be run.

Files of format 1 exist in the world, so this one must load for ever, as it is.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from notelstm.bundle import Bundle, DataCard, save
from notelstm.encoders import StepDurationEncoder
from notelstm.generation import generate
from notelstm.midi import ReadPolicy
from notelstm.models import ThreeHeadLSTM
from notelstm.sampling import MinDuration, RawPitch, Temperature, Weighted

HERE = Path(__file__).parent


def main() -> None:
    encoder = StepDurationEncoder()
    torch.manual_seed(1)
    model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
    with torch.no_grad():
        for name in ("step", "duration"):
            head = model.get_submodule(f"{name}_linear")
            assert isinstance(head, torch.nn.Linear)
            head.bias.fill_(0.3)
    bundle = Bundle(
        model=model,
        encoder=encoder,
        sampler=Weighted(processors=(Temperature(temperature=0.5), MinDuration())),
        context_length=5,
        input_transform=RawPitch(),
        read_policy=ReadPolicy(tracks="instrument-0", simultaneous_order="file", programs=(0, 1)),
        sigmas={"step": 0.25, "duration": 0.5},
        data=DataCard(name="none", license="MIT", fingerprint="0" * 64, pieces=1, notes=2),
        settings={"recipe": "reference", "hidden": 8, "nothing": None, "list": [1, "a"]},
    )
    save(bundle, HERE / "bundle-format-1.notelstm")
    notes = generate(bundle, 40, seed=3)
    columns = {name: getattr(notes, name).tolist() for name in ("start", "end", "pitch")}
    (HERE / "bundle-format-1.json").write_text(json.dumps(columns, indent=1) + "\n")


if __name__ == "__main__":
    main()
