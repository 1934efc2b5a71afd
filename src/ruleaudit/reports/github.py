"""Workflow commands of GitHub Actions: each finding becomes an annotation of the run and, where the dump is in the repository, of its line.

The runner takes a line that begins with "::" for a command and unescapes it (actions/toolkit, core/src/command.ts). So every line
printed here is a command, and nothing that an input holds can end it or start another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.findings import Severity
from ruleaudit.reports.evidence import anchor, facts, relative_path, statement, title
from ruleaudit.reports.nodes import comparison_of, nodes_summary
from ruleaudit.reports.printable import printable
from ruleaudit.reports.text import plain, summary_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context

__all__ = ["github_report"]

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def github_report(reports: Sequence[Report], context: Context) -> str:
    """A command for each finding, errors first, one for each node that could not be audited, and a notice with the summary of all.

    GitHub shows ten annotations of a kind for a step. Notes are therefore counted in the summary, and get a notice of their own only
    when they count as failures.
    """
    found = [(report, finding) for report in reports for finding in report.findings]
    wanted = [one for one in found if one[1].severity is not Severity.INFO or context.fails(one[1])]
    wanted.sort(key=lambda one: one[1].severity.rank)
    comparison = comparison_of(reports, context)
    # They are said first: GitHub shows ten annotations of a kind, and nothing else tells of these nodes.
    lines = [
        f"::error title=ruleaudit%3A not audited::{_data(printable(f'{one.path}: {one.error}'))}"
        for one in (() if comparison is None else comparison.failures)
    ]
    lines += [_command(report, finding, context) for report, finding in wanted]
    line = summary_line(reports[0], context.hidden) if comparison is None else nodes_summary(comparison, context.hidden)
    summary = [plain([line]).rstrip(), *map(printable, context.notices)]
    lines.append(f"::notice title=ruleaudit::{_data(chr(10).join(summary))}")
    return "".join(f"{line}\n" for line in lines)


def _command(report: Report, finding: Finding, context: Context) -> str:
    node = f" on {report.node}" if report.node else ""
    properties: dict[str, str] = {}
    where = anchor(finding, report)
    if where is not None:
        properties["file"] = relative_path(where.file, context.folder)
        properties["line"] = str(where.line)
    properties["title"] = title(finding) + node
    told = facts(finding)
    parts = [statement(finding), *(f"{label}: {told[label]}" for label in ("expected", "observed") if label in told)]
    if where is not None and where.text:
        parts.append(f"{where.file}:{where.line}: {where.text}")
    if "to do" in told:
        parts.append(f"to do: {told['to do']}")
    values = ",".join(f"{name}={_property(printable(value))}" for name, value in properties.items())
    return f"::{_COMMANDS[finding.severity]} {values}::{_data(chr(10).join(map(printable, parts)))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
