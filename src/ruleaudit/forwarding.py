"""The canonical model: what happens to a connection to a frontend, whoever says so.

The same values are produced by `expect` (from objects) and by the dataplanes (from rules), so that they can be compared.
Nothing here knows a chain name, a set name or a Kubernetes object.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SHARE_TOLERANCE",
    "Forwarding",
    "Frontend",
    "FrontendKind",
    "Vantage",
    "Verdict",
    "endpoint_text",
    "equal_shares",
    "split_endpoint",
]


_NOBODY: Mapping[str, float] = MappingProxyType({})


class FrontendKind(str, Enum):
    """The kinds of address on which a service port is reachable."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER_IP = "LoadBalancerIP"


class Vantage(str, Enum):
    """Where the client of a connection is, seen from the audited node.

    POD: a pod on this node (first hook PREROUTING, traffic that detect-local calls local).
    NODE: a process of the node itself (first hook OUTPUT).
    OUTSIDE: a host that is neither a node nor a pod (first hook PREROUTING).
    """

    POD = "pod"
    NODE = "node"
    OUTSIDE = "outside"


class Verdict(str, Enum):
    """What happens to the first packet of a connection.

    FORWARD: translated to a backend. LOCAL: delivered to the node itself, untranslated. PASS: routed on, untranslated.
    """

    FORWARD = "forward"
    LOCAL = "local"
    PASS = "pass"
    REJECT = "reject"
    DROP = "drop"


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """One address and port on which a service port answers.

    `address` is canonical text without brackets; None stands for "the node's own addresses" and belongs to NODE_PORT only.
    `protocol` is "TCP", "UDP" or "SCTP"; `family` is 4 or 6.
    """

    kind: FrontendKind
    address: str | None
    port: int
    protocol: str
    family: int

    def __str__(self) -> str:
        if self.address is None:
            return f"node port {self.port}/{self.protocol}"
        host = f"[{self.address}]" if self.family == 6 else self.address
        return f"{host}:{self.port}/{self.protocol}"


class Forwarding(msgspec.Struct, frozen=True, gc=False):
    """What happens to a connection to one frontend from one vantage point.

    `backends` maps endpoint text ("10.0.0.1:80", "[fd00::1]:80") to its share of new connections (0 to 1); it is empty unless the
    verdict is FORWARD. `masquerade`: whether kube-proxy has the source address replaced (None: not judged).
    `affinity`: seconds during which a client keeps its backend, None without affinity.
    """

    verdict: Verdict
    backends: Mapping[str, float] = _NOBODY
    masquerade: bool | None = None
    affinity: int | None = None


# iptables-save prints probabilities with 31 bits (KPR 5.4); 1.16 wrote five digits, which is 1e-4 off at worst for few endpoints.
SHARE_TOLERANCE = 1e-4


def equal_shares(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether the same endpoints get the same shares, as far as rules can say them."""
    if one.keys() != other.keys():
        return False
    if not one:
        return True
    # Mostly all shares are equal: then the extremes tell, and nothing has to be compared one by one.
    least, most = min(one.values()), max(one.values())
    if most - least == 0:
        return most - SHARE_TOLERANCE <= min(other.values()) and max(other.values()) <= most + SHARE_TOLERANCE
    return all(abs(other[endpoint] - share) <= SHARE_TOLERANCE for endpoint, share in one.items())


def endpoint_text(address: str, port: int) -> str:
    """The text of an endpoint as kube-proxy writes and hashes it: `ip:port` or `[ip6]:port`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split_endpoint(text: str) -> tuple[str, int]:
    """The address and port of an endpoint text; the opposite of `endpoint_text`. Raises ValueError on anything else."""
    host, separator, port = text.rpartition(":")
    if not separator:
        raise ValueError(f"not an endpoint: {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
