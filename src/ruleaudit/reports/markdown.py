"""Markdown for an issue or a chat: a summary, a table of what was found, then the findings by Service with the lines that prove them.

Of many nodes it has a table of those that are worth a look, and tells every finding once, with the nodes that have it.


What an input holds stays text: prose is escaped, whatever could mean something to a reader (mentions, references, links) stands in code,
and a fence is longer than any run of backticks inside it (CommonMark 4.5, 6.1).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ruleaudit.findings import Severity
from ruleaudit.reports.evidence import NOT_CHECKED, facts, node_name, place, plural, statement, telling, title
from ruleaudit.reports.nodes import Comparison, Recurring, comparison_of, listed, nodes_summary, unchecked_text, where
from ruleaudit.reports.printable import printable, shortened
from ruleaudit.reports.text import groups, plain, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.text import Line, Tree

__all__ = ["markdown_report"]

_Told = TypeVar("_Told", "Finding", Recurring)

_LIMIT = 60_000
"""Characters: a comment on GitHub may have 65,536."""
_LINES = 4
_LINE_WIDTH = 240
_TEXT_WIDTH = 2000
_CONSEQUENCES = 20
_OBJECTS = 4
_NOTES = 3
_NOTICES = 20
_ROWS = 60
"""So many nodes stand in the table before the rest is counted."""
_LIST = 30
"""So many lines a list of nodes has. What heads the page leaves room for the findings even where each line is as long as it may be."""
_NOTICE_WIDTH = 400
_NAME_WIDTH = 100
_SHARE = 1_500
"""Characters that a set of nodes has at least, as long as there are any."""
_REMARK = 40
"""Characters for what a section says of findings that it leaves out."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")
_MEANINGFUL = re.compile(r"@|#\d|://|\bwww\.|\bGH-\d", re.IGNORECASE)
"""What readers of Markdown make links and mentions of, escaped or not."""
_BAR = re.compile(r"(?<!\\)\|")
_STARTS_BLOCK = re.compile(r"\s*(?:[-+=]|\d+[.)](?=\s))")
"""What begins a list, a heading or a rule at the start of a paragraph."""


class _Block(NamedTuple):
    """A piece of the page that is not cut, and how many findings it tells."""

    text: str
    findings: int = 0


def markdown_report(reports: Sequence[Report], context: Context) -> str:
    """The Markdown text, with a line feed at its end. A long one is cut after whole findings and says so."""
    comparison = comparison_of(reports, context)
    page = _Page()
    if comparison is None:
        _one_node(page, reports[0], context)
    else:
        _many_nodes(page, comparison, context)
    return page.text()


class _Page:
    """Blocks up to the limit, and a count of the findings that did not fit."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = 0
        self._full = False
        self.room = _LIMIT

    def add(self, block: _Block) -> None:
        """Add a block; once one with findings did not fit, no other one with findings is added: they stand in order of their weight."""
        if (self._full and block.findings) or len(block.text) + 2 > self.room:
            self._full = self._full or bool(block.findings)
            self._left += block.findings
            return
        self._parts.append(block.text)
        self.room -= len(block.text) + 2

    def leave(self, findings: int) -> None:
        """Count findings that are not told."""
        self._left += findings

    def text(self) -> str:
        """The whole, with a line feed at its end."""
        left = [f"*{plural(self._left, 'finding')} more; the `html` and `json` formats have all of them.*"] if self._left else []
        return "\n\n".join([*self._parts, *left]) + "\n"


def _head(title: str, summary: Line, context: Context) -> Iterator[_Block]:
    yield _Block(f"# ruleaudit: {_inline(title)}")
    yield _Block(f"**{_inline(plain([summary]).strip())}**")
    yield from (_Block(_inline(shortened(notice, _NOTICE_WIDTH))) for notice in context.notices[:_NOTICES])
    if len(context.notices) > _NOTICES:
        yield _Block(f"and {len(context.notices) - _NOTICES:,} more such notices")


def _parted(findings: Sequence[_Told], context: Context) -> tuple[list[_Told], list[_Told], list[_Told]]:
    """What is told in full, the notes, and what was not checked."""
    checked = [one for one in findings if _of(one).code != NOT_CHECKED]
    loud = [one for one in checked if _of(one).severity is not Severity.INFO or context.fails(_of(one))]
    notes = [one for one in checked if _of(one).severity is Severity.INFO and not context.fails(_of(one))]
    return loud, notes, [one for one in findings if _of(one).code == NOT_CHECKED]


def _of(one: Finding | Recurring) -> Finding:
    return one.finding if isinstance(one, Recurring) else one


# --- one node ---


def _one_node(page: _Page, report: Report, context: Context) -> None:
    for block in _head(node_name(report), summary_line(report, context.hidden), context):
        page.add(block)
    if report.findings:
        page.add(_Block(_table((report,))))
    told, notes, unchecked = _parted(report.findings, context)
    for heading, roots, tree in groups(told, report, "service"):
        start = f"## {_inline(heading)}\n\n"
        for root in roots:
            block = _finding(root, tree)
            page.add(_Block(start + block.text, block.findings))
            start = ""
    for heading, members in (("Notes", notes), ("Not checked", unchecked)):
        start = f"## {heading}\n\n"
        for finding in members:
            hint = f" ({_inline(finding.hint)})" if finding.hint else ""
            page.add(_Block(f"{start}- {finding.code} {finding.name}: {_inline(statement(finding))}{hint}", 1))
            start = ""


# --- many nodes ---


def _many_nodes(page: _Page, comparison: Comparison, context: Context) -> None:
    nodes = plural(comparison.count, comparison.noun)
    for block in (
        *_head(nodes, nodes_summary(comparison, context.hidden), context),
        *_not_audited(comparison),
        *_nodes(comparison),
        *_odd_ones(comparison),
    ):
        page.add(block)
    if any(report.findings for report in comparison.reports):
        page.add(_Block(_table(comparison.reports)))
    told, notes, unchecked = _parted(comparison.recurring, context)
    _sections(page, comparison, told)
    for heading, members in (("Notes", notes), ("Not checked", unchecked)):
        for block in _short(comparison, heading, members):
            page.add(block)


def _not_audited(comparison: Comparison) -> Iterator[_Block]:
    if not comparison.failures:
        return
    rows = [f"- {_name(one.path)}: {_inline(shortened(one.error, _LINE_WIDTH))}" for one in comparison.failures[:_LIST]]
    if len(comparison.failures) > _LIST:
        rows.append(f"- and {len(comparison.failures) - _LIST:,} more")
    yield _Block("\n".join(["## Not audited", "", *rows]))


def _nodes(comparison: Comparison) -> Iterator[_Block]:
    """A table of the nodes that are worth a look, the worst first; the others are one row."""
    odd = {name for one in comparison.oddities for name, _ in one.nodes}
    rows = []
    for name, report in zip(comparison.names, comparison.reports, strict=True):
        counts = Counter(one.severity for one in report.findings if one.code != NOT_CHECKED)
        loud = bool(counts[Severity.ERROR] or counts[Severity.WARNING])
        rows.append((not loud, unchecked_text(report) != "all", name not in odd, counts, name, report))
    rows.sort(key=lambda row: (*row[:3], -row[3][Severity.ERROR], -row[3][Severity.WARNING]))
    shown = [row for row in rows if not all(row[:3])][:_ROWS]
    rest = rows[len(shown) :]

    def cells(counts: Mapping[Severity, int]) -> str:
        return " | ".join(f"{counts.get(severity, 0):,}" if counts.get(severity) else "-" for severity in Severity)

    if not rows:
        return
    lines = [f"| {comparison.noun} | errors | warnings | notes | unchecked | mode |", "|---|---:|---:|---:|---:|---|"]
    lines.extend(
        f"| {_cell(name)} | {cells(counts)} | {unchecked_text(report)} | {_cell(report.proxy.mode or '?')} |"
        for _, _, _, counts, name, report in shown
    )
    if rest:
        others = plural(len(rest), f"other {comparison.noun}") if shown else f"all {plural(len(rest), comparison.noun)}"
        sums = sum((row[3] for row in rest), Counter[Severity]())
        parts = sum(one.code == NOT_CHECKED for row in rest for one in row[5].findings)
        lines.append(f"| {others} | {cells(sums)} | {parts or '-'} | |")
    yield _Block("\n".join(lines))


def _odd_ones(comparison: Comparison) -> Iterator[_Block]:
    lines: list[str] = []
    for one in comparison.oddities:
        by_value: dict[str, list[str]] = {}
        for name, value in one.nodes:
            by_value.setdefault(value, []).append(name)
        lines.extend(
            f"- {_inline(shortened(f'{listed(names)}: {one.what} {value}; the others have {one.usual}', _LINE_WIDTH))}"
            for value, names in by_value.items()
        )
    if lines:
        more = [f"- and {len(lines) - _LIST:,} more"] if len(lines) > _LIST else []
        yield _Block("\n".join(["## Unlike the others", "", *lines[:_LIST], *more]))


def _sections(page: _Page, comparison: Comparison, told: Sequence[Recurring]) -> None:
    """What is told in full, by the nodes that have it: errors first, then what most nodes have.

    Each set of nodes has an equal share of the room, so that one with many findings does not keep the others out.
    """
    sets: dict[tuple[str, ...], list[Recurring]] = {}
    for one in told:
        sets.setdefault(one.nodes, []).append(one)
    order = sorted(sets.values(), key=lambda members: min(one.finding.severity.rank for one in members))
    for number, members in enumerate(order):
        share = max(_SHARE, page.room // (len(order) - number))
        block = _section(comparison, members, min(share, page.room) - 2)
        page.leave(len(members) - block.findings)
        if block.findings:
            page.add(block)


def _section(comparison: Comparison, members: Sequence[Recurring], room: int) -> _Block:
    """The findings of one set of nodes in at most `room` characters: all in full, or some in full and of the others a line each."""
    first = comparison.reports[comparison.names.index(members[0].nodes[0])]
    differing = {id(one.finding) for one in members if not one.alike}
    found: list[tuple[Finding, _Block]] = []
    for _, roots, tree in groups([one.finding for one in members], first, "service"):
        for root in roots:
            block = _finding(root, tree)
            differs = "\n\n*On other nodes the numbers differ.*" if id(root) in differing else ""
            found.append((root, _Block(block.text + differs, block.findings)))
    parts = [f"## {_inline(where(members[0], len(comparison.names), comparison.noun))}"]
    room -= len(parts[0]) + _REMARK
    in_full = room if sum(len(block.text) + 2 for _, block in found) <= room else room // 2
    lines: list[str] = []
    count = 0
    for root, block in found:
        size = len(block.text) + 2
        if not lines and size <= in_full:
            parts.append(block.text)
            in_full -= size
        else:
            follow = f" (and {plural(block.findings - 1, 'finding')} that follow from it)" if block.findings > 1 else ""
            line = f"- {root.severity.value} {title(root)}: {_inline(statement(root))}{follow}"
            size = len(line) + 2
            if size > room:
                continue
            lines.append(line)
        room -= size
        count += block.findings
    if lines:
        parts.append("\n".join(lines))
    if count < len(members):
        parts.append(f"*and {len(members) - count:,} more here*")
    return _Block("\n\n".join(parts), count)


def _short(comparison: Comparison, heading: str, members: Sequence[Recurring]) -> Iterator[_Block]:
    by_code: dict[str, list[Recurring]] = defaultdict(list)
    for one in members:
        by_code[one.finding.code].append(one)
    start = f"## {heading}\n\n"
    for code, found in sorted(by_code.items()):
        for one in found[:_NOTES]:
            on = where(one, len(comparison.names), comparison.noun)
            yield _Block(f"{start}- {title(one.finding)}: {_inline(statement(one.finding))} ({_inline(on)})", 1)
            start = ""
        if len(found) > _NOTES:
            yield _Block(f"- and {len(found) - _NOTES:,} more {code}")


def _name(text: str) -> str:
    """A name in a list, which may be as long as an input likes."""
    return _inline(shortened(text, _NAME_WIDTH))


def _cell(text: str) -> str:
    """A name in a table, where a bar ends a cell even within code."""
    return _BAR.sub(r"\\|", _name(text))


# --- what both have ---


def _table(reports: Sequence[Report]) -> str:
    """How many findings there are of each code, on how many nodes where there are several."""
    counts: Counter[tuple[int, str, str]] = Counter()
    services: dict[str, set[str]] = defaultdict(set)
    nodes: dict[str, set[int]] = defaultdict(set)
    for number, report in enumerate(reports):
        for finding in report.findings:
            counts[finding.severity.rank, finding.code, finding.name] += 1
            nodes[finding.code].add(number)
            if finding.service is not None:
                services[finding.code].add(finding.service)
    several = len(reports) > 1
    rows = [
        "| | code | findings | services |" + (" nodes |" if several else ""),
        "|---|---|---:|---:|" + ("---:|" if several else ""),
    ]
    rows.extend(
        f"| {list(Severity)[rank].value} | {code} {name} | {count:,} | {len(services[code]) or '-'} |"
        + (f" {len(nodes[code]):,} |" if several else "")
        for (rank, code, name), count in sorted(counts.items())
    )
    return "\n".join(rows)


def _finding(finding: Finding, tree: Tree) -> _Block:
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
    return _Block("\n\n".join(parts), count)


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
