"""The findings of one or several nodes as a page shows them: each once, by Service, causes before what follows from them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruleaudit.reports.evidence import NOT_CHECKED
from ruleaudit.reports.nodes import Recurring, where
from ruleaudit.reports.text import forest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.findings import Finding, Report
    from ruleaudit.reports.nodes import Comparison
    from ruleaudit.reports.text import Tree

__all__ = ["Entry", "Group", "Links", "grouped", "links", "on_nodes"]

_STOPPED = "RA505"


@dataclass(frozen=True, slots=True)
class Entry:
    """A finding, and the nodes that have it: said once where it is the same on several. `nodes`: positions among the reports."""

    finding: Finding
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of a Service; of the nodes themselves where `service` is None."""

    identifier: str
    service: str | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """By the fingerprint of a finding: its id on the page, what it is in short, and the fingerprints of those that follow from it."""

    identifiers: Mapping[str, str]
    titles: Mapping[str, str]
    followers: Mapping[str, Sequence[str]]


def grouped(reports: Sequence[Report]) -> list[Group]:
    """The findings by Service, the worst first; a group that others follow from before them. What was not checked is left out."""
    entries = list(_entries(reports))
    first: dict[str, Finding] = {}
    for entry in entries:
        first.setdefault(entry.finding.fingerprint, entry.finding)
    roots, tree = forest(list(first.values()))
    order = _Order(tree)
    place = {fingerprint: number for number, fingerprint in enumerate(order.walk(roots))}
    members: dict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.finding.service].append(entry)
    for found in members.values():
        found.sort(key=lambda entry: place[entry.finding.fingerprint])
    services = sorted(
        members,
        key=lambda service: (
            min(order.weight(entry.finding)[:3] for entry in members[service]),
            service is not None,
            service or "",
        ),
    )
    return [Group(f"g{number}", service, tuple(members[service])) for number, service in enumerate(services)]


def _entries(reports: Sequence[Report]) -> Iterator[Entry]:
    """Findings that read the same are one."""
    nodes: dict[tuple[object, ...], list[int]] = defaultdict(list)
    first: dict[tuple[object, ...], Finding] = {}
    for number, report in enumerate(reports):
        for one in report.findings:
            if one.code == NOT_CHECKED:
                continue
            key = (one.service, one.fingerprint, one.severity, one.certainty, one.message, one.expected, one.observed)
            first.setdefault(key, one)
            if number not in nodes[key][-1:]:
                nodes[key].append(number)
    return (Entry(one, tuple(nodes[key])) for key, one in first.items())


class _Order:
    """The order of findings: the worst first, where a finding is as bad as the worst that follows from it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.ranks: dict[str, int] = {}

    def rank(self, finding: Finding) -> int:
        """The rank of the worst severity among a finding and all that follow from it."""
        fingerprint = finding.fingerprint
        if fingerprint not in self.ranks:
            self.ranks[fingerprint] = finding.severity.rank  # for findings that follow from each other
            pending, worst, seen = [finding], finding.severity.rank, {fingerprint}
            while pending:
                one = pending.pop()
                worst = min(worst, one.severity.rank)
                for child in self.tree.get(one.fingerprint, ()):
                    if child.fingerprint not in seen:
                        seen.add(child.fingerprint)
                        pending.append(child)
            self.ranks[fingerprint] = worst
        return self.ranks[fingerprint]

    def weight(self, finding: Finding) -> tuple[bool, int, bool, str]:
        """Where a finding stands among others that follow from the same: the least is first."""
        return (finding.code != _STOPPED, self.rank(finding), finding.fingerprint not in self.tree, finding.code)

    def walk(self, roots: Sequence[Finding]) -> Iterator[str]:
        """The fingerprints of the roots, each followed by those of all that follows from it."""
        pending = sorted(roots, key=self.weight)[::-1]
        seen: set[str] = set()
        while pending:
            finding = pending.pop()
            if finding.fingerprint in seen:
                continue
            seen.add(finding.fingerprint)
            yield finding.fingerprint
            pending.extend(sorted(self.tree.get(finding.fingerprint, ()), key=self.weight)[::-1])


def links(groups: Sequence[Group]) -> Links:
    """How the findings of a page lead to each other."""
    identifiers: dict[str, str] = {}
    titles: dict[str, str] = {}
    followers: dict[str, dict[str, None]] = defaultdict(dict)
    for number, entry in enumerate(entry for group in groups for entry in group.entries):
        finding = entry.finding
        identifiers.setdefault(finding.fingerprint, f"f{number}")
        about = finding.endpoint or finding.service
        titles.setdefault(finding.fingerprint, f"{finding.code} {finding.name}{f' ({about})' if about else ''}")
        if finding.cause is not None and finding.cause != finding.fingerprint:
            followers[finding.cause][finding.fingerprint] = None
    return Links(identifiers, titles, {cause: tuple(found) for cause, found in followers.items()})


def on_nodes(finding: Finding, nodes: Sequence[int], comparison: Comparison, noun: str) -> str:
    """On which of the nodes a finding is, in words; `nodes`: their positions."""
    held = set(nodes)
    having = tuple(comparison.names[number] for number in nodes)
    lacking = tuple(name for number, name in enumerate(comparison.names) if number not in held)
    return where(Recurring(finding, having, lacking, True), len(comparison.names), noun)
