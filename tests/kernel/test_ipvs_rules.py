"""The kernel as the judge of what rules and sets decide in IPVS mode, before IPVS and without it: this kernel has sets, but no IPVS.

The sets of a captured node are made and its rules loaded; the addresses of kube-ipvs0 are the node's. Real packets show marks (by what is
masqueraded), drops, rejects, and the hairpin of KUBE-LOOP-BACK; the evaluator, with an empty table of virtual servers, must say the same.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.kernel.flows import Captured, Tally, compare
from tests.kernel.laboratory import why_not
from tests.kernel.test_flows import judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EVERYTHING = bool(os.environ.get("RULEAUDIT_KERNEL_ALL"))
SAMPLE = (
    "features-1.20-ipvs",
    "features-1.30-ipvs",
    "features-1.36-ipvs",
    "s7-dual6-1.20-ipvs-n1-clean",
    "s7-dual6-1.36-ipvs-n2-clean",
    "tamper-1.36-ipvs-foreign-drop-input",
    "tamper-1.36-ipvs-ipset-clusterip-deleted",
)

_REASON = why_not() or (None if shutil.which("ipset") else "needs ipset (package ipset)")
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]


def test_rules_and_sets_of_captured_nodes(capture_folders: Sequence[Path], subtests: pytest.Subtests) -> None:
    folders = [one for one in capture_folders if "-ipvs" in one.name and (EVERYTHING or one.name in SAMPLE)]
    if not folders:
        pytest.skip("no capture in IPVS mode")
    total = Tally()
    for number, folder in enumerate(folders):
        captured = Captured.read(folder)
        assert captured.sets
        for backend in ("legacy", "nft") if EVERYTHING else (("legacy", "nft")[number % 2],):
            with subtests.test(capture=captured.name, backend=backend):
                tally = compare(captured, backend, flows=1_500 if EVERYTHING else 500, spread=0)
                judge(tally)
                total.flows += tally.flows
                total.verdicts += tally.verdicts
    assert {"local", "pass", "reject", "drop"} <= total.verdicts.keys()
