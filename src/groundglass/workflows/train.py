"""`groundglass train`: a recipe and a data set in, a run folder out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from groundglass import recipes
from groundglass.case import Case
from groundglass.data import splits
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RecipeError, RunError
from groundglass.files import sweep
from groundglass.labels import label_set
from groundglass.recipes import Recipe
from groundglass.recipes.settings import Rows, Thresholds
from groundglass.run import MAX_TIME, Run, environment
from groundglass.show.curves import curves
from groundglass.show.progress import duration, progress, say
from groundglass.workflows.extras import need_train
from groundglass.workflows.opening import open_clean


def train(
    recipe: str | Path | Recipe,
    data: str | Path,
    out: str | Path | None = None,
    fold: str | None = None,
    resume: bool = False,
    max_time: str | float | None = None,
    encoder_weights: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    settings: Sequence[str] = (),
) -> Run:
    """Train `recipe` (a shipped name, a YAML file or a `Recipe`) on a data set; returns the run.

    out: the run folder, by default runs/NAME[-foldKofN]. fold: `k/n` of a cross-validation instead of the recipe's
    split. resume: go on where the run in `out` stopped. max_time: minutes (20), or with a unit (90s, 20m, 3h); the run
    can be resumed. encoder_weights: file of ImageNet weights; download: allow the library to fetch them.
    device: auto, cpu or cuda. settings: changes to the recipe such as `epochs=5`.
    Raises `DataError`, `RecipeError`, `RunError` or `WeightsError`; KeyboardInterrupt leaves a resumable run.
    """
    need_train()
    chosen = recipes.change(recipe, settings) if isinstance(recipe, Recipe) else recipes.load(recipe, settings)
    seconds = parse_duration(max_time)
    folder = Path(out) if out is not None else default_folder(chosen, fold)
    begun = _same_run(folder, chosen, fold) if resume else None
    if begun is not None and begun.manifest.state == "finished":
        say(f"{folder}: is finished already ({begun.manifest.why_ended})")
        return begun
    if begun is None and (folder / "run.json").exists():
        raise RunError(f"{folder}: a run is there already; go on with --resume, or choose another --out")

    from groundglass.learning import training
    from groundglass.learning.allocator import allocator_is_tuned
    from groundglass.learning.device import choose_device, choose_precision
    from groundglass.networks.building import build, build_for_training

    device = choose_device(device)
    precision = choose_precision(chosen, device)
    dataset, scan = open_clean(data, chosen)
    if begun is not None and scan.fingerprint != begun.manifest.data_fingerprint:
        raise RunError(f"{folder}: was trained on other data than {data} (the fingerprints differ)")
    split = make_split(chosen, dataset, scan, fold) if begun is None else begun.split
    cases = {case.id: case for case in dataset.cases}
    part, held_out = [cases[i] for i in split.train], [cases[i] for i in split.validation]
    if not part or not held_out:
        raise RecipeError(f"the split leaves {len(part)} cases to train and {len(held_out)} to validate; none may be 0")
    # A run that was stopped in its first epoch has nothing to go on from: it starts anew in its folder.
    going_on = begun is not None and begun.last.is_file()
    if begun is not None and going_on:
        run, network = begun, build(chosen)
        sweep(folder)
    else:
        # Everything that can be refused is refused before anything is written.
        network, origin = build_for_training(chosen, encoder_weights, download)
        mean, std = training.measure_training_part(chosen, part)
        run = begun or Run.create(
            folder,
            chosen,
            split,
            data_format=dataset.format,
            data_fingerprint=scan.fingerprint,
            data_warnings=_warnings(dataset, scan),
            patients_known=dataset.patients,
            case_hashes=dict(scan.hashes),
            mean=mean,
            std=std,
            class_pixels=training.count_classes(label_set(chosen.labels), part),
            weights_from=origin,
            parameters=sum(p.numel() for p in network.parameters()),
            environment={**environment(), "device": f"{device} {precision}"},
        )
    if not allocator_is_tuned() and device == "cpu":
        say("Advice: training on a CPU is faster with glibc's allocator tuned; the command line does it by itself.")
    _introduce(run, part, held_out)
    teller = _Teller(chosen, resumed_at=run.manifest.epochs_done if going_on else 0)
    try:
        with progress("Batches of this epoch") as bar:
            training.fit(run, network, part, held_out, device, going_on, seconds, teller.epoch, bar)
        _finish(run, held_out, device)
    except KeyboardInterrupt:
        say(f"Interrupted; go on with the same command and --resume. Run: {run.path}")
        raise
    return run


def parse_duration(text: str | float | None) -> float | None:
    """Seconds from minutes as a number, or from `90s`, `20m`, `3h`. Raises `RecipeError`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(text).strip())
    if match is None or float(match[1]) <= 0:
        raise RecipeError(f"--max-time {text}: write minutes (20), or 90s, 20m, 3h")
    return float(match[1]) * {"s": 1, "m": 60, "": 60, "h": 3600}[match[2]]


def parse_fold(fold: str) -> tuple[int, int]:
    """(k, n) of `k/n`. Raises `RecipeError`."""
    match = re.fullmatch(r"(\d+)/(\d+)", fold)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise RecipeError(f"--fold {fold}: write k/n with n at least 2 and k from 1 to n, such as 1/5")
    return int(match[1]), int(match[2])


def default_folder(recipe: Recipe, fold: str | None) -> Path:
    """runs/NAME, or runs/NAME-foldKofN."""
    if fold is None:
        return Path("runs") / recipe.name
    k, n = parse_fold(fold)
    return Path("runs") / f"{recipe.name}-fold{k}of{n}"


def make_split(recipe: Recipe, dataset: Dataset, scan: Scan, fold: str | None) -> Split:
    """The recipe's split of the labelled cases, or fold `k/n` over the cases that may validate."""
    rule = recipe.split
    if fold is not None:
        k, n = parse_fold(fold)
        sources = tuple(rule.rows) if isinstance(rule, Rows) else rule.validation_sources
        return splits.kfold(
            dataset.cases,
            n,
            k,
            recipe.seed,
            lesion=scan.lesion,
            hashes=scan.hashes,
            validation_sources=sources,
            train_sources=rule.train_sources,
        )
    if isinstance(rule, Rows):
        return splits.explicit(
            dataset.cases, rule.rows, seed=recipe.seed, hashes=scan.hashes, train_sources=rule.train_sources
        )
    return splits.holdout(
        dataset.cases,
        rule.fraction,
        recipe.seed,
        lesion=scan.lesion,
        hashes=scan.hashes,
        validation_sources=rule.validation_sources,
        train_sources=rule.train_sources,
    )


def _same_run(folder: Path, recipe: Recipe, fold: str | None) -> Run:
    run = Run.open(folder)
    if run.recipe != recipe:
        ours, theirs = recipe.model_dump(), run.recipe.model_dump()
        changed = next(key for key in ours if ours[key] != theirs[key])
        raise RunError(f"{folder}: was started with another recipe ('{changed}' differs); resume with the same one")
    if fold is not None and run.split.fold != fold:
        raise RunError(f"{folder}: is fold {run.split.fold or 'none'}, not {fold}")
    return run


def _warnings(dataset: Dataset, scan: Scan) -> list[str]:
    """The data's warnings, each kind once with its count and first place."""
    kinds: dict[str, list[str]] = {}
    for defect in (*dataset.defects, *scan.defects):
        kinds.setdefault(defect.kind, []).append(str(defect))
    return [f"{kind} ({len(texts)}): {texts[0]}" for kind, texts in kinds.items()]


def _introduce(run: Run, part: Sequence[Case], held_out: Sequence[Case]) -> None:
    m = run.manifest
    say(
        f"{run.recipe.name}: {len(part)} slices train, {len(held_out)} validate; "
        f"{m.parameters / 1e6:.2f} M parameters, {m.weights_from}; {m.environment.get('device', '')}"
    )
    for warning in m.data_warnings:
        say(f"  data warning: {warning}")


class _Teller:
    """Says each epoch in a line, with the time that the rest will likely take."""

    def __init__(self, recipe: Recipe, resumed_at: int) -> None:
        self.recipe = recipe
        self.first = resumed_at + 1
        self.spent: list[float] = []

    def epoch(self, row: dict[str, float]) -> None:
        self.spent.append(row["seconds"])
        left = (self.recipe.epochs - int(row["epoch"])) * sum(self.spent) / len(self.spent)
        say(
            f"epoch {int(row['epoch'])}/{self.recipe.epochs}  loss {row['train/loss']:.3f}, validation "
            f"{row['validation/loss']:.3f}  validation F1 of lesions {row['validation/f1_lesions']:.3f}  "
            f"{row['seconds']:.1f} s, about {duration(left)} left"
        )


def _finish(run: Run, held_out: Sequence[Case], device: str) -> None:
    """What follows the last epoch: thresholds, curves, and only then the word that the run is finished."""
    from groundglass.learning.engine import untuned_model_of
    from groundglass.measure.thresholds import tune
    from groundglass.model.predict import probabilities

    manifest, rule = run.manifest, run.recipe.decision
    if isinstance(rule, Thresholds) and isinstance(rule.values, dict):
        manifest.thresholds = {name: rule.values.get(name, 0.5) for name in label_set(run.recipe.labels).lesions}
    elif isinstance(rule, Thresholds):
        model = untuned_model_of(run, device)
        pairs = (
            (probabilities([model], case.image(), case.unit), model.labels.encode(case.labels())) for case in held_out
        )
        manifest.thresholds = tune(pairs, model.labels)
    watched = run.recipe.checkpoint.metric
    curves(run.curves, run.path / "curves.png", watched, title=run.recipe.name, kept=manifest.kept_epoch)
    ended = manifest.why_ended
    if ended != MAX_TIME:
        manifest.state = "finished"
    run.save()
    kept = f"kept epoch {manifest.kept_epoch} ({watched} {manifest.kept_value:.4f})"
    say(f"{ended}; {kept}; trained {duration(manifest.seconds)}. Run: {run.path}")
    if ended == MAX_TIME:
        say("Go on with the same command and --resume.")
