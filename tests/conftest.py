"""What all tests share: where captured nodes are, and how thoroughly properties are tried."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def nodes() -> Path:
    """The folder of the bundled nodes."""
    return ROOT / "fixtures" / "nodes"


@pytest.fixture(scope="session")
def capture_folders() -> list[Path]:
    """The folders of every captured node; skips where there are none.

    They are many and large, so they are no part of the project: RULEAUDIT_CAPTURES names their folder, else they are looked for
    in `../shared/captures` beside the checkout.
    """
    folder = Path(os.environ.get("RULEAUDIT_CAPTURES") or ROOT.parent / "shared" / "captures")
    if not folder.is_dir():
        pytest.skip("no captures: set RULEAUDIT_CAPTURES to their folder")
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
