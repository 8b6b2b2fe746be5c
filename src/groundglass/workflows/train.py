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
from groundglass.data.opening import open_dataset, require_clean
from groundglass.data.splits import Split
from groundglass.errors import RecipeError, RunError
from groundglass.labels import BY_NAME, LABEL_SETS, label_set
from groundglass.recipes import Recipe
from groundglass.recipes.settings import Rows, Thresholds
from groundglass.run import Run, environment
from groundglass.show.curves import curves
from groundglass.show.progress import duration, progress, say
from groundglass.workflows.extras import need_train


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
    chosen = recipe if isinstance(recipe, Recipe) else recipes.load(recipe, settings)
    seconds = parse_duration(max_time)
    folder = Path(out) if out is not None else default_folder(chosen, fold)
    if resume:
        run = _same_run(folder, chosen, fold)
        if run.manifest.state == "finished":
            say(f"{folder}: is finished already ({run.manifest.why_ended})")
            return run
    elif (folder / "run.json").exists():
        raise RunError(f"{folder}: a run is there already; go on with --resume, or choose another --out")

    from groundglass.learning import training
    from groundglass.learning.allocator import allocator_is_tuned
    from groundglass.learning.device import choose_device, choose_precision
    from groundglass.networks.building import build, build_for_training

    device = choose_device(device)
    choose_precision(chosen, device)
    dataset = open_dataset(data)
    require_clean(dataset, pixels=False)
    check_classes(chosen, dataset)
    with progress("Checking every image and mask") as bar:
        scan = require_clean(dataset, progress=bar)
    if scan is None:
        raise RunError(f"{data}: was not scanned")
    if resume:
        if scan.fingerprint != run.manifest.data_fingerprint:
            raise RunError(f"{folder}: was trained on other data than {data} (the fingerprints differ)")
        split = run.split
    else:
        split = make_split(chosen, dataset, scan, fold)
    cases = {case.id: case for case in dataset.cases}
    part = [cases[i] for i in split.train]
    held_out = [cases[i] for i in split.validation]
    if not part or not held_out:
        raise RecipeError(f"the split leaves {len(part)} cases to train and {len(held_out)} to validate; none may be 0")
    if resume:
        network = build(chosen)
    else:
        # Everything that can be refused is refused before anything is written.
        network, origin = build_for_training(chosen, encoder_weights, download)
        mean, std = training.measure_training_part(chosen, part)
        run = Run.create(
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
            environment={**environment(), "device": f"{device} {choose_precision(chosen, device)}"},
        )
    if not allocator_is_tuned() and device == "cpu":
        say("Advice: training on a CPU is faster with glibc's allocator tuned; the command line does it by itself.")
    _introduce(run, part, held_out)
    teller = _Teller(chosen, resumed_at=run.manifest.epochs_done if resume else 0)
    try:
        training.fit(
            run,
            network,
            part,
            held_out,
            device,
            resume,
            seconds,
            report=teller.epoch,
        )
    except KeyboardInterrupt:
        say(f"Interrupted; go on with the same command and --resume. Run: {run.path}")
        raise
    _finish(run, held_out, device)
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


def check_classes(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `RecipeError` unless the data's masks and the recipe's label set name the same things."""
    chosen = label_set(recipe.labels)
    if not dataset.cases:
        raise RecipeError(f"{dataset.location}: has no masks; there is nothing to learn from")
    fitting = [s.name for s in LABEL_SETS.values() if s.covers(dataset.classes) and _all_labelled(s.classes, dataset)]
    hint = f"--set labels={fitting[0]}" if fitting else "no shipped label set fits this data"
    if not chosen.covers(dataset.classes):
        extra = next(name for name in dataset.classes if name not in chosen.classes and name not in chosen.merges)
        raise RecipeError(
            f"{dataset.location}: labels '{extra}', which label set '{chosen.name}' has no class for; {hint}"
        )
    if not _all_labelled(chosen.classes, dataset):
        missing = next(name for name in chosen.classes if not _labelled(name, dataset))
        raise RecipeError(
            f"{dataset.location}: does not label '{missing}', which label set '{chosen.name}' of recipe "
            f"'{recipe.name}' learns; {hint}"
        )


def _all_labelled(names: Sequence[str], dataset: Dataset) -> bool:
    return all(_labelled(name, dataset) for name in names)


def _labelled(name: str, dataset: Dataset) -> bool:
    if name == "lesion":
        return any(BY_NAME[known].lesion for known in dataset.classes)
    return name in dataset.classes


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
            validation_sources=sources,
            train_sources=rule.train_sources,
        )
    if isinstance(rule, Rows):
        return splits.explicit(dataset.cases, rule.rows, seed=recipe.seed, train_sources=rule.train_sources)
    return splits.holdout(
        dataset.cases,
        rule.fraction,
        recipe.seed,
        lesion=scan.lesion,
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
    from groundglass.learning.engine import model_of
    from groundglass.measure.thresholds import tune
    from groundglass.model.predict import probabilities

    manifest, rule = run.manifest, run.recipe.decision
    if isinstance(rule, Thresholds):
        if rule.values == "tuned":
            model = model_of(run, device)
            pairs = (
                (probabilities([model], case.image(), case.unit), model.labels.encode(case.labels()))
                for case in held_out
            )
            manifest.thresholds = tune(pairs, model.labels)
        else:
            manifest.thresholds = {name: rule.values.get(name, 0.5) for name in label_set(run.recipe.labels).lesions}
        run.save()
    curves(run.curves, run.path / "curves.png", monitor=run.recipe.checkpoint.metric, title=run.recipe.name)
    best = f"best epoch {manifest.best_epoch} ({run.recipe.checkpoint.metric} {manifest.best_value:.4f})"
    say(f"{manifest.why_ended}; {best}; trained {duration(manifest.seconds)}. Run: {run.path}")
    if manifest.state == "interrupted":
        say("Go on with the same command and --resume.")
