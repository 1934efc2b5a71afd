"""The report for programs: one JSON object, schema ruleaudit/report/v1; of several nodes ruleaudit/reports/v1.

Its fields and their order are a contract: later releases add fields and take none away.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from ruleaudit.findings import Severity
from ruleaudit.reports.printable import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.forwarding import Frontend
    from ruleaudit.reports.nodes import Comparison

__all__ = ["SCHEMA", "SCHEMA_OF_NODES", "dumps", "finding_fields", "json_report", "json_reports"]

SCHEMA = "ruleaudit/report/v1"
SCHEMA_OF_NODES = "ruleaudit/reports/v1"


def json_report(report: Report, notices: Sequence[str] = ()) -> str:
    """The JSON text of `report`, with a line feed at its end: a finding to a line, ASCII throughout. `notices`: sentences on it for the
    reader, such as which ignores have ended.
    """
    head = {
        "schema": SCHEMA,
        "node": report.node,
        "inputs": [
            {"path": source.path, "kind": source.kind, "family": source.family, "lines": source.lines, "used": source.used}
            for source in report.inputs
        ],
        "proxy": {
            "mode": report.proxy.mode,
            "layout": report.proxy.layout,
            "cluster_cidr": report.proxy.cluster_cidr,
            "local_detection": report.proxy.local_detection,
            "masquerade_mark": report.proxy.masquerade_mark,
            "nodeport_addresses": report.proxy.nodeport_addresses,
            "inferred": report.proxy.inferred,
        },
        "summary": {
            "services": report.services,
            "frontends": report.frontends,
            "endpoints": report.endpoints,
            "findings": _severities(report),
            "codes": dict(sorted(Counter(finding.code for finding in report.findings).items())),
        },
    }
    members = [f'  "{name}": {dumps(value)}' for name, value in head.items()]
    findings = ",\n".join(f"    {dumps(finding_fields(finding))}" for finding in report.findings)
    members.append(f'  "findings": [\n{findings}\n  ]' if findings else '  "findings": []')
    suppressed = ",\n".join(
        f"    {dumps({**finding_fields(one.finding), 'suppressed_by': one.by, 'reason': one.reason, 'place': one.place})}"
        for one in report.suppressed
    )
    members.append(f'  "suppressed": [\n{suppressed}\n  ]' if suppressed else '  "suppressed": []')
    members.append(f'  "notices": {dumps(list(notices))}')
    return "{\n" + ",\n".join(members) + "\n}\n"


def json_reports(comparison: Comparison, notices: Sequence[str] = ()) -> str:
    """The JSON text of several nodes' reports, each as `json_report` has it, and of what their comparison shows. `notices` are on all of them.

    `common` holds every finding that more than one node has, by its fingerprint; the names of nodes there are those of `names`, which
    stand in the order of `nodes`. `failed` are nodes that could not be audited, `unchecked` the names of those of which nothing was checked.
    """
    common = [
        {
            "fingerprint": one.finding.fingerprint,
            "code": one.finding.code,
            "severity": one.finding.severity.value,
            "service": one.finding.service,
            "message": one.finding.message,
            "alike": one.alike,
            "nodes": one.nodes,
            "lacking": one.lacking,
        }
        for one in comparison.recurring
        if len(one.nodes) > 1
    ]
    odd = [{"what": one.what, "usual": one.usual, "nodes": dict(one.nodes)} for one in comparison.oddities]
    lacking = [{"node": one.node, "what": one.what} for one in comparison.lacks]
    failed = [{"path": one.path, "error": one.error} for one in comparison.failures]
    reports = ",\n".join(json_report(report).rstrip("\n") for report in comparison.reports)
    members = [
        f'"schema": {dumps(SCHEMA_OF_NODES)}',
        f'"names": {dumps(comparison.names)}',
        f'"nodes": [{reports}]',
        f'"common": [{_lines(common)}]',
        f'"odd": [{_lines(odd)}]',
        f'"lacking": [{_lines(lacking)}]',
        f'"failed": [{_lines(failed)}]',
        f'"unchecked": {dumps(comparison.unchecked)}',
        f'"notices": {dumps(list(notices))}',
    ]
    return "{\n" + ",\n".join(members) + "\n}\n"


def _lines(values: Sequence[object]) -> str:
    return ",".join(f"\n  {dumps(value)}" for value in values) + ("\n" if values else "")


_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: object, indent: int | None = None) -> str:
    r"""JSON in ASCII. Bytes that were no UTF-8 stand as `\xff`: half a surrogate pair is text that some readers refuse."""
    text = json.dumps(value, indent=indent)
    if "\\ud" not in text:
        return text
    whole = json.dumps(value, ensure_ascii=False)
    return json.dumps(json.loads(_SURROGATE.sub(lambda found: f"\\{escape(found[0])}", whole)), indent=indent)


def _severities(report: Report) -> Mapping[str, int]:
    counts = Counter(finding.severity for finding in report.findings)
    return {severity.value: counts[severity] for severity in Severity}


def finding_fields(finding: Finding) -> Mapping[str, object]:
    """A finding's fields, as every JSON of ruleaudit has them."""
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "certainty": finding.certainty.value,
        "node": finding.node,
        "service": finding.service,
        "port": finding.port,
        "frontend": None if finding.frontend is None else _frontend(finding.frontend),
        "endpoint": finding.endpoint,
        "message": finding.message,
        "expected": finding.expected,
        "observed": finding.observed,
        "hint": finding.hint,
        "cause": finding.cause,
        "locations": [{"file": one.file, "line": one.line, "text": one.text} for one in finding.locations],
        "objects": [{"kind": one.kind, "namespace": one.namespace, "name": one.name} for one in finding.objects],
        "fingerprint": finding.fingerprint,
    }


def _frontend(frontend: Frontend) -> Mapping[str, object]:
    return {
        "kind": frontend.kind.value,
        "address": frontend.address,
        "port": frontend.port,
        "protocol": frontend.protocol,
        "family": frontend.family,
    }
