"""`groundglass predict`: label maps for pictures and npy stacks, on their own grid, in the form they came in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import MODALITIES, Modality, Unit
from groundglass.errors import DataError, RecipeError, RunError
from groundglass.files import staged, write_csv
from groundglass.labels import BY_NAME, LESION_VALUES
from groundglass.measure.lungs import involvement
from groundglass.model.predict import Model, Tta, check_together, check_tta, segment
from groundglass.run import Run
from groundglass.scans.modality import guess_file
from groundglass.scans.slices import PICTURES, SliceFile, open_slices, read_image_slice, sample_unit, stem_of, suffix_of
from groundglass.show.progress import Bar, progress
from groundglass.workflows.extras import need_train
from groundglass.workflows.separated import TABLE, Separated, name_for
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
    modality: str | None = None,
) -> list[Path]:
    """Segment files, or all .npy, PNG and JPEG files of folders; returns the label maps written to `out`.

    Each keeps the stem of its input: a picture gives a palette PNG, an .npy of [H, W] or [N, H, W(, 1)] gives an .npy
    of the same first axes, uint8 canonical values. areas.csv lists the share of each class in the whole image, in
    channel order; of a run with a first stage, whose lungs are in the label map too, also of lung, and how many percent
    of the patient's right lung, left lung and both are lesion. Several runs are averaged by probability. unit: `HU` or
    `picture` where the file cannot say; modality: `CT` or `X-ray`, for files that are taken for the other;
    save_probabilities: also STEM_probabilities.npy, [K, H, W] or [N, K, H, W] float32, K in the channel order of the
    label set. No stack of images or probabilities is whole in memory; with the latter, the label maps of one file are.
    A single run whose network tells instances apart also gives STEM_instances, in which each pixel of a lesion holds
    the number of its instance, and instances.csv with the score, box and pixels of each.

    All files are written, or none: they are kept in a hidden folder inside `out` until the last one is whole.
    Raises `DataError` for inputs that cannot be read, whose unit is unknown, that are of another modality than the runs
    are for, or that an output would overwrite; `RunError` for runs that cannot be averaged; `WriteError` when the disk
    refuses.
    """
    need_train()
    from groundglass.learning.engine import model_of

    chosen = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    if not chosen:
        raise RunError("name at least one run")
    forced = _unit(unit)
    stated = _modality(modality)
    check_tta(tta)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; give a folder to write to")
    paths = find_inputs(inputs)
    names = [_names(path, save_probabilities) for path in paths]
    _check_targets(folder, paths, names)
    headers = [open_slices(path) for path in paths]
    units = [forced or header.unit or _known_unit(path, header) for path, header in zip(paths, headers, strict=True)]
    opened = [run if isinstance(run, Run) else Run.open(run) for run in chosen]
    if stated and (other := _run_of_another(stated, opened)):
        raise RecipeError(f"--modality {stated}: {other.path} is for {MODALITIES[other.recipe.modality]}")
    for path, header, known in zip(paths, headers, units, strict=True):
        _check_modality(path, header, known, opened, stated)
    models = [model_of(run, device) for run in opened]
    check_together(models)
    separated = Separated.by(models)
    apart = [[name_for(path)] if separated else [] for path in paths]
    _check_targets(folder, paths, [[*one, *other] for one, other in zip(names, apart, strict=True)])
    tables = [AREAS, TABLE] if separated else [AREAS]
    areas: list[dict[str, Any]] = []
    with (
        staged(folder, [*chain.from_iterable([*names, *apart]), *tables]) as stage,
        progress("Predicting", sum(header.count for header in headers)) as bar,
    ):
        for path, header, known, targets in zip(paths, headers, units, names, strict=True):
            answers = _answers(path, header, known, models, tta, areas, bar, separated)
            _write([stage / name for name in targets], header, answers)
            if separated:
                separated.write(stage / name_for(path), header)
        write_csv(stage / AREAS, list(areas[0]), areas)
        if separated:
            separated.write_table(stage / TABLE)
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
    separated: Separated | None,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Label map and probabilities of a file, slice by slice; each adds a row to `areas`."""
    for index in range(header.count):
        image = read_image_slice(path, index)
        broken = image.size - np.count_nonzero(np.isfinite(image))
        if broken:
            raise DataError(f"{path} row {index}: {broken} pixels are not a number or infinite; repair the image")
        answer = labels, p, lungs = segment(models, image, unit, tta)
        if separated:
            separated.add(path, index, image, unit, answer)
        shares = {name: float(np.mean(labels == BY_NAME[name].value)) for name in _columns(models)}
        areas.append({"file": path.name, "slice": index, **shares, **_percents(labels, lungs)})
        bar(len(areas))
        yield labels, p


def _columns(models: Sequence[Model]) -> tuple[str, ...]:
    """The classes that a label map can hold: those of the models, and the lungs of a first stage."""
    classes = models[0].labels.classes
    found = any(model.first is not None for model in models)
    return (*classes, "lung") if found and "lung" not in classes else classes


def _percents(labels: NDArray[np.uint8], lungs: NDArray[np.bool_] | None) -> dict[str, float]:
    """Of each lung that a first stage found, the percent that is lesion."""
    if lungs is None:
        return {}
    right, left, both = involvement(lungs, np.isin(labels, LESION_VALUES))
    return {"right_lung_percent": right, "left_lung_percent": left, "lungs_percent": both}


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


def _modality(modality: str | None) -> Modality | None:
    for known in MODALITIES:
        if modality is not None and modality.lower() == known.lower():
            return known
    if modality is not None:
        raise RecipeError(f"--modality {modality}: choose {' or '.join(MODALITIES)}")
    return None


def _check_modality(path: Path, header: SliceFile, unit: Unit, runs: Sequence[Run], stated: Modality | None) -> None:
    """Raise `DataError` where a file is, or seems to be, an X-ray and a run is for CT, or the reverse. A statement
    stands against a guess, not against Hounsfield units."""
    found: Modality | None = "CT" if unit is Unit.HU else stated or guess_file(path, header.count, unit)
    other = _run_of_another(found, runs)
    if found is None or other is None:
        return
    fits = f"but {other.path} is for {MODALITIES[other.recipe.modality]}"
    if unit is Unit.HU:
        raise DataError(
            f"{path}: holds Hounsfield units, as CT does, {fits}; if these are grey values, say --unit picture"
        )
    raise DataError(
        f"{path}: seems to be {MODALITIES[found]}, {fits}; if it is one, insist with --modality {other.recipe.modality}"
    )


def _run_of_another(modality: Modality | None, runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if modality not in (None, run.recipe.modality)), None)


def _known_unit(path: Path, header: SliceFile) -> Unit:
    guessed = sample_unit(path, header.count)
    if guessed is Unit.UNKNOWN:
        raise DataError(
            f"{path}: its intensity unit cannot be told from its values; state it with --unit HU or picture"
        )
    return guessed
