"""SARIF: valid by the standard's schema, and what code scanning services make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, MISSING, STALE, USUAL, hostile, large

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Finding, InputSummary, ProxySummary, Report, Severity, Suppressed
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.nodes import Failure, compared
from ruleaudit.reports.sarif import sarif_report

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
EMPTY = Report(None, (), ProxySummary(), 0, 0, 0)
EVERY_CODE = Report(
    "node-a",
    USUAL.inputs,
    ProxySummary(),
    1,
    1,
    1,
    tuple(Finding(code, entry.name, entry.severity, entry.meaning) for code, entry in CATALOGUE.items()),
)


def sarif(*reports: Report, notices: tuple[str, ...] = ()) -> dict[str, Any]:
    text = sarif_report(reports, Context(folder=FOLDER, notices=notices))
    assert text.isascii()
    assert text.endswith("}\n")
    log: dict[str, Any] = json.loads(text)
    return log


def results(*reports: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sarif(*reports)["runs"][0]["results"]
    return found


@pytest.mark.parametrize(
    "reports",
    [
        pytest.param([USUAL], id="usual"),
        pytest.param([EMPTY], id="empty"),
        pytest.param([EVERY_CODE], id="every code"),
        pytest.param([USUAL, large(30, "node-b"), EMPTY], id="several nodes"),
        *(pytest.param([hostile(text)], id=name) for name, text in HOSTILE_TEXTS.items()),
    ],
)
def test_the_schema_accepts_it(reports: list[Report]) -> None:
    assert [
        f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(sarif(*reports, notices=("1 hidden",)))
    ] == []


def test_what_is_suppressed_is_counted_and_no_result() -> None:
    """GitHub opens an alert for every result, whatever its suppressions say; and nobody knows what of the rest is new."""
    ignored = Suppressed(STALE, "ignore", "by design", "ruleaudit.toml:3")
    known = Suppressed(MISSING, "baseline", "", "known.json")
    left = tuple(one for one in USUAL.findings if one not in (STALE, MISSING))
    report = replace(USUAL, findings=left, suppressed=(ignored, known))
    log = sarif(report)
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    run = log["runs"][0]
    assert [one["ruleId"] for one in run["results"]] == [one.code for one in left]
    assert not any("baselineState" in one or "suppressions" in one for one in run["results"])
    assert not {"RA206", "RA102"} & {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert run["properties"]["suppressed"] == [
        {"by": "ignore", "reason": "by design", "place": "ruleaudit.toml:3", "findings": 1},
        {"by": "baseline", "reason": "", "place": "known.json", "findings": 1},
    ]


def test_an_input_of_several_nodes_is_one_artifact() -> None:
    """`artifacts` is a set by the schema; nodes share objects, and one file may hold several dumps."""
    stream = (InputSummary("all.txt", "iptables-save", 4, 9, True), InputSummary("all.txt", "ipset", None, 3, False))
    shared = (
        InputSummary("objects.json", "objects", None, 900, True),
        InputSummary("./objects.json", "objects", None, 900, True),
    )
    reports = [replace(USUAL, node=name, inputs=(one, *stream)) for name, one in zip("ab", shared, strict=True)]
    log = sarif(*reports)
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    assert [(one["location"]["uri"], one["properties"]) for one in log["runs"][0]["artifacts"]] == [
        ("objects.json", {"kind": "objects", "lines": 900, "used": True}),
        ("all.txt", {"kind": "iptables-save, ipset", "lines": 12, "used": True}),
    ]


def test_a_node_that_was_not_audited_is_an_error_of_the_run() -> None:
    silent = replace(USUAL, node="node-c", frontends=0)
    comparison = compared([USUAL, silent], failures=[Failure("nodes/b/", "holds nothing")])
    context = Context(folder=FOLDER, notices=("1 hidden",), comparison=comparison)
    log = json.loads(sarif_report(comparison.reports, context))
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    (invocation,) = log["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [(one["level"], one["message"]["text"]) for one in invocation["toolExecutionNotifications"]] == [
        ("error", "not audited: nodes/b/: holds nothing"),
        ("warning", "not checked: node-c"),
        ("note", "1 hidden"),
    ]
    assert sarif(USUAL)["runs"][0]["invocations"][0]["executionSuccessful"] is True


def test_the_schema_is_not_blind() -> None:
    log = sarif(USUAL)
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert list(VALIDATOR.iter_errors(log))


def test_rules_are_the_catalogue() -> None:
    rules = sarif(USUAL)["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["RA004", "RA102", "RA206", "RA503", "RA505", "RA701"]
    rule, entry = rules[2], CATALOGUE["RA206"]
    assert rule["name"] == "stale-endpoint"
    assert rule["fullDescription"]["text"] == entry.meaning
    assert rule["defaultConfiguration"]["level"] == "error"
    for part in (entry.meaning, entry.why, entry.action, entry.exceptions):
        assert part in rule["help"]["text"]
        assert part in rule["help"]["markdown"]
    for number, result in enumerate(results(USUAL)):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == USUAL.findings[number].code


def test_a_finding_with_lines() -> None:
    result = results(USUAL)[1]
    assert result["level"] == "error"
    assert result["message"]["text"].splitlines() == [
        STALE.message,
        f"Expected: {STALE.expected}.",
        f"Observed: {STALE.observed}.",
    ]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "node-a/iptables-save.txt", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 689, "snippet": {"text": STALE.locations[3].text}},
    }
    assert [(one["kind"], one["fullyQualifiedName"]) for one in location["logicalLocations"]] == [
        ("node", "node-a"),
        ("service", "demo/np"),
        ("port", "demo/np:http"),
        ("endpoint", "demo/np 10.244.99.99:8080"),
    ]
    assert [one["physicalLocation"]["region"]["startLine"] for one in result["relatedLocations"]] == [894, 354, 937]
    assert result["properties"]["cause"] == STALE.cause
    assert result["properties"]["certainty"] == "definite"
    assert result["properties"]["objects"] == ["Service demo/np", "Pod demo/np-0"]


def test_a_finding_without_lines_is_at_the_dump_that_lacks_it() -> None:
    result = results(USUAL)[2]
    location = result["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "node-a/ip6tables-save.txt"
    assert location["physicalLocation"]["region"] == {"startLine": 1}
    assert location["logicalLocations"][-1] == {
        "kind": "frontend",
        "name": "[fd00:10:96::5]:80/TCP",
        "fullyQualifiedName": "demo/six ClusterIP [fd00:10:96::5]:80/TCP",
    }
    assert result["properties"]["certainty"] == MISSING.certainty.value


@pytest.mark.parametrize(
    ("severity", "level"), [(Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note")]
)
def test_levels(severity: Severity, level: str) -> None:
    (result,) = results(Report("node-a", (), ProxySummary(), 0, 0, 0, (Finding("RA001", "unparsable-line", severity, "?"),)))
    assert result["level"] == level


@pytest.mark.parametrize(
    ("file", "location"),
    [
        ("a b/dump#1?.txt", {"uri": "a%20b/dump%231%3F.txt", "uriBaseId": "SRCROOT"}),
        (f"{FOLDER}/dump", {"uri": "dump", "uriBaseId": "SRCROOT"}),
        ("/else where/dump", {"uri": "file:///else%20where/dump"}),
        ("../dump", {"uri": "file:///work%20space/dump"}),
        ("node.tar:dump", {"uri": "node.tar%3Adump", "uriBaseId": "SRCROOT"}),
        ("caf\udce9", {"uri": "caf%E9", "uriBaseId": "SRCROOT"}),
        ("<stdin>", {"uri": "stdin", "uriBaseId": "SRCROOT"}),
    ],
)
def test_uris(file: str, location: dict[str, str]) -> None:
    moved = replace(STALE, locations=(replace(STALE.locations[0], file=file),))
    (result,) = results(replace(USUAL, findings=(moved,)))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == location


def test_fingerprints_do_not_depend_on_lines_or_words() -> None:
    moved = replace(STALE, message="other words", locations=tuple(replace(one, line=one.line + 7) for one in STALE.locations))
    before, after = (results(replace(USUAL, findings=(one,)))[0]["partialFingerprints"] for one in (STALE, moved))
    assert before == after
    assert before["ruleaudit/finding/v1"] == STALE.fingerprint
    every = [one["partialFingerprints"]["primaryLocationLineHash"] for one in results(USUAL, large(50), large(50, "node-b"))]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_inert(text: str) -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            for one in value.values():
                check(one)
        elif isinstance(value, list):
            for one in value:
                check(one)
        elif isinstance(value, str):
            assert all(line.isprintable() for line in value.split("\n"))

    log = sarif(hostile(text))
    check(log)
    for result in log["runs"][0]["results"]:
        assert "](" not in result["message"]["text"]  # readers make links of it
