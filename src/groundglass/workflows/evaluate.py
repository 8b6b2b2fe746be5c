"""`groundglass evaluate`: score runs on cases they did not learn from, with intervals, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan
from groundglass.data.opening import open_dataset, refuse_errors
from groundglass.errors import DataError, RecipeError
from groundglass.files import write_csv, write_json
from groundglass.measure.cohorts import COLUMNS as COHORT_COLUMNS
from groundglass.measure.cohorts import CohortTable, cohort_table
from groundglass.measure.record import Record, write_record
from groundglass.measure.summary import CASE_COLUMNS, ROW_COLUMNS, Summary, summarise
from groundglass.measure.table import columns_of, estimates
from groundglass.measure.thresholds import tune_apart
from groundglass.model.decide import decide
from groundglass.model.predict import (
    Model,
    Roi,
    Tta,
    case_probabilities,
    check_tta,
    known_lungs,
    mean_thresholds,
    probabilities,
)
from groundglass.run import Run
from groundglass.workflows.certificate import leak_notes, told
from groundglass.workflows.choosing import Asked, Chosen, Part, check_folds, choose_cases, tuned_apart
from groundglass.workflows.deciding import as_asked, mark
from groundglass.workflows.extras import need_train
from groundglass.workflows.masks import Masks, choose_labels, fold_folders, is_mask_folder, open_masks
from groundglass.workflows.measuring import Answer, joined_groups, measure
from groundglass.workflows.opening import look, open_clean
from groundglass.workflows.recording import clusters_of, record_of_masks, record_of_runs

Keep = Callable[[Case, NDArray[np.float32], NDArray[np.uint8]], None]
# What `part` says of masks that no run of ours made.
MASKS = "masks"
_UNKNOWN_TRAINING = "masks from elsewhere: nobody knows which of these cases their maker has seen"
_HARD = (
    "masks carry no probabilities: protocol inf-net takes them as maps of 0 and 1, which suits it better than soft ones"
)


@dataclass(frozen=True)
class Evaluation:
    """Where the tables and figures are, what was scored, and the numbers.

    part: what the scored cases are to the runs, see `choosing.Chosen`, or `masks`; notes: what a reader must know to
    read the numbers rightly; about: the recipe, the runs, and the fingerprints of their data and of the scored data;
    record: all of it case by case, as measured.json holds it; certificate: what is known about leaks, in sentences;
    cohorts: scores by cohort beside trivial answers, None where the label set knows no lesion.
    """

    folder: Path
    part: str
    summary: Summary
    notes: tuple[str, ...]
    about: Mapping[str, Any]
    record: Record
    certificate: tuple[str, ...]
    cohorts: CohortTable | None = None
    figures: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What summary.json holds: everything but the cases."""
        return {
            "part": self.part,
            **self.about,
            **self.summary.to_dict(),
            "cohorts": None if self.cohorts is None else self.cohorts.to_dict(),
            "boundaries": self.boundaries(),
            "protocols": [found.model_dump() for found in self.record.protocols],
            "cost": self.record.cost.model_dump(),
            "certificate": list(self.certificate),
            "notes": list(self.notes),
        }

    def boundaries(self) -> dict[str, Any]:
        """Distances and areas, means over images with intervals, and the conventions behind them."""
        conventions = self.record.conventions
        columns = [
            c for c in columns_of(self.record.labels) if c.measure.name in ("hd95", "surface_dice", "area_error")
        ]
        clusters = [case.cluster for case in self.record.cases]
        cells = estimates(self.record, columns, clusters, self.summary.n_boot)
        rows = []
        for column, cell in zip(columns, cells, strict=True):
            numbers = {name: value for name, value in asdict(cell).items() if name != "best"}
            rows.append({"class": column.label, "measure": column.measure.name, **numbers})
        return {**conventions.model_dump(), "area_unit": conventions.area_unit, "rows": rows}


def evaluate(
    runs: Sequence[str | Path | Run],
    data: Locations,
    out: str | Path | None = None,
    part: Part = "held-out",
    tta: Tta = "none",
    device: str = "auto",
    bootstrap: int = 1000,
    figures: bool = True,
    labels: str | None = None,
    roi: Roi | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """Score one run, or several that are folds of one recipe (on their own data pooled out of fold, each case by the
    run that did not train on it; on other data their mean probability), named one by one or by a recipe's folder of a
    cross-validation; or one folder of masks of all labelled cases.

    part: `held-out` (the default: the run's validation cases; on other data than it was trained on, every case whose
    pixels it has not seen, nor those of its patient or volume), `train`, `test` (what `--test N` put aside; several
    runs answer by their mean probability), or `all`. What was scored is named in every table.
    out: folder of the tables, by default RUN/evaluation/PART of the first run, with the beginning of the fingerprint
    for other data; of masks MASKS/evaluation. Figures of held-out cases of a run's own data go to RUN/figures, others
    to `figures` in that folder; of masks there are none.
    bootstrap: resamples behind the intervals, 0 for none. labels: the label set to score masks in. roi, threshold:
    decide otherwise than the recipe says, see `deciding.as_asked`; the folder's name says so.
    Raises `RunError` for runs that are no folds of one recipe, `DataError`, `RecipeError`.
    """
    if part not in get_args(Part):
        raise RecipeError(f"--part {part}: choose {', '.join(get_args(Part))}")
    check_tta(tta)
    if len(runs) == 1 and not isinstance(runs[0], Run) and is_mask_folder(Path(runs[0])):
        if part != "held-out" or tta != "none" or roi is not None or threshold is not None:
            raise RecipeError(
                f"{runs[0]}: masks are finished and of no run; leave out --part, --tta, --roi and --threshold"
            )
        return _evaluate_masks(Path(runs[0]), data, out, bootstrap, labels)
    if labels is not None:
        raise RecipeError(f"--labels {labels}: is for masks; a run keeps the label set of its recipe")
    need_train()
    opened = [found for run in runs for found in ([run] if isinstance(run, Run) else _opened(Path(run)))]
    check_folds(opened)
    opened = [as_asked(run, roi, threshold) for run in opened]
    dataset, scan = open_clean(data, opened[0].recipe)
    return score(opened, dataset, scan, out, part, tta, device, bootstrap, figures, marked=mark(roi, threshold))


def _opened(path: Path) -> list[Run]:
    """The run in `path`, or the folds in a recipe's folder of a cross-validation. Raises `RunError`."""
    folds = fold_folders(path)
    return [Run.open(fold) for fold in folds] if folds else [Run.open(path)]


def score(
    opened: Sequence[Run],
    dataset: Dataset,
    scan: Scan,
    out: str | Path | None = None,
    part: Part = "held-out",
    tta: Tta = "none",
    device: str = "auto",
    bootstrap: int = 1000,
    figures: bool = True,
    notes: Sequence[str] = (),
    keep: Keep | None = None,
    marked: str = "",
) -> Evaluation:
    """`evaluate` for runs and data that are open already, for verbs that score more than once.

    notes: what its caller has to say besides; keep: called with every case, its probabilities [K, H, W] float32 and
    its decided channels [H, W] uint8; marked: added to the name of the folder.
    """
    chosen = choose_cases(opened, dataset, scan, part)
    chosen = replace(chosen, folder=chosen.folder + marked)
    models = _models(opened, chosen, dataset, tta, device)
    result = _measured(opened, models, chosen, dataset, scan, out, tta, device, bootstrap, notes, keep)
    write_tables(result)
    if not figures:
        return result
    from groundglass.workflows.figures import draw

    target = opened[0].figures if chosen.folder == "held-out" else result.folder / "figures"
    run = opened[0] if len(opened) == 1 else None
    return replace(result, figures=draw(target, run, chosen, models, result, tta, dataset))


def measure_runs(
    opened: Sequence[Run], dataset: Dataset, scan: Scan, device: str = "auto", bootstrap: int = 1000
) -> Evaluation:
    """What `score` would find of the held-out cases, without writing anything; see `write_tables`."""
    chosen = choose_cases(opened, dataset, scan, "held-out")
    models = _models(opened, chosen, dataset, "none", device)
    return _measured(opened, models, chosen, dataset, scan, None, "none", device, bootstrap, (), None)


def measure_masks(
    masks: Masks,
    cases: Sequence[Case],
    dataset: Dataset,
    scan: Scan,
    out: str | Path | None = None,
    bootstrap: int = 1000,
    labels: str | None = None,
) -> Evaluation:
    """Score masks of `cases`, without writing anything. Raises as `masks.choose_labels`."""
    chosen = choose_labels(masks, dataset, labels)
    answers = (Answer(case, masks.channels(case, chosen)) for case in cases)
    groups = joined_groups(dataset, clusters_of([], dataset, scan))
    found = measure(answers, cases, dataset, chosen, groups, "Measuring masks")
    summary = summarise(found.counts, chosen, 0, bootstrap)
    cohorts = cohort_table(found.counts, found.references, chosen, 0, bootstrap)
    notes = (_UNKNOWN_TRAINING, _HARD, f"scored in label set '{chosen.name}'")
    record = record_of_masks(masks, chosen, scan, MASKS, notes, found)
    folder = Path(out) if out is not None else masks.folder / "evaluation"
    about = {"masks": record.name, "scored_fingerprint": scan.fingerprint}
    certificate = ("leak certificate: none; nobody knows what these masks were made from",)
    return Evaluation(folder, MASKS, summary, (*notes, *summary.notes), about, record, certificate, cohorts)


def open_marked(data: Locations) -> tuple[Dataset, Scan]:
    """A data set without errors, whatever its labels, and the scan of its pixels. Raises `DataError`, also without
    masks."""
    dataset = open_dataset(data)
    refuse_errors(dataset.defects)
    if not dataset.cases:
        raise DataError(f"{dataset.location}: has no masks; there is nothing to compare with")
    return dataset, look(dataset, twins=False)


def write_tables(result: Evaluation) -> None:
    """Write the tables, summary.json and measured.json of an evaluation into its folder."""

    def write(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        write_csv(result.folder / name, ("part", *columns), ({"part": result.part, **row} for row in rows))

    negatives = [row.to_dict() for row in result.summary.negatives]
    write("cases.csv", CASE_COLUMNS, result.summary.per_case_rows())
    write("summary.csv", ROW_COLUMNS, result.summary.rows())
    write("negatives.csv", list(negatives[0]), negatives)
    if result.cohorts is not None:
        write("cohorts.csv", COHORT_COLUMNS, (row.to_dict() for row in result.cohorts.rows))
    write_record(result.folder, result.record)
    write_json(result.folder / "summary.json", result.to_dict())


def _evaluate_masks(
    folder: Path, data: Locations, out: str | Path | None, bootstrap: int, labels: str | None
) -> Evaluation:
    dataset, scan = open_marked(data)
    masks = open_masks(folder, dataset.cases, dataset)
    result = measure_masks(masks, dataset.cases, dataset, scan, out, bootstrap, labels)
    write_tables(result)
    return result


def _models(runs: Sequence[Run], chosen: Chosen, dataset: Dataset, tta: Tta, device: str) -> list[Model]:
    from groundglass.learning.engine import model_of

    models = [model_of(run, device) for run in runs]
    return _cross_fitted(runs, models, dataset, tta) if tuned_apart(runs, chosen.part) else models


def _measured(
    opened: Sequence[Run],
    models: Sequence[Model],
    chosen: Chosen,
    dataset: Dataset,
    scan: Scan,
    out: str | Path | None,
    tta: Tta,
    device: str,
    bootstrap: int,
    notes: Sequence[str],
    keep: Keep | None,
) -> Evaluation:
    first, labels = opened[0], models[0].labels
    if tuned_apart(opened, chosen.part):
        notes = (*notes, "each fold's thresholds were tuned on the held-out cases of the other folds")
    groups = joined_groups(dataset, clusters_of(opened, dataset, scan))
    cases = [case for case, _ in chosen.cases]
    found = measure(_answers(models, chosen.cases, tta, keep), cases, dataset, labels, groups, "Predicting")
    summary = summarise(found.counts, labels, first.recipe.seed, bootstrap)
    cohorts = cohort_table(found.counts, found.references, labels, first.recipe.seed, bootstrap)
    said = replace(chosen, notes=[*leak_notes(opened, scan), *chosen.notes, *notes])
    about = {
        "recipe": first.recipe.name,
        "runs": [run.path.name for run in opened],
        "data_fingerprints": sorted({run.manifest.data_fingerprint for run in opened}),
        "scored_fingerprint": scan.fingerprint,
        "tta": tta,
        "thresholds": [model.thresholds for model in models],
        **({"roi": models[0].roi} if models[0].first is not None else {}),
    }
    folder = Path(out) if out is not None else first.path / "evaluation" / chosen.folder
    record = record_of_runs(opened, models, said, scan, tta, device, found)
    certificate = tuple(told(opened, scan))
    return Evaluation(folder, chosen.part, summary, (*said.notes, *summary.notes), about, record, certificate, cohorts)


def _cross_fitted(runs: Sequence[Run], models: Sequence[Model], dataset: Dataset, tta: Tta) -> list[Model]:
    """The models of folds, each with thresholds from the held-out cases of the others, answered by their own folds."""
    cases = {case.id: case for case in dataset.cases}

    def held_out(run: Run, model: Model) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        for case in (cases[case_id] for case_id in run.split.validation):
            yield case_probabilities([model], case, tta), model.labels.encode(case.labels())

    parts = [held_out(run, model) for run, model in zip(runs, models, strict=True)]
    found = tune_apart(parts, models[0].labels)
    return [replace(model, thresholds=thresholds) for model, thresholds in zip(models, found, strict=True)]


def _answers(models: Sequence[Model], cases: Sequence[Asked], tta: Tta, keep: Keep | None) -> Iterator[Answer]:
    for case, which in cases:
        asked, image = [models[i] for i in which], case.image()
        lungs = known_lungs(asked, case)
        began = perf_counter()
        p = probabilities(asked, image, case.unit, tta, lungs)
        prediction = decide(p, asked[0].labels, mean_thresholds(asked))
        seconds = perf_counter() - began
        if keep is not None:
            keep(case, p, prediction)
        yield Answer(case, prediction, p, seconds)
