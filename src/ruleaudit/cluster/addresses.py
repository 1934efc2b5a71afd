"""IP addresses and networks as the API gives them, in the text in which Go and the kernel print them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

__all__ = ["Network", "canonical_address", "family_of", "network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DECIMAL: Final = frozenset("0123456789")


@lru_cache(maxsize=1 << 16)
def canonical_address(text: str) -> str | None:
    """An address in canonical text: no leading zeros, IPv6 as RFC 5952 has it, IPv4 mapped into IPv6 as IPv4. None when it is no address.

    Follows netutils.ParseIPSloppy and net.IP.String of Go, with which kube-proxy reads and prints addresses.
    """
    if ":" not in text:
        try:
            inet_pton(AF_INET, text)
        except (OSError, ValueError, UnicodeError):
            return _sloppy(text)
        return text
    try:
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError, UnicodeError):
        return None
    if packed[:10] == bytes(10):
        # Here inet_ntop may print a dotted tail where Go does not.
        address = ipaddress.IPv6Address(packed)
        return str(address.ipv4_mapped or address)
    return inet_ntop(AF_INET6, packed)


def _sloppy(text: str) -> str | None:
    """IPv4 with leading zeros, which Go before 1.17 took, and Kubernetes still does, as decimal."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part and _DECIMAL.issuperset(part) and len(part) <= 10 and int(part) <= 255 for part in parts):
        return None
    return ".".join(str(int(part)) for part in parts)


def family_of(address: str) -> int:
    """4 or 6, of an address in canonical text."""
    return 6 if ":" in address else 4


def network(text: str) -> Network | None:
    """A CIDR ("10.0.0.0/8"; bits behind the prefix are cleared) as a network, None when it is none (a bare address is none)."""
    address, slash, length = text.strip().partition("/")
    canonical = canonical_address(address)
    if canonical is None or not slash or not length or not _DECIMAL.issuperset(length):
        return None
    try:
        return ipaddress.ip_network(f"{canonical}/{length}", strict=False)
    except ValueError:
        return None
