"""IP addresses and networks as text, parsed the way kube-proxy parses them and written canonically."""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Network", "canonical", "canonical_address", "family_of", "host_address", "known_family", "parse_network", "within"]

Network = IPv4Network | IPv6Network

_inet_pton = socket.inet_pton
_inet_ntop = socket.inet_ntop
_AF_INET = socket.AF_INET
_AF_INET6 = socket.AF_INET6
_FIRST_12_ZERO = bytes(12)


def canonical_address(text: str, family: int) -> str | None:
    """`text` in canonical form, or None when it is no address of `family` (4 or 6).

    As Go's ParseIPSloppy and String (k8s.io/utils/net) have it: leading zeros are decimal, an IPv4-mapped address is IPv4.
    """
    if family == 4:
        try:
            _inet_pton(_AF_INET, text)  # accepts canonical dotted quads only: nothing is left to do
        except (OSError, ValueError):
            pass
        else:
            return text
    elif ":" not in text:
        return None
    found = _parse(text)
    return found[1] if found is not None and found[0] == family else None


def canonical(text: str | None) -> str | None:
    """`text` in canonical form as `canonical_address` has it, whichever its family is; None when it is no address."""
    found = None if text is None else _parse(text)
    return None if found is None else found[1]


def host_address(text: str, family: int) -> str | None:
    """`text` as the kernel's tools print and read it, in the same canonical form, or None when it is no address of `family`.

    Unlike Go, they have no leading zeros, and an IPv4-mapped address stays an IPv6 one ("::ffff:10.0.0.1").
    """
    try:
        if family == 4:
            _inet_pton(_AF_INET, text)
            return text
        packed = _inet_pton(_AF_INET6, text)
    except (OSError, ValueError):  # ValueError: a character that no address has
        return None
    if packed.startswith(_FIRST_12_ZERO):  # which `inet_ntop` writes with an IPv4 address at their end
        return IPv6Address(packed).compressed
    return _inet_ntop(_AF_INET6, packed)


def family_of(text: str) -> int | None:
    """4 or 6, or None when `text` is no IP address."""
    found = _parse(text)
    return None if found is None else found[0]


def known_family(address: str) -> int:
    """4 or 6, of a text that is known to be an address in canonical form: nothing is parsed."""
    return 6 if ":" in address else 4


@lru_cache(maxsize=1 << 17)
def _parse(text: str) -> tuple[int, str] | None:
    if ":" not in text:
        return _parse_sloppy_ipv4(text)
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address) or address.scope_id is not None:
        return None
    mapped = address.ipv4_mapped
    return (6, address.compressed) if mapped is None else (4, str(mapped))


def _parse_sloppy_ipv4(text: str) -> tuple[int, str] | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    octets = [int(part[-9:]) if part.lstrip("0")[3:] == "" else 256 for part in parts]
    if max(octets) > 255:
        return None
    return 4, ".".join(map(str, octets))


@lru_cache(maxsize=1 << 12)
def parse_network(text: str, family: int) -> Network | None:
    """The network of a CIDR, host bits cleared, or None when `text` is no CIDR of `family`. A prefix length is required."""
    address, separator, length = text.partition("/")
    found = _parse(address)
    if found is None or found[0] != family or not separator or not (length.isascii() and length.isdigit()):
        return None
    try:
        return ip_network(f"{found[1]}/{int(length)}", strict=False)
    except ValueError:
        return None


def within(inner: Network, outer: Network) -> bool:
    """Whether one network lies wholly in another; networks of different families never do."""
    return (
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and int(inner.network_address) & int(outer.netmask) == int(outer.network_address)
    )
