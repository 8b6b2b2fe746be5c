"""A leak certificate says what was searched, what was found, and what became of it."""

from __future__ import annotations

import pytest

from groundglass.data.dataset import Dataset
from groundglass.data.leaks import Certificate, certify
from groundglass.data.links import links, one_scans
from groundglass.data.opening import open_dataset
from groundglass.data.splits import Split, explicit, holdout, kfold
from groundglass.data.twins import Pair, Twins


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("phantom:4")


def _twins(dataset: Dataset, *places: tuple[int, int]) -> Twins:
    """Cases at these places are twins."""
    ids = [(dataset.cases[a].id, dataset.cases[b].id) for a, b in places]
    pairs = tuple(Pair(first, second, "same-scan", 0.99) for first, second in ids)
    return Twins(len(dataset.cases), 50, pairs, tuple(ids))


def _split(dataset: Dataset, train: range, validation: range) -> Split:
    ids = [case.id for case in dataset.cases]
    return Split(
        kind="explicit", seed=0, train=tuple(ids[i] for i in train), validation=tuple(ids[i] for i in validation)
    )


def test_a_pair_between_training_and_validation_is_a_leak(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", _twins(dataset, (1, 13), (0, 2)), _split(dataset, range(12), range(12, 24)))
    (leak,) = certificate.leaks
    assert (leak.first, leak.second) == (dataset.cases[1].id, dataset.cases[13].id)
    assert (leak.first_side, leak.second_side) == ("train", "validation")
    assert certificate.verdict == "leaky by source"
    told = "\n".join(certificate.lines())
    assert dataset.cases[1].place in told
    assert dataset.cases[13].place in told
    assert "1 of them between training and scored cases" in told


def test_the_training_case_comes_first_whatever_the_order(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", _twins(dataset, (1, 13)), _split(dataset, range(12, 24), range(12)))
    assert certificate.leaks[0].first == dataset.cases[13].id


def test_pairs_on_one_side_are_no_leak(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", _twins(dataset, (0, 7), (14, 20)), _split(dataset, range(12), range(12, 24)))
    assert (certificate.n_pairs, certificate.across, certificate.verdict) == (2, (), "no leak found")


def test_nothing_searched_is_said(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", None, _split(dataset, range(12), range(12, 24)))
    assert certificate.verdict == "nothing was searched"
    assert any("not searched for" in line for line in certificate.lines())


def test_a_twin_to_be_predicted_is_named_but_leaks_nothing(dataset: Dataset) -> None:
    first, blind = dataset.cases[0], dataset.test[0]
    twins = Twins(20, 5, (Pair(first.id, blind.id, "same-picture", 1.0),), ((first.id, blind.id),))
    certificate = certify(dataset, "f", twins, _split(dataset, range(12), range(12, 24)))
    assert certificate.across[0].second_side == "unlabelled"
    assert (certificate.leaks, certificate.verdict) == ((), "no leak found")
    assert any("without masks" in line for line in certificate.lines())


def test_how_patients_are_known(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", Twins(), _split(dataset, range(12), range(12, 24)))
    assert certificate.patients == "given (4 patients)"


def test_it_survives_a_file(dataset: Dataset) -> None:
    certificate = certify(dataset, "f", _twins(dataset, (1, 13)), _split(dataset, range(12), range(12, 24)))
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate


def test_no_split_of_ours_divides_twins(dataset: Dataset) -> None:
    twins = _twins(dataset, (0, 8), (9, 15))
    for split in (
        holdout(dataset.cases, 0.3, 0, clusters=twins.clusters),
        *(kfold(dataset.cases, 2, k, 0, clusters=twins.clusters) for k in (1, 2)),
    ):
        assert split.leaky == ""
        assert certify(dataset, "f", twins, split).across == ()


def test_named_rows_stand_and_are_stamped(dataset: Dataset) -> None:
    split = explicit(dataset.cases, {"phantom": "0..7"}, clusters=_twins(dataset, (9, 15)).clusters)
    assert len(split.validation) == 8
    assert split.leaky.startswith("leaky by source: the named rows divide 1 of 3 groups; 2 of 8")
    whole = explicit(dataset.cases, {"phantom": "0..5"})
    assert whole.leaky == ""
    across = explicit(dataset.cases, {"phantom": "0..5"}, clusters=[(dataset.cases[0].id, dataset.cases[20].id)])
    assert "divide 1 of 3 groups" in across.leaky


def test_volumes_linked_by_several_pairs_are_one_scan(dataset: Dataset) -> None:
    found = links(dataset, _twins(dataset, (0, 6), (1, 7), (2, 8), (12, 18)))
    (scan,) = one_scans(dataset, found)
    assert (scan.first[0].group, scan.second[0].group) == (dataset.cases[0].group, dataset.cases[6].group)
    assert "show one scan (3 pairs)" in str(scan)
