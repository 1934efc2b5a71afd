"""GitLab's code quality report: a JSON array of issues in the form of the Code Climate specification.

GitLab reads `description`, `check_name`, `fingerprint`, `severity` and `location`, and takes findings of two reports with the same
fingerprint for one; a fingerprint that appears twice hides a finding.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity
from ruleaudit.reports.evidence import anchor, facts, occurrences, relative_path, statement
from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.nodes import Failure

__all__ = ["gitlab_report"]

_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "minor", Severity.INFO: "info"}


def gitlab_report(reports: Sequence[Report], context: Context) -> str:
    """The JSON text: an issue to a line, ASCII, with a line feed at its end.

    A node that could not be audited is an issue, too: GitLab would take all that it had before for repaired.
    """
    failures = () if context.comparison is None else context.comparison.failures
    issues = [json.dumps(_not_audited(one, context)) for one in failures]
    issues += [json.dumps(_issue(report, finding, fingerprint, context)) for report, finding, fingerprint in occurrences(reports)]
    return "[\n" + ",\n".join(issues) + "\n]\n" if issues else "[]\n"


def _not_audited(failure: Failure, context: Context) -> Mapping[str, object]:
    path = printable(relative_path(failure.path, context.folder))
    return {
        "type": "issue",
        "check_name": "not audited",
        "description": printable(f"not audited: {failure.path}: {failure.error}"),
        "categories": ["Bug Risk"],
        "severity": "critical",
        "fingerprint": hashlib.sha256(f"not audited\0{path}".encode()).hexdigest()[:32],
        "location": {"path": path, "lines": {"begin": 1}},
    }


def _issue(report: Report, finding: Finding, fingerprint: str, context: Context) -> Mapping[str, object]:
    where = anchor(finding, report)
    node = f"{report.node}: " if report.node else ""
    possible = "possible: " if finding.certainty is Certainty.POSSIBLE else ""
    details = [f"{label}: {text}" for label, text in facts(finding).items() if label in ("expected", "observed")]
    description = f"{finding.code} {finding.name}: {possible}{node}{statement(finding)}"
    if details:
        description += f" ({'; '.join(details)})"
    return {
        "type": "issue",
        "check_name": f"{finding.code} {finding.name}",
        "description": printable(description),
        "content": {"body": CATALOGUE[finding.code].meaning},
        "categories": ["Bug Risk"],
        "severity": _SEVERITIES[finding.severity],
        "fingerprint": fingerprint,
        "location": {
            "path": "stdin" if where is None else printable(relative_path(where.file, context.folder)),
            "lines": {"begin": 1 if where is None else where.line},
        },
    }
