"""Recipes: each is one choice of parts, from reading MIDI files to sampling notes."""

from notelstm.recipes.chorales import chorales
from notelstm.recipes.ensemble import ensemble
from notelstm.recipes.expressive import expressive
from notelstm.recipes.overrides import from_toml, load_recipe, with_settings
from notelstm.recipes.recipe import ModelSpec, Recipe
from notelstm.recipes.reference import FAULTS, reference

__all__ = [
    "FAULTS",
    "ModelSpec",
    "Recipe",
    "chorales",
    "ensemble",
    "expressive",
    "from_toml",
    "load_recipe",
    "reference",
    "with_settings",
]
