"""Names of the first bundle format are read as the names of today."""

from __future__ import annotations

import inspect

import pytest

from notelstm import plugins
from notelstm._bundle_format_1 import _PARTS, _SETTINGS, upgrade

KIND_OF = {"beat": "encoders", "note-lstm": "models", "three-head-lstm": "models"}


def test_parts_kinds_settings_and_tensors_are_renamed() -> None:
    old = {
        "format": 1,
        "parts": {
            "feedback": {"kind": "feedbacks", "name": "raw-pitch", "config": {}},
            "model": {
                "kind": "models",
                "name": "note-lstm",
                "config": {"order": ["step"], "sounding": True, "times": "normal", "dropout": 0.5},
            },
            "sampler": {
                "kind": "samplers",
                "name": "ancestral",
                "config": {
                    "processors": [
                        {"$part": {"name": "no-repeat", "config": {"n": 3, "memory": 9}}},
                        {"$part": {"name": "top-p", "config": {"mass": 0.9}}},
                        {"$part": {"name": "someone-elses", "config": {"mass": 0.9}}},
                    ]
                },
            },
        },
        "settings": {"sampler": {"name": "polyphony-cap", "voices": 3}, "feedback": None},
    }
    about, tensors = upgrade(old, {"begin": 1, "hear.around.weight": 2, "begins.x": 3})
    assert about == {
        "format": 1,
        "parts": {
            "input_transform": {"kind": "input_transforms", "name": "raw-pitch", "config": {}},
            "model": {
                "kind": "models",
                "name": "note-lstm",
                "config": {
                    "field_order": ["step"],
                    "sounding_features": True,
                    "time_distribution": "normal",
                    "dropout": 0.5,
                },
            },
            "sampler": {
                "kind": "samplers",
                "name": "ancestral",
                "config": {
                    "processors": [
                        {
                            "$part": {
                                "name": "no-repeat-ngram",
                                "config": {"ngram_size": 3, "history": 9},
                            }
                        },
                        {"$part": {"name": "top-p", "config": {"p": 0.9}}},
                        {"$part": {"name": "someone-elses", "config": {"mass": 0.9}}},
                    ]
                },
            },
        },
        "settings": {"sampler": {"name": "max-polyphony", "notes": 3}, "input_transform": None},
    }
    assert tensors == {"initial_context": 1, "sounding_layers.around.weight": 2, "begins.x": 3}


@pytest.mark.parametrize("name", sorted({*_PARTS.values(), *_SETTINGS}))
def test_every_name_of_the_table_exists(name: str) -> None:
    kind = KIND_OF.get(name, "processors")
    found = {plugin.name: plugin for plugin in plugins.installed(kind)}
    settings = inspect.signature(found[name].load()).parameters
    assert set(_SETTINGS.get(name, {}).values()) <= set(settings)
