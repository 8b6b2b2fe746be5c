"""`check`: what it writes, what it searches, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import groundglass as gg
from groundglass.errors import DataError
from tests.conftest import Cli
from tests.data.small import drawn_kaggle, kaggle, pictures


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn chests in which a test image is a labelled one, row 3 of the first file."""
    folder = drawn_kaggle(tmp_path_factory.mktemp("copied") / "kaggle")
    tests = np.load(folder / "test_images_medseg.npy")
    tests[2] = np.load(folder / "images_medseg.npy")[3]
    np.save(folder / "test_images_medseg.npy", tests)
    return folder


def test_a_copy_is_named_by_file_and_row_everywhere(copied: Path, tmp_path: Path, cli: Cli) -> None:
    out, page, pairs = (tmp_path / name for name in ("report.json", "page.html", "pairs.csv"))
    answer = cli("check", copied, "-o", out, "--html", page, "--pairs", pairs)
    assert (answer.code, answer.err) == (0, "")
    line = "same-picture: images_medseg.npy row 3 and test_images_medseg.npy row 2, confidence 1.000"
    assert f"{line} (across labelled and unlabelled, sources, groups)" in answer.out
    for name, path in (("Report", out), ("Page", page), ("Pairs", pairs)):
        assert f"{name}: {path}" in answer.out
    twins = json.loads(out.read_text("utf-8"))["twins"]
    places = [(row["first_file"], row["first_row"], row["second_file"], row["second_row"]) for row in twins["found"]]
    planted = twins["found"][places.index(("images_medseg.npy", 3, "test_images_medseg.npy", 2))]
    assert (planted["kind"], planted["confidence"]) == ("same-picture", 1)
    assert planted["across"] == "labelled and unlabelled; sources; groups"
    assert twins["across"]["labelled and unlabelled"] >= 1
    assert twins["pairs"] == len(twins["found"]) == sum(twins["kinds"].values())
    with open(pairs, newline="", encoding="utf-8") as rows:
        listed = list(csv.DictReader(rows))
    assert [row["first"] for row in listed] == [row["first"] for row in twins["found"]]
    assert [row["second_row"] for row in listed] == [str(row["second_row"]) for row in twins["found"]]
    assert "images_medseg.npy row 3 and test_images_medseg.npy row 2: same picture" in page.read_text("utf-8")


def test_without_the_search_nothing_is_said_about_it(copied: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("check", copied, "--no-twins", "--html", tmp_path / "page.html")
    assert answer.code == 0
    assert "near duplicates" not in answer.out
    assert gg.check(copied, twins=False).to_dict()["twins"] is None
    assert "Nobody searched" in (tmp_path / "page.html").read_text("utf-8")


def test_tables_of_the_report_add_up(copied: Path) -> None:
    report = gg.check(copied, twins=False).to_dict()
    rows = report["tables"]["classes"]
    for name, pixels in report["pixels"].items():
        assert sum(row["pixels"] for row in rows if row["class"] == name) == pixels
    for source in ("medseg", "radiopaedia"):
        assert sum(row["share"] for row in rows if row["source"] == source) == pytest.approx(1)
    images = [row for row in report["tables"]["lesions"] if row["what"] == "lesion of an image"]
    assert sum(row["n"] for row in images) == report["n_with_lesion"]
    assert sum(row["n"] + row["without_lesion"] for row in images) == report["cases"]


def test_json_alone_is_json(copied: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("check", copied, "--no-twins", "--json", "-o", tmp_path / "report.json")
    assert json.loads(answer.out) == json.loads((tmp_path / "report.json").read_text("utf-8"))


def test_several_data_sets_are_one(copied: Path, tmp_path: Path, cli: Cli) -> None:
    other = tmp_path / "pictures"
    image = np.load(copied / "images_medseg.npy")[3, ..., 0]
    pictures(other, side=64)
    Image.fromarray(((np.clip(image, -1200, 300) + 1200) / 1500 * 255).astype(np.uint8)).save(other / "images/a_1.png")
    report = gg.check([copied, other], tmp_path / "report.json", tmp_path / "page.html")
    assert set(report.sets.values()) == {"kaggle", "pictures"}
    crossing = [link for link in report.links if "data sets" in link.across]
    assert {(link.first.place, link.second.place) for link in crossing} >= {
        ("kaggle/images_medseg.npy row 3", "pictures/images/a_1.png")
    }
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Data: kaggle + pictures" in page
    assert "a_1.png" not in page, "a patient's name is part of it"
    assert "pictures/images/patient-1_1.png" in page
    assert str(tmp_path) not in page
    answer = cli("check", copied, copied)
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "is given twice" in answer.err


def test_a_data_set_with_errors_leaves_nothing(tmp_path: Path, cli: Cli) -> None:
    masks = kaggle(tmp_path / "kaggle") / "masks_medseg.npy"
    array = np.load(masks)
    array[4, 3, 3, 0] = 7
    np.save(masks, array)
    targets = [tmp_path / "out" / name for name in ("report.json", "page.html", "pairs.csv")]
    answer = cli("check", tmp_path / "kaggle", "-o", targets[0], "--html", targets[1], "--pairs", targets[2])
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "error bad-mask-values" in answer.out
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_are_refused_before_reading(tmp_path: Path, cli: Cli) -> None:
    data = kaggle(tmp_path / "kaggle")
    (tmp_path / "file").write_text("taken")
    page = tmp_path / "page.html"
    for options, fragment in (
        (("--html", data), "is a folder; name a file in it"),
        (("--html", tmp_path / "file" / "page.html", "--no-twins"), "cannot be written"),
        (("--pairs", tmp_path / "pairs.csv", "--no-twins"), "leave out --no-twins"),
        (("--html", page, "-o", page), "is named for two things"),
    ):
        answer = cli("check", data, *options)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1), answer.err
        assert fragment in answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"kaggle", "file"}
    assert (tmp_path / "file").read_text() == "taken"


def test_an_old_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    gg.check(kaggle(tmp_path / "kaggle"), html=page, twins=False)
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(DataError, match="is a folder"):
        gg.check(tmp_path / "kaggle", html=tmp_path)
