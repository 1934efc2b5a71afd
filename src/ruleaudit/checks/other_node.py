"""RA007: the rules look like those of another node than the one they are audited for.

What is right depends on the node where a traffic policy is Local or topology hints count. When rules are wrong there for this node, and right
for another, then most likely the dump was taken on that one. In IPVS mode more says whose a node is: node ports have virtual servers at its own
addresses, its interfaces have them, and KUBE-LOOP-BACK holds its own endpoints (KPR 9.3, 11.2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.addresses import canonical_address
from ruleaudit.checks.context import FamilyAudit, service_port_of
from ruleaudit.checks.judgement import listed
from ruleaudit.findings import Finding, ObjectReference
from ruleaudit.forwarding import FrontendKind
from ruleaudit.kubeproxy.expect import ExpectedServicePort, expect
from ruleaudit.kubeproxy.expected_sets import set_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ruleaudit.checks.services import ServiceJudge

__all__ = ["OtherNode", "Trace", "other_node", "traced", "traces"]

_LEAST = 3
"""From how many service ports on, which all differ for this node and none for another, it is no accident."""
_MOST_NODES = 200


class OtherNode(NamedTuple):
    """The finding, the node that the rules fit, and the Services ("namespace/name") whose own findings follow from it."""

    finding: Finding
    node: str
    services: frozenset[str]


def other_node(audit: FamilyAudit, judge: ServiceJudge, suspected: str | None) -> OtherNode | None:
    """The node whose rules these are; None where the named one explains them best. `suspected`: what the other family's rules said."""
    if audit.node is None:
        return None
    hanging = [one for one in audit.expectation.service_ports if judge.hangs_on_node(one)]
    wrong = [one for one in hanging if id(one) in judge.judged]
    if len(wrong) < (_LEAST if suspected is None else 1):
        return None
    candidates = (
        [suspected] if suspected is not None else [name for name in audit.cluster.nodes if name != audit.node][:_MOST_NODES]
    )
    best: tuple[int, str] | None = None
    for name in candidates:
        differing = sum(1 for other in _expected_for(audit, name, hanging) if not judge.observer.agrees(other))
        if best is None or differing < best[0]:
            best = differing, name
    if best is None or best[0] * 4 > len(wrong):
        return None
    count, name = best
    services = frozenset(f"{one.name.namespace}/{one.name.name}" for one in wrong)
    finding = audit.finding(
        "RA007",
        f"the rules of IPv{audit.family} look like those of {name}, not of {audit.node}: {len(wrong)} service ports that depend on the node differ "
        f"for {audit.node}, {count or 'none'} for {name}",
        expected=f"rules of {audit.node}",
        observed=f"local endpoints and hints as of {name}, among others of {listed([service_port_of(one) for one in wrong], 3)}",
        hint=f"Audit the dump with --node {name}, or take it again on {audit.node}.",
        objects=[ObjectReference("Node", "", audit.node), ObjectReference("Node", "", name)],
        subject=f"{name} IPv{audit.family}",
    )
    return OtherNode(finding, name, services)


class Trace(NamedTuple):
    """What shows in IPVS mode that a dump is of another node: its name, and what of it is there."""

    node: str
    seen: str


def traces(audit: FamilyAudit, interfaces: Collection[str]) -> Iterator[Trace]:
    """What a node of its own has and the named one has not, the surest first. `interfaces`: the addresses of others than kube-ipvs0."""
    if audit.node is None:
        return
    owners: dict[str, str] = {}
    for name, node in audit.cluster.nodes.items():
        for one in node.status.addresses:
            address = canonical_address(one.address or "", audit.family) if one.type in ("InternalIP", "ExternalIP") else None
            if address:
                owners[address] = name if owners.get(address, name) == name else ""  # of several: of none
    for seen, where in ((_node_port_addresses(audit), "virtual servers of node ports at"), (interfaces, "an interface with")):
        held = {address: owners[address] for address in seen if owners.get(address)}
        nodes = set(held.values())
        if len(nodes) == 1 and audit.node not in nodes:
            yield Trace(nodes.pop(), f"{where} {listed(sorted(held))}")
    yield from _loops(audit)


def _node_port_addresses(audit: FamilyAudit) -> list[str]:
    """The addresses at which most node ports have a virtual server, and which no Service has."""
    frontends = [one for port in audit.expectation.service_ports for one in port.frontends]
    ports = {(one.port, one.protocol) for one in frontends if one.kind is FrontendKind.NODE_PORT}
    own = {one.address for one in frontends}
    answers = Counter(
        one.address
        for one in (audit.virtual.servers() if audit.virtual is not None else ())
        if (one.port, one.protocol) in ports and one.address not in own
    )
    return [address for address, count in answers.items() if address is not None and count * 2 > len(ports)]


def _loops(audit: FamilyAudit) -> Iterator[Trace]:
    """The node whose endpoints KUBE-LOOP-BACK holds: none of the named one's, which has some."""
    sets = audit.rules.sets
    known = sets.get(set_name("KUBE-LOOP-BACK", audit.family)) if sets is not None else None
    if known is None or not known.entries:
        return
    held: Counter[str] = Counter()
    places: dict[str, str] = {}
    own = 0
    for port in audit.expectation.service_ports:
        for endpoint in port.candidates.endpoints:
            text = f"{endpoint.address},{port.protocol.lower()}:{endpoint.port},{endpoint.address}"
            own += endpoint.node_name == audit.node
            if endpoint.node_name and text not in places and text in known.entries:
                places[text] = endpoint.node_name
                held[endpoint.node_name] += 1
    most = held.most_common(1)
    if own and most and most[0][0] != audit.node and most[0][1] >= _LEAST and len(held) == 1:
        yield Trace(most[0][0], f"{most[0][1]} of its endpoints in set {known.name}")


def traced(audit: FamilyAudit, trace: Trace, differing: int) -> Finding:
    """RA007 for a node in IPVS mode. `differing`: how many findings there are that there would not be for the other node."""
    return audit.finding(
        "RA007",
        f"the dumps of IPv{audit.family} look like those of {trace.node}, not of {audit.node}: there are {trace.seen}"
        + (f"; {differing} findings would not be there for {trace.node}" if differing else ""),
        expected=f"dumps of {audit.node}",
        observed=trace.seen,
        hint=f"Audit the dumps with --node {trace.node}, or take them again on {audit.node}.",
        objects=[ObjectReference("Node", "", audit.node or ""), ObjectReference("Node", "", trace.node)],
        subject=f"{trace.node} IPv{audit.family}",
    )


def _expected_for(audit: FamilyAudit, node: str, ports: Sequence[ExpectedServicePort]) -> Iterator[ExpectedServicePort]:
    """What another node would have to do for these service ports."""
    keys = {(one.name.namespace, one.name.name) for one in ports}
    services = {key: service for key, service in audit.cluster.services.items() if key in keys}
    expectation = expect(
        replace(audit.cluster, services=services),
        node=node,
        family=audit.family,
        settings=audit.expectation.settings,
        release=audit.expectation.release,
        mode=audit.expectation.mode,
    )
    names = {(one.name, one.protocol) for one in ports}
    return (one for one in expectation.service_ports if (one.name, one.protocol) in names)
