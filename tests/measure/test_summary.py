import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from groundglass.errors import DataError
from groundglass.files import write_csv, write_json
from groundglass.labels import LabelSet, label_set
from groundglass.measure.counts import CaseCounts, confusion
from groundglass.measure.metrics import METRICS, applicable, score
from groundglass.measure.summary import CASE_COLUMNS, ROW_COLUMNS, summarise

CT4, LESION = label_set("ct4"), label_set("lesion")


def full(matrix, labels=CT4):
    """A confusion matrix [K, K] of known pixels as [R, K]."""
    return np.pad(matrix, ((0, len(labels.codes) - len(matrix)), (0, 0)))


def lesion_case(name, tp, fp=0, fn=0, tn=100, **known):
    return CaseCounts(name, "source", full(np.array([[tn, fp], [fn, tp]], np.int64), LESION), **known)


def random_cases(n=30, per_patient=3, seed=0):
    random = np.random.default_rng(seed)
    return [
        CaseCounts(f"case {i}", "source", full(random.integers(0, 9, (4, 4))), f"patient {i // per_patient}")
        for i in range(n)
    ]


@pytest.fixture
def three_patients():
    """Patient a: Dice 1 and 0.5; b: 0 (missed); c: a clean image, and one with false positives."""
    return [
        lesion_case("1", tp=10, patient="a"),
        lesion_case("2", tp=5, fn=5, fp=5, patient="a"),
        lesion_case("3", tp=0, fn=8, patient="b"),
        lesion_case("4", tp=0, patient="c"),
        lesion_case("5", tp=0, fp=6, patient="c"),
    ]


@pytest.mark.parametrize(
    ("metric", "average", "value", "n", "n_undefined"),
    [
        ("dice", "pooled", 30 / 54, 5, 0),
        ("dice", "per image", 1.5 / 4, 4, 1),
        ("dice", "per image, positives", 1.5 / 3, 3, 0),
        ("dice", "per patient", (0.75 + 0 + 0) / 3, 3, 0),
        ("dice", "per patient, positives", 0.75 / 2, 2, 0),
        ("recall", "per image", 1.5 / 3, 3, 2),
        ("recall", "per patient", 0.75 / 2, 2, 1),
        ("precision", "per image", 1.5 / 3, 3, 2),
        ("precision", "per image, positives", 1.5 / 2, 2, 1),
        ("precision", "per patient, positives", 0.75, 1, 1),
    ],
)
def test_averages_by_hand(three_patients, metric, average, value, n, n_undefined):
    row = summarise(three_patients, LESION, seed=0, n_boot=50).row("lesion", metric, average)
    assert row.value == pytest.approx(value)
    assert (row.n, row.n_undefined) == (n, n_undefined)


def test_negatives_are_reported_apart(three_patients):
    negatives = {row.label: row for row in summarise(three_patients, LESION, 0, 0).negatives}
    lesion = negatives["lesion"]
    assert (lesion.n_positive, lesion.n_negative, lesion.n_with_false_positives, lesion.mean_fp_pixels) == (3, 2, 1, 3)
    assert negatives["background"].n_negative == 0
    assert np.isnan(negatives["background"].mean_fp_pixels)


def test_any_lesion_merges_the_findings():
    truth = np.array([[1, 1, 2, 2, 0, 3]], np.uint8)
    swapped = np.array([[2, 2, 1, 1, 0, 3]], np.uint8)
    summary = summarise([CaseCounts("c", "s", confusion(truth, swapped, CT4))], CT4, 0, 0)
    assert summary.row("ground-glass", "dice", "per image").value == 0
    assert summary.row("any lesion", "dice", "per image").value == 1


def test_a_label_set_without_findings_has_no_any_lesion():
    lungs = LabelSet("lungs", ("background", "lung"), {})
    summary = summarise([lesion_case("1", 5)], lungs, 0, 0)
    assert {row.label for row in summary.averages} == {"background", "lung"}
    assert [row.metric for row in summary.benchmarks] == ["pixel_accuracy"]


def test_benchmarks_are_the_named_scores():
    cases = random_cases()
    summary = summarise(cases, CT4, 0, 100)
    assert [row.metric for row in summary.benchmarks] == [named.name for named in applicable(CT4)]
    for row in summary.benchmarks:
        assert row.value == score(row.metric, cases, CT4)
        assert row.low < row.value < row.high


def test_a_benchmark_that_does_not_apply_is_absent():
    summary = summarise([lesion_case("1", 5)], LESION, 0, 0)
    assert summary.benchmark("any_lesion_dice").value == 1
    with pytest.raises(KeyError):
        summary.benchmark("miou_4")


def test_an_undefined_benchmark_is_explained():
    truth = np.array([[1, 0, 3]], np.uint8)
    summary = summarise([CaseCounts("c", "s", confusion(truth, truth, CT4))], CT4, 0, 0)
    assert np.isnan(summary.benchmark("kaggle_pooled").value)
    assert any(note.startswith("kaggle_pooled is undefined") for note in summary.notes)


@settings(max_examples=25, deadline=None)
@given(arrays(np.int64, (5, 4, 4), elements=st.integers(0, 3)), st.permutations(range(5)))
def test_neither_values_nor_intervals_depend_on_the_order_of_cases(matrices, order):
    cases = [CaseCounts(f"c{i}", "s", full(matrix), f"p{i // 2}") for i, matrix in enumerate(matrices)]
    forth = summarise(cases, CT4, 3, 20)
    shuffled = summarise([cases[i] for i in order], CT4, 3, 20)
    for one, other in zip(forth.rows(), shuffled.rows(), strict=True):
        assert one == pytest.approx(other, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(arrays(np.int64, (4, 4, 4), elements=st.integers(0, 3)))
def test_one_image_a_patient_makes_both_means_equal(matrices):
    summary = summarise([CaseCounts(f"c{i}", "s", full(m), f"p{i}") for i, m in enumerate(matrices)], CT4, 0, 20)
    for label in (*CT4.classes, "any lesion"):
        for metric in METRICS:
            image, patient = (summary.row(label, metric, f"per {unit}") for unit in ("image", "patient"))
            assert image.value == pytest.approx(patient.value, nan_ok=True)
            assert (image.n, image.n_undefined) == (patient.n, patient.n_undefined)
            assert (image.low, image.high) == pytest.approx((patient.low, patient.high), nan_ok=True)


def test_the_bootstrap_of_a_patient_mean_resamples_patients():
    """Against a plain loop that draws patients and averages them."""
    cases = [lesion_case(str(i), tp=i + 1, fn=9 - i, patient="abc"[i % 3]) for i in range(9)]
    row = summarise(cases, LESION, seed=0, n_boot=4000).row("lesion", "recall", "per patient")
    patients = [np.mean([(i + 1) / 10 for i in range(9) if i % 3 == k]) for k in range(3)]
    random = np.random.default_rng(1)
    means = [np.mean(random.choice(patients, 3)) for _ in range(4000)]
    assert row.value == pytest.approx(np.mean(patients))
    assert (row.low, row.high) == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.005)


def test_images_of_one_patient_do_not_buy_certainty():
    alike = [lesion_case(f"{i} {j}", tp=i + 1, fn=9 - i, patient=f"p{i}") for i in range(10) for j in range(8)]
    unknown = [CaseCounts(case.case, case.source, case.confusion) for case in alike]
    by_patient, by_image = (
        summarise(cases, LESION, 0, 300).row("lesion", "recall", "per image") for cases in (alike, unknown)
    )
    assert by_patient.value == by_image.value
    assert by_patient.high - by_patient.low > 2 * (by_image.high - by_image.low)


def test_what_was_resampled_is_said():
    patients = summarise(random_cases(), CT4, 0, 10)
    assert (patients.clusters, patients.n_clusters) == ("patient", 10)

    images = summarise([lesion_case("1", 5), lesion_case("2", 5)], LESION, 0, 10)
    assert (images.clusters, images.n_clusters) == ("image (patients unknown)", 2)
    assert not any("patient" in row.average for row in images.averages)

    volumes = [lesion_case("1", 4), lesion_case("2", 2, fp=4, group="v"), lesion_case("3", 0, fn=1, group="v")]
    volumes = summarise(volumes, LESION, 0, 10)
    assert (volumes.clusters, volumes.n_clusters) == ("patient or volume where known, else image", 2)
    assert volumes.row("lesion", "dice", "per group").value == pytest.approx((1 + (0.5 + 0) / 2) / 2)
    assert not any("patient" in row.average for row in volumes.averages)


def test_one_cluster_has_no_interval_and_says_so():
    summary = summarise([lesion_case("1", 5, patient="a"), lesion_case("2", 3, fn=2, patient="a")], LESION, 0, 50)
    assert all(np.isnan(row["low"]) and np.isnan(row["high"]) for row in summary.rows())
    assert any("one cluster" in note for note in summary.notes)


def test_few_clusters_are_remarked_on_and_many_are_not():
    assert any("only 3 clusters" in note for note in summarise(random_cases(9), CT4, 0, 10).notes)
    assert summarise(random_cases(60), CT4, 0, 10).notes == ()


def test_a_number_that_one_patient_decides_has_no_interval():
    cases = [lesion_case("1", 5, fn=5, patient="a"), lesion_case("2", 0, patient="b"), lesion_case("3", 0, patient="c")]
    summary = summarise(cases, LESION, 0, 100)
    for row in (summary.row("lesion", "dice", "pooled"), summary.benchmark("any_lesion_dice")):
        assert row.value == pytest.approx(2 / 3)
        assert np.isnan([row.low, row.high]).all()


def rare_consolidation(positive, patients=12):
    """Two images a patient, all with ground-glass; consolidation in one image of the first `positive` patients."""
    random = np.random.default_rng(0)
    cases = []
    for i in range(2 * patients):
        matrix = random.integers(1, 9, (4, 4))
        if i % 2 or i // 2 >= positive:
            matrix[2] = 0
        cases.append(CaseCounts(f"c{i}", "s", full(matrix), f"p{i // 2}"))
    return cases


@pytest.mark.parametrize("positive", [2, 3, 9, 10])
def test_only_clusters_that_decide_a_number_count_for_its_interval(positive):
    summary = summarise(rare_consolidation(positive), CT4, 0, 50)
    narrow = next((note for note in summary.notes if "too narrow" in note), "")
    lacking = next((note for note in summary.notes if "no interval" in note), "")
    rows = [
        *(summary.row("consolidation", "dice", average) for average in ("pooled", "per image, positives")),
        summary.row("consolidation", "recall", "per patient"),
        *(summary.benchmark(name) for name in ("kaggle_pooled", "miou_2", "miou_4")),
    ]
    for row in rows:
        assert row.n_clusters == positive
        assert np.isnan([row.low, row.high]).all() == (positive < 3)
    assert ("consolidation" in narrow and "kaggle_pooled" in narrow) == (3 <= positive < 10)
    assert ("consolidation" in lacking and "kaggle_pooled" in lacking) == (positive < 3)
    others = [
        summary.row("ground-glass", "dice", "pooled"),
        summary.row("consolidation", "specificity", "pooled"),
        summary.row("consolidation", "dice", "per image"),  # 0 where consolidation is only predicted
        *(summary.benchmark(name) for name in ("pixel_accuracy", "any_lesion_dice_pooled", "kaggle_per_image")),
    ]
    for row in others:
        assert row.n_clusters == 12
        assert row.low < row.value < row.high
    assert "ground-glass" not in narrow + lacking


def test_every_sum_over_images_counts_the_rarest_class():
    """A named score that does not change when all images become one is a sum over images."""
    cases = rare_consolidation(4)
    summary, total = summarise(cases, CT4, 0, 10), sum(case.confusion for case in cases)
    for named in applicable(CT4):
        pooled = score(named.name, [CaseCounts("all", "s", total)], CT4) == pytest.approx(score(named.name, cases, CT4))
        if named.name != "pixel_accuracy":
            rare = pooled and "consolidation" in named.needs
            assert summary.benchmark(named.name).n_clusters == (4 if rare else 12), named.name


def test_images_in_place_of_patients_are_remarked_on():
    unknown = [CaseCounts(case.case, case.source, case.confusion) for case in random_cases(30)]
    assert summarise(unknown, CT4, 0, 10).notes == ("patients are not known: intervals by image are too narrow",)
    assert summarise(unknown, CT4, 0, 0).notes == ("no intervals were asked for",)


def test_the_seed_decides_the_intervals():
    first, again, other = (summarise(random_cases(), CT4, seed, 50).rows() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_per_case_rows(three_patients):
    rows = summarise(three_patients, LESION, 0, 0).per_case_rows()
    assert all(set(row) == set(CASE_COLUMNS) for row in rows)
    assert len(rows) == 5 * 3  # background, lesion, any lesion
    lesion = {row["case"]: row for row in rows if row["class"] == "lesion"}
    assert lesion["2"]["dice"] == lesion["2"]["precision"] == lesion["2"]["recall"] == 0.5
    assert (lesion["2"]["truth_pixels"], lesion["2"]["predicted_pixels"]) == (10, 10)
    assert lesion["2"]["fp_pixels_on_empty_reference"] is None
    assert lesion["5"]["fp_pixels_on_empty_reference"] == 6
    assert lesion["4"]["fp_pixels_on_empty_reference"] == 0
    assert np.isnan(lesion["4"]["dice"])


def test_patients_are_not_named_unless_asked_for(three_patients):
    summary = summarise(three_patients, LESION, 0, 0)
    assert [row["patient"] for row in summary.per_case_rows()][::3] == [f"patient {i}" for i in (1, 1, 2, 3, 3)]
    assert [row["patient"] for row in summary.per_case_rows(identifiers=True)][::3] == list("aabcc")


def test_tables_can_be_written(three_patients, tmp_path):
    summary = summarise(three_patients, LESION, 0, 20)
    write_json(tmp_path / "summary.json", summary.to_dict())
    write_csv(tmp_path / "rows.csv", ROW_COLUMNS, summary.rows())
    write_csv(tmp_path / "cases.csv", CASE_COLUMNS, summary.per_case_rows())

    read = json.loads((tmp_path / "summary.json").read_text())
    assert (read["label_set"], read["clusters"], read["n_cases"]) == ("lesion", "patient", 5)
    assert read["interval"]["n_boot"] == 20
    assert [row["metric"] for row in read["benchmarks"]] == [row.metric for row in summary.benchmarks]
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(summary.averages) + len(summary.benchmarks)
    assert {"class": "lesion", "metric": "dice", "average": "per image", "n_undefined": "1"}.items() <= next(
        row for row in rows if (row["class"], row["metric"], row["average"]) == ("lesion", "dice", "per image")
    ).items()


def test_no_cases_is_an_error():
    with pytest.raises(DataError, match="no cases"):
        summarise([], CT4, 0)
