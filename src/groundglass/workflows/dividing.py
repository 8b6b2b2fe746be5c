"""Who trains, who validates and who is put aside, from a recipe, the data and what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from groundglass.data import splits
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RecipeError
from groundglass.recipes import Recipe
from groundglass.recipes.settings import Parts, Rows


def parse_fold(fold: str) -> tuple[int, int]:
    """(k, n) of `k/n`. Raises `RecipeError`."""
    match = re.fullmatch(r"(\d+)/(\d+)", fold)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise RecipeError(f"--fold {fold}: write k/n with n at least 2 and k from 1 to n, such as 1/5")
    return int(match[1]), int(match[2])


def validation_sources(recipe: Recipe) -> tuple[str, ...] | None:
    """The sources whose cases may validate in a fold; None: all."""
    rule = recipe.split
    if isinstance(rule, Parts):
        return rule.sources
    return tuple(rule.rows) if isinstance(rule, Rows) else rule.validation_sources


def make_split(
    recipe: Recipe,
    dataset: Dataset,
    scan: Scan,
    fold: str | None,
    test: int = 0,
    seed: int | None = None,
    sources: Sequence[str] | None = None,
    whole: bool = True,
) -> Split:
    """The recipe's split of the labelled cases, or fold `k/n` over the cases that may validate.

    test: so many cases at least are put aside. seed: of the division, by default the recipe's. sources: who may
    validate in a fold instead of the recipe's. whole: False for folds of single slices, which leak.
    Raises `RecipeError`.
    """
    rule = recipe.split
    seed = recipe.seed if seed is None else seed
    sources = validation_sources(recipe) if sources is None else sources
    if test and fold is None and isinstance(rule, Rows):
        raise RecipeError(
            f"--test {test}: recipe '{recipe.name}' names the rows that validate; give --fold k/n too, or another split"
        )
    clusters = _clusters(scan)
    if isinstance(rule, Parts):
        if test or fold is not None:
            raise RecipeError(
                f"recipe '{recipe.name}' keeps the source's own Train, Val and Test, so --fold and --test have nothing "
                "to divide; divide anew with --set split={name: holdout}"
            )
        return splits.parts(dataset.cases, seed=seed, clusters=clusters, sources=rule.sources)
    who: dict[str, Any] = {"lesion": scan.lesion, "clusters": clusters, "validation_sources": sources}
    aside = splits.put_aside(dataset.cases, test, seed, **who)
    who |= {"train_sources": rule.train_sources, "test": aside}
    if fold is not None:
        k, n = parse_fold(fold)
        return splits.kfold(dataset.cases, n, k, seed, whole=whole, **who)
    if isinstance(rule, Rows):
        return splits.explicit(dataset.cases, rule.rows, seed=seed, clusters=clusters, train_sources=rule.train_sources)
    return splits.holdout(dataset.cases, rule.fraction, seed, **who)


def _clusters(scan: Scan) -> Sequence[Sequence[str]]:
    """Ids that belong on one side: twins, and where these were not searched for, equal pictures."""
    if scan.twins is not None:
        return scan.twins.clusters
    same: dict[str, list[str]] = {}
    for case_id, digest in scan.hashes.items():
        same.setdefault(digest, []).append(case_id)
    return list(same.values())
