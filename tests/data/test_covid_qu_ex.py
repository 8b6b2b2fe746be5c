"""COVID-QU-Ex: X-rays in two trees, lungs in both and infection in one."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.case import Unit
from groundglass.data import open_dataset, radiographs, require_clean, scan
from groundglass.errors import DataError
from groundglass.labels import BY_NAME
from tests.data.small import covid_qu_ex, radiograph

INFECTION, LUNG = "Infection Segmentation Data", "Lung Segmentation Data"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    return covid_qu_ex(tmp_path / "trees")


def names(labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> set[str]:
    present = set(np.unique(labels).tolist())
    return {name for name, label in BY_NAME.items() if label.value in present}


def test_two_trees_are_one_data_set(trees: Path) -> None:
    dataset = open_dataset(trees)
    assert (dataset.format, dataset.unit, dataset.patients) == ("covid-qu-ex", Unit.PICTURE, "not known")
    assert dataset.classes == ("background", "lung", "lesion", "unmarked-lung")
    assert sorted(case.id for case in dataset.cases) == sorted(radiographs.place(n).id for n in range(1, 41))
    assert Counter(case.source for case in dataset.cases) == {"infection": 20, "lung": 20}
    assert {case.modality for case in dataset.cases} == {"X-ray"}
    assert dataset.test == ()
    assert [defect.kind for defect in dataset.defects] == ["unknown-patients"] * 2
    assert require_clean(dataset) is not None


def test_parts_and_cohorts_are_those_of_the_folders(trees: Path) -> None:
    sides = {"Train": "train", "Val": "validation", "Test": "test"}
    for case in open_dataset(trees).cases:
        source, part, cohort, _ = case.id.split("/")
        assert (case.source, case.part, case.cohort) == (source, sides[part], cohort)
        assert case.file.split("/")[1:3] == [part, cohort]


def test_marks_are_those_that_were_drawn(trees: Path) -> None:
    cases = {case.id: case for case in open_dataset(trees).cases}
    for number in range(1, 41):
        case, drawn = cases[radiographs.place(number).id], radiograph(0, number, 32)
        np.testing.assert_array_equal(case.image(), drawn.grey)
        np.testing.assert_array_equal(case.lung(), drawn.lung)
        if case.source == "lung":
            expected = np.where(drawn.lung, BY_NAME["unmarked-lung"].value, 0)
        else:
            expected = np.where(drawn.infection, BY_NAME["lesion"].value, drawn.lung * BY_NAME["lung"].value)
        np.testing.assert_array_equal(case.labels(), expected)
    assert names(cases["lung/Test/COVID-19/phantom-010"].labels()) == {"background", "unmarked-lung"}
    assert names(cases["infection/Test/COVID-19/phantom-009"].labels()) == {"background", "lung", "lesion"}
    assert names(cases["infection/Train/Normal/phantom-003"].labels()) == {"background", "lung"}


@pytest.mark.parametrize("around", ["", INFECTION, "COVID-QU-Ex Dataset", "archive/COVID-QU-Ex Dataset", "a/b"])
def test_the_archive_may_put_folders_around(tmp_path: Path, around: str) -> None:
    """What the archive doubles or wraps changes no id."""
    plain = [case.id for case in open_dataset(covid_qu_ex(tmp_path / "plain")).cases]
    for name in (INFECTION, LUNG):
        shutil.copytree(tmp_path / "plain" / name, tmp_path / "wrapped" / around.replace(INFECTION, name) / name)
    dataset = open_dataset(tmp_path / "wrapped")
    assert dataset.format == "covid-qu-ex"
    assert [case.id for case in dataset.cases] == plain
    assert dataset.cases[0].file == Path(around, INFECTION, "Train/COVID-19/images/phantom-001.png").as_posix()


@pytest.mark.parametrize(("name", "source"), [(INFECTION, "infection"), (LUNG, "lung")])
def test_one_tree_alone(trees: Path, tmp_path: Path, name: str, source: str) -> None:
    """Given itself, in a folder, or under another name."""
    shutil.copytree(trees / name, tmp_path / "mine")
    shutil.copytree(trees / name, tmp_path / "around" / name)
    for place in (trees / name, tmp_path / "mine", tmp_path / "around"):
        dataset = open_dataset(place)
        assert (dataset.format, dataset.sources, len(dataset.cases)) == ("covid-qu-ex", (source,), 20)
        assert require_clean(dataset) is not None


def test_beside_other_folders_it_is_only_proposed(trees: Path) -> None:
    (trees.parent / "other").mkdir()
    with pytest.raises(DataError, match=r"did you mean '.*trees'\?"):
        open_dataset(trees.parent)


def test_a_manifest_says_more_than_the_layout(trees: Path) -> None:
    (trees / "manifest.csv").write_text(f"image\n{LUNG}/Val/Normal/images/{_first(trees, 'Val/Normal')}\n")
    assert open_dataset(trees).format == "manifest"


def _first(trees: Path, place: str) -> str:
    return min(path.name for path in (trees / LUNG / place / "images").iterdir())


def test_names_with_blanks_and_brackets(trees: Path) -> None:
    """As in `non_COVID (11963).png`."""
    folder = trees / LUNG / "Val" / "Non-COVID"
    name = _first(trees, "Val/Non-COVID")
    for kind in ("images", "lung masks"):
        (folder / kind / name).rename(folder / kind / "non_COVID (11963).png")
    case = open_dataset(trees).case("lung/Val/Non-COVID/non_COVID (11963)")
    assert case.stem == "lung_Val_Non-COVID_non_COVID (11963)"
    assert case.labels().any()


def test_one_name_may_be_in_both_trees_and_all_parts(trees: Path) -> None:
    for tree in (INFECTION, LUNG):
        for images in (trees / tree).glob("*/*/images"):
            for kind in images.parent.iterdir():
                min(kind.iterdir()).rename(kind / "same.png")
    dataset = open_dataset(trees)
    assert len({case.stem for case in dataset.cases}) == len(dataset.cases) == 40
    assert require_clean(dataset) is not None


def test_every_fault_is_listed_at_once(trees: Path) -> None:
    shutil.rmtree(trees / LUNG / "Val")
    shutil.rmtree(trees / INFECTION / "Test" / "Normal")
    (trees / INFECTION / "Train" / "COVID-19" / "lung masks" / "phantom-001.png").unlink()
    errors = [str(defect) for defect in open_dataset(trees).defects if defect.severity == "error"]
    assert len(errors) == 3
    assert all(any(name in error for error in errors) for name in ("Val: is", "Test/Normal: is", "phantom-001.png"))


def test_infection_may_leave_the_lungs_by_an_edge_only(trees: Path) -> None:
    """A pixel or two are no other's mask, and stay lesion."""
    folder = trees / INFECTION / "Test" / "COVID-19"
    path = folder / "infection masks" / "phantom-009.png"
    lung = np.array(Image.open(folder / "lung masks" / "phantom-009.png")) > 0
    mask = np.array(Image.open(path))
    row, column = np.argwhere(~lung)[0]
    mask[row, column] = 255
    Image.fromarray(mask).save(path)
    dataset = open_dataset(trees)
    assert [defect for defect in scan(dataset).defects if defect.severity == "error"] == []
    labels = dataset.case("infection/Test/COVID-19/phantom-009").labels()
    assert labels[row, column] == BY_NAME["lesion"].value


def test_pixels_are_read_when_they_are_asked_for(trees: Path) -> None:
    """Files that break after opening are missed only then."""
    dataset = open_dataset(trees)
    shutil.rmtree(trees)
    assert len(dataset.cases) == 40
    with pytest.raises(DataError, match="does not exist"):
        dataset.cases[0].image()
