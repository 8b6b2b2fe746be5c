"""Fixtures shared by all rooms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

UNPACK = Path(__file__).parents[2] / "shared" / "data" / "unpack.py"


@pytest.fixture(scope="session")
def covid_segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition's five files with real slices, laid out in a temporary folder."""
    if not UNPACK.is_file():
        pytest.skip("the real data packs are not here (../shared/data/unpack.py)")
    folder = tmp_path_factory.mktemp("packs")
    subprocess.run([sys.executable, str(UNPACK), str(folder), "covid-segmentation"], check=True, capture_output=True)
    return folder / "covid-segmentation"
