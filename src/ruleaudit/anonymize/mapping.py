"""What stands for what: names, addresses and interfaces, each by a keyed hash, so that one key always gives the same answer.

Nothing is remembered but what was asked, and nothing can be turned back without the key.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from ruleaudit.addresses import canonical_address, family_of

__all__ = ["KEPT_NAMES", "KEPT_PORT_NAMES", "Mapping"]

KEPT_NAMES: Final = frozenset(
    {"default", "kubernetes", "kube-system", "kube-public", "kube-node-lease", "kube-dns", "svc", "cluster", "local", "true", "false", "linux"}
)  # fmt: skip
"""Names that every cluster has, which say nothing of this one."""
KEPT_PORT_NAMES: Final = frozenset({"http", "https", "dns", "dns-tcp", "metrics"})
"""Names of ports that are kept; those of kubernetes, kube-dns, and the commonest of all."""

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
# Keys of labels and annotations that Kubernetes itself defines, or asks everybody to use; what else somebody has under its domains may
# name them.
_KNOWN_KEYS: Final = frozenset(
    {
        # What kube-proxy, the EndpointSlice controllers and Ingress controllers go by.
        "service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name", "service.kubernetes.io/topology-aware-hints",
        "service.kubernetes.io/topology-mode", "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by",
        "endpointslice.kubernetes.io/skip-mirror", "endpoints.kubernetes.io/last-change-trigger-time", "endpoints.kubernetes.io/over-capacity",
        "ingressclass.kubernetes.io/is-default-class", "kubernetes.io/ingress.class",
        # What every Node has: topology keys name these, too.
        "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
        "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region", "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/exclude-from-external-load-balancers", "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master",
        "node-role.kubernetes.io/worker", "node-role.kubernetes.io/node",
        # What charts and controllers put on everything (the recommended labels, and those of pods).
        "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/component",
        "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "kubernetes.io/cluster-service", "kubernetes.io/name",
        "addonmanager.kubernetes.io/mode", "apps.kubernetes.io/pod-index", "statefulset.kubernetes.io/pod-name", "batch.kubernetes.io/job-name",
        "controller-revision-hash", "pod-template-hash", "pod-template-generation",
    }
)  # fmt: skip
_SCHEDULERS: Final = frozenset(
    {"rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"}
)  # net/netfilter/ipvs of Linux
_COMMON_KEYS: Final = frozenset({"app", "k8s-app", "name", "component", "tier", "release", "version", "run"})

# The paths to these networks stay as they are, so that nothing gets in or out of them. What is inside is rewritten, too, but for
# networks whose addresses have a meaning of their own (IANA special-purpose address registries).
_HELD: Final = {
    4: ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
    6: ("::/8", "64:ff9b::/96", "fc00::/8", "fd00::/8", "fe80::/64", "ff00::/8"),
}  # fmt: skip
_WHOLE: Final = {4: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"), 6: ("::/8", "ff00::/8")}

# Interfaces are called so by the kernel, systemd or the software that makes them; what follows is a number, or of one pod.
_INTERFACE: Final = re.compile(
    r"(lo|eth|ens|enp|eno|bond|br-|br|veth|cali|lxc|eni|tap|tun|tunl|wg|vxlan|vlan|dummy|docker|cni|flannel\.|weave|cilium_|kube-bridge"
    r"|kube-ipvs|nodelocaldns|nerdctl|virbr|gre|sit|ipvlan|macvlan|vmbr|azv|gke|cbr|ppp|wlan|wlp)(.*)"
)
_PLAIN: Final = re.compile(r"[0-9]{0,3}(?:[.:][0-9]{1,4})?\+?")


class Mapping:
    """The answers under one key, which may be of any length."""

    def __init__(self, key: bytes) -> None:
        self._key = sha256(key).digest()
        self._prefixes: dict[tuple[int, int, int], int] = {}
        self._asked: dict[tuple[str, str, int], str] = {}
        held = {family: [ip_network(text) for text in texts] for family, texts in _HELD.items()}
        self._paths = {
            (family, length, int(network.network_address) >> (network.max_prefixlen - length))
            for family, networks in held.items()
            for network in networks
            for length in range(network.prefixlen)
        }
        self._whole = {family: [ip_network(text) for text in texts] for family, texts in _WHOLE.items()}

    def token(self, text: str, length: int = 10, purpose: str = "name") -> str:
        """`length` small letters and digits 2 to 7 that stand for a text, a letter first."""
        asked = (purpose, text, length)
        found = self._asked.get(asked)
        if found is None:
            digest = self._digest(purpose, text)
            first = chr(ord("a") + digest[31] % 26)
            found = self._asked[asked] = first + "".join(_ALPHABET[byte & 31] for byte in digest[: length - 1])
        return found

    def upper(self, text: str, length: int = 16, purpose: str = "chain") -> str:
        """The same in capitals, as in hashes in names of chains."""
        return self.token(text, length, purpose).upper()

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")

    # --- names ---

    def name(self, text: str) -> str:
        """A name: of an object, a host, a zone, the value of a label. The parts between dots are names of their own."""
        if not text or text in KEPT_NAMES:
            return text
        if "." in text and _NAME.fullmatch(text):
            return ".".join(self.name(part) for part in text.split("."))
        return "n" + self.token(text, 9)

    def host(self, text: str) -> str:
        """The name of a host, maybe with "*." before it; or an address."""
        if text.startswith("*."):
            return f"*.{self.host(text[2:])}"
        return self.name(text) if family_of(text) is None else self.address(text)

    def port_name(self, text: str) -> str:
        """The name of a port. Numbers stay."""
        if not text or text in KEPT_PORT_NAMES or text.isdigit():
            return text
        return "p" + self.token(text, 9)

    def label_key(self, text: str) -> str:
        """The key of a label or an annotation; those that Kubernetes defines and the commonest stay."""
        domain, slash, name = text.rpartition("/")
        if text in _KNOWN_KEYS or (not slash and name in _COMMON_KEYS) or text == "*":
            return text
        return f"{self.name(domain)}{slash}{self.name(name)}"

    def scheduler(self, text: str) -> str:
        """A scheduler of IPVS; those of Linux stay."""
        return text if text in _SCHEDULERS else self.name(text)

    def service_port(self, text: str) -> str:
        """A service port as kube-proxy writes it: "namespace/name", "namespace/name:port" or "namespace/name:"."""
        namespace, _, rest = text.partition("/")
        name, colon, port = rest.partition(":")
        return f"{self.name(namespace)}/{self.name(name)}{colon}{self.port_name(port)}"

    # --- interfaces ---

    def interface(self, text: str) -> str:
        """The name of an interface, or with "+" the beginning of names: what kind it is stays, and so do small numbers."""
        if text.startswith("kube-ipvs") or text in ("+", ""):
            return text
        found = _INTERFACE.fullmatch(text)
        if found is not None and _PLAIN.fullmatch(found[2]):
            return text
        known, rest = (found[1], found[2]) if found is not None else ("", text)
        plus = "+" if rest.endswith("+") else ""
        return known[:7] + self.token(rest.removesuffix("+"), 7, "interface") + plus

    def mac(self, text: str) -> str:
        """A hardware address: one that is administered locally."""
        digest = self._digest("mac", text.lower())
        return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))

    # --- addresses ---

    def _prefix(self, family: int, length: int, value: int) -> int:
        """What stands for the first `length` bits of an address; `value` are those bits."""
        if length == 0:
            return 0
        key = (family, length, value)
        found = self._prefixes.get(key)
        if found is None:
            above = self._prefix(family, length - 1, value >> 1)
            held = (family, length - 1, value >> 1) in self._paths
            flip = 0 if held else self._digest(f"address{family}", f"{length} {value >> 1:x}")[0] & 1
            found = self._prefixes[key] = above << 1 | ((value & 1) ^ flip)
        return found

    def _bits(self, family: int, value: int, length: int) -> int:
        """An address of which the first `length` bits count, as a number; the others are 0."""
        size = 32 if family == 4 else 128
        if any(
            value >> (size - one.prefixlen) == int(one.network_address) >> (size - one.prefixlen) and length >= one.prefixlen
            for one in self._whole[family]
        ):
            return value >> (size - length) << (size - length)
        return self._prefix(family, length, value >> (size - length)) << (size - length)

    def address(self, text: str) -> str:
        """An address: those that share their first n bits do so afterwards, too (prefix-preserving, as Crypto-PAn is).

        Written canonically. What is none is a name.
        """
        family = family_of(text)
        if family is None:
            return self.name(text)
        found = ip_address(canonical_address(text, family) or text)
        family = found.version
        mapped = self._bits(family, int(found), found.max_prefixlen)
        if family == 4 and ":" in text:  # which the kernel's tools take for an IPv6 address, and Go for an IPv4 one
            return f"::ffff:{IPv4Address(mapped)}"
        return str(IPv4Address(mapped) if family == 4 else IPv6Address(mapped))

    def network(self, text: str) -> str:
        """An address or a network, with its prefix length or mask as given. What is neither is a name."""
        address, slash, mask = text.partition("/")
        family = family_of(address)
        if family is None:
            return self.name(text) if not slash else f"{self.name(address)}/{mask if mask.isdigit() else self.name(mask)}"
        if not slash:
            return self.address(text)
        if family == 4 and ":" in address:
            return f"{self.address(address)}/{mask if mask.isdigit() else self.name(mask)}"
        if mask.isdigit() and int(mask) <= (32 if family == 4 else 128):
            found = ip_address(canonical_address(address, family) or address)
            kept = self._bits(family, int(found), int(mask))
            host = int(found) & ((1 << (found.max_prefixlen - int(mask))) - 1)
            mapped = self._bits(family, int(found), found.max_prefixlen) if host else kept  # an address with its length stays one
            return f"{IPv4Address(mapped) if family == 4 else IPv6Address(mapped)}/{mask}"
        if family_of(mask) == family:
            bits = int(ip_address(mask))
            mapped = int(ip_address(self.address(address))) & bits
            return f"{IPv4Address(mapped) if family == 4 else IPv6Address(mapped)}/{mask}"
        return f"{self.address(address)}/{self.name(mask)}"

    def address_range(self, text: str) -> str:
        """Two addresses with a dash between, the smaller one first: order is no relation that is kept."""
        ends = [self.address(one) for one in text.split("-", 1)]
        if len(ends) == 2 and all(family_of(one) is not None for one in ends):
            ends.sort(key=lambda one: int(ip_address(one)))
        return "-".join(ends)

    def endpoint(self, text: str) -> str:
        """An address with a port ("10.0.0.1:80", "[fd00::1]:80-90"), an address or a range alone, or ":80"."""
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            return f"[{self.address_range(host)}]{rest}"
        if text.count(":") > 1:
            return self.address_range(text)
        host, colon, ports = text.partition(":")
        return (
            f"{self.address_range(host) if host else ''}{colon}{ports if re.fullmatch('[0-9/-]*', ports) else self.name(ports)}"
        )

    def word(self, text: str) -> str:
        """A word of which nothing is known: an address, a network or a number as such, anything else as a name."""
        if family_of(text.partition("/")[0]) is not None:
            return self.network(text)
        if "-" in text and all(family_of(part) is not None for part in text.split("-", 1)):
            return self.address_range(text)
        if re.fullmatch(
            r"(?:0x[0-9a-fA-F]{1,8}|[0-9]{1,10})(?:[/:,-](?:0x[0-9a-fA-F]{1,8}|[0-9]{1,10}))*|[A-Z][A-Z_,!]*|-", text
        ):
            return text
        return self.name(text)
