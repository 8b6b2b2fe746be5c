"""Small data sets that are sound, and small files that are not, for every test that needs some."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

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
    """The competition's layout with drawn chests, seven patients of six slices: a network can learn from them."""
    folder.mkdir(parents=True)
    for name, patients in (("medseg", (1, 2)), ("radiopedia", (3, 4, 5, 6)), ("test", (7,))):
        slices = [draw(0, patient, k, size=side) for patient in patients for k in range(6)]
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
