"""JUnit XML: valid by the schema of Jenkins, and failures where --fail-on says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, STALE, USUAL, hostile, large

from ruleaudit.findings import ProxySummary, Report, Severity
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.junit import junit_report
from ruleaudit.reports.nodes import Failure, compared
from ruleaudit.reports.printable import printable

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "schemas" / "junit-10.xsd")
EMPTY = Report(None, (), ProxySummary(), 0, 0, 0)


def junit(*reports: Report, threshold: Severity = Severity.WARNING, notices: tuple[str, ...] = ()) -> ElementTree.Element:
    text = junit_report(reports, Context(threshold, FOLDER, notices))
    assert text.isascii()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ')
    SCHEMA.validate(text)
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("reports", [[USUAL], [EMPTY], [USUAL, large(30, "node-b"), EMPTY]], ids=["usual", "empty", "several"])
@pytest.mark.parametrize("notices", [(), ("1 finding not shown",)])
def test_the_schema_accepts_it(reports: list[Report], notices: tuple[str, ...]) -> None:
    assert len(junit(*reports, notices=notices)) == len(reports)


def test_a_suite_for_a_node_and_a_case_for_a_service() -> None:
    (suite,) = junit(USUAL)
    assert suite.get("name") == "ruleaudit node-a"
    assert [case.get("name") for case in suite.iter("testcase")] == [
        "the node as a whole",
        "demo/none",
        "demo/np",
        "demo/six",
        "demo/well",
    ]
    assert {case.get("classname") for case in suite.iter("testcase")} == {"ruleaudit.node-a"}


@pytest.mark.parametrize(
    ("threshold", "failing"),
    [
        (Severity.ERROR, ["the node as a whole", "demo/np", "demo/six"]),
        (Severity.WARNING, ["the node as a whole", "demo/np", "demo/six"]),
        (Severity.INFO, ["the node as a whole", "demo/none", "demo/np", "demo/six"]),
    ],
)
def test_what_fails(threshold: Severity, failing: list[str]) -> None:
    root = junit(USUAL, threshold=threshold)
    assert [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None] == failing
    for element in (root, root[0]):
        assert (element.get("tests"), element.get("failures"), element.get("errors")) == ("5", str(len(failing)), "0")


def test_a_case_has_one_failure_that_tells_all() -> None:
    node = next(junit(USUAL).iter("testcase"))
    (failure,) = node.findall("failure")
    assert failure.get("type") == "RA505"
    assert failure.get("message") == "RA505 stopped-kube-proxy: kube-proxy stopped (and 1 other finding)"
    assert "warning RA503 leftover-chains: 4 KUBE-EXT- chains are left" in (failure.text or "")
    assert "info RA004 not-checked: no nft dump" in (node.findtext("system-out") or "")


def test_a_failure_holds_the_evidence() -> None:
    text = junit(USUAL).findtext(".//testcase[@name='demo/np']/failure") or ""
    for part in (STALE.message, STALE.expected, STALE.observed, STALE.hint, "Service demo/np, Pod demo/np-0"):
        assert part in text
    assert [line for line in text.splitlines() if line.startswith("  node-a/")] == [
        f"  {one.file}:{one.line}: {one.text}" for one in (STALE.locations[3], STALE.locations[1], *STALE.locations[::2])
    ]


def test_a_node_of_which_nothing_was_checked_does_not_pass() -> None:
    quiet = replace(USUAL, frontends=0, findings=USUAL.findings[4:])
    (suite,) = junit(quiet)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "0", "5")
    assert {one.get("message") for one in suite.iter("skipped")} == {"not checked: no nft dump"}
    (suite,) = junit(replace(USUAL, frontends=0))
    assert (suite.get("failures"), suite.get("skipped")) == ("3", "2")


def test_a_node_that_was_not_audited_is_an_error() -> None:
    comparison = compared([USUAL], failures=[Failure("nodes/b/", "holds nothing")])
    text = junit_report([USUAL], Context(folder=FOLDER, comparison=comparison))
    SCHEMA.validate(text)
    root = ElementTree.fromstring(text)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("6", "3", "1")
    assert [(one.get("name"), one.get("id"), one.get("errors")) for one in root] == [
        ("ruleaudit node-a", "0", "0"),
        ("ruleaudit nodes/b/", "1", "1"),
    ]
    (error,) = root.iter("error")
    assert error.get("message") == "holds nothing"


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_inert(text: str) -> None:
    root = junit(hostile(text), notices=(text,))
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == [
        "the node as a whole",
        *map(printable, sorted((f"{text}/{text}", f"clean/{text}", f"demo/{text}"))),
    ]
    assert {element.tag for element in root.iter()} == {"testsuites", "testsuite", "testcase", "failure", "system-out"}
    for element in root.iter():
        for value in (element.text or "", *element.attrib.values()):
            assert all(line.isprintable() for line in value.split("\n"))
