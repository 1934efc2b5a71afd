"""How kube-proxy names the chains of a service port in iptables mode (KPR 3)."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["chain_hash", "endpoint_chain_hash"]


def chain_hash(name_text: str, protocol: str) -> str:
    """The 16 characters that end KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-XLB- and KUBE-FW-.

    `name_text` is the service port's name as the release writes it (`ServicePortName.text`), `protocol` "TCP", "UDP" or "SCTP"
    in any case. KPR 3.1, 3.2 (pkg/proxy/iptables/proxier.go, portProtoHash).
    """
    return _hash16(name_text + protocol.lower())


def endpoint_chain_hash(name_text: str, protocol: str, endpoint: str) -> str:
    """The 16 characters that end KUBE-SEP-; `endpoint` is `ip:port` or `[ip6]:port` as kube-proxy writes it (KPR 3.2)."""
    return _hash16(name_text + protocol.lower() + endpoint)


_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]


def _hash16(text: str) -> str:
    # Ten bytes give exactly sixteen base32 characters. Two at a time: base64.b32encode pads, and takes five times as long.
    bits = int.from_bytes(sha256(text.encode()).digest()[:10])
    return "".join([_PAIRS[bits >> shift & 0x3FF] for shift in range(70, -1, -10)])
