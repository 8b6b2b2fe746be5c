"""`groundglass cv`: cross-validate recipes over the same folds, score them out of fold, and once on a test part.

OUT/cv.json                 what was asked: data fingerprint, folds, seed, test part, recipes
    curves.csv .png         loss and Dice of all recipes, training and validation: mean and deviation over folds
    RECIPE/foldKofN/        run folders
           curves.csv .png  all folds, their mean and standard deviation
           out-of-fold/     tables of `evaluate` over all folds, predictions/ of each case by the run that held it out
           test/            the same for the test part, by the mean probability of all folds
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from groundglass.case import Case
from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.files import write_json
from groundglass.recipes import Recipe, change, load
from groundglass.run import FORMAT_VERSION, MAX_TIME, Run
from groundglass.show.progress import say
from groundglass.workflows.dividing import make_split, validation_sources
from groundglass.workflows.extras import need_train
from groundglass.workflows.folds import train_folds
from groundglass.workflows.opening import check_classes, open_clean
from groundglass.workflows.pooling import RecipeResult, collect, fold_folder
from groundglass.workflows.starting import start_run
from groundglass.workflows.train import Order, begun_run, check_same_data, parse_duration


@dataclass(frozen=True)
class CrossValidation:
    """What is done of a cross-validation. test_cases: how many were put aside."""

    folder: Path
    folds: int
    seed: int
    test_cases: int
    recipes: tuple[RecipeResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "folds": self.folds,
            "seed": self.seed,
            "test_cases": self.test_cases,
            "recipes": [asdict(result) | {"folder": str(result.folder)} for result in self.recipes],
        }


class Plan(BaseModel):
    """What cv.json holds. test: the cases asked for; test_ids: those put aside; validate_on: sources, None: all."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    groundglass: str
    data_format: str
    data_fingerprint: str
    folds: int
    seed: int
    test: int
    test_ids: tuple[str, ...]
    ungrouped: bool = False
    validate_on: tuple[str, ...] | None
    recipes: dict[str, dict[str, Any]]


def cv(
    recipes: Sequence[str | Path | Recipe],
    data: Locations,
    out: str | Path = "cv",
    folds: int = 5,
    fold: int | None = None,
    test: int = 0,
    seed: int = 0,
    ungrouped: bool = False,
    validate_on: Sequence[str] = (),
    jobs: int = 1,
    max_time: str | float | None = None,
    encoder_weights: str | Path | None = None,
    download: bool = False,
    save_probabilities: bool = False,
    figures: bool = True,
    device: str = "auto",
    settings: Sequence[str] = (),
    start_from: str | Path | None = None,
) -> CrossValidation:
    """Train every recipe on every fold into `out`, and score what is finished. The same call goes on where one stopped:
    finished folds are kept, an interrupted one is resumed, and only what is missing is scored.

    fold: train only this fold (from 1). test: so many cases at least, in whole groups, are put aside; nobody trains or
    validates on them, and all folds together are scored on them at the end. seed: of the folds and the test part, the
    same for every recipe whatever its own seed. ungrouped: folds of single images, as if no patient, volume or near
    duplicate joined them: this leaks, is stamped so, and measures what honest folds cost. validate_on: sources that
    may validate, by default the recipes' own, which must agree. jobs: trainings at a time, each in its own process.
    max_time: for each fold, see `train`. save_probabilities: also of every prediction, float16. Other arguments as in
    `train` and `evaluate`. start_from: begin each fold with the weights of the same fold in this recipe's folder of a
    cross-validation, or all with those of one run; neither may have seen what a fold holds out.
    Raises `RecipeError`, `DataError`, `RunError` or `WeightsError`; where folds fail, only after all others are done
    and scored. KeyboardInterrupt leaves all resumable.
    """
    need_train()
    _check_numbers(folds, fold, test, seed, jobs)
    seconds = parse_duration(max_time)
    chosen = {r.name: r for r in _distinct(recipes, settings)}
    sources = tuple(sorted(set(validate_on))) or _common_sources(list(chosen.values()))
    folder = Path(out)
    asked: dict[str, Any] = {"folds": folds, "seed": seed, "test": test, "validate_on": sources, "ungrouped": ungrouped}
    before = _read_plan(folder, asked, chosen)

    from groundglass.learning.device import choose_device, choose_precision
    from groundglass.networks.building import build_for_training

    device = choose_device(device)
    for recipe in chosen.values():
        choose_precision(recipe, device)
        if recipe.first_stage is not None:
            raise RecipeError(
                f"recipe '{recipe.name}' is a second stage; cv has no first for it: see groundglass train"
            )
    first, *others = chosen.values()
    dataset, scan = open_clean(data, first, twins=True)
    for recipe in others:
        check_classes(recipe, dataset)
    _check_stems(dataset)
    if before is not None and before.data_fingerprint != scan.fingerprint:
        raise RunError(
            f"{folder}: holds a cross-validation of other data than {dataset.location} (the fingerprints differ)"
        )
    orders = []
    for recipe in chosen.values():
        for k in range(1, folds + 1):
            split = make_split(recipe, dataset, scan, f"{k}/{folds}", test, seed, sources, whole=not ungrouped)
            path = fold_folder(folder, recipe.name, k, folds)
            begun = _begun(path, recipe, split, scan, dataset)
            start = None
            if start_from is not None and (begun is None or not begun.last.is_file()):
                start = start_run(start_from, f"{k}/{folds}", split, dataset, scan)
            orders.append(Order(recipe, split, path, begun, seconds, encoder_weights, download, device, start))
        _check_beginnings(recipe.name, [o for o in orders if o.recipe is recipe])
    plan = Plan(
        groundglass=metadata.version("groundglass"),
        data_format=dataset.format,
        data_fingerprint=scan.fingerprint,
        test_ids=orders[0].split.test,
        recipes=(before.recipes if before else {}) | {name: r.model_dump(mode="json") for name, r in chosen.items()},
        **asked,
    )
    if before is not None and set(before.test_ids) != set(plan.test_ids):
        raise RunError(f"{folder}: put other cases aside as test than this groundglass would; choose another --out")
    wanted = [o for o in orders if fold is None or o.split.fold == f"{fold}/{folds}"]
    left = [o for o in wanted if o.begun is None or o.begun.manifest.state != "finished"]
    # Everything that can be refused is refused before anything is written.
    for recipe in {o.recipe.name: o.recipe for o in left if o.begun is None and o.start is None}.values():
        build_for_training(recipe, encoder_weights, download)
    write_json(folder / "cv.json", plan.model_dump(mode="json"))
    _introduce(plan, wanted, left)
    try:
        failures = train_folds(left, data, dataset, scan, jobs)
        results = collect(
            folder, list(plan.recipes), folds, bool(plan.test_ids), dataset, scan, device, save_probabilities, figures
        )
    except KeyboardInterrupt:
        say(f"Interrupted; the same command goes on. Folder: {folder}")
        raise
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise RunError(f"{failures[0]}{more}; what is done is kept, and the same command goes on")
    _say_unfinished([Run.open(o.folder) for o in left])
    return CrossValidation(folder, folds, seed, len(plan.test_ids), results)


def _check_numbers(folds: int, fold: int | None, test: int, seed: int, jobs: int) -> None:
    if folds < 2:
        raise RecipeError(f"--folds {folds}: a cross-validation needs at least 2 folds")
    if fold is not None and not 1 <= fold <= folds:
        raise RecipeError(f"--fold {fold}: there are folds 1 to {folds}")
    if test < 0:
        raise RecipeError(f"--test {test}: a test part cannot have fewer than 0 cases")
    if seed < 0:
        raise RecipeError(f"--seed {seed}: a seed is 0 or more")
    if jobs < 1:
        raise RecipeError(f"--jobs {jobs}: at least one training must be at work")


def _distinct(recipes: Sequence[str | Path | Recipe], settings: Sequence[str]) -> list[Recipe]:
    """The recipes, with settings applied. Raises `RecipeError` unless there is one, and all have their own name."""
    if isinstance(recipes, str | Path | Recipe):
        recipes = [recipes]
    if not recipes:
        raise RecipeError("name at least one recipe")
    found = [change(r, settings) if isinstance(r, Recipe) else load(r, settings) for r in recipes]
    names = [recipe.name for recipe in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"two recipes are called '{twice}'; give one of them another `name` in its YAML file")
    return found


def _common_sources(recipes: Sequence[Recipe]) -> tuple[str, ...] | None:
    """The sources that may validate. Raises `RecipeError` where the recipes do not agree: their scores would be of
    different cases."""
    first = recipes[0]
    ours = validation_sources(first)
    for recipe in recipes[1:]:
        theirs = validation_sources(recipe)
        if (ours and set(ours)) != (theirs and set(theirs)):
            raise RecipeError(
                f"recipes '{first.name}' and '{recipe.name}' validate on different sources ({_named(ours)}; "
                f"{_named(theirs)}); name those of all with --validate-on SOURCE"
            )
    return ours and tuple(sorted(set(ours)))


def _named(sources: tuple[str, ...] | None) -> str:
    return "all" if sources is None else ", ".join(sources)


def _read_plan(folder: Path, asked: Mapping[str, Any], chosen: Mapping[str, Recipe]) -> Plan | None:
    """The plan in `folder`, None where there is none. Raises `RunError` where another was asked for there."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file, not a folder")
    if (folder / "run.json").exists():
        raise RunError(f"{folder}: is a run folder; choose another --out")
    path = folder / "cv.json"
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(f"{path}: has format {version}; this groundglass reads format {FORMAT_VERSION}")
        plan = Plan.model_validate(raw)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise RunError(f"{path}: is damaged ({' '.join(str(error).split())[:120]})") from None
    theirs = plan.model_dump()
    for key, value in asked.items():
        if theirs[key] != value:
            option = f"--{key.replace('_', '-')}"
            raise RunError(
                f"{folder}: holds a cross-validation with {option} {_shown(theirs[key])}, not {_shown(value)}; choose "
                "another --out"
            )
    for name, recipe in chosen.items():
        ours, kept = recipe.model_dump(mode="json"), plan.recipes.get(name)
        if kept is not None and kept != ours:
            changed = next(key for key in ours if ours[key] != kept.get(key))
            raise RunError(
                f"{folder}: was started with another recipe '{name}' ('{changed}' differs); choose another --out"
            )
    return plan


def _shown(value: object) -> object:
    return "of all sources" if value is None else ",".join(value) if isinstance(value, tuple) else value


def _check_stems(dataset: Dataset) -> None:
    """Predictions are named by case: no two may take one name. Raises `DataError`."""
    taken: dict[str, Case] = {}
    for case in dataset.cases:
        other = taken.setdefault(case.stem, case)
        if other is not case:
            raise DataError(f"{case.place}: case {case.id} and {other.id} would be written to one file; rename one")


def _begun(path: Path, recipe: Recipe, split: Split, scan: Scan, dataset: Dataset) -> Run | None:
    """The run that is in `path` already. Raises `RunError` unless it is of this recipe, data and division."""
    if not (path / "run.json").exists():
        return None
    run = begun_run(path, recipe, split.fold)
    check_same_data(run, scan, dataset)
    for part in ("train", "validation", "test"):
        if set(getattr(run.split, part)) != set(getattr(split, part)):
            raise RunError(f"{path}: its {part} cases are others than those of this division; choose another --out")
    return run


def _check_beginnings(name: str, orders: Sequence[Order]) -> None:
    """Raise `RunError` where some folds of a recipe began with the weights of a run and others would not: their scores
    would be of two methods."""
    for order in (o for o in orders if o.begun is not None):
        begun = order.begun
        later = bool(begun and begun.manifest.earlier_hashes)
        if any(o.begun is None and (o.start is not None) != later for o in orders):
            how = "with --start-from; give it again" if later else "without --start-from; leave it out"
            raise RunError(f"{order.folder}: was begun {how} for the other folds of '{name}', or choose another --out")


def _introduce(plan: Plan, wanted: Sequence[Order], left: Sequence[Order]) -> None:
    aside = f", {len(plan.test_ids)} cases put aside as test" if plan.test_ids else ""
    say(f"{len(wanted)} trainings ({plan.folds} folds{aside}); {len(wanted) - len(left)} are finished already")


def _say_unfinished(runs: Sequence[Run]) -> None:
    stopped = [run for run in runs if run.manifest.state != "finished"]
    if stopped:
        say(f"{len(stopped)} folds are not finished ({MAX_TIME}); the same command goes on.")
