"""The kernel as the judge: captured rules are loaded into a network namespace, and what becomes of packets is what the evaluator says.

Every client (a pod, the node, the outside, those that rules name), every destination that rules or objects name and near misses of
them, by TCP, UDP and SCTP, both families, both iptables backends. With RULEAUDIT_KERNEL_ALL set every capture is tried by both
backends and with more packets, otherwise a sample of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.flows import Captured, Tally, compare
from tests.kernel.laboratory import why_not

if TYPE_CHECKING:
    from collections.abc import Sequence

BUNDLED = sorted(
    one.parent
    for one in (Path(__file__).parents[2] / "fixtures" / "nodes").glob("*/iptables-save.txt")
    if not (one.parent / "ipset.txt").exists()  # IPVS mode: its sets and virtual servers are no part of the dump
)
EVERYTHING = bool(os.environ.get("RULEAUDIT_KERNEL_ALL"))
SAMPLE = 8
MOST_BYTES = 500_000
"""A larger dump is loaded only where everything is asked for."""

_REASON = why_not()
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]


def judge(tally: Tally) -> None:
    assert not tally.disagreements, f"{len(tally.disagreements)} of {tally.packets} packets:\n" + "\n".join(
        tally.disagreements[:20]
    )
    assert tally.possible <= tally.flows // 50, f"the evaluator is unsure of {tally.possible} of {tally.flows}"


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_bundled_nodes(folder: Path, backend: str) -> None:
    tally = compare(Captured.read(folder), backend, flows=600, spread=3)
    judge(tally)
    assert tally.flows > 600
    assert tally.spread
    assert tally.affinity
    assert {"forward", "local", "pass", "reject", "drop"} <= tally.verdicts.keys()


def test_captured_nodes(capture_folders: Sequence[Path], subtests: pytest.Subtests) -> None:
    folders = [folder for folder in capture_folders if any(folder.glob("iptables-save.txt*"))]
    if not EVERYTHING:
        small = [
            folder for folder in folders if sum(file.stat().st_size for file in folder.glob("iptables-save.txt*")) < MOST_BYTES
        ]
        folders = random.Random(len(folders)).sample(small, len(small))
    total = Tally()
    number = 0
    for folder in folders if EVERYTHING else folders[: 4 * SAMPLE]:
        captured = Captured.read(folder)
        if captured.uses("set"):
            continue  # IPVS mode: its sets and virtual servers are no part of the dump
        number += 1
        if number > SAMPLE and not EVERYTHING:
            break
        for backend in ("legacy", "nft") if EVERYTHING else (("legacy", "nft")[number % 2],):
            with subtests.test(capture=captured.name, backend=backend):
                tally = compare(captured, backend, flows=1_500 if EVERYTHING else 300, spread=5 if EVERYTHING else 2)
                judge(tally)
                total.flows += tally.flows
    if total.flows == 0:
        pytest.skip("no capture in iptables mode")
