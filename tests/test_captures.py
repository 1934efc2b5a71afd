"""Captured nodes: the healthy ones are silent, and on the others every service that is known to be at fault is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import ruleaudit

if TYPE_CHECKING:
    from pathlib import Path

# What a capture's truth says beside faults.
_NO_FAULTS = {"harmless", "ok-terminating"}
_QUIET = {"orphan-chain", "duplicate-rule"}


def test_captured_nodes_are_told_apart(capture_folders: list[Path]) -> None:
    wrong: list[str] = []
    judged = 0
    for folder in capture_folders:
        if not (folder / "truth.json").is_file() or json.loads((folder / "meta.json").read_text()).get("mode") != "iptables":
            continue
        judged += 1
        truth = json.loads((folder / "truth.json").read_text())
        faults = [one for one in truth["expected"] if one["problem"] not in _NO_FAULTS]
        report = ruleaudit.audit_inputs(ruleaudit.read([str(folder)]))
        loud = [one for one in report.findings if one.severity is not ruleaudit.Severity.INFO]
        if not faults and loud:
            wrong.append(f"{folder.name}: {loud[0].code} {loud[0].message}")
        for fault in faults:
            among = report.findings if fault["problem"] in _QUIET else loud
            service = fault.get("service")
            if not any(service in (None, "*") or one.service == service for one in among):
                wrong.append(f"{folder.name}: nothing about {service}, {fault['problem']}")
    assert wrong == []
    assert judged
