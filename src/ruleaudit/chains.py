"""How kube-proxy names the chains of a service port in iptables mode (KPR 3)."""

from __future__ import annotations

from base64 import b32encode
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


def _hash16(text: str) -> str:
    # Ten bytes give exactly sixteen base32 characters.
    return b32encode(sha256(text.encode()).digest()[:10]).decode("ascii")
