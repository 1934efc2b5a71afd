"""The packet that is followed through the rules, and what is known of the node it meets.

A packet here is the first of a connection (S1). What a question leaves open is None, and a match that needs it is undecided (S5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton

__all__ = ["HOST_SIDE", "PROTOCOL_NUMBERS", "Host", "Interface", "Packet", "address_number", "network"]

PROTOCOL_NUMBERS = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
    "icmpv6": 58, "ipv6-icmp": 58, "vrrp": 112, "sctp": 132, "udplite": 136, "mh": 135, "ospf": 89,
}  # fmt: skip

# Interfaces whose role their name tells (S9): the loopback and bridges of other container and virtual-machine software never carry a
# Kubernetes client's packets; pod-side interfaces never carry an outside client's.
_NOT_KUBERNETES = re.compile(
    r"^(lo|docker0|docker_gwbridge|br-[0-9a-f]{12}|virbr\d+(-nic)?|lxcbr\d+|lxdbr\d+|podman\d+|vmnet\d+)$"
)
_POD_SIDE = re.compile(
    r"^(cni\d|cbr\d|kube-bridge|kube-ipvs|nodelocaldns|flannel|vxlan|tunl|wireguard\.cali|veth|cali|lxc|cilium|eni|azv|nerdctl"
    r"|weave|vethwe|antrea|genev_sys|gke|pod)"
)
_OVERLAY = re.compile(r"^(flannel|vxlan|tunl|wireguard\.cali|cilium|weave$|antrea|genev_sys|kube-bridge|eni|azv|gke)")


@lru_cache(maxsize=1 << 18)
def network(text: str) -> tuple[int, int, int]:
    """(family, base address, mask) of a printed address, prefix or address/mask. Raises ValueError on anything else."""
    parsed: IPv4Network | IPv6Network = ip_network(text, strict=False)
    return parsed.version, int(parsed.network_address), int(parsed.netmask)


def address_number(text: str) -> int:
    """The number of an address text. Raises ValueError when it is none."""
    try:
        return int.from_bytes(inet_pton(AF_INET6 if ":" in text else AF_INET, text))
    except (OSError, ValueError):
        return int(ip_address(text))


@dataclass(frozen=True, slots=True, eq=False)
class Interface:
    """What is known of the interface a packet comes from or leaves by.

    `name`: known by name ("" for none, as the incoming interface in OUTPUT). With name None only the role is known: `pod_side` True for
    a pod's interface, False for the node's uplink, None for either.
    """

    name: str | None = None
    pod_side: bool | None = None
    overlay: bool = False
    """It may be an overlay network's, by which packets of other nodes' pods come, though it is on no pod's side."""

    def matches(self, pattern: str) -> bool | None:
        """Whether `-i`/`-o` PATTERN matches (a trailing `+` matches any suffix); None when the role does not tell (S9)."""
        if self.name is not None:
            return self.name.startswith(pattern[:-1]) if pattern.endswith("+") else self.name == pattern
        if pattern == "+":
            return True
        stem = pattern.removesuffix("+")
        if _NOT_KUBERNETES.match(stem) or (pattern.endswith("+") and stem in ("br-", "docker", "virbr")):
            return False
        if self.pod_side is False and _POD_SIDE.match(stem) and not (self.overlay and _OVERLAY.match(stem)):
            return False
        return None


NO_INTERFACE = Interface("")
LOOPBACK = Interface("lo")
HOST_SIDE = Interface(None, False)
NODE_SIDE = Interface(None, False, overlay=True)
"""By which packets come from other nodes and the pods on them."""
POD_SIDE = Interface(None, True)
ANY_INTERFACE = Interface(None, None)


@dataclass(frozen=True, slots=True)
class Host:
    """What the rules' answers depend on beside the rules: the node's own addresses (canonical texts).

    An address that is neither listed nor a loopback address is taken for foreign (S8). `chosen`: those among which MASQUERADE chooses for what
    leaves by lo, where these are not all: the kernel takes the first interface's, which kube-ipvs0 with its many is not (inet_select_addr).
    """

    addresses: frozenset[str] = frozenset()
    chosen: frozenset[str] | None = None

    def is_local(self, text: str) -> bool:
        """Whether the kernel would call the address LOCAL."""
        return text in self.addresses or text.startswith("127.") or text == "::1"


@dataclass(slots=True)
class Packet:
    """The first packet of a connection, as its first hook sees it.

    `protocol` is "tcp", "udp", "sctp" or another name of /etc/protocols; `source` and `destination` are canonical address texts; `port`
    is the destination port; `source_port` None when any. `from_node` tells the first hook: OUTPUT when True, else PREROUTING.
    `bridged`: whether the packet came in by a bridge port with br_netfilter on (None: not known).
    """

    family: int
    protocol: str
    source: str
    destination: str
    port: int
    from_node: bool = False
    in_interface: Interface = ANY_INTERFACE
    out_interface: Interface = ANY_INTERFACE
    source_port: int | None = None
    bridged: bool | None = None
    icmp_type: int | None = None
    key: tuple[object, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Everything but the destination: packets with equal keys differ in what they are sent to only.
        self.key = (
            self.family,
            self.protocol,
            self.source,
            self.from_node,
            self.in_interface,
            self.out_interface,
            self.source_port,
            self.bridged,
        )

    def to(self, destination: str, port: int) -> Packet:
        """The same client's packet to another destination."""
        return replace(self, destination=destination, port=port)
