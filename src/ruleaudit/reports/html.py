"""A page for people: one file that needs nothing else, works offline, and runs no script but its own filters.

The page is whole without its script, which only filters. Its Content-Security-Policy allows the one style and the one script by
their hashes and nothing else; everything that an input holds is printable text, escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING

from ruleaudit import __version__
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity
from ruleaudit.reports.drawing import drawing
from ruleaudit.reports.entries import grouped, links, on_nodes
from ruleaudit.reports.evidence import NOT_CHECKED, node_name, object_name, plural, subject, telling
from ruleaudit.reports.html_nodes import NOUNS, nodes_section, service_count, services_section
from ruleaudit.reports.markup import prose, safe, table
from ruleaudit.reports.nodes import compared, nodes_summary
from ruleaudit.reports.text import plain, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.findings import Finding, Location, Report
    from ruleaudit.reports.entries import Entry, Group, Links
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.nodes import Comparison

__all__ = ["html_report"]

_OPEN = 10
"""With no more findings than these, all are shown open."""
_LINES = 40
_FOLLOWERS = 10


def html_report(reports: Sequence[Report], context: Context) -> str:
    """The page, with a line feed at its end. Of several nodes it shows what the comparison of `context` has beside their reports."""
    comparison = context.comparison or compared(reports)
    groups = grouped(reports)
    entries = [entry for group in groups for entry in group.entries]
    several = len(reports) > 1 or bool(comparison.failures)
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    page = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta name="generator" content="ruleaudit {__version__}">',
        f"<title>ruleaudit: {safe(_title(comparison))}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#findings">Skip to the findings</a>',
        *_head(comparison, context),
        *(nodes_section(comparison, context) if several else ()),
        *services_section(comparison, groups, context),
        '<main id="findings" tabindex="-1">',
        "<h2>Findings</h2>",
        *(_filters(comparison, entries, context) if entries else ["<p>None.</p>"]),
        *_findings(comparison, groups, context),
        "</main>",
        *_not_checked(comparison, context),
        *_inputs(reports),
        *_codes(reports),
        f'<footer><p class="soft">ruleaudit {__version__}</p></footer>',
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(page) + "\n"


def _title(comparison: Comparison) -> str:
    """The names of the first nodes."""
    names = [node_name(comparison.reports[0])] if len(comparison.names) == 1 else list(comparison.names)
    names += [one.path for one in comparison.failures]
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _asset(name: str) -> str:
    return files("ruleaudit.reports").joinpath("page", name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The text of a style or script element as a source of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- the head and the summary ---


def _head(comparison: Comparison, context: Context) -> Iterator[str]:
    reports = comparison.reports
    yield "<header>"
    if comparison.count == 1 and reports:
        yield f"<h1>ruleaudit: {safe(node_name(reports[0]))}</h1>"
        yield f"<p>{safe(plain([summary_line(reports[0], context.hidden)]).strip())}</p>"
    else:
        yield f"<h1>ruleaudit: {plural(comparison.count, context.noun)}</h1>"
        yield f"<p>{safe(plain([nodes_summary(comparison, context.hidden)]).strip())}</p>"
    for notice in context.notices:
        yield f"<p><strong>{safe(notice)}</strong></p>"
    yield from _tiles(comparison)
    if any(report.findings for report in reports):
        yield "<h2>Summary</h2>"
        yield from table("Findings by code", ("code", "severity", "#findings", "#services"), list(_code_rows(reports)))
    yield "</header>"


def _tiles(comparison: Comparison) -> Iterator[str]:
    """The counts of the whole: each finding as often as nodes have it."""
    findings = [one for report in comparison.reports for one in report.findings]
    counts = Counter(one.severity for one in findings if one.code != NOT_CHECKED)
    unchecked = sum(one.code == NOT_CHECKED for one in findings)
    yield '<ul class="tiles">'
    for severity, noun in NOUNS.items():
        kind = severity.value if counts[severity] else "none"
        yield f'<li class="{kind}"><b>{counts[severity]:,}</b> {noun}{"" if counts[severity] == 1 else "s"}</li>'
    yield (
        f'<li><b>{unchecked:,}</b> <a href="#not-checked">not checked</a></li>' if unchecked else "<li><b>0</b> not checked</li>"
    )
    if comparison.failures:
        yield f'<li class="error"><b>{len(comparison.failures):,}</b> <a href="#nodes">not audited</a></li>'
    services, needing = service_count(comparison.reports)
    yield f"<li><b>{services:,}</b> services{f', {needing:,} need rules' if needing != services else ''}</li>"
    yield "</ul>"


def _code_rows(reports: Sequence[Report]) -> Iterator[str]:
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


# --- the findings ---


def _filters(comparison: Comparison, entries: Sequence[Entry], context: Context) -> Iterator[str]:
    severities = [severity for severity in Severity if any(entry.finding.severity is severity for entry in entries)]
    codes = sorted({entry.finding.code for entry in entries})
    namespaces = sorted({_namespace(entry.finding.service) for entry in entries} - {""})
    yield '<form id="filters" hidden aria-label="Filters">'
    yield "<fieldset><legend>severity</legend>"
    for severity in severities:
        yield f'<label><input type="checkbox" name="severity" value="{severity.value}" checked>{NOUNS[severity]}s</label>'
    yield "</fieldset>"
    yield _choice("code", "code", [(code, f"{code} {CATALOGUE[code].name}") for code in codes])
    yield _choice("namespace", "namespace", [(namespace, namespace) for namespace in namespaces])
    if len(comparison.names) > 1:
        yield _choice("node", context.noun, [(str(number), name) for number, name in enumerate(comparison.names)])
    yield '<label class="wide">text<input type="search" name="text" autocomplete="off" spellcheck="false"></label>'
    yield '<button type="reset">Reset</button><button type="button" id="open">Open all</button>'
    yield '<button type="button" id="close">Close all</button>'
    yield '<output id="shown" aria-live="polite"></output></form>'


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{safe(value)}">{safe(text)}</option>' for value, text in options)
    return f'<label>{label}<select name="{name}" id="{name}"><option value="">all</option>{items}</select></label>'


def _findings(comparison: Comparison, groups: Sequence[Group], context: Context) -> Iterator[str]:
    is_open = sum(len(group.entries) for group in groups) <= _OPEN
    ways = links(groups)
    used: set[str] = set()
    for group in groups:
        heading = f"service {group.service}" if group.service is not None else f"the {context.noun} itself"
        yield f'<section class="group" id="{group.identifier}"><h3>{safe(heading)}</h3>'
        for entry in group.entries:
            identifier = ways.identifiers[entry.finding.fingerprint]
            attributes = ("" if identifier in used else f' id="{identifier}"') + (" open" if is_open else "")
            yield from _finding(entry, attributes, _facts(entry, comparison, ways, context), several=len(comparison.names) > 1)
            used.add(identifier)
        yield "</section>"


def _finding(entry: Entry, attributes: str, facts: Iterable[str], *, several: bool) -> Iterator[str]:
    finding = entry.finding
    nodes = f' data-nodes="{" ".join(map(str, entry.nodes))}"' if several else ""
    yield (
        f'<details class="finding {finding.severity.value}"{attributes} '
        f'data-severity="{finding.severity.value}" data-code="{finding.code}" '
        f'data-namespace="{safe(_namespace(finding.service))}"{nodes}>'
    )
    possible = ' <span class="tag">possible</span>' if finding.certainty is Certainty.POSSIBLE else ""
    yield (
        f'<summary><span class="badge {finding.severity.value}">{finding.severity.value}</span> '
        f"{finding.code} {finding.name}:{possible} {safe(subject(finding) + finding.message)}</summary>"
    )
    svg = drawing(finding)
    yield f'<div class="body{" drawn" if svg else ""}"><div>'
    yield from facts
    yield "</div>"
    if svg:
        unseen = '<p class="soft">Dashed: none of these lines leads there.</p>' if 'class="way unseen"' in svg else ""
        yield f'<figure class="shown"><h4>the way of a connection</h4>{svg}{unseen}</figure>'
    yield "<div>"
    yield from _evidence(finding)
    yield "</div></div></details>"


def _namespace(service: str | None) -> str:
    return "" if service is None else service.partition("/")[0]


def _facts(entry: Entry, comparison: Comparison, ways: Links, context: Context) -> Iterator[str]:
    finding = entry.finding
    facts: list[tuple[str, str, str]] = []
    if len(comparison.names) > 1:
        facts.append(("where", "", safe(on_nodes(finding, entry.nodes, comparison, context.noun))))
    if finding.expected:
        facts.append(("expected", "expected", safe(finding.expected)))
    if finding.observed:
        facts.append(("observed", "observed", safe(finding.observed)))
    if finding.objects:
        facts.append(("objects", "", ", ".join(safe(object_name(one)) for one in finding.objects)))
    if finding.certainty is Certainty.POSSIBLE:
        facts.append(("possible", "", "it rests on a rule or an input that is not modelled or not given"))
    if finding.cause is not None and finding.cause in ways.identifiers:
        facts.append(("follows from", "", _link(finding.cause, ways)))
    followers = [fingerprint for fingerprint in ways.followers.get(finding.fingerprint, ()) if fingerprint in ways.identifiers]
    if followers:
        more = f" and {len(followers) - _FOLLOWERS:,} more" if len(followers) > _FOLLOWERS else ""
        facts.append(("leads to", "", ", ".join(_link(one, ways) for one in followers[:_FOLLOWERS]) + more))
    if finding.hint:
        facts.append(("to do", "", prose(finding.hint)))
    facts.append(("more", "", f'<a href="#{finding.code}">about {finding.code}</a>'))
    yield "<dl>"
    yield from (f"<dt>{label}</dt><dd{f' class={kind!r}' if kind else ''}>{text}</dd>" for label, kind, text in facts)
    yield "</dl>"


def _link(fingerprint: str, ways: Links) -> str:
    return f'<a href="#{ways.identifiers[fingerprint]}">{safe(ways.titles[fingerprint])}</a>'


def _evidence(finding: Finding) -> Iterator[str]:
    by_file: dict[str, list[Location]] = defaultdict(list)
    for location in telling(finding)[:_LINES]:
        by_file[location.file].append(location)
    for file, locations in by_file.items():
        numbers = sorted({one.line for one in locations if not one.text and one.line > 1})
        yield f"<h4>{safe(file)}{''.join(f', line {number}' for number in numbers)}</h4>"
        lines = [one for one in locations if one.text]  # a place without a text is a file, or an entry of one that is not quoted
        if lines:
            yield f'<ul class="lines">{"".join(_line(finding, one) for one in lines)}</ul>'
    if len(finding.locations) > _LINES:
        yield f'<p class="soft">and {len(finding.locations) - _LINES:,} more lines; --format json has all of them</p>'


def _line(finding: Finding, location: Location) -> str:
    named = finding.endpoint is not None and finding.endpoint in location.text
    number = f"{location.line}:" if location.line else ""
    return f"<li{' class=names' if named else ''}><i>{number}</i> {safe(location.text)}</li>"


# --- the rest ---


def _not_checked(comparison: Comparison, context: Context) -> Iterator[str]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    first: dict[tuple[str, str], Finding] = {}
    for number, report in enumerate(comparison.reports):
        for finding in report.findings:
            if finding.code == NOT_CHECKED:
                key = subject(finding) + finding.message, finding.hint
                first.setdefault(key, finding)
                if number not in found[key][-1:]:
                    found[key].append(number)
    if not found:
        return
    yield '<section><h2 id="not-checked">Not checked</h2><ul>'
    for (message, hint), nodes in found.items():
        on = f" ({safe(on_nodes(first[message, hint], nodes, comparison, context.noun))})" if len(comparison.names) > 1 else ""
        yield f"<li>{safe(message)}{on}{f': {prose(hint)}' if hint else ''}</li>"
    yield "</ul></section>"


def _inputs(reports: Sequence[Report]) -> Iterator[str]:
    yield "<section><h2>Inputs</h2>"
    rows = [
        f'<tr><th scope="row">{safe(one.path)}</th><td>{safe(one.kind)}{f", IPv{one.family}" if one.family else ""}'
        f'{"" if one.used else ", not used"}</td><td class="number">{one.lines:,}</td></tr>'
        for one in dict.fromkeys(source for report in reports for source in report.inputs)
    ]
    yield from table("Inputs", ("file", "what it is", "#lines"), rows)
    yield from _unique(_proxy(report) for report in reports)
    yield "</section>"


def _proxy(report: Report) -> str:
    proxy = report.proxy
    facts = [
        ("mode", proxy.mode), ("layout", proxy.layout), ("cluster CIDR", ", ".join(proxy.cluster_cidr)),
        ("local traffic by", proxy.local_detection), ("masquerade mark", proxy.masquerade_mark),
        ("node port addresses", ", ".join(proxy.nodeport_addresses)), ("inferred from the rules", ", ".join(proxy.inferred)),
    ]  # fmt: skip
    told = "; ".join(f"{label} {safe(value)}" for label, value in facts if value)
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
        yield f'<h3 id="{code}">{code} {entry.name}</h3><p>{prose(entry.meaning)}</p>'
        for title, text in (("Why it matters", entry.why), ("What to do", entry.action), ("Exceptions", entry.exceptions)):
            if text:
                yield f"<p><strong>{title}.</strong> {prose(text)}</p>"
    yield "</section>"
