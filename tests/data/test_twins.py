"""Near duplicates and slices of one scan: planted ones are found, and strangers are left alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from groundglass.case import Case, Unit
from groundglass.data.album import Album
from groundglass.data.defects import scan
from groundglass.data.likeness import Likeness, likeness, mirrored
from groundglass.data.links import links, one_scans
from groundglass.data.opening import open_dataset
from groundglass.data.twins import Pair, Twins, join, search

Picture = NDArray[np.float32]
LOW, HIGH = -1250.0, 250.0


def _picture(case: Case) -> Picture:
    return np.clip((case.image() - LOW) / (HIGH - LOW) * 255, 0, 255).astype(np.float32)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """One slice of each of 12 drawn patients, through the middle of the chest."""
    drawn = open_dataset("phantom:12").cases
    return [case for case in drawn if case.id.endswith("/2")] or list(drawn[2::6])


@pytest.fixture(scope="module")
def seen(cases: list[Case]) -> dict[str, Likeness]:
    return {case.id: likeness(_picture(case), Unit.PICTURE) for case in cases}


def _alone(case: Case, name: str) -> Case:
    """A copy of which nothing but the picture says where it comes from."""
    return replace(case, id=name, source=name, group=name, patient=None)


def _jpeg(x: Picture) -> Picture:
    held = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(held, "JPEG", quality=40)
    return np.asarray(Image.open(held), np.float32)


def _equalised(x: Picture) -> Picture:
    ranks = np.searchsorted(np.sort(x.ravel()), x.ravel()) / x.size
    return (255 * ranks).reshape(x.shape).astype(np.float32)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "cropped": lambda x: x[20:230, 30:240],
    "smaller": lambda x: ndimage.zoom(x, 0.6, order=1),
    "larger": lambda x: ndimage.zoom(x, 1.4, order=1),
    "recompressed": _jpeg,
    "equalised": _equalised,
    "another window": lambda x: np.clip((x - 30) * 1.4, 0, 255),
    "gamma": lambda x: 255 * (x / 255) ** 0.5,
    "darker gamma": lambda x: 255 * (x / 255) ** 2,
    "mirrored": lambda x: x[:, ::-1],
    "upside down": lambda x: x[::-1],
    "a quarter turned": lambda x: np.rot90(x),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_no_stranger(change: str, cases: list[Case], seen: dict[str, Likeness]) -> None:
    copies = {f"copy/{case.id}": case for case in cases[:4]}
    planted = [_alone(case, name) for name, case in copies.items()]
    changed = {
        name: likeness(np.ascontiguousarray(CHANGES[change](_picture(case))), Unit.PICTURE)
        for name, case in copies.items()
    }
    found = search([*cases, *planted], {**seen, **changed}, {})
    assert {(pair.first, pair.second) for pair in found.pairs} == {(case.id, name) for name, case in copies.items()}
    assert all(pair.confidence >= 0.95 for pair in found.pairs)
    turned = change in ("mirrored", "upside down")
    assert {pair.kind for pair in found.pairs} == {"mirrored-picture" if turned else "same-picture"}


def test_strangers_are_not_twins(cases: list[Case], seen: dict[str, Likeness]) -> None:
    found = search(cases, seen, {})
    assert found.n_images == len(cases)
    assert found.n_compared > 0
    assert (found.pairs, found.clusters) == ((), ())


def test_a_slice_close_by_is_of_the_same_scan(cases: list[Case], seen: dict[str, Likeness]) -> None:
    """The body a few millimetres on is the same body, somewhat larger and shifted, with other noise."""
    random = np.random.default_rng(0)
    moved = {}
    for case in cases[:4]:
        x = ndimage.affine_transform(_picture(case), np.diag([0.97, 0.985]), (3, 1), order=1, mode="nearest")
        smooth = ndimage.gaussian_filter(random.normal(0, 1, (2, *x.shape)), (0, 12, 12)) * 60
        rows, columns = np.indices(x.shape) + smooth
        moved[f"next/{case.id}"] = ndimage.map_coordinates(x, (rows, columns), order=1) + random.normal(0, 6, x.shape)
    planted = [_alone(case, f"next/{case.id}") for case in cases[:4]]
    likenesses = {name: likeness(x.astype(np.float32), Unit.PICTURE) for name, x in moved.items()}
    found = search([*cases, *planted], {**seen, **likenesses}, {})
    assert {(pair.first, pair.second) for pair in found.pairs} == {(case.id, f"next/{case.id}") for case in cases[:4]}


def test_cases_of_one_group_are_not_compared(cases: list[Case], seen: dict[str, Likeness]) -> None:
    copies = [replace(case, id=f"copy/{case.id}") for case in cases]
    found = search([*cases, *copies], {**seen, **{f"copy/{i}": x for i, x in seen.items()}}, {})
    assert found.pairs == ()


def test_equal_pixels_are_surely_the_same_picture(cases: list[Case], seen: dict[str, Likeness]) -> None:
    copy = _alone(cases[0], "copy")
    hashes = {case.id: case.id for case in cases} | {"copy": cases[0].id}
    found = search([*cases, copy], {**seen, "copy": seen[cases[0].id]}, hashes)
    assert found.pairs == (Pair(cases[0].id, "copy", "same-picture", 1.0),)
    assert found.clusters == ((cases[0].id, "copy"),)


def test_the_order_of_the_cases_does_not_matter(cases: list[Case], seen: dict[str, Likeness]) -> None:
    copies = {f"copy {i}": case for i, case in enumerate(cases[:3])}
    likenesses = seen | {
        name: likeness(np.ascontiguousarray(_picture(case)[10:240, 10:240]), Unit.PICTURE)
        for name, case in copies.items()
    }
    every = [*cases, *(_alone(case, name) for name, case in copies.items())]

    def pairs(order: Iterable[Case]) -> set[frozenset[str]]:
        return {frozenset((pair.first, pair.second)) for pair in search(list(order), likenesses, {}).pairs}

    assert pairs(every) == pairs(reversed(every))
    assert len(pairs(every)) == 3


def test_mirroring_twice_is_nothing(seen: dict[str, Likeness]) -> None:
    for one in seen.values():
        two = mirrored(mirrored(one))
        np.testing.assert_array_equal(two.descriptors, one.descriptors)
        np.testing.assert_allclose(two.points, one.points, atol=1e-4)
        np.testing.assert_array_equal(two.small, one.small)


def test_an_image_where_nothing_is_to_be_seen() -> None:
    flat = likeness(np.full((64, 64), -1000, np.float32), Unit.HU)
    assert len(flat.points) == 0
    cases = [Case(f"{i}", "x", "x", (64, 64), Unit.HU, lambda: np.zeros((64, 64), np.float32)) for i in range(3)]
    assert search(cases, {case.id: flat for case in cases}, {}).pairs == ()
    assert search([], {}, {}) == Twins()


def test_many_images_are_searched_by_cells(
    cases: list[Case], seen: dict[str, Likeness], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {f"copy {i}": case for i, case in enumerate(cases[:3])}
    likenesses = seen | {
        name: likeness(np.ascontiguousarray(_picture(case)[10:240, 10:240]), Unit.PICTURE)
        for name, case in copies.items()
    }
    every = [*cases, *(_alone(case, name) for name, case in copies.items())]
    whole = search(every, likenesses, {})
    monkeypatch.setattr("groundglass.data.twins._CELLS_FROM", 4)
    assert search(every, likenesses, {}).pairs == whole.pairs


def test_an_album_sees_what_the_pass_sees() -> None:
    dataset = open_dataset("phantom:2")
    with Album() as album:
        found = scan(dataset, visit=album.visit)
        twins = album.search(dataset, found.hashes)
    assert twins.n_images == len(dataset.cases) + len(dataset.test)
    assert twins.pairs == ()


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([], []),
        ([("a", "b"), ("c", "d")], [["a", "b"], ["c", "d"]]),
        ([("a", "b"), ("c", "d"), ("d", "a")], [["a", "b", "c", "d"]]),
        ([["a"], ["b", "a"]], [["a", "b"]]),
    ],
)
def test_links_join(links: list[tuple[str, ...]], expected: list[list[str]]) -> None:
    assert sorted(map(sorted, join(links))) == expected


def test_volumes_whose_slices_are_mixed_are_one_scan_all_the_same(cases: list[Case]) -> None:
    mixed = [
        replace(cases[0], id=f"{name}{n}", group=name, file=f"{name}.npy", row=n)
        for n in range(4)
        for name in ("ab" if n % 2 else "ba")
    ]
    pairs = [Pair(one.id, two.id, "same-scan", 1.0) for one, two in zip(mixed[::2], mixed[1::2], strict=True)]
    dataset = replace(open_dataset("phantom:1"), cases=tuple(mixed), test=())
    (found,) = one_scans(dataset, links(dataset, Twins(8, 4, tuple(pairs), ())))
    assert found.pairs == 4
