"""GitLab's code quality report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, MISSING, STALE, USUAL, hostile, large

from ruleaudit.findings import ProxySummary, Report
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.gitlab import gitlab_report
from ruleaudit.reports.nodes import Failure, compared

VALIDATOR = jsonschema.Draft7Validator(json.loads((Path(__file__).parent / "schemas" / "gitlab-code-quality.json").read_text()))


def gitlab(*reports: Report) -> list[dict[str, Any]]:
    text = gitlab_report(reports, Context(folder=FOLDER))
    assert text.isascii()
    issues: list[dict[str, Any]] = json.loads(text)
    assert [error.message for error in VALIDATOR.iter_errors(issues)] == []
    return issues


def test_an_issue() -> None:
    (issue,) = gitlab(replace(USUAL, findings=(STALE,)))
    assert issue["check_name"] == "RA206 stale-endpoint"
    assert issue["severity"] == "critical"
    assert issue["location"] == {"path": "node-a/iptables-save.txt", "lines": {"begin": 689}}
    assert issue["description"] == (
        f"RA206 stale-endpoint: node-a: {STALE.message} (expected: {STALE.expected}; observed: {STALE.observed})"
    )


def test_severities_and_places() -> None:
    issues = gitlab(USUAL)
    assert [issue["severity"] for issue in issues] == ["critical", "critical", "critical", "minor", "info", "info"]
    assert issues[2]["location"]["path"] == "node-a/ip6tables-save.txt"
    assert "possible: " in issues[2]["description"]


def test_fingerprints_are_unique() -> None:
    issues = gitlab(USUAL, replace(USUAL, node="node-b"), replace(USUAL, findings=(MISSING, MISSING)), large(20))
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)


@pytest.mark.parametrize(
    "report", [Report(None, (), ProxySummary(), 0, 0, 0), replace(USUAL, inputs=())], ids=["empty", "no inputs"]
)
def test_little_is_enough(report: Report) -> None:
    assert len(gitlab(report)) == len(report.findings)


def test_a_node_that_was_not_audited_is_an_issue() -> None:
    """Without it GitLab would show all that the node had before as repaired."""
    failures = [Failure(f"{FOLDER}/nodes/{name}/", "holds\nnothing") for name in "bc"]
    comparison = compared([USUAL], failures=failures)
    issues = json.loads(gitlab_report([USUAL], Context(folder=FOLDER, comparison=comparison)))
    assert [error.message for error in VALIDATOR.iter_errors(issues)] == []
    assert issues[0]["severity"] == "critical"
    assert issues[0]["description"] == f"not audited: {FOLDER}/nodes/b/: holds\\nnothing"
    assert [issue["location"]["path"] for issue in issues[:2]] == ["nodes/b", "nodes/c"]
    assert len({issue["fingerprint"] for issue in issues}) == len(issues) == 8


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_inert(text: str) -> None:
    for issue in gitlab(hostile(text)):
        assert issue["description"].isprintable()
        assert issue["location"]["path"].isprintable()
