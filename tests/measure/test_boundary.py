import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from groundglass.errors import DataError
from groundglass.measure.boundary import boundary, surface_dice_by_area, volume_error

nan = np.nan
SPACINGS = {2: [(1.0, 1.0), (0.7, 0.7), (0.5, 1.3)], 3: [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (2.5, 0.6, 1.1)]}


def blobs(seed, shape, share=0.2):
    """A reference and a prediction that overlap in part, each of several blobs, some cut by the image's border."""
    random = np.random.default_rng(seed)
    common = gaussian_filter(random.normal(size=shape), 2)
    fields = (common + 0.5 * gaussian_filter(random.normal(size=shape), 2) for _ in range(2))
    return tuple(field > np.quantile(field, 1 - share) for field in fields)


def by_monai(metric, truth, prediction, spacing, **options):
    pytest.importorskip("monai")
    import monai.metrics
    import torch

    masks = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(getattr(monai.metrics, metric)(include_background=True, **options)(*masks, spacing=spacing))


CASES = [
    (len(shape), spacing, seed, shape)
    for shape in ((40, 33), (9, 24, 21))
    for spacing, seed in zip(SPACINGS[len(shape)], range(3), strict=True)
]


@pytest.mark.parametrize(("axes", "spacing", "seed", "shape"), CASES)
def test_equals_monai(axes, spacing, seed, shape):
    truth, prediction = blobs(seed, shape)
    found = boundary(truth, prediction, spacing, 1.5)
    assert 0 < found.nsd < 1
    hd95 = by_monai("HausdorffDistanceMetric", truth, prediction, spacing, percentile=95)
    nsd = by_monai("SurfaceDiceMetric", truth, prediction, spacing, class_thresholds=[1.5])
    assert found == pytest.approx((hd95, nsd), rel=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS[3])
@pytest.mark.parametrize("seed", range(2))
def test_surface_dice_by_area_equals_monai(spacing, seed):
    truth, prediction = blobs(seed, (9, 24, 21))
    # Speckles bring every arrangement of eight voxels.
    speckles = np.random.default_rng(seed).random(truth.shape) < 0.1
    expected = by_monai(
        "SurfaceDiceMetric", truth ^ speckles, prediction, spacing, class_thresholds=[1.2], use_subvoxels=True
    )
    assert 0 < expected < 1
    assert surface_dice_by_area(truth ^ speckles, prediction, spacing, 1.2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_inside", range(1, 8))
def test_every_arrangement_of_eight_voxels_has_the_area_that_monai_gives_it(n_inside):
    # Some more often than others, so that areas that are swapped do not add up to the same.
    codes = [code for code in range(256) if code.bit_count() == n_inside for _ in range(code**2 % 11 + 1)]
    truth, prediction = np.zeros((2, 2, 2, 6 * len(codes)), bool)
    for i, code in enumerate(codes):
        truth[:, :, 6 * i : 6 * i + 2] = (code >> np.arange(8) & 1).astype(bool).reshape(2, 2, 2)
        prediction[0, 0, 6 * i] = True
    # The points within the tolerance are the same whatever areas they carry: a wrong area shows by its weight.
    options = {"class_thresholds": [0.5], "use_subvoxels": True}
    expected = by_monai("SurfaceDiceMetric", truth, prediction, (2.5, 0.6, 1.1), **options)
    assert surface_dice_by_area(truth, prediction, (2.5, 0.6, 1.1), 0.5) == pytest.approx(expected, rel=5e-6)


def test_a_shifted_square_is_known_by_heart():
    truth, prediction = np.zeros((2, 20, 20), bool)
    truth[5:10, 5:10] = True
    prediction[5:10, 8:13] = True
    # Rows 0.5 mm apart, columns 2 mm: three columns are 6 mm.
    assert boundary(truth, prediction, (0.5, 2.0), 6.0) == (6.0, 1.0)
    assert boundary(truth, prediction, (1, 1), 3.0) == (3.0, 1.0)
    closer = boundary(truth, prediction, (0.5, 2.0), 1.9)
    # Of the 16 outline pixels of each, those near the other outline lie in the two columns they share: 5 + 2.
    assert closer.nsd == 7 / 16


def test_a_single_voxel_beside_another():
    truth, prediction = np.zeros((2, 4, 6, 6), bool)
    truth[1, 2, 2] = prediction[1, 2, 4] = True
    found = boundary(truth, prediction, (3, 2, 1), 1.0)
    assert found == (2.0, 0.0)
    # The surfaces of two voxels with two columns between their corners: the near halves are 1 mm apart.
    assert surface_dice_by_area(truth, prediction, (3, 2, 1), 1.0) == pytest.approx(0.5)


def test_a_distance_equal_to_the_tolerance_but_for_rounding_is_within_it():
    truth, prediction = np.zeros((2, 5, 40), bool)
    truth[2, 2] = prediction[2, 5] = True
    assert 3 * 0.1 > 0.3
    assert boundary(truth, prediction, (0.1, 0.1), 0.3).nsd == 1.0


@pytest.mark.parametrize("function", [boundary, surface_dice_by_area])
def test_empty_masks(function):
    some, none = np.zeros((2, 3, 5, 6), bool)
    some[1, 2, 2] = True
    diagonal = np.sqrt((2 * 5) ** 2 + (4 * 0.5) ** 2 + (5 * 0.5) ** 2)
    for pair, expected in (((none, none), (nan, nan)), ((some, none), (diagonal, 0)), ((none, some), (diagonal, 0))):
        found = function(*pair, (5, 0.5, 0.5), 2.0)
        assert found == pytest.approx(expected if function is boundary else expected[1], nan_ok=True)


def test_nothing_is_worse_than_an_empty_prediction():
    truth, prediction = np.zeros((2, 7, 9), bool)
    truth[0, 0] = prediction[6, 8] = True
    assert boundary(truth, prediction, (1, 1), 1).hd95 == boundary(truth, ~truth & truth, (1, 1), 1).hd95


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 3), st.floats(0.1, 3), st.floats(0, 5))
def test_properties(seed, axes, scale, tolerance):
    truth, prediction = blobs(seed, (8, 17, 15)[-axes:])
    spacing = (2.0, 0.7, 1.1)[-axes:]
    here = boundary(truth, prediction, spacing, tolerance)
    assert here == pytest.approx(boundary(prediction, truth, spacing, tolerance))
    assert boundary(truth, truth, spacing, 0) == (0, 1)
    # Unit and place mean nothing.
    assert boundary(truth, prediction, [scale * s for s in spacing], scale * tolerance) == pytest.approx(
        (scale * here.hd95, here.nsd)
    )
    # Room around the image means nothing, as long as the masks do not touch it.
    wide = [np.pad(mask, 3) for mask in (truth, prediction)]
    assert boundary(*wide, spacing, tolerance) == pytest.approx(here)
    assert boundary(truth, prediction, spacing, tolerance + 1).nsd >= here.nsd


def test_volume_error():
    found = volume_error(np.array([10.0, 10.0, 0.0]), np.array([15.0, 5.0, 2.0]))
    assert found.difference.tolist() == [5, -5, 2]
    assert found.relative == pytest.approx([0.5, -0.5, nan], nan_ok=True)
    assert volume_error(4.0, 5.0).relative == 0.25


@pytest.mark.parametrize("function", [boundary, surface_dice_by_area])
@pytest.mark.parametrize(
    ("truth", "prediction", "spacing", "tolerance", "message"),
    [
        ((3, 5, 5), (3, 5, 4), (1, 1, 1), 1, "the prediction is 3x5x4 and the reference 3x5x5"),
        ((3, 5, 5), (3, 5, 5), (1, 1), 1, "needs 3 positive spacings"),
        ((3, 5, 5), (3, 5, 5), (1, 0, 1), 1, "needs 3 positive spacings"),
        ((3, 5, 5), (3, 5, 5), (1, nan, 1), 1, "needs 3 positive spacings"),
        ((3, 5, 5), (3, 5, 5), (1, 1, 1), -1, "tolerance of -1 means nothing"),
        ((3, 5, 5), (3, 5, 5), (1, 1, 1), nan, "tolerance of nan means nothing"),
    ],
)
def test_refuses(function, truth, prediction, spacing, tolerance, message):
    with pytest.raises(DataError, match=message):
        function(np.ones(truth, bool), np.ones(prediction, bool), spacing, tolerance)


def test_an_area_needs_a_volume():
    with pytest.raises(DataError, match="volumes only"):
        surface_dice_by_area(np.ones((4, 4), bool), np.ones((4, 4), bool), (1, 1), 1)
