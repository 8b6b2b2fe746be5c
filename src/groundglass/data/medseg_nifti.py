"""MedSeg as its makers publish it: stacks of unrelated slices in NIfTI, one file for images and one for masks.

    tr_im.nii[.gz]    [X, Y, N] images      tr_mask.nii[.gz]  [X, Y, N] 0 none, 1 ground-glass, 2 consolidation,
    val_im.nii[.gz]   [X, Y, N] no masks                                3 pleural effusion

The third axis is a list, not a direction: every slice is a case of its own, and nobody says whose it is.
A `dataset.yaml` beside the files may state their `unit`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from groundglass.case import Case, Decoded, Geometry, Unit
from groundglass.data.dataset import Dataset, Defect, Format, unreadable
from groundglass.data.masks import decode_values
from groundglass.data.settings import read_settings, unknown_units
from groundglass.errors import DataError
from groundglass.scans.nifti import NiftiStack, read_nifti_slices
from groundglass.scans.slices import read_image_slice, read_mask_slice, sample_unit

VALUES = {0: "background", 1: "ground-glass", 2: "consolidation", 3: "pleural-effusion"}
# source: (images, masks, digits of the slice number in the case id)
PARTS: dict[str, tuple[str, str | None, int]] = {"medseg": ("tr_im", "tr_mask", 3), "test": ("val_im", None, 1)}


def recognise(path: Path) -> bool:
    """Whether `path` is a folder that holds any of the three files."""
    return any(_find(path, stem) for stem in ("tr_im", "tr_mask", "val_im"))


def open_folder(location: str) -> Dataset:
    """Open the folder; headers and one slice a part are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    defects = settings.defects
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    for source, (stem, mask_stem, digits) in PARTS.items():
        images = _find(folder, stem)
        masks = _find(folder, mask_stem) if mask_stem else None
        if images is None:
            if source == "medseg":
                defects.append(Defect("error", "missing-file", f"{stem}.nii.gz", None, "is missing"))
            continue
        try:
            stack = read_nifti_slices(images)
            unit = sample_unit(images, stack.shape[0])
        except DataError as error:
            defects.append(unreadable(error, images.name))
            continue
        if not stack.oriented:
            text = "states no orientation (sform and qform codes are 0); NIfTI's default is taken: check a picture"
            defects.append(Defect("warning", "unknown-orientation", images.name, None, text))
        if mask_stem and masks is None:
            text = f"is missing; the slices of {images.name} can be predicted, but not learned from or scored"
            defects.append(Defect("warning", "missing-masks", f"{mask_stem}.nii.gz", None, text))
        with_masks = masks is not None and _fits(masks, stack, images.name, defects)
        for row in range(stack.shape[0]):
            case = Case(
                id=f"{source}/{row:0{digits}}",
                source=source,
                file=images.name,
                row=row,
                shape=stack.shape[1:],
                unit=settings.unit or unit,
                load_image=partial(read_image_slice, images, row),
                load_labels=partial(_labels, masks, row) if masks and with_masks else None,
                # The slices lie nowhere in particular, so only the size of their pixels is kept.
                geometry=Geometry(stack.slice_geometry(row).spacing_mm),
            )
            (labelled if with_masks else unlabelled).append(case)
    defects += unknown_units((*labelled, *unlabelled), beside="the NIfTI files")
    units = {case.unit for case in (*labelled, *unlabelled)}
    return Dataset(
        location=str(location),
        format=FORMAT.name,
        cases=tuple(labelled),
        test=tuple(unlabelled),
        classes=tuple(VALUES.values()),
        unit=units.pop() if len(units) == 1 else Unit.UNKNOWN,
        patients="not known",
        defects=tuple(defects),
    )


FORMAT = Format(
    "medseg-nifti",
    "MedSeg's own files: tr_im.nii.gz, tr_mask.nii.gz and val_im.nii.gz, slices stacked in NIfTI",
    recognise,
    open_folder,
)


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for ending in (".nii.gz", ".nii") if (path := folder / f"{stem}{ending}").is_file()), None)


def _fits(masks: Path, images: NiftiStack, image_name: str, defects: list[Defect]) -> bool:
    """Whether the masks can be laid on the images; a defect says why not."""
    try:
        stack = read_nifti_slices(masks)
    except DataError as error:
        defects.append(unreadable(error, masks.name))
        return False
    if stack.axes != images.axes:
        text = f"its axes point {stack.axes}, those of {image_name} {images.axes}; which is right cannot be known"
        defects.append(Defect("error", "orientation-mismatch", masks.name, None, text))
        return False
    if stack.shape != images.shape:
        text = f"[N, H, W] is {list(stack.shape)}, but {list(images.shape)} in {image_name}"
        defects.append(Defect("error", "shape-mismatch", masks.name, None, text))
        return False
    return True


def _labels(path: Path, row: int) -> Decoded:
    return decode_values(read_mask_slice(path, row), VALUES)
