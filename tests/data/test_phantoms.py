"""The drawn chest: the same bytes for the same location, true labels, believable intensities."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import phantoms
from groundglass.data.phantoms import SLICES, PhantomSlice, draw
from groundglass.errors import DataError
from groundglass.labels import BY_NAME

GROUND, SOLID, LUNG = (BY_NAME[name].value for name in ("ground-glass", "consolidation", "lung"))


@pytest.fixture(scope="module")
def slices() -> dict[tuple[int, int], PhantomSlice]:
    """Every slice of the first four patients of seed 0: one healthy, three ill."""
    return {(number, k): draw(0, number, k) for number in range(1, 5) for k in range(SLICES)}


def test_the_same_call_gives_the_same_bytes(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    draw(5, 9, 1)  # another patient in between must not matter
    phantoms.anatomy.patient.cache_clear()
    again = draw(0, 3, 2)
    assert again.hu.tobytes() == slices[3, 2].hu.tobytes()
    assert again.labels.tobytes() == slices[3, 2].labels.tobytes()
    assert again.lung.tobytes() == slices[3, 2].lung.tobytes()


@pytest.mark.parametrize("other", [(1, 3, 2), (0, 2, 2), (0, 3, 3)], ids=["seed", "patient", "slice"])
def test_another_seed_patient_or_slice_is_another_picture(
    slices: dict[tuple[int, int], PhantomSlice], other: tuple[int, int, int]
) -> None:
    assert np.mean(draw(*other).hu != slices[3, 2].hu) > 0.5


def test_types_and_ranges(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    for one in slices.values():
        assert one.hu.shape == one.labels.shape == one.lung.shape == (256, 256)
        assert (one.hu.dtype, one.labels.dtype, one.lung.dtype) == (np.float32, np.uint8, np.bool_)
        assert one.hu.min() >= -1024
        assert one.hu.max() <= 3071
        assert set(np.unique(one.labels)) <= {0, GROUND, SOLID, LUNG}


def test_the_labels_fill_the_lung_and_nothing_else(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    for one in slices.values():
        np.testing.assert_array_equal(one.labels > 0, one.lung)


def test_known_areas_are_those_of_the_labels(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    row, column = phantoms.open("phantom:1").cases[0].geometry.spacing_mm or ()
    for one in slices.values():
        for name in ("ground-glass", "consolidation"):
            assert one.area_mm2[name] == row * column * np.count_nonzero(one.labels == BY_NAME[name].value)


def test_one_patient_in_four_is_healthy_and_severities_differ() -> None:
    lesions = [len(phantoms.findings(3, number)) for number in range(1, 41)]
    for first in range(0, 40, 4):
        assert sorted(lesions[first : first + 4])[0] == 0
        assert len(set(lesions[first : first + 4])) == 4
    assert len({lesions[first : first + 4].index(0) for first in range(0, 40, 4)}) > 1


def test_a_healthy_patient_has_no_lesion_and_the_ill_have(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    for number in range(1, 5):
        area = sum(sum(slices[number, k].area_mm2.values()) for k in range(SLICES))
        assert (area > 0) == bool(phantoms.findings(0, number))
    assert sum(one.area_mm2["consolidation"] for one in slices.values()) > 0


def test_intensities_are_those_of_the_tissues(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    for one in slices.values():
        healthy = float(np.median(one.hu[one.labels == LUNG]))
        assert -900 < healthy < -780
        if one.area_mm2["ground-glass"] > 200:
            assert -700 < np.median(one.hu[one.labels == GROUND]) < -400
        if one.area_mm2["consolidation"] > 100:
            assert -200 < np.median(one.hu[one.labels == SOLID]) < 100
        soft = np.count_nonzero((one.hu > 0) & (one.hu < 300) & ~one.lung)
        bone = np.count_nonzero(one.hu > 350)
        assert soft > bone > 100


def test_left_right_front_and_back(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    base, middle = slices[1, 5], slices[1, 3]
    # The liver stands on the right, which is the left of the picture, and leaves less lung there.
    assert base.lung[:, :128].sum() < base.lung[:, 128:].sum()
    # The heart lies on the left, which is the right of the picture.
    soft = (middle.hu > -50) & (middle.hu < 300)
    assert soft[80:130, 128:170].sum() > soft[80:130, 86:128].sum()
    # The spine is in the lower half, and air above the chest.
    rows = np.nonzero(middle.hu[:, 118:138] > 350)[0]
    assert np.median(rows) > 140
    assert middle.hu[:20, 128].max() < -800


def test_lungs_are_narrow_at_the_apex(slices: dict[tuple[int, int], PhantomSlice]) -> None:
    for number in range(1, 5):
        assert slices[number, 0].lung.sum() < 0.5 * slices[number, 3].lung.sum()


def test_another_size_shows_the_same_patient() -> None:
    small, large = draw(0, 3, 3, size=128), draw(0, 3, 3, size=256)
    assert small.hu.shape == (128, 128)
    both = small.lung & large.lung[::2, ::2]
    assert 2 * both.sum() / (small.lung.sum() + large.lung[::2, ::2].sum()) > 0.95


def test_the_data_set_lists_cases_lazily_and_by_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a slice was drawn")

    monkeypatch.setattr(phantoms, "draw", fail)
    data = phantoms.open("phantom:3:8")
    assert (data.format, data.unit, data.patients, data.sources) == ("phantom", Unit.HU, "given", ("phantom",))
    assert data.classes == ("background", "ground-glass", "consolidation", "lung")
    assert len(data.cases) == 3 * SLICES
    assert len({case.id for case in (*data.cases, *data.test)}) == len(data.cases) + len(data.test)
    third = [case for case in data.cases if case.patient == "phantom-003"]
    assert [case.id for case in third] == [f"phantom-003/slice-{k}" for k in range(SLICES)]
    assert {case.group for case in third} == {"phantom-003"}


def test_test_cases_are_other_patients_without_labels() -> None:
    data = phantoms.open("phantom:2")
    assert {case.source for case in data.test} == {"test"}
    assert len({case.patient for case in data.test}) == 2
    assert not {case.patient for case in data.test} & {case.patient for case in data.cases}
    assert data.test[0].image().shape == data.test[0].shape
    with pytest.raises(DataError, match="no mask"):
        data.test[0].labels()


def test_a_case_draws_its_own_slice_also_after_pickling() -> None:
    case = pickle.loads(pickle.dumps(phantoms.open("phantom:2:6").cases[SLICES + 2]))
    want = draw(6, 2, 2)
    np.testing.assert_array_equal(case.image(), want.hu)
    np.testing.assert_array_equal(case.labels(), want.labels)
    np.testing.assert_array_equal(case.lung(), want.lung)


def test_a_larger_data_set_begins_with_the_smaller_one() -> None:
    few, many = phantoms.open("phantom:1:4"), phantoms.open("phantom:5:4")
    np.testing.assert_array_equal(few.cases[3].image(), many.cases[3].image())


@pytest.mark.parametrize(
    "location",
    ["phantom:0", "phantom:x", "phantom:5:y", "phantom:10001", "phantom:", "phantom", "phantom:-1", "phantom:3:1:2"],
)
def test_a_malformed_location_is_explained_in_one_line(location: str) -> None:
    with pytest.raises(DataError, match="phantom:N") as caught:
        phantoms.open(location)
    assert str(caught.value).startswith(f"{location}:")
    assert "\n" not in str(caught.value)


def test_a_slice_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="slices 0 to 5"):
        draw(0, 1, SLICES)


def test_no_folder_is_taken_for_a_phantom(tmp_path: Path) -> None:
    assert not phantoms.FORMAT.recognise(tmp_path)
    assert phantoms.FORMAT.open("phantom:1").format == phantoms.FORMAT.name
