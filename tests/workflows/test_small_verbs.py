"""`check`, `list`, `recipe`, and the five lines of Python that the package shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import groundglass as gg
from groundglass import recipes
from groundglass.errors import DataError, RecipeError
from groundglass.run import Run
from tests.conftest import TINY, Cli
from tests.data.small import kaggle, pictures

# check ----------------------------------------------------------------------------------------------------------------


def test_a_sound_data_set(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("check", drawn, "-o", tmp_path / "report.json")
    assert (answer.code, answer.err) == (0, "")
    assert "36 labelled, 6 without masks" in answer.out
    assert "0 errors" in answer.out
    report = gg.check(drawn, tmp_path / "again.json")
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored == json.loads((tmp_path / "again.json").read_text())
    assert stored == json.loads(cli("check", drawn, "--json").out)
    assert report.errors == ()
    assert (stored["cases"], stored["unlabelled"], stored["unit"]) == (36, 6, "HU")
    assert stored["sources"] == {"medseg": 12, "radiopaedia": 24, "test": 6}
    assert (stored["patients_known"], stored["patients"], stored["groups"]) == ("not known", None, 4)
    assert stored["shapes"] == {"64x64": 42}
    truth = np.concatenate([case.labels().ravel() for case in gg.open_dataset(drawn).cases])
    assert stored["pixels"] == {name: int((truth == v).sum()) for v, name in enumerate(stored["classes"])}


def test_patients_from_file_names_are_counted(tmp_path: Path) -> None:
    facts = gg.check(pictures(tmp_path)).to_dict()
    assert (facts["patients_known"], facts["patients"]) == ("from file names", 2)


def test_errors_are_listed_and_not_raised(tmp_path: Path) -> None:
    masks = kaggle(tmp_path) / "masks_medseg.npy"
    array = np.load(masks)
    array[4, 3, 3, 0] = array[5, 3, 3, 0] = 7
    np.save(masks, array)
    report = gg.check(tmp_path, tmp_path / "report.json")
    assert [defect.row for defect in report.errors] == [4, 5]
    assert {defect.kind for defect in report.errors} == {"bad-mask-values"}
    assert [error["row"] for error in report.to_dict()["errors"]] == [4, 5]
    assert not (tmp_path / "report.json").exists(), "a data set with errors leaves nothing behind"
    assert all(defect.severity == "warning" for defect in report.warnings)


def test_a_sound_data_set_leaves_its_report(tmp_path: Path) -> None:
    report = gg.check(kaggle(tmp_path), tmp_path / "report.json")
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert stored["cases"] == len(report.dataset.cases)
    assert stored["errors"] == []


def test_nothing_there_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        gg.check(tmp_path / "nowhere", tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


# list -----------------------------------------------------------------------------------------------------------------


def test_everything_listed_can_be_chosen() -> None:
    found = gg.catalogue()
    for row in found["recipes"]:
        assert recipes.load(row["name"]).name == row["name"]
    for row in found["architectures"]:
        assert recipes.load("demo", [f"architecture={{name: {row['name']}}}"]).architecture.name == row["name"]
    for row in found["losses"]:
        alone = [f"loss=[{{name: {row['name']}}}]"]
        assert recipes.load("demo", alone).loss[0].name == row["name"]
    assert {row["name"] for row in found["labels"]} == {"ct4", "ct3", "lesion", "lung"}
    assert all(row["what"] for rows in found.values() for row in rows)
    assert "encoders" not in found
    assert {"resnet34", "efficientnet-b2"} <= {row["name"] for row in gg.catalogue("encoders")["encoders"]}


def test_trained_runs_are_listed_sound_or_not(run: Run, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "sound").symlink_to(run.path)
    rows = {Path(row["name"]).name: row["what"] for row in gg.catalogue("models", tmp_path)["models"]}
    assert "is damaged" in rows["broken"]
    assert rows["sound"].startswith("recipe demo, finished, best validation/f1_lesions 0.")
    assert "recipe demo" in cli("list", "models", "--runs", tmp_path).out
    assert gg.catalogue("models", tmp_path / "nowhere") == {"models": []}


# recipe ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_shipped_recipe_comes_with_its_header(name: str, tmp_path: Path, cli: Cli) -> None:
    answer = cli("recipe", name)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("# ")
    assert recipes.shipped()[name] in answer.out
    text = gg.recipe(name, tmp_path / "mine.yaml")
    assert text.rstrip() == answer.out.rstrip()
    assert recipes.load(tmp_path / "mine.yaml") == recipes.load(name)


def test_settings_are_applied_and_checked(tmp_path: Path) -> None:
    text = gg.recipe("demo", tmp_path / "mine.yaml", ["epochs=3", "loss.1.weight=2"])
    assert recipes.load(tmp_path / "mine.yaml") == recipes.load("demo", ["epochs=3", "loss.1.weight=2"])
    assert "seed: 0" in text
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        gg.recipe("demo", tmp_path / "other.yaml", ["epoch=3"])
    with pytest.raises(RecipeError, match="exists already"):
        gg.recipe("unet", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == text
    assert not (tmp_path / "other.yaml").exists()


# the package ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_lines_in_the_docstring_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, but for the size of the network and of the data."""
    code = "\n".join(line.strip() for line in (gg.__doc__ or "").splitlines() if line.startswith("    "))
    assert "import groundglass as gg" in code
    code = code.replace("phantom:16", "phantom:2").replace(")\nprint", f", settings={[*TINY, 'epochs=1']})\nprint")
    assert "epochs=1" in code
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docstring", "exec"), {})
    assert re.search(r"any_lesion_dice", capsys.readouterr().out)
    assert (tmp_path / "runs" / "first" / "evaluation" / "held-out" / "summary.csv").is_file()


def test_unknown_names_of_the_package() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        gg.trian  # noqa: B018
    assert set(gg.__all__) <= set(dir(gg))
    for name in gg.__all__:
        assert getattr(gg, name) is not None
