"""Which cases `evaluate` scores, which run answers for each, and what a reader must know before trusting the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.errors import RunError
from groundglass.recipes.settings import Plateau, Thresholds
from groundglass.run import Run

Part = Literal["held-out", "train", "test", "all"]
# A case, and the positions of the runs that answer for it.
Asked = tuple[Case, list[int]]


@dataclass(frozen=True)
class Chosen:
    """Cases to score and the notes on them.

    part: what they are to the runs. On the data of one run: `held-out`, `train`, `test` or `all`; of several:
    `out-of-fold`, `train-pooled`, `test-ensemble` or `all-pooled`. On other data: `other-data` or `other-data-all`, of
    several runs `ensemble` or `ensemble-all`. folder: the same as a folder name that no other kind and no other data
    take.
    """

    cases: list[Asked]
    part: str
    folder: str
    notes: list[str]


def check_folds(runs: Sequence[Run]) -> None:
    """Raise `RunError` unless there is one run, or all are different folds k/n, of one n and one recipe, on the same
    data."""
    if not runs:
        raise RunError("name at least one run")
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.model_dump(exclude={"name"}) != first.recipe.model_dump(exclude={"name"}):
            raise RunError(f"{run.path}: is no fold of the recipe of {first.path}; evaluate them one by one")
        if run.manifest.data_fingerprint != first.manifest.data_fingerprint:
            raise RunError(f"{run.path}: was trained on other data than {first.path}; evaluate them one by one")
    if len(runs) < 2:
        return
    folds = [run.split.fold for run in runs if run.split.fold is not None]
    if len(set(folds)) < len(runs):
        raise RunError("several runs must be different folds (trained with --fold k/n) of one recipe")
    sizes = {fold.partition("/")[2] for fold in folds}
    if len(sizes) > 1:
        raise RunError(f"folds {' and '.join(sorted(folds))} are not of one division; name folds k/n of one n")
    for run in runs[1:]:
        if run.split.seed != first.split.seed or set(run.split.test) != set(first.split.test):
            raise RunError(f"{run.path}: is a fold of another division than {first.path} (another seed or test part)")


def choose_cases(runs: Sequence[Run], dataset: Dataset, scan: Scan, part: Part) -> Chosen:
    """The cases of `part`. Raises `RunError` when nothing is left, and for `train` and `test` on other data."""
    same = runs[0].manifest.data_fingerprint == scan.fingerprint
    if part == "test" and not runs[0].split.test:
        raise RunError(f"{runs[0].path}: has no test part; train with --test N")
    cases, notes = (_own_cases if same else _other_cases)(runs, dataset, scan, part)
    if not cases:
        raise RunError(f"no case of this data is {part} for {', '.join(run.path.name for run in runs)}")
    name = _name(part, several=len(runs) > 1, same=same)
    folder = name if same else f"{name}-{scan.fingerprint[:8]}"
    return Chosen(cases, name, folder, [*_unfinished(runs), *_missing_folds(runs), *notes])


def _name(part: Part, several: bool, same: bool) -> str:
    if same and several:
        return {"held-out": "out-of-fold", "test": "test-ensemble"}.get(part, f"{part}-pooled")
    if same:
        return part
    name = "ensemble" if several else "other-data"
    return name if part == "held-out" else f"{name}-{part}"


def _unfinished(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.path.name}: training is not finished ({run.manifest.why_ended})"
        for run in runs
        if run.manifest.state != "finished"
    ]


def _missing_folds(runs: Sequence[Run]) -> list[str]:
    folds = {run.split.fold for run in runs}
    first = runs[0].split.fold
    if len(runs) < 2 or first is None:
        return []
    n = int(first.partition("/")[2])
    missing = [f"{k}/{n}" for k in range(1, n + 1) if f"{k}/{n}" not in folds]
    return [f"not all folds are here: {', '.join(missing)} missing"] if missing else []


def _own_cases(runs: Sequence[Run], dataset: Dataset, scan: Scan, part: Part) -> tuple[list[Asked], list[str]]:
    """Cases of the data that the runs were trained on."""
    earlier = [set(run.manifest.earlier_hashes) for run in runs]
    trained = [
        {*run.split.train, *(i for i, digest in scan.hashes.items() if digest in before)}
        for run, before in zip(runs, earlier, strict=True)
    ]
    validated = [set(run.split.validation) for run in runs]
    aside = [set(run.split.test) for run in runs]
    copied = [{scan.hashes[i] for i in ids if i in scan.hashes} for ids in trained]
    wanted: Callable[[Case, int], bool] = {
        "held-out": lambda case, i: case.id in validated[i],
        "train": lambda case, i: case.id in trained[i],
        "test": lambda case, i: case.id in aside[i],
        "all": lambda case, i: True,
    }[part]
    asked = [(case, [i for i in range(len(runs)) if wanted(case, i)]) for case in dataset.cases]
    cases = [(case, which) for case, which in asked if which]
    inside = sum(any(case.id in trained[i] for i in which) for case, which in cases)
    chosen_on = sum(any(case.id in validated[i] for i in which) for case, which in cases)
    copies = sum(
        any(case.id not in trained[i] and scan.hashes[case.id] in copied[i] for i in which) for case, which in cases
    )
    put_aside = sum(any(case.id in aside[i] for i in which) for case, which in cases)
    notes = []
    if part == "test":
        notes.append(f"test part: no run trained on these {put_aside} cases or chose its epoch on them")
        if len(runs) > 1:
            notes.append(f"the mean probability of {len(runs)} runs was scored")
    elif put_aside:
        notes.append(f"{put_aside} of {len(cases)} cases are the test part, put aside for the end")
    if inside:
        notes.append(f"{inside} of {len(cases)} cases were trained on: this is not a held-out score")
    tuned = _tuned(runs, apart=part == "held-out" and len(runs) > 1)
    if chosen_on and tuned:
        these = "these very cases" if chosen_on == len(cases) else f"{chosen_on} of these cases"
        notes.append(f"{tuned} chosen on {these}; expect less on new ones")
    if copies:
        notes.append(
            f"{copies} of {len(cases)} cases were not trained on but have the very pixels of a training case: the "
            "score is too good"
        )
    if dataset.patients == "not known":
        notes.append("patients are not known: slices of one patient may lie on both sides of the split")
    return cases, notes


def _other_cases(runs: Sequence[Run], dataset: Dataset, scan: Scan, part: Part) -> tuple[list[Asked], list[str]]:
    """Cases of other data. A patient or volume with an exact copy of a training case is known to the run as a whole."""
    if part in ("train", "test"):
        raise RunError(f"--part {part}: {runs[0].path} was trained on other data; choose --part held-out or all")
    trained = {digest for run in runs for digest in run.trained_hashes()}
    validated = {run.manifest.case_hashes.get(i) for run in runs for i in run.split.validation} - trained
    aside = {run.manifest.case_hashes.get(i) for run in runs for i in run.split.test} - trained
    seen = {case.id: case.group for case in (*dataset.cases, *dataset.test) if scan.hashes[case.id] in trained}
    groups = set(seen.values())
    copies = sum(case.id in seen for case in dataset.cases)
    akin = sum(case.id not in seen and case.group in groups for case in dataset.cases)
    spared = {case.group for case in (*dataset.cases, *dataset.test) if scan.hashes[case.id] in aside} - groups
    kept = [case for case in dataset.cases if part == "all" or case.group not in groups | spared]
    chosen_on = sum(scan.hashes[case.id] in validated for case in kept)
    left_out = " and were left out" if part == "held-out" else f" (of {len(kept)}): this is not a held-out score"
    notes = ["other data than the run was trained on; only exact copies of training cases were looked for"]
    if copies:
        notes.append(f"{copies} cases have the very pixels of a training case{left_out}")
    if akin:
        notes.append(f"{akin} more cases are of the patient or volume of such a copy{left_out}")
    if spared:
        put_aside = sum(case.group in spared for case in dataset.cases)
        notes.append(f"{put_aside} cases are of the runs' test part, put aside for the end{left_out.partition(':')[0]}")
    if chosen_on and _tuned(runs):
        notes.append(f"{_tuned(runs)} chosen on copies of {chosen_on} of these cases; expect less on new ones")
    return [(case, list(range(len(runs)))) for case in kept], notes


def tuned_apart(runs: Sequence[Run], part: str) -> bool:
    """Whether `part` of these runs is scored with thresholds that its own cases did not choose: out of fold."""
    return part == "out-of-fold" and len(runs) > 1 and _tunes(runs)


def _tunes(runs: Sequence[Run]) -> bool:
    decision = runs[0].recipe.decision
    return isinstance(decision, Thresholds) and decision.values == "tuned"


def _tuned(runs: Sequence[Run], apart: bool = False) -> str:
    """What the validation cases chose, as the beginning of a sentence; empty where they chose nothing. apart: the
    thresholds come from elsewhere."""
    recipe = runs[0].recipe
    thresholds = _tunes(runs) and not apart
    epoch = (
        recipe.checkpoint.keep == "best" or recipe.early_stopping is not None or isinstance(recipe.schedule, Plateau)
    )
    if epoch and thresholds:
        return "the kept epoch and the thresholds were"
    if thresholds:
        return "the thresholds were"
    return "the kept epoch was" if epoch else ""
