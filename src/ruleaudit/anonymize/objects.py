"""Objects without their names: written anew from the fields that ruleaudit reads, so that nothing else is in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ruleaudit.ways.ingress_controllers import known_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as TypingMapping

    from ruleaudit.anonymize.mapping import Mapping
    from ruleaudit.cluster import Cluster

__all__ = ["objects_without_names"]

_VERSIONS: Final = {
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Endpoints": "v1",
    "Node": "v1",
    "Pod": "v1",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
}
_KEPT: Final = frozenset(
    {"kind", "type", "protocol", "creationTimestamp", "deletionTimestamp", "resourceVersion", "ipFamilies", "externalTrafficPolicy",
     "internalTrafficPolicy", "sessionAffinity", "trafficDistribution", "ipMode", "addressType", "phase", "status", "restartPolicy",
     "dnsPolicy", "pathType"}
)  # fmt: skip
"""Fields whose values are words of the API, or times."""
_WORDS: Final = frozenset(
    {
        # Kinds that own, are endpoints of or stand behind something.
        "Service", "EndpointSlice", "Endpoints", "Node", "Pod", "Ingress", "IngressClass", "ReplicaSet", "ReplicationController", "DaemonSet",
        "StatefulSet", "Deployment", "Job", "CronJob", "Namespace",
        # Types of Services, of addresses and of conditions; families and protocols.
        "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS", "Ready",
        "ContainersReady", "Initialized", "PodScheduled", "PodReadyToStartContainers", "DisruptionTarget", "MemoryPressure", "DiskPressure",
        "PIDPressure", "NetworkUnavailable", "IPv4", "IPv6", "IP", "FQDN", "TCP", "UDP", "SCTP",
        # Policies, phases and other choices.
        "Cluster", "Local", "ClientIP", "None", "PreferClose", "PreferSameZone", "PreferSameNode", "VIP", "Proxy", "Pending", "Running",
        "Succeeded", "Failed", "Unknown", "True", "False", "Always", "OnFailure", "Never", "ClusterFirst", "ClusterFirstWithHostNet", "Default",
        "Exact", "Prefix", "ImplementationSpecific",
    }
)  # fmt: skip
"""The words that the API itself has in these fields."""
_ADDRESSES: Final = frozenset(
    {"clusterIP", "clusterIPs", "externalIPs", "ip", "hostIP", "podIP", "addresses", "address", "nameservers"}
)
_NETWORKS: Final = frozenset({"loadBalancerSourceRanges", "podCIDR", "podCIDRs"})
_HOSTS: Final = frozenset({"host", "hosts", "hostname", "externalName", "searches"})
_PORT_NAMES: Final = frozenset({"targetPort", "servicePort"})
_LABELS: Final = frozenset({"labels", "selector", "topology", "deprecatedTopology"})
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_TIMES: Final = frozenset({"creationTimestamp", "deletionTimestamp"})
# What of annotations changes what kube-proxy and controllers do, or says when it happened; and the values that mean something there.
_ANNOTATIONS: Final = {
    "service.kubernetes.io/topology-aware-hints": re.compile("[Aa]uto|[Dd]isabled"),
    "service.kubernetes.io/topology-mode": re.compile("[Aa]uto|[Dd]isabled"),
    "endpoints.kubernetes.io/last-change-trigger-time": _TIME,
    "ingressclass.kubernetes.io/is-default-class": re.compile("true|false"),
    "kubernetes.io/ingress.class": None,
}
_KEPT_LABELS: Final = frozenset(
    {"endpointslice-controller.k8s.io", "endpoint-controller", "endpointslicemirroring-controller.k8s.io"}
)


def objects_without_names(cluster: Cluster, mapping: Mapping) -> Iterator[tuple[str, bytes]]:
    """The objects of a cluster by kind: (kind, a list of that kind in JSON). Kinds that were given and have no object are empty lists."""
    held: dict[str, TypingMapping[Any, object]] = {
        "Service": cluster.services,
        "EndpointSlice": cluster.slices,
        "Endpoints": cluster.endpoints,
        "Node": cluster.nodes,
        "Pod": cluster.pods,
        "Ingress": cluster.ingresses,
        "IngressClass": cluster.ingress_classes,
    }
    for kind, objects in held.items():
        if not cluster.has_kind(kind):
            continue
        version = _VERSIONS[kind]
        items: list[dict[str, Any]] = [
            {"apiVersion": version, "kind": kind, **_members(msgspec.to_builtins(one), "", mapping)} for one in objects.values()
        ]
        if kind == "EndpointSlice":  # what v1 calls deprecatedTopology was v1beta1's topology
            for item in items:
                if any("topology" in one for one in item.get("endpoints", ())):
                    item["apiVersion"] = "discovery.k8s.io/v1beta1"
        yield (
            kind,
            msgspec.json.format(msgspec.json.encode({"apiVersion": version, "kind": f"{kind}List", "items": items}), indent=1),
        )


def _members(value: dict[str, object], parent: str, mapping: Mapping) -> dict[str, object]:
    found: dict[str, object] = {}
    for field, member in value.items():
        if member is None or member in ((), [], {}):
            continue
        if field in _LABELS and isinstance(member, dict):
            found[field] = {mapping.label_key(key): _label(text, mapping) for key, text in member.items()}
        elif field == "annotations" and isinstance(member, dict):
            kept = {key: _annotation(key, text, mapping) for key, text in member.items() if key in _ANNOTATIONS}
            if kept:
                found[field] = kept
        else:
            found[field] = _value(member, field, parent, mapping)
    return found


def _value(value: object, field: str, parent: str, mapping: Mapping) -> object:
    if isinstance(value, dict):
        return _members(value, field, mapping)
    if isinstance(value, list | tuple):
        return [_value(one, field, parent, mapping) for one in value]
    return _text(value, field, parent, mapping) if isinstance(value, str) else value


def _text(text: str, field: str, parent: str, mapping: Mapping) -> str:
    if field in _KEPT:
        known = _TIME.fullmatch(text) if field in _TIMES else text.isdigit() if field == "resourceVersion" else text in _WORDS
        return text if known or not text else mapping.name(text)
    if field in _ADDRESSES:
        return text if text in ("", "None") else mapping.host(text)
    if field in _NETWORKS:
        return mapping.network(text.strip())
    if field in _HOSTS:
        return mapping.host(text)
    if field in _PORT_NAMES or (field == "name" and parent in ("ports", "port")):
        return mapping.port_name(text)
    if field == "topologyKeys":
        return mapping.label_key(text)
    if field == "path":
        return "/".join(
            mapping.name(part) if re.fullmatch(r"[\w.-]+", part) else mapping.token(part) if part else ""
            for part in text.split("/")
        )
    if field == "controller":
        return _controller(text, mapping)
    if field == "apiGroup":
        return "/".join(mapping.name(part) for part in text.split("/"))
    if parent == "options" and re.fullmatch(r"[a-z0-9-]{1,20}", text):
        return text  # of resolv.conf
    return mapping.name(text)


def _label(text: str, mapping: Mapping) -> str:
    return text if text in _KEPT_LABELS else mapping.name(text)


def _annotation(key: str, text: str, mapping: Mapping) -> str:
    kept = _ANNOTATIONS[key]
    return text if kept is not None and kept.fullmatch(text) else mapping.name(text)


def _controller(text: str, mapping: Mapping) -> str:
    """The controller of an IngressClass: the name of a well-known one stays, what follows it does not."""
    known = known_controller(text) or ""
    return known + "/".join(mapping.name(part) for part in text[len(known) :].split("/"))
