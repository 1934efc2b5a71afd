"""What kube-proxy 1.36 writes in IPVS mode on the node that `node` generates: virtual servers, sets, the dummy interface, and the rules beside.

The layout is that of a captured node of 1.36 (KPR 9 to 11); the objects are the same as in iptables mode.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from node import Node

__all__ = ["IpvsDumps"]

_HASH = "family inet hashsize {} maxelem 65536 bucketsize 12 initval 0xaba29e20"
_TYPES = {
    "KUBE-CLUSTER-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
    "KUBE-HEALTH-CHECK-NODE-PORT": "",
    "KUBE-IPVS-IPS": "hash:ip",
    "KUBE-LOAD-BALANCER": "hash:ip,port",
    "KUBE-LOAD-BALANCER-FW": "hash:ip,port",
    "KUBE-LOAD-BALANCER-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
    "KUBE-LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip",
    "KUBE-LOOP-BACK": "hash:ip,port,ip",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-LOCAL-TCP": "",
    "KUBE-NODE-PORT-LOCAL-UDP": "",
    "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-TCP": "",
    "KUBE-NODE-PORT-UDP": "",
}


class IpvsDumps:
    """The dumps of a node in IPVS mode. `addresses`: its own, at which node ports answer; `cluster_cidr`: where pods are."""

    def __init__(self, node: Node, addresses: Iterable[str], cluster_cidr: str, affinity: int) -> None:
        self.node, self.addresses, self.cluster_cidr, self.affinity = node, tuple(addresses), cluster_cidr, affinity
        self.sets: dict[str, dict[str, None]] = {name: {} for name in _TYPES}
        for port in node.ports:
            self.sets["KUBE-CLUSTER-IP"][f"{port.cluster_ip},tcp:{port.port}"] = None
            self.sets["KUBE-IPVS-IPS"][port.cluster_ip] = None
            if port.vip:
                self.sets["KUBE-LOAD-BALANCER"][f"{port.vip},tcp:{port.port}"] = None
                self.sets["KUBE-IPVS-IPS"][port.vip] = None
            if port.node_port:
                self.sets["KUBE-NODE-PORT-TCP"][str(port.node_port)] = None
            if port.node_port and port.external_local:
                self.sets["KUBE-NODE-PORT-LOCAL-TCP"][str(port.node_port)] = None
            for endpoint in port.local_candidates:
                address, _, number = endpoint.partition(":")
                self.sets["KUBE-LOOP-BACK"][f"{address},tcp:{number},{address}"] = None

    def virtual_servers(self) -> Iterator[str]:
        """The lines of `ipvsadm -Sn`."""
        for port in self.node.ports:
            elsewhere = port.endpoints if port.uses_cluster else ()  # KPR 2.3: not chosen where nothing may use them
            inside = port.local or elsewhere if port.internal_local else port.endpoints
            outside = port.local or port.endpoints if port.external_local else port.endpoints
            yield from self._virtual_server(f"{port.cluster_ip}:{port.port}", port.affinity, inside)
            if port.vip:
                yield from self._virtual_server(f"{port.vip}:{port.port}", port.affinity, outside)
            if port.node_port:
                for address in self.addresses:
                    yield from self._virtual_server(f"{address}:{port.node_port}", port.affinity, outside)

    def _virtual_server(self, at: str, affinity: bool, endpoints: Iterable[str]) -> Iterator[str]:
        yield f"-A -t {at} -s rr" + (f" -p {self.affinity}" if affinity else "")
        for endpoint in endpoints:
            yield f"-a -t {at} -r {endpoint} -m -w 1"

    def ipset(self) -> Iterator[str]:
        """The lines of `ipset save`."""
        for name, entries in self.sets.items():
            kind = _TYPES[name]
            size = max(1024, 1 << (len(entries) // 4).bit_length())
            yield f"create {name} {kind} {_HASH.format(size)}" if kind else f"create {name} bitmap:port range 0-65535"
            for entry in entries:
                yield f"add {name} {entry}"

    def dummy(self) -> str:
        """`ip -json addr show dev kube-ipvs0`."""
        entries = [
            {
                "family": "inet",
                "local": address,
                "prefixlen": 32,
                "scope": "global",
                "label": "kube-ipvs0",
                "valid_life_time": 4294967295,
                "preferred_life_time": 4294967295,
            }
            for address in self.sets["KUBE-IPVS-IPS"]
        ]
        link = {
            "ifindex": 5,
            "ifname": "kube-ipvs0",
            "flags": ["BROADCAST", "NOARP"],
            "mtu": 1500,
            "operstate": "DOWN",
            "link_type": "ether",
            "addr_info": entries,
        }
        return json.dumps([link], separators=(",", ":")) + "\n"

    def rules(self) -> Iterator[str]:
        """The rules of filter and nat; those of empty sets are left out (KPR 10)."""
        yield from self._table("filter", _FILTER_CHAINS, _FILTER)
        yield from self._table("nat", _NAT_CHAINS, _NAT)

    def _table(self, name: str, chains: str, rules: str) -> Iterator[str]:
        yield f"# Generated by iptables-save v1.8.9 (nf_tables) on {_TIME}"
        yield f"*{name}"
        for chain in chains.split():
            yield f":{chain} {'-' if chain.startswith('KUBE-') else 'ACCEPT'} [0:0]"
        for line in rules.format(cidr=self.cluster_cidr).splitlines():
            asked = line.partition(" --match-set ")[2].partition(" ")[0]
            if not asked or self.sets[asked] or name == "filter":
                yield line
        yield "COMMIT"
        yield f"# Completed on {_TIME}"


_TIME = "Mon Nov 23 05:28:05 2026"
_FILTER_CHAINS = """INPUT FORWARD OUTPUT KUBE-FORWARD KUBE-IPVS-FILTER KUBE-IPVS-OUT-FILTER KUBE-NODE-PORT KUBE-PROXY-FIREWALL
KUBE-SOURCE-RANGES-FIREWALL"""
_FILTER = """\
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"""
_NAT_CHAINS = (
    "PREROUTING INPUT OUTPUT POSTROUTING KUBE-LOAD-BALANCER KUBE-MARK-MASQ KUBE-NODE-PORT KUBE-POSTROUTING KUBE-SERVICES"
)
_NAT = """\
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" \
-m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" \
-m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" \
-m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES ! -s {cidr} -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" \
-m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT"""
