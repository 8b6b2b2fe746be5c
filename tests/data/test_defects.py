"""The pass over all pixels: warnings, counts, fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.data import Scan, open_dataset, require_clean, scan
from groundglass.data.dataset import Defect
from groundglass.errors import DataError
from tests.data.small import kaggle, pictures


def edit(folder: Path, name: str, place: object, value: object) -> None:
    array = np.load(folder / name)
    array[place] = value
    np.save(folder / name, array)


def overlap(folder: Path) -> None:
    edit(folder, "masks_medseg.npy", (1, 7, 5, 0), 1)


def unlabelled(folder: Path) -> None:
    edit(folder, "masks_medseg.npy", (3, 0, slice(0, 5), 3), 0)


def air(folder: Path) -> None:
    edit(folder, "images_medseg.npy", (2, 5, 5), -1000)


def constant(folder: Path) -> None:
    edit(folder, "images_radiopedia.npy", 4, 12)


def duplicate(folder: Path) -> None:
    edit(folder, "images_radiopedia.npy", 7, np.load(folder / "images_medseg.npy")[3])


def leaked(folder: Path) -> None:
    edit(folder, "test_images_medseg.npy", 1, np.load(folder / "images_medseg.npy")[0])


@pytest.mark.parametrize(
    ("break_it", "kind", "place", "says"),
    [
        (
            overlap,
            "overlapping-classes",
            "images_medseg.npy row 1",
            "1 pixels are marked as consolidation and ground-glass",
        ),
        (unlabelled, "unlabelled-pixels", "images_medseg.npy row 3", "5 pixels have no class"),
        (air, "lesion-on-air", "images_medseg.npy row 2", "% of its lesion pixels"),
        (constant, "constant-image", "images_radiopedia.npy row 4", "every pixel is 12"),
        (
            duplicate,
            "exact-duplicate",
            "images_radiopedia.npy row 7",
            "same pixels as images_medseg.npy row 3; the groups of radiopaedia/0007 and medseg/003 count as one",
        ),
        (
            leaked,
            "exact-duplicate",
            "test_images_medseg.npy row 1",
            "as images_medseg.npy row 0; it is to be predicted",
        ),
    ],
)
def test_warnings(tmp_path: Path, break_it: Callable[[Path], None], kind: str, place: str, says: str) -> None:
    assert scan(open_dataset(kaggle(tmp_path))).defects == ()
    break_it(tmp_path)
    (defect,) = scan(open_dataset(tmp_path)).defects
    assert (defect.severity, defect.kind) == ("warning", kind)
    assert str(defect).startswith(place)
    assert says in defect.message
    assert isinstance(require_clean(open_dataset(tmp_path)), Scan), "warnings stop nothing"


def test_lesion_on_a_pictures_black_border(tmp_path: Path) -> None:
    pictures(tmp_path)
    image = np.array(Image.open(tmp_path / "images" / "a_1.png"))
    image[4, 4] = 0
    Image.fromarray(image).save(tmp_path / "images" / "a_1.png")
    (defect,) = (d for d in scan(open_dataset(tmp_path)).defects if d.file == "images/a_1.png")
    assert defect.kind == "lesion-on-air"
    assert "20.0%" in defect.message


def test_counts(tmp_path: Path) -> None:
    dataset = open_dataset(kaggle(tmp_path, medseg=4, radiopaedia=0))
    images = np.concatenate([np.load(tmp_path / f"{name}images_medseg.npy") for name in ("", "test_")])
    masks = np.load(tmp_path / "masks_medseg.npy").astype(np.int64)
    seen: list[tuple[int, int]] = []
    found = scan(dataset, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]
    assert list(found.pixels) == ["background", "ground-glass", "consolidation", "lung"]
    assert list(found.pixels.values()) == masks.sum(axis=(0, 1, 2))[[3, 0, 1, 2]].tolist()
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.n_cases, found.n_test, found.n_with_lesion) == (4, 2, 4)
    assert (found.minimum, found.maximum) == (images.min(), images.max())
    assert found.percentiles["50"] == pytest.approx(np.median(images), abs=30)
    assert found.lesion["medseg/001"] == masks[1, ..., :2].sum() / 256
    edges, counts = found.histogram
    assert (len(edges), len(counts)) == (257, 256)


def test_plain_values_for_json(tmp_path: Path) -> None:
    found = scan(open_dataset(kaggle(tmp_path)))
    assert json.loads(json.dumps(found.to_dict()))["fingerprint"] == found.fingerprint


def test_empty_numbers_when_nothing_can_be_read(tmp_path: Path) -> None:
    np.save(kaggle(tmp_path, medseg=1, radiopaedia=0, test=0) / "images_medseg.npy", np.full((1, 16, 16, 1), np.nan))
    found = scan(open_dataset(tmp_path))
    assert (found.minimum, found.percentiles, found.histogram) == (None, {}, ((), ()))
    assert "not-a-number" in [defect.kind for defect in found.defects]


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = scan(open_dataset(kaggle(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert scan(open_dataset(tmp_path / "b")).fingerprint == first.fingerprint
    for name, place, value in (
        ("images_medseg.npy", (0, 0, 0, 0), 5),
        ("test_images_medseg.npy", (1, 2, 2, 0), 5),
        ("masks_radiopedia.npy", (0, 0, 0), [1, 0, 0, 0]),
    ):
        shutil.copytree(tmp_path / "a", tmp_path / name)
        edit(tmp_path / name, name, place, value)
        assert scan(open_dataset(tmp_path / name)).fingerprint != first.fingerprint


def test_a_file_lost_after_opening_is_a_defect(tmp_path: Path) -> None:
    dataset = open_dataset(pictures(tmp_path))
    (tmp_path / "images" / "b_1.png").unlink()
    (tmp_path / "masks" / "b_2.png").unlink()
    errors = [str(defect) for defect in scan(dataset).defects if defect.severity == "error"]
    assert len(errors) == 2
    assert errors[0] == "images/b_1.png: does not exist"
    assert "mask of b_2" in errors[1]


def test_the_first_error_and_how_many_more(tmp_path: Path) -> None:
    edit(kaggle(tmp_path), "images_medseg.npy", slice(0, 3), np.inf)
    with pytest.raises(DataError, match=r"row 0: 256 pixels .* \(and 2 more; see 'groundglass check'\)$"):
        require_clean(open_dataset(tmp_path))
    assert require_clean(open_dataset(tmp_path), pixels=False) is None


def test_defects_read_as_a_sentence() -> None:
    assert str(Defect("error", "k", "a.npy", 3, "is odd")) == "a.npy row 3: is odd"
    assert str(Defect("error", "k", "a.npy", None, "is odd")) == "a.npy: is odd"
