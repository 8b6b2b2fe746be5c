"""Chest X-rays in two stages: one run finds the lungs, the next the infection within them."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import groundglass as gg
from groundglass import recipes
from groundglass.data.opening import open_dataset
from groundglass.labels import BY_NAME
from groundglass.learning.engine import lungs_for, model_of, read_kept
from groundglass.learning.loading import Slices
from groundglass.measure.lungs import involvement
from groundglass.model.predict import case_probabilities, find_lungs, segment
from groundglass.run import Run
from tests.conftest import Cli
from tests.data.small import covid_qu_ex

SMALL = (
    "image_size=64",
    "architecture={name: plain-unet, base_width: 4, depth: 2}",
    "optimiser.learning_rate=2e-2",
    "batch_size=4",
    "precision=fp32",
)


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn X-rays of 64 x 64 pixels, in both trees."""
    return covid_qu_ex(tmp_path_factory.mktemp("xrays"), side=64)


@pytest.fixture(scope="module")
def lungs(xrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A first stage that finds lungs in them."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("stages") / "lungs"
    return gg.train("cxr-lung", xrays, out=place, settings=[*SMALL, "epochs=12"])


@pytest.fixture(scope="module")
def both(xrays: Path, lungs: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A second stage behind a copy of `lungs` that is gone afterwards."""
    place = tmp_path_factory.mktemp("both")
    shutil.copytree(lungs.path, place / "lungs")
    run = gg.train(
        "cxr-infection",
        xrays,
        out=place / "infection",
        settings=[*SMALL, "epochs=2"],
        first_stage=place / "lungs",
    )
    shutil.rmtree(place / "lungs")
    return run


def begun(xrays: Path, lungs: Run, out: Path, *settings: str) -> Run:
    """A second stage whose weights have not moved."""
    frozen = [*SMALL, "epochs=1", "optimiser.learning_rate=1e-12", "first_stage.roi=none", *settings]
    return gg.train("cxr-infection", xrays, out=out, settings=frozen, first_stage=lungs.path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_parts_of_the_source_stand(xrays: Path, lungs: Run, both: Run) -> None:
    cases = {case.id: case for case in open_dataset(xrays).cases}
    for run, source in ((lungs, "lung"), (both, "infection")):
        assert run.split.kind == "parts"
        for side in ("train", "validation", "test"):
            ids = getattr(run.split, side)
            assert ids == tuple(i for i, case in cases.items() if (case.source, case.part) == (source, side))


def test_the_first_stage_finds_lungs(xrays: Path, lungs: Run) -> None:
    result = gg.evaluate([lungs], xrays, part="test", bootstrap=0, figures=False)
    assert {case.case for case in result.summary.cases} == set(lungs.split.test)
    assert result.summary.row("lung", "dice", "per image").value > 0.6


@pytest.mark.parametrize("weights", ["all", "encoder", "none"])
def test_which_weights_the_second_stage_takes(weights: str, xrays: Path, lungs: Run, tmp_path: Path) -> None:
    run = begun(xrays, lungs, tmp_path / "run", f"first_stage.weights={weights}")
    before, after = read_kept(lungs)["weights"], read_kept(run)["weights"]
    taken = {
        name
        for name, tensor in before.items()
        if name.endswith("weight") and torch.allclose(tensor, after[name], atol=1e-6) and tensor.ndim == 4
    }
    convolutions = {name for name, tensor in before.items() if tensor.ndim == 4}
    beginning = {"all": "", "encoder": "encoder.", "none": "!"}[weights]
    assert taken == {name for name in convolutions if name.startswith(beginning)}
    report = run.path / "tensors.csv"
    if weights == "none":
        assert not report.exists()
        assert run.manifest.weights_from == "random weights"
        return
    told = {row["tensor"]: row["taken"] for row in rows(report)}
    assert set(told) == set(after)
    assert {name for name, answer in told.items() if answer == "yes"} >= taken
    assert all((answer == "yes") == name.startswith(beginning) for name, answer in told.items())
    assert f"{sum(answer == 'yes' for answer in told.values())} of {len(told)} tensors taken" in (
        run.manifest.weights_from
    )


def test_tensors_of_another_shape_are_left_and_named(xrays: Path, lungs: Run, tmp_path: Path) -> None:
    run = begun(xrays, lungs, tmp_path / "run", "architecture.depth=3")
    told = {row["tensor"]: row for row in rows(run.path / "tensors.csv")}
    assert told["encoder.0.0.weight"]["taken"] == "yes"
    assert told["encoder.3.0.weight"]["why"] == "the first stage has no such tensor"
    assert told["up.0.weight"]["why"].startswith("the first stage's has shape (16, 8")


@pytest.mark.parametrize("roi", ["truth", "predicted"])
def test_nothing_outside_the_lungs_is_seen(roi: str, xrays: Path, both: Run) -> None:
    """Whatever is drawn outside them: training and prediction give the same."""
    case = next(case for case in open_dataset(xrays).cases if case.source == "infection")
    model = replace(model_of(both), roi=roi)
    assert model.first is not None
    lung = case.lung() if roi == "truth" else find_lungs(model.first, case.image(), case.unit)
    assert lung is not None
    assert lung.any()
    image = case.image()
    # The first stage must see the same, or it would find other lungs: only the second sees this one.
    scrawled = replace(case, load_image=lambda: np.where(lung, image, np.float32(200)))
    model = replace(model, roi="truth")
    shown = [replace(found, load_lung=lambda: lung) for found in (case, scrawled)]
    plain, changed = (case_probabilities([model], found) for found in shown)
    np.testing.assert_array_equal(plain, changed)
    whole = [case_probabilities([replace(model, roi="none")], found) for found in shown]
    assert np.abs(whole[0] - whole[1]).max() > 0
    inputs = [
        Slices([found], both.recipe, model.preparation, training=False, lungs=lambda c: lung).prepared(0)[0]
        for found in shown
    ]
    np.testing.assert_array_equal(*inputs)


def test_training_sees_what_prediction_sees(xrays: Path, both: Run) -> None:
    """Of a run that trains on predicted lungs, an input in training is what `segment` shows the network."""
    rule = both.recipe.first_stage
    assert rule is not None
    recipe = both.recipe.model_copy(update={"first_stage": rule.model_copy(update={"roi": "predicted"})})
    run = Run(both.path, recipe, both.split, both.manifest)
    case = next(case for case in open_dataset(xrays).cases if case.id == both.split.train[0])
    model, seen = model_of(run), []

    def watch(batch: Any) -> Any:
        seen.append(batch)
        return model.engine(batch)

    segment([replace(model, engine=watch)], case.image(), case.unit)
    slices = Slices([case], recipe, model.preparation, training=False, lungs=lungs_for(run, "cpu"))
    np.testing.assert_array_equal(seen[0][0], slices[0, 0][0].numpy())


def test_predict_runs_both_stages(xrays: Path, both: Run, tmp_path: Path) -> None:
    """From a run folder that stands alone: lungs, infection and percent of each lung, of a picture and its mirror."""
    case = next(case for case in open_dataset(xrays).cases if case.id == both.split.test[0])
    grey = case.image().round().astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.stack([grey, grey[:, ::-1]]))
    gg.predict(both, [tmp_path / "a.png", tmp_path / "b.npy"], tmp_path / "out")
    labels = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "b.npy")[0], labels)
    lesion, lung = BY_NAME["lesion"].value, BY_NAME["lung"].value
    assert set(np.unique(labels)) <= {0, lesion, lung}
    model = model_of(both)
    assert model.first is not None
    found = find_lungs(model.first, case.image(), case.unit)
    np.testing.assert_array_equal((labels == lung) | ((labels == lesion) & found), found)
    first, again, _ = rows(tmp_path / "out" / "areas.csv")
    assert list(first) == [
        *("file", "slice", "background", "lesion", "lung"),
        *("right_lung_percent", "left_lung_percent", "lungs_percent"),
    ]
    expected = involvement(found, labels == lesion)
    told = [float(first[f"{name}_percent"]) for name in ("right_lung", "left_lung", "lungs")]
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    assert {name: again[name] for name in again if name != "file"} == {k: v for k, v in first.items() if k != "file"}


def test_evaluate_within_other_lungs_and_by_another_threshold(xrays: Path, both: Run) -> None:
    truth = gg.evaluate([both], xrays, part="test", bootstrap=0, figures=False)
    found = gg.evaluate([both], xrays, part="test", bootstrap=0, figures=False, roi="predicted")
    strict = gg.evaluate([both], xrays, part="test", bootstrap=0, figures=False, threshold=0.9)
    loose = gg.evaluate([both], xrays, part="test", bootstrap=0, figures=False, threshold=0.1)
    assert (truth.about["roi"], found.about["roi"]) == ("truth", "predicted")
    assert [result.folder.name for result in (truth, found, strict)] == [
        *("test", "test-roi-predicted", "test-threshold-0.9"),
    ]
    assert strict.about["thresholds"] == [{"lesion": 0.9}]
    recalls = [result.summary.row("lesion", "recall", "pooled").value for result in (loose, strict)]
    assert recalls[0] > recalls[1]
    kept = Run.open(both.path)
    assert (kept.recipe, kept.manifest.thresholds) == (both.recipe, None)


def test_resumed_equals_uninterrupted(xrays: Path, both: Run, lungs: Run, tmp_path: Path) -> None:
    settings = [*SMALL, "epochs=2"]
    place = tmp_path / "infection"
    asked: dict[str, Any] = {"out": place, "settings": settings}
    run = gg.train("cxr-infection", xrays, first_stage=lungs.path, max_time="0.001s", **asked)
    assert run.manifest.state == "interrupted"
    # The run has its own copy of the first stage by now.
    run = gg.train("cxr-infection", xrays, resume=True, **asked)
    assert run.manifest.state == "finished"
    for name, tensor in read_kept(both)["weights"].items():
        torch.testing.assert_close(read_kept(run)["weights"][name], tensor, rtol=0, atol=0)


def test_leaks_of_the_source_are_stamped(tmp_path: Path) -> None:
    """A test picture of the second stage that the first has trained on, and one that both parts of one tree hold."""
    data = covid_qu_ex(tmp_path / "data", side=64)
    infection, lung = (data / f"{name} Segmentation Data" for name in ("Infection", "Lung"))
    own, test = (sorted((infection / part / "Normal" / "images").iterdir())[0] for part in ("Train", "Test"))
    first = sorted((lung / "Train" / "Normal" / "images").iterdir())[0]
    for target in (own, first):
        shutil.copy(test, target)
    settings = [*SMALL, "epochs=1"]
    lungs = gg.train("cxr-lung", data, out=tmp_path / "lungs", settings=settings)
    assert lungs.split.leaky == ""
    run = gg.train("cxr-infection", data, out=tmp_path / "infection", settings=settings, first_stage=tmp_path / "lungs")
    assert "leaky by source: the source's own parts divide 1 of" in run.split.leaky
    assert f"1 of {len(run.split.test)} test cases have their like" in run.split.leaky
    assert "the first stage has trained on the like of 1 of" in run.split.leaky
    result = gg.evaluate([run], data, part="test", bootstrap=0, figures=False)
    assert result.certificate[0] == "leak certificate: leaky by source"


# --- bad input -------------------------------------------------------------------------------------------------------


def changes(*settings: str) -> list[str]:
    return [word for setting in (*SMALL, "epochs=1", *settings) for word in ("--set", setting)]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ([], "is a second stage and needs the first, which finds the lungs: --first-stage RUN"),
        (["--first-stage", "RUN", "--set", "image_size=96"], "has image_size 64, and 96 is needed"),
        (["--first-stage", "SECOND"], "has label set lesion, and lung is needed"),
        (["--first-stage", "CT"], "has modality CT, and X-ray is needed"),
        (["--first-stage", "nowhere"], "nowhere: is not a run folder"),
        (["--first-stage", "RUN", "--fold", "1/3"], "keeps the source's own Train, Val and Test"),
        (["--first-stage", "RUN", "--test", "4"], "keeps the source's own Train, Val and Test"),
        (["--first-stage", "RUN", "--start-from", "SECOND"], "say --set first_stage.weights=none"),
        (["--first-stage", "RUN", "--encoder-weights", "w.pt"], "the first stage brings weights"),
        (
            [
                "--first-stage",
                "RUN",
                "--set",
                "architecture={name: fpn, encoder: resnet18}",
                "--set",
                "first_stage.weights=encoder",
            ],
            "no tensor of the encoder fits",
        ),
        (["--first-stage", "RUN", "--set", "split={name: holdout, validation_sources: [lung]}"], "has trained on"),
    ],
)
def test_first_stages_that_cannot_be(
    options: list[str], fragment: str, xrays: Path, lungs: Run, both: Run, run: Run, cli: Cli, tmp_path: Path
) -> None:
    places = {"RUN": lungs.path, "SECOND": both.path, "CT": run.path}
    words = [str(places.get(word, word)) for word in options]
    out = tmp_path / "out"
    answer = cli("train", "cxr-infection", "--data", xrays, "-o", out, *changes(), *words)
    assert answer.code == 2, answer.err
    assert fragment in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "fragment"),
    [
        (["train", "cxr-lung", "--data", "phantom:6"], "is a CT, and recipe 'cxr-lung' is for a chest X-ray"),
        (["train", "demo", "--data", "XRAYS"], "is a chest X-ray, and recipe 'demo' is for a CT"),
        (["train", "cxr-lung", "--data", "XRAYS", "--first-stage", "LUNGS"], "'cxr-lung' has no first_stage"),
        (["train", "cxr-lung", "--data", "XRAYS", "--set", "decision.name=thresholds"], "no lesion to put"),
        (["train", "cxr-lung", "--data", "XRAYS", "--set", "modality=CT"], "needs intensity.clip_hu"),
        (["train", "demo", "--data", "phantom:6", "--set", "split={name: parts}"], "says of no case that it is for"),
        (["cv", "cxr-infection", "--data", "XRAYS"], "second stage"),
        (["evaluate", "LUNGS", "--data", "XRAYS", "--roi", "truth"], "has no first stage"),
        (["evaluate", "LUNGS", "--data", "XRAYS", "--threshold", "0.5"], "has no lesion"),
        (["evaluate", "BOTH", "--data", "XRAYS", "--threshold", "2"], "choose a probability between 0 and 1"),
        (["evaluate", "BOTH", "--data", "phantom:6"], "is a CT, and recipe 'cxr-infection' is for a chest X-ray"),
    ],
)
def test_recipes_and_data_that_do_not_fit(
    command: list[str], fragment: str, xrays: Path, lungs: Run, both: Run, cli: Cli, tmp_path: Path
) -> None:
    places = {"LUNGS": lungs.path, "BOTH": both.path, "XRAYS": xrays}
    out = tmp_path / "out"
    answer = cli(*(str(places.get(word, word)) for word in command), "-o", out)
    assert answer.code == 2, answer.err
    assert fragment in answer.err.splitlines()[-1]
    assert not out.exists()


def test_a_run_without_its_first_stage_is_damaged(xrays: Path, both: Run, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(both.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "first_stage")
    answer = cli("evaluate", tmp_path / "run", "--data", xrays, "-o", tmp_path / "out")
    assert answer.code == 2
    assert "first_stage: is not a run folder" in answer.err
    assert not (tmp_path / "out").exists()


def test_the_recipes_of_003_say_what_the_source_says() -> None:
    first, second = recipes.load("cxr-lung"), recipes.load("cxr-infection")
    assert [term.name for term in first.loss] == ["foreground_dice"]
    assert [(term.name, term.weight) for term in second.loss] == [("cross_entropy", 0.5), ("foreground_dice", 0.5)]
    assert (first.image_size, second.image_size) == (256, 256)
    assert second.first_stage is not None
    assert second.first_stage.weights == "all"
    assert first.augmentation == second.augmentation
