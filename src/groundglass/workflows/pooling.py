"""What a cross-validation says of its finished folds: pooled scores, the test part, predictions and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.errors import RunError
from groundglass.files import sweep, write_json
from groundglass.labels import LABEL_SETS, label_set
from groundglass.measure.record import main_label
from groundglass.run import Run
from groundglass.show.progress import say
from groundglass.workflows.choosing import Part
from groundglass.workflows.curves import draw_together, learned

# The average of the Dice that ranks recipes.
AVERAGE = "per image, positives"
OUT_OF_FOLD, TEST = "out-of-fold", "test"
# Written last into a folder of scores: the runs that they are of.
_SCORED = "scored.json"


@dataclass(frozen=True)
class Score:
    """Mean Dice with its interval; label: any lesion, or the class of a label set without lesions; n: the images that
    hold it, of which the mean is."""

    value: float
    low: float
    high: float
    n: int
    label: str


@dataclass(frozen=True)
class RecipeResult:
    """One recipe. finished, missing: folds from 1; out_of_fold: of the finished folds; test: of all folds together.
    None where there is no score yet."""

    name: str
    folder: Path
    finished: tuple[int, ...]
    missing: tuple[int, ...]
    out_of_fold: Score | None
    test: Score | None


def fold_folder(folder: Path, recipe: str, k: int, n: int) -> Path:
    return folder / recipe / f"fold{k}of{n}"


def collect(
    folder: Path,
    names: Sequence[str],
    folds: int,
    with_test: bool,
    dataset: Dataset,
    scan: Scan,
    device: str,
    save_probabilities: bool,
    figures: bool,
) -> tuple[RecipeResult, ...]:
    """Score and draw in `folder` what is not yet, for every recipe of `names`. with_test: a test part was put aside."""
    results, runs, changed = [], {}, False
    for name in names:
        found = {k: fold_folder(folder, name, k, folds) for k in range(1, folds + 1)}
        opened = {k: Run.open(path) for k, path in found.items() if (path / "run.json").exists()}
        done = {k: run for k, run in opened.items() if run.manifest.state == "finished"}
        missing = tuple(k for k in found if k not in done)
        target = folder / name
        pooled, tested = target / OUT_OF_FOLD, target / TEST
        if done:
            runs[name] = list(done.values())
            notes = _notes(folds, missing, runs[name])
            common = (runs[name], dataset, scan, device, save_probabilities, figures)
            if _score(pooled, "held-out", notes, *common):
                _draw_curves(target, name, done, folds)
                changed = True
            # The test part is looked at once, when nothing can change any more.
            if with_test and not missing:
                _score(tested, "test", [], *common)
        out_of_fold = _read_score(pooled) if done else None
        test = _read_score(tested) if with_test and not missing else None
        results.append(RecipeResult(name, target, tuple(done), missing, out_of_fold, test))
    if runs and (changed or not all((folder / f"curves{suffix}").exists() for suffix in (".csv", ".png"))):
        draw_together(runs, folder / "curves.png", f"Cross-validation over {folds} folds")
    return tuple(results)


def _notes(folds: int, missing: Sequence[int], done: Sequence[Run]) -> list[str]:
    if not missing:
        return []
    scored = sum(len(run.split.validation) for run in done)
    named = ", ".join(f"{k}/{folds}" for k in missing)
    return [f"only {scored} cases are scored here; those of folds {named} wait until these are finished"]


def _score(
    target: Path,
    part: Part,
    notes: Sequence[str],
    runs: Sequence[Run],
    dataset: Dataset,
    scan: Scan,
    device: str,
    save_probabilities: bool,
    figures: bool,
) -> bool:
    """Score runs into `target`, unless it holds their scores already; says whether it had to."""
    from groundglass.workflows.evaluate import score

    key = {
        "runs": {run.path.name: [run.manifest.created, run.manifest.kept_epoch] for run in runs},
        "probabilities": save_probabilities,
        "figures": figures,
    }
    if _covers(target, key):
        return False
    if target.exists():
        sweep(target)
        (target / _SCORED).unlink(missing_ok=True)
    labels = label_set(runs[0].recipe.labels)
    predictions = target / "predictions"

    def keep(case: Case, p: NDArray[np.float32], decided: NDArray[np.uint8]) -> None:
        from groundglass.write.masks import write_npy, write_png

        write_png(predictions / f"{case.stem}.png", labels.decode(decided))
        if save_probabilities:
            write_npy(predictions / f"{case.stem}_probabilities.npy", [p.astype(np.float16)], None)

    what = "out of fold" if part == "held-out" else "on the test part"
    say(f"{runs[0].recipe.name}: scoring {len(runs)} folds {what}")
    score(runs, dataset, scan, target, part, "none", device, figures=figures, notes=notes, keep=keep)
    write_json(target / _SCORED, key)
    return True


def _covers(target: Path, key: Mapping[str, Any]) -> bool:
    """Whether `target` holds the scores of these runs, and all that is asked for besides."""
    try:
        kept = json.loads((target / _SCORED).read_text(encoding="utf-8"))
        have = kept["runs"] == key["runs"] and (target / "summary.json").is_file()
        return have and all(kept[name] or not key[name] for name in ("probabilities", "figures"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_score(target: Path) -> Score:
    path = target / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        label = main_label(LABEL_SETS[summary["label_set"]])
        wanted = (label, "dice", AVERAGE)
        row = next(row for row in summary["averages"] if (row["class"], row["metric"], row["average"]) == wanted)
        value, low, high = (
            float("nan") if row[name] is None else float(row[name]) for name in ("value", "low", "high")
        )
        return Score(value, low, high, int(row["n"]), label)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise RunError(f"{path}: cannot be read ({type(error).__name__}); remove {target} and run again") from None


def _draw_curves(target: Path, name: str, done: Mapping[int, Run], folds: int) -> None:
    from groundglass.show.curves import compare_curves, write_curves

    write_curves({f"{k}/{folds}": run.curves for k, run in done.items()}, target / "curves.csv")
    title = f"{name}: {len(done)} of {folds} folds"
    compare_curves([learned(name, list(done.values()))], target / "curves.png", title, each=True)
