"""Who is at an address, as far as the objects tell it: endpoints of Services, pods, nodes, and who listens on a node's port."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.addresses import canonical
from ruleaudit.forwarding import endpoint_text
from ruleaudit.trace.values import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import EndpointPort, EndpointSlice, EndpointSubset, ObjectReference, Service
    from ruleaudit.kubeproxy.endpoints import Candidates
    from ruleaudit.kubeproxy.endpoints import Endpoint as SliceEndpoint
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = [
    "Listener",
    "addresses_of",
    "declares",
    "endpoint_at",
    "endpoint_client",
    "is_endpoint",
    "knows_endpoints",
    "knows_slices",
    "listener",
    "node_with",
    "state_of",
    "where_text",
]

Key = tuple[str, str]


# --- endpoints and pods ---


def endpoint_at(
    cluster: Cluster, claims: Sequence[ExpectedServicePort], address: str, port: int, protocol: str, here: str | None
) -> Endpoint:
    """Who has an endpoint's address: as the slices of the claiming Services have it, else as any slice has it, else the pod that has the
    address. `here`: the node that asks.
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
        return named_endpoint(cluster, address, port, protocol, here) or Endpoint(address, port)
    held = pods[0]
    node = held.spec.node_name
    leaving = bool(held.metadata.deletion_timestamp)
    return Endpoint(address, port, held.metadata.key, node, held.ready, leaving, node is not None and node == here)


def named_endpoint(cluster: Cluster, address: str, port: int, protocol: str, here: str | None) -> Endpoint | None:
    """The endpoint that some slice, or Endpoints object, has at an address and port; None where none has."""
    for one in _named(cluster, port, protocol):
        if canonical(one.address) == address:
            local = one.node is not None and one.node == here
            return Endpoint(address, port, one.pod, one.node, one.ready, one.terminating, local)
    return None


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
    return named_endpoint(cluster, address, port, protocol, None) is not None


class _Named(NamedTuple):
    """An address in a slice or an Endpoints object of a Service ("namespace/name")."""

    address: str | None
    service: str
    ready: bool
    pod: Key | None
    node: str | None
    terminating: bool = False


def _named(cluster: Cluster, port: int, protocol: str) -> Iterator[_Named]:
    """Every address that slices and Endpoints objects have at a port."""

    def fits(ports: Sequence[EndpointPort]) -> bool:
        return any((one.port, one.protocol or "TCP") == (port, protocol) for one in ports)

    for piece in cluster.slices.values():
        if fits(piece.ports):
            yield from _of_slice(piece)
    for endpoints in cluster.endpoints.values():
        for subset in endpoints.subsets:
            if fits(subset.ports):
                yield from _of_subset(endpoints.metadata.key, subset)


def _of_slice(piece: EndpointSlice) -> Iterator[_Named]:
    namespace = piece.metadata.namespace
    service = f"{namespace}/{piece.metadata.label('kubernetes.io/service-name') or piece.metadata.name}"
    for one in piece.endpoints:
        state = one.conditions
        ready, leaving = state is None or state.ready is not False, state is not None and bool(state.terminating)
        node = one.node_name or (one.topology or {}).get("kubernetes.io/hostname")  # v1beta1
        for text in one.addresses:
            yield _Named(text, service, ready, _pod_of(one.target_ref, namespace), node, leaving)


def _of_subset(key: Key, subset: EndpointSubset) -> Iterator[_Named]:
    for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
        for one in addresses:
            yield _Named(one.ip, "/".join(key), ready, _pod_of(one.target_ref, key[0]), one.node_name)


def _pod_of(target: ObjectReference | None, namespace: str) -> Key | None:
    if target is None or target.kind != "Pod" or not target.name:
        return None
    return target.namespace or namespace, target.name


def knows_endpoints(cluster: Cluster) -> bool:
    """Whether objects were given that tell who has an address."""
    return knows_slices(cluster) or cluster.has_kind("Pod")


def knows_slices(cluster: Cluster) -> bool:
    """Whether objects were given that tell which endpoints Services have."""
    return cluster.has_kind("EndpointSlice") or cluster.has_kind("Endpoints")


def endpoint_client(cluster: Cluster, address: str) -> tuple[Key | None, str] | None:
    """The pod, where it is named, and the node of an endpoint with an address, as slices and Endpoints objects have it."""
    pieces = (one for piece in cluster.slices.values() for one in _of_slice(piece))
    subsets = (
        one
        for endpoints in cluster.endpoints.values()
        for each in endpoints.subsets
        for one in _of_subset(endpoints.metadata.key, each)
    )
    return next(((one.pod, one.node) for one in chain(pieces, subsets) if one.node and canonical(one.address) == address), None)


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
            ready = _ready_on(cluster, service.metadata.key, node)
            answer = f"200, {ready} ready endpoints on this node" if ready else "503, no ready endpoint on this node"
            return Listener(f"kube-proxy answers there for the health check of Service {name} ({answer})", None, ready=True)
    own = next((one for one in cluster.nodes.values() if one.metadata.name == node), None)
    addresses = {canonical(one.address) for one in own.status.addresses} if own is not None else set()
    for one in _named(cluster, port, protocol):
        if canonical(one.address) in addresses:
            state = state_of(one.ready, terminating=one.terminating)
            return Listener(f"an endpoint of Service {one.service}, {state}", one.pod, ready=one.ready)
    return None


def _ready_on(cluster: Cluster, service: Key, node: str | None) -> int:
    """How many addresses of ready endpoints a Service has on a node."""
    slices = cluster.slices_of(*service)
    named = [one for piece in slices for one in _of_slice(piece)]
    if not slices and service in cluster.endpoints:
        named = [one for subset in cluster.endpoints[service].subsets for one in _of_subset(service, subset)]
    return len({one.address for one in named if one.ready and one.node == node})


# --- in words ---


def where_text(cluster: Cluster, who: Endpoint, here: str | None) -> str:
    """Who an endpoint is, as a step of node `here` names it."""
    if who.pod is None and who.node is None and who.ready is None:
        if not knows_endpoints(cluster):
            return "of which nothing is known: no endpoints and pods were given"
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
