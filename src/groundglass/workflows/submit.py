"""`groundglass submit`: the Kaggle file, from runs or from a folder of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.opening import open_dataset, require_clean
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.labels import LABELS
from groundglass.model.predict import Tta, check_tta, segment
from groundglass.run import Run
from groundglass.scans.slices import open_slices, read_mask_slice
from groundglass.show.progress import progress
from groundglass.workflows.extras import need_train
from groundglass.write.submission import CLASSES, write_submission

SOURCE = "test"


def submit(
    runs: Sequence[str | Path | Run],
    data: str | Path,
    out: str | Path = "submission.csv",
    tta: Tta = "none",
    device: str = "auto",
) -> Path:
    """Write the submission for the test images of a data set; several runs are averaged by probability.

    runs: run folders; or one folder of masks named like the test cases (`test_0.png` or .npy, canonical values), as
    `groundglass predict` writes them. Raises `DataError` when there are no test images or a mask is missing,
    `RecipeError` when the runs do not tell ground-glass and consolidation apart.
    """
    check_tta(tta)
    dataset = open_dataset(data)
    require_clean(replace(dataset, cases=()))
    cases = [case for case in dataset.test if case.source == SOURCE]
    if not cases:
        raise DataError(f"{data}: has no test images (test_images_medseg.npy) to submit")
    if not runs:
        raise RunError("name at least one run, or a folder of masks")
    maps = _from_masks(Path(str(runs[0])), cases) if _is_mask_folder(runs) else _from_runs(runs, cases, tta, device)
    with progress("Writing the submission", len(cases)) as bar:
        write_submission(out, maps, bar)
    return Path(out)


def _is_mask_folder(runs: Sequence[str | Path | Run]) -> bool:
    if len(runs) != 1 or isinstance(runs[0], Run):
        return False
    folder = Path(runs[0])
    return folder.is_dir() and not (folder / "run.json").exists()


def _from_runs(
    runs: Sequence[str | Path | Run], cases: Sequence[Case], tta: Tta, device: str
) -> Iterator[NDArray[np.uint8]]:
    need_train()
    from groundglass.learning.engine import model_of

    models = [model_of(run if isinstance(run, Run) else Run.open(run), device) for run in runs]
    for name in CLASSES:
        if name not in models[0].labels.classes:
            raise RecipeError(f"label set '{models[0].labels.name}' has no class '{name}', which the submission needs")
    return (segment(models, case.image(), case.unit, tta)[0] for case in cases)


def _from_masks(folder: Path, cases: Sequence[Case]) -> Iterator[NDArray[np.uint8]]:
    files = []
    for case in cases:
        found = [folder / f"{case.stem}{suffix}" for suffix in (".png", ".npy")]
        file = next((f for f in found if f.is_file()), None)
        if file is None:
            raise DataError(f"{folder}: has no {found[0].name} or {found[1].name}, the mask of {case.place}")
        if open_slices(file).shape != case.shape:
            raise DataError(f"{file}: is not of the size {case.shape[0]}x{case.shape[1]} of its image")
        files.append(file)
    return (_read_labels(file) for file in files)


def _read_labels(file: Path) -> NDArray[np.uint8]:
    values = read_mask_slice(file, 0)
    strange = values[~np.isin(values, [label.value for label in LABELS])]
    if strange.size:
        raise DataError(f"{file}: holds {strange[0]:g}, which is no label; masks hold 0 to {LABELS[-1].value}")
    return values.astype(np.uint8)
