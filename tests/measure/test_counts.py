import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from groundglass.case import Case, Unit
from groundglass.errors import DataError
from groundglass.labels import label_set
from groundglass.measure import counts
from groundglass.measure.counts import CaseCounts, class_counts, confusion

CT4, LESION = label_set("ct4"), label_set("lesion")


@pytest.fixture
def pair():
    random = np.random.default_rng(1)
    return random.integers(0, 4, (30, 20), np.uint8), random.integers(0, 4, (30, 20), np.uint8)


def case(**known):
    return Case("medseg/007", "medseg", "images.npy", (2, 2), Unit.HU, lambda: np.zeros((2, 2), np.float32), **known)


def test_confusion_equals_scikit_learn(pair):
    truth, prediction = pair
    matrix = confusion(truth, prediction, CT4)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix[:4], confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(4)))
    assert not matrix[4:].any()


def test_large_volumes_are_counted_whole(pair, monkeypatch):
    whole = confusion(*pair, CT4)
    monkeypatch.setattr(counts, "_BLOCK", 7)
    np.testing.assert_array_equal(confusion(*pair, CT4), whole)


def test_merged_channels_count_as_one_class(pair):
    truth, prediction = (np.isin(channels, (1, 2)) for channels in pair)
    merged = class_counts(confusion(*pair, CT4), (1, 2), CT4)
    assert merged.tp == (truth & prediction).sum()
    assert merged.fp == (~truth & prediction).sum()
    assert merged.fn == (truth & ~prediction).sum()
    assert merged.tn == (~truth & ~prediction).sum()


def test_counts_of_a_stack_are_those_of_its_matrices(pair):
    matrices = np.stack([confusion(*pair, CT4), confusion(pair[1], pair[0], CT4)])
    stacked = class_counts(matrices, (2,), CT4)
    assert stacked.fp[0] == stacked.fn[1] == class_counts(matrices[0], (2,), CT4).fp


def test_a_prediction_on_another_grid_is_refused(pair):
    with pytest.raises(DataError, match=r"30x10.*30x20.*grid of the reference"):
        confusion(pair[0], pair[1][:, :10], CT4)


@pytest.mark.parametrize(("which", "number"), [("reference", len(CT4.codes)), ("prediction", 4)])
def test_a_channel_beyond_the_label_set_is_refused(pair, which, number):
    pair[which == "prediction"][3, 3] = number
    with pytest.raises(DataError, match=f"the {which} holds channel {number}, which label set 'ct4'"):
        confusion(*pair, CT4)


def test_the_error_of_a_case_names_its_file_and_row():
    with pytest.raises(DataError, match=r"^images\.npy row 7: the prediction is 2x3"):
        counts.count(case(row=7), np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), LESION)


def test_a_case_keeps_what_is_known_of_it():
    counted = counts.count(case(patient="a", group="site"), *np.zeros((2, 2, 2), np.uint8), LESION)
    assert (counted.case, counted.source, counted.patient, counted.group) == ("medseg/007", "medseg", "a", "site")
    assert counted.confusion.tolist() == [[4, 0], [0, 0], [0, 0]]


def test_the_group_is_the_patient_else_the_case():
    matrix = np.zeros((2, 2), np.int64)
    assert CaseCounts("c", "s", matrix, patient="p").group == "p"
    assert CaseCounts("c", "s", matrix).group == "c"


def test_no_cases_is_an_error():
    with pytest.raises(DataError, match="no cases"):
        counts.stack([])
