"""RA007: the rules look like those of another node than the one they are audited for.

What is right depends on the node where a traffic policy is Local or topology hints count. When rules are wrong there for this node, and right
for another, then most likely the dump was taken on that one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.checks.context import FamilyAudit, service_port_of
from ruleaudit.checks.judgement import listed
from ruleaudit.expect import ExpectedServicePort, expect
from ruleaudit.findings import Finding, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.checks.services import ServiceJudge

__all__ = ["OtherNode", "other_node"]

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
