"""Drawn chest X-rays: what a test of two stages needs them to be."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import open_dataset, radiographs, require_clean
from groundglass.data.album import Album
from groundglass.data.defects import scan
from groundglass.data.radiographs import Radiograph, draw, place
from groundglass.errors import DataError
from groundglass.labels import BY_NAME


@pytest.fixture(scope="module")
def drawn() -> dict[int, Radiograph]:
    return {number: draw(0, number, size=64) for number in range(1, 25)}


def test_grey_values_are_those_of_an_8_bit_picture(drawn: dict[int, Radiograph]) -> None:
    for one in drawn.values():
        assert one.grey.dtype == np.float32
        np.testing.assert_array_equal(one.grey, one.grey.astype(np.uint8))
        assert one.grey.std() > 20


def test_lungs_are_two_and_darker_than_what_lies_between(drawn: dict[int, Radiograph]) -> None:
    for number, one in drawn.items():
        assert 0.12 < one.lung.mean() < 0.4
        left, right = one.lung[:, :32], one.lung[:, 32:]
        assert min(left.sum(), right.sum()) > 0.25 * one.lung.sum()
        if place(number).cohort != "COVID-19":
            rows = np.nonzero(one.lung.any(axis=1))[0]
            middle = one.grey[rows[0] : rows[-1], 28:36]
            between = middle[~one.lung[rows[0] : rows[-1], 28:36]]
            assert one.grey[one.lung].mean() < between.mean() - 25


def test_infection_lies_in_the_lungs_of_the_ill_and_brightens_them(drawn: dict[int, Radiograph]) -> None:
    shares = []
    for number, one in drawn.items():
        assert not (one.infection & ~one.lung).any()
        assert one.infection.any() == (place(number).cohort == "COVID-19")
        if one.infection.any():
            shares.append(one.infection.sum() / one.lung.sum())
            if 0.03 < shares[-1] < 0.9:
                assert one.grey[one.infection].mean() > one.grey[one.lung & ~one.infection].mean() + 5
    assert min(shares) < 0.1 < 0.35 < max(shares), "some are mild and some severe"


def test_the_same_person_every_time_and_at_every_size() -> None:
    one, again, large = draw(3, 9, 64), draw(3, 9, 64), draw(3, 9, 128)
    np.testing.assert_array_equal(one.grey, again.grey)
    assert np.corrcoef(one.grey.ravel(), large.grey[::2, ::2].ravel())[0, 1] > 0.95
    both = one.lung & large.lung[::2, ::2]
    assert 2 * both.sum() / (one.lung.sum() + large.lung[::2, ::2].sum()) > 0.9
    assert not np.array_equal(draw(4, 9, 64).lung, one.lung)


def test_sources_parts_and_cohorts_are_fixed() -> None:
    places = [place(number) for number in range(1, 41)]
    for source in ("infection", "lung"):
        mine = [one for one in places if one.source == source]
        assert Counter(one.side for one in mine) == {"train": 12, "validation": 4, "test": 4}
        assert Counter(one.cohort for one in mine) == {"COVID-19": 10, "Normal": 5, "Non-COVID": 5}
        assert len({(one.part, one.cohort) for one in mine}) == 9, "each part has each cohort"
        assert {one.side for one in mine[:5]} == {"train", "validation", "test"}


def test_the_data_set_lists_cases_lazily_one_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a radiograph was drawn")

    monkeypatch.setattr(radiographs, "draw", fail)
    dataset = open_dataset("phantom-xray:12:5")
    assert (dataset.format, dataset.unit, dataset.patients) == ("phantom-xray", Unit.PICTURE, "given")
    assert dataset.sources == ("infection", "lung")
    assert {case.modality for case in dataset.cases} == {"X-ray"}
    assert len({case.patient for case in dataset.cases}) == len({case.id for case in dataset.cases}) == 12
    assert [case.id for case in open_dataset("phantom-xray:5:5").cases] == [case.id for case in dataset.cases[:5]]


def test_marks_are_known_as_far_as_the_source_goes() -> None:
    values = {name: BY_NAME[name].value for name in ("lesion", "lung", "unmarked-lung")}
    marked, unmarked = open_dataset("phantom-xray:2").cases
    one, other = draw(0, 1), draw(0, 2)
    np.testing.assert_array_equal(marked.labels(), np.where(one.infection, values["lesion"], values["lung"] * one.lung))
    np.testing.assert_array_equal(unmarked.labels(), values["unmarked-lung"] * other.lung)
    np.testing.assert_array_equal(unmarked.lung(), other.lung)
    assert other.infection.any(), "it is there, and nobody looked"


def test_a_case_draws_its_own_picture_also_after_pickling() -> None:
    case = pickle.loads(pickle.dumps(open_dataset("phantom-xray:3:6").cases[2]))
    np.testing.assert_array_equal(case.image(), draw(6, 3).grey)
    assert case.image().shape == case.shape


def test_they_are_clean_and_stand_beside_ct() -> None:
    assert require_clean(open_dataset("phantom-xray:5")) is not None
    both = open_dataset(["phantom-xray:2", "phantom:1"])
    assert {case.modality for case in both.cases} == {"CT", "X-ray"}
    with pytest.raises(DataError, match="is given twice"):
        open_dataset(["phantom-xray:2", "phantom-xray:2"])


@pytest.mark.slow
def test_no_two_people_look_alike() -> None:
    dataset = open_dataset("phantom-xray:24")
    with Album() as album:
        found = scan(dataset, visit=album.visit)
        assert album.search(dataset, found.hashes).pairs == ()
    assert found.defects == ()


@pytest.mark.parametrize(
    "location", ["phantom-xray:0", "phantom-xray:x", "phantom-xray:10001", "phantom-xray:", "phantom-xray:3:1:2"]
)
def test_a_malformed_location_is_explained_in_one_line(location: str) -> None:
    with pytest.raises(DataError, match="phantom-xray:N") as caught:
        open_dataset(location)
    assert str(caught.value).startswith(f"{location}:")
    assert "\n" not in str(caught.value)


def test_no_folder_is_taken_for_phantoms(tmp_path: Path) -> None:
    assert not radiographs.FORMAT.recognise(tmp_path)
