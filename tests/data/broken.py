"""`BROKEN`: the name of a defect -> maker of a data set that has it, (tmp_path) -> (location, part of the message)."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from tests.data.small import (
    Trap,
    covid_qu_ex,
    ct_seg,
    kaggle,
    lctsc,
    medseg_nifti,
    medseg_png,
    npy_header,
    pictures,
    png_bomb,
    radiopaedia_jpeg,
    table,
)

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
def link_to_itself(tmp: Path) -> Broken:
    (tmp / "link").symlink_to("link")
    return str(tmp / "link"), "does not exist"


@broken
def home_of_nobody(tmp: Path) -> Broken:
    return "~nobody-of-this-name/data", "does not exist"


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


# MedSeg, Radiopaedia and COVID-19-CT-Seg as pictures ------------------------------------------------------------------


@broken
def medseg_without_a_mask(tmp: Path) -> Broken:
    (medseg_png(tmp) / "masks" / "001.png").unlink()
    return str(tmp), "images/001.png: has no file of that name in masks/"


@broken
def medseg_without_any_mask(tmp: Path) -> Broken:
    shutil.rmtree(medseg_png(tmp) / "masks")
    return str(tmp), "masks: holds no mask"


@broken
def medseg_lung_without_image(tmp: Path) -> Broken:
    Image.new("L", (20, 16)).save(medseg_png(tmp) / "lungs" / "007.png")
    return str(tmp), "lungs/007.png: has no image of that name in images/"


@broken
def medseg_mask_of_another_size(tmp: Path) -> Broken:
    Image.new("L", (16, 16)).save(medseg_png(tmp) / "masks" / "004.png")
    return str(tmp), "masks/004.png: [N, H, W] is [1, 16, 16], but [1, 20, 20]"


@broken
def medseg_mask_of_threes(tmp: Path) -> Broken:
    Image.new("L", (20, 16), 3).save(medseg_png(tmp) / "masks" / "000.png")
    return str(tmp), "images/000.png: mask holds 3, which is no label of this format"


@broken
def medseg_table_of_bytes(tmp: Path) -> Broken:
    (medseg_png(tmp) / "slices.csv").write_bytes(b"slice\n\xff\xfe\0\n")
    return str(tmp), "slices.csv: is not a readable table"


@broken
def medseg_table_without_slice(tmp: Path) -> Broken:
    (medseg_png(tmp) / "slices.csv").write_text("ground_glass_px\n8\n")
    return str(tmp), "slices.csv: has no column 'slice'"


@broken
def medseg_table_without_a_row(tmp: Path) -> Broken:
    path = medseg_png(tmp) / "slices.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return str(tmp), "images/004.png: has no row in slices.csv"


@broken
def medseg_table_with_a_word(tmp: Path) -> Broken:
    with open(medseg_png(tmp) / "slices.csv", "a") as file:
        file.write("nine,1,1,1,1\n")
    return str(tmp), "slices.csv row 4: names no slice: slice 'nine'"


@broken
def radiopaedia_without_class_known(tmp: Path) -> Broken:
    (radiopaedia_jpeg(tmp) / "slices.csv").write_text("volume,slice,ground_glass_px\n1,1,0\n")
    return str(tmp), "slices.csv: has no column 'class_known'"


@broken
def radiopaedia_with_class_perhaps_known(tmp: Path) -> Broken:
    path = radiopaedia_jpeg(tmp) / "slices.csv"
    path.write_text(path.read_text().replace(",no\n", ",perhaps\n"))
    return str(tmp), "slices.csv row 2: class_known is 'perhaps'; expected is yes, no or none"


@broken
def radiopaedia_with_lesions_where_none_are(tmp: Path) -> Broken:
    Image.new("L", (16, 16), 1).save(radiopaedia_jpeg(tmp) / "masks" / "1_001.png")
    return str(tmp), "images/1_001.jpg: mask holds 1"


@broken
def radiopaedia_row_without_image(tmp: Path) -> Broken:
    radiopaedia_jpeg(tmp)
    for file in ("images/1_002.jpg", "masks/1_002.png", "lungs/1_002.png"):
        (tmp / file).unlink()
    return str(tmp), "slices.csv row 2: there is no image 1_002"


@broken
def radiopaedia_row_twice(tmp: Path) -> Broken:
    with open(radiopaedia_jpeg(tmp) / "slices.csv", "a") as file:
        file.write("1,2,0,0,no\n")
    return str(tmp), "slices.csv row 5: is about 1_002, as row 2 is"


@broken
def radiopaedia_without_a_lung(tmp: Path) -> Broken:
    (radiopaedia_jpeg(tmp) / "lungs" / "2_001.png").unlink()
    return str(tmp), "images/2_001.jpg: has no file of that name in lungs/"


@broken
def ct_seg_without_an_infection(tmp: Path) -> Broken:
    (ct_seg(tmp) / "infection" / "case_02" / "003.png").unlink()
    return str(tmp), "images/case_02/003.png: has no file of that name in infection/case_02/"


@broken
def ct_seg_without_the_infections_of_a_case(tmp: Path) -> Broken:
    shutil.rmtree(ct_seg(tmp) / "infection" / "case_02")
    return str(tmp), "infection/case_02: holds no mask"


@broken
def ct_seg_without_the_images_of_a_case(tmp: Path) -> Broken:
    shutil.rmtree(ct_seg(tmp, table=False) / "images" / "case_01")
    return str(tmp), "infection/case_01/003.png: has no image of that name in images/case_01/"


@broken
def ct_seg_infection_of_twos(tmp: Path) -> Broken:
    Image.new("L", (16, 16), 2).save(ct_seg(tmp) / "infection" / "case_01" / "003.png")
    return str(tmp), "images/case_01/003.png: mask holds 2"


@broken
def ct_seg_lung_of_another_size(tmp: Path) -> Broken:
    Image.new("L", (16, 15)).save(ct_seg(tmp) / "lungs" / "case_01" / "003.png")
    return str(tmp), "lungs/case_01/003.png: [N, H, W] is [1, 15, 16]"


@broken
def ct_seg_without_any_image(tmp: Path) -> Broken:
    for part in ("images", "infection"):
        (tmp / part).mkdir()
    return str(tmp), "images: holds no image"


@broken
def ct_seg_table_names_another_slice(tmp: Path) -> Broken:
    with open(ct_seg(tmp) / "slices.csv", "a") as file:
        file.write("case_09,1,5,5\n")
    return str(tmp), "slices.csv row 5: there is no image case_09/001"


# COVID-QU-Ex ----------------------------------------------------------------------------------------------------------

ILL, HEALTHY = "Infection Segmentation Data/Test/COVID-19", "Infection Segmentation Data/Val/Normal"


def _masked(tmp: Path, kind: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], at: str = ILL) -> str:
    """Trees in which the first mask of a kind in a folder is another."""
    path = min((covid_qu_ex(tmp) / at / kind).iterdir())
    Image.fromarray(change(np.array(Image.open(path)))).save(path)
    return str(tmp)


def _lacking(tmp: Path, kind: str) -> str:
    min((covid_qu_ex(tmp) / ILL / kind).iterdir()).unlink()
    return str(tmp)


def _gone(tmp: Path, place: str) -> str:
    shutil.rmtree(covid_qu_ex(tmp) / place)
    return str(tmp)


@broken
def xray_without_its_lungs(tmp: Path) -> Broken:
    return _lacking(tmp, "lung masks"), f"phantom-009.png: has no file of that name in {ILL}/lung masks/"


@broken
def xray_without_its_infection(tmp: Path) -> Broken:
    return _lacking(tmp, "infection masks"), f"phantom-009.png: has no file of that name in {ILL}/infection masks/"


@broken
def xray_masks_without_image(tmp: Path) -> Broken:
    return _lacking(tmp, "images"), f"infection masks/phantom-009.png: has no image of that name in {ILL}/images/"


@broken
def xray_infection_of_another_size(tmp: Path) -> Broken:
    place = _masked(tmp, "infection masks", lambda mask: mask[::2, ::2])
    return place, "infection masks/phantom-009.png: [N, H, W] is [1, 16, 16], but [1, 32, 32]"


@broken
def xray_lungs_of_another_size(tmp: Path) -> Broken:
    return _masked(tmp, "lung masks", lambda mask: mask[1:]), "[N, H, W] is [1, 31, 32], but [1, 32, 32]"


@broken
def xray_infection_of_another_chest(tmp: Path) -> Broken:
    place = _masked(tmp, "infection masks", lambda mask: np.roll(mask, 16, axis=0))
    return place, "of its infection lies outside its lungs"


@broken
def xray_of_a_normal_chest_with_infection(tmp: Path) -> Broken:
    lungs = covid_qu_ex(tmp) / HEALTHY / "lung masks"
    shutil.copytree(lungs, tmp / HEALTHY / "infection masks", dirs_exist_ok=True)
    return str(tmp), "the source calls it Normal, and infection is marked on it"


@broken
def xray_infection_of_128(tmp: Path) -> Broken:
    return _masked(tmp, "infection masks", lambda mask: mask // 255 * np.uint8(128)), "mask holds 128"


@broken
def xray_tree_without_test(tmp: Path) -> Broken:
    place = _gone(tmp, "Lung Segmentation Data/Test")
    return place, "Lung Segmentation Data/Test: is missing; the source has Train, Val, Test"


@broken
def xray_tree_without_train(tmp: Path) -> Broken:
    return _gone(tmp, "Infection Segmentation Data/Train"), "Infection Segmentation Data/Train: is missing"


@broken
def xray_part_without_a_class(tmp: Path) -> Broken:
    place = _gone(tmp, "Lung Segmentation Data/Val/Normal")
    return place, "Lung Segmentation Data/Val/Normal: is missing, but Test has Normal"


@broken
def xray_class_without_infection_masks(tmp: Path) -> Broken:
    return _gone(tmp, f"{ILL}/infection masks"), f"{ILL}/infection masks: holds no mask"


@broken
def xray_class_without_lungs(tmp: Path) -> Broken:
    return _gone(tmp, f"{ILL}/lung masks"), f"{ILL}/lung masks: holds no mask"


@broken
def xray_class_without_anything(tmp: Path) -> Broken:
    _gone(tmp, HEALTHY)
    (tmp / HEALTHY / "images").mkdir(parents=True)
    return str(tmp), f"{HEALTHY}: holds no image"


@broken
def xray_phantoms_of_nobody(tmp: Path) -> Broken:
    return "phantom-xray:0", "not a phantom location; write phantom-xray:N"


# CT volumes with lungs ------------------------------------------------------------------------------------------------


@broken
def lctsc_without_a_lung(tmp: Path) -> Broken:
    (lctsc(tmp) / "P-201" / "lungs.nii.gz").unlink()
    return str(tmp), "P-201/lungs.nii.gz: is missing"


@broken
def lctsc_without_a_ct(tmp: Path) -> Broken:
    (lctsc(tmp) / "P-101" / "ct.nii.gz").unlink()
    return str(tmp), "P-101/ct.nii.gz: is missing"


@broken
def lctsc_lung_of_fewer_slices(tmp: Path) -> Broken:
    lungs = nib.Nifti1Image(np.zeros((10, 12, 2), np.uint8), np.diag([-1.95, -1.95, 3, 1]))
    nib.save(lungs, lctsc(tmp) / "P-101" / "lungs.nii.gz")
    return str(tmp), "P-101/lungs.nii.gz: [N, H, W] is [2, 12, 10], but [3, 12, 10]"


@broken
def lctsc_lung_turned(tmp: Path) -> Broken:
    lungs = nib.Nifti1Image(np.zeros((10, 12, 3), np.uint8), np.diag([1.95, -1.95, 3, 1]))
    nib.save(lungs, lctsc(tmp) / "P-101" / "lungs.nii.gz")
    return str(tmp), "its axes point RPS"


@broken
def lctsc_that_is_text(tmp: Path) -> Broken:
    (lctsc(tmp) / "P-101" / "ct.nii.gz").write_text("not a scan")
    return str(tmp), "P-101/ct.nii.gz: is not a readable NIfTI"


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
def settings_of_unknown_modality(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("modality: MR\n")
    return str(tmp), "unknown modality 'MR'; choose from: CT, X-ray"


@broken
def settings_of_an_x_ray_in_hounsfield_units(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("modality: X-ray\nunit: HU\n")
    return str(tmp), "an X-ray has no Hounsfield units"


@broken
def settings_with_names_as_values(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("labels: {lesion: [1]}\n")
    return str(tmp), "label value 'lesion' is not a whole number"


@broken
def settings_with_some_lesions(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("lesions: few\n")
    return str(tmp), "'lesions' can only be none"


@broken
def settings_of_lesions_beside_medseg(tmp: Path) -> Broken:
    (medseg_png(tmp) / "dataset.yaml").write_text("lesions: none\n")
    return str(tmp), "dataset.yaml: unknown setting 'lesions'"


@broken
def settings_not_yaml(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text("labels: {1: lesion\n")
    return str(tmp), "dataset.yaml: is not readable YAML"


@broken
def settings_with_python_object(tmp: Path) -> Broken:
    (pictures(tmp) / "dataset.yaml").write_text(f"labels: !!python/object/apply:builtins.open ['{tmp}/sprung', w]\n")
    return str(tmp), "dataset.yaml: is not readable YAML"
