"""The one way from an image to probabilities, with engines of a few lines instead of networks."""

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.errors import DataError, RunError
from groundglass.labels import label_set
from groundglass.model.predict import Model, check_together, mean_thresholds, probabilities, segment
from groundglass.model.prepare import Preparation, clip01
from groundglass.recipes.settings import Hounsfield as Intensity

INTENSITY = Intensity.model_validate({"clip_hu": [-1000, 200], "scale": {"name": "unit"}})
CT4 = label_set("ct4")


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def network(seed, classes=4, size=32):
    """A random function that depends on where a pixel lies: nothing about it is the same after a flip."""
    random = np.random.default_rng(seed)
    place, slope = random.normal(size=(2, classes, size, size))
    return lambda batch: softmax(place + 3 * slope * (batch + 0.5 * np.roll(batch, 1, -1)))


def model(seed=0, labels=CT4, thresholds=None, size=32):
    return Model(network(seed, len(labels.classes), size), Preparation(INTENSITY, size), labels, thresholds)


def image(shape=(48, 40), seed=0):
    return np.random.default_rng(seed).uniform(-1100, 300, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(32, 32), (48, 40), (20, 70)])
@pytest.mark.parametrize("tta", ["none", "flips"])
def test_probabilities_come_on_the_image_s_own_grid(shape, tta):
    p = probabilities([model()], image(shape), Unit.HU, tta)
    assert (p.shape, p.dtype) == ((4, *shape), np.float32)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)


def test_without_resizing_the_answer_is_the_engine_s():
    x = clip01(image((32, 32)), Unit.HU, INTENSITY)
    np.testing.assert_array_equal(probabilities([model(3)], image((32, 32)), Unit.HU), network(3)(x[None, None])[0])


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)])
def test_with_flips_a_flipped_image_has_the_flipped_answer(axes):
    # Even borders, so that the middle of the square is the middle of the image.
    one, flipped = image((48, 36)), np.flip(image((48, 36)), axes)
    plain, turned = (probabilities([model()], x, Unit.HU, "flips") for x in (one, flipped))
    np.testing.assert_allclose(turned, np.flip(plain, axes), atol=1e-4)
    alone, alone_turned = (probabilities([model()], x, Unit.HU) for x in (one, flipped))
    assert np.abs(alone_turned - np.flip(alone, axes)).max() > 0.1


def test_flips_are_the_mean_of_four_answers():
    x = image((32, 32))
    turns = ((), (-1,), (-2,), (-2, -1))
    answers = [np.flip(probabilities([model()], np.flip(x, axes), Unit.HU), axes) for axes in turns]
    np.testing.assert_allclose(probabilities([model()], x, Unit.HU, "flips"), np.mean(answers, axis=0), atol=1e-5)


def test_several_models_answer_with_their_mean_each_at_its_own_size():
    models = [model(1), model(2, size=64)]
    alone = [probabilities([one], image(), Unit.HU) for one in models]
    np.testing.assert_allclose(probabilities(models, image(), Unit.HU), np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.1


def test_models_of_different_classes_cannot_be_averaged():
    with pytest.raises(RunError, match=r"different label sets \(ct4, lesion\)"):
        probabilities([model(), model(labels=label_set("lesion"))], image(), Unit.HU)


def test_no_model_is_no_answer():
    with pytest.raises(RunError, match="no model"):
        probabilities([], image(), Unit.HU)


def test_an_unknown_unit_is_refused_before_the_engine_is_asked():
    def never(_):
        raise AssertionError

    with pytest.raises(DataError, match="unit is not known"):
        probabilities([Model(never, Preparation(INTENSITY, 32), CT4)], image(), Unit.UNKNOWN)


def test_thresholds_are_averaged_and_no_thresholds_mean_argmax():
    a, b = {"ground-glass": 0.2, "consolidation": 0.4}, {"ground-glass": 0.4, "consolidation": 0.8}
    assert mean_thresholds([model(thresholds=a), model(thresholds=b)]) == pytest.approx(
        {"ground-glass": 0.3, "consolidation": 0.6}
    )
    assert mean_thresholds([model(), model()]) is None


def test_thresholds_and_argmax_are_not_mixed():
    def never(_):
        raise AssertionError

    preparation = Preparation(INTENSITY, 32)
    mixed = [Model(never, preparation, CT4, {"ground-glass": 0.2}), Model(never, preparation, CT4)]
    for ask in (check_together, mean_thresholds, lambda models: segment(models, image(), Unit.HU)):
        for models in (mixed, mixed[::-1]):
            with pytest.raises(RunError, match="some of these runs decide by thresholds, others by argmax"):
                ask(models)


def test_a_segmentation_holds_canonical_values_decided_on_the_image_s_grid():
    labels, p, _ = segment([model()], image(), Unit.HU)
    assert labels.shape == image().shape
    np.testing.assert_array_equal(labels, CT4.decode(p.argmax(axis=0)))
    lower, _, _ = segment([model(thresholds={"consolidation": 0.01, "ground-glass": 1.0})], image(), Unit.HU)
    assert (lower == 2).sum() > (labels == 2).sum()


def test_the_lesion_set_answers_in_its_own_value():
    labels, _, _ = segment([model(labels=label_set("lesion"))], image(), Unit.HU)
    assert set(np.unique(labels)) == {0, 5}
