"""Anybody's own files, with a table and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean, scan
from groundglass.labels import BY_NAME, LABELS
from tests.data.small import lungs_only, pictures, table

BY_VALUE = {label.value: label.name for label in LABELS}


def kinds(dataset) -> list[str]:  # type: ignore[no-untyped-def]
    return [defect.kind for defect in dataset.defects]


def test_folders(tmp_path: Path) -> None:
    dataset = open_dataset(pictures(tmp_path))
    assert dataset.format == "manifest"
    assert [case.id for case in dataset.cases] == ["a_1", "a_2", "b_1", "b_2"]
    assert [case.patient for case in dataset.cases] == ["a", "a", "b", "b"]
    assert dataset.patients == "from file names"
    assert dataset.classes == ("background", "ground-glass", "consolidation", "lung")
    assert dataset.unit is Unit.PICTURE
    assert dataset.defects == ()
    case = dataset.cases[0]
    counts = np.bincount(case.labels().ravel())
    assert counts.tolist() == [16 * 16 - 49, 4, 1, 49 - 5]
    lung = case.lung()
    assert lung is not None
    assert lung.sum() == 49, "lesions are inside the lung"
    assert require_clean(dataset) is not None


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (("a_1", "a-2", "b_1", "b_2"), ["a", "a", "b", "b"]),
        (("000", "001", "002"), [None, None, None]),
        (("p_1_x", "p_2_x", "q_1"), [None, None, None]),
        (("a_b_1", "a_b_2", "c_1"), ["a_b", "a_b", None]),
        (("slice_1", "slice_2"), ["slice", "slice"]),
    ],
)
def test_patients_from_names(tmp_path: Path, names: tuple[str, ...], patients: list[str | None]) -> None:
    dataset = open_dataset(pictures(tmp_path, names))
    by_id = {case.id: case.patient for case in dataset.cases}
    assert [by_id[name] for name in names] == patients
    assert ("unknown-patients" in kinds(dataset)) == (None in patients)
    assert ("one-patient" in kinds(dataset)) == (set(patients) == {"slice"})


def test_more_images_without_masks(tmp_path: Path) -> None:
    pictures(tmp_path, ("000", "001"))
    (tmp_path / "test_images").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "test_images" / "001.png")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["images/000", "images/001"]
    assert [(case.id, case.source) for case in dataset.test] == [("test_images/001", "test")]


def test_a_table_with_paths_and_patients(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "mine.csv"
    path.write_text(
        "\ufeffPatient;Image;Mask\np1;../elsewhere/images/a_1.png;../elsewhere/masks/a_1.png\n"
        f"p1;{tmp_path}/elsewhere/images/a_2.png;\n"
    )
    dataset = open_dataset(path)
    assert [case.patient for case in dataset.cases] == ["p1"]
    assert [case.id for case in dataset.test] == ["a_2"]
    assert dataset.patients == "given"
    assert dataset.classes == ("background", "ground-glass", "consolidation")
    assert require_clean(dataset) is not None


def test_equal_names_keep_their_folders_but_not_the_path_to_them(tmp_path: Path) -> None:
    for patient in ("p", "q"):
        pictures(tmp_path / "far" / patient, ("ct",))
    (tmp_path / "manifest.csv").write_text(f"image\n{tmp_path}/far/p/images/ct.png\nfar/q/images/ct.png\n")
    assert [case.id for case in open_dataset(tmp_path).test] == ["p/images/ct", "q/images/ct"]


def test_unused_columns_are_told(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "image,masks\nimages/a_1.png,masks/a_1.png\n"))
    assert "unknown-column" in kinds(dataset)
    assert len(dataset.test) == 1


def test_lungs_alone_say_nothing_of_lesions(tmp_path: Path) -> None:
    dataset = open_dataset(lungs_only(tmp_path))
    assert dataset.classes == ("background", "unmarked-lung")
    case = dataset.cases[0]
    assert np.bincount(case.labels().ravel()).tolist() == [16 * 16 - 49, 0, 0, 0, 0, 0, 49]
    lung = case.lung()
    assert lung is not None
    assert np.array_equal(lung, case.labels() == BY_NAME["unmarked-lung"].value)
    (tmp_path / "manifest.csv").unlink()
    shutil.rmtree(tmp_path / "masks")
    assert open_dataset(tmp_path).classes == ("background", "unmarked-lung"), "the same without a table"


def test_an_owner_can_say_that_lungs_hold_no_lesions(tmp_path: Path) -> None:
    (lungs_only(tmp_path) / "dataset.yaml").write_text("lesions: none\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("background", "lung")
    assert np.bincount(dataset.cases[0].labels().ravel()).tolist() == [16 * 16 - 49, 0, 0, 49]
    assert require_clean(dataset) is not None


MIXED = """patient,image,mask,lung
p,images/a_1.png,masks/a_1.png,lungs/a_1.png
q,images/a_2.png,masks/a_2.png,
r,images/b_1.png,,lungs/b_1.png
s,images/b_2.png,,
"""


@pytest.mark.parametrize("lesion_free", [False, True])
def test_each_row_of_a_table_is_known_as_far_as_it_goes(tmp_path: Path, lesion_free: bool) -> None:
    path = table(tmp_path, MIXED)
    if lesion_free:
        (tmp_path / "dataset.yaml").write_text("lesions: none\n")
    dataset = open_dataset(path)
    assert [case.id for case in dataset.cases] == ["a_1", "a_2", "b_1"]
    assert [case.id for case in dataset.test] == ["b_2"]
    rest = BY_NAME["lung" if lesion_free else "unmarked-lung"].value
    holds = {case.id: set(np.unique(case.labels()).tolist()) for case in dataset.cases}
    assert holds == {"a_1": {0, 1, 2, 3}, "a_2": {1, 2, BY_NAME["no-lesion"].value}, "b_1": {0, rest}}
    assert set(dataset.classes) == {BY_VALUE[value] for values in holds.values() for value in values}
    assert [(defect.severity, defect.kind) for defect in dataset.defects] == [("warning", "partly-known")]
    assert "1 of 2 rows with a mask name no lung (rows 2)" in dataset.defects[0].message
    assert require_clean(dataset) is not None


def test_masks_without_lungs_anywhere_keep_their_background(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "image,mask\nimages/a_1.png,masks/a_1.png\n"))
    assert dataset.classes == ("background", "ground-glass", "consolidation")
    assert set(np.unique(dataset.cases[0].labels())) == {0, 1, 2}


def test_masks_that_mark_lung_themselves_know_their_background(tmp_path: Path) -> None:
    path = table(tmp_path, MIXED)
    (tmp_path / "dataset.yaml").write_text("labels: {1: ground-glass, 2: lung}\n")
    dataset = open_dataset(path)
    assert set(np.unique(dataset.case("a_2").labels())) == {0, 1, 3}
    assert dataset.defects == ()


def test_masks_can_hold_what_is_known_in_part(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "dataset.yaml").write_text("labels: {0: no-lesion, 1: lesion, 2: unknown}\n")
    inside = open_dataset(tmp_path).cases[0].labels()
    assert set(np.unique(inside)) == {0, 3, 5, 8}, "the lung mask settles what is no lesion"
    shutil.rmtree(tmp_path / "lungs")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("lesion", "no-lesion", "unknown")
    assert require_clean(dataset) is not None


def test_many_rows_without_a_lung_stay_one_short_line(tmp_path: Path) -> None:
    rows = "image,mask,lung\n" + "images/a_1.png,masks/a_1.png,\n" * 30
    path = table(tmp_path, rows + "images/a_2.png,masks/a_2.png,lungs/a_2.png\n")
    defect = next(d for d in open_dataset(path).defects if d.kind == "partly-known")
    assert "(rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 20 more)" in defect.message


def test_files_elsewhere_are_known_by_their_name_only(tmp_path: Path) -> None:
    far = pictures(tmp_path / "jane" / "scans")
    near = tmp_path / "set"
    pictures(near)
    (near / "manifest.csv").write_text(
        "patient,image,mask\n"
        f"p,{far}/images/a_1.png,{far}/masks/a_1.png\n"
        f"p,{near}/images/a_2.png,{near}/masks/a_2.png\n"
        "p,../jane/scans/images/b_1.png,masks/b_1.png\n"
        "p,./images/../images/b_2.png,masks/b_2.png\n"
    )
    dataset = open_dataset(near)
    assert [case.file for case in dataset.cases] == ["a_1.png", "images/a_2.png", "b_1.png", "images/b_2.png"]
    assert require_clean(dataset) is not None


def test_no_defect_tells_where_files_elsewhere_lie(tmp_path: Path) -> None:
    far = pictures(tmp_path / "jane: doe" / "scans")
    near = tmp_path / "set"
    near.mkdir()
    (far / "images" / "b_1.png").write_text("not a picture")
    Image.new("L", (16, 15)).save(far / "masks" / "b_2.png")
    Image.new("L", (16, 16)).save(far / "masks" / "b_2.jpg")
    rows = [("none", "a_1"), ("a_1", "none"), ("b_1", "b_1"), ("b_2", "b_2"), ("a_2", "a_2"), ("a_2", "a_2")]
    lines = [f"{far}/images/{image}.png,{far}/masks/{mask}.png\n" for image, mask in rows]
    lines.append(f"{far}/images/a_1.png,{far}/masks/b_2.jpg\n")
    (near / "manifest.csv").write_text("image,mask\n" + "".join(lines))
    dataset = open_dataset(near)
    (far / "masks" / "a_2.png").unlink()
    defects = [*dataset.defects, *scan(dataset).defects]
    assert [(d.kind, d.file) for d in defects if d.severity == "error"] == [
        ("missing-file", "none.png"),
        ("missing-file", "none.png"),
        ("unreadable", "b_1.png"),
        ("shape-mismatch", "b_2.png"),
        ("lossy-mask", "b_2.jpg"),
        ("repeated-name", "a_2.png"),
        ("unreadable", "a_2.png"),
    ]
    assert not [str(d) for d in defects if "jane" in str(d) or str(tmp_path) in str(d)]
    assert str(dataset.defects[0]) == "none.png: does not exist (row 1 of the table)"


def test_an_unknown_unit_is_told_with_its_count_and_the_way_out(tmp_path: Path) -> None:
    pictures(tmp_path)
    for index in range(3):
        np.save(tmp_path / f"ct_{index}.npy", np.random.default_rng(index).random((8, 8)))
    rows = "".join(f"p,{name}\n" for name in ("images/a_1.png", "ct_0.npy", "ct_1.npy", "ct_2.npy"))
    (tmp_path / "manifest.csv").write_text(f"patient,image\n{rows}")
    (defect,) = (d for d in open_dataset(tmp_path).defects if d.kind == "unknown-unit")
    assert (defect.severity, defect.file, defect.row) == ("warning", "ct_0.npy", None)
    assert "3 images of 'data'" in defect.message
    assert "write 'unit: HU' or 'unit: picture' into dataset.yaml beside manifest.csv" in defect.message
    (tmp_path / "dataset.yaml").write_text("unit: HU\n")
    dataset = open_dataset(tmp_path)
    assert {case.unit for case in dataset.test} == {Unit.HU}
    assert dataset.defects == ()


def test_settings_name_values_and_unit(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("L", (16, 16), 255).save(tmp_path / "masks" / "a_1.png")
    (tmp_path / "dataset.yaml").write_text("labels: {1: lesion, 2: lesion, 255: lesion}\nunit: hu\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("background", "lung", "lesion")
    assert dataset.unit is Unit.HU
    assert set(np.unique(dataset.case("a_1").labels())) == {5}
    assert require_clean(dataset) is not None


@pytest.mark.parametrize(
    ("says", "modality"), [("modality: X-ray", "X-ray"), ("modality: x-ray", "X-ray"), ("{}", "CT")]
)
def test_settings_name_the_modality(tmp_path: Path, says: str, modality: str) -> None:
    (pictures(tmp_path) / "dataset.yaml").write_text(says + "\n")
    dataset = open_dataset(tmp_path)
    assert {case.modality for case in dataset.cases} == {modality}
    assert require_clean(dataset) is not None


@pytest.mark.parametrize("kind", ["npy", "nii.gz"])
def test_a_stack_gives_a_case_a_slice(tmp_path: Path, kind: str) -> None:
    volume = np.random.default_rng(0).integers(-1000, 400, (3, 4, 5)).astype(np.int16)
    mask = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.uint8)
    for name, array in (("ct", volume), ("ct_mask", mask)):
        if kind == "npy":
            np.save(tmp_path / f"{name}.npy", array)
        else:
            nib.save(nib.Nifti1Image(array.T, np.diag([-1.0, -2.0, 5.0, 1.0])), tmp_path / f"{name}.nii.gz")
    (tmp_path / "manifest.csv").write_text(f"image,mask\nct.{kind},ct_mask.{kind}\n")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["ct/000", "ct/001", "ct/002"]
    assert [case.row for case in dataset.cases] == [0, 1, 2]
    assert {case.group for case in dataset.cases} == {"ct"}
    assert {case.unit for case in dataset.cases} == {Unit.HU}
    assert np.array_equal(np.stack([case.image() for case in dataset.cases]), volume)
    assert np.array_equal(np.stack([case.labels() for case in dataset.cases]), mask)
    if kind == "nii.gz":
        assert dataset.cases[0].geometry.spacing_mm == (2.0, 1.0)


def test_mixed_units_are_told(tmp_path: Path) -> None:
    pictures(tmp_path)
    np.save(tmp_path / "hu.npy", np.linspace(-1000, 400, 64).reshape(8, 8))
    (tmp_path / "manifest.csv").write_text("image\nimages/a_1.png\nhu.npy\n")
    dataset = open_dataset(tmp_path)
    assert "mixed-units" in kinds(dataset)
    assert [case.unit for case in dataset.test] == [Unit.PICTURE, Unit.HU]


def test_other_files_are_ignored_aloud(tmp_path: Path) -> None:
    (pictures(tmp_path) / "images" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "images" / ".hidden").write_bytes(b"")
    defects = open_dataset(tmp_path).defects
    assert [(d.kind, d.severity) for d in defects] == [("ignored-files", "warning")]
    assert "Thumbs.db" in defects[0].message
