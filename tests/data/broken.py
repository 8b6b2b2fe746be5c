"""`BROKEN`: the name of a defect -> maker of a data set that has it, (tmp_path) -> (location, part of the message)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from tests.data.small import Trap, kaggle, medseg_nifti, npy_header, pictures, png_bomb, table

Broken = tuple[str, str]
BROKEN: dict[str, Callable[[Path], Broken]] = {}


def broken(maker: Callable[[Path], Broken]) -> Callable[[Path], Broken]:
    BROKEN[maker.__name__.replace("_", "-")] = maker
    return maker


# Nothing to open ------------------------------------------------------------------------------------------------------


@broken
def missing_path(tmp: Path) -> Broken:
    return str(tmp / "nowhere"), "does not exist"


@broken
def file_of_no_kind(tmp: Path) -> Broken:
    (tmp / "notes.txt").write_text("hello")
    return str(tmp / "notes.txt"), "is no data set"


@broken
def empty_folder(tmp: Path) -> Broken:
    return str(tmp), "holds no known data set; looked for"


@broken
def folder_around(tmp: Path) -> Broken:
    kaggle(tmp / "inner")
    return str(tmp), "did you mean"


# The competition's files ----------------------------------------------------------------------------------------------


def _replace(tmp: Path, name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> str:
    folder = kaggle(tmp)
    np.save(folder / name, change(np.load(folder / name)))
    return str(folder)


def _poke(tmp: Path, name: str, place: tuple[int, ...], value: float) -> str:
    def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array[place] = value
        return array

    return _replace(tmp, name, change)


@broken
def kaggle_without_medseg(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_medseg.npy").unlink()
    return str(tmp), "images_medseg.npy: is missing"


@broken
def kaggle_masks_without_images(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_radiopedia.npy").unlink()
    return str(tmp), "images_radiopedia.npy: is missing"


@broken
def kaggle_images_without_channel(tmp: Path) -> Broken:
    return _replace(tmp, "images_medseg.npy", lambda a: a[..., 0]), "images_medseg.npy: has shape (6, 16, 16)"


@broken
def kaggle_masks_of_three_channels(tmp: Path) -> Broken:
    return _replace(tmp, "masks_medseg.npy", lambda a: a[..., :3]), "one channel a class"


@broken
def kaggle_too_few_masks(tmp: Path) -> Broken:
    return _replace(tmp, "masks_medseg.npy", lambda a: a[:-1]), "but [6, 16, 16] in images_medseg.npy"


@broken
def kaggle_smaller_masks(tmp: Path) -> Broken:
    return _replace(tmp, "masks_radiopedia.npy", lambda a: a[:, ::2, ::2]), "but [8, 16, 16] in images_radiopedia.npy"


@broken
def kaggle_complex_images(tmp: Path) -> Broken:
    return _replace(tmp, "images_medseg.npy", lambda a: a.astype(complex)), "images_medseg.npy: holds complex128"


@broken
def kaggle_text_images(tmp: Path) -> Broken:
    return _replace(tmp, "test_images_medseg.npy", lambda a: a.astype("U4")), "test_images_medseg.npy: holds <U4"


@broken
def kaggle_pickled_images(tmp: Path) -> Broken:
    trap = np.array([Trap(tmp / "sprung")], dtype=object)
    np.save(kaggle(tmp) / "images_medseg.npy", trap, allow_pickle=True)
    return str(tmp), "holds Python objects"


@broken
def kaggle_bare_pickle(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_medseg.npy").write_bytes(pickle.dumps(Trap(tmp / "sprung")))
    return str(tmp), "is not a .npy file"


@broken
def kaggle_npz_renamed(tmp: Path) -> Broken:
    with open(kaggle(tmp) / "images_medseg.npy", "wb") as file:
        np.savez(file, images=np.zeros(3))
    return str(tmp), "is not a .npy file"


@broken
def kaggle_cut_short(tmp: Path) -> Broken:
    path = kaggle(tmp) / "images_medseg.npy"
    path.write_bytes(path.read_bytes()[:-100])
    return str(tmp), "is cut short"


@broken
def kaggle_header_cut_short(tmp: Path) -> Broken:
    path = kaggle(tmp) / "images_medseg.npy"
    path.write_bytes(path.read_bytes()[:40])
    return str(tmp), "header cannot be read"


@broken
def kaggle_header_promises_terabytes(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_medseg.npy").write_bytes(npy_header((10**6, 2048, 2048, 1)) + bytes(1000))
    return str(tmp), "is cut short"


@broken
def kaggle_header_overflows(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_medseg.npy").write_bytes(npy_header((2**32, 2**32, 4, 1)) + bytes(1000))
    return str(tmp), "is cut short"


@broken
def kaggle_negative_shape(tmp: Path) -> Broken:
    (kaggle(tmp) / "images_medseg.npy").write_bytes(npy_header((-2, -2, 4, 1)) + bytes(64))
    return str(tmp), "impossible shape"


@broken
def kaggle_too_long(tmp: Path) -> Broken:
    path = kaggle(tmp) / "masks_medseg.npy"
    path.write_bytes(path.read_bytes() + b"more")
    return str(tmp), "longer than its header says"


@broken
def kaggle_no_slices(tmp: Path) -> Broken:
    return _replace(tmp, "images_medseg.npy", lambda a: a[:0]), "holds no values"


@broken
def kaggle_not_a_number(tmp: Path) -> Broken:
    return _poke(tmp, "images_medseg.npy", (2, 3, 3, 0), np.nan), "images_medseg.npy row 2: 1 pixels are not a number"


@broken
def kaggle_infinite_test_image(tmp: Path) -> Broken:
    return _poke(tmp, "test_images_medseg.npy", (1, 0, 0, 0), np.inf), "test_images_medseg.npy row 1: 1 pixels"


@broken
def kaggle_mask_of_sevens(tmp: Path) -> Broken:
    return _poke(tmp, "masks_medseg.npy", (4, 3, 3, 0), 7), "row 4: mask holds 7"


@broken
def kaggle_short_table(tmp: Path) -> Broken:
    (kaggle(tmp) / "radiopaedia_slices.csv").write_text("volume,slice\n1,1\n")
    return str(tmp), "has 1 rows for 8 slices"


@broken
def kaggle_table_without_volume(tmp: Path) -> Broken:
    (kaggle(tmp) / "radiopaedia_slices.csv").write_text("slice\n" + "1\n" * 8)
    return str(tmp), "not a table with a column 'volume'"


@broken
def kaggle_table_of_bytes(tmp: Path) -> Broken:
    (kaggle(tmp) / "radiopaedia_slices.csv").write_bytes(b"volume\n\xff\xfe\0\n")
    return str(tmp), "not a table"


# MedSeg in NIfTI ------------------------------------------------------------------------------------------------------


@broken
def nifti_without_images(tmp: Path) -> Broken:
    (medseg_nifti(tmp) / "tr_im.nii.gz").unlink()
    return str(tmp), "tr_im.nii.gz: is missing"


@broken
def nifti_that_is_text(tmp: Path) -> Broken:
    (medseg_nifti(tmp) / "tr_im.nii.gz").write_text("not a scan")
    return str(tmp), "not a readable NIfTI"


@broken
def nifti_cut_short(tmp: Path) -> Broken:
    path = medseg_nifti(tmp, count=20) / "tr_im.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    return str(tmp), "tr_im.nii.gz: the voxels cannot be read"


@broken
def nifti_uncompressed_cut_short(tmp: Path) -> Broken:
    path = medseg_nifti(tmp, ending=".nii") / "tr_mask.nii"
    path.write_bytes(path.read_bytes()[:400])
    return str(tmp), "tr_mask.nii: is cut short"


@broken
def nifti_too_few_masks(tmp: Path) -> Broken:
    medseg_nifti(tmp)
    nib.save(nib.Nifti1Image(np.zeros((10, 12, 2), np.uint8), np.diag([-0.7, -0.8, 1, 1])), tmp / "tr_mask.nii.gz")
    return str(tmp), "but [3, 12, 10] in tr_im.nii.gz"


@broken
def nifti_masks_turned(tmp: Path) -> Broken:
    medseg_nifti(tmp)
    nib.save(nib.Nifti1Image(np.zeros((10, 12, 3), np.uint8), np.diag([0.7, -0.8, 1, 1])), tmp / "tr_mask.nii.gz")
    return str(tmp), "its axes point RPS"


@broken
def nifti_mask_of_nines(tmp: Path) -> Broken:
    medseg_nifti(tmp)
    nib.save(nib.Nifti1Image(np.full((10, 12, 3), 9, np.uint8), np.diag([-0.7, -0.8, 1, 1])), tmp / "tr_mask.nii.gz")
    return str(tmp), "row 0: mask holds 9"


@broken
def nifti_time_series(tmp: Path) -> Broken:
    medseg_nifti(tmp)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 3, 2), np.int16), np.eye(4)), tmp / "tr_im.nii.gz")
    return str(tmp), "has shape (4, 4, 3, 2)"


# Anybody's own files --------------------------------------------------------------------------------------------------


@broken
def table_without_image_column(tmp: Path) -> Broken:
    return str(table(tmp, "patient,picture\np,images/a_1.png\n")), "has no column 'image'"


@broken
def table_without_rows(tmp: Path) -> Broken:
    return str(table(tmp, "patient,image\n")), "holds no image"


@broken
def table_of_bytes(tmp: Path) -> Broken:
    (path := table(tmp, "")).write_bytes(b"\xff\xfe\x00image\n\x00")
    return str(path), "is not a readable table"


@broken
def table_with_blank_image(tmp: Path) -> Broken:
    return str(table(tmp, "patient,image\np,images/a_1.png\nq,\n")), "manifest.csv row 2: names no image"


@broken
def table_with_too_many_cells(tmp: Path) -> Broken:
    return str(table(tmp, "patient,image\nDoe, Jane,images/a_1.png\n")), "manifest.csv row 1: has more cells"


@broken
def table_with_missing_image(tmp: Path) -> Broken:
    return str(table(tmp, "patient,image\np,images/none.png\n")), "images/none.png: does not exist"


@broken
def table_with_missing_mask(tmp: Path) -> Broken:
    return str(table(tmp, "image,mask\nimages/a_1.png,masks/none.png\n")), "masks/none.png: does not exist"


@broken
def table_with_nul_in_path(tmp: Path) -> Broken:
    return str(table(tmp, "image\nimages/a\0b.png\n")), "does not exist"


@broken
def table_with_far_away_path(tmp: Path) -> Broken:
    return str(table(tmp, "image\n" + "../" * 40 + "nowhere/x.png\n")), "does not exist"


@broken
def table_with_folder_as_image(tmp: Path) -> Broken:
    return str(table(tmp, "image\nimages\n")), "images: does not exist"


@broken
def table_with_repeated_image(tmp: Path) -> Broken:
    return str(table(tmp, "image\nimages/a_1.png\nimages/a_1.png\n")), "is listed twice"


@broken
def picture_of_unknown_kind(tmp: Path) -> Broken:
    (tmp / "scan.bmp").write_bytes(b"BM")
    return str(table(tmp, "image\nscan.bmp\n")), "is of no known kind"


@broken
def picture_bomb(tmp: Path) -> Broken:
    png_bomb(pictures(tmp) / "images" / "a_1.png")
    return str(tmp), "images/a_1.png: has more pixels"


@broken
def picture_just_too_large(tmp: Path) -> Broken:
    png_bomb(pictures(tmp) / "images" / "a_1.png", side=10_001)
    return str(tmp), "images/a_1.png: 10001 x 10001 pixels"


@broken
def picture_that_is_text(tmp: Path) -> Broken:
    (pictures(tmp) / "images" / "a_1.png").write_text("not a picture")
    return str(tmp), "is not a PNG or JPEG"


@broken
def picture_cut_short(tmp: Path) -> Broken:
    path = pictures(tmp, side=64) / "images" / "b_1.png"
    path.write_bytes(path.read_bytes()[:1000])
    return str(tmp), "images/b_1.png: is damaged"


@broken
def picture_in_colour(tmp: Path) -> Broken:
    Image.new("RGB", (16, 16), (200, 30, 30)).save(pictures(tmp) / "images" / "a_2.png")
    return str(tmp), "images/a_2.png: is a colour picture"


@broken
def mask_as_jpeg(tmp: Path) -> Broken:
    pictures(tmp)
    (tmp / "masks" / "a_1.png").unlink()
    Image.new("L", (16, 16)).save(tmp / "masks" / "a_1.jpg")
    return str(tmp), "masks/a_1.jpg: is a JPEG"


@broken
def mask_of_another_size(tmp: Path) -> Broken:
    Image.new("L", (16, 15)).save(pictures(tmp) / "masks" / "a_1.png")
    return str(tmp), "[1, 15, 16], but [1, 16, 16]"


@broken
def mask_of_255(tmp: Path) -> Broken:
    Image.new("L", (16, 16), 255).save(pictures(tmp) / "masks" / "a_1.png")
    return str(tmp), "mask holds 255"


@broken
def mask_of_an_undeclared_class(tmp: Path) -> Broken:
    Image.new("L", (16, 16), 5).save(pictures(tmp) / "masks" / "b_2.png")
    return str(tmp), "images/b_2.png: mask holds 'lesion'"


@broken
def mask_without_image(tmp: Path) -> Broken:
    (pictures(tmp) / "images" / "a_1.png").unlink()
    return str(tmp), "masks/a_1.png: has no image of that name"


@broken
def image_without_mask(tmp: Path) -> Broken:
    (pictures(tmp) / "masks" / "a_1.png").unlink()
    return str(tmp), "images/a_1.png: has no file of that name in masks/"


@broken
def image_without_lung(tmp: Path) -> Broken:
    (pictures(tmp) / "lungs" / "a_1.png").unlink()
    return str(tmp), "images/a_1.png: has no file of that name in lungs/"


@broken
def two_images_of_one_name(tmp: Path) -> Broken:
    np.save(pictures(tmp) / "images" / "a_1.npy", np.zeros((16, 16)))
    return str(tmp), "images/a_1.png: has the same name as images/a_1.npy"


@broken
def images_folder_empty(tmp: Path) -> Broken:
    (tmp / "images").mkdir()
    return str(tmp), "images: holds no image"


@broken
def stack_of_four_axes(tmp: Path) -> Broken:
    np.save(tmp / "stack.npy", np.zeros((2, 4, 4, 3)))
    return str(table(tmp, "image\nstack.npy\n")), "has shape (2, 4, 4, 3)"


@broken
def settings_of_unknown_label(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("labels: {1: ground-glas}\n")
    return str(tmp), "unknown label 'ground-glas'; did you mean 'ground-glass'?"


@broken
def settings_of_unknown_key(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("units: HU\n")
    return str(tmp), "unknown setting 'units'; did you mean 'unit'?"


@broken
def settings_of_unknown_unit(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("unit: mmol\n")
    return str(tmp), "unknown unit 'mmol'"


@broken
def settings_with_names_as_values(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("labels: {lesion: [1]}\n")
    return str(tmp), "label value 'lesion' is not a whole number"


@broken
def settings_not_yaml(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("labels: {1: lesion\n")
    return str(tmp), "dataset.yaml: is not readable YAML"


@broken
def settings_with_python_object(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text(f"labels: !!python/object/apply:builtins.open ['{tmp}/sprung', w]\n")
    return str(tmp), "dataset.yaml: is not readable YAML"
