"""What a recipe can learn from data that are known in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundglass import recipes
from groundglass.data import open_dataset
from groundglass.data.dataset import Locations
from groundglass.errors import RecipeError
from groundglass.recipes import Recipe
from groundglass.workflows.opening import check_classes, open_clean
from tests.data.small import ct_seg, lctsc, lungs_only, medseg_nifti, medseg_png, table


def recipe_for(labels: str) -> Recipe:
    return recipes.load("demo", [f"labels={labels}", "loss.0.class_weights=balanced"])


def check(data: Locations, labels: str = "ct4") -> None:
    check_classes(recipe_for(labels), open_dataset(data))


@pytest.mark.parametrize("labels", ["ct4", "ct3", "lesion"])
def test_one_set_that_knows_a_class_is_enough(tmp_path: Path, labels: str) -> None:
    places = [medseg_png(tmp_path / "medseg"), ct_seg(tmp_path / "benchmark"), lungs_only(tmp_path / "lungs")]
    dataset, scan = open_clean(places, recipe_for(labels))
    assert dataset.location == "medseg + benchmark + lungs"
    assert scan.n_cases == 3 + 4 + 2


@pytest.mark.parametrize("labels", ["ct4", "ct3", "lesion"])
@pytest.mark.parametrize("maker", [lungs_only, lctsc])
def test_lungs_alone_teach_no_lesion(tmp_path: Path, labels: str, maker: object) -> None:
    place = maker(tmp_path / "lungs")  # type: ignore[operator]
    with pytest.raises(RecipeError, match=r"lungs: does not label '[a-z-]*'.*nobody looked for lesions in its lungs"):
        check(place, labels)


def test_a_lesion_of_unknown_type_teaches_no_type(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"does not label 'ground-glass'.*train with --set labels=lesion"):
        check(ct_seg(tmp_path))
    check(ct_seg(tmp_path), "lesion")


def test_lungs_without_lesions_do_not_teach_healthy_lung(tmp_path: Path) -> None:
    """A lung in which nobody looked beside masks without lungs: what healthy lung is, nobody says."""
    places = [medseg_nifti(tmp_path / "nifti"), lctsc(tmp_path / "lctsc")]
    with pytest.raises(RecipeError, match=r"nifti \+ lctsc: does not label 'lung'.*--set labels=ct3"):
        check(places)
    check(places, "ct3")
    (tmp_path / "lctsc" / "dataset.yaml").write_text("lesions: none\n")
    check(places)


def test_rows_of_one_table_complete_each_other(tmp_path: Path) -> None:
    path = table(tmp_path, "image,mask,lung\nimages/a_1.png,masks/a_1.png,\nimages/b_1.png,,lungs/b_1.png\n")
    with pytest.raises(RecipeError, match="does not label 'lung'"):
        check(path)
    (tmp_path / "dataset.yaml").write_text("lesions: none\n")
    check(path)
