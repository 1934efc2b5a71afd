"""Where a finding is shown, and what tells it from others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.reports.samples import FOLDER, MISSING, STALE, USUAL

from ruleaudit.findings import InputSummary, ProxySummary, Report, Severity
from ruleaudit.reports.evidence import anchor, facts, is_unchecked, occurrences, relative_path, severity_counts, statement, title

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


def test_facts_are_told_in_one_order_and_words() -> None:
    assert list(facts(replace(STALE, certainty=MISSING.certainty))) == ["expected", "observed", "objects", "possible", "to do"]
    assert facts(STALE)["objects"] == "Service demo/np, Pod demo/np-0"
    assert facts(STALE, 1)["objects"] == "Service demo/np and 1 more"
    assert facts(replace(STALE, expected="", observed="", hint="", objects=())) == {}
    assert (title(STALE), title(MISSING)) == ("RA206 stale-endpoint", "RA102 missing-cluster-ip (possible)")
    assert statement(STALE) == STALE.message
    assert statement(replace(STALE, message="it is stale")) == "demo/np: it is stale"
    assert severity_counts({Severity.INFO: 2, Severity.ERROR: 1}) == ["1 error", "2 notes"]


@pytest.mark.parametrize(
    ("services", "frontends", "kind", "used", "unchecked"),
    [
        pytest.param(3, 5, "iptables-save", True, False, id="asked"),
        pytest.param(3, 0, "iptables-save", True, True, id="nothing was asked"),
        pytest.param(0, 0, "iptables-save", True, False, id="rules alone"),
        pytest.param(0, 0, "iptables-save", False, True, id="rules that are passed over"),
        pytest.param(0, 0, "capture-description", True, True, id="no rules"),
    ],
)
def test_a_node_of_which_nothing_was_checked(services: int, frontends: int, kind: str, used: bool, unchecked: bool) -> None:
    inputs = (InputSummary("dump", kind, 4, 9, used),)
    assert is_unchecked(Report("a", inputs, ProxySummary(), services, frontends, 0)) is unchecked
