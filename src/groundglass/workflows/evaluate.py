"""`groundglass evaluate`: score runs on cases they did not learn from, with intervals, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from groundglass.case import Case
from groundglass.errors import RecipeError
from groundglass.files import write_csv, write_json
from groundglass.measure.counts import CaseCounts, count
from groundglass.measure.summary import CASE_COLUMNS, ROW_COLUMNS, Summary, summarise
from groundglass.model.decide import decide
from groundglass.model.predict import Model, Tta, check_tta, mean_thresholds, probabilities
from groundglass.run import Run
from groundglass.show.progress import progress
from groundglass.workflows.choosing import Asked, Part, check_folds, choose_cases
from groundglass.workflows.extras import need_train
from groundglass.workflows.opening import open_clean


@dataclass(frozen=True)
class Evaluation:
    """Where the tables and figures are, what was scored, and the numbers.

    part: what the scored cases are to the runs, see `choosing.Chosen`; notes: what a reader must know to read the
    numbers rightly; about: the recipe, the runs, and the fingerprints of their data and of the scored data.
    """

    folder: Path
    part: str
    summary: Summary
    notes: tuple[str, ...]
    about: Mapping[str, Any]
    figures: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What summary.json holds: everything but the cases."""
        return {"part": self.part, **self.about, **self.summary.to_dict(), "notes": list(self.notes)}


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
    """Score one run, or several that are folds of one recipe (on their own data pooled out of fold, each case by the
    run that did not train on it; on other data their mean probability).

    part: `held-out` (the default: the run's validation cases; on other data than it was trained on, every case whose
    pixels it has not seen, nor those of its patient or volume), `train`, or `all`. What was scored is named in every
    table.
    out: folder of the tables, by default RUN/evaluation/PART of the first run, with the beginning of the fingerprint
    for other data. Figures of held-out cases of a run's own data go to RUN/figures, others to `figures` in that folder.
    bootstrap: resamples behind the intervals, 0 for none.
    Raises `RunError` for runs that are no folds of one recipe, `DataError`, `RecipeError`.
    """
    need_train()
    if part not in get_args(Part):
        raise RecipeError(f"--part {part}: choose {', '.join(get_args(Part))}")
    check_tta(tta)
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    check_folds(opened)
    first = opened[0]
    from groundglass.learning.engine import model_of

    dataset, scan = open_clean(data, first.recipe)
    chosen = choose_cases(opened, dataset, scan, part)
    models = [model_of(run, device) for run in opened]
    summary = summarise(_counted(models, chosen.cases, tta), models[0].labels, first.recipe.seed, bootstrap)
    folder = Path(out) if out is not None else first.path / "evaluation" / chosen.folder
    about = {
        "recipe": first.recipe.name,
        "runs": [run.path.name for run in opened],
        "data_fingerprints": sorted({run.manifest.data_fingerprint for run in opened}),
        "scored_fingerprint": scan.fingerprint,
        "tta": tta,
        "thresholds": [run.manifest.thresholds for run in opened],
    }
    result = Evaluation(folder, chosen.part, summary, (*chosen.notes, *summary.notes), about)
    _write_tables(result)
    if not figures:
        return result
    from groundglass.workflows.figures import draw

    target = first.figures if chosen.part == "held-out" else folder / "figures"
    run = first if len(opened) == 1 else None
    return replace(result, figures=draw(target, run, chosen, models, summary, tta, dataset))


def answer(models: Sequence[Model], case: Case, tta: Tta) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [K, H, W] and decided channels [H, W] of a case on its own grid."""
    p = probabilities(models, case.image(), case.unit, tta)
    return p, decide(p, models[0].labels, mean_thresholds(models))


def _counted(models: Sequence[Model], cases: Sequence[Asked], tta: Tta) -> list[CaseCounts]:
    labels = models[0].labels
    counted = []
    with progress("Predicting", len(cases)) as bar:
        for done, (case, which) in enumerate(cases, start=1):
            _, prediction = answer([models[i] for i in which], case, tta)
            counted.append(count(case, labels.encode(case.labels()), prediction, len(labels.classes)))
            bar(done)
    return counted


def _write_tables(result: Evaluation) -> None:
    def write(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        write_csv(result.folder / name, ("part", *columns), ({"part": result.part, **row} for row in rows))

    negatives = [row.to_dict() for row in result.summary.negatives]
    write("cases.csv", CASE_COLUMNS, result.summary.per_case_rows())
    write("summary.csv", ROW_COLUMNS, result.summary.rows())
    write("negatives.csv", list(negatives[0]), negatives)
    write_json(result.folder / "summary.json", result.to_dict())
