"""`groundglass train`: a recipe and a data set in, a run folder out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from groundglass import recipes
from groundglass.case import Case
from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RecipeError, RunError
from groundglass.files import sweep, write_csv
from groundglass.labels import label_set
from groundglass.recipes import Recipe
from groundglass.recipes.settings import Thresholds
from groundglass.run import MAX_TIME, Run, environment
from groundglass.show.curves import curves
from groundglass.show.progress import duration, progress, say
from groundglass.workflows.certificate import write_certificate
from groundglass.workflows.dividing import make_split, parse_fold
from groundglass.workflows.extras import need_train
from groundglass.workflows.opening import open_clean
from groundglass.workflows.starting import open_first_stage, stamped, start_run

Row = dict[str, float]


def train(
    recipe: str | Path | Recipe,
    data: Locations,
    out: str | Path | None = None,
    fold: str | None = None,
    resume: bool = False,
    max_time: str | float | None = None,
    encoder_weights: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    settings: Sequence[str] = (),
    test: int = 0,
    start_from: str | Path | None = None,
    first_stage: str | Path | None = None,
) -> Run:
    """Train `recipe` (a shipped name, a YAML file or a `Recipe`) on a data set; returns the run.

    out: the run folder, by default runs/NAME[-foldKofN]. fold: `k/n` of a cross-validation instead of the recipe's
    split. test: so many cases or a few more, in whole groups, are put aside: they neither train nor validate, and
    `evaluate --part test` scores them. resume: go on where the run in `out` stopped. max_time: minutes (20), or with a
    unit (90s, 20m, 3h); the run can be resumed. encoder_weights: file of ImageNet weights; download: allow the library
    to fetch them. device: auto, cpu or cuda. settings: changes to the recipe such as `epochs=5`. start_from: begin with
    the weights of this run, which must not have trained on what is held out here. first_stage: the run that finds the
    lungs, for a recipe with `first_stage`; the new run keeps a copy of it.
    Raises `DataError`, `RecipeError`, `RunError` or `WeightsError`; KeyboardInterrupt leaves a resumable run.
    """
    need_train()
    chosen = recipes.change(recipe, settings) if isinstance(recipe, Recipe) else recipes.load(recipe, settings)
    seconds = parse_duration(max_time)
    folder = Path(out) if out is not None else default_folder(chosen, fold)
    begun = begun_run(folder, chosen, fold) if resume else None
    if begun is not None and begun.manifest.state == "finished":
        say(f"{folder}: is finished already ({begun.manifest.why_ended})")
        return begun
    if begun is None and (folder / "run.json").exists():
        raise RunError(f"{folder}: a run is there already; go on with --resume, or choose another --out")

    from groundglass.learning.allocator import allocator_is_tuned
    from groundglass.learning.device import choose_device, choose_precision

    device = choose_device(device)
    choose_precision(chosen, device)
    first = open_first_stage(first_stage, chosen, begun)
    if start_from is not None and first is not None and chosen.first_stage and chosen.first_stage.weights != "none":
        raise RecipeError("--start-from brings all weights; say --set first_stage.weights=none")
    dataset, scan = open_clean(data, chosen, twins=begun is None or bool(test))
    split = make_split(chosen, dataset, scan, fold, test) if begun is None or test else begun.split
    if begun is not None:
        check_same_data(begun, scan, dataset)
        if set(split.test) != set(begun.split.test):
            raise RunError(f"{folder}: was started with another test part than --test {test}; leave --test out")
        split = begun.split
    if first is not None and begun is None:
        split = stamped(split, first, dataset, scan)
    if not allocator_is_tuned() and device == "cpu":
        say("Advice: training on a CPU is faster with glibc's allocator tuned; the command line does it by itself.")
    start = None
    if start_from is not None and (begun is None or not begun.last.is_file()):
        if encoder_weights is not None:
            raise RecipeError("--start-from brings all weights; leave out --encoder-weights")
        start = start_run(start_from, fold, split, dataset, scan)
    order = Order(chosen, split, folder, begun, seconds, encoder_weights, download, device, start, first)
    try:
        run = train_split(order, dataset, scan)
    except KeyboardInterrupt:
        if (folder / "run.json").is_file():
            say(f"Interrupted; go on with the same command and --resume. Run: {folder}")
        raise
    if run.manifest.why_ended == MAX_TIME:
        say("Go on with the same command and --resume.")
    return run


@dataclass(frozen=True)
class Order:
    """One training that is to be done: what is left of a verb's options when the data are open.

    begun: the run in `folder` to go on with; seconds: stop, resumable, after so much training; device: cpu or cuda;
    start: the run whose weights to begin with; first: the run that finds the lungs.
    """

    recipe: Recipe
    split: Split
    folder: Path
    begun: Run | None = None
    seconds: float | None = None
    encoder_weights: str | Path | None = None
    download: bool = False
    device: str = "cpu"
    start: Run | None = None
    first: Run | None = None


def train_split(
    order: Order,
    dataset: Dataset,
    scan: Scan,
    tell: Callable[[str], None] = say,
    report: Callable[[Row], None] | None = None,
    bar: bool = True,
) -> Run:
    """Train on data that are open and divided already.

    tell: takes each line that is to be said; report: takes each epoch's row (None: it is said with the time left);
    bar: show the batches of an epoch. Raises as `train`; everything that can be refused is refused before anything is
    written.
    """
    from groundglass.learning import training
    from groundglass.learning.device import choose_precision
    from groundglass.learning.engine import lungs_for, network_from
    from groundglass.networks.building import build

    recipe, split, begun = order.recipe, order.split, order.begun
    cases = {case.id: case for case in dataset.cases}
    part, held_out = [cases[i] for i in split.train], [cases[i] for i in split.validation]
    if not part or not held_out:
        raise RecipeError(f"the split leaves {len(part)} cases to train and {len(held_out)} to validate; none may be 0")
    # A run that was stopped in its first epoch has nothing to go on from: it starts anew in its folder.
    going_on = begun is not None and begun.last.is_file()
    if begun is not None and going_on:
        run, network = begun, build(recipe)
        sweep(order.folder)
    else:
        earlier = sorted(set().union(*(run.trained_hashes() for run in (order.start, order.first) if run is not None)))
        if begun is not None and earlier != begun.manifest.earlier_hashes:
            # What it remembers of who was seen would be wrong.
            again = "give the same --start-from again" if begun.manifest.earlier_hashes else "leave out --start-from"
            raise RunError(f"{order.folder}: was stopped in its first epoch; {again} to begin anew")
        network, origin, taken = network_from(order.start, order.first, recipe, order.encoder_weights, order.download)
        mean, std = training.measure_training_part(recipe, part)
        run = begun or Run.create(
            order.folder,
            recipe,
            split,
            data_format=dataset.format,
            data_fingerprint=scan.fingerprint,
            data_warnings=_warnings(dataset, scan),
            patients_known=dataset.patients,
            case_hashes=dict(scan.hashes),
            mean=mean,
            std=std,
            class_pixels=training.count_classes(label_set(recipe.labels), part),
            weights_from=origin,
            earlier_hashes=earlier,
            parameters=sum(p.numel() for p in network.parameters()),
            environment={**environment(), "device": f"{order.device} {choose_precision(recipe, order.device)}"},
        )
        if order.first is not None:
            run.keep_first_stage(order.first)
        if taken:
            write_csv(run.path / "tensors.csv", list(taken[0]), taken)
        write_certificate(run, dataset, scan)
    _introduce(run, part, held_out, tell)
    spent: list[float] = []

    def say_epoch(row: Row) -> None:
        spent.append(row["seconds"])
        left = (recipe.epochs - int(row["epoch"])) * sum(spent) / len(spent)
        tell(epoch_line(recipe, row, f"about {duration(left)} left"))

    with progress("Batches of this epoch") if bar else nullcontext(lambda done, total=None: None) as batch:
        lungs = lungs_for(run, order.device)
        training.fit(
            run, network, part, held_out, order.device, going_on, order.seconds, report or say_epoch, batch, lungs
        )
    _finish(run, held_out, order.device, tell)
    return run


def parse_duration(text: str | float | None) -> float | None:
    """Seconds from minutes as a number, or from `90s`, `20m`, `3h`. Raises `RecipeError`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(text).strip())
    if match is None or float(match[1]) <= 0:
        raise RecipeError(f"--max-time {text}: write minutes (20), or 90s, 20m, 3h")
    return float(match[1]) * {"s": 1, "m": 60, "": 60, "h": 3600}[match[2]]


def default_folder(recipe: Recipe, fold: str | None) -> Path:
    """runs/NAME, or runs/NAME-foldKofN."""
    if fold is None:
        return Path("runs") / recipe.name
    k, n = parse_fold(fold)
    return Path("runs") / f"{recipe.name}-fold{k}of{n}"


def begun_run(folder: Path, recipe: Recipe, fold: str | None) -> Run:
    """The run in `folder`. Raises `RunError` unless it is one of this recipe and fold."""
    run = Run.open(folder)
    if run.recipe != recipe:
        ours, theirs = recipe.model_dump(), run.recipe.model_dump()
        changed = next(key for key in ours if ours[key] != theirs[key])
        raise RunError(f"{folder}: was started with another recipe ('{changed}' differs); resume with the same one")
    if fold is not None and run.split.fold != fold:
        raise RunError(f"{folder}: is fold {run.split.fold or 'none'}, not {fold}")
    return run


def check_same_data(run: Run, scan: Scan, dataset: Dataset) -> None:
    """Raise `RunError` unless the run was started on these very data."""
    if scan.fingerprint != run.manifest.data_fingerprint:
        raise RunError(f"{run.path}: was trained on other data than {dataset.location} (the fingerprints differ)")


def _warnings(dataset: Dataset, scan: Scan) -> list[str]:
    """The data's warnings, each kind once with its count and first place."""
    kinds: dict[str, list[str]] = {}
    for defect in (*dataset.defects, *scan.defects):
        kinds.setdefault(defect.kind, []).append(str(defect))
    return [f"{kind} ({len(texts)}): {texts[0]}" for kind, texts in kinds.items()]


def _introduce(run: Run, part: Sequence[Case], held_out: Sequence[Case], tell: Callable[[str], None]) -> None:
    m, aside = run.manifest, len(run.split.test)
    tell(
        f"{run.recipe.name}: {len(part)} slices train, {len(held_out)} validate"
        f"{f', {aside} are put aside as test' if aside else ''}; "
        f"{m.parameters / 1e6:.2f} M parameters, {m.weights_from}; {m.environment.get('device', '')}"
    )
    for warning in m.data_warnings:
        tell(f"  data warning: {warning}")


def epoch_line(recipe: Recipe, row: Row, left: str) -> str:
    """What is said of an epoch; left: of the time that the rest takes."""
    labels = label_set(recipe.labels)
    label = "lesions" if labels.lesions else labels.targets[0]
    return (
        f"epoch {int(row['epoch'])}/{recipe.epochs}  loss {row['train/loss']:.3f}, validation "
        f"{row['validation/loss']:.3f}  validation F1 of {label} {row[f'validation/f1_{label}']:.3f}  "
        f"{row['seconds']:.1f} s, {left}"
    )


def _finish(run: Run, held_out: Sequence[Case], device: str, tell: Callable[[str], None]) -> None:
    """What follows the last epoch: thresholds, curves, and only then the word that the run is finished."""
    from groundglass.learning.engine import untuned_model_of
    from groundglass.measure.thresholds import tune
    from groundglass.model.predict import case_probabilities

    manifest, rule = run.manifest, run.recipe.decision
    if isinstance(rule, Thresholds) and isinstance(rule.values, dict):
        manifest.thresholds = {name: rule.values.get(name, 0.5) for name in label_set(run.recipe.labels).lesions}
    elif isinstance(rule, Thresholds):
        model = untuned_model_of(run, device)
        pairs = ((case_probabilities([model], case), model.labels.encode(case.labels())) for case in held_out)
        manifest.thresholds = tune(pairs, model.labels)
    watched = run.recipe.checkpoint.metric
    curves(run.curves, run.path / "curves.png", watched, title=run.recipe.name, kept=manifest.kept_epoch)
    ended = manifest.why_ended
    if ended != MAX_TIME:
        manifest.state = "finished"
    run.save()
    kept = f"kept epoch {manifest.kept_epoch} ({watched} {manifest.kept_value:.4f})"
    tell(f"{ended}; {kept}; trained {duration(manifest.seconds)}. Run: {run.path}")
