"""One report, one HTML file: figures and styles are inside it, so that it can be mailed, printed and kept."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from groundglass.errors import DataError
from groundglass.files import write_text
from groundglass.show.tables import format_value, is_number

_NUMBER = re.compile(r"-?[0-9][0-9,.]*(?:e[+-]?[0-9]+)?(?: %)?")
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Table:
    """columns: headings; rows: cells in the same order, formatted by `groundglass.show.tables.format_value`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """Small pictures side by side that belong together. pictures: PNG data with a caption each."""

    heading: str
    pictures: Sequence[tuple[bytes, str]]
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, plain text (an empty line starts a paragraph), tables, figures and cards. A figure is a PNG, JPEG or
    SVG file, alone or with its caption. Nothing in it is read as HTML."""

    heading: str
    text: str = ""
    figures: Sequence[Path | tuple[Path, str]] = field(default=())
    tables: Sequence[Table] = field(default=())
    cards: Sequence[Card] = field(default=())


def write_page(path: str | Path, title: str, sections: Sequence[Section], note: str = "") -> Path:
    """Write one self-contained HTML file and return its path; `note` goes below, such as version and command.

    Raises `DataError` for a figure that cannot be read, `WriteError` when the page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("groundglass.show", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": format_value, "paragraphs": _paragraphs}
    environment.tests |= {"numeric": _is_numeric}
    content = [
        {
            "heading": section.heading,
            "text": section.text,
            "tables": section.tables,
            "figures": [_inlined(figure) for figure in section.figures],
            "cards": [_card(card) for card in section.cards],
        }
        for section in sections
    ]
    template = environment.get_template("page.html.j2")
    write_text(path, template.render(title=title, sections=content, note=note))
    return Path(path)


def _is_numeric(value: Any) -> bool:
    """Whether a cell is a number, also one that is written out already: `6,766,836`, `51.6 %`."""
    return is_number(value) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def _inlined(figure: Path | tuple[Path, str]) -> dict[str, str]:
    file, caption = figure if isinstance(figure, tuple) else (figure, "")
    media = _MEDIA.get(Path(file).suffix.lower())
    if media is None:
        raise DataError(f"{file}: pages hold .png, .jpg and .svg figures; write the figure as .png for the page")
    try:
        data = base64.b64encode(Path(file).read_bytes()).decode("ascii")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); draw the figure before the page") from error
    return {"source": f"data:{media};base64,{data}", "caption": caption}


def _card(card: Card) -> dict[str, Any]:
    pictures = [
        {"source": f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}", "caption": caption}
        for data, caption in card.pictures
    ]
    return {"heading": card.heading, "pictures": pictures, "text": card.text}


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]
