"""Records side by side: means and marks that follow from the cases, and refusals where nothing can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groundglass.errors import RecipeError, RunError
from groundglass.labels import label_set
from groundglass.measure.counts import class_counts
from groundglass.measure.metrics import METRICS
from groundglass.measure.record import Conventions, MeasuredCase, Record, merged, read_record, write_record
from groundglass.measure.table import check_same, column_named, columns_of, compare_records
from tests.measure.records import SIZE, record

TP = np.arange(20, 80, 3)


def test_means_follow_from_the_cases() -> None:
    found = compare_records(["a", "b"], [record("a", TP), record("b", TP + 10)], n_boot=0)
    for row, tp in enumerate((TP, TP + 10)):
        expected = {
            "dice": np.mean(2 * tp / (SIZE + tp)),
            "recall": np.mean(tp / SIZE),
            "iou": np.mean(tp / SIZE),
            "precision": 1.0,
            "hd95": np.mean(SIZE - tp),
            "surface_dice": np.mean(tp / SIZE),
            "area_error": np.mean(SIZE - tp),
        }
        for name, value in expected.items():
            cell = found.cells[f"any_lesion_{name}"][row]
            assert cell.value == pytest.approx(value)
            assert (cell.n, cell.n_undefined, cell.n_clusters) == (len(TP), 0, len(TP))
    assert found.pairs[0].difference.mean == pytest.approx(
        np.mean(2 * TP / (SIZE + TP)) - found.cells["any_lesion_dice"][1].value
    )


def test_the_better_run_is_marked_whichever_way_a_measure_counts() -> None:
    found = compare_records(["a", "b", "c"], [record("a", TP), record("b", TP + 10), record("c", TP - 5)])
    for name in ("dice", "recall", "iou", "surface_dice", "hd95", "area_error"):
        assert [cell.best for cell in found.cells[f"any_lesion_{name}"]] == [False, True, False], name
    assert not any(cell.best for cell in found.cells["any_lesion_precision"])  # 1 for all
    assert [pair.text.partition(":")[0] for pair in found.pairs] == [
        "b is better than a",
        "a is better than c",
        "b is better than c",
    ]
    farther = compare_records(["a", "b"], [record("a", TP), record("b", TP + 10)], "any_lesion_hd95")
    assert farther.pairs[0].text.startswith("b is better than a: difference -10.000")


def test_no_run_is_marked_without_evidence() -> None:
    random = np.random.default_rng(0)
    noise = TP + random.integers(-8, 9, TP.size)
    even = compare_records(["a", "b"], [record("a", TP), record("b", noise)])
    few = compare_records(["a", "b"], [record("a", TP[:5]), record("b", TP[:5] + 10)])
    clustered = compare_records(
        ["a", "b"], [record("a", TP, [1] * 10 + [2] * 10), record("b", TP + 10, [1] * 10 + [2] * 10)]
    )
    ahead = compare_records(
        ["a", "b", "c"], [record("a", TP), record("b", TP + 10), record("c", TP + 10, answers=("d",))]
    )
    for found in (even, few, clustered, ahead):
        assert not any(cell.best for cells in found.cells.values() for cell in cells)
    assert "is not shown to be better" in even.pairs[0].text
    assert "No test can decide" in few.pairs[0].text
    assert any("no test can decide" in note for note in few.notes)
    assert clustered.n_clusters == 2
    assert np.isnan(clustered.cells["any_lesion_dice"][0].low)


def test_p_is_corrected_for_all_pairs() -> None:
    random = np.random.default_rng(1)
    runs = [record(name, TP + random.integers(-9, 12, TP.size)) for name in "abcd"]
    found = compare_records(list("abcd"), runs)
    assert len(found.pairs) == 6
    assert all(pair.corrected_p >= pair.difference.p for pair in found.pairs)
    least = min(found.pairs, key=lambda pair: pair.difference.p)
    assert least.corrected_p == pytest.approx(min(1, 6 * least.difference.p))


def test_order_changes_nothing_but_the_sign() -> None:
    a, b = record("a", TP), record("b", TP[::-1])
    shuffled = b.model_copy(update={"cases": b.cases[::-1]})
    one, other = compare_records(["a", "b"], [a, b]), compare_records(["b", "a"], [shuffled, a])
    assert one.pairs[0].difference.mean == pytest.approx(-other.pairs[0].difference.mean)
    assert one.pairs[0].corrected_p == other.pairs[0].corrected_p
    assert one.cells["any_lesion_dice"][0] == other.cells["any_lesion_dice"][1]


def test_clusters_of_any_record_count() -> None:
    pairwise, shifted = [1, 1, 2, 2, 3, 3], [1, 2, 2, 3, 3, 4]
    alone = compare_records(["a", "b"], [record("a", TP[:6], pairwise), record("b", TP[:6] + 1, pairwise)], n_boot=0)
    joined = compare_records(["a", "b"], [record("a", TP[:6], pairwise), record("b", TP[:6] + 1, shifted)], n_boot=0)
    assert (alone.n_clusters, joined.n_clusters) == (3, 1)


def test_repeats_with_other_seeds() -> None:
    runs = [record(f"a{seed}", TP + 2 * seed, method="m", seed=seed) for seed in range(3)]
    found = compare_records(["a0", "a1", "a2", "b"], [*runs, record("b", TP + 30)], n_boot=0)
    values = [cell.value for cell in found.cells["any_lesion_dice"]]
    (repeats,) = found.repeats
    assert repeats.runs == (0, 1, 2)
    assert (repeats.spread.n, repeats.spread.mean) == (3, pytest.approx(np.mean(values[:3])))
    assert repeats.spread.sd == pytest.approx(np.std(values[:3], ddof=1))
    assert (repeats.spread.low, repeats.spread.high) == (min(values[:3]), max(values[:3]))


def test_empty_images_are_left_out_and_false_alarms_show_in_the_area() -> None:
    full = record("a", TP)
    empty = MeasuredCase.model_validate(
        {
            "case": "c/empty",
            "source": "c",
            "cluster": 99,
            "confusion": ((900, 100), (0, 0), (0, 0)),
            "extents": {"any lesion": {"hd95": 9.0, "surface_dice": 0.0, "reference": 0.0, "predicted": 100.0}},
        }
    )
    silent = empty.model_copy(
        update={
            "confusion": ((1000, 0), (0, 0), (0, 0)),
            "extents": {
                "any lesion": empty.extents["any lesion"].model_copy(
                    update={"predicted": 0.0, "hd95": None, "surface_dice": None}
                )
            },
        }
    )
    a = full.model_copy(update={"cases": (*full.cases, empty)})
    b = record("b", TP).model_copy(update={"cases": (*full.cases, silent)})
    cells = compare_records(["a", "b"], [a, b], n_boot=0).cells
    for name in ("dice", "hd95", "surface_dice"):
        assert [cell.n for cell in cells[f"any_lesion_{name}"]] == [len(TP)] * 2
        assert cells[f"any_lesion_{name}"][0].value == pytest.approx(cells[f"any_lesion_{name}"][1].value)
    wrong, right = cells["any_lesion_area_error"]
    assert wrong.n == right.n == len(TP) + 1
    assert wrong.value - right.value == pytest.approx(100 / (len(TP) + 1))


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"fingerprint": "e" * 64}, "b: was scored on other data than a"),
    "classes": ({"label_set": "ct3"}, "--merge lesion"),
    "codes": ({"codes": ((0,), (1,))}, "b: has other classes"),
    "conventions": (
        {"conventions": Conventions(unit="px", tolerances={"any lesion": 3.0})},
        "b: was measured by other conventions than a",
    ),
    "rule": (
        {"conventions": Conventions(unit="px", tolerances={"any lesion": 2.0}, empty_rule=9)},
        "b: was measured by other conventions than a",
    ),
    "same": ({"answers": ("a",)}, "b: is the same run as a"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_cannot_be_compared_is_refused(name: str) -> None:
    changes, fragment = DIFFERENT[name]
    with pytest.raises(RunError, match=fragment):
        check_same(["a", "b"], [record("a", TP), record("b", TP + 1, **changes)])


def test_other_cases_and_other_references_are_refused() -> None:
    a = record("a", TP)
    with pytest.raises(RunError, match=r"b: was scored on other cases than a \(2 of its 20 missing, 0 more\)"):
        check_same(["a", "b"], [a, record("b", TP[2:]).model_copy(update={"cases": a.cases[2:]})])
    other = a.cases[3].model_copy(update={"confusion": ((1010, 0), (90, 0), (0, 0))})
    b = record("b", TP).model_copy(update={"cases": (*a.cases[:3], other, *a.cases[4:])})
    with pytest.raises(RunError, match="b: was scored with another reference of c/3 than a"):
        check_same(["a", "b"], [a, b])
    with pytest.raises(RunError, match="at least two"):
        check_same(["a"], [a])


def test_a_run_with_flips_is_another_run() -> None:
    found = compare_records(["a", "b"], [record("a", TP), record("b", TP + 1, answers=("a",), tta="flips")], n_boot=0)
    assert any("differ in test-time augmentation: a: none, b: flips" in note for note in found.notes)


def test_merging_is_counting_any_lesion() -> None:
    """Random confusion matrices of four classes, partly known pixels included."""
    labels = label_set("ct4")
    random = np.random.default_rng(2)
    shape = (len(labels.codes), len(labels.classes))
    cases = tuple(
        MeasuredCase.model_validate(
            {"case": f"c/{i}", "source": "c", "cluster": i, "extents": {}}
            | {"confusion": random.integers(0, 50, shape).tolist()}
        )
        for i in range(6)
    )
    changes = {"label_set": "ct4", "classes": labels.classes, "codes": labels.codes, "cases": cases}
    before = record("a", TP).model_copy(update=changes)
    after = merged(before)
    assert after.labels == label_set("lesion")
    counts = class_counts(before.matrices, labels.lesion_channels, labels)
    for mine, theirs in zip(after.counts("any lesion"), counts, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(after.values("any lesion", "dice"), METRICS["dice"](counts))


def test_columns_have_names_that_can_be_asked_for() -> None:
    names = [column.name for column in columns_of(label_set("ct4"))]
    assert {"any_lesion_dice", "ground-glass_recall", "consolidation_hd95", "lung_surface_dice"} <= set(names)
    assert [column_named(name, label_set("ct4")).name for name in names] == names
    assert not any(name.startswith("lesion_") for name in (c.name for c in columns_of(label_set("lesion"))))
    with pytest.raises(RecipeError, match="did you mean 'any_lesion_dice'"):
        column_named("any_lesion_dise", label_set("ct4"))


def test_a_record_survives_its_file(tmp_path: Any) -> None:
    a = record("a", TP, thresholds=({"lesion": 0.5},), notes=("trust nobody",))
    path = write_record(tmp_path, a)
    back = read_record(path)
    assert back == a
    assert isinstance(back, Record)
    for text, fragment in (
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (path.read_text().replace('"format_version": 1', '"format_version": 7'), "has record format 7"),
        (path.read_text().replace('"kind": "runs"', '"kind": "dreams"'), "is damaged"),
        (path.read_text().replace("[1000, 0]", "[1000]"), "is damaged"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=fragment):
            read_record(path)
        write_record(tmp_path, a)
    path.unlink()
    with pytest.raises(RunError, match="is damaged"):
        read_record(path)
