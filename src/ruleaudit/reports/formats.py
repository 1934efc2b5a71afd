"""The formats of a report: their names, the endings of files that mean them, and how to make them.

Each is imported when it is asked for: the command line needs the names for its help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.errors import RuleauditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.findings import Report
    from ruleaudit.reports.evidence import Context

__all__ = ["FORMATS", "Format", "OutputNameError", "Target", "render", "target"]


class Format(NamedTuple):
    """A format. `endings` are those of files that are of this format; of several that fit a name, the longest counts."""

    name: str
    endings: tuple[str, ...]


FORMATS = {
    one.name: one
    for one in (
        Format("text", ()),
        Format("json", (".json",)),
        Format("html", (".html", ".htm")),
        Format("markdown", (".md", ".markdown")),
        Format("sarif", (".sarif", ".sarif.json")),
        Format("junit", (".xml",)),
        Format("github", ()),
        Format("gitlab", (".gitlab.json", "gl-code-quality-report.json")),
    )
}
_OPEN = (".txt", ".text", ".log", ".out")
"""Endings that say nothing of the format: these files are of the one that --format names."""


class OutputNameError(RuleauditError):
    """A name given to --output whose format is not known; the message lists those that are."""


class Target(NamedTuple):
    """Where a report goes, and in which format. `path` "-" is standard output."""

    format: str
    path: str


def target(text: str, chosen: str | None) -> Target:
    """What `text`, given to --output, means: FORMAT:FILE, or FILE with the format that its ending says.

    `chosen` is the format that --format names, None when it names none; files whose name says nothing are of that format, or text.
    Raises OutputNameError where the name says something, and not what.
    """
    prefix, colon, path = text.partition(":")
    if colon and prefix in FORMATS and path:
        return Target(prefix, path)
    name = text.rpartition("/")[2].lower()
    fitting = [(ending, one.name) for one in FORMATS.values() for ending in one.endings if name.endswith(ending)]
    if fitting:
        return Target(max(fitting, key=lambda one: len(one[0]))[1], text)
    if colon and "/" not in prefix:
        from difflib import get_close_matches

        near = get_close_matches(prefix.lower(), FORMATS, 1)
        hint = f"; did you mean {near[0]}:{path}?" if near and path else ""
        raise OutputNameError(f"--output {text}: {_KNOWN}{hint} (./{text} is a file of that name)")
    ending = name[name.rindex(".") :] if "." in name.lstrip(".") else ""
    if chosen is None and ending and not ending.endswith(_OPEN):
        raise OutputNameError(f"--output {text}: the ending {ending} names no format. {_KNOWN}, or name it with --format")
    return Target(chosen or "text", text)


def _known() -> str:
    endings = ", ".join(f"{ending} ({one.name})" for one in FORMATS.values() for ending in one.endings[:1])
    return f"write FORMAT:FILE with one of {', '.join(FORMATS)}, or a FILE that ends in one of {endings}"


_KNOWN = _known()


def render(name: str, reports: Sequence[Report], context: Context) -> str:
    """The reports in a format of FORMATS other than text, which has a layout of its own (`text.report_lines`).

    Ends with a line feed. `json` of several reports is of another schema than that of one.
    """
    if name == "json":
        from ruleaudit.reports.nodes import comparison_of
        from ruleaudit.reports.structured import json_report, json_reports

        comparison = comparison_of(reports, context)
        return json_report(reports[0], context.notices) if comparison is None else json_reports(comparison, context.notices)
    if name == "sarif":
        from ruleaudit.reports.sarif import sarif_report

        return sarif_report(reports, context)
    if name == "junit":
        from ruleaudit.reports.junit import junit_report

        return junit_report(reports, context)
    if name == "github":
        from ruleaudit.reports.github import github_report

        return github_report(reports, context)
    if name == "gitlab":
        from ruleaudit.reports.gitlab import gitlab_report

        return gitlab_report(reports, context)
    if name == "markdown":
        from ruleaudit.reports.markdown import markdown_report

        return markdown_report(reports, context)
    if name == "html":
        from ruleaudit.reports.html import html_report

        return html_report(reports, context)
    raise ValueError(f"no format {name!r}")
