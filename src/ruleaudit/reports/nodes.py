"""Nodes beside each other: which findings they share, and which node is unlike its peers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from ruleaudit.findings import Severity, Traits
from ruleaudit.reports.evidence import NOT_CHECKED, is_unchecked, plural, severity_counts
from ruleaudit.reports.text import (
    Line,
    Piece,
    consequences,
    finding_lines,
    groups,
    hidden_text,
    passed_over_line,
    short_finding,
    silence_text,
    statistics,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Layout

__all__ = [
    "Comparison",
    "Failure",
    "Lack",
    "Oddity",
    "Recurring",
    "compared",
    "comparison_of",
    "in_order",
    "listed",
    "natural",
    "nodes_lines",
    "nodes_summary",
    "unchecked_text",
    "where",
]

_SHOWN = 5
"""How many nodes are named before the rest is counted."""
_NOTES = 3
_BLANK = Line(0, "", ())


@dataclass(frozen=True, slots=True)
class Failure:
    """A node that could not be audited: its folder or archive as the user gave it, and why."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class Recurring:
    """A finding as it is on one node or on several: findings of equal fingerprint and severity are the same.

    `finding` is the first node's; `nodes` and `lacking` are the names of the nodes that have it and of those that do not, in their
    order; `alike`: whether it reads the same on all that have it.
    """

    finding: Finding
    nodes: tuple[str, ...]
    lacking: tuple[str, ...]
    alike: bool


@dataclass(frozen=True, slots=True)
class Oddity:
    """What most nodes have in common and some do not. `nodes`: what those have instead, by their names; what only follows from another
    oddity of a node is left out there.
    """

    what: str
    usual: str
    nodes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Lack:
    """What a node has not that its peers have: frontends and service chains, or rules of these."""

    node: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several nodes' reports with a name for each that no other one has, and what a look at all of them at once shows.

    `failures`: the nodes that could not be audited; they have no report and no name. `noun`: what the reader calls a node.
    """

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    recurring: tuple[Recurring, ...]
    oddities: tuple[Oddity, ...]
    failures: tuple[Failure, ...] = ()
    noun: str = "node"
    lacks: tuple[Lack, ...] = ()

    @property
    def count(self) -> int:
        """How many nodes there are, those included that could not be audited."""
        return len(self.names) + len(self.failures)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The names of the nodes of which nothing was checked."""
        return tuple(name for name, report in zip(self.names, self.reports, strict=True) if is_unchecked(report))


# --- comparing -------------------------------------------------------------------------------------------------------------------------


def comparison_of(reports: Sequence[Report], context: Context) -> Comparison | None:
    """The nodes beside each other, as `context` has them or made anew; None where there is one node only."""
    known = context.comparison
    if len(reports) + (0 if known is None else len(known.failures)) == 1:
        return None
    return compared(reports) if known is None else known


def compared(
    reports: Sequence[Report], paths: Sequence[str] = (), failures: Sequence[Failure] = (), noun: str = "node"
) -> Comparison:
    """The reports beside each other. `paths`: where the nodes' inputs lie, for those whose name is not known or not their own alone."""
    names = _names(reports, paths)
    found: dict[tuple[str, Severity], list[tuple[str, Finding]]] = {}
    for name, report in zip(names, reports, strict=True):
        for key, finding in {(one.fingerprint, one.severity): one for one in reversed(report.findings)}.items():
            found.setdefault(key, []).append((name, finding))
    recurring = []
    for members in found.values():
        having = tuple(name for name, _ in members)
        held = set(having)
        first = members[0][1]
        alike = all(one.message == first.message for _, one in members)
        recurring.append(Recurring(first, having, tuple(name for name in names if name not in held), alike))
    place = {name: number for number, name in enumerate(names)}
    recurring.sort(
        key=lambda one: (
            -len(one.nodes),
            [place[name] for name in one.nodes],
            one.finding.severity.rank,
            one.finding.cause is not None,
            one.finding.code,
            one.finding.service or "",
            one.finding.port or "",
            one.finding.message,
        )
    )
    oddities = tuple(_oddities(names, reports)) if noun == "node" else ()  # fixtures are of different clusters
    lacks = tuple(_lacks(names, reports, oddities)) if noun == "node" else ()
    return Comparison(names, tuple(reports), tuple(recurring), oddities, tuple(failures), noun, lacks)


def _names(reports: Sequence[Report], paths: Sequence[str]) -> tuple[str, ...]:
    called = [report.node or (report.traits.called if report.traits is not None else None) for report in reports]
    counts = Counter(called)
    names: list[str] = []
    for number, one in enumerate(called):
        path = paths[number].rstrip("/") if number < len(paths) else f"node {number + 1}"
        name = path if one is None else one if counts[one] == 1 else f"{one} ({path})"
        while name in names:
            name += "'"
        names.append(name)
    return tuple(names)


def in_order(reports: Sequence[Report], paths: Sequence[str]) -> list[int]:
    """The places of the reports in the order of the names that `compared` gives them: w2 before w10."""
    names = _names(reports, paths)
    return sorted(range(len(names)), key=lambda number: natural(names[number]))


_NUMBER = re.compile(r"(\d+)")


def natural(name: str) -> list[tuple[int, str]]:
    """The key by which names are put in order as people do: numbers by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


_MODE, _RELEASE, _LAYOUT = "mode", "kube-proxy", "layout of the rules"
_DUMPS, _FRONTENDS = "dumps", "frontends"
_FOLLOWS = {
    _MODE: frozenset({_LAYOUT, "backend", "masquerade mark", "detection of local traffic", "other software", _FRONTENDS, _DUMPS}),
    _RELEASE: frozenset({_LAYOUT, "backend", "detection of local traffic", _FRONTENDS}),
    _LAYOUT: frozenset({"detection of local traffic", _FRONTENDS}),
    _DUMPS: frozenset({_FRONTENDS}),
}
"""What a node has otherwise only because the other thing is otherwise there."""
_UNKNOWN = "not known"


def _oddities(names: Sequence[str], reports: Sequence[Report]) -> Iterator[Oddity]:
    """What at least two thirds of three or more nodes have in common; what others follow from stands before these."""
    traits = [report.traits or Traits() for report in reports]
    properties: dict[str, list[str | None]] = {
        _MODE: [report.proxy.mode for report in reports],
        _RELEASE: [one.release for one in traits],
        _LAYOUT: [report.proxy.layout for report in reports],
        "backend": [one.backend for one in traits],
        "masquerade mark": [report.proxy.masquerade_mark for report in reports],
        "detection of local traffic": [report.proxy.local_detection for report in reports],
        "other software": [one.others or "none" for one in traits],
        "Services": [f"{report.services:,}" for report in reports],
        _DUMPS: [_dumps(report) for report in reports],
        _FRONTENDS: [f"{report.frontends:,}" for report in reports],
    }
    causes: dict[str, set[str]] = {}
    for what, values in properties.items() if len(reports) >= 3 else ():
        usual, count = Counter(values).most_common(1)[0]
        if count == len(reports) or 3 * count < 2 * len(reports):
            continue
        odd = []
        for name, value in zip(names, values, strict=True):
            before = causes.setdefault(name, set())
            if value == usual or (what == _RELEASE and value is None):  # that it is not given says nothing of the node
                continue
            if not any(what in _FOLLOWS.get(cause, ()) for cause in before):
                odd.append((name, value or _UNKNOWN))
            before.add(what)
        if odd:
            yield Oddity(what, usual or _UNKNOWN, tuple(odd))


def _lacks(names: Sequence[str], reports: Sequence[Report], oddities: Sequence[Oddity]) -> Iterator[Lack]:
    """What nodes lack that nine tenths of those with their mode and layout have, or all but one.

    Only where a node's name is not known its chains are counted, too: the check of a named node knows which endpoints belong there.
    """
    excused = {name for one in oddities if one.what in (_MODE, _DUMPS) for name, _ in one.nodes}
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for number, report in enumerate(reports):
        if report.traits is not None and names[number] not in excused:
            groups.setdefault((report.proxy.mode, report.proxy.layout), []).append(number)
    lacking: dict[int, list[str]] = {}
    for members in groups.values():
        if len(members) < 3:
            continue
        kept = [dict(traits.programmed) for number in members if (traits := reports[number].traits) is not None]
        held: dict[str, Counter[int]] = {}
        for one in kept:
            for key, count in one.items():
                held.setdefault(key, Counter())[count] += 1
        for key, counts in held.items():
            usual, agreeing = counts.most_common(1)[0]
            apart = len(members) - agreeing
            if apart == 0 or apart > max(1, len(members) // 10):
                continue
            for number, one in zip(members, kept, strict=True):
                found = one.get(key, 0)
                if found < usual and (reports[number].node is None or "KUBE-SVC-" not in key):
                    lacking.setdefault(number, []).append(f"{found:,} of {usual:,} rules of {key}" if found else key)
    for number, what in sorted(lacking.items()):
        yield Lack(names[number], tuple(sorted(what)))


def _dumps(report: Report) -> str:
    """Which dumps were given, by kind and family."""
    kinds = Counter(
        one.kind + (f" IPv{one.family}" if one.family else "") for one in report.inputs if one.used and one.kind not in _OBJECTS
    )
    return ", ".join(sorted(kinds)) or "none"


_OBJECTS = ("objects", "kube-proxy-configuration", "capture-description")


# --- as text ---------------------------------------------------------------------------------------------------------------------------


def nodes_lines(
    comparison: Comparison, layout: Layout, hidden: Hidden | None = None, notices: Sequence[str] = ()
) -> Iterator[Line]:
    """The nodes as a table, who is odd among them, and every finding once; a summary of one line last.

    `hidden` is what a selection left out; `notices` are sentences on the whole.
    """
    if not layout.quiet:
        yield from _table(comparison, every=layout.statistics)
    for failure in comparison.failures:
        yield Line(0, "", (Piece(f"{failure.path}: ", "bold"), Piece("not audited: ", "bold red"), Piece(failure.error)))
    if comparison.failures:
        yield _BLANK
    if (comparison.oddities or comparison.lacks) and not layout.quiet:
        yield from _odd_ones(comparison)
    full = [one for one in comparison.recurring if _is_full(one, layout)]
    total = len(comparison.names)
    sets: dict[tuple[str, ...], list[Recurring]] = {}
    for one in full:
        sets.setdefault(one.nodes, []).append(one)
    for members in sets.values():
        yield Line(0, "", (Piece(where(members[0], total, comparison.noun), "bold underline"),))
        findings = [one.finding for one in members]
        other = {id(one.finding) for one in members if not one.alike}
        for heading, roots, tree in groups(
            findings, comparison.reports[comparison.names.index(members[0].nodes[0])], layout.grouping
        ):
            if layout.grouping == "code" or not heading.startswith(("node ", "the node")):
                yield Line(2, "", (Piece(heading, "bold"),))
            for root in roots:
                yield from finding_lines(root, 4)
                if id(root) in other:
                    yield Line(6, "", (Piece(f"as on {members[0].nodes[0]}; on other nodes the numbers differ", "dim"),))
                yield from consequences(root, tree, 6)
        yield _BLANK
    if layout.quiet:
        return
    yield from _short(
        comparison, "notes", [one for one in comparison.recurring if one not in full and one.finding.code != NOT_CHECKED]
    )
    yield from _short(comparison, "not checked", [one for one in comparison.recurring if one.finding.code == NOT_CHECKED])
    passed_over = list(passed_over_line(_passed_over(comparison.reports)))
    if passed_over:
        yield from (*passed_over, _BLANK)
    if layout.statistics:
        yield from statistics([finding for report in comparison.reports for finding in report.findings])
    if full:
        yield Line(0, "", (Piece(f"`ruleaudit explain {full[0].finding.code}` says more about a code.", "dim"),))
    if hidden is not None and hidden.count:
        yield Line(0, "", (Piece(hidden_text(hidden), "yellow"),))
    for notice in notices:
        yield Line(0, "", (Piece(notice, "yellow"),))
    yield nodes_summary(comparison, hidden)


def _passed_over(reports: Sequence[Report]) -> list[str]:
    """The inputs that nothing was made of: first those of single nodes, then what nodes have in common."""
    counts = Counter(one.path for report in reports for one in report.inputs if one.kind == "other")
    return sorted(counts, key=lambda path: (counts[path] > 1, natural(path)))


def where(one: Recurring, total: int, noun: str = "node") -> str:
    """On which of `total` nodes a finding is, in words: the shorter of those that have it and those that lack it are named."""
    count = len(one.nodes)
    if count == total > 1:
        return f"on both {noun}s" if total == 2 else f"on all {plural(total, noun)}"
    if count == 1:
        return f"on {one.nodes[0]} alone" if total > 1 else f"on {one.nodes[0]}"
    if len(one.lacking) * 3 <= total:
        return f"on {count:,} of {plural(total, noun)}: all but {listed(one.lacking)}"
    return f"on {count:,} of {plural(total, noun)}: {listed(one.nodes)}"


def listed(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _is_full(one: Recurring, layout: Layout) -> bool:
    return one.finding.code != NOT_CHECKED and (layout.notes or one.finding.severity is not Severity.INFO)


def _table(comparison: Comparison, *, every: bool) -> Iterator[Line]:
    """A row for each node; where not `every` one is wanted, many that nothing is wrong with are counted only."""
    quiet = () if every else _inconspicuous(comparison)
    left_out = frozenset(quiet if len(quiet) > _SHOWN else ())
    columns: list[tuple[str, Literal["left", "right"]]] = [
        ("node", "left"),
        ("errors", "right"),
        ("warnings", "right"),
        ("notes", "right"),
        ("unchecked", "right"),
        ("mode", "left"),
        ("layout", "left"),
    ]
    rows = []
    for name, report in zip(comparison.names, comparison.reports, strict=True):
        if name in left_out:
            continue
        counts = Counter(one.severity for one in report.findings if one.code != NOT_CHECKED)
        numbers = [f"{counts[severity]:,}" if counts[severity] else "-" for severity in Severity]
        rows.append((name, *numbers, unchecked_text(report), report.proxy.mode or "?", report.proxy.layout or "?"))
    widths = [max(len(title), *(len(row[at]) for row in rows)) if rows else len(title) for at, (title, _) in enumerate(columns)]
    styles = ("bold", "bold red", "bold yellow", "cyan", "yellow", "", "")

    def cells(row: Sequence[str]) -> Iterator[str]:
        for text, width, (_, side) in zip(row, widths, columns, strict=True):
            yield text.rjust(width) if side == "right" else text.ljust(width)

    if rows:
        yield Line(0, "", (Piece("  ".join(cells([title for title, _ in columns])).rstrip(), "dim"),))
    for row in rows:
        pieces = []
        for at, text in enumerate(cells(row)):
            pieces.append(Piece(("  " if at else "") + text, "" if row[at] == "-" else styles[at]))
        yield Line(0, "", tuple(pieces))
    if left_out:
        more = plural(len(left_out), "more node" if rows else "node")
        yield Line(0, "", (Piece(f"{more} without errors or warnings, none unlike the others; --statistics lists them", "dim"),))
    if rows or left_out:
        yield _BLANK


def _inconspicuous(comparison: Comparison) -> list[str]:
    """The names of the nodes without errors and warnings that are not unlike the others."""
    odd = {name for one in comparison.oddities for name, _ in one.nodes} | {one.node for one in comparison.lacks}
    return [
        name
        for name, report in zip(comparison.names, comparison.reports, strict=True)
        if name not in odd and not is_unchecked(report) and all(one.severity is Severity.INFO for one in report.findings)
    ]


def _odd_ones(comparison: Comparison) -> Iterator[Line]:
    """A line for each node that is unlike the others, or for several that are so alike: first what the rest follows from."""
    yield Line(0, "", (Piece("unlike the others", "bold underline"),))
    told: dict[str, list[str]] = {}
    for one in comparison.oddities:
        usual = f"the others have {one.usual}" if one.usual != _UNKNOWN else "not known of the others"
        for name, value in one.nodes:
            told.setdefault(name, []).append(f"{one.what} {value} ({usual})")
    for lack in comparison.lacks:
        told.setdefault(lack.node, []).append(f"lacks what the others have: {listed(lack.what)}")
    alike: dict[str, list[str]] = {}
    for name in comparison.names:
        if name in told:
            alike.setdefault("; ".join(told[name]), []).append(name)
    for text, names in alike.items():
        yield Line(2, "", (Piece(listed(names), "bold"), Piece(f": {text}")))
    yield _BLANK


def _short(comparison: Comparison, heading: str, members: Sequence[Recurring]) -> Iterator[Line]:
    if not members:
        return
    yield Line(0, "", (Piece(heading, "bold underline"),))
    by_code: dict[str, list[Recurring]] = {}
    for one in members:
        by_code.setdefault(one.finding.code, []).append(one)
    for code, found in sorted(by_code.items()):
        for one in found[:_NOTES]:
            on = Piece(f" ({where(one, len(comparison.names), comparison.noun)})", "dim")
            yield Line(2, "", (*short_finding(one.finding, titled=code != NOT_CHECKED), on))
        if len(found) > _NOTES:
            yield Line(2, "", (Piece(f"and {len(found) - _NOTES:,} more {code}; --format json gives them all", "dim"),))
    yield _BLANK


def unchecked_text(report: Report) -> str:
    """How much of a node was not checked: "all", a number of parts, or "-"."""
    if is_unchecked(report):
        return "all"
    return f"{_parts(report):,}" if _parts(report) else "-"


def _parts(report: Report) -> int:
    return sum(one.code == NOT_CHECKED for one in report.findings)


def nodes_summary(comparison: Comparison, hidden: Hidden | None = None) -> Line:
    """How much was found on how many nodes, and how much was not checked. `hidden` is what a selection left out."""
    nodes, reports = partial(plural, noun=comparison.noun), comparison.reports
    head = Piece(f"{nodes(comparison.count)}: ", "bold")
    counts = Counter(one.severity for report in reports for one in report.findings if one.code != NOT_CHECKED)
    touched = sum(any(one.severity is not Severity.INFO for one in report.findings) for report in reports)
    noted = sum(any(one.severity is Severity.INFO and one.code != NOT_CHECKED for one in report.findings) for report in reports)
    rest: list[Piece] = []
    if counts[Severity.INFO]:
        rest.append(Piece(f"; {plural(counts[Severity.INFO], 'note')} on {nodes(noted)}"))
    unchecked = comparison.unchecked
    if unchecked:
        rest.append(Piece(f"; {len(unchecked):,} of {nodes(comparison.count)} not checked: {listed(unchecked)}", "bold yellow"))
    parts = [count for report in reports if not is_unchecked(report) and (count := _parts(report))]
    if parts:
        rest.append(Piece(f"; {plural(sum(parts), 'part')} not checked on {nodes(len(parts))}"))
    if comparison.failures:
        rest.append(Piece(f"; {len(comparison.failures):,} not audited", "bold red"))
    if not reports:
        return Line(0, "", (head, Piece("none could be audited", "bold red")))
    if touched:
        worst = "bold red" if counts[Severity.ERROR] else "bold yellow"
        loud = severity_counts({one: counts[one] for one in (Severity.ERROR, Severity.WARNING)})
        return Line(0, "", (head, Piece(f"{', '.join(loud)} on {nodes(touched)}", worst), *rest))
    silence = silence_text(reports, hidden)
    if silence:
        return Line(0, "", (head, Piece(silence), *rest))
    checked = len(reports) - len(unchecked)
    if not checked:  # silence is no health
        return Line(0, "", (head, Piece("no Service was checked", "bold yellow"), *rest))
    found = "no faults found" + (f" on {nodes(checked)}" if checked < comparison.count else "")
    return Line(0, "", (head, Piece(found, "green"), *rest))
