"""`groundglass submit`: the Kaggle file, from runs or from a folder of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.dataset import Dataset, Locations
from groundglass.data.opening import open_dataset, require_clean
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.labels import LABELS
from groundglass.model.predict import Tta, check_tta, segment
from groundglass.run import Run
from groundglass.scans.slices import open_slices, read_mask_slice, stem_of
from groundglass.show.progress import progress, say
from groundglass.workflows.extras import need_train
from groundglass.write.submission import CLASSES, write_submission

SOURCE = "test"
# The competition's test images: format, slices and their shape; two rows a pixel.
KAGGLE = ("covid-segmentation", 10, (512, 512))
KAGGLE_ROWS = 5_242_880


def submit(
    runs: Sequence[str | Path | Run],
    data: Locations,
    out: str | Path = "submission.csv",
    tta: Tta = "none",
    device: str = "auto",
) -> Path:
    """Write the submission for the test images of a data set; several runs are averaged by probability.

    runs: run folders; or one folder of masks with canonical values: one a test case (`test_0.png` or .npy), or one
    stack [N, H, W] named like the file of test images (`test_images_medseg.npy`), as `groundglass predict` writes it.
    Says so when the file is not the one that Kaggle expects. Raises `DataError` when there are no test images or a
    mask is missing, there twice or of another size, `RecipeError` when the runs do not tell ground-glass and
    consolidation apart.
    """
    check_tta(tta)
    dataset = open_dataset(data)
    require_clean(replace(dataset, cases=()))
    cases = [case for case in dataset.test if case.source == SOURCE]
    if not cases:
        raise DataError(f"{dataset.location}: has no test images (test_images_medseg.npy) to submit")
    if not runs:
        raise RunError("name at least one run, or a folder of masks")
    maps = _from_masks(Path(str(runs[0])), cases) if _is_mask_folder(runs) else _from_runs(runs, cases, tta, device)
    with progress("Writing the submission", len(cases)) as bar:
        rows = write_submission(out, maps, bar)
    _remark(dataset, cases, rows)
    return Path(out)


def _remark(dataset: Dataset, cases: Sequence[Case], rows: int) -> None:
    """Say it when this is not Kaggle's file."""
    name, slices, shape = KAGGLE
    if len(cases) != slices or any(case.shape != shape for case in cases):
        say(f"note: this is not the size of Kaggle's file: {rows:,} rows, expected {KAGGLE_ROWS:,}")
    elif dataset.format != name:
        say(f"note: these are not Kaggle's test images: the data are of format {dataset.format}, expected {name}")


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
    return (segment(models, case.image(), case.unit, tta).labels for case in cases)


def _from_masks(folder: Path, cases: Sequence[Case]) -> Iterator[NDArray[np.uint8]]:
    found = [_find_mask(folder, case, cases) for case in cases]
    return (_read_labels(file, index) for file, index in found)


def _find_mask(folder: Path, case: Case, cases: Sequence[Case]) -> tuple[Path, int]:
    """The file that holds the mask of a case, and its slice in it. Raises `DataError`."""
    own = [folder / f"{case.stem}{suffix}" for suffix in (".png", ".npy")]
    stack = None if case.row is None else folder / f"{stem_of(Path(case.file))}.npy"
    found = [file for file in (*own, stack) if file is not None and file.is_file()]
    if not found:
        neither = "" if stack is None else f", nor {stack.name} for all"
        raise DataError(f"{folder}: has no {own[0].name} or {own[1].name}, the mask of {case.place}{neither}")
    file = found[0]
    if len(found) > 1:
        raise DataError(f"{folder}: has {file.name} and {found[1].name} for {case.place}; keep one of them")
    index, slices = 0, 1
    if case.row is not None and file == stack:
        index, slices = case.row, sum(other.file == case.file for other in cases)
    header = open_slices(file)
    if header.count != slices:
        raise DataError(f"{file}: holds {header.count} slices, expected {slices}")
    if header.shape != case.shape:
        raise DataError(f"{file}: is not of the size {case.shape[0]}x{case.shape[1]} of its image")
    return file, index


def _read_labels(file: Path, index: int) -> NDArray[np.uint8]:
    values = read_mask_slice(file, index)
    strange = values[~np.isin(values, [label.value for label in LABELS])]
    if strange.size:
        raise DataError(f"{file}: holds {strange[0]:g}, which is no label; masks hold 0 to {LABELS[-1].value}")
    return values.astype(np.uint8)
