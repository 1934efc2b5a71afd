"""The names that kube-proxy gives to its iptables chains (KPR 3; pkg/proxy/iptables/proxier.go, portProtoHash and servicePortEndpointChainName)."""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256

__all__ = ["chain_hash", "endpoint_chain_hash"]


def chain_hash(name_text: str, protocol: str) -> str:
    """The sixteen characters after KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-XLB- and KUBE-FW- of one service port.

    `name_text` is the service port's name as written ("namespace/name:port"); `protocol` is taken in any case.
    """
    return b32encode(sha256((name_text + protocol.lower()).encode()).digest())[:16].decode()


def endpoint_chain_hash(name_text: str, protocol: str, endpoint: str) -> str:
    """The sixteen characters after KUBE-SEP-, of one endpoint ("10.0.0.1:80", "[fd00::1]:80") of one service port."""
    return b32encode(sha256((name_text + protocol.lower() + endpoint).encode()).digest())[:16].decode()
