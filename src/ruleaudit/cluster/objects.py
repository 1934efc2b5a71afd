"""The Kubernetes objects that ruleaudit reads, reduced to the fields that it uses.

Every type mirrors the API type of its name (k8s.io/api core/v1, discovery/v1, networking/v1), with the API's field names in
snake case. Unknown fields are ignored. A list or mapping that is absent or null is empty; any other absent or null field is
None. All values are immutable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "ClientIPConfig",
    "Conditions",
    "ConfigMap",
    "ConfigMapData",
    "Container",
    "ContainerPort",
    "Endpoint",
    "EndpointAddress",
    "EndpointHints",
    "EndpointPort",
    "EndpointSlice",
    "EndpointSubset",
    "Endpoints",
    "ForName",
    "HTTPIngressPath",
    "HTTPIngressRuleValue",
    "Ingress",
    "IngressBackend",
    "IngressClass",
    "IngressClassSpec",
    "IngressResource",
    "IngressRule",
    "IngressServiceBackend",
    "IngressSpec",
    "IngressTLS",
    "InitContainer",
    "KubernetesObject",
    "LoadBalancerIngress",
    "LoadBalancerStatus",
    "Metadata",
    "Node",
    "NodeAddress",
    "NodeSpec",
    "NodeStatus",
    "ObjectReference",
    "OwnerReference",
    "Pod",
    "PodCondition",
    "PodDNSConfig",
    "PodDNSConfigOption",
    "PodIP",
    "PodSpec",
    "PodStatus",
    "Service",
    "ServiceBackendPort",
    "ServicePort",
    "ServiceSpec",
    "ServiceStatus",
    "SessionAffinityConfig",
]


class _Struct(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What all of them have in common. Untracked by the garbage collector: they hold no cycles, and there are hundreds of
    thousands.
    """


_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_PortOrNone = Annotated[int, msgspec.Meta(ge=0, le=65535)] | None
"""0 stands for an absent port, as in Go."""


class OwnerReference(_Struct, frozen=True):
    """metadata.ownerReferences[]."""

    kind: str | None = None
    name: str | None = None


class Metadata(_Struct, frozen=True):
    """metadata. Timestamps are RFC 3339 text."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    resource_version: str | None = None
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name); the namespace is "" for cluster-scoped kinds."""
        return self.namespace, self.name

    def label(self, name: str) -> str | None:
        """The value of a label, None without it."""
        return None if self.labels is None else self.labels.get(name)

    def annotation(self, name: str) -> str | None:
        """The value of an annotation, None without it."""
        return None if self.annotations is None else self.annotations.get(name)


class ServicePort(_Struct, frozen=True):
    """Service spec.ports[]."""

    port: _Port
    name: str | None = None
    protocol: Annotated[str, msgspec.Meta(pattern="^(TCP|UDP|SCTP)?$")] | None = None
    target_port: int | str | None = None
    node_port: _PortOrNone = None


class ClientIPConfig(_Struct, frozen=True):
    """Service spec.sessionAffinityConfig.clientIP."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(_Struct, frozen=True):
    """Service spec.sessionAffinityConfig."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(_Struct, frozen=True):
    """Service spec."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    ip_families: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] | None = None
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    external_name: str | None = None
    external_traffic_policy: str | None = None
    internal_traffic_policy: str | None = None
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    health_check_node_port: _PortOrNone = None
    publish_not_ready_addresses: bool | None = None
    traffic_distribution: str | None = None
    topology_keys: tuple[str, ...] = ()


class LoadBalancerIngress(_Struct, frozen=True):
    """Service status.loadBalancer.ingress[]."""

    ip: str | None = None
    hostname: str | None = None
    ip_mode: str | None = None


class LoadBalancerStatus(_Struct, frozen=True):
    """Service status.loadBalancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(_Struct, frozen=True):
    """Service status."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(_Struct, frozen=True):
    """v1 Service."""

    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ObjectReference(_Struct, frozen=True):
    """A targetRef."""

    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


class Conditions(_Struct, frozen=True):
    """EndpointSlice endpoints[].conditions; None is "unknown", which each reader takes as KPR 2.1 says."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForName(_Struct, frozen=True):
    """One entry of hints.forZones or hints.forNodes."""

    name: str


class EndpointHints(_Struct, frozen=True):
    """EndpointSlice endpoints[].hints."""

    for_zones: tuple[ForName, ...] = ()
    for_nodes: tuple[ForName, ...] = ()


class Endpoint(_Struct, frozen=True):
    """EndpointSlice endpoints[]. `topology` is v1beta1's field of that name or v1's deprecatedTopology."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions | None = None
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None
    topology: dict[str, str] | None = None
    deprecated_topology: dict[str, str] | None = None


class EndpointPort(_Struct, frozen=True):
    """EndpointSlice ports[] and Endpoints subsets[].ports[]."""

    name: str | None = None
    port: _PortOrNone = None
    protocol: str | None = None


class EndpointSlice(_Struct, frozen=True):
    """discovery.k8s.io EndpointSlice, v1 or v1beta1."""

    metadata: Metadata
    address_type: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointAddress(_Struct, frozen=True):
    """Endpoints subsets[].addresses[] and notReadyAddresses[]."""

    ip: str = ""
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointSubset(_Struct, frozen=True):
    """Endpoints subsets[]."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(_Struct, frozen=True):
    """v1 Endpoints."""

    metadata: Metadata
    subsets: tuple[EndpointSubset, ...] = ()


class NodeSpec(_Struct, frozen=True):
    """Node spec."""

    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")


class NodeAddress(_Struct, frozen=True):
    """Node status.addresses[]."""

    type: str = ""
    address: str = ""


class NodeStatus(_Struct, frozen=True):
    """Node status."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(_Struct, frozen=True):
    """v1 Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ContainerPort(_Struct, frozen=True):
    """Pod spec.containers[].ports[]."""

    container_port: int
    name: str | None = None
    protocol: str | None = None
    host_port: _PortOrNone = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")


class Container(_Struct, frozen=True):
    """Pod spec.containers[]."""

    name: str = ""
    image: str | None = None
    ports: tuple[ContainerPort, ...] = ()


class InitContainer(_Struct, frozen=True):
    """Pod spec.initContainers[]; one whose restartPolicy is Always is a sidecar, which runs as long as the pod."""

    restart_policy: str | None = None
    ports: tuple[ContainerPort, ...] = ()


class PodDNSConfigOption(_Struct, frozen=True):
    """Pod spec.dnsConfig.options[]."""

    name: str | None = None
    value: str | None = None


class PodDNSConfig(_Struct, frozen=True):
    """Pod spec.dnsConfig."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


class PodSpec(_Struct, frozen=True):
    """Pod spec."""

    node_name: str | None = None
    host_network: bool | None = None
    containers: tuple[Container, ...] = ()
    init_containers: tuple[InitContainer, ...] = ()
    dns_policy: str | None = None
    dns_config: PodDNSConfig | None = None
    hostname: str | None = None
    subdomain: str | None = None


class PodIP(_Struct, frozen=True):
    """Pod status.podIPs[]."""

    ip: str = ""


class PodCondition(_Struct, frozen=True):
    """Pod status.conditions[]."""

    type: str = ""
    status: str = ""


class PodStatus(_Struct, frozen=True):
    """Pod status."""

    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    conditions: tuple[PodCondition, ...] = ()
    phase: str | None = None


class Pod(_Struct, frozen=True):
    """v1 Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's addresses as the API gives them, the primary one first."""
        status = self.status
        listed = tuple(entry.ip for entry in status.pod_ips if entry.ip)
        if status.pod_ip and status.pod_ip not in listed:
            return (status.pod_ip, *listed)
        return listed

    @property
    def finished(self) -> bool:
        """Whether the pod ran to its end, as a Job's does: its address may be another pod's by now."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def container_ports(self) -> tuple[ContainerPort, ...]:
        """The ports that containers and sidecars declare."""
        ports = [port for container in self.spec.containers for port in container.ports]
        ports += [port for one in self.spec.init_containers if one.restart_policy == "Always" for port in one.ports]
        return tuple(ports)

    @property
    def ready(self) -> bool:
        """Whether the pod's Ready condition is True."""
        return any(condition.type == "Ready" and condition.status == "True" for condition in self.status.conditions)


class ServiceBackendPort(_Struct, frozen=True):
    """Ingress backend.service.port: a name or a number."""

    name: str | None = None
    number: int | None = None


class IngressServiceBackend(_Struct, frozen=True):
    """Ingress backend.service."""

    name: str = ""
    port: ServiceBackendPort | None = None


class IngressResource(_Struct, frozen=True):
    """Ingress backend.resource: an object that is no Service."""

    api_group: str | None = None
    kind: str | None = None
    name: str | None = None


class IngressBackend(_Struct, frozen=True):
    """An Ingress backend; `service_name` and `service_port` are the fields of the v1beta1 APIs."""

    service: IngressServiceBackend | None = None
    resource: IngressResource | None = None
    service_name: str | None = None
    service_port: int | str | None = None


class HTTPIngressPath(_Struct, frozen=True):
    """Ingress spec.rules[].http.paths[]."""

    backend: IngressBackend = IngressBackend()
    path: str | None = None
    path_type: str | None = None


class HTTPIngressRuleValue(_Struct, frozen=True):
    """Ingress spec.rules[].http."""

    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(_Struct, frozen=True):
    """Ingress spec.rules[]."""

    host: str | None = None
    http: HTTPIngressRuleValue | None = None


class IngressTLS(_Struct, frozen=True):
    """Ingress spec.tls[]."""

    hosts: tuple[str, ...] = ()
    secret_name: str | None = None


class IngressSpec(_Struct, frozen=True):
    """Ingress spec; `backend` is the default backend of the v1beta1 APIs."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()


class Ingress(_Struct, frozen=True):
    """networking.k8s.io Ingress."""

    metadata: Metadata
    spec: IngressSpec = IngressSpec()
    status: ServiceStatus = ServiceStatus()


class IngressClassSpec(_Struct, frozen=True):
    """IngressClass spec."""

    controller: str | None = None


class IngressClass(_Struct, frozen=True):
    """networking.k8s.io IngressClass."""

    metadata: Metadata
    spec: IngressClassSpec = IngressClassSpec()


class ConfigMapData(_Struct, frozen=True, rename=None):
    """The entries of a ConfigMap's data that cluster DNS and kubelet are configured by."""

    corefile: str | None = msgspec.field(default=None, name="Corefile")
    kubelet: str | None = None


class ConfigMap(_Struct, frozen=True):
    """v1 ConfigMap, of which only CoreDNS's and kubelet's entries are read."""

    metadata: Metadata
    data: ConfigMapData = ConfigMapData()


KubernetesObject = Service | EndpointSlice | Endpoints | Node | Pod | Ingress | IngressClass | ConfigMap
"""Any object that a Cluster holds."""
