"""The way of a connection, drawn as SVG: client, frontend, the chains on the way, the endpoints, and where it goes wrong.

A drawing is a ladder of boxes, as wide as a telephone, so that it is as readable there as beside the text on a large screen. It says
nothing in colour alone. Only presentation attributes and classes are used: a page with a strict Content-Security-Policy shows it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ruleaudit.reports.evidence import telling
from ruleaudit.reports.printable import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding

__all__ = ["Box", "boxes", "drawing"]

State = Literal["plain", "fault", "missing", "good"]

_WIDTH = 340
_CHARACTER = 7.3
_SMALL_CHARACTER = 6.4
"""Widths of a character of the title and of the note, in the fonts of page.css."""
_KINDS = {"": "", "note": ' class="note"', "mark": ' class="mark" text-anchor="end"'}
_ENDPOINTS = 8
_ENDPOINT = re.compile(r"(?<![\w.:\[])(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):(\d{1,5})(?![\w/.:])")
"""An endpoint, and no frontend: those have their protocol behind a slash."""
_RULE = re.compile(r"-A (\S+) (.*)", re.DOTALL)
_TARGET = re.compile(r"(?:^| )(?:-j|-g) (\S+)")
_DESTINATION = re.compile(r"--to-destination (\S+)")
_COMMENT = re.compile(r'(?:-m comment )?--comment (?:"(?:[^"\\]|\\.)*"|\S+) ?')
_DEPTHS: tuple[tuple[str, ...], ...] = (
    ("KUBE-SEP-",),
    ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"),
    ("KUBE-NODEPORTS",),
    ("KUBE-SERVICES",),
)
"""Prefixes of kube-proxy's chains (KPR 3), the deepest first."""
_ROOTS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "KUBE-SERVICES", "KUBE-NODEPORTS")
"""Chains that every packet, or every packet to a Service, meets: that nothing is seen to lead there says nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """A station of the way. `note` is the smaller second line. A faulty or missing one says why in `mark`.

    `reached` is False where no line of the finding leads to it.
    """

    title: str
    note: str = ""
    state: State = "plain"
    mark: str = ""
    reached: bool = True


@dataclass(frozen=True, slots=True)
class _Rule:
    chain: str
    target: str | None
    line: int
    text: str
    order: int
    endpoint: str | None = None


def drawing(finding: Finding) -> str:
    """The SVG element of a finding's way; "" where it has none: nothing of it is about traffic."""
    stations, ends = boxes(finding)
    if not stations:
        return ""
    parts: list[str] = []
    top = 1
    for number, box in enumerate(stations):
        if number:
            line = "way" if box.reached else "way lost"
            parts.append(f'<path class="{line}" d="M24 {top}v14"/><path class="way" d="M20 {top + 9}l4 5l4 -5"/>')
            top += 16
        text, height = _box(box, 1, top)
        parts.append(text)
        top += height
    for box in ends:
        middle = top + 18
        line = "way lost" if box.state == "missing" else "way"
        parts.append(f'<path class="{line}" d="M24 {top}V{middle}H38"/><path class="way" d="M33 {middle - 4}l5 4l-5 4"/>')
        text, height = _box(box, 40, top + 5)
        parts.append(text)
        top += height + 5
        if box is not ends[-1]:
            parts.append(f'<path class="way" d="M24 {middle}V{top}"/>')
    label = _text(", then ".join(_spoken(box) for box in (*stations, *ends)))
    return (
        f'<svg class="drawing" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {top + 2}" width="{_WIDTH}" height="{top + 2}">'
        f"{''.join(parts)}</svg>"
    )


def _box(box: Box, left: int, top: int) -> tuple[str, int]:
    """A box that reaches to the right edge, and its height: title and mark share a line where there is room for both."""
    width = _WIDTH - 1 - left
    room = int((width - 14) / _CHARACTER)
    beside = len(box.title) + len(box.mark) + 2 <= room
    texts = [("", left + 8, top + 17, shortened(box.title, room))]
    bottom = top + 17
    if box.note:
        bottom += 15
        texts.append(("note", left + 8, bottom, shortened(box.note, int((width - 14) / _SMALL_CHARACTER))))
    if box.mark:
        bottom += 0 if beside else 15
        texts.append(("mark", left + width - 6, top + 17 if beside else bottom, box.mark))
    drawn = "".join(f'<text{_KINDS[kind]} x="{x}" y="{y}">{_text(text)}</text>' for kind, x, y, text in texts)
    height = bottom - top + 9
    return f'<g class="{box.state}"><rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>{drawn}</g>', height


def _text(text: str) -> str:
    return html.escape(printable(text))


def _spoken(box: Box) -> str:
    return f"{box.title} ({box.mark.removeprefix('✕ ')})" if box.mark else box.title


# --- what is drawn ---


def boxes(finding: Finding) -> tuple[list[Box], list[Box]]:
    """The stations of the way in order, and where it ends: the endpoints, or what becomes of the connection instead.

    Both are empty for a finding about no traffic: it names no rule, no frontend and nothing that was observed.
    """
    rules = _rules(finding)
    path = _path(finding, rules)
    if not path and (finding.service is None or not (finding.frontend or finding.endpoint or finding.observed)):
        return [], []
    observed, expected = _endpoints(finding.observed), _endpoints(finding.expected)
    leaves = {rule.endpoint: rule for rule in rules if rule.endpoint is not None and rule.chain.startswith(_DEPTHS[0])}
    ends = [
        replace(box, note=f"line {leaves[box.title].line}: {leaves[box.title].chain}") if box.title in leaves else box
        for box in _ends(finding, expected, observed)
    ]
    leaf = path.pop() if len(path) > 1 and any(box.title == path[-1].endpoint for box in ends) else None
    rooted = not path or path[0].chain in _ROOTS
    stations = []
    if finding.service is not None or rooted:
        stations.append(Box("client", "a pod, the node itself or a host outside"))
    if finding.service is not None or finding.frontend is not None:
        stations.append(_frontend(finding))
    stations.extend(Box(rule.chain, f"line {rule.line}: {_COMMENT.sub('', rule.text)}") for rule in path)
    if leaf is not None and leaf.endpoint != finding.endpoint:  # none of the rules that spread over the endpoints tells more
        lines = [rule.line for rule in rules if rule.chain == path[-1].chain and (rule.target or "").startswith(_DEPTHS[0])]
        stations[-1] = replace(stations[-1], note=f"line {', '.join(map(str, sorted(set(lines))))}")
    if leaf is None and path and _leads_on(path[-1]) and not (ends and (path[-1].target or "").startswith(_DEPTHS[0])):
        stations.append(Box(path[-1].target or ""))
    refusal = _refusal(rules, path)
    if refusal:
        obstacle = [Box(rule.chain, f"line {rule.line}: {_COMMENT.sub('', rule.text)}") for rule in refusal]
        obstacle[-1] = replace(obstacle[-1], state="fault", mark="✕ here")
        # The hooks behind the routing decision see the packet after it was translated.
        at = len(stations) if refusal[0].chain in ("FORWARD", "INPUT", "POSTROUTING") else len(stations) - len(path)
        stations[at:at] = obstacle
    if not rooted:
        number = len(stations) - 1 - [box.title for box in reversed(stations)].index(path[0].chain)
        stations[number] = replace(stations[number], reached=False)
    named = leaf is None and path and finding.endpoint is not None and finding.endpoint in path[-1].text
    if named or not any(box.state in ("fault", "missing") for box in ends):
        stations[-1] = replace(stations[-1], state="fault", mark="✕ here")
    return stations, ends


def _leads_on(rule: _Rule) -> bool:
    return rule.target is not None and rule.target.startswith("KUBE-")


def _frontend(finding: Finding) -> Box:
    port = f"{finding.service}:{finding.port}" if finding.port else finding.service or ""
    if finding.frontend is None:
        return Box(port, "each of its addresses")
    return Box(str(finding.frontend), f"{finding.frontend.kind.value} of {port}" if port else finding.frontend.kind.value)


def _endpoints(text: str) -> list[str]:
    return list(dict.fromkeys(f"{host}:{port}" for host, port in _ENDPOINT.findall(text)))


def _ends(finding: Finding, expected: Sequence[str], observed: Sequence[str]) -> Iterator[Box]:
    differing = [one for one in observed if one not in expected] if expected or finding.endpoint in observed else []
    lost = [one for one in expected if one not in observed]
    same = [one for one in observed if one not in differing]
    if finding.observed and not observed and (expected or finding.frontend is not None):
        yield Box(finding.observed, state="fault", mark="✕")
    if finding.expected and not expected and observed:  # a refusal, no rules
        differing, same = list(observed), []
    found = [
        *(Box(one, state="fault", mark="✕ not expected") for one in differing),
        *(Box(one, state="missing", mark="✕ gets nothing") for one in lost),
        *(Box(one, state="good", mark="as expected" if expected else "") for one in same),
    ]
    if not expected and not observed and finding.endpoint is not None:
        found.append(Box(finding.endpoint, state="fault", mark="✕"))
    yield from found[:_ENDPOINTS]
    if len(found) > _ENDPOINTS:
        yield Box(f"and {len(found) - _ENDPOINTS:,} more endpoints")


def _rules(finding: Finding) -> list[_Rule]:
    """The rules among the finding's lines, those that tell most first, each with the destination of its chain."""
    rules = []
    order = {id(location): number for number, location in enumerate(finding.locations)}
    for location in telling(finding):
        found = _RULE.match(location.text)
        if found is not None:
            target = _TARGET.search(found[2])
            rules.append(_Rule(found[1], None if target is None else target[1], location.line, found[2], order[id(location)]))
    destinations = {rule.chain: found[1] for rule in rules if (found := _DESTINATION.search(rule.text))}
    return [replace(rule, endpoint=destinations.get(rule.chain)) for rule in rules]


def _path(finding: Finding, rules: Sequence[_Rule]) -> list[_Rule]:
    """The rules that lead from a built-in chain to the one that tells most: the one that names the endpoint, else the deepest."""
    if not rules:
        return []
    last = rules[0] if finding.endpoint is not None and finding.endpoint in rules[0].text else min(rules, key=_depth)
    return _way_to(last, rules)


def _refusal(rules: Sequence[_Rule], path: Sequence[_Rule]) -> list[_Rule]:
    """The rules that lead to one of other software that drops or rejects, off the path; empty where there is none."""
    for rule in sorted(rules, key=lambda rule: rule.order):
        if rule.target in ("DROP", "REJECT") and not rule.chain.startswith("KUBE-") and rule not in path:
            return _way_to(rule, rules)
    return []


def _way_to(last: _Rule, rules: Sequence[_Rule]) -> list[_Rule]:
    """The rules among `rules` that lead to `last`, and `last`."""
    in_order = sorted(rules, key=lambda rule: rule.order)
    path = [last]
    while True:
        before = next((rule for rule in in_order if rule.target == path[0].chain and rule not in path), None)
        if before is None:
            return path
        path.insert(0, before)


def _depth(rule: _Rule) -> int:
    return next((depth for depth, prefix in enumerate(_DEPTHS) if rule.chain.startswith(prefix)), len(_DEPTHS))
