"""A page for people: one file that needs nothing else, works offline, and runs no script but its own filters.

The page is whole without its script, which only filters. Its Content-Security-Policy allows the one style and the one script by
their hashes and nothing else; everything that an input holds is printable text, escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from ruleaudit import __version__
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity
from ruleaudit.reports.drawing import drawing
from ruleaudit.reports.evidence import node_name, object_name, plural, subject, telling
from ruleaudit.reports.printable import printable
from ruleaudit.reports.text import plain, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ruleaudit.findings import Finding, Location, Report
    from ruleaudit.reports.evidence import Context

__all__ = ["html_report"]

_NOT_CHECKED = "RA004"
_STOPPED = "RA505"
_Key = tuple[str | None, str, Severity, Certainty, str, str, str]
_OPEN = 10
"""With no more findings than these, all are shown open."""
_LINES = 40
_NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A finding, and the nodes that have it: said once where it is the same on several. `nodes`: positions among the reports."""

    finding: Finding
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """The findings of a Service; of the nodes themselves where `service` is None."""

    identifier: str
    service: str | None
    entries: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class _Links:
    """By the fingerprint of a finding: its id on the page, its code and name, and how many others follow from it."""

    identifiers: Mapping[str, str]
    titles: Mapping[str, str]
    followers: Counter[str | None]


def html_report(reports: Sequence[Report], context: Context) -> str:
    """The page, with a line feed at its end."""
    groups = _groups(reports)
    entries = [entry for group in groups for entry in group.entries]
    titles = {entry.finding.fingerprint: f"{entry.finding.code} {entry.finding.name}" for entry in entries}
    followers = Counter(entry.finding.cause for entry in entries)
    identifiers = {entry.finding.fingerprint: f"f{number}" for number, entry in reversed(list(enumerate(entries)))}
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    names = ", ".join(node_name(report) for report in reports[:3]) + (
        f" and {len(reports) - 3:,} more" if len(reports) > 3 else ""
    )
    page = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta name="generator" content="ruleaudit {__version__}">',
        f"<title>ruleaudit: {_text(names)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#findings">Skip to the findings</a>',
        *_head(reports, context),
        *_matrix(reports, groups),
        '<main id="findings" tabindex="-1">',
        "<h2>Findings</h2>",
        *(_filters(reports, entries) if entries else ["<p>None.</p>"]),
        *_findings(reports, groups, _Links(identifiers, titles, followers)),
        "</main>",
        *_not_checked(reports),
        *_inputs(reports),
        *_codes(reports),
        f'<footer><p class="soft">ruleaudit {__version__}</p></footer>',
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(page) + "\n"


def _asset(name: str) -> str:
    return files("ruleaudit.reports").joinpath("page", name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The text of a style or script element as a source of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(text: str) -> str:
    """Text of an input, for an element or an attribute: printable, so that it can neither reverse nor hide what stands beside it."""
    return html.escape(printable(text))


def _prose(text: str) -> str:
    """Text that may hold code between backticks, as hints do."""
    spans = text.split("`")
    if len(spans) % 2 == 0:
        return _text(text)
    return "".join(f"<code>{_text(span)}</code>" if number % 2 else _text(span) for number, span in enumerate(spans))


# --- what is shown together ---


def _groups(reports: Sequence[Report]) -> list[_Group]:
    """The findings by Service, those of the nodes first, then the worst first. What was not checked is told elsewhere."""
    nodes: dict[_Key, list[int]] = defaultdict(list)
    first: dict[_Key, Finding] = {}
    for number, report in enumerate(reports):
        for finding in report.findings:
            if finding.code == _NOT_CHECKED:
                continue
            key: _Key = (
                finding.service, finding.fingerprint, finding.severity, finding.certainty, finding.message, finding.expected,
                finding.observed,
            )  # fmt: skip
            first.setdefault(key, finding)
            if number not in nodes[key][-1:]:
                nodes[key].append(number)
    members: dict[str | None, list[_Entry]] = defaultdict(list)
    for key, finding in first.items():
        members[finding.service].append(_Entry(finding, tuple(nodes[key])))

    def weight(entry: _Entry) -> tuple[object, ...]:
        return (entry.finding.code != _STOPPED, entry.finding.severity.rank, entry.finding.code)

    for entries in members.values():
        entries.sort(key=weight)
    order = sorted(members, key=lambda service: (service is not None, weight(members[service][0])[1], service or ""))
    return [_Group(f"g{number}", service, tuple(members[service])) for number, service in enumerate(order)]


def _namespace(service: str | None) -> str:
    return "" if service is None else service.partition("/")[0]


# --- the head and the summary ---


def _head(reports: Sequence[Report], context: Context) -> Iterator[str]:
    yield "<header>"
    yield f"<h1>ruleaudit: {_text(node_name(reports[0])) if len(reports) == 1 else plural(len(reports), 'node')}</h1>"
    if len(reports) == 1:
        yield f"<p>{_text(plain([summary_line(reports[0], context.hidden)]).strip())}</p>"
    for notice in context.notices:
        yield f"<p><strong>{_text(notice)}</strong></p>"
    counts = Counter(one.severity for report in reports for one in report.findings if one.code != _NOT_CHECKED)
    unchecked = sum(one.code == _NOT_CHECKED for report in reports for one in report.findings)
    yield '<ul class="tiles">'
    for severity, noun in _NOUNS.items():
        kind = severity.value if counts[severity] else "none"
        yield f'<li class="{kind}"><b>{counts[severity]:,}</b> {noun}{"" if counts[severity] == 1 else "s"}</li>'
    yield (
        f'<li><b>{unchecked:,}</b> <a href="#not-checked">not checked</a></li>' if unchecked else "<li><b>0</b> not checked</li>"
    )
    yield f"<li><b>{max((report.services for report in reports), default=0):,}</b> services</li>"
    yield "</ul>"
    if any(report.findings for report in reports):
        yield '<h2>Summary</h2><div class="scroll" tabindex="0" role="region" aria-label="Findings by code"><table>'
        yield '<thead><tr><th scope="col">code</th><th scope="col">severity</th><th scope="col" class="number">findings</th>'
        yield '<th scope="col" class="number">services</th></tr></thead><tbody>'
        found: dict[str, list[Finding]] = defaultdict(list)
        for report in reports:
            for one in report.findings:
                found[one.code].append(one)
        for code, members in sorted(found.items(), key=lambda item: (min(one.severity.rank for one in item[1]), item[0])):
            services = {one.service for one in members if one.service}
            worst = min((one.severity for one in members), key=lambda severity: severity.rank)
            yield (
                f'<tr><th scope="row"><a href="#{code}">{code}</a> {CATALOGUE[code].name}</th><td>{worst.value}</td>'
                f'<td class="number">{len(members):,}</td><td class="number">{len(services) or "-"}</td></tr>'
            )
        yield "</tbody></table></div>"
    yield "</header>"


def _matrix(reports: Sequence[Report], groups: Sequence[_Group]) -> Iterator[str]:
    """Services by nodes: how many findings of each severity; Services without any stand below, by name."""
    counts: dict[tuple[str, int], Counter[Severity]] = defaultdict(Counter)
    for group in groups:
        for entry in group.entries:
            for node in entry.nodes:
                counts[group.identifier, node][entry.finding.severity] += 1
    yield '<section aria-labelledby="matrix"><h2 id="matrix">Services by node</h2>'
    if groups:
        yield '<p class="soft">Each number leads to the findings. An empty cell has none.</p>'
        yield '<div class="scroll matrix" tabindex="0" role="region" aria-labelledby="matrix"><table>'
        yield '<thead><tr><th scope="col">service</th>'
        yield from (f'<th scope="col" class="node">{_text(node_name(report))}</th>' for report in reports)
        yield "</tr></thead><tbody>"
        for group in groups:
            yield (
                f'<tr data-group="{group.identifier}"><th scope="row">{_text(group.service or "the node itself")}</th>'
                + "".join(_cell(group.identifier, counts.get((group.identifier, node))) for node in range(len(reports)))
                + "</tr>"
            )
        yield "</tbody></table></div>"
    services = {service for report in reports for service in report.service_names}
    clean = sorted(services - {group.service for group in groups if group.service is not None})
    if clean:
        yield f"<details><summary>{plural(len(clean), 'service')} without findings</summary>"
        yield '<p class="soft">Those that need no rules, such as headless Services, are among them.</p>'
        yield f'<ul class="clean">{"".join(f"<li>{_text(service)}</li>" for service in clean)}</ul></details>'
    yield "</section>"


def _cell(identifier: str, counts: Counter[Severity] | None) -> str:
    if not counts:
        return '<td class="cell"></td>'
    worst = min(counts, key=lambda severity: severity.rank)
    text = ", ".join(plural(counts[severity], noun) for severity, noun in _NOUNS.items() if counts[severity])
    return f'<td class="cell"><a class="worst-{worst.value}" href="#{identifier}">{text}</a></td>'


# --- the findings ---


def _filters(reports: Sequence[Report], entries: Sequence[_Entry]) -> Iterator[str]:
    severities = [severity for severity in Severity if any(entry.finding.severity is severity for entry in entries)]
    codes = sorted({entry.finding.code for entry in entries})
    namespaces = sorted({_namespace(entry.finding.service) for entry in entries} - {""})
    yield '<form id="filters" hidden aria-label="Filters">'
    yield "<fieldset><legend>severity</legend>"
    for severity in severities:
        yield f'<label><input type="checkbox" name="severity" value="{severity.value}" checked>{_NOUNS[severity]}s</label>'
    yield "</fieldset>"
    yield _choice("code", "code", [(code, f"{code} {CATALOGUE[code].name}") for code in codes])
    yield _choice("namespace", "namespace", [(namespace, namespace) for namespace in namespaces])
    if len(reports) > 1:
        yield _choice("node", "node", [(str(number), node_name(report)) for number, report in enumerate(reports)])
    yield '<label class="wide">text<input type="search" name="text" autocomplete="off" spellcheck="false"></label>'
    yield '<button type="reset">Reset</button><button type="button" id="open">Open all</button>'
    yield '<button type="button" id="close">Close all</button>'
    yield '<output id="shown" aria-live="polite"></output></form>'


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{_text(value)}">{_text(text)}</option>' for value, text in options)
    return f'<label>{label}<select name="{name}" id="{name}"><option value="">all</option>{items}</select></label>'


def _findings(reports: Sequence[Report], groups: Sequence[_Group], links: _Links) -> Iterator[str]:
    is_open = sum(len(group.entries) for group in groups) <= _OPEN
    used: set[str] = set()
    for group in groups:
        heading = f"service {group.service}" if group.service is not None else "the node itself"
        yield f'<section class="group" id="{group.identifier}"><h3>{_text(heading)}</h3>'
        for entry in group.entries:
            identifier = links.identifiers[entry.finding.fingerprint]
            yield from _finding(entry, reports, links, "" if identifier in used else f' id="{identifier}"', is_open)
            used.add(identifier)
        yield "</section>"


def _finding(entry: _Entry, reports: Sequence[Report], links: _Links, identifier: str, is_open: bool) -> Iterator[str]:
    finding = entry.finding
    nodes = f' data-nodes="{" ".join(map(str, entry.nodes))}"' if len(reports) > 1 else ""
    yield (
        f'<details class="finding {finding.severity.value}"{identifier}{" open" if is_open else ""} '
        f'data-severity="{finding.severity.value}" data-code="{finding.code}" '
        f'data-namespace="{_text(_namespace(finding.service))}"{nodes}>'
    )
    possible = ' <span class="tag">possible</span>' if finding.certainty is Certainty.POSSIBLE else ""
    yield (
        f'<summary><span class="badge {finding.severity.value}">{finding.severity.value}</span> '
        f"{finding.code} {finding.name}:{possible} {_text(subject(finding) + finding.message)}</summary>"
    )
    yield '<div class="body"><div class="told">'
    yield from _facts(entry, reports, links)
    yield from _evidence(finding)
    yield "</div>"
    svg = drawing(finding)
    if svg:
        yield f'<figure class="shown"><h4>the way of a connection</h4>{svg}</figure>'
    yield "</div></details>"


def _facts(entry: _Entry, reports: Sequence[Report], links: _Links) -> Iterator[str]:
    finding = entry.finding
    facts: list[tuple[str, str, str]] = []
    if len(reports) > 1:
        facts.append(("on", "", ", ".join(_text(node_name(reports[number])) for number in entry.nodes)))
    if finding.expected:
        facts.append(("expected", "expected", _text(finding.expected)))
    if finding.observed:
        facts.append(("observed", "observed", _text(finding.observed)))
    if finding.objects:
        facts.append(("objects", "", ", ".join(_text(object_name(one)) for one in finding.objects)))
    if finding.certainty is Certainty.POSSIBLE:
        facts.append(("possible", "", "it rests on a rule or an input that is not modelled or not given"))
    if finding.cause is not None and finding.cause in links.identifiers:
        facts.append(("follows from", "", f'<a href="#{links.identifiers[finding.cause]}">{links.titles[finding.cause]}</a>'))
    if links.followers[finding.fingerprint]:
        facts.append(("leads to", "", f"{plural(links.followers[finding.fingerprint], 'other finding')}"))
    if finding.hint:
        facts.append(("to do", "", _prose(finding.hint)))
    facts.append(("more", "", f'<a href="#{finding.code}">about {finding.code}</a>'))
    yield "<dl>"
    yield from (f"<dt>{label}</dt><dd{f' class={kind!r}' if kind else ''}>{text}</dd>" for label, kind, text in facts)
    yield "</dl>"


def _evidence(finding: Finding) -> Iterator[str]:
    by_file: dict[str, list[Location]] = defaultdict(list)
    for location in telling(finding)[:_LINES]:
        by_file[location.file].append(location)
    for file, locations in by_file.items():
        yield f'<h4>{_text(file)}</h4><ul class="lines">'
        for location in locations:
            names = finding.endpoint is not None and finding.endpoint in location.text
            number = f"{location.line}:" if location.line else ""
            yield f"<li{' class=names' if names else ''}><i>{number}</i> {_text(location.text)}</li>"
        yield "</ul>"
    if len(finding.locations) > _LINES:
        yield f'<p class="soft">and {len(finding.locations) - _LINES:,} more lines; --format json has all of them</p>'


# --- the rest ---


def _not_checked(reports: Sequence[Report]) -> Iterator[str]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for report in reports:
        for finding in report.findings:
            if finding.code == _NOT_CHECKED:
                found[subject(finding) + finding.message, finding.hint].append(node_name(report))
    if not found:
        return
    yield '<section><h2 id="not-checked">Not checked</h2><ul>'
    for (message, hint), nodes in found.items():
        where = f" ({_text(', '.join(nodes))})" if len(reports) > 1 else ""
        yield f"<li>{_text(message)}{where}{f': {_prose(hint)}' if hint else ''}</li>"
    yield "</ul></section>"


def _inputs(reports: Sequence[Report]) -> Iterator[str]:
    yield '<section><h2>Inputs</h2><div class="scroll" tabindex="0" role="region" aria-label="Inputs"><table>'
    yield '<thead><tr><th scope="col">file</th><th scope="col">what it is</th><th scope="col" class="number">lines</th></tr></thead><tbody>'
    for one in dict.fromkeys(source for report in reports for source in report.inputs):
        family = f", IPv{one.family}" if one.family else ""
        used = "" if one.used else ", not used"
        yield (
            f'<tr><th scope="row">{_text(one.path)}</th><td>{_text(one.kind)}{family}{used}</td>'
            f'<td class="number">{one.lines:,}</td></tr>'
        )
    yield "</tbody></table></div>"
    yield from _unique(_proxy(report) for report in reports)
    yield "</section>"


def _proxy(report: Report) -> str:
    proxy = report.proxy
    facts = [
        ("mode", proxy.mode), ("layout", proxy.layout), ("cluster CIDR", ", ".join(proxy.cluster_cidr)),
        ("local traffic by", proxy.local_detection), ("masquerade mark", proxy.masquerade_mark),
        ("node port addresses", ", ".join(proxy.nodeport_addresses)), ("inferred from the rules", ", ".join(proxy.inferred)),
    ]  # fmt: skip
    told = "; ".join(f"{label} {_text(value)}" for label, value in facts if value)
    return f'<p class="soft">kube-proxy: {told}</p>' if told else ""


def _unique(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in dict.fromkeys(texts) if text)


def _codes(reports: Sequence[Report]) -> Iterator[str]:
    codes = sorted({finding.code for report in reports for finding in report.findings})
    if not codes:
        return
    yield "<section><h2>What the codes mean</h2>"
    for code in codes:
        entry = CATALOGUE[code]
        yield f'<h3 id="{code}">{code} {entry.name}</h3><p>{_prose(entry.meaning)}</p>'
        for title, text in (("Why it matters", entry.why), ("What to do", entry.action), ("Exceptions", entry.exceptions)):
            if text:
                yield f"<p><strong>{title}.</strong> {_prose(text)}</p>"
    yield "</section>"
