"""What does not count: findings that the configuration ignores, and those that a baseline knows. Nothing of it is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ruleaudit.findings import Suppressed
from ruleaudit.near import did_you_mean, near_matches
from ruleaudit.rechecked import is_rechecked
from ruleaudit.reports.evidence import plural
from ruleaudit.reports.selection import Hidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from ruleaudit.baseline import Baseline, Known
    from ruleaudit.configuration import Ignore
    from ruleaudit.findings import Report

__all__ = ["Aside", "put_aside"]

_SHOWN: Final = 5
_NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Aside:
    """`reports` without what does not count, which each holds as `suppressed`; and sentences on it for the reader."""

    reports: tuple[Report, ...]
    notices: tuple[str, ...]

    def hidden(self, before: Hidden) -> Hidden:
        """What is not shown, together with what was hidden before."""
        put = [one for report in self.reports for one in report.suppressed]
        if not put:
            return before
        severities = Counter(before.severities) + Counter(one.finding.severity for one in put)
        codes = Counter(before.codes) + Counter(one.finding.code for one in put)
        labels = dict.fromkeys("ignores of the configuration" if one.by == "ignore" else "baseline" for one in put)
        return Hidden(severities, dict(sorted(codes.items())), (*before.options, *labels))


def put_aside(
    reports: Sequence[Report],
    ignores: Sequence[Ignore],
    baseline: Baseline | None,
    today: date,
    everywhere: Mapping[str, str] = _NOWHERE,
) -> Aside:
    """Put aside what an ignore covers or the baseline knows. An ignore applies up to and including its last day.

    `everywhere`: beginnings of codes that the configuration ignores wherever they are, which a selection leaves out later, and where each
    stands: of those that begin no code of the reports it is said, too.
    """
    applying = [one for one in ignores if one.until is None or one.until >= today]
    used: set[int] = set()
    done = tuple(_of_report(report, applying, used, baseline) for report in reports)
    notices = [
        *_counts(done, baseline),
        *_expired([one for one in ignores if one not in applying]),
        *_unused([one for one in applying if id(one) not in used], reports),
        *_unused_everywhere(everywhere, reports),
        *(_gone(done, baseline) if baseline is not None else ()),
    ]
    return Aside(done, tuple(notices))


def _of_report(report: Report, ignores: Sequence[Ignore], used: set[int], baseline: Baseline | None) -> Report:
    known = {} if baseline is None else baseline.of(report.node)
    left = Counter({fingerprint: entry.count for fingerprint, entry in known.items()})
    kept = []
    suppressed = []
    for finding in report.findings:
        covering = [one for one in ignores if one.covers(finding, report.node)]
        used.update(map(id, covering))
        is_known = left[finding.fingerprint] > 0
        left[finding.fingerprint] -= is_known
        if covering:
            suppressed.append(Suppressed(finding, "ignore", covering[0].reason, covering[0].place))
        elif is_known and baseline is not None:
            suppressed.append(Suppressed(finding, "baseline", known[finding.fingerprint].reason, baseline.path))
        else:
            kept.append(finding)
    return replace(report, findings=tuple(kept), suppressed=(*report.suppressed, *suppressed))


def _counts(reports: Sequence[Report], baseline: Baseline | None) -> Iterator[str]:
    put = [one for report in reports for one in report.suppressed]
    by_place = Counter((one.place, one.reason) for one in put if one.by == "ignore")
    for (place, reason), count in by_place.items():
        yield f"{plural(count, 'finding')} ignored by {place}: {reason}"
    count = sum(one.by == "baseline" for one in put)
    if count and baseline is not None:
        yield f"{plural(count, 'known finding')} in the baseline {baseline.path}"


def _expired(ignores: Sequence[Ignore]) -> Iterator[str]:
    for one in ignores:
        yield f"{one.place}: the ignore of {one} ended on {one.until} and no longer applies ({one.reason})"


def _unused(ignores: Sequence[Ignore], reports: Sequence[Report]) -> Iterator[str]:
    """Of ignores that covered nothing, those that could have: not those of nodes that were not audited."""
    services = {name for report in reports for name in report.service_names}
    for one in ignores:
        if one.node is not None and not any(one.is_of(report.node) for report in reports):
            continue
        near = ""
        if one.service is not None and services and one.service not in services and not set(one.service) & set("*?["):
            near = f"; there is no Service {one.service} in the inputs{did_you_mean(near_matches(one.service, services, 1))}"
        yield f"{one.place}: the ignore of {one} covers no finding: delete it, or correct it{near}"


def _unused_everywhere(prefixes: Mapping[str, str], reports: Sequence[Report]) -> Iterator[str]:
    codes = {one.code for report in reports for one in (*report.findings, *(put.finding for put in report.suppressed))}
    for prefix, place in prefixes.items():
        if not any(code.startswith(prefix) for code in codes):
            yield f"{place}: the ignore of {prefix} covers no finding: delete it, or correct it"


def _gone(reports: Sequence[Report], baseline: Baseline) -> Iterator[str]:
    """What the baseline knows of the nodes and none of their reports holds: it is gone, or was not checked."""
    gone: list[Known] = []
    unchecked: list[Known] = []
    of_node: dict[str | None, list[Report]] = {}
    for report in reports:
        of_node.setdefault(report.node, []).append(report)
    for node, alike in of_node.items():
        found = {one.fingerprint for report in alike for one in (*report.findings, *(put.finding for put in report.suppressed))}
        for fingerprint, entry in baseline.of(node).items():
            if fingerprint not in found:
                (gone if all(is_rechecked(entry, report) for report in alike) else unchecked).append(entry)
    if gone:
        are = "is" if len(gone) == 1 else "are"
        what = f"{plural(len(gone), 'finding')} of the baseline {baseline.path} {are} gone"
        yield f"{what}: {_names(gone)}; --write-baseline writes it anew"
    if unchecked:
        were = "was" if len(unchecked) == 1 else "were"
        yield f"{plural(len(unchecked), 'finding')} of the baseline {baseline.path} {were} not checked now: {_names(unchecked)}"


def _names(entries: Sequence[Known]) -> str:
    return ", ".join(map(str, entries[:_SHOWN])) + (f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else "")
