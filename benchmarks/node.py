"""Generate a healthy node of any size: what kube-proxy 1.36 writes in iptables or IPVS mode, and the objects that ask for it.

    python benchmarks/node.py --services N --endpoints M [--mode MODE] [--nodes K --which I] FOLDER

FOLDER receives iptables-save.txt, objects.json, kube-proxy.args and meta.json, in IPVS mode also ipvsadm-save.txt, ipset.txt and
ip-addr-kube-ipvs0.json; `ruleaudit check FOLDER` finds no fault there. The cluster has K nodes, over which endpoints are spread; the rules
are those of number I. Of every
hundred Services 8 are of type NodePort, 3 more of them with external traffic policy Local, 2 have a load balancer, 4 have session
affinity, 3 no endpoints, 2 internal traffic policy Local, 1 an endpoint that is not ready, 10 two ports. A capture of a real
kube-proxy with 10,000 such Services of 10 endpoints has as many lines of every shape as the node generated here.

The dump is laid out as iptables-legacy-save prints it: chains by name, their rules in the order in which kube-proxy writes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec

from ipvs_dumps import IpvsDumps
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["FILES", "NODE", "Node", "ServicePort", "write_node"]

NODE = "node-a"
FILES = {
    "iptables": ("iptables-save.txt",),
    "ipvs": ("iptables-save.txt", "ipvsadm-save.txt", "ipset.txt", "ip-addr-kube-ipvs0.json"),
}
"""The dumps of a node by kube-proxy's mode."""
_CLUSTER_CIDR = "10.128.0.0/9"
_FIRST_POD_NETWORK = IPv4Address("10.128.0.0")
_POD_BITS = 23
"""So many bits of a pod's address are not fixed by the cluster's network: each node has a part of it, with room for two million where
there are three."""
_FIRST_NODE_ADDRESS = IPv4Address("192.168.100.11")
_NODE_LIMIT = 5_000
_FIRST_POD = 256
_FIRST_CLUSTER_IP = IPv4Address("10.96.10.1")
_FIRST_VIP = IPv4Address("203.0.0.1")
_FIRST_NODE_PORT = 30000  # beyond 2,768 node ports the API server needs a wider --service-node-port-range
_SERVICE_LIMIT = 200_000
_NAMESPACES = 20
_AFFINITY_SECONDS = 10800
_LARGE = 1000  # endpoints; with more, kube-proxy leaves the comments of endpoint rules out (KPR 7.1)
_TIME = "Mon Nov 23 05:28:05 2026"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service: what its rules are written from.

    `endpoints` and `local` ("ip:port") are those that are used, all and this node's, in kube-proxy's order; `local_candidates` this node's, ready
    or not; `node_port` 0 and `vip` "" where it has none.
    """

    name: str
    cluster_ip: str
    port: int
    node_port: int
    vip: str
    affinity: bool
    external_local: bool
    internal_local: bool
    endpoints: tuple[str, ...]
    local: tuple[str, ...]
    local_candidates: tuple[str, ...]
    suffix: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", chain_hash(self.name, "TCP"))

    @property
    def external(self) -> bool:
        """Whether clients outside the cluster can reach it."""
        return bool(self.node_port or self.vip)

    @property
    def uses_cluster(self) -> bool:
        """Whether any traffic may go to endpoints of other nodes (KPR 1.3)."""
        return self.external or not self.internal_local

    @property
    def reachable(self) -> tuple[str, ...]:
        """The endpoints that have a chain on this node (KPR 2.3)."""
        return self.endpoints if self.uses_cluster else self.local

    def endpoint_chain(self, endpoint: str) -> str:
        """The name of an endpoint's chain."""
        return "KUBE-SEP-" + endpoint_chain_hash(self.name, "TCP", endpoint)


class _Port(TypedDict):
    name: str
    port: int
    target: int
    node_port: int


class Node:
    """`services` Services of `endpoints` endpoints each, and kubernetes itself, on number `which` of `nodes` nodes.

    Raises ValueError where addresses do not suffice.
    """

    def __init__(self, services: int, endpoints: int, nodes: int = 3, which: int = 0) -> None:
        if not 0 <= which < nodes <= _NODE_LIMIT:
            raise ValueError(f"1 to {_NODE_LIMIT:,} nodes, and one of them")
        self.pod_bits = _POD_BITS - (nodes - 1).bit_length()
        limit = 1 << self.pod_bits
        if not 0 < services <= _SERVICE_LIMIT or endpoints < 0 or services * endpoints + _FIRST_POD > limit:
            raise ValueError(f"1 to {_SERVICE_LIMIT:,} services, and at most {limit - _FIRST_POD:,} endpoints in all")
        self.services, self.endpoints, self.nodes, self.which = services, endpoints, nodes, which
        self.ports = [_kubernetes(), *(port for number in range(services) for port in self._service_ports(number))]
        self.large = 1 + sum(self._backends(number) * len(self._ports(number)) for number in range(services)) > _LARGE

    # --- the cluster's nodes -----------------------------------------------------------------------------------------------------------

    def node_name(self, node: int) -> str:
        """The name of a node, by its number."""
        return f"node-{chr(ord('a') + node)}" if self.nodes <= 26 else f"node-{node:04}"

    def node_address(self, node: int) -> str:
        """The InternalIP of a node, by its number."""
        return str(_FIRST_NODE_ADDRESS + node)

    def pod_network(self, node: int) -> IPv4Address:
        """The first address of a node's pods."""
        return _FIRST_POD_NETWORK + (node << self.pod_bits)

    # --- what each Service is like -----------------------------------------------------------------------------------------------------

    def _kind(self, number: int) -> str:
        place = number % 100
        return "NodePort" if place <= 10 else "LoadBalancer" if place <= 12 else "ClusterIP"

    def _ports(self, number: int) -> list[_Port]:
        # Of a hundred Services the first thirteen have node ports, the fourth of them two.
        hundreds, place = divmod(number, 100)
        first = _FIRST_NODE_PORT + 14 * hundreds + place + (place > 3)
        exposed = place <= 12
        ports = [_Port(name="http", port=80, target=8080, node_port=first if exposed else 0)]
        if number % 10 == 3:
            ports.append(_Port(name="metrics", port=9090, target=9090, node_port=first + 1 if exposed else 0))
        return ports

    def _name(self, number: int) -> tuple[str, str]:
        return f"scale-{number % _NAMESPACES:02}", f"svc-{number:05}"

    def _affinity(self, number: int) -> bool:
        return 13 <= number % 100 <= 16

    def _external_local(self, number: int) -> bool:
        return 8 <= number % 100 <= 10

    def _internal_local(self, number: int) -> bool:
        return 20 <= number % 100 <= 21

    def _vip(self, number: int) -> str:
        return str(_FIRST_VIP + number) if self._kind(number) == "LoadBalancer" else ""

    def _backends(self, number: int) -> int:
        return 0 if 17 <= number % 100 <= 19 else self.endpoints

    def _pods(self, number: int) -> Iterator[tuple[str, int, bool]]:
        """Address, index of the node, and readiness of every endpoint."""
        for index in range(self._backends(number)):
            node = (number + index) % self.nodes
            address = self.pod_network(node) + _FIRST_POD + number * self.endpoints + index
            yield str(address), node, not (number % 100 == 30 and index == 0)

    def _service_ports(self, number: int) -> Iterator[ServicePort]:
        every = list(self._pods(number))
        pods = [(address, node) for address, node, ready in every if ready]
        for port in self._ports(number):
            # kube-proxy sorts by text (KPR 2.2.1).
            used = sorted((f"{address}:{port['target']}", node) for address, node in pods)
            yield ServicePort(
                "{}/{}:{}".format(*self._name(number), port["name"]),
                str(_FIRST_CLUSTER_IP + number),
                port["port"],
                port["node_port"],
                self._vip(number),
                self._affinity(number),
                self._external_local(number),
                self._internal_local(number),
                tuple(endpoint for endpoint, _node in used),
                tuple(endpoint for endpoint, node in used if node == self.which),
                tuple(f"{address}:{port['target']}" for address, node, _ready in every if node == self.which),
            )

    # --- the dump ----------------------------------------------------------------------------------------------------------------------

    def dump(self) -> Iterator[str]:
        """The lines of iptables-save, without their ends."""
        yield from _table("filter", _FILTER_HEAD, chain_rules=self._filter_rules())
        yield from _table("mangle", _MANGLE_HEAD, chain_rules=())
        yield from self._nat()

    def _filter_rules(self) -> Iterator[str]:
        yield from _FILTER_HOOKS
        for port in self.ports:
            yield from _outside_refusals(port)
        yield from _FILTER_FIXED
        for port in self.ports:
            target = _refusal(port, local=port.internal_local)
            if target:
                what, verdict = target
                yield f"-A KUBE-SERVICES -d {port.cluster_ip}/32 {_asks(f'{port.name} {what}', port.port)} -j {verdict}"

    def _nat(self) -> Iterator[str]:
        chains = sorted(self._service_chains())
        heads = [name for name, *_rest in chains]
        fixed = ("KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-PROXY-CANARY", "KUBE-SERVICES")
        yield from _table(
            "nat",
            [*_NAT_HEAD, *(f":{name} - [0:0]" for name in sorted([*heads, *fixed]))],
            chain_rules=self._nat_rules(chains),
        )

    def _service_chains(self) -> Iterator[tuple[str, int, str]]:
        """Name, index of the service port, and endpoint ("" when it is no endpoint's) of every chain that belongs to one."""
        for index, port in enumerate(self.ports):
            if not port.endpoints:
                continue
            if port.external:
                yield "KUBE-EXT-" + port.suffix, index, ""
            if port.uses_cluster:
                yield "KUBE-SVC-" + port.suffix, index, ""
            if port.local and (port.internal_local or (port.external_local and port.external)):
                yield "KUBE-SVL-" + port.suffix, index, ""
            for endpoint in port.reachable:
                yield port.endpoint_chain(endpoint), index, endpoint

    def _nat_rules(self, chains: Sequence[tuple[str, int, str]]) -> Iterator[str]:
        yield from _NAT_HOOKS
        writers = {"KUBE-EXT-": _external_rules, "KUBE-SVC-": self._spreading, "KUBE-SVL-": self._spreading}
        done: set[str] = set()
        for name, index, endpoint in chains:
            # The fixed chains stand between those of service ports: the dump is in the order of names.
            for fixed in ("KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-SERVICES"):
                if fixed < name and fixed not in done:
                    done.add(fixed)
                    yield from self._fixed_rules(fixed)
            port = self.ports[index]
            if endpoint:
                yield from self._endpoint_rules(name, port, endpoint)
            else:
                yield from writers[name[:9]](name, port)

    def _fixed_rules(self, name: str) -> Iterator[str]:
        if name == "KUBE-MARK-MASQ":
            yield "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"
        elif name == "KUBE-POSTROUTING":
            yield from _POSTROUTING
        elif name == "KUBE-NODEPORTS":
            for port in self.ports:
                if port.node_port and port.endpoints:
                    rule = f"{_asks(port.name, port.node_port)} -j KUBE-EXT-{port.suffix}"
                    yield f"-A KUBE-NODEPORTS -d 127.0.0.0/8 {rule}"
                    yield f"-A KUBE-NODEPORTS {rule}"
        else:
            for port in self.ports:
                yield from _dispatch(port)
            yield _LAST_OF_SERVICES

    def _spreading(self, chain: str, port: ServicePort) -> Iterator[str]:
        """KUBE-SVC- and KUBE-SVL- (KPR 5.3)."""
        local = chain.startswith("KUBE-SVL-")
        if local == port.internal_local:
            asks = _asks(f"{port.name} cluster IP", port.port)
            yield f"-A {chain} ! -s {_CLUSTER_CIDR} -d {port.cluster_ip}/32 {asks} -j KUBE-MARK-MASQ"
        ways = [(endpoint, port.endpoint_chain(endpoint)) for endpoint in (port.local if local else port.endpoints)]
        if port.affinity:
            for endpoint, target in ways:
                recent = (
                    f"-m recent --rcheck --seconds {_AFFINITY_SECONDS} --reap --name {target} --mask 255.255.255.255 --rsource"
                )
                yield f"-A {chain} {self._comment(f'{port.name} -> {endpoint}')}{recent} -j {target}"
        for index, (endpoint, target) in enumerate(ways):
            left = len(ways) - index
            share = f"-m statistic --mode random --probability {_probability(left)} " if left > 1 else ""
            yield f"-A {chain} {self._comment(f'{port.name} -> {endpoint}')}{share}-j {target}"

    def _endpoint_rules(self, chain: str, port: ServicePort, endpoint: str) -> Iterator[str]:
        """KUBE-SEP- (KPR 5.7)."""
        comment = self._comment(port.name)
        recent = f"-m recent --set --name {chain} --mask 255.255.255.255 --rsource " if port.affinity else ""
        yield f"-A {chain} -s {endpoint.partition(':')[0]}/32 {comment}-j KUBE-MARK-MASQ"
        yield f"-A {chain} -p tcp {comment}{recent}-m tcp -j DNAT --to-destination {endpoint}"

    def _comment(self, text: str) -> str:
        return "" if self.large else f'-m comment --comment "{text}" '

    # --- the objects -------------------------------------------------------------------------------------------------------------------

    def objects(self) -> Iterator[bytes]:
        """The pieces of a kubectl List in JSON, laid out as kubectl prints it."""
        yield b'{\n    "apiVersion": "v1",\n    "items": [\n        '
        for number, item in enumerate(self._items()):
            if number:
                yield b",\n        "
            yield msgspec.json.format(msgspec.json.encode(item), indent=4).replace(b"\n", b"\n        ")
        yield b'\n    ],\n    "kind": "List",\n    "metadata": {\n        "resourceVersion": ""\n    }\n}\n'

    def _items(self) -> Iterator[dict[str, object]]:
        yield _service("default", "kubernetes", {**_CLUSTER_IP, **_addressed("10.96.0.1"), "ports": [_port("https", 443, 6443)]})
        for number in range(self.services):
            yield self._service(number)
        yield _slice("default", "kubernetes", [_endpoint("192.168.100.1")], [("https", 6443)])
        for number in range(self.services):
            namespace, name = self._name(number)
            endpoints = [
                _endpoint(address, self.node_name(node), zone=_zone(node), ready=ready, pod=(namespace, f"{name}-{index}"))
                for index, (address, node, ready) in enumerate(self._pods(number))
            ]
            yield _slice(namespace, name, endpoints, [(port["name"], port["target"]) for port in self._ports(number)])
        for node in range(self.nodes):
            network = f"{self.pod_network(node)}/{32 - self.pod_bits}"
            yield _node(self.node_name(node), self.node_address(node), network, _zone(node))

    def _service(self, number: int) -> dict[str, object]:
        kind = self._kind(number)
        spec: dict[str, object] = {**_CLUSTER_IP, **_addressed(str(_FIRST_CLUSTER_IP + number)), "type": kind}
        if kind != "ClusterIP":
            spec["externalTrafficPolicy"] = "Local" if self._external_local(number) else "Cluster"
        if self._internal_local(number):
            spec["internalTrafficPolicy"] = "Local"
        if self._affinity(number):
            spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}}
        spec["ports"] = [_port(port["name"], port["port"], port["target"], port["node_port"]) for port in self._ports(number)]
        vip = self._vip(number)
        return _service(*self._name(number), spec, [{"ip": vip, "ipMode": "VIP"}] if vip else None)


# --- rules of one service port ---------------------------------------------------------------------------------------------------------


def _kubernetes() -> ServicePort:
    return ServicePort("default/kubernetes:https", "10.96.0.1", 443, 0, "", False, False, False, ("192.168.100.1:6443",), (), ())


def _asks(comment: str, port: int, more: str = "") -> str:
    return f'-p tcp -m comment --comment "{comment}" {more}-m tcp --dport {port}'


def _refusal(port: ServicePort, *, local: bool) -> tuple[str, str] | None:
    """What the comment and the target say of traffic that finds no endpoint; None where it finds one (KPR 5.2)."""
    if not port.endpoints:
        return "has no endpoints", "REJECT --reject-with icmp-port-unreachable"
    return ("has no local endpoints", "DROP") if local and not port.local else None


def _outside_refusals(port: ServicePort) -> Iterator[str]:
    refusal = _refusal(port, local=port.external_local)
    if refusal is None:
        return
    comment, verdict = f"{port.name} {refusal[0]}", refusal[1]
    if port.vip:
        yield f"-A KUBE-EXTERNAL-SERVICES -d {port.vip}/32 {_asks(comment, port.port)} -j {verdict}"
    if port.node_port:
        yield f"-A KUBE-EXTERNAL-SERVICES {_asks(comment, port.node_port, '-m addrtype --dst-type LOCAL ')} -j {verdict}"


def _dispatch(port: ServicePort) -> Iterator[str]:
    """Its rules of nat KUBE-SERVICES (KPR 5.1)."""
    if _refusal(port, local=port.internal_local) is None:
        target = f"KUBE-{'SVL' if port.internal_local else 'SVC'}-{port.suffix}"
        yield f"-A KUBE-SERVICES -d {port.cluster_ip}/32 {_asks(f'{port.name} cluster IP', port.port)} -j {target}"
    if port.vip and port.endpoints:
        yield f"-A KUBE-SERVICES -d {port.vip}/32 {_asks(f'{port.name} loadbalancer IP', port.port)} -j KUBE-EXT-{port.suffix}"


def _external_rules(chain: str, port: ServicePort) -> Iterator[str]:
    """KUBE-EXT- (KPR 5.5)."""
    end = f"{port.name} external destinations"
    node = "-m addrtype --src-type LOCAL"
    if not port.external_local:
        yield f'-A {chain} -m comment --comment "masquerade traffic for {end}" -j KUBE-MARK-MASQ'
        yield f"-A {chain} -j KUBE-SVC-{port.suffix}"
        return
    yield f'-A {chain} -s {_CLUSTER_CIDR} -m comment --comment "pod traffic for {end}" -j KUBE-SVC-{port.suffix}'
    yield f'-A {chain} -m comment --comment "masquerade LOCAL traffic for {end}" {node} -j KUBE-MARK-MASQ'
    yield f'-A {chain} -m comment --comment "route LOCAL traffic for {end}" {node} -j KUBE-SVC-{port.suffix}'
    if port.local:
        yield f"-A {chain} -j KUBE-SVL-{port.suffix}"


def _probability(left: int) -> str:
    """The share of one of `left` endpoints as iptables-save prints it: the kernel keeps 31 bits of it (KPR 5.4)."""
    return f"{int(float(f'{1 / left:.10f}') * (1 << 31) + 0.5) / (1 << 31):.11f}"


# --- what is the same on every node ----------------------------------------------------------------------------------------------------


def _table(name: str, heads: Sequence[str], *, chain_rules: Iterable[str]) -> Iterator[str]:
    yield f"# Generated by iptables-save v1.8.9 on {_TIME}"
    yield f"*{name}"
    yield from heads
    yield from chain_rules
    yield "COMMIT"
    yield f"# Completed on {_TIME}"


_FILTER_HEAD = """\
:INPUT ACCEPT [209:495975]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [209:495975]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]""".splitlines()
_FILTER_HOOKS = """\
-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES""".splitlines()
_FILTER_FIXED = """\
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" \
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT""".splitlines()
_MANGLE_HEAD = """\
:PREROUTING ACCEPT [12631:19957196]
:INPUT ACCEPT [12631:19957196]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [8717:1185898]
:POSTROUTING ACCEPT [8717:1185898]
:KUBE-PROXY-CANARY - [0:0]""".splitlines()
_NAT_HEAD = """\
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [5:300]
:POSTROUTING ACCEPT [5:300]""".splitlines()
_NAT_HOOKS = """\
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING""".splitlines()
_POSTROUTING = """\
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully""".splitlines()
_LAST_OF_SERVICES = (
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
    "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
)

_CLUSTER_IP: dict[str, object] = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None",
    "type": "ClusterIP",
}
_CREATED = "2026-11-23T05:24:41Z"


def _addressed(address: str) -> dict[str, object]:
    return {"clusterIP": address, "clusterIPs": [address]}


def _port(name: str, port: int, target: int, node_port: int = 0) -> dict[str, object]:
    known: dict[str, object] = {"name": name, "port": port, "protocol": "TCP", "targetPort": target}
    return {**known, "nodePort": node_port} if node_port else known


def _metadata(name: str, namespace: str | None = None, **more: object) -> dict[str, object]:
    # As long as the API server's; what they say is looked at by nobody.
    known: dict[str, object] = {
        "creationTimestamp": _CREATED,
        "resourceVersion": "100",
        "uid": "85ab286a-9728-4ff0-9c4c-dbbb5438be83",
    }
    return {**known, "name": name, **({} if namespace is None else {"namespace": namespace}), **more}


def _service(
    namespace: str, name: str, spec: dict[str, object], ingress: list[dict[str, str]] | None = None
) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, namespace),
        "spec": spec,
        "status": {"loadBalancer": {} if ingress is None else {"ingress": ingress}},
    }


def _zone(node: int) -> str:
    return f"zone-{'abc'[node % 3]}"


def _endpoint(
    address: str, node: str | None = None, *, zone: str | None = None, ready: bool = True, pod: tuple[str, str] | None = None
) -> dict[str, object]:
    known: dict[str, object] = {"addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": False}}
    if node is not None:
        known |= {"nodeName": node, "zone": zone}
    if pod is not None:
        known["targetRef"] = {"kind": "Pod", "name": pod[1], "namespace": pod[0]}
    return known


def _slice(
    namespace: str, service: str, endpoints: list[dict[str, object]], ports: Sequence[tuple[str, int]]
) -> dict[str, object]:
    labels = {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": service,
    }
    return {
        "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": endpoints,
        "kind": "EndpointSlice",
        "metadata": _metadata(f"{service}-abcde", namespace, generation=1, labels=labels),
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports],
    }


def _node(name: str, address: str, pods: str, zone: str) -> dict[str, object]:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": zone,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata(name, labels=labels),
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {"addresses": [{"address": address, "type": "InternalIP"}, {"address": name, "type": "Hostname"}]},
    }


# --- files -----------------------------------------------------------------------------------------------------------------------------


def write_node(
    folder: Path,
    services: int,
    endpoints: int,
    mode: str = "iptables",
    *,
    nodes: int = 3,
    which: int = 0,
    with_objects: bool = True,
) -> None:
    """Write the node into a folder, which is made if need be. `mode`: "iptables" or "ipvs". Raises ValueError as `Node` does, OSError where it
    cannot be written.
    """
    node = Node(services, endpoints, nodes, which)
    folder.mkdir(parents=True, exist_ok=True)
    dumps = {"iptables-save.txt": node.dump()}
    if mode == "ipvs":
        own = (node.node_address(which), str(node.pod_network(which) + 1))
        ipvs = IpvsDumps(node, own, _CLUSTER_CIDR, _AFFINITY_SECONDS)
        dumps = {"iptables-save.txt": ipvs.rules(), "ipvsadm-save.txt": ipvs.virtual_servers(), "ipset.txt": ipvs.ipset()}
        (folder / "ip-addr-kube-ipvs0.json").write_text(ipvs.dummy())
    for name, lines in dumps.items():
        with (folder / name).open("w") as dump:
            dump.writelines(line + "\n" for line in lines)
    if with_objects:
        with (folder / "objects.json").open("wb") as objects:
            objects.writelines(node.objects())
    arguments = (
        f"--hostname-override={node.node_name(which)}",
        f"--proxy-mode={mode}",
        "--detect-local-mode=ClusterCIDR",
        f"--cluster-cidr={_CLUSTER_CIDR}",
    )
    (folder / "kube-proxy.args").write_text("\n".join(("kube-proxy-1.36", *arguments)) + "\n")
    meta = {
        "node": node.node_name(which),
        "node_ips": [node.node_address(which)],
        "kube_proxy_version": "Kubernetes v1.36.2",
        "mode": mode,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000, metavar="N")
    parser.add_argument("--endpoints", type=int, default=10, metavar="M", help="endpoints of each Service")
    parser.add_argument("--mode", choices=("iptables", "ipvs"), default="iptables", help="how kube-proxy programs the node")
    parser.add_argument("--nodes", type=int, default=3, metavar="K", help="nodes of the cluster")
    parser.add_argument("--which", type=int, default=0, metavar="I", help="the node that the rules are of")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        write_node(given.folder, given.services, given.endpoints, given.mode, nodes=given.nodes, which=given.which)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
