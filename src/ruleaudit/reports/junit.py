"""JUnit XML, as CI systems read it: a test suite for each node, a test case for each Service and one for the node itself.

A test case fails when it has findings at or above --fail-on. What is below, and what was not checked, stands in its system-out. Of a node of
which nothing was checked the others are skipped; one that could not be audited is a suite with an error.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ruleaudit.reports.evidence import NOT_CHECKED, facts, is_unchecked, node_name, place, plural, statement, telling, title
from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.nodes import Failure

__all__ = ["junit_report"]

_NODE = "the node as a whole"


def junit_report(reports: Sequence[Report], context: Context) -> str:
    """The XML text, with a line feed at its end."""
    root = ElementTree.Element("testsuites", {"name": "ruleaudit"})
    root.extend(_suite(report, context) for report in reports)
    root.extend(_not_audited(one) for one in (() if context.comparison is None else context.comparison.failures))
    for number, suite in enumerate(root):
        suite.set("id", str(number))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root)
    # Only ASCII, whatever the encoding of the file or the pipe that it goes to.
    text: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text.decode("ascii")}\n'


def _suite(report: Report, context: Context) -> ElementTree.Element:
    by_service: dict[str | None, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_service[finding.service].append(finding)
    named = sorted({*report.service_names, *(service for service in by_service if service is not None)})
    cases = [_case(report, _NODE, by_service[None], context)]
    cases.extend(_case(report, service, by_service.get(service, []), context) for service in named)
    suite = _suite_of(node_name(report), cases)
    if context.notices:
        ElementTree.SubElement(suite, "system-out").text = printable(" ".join(context.notices))
    return suite


def _suite_of(name: str, cases: Sequence[ElementTree.Element]) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": printable(f"ruleaudit {name}"), "tests": str(len(cases))})
    for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    return suite


def _not_audited(failure: Failure) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"name": _NODE, "classname": printable(f"ruleaudit.{failure.path}")})
    ElementTree.SubElement(case, "error", {"type": "not audited", "message": printable(failure.error)})
    return _suite_of(failure.path, [case])


def _case(report: Report, name: str, findings: Sequence[Finding], context: Context) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"name": printable(name), "classname": printable(f"ruleaudit.{node_name(report)}")})
    failing = [finding for finding in findings if context.fails(finding)]
    rest = [finding for finding in findings if not context.fails(finding)]
    if failing:
        # One element for all: most readers show the first failure of a case and lose the others.
        worst = failing[0]
        more = f" (and {plural(len(failing) - 1, 'other finding')})" if len(failing) > 1 else ""
        failure = ElementTree.SubElement(
            case,
            "failure",
            {"type": worst.code, "message": printable(f"{worst.code} {worst.name}: {statement(worst)}{more}")},
        )
        failure.text = _body(failing)
    elif is_unchecked(report):
        why = "; ".join(statement(finding) for finding in report.findings if finding.code == NOT_CHECKED)
        ElementTree.SubElement(case, "skipped", {"message": printable(f"not checked: {why}" if why else "not checked")})
    if rest:
        ElementTree.SubElement(case, "system-out").text = _body(rest)
    return case


def _body(findings: Sequence[Finding]) -> str:
    return "\n\n".join("\n".join(_lines(finding)) for finding in findings)


def _lines(finding: Finding) -> Iterator[str]:
    """One finding. Printable, so that neither a character that XML does not allow nor one that steers a terminal is left."""
    yield printable(f"{finding.severity.value} {title(finding)}: {statement(finding)}")
    told = dict(facts(finding))
    for label in ("expected", "observed"):
        if label in told:
            yield printable(f"  {label}: {told.pop(label)}")
    for location in telling(finding):
        yield printable(f"  {place(location)}: {location.text}" if location.text else f"  {place(location)}")
    for label, text in told.items():
        yield printable(f"  {label}: {text}")
