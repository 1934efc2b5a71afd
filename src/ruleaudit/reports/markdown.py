"""Markdown for an issue or a chat: a summary, a table of what was found, then the findings by Service with the lines that prove them.

What an input holds stays text: prose is escaped, whatever could mean something to a reader (mentions, references, links) stands in code,
and a fence is longer than any run of backticks inside it (CommonMark 4.5, 6.1).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ruleaudit.findings import Severity
from ruleaudit.reports.evidence import NOT_CHECKED, facts, node_name, place, plural, statement, telling, title
from ruleaudit.reports.printable import printable, shortened
from ruleaudit.reports.text import groups, plain, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.text import Tree

__all__ = ["markdown_report"]

_LIMIT = 60_000
"""Characters: a comment on GitHub may have 65,536."""
_LINES = 4
_LINE_WIDTH = 240
_TEXT_WIDTH = 2000
_CONSEQUENCES = 20
_OBJECTS = 4

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")
_MEANINGFUL = re.compile(r"@|#\d|://|\bwww\.|\bGH-\d", re.IGNORECASE)
"""What readers of Markdown make links and mentions of, escaped or not."""
_STARTS_BLOCK = re.compile(r"\s*(?:[-+=]|\d+[.)](?=\s))")
"""What begins a list, a heading or a rule at the start of a paragraph."""


def markdown_report(reports: Sequence[Report], context: Context) -> str:
    """The Markdown text, with a line feed at its end. A long one is cut after whole findings and says so."""
    parts: list[str] = []
    size = 0
    left = 0
    for report in reports:
        for block, findings in _blocks(report, context):
            if left or (findings and size + len(block) > _LIMIT):
                left += findings
                continue
            parts.append(block)
            size += len(block) + 2
    if left:
        parts.append(f"*{plural(left, 'finding')} more; the `html` and `json` formats have all of them.*")
    return "\n\n".join(parts) + "\n"


def _blocks(report: Report, context: Context) -> Iterator[tuple[str, int]]:
    """(text, how many findings it tells) in the order of printing."""
    yield f"# ruleaudit: {_inline(node_name(report))}", 0
    yield f"**{_inline(plain([summary_line(report, context.hidden)]).strip())}**", 0
    for notice in context.notices:
        yield _inline(notice), 0
    if report.findings:
        yield _table(report), 0
    told = [one for one in report.findings if one.severity is not Severity.INFO or context.fails(one)]
    notes = [one for one in report.findings if one.severity is Severity.INFO and not context.fails(one)]
    for heading, roots, tree in groups([one for one in told if one.code != NOT_CHECKED], report, "service"):
        start = f"## {_inline(heading)}\n\n"
        for root in roots:
            block, count = _finding(root, tree)
            yield start + block, count
            start = ""
    for heading, members in (
        ("Notes", [one for one in notes if one.code != NOT_CHECKED]),
        ("Not checked", [one for one in report.findings if one.code == NOT_CHECKED]),
    ):
        start = f"## {heading}\n\n"
        for finding in members:
            hint = f" ({_inline(finding.hint)})" if finding.hint else ""
            yield f"{start}- {finding.code} {finding.name}: {_inline(statement(finding))}{hint}", 1
            start = ""


def _table(report: Report) -> str:
    counts: Counter[tuple[int, str, str]] = Counter()
    services: dict[str, set[str]] = defaultdict(set)
    for finding in report.findings:
        counts[finding.severity.rank, finding.code, finding.name] += 1
        if finding.service is not None:
            services[finding.code].add(finding.service)
    rows = ["| | code | findings | services |", "|---|---|---:|---:|"]
    rows.extend(
        f"| {list(Severity)[rank].value} | {code} {name} | {count:,} | {len(services[code]) or '-'} |"
        for (rank, code, name), count in sorted(counts.items())
    )
    return "\n".join(rows)


def _finding(finding: Finding, tree: Tree) -> tuple[str, int]:
    parts = [f"### {finding.severity.value} {title(finding)}", _inline(statement(finding))]
    told = facts(finding, _OBJECTS)
    if told:
        parts.append("\n".join(f"- {label}: {_inline(text)}" for label, text in told.items()))
    if finding.locations:
        parts.append(_evidence(finding))
    count = 1
    followers = _followers(finding, tree)
    if followers:
        count += len(followers)
        items = [f"- {one.code} {one.name}: {_inline(statement(one))}" for one in followers[:_CONSEQUENCES]]
        if len(followers) > _CONSEQUENCES:
            items.append(f"- and {len(followers) - _CONSEQUENCES:,} more; the `html` and `json` formats have all of them")
        parts.append(f"{plural(len(followers), 'finding')} that follow from it:\n\n" + "\n".join(items))
    return "\n\n".join(parts), count


def _followers(root: Finding, tree: Tree) -> list[Finding]:
    found: list[Finding] = []
    pending = list(reversed(tree.get(root.fingerprint, ())))
    while pending:
        finding = pending.pop()
        found.append(finding)
        pending.extend(reversed(tree.get(finding.fingerprint, ())))
    return found


def _evidence(finding: Finding) -> str:
    lines = [
        printable(f"{place(one)}: {shortened(one.text, _LINE_WIDTH)}" if one.text else place(one))
        for one in telling(finding)[:_LINES]
    ]
    if len(finding.locations) > _LINES:
        lines.append(f"and {len(finding.locations) - _LINES:,} more lines")
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}text", *lines, fence])


# --- text of an input within a line ---


def _inline(text: str) -> str:
    """Text that reads as it is written. Spans between single backticks, as hints have them, stay code."""
    text = shortened(printable(text), _TEXT_WIDTH)
    spans = text.split("`")
    if len(spans) % 2 == 0 or any(
        not span.strip() for span in spans[1:-1]
    ):  # backticks that do not pair: they are the text's own
        return _code(text) if "`" in text else _prose(text)
    return "".join(_code(span) if number % 2 else _prose(span) for number, span in enumerate(spans))


def _prose(text: str) -> str:
    if _MEANINGFUL.search(text):
        return _code(text)
    escaped = _SPECIAL.sub(r"\\\1", text)
    start = _STARTS_BLOCK.match(escaped)
    return escaped if start is None else f"{escaped[: start.end() - 1]}\\{escaped[start.end() - 1 :]}"


def _code(text: str) -> str:
    """A code span: delimited by more backticks than stand together within it."""
    if not text.strip():
        return text
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return f"{text[:start]}{fence}{blank}{text[start:end]}{blank}{fence}{text[end:]}"
