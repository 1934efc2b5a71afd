"""The way of a connection that a finding is about: client, frontend, what leads on, and the endpoints, as far as cited lines prove it.

In iptables mode chains of the nat table lead on (KPR 3, 5); a chain that only sets a mark, or a filter, is a side step and no part of
the way. In IPVS mode a virtual server leads on to its real servers (KPR 11); rules and sets stand there only where they are the fault.
A finding that is about no connection, or of which nothing beyond the names is known, has no way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ruleaudit.reports.cited import cited, names, plain_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding
    from ruleaudit.reports.cited import Cited, Rule, VirtualServer

__all__ = ["Box", "Way", "way"]

State = Literal["plain", "fault", "missing", "good"]

_ENDPOINTS = 8
_ENDPOINT = re.compile(r"(?<![\w.:\[])(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):(\d{1,5})(?![\w/.:])")
"""An endpoint, and no frontend: those have their protocol behind a slash."""
_REACHED = re.compile(r"(?:^|.*?\W)to (?=[\d\[])", re.DOTALL)
"""What stands before the endpoints where a text says more than these."""
_MISSING_ENTRY = re.compile(r"(?:the entry )?(\S+) (?:in set|on) (\S+)")
_MISSING_SERVER = re.compile(r"a virtual server (for .*)", re.DOTALL)
_DEPTHS: tuple[tuple[str, ...], ...] = (
    ("KUBE-SEP-",),
    ("KUBE-SVC-", "KUBE-SVL-"),
    ("KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"),
    ("KUBE-NODEPORTS",),
    ("KUBE-SERVICES",),
)
"""Prefixes of the chains that lead on to endpoints (KPR 3), the deepest first."""
_BACKENDS = ("KUBE-SEP-", "KUBE-SVC-", "KUBE-SVL-")
_ROOTS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "KUBE-SERVICES", "KUBE-NODEPORTS")
"""Chains that every packet, or every packet to a Service, meets: that nothing is seen to lead there says nothing."""
_BEHIND_ROUTING = ("FORWARD", "INPUT", "POSTROUTING")
_REFUSING = ("DROP", "REJECT")
_IPVS_CHAIN, _IPVS_SET = "KUBE-NODE-PORT", "--match-set KUBE-"
"""A chain, and a match on a set, that kube-proxy writes in IPVS mode alone (KPR 11)."""

_UNWANTED = frozenset({"RA201", "RA202", "RA203"})
"""What is cited should not be there at all."""
_REFUSING_RULE = "no refusing rule"
_FOREIGN = frozenset({"RA601", "RA602", "RA603", "RA604"})
"""The first line cited is the rule of other software that decides."""
_AFFINITY, _POLICY, _RANGES, _HAIRPIN, _BROKEN = "RA304", "RA305", "RA306", "RA403", "RA309"
_NO_CONNECTION = frozenset({"RA109", "RA310"})
"""A health check, a rule as it is written: no connection to a Service shows these."""
_HEALTH_CHECKS = "HEALTH-CHECK"


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
class Way:
    """The stations in order, and where the way ends: the endpoints, or what becomes of the connection instead."""

    stations: tuple[Box, ...]
    ends: tuple[Box, ...]


def way(finding: Finding) -> Way | None:
    """The way of the connections that the finding is about; None where it has none to show."""
    lines = cited(finding)
    if finding.code in _NO_CONNECTION or not finding.expected:
        return None
    if finding.service is None and finding.frontend is None and not lines.servers:
        return None
    entry = _MISSING_ENTRY.fullmatch(finding.expected)
    if entry is not None:
        return _without_entry(finding, entry[1], entry[2])
    front = [_client(finding), *_frontend(finding)]
    missing = _MISSING_SERVER.fullmatch(finding.expected)
    if missing is not None:
        return Way(tuple(front), (Box("no virtual server", missing[1], "missing", "✕ here"),))
    virtual = bool(lines.servers) or any(rule.target == _IPVS_CHAIN or _IPVS_SET in rule.text for rule in lines.rules)
    stations, ends = _by_servers(finding, lines) if virtual else _by_rules(finding, lines)
    stations, before = _refused(finding, lines, stations)
    if not before and not stations and not _endpoints(finding.expected) and not _endpoints(finding.observed):
        return None
    whole = [*front, *before, *stations]
    if finding.code == _RANGES:
        whole[len(front) - 1] = _faulty(whole[len(front) - 1], f"✕ {finding.observed}")
    if not any(box.state in ("fault", "missing") for box in (*whole, *ends)):
        whole[-1] = _faulty(whole[-1])
    return Way(tuple(whole), tuple(ends))


def _faulty(box: Box, mark: str = "✕ here") -> Box:
    return replace(box, state="fault", mark=mark)


def _client(finding: Finding) -> Box:
    if finding.code == _HAIRPIN:
        return Box(finding.endpoint or "", "an endpoint that reaches itself")
    return Box("client", "a pod, the node itself or a host outside")


def _frontend(finding: Finding) -> list[Box]:
    """The box of the frontend; none where the finding names neither one nor a Service."""
    port = f"{finding.service}:{finding.port}" if finding.port else finding.service or ""
    if finding.frontend is not None:
        kind = finding.frontend.kind.value
        return [Box(str(finding.frontend), f"{kind} of {port}" if port else kind)]
    return [Box(port)] if port else []


def _without_entry(finding: Finding, entry: str, holder: str) -> Way | None:
    """The way on which an entry of an ipset, or an address of the interface of IPVS, is missing."""
    if _HEALTH_CHECKS in holder:
        return None
    return Way((_client(finding), *_frontend(finding), _faulty(Box(holder, f"lacks {entry}"))), ())


# --- IPVS ---


def _by_servers(finding: Finding, lines: Cited) -> tuple[list[Box], list[Box]]:
    """The virtual server, and the real servers; of several virtual servers the frontend's, else the first."""
    notes: dict[str, str] = {}
    stations = []
    if lines.servers:
        chosen = _chosen(finding, lines.servers)
        count = len({(one.file, one.address) for one in lines.servers})
        note = f"line {chosen.line}: virtual server" + (f", one of {count:,} cited" if count > 1 else "")
        stations.append(Box(f"{chosen.address} {chosen.scheduler}", note))
        for one in sorted(lines.real, key=lambda real: real.of == chosen.address):
            notes[one.address] = f"line {one.line}: real server of weight {one.weight}"
    ends = _ends(finding, notes)
    if stations and finding.code in _UNWANTED:
        stations[0] = _faulty(stations[0], "✕ not expected")
    elif stations and finding.code == _AFFINITY:
        stations[0] = _faulty(stations[0], _mark_of(finding))
    return stations, ends


def _chosen(finding: Finding, servers: Sequence[VirtualServer]) -> VirtualServer:
    address = str(finding.frontend).partition("/")[0] if finding.frontend is not None else ""
    return next((one for one in servers if one.address == address), servers[0])


# --- iptables ---


def _by_rules(finding: Finding, lines: Cited) -> tuple[list[Box], list[Box]]:
    """The chains that lead on, and the endpoints: each chain with its rule that does, the last with what it leads to."""
    path = _path(finding, lines)
    leaves = {rule.destination: rule for rule in lines.rules if rule.destination and rule.chain.startswith(_DEPTHS[0])}
    ends = _ends(finding, {end or "": f"line {rule.line}: {rule.chain}" for end, rule in leaves.items()})
    if not path:
        return _declared(finding, lines, ends)
    leaf = path.pop() if len(path) > 1 and any(box.title == path[-1].destination for box in ends) else None
    stations = [Box(rule.chain, plain_rule([rule])) for rule in path]
    if leaf is None:
        stations.extend(_beyond(finding, path[-1], lines, ends))
    elif leaf.destination != finding.endpoint:  # none of the rules that spread over the endpoints tells more
        spread = [rule for rule in lines.rules if rule.chain == path[-1].chain and (rule.target or "").startswith(_DEPTHS[0])]
        stations[-1] = replace(stations[-1], note=plain_rule(spread))
    if path[0].chain not in _ROOTS:
        stations[0] = replace(stations[0], reached=False)
    _mark(finding, path, stations)
    return stations, _others(ends, finding.observed) if finding.code == _BROKEN else ends


def _declared(finding: Finding, lines: Cited, ends: list[Box]) -> tuple[list[Box], list[Box]]:
    """Where no rule is cited, the chain on the way whose declaration is: it lacks the rule. What is observed stands there, then."""
    for chain, line in lines.headers.items():
        if _leads_on(chain):
            return [_faulty(Box(chain, f"line {line}: {finding.observed}"))], _others(ends, finding.observed)
    return [], ends


def _others(boxes: Sequence[Box], title: str) -> list[Box]:
    return [box for box in boxes if box.title != title]


def _mark(finding: Finding, path: Sequence[Rule], stations: list[Box]) -> None:
    """Mark the station at which it goes wrong, where kube-proxy's structure says which one that is."""
    at = None
    if finding.code in _UNWANTED or (finding.code in _FOREIGN and not _leads_on(path[-1].chain)):
        at = len(path) - 1
    elif finding.code == _AFFINITY:  # the rules that send a client back stand in the chain of the Service
        at = next((number for number, box in enumerate(stations) if box.title.startswith(_DEPTHS[1])), None)
    elif finding.code == _POLICY:  # the last chain that chooses among those of the Service
        at = max((number for number, rule in enumerate(path) if not rule.chain.startswith(_BACKENDS)), default=None)
    elif finding.code == _HAIRPIN:
        at = 0
    if at is not None:
        stations[at] = _faulty(stations[at], _mark_of(finding))


def _mark_of(finding: Finding) -> str:
    return f"✕ affinity: {finding.observed}" if finding.code == _AFFINITY else "✕ here"


def _beyond(finding: Finding, last: Rule, lines: Cited, ends: Sequence[Box]) -> Iterator[Box]:
    """The chain that the last rule leads to, of which no rule is cited."""
    if not _leads_on(last.target) or (ends and (last.target or "").startswith(_DEPTHS[0])):
        return
    target = last.target or ""
    if finding.code == _BROKEN:
        yield _faulty(Box(target, finding.observed))
    elif (
        finding.code in _UNWANTED or last.order == lines.last or _endpoints(finding.observed) or not _endpoints(finding.expected)
    ):
        yield Box(target)
    else:  # the finding cites what comes next, and that is no rule of this chain
        yield _faulty(Box(target, "no rule of it leads on"))


def _leads_on(chain: str | None) -> bool:
    """Whether the chain is one of those that lead on to endpoints."""
    return chain is not None and any(chain.startswith(prefixes) for prefixes in _DEPTHS)


def _path(finding: Finding, lines: Cited) -> list[Rule]:
    """The rules that lead to the one that tells most: the one that names the endpoint, else the one that leads deepest."""
    rules = [rule for rule in lines.rules if rule.destination or _leads_on(rule.target)]
    if finding.code in _FOREIGN and lines.rules and (first := lines.in_order[0]).target not in _REFUSING:
        return _way_to(first, lines, filtering=not _is_nat(first))
    rules = [rule for rule in rules if _is_nat(rule)]
    if not rules:
        return []
    naming = [rule for rule in rules if names(rule.text, finding.endpoint)]
    last = next((rule for rule in naming if rule.destination), naming[0] if naming else None)
    return _way_to(last or min(rules, key=lambda rule: (_depth(rule), rule.order)), lines, filtering=False)


def _is_nat(rule: Rule) -> bool:
    """Whether a rule may be of the nat table: kube-proxy's hooks of the filter table ask for the connection's state (KPR 3)."""
    return rule.chain not in ("FORWARD", "INPUT") and rule.target not in _REFUSING and "--ctstate" not in rule.text


def _way_to(last: Rule, lines: Cited, *, filtering: bool) -> list[Rule]:
    """The cited rules that lead to `last`, and `last`; `filtering`: in the filter table, else in the nat table."""
    path = [last]
    while True:
        leading = [
            rule
            for rule in lines.in_order
            if (rule.file, rule.target) == (last.file, path[0].chain) and rule not in path and (filtering or _is_nat(rule))
        ]
        if filtering and path[0].chain.startswith("KUBE-"):
            leading = [rule for rule in leading if not _is_nat(rule) or rule.chain not in ("PREROUTING", "OUTPUT")]
        if not leading:
            return path
        path.insert(0, next((rule for rule in reversed(leading) if rule.order < path[0].order), leading[0]))


def _depth(rule: Rule) -> int:
    if rule.destination:
        return -1
    return next((depth for depth, prefix in enumerate(_DEPTHS) if (rule.target or "").startswith(prefix)), len(_DEPTHS))


# --- refusals, and ends ---


def _refused(finding: Finding, lines: Cited, stations: list[Box]) -> tuple[list[Box], list[Box]]:
    """The stations with the rule that refuses and those that lead to it, and what of these stands before the stations."""
    refuses = finding.observed.startswith(("refused", "dropped")) or finding.expected == _REFUSING_RULE
    if not refuses:
        return stations, []
    rule = next((rule for rule in lines.in_order if rule.target in _REFUSING), None)
    if rule is None:
        if lines.servers and not lines.real:  # IPVS itself refuses: the virtual server leads nowhere
            return [*stations[:-1], _faulty(stations[-1])], []
        return stations, []
    refusal = _way_to(rule, lines, filtering=True)
    boxes = [Box(one.chain, plain_rule([one])) for one in refusal]
    boxes[-1] = _faulty(boxes[-1])
    # The hooks behind the routing decision see the packet after it was translated.
    if refusal[0].chain in _BEHIND_ROUTING:
        return [*stations, *boxes], []
    return stations, boxes


def _endpoints(text: str) -> list[str]:
    before = _REACHED.match(text)
    return list(dict.fromkeys(f"{host}:{port}" for host, port in _ENDPOINT.findall(text, before.end() if before else 0)))


def _ends(finding: Finding, notes: dict[str, str]) -> list[Box]:
    """What becomes of the connection, and of what is expected: the endpoints, with the note that `notes` has for each."""
    if finding.code in (_AFFINITY, _RANGES):
        return _some([Box(end, note) for end, note in notes.items()])
    expected, observed = _endpoints(finding.expected), _endpoints(finding.observed)
    if finding.code in _UNWANTED or finding.expected == _REFUSING_RULE:
        return _some([Box(end, notes.get(end, "")) for end in observed])
    if finding.code == _HAIRPIN:
        return []
    found = []
    if not observed:
        found.append(Box(finding.observed, state="fault", mark="✕"))
    if finding.expected in ("rejected", "dropped"):
        found.append(Box(finding.expected, state="missing", mark="✕ expected"))
    states: dict[str, tuple[State, str]] = {
        **{one: ("fault", "✕ not expected") for one in observed if one not in expected and finding.expected},
        **{one: ("missing", "✕ gets nothing") for one in expected if one not in observed},
        **{one: ("good", "as expected") for one in observed if one in expected},
    }
    found += [Box(one, notes.get(one, ""), *state) for one, state in states.items()]
    return _some(found)


def _some(boxes: Sequence[Box]) -> list[Box]:
    more = len(boxes) - _ENDPOINTS
    return [*boxes[:_ENDPOINTS], *([Box(f"and {more:,} more endpoints")] if more > 0 else [])]
