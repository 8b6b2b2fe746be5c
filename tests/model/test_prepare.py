"""From a case's grid and intensities to the network's, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from groundglass.case import Unit
from groundglass.errors import DataError, RecipeError
from groundglass.model.prepare import (
    Preparation,
    clip01,
    fit_into,
    restore,
    scale,
    shrink,
    shrink_labels,
    statistics,
    to_scale,
)
from groundglass.recipes.settings import Hounsfield as Intensity

sides = st.integers(5, 90)
square = st.sampled_from([32, 64])


def intensity(rule="unit", **more):
    return Intensity.model_validate({"clip_hu": [-1000, 200], "scale": {"name": rule}, **more})


def smooth(shape, seed=0, width=6):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), width, mode="nearest")
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


def test_intensities_are_clipped_and_laid_over_0_to_1():
    image = np.array([[-2000, -1000, -700, -400, 200, 3000]], np.float32)
    x = clip01(image, Unit.HU, intensity())
    np.testing.assert_allclose(x, [[0, 0, 0.25, 0.5, 1, 1]])
    assert x.dtype == np.float32


def test_a_picture_s_grey_values_are_laid_over_the_recipe_s_window():
    image = np.array([[0, 51, 255]], np.float32)
    np.testing.assert_allclose(to_scale(image, Unit.PICTURE, intensity()), [[-1000, -720, 400]], rtol=1e-6)
    other = intensity(picture_window_hu=[-500, 0])
    np.testing.assert_allclose(to_scale(image, Unit.PICTURE, other), [[-500, -400, 0]], rtol=1e-6)


def test_an_unknown_unit_is_refused_with_what_to_do():
    with pytest.raises(DataError, match="--unit HU or --unit picture"):
        clip01(np.zeros((4, 4), np.float32), Unit.UNKNOWN, intensity())


def test_scaling_by_each_rule():
    x = np.array([[0, 0.25, 1]], np.float32)
    np.testing.assert_array_equal(scale(x, Preparation(intensity("unit"), 32)), x)
    np.testing.assert_allclose(scale(x, Preparation(intensity("symmetric"), 32)), [[-1, -0.5, 1]])
    standard = Preparation(intensity("standardise"), 32, mean=-400, std=300)
    np.testing.assert_allclose(scale(x, standard), [[-2, -1, 2]])
    assert scale(x, standard).dtype == np.float32


@pytest.mark.parametrize(("mean", "std"), [(None, None), (0.0, None), (0.0, 0.0)])
def test_standardising_without_statistics_is_refused(mean, std):
    with pytest.raises(RecipeError, match="needs the mean and deviation"):
        scale(np.zeros((1, 1), np.float32), Preparation(intensity("standardise"), 32, mean, std))


def test_statistics_are_those_between_the_percentiles():
    values = np.random.default_rng(0).gamma(2, 200, 5000) - 1000
    low, high = np.percentile(values, (5, 95))
    inside = values[(values >= low) & (values <= high)]
    assert statistics(values, (5, 95)) == (pytest.approx(inside.mean()), pytest.approx(inside.std()))
    assert statistics(values, (0, 100)) == (pytest.approx(values.mean()), pytest.approx(values.std()))


def test_statistics_of_what_does_not_vary_are_refused():
    with pytest.raises(DataError, match="between percentiles 5 and 95 do not vary"):
        statistics(np.full(100, -1000.0), (5, 95))


@given(sides, sides, square)
@settings(max_examples=40, deadline=None)
def test_an_image_keeps_its_aspect_in_the_middle_of_the_square(height, width, size):
    x, fit = shrink(np.ones((height, width), np.float32), size)
    assert x.shape == (size, size)
    assert max(fit.inner) == size
    for side, inner, offset in zip((height, width), fit.inner, fit.offset, strict=True):
        assert abs(inner - side * size / max(height, width)) <= 1
        assert 0 <= size - inner - 2 * offset <= 1
    (top, left), (high, wide) = fit.offset, fit.inner
    outside = np.ones((size, size), bool)
    outside[top : top + high, left : left + wide] = False
    assert not x[outside].any()
    np.testing.assert_allclose(x[~outside], 1, atol=1e-6)


@given(sides, sides, square)
@settings(max_examples=40, deadline=None)
def test_constant_probabilities_survive_the_way_there_and_back(height, width, size):
    fit = fit_into((height, width), size)
    p = np.broadcast_to(np.array([0.1, 0.2, 0.3, 0.4], np.float32)[:, None, None], (4, size, size))
    back = restore(p, fit)
    assert back.shape == (4, height, width)
    np.testing.assert_allclose(back, np.broadcast_to(p[:, :1, :1], back.shape), atol=1e-6)


@given(sides, sides, square)
@settings(max_examples=25, deadline=None)
def test_restored_probabilities_sum_to_one_and_stay_probabilities(height, width, size):
    drawn = np.random.default_rng(height * 97 + width).dirichlet(np.ones(4), (size, size))
    back = restore(np.ascontiguousarray(drawn.transpose(2, 0, 1), np.float32), fit_into((height, width), size))
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-5)
    assert back.min() >= 0
    assert back.max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", [(64, 64), (120, 120), (90, 128), (128, 70), (40, 32)])
def test_a_smooth_field_comes_back_nearly_as_it_went(shape):
    field = smooth(shape)
    x, fit = shrink(field, 64)
    back = restore(x[None], fit)[0]
    assert back.shape == field.shape
    assert np.abs(back - field).mean() < 0.01
    # Not moved by half a pixel: the smooth field correlates best with itself unshifted.
    inner = (slice(4, -4), slice(4, -4))
    errors = {
        (i, j): np.abs(np.roll(back, (i, j), (0, 1)) - field)[inner].mean() for i in (-1, 0, 1) for j in (-1, 0, 1)
    }
    assert min(errors, key=errors.__getitem__) == (0, 0)


def test_an_image_of_the_network_s_size_is_left_alone():
    field = smooth((64, 64))
    x, fit = shrink(field, 64)
    np.testing.assert_array_equal(x, field)
    np.testing.assert_array_equal(restore(x[None], fit)[0], field)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(128, 128), (128, 96), (64, 128), (50, 50)])
def test_preparing_a_flipped_image_is_flipping_the_prepared_one(shape, axis):
    field = smooth(shape)
    one, _ = shrink(np.flip(field, axis).copy(), 64)
    np.testing.assert_allclose(one, np.flip(shrink(field, 64)[0], axis), atol=1e-5)


def test_labels_shrink_to_nearest_values_where_the_image_lies():
    labels = np.zeros((120, 90), np.uint8)
    labels[30:90, 20:70] = 3
    labels[50:70, 30:60] = 2
    small = shrink_labels(labels, 64)
    image, _ = shrink((labels > 0).astype(np.float32), 64)
    assert small.dtype == np.uint8
    assert set(np.unique(small)) == {0, 2, 3}
    assert ((small > 0) == (image > 0.5)).mean() > 0.99
    assert (small == 2).sum() == pytest.approx((labels == 2).sum() * (64 / 120) ** 2, rel=0.1)
