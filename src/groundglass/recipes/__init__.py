"""Recipes: the settings of an experiment, the shipped ones as YAML files in this folder, and how they are read."""

from groundglass.recipes.reading import change, load, parse, read_text, shipped
from groundglass.recipes.settings import Recipe, better, epoch_metrics

__all__ = ["Recipe", "better", "change", "epoch_metrics", "load", "parse", "read_text", "shipped"]
