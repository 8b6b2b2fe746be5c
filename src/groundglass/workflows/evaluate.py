"""`groundglass evaluate`: score runs on cases they did not learn from, with intervals, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.opening import open_dataset, require_clean
from groundglass.errors import RecipeError, RunError
from groundglass.files import write_csv, write_json
from groundglass.measure.counts import CaseCounts, count
from groundglass.measure.summary import CASE_COLUMNS, ROW_COLUMNS, Summary, summarise
from groundglass.model.decide import decide
from groundglass.model.predict import Model, Tta, check_tta, mean_thresholds, probabilities
from groundglass.run import Run
from groundglass.show.progress import progress, say
from groundglass.workflows.extras import need_train
from groundglass.workflows.train import check_classes

Part = Literal["held-out", "train", "all"]


@dataclass(frozen=True)
class Evaluation:
    """Where the tables and figures are, what was scored, and the numbers."""

    folder: Path
    part: str
    summary: Summary
    figures: tuple[Path, ...]


def evaluate(
    runs: Sequence[str | Path | Run],
    data: str | Path,
    out: str | Path | None = None,
    part: Part = "held-out",
    tta: Tta = "none",
    device: str = "auto",
    bootstrap: int = 1000,
    figures: bool = True,
) -> Evaluation:
    """Score one run, or several that are folds of one recipe (pooled out of fold, each case by the run that did not
    train on it).

    part: `held-out` (the default: the run's validation cases; on other data than it was trained on, every case whose
    pixels it has not seen), `train`, or `all`. Anything but `held-out` is named so in every table.
    out: folder of the tables, by default RUN/evaluation/PART; figures go to RUN/figures.
    bootstrap: resamples behind the intervals, 0 for none.
    Raises `RunError` for runs that are no folds of one recipe, `DataError`, `RecipeError`.
    """
    need_train()
    if part not in get_args(Part):
        raise RecipeError(f"--part {part}: choose {', '.join(get_args(Part))}")
    check_tta(tta)
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    check_folds(opened)
    from groundglass.learning.engine import model_of

    dataset = open_dataset(data)
    require_clean(dataset, pixels=False)
    check_classes(opened[0].recipe, dataset)
    with progress("Checking every image and mask") as bar:
        scan = require_clean(dataset, progress=bar)
    if scan is None:
        raise RunError(f"{data}: was not scanned")
    chosen, notes = choose_cases(opened, dataset, scan, part)
    models = [model_of(run, device) for run in opened]
    labels = models[0].labels
    counted: list[CaseCounts] = []
    with progress("Predicting", len(chosen)) as bar:
        for done, (case, which) in enumerate(chosen, start=1):
            _, prediction = answer([models[i] for i in which], case, tta)
            counted.append(count(case, labels.encode(case.labels()), prediction, len(labels.classes)))
            bar(done)
    summary = summarise(counted, labels, seed=opened[0].recipe.seed, n_boot=bootstrap)
    first = opened[0]
    folder = Path(out) if out is not None else first.path / "evaluation" / (part if len(opened) == 1 else "out-of-fold")
    _write_tables(folder, summary, part, tta, opened, notes)
    for note in notes:
        say(f"note: {note}")
    drawn: tuple[Path, ...] = ()
    if figures:
        from groundglass.workflows.figures import draw

        drawn = draw(first if len(opened) == 1 else None, folder, chosen, models, summary, tta, dataset)
    return Evaluation(folder, part, summary, drawn)


def answer(models: Sequence[Model], case: Case, tta: Tta) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [K, H, W] and decided channels [H, W] of a case on its own grid."""
    p = probabilities(models, case.image(), case.unit, tta)
    return p, decide(p, models[0].labels, mean_thresholds(models))


def check_folds(runs: Sequence[Run]) -> None:
    """Raise `RunError` unless there is one run, or all are folds of one recipe on the same data."""
    if not runs:
        raise RunError("name at least one run")
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.model_dump(exclude={"name"}) != first.recipe.model_dump(exclude={"name"}):
            raise RunError(f"{run.path}: is no fold of the recipe of {first.path}; evaluate them one by one")
        if run.manifest.data_fingerprint != first.manifest.data_fingerprint:
            raise RunError(f"{run.path}: was trained on other data than {first.path}; evaluate them one by one")
    folds = [run.split.fold for run in runs]
    if len(runs) > 1 and (None in folds or len(set(folds)) < len(folds)):
        raise RunError("several runs must be different folds (trained with --fold k/n) of one recipe")


def choose_cases(
    runs: Sequence[Run], dataset: Dataset, scan: Scan, part: Part
) -> tuple[list[tuple[Case, list[int]]], list[str]]:
    """Cases to score, each with the positions of the runs that answer for it, and notes a reader must see.

    Raises `RunError` when nothing is left.
    """
    notes = [
        f"{run.path.name}: training is not finished ({run.manifest.why_ended})" for run in runs if _unfinished(run)
    ]
    same = all(run.manifest.data_fingerprint == scan.fingerprint for run in runs)
    chosen: list[tuple[Case, list[int]]] = []
    if same:
        trained = [set(run.split.train) for run in runs]
        validated = [set(run.split.validation) for run in runs]
        wanted: Callable[[Case, int], bool] = {
            "held-out": lambda case, i: case.id in validated[i],
            "train": lambda case, i: case.id in trained[i],
            "all": lambda case, i: True,
        }[part]
        for case in dataset.cases:
            which = [i for i in range(len(runs)) if wanted(case, i)]
            if which:
                chosen.append((case, which))
        if part != "held-out":
            inside = sum(any(case.id in trained[i] for i in which) for case, which in chosen)
            notes.append(f"{inside} of {len(chosen)} cases were trained on: this is not a held-out score")
    else:
        seen = {run.manifest.case_hashes.get(case_id) for run in runs for case_id in run.split.train}
        every = list(range(len(runs)))
        chosen = [(c, every) for c in dataset.cases if part != "held-out" or scan.hashes[c.id] not in seen]
        left_out = len(dataset.cases) - len(chosen)
        if left_out:
            notes.append(f"{left_out} cases have the very pixels of a training case and were left out")
        notes.append("other data than the run was trained on; only exact copies of training cases were looked for")
    if not chosen:
        raise RunError(f"no case of this data is {part} for {', '.join(run.path.name for run in runs)}")
    if dataset.patients == "not known":
        notes.append("patients are not known: slices of one patient may lie on both sides of the split")
    return chosen, notes


def _unfinished(run: Run) -> bool:
    return run.manifest.state != "finished"


def _write_tables(
    folder: Path, summary: Summary, part: str, tta: str, runs: Sequence[Run], notes: Sequence[str]
) -> None:
    about = {
        "part": part if len(runs) == 1 else "out-of-fold",
        "recipe": runs[0].recipe.name,
        "runs": [run.path.name for run in runs],
        "data_fingerprints": sorted({run.manifest.data_fingerprint for run in runs}),
        "tta": tta,
        "thresholds": [run.manifest.thresholds for run in runs],
        "run_notes": list(notes),
    }
    write_csv(folder / "cases.csv", CASE_COLUMNS, summary.per_case_rows())
    write_csv(folder / "summary.csv", ROW_COLUMNS, summary.rows())
    negatives = [row.to_dict() for row in summary.negatives]
    write_csv(folder / "negatives.csv", list(negatives[0]), negatives)
    write_json(folder / "summary.json", {**about, **summary.to_dict()})
