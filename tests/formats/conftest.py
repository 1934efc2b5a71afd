from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def capture_folders() -> list[Path]:
    """The folders of every captured node; skips where there are none."""
    beside = Path(__file__).parents[3] / "shared" / "captures"
    folder = Path(os.environ.get("RULEAUDIT_CAPTURES") or beside)
    if not folder.is_dir():
        pytest.skip("no captures: set RULEAUDIT_CAPTURES to their folder")
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
