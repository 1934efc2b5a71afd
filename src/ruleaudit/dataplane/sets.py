"""What `-m set --match-set NAME FLAGS` says of a packet, from the sets' entries (docs/semantics.md, S14; iptables-extensions(8), set).

The flags name one end of the packet for each dimension of the set: `dst,dst,src` asks a hash:ip,port,net set for the destination's
address and port, and for the source's address.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ruleaudit.dumps.ip_sets import IpSet

__all__ = ["BITMAP_PROTOCOLS", "Sets"]

_PORT_PROTOCOLS = ("tcp", "udp", "sctp", "udplite")
BITMAP_PROTOCOLS = ("tcp", "udp")
"""The protocols whose ports a set of ports alone knows: others it holds none of."""


class Sets:
    """The sets of a node by their names."""

    def __init__(self, sets: Mapping[str, IpSet]) -> None:
        self._sets = sets
        self._dimensions = {name: one.dimensions for name, one in sets.items()}
        self._ends: dict[tuple[str, int], frozenset[str]] = {}
        self._starts: dict[str, frozenset[str]] = {}
        self._plain: dict[tuple[str, str], tuple[str, Mapping[str, int]] | None] = {}

    def get(self, name: str) -> IpSet | None:
        """The set of a name, None when the node's sets do not hold it."""
        return self._sets.get(name)

    def names(self) -> Iterable[str]:
        """The names of all sets."""
        return self._sets.keys()

    def holds(
        self, name: str, flags: str, protocol: str, destination: str, port: int, source: str, source_port: int | None
    ) -> bool | None:
        """Whether the set holds what the flags name of a packet; None where that cannot be told: an unknown set or type, an open port."""
        known = self._sets.get(name)
        if known is None or known.entries is None:
            return None
        dimensions = self._dimensions[name]
        ends = flags.split(",")
        if not dimensions or len(ends) < len(dimensions) or known.entry_options:
            return None if known.entries or not dimensions else False
        parts: list[str] = []
        for dimension, end in zip(dimensions, ends, strict=False):
            if end not in ("src", "dst"):
                return None
            if dimension in ("ip", "net"):
                parts.append(destination if end == "dst" else source)
            elif dimension == "port":
                number = port if end == "dst" else source_port
                if number is None:
                    return None if known.entries else False
                if len(dimensions) == 1 and protocol not in BITMAP_PROTOCOLS:
                    return False  # net/netfilter/ipset/ip_set_getport.c, ip_set_get_ip_port
                if protocol not in _PORT_PROTOCOLS:
                    return None if known.entries else False
                parts.append(str(number) if len(dimensions) == 1 else f"{protocol}:{number}")
            else:
                return None if known.entries else False
        if dimensions[-1] == "net":
            address = ip_address(parts[-1])
            return any(address in network for network, _line in known.networks(",".join(parts[:-1])))
        if "net" in dimensions:
            return None if known.entries else False
        return ",".join(parts) in known.entries

    def plain(self, name: str, flags: str) -> tuple[str, Mapping[str, int]] | None:
        """The dimensions ("ip,port", "port" or "ip") and the entries of a set that is asked for the destination and holds nothing but such
        entries; None for any other, which `holds` answers.
        """
        key = (name, flags)
        try:
            return self._plain[key]
        except KeyError:
            known = self._sets.get(name)
            dimensions = ",".join(self._dimensions.get(name, ()))
            wanted = {"ip,port": "dst,dst", "port": "dst", "ip": "dst"}.get(dimensions)
            sound = known is not None and known.entries is not None and not known.entry_options and wanted == flags
            found = self._plain[key] = (
                (dimensions, known.entries) if sound and known is not None and known.entries is not None else None
            )
            return found

    def sources(self, name: str, flags: str) -> frozenset[str] | None:
        """The addresses that the set names where the flags ask for the packet's source; None where it names networks there."""
        known = self._sets.get(name)
        dimensions = self._dimensions.get(name, ())
        asked = [at for at, (dimension, end) in enumerate(zip(dimensions, flags.split(","), strict=False)) if end == "src"]
        if known is None or known.entries is None or len(asked) != 1 or dimensions[asked[0]] != "ip":
            return None
        key = (name, asked[0])
        found = self._ends.get(key)
        if found is None:
            found = self._ends[key] = frozenset([entry.split(",")[asked[0]] for entry in known.entries])
        return found

    def begins(self, name: str, address: str, protocol: str, port: int) -> bool:
        """Whether some entry of a set of three dimensions begins with this address and port."""
        known = self._sets.get(name)
        if known is None or known.entries is None:
            return True
        found = self._starts.get(name)
        if found is None:
            found = self._starts[name] = frozenset([entry.rpartition(",")[0] for entry in known.entries])
        return f"{address},{protocol}:{port}" in found
