"""SARIF 2.1.0, as code scanning services and editors read it.

"SARIF n" is a section of the OASIS standard. Where GitHub wants more than the standard asks for (a location with a line for every
result, partialFingerprints.primaryLocationLineHash), it gets that. Nothing in the text depends on the machine or the time.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

from ruleaudit import __version__
from ruleaudit.catalogue import CATALOGUE, GROUPS
from ruleaudit.findings import Severity
from ruleaudit.reports.evidence import Anchor, anchor, facts, object_name, occurrences, place, relative_path, statement, telling
from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.catalogue import Entry
    from ruleaudit.findings import Finding, InputSummary, Report
    from ruleaudit.reports.evidence import Context

__all__ = ["SCHEMA", "sarif_report"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_BASE = "SRCROOT"
"""The base of relative paths (SARIF 3.14.14): the folder in which ruleaudit ran. Its own path is left for the reader to know."""
_RELATED = 20
"""Further lines of a result; readers show them as a list."""


def sarif_report(reports: Sequence[Report], context: Context) -> str:
    """One run with a result for every finding of every node; ASCII, with a line feed at its end.

    What is suppressed is no result: GitHub does not look at `suppressions` and would open an alert for it. Nor does a result have a
    baselineState (SARIF 3.27.24): a baseline holds what was loud when it was written, so what it does not hold need not be new.
    """
    codes = sorted({finding.code for report in reports for finding in report.findings})
    run = {
        "tool": {
            "driver": {
                "name": "ruleaudit",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(CATALOGUE[code]) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_BASE: {"description": {"text": "The folder in which ruleaudit ran."}}},
        "artifacts": list(_artifacts(reports, context.folder)),
        "invocations": [_invocation(context)],
        "results": [
            _result(report, finding, fingerprint, codes.index(finding.code), context)
            for report, finding, fingerprint in occurrences(reports)
        ],
        "properties": {
            "nodes": [
                {
                    "name": None if report.node is None else printable(report.node),
                    "mode": None if report.proxy.mode is None else printable(report.proxy.mode),
                    "services": report.services,
                    "frontends": report.frontends,
                    "endpoints": report.endpoints,
                }
                for report in reports
            ],
            "suppressed": list(_suppressed(reports)),
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _invocation(context: Context) -> Mapping[str, object]:
    """Whether every node was audited, and what is to be said of the whole (SARIF 3.20.14, 3.20.21)."""
    failures = () if context.comparison is None else context.comparison.failures
    unchecked = () if context.comparison is None else context.comparison.unchecked
    return {
        "executionSuccessful": not failures,
        "toolExecutionNotifications": [
            *(
                {
                    "level": "error",
                    "message": {"text": _message_text(f"not audited: {one.path}: {one.error}")},
                    "locations": [{"physicalLocation": {"artifactLocation": _artifact(one.path, context.folder)}}],
                }
                for one in failures
            ),
            *({"level": "warning", "message": {"text": _message_text(f"not checked: {name}")}} for name in unchecked),
            *({"level": "note", "message": {"text": _message_text(notice)}} for notice in context.notices),
        ],
    }


def _rule(entry: Entry) -> Mapping[str, object]:
    sections = [("Why it matters", entry.why), ("What to do", entry.action), ("Exceptions", entry.exceptions)]
    varies = f" ({entry.varies})" if entry.varies else ""
    plain = [f"{entry.severity.value}{varies}", entry.meaning, *(f"{title}: {text}" for title, text in sections if text)]
    marked = [f"*{entry.severity.value}{varies}*", entry.meaning, *(f"**{title}.** {text}" for title, text in sections if text)]
    return {
        "id": entry.code,
        "name": entry.name,
        "shortDescription": {"text": f"{entry.name}: {_first_sentence(entry.meaning)}"},
        "fullDescription": {"text": entry.meaning},
        "help": {"text": "\n\n".join(plain), "markdown": "\n\n".join(marked)},
        "defaultConfiguration": {"level": _LEVELS[entry.severity]},
        "properties": {
            "tags": ["kube-proxy", GROUPS[entry.group]],
            "problem.severity": "recommendation" if entry.severity is Severity.INFO else entry.severity.value,
        },
    }


def _first_sentence(text: str) -> str:
    first, stop, _ = text.partition(". ")
    return first + ("." if stop else "")


def _artifacts(reports: Sequence[Report], folder: str) -> Iterator[Mapping[str, object]]:
    """Every input once, those too that several nodes have in common: artifacts are a set (SARIF 3.14.15).

    A file into which several dumps were written, one after the other, is one artifact.
    """
    by_path: dict[str, Sequence[InputSummary]] = {}
    for report in reports:
        own: dict[str, list[InputSummary]] = {}
        for one in report.inputs:
            own.setdefault(relative_path(one.path, folder), []).append(one)
        for path, inputs in own.items():
            by_path.setdefault(path, inputs)
    for members in by_path.values():
        yield {
            "location": _artifact(members[0].path, folder),
            "properties": {
                "kind": ", ".join(dict.fromkeys(printable(one.kind) for one in members)),
                "lines": sum(one.lines for one in members),
                "used": any(one.used for one in members),
            },
        }


def _suppressed(reports: Sequence[Report]) -> Iterator[Mapping[str, object]]:
    """How many findings do not count, by what, and why."""
    counts = Counter((one.by, one.reason, one.place) for report in reports for one in report.suppressed)
    for (by, reason, where), count in counts.items():
        yield {"by": by, "reason": printable(reason), "place": printable(where), "findings": count}


def _result(report: Report, finding: Finding, fingerprint: str, rule: int, context: Context) -> Mapping[str, object]:
    told = facts(finding)
    parts = [
        statement(finding),
        *(f"{label.capitalize()}: {told[label]}." for label in ("expected", "observed") if label in told),
    ]
    where = anchor(finding, report)
    physical = {} if where is None else {"physicalLocation": _physical(where, context.folder)}
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": _message_text("\n".join(parts))},
        "locations": [{**physical, "logicalLocations": _logical(report, finding)}],
        "relatedLocations": [
            {
                "id": number,
                "physicalLocation": _physical(Anchor(one.file, max(one.line, 1), one.text), context.folder),
                "message": {"text": _message_text(one.text or place(one))},
            }
            for number, one in enumerate(telling(finding)[1 : _RELATED + 1], 1)
        ],
        # GitHub takes alerts of two uploads for one alert by this one; others by ours.
        "partialFingerprints": {"primaryLocationLineHash": fingerprint, "ruleaudit/finding/v1": finding.fingerprint},
        "properties": {
            "certainty": finding.certainty.value,
            "cause": finding.cause,
            "node": None if report.node is None else printable(report.node),
            "service": None if finding.service is None else printable(finding.service),
            "port": None if finding.port is None else printable(finding.port),
            "frontend": None if finding.frontend is None else printable(str(finding.frontend)),
            "endpoint": None if finding.endpoint is None else printable(finding.endpoint),
            "expected": printable(finding.expected),
            "observed": printable(finding.observed),
            "hint": printable(finding.hint),
            "objects": [printable(object_name(one)) for one in finding.objects],
        },
    }


def _logical(report: Report, finding: Finding) -> list[Mapping[str, object]]:
    """The node, and what of the Service is concerned, each with its full name (SARIF 3.33)."""
    found: list[tuple[str, str, str]] = [] if report.node is None else [("node", report.node, report.node)]
    if finding.service is not None:
        found.append(("service", finding.service.rpartition("/")[2], finding.service))
        if finding.port is not None:
            found.append(("port", finding.port, f"{finding.service}:{finding.port}"))
    if finding.frontend is not None:
        name = str(finding.frontend)
        found.append(("frontend", name, f"{finding.service or ''} {finding.frontend.kind.value} {name}".strip()))
    if finding.endpoint is not None:
        found.append(("endpoint", finding.endpoint, f"{finding.service or ''} {finding.endpoint}".strip()))
    return [{"kind": kind, "name": printable(name), "fullyQualifiedName": printable(full)} for kind, name, full in found]


def _physical(where: Anchor, folder: str) -> Mapping[str, object]:
    snippet = {"snippet": {"text": printable(where.text)}} if where.text else {}
    return {"artifactLocation": _artifact(where.file, folder), "region": {"startLine": where.line, **snippet}}


def _artifact(file: str, folder: str) -> Mapping[str, object]:
    """A relative URI below the working directory, else an absolute one (SARIF 3.4.3, 3.4.4)."""
    path = relative_path(file, folder)
    uri = quote(path.encode("utf-8", "surrogateescape"), safe="/")
    return {"uri": f"file://{uri}"} if path.startswith("/") else {"uri": uri, "uriBaseId": _BASE}


def _message_text(text: str) -> str:
    """Plain text of a message (SARIF 3.11): printable, line by line, and without what readers would take for a link (3.11.6)."""
    return "\n".join(printable(line) for line in text.split("\n")).replace("](", "] (")
