"""JUnit XML, as CI systems read it: a test suite for each node, a test case for each Service and one for the node itself.

A test case fails when it has findings at or above --fail-on. What is below, and what was not checked, stands in its system-out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ruleaudit.reports.evidence import facts, node_name, place, plural, statement, telling, title
from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context

__all__ = ["junit_report"]

_NODE = "the node as a whole"


def junit_report(reports: Sequence[Report], context: Context) -> str:
    """The XML text, with a line feed at its end."""
    root = ElementTree.Element("testsuites", {"name": "ruleaudit"})
    tests = failures = 0
    for number, report in enumerate(reports):
        suite = _suite(report, context)
        suite.set("id", str(number))
        tests += int(suite.get("tests", "0"))
        failures += int(suite.get("failures", "0"))
        root.append(suite)
    root.attrib.update({"tests": str(tests), "failures": str(failures), "errors": "0"})
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
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": printable(f"ruleaudit {node_name(report)}"),
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": "0",
            "skipped": "0",
        },
    )
    suite.extend(cases)
    if context.notices:
        ElementTree.SubElement(suite, "system-out").text = printable(" ".join(context.notices))
    return suite


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
