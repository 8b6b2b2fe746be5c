import json

import numpy as np
import pytest

from groundglass.errors import DataError
from groundglass.measure.metrics import dice
from groundglass.measure.protocols import (
    LESION_TOLERANCE_MM,
    LUNG_TOLERANCE_MM,
    PROTOCOLS,
    InfNet,
    VolumeScore,
    covid_ct_seg,
    covid_ct_seg_case,
    inf_net,
)

nan = np.nan


def slowly(probability, truth):
    """Inf-Net's evaluation as its MATLAB files have it, a threshold at a time."""
    values = probability.astype(np.float64)
    if values.max() > values.min():
        values = (values - values.min()) / (values.max() - values.min())
    rows = []
    for level in range(255, -1, -1):
        found = values >= level / 255 - 1e-7
        tp = np.count_nonzero(found & truth)
        if tp == 0:
            rows.append((0, 0, 0, 0))
            continue
        fp, fn = np.count_nonzero(found & ~truth), np.count_nonzero(~found & truth)
        tn = truth.size - tp - fp - fn
        specificity = tn / (tn + fp) if tn + fp else 0
        rows.append((2 * tp / (2 * tp + fp + fn), tp / (tp + fp), tp / (tp + fn), specificity))
    return np.array(rows).T, np.abs(truth - values).mean()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["float32", "float64", "narrow", "8 bits", "mask"])
def test_inf_net_equals_its_slow_self(seed, kind):
    random = np.random.default_rng(seed)
    truth = random.random((19, 23)) < 0.3
    soft = np.clip(random.random(truth.shape) * 0.8 + 0.2 * truth, 0, 1)
    soft = {
        "float32": soft.astype(np.float32),
        "float64": soft,
        "narrow": 0.3 + 0.2 * soft,
        "8 bits": (np.round(soft * 255) / 255).astype(np.float32),
        "mask": soft > 0.5,
    }[kind]
    *curves, mae = inf_net(soft, truth)
    expected, expected_mae = slowly(soft, truth)
    assert np.stack(curves) == pytest.approx(expected, abs=1e-9)
    assert mae == pytest.approx(expected_mae)


def test_inf_net_by_hand():
    truth = np.array([[True, True, False, False]])
    found = inf_net(np.array([[0.9, 0.5, 0.7, 0.1]]), truth)
    # Stretched: 1, 0.5, 0.75, 0. One pixel down to 0.75 (threshold 191/255 is the first below), and so on.
    three_quarters, half = 255 - 191, 255 - 127
    for first, last, scores in (
        (0, three_quarters, (2 / 3, 1, 1 / 2, 1)),
        (three_quarters, half, (1 / 2, 1 / 2, 1 / 2, 1 / 2)),
        (half, 255, (4 / 5, 2 / 3, 1, 1 / 2)),
        (255, 256, (2 / 3, 1 / 2, 1, 0)),
    ):
        for curve, score in zip(found, scores, strict=False):
            assert curve[first:last] == pytest.approx(np.full(last - first, score))
    assert found.mae == pytest.approx((0 + 0.5 + 0.75 + 0) / 4)


def test_a_mask_scores_its_dice_at_all_thresholds_but_0():
    random = np.random.default_rng(0)
    truth, mask = random.random((2, 30, 30)) < 0.3
    found = inf_net(mask, truth)
    tp, fp, fn = (float(x.sum()) for x in (truth & mask, ~truth & mask, truth & ~mask))
    assert found.dice[:255] == pytest.approx(np.full(255, dice(tp, fp, fn, 0.0)))
    assert found.dice[255] == pytest.approx(2 * truth.sum() / (truth.sum() + truth.size))


def test_8_bits_are_the_same_in_every_type_and_scale():
    random = np.random.default_rng(0)
    # From 0 to 255, so that every pixel lies on a threshold.
    truth, levels = random.random((40, 40)) < 0.2, random.integers(0, 256, (40, 40), np.uint8)
    assert (levels.min(), levels.max()) == (0, 255)
    whole = inf_net(levels, truth)
    for dtype in (np.float32, np.float64):
        for scale, offset in ((1, 0), (0.6, 0.2)):
            values = levels.astype(dtype) / dtype(255) * dtype(scale) + dtype(offset)
            for ours, theirs in zip(inf_net(values, truth), whole, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("constant", "finding"), [(0.0, 1), (0.5, 128), (1.0, 256)])
def test_a_constant_map_is_not_stretched(constant, finding):
    truth = np.array([[True, False]])
    assert np.count_nonzero(inf_net(np.full((1, 2), constant), truth).dice) == finding


def test_an_empty_reference_scores_nothing_and_is_dropped():
    empty, some = np.zeros((2, 4, 4), bool)
    some[1, 1] = True
    assert not any(curve.any() for curve in inf_net(np.zeros((4, 4)), empty)[:4])
    dropping, keeping = InfNet(), InfNet(drop_empty=False)
    for gathered in (dropping, keeping):
        gathered.add(np.zeros((4, 4)), empty)
        gathered.add(some, some)
    dropped, kept = dropping.result(), keeping.result()
    assert (dropped.n, dropped.n_dropped, kept.n, kept.n_dropped) == (1, 1, 2, 0)
    assert (dropped.settings["drop_empty"], kept.settings["drop_empty"]) == (True, False)
    assert kept.numbers["meanDic"] == pytest.approx(dropped.numbers["meanDic"] / 2)
    assert kept.numbers["meanSpe"] == pytest.approx(dropped.numbers["meanSpe"] / 2)


def test_inf_net_averages_slices_first_and_thresholds_last():
    random = np.random.default_rng(0)
    truths = random.random((5, 12, 12)) < 0.3
    maps = np.clip(random.random(truths.shape) * 0.7 + 0.3 * truths, 0, 1)
    gathered = InfNet()
    for probability, truth in zip(maps, truths, strict=True):
        gathered.add(probability, truth)
    found = gathered.result()
    curves, maes = zip(*(slowly(p, t) for p, t in zip(maps, truths, strict=True)), strict=True)
    dices, precisions, sensitivities, specificities = np.mean(curves, axis=0)
    assert found.numbers == pytest.approx(
        {
            "meanDic": dices.mean(),
            "maxDic": dices.max(),
            "threshold": (255 - dices.argmax()) / 255,
            "meanSen": sensitivities.mean(),
            "meanSpe": specificities.mean(),
            "meanPre": precisions.mean(),
            "MAE": np.mean(maes),
        }
    )
    assert found.name in PROTOCOLS
    assert found.source == PROTOCOLS[found.name].source
    assert json.loads(json.dumps(found.to_dict()))["numbers"]["maxDic"] == found.numbers["maxDic"]


def test_without_slices_there_are_no_numbers():
    assert all(np.isnan(number) for number in InfNet().result().numbers.values())


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (np.zeros((3, 4)), "the map is 3x4 and the reference 3x3"),
        (np.full((3, 3), 1.5), "from 1.5 to 1.5 holds no probabilities"),
        (np.full((3, 3), -0.1), "holds no probabilities"),
        (np.full((3, 3), nan), "holds no probabilities"),
        (np.full((3, 3), 256, np.int64), "holds no probabilities"),
    ],
)
def test_inf_net_refuses(probability, message):
    with pytest.raises(DataError, match=message):
        inf_net(probability, np.ones((3, 3), bool))


# ---- COVID-19-CT-Seg


def test_covid_ct_seg_of_cubes_by_hand():
    truth, prediction = np.zeros((2, 30, 12, 12), bool)
    truth[2:12, 1:11, 1:11] = prediction[2:13, 1:11, 1:11] = True
    found = covid_ct_seg_case(truth, prediction, (2, 1, 1), 1.0)
    assert found.dsc == pytest.approx(2000 / 2100)
    # Where eight voxels meet, a side carries 1 or 2 mm2, edges and corners a little less than their share.
    end, rim = 81, 36 * 0.5 * 5**0.5 + 4 * 3 / 8
    areas = [2 * (end + rim) + 4 * (layers - 1) * (9 * 2 + 0.5 * 8**0.5) for layers in (10, 11)]
    # The further end is 2 mm off, and of the nearer one all but two rings, which are 0 and 1 mm from the other's sides.
    assert found.nsd == pytest.approx(1 - (end + rim + 49) / sum(areas))
    assert covid_ct_seg_case(truth, prediction, (2, 1, 1), 2.0).nsd == 1.0
    assert (LUNG_TOLERANCE_MM, LESION_TOLERANCE_MM) == (1, 3)


def test_covid_ct_seg_of_empty_masks():
    some, none = np.zeros((2, 4, 4, 4), bool)
    some[1:3, 1:3, 1:3] = True
    assert covid_ct_seg_case(none, none, (1, 1, 1), 3.0) == pytest.approx((nan, nan), nan_ok=True)
    assert covid_ct_seg_case(some, none, (1, 1, 1), 3.0) == (0, 0)
    assert covid_ct_seg_case(none, some, (1, 1, 1), 3.0) == (0, 0)
    assert covid_ct_seg_case(some, some, (1, 1, 1), 3.0) == (1, 1)


def test_covid_ct_seg_averages_volumes():
    scores = [VolumeScore(0.5, 0.6), VolumeScore(nan, nan), VolumeScore(0.9, 0.7)]
    found = covid_ct_seg(scores, 3.0)
    assert found.numbers == pytest.approx({"DSC": 0.7, "DSC sd": 0.2 * 2**0.5, "NSD": 0.65, "NSD sd": 0.05 * 2**0.5})
    assert (found.n, found.n_dropped, found.settings["tolerance_mm"]) == (2, 1, 3.0)
    assert np.isnan(covid_ct_seg(scores[:1], 3.0).numbers["DSC sd"])
    assert np.isnan(covid_ct_seg([], 3.0).numbers["DSC"])


def test_covid_ct_seg_is_about_volumes():
    with pytest.raises(DataError, match="volumes only"):
        covid_ct_seg_case(np.ones((4, 4), bool), np.ones((4, 4), bool), (1, 1), 1)


def test_every_protocol_names_its_source():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert "github.com/" in protocol.source
        assert protocol.description
