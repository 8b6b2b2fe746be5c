"""PNG and JPEG."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from groundglass.errors import DataError
from groundglass.scans.pictures import MAX_PIXELS, picture_header, read_mask_picture, read_picture
from tests.data.small import png_bomb

GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_in_any_mode(tmp_path: Path, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), GREY)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 250
    Image.fromarray(deep).save(tmp_path / "deep.png")
    back = read_picture(tmp_path / "deep.png")
    assert back.dtype == np.uint16
    assert np.array_equal(back, deep)
    assert picture_header(tmp_path / "deep.png") == ((12, 20), False)


def test_jpeg_of_three_grey_channels(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("RGB").save(tmp_path / "a.jpg", quality=90)
    back = read_picture(tmp_path / "a.jpg")
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - GREY).max() < 20


def test_colour_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (10, 200, 10)).save(tmp_path / "green.png")
    with pytest.raises(DataError, match=r"green\.png: is a colour picture"):
        read_picture(tmp_path / "green.png")


def test_palette_masks_give_numbers_not_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask_picture(tmp_path / "mask.png"), labels)
    with pytest.raises(DataError, match="colour"):
        read_picture(tmp_path / "mask.png")


def test_orientation_tag_is_obeyed(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert read_picture(tmp_path / "turned.jpg").shape == (20, 12)
    assert picture_header(tmp_path / "turned.jpg") == ((20, 12), True)


@pytest.mark.parametrize("side", [10_001, 30_000, 2**31 - 1])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    png_bomb(tmp_path / "bomb.png", side)
    assert side * side > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in (read_picture, picture_header):
            with pytest.raises(DataError, match="pixels"):
                read(tmp_path / "bomb.png")


@given(cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_damage_ends_in_one_line_or_a_picture(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    Image.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    content[flip % len(content)] ^= 0xFF
    path.write_bytes(content[: len(content) - cut % len(content)])
    message = ""
    try:
        assert read_picture(path).ndim == 2
    except DataError as error:
        message = str(error)
    assert "\n" not in message


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_picture(tmp_path / "none.png")
