"""External IPs that take what belongs to somebody else (RA801): a node's address, or another Service's address and port (CVE-2020-8554)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.addresses import canonical_address, family_of
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.forwarding import Frontend, FrontendKind
from ruleaudit.kubeproxy.endpoints import PROXY_NAME_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Service

__all__ = ["takeovers"]

_Key = tuple[str, int, str]


class _Owner(NamedTuple):
    """Whose an address, port and protocol is, and as what."""

    service: str
    what: str


def takeovers(cluster: Cluster, found: Iterable[Finding]) -> Iterator[Finding]:
    """RA801 for every port of an external IP that is a node's address or another Service's address and port, once each.

    A warning where it changes another Service's traffic, information where it is a node's address on which no Service answers at that port:
    kube-proxy takes whatever the node itself serves there, but many clusters without a load balancer mean it so. Only spec.externalIPs
    count: a load balancer may well give nodes' addresses (k3s, MetalLB), and two Services that share an external IP's port are RA703 alone.
    `found`: what is known already: where RA703 tells of the same address and port, it is the cause.
    """
    takers = [one for one in cluster.services.values() if one.spec.external_ips and _programmed(one)]
    if not takers:
        return
    nodes = _node_addresses(cluster)
    owners = _owners(cluster)
    node_ports = _node_ports(cluster)
    claimed = {
        (where.address, where.port, where.protocol): one
        for one in found
        if one.code == "RA703" and (where := one.frontend) is not None
    }
    for service in takers:
        name = "/".join(service.metadata.key)
        for address, family in _canonical(service.spec.external_ips):
            for port in service.spec.ports:
                protocol = port.protocol or "TCP"
                key = address, port.port, protocol
                node = nodes.get(address)
                others = [one for one in owners.get(key, ()) if one.service != name]
                if node is not None:
                    others += [one for one in node_ports.get(key[1:], ()) if one.service != name]
                if node is None and not others:
                    continue
                frontend = Frontend(FrontendKind.EXTERNAL_IP, address, port.port, protocol, family)
                yield _finding(name, port.name, frontend, node, others, claimed.get(key))


def _finding(
    service: str, port: str | None, frontend: Frontend, node: str | None, others: list[_Owner], claim: Finding | None
) -> Finding:
    entry = CATALOGUE["RA801"]
    owned = [f"the {one.what} of {one.service}" for one in others]
    if node is not None:
        owned.insert(0, f"an address of node {node}")
    effect = (
        f"on every node it takes connections that are meant for {others[0].service}"
        if others
        else "on every node it takes what that node itself serves at that port"
    )
    references = [
        ObjectReference("Service", *_parts(service)),
        *(ObjectReference("Service", *_parts(one.service)) for one in others),
    ]
    if node is not None:
        references.append(ObjectReference("Node", "", node))
    return Finding(
        entry.code,
        entry.name,
        entry.severity if others else Severity.INFO,
        f"external IP {frontend} of {service} is {' and '.join(owned)}: {effect}",
        service=service,
        port=port or None,
        frontend=frontend,
        expected="an external IP that is nobody else's",
        observed=", ".join(owned),
        hint=entry.action,
        cause=None if claim is None or not others else claim.fingerprint,
        objects=tuple(dict.fromkeys(references)),
    )


def _parts(service: str) -> tuple[str, str]:
    namespace, _, name = service.partition("/")
    return namespace, name


def _programmed(service: Service) -> bool:
    """Whether kube-proxy looks at a Service at all (KPR 1.3, pkg/proxy/util ShouldSkipService)."""
    spec = service.spec
    return (
        spec.type != "ExternalName"
        and spec.cluster_ip not in ("None", "", None)
        and service.metadata.label(PROXY_NAME_LABEL) is None
    )


def _canonical(texts: Iterable[str | None]) -> Iterator[tuple[str, int]]:
    """(address, family) of what are addresses, each once."""
    seen = set()
    for text in texts:
        family = family_of(text or "")
        address = None if family is None or text is None else canonical_address(text, family)
        if address is not None and family is not None and address not in seen:
            seen.add(address)
            yield address, family


def _node_addresses(cluster: Cluster) -> Mapping[str, str]:
    """The name of the node by its addresses."""
    found: dict[str, str] = {}
    for name, node in cluster.nodes.items():
        for address, _ in _canonical(one.address for one in node.status.addresses if one.type in ("InternalIP", "ExternalIP")):
            found.setdefault(address, name)
    return found


def _owners(cluster: Cluster) -> Mapping[_Key, list[_Owner]]:
    """Whose the cluster IPs and load-balancer IPs are, by address, port and protocol."""
    found: dict[_Key, list[_Owner]] = defaultdict(list)
    for service in cluster.services.values():
        spec = service.spec
        if not _programmed(service):
            continue
        name = "/".join(service.metadata.key)
        kinds = (
            ("cluster IP", (spec.cluster_ip, *spec.cluster_ips)),
            ("load-balancer IP", tuple(one.ip for one in service.status.load_balancer.ingress)),
        )
        for what, texts in kinds:
            for address, _ in _canonical(texts):
                for port in spec.ports:
                    found[address, port.port, port.protocol or "TCP"].append(_Owner(name, what))
    return found


def _node_ports(cluster: Cluster) -> Mapping[tuple[int, str], list[_Owner]]:
    """Whose the node ports are, by port and protocol."""
    found: dict[tuple[int, str], list[_Owner]] = defaultdict(list)
    for service in cluster.services.values():
        for port in service.spec.ports if _programmed(service) else ():
            if port.node_port:
                found[port.node_port, port.protocol or "TCP"].append(_Owner("/".join(service.metadata.key), "node port"))
    return found
