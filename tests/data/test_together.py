"""Several data sets opened as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean, scan
from groundglass.errors import DataError
from groundglass.labels import BY_NAME, label_set
from tests.data.small import ct_seg, kaggle, lctsc, lungs_only, medseg_nifti, medseg_png, pictures, radiopaedia_jpeg

NO_LESION = BY_NAME["no-lesion"].value


def test_sets_that_know_different_things_are_learned_as_one(tmp_path: Path) -> None:
    places = [
        medseg_png(tmp_path / "medseg"),
        lungs_only(tmp_path / "lungs-hu"),
        ct_seg(tmp_path / "benchmark"),
        lctsc(tmp_path / "lctsc"),
    ]
    alone = [open_dataset(place) for place in places]
    dataset = open_dataset(places)
    assert (dataset.location, dataset.format) == ("medseg + lungs-hu + benchmark + lctsc", "several")
    assert (dataset.unit, dataset.patients) == (Unit.UNKNOWN, "not known")
    assert {case.unit for case in dataset.cases} == {Unit.PICTURE, Unit.HU}
    assert [case.id for case in dataset.cases] == [case.id for part in alone for case in part.cases]
    assert [case.id for case in dataset.test] == ["test/002"]
    assert dataset.sources == ("medseg", "data", "covid19-ct-seg", "lctsc")
    assert dataset.classes == ("background", "ground-glass", "consolidation", "lung", "lesion", "unmarked-lung")
    ct4 = label_set("ct4")
    for case, same in zip(dataset.cases, (case for part in alone for case in part.cases), strict=True):
        assert (case.group, case.patient) == (same.group, same.patient)
        assert np.array_equal(case.image(), same.image())
        assert np.array_equal(case.labels(), same.labels())
        possible = [ct4.codes[code] for code in np.unique(ct4.encode(case.labels()))]
        assert {
            "medseg": [(0,), (1,), (2,), (3,)],
            "data": [(0,), (1, 2, 3)],
            "covid19-ct-seg": [(0,), (3,), (1, 2)],
            "lctsc": [(0,), (1, 2, 3)],
        }[case.source] == possible
    assert require_clean(dataset) is not None


def test_files_and_warnings_say_of_which_set_they_are(tmp_path: Path) -> None:
    medseg_png(tmp_path / "one")
    (lctsc(tmp_path / "two") / "P-101" / "lungs.nii.gz").unlink()
    (tmp_path / "one" / "masks" / "000.png").write_text("broken")
    dataset = open_dataset([tmp_path / "one", tmp_path / "two"])
    errors = [str(defect) for defect in dataset.defects if defect.severity == "error"]
    assert errors[0].startswith("one/masks/000.png: ")
    assert errors[1] == "two/P-101/lungs.nii.gz: is missing"
    assert dataset.cases[0].place == "one/images/001.png"
    assert dataset.cases[-1].place == "two/P-201/ct.nii.gz row 2"
    with pytest.raises(DataError, match=r"one/masks/000.png: .*\(and 1 more; see 'groundglass check'\)"):
        require_clean(dataset)


@pytest.mark.parametrize("many", [list, tuple])
def test_a_list_of_one_is_the_one(tmp_path: Path, many: type) -> None:
    place = radiopaedia_jpeg(tmp_path)
    alone, listed = open_dataset(place), open_dataset(many([str(place)]))
    assert (listed.location, listed.format, listed.classes) == (alone.location, alone.format, alone.classes)
    assert scan(listed).fingerprint == scan(alone).fingerprint


def test_the_order_changes_neither_ids_nor_fingerprint(tmp_path: Path) -> None:
    places = [medseg_png(tmp_path / "a"), ct_seg(tmp_path / "b"), pictures(tmp_path / "c"), pictures(tmp_path / "d")]
    there, back = open_dataset(places), open_dataset(places[::-1])
    assert {case.id for case in there.cases} == {case.id for case in back.cases}
    assert scan(there).fingerprint == scan(back).fingerprint


def test_background_beside_sets_that_know_lungs_is_only_no_lesion(tmp_path: Path) -> None:
    nifti, lungs = medseg_nifti(tmp_path / "nifti"), lctsc(tmp_path / "lctsc")
    alone, beside = open_dataset(nifti), open_dataset([nifti, lungs])
    assert "background" in alone.classes
    assert "no-lesion" in beside.classes
    for case in alone.cases:
        before, after = case.labels(), beside.case(case.id).labels()
        assert (before == 0).any()
        assert np.array_equal(after, np.where(before == 0, NO_LESION, before))
    assert all((case.labels() == 0).any() for case in beside.cases if case.source == "lctsc")
    # Where nobody knows lungs, nothing changes.
    other = medseg_nifti(tmp_path / "other", count=2)
    neither = open_dataset([nifti, other])
    assert neither.classes == alone.classes
    assert not any((case.labels() == NO_LESION).any() for case in neither.cases)


def test_equal_ids_and_sources_get_the_folders_name_and_only_they(tmp_path: Path) -> None:
    places = [pictures(tmp_path / "here"), pictures(tmp_path / "there"), lctsc(tmp_path / "lctsc")]
    dataset = open_dataset(places)
    assert dataset.sources == ("here/data", "there/data", "lctsc")
    assert [case.id for case in dataset.cases][3:6] == ["here/b_2", "there/a_1", "there/a_2"]
    assert dataset.cases[-1].id == "lctsc/P-201/002"
    assert len({case.stem for case in dataset.cases}) == len(dataset.cases)


def test_an_equal_source_is_enough_and_a_test_source_is_not(tmp_path: Path) -> None:
    dataset = open_dataset([kaggle(tmp_path / "kaggle"), medseg_png(tmp_path / "png")])
    assert dataset.sources == ("kaggle/medseg", "kaggle/radiopaedia", "png/medseg")
    assert {(case.id, case.source) for case in dataset.test} == {
        ("kaggle/test/0", "test"),
        ("kaggle/test/1", "test"),
        ("png/test/002", "test"),
    }
    (tmp_path / "mine" / "test_images").mkdir(parents=True)
    pictures(tmp_path / "mine", ("x_1", "x_2"))
    (tmp_path / "mine" / "images" / "x_2.png").rename(tmp_path / "mine" / "test_images" / "x_2.png")
    for part in ("masks", "lungs"):
        (tmp_path / "mine" / part / "x_2.png").unlink()
    dataset = open_dataset([tmp_path / "mine", tmp_path / "png"])
    assert dataset.sources == ("data", "medseg")
    assert {case.source for case in dataset.test} == {"test"}


def test_folders_of_one_name_are_numbered(tmp_path: Path) -> None:
    places = [pictures(tmp_path / number / "mine") for number in ("1", "2", "3")]
    dataset = open_dataset(places)
    assert dataset.location == "mine + mine-2 + mine-3"
    assert dataset.sources == ("mine/data", "mine-2/data", "mine-3/data")
    # A name that a folder truly has is not given to another one.
    dataset = open_dataset([*places[:2], pictures(tmp_path / "mine-2")])
    assert dataset.location == "mine + mine-3 + mine-2"


def test_images_that_stand_alone_stay_apart_and_equal_patients_stay_together(tmp_path: Path) -> None:
    nifti = [medseg_nifti(tmp_path / name) for name in ("one", "two")]
    dataset = open_dataset(nifti)
    assert len({case.group for case in dataset.cases}) == len(dataset.cases) == 6
    dataset = open_dataset([pictures(tmp_path / "here"), pictures(tmp_path / "there")])
    assert {case.group for case in dataset.cases} == {"a", "b"}
    (warning,) = (defect for defect in dataset.defects if defect.kind == "shared-names")
    assert warning.severity == "warning"
    assert str(warning).startswith("there: 2 patients or volumes have names that another data set has too")
    assert "that of there/images/a_1.png;" in str(warning)
    assert "'a'" not in str(warning), "a patient's name, which a run would keep"


@pytest.mark.parametrize("again", ["mine", "mine/", "./mine", "mine/manifest.csv", "link", "mine/../mine"])
def test_one_place_twice_is_refused(tmp_path: Path, again: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lungs_only(tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is given twice"):
        open_dataset(["mine", again])


def test_nothing_and_missing_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name at least one data set"):
        open_dataset([])
    with pytest.raises(DataError, match="nowhere: does not exist"):
        open_dataset([medseg_png(tmp_path / "medseg"), tmp_path / "nowhere"])


def test_ids_that_no_name_can_part_are_refused(tmp_path: Path) -> None:
    """`x_y` of folder `a` and `y` of folder `a_x` are one file name."""
    places = [pictures(tmp_path / "a", ("q_1", "x_y_1")), pictures(tmp_path / "a_x", ("q_1", "y_1"))]
    with pytest.raises(DataError, match="cannot be told apart; rename one of the folders"):
        open_dataset(places)


def test_a_way_is_never_named(tmp_path: Path) -> None:
    places = [medseg_png(tmp_path / "jane" / "x"), lungs_only(tmp_path / "jane" / "y") / "manifest.csv", "phantom:1"]
    dataset = open_dataset(places)
    assert dataset.location == "x + y + phantom-1"
    texts = [dataset.location, *map(str, dataset.defects), *(case.id + case.file for case in dataset.cases)]
    assert not [text for text in texts if "jane" in text or str(tmp_path) in text]
