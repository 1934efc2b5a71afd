"""The report for people: what is wrong, where, what proves it and what to do, worst first.

A report is laid out as lines of styled pieces, which are printed plain or, on a terminal, by rich. Everything that a line holds
is made printable when it is printed, so nothing from an input can steer the terminal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ruleaudit.findings import Certainty, Severity
from ruleaudit.reports.evidence import (
    NOT_CHECKED,
    facts,
    is_unchecked,
    node_name,
    place,
    plural,
    severity_counts,
    statement,
    telling,
)
from ruleaudit.reports.printable import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.catalogue import Entry
    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.selection import Hidden

__all__ = [
    "Grouping",
    "Layout",
    "Line",
    "Piece",
    "Tree",
    "colored",
    "consequences",
    "entry_lines",
    "finding_lines",
    "forest",
    "groups",
    "hidden_text",
    "passed_over_line",
    "plain",
    "report_lines",
    "short_finding",
    "silence_text",
    "statistics",
    "summary_line",
]

Grouping = Literal["service", "code", "node"]

_LINE_WIDTH = 160
"""A dump line longer than this is cut in the middle."""
_NO_WRAP = 1_000_000_000
_NARROW = 24
"""Columns below which a continued line is not kept below the first piece."""
_LOCATIONS = 4
_CONSEQUENCES = 20
_NOTES = 3
_OBJECTS = 4
_STOPPED = "RA505"
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "cyan"}


class Piece(NamedTuple):
    """Text in one style; `style` is rich's, "" for none."""

    text: str
    style: str = ""


class Line(NamedTuple):
    """A line of output: `indent` spaces, a label, and pieces; a terminal continues long ones below the first piece."""

    indent: int
    label: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a report is laid out.

    `notes`: findings of severity info are shown like the others, not in short. `quiet`: findings only. `statistics`: a count for
    each code at the end.
    """

    grouping: Grouping = "service"
    notes: bool = False
    quiet: bool = False
    statistics: bool = False


_BLANK = Line(0, "", ())


# --- printing ---


def plain(lines: Iterable[Line]) -> str:
    """The lines as text without colour, each ended by a line feed."""
    return "".join(
        f"{' ' * line.indent}{line.label}{''.join(printable(piece.text) for piece in line.pieces)}".rstrip() + "\n"
        for line in lines
    )


def colored(lines: Iterable[Line], width: int | None) -> str:
    """The lines with colours, wrapped at `width` columns; None: not wrapped."""
    from functools import cache

    from rich.cells import cell_len
    from rich.color import ColorSystem
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    parsed = cache(Style.parse)
    console = Console(width=width or _NO_WRAP)

    def painted(text: str, style: Style | str) -> str:
        found = parsed(style) if isinstance(style, str) else style
        return found.render(text, color_system=ColorSystem.STANDARD) if text.strip() else text

    def drawn(line: Line) -> Iterator[str]:
        label = " " * line.indent + line.label
        pieces = [(printable(piece.text), piece.style) for piece in line.pieces]
        left = (width or _NO_WRAP) - len(label)
        if sum(cell_len(text) for text, _ in pieces) <= left:
            yield painted(label, "dim") + "".join(painted(text, style) for text, style in pieces)
            return
        if left < _NARROW:
            label, left = "", max(width or 0, 1)
        body = Text(overflow="fold")
        for text, style in pieces:
            body.append(text, style or None)
        for number, part in enumerate(body.wrap(console, left)):
            start = painted(label, "dim") if number == 0 else " " * len(label)
            yield start + "".join(painted(one.text, one.style or "") for one in part.render(console) if one.text)

    return "".join(f"{text.rstrip(' ')}\n" for line in lines for text in drawn(line))


# --- a report ---


def report_lines(report: Report, layout: Layout, hidden: Hidden | None = None, notices: Sequence[str] = ()) -> Iterator[Line]:
    """The report, a summary of one line last. `hidden` is what a selection left out of it; `notices` are sentences on the whole."""
    full = [one for one in report.findings if one.code != NOT_CHECKED and (layout.notes or one.severity is not Severity.INFO)]
    notes = [one for one in report.findings if one.code != NOT_CHECKED and not layout.notes and one.severity is Severity.INFO]
    for heading, roots, tree in groups(full, report, layout.grouping):
        yield Line(0, "", (Piece(heading, "bold"),))
        for root in roots:
            yield from finding_lines(root, 2)
            yield from consequences(root, tree, 4)
        yield _BLANK
    if layout.quiet:
        return
    yield from _notes(notes)
    yield from _not_checked(report)
    if layout.statistics:
        yield from statistics(report.findings)
    if full:
        example = full[0].code
        yield Line(0, "", (Piece(f"`ruleaudit explain {example}` says more about a code.", "dim"),))
    if hidden is not None and hidden.count:
        yield Line(0, "", (Piece(hidden_text(hidden), "yellow"),))
    for notice in notices:
        yield Line(0, "", (Piece(notice, "yellow"),))
    yield summary_line(report, hidden)


def hidden_text(hidden: Hidden) -> str:
    """One sentence on the findings that a selection left out."""
    codes = ", ".join(f"{count} {code}" for code, count in hidden.codes.items())
    return (
        f"{plural(hidden.count, 'finding')} not shown ({', '.join(hidden.options)}): "
        f"{', '.join(severity_counts(hidden.severities))} ({codes})"
    )


def summary_line(report: Report, hidden: Hidden | None = None) -> Line:
    """What was found, in how much: the last line of a report."""
    counts = Counter(one.severity for one in report.findings if one.code != NOT_CHECKED)
    unchecked = sum(one.code == NOT_CHECKED for one in report.findings)
    node = Piece(f"{node_name(report)}: ", "bold")
    mode = f"{report.proxy.mode} mode, " if report.proxy.mode else ""
    rules = sum(one.lines for one in report.inputs if one.used and one.kind == "iptables-save")
    of = f"{plural(report.services, 'service')}, {plural(report.frontends, 'frontend')}, {plural(report.endpoints, 'endpoint')}"
    servers = sum(one.lines for one in report.inputs if one.used and one.kind == "ipvsadm")
    parts = [plural(rules, "line") + " of rules"] if rules or not servers else []
    parts += [plural(servers, "line") + " of virtual servers"] if servers else []
    size = f"({mode}{', '.join(parts)})"
    who = "the rules do" if rules or not servers else "the virtual servers do"
    rest = f"; {plural(unchecked, 'part')} not checked" if unchecked else ""
    if counts[Severity.ERROR] or counts[Severity.WARNING]:
        worst = Severity.ERROR if counts[Severity.ERROR] else Severity.WARNING
        return Line(0, "", (node, Piece(", ".join(severity_counts(counts)), _STYLES[worst]), Piece(f" in {of} {size}{rest}")))
    noted = f"; {plural(counts[Severity.INFO], 'note')}" if counts[Severity.INFO] else ""
    if is_unchecked(report):  # another mode, or nothing that says which rules are whose: silence is no health
        return Line(0, "", (node, Piece("no Service was checked", "bold yellow"), Piece(f" {size}{noted}{rest}")))
    silence = silence_text((report,), hidden)
    if silence:
        return Line(0, "", (node, Piece(f"{silence}{noted} in {of} {size}{rest}")))
    if not report.services:
        return Line(0, "", (node, Piece("no faults found", "green"), Piece(f" {size}{noted}{rest}")))
    return Line(
        0,
        "",
        (node, Piece("no faults found", "green"), Piece(f": {who} what the objects ask for in {of} {size}{noted}{rest}")),
    )


def silence_text(reports: Sequence[Report], hidden: Hidden | None) -> str:
    """Why nothing loud is left to show, where that is because of what was put aside or left out: "7 findings as expected"; "" where nothing was."""
    put = [one.by for report in reports for one in report.suppressed]
    expected = put.count("expected")
    if expected:
        return f"{plural(expected, 'finding')} as expected"
    return "nothing to show" if put or (hidden is not None and hidden.count) else ""


# --- groups, causes and consequences ---

Tree = dict[str, list["Finding"]]


def groups(findings: Sequence[Finding], report: Report, grouping: Grouping) -> list[tuple[str, list[Finding], Tree]]:
    """(heading, findings that follow from no other one shown, consequences by fingerprint), in the order of printing."""
    roots, tree = forest(findings)
    members_of: dict[tuple[object, ...], list[Finding]] = defaultdict(list)
    headings: dict[tuple[object, ...], str] = {}
    for root in roots:
        key: tuple[object, ...]
        if grouping == "code":
            key, heading = (root.code,), f"{root.code} {root.name}"
        elif grouping == "node" or root.service is None:
            key, heading = ("",), f"node {report.node}" if report.node else "the node"
        else:
            key, heading = (root.service,), f"service {root.service}"
        members_of[key].append(root)
        headings[key] = heading

    def weight(finding: Finding) -> tuple[object, ...]:
        leads = finding.code == _STOPPED or finding.fingerprint in tree
        return (finding.code != _STOPPED, not leads, finding.severity.rank, finding.service or "", finding.code)

    for members in members_of.values():
        members.sort(key=weight)
    order = sorted(members_of, key=lambda key: (key != ("",), weight(members_of[key][0])[:3], key))
    return [(headings[key], members_of[key], tree) for key in order]


def forest(findings: Sequence[Finding]) -> tuple[list[Finding], Tree]:
    """The findings whose cause is not among them, and the others by the fingerprint of their cause.

    Findings that name each other as their cause are not lost: one of them is taken for the first.
    """
    fingerprints = {finding.fingerprint for finding in findings}
    tree: Tree = defaultdict(list)
    roots = []
    for finding in findings:
        if finding.cause in fingerprints and finding.cause != finding.fingerprint:
            tree[str(finding.cause)].append(finding)
        else:
            roots.append(finding)
    reached: set[str] = set()
    pending = [root.fingerprint for root in roots]
    while True:
        while pending:
            fingerprint = pending.pop()
            if fingerprint not in reached:
                reached.add(fingerprint)
                pending.extend(child.fingerprint for child in tree.get(fingerprint, ()))
        lost = next((one for one in findings if one.fingerprint not in reached), None)
        if lost is None:
            return roots, dict(tree)
        tree[str(lost.cause)].remove(lost)
        roots.append(lost)
        pending.append(lost.fingerprint)


def consequences(root: Finding, tree: Tree, indent: int) -> Iterator[Line]:
    """What follows from a finding, in short; nothing where nothing does."""
    found: list[tuple[int, Finding]] = []
    pending = [(0, child) for child in reversed(tree.get(root.fingerprint, ()))]
    while pending:
        depth, finding = pending.pop()
        found.append((depth, finding))
        pending.extend((depth + 1, child) for child in reversed(tree.get(finding.fingerprint, ())))
    if not found:
        return
    services = {finding.service for _, finding in found if finding.service}
    where = f" in {plural(len(services), 'service')}" if services else ""
    follow = "finding follows" if len(found) == 1 else "findings follow"
    yield Line(indent, "", (Piece(f"{len(found):,} {follow} from it{where}:", "bold"),))
    for depth, finding in found[:_CONSEQUENCES]:
        at = Piece(f" ({place(telling(finding)[0])})" if finding.locations else "", "cyan")
        yield Line(indent + 2 + 2 * depth, "", (*_title(finding), Piece(f": {statement(finding)}"), at))
    if len(found) > _CONSEQUENCES:
        yield Line(indent + 2, "", (Piece(f"and {len(found) - _CONSEQUENCES:,} more; --format json gives them all", "dim"),))


# --- one finding ---


def _title(finding: Finding) -> tuple[Piece, ...]:
    possible = (Piece(" (possible)", "magenta"),) if finding.certainty is Certainty.POSSIBLE else ()
    severity = Piece(f"{finding.severity.value} {finding.code}", _STYLES[finding.severity])
    return (severity, Piece(f" {finding.name}"), *possible)


def finding_lines(finding: Finding, indent: int) -> Iterator[Line]:
    """A finding with all that proves it."""
    yield Line(indent, "", (*_title(finding), Piece(f": {statement(finding)}", "bold")))
    detail = indent + 2
    told = dict(facts(finding, _OBJECTS))
    for label, style in (("expected", "green"), ("observed", "red")):
        if label in told:
            yield Line(detail, f"{label}: ", (Piece(told.pop(label), style),))
    for number, location in enumerate(telling(finding)[:_LOCATIONS]):
        text = f": {shortened(location.text, _LINE_WIDTH)}" if location.text else ""
        yield Line(detail, "lines:    " if number == 0 else " " * 10, (Piece(place(location), "cyan"), Piece(text)))
    if len(finding.locations) > _LOCATIONS:
        yield Line(
            detail, " " * 10, (Piece(f"and {len(finding.locations) - _LOCATIONS:,} more; --format json gives them all", "dim"),)
        )
    for label, text in told.items():
        yield Line(detail, f"{label}:".ljust(10), (Piece(text),))


# --- the rest ---


def short_finding(finding: Finding, *, titled: bool = True) -> tuple[Piece, ...]:
    """A finding in one line, with its code and name where `titled`."""
    text = statement(finding)
    return (*_title(finding), Piece(f": {text}")) if titled else (Piece(text),)


def _notes(notes: Sequence[Finding]) -> Iterator[Line]:
    if not notes:
        return
    yield Line(0, "", (Piece("notes", "bold"),))
    by_code: dict[str, list[Finding]] = defaultdict(list)
    for finding in notes:
        by_code[finding.code].append(finding)
    for code, members in sorted(by_code.items()):
        for finding in members[:_NOTES]:
            yield Line(2, "", short_finding(finding))
        if len(members) > _NOTES:
            yield Line(2, "", (Piece(f"and {len(members) - _NOTES:,} more {code}; --fail-on info shows each in full", "dim"),))
    yield _BLANK


def passed_over_line(paths: Sequence[str]) -> Iterator[Line]:
    """What became of inputs that nothing was made of: their paths, where there are any."""
    if paths:
        more = f" and {len(paths) - _NOTES:,} more" if len(paths) > _NOTES else ""
        yield Line(0, "", (Piece("inputs passed over: ", "bold"), Piece(f"{', '.join(paths[:_NOTES])}{more}")))


def _not_checked(report: Report) -> Iterator[Line]:
    unchecked = [finding for finding in report.findings if finding.code == NOT_CHECKED]
    passed_over = [one.path for one in report.inputs if one.kind == "other"]  # what else is not used has its RA004
    if unchecked:
        yield Line(0, "", (Piece("not checked", "bold"),))
    for finding in unchecked:
        hint = f" ({finding.hint})" if finding.hint else ""
        yield Line(2, "", (Piece(statement(finding)), Piece(hint, "dim")))
    yield from passed_over_line(passed_over)
    if unchecked or passed_over:
        yield _BLANK


def statistics(findings: Iterable[Finding]) -> Iterator[Line]:
    """How many findings there are of each code."""
    counts = Counter((finding.code, finding.name) for finding in findings)
    width = len(f"{max(counts.values(), default=0):,}")
    for (code, name), count in sorted(counts.items()):
        yield Line(0, "", (Piece(f"{count:{width},}  "), Piece(code, "bold"), Piece(f" {name}")))
    if counts:
        yield _BLANK


# --- the catalogue ---


def entry_lines(entry: Entry) -> Iterator[Line]:
    """What the catalogue says about a code."""
    varies = f" ({entry.varies})" if entry.varies else ""
    yield Line(0, "", (Piece(f"{entry.code} {entry.name}", "bold"),))
    yield Line(0, "", (Piece(entry.severity.value, _STYLES[entry.severity]), Piece(varies)))
    sections = (
        ("", entry.meaning),
        ("Example", entry.example),
        ("Why it matters", entry.why),
        ("What to do", entry.action),
        ("Exceptions", entry.exceptions),
    )
    for heading, paragraph in sections:
        if not paragraph:
            continue
        yield _BLANK
        if heading:
            yield Line(0, "", (Piece(heading, "bold"),))
        yield Line(2 if heading else 0, "", (Piece(paragraph),))
