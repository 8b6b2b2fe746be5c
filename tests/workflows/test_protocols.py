"""`evaluate` asks protocol COVID-19-CT-Seg: whole volumes from scored slices, and what keeps them from being whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import groundglass as gg
from groundglass.case import Case, Unit
from groundglass.data.dataset import Dataset
from groundglass.labels import label_set
from groundglass.measure.protocols import COVID_CT_SEG, covid_ct_seg_case
from groundglass.measure.record import FILE, ProtocolNumbers, read_record
from groundglass.run import Run
from groundglass.workflows.compare import compare
from groundglass.workflows.volumes import VolumeScores, find_volumes
from groundglass.write.masks import write_png
from tests.conftest import Cli
from tests.data.small import ct_seg, kaggle, lctsc, radiopaedia_jpeg

Labels = np.ndarray[Any, np.dtype[np.uint8]]
SHAPE = (5, 24, 24)
CT4 = label_set("ct4")


def truth() -> Labels:
    """[D, H, W] canonical: a lung with ground-glass and a consolidation in it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 3:17, 4:20] = 3
    labels[1:4, 6:12, 7:13] = 1
    labels[2:4, 8:11, 8:11] = 2
    return labels


def answer() -> Labels:
    """Found a slice too high, four rows too low, and with the types of lesion exchanged."""
    moved = np.roll(truth(), (1, 4), axis=(0, 1))
    return np.array([0, 2, 1, 3], np.uint8)[moved]


def nifti(folder: Path, name: str, labels: Labels, spacing: tuple[float, float, float]) -> None:
    """One patient's CT and mask; spacing: (slice, row, column) in mm."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    hu = np.random.default_rng(len(name)).normal(-600, 100, labels.shape)
    nib.save(nib.Nifti1Image(hu.astype(np.int16).transpose(2, 1, 0), affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), affine), folder / f"{name}_mask.nii.gz")


def manifest(folder: Path, volumes: dict[str, Labels], spacing: tuple[float, float, float] = (5.0, 0.8, 1.2)) -> Path:
    for name, labels in volumes.items():
        nifti(folder, name, labels, spacing)
    rows = "".join(f"{name},{name}.nii.gz,{name}_mask.nii.gz\n" for name in volumes)
    (folder / "manifest.csv").write_text("patient,image,mask\n" + rows, encoding="utf-8")
    # Without a lung file the lung is in the mask.
    (folder / "dataset.yaml").write_text(
        "unit: HU\nlabels: {0: background, 1: ground-glass, 2: consolidation, 3: lung}\n", encoding="utf-8"
    )
    return folder


def masks(folder: Path, data: Path, change: Any) -> Path:
    """A mask file for each labelled case; change: from its slice number and true labels to the mask."""
    for case in gg.open_dataset(data).cases:
        write_png(folder / f"{case.stem}.png", change(case))
    return folder


def told(protocols: tuple[ProtocolNumbers, ...]) -> dict[str, ProtocolNumbers]:
    return {found.label: found for found in protocols if found.name == COVID_CT_SEG.name}


def by_hand(spacing: tuple[float, float, float] | None) -> dict[str, tuple[float, float]]:
    lesions = [np.isin(labels, (1, 2)) for labels in (truth(), answer())]
    lungs = [np.isin(labels, (1, 2, 3)) for labels in (truth(), answer())]
    return {
        "any lesion": tuple(covid_ct_seg_case(*lesions, spacing, 3.0)),
        "lung": tuple(covid_ct_seg_case(*lungs, spacing, 1.0)),
    }


@pytest.mark.parametrize("spacing", [(5.0, 0.8, 1.2), (1.0, 0.8, 1.2)])
def test_a_volume_scores_what_its_protocol_says(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    data = manifest(tmp_path / "data", {"ct": truth()}, spacing)
    folder = masks(tmp_path / "masks", data, lambda case: answer()[case.row])
    result = gg.evaluate([folder], data, bootstrap=0)
    found = told(result.record.protocols)
    for label, (dsc, nsd) in by_hand(spacing).items():
        assert 0 < nsd < 1
        assert (found[label].numbers["DSC"], found[label].numbers["NSD"]) == pytest.approx((dsc, nsd))
        assert (found[label].n, found[label].n_dropped, found[label].n_partly_known) == (1, 0, 0)
        assert found[label].settings == {"tolerance_mm": 3.0 if label == "any lesion" else 1.0}
    assert read_record(result.folder / FILE).protocols == result.record.protocols
    written = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))["protocols"]
    assert [p["name"] for p in written] == ["inf-net"] * 3 + ["covid-19-ct-seg"] * 2


def test_the_distance_between_slices_matters() -> None:
    thick, thin = by_hand((5.0, 0.8, 1.2)), by_hand((1.0, 0.8, 1.2))
    assert thick["any lesion"][1] < thin["any lesion"][1]
    assert thick["any lesion"][0] == thin["any lesion"][0]


def test_volumes_have_one_voice_each_and_empty_ones_none(tmp_path: Path, cli: Cli) -> None:
    """Of two volumes one is perfect, the other answered as by hand; a third holds no lesion, nor does its answer."""
    plain = np.where(truth() == 0, 0, 3).astype(np.uint8)
    data = manifest(tmp_path / "data", {"a": truth(), "b": truth(), "c": plain})
    folder = masks(tmp_path / "masks", data, lambda case: answer()[case.row] if case.patient == "a" else case.labels())
    said = cli("evaluate", folder, "--data", data, "--bootstrap", 0)
    record = read_record(folder / "evaluation" / FILE)
    found = told(record.protocols)
    dsc, nsd = by_hand((5.0, 0.8, 1.2))["any lesion"]
    assert (found["any lesion"].n, found["any lesion"].n_dropped) == (2, 1)
    assert found["lung"].n == 3
    assert found["any lesion"].numbers == pytest.approx(
        {"DSC": (dsc + 1) / 2, "DSC sd": (1 - dsc) / 2**0.5, "NSD": (nsd + 1) / 2, "NSD sd": (1 - nsd) / 2**0.5}
    )
    assert "published protocol covid-19-ct-seg" in said.out
    assert f"{found['lung'].numbers['DSC']:.3f}" in said.out
    assert "published protocol inf-net" in said.out


def test_without_millimetres_there_is_dice_alone(tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "ct.npy", np.random.default_rng(0).normal(-600, 100, SHAPE).astype(np.float32))
    np.save(data / "mask.npy", truth())
    (data / "manifest.csv").write_text("patient,image,mask\np,ct.npy,mask.npy\n", encoding="utf-8")
    (data / "dataset.yaml").write_text(
        "unit: HU\nlabels: {0: background, 1: ground-glass, 2: consolidation, 3: lung}\n", encoding="utf-8"
    )
    folder = masks(tmp_path / "masks", data, lambda case: answer()[case.row])
    said = cli("evaluate", folder, "--data", data, "--bootstrap", 0)
    found = told(read_record(folder / "evaluation" / FILE).protocols)["any lesion"]
    assert found.numbers["DSC"] == pytest.approx(by_hand(None)["any lesion"][0])
    assert (found.numbers["NSD"], found.n) == (None, 1)
    assert "in mm is not known (1 of 1 volumes)" in str(found.settings["nsd"])
    assert "covid-19-ct-seg: nsd: undefined: the distance between slices" in said.out


# ---- what is a volume


def volumes_of(data: Path) -> list[tuple[str, int, int]]:
    dataset = gg.open_dataset(data)
    return [(volume.name, len(volume.ids), volume.of) for volume in find_volumes(dataset.cases, dataset)[0]]


def test_volumes_are_stacks_and_what_the_data_set_names(tmp_path: Path) -> None:
    assert volumes_of(lctsc(tmp_path / "lctsc")) == [("lctsc/P-101", 3, 3), ("lctsc/P-201", 3, 3)]
    # Slices 3 and 5: the fourth is not there.
    names = ["covid19-ct-seg case_01", "covid19-ct-seg case_02"]
    assert volumes_of(ct_seg(tmp_path / "ct_seg")) == [(name, 2, 3) for name in names]
    # The second volume has one slice, which is none.
    assert volumes_of(radiopaedia_jpeg(tmp_path / "radiopaedia")) == [("radiopaedia volume 1", 3, 3)]
    # MedSeg's slices lie in one file and are of nobody knows how many patients.
    kinds = [("radiopaedia volume 1", 4, 4), ("radiopaedia volume 2", 4, 4)]
    assert volumes_of(kaggle(tmp_path / "kaggle")) == kinds
    assert volumes_of(kaggle(tmp_path / "no table", table=False)) == []
    dataset = gg.open_dataset("phantom:1")
    assert find_volumes(dataset.cases, dataset) == ([], {"of no volume": 6})


def test_data_without_volumes_have_no_such_numbers(tmp_path: Path) -> None:
    data = kaggle(tmp_path / "data", radiopaedia=0)
    folder = masks(tmp_path / "masks", data, lambda case: case.labels())
    assert told(gg.evaluate([folder], data, bootstrap=0).record.protocols) == {}


def test_partly_known_volumes_are_left_out_and_counted(tmp_path: Path) -> None:
    """In LCTSC nobody looked for lesions, but what is lung is known."""
    data = lctsc(tmp_path / "data")
    folder = masks(tmp_path / "masks", data, lambda case: np.where(case.labels(), 3, 0).astype(np.uint8))
    found = told(gg.evaluate([folder], data, bootstrap=0, labels="ct4").record.protocols)
    assert (found["any lesion"].n, found["any lesion"].n_partly_known) == (0, 2)
    assert found["any lesion"].numbers["DSC"] is None
    assert (found["lung"].n, found["lung"].n_partly_known) == (2, 0)
    assert (found["lung"].numbers["DSC"], found["lung"].numbers["NSD"]) == (1, 1)


# ---- parts of volumes


def scored(data: Path, keep: Any) -> VolumeScores:
    """The reference as the answer, of the cases to keep."""
    dataset = gg.open_dataset(data)
    cases = [case for case in dataset.cases if keep(case)]
    scores = VolumeScores(cases, dataset, CT4)
    for case in cases:
        codes = CT4.encode(case.labels())
        scores.add(case, codes, codes)
    return scores


def test_parts_of_volumes_are_named(tmp_path: Path) -> None:
    data = manifest(tmp_path / "data", {"a": truth(), "b": truth(), "c": truth()})
    scores = scored(data, lambda case: case.row < {"a": 5, "b": 3, "c": 1}[case.patient])
    found = told(scores.results())["any lesion"]
    assert (found.n, found.numbers["DSC"], found.numbers["NSD"]) == (2, 1, 1)
    assert found.settings["partial"] == "b (3 slices of 5)"
    assert found.settings["left_out"] == "slices alone of their volume: 1"
    assert "nsd" not in found.settings


def test_surfaces_need_every_slice_between_the_first_and_the_last(tmp_path: Path) -> None:
    data = manifest(tmp_path / "data", {"a": truth(), "b": truth()})
    found = told(scored(data, lambda case: (case.patient, case.row) != ("b", 2)).results())["any lesion"]
    assert (found.n, found.numbers["DSC"], found.numbers["NSD"]) == (2, 1, None)
    assert found.settings["partial"] == "b (4 slices of 5)"
    assert found.settings["nsd"] == "undefined: slices between the scored ones are missing (1 of 2 volumes)"


def test_runs_are_asked_too(run: Run, drawn: Path, tmp_path: Path) -> None:
    """The drawn data have four volumes of six slices, and twelve slices for themselves."""
    found = told(gg.evaluate([run], drawn, out=tmp_path, part="all", bootstrap=0, figures=False).record.protocols)
    assert found["any lesion"].n == found["lung"].n == 4
    assert found["any lesion"].settings["left_out"] == "slices of no volume: 12"
    assert "partial" not in found["any lesion"].settings


def drawn_case(row: int, shape: tuple[int, int] = (4, 4), group: str = "v") -> Case:
    def nothing() -> Any:
        raise AssertionError("no pixel is read")

    return Case(f"{group}/{row:03d}", "s", f"{group}.npy", shape, Unit.HU, nothing, nothing, row=row, group=group)


def test_label_maps_of_complete_volumes_are_let_go() -> None:
    cases = [drawn_case(row, group=group) for group in "vw" for row in range(3)]
    dataset = Dataset("", "", tuple(cases), (), CT4.classes, Unit.HU, "not known")
    scores = VolumeScores(cases, dataset, CT4)
    waiting = []
    for case in cases:
        scores.add(case, np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8))
        waiting.append(sum(map(len, scores._waiting.values())))
    assert waiting == [1, 2, 0, 1, 2, 0]


def test_slices_of_unequal_size_are_no_volume() -> None:
    cases = (drawn_case(0), drawn_case(1), replace(drawn_case(2), shape=(4, 5)))
    dataset = Dataset("", "", cases, (), CT4.classes, Unit.HU, "not known")
    assert find_volumes(cases, dataset) == ([], {"of volumes whose slices differ in size": 3})


def test_slices_may_come_in_any_order() -> None:
    cases = [drawn_case(row) for row in (2, 0, 1)]
    dataset = Dataset("", "", tuple(cases), (), CT4.classes, Unit.HU, "not known")
    assert find_volumes(cases, dataset)[0][0].ids == ("v/000", "v/001", "v/002")


# ---- compare


def test_compare_shows_the_volumes_beside_inf_net(tmp_path: Path, cli: Cli) -> None:
    data = manifest(tmp_path / "data", {"a": truth(), "b": truth()})
    found = [
        gg.evaluate([masks(tmp_path / name, data, change)], data, bootstrap=0)
        for name, change in (("moved", lambda case: answer()[case.row]), ("same", lambda case: case.labels()))
    ]
    out = tmp_path / "out"
    said = cli("compare", *(result.folder for result in found), "-o", out, "--bootstrap", 0)
    assert "volume DSC" in said.out
    header, *rows = (line.split(",") for line in (out / "comparison.csv").read_text(encoding="utf-8").splitlines())
    values = [float(row[header.index("any_lesion_volume_dsc")]) for row in rows]
    assert values == pytest.approx([by_hand(None)["any lesion"][0], 1])
    again = compare([result.folder for result in found], out=out, bootstrap=0).comparison
    # Asked for no protocol by name, a record still says what Inf-Net says.
    assert {record.protocol("any lesion").name for record in again.records if record.protocol("any lesion")} == {
        "inf-net"
    }
