"""Every way a data set can be broken ends in one line that says where, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundglass.data import open_dataset, require_clean
from groundglass.errors import DataError
from tests.data.broken import BROKEN


@pytest.mark.parametrize("name", BROKEN)
def test_refused_in_one_line(name: str, tmp_path: Path) -> None:
    location, expected = BROKEN[name](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        require_clean(open_dataset(location))
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 500
    # Nothing was written, and no pickle or YAML object was brought to life.
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path / "sprung").exists()
