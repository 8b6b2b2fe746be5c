"""`groundglass predict`: label maps for pictures and npy stacks, on their own grid, in the form they came in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.files import write_csv
from groundglass.model.predict import Model, Tta, check_tta, segment
from groundglass.run import Run
from groundglass.scans.slices import PICTURES, SliceFile, open_slices, read_image_slice, sample_unit, stem_of, suffix_of
from groundglass.show.progress import progress
from groundglass.workflows.extras import need_train
from groundglass.write.masks import write_npy, write_png

_INPUTS = (*PICTURES, ".npy")


def predict(
    runs: str | Path | Run | Sequence[str | Path | Run],
    inputs: Sequence[str | Path],
    out: str | Path,
    tta: Tta = "none",
    unit: str | None = None,
    save_probabilities: bool = False,
    device: str = "auto",
) -> list[Path]:
    """Segment files, or all .npy, PNG and JPEG files of folders; returns the label maps written to `out`.

    Each keeps the stem of its input: a picture gives a palette PNG, an .npy of [H, W] or [N, H, W(, 1)] gives an .npy
    of the same first axes, uint8 canonical values. areas.csv lists the share of each class. Several runs are averaged
    by probability. unit: `HU` or `picture` where the file cannot say; save_probabilities: also STEM_probabilities.npy,
    [K, H, W] or [N, K, H, W] float32.
    Raises `DataError` for inputs that cannot be read or whose unit is unknown, before anything is written.
    """
    need_train()
    from groundglass.learning.engine import model_of

    chosen = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    if not chosen:
        raise RunError("name at least one run")
    forced = _unit(unit)
    check_tta(tta)
    files = [(path, open_slices(path)) for path in find_inputs(inputs)]
    _check_stems([path for path, _ in files])
    units = [forced or header.unit or _known_unit(path, header) for path, header in files]
    models = [model_of(run if isinstance(run, Run) else Run.open(run), device) for run in chosen]
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; give a folder to write to")
    written: list[Path] = []
    areas: list[dict[str, Any]] = []
    total = sum(header.count for _, header in files)
    with progress("Predicting", total) as bar:
        for (path, header), known in zip(files, units, strict=True):
            answers = _Answers(path, header, known, models, tta, areas, bar)
            written.append(_write(folder, path, header, answers, save_probabilities))
    write_csv(folder / "areas.csv", ["file", "slice", *models[0].labels.classes], areas)
    return written


class _Answers:
    """The label maps of one file, slice by slice; probabilities, where wanted, are spilled to a second file as they
    come, so that no stack is ever whole in memory."""

    def __init__(
        self,
        path: Path,
        header: SliceFile,
        unit: Unit,
        models: Sequence[Model],
        tta: Tta,
        areas: list[dict[str, Any]],
        bar: Any,
    ) -> None:
        self.path, self.header, self.unit, self.models, self.tta = path, header, unit, models, tta
        self.areas, self.bar = areas, bar

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        classes = self.models[0].labels
        for index in range(self.header.count):
            image = read_image_slice(self.path, index)
            broken = image.size - np.count_nonzero(np.isfinite(image))
            if broken:
                raise DataError(
                    f"{self.path} row {index}: {broken} pixels are not a number or infinite; repair the image"
                )
            labels, p = segment(self.models, image, self.unit, self.tta)
            shares = {
                name: float(np.mean(labels == classes.decode(np.array([i]))[0]))
                for i, name in enumerate(classes.classes)
            }
            self.areas.append({"file": self.path.name, "slice": index, **shares})
            self.bar(len(self.areas))
            yield labels, p


def _write(folder: Path, path: Path, header: SliceFile, answers: _Answers, save_probabilities: bool) -> Path:
    stem = stem_of(path)
    if suffix_of(path) in PICTURES:
        labels, p = next(iter(answers))
        if save_probabilities:
            write_npy(folder / f"{stem}_probabilities.npy", [p], None)
        return write_png(folder / f"{stem}.png", labels)
    count = header.count if header.stacked else None
    if not save_probabilities:
        return write_npy(folder / f"{stem}.npy", (labels for labels, _ in answers), count)
    maps: list[NDArray[np.uint8]] = []

    def spill() -> Iterator[NDArray[np.float32]]:
        # Label maps are small beside probabilities: they wait in memory while the probabilities go to disk.
        for labels, p in answers:
            maps.append(labels)
            yield p

    write_npy(folder / f"{stem}_probabilities.npy", spill(), count)
    return write_npy(folder / f"{stem}.npy", maps, count)


def find_inputs(inputs: Sequence[str | Path]) -> list[Path]:
    """Files as given, and the readable files of folders in name order. Raises `DataError` for what is missing."""
    found: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and suffix_of(p) in _INPUTS)
            if not inside:
                raise DataError(f"{path}: holds no {', '.join(_INPUTS)} files")
            found += inside
        elif not path.exists():
            raise DataError(f"{path}: does not exist")
        elif suffix_of(path) not in _INPUTS:
            raise DataError(f"{path}: predict reads {', '.join(_INPUTS)}")
        else:
            found.append(path)
    if not found:
        raise DataError("name at least one file or folder to predict")
    return found


def _check_stems(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(stem_of(path), path)
        if other is not path:
            raise DataError(f"{path}: would be written to the same name as {other}; predict them into two folders")


def _unit(unit: str | None) -> Unit | None:
    if unit is None:
        return None
    for known in (Unit.HU, Unit.PICTURE):
        if unit.lower() == known.value.lower():
            return known
    raise RecipeError(f"--unit {unit}: choose HU or picture")


def _known_unit(path: Path, header: SliceFile) -> Unit:
    guessed = sample_unit(path, header.count)
    if guessed is Unit.UNKNOWN:
        raise DataError(
            f"{path}: its intensity unit cannot be told from its values; state it with --unit HU or picture"
        )
    return guessed
