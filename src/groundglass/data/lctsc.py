"""LCTSC-like data: whole chest CT volumes in Hounsfield units with lung masks, a folder a patient.

    PATIENT/ct.nii.gz   PATIENT/lungs.nii.gz  0 or 1

Nobody looked for lesions, so what is in the lungs is known only as far. A `dataset.yaml` beside the patients' folders
may say `lesions: none`, and another `unit`.
"""

from __future__ import annotations

from pathlib import Path

from groundglass.case import Unit
from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.rows import Row, dataset_of
from groundglass.data.settings import read_settings

ENDINGS = (".nii.gz", ".nii")


def recognise(path: Path) -> bool:
    """Whether `path` is a folder of folders, of which one holds a ct and one holds lungs."""
    if not path.is_dir() or (path / "manifest.csv").is_file():
        return False
    folders = _patients(path)
    return any(_find(f, "ct") for f in folders) and any(_find(f, "lungs") for f in folders)


def open_folder(location: str) -> Dataset:
    """Open the folder; only headers are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit", "lesions"))
    settings.unit = settings.unit or Unit.HU
    inside = "lung" if settings.lesion_free else "unmarked-lung"
    rows = []
    for patient in _patients(folder):
        ct, lungs = _find(patient, "ct"), _find(patient, "lungs")
        if ct and lungs:
            name = f"lctsc/{patient.name}"
            rows.append(Row(ct, lung=lungs, patient=patient.name, source="lctsc", id=name, inside=inside))
        elif ct or lungs:
            missing = "lungs.nii.gz" if ct else "ct.nii.gz"
            settings.defects.append(Defect("error", "missing-file", f"{patient.name}/{missing}", None, "is missing"))
    return dataset_of(rows, location, folder, FORMAT.name, settings, "given", beside="the patients' folders")


FORMAT = Format(
    "lctsc",
    "CT volumes with lung masks: a folder a patient with ct.nii.gz and lungs.nii.gz",
    recognise,
    open_folder,
)


def _patients(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.glob("[!.]*") if entry.is_dir())


def _find(patient: Path, stem: str) -> str | None:
    """A patient's file, relative to the folder of all."""
    found = (f"{patient.name}/{stem}{ending}" for ending in ENDINGS if (patient / f"{stem}{ending}").is_file())
    return next(found, None)
