"""What a report says of a finding, what proves it, and where it is said to be: shared by all reports.

Systems that show reports of linters want a file, a line and a fingerprint for every finding, unique within a report. Not every finding
of ruleaudit has a line: what is missing has none. Such a finding is put at the first line of the dump that it is missing from.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.findings import Certainty, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.findings import Finding, Location, ObjectReference, Report
    from ruleaudit.reports.nodes import Comparison
    from ruleaudit.reports.selection import Hidden

__all__ = [
    "NOT_CHECKED",
    "Anchor",
    "Context",
    "anchor",
    "facts",
    "is_unchecked",
    "node_name",
    "object_name",
    "occurrences",
    "place",
    "plural",
    "relative_path",
    "severity_counts",
    "statement",
    "subject",
    "telling",
    "title",
]

NOT_CHECKED = "RA004"
"""The code of what was not checked: reports tell it apart from what was found."""

_STDIN = "<stdin>"
_DUMP_KINDS = ("iptables-save",)
_RULE_KINDS = (*_DUMP_KINDS, "ipvsadm")
_NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


@dataclass(frozen=True, slots=True)
class Context:
    """What a report depends on beside its findings.

    `threshold`: findings of this severity or worse count as failures (`--fail-on`). `folder`: the absolute path of the working
    directory; files below it are named relative to it. `notices`: sentences for the reader about the report as a whole, such as how
    many findings are not shown. `hidden`: what a selection left out, None when nothing was: a report of which it left nothing is not
    clean. `comparison`: the nodes beside each other with those that could not be audited, None for a single one.
    """

    threshold: Severity = Severity.WARNING
    folder: str = "/"
    notices: tuple[str, ...] = ()
    hidden: Hidden | None = None
    comparison: Comparison | None = None

    @property
    def noun(self) -> str:
        """What each report is of: a node, or a fixture."""
        return "node" if self.comparison is None else self.comparison.noun

    def fails(self, finding: Finding) -> bool:
        """Whether the finding is at or above the threshold."""
        return finding.severity.rank <= self.threshold.rank


class Anchor(NamedTuple):
    """Where a finding is shown: the file as the user gave it, a 1-based line, the line's text ("" where the finding has no line)."""

    file: str
    line: int
    text: str


def telling(finding: Finding) -> list[Location]:
    """The dump lines, those first that name the endpoint concerned: the way there is the same for many findings."""
    names = [name for name in (finding.endpoint, finding.service) if name is not None]
    return sorted(finding.locations, key=lambda one: next((rank for rank, name in enumerate(names) if name in one.text), 2))


def anchor(finding: Finding, report: Report) -> Anchor | None:
    """Where to show the finding; None where the report has no input at all."""
    for location in telling(finding):
        return Anchor(location.file, max(location.line, 1), location.text)
    family = None if finding.frontend is None else finding.frontend.family
    dumps = [one for one in report.inputs if one.used and one.kind in _DUMP_KINDS]
    candidates = [*(one for one in dumps if family in (None, one.family)), *dumps, *report.inputs]
    return Anchor(candidates[0].path, 1, "") if candidates else None


def relative_path(file: str, folder: str) -> str:
    """`file` relative to `folder` (an absolute path) where it lies below it, else its absolute path. Standard input is "stdin"."""
    if file == _STDIN:
        return "stdin"
    path = posixpath.normpath(posixpath.join(folder, file))
    base = folder.rstrip("/") + "/"
    return path.removeprefix(base)


def occurrences(reports: Sequence[Report]) -> Iterator[tuple[Report, Finding, str]]:
    """Every finding of every report with a fingerprint that no other one has: of its node and of what the finding is about.

    It is the same in the next report of the same node. Two findings of a report that are about the same thing are counted.
    """
    seen: Counter[str] = Counter()
    for report in reports:
        for finding in report.findings:
            text = f"{report.node or ''}\0{finding.fingerprint}".encode("utf-8", "surrogatepass")
            fingerprint = hashlib.sha256(text).hexdigest()[:32]
            seen[fingerprint] += 1
            yield report, finding, f"{fingerprint}:{seen[fingerprint]}"


def subject(finding: Finding) -> str:
    """The Service, where the message does not name it itself: "shop/web: ", else ""."""
    return f"{finding.service}: " if finding.service and finding.service not in finding.message else ""


def statement(finding: Finding) -> str:
    """What is the matter, in one sentence that names the Service."""
    return subject(finding) + finding.message


def title(finding: Finding) -> str:
    """The code, its name, and whether it is only possible: "RA206 stale-endpoint (possible)"."""
    possible = " (possible)" if finding.certainty is Certainty.POSSIBLE else ""
    return f"{finding.code} {finding.name}{possible}"


def facts(finding: Finding, objects: int | None = None) -> Mapping[str, str]:
    """What a report says of a finding beside its statement and its lines, by label and in the order of telling; what there is not is left out.

    The labels are "expected", "observed", "objects", "possible" and "to do". `objects`: so many of them are named before the rest is
    counted, None: all.
    """
    shown = finding.objects[:objects]
    more = len(finding.objects) - len(shown)
    told = {
        "expected": finding.expected,
        "observed": finding.observed,
        "objects": ", ".join(map(object_name, shown)) + (f" and {more:,} more" if more else ""),
        "possible": "it rests on a rule or an input that is not modelled or not given"
        if finding.certainty is Certainty.POSSIBLE
        else "",
        "to do": finding.hint,
    }
    return {label: text for label, text in told.items() if text}


def place(location: Location) -> str:
    """A location as "file:line", or the file alone where the whole of it is meant."""
    return f"{location.file}:{location.line}" if location.line else location.file


def object_name(one: ObjectReference) -> str:
    """An object as people name it: "Service shop/web", "Node node-a"."""
    return f"{one.kind} {one.namespace}/{one.name}" if one.namespace else f"{one.kind} {one.name}"


def node_name(report: Report) -> str:
    """The node's name, or words where there is none."""
    return report.node or "unnamed node"


def plural(number: int, noun: str) -> str:
    """A number with its noun: "1 finding", "2,000 findings"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def severity_counts(counts: Mapping[Severity, int]) -> list[str]:
    """The counts that are not zero, the worst first: "2 errors", "1 note"."""
    return [plural(counts[severity], noun) for severity, noun in _NOUNS.items() if counts.get(severity)]


def is_unchecked(report: Report) -> bool:
    """Whether nothing of the node was checked: its silence is no health.

    No frontend of any Service was asked, or, where no object says which there are, no rule was given.
    """
    if report.services:
        return not report.frontends
    return bool(report.inputs) and not any(one.used and one.kind in _RULE_KINDS for one in report.inputs)
