"""Small data sets that are sound, and small files that are not, for every test that needs some."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from groundglass.data import radiographs
from groundglass.data.phantoms import draw


def one_hot(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[N, H, W] of channel numbers -> int8 [N, H, W, 4]."""
    return np.eye(4, dtype=np.int8)[labels]


def kaggle(
    folder: Path, medseg: int = 6, radiopaedia: int = 8, test: int = 2, side: int = 16, table: bool = True
) -> Path:
    """The competition's layout with random tissue in a lung box; every slice has both lesions."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name, count in (("medseg", medseg), ("radiopedia", radiopaedia), ("test", test)):
        if not count:
            continue
        labels = np.full((count, side, side), 3)
        labels[:, 4:12, 4:12] = 2
        for row in range(count):
            labels[row, 5, 5 : 7 + row % 4] = 0
            labels[row, 7, 5:7] = 1
        images = random.normal(-100, 20, labels.shape).astype(np.float32)
        images[:, :4] = -1000
        images[:, 8:] -= 700
        if name == "test":
            np.save(folder / "test_images_medseg.npy", images[..., None])
        else:
            np.save(folder / f"images_{name}.npy", images[..., None])
            np.save(folder / f"masks_{name}.npy", one_hot(labels))
    if radiopaedia and table:
        rows = "".join(f"{1 + row // 4},{row},2,2,yes\n" for row in range(radiopaedia))
        (folder / "radiopaedia_slices.csv").write_text(
            "volume,slice,ground_glass_px,consolidation_px,class_known\n" + rows
        )
    return folder


def drawn_kaggle(folder: Path, side: int = 64) -> Path:
    """The competition's layout with drawn chests, a slice of each of 12 patients and six slices of each of four, and
    six to predict: a network can learn from them."""
    folder.mkdir(parents=True)
    everywhere = [(patient, k) for patient in range(13, 17) for k in range(6)]
    one_each = [(patient, patient % 6) for patient in range(1, 13)]
    for name, places in (("medseg", one_each), ("radiopedia", everywhere), ("test", [(17, k) for k in range(6)])):
        slices = [draw(0, patient, k, size=side) for patient, k in places]
        labels = np.stack([drawing.labels for drawing in slices])
        images = np.stack([drawing.hu for drawing in slices])[..., None]
        if name == "test":
            np.save(folder / "test_images_medseg.npy", images)
        else:
            np.save(folder / f"images_{name}.npy", images)
            np.save(folder / f"masks_{name}.npy", one_hot(np.array([3, 0, 1, 2])[labels]))
    (folder / "radiopaedia_slices.csv").write_text("volume\n" + "".join(f"{row // 6}\n" for row in range(24)))
    return folder


def medseg_nifti(
    folder: Path, count: int = 3, affine: np.ndarray[Any, Any] | None = None, ending: str = ".nii.gz"
) -> Path:
    """tr_im, tr_mask and val_im of 12 x 10 pixels a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-0.7, -0.8, 1.0, 1.0]) if affine is None else affine
    random = np.random.default_rng(1)
    images = random.normal(-500, 100, (10, 12, count)).astype(np.float32)
    masks = np.zeros(images.shape, np.uint8)
    masks[2:4, 3, :], masks[5, 6, :], masks[7, 8, 0] = 1, 2, 3
    nib.save(nib.Nifti1Image(images, affine), folder / f"tr_im{ending}")
    nib.save(nib.Nifti1Image(masks, affine), folder / f"tr_mask{ending}")
    nib.save(nib.Nifti1Image(images[..., :2] + 1, affine), folder / f"val_im{ending}")
    return folder


def pictures(folder: Path, names: tuple[str, ...] = ("a_1", "a_2", "b_1", "b_2"), side: int = 16) -> Path:
    """images/, masks/ and lungs/ as PNG."""
    random = np.random.default_rng(2)
    for name in names:
        image = random.integers(20, 240, (side, side)).astype(np.uint8)
        mask = np.zeros((side, side), np.uint8)
        mask[4:6, 4:6], mask[8, 8] = 1, 2
        lung = np.zeros((side, side), np.uint8)
        lung[3:10, 3:10] = 255
        for part, array in (("images", image), ("masks", mask), ("lungs", lung)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / part / f"{name}.png")
    return folder


def table(folder: Path, text: str) -> Path:
    """The files of `pictures` with a manifest.csv."""
    pictures(folder)
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def _save(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def _chest(number: int, shape: tuple[int, int] = (16, 16)) -> tuple[np.ndarray[Any, Any], ...]:
    """(picture, mask 0/1/2 with 4 + 1 lesion pixels, lung of 49 pixels around them), each [H, W]."""
    image = np.random.default_rng(number).integers(20, 240, shape)
    mask, lung = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    mask[4:6, 4:6], mask[8, 8], lung[3:10, 3:10] = 1, 2, 1
    return image, mask, lung


def medseg_png(folder: Path, numbers: tuple[int, ...] = (0, 1, 4), tests: tuple[int, ...] = (2,)) -> Path:
    """MedSeg's slices as PNG, each of its own size: 16 + number high, 20 wide."""
    for number in numbers:
        for part, array in zip(("images", "masks", "lungs"), _chest(number, (16 + number, 20)), strict=True):
            _save(folder / part / f"{number:03d}.png", array)
    for number in tests:
        _save(folder / "test_images" / f"{number:03d}.png", _chest(100 + number)[0])
    rows = "".join(f"{n},{16 + n},20,4,1\n" for n in numbers)
    (folder / "slices.csv").write_text("slice,height,width,ground_glass_px,consolidation_px\n" + rows)
    return folder


def radiopaedia_jpeg(folder: Path) -> Path:
    """Volume 1 with a slice of each `class_known`, volume 2 with one of `yes`."""
    table = "volume,slice,ground_glass_px,consolidation_px,class_known\n"
    for volume, number, known in ((1, 1, "none"), (1, 2, "no"), (1, 3, "yes"), (2, 1, "yes")):
        image, mask, lung = _chest(200 + 10 * volume + number)
        name = f"{volume}_{number:03d}"
        _save(folder / "images" / f"{name}.jpg", image)
        _save(folder / "masks" / f"{name}.png", mask * (known != "none"))
        _save(folder / "lungs" / f"{name}.png", lung)
        table += f"{volume},{number},{4 * (known != 'none')},{int(known != 'none')},{known}\n"
    (folder / "slices.csv").write_text(table)
    return folder


def ct_seg(folder: Path, table: bool = True) -> Path:
    """Two cases of COVID-19-CT-Seg with two slices each."""
    rows = "case,slice,infection_px,lung_px\n"
    for case in ("case_01", "case_02"):
        for number in (3, 5):
            image, mask, lung = _chest(300 + 10 * int(case[-1]) + number)
            for part, array in (("images", image), ("infection", mask > 0), ("lungs", lung)):
                _save(folder / part / case / f"{number:03d}.png", array)
            rows += f"{case},{number},5,49\n"
    if table:
        (folder / "slices.csv").write_text(rows)
    return folder


def lctsc(folder: Path, patients: tuple[str, ...] = ("P-101", "P-201"), slices: int = 3) -> Path:
    """CT of 12 x 10 pixels a slice with lungs of 4 x 6, in the axes of the real files."""
    affine = np.diag([-1.95, -1.95, 3.0, 1.0])
    for number, patient in enumerate(patients):
        (folder / patient).mkdir(parents=True)
        ct = np.random.default_rng(number).normal(-500, 200, (10, 12, slices)).astype(np.int16)
        lungs = np.zeros(ct.shape, np.uint8)
        lungs[2:6, 3:9] = 1
        nib.save(nib.Nifti1Image(ct, affine), folder / patient / "ct.nii.gz")
        nib.save(nib.Nifti1Image(lungs, affine), folder / patient / "lungs.nii.gz")
    return folder


radiograph = cache(radiographs.draw)


def covid_qu_ex(folder: Path, count: int = 40, side: int = 32) -> Path:
    """The first drawn X-rays in the two trees of COVID-QU-Ex; from 40 on every part of each holds every class."""
    for number in range(1, count + 1):
        place, drawn = radiographs.place(number), radiograph(0, number, side)
        tree = folder / f"{place.source.capitalize()} Segmentation Data" / place.part / place.cohort
        _save(tree / "images" / f"{place.name}.png", drawn.grey)
        _save(tree / "lung masks" / f"{place.name}.png", 255 * drawn.lung)
        if place.source == "infection":
            _save(tree / "infection masks" / f"{place.name}.png", 255 * drawn.infection)
    return folder


def lungs_only(folder: Path, names: tuple[str, ...] = ("u_1", "v_1")) -> Path:
    """A manifest of pictures with lungs, in which nobody looked for lesions."""
    pictures(folder, names)
    rows = "".join(f"{name[0]},images/{name}.png,lungs/{name}.png\n" for name in names)
    (folder / "manifest.csv").write_text("patient,image,lung\n" + rows)
    return folder


def png_bomb(path: Path, side: int = 100_000) -> None:
    """A PNG of a few bytes whose header promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The header of a .npy file, whatever follows it."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


class Trap:
    """Unpickling an instance creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")
