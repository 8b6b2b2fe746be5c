"""`groundglass predict`: label maps for pictures and npy stacks, on their own grid, in the form they came in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.files import staged, write_csv
from groundglass.model.predict import Model, Tta, check_together, check_tta, segment
from groundglass.run import Run
from groundglass.scans.slices import PICTURES, SliceFile, open_slices, read_image_slice, sample_unit, stem_of, suffix_of
from groundglass.show.progress import Bar, progress
from groundglass.workflows.extras import need_train
from groundglass.write.masks import write_npy, write_png

AREAS = "areas.csv"
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
    of the same first axes, uint8 canonical values. areas.csv lists the share of each class in the whole image, in
    channel order. Several runs are averaged by probability. unit: `HU` or `picture` where the file cannot say;
    save_probabilities: also STEM_probabilities.npy, [K, H, W] or [N, K, H, W] float32, K in the channel order of the
    label set. No stack of images or probabilities is whole in memory; with the latter, the label maps of one file are.

    All files are written, or none: they are kept in a hidden folder inside `out` until the last one is whole.
    Raises `DataError` for inputs that cannot be read, whose unit is unknown, or that an output would overwrite;
    `RunError` for runs that cannot be averaged; `WriteError` when the disk refuses.
    """
    need_train()
    from groundglass.learning.engine import model_of

    chosen = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    if not chosen:
        raise RunError("name at least one run")
    forced = _unit(unit)
    check_tta(tta)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; give a folder to write to")
    paths = find_inputs(inputs)
    names = [_names(path, save_probabilities) for path in paths]
    _check_targets(folder, paths, names)
    headers = [open_slices(path) for path in paths]
    units = [forced or header.unit or _known_unit(path, header) for path, header in zip(paths, headers, strict=True)]
    models = [model_of(run if isinstance(run, Run) else Run.open(run), device) for run in chosen]
    check_together(models)
    areas: list[dict[str, Any]] = []
    with (
        staged(folder, [*chain.from_iterable(names), AREAS]) as stage,
        progress("Predicting", sum(header.count for header in headers)) as bar,
    ):
        for path, header, known, targets in zip(paths, headers, units, names, strict=True):
            answers = _answers(path, header, known, models, tta, areas, bar)
            _write([stage / name for name in targets], header, answers)
        write_csv(stage / AREAS, ["file", "slice", *models[0].labels.classes], areas)
    return [folder / targets[0] for targets in names]


def _names(path: Path, save_probabilities: bool) -> list[str]:
    """The file names that an input gives: its label map and, where wanted, its probabilities."""
    stem = stem_of(path)
    maps = f"{stem}.png" if suffix_of(path) in PICTURES else f"{stem}.npy"
    return [maps, f"{stem}_probabilities.npy"] if save_probabilities else [maps]


def _check_targets(folder: Path, paths: Sequence[Path], names: Sequence[Sequence[str]]) -> None:
    """Raise `DataError` where an output would overwrite an input, or two outputs have one stem, by which `submit` finds
    them."""
    read = {_identity(path): path for path in paths}
    taken: dict[str, Path] = {}
    for path, targets in zip(paths, names, strict=True):
        for name in targets:
            target = folder / name
            other = taken.setdefault(stem_of(target), path)
            if other is not path:
                raise DataError(
                    f"{path}: would be written to the same name as {other} ({target}); name each file once, or predict "
                    "them into two folders"
                )
            source = read.get(_identity(target)) if target.exists() else None
            if source is not None:
                raise DataError(f"{source}: would be overwritten by what is predicted for {path}; choose another --out")


def _identity(path: Path) -> tuple[int, int]:
    """Equal for two ways to one file: links, relative paths, names that differ in case where case does not count."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _answers(
    path: Path,
    header: SliceFile,
    unit: Unit,
    models: Sequence[Model],
    tta: Tta,
    areas: list[dict[str, Any]],
    bar: Bar,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Label map and probabilities of a file, slice by slice; each adds a row to `areas`."""
    classes = models[0].labels
    for index in range(header.count):
        image = read_image_slice(path, index)
        broken = image.size - np.count_nonzero(np.isfinite(image))
        if broken:
            raise DataError(f"{path} row {index}: {broken} pixels are not a number or infinite; repair the image")
        labels, p = segment(models, image, unit, tta)
        shares = {
            name: float(np.mean(labels == classes.decode(np.array([i]))[0])) for i, name in enumerate(classes.classes)
        }
        areas.append({"file": path.name, "slice": index, **shares})
        bar(len(areas))
        yield labels, p


def _write(
    targets: Sequence[Path], header: SliceFile, answers: Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]
) -> None:
    """Write the files that `_names` names, in one pass over the answers."""
    count = header.count if header.stacked else None
    maps: Iterable[NDArray[np.uint8]] = (labels for labels, _ in answers)
    if len(targets) > 1:
        waiting: list[NDArray[np.uint8]] = []

        def spill() -> Iterator[NDArray[np.float32]]:
            # Label maps are small beside probabilities: they wait in memory while the probabilities go to disk.
            for labels, p in answers:
                waiting.append(labels)
                yield p

        write_npy(targets[1], spill(), count)
        maps = waiting
    if targets[0].suffix == ".png":
        write_png(targets[0], next(iter(maps)))
    else:
        write_npy(targets[0], maps, count)


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
