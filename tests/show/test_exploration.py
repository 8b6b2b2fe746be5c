"""The page of `check --html`: complete, self-contained, honest about what is known, and silent about who."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.case import Case, Decoded, Geometry, Unit
from groundglass.data.dataset import Dataset, Defect
from groundglass.data.defects import scan
from groundglass.data.survey import Survey
from groundglass.data.twins import Pair, Twins
from groundglass.errors import DataError
from groundglass.labels import BY_NAME
from groundglass.show.colours import INK, rgb
from groundglass.show.exploration import Explored, write_exploration
from groundglass.show.naming import Names
from groundglass.show.samples import SAMPLES, spread_over_sizes
from groundglass.show.statistics import class_shares, cumulative_sizes, source_intensities
from tests.show.test_page import EVIL, Tags

SECTIONS = (
    "What the data are",
    "Defects",
    "Classes",
    "Lesion sizes",
    "Intensities",
    "Samples",
    "Near duplicates",
    "Patients and splits",
)
SIDE = 32
NONE = Twins(6, 9)


def case(
    name: str,
    lesion: int = 0,
    *,
    source: str = "drawn",
    patient: str | None = None,
    unit: Unit = Unit.HU,
    spacing: float | None = None,
    fill: str = "lung",
    labelled: bool = True,
) -> Case:
    """A square of `fill` with `lesion` pixels of ground-glass in it, on background."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[4:28, 4:28] = BY_NAME[fill].value
    labels[8, 5 : 5 + lesion] = BY_NAME["ground-glass"].value
    random = np.random.default_rng(len(name) + lesion)
    image = random.integers(0, 200, (SIDE, SIDE)).astype(np.float32)
    return Case(
        id=name,
        source=source,
        file=f"{name}.png",
        shape=(SIDE, SIDE),
        unit=unit,
        load_image=lambda: image,
        load_labels=(lambda: Decoded(labels)) if labelled else None,
        patient=patient,
        geometry=Geometry(spacing_mm=(spacing, spacing)) if spacing else Geometry(),
    )


def explored(
    *cases: Case, twins: Twins | None = NONE, identifiers: bool = False, defects: tuple[Defect, ...] = ()
) -> Explored:
    """What `check` would have found in a data set of these cases, with twins made by hand."""
    names = {
        label.name for c in cases if c.load_labels for label in BY_NAME.values() if (c.labels() == label.value).any()
    }
    dataset = Dataset(
        location="somewhere/on/this/machine/chests",
        format="made",
        cases=tuple(c for c in cases if c.load_labels),
        test=tuple(c for c in cases if not c.load_labels),
        classes=tuple(name for name in BY_NAME if name in names),
        unit=Unit.HU,
        patients="given",
        defects=defects,
    )
    survey = Survey(dataset)
    found = scan(dataset, visit=survey.add)
    return Explored(dataset, replace(found, twins=twins), survey, identifiers=identifiers)


@pytest.fixture
def page(tmp_path: Path) -> Callable[[Explored], str]:
    def write(about: Explored) -> str:
        return write_exploration(tmp_path / "page.html", about, "A note.").read_text("utf-8")

    return write


def words(page: str) -> str:
    """The text of a page without its pictures."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)))


def section(page: str, heading: str) -> str:
    start = page.index(f"<h2>{heading}</h2>")
    return words(page[start : page.index("</section>", start)])


def pictures(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(x))) for x in re.findall(r"data:image/png;base64,([^\"]+)", page)]


MIXED = (
    case("a", 9, spacing=0.5),
    case("b", 3, spacing=0.5),
    case("c", 0, spacing=0.5),
    case("d", 5, source="other", unit=Unit.PICTURE),
    case("e", 0, source="other", unit=Unit.PICTURE, fill="unmarked-lung"),
    case("f", source="test", labelled=False),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of `MIXED`, in which nothing is a twin."""
    path = write_exploration(tmp_path_factory.mktemp("mixed") / "page.html", explored(*MIXED), "A note.")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    return path.read_text("utf-8")


def test_a_page_is_whole_and_refers_to_nothing(mixed: str) -> None:
    bare = re.sub(r"base64,[^\"]*", "", mixed)
    assert not re.search(r"https?:|//|src=\"(?!data:)|url\(|@import|<link|<script", bare)
    assert Tags(mixed).open == []
    assert re.findall(r"<h2>(.*?)</h2>", mixed) == list(SECTIONS)
    assert re.findall(r'href="#(s\d)"', mixed) == re.findall(r'<section id="(s\d)"', mixed)
    assert "Data: chests" in words(mixed)
    assert "this/machine" not in mixed, "where the data lie tells of the machine"
    assert all(picture.width > 100 for picture in pictures(mixed))
    for heading in SECTIONS:
        assert re.search(r"\bn\b|\d", section(mixed, heading)), heading


def test_numbers_are_those_of_the_labels(mixed: str) -> None:
    assert "5; 3 with lesions, 1 without, 1 in which lesions are not marked" in section(mixed, "What the data are")
    classes = section(mixed, "Classes")
    assert "drawn Ground-glass 12 0.391 % 2 of 3" in classes
    assert "other Lung, lesions not marked (partly known: lung or ground-glass or consolidation) 576" in classes
    sizes = section(mixed, "Lesion sizes")
    assert "1 of 'drawn' have none" in sizes
    assert "in 1 of 'other' nobody marked lesions" in sizes
    # 3 and 9 pixels of a quarter of a square millimetre each, in one piece.
    assert "drawn lesion of an image mm2 2 0.75 0.75 0.75 2.25 2.25" in sizes
    assert "other connected finding px 1 5 5 5 5 5" in sizes


def test_units_are_never_drawn_on_one_axis() -> None:
    rows = explored(*MIXED).survey.intensities_table()
    assert {(row["source"], row["unit"]) for row in rows} == {("drawn", "HU"), ("other", "picture"), ("test", "HU")}
    assert all(row["pixels_sampled"] > 0 for row in rows)


def test_the_same_data_give_the_same_page(mixed: str, page: Callable[[Explored], str]) -> None:
    assert page(explored(*MIXED)) == mixed


TWINS = Twins(
    n_images=6,
    n_compared=9,
    pairs=(
        Pair("a", "b", "same-scan", 0.99),
        Pair("a", "c", "same-scan", 0.98),
        Pair("d", "f", "mirrored-picture", 0.97),
    ),
    clusters=(("a", "b", "c"), ("d", "f")),
)


def test_planted_twins_are_shown_the_gravest_first(page: Callable[[Explored], str]) -> None:
    text = page(explored(*MIXED, twins=TWINS))
    found = section(text, "Near duplicates")
    assert "3 pairs in 2 clusters among n = 6 images" in found
    assert "all 3 1 0 1 3" in found
    assert "d.png and f.png: mirrored picture, confidence 0.97" in found
    assert found.index("d.png (other, labelled)") < found.index("a.png (drawn, labelled)")
    cards = text[text.index("Near duplicates</h2>") : text.index("Patients and splits</h2>")]
    assert len(pictures(cards)) == 5
    splits = section(text, "Patients and splits")
    assert "groups by patient, volume or image 5" in splits
    assert "groups once near duplicates join them 3" in splits
    assert "1 of 1 unlabelled images are near duplicates of labelled ones" in splits


def test_what_is_not_shown_is_counted(page: Callable[[Explored], str]) -> None:
    cases = [case(f"c{n:03}", n % 7) for n in range(120)]
    clusters = tuple((f"c{n:03}", f"c{n + 1:03}") for n in range(0, 120, 2))
    pairs = tuple(Pair(first, second, "same-picture", 1.0) for first, second in clusters)
    text = page(explored(*cases, twins=Twins(120, 500, pairs, clusters)))
    assert text.count('<div class="card">') == 40
    assert "Shown are 40 clusters, those across the gravest border first; 20 more are in" in words(text)
    assert len(text) < 3_000_000


def test_nobody_searched_is_said(mixed: str, page: Callable[[Explored], str]) -> None:
    assert "Nobody searched" in section(page(explored(*MIXED[:2], twins=None)), "Near duplicates")
    assert "0 pairs in 0 clusters among n = 6 images" in section(mixed, "Near duplicates")


# who it is ------------------------------------------------------------------------------------------------------------


PEOPLE = (case("Doe_1", 4, patient="Doe"), case("Doe_2", 2, patient="Doe"), case("Roe_1", 3, patient="Roe"))
TOLD = Defect("warning", "exact-duplicate", "Roe_1.png", None, "has the same pixels as Doe_1.png")
ALIKE = Twins(3, 3, (Pair("Doe_1", "Roe_1", "same-picture", 1.0),), (("Doe_1", "Roe_1"),))


def test_patients_are_numbers_unless_asked_for(page: Callable[[Explored], str]) -> None:
    text = words(page(explored(*PEOPLE, twins=ALIKE, defects=(TOLD,))))
    assert not re.search("Doe|Roe", text)
    assert "patient-2_1.png: has the same pixels as patient-1_1.png" in text
    assert "patient-1_1.png and patient-2_1.png: same picture" in text
    told = words(page(explored(*PEOPLE, twins=ALIKE, defects=(TOLD,), identifiers=True)))
    assert "Roe_1.png: has the same pixels as Doe_1.png" in told


def test_short_identifiers_leave_other_numbers_alone() -> None:
    names = Names([case("images/12_3", patient="12")], identifiers=False)
    assert names.text("images/12_3.png: 12 pixels are odd") == "images/patient-1_3.png: 12 pixels are odd"
    assert Names([case("7")], identifiers=False).text("7.png: 7 pixels") == "7.png: 7 pixels"


def test_everything_written_by_others_is_escaped(page: Callable[[Explored], str]) -> None:
    odd = replace(case("a", 3), source=EVIL.replace("/", ""), file=EVIL)
    text = page(explored(odd, case("b", 2), defects=(Defect("warning", "odd", EVIL, None, EVIL),)))
    assert "script" not in Tags(text).seen
    assert "{{ 7 * 7 }}" in text


# data that lack something ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cases",
    [
        (case("a", labelled=False),),
        (case("a"), case("b")),
        (case("a", fill="unmarked-lung"),),
        (case("a", 3, unit=Unit.UNKNOWN),),
    ],
    ids=["no labels", "no lesions", "only lungs", "no unit"],
)
def test_pages_of_poor_data_are_complete(cases: tuple[Case, ...], page: Callable[[Explored], str]) -> None:
    text = page(explored(*cases))
    assert re.findall(r"<h2>(.*?)</h2>", text) == list(SECTIONS)
    assert Tags(text).open == []


def test_samples_go_from_none_to_the_largest_lesion() -> None:
    cases = [case(f"c{n}", n) for n in range(20)]
    lesion = {c.id: n / 1000 for n, c in enumerate(cases)}
    chosen = spread_over_sizes(cases[::-1], lesion)
    assert [lesion[c.id] for c in chosen] == sorted(lesion[c.id] for c in chosen)
    assert (chosen[0].id, chosen[1].id, chosen[-1].id, len(chosen)) == ("c0", "c1", "c19", SAMPLES)
    assert len(spread_over_sizes(cases[:3], lesion)) == 3


# plots ----------------------------------------------------------------------------------------------------------------


def test_class_shares_are_drawn_in_the_colours_of_the_classes(tmp_path: Path) -> None:
    shares = {"a": {"background": 0.5, "ground-glass": 0.5}, "b": {"background": 1.0}}
    path = class_shares(shares, {"a": "3", "b": "4"}, tmp_path / "classes.png")
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert (picture == rgb(INK["ground-glass"])).all(axis=1).sum() > 500
    assert not (picture == rgb(INK["consolidation"])).all(axis=1).any()
    with pytest.raises(DataError, match="no labelled source"):
        class_shares({}, {}, tmp_path / "none.png")


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sizes"):
        cumulative_sizes({"Area (mm²)": {"a": {}}}, tmp_path / "sizes.png", {"Area (mm²)": "images"}, "Sizes")
    with pytest.raises(DataError, match="no pixels"):
        source_intensities({"HU": {"a": np.zeros(0)}}, tmp_path / "intensities.png", "Intensities")
    assert list(tmp_path.iterdir()) == []


def test_a_constant_image_has_a_histogram(tmp_path: Path) -> None:
    path = source_intensities({"HU": {"a": np.full(10, -1000.0)}}, tmp_path / "intensities.png", "Intensities")
    assert Image.open(path).width > 100


def test_samples_keep_white_paper_and_the_colours_of_labels(mixed: str) -> None:
    sheets = [p.convert("RGB") for p in pictures(mixed) if p.mode == "P"]
    assert len(sheets) == 3
    assert all(sheet.getpixel((1, 1)) == (255, 255, 255) for sheet in sheets)
    tinted = np.asarray(sheets[0], int)
    blue = rgb(INK["ground-glass"]).astype(int)
    assert blue[2] > blue[0], "what follows looks for blue"
    assert (tinted[..., 2] - tinted[..., 0] > 40).sum() > 50
