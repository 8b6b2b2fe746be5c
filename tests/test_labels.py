"""Labels: one canonical meaning, and label sets that merge without losing or inventing anything."""

from __future__ import annotations

import re

import numpy as np
import pytest

from groundglass.errors import RecipeError
from groundglass.labels import BY_NAME, LABEL_SETS, LABELS, LESION_VALUES, PRECEDENCE, LabelSet, label_set

EVERY_VALUE = np.array([label.value for label in LABELS], np.uint8)


def test_canonical_labels_are_distinct() -> None:
    for attribute in ("name", "value", "colour"):
        assert len({getattr(label, attribute) for label in LABELS}) == len(LABELS)
    assert BY_NAME["background"].value == 0
    assert sorted(PRECEDENCE) == sorted(BY_NAME)
    assert all(re.fullmatch("#[0-9A-F]{6}", label.colour) for label in LABELS)
    assert set(LESION_VALUES) == {
        BY_NAME[n].value for n in ("ground-glass", "consolidation", "pleural-effusion", "lesion")
    }


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
def test_each_set_gives_every_label_a_place_or_refuses_it(labels: LabelSet) -> None:
    for label in LABELS:
        if labels.covers([label.name]):
            code = int(labels.encode(np.array([label.value], np.uint8))[0])
            classes = {labels.classes[channel] for channel in labels.codes[code]}
            target = labels.merges.get(label.name, label.name)
            possible = {labels.merges.get(name, name) for name in label.possible}
            assert classes == ({target} if target in labels.classes else possible & set(labels.classes))
        else:
            with pytest.raises(RecipeError, match=f"no class for the label '{label.name}'"):
                labels.encode(np.array([0, label.value], np.uint8))


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
def test_decoding_undoes_encoding_but_for_the_merges(labels: LabelSet) -> None:
    channels = np.arange(len(labels.classes), dtype=np.uint8).reshape(1, -1)
    decoded = labels.decode(channels)
    assert decoded.dtype == np.uint8
    assert decoded.shape == channels.shape
    np.testing.assert_array_equal(labels.encode(decoded), channels)
    assert labels.lesion_channels == tuple(labels.classes.index(name) for name in labels.lesions)
    assert labels.classes[0] == "background"


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
def test_a_partly_known_pixel_is_never_a_class(labels: LabelSet) -> None:
    codes = np.arange(len(labels.codes), dtype=np.uint8)
    assert labels.codes[: len(labels.classes)] == tuple((channel,) for channel in range(len(labels.classes)))
    assert all(len(channels) > 1 for channels in labels.codes[len(labels.classes) :])
    np.testing.assert_array_equal(labels.encode(labels.decode(codes)), codes)
    unknown = int(labels.encode(np.array([BY_NAME["unknown"].value], np.uint8))[0])
    assert labels.codes[unknown] == tuple(range(len(labels.classes)))


def test_a_lesion_of_unknown_type_is_one_of_two() -> None:
    labels = label_set("ct4")
    code = int(labels.encode(np.array([BY_NAME["lesion"].value], np.uint8))[0])
    assert [labels.classes[channel] for channel in labels.codes[code]] == ["ground-glass", "consolidation"]


def test_targets_are_the_findings_or_what_else_there_is() -> None:
    assert label_set("ct4").targets == label_set("ct4").lesions == ("ground-glass", "consolidation")
    assert label_set("lung").lesions == ()
    assert label_set("lung").targets == ("lung",)


def test_no_set_of_lesions_loses_a_lesion_but_effusion_in_sets_of_lung_lesions() -> None:
    for labels in (labels for labels in LABEL_SETS.values() if labels.lesions):
        for name in ("ground-glass", "consolidation"):
            target = labels.merges.get(name, name)
            assert BY_NAME[target].lesion


def test_values_that_mean_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="no class for the label '77'"):
        label_set("ct4").encode(np.array([[0, 77]], np.uint8))
    assert label_set("ct4").encode(np.zeros((0, 4), np.uint8)).shape == (0, 4)


def test_unknown_sets_offer_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'lesion'"):
        label_set("lesions")
