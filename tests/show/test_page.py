"""The HTML page and tables."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from groundglass.errors import DataError
from groundglass.files import WriteError
from groundglass.show.page import Section, Table, write_page
from groundglass.show.tables import format_value, print_table

EVIL = '<script>alert("x")</script> & {{ 7 * 7 }}'


class Tags(HTMLParser):
    """Elements in order, and whether each that must be closed was."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 3), (1, 2, 3)).save(path)
    return path


def test_a_page_holds_its_figures_and_refers_to_nothing(picture: Path, tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", "Report", [Section("A", figures=[picture, (picture, "A caption")])])
    page = path.read_text("utf-8")
    assert not re.search(r"https?:|//|src=\"(?!data:)|url\(|@import|<link|<script", re.sub(r"base64,[^\"]*", "", page))
    inlined = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert [base64.b64decode(data) for data in inlined] == [picture.read_bytes()] * 2
    assert "A caption" in page
    assert "Research software, not a medical device." in page


def test_everything_written_by_others_is_escaped(picture: Path, tmp_path: Path) -> None:
    section = Section(EVIL, EVIL, [(picture, EVIL)], [Table([EVIL], [[EVIL]], EVIL)])
    page = write_page(tmp_path / "page.html", EVIL, [section] * 3, note=EVIL).read_text("utf-8")
    tags = Tags(page)
    assert "script" not in tags.seen
    assert tags.open == []
    assert page.count("{{ 7 * 7 }}") > 15
    assert "&lt;script&gt;" in page


def test_tables_and_paragraphs_are_complete(tmp_path: Path) -> None:
    table = Table(["class", "dice", "n"], [["lesion", (0.7123, 0.651, 0.77), 24], ["lung", float("nan"), 3]])
    path = write_page(tmp_path / "page.html", "Report", [Section("A", "One.\n\nTwo.", tables=[table])], note="Three.")
    page = path.read_text("utf-8")
    seen = Tags(page).seen
    assert (seen.count("th"), seen.count("td"), seen.count("tr")) == (3, 6, 3)
    for text in ("<p>One.</p>", "<p>Two.</p>", "<p>Three.</p>", ">0.712 [0.65, 0.77]<", ">n/a<", ">24<"):
        assert text in page


def test_a_page_without_sections_is_a_page(tmp_path: Path) -> None:
    assert Tags(write_page(tmp_path / "page.html", "Report", []).read_text("utf-8")).open == []


def test_figures_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    for name in ("missing.png", "figure.pdf"):
        with pytest.raises(DataError, match=name):
            write_page(tmp_path / "page.html", "Report", [Section("A", figures=[tmp_path / name])])
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_page_leaves_nothing_behind(picture: Path) -> None:
    with pytest.raises(WriteError):
        write_page(picture / "page.html", "Report", [])
    assert [file.name for file in picture.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.71234, "0.712"),
        (np.float32(0.5), "0.500"),
        (1.0, "1.000"),
        (-0.0, "0.000"),
        (0.00002, "2.00e-05"),
        (float("nan"), "n/a"),
        (None, "n/a"),
        (float("inf"), "∞"),
        (24, "24"),
        (np.int64(24), "24"),
        (2025, "2025"),
        (True, "yes"),
        ("dice", "dice"),
        ((0.7123, 0.651, 0.7749), "0.712 [0.65, 0.77]"),
        ((0.7123, float("nan"), float("nan")), "0.712"),
        ((float("nan"), float("nan"), float("nan")), "n/a"),
    ],
)
def test_values_are_written_as_a_reader_wants_them(value: object, text: str) -> None:
    assert format_value(value) == text


def test_a_printed_table_shows_every_cell_literally() -> None:
    out = io.StringIO()
    print_table(["name", "dice"], [["[red]x[/red]", 0.71234], ["[/]", None]], "Title [b]", Console(file=out, width=80))
    for text in ("[red]x[/red]", "[/]", "0.712", "n/a", "Title [b]", "dice"):
        assert text in out.getvalue()


def test_a_table_without_rows_is_printed() -> None:
    out = io.StringIO()
    print_table(["name"], [], console=Console(file=out))
    assert "name" in out.getvalue()
