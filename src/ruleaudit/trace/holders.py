"""Who is at an address, as far as the objects tell it: endpoints of Services, pods, nodes, and who listens on a node's port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical
from ruleaudit.forwarding import endpoint_text
from ruleaudit.trace.values import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import EndpointPort, Service
    from ruleaudit.endpoints import Candidates
    from ruleaudit.endpoints import Endpoint as SliceEndpoint
    from ruleaudit.expect import ExpectedServicePort

__all__ = [
    "Listener",
    "addresses_of",
    "declares",
    "endpoint_at",
    "is_endpoint",
    "listener",
    "node_with",
    "state_of",
    "where_text",
]

Key = tuple[str, str]


# --- endpoints and pods ---


def endpoint_at(cluster: Cluster, claims: Sequence[ExpectedServicePort], address: str, port: int, here: str | None) -> Endpoint:
    """Who has an endpoint's address: as the slices of the claiming Services have it, else the pod that has the address. `here`: the node that
    asks.
    """
    for namespace, one in _endpoints_of(claims):
        if (canonical(one.address) or one.address, one.port) == (address, port):
            pod = one.target
            key = (pod[0] or namespace, pod[1]) if pod is not None else None
            node = one.node_name or _node_of(cluster, key)
            return Endpoint(address, port, key, node, one.ready, one.terminating, node is not None and node == here)
    pods = [one for one in cluster.pods_at(address) if not one.finished]
    if len(pods) > 1:  # several on the host network of a node: it is the one that declares the port, if any
        pods = [one for one in pods if any(each.container_port == port for each in one.container_ports)][:1]
    if not pods:
        return Endpoint(address, port)
    held = pods[0]
    node = held.spec.node_name
    leaving = bool(held.metadata.deletion_timestamp)
    return Endpoint(address, port, held.metadata.key, node, held.ready, leaving, node is not None and node == here)


def is_endpoint(claims: Sequence[ExpectedServicePort], endpoint: str | None) -> bool:
    """Whether "address:port" is one of those that the slices give the service ports."""
    return any(endpoint == endpoint_text(canonical(one.address) or one.address, one.port) for _, one in _endpoints_of(claims))


def _endpoints_of(claims: Sequence[ExpectedServicePort]) -> Iterator[tuple[str, SliceEndpoint]]:
    """Every endpoint of service ports, ready or not, with the namespace of its Service."""
    for claim in claims:
        for candidates in (claim.candidates, *claim.other_candidates):
            for one in _every(candidates):
                yield claim.name.namespace, one


def _every(candidates: Candidates) -> Iterable[SliceEndpoint]:
    return (*candidates.endpoints, *candidates.unready)


def _node_of(cluster: Cluster, key: Key | None) -> str | None:
    pod = cluster.pods.get(key) if key is not None else None
    return pod.spec.node_name if pod is not None else None


def declares(cluster: Cluster, address: str, port: int, protocol: str) -> bool:
    """Whether a pod at an address declares a port, or an endpoint of a Service has it."""
    pods = cluster.pods_at(address)
    if any(one.container_port == port and (one.protocol or "TCP") == protocol for pod in pods for one in pod.container_ports):
        return True
    return any(
        canonical(text) == address
        for which, text in _places_in_slices(cluster)
        if (which.port, which.protocol or "TCP") == (port, protocol)
    )


def _places_in_slices(cluster: Cluster) -> Iterator[tuple[EndpointPort, str | None]]:
    for piece in cluster.slices.values():
        for port in piece.ports:
            yield from ((port, text) for endpoint in piece.endpoints for text in endpoint.addresses)
    for endpoints in cluster.endpoints.values():
        for subset in endpoints.subsets:
            for port in subset.ports:
                yield from ((port, each.ip) for each in (*subset.addresses, *subset.not_ready_addresses))


# --- Services and nodes ---


def addresses_of(service: Service) -> set[str]:
    """Every address of a Service, canonical, whatever it is to it."""
    spec = service.spec
    texts = [*spec.cluster_ips, spec.cluster_ip, *spec.external_ips, *(one.ip for one in service.status.load_balancer.ingress)]
    return {found for one in texts if (found := canonical(one)) is not None}


def node_with(cluster: Cluster, address: str) -> str | None:
    """The Node that has an address."""
    return next(
        (name for name, node in cluster.nodes.items() if any(canonical(one.address) == address for one in node.status.addresses)),
        None,
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a node's port."""

    text: str
    pod: Key | None
    ready: bool

    def endpoint(self, address: str, port: int, node: str | None) -> Endpoint:
        """It as an endpoint."""
        return Endpoint(address, port, self.pod, node, self.ready, local=True)


def listener(cluster: Cluster, node: str | None, port: int, protocol: str) -> Listener | None:
    """Who listens on a port of a node, as far as objects tell: a pod on its host network that declares the port, or kube-proxy's health
    check.
    """
    for pod in cluster.pods.values():
        if pod.finished or not pod.spec.host_network or pod.spec.node_name != node:
            continue
        if any(one.container_port == port and (one.protocol or "TCP") == protocol for one in pod.container_ports):
            key = pod.metadata.key
            state = "ready" if pod.ready else "not ready"
            return Listener(f"pod {'/'.join(key)} on its host network declares the port, {state}", key, ready=pod.ready)
    for service in cluster.services.values():
        if service.spec.health_check_node_port == port and protocol == "TCP" and port:
            name = "/".join(service.metadata.key)
            return Listener(f"kube-proxy answers there for the health check of Service {name}", None, ready=True)
    return None


# --- in words ---


def where_text(who: Endpoint, here: str | None) -> str:
    """Who an endpoint is, as a step of node `here` names it."""
    if who.pod is None and who.node is None and who.ready is None:
        return "which no pod has and no Service names"
    pod = f"pod {'/'.join(who.pod)}" if who.pod is not None else "an endpoint without a pod"
    node = "" if who.node is None else " on this node" if who.node == here else f" on node {who.node}"
    return f"{pod}{node}, {state_of(who.ready, terminating=who.terminating)}"


def state_of(ready: bool | None, *, terminating: bool) -> str:
    """How an endpoint is."""
    if ready:
        return "ready and terminating" if terminating else "ready"
    if terminating:
        return "terminating"
    return "not ready" if ready is False else "of which nothing says whether it is ready"
