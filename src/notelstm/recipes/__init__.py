"""Recipes: each is one choice of parts, from reading MIDI files to drawing notes."""

from notelstm.recipes.expressive import expressive
from notelstm.recipes.fine_tuning import fine_tuning
from notelstm.recipes.overrides import from_toml, override
from notelstm.recipes.recipe import Recipe
from notelstm.recipes.reference import FAULTS, reference

__all__ = ["FAULTS", "Recipe", "expressive", "fine_tuning", "from_toml", "override", "reference"]
