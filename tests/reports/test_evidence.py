"""Where a finding is shown, and what tells it from others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.reports.samples import FOLDER, MISSING, STALE, USUAL

from ruleaudit.reports.evidence import anchor, occurrences, relative_path

if TYPE_CHECKING:
    from ruleaudit.findings import Finding


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("dump.txt", "dump.txt"),
        ("./a/../dump.txt", "dump.txt"),
        (f"{FOLDER}/node/dump.txt", "node/dump.txt"),
        ("/work space/runner/dump.txt", "/work space/runner/dump.txt"),
        ("../dump.txt", "/work space/dump.txt"),
        ("<stdin>", "stdin"),
        ("capture.tar.gz:node/dump.txt", "capture.tar.gz:node/dump.txt"),
    ],
)
def test_relative_path(file: str, expected: str) -> None:
    assert relative_path(file, FOLDER) == expected


@pytest.mark.parametrize(
    ("finding", "file", "line"),
    [
        pytest.param(STALE, "node-a/iptables-save.txt", 689, id="the line that names the endpoint"),
        pytest.param(MISSING, "node-a/ip6tables-save.txt", 1, id="no line: the dump of its family"),
        pytest.param(replace(MISSING, frontend=None), "node-a/iptables-save.txt", 1, id="no line and no family: the first dump"),
    ],
)
def test_a_finding_has_a_place(finding: Finding, file: str, line: int) -> None:
    found = anchor(finding, USUAL)
    assert found is not None
    assert found[:2] == (file, line)


def test_without_inputs_there_is_no_place() -> None:
    assert anchor(MISSING, replace(USUAL, inputs=())) is None


def test_fingerprints_are_unique_and_of_their_node() -> None:
    twice = replace(USUAL, findings=(STALE, STALE))
    other = replace(USUAL, node="node-b", findings=(replace(STALE, locations=(), message="changed"),))
    fingerprints = [fingerprint for _, _, fingerprint in occurrences([twice, other])]
    assert len(set(fingerprints)) == 3
    assert fingerprints[0].partition(":")[0] == fingerprints[1].partition(":")[0]
    again = replace(USUAL, findings=(replace(STALE, locations=(), message="changed"),))
    assert [one for _, _, one in occurrences([again])] == fingerprints[:1]
