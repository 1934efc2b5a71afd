"""The packets by which a frontend is judged: one client per vantage point, with an address that stands for all of its kind.

A representative must not be singled out by accident: it is chosen outside of every prefix that rules, endpoints or pods name, as far
as its role allows (docs/semantics.md, S13).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from ruleaudit.dataplane.packet import HOST_SIDE, POD_SIDE, Interface, Packet
from ruleaudit.forwarding import Vantage

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

__all__ = ["Clients", "choose_clients"]

# Networks kept for documentation and benchmarks (RFC 5737, 2544, 3849): no real client lives there, so no rule should name them by chance.
_OUTSIDE = {
    4: ("198.18.0.0/15", "203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "100.64.0.0/10", "9.0.0.0/8", "25.0.0.0/8"),
    6: ("2001:2::/48", "2001:db8:ffff::/48", "2001:db8::/32", "2a00::/12"),
}


@dataclass(frozen=True, slots=True)
class Clients:
    """The source addresses and incoming interfaces of the three vantage points, for one family."""

    family: int
    pod: str
    node: str
    outside: str
    pod_interface: Interface
    node_address: str
    asks_from_vip: bool = False
    """The node's packets to a VIP come from that VIP, which is its own in IPVS mode (the local route to kube-ipvs0 chooses it)."""
    node_known: bool = True
    """Whether `node_address` is the node's; otherwise nothing gives it, and another stands for it."""
    _known: dict[tuple[Vantage, str, str | None], Packet] = field(default_factory=dict, repr=False, compare=False, init=False)

    def client(self, vantage: Vantage, protocol: str, destination: str, source: str | None = None) -> Packet:
        """A packet of the client that asks `destination` from a vantage point: the same value for all destinations that it asks alike."""
        if vantage is Vantage.NODE and source is None and self._asks_from(destination):
            source = destination
        key = (vantage, protocol, source)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.packet(vantage, protocol, destination, 0, source)
        return known

    def _asks_from(self, destination: str) -> bool:
        return self.asks_from_vip or destination.startswith("127.") or destination == "::1"

    def packet(self, vantage: Vantage, protocol: str, destination: str, port: int, source: str | None = None) -> Packet:
        """The first packet of a connection from a vantage point. `protocol` as a frontend has it ("TCP")."""
        name = protocol.lower()
        if vantage is Vantage.NODE:
            own = source or (destination if self._asks_from(destination) else self.node)
            return Packet(self.family, name, own, destination, port, from_node=True)
        if vantage is Vantage.POD:
            return Packet(self.family, name, source or self.pod, destination, port, in_interface=self.pod_interface)
        return Packet(self.family, name, source or self.outside, destination, port, in_interface=HOST_SIDE, bridged=False)


def choose_clients(
    family: int,
    *,
    pod_networks: Iterable[str],
    node_addresses: Iterable[str],
    pod_interface: str | None,
    avoid: Iterable[Container[str]],
    avoid_networks: Iterable[str],
) -> Clients:
    """Choose the clients of a node.

    `pod_networks`: the node's pod CIDRs, best first; `node_addresses`: its own, primary first; `pod_interface`: the name or
    prefix (ending in "+") of pods' interfaces where kube-proxy tells local traffic by it; `avoid`: groups of addresses and
    `avoid_networks`: prefixes that rules or objects name.
    """
    nodes = [one for one in node_addresses if (":" in one) == (family == 6)]
    node = nodes[0] if nodes else ("198.18.255.254" if family == 4 else "2001:2::fffe")
    blocked = [
        parsed
        for text in avoid_networks
        if (parsed := _network(text)) is not None and parsed.version == family and parsed.prefixlen
    ]
    avoid = list(avoid)
    pod = None
    for text in pod_networks:
        parsed = _network(text)
        if parsed is not None and parsed.version == family:
            pod = _free(parsed, avoid, [one for one in blocked if one.prefixlen > parsed.prefixlen])
            if pod is not None:
                break
    outside = None
    for text in _OUTSIDE[family]:
        outside = _free(ip_network(text), [*avoid, {node}], blocked)
        if outside is not None:
            break
    outside = outside or str(ip_network(_OUTSIDE[family][0])[-3])
    interface = (
        POD_SIDE
        if pod_interface is None
        else Interface(pod_interface.removesuffix("+") + ("0" if pod_interface.endswith("+") else ""), True)
    )
    return Clients(family, pod or outside, node, outside, interface, node, node_known=bool(nodes))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _free(
    where: IPv4Network | IPv6Network, avoid: Sequence[Container[str]], blocked: list[IPv4Network | IPv6Network]
) -> str | None:
    """An address of a network, from its end, that nothing names."""
    last = int(where.broadcast_address)
    step = max(1, where.num_addresses // 512)
    for offset in range(2, min(where.num_addresses, 1026), 1):
        candidate = ip_address(last - offset * step if offset * step < where.num_addresses else last - offset)
        text = str(candidate)
        if not any(text in one for one in avoid) and not any(candidate in one for one in blocked):
            return text
    return None
