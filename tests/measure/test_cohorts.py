"""What a mean over all images hides, by numbers that can be checked on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.files import finite, write_json
from groundglass.labels import LabelSet, label_set
from groundglass.measure.cohorts import (
    ALL,
    COLUMNS,
    MEASURES,
    NOTHING,
    PREDICTION,
    UNSAID,
    WHOLE_LUNG,
    CohortTable,
    Reference,
    cohort_table,
    extreme_cases,
    whole_lung,
)
from groundglass.measure.counts import CaseCounts, confusion
from groundglass.measure.summary import summarise

LESION, CT4 = label_set("lesion"), label_set("ct4")
Mask = NDArray[np.bool_]
Image = tuple[str, Mask, Mask, Mask | None]  # cohort, reference, prediction, lung
NAMES = tuple(measure.name for measure in MEASURES)


def strip(*spans: tuple[int, int], size: int = 100) -> Mask:
    """Pixels in a row, true from the first to before the second of each span."""
    mask = np.zeros((1, size), np.bool_)
    for first, last in spans:
        mask[0, first:last] = True
    return mask


def measured(
    images: Sequence[Image], labels: LabelSet = LESION, groups: Sequence[str] = ()
) -> tuple[list[CaseCounts], list[Reference]]:
    """Counts and references of images; unknown pixels have code 2 where a reference is given as codes."""
    cases, references = [], []
    for i, (cohort, truth, predicted, lung) in enumerate(images):
        codes = truth.astype(np.uint8)
        matrix = confusion(codes, predicted.astype(np.uint8), labels)
        cases.append(CaseCounts(f"c/{i}", "c", matrix, group=groups[i] if groups else ""))
        answer = None if lung is None else confusion(codes, whole_lung(lung, labels), labels)
        parts = int((np.diff((codes[0] == 1).astype(int), prepend=0) > 0).sum())
        references.append(Reference(cohort, answer, parts))
    return cases, references


def table_of(images: Sequence[Image], n_boot: int = 0, groups: Sequence[str] = ()) -> CohortTable:
    table = cohort_table(*measured(images, groups=groups), LESION, 0, n_boot)
    assert table is not None
    return table


def values(table: CohortTable, cohort: str = ALL, answer: str = PREDICTION) -> list[float]:
    return [table.row(cohort, answer).numbers[name].value for name in NAMES]


EMPTY = strip()
FOUR: list[Image] = [
    ("COVID-19", strip((0, 10)), strip((5, 15)), strip((0, 40))),
    ("COVID-19", strip((0, 20)), EMPTY, strip((0, 40))),
    ("Normal", EMPTY, EMPTY, strip((0, 40))),
    ("Normal", EMPTY, strip((50, 58)), strip((0, 50))),
]
NAN = math.nan


@pytest.mark.parametrize(
    ("cohort", "answer", "expected"),
    [
        (ALL, PREDICTION, (1.5 / 4, (1 / 3 + 1) / 4, 0.25, 10 / 48, 0.5, 4)),
        (ALL, WHOLE_LUNG, ((0.4 + 2 / 3) / 4, (0.25 + 0.5) / 4, (0.4 + 2 / 3) / 2, 0.3, 1, 45)),
        (ALL, NOTHING, (0.5, 0.5, 0, 0, 0, 0)),
        ("COVID-19", PREDICTION, (0.25, 1 / 6, 0.25, 0.25, NAN, NAN)),
        ("COVID-19", WHOLE_LUNG, ((0.4 + 2 / 3) / 2, 0.375, (0.4 + 2 / 3) / 2, 60 / 110, NAN, NAN)),
        ("COVID-19", NOTHING, (0, 0, 0, 0, NAN, NAN)),
        ("Normal", PREDICTION, (0.5, 0.5, NAN, 0, 0.5, 4)),
        ("Normal", WHOLE_LUNG, (0, 0, NAN, 0, 1, 45)),
        ("Normal", NOTHING, (1, 1, NAN, NAN, 0, 0)),
    ],
)
def test_the_table_by_hand(cohort: str, answer: str, expected: tuple[float, ...]) -> None:
    table = table_of(FOUR)
    assert values(table, cohort, answer) == pytest.approx(expected, nan_ok=True)
    row = table.row(cohort, answer)
    assert (row.n, row.n_lesion, row.n_empty) == {ALL: (4, 2, 2), "COVID-19": (2, 2, 0), "Normal": (2, 0, 2)}[cohort]


def test_all_images_come_first_and_each_cohort_has_every_answer() -> None:
    table = table_of(FOUR)
    each = [PREDICTION, WHOLE_LUNG, NOTHING]
    assert [(r.cohort, r.answer) for r in table.rows] == [(c, a) for c in (ALL, "COVID-19", "Normal") for a in each]
    assert table.cohorts == ("COVID-19", "Normal")


def test_the_difference_to_the_whole_lung_is_of_images_with_a_lesion_and_of_summed_counts() -> None:
    table = table_of(FOUR)
    assert table.mean_difference is not None
    assert table.pooled_difference is not None
    assert table.mean_difference.mean == pytest.approx(((0.5 - 0.4) + (0 - 2 / 3)) / 2)
    assert table.mean_difference.n == 2
    assert table.pooled_difference.value == pytest.approx(10 / 48 - 0.3)


# ---- against a slow computation that knows nothing of confusion matrices --------------------------------------------


def drawn(seed: int, n: int = 24) -> tuple[list[Image], list[str]]:
    rng = np.random.default_rng(seed)
    images: list[Image] = []
    for _ in range(n):
        lung = rng.random((1, 60)) < 0.6
        truth = lung & (rng.random((1, 60)) < rng.choice([0, 0.1, 0.5]))
        predicted = (truth ^ (rng.random((1, 60)) < 0.1)) & bool(rng.random() < 0.7)
        images.append((str(rng.choice(["a", "b", "c"])), truth, predicted, lung))
    return images, [f"p{i // 2}" for i in range(n)]


def slow(images: Sequence[Image], answer: str) -> list[float]:
    def predicted(image: Image) -> Mask:
        _, _, found, lung = image
        assert lung is not None
        return {PREDICTION: found, WHOLE_LUNG: lung, NOTHING: np.zeros_like(found)}[answer]

    dices, ious, on_lesions, alarms, pixels = [], [], [], [], []
    total = [0, 0, 0]
    for image in images:
        truth, found = image[1], predicted(image)
        both, either = int((truth & found).sum()), int((truth | found).sum())
        size = int(truth.sum()) + int(found.sum())
        dices.append(2 * both / size if size else 1.0)
        ious.append(both / either if either else 1.0)
        total = [total[0] + both, total[1] + size, 0]
        if truth.any():
            on_lesions.append(dices[-1])
        else:
            alarms.append(float(found.any()))
            pixels.append(float(found.sum()))

    def mean(numbers: list[float]) -> float:
        return sum(numbers) / len(numbers) if numbers else NAN

    pooled = 2 * total[0] / total[1] if total[1] else NAN
    return [mean(dices), mean(ious), mean(on_lesions), pooled, mean(alarms), mean(pixels)]


@pytest.mark.parametrize("seed", range(5))
def test_every_number_is_that_of_a_slow_computation(seed: int) -> None:
    images, groups = drawn(seed)
    table = table_of(images, groups=groups)
    for cohort in (ALL, *table.cohorts):
        chosen = [image for image in images if cohort in (ALL, image[0])]
        for answer in (PREDICTION, WHOLE_LUNG, NOTHING):
            assert values(table, cohort, answer) == pytest.approx(slow(chosen, answer), nan_ok=True)


def test_all_images_are_scored_as_in_the_summary_with_the_same_intervals() -> None:
    images, groups = drawn(1)
    cases, references = measured(images, groups=groups)
    table, summary = cohort_table(cases, references, LESION, 7, 200), summarise(cases, LESION, 7, 200)
    assert table is not None
    for name in NAMES[:4]:
        found, row = table.row().numbers[name], summary.benchmark(name)
        assert (found.value, found.low, found.high) == pytest.approx((row.value, row.low, row.high))
        assert (found.n, found.n_clusters) == (row.n, row.n_clusters)
    negatives = next(row for row in summary.negatives if row.label == "any lesion")
    alarms = table.row().numbers["false_positive_rate"]
    assert alarms.value * alarms.n == pytest.approx(negatives.n_with_false_positives)
    assert table.row().numbers["false_positive_pixels"].value == pytest.approx(negatives.mean_fp_pixels)


def test_intervals_hold_the_value_and_grow_when_images_belong_together() -> None:
    images, _ = drawn(2, n=60)
    alone, together = (
        table_of(images, 400, groups) for groups in ([str(i) for i in range(60)], [str(i // 10) for i in range(60)])
    )
    for table in (alone, together):
        for row in table.rows:
            for number in row.numbers.values():
                if not np.isnan(number.low):
                    assert number.low <= number.value <= number.high
    name = "any_lesion_dice_empty1"
    assert alone.row().numbers[name].n_clusters == 60
    assert together.row().numbers[name].n_clusters == 6
    # Two images of one patient are no interval.
    pair = table_of(FOUR[:2] * 2, 100, ["a", "a", "b", "b"])
    assert all(np.isnan(number.low) for number in pair.row().numbers.values())


def test_the_order_of_the_images_changes_no_value() -> None:
    images, _ = drawn(3)
    forwards, backwards = table_of(images), table_of(images[::-1])
    for row in forwards.rows:
        assert values(backwards, row.cohort, row.answer) == pytest.approx(
            values(forwards, row.cohort, row.answer), nan_ok=True
        )


# ---- what it says ----------------------------------------------------------------------------------------------------


def many(predict: Any, n: int = 20) -> list[Image]:
    """Half with a lesion of 10 pixels in a lung of 40."""
    truths = [strip((i % 5, i % 5 + 10)) if i < n // 2 else EMPTY for i in range(n)]
    return [("", truth, predict(truth), strip((0, 40))) for truth in truths]


def test_a_network_that_predicts_nothing_is_found_out() -> None:
    table = table_of(many(lambda truth: EMPTY), 200)
    assert values(table) == values(table, answer=NOTHING) == [0.5, 0.5, 0, 0, 0, 0]
    why, beats = table.sentences()
    assert why.startswith("10 of 20 images hold no lesion: predicting nothing at all would score 0.50 by the mean over")
    assert "(this prediction: 0.50)" in why
    assert beats.startswith("the prediction is worse than 'the whole lung is infected' by 0.400 (95 % interval 0.400")


def test_a_network_that_finds_lesions_beats_the_whole_lung_and_the_whole_lung_does_not() -> None:
    good = table_of(many(lambda truth: truth), 200)
    assert good.sentences()[1].startswith(
        "the prediction is better than 'the whole lung is infected' by 0.600 (95 % int"
    )
    assert good.to_dict()["minus_whole_lung"]["any_lesion_dice"]["decided"] is True
    same = table_of(many(lambda truth: strip((0, 40))), 200)
    assert values(same) == values(same, answer=WHOLE_LUNG)
    assert "is not shown to beat 'the whole lung is infected': it differs by 0.000" in same.sentences()[1]
    # A perfect answer to few patients shows nothing yet.
    few = table_of(many(lambda truth: truth, n=8), 200)
    assert "is not shown to beat" in few.sentences()[1]


def test_without_all_lungs_there_is_no_such_rival_and_it_says_so() -> None:
    cohort, truth, predicted, _ = FOUR[0]
    table = table_of([*FOUR, (cohort, truth, predicted, None)])
    assert {row.answer for row in table.rows} == {PREDICTION, NOTHING}
    assert (table.mean_difference, table.pooled_difference, table.share_of) == (None, None, "image")
    assert table.sentences()[1].startswith("1 of 5 images do not say where the lungs are")
    none = table_of([(cohort, truth, predicted, None)])
    assert none.sentences() == (
        "no image says where the lungs are: there is no score of 'the whole lung is infected' to beat",
    )
    assert not none.informative
    assert table.informative


def test_no_lesion_anywhere_is_no_contest() -> None:
    table = table_of(FOUR[2:])
    assert table.sentences()[0].startswith("2 of 2 images hold no lesion: predicting nothing at all would score 1.00")
    assert table.sentences()[1].startswith("no image holds a lesion")


def test_cohorts_that_nobody_names_are_one_and_none_are_left_out() -> None:
    named = table_of([*FOUR, ("", *FOUR[0][1:])])
    assert named.cohorts == ("COVID-19", "Normal", UNSAID)
    assert table_of([("", *image[1:]) for image in FOUR]).cohorts == ()


def test_an_image_of_which_nobody_knows_whether_it_holds_a_lesion_is_neither_empty_nor_sick() -> None:
    codes = np.where(strip((0, 30)), 2, 0).astype(np.uint8)
    unknown = ("", codes, strip((40, 50)), strip((0, 60)))
    table = table_of([*FOUR, unknown])  # type: ignore[list-item]
    row = table.row()
    assert (row.n, row.n_lesion, row.n_empty) == (5, 2, 2)
    assert table.sentences()[0].startswith("2 of 4 images hold no lesion")
    # Its known pixels still count where counts are summed.
    expected = [*values(table_of(FOUR))[:3], 10 / 58, *values(table_of(FOUR))[4:]]
    assert values(table) == pytest.approx(expected)


def test_lesions_of_several_types_are_one() -> None:
    truth = np.array([[1, 1, 2, 2, 3, 3, 0, 0]], np.uint8)
    matrix = confusion(truth, np.array([[2, 2, 1, 1, 3, 3, 0, 0]], np.uint8), CT4)
    lung = confusion(truth, whole_lung(truth > 0, CT4), CT4)
    table = cohort_table([CaseCounts("c", "c", matrix)], [Reference("", lung)], CT4, 0, 0)
    assert table is not None
    assert values(table)[:4] == [1, 1, 1, 1]
    assert values(table, answer=WHOLE_LUNG)[2] == pytest.approx(8 / 10)


def test_a_label_set_without_lesions_has_no_such_table() -> None:
    lung = label_set("lung")
    matrix = confusion(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8), lung)
    assert cohort_table([CaseCounts("c", "c", matrix)], [Reference()], lung, 0) is None


def test_no_cases_are_an_error() -> None:
    with pytest.raises(DataError, match="no cases"):
        cohort_table([], [], LESION, 0)


def test_rows_are_a_table_and_all_of_it_is_json(tmp_path: Path) -> None:
    table = table_of(FOUR, 50)
    assert all(tuple(row.to_dict()) == COLUMNS for row in table.rows)
    write_json(tmp_path / "cohorts.json", table.to_dict())
    read = json.loads((tmp_path / "cohorts.json").read_text())
    assert read == finite(table.to_dict())
    assert read["rows"][0]["any_lesion_dice_pooled"] == pytest.approx(10 / 48)


# ---- severe, mild, normal --------------------------------------------------------------------------------------------


def chosen(images: Sequence[Image]) -> dict[str, tuple[str, float]]:
    return {extreme.kind: (extreme.case, extreme.share) for extreme in extreme_cases(*measured(images), LESION)}


def test_extremes_are_shares_of_the_lung() -> None:
    images: list[Image] = [
        ("", strip((0, 20)), EMPTY, strip((0, 80))),  # 25 %, the most pixels
        ("", strip((0, 10), (90, 100)), EMPTY, strip((0, 20))),  # 50 %; what lies outside does not count
        ("", strip((0, 5)), EMPTY, strip((0, 50))),  # 10 %
        ("", EMPTY, EMPTY, strip((0, 30))),
        ("", EMPTY, EMPTY, strip((0, 40))),
    ]
    assert chosen(images) == {"severe": ("c/1", 0.5), "mild": ("c/2", 0.1), "normal": ("c/4", 0.0)}
    assert [extreme.kind for extreme in extreme_cases(*measured(images), LESION)] == ["severe", "mild", "normal"]
    blind = [(*image[:3], None) for image in images]
    assert chosen(blind) == {"severe": ("c/0", 0.2), "mild": ("c/2", 0.05), "normal": ("c/3", 0.0)}


def test_of_equally_mild_cases_the_most_scattered_is_shown_and_of_empty_ones_a_normal_one() -> None:
    lung = strip((0, 50))
    images: list[Image] = [
        ("COVID-19", EMPTY, EMPTY, strip((0, 90))),
        ("COVID-19", strip((0, 6)), EMPTY, lung),
        ("COVID-19", strip((0, 2), (4, 6), (9, 11)), EMPTY, lung),
        ("COVID-19", strip((0, 30)), EMPTY, lung),
        ("Normal", EMPTY, EMPTY, lung),
    ]
    assert {kind: case for kind, (case, _) in chosen(images).items()} == {
        "severe": "c/3",
        "mild": "c/2",
        "normal": "c/4",
    }


def test_extremes_do_not_look_at_the_prediction() -> None:
    images, _ = drawn(4)
    blank = [(cohort, truth, np.zeros_like(truth), lung) for cohort, truth, _, lung in images]
    assert chosen(images) == chosen(blank)


def test_there_are_no_more_extremes_than_cases() -> None:
    assert set(chosen(FOUR[:1])) == {"severe"}
    assert set(chosen(FOUR[2:])) == {"normal"}
    assert set(chosen([FOUR[0], FOUR[2]])) == {"severe", "normal"}
    codes = np.where(strip((0, 30)), 2, 0).astype(np.uint8)
    assert chosen([("", codes, EMPTY, None)]) == {}  # type: ignore[list-item]
