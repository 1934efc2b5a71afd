"""The part of the page that shows nodes beside each other: a table of them, who is unlike the others, and Services by nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ruleaudit.findings import Severity
from ruleaudit.reports.entries import on_nodes
from ruleaudit.reports.evidence import NOT_CHECKED, is_unchecked, plural
from ruleaudit.reports.markup import safe, table
from ruleaudit.reports.nodes import listed, unchecked_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Report
    from ruleaudit.reports.entries import Group
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.nodes import Comparison

__all__ = ["NOUNS", "nodes_section", "service_count", "services_section"]

NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_WIDE = 4
"""With more nodes than these, their names stand upright above narrow cells."""
_WIDEST = 12
"""With more nodes than these, a table by Service says on which of them: a column for each would fit neither screen nor sheet."""
_Counts = dict[tuple[str, int], Counter[Severity]]


# --- the nodes ---


def nodes_section(comparison: Comparison, context: Context) -> Iterator[str]:
    """The nodes as a table, those that could not be audited with the reason, and what some have otherwise than most."""
    yield f'<section aria-labelledby="nodes"><h2 id="nodes">{context.noun.capitalize()}s</h2>'
    columns = (context.noun, "#errors", "#warnings", "#notes", "#not checked", "mode", "layout", "#services")
    rows = [_node_row(name, report) for name, report in zip(comparison.names, comparison.reports, strict=True)]
    rows += [
        f'<tr class="failed"><th scope="row">{safe(one.path)}</th>'
        f'<td colspan="{len(columns) - 1}"><strong>not audited:</strong> {safe(one.error)}</td></tr>'
        for one in comparison.failures
    ]
    yield from table(plural(comparison.count, context.noun), columns, rows)
    if comparison.oddities:
        yield "<h3>Unlike the others</h3><ul>"
        for oddity in comparison.oddities:
            by_value: dict[str, list[str]] = defaultdict(list)
            for name, value in oddity.nodes:
                by_value[value].append(name)
            for value, names in by_value.items():
                told = f"{oddity.what} {value}; the others have {oddity.usual}"
                yield f"<li><strong>{safe(listed(names))}</strong>: {safe(told)}</li>"
        yield "</ul>"
    yield "</section>"


def _node_row(name: str, report: Report) -> str:
    counts = Counter(one.severity for one in report.findings if one.code != NOT_CHECKED)
    numbers = {severity.value: f"{counts[severity]:,}" if counts[severity] else "-" for severity in NOUNS}
    cells = "".join(
        f'<td class="number{f" count-{kind}" if number != "-" else ""}">{number}</td>'
        for kind, number in (*numbers.items(), ("unchecked", unchecked_text(report)))
    )
    facts = f"<td>{safe(report.proxy.mode or '?')}</td><td>{safe(report.proxy.layout or '?')}</td>"
    return f'<tr><th scope="row">{safe(name)}</th>{cells}{facts}<td class="number">{report.services:,}</td></tr>'


# --- Services by nodes ---


def services_section(comparison: Comparison, groups: Sequence[Group], context: Context) -> Iterator[str]:
    """Services by nodes, or with many nodes Services with where they have findings; those without stand below, by name."""
    noun = context.noun
    names = [*comparison.names, *(one.path for one in comparison.failures)]
    yield f'<section aria-labelledby="matrix"><h2 id="matrix">Services{f" by {noun}" if len(names) > 1 else ""}</h2>'
    services = {service for report in comparison.reports for service in report.service_names}
    if groups:
        yield from (
            _list(comparison, groups, services, noun) if len(names) > _WIDEST else _matrix(comparison, groups, services, noun)
        )
    clean = sorted(services - {group.service for group in groups if group.service is not None})
    if clean:
        aside = bool(context.hidden and context.hidden.count) or any(report.suppressed for report in comparison.reports)
        shown = " that are shown" if aside else ""
        yield f"<details><summary>{len(clean):,} of {plural(len(services), 'service')} without findings{shown}</summary>"
        if unsure := _unsure(comparison):
            yield f'<p class="soft">Not everything was checked on {safe(listed(unsure))}: no findings there is no proof of health.</p>'
        yield '<p class="soft">Those that need no rules, such as headless Services, are among them.</p>'
        yield f'<ul class="clean">{"".join(f"<li>{safe(service)}</li>" for service in clean)}</ul></details>'
    yield "</section>"


def service_count(reports: Sequence[Report]) -> tuple[int, int]:
    """How many Services the objects hold, and how many of them need rules: as many where nodes differ in what they were given."""
    needing = max((report.services for report in reports), default=0)
    held = {report.service_names for report in reports}
    count = len(set().union(*held)) or needing
    return count, needing if len(held) == 1 else count


def _unsure(comparison: Comparison) -> list[str]:
    """The names of the nodes whose silence does not mean that all is well."""
    names = [name for name, report in zip(comparison.names, comparison.reports, strict=True) if _silent(report)]
    return names + [one.path for one in comparison.failures]


def _silent(report: Report) -> str:
    """What an empty cell of the node says: "not checked", "partly", or "" where all was checked."""
    if is_unchecked(report):
        return "not checked"
    return "partly" if any(one.code == NOT_CHECKED for one in report.findings) else ""


def _matrix(comparison: Comparison, groups: Sequence[Group], services: set[str], noun: str) -> Iterator[str]:
    names = [*comparison.names, *(one.path for one in comparison.failures)]
    silent = [*(_silent(report) for report in comparison.reports), *("not checked" for _ in comparison.failures)]
    wide = len(names) > _WIDE
    yield from _legend(silent, wide, noun)
    heads = "".join(f'<th scope="col" class="node"><span>{safe(name)}</span></th>' for name in names)
    yield f'<div class="scroll matrix{" wide" if wide else ""}" tabindex="0" role="region" aria-labelledby="matrix"><table>'
    yield f'<thead><tr><th scope="col">service</th>{heads}</tr></thead><tbody>'
    counts = _counts(groups)
    for group in groups:
        cells = "".join(
            _cell(group.identifier, counts.get((group.identifier, number)), without, wide)
            for number, without in enumerate(silent)
        )
        yield f'<tr data-group="{group.identifier}">{_service_head(group, services, noun)}{cells}</tr>'
    yield "</tbody></table></div>"


def _legend(silent: Sequence[str], wide: bool, noun: str) -> Iterator[str]:
    parts = ["Each number leads to the findings", f"an empty cell has none{' and was checked' if any(silent) else ''}"]
    if wide:
        parts.append("E, W and N are errors, warnings and notes")
    if "partly" in silent:
        parts.append(f'<b>partly</b>: none found, and <a href="#not-checked">parts of the {noun} were not checked</a>')
    if "not checked" in silent:
        parts.append(f"<b>not checked</b>: nothing is known of the Service on this {noun}")
    yield f'<p class="soft legend">{"; ".join(parts)}.</p>'


def _counts(groups: Sequence[Group]) -> _Counts:
    counts: _Counts = defaultdict(Counter)
    for group in groups:
        for entry in group.entries:
            for node in entry.nodes:
                counts[group.identifier, node][entry.finding.severity] += 1
    return counts


def _service_head(group: Group, services: set[str], noun: str) -> str:
    unknown = group.service is not None and services and group.service not in services
    note = ' <span class="soft">(not among the objects)</span>' if unknown else ""
    return f'<th scope="row">{safe(group.service or f"the {noun} itself")}{note}</th>'


def _cell(identifier: str, counts: Counter[Severity] | None, silent: str, wide: bool) -> str:
    if not counts:
        return f'<td class="cell{" unsure" if silent else ""}">{silent}</td>'
    worst = min(counts, key=lambda severity: severity.rank)
    text = ", ".join(plural(counts[severity], noun) for severity, noun in NOUNS.items() if counts[severity])
    if not wide:
        return f'<td class="cell"><a class="worst-{worst.value}" href="#{identifier}">{text}</a></td>'
    short = " ".join(f"{counts[severity]:,}{noun[0].upper()}" for severity, noun in NOUNS.items() if counts[severity])
    return f'<td class="cell"><a class="worst-{worst.value}" href="#{identifier}" aria-label="{text}" title="{text}">{short}</a></td>'


def _list(comparison: Comparison, groups: Sequence[Group], services: set[str], noun: str) -> Iterator[str]:
    """A row for each Service: how many different findings it has, and on which nodes."""
    if unsure := _unsure(comparison):
        yield (
            f'<p class="soft legend">Not everything was checked on {plural(len(unsure), noun)}: {safe(listed(unsure))}. '
            "That none is found there is no proof of health.</p>"
        )
    rows = [
        f'<tr data-group="{group.identifier}">{_service_head(group, services, noun)}'
        f"{_cell(group.identifier, Counter(entry.finding.severity for entry in group.entries), '', wide=False)}"
        f"<td>{safe('; '.join(_where(group, comparison, noun)))}</td></tr>"
        for group in groups
    ]
    yield from table(f"Services by {noun}", ("service", "findings", "where"), rows, "matrix")


def _where(group: Group, comparison: Comparison, noun: str) -> Iterator[str]:
    """Of each severity that a Service has findings of, on which nodes it has them."""
    for severity, kind in NOUNS.items():
        found = [entry for entry in group.entries if entry.finding.severity is severity]
        if found:
            nodes = sorted({node for entry in found for node in entry.nodes})
            yield f"{kind}{'' if len(found) == 1 else 's'} {on_nodes(found[0].finding, nodes, comparison, noun)}"
